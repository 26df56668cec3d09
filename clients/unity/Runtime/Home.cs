using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Diagnostics;
using System.Threading;

namespace Relayd
{
    /// <summary>
    /// The thread on which a connection lives: it runs what other threads hand in, and timers, in
    /// Update(). With a SynchronizationContext, Update() is posted there; else the owner calls it.
    /// </summary>
    internal sealed class Home
    {
        private const int TickMilliseconds = 20;

        private readonly ConcurrentQueue<Action> _actions = new ConcurrentQueue<Action>();
        private readonly Dictionary<string, Alarm> _alarms = new Dictionary<string, Alarm>();
        private readonly Stopwatch _clock = Stopwatch.StartNew();
        private readonly SynchronizationContext _context;
        private readonly Action _each;
        private Timer _ticker;
        private int _posted;

        /// <param name="context">Where to run, or null.</param>
        /// <param name="each">Called in each Update(), first.</param>
        public Home(SynchronizationContext context, Action each)
        {
            _context = context;
            _each = each;
        }

        /// <summary>Seconds since this was made.</summary>
        public double Now
        {
            get { return _clock.Elapsed.TotalSeconds; }
        }

        /// <summary>Runs an action in the next Update(). May be called on any thread.</summary>
        public void Post(Action action)
        {
            _actions.Enqueue(action);
            PostUpdate();
        }

        /// <summary>Runs an action in so many seconds; an earlier one of the same name is forgotten.</summary>
        public void After(string name, double seconds, Action action)
        {
            _alarms[name] = new Alarm { Due = Now + seconds, Action = action };
            if (_context != null && _ticker == null)
            {
                _ticker = new Timer(_ => PostUpdate(), null, TickMilliseconds, TickMilliseconds);
            }
        }

        public void Cancel(string name)
        {
            _alarms.Remove(name);
        }

        public void Update()
        {
            _each();
            // Only what is there now: an action that posts another one must not hold up a frame.
            Action action;
            for (var left = _actions.Count; left > 0 && _actions.TryDequeue(out action); left--) action();
            RunAlarms();
            if (_alarms.Count == 0 && _ticker != null)
            {
                _ticker.Dispose();
                _ticker = null;
            }
        }

        private void RunAlarms()
        {
            List<string> due = null;
            foreach (var alarm in _alarms)
            {
                if (alarm.Value.Due > Now) continue;
                if (due == null) due = new List<string>();
                due.Add(alarm.Key);
            }
            if (due == null) return;
            foreach (var name in due)
            {
                Alarm alarm;
                // One that ran before may have cancelled it, or set it anew.
                if (!_alarms.TryGetValue(name, out alarm) || alarm.Due > Now) continue;
                _alarms.Remove(name);
                alarm.Action();
            }
        }

        private void PostUpdate()
        {
            if (_context == null || Interlocked.Exchange(ref _posted, 1) == 1) return;
            _context.Post(_ =>
            {
                Interlocked.Exchange(ref _posted, 0);
                Update();
            }, null);
        }

        private struct Alarm
        {
            public double Due;
            public Action Action;
        }
    }
}

using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

namespace Relayd
{
    /// <summary>Sends one message at a time: two sends at once are an error in each of the libraries, or lose their order.</summary>
    internal sealed class SendQueue
    {
        private readonly Func<string, Task> _send;
        private readonly Queue<string> _waiting = new Queue<string>();
        private bool _sending;
        private long _buffered;
        private Action _whenEmpty;

        /// <param name="send">Sends one message. When it fails, what waits is dropped.</param>
        public SendQueue(Func<string, Task> send)
        {
            _send = send;
        }

        public long Buffered
        {
            get { return Interlocked.Read(ref _buffered); }
        }

        public void Add(string text)
        {
            Interlocked.Add(ref _buffered, text.Length);
            lock (_waiting)
            {
                _waiting.Enqueue(text);
                if (_sending) return;
                _sending = true;
            }
            Drain();
        }

        /// <summary>Calls back once, as soon as nothing waits, or in two seconds.</summary>
        public void WhenEmpty(Action action)
        {
            var called = 0;
            Action once = () =>
            {
                if (Interlocked.Exchange(ref called, 1) == 0) action();
            };
            lock (_waiting)
            {
                if (_sending) _whenEmpty = once;
            }
            if (_whenEmpty == once) Task.Delay(2000).ContinueWith(_ => once());
            else once();
        }

        private async void Drain()
        {
            while (true)
            {
                string next = null;
                Action whenEmpty = null;
                lock (_waiting)
                {
                    if (_waiting.Count > 0)
                    {
                        next = _waiting.Dequeue();
                    }
                    else
                    {
                        _sending = false;
                        whenEmpty = _whenEmpty;
                        _whenEmpty = null;
                    }
                }
                if (next == null)
                {
                    if (whenEmpty != null) whenEmpty();
                    return;
                }
                try
                {
                    await _send(next).ConfigureAwait(false);
                }
                catch (Exception)
                {
                    // The connection is broken, which its reader notices and tells.
                    lock (_waiting)
                    {
                        foreach (var dropped in _waiting) Interlocked.Add(ref _buffered, -dropped.Length);
                        _waiting.Clear();
                    }
                }
                Interlocked.Add(ref _buffered, -next.Length);
            }
        }
    }
}

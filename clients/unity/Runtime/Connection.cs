using System;
using System.Collections.Generic;
using System.Text;
using System.Threading.Tasks;

namespace Relayd
{
    public enum StateName
    {
        /// <summary>Not connected, and will not be until Connect().</summary>
        Idle,
        Connecting,
        Connected,

        /// <summary>Connects again by itself.</summary>
        Lost,

        /// <summary>Needs a change, or a person who asks for it: Connect() tries again.</summary>
        Refused,
    }

    /// <summary>What a connection is doing.</summary>
    public sealed class ConnectionState
    {
        internal ConnectionState(StateName name, RelaydException error, double againIn)
        {
            Name = name;
            Error = error;
            AgainIn = againIn;
        }

        public StateName Name { get; private set; }

        /// <summary>Why it is Lost or Refused; null if nobody said.</summary>
        public RelaydException Error { get; private set; }

        /// <summary>Seconds from the change to the next try, while it is Lost.</summary>
        public double AgainIn { get; private set; }
    }

    /// <summary>
    /// One path of relayd. Connects again by itself, after a random wait that doubles from try to try
    /// ("full jitter"), as docs/protocol.md asks for under Reconnecting.
    /// </summary>
    /// <remarks>
    /// No library of Unity shows the status of a refused handshake, so `?refuse=close` asks for an
    /// error frame and a close frame instead: 4000 + the status. Most of them show no pings, so
    /// `?heartbeat=1` asks for frames that show that the network lives. A token is offered as a subprotocol,
    /// since in a browser no header can be set. Methods are called, and events come, on one thread:
    /// see ConnectionOptions.Context.
    /// </remarks>
    public abstract class Connection : IDisposable
    {
        private const double FirstWait = 1; // s, the longest one before the first try; doubles from try to try
        private const double LongestWait = 30;
        private const double RetryAfter = 5; // where a refusal of 429 or 503 does not say how long
        private const int Slower = 3; // after 4003 and 4004, the wait is that of so many tries later
        private const double ConnectLimit = 15;
        private const double AcceptedAfter = 0.25; // a refusal follows the opening at once
        private const double StableAfter = 5; // only then the next wait is the first one again
        private const double Late = 15; // a heartbeat may be so late before the connection counts as dead
        private const double Silent = 45; // and so late the first one, which says when the next ones come
        private const int LeastLimit = 3; // s, of a limit in a test: its machine may be busy

        private readonly string _url;
        private readonly ConnectionOptions _options;
        private readonly Home _home;
        private readonly Random _random = new Random(Guid.NewGuid().GetHashCode());
        private ISocket _socket;
        private string _offered; // the token of the last try
        private string _fresh; // a new one for the next try
        private int _attempt;
        private int _tries;
        private bool _opened;
        private double _heartbeat; // s within which the next frame comes; 0 if the server has not said so
        private string _early; // an error frame that came first: of a refusal, if the close follows
        private Dictionary<string, object> _last; // an error frame, if it was the last frame

        /// <param name="server">The address of relayd, ws:, wss:, http: or https:, perhaps with the folder of a proxy.</param>
        /// <param name="path">Such as "/ws/camera/demo".</param>
        protected Connection(string server, string path, ConnectionOptions options)
        {
            _options = options ?? new ConnectionOptions();
            server = server.Trim();
            var scheme = server.IndexOf("://", StringComparison.Ordinal);
            if (scheme < 0) throw new ArgumentException("An address such as wss://relay.example is needed.", "server");
            var secure = server.StartsWith("https:", StringComparison.OrdinalIgnoreCase)
                || server.StartsWith("wss:", StringComparison.OrdinalIgnoreCase);
            _url = (secure ? "wss" : "ws") + server.Substring(scheme).TrimEnd('/') + path;
            _home = new Home(_options.Context, UpdateSocket);
            State = new ConnectionState(StateName.Idle, null, 0);
        }

        /// <summary>State has changed.</summary>
        public event Action<ConnectionState> StateChanged;

        /// <summary>An error frame came: about what this client sent, or about its connection.</summary>
        public event Action<RelaydException> Problem;

        public ConnectionState State { get; private set; }

        /// <summary>Characters that were sent and have not left this machine.</summary>
        public long Buffered
        {
            get { return _socket == null ? 0 : _socket.Buffered; }
        }

        /// <summary>Connects now, whatever is under way.</summary>
        public void Connect()
        {
            Leave();
            var attempt = _attempt;
            Become(StateName.Connecting);
            if (attempt != _attempt) return; // somebody closed it meanwhile
            var token = _fresh;
            _fresh = null;
            if (token != null || _options.Token == null) OpenSocket(token);
            else
            {
                AskForToken(false, attempt, OpenSocket, error =>
                    Wait(new RelaydException(error.Message, "no_token")));
            }
        }

        /// <summary>Ends the connection for good, or until Connect().</summary>
        public void Close()
        {
            Leave();
            if (State.Name != StateName.Idle) Become(StateName.Idle);
        }

        public void Dispose()
        {
            Close();
        }

        /// <summary>Connects now if it was going to later anyway: the network is back, or somebody looks.</summary>
        public void Hurry()
        {
            if (State.Name == StateName.Lost) Connect();
        }

        /// <summary>Without ConnectionOptions.Context: call this in every frame. Events come in it.</summary>
        public void Update()
        {
            _home.Update();
        }

        /// <summary>Sends a text message. Returns whether there was a connection for it.</summary>
        protected bool Send(string text)
        {
            if (State.Name != StateName.Connected) return false;
            _socket.Send(text);
            return true;
        }

        // Below: for the classes of the kinds of paths.

        /// <summary>The path of a kind with a name, or of the default name.</summary>
        protected static string PathOf(string kind, string name)
        {
            return string.IsNullOrEmpty(name) ? "/ws/" + kind : "/ws/" + kind + "/" + Uri.EscapeDataString(name);
        }

        /// <summary>A frame that came on an accepted connection.</summary>
        protected abstract void Receive(Dictionary<string, object> frame, string text);

        /// <summary>An error frame that came on an accepted connection.</summary>
        protected virtual void ReceiveError(Dictionary<string, object> frame, string text)
        {
            Tell(Problem, RelaydException.Of(frame));
        }

        /// <summary>Whether a frame is an error of relayd: of a refusal, if it comes first.</summary>
        protected virtual bool IsError(Dictionary<string, object> frame)
        {
            return Json.Text(frame, "error") != "";
        }

        /// <summary>Parameters of the path that change from try to try.</summary>
        protected virtual void AddQuery(Dictionary<string, string> query)
        {
        }

        /// <summary>Whether a close that is final otherwise is not, since the client has drawn its conclusion.</summary>
        protected virtual bool Forgives(RelaydException error)
        {
            return false;
        }

        /// <summary>The state has changed; before anybody is told.</summary>
        protected virtual void OnState(StateName name)
        {
        }

        /// <summary>Gives up a connection that seems dead, without waiting for the other side to agree.</summary>
        protected void Drop()
        {
            Leave();
            Wait(null);
        }

        protected void After(string name, double seconds, Action action)
        {
            _home.After(name, seconds / _options.Hurry, action);
        }

        /// <summary>As After, for a limit to what takes its time on a busy machine.</summary>
        protected void Limit(string name, double seconds, Action action)
        {
            _home.After(name, Math.Max(Math.Min(seconds, LeastLimit), seconds / _options.Hurry), action);
        }

        protected void Cancel(string name)
        {
            _home.Cancel(name);
        }

        protected void Tell<T>(Action<T> handlers, T detail)
        {
            if (handlers == null) return;
            foreach (Action<T> handler in handlers.GetInvocationList())
            {
                try
                {
                    handler(detail);
                }
                catch (Exception error)
                {
                    _options.Failed(error); // it is the app's; the connection goes on
                }
            }
        }

        private void UpdateSocket()
        {
            if (_socket != null) _socket.Update();
        }

        private string Url()
        {
            var query = new Dictionary<string, string>(_options.Query);
            AddQuery(query);
            query["refuse"] = "close";
            query["heartbeat"] = "1";
            var url = new StringBuilder(_url);
            foreach (var parameter in query)
            {
                url.Append(url.Length == _url.Length ? '?' : '&').Append(Uri.EscapeDataString(parameter.Key))
                    .Append('=').Append(Uri.EscapeDataString(parameter.Value));
            }
            return url.ToString();
        }

        private void OpenSocket(string token)
        {
            _offered = token;
            ISocket socket;
            try
            {
                socket = _options.Socket(Url(), string.IsNullOrEmpty(token) ? new string[0] : new[] { "relayd", token });
            }
            catch (Exception error)
            {
                // Nothing that another try would mend: an address or a token that is none.
                Become(StateName.Refused, new RelaydException(error.Message, "cannot_connect"));
                return;
            }
            _socket = socket;
            // An abandoned socket has nothing more to say.
            Func<Action, Action> current = action => () =>
            {
                if (_socket == socket) action();
            };
            socket.Opened += () => _home.Post(current(Opened));
            socket.Received += text => _home.Post(current(() => Received(text)));
            socket.Closed += (code, reason) => _home.Post(current(() => Closed(code, reason)));
            Limit("limit", ConnectLimit, Drop);
            socket.Open();
        }

        private void Opened()
        {
            _opened = true;
            Cancel("limit");
            After("silence", Silent, Drop);
            if (State.Name == StateName.Connecting) _home.After("accepted", AcceptedAfter, Accept);
        }

        private void Accept()
        {
            if (State.Name != StateName.Connecting) return;
            Cancel("accepted");
            Become(StateName.Connected);
            After("stable", StableAfter, () => _tries = 0);
            var early = _early;
            _early = null;
            if (early != null && State.Name == StateName.Connected) Received(early);
        }

        private void Received(string text)
        {
            var frame = Json.ParseObject(text);
            if (frame == null) return;
            var beats = Json.Text(frame, "status") == "heartbeat" ? Json.Real(frame, "seconds") : null;
            if (beats != null) _heartbeat = beats.Value;
            if (_heartbeat > 0) _home.After("silence", _heartbeat + Late / _options.Hurry, Drop);
            else Cancel("silence"); // it would have come first: this server has none
            var isError = IsError(frame);
            _last = isError ? frame : null;
            if (State.Name == StateName.Connecting)
            {
                if (isError)
                {
                    _early = text;
                    return;
                }
                // NativeWebSocket may say later that it is open.
                Cancel("limit");
                _opened = true;
                Accept();
            }
            if (State.Name != StateName.Connected) return; // a handler closed it
            if (beats == null && isError) ReceiveError(frame, text);
            else if (beats == null) Receive(frame, text);
        }

        private void Closed(int code, string reason)
        {
            var last = _last ?? new Dictionary<string, object>();
            var told = Json.Text(last, "error");
            var hidden = code == 1004; // NativeWebSocket, for each from 4000 on
            if (hidden) code = Codes.CloseCodeAfter(told);
            if (code == 0 || (!_opened && code < 4000)) code = 1006; // websocket-sharp has 1002 for any answer but 101
            var status = Codes.IsRefusal(code) ? code - 4000 : 0;
            RelaydException error;
            if (told != "" && (hidden || code >= 4000)) error = RelaydException.Of(last, status, code);
            else error = RelaydException.OfClose(code, reason, status); // websocket-sharp may lose that frame
            Leave();
            if (Forgives(error)) Wait(error);
            else if (status == 429 || status == 503) Wait(error, error.RetryAfter > 0 ? error.RetryAfter : RetryAfter);
            else if (code == 4005 || status == 401) Renew(error);
            else if (status >= 500 || status == 408) Wait(error);
            else if (status > 0 || IsFinal(code)) Become(StateName.Refused, error);
            else
            {
                if (code == 4003 || code == 4004) _tries = Math.Max(_tries, Slower);
                Wait(error);
            }
        }

        private static bool IsFinal(int code)
        {
            return code == 1000 || code == 1002 || code == 1007 || code == 1009 || code == 4001;
        }

        /// <summary>Asks for a new token; without one, a new try would end in the same way.</summary>
        private void Renew(RelaydException error)
        {
            if (_options.Token == null)
            {
                Become(StateName.Refused, error);
                return;
            }
            var attempt = _attempt;
            Become(StateName.Lost, error);
            if (attempt != _attempt) return;
            AskForToken(true, attempt, token =>
            {
                if (string.IsNullOrEmpty(token) || token == _offered)
                {
                    Become(StateName.Refused, error);
                    return;
                }
                _fresh = token;
                Wait(error);
            }, failure => Become(StateName.Refused, error));
        }

        private void AskForToken(bool expired, int attempt, Action<string> given, Action<Exception> failed)
        {
            Action<Task<string>> use = task =>
            {
                if (attempt != _attempt) return; // somebody was quicker
                if (task.IsCanceled || task.IsFaulted) failed(task.Exception == null
                    ? new OperationCanceledException() : task.Exception.GetBaseException());
                else given(task.Result);
            };
            Task<string> asked;
            try
            {
                asked = _options.Token(expired);
            }
            catch (Exception error)
            {
                failed(error);
                return;
            }
            if (asked.IsCompleted) use(asked);
            else asked.ContinueWith(task => _home.Post(() => use(task)), TaskContinuationOptions.ExecuteSynchronously);
        }

        /// <summary>Waits a random time before the next try: after a restart, all clients begin to wait at once.</summary>
        private void Wait(RelaydException error, double least = 0)
        {
            var longest = Math.Min(LongestWait, FirstWait * Math.Pow(2, Math.Min(_tries, 10)));
            _tries++;
            var wait = least + _random.NextDouble() * longest;
            After("retry", wait, Connect);
            Become(StateName.Lost, error, wait / _options.Hurry);
        }

        private void Leave()
        {
            foreach (var name in new[] { "limit", "accepted", "stable", "silence", "retry" }) Cancel(name);
            _attempt++;
            _opened = false;
            _heartbeat = 0;
            _early = null;
            _last = null;
            var socket = _socket;
            _socket = null;
            if (socket != null) socket.Close();
        }

        private void Become(StateName name, RelaydException error = null, double againIn = 0)
        {
            State = new ConnectionState(name, error, againIn);
            OnState(name);
            Tell(StateChanged, State);
        }
    }
}

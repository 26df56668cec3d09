#if RELAYD_NATIVEWEBSOCKET
using System;
using System.Collections.Generic;
using System.Text;
using System.Threading.Tasks;
using NativeWebSocket;

namespace Relayd
{
    /// <summary>ISocket over NativeWebSocket, in a browser too. It shows each close code from 4000 on as 1004.</summary>
    internal sealed class NativeSocket : ISocket
    {
        private readonly WebSocket _socket;
        private readonly SendQueue _outgoing;
        private string _error = "";
        private bool _left;
        private volatile int _closed;

        public NativeSocket(string url, string[] subprotocols)
        {
            _socket = subprotocols.Length == 0
                ? new WebSocket(url)
                : new WebSocket(url, new List<string>(subprotocols));
            _outgoing = new SendQueue(text => _socket.SendText(text));
            _socket.OnOpen += () =>
            {
                if (_left) End();
                else Opened();
            };
            _socket.OnMessage += bytes => Received(Encoding.UTF8.GetString(bytes));
            _socket.OnError += error => _error = error;
            _socket.OnClose += code => _closed = (int)code;
        }

        public event Action Opened = delegate { };
        public event Action<string> Received = delegate { };
        public event Action<int, string> Closed = delegate { };

        public long Buffered
        {
            get { return _outgoing.Buffered; }
        }

        public async void Open()
        {
            try
            {
                await _socket.Connect();
            }
            catch (Exception error)
            {
                _error = error.Message;
                _closed = 1006;
            }
        }

        public void Send(string text)
        {
            _outgoing.Add(text);
        }

        public void Close()
        {
            _left = true;
            _outgoing.WhenEmpty(End);
        }

        public void Update()
        {
            // A close may overtake the last message in the library's queues: that one comes first here.
            var closed = _closed;
#if !UNITY_WEBGL || UNITY_EDITOR
            _socket.DispatchMessageQueue();
#endif
            if (closed == 0) return;
            _closed = 0;
            Closed(closed, _error);
        }

        private async void End()
        {
            try
            {
#if !UNITY_WEBGL || UNITY_EDITOR
                var gone = Task.Delay(2000);
                if (_socket.State == WebSocketState.Open) await Task.WhenAny(_socket.Close(), gone);
                _socket.CancelConnection();
#else
                await _socket.Close();
#endif
            }
            catch (Exception)
            {
                // It was closed already.
            }
        }
    }
}
#endif

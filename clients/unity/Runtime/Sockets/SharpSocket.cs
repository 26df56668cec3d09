#if RELAYD_WEBSOCKET_SHARP
using System;
using System.Security.Authentication;
using System.Text;
using System.Threading.Tasks;
using WebSocketSharp;

namespace Relayd
{
    /// <summary>ISocket over websocket-sharp. Its Send and Close block, so they run on threads of the pool.</summary>
    internal sealed class SharpSocket : ISocket
    {
        private readonly WebSocket _socket;
        private readonly SendQueue _outgoing;
        private string _error = "";

        public SharpSocket(string url, string[] subprotocols)
        {
            _socket = new WebSocket(url, subprotocols);
            _socket.Log.Output = (data, path) => { }; // what went wrong comes as Closed
            if (_socket.IsSecure) _socket.SslConfiguration.EnabledSslProtocols = SslProtocols.Tls12;
            _outgoing = new SendQueue(text => Task.Run(() => _socket.Send(text)));
            _socket.OnOpen += (sender, e) => Opened();
            _socket.OnMessage += (sender, e) => Received(e.IsText ? e.Data : Encoding.UTF8.GetString(e.RawData));
            _socket.OnError += (sender, e) => _error = e.Message;
            _socket.OnClose += (sender, e) => Closed(e.Code, string.IsNullOrEmpty(e.Reason) ? _error : e.Reason);
        }

        public event Action Opened = delegate { };
        public event Action<string> Received = delegate { };
        public event Action<int, string> Closed = delegate { };

        public long Buffered
        {
            get { return _outgoing.Buffered; }
        }

        public void Open()
        {
            Task.Run((Action)_socket.Connect);
        }

        public void Send(string text)
        {
            _outgoing.Add(text);
        }

        public void Close()
        {
            // Waits for the other side's close, or for the end of a try to connect.
            _outgoing.WhenEmpty(() => Task.Run(() => _socket.Close((ushort)1000)));
        }

        public void Update()
        {
        }
    }
}
#endif

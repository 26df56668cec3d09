#if !UNITY_WEBGL || UNITY_EDITOR
using System;
using System.IO;
using System.Net.WebSockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace Relayd
{
    /// <summary>ISocket over System.Net.WebSockets.ClientWebSocket.</summary>
    internal sealed class ClientSocket : ISocket
    {
        private readonly Uri _url;
        private readonly ClientWebSocket _socket = new ClientWebSocket();
        private readonly CancellationTokenSource _ended = new CancellationTokenSource();
        private readonly SendQueue _outgoing;

        public ClientSocket(string url, string[] subprotocols)
        {
            _url = new Uri(url);
            foreach (var subprotocol in subprotocols) _socket.Options.AddSubProtocol(subprotocol);
            // Pongs that nobody asked for, so that no router on the way forgets the connection.
            _socket.Options.KeepAliveInterval = TimeSpan.FromSeconds(20);
            _outgoing = new SendQueue(Transmit);
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
            Task.Run((Func<Task>)Run); // a part of connecting may block: the look-up of the name
        }

        public void Send(string text)
        {
            _outgoing.Add(text);
        }

        public void Close()
        {
            if (_socket.State == WebSocketState.Open) _outgoing.WhenEmpty(SendClose);
            else Abandon();
            Task.Delay(2000).ContinueWith(_ => Abandon());
        }

        public void Update()
        {
        }

        private async Task Run()
        {
            var code = 1006;
            var reason = "";
            try
            {
                await _socket.ConnectAsync(_url, _ended.Token).ConfigureAwait(false);
                Opened();
                var buffer = new ArraySegment<byte>(new byte[8192]);
                var message = new MemoryStream();
                while (true)
                {
                    var part = await _socket.ReceiveAsync(buffer, _ended.Token).ConfigureAwait(false);
                    if (part.MessageType == WebSocketMessageType.Close) break;
                    message.Write(buffer.Array, buffer.Offset, part.Count);
                    if (!part.EndOfMessage) continue;
                    Received(Encoding.UTF8.GetString(message.GetBuffer(), 0, (int)message.Length));
                    message.SetLength(0);
                }
                code = _socket.CloseStatus == null ? 1005 : (int)_socket.CloseStatus.Value;
                reason = _socket.CloseStatusDescription ?? "";
                if (_socket.State == WebSocketState.CloseReceived) SendClose();
            }
            catch (Exception error)
            {
                reason = (error.InnerException ?? error).Message;
            }
            Closed(code, reason);
            Abandon();
        }

        private Task Transmit(string text)
        {
            var bytes = new ArraySegment<byte>(Encoding.UTF8.GetBytes(text));
            return _socket.SendAsync(bytes, WebSocketMessageType.Text, true, _ended.Token);
        }

        private async void SendClose()
        {
            try
            {
                await _socket.CloseOutputAsync(WebSocketCloseStatus.NormalClosure, "", _ended.Token).ConfigureAwait(false);
            }
            catch (Exception)
            {
                Abandon(); // the other side has gone already
            }
        }

        private void Abandon()
        {
            _ended.Cancel();
            _socket.Dispose();
        }
    }
}
#endif

// As much of the public API of NativeWebSocket 2.0.4 (1.1.4 has the same) as clients/unity and the
// tutorials use, to compile against: no registry that the tests reach carries the library.

using System.Collections.Generic;
using System.Threading.Tasks;

namespace NativeWebSocket
{
    public delegate void WebSocketOpenEventHandler();

    public delegate void WebSocketMessageEventHandler(byte[] data);

    public delegate void WebSocketErrorEventHandler(string errorMsg);

    public delegate void WebSocketCloseEventHandler(WebSocketCloseCode closeCode);

    public enum WebSocketCloseCode
    {
        Normal = 1000,
    }

    public enum WebSocketState
    {
        Connecting,
        Open,
        Closing,
        Closed,
    }

    public class WebSocket
    {
        public WebSocket(string url, Dictionary<string, string> headers = null)
        {
        }

        public WebSocket(string url, string subprotocol, Dictionary<string, string> headers = null)
        {
        }

        public WebSocket(string url, List<string> subprotocols, Dictionary<string, string> headers = null)
        {
        }

        public event WebSocketOpenEventHandler OnOpen { add { } remove { } }

        public event WebSocketMessageEventHandler OnMessage { add { } remove { } }

        public event WebSocketErrorEventHandler OnError { add { } remove { } }

        public event WebSocketCloseEventHandler OnClose { add { } remove { } }

        public WebSocketState State
        {
            get { return WebSocketState.Closed; }
        }

        public Task Connect()
        {
            return Task.CompletedTask;
        }

        public Task Close(WebSocketCloseCode code = WebSocketCloseCode.Normal, string reason = null)
        {
            return Task.CompletedTask;
        }

        public Task SendText(string message)
        {
            return Task.CompletedTask;
        }

        public void CancelConnection()
        {
        }

#if !UNITY_WEBGL || UNITY_EDITOR
        public void DispatchMessageQueue()
        {
        }
#endif
    }
}

// As much of the public API of websocket-sharp (commit 4270406, June 2026) as clients/unity and the
// tutorials use, to compile against: no registry carries the library.

using System;
using System.Security.Authentication;

namespace WebSocketSharp
{
    public class MessageEventArgs : EventArgs
    {
        public string Data { get; private set; }

        public bool IsText { get; private set; }

        public byte[] RawData { get; private set; }
    }

    public class CloseEventArgs : EventArgs
    {
        public ushort Code { get; private set; }

        public string Reason { get; private set; }
    }

    public class ErrorEventArgs : EventArgs
    {
        public string Message { get; private set; }
    }

    public class LogData
    {
    }

    public class Logger
    {
        public Action<LogData, string> Output { get; set; }
    }

    public class WebSocket : IDisposable
    {
        public WebSocket(string url, params string[] protocols)
        {
        }

        public event EventHandler OnOpen { add { } remove { } }

        public event EventHandler<MessageEventArgs> OnMessage { add { } remove { } }

        public event EventHandler<ErrorEventArgs> OnError { add { } remove { } }

        public event EventHandler<CloseEventArgs> OnClose { add { } remove { } }

        public bool IsSecure { get; private set; }

        public Logger Log { get; private set; }

        public Net.ClientSslConfiguration SslConfiguration { get; private set; }

        public void Connect()
        {
        }

        public void Close()
        {
        }

        public void Close(ushort code)
        {
        }

        public void Send(string data)
        {
        }

        void IDisposable.Dispose()
        {
        }
    }
}

namespace WebSocketSharp.Net
{
    public class ClientSslConfiguration
    {
        public SslProtocols EnabledSslProtocols { get; set; }
    }
}

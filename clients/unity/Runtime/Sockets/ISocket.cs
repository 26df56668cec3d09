using System;

namespace Relayd
{
    /// <summary>One WebSocket of one library: the only thing that Connection needs of it.</summary>
    /// <remarks>
    /// The events come on any thread. A socket is opened once and closed once; Closed comes at most
    /// once, also when it could never be opened.
    /// </remarks>
    public interface ISocket
    {
        event Action Opened;

        /// <summary>A whole message, as text.</summary>
        event Action<string> Received;

        /// <summary>The close code of RFC 6455 (1006 without one), and the reason or what went wrong.</summary>
        event Action<int, string> Closed;

        /// <summary>Characters that were sent here and have not left yet.</summary>
        long Buffered { get; }

        /// <summary>Begins to connect. Failures come as Closed.</summary>
        void Open();

        /// <summary>Sends a text message, after all that were sent before.</summary>
        void Send(string text);

        /// <summary>Sends what waits, then a close frame; two seconds later at most, all is released.</summary>
        void Close();

        /// <summary>Called regularly on the thread that called Open.</summary>
        void Update();
    }

    /// <summary>Makes the socket for one try to connect.</summary>
    /// <param name="url">ws: or wss:.</param>
    /// <param name="subprotocols">What to offer; empty for nothing.</param>
    public delegate ISocket SocketFactory(string url, string[] subprotocols);

    /// <summary>The libraries that this kit was compiled with.</summary>
    public static class Sockets
    {
        /// <summary>What is taken unless ConnectionOptions.Socket says otherwise.</summary>
        public static readonly SocketFactory Default =
#if UNITY_WEBGL && !UNITY_EDITOR
#if RELAYD_NATIVEWEBSOCKET
            NativeWebSocket;
#else
            (url, subprotocols) => throw new NotSupportedException(
                "In a browser relayd's kit needs NativeWebSocket: see its README.");
#endif
#else
            ClientWebSocket;
#endif

#if !UNITY_WEBGL || UNITY_EDITOR
        /// <summary>System.Net.WebSockets.ClientWebSocket: everywhere but in a browser.</summary>
        public static ISocket ClientWebSocket(string url, string[] subprotocols)
        {
            return new ClientSocket(url, subprotocols);
        }
#endif

#if RELAYD_WEBSOCKET_SHARP
        /// <summary>websocket-sharp: everywhere but in a browser.</summary>
        public static ISocket WebSocketSharp(string url, string[] subprotocols)
        {
            return new SharpSocket(url, subprotocols);
        }
#endif

#if RELAYD_NATIVEWEBSOCKET
        /// <summary>NativeWebSocket, 1.1 or newer: the one for WebGL.</summary>
        public static ISocket NativeWebSocket(string url, string[] subprotocols)
        {
            return new NativeSocket(url, subprotocols);
        }
#endif
    }
}

using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

namespace Relayd
{
    /// <summary>How a client connects. It is read when the client is made.</summary>
    public sealed class ConnectionOptions
    {
        /// <summary>Further parameters of the path, such as "senders" for a camera.</summary>
        public Dictionary<string, string> Query = new Dictionary<string, string>();

        /// <summary>
        /// Gives a token (a JWT), or null for none. Called before each try with false, and with true
        /// when the server says that the last token is over: then without another one the client
        /// gives up.
        /// </summary>
        public Func<bool, Task<string>> Token;

        /// <summary>Which library: one of Sockets, or an own one.</summary>
        public SocketFactory Socket = Sockets.Default;

        /// <summary>
        /// Where the events come, such as SynchronizationContext.Current of the main thread. Null, as
        /// it is by default: in Update(), which the owner calls regularly.
        /// </summary>
        public SynchronizationContext Context;

        /// <summary>Gets what an event handler throws. By default: Unity's console, or standard error.</summary>
#if UNITY_2019_4_OR_NEWER
        public Action<Exception> Failed = UnityEngine.Debug.LogException;
#else
        public Action<Exception> Failed = error => Console.Error.WriteLine(error);
#endif

        /// <summary>For tests: waits and back-off are divided by this.</summary>
        public double Hurry = 1;

        /// <summary>The same token each time.</summary>
        public static Func<bool, Task<string>> Always(string token)
        {
            return expired => Task.FromResult(token);
        }
    }
}

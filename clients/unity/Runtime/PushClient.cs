using System;
using System.Collections.Generic;

namespace Relayd
{
    /// <summary>A topic of server push.</summary>
    public sealed class PushClient : Connection
    {
        public PushClient(string server, string topic, ConnectionOptions options = null)
            : base(server, PathOf("push", topic), options)
        {
        }

        /// <summary>An object was published: its members, and the JSON (for JsonUtility).</summary>
        public event Action<PushMessage> Published;

        // A program may publish an object with a member "error"; relayd's own have a sentence, too.
        protected override bool IsError(Dictionary<string, object> frame)
        {
            return base.IsError(frame) && Json.Text(frame, "message") != "";
        }

        protected override void ReceiveError(Dictionary<string, object> frame, string text)
        {
            if (Codes.IsOfConnection(Json.Text(frame, "error"))) base.ReceiveError(frame, text);
            else Receive(frame, text);
        }

        protected override void Receive(Dictionary<string, object> frame, string text)
        {
            Tell(Published, new PushMessage { Members = frame, Json = text });
        }
    }

    /// <summary>What was published to a topic.</summary>
    public struct PushMessage
    {
        public Dictionary<string, object> Members;
        public string Json;
    }
}

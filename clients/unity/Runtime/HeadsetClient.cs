using System;
using System.Collections.Generic;

namespace Relayd
{
    /// <summary>What relayd has drawn for a headset.</summary>
    public struct Assignment
    {
        public int[] QuizIds;
        public int ActionId;
    }

    /// <summary>The headset's side of a pair.</summary>
    /// <remarks>After 4001, "replaced", another headset has this UUID: it does not connect by itself.</remarks>
    public sealed class HeadsetClient : Connection
    {
        /// <param name="uuid">In its hyphenated form; the phone has the same.</param>
        /// <param name="secret">16 to 256 characters that bind the pair (docs/protocol.md, "A secret"), or null.</param>
        public HeadsetClient(string server, string uuid, string secret = null, ConnectionOptions options = null)
            : base(server, PathOf("difficulty/unity", uuid), options)
        {
            _secret = secret;
        }

        private readonly string _secret;

        /// <summary>The phone has chosen a difficulty.</summary>
        public event Action<Assignment> Assigned;

        protected override void AddQuery(Dictionary<string, string> query)
        {
            if (_secret != null) query["secret"] = _secret;
        }

        protected override void Receive(Dictionary<string, object> frame, string text)
        {
            object quizzes;
            var action = Json.Whole(frame, "action_id");
            if (action == null || !frame.TryGetValue("quiz_id", out quizzes) || !(quizzes is List<object>)) return;
            var ids = new List<int>();
            foreach (var id in (List<object>)quizzes)
            {
                if (id is long) ids.Add((int)(long)id);
            }
            Tell(Assigned, new Assignment { QuizIds = ids.ToArray(), ActionId = (int)action.Value });
        }
    }
}

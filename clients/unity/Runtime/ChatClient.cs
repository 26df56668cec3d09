using System;
using System.Collections.Generic;
using System.Globalization;

namespace Relayd
{
    /// <summary>A message of a room.</summary>
    public struct ChatMessage
    {
        /// <summary>Higher than that of each message before.</summary>
        public long Id;

        public string Text;

        /// <summary>RFC 3339, UTC.</summary>
        public string Time;

        /// <summary>Who said it, if a token named the sender; else empty.</summary>
        public string User;

        public string Tag;

        /// <summary>Whether it is a copy of what this client said.</summary>
        public bool Mine;
    }

    public enum OutgoingState
    {
        /// <summary>Not sent yet.</summary>
        Waiting,

        /// <summary>Sent; its copy has not come.</summary>
        Sent,

        /// <summary>Its copy came: it is in the history.</summary>
        Kept,

        Failed,
    }

    /// <summary>What this client said.</summary>
    public sealed class OutgoingMessage
    {
        public string Text { get; internal set; }

        public string Tag { get; internal set; }

        public OutgoingState State { get; internal set; }

        /// <summary>Why it Failed.</summary>
        public RelaydException Error { get; internal set; }
    }

    /// <summary>A chat room: each message once, in order, over reconnects too.</summary>
    /// <remarks>
    /// Only one message is on its way at a time, so that an error frame is about that one. It is sent
    /// again after a lost connection, with the same tag: the server keeps no message twice that has
    /// the same tag.
    /// </remarks>
    public sealed class ChatClient : Connection
    {
        private const double CopyWithin = 10; // s; without its copy by then, a message's connection counts as dead
        private const double TryAgainAfter = 3; // after an error that passes
        private const double SettledAfter = 1; // this long nothing: the history is through
        private const int OwnTags = 1000; // so many of the newest are known again in a copy

        private readonly List<OutgoingMessage> _outgoing = new List<OutgoingMessage>();
        private readonly HashSet<string> _mine = new HashSet<string>();
        private readonly Queue<string> _mineInOrder = new Queue<string>();
        private long? _lastId;
        private bool _settling;

        /// <param name="room">Its name, of letters and digits of any script; null for the default one.</param>
        /// <param name="since">The last message that the app has kept: only newer ones come. Null: the last 50.</param>
        public ChatClient(string server, string room = null, ConnectionOptions options = null, long? since = null)
            : base(server, PathOf("chat", room), options)
        {
            _lastId = since;
        }

        /// <summary>A message that did not come before.</summary>
        public event Action<ChatMessage> MessageReceived;

        /// <summary>Some messages are missing before, or between, those that follow: the sentence says so.</summary>
        public event Action<string> Gap;

        /// <summary>The history is through: the first second in which nothing came.</summary>
        public event Action<long?> Settled;

        /// <summary>The state of what this client said has changed.</summary>
        public event Action<OutgoingMessage> OutgoingChanged;

        /// <summary>What was said and is not kept yet, the oldest first.</summary>
        public IList<OutgoingMessage> Outgoing
        {
            get { return _outgoing.AsReadOnly(); }
        }

        /// <summary>The id of the newest message that came; null before the first.</summary>
        public long? LastId
        {
            get { return _lastId; }
        }

        /// <summary>Says a text, now or when there is a connection.</summary>
        public OutgoingMessage Say(string text)
        {
            var message = new OutgoingMessage { Text = text };
            _outgoing.Add(message);
            Queue(message);
            return message;
        }

        /// <summary>Sends a failed message again.</summary>
        public void Retry(OutgoingMessage message)
        {
            if (message.State == OutgoingState.Failed && _outgoing.Contains(message)) Queue(message);
        }

        /// <summary>Forgets a message, wherever it is.</summary>
        public void Discard(OutgoingMessage message)
        {
            if (message == Current) Cancel("copy");
            _outgoing.Remove(message);
            SendNext();
        }

        private void Queue(OutgoingMessage message)
        {
            message.Tag = Guid.NewGuid().ToString("N");
            message.Error = null;
            Remember(message.Tag);
            Change(message, OutgoingState.Waiting);
            SendNext();
        }

        private OutgoingMessage Current
        {
            get { return _outgoing.Find(each => each.State == OutgoingState.Sent); }
        }

        protected override bool IsError(Dictionary<string, object> frame)
        {
            return base.IsError(frame) && !frame.ContainsKey("gap");
        }

        protected override void AddQuery(Dictionary<string, string> query)
        {
            if (_lastId != null) query["since"] = _lastId.Value.ToString(CultureInfo.InvariantCulture);
        }

        protected override void Receive(Dictionary<string, object> frame, string text)
        {
            if (_settling) Settle();
            if (frame.ContainsKey("gap"))
            {
                Tell(Gap, Json.Text(frame, "message"));
                return;
            }
            var id = Json.Whole(frame, "id");
            if (id == null || !frame.ContainsKey("message")) return;
            var message = new ChatMessage
            {
                Id = id.Value,
                Text = Json.Text(frame, "message"),
                Time = Json.Text(frame, "time"),
                User = Json.Text(frame, "user"),
                Tag = Json.Text(frame, "tag"),
                Mine = _mine.Contains(Json.Text(frame, "tag")),
            };
            // The copy of the first one, where a message was sent again, may be older.
            if (_lastId == null || message.Id > _lastId)
            {
                _lastId = message.Id;
                Tell(MessageReceived, message);
            }
            if (message.Mine) Acknowledge(message.Tag);
        }

        protected override void ReceiveError(Dictionary<string, object> frame, string text)
        {
            var error = RelaydException.Of(frame);
            var message = Current;
            if (message != null && !Codes.IsOfConnection(error.Code))
            {
                Cancel("copy");
                if (IsPassing(error.Code)) After("copy", TryAgainAfter, () => Transmit(message));
                else Fail(message, error);
            }
            base.ReceiveError(frame, text);
            SendNext();
        }

        // The message on its way was against the protocol, or too big: it fails, the chat goes on.
        protected override bool Forgives(RelaydException error)
        {
            var message = Current;
            if (message == null || (error.CloseCode != 1007 && error.CloseCode != 1009)) return false;
            Fail(message, new RelaydException("The server did not take this.", "too_large", 0, error.CloseCode));
            return true;
        }

        protected override void OnState(StateName name)
        {
            Cancel("copy");
            Cancel("settled");
            _settling = false;
            var message = Current;
            if (message != null) Change(message, OutgoingState.Waiting);
            if (name == StateName.Connected) Settle();
            SendNext();
        }

        private static bool IsPassing(string code)
        {
            return code == "outcome_unknown" || code == "store_unavailable" || code == "database_unavailable"
                || code == "internal_error";
        }

        private void Settle()
        {
            _settling = true;
            After("settled", SettledAfter, () =>
            {
                _settling = false;
                Tell(Settled, _lastId);
            });
        }

        private void Acknowledge(string tag)
        {
            var message = _outgoing.Find(each => each.Tag == tag);
            if (message == null) return;
            if (message.State == OutgoingState.Sent) Cancel("copy");
            _outgoing.Remove(message);
            Change(message, OutgoingState.Kept);
            SendNext();
        }

        private void Fail(OutgoingMessage message, RelaydException error)
        {
            message.Error = error;
            Change(message, OutgoingState.Failed);
        }

        private void SendNext()
        {
            if (State.Name != StateName.Connected || Current != null) return;
            var message = _outgoing.Find(each => each.State == OutgoingState.Waiting);
            if (message == null) return;
            Change(message, OutgoingState.Sent);
            Transmit(message);
        }

        private void Transmit(OutgoingMessage message)
        {
            if (!Send("{\"message\":" + Json.Quote(message.Text) + ",\"tag\":" + Json.Quote(message.Tag) + "}")) return;
            Limit("copy", CopyWithin, Drop);
        }

        private void Remember(string tag)
        {
            _mine.Add(tag);
            _mineInOrder.Enqueue(tag);
            if (_mineInOrder.Count > OwnTags) _mine.Remove(_mineInOrder.Dequeue());
        }

        private void Change(OutgoingMessage message, OutgoingState state)
        {
            message.State = state;
            Tell(OutgoingChanged, message);
        }
    }
}

#if UNITY_2019_4_OR_NEWER
using System;
using UnityEngine;
using UnityEngine.Events;

namespace Relayd
{
    [Serializable]
    public class MessageEvent : UnityEvent<ChatMessage>
    {
    }

    /// <summary>A chat room.</summary>
    [AddComponentMenu("relayd/Chat")]
    public sealed class RelaydChat : RelaydBehaviour
    {
        [Tooltip("The name of the room; empty for the default one.")]
        public string Room = "";

        [Tooltip("Gets each message once, in order; this player's own, too.")]
        public MessageEvent MessageReceived = new MessageEvent();

        [Tooltip("Gets a sentence when messages are missing between those that come.")]
        public TextEvent Gap = new TextEvent();

        private long? _lastId;

        /// <summary>Says a text, now or when there is a connection.</summary>
        /// <returns>Its state; null while the component is disabled.</returns>
        public OutgoingMessage Say(string text)
        {
            return Connection == null ? null : ((ChatClient)Connection).Say(text);
        }

        protected override Connection Build(ConnectionOptions options)
        {
            var client = new ChatClient(Server, Room, options, _lastId);
            client.MessageReceived += message =>
            {
                _lastId = message.Id; // disabled and enabled again, it goes on here
                MessageReceived.Invoke(message);
            };
            client.Gap += Gap.Invoke;
            return client;
        }
    }
}
#endif

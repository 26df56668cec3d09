#if UNITY_2019_4_OR_NEWER
using System;
using UnityEngine;
using UnityEngine.Events;

namespace Relayd
{
    [Serializable]
    public class AssignmentEvent : UnityEvent<Assignment>
    {
    }

    /// <summary>The headset of a pair: gets the quizzes and the action that the phone has asked for.</summary>
    [AddComponentMenu("relayd/Headset")]
    public sealed class RelaydHeadset : RelaydBehaviour
    {
        [Tooltip("The UUID that the phone has, too. Empty: a new one, to be shown to the player.")]
        public string Uuid = "";

        [Tooltip("16 to 256 characters that the phone has, too; empty for none. Over wss: only.")]
        public string Secret = "";

        [Tooltip("Gets the ids of the quizzes and of the action.")]
        public AssignmentEvent Assigned = new AssignmentEvent();

        protected override Connection Build(ConnectionOptions options)
        {
            if (string.IsNullOrEmpty(Uuid)) Uuid = Guid.NewGuid().ToString();
            var client = new HeadsetClient(Server, Uuid, string.IsNullOrEmpty(Secret) ? null : Secret, options);
            client.Assigned += Assigned.Invoke;
            return client;
        }
    }
}
#endif

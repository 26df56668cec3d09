#if UNITY_2019_4_OR_NEWER
using UnityEngine;

namespace Relayd
{
    /// <summary>A topic of server push.</summary>
    [AddComponentMenu("relayd/Push")]
    public sealed class RelaydPush : RelaydBehaviour
    {
        [Tooltip("The name of the topic.")]
        public string Topic = "demo";

        [Tooltip("Gets the JSON of each object that is published, for JsonUtility.FromJson.")]
        public TextEvent Published = new TextEvent();

        protected override Connection Build(ConnectionOptions options)
        {
            var client = new PushClient(Server, Topic, options);
            client.Published += message => Published.Invoke(message.Json);
            return client;
        }
    }
}
#endif

#if UNITY_2019_4_OR_NEWER
using UnityEngine;
using UnityEngine.Events;

namespace Relayd
{
    [System.Serializable]
    public class TextEvent : UnityEvent<string>
    {
    }

    /// <summary>
    /// A client as long as its component is enabled. Its events come in Update(), on the main thread.
    /// Change a field while it is disabled.
    /// </summary>
    public abstract class RelaydBehaviour : MonoBehaviour
    {
        [Tooltip("The address of relayd, such as wss://relay.example.")]
        public string Server = "ws://localhost:8080";

        [Tooltip("A JWT, where the server needs one. For tokens that expire, override Options().")]
        public string Token = "";

        [Tooltip("Gets what is to be shown when the state changes: connected, or what is wrong.")]
        public TextEvent StateChanged = new TextEvent();

        /// <summary>What the client is doing; null before the first time.</summary>
        public ConnectionState State
        {
            get { return Connection == null ? null : Connection.State; }
        }

        /// <summary>The client; null while the component is disabled.</summary>
        protected Connection Connection { get; private set; }

        /// <summary>Makes the client and subscribes to its events.</summary>
        protected abstract Connection Build(ConnectionOptions options);

        /// <summary>How it connects: the place for an own token, library or heartbeat.</summary>
        protected virtual ConnectionOptions Options()
        {
            var options = new ConnectionOptions();
            if (!string.IsNullOrEmpty(Token)) options.Token = ConnectionOptions.Always(Token);
            return options;
        }

        /// <summary>Connects at once: after a refusal, or since somebody does not want to wait.</summary>
        public void Connect()
        {
            if (Connection != null) Connection.Connect();
        }

        protected virtual void OnEnable()
        {
            Connection = Build(Options());
            Connection.StateChanged += Show;
            Connection.Problem += problem => Debug.LogWarning("relayd: " + problem.Message, this);
            Connection.Connect();
        }

        protected virtual void Update()
        {
            if (Connection != null) Connection.Update();
        }

        protected virtual void OnDisable()
        {
            if (Connection != null) Connection.Close();
            Connection = null;
        }

        /// <summary>While an app was paused its connection may have ended.</summary>
        protected virtual void OnApplicationPause(bool paused)
        {
            if (!paused && Connection != null) Connection.Hurry();
        }

        private void Show(ConnectionState state)
        {
            var text = state.Name.ToString();
            if (state.Error != null) text += ": " + state.Error.Message;
            if (state.Name == StateName.Refused) Debug.LogError("relayd: " + text, this);
            StateChanged.Invoke(text);
        }
    }
}
#endif

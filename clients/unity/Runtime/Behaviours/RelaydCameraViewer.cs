#if UNITY_2019_4_OR_NEWER
using System.Collections.Generic;
using UnityEngine;
using UnityEngine.Events;

namespace Relayd
{
    [System.Serializable]
    public class PositionEvent : UnityEvent<Vector3>
    {
    }

    /// <summary>Shows where the senders of a camera group are: one object follows each of them.</summary>
    [AddComponentMenu("relayd/Camera viewer")]
    public sealed class RelaydCameraViewer : RelaydBehaviour
    {
        [Tooltip("The name of the group; empty for the default one.")]
        public string Group = "demo";

        [Tooltip("Copied for each sender. Without one, this object follows whoever sends.")]
        public GameObject Follower;

        [Tooltip("Seconds in which a follower reaches the place that came last; 0 to jump.")]
        public float Smoothing = 0.1f;

        [Tooltip("A follower whose sender has said nothing for so many seconds is removed.")]
        public float ForgetAfter = 5;

        [Tooltip("Gets each position that comes.")]
        public PositionEvent PositionReceived = new PositionEvent();

        private readonly Dictionary<string, Followed> _followed = new Dictionary<string, Followed>();

        /// <summary>How many senders are seen.</summary>
        public int Count
        {
            get { return _followed.Count; }
        }

        protected override Connection Build(ConnectionOptions options)
        {
            options.Query["senders"] = "1";
            var client = new CameraClient(Server, Group, options);
            client.PoseReceived += Place;
            return client;
        }

        protected override void Update()
        {
            base.Update();
            List<string> silent = null;
            foreach (var each in _followed)
            {
                var followed = each.Value;
                if (Time.unscaledTime - followed.Seen > ForgetAfter)
                {
                    if (silent == null) silent = new List<string>();
                    silent.Add(each.Key);
                    continue;
                }
                var share = Smoothing > 0 ? Mathf.Clamp01(Time.unscaledDeltaTime / Smoothing) : 1;
                followed.By.position = Vector3.Lerp(followed.By.position, followed.To, share);
            }
            if (silent == null) return;
            foreach (var sender in silent) Forget(sender);
        }

        protected override void OnDisable()
        {
            base.OnDisable();
            foreach (var sender in new List<string>(_followed.Keys)) Forget(sender);
        }

        private void Place(Pose pose)
        {
            var sender = Follower == null ? "" : pose.Sender ?? "";
            Followed followed;
            var known = _followed.TryGetValue(sender, out followed);
            if (!known)
            {
                followed = new Followed { By = Follower == null ? transform : Copy() };
                _followed[sender] = followed;
            }
            // A coordinate that nobody sent stays as it is.
            var from = known ? followed.To : followed.By.position;
            followed.To = new Vector3((float)(pose.X ?? from.x), (float)(pose.Y ?? from.y), (float)(pose.Z ?? from.z));
            followed.Seen = Time.unscaledTime;
            if (!known) followed.By.position = followed.To;
            PositionReceived.Invoke(followed.To);
        }

        private Transform Copy()
        {
            var copy = Instantiate(Follower, transform);
            copy.SetActive(true); // the original may be an object of the scene that nobody shall see
            return copy.transform;
        }

        private void Forget(string sender)
        {
            var by = _followed[sender].By;
            _followed.Remove(sender);
            if (by != transform) Destroy(by.gameObject);
        }

        private sealed class Followed
        {
            public Transform By;
            public Vector3 To;
            public float Seen;
        }
    }
}
#endif

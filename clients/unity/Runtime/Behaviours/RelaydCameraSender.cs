#if UNITY_2019_4_OR_NEWER
using UnityEngine;

namespace Relayd
{
    /// <summary>Sends where its object is to a camera group.</summary>
    [AddComponentMenu("relayd/Camera sender")]
    public sealed class RelaydCameraSender : RelaydBehaviour
    {
        [Tooltip("The name of the group; empty for the default one.")]
        public string Group = "demo";

        [Tooltip("Poses a second.")]
        public float Rate = 10;

        private float _next;

        protected override Connection Build(ConnectionOptions options)
        {
            return new CameraClient(Server, Group, options);
        }

        protected override void Update()
        {
            base.Update();
            if (Connection == null || Time.unscaledTime < _next) return;
            // From when it was due, or the rate would be lower by half a frame's time; but nothing is made up for.
            _next = Mathf.Max(_next + 1 / Mathf.Max(Rate, 0.1f), Time.unscaledTime);
            var position = transform.position;
            ((CameraClient)Connection).Move(position.x, position.y, position.z);
        }
    }
}
#endif

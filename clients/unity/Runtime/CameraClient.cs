using System;
using System.Collections.Generic;

namespace Relayd
{
    /// <summary>A pose of a camera group. A coordinate that its sender did not send is null.</summary>
    public struct Pose
    {
        public double? X;
        public double? Y;
        public double? Z;

        /// <summary>12 digits that name the sending connection, with the query "senders" = "1"; else null.</summary>
        public string Sender;
    }

    /// <summary>A camera group: sees the poses of all members, its own too, and sends some.</summary>
    public sealed class CameraClient : Connection
    {
        private const int FullAt = 4096; // characters

        /// <param name="group">Its name; null for the default one.</param>
        public CameraClient(string server, string group = null, ConnectionOptions options = null)
            : base(server, PathOf("camera", group), options)
        {
        }

        /// <summary>A pose came.</summary>
        public event Action<Pose> PoseReceived;

        /// <summary>Sends a pose, unless older ones still wait here: a pose is out of date soon.</summary>
        /// <returns>Whether it was sent.</returns>
        public bool Move(float x, float y, float z)
        {
            return Move(Json.Number(x), Json.Number(y), Json.Number(z));
        }

        /// <summary>As above, with all digits of a double.</summary>
        public bool Move(double x, double y, double z)
        {
            return Move(Json.Number(x), Json.Number(y), Json.Number(z));
        }

        protected override void Receive(Dictionary<string, object> frame, string text)
        {
            Tell(PoseReceived, new Pose
            {
                X = Json.Real(frame, "x"),
                Y = Json.Real(frame, "y"),
                Z = Json.Real(frame, "z"),
                Sender = frame.ContainsKey("sender") ? Json.Text(frame, "sender") : null,
            });
        }

        private bool Move(string x, string y, string z)
        {
            return Buffered < FullAt && Send("{\"x\":" + x + ",\"y\":" + y + ",\"z\":" + z + "}");
        }
    }
}

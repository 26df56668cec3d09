// Put this on an empty object of an empty scene and press Play. A ball goes round in a circle and is
// sent to the group "demo"; the arrow keys push it (where the project has Unity's old input). Another ball follows each sender of the group:
// this player's, another player's, or the page /camera/demo/send of relayd in a browser.

using Relayd;
using UnityEngine;

public class MovingCircle : MonoBehaviour
{
    public string Server = "ws://localhost:8080";
    public string Group = "demo";

    [Tooltip("Off: only look on.")]
    public bool Send = true;

    private const float Radius = 2;
    private const float Speed = 3;

    private Transform _sent;
    private Vector3 _centre = Vector3.zero;

    private void Start()
    {
        var eye = Camera.main;
        if (eye != null)
        {
            // From above, as on the page /camera/demo/: x to the right, z up.
            eye.transform.position = new Vector3(0, 12, 0);
            eye.transform.rotation = Quaternion.Euler(90, 0, 0);
        }
        if (Send) AddSender();
        AddViewer();
    }

    private void Update()
    {
        if (_sent == null) return;
#if ENABLE_LEGACY_INPUT_MANAGER
        var push = new Vector3(Input.GetAxis("Horizontal"), 0, Input.GetAxis("Vertical"));
        _centre += push * (Speed * Time.deltaTime);
#endif
        _sent.position = _centre + new Vector3(Mathf.Cos(Time.time), 0, Mathf.Sin(Time.time)) * Radius;
    }

    private void AddSender()
    {
        var ball = NewBall("Sent", 0.5f);
        _sent = ball.transform;
        // Components connect when their object becomes active.
        ball.SetActive(false);
        var sender = ball.AddComponent<RelaydCameraSender>();
        sender.Server = Server;
        sender.Group = Group;
        ball.SetActive(true);
    }

    private void AddViewer()
    {
        var group = new GameObject("Group " + Group);
        group.SetActive(false);
        var viewer = group.AddComponent<RelaydCameraViewer>();
        viewer.Server = Server;
        viewer.Group = Group;
        viewer.Follower = NewBall("Follower", 1);
        viewer.Follower.SetActive(false);
        viewer.StateChanged.AddListener(state => Debug.Log("relayd: " + state));
        group.SetActive(true);
    }

    private static GameObject NewBall(string name, float size)
    {
        var ball = GameObject.CreatePrimitive(PrimitiveType.Sphere);
        ball.name = name;
        ball.transform.localScale = Vector3.one * size;
        return ball;
    }
}

// Plays the sample of clients/unity with the stub of UnityEngine: two players, and a third that only
// looks on. Prints what the third sees.
//
//   Scene.exe URL

using System;
using System.Linq;
using System.Threading;
using Relayd;
using UnityEngine;

public static class Scene
{
    public static int Main(string[] arguments)
    {
        var home = Thread.CurrentThread;
        Add(arguments[0], true);
        Add(arguments[0], true);
        Add(arguments[0], false);
        var headset = Component<RelaydHeadset>("Headset", arguments[0]);
        var chat = Component<RelaydChat>("Chat", arguments[0]);
        var elsewhere = false;
        var heard = "";
        chat.MessageReceived.AddListener(message =>
        {
            elsewhere |= Thread.CurrentThread != home;
            heard = message.Text;
        });
        chat.gameObject.SetActive(true);
        headset.gameObject.SetActive(true);
        chat.Say("hello");
        // Each of three players sees two senders.
        Check("followers", Player.Play(20, () => Player.Find("Follower").Count == 6));
        Check("moving", Player.Play(20, () => Player.Find("Follower").All(each =>
            Distance(each.transform.position, Player.Find("Sent")[0].transform.position) < 1)));
        Check("chat", Player.Play(20, () => heard == "hello") && !elsewhere);
        Check("headset", Player.Play(20, () => headset.State.Name == StateName.Connected) && headset.Uuid.Length == 36);
        foreach (var sent in Player.Find("Sent")) sent.SetActive(false);
        Check("forgotten", Player.Play(20, () => Player.Find("Follower").Count == 0));
        headset.gameObject.SetActive(false);
        headset.Server = "nowhere";
        try
        {
            headset.gameObject.SetActive(true);
        }
        catch (Exception)
        {
            // Unity shows it in its console and goes on.
        }
        Check("no address", headset.State == null && !Player.Play(0.1, () => false));
        return 0;
    }

    private static MovingCircle Add(string url, bool send)
    {
        var circle = new GameObject("Circle").AddComponent<MovingCircle>();
        circle.Server = url;
        circle.Send = send;
        return circle;
    }

    private static T Component<T>(string name, string url) where T : RelaydBehaviour, new()
    {
        var holder = new GameObject(name);
        holder.SetActive(false);
        var component = holder.AddComponent<T>();
        component.Server = url;
        return component;
    }

    private static double Distance(Vector3 a, Vector3 b)
    {
        return Math.Sqrt(Math.Pow(a.x - b.x, 2) + Math.Pow(a.y - b.y, 2) + Math.Pow(a.z - b.z, 2));
    }

    private static void Check(string what, bool holds)
    {
        Console.WriteLine(what + ": " + (holds ? "yes" : "no"));
    }
}

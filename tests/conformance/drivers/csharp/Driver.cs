// The driver of clients/unity, without Unity: see tests/conformance/__init__.py.
//
//   Driver.exe KIND URL NAME [library=clientwebsocket] [token=…] [since=…] [fast=1] [context=1]
//
// With context=1 the events come through a SynchronizationContext, as
// in an app that has no loop; else in Update(), as in Unity.

using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Relayd;

public static class Driver
{
    private static readonly TextWriter Output =
        new StreamWriter(Console.OpenStandardOutput(), new UTF8Encoding(false)) { AutoFlush = true };

    private static string _token;

    public static int Main(string[] arguments)
    {
        var values = new Dictionary<string, string>();
        for (var i = 3; i < arguments.Length; i++)
        {
            var parts = arguments[i].Split(new[] { '=' }, 2);
            values[parts[0]] = parts[1];
        }
        var loop = new Loop();
        var options = new ConnectionOptions
        {
            Socket = Library(Value(values, "library") ?? "clientwebsocket"),
            Hurry = Value(values, "fast") == "1" ? 20 : 1,
            Context = Value(values, "context") == "1" ? loop : null,
        };
        if (options.Context != null) SynchronizationContext.SetSynchronizationContext(loop);
        _token = Value(values, "token");
        if (_token != null) options.Token = expired => Task.FromResult(_token);
        Action<Dictionary<string, object>> send;
        var client = Build(arguments[0], arguments[1], arguments[2], values, options, out send);
        client.StateChanged += Tell;
        client.Problem += error => Write("problem", "error", error.Code, "message", error.Message);
        client.Connect();
        var input = new StreamReader(Console.OpenStandardInput(), new UTF8Encoding(false));
        new Thread(() =>
        {
            string line;
            while ((line = input.ReadLine()) != null)
            {
                var command = Json.ParseObject(line);
                loop.Post(_ => Obey(client, command, send), null);
            }
            loop.Post(_ => loop.Ended = true, null);
        }) { IsBackground = true }.Start();
        loop.Run(options.Context == null ? (Action)client.Update : () => { });
        client.Close();
        Output.Flush();
        LeaveAtOnce(0);
        return 0;
    }

    // Mono aborts now and then if a socket ends while its runtime shuts down (an assertion in its
    // thread for I/O), so the process ends without that.
    [DllImport("libc", EntryPoint = "_exit")]
    private static extern void LeaveAtOnce(int status);

    private static SocketFactory Library(string name)
    {
        switch (name)
        {
            case "clientwebsocket": return Sockets.ClientWebSocket;
#if RELAYD_WEBSOCKET_SHARP
            case "websocket-sharp": return Sockets.WebSocketSharp;
#endif
#if RELAYD_NATIVEWEBSOCKET
            case "nativewebsocket": return Sockets.NativeWebSocket;
#endif
            default: throw new ArgumentException("This driver was built without " + name + ".");
        }
    }

    private static Connection Build(string kind, string url, string name, Dictionary<string, string> values,
        ConnectionOptions options, out Action<Dictionary<string, object>> send)
    {
        send = message => Console.Error.WriteLine("a client of this kind sends nothing");
        switch (kind)
        {
            case "camera":
                var camera = new CameraClient(url, name, options);
                camera.PoseReceived += pose => Write("pose", "x", pose.X, "y", pose.Y, "z", pose.Z);
                send = pose => camera.Move(Json.Real(pose, "x") ?? double.NaN, Json.Real(pose, "y") ?? double.NaN,
                    Json.Real(pose, "z") ?? double.NaN);
                return camera;
            case "chat":
                var since = Value(values, "since");
                var chat = new ChatClient(url, name, options,
                    since == null ? (long?)null : long.Parse(since, CultureInfo.InvariantCulture));
                chat.MessageReceived += message => Write("message", "message", message.Text,
                    "id", message.Id.ToString(CultureInfo.InvariantCulture), "tag", message.Tag, "mine", message.Mine);
                chat.Gap += sentence => Write("gap");
                chat.OutgoingChanged += message =>
                {
                    if (message.State == OutgoingState.Kept) Write("sent", "tag", message.Tag);
                };
                send = message => chat.Say(Json.Text(message, "message"));
                return chat;
            case "headset":
                var headset = new HeadsetClient(url, name, null, options);
                headset.Assigned += assignment => Write("assignment",
                    "quiz_id", assignment.QuizIds, "action_id", assignment.ActionId);
                return headset;
            case "push":
                var push = new PushClient(url, name, options);
                push.Published += message => Output.WriteLine("{\"event\":\"push\",\"data\":" + message.Json + "}");
                return push;
            default:
                throw new ArgumentException("The kit for Unity has no " + kind + ".");
        }
    }

    private static void Obey(Connection client, Dictionary<string, object> command,
        Action<Dictionary<string, object>> send)
    {
        if (command == null) Console.Error.WriteLine("no command");
        else if (command.ContainsKey("send"))
        {
            var frame = (Dictionary<string, object>)command["send"];
            for (var times = Json.Whole(command, "times") ?? 1; times > 0; times--) send(frame);
        }
        else if (command.ContainsKey("token")) _token = Json.Text(command, "token");
        else if (command.ContainsKey("close")) client.Close();
        else Console.Error.WriteLine("no such command");
    }

    private static void Tell(ConnectionState state)
    {
        var error = state.Error;
        var name = state.Name == StateName.Idle ? "closed" : state.Name.ToString().ToLowerInvariant();
        Write("state", "name", name, "again_in", state.Name == StateName.Lost ? (double?)state.AgainIn : null,
            "error", error == null ? "" : error.Code, "status", error == null ? 0 : error.Status,
            "close_code", error == null ? 0 : error.CloseCode, "message", error == null ? "" : error.Message);
    }

    private static void Write(string name, params object[] members)
    {
        var line = new StringBuilder("{\"event\":").Append(Json.Quote(name));
        for (var i = 0; i < members.Length; i += 2)
        {
            line.Append(',').Append(Json.Quote((string)members[i])).Append(':').Append(Text(members[i + 1]));
        }
        Output.WriteLine(line.Append('}').ToString());
    }

    private static string Text(object value)
    {
        if (value is string) return Json.Quote((string)value);
        if (value is bool) return (bool)value ? "true" : "false";
        if (value is int[]) return "[" + string.Join(",", (int[])value) + "]";
        if (value is int) return ((int)value).ToString(CultureInfo.InvariantCulture);
        return value == null ? "null" : Json.Number((double)value);
    }

    private static string Value(Dictionary<string, string> values, string name)
    {
        string value;
        return values.TryGetValue(name, out value) ? value : null;
    }

    // The main thread of an app: one thing after the other.
    private sealed class Loop : SynchronizationContext
    {
        private readonly BlockingCollection<Action> _posted = new BlockingCollection<Action>();

        public bool Ended;

        public override void Post(SendOrPostCallback callback, object state)
        {
            _posted.Add(() => callback(state));
        }

        public void Run(Action update)
        {
            while (!Ended)
            {
                Action action;
                if (_posted.TryTake(out action, 5)) action();
                update();
            }
        }
    }
}

// As in the tutorials of NativeWebSocket: nothing but a URL, and frames as docs/protocol.md has them.
// In Unity, Update() would do what the loop does.

using System;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using NativeWebSocket;

public class Program
{
    public static void Main(string[] args)
    {
        var websocket = new WebSocket(args[0]);
        var closed = false;
        websocket.OnOpen += () =>
        {
            if (args.Length > 1) websocket.SendText(args[1]);
        };
        websocket.OnMessage += bytes => Console.WriteLine(Encoding.UTF8.GetString(bytes));
        websocket.OnClose += code =>
        {
            Console.WriteLine("closed " + (int)code);
            closed = true;
        };
        websocket.Connect();
        var leave = Task.Run((Func<string>)Console.ReadLine);
        while (!closed)
        {
            websocket.DispatchMessageQueue();
            Thread.Sleep(5);
            if (leave.IsCompleted) websocket.Close();
        }
    }
}

// As in the tutorials of websocket-sharp: nothing but a URL, and frames as docs/protocol.md has them.

using System;
using WebSocketSharp;

public class Program
{
    public static void Main(string[] args)
    {
        using (var ws = new WebSocket(args[0]))
        {
            ws.OnMessage += (sender, e) => Console.WriteLine(e.Data);
            ws.OnClose += (sender, e) => Console.WriteLine("closed " + e.Code);
            ws.Connect();
            if (args.Length > 1) ws.Send(args[1]);
            Console.ReadLine();
            ws.Close();
        }
    }
}

// Reads each line of stdin with the JSON reader of clients/unity and writes it anew, or "wrong".

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text;
using Relayd;

public static class Reading
{
    public static void Main()
    {
        var input = new StreamReader(Console.OpenStandardInput(), new UTF8Encoding(false));
        var output = new StreamWriter(Console.OpenStandardOutput(), new UTF8Encoding(false));
        string line;
        while ((line = input.ReadLine()) != null)
        {
            string written;
            try
            {
                written = Write(Json.Parse(line));
            }
            catch (FormatException)
            {
                written = "wrong";
            }
            output.WriteLine(written);
        }
        output.Flush();
    }

    private static string Write(object value)
    {
        var members = value as Dictionary<string, object>;
        if (members != null)
        {
            return "{" + string.Join(",", members.Select(each => Json.Quote(each.Key) + ":" + Write(each.Value))) + "}";
        }
        var items = value as List<object>;
        if (items != null) return "[" + string.Join(",", items.Select(Write)) + "]";
        if (value == null) return "null";
        if (value is bool) return (bool)value ? "true" : "false";
        if (value is long) return value.ToString();
        return value is double ? Json.Number((double)value) : Json.Quote((string)value);
    }
}

using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace Relayd
{
    /// <summary>The JSON of RFC 8259, as far as relayd's frames need it, without a library.</summary>
    /// <remarks>
    /// An object is a Dictionary&lt;string, object&gt;, an array a List&lt;object&gt;, a number a long where it is
    /// whole and fits, else a double.
    /// </remarks>
    public static class Json
    {
        private const int Deepest = 64;

        /// <summary>Reads one value.</summary>
        /// <exception cref="FormatException">It is no JSON, or nested more than 64 deep.</exception>
        public static object Parse(string text)
        {
            var reader = new Reader(text);
            return reader.ReadAll();
        }

        /// <summary>Reads one object; null if the text is anything else.</summary>
        public static Dictionary<string, object> ParseObject(string text)
        {
            try
            {
                return Parse(text) as Dictionary<string, object>;
            }
            catch (FormatException)
            {
                return null;
            }
        }

        /// <summary>A text in quotes.</summary>
        public static string Quote(string text)
        {
            var quoted = new StringBuilder(text.Length + 2).Append('"');
            for (var i = 0; i < text.Length; i++)
            {
                var c = text[i];
                if (c == '"' || c == '\\') quoted.Append('\\').Append(c);
                else if (c < ' ') quoted.Append("\\u").Append(((int)c).ToString("x4"));
                // Half a surrogate pair is no UTF-8.
                else if (char.IsSurrogate(c) && !char.IsSurrogatePair(text, i)
                    && (i == 0 || !char.IsSurrogatePair(text, i - 1))) quoted.Append('\ufffd');
                else quoted.Append(c);
            }
            return quoted.Append('"').ToString();
        }

        /// <summary>A number that is read as the same double; null for one that JSON does not have.</summary>
        public static string Number(double value)
        {
            if (double.IsNaN(value) || double.IsInfinity(value)) return "null";
            return value.ToString("R", CultureInfo.InvariantCulture);
        }

        /// <summary>As above, with the few digits of a float.</summary>
        public static string Number(float value)
        {
            if (float.IsNaN(value) || float.IsInfinity(value)) return "null";
            return value.ToString("R", CultureInfo.InvariantCulture);
        }

        /// <summary>The member if it is a string, else the empty one.</summary>
        public static string Text(Dictionary<string, object> of, string name)
        {
            object value;
            return of.TryGetValue(name, out value) ? value as string ?? "" : "";
        }

        /// <summary>The member if it is a number, else null.</summary>
        public static double? Real(Dictionary<string, object> of, string name)
        {
            object value;
            if (!of.TryGetValue(name, out value)) return null;
            if (value is long) return (long)value;
            return value as double?;
        }

        /// <summary>The member if it is a whole number, else null.</summary>
        public static long? Whole(Dictionary<string, object> of, string name)
        {
            object value;
            return of.TryGetValue(name, out value) ? value as long? : null;
        }

        private struct Reader
        {
            private readonly string _text;
            private int _at;
            private int _depth;

            public Reader(string text)
            {
                _text = text;
                _at = 0;
                _depth = 0;
            }

            public object ReadAll()
            {
                var value = ReadValue();
                SkipSpace();
                if (_at != _text.Length) throw Wrong();
                return value;
            }

            private object ReadValue()
            {
                SkipSpace();
                if (_at == _text.Length) throw Wrong();
                switch (_text[_at])
                {
                    case '{': return ReadObject();
                    case '[': return ReadArray();
                    case '"': return ReadString();
                    case 't': return ReadWord("true", true);
                    case 'f': return ReadWord("false", false);
                    case 'n': return ReadWord("null", null);
                    default: return ReadNumber();
                }
            }

            private Dictionary<string, object> ReadObject()
            {
                var members = new Dictionary<string, object>();
                Enter();
                if (!Found('}'))
                {
                    do
                    {
                        SkipSpace();
                        var name = ReadString();
                        if (!Found(':')) throw Wrong();
                        members[name] = ReadValue();
                    }
                    while (Found(','));
                    if (!Found('}')) throw Wrong();
                }
                _depth--;
                return members;
            }

            private List<object> ReadArray()
            {
                var items = new List<object>();
                Enter();
                if (!Found(']'))
                {
                    do items.Add(ReadValue());
                    while (Found(','));
                    if (!Found(']')) throw Wrong();
                }
                _depth--;
                return items;
            }

            private string ReadString()
            {
                if (!Found('"')) throw Wrong();
                StringBuilder read = null;
                for (var start = _at; ; _at++)
                {
                    if (_at == _text.Length || _text[_at] < ' ') throw Wrong();
                    if (_text[_at] == '"')
                    {
                        _at++;
                        return read == null ? _text.Substring(start, _at - 1 - start) : read.ToString();
                    }
                    if (_text[_at] == '\\')
                    {
                        if (read == null) read = new StringBuilder(_text, start, _at - start, 64);
                        read.Append(ReadEscape());
                    }
                    else if (read != null)
                    {
                        read.Append(_text[_at]);
                    }
                }
            }

            private char ReadEscape()
            {
                if (++_at == _text.Length) throw Wrong();
                switch (_text[_at])
                {
                    case '"': return '"';
                    case '\\': return '\\';
                    case '/': return '/';
                    case 'b': return '\b';
                    case 'f': return '\f';
                    case 'n': return '\n';
                    case 'r': return '\r';
                    case 't': return '\t';
                    case 'u':
                        ushort code;
                        if (_at + 4 >= _text.Length || !ushort.TryParse(_text.Substring(_at + 1, 4),
                            NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out code)) throw Wrong();
                        _at += 4;
                        return (char)code;
                    default: throw Wrong();
                }
            }

            private object ReadWord(string word, object value)
            {
                if (string.CompareOrdinal(_text, _at, word, 0, word.Length) != 0) throw Wrong();
                _at += word.Length;
                return value;
            }

            private object ReadNumber()
            {
                var start = _at;
                var whole = true;
                if (Next() == '-') _at++;
                if (Next() == '0') _at++;
                else SkipDigits();
                if (Next() == '.')
                {
                    whole = false;
                    _at++;
                    SkipDigits();
                }
                if (Next() == 'e' || Next() == 'E')
                {
                    whole = false;
                    _at++;
                    if (Next() == '+' || Next() == '-') _at++;
                    SkipDigits();
                }
                var digits = _text.Substring(start, _at - start);
                long integer;
                if (whole && long.TryParse(digits, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out integer))
                {
                    return integer;
                }
                double real;
                // Old runtimes say that a number is too large, newer ones that it is infinite.
                if (!double.TryParse(digits, NumberStyles.Float, CultureInfo.InvariantCulture, out real)
                    || double.IsInfinity(real)) throw Wrong();
                return real;
            }

            private void SkipDigits()
            {
                var start = _at;
                while (Next() >= '0' && Next() <= '9') _at++;
                if (_at == start) throw Wrong();
            }

            private char Next()
            {
                return _at < _text.Length ? _text[_at] : '\0';
            }

            private bool Found(char c)
            {
                SkipSpace();
                if (Next() != c || _at == _text.Length) return false;
                _at++;
                return true;
            }

            private void Enter()
            {
                _at++;
                if (++_depth > Deepest) throw Wrong();
            }

            private void SkipSpace()
            {
                while (_at < _text.Length && " \t\r\n".IndexOf(_text[_at]) >= 0) _at++;
            }

            private FormatException Wrong()
            {
                return new FormatException("No JSON at character " + _at + ".");
            }
        }
    }
}

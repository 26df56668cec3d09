using System;
using System.Collections.Generic;

namespace Relayd
{
    /// <summary>A refusal, a close or an error frame of relayd (docs/protocol.md, "Codes" and "Close codes").</summary>
    public sealed class RelaydException : Exception
    {
        public RelaydException(string message, string code = "", int status = 0, int closeCode = 0,
            double retryAfter = 0, string tag = "")
            : base(!string.IsNullOrEmpty(message) ? message
                : !string.IsNullOrEmpty(code) ? code : "The connection ended (" + closeCode + ").")
        {
            Code = code;
            Status = status;
            CloseCode = closeCode;
            RetryAfter = retryAfter;
            Tag = tag;
        }

        /// <summary>The stable code, such as "forbidden" or "replaced"; empty for an end without one.</summary>
        public string Code { get; private set; }

        /// <summary>The HTTP status of a refusal, or 0.</summary>
        public int Status { get; private set; }

        /// <summary>Of the close frame; 1006 if none came; 0 for an error frame.</summary>
        public int CloseCode { get; private set; }

        /// <summary>Seconds that the server asks to wait, or 0.</summary>
        public double RetryAfter { get; private set; }

        /// <summary>That of the message which the error is about, or empty.</summary>
        public string Tag { get; private set; }

        internal static RelaydException Of(Dictionary<string, object> frame, int status = 0, int closeCode = 0)
        {
            return new RelaydException(Json.Text(frame, "message"), Json.Text(frame, "error"), status, closeCode,
                Json.Real(frame, "retry_after") ?? 0, Json.Text(frame, "tag"));
        }

        internal static RelaydException OfClose(int closeCode, string reason, int status)
        {
            var code = Codes.ErrorBefore(closeCode, reason);
            if (code != "") reason = "The server " + (status > 0 ? "refused" : "closed") + " the connection: " + reason + ".";
            return new RelaydException(reason, code, status, closeCode);
        }
    }

    /// <summary>What the codes of errors say about a close, where a library shows neither its code nor its reason.</summary>
    internal static class Codes
    {
        private static readonly Dictionary<string, int> CloseCodes = new Dictionary<string, int>
        {
            { "replaced", 4001 }, { "no_pong", 4002 }, { "too_slow", 4003 }, { "rate_limited", 4004 },
            { "token_expired", 4005 }, { "token_revoked", 4005 },
            { "bad_name", 4400 }, { "bad_request", 4400 }, { "bad_secret", 4400 }, { "bad_since", 4400 },
            { "bad_uuid", 4400 }, { "no_unity", 4400 }, { "unauthorized", 4401 }, { "forbidden", 4403 },
            { "banned", 4403 }, { "origin_not_allowed", 4403 }, { "wrong_secret", 4403 }, { "not_found", 4404 },
            { "host_not_allowed", 4421 }, { "too_many_connections", 4429 }, { "quota_exceeded", 4429 },
            { "too_many_from_address", 4429 }, { "too_many_requests", 4429 }, { "internal_error", 4500 },
            { "database_unavailable", 4503 }, { "misconfigured", 4503 }, { "overloaded", 4503 },
            { "draining", 4503 }, { "keys_unavailable", 4503 }, { "store_unavailable", 4503 },
        };

        /// <summary>The close code that follows an error frame; 0 if the code of the error does not tell.</summary>
        public static int CloseCodeAfter(string error)
        {
            int code;
            return CloseCodes.TryGetValue(error, out code) ? code : 0;
        }

        /// <summary>The code of the error before a close, for a library that lost that frame.</summary>
        public static string ErrorBefore(int closeCode, string reason)
        {
            switch (closeCode)
            {
                case 4001: return "replaced";
                case 4002: return "no_pong";
                case 4003: return "too_slow";
                case 4004: return "rate_limited";
                case 4005: return reason == "token revoked" ? "token_revoked" : "token_expired";
                default: return IsRefusal(closeCode) ? reason : "";
            }
        }

        /// <summary>Whether a close code stands for a refused handshake.</summary>
        public static bool IsRefusal(int closeCode)
        {
            return closeCode >= 4400 && closeCode < 4600;
        }

        /// <summary>Whether an error is about the connection, and not about a message.</summary>
        public static bool IsOfConnection(string error)
        {
            return error == "kicked" || error == "banned" || CloseCodeAfter(error) / 10 == 400;
        }
    }
}

#if !UNITY_WEBGL || UNITY_EDITOR
using System;
using System.Net;

namespace Relayd
{
    /// <summary>Whether anything answers at an address.</summary>
    internal static class Health
    {
        /// <summary>Blocks until there is an answer, whatever its status, or for 8 seconds.</summary>
        public static bool Answers(string url)
        {
            try
            {
                var request = (HttpWebRequest)WebRequest.Create(url);
                request.KeepAlive = false;
                request.AllowAutoRedirect = false;
                request.Timeout = 8000;
                request.GetResponse().Close();
                return true;
            }
            catch (WebException error)
            {
                var answer = error.Response;
                if (answer != null) answer.Close();
                return answer != null;
            }
            catch (Exception)
            {
                return false;
            }
        }
    }
}
#endif

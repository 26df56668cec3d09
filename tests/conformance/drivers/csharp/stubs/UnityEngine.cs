// As much of UnityEngine as clients/unity and its sample use, so that they compile and run without
// Unity. Player plays a scene: it calls what Unity would call, in Unity's order, on one thread.

using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Reflection;

namespace UnityEngine.Events
{
    public class UnityEvent<T>
    {
        private readonly List<Action<T>> _listeners = new List<Action<T>>();

        public void AddListener(Action<T> listener)
        {
            _listeners.Add(listener);
        }

        public void Invoke(T argument)
        {
            foreach (var listener in _listeners.ToArray()) listener(argument);
        }
    }
}

namespace UnityEngine
{
    public enum PrimitiveType
    {
        Sphere,
    }

    public struct Vector3
    {
        public float x, y, z;

        public Vector3(float x, float y, float z)
        {
            this.x = x;
            this.y = y;
            this.z = z;
        }

        public static Vector3 zero
        {
            get { return new Vector3(); }
        }

        public static Vector3 one
        {
            get { return new Vector3(1, 1, 1); }
        }

        public static Vector3 operator +(Vector3 a, Vector3 b)
        {
            return new Vector3(a.x + b.x, a.y + b.y, a.z + b.z);
        }

        public static Vector3 operator *(Vector3 a, float by)
        {
            return new Vector3(a.x * by, a.y * by, a.z * by);
        }

        public static Vector3 Lerp(Vector3 a, Vector3 b, float share)
        {
            return a * (1 - share) + b * share;
        }
    }

    public struct Quaternion
    {
        public static Quaternion Euler(float x, float y, float z)
        {
            return new Quaternion();
        }
    }

    public static class Mathf
    {
        public static float Max(float a, float b)
        {
            return Math.Max(a, b);
        }

        public static float Clamp01(float value)
        {
            return Math.Max(0, Math.Min(1, value));
        }

        public static float Cos(float angle)
        {
            return (float)Math.Cos(angle);
        }

        public static float Sin(float angle)
        {
            return (float)Math.Sin(angle);
        }
    }

    public static class Time
    {
        public static float time, deltaTime;

        public static float unscaledTime
        {
            get { return time; }
        }

        public static float unscaledDeltaTime
        {
            get { return deltaTime; }
        }
    }

    public static class Debug
    {
        public static void Log(string message)
        {
            Console.Error.WriteLine(message);
        }

        public static void LogWarning(object message)
        {
            Console.Error.WriteLine(message);
        }

        public static void LogWarning(string message, Object context)
        {
            Console.Error.WriteLine(message);
        }

        public static void LogError(string message, Object context)
        {
            Console.Error.WriteLine(message);
        }

        public static void LogException(Exception exception)
        {
            Console.Error.WriteLine(exception);
        }
    }

    public static class Input
    {
        public static float GetAxis(string name)
        {
            return 0;
        }
    }

    public sealed class TooltipAttribute : Attribute
    {
        public TooltipAttribute(string text)
        {
        }
    }

    public sealed class AddComponentMenuAttribute : Attribute
    {
        public AddComponentMenuAttribute(string name)
        {
        }
    }

    public class Object
    {
        public string name = "";

        public static GameObject Instantiate(GameObject original, Transform parent)
        {
            var copy = new GameObject(original.name);
            copy.transform.position = original.transform.position;
            return copy;
        }

        public static void Destroy(GameObject gone)
        {
            gone.SetActive(false);
            Player.Objects.Remove(gone);
        }
    }

    public class Component : Object
    {
        public GameObject gameObject { get; internal set; }

        public Transform transform
        {
            get { return gameObject.transform; }
        }
    }

    public sealed class Transform : Component
    {
        public Vector3 position, localScale;
        public Quaternion rotation;
    }

    public sealed class Camera : Component
    {
        public static Camera main
        {
            get { return null; }
        }
    }

    public class MonoBehaviour : Component
    {
        private bool _enabled;
        private bool _started;

        public void InvokeRepeating(string method, float after, float every)
        {
        }

        internal void Turn(bool on)
        {
            if (on == _enabled) return;
            _enabled = on;
            Call(on ? "OnEnable" : "OnDisable");
        }

        internal void Frame()
        {
            if (!_enabled) return;
            if (!_started)
            {
                _started = true;
                Call("Start");
            }
            Call("Update");
        }

        private void Call(string name)
        {
            for (var type = GetType(); type != null; type = type.BaseType)
            {
                var method = type.GetMethod(name, BindingFlags.Instance | BindingFlags.DeclaredOnly
                    | BindingFlags.Public | BindingFlags.NonPublic);
                if (method == null) continue;
                method.Invoke(this, null);
                return;
            }
        }
    }

    public sealed class GameObject : Object
    {
        private readonly List<MonoBehaviour> _components = new List<MonoBehaviour>();
        private bool _active = true;

        public GameObject(string name)
        {
            this.name = name;
            transform = new Transform { gameObject = this };
            Player.Objects.Add(this);
        }

        public Transform transform { get; private set; }

        public bool activeSelf
        {
            get { return _active; }
        }

        public static GameObject CreatePrimitive(PrimitiveType type)
        {
            return new GameObject(type.ToString());
        }

        public T AddComponent<T>() where T : MonoBehaviour, new()
        {
            var component = new T { gameObject = this };
            _components.Add(component);
            component.Turn(_active);
            return component;
        }

        public void SetActive(bool active)
        {
            _active = active;
            foreach (var component in _components) component.Turn(active);
        }

        internal void Frame()
        {
            foreach (var component in _components.ToArray()) component.Frame();
        }
    }

    /// <summary>Not of Unity: plays the scene.</summary>
    public static class Player
    {
        internal static readonly List<GameObject> Objects = new List<GameObject>();

        /// <summary>100 frames a second until a condition holds, or for so many seconds.</summary>
        public static bool Play(double seconds, Func<bool> until)
        {
            var clock = Stopwatch.StartNew();
            var begin = Time.time;
            while (clock.Elapsed.TotalSeconds < seconds)
            {
                var now = begin + (float)clock.Elapsed.TotalSeconds;
                Time.deltaTime = now - Time.time;
                Time.time = now;
                foreach (var each in Objects.ToArray()) each.Frame();
                if (until()) return true;
                System.Threading.Thread.Sleep(10);
            }
            return false;
        }

        /// <summary>The objects of a name that are to be seen.</summary>
        public static IList<GameObject> Find(string name)
        {
            return Objects.Where(each => each.name == name && each.activeSelf).ToList();
        }
    }
}

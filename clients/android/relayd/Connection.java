package relayd;

import java.net.UnknownServiceException;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.Executor;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.ScheduledThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import okhttp3.HttpUrl;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;
import org.json.JSONException;
import org.json.JSONObject;

/**
 * One path of relayd, over OkHttp. It connects again by itself, after a random wait that doubles from
 * try to try ("full jitter"), as docs/protocol.md asks for under Reconnecting.
 *
 * <p>Methods may be called on any thread. Events come on the executor of the {@link Options}, one
 * after the other if that runs one after the other. After {@link #close} none comes any more but the
 * state IDLE.
 *
 * <p>Nothing here is null, neither an argument nor a result, unless its comment says "or null". No
 * method throws a checked exception.
 */
public abstract class Connection implements AutoCloseable {
    // Waits, in milliseconds.
    private static final long FIRST_WAIT = 1000; // the longest one before the first try
    private static final long LONGEST_WAIT = 30_000;
    private static final long RETRY_AFTER = 5000; // where a refusal of 429 or 503 does not say how long
    private static final int SLOWER = 3; // after 4003 and 4004, the wait is that of so many tries later
    private static final long CONNECT_LIMIT = 15_000;
    private static final long STABLE_AFTER = 5000; // only then the next wait is the first one again
    private static final long HEARTBEAT = 20_000; // between two pings; without a pong by the next, it is lost
    private static final long LEAST_LIMIT = 2000; // of a limit in a test: its machine may be busy

    private static final int MOST_EVENTS = 1000; // that wait for the executor; then nothing is read
    private static final int NO_CLOSE_FRAME = 1006;
    private static final long LONGEST_BODY = 8192; // of a refusal, in bytes

    private static final Random RANDOM = new Random();
    private static final ScheduledThreadPoolExecutor TIMERS = timers();

    /** A handler of one kind of event; a lambda in Java and Kotlin. */
    public interface Listener<T> {
        void on(T event);
    }

    /** Where tokens come from. It is called on a thread of its own, so it may ask a server. */
    public interface TokenSource {
        /**
         * Returns a JWT, or null for none.
         *
         * @param renew whether the last one has expired, was revoked or was not accepted.
         * @throws Exception any: the client tries again later, or is refused if the token was bad.
         */
        String token(boolean renew) throws Exception;
    }

    /** What a connection is doing. */
    public enum StateName {
        /** Not connected, and will not be until connect(). */
        IDLE,
        CONNECTING,
        CONNECTED,
        /** Connects again by itself. */
        LOST,
        /** As LOST, since the other side of the pair is not there yet. */
        WAITING,
        /** Needs a change, or a person who asks for it: connect() tries again. */
        REFUSED
    }

    /** What a connection is doing, and why. */
    public static final class State {
        public final StateName name;
        /** Why it is LOST, WAITING or REFUSED; or null. */
        public final RelaydException error;
        /** Milliseconds from the change to the next try, while it is LOST or WAITING; else 0. */
        public final long againIn;

        State(StateName name, RelaydException error, long againIn) {
            this.name = name;
            this.error = error;
            this.againIn = againIn;
        }

        @Override
        public String toString() {
            return error == null ? name.toString() : name + ": " + error.getMessage();
        }
    }

    /** A refusal, a close or an error frame. It is handed to listeners, never thrown. */
    public static final class RelaydException extends RuntimeException {
        private static final long serialVersionUID = 1;

        /** The stable code of docs/protocol.md, such as "forbidden"; empty for an end without one. */
        public final String code;
        /** The HTTP status of a refusal, or 0. */
        public final int status;
        /** The code of the close frame, 1006 if none came; 0 for a refusal and an error frame. */
        public final int closeCode;
        /** Seconds that the server asks to wait, or 0. */
        public final double retryAfter;
        /** That of the request or message that the error is about, or empty. */
        public final String tag;

        RelaydException(String message, String code, int status, int closeCode, double retryAfter, String tag) {
            super(!message.isEmpty() ? message : !code.isEmpty() ? code : "The connection ended (" + closeCode + ").");
            this.code = code;
            this.status = status;
            this.closeCode = closeCode;
            this.retryAfter = retryAfter;
            this.tag = tag;
        }

        static RelaydException of(JSONObject frame) {
            return of(frame, 0, 0, 0);
        }

        static RelaydException of(JSONObject frame, int status, int closeCode, double retryAfter) {
            return new RelaydException(text(frame, "message"), text(frame, "error"), status, closeCode,
                    retryAfter, text(frame, "tag"));
        }
    }

    /** How a client connects; may be shared by several. */
    public static final class Options {
        final Executor executor;
        final Map<String, String> query = new LinkedHashMap<>();
        TokenSource token;
        OkHttpClient client;
        double pace = 1;

        /**
         * @param executor where events come: {@code new Handler(Looper.getMainLooper())::post} on
         *     Android, {@code Executors.newSingleThreadExecutor()} elsewhere.
         */
        public Options(Executor executor) {
            this.executor = executor;
        }

        /** Sends a token that does not change. */
        public Options token(String token) {
            return tokens(renew -> token);
        }

        /** Sends a token that is asked for before each try. */
        public Options tokens(TokenSource source) {
            this.token = source;
            return this;
        }

        /** The secret of a pair, 16 to 256 characters (docs/protocol.md, "A secret"). */
        public Options secret(String secret) {
            return query("secret", secret);
        }

        /** Adds a parameter of the path, such as {@code senders=1} or {@code presence=1}. */
        public Options query(String name, String value) {
            query.put(name, value);
            return this;
        }

        /** The app's own OkHttpClient, with its threads, proxies and certificates. */
        public Options client(OkHttpClient client) {
            this.client = client;
            return this;
        }

        /** For tests: every wait is shorter by this factor below 1. */
        public Options pace(double pace) {
            this.pace = pace;
            return this;
        }
    }

    /** Held wherever the fields below are used; never while a listener runs. */
    final Object lock = new Object();

    private final Options options;
    private final OkHttpClient client;
    private final HttpUrl url;
    private final List<Listener<State>> stateListeners = new CopyOnWriteArrayList<>();
    private final List<Listener<RelaydException>> problemListeners = new CopyOnWriteArrayList<>();
    private final List<Listener<JSONObject>> frameListeners = new CopyOnWriteArrayList<>();
    private final Map<String, ScheduledFuture<?>> timers = new HashMap<>();
    private volatile State state = new State(StateName.IDLE, null, 0);
    private volatile int closes; // events from before the last close() are dropped
    private volatile Attempt attempt; // the socket of now, or null
    private int changes; // of connect(), close() and ends: what was begun before one of them is void
    private int tries;
    private String offered; // the token of the last try
    private String fresh; // a new one for the next try
    private JSONObject lastError; // an error frame, if it was the last frame
    private final Object queue = new Object();
    private int waiting; // events for the executor; under `queue`

    /**
     * @param server the address of relayd, wss:, ws:, https: or http:, perhaps with a proxy's folder.
     * @param name that in the path, or empty for the default one.
     * @throws IllegalArgumentException server is no such address.
     */
    Connection(String server, String kind, String name, Options options) {
        HttpUrl base = HttpUrl.parse(server.replaceFirst("^(?i)ws", "http"));
        if (base == null) throw new IllegalArgumentException("An address such as wss://relay.example is needed, not " + server);
        HttpUrl.Builder path = base.newBuilder().addPathSegments("ws/" + kind);
        if (!name.isEmpty()) path.addPathSegment(name);
        url = path.build();
        this.options = options;
        client = (options.client == null ? Shared.CLIENT : options.client).newBuilder()
                .pingInterval(limited(HEARTBEAT), TimeUnit.MILLISECONDS)
                .build();
    }

    /** Hears each change of {@link #state}. */
    public final void onState(Listener<State> listener) {
        stateListeners.add(listener);
    }

    /** Hears each error about what this client sent, or about its connection. */
    public final void onProblem(Listener<RelaydException> listener) {
        problemListeners.add(listener);
    }

    /** Hears each object that came and has no event of its own. */
    public final void onFrame(Listener<JSONObject> listener) {
        frameListeners.add(listener);
    }

    /** What it is doing now. */
    public final State state() {
        return state;
    }

    /** Connects now, whatever is under way. */
    public final void connect() {
        synchronized (lock) {
            leave(false);
            become(StateName.CONNECTING, null, 0);
            String token = fresh;
            fresh = null;
            if (token != null || options.token == null) {
                open(token);
            } else {
                askForToken(false, (given, failure) -> {
                    if (failure == null) open(given);
                    else retry(new RelaydException(failure.toString(), "no_token", 0, 0, 0, ""), 0);
                });
            }
        }
    }

    /** Ends the connection for good, or until connect(). */
    @Override
    public final void close() {
        synchronized (lock) {
            leave(true);
            closes++;
            if (state.name != StateName.IDLE) become(StateName.IDLE, null, 0);
        }
    }

    /** Connects now if it was going to later anyway: the network is back, or somebody looks. */
    public final void hurry() {
        synchronized (lock) {
            if (state.name == StateName.LOST || state.name == StateName.WAITING) connect();
        }
    }

    // Below: for the classes of the kinds of paths. All is called with the lock held.

    /** A frame that came. */
    void received(JSONObject frame) {
        if (isError(frame)) tell(problemListeners, RelaydException.of(frame));
        else tell(frameListeners, frame);
    }

    /** Whether a frame is an error of relayd. */
    boolean isError(JSONObject frame) {
        return !text(frame, "error").isEmpty();
    }

    /** The state has changed; called before anybody is told. */
    void changed(State now) {}

    /** Adds parameters of the path that change from try to try. */
    void addQuery(HttpUrl.Builder url) {}

    /** How long to wait after an end that is not final for this kind, in ms; -1 for any other. */
    long patience(RelaydException error) {
        return -1;
    }

    /** The state while it waits as {@link #patience} says. */
    StateName patient() {
        return StateName.WAITING;
    }

    /** Sends a text message; returns whether there was a connection for it. */
    final boolean send(String text) {
        Attempt current = attempt;
        return current != null && current.open && current.socket.send(text);
    }

    /** Bytes that were sent and have not left this device. */
    final long buffered() {
        Attempt current = attempt;
        return current == null || current.socket == null ? 0 : current.socket.queueSize();
    }

    /** Gives up a connection that seems dead, without waiting for the other side to agree. */
    final void drop() {
        leave(false);
        retry(null, 0);
    }

    /** Runs an action later, in place of an earlier one of this name. */
    final void after(String name, long wait, Runnable action) {
        schedule(name, paced(wait), action);
    }

    /** As after(), for a limit to what takes its time on a busy machine. */
    final void limit(String name, long wait, Runnable action) {
        schedule(name, limited(wait), action);
    }

    final void cancel(String name) {
        ScheduledFuture<?> timer = timers.remove(name);
        if (timer != null) timer.cancel(false);
    }

    final <T> void tell(List<Listener<T>> listeners, T event) {
        if (listeners.isEmpty()) return;
        int told = closes;
        synchronized (queue) {
            waiting++;
        }
        try {
            options.executor.execute(() -> {
                synchronized (queue) {
                    waiting--;
                    queue.notifyAll();
                }
                for (Listener<T> listener : listeners) {
                    if (told == closes) listener.on(event);
                }
            });
        } catch (RejectedExecutionException ended) {
            synchronized (queue) { // the app has shut its executor down: nobody listens
                waiting--;
            }
        }
    }

    static String text(JSONObject frame, String member) {
        Object value = frame.opt(member);
        return value instanceof String ? (String) value : "";
    }

    private static ScheduledThreadPoolExecutor timers() {
        ScheduledThreadPoolExecutor pool = new ScheduledThreadPoolExecutor(1, action -> {
            Thread thread = new Thread(action, "relayd timers");
            thread.setDaemon(true);
            return thread;
        });
        pool.setRemoveOnCancelPolicy(true);
        return pool;
    }

    /** Made when the first client needs it. */
    private static final class Shared {
        static final OkHttpClient CLIENT = new OkHttpClient();
    }

    private interface Taker {
        void take(String token, Exception failure);
    }

    private long paced(long wait) {
        return (long) (wait * options.pace);
    }

    private long limited(long wait) {
        return Math.max(Math.min(wait, LEAST_LIMIT), paced(wait));
    }

    private void schedule(String name, long wait, Runnable action) {
        cancel(name);
        int begun = changes;
        timers.put(name, TIMERS.schedule(() -> {
            synchronized (lock) {
                if (begun == changes) action.run();
            }
        }, wait, TimeUnit.MILLISECONDS));
    }

    private void askForToken(boolean renew, Taker then) {
        int begun = changes;
        client.dispatcher().executorService().execute(() -> {
            String token = null;
            Exception failure = null;
            try {
                token = options.token.token(renew);
            } catch (Exception error) {
                failure = error;
            }
            synchronized (lock) {
                if (begun == changes) then.take(token, failure);
            }
        });
    }

    private void open(String token) {
        offered = token;
        HttpUrl.Builder target = url.newBuilder();
        for (Map.Entry<String, String> each : options.query.entrySet()) {
            target.addQueryParameter(each.getKey(), each.getValue());
        }
        addQuery(target);
        Request.Builder request = new Request.Builder().url(target.build());
        try {
            if (token != null && !token.isEmpty()) request.header("Authorization", "Bearer " + token);
        } catch (IllegalArgumentException error) { // a character that no header may have
            become(StateName.REFUSED, new RelaydException("The token is none.", "cannot_connect", 0, 0, 0, ""), 0);
            return;
        }
        Attempt current = new Attempt();
        attempt = current;
        current.socket = client.newWebSocket(request.build(), current);
        limit("limit", CONNECT_LIMIT, this::drop);
    }

    private void opened() {
        cancel("limit");
        after("stable", STABLE_AFTER, () -> tries = 0);
        become(StateName.CONNECTED, null, 0);
    }

    private void ended(RelaydException error) {
        leave(true);
        int status = error.status;
        int code = error.closeCode;
        long patience = patience(error);
        if (patience >= 0) {
            later(patient(), error, patience / 2 + (long) (RANDOM.nextDouble() * patience / 2));
        } else if (status == 429 || status == 503) {
            retry(error, error.retryAfter > 0 ? (long) (error.retryAfter * 1000) : RETRY_AFTER);
        } else if (status == 401 || code == 4005) {
            renew(error);
        } else if ((status >= 400 && status < 500 && status != 408) || isFinal(code)) {
            become(StateName.REFUSED, error, 0);
        } else {
            if (code == 4003 || code == 4004) tries = Math.max(tries, SLOWER);
            retry(error, 0);
        }
    }

    private static boolean isFinal(int closeCode) {
        return closeCode == 1000 || closeCode == 1002 || closeCode == 1007 || closeCode == 1009
                || closeCode == 4001 || (closeCode >= 4400 && closeCode < 4500);
    }

    // Asks for a new token; without one, a new try would end in the same way.
    private void renew(RelaydException error) {
        if (options.token == null) {
            become(StateName.REFUSED, error, 0);
            return;
        }
        become(StateName.LOST, error, 0);
        askForToken(true, (token, failure) -> {
            if (token == null || token.isEmpty() || token.equals(offered)) {
                become(StateName.REFUSED, error, 0);
            } else {
                fresh = token;
                retry(error, 0);
            }
        });
    }

    // Waits a random time before the next try: after a restart, all clients begin to wait at once.
    private void retry(RelaydException error, long least) {
        long longest = Math.min(LONGEST_WAIT, FIRST_WAIT << Math.min(tries, 5));
        tries++;
        later(StateName.LOST, error, least + (long) (RANDOM.nextDouble() * longest));
    }

    private void later(StateName name, RelaydException error, long wait) {
        become(name, error, Math.max(1, paced(wait)));
        after("retry", wait, this::connect);
    }

    private void leave(boolean politely) {
        changes++;
        for (ScheduledFuture<?> timer : timers.values()) timer.cancel(false);
        timers.clear();
        lastError = null;
        Attempt left = attempt;
        attempt = null;
        if (left == null) return;
        if (!politely || !left.open || !left.socket.close(1000, null)) left.socket.cancel();
    }

    private void become(StateName name, RelaydException error, long againIn) {
        state = new State(name, error, againIn);
        changed(state);
        tell(stateListeners, state);
    }

    /** One socket; when it is abandoned it has nothing more to say. */
    private final class Attempt extends WebSocketListener {
        WebSocket socket;
        volatile boolean open;

        @Override
        public void onOpen(WebSocket webSocket, Response response) {
            synchronized (lock) {
                if (attempt != this) return;
                open = true;
                opened();
            }
        }

        @Override
        public void onMessage(WebSocket webSocket, String text) {
            JSONObject frame;
            try {
                frame = new JSONObject(text);
            } catch (JSONException | StackOverflowError unreadable) {
                return;
            }
            synchronized (lock) {
                if (attempt != this) return;
                lastError = isError(frame) ? frame : null;
                received(frame);
            }
            waitForListeners();
        }

        @Override
        public void onClosing(WebSocket webSocket, int code, String reason) {
            synchronized (lock) {
                if (attempt != this) return;
                JSONObject last = code >= 4000 ? lastError : null;
                int status = code >= 4400 && code < 4600 ? code - 4000 : 0;
                ended(last != null ? RelaydException.of(last, status, code, 0)
                        : new RelaydException(reason, status > 0 ? reason : "", status, code, 0, ""));
            }
        }

        @Override
        public void onFailure(WebSocket webSocket, Throwable failure, Response response) {
            RelaydException error = response != null && response.code() != 101 ? refusal(response)
                    : new RelaydException(failure.toString(), "", 0, NO_CLOSE_FRAME, 0, "");
            synchronized (lock) {
                if (attempt != this) return;
                if (failure instanceof UnknownServiceException) { // Android forbids ws: without TLS
                    leave(false);
                    become(StateName.REFUSED, new RelaydException(failure.getMessage(), "cannot_connect", 0, 0, 0, ""), 0);
                } else {
                    ended(error);
                }
            }
        }

        // An app that is slower than the relay has the relay wait, and not its memory fill.
        private void waitForListeners() {
            synchronized (queue) {
                try {
                    while (waiting > MOST_EVENTS && attempt == this) queue.wait(100);
                } catch (InterruptedException ended) {
                    Thread.currentThread().interrupt();
                }
            }
        }
    }

    private static RelaydException refusal(Response response) {
        JSONObject body = new JSONObject();
        try {
            body = new JSONObject(response.peekBody(LONGEST_BODY).string());
        } catch (Exception unreadable) {
            // It is a proxy's, or did not come whole: the status says enough.
        }
        double retryAfter = 0;
        try {
            retryAfter = Double.parseDouble(response.header("Retry-After", "0"));
        } catch (NumberFormatException date) {
            // As without one.
        }
        String message = text(body, "message");
        return new RelaydException(message.isEmpty() ? "HTTP " + response.code() + " " + response.message() : message,
                text(body, "error"), response.code(), 0, retryAfter, "");
    }
}

package relayd;

import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.CopyOnWriteArrayList;
import okhttp3.HttpUrl;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;

/** The clients of relayd, one for each kind of path. {@link Connection} has what they share. */
public final class Relayd {
    private static final long HEADSET_WAIT = 2000; // ms, between two looks for the headset
    private static final long TRY_AGAIN_AFTER = 3000; // after an error that passes
    private static final long COPY_WITHIN = 10_000; // without its copy by then, its connection counts as dead
    private static final long SETTLED_AFTER = 1000; // this long nothing: the history is through
    private static final long FIRST_WAIT = 1000;
    private static final long MOST_BUFFERED = 4096; // bytes that wait when a pose is sent
    private static final int OWN_TAGS = 1000; // so many are remembered

    private Relayd() {}

    /** A position in a camera group. A coordinate that was not sent is {@code Double.NaN}. */
    public static final class Pose {
        public final double x;
        public final double y;
        public final double z;
        /** The sender's name, with {@code new Options(…).query("senders", "1")}; else empty. */
        public final String sender;

        Pose(JSONObject frame) {
            x = frame.optDouble("x");
            y = frame.optDouble("y");
            z = frame.optDouble("z");
            sender = Connection.text(frame, "sender");
        }
    }

    /** A camera group: each pose that is sent to it, this client's own too. */
    public static final class Camera extends Connection {
        private final List<Listener<Pose>> poseListeners = new CopyOnWriteArrayList<>();

        /** @param group its name, or empty for the default one. */
        public Camera(String server, String group, Options options) {
            super(server, "camera", group, options);
        }

        public void onPose(Listener<Pose> listener) {
            poseListeners.add(listener);
        }

        /**
         * Sends a pose, unless older ones still wait here: a pose is out of date soon. NaN and infinity
         * are sent as null.
         *
         * @return whether it was sent.
         */
        public boolean move(double x, double y, double z) {
            return buffered() < MOST_BUFFERED
                    && send("{\"x\":" + number(x) + ",\"y\":" + number(y) + ",\"z\":" + number(z) + "}");
        }

        private static String number(double value) {
            return Double.isNaN(value) || Double.isInfinite(value) ? "null" : Double.toString(value);
        }

        @Override
        void received(JSONObject frame) {
            if (isError(frame)) super.received(frame);
            else tell(poseListeners, new Pose(frame));
        }
    }

    /** A topic of server push: each object that a program publishes. */
    public static final class Push extends Connection {
        private final List<Listener<JSONObject>> publishedListeners = new CopyOnWriteArrayList<>();

        public Push(String server, String topic, Options options) {
            super(server, "push", topic, options);
        }

        public void onPublished(Listener<JSONObject> listener) {
            publishedListeners.add(listener);
        }

        @Override
        void received(JSONObject frame) {
            tell(publishedListeners, frame); // whatever members it has: a program published it
        }
    }

    /** What a headset is to show. */
    public static final class Assignment {
        public final List<Long> quizIds;
        public final long actionId;

        Assignment(JSONObject frame) {
            JSONArray ids = frame.optJSONArray("quiz_id");
            List<Long> found = new ArrayList<>();
            for (int place = 0; ids != null && place < ids.length(); place++) found.add(ids.optLong(place));
            quizIds = Collections.unmodifiableList(found);
            actionId = frame.optLong("action_id");
        }
    }

    /** The headset's side of a pair. {@link Options#secret} binds the pair. */
    public static final class Headset extends Connection {
        private final List<Listener<Assignment>> assignmentListeners = new CopyOnWriteArrayList<>();

        public Headset(String server, String uuid, Options options) {
            super(server, "difficulty/unity", uuid, options);
        }

        public void onAssignment(Listener<Assignment> listener) {
            assignmentListeners.add(listener);
        }

        @Override
        void received(JSONObject frame) {
            if (isError(frame)) super.received(frame);
            else tell(assignmentListeners, new Assignment(frame));
        }
    }

    /**
     * The phone's side of a pair. While no headset is connected, the state is WAITING, and it looks
     * again every two seconds.
     */
    public static final class Phone extends Connection {
        private final List<Listener<Boolean>> headsetListeners = new CopyOnWriteArrayList<>();
        private final Map<String, Request> requests = new LinkedHashMap<>(); // by tag, the oldest first

        private static final class Request {
            final String frame;
            final List<Listener<Outcome>> listeners;

            Request(String frame, Listener<Outcome> listener) {
                this.frame = frame;
                this.listeners = Collections.singletonList(listener);
            }
        }

        public Phone(String server, String uuid, Options options) {
            super(server, "difficulty/android", uuid, options);
        }

        /** Hears whether the headset is there, at the beginning and when it leaves or comes back. */
        public void onHeadset(Listener<Boolean> listener) {
            headsetListeners.add(listener);
        }

        /**
         * Asks for quizzes of a difficulty, now or when there is a connection. They are asked for
         * again, with the same tag, after a lost connection: the headset gets them once.
         *
         * @param listener hears once how it went.
         */
        public void ask(int difficulty, Listener<Outcome> listener) {
            String tag = UUID.randomUUID().toString();
            Request request = new Request("{\"difficulty\":" + difficulty + ",\"tag\":\"" + tag + "\"}", listener);
            synchronized (lock) {
                requests.put(tag, request);
                send(request.frame);
            }
        }

        @Override
        boolean isError(JSONObject frame) {
            String status = text(frame, "status");
            return super.isError(frame) && (status.isEmpty() || status.equals("notice"));
        }

        @Override
        long patience(RelaydException error) {
            return error.code.equals("no_unity") ? HEADSET_WAIT : -1;
        }

        @Override
        void received(JSONObject frame) {
            String status = text(frame, "status");
            if (status.equals("unity_connected")) tell(headsetListeners, true);
            else if (status.equals("unity_disconnected")) tell(headsetListeners, false);
            else if (status.equals("received") || status.equals("error")) answered(frame, status);
            else super.received(frame);
        }

        private void answered(JSONObject frame, String status) {
            String tag = text(frame, "tag");
            Request request = requests.get(tag);
            if (request == null) return;
            if (text(frame, "error").equals("outcome_unknown")) {
                after("again " + tag, TRY_AGAIN_AFTER, () -> {
                    if (requests.containsKey(tag)) send(request.frame);
                });
                return;
            }
            requests.remove(tag);
            tell(request.listeners, new Outcome(status.equals("received") ? null : RelaydException.of(frame)));
        }

        @Override
        void changed(State now) {
            if (now.name == StateName.CONNECTED) {
                tell(headsetListeners, true);
                for (Request request : requests.values()) send(request.frame);
            } else if (now.name == StateName.REFUSED) {
                for (Request request : requests.values()) tell(request.listeners, new Outcome(now.error));
                requests.clear();
            } else if (now.name == StateName.IDLE) {
                requests.clear();
            }
        }
    }

    /** How a request of a phone went. */
    public static final class Outcome {
        /** Whether the headset has got the quizzes. */
        public final boolean received;
        /** Why not, or null. */
        public final Connection.RelaydException error;

        Outcome(Connection.RelaydException error) {
            this.received = error == null;
            this.error = error;
        }
    }

    /** A message of a room. */
    public static final class Message {
        public final long id;
        public final String text;
        /** RFC 3339, UTC, such as 2026-11-21T07:55:26.292Z. */
        public final String time;
        /** Of the sender's token, or empty. */
        public final String user;
        /** That the sender chose, or empty. */
        public final String tag;
        /** Whether this client said it. */
        public final boolean mine;

        Message(JSONObject frame, boolean mine) {
            id = frame.optLong("id");
            text = Connection.text(frame, "message");
            time = Connection.text(frame, "time");
            user = Connection.text(frame, "user");
            tag = Connection.text(frame, "tag");
            this.mine = mine;
        }
    }

    /** What became of a message of one's own. */
    public enum OutgoingState {
        /** Not sent yet. */
        WAITING,
        /** Sent, and not acknowledged. */
        SENT,
        /** In the history of the room. */
        KEPT,
        /** Not accepted: retry() or discard() it. */
        FAILED
    }

    /** A message that this client says. It changes as its state does; each change is an event. */
    public static final class Outgoing {
        public final String text;
        private volatile String tag = "";
        private volatile OutgoingState state = OutgoingState.WAITING;
        private volatile Connection.RelaydException error;

        Outgoing(String text) {
            this.text = text;
        }

        public String tag() {
            return tag;
        }

        public OutgoingState state() {
            return state;
        }

        /** Why it failed, or null. */
        public Connection.RelaydException error() {
            return error;
        }
    }

    /**
     * A chat room. Each message comes once, in order, over reconnects too.
     *
     * <p>What is said stays in {@link #outgoing} until its own copy acknowledges it. Only one message is
     * on its way at a time, so that an error frame is about that one. It is sent again after a lost
     * connection, with the same tag: the server keeps no message twice that has the same tag.
     */
    public static final class Chat extends Connection {
        private final List<Listener<Message>> messageListeners = new CopyOnWriteArrayList<>();
        private final List<Listener<String>> gapListeners = new CopyOnWriteArrayList<>();
        private final List<Listener<Long>> settledListeners = new CopyOnWriteArrayList<>();
        private final List<Listener<Outgoing>> outgoingListeners = new CopyOnWriteArrayList<>();
        private final List<Outgoing> outgoing = new ArrayList<>();
        private final Set<String> mine = new LinkedHashSet<>();
        private long lastId;
        private boolean resumes; // lastId is one
        private boolean settling;

        /** @param room its name, or empty for the default one; the last 50 messages come first. */
        public Chat(String server, String room, Options options) {
            super(server, "chat", room, options);
        }

        /** @param since the last message that the app has kept: only newer ones come. */
        public Chat(String server, String room, Options options, long since) {
            this(server, room, options);
            lastId = since;
            resumes = true;
        }

        /** Hears each message that did not come before. */
        public void onMessage(Listener<Message> listener) {
            messageListeners.add(listener);
        }

        /** Hears that messages are missing before, or between, those that follow; in a sentence. */
        public void onGap(Listener<String> listener) {
            gapListeners.add(listener);
        }

        /** Hears, with the newest id, that the history is through: nothing came for a second. */
        public void onSettled(Listener<Long> listener) {
            settledListeners.add(listener);
        }

        /** Hears each change of a message that this client says. */
        public void onOutgoing(Listener<Outgoing> listener) {
            outgoingListeners.add(listener);
        }

        /** What was said and is not kept yet, the oldest first. */
        public List<Outgoing> outgoing() {
            synchronized (lock) {
                return new ArrayList<>(outgoing);
            }
        }

        /** The id of the newest message that came; 0 before the first. */
        public long lastId() {
            synchronized (lock) {
                return lastId;
            }
        }

        /** Says a text, now or when there is a connection. */
        public Outgoing say(String text) {
            Outgoing message = new Outgoing(text);
            synchronized (lock) {
                outgoing.add(message);
                queue(message);
            }
            return message;
        }

        /** Sends a failed message again. */
        public void retry(Outgoing message) {
            synchronized (lock) {
                if (message.state == OutgoingState.FAILED && outgoing.contains(message)) queue(message);
            }
        }

        /** Forgets a message, wherever it is. */
        public void discard(Outgoing message) {
            synchronized (lock) {
                if (message == current()) cancel("copy");
                outgoing.remove(message);
                sendNext();
            }
        }

        @Override
        boolean isError(JSONObject frame) {
            return super.isError(frame) && !frame.has("gap");
        }

        @Override
        void addQuery(HttpUrl.Builder url) {
            if (resumes) url.setQueryParameter("since", Long.toString(lastId));
        }

        @Override
        StateName patient() {
            return StateName.LOST;
        }

        // The message on its way was against the protocol, or too big: it fails, the chat goes on.
        @Override
        long patience(RelaydException error) {
            Outgoing message = current();
            if (message == null || (error.closeCode != 1007 && error.closeCode != 1009)) return -1;
            fail(message, new RelaydException("The server did not take this.", "too_large", 0, error.closeCode, 0, message.tag));
            return FIRST_WAIT;
        }

        @Override
        void received(JSONObject frame) {
            if (settling) settle();
            if (frame.has("gap")) {
                tell(gapListeners, text(frame, "message"));
            } else if (isError(frame)) {
                refused(RelaydException.of(frame));
                super.received(frame);
            } else if (frame.has("id") && frame.opt("message") instanceof String) {
                Message message = new Message(frame, mine.contains(text(frame, "tag")));
                // The copy of the first one, where a message was sent again, may be older.
                if (!resumes || message.id > lastId) {
                    resumes = true;
                    lastId = message.id;
                    tell(messageListeners, message);
                }
                if (message.mine) acknowledge(message.tag);
            } else {
                super.received(frame);
            }
        }

        @Override
        void changed(State now) {
            cancel("copy");
            cancel("settled");
            settling = false;
            Outgoing message = current();
            if (message != null) change(message, OutgoingState.WAITING);
            if (now.name == StateName.CONNECTED) {
                settle();
                sendNext();
            }
        }

        private Outgoing find(OutgoingState state) {
            for (Outgoing each : outgoing) {
                if (each.state == state) return each;
            }
            return null;
        }

        private Outgoing current() {
            return find(OutgoingState.SENT);
        }

        private void queue(Outgoing message) {
            message.tag = UUID.randomUUID().toString();
            message.error = null;
            mine.add(message.tag);
            if (mine.size() > OWN_TAGS) mine.remove(mine.iterator().next());
            change(message, OutgoingState.WAITING);
            sendNext();
        }

        private void refused(RelaydException error) {
            Outgoing message = current();
            if (message == null || isOfConnection(error.code)) return;
            cancel("copy");
            if (isPassing(error.code)) {
                after("copy", TRY_AGAIN_AFTER, () -> transmit(message));
            } else {
                fail(message, error);
                sendNext();
            }
        }

        private static boolean isPassing(String code) {
            return code.equals("outcome_unknown") || code.equals("store_unavailable")
                    || code.equals("database_unavailable") || code.equals("internal_error");
        }

        // About the connection, most of them before its end, and not about a message.
        private static boolean isOfConnection(String code) {
            return code.equals("rate_limited") || code.equals("too_slow") || code.equals("no_pong")
                    || code.equals("kicked") || code.equals("banned") || code.equals("token_expired")
                    || code.equals("token_revoked") || code.equals("replaced");
        }

        private void settle() {
            settling = true;
            after("settled", SETTLED_AFTER, () -> {
                settling = false;
                tell(settledListeners, lastId);
            });
        }

        private void acknowledge(String tag) {
            for (Outgoing message : outgoing) {
                if (!message.tag.equals(tag)) continue;
                if (message == current()) cancel("copy");
                outgoing.remove(message);
                change(message, OutgoingState.KEPT);
                sendNext();
                return;
            }
        }

        private void fail(Outgoing message, RelaydException error) {
            message.error = error;
            change(message, OutgoingState.FAILED);
        }

        private void sendNext() {
            Outgoing message = find(OutgoingState.WAITING);
            if (message == null || current() != null || state().name != StateName.CONNECTED) return;
            change(message, OutgoingState.SENT);
            transmit(message);
        }

        private void transmit(Outgoing message) {
            JSONObject frame = new JSONObject();
            try {
                frame.put("message", message.text).put("tag", message.tag);
            } catch (JSONException impossible) {
                throw new IllegalStateException(impossible);
            }
            if (send(frame.toString())) limit("copy", COPY_WITHIN, this::drop);
        }

        private void change(Outgoing message, OutgoingState state) {
            message.state = state;
            tell(outgoingListeners, message);
        }
    }
}

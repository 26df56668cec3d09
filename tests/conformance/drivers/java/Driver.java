import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.json.JSONArray;
import org.json.JSONException;
import org.json.JSONObject;
import relayd.Connection;
import relayd.Connection.Options;
import relayd.Relayd;

/** The driver of clients/android: see tests/conformance/driver.py. Its one thread is an app's main thread. */
final class Driver {
    private static final ExecutorService MAIN = Executors.newSingleThreadExecutor();
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    private static volatile String token;

    private interface Sender {
        void send(JSONObject frame) throws JSONException;
    }

    private static JSONObject event(String name) throws JSONException {
        if (!Thread.currentThread().getName().startsWith("pool-")) {
            throw new IllegalStateException(name + " came on " + Thread.currentThread().getName());
        }
        return new JSONObject().put("event", name);
    }

    private interface Writer<T> {
        JSONObject write(T event) throws JSONException;
    }

    private static <T> Connection.Listener<T> print(Writer<T> writer) {
        return happened -> {
            try {
                OUT.println(writer.write(happened));
            } catch (JSONException error) {
                throw new IllegalStateException(error);
            }
        };
    }

    private static JSONObject problem(Connection.RelaydException error) throws JSONException {
        return event("problem").put("error", error.code).put("message", error.getMessage());
    }

    private static JSONObject state(Connection.State state) throws JSONException {
        Connection.RelaydException error = state.error;
        String name = state.name == Connection.StateName.IDLE ? "closed" : state.name.toString().toLowerCase();
        return event("state")
                .put("name", name)
                .put("again_in", state.againIn > 0 ? (Object) (state.againIn / 1000.0) : JSONObject.NULL)
                .put("error", error == null ? "" : error.code)
                .put("status", error == null ? 0 : error.status)
                .put("close_code", error == null ? 0 : error.closeCode)
                .put("message", error == null ? "" : error.getMessage());
    }

    private static Object number(double value) {
        return Double.isNaN(value) ? JSONObject.NULL : (Object) value;
    }

    private static Sender camera(Relayd.Camera camera) {
        camera.onPose(print(pose -> event("pose")
                .put("x", number(pose.x)).put("y", number(pose.y)).put("z", number(pose.z))));
        return frame -> camera.move(frame.optDouble("x"), frame.optDouble("y"), frame.optDouble("z"));
    }

    private static Sender chat(Relayd.Chat chat) {
        chat.onMessage(print(message -> event("message").put("message", message.text)
                .put("id", Long.toString(message.id)).put("tag", message.tag).put("mine", message.mine)));
        chat.onGap(print(sentence -> event("gap")));
        // A change is told, not the state that it was: the next one may have come before.
        Set<String> kept = new HashSet<>();
        chat.onOutgoing(message -> {
            if (message.state() == Relayd.OutgoingState.KEPT && kept.add(message.tag())) {
                Driver.<Relayd.Outgoing>print(sent -> event("sent").put("tag", sent.tag())).on(message);
            }
        });
        return frame -> chat.say(frame.getString("message"));
    }

    private static Sender phone(Relayd.Phone phone) {
        phone.onHeadset(print(here -> event("headset").put("here", (Object) here)));
        return frame -> phone.ask(frame.getInt("difficulty"), print(outcome ->
                outcome.received ? event("received") : problem(outcome.error)));
    }

    private static Sender headset(Relayd.Headset headset) {
        headset.onAssignment(print(assignment -> event("assignment")
                .put("quiz_id", new JSONArray(assignment.quizIds)).put("action_id", assignment.actionId)));
        return frame -> {};
    }

    private static Sender push(Relayd.Push push) {
        push.onPublished(print(published -> event("push").put("data", published)));
        return frame -> {};
    }

    public static void main(String[] arguments) throws Exception {
        String kind = arguments[0];
        String url = arguments[1];
        String name = arguments[2];
        Map<String, String> given = new HashMap<>();
        for (int place = 3; place < arguments.length; place++) {
            int equals = arguments[place].indexOf('=');
            given.put(arguments[place].substring(0, equals), arguments[place].substring(equals + 1));
        }
        token = given.get("token");
        Options options = new Options(MAIN).tokens(renew -> token);
        if ("1".equals(given.get("fast"))) options.pace(1 / 20.0);
        Connection client;
        Sender sender;
        switch (kind) {
            case "camera":
                client = new Relayd.Camera(url, name, options);
                sender = camera((Relayd.Camera) client);
                break;
            case "chat":
                client = given.containsKey("since")
                        ? new Relayd.Chat(url, name, options, Long.parseLong(given.get("since")))
                        : new Relayd.Chat(url, name, options);
                sender = chat((Relayd.Chat) client);
                break;
            case "phone":
                client = new Relayd.Phone(url, name, options);
                sender = phone((Relayd.Phone) client);
                break;
            case "headset":
                client = new Relayd.Headset(url, name, options);
                sender = headset((Relayd.Headset) client);
                break;
            default:
                client = new Relayd.Push(url, name, options);
                sender = push((Relayd.Push) client);
        }
        client.onState(print(Driver::state));
        client.onProblem(print(Driver::problem));
        client.connect();
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            JSONObject command = new JSONObject(line);
            Future<?> done = MAIN.submit(() -> {
                if (command.has("token")) token = command.getString("token");
                for (int time = 0; command.has("send") && time < command.optInt("times", 1); time++) {
                    sender.send(command.getJSONObject("send"));
                }
                if (command.has("close")) client.close();
                return null;
            });
            done.get();
        }
        System.exit(0);
    }
}

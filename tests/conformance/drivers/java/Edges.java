import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.Arrays;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import relayd.Connection;
import relayd.Relayd;

/**
 * A viewer whose app is slow, and whose tokens fail: its address, then what the TokenSource does, "fail"
 * or a token, the last of them again and again. It prints a line for each state and pose.
 *
 * <p>Commands: "hold" has the app's thread wait until "go"; "look" prints how many events wait for it,
 * behind "full" if the kit waits for the app; anything else ends.
 */
final class Edges {
    private static final LinkedBlockingQueue<Runnable> EVENTS = new LinkedBlockingQueue<>();
    private static final ThreadPoolExecutor MAIN = new ThreadPoolExecutor(1, 1, 0, TimeUnit.SECONDS, EVENTS);

    private static boolean waits() {
        return Thread.getAllStackTraces().values().stream()
                .flatMap(Arrays::stream)
                .anyMatch(call -> call.getMethodName().equals("waitForListeners"));
    }

    public static void main(String[] arguments) throws Exception {
        AtomicInteger asked = new AtomicInteger(1);
        Connection.Options options = new Connection.Options(MAIN).pace(1 / 20.0);
        if (arguments.length > 1) {
            options.tokens(renew -> {
                String token = arguments[Math.min(asked.getAndIncrement(), arguments.length - 1)];
                if (token.equals("fail")) throw new IOException("nobody signs tokens now");
                return token;
            });
        }
        Relayd.Camera camera = new Relayd.Camera(arguments[0], "edges", options);
        camera.onPose(pose -> System.out.println("pose " + (int) pose.x));
        camera.onState(state -> System.out.println(state.name + (state.error == null ? "" : " " + state.error.code
                + " " + state.error.status + " " + state.error.retryAfter + " " + state.againIn)));
        camera.connect();
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        CountDownLatch held = new CountDownLatch(1);
        for (String command = commands.readLine(); command != null; command = commands.readLine()) {
            if (command.equals("hold")) {
                MAIN.execute(() -> {
                    try {
                        held.await();
                    } catch (InterruptedException ended) {
                        Thread.currentThread().interrupt();
                    }
                });
            } else if (command.equals("go")) {
                held.countDown();
            } else if (command.equals("look")) {
                System.out.println((waits() ? "full " : "room ") + EVENTS.size());
            } else {
                break;
            }
        }
        System.exit(0);
    }
}

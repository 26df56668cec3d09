package android.os;

import java.util.concurrent.LinkedBlockingQueue;

/** As Android's: the one of the main thread, which runs what is posted to it. */
public final class Looper {
    private static final Looper MAIN = new Looper();
    final LinkedBlockingQueue<Runnable> queue = new LinkedBlockingQueue<>();

    public static Looper getMainLooper() {
        return MAIN;
    }

    /** For ever. */
    public static void loop() throws InterruptedException {
        while (true) MAIN.queue.take().run();
    }
}

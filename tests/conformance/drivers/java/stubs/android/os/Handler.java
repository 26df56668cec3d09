package android.os;

/** As Android's. */
public class Handler {
    private final Looper looper;

    public Handler(Looper looper) {
        this.looper = looper;
    }

    public final boolean post(Runnable action) {
        return looper.queue.add(action);
    }
}

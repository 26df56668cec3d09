package android.view;

import android.content.Context;
import android.graphics.Canvas;
import android.os.Handler;
import android.os.Looper;

/** As Android's: 400 by 800 pixels, drawn on the main thread after each invalidate(). */
public class View {
    private final Thread home = Thread.currentThread();

    public View(Context context) {}

    public final int getWidth() {
        return 400;
    }

    public final int getHeight() {
        return 800;
    }

    public void invalidate() {
        if (Thread.currentThread() != home) throw new IllegalStateException("This is not the main thread.");
        new Handler(Looper.getMainLooper()).post(() -> onDraw(new Canvas()));
    }

    protected void onDraw(Canvas canvas) {}
}

package android.app;

import android.content.Context;
import android.os.Bundle;
import android.os.Handler;
import android.os.Looper;
import android.view.View;

/** As Android's. Its main() has the system's part: shows an Activity, and leaves it at the end of standard input. */
public class Activity extends Context {
    protected void onCreate(Bundle saved) {}

    protected void onStart() {}

    protected void onStop() {}

    public void setContentView(View view) {
        view.invalidate();
    }

    public final void runOnUiThread(Runnable action) {
        new Handler(Looper.getMainLooper()).post(action);
    }

    public void setTitle(CharSequence title) {
        System.out.println("title " + title);
    }

    public static void main(String[] arguments) throws Exception {
        Activity activity = (Activity) Class.forName(arguments[0]).getConstructor().newInstance();
        activity.onCreate(null);
        activity.onStart();
        Thread user = new Thread(() -> {
            try {
                while (System.in.read() >= 0) continue;
            } catch (java.io.IOException ended) {
                // As at its end.
            }
            Handler main = new Handler(Looper.getMainLooper());
            main.post(activity::onStop);
            main.post(() -> main.post(() -> System.exit(0)));
        });
        user.start();
        Looper.loop();
    }
}

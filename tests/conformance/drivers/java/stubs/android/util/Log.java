package android.util;

/** As Android's. */
public final class Log {
    private Log() {}

    public static int w(String tag, Throwable error) {
        return w(tag, "", error);
    }

    public static int w(String tag, String message, Throwable error) {
        System.out.println("log " + tag + " " + message + " " + error);
        return 0;
    }
}

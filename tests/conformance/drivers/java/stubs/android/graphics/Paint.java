package android.graphics;

/** As Android's, as far as the guide uses it. */
public class Paint {
    public static final int ANTI_ALIAS_FLAG = 1;

    public Paint(int flags) {}

    public void setColor(int color) {}
}

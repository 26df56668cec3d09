package android.graphics;

/** As Android's, as far as the guide uses it. */
public final class Color {
    public static final int BLUE = 0xff0000ff;
    public static final int WHITE = 0xffffffff;
}

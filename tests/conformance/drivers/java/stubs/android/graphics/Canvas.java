package android.graphics;

/** As Android's; writes what is drawn to standard output. */
public class Canvas {
    public void drawColor(int color) {}

    public void drawCircle(float x, float y, float radius, Paint paint) {
        System.out.println("circle " + x + " " + y);
    }
}

// As in the tutorials of OkHttp: nothing but a URL, and frames as docs/protocol.md has them.

import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.Response;
import okhttp3.WebSocket;
import okhttp3.WebSocketListener;

public final class Minimal extends WebSocketListener {
    private final String frame;

    private Minimal(String frame) {
        this.frame = frame;
    }

    public static void main(String[] arguments) throws Exception {
        OkHttpClient client = new OkHttpClient();
        Request request = new Request.Builder().url(arguments[0]).build();
        WebSocket webSocket = client.newWebSocket(request, new Minimal(arguments.length > 1 ? arguments[1] : null));
        System.in.read();
        webSocket.close(1000, "bye");
        client.dispatcher().executorService().shutdown();
    }

    @Override
    public void onOpen(WebSocket webSocket, Response response) {
        if (frame != null) webSocket.send(frame);
    }

    @Override
    public void onMessage(WebSocket webSocket, String text) {
        System.out.println(text);
    }

    @Override
    public void onClosing(WebSocket webSocket, int code, String reason) {
        webSocket.close(1000, null);
    }

    @Override
    public void onFailure(WebSocket webSocket, Throwable failure, Response response) {
        System.out.println(response == null ? failure.toString() : "HTTP " + response.code());
    }
}

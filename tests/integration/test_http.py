"""The HTTP side of a real relayd: publishing to WebSocket clients, large and unending bodies."""

import http.client
import json
import socket

from tests.daemon import Daemon, daemon

__all__ = ["daemon"]  # a fixture

KEY = {"Authorization": "Bearer a-key-for-tests"}


def test_a_push_reaches_the_clients_of_its_topic_unchanged(daemon: Daemon) -> None:
    body = b'{ "progress": 0.50, "note": "\xc3\xa9" }'
    with (
        daemon.connect("/ws/push/job") as one,
        daemon.connect("/ws/push/job/") as two,
        daemon.connect("/ws/push/other") as other,
    ):
        assert daemon.post("/api/push/job", body, **KEY) == (200, {"clients": 2})
        assert one.recv(timeout=5) == body.decode()
        assert two.recv(timeout=5) == body.decode()
        assert daemon.post("/api/push/other", b'{"last":1}', **KEY) == (200, {"clients": 1})
        assert other.recv(timeout=5) == '{"last":1}'


def test_a_chat_message_through_the_api_is_live_and_in_the_history(daemon: Daemon) -> None:
    with daemon.connect("/ws/chat/Grüße") as client:
        status, said = daemon.post("/api/chat/Gr%C3%BC%C3%9Fe", b'{"message":"<b>hi"}', **KEY)
        assert status == 200
        assert said["message"] == "<b>hi"
        assert json.loads(client.recv(timeout=5)) == said
    with daemon.connect("/ws/chat/Grüße") as later:
        assert json.loads(later.recv(timeout=5)) == said


def test_a_body_that_is_too_large_gets_its_answer_through(daemon: Daemon) -> None:
    """No reset connection may overtake the 413 of a client that writes all before it reads."""
    for _ in range(5):
        status, answer = daemon.post("/api/push/x", b"x" * 3_000_000, **KEY)
        assert (status, answer["error"]) == (413, "too_large")


def test_a_body_without_end_costs_relayd_no_memory(daemon: Daemon) -> None:
    before = daemon.memory()
    connection = socket.create_connection(("127.0.0.1", daemon.port), timeout=10)
    connection.sendall(
        b"POST /api/push/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    sent = 0
    try:
        for _ in range(1000):
            connection.sendall(chunk)
            sent += len(chunk)
    except OSError:
        pass
    connection.close()
    assert sent < 40_000_000  # it was cut off; what is over the bound lay in the kernel's buffers
    assert daemon.memory() - before < 4_000_000


def test_one_connection_answers_many_requests(daemon: Daemon) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=10)
    for method, path, status in [
        ("GET", "/healthz", 200),
        ("HEAD", "/", 200),
        ("GET", "/ws/camera", 426),
        ("GET", "/nowhere", 404),
        ("GET", "/static/room.js", 200),
    ]:
        connection.request(method, path)
        kept = connection.sock
        answer = connection.getresponse()
        answer.read()
        assert (answer.status, answer.getheader("Server")) == (status, "relayd")
        assert connection.sock is kept
    connection.close()


def test_a_client_that_leaves_before_its_answer_leaves_no_trace_in_the_log(daemon: Daemon) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", daemon.port), timeout=10) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n" * 5)
    assert daemon.get("/readyz")[0] == 200
    assert "Traceback" not in daemon.log
    assert "Unhandled" not in daemon.log

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


def ask_and_end(daemon: Daemon, sent: bytes) -> bytes:
    """All that comes back for bytes after which the client sends no more (`shutdown`)."""
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while data := connection.recv(65536):
            received += data
    return received


def asked(path: str, body: bytes | None = None, *lines: str) -> bytes:
    """A request head, and a body behind it."""
    method = "GET" if body is None else "POST"
    size = [] if body is None else [f"Content-Length: {len(body)}"]
    head = [f"{method} {path} HTTP/1.1", "Host: a", *size, *lines]
    return "\r\n".join([*head, "", ""]).encode() + (body or b"")


def test_a_request_is_answered_whose_sender_ends_its_half_at_once(daemon: Daemon) -> None:
    """As `nc -N` does, and some HTTP/1.0 clients (RFC 9112 section 9.6)."""
    key = f"Authorization: {KEY['Authorization']}"
    for request, status in [
        (asked("/"), 200),
        (asked("/healthz"), 200),
        (asked("/readyz"), 200),  # asks the database first
        (asked("/metrics"), 200),
        (asked("/ws/camera"), 426),
        (asked("/nothing"), 404),
        (asked("/api/push/x", b"{}", key), 200),
        (asked("/api/chat/half", b'{"message":"closed"}', key), 200),
    ]:
        for _ in range(3):
            answer = ask_and_end(daemon, request)
            assert answer.startswith(b"HTTP/1.1 %d " % status), (request, answer)
            head, _, body = answer.partition(b"\r\n\r\n")
            assert b"Content-Length: %d\r\n" % len(body) in head + b"\r\n"


def test_several_requests_are_answered_whose_sender_ends_its_half_at_once(daemon: Daemon) -> None:
    answers = ask_and_end(daemon, asked("/readyz") + asked("/healthz") + asked("/readyz"))
    assert answers.count(b"HTTP/1.1 200 OK\r\n") == 3


def test_a_request_that_is_not_whole_ends_with_the_half_of_its_sender(daemon: Daemon) -> None:
    whole = asked("/api/push/x", b"{}", f"Authorization: {KEY['Authorization']}")
    for end in (10, len(whole) - 1):
        assert ask_and_end(daemon, whole[:end]) == b""
    assert ask_and_end(daemon, b"") == b""

"""Attacks on a running relayd, each of which did harm before it was mended."""

import json
import socket
from pathlib import Path

import jwt
import pytest
from websockets.exceptions import InvalidStatus

from tests.daemon import Daemon, tls_client
from tests.integration.clients import read, read_close, say
from tests.integration.conftest import Connect, Dial, Spawn
from tests.integration.raw import handshake, request
from tests.ports import free_port

SECRET = "a-secret-for-tests-of-32-bytes-or-more"


def test_a_client_that_requests_and_never_reads_costs_no_memory(spawn: Spawn, dial: Dial) -> None:
    """Requests behind answers that wait are not taken, so neither pile up."""
    node = spawn()
    client = dial(node, receive_buffer=4096)
    before = node.memory()
    client.socket.settimeout(1)
    many = request("/") * 500
    sent = 0
    try:
        while sent < 20_000_000:
            sent += client.socket.send(many)
    except TimeoutError:
        pass
    assert sent < 20_000_000, "it took every request"
    assert node.memory() - before < 30_000_000
    assert node.get("/healthz")[0] == 200


def test_a_client_that_reads_late_gets_every_answer(spawn: Spawn, dial: Dial) -> None:
    node = spawn()
    client = dial(node, receive_buffer=4096)
    client.send(request("/") * 300 + request("/healthz", "Connection: close"))
    received = b""
    while data := client.socket.recv(65536):
        received += data
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 301
    assert received.endswith(b'{"status":"ok"}')


@pytest.mark.parametrize("header", ["Host", "Accept", "Authorization", "If-None-Match"])
def test_headers_that_are_not_utf8_are_answered(spawn: Spawn, dial: Dial, header: str) -> None:
    client = dial(spawn())
    client.send(b"GET /nothing HTTP/1.1\r\n%s: \xff\r\n\r\n" % header.encode())
    assert client.response().status in (400, 404)


def test_a_number_beyond_the_range_of_a_double_is_delivered_to_nobody(
    spawn: Spawn, connect: Connect
) -> None:
    node = spawn()
    sender, viewer = connect(node, "/ws/camera"), connect(node, "/ws/camera")
    sender.send('{"x":%s}' % ("9" * 400))
    assert read(sender)["error"] == "bad_pose"
    say(sender, {"x": 1})
    assert read(viewer)["x"] == 1


def test_a_stranger_cannot_write_escapes_into_the_log(spawn: Spawn, dial: Dial) -> None:
    node = spawn()
    client = dial(node)
    client.send(handshake("/ws/camera/\x1b[31mX"))
    assert client.response().status == 400
    page = dial(node)
    page.send(request("/\x1b[31mX"))
    assert page.response().status in (400, 404)
    assert "\x1b" not in node.log
    assert "[31mX" in node.log


def test_a_token_with_a_user_that_is_no_text_is_refused(spawn: Spawn) -> None:
    node = spawn(auth_secret=SECRET)
    claims = json.dumps({"sub": "bad\ud800name"}).encode()
    token = jwt.api_jws.encode(claims, SECRET, "HS256")
    with pytest.raises(InvalidStatus) as refused:
        node.connect(f"/ws/chat?token={token}")
    assert refused.value.response.status_code == 401


@pytest.mark.parametrize("query", ["since=", "history="])
def test_an_empty_number_is_refused(spawn: Spawn, connect: Connect, query: str) -> None:
    client = connect(spawn(), f"/ws/chat?refuse=close&{query}")
    assert read_close(client)[0] == 4400


def test_pages_websockets_and_refusals_work_over_tls(tmp_path: Path, certificate: Path) -> None:
    """Pages, WebSockets, and refusals of the front door arrive through TLS as well."""
    port = free_port()
    endpoint = f"ssl:{port}:interface=127.0.0.1:privateKey={certificate}:certKey={certificate}"
    env = {"RELAYD_LIMITS_SEND_BUFFER": "100000", "RELAYD_CAMERA_SLOW_VIEWERS": "close"}
    node = Daemon(tmp_path, env, "--listen", endpoint).start()
    trust = tls_client(str(certificate))
    try:
        secure = Daemon(tmp_path)
        secure.port = port
        with (
            secure.connect("/ws/camera", scheme="wss", ssl=trust) as one,
            node.connect("/ws/camera") as two,
        ):
            for number in range(500):
                one.send(json.dumps({"x": number}))
            for client in (one, two):
                poses = [json.loads(client.recv(timeout=10))["x"] for _ in range(500)]
                assert poses == list(range(500))
        for head, status in (
            (b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 200),
            (b"x" * 99999, 431),
        ):
            plain = socket.create_connection(("127.0.0.1", port), timeout=10)
            with trust.wrap_socket(plain, server_hostname="127.0.0.1") as client_socket:
                client_socket.sendall(head)
                answer = client_socket.recv(4096)
            assert answer.startswith(b"HTTP/1.1 %d " % status)
    finally:
        node.stop()
    assert "Traceback" not in node.log

"""The opening handshake and its refusals, byte by byte where bytes matter, on a spawned relayd."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as websocket

from tests.daemon import Daemon
from tests.frames import BINARY, CLOSE, TEXT, frame
from tests.integration.clients import Refused, check_refusal, read, read_close, read_rest, say
from tests.integration.conftest import KEY, Connect, Dial, Spawn
from tests.integration.raw import Raw, Response, handshake, request, text
from tests.integration.waiting import stopped
from tests.ports import free_port

UUID = "123e4567-e89b-42d3-a456-426614174000"
HEALTHZ = request("/healthz")
POSE = {"x": 1, "y": None, "z": None}


@pytest.fixture
def settle(relayd: Daemon, dial: Dial) -> Callable[[], None]:
    """Returns when the shared relayd has read what it was sent before."""
    beside = dial(relayd)

    def ask() -> None:
        beside.send(HEALTHZ)
        assert beside.response().status == 200

    return ask


def check(response: Response, status: int, error: str) -> None:
    """A refusal in the contract's form."""
    check_refusal(response.status, response.headers, response.body)
    assert (response.status, response.json["error"]) == (status, error)


def read_pose(connection: Raw) -> Any:
    """The next frame, a text frame with JSON."""
    opcode, payload = connection.frame()
    assert opcode == TEXT
    return json.loads(payload)


# -- refusals

REFUSALS = [
    ("/", 404, "not_found"),
    ("/nothing", 404, "not_found"),
    ("/ws", 404, "not_found"),
    ("/ws/", 404, "not_found"),
    ("/ws/nothing", 404, "not_found"),
    ("/WS/camera", 404, "not_found"),
    ("/ws/Camera", 404, "not_found"),
    ("/ws/cameras", 404, "not_found"),
    ("/chat/room", 404, "not_found"),
    ("/healthz", 404, "not_found"),
    ("/ws/camera/%20", 400, "bad_name"),
    ("/ws/chat/%20", 400, "bad_name"),
    ("/ws/push/%20", 400, "bad_name"),
    ("/ws/difficulty/unity/x", 400, "bad_uuid"),
    (f"/ws/difficulty/android/{UUID}", 400, "no_unity"),
    ("/ws/chat/a?since=x", 400, "bad_since"),
]


@pytest.mark.parametrize(("path", "status", "error"), REFUSALS)
def test_refusal_is_a_status_with_a_json_body(
    relayd: Daemon, path: str, status: int, error: str
) -> None:
    refused = Refused(relayd, path)
    assert (refused.status, refused.error) == (status, error)


@pytest.mark.parametrize(("path", "status", "error"), REFUSALS)
def test_refuse_close_accepts_the_handshake_and_closes(
    relayd: Daemon, connect: Connect, path: str, status: int, error: str
) -> None:
    """For WebGL and browsers, which see no status: 4000 + the status, with the code as reason."""
    client = connect(relayd, f"{path}{'&' if '?' in path else '?'}refuse=close")
    assert read_close(client) == (4000 + status, error)


def test_refuse_close_leaves_a_good_handshake_alone(relayd: Daemon, connect: Connect) -> None:
    client = connect(relayd, "/ws/camera/refuse?refuse=close")
    say(client, POSE)
    assert read(client) == POSE


def test_frames_of_a_refused_client_are_not_relayed(
    relayd: Daemon, connect: Connect, dial: Dial
) -> None:
    """Frames behind a handshake that is accepted only to be closed reach nobody."""
    viewer = connect(relayd, "/ws/camera")
    refused = dial(relayd)
    refused.send(handshake("/ws/camera/%20?refuse=close"), text({"x": 1}))
    assert refused.response().status == 101
    assert refused.close_frame() == (4400, "bad_name")
    assert read_rest(viewer) == [[]]


def test_full_server_refuses_with_retry_after(spawn: Spawn, connect: Connect) -> None:
    """429 over `max_connections`; pages are still served; a place that gets free is given away."""
    node = spawn(limits_max_connections=2)
    first, _ = connect(node, "/ws/camera"), connect(node, "/ws/chat")
    refused = Refused(node, "/ws/camera")
    assert (refused.status, refused.error) == (429, "too_many_connections")
    assert int(refused.headers["Retry-After"]) > 0
    client = connect(node, "/ws/camera?refuse=close")
    assert read_close(client) == (4429, "too_many_connections")
    assert node.get("/healthz")[0] == 200
    first.close()
    client.close()
    deadline = time.monotonic() + 10
    while True:
        try:
            say(connect(node, "/ws/camera"), POSE)
            return
        except InvalidStatus:
            assert time.monotonic() < deadline


def test_only_pages_of_allowed_origins_connect(spawn: Spawn, connect: Connect) -> None:
    node = spawn(server_allowed_origins="https://a.example, http://b.example:8000")
    for origin in ("https://a.example", "http://b.example:8000", None):
        connect(node, "/ws/camera", origin=origin)
    for origin in ("http://a.example", "https://a.example:444", "null", "https://evil.example"):
        refused = Refused(node, "/ws/camera", origin=origin)
        assert (refused.status, refused.error) == (403, "origin_not_allowed")
        client = connect(node, "/ws/camera?refuse=close", origin=origin)
        assert read_close(client) == (4403, "origin_not_allowed")


def test_by_default_pages_of_the_own_host_connect_and_no_other(
    relayd: Daemon, connect: Connect
) -> None:
    connect(relayd, "/ws/camera", origin=f"HTTP://127.0.0.1:{relayd.port}")
    for origin in ("https://127.0.0.1", f"http://localhost:{relayd.port}", "null", "file://"):
        assert Refused(relayd, "/ws/camera", origin=origin).error == "origin_not_allowed"
        assert f"its origin is {origin}, its host 127.0.0.1:{relayd.port}" in relayd.log


def test_a_host_that_is_not_served_is_misdirected(spawn: Spawn, dial: Dial) -> None:
    node = spawn(server_names="relay.example, *.example.org", server_allowed_origins="*")

    def ask_as(host: str, head: bytes) -> Response:
        connection = dial(node)
        connection.send(head.replace(b"Host: 127.0.0.1", b"Host: " + host.encode()))
        return connection.response()

    # health checks name the address, or localhost
    for host in ("relay.example", "a.example.org:8080", "127.0.0.1", "localhost:1", "[::1]"):
        assert ask_as(host, HEALTHZ).status == 200
        assert ask_as(host, handshake("/ws/camera", "Origin: http://b.example")).status == 101
    # a page whose name has been rebound to this address is of the same origin for its browser
    for path in ("/", "/healthz", "/api/push/x", "/ws/nothing", "/nothing"):
        check(ask_as("evil.example", request(path)), 421, "host_not_allowed")
    evil = handshake("/ws/camera", "Origin: http://evil.example")
    check(ask_as("evil.example", evil), 421, "host_not_allowed")
    closing = dial(node)
    closing.send(handshake("/ws/camera?refuse=close").replace(b"127.0.0.1", b"evil.example"))
    assert closing.response().status == 101
    assert closing.close_frame() == (4421, "host_not_allowed")


@pytest.mark.parametrize(
    "path",
    [
        "/ws/camera",
        "/ws/camera/",
        "/ws/camera/group",
        f"/ws/difficulty/unity/{UUID}/",
        f"/ws/difficulty/android/{UUID}",
        "/ws/chat",
        "/ws/chat/room?since=1",
        "/ws/push/topic/",
        "/ws/echo",
    ],
)
@pytest.mark.parametrize("accept", ["*/*", "text/html"])
def test_plain_http_on_a_websocket_path_is_answered_with_426(
    relayd: Daemon, dial: Dial, path: str, accept: str
) -> None:
    connection = dial(relayd)
    for _ in range(2):  # the connection is good for another request
        connection.send(request(path, f"Accept: {accept}"))
        response = connection.response()
        check(response, 426, "upgrade_required")
        assert response.headers["upgrade"] == "websocket"
        assert "upgrade" in response.headers["connection"].lower()


@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS"])
def test_other_methods_on_a_websocket_path_are_answered(
    relayd: Daemon, dial: Dial, method: str
) -> None:
    connection = dial(relayd)
    connection.send(request("/ws/camera", "Content-Length: 0", method=method))
    assert connection.response(bodyless=method == "HEAD").status in (405, 426)


WRONG_HEADS = [
    ("no key", request("/ws/camera", "Upgrade: websocket", "Connection: Upgrade",
                       "Sec-WebSocket-Version: 13"), {400}),
    ("short key", request("/ws/camera", "Upgrade: websocket", "Connection: Upgrade",
                          "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: x"), {400}),
    ("no version", request("/ws/camera", "Upgrade: websocket", "Connection: Upgrade",
                           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), {400, 426}),
    ("old version", handshake("/ws/camera").replace(b"Version: 13", b"Version: 8"), {400, 426}),
    ("no connection", handshake("/ws/camera").replace(b"Connection: Upgrade\r\n", b""), {400, 426}),
    ("post", handshake("/ws/camera").replace(b"GET", b"POST"), {400, 405}),
    ("http/1.0", handshake("/ws/camera").replace(b"HTTP/1.1", b"HTTP/1.0"), {400, 426, 505}),
    ("no host", handshake("/ws/camera").replace(b"Host: 127.0.0.1\r\n", b""), {400}),
    ("fragment", handshake("/ws/camera#a"), {400}),
    ("not utf-8", handshake("/ws/camera", "X-Name: \u00ff"), {101, 400}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("head", "statuses"), [case[1:] for case in WRONG_HEADS], ids=[case[0] for case in WRONG_HEADS]
)
def test_a_wrong_handshake_is_refused_in_json(
    relayd: Daemon, dial: Dial, head: bytes, statuses: set[int]
) -> None:
    """The author of the client can read in it which header is missing."""
    connection = dial(relayd)
    connection.send(head)
    response = connection.response()
    assert response.status in statuses
    if response.status != 101:
        check_refusal(response.status, response.headers, response.body)
        assert connection.ended()
    if response.status == 426:  # RFC 6455 section 4.4
        assert response.headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize(
    "garbage",
    [
        b"hello\r\n\r\n",
        b"GET /ws/camera\r\nUpgrade: websocket\r\n\r\n",
        b"GET  HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /ws/camera HTTP/1.1\r\nUpgrade: websocket\r\nno colon\r\n\r\n",
        b"GET /ws/camera HTTP/1.1\r\n: empty\r\nUpgrade: websocket\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        b"GET http://[/ws/camera HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        handshake("/ws/camera").replace(b"Host: 127.0.0.1", b"Host: a:b"),
        handshake("/ws/camera", "Sec-WebSocket-Extensions: ;;;,,="),
        handshake("/ws/camera", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        handshake("/ws/camera", "Origin: :::"),
        handshake("/ws/camera?%ff=%00&&==&refuse"),
    ],
)
def test_garbage_is_answered_or_dropped_and_logged_calmly(
    relayd: Daemon, dial: Dial, garbage: bytes
) -> None:
    connection = dial(relayd)
    connection.send(garbage)
    connection.socket.shutdown(1)
    assert connection.ended()
    assert relayd.get("/healthz")[0] == 200


# -- answers


def test_accept_is_computed_and_nothing_is_negotiated(relayd: Daemon, dial: Dial) -> None:
    """The example of RFC 6455 section 1.3; no subprotocol and no deflate comes back unasked."""
    connection = dial(relayd)
    connection.send(handshake("/ws/camera"))
    response = connection.response()
    assert response.status == 101
    assert response.headers["sec-websocket-accept"] == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert response.headers["upgrade"].lower() == "websocket"
    assert response.headers["connection"].lower() == "upgrade"
    assert "sec-websocket-protocol" not in response.headers
    assert "sec-websocket-extensions" not in response.headers


def test_subprotocols_are_not_answered(relayd: Daemon, dial: Dial) -> None:
    connection = dial(relayd)
    connection.send(handshake("/ws/camera", "Sec-WebSocket-Protocol: a, b"))
    response = connection.response()
    assert response.status == 101
    assert "sec-websocket-protocol" not in response.headers


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_max_window_bits=8, permessage-bzip2, x-webkit-deflate-frame",
    ],
)
def test_deflate_is_declined(relayd: Daemon, dial: Dial, offer: str) -> None:
    connection = dial(relayd)
    connection.send(handshake("/ws/camera/deflate", f"Sec-WebSocket-Extensions: {offer}"))
    response = connection.response()
    assert response.status == 101
    assert "sec-websocket-extensions" not in response.headers
    connection.send(text(POSE))
    assert read_pose(connection) == POSE


def test_a_client_that_offers_deflate_is_served_without_it(
    relayd: Daemon, connect: Connect
) -> None:
    client = connect(relayd, "/ws/camera/deflate", compression="deflate")
    say(client, POSE)
    assert read(client) == POSE


@pytest.mark.parametrize(
    "headers",
    [
        ("connection: keep-alive, Upgrade",),
        ("X-Forwarded-For: 1.2.3.4", "Cookie: " + "a" * 4000),
    ],
)
def test_headers_are_read_as_proxies_and_browsers_send_them(
    relayd: Daemon, dial: Dial, headers: tuple[str, ...]
) -> None:
    head = handshake("/ws/camera/headers", *headers)
    if headers[0].startswith("connection"):
        head = head.replace(b"Connection: Upgrade\r\n", b"").replace(
            b"Upgrade: websocket", b"UPGRADE: WebSocket"
        )
    connection = dial(relayd)
    connection.send(head, text(POSE))
    assert connection.response().status == 101
    assert read_pose(connection) == POSE


# -- one port, one connection


def test_a_kept_alive_connection_can_be_upgraded(relayd: Daemon, dial: Dial) -> None:
    connection = dial(relayd)
    for _ in range(3):
        connection.send(HEALTHZ)
        assert connection.response().json == {"status": "ok"}
    connection.open("/ws/camera/reuse")
    connection.send(text(POSE))
    assert read_pose(connection) == POSE


@pytest.mark.parametrize(
    "before",
    [
        HEALTHZ,
        HEALTHZ * 3,
        request("/nothing"),
        request("/ws/camera"),
        request("/readyz"),
        request("/healthz", method="HEAD"),
        request("/api/push/x", f"Authorization: Bearer {KEY}", "Content-Length: 2", method="POST")
        + b"{}",
        request(
            "/api/chat/reuse", f"Authorization: Bearer {KEY}", "Content-Length: 15", method="POST"
        )
        + b'{"message":"a"}',
        request(
            "/api/push/x", f"Authorization: Bearer {KEY}", "Transfer-Encoding: chunked",
            method="POST",
        )
        + b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
    ],
    ids=["get", "three", "404", "426", "slow", "head", "body", "slow-body", "chunked"],
)  # fmt: skip
def test_requests_an_upgrade_and_frames_may_share_one_segment(
    relayd: Daemon, dial: Dial, before: bytes
) -> None:
    """Requests pipelined by a proxy or a hasty client are answered in order, and none is lost."""
    connection = dial(relayd)
    # echo: at a camera, the second pose may take the place of the first one on a busy machine
    connection.send(before, handshake("/ws/echo"), text(POSE), text(POSE))
    for _ in range(before.count(b"HTTP/1.1")):
        response = connection.response(bodyless=before.startswith(b"HEAD"))
        assert response.status in (200, 404, 426)
    assert connection.response().status == 101
    assert read_pose(connection) == read_pose(connection) == POSE


def test_frames_right_behind_the_handshake_are_received(relayd: Daemon, dial: Dial) -> None:
    """The client does not wait for 101: its frames, even its close, are read after it."""
    connection = dial(relayd)
    connection.send(
        handshake("/ws/echo"),
        *(frame(BINARY, b"%d" % number) for number in range(100)),
        frame(CLOSE, (1000).to_bytes(2)),
    )
    assert connection.response().status == 101
    for number in range(100):
        assert connection.frame() == (BINARY, b"%d" % number)
    assert connection.close_frame()[0] == 1000
    assert connection.ended()


def test_a_head_may_be_cut_at_every_byte(
    relayd: Daemon, dial: Dial, settle: Callable[[], None]
) -> None:
    """A head with a frame behind it, cut in two at any byte, is one handshake and one pose."""
    whole = handshake("/ws/camera/cut") + text(POSE)
    for cut in range(1, len(whole)):
        with Raw(relayd.port) as connection:
            connection.send(whole[:cut])
            settle()
            connection.send(whole[cut:])
            assert connection.response().status == 101
            assert read_pose(connection) == POSE


def test_an_http_request_may_come_byte_by_byte(
    relayd: Daemon, dial: Dial, settle: Callable[[], None]
) -> None:
    connection = dial(relayd)
    whole = (
        request("/api/push/x", f"Authorization: Bearer {KEY}", "Content-Length: 8", method="POST")
        + b'{"a": 1}'
        + handshake("/ws/camera/bytes")
    )
    for byte in whole:
        connection.send(bytes([byte]))
        settle()
    assert connection.response().json == {"clients": 0}
    assert connection.response().status == 101


# -- limits of a head


def padded(size: int) -> bytes:
    """A handshake of exactly so many bytes."""
    empty = handshake("/ws/camera", "X-Pad: ")
    return handshake("/ws/camera", "X-Pad: " + "x" * (size - len(empty)))


def test_head_of_16_kib_is_the_largest(relayd: Daemon, dial: Dial) -> None:
    for size, status in ((16384, 101), (16385, 431)):
        connection = dial(relayd)
        connection.send(padded(size))
        response = connection.response()
        assert response.status == status
        if status == 431:
            check(response, 431, "head_too_large")
            assert connection.ended()


@pytest.mark.parametrize(
    "start", [b"", handshake("/ws/camera")[:-2] + b"X: ", HEALTHZ[:-2] + b"X: "]
)
def test_an_endless_head_is_refused_and_the_client_can_read_the_answer(
    relayd: Daemon, dial: Dial, start: bytes
) -> None:
    """3 MB of head: the answer is there, not a reset, although the client is still sending."""
    connection = dial(relayd)
    before = relayd.memory()
    connection.send(start, b"x" * 1_000_000)
    check(connection.response(), 431, "head_too_large")
    assert relayd.memory() - before < 3_000_000
    assert connection.ended()


def test_the_limit_of_a_head_holds_on_a_kept_alive_connection(relayd: Daemon, dial: Dial) -> None:
    connection = dial(relayd)
    connection.send(HEALTHZ, b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 20_000)
    assert connection.response().status == 200
    check(connection.response(), 431, "head_too_large")


def dial_with(dial: Dial, node: Daemon, data: bytes) -> Raw:
    """A connection whose first bytes are there when it is accepted, however slow we are."""
    with stopped(node.pid):
        connection = dial(node)
        connection.send(data)
    return connection


@pytest.mark.parametrize("start", [handshake("/ws/camera")[:-2], b"G", HEALTHZ[:-1]])
def test_a_slow_head_is_answered_with_408(spawn: Spawn, dial: Dial, start: bytes) -> None:
    connection = dial_with(dial, spawn(keepalive_handshake_timeout=0.3), start)
    check(connection.response(), 408, "timeout")
    assert connection.ended()


def test_single_bytes_do_not_extend_the_deadline_of_a_head(spawn: Spawn, dial: Dial) -> None:
    first, *rest = handshake("/ws/camera") + handshake("/ws/camera")
    connection = dial_with(dial, spawn(keepalive_handshake_timeout=0.5), bytes([first]))
    connection.socket.settimeout(0.1)
    for byte in rest:
        try:
            connection.send(bytes([byte]))
            if connection.socket.recv(1, 2):  # MSG_PEEK
                break
        except TimeoutError:
            continue
    connection.socket.settimeout(10)
    check(connection.response(), 408, "timeout")


def test_a_refused_head_is_answered_to_a_peer_that_sends_no_more(
    relayd: Daemon, spawn: Spawn, dial: Dial
) -> None:
    """The peer may end its half before relayd reads the head, or when the refusal is on its way."""
    too_large = b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000
    with stopped(relayd.pid):
        connections = [dial(relayd) for _ in range(3)]
        for connection in connections:
            connection.send(too_large)
            connection.socket.shutdown(socket.SHUT_WR)
    for connection in connections:
        check(connection.response(), 431, "head_too_large")
        assert connection.ended()
    slow = dial_with(dial, spawn(keepalive_handshake_timeout=0.3), HEALTHZ[:-1])
    assert slow.socket.recv(1, socket.MSG_PEEK)
    slow.socket.shutdown(socket.SHUT_WR)
    check(slow.response(), 408, "timeout")
    assert slow.ended()


def test_a_client_that_sends_nothing_is_dropped(spawn: Spawn, dial: Dial) -> None:
    assert dial(spawn(keepalive_handshake_timeout=0.3)).ended()


def test_a_slow_head_on_a_kept_alive_connection_is_answered_with_408(
    spawn: Spawn, dial: Dial
) -> None:
    """A reused connection may rest as long as a proxy likes, but not in the middle of a head."""
    connection = dial_with(dial, spawn(keepalive_handshake_timeout=0.3), HEALTHZ)
    assert connection.response().status == 200
    connection.send(HEALTHZ[:10])
    check(connection.response(), 408, "timeout")


def test_a_kept_alive_connection_may_be_idle(spawn: Spawn, dial: Dial) -> None:
    """Longer than a head may take."""
    connection = dial_with(dial, spawn(keepalive_handshake_timeout=0.2), HEALTHZ)
    assert connection.response().status == 200
    time.sleep(0.6)  # the point of the test is that time passes
    connection.open("/ws/camera")


# -- nginx

NGINX = """
daemon off; master_process on; worker_processes 1; pid {folder}/nginx.pid; {user}
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    upstream relayd {{ server 127.0.0.1:{to}; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://relayd;
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }}
    }}
}}
"""


@pytest.fixture
def nginx(relayd: Daemon, tmp_path: Path) -> Iterator[int]:
    """The port of an nginx in front of the shared relayd, with kept-alive upstream connections."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.fail("these tests need nginx (apt: nginx-light)")
    port = free_port()
    user = "user root;" if Path("/proc/self").owner() == "root" else ""
    config = tmp_path / "nginx.conf"
    config.write_text(NGINX.format(folder=tmp_path, to=relayd.port, port=port, user=user))
    process = subprocess.Popen(
        [program, "-p", tmp_path, "-e", tmp_path / "error.log", "-c", config],
        stdin=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                Raw(port).__exit__()
                break
            except OSError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def test_pages_and_websockets_work_through_nginx(nginx: int) -> None:
    """Upgrades go over upstream connections that pages have used before, and pages go on."""
    with contextlib.ExitStack() as sockets, Raw(nginx) as browser:
        for number in range(12):
            browser.send(HEALTHZ)
            assert browser.response().json == {"status": "ok"}
            browser.send(request("/"))
            assert browser.response().status == 200
            client = sockets.enter_context(
                websocket(f"ws://127.0.0.1:{nginx}/ws/camera/nginx-{number}", proxy=None)
            )
            say(client, {"x": number})
            assert read(client) == {"x": number, "y": None, "z": None}
            if number % 2:
                client.close()
                assert client.close_code == 1000


def test_refusals_pass_through_nginx(nginx: int) -> None:
    """The status and the body reach the client behind the proxy."""
    for path, status, error in REFUSALS[5:]:
        with pytest.raises(InvalidStatus) as caught:
            websocket(f"ws://127.0.0.1:{nginx}{path}", proxy=None)
        response = caught.value.response
        assert response.status_code == status
        assert json.loads(response.body)["error"] == error

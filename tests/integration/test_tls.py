"""TLS that ends in relayd: chains, versions, ALPN, HTTP/2, WebSockets, and files that change."""

import contextlib
import functools
import itertools
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from websockets.sync.client import ClientConnection

from tests.certificates import Chain, write
from tests.daemon import Daemon, tls_client
from tests.integration.clients import PATIENCE, read, read_close, read_many, say, settle
from tests.integration.conftest import KEY, Connect
from tests.integration.relayctl import Operator
from tests.integration.waiting import eventually
from tests.integration.workers import wait_for_workers
from tests.ports import free_port
from tests.redis_servers import Redis

Shake = Callable[..., ssl.SSLSocket]


class Secure:
    """A relayd with TLS, and clients that trust the root alone."""

    def __init__(self, folder: Path, **settings: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.chain = Chain(folder / "tls", "127.0.0.1", "localhost")
        self.port = free_port()
        env = {
            "RELAYD_TLS_CERTIFICATE": str(self.chain.certificate),
            "RELAYD_TLS_KEY": str(self.chain.key),
            "RELAYD_TLS_LISTEN": f"tcp:{self.port}:interface=127.0.0.1",
            "RELAYD_ECHO_ENABLED": "true",
            "RELAYD_API_KEY": KEY,
            **{f"RELAYD_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.daemon = Daemon(folder, env)

    def trust(self, *protocols: str, **options: Any) -> ssl.SSLContext:
        """What a client trusts, and what it offers."""
        trust = tls_client(self.chain.root_file)
        if protocols:
            trust.set_alpn_protocols(list(protocols))
        for name, value in options.items():
            setattr(trust, name, value)
        return trust

    def shake(self, *protocols: str, port: int = 0, **options: Any) -> ssl.SSLSocket:
        """A connection after the handshake of TLS."""
        plain = socket.create_connection(("127.0.0.1", port or self.port), timeout=PATIENCE)
        return self.trust(*protocols, **options).wrap_socket(plain, server_hostname="127.0.0.1")

    def serial(self, port: int = 0) -> int:
        """The serial number of the certificate that new connections get."""
        with self.shake(port=port) as client:
            found = client.getpeercert()
        assert found is not None
        return int(str(found["serialNumber"]), 16)

    def connect(self, connect: Connect, path: str, **options: Any) -> ClientConnection:
        """A WebSocket over TLS."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        options = {"ssl": self.trust(), **options}
        return connect(self.daemon, path, scheme="wss", sock=plain, **options)

    def curl(self, path: str, *options: str) -> tuple[str, int, bytes]:
        """Version, status and body of an answer that curl gets."""
        ran = subprocess.run(
            ["curl", "--silent", "--show-error", "--cacert", str(self.chain.root_file),
             "--max-time", str(PATIENCE), "--write-out", "\n%{http_version} %{http_code}",
             *options, f"https://127.0.0.1:{self.port}{path}"],
            capture_output=True, check=True,
        )  # fmt: skip
        body, _, last = ran.stdout.rpartition(b"\n")
        version, status = last.decode().split()
        return version, int(status), body


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """One for the tests that change nothing of it."""
    secure = Secure(tmp_path_factory.mktemp("secure"))
    secure.daemon.start()
    yield secure
    secure.daemon.stop()
    assert "Traceback" not in secure.daemon.log
    assert "Unhandled" not in secure.daemon.log


@contextlib.contextmanager
def running(secure: Secure) -> Iterator[Secure]:
    secure.daemon.start()
    try:
        yield secure
    finally:
        secure.daemon.stop()


# The handshake


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_knows_the_root_alone_trusts_the_chain(
    shared: Secure, version: ssl.TLSVersion
) -> None:
    with shared.shake(maximum_version=version, minimum_version=version) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")


@pytest.mark.filterwarnings("ignore:.*TLSv1:DeprecationWarning")
def test_older_versions_of_tls_are_refused(shared: Secure) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    plain = socket.create_connection(("127.0.0.1", shared.port), timeout=PATIENCE)
    with plain, pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
        old.wrap_socket(plain)


def test_a_client_that_wants_to_renegotiate_is_refused(shared: Secure) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    plain = socket.create_connection(("127.0.0.1", shared.port))  # pyOpenSSL: no timeout
    client = SSL.Connection(context, plain)
    client.set_connect_state()
    client.do_handshake()
    assert client.renegotiate()
    with pytest.raises(SSL.Error, match="no renegotiation"):
        client.do_handshake()
    assert client.total_renegotiations() == 1
    plain.close()


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ((), None),
        (("http/1.1",), "http/1.1"),
        (("h2", "http/1.1"), "h2"),
        (("http/1.1", "h2"), "h2"),
        (("h3", "http/1.1"), "http/1.1"),
    ],
)
def test_a_protocol_is_chosen_from_what_the_client_offers(
    shared: Secure, offered: tuple[str, ...], chosen: str | None
) -> None:
    with shared.shake(*offered) as client:
        assert client.selected_alpn_protocol() == chosen


def test_a_client_that_speaks_none_of_our_protocols_is_told(shared: Secure) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
        shared.shake("smtp")


def test_a_handshake_that_does_not_go_on_ends_with_the_handshake_timeout(tmp_path: Path) -> None:
    with running(Secure(tmp_path, keepalive_handshake_timeout=0.5)) as secure:
        for first in (b"", b"\x16\x03\x01\x02\x00\x01"):
            with socket.create_connection(("127.0.0.1", secure.port), PATIENCE) as mute:
                mute.sendall(first)
                with contextlib.suppress(ConnectionResetError):
                    assert mute.recv(100) == b""
        with secure.shake("h2") as silent, contextlib.suppress(ConnectionError, ssl.SSLError):
            assert silent.recv(100) == b""


# What goes over it


@pytest.mark.parametrize("offered", [(), ("http/1.1",), ("h2", "http/1.1")])
def test_a_websocket_goes_over_tls_on_the_same_port(
    shared: Secure, connect: Connect, offered: tuple[str, ...]
) -> None:
    """Also one whose TLS offers h2 though it speaks HTTP/1.1."""
    sender = shared.connect(connect, "/ws/camera/tls", ssl=shared.trust(*offered))
    plain = connect(shared.daemon, "/ws/camera/tls")
    for number in range(300):
        say(sender, {"x": number})
    for client in (sender, plain):
        assert [read(client)["x"] for _ in range(300)] == list(range(300))
    chat = [shared.connect(connect, "/ws/chat/tls?history=0") for _ in range(2)]
    say(chat[0], {"message": "hi"})
    assert [read(client)["message"] for client in chat] == ["hi", "hi"]
    large = shared.connect(connect, "/ws/echo", max_size=None)
    large.send("x" * 300_000)
    assert large.recv(timeout=PATIENCE) == "x" * 300_000
    refused = shared.connect(connect, "/ws/elsewhere?refuse=close")
    assert read_close(refused)[0] == 4404


def test_viewers_get_names_with_and_without_compression_and_tls(
    tmp_path: Path, connect: Connect
) -> None:
    """Poses of under 125 bytes with a name and without, and longer ones, which are compressed."""
    ways = list(itertools.product((True, False), ("deflate", None), ("", "?senders=1")))
    poses = [{"x": n, "y": 10**150 + n if n % 2 else n / 7, "z": None} for n in range(60)]
    with running(Secure(tmp_path, server_deflate="true")) as secure:

        def enter(tls: bool, compression: str | None, query: str) -> ClientConnection:
            path = f"/ws/camera/names{query}"
            if tls:
                return secure.connect(connect, path, compression=compression)
            return connect(secure.daemon, path, compression=compression)

        clients = [enter(*way) for way in ways]
        senders = [enter(True, "deflate", ""), enter(False, None, "")]
        settle(*clients, *senders)
        for number, pose in enumerate(poses):
            say(senders[number // 3 % 2], pose)
            settle(senders[number // 3 % 2])
        names = set()
        for (_, compression, query), client in zip(ways, clients, strict=True):
            assert [each.name for each in client.protocol.extensions] == (
                ["permessage-deflate"] if compression else []
            )
            got = read_many(client, len(poses))
            named = [pose.pop("sender", "") for pose in got]
            assert got == poses
            names.add(tuple(named) if query else ())
            assert any(named) is bool(query)
    (order,) = names - {()}
    assert len(set(order)) == 2
    assert [order[n] == order[0] for n in range(60)] == [n // 3 % 2 == 0 for n in range(60)]


def test_every_page_and_api_route_answers_over_http_2_as_over_http_1(
    shared: Secure, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"x" * 70_000)
    routes = [
        ("/", ()), ("/", ("--head",)), ("/chat", ()), ("/chat/", ()), ("/chat/room/", ()),
        ("/static/room.js", ()), ("/healthz", ()), ("/readyz", ()), ("/nothing", ()),
        ("/nothing", ("--header", "Accept: text/html")), ("/ws/camera", ()),
        ("/healthz", ("--request", "DELETE")),
        ("/api/push/news", ("--data", "hi")),
        ("/api/push/news", ("--data", "hi", "--header", f"Authorization: Bearer {KEY}")),
        ("/api/push/news", ("--data", f"@{large}", "--header", f"Authorization: Bearer {KEY}")),
        ("/api/push/news", ("--data", f"@{large}", "--header", "Expect: 100-continue",
                            "--header", f"Authorization: Bearer {KEY}")),
        ("/api/chat/room", ("--data", '{"message": "hi"}', "--header", "Cookie: a=b",
                            "--header", f"Authorization: Bearer {KEY}")),
    ]  # fmt: skip
    statuses = set()
    for path, options in routes:
        old, new = (shared.curl(path, version, *options) for version in ("--http1.1", "--http2"))
        assert (old[0], new[0]) == ("1.1", "2"), path
        assert old[1] == new[1], (path, options)
        if not path.startswith("/api/chat") and "--head" not in options:
            assert old[2] == new[2], path
        statuses.add(new[1])
    assert statuses >= {200, 308, 404, 405, 401, 413, 426}
    assert shared.curl("/metrics", "--http2")[:2] == ("2", 200)


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_server_sent_events_come_one_by_one_over_either_version(
    shared: Secure, version: str
) -> None:
    topic = f"push/events{version[-1]}"
    with subprocess.Popen(
        ["curl", "--silent", "--no-buffer", "--include", version,
         "--cacert", str(shared.chain.root_file),
         "--max-time", str(PATIENCE), f"https://127.0.0.1:{shared.port}/sse/{topic}"],
        stdout=subprocess.PIPE,
    ) as curl:  # fmt: skip
        assert curl.stdout is not None
        lines: list[bytes] = []
        while not lines or lines[-1] != b"event: hello\n":
            lines.append(curl.stdout.readline())
            assert lines[-1], lines
        assert lines[0].startswith(b"HTTP/2 200" if version == "--http2" else b"HTTP/1.1 200")
        for percent in (b'{"percent":1}', b'{"percent":2}'):
            header = {"Authorization": f"Bearer {KEY}"}
            assert shared.daemon.post(f"/api/{topic}", percent, **header) == (200, {"clients": 1})
            while (line := curl.stdout.readline()) != b"data: %b\n" % percent:
                assert line
        curl.terminate()


def test_a_refused_head_is_answered_to_a_peer_that_sends_no_more(shared: Secure) -> None:
    """Whether the peer ends its half of TLS, of TCP, or of both (RFC 8446 section 6.1)."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 65536
    for ends_tls, ends_tcp in ((False, True), (True, False), (True, True)):
        plain = socket.create_connection(("127.0.0.1", shared.port), timeout=PATIENCE)
        read, written = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = shared.trust().wrap_bio(read, written, server_hostname="127.0.0.1")
        received = b""
        with plain:
            steps = (client.do_handshake, functools.partial(client.write, head))
            for step in steps:
                while True:
                    with contextlib.suppress(ssl.SSLWantReadError):
                        step()
                        break
                    plain.sendall(written.read())
                    read.write(plain.recv(65536))
            if ends_tls:
                with contextlib.suppress(ssl.SSLWantReadError):
                    client.unwrap()
            plain.sendall(written.read())
            if ends_tcp:
                plain.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while data := plain.recv(65536):
                    read.write(data)
        with contextlib.suppress(ssl.SSLError):
            while data := client.read(65536):
                received += data
        assert received.startswith(b"HTTP/1.1 431 "), (ends_tls, ends_tcp, received)


def test_one_connection_of_http_2_carries_many_requests(shared: Secure) -> None:
    urls = [f"https://127.0.0.1:{shared.port}/static/room.js"] * 60
    ran = subprocess.run(
        ["curl", "--silent", "--cacert", str(shared.chain.root_file), "--http2", "--parallel",
         "--parallel-max", "20", "--write-out", "%{num_connects} %{http_code}\n",
         *[word for url in urls for word in ("--output", "/dev/null", url)]],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    answers = [line.split() for line in ran.stdout.splitlines()]
    assert [status for _, status in answers] == ["200"] * 60


# Files that change


def test_a_renewed_certificate_is_used_and_a_half_renewed_one_is_not(
    tmp_path: Path, connect: Connect
) -> None:
    with running(Secure(tmp_path)) as secure:
        chain, before = secure.chain, secure.serial()
        client = secure.connect(connect, "/ws/camera/stays")
        key = chain.renew()
        os.kill(secure.daemon.pid, signal.SIGHUP)
        eventually(lambda: "do not belong together" in secure.daemon.log)
        assert secure.serial() == before
        metrics = secure.daemon.get("/metrics")[1]
        assert re.search(r"relayd_tls_certificate_stale\{[^}]*\} 1\.0", metrics)
        write(chain.key, key)
        os.kill(secure.daemon.pid, signal.SIGHUP)
        eventually(lambda: secure.serial() == chain.leaf.serial_number)
        metrics = secure.daemon.get("/metrics")[1]
        assert re.search(r"relayd_tls_certificate_stale\{[^}]*\} 0\.0", metrics)
        end = re.search(r"relayd_tls_certificate_end_timestamp_seconds\{[^}]*\} (\S+)", metrics)
        assert end is not None
        assert float(end[1]) <= chain.leaf.not_valid_after_utc.timestamp()
        say(client, {"x": 1})
        assert read(client)["x"] == 1


def test_new_files_are_noticed_without_a_reload(tmp_path: Path) -> None:
    with running(Secure(tmp_path)) as secure:
        write(secure.chain.key, secure.chain.renew())
        eventually(lambda: secure.serial() == secure.chain.leaf.serial_number)


def test_workers_share_endpoints_with_tls_and_reload_their_certificate(
    tmp_path: Path, redis: Redis, connect: Connect
) -> None:
    settings = {"server_workers": 2, "redis_url": f"unix://{redis.socket}"}
    secure = Secure(tmp_path, **settings)
    secure.daemon.start(wait=False)
    try:
        wait_for_workers(secure.daemon)
        clients = [secure.connect(connect, "/ws/camera/shared") for _ in range(6)]
        clients.append(connect(secure.daemon, "/ws/camera/shared"))
        say(clients[0], {"x": 1})
        assert [read(client)["x"] for client in clients] == [1] * len(clients)
        write(secure.chain.key, secure.chain.renew())
        os.kill(secure.daemon.pid, signal.SIGHUP)
        eventually(lambda: secure.daemon.log.count("has changed; new connections get it") == 2)
        assert {secure.serial() for _ in range(8)} == {secure.chain.leaf.serial_number}
        assert secure.curl("/healthz", "--http2")[:2] == ("2", 200)
    finally:
        secure.daemon.stop()


def test_a_start_with_a_broken_pair_fails_and_says_why(tmp_path: Path) -> None:
    secure = Secure(tmp_path)
    secure.chain.renew()
    secure.daemon.start(wait=False)
    assert secure.daemon.process is not None
    assert secure.daemon.process.wait(PATIENCE) == 1
    assert "cannot listen on ssl:" in secure.daemon.log
    assert "do not belong together" in secure.daemon.log


def test_an_ssl_endpoint_sends_the_whole_chain_and_speaks_http_2(tmp_path: Path) -> None:
    secure, port = Secure(tmp_path), free_port()
    files = f"privateKey={secure.chain.key}:certKey={secure.chain.certificate}"
    secure.daemon.args = ("--listen", f"ssl:{port}:interface=127.0.0.1:{files}")
    with running(secure):
        with secure.shake("h2", port=port) as client:
            assert client.selected_alpn_protocol() == "h2"
        assert f"https://127.0.0.1:{port}" in secure.daemon.log
        # a renewed certificate: a reload uses it, and says so
        write(secure.chain.key, secure.chain.renew())
        said = Operator(secure.daemon.folder)("reload").stdout.splitlines()
        assert f"TLS: {secure.chain.certificate} has changed; new connections get it" in said[0]
        assert said[-1] == "no setting has changed"
        assert secure.serial(port) == secure.serial() == secure.chain.leaf.serial_number
        before = len(secure.daemon.log)
        write(secure.chain.key, secure.chain.renew())
        os.kill(secure.daemon.pid, signal.SIGHUP)
        eventually(lambda: "no setting has changed" in secure.daemon.log[before:])
        assert "has changed; new connections get it" in secure.daemon.log[before:]
        assert secure.serial(port) == secure.chain.leaf.serial_number


def test_a_drain_ends_connections_of_http_2(tmp_path: Path) -> None:
    secure = Secure(tmp_path)
    secure.daemon.start()
    with secure.shake("h2") as idle:
        idle.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04\0" + bytes(4))
        assert idle.recv(4096)
        ended = threading.Thread(target=lambda: _read_all(idle))
        ended.start()
        secure.daemon.stop()
        ended.join(PATIENCE)
        assert not ended.is_alive()


def test_a_slow_head_within_tls_is_answered_with_408(tmp_path: Path) -> None:
    secure = Secure(tmp_path)
    secure.daemon.env["RELAYD_KEEPALIVE_HANDSHAKE_TIMEOUT"] = "2"
    with running(secure), secure.shake() as first, secure.shake() as second:
        first.sendall(b"G")
        second.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n")
        for client in (first, second):
            answer = b""
            while part := client.recv(4096):
                answer += part
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "timeout"


def _read_all(client: ssl.SSLSocket) -> None:
    with contextlib.suppress(OSError):
        while client.recv(4096):
            pass


def test_a_trusted_proxy_may_say_the_address_of_a_client_before_tls(tmp_path: Path) -> None:
    """`haproxy:ssl:` expects its header within TLS; an untrusted peer is dropped."""
    secure, port = Secure(tmp_path), free_port()
    files = f"privateKey={secure.chain.key}:certKey={secure.chain.certificate}"
    secure.daemon.args = ("--listen", f"haproxy:ssl:{port}:interface=127.0.0.1:{files}")
    secure.daemon.env["RELAYD_PROXY_TRUSTED"] = "192.0.2.1"
    with running(secure):
        with contextlib.suppress(OSError), secure.shake(port=port) as client:
            client.sendall(b"PROXY TCP4 192.0.2.9 192.0.2.1 1 2\r\n")
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(100) == b""
        eventually(lambda: "127.0.0.1 is not in [proxy] trusted" in secure.daemon.log)

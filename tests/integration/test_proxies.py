"""The examples of etc/examples/ with the real proxies: frames, refusals, restarts, addresses."""

import contextlib
import http.client
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from tests.daemon import Daemon
from tests.integration.clients import check_refusal, read, read_close, say, settle
from tests.integration.conftest import Spawn
from tests.integration.raw import handshake
from tests.processes import RELAYCTL, run
from tests.proxies import Caddy, HAProxy, Nginx, Proxy
from tests.redis_servers import Redis

PROXIES = [Nginx, HAProxy, Caddy]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Daemon]:
    """A relayd on TCP and on a unix socket, that a test may stop."""
    (tmp_path / "node").mkdir()
    running = Daemon(
        tmp_path / "node",
        {"RELAYD_ECHO_ENABLED": "true", "RELAYD_API_KEY": "a key of this test, long enough"},
        *("--listen", f"unix:{tmp_path}/node/relayd.sock"),
    )
    running.start()
    yield running
    running.stop()


def upstream(node: Daemon, kind: str) -> str:
    """Where the proxy finds the node."""
    return f"{node.folder}/relayd.sock" if kind == "unix" else f"127.0.0.1:{node.port}"


@pytest.fixture(params=PROXIES)
def kind_of_proxy(request: pytest.FixtureRequest) -> type[Proxy]:
    """Each proxy in turn."""
    kind: type[Proxy] = request.param
    return kind


@pytest.fixture
def proxy(kind_of_proxy: type[Proxy], node: Daemon, tmp_path: Path) -> Iterator[Proxy]:
    """Each proxy in turn, in front of the node's TCP port."""
    with kind_of_proxy(tmp_path / "proxy", [upstream(node, "tcp")]) as running:
        yield running


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_the_proxy_finds_no_fault_in_its_example_configuration(
    kind_of_proxy: type[Proxy], kind: str, tmp_path: Path
) -> None:
    upstreams = {"tcp": ["127.0.0.1:1", "127.0.0.1:2"], "unix": [f"{tmp_path}/relayd.sock"]}
    proxy = kind_of_proxy(tmp_path / "proxy", upstreams[kind])
    proxy.configure()
    ran = subprocess.run(proxy.check(), capture_output=True, text=True, check=False)
    output = ran.stdout + ran.stderr
    assert ran.returncode == 0, output
    # that it listens under no name of the system's own is said of every certificate without OCSP
    assert "[warn]" not in output, output
    assert "WARNING" not in output, output


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_frames_of_all_kinds_pass(
    kind_of_proxy: type[Proxy], kind: str, node: Daemon, tmp_path: Path
) -> None:
    with kind_of_proxy(tmp_path / "proxy", [upstream(node, kind)]) as proxy:
        camera, viewer = proxy.connect("/ws/camera/through"), proxy.connect("/ws/camera/through")
        settle(camera, viewer)
        say(camera, {"x": 1, "y": 2.5, "z": -3})
        assert read(camera) == read(viewer) == {"x": 1, "y": 2.5, "z": -3}
        echo = proxy.connect("/ws/echo")
        for message in ("text", "grün", b"\x00binary", "x" * 60_000, b""):
            echo.send(message)
            assert echo.recv(timeout=20) == message
        settle(echo)  # a ping of the client's, and its pong
        for client in (camera, viewer, echo):
            client.close()
            assert client.close_code == 1000


def test_pings_of_relayd_reach_the_client_and_its_pongs_reach_relayd(
    kind_of_proxy: type[Proxy], spawn: Spawn, tmp_path: Path
) -> None:
    """A client that answers stays; one that does not is closed with 4002, through the proxy."""
    # as long as the proxy, or the client, may stand still and count as alive
    node = spawn(keepalive_ping_interval=0.2, keepalive_pong_timeout=3, keepalive_close_timeout=0.5)
    with kind_of_proxy(tmp_path / "proxy", [f"127.0.0.1:{node.port}"]) as proxy:
        alive = proxy.connect("/ws/camera/alive")
        plain = socket.create_connection(("127.0.0.1", proxy.port), 20)
        with proxy.tls().wrap_socket(plain, server_hostname="127.0.0.1") as mute:
            mute.sendall(handshake("/ws/camera/mute"))
            received = b""
            while chunk := mute.recv(4096):
                received += chunk
        frames = received.partition(b"\r\n\r\n")[2]
        ping, _, rest = frames.partition(b'{"error":"no_pong",')
        assert ping.startswith(b"\x89\x00\x81")
        assert rest.endswith(b"}" + b"\x88\x09" + (4002).to_bytes(2) + b"no pong")
        settle(alive)


def test_a_restart_closes_the_clients_with_1001(proxy: Proxy, node: Daemon) -> None:
    clients = [proxy.connect(f"/ws/camera/{number}") for number in range(5)]
    settle(*clients)
    node.stop()
    assert [read_close(client)[0] for client in clients] == [1001] * 5


def test_refusals_reach_the_client_whole(proxy: Proxy) -> None:
    for path, status, error in [
        ("/ws/nothing", 404, "not_found"),
        ("/ws/difficulty/unity/no-uuid", 400, "bad_uuid"),
    ]:
        refusal = refused(proxy, path)
        assert (refusal.status, refusal.error) == (status, error)


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_errors_of_http_reach_the_client_whole(proxy: Proxy, version: str) -> None:
    """Over HTTP/2 an answer with the header Upgrade is malformed, and nginx passes it on."""
    for path, status, error in [
        ("/ws/camera", 426, "upgrade_required"),
        ("/ws/difficulty/unity/no-uuid", 426, "upgrade_required"),
        ("/ws/nothing", 404, "not_found"),
        ("/api/push/topic", 401, "unauthorized"),
        ("/healthz/nothing", 404, "not_found"),
    ]:
        text = proxy.curl(path, version, "--include", "--request", "GET")
        head, _, body = text.replace("\r\n", "\n").partition("\n\n")
        first, *lines = head.lower().splitlines()
        assert first.split()[:2] == [f"http/{version[-3:].replace('tp2', '2')}", str(status)], text
        headers = {
            name: value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        assert headers["content-type"] == "application/json; charset=utf-8"
        assert "upgrade" not in headers
        assert ("www-authenticate" in headers) == (status == 401)
        assert json.loads(body)["error"] == error


def test_the_access_log_has_neither_uuids_nor_secrets_nor_tokens(
    proxy: Proxy, node: Daemon
) -> None:
    secret, uuid, token = "s3cret-of-the-headset", "123e4567-e89b-42d3-a456-426614174000", "t0ken"
    headset = proxy.connect(f"/ws/difficulty/unity/{uuid}?secret={secret}")
    settle(headset)
    headset.close()
    assert refused(proxy, f"/ws/difficulty/android/{uuid}/?token={token}").status in (400, 403)
    proxy.connect(f"/ws/camera/seen?token={token}").close()
    node.stop()  # so that there are errors, too
    for path in (f"/ws/difficulty/unity/{uuid}?secret={secret}", f"/ws/camera/away?token={token}"):
        with pytest.raises(InvalidStatus):
            proxy.connect(path)
    written = ""
    until = time.monotonic() + 20
    while "/ws/camera/away" not in written:
        assert time.monotonic() < until, written
        files = [proxy.folder / "log", *proxy.folder.glob("relayd*.log")]
        written = "".join(file.read_text() for file in files)
        time.sleep(0.02)
    assert "/ws/camera/seen" in written
    assert "/ws/difficulty/unity" in written
    for hidden in (uuid, uuid[:8], secret, token):
        assert hidden not in written


def test_pages_come_over_http_2_and_metrics_do_not(proxy: Proxy) -> None:
    written = "\\n%{http_version} %{http_code}"
    page, _, end = proxy.curl("/", "--write-out", written).rpartition("\n")
    assert "relayd" in page
    assert end == "2 200"
    for path in ("/metrics", "/metrics/", "/%6detrics"):
        assert proxy.curl(path, "--write-out", written).endswith("\n2 404"), path


# Caddy does that by itself; the tests turn it off, for want of port 80
@pytest.mark.parametrize("kind_of_proxy", [Nginx, HAProxy])
def test_plain_http_is_sent_to_https(proxy: Proxy) -> None:
    found = subprocess.run(
        ["curl", "-sSI", "--noproxy", "*", f"http://127.0.0.1:{proxy.plain_port}/chat/lobby/?x=1"],
        capture_output=True, text=True, check=True,
    ).stdout.lower()  # fmt: skip
    assert " 308 " in found.splitlines()[0]
    assert "location: https://127.0.0.1" in found
    assert "/chat/lobby/?x=1" in found


def test_a_body_that_is_too_large_is_refused(proxy: Proxy) -> None:
    data = ("--write-out", "%{http_code}", "--data", "x" * 70_000)
    for _ in range(5):
        assert proxy.curl("/api/push/topic", *data).endswith("413")
    # nobody else is the worse for it
    settle(proxy.connect("/ws/camera"))


class _Refused:
    def __init__(self, status: int, error: str) -> None:
        self.status, self.error = status, error


def refused(proxy: Proxy, path: str, **options: object) -> _Refused:
    """Status and code of a refused handshake, after the checks that hold for every one."""
    with pytest.raises(InvalidStatus) as caught:
        proxy.connect(path, **options)
    response = caught.value.response
    check_refusal(response.status_code, dict(response.headers.raw_items()), response.body or b"")
    return _Refused(response.status_code, json.loads(response.body or b"")["error"])


# Caddy has no rate limits of its own
@pytest.mark.parametrize("kind_of_proxy", [Nginx, HAProxy])
def test_an_address_with_too_many_connections_gets_retry_after(
    kind_of_proxy: type[Proxy], node: Daemon, tmp_path: Path
) -> None:
    """The proxy's refusal has the form of relayd's own."""
    changes = {
        Nginx: {"relayd_sockets 500": "relayd_sockets 6"},
        HAProxy: {"gt 200": "gt 6", "http_req_rate(10s)": "http_req_rate(600s)"},
    }[kind_of_proxy]
    with kind_of_proxy(tmp_path / "proxy", [upstream(node, "tcp")], changes) as proxy:
        clients: list[ClientConnection] = [proxy.connect("/ws/camera") for _ in range(6)]
        settle(*clients)
        refusal = refused(proxy, "/ws/camera")
        assert (refusal.status, refusal.error) == (429, "too_many_connections")


@pytest.mark.parametrize("kind_of_proxy", [Nginx, HAProxy])
def test_an_address_with_too_many_requests_of_the_api_or_of_readyz_gets_retry_after(
    kind_of_proxy: type[Proxy], node: Daemon, tmp_path: Path
) -> None:
    changes = {
        Nginx: {
            "zone=relayd_api:10m rate=100r/s": "zone=relayd_api:10m rate=1r/m",
            "zone=relayd_ready:10m rate=2r/s": "zone=relayd_ready:10m rate=1r/m",
            "zone=relayd_api burst=200": "zone=relayd_api burst=5",
            "zone=relayd_ready burst=20": "zone=relayd_ready burst=5",
        },
        HAProxy: {"gt 1000": "gt 6", "gt 40": "gt 6", "http_req_rate(10s)": "http_req_rate(600s)"},
    }[kind_of_proxy]
    with kind_of_proxy(tmp_path / "proxy", [upstream(node, "tcp")], changes) as proxy:
        for path in ("/api/push/news", "/readyz", "/healthz"):
            answers = [get(proxy, path) for _ in range(8)]
            assert all(status != 429 for status, _ in answers[:6]), (path, answers)
            if path == "/healthz":
                assert {status for status, _ in answers} == {200}
                continue
            for status, head in answers[6:]:
                assert (status, head["retry-after"]) == (429, "5"), path
                assert head["content-type"] == "application/json; charset=utf-8"


def test_caddy_does_not_forward_what_is_for_monitoring(node: Daemon, tmp_path: Path) -> None:
    with Caddy(tmp_path / "proxy", [upstream(node, "tcp")]) as proxy:
        found = [get(proxy, path)[0] for path in ("/readyz", "/readyz/", "/metrics", "/healthz")]
        assert found == [404, 404, 404, 200]


def get(proxy: Proxy, path: str) -> tuple[int, dict[str, str]]:
    """Status and head of a page's answer."""
    connection = http.client.HTTPSConnection(
        "127.0.0.1", proxy.port, timeout=20, context=proxy.tls()
    )
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}


def test_handshakes_get_503_while_relayd_is_down_and_pages_work_after_its_start(
    kind_of_proxy: type[Proxy], node: Daemon, tmp_path: Path
) -> None:
    with kind_of_proxy(tmp_path / "proxy", [upstream(node, "tcp")]) as proxy:
        proxy.connect("/ws/camera").close()
        node.stop()
        with pytest.raises(InvalidStatus) as caught:
            proxy.connect("/ws/camera")
        assert caught.value.response.status_code in (502, 503)
        assert refused(proxy, "/ws/camera").error == "draining"
        node.start()
        wait_for(proxy)


def wait_for(proxy: Proxy) -> None:
    """Until the proxy lets clients through again."""
    until = time.monotonic() + 20
    while True:
        try:
            client = proxy.connect("/ws/camera/back")
        except InvalidStatus:
            assert time.monotonic() < until
            time.sleep(0.1)
        else:
            client.close()
            return


def test_camera_clients_are_admitted_while_a_store_is_unavailable(
    kind_of_proxy: type[Proxy], spawn: Spawn, tmp_path: Path
) -> None:
    """Chat rooms answer 503 then, and no proxy takes that for a reason to leave a relayd out."""
    with Redis() as redis:
        url = f"redis://127.0.0.1:{redis.port}/0"
        ports = [f"127.0.0.1:{spawn(redis_url=url, redis_deadline=0.5).port}" for _ in range(2)]
        with kind_of_proxy(tmp_path / "proxy", ports) as proxy:
            members = [proxy.connect("/ws/camera") for _ in range(2)]  # one in each relayd
            settle(*members)
            redis.kill()
            refusals = 0
            for _ in range(50):
                time.sleep(0.12)  # HAProxy and Caddy look every 2 s; 200 handshakes are a crowd
                try:
                    proxy.connect("/ws/chat").close()
                except InvalidStatus as refused:
                    refusals += refused.response.status_code == 503
                settle(proxy.connect("/ws/camera"))
            assert refusals > 2
            settle(*members)


@pytest.mark.parametrize("kind_of_proxy", [Nginx, HAProxy])
def test_a_relayd_that_is_drained_gets_no_new_clients(
    kind_of_proxy: type[Proxy], spawn: Spawn, tmp_path: Path
) -> None:
    """Nobody is refused once the proxy knows; nginx finds out with each handshake."""
    with Redis() as redis:
        nodes = [spawn(redis_url=f"redis://127.0.0.1:{redis.port}/0") for _ in range(2)]
        with kind_of_proxy(tmp_path / "proxy", [f"127.0.0.1:{n.port}" for n in nodes]) as proxy:
            drain = run([RELAYCTL, "drain"], cwd=nodes[0].folder, env=nodes[0].env)
            assert drain.returncode == 0, drain
            if kind_of_proxy is HAProxy:
                wait_until_left_out(proxy)
            for number in range(20):
                settle(proxy.connect(f"/ws/camera/{number}"))
        assert nodes[1].log.count(" opened by ") >= 20


def wait_until_left_out(proxy: Proxy) -> None:
    """Until HAProxy has said so."""
    until = time.monotonic() + 20
    while "is DOWN" not in (proxy.folder / "log").read_text():
        assert time.monotonic() < until
        time.sleep(0.1)

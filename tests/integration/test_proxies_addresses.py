"""The client's address as relayd's log has it: behind the real proxies, forged, and not trusted.

The clients connect from addresses of 127.0.0.0/8 of their own, so that they can be told from the
proxy, which connects to relayd from 127.0.0.1.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.integration.clients import settle
from tests.integration.raw import Raw, handshake
from tests.ports import free_port
from tests.proxies import Caddy, HAProxy, Nginx, Proxy

Start = Callable[..., Daemon]

CLIENT = "127.8.7.6"
FORGED = {"X-Forwarded-For": "198.51.100.99", "Forwarded": "for=198.51.100.98"}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a relayd that trusts these proxies, and listens on `more`, too."""
    daemons: list[Daemon] = []

    def start(trusted: str, *more: str, **env: str) -> Daemon:
        folder = tmp_path / "node"
        folder.mkdir()
        options = [part for endpoint in more for part in ("--listen", endpoint)]
        daemons.append(Daemon(folder, {"RELAYD_PROXY_TRUSTED": trusted, **env}, *options))
        return daemons[-1].start()

    yield start
    for daemon in daemons:
        daemon.stop()


def opened_by(node: Daemon, path: str) -> str:
    """Whom the log says the connection with this path was opened by."""
    found = re.search(rf"{re.escape(path)} opened by (\S+)", node.log)
    assert found is not None, node.log
    return found[1]


def come(proxy: Proxy, path: str) -> None:
    """A client from its own address, which claims to be others."""
    client = proxy.connect(
        path, source_address=(CLIENT, 0), additional_headers={"X-Forwarded-For": "198.51.100.97"}
    )
    settle(client)
    client.close()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("kind_of_proxy", [Nginx, HAProxy, Caddy])
def test_the_log_has_the_address_of_the_client(
    kind_of_proxy: type[Proxy], kind: str, start: Start, tmp_path: Path
) -> None:
    """This holds for WebSockets and for pages; an address claimed by the client has no effect."""
    path = f"{tmp_path}/relayd.sock"
    node = start({"tcp": "127.0.0.1", "unix": "unix:"}[kind], f"unix:{path}")
    upstream = path if kind == "unix" else f"127.0.0.1:{node.port}"
    with kind_of_proxy(tmp_path / "proxy", [upstream]) as proxy:
        come(proxy, "/ws/camera/addressed")
        forged = [part for item in FORGED.items() for part in ("-H", ": ".join(item))]
        proxy.curl("/chat/addressed/", "--interface", CLIENT, *forged)
    assert opened_by(node, "/ws/camera/addressed") == CLIENT
    assert f"{CLIENT} GET /chat/addressed/: 200" in node.log
    assert "198.51.100" not in node.log


def test_an_untrusted_peer_cannot_choose_its_address(start: Start, tmp_path: Path) -> None:
    """By default nobody is; a proxy on this machine that is not configured is named once."""
    node = start("")
    for number in range(2):
        client = node.connect(f"/ws/camera/direct{number}", additional_headers=FORGED)
        settle(client)
        client.close()
    assert opened_by(node, "/ws/camera/direct1").startswith("127.0.0.1:")
    assert node.log.count("127.0.0.1 sends x-forwarded-for, but is not in [proxy] trusted") == 1


def test_only_the_configured_address_header_is_read(start: Start) -> None:
    """Any other header comes from the client itself, where the proxy does not set it."""
    node = start("127.0.0.1", RELAYD_PROXY_HEADER="forwarded")
    for path, headers in [
        ("/ws/camera/forwarded", {"Forwarded": "for=198.51.100.1", "X-Forwarded-For": "9.9.9.9"}),
        ("/ws/camera/none", {"X-Forwarded-For": "9.9.9.9"}),
    ]:
        client = node.connect(path, additional_headers=headers)
        settle(client)
        client.close()
    assert opened_by(node, "/ws/camera/forwarded") == "198.51.100.1"
    assert opened_by(node, "/ws/camera/none").startswith("127.0.0.1:")


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
def test_the_client_address_is_read_from_the_proxy_protocol(
    version: str, start: Start, tmp_path: Path
) -> None:
    port = free_port()
    node = start("127.0.0.1", f"haproxy:tcp:{port}:interface=127.0.0.1")
    changes = {
        f"    server relayd1 127.0.0.1:{port}": f"    server relayd1 127.0.0.1:{port} {version}",
        "http-request set-header X-Forwarded-For %[src]": "http-request del-header X-Forwarded-For",
        "http-reuse safe": "http-reuse never",
        "default-server check": "default-server check check-send-proxy",
    }
    with HAProxy(tmp_path / "proxy", [f"127.0.0.1:{port}"], changes) as proxy:
        come(proxy, "/ws/camera/proxied")
    assert opened_by(node, "/ws/camera/proxied").startswith(f"{CLIENT}:")


def test_a_proxy_protocol_port_is_for_trusted_proxies(start: Start, tmp_path: Path) -> None:
    """Anybody else is dropped before a byte is read."""
    port = free_port()
    node = start("10.0.0.0/8", f"haproxy:tcp:{port}:interface=127.0.0.1")

    def try_to_come() -> None:
        with Raw(port) as stranger:
            said = b"PROXY TCP4 198.51.100.1 127.0.0.1 4711 80\r\n"
            stranger.send(said, handshake("/ws/camera/x"))
            stranger.response()

    # how far it comes is chance: connect(2) itself may say that the connection is reset
    with pytest.raises((ConnectionError, AssertionError)):
        try_to_come()
    assert "127.0.0.1 is not in [proxy] trusted: dropped" in node.log
    assert "/ws/camera/x" not in node.log

"""relayctl ban: closed at once and refused, on every process, behind proxies, over a restart."""

import contextlib
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection

from tests.daemon import Daemon
from tests.integration.clients import PATIENCE, Refused, read, read_close, say
from tests.integration.conftest import Connect, Spawn
from tests.integration.relayctl import Operator, check_failed
from tests.integration.waiting import eventually
from tests.integration.workers import clients_of
from tests.proxies import Nginx
from tests.redis_servers import Redis

CLOSED = (4403, "banned")
BANNED, OTHER, SIX = "203.0.113.7", "198.51.100.7", "2001:db8:1:2::7"


def come_from(address: str) -> dict[str, Any]:
    """The options of a client behind the proxy that is trusted."""
    return {"additional_headers": {"X-Forwarded-For": address}}


def status_of(daemon: Daemon, path: str, address: str) -> int:
    """The status of an HTTP request."""
    request = urllib.request.Request(daemon.url + path, headers={"X-Forwarded-For": address})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def echoes(client: ClientConnection) -> bool:
    """Whether a connection still works."""
    say(client, {"x": 1})
    return "x" in read(client)


def test_a_banned_address_is_closed_and_refused_until_it_is_let_in_again(
    spawn: Spawn, connect: Connect
) -> None:
    daemon = spawn(proxy_trusted="127.0.0.1")
    relayctl = Operator(daemon.folder, proxy_trusted="127.0.0.1")
    assert relayctl("bans").stdout == "nobody is banned\n"
    clients = [
        connect(daemon, f"/ws/camera/{number}", **come_from(address))
        for number, address in enumerate((BANNED, SIX, OTHER))
    ]
    shown = relayctl("ban", BANNED, "--for", "1h", "--reason", "floods\x1b").stdout
    assert shown.startswith(f"{BANNED} is banned until 2")
    assert shown.endswith("UTC; 1 connection is closed\n")
    assert read_close(clients[0]) == CLOSED
    done = relayctl.json("ban", "2001:db8:1:2::99", "--for", "never")
    assert done == {"count": 1, "everywhere": True, "kept": True, "missing": []}
    assert read_close(clients[1]) == CLOSED
    assert echoes(clients[2])
    daemon.stop()
    daemon.start()
    for address in (BANNED, "2001:db8:1:2:ffff::"):
        refused = Refused(daemon, "/ws/camera", **come_from(address))
        assert (refused.status, refused.error) == (403, "banned")
        assert status_of(daemon, "/", address) == status_of(daemon, "/healthz", address) == 403
        with daemon.connect("/ws/camera?refuse=close", **come_from(address)) as client:
            assert read_close(client) == CLOSED
    connect(daemon, "/ws/camera", **come_from(OTHER))
    connect(daemon, "/ws/camera")
    assert status_of(daemon, "/", "203.0.113.8") == 200
    rows = [row.split() for row in relayctl("bans").stdout.splitlines()]
    assert rows[1] == ["address", "2001:db8:1:2::/64", "for", "ever", "-"]
    assert (rows[2][:2], rows[2][-1]) == (["address", BANNED], "floods\\x1b")
    assert "banned: 2 addresses and networks\n" in relayctl("status").stdout
    assert relayctl("ban", "203.0.113.0/24").returncode == 0
    shown = relayctl("unban", BANNED).stdout
    assert shown == f"{BANNED} is no longer banned; 203.0.113.0/24, which holds it, is\n"
    check_failed(relayctl("unban", BANNED), 1, "is not banned; 203.0.113.0/24, which holds it, is")
    assert status_of(daemon, "/", BANNED) == 403
    assert relayctl("unban", "203.0.113.0/24").returncode == 0
    connect(daemon, "/ws/camera", **come_from(BANNED))
    daemon.stop()
    daemon.start()
    connect(daemon, "/ws/camera", **come_from(BANNED))
    assert "floods" in daemon.log


def test_a_ban_that_would_hit_the_wrong_one_is_an_error_that_says_why(spawn: Spawn) -> None:
    daemon = spawn(proxy_trusted="127.0.0.1,10.0.0.0/8")
    relayctl = Operator(daemon.folder, proxy_trusted="127.0.0.1,10.0.0.0/8")
    for address in ("127.0.0.1", "::1", "0.0.0.0/0"):
        check_failed(relayctl("ban", address), 2, "addresses of this machine", "never banned")
    check_failed(relayctl("ban", "10.1.2.3"), 2, "[proxy] trusted", "relayctl clients shows")
    for arguments, words in (
        (["example.org"], "no address and no network"),
        (["203.0.113.7/24"], "write 203.0.113.0/24 for the whole network"),
        (["203.0.113.7", "--for", "soon"], "is no lifetime"),
        (["203.0.113.7", "--user", "ada"], "name one"),
        ([], "name one"),
    ):
        done = relayctl("ban", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
    check_failed(relayctl("ban", "--user", "ada", "--reason", "a" * 201), 2, "200 characters")
    check_failed(relayctl("unban", "--user", "ada"), 1, "the user ada is not banned")
    assert relayctl.json("bans") == {"found": []}


def test_a_ban_reaches_all_workers_and_all_processes_with_the_same_redis(
    spawn_workers: Spawn, spawn: Spawn, connect: Connect, redis: Redis
) -> None:
    settings = {"proxy_trusted": "127.0.0.1", "redis_url": f"unix://{redis.socket}"}
    workers, alone = spawn_workers(proxy_trusted="127.0.0.1"), spawn(**settings)
    banned = come_from(BANNED)
    clients = [
        *clients_of(workers, connect, 1, **banned),
        *clients_of(workers, connect, 2, **banned),
        connect(alone, "/ws/camera", **banned),
    ]
    relayctl = Operator(workers.folder, **settings)
    done = relayctl.json("ban", "203.0.113.0/24")
    assert (done["count"], done["everywhere"], done["missing"]) == (len(clients) - 1, True, [])
    assert [read_close(client) for client in clients] == [CLOSED] * len(clients)
    late = spawn(**settings)  # it was not there
    for daemon in (workers, alone, late):
        assert Refused(daemon, "/ws/camera", **banned).error == "banned"
        assert status_of(daemon, "/", BANNED) == 403
        connect(daemon, "/ws/camera", **come_from(OTHER))
    assert "banned: 1 address or network\n" in relayctl("status").stdout
    assert relayctl("unban", "203.0.113.0/24").returncode == 0
    for daemon in (workers, alone, late):
        eventually(lambda daemon=daemon: status_of(daemon, "/", BANNED) == 200)  # type: ignore[misc]
        connect(daemon, "/ws/camera", **banned)


@pytest.fixture
def address() -> str:
    """An address of this machine that is not loopback, so that it can be banned."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address beside loopback")
        return str(probe.getsockname()[0])


def test_behind_a_real_proxy_and_without_one_the_client_is_banned_and_nobody_else(
    spawn: Spawn, tmp_path: Path, address: str
) -> None:
    """A client cannot escape by a forged header, nor have somebody else banned."""
    daemon = spawn(proxy_trusted="127.0.0.1")
    relayctl = Operator(daemon.folder, proxy_trusted="127.0.0.1")
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(Nginx(tmp_path / "proxy", [f"127.0.0.1:{daemon.port}"]))
        forged = come_from(OTHER)
        own: dict[str, Any] = {"source_address": (address, 0)}
        banned = [
            stack.enter_context(place.connect("/ws/camera/banned", **own, **forged))
            for place in (proxy, daemon)
        ]
        innocent = stack.enter_context(proxy.connect("/ws/camera/innocent", **come_from(address)))
        assert relayctl.json("ban", address)["count"] == len(banned)
        assert [read_close(client) for client in banned] == [CLOSED] * len(banned)
        assert Refused(daemon, "/ws/camera", **own, **forged).error == "banned"
        with proxy.connect("/ws/camera?refuse=close", **own, **forged) as client:
            assert read_close(client) == CLOSED
        assert echoes(innocent)

"""Clients behind the real nginx: reloads, a relayd that dies, long silences."""

import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.daemon import Daemon
from tests.integration.clients import PATIENCE, read, read_close, say, settle
from tests.integration.conftest import Spawn
from tests.integration.raw import Raw, handshake, request
from tests.proxies import Nginx
from tests.redis_servers import Redis


@pytest.fixture
def redis() -> Iterator[Redis]:
    """A Redis for two relayds."""
    with Redis() as server:
        yield server


def two(spawn: Spawn, redis: Redis, **settings: object) -> list[Daemon]:
    """Two relayds that meet in Redis."""
    url = f"redis://127.0.0.1:{redis.port}/0"
    return [spawn(redis_url=url, **settings) for _ in range(2)]


def upstreams(*nodes: Daemon) -> list[str]:
    """Where nginx finds them."""
    return [f"127.0.0.1:{node.port}" for node in nodes]


def count(node: Daemon) -> int:
    """How many WebSockets a relayd has."""
    return node.log.count(" opened by ") - node.log.count(" closed: ")


class Talker(threading.Thread):
    """Sends poses in a group and reads them, until told to stop; never reconnects.

    Attributes:
        wrong: what it got in place of its own next pose.
    """

    def __init__(self, client: ClientConnection) -> None:
        super().__init__()
        self.client = client
        self.sent = 0
        self.wrong: list[Any] = []
        self.enough = threading.Event()

    def run(self) -> None:
        """Sends the next pose when the one before is back."""
        try:
            while not self.enough.is_set():
                say(self.client, {"x": self.sent})
                back = read(self.client)
                if back != {"x": self.sent, "y": None, "z": None}:
                    self.wrong.append(back)
                self.sent += 1
        except (ConnectionClosed, TimeoutError) as error:
            self.wrong.append(repr(error))


def test_a_reload_under_load_loses_no_client_and_no_pose(spawn: Spawn, tmp_path: Path) -> None:
    """Connected clients stay with the old workers; new clients reach the new ones at any time."""
    node = spawn()
    with Nginx(tmp_path / "proxy", upstreams(node)) as nginx:
        talkers = [Talker(nginx.connect(f"/ws/camera/reload-{n}")) for n in range(10)]
        for talker in talkers:
            talker.start()
        for _ in range(5):
            before = [talker.sent for talker in talkers]
            reloading = threading.Thread(target=nginx.reload)
            reloading.start()
            came = 0
            while reloading.is_alive() or came < 2:
                client = nginx.connect("/ws/camera/newcomer")
                settle(client)
                client.close()
                came += 1
            reloading.join()
            for talker, sent in zip(talkers, before, strict=True):
                while talker.sent <= sent and not talker.wrong:
                    talker.join(0.01)
        for talker in talkers:
            talker.enough.set()
            talker.join(PATIENCE)
        assert [talker.wrong for talker in talkers] == [[]] * 10


def test_new_clients_go_to_the_relayd_with_fewer_clients(
    spawn: Spawn, redis: Redis, tmp_path: Path
) -> None:
    """After one of two was restarted, least_conn fills it up; round robin would not."""
    nodes = two(spawn, redis)
    with Nginx(tmp_path / "proxy", upstreams(*nodes)) as nginx:
        clients = [nginx.connect(f"/ws/camera/{n}") for n in range(10)]
        settle(*clients)
        assert [count(node) for node in nodes] == [5, 5]
        nodes[0].stop()
        gone = [client for client in clients if is_closed(client)]
        assert len(gone) == 5
        nodes[0].start()
        kept = len(nodes[0].log)
        for number in range(5):
            clients.append(connect_again(nginx, f"/ws/camera/again-{number}"))
        settle(*clients[10:])
        assert nodes[0].log[kept:].count(" opened by ") >= 4


def is_closed(client: ClientConnection) -> bool:
    """Whether the server has closed it."""
    try:
        settle(client)
    except (ConnectionClosed, AssertionError):
        return True
    return False


def connect_again(nginx: Nginx, path: str) -> ClientConnection:
    """Connects as a client does that tries again after a refusal with Retry-After."""
    for _ in range(200):
        try:
            return nginx.connect(path)
        except InvalidStatus as refused:
            if refused.response.status_code != 503:
                raise
    raise AssertionError("nobody let the client in")


def test_the_clients_of_a_relayd_that_dies_lose_no_message(
    spawn: Spawn, redis: Redis, tmp_path: Path
) -> None:
    """The clients reconnect to another relayd with ?since= and get every message once, in order."""
    nodes = two(spawn, redis)
    with Nginx(tmp_path / "proxy", upstreams(*nodes)) as nginx:
        readers = [nginx.connect("/ws/chat/killed?history=0") for _ in range(6)]
        writer = Writer(nginx)
        settle(*readers)
        assert all(count(node) for node in nodes)
        got: list[list[int]] = [[] for _ in readers]
        for number in range(60):
            writer.say(f"message {number}")
            if number == 20:
                nodes[0].kill()
        expected = writer.acknowledged
        returned = 0
        for index, reader in enumerate(readers):
            while got[index][-1:] != expected[-1:]:
                try:
                    got[index].append(read(reader)["id"])
                except ConnectionClosed:
                    since = f"since={got[index][-1]}" if got[index] else "since=0"
                    reader = connect_again(nginx, f"/ws/chat/killed?{since}")
                    returned += 1
        assert got == [expected] * 6
        assert returned >= 2
        assert len(expected) == 60


class Writer:
    """Says things in the room, each until it is acknowledged by its own copy.

    Attributes:
        acknowledged: the ids of what it has said, in order.
    """

    def __init__(self, nginx: Nginx) -> None:
        self._nginx = nginx
        self._client = nginx.connect("/ws/chat/killed?history=0")
        self.acknowledged: list[int] = []

    def say(self, text: str) -> None:
        """Says it; after a lost connection looks first whether it has been said."""
        for attempt in itertools.count():
            try:
                if not attempt:
                    say(self._client, {"message": text})
                while True:
                    frame = read(self._client)
                    self.acknowledged.append(frame["id"])
                    if frame["message"] == text:
                        return
            except ConnectionClosed:
                last = self.acknowledged[-1]
                self._client = connect_again(self._nginx, f"/ws/chat/killed?since={last}")
                settle(self._client)
                said = self._waiting()
                self.acknowledged += [frame["id"] for frame in said]
                if any(frame["message"] == text for frame in said):
                    return
                say(self._client, {"message": text})

    def _waiting(self) -> list[Any]:
        found = []
        while True:
            try:
                found.append(read_now(self._client))
            except TimeoutError:
                return found


def read_now(client: ClientConnection) -> Any:
    """The next frame, if it is there already."""
    return json.loads(client.recv(timeout=0))


def test_pings_keep_a_silent_connection_through_a_shorter_timeout(
    spawn: Spawn, tmp_path: Path
) -> None:
    """nginx' time-out runs several times over; without pings it ends the connection unsaid."""
    timeouts = {"proxy_read_timeout 75s": "proxy_read_timeout 3s"}
    pinging = spawn(keepalive_ping_interval=0.3)
    silent = spawn(keepalive_ping_interval=30)
    with (
        Nginx(tmp_path / "pinging", upstreams(pinging), timeouts) as nginx,
        Nginx(tmp_path / "silent", upstreams(silent), timeouts) as other,
    ):
        kept = nginx.connect("/ws/camera/silent")
        ends = [other.connect("/ws/camera/silent") for _ in range(3)]
        for number in range(3):  # the time of nginx, three times in a row
            with pytest.raises(ConnectionClosed) as closed:
                ends[number].recv(timeout=PATIENCE)
            assert closed.value.rcvd is None
            if number < 2:
                ends[number + 1] = other.connect("/ws/camera/silent")
        settle(kept)
        say(kept, {"x": 1})
        assert read(kept)["x"] == 1


def test_one_kept_connection_serves_pages_and_then_an_upgrade(spawn: Spawn, tmp_path: Path) -> None:
    """nginx has one connection to relayd, used by a page before, and the WebSocket goes over it."""
    node = spawn()
    changes = {"    keepalive 32;": "    keepalive 1;"}
    with Nginx(tmp_path / "proxy", upstreams(node), changes) as nginx:
        for number in range(5):
            assert '"ok"' in nginx.curl("/healthz")
            client = nginx.connect(f"/ws/camera/kept-{number}")
            say(client, {"x": number})
            assert read(client)["x"] == number
            client.close()


def test_a_connection_of_the_clients_own_serves_pages_and_then_an_upgrade(
    spawn: Spawn, tmp_path: Path
) -> None:
    """A browser does so over HTTP/1.1 without TLS."""
    node = spawn()
    passed = (
        "proxy_pass http://relayd; proxy_http_version 1.1; "
        "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;"
    )
    plain = {"return 308 https://$host$request_uri;": passed}
    with Nginx(tmp_path / "proxy", upstreams(node), plain) as nginx, Raw(nginx.plain_port) as one:
        for _ in range(3):
            one.send(request("/healthz"))
            assert one.response().status == 200
        one.send(handshake("/ws/camera/upgraded"))
        assert one.response().status == 101


def test_a_drain_moves_the_clients_to_another_relayd(
    spawn: Spawn, redis: Redis, tmp_path: Path
) -> None:
    """The clients are closed with 1001, and their next handshake succeeds."""
    nodes = two(spawn, redis)
    with Nginx(tmp_path / "proxy", upstreams(*nodes)) as nginx:
        clients = [nginx.connect("/ws/camera/drained") for _ in range(4)]
        settle(*clients)
        nodes[1].stop()
        closed = [client for client in clients if is_closed(client)]
        assert len(closed) == 2
        assert {read_close(client)[0] for client in closed} == {1001}
        again = [connect_again(nginx, "/ws/camera/drained") for _ in closed]
        settle(*again)
        assert count(nodes[0]) == 4

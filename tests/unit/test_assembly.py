"""The parts of a process as they are wired: from a socket to the sockets, and through a reload."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from twisted.internet.task import Clock

from relayd import logs
from relayd.assembly import build_node
from relayd.config import Config, Database, Echo, Keepalive, Log, Server
from relayd.config.current import Current
from relayd.node import Node
from relayd.systemd import Condition
from tests.unit.fakes import Client


class FakeReactor(Clock):
    """Time, and the few calls with which parts tie themselves to the reactor's life."""

    def callWhenRunning(self, call: object, *args: object) -> None:  # noqa: N802
        pass

    def addSystemEventTrigger(self, *args: object) -> None:  # noqa: N802
        pass

    def removeSystemEventTrigger(self, trigger: object) -> None:  # noqa: N802
        pass


class FakeLifecycle:
    """Is told where the process stands."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def serving(self, condition: Callable[[], Condition]) -> None:
        self.told.append("serving")

    def stopping(self) -> None:
        self.told.append("stopping")


@pytest.fixture
def lifecycle() -> FakeLifecycle:
    return FakeLifecycle()


@pytest.fixture
def current(tmp_path: Path) -> Current:
    """Holds the configuration of the process."""
    return Current(
        Config(
            server=Server(listen=("tcp:0",)),
            database=Database(url=f"sqlite:///{tmp_path}/relayd.db"),
            echo=Echo(enabled=True),
        )
    )


@pytest.fixture
def node(current: Current, lifecycle: FakeLifecycle) -> Node:
    """A process that was put together and not started: it listens nowhere."""
    reactor = FakeReactor()
    return build_node(current, reactor, lifecycle=lifecycle, listener=reactor)


@pytest.fixture
def connect(node: Node) -> Iterator[Callable[..., Client]]:
    """Connects clients to the process."""
    clients: list[Client] = []

    def connect(path: str, *, head: bytes | None = None) -> Client:
        assert isinstance(node._reactor, Clock)
        clients.append(Client(node._reactor, node._door, path, head=head))
        return clients[-1]

    yield connect
    for client in clients:
        client.transport.end()


@pytest.mark.parametrize("kind", ["camera", "difficulty", "chat", "push", "echo"])
def test_every_kind_of_path_is_answered_by_its_relay(node: Node, kind: str) -> None:
    head = f"GET /ws/{kind} HTTP/1.1\r\nUpgrade: websocket\r\n\r\n".encode()
    assert node._door.relays.build(head, len(head), cast(Any, None)).kind == kind


def test_a_frame_goes_all_the_way_from_a_socket_to_the_sockets(
    connect: Callable[..., Client],
) -> None:
    sender, viewer = connect("/ws/camera"), connect("/ws/camera/")
    sender.send({"x": 1})
    assert sender.objects() == viewer.objects() == [{"x": 1, "y": None, "z": None}]


def test_a_phone_finds_its_headset(connect: Callable[..., Client]) -> None:
    uuid = "123e4567-e89b-42d3-a456-426614174000"
    assert connect(f"/ws/difficulty/android/{uuid}").refusal == (400, "no_unity")
    unity = connect(f"/ws/difficulty/unity/{uuid}")
    android = connect(f"/ws/difficulty/android/{uuid}")
    assert (unity.status, android.status) == (101, 101)


def test_unknown_paths_and_plain_http_are_answered(connect: Callable[..., Client]) -> None:
    assert connect("/ws/none").refusal == (404, "not_found")
    http = connect("/", head=b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert http.status == 200
    assert http.response is not None
    assert json.loads(http.response.body or b"") == {"status": "ok"}


def test_a_part_that_was_built_neither_listens_nor_runs_before_it_is_started(
    node: Node, lifecycle: FakeLifecycle
) -> None:
    assert not node.running
    assert list(node._ports) == []
    assert lifecycle.told == []
    assert node.condition() == Condition(0, "Stopping: 0 connections")


@pytest.fixture
def level() -> Iterator[None]:
    """The log level is as before when the test ends."""
    before = logs.get_level()
    yield
    logs.set_level(before)


@pytest.mark.usefixtures("level")
def test_a_reload_reaches_every_part_that_acts_on_a_setting(
    node: Node, current: Current, connect: Callable[..., Client]
) -> None:
    new = msgspec.structs.replace(
        current.config,
        log=Log(level="error"),
        server=Server(listen=("tcp:0",), allowed_origins=("https://a.example",)),
        keepalive=Keepalive(handshake_timeout=0.5),
        echo=Echo(enabled=True, max_message_size=3),
    )
    current.replace(new)
    # the log
    assert logs.get_level() == "error"
    # Autobahn, for new connections
    client = connect("/ws/echo")
    client.send("1234")
    assert client.closed()[0] == 1009
    # who may come in
    head = Client.head_for("/ws/echo").replace(b"\r\n\r\n", b"\r\nOrigin: https://b\r\n\r\n")
    assert connect("/ws/echo", head=head).status == 403
    # the front door
    late = connect("/", head=b"GET")
    late.pass_time(1)
    assert late.status == 408


@pytest.mark.usefixtures("level")
def test_a_level_that_the_operator_has_set_outlives_a_reload_of_other_settings(
    node: Node, current: Current
) -> None:
    logs.set_level("debug")
    current.replace(msgspec.structs.replace(current.config, echo=Echo()))
    assert logs.get_level() == "debug"

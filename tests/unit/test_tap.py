"""The command line of `twistd relayd`, and what the service is put together from."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.python import usage

from relayd import __version__, tap
from relayd.config import Config, Database, Echo, Server
from relayd.edge.frontdoor import FrontDoorFactory
from relayd.node import Node
from tests.unit.fakes import Client

Parse = Callable[..., tap.Options]


@pytest.fixture
def parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parse:
    """Reads a command line in an empty folder, with nothing of ours in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in tuple(os.environ):
        if name.startswith("RELAYD_") or name in ("PORT", "DATABASE_URL", "REDIS_URL"):
            monkeypatch.delenv(name)

    def parse(*arguments: str) -> tap.Options:
        options = tap.Options()
        options.parseOptions(list(arguments))
        return options

    return parse


def status_of(parse: Parse, *arguments: str) -> object:
    """The exit status of a command line that ends the process."""
    with pytest.raises(SystemExit) as caught:
        parse(*arguments)
    return caught.value.code


def test_without_options_the_defaults_hold(parse: Parse) -> None:
    assert parse().config == Config()


def test_listen_may_be_given_more_than_once_long_and_short(parse: Parse) -> None:
    options = parse("--listen", "tcp:1", "-l", "tcp:2:interface=\\:\\:", "--listen=tcp:3")
    assert options.config.server.listen == ("tcp:1", "tcp:2:interface=\\:\\:", "tcp:3")


@pytest.mark.parametrize("flag", ["--config", "-c"])
def test_the_file_of_the_option_is_read(parse: Parse, tmp_path: Path, flag: str) -> None:
    (tmp_path / "my.toml").write_text("[chat]\nhistory = 7\n", encoding="utf-8")
    assert parse(flag, "my.toml").config.chat.history == 7


def test_option_environment_dotenv_and_file_win_in_this_order(
    parse: Parse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my.toml").write_text(
        '[server]\nlisten = ["tcp:4"]\n[chat]\nhistory = 4\nhistory_length = 4\n'
        "[limits]\nmax_waiting = 4\n",
        encoding="utf-8",
    )
    (tmp_path / ".env").write_text(
        "RELAYD_SERVER_LISTEN=tcp:3\nRELAYD_CHAT_HISTORY=3\nRELAYD_CHAT_HISTORY_LENGTH=3\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("RELAYD_SERVER_LISTEN", "tcp:2")
    monkeypatch.setenv("RELAYD_CHAT_HISTORY", "2")
    config = parse("-c", "my.toml", "-l", "tcp:1").config
    assert config.server.listen == ("tcp:1",)
    assert config.chat.history == 2
    assert config.chat.history_length == 3
    assert config.limits.max_waiting == 4


def test_a_wrong_setting_ends_the_process_with_the_status_for_it_and_one_line(
    parse: Parse, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(parse, "--listen", "nonsense") == tap.EX_CONFIG == 78
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("relayd: command line: --listen = ")
    assert said.err.count("\n") == 1


def test_check_says_that_the_configuration_is_good_and_ends_the_process(
    parse: Parse, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(parse, "--check") == 0
    assert capsys.readouterr().out == "relayd: the configuration is good\n"
    assert status_of(parse, "--check", "--config", "missing.toml") == tap.EX_CONFIG


def test_version_is_said_though_the_configuration_is_wrong(
    parse: Parse, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(parse, "--version") == 0
    assert capsys.readouterr().out == f"relayd {__version__}\n"


def test_help_names_every_option(parse: Parse, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(parse, "--help") == 0
    said = capsys.readouterr().out
    assert all(option in said for option in ("--config", "--check", "--listen", "--version"))


def test_an_unknown_option_is_a_usage_error(parse: Parse) -> None:
    with pytest.raises(usage.UsageError, match="nonsense"):
        parse("--nonsense")


# What is put together


class FakeReactor(Clock):
    """Time, and the few calls with which parts tie themselves to the reactor's life."""

    def callWhenRunning(self, call: object, *args: object) -> None:  # noqa: N802
        pass

    def addSystemEventTrigger(self, *args: object) -> None:  # noqa: N802
        pass

    def removeSystemEventTrigger(self, trigger: object) -> None:  # noqa: N802
        pass


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A process that was put together and not started: it listens nowhere."""
    config = Config(
        server=Server(listen=("tcp:0",)),
        database=Database(url=f"sqlite:///{tmp_path}/relayd.db"),
        echo=Echo(enabled=True),
    )
    node = tap.build(config, FakeReactor())
    assert isinstance(node, Node)
    return node


@pytest.fixture
def door(node: Node) -> FrontDoorFactory:
    """What stands behind every port of the process."""
    door = node._door
    assert isinstance(door, FrontDoorFactory)
    return door


@pytest.fixture
def connect(door: FrontDoorFactory) -> Iterator[Callable[..., Client]]:
    """Connects clients to the process."""
    clients: list[Client] = []

    def connect(path: str, *, head: bytes | None = None) -> Client:
        assert isinstance(door.clock, Clock)
        clients.append(Client(door.clock, door, path, head=head))
        return clients[-1]

    yield connect
    for client in clients:
        client.transport.end()


@pytest.mark.parametrize("kind", ["camera", "difficulty", "chat", "push", "echo"])
def test_every_kind_of_path_is_answered_by_its_relay(door: FrontDoorFactory, kind: str) -> None:
    factory: Any = door.find(kind)
    assert factory.kind == kind


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


def test_other_paths_and_plain_http_are_answered(connect: Callable[..., Client]) -> None:
    assert connect("/ws/none").refusal == (404, "not_found")
    http = connect("/", head=b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert http.status == 200
    assert http.response is not None
    assert json.loads(http.response.body or b"") == {"status": "ok"}


def test_nothing_that_was_put_together_listens_or_runs_before_it_is_started(node: Node) -> None:
    assert not node.running
    assert list(node._ports) == []

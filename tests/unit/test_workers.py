"""The parent of workers, on a clock and with processes that are none; and a worker's own side."""

import atexit
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from relayd import signals
from relayd.assembly import build_supervisor
from relayd.config import Chat, Config, Control, Database, Loaded, Redis, Server
from relayd.config.current import Current
from relayd.config.drift import Drift
from relayd.config.reload import Reloader
from relayd.logs.setup import observer
from relayd.systemd import Condition
from relayd.workers import roster, supervisor, worker
from relayd.workers.command import command
from tests.unit.fakes import has_fired, logged_lines, success


class Process:
    """A child that the test lets serve and end."""

    def __init__(self, reactor: "Reactor", protocol: Any, environ: dict[str, str]) -> None:
        self.pid = 1000 + len(reactor.spawned)
        self.number = int(environ[worker.VARIABLE])
        self.signals: list[int] = []
        self.written = b""
        self._protocol = protocol

    def writeToChild(self, descriptor: int, data: bytes) -> None:  # noqa: N802
        assert descriptor == worker.FROM_PARENT
        self.written += data

    def signalProcess(self, number: int) -> None:  # noqa: N802
        self.signals.append(number)

    def serve(self, connections: int = 0, troubles: str = "") -> None:
        """Sends a heartbeat."""
        line = f"{connections} {troubles}\n"
        self._protocol.childDataReceived(worker.TO_PARENT, line.encode())

    def end(self, status: int | None = 0, by: int | None = None) -> None:
        """It has ended with an exit status, or by a signal."""
        reason = ProcessTerminated(status, by) if status or by else ProcessDone(0)
        self._protocol.processExited(Failure(reason))


class Reactor(Clock):
    """Time, and children."""

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[Process] = []
        self.refuse: OSError | None = None

    def spawnProcess(  # noqa: N802
        self, protocol: Any, executable: str, args: list[str], env: dict[str, str], **_: Any
    ) -> Process:
        if self.refuse is not None:
            raise self.refuse
        assert [executable, args[0]] == [sys.executable] * 2
        process = Process(self, protocol, env)
        self.spawned.append(process)
        protocol.makeConnection(process)
        return process


class Scene:
    """A supervisor of some workers that listens nowhere."""

    def __init__(
        self,
        count: int,
        log: list[str],
        *,
        heartbeat_timeout: float = 0.0,
        listen: tuple[str, ...] = (),
    ) -> None:
        self.reactor = Reactor()
        self.config = Config(
            server=Server(listen=listen, workers=count, drain_timeout=2.0),
            database=Database(migrate=False, deadline=3.0),
            redis=Redis(url="redis://localhost"),
            control=Control(socket="off"),
        )
        self.ends = 0
        self.log = log
        self.told: list[str] = []
        self.current = Current(self.config)
        self.supervisor = build_supervisor(
            self.current,
            self.reactor,
            lifecycle=self,
            listener=self.reactor,
            reloader=Reloader(lambda handed: Loaded(self.config, (), ()), self.current),
            drift=Drift(
                lambda handed: Loaded(self.config, (), ()), self.current, lambda loaded: ()
            ),
            command=lambda number: [f"--worker-{number}"],
            end=self._end,
            heartbeat_timeout=heartbeat_timeout,
        )

    def start(self) -> "Scene":
        self.supervisor.privilegedStartService()
        self.supervisor.startService()
        return self

    def stop(self) -> "Deferred[None]":
        """Begins to stop; what takes one turn of the reactor is done."""
        stopped = self.supervisor.stopService()
        self.reactor.advance(0)
        return stopped

    @property
    def spawned(self) -> list[Process]:
        return self.reactor.spawned

    def newest(self, number: int = 1) -> Process:
        """The process that was spawned last for a worker."""
        return next(each for each in reversed(self.spawned) if each.number == number)

    def _end(self) -> None:
        self.ends += 1

    # -- Lifecycle

    def serving(self, condition: Callable[[], Condition]) -> None:
        self.told.append(condition().sentence)

    def stopping(self) -> None:
        self.told.append(self.supervisor.condition().sentence)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Scene]]:
    """Makes a scene with so many workers."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    with logged_lines("relayd.workers.supervisor") as lines:
        yield lambda count, **more: Scene(count, lines, **more)


@pytest.fixture
def statuses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit statuses that were asked for."""
    found: list[int] = []

    def register(function: object, status: int) -> None:
        assert function is os._exit
        found.append(status)

    monkeypatch.setattr(atexit, "register", register)
    return found


def test_auto_is_one_worker_for_each_core_that_may_be_used() -> None:
    assert roster.count("auto") == len(os.sched_getaffinity(0))
    assert roster.count(7) == 7


def test_each_worker_gets_its_number_and_the_parents_configuration(
    scene: Callable[..., Scene],
) -> None:
    running = scene(3).start()
    assert [each.number for each in running.spawned] == [1, 2, 3]
    for each in running.spawned:
        assert each.written.endswith(b"\n")
        assert msgspec.json.decode(each.written, type=Config) == running.config


def test_every_setting_survives_the_way_to_a_worker() -> None:
    config = Config(
        server=Server(listen=("tcp:1", "unix:/é\n"), allowed_origins=("https://a.example",)),
        chat=Chat(message_prefix='"\\\u2028 '),
        redis=Redis(history_age=1.5),
    )
    text = msgspec.json.encode(config)
    assert b"\n" not in text
    assert msgspec.json.decode(text, type=Config) == config


def test_a_worker_that_keeps_dying_is_started_at_once_and_then_later_and_later(
    scene: Callable[..., Scene],
) -> None:
    running = scene(1).start()
    waits = []
    for _ in range(10):
        running.newest().serve()
        before, count = running.reactor.seconds(), len(running.spawned)
        running.newest().end(3)
        while len(running.spawned) == count:
            running.reactor.advance(0.25)
        waits.append(running.reactor.seconds() - before)
    assert waits[0] <= 0.25
    assert waits[1:] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_worker_that_served_long_enough_is_started_at_once_again(
    scene: Callable[..., Scene],
) -> None:
    running = scene(1).start()
    for _ in range(4):
        running.newest().serve()
        running.newest().end(3)
        running.reactor.advance(60)
    running.newest().serve()
    running.reactor.advance(roster.STEADY)
    running.newest().end(3)
    running.reactor.advance(0)
    assert len(running.spawned) == 6


def test_a_worker_that_only_took_long_to_start_does_not_count_as_steady(
    scene: Callable[..., Scene],
) -> None:
    running = scene(2).start()
    running.spawned[0].serve()
    for count in (3, 3):
        running.reactor.advance(60)
        running.newest(2).end(1)
        running.reactor.advance(0)
        assert len(running.spawned) == count


def test_a_worker_without_heartbeats_is_killed(scene: Callable[..., Scene]) -> None:
    running = scene(2, heartbeat_timeout=30.0).start()
    for each in running.spawned:
        each.serve()
    for _ in range(7):
        assert running.newest(2).signals == []
        running.reactor.advance(worker.HEARTBEAT_INTERVAL)
        running.newest(1).serve()
    assert running.newest(2).signals == [signal.SIGKILL]
    assert running.newest(1).signals == []
    assert "worker 2 sent no heartbeat for 35 s, so it is killed" in running.log


def test_the_service_manager_is_notified_once_that_workers_serve(
    scene: Callable[..., Scene],
) -> None:
    running = scene(2).start()
    for each in running.spawned * 2:
        each.serve(7)
    assert running.told == ["Serving: 7 connections, 1 of 2 workers"]
    assert running.supervisor.condition().sentence == "Serving: 14 connections, 2 of 2 workers"
    running.newest(1).serve(7, "database is away")
    condition = running.supervisor.condition()
    assert (condition.connections, condition.troubles) == (14, ("database is away",))
    assert condition.sentence == "Serving, database is away: 14 connections, 2 of 2 workers"


def test_each_death_is_one_line_with_its_cause(scene: Callable[..., Scene]) -> None:
    running = scene(2).start()
    for each in running.spawned:
        each.serve()
    running.log.clear()
    running.reactor.advance(1.5)
    running.newest(1).end(None, signal.SIGKILL)
    running.newest(2).end(78)
    running.reactor.advance(0)
    assert running.log == [
        "worker 1 ended after 1.5 s: killed by SIGKILL; starts again at once",
        "worker 2 ended after 1.5 s: exit status 78; starts again at once",
        "worker 1 is process 1002",
        "worker 2 is process 1003",
    ]


def test_the_parent_ends_with_the_exit_status_of_workers_that_never_served(
    scene: Callable[..., Scene], statuses: list[int]
) -> None:
    running = scene(2).start()
    running.newest(1).end(78)
    running.reactor.advance(0)
    assert running.ends == 0
    running.newest(2).end(78)
    assert running.ends == 1
    assert statuses == [78]
    assert "no worker can be started, so relayd ends; the last one: exit status 78" in running.log


@pytest.mark.parametrize(("first", "second"), [(1, 78), (0, 0)])
def test_the_parent_ends_with_status_1_if_workers_differ_in_theirs(
    scene: Callable[..., Scene], statuses: list[int], first: int, second: int
) -> None:
    running = scene(2).start()
    running.newest(1).end(first)
    running.newest(2).end(second)
    assert statuses == [1]


def test_the_parent_continues_if_one_worker_has_served(
    scene: Callable[..., Scene], statuses: list[int]
) -> None:
    running = scene(2).start()
    running.newest(1).end(1)
    running.newest(2).serve()
    running.newest(2).end(1)
    assert running.ends == 0
    assert statuses == []


def test_a_worker_that_cannot_even_be_spawned_counts_as_one_that_died(
    scene: Callable[..., Scene], statuses: list[int]
) -> None:
    running = scene(2)
    running.reactor.refuse = OSError(11, "Resource temporarily unavailable")
    running.start()
    assert running.ends == 1
    assert statuses == [os.EX_OSERR]
    assert "could not be started: Resource temporarily unavailable" in "".join(running.log)


def test_a_spawn_that_fails_later_is_tried_again(scene: Callable[..., Scene]) -> None:
    running = scene(1).start()
    running.newest().serve()
    running.reactor.refuse = OSError(24, "Too many open files")
    running.newest().end(1)
    running.reactor.advance(0)
    assert len(running.spawned) == 1
    running.reactor.refuse = None
    running.reactor.advance(0.5)
    assert len(running.spawned) == 2


def test_stopping_passes_sigterm_on_and_waits_for_all(scene: Callable[..., Scene]) -> None:
    running = scene(2).start()
    stopped = running.stop()
    assert [each.signals for each in running.spawned] == [[signal.SIGTERM]] * 2
    running.spawned[0].end(None, signal.SIGTERM)
    assert not has_fired(stopped)
    running.spawned[1].end(0)
    success(stopped)
    running.reactor.advance(100)
    assert len(running.spawned) == 2
    assert not running.reactor.getDelayedCalls()


def test_the_service_manager_is_notified_at_once_that_the_workers_stop(
    scene: Callable[..., Scene],
) -> None:
    running = scene(2).start()
    running.stop()
    assert running.told == ["Stopping: 0 connections, 0 of 2 workers"]


def test_a_new_configuration_reaches_running_workers_and_later_ones(
    scene: Callable[..., Scene],
) -> None:
    running = scene(2).start()
    for each in running.spawned:
        each.serve()
    running.newest(2).end(1)
    new = msgspec.structs.replace(running.config, chat=Chat(history=7))
    running.current.replace(new)
    running.reactor.advance(0)
    first, second = running.newest(1).written.splitlines()
    assert msgspec.json.decode(first, type=Config) == running.config
    assert msgspec.json.decode(second, type=Config) == new
    assert msgspec.json.decode(running.newest(2).written, type=Config) == new


def test_stopping_cancels_the_pending_restart_of_a_worker(scene: Callable[..., Scene]) -> None:
    running = scene(2).start()
    running.newest(2).serve()
    running.newest(1).end(1)
    running.reactor.advance(0)
    running.newest(1).end(1)
    stopped = running.stop()
    running.newest(2).end(None, signal.SIGTERM)
    success(stopped)
    running.reactor.advance(100)
    assert len(running.spawned) == 3


def test_a_worker_that_does_not_end_is_killed(scene: Callable[..., Scene]) -> None:
    running = scene(2).start()
    stopped = running.stop()
    running.newest(1).end(None, signal.SIGTERM)
    running.reactor.advance(2.0 + 3.0 + supervisor.MARGIN - 0.1)
    assert running.newest(2).signals == [signal.SIGTERM]
    running.reactor.advance(0.1)
    assert running.newest(2).signals == [signal.SIGTERM, signal.SIGKILL]
    assert running.newest(1).signals == [signal.SIGTERM]
    assert "workers 2 did not end within 10 s, so they are killed" in running.log
    assert not has_fired(stopped)
    running.newest(2).end(None, signal.SIGKILL)
    success(stopped)


def test_only_endpoints_that_can_be_shared_are_accepted(scene: Callable[..., Scene]) -> None:
    parent = scene(2, listen=("systemd:domain=INET:index=0",)).supervisor
    with pytest.raises(SystemExit, match="workers cannot share systemd:domain=INET:index=0"):
        parent.privilegedStartService()


def test_a_folder_that_cannot_be_created_costs_cpu_time_only(
    scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/proc/nowhere")
    running = scene(2).start()
    assert [process.number for process in running.spawned] == [1, 2]
    assert any("connections stay with the worker that accepts" in line for line in running.log)
    assert any("/proc/nowhere/" in line for line in running.log)


# -- how a worker is started


@pytest.fixture
def script(tmp_path: Path) -> str:
    """The path of a twistd."""
    path = tmp_path / "twistd"
    path.touch()
    return str(path)


LOG = "--logger=relayd.workers.worker.log_observer"


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"nodaemon": True}, []),
        ({"nodaemon": True, "logger": observer}, []),
        ({"nodaemon": True, "reactor": "asyncio", "logfile": "-"}, ["--reactor=asyncio", LOG]),
        ({"nodaemon": True, "logfile": "/a/relayd.log"}, ["--logfile=/a/relayd-w3.log"]),
        ({"nodaemon": False, "logfile": None}, [f"--logfile={Path.cwd()}/twistd-w3.log"]),
        ({"nodaemon": True, "syslog": True, "prefix": "r"}, ["--syslog", "--prefix=r-w3"]),
        ({"nodaemon": True, "logger": Chat}, ["--logger=relayd.config.sections.Chat"]),
        (None, []),
    ],
)
def test_a_worker_is_started_with_the_parents_options_that_concern_it(
    script: str, given: dict[str, Any] | None, options: list[str]
) -> None:
    assert command(given, script)(3) == [
        script, "--nodaemon", "--pidfile=", *options, "relayd",
    ]  # fmt: skip


def test_without_the_script_of_twistd_its_function_is_called(tmp_path: Path) -> None:
    for name in ("-c", str(tmp_path / "twistd"), str(tmp_path / "pytest")):
        flags = command(None, name)(1)[:3]
        assert flags == ["-P", "-c", "from twisted.scripts.twistd import run; run()"]


def test_every_line_of_a_workers_log_is_marked_with_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv(worker.VARIABLE, "12")
    observer = worker.log_observer()
    observer({"log_format": "one\ntwo", "log_system": "here", "log_time": 0})
    observer({"log_format": ""})
    first, second = out.getvalue().splitlines()
    assert first.startswith("w12 1970-01-01T")
    assert first.endswith(" [here] one")
    assert second == "w12 \ttwo"


# -- the end


class Ending:
    """A reactor that can be stopped once, as Twisted's; it is running."""

    def __init__(self) -> None:
        self.stops = 0

    def callWhenRunning(self, call: Callable[..., None], *args: Any) -> None:  # noqa: N802
        call(*args)

    def callFromThread(self, call: Callable[..., None]) -> None:  # noqa: N802
        call()

    def stop(self) -> None:
        self.stops += 1


@pytest.fixture
def handlers() -> Iterator[None]:
    """The handlers of signals are as before when the test ends."""
    numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_repeated_signals_end_a_process_once() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    reactor = Ending()
    end = signals.end_once(reactor)
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), number)
    assert heard == [signal.SIGTERM]
    assert end() is False
    assert reactor.stops == 0


@pytest.mark.usefixtures("handlers")
def test_a_signal_is_ignored_once_a_process_has_begun_to_end() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    reactor = Ending()
    end = signals.end_once(reactor)
    assert end() is True
    os.kill(os.getpid(), signal.SIGTERM)
    assert heard == []
    assert reactor.stops == 1


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize(
    ("before", "terminals", "done"),
    [
        (signal.SIG_DFL, [False, False], "reload"),  # a service, a daemon
        (signal.SIG_DFL, [True, True], "reload"),  # kill -HUP, in a terminal
        (signal.SIG_DFL, [True, False], "end"),  # the terminal was closed
        (signal.SIG_IGN, [True, False], "reload"),  # the same, under nohup
    ],
)
def test_sighup_reloads_unless_its_terminal_was_closed(
    monkeypatch: pytest.MonkeyPatch, before: Any, terminals: list[bool], done: str
) -> None:
    calls: list[str] = []
    looks = iter(terminals)
    monkeypatch.setattr(signals, "has_terminal", lambda: next(looks))
    signal.signal(signal.SIGHUP, before)
    signals.reload_at_hangup(Ending(), lambda: calls.append("reload"), lambda: calls.append("end"))
    os.kill(os.getpid(), signal.SIGHUP)
    assert calls == [done]


@pytest.mark.usefixtures("handlers")
def test_a_worker_leaves_sighup_to_its_parent() -> None:
    signals.ignore_hangup()
    os.kill(os.getpid(), signal.SIGHUP)

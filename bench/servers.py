"""The servers that are compared, and how each is started; the databases they use."""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from bench import machine
from bench.machine import HUB, NODE, PYTHON, ROOT, Unavailable

POSES = ("fanout", "rooms", "crowd")
RATES = ("rate-20", "rate-100", "rate-300", "rate-1000", "rate-3000", "rate-12000")
RAW = (*RATES, "storm", "neighbour")
PAIRS = ("pairs-1000", "pairs-1000000")


@dataclass(frozen=True)
class Server:
    """One that can be measured.

    Attributes:
        name: how the command line and the tables call it.
        title: what it is, for people.
        command: how to start it, given the port.
        prepare: builds what it needs; raises Unavailable.
        loads: what it can do.
        env: further environment.
        redis: whether it needs REDIS_URL.
        files: what its folder holds, by name, given the port.
        processes: how many are started; the senders of `across` connect to the last.
        settle: seconds after it answers until all of it serves.
        installed: whether it is a relayd in an environment of its own, told everything by options.
    """

    name: str
    title: str
    command: Callable[[int], list[str]]
    prepare: Callable[[], None]
    loads: tuple[str, ...] = (*POSES, "quiet", "idle", *RAW)
    env: dict[str, str] = field(default_factory=dict)
    redis: bool = False
    files: Callable[[int], dict[str, str]] = lambda port: {}
    processes: int = 1
    settle: float = 0.0
    installed: bool = False


def _relayd(port: int, binaries: Path = Path(sys.executable).parent) -> list[str]:
    twistd = binaries / "twistd"
    endpoint = f"tcp:{port}:interface=127.0.0.1"
    return [str(twistd), "--nodaemon", "--pidfile=", "relayd", "--listen", endpoint]


def _prepare_relayd() -> None:
    if not (Path(sys.executable).parent / "twistd").exists():
        raise Unavailable("relayd is not installed beside this Python: make setup")


def _generator() -> None:
    machine.prepare_generator()


def _channels() -> None:
    _generator()
    machine.prepare_python(ROOT / "bench" / "peers" / "requirements.txt")


def _socketify() -> None:
    _generator()
    machine.prepare_python(ROOT / "bench" / "peers" / "socketify.txt")


def _prepare_nchan() -> None:
    machine.nginx_with("nchan")


def _nchan(port: int) -> list[str]:
    return [machine.nginx_with("nchan"), "-p", ".", "-c", "nginx.conf", "-e", "stderr"]


def _nchan_files(port: int) -> dict[str, str]:
    text = (ROOT / "bench" / "peers" / "nchan.conf").read_text(encoding="utf-8")
    modules = str(machine.NGINX_MODULES)
    return {"nginx.conf": text.replace("@PORT@", str(port)).replace("@MODULES@", modules)}


def _uvicorn(port: int) -> list[str]:
    """Uvicorn's fastest: uvloop, httptools, no access log, no compression."""
    program = str(PYTHON.parent / "uvicorn")
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    quiet = ["--log-level", "warning", "--ws-per-message-deflate", "false"]
    return [program, *options, *quiet, "--port", str(port), "bench.peers.channels_app:app"]


def _daphne(port: int) -> list[str]:
    program = str(PYTHON.parent / "daphne")
    return [program, "-v", "0", "-b", "127.0.0.1", "-p", str(port), "bench.peers.channels_app:app"]


def _channels_servers() -> Iterator[Server]:
    layers = (
        ("memory", "in-memory layer"),
        ("core", "channels_redis core"),
        ("pubsub", "channels_redis pub/sub"),
    )
    for front, command in (("uvicorn", _uvicorn), ("daphne", _daphne)):
        for layer, title in layers:
            yield Server(
                f"{front}-{layer}",
                f"Channels, {title}, {front}",
                command,
                _channels,
                loads=(*POSES, "idle"),
                env={"CHANNEL_LAYER": layer},
                redis=layer != "memory",
            )


_ALL = [
    Server(
        "relayd",
        "relayd",
        _relayd,
        _prepare_relayd,
        loads=(*POSES, "quiet", "idle", *PAIRS, *RAW, "across"),
        installed=True,
    ),
    Server(
        "relayd-two",
        "two relayd processes, senders on the one, viewers on the other",
        _relayd,
        _prepare_relayd,
        loads=("across",),
        redis=True,
        processes=2,
        installed=True,
    ),
    Server(
        "relayd-groups",
        "relayd, 2 workers, each with some of the groups",
        _relayd,
        _prepare_relayd,
        loads=("across",),
        env={"RELAYD_SERVER_WORKERS": "2"},
        redis=True,
        settle=3.0,
        installed=True,
    ),
    Server(
        "relayd-workers",
        "relayd, 2 workers, each with whom it accepts",
        _relayd,
        _prepare_relayd,
        loads=("across",),
        env={"RELAYD_SERVER_WORKERS": "2", "RELAYD_SERVER_SPREAD": "connections"},
        redis=True,
        settle=3.0,
        installed=True,
    ),
    Server(
        "gorilla",
        "gorilla/websocket hub, Go",
        lambda port: [str(HUB)],
        machine.build_hub,
        loads=(*POSES, "quiet", "idle", *PAIRS, *RAW),
        env={"GOMAXPROCS": "1"},
    ),
    Server(
        "picows",
        "picows hub on uvloop",
        lambda port: [str(PYTHON), "-m", "bench.peers.picows_hub"],
        _generator,
    ),
    Server(
        "nchan",
        "nginx with nchan, C",
        _nchan,
        _prepare_nchan,
        loads=RAW,
        files=_nchan_files,
    ),
    Server(
        "socketify",
        "uWebSockets (socketify)",
        lambda port: [str(PYTHON), "-m", "bench.peers.socketify_hub"],
        _socketify,
    ),
    Server(
        "ws",
        "ws hub on Node",
        lambda port: ["node", str(ROOT / "bench" / "peers" / "ws_hub.js")],
        machine.prepare_node,
        env={"NODE_PATH": str(NODE / "node_modules")},
    ),
    Server(
        "websockets",
        "websockets broadcast on uvloop",
        lambda port: [str(PYTHON), "-m", "bench.peers.websockets_hub"],
        _generator,
        loads=(*POSES, "quiet", "idle"),
    ),
    *_channels_servers(),
]
SERVERS = {server.name: server for server in _ALL}
OWN = tuple(server.name for server in _ALL if server.installed)
"""What is relayd: as it is installed, and of several processes."""


def of_checkout(root: Path) -> Server:
    """The relayd of another checkout, where `make setup` was run.

    Raises:
        Unavailable: it was not.
    """
    binaries = root / ".venv" / "bin"
    if not (binaries / "twistd").exists():
        raise Unavailable(f"{root} has no .venv with twistd: run make setup there")
    return replace(
        SERVERS["relayd"],
        name="before",
        title=f"relayd of {root}",
        command=partial(_relayd, binaries=binaries),
    )


class Databases:
    """PostgreSQL with quizzes, and Redis, started when they are first asked for.

    Args:
        stack: ends them.
        folder: for their logs and sockets.
        core: where they run.
    """

    def __init__(self, stack: contextlib.ExitStack, folder: Path, core: int) -> None:
        self._stack = stack
        self._folder = folder
        self._core = core
        self._urls: dict[str, str] = {}

    def redis(self) -> str:
        """The URL of an empty redis-server on a Unix socket."""
        if "redis" not in self._urls:
            program = shutil.which("redis-server")
            if program is None:
                raise Unavailable("no redis-server (Debian: redis-server)")
            path = self._folder / "redis.sock"
            options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
            self._stack.enter_context(
                machine.running(
                    [program, *options],
                    core=self._core,
                    log=self._folder / "redis.log",
                    cwd=self._folder,
                )
            )
            self._urls["redis"] = f"unix://{path}"
        return self._urls["redis"]

    def quizzes(self, count: int) -> str:
        """The URL of a database with so many quizzes, in relayd's schema."""
        name = f"quizzes_{count}"
        if name not in self._urls:
            from bench import quizzes  # PostgreSQL's driver is there only if relayd is

            if "postgresql" not in self._urls:
                with machine.on_core(self._core):
                    self._server = self._stack.enter_context(quizzes.server())
                self._urls["postgresql"] = self._server.url()
            self._urls[name] = quizzes.fill(self._server, name, count)
        return self._urls[name]


@contextlib.contextmanager
def started(
    server: Server, load: str, databases: Databases, folder: Path, core: int | None
) -> Iterator[tuple[int, int]]:
    """The server, running on its core (None: on any): its port and process id.

    Raises:
        Unavailable: it does not start.
    """
    port = machine.free_port()
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RELAYD_") and name not in ("DATABASE_URL", "REDIS_URL")
    }
    env = {**kept, **server.env, "PORT": str(port), "PYTHONPATH": str(ROOT)}
    own = Path(tempfile.mkdtemp(prefix=f"{server.name}-", dir=folder))
    if server.installed:
        del env["PORT"], env["PYTHONPATH"]  # told by an option; installed
    if server.redis:
        env["REDIS_URL"] = databases.redis()
    if load in PAIRS:
        env["DATABASE_URL"] = databases.quizzes(int(load.partition("-")[2]))
    for name, text in server.files(port).items():
        (own / name).write_text(text, encoding="utf-8")
    log = own / "log"
    with machine.running(server.command(port), core=core, log=log, cwd=own, env=env) as process:
        machine.wait_for_port(port, process, log)
        time.sleep(server.settle)
        yield port, process.pid

"""`relayctl backup` under load, and `relayctl restore` of each kind of store into each kind."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from relayd.backup.records import STEP
from tests.daemon import Daemon
from tests.integration.clients import read, say
from tests.integration.conftest import Connect, Spawn, spawning
from tests.integration.relayctl import Operator, check_failed
from tests.redis_servers import Redis
from tests.servers import PostgreSQL

STORES = ("sqlite", "postgresql", "redis")
_QUIZZES = 'id,name,difficulty,lef_sel,rig_sel,detail\n3,"a ""b""",1,ä,😀,\n7,c,2,,,\n'


def settings_of(kind: str, folder: Path, server: PostgreSQL, stack: ExitStack) -> dict[str, object]:
    """Fresh stores: chat in SQLite, in PostgreSQL, or in Redis beside PostgreSQL."""
    if kind == "sqlite":
        return {"DATABASE_URL": f"sqlite:///{folder / 'chat.db'}"}
    found: dict[str, object] = {"DATABASE_URL": server.url(server.create())}
    if kind == "redis":
        found["redis_url"] = f"redis://127.0.0.1:{stack.enter_context(Redis()).port}/0"
    return found


@dataclass
class Load:
    """A client that says something as fast as it is acknowledged, with a tag each.

    Attributes:
        heard: ids and texts, in the order of the acknowledgements.
    """

    daemon: Daemon
    heard: list[tuple[int, str]] = field(default_factory=list)

    def __enter__(self) -> "Load":
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        with self.daemon.connect("/ws/chat/busy?history=0") as client:
            while not self._over.is_set():
                say(client, {"message": f"m{len(self.heard)}", "tag": f"t{len(self.heard)}"})
                frame = read(client)
                self.heard.append((frame["id"], frame["message"]))

    def wait_for(self, count: int) -> None:
        """Returns when so many more are acknowledged."""
        wanted = len(self.heard) + count
        while len(self.heard) < wanted and self._thread.is_alive():
            self._over.wait(0.005)
        assert len(self.heard) >= wanted


@dataclass
class Taken:
    """A backup that was taken under load from a machine that was lost soon after.

    Attributes:
        kind: of the stores.
        file: the backup.
        before: what was acknowledged in the room `busy` before the backup began.
        after: what was acknowledged there after it had ended.
        later: the id of a message in a room that was created after it had ended.
    """

    kind: str
    file: Path
    before: list[tuple[int, str]]
    after: list[tuple[int, str]]
    later: int


@pytest.fixture(scope="module", params=STORES)
def taken(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgresql: PostgreSQL
) -> Iterator[Taken]:
    folder = tmp_path_factory.mktemp("lost")
    with ExitStack() as stack:
        settings = settings_of(request.param, folder, postgresql, stack)
        daemon = stack.enter_context(spawning(folder))(**settings)
        relayctl = Operator(daemon.folder, **settings)
        assert relayctl("quiz", "import", "-", stdin=_QUIZZES).returncode == 0
        with daemon.connect("/ws/chat/Zürich?history=0") as client:
            say(client, {"message": 'odd \\ " é😀'})
            read(client)
        with Load(daemon) as load:
            load.wait_for(150)
            before = list(load.heard)
            done = relayctl("backup", "all.backup")
            assert (done.returncode, done.stderr) == (0, ""), done
            count = len(load.heard)
            load.wait_for(20)
        with daemon.connect("/ws/chat/later") as client:
            say(client, {"message": "of a room that the backup does not have"})
            later = read(client)["id"]
        daemon.kill()
        yield Taken(request.param, daemon.folder / "all.backup", before, load.heard[count:], later)


def frames(client: Any, until: str) -> list[Any]:
    """What a client gets up to a message."""
    found = [read(client)]
    while found[-1].get("message") != until:
        found.append(read(client))
    return found


@pytest.mark.parametrize("kind", STORES)
def test_a_fresh_machine_has_all_that_was_acknowledged_before_the_backup(
    taken: Taken, kind: str, spawn: Spawn, connect: Connect, tmp_path: Path, postgresql: PostgreSQL
) -> None:
    with ExitStack() as stack:
        settings = settings_of(kind, tmp_path, postgresql, stack)
        relayctl = Operator(tmp_path, **settings)
        restored = relayctl("restore", str(taken.file))
        assert (restored.returncode, restored.stderr) == (0, ""), restored
        assert "2 quizzes, 0 actions, 2 rooms with " in restored.stdout
        assert relayctl("quiz", "export", "-").stdout == _QUIZZES
        daemon = spawn(**settings)
        last = f"m{len(taken.before) - 1}"

        # with what was said before the backup; what was said after it may be missing
        middle = taken.before[70][0]
        for since, rest in (0, taken.before), (middle, taken.before[71:]):
            gap, *got = frames(connect(daemon, f"/ws/chat/busy?since={since}"), last)
            assert gap["error"] == "gap"
            assert [(one["id"], one["message"]) for one in got] == rest
        assert read(connect(daemon, "/ws/chat/Zürich"))["message"] == 'odd \\ " é😀'
        late = connect(daemon, f"/ws/chat/busy?since={middle}")
        assert len(frames(late, last)) == 1 + len(taken.before) - 71
        # what was lost is told
        lost = taken.after[0][0]
        client = connect(daemon, f"/ws/chat/busy?since={lost}")
        assert read(client)["error"] == "gap"

        # what was sent with a tag is found by it, what is new has a higher id
        sender = connect(daemon, "/ws/chat/busy?history=0")
        say(sender, {"message": last, "tag": f"t{len(taken.before) - 1}"})
        assert read(sender)["id"] == taken.before[-1][0]
        say(sender, {"message": "new"})
        new = read(sender)
        assert new["message"] == "new"
        assert frames(client, "new")[-1] == new
        # without a second gap
        assert all("id" in frame for frame in frames(late, "new"))
        assert new["id"] > max(id for id, _ in taken.after)
        # also in a room that is created again: ids over Redis may be two hours ahead of the clock
        other = connect(daemon, f"/ws/chat/later?since={taken.later}")
        for text in ("first", "second"):
            say(other, {"message": text})
        first, second = frames(other, "second")[-2:]
        assert first["id"] > max(taken.later, time.time() * 1000 + 2 * STEP)
        assert second["id"] == first["id"] + 1
        again = connect(daemon, f"/ws/chat/later?since={taken.later}")
        assert read(again)["error"] == "gap"
        assert read(again) == first
        assert relayctl("quiz", "import", "-", stdin="difficulty\n5\n").returncode == 0
        assert "\n8,," in relayctl("quiz", "export", "-").stdout

        if kind != taken.kind:
            return
        # neither beside it nor from elsewhere
        beside = Operator(daemon.folder, **settings)
        check_failed(
            beside("restore", "--replace", str(taken.file)), 1, "relayd is running", "stop"
        )
        check_failed(relayctl("restore", "--replace", str(taken.file)), 1, "stop every relayd")
        daemon.stop()
        check_failed(relayctl("restore", str(taken.file)), 1, "already", "--replace")
        assert relayctl("restore", "--replace", "--moved", str(taken.file)).returncode == 0
        daemon.start()
        got = frames(connect(daemon, f"/ws/chat/busy?since={middle}"), last)
        assert [(one["id"], one["message"]) for one in got] == taken.before[71:]
        got = frames(connect(daemon, "/ws/chat/busy?since=0"), last)
        assert [(one["id"], one["message"]) for one in got] == taken.before

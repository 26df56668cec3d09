"""The chat on a database that went back in time: no id is given twice, and what is lost is told."""

import shutil
from pathlib import Path
from typing import Any

from tests.daemon import Daemon
from tests.integration.clients import read, say
from tests.integration.conftest import Connect, Spawn
from tests.servers import PostgreSQL


def post(daemon: Daemon, connect: Connect, *texts: str) -> list[int]:
    """Says something in room `r`; returns the ids."""
    client = connect(daemon, "/ws/chat/r?history=0")
    ids = []
    for text in texts:
        say(client, {"message": text})
        frame = read(client)
        while "gap" in frame:
            frame = read(client)
        ids.append(frame["id"])
    client.close()
    return ids


def resume(daemon: Daemon, connect: Connect, since: int, count: int) -> list[Any]:
    """What a client gets first: the texts of messages, or the code of an error."""
    client = connect(daemon, f"/ws/chat/r?since={since}")
    frames = [read(client) for _ in range(count)]
    client.close()
    return [frame.get("error") or frame["message"] for frame in frames]


def check(daemon: Daemon, connect: Connect, kept: list[int], lost: list[int]) -> None:
    """m1 to m3 are kept, m4 to m6 are lost; the server was restored just now."""
    new = post(daemon, connect, "n1", "n2", "n3", "n4")
    assert min(new) > max(lost)
    rest = ["n1", "n2", "n3", "n4"]
    # who has seen all that is kept misses nothing
    assert resume(daemon, connect, kept[-1], 4) == rest
    assert resume(daemon, connect, new[1], 2) == rest[2:]
    for id in lost:
        # it has seen m1 to m3, and gets nothing twice
        assert resume(daemon, connect, id, 5) == ["gap", *rest]


def test_an_sqlite_file_that_was_put_back_gives_no_id_twice_and_tells_what_it_lost(
    spawn: Spawn, connect: Connect, tmp_path: Path
) -> None:
    path, backup = tmp_path / "chat.db", tmp_path / "backup.db"
    daemon = spawn(DATABASE_URL=f"sqlite:///{path}")
    kept = post(daemon, connect, "m1", "m2", "m3")
    daemon.stop()
    shutil.copy(path, backup)
    daemon.start()
    lost = post(daemon, connect, "m4", "m5", "m6")
    assert lost[0] > kept[-1]
    assert resume(daemon, connect, kept[-1], 3) == ["m4", "m5", "m6"]
    daemon.stop()
    for log in tmp_path.glob("chat.db-*"):
        log.unlink()
    shutil.copy(backup, path)
    daemon.start()
    check(daemon, connect, kept, lost)


def test_a_postgresql_that_is_put_back_while_relayd_runs_gives_no_id_twice(
    spawn: Spawn, connect: Connect, postgresql: PostgreSQL, postgresql_url: str
) -> None:
    """The connections of relayd break, and lead to the older state then; members are told."""
    name = postgresql_url.rpartition("/")[2]
    daemon = spawn(DATABASE_URL=postgresql_url)
    kept = post(daemon, connect, "m1", "m2", "m3")

    def cut() -> None:
        postgresql.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        postgresql.execute(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'"
        )

    cut()
    postgresql.execute(f"CREATE DATABASE {name}_older TEMPLATE {name}")
    postgresql.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    daemon.wait_until_ready()
    member = connect(daemon, "/ws/chat/r?history=0")
    lost = post(daemon, connect, "m4", "m5", "m6")
    assert lost == [kept[-1] + n for n in (1, 2, 3)]  # the same database: no jump
    cut()
    postgresql.execute(f"ALTER DATABASE {name} RENAME TO {name}_newer")
    postgresql.execute(f"ALTER DATABASE {name}_older RENAME TO {name}")
    daemon.wait_until_ready()
    check(daemon, connect, kept, lost)
    got = [read(member) for _ in range(8)]
    texts = ["m4", "m5", "m6", "gap", "n1", "n2", "n3", "n4"]
    assert [frame.get("error") or frame["message"] for frame in got] == texts

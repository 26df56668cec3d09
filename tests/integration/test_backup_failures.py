"""Backups and restores that fail, are killed, or meet a full disk leave everything as it was."""

import gzip
import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg2
import pytest

from relayd.backup.file import Writer
from relayd.backup.records import Header, Kept, Message, Record, Room, Row, Table
from relayd.storage.tables import QUIZZES
from tests.backups import MADE, write_backup
from tests.integration.relayctl import Operator, check_failed
from tests.integration.waiting import eventually
from tests.processes import Process
from tests.redis_servers import Redis
from tests.servers import PostgreSQL

STORES = ("sqlite", "postgresql", "redis")


def content(relayctl: Operator) -> list[bytes]:
    """All that the stores have."""
    path = relayctl.folder / "content"
    done = relayctl("backup", path.name)
    assert done.returncode == 0, done
    return gzip.decompress(path.read_bytes()).splitlines()[1:-1]


class Stores:
    """Stores of one kind, without a relayd; a small backup is restored into them.

    Attributes:
        relayctl: for them.
        before: what they have.
    """

    def __init__(self, kind: str, folder: Path, server: PostgreSQL, stack: ExitStack) -> None:
        self.kind = kind
        self.server = server
        settings: dict[str, object] = {"DATABASE_URL": f"sqlite:///{folder / 'chat.db'}"}
        if kind == "postgresql":
            settings["DATABASE_URL"] = server.url(server.create())
        elif kind == "redis":
            self.redis = stack.enter_context(Redis())
            # rooms do not go during the test, however old their messages are
            settings |= {"redis_url": f"unix://{self.redis.socket}", "chat_room_age": 0}
        self.url = str(settings["DATABASE_URL"])
        self.relayctl = Operator(folder, **settings)
        small = write_backup(folder / "small.backup", 2, 3)
        assert self.relayctl("restore", small.name).returncode == 0
        self.before = content(self.relayctl)
        assert len(self.before) == 2 + 1 + 2 * (1 + 3 + 1)

    def is_being_written(self) -> bool:
        """Whether a restore has begun to write messages."""
        if self.kind == "sqlite":
            log = self.relayctl.folder / "chat.db-wal"
            return log.exists() and log.stat().st_size > 500_000
        if self.kind == "redis":
            return bool(self.redis.tell("KEYS", "relayd:restoring:{chat/*:messages"))
        return self.count("query LIKE 'INSERT INTO chat_messages%'") > 0

    def count(self, condition: str) -> int:
        """The connections of relayctl to PostgreSQL for which a condition holds."""
        with psycopg2.connect(self.url) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'relayd' "
                f"AND datname = current_database() AND {condition}"
            )
            row = cursor.fetchone()
        connection.close()
        assert row is not None
        return int(row[0])


@pytest.fixture(params=STORES)
def stores(
    request: pytest.FixtureRequest, tmp_path: Path, postgresql: PostgreSQL
) -> Iterator[Stores]:
    with ExitStack() as stack:
        yield Stores(request.param, tmp_path, postgresql, stack)


def started(relayctl: Operator, *arguments: str) -> Process:
    return Process(
        relayctl.command(*arguments),
        cwd=relayctl.folder,
        env=relayctl.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_restore_that_is_killed_in_the_middle_changes_nothing(
    stores: Stores, how: signal.Signals
) -> None:
    relayctl = stores.relayctl
    large = write_backup(relayctl.folder / "large.backup", 30, 1000)
    process = started(relayctl, "restore", "--replace", large.name)
    eventually(stores.is_being_written)
    process.send_signal(how)
    assert process.wait(timeout=20) != 0
    if stores.kind == "postgresql":
        eventually(lambda: stores.count("true") == 0)
    assert content(relayctl) == stores.before
    done = relayctl("restore", "--replace", "small.backup")
    assert done.returncode == 0, done
    assert len(content(relayctl)) == len(stores.before)


def test_a_broken_a_cut_off_and_a_later_file_change_nothing(stores: Stores) -> None:
    relayctl = stores.relayctl
    whole = (relayctl.folder / "small.backup").read_bytes()
    files = {
        "cut": whole[:-30],
        "broken": whole[:50] + b"xx" + whole[52:],
        "later": gzip.compress(b'{"type": "header", "format": 99}\n'),
        "other": b"hello",
    }
    for name, data in files.items():
        (relayctl.folder / name).write_bytes(data)
        for options in (("--replace",), ("--check",)):
            check_failed(relayctl("restore", name, *options), 2, name, "nothing was changed")
    check_failed(relayctl("restore", "missing"), 2, "missing: No such file")
    assert content(relayctl) == stores.before


def test_messages_that_were_trimmed_while_they_were_read_are_left_out(stores: Stores) -> None:
    relayctl = stores.relayctl
    messages = [Message(MADE + n, json.dumps({"message": "x", "id": MADE + n})) for n in range(5)]
    kept = Kept(first=MADE, oldest=MADE + 3, last=MADE + 4, hole=0, posted=MADE)
    header = Header(format=1, version="1", made=MADE, database="x", chat="x", top=MADE)
    with (relayctl.folder / "trimmed").open("wb") as stream:
        writer = Writer(stream)
        records: list[Record] = [header, Room("r"), *messages, kept]
        for record in records:
            writer.add(record)
        writer.end()
    assert relayctl("restore", "--replace", "trimmed").returncode == 0
    found = [json.loads(line) for line in content(relayctl)]
    assert [one["id"] for one in found if one["type"] == "message"] == [MADE + 3, MADE + 4]
    assert [one["oldest"] for one in found if one["type"] == "kept"] == [MADE + 3]


def test_the_rooms_of_several_servers_of_redis_are_in_one_backup(
    tmp_path: Path, postgresql: PostgreSQL
) -> None:
    database = postgresql.url(postgresql.create())
    write_backup(tmp_path / "file", 20, 3)
    with Redis() as one, Redis() as other:
        urls = f"unix://{one.socket} unix://{other.socket}"
        both = Operator(tmp_path, DATABASE_URL=database, redis_url=urls, chat_room_age=0)
        assert both("restore", "--moved", "file").returncode == 0
        shares = [int(server.tell("ZCARD", "relayd:rooms:bytes")) for server in (one, other)]
        assert min(shares) > 0
        assert sum(shares) == 20
        found = [json.loads(line) for line in content(both)]
        assert sum(one["type"] == "message" for one in found) == 60
        check_failed(both("restore", "file"), 1, "already")
        other.kill()
        check_failed(both("backup", "again"), 1, "Redis")
        assert not (tmp_path / "again").exists()


def test_a_text_that_the_database_cannot_hold_changes_nothing(
    tmp_path: Path, postgresql: PostgreSQL
) -> None:
    with ExitStack() as stack:
        stores = Stores("postgresql", tmp_path, postgresql, stack)
        with (tmp_path / "odd").open("wb") as stream:
            writer = Writer(stream)
            writer.add(Header(format=1, version="1", made=MADE, database="x", chat="x", top=MADE))
            writer.add(Table(name="quizzes", columns=QUIZZES.columns, last_id=1))
            writer.add(Row((1, "a\0b", 1, "", "", "")))
            writer.end()
        done = stores.relayctl("restore", "--replace", "odd")
        check_failed(done, 2, "odd: quizzes cannot hold a text", "nothing was changed")
        assert content(stores.relayctl) == stores.before


def test_a_backup_that_is_killed_leaves_no_file_and_the_one_before(
    tmp_path: Path, postgresql: PostgreSQL
) -> None:
    with ExitStack() as stack:
        stores = Stores("postgresql", tmp_path, postgresql, stack)
        relayctl = stores.relayctl
        there = {path.name for path in tmp_path.iterdir()}
        earlier = (tmp_path / "content").read_bytes()
        with psycopg2.connect(stores.url) as connection, connection.cursor() as cursor:
            cursor.execute("LOCK TABLE chat_tags")  # so that the backup stands still in the middle
            process = started(relayctl, "backup", "content")
            eventually(lambda: stores.count("wait_event_type = 'Lock'") == 1)
            process.kill()
            process.wait(timeout=20)
            assert {path.name for path in tmp_path.iterdir()} == there
        connection.close()
        assert (tmp_path / "content").read_bytes() == earlier


def test_a_full_disk_leaves_no_file_and_the_one_before(
    tmp_path: Path, postgresql: PostgreSQL
) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    try:
        with ExitStack() as stack:
            stores = Stores("sqlite", tmp_path, postgresql, stack)
            relayctl = stores.relayctl
            assert relayctl("backup", "disk/all.backup").returncode == 0
            earlier = (folder / "all.backup").read_bytes()
            large = write_backup(tmp_path / "large.backup", 1, 100, 30_000)
            assert relayctl("restore", "--replace", large.name).returncode == 0
            done = relayctl("backup", "disk/all.backup")
            check_failed(done, 1, "disk/all.backup: No space left on device", "nothing was written")
            assert [path.name for path in folder.iterdir()] == ["all.backup"]
            assert (folder / "all.backup").read_bytes() == earlier
            assert relayctl("backup", "large-again.backup").returncode == 0
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_only_the_owner_of_a_backup_may_read_it(tmp_path: Path, postgresql: PostgreSQL) -> None:
    with ExitStack() as stack:
        relayctl = Stores("sqlite", tmp_path, postgresql, stack).relayctl
        assert (tmp_path / "content").stat().st_mode & 0o777 == 0o600
        check_failed(relayctl("backup", "nowhere/content"), 1, "nowhere/content: No such file")
        check_failed(relayctl("backup", "-"), 2, "-: a backup needs a file")

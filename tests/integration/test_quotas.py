"""Quotas of a whole relayd: floods into new rooms, names in use, and a disk that is really full."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.daemon import Daemon
from tests.integration.clients import Refused, read, say
from tests.integration.conftest import Connect, Spawn
from tests.integration.relayctl import Operator
from tests.integration.waiting import eventually
from tests.redis_servers import Redis

LARGE = {"message": "x" * 60_000}
MIB = 1024 * 1024


def flood(daemon: Daemon, rooms: int, each: int) -> list[Any]:
    """One client says large messages into new rooms, as fast as it can; its answers."""
    answers = []
    for number in range(rooms):
        with daemon.connect(f"/ws/chat/flood{number}") as client:
            for _ in range(each):
                say(client, LARGE)
            answers += [read(client) for _ in range(each)]
    return answers


def size_of(folder: Path) -> int:
    """The bytes of the database with its logs."""
    return sum(path.stat().st_size for path in folder.glob("relayd.db*"))


def test_a_flood_of_large_messages_into_new_rooms_fills_no_disk(
    spawn: Spawn, connect: Connect
) -> None:
    daemon = spawn(chat_total_bytes=6 * MIB, chat_new_rooms_per_hour=0)
    bystander = connect(daemon, "/ws/chat")
    say(bystander, {"message": "before"})
    before = read(bystander)
    assert all("id" in answer for answer in flood(daemon, 60, 10))  # 36 MB
    assert size_of(daemon.folder / "var") < (6 + 16 + 4) * MIB
    say(bystander, {"message": "after"})
    assert read(bystander)["id"] == before["id"] + 1
    late = connect(daemon, "/ws/chat?since=0")
    assert [read(late)["message"] for _ in range(2)] == ["before", "after"]
    rooms = Operator(daemon.folder).json("room", "list")
    assert sum(room["bytes"] for room in rooms["found"]) <= 6 * MIB


def test_one_address_creates_a_bounded_number_of_rooms_and_all_others_go_on(
    spawn: Spawn, connect: Connect
) -> None:
    daemon = spawn(chat_new_rooms_per_hour=5, limits_exempt="", proxy_trusted="127.0.0.9")
    answers = flood(daemon, 8, 2)
    assert ["error" in answer for answer in answers] == [False] * 10 + [True] * 6
    assert answers[-1]["error"] == "quota_exceeded"
    say(old := connect(daemon, "/ws/chat/flood0?history=0"), {"message": "hi"})
    assert read(old)["message"] == "hi"
    elsewhere = {"X-Forwarded-For": "192.0.2.1"}
    other = connect(
        daemon, "/ws/chat/new", additional_headers=elsewhere, source_address=("127.0.0.9", 0)
    )
    say(other, {"message": "hi"})
    assert read(other)["message"] == "hi"
    kept = Operator(daemon.folder).json("room", "list")
    assert kept["total"] == 6
    figures = daemon.get("/metrics")[1]
    assert "relayd_chat_rooms 6.0" in figures
    assert 'relayd_chat_refused_total{quota="rooms_of_address"} 6.0' in figures


def test_a_flood_of_large_messages_into_new_rooms_fills_no_redis(
    spawn: Spawn, connect: Connect
) -> None:
    with Redis() as redis:
        settings: dict[str, Any] = {
            "REDIS_URL": f"redis://127.0.0.1:{redis.port}",
            "chat_total_bytes": 6 * MIB,
            "chat_new_rooms_per_hour": 0,
        }
        here, there = spawn(**settings), spawn(**settings)
        start = memory_of(redis)
        flood(here, 60, 10)
        assert memory_of(redis) - start < 12 * MIB
        member = connect(there, "/ws/chat/flood59?history=0")
        assert Operator(here.folder)("room", "delete", "flood59").returncode == 0
        assert read(member)["gap"] is True
        say(member, {"message": "hi"})
        assert read(member)["message"] == "hi"


def memory_of(redis: Redis) -> int:
    (line,) = (
        line for line in redis.tell("INFO", "memory").split() if line.startswith(b"used_memory:")
    )
    return int(line.partition(b":")[2])


def test_names_in_use_are_bounded_for_an_address_and_for_all(
    spawn: Spawn, connect: Connect
) -> None:
    daemon = spawn(limits_max_groups=3, limits_groups_per_address=2, proxy_trusted="127.0.0.1")
    here, there = (
        {"additional_headers": {"X-Forwarded-For": address}}
        for address in ("192.0.2.1", "2001:db8::1")
    )
    cameras = [connect(daemon, f"/ws/camera/g{number}", **here) for number in (0, 1, 0)]
    refused = Refused(daemon, "/ws/camera/g2", **here)
    assert (refused.status, refused.error) == (429, "quota_exceeded")
    connect(daemon, "/ws/push/g2", **here)
    connect(daemon, "/ws/camera/g2", **there)
    assert "3 names" in Refused(daemon, "/ws/camera/g3", **there).message
    # the limit for all holds for addresses without limits of their own, too
    assert "3 names" in Refused(daemon, "/ws/camera/g3").message
    cameras[1].close()
    eventually(lambda: admitted(daemon, "/ws/camera/g2", **here))


def test_an_exempt_address_has_no_quota_of_names_and_none_of_new_rooms(
    spawn: Spawn, connect: Connect
) -> None:
    """Nor has a proxy that nobody has configured as trusted: it stands for all its clients."""
    daemon = spawn(limits_groups_per_address=2, chat_new_rooms_per_hour=2)
    for number in range(5):
        say(client := connect(daemon, f"/ws/chat/{number}"), {"message": "hi"})
        assert read(client)["message"] == "hi"


def admitted(daemon: Daemon, path: str, **options: Any) -> bool:
    """Whether a client may connect."""
    try:
        daemon.connect(path, **options).close()
    except InvalidStatus:
        return False
    return True


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_up(folder: Path, left: int = 0) -> Path:
    """Writes a file until the disk is full, then makes it smaller."""
    path = folder / "ballast"
    with open(path, "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(MIB))
        except OSError:
            ballast.truncate(max(0, ballast.tell() - left))
    return path


def test_below_the_free_space_chat_is_refused_and_all_else_works_until_there_is_more(
    spawn: Spawn, connect: Connect, small_disk: Path
) -> None:
    daemon = spawn(DATABASE_URL=f"sqlite:///{small_disk}/relayd.db", database_min_free=8 * MIB)
    chat, camera = connect(daemon, "/ws/chat"), connect(daemon, "/ws/camera")
    say(chat, {"message": "before"})
    assert read(chat)["message"] == "before"
    ballast = fill_up(small_disk, left=4 * MIB)
    eventually(lambda: daemon.get("/readyz")[0] == 503)
    part = daemon.get("/readyz")[1]["parts"]["disk"]
    assert (part["ok"], "nearly full" in part["message"]) == (False, True)
    say(chat, {"message": "refused"})
    assert read(chat)["error"] == "store_unavailable"
    say(camera, {"x": 1})
    assert read(camera)["x"] == 1
    assert read(connect(daemon, "/ws/chat"))["message"] == "before"
    ballast.unlink()
    eventually(lambda: daemon.get("/readyz")[0] == 200)
    say(chat, {"message": "after"})
    assert read(chat)["message"] == "after"
    assert daemon.log.count("[database] min_free") == 1


def test_a_full_disk_is_store_unavailable_until_there_is_space(
    spawn: Spawn, connect: Connect, small_disk: Path
) -> None:
    daemon = spawn(DATABASE_URL=f"sqlite:///{small_disk}/relayd.db", database_min_free=0)
    chat = connect(daemon, "/ws/chat")
    say(chat, {"message": "before"})
    read(chat)
    ballast = fill_up(small_disk)
    errors = []
    for _ in range(400):  # 24 MB, more than the log of the database has
        say(chat, LARGE)
        answer = read(chat)
        if "error" in answer:
            errors.append(answer["error"])
            break
    assert errors == ["store_unavailable"]
    ballast.unlink()
    eventually(lambda: posted(chat))


def posted(chat: Any) -> bool:
    """Whether a message is kept."""
    say(chat, {"message": "after"})
    return "id" in read(chat)

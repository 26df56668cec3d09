"""The access list of docs/install.md has the rights that relayd needs in Redis, and no other."""

import re
import shlex
from pathlib import Path

from tests.backups import write_backup
from tests.daemon import Daemon
from tests.integration.clients import read, say
from tests.integration.conftest import KEY, Connect, Spawn
from tests.integration.relayctl import Operator, check_failed
from tests.integration.waiting import eventually
from tests.redis_servers import Redis

PAGE = Path(__file__).resolve().parents[2] / "docs" / "install.md"
UUID = "1f0e8a1c-7d2b-4c3e-9a5f-0123456789ab"


def words_of_the_page() -> list[str]:
    """The words of the command that makes the user."""
    (line,) = re.findall(r"^redis-cli (ACL (?:.*\\\n)*.*)", PAGE.read_text(), re.MULTILINE)
    return shlex.split(line.replace("\\\n", " ").replace("SECRET", "pw"))


def used(redis: Redis) -> set[str]:
    """The commands that were called, by others than this test."""
    statistics = redis.tell("INFO", "commandstats").decode()
    names = set(re.findall(r"^cmdstat_([a-z|]+):calls=[1-9]", statistics, re.MULTILINE))
    return names - {"auth", "acl|log", "config|resetstat"}


def use_everything(daemons: tuple[Daemon, Daemon], redis: Redis, connect: Connect) -> None:
    """Cameras, rooms, pairs and pushes over two processes, which lose Redis once."""
    here, there = daemons
    cameras = [connect(daemon, "/ws/camera/g") for daemon in daemons]
    say(cameras[0], {"x": 1})
    assert [read(client)["x"] for client in cameras] == [1, 1]
    people = [connect(daemon, "/ws/chat/r") for daemon in daemons]
    say(people[0], {"message": "hi"})
    assert [read(client)["message"] for client in people] == ["hi", "hi"]
    late = connect(there, "/ws/chat/r?since=0")
    assert read(late)["message"] == "hi"
    eventually(lambda: [room["count"] for room in here.get("/api/rooms")[1]["rooms"]] == [3])
    headset = connect(here, f"/ws/difficulty/unity/{UUID}")
    phone = connect(there, f"/ws/difficulty/android/{UUID}")
    say(phone, {"difficulty": 1})
    assert set(read(headset)) == {"quiz_id", "action_id"}
    assert read(phone) == {"status": "received"}
    headset.close()
    assert read(phone) == {"status": "unity_disconnected"}
    push = connect(there, "/ws/push/t")
    assert here.post("/api/push/t", b'{"done":1}', Authorization=f"Bearer {KEY}")[0] == 200
    assert read(push) == {"done": 1}
    cameras[0].close()
    eventually(lambda: redis.tell("PUBSUB", "NUMSUB", "relayd:camera/g")[1] == 1)
    # an entry of another program, which relayd deletes
    redis.tell("SELECT", 1)
    redis.tell("XADD", "relayd:{chat/r}:messages", "9007199254740000-0", "odd", "odd")
    say(people[0], {"message": "on"})
    assert read(people[0])["message"] == "on"


def test_the_documented_rights_are_those_that_relayd_uses(
    redis: Redis, spawn: Spawn, connect: Connect, tmp_path: Path
) -> None:
    words = words_of_the_page()
    assert redis.tell(*words) == b"OK"
    redis.tell("CONFIG", "RESETSTAT")
    url = f"redis://relayd:pw@127.0.0.1:{redis.port}/1"
    settings = {"REDIS_URL": url, "api_key": KEY, "redis_history_age": 3600}
    daemons = tuple(spawn(**settings, chat_list_rooms="open") for _ in range(2))
    use_everything((daemons[0], daemons[1]), redis, connect)
    relayctl = Operator(tmp_path, redis_url=url)
    assert relayctl("status").returncode == 0
    control = Operator(daemons[0].folder)
    assert "\nr " in control("room", "list").stdout
    assert control("room", "delete", "r").returncode == 0
    relayctl("doctor")
    for daemon in daemons:
        daemon.stop()
    assert redis.tell("ACL", "LOG") == []
    assert used(redis) == {word[1:] for word in words if word.startswith("+")}


def test_a_backup_needs_no_further_right_and_a_restore_the_two_that_the_page_names(
    redis: Redis, tmp_path: Path, postgresql_url: str
) -> None:
    (more,) = re.findall(r"`relayctl restore` also needs `([^`]+)`", PAGE.read_text())
    assert redis.tell(*words_of_the_page()) == b"OK"
    url = f"redis://relayd:pw@127.0.0.1:{redis.port}/1"
    relayctl = Operator(tmp_path, redis_url=url, DATABASE_URL=postgresql_url, chat_room_age=0)
    write_backup(tmp_path / "file", 2, 3)
    assert redis.tell("ACL", "SETUSER", "relayd", *more.split()) == b"OK"
    assert relayctl("restore", "file").returncode == 0
    for word in more.replace("+", "-").split():
        assert redis.tell("ACL", "SETUSER", "relayd", word) == b"OK"
        done = relayctl("restore", "--replace", "file")
        check_failed(done, 1, "rights of its user", "nothing was changed")
    redis.tell("ACL", "LOG", "RESET")
    # a script is not taken back
    assert "2 rooms with 6 messages" in relayctl("backup", "again").stdout
    assert redis.tell("ACL", "LOG") == []

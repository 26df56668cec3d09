"""`GET /api/rooms` of spawned processes: the rooms of all of them, and who sees which."""

import json
import re
import urllib.error
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any

import jwt

from tests.daemon import Daemon
from tests.integration.clients import read, say
from tests.integration.conftest import Connect, Spawn
from tests.integration.scraping import scrape, value
from tests.integration.waiting import eventually
from tests.redis_servers import Redis

PROTOCOL = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
SECRET = "a secret of at least thirty-two bytes"


def listed(daemon: Daemon) -> dict[str, int] | None:
    """How many are in each room; None if the list is partial."""
    status, found = daemon.get("/api/rooms")
    assert status == 200
    return None if found["partial"] else {room["room"]: room["count"] for room in found["rooms"]}


def ask(daemon: Daemon, token: str, tag: str = "") -> tuple[int, Any, str]:
    """Status, answer and ETag for a client with a token."""
    headers = {"Authorization": f"Bearer {token}", "If-None-Match": tag}
    request = urllib.request.Request(f"{daemon.url}/api/rooms", headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return int(answer.status), json.loads(answer.read()), answer.headers["ETag"]
    except urllib.error.HTTPError as error:
        body = error.read()
        return error.code, json.loads(body) if body else None, error.headers["ETag"]


def test_rooms_of_all_processes_are_listed_until_their_members_leave_or_their_process_is_killed(
    redis: Redis, spawn: Spawn, connect: Connect
) -> None:
    settings = {"REDIS_URL": f"unix://{redis.socket}", "chat_list_rooms": "open"}
    here, there, dies = (spawn(**settings) for _ in range(3))
    ours = connect(here, "/ws/chat/both?history=0")
    theirs = [connect(there, f"/ws/chat/{room}?history=0") for room in ("both", "theirs")]
    connect(dies, "/ws/chat/%E9%83%A8%E5%B1%8B?history=0")
    say(theirs[1], {"message": "hi"})
    said = read(theirs[1])["time"]
    eventually(lambda: listed(here) == {"theirs": 1, "both": 2, "部屋": 1})
    first, *others = here.get("/api/rooms")[1]["rooms"]
    difference = datetime.fromisoformat(first["newest"]) - datetime.fromisoformat(said)
    assert (first["room"], abs(difference.total_seconds()) < 5) == ("theirs", True)
    assert [room["newest"] for room in others] == [None, None]
    redis.tell("DEL", "relayd:{chat/theirs}:messages")  # Redis has evicted or expired them
    eventually(lambda: {room["newest"] for room in here.get("/api/rooms")[1]["rooms"]} == {None})
    # what another program writes there harms nobody
    odd = b'{"sizes":{"<b>":1}}'
    redis.tell("SET", "relayd:process:odd:rooms", odd)
    redis.tell("ZADD", "relayd:lobby", "9999999999999", "odd")
    eventually(lambda: listed(here) is None)
    assert "<b>" not in str(here.get("/api/rooms")[1])
    assert value(scrape(here), "relayd_drops_total", reason="invalid") >= 1
    redis.tell("ZREM", "relayd:lobby", "odd")
    dies.kill()
    theirs[1].close()
    eventually(lambda: listed(here) == {"both": 2, "部屋": 1})
    eventually(lambda: listed(here) == {"both": 2})
    redis.kill()
    eventually(lambda: listed(here) is None)
    own = {"room": "both", "count": 1, "newest": None}
    assert here.get("/api/rooms")[1] == {"rooms": [own], "total": 1, "partial": True}
    redis.start()
    eventually(lambda: listed(here) == {"both": 2})
    ours.close()
    theirs[0].close()
    eventually(lambda: listed(here) == {})
    eventually(lambda: redis.tell("EXISTS", "relayd:lobby") == 0)


def test_a_token_shows_the_rooms_that_it_is_good_for_and_an_etag_saves_the_answer(
    spawn: Spawn, connect: Connect
) -> None:
    node = spawn(auth_secret=SECRET, auth_chat="token")
    every, only = (jwt.encode({"scope": scope}, SECRET) for scope in ("chat", "chat/a"))
    for room in ("a", "b"):
        connect(node, f"/ws/chat/{room}?token={every}")
    status, found, tag = ask(node, every)
    assert (status, [room["room"] for room in found["rooms"]]) == (200, ["a", "b"])
    assert ask(node, every, tag)[0] == 304
    assert [room["room"] for room in ask(node, only)[1]["rooms"]] == ["a"]
    assert ask(node, "x")[0] == node.get("/api/rooms")[0] == 401
    assert re.findall(r"GET /api/rooms: (\d+)", node.log) == ["401", "401"]
    (example,) = re.findall(r"^GET /api/rooms\n(.+)", PROTOCOL.read_text(), re.MULTILINE)
    documented = json.loads(example)
    assert documented.keys() == found.keys()
    assert documented["rooms"][0].keys() == found["rooms"][0].keys()


def test_names_of_rooms_are_no_secret_only_where_the_configuration_says_so(
    relayd: Daemon, connect: Connect
) -> None:
    connect(relayd, "/ws/chat/a-secret-name")
    status, refusal = relayd.get("/api/rooms")
    assert (status, refusal["error"]) == (404, "not_found")

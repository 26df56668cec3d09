"""`GET /api/rooms`: who sees which rooms, and the answers."""

from typing import Any

import jwt
import pytest
from twisted.internet.task import Clock

from relayd.brokers.interface import LiveRoom, LiveRooms
from relayd.config import Api, Auth, Chat, Config
from relayd.config.current import Current
from relayd.connection.admission import Admission
from relayd.relays.paths import KINDS
from relayd.web.rooms import MOST, USUAL, RoomList, lists_rooms
from relayd.web.site import build_site
from relayd.web.visitors import Visitors
from tests.unit.fakes import NOW
from tests.unit.web_fakes import BEARER, KEY, Client, FakeBackend, Reply

SECRET = "a secret of at least thirty-two bytes"
OPEN = Config(chat=Chat(list_rooms="open"))
TOKENS = Auth(secret=SECRET)
GUARDED = Config(auth=Auth(secret=SECRET, chat="token"), api=Api(key=KEY))
ROOMS = [LiveRoom("部屋", 3, 1_767_322_984_005), LiveRoom("a", 1, None), LiveRoom("b", 1, None)]


class Scene:
    """The site with the path, on such a lobby."""

    def __init__(self, config: Config) -> None:
        self.found = LiveRooms(ROOMS, partial=False)
        self.asked = 0
        backend = FakeBackend(config=config)
        self.failed: list[str] = []
        backend.attempt_failed = self.failed.append  # type: ignore[method-assign, assignment]
        current = Current(config)
        admission = Admission(current, Clock(), lambda: NOW, KINDS)
        rooms = RoomList(current, Visitors(backend, admission), self)
        self.site = build_site(backend, Clock(), [rooms])

    async def rooms(self) -> LiveRooms:
        self.asked += 1
        return self.found

    def ask(self, query: str = "", headers: str = "", method: str = "GET") -> Reply:
        client = Client(self.site)
        client.send(f"{method} /api/rooms{query} HTTP/1.1\r\nHost: a\r\n{headers}\r\n".encode())
        [reply] = client.replies(head=method == "HEAD")
        return reply


def bearer(**claims: Any) -> str:
    return f"Authorization: Bearer {jwt.encode(claims, SECRET)}\r\n"


def names(reply: Reply) -> list[str]:
    assert reply.status == 200, reply.json
    return [room["room"] for room in reply.json["rooms"]]


# Answers


def test_the_answer_has_members_and_time_of_each_room_in_the_order_of_the_lobby() -> None:
    scene = Scene(OPEN)
    reply = scene.ask()
    assert reply.json == {
        "rooms": [
            {"room": "部屋", "count": 3, "newest": "2026-01-02T03:03:04.005Z"},
            {"room": "a", "count": 1, "newest": None},
            {"room": "b", "count": 1, "newest": None},
        ],
        "total": 3,
        "partial": False,
    }
    assert reply.headers["cache-control"] == "private, no-cache"
    scene.found = LiveRooms((), partial=True)
    assert scene.ask("/").json == {"rooms": [], "total": 0, "partial": True}
    assert scene.ask(method="HEAD").status == 200
    assert scene.ask(method="POST").status == 405


def test_a_client_that_has_the_list_already_gets_304_until_it_changes() -> None:
    scene = Scene(OPEN)
    known = f"If-None-Match: {scene.ask().headers['etag']}\r\n"
    reply = scene.ask("", known)
    assert (reply.status, reply.body) == (304, b"")
    scene.found = LiveRooms(ROOMS[:2], partial=False)
    assert scene.ask("", known).status == 200


def test_pages_of_allowed_origins_may_read_the_list_as_the_other_answers_of_the_api() -> None:
    scene = Scene(Config(chat=OPEN.chat, api=Api(allowed_origins=("https://site.test",))))
    for origin, allowed in (("https://site.test", True), ("https://other.test", False)):
        known = f"If-None-Match: *\r\nOrigin: {origin}\r\n"
        for headers, status in ((f"Origin: {origin}\r\n", 200), (known, 304)):
            reply = scene.ask("", headers)
            assert reply.status == status
            assert ("access-control-allow-origin" in reply.headers) is allowed


def test_an_answer_has_as_many_rooms_as_were_asked_for_and_says_how_many_there_are() -> None:
    assert (USUAL, MOST) == (50, 200)  # as docs/protocol.md says
    scene = Scene(OPEN)
    rooms = [LiveRoom(f"r{number}", 1, None) for number in range(300)]
    scene.found = LiveRooms(rooms, partial=False)
    for query, count in (("", 50), ("?limit=1", 1), ("?limit=200", 200)):
        reply = scene.ask(query)
        assert names(reply) == [room.name for room in rooms[:count]]
        assert reply.json["total"] == 300


@pytest.mark.parametrize("limit", ["0", "201", "-1", "x", "", "1.5", "%C2%B2", "1" * 5000])
def test_a_limit_that_is_no_number_within_the_bound_is_answered_400(limit: str) -> None:
    scene = Scene(OPEN)
    reply = scene.ask(f"?limit={limit}")
    assert (reply.status, reply.json["error"]) == (400, "bad_request")
    assert scene.asked == 0


# Who sees what


@pytest.mark.parametrize(
    ("headers", "query", "seen"),
    [
        (bearer(sub="ada"), "", ["部屋", "a", "b"]),
        (bearer(scope="chat"), "", ["部屋", "a", "b"]),
        (bearer(scope="chat/*:view"), "", ["部屋", "a", "b"]),
        (bearer(scope="chat/a camera"), "", ["a"]),
        (bearer(scope="chat/b:send chat/%E9%83%A8%E5%B1%8B"), "", ["部屋", "b"]),
        (bearer(scope="chat/empty"), "", []),
        ("", f"?token={jwt.encode({'scope': 'chat/a'}, SECRET)}", ["a"]),
        (BEARER, "", ["部屋", "a", "b"]),
    ],
)
def test_a_client_sees_the_rooms_that_it_may_join(
    headers: str, query: str, seen: list[str]
) -> None:
    reply = Scene(GUARDED).ask(query, headers)
    assert names(reply) == seen
    assert reply.json["total"] == len(seen)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("", 401),
        ("Authorization: Bearer wrong\r\n", 401),
        (bearer(sub="ada", exp=NOW - 3600), 401),
        (bearer(scope="camera/a"), 403),
    ],
)
def test_a_client_that_may_not_connect_to_the_chat_is_refused_and_counts_as_a_failed_attempt(
    headers: str, status: int
) -> None:
    scene = Scene(GUARDED)
    assert scene.ask("", headers).status == status
    assert len(scene.failed) == 1
    assert scene.asked == 0


@pytest.mark.parametrize(
    ("config", "headers", "status"),
    [
        # nobody needs a token, so that a name may be a secret
        (Config(), "", 404),
        (Config(), bearer(sub="ada"), 404),
        (Config(auth=TOKENS), "", 401),
        (Config(auth=TOKENS), bearer(), 200),
        (Config(auth=TOKENS, chat=OPEN.chat), "", 200),
        (Config(auth=TOKENS, chat=Chat(list_rooms="off")), bearer(sub="ada"), 404),
        (OPEN, "", 200),
        (Config(api=Api(key=KEY)), BEARER, 200),
        (Config(api=Api(key=KEY), chat=Chat(list_rooms="off")), BEARER, 200),
        (Config(api=Api(key=KEY)), "", 404),
    ],
)
def test_a_setting_says_whether_rooms_are_listed_for_clients_without_a_token_or_for_none(
    config: Config, headers: str, status: int
) -> None:
    scene = Scene(config)
    assert scene.ask("", headers).status == status
    assert scene.asked == (status == 200)


def test_sessions_of_a_django_site_count_as_tokens() -> None:
    assert lists_rooms(Config(auth=Auth(chat="django")))
    assert not lists_rooms(Config(auth=Auth(push="django")))

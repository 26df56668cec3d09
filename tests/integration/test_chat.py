"""`/ws/chat[/{room}]`: live messages and history as clients see them, on a spawned relayd."""

import itertools
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from relayd.storage import schema
from tests.daemon import Daemon
from tests.integration.clients import (
    Refused,
    read,
    read_many,
    read_rest,
    say,
    settle,
)
from tests.integration.conftest import KEY, Connect, Spawn
from tests.servers import PostgreSQL

_rooms = (f"room-{number}" for number in itertools.count())


@pytest.fixture
def room() -> str:
    """The path of a room of the test's own."""
    return f"/ws/chat/{next(_rooms)}"


@pytest.fixture
def node(database_url: str, spawn: Spawn) -> Daemon:
    """A relayd on each kind of database in turn, whose clients may talk as quickly as they can."""
    return spawn(DATABASE_URL=database_url, limits_messages_per_second=0)


def talk(client: ClientConnection, *messages: str) -> list[Any]:
    """Says the messages one after the other; what came back."""
    for message in messages:
        say(client, {"message": message})
    return read_many(client, len(messages))


def read_until(client: ClientConnection, last: str) -> list[Any]:
    """Everything that comes up to a certain message."""
    frames: list[Any] = []
    while not frames or frames[-1].get("message") != last:
        frames.append(read(client))
    return frames


def number_of(count: int) -> list[str]:
    """Some messages."""
    return [f"message {number}" for number in range(1, count + 1)]


def ids(frames: list[Any]) -> list[int]:
    """The positions of messages."""
    return [frame["id"] for frame in frames]


def check_run(frames: list[Any], count: int) -> None:
    """So many messages whose positions follow one another without a gap."""
    found = ids(frames)
    assert found == list(range(found[0], found[0] + count))


# -- live


def test_a_message_is_delivered_to_every_member_including_its_sender(
    relayd: Daemon, connect: Connect, room: str
) -> None:
    alice, bob = connect(relayd, room), connect(relayd, room)
    (frame,) = talk(alice, "hello")
    assert frame == read(bob)
    assert set(frame) == {"message", "id", "time"}
    assert frame["message"] == "hello"
    assert isinstance(frame["id"], int)
    said = datetime.fromisoformat(frame["time"])
    assert abs(datetime.now(UTC) - said) < timedelta(seconds=30)
    assert read_rest(alice, bob) == [[], []]


def test_members_beside_the_message_are_ignored(
    relayd: Daemon, connect: Connect, room: str
) -> None:
    """A client cannot choose an id, a time or a user."""
    alice = connect(relayd, room)
    alice.send('{"id": 99, "user": "root", "time": "now", "message": "hi", "gap": true}')
    frame = read(alice)
    assert frame["message"] == "hi"
    assert frame["id"] != 99
    assert set(frame) == {"message", "id", "time"}
    assert frame["time"] != "now"


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        ("[1]", "bad_json"),
        ("hello", "bad_json"),
        ('"hello"', "bad_json"),
        (b"\xc3\x28", "bad_json"),
        ('{"message": "\\ud800"}', "bad_json"),
        ("{}", "bad_message"),
        ('{"message": 1}', "bad_message"),
        ('{"message": null}', "bad_message"),
        ('{"message": ["a"]}', "bad_message"),
        ('{"Message": "a"}', "bad_message"),
    ],
)
def test_bad_input_is_answered_to_its_sender_alone(
    relayd: Daemon, connect: Connect, room: str, frame: str | bytes, error: str
) -> None:
    alice, bob = connect(relayd, room), connect(relayd, room)
    alice.send(frame)
    answer = read(alice)
    assert answer["error"] == error
    assert set(answer) == {"error", "message"}
    assert talk(alice, "on it goes")[0]["message"] == "on it goes"
    assert [len(frames) for frames in read_rest(alice, bob)] == [0, 1]


def test_blank_frames_are_ignored(relayd: Daemon, connect: Connect, room: str) -> None:
    alice = connect(relayd, room)
    for blank in ("", "  ", b"", b"\r\n"):
        alice.send(blank)
    assert talk(alice, "a")[0]["message"] == "a"
    assert read_rest(alice) == [[]]


TEXTS = [
    "héllo wörld",
    "日本語",
    "👩‍👩‍👧 🏳️‍🌈",
    "\u0000",
    "a\u0000b",
    "\u202e\ufeff\u2028",
    '"\\/\b\f\n\r\t',
    "<b>bold</b> & 'quoted'",
    "'; DROP TABLE chat_messages; -- %s ? :x",
    " ",
    "x" * 60000,
]


def test_any_text_is_delivered_and_stored_unchanged(node: Daemon, connect: Connect) -> None:
    """U+0000, emoji and what is special to HTML, JSON and SQL, live and from the history."""
    alice = connect(node, "/ws/chat/texts")
    assert [frame["message"] for frame in talk(alice, *TEXTS)] == TEXTS
    bob = connect(node, "/ws/chat/texts")
    assert [frame["message"] for frame in read_many(bob, len(TEXTS))] == TEXTS


def test_binary_frames_are_messages_too(relayd: Daemon, connect: Connect, room: str) -> None:
    alice = connect(relayd, room)
    alice.send('{"message": "ü"}'.encode())
    assert read(alice)["message"] == "ü"


def test_the_configured_prefix_precedes_the_text(spawn: Spawn, connect: Connect) -> None:
    node = spawn(chat_message_prefix="relay says: ")
    alice = connect(node, "/ws/chat/a")
    assert talk(alice, "hi")[0]["message"] == "relay says: hi"
    assert read(connect(node, "/ws/chat/a"))["message"] == "relay says: hi"


# -- rooms


@pytest.mark.parametrize("path", ["/ws/chat", "/ws/chat/", "/ws/chat?x=1"])
def test_the_default_room_has_a_name(relayd: Daemon, connect: Connect, path: str) -> None:
    alice, bob = (
        connect(relayd, path + ("&" if "?" in path else "?") + "history=0"),
        connect(relayd, "/ws/chat/lobby?history=0"),
    )
    assert talk(alice, "a") == read_many(bob, 1)


def test_the_default_room_is_configured(spawn: Spawn, connect: Connect) -> None:
    node = spawn(chat_default_room="Foyer_ü")
    alice, bob = connect(node, "/ws/chat"), connect(node, f"/ws/chat/{quote('Foyer_ü')}")
    assert talk(alice, "a") == read_many(bob, 1)


@pytest.mark.parametrize("name", ["a", "Z-9_", "café", "日本語", "Ω١", "x" * 100, "é" * 100])
def test_good_room_names_are_accepted(relayd: Daemon, connect: Connect, name: str) -> None:
    """Unicode letters and digits, percent-encoded in either case, with and without a slash."""
    encoded = quote(name)
    alice = connect(relayd, f"/ws/chat/{encoded}")
    bob = connect(relayd, f"/ws/chat/{encoded.lower() if '%' in encoded else encoded}/")
    assert talk(alice, "a") == read_many(bob, 1)


@pytest.mark.parametrize(
    "name",
    ["x" * 101, "a%20b", "a.b", "%F0%9F%99%82", "a%2Fb", "%00", "%FF", "a%0A", "a%E2%80%8Bb"],
)
def test_bad_room_names_are_refused(relayd: Daemon, name: str) -> None:
    refused = Refused(relayd, f"/ws/chat/{name}")
    assert (refused.status, refused.error) == (400, "bad_name")


def test_rooms_are_isolated_from_each_other(relayd: Daemon, connect: Connect, room: str) -> None:
    here, there = connect(relayd, room), connect(relayd, f"{room}-b")
    check_run(talk(here, "a"), 1)
    check_run(talk(there, "b"), 1)
    talk(here, "c")
    assert read_rest(here, there) == [[], []]
    assert [frame["message"] for frame in read_rest(connect(relayd, room))[0]] == ["a", "c"]


# -- history


def test_a_join_gets_the_last_fifty_messages_then_the_live_ones(
    node: Daemon, connect: Connect
) -> None:
    alice = connect(node, "/ws/chat/r")
    said = talk(alice, *number_of(60))
    check_run(said, 60)
    bob = connect(node, "/ws/chat/r")
    live = talk(alice, "live")
    assert read_many(bob, 51) == said[10:] + live
    assert read_rest(bob) == [[]]


@pytest.fixture(scope="module")
def said(relayd: Daemon) -> list[Any]:
    """Sixty messages that were said in the room `sixty`."""
    with relayd.connect("/ws/chat/sixty") as client:
        return talk(client, *number_of(60))


@pytest.mark.parametrize(
    ("query", "first"),
    [("history=0", 60), ("history=1", 59), ("history=5", 55), ("history=1000", 0), ("since=0", 0)],
)
@pytest.mark.parametrize("slash", ["", "/"])
def test_the_history_parameter_sets_the_number_of_messages(
    relayd: Daemon, connect: Connect, said: list[Any], query: str, first: int, slash: str
) -> None:
    client = connect(relayd, f"/ws/chat/sixty{slash}?{query}")
    assert read_many(client, len(said) - first) == said[first:]
    assert read_rest(client) == [[]]


@pytest.mark.parametrize("seen", [1, 5, 59, 60])
@pytest.mark.parametrize("more", ["", "&history=0", "&history=5"])
def test_since_returns_every_message_after_an_id(
    relayd: Daemon, connect: Connect, said: list[Any], seen: int, more: str
) -> None:
    query = f"since={said[seen - 1]['id']}{more}"
    assert read_rest(connect(relayd, f"/ws/chat/sixty?{query}")) == [said[seen:]]


def test_since_returns_every_message_of_a_long_absence(node: Daemon, connect: Connect) -> None:
    """More than one page of the history, and more than the last fifty."""
    alice = connect(node, "/ws/chat/long")
    said = talk(alice, *number_of(1500))
    bob = connect(node, f"/ws/chat/long?since={said[2]['id']}")
    assert read_many(bob, 1497) == said[3:]
    assert read_rest(bob) == [[]]


@pytest.mark.parametrize("query", ["", "?since=0", "?history=9"])
def test_a_new_room_has_no_history(relayd: Daemon, connect: Connect, room: str, query: str) -> None:
    assert read_rest(connect(relayd, room + query)) == [[]]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_gap_is_announced_before_the_history(
    database: str, request: pytest.FixtureRequest, spawn: Spawn, connect: Connect
) -> None:
    """A history that no longer reaches back to `since` says so, then gives what it has."""
    url = request.getfixturevalue(f"{database}_url")
    node = spawn(chat_history_length=10, DATABASE_URL=url)
    alice = connect(node, "/ws/chat/short")
    said = talk(alice, *number_of(30))
    for seen, gap in ((0, True), (5, True), (19, True), (20, False), (25, False), (30, False)):
        since = said[seen - 1]["id"] if seen else 0
        (frames,) = read_rest(connect(node, f"/ws/chat/short?since={since}"))
        if gap:
            told = frames.pop(0)
            assert set(told) == {"gap", "error", "message"}
            assert (told["gap"], told["error"]) == (True, "gap")
            assert told["message"].endswith(".")
        assert frames == said[max(seen, 20) :], seen
    assert read_rest(connect(node, "/ws/chat/short")) == [said[20:]]


@pytest.mark.parametrize(
    "since", ["-1", "x", "1.5", "%20", "%D9%A1", "9" * 30, "1%00", "0x1", "+1"]
)
def test_bad_since_is_refused(relayd: Daemon, room: str, since: str) -> None:
    refused = Refused(relayd, f"{room}?since={since}")
    assert refused.status == 400
    assert refused.error == "bad_since"
    assert "since" in refused.message


@pytest.mark.parametrize("history", ["-1", "all"])
def test_bad_history_is_refused(relayd: Daemon, room: str, history: str) -> None:
    refused = Refused(relayd, f"{room}?history={history}")
    assert (refused.status, refused.error) == (400, "bad_request")


# -- under load


def test_a_join_under_load_loses_and_repeats_no_message(node: Daemon, connect: Connect) -> None:
    """While four clients say 2,000 messages, forty others join in between.

    From the first message it gets, everyone has every id up to the last, each once and in order,
    and the same text under the same id.
    """
    rounds, burst, room = 10, 50, "/ws/chat/fire"
    senders = [connect(node, room) for _ in range(4)]

    def send(name: int, first: int) -> None:
        for number in range(first, first + burst):
            say(senders[name], {"message": f"{name}: {number}"})

    with ThreadPoolExecutor(4) as sending, ThreadPoolExecutor(44) as collecting:
        watchers = [collecting.submit(read_until, client, "the end") for client in senders]
        for first in range(0, rounds * burst, burst):
            sent = [sending.submit(send, name, first) for name in range(4)]
            for query in ("", "?since=0", "?history=0", "?history=7"):
                watchers.append(
                    collecting.submit(read_until, connect(node, room + query), "the end")
                )
            for done in sent:
                done.result()
        settle(*senders)
        say(senders[0], {"message": "the end"})
        seen = [watcher.result() for watcher in watchers]
    whole = seen[0]
    check_run(whole, 4 * rounds * burst + 1)
    for frames in seen:
        check_run(frames, len(frames))
        # each has the end of the same list, beginning somewhere
        assert frames == whole[-len(frames) :]
    for name in range(4):
        own = [frame["message"] for frame in whole if frame["message"].startswith(f"{name}: ")]
        assert own == [f"{name}: {number}" for number in range(rounds * burst)]


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_message_that_came_back_survives_kill_9(
    database: str, request: pytest.FixtureRequest, spawn: Spawn, connect: Connect
) -> None:
    """Acceptance 7: killed under load and restarted; what came back is there, none twice."""
    settings = {}
    if database == "postgresql":
        settings["DATABASE_URL"] = request.getfixturevalue("postgresql_url")
    node = spawn(**settings)
    enough = threading.Barrier(5)

    def chat(name: int) -> list[Any]:
        """Talks until the connection breaks; what came back."""
        client = connect(node, "/ws/chat/r?history=0")
        frames = []
        try:
            for number in range(1_000_000):
                say(client, {"message": f"{name}: {number}"})
                if number >= 20:  # twenty messages are on their way all the time
                    frames.append(read(client))
                if number == 150:
                    enough.wait(20)
        except ConnectionClosed:
            pass
        try:
            while True:
                frames.append(read(client))
        except ConnectionClosed:
            return frames

    with ThreadPoolExecutor(4) as threads:
        work = [threads.submit(chat, name) for name in range(4)]
        enough.wait(20)
        node.kill()
        came_back = {frame["id"]: frame for done in work for frame in done.result()}
    assert len(came_back) > 100

    node.start()
    client = connect(node, "/ws/chat/r?since=0")
    say(client, {"message": "after"})
    kept = read_until(client, "after")
    check_run(kept[:-1], len(kept) - 1)
    assert kept[-1]["id"] > kept[-2]["id"]  # after a start, ids jump
    by_id = {frame["id"]: frame for frame in kept}
    assert all(by_id.get(id) == frame for id, frame in came_back.items())
    texts = [frame["message"] for frame in kept]
    assert len(set(texts)) == len(texts)


def test_history_survives_a_restart(spawn: Spawn, connect: Connect) -> None:
    node = spawn()
    said = talk(connect(node, "/ws/chat/r"), *number_of(3))
    node.stop()
    node.start()
    alice = connect(node, "/ws/chat/r")
    assert read_many(alice, 3) == said
    check_run(said, 3)
    assert talk(alice, "more")[0]["id"] > said[-1]["id"]


# -- the store is away


@pytest.fixture
def own_url(own_postgresql: PostgreSQL) -> str:
    """A migrated database on a server that the test may stop."""
    schema.migrate(own_postgresql.url())
    return own_postgresql.url()


def stopped(server: PostgreSQL) -> tuple[Callable[[], None], Callable[[], None]]:
    return server.stop, server.start


def paused(server: PostgreSQL) -> tuple[Callable[[], None], Callable[[], None]]:
    return server.pause, server.resume


@pytest.mark.parametrize("kind", [stopped, paused])
def test_a_message_that_cannot_be_stored_is_delivered_to_nobody(
    own_postgresql: PostgreSQL,
    own_url: str,
    spawn: Spawn,
    connect: Connect,
    kind: Callable[[PostgreSQL], tuple[Callable[[], None], Callable[[], None]]],
) -> None:
    go_away, come_back = kind(own_postgresql)
    node = spawn(DATABASE_URL=own_url, api_key=KEY, database_deadline=1.5)
    alice, bob = connect(node, "/ws/chat/r"), connect(node, "/ws/chat/r")
    (before,) = talk(alice, "before")
    assert read(bob) == before
    go_away()
    for answer in talk(alice, "lost", "lost too"):
        assert answer["error"] == "store_unavailable"
        assert set(answer) == {"error", "message"}
    assert read_rest(alice, bob) == [[], []]

    for query in ("", "?history=3", "?since=0"):
        refused = Refused(node, f"/ws/chat/r{query}")
        assert (refused.status, refused.error) == (503, "store_unavailable")
    carol = connect(node, "/ws/chat/r?history=0")  # asks for nothing that is away
    status, answer = node.post(
        "/api/chat/r", b'{"message": "lost as well"}', Authorization=f"Bearer {KEY}"
    )
    assert (status, answer["error"]) == (503, "store_unavailable")

    come_back()
    node.wait_until_ready()
    (after,) = talk(alice, "after")
    assert read(bob) == read(carol) == after
    assert after["id"] > before["id"]
    assert read_rest(alice, bob, carol) == [[], [], []]
    (history,) = read_rest(connect(node, "/ws/chat/r"))
    assert (history[0], history[-1]) == (before, after)


# -- the HTTP API


def test_the_api_posts_a_message_to_a_room(relayd: Daemon, connect: Connect, room: str) -> None:
    alice = connect(relayd, room)
    (first,) = talk(alice, "first")
    status, answer = relayd.post(
        room.replace("/ws/", "/api/"),
        json.dumps({"message": "from outside"}).encode(),
        Authorization=f"Bearer {KEY}",
    )
    assert status == 200
    assert read(alice) == answer
    assert (answer["message"], answer["id"]) == ("from outside", first["id"] + 1)
    assert read_rest(connect(relayd, room)) == [[first, answer]]

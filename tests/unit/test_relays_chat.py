"""`/ws/chat`: history and live messages, over a hub and a history in memory."""

from collections.abc import Iterator
from typing import Any, cast

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import LogEvent

from relayd import wire
from relayd.brokers.memory import MemoryGroups, MemoryRooms
from relayd.brokers.presence import INTERVAL, Presence
from relayd.config import Auth, Chat, Config, Limits
from relayd.errors import DatabaseUnavailable, OutcomeUnknown, StoreUnavailable
from relayd.hub import Hub
from relayd.native.batching import Batching
from relayd.native.framing import text_frame
from relayd.relays.chat import ChatFactory, _StandIn
from relayd.relays.paths import KINDS
from relayd.storage.history import History
from tests.unit.fakes import (
    BUFFER,
    OPEN,
    Client,
    FakeHistory,
    World,
    failure,
    let_go,
    make_creators,
    make_world,
    mask_frame,
    success,
)

SECRET = "a secret of at least thirty-two bytes"
CONFIG = Config(
    chat=Chat(history=5),
    auth=Auth(secret=SECRET),
    limits=Limits(send_buffer=10_000, max_waiting=4),
)


class Room:
    """A world with the chat relay in it, whose clients are in the room `lobby`."""

    def __init__(self, world: World, failures: list[LogEvent], *, keep: int = 10_000) -> None:
        self.world = world
        self.failures = failures
        self.hub = Hub(Batching(world.clock, 0))
        self.history = FakeHistory(keep)
        self.factory = ChatFactory(
            world.context,
            MemoryGroups(self.hub),
            MemoryRooms(
                self.hub, cast(History, self.history), KINDS.history, make_creators(world.clock)
            ),
            Presence(world.clock),
        )

    def connect(self, query: str = "", *, path: str = "/ws/chat", **options: Any) -> Client:
        return self.world.connect(self.factory, path + query, **options)

    def post(self, *messages: object) -> None:
        """Says something without a client."""
        for message in messages:
            self.factory.post("lobby", str(message))


@pytest.fixture
def config() -> Config:
    return CONFIG


@pytest.fixture
def room(config: Config) -> Iterator[Room]:
    with make_world(config) as (world, failures):
        room = Room(world, failures)
        yield room
        world.end()
        assert list(room.hub) == []


def texts(client: Client) -> list[str]:
    """The texts of the messages that came."""
    return [answer.get("message") for answer in client.objects()]


def ids(client: Client) -> list[int]:
    """The ids of the messages that came; nothing else may have come but the error before 4003."""
    return [answer["id"] for answer in client.objects() if answer.get("error") != "too_slow"]


def let_all_go(room: Room) -> None:
    """Lets every read of the history go on until there is none."""
    history = room.history
    while history.before_read or history.after_read:
        for waiting in (history.before_read, history.after_read):
            if waiting:
                let_go(waiting)


def numbers(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last + 1)]


# Saying something


def test_a_message_is_delivered_to_every_member_including_its_sender(room: Room) -> None:
    clients = [room.connect() for _ in range(3)]
    other = room.connect(path="/ws/chat/other")
    clients[0].send({"message": "hällo", "id": 7, "user": "eve", "more": 1})
    frame = {"message": "hällo", "id": 1, "time": "2026-01-02T03:04:05.678Z"}
    assert [client.objects() for client in clients] == [[frame]] * 3
    assert other.frames() == []


def test_a_message_names_the_user_of_its_senders_token(room: Room) -> None:
    token = jwt.encode({"sub": "ada"}, SECRET, algorithm="HS256")
    named, nameless = room.connect(f"?token={token}"), room.connect()
    named.send({"message": "hi", "user": "eve"})
    nameless.send({"message": "hi", "user": "eve"})
    assert [message.get("user") for message in nameless.objects()] == ["ada", None]


@pytest.mark.parametrize(
    "config", [Config(chat=Chat(message_prefix="[relay] ", default_room="großer-saal"))]
)
def test_the_configured_prefix_and_the_configured_default_room_are_used(
    room: Room,
) -> None:
    client = room.connect(path="/ws/chat/gro%C3%9Fer-saal/")
    room.connect().send({"message": "hi"})
    success(room.factory.post("großer-saal", "there"))
    assert texts(client) == ["[relay] hi", "[relay] there"]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ("{", "bad_json"),
        ("[]", "bad_json"),
        ("{}", "bad_message"),
        ('{"message":1}', "bad_message"),
    ],
)
def test_a_bad_message_is_answered_to_its_sender_alone(room: Room, payload: str, code: str) -> None:
    sender, other = room.connect(), room.connect()
    sender.send(payload)
    assert [answer["error"] for answer in sender.objects()] == [code]
    assert other.frames() == []


def test_a_message_sent_again_with_its_tag_is_answered_to_its_sender_alone(room: Room) -> None:
    sender, other = room.connect(), room.connect()
    for _ in range(2):
        sender.send({"message": "hi", "tag": "x"})
    copy = {"message": "hi", "id": 1, "time": "2026-01-02T03:04:05.678Z", "tag": "x"}
    assert sender.objects() == [copy, copy]
    assert other.objects() == [copy]


def test_errors_about_a_message_carry_its_tag(room: Room) -> None:
    sender = room.connect()
    for error in (StoreUnavailable("no"), OutcomeUnknown("perhaps"), ValueError("oh")):
        room.history.error = error
        sender.send({"message": "hi", "tag": "x"})
    sender.send({"message": 1, "tag": "y"})
    sender.send({"message": "a", "tag": 1})
    found = [(answer["error"], answer.get("tag")) for answer in sender.objects()]
    assert found == [
        ("store_unavailable", "x"),
        ("outcome_unknown", "x"),
        ("internal_error", "x"),
        ("bad_message", "y"),
        ("bad_message", None),
    ]
    room.failures.clear()


def test_a_blank_frame_is_ignored_and_an_empty_message_is_not(room: Room) -> None:
    client = room.connect()
    client.send(" \u2003")
    assert client.frames() == []
    client.send({"message": ""})
    assert texts(client) == [""]


def test_a_message_that_cannot_be_stored_is_delivered_to_nobody(room: Room) -> None:
    sender, other = room.connect(), room.connect()
    room.history.error = StoreUnavailable("The message could not be kept.")
    sender.send({"message": "hi"})
    assert [answer["error"] for answer in sender.objects()] == ["store_unavailable"]
    assert other.frames() == []
    room.history.error = None
    sender.send({"message": "hi"})
    assert texts(other) == ["hi"]


def test_an_exception_while_a_message_is_stored_is_logged_once_and_reported(room: Room) -> None:
    sender = room.connect()
    room.history.error = RuntimeError("keeping went wrong")
    sender.send({"message": "hi"})
    assert [answer["error"] for answer in sender.objects()] == ["internal_error"]
    [event] = room.failures
    room.failures.clear()
    assert str(event["log_failure"].value) == "keeping went wrong"


def test_a_message_is_delivered_only_after_it_is_stored(room: Room) -> None:
    client = room.connect("?history=0")
    room.history.kept = []
    client.send({"message": "hi"})
    assert client.frames() == []
    room.history.tell()
    assert texts(client) == ["hi"]


def test_reading_from_a_sender_pauses_at_too_many_unstored_messages(room: Room) -> None:
    client = room.connect()
    room.history.kept = []
    for number in range(6):
        client.send({"message": str(number)})
    assert len(room.history.kept) == 4
    room.history.tell(2)
    client.pump()
    assert len(room.history.kept) == 4


def test_a_message_is_delivered_although_its_sender_has_left(room: Room) -> None:
    sender, other = room.connect(), room.connect()
    room.history.kept = []
    for _ in range(4):
        sender.send({"message": "bye"})
    sender.transport.reset()
    room.history.tell()
    assert texts(other) == ["bye"] * 4


# Joining


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", numbers(6, 10)),
        ("?history=3", numbers(8, 10)),
        ("?history=0", []),
        ("?history=999999999999", numbers(1, 10)),
        ("?since=0", numbers(1, 10)),
        ("?since=7", numbers(8, 10)),
        ("?since=10", []),
        ("?since=7&history=0", numbers(8, 10)),
    ],
)
def test_a_joiner_gets_the_requested_history_oldest_first_and_then_the_live_messages(
    room: Room, query: str, expected: list[str]
) -> None:
    room.post(*range(1, 11))
    client = room.connect(query)
    room.post(11, 12)
    assert texts(client) == [*expected, "11", "12"]


def test_a_client_is_sent_a_thousand_messages_of_history_at_most(room: Room) -> None:
    room.post(*range(1, 1101))
    assert len(room.connect("?history=1100").objects()) == 1000


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "²", "1_0", "+1", "9" * 19, "9" * 5000])
@pytest.mark.parametrize(("name", "code"), [("since", "bad_since"), ("history", "bad_request")])
def test_an_invalid_number_in_the_query_is_refused(
    room: Room, name: str, code: str, value: str
) -> None:
    assert room.connect(f"?{name}={value}").refusal == (400, code)
    assert list(room.hub) == []


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        ("/ws/chat/a%20b", (400, "bad_name")),
        ("/ws/chat/a.b", (400, "bad_name")),
        ("/ws/chat/a;b", (400, "bad_name")),
        ("/ws/chat/a/b", (404, "not_found")),
    ],
)
def test_a_path_that_names_no_room_is_refused(
    room: Room, path: str, refusal: tuple[int, str]
) -> None:
    assert room.connect(path=path).refusal == refusal


@pytest.mark.parametrize("config", [Config()])
def test_a_long_history_since_an_id_comes_page_by_page(room: Room) -> None:
    room.post(*range(1, 451))
    client = room.connect("?since=0")
    assert ids(client) == list(range(1, 451))
    assert room.history.pages == [(position, 100) for position in (0, 100, 200, 300, 400)]


def test_a_slow_reader_is_sent_the_history_at_its_own_pace(room: Room) -> None:
    """The history may be far longer than the send buffer of a client."""
    room.post(*("x" * 1000 for _ in range(500)))
    client = room.connect("?since=0", peer_reads=False)
    for _ in range(20):
        client.transport.read_some()
    assert ids(client) == list(range(1, 501))
    room.post("live")
    client.transport.read()
    assert texts(client) == ["live"]


@pytest.mark.parametrize("query", ["", "?since=0", "?history=0"])
@pytest.mark.parametrize("place", ["before_read", "after_read"])
def test_a_message_posted_while_the_history_is_read_arrives_once(
    room: Room, query: str, place: str
) -> None:
    room.post(1, 2)
    setattr(room.history, place, [])
    client = room.connect(query)
    room.post(3, 4)
    let_all_go(room)
    room.post(5)
    got = ids(client)
    assert got == list(range(6 - len(got), 6))
    assert len(got) == {"": 5, "?since=0": 5, "?history=0": 3}[query]


def test_a_client_that_reads_goes_live_in_a_busy_room(room: Room) -> None:
    """A message is posted during every read of the history."""
    room.post(*range(10))
    room.history.before_read = []
    client = room.connect("?since=0")
    for _ in range(20):
        if not room.history.before_read:
            break
        room.post("more")
        let_go(room.history.before_read)
        client.pump()
    assert not room.history.before_read


@pytest.mark.parametrize("query", ["", "?since=0"])
def test_a_message_kept_before_and_delivered_after_the_history_was_read_arrives_once(
    room: Room, query: str
) -> None:
    """A COMMIT is seen by a reader before the writer has heard of it."""
    room.history.kept = []
    room.post("committed")
    client = room.connect(query)
    room.history.tell()
    room.history.kept = None
    assert texts(client) == ["committed"]
    room.post("live")
    assert texts(client) == ["live"]


def test_a_message_kept_before_and_delivered_while_the_history_is_read_arrives_once(
    room: Room,
) -> None:
    room.history.kept, room.history.after_read = [], []
    room.post("committed")
    client = room.connect()
    room.history.tell()
    let_go(room.history.after_read)
    assert texts(client) == ["committed"]


steps = st.lists(
    st.one_of(st.integers(1, 60), st.sampled_from(["before", "after", "reads"])), max_size=10
)


@settings(max_examples=60)
@given(st.integers(0, 250), st.booleans(), st.booleans(), steps)
def test_no_message_is_lost_or_repeated_in_any_order_of_posts_and_reads(
    earlier: int, reads: bool, since: bool, steps: list[int | str]
) -> None:
    """A number is so many messages; the words let a read go on, or the client read."""
    with make_world(CONFIG) as (world, failures):
        room = Room(world, failures)
        room.post(*range(earlier))
        said = earlier
        room.history.before_read, room.history.after_read = [], []
        client = room.connect("?since=0" if since else "?history=1000", peer_reads=reads)
        for step in steps:
            if isinstance(step, int):
                room.post(*range(step))
                said += step
            elif step == "reads":
                client.transport.read_some()
            elif waiting := getattr(room.history, f"{step}_read"):
                let_go(waiting)
        client.transport.read()
        let_all_go(room)
        got = ids(client)
        if client.closed() == OPEN:
            assert got == list(range(1, said + 1))
        else:
            assert client.closed() == (4003, "too slow")
            assert got == list(range(1, len(got) + 1))
        world.end()
        assert list(room.hub) == []


def test_a_page_is_bounded_in_bytes_and_counts_as_waiting_until_it_is_sent(room: Room) -> None:
    room.post(*("x" * 1000 for _ in range(200)))
    client = room.connect("?since=0", peer_reads=False)
    page = client.server.waiting
    assert 0 < page <= 5000  # half of the send buffer, less what the transport holds
    room.post("y" * 1000)
    assert client.server.waiting > page + 1000
    client.transport.read()
    assert ids(client) == list(range(1, 202))
    assert client.server.waiting == 0


def test_collected_frames_and_the_page_of_a_joiner_share_the_bound(room: Room) -> None:
    room.post(*("x" * 1000 for _ in range(200)))
    client = room.connect("?since=0", peer_reads=False)
    fits = (10_000 - client.server.waiting) // 1100
    room.post(*("y" * 1000 for _ in range(fits)))
    assert client.server.waiting > 9000
    room.post(*("y" * 1000 for _ in range(2)))
    assert client.server.waiting < 5000
    client.transport.read()
    assert client.closed() == (4003, "too slow")


def test_a_reader_that_takes_nothing_is_closed_while_it_catches_up(room: Room) -> None:
    room.post(*("x" * 1000 for _ in range(400)))
    client = room.connect("?since=0", peer_reads=False)
    patience = room.world.config.keepalive.pong_timeout
    for _ in range(3):
        room.world.clock.pump([patience / 8] * 7)
        client.transport.read_some()
        assert client.server.can_send
    room.world.clock.pump([patience / 8] * 9)
    assert not client.server.can_send
    assert list(room.hub) == []
    client.transport.read()
    assert client.closed() == (4003, "too slow")


def test_joiners_of_one_moment_share_a_read_and_later_ones_the_next(room: Room) -> None:
    room.post(1)
    room.history.before_read = []
    first, *others = [room.connect("?since=0") for _ in range(10)]
    room.post(2)
    assert len(room.history.before_read) == 1
    let_all_go(room)
    assert [ids(client) for client in (first, *others)] == [[1, 2]] * 10
    assert len(room.history.pages) == 2


def test_a_joiner_that_collects_more_than_the_bound_is_closed_as_too_slow(
    room: Room,
) -> None:
    room.history.before_read = []
    client = room.connect()
    room.post(*("x" * 1000 for _ in range(12)))
    let_go(room.history.before_read)
    assert client.closed() == (4003, "too slow")
    assert list(room.hub) == []


def test_a_slow_join_delays_no_other_member(room: Room) -> None:
    quick = room.connect()
    room.history.before_read = []
    room.connect()
    room.post(*range(100))
    assert len(quick.objects()) == 100


def test_a_client_may_post_before_its_history_has_come(room: Room) -> None:
    room.post(*("x" * 1000 for _ in range(200)))
    client = room.connect("?since=0", peer_reads=False)
    client.transport.deliver(mask_frame(1, b'{"message":"me"}'))
    client.transport.read()
    got = client.objects()
    assert [message["id"] for message in got] == list(range(1, 202))
    assert got[-1]["message"] == "me"


# A history that does not reach back


def test_the_first_frame_announces_a_history_that_does_not_reach_back() -> None:
    with make_world(CONFIG) as (world, failures):
        room = Room(world, failures, keep=10)
        room.post(*range(1, 31))
        client = room.connect("?since=19")
        first, *rest = client.objects()
        assert (first["gap"], first["error"]) == (True, "gap")
        assert set(first) == {"gap", "error", "message"}
        assert [message["id"] for message in rest] == list(range(21, 31))
        assert ids(room.connect("?since=20")) == list(range(21, 31))


def test_a_client_below_a_lost_part_gets_a_gap_and_nothing_that_it_has(room: Room) -> None:
    """It has got the 4th message from another process, before this one shows it."""
    room.post(1, 2, 3)
    room.history.hole = 10
    room.history.before_read = []
    client = room.connect("?since=4")
    room.post(4)
    let_go(room.history.before_read)
    room.post(5)
    gap, *rest = client.objects()
    assert gap["gap"] is True
    assert [message["id"] for message in rest] == [5]


@pytest.mark.parametrize(("query", "gaps"), [("since=60", 1), ("since=0", 1), ("history=500", 0)])
def test_a_gap_is_told_once_however_many_pages_follow_and_where_ids_jump(
    room: Room, query: str, gaps: int
) -> None:
    for number in range(300):
        room.history.skipped = 5
        room.post(number)
    room.history.hole = 10_000
    got = room.connect(f"?{query}").objects()
    assert sum("gap" in frame for frame in got) == gaps
    assert got[-1]["id"] == 1800
    assert len(room.history.pages) > 1


@pytest.mark.parametrize("earlier", [0, 3])
def test_an_id_of_a_lost_history_gives_a_gap_and_every_stored_message(
    room: Room, earlier: int
) -> None:
    """The history was lost, and its ids began anew: what is said now has a smaller id."""
    room.post(*range(earlier))
    room.history.after_read = []
    client = room.connect("?since=1000")
    room.post("meanwhile")
    let_all_go(room)
    room.post("live")
    first, *rest = client.objects()
    assert first["gap"] is True
    assert [message["id"] for message in rest] == list(range(1, earlier + 3))


def test_messages_trimmed_while_the_history_is_sent_are_announced_as_a_gap() -> None:
    with make_world() as (world, failures):
        room = Room(world, failures, keep=250)
        room.post(*range(1, 251))
        room.history.before_read = []
        client = room.connect("?since=0", peer_reads=False)
        let_go(room.history.before_read)  # the first page: 1 to 200
        room.post(*range(251, 551))  # 301 to 550 are kept
        room.history.before_read, waiting = None, room.history.before_read
        let_go(waiting)
        client.transport.read()
        got = client.objects()
        missing = set(range(1, 551)) - {message.get("id") for message in got}
        told = any(message.get("gap") for message in got) or client.closed() != OPEN
        assert not missing or told
        world.end()


# A history that is away


@pytest.mark.parametrize("query", ["", "?since=0"])
def test_a_joiner_is_refused_while_the_history_is_unavailable(room: Room, query: str) -> None:
    room.history.error = DatabaseUnavailable("The database is away.")
    assert room.connect(query).refusal == (503, "store_unavailable")
    assert list(room.hub) == []


def test_a_client_that_wants_no_history_may_join_while_the_history_is_unavailable(
    room: Room,
) -> None:
    room.history.error = DatabaseUnavailable("The database is away.")
    client = room.connect("?history=0")
    assert client.status == 101
    room.history.error = None
    room.post("live")
    assert texts(client) == ["live"]


@pytest.mark.parametrize("config", [Config()])
def test_a_client_is_asked_to_reconnect_if_the_history_fails_between_two_pages(
    room: Room,
) -> None:
    room.post(*range(1, 301))
    room.history.before_read = []
    client = room.connect("?since=0")
    let_go(room.history.before_read)
    room.history.before_read[0].errback(DatabaseUnavailable("The database is away."))
    *messages, error = client.objects()
    assert [message["id"] for message in messages] == list(range(1, 101))
    assert error["error"] == "store_unavailable"
    assert client.closed()[0] == 1001
    assert list(room.hub) == []


def test_a_post_without_a_client_fails_if_it_cannot_be_stored(room: Room) -> None:
    room.history.error = StoreUnavailable("The message could not be kept.")
    failure(room.factory.post("lobby", "hi"), StoreUnavailable)


# Leaving


@pytest.mark.parametrize("place", ["before_read", "after_read"])
@pytest.mark.parametrize("query", ["", "?since=0"])
def test_a_client_that_leaves_while_the_history_is_read_leaves_nothing(
    room: Room, place: str, query: str
) -> None:
    room.post(1)
    setattr(room.history, place, [])
    client = room.connect(query)
    assert room.hub.size("chat/lobby") == 1
    client.transport.reset()
    assert list(room.hub) == []


def test_a_reader_that_leaves_between_two_pages_leaves_nothing(room: Room) -> None:
    room.post(*range(300))
    room.history.before_read = []
    client = room.connect("?since=0")
    let_go(room.history.before_read)
    client.transport.reset()
    let_go(room.history.before_read)
    assert list(room.hub) == []


def test_a_client_that_leaves_while_the_history_is_sent_leaves_nothing(room: Room) -> None:
    room.post(*("x" * 1000 for _ in range(200)))
    client = room.connect("?since=0", peer_reads=False)
    client.transport.reset()
    assert list(room.hub) == []


def test_a_joiner_that_falls_behind_by_its_collected_frames_leaves_nothing(room: Room) -> None:
    """Errors wait for it already; what was said meanwhile is too much on top of them."""
    room.post(1)
    room.history.after_read = []
    client = room.connect("?since=0", peer_reads=False, answers=False)
    let_go(room.history.after_read)  # the page with the one message; the next one has none
    client.server.send(b"." * (BUFFER + 1))
    for _ in range(20):
        client.transport.deliver(mask_frame(1, b"no JSON"))
    room.post(*("x" * 1000 for _ in range(9)))
    let_all_go(room)
    assert client.server.state != client.server.STATE_OPEN
    client.transport.reset()
    assert list(room.hub) == []


def test_a_message_of_the_history_is_the_frame_that_was_delivered_live(room: Room) -> None:
    live = room.connect()
    live.send({"message": "hi"})
    late = room.connect()
    assert late.payloads() == live.payloads() != []


def test_announcements_of_the_room_do_not_count_as_messages_with_an_id() -> None:
    """Frames before the first collected message say nothing about ids."""
    stand_in = _StandIn(10_000)
    news, message = text_frame(wire.CUT_OFF), text_frame(b'{"message":"x","id":7}')
    stand_in.write_items([(None, news)], news)
    assert not stand_in.reaches_back_to(5)
    stand_in.write_items([(None, message)], message)
    assert stand_in.reaches_back_to(6)
    assert not stand_in.reaches_back_to(5)


# Rights


def enter(room: Room, right: str, query: str = "") -> Client:
    """A client whose token has one right."""
    token = jwt.encode({"rights": [right]}, SECRET)
    return room.connect(query, headers={"Authorization": f"Bearer {token}"})


def test_a_client_that_may_not_send_reads_the_room(room: Room) -> None:
    room.post("before")
    reader, writer = enter(room, "chat/lobby:view"), enter(room, "chat/lobby", "?history=0")
    assert [each["message"] for each in reader.objects()] == ["before"]
    reader.send({"message": "no"})
    (error,) = reader.objects()
    assert (error["error"], set(error)) == ("forbidden", {"error", "message"})
    writer.send({"message": "hi"})
    assert [each["message"] for each in reader.objects()] == ["hi"]
    assert [each["message"] for each in writer.objects()] == ["hi"]


def test_a_client_that_may_not_view_gets_the_copies_of_its_own_messages_alone(room: Room) -> None:
    room.post("before")
    blind, reader = enter(room, "chat/lobby:send", "?since=0"), enter(room, "chat", "?history=0")
    blind.send({"message": "mine"})
    reader.send({"message": "theirs"})
    assert [each["message"] for each in blind.objects()] == ["mine"]
    assert [each["message"] for each in reader.objects()] == ["mine", "theirs"]


# Presence


def test_clients_that_ask_for_presence_get_it_and_plain_ones_get_nothing_of_it(room: Room) -> None:
    token = jwt.encode({"sub": "ada"}, SECRET, algorithm="HS256")
    plain, asks = room.connect(), room.connect("?presence=1")
    room.world.clock.advance(INTERVAL)
    asks.pump()
    named = room.connect(f"?presence=0&token={token}")
    room.world.clock.advance(INTERVAL)
    named.transport.end()
    room.world.clock.advance(INTERVAL)
    asks.pump()
    assert asks.objects() == [
        {"presence": "here", "count": 2, "anonymous": 2, "users": []},
        {"presence": "changed", "count": 3, "anonymous": 2, "joined": ["ada"], "left": []},
        {"presence": "changed", "count": 2, "anonymous": 2, "joined": [], "left": ["ada"]},
    ]
    plain.pump()
    assert (plain.objects(), named.objects()) == ([], [])


def test_a_client_that_may_not_view_is_present_and_gets_no_presence(room: Room) -> None:
    claims = {"sub": "bot", "scope": "chat/*:send"}
    token = jwt.encode(claims, SECRET, algorithm="HS256")
    bot, asks = room.connect(f"?presence=1&token={token}"), room.connect("?presence=1")
    room.world.clock.advance(INTERVAL)
    for client in (asks, bot):
        client.pump()
    assert [frame["users"] for frame in asks.objects()] == [["bot"]]
    assert bot.objects() == []


def test_another_value_of_presence_is_refused(room: Room) -> None:
    refused = room.connect("?presence=yes").response
    assert refused is not None
    assert refused.status_code == 400

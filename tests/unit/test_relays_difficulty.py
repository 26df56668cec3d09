"""`/ws/difficulty`: phones and headsets over pairs in memory and draws that the test answers."""

from collections.abc import Callable, Iterator
from typing import Any, ClassVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from relayd.brokers.interface import Headset, Phone
from relayd.brokers.memory import MemoryPairs
from relayd.close_codes import CloseCode
from relayd.config import Config, Limits
from relayd.errors import (
    DatabaseUnavailable,
    ErrorCode,
    NoUnity,
    OutcomeUnknown,
    RedisUnavailable,
)
from relayd.relays.difficulty import DifficultyFactory
from relayd.relays.pair_secret import read_secret
from relayd.storage.draws import Draw, Draws
from tests.unit.fakes import BUFFER, OPEN, Client, FakeDraws, World, logged_lines, make_world

UUID = "123e4567-e89b-42d3-a456-426614174000"
OTHER = "123e4567-e89b-42d3-a456-426614174001"
CONFIG = Config(limits=Limits(send_buffer=1000, max_waiting=8))
RECEIVED = {"status": "received"}
CONNECTED = {"status": "unity_connected"}
DISCONNECTED = {"status": "unity_disconnected"}
REPLACED = {
    "status": "notice",
    "error": "replaced",
    "message": ErrorCode.REPLACED.sentence,
}


class SharedPairs(MemoryPairs):
    """Pairs in a store that may be away, and whose answers may take their time.

    Attributes:
        away: what raises RedisUnavailable, by the names of the methods.
        wait: what a registration waits for, if for anything.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        super().__init__(seconds)
        self.away: set[str] = set()
        self.wait: Deferred[None] | None = None

    def _check(self, name: str) -> None:
        if name in self.away:
            raise RedisUnavailable("the store is away")

    async def headset_present(self, uuid: str, secret: str = "") -> bool:
        self._check("headset_present")
        return await super().headset_present(uuid, secret)

    async def add_headset(self, uuid: str, headset: Headset, secret: str = "") -> None:
        self._check("add_headset")
        if self.wait is not None:
            await self.wait
        await super().add_headset(uuid, headset, secret)

    async def add_phone(self, uuid: str, phone: Phone, secret: str = "") -> None:
        if self.wait is not None:
            await self.wait
        self._check("add_phone")
        await super().add_phone(uuid, phone, secret)

    async def deliver(self, uuid: str, payload: bytes, secret: str = "", tag: str = "") -> None:
        self._check("deliver")
        await super().deliver(uuid, payload, secret, tag)

    async def carried_out(self, uuid: str, secret: str, tag: str) -> bool:
        if "carried_out" in self.away:
            raise OutcomeUnknown("the store is away")
        return await super().carried_out(uuid, secret, tag)


class Quiz:
    """A world with the difficulty relay in it."""

    def __init__(self, world: World, failures: list[LogEvent]) -> None:
        self.world = world
        self.failures = failures
        self.draws = FakeDraws()
        self.pairs = SharedPairs(world.clock.seconds)
        self.factory = DifficultyFactory(world.context, self.pairs, cast(Draws, self.draws))

    def unity(self, uuid: str = UUID, **options: Any) -> Client:
        return self.world.connect(self.factory, f"/ws/difficulty/unity/{uuid}", **options)

    def android(self, uuid: str = UUID, **options: Any) -> Client:
        return self.world.connect(self.factory, f"/ws/difficulty/android/{uuid}", **options)

    def both(self) -> tuple[Client, Client]:
        return self.unity(), self.android()


@pytest.fixture
def quiz() -> Iterator[Quiz]:
    with make_world(CONFIG) as (world, failures):
        quiz = Quiz(world, failures)
        yield quiz
        world.end()
        # nothing is delivered to whoever is gone
        assert not quiz.pairs._headsets
        assert not quiz.pairs._phones


def draw(number: int) -> Draw:
    """A draw one can tell from the others."""
    return Draw([number, number + 1], number)


def drawn(number: int) -> dict[str, Any]:
    """What the headset gets of it."""
    return {"quiz_id": [number, number + 1], "action_id": number}


def errors(client: Client) -> list[str]:
    """The codes of the error frames that came; nothing else may have come."""
    found = []
    for answer in client.objects():
        assert set(answer) == {"status", "error", "message"}
        assert answer["status"] == "error"
        assert answer["message"].endswith(".")
        found.append(answer["error"])
    return found


# Handshakes


@pytest.mark.parametrize(
    ("path", "refusal"),
    [
        (f"android/{UUID}", (400, "no_unity")),
        ("android/x", (400, "bad_uuid")),
        ("unity/x", (400, "bad_uuid")),
        (f"unity/{UUID.replace('-', '')}", (400, "bad_uuid")),
        (f"phone/{UUID}", (404, "not_found")),
        (f"Unity/{UUID}", (404, "not_found")),
        ("unity", (404, "not_found")),
        ("", (404, "not_found")),
        (f"unity/{UUID}/x", (404, "not_found")),
    ],
)
def test_a_handshake_that_cannot_be_paired_is_refused(
    quiz: Quiz, path: str, refusal: tuple[int, str]
) -> None:
    client = quiz.world.connect(quiz.factory, f"/ws/difficulty/{path}")
    assert client.refusal == refusal


def test_a_phone_is_refused_when_only_another_headset_is_connected(quiz: Quiz) -> None:
    quiz.unity(OTHER)
    assert quiz.android().refusal == (400, "no_unity")


def test_a_phone_is_refused_after_the_headset_has_left(quiz: Quiz) -> None:
    quiz.unity().begin_close()
    assert quiz.android().refusal == (400, "no_unity")


def test_upper_and_lower_case_are_one_pair(quiz: Quiz) -> None:
    unity, android = quiz.unity(UUID.upper()), quiz.android(UUID)
    android.send({"difficulty": 1})
    quiz.draws.answer(0, draw(1))
    assert unity.objects() == [drawn(1)]


@pytest.mark.parametrize(
    ("side", "asked"), [("unity", "add_headset"), ("android", "headset_present")]
)
def test_both_sides_are_refused_while_the_store_is_unavailable(
    quiz: Quiz, side: str, asked: str
) -> None:
    first = quiz.unity()
    quiz.pairs.away.add(asked)
    client = quiz.world.connect(quiz.factory, f"/ws/difficulty/{side}/{UUID}")
    assert client.refusal == (503, "store_unavailable")
    assert first.closed() == OPEN
    quiz.pairs.away.clear()
    assert quiz.world.connect(quiz.factory, f"/ws/difficulty/{side}/{UUID}").status == 101


def test_a_headset_is_registered_before_it_knows_that_it_is_connected(quiz: Quiz) -> None:
    """A phone may connect as soon as the app of the headset shows the connection."""
    quiz.pairs.wait = Deferred()
    unity = quiz.unity()
    assert unity.status == 0
    assert quiz.android().refusal == (400, "no_unity")
    quiz.pairs.wait.callback(None)
    assert unity.status == 101
    assert quiz.android().status == 101


def test_a_headset_that_disconnects_during_its_registration_is_not_registered(quiz: Quiz) -> None:
    quiz.pairs.wait = Deferred()
    unity = quiz.unity()
    unity.transport.reset()
    assert not quiz.pairs._headsets
    assert quiz.android().refusal == (400, "no_unity")


def test_a_headset_replaced_before_it_is_open_is_closed_once_it_opens(quiz: Quiz) -> None:
    class Overtaken(SharedPairs):
        async def add_headset(self, uuid: str, headset: Headset, secret: str = "") -> None:
            headset.replaced()

    quiz.factory.pairs = Overtaken(quiz.world.clock.seconds)
    assert quiz.unity().closed()[0] == 4001


def test_a_frame_is_not_delivered_to_a_headset_that_is_not_open_yet(quiz: Quiz) -> None:
    class Hasty(SharedPairs):
        took: bool | None = None

        async def add_headset(self, uuid: str, headset: Headset, secret: str = "") -> None:
            self.took = headset.assign(b"{}")

    quiz.factory.pairs = pairs = Hasty(quiz.world.clock.seconds)
    assert quiz.unity().payloads() == []
    assert pairs.took is False


def test_a_phone_that_cannot_be_registered_gets_a_notice_and_no_request_is_carried_out(
    quiz: Quiz,
) -> None:
    unity = quiz.unity()
    quiz.pairs.away.add("add_phone")
    quiz.pairs.wait = Deferred()
    android = quiz.android()
    for _ in range(3):
        android.send({"difficulty": 1})
    quiz.draws.answer(0, draw(0))
    quiz.draws.answer(1, DatabaseUnavailable("away"))
    assert android.frames() == []
    quiz.pairs.wait.callback(None)
    [notice] = android.objects()
    assert (notice["status"], notice["error"]) == ("notice", "store_unavailable")
    assert android.closed() == (1001, "store_unavailable")
    quiz.draws.answer(2, DatabaseUnavailable("away"))
    assert unity.frames() == []


def test_requests_wait_until_their_phone_is_registered(quiz: Quiz) -> None:
    unity = quiz.unity()
    quiz.pairs.wait = Deferred()
    android = quiz.android()
    android.send({"difficulty": 1})
    android.send("{")
    quiz.draws.answer(0, draw(7))
    assert (unity.frames(), android.frames()) == ([], [])
    quiz.pairs.wait.callback(None)
    assert unity.objects() == [drawn(7)]
    assert [answer["status"] for answer in android.objects()] == ["received", "error"]


def test_a_broken_registration_is_a_notice(quiz: Quiz) -> None:
    class Broken(SharedPairs):
        async def add_phone(self, uuid: str, phone: Phone, secret: str = "") -> None:
            raise RuntimeError("broken on purpose")

    quiz.factory.pairs = Broken(quiz.world.clock.seconds)
    quiz.unity()
    [notice] = quiz.android().objects()
    assert (notice["status"], notice["error"]) == ("notice", "internal_error")
    assert quiz.world.context.tally.errors == {("difficulty", ErrorCode.INTERNAL): 1}
    quiz.failures.clear()


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (DatabaseUnavailable("away"), ErrorCode.DATABASE_UNAVAILABLE),
        (None, ErrorCode.NO_CONTENT),
        (draw(1), None),
    ],
)
def test_an_answer_to_a_phone_that_is_an_error_is_counted_by_its_code(
    quiz: Quiz, outcome: Exception | Draw | None, code: ErrorCode | None
) -> None:
    _, android = quiz.both()
    android.send({"difficulty": 1})
    quiz.draws.answer(0, outcome)
    assert quiz.world.context.tally.errors == ({} if code is None else {("difficulty", code): 1})


@pytest.mark.parametrize(
    "end",
    [
        *("replaced", "barred", "too much", "silent", "token", "drain", "task", "unity leaves"),
        "the client",
    ],
)
def test_only_answers_look_like_answers_whatever_happens_to_a_phone(quiz: Quiz, end: str) -> None:
    """Clients count the frames with the status `received` or `error`: one for each request."""
    _, android = quiz.both()
    for number in range(3):
        android.send({"difficulty": 1})
        if number < 2:
            quiz.draws.answer(number, (draw(1), DatabaseUnavailable("away"))[number])
    relay = android.server
    match end:
        case "replaced":
            quiz.android()
        case "barred":
            quiz.unity(f"{UUID}?secret={'s' * 16}")
        case "too much":
            relay.over_rate()
            relay.over_rate()
        case "silent":
            relay.close_silent()
        case "token":
            relay.close(CloseCode.TOKEN_EXPIRED)
        case "drain":
            relay.close(CloseCode.RESTART)
        case "task":
            relay.spawn(quiz.pairs.headset_present(UUID, "wrong"))
        case "unity leaves":
            quiz.unity().begin_close()
        case "the client":
            android.begin_close()
    quiz.draws.answer(2, None)
    statuses = [frame["status"] for frame in android.objects()]
    answers = 3 if end in ("task", "unity leaves") else 2
    assert sum(status in ("received", "error") for status in statuses) == answers
    if end not in ("the client", "drain"):
        assert set(statuses) - {"received", "error"} <= {"notice", "unity_disconnected"}
        assert len(statuses) > answers
    quiz.failures.clear()


# Tags


def tagged(tag: object, difficulty: object = 1) -> dict[str, Any]:
    """A request with a tag."""
    return {"difficulty": difficulty, "tag": tag}


def test_the_tag_of_a_request_comes_back_in_its_answer_and_in_its_error(quiz: Quiz) -> None:
    unity, android = quiz.both()
    for number, request in enumerate([tagged("é" * 64), tagged("b"), tagged("c")]):
        android.send(request)
        outcome = (draw(1), None, DatabaseUnavailable("away"))[number]
        quiz.draws.answer(number, outcome)
    android.send(tagged("d", "x"))
    android.send({"tag": "e"})
    answers = android.objects()
    assert answers[0] == {"status": "received", "tag": "é" * 64}
    assert [answer["tag"] for answer in answers[1:]] == ["b", "c", "d", "e"]
    assert [answer["error"] for answer in answers[1:]] == [
        *("no_content", "database_unavailable", "bad_difficulty", "bad_difficulty"),
    ]
    assert unity.objects() == [drawn(1)]


@pytest.mark.parametrize("tag", ["", None])
def test_an_empty_tag_is_none(quiz: Quiz, tag: str | None) -> None:
    unity, android = quiz.both()
    for number in range(2):
        android.send(tagged(tag))
        quiz.draws.answer(number, draw(number))
    assert android.objects() == [RECEIVED] * 2
    assert len(unity.objects()) == 2


@pytest.mark.parametrize("tag", [1, True, [], {}, "x" * 65])
def test_a_tag_of_another_type_or_length_is_a_bad_difficulty(quiz: Quiz, tag: object) -> None:
    _, android = quiz.both()
    android.send(tagged(tag))
    [answer] = android.objects()
    assert (answer["status"], answer["error"]) == ("error", "bad_difficulty")
    assert answer["message"] == "The tag must be a string of 1 to 64 characters."


@pytest.mark.parametrize("again", ["the database is away", "no content", "the headset has left"])
def test_a_tag_that_was_carried_out_is_answered_again_and_not_assigned_twice(
    quiz: Quiz, again: str
) -> None:
    unity, android = quiz.both()
    android.send(tagged("a"))
    quiz.draws.answer(0, draw(1))
    assert unity.objects() == [drawn(1)]
    assert android.objects() == [{**RECEIVED, "tag": "a"}]
    newer = quiz.android()
    if again == "the headset has left":
        unity.begin_close()
        assert newer.objects() == [DISCONNECTED]
    newer.send(tagged("a"))
    if again == "the database is away":
        quiz.draws.answer(1, DatabaseUnavailable("away"))
    elif again == "no content":
        quiz.draws.answer(1, None)
    assert newer.objects() == [{**RECEIVED, "tag": "a"}]
    assert unity.payloads() == []


def test_a_tag_that_was_not_carried_out_is_tried_again(quiz: Quiz) -> None:
    unity, android = quiz.both()
    android.send(tagged("a"))
    quiz.draws.answer(0, None)
    android.send(tagged("a"))
    quiz.draws.answer(1, draw(1))
    assert [answer["status"] for answer in android.objects()] == ["error", "received"]
    assert unity.objects() == [drawn(1)]


def test_an_error_after_which_the_tag_is_in_doubt_is_outcome_unknown(quiz: Quiz) -> None:
    _, android = quiz.both()
    quiz.pairs.away.add("carried_out")
    android.send(tagged("a"))
    quiz.draws.answer(0, DatabaseUnavailable("away"))
    [answer] = android.objects()
    assert (answer["status"], answer["error"], answer["tag"]) == ("error", "outcome_unknown", "a")


# Requests


@pytest.mark.parametrize(
    ("error", "code"), [(RedisUnavailable("away"), "store_unavailable"), (NoUnity(), "no_unity")]
)
def test_a_frame_that_cannot_be_delivered_is_an_error_and_the_next_one_is_tried(
    quiz: Quiz, error: Exception, code: str
) -> None:
    class Failing(SharedPairs):
        failures: ClassVar = [error]

        async def deliver(self, *args: Any, **options: Any) -> None:
            if self.failures:
                raise self.failures.pop()
            await super().deliver(*args, **options)

    quiz.factory.pairs = Failing(quiz.world.clock.seconds)
    unity, android = quiz.both()
    for number in range(2):
        android.send({"difficulty": 1})
        quiz.draws.answer(number, draw(number))
    first, second = android.objects()
    assert (first["status"], first["error"], second) == ("error", code, RECEIVED)
    assert unity.objects() == [drawn(1)]


def test_a_request_is_drawn_for_the_headset_and_then_acknowledged(quiz: Quiz) -> None:
    unity, android = quiz.both()
    android.send({"difficulty": 3})
    assert [difficulty for difficulty, _ in quiz.draws.asked] == [3]
    assert (unity.frames(), android.frames()) == ([], [])
    quiz.draws.answer(0, draw(7))
    assert unity.objects() == [drawn(7)]
    assert android.objects() == [RECEIVED]


def test_a_frame_is_delivered_within_its_own_pair_only(quiz: Quiz) -> None:
    pairs = [(quiz.unity(uuid), quiz.android(uuid)) for uuid in (UUID, OTHER)]
    pairs[1][1].send({"difficulty": 1})
    quiz.draws.answer(0, draw(1))
    assert pairs[1][0].objects() == [drawn(1)]
    assert pairs[0][0].frames() == pairs[0][1].frames() == []


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ("{", "bad_json"),
        ("1", "bad_json"),
        ("{}", "bad_difficulty"),
        ('{"difficulty":"1"}', "bad_difficulty"),
        ('{"difficulty":1.5}', "bad_difficulty"),
    ],
)
def test_a_bad_request_is_answered_to_the_phone_alone(quiz: Quiz, payload: str, code: str) -> None:
    unity, android = quiz.both()
    android.send(payload)
    assert errors(android) == [code]
    assert unity.frames() == []
    assert quiz.draws.asked == []


def test_a_blank_request_gets_no_answer(quiz: Quiz) -> None:
    unity, android = quiz.both()
    android.send(" \u2003")
    assert (unity.frames(), android.frames(), quiz.draws.asked) == ([], [], [])


def test_a_difficulty_without_content_is_no_content(quiz: Quiz) -> None:
    unity, android = quiz.both()
    android.send({"difficulty": 9})
    quiz.draws.answer(0, None)
    assert errors(android) == ["no_content"]
    assert unity.frames() == []


def test_an_unavailable_database_is_answered_with_database_unavailable(quiz: Quiz) -> None:
    unity, android = quiz.both()
    android.send({"difficulty": 1})
    quiz.draws.answer(0, DatabaseUnavailable("The database is away."))
    assert errors(android) == ["database_unavailable"]
    assert unity.frames() == []


def test_an_exception_during_a_draw_is_logged_once_and_answered(quiz: Quiz) -> None:
    unity, android = quiz.both()
    for _ in range(2):
        android.send({"difficulty": 1})
    quiz.draws.answer(0, RuntimeError("the draw went wrong"))
    quiz.draws.answer(1, draw(1))
    assert [answer.get("error") for answer in android.objects()] == ["internal_error", None]
    assert unity.objects() == [drawn(1)]
    [event] = quiz.failures
    quiz.failures.clear()
    assert str(event["log_failure"].value) == "the draw went wrong"


def test_frames_of_a_headset_are_ignored(quiz: Quiz) -> None:
    unity, android = quiz.both()
    for payload in ("", "{", '{"difficulty":1}', b"\xff"):
        unity.send(payload)
    assert (unity.frames(), android.frames(), quiz.draws.asked) == ([], [], [])


# Every request gets exactly one answer, in the order of the requests


def test_answers_keep_the_order_of_the_requests_though_draws_do_not(quiz: Quiz) -> None:
    unity, android = quiz.both()
    android.send({"difficulty": 1})
    android.send("not JSON")
    android.send({"difficulty": 2})
    android.send({"difficulty": "x"})
    android.send({"difficulty": 3})
    assert [difficulty for difficulty, _ in quiz.draws.asked] == [1, 2, 3]
    quiz.draws.answer(2, draw(30))
    quiz.draws.answer(1, None)
    assert (unity.frames(), android.frames()) == ([], [])
    quiz.draws.answer(0, draw(10))
    answers = [answer.get("error", answer["status"]) for answer in android.objects()]
    assert answers == ["received", "bad_json", "no_content", "bad_difficulty", "received"]
    assert unity.objects() == [drawn(10), drawn(30)]


@given(st.lists(st.sampled_from(["draw", "none", "away", "bad"]), max_size=7), st.randoms())
def test_draws_completed_in_any_order_are_answered_once_and_in_order(
    kinds: list[str], random: Any
) -> None:
    with make_world(CONFIG) as (world, failures):
        quiz = Quiz(world, failures)
        unity, android = quiz.both()
        for number, kind in enumerate(kinds):
            android.send("{" if kind == "bad" else {"difficulty": number})
        order = list(range(len(quiz.draws.asked)))
        random.shuffle(order)
        for place in order:
            number = quiz.draws.asked[place][0]
            quiz.draws.answer(
                place,
                {"draw": draw(number), "none": None, "away": DatabaseUnavailable("Away.")}[
                    kinds[number]
                ],
            )
        codes = {
            "draw": "received",
            "none": "no_content",
            "away": "database_unavailable",
            "bad": "bad_json",
        }
        answers = [answer.get("error", answer["status"]) for answer in android.objects()]
        assert answers == [codes[kind] for kind in kinds]
        wanted = [drawn(number) for number, kind in enumerate(kinds) if kind == "draw"]
        assert unity.objects() == wanted


def test_reading_from_a_phone_pauses_at_too_many_requests_in_progress(quiz: Quiz) -> None:
    _, android = quiz.both()
    for number in range(10):
        android.send({"difficulty": number})
    assert len(quiz.draws.asked) == 8
    for place in range(4):
        quiz.draws.answer(place, draw(place))
    assert android.objects() == [RECEIVED] * 4
    assert len(quiz.draws.asked) == 10


# Who leaves and comes back


def test_a_phone_is_notified_when_the_headset_leaves_and_reconnects(quiz: Quiz) -> None:
    unity, android = quiz.both()
    unity.begin_close()
    assert android.objects() == [DISCONNECTED]
    android.send({"difficulty": 1})
    assert errors(android) == ["no_unity"]
    assert quiz.draws.asked == []
    back = quiz.unity()
    assert android.objects() == [CONNECTED]
    android.send({"difficulty": 1})
    quiz.draws.answer(0, draw(1))
    assert android.objects() == [RECEIVED]
    assert back.objects() == [drawn(1)]


def test_a_headset_that_leaves_during_a_draw_is_no_unity(quiz: Quiz) -> None:
    unity, android = quiz.both()
    android.send({"difficulty": 1})
    unity.transport.reset()
    assert android.objects() == [DISCONNECTED]
    quiz.draws.answer(0, draw(1))
    assert errors(android) == ["no_unity"]


def test_a_headset_that_reconnects_before_the_draw_ends_gets_the_result(quiz: Quiz) -> None:
    unity, android = quiz.both()
    android.send({"difficulty": 1})
    unity.transport.reset()
    back = quiz.unity()
    quiz.draws.answer(0, draw(1))
    assert android.objects() == [DISCONNECTED, CONNECTED, RECEIVED]
    assert back.objects() == [drawn(1)]


def test_a_headset_that_is_closing_is_no_unity(quiz: Quiz) -> None:
    """From the first frame of the close on: what is handed to it would be lost."""
    unity = quiz.unity(answers=False)
    android = quiz.android()
    android.send({"difficulty": 1})
    unity.server.close_silent()
    quiz.draws.answer(0, draw(1))
    first, second = android.objects()
    assert first == DISCONNECTED
    assert second["error"] == "no_unity"
    assert unity.objects() == [{"error": "no_pong", "message": ErrorCode.NO_PONG.sentence}]


def test_a_headset_that_falls_behind_by_the_frame_is_no_unity(quiz: Quiz) -> None:
    """The frame that is one too many is let go: the phone must not be told that it arrived."""
    unity, android = quiz.both()
    unity.transport.peer_reads = False
    unity.server.send(b"." * (BUFFER + 1))
    for number in range(100):
        android.send({"difficulty": number})
        quiz.draws.answer(number, draw(number))
        answer = android.objects()
        if answer != [RECEIVED]:
            break
    assert answer[0] == DISCONNECTED
    assert answer[1]["error"] == "no_unity"
    assert number > 5


def test_a_phone_that_disconnects_during_a_draw_delivers_nothing(quiz: Quiz) -> None:
    unity, android = quiz.both()
    for number in range(3):
        android.send({"difficulty": number})
    android.transport.reset()
    for number in range(3):
        quiz.draws.answer(number, draw(number))
    assert unity.frames() == []
    assert unity.closed() == OPEN


def test_a_headset_is_not_notified_of_phones_that_connect_and_leave(quiz: Quiz) -> None:
    unity, android = quiz.both()
    android.begin_close()
    quiz.android()
    assert unity.frames() == []


# Replacement


def test_a_newer_headset_replaces_the_older_one(quiz: Quiz) -> None:
    """A headset that lost its Wi-Fi comes back before its dead socket is noticed."""
    dead = quiz.unity(answers=False)
    android = quiz.android()
    android.send({"difficulty": 1})
    newer = quiz.unity()
    assert dead.closed()[0] == 4001
    quiz.draws.answer(0, draw(1))
    assert newer.objects() == [drawn(1)]
    assert android.objects() == [RECEIVED]
    dead.transport.reset()
    android.send({"difficulty": 2})
    quiz.draws.answer(1, draw(2))
    assert newer.objects() == [drawn(2)]
    assert android.objects() == [RECEIVED]


def test_a_newer_phone_replaces_the_older_one(quiz: Quiz) -> None:
    unity = quiz.unity()
    dead = quiz.android(answers=False)
    newer = quiz.android()
    assert dead.closed()[0] == 4001
    dead.transport.reset()
    unity.begin_close()
    assert newer.objects() == [DISCONNECTED]
    assert dead.objects() == [REPLACED]


def test_the_error_before_the_close_of_a_refused_phone_is_no_answer(quiz: Quiz) -> None:
    phone = quiz.android(UUID + "?refuse=close")
    told = {"status": "notice", "error": "no_unity", "message": ErrorCode.NO_UNITY.sentence}
    assert phone.objects() == [told]
    assert phone.closed() == (4400, "no_unity")


def test_the_error_before_the_close_of_a_replaced_headset_is_flat(quiz: Quiz) -> None:
    older = quiz.unity()
    quiz.unity()
    assert older.objects() == [{"error": "replaced", "message": ErrorCode.REPLACED.sentence}]
    assert older.closed()[0] == 4001


def test_requests_of_a_replaced_phone_deliver_nothing(quiz: Quiz) -> None:
    unity, older = quiz.both()
    older.send({"difficulty": 1})
    newer = quiz.android()
    newer.send({"difficulty": 2})
    quiz.draws.answer(0, draw(1))
    quiz.draws.answer(1, draw(2))
    assert unity.objects() == [drawn(2)]
    assert newer.objects() == [RECEIVED]
    assert older.objects() == [REPLACED]


@given(st.lists(st.sampled_from(["unity", "android", "unity left", "android left"]), max_size=12))
def test_the_newest_headset_and_the_newest_phone_are_always_a_pair(steps: list[str]) -> None:
    with make_world(CONFIG) as (world, failures):
        quiz = Quiz(world, failures)
        unity: Client | None = None
        android: Client | None = None
        news: list[dict[str, str]] = []
        for step in steps:
            if step == "unity":
                if unity is None and android is not None:
                    news.append(CONNECTED)
                unity = quiz.unity()
            elif step == "unity left" and unity is not None:
                unity.transport.reset()
                unity = None
                if android is not None:
                    news.append(DISCONNECTED)
            elif step == "android":
                client = quiz.android()
                assert client.status == (400 if unity is None else 101)
                if unity is not None:
                    android, news = client, []
            elif step == "android left" and android is not None:
                android.transport.reset()
                android, news = None, []
        if android is not None:
            assert android.objects() == news
            android.send({"difficulty": 1})
            if unity is None:
                assert errors(android) == ["no_unity"]
            else:
                quiz.draws.answer(0, draw(1))
                assert android.objects() == [RECEIVED]
                assert unity.objects() == [drawn(1)]


# The secret of a pair

SECRET = "a secret of the headset"


def test_only_a_phone_with_the_secret_of_its_headset_is_admitted(quiz: Quiz) -> None:
    headset = quiz.unity(f"{UUID}?secret={SECRET.replace(' ', '+')}")
    assert quiz.android(f"{UUID.upper()}?secret={SECRET.replace(' ', '%20')}").status == 101
    for query in ("", "?secret=another+secret+of+some", f"?secret={SECRET}x".replace(" ", "+")):
        for connect in (quiz.android, quiz.unity):
            assert connect(UUID + query).refusal == (403, "wrong_secret")
            query_ = f"{query}{'&' if query else '?'}refuse=close"
            assert connect(UUID + query_).closed() == (4403, "wrong_secret")
    assert headset.status == 101
    assert headset.objects() == []


@pytest.mark.parametrize("query", ["secret=", "secret", "secret=short", "secret=" + "x" * 257])
def test_a_secret_has_16_to_256_characters(quiz: Quiz, query: str) -> None:
    for connect in (quiz.android, quiz.unity):
        assert connect(f"{UUID}?{query}").refusal == (400, "bad_secret")
    two = f"{UUID}?secret={'a' * 16}&secret={'b' * 16}"
    assert quiz.unity(two).refusal == (400, "bad_secret")


def test_a_phone_without_the_secret_is_closed_when_a_headset_with_one_comes(quiz: Quiz) -> None:
    squatter, listener = quiz.both()
    headset = quiz.unity(f"{UUID}?secret={'s' * 16}")
    assert squatter.closed() == (4001, "replaced by a newer connection")
    assert listener.closed() == (4403, "wrong_secret")
    assert headset.status == 101


def test_equal_secrets_of_two_pairs_have_different_hashes() -> None:
    params = {"secret": ["s" * 16]}
    assert len({read_secret(uuid, params) for uuid in (UUID, OTHER)}) == 2
    assert read_secret(UUID, {}) == ""


def test_no_line_above_debug_has_the_uuid_of_a_pair_or_its_secret(quiz: Quiz) -> None:
    with logged_lines("relayd") as lines:
        quiz.unity(f"{UUID}?secret={'s' * 16}")
        quiz.android(f"{UUID.upper()}?secret={'t' * 16}")
        quiz.android(UUID[:-1] + "?secret=x")
        quiz.world.end()
    text = "\n".join(lines).lower()
    assert "/ws/difficulty/unity/{uuid} opened" in text
    assert "wrong_secret" in text
    assert UUID[:8] not in text.replace(f"the pair {UUID[:8]}…", "")
    assert "ssss" not in text
    assert "tttt" not in text

"""What a request body may cost: its time, its rate, and when it is refused."""

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relayd.web.health import Health
from relayd.web.pace import REFUSED_WINDOW, WINDOW, Pace
from tests.unit.doors import House, make_house
from tests.unit.web_fakes import FakeBackend

POST = b"POST /api/push/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n"
KEY = b"Authorization: Bearer a key\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
WRONG = b"Authorization: Bearer another key\r\n"


@pytest.mark.parametrize("head", [POST, POST + WRONG])
def test_a_wrong_key_is_refused_before_the_body_which_has_to_come_soon(head: bytes) -> None:
    with make_house() as house:
        caller = house.call(head + b"\r\n")
        assert caller.refusal == (401, "unauthorized")
        caller.pass_time(REFUSED_WINDOW - 0.5)
        assert caller.transport.connected
        caller.pass_time(0.5)
        assert not caller.transport.connected


def test_a_connection_goes_on_behind_the_body_of_a_refused_request() -> None:
    with make_house() as house:
        caller = house.call(
            POST + b"\r\n", b"x" * 1000, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
        )
        assert caller.statuses == [401, 200]
        caller.pass_time(30)
        assert caller.transport.connected


def test_a_body_that_is_too_large_is_refused_at_its_head() -> None:
    with make_house() as house:
        head = POST.replace(b"1000", b"1000000") + KEY + b"\r\n"
        assert house.call(head).refusal == (413, "too_large")


def test_a_body_that_comes_byte_after_byte_is_answered_with_408_and_ended() -> None:
    with make_house() as house:
        caller = house.call(POST + KEY + b"\r\n")
        for _ in range(int(WINDOW / 0.5) - 1):
            caller.pass_time(0.5)
            caller.send(b"x")
        assert caller.statuses == []
        caller.pass_time(0.5)
        assert caller.refusal == (408, "timeout")
        caller.pass_time(REFUSED_WINDOW)
        assert not caller.transport.connected


def test_a_body_in_good_pace_has_to_end_in_time_all_the_same() -> None:
    clock = Clock()
    ends: list[float] = []
    pace = Pace(clock.callLater, 30, 1000, lambda: ends.append(clock.seconds()))
    while not ends:
        pace.received(1000)
        clock.advance(1)
    assert ends == [30]


def test_a_body_that_is_complete_has_no_timer() -> None:
    clock = Clock()
    pace = Pace(clock.callLater, 30, 1000, lambda: pytest.fail("it was in time"))
    pace.end()
    assert clock.getDelayedCalls() == []


def test_answers_that_are_not_read_end_their_connection_in_time() -> None:
    with make_house() as house:
        caller = house.call()
        caller.transport.peer_reads = False
        request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        for _ in range(60):
            caller.send(request)
        caller.pass_time(29.5)
        assert caller.transport.connected
        caller.pass_time(0.5)
        assert caller.transport.aborted


def test_requests_that_come_at_once_are_answered_over_several_turns() -> None:
    with make_house() as house:
        caller = house.call()
        caller.transport.deliver(HEALTH * 50)
        assert len(caller.statuses) == 1
        settle(house)
        assert caller.statuses == [200] * 50


def settle(house: House) -> None:
    """Lets turns of the reactor pass until nothing waits for one."""
    clock = house.world.clock
    while any(call.getTime() <= clock.seconds() for call in clock.getDelayedCalls()):
        clock.advance(0)


class SlowBackend(FakeBackend):
    """A backend whose database answers when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Deferred[None]] = []

    async def database_trouble(self) -> None:
        self.asked.append(Deferred())
        await self.asked[-1]


def test_readiness_asks_the_database_once_a_second_whoever_asks() -> None:
    clock, backend = Clock(), SlowBackend()
    health = Health(backend, clock)
    clock.advance(10)

    def ask() -> "Deferred[object]":
        return Deferred.fromCoroutine(health.ready(None))  # type: ignore[arg-type]

    early = [ask() for _ in range(100)]
    assert len(backend.asked) == 1
    assert not any(answer.called for answer in early)
    backend.asked[0].callback(None)
    assert all(answer.called for answer in early)
    clock.advance(0.9)
    assert ask().called
    clock.advance(0.1)
    assert not ask().called
    assert len(backend.asked) == 2

"""One connection: bounds, deadlines, and that no reply ever goes to somebody else."""

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from relayd.errors import RedisUnavailable
from relayd.redis.commands import Script, pack, pack_publish
from relayd.redis.replies import RedisRefused, as_exception, code_of
from tests.redis_scene import Inbox, Log
from tests.unit.fakes import failure, has_fired, success
from tests.unit.redis_fakes import Wires, confirmation, message

PING = pack(("PING",))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> Iterator[Log]:
    with Log() as lines:
        yield lines


def call(wires: Wires, *words: bytes | str | int) -> "Deferred[Any]":
    return wires.connection.call(pack(words))


def test_the_commands_of_one_turn_are_sent_in_one_write(clock: Clock) -> None:
    wires = Wires(clock)
    call(wires, "GET", "a")
    wires.connection.send_unawaited(pack(("SET", "a", 1)))
    wires.connection.send_unawaited(pack_publish(b"a", b"\x00\r\n"))
    assert wires.transport.arrived == b""
    assert wires.commands() == [
        [b"GET", b"a"],
        [b"SET", b"a", b"1"],
        [b"PUBLISH", b"a", b"\x00\r\n"],
    ]
    call(wires, "PING")
    assert wires.commands() == [[b"PING"]]
    assert len(wires.writes) == 2


def test_replies_are_matched_in_order_and_unawaited_ones_are_discarded(clock: Clock) -> None:
    wires = Wires(clock)
    first = call(wires, "GET", "a")
    wires.connection.send_unawaited(pack(("INCR", "a")))
    second, third, fourth = (call(wires, "GET", name) for name in "bcd")
    wires.say(b"$1\r\na\r\n:1\r\n$-1\r\n")
    assert (success(first), success(second)) == (b"a", None)
    wires.say(b"-ERR no\r\n*2\r\n:7\r\n*1\r\n$3\r\n007\r\n")
    refused = failure(third, RedisRefused)
    assert isinstance(refused, RedisRefused)
    assert (refused.code, str(refused)) == ("ERR", "ERR no")
    assert success(fourth) == [7, [b"007"]]


def test_replies_may_come_in_pieces(clock: Clock) -> None:
    wires = Wires(clock)
    answers = [call(wires, "GET", number) for number in range(3)]
    for byte in b"$2\r\n\r\n\r\n:0\r\n*0\r\n":
        wires.say(bytes([byte]))
    assert [success(answer) for answer in answers] == [b"\r\n", 0, []]


def test_a_cancelled_call_keeps_its_place(clock: Clock) -> None:
    wires = Wires(clock)
    first, second = call(wires, "GET", "a"), call(wires, "GET", "b")
    first.cancel()
    failure(first, CancelledError)
    wires.say(b":1\r\n:2\r\n")
    assert success(second) == 2


# -- bounds


def test_the_number_of_unanswered_commands_is_bounded(clock: Clock) -> None:
    wires = Wires(clock, max_pending=2)
    assert wires.connection.send_unawaited(PING)
    assert not wires.connection.send_unawaited(PING)  # the other half is for calls
    first = call(wires, "GET", "a")
    failure(call(wires, "GET", "b"), RedisUnavailable)
    assert len(wires.commands()) == 2
    wires.say(b"+PONG\r\n:1\r\n")
    assert success(first) == 1
    assert wires.connection.send_unawaited(PING)
    assert not wires.connection.send_unawaited(PING)


def test_the_size_of_unanswered_commands_is_bounded(clock: Clock) -> None:
    wires = Wires(clock, max_pending_bytes=2 * len(PING))
    assert wires.connection.send_unawaited(PING)
    assert not wires.connection.send_unawaited(PING)  # the other half is for calls
    first = wires.connection.call(PING)
    failure(wires.connection.call(PING), RedisUnavailable)
    wires.say(b"+PONG\r\n+PONG\r\n")
    assert success(first) == b"PONG"
    second, third = wires.connection.call(PING), wires.connection.call(PING)
    failure(wires.connection.call(PING), RedisUnavailable)
    wires.say(b"-ERR no\r\n-ERR no\r\n")
    failure(second, RedisRefused)
    failure(third, RedisRefused)
    assert wires.connection.send_unawaited(PING)


# -- deadlines


def test_a_silent_connection_is_ended_at_the_deadline(clock: Clock) -> None:
    wires = Wires(clock, deadline=2.0)
    order: list[str] = []
    wires.connection.ended.addCallback(order.append)
    first = call(wires, "GET", "a")
    first.addErrback(lambda failed: order.append(str(failed.value)))
    clock.advance(1.5)
    second = call(wires, "GET", "b")
    second.addErrback(lambda failed: order.append(str(failed.value)))
    clock.advance(0.4)
    assert order == []
    clock.pump([0.1, 0.02])
    assert order == ["no answer in 2.0 s", *["redis: no answer in 2.0 s"] * 2]
    assert wires.transport.aborted
    wires.say(b"$4\r\nlate\r\n")
    failure(call(wires, "GET", "c"), RedisUnavailable)
    assert not wires.connection.send_unawaited(PING)
    clock.advance(10)
    assert clock.getDelayedCalls() == []


def test_on_a_busy_connection_only_the_late_call_fails(clock: Clock) -> None:
    """Its reply is dropped when it comes: the next one gets its own."""
    wires = Wires(clock, deadline=2.0)
    for _ in range(3):
        wires.connection.send_unawaited(PING)
    late = call(wires, "GET", "late")
    clock.advance(1.5)
    next_one = call(wires, "GET", "next")
    clock.pump([0.5])
    wires.say(b"+PONG\r\n")  # what the reactor reads between the timer and the judgement
    clock.advance(0.02)
    assert str(failure(late, RedisUnavailable)) == "redis: no answer in 2.0 s"
    assert not has_fired(next_one)
    wires.say(b"+PONG\r\n+PONG\r\n$4\r\nlate\r\n$4\r\nnext\r\n")
    assert success(next_one) == b"next"
    assert not wires.transport.aborted


def test_a_stalled_reactor_reads_before_it_applies_the_deadline(clock: Clock) -> None:
    wires = Wires(clock, deadline=2.0)
    answer = call(wires, "GET", "a")
    clock.advance(5.0)  # nothing ran meanwhile, now the timer
    wires.say(b":1\r\n")
    clock.advance(0.02)
    assert success(answer) == 1
    assert not wires.transport.aborted


def test_a_connection_that_sends_messages_and_no_replies_is_ended(clock: Clock) -> None:
    inbox = Inbox()
    wires = Wires(clock, {b"a": inbox}, deadline=2.0)
    answer = call(wires, "PING")
    for _ in range(1500):
        clock.advance(0.01)
        wires.say(message(b"a", b"1"))
    failure(answer, RedisUnavailable)
    assert wires.transport.aborted
    assert 1000 < len(inbox.messages) < 1250  # four deadlines after its own


def test_each_call_has_its_own_deadline(clock: Clock) -> None:
    wires = Wires(clock, deadline=2.0)
    first = call(wires, "GET", "a")
    clock.advance(1.9)
    second = call(wires, "GET", "b")
    wires.say(b":1\r\n")
    assert success(first) == 1
    clock.pump([1.9, 0.05])  # the timer of the first runs and finds the second
    assert not has_fired(second)
    clock.pump([0.06, 0.02])
    failure(second, RedisUnavailable)


def test_unawaited_commands_alone_have_no_deadline(clock: Clock) -> None:
    wires = Wires(clock)
    assert wires.connection.send_unawaited(PING)
    clock.advance(0)
    assert clock.getDelayedCalls() == []


# -- the end


def test_a_lost_connection_is_announced_before_its_calls_fail(clock: Clock) -> None:
    wires = Wires(clock)
    order: list[str] = []
    wires.connection.ended.addCallback(order.append)
    call(wires, "GET", "a").addErrback(lambda failed: order.append(str(failed.value)))
    wires.transport.reset()
    assert order[0] == "Connection to the other side was lost in a non-clean fashion"
    assert order[1:] == [f"redis: {order[0]}"]
    assert has_fired(wires.connection.closed)


def test_a_call_made_while_another_fails_is_refused(clock: Clock) -> None:
    wires = Wires(clock)
    again: list[Deferred[Any]] = []
    call(wires, "GET", "a").addErrback(lambda _: again.append(call(wires, "GET", "a")))
    wires.transport.end()
    failure(again[0], RedisUnavailable)
    assert len(again) == 1


@pytest.mark.parametrize("code", ["READONLY", "LOADING", "MASTERDOWN", "NOAUTH"])
def test_the_connection_to_an_unsuitable_server_is_aborted(clock: Clock, code: str) -> None:
    for unawaited in (False, True):
        wires = Wires(clock)
        if unawaited:
            wires.connection.send_unawaited(PING)
        else:
            answer = call(wires, "SET", "a", 1)
        wires.say(b"-%b it says\r\n" % code.encode())
        assert wires.transport.aborted
        assert success(wires.connection.ended) == f"{code} it says"
        if not unawaited:
            assert str(failure(answer, RedisUnavailable)) == f"redis: {code} it says"


@pytest.mark.parametrize("code", ["OOM", "BUSY", "MISCONF", "NOREPLICAS"])
def test_a_server_with_a_temporary_error_is_unavailable_and_stays_connected(
    clock: Clock, code: str
) -> None:
    wires = Wires(clock)
    answer = call(wires, "SET", "a", 1)
    wires.say(b"-%b it says\r\n" % code.encode())
    failure(answer, RedisUnavailable)
    assert not wires.transport.aborted


def test_refusals_of_unawaited_commands_are_logged_once(clock: Clock, log: Log) -> None:
    wires = Wires(clock)
    for _ in range(3):
        wires.connection.send_unawaited(PING)
    wires.say(b"-NOPERM no\r\n:1\r\n-NOPERM no\r\n")
    assert log.lines == ["redis refuses commands: NOPERM no"]


def test_an_unsolicited_error_is_the_reason_of_the_end(clock: Clock) -> None:
    wires = Wires(clock)
    wires.say(b"-ERR max number of clients reached\r\n")
    assert success(wires.connection.ended) == "ERR max number of clients reached"


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n", b"\x15\x03\x03", b"+PONG\r\n"])
def test_a_reply_that_nobody_requested_ends_the_connection(clock: Clock, data: bytes) -> None:
    wires = Wires(clock)
    wires.say(data)
    assert wires.transport.aborted


def test_closing_waits_for_the_last_answers(clock: Clock) -> None:
    wires = Wires(clock)
    wires.connection.send_unawaited(PING)
    under_way = call(wires, "PING")
    closed = wires.connection.close()
    again = wires.connection.close()
    assert len(wires.commands()) == 2
    failure(under_way, RedisUnavailable)
    still = []
    for _ in range(2):
        still.append(wires.transport.disconnecting)
        wires.say(b"+PONG\r\n")
    assert [*still, wires.transport.disconnecting] == [False, False, True]
    clock.advance(0)
    assert has_fired(closed)
    assert has_fired(again)
    assert clock.getDelayedCalls() == []


def test_closing_ends_within_a_second_although_redis_does_not_answer(clock: Clock) -> None:
    wires = Wires(clock)
    wires.connection.send_unawaited(PING)
    closed = wires.connection.close()
    clock.advance(0.9)
    assert not has_fired(closed)
    clock.pump([0.1, 0])
    assert has_fired(closed)


# -- subscriber


def test_messages_may_come_between_the_replies(clock: Clock) -> None:
    inbox = Inbox()
    wires = Wires(clock, {b"a": inbox})
    first, ping = call(wires, "SUBSCRIBE", "b"), call(wires, "PING")
    wires.say(message(b"a", b"1") + confirmation(b"subscribe", b"b") + message(b"a", b"\xff\r\n"))
    wires.say(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n" + message(b"nobody", b"3"))
    assert success(first) == [b"subscribe", b"b", 1]
    assert success(ping) == [b"pong", b""]
    assert inbox.messages == [b"1", b"\xff\r\n"]


def test_a_receiver_that_fails_is_logged(clock: Clock, log: Log) -> None:
    inbox = Inbox()
    wires = Wires(clock, {b"a": lambda payload: 1 / 0, b"b": inbox})  # type: ignore[dict-item]
    wires.say(message(b"a", b"1") + message(b"b", b"2"))
    assert inbox.messages == [b"2"]
    assert log.lines == ["redis: a receiver failed"]


def test_nothing_is_received_after_the_end(clock: Clock) -> None:
    inbox = Inbox()
    wires = Wires(clock, {b"a": inbox, b"b": lambda payload: wires.connection.abort("enough")})
    wires.say(message(b"a", b"1") + message(b"b", b"") + message(b"a", b"2"))
    assert inbox.messages == [b"1"]


# -- commands and replies


def test_a_command_is_an_array_of_strings() -> None:
    assert pack(("SET", b"\xff", "é", -7)) == (
        b"*4\r\n$3\r\nSET\r\n$1\r\n\xff\r\n$2\r\n\xc3\xa9\r\n$2\r\n-7\r\n"
    )
    assert pack_publish(b"a", b"") == pack(("PUBLISH", "a", b""))


def test_a_script_knows_its_hash() -> None:
    assert Script("return 1").sha1 == "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"


@pytest.mark.parametrize(
    ("text", "code", "kind"),
    [
        ("WRONGTYPE Operation against a key", "WRONGTYPE", RedisRefused),
        ("ERR unknown command 'X'", "ERR", RedisRefused),
        ("NOSCRIPT No matching script", "NOSCRIPT", RedisRefused),
        ("in small letters", "ERR", RedisRefused),
        ("", "ERR", RedisRefused),
        ("OOM command not allowed", "OOM", RedisUnavailable),
        (
            "ERR Error running script (call to f_6a): @user_script:1: -READONLY You can't write",
            "READONLY",
            RedisUnavailable,
        ),
        ("READONLY You can't write. script: 6a, on @user_script:1.", "READONLY", RedisUnavailable),
    ],
)
def test_an_error_is_classified_by_its_code(text: str, code: str, kind: type) -> None:
    assert code_of(text) == code
    assert type(as_exception(text, "redis")) is kind

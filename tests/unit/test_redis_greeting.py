"""The first words on a connection, and what Redis may say to them."""

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from relayd.errors import RedisUnavailable
from relayd.redis.greeting import greet, greet_sentinel
from relayd.redis.urls import Credentials
from tests.unit.fakes import failure, success
from tests.unit.redis_fakes import Wires

PONG = b"+PONG\r\n"
MASTER = b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"
INFO = (
    b"$42\r\n# Server\r\nredis_version:7\r\nrun_id:0123ab\r\n\r\n"
    b"$39\r\n# Replication\r\nmaster_replid:4567cdef\r\n\r\n"
)
REFUSED = b"-NOPERM this user has no permissions\r\n"


@pytest.fixture
def wires() -> Wires:
    return Wires(Clock())


def begin(wires: Wires, credentials: Credentials | None = None, db: int = 0) -> "Deferred[None]":
    greeting = greet(wires.connection, credentials or Credentials(), db, "relayd-x")
    return Deferred.fromCoroutine(greeting)


REST = [
    [b"ROLE"],
    [b"INFO", b"server"],
    [b"INFO", b"replication"],
    [b"CLIENT", b"SETNAME", b"relayd-x"],
]


@pytest.mark.parametrize(
    ("credentials", "db", "first"),
    [
        (Credentials(), 0, [[b"PING"]]),
        (Credentials("", "s3cret"), 0, [[b"AUTH", b"s3cret"], [b"PING"]]),
        (
            Credentials("alice", "s3cret"),
            3,
            [[b"AUTH", b"alice", b"s3cret"], [b"PING"], [b"SELECT", b"3"]],
        ),
    ],
)
def test_every_command_of_the_greeting_is_sent_at_once(
    wires: Wires, credentials: Credentials, db: int, first: list[list[bytes]]
) -> None:
    done = begin(wires, credentials, db)
    assert wires.commands() == first + REST
    wires.say(b"+OK\r\n" * len(first) + MASTER + INFO + b"+OK\r\n")
    assert success(done) is None
    assert (wires.connection.process, wires.connection.replication) == ("0123ab", "4567cdef")


def test_an_optional_greeting_command_may_be_refused(wires: Wires) -> None:
    done = begin(wires)
    wires.say(PONG + 3 * REFUSED + b"-ERR unknown command 'CLIENT'\r\n")
    assert success(done) is None
    assert wires.connection.process == "redis"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (PONG + b"*1\r\n$5\r\nslave\r\n" + INFO + b"+OK\r\n", "it is a replica"),
        (PONG + b"*1\r\n$8\r\nsentinel\r\n" + INFO + b"+OK\r\n", "begins with sentinel://"),
        (b"-NOAUTH Authentication required.\r\n", "NOAUTH Authentication required"),
        (b"-LOADING Redis is loading\r\n", "LOADING Redis is loading"),
        (REFUSED + MASTER + INFO + b"+OK\r\n", "NOPERM this user"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(
    wires: Wires, said: bytes, reason: str
) -> None:
    done = begin(wires)
    wires.say(said)
    assert reason in str(failure(done, RedisUnavailable))


def test_a_password_is_not_repeated_when_redis_does(wires: Wires) -> None:
    done = begin(wires, Credentials("", "hunter2"))
    wires.say(b"-ERR unknown command 'AUTH', with args beginning with: 'hunter2' \r\n")
    wires.say(PONG + MASTER + INFO + b"+OK\r\n")
    assert str(failure(done, RedisUnavailable)) == "redis: ERR unknown command 'AUTH'"


def test_a_cancelled_greeting_does_not_succeed(wires: Wires) -> None:
    done = begin(wires)
    done.cancel()
    failure(done, CancelledError)


def test_a_connection_lost_in_the_middle_is_a_failure(wires: Wires) -> None:
    done = begin(wires)
    wires.say(PONG)
    wires.transport.end()
    failure(done, RedisUnavailable)


def test_a_sentinel_is_not_queried_for_its_role(wires: Wires) -> None:
    greeting = greet_sentinel(wires.connection, Credentials("a", "b"), "relayd-x")
    done = Deferred.fromCoroutine(greeting)
    assert wires.commands() == [
        [b"AUTH", b"a", b"b"], [b"PING"], [b"CLIENT", b"SETNAME", b"relayd-x"],
    ]  # fmt: skip
    wires.say(b"+OK\r\n" + PONG + REFUSED)
    assert success(done) is None

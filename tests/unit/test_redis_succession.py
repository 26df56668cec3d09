"""A connection with subscriptions that takes the place of another: each message once, in order."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from relayd.errors import RedisUnavailable
from relayd.redis.connection import SubscriberConnection
from relayd.redis.succession import Succession
from tests.unit.fakes import failure, has_fired
from tests.unit.redis_fakes import Wires, message

MARK = b"relayd:login:1"


class Scene:
    """Two connections to one Redis, both of which have subscribed `a` and the mark."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        clock, receivers = Clock(), {b"a": self.got.append}
        self.before, self.after = Wires(clock, receivers), Wires(clock, receivers)
        before, after = self.before.connection, self.after.connection
        assert isinstance(before, SubscriberConnection)
        assert isinstance(after, SubscriberConnection)
        self.succession = Succession(before, after, receivers, MARK)


@given(st.integers(0, 9), st.integers(0, 9), st.lists(st.booleans(), max_size=20))
def test_each_message_comes_once_and_in_order_however_late_either_connection_is(
    place: int, start: int, turns: list[bool]
) -> None:
    scene = Scene()
    stream = [message(b"a", b"%d" % number) for number in range(9)]
    stream.insert(place, message(MARK, b""))
    # the new connection has subscribed before the mark was published
    waiting = (list(stream), stream[min(start, place) :])
    for turn in [*turns, *[False] * 10, *[True] * 10]:
        if waiting[turn]:
            (scene.after if turn else scene.before).say(waiting[turn].pop(0))
    assert scene.got == [b"%d" % number for number in range(9)]
    assert has_fired(scene.succession.done)


def test_a_successor_that_is_lost_before_the_mark_leaves_the_connection_in_use() -> None:
    scene = Scene()
    scene.after.transport.reset()
    scene.after.clock.advance(0)
    failure(scene.succession.done, RedisUnavailable)
    scene.succession.abandon()
    scene.before.say(message(MARK, b"") + message(b"a", b"on"))
    assert scene.got == [b"on"]


def test_a_successor_that_is_lost_behind_the_mark_ends_the_connection_that_has_stopped() -> None:
    """It is made anew then, as after any loss, and what came meanwhile is read."""
    scene = Scene()
    scene.before.say(message(MARK, b"") + message(b"a", b"for the other one"))
    scene.after.transport.reset()
    scene.after.clock.advance(0)
    failure(scene.succession.done, RedisUnavailable)
    assert not has_fired(scene.before.connection.ended)
    scene.succession.abandon()
    assert has_fired(scene.before.connection.ended)
    assert scene.got == []

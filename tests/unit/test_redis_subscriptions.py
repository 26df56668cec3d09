"""The last wish for a channel holds, in whatever order wishes, confirmations and outages come."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock

from relayd.errors import RedisUnavailable
from relayd.redis.connection import SubscriberConnection
from relayd.redis.replies import RedisRefused
from relayd.redis.subscriptions import Subscriptions
from tests.redis_scene import Inbox
from tests.unit.fakes import failure, has_fired, success
from tests.unit.redis_fakes import Wires, confirmation, message


class Scene:
    """Subscriptions over a connection to a Redis that answers when it is told to."""

    def __init__(self, **settings: float) -> None:
        self.clock = Clock()
        self.settings = settings
        self.subscriptions = Subscriptions("redis")
        self.subscribed: set[bytes] = set()
        self.unanswered: list[list[bytes]] = []
        self.connect()
        self.answer()

    def connect(self) -> "Deferred[None]":
        """A new connection, on which what is wanted is asked for."""
        self.wires = Wires(self.clock, self.subscriptions.receivers, **self.settings)
        assert isinstance(self.wires.connection, SubscriberConnection)
        self.subscribed.clear()
        self.unanswered.clear()
        self.wires.connection.ended.addCallback(lambda _: self.subscriptions.lost())
        return Deferred.fromCoroutine(self.subscriptions.restore(self.wires.connection))

    def commands(self) -> list[list[bytes]]:
        """What came since the last time; it waits for an answer."""
        new = self.wires.commands()
        self.unanswered += new
        return new

    def answer(self, count: int = 1_000_000) -> None:
        """Answers so many commands, the oldest first."""
        self.commands()
        for _ in range(min(count, len(self.unanswered))):
            command, channel = self.unanswered.pop(0)
            change = self.subscribed.add if command == b"SUBSCRIBE" else self.subscribed.discard
            change(channel)
            self.wires.say(confirmation(command.lower(), channel, len(self.subscribed)))

    def lose(self) -> None:
        self.wires.transport.reset()
        self.clock.advance(0)

    def publish(self, channel: bytes, payload: bytes) -> None:
        if channel in self.subscribed:
            self.wires.say(message(channel, payload))


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_subscription_fires_when_redis_has_confirmed_it_and_receives_from_then_on(
    scene: Scene,
) -> None:
    inbox = Inbox()
    done = scene.subscriptions.subscribe(b"a", inbox)
    scene.wires.say(message(b"a", b"early"))
    assert not has_fired(done)
    scene.answer()
    assert success(done) is None
    scene.publish(b"a", b"1")
    assert inbox.messages == [b"1"]
    scene.subscriptions.unsubscribe(b"a")
    scene.publish(b"a", b"2")
    scene.answer()
    assert scene.subscribed == set()
    assert inbox.messages == [b"1"]
    scene.subscriptions.unsubscribe(b"a")
    assert scene.commands() == []


def test_a_new_receiver_takes_over_without_a_gap(scene: Scene) -> None:
    old, new = Inbox(), Inbox()
    scene.subscriptions.subscribe(b"a", old)
    scene.answer()
    done = scene.subscriptions.subscribe(b"a", new)
    scene.publish(b"a", b"1")
    scene.answer()
    assert success(done) is None
    scene.publish(b"a", b"2")
    assert (old.messages, new.messages) == ([b"1"], [b"2"])


def test_an_overtaken_subscription_is_cancelled(scene: Scene) -> None:
    first = scene.subscriptions.subscribe(b"a", Inbox())
    scene.subscriptions.unsubscribe(b"a")
    failure(first, CancelledError)
    second = scene.subscriptions.subscribe(b"a", Inbox())
    inbox = Inbox()
    third = scene.subscriptions.subscribe(b"a", inbox)
    failure(second, CancelledError)
    assert scene.commands() == [
        [b"SUBSCRIBE", b"a"], [b"UNSUBSCRIBE", b"a"], [b"SUBSCRIBE", b"a"], [b"SUBSCRIBE", b"a"],
    ]  # fmt: skip
    scene.answer(3)
    assert not has_fired(third)
    scene.answer()
    assert success(third) is None
    scene.publish(b"a", b"1")
    assert inbox.messages == [b"1"]


def test_a_registration_that_redis_refuses_does_not_count(scene: Scene) -> None:
    inbox = Inbox()
    for before in (False, True):  # also if another receiver was there before
        if before:
            scene.subscriptions.subscribe(b"a", inbox)
            scene.answer()
        done = scene.subscriptions.subscribe(b"a", inbox)
        assert scene.wires.commands() == [[b"SUBSCRIBE", b"a"]]
        scene.wires.say(b"-NOPERM no\r\n")
        failure(done, RedisRefused)
        assert scene.subscriptions.receivers == {}
        scene.answer()
        assert scene.subscribed == set()
        scene.wires.say(message(b"a", b"1"))
        assert inbox.messages == []


def test_a_registration_beyond_the_limit_is_refused_and_sends_nothing() -> None:
    scene = Scene(max_pending=2)
    subscribe = scene.subscriptions.subscribe
    kept = [subscribe(b"a", Inbox()), subscribe(b"b", Inbox())]
    for _ in range(5):
        failure(subscribe(b"c", Inbox()), RedisUnavailable)
    assert len(scene.commands()) == 2
    failure(subscribe(b"a", Inbox()), RedisUnavailable)  # and takes the first wish with it
    failure(kept[0], CancelledError)
    assert scene.commands() == [[b"UNSUBSCRIBE", b"a"]]
    scene.answer()
    assert success(kept[1]) is None
    assert scene.subscribed == {b"b"}


def test_no_subscription_is_accepted_while_redis_is_unavailable(scene: Scene) -> None:
    scene.subscriptions.subscribe(b"a", Inbox())
    scene.subscriptions.subscribe(b"b", Inbox())
    scene.answer()
    waiting = scene.subscriptions.subscribe(b"c", Inbox())
    scene.lose()
    failure(waiting, RedisUnavailable)
    failure(scene.subscriptions.subscribe(b"d", Inbox()), RedisUnavailable)
    failure(scene.subscriptions.subscribe(b"b", Inbox()), RedisUnavailable)
    restored = scene.connect()
    failure(scene.subscriptions.subscribe(b"e", Inbox()), RedisUnavailable)  # not yet
    assert scene.commands() == [[b"SUBSCRIBE", b"a"]]
    assert not has_fired(restored)
    scene.answer()
    assert success(restored) is None
    assert scene.subscribed == {b"a"}


def test_a_channel_that_is_subscribed_later_gets_messages_when_redis_is_back(scene: Scene) -> None:
    scene.lose()
    inbox, second = Inbox(), Inbox()
    scene.subscriptions.subscribe_later(b"a", inbox)
    restored = scene.connect()
    scene.subscriptions.subscribe_later(b"b", second)
    scene.answer()
    assert has_fired(restored)
    for channel in (b"a", b"b"):
        scene.publish(channel, b"1")
    assert (inbox.messages, second.messages) == ([b"1"], [b"1"])


def test_a_subscription_cancelled_while_it_is_restored_is_removed(scene: Scene) -> None:
    inbox = Inbox()
    for channel in (b"a", b"b"):
        scene.subscriptions.subscribe(channel, inbox)
    scene.answer()
    scene.lose()
    restored = scene.connect()
    scene.answer(1)
    scene.subscriptions.unsubscribe(b"a")
    scene.subscriptions.unsubscribe(b"b")
    scene.answer()
    assert success(restored) is None
    assert scene.subscribed == set()
    assert scene.subscriptions.receivers == {}


def test_restoring_goes_in_batches(scene: Scene) -> None:
    channels = [b"%d" % number for number in range(2500)]
    for channel in channels:
        scene.subscriptions.subscribe(channel, Inbox())
    scene.answer()
    scene.lose()
    restored = scene.connect()
    assert len(scene.commands()) == 1000
    scene.subscriptions.unsubscribe(b"2400")
    scene.answer()
    assert len(scene.commands()) == 1000
    scene.answer()
    assert not has_fired(restored)
    scene.answer()
    assert success(restored) is None
    assert scene.subscribed == {*channels} - {b"2400"}


def test_a_channel_that_cannot_be_restored_fails_all(scene: Scene) -> None:
    scene.subscriptions.subscribe(b"a", Inbox())
    scene.answer()
    scene.lose()
    restored = scene.connect()
    scene.wires.say(b"-NOPERM no\r\n")
    failure(restored, RedisRefused)
    failure(scene.subscriptions.subscribe(b"b", Inbox()), RedisUnavailable)


def test_cancelling_a_subscription_unsubscribes_it(scene: Scene) -> None:
    done = scene.subscriptions.subscribe(b"a", Inbox())
    done.cancel()
    failure(done, CancelledError)
    assert scene.commands() == [[b"SUBSCRIBE", b"a"], [b"UNSUBSCRIBE", b"a"]]
    old = scene.subscriptions.subscribe(b"b", Inbox())
    scene.subscriptions.subscribe(b"b", Inbox())
    old.cancel()  # overtaken long ago: the newer wish stays
    failure(old, CancelledError)
    scene.answer()
    assert scene.subscribed == {b"b"}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["subscribe", "later", "unsubscribe", "cancel", "answer", "lose", "connect"]
        ),
        st.sampled_from([b"a", b"b", b"c"]),
        st.integers(1, 4),
    ),
    max_size=60,
)


@given(STEPS)
def test_the_last_subscribe_or_unsubscribe_wins_in_any_order_of_events(
    steps: list[tuple[str, bytes, int]],
) -> None:
    """The model: a channel's last wish counts unless it failed, and a lost connection forgets
    those that were not confirmed."""
    scene = Scene()
    up = True
    wishes: dict[bytes, tuple[Inbox, Deferred[None]]] = {}
    outcomes: list[tuple[Deferred[None], list[str]]] = []

    def note(into: list[str]) -> tuple[Callable[[object], None], Callable[[object], None]]:
        return lambda _: into.append("done"), lambda _: into.append("failed")

    for kind, channel, count in steps:
        if kind == "subscribe":
            inbox = Inbox()
            done = scene.subscriptions.subscribe(channel, inbox)
            outcome: list[str] = []
            done.addCallbacks(*note(outcome))
            outcomes.append((done, outcome))
            wishes[channel] = (inbox, done)
            if outcome == ["failed"]:
                del wishes[channel]
        elif kind == "later":
            inbox = Inbox()
            scene.subscriptions.subscribe_later(channel, inbox)
            wishes[channel] = (inbox, succeed(None))
        elif kind == "unsubscribe":
            scene.subscriptions.unsubscribe(channel)
            wishes.pop(channel, None)
        elif kind == "cancel" and channel in wishes:
            done = wishes[channel][1]
            if not done.called:
                done.cancel()
                del wishes[channel]
        elif kind == "answer" and up:
            scene.answer(count)
        elif kind == "lose" and up:
            up = False
            wishes = {name: wish for name, wish in wishes.items() if wish[1].called}
            scene.lose()
        elif kind == "connect" and not up:
            up = True
            scene.connect()
    if not up:
        scene.connect()
    scene.answer()
    assert scene.subscribed == set(wishes)
    for channel in (b"a", b"b", b"c"):
        scene.wires.say(message(channel, b"last"))  # even if Redis should still send it
    for channel, (inbox, _) in wishes.items():
        assert inbox.messages[-1:] == [b"last"], channel
    assert set(scene.subscriptions.receivers) == set(wishes)
    assert all(len(outcome) == 1 for _, outcome in outcomes)

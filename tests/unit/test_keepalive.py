"""The sweep that finds peers that are gone."""

from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock

from relayd.config import Config
from relayd.config import Keepalive as Settings
from relayd.config.current import Current
from relayd.connection.keepalive import Keepalive
from tests.unit.fakes import logged_failures

INTERVAL, TIMEOUT, STEP = 20.0, 10.0, 1.0


class FakePeer:
    """A peer that notes when it was pinged and closed."""

    def __init__(self, clock: Clock, *, breaks: bool = False) -> None:
        self.alive = False
        self.silent = 0.0
        self.pings: list[float] = []
        self.closes: list[float] = []
        self._clock = clock
        self._breaks = breaks

    def ping(self) -> None:
        self.pings.append(self._clock.seconds())
        if self._breaks:
            raise RuntimeError("the ping went wrong")

    def close_silent(self) -> None:
        self.closes.append(self._clock.seconds())
        if self._breaks:
            raise RuntimeError("the close went wrong")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_current(interval: float, timeout: float) -> Current:
    """Holds a configuration with these times."""
    settings = Settings(ping_interval=interval, pong_timeout=timeout)
    return Current(Config(keepalive=settings))


@pytest.fixture
def current() -> Current:
    return make_current(INTERVAL, TIMEOUT)


@pytest.fixture
def keepalive(clock: Clock, current: Current) -> Iterator[Keepalive]:
    keepalive = Keepalive(clock, current)
    keepalive.start()
    yield keepalive
    keepalive.stop()
    assert clock.getDelayedCalls() == []


def pass_time(clock: Clock, seconds: float, step: float = 0.5) -> None:
    """Lets time pass in steps, of half a second by default."""
    clock.pump([step] * round(seconds / step))


def test_a_silent_peer_is_pinged_once_and_then_closed_once(
    clock: Clock, keepalive: Keepalive
) -> None:
    peer = FakePeer(clock)
    keepalive.add(peer)
    pass_time(clock, 100)
    assert peer.pings == [pytest.approx(INTERVAL, abs=STEP)]
    assert peer.closes == [pytest.approx(INTERVAL + TIMEOUT, abs=STEP)]


def test_an_active_peer_is_neither_pinged_nor_closed(clock: Clock, keepalive: Keepalive) -> None:
    peer = FakePeer(clock)
    keepalive.add(peer)
    for _ in range(10):
        pass_time(clock, INTERVAL - 2 * STEP)
        peer.alive = True
    assert (peer.pings, peer.closes) == ([], [])


def test_a_peer_that_answers_each_ping_is_pinged_again_and_never_closed(
    clock: Clock, keepalive: Keepalive
) -> None:
    peer = FakePeer(clock)
    keepalive.add(peer)
    for _ in range(200):
        pass_time(clock, 0.5)
        if peer.pings and clock.seconds() - peer.pings[-1] == TIMEOUT - 2 * STEP:
            peer.alive = True
    assert len(peer.pings) == pytest.approx(100 / (INTERVAL + TIMEOUT - 2 * STEP), abs=1)
    assert peer.closes == []


def test_silence_is_counted_from_the_connect_of_the_peer(
    clock: Clock, keepalive: Keepalive
) -> None:
    early, late = FakePeer(clock), FakePeer(clock)
    keepalive.add(early)
    pass_time(clock, 15)
    keepalive.add(late)
    pass_time(clock, 100)
    assert early.closes == [pytest.approx(INTERVAL + TIMEOUT, abs=STEP)]
    assert late.closes == [pytest.approx(15 + INTERVAL + TIMEOUT, abs=STEP)]


def test_a_peer_that_is_no_longer_watched_is_left_alone(clock: Clock, keepalive: Keepalive) -> None:
    peer = FakePeer(clock)
    keepalive.add(peer)
    keepalive.remove(peer)
    keepalive.remove(peer)
    pass_time(clock, 100)
    assert (peer.pings, peer.closes) == ([], [])


def test_an_exception_in_one_peer_is_logged_and_does_not_stop_the_sweep(
    clock: Clock, keepalive: Keepalive
) -> None:
    peers = [FakePeer(clock, breaks=breaks) for breaks in (False, True, False, True, False)]
    for peer in peers:
        keepalive.add(peer)
    with logged_failures() as failures:
        pass_time(clock, 100)
    assert [len(peer.pings) for peer in peers] == [1] * 5
    assert [len(peer.closes) for peer in peers] == [1] * 5
    assert len(failures) == 4


def test_a_peer_that_leaves_during_a_sweep_does_not_affect_remaining_peers(
    clock: Clock, keepalive: Keepalive
) -> None:
    class Leaver(FakePeer):
        def ping(self) -> None:
            super().ping()
            for peer in peers:
                keepalive.remove(peer)

    peers: list[FakePeer] = [Leaver(clock), Leaver(clock)]
    stays = FakePeer(clock)
    for peer in [*peers, stays]:
        keepalive.add(peer)
    pass_time(clock, 100)
    assert [len(peer.closes) for peer in [*peers, stays]] == [0, 0, 1]


def test_the_shorter_of_the_two_times_sets_the_pace(clock: Clock) -> None:
    """A pong time much shorter than the interval is kept all the same."""
    keepalive = Keepalive(clock, make_current(100, 1))
    keepalive.start()
    peer = FakePeer(clock)
    keepalive.add(peer)
    clock.pump([0.05] * 2200)
    assert peer.pings == [pytest.approx(100, abs=0.2)]
    assert peer.closes == [pytest.approx(101, abs=0.3)]
    keepalive.stop()


def test_stopping_a_sweep_that_never_started_does_nothing(clock: Clock) -> None:
    Keepalive(clock, make_current(1, 1)).stop()


def test_reloaded_intervals_apply_at_once_and_include_past_silence(
    clock: Clock, keepalive: Keepalive, current: Current
) -> None:
    peer = FakePeer(clock)
    keepalive.add(peer)
    pass_time(clock, INTERVAL / 4)
    current.replace(make_current(INTERVAL / 2, TIMEOUT / 2).config)
    pass_time(clock, 100)
    assert peer.pings == [pytest.approx(INTERVAL / 2, abs=STEP)]
    assert peer.closes == [pytest.approx(INTERVAL / 2 + TIMEOUT / 2, abs=STEP)]


def test_a_reload_that_leaves_the_times_alone_does_not_delay_the_sweep(
    clock: Clock, keepalive: Keepalive, current: Current
) -> None:
    peer = FakePeer(clock)
    keepalive.add(peer)
    for number in range(100):
        settings = Settings(
            ping_interval=INTERVAL, pong_timeout=TIMEOUT, close_timeout=1.0 + number
        )
        current.replace(Config(keepalive=settings))
        pass_time(clock, STEP / 2)
    assert peer.closes == [pytest.approx(INTERVAL + TIMEOUT, abs=STEP)]


@pytest.mark.parametrize("timeout", [TIMEOUT / 10, TIMEOUT, TIMEOUT * 10])
def test_a_lowered_interval_closes_nobody_without_a_ping_and_the_time_to_answer_it(
    clock: Clock, keepalive: Keepalive, current: Current, timeout: float
) -> None:
    peer = FakePeer(clock)
    keepalive.add(peer)
    pass_time(clock, INTERVAL * 0.75)
    current.replace(make_current(INTERVAL / 10, timeout).config)
    pass_time(clock, timeout * 3, STEP / 10)
    assert peer.pings == [pytest.approx(INTERVAL * 0.75, abs=STEP)]
    assert peer.closes == [pytest.approx(peer.pings[0] + timeout, abs=STEP)]


@pytest.mark.parametrize("factor", [0.1, 10])
def test_a_pinged_peer_has_the_pong_timeout_of_the_moment_of_the_ping(
    clock: Clock, keepalive: Keepalive, current: Current, factor: float
) -> None:
    peer = FakePeer(clock)
    keepalive.add(peer)
    pass_time(clock, INTERVAL + STEP)
    assert len(peer.pings) == 1
    current.replace(make_current(INTERVAL * factor, TIMEOUT * factor).config)
    pass_time(clock, TIMEOUT * 2, STEP / 10)
    assert peer.pings == [pytest.approx(INTERVAL, abs=STEP)]
    assert peer.closes == [pytest.approx(INTERVAL + TIMEOUT, abs=2 * STEP)]


def test_a_peer_that_has_left_is_forgotten_also_during_a_sweep(
    clock: Clock, keepalive: Keepalive
) -> None:
    class Leaver(FakePeer):
        def ping(self) -> None:
            for peer in peers:
                keepalive.remove(peer)

    peers = [Leaver(clock) for _ in range(3)]
    for peer in peers:
        keepalive.add(peer)
    pass_time(clock, 100)
    assert not keepalive._pinged

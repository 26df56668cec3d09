"""The timers of the reactor go by the monotonic clock."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.base import ReactorBase
from twisted.internet.epollreactor import EPollReactor
from twisted.logger import capturedLogs, formatEvent

from relayd.private.monotonic import use_monotonic_clock


@pytest.fixture
def reactor() -> Iterator[EPollReactor]:
    """A reactor of Twisted that never runs."""
    found = EPollReactor()
    yield found
    for reader in found.removeAll():
        reader.connectionLost(None)


def test_calls_are_set_by_the_monotonic_clock(reactor: EPollReactor) -> None:
    use_monotonic_clock(reactor)
    call = reactor.callLater(5, lambda: None)
    assert reactor.seconds() == pytest.approx(time.monotonic(), abs=1)
    assert call.getTime() == pytest.approx(time.monotonic() + 5, abs=1)
    call.reset(9)
    assert call.getTime() == pytest.approx(time.monotonic() + 9, abs=1)
    assert reactor.timeout() == pytest.approx(9, abs=1)


def test_calls_that_are_set_already_keep_the_time_that_is_left(reactor: EPollReactor) -> None:
    made: list[int] = []
    calls = [reactor.callLater(delay, made.append, delay) for delay in (0, 5, 60)]
    reactor.runUntilCurrent()
    use_monotonic_clock(reactor)
    assert [call.getTime() for call in calls[1:]] == pytest.approx(
        [time.monotonic() + 5, time.monotonic() + 60], abs=1
    )
    calls[2].reset(1)
    assert reactor.timeout() == pytest.approx(1, abs=1)
    calls[1].reset(0)
    reactor.runUntilCurrent()
    assert made == [0, 5]


def test_a_reactor_whose_calls_have_another_clock_keeps_it_and_a_warning_is_logged() -> None:
    class Stubborn(EPollReactor):
        def callLater(self, delay: float, *args: Any, **kw: Any) -> Any:  # noqa: N802
            call: Any = super().callLater(delay, *args, **kw)
            call.time = ReactorBase.seconds() + delay
            return call

    reactor = Stubborn()
    with capturedLogs() as events:
        use_monotonic_clock(reactor)
    assert reactor.seconds() == pytest.approx(time.time(), abs=1)
    assert not reactor.getDelayedCalls()
    [event] = events
    assert "wall clock" in formatEvent(event)
    for reader in reactor.removeAll():
        reader.connectionLost(None)

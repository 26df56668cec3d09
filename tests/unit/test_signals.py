"""The signals that end a process."""

import signal
from collections.abc import Callable, Iterator

import pytest

from relayd import signals


class Reactor:
    """One that runs, and counts how often it was stopped."""

    def __init__(self) -> None:
        self.stops = 0

    def callWhenRunning(self, call: Callable[..., object], *args: object) -> None:  # noqa: N802
        call(*args)

    def stop(self, *args: object) -> None:
        self.stops += 1


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Puts the handlers of the test runner back."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_the_second_of_two_signals_does_not_stop_the_reactor_again() -> None:
    reactor = Reactor()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, reactor.stop)
    signals.end_once(reactor)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.raise_signal(number)
    assert reactor.stops == 1


def test_a_signal_that_was_ignored_at_the_start_stays_ignored_and_the_other_one_ends_relayd() -> (
    None
):
    """As a shell without job control starts what runs beside it."""
    reactor = Reactor()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, reactor.stop)
    signals.end_once(reactor)
    signal.raise_signal(signal.SIGINT)
    assert reactor.stops == 0
    signal.raise_signal(signal.SIGTERM)
    assert reactor.stops == 1

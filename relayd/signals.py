"""Signals: SIGTERM and SIGINT end the process, SIGHUP has it read its configuration again.

Sits under `assembly` and `workers`, which put them in place. Twisted's own handlers do the ending.
"""

import os
import signal
from collections.abc import Callable
from typing import Any


def end_once(reactor: Any) -> Callable[[], bool]:
    """Returns what ends the process; SIGTERM and SIGINT do so, too.

    Only the first call has an effect and returns True: to the reactor a second one is an error,
    and it is common that a service manager and a parent both send a signal.
    """
    asked = False

    def first() -> bool:
        nonlocal asked
        before, asked = asked, True
        return not before

    def end() -> bool:
        now = first()
        if now:
            reactor.callWhenRunning(reactor.stop)
        return now

    def guard(number: int) -> None:
        theirs: Any = signal.getsignal(number)
        signal.signal(number, lambda number, frame: first() and theirs(number, frame))

    # the reactor has its handlers in place then
    reactor.callWhenRunning(guard, signal.SIGTERM)
    reactor.callWhenRunning(guard, signal.SIGINT)
    return end


def reload_at_hangup(reactor: Any, reload: Callable[[], object], end: Callable[[], object]) -> None:
    """Has SIGHUP reload, or end the process if it comes from a terminal that was closed.

    Args:
        reactor: the reactor.
        reload: called in the reactor's thread.
        end: called there if the process has had a terminal and has lost it; not under nohup.
    """
    to_survive = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    had_one = False

    def look() -> None:
        nonlocal had_one
        # a daemon has left its terminal by then
        had_one = has_terminal()

    def hung_up() -> None:
        closed = had_one and not to_survive and not has_terminal()
        (end if closed else reload)()

    signal.signal(signal.SIGHUP, lambda number, frame: reactor.callFromThread(hung_up))
    reactor.callWhenRunning(look)


def ignore_hangup() -> None:
    """Leaves SIGHUP to the parent, for a process that it may reach as one of a group."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def pass_on_rotation(send: Callable[[int], object]) -> None:
    """Has the workers begin new log files when twistd does, at SIGUSR1.

    Args:
        send: sends a signal to them, by its number.
    """
    rotate = signal.getsignal(signal.SIGUSR1)
    if not callable(rotate):
        return

    def rotate_all(number: int, frame: Any) -> None:
        rotate(number, frame)
        send(number)

    signal.signal(signal.SIGUSR1, rotate_all)


def has_terminal() -> bool:
    """Whether the process has a controlling terminal (tty(4))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True

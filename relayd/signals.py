"""Signals: SIGTERM and SIGINT end the process, SIGHUP has it read its configuration again.

Sits under `assembly` and `workers`, which install the handlers. Twisted's own handlers stop the
reactor.
"""

import os
import signal
from collections.abc import Callable
from typing import Any


def end_once(reactor: Any) -> Callable[[], bool]:
    """Returns a function that ends the process; SIGTERM and SIGINT count as calls of it.

    Only the first call has an effect and returns True: the reactor treats a second stop as an
    error, and a service manager and a parent often both send a signal.
    """
    requested = False

    def first() -> bool:
        nonlocal requested
        before, requested = requested, True
        return not before

    def end() -> bool:
        now = first()
        if now:
            reactor.callWhenRunning(reactor.stop)
        return now

    def guard(number: int) -> None:
        theirs: Any = signal.getsignal(number)
        if not callable(theirs):
            return  # a shell without job control starts what runs beside it with SIGINT ignored
        signal.signal(number, lambda number, frame: first() and theirs(number, frame))

    # the reactor has installed its handlers by then
    reactor.callWhenRunning(guard, signal.SIGTERM)
    reactor.callWhenRunning(guard, signal.SIGINT)
    return end


def reload_at_hangup(reactor: Any, reload: Callable[[], object], end: Callable[[], object]) -> None:
    """Makes SIGHUP reload, or end the process if its terminal was closed.

    Args:
        reactor: the reactor.
        reload: called in the reactor's thread.
        end: called in the reactor's thread if the process had a terminal and has lost it; never
            under nohup.
    """
    under_nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    had_terminal = False

    def note_terminal() -> None:
        nonlocal had_terminal
        # a daemon has left its terminal by then
        had_terminal = has_terminal()

    def hung_up() -> None:
        closed = had_terminal and not under_nohup and not has_terminal()
        (end if closed else reload)()

    signal.signal(signal.SIGHUP, lambda number, frame: reactor.callFromThread(hung_up))
    reactor.callWhenRunning(note_terminal)


def ignore_hangup() -> None:
    """Ignores SIGHUP in a worker: a signal to the process group is for the parent alone."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def forward_rotation(send: Callable[[int], object]) -> None:
    """Makes the workers rotate their log files when twistd does, at SIGUSR1.

    Args:
        send: sends a signal to the workers, by its number.
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

"""Reading many sockets through one epoll instance: real sockets, turn by turn."""

import contextlib
import functools
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor, tcp
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from relayd import private
from relayd.native.batching import Batch, Batching
from relayd.native.fanout import Deliveries, Group, Publisher
from relayd.native.framing import (
    binary_frame,
    missing_of_head,
    payload_of,
    read_frames,
    text_frame,
)
from relayd.native.sending import Recipient, Sender
from relayd.sockets.poller import Inlet, Poller
from relayd.tally import Buckets
from tests.daemon import Daemon
from tests.integration.conftest import Connect
from tests.integration.polling import Line, Other, turn_until


class Reactor(Clock):
    """Notes what it is to read, and to call."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[object] = []

    def addReader(self, reader: object) -> None:  # noqa: N802
        self.readers.append(reader)

    def removeReader(self, reader: object) -> None:  # noqa: N802
        self.readers.remove(reader)


class Turning(Poller):
    """A poller that can be given a turn."""

    def turn(self) -> None:
        """What is ready now is read, as far as one turn goes."""
        if isinstance(self._reactor, EPollReactor):
            self._reactor.doIteration(0)
        else:
            self.doRead()


@pytest.fixture(params=["epoll", "another", "another version"])
def poller(
    request: pytest.FixtureRequest, own: EPollReactor, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Turning]:
    """On a reactor of epoll, and on two of which it is one reader: no epoll, or a name is gone."""
    other = Reactor()
    poller = Turning(other if request.param == "another" else own)
    with capturedLogs() as events, monkeypatch.context() as without:
        if request.param == "another version":
            without.setattr(private.REACTOR, "names", (*private.REACTOR.names, "_gone"))
            without.setattr(private.REACTOR, "warned", False)
        poller.start()
    assert len(events) == (request.param == "another version")
    assert (poller in other.readers) == (request.param == "another")
    assert (poller in own.getReaders()) == (request.param == "another version")
    yield poller
    poller.stop()
    assert other.readers == []


def test_every_socket_is_read_to_its_end(poller: Turning) -> None:
    lines = [Line(poller) for _ in range(5)]
    for number, line in enumerate(lines):
        line.theirs.sendall(b"%d" % number)
    poller.turn()
    assert [line.got for line in lines] == [b"0", b"1", b"2", b"3", b"4"]
    lines[1].theirs.close()
    lines[2].theirs.sendall(b"x")
    poller.turn()
    assert [line.got for line in lines] == [b"0", b"1", b"2x", b"3", b"4"]
    assert [line.end is not None for line in lines] == [False, True, False, False, False]
    assert lines[1].end is not None
    assert lines[1].end.check(ConnectionDone)


def test_a_reset_is_a_lost_connection(poller: Turning) -> None:
    line = Line(poller)
    # a unix socket that is closed with unread data resets the other side
    line.ours.sendall(b"unread")
    line.theirs.close()
    poller.turn()
    assert line.end is not None
    assert line.end.check(ConnectionLost)


def test_a_socket_that_is_paused_is_not_read_until_it_is_resumed(poller: Turning) -> None:
    line = Line(poller)
    line.theirs.sendall(b"later")
    poller.remove(line.inlet)
    poller.remove(line.inlet)
    poller.turn()
    assert line.got == b""
    poller.add(line.inlet)
    poller.add(line.inlet)
    poller.turn()
    assert line.got == b"later"


def test_a_connection_closed_during_a_turn_is_not_read_in_it(poller: Turning) -> None:
    """Both were readable in the same turn: an abort, a phone that takes another's place."""
    lines = [Line(poller), Line(poller)]
    for line, other in zip(lines, reversed(lines), strict=True):
        line.then = lambda other=other: other.connectionLost(Failure(ConnectionDone()))
        line.theirs.sendall(b"I was here")
    poller.turn()
    assert sorted(line.got for line in lines) == [b"", b"I was here"]


@pytest.mark.parametrize("error", [RuntimeError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_exception_while_reading_ends_its_own_connection_only(
    poller: Turning, error: type[BaseException]
) -> None:
    """The type of the exception does not matter."""
    lines = [Line(poller), Line(poller)]

    def bug() -> None:
        raise error("a bug")

    lines[0].then = bug
    for line in lines:
        line.theirs.sendall(b"x")
    poller.turn()
    while not lines[1].got:  # the log of the exception may have used up the turn
        poller.turn()
    assert lines[0].end is not None
    assert lines[0].end.check(error)
    assert lines[1].end is None
    assert lines[1].got == b"x"


def test_a_socket_closed_without_the_poller_affects_no_other_socket(poller: Turning) -> None:
    lines = [Line(poller), Line(poller)]

    def bug() -> None:
        lines[0].ours.close()
        raise RuntimeError("a bug")

    lines[0].then = bug
    for line in lines:
        line.theirs.sendall(b"x")
    poller.turn()
    while not lines[1].got:
        poller.turn()
    assert lines[1].got == b"x"


@pytest.mark.parametrize("waits", ["a reader", "a call"])
def test_always_readable_sockets_leave_the_reactor_its_turn(own: EPollReactor, waits: str) -> None:
    poller, other = Poller(own), Other()
    poller.start()
    lines = [Line(poller) for _ in range(40)]

    def again(line: Line) -> None:
        time.sleep(0.001)
        if len(line.got) < 10_000:
            line.theirs.sendall(b"x")

    for line in lines:
        line.then = functools.partial(again, line)
        line.theirs.sendall(b"x")
    if waits == "a reader":
        own.addReader(other)
        other.theirs.sendall(b"me, too")
        own.doIteration(20)
        assert other.got == b"me, too"
        assert sum(bool(line.got) for line in lines) < 40  # though they were ready before
        own.removeReader(other)
    else:
        called: list[bool] = []
        own.callLater(0.01, called.append, True)
        turn_until(own, lambda: bool(called))
    assert all(len(line.got) < 10_000 for line in lines)
    poller.stop()


def test_a_slow_reader_leaves_the_rest_for_later_turns_and_no_socket_out(poller: Turning) -> None:
    """Everyone always has something to read, and a turn has not the time for all of them."""
    lines = [Line(poller) for _ in range(100)]
    for line in lines:
        line.then = lambda: time.sleep(0.001)
        line.theirs.sendall(b"x" * 100_000)
    poller.turn()
    assert 0 < sum(bool(line.got) for line in lines) < 50
    for _ in range(60):
        for line in lines:
            line.theirs.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                line.theirs.send(b"x" * 10_000)
        poller.turn()
    assert all(line.got for line in lines)


def test_the_poller_lets_the_reactor_read_every_other_ready_descriptor(own: EPollReactor) -> None:
    """Sockets are read past it; what else is ready it reads, alone or along with them."""
    epoll = own._poller
    poller = Poller(own)
    poller.start()
    assert own._poller is not epoll
    line, other = Line(poller), Other()
    line.theirs.sendall(b"alone")
    own.doIteration(0)
    assert line.got == b"alone"
    own.addReader(other)
    other.theirs.sendall(b"other alone")
    own.doIteration(0)
    assert other.got == b"other alone"
    other.theirs.sendall(b", both")
    line.theirs.sendall(b", both")
    own.doIteration(0)
    assert [line.got, other.got] == [b"alone, both", b"other alone, both"]
    line.ours.close()
    poller.stop()
    other.theirs.sendall(b", later")
    own.doIteration(0)
    assert other.got == b"other alone, both, later"


@pytest.mark.parametrize(
    "given",
    [
        "nothing",
        "a later call",
        "its first call sooner",
        "its last call first",
        "its end",
        "a crash",
    ],
)
def test_a_reactor_reads_until_a_call_is_scheduled(own: EPollReactor, given: str) -> None:
    """Otherwise the reactor would be late for the call, and would read after its own end."""
    first, last = own.callLater(60, lambda: None), own.callLater(90, lambda: None)
    own.runUntilCurrent()
    give: dict[str, Callable[[], object]] = {
        "nothing": lambda: None,
        "a later call": lambda: own.callLater(120, lambda: None),
        "its first call sooner": lambda: first.reset(30),
        "its last call first": lambda: last.reset(30),
        "its end": own.stop,
        "a crash": own.crash,
    }
    poller = Poller(own)
    poller.start()
    line = Line(poller)

    def then() -> None:
        if len(line.got) == 1:
            give[given]()
        if len(line.got) < 1500:
            line.theirs.sendall(b"x")
        else:
            own.callLater(0, lambda: None)

    line.then = then
    line.theirs.sendall(b"x")
    own.doIteration(20)
    assert len(line.got) == (1500 if given == "nothing" else 1)
    poller.stop()


def test_an_idle_reactor_reads_until_it_has_work(own: EPollReactor) -> None:
    poller = Poller(own)
    poller.start()
    line = Line(poller)
    line.then = lambda: own.callLater(0, lambda: None)
    line.theirs.sendall(b"x")
    own.doIteration(None)
    assert line.got == b"x"
    poller.stop()


def test_a_call_that_fell_due_during_a_read_is_made_at_once(own: EPollReactor) -> None:
    poller = Poller(own)
    poller.start()
    line, next_line = Line(poller), Line(poller)

    def then() -> None:
        time.sleep(0.06)
        next_line.theirs.sendall(b"x")

    line.then = then
    line.theirs.sendall(b"x")
    own.callLater(0.05, lambda: None)
    own.doIteration(own.timeout())
    assert [line.got, next_line.got] == [b"x", b""]
    poller.stop()


def test_a_poller_stopped_during_a_read_reads_no_more(own: EPollReactor) -> None:
    poller = Poller(own)
    poller.start()
    lines = [Line(poller) for _ in range(40)]
    for line in lines:
        line.theirs.sendall(b"x")
    lines[15].then = poller.stop
    own.doIteration(20)
    assert [bool(line.got) for line in lines] == [True] * 16 + [False] * 24


def test_the_compiled_functions_refuse_none_in_place_of_bytes() -> None:
    """Cython lets it in where bytes are declared, and would read what is behind it in memory."""
    ours, theirs = socket.socketpair()
    group = Group(Batching(Clock(), 0), Deliveries(Buckets()))
    takers: list[Any] = [
        Inlet(Line.__new__(Line)).feed,
        Sender(ours.fileno()),
        text_frame,
        binary_frame,
        payload_of,
        read_frames,
        missing_of_head,
        Batch(Batching(Clock(), 0), print).add,
        Publisher(group, None),
        functools.partial(group.fan_out, None),
    ]
    for take in takers:
        with pytest.raises(TypeError, match="None"):
            take(None)
    kinds: list[Any] = [
        functools.partial(Group, deliveries=Deliveries(Buckets())),
        functools.partial(Group, Batching(Clock(), 0)),
        functools.partial(Publisher, key=None),
        functools.partial(Batch, send=print),
    ]
    for kind in kinds:
        with pytest.raises(TypeError, match="None"):
            kind(None)
    ours.close()
    theirs.close()


def test_a_sender_never_writes_to_a_socket_that_reused_its_descriptor() -> None:
    ours, theirs = socket.socketpair()
    sender = Sender(ours.fileno())
    assert sender(b"hello") == 5
    descriptor = ours.detach()
    sender.end()
    other, others = socket.socketpair()
    os.dup2(other.fileno(), descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        sender(b"not for you")
    others.setblocking(False)
    with pytest.raises(BlockingIOError):
        others.recv(100)
    os.close(descriptor)
    for each in (theirs, other, others):
        each.close()


def test_a_socket_that_takes_nothing_now_is_not_broken() -> None:
    rests: list[tuple[bytes, int]] = []

    class Full(Recipient):
        def interrupted(self, frames: bytes, sent: int) -> None:
            rests.append((frames, sent))

        def write_items(self, items: object, frames: bytes) -> None:
            raise AssertionError("it has a direct way")

        def broken(self) -> None:
            raise AssertionError("it is full, not broken")

    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            ours.send(b"x" * 100_000)
    member = Full()
    member.direct = Sender(ours.fileno())
    group = Group(Batching(Clock(), 0), Deliveries(Buckets()))
    group.add(member)
    group.fan_out(None, b"1")
    assert rests == [(text_frame(b"1"), 0)]
    ours.close()
    theirs.close()


def test_a_transport_ends_its_sender_before_its_socket_is_closed() -> None:
    seen: list[bool] = []
    port = tcp.Port(0, Factory.forProtocol(Protocol), interface="127.0.0.1", reactor=reactor)
    port.startListening()
    poller = Poller(reactor)
    poller.watch(port)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    transport: Any = port.transport(ours, Protocol(), ("", 0), port, 0, reactor)
    transport.stopReading()
    close = transport._closeSocket

    def closing(*args: Any) -> None:
        with pytest.raises(OSError, match="Bad file descriptor"):
            transport.sender(b"x")
        seen.append(True)
        close(*args)

    transport._closeSocket = closing
    assert transport.sender(b"x") == 1
    transport.connectionLost(Failure(ConnectionDone()))
    assert seen == [True]
    theirs.close()
    port.socket.close()


def test_poses_are_relayed_over_a_unix_socket(tmp_path: Path, connect: Connect) -> None:
    """nginx on the same machine connects over one."""
    path = tmp_path / "relayd.sock"
    relayd = Daemon(tmp_path, {}, "--listen", f"unix:{path}")
    try:
        relayd.start()
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(path))
            sender, viewer = connect(relayd, "/ws/camera", sock=sock), connect(relayd, "/ws/camera")
            for number in range(50):
                sender.send(f'{{"x": {number}}}')
            expected = [f'{{"x":{number},"y":null,"z":null}}' for number in range(50)]
            for client in (sender, viewer):
                assert [client.recv(5) for _ in range(50)] == expected
    finally:
        relayd.stop()

"""Writes to one connection: at once while the peer reads; else queued, in order and bounded.

Sits between the WebSocket adapter and its transport; outboxes are the members of the hub's groups.

Twisted's `transport.write` collects bytes, and changes the epoll instance before and after: three
system calls a frame. While nothing of a plain connection is buffered, its frames go straight to the
socket. Bytes that the kernel does not accept go to the transport, and later frames wait here until
the transport's buffer is empty. So no byte overtakes another.
"""

from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer, IPushProducer
from zope.interface import implementer

from relayd.drops import DropReason, Drops
from relayd.native.sending import Frames, Recipient
from relayd.sockets.observer import Observer
from relayd.sockets.poller import PolledTransport

Item = tuple[Hashable | None, bytes]
"""A frame, with a key if a newer frame of the same key may replace it, else None."""

_CHUNK = 64 * 1024


class Outbox(Recipient):
    """The frames of one connection on their way to its peer.

    Args:
        transport: the connection's transport.
        limit: bytes that may wait here, beyond those that the transport and the kernel hold.
        overflow: called once, when a frame does not fit, after that frame and all waiting frames
            were dropped.
        drops: counts dropped and replaced frames.

    Attributes:
        direct: the socket's `send` while frames may go straight to the socket, else None. Its
            caller reports a partial send to `interrupted`, and an OSError to `broken`.
        observer: is notified of all outgoing frames; None without one. With an observer, `direct`
            is not a `Sender`, so a group calls it for each of its sends.
        finished: whether `finish` or `close` was called; further frames are dropped.
        waiting: how many bytes wait here.
        replaced: how many frames were replaced by a newer one of the same key.
    """

    __slots__ = (
        "_blocked",
        "_drops",
        "_frames",
        "_limit",
        "_newest",
        "_observer",
        "_overflow",
        "_readers",
        "_transport",
        "finished",
        "replaced",
        "waiting",
    )

    def __init__(
        self, transport: Any, limit: int, overflow: Callable[[], None], drops: Drops
    ) -> None:
        self._transport = transport
        self._limit = limit
        self._overflow = overflow
        self._drops = drops
        self._blocked = False
        # most connections never need these three: a pointer each until they do
        self._frames: deque[bytes] | None = None
        self._newest: dict[Hashable, bytes] | None = None
        self._readers: list[Deferred[None]] | None = None
        self._observer: Observer | None = None
        self.direct = None
        self.finished = False
        self.waiting = 0
        self.replaced = 0

    @property
    def observer(self) -> Observer | None:
        return self._observer

    @observer.setter
    def observer(self, observer: Observer | None) -> None:
        self._observer = observer
        direct = self.direct
        if direct is not None:
            self._go_straight(direct.send if isinstance(direct, _ObservedSend) else direct)

    def _go_straight(self, send: Callable[[bytes], int]) -> None:
        """Sends frames with `send` from now on, past the transport; nothing waits any more."""
        self.direct = send if self._observer is None else _ObservedSend(self._observer, send)

    def write(self, frames: bytes) -> None:
        """Sends one or more whole frames, or enqueues them behind the waiting ones."""
        if self.direct is not None:
            try:
                sent = self.direct(frames)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.broken()
                return
            if sent != len(frames):
                self.interrupted(frames, sent)
        elif self.finished:
            return
        else:
            if self._observer is not None:
                self._observer.sent(frames, self._blocked)
            if self._blocked:
                self._keep((frames,), len(frames))
            else:
                self._transport.write(frames)

    def write_items(self, items: Sequence[Item], frames: bytes) -> None:
        """Sends frames, or enqueues them; an enqueued frame replaces an older one of its key.

        Args:
            items: the frames with their keys, in order.
            frames: the same frames, joined.
        """
        if not self._blocked or self.finished:
            self.write(frames)
            return
        if self._observer is not None:
            self._observer.sent(frames, True)
        if self.keeps_all:
            self._keep([frame for _, frame in items], len(frames))
            return
        if isinstance(items, Frames):
            ordered, size, newest, replaced = items.settle()
            if ordered:
                self._keep(ordered, size)
            if newest:
                self._replace(newest, replaced)
            return
        for key, frame in items:
            if key is None:
                self._keep((frame,), len(frame))
            else:
                self._replace({key: frame}, 0)

    def interrupted(self, frames: bytes, sent: int) -> None:
        """The kernel accepted only `sent` bytes: the transport gets the rest, later frames wait."""
        raise NotImplementedError

    def broken(self) -> None:
        """The socket is dead: sends nothing more, and has the reactor end the connection."""
        self.finish()
        self._transport.abortConnection()

    @property
    def blocked(self) -> bool:
        """Whether frames wait for the peer to read."""
        return self._blocked

    @property
    def progress(self) -> int:
        """Grows whenever the peer takes bytes that waited; 0 where no poller reads it."""
        transport = getattr(self._transport, "transport", self._transport)  # the one under TLS
        return transport.progress if isinstance(transport, PolledTransport) else 0

    def drained(self) -> "Deferred[None]":
        """Fires when nothing waits here and the transport's buffer is empty.

        Cancelled by `close`; cancelled at once after `finish` or `close`.
        """
        reader: Deferred[None] = Deferred()
        if self.finished:
            reader.cancel()
        elif self._blocked:
            self._readers = [*(self._readers or ()), reader]
        else:
            reader.callback(None)
        return reader

    def finish(self) -> None:
        """Flushes the queue to the transport and drops all further frames, for a close."""
        if self.finished:
            return
        self.finished = True
        self.direct = None
        self._transport.unregisterProducer()
        while self.waiting:
            self._transport.write(self._take())

    def clear(self) -> None:
        """Drops the queue; bytes that the transport holds are still sent."""
        self._frames = self._newest = None
        self.waiting = 0

    def close(self) -> None:
        """The connection has ended: drops the queue and cancels the Deferreds of `drained`."""
        self.clear()
        self.finished = True
        self.direct = None
        self._overflow = _nothing  # a method of the connection, as a rule
        readers, self._readers = self._readers, None
        for reader in readers or ():
            reader.cancel()

    def _check_limit(self) -> None:
        """Drops all that waits, and reports it, if that is too much."""
        if self.waiting <= self._limit:
            return
        left_out = len(self._frames or ()) + len(self._newest or ())
        self._drops.count(DropReason.TOO_SLOW, left_out)
        self.clear()
        overflow, self._overflow = self._overflow, _nothing
        overflow()

    def _keep(self, frames: Sequence[bytes], size: int) -> None:
        """Enqueues frames of `size` bytes in all."""
        if not self.finished:
            if self._frames is None:
                self._frames = deque()
            self._frames.extend(frames)
            self.waiting += size
            self._check_limit()

    def _replace(self, newest: Mapping[Hashable, bytes], replaced: int) -> None:
        """Keeps the newest frame of each key; `replaced` is how many were older among them."""
        if self.finished:
            return
        if self._newest is None:
            self._newest = {}
        for key, frame in newest.items():
            older = self._newest.get(key)
            if older is not None:
                replaced += 1
                self.waiting -= len(older)
            self.waiting += len(frame)
            self._newest[key] = frame
        if replaced:
            self.replaced += replaced
            self._drops.count(DropReason.REPLACED, replaced)
        self._check_limit()

    def _take(self) -> bytes:
        """Removes the next frames of the queue, about 64 KiB; returns them joined."""
        chunk: list[bytes] = []
        size = 0
        while self._frames and size < _CHUNK:
            chunk.append(self._frames.popleft())
            size += len(chunk[-1])
        if not chunk and self._newest:
            chunk.extend(self._newest.values())
            size = sum(map(len, chunk))
            self._newest = None
        self.waiting -= size
        return b"".join(chunk)

    def _unblock(self) -> None:
        self._blocked = False
        readers, self._readers = self._readers, None
        for reader in readers or ():
            reader.callback(None)


class _ObservedSend:
    """A `direct` that notifies an observer first. Not a `Sender`, so a group always calls it."""

    def __init__(self, observer: Observer, send: Callable[[bytes], int]) -> None:
        self._observer = observer
        self.send = send

    def __call__(self, frames: bytes) -> int:
        self._observer.sent(frames, False)
        return self.send(frames)


@implementer(IPullProducer)
class SocketOutbox(Outbox):
    """For a plain TCP or unix connection: straight to the socket whenever that keeps the order."""

    __slots__ = ("_armed",)

    def __init__(
        self, transport: Any, limit: int, overflow: Callable[[], None], drops: Drops
    ) -> None:
        super().__init__(transport, limit, overflow, drops)
        if isinstance(transport, PolledTransport) and transport.empty:
            self.direct = transport.sender
        else:
            # the answer to the handshake may still be in the transport's buffer
            self._wait()

    def interrupted(self, frames: bytes, sent: int) -> None:
        self._wait()
        self._transport.write(frames[sent:])

    def _wait(self) -> None:
        """Enqueues frames until `resumeProducing` reports that the transport's buffer is empty."""
        self.direct = None
        self._blocked = True
        self._armed = False
        self._transport.registerProducer(self, False)
        self._armed = True
        self._transport.startWriting()

    def resumeProducing(self) -> None:
        """The transport's buffer is empty (`IPullProducer`)."""
        if not self._armed or self.finished:
            return
        if self.waiting:
            self._transport.write(self._take())
            return
        self._transport.unregisterProducer()
        transport = self._transport
        polled = isinstance(transport, PolledTransport)
        self._go_straight(transport.sender if polled else transport.getHandle().send)
        self._unblock()

    def stopProducing(self) -> None:
        """The connection is gone (`IPullProducer`); `close` is called by its owner."""


@implementer(IPushProducer)
class BufferedOutbox(Outbox):
    """For any other transport, TLS above all: through its buffer, about 64 KiB of it."""

    __slots__ = ()

    def __init__(
        self, transport: Any, limit: int, overflow: Callable[[], None], drops: Drops
    ) -> None:
        super().__init__(transport, limit, overflow, drops)
        transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        """The transport's buffer is full (`IPushProducer`)."""
        self._blocked = True

    def resumeProducing(self) -> None:
        """The transport's buffer is empty (`IPushProducer`)."""
        if self.finished:
            return
        self._blocked = False
        while self.waiting and not self._blocked:
            self._transport.write(self._take())
        if not self._blocked:
            self._unblock()

    def stopProducing(self) -> None:
        """The connection is gone (`IPushProducer`); `close` is called by its owner."""


def _nothing() -> None:
    pass


def build_outbox(transport: Any, limit: int, overflow: Callable[[], None], drops: Drops) -> Outbox:
    """Builds the outbox that fits a transport; the arguments are those of `Outbox`."""
    plain = isinstance(transport, tcp.Connection) and not transport.TLS
    return (SocketOutbox if plain else BufferedOutbox)(transport, limit, overflow, drops)

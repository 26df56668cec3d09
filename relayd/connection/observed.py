"""The frames of one connection, and the slot for their observer.

Sits between `handshake` and `websocket`. The latter notifies the observer itself of messages and
pings, which it handles before Autobahn does.
"""

from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from relayd.connection.handshake import Handshake
from relayd.native.framing import OPCODE_NAMES, read_frames
from relayd.sockets.observer import Observer
from relayd.sockets.outbox import Outbox
from relayd.sockets.poller import Inlet


def _read_sent(frames: bytes) -> list[tuple[str, bytes]]:
    return [(OPCODE_NAMES.get(code, str(code)), payload) for code, payload in read_frames(frames)]


class Observed(Handshake):
    """A connection that can be observed.

    Attributes:
        outbox: where its frames go out; None before it is open.
    """

    read_sent = staticmethod(_read_sent)
    """Reads what it has sent: name and payload of each frame."""
    outbox: Outbox | None = None
    _inlet: Inlet | None = None
    _observer: Observer | None = None

    @property
    def inlet(self) -> Inlet | None:
        """Where its frames come in; None before it is open."""
        return self._inlet

    @property
    def waiting(self) -> int:
        """Bytes that wait for the client, beyond those that its transport and the kernel hold."""
        return 0 if self.outbox is None else self.outbox.waiting

    @property
    def observer(self) -> Observer | None:
        """The observer of all frames of the connection; None without one."""
        return self._observer

    @observer.setter
    def observer(self, observer: Observer | None) -> None:
        self._observer = observer
        if self._inlet is not None:
            self._inlet.observer = observer
        if self.outbox is not None:
            self.outbox.observer = observer

    def onPong(self, payload: bytes) -> None:
        """A pong came in. The keepalive needs no notice: its bytes were counted already."""
        if self._observer is not None:
            self._observer.ponged(payload)
        super().onPong(payload)

    def onCloseFrame(self, code: int, reasonRaw: bytes) -> None:  # noqa: N803
        """The peer begins the closing handshake, or answers ours."""
        if self._observer is not None:
            self._observer.close_received(code, reasonRaw)
        super().onCloseFrame(code, reasonRaw)

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        """A close frame goes out, behind everything else."""
        if self._observer is not None:
            self._observer.close_sent(code, reasonUtf8)
        super().sendCloseFrame(code, reasonUtf8, isReply)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The TCP connection has ended."""
        if self._observer is not None:
            self._observer.ended()
        super().connectionLost(reason)

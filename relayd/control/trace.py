"""`trace`: every frame of one connection, in and out, and how it ends.

Sits under `process`. It costs nothing while nobody traces: on a connection that is traced, and only
there, the inlet's `take` and some methods are wrapped, and the outbox changes its class to one that
tells. When the last one stops listening, everything is put back.
"""

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from relayd.connection.websocket import RelayProtocol
from relayd.native.fanout import Recipient
from relayd.native.framing import OPCODE_NAMES, read_frames
from relayd.sockets.outbox import Item, Outbox
from relayd.web.answers import Sink, Stream

_LONGEST = 4096
"""Characters of a payload that are shown."""

Tell = Callable[[dict[str, Any]], None]

_wires: dict[RelayProtocol, "_Wire"] = {}
_tell_out: dict[int, Callable[[bytes, bool], None]] = {}  # by the identity of an outbox
_classes: WeakKeyDictionary[type[Outbox], type[Outbox]] = WeakKeyDictionary()


def trace(connection: RelayProtocol, now: Callable[[], float]) -> Stream:
    """The stream of what passes through a connection from now on.

    Args:
        connection: an open one.
        now: Unix time.
    """

    def open_(sink: Sink) -> Callable[[], None]:
        def tell(event: dict[str, Any]) -> None:
            sink.write(msgspec.json.encode({"time": round(now(), 6), **event}))
            if event["event"] == "ended":
                sink.end()

        wire = _wires.get(connection)
        if wire is None:
            wire = _wires[connection] = _Wire(connection)
        wire.listeners.append(tell)
        tell({"event": "begin", "path": connection.path, "peer": str(connection.peer)})

        def close() -> None:
            wire.listeners.remove(tell)
            if not wire.listeners and _wires.pop(connection, None) is not None:
                wire.remove()

        return close

    return Stream(open_)


class _Wire:
    """What is put around one connection."""

    def __init__(self, connection: RelayProtocol) -> None:
        self.listeners: list[Tell] = []
        self._connection = connection
        self._wrapped: list[str] = []
        outbox = connection.outbox
        if outbox is not None:
            _tell_out[id(outbox)] = self._out
            outbox.__class__ = _telling(type(outbox))
            outbox.direct = outbox.direct  # which tells from now on
        if connection.inlet is not None:
            self._take = connection.inlet.take
            connection.inlet.take = self._took
            connection.shorten = self._shorten  # type: ignore[method-assign]
            self._wrapped.append("shorten")
        for name, told in (
            ("_take", self._message),
            ("onPing", lambda payload: self._in("ping", payload)),
            ("onPong", lambda payload: self._in("pong", payload)),
            ("onCloseFrame", self._close_came),
            ("sendCloseFrame", self._close_goes),
            ("connectionLost", self._ended),
        ):
            self._wrap(name, told)

    def remove(self) -> None:
        """Puts everything back."""
        connection = self._connection
        for name in self._wrapped:
            delattr(connection, name)
        if connection.inlet is not None:
            connection.inlet.take = self._take
        outbox = connection.outbox
        if outbox is not None:
            del _tell_out[id(outbox)]
            telling = outbox.direct
            outbox.__class__ = type(outbox).__base__  # type: ignore[assignment]
            outbox.direct = telling.send if isinstance(telling, _TellingSend) else None

    def _wrap(self, name: str, told: Callable[..., None]) -> None:
        """Has a method of this one connection tell before it does its work."""
        method = getattr(self._connection, name)

        def telling(*args: Any, **keywords: Any) -> Any:
            told(*args, **keywords)
            return method(*args, **keywords)

        setattr(self._connection, name, telling)
        self._wrapped.append(name)

    def _tell(self, event: str, **more: Any) -> None:
        for tell in tuple(self.listeners):
            tell({"event": event, **more})

    def _shorten(self, take: Callable[[bytes, bool], None]) -> None:
        """The relay has found a shorter way for its short frames (`RelayProtocol.shorten`)."""
        inlet = self._connection.inlet
        assert inlet is not None
        type(self._connection).shorten(self._connection, take)
        if inlet.take != self._took:
            self._take, inlet.take = inlet.take, self._took

    def _took(self, payload: bytes, is_binary: bool) -> None:
        """A short frame, from the inlet."""
        self._message(payload, is_binary)
        self._take(payload, is_binary)

    def _message(self, payload: bytes, is_binary: bool) -> None:
        self._in("binary" if is_binary else "text", payload)

    def _in(self, kind: str, payload: bytes) -> None:
        self._tell("in", type=kind, **_shown(payload))

    def _out(self, data: bytes, waits: bool) -> None:
        for opcode, payload in read_frames(data):
            more = {"waits": True} if waits else {}
            name = OPCODE_NAMES.get(opcode, str(opcode))
            self._tell("out", type=name, **_shown(payload), **more)

    def _close_came(self, code: int | None, reason: bytes | None) -> None:
        self._tell("in", type="close", code=code, reason=(reason or b"").decode(errors="replace"))

    def _close_goes(
        self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        reason = (reasonUtf8 or b"").decode(errors="replace")
        self._tell("out", type="close", code=code, reason=reason)

    def _ended(self, reason: Any = None) -> None:
        self._tell("ended")


def _shown(payload: bytes) -> dict[str, Any]:
    text = payload.decode(errors="backslashreplace")
    shown: dict[str, Any] = {"size": len(payload), "text": text[:_LONGEST]}
    if len(text) > _LONGEST:
        shown["cut"] = True
    return shown


class _TellingSend:
    """A `direct` that tells what is sent.

    It is kept in the field itself, which a group reads past the property; being no `Sender`, it is
    called for all that is sent.
    """

    def __init__(self, tell: Callable[[bytes, bool], None], send: Callable[[bytes], int]) -> None:
        self.send = send
        self._tell = tell

    def __call__(self, data: bytes) -> int:
        self._tell(data, False)
        return self.send(data)


def _telling(kind: type[Outbox]) -> type[Outbox]:
    """The class of outboxes that tells what is written: the same slots, so one may become it."""
    found = _classes.get(kind)
    if found is not None:
        return found
    # the field under the property that takes its name
    field: Any = Recipient.__dict__["direct"]

    class Telling(kind):  # type: ignore[misc, valid-type]
        __slots__ = ()

        @property
        def direct(self) -> Callable[[bytes], int] | None:
            send: Callable[[bytes], int] | None = field.__get__(self)
            return send

        @direct.setter
        def direct(self, send: Callable[[bytes], int] | None) -> None:
            telling = None if send is None else _TellingSend(_tell_out[id(self)], send)
            field.__set__(self, telling)

        def write(self, data: bytes) -> None:
            if self.direct is None and not self.finished:
                _tell_out[id(self)](data, self._blocked)
            super().write(data)

        def write_items(self, items: Sequence[Item], data: bytes) -> None:
            if self._blocked and not self.finished:
                _tell_out[id(self)](data, True)
            super().write_items(items, data)

    _classes[kind] = Telling
    return Telling

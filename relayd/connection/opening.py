"""The usual opening handshake (RFC 6455 section 4), with the effect of Autobahn's general way.

Sits under `handshake`, which comes here with every head. A head is usual if it has the form in
which nearly all clients send it; for any other, `read_head` returns None, and Autobahn parses it,
which takes several times as long. After both ways, a connection has the same attributes.
"""

import hashlib
import inspect
import re
from base64 import b64encode
from collections.abc import Callable, Collection
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from autobahn.twisted.websocket import WebSocketServerProtocol
from twisted.internet.defer import Deferred

from relayd import private

# printable ASCII alone; no fragment, no parameters behind a semicolon, no network location
_TARGET = rb"((/(?!/)[!\"$-:<->@-~]*)(?:\?([!\"$-~]*))?)"
_HEAD = re.compile(
    rb"GET " + _TARGET + rb" HTTP/1\.1\r\n((?:[\w!#$%&'*+.^`|~-]+:[ -~]*\r\n)+)\r\n", re.ASCII
)
_HOST = re.compile(r"([\w.-]+|\[[0-9a-f:.]+\])(?::\d{1,5})?", re.ASCII | re.IGNORECASE)
_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(?::\d{1,4})?")


class Head(NamedTuple):
    """A usual request head.

    Attributes:
        size: bytes of it, with the empty line at its end.
        target: the request target (RFC 9112 section 3.2).
        path: its path, percent-encoded.
        params: its query, as `urllib.parse.parse_qs` reads it with blank values.
        headers: values by lower-case names; each was there once.
        host: the `Host` header without its port.
        origin: the `Origin` header, empty without one.
        protocols: the subprotocols that the client offers, each once.
        key: the `Sec-WebSocket-Key` header.
    """

    size: int
    target: str
    path: str
    params: dict[str, list[str]]
    headers: dict[str, str]
    host: str
    origin: str
    protocols: list[str]
    key: str


def read_head(data: bytes) -> Head | None:
    """Reads the head of a handshake; None if it is not a usual one.

    Args:
        data: a request head, and further bytes behind it, if some came.
    """
    found = _HEAD.match(data)
    if found is None:
        return None
    lines = found[4].decode().split("\r\n")
    headers: dict[str, str] = {}
    for line in lines[:-1]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    get = headers.get
    host = _HOST.fullmatch(get("host", ""))
    key, origin = get("sec-websocket-key", ""), get("origin", "")
    protocols: list[str] = []
    if "sec-websocket-protocol" in headers:
        protocols = [name.strip() for name in headers["sec-websocket-protocol"].split(",")]
    if (
        host is None
        or get("sec-websocket-version") != "13"
        or get("upgrade", "").lower() != "websocket"
        or not _KEY.fullmatch(key)
        or not _asks_for_upgrade(get("connection", ""))
        or ("origin" in headers and not _ORIGIN.fullmatch(origin))
        or len(headers) != len(lines) - 1
        or len(set(protocols)) != len(protocols)
        or "" in protocols
    ):
        return None
    params = parse_qs(found[3].decode(), keep_blank_values=True) if found[3] else {}
    path, target = found[2].decode(), found[1].decode()
    return Head(found.end(), target, path, params, headers, host[1], origin, protocols, key)


def _asks_for_upgrade(connection: str) -> bool:
    """Whether a `Connection` header has the option `upgrade` (RFC 9110 section 7.6.1)."""
    return "upgrade" in [option.strip() for option in connection.lower().split(",")]


# the example of RFC 6455 section 1.3, and the key that its answer has
_EXAMPLE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_EXAMPLE_ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
_ACCEPT = b"Sec-WebSocket-Accept: "
_general_init = inspect.getattr_static(WebSocketServerProtocol, "__init__")
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class _Written(list[bytes]):
    """A transport that keeps what is written to it."""

    write = list[bytes].append


class _OnDemand:
    """An attribute of a class that a connection gets when it is read: on most it never is."""

    def __init__(self, build: Callable[[Any], object]) -> None:
        self._build = build

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, protocol: Any, owner: type | None = None) -> object:
        if protocol is None:
            return self
        built = vars(protocol)[self._name] = self._build(protocol)
        return built


def _attribute(value: Any) -> object:
    """The attribute of a class for what a connection begins with: constants are shared."""
    kind = type(value)
    if value is None or isinstance(value, bool | int | float | str | bytes | tuple):
        return value
    return _OnDemand(lambda _: kind(value) if isinstance(value, list | dict) else kind())


class Opening:
    """Opens the usual connections of one factory with the effect of Autobahn's general way.

    Autobahn opens one connection, and its attributes are learned: a value that is the same on
    every connection becomes an attribute of the class; the others are built on demand, since most
    connections never need them.

    Args:
        factory: where `setProtocolOptions` was called, without timeouts.
        options: the names of the options, which are attributes of the class already.

    Attributes:
        attributes: further ones for that class; empty if Autobahn has to open its connections.
    """

    def __init__(self, factory: Any, options: Collection[str]) -> None:
        self.attributes: dict[str, Any] = {}
        self._model: Any = None
        if not private.COUNT.are_in(factory):
            return
        model: Any = WebSocketServerProtocol()
        written = _Written()
        model.factory = factory
        model.makeConnection(written)
        begun = dict(vars(model))
        model.dataReceived(_EXAMPLE)
        self._model = model
        private.count_connection(factory, -1)
        self._before, _, self._after = b"".join(written).partition(_EXAMPLE_ACCEPT)
        own = {"factory", "transport", "connected", "peer", *options}
        parts = private.opening_parts(model)
        if parts is not None:
            self.attributes = {
                **{
                    name: _attribute(value)
                    for name, value in {**vars(model), **begun}.items()
                    if name not in own and name not in private.OF_HEAD
                },
                **{name: _OnDemand(build) for name, build in parts.items()},
                "is_open": _OnDemand(_is_open),
                "opening": self,
            }
            protocol = type(factory).protocol
            if inspect.getattr_static(protocol, "__init__") is _general_init:
                # it would set some of these again
                self.attributes["__init__"] = object.__init__

    @property
    def can_compress(self) -> bool:
        """Whether compressed messages that Autobahn reads can be inflated by `deflate`."""
        return self._model is not None and private.can_compress(self._model)

    def begin(self, protocol: Any) -> None:
        """Counts a new connection; the attributes replace all else of `connectionMade`."""
        private.count_connection(protocol.factory, 1)

    def answer(self, key: str, protocol: str | None, extension: str) -> bytes:
        """The answer to a handshake (RFC 6455 section 4.2.2).

        Args:
            key: its `Sec-WebSocket-Key`.
            protocol: the accepted subprotocol, or None.
            extension: the agreed `Sec-WebSocket-Extensions`; empty without one.
        """
        accept = b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest())
        before = self._before
        if protocol is not None or extension:
            more = f"Sec-WebSocket-Extensions: {extension}\r\n" if extension else ""
            if protocol is not None:
                more += f"Sec-WebSocket-Protocol: {protocol}\r\n"
            before = before.removesuffix(_ACCEPT) + more.encode() + _ACCEPT
        return before + accept + self._after

    def finish(self, protocol: Any, key: str, subprotocol: str | None) -> None:
        """Does what `succeedHandshake` of Autobahn does.

        Args:
            protocol: a connection in the state CONNECTING.
            key: the `Sec-WebSocket-Key` of its handshake.
            subprotocol: the one that is accepted, or None.
        """
        if subprotocol is not None:
            protocol.websocket_protocol_in_use = subprotocol
        protocol.sendData(self.answer(key, subprotocol, protocol.extension))
        protocol.state = protocol.STATE_OPEN
        protocol.onOpen()
        protocol.opened_usually = True
        if "is_open" in vars(protocol):
            protocol.is_open.callback(None)


def _is_open(protocol: Any) -> "Deferred[None]":
    """Fires when the connection opens; at once if it has."""
    found: Deferred[None] = Deferred()
    if protocol.opened_usually:
        found.callback(None)
    return found

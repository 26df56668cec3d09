"""Every name of a library that is not public, in one place: on the ground, above the log alone.

An entry holds the names, their library, the modules that use them, the versions for which they were
tried, and what relayd does without them. Where one is missing, relayd warns once and does that,
instead of failing later. `setup.py` bounds the versions of these libraries.

Callers use the functions below an entry. Their results are looked up once, for a process, a class
or a connection, so a frame costs nothing more.
"""

import select
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlencode

from relayd.private.entry import Private

if TYPE_CHECKING:  # a program that uses one of these libraries does not load all of them
    from autobahn.websocket.types import ConnectionRequest

_Class = TypeVar("_Class", bound=type)

# -- Twisted: the loop of the reactor

REACTOR = Private(
    "twisted",
    "_poller",
    "_newTimedCalls",
    "_pendingTimedCalls",
    "_justStopped",
    users=("relayd.sockets.poller", "relayd.native.reading"),
    tried=("26.10.0",),
    without="the reactor reads all sockets by itself, as one of several; that costs CPU time",
)


class ReactorNames(NamedTuple):
    """Attributes in the `__dict__` of an `EPollReactor` that a loop beneath it needs.

    Attributes:
        epoll: its own `select.epoll`, for which another object may stand in.
        new_calls: a list of the calls that were set since its last turn.
        calls: a heap of all other calls, the next one first.
        stopping: whether `stop` was called and has not taken effect yet.
    """

    epoll: str
    new_calls: str
    calls: str
    stopping: str


def reactor_names(reactor: object) -> ReactorNames | None:
    """The names for an `EPollReactor`; None if it lacks one, or has another type there."""
    if not REACTOR.are_in(reactor):
        return None
    kinds = (select.epoll, list, list, bool)
    others = [
        name
        for name, kind in zip(REACTOR.names, kinds, strict=True)
        if not isinstance(vars(reactor).get(name), kind)
    ]
    REACTOR.miss(*others)
    return None if others else ReactorNames(*REACTOR.names)


# -- Twisted: listening ports that several processes share

SHUTDOWN = Private(
    "twisted",
    "_shouldShutdown",
    users=("relayd.edge.ports", "relayd.assembly"),
    tried=("26.10.0",),
    without="a port that is closed is closed for all processes that share it: "
    "workers that drain refuse clients that come meanwhile",
)


def close_alone(port: Any) -> None:
    """Makes a listening port close its socket without a shutdown, since others share it."""
    if SHUTDOWN.are_in(port):
        port._shouldShutdown = False


# -- Twisted: HTTP requests that cannot be parsed

BAD_REQUEST = Private(
    "twisted",
    "_respondToBadRequestAndDisconnect",
    users=("relayd.edge.channel",),
    tried=("26.10.0",),
    without="an HTTP request that cannot be parsed is answered by a bare status line, without JSON",
)


def answers_bad_requests(channel: _Class) -> _Class:
    """Makes an `HTTPChannel` class call its `answer_bad_request()` for an invalid request."""
    if BAD_REQUEST.are_in(channel):
        setattr(channel, BAD_REQUEST.names[0], channel.answer_bad_request)  # type: ignore[attr-defined]
    return channel


# -- Autobahn: the parser

RECEIVE = Private(
    "autobahn",
    "_dataReceived",
    users=("relayd.connection.handshake",),
    tried=("26.10.2",),
    without="every piece of data that Autobahn parses has lines of a debug log formatted for it",
)


def parse_of(protocol: Any) -> Callable[[Any, bytes], None]:
    """The method with which Autobahn parses received bytes.

    Args:
        protocol: a class of Autobahn's protocols.
    """
    found: Callable[[Any, bytes], None] = (
        protocol._dataReceived if RECEIVE.are_in(protocol) else protocol.dataReceived
    )
    return found


FRAMES = Private(
    "autobahn",
    "current_frame",
    "current_frame_masker",
    "data",
    "inside_message",
    users=("relayd.connection.handshake", "relayd.connection.receiving"),
    tried=("26.10.2",),
    without="Autobahn parses every frame, the short ones, too; that costs CPU time",
)

unparsed: Callable[[Any], bytes] = attrgetter("data")
"""The bytes that Autobahn has of an incomplete head, on a connection that `shows_frames`."""
is_inside_message: Callable[[Any], bool] = attrgetter("inside_message")
"""Whether a message still lacks a frame, on a connection that `shows_frames`."""


def shows_frames(protocol: Any) -> bool:
    """Whether an open connection shows its parser's position in a frame."""
    # the masker exists from the first frame on
    return FRAMES.are_in(protocol, "current_frame", "data", "inside_message")


def rest_of_frame(protocol: Any) -> int | None:
    """Bytes missing of the frame whose head Autobahn has, on a connection that `shows_frames`.

    None between two frames, and before a head is whole. 0 if the number is unknown.
    """
    frame = protocol.current_frame
    if frame is None:
        return None
    try:
        rest: int = frame.length - protocol.current_frame_masker.pointer()
    except AttributeError:
        FRAMES.miss("current_frame_masker")
        return 0
    return rest


# -- Autobahn: the handshake and the options

TARGET = Private(
    "autobahn",
    "http_request_uri",
    users=("relayd.connection.handshake",),
    tried=("26.10.2",),
    without="what follows a semicolon in the path of a WebSocket is not seen",
)


def request_target(protocol: Any, request: "ConnectionRequest") -> str:
    """The request target of a handshake as it came, in Latin-1 (RFC 9112 section 3.2).

    Args:
        protocol: the protocol that received the handshake.
        request: the handshake as Autobahn parsed it.
    """
    if TARGET.are_in(protocol):
        return str(protocol.http_request_uri)
    query = urlencode(request.params, doseq=True)
    return f"{request.path}?{query}" if query else str(request.path)


OPTIONS = Private(
    "autobahn",
    "CONFIG_ATTRS",
    users=("relayd.connection.factory",),
    tried=("26.10.2",),
    without="every connection has its own copy of Autobahn's options: 1.5 KB and 0.3 ms",
)


def shared_options(protocol: type, factory: object) -> dict[str, Any]:
    """Attributes of a class of protocols that has the options of its factory, once for all of them.

    Autobahn would copy them to every connection: 1.5 KB, and 0.3 ms for a debug log that is off.

    Args:
        protocol: a class of Autobahn's protocols.
        factory: where `setProtocolOptions` was called.
    """
    if not OPTIONS.are_in(protocol):
        return {}
    names = protocol.CONFIG_ATTRS  # type: ignore[attr-defined]
    # Autobahn copies and logs the options that CONFIG_ATTRS names: none
    return {**{name: getattr(factory, name) for name in names}, "CONFIG_ATTRS": ()}


# -- Autobahn: the usual opening handshake, past its general way

OPENING = Private(
    "autobahn",
    *("http_request_data", "http_headers", "http_request_host", "http_request_params"),
    *("http_request_path", "websocket_protocols", "http_response_data", "http_status_line"),
    *("_parseExtensionsHeader", "_transport_details", "_wskey", "consumeData", "trafficStats"),
    "data",
    users=("relayd.connection.handshake", "relayd.connection.opening"),
    tried=("26.10.2",),
    without="Autobahn parses every opening handshake; that costs 0.06 ms of CPU time and 3 KB each",
)
COUNT = Private(
    "autobahn",
    "countConnections",
    users=("relayd.connection.opening",),
    tried=("26.10.2",),
    without=OPENING.without,
)

OF_HEAD = (
    *("http_request_data", "http_request_uri", "_wskey", "http_headers", "http_request_host"),
    *("http_request_params", "http_request_path"),
)
"""Attributes that a connection has when Autobahn has parsed a request head, and not before."""


def count_connection(factory: Any, change: int) -> None:
    """Adds to the number of connections that Autobahn's factory has; `COUNT` is in it."""
    factory.countConnections += change


def opening_parts(opened: Any) -> dict[str, Callable[[Any], object]] | None:
    """Attributes of a connection whose value is its own, with functions that return it.

    Args:
        opened: a connection that Autobahn has opened.

    Returns:
        None if Autobahn has other attributes. The functions take a connection that `set_head` was
        called for.
    """
    if not OPENING.are_in(opened) or not OPTIONS.are_in(opened):
        return None
    from autobahn.twisted.util import create_transport_details

    def details(protocol: Any) -> object:
        found = create_transport_details(protocol.transport, protocol.is_server)
        found.channel_framing = found.CHANNEL_FRAMING_WEBSOCKET
        return found

    def traffic(protocol: Any) -> object:
        found = type(opened.trafficStats)()
        found.preopenIncomingOctetsWireLevel = protocol.opening_size
        return found

    return {
        "_transport_details": details,
        "trafficStats": traffic,
        "http_status_line": lambda protocol: f"GET {protocol.http_request_uri} HTTP/1.1",
        "http_response_data": lambda protocol: protocol.opening.answer(
            protocol._wskey, protocol.websocket_protocol_in_use, protocol.extension
        ).decode(),
    }


def set_head(protocol: Any, head: Any, data: bytes) -> "ConnectionRequest":
    """Sets the attributes that Autobahn sets when it has parsed a request head.

    Args:
        protocol: the connection; its class has `opening_parts`.
        head: the `connection.opening.Head` of the data.
        data: all bytes that came.
    """
    from autobahn.websocket.types import ConnectionRequest

    headers = head.headers
    extensions: list[Any] = []
    if "sec-websocket-extensions" in headers:
        extensions = protocol._parseExtensionsHeader(headers["sec-websocket-extensions"])
    protocol.http_request_data = data if len(data) == head.size else data[: head.size]
    if len(data) != head.size:
        protocol.data = data[head.size :]
    protocol.http_headers = headers
    protocol.http_request_uri = head.target
    protocol.http_request_path = head.path
    protocol.http_request_params = {
        name: [value for value in values if value]
        for name, values in head.params.items()
        if any(values)
    }
    protocol.http_request_host = head.host
    protocol.websocket_protocols = head.protocols
    protocol.websocket_origin = head.origin
    protocol.websocket_extensions = extensions
    protocol._wskey = head.key
    return ConnectionRequest(
        *(protocol.peer, headers, head.host, head.path, protocol.http_request_params),
        *(protocol.websocket_version, head.origin, head.protocols, extensions),
    )


# -- Autobahn: messages that are compressed

COMPRESSION = Private(
    "autobahn",
    *("_perMessageCompress", "_isMessageCompressed", "utf8validateIncomingCurrentMessage"),
    users=("relayd.connection.deflate", "relayd.connection.factory"),
    tried=("26.10.2",),
    without="no client gets permessage-deflate, whatever [server] deflate says",
)
is_compressed: Callable[[Any], bool] = attrgetter("_isMessageCompressed")
"""Whether the message that is being received, or has just ended, is compressed."""


def can_compress(opened: Any) -> bool:
    """Whether a connection that Autobahn has opened has the names, which the first message adds.

    Args:
        opened: a connection that nobody else uses.
    """
    if not COMPRESSION.are_in(opened, "_perMessageCompress"):
        return False
    opened.current_frame = type("Frame", (), {"opcode": 1, "rsv": 0, "length": 0})
    opened.onFrameBegin()
    return COMPRESSION.are_in(opened)


def set_extension(protocol: Any, extension: object) -> None:
    """Has Autobahn accept compressed messages, and pass their bytes to an extension."""
    protocol._perMessageCompress = extension


def leave_text_unchecked(protocol: Any) -> None:
    """Keeps Autobahn from checking the UTF-8 of the message that has just begun."""
    protocol.utf8validateIncomingCurrentMessage = False


# -- prometheus-client

ENCODER = Private(
    "prometheus-client",
    "choose_encoder",
    users=("relayd.metrics.exchange",),
    tried=("0.26.0",),
    without="the metrics are in Prometheus' text format, also where OpenMetrics is asked for",
)


def metrics_encoder(exposition: Any, accept: str) -> tuple[Callable[[Any], bytes], str]:
    """The encoder for a registry in the requested format, and its `Content-Type`.

    Args:
        exposition: `prometheus_client.exposition`.
        accept: the `Accept` header of the request.
    """
    if not ENCODER.are_in(exposition):
        return exposition.generate_latest, exposition.CONTENT_TYPE_LATEST
    encoder, content_type = exposition.choose_encoder(accept)
    return encoder, content_type

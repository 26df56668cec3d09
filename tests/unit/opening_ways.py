"""Shared by the tests of the opening handshake: both ways through it, and the parts of heads.

One connection is opened as it is: by `connection.opening` if the head is usual. The other one is
opened by Autobahn alone. `Ways.check` gives both the same bytes, cut at the same places, and
compares everything that can be seen of them.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from relayd import private
from relayd.config import Config, Keepalive, Limits, Proxy, Server
from relayd.connection.deflate import Deflating
from relayd.connection.websocket import RelayFactory, RelayProtocol
from relayd.errors import DatabaseUnavailable, ErrorCode, Refusal
from relayd.names import Place
from relayd.native.framing import text_frame
from relayd.relays.paths import KINDS
from tests.frames import CLOSE, PING, TEXT, frame
from tests.unit.fakes import World, logged_lines
from tests.unit.receive_paths import Seen, cut

CONFIG = Config(
    limits=Limits(max_head_size=2000),
    server=Server(
        names=("relay.example", "*.example", "a"),
        allowed_origins=("https://example.org", "http://example.org:8080", "self", "null"),
    ),
    keepalive=Keepalive(handshake_timeout=10, close_timeout=5),
    proxy=Proxy(trusted=("192.0.2.7",)),
)
OWN = {"opening_size", "opened_usually", "_key"}
"""Attributes that only a connection has which `connection.opening` opened."""
ERRORS = {
    "refuse": Refusal(ErrorCode.NO_UNITY, "There is no Unity."),
    "unavailable": DatabaseUnavailable("The database is away."),
    "raise": RuntimeError("a bug"),
}
ENDS = ("wait, then leave", "wait, then time out", "wait", *ERRORS, "wait, then refuse")


class Relay(RelayProtocol):
    """Notes what it is called with; admits as the test says."""

    entry = KINDS["camera"]
    factory: "Factory"

    async def admit(self, place: Place, params: dict[str, list[str]]) -> None:
        self.factory.events.append(("admit", place, params))
        if self.factory.end.startswith("wait"):
            await self.factory.pending
        elif self.factory.end:
            raise ERRORS[self.factory.end]

    def opened(self) -> None:
        self.factory.events.append(("opened", self.state))

    def received(self, payload: bytes, is_binary: bool) -> None:
        self.factory.events.append(("message", payload))
        self.send(text_frame(payload))

    def left(self) -> None:
        self.factory.events.append(("left",))

    def onClose(self, wasClean: bool, code: Any, reason: Any) -> None:
        self.factory.events.append(("closed", wasClean, code, reason))


class Factory(RelayFactory):
    """Builds connections that are opened as usual."""

    protocol = Relay
    end = ""

    events: list[tuple[Any, ...]]
    pending: "Deferred[None]"

    def __init__(self, world: World) -> None:
        super().__init__(world.context)


class General(Factory):
    """Builds connections that Autobahn opens."""

    def _configure(self) -> None:
        super()._configure()
        options: Any = private.shared_options(Relay, self)
        deflating = (Deflating,) if self.context.current.config.server.deflate else ()
        self.protocol = type("Relay", (*deflating, Relay), options)  # type: ignore[assignment]


def shown(value: Any, protocol: Any) -> Any:
    """A value of an attribute, so that it can be compared with one of another connection."""
    if isinstance(value, Deferred):
        result = getattr(value, "result", None)
        return ("Deferred", value.called, "itself" if result is protocol else result)
    if hasattr(value, "preopenIncomingOctetsWireLevel"):
        return vars(value)
    if hasattr(value, "channel_framing"):
        return value.marshal()
    if type(value).__name__ == "ConnectionRequest":
        return {name: getattr(value, name) for name in value.__slots__}
    if value is None or isinstance(value, bool | int | str | bytes | list | dict | tuple):
        return value
    return type(value).__name__


def attributes(protocol: Any, names: set[str]) -> dict[str, Any]:
    """The attributes of a connection with these names."""
    return {name: shown(getattr(protocol, name, "none"), protocol) for name in sorted(names)}


class Side:
    """One way, in a world of its own: opens a connection, and says what was seen of it.

    Attributes:
        protocol: the connection.
        before: its attributes before the TCP connection ended.
        lines: what was logged.
    """

    protocol: Any

    def __init__(self, factory: type[Factory], config: Config = CONFIG) -> None:
        self._world = World(config)
        self._factory = factory(self._world)

    def run(self, segments: Sequence[bytes], end: str) -> list[tuple[Any, ...]]:
        """What is seen of a connection that gets the segments and whose admission ends so."""
        factory, clock = self._factory, self._world.clock
        factory.events, factory.end, factory.pending = [], end, Deferred()
        with logged_lines("tests.unit.opening_ways") as lines:
            transport = Seen(clock, factory.events)
            self.protocol = transport.protocol = factory.buildProtocol(transport.getPeer())
            self.protocol.makeConnection(transport)
            for segment in segments:
                transport.deliver(segment)
                clock.advance(0)
                self._note()
            if end == "wait, then leave":
                transport.end()
            elif end == "wait, then time out":
                clock.advance(10)
            elif end == "wait, then refuse":
                factory.pending.errback(Failure(ERRORS["refuse"]))
            elif end == "wait":
                factory.pending.callback(None)
            factory.pending.addErrback(lambda failure: None)
            self.before = dict(vars(self.protocol))
            self._note()
            clock.advance(5)
            clock.advance(0)
            transport.end()
            self._note()
        self.lines = [re.sub(r"\bc\d+\b", "c", line) for line in lines]
        assert clock.getDelayedCalls() == []
        assert factory.getConnectionCount() == 0
        assert len(self._world.context.connections) == 0
        return factory.events

    def _note(self) -> None:
        relay, refused = self.protocol, self._world.context.tally.refused
        known = (relay.state, relay.data, relay.peer, relay.wasNotCleanReason, relay.localCloseCode)
        count = self._factory.getConnectionCount()
        self._factory.events.append(("now", *known, dict(refused), count))


class Ways:
    """Both ways through the handshake."""

    def __init__(self, deflate: bool = False) -> None:
        server = msgspec.structs.replace(CONFIG.server, deflate=deflate)
        self._config = msgspec.structs.replace(CONFIG, server=server)
        self._build()

    def _build(self) -> None:
        self._usual, self._general = Side(Factory, self._config), Side(General, self._config)

    def check(self, stream: bytes, places: Sequence[int] = (), end: str = "") -> Any:
        """Compares them; returns the connection that was opened as usual, if its head is usual."""
        usual, general = self._usual, self._general
        segments = cut(stream, list(places))
        try:
            assert usual.run(segments, end) == general.run(segments, end)
            assert usual.lines == general.lines
            names = {*vars(general.protocol), *general.before, *vars(usual.protocol)} - OWN
            names -= {"_number", "factory", "transport", *general.protocol.CONFIG_ATTRS}
            assert attributes(usual.protocol, names) == attributes(general.protocol, names)
        except Exception:
            self._build()  # the next stream must not see what these have in progress
            raise
        return usual.protocol


WAYS = Ways()


# -- what heads are made of

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
OFFERED = (
    *(b"permessage-deflate; client_max_window_bits", b"permessage-deflate", b"x; a=b, y", b""),
    *(b'a;b="c', b"permessage-deflate; x=1; x=2", b";", b",", b"A;B=C"),
    *(b"permessage-deflate; server_max_window_bits=9", b"permessage-bzip2, permessage-deflate"),
)
LINES: dict[bytes, tuple[bytes, ...]] = {
    b"Host": (
        *(b"relay.example", b"a:80", b"[::1]:8080", b"", b"a:x", b"a:", b"a b", b"[::1]", b"a:1:2"),
        *(b"evil.test", b"RELAY.example.:80", b"127.0.0.1:8080"),
    ),
    b"Upgrade": (b"websocket", b"WebSocket", b"h2c, websocket", b"websocket,", b"websockets", b""),
    b"Connection": (b"Upgrade", b"keep-alive, Upgrade", b"upgrade", b"close", b"", b"Upgrade,"),
    b"Sec-WebSocket-Key": (KEY, KEY[1:], b"!" + KEY[1:], KEY[:-1] + b"a", b"", KEY + b" "),
    b"Sec-WebSocket-Version": (b"13", b"8", b"+13", b"013", b"1_3", b"x", b"", b"99999999999999"),
}  # fmt: skip
MORE: dict[bytes, tuple[bytes, ...]] = {
    b"Origin": (
        *(b"https://example.org", b"http://example.org:8080", b"https://evil.example", b"null"),
        *(b"", b"x", b"http://", b"http://[", b"http://a:99999", b"http://a:x", b"file:///a"),
        *(b"chrome-extension://a", b"HTTPS://EXAMPLE.ORG", b"https://example.org/", b"http://-"),
        *(b"http://relay.example", b"https://relay.example:8443", b"HTTP://RELAY.EXAMPLE:80"),
    ),
    b"Sec-WebSocket-Protocol": (
        b"relayd",
        b"relayd, a",
        b"b,relayd",
        b"a",
        b"a, b",
        b"a,a",
        b"",
        b"a,,",
        b" a , b ",
    ),
    b"Sec-WebSocket-Extensions": OFFERED,
    b"X-Forwarded-For": (b"203.0.113.9", b"x", b"203.0.113.9, 192.0.2.7", b""),
    b"X-Forwarded-Host": (
        b"relay.example:8443",
        b"evil.test",
        b"evil.test, a",
        b"",
        b"relay.example",
    ),
    b"Authorization": (b"Bearer token", b"Basic x"),
    b"User-Agent": (b"Mozilla/5.0 (X11; Linux x86_64)", b"a:b", b"\xe9", b"\x85", b"a\tb", b"\x0b"),
}
TARGETS = (
    *(b"/ws/camera", b"/ws/camera/a%20b", b"/ws/camera/a/?x=1&y=&x=%C3%A9+b", b"/ws/camera?"),
    *(b"/ws/camera?refuse=close", b"/ws/camera/a;b?c;d", b"/ws/camera#a", b"/ws/camera?a#b"),
    *(b"//ws/camera", b"http://a/ws/camera?x", b"*", b"/ws/camera/\xc3\xa9", b"/ws/camera?\xe9"),
    *(b"/ws/camera/a/b", b"/ws//camera", b"/", b"/ws/camera?x=%", b"/ws/camera?=&&=1", b""),
    *(b"/ws/camera/[", b"/ws/camera?a?b", b"/ws/camera/?refuse=close&refuse=", b"http://["),
)
REQUESTS = (
    *(b"GET %s HTTP/1.1", b"GET  %s HTTP/1.1", b"GET %s HTTP/1.0", b"get %s HTTP/1.1"),
    *(b"POST %s HTTP/1.1", b"GET %s", b" GET %s HTTP/1.1 ", b"GET %s HTTP/1.1 x"),
    b"GET\t%s HTTP/1.1",
)
ODD_LINES = (
    *(b"X", b":x", b"X : y", b" folded", b"X:", b"\xe9: a", b"\x0b", b"X: a\nY: b", b"X: a\rY: b"),
)
COLONS = (b": ", b":", b":  ", b" : ", b":\t")
BEHIND = (
    *(b"", frame(TEXT, b"hello"), frame(TEXT, b"hello")[:3], frame(PING, b"p"), frame(CLOSE, b"")),
    *(frame(TEXT, b"l" * 300) + frame(TEXT, b"b"), frame(3, b"wrong"), b"\r\n\r\n", b"GET / HTTP"),
)


def head(
    request: bytes = b"GET /ws/camera HTTP/1.1",
    *more: bytes,
    instead: tuple[bytes, bytes | None] = (b"", None),
) -> bytes:
    """A request head, with more lines, and another value, or none, instead of a good one."""
    lines = [request]
    for name, values in LINES.items():
        value = instead[1] if name == instead[0] else values[0]
        if value is not None:
            lines.append(name + b": " + value)
    return b"\r\n".join([*lines, *more, b"", b""])


ALL = {**LINES, **MORE}
SINGLE = [
    *(head(b"GET " + target + b" HTTP/1.1") for target in TARGETS),
    *(head(request % b"/ws/camera") for request in REQUESTS),
    *(head(b"GET /ws/camera HTTP/1.1", line) for line in ODD_LINES),
    *(
        head(b"GET /ws/camera HTTP/1.1", name + colon + value)
        for name, values in MORE.items()
        for value in values
        for colon in COLONS
    ),
    *(head(instead=(name, value)) for name, values in LINES.items() for value in (*values, None)),
    # a line that is there already
    *(head(b"GET /ws/camera HTTP/1.1", name + b": " + ALL[name][0]) for name in ALL),
    *(head(b"GET /ws/camera HTTP/1.1", *[name + b": " + ALL[name][0]] * 2) for name in MORE),
    head().replace(b"\r\n", b"\n"),
    head().upper(),
    head().lower(),
    b"\r\n" + head(),
]


CLIENTS = {
    "Chromium": (
        b"Connection: Upgrade\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n"
        b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) Chrome/142.0.0.0\r\nUpgrade: websocket\r\n"
        b"Origin: https://example.org\r\nSec-WebSocket-Version: 13\r\n"
        b"Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en\r\n"
        b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    ),
    "Firefox": (
        b"User-Agent: Mozilla/5.0\r\nAccept: */*\r\nSec-WebSocket-Version: 13\r\n"
        b"Origin: http://example.org:8080\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
        b"Connection: keep-alive, Upgrade\r\nSec-Fetch-Mode: websocket\r\nUpgrade: websocket\r\n"
    ),
    "OkHttp": (
        b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Accept-Encoding: gzip\r\nUser-Agent: okhttp/3.13.1\r\n"
    ),
    "websocket-sharp": (
        b"User-Agent: websocket-sharp/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\n"
    ),
    "nginx": (
        b"X-Forwarded-For: 203.0.113.9\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-protocol: a, b\r\n"
    ),
}

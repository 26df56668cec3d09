"""Builds the connections of one kind of path, with the options that all of them share.

Sits between `handshake` and `websocket`, whose `RelayProtocol` it builds, on Autobahn.
"""

from autobahn.twisted.websocket import WebSocketServerFactory

from relayd import private
from relayd.connection.context import Context
from relayd.connection.deflate import Deflating
from relayd.connection.events import Events
from relayd.connection.handshake import Handshake
from relayd.connection.opening import Opening
from relayd.native.framing import LONGEST_SHORT_PAYLOAD


class RelayFactory(WebSocketServerFactory):
    """Builds the connections of one kind of path.

    Args:
        context: the parts that all connections share.

    Attributes:
        opened: connections that were admitted so far.
        messages: messages from connections that have ended; `Inlet.received_count` counts those of
            an open one.
        answers: frames sent to one connection alone.
    """

    protocol: type[Handshake]
    _events: type[Handshake] | None = None
    noisy = False
    opened = messages = answers = 0

    def __init__(self, context: Context) -> None:
        super().__init__(server="relayd", reactor=context.clock)
        self.context = context
        self._configure()
        context.current.watch(self._configure)

    @property
    def max_message_size(self) -> int:
        """Bytes a message may have; the sender of a larger one is closed with 1009."""
        return self.context.current.config.limits.max_message_size

    def _configure(self) -> None:
        """Applies the current configuration to connections that are built from now on."""
        size = self.max_message_size
        self.setProtocolOptions(
            versions=[13],
            webStatus=False,
            failByDrop=False,
            # our own timers, on the clock of the context, replace Autobahn's
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            maxFramePayloadSize=size,
            maxMessagePayloadSize=size,
            allowNullOrigin=True,
        )
        self.longest_short_frame = min(size, LONGEST_SHORT_PAYLOAD)
        protocol = type(self).protocol
        options = private.shared_options(protocol, self)
        opening = Opening(self, tuple(options))
        options |= opening.attributes
        options["__module__"] = protocol.__module__
        bases: tuple[type, ...] = (protocol,)
        if self.context.current.config.server.deflate and opening.can_compress:
            bases = (Deflating, protocol)
        self.protocol = type(protocol.__name__, bases, options)
        self._options, self._events = options, None

    def build_events(self) -> Handshake | None:
        """Builds a connection that gets events; None if its kind of path has no `/sse` path."""
        protocol = type(self).protocol
        if not protocol.entry.fanned_out:
            return None
        if self._events is None:
            self._events = type(protocol.__name__, (Events, protocol), self._options)
        connection = self._events()
        connection.factory = self
        return connection

    @property
    def kind(self) -> str:
        """The name of the kind of path, `/ws/<kind>`."""
        return self.protocol.entry.name

"""The Autobahn adapter: one open connection on any path, to its last byte.

Sits between `handshake` (which it continues, through `observed`) and the relays, which subclass
`RelayProtocol` and see only `admit`, `opened`, `received` and `left`. Handles the cases that
Autobahn does not: peers that do not read, do not answer, or send too much; exceptions in our code.
"""

import sys
from collections.abc import Coroutine
from typing import Any

from autobahn.util import encode_truncate
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from relayd import logs, wire
from relayd.close_codes import CloseCode, error_before
from relayd.connection.factory import RelayFactory
from relayd.connection.receiving import Receiving
from relayd.errors import ClientError, ErrorCode, Refusal, Unavailable
from relayd.logs import Logger, printable
from relayd.native.framing import LONGEST_REASON, PING_FRAME, text_frame
from relayd.sockets.outbox import build_outbox

__all__ = ["RelayFactory", "RelayProtocol"]

_LOOK = 60.0
"""Seconds after which the end of a token is compared with the wall clock again: it may be set."""


class RelayProtocol(Receiving):
    """One WebSocket connection of relayd.

    A relay overrides `admit`, `opened`, `received`, `left`, and `encode_error` where its path has
    its own form of errors. `left` is called exactly once for every connection whose `admit` was
    called: when either side begins the closing handshake, or when the TCP connection ends without
    one, also during `admit`.
    """

    _log = Logger()

    factory: RelayFactory
    silent = 0.0

    _expiry: IDelayedCall | None = None
    _abortion: IDelayedCall | None = None

    # -- what a relay overrides

    def opened(self) -> None:
        """The handshake is answered; frames may be sent."""

    def received(self, payload: bytes, is_binary: bool) -> None:
        """Handles a whole message. Raises ClientError for a mistake of the sender."""

    def flush(self) -> None:
        """Sends the pending frames of this client, before its pong or an error."""

    def encode_error(self, code: ErrorCode, message: str) -> bytes:
        """The JSON of an error frame."""
        return wire.encode_error(code, message)

    # -- what a relay uses

    @property
    def since(self) -> float:
        """Unix time when it was opened, by the wall clock as that is set now."""
        return self.context.admission.now() - (self.context.clock.seconds() - self._opened_at)

    @property
    def can_send(self) -> bool:
        """Whether frames may be sent."""
        return bool(self.state == self.STATE_OPEN)

    def send(self, frame: bytes) -> None:
        """Sends a complete frame, if the connection is open."""
        if self.outbox is not None:
            self.factory.answers += 1
            self.outbox.write(frame)

    def send_payload(self, payload: bytes) -> None:
        """Sends a JSON payload as one text frame."""
        self.send(text_frame(payload))

    def told(self, code: ErrorCode) -> None:
        """Counts an error frame that this client gets."""
        self.context.tally.told(self.kind, code)

    def _encode_told(self, code: ErrorCode, message: str) -> bytes:
        self.told(code)
        return self.encode_error(code, message)

    def send_error(self, code: ErrorCode, message: str) -> None:
        """Sends an error to this client alone."""
        self.flush()
        self.send_payload(self._encode_told(code, message))
        if logs.is_on(LogLevel.debug):
            self._log.debug("{conn} {path} was told {code}", code=code.value, **self.facts)

    def close(
        self,
        code: int,
        reason: str | None = None,
        error: ErrorCode | None = None,
        message: str | None = None,
    ) -> None:
        """Begins the closing handshake (RFC 6455 section 7.1.2), after all frames sent before.

        Before a code from 4000 on, the client gets an error frame: many libraries show no such
        code. Behind a peer that does not read, it waits with the close frame, for `close_timeout`.

        Args:
            code: the code of the close frame; `[server] restart_code` replaces `RESTART`.
            reason: its reason, cut off after 123 bytes; None for the one of a `CloseCode`.
            error: the code of the error frame; None for the one of `errors.error_before`.
            message: the sentence of the error frame; None for that of its code.
        """
        if self.state != self.STATE_OPEN:
            return
        if code is CloseCode.RESTART:
            code = CloseCode(self.context.current.config.server.restart_code)
        if reason is None:
            reason = code.reason if isinstance(code, CloseCode) else ""
        # frames that its groups published before precede the error
        self._leave()
        error = error or error_before(code, reason)
        if error is not None:
            payload = self._encode_told(error, message or error.sentence)
            if self.outbox is None:
                self.transport.write(text_frame(payload))
            else:
                self.send_payload(payload)
        self._close(int(code), reason)

    def close_refused(self, refusal: Refusal) -> None:
        """Closes as `?refuse=close` has it: with 4000 + the status, and the code as the reason."""
        code = refusal.code
        self.close(4000 + refusal.status, code.value, code, refusal.message)

    def notify(self, code: ErrorCode, message: str) -> None:
        """Sends an error that answers no message."""
        self.flush()
        self.send_payload(self._encode_told(code, message))
        self._log.info("{conn} {path} was warned: {code}", code=code.value, **self.facts)

    def abort(self) -> None:
        """Drops the TCP connection at once."""
        self.transport.abortConnection()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Runs a coroutine of this connection; logs a failure and reports it to the client."""
        Deferred.fromCoroutine(coroutine).addErrback(self._spawn_failed)

    def log_failure(self, what: str, failure: Failure | None = None) -> None:
        """Logs an error of our own, by default the one being handled."""
        self._log.failure("{conn} {path}: {what} failed", failure, what=what, **self.facts)

    def fail(self, what: str, failure: Failure | None = None) -> None:
        """Logs an error of our own, by default the one being handled, and reports it."""
        self.log_failure(what, failure)
        self.send_error(ErrorCode.INTERNAL, ErrorCode.INTERNAL.sentence)

    # -- what Autobahn calls

    def onOpen(self) -> None:
        """The handshake is answered."""
        context, limits = self.context, self.context.current.config.limits
        self._opened_at = context.clock.seconds()
        if self._refusal is not None:
            context.connections.add_refused(self)
            self._open_inlet()
            self.close_refused(self._refusal)
            return
        context.connections.add(self)
        self.factory.opened += 1
        self.outbox = build_outbox(
            self.transport, limits.send_buffer, self._fell_behind, context.drops
        )
        context.keepalive.add(self)
        if self.identity.expires is not None:
            self._expire_later(max(0, self.identity.expires - context.admission.now()))
        self._open_inlet()
        self._log.info("{conn} {path} opened by {peer}", **self.facts)
        self._greet()
        try:
            self.opened()
        except Exception:
            self._log.failure("{conn} {path}: opening failed", **self.facts)
            self.close(CloseCode.INTERNAL_ERROR)

    def failed(self) -> None:
        """Reports the exception that is being handled to the client (`sockets.poller.Owner`).

        A ClientError is the client's mistake; any other exception is ours, and is logged.
        """
        error = sys.exc_info()[1]
        if isinstance(error, ClientError):
            self.send_error(error.code, error.message)
        else:
            self.fail("handling a message")

    def _spawn_failed(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, Unavailable):
            self.send_error(error.code, error.sentence)
            self.close(CloseCode.RESTART, error.code.value)
        elif not isinstance(error, CancelledError):
            self.fail("a task", failure)

    def onPing(self, payload: bytes) -> None:
        """Answers a ping with a pong, behind all frames sent to this client before."""
        if self._observer is not None:
            self._observer.pinged(payload)
        self.flush()
        super().onPing(payload)

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Sends Autobahn's own frames, such as pongs, through the outbox and its limit."""
        if self.outbox is None or self.outbox.finished:
            self.transport.write(data)
        else:
            self.outbox.write(data)

    # -- the end

    def ping(self) -> None:
        """Pings a silent peer (`keepalive.Peer`), with a heartbeat if it has asked for those."""
        self.send(PING_FRAME)
        self._send_heartbeat()
        self._log.debug("{conn} {path} was silent and is pinged", **self.facts)

    def _greet(self) -> None:
        self._send_heartbeat()

    def _send_heartbeat(self) -> None:
        assert self._request is not None
        if "1" in self._request.params.get("heartbeat", ()):
            self.send_payload(wire.encode_heartbeat(self.context.keepalive.within))

    def close_silent(self) -> None:
        """Closes with 4002, since the peer stayed silent (`keepalive.Peer`)."""
        self.close(CloseCode.IDLE)

    def _expire_later(self, remaining: float) -> None:
        self._expiry = self.context.clock.callLater(min(remaining, _LOOK), self._look_at_expiry)

    def _look_at_expiry(self) -> None:
        self._expiry = None
        assert self.identity.expires is not None
        remaining = self.identity.expires - self.context.admission.now()
        if remaining > 0:
            self._expire_later(remaining)
        else:
            self.close(CloseCode.TOKEN_EXPIRED)

    def _fell_behind(self) -> None:
        self._log.warn(
            "{conn} {path}: closed with 4003: it reads too slowly; the frames that waited "
            "for it were dropped",
            **self.facts,
        )
        self.close(CloseCode.TOO_SLOW)

    def _close(self, code: int, reason: str) -> None:
        if self.state == self.STATE_OPEN:
            told = encode_truncate(reason, LONGEST_REASON)
            self.sendCloseFrame(code=code, reasonUtf8=told, isReply=False)

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        """Begins or answers the closing handshake, and bounds its time by `close_timeout`."""
        self._stop_parsing()
        # frames that its groups published before precede the close
        self._leave()
        if self.outbox is not None:
            self.outbox.finish()
        super().sendCloseFrame(code, reasonUtf8, isReply)
        self._abort_later()

    def dropConnection(self, abort: bool = False) -> None:
        """Ends the TCP connection when all sent bytes are read, or after `close_timeout`.

        No effect on a second violation of the protocol: the first was answered with a close, and
        the peer's answer to that close, which makes the end a clean one, is still pending.

        Args:
            abort: ignored. Autobahn would abort, and the reset could discard our close frame.
        """
        if self.state == self.STATE_CLOSING and not self.wasClean:
            return
        self._stop_parsing()
        super().dropConnection(False)
        self._abort_later()

    def _abort_later(self) -> None:
        """Bounds the time that the rest of a connection may take."""
        if self._abortion is None and not self._gone:
            timeout = self.context.current.config.keepalive.close_timeout
            timeout = self.context.connections.time_to_close(self, timeout)
            self._abortion = self.context.clock.callLater(timeout, self._abort_now)

    def _abort_now(self) -> None:
        self._abortion = None
        self.abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The TCP connection has ended, in any state."""
        self._gone = True
        for timer in (self._expiry, self._abortion):
            if timer is not None:
                timer.cancel()
        self._expiry = self._abortion = None
        super().connectionLost(reason)
        if self.outbox is not None:
            self.outbox.close()
        messages = 0
        if self._inlet is not None:
            messages, self._inlet.received_count = self._inlet.received_count, 0
            self.factory.messages += messages
        self.context.keepalive.remove(self)
        self.context.connections.remove(self)
        if self.outbox is not None or self.localCloseCode is not None:
            self.context.tally.ended(self.localCloseCode, self.remoteCloseCode)
        if self.outbox is not None:
            replaced = self.outbox.replaced
            why = self._reason()
            self._log.info(
                "{conn} {path} closed: sent {sent}, got {got}{because}; it was open for "
                "{seconds:.1f} s, {messages} messages came{more}",
                sent=self.localCloseCode or "no code",
                got=self.remoteCloseCode or "no code",
                reason=why,
                because=f" ({why})" if why else "",
                seconds=round(self.context.clock.seconds() - self._opened_at, 3),
                messages=messages,
                left_out=replaced,
                more=f"; {replaced} poses left out" if replaced else "",
                **self.facts,
            )

    def _reason(self) -> str:
        """The reason given by the side that began the close."""
        # Autobahn keeps ours as UTF-8, whatever its types say
        ours: Any = self.localCloseReason
        return printable(ours.decode() if ours else self.remoteCloseReason or "")

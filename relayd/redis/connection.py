"""One connection to Redis: commands go out, their replies come in, in the same order.

Stands on `replies`; `dial` connects it, `link` keeps one up. Its guarantees:

- Unanswered commands are bounded, in number and in bytes; a command over the bounds is refused at
  once.
- A caller waits for a reply no longer than the deadline. A late reply keeps its place in the queue,
  so replies and commands stay matched; a connection that received nothing meanwhile is ended.
- When the connection ends, `ended` fires first, then all pending calls fail.
- All commands of one turn of the reactor are one write.

txredisapi parses the replies (`dial`). Its own queue is not used: the queue has no bound, and
creates a Deferred or two for each reply, also for replies without a receiver.
"""

import re
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from relayd.errors import RedisUnanswered, RedisUnavailable
from relayd.logs import Logger
from relayd.redis.commands import pack
from relayd.redis.replies import WRONG_SERVER, as_exception, code_of, describe
from relayd.redis.settings import Settings
from relayd.redis.store_clock import ASK_TIME, StoreClock

Refused = Callable[[str], bool]

_ASK_REPLICATION = pack(("INFO", "replication"))
_REPLICATION = re.compile(rb"^master_replid:(\w+)", re.MULTILINE)
_PATIENCE = 4  # deadlines after which a connection is ended although something still comes
_GRACE = 0.02  # seconds after a deadline, to read replies that are in the socket already
_LAST_WORDS = 1.0  # seconds for the commands that were written before `close`


class _Call:
    """A command whose reply is awaited."""

    __slots__ = ("answer", "due", "noted", "size")

    def __init__(self, size: int, due: float, noted: bool) -> None:
        self.size = size
        self.noted = noted
        self.due = due
        self.answer: Deferred[Any] | None = Deferred()

    def detach_answer(self) -> "Deferred[Any] | None":
        """Returns the Deferred for the caller to fire; None if that was done before."""
        answer, self.answer = self.answer, None
        return answer


class Connection:
    """A connection for commands.

    Args:
        label: the server's name, for the log.
        clock: provides IReactorTime.
        settings: deadline and bounds.
        refused: called with each error reply; returns whether it is logged there.

    Attributes:
        label: as given.
        process: identifies the Redis process, once `greeting` has asked for its run id; else the
            label.
        replication: identifies the history of the data that the Redis process has, once `greeting`
            has asked for it: a promoted replica has another than its master; else empty.
        store_clock: the server's clock, once the greeting has asked for it.
        ended: fires with the reason, once, as soon as nothing more can be sent.
        closed: fires when the transport is closed.
        alive: set to True whenever bytes come; cleared at a deadline.
    """

    log = Logger()

    def __init__(
        self, label: str, clock: Any, settings: Settings, refused: Refused = lambda _: False
    ) -> None:
        self.label = label
        self.process = label
        self.replication = ""
        self.store_clock = StoreClock()
        self.ended: Deferred[str] = Deferred()
        self.closed: Deferred[None] = Deferred()
        self.alive = False
        self._clock = clock
        self._settings = settings
        self._refused = refused
        self._transport: Any = None
        self._reason: str | None = None
        # unanswered commands, oldest first: a call, or the size of one without a receiver
        self._pending: deque[_Call | int] = deque()
        self._pending_bytes = 0
        self._out: list[bytes] = []
        self._timer: Any = None
        self._refusal_logged = False
        self._last_answers = 0  # that `close` waits for

    # for its users

    def call(self, command: bytes) -> "Deferred[Any]":
        """Sends a command, as `commands.pack` makes it.

        Returns:
            A Deferred that fires with the reply: bytes, int, None or a list of these. It fails
            with RedisUnavailable or RedisRefused, and never later than the deadline. If it fails
            with RedisUnanswered, the command may have been executed; else it was not.
        """
        if self._fits(len(command)):
            return self.send(command)
        refused: Deferred[Any] = Deferred()
        refused.errback(RedisUnavailable(f"{self.label}: too many commands wait for an answer"))
        return refused

    def send(self, command: bytes, *, noted: bool = True) -> "Deferred[Any]":
        """As `call`, but exempt from the bounds: for greetings, pings, and restored channels.

        Args:
            command: as in `call`.
            noted: whether it is needed, so that a refusal is reported.
        """
        call = _Call(len(command), self._clock.seconds() + self._settings.deadline, noted)
        answer = call.answer
        assert answer is not None
        if self._reason is not None:
            answer.errback(RedisUnavailable(f"{self.label}: {self._reason}"))
            return answer
        self._pending.append(call)
        self._pending_bytes += call.size
        self._write(command)
        if self._timer is None:
            self._timer = self._clock.callLater(self._settings.deadline, self._overdue)
        return answer

    def learn_time(self) -> "Deferred[None]":
        """Asks for the server's time, for `store_clock`; fails as `send`."""
        asked = self._clock.seconds()

        def learn(reply: Any) -> None:
            self.store_clock.learn(asked, self._clock.seconds(), reply)

        return self.send(ASK_TIME).addCallback(learn)

    def refresh(self) -> None:
        """Learns anew what changes slowly; called with each ping."""
        # the ping shows what is wrong
        self.learn_time().addErrback(lambda _: None)
        self.send(_ASK_REPLICATION).addCallbacks(self.learn_replication, lambda _: None)

    def learn_replication(self, reply: Any) -> None:
        """Takes in the answer to `INFO replication`; ignores an error."""
        found = _REPLICATION.search(reply) if type(reply) is bytes else None
        if found:
            self.replication = found[1].decode()

    def send_unawaited(self, command: bytes) -> bool:
        """Sends a command without a receiver for its reply; an error reply is logged once.

        Half of the bounds stay free for commands whose reply is awaited.

        Returns:
            Whether it was sent.
        """
        size = len(command)
        if self._reason is not None or not self._fits(size, share=2):
            return False
        self._pending.append(size)
        self._pending_bytes += size
        self._write(command)
        return True

    def abort(self, reason: str) -> None:
        """Ends the connection at once; written commands may be lost."""
        if self._end(reason) and self._transport is not None:
            self._transport.abortConnection()

    def close(self) -> "Deferred[None]":
        """Ends the connection. Pending commands are still written, for at most a second.

        Returns:
            A Deferred that fires when the transport is closed.
        """
        self._flush()
        unanswered = len(self._pending)
        waiter: Deferred[None] = Deferred()
        self.closed.addCallback(waiter.callback)
        if self._end("it is closed"):
            timer = self._clock.callLater(_LAST_WORDS, self._transport.abortConnection)
            self.closed.addCallback(lambda _: timer.active() and timer.cancel())
            # Redis drops commands that it has not read yet as soon as it cannot write a reply
            self._last_answers = unanswered
            if not unanswered:
                self._transport.loseConnection()
        return waiter

    # for its protocol

    def made(self, transport: Any) -> None:
        """The transport is connected."""
        self._transport = transport
        if self._reason is not None:
            transport.abortConnection()

    def received(self, reply: Any) -> None:
        """A whole reply came in."""
        if self._reason is not None:
            self._last_answers -= 1
            if not self._last_answers:
                self._transport.loseConnection()
            return
        if not self._pending:  # such as "max number of clients reached" before Redis closes
            is_error = isinstance(reply, Exception)
            self.abort(str(reply) if is_error else "a reply without a command")
            return
        entry = self._pending.popleft()
        if type(entry) is int:
            self._pending_bytes -= entry
            if isinstance(reply, Exception):
                self._unawaited_refused(str(reply))
            return
        assert isinstance(entry, _Call)
        self._pending_bytes -= entry.size
        if isinstance(reply, Exception):
            self._call_refused(entry, str(reply))
            return
        answer = entry.detach_answer()
        if answer is not None:
            answer.callback(reply)

    def lost(self, reason: Failure) -> None:
        """The transport is closed."""
        self._end(describe(reason.value) if reason.value else "it is lost")
        self.closed.callback(None)

    def _fits(self, size: int, share: int = 1) -> bool:
        """Whether a command is within the bounds, divided by `share`."""
        return (
            len(self._pending) * share < self._settings.max_pending
            and (self._pending_bytes + size) * share <= self._settings.max_pending_bytes
        )

    def _write(self, command: bytes) -> None:
        if not self._out:
            self._clock.callLater(0, self._flush)
        self._out.append(command)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._reason is None:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _call_refused(self, call: _Call, text: str) -> None:
        if call.noted:
            self._refused(text)
        if code_of(text) in WRONG_SERVER:
            self.abort(text)
        answer = call.detach_answer()
        if answer is not None:
            answer.errback(as_exception(text, self.label))

    def _unawaited_refused(self, text: str) -> None:
        if not self._refused(text) and not self._refusal_logged:
            self._refusal_logged = True
            self.log.warn("{label} refuses commands: {text}", label=self.label, text=text)
        if code_of(text) in WRONG_SERVER:
            self.abort(text)

    def _end(self, reason: str) -> bool:
        """Ends the connection; False if it has ended before."""
        if self._reason is not None:
            return False
        self._reason = reason
        pending, self._pending = self._pending, deque()
        self._pending_bytes = 0
        unwritten, self._out = len(self._out), []
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.ended.callback(reason)
        # each command is one item of the output
        written = len(pending) - unwritten
        for place, entry in enumerate(pending):
            if isinstance(entry, _Call):
                self._fail(entry, reason, RedisUnanswered if place < written else RedisUnavailable)
        return True

    def _fail(
        self, call: _Call, reason: str, error: type[RedisUnavailable] = RedisUnanswered
    ) -> None:
        answer = call.detach_answer()
        if answer is not None:
            answer.errback(error(f"{self.label}: {reason}"))

    def _overdue(self) -> None:
        # A reactor that was held up runs its timers before it reads: let it read first.
        self.alive = False
        self._timer = self._clock.callLater(_GRACE, self._judge)

    def _judge(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        deadline = self._settings.deadline
        silent = f"no answer in {deadline:.1f} s"
        calls = [entry for entry in self._pending if isinstance(entry, _Call)]
        late = [call for call in calls if call.due <= now]
        if late and (not self.alive or now - late[0].due > _PATIENCE * deadline):
            self.abort(silent)
            return
        if calls:  # also if all are late: bytes may still come
            then = deadline if len(late) == len(calls) else calls[len(late)].due - now
            self._timer = self._clock.callLater(then, self._overdue)
        for call in late:
            self._fail(call, silent)


class Receivers(Protocol):
    """Has the receiver of each channel, such as a dict."""

    def get(self, channel: bytes, /) -> Callable[[bytes], None] | None: ...


class SubscriberConnection(Connection):
    """A connection for subscriptions.

    Args:
        receivers: the receiver of each channel's messages.
        refused: as for `Connection`.
    """

    def __init__(
        self,
        label: str,
        clock: Any,
        settings: Settings,
        receivers: Receivers,
        refused: Refused = lambda _: False,
    ) -> None:
        super().__init__(label, clock, settings, refused)
        self._receivers = receivers

    def deliver_to(self, receivers: Receivers) -> None:
        """Delivers to other receivers from now on."""
        self._receivers = receivers

    def refresh(self) -> None:
        """Does nothing: TIME and INFO are not for a connection with subscriptions."""

    def received(self, reply: Any) -> None:
        if (
            type(reply) is not list
            or len(reply) != 3
            or reply[0] != b"message"
            or type(reply[1]) is not bytes
            or type(reply[2]) is not bytes
        ):
            # every other reply answers one command, in order: confirmations, pongs, errors
            super().received(reply)
            return
        self.deliver(reply[1], reply[2])

    def deliver(self, channel: bytes, payload: bytes) -> None:
        """Hands a message to its receiver."""
        receive = self._receivers.get(channel)
        if receive is None or self._reason is not None:
            return
        try:
            receive(payload)
        except Exception:
            self.log.failure("{label}: a receiver failed", label=self.label)

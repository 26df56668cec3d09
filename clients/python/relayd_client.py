"""relayd from Python, for robots, tests and bots: copy this file; `pip install websockets`.

    import asyncio
    from relayd_client import Camera, Pose

    async def main():
        async with Camera("wss://relay.example", "demo") as camera:
            async for event in camera:
                match event:
                    case Pose(x=x, z=z):
                        print(x, z)

    asyncio.run(main())

`relayd_twisted.py` is the same for Twisted. Every client connects again by itself, as
docs/protocol.md of relayd asks for under Reconnecting: after a random wait that doubles from try to
try. Names and behaviour are those of clients/web/relayd.js.
"""

import asyncio
import contextlib
import inspect
import json
import logging
import random
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

__all__ = [
    "Assignment",
    "Camera",
    "Chat",
    "Connection",
    "Event",
    "Gap",
    "Headset",
    "HeadsetPresence",
    "Message",
    "Phone",
    "Pose",
    "Problem",
    "Published",
    "Push",
    "RelaydError",
    "Sent",
    "State",
]

_log = logging.getLogger("relayd_client")

FIRST_WAIT = 1.0  # s, the longest one before the first try; doubles from try to try
LONGEST_WAIT = 30.0
RETRY_AFTER = 5.0  # where a refusal of 429 or 503 does not say how long
SLOWER = 3  # after 4003 and 4004, the wait is that of so many tries later
HEADSET_WAIT = 2.0  # between two looks for the headset
CONNECT_LIMIT = 15.0
STABLE_AFTER = 5.0  # only then the next wait is the first one again
LATE = 15.0  # a heartbeat may be so late before the connection counts as dead
SILENT = 45.0  # and so late the first one, which says when the next ones come
COPY_WITHIN = 10.0  # without its copy by then, a message's connection counts as dead
TRY_AGAIN_AFTER = 3.0  # after an error that passes
MOST_UNSENT = 4096  # bytes; a pose is out of date soon, and is not sent behind so much
MOST_EVENTS = 1000  # that wait for `async for`; then nothing more is read

FINAL = {1000, 1002, 1007, 1009, 4001}
PASSING = {"outcome_unknown", "store_unavailable", "database_unavailable", "internal_error"}
OF_CONNECTION = {
    *("rate_limited", "too_slow", "no_pong", "kicked", "banned", "token_expired", "token_revoked"),
    "replaced",
}
"""Errors about the connection, most of them before its end, and not about a message."""


class RelaydError(Exception):
    """A refusal, a close or an error frame.

    Attributes:
        code: the stable code of docs/protocol.md, such as `forbidden` or `replaced`; empty for a
            close without one.
        message: a sentence for people.
        status: the HTTP status of a refusal, or 0.
        close_code: that of the close frame, or 0.
        retry_after: seconds that a refusal asks for, or 0.
        tag: that of the request.
    """

    def __init__(
        self,
        message: str,
        code: str = "",
        status: int = 0,
        close_code: int = 0,
        retry_after: float = 0.0,
        tag: str = "",
    ) -> None:
        super().__init__(message or code or f"closed with {close_code}")
        self.message = str(self)
        self.code = code
        self.status = status
        self.close_code = close_code
        self.retry_after = retry_after
        self.tag = tag

    @classmethod
    def of(cls, frame: Mapping[str, Any], status: int = 0, close_code: int = 0) -> "RelaydError":
        """The error of an error frame, or of a JSON body."""
        words = {name: frame.get(name) for name in ("message", "error", "tag")}
        message, code, tag = (text if isinstance(text, str) else "" for text in words.values())
        return cls(message, code, status, close_code, tag=tag)


@dataclass(frozen=True)
class State:
    """The state of a client has changed.

    Attributes:
        name: `idle`, `connecting`, `connected`, `lost` (it tries again in `again_in` seconds),
            `waiting` (as lost, since the other side is not there yet), `refused` (needs a change,
            or a person who calls `connect`) or `closed` (by `close`).
        error: what ended the connection.
        again_in: seconds until the next try; None if there is none.
    """

    name: str
    error: RelaydError | None = None
    again_in: float | None = None


@dataclass(frozen=True)
class Problem:
    """An error about what this client sent, or about its connection."""

    error: RelaydError


@dataclass(frozen=True)
class Pose:
    """A pose of the group, one's own too; `sender` with the query `senders=1` alone."""

    x: float | None
    y: float | None
    z: float | None
    sender: str | None = None


@dataclass(frozen=True)
class Message:
    """A chat message, each once and in order, over reconnects too."""

    text: str
    id: int
    time: str
    user: str | None
    tag: str
    mine: bool


@dataclass(frozen=True)
class Sent:
    """The copy of a message of one's own has come: it is in the history."""

    tag: str


@dataclass(frozen=True)
class Gap:
    """Messages may be missing before or between those that follow."""

    sentence: str


@dataclass(frozen=True)
class Assignment:
    """What a headset is to show: the ids of up to three quizzes, and of an action."""

    quiz_ids: tuple[int, ...]
    action_id: int


@dataclass(frozen=True)
class HeadsetPresence:
    """Whether the headset of a phone is there."""

    here: bool


@dataclass(frozen=True)
class Published:
    """What was published to a topic."""

    data: dict[str, Any]


Event = State | Problem | Pose | Message | Sent | Gap | Assignment | HeadsetPresence | Published
Token = str | Callable[[bool], str | Awaitable[str | None] | None] | None


# -- what a network does; below is that of asyncio, in relayd_twisted.py that of Twisted


class Timer(Protocol):
    """A call that comes later."""

    def cancel(self) -> Any: ...


class Promise(Protocol):
    """Something to await."""

    awaitable: Any

    def resolve(self) -> None: ...
    def reject(self, error: Exception) -> None: ...


class Link(Protocol):
    """A try to connect, then a WebSocket."""

    @property
    def is_busy(self) -> bool:
        """Whether much that was sent has not left this process."""

    def send(self, text: str) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def ended(self) -> Any: ...


class Listener(Protocol):
    """Notices what happens to a link."""

    def opened(self) -> None: ...
    def received(self, text: str) -> None: ...
    def closed(self, code: int, reason: str) -> None: ...
    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> None: ...
    def failed(self, sentence: str) -> None: ...


class Network(Protocol):
    """Connections and time."""

    def dial(self, url: str, headers: dict[str, str], listener: Listener) -> Link: ...
    def later(self, seconds: float, action: Callable[[], Any]) -> Timer: ...
    def settle(
        self, value: Any, done: Callable[[Any], None], failed: Callable[[BaseException], None]
    ) -> None: ...
    def promise(self) -> Promise: ...


# -- the clients


class Connection:
    """One path of relayd; `Camera`, `Chat` and the others below are for the kinds of paths.

    Events come from `async for event in client`, which ends when the state is `closed` or
    `refused`; or to `on_event`, in the thread of the loop.

    Args:
        base: the address of relayd, `http:`, `https:`, `ws:` or `wss:`, with the folder if a proxy
            has it in one.
        path: such as `/ws/camera/demo`.
        query: parameters of the path.
        token: a JWT, or a function that returns one, perhaps as an awaitable; it is called with
            True when the last one has expired. It may return None.
        on_event: gets each event.
        network: `TwistedNetwork(reactor)`; by default asyncio.
        pace: tests set it below 1, and every wait is shorter by it.

    Attributes:
        state: the last state.
    """

    def __init__(
        self,
        base: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        token: Token = None,
        on_event: Callable[[Event], Any] | None = None,
        network: Network | None = None,
        pace: float = 1.0,
    ) -> None:
        self.state = State("idle")
        self._base = base
        self._path = path
        self._given_query = dict(query or {})
        self._token = token
        self._on_event = on_event
        self._network: Network = network or AsyncioNetwork()
        self._pace = pace
        self._offered: str | None = None  # the token of the last try
        self._fresh: str | None = None  # a new one for the next try
        self._try: _Try | None = None
        self._left: Link | None = None  # the last one that was closed
        self._tries = 0
        self._timers: dict[str, Timer] = {}
        self._last: dict[
            str, Any
        ] = {}  # the last frame: the error, before a close with 4000 or more
        self._heartbeat = 0.0  # seconds within which the next frame comes; 0 if nobody said so
        self._events: deque[Event] = deque()
        self._awaited: Promise | None = None

    def connect(self) -> None:
        """Connects now, whatever is under way."""
        self._leave(gently=True)
        attempt = self._try = _Try(self)
        self._become(State("connecting"))
        self._after("limit", CONNECT_LIMIT, self.drop)
        fresh, self._fresh = self._fresh, None
        if fresh is not None or not callable(self._token):
            self._dial(attempt, fresh or self._token)  # type: ignore[arg-type]
            return
        self._ask_for_token(
            False,
            lambda token: self._dial(attempt, token),
            lambda error: self._have_no_token(attempt, error),
        )

    def close(self) -> None:
        """Ends the connection for good, or until `connect`."""
        self._leave(gently=True)
        self._become(State("closed"))

    def drop(self) -> None:
        """Gives up a connection that seems dead, without waiting for the other side to agree."""
        if self.state.name not in ("refused", "closed"):
            self._leave()
            self._wait(None)

    def send(self, frame: Mapping[str, object]) -> bool:
        """Sends an object. Returns whether there was a connection for it."""
        if self.state.name != "connected" or self._try is None or self._try.link is None:
            return False
        self._try.link.send(json.dumps(frame, ensure_ascii=False, allow_nan=False))
        return True

    async def __aenter__(self) -> Any:
        self.connect()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()
        if self._left is not None:
            await self._left.ended()

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self.state.name in ("closed", "refused"):
                raise StopAsyncIteration
            self._awaited = self._network.promise()
            await self._awaited.awaitable
        event = self._events.popleft()
        if len(self._events) == MOST_EVENTS // 2 and self._try and self._try.link:
            self._try.link.resume()
        return event

    # -- for the kinds of paths

    def _query(self) -> dict[str, object]:
        return {}

    def _received(self, frame: dict[str, Any]) -> None:
        if "error" in frame:
            self._tell(Problem(RelaydError.of(frame)))

    def _patience(self, error: RelaydError) -> float | None:
        """Seconds to wait after a refusal that is not final for this kind; None for any other."""
        return None

    def _changed(self) -> None:
        """The state has changed."""

    def _tell(self, event: Event) -> None:
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:
                _log.exception("on_event failed with %r", event)
            return
        self._events.append(event)
        if len(self._events) == MOST_EVENTS and self._try and self._try.link:
            self._try.link.pause()
        awaited, self._awaited = self._awaited, None
        if awaited is not None:
            awaited.resolve()

    def _after(self, name: str, seconds: float, action: Callable[[], Any]) -> None:
        self._cancel(name)
        self._timers[name] = self._network.later(
            seconds * self._pace, lambda: (self._timers.pop(name, None), action())
        )

    def _cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    # -- one try after the other

    def _ask_for_token(
        self,
        renew: bool,
        done: Callable[[Any], None],
        failed: Callable[[BaseException], Any],
    ) -> None:
        assert callable(self._token)
        try:
            value = self._token(renew)
        except Exception as error:
            failed(error)
        else:
            self._network.settle(value, done, failed)

    def _have_no_token(self, attempt: "_Try", error: BaseException) -> None:
        if self._try is attempt:
            self._wait(RelaydError(f"The token could not be had: {error}", "no_token"))

    def _dial(self, attempt: "_Try", token: str | None) -> None:
        if self._try is not attempt:
            return  # somebody was quicker
        self._offered = token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        attempt.link = self._network.dial(self._url(), headers, attempt)

    def _url(self) -> str:
        parts = urlsplit(self._base)
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        query = urlencode({**self._given_query, **self._query(), "heartbeat": 1})
        return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + self._path, query, ""))

    def _opened(self) -> None:
        self._cancel("limit")
        self._after("stable", STABLE_AFTER, self._settle_down)
        self._after("silence", SILENT, self.drop)
        self._become(State("connected"))

    def _settle_down(self) -> None:
        self._tries = 0

    def _text_received(self, text: str) -> None:
        try:
            frame = json.loads(text)
        except ValueError:
            return
        if not isinstance(frame, dict):
            return
        seconds: Any = frame.get("seconds")
        beats = frame.get("status") == "heartbeat" and isinstance(seconds, int | float)
        if beats:
            self._heartbeat = float(seconds)
        if self._heartbeat:
            self._after("silence", self._heartbeat / self._pace + LATE, self.drop)
        else:  # it would have come first: this server has none
            self._cancel("silence")
        if not beats:
            self._last = frame
            self._received(frame)

    def _ended(self, error: RelaydError) -> None:
        code, status = error.close_code, error.status
        self._leave()
        patience = self._patience(error)
        if patience is not None:
            self._come_back("waiting", error, patience * random.uniform(0.5, 1))
        elif status in (429, 503):
            self._wait(error, error.retry_after or RETRY_AFTER)
        elif code == 4005 or status == 401:
            self._renew(error)
        elif status >= 500 or status == 408:
            self._wait(error)
        elif status or code in FINAL:
            self._become(State("refused", error))
        else:
            if code in (4003, 4004):
                self._tries = max(self._tries, SLOWER)
            self._wait(error)

    def _renew(self, error: RelaydError) -> None:
        """Asks for a new token; without one, a new try would end in the same way."""
        if not callable(self._token):
            self._become(State("refused", error))
            return
        attempt = self._try = _Try(self)
        self._become(State("lost", error))

        def done(token: str | None) -> None:
            if self._try is not attempt:
                return
            if not token or token == self._offered:
                self._become(State("refused", error))
            else:
                self._fresh = token
                self._wait(error)

        self._ask_for_token(True, done, lambda _: done(None))

    def _wait(self, error: RelaydError | None, least: float = 0.0) -> None:
        """Waits a random time: after a restart, all clients begin to wait at once."""
        longest = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(self._tries, 10))
        self._tries += 1
        self._come_back("lost", error, least + random.uniform(0, longest))

    def _come_back(self, name: str, error: RelaydError | None, wait: float) -> None:
        # first, since whoever gets the state may close the client
        self._after("retry", wait, self.connect)
        self._become(State(name, error, wait * self._pace))

    def _leave(self, gently: bool = False) -> None:
        for name in tuple(self._timers):
            self._cancel(name)
        self._last = {}
        self._heartbeat = 0.0
        left, self._try = self._try, None
        if left is None or left.link is None or left.over:
            return
        if gently:
            self._left = left.link
            left.link.close()
        else:
            left.link.abort()

    def _become(self, state: State) -> None:
        self.state = state
        self._tell(state)
        self._changed()


class _Try:
    """One try of a connection; once it is abandoned, it has nothing more to say."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.link: Link | None = None
        self.over = False

    @property
    def _counts(self) -> bool:
        return self._connection._try is self

    def opened(self) -> None:
        if self._counts:
            self._connection._opened()

    def received(self, text: str) -> None:
        if self._counts:
            self._connection._text_received(text)

    def closed(self, code: int, reason: str) -> None:
        last = self._connection._last if code >= 4000 else {}
        status = code - 4000 if 4400 <= code < 4600 else 0
        error = RelaydError.of(last, status, code)
        if status and not error.code:
            error.code = reason
        self._end(error)

    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        try:
            frame = json.loads(body)
        except ValueError:
            frame = None
        error = RelaydError.of(frame if isinstance(frame, dict) else {}, status)
        with contextlib.suppress(ValueError):
            error.retry_after = float(headers.get("retry-after", 0))
        self._end(error)

    def failed(self, sentence: str) -> None:
        self._end(RelaydError(sentence, close_code=1006))

    def _end(self, error: RelaydError) -> None:
        self.over = True
        if self._counts:
            self._connection._ended(error)


def _path(kind: str, name: str) -> str:
    return f"/ws/{kind}/{quote(name, safe='')}" if name else f"/ws/{kind}"


class Camera(Connection):
    """A camera group: events are `Pose`, and what every client has, `State` and `Problem`."""

    def __init__(self, base: str, group: str = "", **options: Any) -> None:
        super().__init__(base, _path("camera", group), **options)

    def move(self, x: float | None, y: float | None, z: float | None) -> bool:
        """Sends a pose, unless older ones still wait here. Returns whether it was sent."""
        link = self._try.link if self._try else None
        return link is not None and not link.is_busy and self.send({"x": x, "y": y, "z": z})

    def _received(self, frame: dict[str, Any]) -> None:
        if "error" in frame:
            super()._received(frame)
        else:
            self._tell(Pose(*(frame.get(each) for each in ("x", "y", "z", "sender"))))


class Push(Connection):
    """A topic of server push: events are `Published`."""

    def __init__(self, base: str, topic: str, **options: Any) -> None:
        super().__init__(base, _path("push", topic), **options)

    def _received(self, frame: dict[str, Any]) -> None:
        self._tell(Published(frame))  # whatever members it has: a program published it


class _Pair(Connection):
    """A side of a pair; `secret`, 16 to 256 characters, binds the pair to those who know it."""

    side = ""

    def __init__(self, base: str, uuid: str, secret: str | None = None, **options: Any) -> None:
        if secret is not None:
            options["query"] = {**(options.get("query") or {}), "secret": secret}
        super().__init__(base, _path(f"difficulty/{self.side}", uuid), **options)


class Headset(_Pair):
    """The headset's side of a pair: events are `Assignment`."""

    side = "unity"

    def _received(self, frame: dict[str, Any]) -> None:
        if "error" in frame:
            super()._received(frame)
        elif "quiz_id" in frame:
            self._tell(Assignment(tuple(frame["quiz_id"]), frame["action_id"]))


class _Request:
    """What a phone has asked for."""

    def __init__(self, frame: dict[str, object], promise: Promise) -> None:
        self.frame = frame
        self.promise = promise


class Phone(_Pair):
    """The phone's side of a pair: events are `HeadsetPresence`.

    While no headset is connected, the state is `waiting`, and it looks again every two seconds.
    """

    side = "android"

    def __init__(self, base: str, uuid: str, secret: str | None = None, **options: Any) -> None:
        super().__init__(base, uuid, secret, **options)
        self._requests: dict[str, _Request] = {}

    def ask(self, difficulty: int) -> Any:
        """Asks for quizzes of a difficulty; it is done when the headset has them.

        It is asked again, with the same tag, after a lost connection: the headset gets it once.

        Returns:
            An awaitable, of Twisted a Deferred.

        Raises:
            RelaydError: from the awaitable: the answer is an error, or the client has ended.
        """
        tag = secrets.token_urlsafe(16)
        request = _Request({"difficulty": difficulty, "tag": tag}, self._network.promise())
        if self.state.name in ("refused", "closed"):
            request.promise.reject(self.state.error or RelaydError("It was closed.", "closed"))
        else:
            self._requests[tag] = request
            self.send(request.frame)
        return request.promise.awaitable

    def _patience(self, error: RelaydError) -> float | None:
        return HEADSET_WAIT if error.code == "no_unity" else None

    def _received(self, frame: dict[str, Any]) -> None:
        status = frame.get("status")
        if status in ("unity_connected", "unity_disconnected"):
            self._tell(HeadsetPresence(status == "unity_connected"))
        elif status in ("received", "error"):
            self._answered(frame)
        else:
            super()._received(frame)

    def _answered(self, frame: dict[str, Any]) -> None:
        tag = str(frame.get("tag"))
        request = self._requests.get(tag)
        if request is None:
            return
        if frame.get("error") == "outcome_unknown":
            self._after(tag, TRY_AGAIN_AFTER, lambda: self.send(request.frame))
            return
        del self._requests[tag]
        if frame["status"] == "received":
            request.promise.resolve()
        else:
            request.promise.reject(RelaydError.of(frame))

    def _changed(self) -> None:
        if self.state.name == "connected":
            self._tell(HeadsetPresence(True))
            for request in tuple(self._requests.values()):
                self.send(request.frame)
        elif self.state.name in ("refused", "closed"):
            requests, self._requests = self._requests, {}
            for request in requests.values():
                request.promise.reject(self.state.error or RelaydError("It was closed.", "closed"))


@dataclass
class Outgoing:
    """A message of one's own that its copy has not acknowledged yet."""

    text: str
    tag: str
    on_its_way: bool = False


class Chat(Connection):
    """A chat room: events are `Message`, `Sent` and `Gap`.

    What is said stays in `outgoing` until its own copy acknowledges it, or a `Problem` with its tag
    says that it failed. Only one is on its way at a time. It is sent again after a lost connection,
    with the same tag: the server keeps no message twice that has the same tag.

    Args:
        since: the id behind which the history begins; by default, the last messages come.
    """

    def __init__(self, base: str, room: str = "", since: int | None = None, **options: Any) -> None:
        super().__init__(base, _path("chat", room), **options)
        self.outgoing: deque[Outgoing] = deque()
        self._last_id = since

    def say(self, text: str) -> str:
        """Says a text. Returns its tag."""
        message = Outgoing(text, secrets.token_urlsafe(16))
        self.outgoing.append(message)
        self._next()
        return message.tag

    def _query(self) -> dict[str, object]:
        return {} if self._last_id is None else {"since": self._last_id}

    def _patience(self, error: RelaydError) -> float | None:
        """The message on its way was against the protocol, or too big: the chat goes on."""
        if error.close_code not in (1007, 1009) or self._current is None:
            return None
        self._fail(RelaydError("The server did not take this.", "too_large"))
        return FIRST_WAIT

    def _received(self, frame: dict[str, Any]) -> None:
        if frame.get("gap"):
            self._tell(Gap(str(frame.get("message"))))
        elif "error" in frame:
            self._refused(RelaydError.of(frame))
        elif isinstance(frame.get("message"), str) and isinstance(frame.get("id"), int):
            tag = frame.get("tag") or ""
            mine = self._current is not None and self._current.tag == tag
            if self._last_id is None or frame["id"] > self._last_id:
                self._last_id = frame["id"]
                self._tell(
                    Message(
                        *(frame["message"], frame["id"], frame.get("time", "")),
                        *(frame.get("user"), tag, mine),
                    )
                )
            if mine:
                self._remove()
                self._tell(Sent(tag))
                self._next()

    @property
    def _current(self) -> Outgoing | None:
        """The message that was sent last, on this connection or one before."""
        return self.outgoing[0] if self.outgoing and self.outgoing[0].on_its_way else None

    def _remove(self) -> None:
        self._cancel("copy")
        self._cancel("again")
        self.outgoing.popleft()

    def _refused(self, error: RelaydError) -> None:
        current = self._current
        if current is None or error.code in OF_CONNECTION or error.tag not in ("", current.tag):
            self._tell(Problem(error))
        elif error.code in PASSING:
            self._cancel("copy")
            self._after("again", TRY_AGAIN_AFTER, lambda: self._transmit(current))
        else:
            self._fail(error)
            self._next()

    def _fail(self, error: RelaydError) -> None:
        assert self._current is not None
        error.tag = self._current.tag
        self._remove()
        self._tell(Problem(error))

    def _changed(self) -> None:
        if self.state.name == "connected":
            current = self._current
            if current is not None:
                self._transmit(current)
            else:
                self._next()

    def _next(self) -> None:
        if self.outgoing and self._current is None and self.state.name == "connected":
            self._transmit(self.outgoing[0])

    def _transmit(self, message: Outgoing) -> None:
        message.on_its_way = True
        if self.send({"message": message.text, "tag": message.tag}):
            self._after("copy", COPY_WITHIN, self.drop)


# -- asyncio


class _Future:
    """Something to await."""

    def __init__(self) -> None:
        self.awaitable: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def resolve(self) -> None:
        if not self.awaitable.done():
            self.awaitable.set_result(None)

    def reject(self, error: Exception) -> None:
        if not self.awaitable.done():
            self.awaitable.set_exception(error)


class AsyncioNetwork:
    """Connections of the library `websockets`, in the running loop of asyncio."""

    def dial(self, url: str, headers: dict[str, str], listener: Listener) -> Link:
        """Begins to connect."""
        return _AsyncioLink(url, headers, listener)

    def later(self, seconds: float, action: Callable[[], Any]) -> Timer:
        """Calls something later."""
        return asyncio.get_running_loop().call_later(seconds, action)

    def settle(
        self, value: Any, done: Callable[[Any], None], failed: Callable[[BaseException], None]
    ) -> None:
        """Passes on a value, or what an awaitable gives."""
        if not inspect.isawaitable(value):
            done(value)
            return

        def finished(task: "asyncio.Future[Any]") -> None:
            error = None if task.cancelled() else task.exception()
            if task.cancelled() or error is not None:
                failed(error or asyncio.CancelledError())
            else:
                done(task.result())

        asyncio.ensure_future(value).add_done_callback(finished)

    def promise(self) -> Promise:
        """Something to await."""
        return _Future()


class _AsyncioLink:
    """A connection of `websockets`: a task reads, another one writes."""

    def __init__(self, url: str, headers: dict[str, str], listener: Listener) -> None:
        self._unsent = 0
        self._listener = listener
        self._texts: asyncio.Queue[str] = asyncio.Queue()
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._socket: Any = None
        self._task = asyncio.ensure_future(self._run(url, headers))

    @property
    def is_busy(self) -> bool:
        return self._unsent >= MOST_UNSENT

    def send(self, text: str) -> None:
        self._unsent += len(text)
        self._texts.put_nowait(text)

    def close(self) -> None:
        if self._socket is None:
            self._task.cancel()
        else:
            self._may_read.set()
            self._closing = asyncio.ensure_future(self._socket.close())

    def abort(self) -> None:
        if self._socket is not None:
            self._socket.transport.abort()
        self._task.cancel()

    def pause(self) -> None:
        self._may_read.clear()

    def resume(self) -> None:
        self._may_read.set()

    async def ended(self) -> None:
        await asyncio.wait([self._task])

    async def _run(self, url: str, headers: dict[str, str]) -> None:
        # imported here, so that users of Twisted need no websockets
        from websockets.asyncio.client import connect
        from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

        writer = None
        try:
            # relayd's heartbeat notices dead networks; the client's own limit ends a long opening
            self._socket = await connect(
                url,
                additional_headers=headers,
                open_timeout=None,
                ping_interval=None,
                close_timeout=2,
                max_size=None,
            )
            writer = asyncio.ensure_future(self._write())
            self._listener.opened()
            while True:
                await self._may_read.wait()
                self._listener.received(await self._socket.recv())
        except InvalidStatus as error:
            answer = error.response
            found = {name.lower(): value for name, value in answer.headers.raw_items()}
            self._listener.refused(answer.status_code, found, bytes(answer.body or b""))
        except ConnectionClosed as closed:
            code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")
            self._listener.closed(code, reason)
        except (OSError, EOFError, WebSocketException) as error:
            self._listener.failed(str(error) or type(error).__name__)
        finally:
            if writer is not None:
                writer.cancel()

    async def _write(self) -> None:
        from websockets.exceptions import ConnectionClosed

        with contextlib.suppress(ConnectionClosed):
            while True:
                text = await self._texts.get()
                await self._socket.send(text)
                self._unsent -= len(text)

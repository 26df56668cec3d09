"""The paths of a control socket, in front of whoever answers: a process, or the parent of many.

Sits on `web`, whose requests and answers it uses. Everything that changes something is one line in
the log that says who did it.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec

from relayd.control.listener import describe_peer
from relayd.control.messages import (
    Client,
    Done,
    Drain,
    Kick,
    Listing,
    LogLevel,
    Pair,
    Publish,
    Reloaded,
    Room,
    Selection,
    Status,
)
from relayd.control.worker_metrics import Told
from relayd.errors import ClientError, ErrorCode, Refusal
from relayd.logs import Logger
from relayd.metrics.exchange import to_text
from relayd.web.answers import Answer, Stream, json_answer
from relayd.web.request import Request
from relayd.web.routes import Route, RoutedSite

T = TypeVar("T")
_LARGEST_BODY = 16 * 1024 * 1024  # a kick of all clients names each


class Operations(Protocol):
    """The operations on offer. Each raises errors that a request turns into an answer."""

    async def status(self) -> Status: ...
    async def clients(self, selection: Selection) -> Listing[Client]: ...
    async def rooms(self) -> Listing[Room]: ...
    async def pairs(self) -> Listing[Pair]: ...
    async def tail(self, group: str) -> Stream: ...
    async def trace(self, id: str) -> Stream: ...
    async def kick(self, kick: Kick) -> Done: ...
    async def drain(self, drain: Drain) -> Done: ...
    async def undrain(self) -> Done: ...
    async def log_level(self) -> LogLevel: ...
    async def set_log_level(self, wanted: LogLevel) -> LogLevel: ...
    async def reload(self) -> Reloaded: ...
    async def publish(self, publish: Publish) -> dict[str, Any]: ...
    async def figures(self) -> Told: ...


class ControlSite(RoutedSite):
    """The site behind a control socket.

    Args:
        operations: answers.
        reactor: for the time-outs of idle connections.
        logs: whether who asks is logged; not in a worker, which only its parent asks.
    """

    _log = Logger()

    def __init__(self, operations: Operations, reactor: Any, *, logs: bool = True) -> None:
        super().__init__(
            reactor, max_body=lambda: _LARGEST_BODY, nothing="This relayd knows no such command."
        )
        self._logs = logs
        self._routes = [
            Route.make("/status", GET=_asked(operations.status)),
            Route.make("/clients", GET=self._clients(operations)),
            Route.make("/rooms", GET=_asked(operations.rooms)),
            Route.make("/pairs", GET=_asked(operations.pairs)),
            Route.make("/figures", GET=_asked(operations.figures)),
            Route.make("/metrics", GET=_metrics(operations)),
            Route.make("/tail", GET=_streamed(operations.tail, "group")),
            Route.make("/trace", GET=_streamed(operations.trace, "id")),
            Route.make("/kick", POST=self._told(operations.kick, Kick)),
            Route.make("/drain", POST=self._told(operations.drain, Drain)),
            Route.make("/undrain", POST=self._ordered(operations.undrain)),
            Route.make(
                "/log-level",
                GET=_asked(operations.log_level),
                POST=self._told(operations.set_log_level, LogLevel),
            ),
            Route.make("/reload", POST=self._ordered(operations.reload)),
            Route.make("/publish", POST=self._told(operations.publish, Publish)),
        ]

    def log(self, request: Any) -> None:
        """Questions are not logged; what changes something is, before it is done."""

    def _clients(self, operations: Operations) -> Callable[[Request], Awaitable[Answer]]:
        async def answer(request: Request) -> Answer:
            names = Selection.__struct_fields__
            found = {name: text for name in names if (text := request.argument(name)) is not None}
            try:
                selection = msgspec.convert(found, Selection, strict=False)
            except msgspec.ValidationError as error:
                raise Refusal(ErrorCode.BAD_REQUEST, f"{error}.") from error
            return json_answer(await operations.clients(selection))

        return answer

    def _told(
        self, do: Callable[[T], Awaitable[Any]], kind: type[T]
    ) -> Callable[[Request], Awaitable[Answer]]:
        """A command with a body of a kind."""

        async def answer(request: Request) -> Answer:
            try:
                told = msgspec.json.decode(request.body(), type=kind)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise ClientError(ErrorCode.BAD_JSON, f"{error}.") from error
            self._note(request, _summary(told))
            return json_answer(await do(told))

        return answer

    def _ordered(self, do: Callable[[], Awaitable[Any]]) -> Callable[[Request], Awaitable[Answer]]:
        """A command without a body."""

        async def answer(request: Request) -> Answer:
            self._note(request, "")
            return json_answer(await do())

        return answer

    def _note(self, request: Request, summary: str) -> None:
        if self._logs:
            transport: Any = request.channel.transport
            self._log.info(
                "relayctl {command} by {who}{summary}",
                command=request.target[1:],
                who=describe_peer(transport.getHandle()),
                summary=summary and f": {summary}",
            )


def _asked(ask: Callable[[], Awaitable[Any]]) -> Callable[[Request], Awaitable[Answer]]:
    async def answer(request: Request) -> Answer:
        return json_answer(await ask())

    return answer


def _metrics(operations: Operations) -> Callable[[Request], Awaitable[Answer]]:
    """The figures as Prometheus reads them: `curl --unix-socket` is all that it takes."""

    async def answer(request: Request) -> Answer:
        told = await operations.figures()
        text, content_type = to_text(told.families, request.header("Accept"))
        return Answer(200, text, content_type)

    return answer


def _streamed(
    ask: Callable[[str], Awaitable[Stream]], name: str
) -> Callable[[Request], Awaitable[Stream]]:
    async def answer(request: Request) -> Stream:
        return await ask(request.argument(name) or "")

    return answer


def _summary(told: Any) -> str:
    """The log text of a command, without the published payload."""
    if isinstance(told, Kick):
        shown = ", ".join(told.ids[:5]) + (", …" if len(told.ids) > 5 else "")
        return f"{len(told.ids)} with {told.code}: {shown}"
    if isinstance(told, Drain):
        return "closing the clients" if told.close else ""
    if isinstance(told, LogLevel):
        return ascii(told.level)
    if isinstance(told, Publish):
        return ascii(told.target)
    return ""

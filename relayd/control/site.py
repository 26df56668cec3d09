"""The paths of a control socket, in front of the operations of a process or of a parent.

Sits on `web`, whose requests and answers it uses. Every command that changes something is logged in
one line, with the user and the process that sent it.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec

from relayd.access.denials import Denial
from relayd.cluster import Seen
from relayd.control.listener import describe_peer, read_peer
from relayd.control.live import View
from relayd.control.messages import (
    Client,
    Deletion,
    Denied,
    Differences,
    Done,
    Drain,
    Kept,
    Kick,
    Listing,
    LogLevel,
    Pair,
    Publish,
    Reloaded,
    Room,
    Secrets,
    Selection,
    Status,
)
from relayd.control.worker_metrics import FigureReport
from relayd.errors import ClientError, ErrorCode, Refusal
from relayd.logs import Logger
from relayd.logs.recent import Warned
from relayd.metrics.exchange import to_text
from relayd.web.answers import Answer, Stream, json_answer
from relayd.web.request import Request
from relayd.web.routes import Route, RoutedSite
from relayd.wire import UNDECODABLE

T = TypeVar("T")
_LARGEST_BODY = 16 * 1024 * 1024  # a kick of all clients names each


class Operations(Protocol):
    """The operations on offer. Each raises errors that a request turns into an answer."""

    async def status(self) -> Status: ...
    async def clients(self, selection: Selection) -> Listing[Client]: ...
    async def rooms(self) -> Listing[Room]: ...
    async def kept(self) -> Listing[Kept]: ...
    async def delete_room(self, deletion: Deletion) -> Done: ...
    async def pairs(self) -> Listing[Pair]: ...
    async def tail(self, group: str) -> Stream: ...
    async def trace(self, id: str) -> Stream: ...
    async def kick(self, kick: Kick) -> Done: ...
    async def denials(self) -> Listing[Denial]: ...
    async def deny(self, denial: Denial) -> Denied: ...
    async def drain(self, drain: Drain) -> Done: ...
    async def undrain(self) -> Done: ...
    async def log_level(self) -> LogLevel: ...
    async def set_log_level(self, wanted: LogLevel) -> LogLevel: ...
    async def reload(self, secrets: Secrets | None) -> Reloaded: ...
    async def compare(self, secrets: Secrets | None) -> Differences: ...
    async def publish(self, publish: Publish) -> dict[str, Any]: ...
    async def figures(self) -> FigureReport: ...
    async def cluster(self) -> Listing[Seen]: ...
    async def warnings(self) -> Listing[Warned]: ...
    async def live(self, since: float) -> View: ...


class ControlSite(RoutedSite):
    """The site behind a control socket.

    Args:
        operations: of the process, or of the parent.
        reactor: for the timeouts of idle connections.
        logs: whether commands are logged; not in a worker, which gets them from its parent.
    """

    _log = Logger()

    def __init__(self, operations: Operations, reactor: Any, *, logs: bool = True) -> None:
        super().__init__(
            reactor, max_body=lambda: _LARGEST_BODY, nothing="This relayd knows no such command."
        )
        self._logs = logs
        self._routes = [
            Route.at("/status", GET=_query(operations.status)),
            Route.at("/clients", GET=self._clients(operations)),
            Route.at("/rooms", GET=_query(operations.rooms)),
            Route.at("/kept", GET=_query(operations.kept)),
            Route.at("/delete-room", POST=self._command(operations.delete_room, Deletion)),
            Route.at("/pairs", GET=_query(operations.pairs)),
            Route.at("/figures", GET=_query(operations.figures)),
            Route.at("/metrics", GET=_metrics(operations)),
            Route.at("/cluster", GET=_query(operations.cluster)),
            Route.at("/warnings", GET=_query(operations.warnings)),
            Route.at("/live", GET=_live(operations)),
            Route.at("/tail", GET=_stream(operations.tail, "group")),
            Route.at("/trace", GET=_stream(operations.trace, "id")),
            Route.at("/kick", POST=self._command(operations.kick, Kick)),
            Route.at(
                "/denials",
                GET=_query(operations.denials),
                POST=self._command(operations.deny, Denial),
            ),
            Route.at("/drain", POST=self._command(operations.drain, Drain)),
            Route.at("/undrain", POST=self._bare_command(operations.undrain)),
            Route.at(
                "/log-level",
                GET=_query(operations.log_level),
                POST=self._command(operations.set_log_level, LogLevel),
            ),
            Route.at("/reload", POST=self._reload(operations)),
            Route.at("/differences", POST=_compare(operations)),
            Route.at("/publish", POST=self._command(operations.publish, Publish)),
        ]

    def log(self, request: Any) -> None:
        """Does nothing: queries are not logged, and commands are logged before their execution."""

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

    def _command(
        self, execute: Callable[[T], Awaitable[Any]], kind: type[T]
    ) -> Callable[[Request], Awaitable[Answer]]:
        """The handler of a command whose body has the type `kind`."""

        async def answer(request: Request) -> Answer:
            try:
                message = msgspec.json.decode(request.body(), type=kind)
            except UNDECODABLE as error:
                raise ClientError(ErrorCode.BAD_JSON, f"{error}.") from error
            self._log_command(request, summarize(message))
            return json_answer(await execute(message))

        return answer

    def _bare_command(
        self, execute: Callable[[], Awaitable[Any]]
    ) -> Callable[[Request], Awaitable[Answer]]:
        """The handler of a command without a body."""

        async def answer(request: Request) -> Answer:
            self._log_command(request, "")
            return json_answer(await execute())

        return answer

    def _reload(self, operations: Operations) -> Callable[[Request], Awaitable[Answer]]:
        async def answer(request: Request) -> Answer:
            secrets = _secrets_of_root(request)
            with_them = "" if secrets is None else ", ".join(sorted(secrets.credentials)) or "none"
            self._log_command(request, with_them and f"secrets handed over: {with_them}")
            return json_answer(await operations.reload(secrets))

        return answer

    def _log_command(self, request: Request, summary: str) -> None:
        if self._logs:
            transport: Any = request.channel.transport
            self._log.info(
                "relayctl {command} by {who}{summary}",
                command=request.target[1:],
                who=describe_peer(transport.getHandle()),
                summary=summary and f": {summary}",
            )


def _query(execute: Callable[[], Awaitable[Any]]) -> Callable[[Request], Awaitable[Answer]]:
    async def answer(request: Request) -> Answer:
        return json_answer(await execute())

    return answer


def _compare(operations: Operations) -> Callable[[Request], Awaitable[Answer]]:
    async def answer(request: Request) -> Answer:
        return json_answer(await operations.compare(_secrets_of_root(request)))

    return answer


def _secrets_of_root(request: Request) -> Secrets | None:
    """The secrets in the body of a request; None without a body.

    Raises:
        ClientError: `bad_json`; the text shows nothing of the body.
        Refusal: 403, the peer is not root.
    """
    body = request.body()
    if not body:
        return None
    transport: Any = request.channel.transport
    if read_peer(transport.getHandle())[1] != 0:
        raise Refusal(ErrorCode.FORBIDDEN, "Only root may hand over the secrets of the service.")
    try:
        return msgspec.json.decode(body, type=Secrets)
    except UNDECODABLE:
        raise ClientError(ErrorCode.BAD_JSON, "These are no secrets.") from None


def _metrics(operations: Operations) -> Callable[[Request], Awaitable[Answer]]:
    """The figures in Prometheus' format, for example for `curl --unix-socket`."""

    async def answer(request: Request) -> Answer:
        report = await operations.figures()
        text, content_type = to_text(report.families, request.header("Accept"))
        return Answer(200, text, content_type)

    return answer


def _live(operations: Operations) -> Callable[[Request], Awaitable[Answer]]:
    async def answer(request: Request) -> Answer:
        return json_answer(await operations.live(read_since(request.argument("since"))))

    return answer


def read_since(text: str | None) -> float:
    """The time in `?since=`; 0 without one. Raises Refusal: 400."""
    try:
        since = float(text or 0)
    except ValueError:
        since = math.nan
    if not math.isfinite(since):
        raise Refusal(ErrorCode.BAD_REQUEST, "?since= must be a Unix time.")
    return since


def _stream(
    execute: Callable[[str], Awaitable[Stream]], name: str
) -> Callable[[Request], Awaitable[Stream]]:
    async def answer(request: Request) -> Stream:
        return await execute(request.argument(name) or "")

    return answer


def summarize(message: Any) -> str:
    """The log text of a command, without the published payload."""
    if isinstance(message, Kick):
        ids = ", ".join(message.ids[:5]) + (", …" if len(message.ids) > 5 else "")
        return f"{len(message.ids)} with {message.code}: {ids}"
    if isinstance(message, Denial):
        lifted = ", lifted" if message.lifted else ""
        because = f", because {message.reason!a}" if message.reason else ""
        return f"{message.kind} {message.value!a}{lifted}{because}"
    if isinstance(message, Drain):
        return "closing the clients" if message.close else ""
    if isinstance(message, LogLevel):
        return ascii(message.level)
    if isinstance(message, Deletion):
        return ascii(message.room)
    if isinstance(message, Publish):
        return ascii(message.target)
    return ""

"""What the console shows and does, as JSON below `/console/api/`: live figures, clients, commands.

Under `console`, on the operations of `control`. Lists are searched here and cut at `MOST_SHOWN`.
Every command is logged with the address of its operator.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from twisted.internet.task import LoopingCall

from relayd.console.sessions import Session
from relayd.control.live import INTERVAL
from relayd.control.messages import Drain, Kick, Listing, Pair, Publish, Room, Selection
from relayd.control.remote import ConsoleOperations
from relayd.control.site import read_since, summarize
from relayd.errors import ClientError, ErrorCode, Refusal
from relayd.logs import Logger
from relayd.web.answers import Answer, Sink, Stream, json_answer
from relayd.web.request import Request
from relayd.wire import UNDECODABLE

MOST_SHOWN = 100
"""Entries of a list."""
MOST_CONSOLES = 20
"""Pages of consoles that get live figures from this process at the same time."""
MOST_STREAMS = 10
"""Clients that are followed through this process at the same time."""
_ALIVE = 15.0  # seconds between two signs of life in a stream, for proxies

T = TypeVar("T")


class Feed:
    """The live figures, the lists and the commands.

    Args:
        operations: of all workers.
        clock: provides IReactorTime.
        now: returns the Unix time.
    """

    _log = Logger()

    def __init__(self, operations: ConsoleOperations, clock: Any, now: Callable[[], float]) -> None:
        self._operations = operations
        self._clock = clock
        self._now = now
        self._polls: deque[float] = deque(maxlen=MOST_CONSOLES)
        self._streams: dict[Sink, str] = {}

    # -- queries

    async def live(self, session: Session, request: Request) -> Answer:
        """`GET live?since=TIME`: a `control.live.View`.

        Raises:
            Refusal: 429 with too many open consoles.
        """
        now = self._clock.seconds()
        if len(self._polls) == MOST_CONSOLES and now - self._polls[0] < 0.9 * INTERVAL:
            raise Refusal(
                ErrorCode.TOO_MANY_REQUESTS,
                f"{MOST_CONSOLES} consoles are open, the most that one process has.",
                retry_after=round(INTERVAL) * 2,
            )
        self._polls.append(now)
        return json_answer(await self._operations.live(read_since(request.argument("since"))))

    async def clients(self, session: Session, request: Request) -> Answer:
        """`GET clients?text=&kind=&sort=&slow=`: a listing of clients."""
        names = Selection.__struct_fields__
        given = {name: text for name in names if (text := request.argument(name))}
        try:
            wanted = msgspec.convert({**given, "limit": MOST_SHOWN}, Selection, strict=False)
        except msgspec.ValidationError as error:
            raise Refusal(ErrorCode.BAD_REQUEST, f"{error}.") from error
        return json_answer(await self._operations.clients(wanted))

    async def rooms(self, session: Session, request: Request) -> Answer:
        """`GET rooms?text=`: groups and rooms, those with the most members first."""
        text = (request.argument("text") or "").casefold()
        found = await self._operations.rooms()
        rooms = [room for room in found.found if text in room.group.casefold()]
        rooms.sort(key=lambda room: (-room.members, room.group))
        listing = Listing[Room](found=rooms[:MOST_SHOWN], total=len(rooms), missing=found.missing)
        return json_answer(listing)

    async def pairs(self, session: Session, request: Request) -> Answer:
        """`GET pairs?text=`: the UUIDs that have clients, incomplete pairs first."""
        text = (request.argument("text") or "").casefold()
        found = await self._operations.pairs()
        pairs = [pair for pair in found.found if text in pair.uuid]
        pairs.sort(key=lambda pair: (pair.headset and pair.phone, pair.uuid))
        listing = Listing[Pair](found=pairs[:MOST_SHOWN], total=len(pairs), missing=found.missing)
        return json_answer(listing)

    async def trace(self, session: Session, request: Request) -> Stream:
        """`GET trace?id=`: the frames of a client, a line of JSON each, until one of them ends.

        Raises:
            Refusal: 404 without such a client, 429 with too many streams.
        """
        if len(self._streams) >= MOST_STREAMS:
            raise Refusal(
                ErrorCode.TOO_MANY_REQUESTS,
                f"{MOST_STREAMS} clients are followed already, the most of one process.",
            )
        id = request.argument("id") or ""
        stream = await self._operations.trace(id)
        self._log.info("console: trace of {id} by {peer}", id=ascii(id), peer=request.client_host)
        return self._bounded(stream, session)

    # -- commands

    async def kick(self, session: Session, request: Request) -> Answer:
        """`POST kick`: closes clients."""
        kick = self._command("kick", request, Kick)
        return json_answer(await self._operations.kick(kick))

    async def drain(self, session: Session, request: Request) -> Answer:
        """`POST drain`: no new clients are admitted from now on."""
        drain = self._command("drain", request, Drain)
        return json_answer(await self._operations.drain(drain))

    async def undrain(self, session: Session, request: Request) -> Answer:
        """`POST undrain`: new clients are admitted again."""
        self._log.info("console: undrain by {peer}", peer=request.client_host)
        return json_answer(await self._operations.undrain())

    async def publish(self, session: Session, request: Request) -> Answer:
        """`POST publish`: a text to a chat room, a JSON object to a topic."""
        publish = self._command("publish", request, Publish)
        return json_answer(await self._operations.publish(publish))

    def _command(self, name: str, request: Request, kind: type[T]) -> T:
        message = read_message(request, kind)
        self._log.info(
            "console: {command} by {peer}: {summary}",
            command=name, peer=request.client_host, summary=summarize(message) or "-",
        )  # fmt: skip
        return message

    # -- streams

    def end_streams(self, denial: str | None = None) -> None:
        """Ends the streams of a session, by its denial, or of all."""
        for sink, owner in tuple(self._streams.items()):
            if denial in (None, owner):
                sink.end()

    def _bounded(self, stream: Stream, session: Session) -> Stream:
        """The stream, which ends with its session; a line now and then shows that it is alive."""

        def open_(sink: Sink) -> Callable[[], None]:
            self._streams[sink] = session.denial
            left = max(0.0, session.end - self._now())
            ending = self._clock.callLater(left, sink.end)
            pulse = LoopingCall(sink.write, b'{"event":"alive"}')
            pulse.clock = self._clock
            pulse.start(_ALIVE, now=False)
            close = stream.open(sink)

            def closed() -> None:
                self._streams.pop(sink, None)
                if ending.active():
                    ending.cancel()
                pulse.stop()
                close()

            return closed

        return Stream(open_)


def read_message(request: Request, kind: type[T]) -> T:
    """The body of a request as a message. Raises ClientError: `bad_json`."""
    try:
        return msgspec.json.decode(request.body(), type=kind)
    except UNDECODABLE as error:
        raise ClientError(ErrorCode.BAD_JSON, f"{error}.") from error

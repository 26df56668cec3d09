"""The messages of a control socket as types: the daemon encodes, `relayctl` decodes them."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Literal, TypeVar

import msgspec

from relayd.cluster import Report
from relayd.config.reload import Change, Outcome

T = TypeVar("T", bound=msgspec.Struct)

Column = Literal[
    "id", "kind", "path", "peer", "user", "since", "messages", "waiting", "replaced"
]  # fmt: skip
LARGEST_FIRST = ("messages", "waiting", "replaced")


class Part(msgspec.Struct):
    """Whether something that relayd leans on does its part.

    Attributes:
        state: "ok", "away" or "off".
        message: why it is away.
    """

    state: Literal["ok", "away", "off"]
    message: str = ""


class Process(Report, kw_only=True):
    """The report of a process to its operator: the report to the cluster, and more.

    Attributes:
        messages: messages that came from clients since it started.
        messages_per_second: the same, over the last seconds.
        waiting: bytes that wait for clients that read slowly.
        stopping: whether it is about to end; draining alone can be taken back.
        database: the database.
        redis: all of Redis.
        control: where its control socket is.
        endpoints: what it listens on, as `[server] listen` describes it, wherever that came from.
    """

    messages: int
    messages_per_second: float
    waiting: int
    stopping: bool
    database: Part
    redis: Part
    control: str
    endpoints: tuple[str, ...] = ()


class Status(msgspec.Struct, kw_only=True):
    """All processes behind one control socket.

    Attributes:
        pid: the process that answers.
        workers: how many it is the parent of; None if it serves clients itself.
        processes: those that serve clients.
        missing: numbers of the workers that did not answer.
    """

    pid: int
    workers: int | None = None
    processes: list[Process]
    missing: list[int] = []


class Client(msgspec.Struct, kw_only=True):
    """A connection.

    Attributes:
        id: `c17`, and `w2-c17` where there are workers.
        kind: of path.
        path: without the query.
        peer: address of the client.
        user: who its token says it is, if it showed one.
        since: Unix time of the handshake.
        messages: that came from it.
        waiting: bytes that wait for it, because it reads slowly.
        replaced: poses that were left out for newer ones, because it reads slowly.
        closing: whether the closing handshake has begun.
    """

    id: str
    kind: str
    path: str
    peer: str
    user: str | None
    since: float
    messages: int
    waiting: int
    replaced: int
    closing: bool


class Room(msgspec.Struct, kw_only=True):
    """A group or chat room: its name, such as `chat/lobby`, and how many clients are in it."""

    group: str
    members: int


class Pair(msgspec.Struct, kw_only=True):
    """A UUID, and which of its sides are connected here."""

    uuid: str
    headset: bool
    phone: bool


class Listing(msgspec.Struct, Generic[T], kw_only=True):
    """Some of what there is.

    Attributes:
        found: the first of them.
        total: how many there are.
        missing: numbers of the workers that did not answer, so that what they have is not in it.
    """

    found: list[T]
    total: int
    missing: list[int] = []


class Selection(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Which clients: those for which all that is given holds.

    Attributes:
        kind: of path.
        path: or what the path begins with, if it ends in `*`.
        peer: the address, with or without its port.
        user: who its token says it is.
        slow: something waits for it, or was left out for it.
        sort: the column to order by.
        limit: how many at most; 0 for all.
    """

    kind: str | None = None
    path: str | None = None
    peer: str | None = None
    user: str | None = None
    slow: bool = False
    sort: Column = "id"
    limit: int = 0


class Kick(msgspec.Struct, kw_only=True):
    """Whom to close, and how (RFC 6455 section 7.4)."""

    ids: list[str]
    code: int = 1000
    reason: str = ""


class Drain(msgspec.Struct, kw_only=True):
    """Takes no new clients; `close` asks those who are there to go, too."""

    close: bool = False


class Publish(msgspec.Struct, kw_only=True):
    """Says a text in a room, or pushes a JSON object to a topic: `target` is `chat/lobby`."""

    target: str
    text: str


class LogLevel(msgspec.Struct, kw_only=True):
    """From which level on is logged (`relayd.logs.LEVELS`); `missing` as in `Listing`."""

    level: str
    missing: list[int] = []


class Reloaded(msgspec.Struct, kw_only=True):
    """The outcome of a reload (`config.reload.Outcome`), and the same in lines for people."""

    applied: list[Change]
    restart: list[Change]
    warnings: list[str]
    lines: list[str]

    @classmethod
    def of(cls, outcome: Outcome) -> "Reloaded":
        """The part of an outcome for the operator: without the configuration itself."""
        return cls(
            applied=list(outcome.applied),
            restart=list(outcome.restart),
            warnings=list(outcome.warnings),
            lines=outcome.lines(),
        )


class Done(msgspec.Struct, kw_only=True):
    """The result of a request that changes something.

    Attributes:
        count: how many clients or processes it concerned.
        unknown: ids that nobody has, of a kick.
        missing: numbers of the workers that did not answer.
    """

    count: int
    unknown: list[str] = []
    missing: list[int] = []


def in_order(clients: Iterable[Client], selection: Selection) -> list[Client]:
    """The clients sorted, and cut off at the limit."""
    column = selection.sort
    key: Callable[[Client], Any] = lambda client: getattr(client, column) or ""  # noqa: E731
    if column == "id":
        key = _by_number
    elif column in LARGEST_FIRST:
        key = lambda client: -getattr(client, column)  # noqa: E731
    ordered = sorted(clients, key=lambda client: (key(client), _by_number(client)))
    return ordered[: selection.limit or None]


def _by_number(client: Client) -> tuple[int, ...]:
    """c9 before c10, w2-c1 before w10-c1."""
    return tuple(int(part[1:]) for part in client.id.split("-"))


def merge_rooms(listings: Sequence[Listing[Room]], missing: list[int]) -> Listing[Room]:
    """The rooms of several processes: the same room may have clients in many."""
    members = Counter[str]()
    for listing in listings:
        members.update({room.group: room.members for room in listing.found})
    rooms = [Room(group=name, members=count) for name, count in sorted(members.items())]
    return Listing(found=rooms, total=len(rooms), missing=missing)


def merge_pairs(listings: Sequence[Listing[Pair]], missing: list[int]) -> Listing[Pair]:
    """The pairs of several processes: the sides of one may be connected to different ones."""
    merged: dict[str, Pair] = {}
    for listing in listings:
        for pair in listing.found:
            known = merged.setdefault(pair.uuid, Pair(uuid=pair.uuid, headset=False, phone=False))
            known.headset |= pair.headset
            known.phone |= pair.phone
    return Listing(
        found=[merged[uuid] for uuid in sorted(merged)], total=len(merged), missing=missing
    )

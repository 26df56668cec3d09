"""The messages of a control socket as types: the daemon encodes, `relayctl` decodes them."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, Literal, TypeVar

import msgspec

from relayd.cluster import Report
from relayd.config.drift import Difference
from relayd.config.reload import Change, Outcome

T = TypeVar("T", bound=msgspec.Struct)

Column = Literal[
    "id", "kind", "path", "peer", "user", "since", "messages", "waiting", "replaced"
]  # fmt: skip
LARGEST_FIRST = ("messages", "waiting", "replaced")


class Part(msgspec.Struct):
    """The state of a service that relayd depends on.

    Attributes:
        state: "ok", "off" (not configured), "disk_low" (`[database] min_free`), or one of
            `stores.states.State`.
        message: the store, what is wrong with it, its own words, and the remedy.
    """

    state: str
    message: str = ""


class Process(Report, kw_only=True):
    """The report of a process to its operator: the report to the cluster, and more.

    Attributes:
        messages: messages received from clients since it started.
        messages_per_second: their rate over the last seconds.
        waiting: bytes buffered for clients that read slowly.
        stopping: whether it is about to end; a drain alone can be undone.
        denied: how many tokens, users and addresses are denied, by kind.
        database: the database.
        redis: all of Redis.
        control: the path of its control socket.
        endpoints: the endpoints on which it listens, in the form of `[server] listen`.
        dropped_for_files: TCP connections that it dropped, since no open file was left for them.
    """

    messages: int
    messages_per_second: float
    waiting: int
    stopping: bool
    denied: dict[str, int]
    database: Part
    redis: Part
    control: str
    endpoints: tuple[str, ...] = ()
    dropped_for_files: int = 0


class Status(msgspec.Struct, kw_only=True):
    """All processes behind one control socket.

    Attributes:
        pid: of the process that answers.
        workers: the number of its workers; None if it serves clients itself.
        processes: the processes that serve clients.
        missing: numbers of the workers that did not answer.
        differs: what stands in the files of the configuration and does not run.
    """

    pid: int
    workers: int | None = None
    processes: list[Process]
    missing: list[int] = []
    differs: list[Difference] = []


class Client(msgspec.Struct, kw_only=True):
    """A connection.

    Attributes:
        id: `c17`, and `w2-c17` where there are workers.
        kind: of path.
        path: without the query.
        peer: address of the client.
        user: the user in its token; None without a token.
        since: Unix time of the handshake.
        messages: received from it.
        waiting: bytes buffered for it, because it reads slowly.
        replaced: poses that newer ones replaced, because it reads slowly.
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
    """A group or chat room: its name, such as `chat/lobby`, and the number of its members."""

    group: str
    members: int


class Kept(msgspec.Struct, kw_only=True):
    """A chat room as its store has it.

    Attributes:
        room: its name.
        messages: how many it keeps.
        bytes: their size.
        posted: Unix time of the newest.
    """

    room: str
    messages: int
    bytes: int
    posted: float


class Deletion(msgspec.Struct, kw_only=True):
    """Deletes the messages of a chat room, by its name."""

    room: str


class Pair(msgspec.Struct, kw_only=True):
    """A UUID, and which of its sides are connected here."""

    uuid: str
    headset: bool
    phone: bool


class Listing(msgspec.Struct, Generic[T], kw_only=True):
    """A part of a list.

    Attributes:
        found: the first entries.
        total: the number of all entries.
        missing: numbers of the workers that did not answer; their entries are missing.
    """

    found: list[T]
    total: int
    missing: list[int] = []


class Selection(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Selects the clients that match all given members.

    Attributes:
        kind: of path.
        path: the path, or its beginning if this ends in `*`.
        peer: the address, with or without its port.
        user: the user in its token.
        slow: whether bytes are buffered for it, or poses were replaced.
        text: a part of its id, path, peer or user, in any case.
        sort: the column to order by.
        limit: the largest number of clients; 0 for all.
    """

    kind: str | None = None
    path: str | None = None
    peer: str | None = None
    user: str | None = None
    slow: bool = False
    text: str | None = None
    sort: Column = "id"
    limit: int = 0


class Kick(msgspec.Struct, kw_only=True):
    """Closes connections by id, with a close code and a reason (RFC 6455 section 7.4)."""

    ids: list[str]
    code: int = 1000
    reason: str = ""


class Denied(msgspec.Struct, kw_only=True):
    """The result of a denial.

    Attributes:
        count: the number of connections that it closes.
        everywhere: whether all processes that share Redis get it at once.
        kept: whether it holds after a restart.
        missing: numbers of the workers that did not answer.
    """

    count: int
    everywhere: bool
    kept: bool
    missing: list[int] = []


class Drain(msgspec.Struct, kw_only=True):
    """Stops admission; `close` also closes the connected clients."""

    close: bool = False


class Publish(msgspec.Struct, kw_only=True):
    """Posts a text in a room, or pushes a JSON object to a topic: `target` is `chat/lobby`.

    With a `tag`, a text that the room has already is not posted again.
    """

    target: str
    text: str
    tag: str = ""


class LogLevel(msgspec.Struct, kw_only=True):
    """The lowest level that is logged (`relayd.logs.LEVELS`); `missing` as in `Listing`."""

    level: str
    missing: list[int] = []


class Secrets(msgspec.Struct, kw_only=True):
    """What root hands over for a reload: the secrets of the service's credentials, by name."""

    credentials: dict[str, str]


class Differences(msgspec.Struct, kw_only=True):
    """What stands in the files, the secrets that root reads among them, and does not run."""

    found: list[Difference]


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
            lines=[*outcome.beside, *outcome.lines()],
        )


class Done(msgspec.Struct, kw_only=True):
    """The result of a request that changes something.

    Attributes:
        count: the number of clients or processes that it concerned.
        unknown: ids of a kick that no connection has.
        missing: numbers of the workers that did not answer.
    """

    count: int
    unknown: list[str] = []
    missing: list[int] = []


def in_order(clients: Iterable[Client], selection: Selection) -> list[Client]:
    """Sorts the clients, and cuts the list at the limit."""
    column = selection.sort
    key: Callable[[Client], Any] = lambda client: getattr(client, column) or ""  # noqa: E731
    if column == "id":
        key = _by_number
    elif column in LARGEST_FIRST:
        key = lambda client: -getattr(client, column)  # noqa: E731
    ordered = sorted(clients, key=lambda client: (key(client), _by_number(client)))
    return ordered[: selection.limit or None]


def _by_number(client: Client) -> tuple[int, ...]:
    """The sort key that puts c9 before c10, and w2-c1 before w10-c1."""
    return tuple(int(part[1:]) for part in client.id.split("-"))


def merge_rooms(listings: Sequence[Listing[Room]], missing: list[int]) -> Listing[Room]:
    """Merges the rooms of several processes: one room may have clients in many."""
    members = Counter[str]()
    for listing in listings:
        members.update({room.group: room.members for room in listing.found})
    rooms = [Room(group=name, members=count) for name, count in sorted(members.items())]
    return Listing(found=rooms, total=len(rooms), missing=missing)


def merge_pairs(listings: Sequence[Listing[Pair]], missing: list[int]) -> Listing[Pair]:
    """Merges the pairs of several processes: the two sides may be connected to different ones."""
    merged: dict[str, Pair] = {}
    for listing in listings:
        for pair in listing.found:
            known = merged.setdefault(pair.uuid, Pair(uuid=pair.uuid, headset=False, phone=False))
            known.headset |= pair.headset
            known.phone |= pair.phone
    return Listing(
        found=[merged[uuid] for uuid in sorted(merged)], total=len(merged), missing=missing
    )

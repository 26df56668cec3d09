"""The operator's requests to one process, and their execution.

Sits under `node`, which starts it, and behind `site`; `parent.Parent` answers the same for many.
"""

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

import msgspec

from relayd import logs, names, wire
from relayd.access.denial_spread import DenialSpread
from relayd.access.denials import Denial
from relayd.application import Application
from relayd.brokers.interface import Groups
from relayd.close_codes import CloseCode
from relayd.cluster import Seen
from relayd.config.drift import Drift
from relayd.config.reload import Reloader
from relayd.connection.context import Context
from relayd.connection.denied import concerned
from relayd.connection.websocket import RelayFactory
from relayd.control import connections as clients
from relayd.control import tail, trace
from relayd.control.address import Place
from relayd.control.live import Live, View
from relayd.control.messages import (
    Client,
    Deletion,
    Denied,
    Done,
    Drain,
    Kept,
    Kick,
    Listing,
    LogLevel,
    Pair,
    Part,
    Process,
    Publish,
    Room,
    Selection,
    Status,
)
from relayd.control.rates import Rates
from relayd.control.reloading import Reloading
from relayd.control.worker_metrics import FigureReport
from relayd.errors import ErrorCode, Refusal, Unavailable
from relayd.hub import Hub
from relayd.logs.recent import Recent, Warned
from relayd.metrics.registry import ProcessFigures
from relayd.native.framing import LONGEST_REASON
from relayd.relays.paths import KINDS
from relayd.stores.health import Trouble
from relayd.web.answers import Sink, Stream

_MOST_ROOMS = 1000  # in a listing


class ProcessControl(Reloading):
    """The operator's view of this process (`site.Operations`).

    Args:
        context: the connections, and admission.
        hub: the groups of this process.
        groups: joined by `tail`.
        application: publishes; reports on the process and its stores.
        spread: carries denials to all processes.
        relays: the factories of all connections.
        figures: the metrics of this process.
        recent: the latest warnings of this process.
        place: of its control socket, for `status`; None if it has none.
        reloader: reads the configuration again; None in a worker.
        drift: compares it with its files; None in a worker.
    """

    def __init__(
        self,
        context: Context,
        hub: Hub,
        groups: Groups,
        application: Application,
        spread: DenialSpread,
        relays: Iterable[RelayFactory],
        figures: ProcessFigures,
        recent: Recent,
        *,
        place: Place | None,
        reloader: Reloader | None,
        drift: Drift | None,
    ) -> None:
        super().__init__(reloader, drift)
        self._context = context
        self._hub = hub
        self._groups = groups
        self._application = application
        self._spread = spread
        self._relays = tuple(relays)
        self._figures = figures
        self._control = "" if place is None else str(place.path)
        self._rates = Rates(context.clock, self._counts)
        self._sinks: set[Sink] = set()
        self._recent = recent
        self._live = Live(context.clock, context.admission.now, self)

    def start(self) -> None:
        """Begins to measure rates, and to note warnings."""
        self._rates.start()
        self._recent.start()

    def stop(self) -> None:
        """Stops measuring, and ends all streams."""
        self._rates.stop()
        self._recent.stop()
        self._live.stop()
        for sink in tuple(self._sinks):
            sink.end()

    # -- queries

    async def status(self) -> Status:
        """The status of the process."""
        report = self._application.report()
        counts = self._counts()
        connections = clients.each(self._context.connections)
        members = msgspec.structs.asdict(report)
        members["deliveries_per_second"] = self._rates["delivered"]
        process = Process(
            **members,
            messages=counts["messages"],
            messages_per_second=self._rates["messages"],
            waiting=sum(each.waiting for each in connections),
            stopping=self._context.admission.stopping,
            denied=self._context.admission.denials.counts(),
            database=await self._database(),
            redis=self._redis(),
            control=self._control,
            endpoints=self._context.current.config.endpoints,
            dropped_for_files=self._context.seats.dropped["files"],
        )
        return Status(pid=report.pid, processes=[process], differs=self.differences())

    async def clients(self, selection: Selection) -> Listing[Client]:
        """The connections that match the selection."""
        return clients.select(self._context.connections, selection)

    async def rooms(self) -> Listing[Room]:
        """The groups that have clients in this process."""
        return clients.rooms(self._context.connections)

    async def kept(self) -> Listing[Kept]:
        """The chat rooms that keep the most bytes, in the store that all processes share.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        total, rooms = await self._application.stored_rooms(_MOST_ROOMS)
        found = [
            Kept(room=one.name, messages=one.messages, bytes=one.bytes, posted=one.posted / 1000)
            for one in rooms
        ]
        return Listing(found=found, total=max(total, len(found)))

    async def pairs(self) -> Listing[Pair]:
        """The UUIDs that have clients in this process."""
        return clients.pairs(self._context.connections)

    async def figures(self) -> FigureReport:
        """The metrics of this process."""
        id = self._application.report().id
        return FigureReport(process=id, families=self._figures.own())

    async def cluster(self) -> Listing[Seen]:
        """All processes that share Redis. Raises RedisUnavailable, RedisRefused."""
        found = await self._application.processes()
        return Listing(found=found, total=len(found))

    async def warnings(self) -> Listing[Warned]:
        """The latest warnings of this process, the latest first."""
        found = self._recent.entries()[::-1]
        return Listing(found=found, total=len(found))

    async def live(self, since: float) -> View:
        """The figures of this process after a time."""
        return await self._live.read(since)

    async def tail(self, group: str) -> Stream:
        """Streams the frames of a group."""
        name = KINDS.parse_group(group)
        return self._kept(tail.tail(self._groups, name, self._context.admission.now))

    async def trace(self, id: str) -> Stream:
        """Streams the frames of a connection. Raises Refusal: 404."""
        connection = clients.find(self._context.connections, id)
        if connection is None:
            raise no_such_client(id)
        return self._kept(trace.trace(connection, self._context.admission.now))

    # -- commands

    async def kick(self, kick: Kick) -> Done:
        """Begins to close connections. Raises Refusal: 400 for a code that may not be sent."""
        check_kick(kick)
        open_ = {f"c{each.number}": each for each in clients.each(self._context.connections)}
        for id in kick.ids:
            if id in open_:
                open_[id].close(kick.code, kick.reason, message=kick.reason or None)
        unknown = [id for id in kick.ids if id not in open_]
        return Done(count=len(kick.ids) - len(unknown), unknown=unknown)

    async def denials(self) -> Listing[Denial]:
        """The tokens, users and addresses that are denied."""
        entries = self._context.admission.denials.entries()
        found = [entry for entry in entries if not entry.lifted]
        return Listing(found=found, total=len(found))

    async def deny(self, denial: Denial) -> Denied:
        """Denies a token, a user or an address, in all processes. Raises Refusal: 400."""
        admission = self._context.admission
        admission.check_denial(denial)
        found = concerned(self._context.connections, denial, admission.spares)
        count = 0 if denial.lifted else len(found)
        spread = await self._spread.add(denial)
        return Denied(count=count, everywhere=spread.everywhere, kept=spread.kept)

    async def delete_room(self, deletion: Deletion) -> Done:
        """Deletes the messages of a chat room; `count` is 0 if it kept none.

        Raises:
            Refusal: 400 for a name that no room has.
            StoreUnavailable: the store did not confirm that.
        """
        room = KINDS.history.parse(quote(deletion.room, safe=""))
        return Done(count=int(await self._application.delete_room(room)))

    async def drain(self, drain: Drain) -> Done:
        """Stops admission; closes the connected clients, too, if requested."""
        self._context.admission.drain()
        count = len(self._context.connections)
        if drain.close:
            self._context.connections.close_all(CloseCode.RESTART)
        return Done(count=count)

    async def undrain(self) -> Done:
        """Admits clients again. Raises Refusal: 503 when the process is about to end."""
        if self._context.admission.stopping:
            raise Refusal(ErrorCode.DRAINING, "This process is about to end.")
        self._context.admission.undrain()
        return Done(count=len(self._context.connections))

    async def publish(self, publish: Publish) -> dict[str, Any]:
        """Publishes; returns the number of clients, or the posted message.

        Raises:
            Refusal: 400, a target that cannot be published to; or a bad name.
            ClientError: the text is no JSON object, for a push.
            StoreUnavailable: the store did not confirm the message.
        """
        kind = KINDS.of_group(publish.target)
        if kind is None or not kind.published:
            raise Refusal(ErrorCode.BAD_NAME, f"Publish to {KINDS.publishing}.")
        name = names.split_group(publish.target)[1]
        if kind.keeps_history:
            posted = await self._application.post(kind.parse(name), publish.text, publish.tag)
            found: dict[str, Any] = msgspec.json.decode(posted)
            return found
        payload = wire.check_object(publish.text.encode())
        return {"clients": self._application.publish(kind.group(kind.parse(name)), payload)}

    async def log_level(self) -> LogLevel:
        """The lowest level that is logged."""
        return LogLevel(level=logs.get_level())

    async def set_log_level(self, wanted: LogLevel) -> LogLevel:
        """Sets the log level. Raises Refusal: 400."""
        set_level(wanted.level)
        return await self.log_level()

    # -- parts of the answers

    def _counts(self) -> dict[str, int]:
        taken = sum(map(clients.messages, clients.each(self._context.connections)))
        ended = sum(relay.messages for relay in self._relays)
        return {"delivered": self._hub.delivered, "messages": ended + taken}

    async def _database(self) -> Part:
        try:
            self._application.check_disk()
        except Unavailable as error:
            return Part("disk_low", str(error))
        return _part(await self._application.database_trouble())

    def _redis(self) -> Part:
        if not self._application.config.redis.url:
            return Part("off")
        return _part(self._application.redis_trouble())

    def _kept(self, stream: Stream) -> Stream:
        """The stream, registered here while it is open, so that `stop` ends it."""

        def open_(sink: Sink) -> Callable[[], None]:
            close = stream.open(sink)
            self._sinks.add(sink)

            def closed() -> None:
                self._sinks.discard(sink)
                close()

            return closed

        return Stream(open_)


def _part(trouble: Trouble | None) -> Part:
    return Part("ok") if trouble is None else Part(trouble.state.value, trouble.details)


def set_level(level: str) -> None:
    """Sets the log level of this process. Raises Refusal: 400 for an unknown level."""
    try:
        logs.set_level(level)
    except ValueError as error:
        raise Refusal(ErrorCode.BAD_REQUEST, f"{error}.") from error


def no_such_client(id: str) -> Refusal:
    """The refusal for an id that no connection has."""
    return Refusal(ErrorCode.NOT_FOUND, f"There is no open connection {id}.")


def check_kick(kick: Kick) -> None:
    """Raises Refusal: 400 for a code or a reason that a server may not send."""
    code = kick.code
    if code not in (1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)):
        raise Refusal(
            ErrorCode.BAD_REQUEST,
            f"{code} is no close code that a server may send; allowed are 1000 to 1003, 1007 to "
            "1014 and 3000 to 4999.",
        )
    if len(kick.reason.encode()) > LONGEST_REASON:
        raise Refusal(ErrorCode.BAD_REQUEST, f"The reason may have {LONGEST_REASON} bytes at most.")

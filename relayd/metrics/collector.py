"""The figures of one process, read from its parts at a request. `docs/metrics.md` lists them.

Sits on `families`, under `registry`. Counts on the path of a frame are plain integers in the parts,
so that the metrics cost nothing until a request reads them.
"""

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from autobahn import __version__ as autobahn_version
from prometheus_client import ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

import twisted
from relayd import __version__
from relayd.brokers.interface import Brokers
from relayd.connection.context import Context
from relayd.connection.websocket import RelayFactory
from relayd.hub import Hub
from relayd.metrics import doors
from relayd.metrics.exchange import Rule
from relayd.metrics.families import counter, gauge, histogram, states
from relayd.metrics.lag import Lag
from relayd.names import split_group
from relayd.redis.shards import Redis
from relayd.relays.paths import KINDS
from relayd.storage.disk import DiskWatch
from relayd.storage.draws import Draws
from relayd.storage.pool import Database
from relayd.stores.states import State
from relayd.tls.served import Certificates

RULES: dict[str, Rule] = {
    "relayd_build_info": "max",
    "relayd_chat_bytes": "max",
    "relayd_chat_max_bytes": "max",
    "relayd_chat_rooms": "max",
    "relayd_database_up": "min",
    "relayd_denials": "max",
    "relayd_disk_low": "max",
    "relayd_draining": "max",
    "relayd_overloaded": "max",
    "relayd_store_state": "max",
    "relayd_reactor_lag_max_seconds": "max",
    "relayd_redis_servers": "max",
    "relayd_redis_servers_up": "min",
    "relayd_tls_certificate_end_timestamp_seconds": "min",
    "relayd_tls_certificate_stale": "max",
    "process_start_time_seconds": "min",
}
"""How the figures of several processes are combined, where that is not their sum."""


@dataclass(frozen=True)
class Parts:
    """The parts from which the figures are read."""

    context: Context
    factories: Sequence[RelayFactory]
    hub: Hub
    brokers: Brokers
    database: Database
    disk: DiskWatch
    draws: Draws
    redis: Redis | None
    lag: Lag
    certificates: Certificates


def build_registry(parts: Parts) -> CollectorRegistry:
    """Builds the registry of this process: its parts, and the kernel's figures of it."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(PartsCollector(parts))
    return registry


class PartsCollector(Collector):
    """Reads the parts."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def collect(self) -> Iterator[Metric]:
        """All families of one process (`prometheus_client.registry.Collector`)."""
        yield build_info()
        yield from self._connections()
        yield from self._handshakes()
        yield from doors.collect(self._parts.context)
        yield doors.errors(self._parts.context, (one.kind for one in self._parts.factories))
        yield from self._frames()
        yield from self._rooms()
        yield from self._database()
        yield from self._redis()
        yield from self._certificates()
        lag = self._parts.lag
        yield histogram(
            "reactor_lag_seconds",
            "How late the reactor makes its timed calls, measured four times a second; "
            "more than 0.1 means that the process is overloaded",
            lag.seconds,
        )
        yield gauge(
            "reactor_lag_max_seconds",
            "The longest lag of the reactor within the last minute, of the worst process",
            lag.longest,
        )
        yield gauge(
            "overloaded",
            "1 while the process is so late that it admits no new clients ([limits] overload_lag)",
            int(lag.overloaded),
        )

    def _certificates(self) -> Iterator[Metric]:
        certificates = list(self._parts.certificates)
        yield gauge(
            "tls_certificate_end_timestamp_seconds",
            "The Unix time at which a certificate that relayd uses ends",
            {each.files.certificate: each.pair.end.timestamp() for each in certificates},
            "file",
        )
        yield gauge(
            "tls_certificate_stale",
            "Whether the files of a certificate are broken, so that an older one stays in use",
            {each.files.certificate: int(bool(each.stale)) for each in certificates},
            "file",
        )

    def _connections(self) -> Iterator[Metric]:
        context, factories = self._parts.context, self._parts.factories
        found = _sum_connections(context.connections)
        kinds = [factory.kind for factory in factories]
        yield gauge(
            "connections",
            "Open WebSocket connections by kind of path",
            {kind: found.open[kind] for kind in kinds},
            "kind",
        )
        yield counter(
            "connections_opened",
            "WebSocket connections that were admitted",
            {factory.kind: factory.opened for factory in factories},
            "kind",
        )
        yield counter(
            "messages_received",
            "Messages received from clients, including blank and wrong ones",
            {factory.kind: factory.messages + found.taken[factory.kind] for factory in factories},
            "kind",
        )
        yield counter(
            "messages_sent",
            "Frames sent to one client alone: answers, errors, history; "
            "frames to groups are in relayd_deliveries_total",
            {factory.kind: factory.answers for factory in factories},
            "kind",
        )
        yield gauge(
            "pair_sides",
            "Clients of the quiz pairing by side: unity is a headset, android a phone",
            {side: found.sides[side] for kind in KINDS for side in kind.sides},
            "side",
        )
        yield gauge(
            "outbox_bytes",
            "Bytes buffered for clients that read slowly",
            found.waiting,
        )
        yield gauge("slow_clients", "Clients for which bytes are buffered", found.slow)
        yield gauge(
            "draining",
            "1 while relayd admits no new clients: it is about to stop, or is drained",
            int(context.admission.draining),
        )

    def _handshakes(self) -> Iterator[Metric]:
        tally = self._parts.context.tally
        yield counter(
            "handshakes_refused",
            "Handshakes that were refused, by the error code that the client got",
            {code.value: count for code, count in tally.refused.items()},
            "error",
        )
        yield counter(
            "closes_sent",
            "Connections that have ended, by the close code that relayd sent; "
            "none: it sent none, other: a code it does not know",
            tally.closes_sent,
            "code",
        )
        yield counter(
            "closes_received",
            "Connections that have ended, by the close code that the client sent; "
            "none: it sent none, other: a code that relayd does not know",
            tally.closes_received,
            "code",
        )

    def _frames(self) -> Iterator[Metric]:
        hub, drops = self._parts.hub, self._parts.context.drops
        groups = Counter(split_group(name)[0] for name in hub)
        yield gauge(
            "groups",
            "Groups that have members, by kind; chat: rooms. "
            "A group with members in two workers counts twice",
            {kind.name: groups[kind.name] for kind in KINDS.fanned_out},
            "kind",
        )
        yield counter(
            "deliveries",
            "Frames handed to members of groups and rooms, counted once for each of them",
            hub.delivered,
        )
        yield counter(
            "batches",
            "How often a group was served; deliveries divided by this are the frames of one batch",
            hub.batches,
        )
        yield histogram(
            "delivery_latency_seconds",
            "From receiving a message to handing it to the last member here; "
            "of each batch its first message, of lone messages one in 16",
            hub.latency,
        )
        yield counter(
            "drops",
            "Frames that a client did not get. replaced: a newer pose took its place; "
            "too_slow: the client was closed with 4003; redis_away: other processes did not get "
            "it; invalid: another program wrote it to Redis",
            drops.counts(),
            "reason",
        )

    def _rooms(self) -> Iterator[Metric]:
        tally = self._parts.brokers.rooms.tally
        yield gauge(
            "chat_rooms",
            "Chat rooms that keep messages, in the store that all processes share",
            tally.usage.rooms,
        )
        yield gauge(
            "chat_bytes",
            "What the messages of all chat rooms take in the store, in bytes",
            tally.usage.bytes,
        )
        servers = len(self._parts.redis.servers) if self._parts.redis is not None else 1
        yield gauge(
            "chat_max_bytes",
            "The most bytes that all chat rooms may keep ([chat] total_bytes of each Redis "
            "server); 0: any number",
            self._parts.context.current.config.chat.total_bytes * servers,
        )
        yield counter(
            "chat_trimmed_bytes",
            "Bytes of messages that were deleted because all rooms together kept too many",
            tally.trimmed,
        )
        yield counter(
            "chat_refused",
            "Messages that were refused because they would create a room. rooms: there are as many "
            "as there may be; rooms_of_address: their address has created too many",
            tally.refused,
            "quota",
        )
        yield gauge(
            "disk_low",
            "1 while the disk of the database has too little space to keep messages",
            int(self._parts.disk.low),
        )

    def _database(self) -> Iterator[Metric]:
        database, brokers = self._parts.database, self._parts.brokers
        yield histogram(
            "draw_latency_seconds",
            "From a phone's request to the quizzes drawn for it",
            self._parts.draws.latency,
        )
        stats = {name.replace(" ", "_"): stats for name, stats in database.stats.items()}
        yield histogram(
            "database_interaction_seconds",
            "How long the database took, by interaction, including the wait for a thread",
            {name: one.seconds for name, one in stats.items()},
            "interaction",
        )
        yield counter(
            "database_failures",
            "Interactions with the database that failed, by interaction",
            {name: one.failures for name, one in stats.items()},
            "interaction",
        )
        yield counter(
            "database_threads_given_up",
            "Interactions given up because the database did not answer in time",
            database.given_up,
        )
        busy = min(database.unfinished, database.threads)
        yield gauge("database_threads", "Threads for the database", database.threads)
        yield gauge("database_threads_busy", "Threads that use the database now", busy)
        yield gauge(
            "database_waiting",
            "Interactions that wait for a thread",
            database.unfinished - busy,
        )
        yield gauge(
            "database_up",
            "0 while the database is unavailable or refuses something, of the worst process",
            int(database.health.state is State.OK),
        )
        yield histogram(
            "history_append_messages",
            "Chat messages that were stored in one transaction or script",
            brokers.rooms.appended,
        )

    def _redis(self) -> Iterator[Metric]:
        servers = self._parts.redis.servers if self._parts.redis is not None else ()
        yield gauge("redis_servers", "Redis servers in the configuration", len(servers))
        yield gauge(
            "redis_servers_up",
            "Redis servers that can be used now and refuse nothing, of the worst process",
            sum(server.health.state is State.OK for server in servers),
        )
        redis = self._parts.redis
        worst = None if redis is None else redis.trouble
        yield states(
            "store_state",
            "1 for the state that a store has now, of any process, 0 for the others; "
            "docs/log.md says what each means",
            {
                "database": self._parts.database.health.state,
                "redis": None if redis is None else State.OK if worst is None else worst.state,
            },
        )
        yield histogram(
            "redis_round_trip_seconds",
            "How long Redis takes to answer a ping, every two seconds",
            [server.round_trips for server in servers],
        )
        yield counter(
            "redis_reconnects",
            "How often relayd has reconnected to Redis",
            sum(server.reconnects for server in servers),
        )


def build_info() -> Metric:
    """The versions of relayd and its libraries, as labels."""
    metric = Metric("relayd_build_info", "Versions of relayd and its libraries; always 1", "gauge")
    labels = {
        "version": __version__,
        "python": platform.python_version(),
        "twisted": twisted.__version__,
        "autobahn": autobahn_version,
    }
    metric.add_sample(metric.name, labels, 1)
    return metric


@dataclass
class _Found:
    """Sums over the open connections."""

    open: Counter[str]
    taken: Counter[str]
    sides: Counter[str]
    waiting: int = 0
    slow: int = 0


def _sum_connections(connections: Iterable[Any]) -> _Found:
    """Reads each open connection once."""
    found = _Found(Counter(), Counter(), Counter())
    for connection in connections:
        kind = connection.kind
        found.open[kind] += 1
        if connection.inlet is not None:
            found.taken[kind] += connection.inlet.received_count
        if waiting := connection.waiting:
            found.waiting += waiting
            found.slow += 1
        side = getattr(connection, "side", None)
        if side is not None:
            found.sides[side.name] += 1
    return found

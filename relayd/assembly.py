"""Builds and wires the parts of a process: one that is alone, a worker, or the parent of workers.

Sits under `tap`, on everything else. No other module wires parts. Construction goes from bottom to
top: each part is complete when its constructor returns, so its arguments are parts of lower layers,
and it never learns of a part that is built later. A frame goes through `frontdoor` → `websocket` →
`relays/` → `brokers/` → `hub` → the sockets.
"""

import os
import secrets
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from relayd import logs, private
from relayd.access import denial_file
from relayd.access.denial_spread import DenialSpread
from relayd.access.django_sessions import build_sessions
from relayd.application import Application
from relayd.brokers.interface import Brokers
from relayd.brokers.memory import MemoryBrokers
from relayd.brokers.over_redis.brokers import RedisBrokers
from relayd.cluster import Membership
from relayd.config import Config, Loaded
from relayd.config.current import Current
from relayd.config.drift import Drift
from relayd.config.reload import Reloader
from relayd.connection.admission import Admission
from relayd.connection.context import Context
from relayd.connection.denied import close_denied
from relayd.connection.keepalive import Keepalive
from relayd.connection.registry import Connections
from relayd.console.console import Console
from relayd.control.address import find_place, of_worker
from relayd.control.listener import FOR_ITS_PARENT, FOR_THE_GROUP, ControlSocket
from relayd.control.parent import Parent
from relayd.control.process import ProcessControl
from relayd.control.remote import ParentOperations
from relayd.control.site import ControlSite
from relayd.control.worker_metrics import ParentFigures, WorkerFigures, query_through
from relayd.drops import Drops
from relayd.edge.frontdoor import FrontDoorFactory
from relayd.edge.passed import listener_of, replaced, with_sockets
from relayd.edge.ports import Ports
from relayd.edge.seats import Seats
from relayd.errors import ConfigError
from relayd.hub import Hub
from relayd.logs import Logger
from relayd.logs.recent import Recent
from relayd.metrics.collector import Parts
from relayd.metrics.lag import Lag
from relayd.metrics.registry import ProcessFigures
from relayd.native.batching import Batching
from relayd.node import Node
from relayd.quotas.names import NamesInUse
from relayd.redis import urls
from relayd.redis.settings import Settings as RedisSettings
from relayd.redis.shards import Redis
from relayd.relays.paths import KINDS, build_factories
from relayd.relays.unknown import UnknownFactory
from relayd.signals import end_once, ignore_hangup, reload_at_hangup
from relayd.sockets.poller import Poller
from relayd.storage.disk import DiskWatch
from relayd.storage.draws import Draws
from relayd.storage.lookup import Lookup
from relayd.storage.pool import Database
from relayd.storage.preparation import Preparation
from relayd.systemd import Lifecycle, Notifier, Systemd
from relayd.tls.served import Certificates
from relayd.web.rooms import RoomList
from relayd.web.site import build_site
from relayd.web.texts import Texts
from relayd.web.visitors import Visitors
from relayd.workers.roster import Roster, count
from relayd.workers.supervisor import Supervisor
from relayd.workers.worker import HEARTBEAT_INTERVAL, FromParent, Heartbeat, Worker

_log = Logger()


def assemble(
    config: Config,
    read: Callable[[Mapping[str, str] | None], Loaded],
    reactor: Any,
    command: Callable[[int], list[str]],
) -> Node | Supervisor:
    """Builds the service of a process that was started by hand or by a service manager.

    Args:
        config: the configuration at the start.
        read: reads the configuration again, with secrets handed over. Raises ConfigError.
        reactor: the reactor.
        command: returns the command line of a worker, by its number.

    Returns:
        A node that serves clients, or the supervisor of `[server] workers`.

    Raises:
        SystemExit: systemd has passed a descriptor that relayd cannot listen on.
    """
    end = end_once(reactor)
    systemd = Systemd.inherited(os.environ)
    for section, endpoints in (
        ("server", systemd.endpoints()),
        ("tls", systemd.tls_endpoints()),
    ):
        if endpoints:
            one = len(endpoints) == 1
            _log.info(
                "systemd passed {count}, used instead of [{section}] listen: {places}",
                count="a listening socket" if one else f"{len(endpoints)} listening sockets",
                section=section,
                places=", ".join(endpoints),
            )

    def read_again(handed: Mapping[str, str] | None) -> Loaded:
        loaded = read(handed)
        return msgspec.structs.replace(loaded, config=with_sockets(loaded.config, systemd))

    try:
        current = Current(with_sockets(config, systemd))
    except ConfigError as error:
        raise SystemExit(f"relayd: {error}") from error
    notifier = Notifier(reactor, systemd)
    reloader = Reloader(read_again, current, notifier.reloading)
    drift = Drift(reloader.read, current, partial(replaced, systemd))
    listener = listener_of(reactor, systemd, current.config)
    service: Node | Supervisor
    if config.server.workers == 1:
        service = build_node(
            current, reactor, lifecycle=notifier, listener=listener, reloader=reloader, drift=drift
        )
    else:
        service = build_supervisor(
            current,
            reactor,
            lifecycle=notifier,
            listener=listener,
            reloader=reloader,
            drift=drift,
            command=command,
            end=end,
            heartbeat_timeout=systemd.watchdog and max(systemd.watchdog, 3 * HEARTBEAT_INTERVAL),
        )
    reload_at_hangup(reactor, reloader.try_to_reload, end)
    return service


def assemble_worker(worker: Worker, reactor: Any) -> Node:
    """Builds the service of a process that was started by its parent.

    Args:
        worker: the inheritance of this process.
        reactor: the reactor.
    """
    end = end_once(reactor)
    ignore_hangup()
    current = Current(worker.config)
    node = build_node(
        current,
        reactor,
        lifecycle=Heartbeat(reactor),
        listener=worker.listener(reactor),
        worker=worker,
    )
    FromParent(reactor, current, end, worker.rest).start()
    return node


def build_node(
    current: Current,
    reactor: Any,
    *,
    lifecycle: Lifecycle,
    listener: Any,
    reloader: Reloader | None = None,
    drift: Drift | None = None,
    worker: Worker | None = None,
) -> Node:
    """Builds a process that serves clients.

    Args:
        current: holds the configuration.
        reactor: for time, threads and reading.
        lifecycle: is notified when the process serves, and when it stops.
        listener: opens the endpoints: the reactor, or `Inherited`.
        reloader: reads the configuration again; None for a worker, whose parent does that.
        drift: compares the configuration with its files; None for a worker.
        worker: the inheritance of the process, if it is a worker.
    """
    config = current.config
    current.watch(lambda: logs.set_level(current.config.log.level), "log")
    parent_place = find_place(config, os.environ)
    process = secrets.token_hex(6)
    lag = Lag(reactor, lambda: current.config.limits.overload_lag)
    context = _build_context(current, reactor, lag)
    poller = Poller(reactor, context.seats.out_of_files)
    certificates = Certificates(reactor)
    current.watch_reloads(certificates.check)
    ports = Ports(listener, config.endpoints, poller.watch, certificates)
    handover = None if worker is None else worker.handover(reactor, poller.entrance, ports, current)
    limits = config.limits
    hub = Hub(Batching(poller.calls, limits.coalesce), limits.group_messages_per_second, process)
    database = _build_database(config, reactor)
    current.watch(lambda: database.log_in_anew(current.config.database.url), "database")
    redis = _build_redis(config, reactor)
    if redis is not None:
        current.watch(lambda: redis.log_in_anew(current.config.redis.url), "redis")
    # with Redis, only quizzes are in the database
    disk = DiskWatch(reactor, database.file, 0 if redis else config.database.min_free)
    brokers: Brokers
    if redis is None:
        brokers = MemoryBrokers(
            reactor, hub, database, config, disk=disk, kinds=KINDS,
            new_rooms_per_hour=lambda: current.config.chat.new_rooms_per_hour,
            late=lambda: lag.is_late,
        )  # fmt: skip
    else:
        brokers = RedisBrokers(
            redis, hub, config, clock=reactor, now=time.time, process=process,
            drops=context.drops, kinds=KINDS,
            new_rooms_per_hour=lambda: current.config.chat.new_rooms_per_hour,
            late=lambda: lag.is_late,
        )  # fmt: skip
    draws = Draws(database)
    relays = build_factories(
        context,
        {
            "groups": brokers.groups, "rooms": brokers.rooms, "presence": brokers.presence,
            "pairs": brokers.pairs, "draws": draws,
        },
    )  # fmt: skip
    parts = Parts(
        context=context, factories=tuple(relays.values()), hub=hub, brokers=brokers, disk=disk,
        database=database, draws=draws, redis=redis, lag=lag, certificates=certificates,
    )  # fmt: skip
    figures = ProcessFigures(parts, drift)
    application = Application(
        process=process,
        worker=None if worker is None else worker.number,
        context=context,
        ports=ports,
        hub=hub,
        database=database,
        disk=disk,
        redis=redis,
        groups=brokers.groups,
        chat=relays[KINDS.history.name],
        rooms=brokers.rooms,
        figures=figures.all if worker is None else ParentFigures(reactor, parent_place).all,
    )
    membership = None
    if redis is not None:
        prefix = config.redis.prefix
        membership = Membership(redis, reactor, prefix, application.report, process)
    place = parent_place
    if worker is not None and parent_place is not None:
        place = of_worker(parent_place, worker.number)
    spread = DenialSpread(
        context.admission.denials, reactor,
        file=Path(config.auth.denials_file or denial_file.DEFAULT),
        redis=redis, prefix=config.redis.prefix, now=time.time,
    )  # fmt: skip
    control = ProcessControl(
        context, hub, brokers.groups, application, spread, relays.values(), figures, Recent(),
        place=place, reloader=reloader, drift=drift,
    )  # fmt: skip
    # the socket of a worker is for its parent alone, and replaces that of a worker before it
    control_socket = ControlSocket(
        reactor, place, ControlSite(control, reactor, logs=worker is None),
        mode=FOR_THE_GROUP if worker is None else FOR_ITS_PARENT, takes_over=worker is not None,
    )  # fmt: skip
    console = Console(
        current, reactor, denials=context.admission.denials, database=database,
        operations=control if worker is None else ParentOperations(reactor, parent_place),
    )  # fmt: skip
    visitors = Visitors(application, context.admission)
    mounted = console, Texts(visitors, Lookup(database)), RoomList(current, visitors, brokers.lobby)
    site, unknown = build_site(application, reactor, mounted), UnknownFactory(context)
    door = FrontDoorFactory(
        current, reactor, context.seats, relays, unknown, site, context.tally, handover
    )
    return Node(
        reactor,
        context=context,
        lifecycle=lifecycle,
        poller=poller,
        ports=ports,
        certificates=certificates,
        door=door,
        handover=handover,
        preparation=Preparation(reactor, current, database.health),
        database=database,
        brokers=brokers,
        redis=redis,
        membership=membership,
        figures=figures,
        control=control,
        control_socket=control_socket,
    )


def build_supervisor(
    current: Current,
    reactor: Any,
    *,
    lifecycle: Lifecycle,
    listener: Any,
    reloader: Reloader,
    drift: Drift,
    command: Callable[[int], list[str]],
    end: Callable[[], object],
    heartbeat_timeout: float = 0.0,
) -> Supervisor:
    """Builds the parent of workers.

    Args:
        current: holds the configuration.
        reactor: for time, processes and reading.
        lifecycle: is notified when relayd serves, and when it stops.
        listener: opens the endpoints: the reactor, or `Inherited`.
        reloader: reads the configuration again, for all workers.
        drift: compares the configuration with its files.
        command: returns the command line of a worker, by its number.
        end: ends the parent.
        heartbeat_timeout: seconds without a heartbeat after which a worker is killed; 0 for never.
    """
    config = current.config
    current.watch(lambda: logs.set_level(current.config.log.level), "log")
    roster = Roster(count(config.server.workers))
    place = find_place(config, os.environ)
    paths: dict[int, Path] = {}
    if place is not None:
        paths = {each.number: of_worker(place, each.number).path for each in roster}
    figures = WorkerFigures(reactor, query_through(reactor, paths), roster.summary, drift)
    control = Parent(reactor, paths, figures, reloader, drift, Recent())
    return Supervisor(
        reactor,
        current,
        roster,
        command=command,
        end=end,
        lifecycle=lifecycle,
        ports=Ports(listener, config.endpoints, private.close_alone, Certificates(reactor)),
        preparation=Preparation(reactor, current),
        figures=figures,
        control=control,
        control_socket=ControlSocket(
            reactor, place, ControlSite(control, reactor), beside=paths.values()
        ),
        heartbeat_timeout=heartbeat_timeout,
    )


def _build_context(current: Current, reactor: Any, lag: Lag) -> Context:
    seats = Seats(current, reactor.seconds)
    sessions = build_sessions(current.config, reactor, time.time)
    admission = Admission(
        *(current, reactor, time.time, KINDS, lambda: seats.websockets), sessions=sessions,
        overloaded=lambda: lag.overloaded,
    )  # fmt: skip
    connections = Connections()
    admission.denials.watch(partial(close_denied, connections, admission.spares))
    return Context(
        current=current,
        clock=reactor,
        admission=admission,
        connections=connections,
        keepalive=Keepalive(reactor, current),
        drops=Drops(),
        seats=seats,
        names=NamesInUse(lambda: current.config.limits, seats.addresses.is_exempt),
    )


def _build_database(config: Config, reactor: Any) -> Database:
    settings = config.database
    return Database(
        settings.url, reactor=reactor, pool_size=settings.pool_size, deadline=settings.deadline,
        connect_timeout=settings.connect_timeout, statement_timeout=settings.statement_timeout,
    )  # fmt: skip


def _build_redis(config: Config, reactor: Any) -> Redis | None:
    settings = config.redis
    if not settings.url:
        return None
    bounds = RedisSettings(
        ca_file=settings.ca_file,
        verify=settings.verify,
        prefix=settings.prefix,
        deadline=settings.deadline,
    )
    return Redis(urls.parse_all(settings.url.split()), reactor, bounds)

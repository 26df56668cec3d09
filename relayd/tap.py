"""`twistd relayd`: its options, and how the parts are put together.

The only place that wires things and takes the reactor. The way of a frame through what is wired
here: `frontdoor` → `websocket` → `relays/` → `brokers/` → `hub` → `websocket` → the sockets.
"""

import os
import secrets
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import msgspec
from twisted.application.service import IService
from twisted.python import usage

from relayd import __version__, logs
from relayd.application import Application
from relayd.brokers.interface import Brokers
from relayd.brokers.memory import MemoryBrokers
from relayd.brokers.over_redis.brokers import RedisBrokers
from relayd.config import Config, Loaded, read, read_dotenv
from relayd.config.reload import Reloader
from relayd.connection.admission import Admission
from relayd.connection.context import Context
from relayd.connection.keepalive import Keepalive
from relayd.connection.registry import Connections
from relayd.control.address import find_place
from relayd.control.worker_metrics import ParentFigures
from relayd.drops import Drops
from relayd.edge.frontdoor import FrontDoorFactory
from relayd.edge.ports import Inherited
from relayd.errors import ConfigError
from relayd.hub import Hub
from relayd.logs import Logger
from relayd.logs.setup import choose
from relayd.metrics.collector import Parts
from relayd.metrics.lag import Lag
from relayd.metrics.registry import ProcessFigures
from relayd.node import Node
from relayd.redis import urls
from relayd.redis.settings import Settings as RedisSettings
from relayd.redis.shards import Redis
from relayd.relays.paths import KINDS, build_factories
from relayd.relays.unknown import UnknownFactory
from relayd.signals import end_once, ignore_hangup, reload_at_hangup
from relayd.sockets.poller import Poller
from relayd.storage.draws import Draws
from relayd.storage.history import History
from relayd.storage.pool import Database
from relayd.systemd import Notifier, Systemd
from relayd.web.site import make_site
from relayd.workers import supervisor
from relayd.workers.command import command
from relayd.workers.worker import BEAT, Worker

_log = Logger()

EX_CONFIG = 78
"""The exit status for a wrong configuration (sysexits.h)."""


class Options(usage.Options):
    """The command line of `twistd relayd`."""

    synopsis = "[options]"
    longdesc = """relayd relays WebSocket messages between headsets, phones and browsers.

Without options it listens on 127.0.0.1:8080 and keeps its data in ./var/relayd.db.

Settings come from these places; the first that has one wins: an option, the environment
(RELAYD_<SECTION>_<KEY>, such as RELAYD_ECHO_ENABLED=true; also PORT and DATABASE_URL; a .env
file in the working directory is read too), systemd's credentials, the files conf.d/*.toml
beside the file given with --config, that file, the default. etc/relayd.toml shows every
setting."""

    optFlags: ClassVar = [["check", None, "Check the configuration, say what is wrong, and exit."]]
    optParameters: ClassVar = [["config", "c", None, "Read settings from this TOML file."]]
    compData: ClassVar = usage.Completions(
        optActions={"config": usage.CompleteFiles("*.toml", descr="a TOML file")}
    )

    config: Config
    warnings: tuple[str, ...] = ()
    worker: Worker | None = None

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self.folder = os.getcwd()

    def opt_listen(self, endpoint: str) -> None:
        """Listen on this Twisted endpoint, such as tcp:8080; may be given more than once."""
        self["listen"].append(endpoint)

    opt_l = opt_listen

    def opt_version(self) -> None:
        """Show the version of relayd and exit."""
        print(f"relayd {__version__}")
        sys.exit(0)

    def postOptions(self) -> None:
        """Reads the configuration; a wrong one ends the process with EX_CONFIG."""
        self.worker = Worker.inherited(os.environ)
        if self.worker is not None:
            self.config = self.worker.config
            self._set_up_log(self.worker.number)
            return
        try:
            loaded = self.read()
        except ConfigError as error:
            print(f"relayd: {error}", file=sys.stderr)
            sys.exit(EX_CONFIG)
        self.config, self.warnings = loaded.config, loaded.warnings
        if self["check"]:
            for warning in self.warnings:
                print(f"relayd: warning: {warning}", file=sys.stderr)
            print("relayd: the configuration is good")
            sys.exit(0)
        self._set_up_log()

    def read(self, folder: str = "") -> Loaded:
        """Reads the configuration.

        Args:
            folder: what relative paths start from; "" for the working directory.

        Raises:
            ConfigError: what is wrong.
        """
        return read(
            self["config"],
            os.environ,
            dotenv=read_dotenv(folder),
            listen=self["listen"],
            folder=folder,
        )

    def _set_up_log(self, worker: int | None = None) -> None:
        logs.set_level(self.config.log.level)
        if self.parent is not None:
            choose(self.parent, self.config.log.format, os.environ, worker)


def makeService(options: Options) -> IService:
    """Builds the service that `twistd relayd` runs."""
    from twisted.internet import reactor as found

    reactor: Any = found
    for warning in options.warnings:
        _log.warn("{warning}", warning=warning)
    end = end_once(reactor)
    worker = options.worker
    if worker is not None:
        ignore_hangup()
        node = build(options.config, reactor, worker=worker.number)
        node.listener = worker.listener(reactor)
        node.handover = worker.handover(reactor)
        node.serving = partial(worker.serving, reactor, node.connections)
        worker.watch(reactor, end, node.take)
        return node
    systemd = Systemd.inherited(os.environ)
    endpoints = systemd.endpoints()
    if endpoints:
        _log.info(
            "systemd passed {count}, in the place of [server] listen: {places}",
            count="a listening socket"
            if len(endpoints) == 1
            else f"{len(endpoints)} listening sockets",
            places=", ".join(endpoints),
        )
    config = _with_sockets(options.config, endpoints)
    service: Node | supervisor.Supervisor
    if config.server.workers != 1:
        start = command(options.parent, sys.argv[0])
        service = supervisor.Supervisor(reactor, config, start, end)
        service.silence = systemd.watchdog and max(systemd.watchdog, 3 * BEAT)
        notifier = Notifier(reactor, systemd, service.status)
        service.first_serves = notifier.serving
    else:
        service = build(config, reactor)
        notifier = Notifier(reactor, systemd, service.status)
        service.serving = notifier.serving
    if systemd.sockets:
        service.listener = Inherited(reactor, systemd.sockets)
    reactor.addSystemEventTrigger("before", "shutdown", notifier.stopping)
    reloader = _reloader(options, endpoints, config, service.take)
    reloader.before, reloader.after = notifier.reloading, notifier.serving_again
    service.reload_with(reloader)
    reload_at_hangup(reactor, reloader.try_to_reload, end)
    return service


def _with_sockets(config: Config, endpoints: tuple[str, ...]) -> Config:
    """The configuration with the sockets from systemd, if any, in the place of its own."""
    if not endpoints:
        return config
    server = msgspec.structs.replace(config.server, listen=endpoints)
    return msgspec.structs.replace(config, server=server)


def _reloader(
    options: Options,
    endpoints: tuple[str, ...],
    config: Config,
    take: Callable[[Config], object],
) -> Reloader:
    """What reads the configuration again, from where it came from at the start."""

    def read_again() -> Loaded:
        # twistd has gone to another folder, perhaps
        loaded = options.read(options.folder)
        return msgspec.structs.replace(loaded, config=_with_sockets(loaded.config, endpoints))

    return Reloader(read_again, config, take)


def build(config: Config, reactor: Any, *, worker: int | None = None) -> Node:
    """Puts the parts of one process together.

    Args:
        config: the configuration.
        reactor: for time, threads and listening.
        worker: the number of the process among those of one parent, if it has one.
    """
    settings = config.database
    database = Database(
        settings.url,
        reactor=reactor,
        pool_size=settings.pool_size,
        connect_timeout=settings.connect_timeout,
        statement_timeout=settings.statement_timeout,
        deadline=settings.deadline,
    )
    poller = Poller(reactor)
    hub = Hub(poller.calls, config.limits.coalesce)
    context = Context(
        config=config,
        clock=reactor,
        admission=Admission(config, time.time),
        connections=Connections(),
        keepalive=Keepalive(
            reactor,
            interval=config.keepalive.ping_interval,
            timeout=config.keepalive.pong_timeout,
        ),
        drops=Drops(),
    )
    process = secrets.token_hex(6)
    redis: Redis | None = None
    brokers: Brokers
    if config.redis.url:
        redis = Redis(
            urls.parse_all(config.redis.url.split()),
            reactor,
            RedisSettings(ca_file=config.redis.ca_file, deadline=config.redis.deadline),
        )
        brokers = RedisBrokers(
            redis,
            hub,
            config,
            clock=reactor,
            now=time.time,
            process=process,
            drops=context.drops,
            kinds=KINDS,
        )
    else:
        brokers = MemoryBrokers(hub, History(database, keep=config.chat.history_length), KINDS)
    draws = Draws(database)
    relays = build_factories(
        context,
        {
            "groups": brokers.groups,
            "rooms": brokers.rooms,
            "pairs": brokers.pairs,
            "draws": draws,
        },
    )
    figures = ProcessFigures(
        Parts(
            context=context,
            factories=tuple(relays.values()),
            hub=hub,
            brokers=brokers,
            database=database,
            draws=draws,
            redis=redis,
            lag=Lag(reactor),
        ),
        alone=worker is None,
    )
    all_figures = figures.all
    if worker is not None:
        all_figures = ParentFigures(reactor, find_place(config, os.environ)).all
    publisher = Application(
        context, database, redis, brokers.groups, relays[KINDS.history.name], all_figures
    )
    door = FrontDoorFactory(
        config,
        reactor,
        relays,
        UnknownFactory(context),
        make_site(publisher, reactor),
        context.tally,
    )
    return Node(
        reactor, context, database, door, brokers,
        poller=poller, hub=hub, figures=figures, publisher=publisher, relays=relays.values(),
        redis=redis, process=process, worker=worker,
    )  # fmt: skip

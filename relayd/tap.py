"""`twistd relayd`: its options, and how the parts are put together.

The only place that wires things and takes the reactor. The way of a frame through what is wired
here: `frontdoor` → `websocket` → `relays/` → `brokers/` → `hub` → `websocket` → the sockets.
"""

import os
import signal
import sys
import time
from typing import Any, ClassVar

from twisted.application.service import IService
from twisted.python import usage

from relayd import __version__
from relayd.admission import Admission
from relayd.brokers.memory import MemoryGroups, MemoryPairs, MemoryRooms
from relayd.config import Config, read_dotenv
from relayd.connections import Connections
from relayd.drops import Drops
from relayd.errors import ConfigError
from relayd.frontdoor import FrontDoorFactory
from relayd.hub import Hub
from relayd.keepalive import Keepalive
from relayd.node import Node, Publisher
from relayd.relays.camera import CameraFactory
from relayd.relays.chat import ChatFactory
from relayd.relays.difficulty import DifficultyFactory
from relayd.relays.echo import EchoFactory
from relayd.relays.push import PushFactory
from relayd.relays.unknown import UnknownFactory
from relayd.storage.draws import Draws
from relayd.storage.history import History
from relayd.storage.pool import Database
from relayd.web.site import make_site
from relayd.websocket import Context

EX_CONFIG = 78
"""The exit status for a wrong configuration (sysexits.h)."""


class Options(usage.Options):
    """The command line of `twistd relayd`."""

    synopsis = "[options]"
    longdesc = """relayd relays WebSocket messages between headsets, phones and browsers.

Without options it listens on 127.0.0.1:8080 and keeps its data in ./var/relayd.db.

Settings come from these places; the first that has one wins: an option, the environment
(RELAYD_<SECTION>_<KEY>, such as RELAYD_ECHO_ENABLED=true; also PORT and DATABASE_URL; a .env
file in the working directory is read too), the file given with --config, the default.
etc/relayd.toml shows every setting."""

    optFlags: ClassVar = [["check", None, "Check the configuration, say what is wrong, and exit."]]
    optParameters: ClassVar = [["config", "c", None, "Read settings from this TOML file."]]
    compData: ClassVar = usage.Completions(
        optActions={"config": usage.CompleteFiles("*.toml", descr="a TOML file")}
    )

    config: Config

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

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
        try:
            self.config = Config.load(
                self["config"], os.environ, dotenv=read_dotenv(), listen=self["listen"]
            )
        except ConfigError as error:
            print(f"relayd: {error}", file=sys.stderr)
            sys.exit(EX_CONFIG)
        if self["check"]:
            print("relayd: the configuration is good")
            sys.exit(0)


def makeService(options: Options) -> IService:
    """Builds the service that `twistd relayd` runs."""
    from twisted.internet import reactor as found

    reactor: Any = found
    # a closed terminal drains, too, instead of ending the process in the middle
    signal.signal(signal.SIGHUP, lambda number, frame: reactor.callFromThread(reactor.stop))
    return build(options.config, reactor)


def build(config: Config, reactor: Any) -> Node:
    """Puts the parts of one process together.

    Args:
        config: the configuration.
        reactor: for time, threads and listening.
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
    hub = Hub(reactor, config.limits.coalesce)
    groups = MemoryGroups(hub)
    rooms = MemoryRooms(hub, History(database, keep=config.chat.history_length))
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
    chat = ChatFactory(context, groups, rooms)
    push = PushFactory(context, groups)
    relays = [
        CameraFactory(context, groups),
        DifficultyFactory(context, MemoryPairs(), Draws(database)),
        chat,
        push,
        EchoFactory(context),
    ]
    door = FrontDoorFactory(
        config,
        reactor,
        {factory.kind: factory for factory in relays},
        UnknownFactory(context),
        make_site(Publisher(context, database, chat, push), reactor),
    )
    return Node(reactor, context, database, door)

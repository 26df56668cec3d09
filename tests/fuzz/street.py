"""One front door for many inputs, with pages and all relays behind it."""

from typing import cast

from relayd.brokers.memory import MemoryGroups, MemoryRooms
from relayd.brokers.presence import Presence
from relayd.config import Config
from relayd.edge.frontdoor import FrontDoor
from relayd.relays.chat import ChatFactory
from relayd.relays.paths import KINDS
from relayd.relays.push import PushFactory
from relayd.storage.history import History
from tests.unit.doors import Caller, House
from tests.unit.fakes import FakeHistory, World, make_creators


class Street:
    """A front door that callers come to, one after another; built anew after a finding.

    Args:
        config: of relayd.

    Attributes:
        history: what is said in the rooms.
    """

    def __init__(self, config: Config) -> None:
        world = World(config)
        self.history = FakeHistory()
        self._head_size = config.limits.max_head_size
        self._house = House(world, [])
        groups, history = MemoryGroups(self._house.hub), cast(History, self.history)
        creators = make_creators(world.clock)
        rooms = MemoryRooms(self._house.hub, history, KINDS.history, creators)
        presence = Presence(world.clock)
        self._house.relays["push"] = PushFactory(world.context, groups)
        self._house.relays["chat"] = ChatFactory(world.context, groups, rooms, presence)

    def visit(self, pieces: list[bytes], protocol: bytes | None = None) -> Caller:
        """A caller that sends these.

        Args:
            pieces: segments.
            protocol: what TLS has chosen, if it is there.
        """
        caller = self._house.call()
        caller.transport.negotiatedProtocol = protocol
        for piece in pieces:
            caller.send(piece)
            door = caller.transport.protocol
            if isinstance(door, FrontDoor) and not door._busy:
                assert len(door._head) <= self._head_size, "a head has a bound"
        return caller

    def leave(self, caller: Caller) -> None:
        """Time passes, then the caller ends; nothing of it may stay."""
        caller.pass_time(20)
        door, transport = caller.transport.protocol, caller.transport
        if isinstance(door, FrontDoor) and door._head and not door._busy:
            assert not transport.connected or transport.disconnecting, "a head has a deadline"
        caller.end()
        clock = self._house.world.clock
        clock.advance(120)
        self._house.callers.clear()
        for waiting in self._house.backend.saying:
            waiting.cancel()
        self._house.backend.saying.clear()
        assert len(self._house.world.context.connections) == 0
        assert not self._house.factory.seats.fresh
        assert not self._house.factory.seats.kept

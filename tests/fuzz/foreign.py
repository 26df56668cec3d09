"""What comes from Redis, where other tenants write, too: channels, histories, reports.

The real groups, rooms, pairs and Django channels, on a server that is only a stand-in: arbitrary
bytes arrive on their channels, and what their local members get is checked.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relayd import cluster
from relayd.brokers.django.channels import DjangoChannels
from relayd.brokers.foreign import Foreign
from relayd.brokers.over_redis.epochs import Epochs
from relayd.brokers.over_redis.groups import RedisGroups
from relayd.brokers.over_redis.history import RedisHistory
from relayd.brokers.over_redis.keeping import Bounds, Keys
from relayd.brokers.over_redis.lobby_link import LobbyLink
from relayd.brokers.over_redis.outcomes import Outcomes
from relayd.brokers.over_redis.outgoing import Outgoing
from relayd.brokers.over_redis.pairs import RedisPairs
from relayd.brokers.over_redis.rooms import RedisRooms
from relayd.brokers.presence import Presence
from relayd.drops import Drops
from relayd.hub import Hub, Listener
from relayd.native.batching import Batching
from relayd.native.framing import read_frames
from relayd.quotas.creation import Creators
from relayd.relays.paths import KINDS
from relayd.sockets.outbox import Item
from tests.unit.fakes import NOW, logged_failures, success
from tests.unit.redis_fakes import Wires

LONGEST = 300
UUID = "0b6a1c3e-7e1d-4c0f-9a53-3f0c2f7a1b2c"


class _Server:
    """Stands in for `redis.server.RedisServer`: available, and with an answer for every script."""

    name = "redis"
    available = True

    def __init__(self) -> None:
        self.receivers: dict[bytes, Callable[[bytes], object]] = {}
        # of `since`: nothing yet, no message, and the epoch
        self.answer: list[Any] = [
            b"0",
            b"1",
            b"0",
            b"0",
            b"1",
            b"0",
            b"1:2 3",
            b"0",
            b"1",
            b"0",
            b"1",
        ]

    def watch(self, changed: Callable[[bool], object]) -> None:
        pass

    def subscribe(self, channel: str | bytes, receive: Callable[[bytes], object]) -> Any:
        self.receivers[channel.encode() if isinstance(channel, str) else channel] = receive
        done: Deferred[None] = Deferred()
        done.callback(None)
        return done

    def unsubscribe(self, channel: str | bytes) -> None:
        pass

    def publish(self, channel: bytes, payload: bytes) -> bool:
        return True

    lineage = ""

    async def run(self, script: object, keys: Sequence[str], words: Sequence[object]) -> Any:
        return self.answer

    async def call(self, *words: object) -> Any:
        return self.answer


class _Servers:
    """Stands in for `redis.shards.Redis`: one server."""

    def __init__(self) -> None:
        self.server = _Server()
        self.servers = (self.server,)

    def find(self, key: str) -> _Server:
        return self.server


def _servers() -> Any:
    """All that the brokers use of `redis.shards.Redis`."""
    return _Servers()


class _Member(Listener):
    """Notes the frames that it gets."""

    def __init__(self) -> None:
        self.frames = b""

    def write_items(self, items: Sequence[Item], frames: bytes) -> None:
        self.frames += frames


def _epochs(redis: Any, clock: Clock) -> Epochs:
    return Epochs(redis, "relayd", clock=clock, process="p1")


class _Process:
    """One relayd with members in a group of every kind, and Django beside it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.redis = _servers()
        self.foreign = Foreign(self.clock, Drops(), LONGEST)
        self.members: dict[str, _Member] = {}
        self.posted: list[str] = []
        hub = Hub(Batching(self.clock, 0))
        server: Any = self.redis.server
        django = DjangoChannels(server, "asgi", "p1", KINDS, self.foreign)
        self.groups = RedisGroups(
            hub,
            self.redis,
            clock=self.clock,
            process="p1",
            prefix="relayd",
            coalesce=0,
            drops=Drops(),
            foreign=self.foreign,
            django=django,
        )
        history = RedisHistory(
            self.redis,
            KINDS.history,
            prefix="relayd",
            process="p1",
            bounds=Bounds(),
            epochs=_epochs(self.redis, self.clock),
            foreign=self.foreign,
            clock=self.clock,
        )
        creators = Creators(self.clock.seconds, history.tally, per_hour=lambda: 0)
        self.rooms = RedisRooms(
            hub,
            self.groups,
            self.redis,
            history,
            KINDS.history,
            Outgoing(
                history,
                Outcomes(Keys("relayd", KINDS.history), "p1"),
                creators,
                self.redis.find,
                clock=self.clock,
                now=lambda: NOW,
                deadline=1,
            ),
            creators,
            clock=self.clock,
            now=lambda: NOW,
            deadline=1,
            foreign=self.foreign,
        )
        self.pairs = RedisPairs(self.redis, self.clock, "p1", "relayd", self.foreign)
        self.pairs._inbox.start()
        for kind in KINDS.fanned_out:
            if kind.keeps_history:
                django.register(kind.name, lambda group, text: self.posted.append(text))
            else:
                django.register(kind.name, hub.fan_out)
            group = kind.group("a")
            member = self.members[group] = _Member()
            success(Deferred.fromCoroutine(self.groups.join(group, member)))
        self.channels = sorted(server.receivers)


_process: _Process | None = None


def messages() -> Iterable[bytes]:
    """Messages of relayd, of Django and of others, for every channel."""
    text = [
        b'["p2",null,{"x":1}]',
        b'["p2",7,{"x":1},8,{"y":2}]',
        b'{"x":1}',
        b'[1750000000001,{"id":1750000000001,"message":"a"}]',
        b'[1,{"id":1},{"id":2},{"id":3}]',
        b'["ask","p2",1,"%b",5]' % UUID.encode(),
        b'["ready","p2",1]',
        b'["write","p2",1,"{}"]',
        b'["written",1,true]',
        b'["ask","p2",1,"%b",5,"00"]' % UUID.encode(),
        b'["settle","p2",1,"p1",1,"%b","00"]' % UUID.encode(),
        b'["void",1]',
        b'["replaced","unity","%b",5]' % UUID.encode(),
        b'["news","%b",5,true]' % UUID.encode(),
        b'["news","%b",9223372036854775808,false]' % UUID.encode(),
        msgspec.msgpack.encode({"type": "camera_message", "message": {"x": 1}}),
        msgspec.msgpack.encode({"type": "chat.message", "message": "hi"}),
        msgspec.msgpack.encode({"type": "push_message", "message": {"a": [1, 2.5, None]}}),
        msgspec.msgpack.encode({"type": "push_message", "message": {1: b"\xff"}}),
        b"\x91" * 200,
        b'["\xff","p2",1]',  # found: UnicodeDecodeError out of the inbox
    ]
    for number in range(8):
        for each in text:
            yield bytes([number]) + each
    for reply in (b"$1\r\na\r\n$2\r\nhi\r\n", b"$1\r\na\r\n:2\r\n", b"*0\r\n$2\r\nhi\r\n"):
        yield b"\xff*3\r\n$7\r\nmessage\r\n" + reply


def check_channel(data: bytes) -> None:
    """Whatever a channel carries, nothing fails, and members get short JSON objects in UTF-8."""
    global _process
    if not data:
        return
    if data[0] == 255:
        _check_replies(data[1:])
        return
    if _process is None:
        _process = _Process()
    process, _process = _process, None
    channel = process.channels[data[0] % len(process.channels)]
    with logged_failures() as failures:
        process.redis.server.receivers[channel](data[1:])
        process.clock.advance(2)
        _check_members(process)
    assert failures == [], failures
    for text in process.posted:
        text.encode()
    process.posted.clear()
    room = process.rooms._rooms["a"]
    assert len(room.early) <= 1000
    assert len(process.pairs._deliveries.offers) <= 10_000
    if room.position is None or room.position < 2**52:
        _process = process  # else later messages of the room would all be old


def _check_members(process: _Process) -> None:
    for group, member in process.members.items():
        frames, member.frames = member.frames, b""
        ids = []
        for opcode, payload in read_frames(frames):
            assert opcode == 1
            assert len(payload) <= LONGEST + 100, "longer than what may be passed on"
            value = json.loads(payload.decode())
            assert isinstance(value, dict)
            if group.startswith("chat/") and "id" in value:
                ids.append(value["id"])
        assert ids == sorted(set(ids)), "a room's ids grow"


def _check_replies(data: bytes) -> None:
    """Replies of a server that is none end the connection, or nothing."""
    got: list[bytes] = []
    with logged_failures() as failures:
        wires = Wires(Clock(), {b"a": got.append})
        wires.say(data)
        wires.clock.advance(1)
        wires.transport.end()
        wires.clock.advance(60)
    assert failures == [], failures
    assert all(isinstance(payload, bytes) for payload in got)


# -- histories and reports


def histories() -> Iterable[bytes]:
    """The report of a process, or its rooms, then entries of a stream, as ids and bodies."""
    yield b'1\x001-0\x00{"id":1,"message":"a"}\x002-0\x00{"id":2,"message":"b"}'
    yield b'5\x005-0\x00{"id":5,"message":"\xff"}\x006-0\x00{"id":7}\x00x-1\x00{}'
    yield b"0\x00" + msgspec.json.encode({"id": "p2", "version": "1", "host": "h", "pid": 1})
    yield b"0\x00\x00\x00"
    yield '{"sizes":{"a":1,"部屋":2},"partial":false}'.encode()
    yield b'{"sizes":{"a b":1}}\x001-0\x00{}'


def check_history(data: bytes) -> None:
    """Entries of a history are valid messages with their ids; a report is one, or none.

    Rooms of another process have names of rooms.
    """
    first, *parts = data.split(b"\0")
    process = _Process()
    history = RedisHistory(
        process.redis,
        KINDS.history,
        prefix="r",
        process="p1",
        bounds=Bounds(),
        epochs=_epochs(process.redis, process.clock),
        foreign=process.foreign,
        clock=process.clock,
    )
    ids, bodies = parts[::2], parts[1::2]
    ids = ids[: len(bodies)]
    # a stream has numbers alone, and the script passes on the part before the hyphen
    numbers = [number for id in ids if (number := id.partition(b"-")[0]).isdigit()]
    process.redis.server.answer = [b"9", *bodies[: len(numbers)], *numbers]
    page = success(Deferred.fromCoroutine(history.last("a", 10, 10, 1 << 20)))
    for entry in page.entries:
        value = json.loads(entry.body.decode())
        assert value["id"] == entry.id
        assert 0 < entry.id < 2**53
        assert len(entry.body) <= LONGEST
    report = cluster._decoded(first)
    assert report is None or isinstance(report, cluster.Report)
    lobby = LobbyLink(
        Presence(process.clock),
        process.redis,
        KINDS.history,
        clock=process.clock,
        process="p1",
        prefix="r",
        foreign=process.foreign,
    )
    process.redis.server.answer = [first]
    elsewhere = success(Deferred.fromCoroutine(lobby.read()))
    for name, size in elsewhere.sizes.items():
        assert KINDS.history.parse(quote(name)) == name
        assert size > 0

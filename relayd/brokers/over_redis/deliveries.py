"""Frames for headsets of other processes: the receipt means that the headset's process wrote it.

Under `pairs`; stands on `leases`. Four messages between two inboxes:

    ask      the phone's process to the headset's, from a script that finds it: get ready
    ready    back: the headset is here
    write    the phone's process, if it still waits: here is the frame
    written  back: whether the connection took it

So the phone's process alone decides whether a frame is late. A request key in Redis cannot decide
it: a command that was given up while Redis was stopped is still carried out when it goes on.
A phone waits for `within` seconds. In the first half the other process must get ready, and it
writes only if it is told to within the other half, by its own clock: so also a process that was
stopped in between never writes a frame whose phone has been told that it failed.
"""

import itertools
import time
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from relayd.brokers.over_redis.leases import Lease, Leases
from relayd.brokers.over_redis.pair_scripts import Ask, PairScripts
from relayd.errors import NoUnity, RedisUnavailable
from relayd.logs import Logger
from relayd.redis.server import RedisServer


class Ready(msgspec.Struct, array_like=True, tag="ready"):
    """To the asker: the headset can be given a frame."""

    process: str
    number: int


class Write(msgspec.Struct, array_like=True, tag="write"):
    """To the process of the headset: the frame."""

    asker: str
    number: int
    payload: str


class Written(msgspec.Struct, array_like=True, tag="written"):
    """To the asker: whether the headset's connection took the frame, or will not be given it."""

    number: int
    success: bool


class NoAnswer(NoUnity):
    """The process that holds the headset did not answer in time."""

    sentence = "The Unity app could not be reached in time; try again."


class _Request:
    """A frame on its way.

    Attributes:
        found: whether Redis has said who holds the headset.
        granted: whether the holder was told to write.
    """

    __slots__ = ("answer", "began", "found", "granted", "payload", "server")

    def __init__(self, server: RedisServer, payload: bytes, began: float) -> None:
        self.server = server
        self.payload = payload
        self.began = began
        self.found = False
        self.granted = False
        self.answer: Deferred[None] = Deferred()

    def finish(self, error: BaseException | None = None) -> None:
        """Ends it, once."""
        if not self.answer.called:
            if error is None:
                self.answer.callback(None)
            else:
                self.answer.errback(error)

    def failed(self, failure: Failure) -> None:
        """As an errback."""
        self.finish(failure.value)


class Deliveries:
    """Frames from phones of this process, and for headsets of this process.

    Args:
        scripts: the way to Redis.
        leases: the headsets of this process.
        clock: for the time that a phone waits.
        within: that time in seconds.
        most: frames that may be on their way in each direction.
        seconds: a clock that never goes back.
    """

    _log = Logger()

    def __init__(
        self,
        scripts: PairScripts,
        leases: Leases,
        clock: IReactorTime,
        *,
        within: float,
        most: int,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scripts = scripts
        self._leases = leases
        self._clock = clock
        self._within = within
        self._most = most
        self._seconds = seconds
        self._numbers = itertools.count(1)
        self._requests: dict[int, _Request] = {}
        # for whom this process is ready, and since when; oldest first
        self._offers: dict[tuple[str, int], tuple[Lease, float]] = {}

    async def deliver(self, uuid: str, payload: bytes) -> None:
        """Returns after the frame was written to the newest headset under the UUID.

        Raises:
            NoUnity: there is none, it is closing, or its process did not answer in time.
            RedisUnavailable: Redis did not answer in time, or too many frames are on their way.
        """
        if len(self._requests) >= self._most:
            raise RedisUnavailable("too many frames are on their way to headsets")
        number = next(self._numbers)
        request = _Request(self._scripts.find(uuid), payload, self._seconds())
        self._requests[number] = request
        timer = self._clock.callLater(self._within, self._overdue, request)
        asking = Deferred.fromCoroutine(self._ask(uuid, number, request))
        asking.addErrback(request.failed)
        try:
            await request.answer
        finally:
            del self._requests[number]
            if timer.active():
                timer.cancel()

    def stop(self) -> None:
        """Gives up all that is on its way."""
        for request in list(self._requests.values()):
            request.finish(RedisUnavailable("this process is stopping"))
        self._offers.clear()

    async def _ask(self, uuid: str, number: int, request: _Request) -> None:
        try:
            answer = await self._scripts.ask(uuid, number)
        except RedisUnavailable:
            if request.granted:  # so it was found, and may be written
                return
            raise
        request.found = True
        if answer is None:
            raise NoUnity
        process, token, receivers = answer
        if process == self._scripts.process:
            lease = self._leases.find("unity", uuid, token)
            in_time = self._seconds() - request.began <= self._within
            if request.answer.called or not in_time:
                raise NoAnswer
            request.finish(None if self._write(lease, request.payload) else NoUnity())
        elif not receivers:
            raise NoUnity

    def _overdue(self, request: _Request) -> None:
        # a reactor that was held up runs its timers before it reads: let it read first
        self._clock.callLater(0, self._give_up, request)

    def _give_up(self, request: _Request) -> None:
        if request.found and request.server.available:
            request.finish(NoAnswer())
        else:
            request.finish(RedisUnavailable(f"{request.server.name} did not answer in time"))

    # -- messages to the asker

    def ready(self, process: str, number: int) -> None:
        """The headset's process can write; tells it to, if there is enough time left."""
        request = self._requests.get(number)
        if request is None or request.granted or request.answer.called:
            return
        if self._seconds() - request.began > self._within / 2:
            return
        request.granted = True
        write = Write(self._scripts.process, number, request.payload.decode())
        if not self._scripts.publish(request.server, process, write):
            request.finish(RedisUnavailable(f"{request.server.name} went away"))

    def written(self, number: int, success: bool) -> None:
        """The outcome of a delivery."""
        request = self._requests.get(number)
        if request is not None and (request.granted or not success):
            request.finish(None if success else NoUnity())

    # -- messages to the process of the headset

    def ask(self, message: Ask) -> None:
        """Gets ready, if the headset is here."""
        if len(self._offers) >= self._most:
            self.tidy()
        server = self._scripts.find(message.uuid)
        lease = self._leases.find("unity", message.uuid, message.token)
        if lease is None or len(self._offers) >= self._most:
            self._scripts.publish(server, message.asker, Written(message.number, False))
            return
        self._offers[message.asker, message.number] = (lease, self._seconds())
        self._scripts.publish(server, message.asker, Ready(self._scripts.process, message.number))

    def tidy(self) -> None:
        """Forgets those who did not come back; to be called now and then."""
        now = self._seconds()
        for key, (_, since) in list(self._offers.items()):
            if now - since <= self._within:
                return
            del self._offers[key]

    def write(self, message: Write) -> None:
        """Writes a frame, unless it is late."""
        lease, since = self._offers.pop((message.asker, message.number), (None, 0.0))
        if lease is None:
            return
        in_time = self._seconds() - since <= self._within / 2
        success = in_time and not lease.over and self._write(lease, message.payload.encode())
        self._scripts.publish(lease.server, message.asker, Written(message.number, success))

    def _write(self, lease: Lease | None, payload: bytes) -> bool:
        if lease is None:
            return False
        headset: Any = lease.member
        try:
            return bool(headset.assign(payload))
        except Exception:
            self._log.failure("writing to a headset failed")
            return False

"""Frames for headsets of other processes: the receipt means that the headset's process wrote it.

Under `pairs`; stands on `leases`. Four messages between two inboxes:

    ask      the phone's process to the headset's, from a script that finds it: prepare to write
    ready    back: the headset is here
    write    the phone's process, if its phone still waits: the frame
    written  back: whether the headset's connection accepted the frame

So the phone's process alone decides whether a frame is late. A request key in Redis could not
decide this: Redis executes a command after a pause even if its sender has given the command up.
A phone waits for `within` seconds. The headset's process must answer `ready` in the first half, and
writes only if `write` arrives within the other half, by its own clock. So a process that was
stopped in between never writes a frame after its phone got an error.
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
    """To the asker: the headset's process is ready to write."""

    process: str
    number: int


class Write(msgspec.Struct, array_like=True, tag="write"):
    """To the process of the headset: the frame."""

    asker: str
    number: int
    payload: str


class Written(msgspec.Struct, array_like=True, tag="written"):
    """To the asker: whether the headset's connection accepted the frame; False if it never will."""

    number: int
    success: bool


class NoAnswer(NoUnity):
    """The process that holds the headset did not answer in time."""

    sentence = "The Unity app could not be reached in time; try again."


class _Request:
    """A frame in flight.

    Attributes:
        found: whether Redis has named the holder of the headset's lease.
        granted: whether `write` was sent to the holder.
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
        """Fires the answer, with the error if there is one. No effect the second time."""
        if not self.answer.called:
            if error is None:
                self.answer.callback(None)
            else:
                self.answer.errback(error)

    def failed(self, failure: Failure) -> None:
        """`finish` as an errback."""
        self.finish(failure.value)


class Deliveries:
    """Frames from phones of this process, and for headsets of this process.

    Args:
        scripts: run on Redis.
        leases: the headsets of this process.
        clock: for the deadline of each frame.
        within: that deadline in seconds.
        most: how many frames may be in flight in each direction.
        seconds: returns the time of a monotonic clock, in seconds.
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
        # by asker and number, the lease that this process is ready to write for, and since when;
        # oldest first
        self._offers: dict[tuple[str, int], tuple[Lease, float]] = {}

    async def deliver(self, uuid: str, payload: bytes, secret: str) -> None:
        """Returns after the frame was written to the newest headset under the UUID.

        Args:
            uuid: of the pair.
            payload: the JSON of the frame.
            secret: the hash of the pair's secret; empty without one.

        Raises:
            NoUnity: there is none with this secret, it is closing, or its process is too late.
            RedisUnavailable: Redis did not answer in time, or too many frames are in flight.
        """
        if len(self._requests) >= self._most:
            raise RedisUnavailable("too many frames are in flight to headsets")
        number = next(self._numbers)
        request = _Request(self._scripts.find(uuid), payload, self._seconds())
        self._requests[number] = request
        timer = self._clock.callLater(self._within, self._overdue, request)
        asking = Deferred.fromCoroutine(self._ask(uuid, secret, number, request))
        asking.addErrback(request.failed)
        try:
            await request.answer
        finally:
            del self._requests[number]
            if timer.active():
                timer.cancel()

    def stop(self) -> None:
        """Fails all frames in flight."""
        for request in list(self._requests.values()):
            request.finish(RedisUnavailable("this process is stopping"))
        self._offers.clear()

    async def _ask(self, uuid: str, secret: str, number: int, request: _Request) -> None:
        try:
            answer = await self._scripts.ask(uuid, number, secret)
        except RedisUnavailable:
            if request.granted:  # so the holder was found, and may still write
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
        """Sends the frame to the headset's process, if enough time is left."""
        request = self._requests.get(number)
        if request is None or request.granted or request.answer.called:
            return
        if self._seconds() - request.began > self._within / 2:
            return
        request.granted = True
        write = Write(self._scripts.process, number, request.payload.decode())
        if not self._scripts.publish(request.server, process, write):
            request.finish(RedisUnavailable(f"{request.server.name} became unavailable"))

    def written(self, number: int, success: bool) -> None:
        """The outcome of a delivery."""
        request = self._requests.get(number)
        if request is not None and (request.granted or not success):
            request.finish(None if success else NoUnity())

    # -- messages to the process of the headset

    def ask(self, message: Ask) -> None:
        """Answers `ready` if the headset is connected to this process."""
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
        """Forgets askers that never sent `write`; call it periodically."""
        now = self._seconds()
        for key, (_, since) in list(self._offers.items()):
            if now - since <= self._within:
                return
            del self._offers[key]

    def write(self, message: Write) -> None:
        """Writes a frame to its headset, unless the frame is late, and reports the outcome."""
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

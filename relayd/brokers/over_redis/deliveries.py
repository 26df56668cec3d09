"""Frames from the phones of this process: the receipt means that the headset's process wrote it.

Under `pairs`; stands on `offers`, the side of the headsets. Four messages between two inboxes:

    ask      the phone's process to the headset's, from a script that finds it: prepare to write
    ready    back: the headset is here
    write    the phone's process, if its phone still waits: the frame
    written  back: whether the headset's connection accepted the frame

So the phone's process alone decides whether a frame is late. A request key in Redis could not
decide this: Redis executes a command after a pause even if its sender has given the command up.
A phone waits for `within` seconds. The headset's process must answer `ready` in the first half, and
writes only if `write` arrives within the other half, by its own clock. So a process that was
stopped in between never writes a frame after its phone got an error.

A request ends in one of three ways. The frame was written. Or it was not and never will be: `write`
was never sent, or `written` says no. Or that is not known: `write` was sent, and no answer came.
Two more messages find it out, where that is possible:

    settle   the phone's process to the headset's: what became of `write`? Do not write it any more
    void     back: it was not written, and will not be (else `written`)

`settle` is sent when `written` does not come, and when a request with the same tag was granted
before; `frame_scripts` has the state of tagged requests.
"""

import itertools
import time
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from relayd.brokers.over_redis.frame_scripts import (
    CARRIED_OUT,
    SETTLING,
    Found,
    FrameScripts,
    Grant,
    Settle,
    Write,
)
from relayd.brokers.over_redis.leases import Leases
from relayd.brokers.over_redis.offers import Offers
from relayd.brokers.tags import mark_of
from relayd.errors import NoUnity, OutcomeUnknown, RedisUnanswered, RedisUnavailable
from relayd.redis.server import RedisServer


class NoAnswer(NoUnity):
    """The process that holds the headset did not answer in time, and will not write the frame."""

    sentence = "The Unity app could not be reached in time; try again."


class _Request:
    """A frame in flight.

    Attributes:
        payload: the JSON of the frame; None to look for an earlier request with the same mark.
        found: whether Redis has named the holder of the headset's lease.
        holder: the process that `write` was sent to, as far as is known; else empty.
        settling: whether the outcome of an earlier request with the same mark is being found out.
        looked_up: whether Redis has said what it knows of the mark.
    """

    __slots__ = (
        "answer",
        "began",
        "found",
        "holder",
        "looked_up",
        "mark",
        "number",
        "payload",
        "query",
        "secret",
        "server",
        "settling",
        "uuid",
    )

    def __init__(
        self, number: int, uuid: str, secret: str, mark: str, payload: bytes | None
    ) -> None:
        self.number = number
        self.uuid = uuid
        self.secret = secret
        self.mark = mark
        self.payload = payload
        self.began = 0.0
        self.server: RedisServer
        self.found = self.settling = self.looked_up = False
        self.holder = ""
        self.query: IDelayedCall | None = None
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
    """Frames from phones of this process.

    Args:
        scripts: run on Redis.
        leases: the headsets of this process.
        clock: for the deadline of each frame.
        within: that deadline in seconds.
        most: how many frames may be in flight in each direction.
        seconds: returns the time of a monotonic clock, in seconds.

    Attributes:
        offers: the frames for headsets of this process.
    """

    def __init__(
        self,
        scripts: FrameScripts,
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
        self.offers = Offers(
            *(scripts, leases), within=within, most=most, end_own=self._end_own, seconds=seconds
        )

    async def deliver(self, uuid: str, payload: bytes, secret: str, tag: str) -> None:
        """Returns after the frame was written to the newest headset under the UUID.

        Args:
            uuid: of the pair.
            payload: the JSON of the frame.
            secret: the hash of the pair's secret; empty without one.
            tag: what the phone calls its request; empty for nothing.

        Raises:
            NoUnity: there is none with this secret, it is closing, or its process is too late.
            OutcomeUnknown: the frame may have been written, or one of a request with this tag.
            RedisUnavailable: Redis did not answer in time, or too many frames are in flight.
        """
        await self._finish(uuid, secret, tag, payload)

    async def carried_out(self, uuid: str, secret: str, tag: str) -> bool:
        """Whether the frame of a request with this tag was written. Raises as `deliver`."""
        try:
            await self._finish(uuid, secret, tag, None)
        except NoUnity:
            return False
        return True

    async def _finish(self, uuid: str, secret: str, tag: str, payload: bytes | None) -> None:
        if len(self._requests) >= self._most:
            error = OutcomeUnknown if tag else RedisUnavailable
            raise error("too many frames are in flight to headsets")
        request = _Request(next(self._numbers), uuid, secret, mark_of(secret, tag), payload)
        request.server, request.began = self._scripts.find(uuid), self._seconds()
        self._requests[request.number] = request
        timer = self._clock.callLater(self._within, self._overdue, request)
        self._begin(request)
        try:
            await request.answer
        except RedisUnavailable as error:
            if request.mark and not request.looked_up:
                # an earlier request with this tag may have been carried out
                raise OutcomeUnknown(str(error)) from error
            raise
        finally:
            del self._requests[request.number]
            for call in (timer, request.query):
                if call is not None and call.active():
                    call.cancel()

    def stop(self) -> None:
        """Fails all frames in flight."""
        for request in list(self._requests.values()):
            unknown = request.holder or request.settling
            error = OutcomeUnknown if unknown else RedisUnavailable
            request.finish(error("this process is stopping"))
        self.offers.stop()

    def _begin(self, request: _Request) -> None:
        Deferred.fromCoroutine(self._ask(request)).addErrback(request.failed)

    async def _ask(self, request: _Request) -> None:
        looks = request.payload is None
        uuid, number, secret = request.uuid, request.number, request.secret
        try:
            found = await self._scripts.ask(uuid, number, secret, request.mark, looks=looks)
        except RedisUnavailable:
            if request.holder or request.settling:  # so Redis did it, and an answer may come
                return
            raise
        request.looked_up = True
        if found is None:
            raise NoUnity
        if found[0] == CARRIED_OUT:
            request.finish()
        elif found[0] == SETTLING:
            request.settling = True
            if not found[3]:  # that process has ended, and nobody else knows
                raise OutcomeUnknown("the process that may have written the frame has ended")
        else:
            request.found = True
            self._found(request, found)

    def _found(self, request: _Request, found: Found) -> None:
        _, process, token, receivers = found
        if process != self._scripts.process:
            if not receivers:
                raise NoUnity
            return
        late = request.answer.called or self._seconds() - request.began > self._within
        lease, payload = self._leases.find("unity", request.uuid, token), request.payload or b""
        written = self.offers.write_own(lease, payload, self._grant(request, process), late=late)
        if late:
            raise NoAnswer
        request.finish(None if written else NoUnity())

    def _grant(self, request: _Request, holder: str) -> Grant:
        return Grant(request.uuid, request.mark, holder, self._scripts.process, request.number)

    def _end_own(self, number: int) -> None:
        """A frame of this process, for a headset of this process, is not to be written any more."""
        request = self._requests.get(number)
        if request is not None:
            request.finish(NoAnswer())

    def _overdue(self, request: _Request) -> None:
        # a reactor that was held up runs its timers before it reads: let it read first
        self._clock.callLater(0, self._give_up, request)

    def _give_up(self, request: _Request) -> None:
        name = request.server.name
        if request.holder or request.settling:
            request.finish(OutcomeUnknown(f"no answer through {name} in time"))
        elif request.found and request.server.available:
            request.finish(NoAnswer())
        else:
            request.finish(RedisUnavailable(f"{name} did not answer in time"))

    # -- messages

    def ready(self, process: str, number: int) -> None:
        """Sends the frame to the headset's process, if enough time is left."""
        request = self._requests.get(number)
        if request is None or request.payload is None or request.holder or request.answer.called:
            return
        if self._seconds() - request.began > self._within / 2:
            return
        request.holder = process
        write = Write(self._scripts.process, number, request.payload.decode())
        if request.mark:
            granting = Deferred.fromCoroutine(self._send_granted(request, write))
            granting.addErrback(request.failed)
        elif not self._scripts.send(request.server, process, write):
            request.finish(RedisUnavailable(f"{request.server.name} became unavailable"))
        self._query_later(request)

    async def _send_granted(self, request: _Request, write: Write) -> None:
        try:
            sent = await self._scripts.grant(self._grant(request, request.holder), write)
        except RedisUnanswered:
            return  # it may have been sent: an answer may come
        except RedisUnavailable:
            request.holder = ""
            raise
        if sent < 0:  # the same request, from another connection of the phone
            request.holder = ""
            await self._ask(request)
        elif not sent:
            request.finish(NoAnswer())

    def _query_later(self, request: _Request) -> None:
        if not request.answer.called:
            request.query = self._clock.callLater(self._within / 4, self._query, request)

    def _query(self, request: _Request) -> None:
        """Asks what became of `write`: the answer, or `write` itself, may be lost."""
        if request.holder:
            me, number = self._scripts.process, request.number
            settle = Settle(me, number, me, number, request.uuid, request.mark)
            self._scripts.send(request.server, request.holder, settle)
        self._query_later(request)

    def written(self, number: int, success: bool) -> None:
        """The outcome of a delivery."""
        request = self._requests.get(number)
        if request is not None and (request.holder or request.mark or not success):
            request.finish(None if success else NoUnity())

    def void(self, number: int) -> None:
        """The frame was not written, and will not be."""
        request = self._requests.get(number)
        if request is None or request.answer.called:
            return
        if request.holder:
            request.finish(NoAnswer())
        elif request.settling:
            request.settling = False
            self._begin(request)

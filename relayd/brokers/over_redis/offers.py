"""Frames for the headsets of this process: what it offered to write, what it wrote, what it voided.

Under `deliveries`, whose first lines have the messages; stands on `leases` and `frame_scripts`.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from relayd.brokers.over_redis.frame_scripts import (
    Ask,
    FrameScripts,
    Grant,
    Ready,
    Settle,
    Void,
    Write,
    Written,
)
from relayd.brokers.over_redis.leases import Lease, Leases
from relayd.brokers.tags import Tags
from relayd.errors import RedisUnavailable
from relayd.logs import Logger


class _Offer(msgspec.Struct):
    """This process is ready to write a frame, since a moment."""

    lease: Lease
    grant: Grant
    since: float


class Offers:
    """The side of the headsets.

    Args:
        scripts: run on Redis.
        leases: the headsets of this process.
        within: seconds that a phone waits.
        most: how many offers there may be, and how many outcomes are remembered.
        end_own: called with the number of a request of this process that is not to be written any
            more, if it has not been.
        seconds: returns the time of a monotonic clock, in seconds.
    """

    _log = Logger()

    def __init__(
        self,
        scripts: FrameScripts,
        leases: Leases,
        *,
        within: float,
        most: int,
        end_own: Callable[[int], None],
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scripts = scripts
        self._leases = leases
        self._within = within
        self._most = most
        self._end_own = end_own
        self._seconds = seconds
        # both by asker and number, oldest first
        self._offers: dict[tuple[str, int], _Offer] = {}
        self._written: OrderedDict[tuple[str, int], float] = OrderedDict()
        self._tags = Tags(seconds)

    def __len__(self) -> int:
        return len(self._offers)

    def stop(self) -> None:
        """Writes nothing any more."""
        self._offers.clear()

    def ask(self, message: Ask) -> None:
        """Answers `ready` if the headset is connected to this process."""
        if len(self._offers) >= self._most:
            self.tidy()
        grant = Grant(
            *(message.uuid, message.mark, self._scripts.process, message.asker, message.number)
        )
        if self._tags.has(message.uuid, message.mark):  # Redis has lost it
            self._report(grant, True)
            return
        lease = self._leases.find("unity", message.uuid, message.token)
        server = self._scripts.find(message.uuid)
        if lease is None or len(self._offers) >= self._most:
            self._scripts.send(server, message.asker, Written(message.number, False))
            return
        offer = _Offer(lease, grant, self._seconds())
        self._offers[message.asker, message.number] = offer
        self._scripts.send(server, message.asker, Ready(self._scripts.process, message.number))

    def write(self, message: Write) -> None:
        """Writes a frame to its headset, unless the frame is late, and reports the outcome."""
        offer = self._offers.pop((message.asker, message.number), None)
        if offer is None:
            return
        in_time = self._seconds() - offer.since <= self._within / 2
        payload = message.payload.encode()
        written = in_time and not offer.lease.over and self._write(offer.lease, payload)
        if written:
            self._note(offer.grant)
        self._report(offer.grant, written)

    def write_own(self, lease: Lease | None, payload: bytes, grant: Grant, *, late: bool) -> bool:
        """Writes a frame of a phone of this process, unless it is late; whether it was written."""
        written = not late and lease is not None and self._write(lease, payload)
        if grant.mark:
            if written:
                self._note(grant)
            self._settle(grant, written, "", Written(grant.number, written))
        return written

    def settle(self, message: Settle) -> None:
        """Says what became of a grant; a frame that is not written yet never will be."""
        key = message.of_asker, message.of_number
        written = key in self._written or self._tags.has(message.uuid, message.mark)
        if not written:
            self._offers.pop(key, None)
            if message.of_asker == self._scripts.process:
                self._end_own(message.of_number)
        answer = Written(message.number, True) if written else Void(message.number)
        grant = Grant(message.uuid, message.mark, self._scripts.process, *key)
        if message.mark:
            self._settle(grant, written, message.asker, answer)
        else:
            self._scripts.send(self._scripts.find(message.uuid), message.asker, answer)

    def tidy(self) -> None:
        """Forgets askers that never sent `write`, and old outcomes; call it periodically."""
        now = self._seconds()
        for key, offer in list(self._offers.items()):
            if now - offer.since <= self._within:
                break
            del self._offers[key]
        while self._written and now - next(iter(self._written.values())) > 2 * self._within:
            self._written.popitem(last=False)

    def _write(self, lease: Lease, payload: bytes) -> bool:
        headset: Any = lease.member
        try:
            return bool(headset.assign(payload))
        except Exception:
            self._log.failure("writing to a headset failed")
            return False

    def _note(self, grant: Grant) -> None:
        self._tags.add(grant.uuid, grant.mark)
        self._written[grant.asker, grant.number] = self._seconds()
        if len(self._written) > self._most:
            self._written.popitem(last=False)

    def _report(self, grant: Grant, written: bool) -> None:
        message = Written(grant.number, written)
        if grant.mark:
            self._settle(grant, written, grant.asker, message)
        else:
            self._scripts.send(self._scripts.find(grant.uuid), grant.asker, message)

    def _settle(self, grant: Grant, written: bool, to: str, message: msgspec.Struct) -> None:
        """Notes an outcome in Redis; where that fails, this process tells it to whoever asks."""
        settling = Deferred.fromCoroutine(self._scripts.settle(grant, written, to, message))
        settling.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(RedisUnavailable):
            self._log.failure("noting the outcome of a request failed", failure)

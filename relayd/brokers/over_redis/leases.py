"""The leases of one process: which of its connections is registered under which UUID.

Under `pairs`; stands on `pair_scripts`. Redis decides which connection holds a lease. This module
records what each connection was notified of, so that each change is reported once: that the
connection was replaced, and to a phone that the headset came or left. Both changes arrive as
messages at once, and show in the next renewal if the messages were lost.
"""

import contextlib
import itertools
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime

from relayd.brokers.duels import warn_of_duel
from relayd.brokers.interface import Headset, Phone
from relayd.brokers.over_redis.pair_scripts import (
    DUEL,
    PAIRED,
    REPLACED,
    WRONG_SECRET,
    Claim,
    PairScripts,
    Side,
)
from relayd.errors import RedisUnavailable, WrongSecret
from relayd.logs import Logger
from relayd.redis.server import RedisServer

_BATCH = 200
"""Leases in one call of a script: about half a millisecond of Redis' time."""
_STEP = 1.0
"""Seconds by which the clock of Redis gains on ours before it counts as set forward."""


class Lease:
    """One registration of this process.

    Attributes:
        side: the side of the pair.
        uuid: the UUID of the pair.
        server: the Redis that has the lease.
        member: the connection.
        secret: the hash of its secret; empty without one.
        token: the fencing token; 0 before Redis assigned one.
        held: whether Redis has confirmed that the connection holds the lease.
        over: whether the lease was released, replaced, or never acquired.
        barred: whether the pair is bound to another secret; `over` is set, too.
        news: how many messages about the headset came for the phone.
        present: whether the phone, as last notified, has a headset; True at first, since a phone is
            refused without one.
    """

    __slots__ = (
        "barred",
        "held",
        "member",
        "news",
        "over",
        "present",
        "secret",
        "server",
        "side",
        "token",
        "uuid",
    )

    def __init__(
        self, side: Side, uuid: str, secret: str, server: RedisServer, member: Headset | Phone
    ) -> None:
        self.side = side
        self.uuid = uuid
        self.secret = secret
        self.server = server
        self.member = member
        self.token = 0
        self.held = False
        self.over = False
        self.barred = False
        self.news = 0
        self.present = True

    @property
    def claim(self) -> Claim:
        """The lease as an argument of the scripts."""
        return Claim(self.side, self.uuid, self.token, self.secret)


class Leases:
    """All leases of this process.

    Args:
        scripts: run on Redis.
        clock: for releases, which are batched at the end of a turn of the reactor.
        ready: returns when messages through a server reach this process; raises RedisUnavailable.
        grace: seconds after an outage of Redis before a headset whose lease is missing counts as
            disconnected: until then, its process may not have registered it again.
        seconds: returns the time of a monotonic clock, in seconds.
    """

    _log = Logger()

    def __init__(
        self,
        scripts: PairScripts,
        clock: IReactorTime,
        ready: Callable[[RedisServer], Awaitable[None]],
        *,
        grace: float,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scripts = scripts
        self._clock = clock
        self._ready = ready
        self._grace = grace
        self._seconds = seconds
        # a side and UUID has more than one only while a newer one is being registered
        self._leases: dict[tuple[Side, str], list[Lease]] = {}
        self._renewing: set[RedisServer] = set()
        self._back: dict[RedisServer, float] = {}  # when its last outage ended
        self._ahead: dict[RedisServer, float] = {}  # of our clock, as last seen
        self._leaving: list[Lease] = []
        self._left: set[Deferred[None]] = set()

    def __iter__(self) -> Iterator[Lease]:
        return itertools.chain.from_iterable(list(self._leases.values()))

    def find(self, side: Side, uuid: str, token: int) -> Lease | None:
        """The lease with a token, as long as it is not over."""
        for lease in self._leases.get((side, uuid), ()):
            if lease.token == token:
                return lease
        return None

    async def add(self, side: Side, uuid: str, secret: str, member: Headset | Phone) -> None:
        """Registers a connection; older ones of its side and UUID, in any process, are notified.

        Returns also if the connection was removed or replaced meanwhile.

        Raises:
            RedisUnavailable: the connection is not registered.
            WrongSecret: the pair is bound to another secret.
        """
        lease = Lease(side, uuid, secret, self._scripts.find(uuid), member)
        self._leases.setdefault((side, uuid), []).append(lease)
        try:
            await self._ready(lease.server)
            lease.token = await self._scripts.token(side, uuid)
            if self._overtaken(lease):
                self._replace(lease)
            elif not lease.over:
                await self._hold(lease.server, [lease])
        except BaseException:
            self._end(lease)
            raise
        if lease.barred:
            raise WrongSecret

    def _overtaken(self, lease: Lease) -> bool:
        """Whether a later connection already has a token, though a smaller one.

        The order may change while Redis gets the text of a script that it does not know yet. A
        connection with another secret does not count: Redis decides between the two.
        """
        leases = self._leases.get((lease.side, lease.uuid), [])
        later = leases[leases.index(lease) + 1 :] if lease in leases else []
        return any(one.token and one.secret == lease.secret for one in later)

    def remove(self, side: Side, uuid: str, member: Headset | Phone) -> None:
        """Releases the lease of a connection, or abandons its registration."""
        for lease in self._leases.get((side, uuid), ()):
            if lease.member is member:
                self._end(lease)
                return

    def replaced(self, side: Side, uuid: str, token: int) -> None:
        """A message: a newer connection has acquired the lease of this token."""
        lease = self.find(side, uuid, token)
        if lease is not None:
            self._replace(lease)

    def barred(self, uuid: str, token: int) -> None:
        """A message: the headset has a secret, and the phone with this token has none."""
        lease = self.find("android", uuid, token)
        if lease is not None:
            self._bar(lease)

    def news(self, uuid: str, token: int, present: bool) -> None:
        """A message for the phone with this token: the headset came, or left."""
        lease = self.find("android", uuid, token)
        if lease is not None:
            lease.news += 1
            self._report(lease, present)

    def renew(self, server: RedisServer) -> None:
        """Renews all leases on a server, unless a renewal is under way."""
        if server not in self._renewing:
            self._renewing.add(server)
            Deferred.fromCoroutine(self._renew(server)).addErrback(self._failed)

    def recovered(self, server: RedisServer) -> None:
        """An outage of a server is over."""
        self._back[server] = self._seconds()
        self.renew(server)

    def stop(self) -> "Deferred[None]":
        """Releases all leases. The Deferred fires when Redis has confirmed, or is unavailable."""
        for lease in list(self):
            self._end(lease)
        self._flush()
        return DeferredList(list(self._left)).addCallback(lambda _: None)

    # -- acquiring and renewing

    async def _renew(self, server: RedisServer) -> None:
        try:
            leases = [lease for lease in self if lease.server is server and lease.held]
            for first in range(0, len(leases), _BATCH):
                batch = [lease for lease in leases[first : first + _BATCH] if not lease.over]
                if batch:
                    await self._hold(server, batch)
        except RedisUnavailable:
            pass  # the server logs the outage; its end renews all leases
        finally:
            self._renewing.discard(server)

    async def _hold(self, server: RedisServer, leases: list[Lease]) -> None:
        news = [lease.news for lease in leases]
        answers, now = await self._scripts.hold(server, [lease.claim for lease in leases])
        self._follow_clock(server, now)
        for lease, before, answer in zip(leases, news, answers, strict=True):
            if answer & DUEL:
                warn_of_duel(lease.side, lease.uuid)
                answer -= DUEL
            if answer not in (
                REPLACED,
                WRONG_SECRET,
            ):  # also if the connection left meanwhile: it held the lease
                for older in list(self._leases.get((lease.side, lease.uuid), ())):
                    if 0 < older.token < lease.token:
                        self._replace(older)
            if lease.over:
                continue
            if answer == REPLACED:
                self._replace(lease)
                continue
            if answer == WRONG_SECRET:
                self._bar(lease)
                continue
            fresh, lease.held = not lease.held, True
            # a message that came after the script was sent may be newer than its answer
            if lease.side == "android" and lease.news == before:
                present = answer == PAIRED
                if present or fresh or not self._in_doubt(server):
                    self._report(lease, present)

    def _follow_clock(self, server: RedisServer, now: float) -> None:
        """Redis ends leases by its wall clock: where that is set forward, as after an outage."""
        ahead = now - self._seconds()
        if ahead - self._ahead.get(server, ahead) > _STEP:
            self._back[server] = self._seconds()
        self._ahead[server] = ahead

    def _in_doubt(self, server: RedisServer) -> bool:
        back = self._back.get(server)
        return back is not None and self._seconds() - back < self._grace

    # -- notifying the connections

    def _replace(self, lease: Lease) -> None:
        self._drop(lease)
        try:
            lease.member.replaced()
        except Exception:
            self._log.failure("replacing a connection failed")

    def _bar(self, lease: Lease) -> None:
        self._drop(lease)
        lease.barred = True
        if lease.held:  # else `add` raises
            try:
                lease.member.barred()
            except Exception:
                self._log.failure("closing a connection failed")

    def _report(self, lease: Lease, present: bool) -> None:
        if lease.present == present:
            return
        lease.present = present
        phone: Any = lease.member
        try:
            if present:
                phone.headset_came()
            else:
                phone.headset_left()
        except Exception:
            self._log.failure("notifying a phone failed")

    # -- releasing

    def _end(self, lease: Lease) -> None:
        """Ends a lease, and releases it in Redis even if Redis never confirmed it."""
        if lease.over:
            return
        self._drop(lease)
        if lease.token:
            if not self._leaving:
                self._clock.callLater(0, self._flush)
            self._leaving.append(lease)

    def _drop(self, lease: Lease) -> None:
        lease.over = True
        leases = self._leases[lease.side, lease.uuid]
        leases.remove(lease)
        if not leases:
            del self._leases[lease.side, lease.uuid]

    def _flush(self) -> None:
        leaving, self._leaving = self._leaving, []
        by_server: dict[RedisServer, list[Claim]] = defaultdict(list)
        for lease in leaving:
            by_server[lease.server].append(lease.claim)
        for server, claims in by_server.items():
            for first in range(0, len(claims), _BATCH):
                left = Deferred.fromCoroutine(self._leave(server, claims[first : first + _BATCH]))
                self._left.add(left)
                left.addErrback(self._failed).addCallback(self._forget, left)

    async def _leave(self, server: RedisServer, claims: list[Claim]) -> None:
        with contextlib.suppress(RedisUnavailable):  # then the leases expire
            await self._scripts.leave(server, claims)

    def _forget(self, _: object, left: "Deferred[None]") -> None:
        self._left.discard(left)

    def _failed(self, failure: Any) -> None:
        self._log.failure("renewing or releasing leases failed", failure)

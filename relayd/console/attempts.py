"""How often a password may be tried, and how many are tried at once.

Beside `sessions`, under `login`. Each address has a few attempts at once and then one every few
seconds; of IPv6, a /64 counts as one. No address is exempt: behind a proxy that nobody has
configured as trusted, all clients are one address, and guessing stays slow. A try costs a thread
0.1 s, so one runs at a time and few wait; with a full queue the answer is 429. A stranger with many
addresses can thus keep one thread busy, but neither the reactor nor other threads.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThreadPool

from relayd import forwarded
from relayd.errors import ErrorCode, Refusal

BURST = 5
"""Attempts of an address at once."""
PAUSE = 10.0
"""Seconds after which an address has another attempt."""
MOST_WAITING = 4
"""Attempts of all addresses that wait for the thread."""
MOST_ADDRESSES = 10_000
"""Addresses that are remembered; beyond them the one that tried the longest ago is forgotten."""


class Attempts:
    """The attempts of this process.

    Args:
        reactor: provides IReactorTime and IReactorThreads.
        try_: whether a password is right; blocks for 0.1 s.
    """

    def __init__(self, reactor: Any, try_: Callable[[str, str], bool]) -> None:
        self._reactor = reactor
        self._try = try_
        self._lock = DeferredLock()
        self._waiting = 0
        # the time until which the attempts of an address are used up (GCRA, ITU-T I.371)
        self._used: OrderedDict[str, float] = OrderedDict()

    async def check(self, client: str, line: str, password: str) -> bool:
        """Tries a password. A right one makes the address free again.

        Args:
            client: the address.
            line: the hash.
            password: of a bounded length.

        Raises:
            Refusal: 429 after too many attempts of this address, or with too many at once.
        """
        key = forwarded.network_of(client)
        self._spend(key)
        if self._waiting > MOST_WAITING:
            raise Refusal(
                ErrorCode.TOO_MANY_REQUESTS,
                "Too many passwords are tried at this moment; wait for Retry-After.",
                retry_after=2,
            )
        self._waiting += 1
        try:
            right: bool = await self._lock.run(self._run, line, password)
        finally:
            self._waiting -= 1
        if right:
            self._used.pop(key, None)
        return right

    def _run(self, line: str, password: str) -> "Deferred[bool]":
        pool = self._reactor.getThreadPool()
        return deferToThreadPool(self._reactor, pool, self._try, line, password)

    def _spend(self, key: str) -> None:
        now: float = self._reactor.seconds()
        until = max(self._used.get(key, now), now)
        if until - now > (BURST - 1) * PAUSE:
            wait = until - now - (BURST - 1) * PAUSE
            raise Refusal(
                ErrorCode.TOO_MANY_REQUESTS,
                "Too many passwords were tried from your address; wait for Retry-After.",
                retry_after=max(1, math.ceil(wait)),
            )
        self._used[key] = until + PAUSE
        self._used.move_to_end(key)
        if len(self._used) > MOST_ADDRESSES:
            self._used.popitem(last=False)

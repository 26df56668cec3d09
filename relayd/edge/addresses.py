"""The limits per address: connections, half-open ones, handshakes, failed ones, HTTP requests.

Sits under `seats`; handshakes, chat and pages ask, too. Pure, given a clock. An IPv6 client has a
whole /64 (RFC 6177), so that counts as one address. Behind a trusted proxy, the address is the
client's, which is known with the request head; the proxy itself has no limits.
Networks in `[limits] exempt` have none either: by default this machine, where a proxy that nobody
has configured as trusted would otherwise be refused with all its clients.

The memory is bounded: an address without connections is remembered while one of its rates is used
up, and at most `MOST_RESTING` of them, the latest ones.
"""

import ipaddress
import math
from collections.abc import Callable

from relayd import forwarded
from relayd.config.current import Current
from relayd.errors import ErrorCode, Refusal

BURST = 10.0
"""Seconds of handshakes or requests that may come at once: a hall that connects again."""
FAILURE_BURST = 100.0
"""The same for failed handshakes: a hall of phones that are faster than their headsets."""
MOST_RESTING = 10_000
MOST_KEYS = 8192
"""Addresses whose network is looked up only once."""


class Source:
    """One address: its connections, and when its rates are free again.

    Attributes:
        open: its TCP connections; each is an open file.
        fresh: those of them without a whole request head.
    """

    __slots__ = ("failures", "fresh", "handshakes", "key", "open", "requests")

    def __init__(self, key: str) -> None:
        self.key = key
        self.open = self.fresh = 0
        # the time until which the rate is used up (GCRA, ITU-T I.371)
        self.handshakes = self.failures = self.requests = 0.0

    def is_used(self, now: float) -> bool:
        """Whether it has connections, or a rate that is not whole."""
        return bool(self.open) or max(self.handshakes, self.failures, self.requests) > now


class Addresses:
    """The addresses of one process.

    Args:
        current: holds the configuration.
        now: seconds, by a clock that is not set.

    Attributes:
        refused: how many handshakes and requests were refused so far, by the limit.
    """

    def __init__(self, current: Current, now: Callable[[], float]) -> None:
        self.refused = dict.fromkeys(("connections", "handshakes", "failures", "requests"), 0)
        self._current = current
        self._now = now
        self._sources: dict[str, Source] = {}
        self._resting: dict[str, Source] = {}
        self._keys: dict[str, str | None] = {}
        self._read_networks()
        current.watch(self._read_networks, "limits", "proxy")

    def _read_networks(self) -> None:
        config = self._current.config
        self._exempt = [ipaddress.ip_network(text) for text in config.limits.exempt]
        self._proxies = forwarded.proxies(config.proxy.trusted, config.proxy.header)
        self._keys.clear()

    def __len__(self) -> int:
        return len(self._sources)

    def find(self, host: str) -> Source | None:
        """The counts of an address.

        Args:
            host: an IP address, or `unix:`.

        Returns:
            None if the address has no limits.
        """
        key = self.key(host)
        if key is None:
            return None
        source = self._sources.get(key)
        if source is None:
            source = self._sources[key] = Source(key)
        elif self._resting:
            self._resting.pop(key, None)
        return source

    def key(self, host: str) -> str | None:
        """What of an address counts: itself, or its /64; None if it has no limits per address.

        All limits per address ask here, also those of names in use and of new rooms.

        Args:
            host: an IP address, or `unix:`.
        """
        try:
            return self._keys[host]
        except KeyError:
            return self._find_key(host)

    def is_exempt(self, host: str) -> bool:
        """Whether an address has no limits per address."""
        return self.key(host) is None

    def _find_key(self, host: str) -> str | None:
        if len(self._keys) >= MOST_KEYS:
            self._keys.clear()
        key = self._keys[host] = self._key_of(host)
        return key

    def _key_of(self, host: str) -> str | None:
        """The address or the /64 that counts; None for one without limits."""
        if host == forwarded.UNIX or self._proxies.trusts(host):
            return None
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in network for network in self._exempt):
            return None
        return forwarded.network_of(host)

    def rest(self, source: Source) -> None:
        """Forgets an address that has no connections, as soon as its rates are whole again."""
        if source.open:
            return
        now = self._now()
        if not source.is_used(now):
            self._forget(source)
            return
        self._resting[source.key] = source
        for _ in range(2):
            oldest = next(iter(self._resting.values()), None)
            if oldest is None or (len(self._resting) <= MOST_RESTING and oldest.is_used(now)):
                break
            self._forget(oldest)

    def _forget(self, source: Source) -> None:
        self._resting.pop(source.key, None)
        self._sources.pop(source.key, None)

    # -- the rules

    def may_connect(self, source: Source) -> bool:
        """Whether an address may have another connection without a request head."""
        most = self._current.config.limits.half_open_per_address
        return not most or source.fresh < most

    def check_handshake(self, source: Source) -> None:
        """Checks a handshake whose connection is counted already.

        Raises:
            Refusal: 429.
        """
        limits, now = self._current.config.limits, self._now()
        self._check_failures(source, now)
        rate = limits.handshakes_per_second
        source.handshakes = self._spend("handshakes", source.handshakes, now, rate)
        most = limits.connections_per_address
        if most and source.open > most:
            self.refused["connections"] += 1
            raise Refusal(
                ErrorCode.TOO_MANY_FROM_ADDRESS,
                f"Your address has {most} connections, the most that one may have.",
            )

    def check_request(self, host: str) -> None:
        """Checks an HTTP request of an address. Raises Refusal: 429."""
        source = self.find(host)
        if source is None:
            return
        now, rate = self._now(), self._current.config.limits.requests_per_second
        try:
            source.requests = self._spend("requests", source.requests, now, rate)
        finally:
            self.rest(source)

    def check_attempt(self, host: str) -> None:
        """Checks an attempt to show a key. Raises Refusal: 429 after too many failed ones."""
        source = self.find(host)
        if source is not None:
            try:
                self._check_failures(source, self._now())
            finally:
                self.rest(source)

    def failed(self, host: str) -> None:
        """An attempt has failed: a token, a key or a UUID was not valid."""
        source = self.find(host)
        rate = self._current.config.limits.failures_per_second
        if source is not None:
            if rate:
                source.failures = max(source.failures, self._now()) + 1 / rate
            self.rest(source)

    def _check_failures(self, source: Source, now: float) -> None:
        wait = source.failures - now - FAILURE_BURST
        if wait > 0:
            raise self._refuse("failures", wait)

    def _spend(self, limit: str, until: float, now: float, rate: float) -> float:
        """Spends one unit of a rate; returns the time until which it is used up. Raises Refusal."""
        if not rate:
            return until
        until = max(until, now)
        if until - now >= BURST:
            raise self._refuse(limit, until - now - BURST + 1 / rate)
        return until + 1 / rate

    def _refuse(self, limit: str, seconds: float) -> Refusal:
        self.refused[limit] += 1
        return Refusal(ErrorCode.TOO_MANY_REQUESTS, retry_after=max(1, math.ceil(seconds)))

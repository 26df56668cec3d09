"""The keys of an issuer behind a URL (JWK set, RFC 7517): fetched, cached, refreshed.

Under `tokens`, on `keys` and `https`. Fetched when a token needs them: the first time, when they
are older than `[auth] jwks_age`, and at most once a minute for a `kid` that is not among them, so
that strangers cannot make relayd ask the issuer again and again. Handshakes share a fetch that is
under way. While the URL fails, the last good keys stay, and it is tried every ten seconds.
"""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, PotentialDataLoss, ResponseDone
from twisted.web.http_headers import Headers

from relayd import __version__
from relayd.jose.keys import Key, parse_jwks
from relayd.logs import Logger
from relayd.tls.verified import Policy
from relayd.urls.masking import mask_url

LARGEST = 256 * 1024
"""Bytes that the answer may have."""
RETRY = 10.0
"""Seconds between two attempts while the URL fails."""
UNKNOWN = 60.0
"""Seconds between two fetches for the sake of an unknown `kid`."""


class Jwks:
    """The key set behind a URL.

    Args:
        url: of the JWK set; its scheme is checked by the configuration.
        reactor: for connections and time.
        ca_file: the authorities for `https`; "" for those of the system.
        deadline: seconds within which the whole answer has to come.
        age: seconds after which the keys are fetched again.

    Attributes:
        keys: the last good ones; None before the first.
    """

    _log = Logger()

    def __init__(
        self, url: str, reactor: Any, *, ca_file: str, deadline: float, age: float
    ) -> None:
        self.url = url
        self.keys: tuple[Key, ...] | None = None
        self._clock = reactor
        self._deadline = deadline
        self._age = age
        self._agent: Agent | None = None
        self._no_agent = ""
        try:
            self._agent = Agent(reactor, Policy(ca_file), connectTimeout=deadline)
        except Exception as error:  # of the file, or of OpenSSL for what is in it
            self._no_agent = f"[auth] jwks_ca_file: {error}"
        self._fetched = self._tried = self._asked = float("-inf")
        self._waiting: list[Deferred[None]] | None = None
        self._failing = False

    async def fresh(self) -> tuple[Key, ...] | None:
        """The keys, fetched again if they are too old; None if there never were any."""
        now = self._clock.seconds()
        due = self._waiting is not None or now - self._tried >= RETRY
        if due and now - self._fetched >= self._age:
            await self._fetch()
        return self.keys

    async def renewed(self) -> tuple[Key, ...] | None:
        """The keys for a token whose `kid` is not among them: fetched again once in a while."""
        now = self._clock.seconds()
        if self._waiting is not None or now - self._asked >= UNKNOWN:
            self._asked = now
            await self._fetch()
        return self.keys

    async def _fetch(self) -> None:
        """Fetches the keys, or waits for the fetch that is under way. Never fails."""
        waiter: Deferred[None] = Deferred()
        if self._waiting is not None:
            self._waiting.append(waiter)
        else:
            self._waiting = [waiter]
            self._tried = self._clock.seconds()
            work = Deferred.fromCoroutine(self._read())
            work.addTimeout(self._deadline, self._clock)
            work.addCallbacks(self._read_well, self._read_badly)
            work.addBoth(self._done)
        await waiter

    async def _read(self) -> tuple[Key, ...]:
        if self._agent is None:
            raise ValueError(self._no_agent)
        headers = Headers({"User-Agent": [f"relayd/{__version__}"], "Accept": ["application/json"]})
        response: Any = await self._agent.request(b"GET", self.url.encode(), headers)
        body = _Body()
        response.deliverBody(body)
        text = await body.whole
        if response.code != 200:  # redirects are not followed: the URL is the one that is trusted
            raise ValueError(f"the answer is {response.code}")
        return parse_jwks(text, secrets=False)

    def _read_well(self, keys: tuple[Key, ...]) -> None:
        if self.keys is None or self._failing:
            self._log.info("{url}: {count} keys", url=mask_url(self.url), count=len(keys))
        self.keys, self._failing = keys, False
        self._fetched = self._clock.seconds()

    def _read_badly(self, failure: Failure) -> None:
        if self._failing:
            return
        self._failing = True
        stay = "there are none yet" if self.keys is None else "the last ones stay"
        self._log.error(
            "the keys cannot be fetched from {url}, {stay}: {why}",
            url=mask_url(self.url),
            stay=stay,
            why=_describe(failure, self._deadline),
        )

    def _done(self, result: object) -> object:
        waiting, self._waiting = self._waiting, None
        for waiter in waiting or ():
            if not waiter.called:
                waiter.callback(None)
        return result


class _Body(Protocol):
    """The body of an answer; `whole` fires with it, or fails if it is too large or cut off."""

    transport: Any

    def __init__(self) -> None:
        self._data = b""
        self.whole: Deferred[bytes] = Deferred(lambda _: self._abort())

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > LARGEST and not self.whole.called:
            self.whole.errback(ValueError(f"the answer has more than {LARGEST} bytes"))
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.whole.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(self._data)
        else:
            self.whole.errback(reason)

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()


def _describe(failure: Failure, deadline: float) -> str:
    error = failure.value
    if type(error).__name__ == "TimeoutError":
        return f"no answer in {deadline:g} s"
    inner = getattr(error, "reasons", ())  # of twisted.web's ResponseNeverReceived
    return "; ".join(str(each.value) or repr(each.value) for each in inner) or str(error)

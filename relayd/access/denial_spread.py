"""Carries each denial to all processes that share Redis, and keeps it over a restart.

Sits under `node`, on `denials` and `denial_file`. On the server that `<prefix>:denials` belongs to:

    <prefix>:denials    sorted set of the entries (JSON), by the Unix time of their end
    <prefix>:denied     channel; every entry is published there

Whenever Redis becomes available, a process reads the whole set, and adds to it what it lacks: a
denial that was made meanwhile reaches the others then. Entries from Redis are checked like those
of an operator.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from relayd.access import denial_file
from relayd.access.denials import MOST, Denial, Denials
from relayd.errors import RedisUnavailable, Refusal
from relayd.logs import Logger
from relayd.redis.commands import Script
from relayd.redis.replies import RedisRefused
from relayd.redis.shards import Redis

_LARGEST = 4096  # bytes of an entry

_TOGETHER = 100  # entries of one script

# KEYS: the set. ARGV: now, channel, then for each entry: its end, its text, what it replaces or ""
_ADD = Script("""
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[1])
for i = 3, #ARGV, 3 do
  redis.call('ZREM', KEYS[1], ARGV[i + 2])
  redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1])
  redis.call('PUBLISH', ARGV[2], ARGV[i + 1])
end
""")


class Spread(msgspec.Struct, frozen=True):
    """How far a denial has come.

    Attributes:
        everywhere: whether all processes get it; False while Redis is away.
        kept: whether it holds after a restart of this process.
    """

    everywhere: bool
    kept: bool


class DenialSpread:
    """Adds denials here, and carries them to the other processes and to the file.

    Args:
        denials: of this process.
        reactor: for its threads, in which the file is written.
        file: where the denials are kept.
        redis: the servers; None for one process alone.
        prefix: of all keys.
        now: returns the Unix time.

    Raises:
        SystemExit: the file cannot be read; the text says why.
    """

    _log = Logger()

    def __init__(
        self,
        denials: Denials,
        reactor: Any,
        *,
        file: Path,
        redis: Redis | None,
        prefix: str,
        now: Callable[[], float],
    ) -> None:
        self._denials = denials
        self._reactor = reactor
        self._file = file
        self._now = now
        self._set, self._channel = f"{prefix}:denials", f"{prefix}:denied"
        self._server = None if redis is None else redis.find(self._set)
        self._subscribed = False
        self._heard_last: Denial | None = None
        self._unsaved: list[Deferred[bool]] = []
        self._writing = False
        self._invalid = 0
        try:
            for denial in denial_file.load(file):
                denials.add(denial)
        except (OSError, ValueError, Refusal) as error:
            # without it, somebody who is denied could come in
            raise SystemExit(f"relayd: the denials cannot be read: {error}") from error
        if self._server is not None:
            self._server.watch(self._changed)

    async def add(self, denial: Denial) -> Spread:
        """Adds a denial here at once, then in the file and in the other processes.

        Raises:
            Refusal: 400, the entry is invalid, or the list is full.
        """
        replaced = self._denials.get(denial.key)
        self._denials.add(denial)
        kept = await self._save()
        old = b"" if replaced is None else _encode(replaced)
        return Spread(everywhere=await self._send([(denial, old)]), kept=kept)

    def _save(self) -> "Deferred[bool]":
        """Writes the file; fires with whether that was possible.

        Whoever asks during a write shares the next one: a process that comes back may bring
        thousands of entries.
        """
        saved: Deferred[bool] = Deferred()
        self._unsaved.append(saved)
        if not self._writing:
            self._writing = True
            Deferred.fromCoroutine(self._write())
        return saved

    async def _write(self) -> None:
        while self._unsaved:
            unsaved, self._unsaved = self._unsaved, []
            kept = False
            write = partial(denial_file.save, self._file, self._denials.entries(), self._now())
            try:
                await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), write)
                kept = True
            except (OSError, ValueError) as error:
                self._log.error("the denials cannot be kept for a restart: {why}", why=str(error))
            except Exception:
                self._log.failure("keeping the denials for a restart failed")
            for saved in unsaved:
                saved.callback(kept)
        self._writing = False

    async def _send(self, entries: Sequence[tuple[Denial, bytes]]) -> bool:
        """Adds entries to Redis, each in place of another or of none (b""), and publishes them.

        Returns whether that was possible.
        """
        server = self._server
        if server is None:
            return True
        args: list[str | bytes] = [repr(self._now()), self._channel]
        for denial, replaced in entries:
            args += repr(denial.until), _encode(denial), replaced
        try:
            await server.run(_ADD, (self._set,), args)
        except (RedisUnavailable, RedisRefused) as error:
            self._log.warn(
                "a denial reaches the other processes when Redis is back: {why}", why=str(error)
            )
            return False
        return True

    def _changed(self, available: bool) -> None:
        if available:
            Deferred.fromCoroutine(self._synchronize()).addErrback(self._failed)

    async def _synchronize(self) -> None:
        """Takes what Redis has, and gives what it lacks."""
        server = self._server
        assert server is not None
        if not self._subscribed:
            await server.subscribe(self._channel, self._heard)
            self._subscribed = True
        words = (self._set, repr(self._now()), "+inf", "LIMIT", 0, MOST)
        found = await server.call("ZRANGEBYSCORE", *words)
        there = {key for key in map(self._received, found) if key is not None}
        ours = self._denials.entries()
        missing = [(one, b"") for one in ours if (one.key, one.made) not in there]
        for start in range(0, len(missing), _TOGETHER):
            if not await self._send(missing[start : start + _TOGETHER]):
                return  # the next recovery tries again
        if found:
            await self._save()

    def _heard(self, text: bytes) -> None:
        """Adds an entry of another process, and keeps it here, too."""
        found = self._received(text)
        known = None if found is None else self._denials.get(found[0])
        if known is not None and known is not self._heard_last:
            self._heard_last = known
            self._save()

    def _received(self, text: bytes) -> tuple[tuple[str, str], float] | None:
        """Adds an entry from Redis; returns its key and its time, None if it is invalid."""
        try:
            if len(text) > _LARGEST:
                raise ValueError("too large")
            denial = msgspec.json.decode(text, type=Denial)
            self._denials.add(denial)
        except (msgspec.MsgspecError, ValueError, Refusal) as error:
            self._invalid += 1
            if self._invalid & (self._invalid - 1) == 0:  # the 1st, 2nd, 4th, 8th, ...
                self._log.warn(
                    "{count} invalid denials from Redis, ignored; the last one: {why}",
                    count=self._invalid,
                    why=str(error),
                )
            return None
        return denial.key, denial.made

    def _failed(self, failure: Failure) -> None:
        # `redis.server` has logged an outage, and the next recovery tries again
        if failure.check(RedisRefused):
            self._log.error(
                "the denials of the other processes cannot be read: {why}", why=str(failure.value)
            )
        elif not failure.check(RedisUnavailable, CancelledError):
            self._log.failure("reading the denials of the other processes failed", failure)


def _encode(denial: Denial) -> bytes:
    return msgspec.json.encode(denial)

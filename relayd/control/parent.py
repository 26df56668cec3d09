"""The operator's requests to the parent of workers: it queries all of them, and merges.

Sits under `workers`, behind `site`; `process.Control` answers the same in each worker. Across the
workers a connection is `w2-c17`. A worker that does not answer in time is named, and the others'
answers count.
"""

import os
import re
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec
from twisted.internet.defer import Deferred, DeferredList

from relayd import logs
from relayd.config.reload import Reloader
from relayd.control.asking import Asker, NoAnswer
from relayd.control.messages import (
    Client,
    Done,
    Drain,
    Kick,
    Listing,
    LogLevel,
    Pair,
    Publish,
    Reloaded,
    Room,
    Selection,
    Status,
    in_order,
    merge_pairs,
    merge_rooms,
)
from relayd.control.process import check_kick, no_such_client, set_level
from relayd.control.reloading import Reloading
from relayd.control.worker_metrics import Told, WorkerFigures
from relayd.errors import ErrorCode, Refusal
from relayd.logs import Logger
from relayd.relays.paths import KINDS
from relayd.web.answers import Stream

T = TypeVar("T")
_ID = re.compile(r"w([0-9]{1,3})-(c[0-9]+)")


class Parent(Reloading):
    """The operator's view of all workers (`site.Operations`).

    Args:
        reactor: for asking.
        paths: of the workers' control sockets, by their numbers.
        figures: sums what the metrics show of them.
        reloader: reads the configuration again, for all of them.

    Attributes:
        draining: whether workers that start are to take nobody in.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, paths: Mapping[int, Path], figures: WorkerFigures, reloader: Reloader
    ) -> None:
        super().__init__(reloader)
        self._askers = {number: Asker(reactor, path) for number, path in paths.items()}
        self._figures = figures
        self.draining = False
        self._level: str | None = None

    def served(self, number: int) -> None:
        """A worker has begun to serve: it is told what all were told."""
        if self.draining:
            self._remind(number, "/drain", Drain())
        if self._level is not None:
            self._remind(number, "/log-level", LogLevel(level=self._level))

    def _remind(self, number: int, target: str, body: Any) -> None:
        asking = self._askers[number].ask("POST", target, msgspec.json.encode(body))
        Deferred.fromCoroutine(asking).addErrback(
            lambda failure: self._log.error(
                "worker {number} was not told {target}: {why}",
                number=number,
                target=target,
                why=str(failure.value),
            )
        )

    # -- what is asked

    async def status(self) -> Status:
        """All workers."""
        found, missing = await self._ask_all("GET", "/status", Status)
        return Status(
            pid=os.getpid(),
            workers=len(self._askers),
            processes=[process for status in found.values() for process in status.processes],
            missing=missing,
        )

    async def clients(self, selection: Selection) -> Listing[Client]:
        """The connections of all workers that are meant."""
        query = urlencode(msgspec.to_builtins(selection))
        found, missing = await self._ask_all("GET", f"/clients?{query}", Listing[Client])
        for number, listing in found.items():
            for client in listing.found:
                client.id = f"w{number}-{client.id}"
        every = [client for listing in found.values() for client in listing.found]
        total = sum(listing.total for listing in found.values())
        return Listing(found=in_order(every, selection), total=total, missing=missing)

    async def rooms(self) -> Listing[Room]:
        """The groups of all workers."""
        found, missing = await self._ask_all("GET", "/rooms", Listing[Room])
        return merge_rooms(tuple(found.values()), missing)

    async def pairs(self) -> Listing[Pair]:
        """The UUIDs of all workers."""
        found, missing = await self._ask_all("GET", "/pairs", Listing[Pair])
        return merge_pairs(tuple(found.values()), missing)

    async def figures(self) -> Told:
        """The metrics of all workers together."""
        return await self._figures.all()

    async def tail(self, group: str) -> Stream:
        """Streams the frames of a group: any worker sees all of them, through Redis."""
        KINDS.parse_group(group)
        asker = await self._somebody()
        return await self._of(asker.stream(f"/tail?{urlencode({'group': group})}"))

    async def trace(self, id: str) -> Stream:
        """Streams the frames of a connection of one worker."""
        number, own = self._parse(id)
        stream = self._askers[number].stream(f"/trace?{urlencode({'id': own})}")
        return await self._of(_renamed(stream, id), number)

    # -- what is done

    async def kick(self, kick: Kick) -> Done:
        """Begins to close connections, wherever they are."""
        check_kick(kick)
        by_worker: dict[int, list[str]] = {}
        for id in kick.ids:
            number, own = self._parse(id)
            by_worker.setdefault(number, []).append(own)
        bodies = {
            number: msgspec.json.encode(Kick(ids=ids, code=kick.code, reason=kick.reason))
            for number, ids in by_worker.items()
        }
        found, missing = await self._ask_all("POST", "/kick", Done, bodies)
        return Done(
            count=sum(done.count for done in found.values()),
            unknown=[f"w{number}-{id}" for number, done in found.items() for id in done.unknown],
            missing=missing,
        )

    async def drain(self, drain: Drain) -> Done:
        """No worker takes anybody in any more, nor one that is started later."""
        self.draining = True
        return await self._tell_all("/drain", msgspec.json.encode(drain))

    async def undrain(self) -> Done:
        """All workers take clients in again."""
        self.draining = False
        return await self._tell_all("/undrain", b"")

    async def log_level(self) -> LogLevel:
        """From which level on is logged, here and in the workers."""
        return LogLevel(level=logs.get_level())

    async def set_log_level(self, wanted: LogLevel) -> LogLevel:
        """All workers log from another level on, and those that are started later."""
        set_level(wanted.level)
        self._level = wanted.level
        bodies = dict.fromkeys(self._askers, msgspec.json.encode(wanted))
        _, missing = await self._ask_all("POST", "/log-level", LogLevel, bodies)
        return LogLevel(level=wanted.level, missing=missing)

    async def reload(self) -> Reloaded:
        """Reads the configuration again, for all workers. Raises Refusal: 400 if it is wrong."""
        before = logs.get_level()
        done = await super().reload()
        if logs.get_level() != before:
            self._level = None  # workers that start later find it in the configuration
        return done

    async def publish(self, publish: Publish) -> dict[str, Any]:
        """Through any worker: Redis brings it to the others."""
        asker = await self._somebody()
        said = await self._of(asker.ask("POST", "/publish", msgspec.json.encode(publish)))
        found: dict[str, Any] = msgspec.json.decode(said)
        return found

    # -- how

    async def _tell_all(self, target: str, body: bytes) -> Done:
        found, missing = await self._ask_all(
            "POST", target, Done, dict.fromkeys(self._askers, body)
        )
        return Done(count=sum(done.count for done in found.values()), missing=missing)

    async def _ask_all(
        self, method: str, target: str, kind: type[T], bodies: dict[int, bytes] | None = None
    ) -> tuple[dict[int, T], list[int]]:
        """Asks workers at the same time; their answers, and who gave none.

        Args:
            method: of HTTP.
            target: path and query.
            kind: of the answer.
            bodies: of the request, for each worker that is to be asked; None for all, without.

        Raises:
            Refusal: one of them refuses.
        """
        bodies = dict.fromkeys(self._askers, b"") if bodies is None else bodies
        asking = [
            Deferred.fromCoroutine(self._askers[number].ask(method, target, body))
            for number, body in bodies.items()
        ]
        results: Sequence[tuple[bool, Any]] = await DeferredList(asking, consumeErrors=True)
        found: dict[int, T] = {}
        missing: list[int] = []
        for number, (success, result) in zip(bodies, results, strict=True):
            if success:
                found[number] = msgspec.json.decode(result, type=kind)
            elif result.check(NoAnswer):
                missing.append(number)
            else:
                result.raiseException()
        return found, missing

    async def _somebody(self) -> Asker:
        """A worker that answers. Raises Refusal: 503 if none does."""

        async def try_one(asker: Asker) -> Asker:
            await asker.ask("GET", "/rooms")
            return asker

        trying = [Deferred.fromCoroutine(try_one(asker)) for asker in self._askers.values()]
        first: Any = await DeferredList(trying, fireOnOneCallback=True, consumeErrors=True)
        if isinstance(first, tuple):
            asker: Asker = first[0]
            return asker
        raise Refusal(ErrorCode.INTERNAL, "No worker answers.", status=503)

    async def _of(self, asking: Coroutine[Any, Any, T], number: int | None = None) -> T:
        """The answer of a worker. Raises Refusal: 503 without one."""
        try:
            return await asking
        except NoAnswer as error:
            who = "The worker" if number is None else f"Worker {number}"
            sentence = f"{who} does not answer."
            raise Refusal(ErrorCode.INTERNAL, sentence, status=503) from error

    def _parse(self, id: str) -> tuple[int, str]:
        """Worker and own number of a connection. Raises Refusal."""
        found = _ID.fullmatch(id)
        if found is None:
            raise Refusal(
                ErrorCode.BAD_REQUEST,
                f"{id!r} is no connection here: with workers they are called such as w2-c17; "
                "relayctl clients lists them.",
            )
        number = int(found[1])
        if number not in self._askers:
            raise no_such_client(id)
        return number, found[2]


async def _renamed(stream: Coroutine[Any, Any, Stream], id: str) -> Stream:
    """A worker refuses an id by its own name for it; it is refused by the whole one."""
    try:
        return await stream
    except Refusal as refusal:
        if refusal.status == 404:
            raise no_such_client(id) from refusal
        raise

"""The operator's requests to the parent of workers: it queries all of them, and merges.

Sits under `workers`, behind `site`; `process.ProcessControl` answers the same in each worker.
Across the workers a connection is `w2-c17`. An answer names the workers that did not answer in
time; it consists of the answers of the other workers.
"""

import os
import re
import time
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec
from twisted.internet.defer import Deferred, DeferredList

from relayd import logs
from relayd.access.denials import Denial
from relayd.cluster import Seen
from relayd.config.drift import Drift
from relayd.config.reload import Reloader
from relayd.control.live import Live, View
from relayd.control.messages import (
    Client,
    Deletion,
    Denied,
    Done,
    Drain,
    Kept,
    Kick,
    Listing,
    LogLevel,
    Pair,
    Publish,
    Reloaded,
    Room,
    Secrets,
    Selection,
    Status,
    in_order,
    merge_pairs,
    merge_rooms,
)
from relayd.control.process import check_kick, no_such_client, set_level
from relayd.control.reloading import Reloading
from relayd.control.socket_client import NoAnswer, SocketClient
from relayd.control.worker_metrics import FigureReport, WorkerFigures
from relayd.errors import ErrorCode, Refusal
from relayd.logs import Logger
from relayd.logs.recent import Recent, Warned, merge
from relayd.relays.paths import KINDS
from relayd.web.answers import Stream

T = TypeVar("T")
_ID = re.compile(r"w([0-9]{1,3})-(c[0-9]+)")


class Parent(Reloading):
    """The operator's view of all workers (`site.Operations`).

    Args:
        reactor: for requests to the workers.
        paths: of the workers' control sockets, by their numbers.
        figures: sums the metrics of the workers.
        reloader: reads the configuration again, for all workers.
        drift: compares it with its files.
        recent: the latest warnings of this process.

    Attributes:
        draining: whether workers that start are drained at once.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        paths: Mapping[int, Path],
        figures: WorkerFigures,
        reloader: Reloader,
        drift: Drift,
        recent: Recent,
    ) -> None:
        super().__init__(reloader, drift)
        self._clients = {number: SocketClient(reactor, path) for number, path in paths.items()}
        self._figures = figures
        self.draining = False
        self._level: str | None = None
        self._recent = recent
        self._live = Live(reactor, time.time, self)

    def start(self) -> None:
        """Begins to note warnings."""
        self._recent.start()

    def stop(self) -> None:
        """Stops noting warnings, and measuring."""
        self._recent.stop()
        self._live.stop()

    def served(self, number: int) -> None:
        """Repeats earlier commands to a worker that has begun to serve."""
        if self.draining:
            self._repeat(number, "/drain", Drain())
        if self._level is not None:
            self._repeat(number, "/log-level", LogLevel(level=self._level))

    def _repeat(self, number: int, target: str, body: Any) -> None:
        request = self._clients[number].request("POST", target, msgspec.json.encode(body))
        Deferred.fromCoroutine(request).addErrback(
            lambda failure: self._log.error(
                "worker {number} did not get {target}: {why}",
                number=number,
                target=target,
                why=str(failure.value),
            )
        )

    # -- queries

    async def status(self) -> Status:
        """The status of all workers."""
        found, missing = await self._ask_all("GET", "/status", Status)
        return Status(
            pid=os.getpid(),
            workers=len(self._clients),
            processes=[process for status in found.values() for process in status.processes],
            missing=missing,
            differs=self.differences(),
        )

    async def clients(self, selection: Selection) -> Listing[Client]:
        """The connections of all workers that match the selection."""
        bodies = dict.fromkeys(self._clients, b"")
        if selection.text and (one := _ID.fullmatch(selection.text)):  # a worker knows its own ids
            selection = msgspec.structs.replace(selection, text=one[2])
            bodies = {number: b"" for number in bodies if number == int(one[1])}
        query = urlencode(msgspec.to_builtins(selection))
        found, missing = await self._ask_all("GET", f"/clients?{query}", Listing[Client], bodies)
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

    async def kept(self) -> Listing[Kept]:
        """The chat rooms in the store that all workers share, through any worker."""
        answer = await self._any_worker("GET", "/kept")
        return msgspec.json.decode(answer, type=Listing[Kept])

    async def pairs(self) -> Listing[Pair]:
        """The UUIDs of all workers."""
        found, missing = await self._ask_all("GET", "/pairs", Listing[Pair])
        return merge_pairs(tuple(found.values()), missing)

    async def figures(self) -> FigureReport:
        """The metrics of all workers together."""
        return await self._figures.all()

    async def cluster(self) -> Listing[Seen]:
        """All processes that share Redis, as any worker reads them there."""
        answer = await self._any_worker("GET", "/cluster")
        return msgspec.json.decode(answer, type=Listing[Seen])

    async def warnings(self) -> Listing[Warned]:
        """The latest warnings of all workers and of this process, the latest first."""
        answers, missing = await self._ask_all("GET", "/warnings", Listing[Warned])
        for number, listing in answers.items():
            for warned in listing.found:
                warned.worker = number
        found = merge([self._recent.entries(), *(each.found for each in answers.values())])
        return Listing(found=found, total=len(found), missing=missing)

    async def live(self, since: float) -> View:
        """The figures of all workers after a time."""
        return await self._live.read(since)

    async def tail(self, group: str) -> Stream:
        """Streams the frames of a group: any worker sees all of them, through Redis."""
        KINDS.parse_group(group)
        client = await self._first_to_answer()
        return await self._answered(client.stream(f"/tail?{urlencode({'group': group})}"))

    async def trace(self, id: str) -> Stream:
        """Streams the frames of a connection of one worker."""
        number, own = self._parse(id)
        stream = self._clients[number].stream(f"/trace?{urlencode({'id': own})}")
        return await self._answered(_renamed(stream, id), number)

    # -- commands

    async def kick(self, kick: Kick) -> Done:
        """Begins to close connections of any worker."""
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

    async def denials(self) -> Listing[Denial]:
        """The tokens, users and addresses that are denied: every worker has the same list."""
        client = await self._first_to_answer()
        answer = await self._answered(client.request("GET", "/denials"))
        return msgspec.json.decode(answer, type=Listing[Denial])

    async def deny(self, denial: Denial) -> Denied:
        """Adds a denial in all workers; those that start later read the file."""
        body = dict.fromkeys(self._clients, msgspec.json.encode(denial))
        found, missing = await self._ask_all("POST", "/denials", Denied, body)
        return Denied(
            count=sum(denied.count for denied in found.values()),
            everywhere=bool(found) and all(denied.everywhere for denied in found.values()),
            kept=any(denied.kept for denied in found.values()),
            missing=missing,
        )

    async def delete_room(self, deletion: Deletion) -> Done:
        """Deletes the messages of a chat room, through any worker; Redis notifies the others."""
        body = msgspec.json.encode(deletion)
        return msgspec.json.decode(await self._any_worker("POST", "/delete-room", body), type=Done)

    async def drain(self, drain: Drain) -> Done:
        """Drains all workers, also those that start later."""
        self.draining = True
        return await self._command_all("/drain", msgspec.json.encode(drain))

    async def undrain(self) -> Done:
        """Makes all workers admit clients again."""
        self.draining = False
        return await self._command_all("/undrain", b"")

    async def log_level(self) -> LogLevel:
        """The lowest level that is logged, here and in the workers."""
        return LogLevel(level=logs.get_level())

    async def set_log_level(self, wanted: LogLevel) -> LogLevel:
        """Sets the log level of all workers, also of those that start later."""
        set_level(wanted.level)
        self._level = wanted.level
        bodies = dict.fromkeys(self._clients, msgspec.json.encode(wanted))
        _, missing = await self._ask_all("POST", "/log-level", LogLevel, bodies)
        return LogLevel(level=wanted.level, missing=missing)

    async def reload(self, secrets: Secrets | None) -> Reloaded:
        """Reads the configuration again, for all workers. Raises Refusal: 400 if it is wrong."""
        before = logs.get_level()
        done = await super().reload(secrets)
        if logs.get_level() != before:
            self._level = None  # workers that start later read it from the configuration
        return done

    async def publish(self, publish: Publish) -> dict[str, Any]:
        """Publishes through any worker; Redis delivers to the other workers."""
        body = msgspec.json.encode(publish)
        answer = await self._any_worker("POST", "/publish", body)
        found: dict[str, Any] = msgspec.json.decode(answer)
        return found

    # -- requests to the workers

    async def _command_all(self, target: str, body: bytes) -> Done:
        found, missing = await self._ask_all(
            "POST", target, Done, dict.fromkeys(self._clients, body)
        )
        return Done(count=sum(done.count for done in found.values()), missing=missing)

    async def _ask_all(
        self, method: str, target: str, kind: type[T], bodies: dict[int, bytes] | None = None
    ) -> tuple[dict[int, T], list[int]]:
        """Sends requests to several workers at the same time.

        Args:
            method: of HTTP.
            target: path and query.
            kind: the type of the answer.
            bodies: of the requests, by worker; None sends an empty one to every worker.

        Returns:
            The answers by worker, and the numbers of the workers that did not answer.

        Raises:
            Refusal: a worker refuses.
        """
        bodies = dict.fromkeys(self._clients, b"") if bodies is None else bodies
        requests = [
            Deferred.fromCoroutine(self._clients[number].request(method, target, body))
            for number, body in bodies.items()
        ]
        results: Sequence[tuple[bool, Any]] = await DeferredList(requests, consumeErrors=True)
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

    async def _any_worker(self, method: str, target: str, body: bytes = b"") -> bytes:
        """The answer of one worker. Raises Refusal: 503 if none answers."""
        client = await self._first_to_answer()
        return await self._answered(client.request(method, target, body))

    async def _first_to_answer(self) -> SocketClient:
        """The client of the worker that answers first. Raises Refusal: 503 if none does."""

        async def probe(client: SocketClient) -> SocketClient:
            await client.request("GET", "/rooms")
            return client

        probes = [Deferred.fromCoroutine(probe(client)) for client in self._clients.values()]
        first: Any = await DeferredList(probes, fireOnOneCallback=True, consumeErrors=True)
        if isinstance(first, tuple):
            client: SocketClient = first[0]
            return client
        raise Refusal(ErrorCode.INTERNAL, "No worker answers.", status=503)

    async def _answered(self, request: Coroutine[Any, Any, T], number: int | None = None) -> T:
        """The answer of a worker. Raises Refusal: 503 without one."""
        try:
            return await request
        except NoAnswer as error:
            worker = "The worker" if number is None else f"Worker {number}"
            sentence = f"{worker} does not answer."
            raise Refusal(ErrorCode.INTERNAL, sentence, status=503) from error

    def _parse(self, id: str) -> tuple[int, str]:
        """Worker and own number of a connection. Raises Refusal."""
        found = _ID.fullmatch(id)
        if found is None:
            raise Refusal(
                ErrorCode.BAD_REQUEST,
                f"{id!r} is no connection id: with workers an id has the form w2-c17; "
                "relayctl clients lists them.",
            )
        number = int(found[1])
        if number not in self._clients:
            raise no_such_client(id)
        return number, found[2]


async def _renamed(stream: Coroutine[Any, Any, Stream], id: str) -> Stream:
    """Replaces the worker's own id in a refusal by the id across the workers."""
    try:
        return await stream
    except Refusal as refusal:
        if refusal.status == 404:
            raise no_such_client(id) from refusal
        raise

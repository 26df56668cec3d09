"""The figures of `/metrics` over control sockets: the parent sums the workers' figures for all.

Sits under `parent`, on `socket_client` and `metrics`. A worker that gets a request for `/metrics`
queries the parent, which queries all workers and sums their answers. The parent also queries them
every few seconds: the counts of a killed worker since its last answer are lost.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import ProcessCollector
from prometheus_client.registry import CollectorRegistry
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall

from relayd.config.drift import Drift
from relayd.control.address import Place
from relayd.control.socket_client import NoAnswer, SocketClient
from relayd.errors import ErrorCode, Refusal
from relayd.logs import Logger
from relayd.metrics.collector import RULES
from relayd.metrics.configuration import describe_configuration
from relayd.metrics.exchange import Family, read
from relayd.metrics.totals import Totals, describe_workers

INTERVAL = 5.0
"""Seconds between two queries of the parent to its workers without a request."""
WORKER_TIMEOUT = 1.0
"""Seconds within which a worker has to answer the parent."""
PARENT_TIMEOUT = 4.0
"""Seconds within which the parent has to answer: a query may be in flight, and another follows."""


class FigureReport(msgspec.Struct, frozen=True):
    """The answer to `GET /figures`.

    Attributes:
        process: the unique id of the process whose figures these are; "" for those of all workers.
        families: the figures.
    """

    process: str
    families: list[Family]


class Workers(msgspec.Struct, frozen=True):
    """The facts about its workers that a parent knows without a query.

    Attributes:
        configured: the number of workers in the configuration.
        serving: the numbers of the workers that serve.
        restarts: the number of restarts of all workers.
    """

    configured: int
    serving: set[int]
    restarts: int


class WorkerFigures:
    """The figures of all workers, in their parent.

    Args:
        clock: provides IReactorTime, for the regular queries.
        query: queries a worker, by its number; raises NoAnswer.
        workers: returns the present facts about the workers.
        drift: compares the configuration with its files.
    """

    _log = Logger()

    def __init__(
        self,
        clock: Any,
        query: Callable[[int], Awaitable[bytes]],
        workers: Callable[[], Workers],
        drift: Drift,
    ) -> None:
        self._query_worker = query
        self._workers = workers
        self._drift = drift
        self._totals = Totals()
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._waiting: list[Deferred[dict[int, list[Family]]]] = []
        self._in_flight = False
        self._loop = LoopingCall(self._query)
        self._loop.clock = clock

    def start(self) -> None:
        """Begins the regular queries."""
        self._loop.start(INTERVAL, now=False)

    def stop(self) -> None:
        """Ends the regular queries."""
        if self._loop.running:
            self._loop.stop()

    async def all(self) -> FigureReport:
        """The figures of this parent and its workers together. Never fails."""
        answers = await self._query()
        workers = self._workers()
        known = describe_workers(
            workers.configured,
            len(workers.serving),
            workers.restarts,
            len(workers.serving - answers.keys()),
        )
        others = [read(self._registry, RULES), known, describe_configuration(self._drift)]
        return FigureReport(process="", families=self._totals.sum(answers, others))

    def _query(self) -> "Deferred[dict[int, list[Family]]]":
        """Queries the workers that serve; fires with the figures by worker.

        One query is in flight at a time, so that answers arrive in order. Calls meanwhile share the
        next query.
        """
        waiter: Deferred[dict[int, list[Family]]] = Deferred()
        self._waiting.append(waiter)
        if not self._in_flight:
            self._in_flight = True
            Deferred.fromCoroutine(self._work())
        return waiter

    async def _work(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            answers = await self._query_all(sorted(self._workers().serving))
            for waiter in waiting:
                waiter.callback(answers)
        self._in_flight = False

    async def _query_all(self, numbers: Iterable[int]) -> dict[int, list[Family]]:
        found: dict[int, list[Family]] = {}

        async def query(number: int) -> None:
            report = msgspec.json.decode(await self._query_worker(number), type=FigureReport)
            self._totals.note(number, report.process, report.families)
            found[number] = report.families

        def failed(failure: Any, number: int) -> None:
            if not failure.check(NoAnswer):
                self._log.failure("reading the figures of worker {n} failed", failure, n=number)

        queries = [
            Deferred.fromCoroutine(query(number)).addErrback(failed, number) for number in numbers
        ]
        await DeferredList(queries)
        return found


def query_through(reactor: Any, paths: Mapping[int, Path]) -> Callable[[int], Awaitable[bytes]]:
    """Returns the parent's query of a worker through its control socket.

    Args:
        reactor: for the requests.
        paths: of the control sockets, by worker; empty if they are turned off.
    """
    clients = {
        number: SocketClient(reactor, path, WORKER_TIMEOUT) for number, path in paths.items()
    }

    async def query(number: int) -> bytes:
        if number not in clients:
            raise NoAnswer("it has no control socket")
        return await clients[number].request("GET", "/figures")

    return query


class ParentFigures:
    """The figures of all workers, for a worker, which queries its parent.

    Args:
        reactor: for the requests.
        place: of the parent's control socket; None if it is turned off.
    """

    def __init__(self, reactor: Any, place: Place | None) -> None:
        self._client = None if place is None else SocketClient(reactor, place.path, PARENT_TIMEOUT)

    async def all(self) -> list[Family]:
        """The parent's answer. Raises Refusal: 503."""
        if self._client is None:
            raise Refusal(
                ErrorCode.INTERNAL,
                "The figures of workers go over the control socket, which [control] socket has "
                "turned off.",
                status=503,
            )
        try:
            answer = await self._client.request("GET", "/figures")
        except NoAnswer as error:
            raise Refusal(
                ErrorCode.TIMEOUT,
                "The parent of the workers did not answer in time; the log says whether it has a "
                "control socket.",
                status=503,
            ) from error
        return msgspec.json.decode(answer, type=FigureReport).families

"""The figures behind `/metrics` over control sockets: workers tell their parent, it tells them all.

Sits beside `parent`, on `asking` and `metrics`. Whichever worker is asked for `/metrics` asks the
parent, which asks all workers, adds up and answers. It also asks by itself every few seconds, for
what a worker that is killed had counted since it was asked last is lost.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import ProcessCollector
from prometheus_client.registry import CollectorRegistry
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall

from relayd.control.address import Place
from relayd.control.asking import Asker, NoAnswer
from relayd.errors import ErrorCode, Refusal
from relayd.logs import Logger
from relayd.metrics.collector import RULES
from relayd.metrics.exchange import Family, read
from relayd.metrics.totals import Totals, describe_workers

INTERVAL = 5.0
"""Seconds between two questions of the parent to its workers, if nobody asks it."""
PATIENCE = 1.0
"""Seconds that a worker may take for its answer to the parent."""
PARENT_PATIENCE = 4.0
"""Seconds that the parent may take: it may be asking already, and asks anew then."""


class Told(msgspec.Struct, frozen=True):
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
        configured: how many there are to be.
        serving: the numbers of those that serve.
        restarts: how often one was started again.
    """

    configured: int
    serving: set[int]
    restarts: int


class WorkerFigures:
    """The figures of all workers, in their parent.

    Args:
        clock: provides IReactorTime, for asking again.
        ask: asks a worker, by its number; raises NoAnswer.
        workers: what is known of them now.
    """

    _log = Logger()

    def __init__(
        self, clock: Any, ask: Callable[[int], Awaitable[bytes]], workers: Callable[[], Workers]
    ) -> None:
        self._ask_worker = ask
        self._workers = workers
        self._totals = Totals()
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._waiting: list[Deferred[dict[int, list[Family]]]] = []
        self._asking = False
        self._loop = LoopingCall(self._ask)
        self._loop.clock = clock

    def start(self) -> None:
        """Begins to ask now and then."""
        self._loop.start(INTERVAL, now=False)

    def stop(self) -> None:
        """Ends that."""
        if self._loop.running:
            self._loop.stop()

    async def all(self) -> Told:
        """The figures of this parent and of all that belongs to it. Never fails."""
        answers = await self._ask()
        workers = self._workers()
        known = describe_workers(
            workers.configured,
            len(workers.serving),
            workers.restarts,
            len(workers.serving - answers.keys()),
        )
        others = [read(self._registry, RULES), known]
        return Told(process="", families=self._totals.sum(answers, others))

    def _ask(self) -> "Deferred[dict[int, list[Family]]]":
        """Asks those that serve; fires with who has answered what.

        One question at a time, so that no older answer comes behind a newer one. Who asks meanwhile
        shares the next.
        """
        waiter: Deferred[dict[int, list[Family]]] = Deferred()
        self._waiting.append(waiter)
        if not self._asking:
            self._asking = True
            Deferred.fromCoroutine(self._work())
        return waiter

    async def _work(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            answers = await self._ask_all(sorted(self._workers().serving))
            for waiter in waiting:
                waiter.callback(answers)
        self._asking = False

    async def _ask_all(self, numbers: Iterable[int]) -> dict[int, list[Family]]:
        found: dict[int, list[Family]] = {}

        async def ask(number: int) -> None:
            told = msgspec.json.decode(await self._ask_worker(number), type=Told)
            self._totals.note(number, told.process, told.families)
            found[number] = told.families

        def failed(failure: Any, number: int) -> None:
            if not failure.check(NoAnswer):
                self._log.failure("the figures of worker {n} cannot be had", failure, n=number)

        asking = [
            Deferred.fromCoroutine(ask(number)).addErrback(failed, number) for number in numbers
        ]
        await DeferredList(asking)
        return found


def ask_through(reactor: Any, paths: Mapping[int, Path]) -> Callable[[int], Awaitable[bytes]]:
    """How the parent asks: through the workers' control sockets, by their numbers, if any."""
    askers = {number: Asker(reactor, path, PATIENCE) for number, path in paths.items()}

    async def ask(number: int) -> bytes:
        if number not in askers:
            raise NoAnswer("it has no control socket")
        return await askers[number].ask("GET", "/figures")

    return ask


class ParentFigures:
    """The figures of all workers, as one of them is asked for them.

    Args:
        reactor: for asking.
        place: where the control socket of the parent is; None if it is turned off.
    """

    def __init__(self, reactor: Any, place: Place | None) -> None:
        self._asker = None if place is None else Asker(reactor, place.path, PARENT_PATIENCE)

    async def all(self) -> list[Family]:
        """The parent's answer. Raises Refusal: 503."""
        if self._asker is None:
            raise Refusal(
                ErrorCode.INTERNAL,
                "The figures of workers go over the control socket, which [control] socket has "
                "turned off.",
                status=503,
            )
        try:
            told = msgspec.json.decode(await self._asker.ask("GET", "/figures"), type=Told)
        except NoAnswer as error:
            raise Refusal(
                ErrorCode.TIMEOUT,
                "The parent of the workers did not say the figures in time; the log says whether "
                "it has a control socket.",
                status=503,
            ) from error
        return told.families

"""Requests that arrive during a database interaction share the next one.

`draws` and `history` stand on it. The bounds of the queue are here, and the rule that keeps waits
short: when the database is unavailable, all pending requests fail together. Batches of frames,
which wait for time to pass and have no answer, are in `native.batching`.
"""

import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from twisted.internet.defer import Deferred

from relayd.errors import DatabaseUnavailable, Unavailable

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class _Waiting(NamedTuple, Generic[Request, Answer]):
    request: Request
    weight: int
    until: float
    answer: "Deferred[Answer]"


class Batches(Generic[Request, Answer]):
    """Turns single requests into batches, one at a time.

    Args:
        perform: carries out a batch; gets the requests in order and the seconds it may take;
            returns as many answers, in order.
        seconds: returns the time of a clock, in seconds.
        deadline: seconds a request may take, its time in the queue included.
        batch: the most requests in one batch.
        batch_weight: the weight at which a batch is full, in the unit of `enqueue`; a batch has
            at least one request.
        waiting: the most pending requests; beyond that, a request fails at once.
        weight: the greatest pending weight, in the unit of `enqueue`; beyond that likewise.
        unavailable: the exception of requests that fail because the database is unavailable.
    """

    def __init__(
        self,
        perform: Callable[[Sequence[Request], float], Awaitable[Sequence[Answer]]],
        *,
        seconds: Callable[[], float],
        deadline: float,
        batch: int = 1000,
        batch_weight: int = 256 * 1024,
        waiting: int = 10_000,
        weight: int = 32 * 1024 * 1024,
        unavailable: type[Unavailable] = DatabaseUnavailable,
    ) -> None:
        self._perform = perform
        self._seconds = seconds
        self._deadline = deadline
        self._batch = batch
        self._batch_weight = batch_weight
        self._most = waiting
        self._heaviest = weight
        self._unavailable = unavailable
        self._queue: deque[_Waiting[Request, Answer]] = deque()
        self._weight = 0
        self._busy = False
        self._settling: list[Deferred[None]] = []

    def enqueue(self, request: Request, weight: int = 0) -> "Deferred[Answer]":
        """Adds a request.

        Args:
            request: an argument of `perform`.
            weight: its share of `batch_weight` and of the pending weight, in the caller's unit.

        Returns:
            A Deferred that fires with the answer, in the order of the requests. It fails with
            `unavailable` when the database is unavailable or the queue is full.
        """
        answer: Deferred[Answer] = Deferred()
        if len(self._queue) >= self._most or self._weight + weight > self._heaviest:
            answer.errback(self._unavailable("too many requests wait for the database"))
            return answer
        until = self._seconds() + self._deadline
        self._queue.append(_Waiting(request, weight, until, answer))
        self._weight += weight
        if not self._busy:
            self._busy = True
            Deferred.fromCoroutine(self._work())
        return answer

    def settled(self) -> "Deferred[None]":
        """Fires after all answers of the batch in flight have fired; at once if there is none."""
        settled: Deferred[None] = Deferred()
        if self._busy:
            self._settling.append(settled)
        else:
            settled.callback(None)
        return settled

    async def _work(self) -> None:
        try:
            while self._queue:
                await self._work_off(self._take_batch())
                settling, self._settling = self._settling, []
                for settled in settling:
                    settled.callback(None)
        finally:
            self._busy = False

    async def _work_off(self, batch: list[_Waiting[Request, Answer]]) -> None:
        try:
            left = batch[0].until - self._seconds()
            answers = await self._perform([one.request for one in batch], left)
        except Unavailable as error:
            for one in batch + self._take(len(self._queue)):
                one.answer.errback(self._unavailable(str(error)))
        except Exception as error:
            for one in batch:
                one.answer.errback(error)
        else:
            for one, answer in zip(batch, answers, strict=True):
                one.answer.callback(answer)

    def _take_batch(self) -> list[_Waiting[Request, Answer]]:
        count = weight = 0
        for one in itertools.islice(self._queue, self._batch):
            weight += one.weight
            if count and weight > self._batch_weight:
                break
            count += 1
        return self._take(count)

    def _take(self, count: int) -> list[_Waiting[Request, Answer]]:
        taken = [self._queue.popleft() for _ in range(min(count, len(self._queue)))]
        self._weight -= sum(one.weight for one in taken)
        return taken

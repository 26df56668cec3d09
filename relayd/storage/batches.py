"""Requests that are asked for while an interaction is under way share the next one.

`draws` and `history` stand on it. Every bound of the queue is here, and so is the rule that keeps
everybody's wait short: when the database is away, all who wait learn it together. A batch of frames
is another thing, which waits for time to pass and has no answer: `native.batching`.
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
        perform: does a batch; gets the requests in order and the seconds it may take; returns as
            many answers, in order.
        seconds: a clock, in seconds.
        deadline: seconds a request may take, its waiting included.
        batch: the most requests in one batch.
        batch_weight: the weight at which a batch is full, in the unit of `enqueue`; a batch has
            at least one request.
        waiting: the most requests that wait; beyond it, a request fails at once.
        weight: the greatest weight that waits, in the unit of `enqueue`; beyond it likewise.
        unavailable: the exception of all that fails because the database is away.
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

        Returns:
            What fires with its answer; answers fire in the order of the requests. Fails with
            `unavailable` when the database is away or too much waits already.
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
        """Fires when all answers of the batch under way were given; at once if there is none."""
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

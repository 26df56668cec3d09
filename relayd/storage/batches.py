"""Requests that arrive during a database interaction share the next one.

`draws` and `history` stand on it. The requests of a batch are taken from their sources in turn
(`fair`), and the rule that keeps waits short is here: when the database is unavailable, all pending
requests fail together, and a request that has waited for most of its deadline fails alone. Batches
of frames, which wait for time to pass and have no answer, are in `native.batching`.
"""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, NamedTuple, TypeVar

from twisted.internet.defer import Deferred

from relayd.errors import DatabaseUnavailable, NotStorable, OutcomeUnknown, Unavailable
from relayd.storage.fair import FairQueue

_LEAST_LEFT = 0.25
"""Of its deadline, what a request needs when its batch begins: one that has less fails alone, so
that it does not shorten the time of the others."""

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class _Waiting(NamedTuple, Generic[Request, Answer]):
    request: Request
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
        waiting: the most pending requests; beyond that, a request fails at once. Those of one
            place may be as many as are free for all.
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
        self._unavailable = unavailable
        self._queue: FairQueue[_Waiting[Request, Answer]] = FairQueue(waiting, weight)
        self._busy = False
        self._settling: list[Deferred[None]] = []

    def enqueue(
        self,
        request: Request,
        weight: int = 0,
        place: Hashable = None,
        source: Hashable = None,
    ) -> "Deferred[Answer]":
        """Adds a request.

        Args:
            request: an argument of `perform`.
            weight: its share of `batch_weight` and of the pending weight, in the caller's unit.
            place: whose it is, such as a room; places have their turns.
            source: who sent it; the sources of a place have theirs.

        Returns:
            A Deferred that fires with the answer, in the order of the requests of its source. It
            fails with OutcomeUnknown if `perform` does, with NotStorable if `perform` does for this
            request alone, and with `unavailable` when the database is
            unavailable, the queue is full, or most of the deadline is over when its turn comes.
        """
        answer: Deferred[Answer] = Deferred()
        waiting = _Waiting(request, self._seconds() + self._deadline, answer)
        if not self._queue.add(waiting, weight, place, source):
            answer.errback(self._unavailable("too many requests wait for the database"))
            return answer
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
                if batch := self._take_batch():
                    await self._work_off(batch)
                settling, self._settling = self._settling, []
                for settled in settling:
                    settled.callback(None)
        finally:
            self._busy = False

    async def _work_off(self, batch: list[_Waiting[Request, Answer]]) -> None:
        try:
            left = min(one.until for one in batch) - self._seconds()
            answers = await self._perform([one.request for one in batch], left)
        except NotStorable as error:
            if len(batch) == 1:
                batch[0].answer.errback(error)
                return
            # the others are not to fail for one of them
            middle = len(batch) // 2
            await self._work_off(batch[:middle])
            await self._work_off(batch[middle:])
        except Unavailable as error:
            waiting = [self._take() for _ in range(len(self._queue))]
            kind = OutcomeUnknown if isinstance(error, OutcomeUnknown) else self._unavailable
            for one in batch:
                one.answer.errback(kind(str(error)))
            for one in waiting:
                one.answer.errback(self._unavailable(str(error)))
        except Exception as error:
            for one in batch:
                one.answer.errback(error)
        else:
            for one, answer in zip(batch, answers, strict=True):
                one.answer.callback(answer)

    def _take_batch(self) -> list[_Waiting[Request, Answer]]:
        """The next requests, one of each place in turn; those that are too late fail."""
        batch: list[_Waiting[Request, Answer]] = []
        weight = 0
        latest = self._seconds() + _LEAST_LEFT * self._deadline
        while self._queue and len(batch) < self._batch:
            place = self._queue.next_place()
            weight += self._queue.next_weight(place) or 0
            if batch and weight > self._batch_weight:
                break
            one = self._queue.take(place)
            if one.until < latest:
                one.answer.errback(self._unavailable("the database has too much to do"))
            else:
                batch.append(one)
        return batch

    def _take(self) -> _Waiting[Request, Answer]:
        return self._queue.take(self._queue.next_place())

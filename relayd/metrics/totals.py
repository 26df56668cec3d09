"""The figures of all workers as one, also after some have died: what a parent keeps. Pure.

Sits on `exchange`. A counter of the sum never goes back: of a worker that has gone, or does not
answer, what it said last is counted on. What a worker counted between that answer and its end is in
no figure.
"""

from collections.abc import Iterable, Mapping

from relayd.metrics.exchange import Family, growing, merge, pack
from relayd.metrics.families import counter, gauge


class Totals:
    """The workers of one parent, as far as known.

    Figures are told apart by the process that they come from, so a worker that was started again
    need not be announced: what its predecessor said last is kept.
    """

    def __init__(self) -> None:
        self._gone: list[Family] = []
        self._last: dict[int, tuple[str, list[Family]]] = {}  # by worker: process, what grows

    def note(self, worker: int, process: str, families: list[Family]) -> None:
        """A worker has answered.

        Args:
            worker: its number.
            process: the unique id of the process that it is now.
            families: its figures.
        """
        before = self._last.get(worker)
        if before is not None and before[0] != process:
            self._gone = merge([self._gone, before[1]])
        self._last[worker] = (process, growing(families))

    def sum(
        self, answers: Mapping[int, list[Family]], others: Iterable[Iterable[Family]] = ()
    ) -> list[Family]:
        """All figures together.

        Args:
            answers: what workers have said just now, by their numbers; each was noted.
            others: figures that are to be added, such as the parent's own.
        """
        silent = [last for worker, (_, last) in self._last.items() if worker not in answers]
        return merge([*answers.values(), *silent, self._gone, *others])


def describe_workers(configured: int, serving: int, restarts: int, unanswered: int) -> list[Family]:
    """The figures of the workers as such.

    Args:
        configured: how many there are to be; 1 where one process does it all.
        serving: how many serve clients.
        restarts: how often one was started again.
        unanswered: how many of those that serve did not say their figures in time.
    """
    metrics = [
        gauge("workers", "Worker processes that are to serve clients", configured),
        gauge("workers_serving", "Worker processes that do serve clients", serving),
        counter("worker_restarts", "How often a worker had ended and was started again", restarts),
        gauge(
            "workers_unanswered",
            "Workers that did not say their figures in time: of them, what only grows is counted "
            "as it was when they did, everything else is missing",
            unanswered,
        ),
    ]
    return pack(metrics, {})

"""The sum of the figures of all workers, kept by their parent, also after some have died. Pure.

Sits on `exchange`. A counter of the sum never decreases: for a worker that has died or does not
answer, the sum includes its last answer. Counts between that answer and the worker's end are lost.
"""

from collections.abc import Iterable, Mapping

from relayd.metrics.exchange import Family, growing, merge, pack
from relayd.metrics.families import counter, gauge


class Totals:
    """The workers of one parent, as far as known.

    Figures are kept by the id of their process, so a restart of a worker needs no announcement: the
    last answer of its predecessor is kept.
    """

    def __init__(self) -> None:
        self._gone: list[Family] = []
        self._last: dict[int, tuple[str, list[Family]]] = {}  # by worker: process, what grows

    def note(self, worker: int, process: str, families: list[Family]) -> None:
        """Notes the answer of a worker.

        Args:
            worker: its number.
            process: the unique id of its present process.
            families: its figures.
        """
        before = self._last.get(worker)
        if before is not None and before[0] != process:
            self._gone = merge([self._gone, before[1]])
        self._last[worker] = (process, growing(families))

    def sum(
        self, answers: Mapping[int, list[Family]], others: Iterable[Iterable[Family]] = ()
    ) -> list[Family]:
        """Sums all figures.

        Args:
            answers: the present figures of workers, by their numbers; each was noted.
            others: further figures, such as the parent's own.
        """
        silent = [last for worker, (_, last) in self._last.items() if worker not in answers]
        return merge([*answers.values(), *silent, self._gone, *others])


def describe_workers(configured: int, serving: int, restarts: int, unanswered: int) -> list[Family]:
    """The figures about the workers as processes.

    Args:
        configured: the number of workers in the configuration; 1 for a process without workers.
        serving: the number of workers that serve clients.
        restarts: the number of restarts of all workers.
        unanswered: the number of serving workers that did not answer in time.
    """
    metrics = [
        gauge("workers", "Worker processes in the configuration", configured),
        gauge("workers_serving", "Worker processes that serve clients", serving),
        counter("worker_restarts", "How often a worker has ended and was started again", restarts),
        gauge(
            "workers_unanswered",
            "Workers that did not answer in time: their counters are as of their last answer, "
            "their other figures are missing",
            unanswered,
        ),
    ]
    return pack(metrics, {})

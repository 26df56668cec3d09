"""The search for the number of viewers that fit (`relayctl bench --fit`). Pure, given a runner.

The number is doubled until a load does not fit, then bisected to two digits. A load that does not
fit is tried once more, so that a short disturbance of the machine does not decide.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from relayd.ctl.bench.results import Figures
from relayd.ctl.bench.target import Full, Silent


class Bound(StrEnum):
    """A bound on the number of viewers that is not the server's."""

    CAP = "cap"
    FILES = "open_files"
    SERVER = "server_full"


@dataclass(frozen=True)
class Step:
    """One try.

    Attributes:
        viewers: of each group.
        figures: the results; None if not all clients could connect.
        trouble: the reason why not all clients could connect, or "".
    """

    viewers: int
    figures: Figures | None = None
    trouble: str = ""

    @property
    def fits(self) -> bool:
        """Whether the server carries it."""
        return self.figures is not None and self.figures.fits

    @property
    def generator_limited(self) -> bool:
        """Whether the load generator may have been the limit."""
        return self.figures is not None and self.figures.generator_limited

    def to_dict(self) -> dict[str, Any]:
        """The members for --json."""
        if self.figures is None:
            return {"viewers": self.viewers, "fits": False, "trouble": self.trouble}
        return self.figures.to_dict()


Run = Callable[[int], Awaitable[Figures]]


@dataclass
class Search:
    """A search and its results so far.

    Attributes:
        cap: the largest number of viewers of each group.
        bound: the origin of this cap.
        note: the sentence of a full server.
        steps: all tries.
        best: the largest load that fits.
        worst: the smallest load that does not fit.
        done: whether the search is complete.
    """

    cap: int
    bound: Bound
    note: str = ""
    steps: list[Step] = field(default_factory=list)
    best: Step | None = None
    worst: Step | None = None
    done: bool = False

    async def run(self, start: int, run: Run, room: Callable[[int], int]) -> None:
        """Searches.

        Args:
            start: viewers of the first try.
            run: runs one load, given its viewers.
            room: returns the viewers of each group for a number of connections.

        Raises:
            BenchFailed: `run` has raised it; Full and Silent are handled.
        """
        viewers: int | None = min(start, self.cap)
        while viewers is not None and viewers > 0:
            try:
                step = await self._try(viewers, run)
            except Full as full:
                self.cap, self.bound, self.note = room(full.connected), Bound.SERVER, str(full)
            else:
                if step.fits:
                    self.best = step
                else:
                    self.worst = step
            viewers = self._next()
        self.done = True

    async def _try(self, viewers: int, run: Run) -> Step:
        for _ in range(2):
            try:
                step = Step(viewers, await run(viewers))
            except Silent as error:
                step = Step(viewers, trouble=str(error))
            self.steps.append(step)
            if step.fits:
                break
        return step

    def _next(self) -> int | None:
        """Viewers of the next try; None after the last one."""
        low = self.best.viewers if self.best else 0
        if self.worst is None or self.worst.viewers > self.cap:
            return min(2 * low or self.cap, self.cap) if low < self.cap else None
        high = self.worst.viewers
        grain = 10 ** max(0, len(str(low)) - 2)
        if high - low <= grain:
            return None
        middle = (low + high) // 2
        return max(low + grain, middle // grain * grain)

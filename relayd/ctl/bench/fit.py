"""How many viewers fit: the search of `relayctl bench --fit`. Pure, given a way to run a step.

The number is doubled until a load does not fit, then bisected to two digits. A load that does not
fit is tried once more: a machine that did something else for a moment must not decide.
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
        figures: what was found; None if not everyone could connect.
        trouble: why not everyone could; "" if everyone could.
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
        """Whether the load generator may be what is slow."""
        return self.figures is not None and self.figures.generator_limited

    def to_dict(self) -> dict[str, Any]:
        """As --json shows it."""
        if self.figures is None:
            return {"viewers": self.viewers, "fits": False, "trouble": self.trouble}
        return self.figures.to_dict()


Run = Callable[[int], Awaitable[Figures]]


@dataclass
class Search:
    """A search, which knows at every moment what it has found so far.

    Attributes:
        cap: viewers of each group at most.
        bound: what sets this cap.
        note: what the server said when it was full.
        steps: all tries.
        best: the largest load that fits.
        worst: the smallest that does not.
        done: whether the search has come to its end.
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
            room: viewers of each group that a server carries which took so many connections.

        Raises:
            BenchFailed: what `run` raises, but for Full and Silent.
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
        """Viewers of the next try; None if all is known."""
        low = self.best.viewers if self.best else 0
        if self.worst is None or self.worst.viewers > self.cap:
            return min(2 * low or self.cap, self.cap) if low < self.cap else None
        high = self.worst.viewers
        grain = 10 ** max(0, len(str(low)) - 2)
        if high - low <= grain:
            return None
        middle = (low + high) // 2
        return max(low + grain, middle // grain * grain)

"""What one step on the way of a pose costs, for whoever wants to count something there.

    python -m bench.counting            here
    python -m bench.counting ROOT ...   the relayd of other checkouts beside it, in turns

Nanoseconds, the best of many rounds; sockets are left out, so a statement more shows at once. A
whole delivery costs about 1,500 of them and more, most of it in the kernel.
"""

import json
import subprocess
import sys
import timeit
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROUNDS, TURNS, CALLS = 15, 3, 20_000


def measure() -> dict[str, float]:
    """Nanoseconds of each step, by its name."""
    from twisted.internet import reactor
    from websockets.frames import Frame, Opcode

    from relayd.sockets.poller import Inlet

    found: Any = reactor
    clock: Any = SimpleNamespace(seconds=found.seconds, callLater=lambda *_: _Call())
    payload = b'{"x":0.5,"y":1.25,"z":-3}'
    steps = {}

    owner: Any = None
    inlet = Inlet(owner)
    inlet.short, inlet.longest, inlet.receive = True, 125, lambda payload, binary: None
    frame = Frame(Opcode.TEXT, payload).serialize(mask=True)
    steps["a frame read"] = _best(lambda: inlet.feed(frame), 1)
    ten = frame * 10
    steps["a frame read, ten at a time"] = _best(lambda: inlet.feed(ten), 10)

    for members in (1, 10):
        hub = _hub(clock, 0)
        for _ in range(members):
            hub.join("g", _Member())
        publish = hub.publisher("g")
        steps[f"a frame served at once, members: {members}"] = _best(
            lambda publish=publish: publish(payload), 1
        )
    due: list[Callable[[], None]] = []

    def call_later(delay: float, call: Callable[[], None]) -> _Call:
        due.append(call)
        return _Call()

    clock.callLater = call_later
    hub = _hub(clock, 3600)
    for _ in range(10):
        hub.join("g", _Member())
    publish = hub.publisher("g")
    publish(payload)

    def batch() -> None:
        for _ in range(10):
            publish(payload)
        due.pop()()

    steps["a frame in a batch of 10, members: 10"] = _best(batch, 10)
    return steps


def _hub(clock: Any, coalesce: float) -> Any:
    """A hub in which each batch costs so much that the next one waits for `coalesce` seconds."""
    from relayd import hub
    from relayd.native.batching import Batching

    try:
        return hub.Hub(Batching(clock, coalesce, coalesce))
    except TypeError:
        old: Any = hub.Hub  # of an older checkout
        return old(clock, coalesce)


class _Call:
    """A delayed call that never comes."""

    def active(self) -> bool:
        return False

    def cancel(self) -> None: ...


class _Member:
    """A member whose socket takes everything at no cost."""

    def __init__(self) -> None:
        self.direct: Callable[[bytes], int] | None = len

    def write_items(self, items: object, frames: bytes) -> None: ...

    def interrupted(self, frames: bytes, sent: int) -> None: ...

    def broken(self) -> None: ...


def _best(call: Any, frames: int) -> float:
    calls = CALLS // frames
    return min(timeit.repeat(call, number=calls, repeat=ROUNDS)) / (calls * frames) * 1e9


def _elsewhere(root: str) -> dict[str, float]:
    """The same with the relayd of another checkout, in a process of its own."""
    code = f"import sys; sys.path.insert(0, {root!r}); sys.path.insert(1, {_ROOT!r})\n"
    code += "import json; from bench import counting; print(json.dumps(counting.measure()))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd="/", capture_output=True, text=True, check=True
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


_ROOT = str(Path(__file__).resolve().parents[1])


def main(roots: Sequence[str]) -> None:
    """Measures this checkout and others in turns, since the machine drifts; prints the best."""
    everywhere = [str(Path(root).resolve()) for root in roots] + [_ROOT]
    best: dict[str, dict[str, float]] = {}
    for _ in range(TURNS):
        for root in everywhere:
            for step, cost in _elsewhere(root).items():
                column = best.setdefault(step, {})
                column[root] = min(cost, column.get(root, cost))
    print(f"{'nanoseconds':42}" + "".join(f"{Path(root).name:>12}" for root in everywhere))
    for step, column in best.items():
        print(f"{step:42}" + "".join(f"{column[root]:12.0f}" for root in everywhere))


if __name__ == "__main__":
    main(sys.argv[1:])

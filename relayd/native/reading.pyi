from collections.abc import Callable, Sequence
from typing import Any

from relayd.inlet import Owner

class Inlet:
    owner: Owner
    take: Callable[[bytes, bool], None]
    transport: Any
    descriptor: int
    longest: int
    heard: bool
    short: bool
    missing: int
    taken: int
    def __init__(self, owner: Owner) -> None: ...
    def feed(self, data: bytes) -> None: ...

def wait(
    reactor: int,
    timeout: int,
    poller: int,
    inlets: dict[int, Inlet],
    ended: Callable[[Inlet, BaseException], object],
) -> Sequence[tuple[int, int]]: ...
def read_ready(
    poller: int, inlets: dict[int, Inlet], ended: Callable[[Inlet, BaseException], object]
) -> None: ...

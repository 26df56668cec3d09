from collections.abc import Callable, Hashable, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime

from relayd.hub import Member
from relayd.inlet import Owner
from relayd.tally import Buckets

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

class Sender:
    def __init__(self, descriptor: int) -> None: ...
    def end(self) -> None: ...
    def __call__(self, frames: bytes) -> int: ...

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

class Batching:
    delivered: int
    batches: int
    def __init__(self, clock: IReactorTime, coalesce: float, latency: Buckets) -> None: ...

class Group:
    members: dict[Member, int]
    def __init__(self, batching: Batching) -> None: ...
    def fan_out(self, key: Hashable | None, payload: bytes) -> int: ...
    def add(self, member: Member) -> None: ...
    def catch_up(self, member: Member) -> None: ...
    def cancel(self) -> None: ...

class Publisher:
    def __init__(self, group: Group, key: Hashable | None) -> None: ...
    def __call__(self, payload: bytes) -> int: ...

class Passage:
    def __init__(
        self,
        decode: Callable[[bytes], object],
        encode: Callable[[object], bytes],
        publish: Callable[[bytes], object],
        otherwise: Callable[[bytes, bool], None],
    ) -> None: ...
    def __call__(self, payload: bytes, is_binary: bool) -> None: ...

def text_frame(payload: bytes) -> bytes: ...

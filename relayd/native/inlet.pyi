from collections.abc import Callable
from typing import Any

from relayd.native.source import Source
from relayd.sockets.observer import Observer
from relayd.sockets.poller import Owner

TURN: int

class Inlet(Source):
    owner: Owner
    receive: Callable[[bytes, bool], None]
    observer: Observer | None
    transport: Any
    descriptor: int
    longest: int
    alive: bool
    short: bool
    missing: int
    received_count: int
    def __init__(self, owner: Owner) -> None: ...
    @property
    def waits(self) -> bool: ...
    def limit(self, frames: float, size: float, seconds: Callable[[], float]) -> None: ...
    def allow(self) -> None: ...
    def count_frame(self) -> None: ...
    def close(self, bound: int) -> None: ...
    def feed(self, data: bytes, slice: int = ...) -> bool: ...

class Passage:
    def __init__(
        self,
        decode: Callable[[bytes], object],
        encode: Callable[[object], bytes],
        publish: Callable[[bytes], object],
        otherwise: Callable[[bytes, bool], None],
    ) -> None: ...
    def __call__(self, payload: bytes, is_binary: bool) -> None: ...

import select
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.epollreactor import EPollReactor

from relayd.native.calls import Calls
from relayd.private import ReactorNames
from relayd.sockets.observer import Observer
from relayd.sockets.poller import Owner

class Inlet:
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
    def feed(self, data: bytes) -> None: ...

class Passage:
    def __init__(
        self,
        decode: Callable[[bytes], object],
        encode: Callable[[object], bytes],
        publish: Callable[[bytes], object],
        otherwise: Callable[[bytes, bool], None],
    ) -> None: ...
    def __call__(self, payload: bytes, is_binary: bool) -> None: ...

class ReactorEpoll:
    def __init__(
        self,
        reactor: EPollReactor,
        names: ReactorNames,
        sockets: select.epoll,
        inlets: dict[int, Inlet],
        ended: Callable[[Inlet, BaseException], object],
        calls: Calls,
    ) -> None: ...
    def release(self) -> None: ...
    def poll(self, timeout: float, most: int) -> Sequence[tuple[int, int]]: ...

def read(inlet: Inlet, ended: Callable[[Any, BaseException], object]) -> None: ...
def read_ready(
    sockets: int, inlets: dict[int, Inlet], ended: Callable[[Inlet, BaseException], object]
) -> None: ...

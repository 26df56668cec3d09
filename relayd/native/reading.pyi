import select
from collections.abc import Callable, Sequence

from twisted.internet.epollreactor import EPollReactor

from relayd.native.calls import Calls
from relayd.native.inlet import Inlet
from relayd.private import ReactorNames

class Turns:
    def __init__(
        self,
        sockets: int,
        inlets: dict[int, Inlet],
        ended: Callable[[Inlet, BaseException], object],
    ) -> None: ...
    @property
    def busy(self) -> bool: ...
    def read_ready(self) -> None: ...
    def read_one(self, inlet: Inlet) -> None: ...
    def later(self, inlet: Inlet) -> None: ...

class ReactorEpoll:
    def __init__(
        self,
        reactor: EPollReactor,
        names: ReactorNames,
        sockets: select.epoll,
        turns: Turns,
        calls: Calls,
    ) -> None: ...
    def release(self) -> None: ...
    def poll(self, timeout: float, most: int) -> Sequence[tuple[int, int]]: ...

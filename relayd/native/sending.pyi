from collections.abc import Callable, Hashable

class Sender:
    def __init__(self, descriptor: int) -> None: ...
    def end(self) -> None: ...
    def __call__(self, frames: bytes) -> int: ...

class Recipient:
    direct: Callable[[bytes], int] | None
    deflates: bool
    events: bool
    labelled: bool
    keeps_all: bool

class Frames(list[tuple[Hashable | None, bytes]]):
    def settle(self) -> tuple[list[bytes], int, dict[Hashable, bytes], int]: ...

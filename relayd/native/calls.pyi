from collections.abc import Callable
from typing import Any

from relayd.hub import Call

class Calls:
    def __init__(self, reactor: Any) -> None: ...
    def seconds(self) -> float: ...
    def callLater(  # noqa: N802
        self, delay: float, function: Callable[[], object]
    ) -> Call: ...

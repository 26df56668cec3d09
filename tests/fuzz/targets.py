"""The targets of the fuzzer: each checks what must hold for arbitrary bytes of a stranger.

Sits over the parts of the unit tests, whose comparisons it runs on bytes that a fuzzer draws. The
first bytes of an input choose what a caller could choose otherwise, such as the places where a
stream is cut. A target raises where an invariant is broken; `run` says which input did it.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from tests.fuzz import connections, foreign, native, readers, texts

Check = Callable[[bytes], object]


class Target(NamedTuple):
    """One entry of the table.

    Attributes:
        check: raises where an invariant is broken by an input.
        seeds: inputs to begin with, valid and nearly valid ones.
        share: of the time of a long run, beside the shares of the others.
    """

    check: Check
    seeds: Callable[[], Iterable[bytes]]
    share: int = 1


TARGETS = {
    "heads": Target(connections.check_head, connections.heads, 3),
    "door": Target(connections.check_door, connections.requests, 3),
    "events": Target(readers.check_request, readers.requests, 2),
    "frames": Target(connections.check_stream, connections.streams, 4),
    "inlet": Target(native.check_inlet, native.streams, 2),
    "framing": Target(native.check_framing, native.frames),
    "messages": Target(texts.check_message, texts.messages, 2),
    "addresses": Target(texts.check_addresses, texts.addresses),
    "paths": Target(texts.check_path, texts.paths),
    "redis": Target(foreign.check_channel, foreign.messages, 3),
    "history": Target(foreign.check_history, foreign.histories),
}
"""All targets by name, in the order of a run."""

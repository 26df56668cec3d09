"""What the clients of a run saw and did, in the order in which it happened."""

import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Event(NamedTuple):
    """One thing that happened.

    Attributes:
        at: seconds since the run began.
        who: a client, such as `chat r0/2`, `headset 1` or `phone 1`; `world` for a fault.
        what: `joined`, `sent`, `frame` or `ended` of a client; `lossy` where a store has lost what
            it had acknowledged, or may have.
        data: the frame; of `joined`, where to and since which id; of `sent`, the message.
    """

    at: float
    who: str
    what: str
    data: dict[str, Any]


@dataclass
class Record:
    """All events of a run."""

    events: list[Event] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def add(self, who: str, what: str, **data: Any) -> None:
        """Adds an event that happens now."""
        self.events.append(Event(time.monotonic() - self.began, who, what, data))

    def of(self, who: str) -> list[Event]:
        """The events of one client."""
        return [event for event in self.events if event.who == who]

    def clients(self, kind: str) -> list[str]:
        """The clients of a kind, in the order in which they came."""
        return list(dict.fromkeys(each.who for each in self.events if each.who.startswith(kind)))

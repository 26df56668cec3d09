"""`tail`: the frames of a chat room, camera group or push topic, live.

Sits under `process`. A tail is a member of the group like any other, so it also gets the frames of
other processes; the number of clients that a publisher gets includes it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from relayd.brokers.interface import Groups
from relayd.errors import Unavailable
from relayd.hub import Listener
from relayd.logs import Logger
from relayd.native.framing import read_frames
from relayd.sockets.outbox import Item
from relayd.web.answers import Sink, Stream

_log = Logger()


def tail(groups: Groups, group: str, now: Callable[[], float]) -> Stream:
    """Streams the frames of a group from now on.

    Args:
        groups: joined as a member.
        group: its name, as `names.Kinds.parse_group` returns it.
        now: returns the Unix time.
    """

    def open_(sink: Sink) -> Callable[[], None]:
        member = _Tail(sink, now)
        joining = Deferred.fromCoroutine(groups.join(group, member))

        def joined(_: object) -> None:
            sink.write(msgspec.json.encode({"event": "begin", "group": group}))

        def failed(failure: Failure) -> None:
            if not isinstance(failure.value, Unavailable):
                _log.failure("joining {group} for a tail failed", failure, group=group)
            line = {"event": "error", "message": str(failure.value)}
            sink.write(msgspec.json.encode(line))
            sink.end()

        joining.addCallback(joined).addErrback(failed)
        return lambda: groups.leave(group, member)

    return Stream(open_)


class _Tail(Listener):
    """A member that writes the frames of its group to an operator's stream."""

    def __init__(self, sink: Sink, now: Callable[[], float]) -> None:
        self._sink = sink
        self._now = now

    def write_items(self, items: Sequence[Item], joined: bytes) -> None:
        time = round(self._now(), 6)
        for _, payload in read_frames(joined):
            line: dict[str, Any] = {"event": "frame", "time": time, "frame": msgspec.Raw(payload)}
            self._sink.write(msgspec.json.encode(line))

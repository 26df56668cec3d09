"""The worker that a connection belongs to; the integration tests cover the hand-over itself."""

import pytest

from relayd.config import Config
from relayd.edge.handover import owner
from relayd.relays.paths import KINDS

KEY = b"0f14d0ab-9605-4a62-a9e4-5ed26688389b"


def group_of(target: bytes) -> str | None:
    """The group or pair of a handshake."""
    head = b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n"
    return KINDS.group_of_handshake(head, Config())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"/ws/camera", b"/ws/camera/"),
        (b"/ws/camera", b"/ws/camera?token=abc"),
        (b"/ws/camera", b"/ws/camera/Camera_group"),
        (b"/ws/chat", b"/ws/chat/lobby"),
        (b"/ws/camera/g", b"/ws/camera/g/?refuse=close"),
        (b"/ws/camera/g", b"/ws/camera/%67"),
        (b"/ws/chat/r", b"http://example.org/ws/chat/r"),
        (b"/ws/chat/r", b"/ws/chat/r?since=5"),
        (b"/ws/chat/\xc3\xa9", b"/ws/chat/%c3%A9"),
        (b"/ws/difficulty/unity/" + KEY, b"/ws/difficulty/android/" + KEY.upper() + b"/"),
    ],
)
def test_connections_that_belong_together_meet_in_one_group(one: bytes, other: bytes) -> None:
    assert group_of(one) == group_of(other) is not None


def test_groups_are_spread_evenly() -> None:
    owners = [owner(f"camera/group-{n}", 4) for n in range(4000)]
    assert all(900 < owners.count(number) < 1100 for number in range(1, 5))


@pytest.mark.parametrize(
    "target",
    [
        *(b"/ws/echo", b"/ws/nowhere/x", b"/ws/difficulty/other/x", b"/ws/chat/a/b", b"/ws/push"),
        *(b"/ws/chat/a%20b", b"/ws/camera/%FF", b"/ws/camera//", b"/", b"/ws", b"/ws/"),
    ],
)
def test_a_path_that_leads_to_no_group_may_stay_with_any_worker(target: bytes) -> None:
    assert group_of(target) is None

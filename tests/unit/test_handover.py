"""Which worker a connection belongs to; the rest is seen with real workers."""

import pytest

from relayd.edge.handover import owner

KEY = b"0f14d0ab-9605-4a62-a9e4-5ed26688389b"


def head(target: bytes) -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"/ws/camera", b"/ws/camera/"),
        (b"/ws/camera", b"/ws/camera?token=abc"),
        (b"/ws/camera/g", b"/ws/camera/g/?refuse=close"),
        (b"/ws/chat/r", b"http://example.org/ws/chat/r"),
        (b"/ws/chat/r", b"/ws/chat/r?since=5"),
        (b"/ws/difficulty/unity/" + KEY, b"/ws/difficulty/android/" + KEY.upper() + b"/"),
    ],
)
def test_who_belongs_together_has_one_owner(one: bytes, other: bytes) -> None:
    for workers in (2, 3, 7, 16):
        assert owner(head(one), workers) == owner(head(other), workers)
        assert owner(head(one), workers) in range(1, workers + 1)


def test_groups_are_spread_evenly() -> None:
    owners = [owner(head(b"/ws/camera/group-%d" % n), 4) for n in range(4000)]
    assert all(900 < owners.count(number) < 1100 for number in range(1, 5))


@pytest.mark.parametrize(
    "target", [b"/ws/echo", b"/ws/nowhere/x", b"/ws/difficulty/other/x", b"/ws/chat/a/b", b"/"]
)
def test_any_worker_will_do_for_what_is_no_group(target: bytes) -> None:
    assert owner(head(target), 4) is None

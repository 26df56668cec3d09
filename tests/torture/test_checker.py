"""The checker of randomized runs: nothing is wrong with a sound record, each fault is found."""

from typing import Any

import pytest

from tests.torture.checker import violations
from tests.torture.records import Event, Record

Step = tuple[str, str, dict[str, Any]]


def _copy(number: int, tag: str) -> dict[str, Any]:
    return {"id": number, "message": f"text of {tag}", "tag": tag, "time": "now"}


def _record(*steps: Step) -> Record:
    return Record([Event(float(at), *step) for at, step in enumerate(steps)])


A, B = "chat r/0", "chat r/1"
JOINED = [(who, "joined", {"since": None}) for who in (A, B)]
SENT = [(A, "sent", {"tag": tag, "text": f"text of {tag}"}) for tag in ("a", "b", "c")]
LOSSY: Step = ("world", "lossy", {})
BACK: Step = (B, "joined", {"since": 8})
GAP = {"gap": True, "error": "gap"}


def _frames(who: str, *frames: dict[str, Any]) -> list[Step]:
    return [(who, "frame", frame) for frame in frames]


def _refused(tag: str, error: str = "store_unavailable") -> Step:
    return (A, "frame", {"error": error, "tag": tag})


ALL = [_copy(7, "a"), _copy(8, "b"), _copy(9, "c")]


@pytest.mark.parametrize(
    "steps",
    [
        [*SENT, *_frames(A, *ALL), *_frames(B, *ALL)],
        [*SENT, *_frames(A, *ALL), *_frames(B, ALL[0], GAP, ALL[2])],
        [*SENT, *_frames(A, *ALL), *_frames(B, ALL[0], GAP)],
        [*SENT, *_frames(A, *ALL), *_frames(B, ALL[2])],  # joined late
        [*SENT, _refused("b"), *_frames(A, ALL[0]), *_frames(B, ALL[0])],
        [*SENT, _refused("a", "outcome_unknown"), *_frames(A, *ALL), *_frames(B, *ALL)],
        # answered again, to the sender alone
        [*SENT, SENT[0], *_frames(A, *ALL, ALL[0]), *_frames(B, *ALL)],
        [*SENT, SENT[0], *_frames(B, *ALL, GAP), LOSSY, *_frames(A, GAP, _copy(20, "a"))],
    ],
)
def test_a_sound_record_of_a_room_breaks_nothing(steps: list[Step]) -> None:
    assert violations(_record(*JOINED, *steps)) == []


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([*_frames(A, *ALL), *_frames(B, ALL[0], ALL[2])], "never got 1 acknowledged"),
        ([*_frames(A, *ALL), *_frames(B, ALL[0])], "never got 2 acknowledged messages, 8 to 9"),
        ([*_frames(A, *ALL), *_frames(B, ALL[0], ALL[0], *ALL[1:])], "got 7 twice"),
        ([*_frames(A, *ALL), *_frames(B, ALL[1], ALL[0], ALL[2])], "got 7 late"),
        ([*_frames(A, *ALL), *_frames(B, *ALL), BACK, *_frames(B, ALL[2])], "got 9 twice"),
        ([*_frames(A, *ALL), *_frames(B, *ALL, GAP, ALL[2])], "got 9 twice"),
        ([*_frames(A, *ALL), *_frames(B, *ALL[:2]), BACK, *_frames(B, GAP, *ALL)], "got 8 twice"),
        ([*_frames(A, *ALL), *_frames(B, _copy(7, "x"), *ALL[1:])], "which was"),
        ([_refused("a"), *_frames(A, *ALL), *_frames(B, *ALL)], "a was refused, and seen"),
        ([*_frames(A, *ALL, _copy(10, "a")), *_frames(B, *ALL)], "a was kept as 7 and as 10"),
    ],
)
def test_each_fault_of_a_room_is_found(steps: list[Step], found: str) -> None:
    lines = violations(_record(*JOINED, *SENT, *steps))
    assert any(found in line for line in lines), lines


PHONE, HEADSET = "phone 1", "headset 1"
ASKED = [(PHONE, "sent", {"tag": f"t{number}", "difficulty": number}) for number in (1, 2)]


def _answer(tag: str, error: str = "") -> Step:
    status = {"status": "error", "error": error} if error else {"status": "received"}
    return (PHONE, "frame", {**status, "tag": tag})


def _action(number: int) -> Step:
    return (HEADSET, "frame", {"quiz_id": [number], "action_id": number})


@pytest.mark.parametrize(
    "steps",
    [
        [_action(1), _answer("t1"), _action(2), _answer("t2")],
        [_answer("t1", "no_unity"), _action(2), _answer("t2")],
        [_answer("t1", "outcome_unknown"), _action(1)],
        [(HEADSET, "ended", {}), _answer("t1")],
        [(PHONE, "frame", {"status": "unity_disconnected"}), _answer("t1", "no_unity")],
    ],
)
def test_a_sound_record_of_a_pair_breaks_nothing(steps: list[Step]) -> None:
    assert violations(_record(*ASKED, *steps)) == []


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([_answer("t1")], "the receipt of t1, and the headset never got"),
        ([(HEADSET, "ended", {}), *ASKED, _answer("t1")], "the headset never got"),
        ([*ASKED, _answer("t1", "no_unity"), _action(1)], "t1 was refused, and the headset got"),
        ([*ASKED, _action(1), _answer("t1"), _answer("t1")], "the answer"),
        ([*ASKED, _action(2), _answer("t2")], "the answer"),
        ([*ASKED, _answer("t1", "no_unity"), _answer("t1", "no_unity")], "the answer"),
        ([*ASKED, _action(1), _answer("t1"), _action(1)], "the headset got 1 2 times"),
    ],
)
def test_each_fault_of_a_pair_is_found(steps: list[Step], found: str) -> None:
    lines = violations(_record(*steps))
    assert any(found in line for line in lines), lines

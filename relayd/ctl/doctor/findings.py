"""Checks and findings as types. Pure; the ground of `doctor`."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from relayd.ctl.doctor.facts import Facts


class State(StrEnum):
    """How bad it is; only a fault makes the exit code 1."""

    OK = "ok"
    SKIPPED = "skipped"
    WARN = "warn"
    FAULT = "FAULT"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was found.

    Attributes:
        state: how bad it is.
        text: what is so, in one sentence without a full stop.
        remedy: what to do about it; empty for what is sound or was skipped.
    """

    state: State
    text: str
    remedy: str = ""


class Check(msgspec.Struct, frozen=True):
    """One thing that is looked at.

    Attributes:
        name: how it is called, in kebab case.
        looks_at: what it looks at, in half a sentence.
        look: finds; finds at least one thing, if only that all is well.
    """

    name: str
    looks_at: str
    look: "Callable[[Facts], Iterable[Finding]]"


def ok(text: str) -> Finding:
    """It is sound."""
    return Finding(State.OK, text)


def skipped(text: str) -> Finding:
    """It does not concern this installation, or cannot be seen from here."""
    return Finding(State.SKIPPED, text)


def warn(text: str, remedy: str) -> Finding:
    """It works, but not for ever or not for everybody."""
    return Finding(State.WARN, text, remedy)


def fault(text: str, remedy: str) -> Finding:
    """Users notice it."""
    return Finding(State.FAULT, text, remedy)

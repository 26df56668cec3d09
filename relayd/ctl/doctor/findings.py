"""Checks and findings as types. Pure; the ground of `doctor`."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from relayd.ctl.doctor.facts import Facts


class State(StrEnum):
    """The severity of a finding; only a fault makes the exit code 1."""

    OK = "ok"
    SKIPPED = "skipped"
    WARN = "warn"
    FAULT = "FAULT"


class Finding(msgspec.Struct, frozen=True):
    """One finding of a check.

    Attributes:
        state: its severity.
        text: one sentence without a full stop.
        remedy: the remedy of a warning or a fault; empty otherwise.
    """

    state: State
    text: str
    remedy: str = ""


class Check(msgspec.Struct, frozen=True):
    """One check.

    Attributes:
        name: its name, in kebab case.
        looks_at: its subject, in a few words.
        look: returns its findings, at least one.
    """

    name: str
    looks_at: str
    look: "Callable[[Facts], Iterable[Finding]]"


def ok(text: str) -> Finding:
    """The finding that there is no fault."""
    return Finding(State.OK, text)


def skipped(text: str) -> Finding:
    """The finding that a check does not concern this installation, or lacks its data."""
    return Finding(State.SKIPPED, text)


def warn(text: str, remedy: str) -> Finding:
    """The finding of a fault that affects only some users, or will only affect them later."""
    return Finding(State.WARN, text, remedy)


def fault(text: str, remedy: str) -> Finding:
    """The finding of a fault that users notice."""
    return Finding(State.FAULT, text, remedy)

"""The options of `relayctl bench`."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from relayd.ctl.common import token_option

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the command line by their names; None for those that are not given."""

    url: str | None
    cameras: int
    viewers: int
    rate: float
    groups: int
    group: str | None
    seconds: float | None
    warmup: float | None
    p99: float
    fit: bool
    cap: int
    pid: int | None
    token: str
    ca: str
    insecure: bool
    json: bool


class _Float(click.FloatRange):
    """A number in a range; click alone would accept NaN."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail("NaN is no number.", param, ctx)
        return number


def _number(
    name: str, default: float | None, range_: click.ParamType[Any], help: str, metavar: str = "N"
) -> Callable[[_Command], _Command]:
    shown = default is not None
    return click.option(
        name, metavar=metavar, default=default, show_default=shown, type=range_, help=help
    )


_SECONDS = _Float(0.1, 3600)
_DECORATORS: list[Callable[[Any], Any]] = [
    click.argument("url", required=False),
    _number("--cameras", 10, click.IntRange(1, 10_000), "Clients that send poses."),
    _number(
        "--viewers",
        200,
        click.IntRange(0, 1_000_000),
        "Clients that only receive; with --fit the first number to try.",
    ),
    _number("--rate", 10.0, _Float(0.1, 1000), "Poses per second of each camera."),
    _number(
        "--groups",
        1,
        click.IntRange(1, 100_000),
        "Groups, each with these numbers of cameras and viewers.",
    ),
    click.option(
        "--group",
        metavar="NAME",
        help="The groups are NAME-1, NAME-2, and so on. The default is a random name.",
    ),
    _number("--seconds", None, _SECONDS, "Length of the run.  [default: 5; with --fit: 2]"),
    _number("--warmup", None, _SECONDS, "Load before it.  [default: 1; with --fit: 0.5]"),
    _number(
        "--p99",
        50.0,
        _Float(0.1, 60_000),
        "A load fits if 99 of 100 deliveries take no longer, and none is lost.",
        "MS",
    ),
    click.option("--fit", is_flag=True, help="Search for the number of viewers that fit."),
    _number(
        "--cap", 10_000, click.IntRange(1, 1_000_000), "The most viewers of a group for --fit."
    ),
    _number(
        "--pid",
        None,
        click.IntRange(1),
        "The server's process, for its CPU time, if bench does not find it.",
    ),
    token_option,
    click.option(
        "--ca", metavar="FILE", default="", help="Certificates (PEM) to trust with wss://."
    ),
    click.option("--insecure", is_flag=True, help="Trust any certificate."),
    click.option("--json", is_flag=True, help="Print one JSON object."),
]


def options(command: _Command) -> _Command:
    """Adds the options to a command."""
    for decorate in reversed(_DECORATORS):
        command = decorate(command)
    return command

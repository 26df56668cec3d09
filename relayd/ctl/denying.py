"""Shared by `relayctl token revoke` and `relayctl ban`: lifetimes, and the outcome of a denial.

Sits under `tokens` and `bans`.
"""

import re
from typing import Any

import click

from relayd.access.denials import Denial
from relayd.control.messages import Denied, Listing
from relayd.ctl.common import echo_json, end_without
from relayd.ctl.control_client import reach

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
"""Seconds, by the letter behind a number."""


class Lifetime(click.ParamType[float]):
    """A time from now: `90s`, `15m`, `12h`, `30d`, or `never`, which is 0."""

    name = "lifetime"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The seconds (`click.ParamType`)."""
        if value == "never":
            return 0.0
        found = re.fullmatch(r"([0-9]{1,9})([smhd])", str(value))
        if found is None or not int(found[1]):
            self.fail(f"{value!r} is no lifetime; write 90s, 15m, 12h, 30d or never", param, ctx)
        return float(int(found[1]) * UNITS[found[2]])


def denials(context: click.Context) -> list[Denial]:
    """The denials of the running relayd. Raises Unreachable."""
    return reach(context).get("/denials", Listing[Denial]).found


def deny(context: click.Context, denial: Denial) -> Denied:
    """Has the running relayd add a denial, or lift one. Raises Unreachable or Refused."""
    return reach(context).post("/denials", denial, Denied)


def end_with(context: click.Context, done: Denied, what: str, as_json: bool) -> None:
    """Prints the outcome of a denial; ends the command with 1 if it is not kept everywhere.

    Args:
        context: of the command.
        done: the outcome.
        what: the sentence for people.
        as_json: whether the outcome is printed as JSON instead.
    """
    if as_json:
        echo_json(done)
    else:
        click.echo(what)
    if not done.everywhere:
        click.echo(
            "Error: not on every process: Redis is away. relayd tells the others when Redis is "
            "back",
            err=True,
        )
    if not done.kept:
        click.echo("Error: not kept for a restart; the log of relayd says why", err=True)
    end_without(context, done.missing, failed=not (done.everywhere and done.kept))

"""`relayctl ban`, `unban` and `bans`: addresses and users that may not connect for a while.

Sits under `ctl.main`. A ban of a user is a denial like that of `relayctl token revoke --user`.
"""

import math
import time

import click
import msgspec

from relayd.access.denials import FOR_EVER, Denial
from relayd.access.networks import Networks, parse_network
from relayd.ctl.common import (
    Failed,
    WrongInput,
    counted,
    echo_json,
    expected,
    json_option,
    moment,
    table,
)
from relayd.ctl.denying import Lifetime, denials, deny, end_with
from relayd.logs import printable

KINDS = ("address", "user")
"""The kinds of denial that are bans."""


class _Network(click.ParamType[str]):
    """An address or a network."""

    name = "network"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(parse_network(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


_user_option = click.option("--user", metavar="NAME", help="A user (sub), instead of an address.")
_target = click.argument("address", type=_Network(), required=False, metavar="[ADDRESS|NETWORK]")


@click.command(short_help="Keep an address, a network or a user out.")
@_target
@_user_option
@click.option(
    "--for", "lifetime", type=Lifetime(), default="1d", show_default=True, metavar="LIFETIME",
    help="How long: 90s, 15m, 12h, 30d or never (for ever).",
)  # fmt: skip
@click.option("--reason", default="", metavar="TEXT", help="For operators; clients do not get it.")
@json_option
@click.pass_context
@expected
def ban(
    context: click.Context,
    address: str | None,
    user: str | None,
    lifetime: float,
    reason: str,
    as_json: bool,
) -> None:
    """Bans ADDRESS, NETWORK (203.0.113.0/24) or a user, on every process, over restarts.

    An IPv6 address stands for its /64. Connections of a banned address are closed at once with 4403
    banned, and its requests get 403. Those of a user are closed with 4005, and refused with 401.
    """
    kind, value = _read_target(address, user)
    now = time.time()
    denial = Denial(
        kind=kind,  # type: ignore[arg-type]
        value=value,
        until=min(now + lifetime, FOR_EVER) if lifetime else FOR_EVER,
        made=now,
        reason=reason,
    )
    done = deny(context, denial)
    closed = counted(done.count, "connection is closed", "connections are closed")
    until = f"until {moment(denial.until)} UTC" if lifetime else "for ever"
    end_with(context, done, f"{_shown(denial)} is banned {until}; {closed}", as_json)


@click.command(short_help="Let a banned address, network or user in again.")
@_target
@_user_option
@json_option
@click.pass_context
@expected
def unban(context: click.Context, address: str | None, user: str | None, as_json: bool) -> None:
    """Lifts the ban of exactly this ADDRESS, NETWORK or user.

    Exit code 1 if there is none; a network that holds the address is named then.
    """
    kind, value = _read_target(address, user)
    listed = [each for each in denials(context) if each.kind == kind]
    found = next((each for each in listed if each.value == value), None)
    wider = [each for each in listed if each is not found and _is_within(value, each)]
    more = "".join(f"; {_shown(each)}, which holds it, is" for each in wider)
    if found is None:
        raise Failed(f"{_shown_value(kind, value)} is not banned{more}")
    # later than the ban, even if another machine's clock is ahead
    made = max(time.time(), math.nextafter(found.made, math.inf))
    lifted = msgspec.structs.replace(found, made=made, lifted=True)
    done = deny(context, lifted)
    end_with(context, done, f"{_shown(found)} is no longer banned{more}", as_json)


@click.command(short_help="List the bans.")
@json_option
@click.pass_context
@expected
def bans(context: click.Context, as_json: bool) -> None:
    """Lists the addresses, networks and users that are banned, until when, and why."""
    found = [each for each in denials(context) if each.kind in KINDS]
    found.sort(key=lambda each: (each.kind, each.value))
    if as_json:
        echo_json({"found": found})
    elif not found:
        click.echo("nobody is banned")
    else:
        rows = [
            (
                each.kind,
                _plain(each.value),
                "for ever" if each.until == FOR_EVER else f"{moment(each.until)} UTC",
                printable(each.reason) or "-",
            )
            for each in found
        ]
        click.echo(table([("KIND", "VALUE", "UNTIL", "REASON"), *rows]))


def _read_target(address: str | None, user: str | None) -> tuple[str, str]:
    """The kind and the value of what a command names."""
    if (address is None) == (user is None):
        raise WrongInput("name one: an ADDRESS, a NETWORK or --user NAME")
    return ("user", user or "") if address is None else ("address", address)


def _is_within(value: str, wider: Denial) -> bool:
    if wider.kind != "address":
        return False
    network = Networks()
    network.add(wider.value)
    address, _, length = value.partition("/")
    return int(wider.value.partition("/")[2]) < int(length) and any(network.find(address))


def _shown(denial: Denial) -> str:
    return _shown_value(denial.kind, denial.value)


def _shown_value(kind: str, value: str) -> str:
    return f"the user {printable(value)}" if kind == "user" else _plain(value)


def _plain(value: str) -> str:
    """A value for people: one IPv4 address without its prefix."""
    return printable(value.removesuffix("/32") if ":" not in value else value)

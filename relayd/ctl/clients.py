"""`relayctl clients`, `rooms`, `pairs` and `kick`: the connections. Sits under `ctl.main`."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args

import click
import msgspec

from relayd.control.messages import (
    Client,
    Column,
    Done,
    Kick,
    Listing,
    Pair,
    Room,
    Selection,
)
from relayd.ctl.common import (
    WrongInput,
    counted,
    echo_json,
    end_without,
    expected,
    json_option,
    moment,
    table,
)
from relayd.ctl.control_client import ControlClient, reach
from relayd.logs import printable
from relayd.relays.paths import KINDS

_Command = TypeVar("_Command", bound=Callable[..., Any])
_HEAD = ("ID", "KIND", "PATH", "PEER", "USER", "SINCE (UTC)", "IN", "WAITING", "REPLACED")
_LEFT_OUT = "; its clients are missing here"
_NUMBERS = ("IN", "WAITING", "REPLACED", "MEMBERS")


def _selection_options(command: _Command) -> _Command:
    """Adds the options that select clients."""
    for option in (
        click.option("--slow", is_flag=True, help="Clients that read too slowly."),
        click.option("--user", metavar="NAME", help="Clients whose token names this user."),
        click.option("--peer", metavar="ADDRESS", help="Clients at this address or address:port."),
        click.option("--path", metavar="PATH", help="Clients on this path, such as /ws/chat/*."),
        click.option("--kind", type=click.Choice(KINDS.names), help="Clients on a kind of path."),
    ):
        command = option(command)
    return command


@click.command(short_help="List the connections.")
@_selection_options
@click.option(
    "--sort", type=click.Choice(get_args(Column)), default="id", show_default=True,
    help="The column to sort by; numbers in descending order.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Show at most N clients.")
@json_option
@click.pass_context
@expected
def clients(
    context: click.Context, sort: Column, limit: int | None, as_json: bool, **chosen: Any
) -> None:
    """Lists the connections.

    IN is the number of messages received from a client. For a client that reads slowly, WAITING is
    the number of buffered bytes, and REPLACED the number of poses that newer ones replaced.
    """
    selection = Selection(sort=sort, limit=limit or 0, **chosen)
    listing = _select(reach(context), selection)
    if as_json:
        echo_json(listing)
    else:
        if listing.found:
            click.echo(table([_HEAD, *map(_row, listing.found)], _NUMBERS) + "\n")
        shown = f", {len(listing.found)} shown" if len(listing.found) < listing.total else ""
        click.echo(f"{counted(listing.total, 'client', 'clients')}{shown}")
    end_without(context, listing.missing, _LEFT_OUT)


@click.command(short_help="List groups and rooms with their members.")
@json_option
@click.pass_context
@expected
def rooms(context: click.Context, as_json: bool) -> None:
    """Lists the camera groups, chat rooms and push topics with the numbers of their clients."""
    listing = reach(context).get("/rooms", Listing[Room])
    if as_json:
        echo_json(listing)
    else:
        rows = [(room.group, f"{room.members}") for room in listing.found]
        _print_table(("ROOM", "MEMBERS"), rows, "no room has clients")
    end_without(context, listing.missing, _LEFT_OUT)


@click.command(short_help="List headsets and phones by UUID.")
@json_option
@click.pass_context
@expected
def pairs(context: click.Context, as_json: bool) -> None:
    """Lists the UUIDs under which a headset or a phone is connected to this relayd."""
    listing = reach(context).get("/pairs", Listing[Pair])
    if as_json:
        echo_json(listing)
    else:
        words = {True: "connected", False: "-"}
        rows = [(pair.uuid, words[pair.headset], words[pair.phone]) for pair in listing.found]
        _print_table(("UUID", "HEADSET", "PHONE"), rows, "neither headsets nor phones")
    end_without(context, listing.missing, _LEFT_OUT)


@click.command(short_help="Close connections.")
@click.argument("connections", nargs=-1, metavar="[CONNECTION]...")
@_selection_options
@click.option(
    "--code", type=int, default=1000, show_default=True,
    help="The close code: 1000 to 1003, 1007 to 1014, 3000 to 4999.",
)  # fmt: skip
@click.option("--reason", default="", help="The close reason, at most 123 bytes.")
@click.option("--yes", is_flag=True, help="Do not ask before closing more than one.")
@json_option
@click.pass_context
@expected
def kick(
    context: click.Context,
    connections: tuple[str, ...],
    code: int,
    reason: str,
    yes: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Closes connections by id (c17, w2-c17), or all clients that the options select.

    The client gets a close frame with the code: 1000 means that it should not reconnect, 1001 that
    it should. Exit code 1 if there is no connection with an id.
    """
    control = reach(context)
    missing: list[int] = []
    if bool(connections) == any(chosen.values()):
        raise WrongInput(
            "name the connections (relayctl clients lists them), or select them with --kind, "
            "--path, --peer, --user or --slow"
        )
    ids = list(connections)
    if not ids:
        listing = _select(control, Selection(**chosen))
        ids, missing = [client.id for client in listing.found], listing.missing
        if len(ids) > 1 and not yes:
            click.echo(_summary(listing.found), err=True)
    if len(ids) > 1 and not yes:
        click.confirm(f"Close {len(ids)} connections?", abort=True, err=True)
    done = Done(count=0)
    if ids:
        done = control.post("/kick", Kick(ids=ids, code=code, reason=reason), Done)
    done.missing = sorted({*done.missing, *missing})
    if as_json:
        echo_json(done)
    else:
        click.echo(f"{counted(done.count, 'connection', 'connections')} closed")
    for id in done.unknown:
        click.echo(f"Error: there is no open connection {id}", err=True)
    end_without(context, done.missing, _LEFT_OUT, failed=bool(done.unknown))


def _select(control: ControlClient, selection: Selection) -> Listing[Client]:
    query = msgspec.to_builtins(selection)
    return control.get("/clients", Listing[Client], **query)


def _row(client: Client) -> tuple[str, ...]:
    return (
        client.id,
        client.kind,
        client.path + (" (closing)" if client.closing else ""),
        client.peer,
        printable(client.user or "-"),
        moment(client.since),
        f"{client.messages}",
        f"{client.waiting}",
        f"{client.replaced}",
    )


def _summary(found: Sequence[Client]) -> str:
    """The clients that would be closed, counted by path."""
    counts = Counter(f"{client.kind} {client.path}" for client in found)
    lines = [f"{count:6}  {name}" for name, count in counts.most_common(10)]
    if len(counts) > 10:
        lines.append(f"        and {len(counts) - 10} more paths")
    return "\n".join(lines)


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]], nothing: str) -> None:
    click.echo(table([head, *rows], _NUMBERS) if rows else nothing)

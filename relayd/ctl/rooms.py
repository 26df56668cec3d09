"""`relayctl room`: what the chat rooms keep. Sits under `ctl.main`."""

import click

from relayd.control.messages import Deletion, Done, Kept, Listing
from relayd.ctl.common import counted, echo_json, expected, json_option, moment, table
from relayd.ctl.control_client import reach

_HEAD = ("ROOM", "MESSAGES", "BYTES", "NEWEST (UTC)")


@click.group(short_help="List or delete what chat rooms keep.")
def room() -> None:
    """Lists the chat rooms with the messages that they keep, or deletes these."""


@room.command("list")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Show at most N rooms.")
@json_option
@click.pass_context
@expected
def list_(context: click.Context, limit: int | None, as_json: bool) -> None:
    """Lists the rooms that keep messages, the largest first, at most 1,000.

    BYTES is what the messages take in the store, about.
    """
    listing = reach(context).get("/kept", Listing[Kept])
    del listing.found[limit or len(listing.found) :]
    if as_json:
        echo_json(listing)
        return
    if listing.found:
        rows = [
            (each.room, f"{each.messages}", f"{each.bytes}", moment(each.posted))
            for each in listing.found
        ]
        click.echo(table([_HEAD, *rows], ("MESSAGES", "BYTES")) + "\n")
    shown = f", {len(listing.found)} shown" if len(listing.found) < listing.total else ""
    click.echo(f"{counted(listing.total, 'room', 'rooms')}{shown}")


@room.command()
@click.argument("name")
@json_option
@click.pass_context
@expected
def delete(context: click.Context, name: str, as_json: bool) -> None:
    """Deletes the messages of the room NAME for good.

    Clients in the room stay connected and are sent a gap. Later messages get higher ids, so that a
    client that comes back with ?since= is told that messages are missing. Exit code 1 if the room
    kept no message.
    """
    done = reach(context).post("/delete-room", Deletion(room=name), Done)
    if as_json:
        echo_json(done)
    elif done.count:
        click.echo(f"the messages of {name} are deleted")
    else:
        click.echo(f"Error: {name} keeps no message", err=True)
    if not done.count:
        context.exit(1)

"""`relayctl tail` and `relayctl trace`: frames, live. Sits under `ctl.main`."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from relayd.ctl.common import Failed, echo_json, expected, json_option
from relayd.ctl.control_client import reach
from relayd.logs import printable
from relayd.relays.paths import KINDS

_INTERRUPTED = 130


@click.command(short_help="Show the frames of a room, live.")
@click.argument("room")
@json_option
@click.pass_context
@expected
def tail(context: click.Context, room: str, as_json: bool) -> None:
    """Shows the frames of a room from now on: chat/lobby, camera/Camera_group, push/build.

    A name alone is a chat room. Ctrl-C ends it.
    """
    group = room if "/" in room else KINDS.history.group(room)
    lines = reach(context).stream("/tail", group=group)
    _show(context, lines, as_json, _tailed)


@click.command(short_help="Show the frames of a connection, live.")
@click.argument("connection")
@json_option
@click.pass_context
@expected
def trace(context: click.Context, connection: str, as_json: bool) -> None:
    """Shows every frame of a connection (c17, w2-c17) from now on, until it ends.

    `<` marks frames from the client, `>` frames to it; "waits" marks frames that are buffered,
    because the client reads slowly. Ctrl-C ends it; the connection stays open.
    """
    lines = reach(context).stream("/trace", id=connection)
    _show(context, lines, as_json, _traced)


def _show(
    context: click.Context,
    lines: Iterator[dict[str, Any]],
    as_json: bool,
    shown: Callable[[dict[str, Any]], str],
) -> None:
    event = ""
    try:
        for line in lines:
            event = line["event"]
            if event == "error":
                raise Failed(line["message"])
            if as_json:
                echo_json(line)
            else:
                at = f"{_clock(line['time'])} " if "time" in line else ""
                if event == "left_out":
                    click.echo(f"({line['lines']} lines dropped: they came too fast)", err=True)
                elif text := shown(line):
                    click.echo(f"{at}{text}", err=event == "begin")
    except KeyboardInterrupt:
        context.exit(_INTERRUPTED)
    if event != "ended":
        raise Failed("relayd has ended the stream")


def _clock(seconds: float) -> str:
    """The time of day in UTC to the millisecond, in the format of chat messages."""
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S.%f}"[:-3] + "Z"


def _tailed(line: dict[str, Any]) -> str:
    if line["event"] == "begin":
        return f"{line['group']}, until Ctrl-C:"
    return _compact(line["frame"])


def _traced(line: dict[str, Any]) -> str:
    event = line["event"]
    if event == "begin":
        return f"{line['path']} of {line['peer']}, until Ctrl-C:"
    if event == "ended":
        return "the connection has ended"
    mark = "<" if event == "in" else ">"
    if line["type"] == "close":
        code = line["code"] if line["code"] is not None else "without a code"
        return f"{mark} close {code} {printable(line['reason'])}".rstrip()
    kind = "" if line["type"] == "text" else f"({line['type']}) "
    cut = f" … {line['size']} bytes in all" if line.get("cut") else ""
    waits = " (waits)" if line.get("waits") else ""
    return f"{mark} {kind}{printable(line['text'])}{cut}{waits}"


def _compact(frame: Any) -> str:
    return printable(msgspec.json.encode(frame).decode())

"""`relayctl drain` and `undrain`: admit no new clients, and wait until all have disconnected.

Sits under `ctl.main`.
"""

import time

import click

from relayd.control.messages import Done, Drain, Status
from relayd.ctl.common import (
    counted,
    echo_json,
    end_without,
    expected,
    json_option,
    progress,
)
from relayd.ctl.control_client import ControlClient, reach

_INTERVAL = 0.25  # seconds between two queries


@click.command(short_help="Admit no new clients.")
@click.option("--close", is_flag=True, help="Close the connected clients with 1001 (restart), too.")
@click.option("--wait", is_flag=True, help="Return when all clients have disconnected.")
@json_option
@click.pass_context
@expected
def drain(context: click.Context, close: bool, wait: bool, as_json: bool) -> None:
    """Admits no new clients: handshakes and /readyz get 503; connected clients stay.

    For use before a stop, so that a load balancer sends clients elsewhere. `undrain` undoes it.
    """
    control = reach(context)
    done = control.post("/drain", Drain(close=close), Done)
    left = done.count
    if wait:
        left = _wait(control, done)
    if as_json:
        echo_json({"clients": left, "missing": done.missing})
    elif wait and not done.missing:
        click.echo("all clients have disconnected")
    else:
        click.echo(f"draining; {counted(left, 'client is', 'clients are')} connected")
    end_without(context, done.missing)


@click.command(short_help="Admit new clients again.")
@json_option
@click.pass_context
@expected
def undrain(context: click.Context, as_json: bool) -> None:
    """Admits clients again after `drain`."""
    done = reach(context).post("/undrain", None, Done)
    if as_json:
        echo_json({"clients": done.count, "missing": done.missing})
    else:
        click.echo(f"admits clients; {counted(done.count, 'client is', 'clients are')} connected")
    end_without(context, done.missing)


def _wait(control: ControlClient, done: Done) -> int:
    """Returns when no process has clients; a bar shows the progress."""
    with progress("waiting for clients to disconnect") as update:
        while True:
            status = control.get("/status", Status)
            left = sum(sum(process.connections.values()) for process in status.processes)
            update(done.count - left, done.count)
            done.missing = status.missing
            if not left:
                return 0
            time.sleep(_INTERVAL)

"""`relayctl log-level`: the log level of a running relayd. Sits under `ctl.main`."""

import click

from relayd.control.messages import LogLevel
from relayd.ctl.common import echo_json, end_without, expected, json_option
from relayd.ctl.control_client import reach
from relayd.logs import LEVELS


@click.command("log-level", short_help="Show or set the log level.")
@click.argument("level", required=False, type=click.Choice(tuple(LEVELS)))
@json_option
@click.pass_context
@expected
def log_level(context: click.Context, level: str | None, as_json: bool) -> None:
    """Shows or sets the lowest level that is logged.

    A new level holds until relayd restarts, or reloads a configuration with another [log] level.
    """
    control = reach(context)
    if level is None:
        found = control.get("/log-level", LogLevel)
    else:
        found = control.post("/log-level", LogLevel(level=level), LogLevel)
    if as_json:
        echo_json(found)
    else:
        click.echo(found.level)
    end_without(context, found.missing)

"""`relayctl check-config`: what the configuration says, and where; `reload`: have it read again.

Sits under `ctl.main`.
"""

import os

import click

from relayd.config import Config, read, read_dotenv
from relayd.config.settings import in_toml
from relayd.control.messages import Reloaded
from relayd.ctl.common import echo_json, expected, json_option, read_config
from relayd.ctl.control import Control
from relayd.errors import ConfigError


@click.command("check-config", short_help="Check the configuration and show it.")
@click.option("--all", "everything", is_flag=True, help="Print the defaults, too.")
@json_option
@click.pass_context
@expected
def check_config(context: click.Context, everything: bool, as_json: bool) -> None:
    """Reads the configuration as the daemon does, and prints what differs from the defaults.

    Each line says where the setting stands; secrets and passwords are hidden. A wrong one is named,
    with exit code 2. (`twistd relayd --check` with the same options says the same.)
    """
    loaded = read(context.obj, os.environ, dotenv=read_dotenv())
    defaults = Config()
    lines = [
        line
        for line in loaded.lines()
        if everything
        or line.value != in_toml(line.key, getattr(getattr(defaults, line.section), line.key))
    ]
    for warning in loaded.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if as_json:
        echo_json({"settings": lines, "warnings": loaded.warnings})
        return
    width = max((len(_setting(line.section, line.key, line.value)) for line in lines), default=0)
    for line in lines:
        setting = _setting(line.section, line.key, line.value)
        click.echo(f"{setting:{min(width, 60)}}  # {line.source}")
    click.echo("the configuration is good" + ("" if lines else ": all defaults"), err=True)


@click.command("reload", short_help="Have the configuration read again.")
@json_option
@click.pass_context
@expected
def reload(context: click.Context, as_json: bool) -> None:
    """Has the running relayd read its configuration again, while its clients stay connected.

    Prints what was applied, and what needs a restart. If something is wrong, nothing has changed,
    and the exit code is 2.
    """
    try:
        config = read_config(context)
    except ConfigError as error:
        # relayd would find the same
        raise ConfigError(f"nothing has changed, for {error}") from error
    found = Control(config).post("/reload", None, Reloaded)
    if as_json:
        names = ("applied", "restart", "warnings")
        echo_json({name: getattr(found, name) for name in names})
    else:
        click.echo("\n".join(found.lines))


def _setting(section: str, key: str, value: str) -> str:
    return f"[{section}] {key} = {value}"

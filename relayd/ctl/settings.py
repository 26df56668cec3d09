"""`relayctl check-config`: what the configuration says, and where. Sits under `ctl.main`."""

import os

import click

from relayd.config import Config, read, read_dotenv
from relayd.config.settings import in_toml
from relayd.ctl.common import echo_json, expected, json_option


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


def _setting(section: str, key: str, value: str) -> str:
    return f"[{section}] {key} = {value}"

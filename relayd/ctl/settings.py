"""The configuration: `check-config` lists it, `reload` applies it anew, `restart` at a new start.

Sits under `ctl.main`.
"""

import os
import subprocess

import click

from relayd.config import Config
from relayd.config.settings import in_toml
from relayd.control.messages import Reloaded, Secrets
from relayd.ctl import service
from relayd.ctl.common import Failed, WrongInput, echo_json, expected, json_option, load
from relayd.ctl.control_client import reach
from relayd.errors import ConfigError


@click.command("check-config", short_help="Check the configuration and show it.")
@click.option("--all", "everything", is_flag=True, help="Print the defaults, too.")
@click.option("--next-start", is_flag=True, help="With the secrets of the service's next start.")
@json_option
@click.pass_context
@expected
def check_config(context: click.Context, everything: bool, next_start: bool, as_json: bool) -> None:
    """Reads the configuration as the daemon does, and prints what differs from the defaults.

    Each line has the source of the setting; secrets and passwords are hidden. A wrong setting is
    reported, with exit code 2. (`twistd relayd --check` with the same options finds the same.)
    """
    loaded = load(context, next_start=next_start)
    looked_after = service.find(os.environ)
    if looked_after is not None and looked_after.hidden:
        click.echo(
            f"Warning: {looked_after.credentials} was not read, only root may: use sudo", err=True
        )
    defaults = Config()
    lines = [
        line
        for line in loaded.lines()
        if everything
        or line.value
        != in_toml(line.section, line.key, getattr(getattr(defaults, line.section), line.key))
    ]
    for warning in loaded.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if as_json:
        echo_json({"settings": lines, "warnings": loaded.warnings})
        return
    width = max((len(_setting(line.section, line.key, line.value)) for line in lines), default=0)
    for line in lines:
        setting = _setting(line.section, line.key, line.value)
        click.echo(f"{setting:{min(width, 72)}}  # {line.source}")
    click.echo("the configuration is good" + ("" if lines else ": all defaults"), err=True)


@click.command("reload", short_help="Reload the configuration.")
@click.option("--quiet", is_flag=True, help="Print nothing after a success; the log has it.")
@json_option
@click.pass_context
@expected
def reload(context: click.Context, quiet: bool, as_json: bool) -> None:
    """Makes the running relayd read its configuration again, while its clients stay connected.

    Prints the changes that were applied, and those that need a restart. If the configuration is
    wrong, nothing changes, and the exit code is 2. Run by root, it hands over the secrets of the
    service as they are now, which relayd itself gets at its start only.
    """
    looked_after = service.find(os.environ)
    secrets = None if looked_after is None else looked_after.secrets()
    handed = None if secrets is None else Secrets(credentials=secrets)
    found = reach(context).post("/reload", handed, Reloaded)
    if as_json:
        echo_json({name: getattr(found, name) for name in ("applied", "restart", "warnings")})
    elif not quiet:
        click.echo("\n".join(found.lines))


def _setting(section: str, key: str, value: str) -> str:
    return f"[{section}] {key} = {value}"


@click.command("restart", short_help="Restart the service, unless its configuration is wrong.")
@click.pass_context
@expected
def restart(context: click.Context) -> None:
    """Checks the configuration of the next start, then has systemd restart the service.

    If the configuration is wrong, the running relayd goes on, and the exit code is 2. Clients are
    told to reconnect; those that come meanwhile wait at the socket.
    """
    looked_after = service.find(os.environ)
    if looked_after is None:
        raise WrongInput("relayd is no service of systemd here: restart it as it was started")
    service.require_secrets(os.environ)
    try:
        load(context, next_start=True)
    except ConfigError as error:
        raise ConfigError(f"{error}; nothing was restarted") from error
    if subprocess.run(["systemctl", "restart", looked_after.name], check=False).returncode:
        raise Failed(f"systemd could not restart it: journalctl -u {looked_after.name} says why")

"""`relayctl`: the operator's command line for the processes, the database and the configuration.

Reads the same configuration as the daemon: file, environment, `.env`. Each module of `ctl` has a
group of commands; this one lists them. Exit codes: 0 done, 1 relayd, the database or Redis cannot
be reached or refuses (`db status`: a migration is pending; `bench`: messages were lost; `token
show`: the token is not valid), 2 wrong input.
"""

import os
from importlib import import_module

import click

from relayd import __version__
from relayd.errors import ConfigError

COMMANDS = {
    "status": "status",
    "clients": "clients",
    "rooms": "clients",
    "room": "rooms",
    "pairs": "clients",
    "tail": "streams",
    "trace": "streams",
    "kick": "clients",
    "drain": "drain",
    "undrain": "drain",
    "publish": "publish",
    "log-level": "log",
    "check-config": "settings",
    "reload": "settings",
    "restart": "settings",
    "doctor": "doctor.command",
    "token": "tokens",
    "ban": "bans",
    "unban": "bans",
    "bans": "bans",
    "db": "database",
    "backup": "backups",
    "restore": "backups",
    "quiz": "content",
    "action": "content",
    "console": "console",
    "bench": "bench.entry",
}
"""The commands, and their modules in this package."""


class _Commands(click.Group):
    """Imports the module of a command when the command is used.

    Importing all modules takes 0.2 s of CPU time, most of it for Redis, the database and TLS.
    """

    def list_commands(self, context: click.Context) -> list[str]:
        """The names, in the order of the help text."""
        return sorted(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command with a name; None without one."""
        if name not in COMMANDS:
            return None
        module = import_module(f"relayd.ctl.{COMMANDS[name]}")
        command = getattr(module, name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config", metavar="FILE", type=click.Path(), help="The daemon's configuration file."
)
@click.option(
    "--instance", metavar="NAME", help="Control relayd@NAME.service, in place of relayd.service."
)
@click.version_option(__version__, prog_name="relayctl")
@click.pass_context
def main(context: click.Context, config: str | None, instance: str | None) -> None:
    """Controls a running relayd, its configuration, its database and its tokens.

    relayctl reaches a running relayd over its control socket, which root and its group may use. It
    reads the daemon's configuration: --config FILE, the environment (DATABASE_URL,
    RELAYD_DATABASE_URL), .env in the working directory.

    Exit codes: 0 done; 1 relayd, the database or Redis cannot be reached, or refuses; 2 wrong
    input.
    """
    context.obj = config
    if instance is not None:
        from relayd.ctl import service  # not needed for a look at the help text

        try:
            service.choose(os.environ, instance)
        except ConfigError as error:
            raise click.UsageError(str(error)) from error

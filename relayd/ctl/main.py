"""`relayctl`: what an operator does with relayd: its processes, its database, its configuration.

Reads the same configuration as the daemon: file, environment, `.env`. A file of `ctl` a group of
commands; here they come together. Exit codes: 0 done, 1 relayd, the database or Redis cannot be
reached or refuses (`db status`: something is pending; `bench`: messages were lost; `token show`:
it is not good), 2 wrong input.
"""

from importlib import import_module

import click

from relayd import __version__

COMMANDS = {
    "status": "status",
    "clients": "clients",
    "rooms": "clients",
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
    "doctor": "doctor.command",
    "token": "tokens",
    "db": "database",
    "quiz": "content",
    "action": "content",
    "bench": "bench.entry",
}
"""The commands, and the modules of this room that have them."""


class _Commands(click.Group):
    """Imports the module of a command when somebody wants that command.

    All of them take 0.2 s of CPU time, most of it for Redis, the database and TLS.
    """

    def list_commands(self, context: click.Context) -> list[str]:
        """The names, in the order of the help text."""
        return sorted(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command, or None if there is none of the name."""
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
@click.version_option(__version__, prog_name="relayctl")
@click.pass_context
def main(context: click.Context, config: str | None) -> None:
    """Looks after a running relayd, its configuration, its database and its tokens.

    A running relayd is asked over its control socket, which root and its group may use. The
    configuration is the daemon's: --config FILE, the environment (DATABASE_URL,
    RELAYD_DATABASE_URL), .env in the working directory.

    Exit codes: 0 done; 1 relayd, the database or Redis cannot be reached, or refuses; 2 wrong
    input.
    """
    context.obj = config

"""`relayctl`: what an operator does with relayd: its processes, its database, its configuration.

Reads the same configuration as the daemon: file, environment, `.env`. A file of `ctl` a group of
commands; here they come together. Exit codes: 0 done, 1 relayd, the database or Redis cannot be
reached or refuses (`db status`: something is pending; `bench`: messages were lost; `token show`:
it is not good), 2 wrong input.
"""

from typing import Any

import click

from relayd import __version__
from relayd.ctl import (
    clients,
    common,
    database,
    drain,
    log,
    publish,
    settings,
    status,
    streams,
    tokens,
)
from relayd.ctl.bench import command as load
from relayd.ctl.bench import options as bench_options
from relayd.ctl.common import expected
from relayd.ctl.content import table_commands
from relayd.ctl.doctor.command import doctor
from relayd.storage import tables


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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


for command in (
    status.status,
    clients.clients,
    clients.rooms,
    clients.pairs,
    streams.tail,
    streams.trace,
    clients.kick,
    drain.drain,
    drain.undrain,
    publish.publish,
    log.log_level,
    settings.check_config,
    settings.reload,
    doctor,
    tokens.token,
    database.db,
    table_commands("quiz", tables.QUIZZES),
    table_commands("action", tables.ACTIONS),
):
    main.add_command(command)


@main.command(short_help="Measure how much a running relayd carries.")
@bench_options.options
@click.pass_context
@expected
def bench(context: click.Context, **chosen: Any) -> None:
    """Puts the camera load on one running relayd and says how many fit.

    Cameras send poses, and everyone in their group gets them, cameras too. URL is such as
    ws://127.0.0.1:8080, wss://example.org or unix:/run/relayd.sock; without it, the first
    address that the configuration listens on.

    Prints deliveries per second and per CPU second of the server (if it runs on this machine),
    latencies, and what was lost. The server does real work for it: do not do this to one whose
    users would mind.

    Exit codes: 0 done; 1 the server cannot be reached or refuses, or messages were lost;
    2 wrong input.
    """
    options = bench_options.Options(**chosen)
    context.exit(load.run(options, lambda: common.load(context, only=("server",)).config))

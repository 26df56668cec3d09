"""`relayctl bench` as a command: its help and options. Sits under `ctl.main`, on `command`."""

from typing import Any

import click

from relayd.ctl import common
from relayd.ctl.bench import options as bench_options
from relayd.ctl.bench.command import run
from relayd.ctl.common import expected


@click.command(short_help="Measure the capacity of a running relayd.")
@bench_options.options
@click.pass_context
@expected
def bench(context: click.Context, **chosen: Any) -> None:
    """Puts the camera load on one running relayd and measures it.

    Cameras send poses, and all members of their group get them, cameras too. URL has the form
    ws://127.0.0.1:8080, wss://example.org or unix:/run/relayd.sock; the default is the first
    address of [server] listen.

    Prints deliveries per second and per CPU second of the server (if it runs on this machine),
    latencies, and lost messages. The load slows the server down: do not use it on a server with
    users.

    Exit codes: 0 done; 1 the server cannot be reached or refuses, or messages were lost;
    2 wrong input.
    """
    options = bench_options.Options(**chosen)
    context.exit(run(options, lambda: common.load(context, only=("server",)).config))

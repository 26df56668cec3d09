"""`relayctl bench` as a command: its words and options. Sits under `ctl.main`, on `command`."""

from typing import Any

import click

from relayd.ctl import common
from relayd.ctl.bench import options as bench_options
from relayd.ctl.bench.command import run
from relayd.ctl.common import expected


@click.command(short_help="Measure how much a running relayd carries.")
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
    context.exit(run(options, lambda: common.load(context, only=("server",)).config))

"""The load generator: one process, pinned to a core, that puts one load on one server.

    python -m bench.loadgen fanout --port 8080 --pid 4711 [--core 1] [--seconds 4]

Runs in the environment that bench.run makes, on picows and uvloop (`bench.loads`) or on raw sockets
(`bench.rates`, `bench.storm`); prints one line of JSON (`bench.measured`). It works on any server
that speaks the protocol; `--pid` is its first process.
"""

import argparse
import asyncio
import gc
import os
import resource

import uvloop

from bench import loads, procstat, rates
from bench.measured import Measured
from bench.storm import storm
from bench.window import Target


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("load", choices=[*loads.PLANS, "pairs", "idle", *rates.LOADS, "storm"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--senders-port", type=int, help="where senders connect, if not there")
    parser.add_argument(
        "--pid", type=int, required=True, action="append", help="the server's first process; or two"
    )
    parser.add_argument("--core", type=int, help="the core to run on")
    parser.add_argument("--seconds", type=float, default=4, help="the measured window")
    parser.add_argument("--warmup", type=float, default=1, help="seconds of load before it")
    parser.add_argument("--grace", type=float, default=5, help="seconds to wait for what is late")
    parser.add_argument("--connections", type=int, default=5000, help="of the load idle")
    parser.add_argument("--visitors", type=int, default=0, help="viewers that come and go")
    parser.add_argument("--every", type=float, default=0, help="note memory every so many seconds")
    parser.add_argument("--scale", type=float, default=1, help="multiplies the rate of poses")
    return parser.parse_args()


async def run(options: argparse.Namespace) -> Measured:
    """Puts the load on the server."""
    target = Target(
        options.port,
        [pid for first in options.pid for pid in procstat.tree(first)],
        options.seconds,
        options.warmup,
        options.grace,
        options.senders_port,
    )
    if options.load in rates.LOADS:
        return rates.poses(options.load, target)
    if options.load == "storm":
        return storm(target)
    if options.load == "idle":
        return await loads.idle(target, options.connections)
    if options.load == "pairs":
        return await loads.pairs(target)
    return await loads.poses(options.load, target, options.visitors, options.every, options.scale)


def main() -> None:
    """The command line."""
    options = arguments()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if not options.visitors:
        gc.disable()  # no pauses of our own; only clients that end leave cycles behind
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(run(options))
        print(result.to_json(), flush=True)
    os._exit(0)  # thousands of connections need no orderly end


if __name__ == "__main__":
    main()

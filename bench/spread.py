"""How a relayd with workers compares with one process: rooms, with Redis on, all on the same cores.

    python -m bench.spread [--rounds 5] [--seconds 4] [--scale 3]

Four set-ups in turn in each round: one process without Redis, one with Redis, two workers of which
each serves some of the groups (`[server] spread = "groups"`), and two of which each serves whom it
accepts. Neither relayd nor the generator has a core for itself: what counts is deliveries per CPU
second of relayd's processes.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from bench import machine
from bench.generate import finish, generating
from bench.machine import ROOT, Unavailable
from bench.measured import Measured
from bench.servers import SERVERS, Databases, Server, started

LOAD = "rooms"
_WORKERS = {"RELAYD_SERVER_WORKERS": "2"}
_RELAYD = SERVERS["relayd"]
SET_UPS: dict[str, Server] = {
    "one process": _RELAYD,
    "one process, Redis": replace(_RELAYD, redis=True),
    "two workers, groups": replace(_RELAYD, redis=True, env=_WORKERS),
    "two workers, connections": replace(
        _RELAYD, redis=True, env={**_WORKERS, "RELAYD_SERVER_SPREAD": "connections"}
    ),
}


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="bench.spread", description="workers beside one process")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    parser.add_argument("--scale", type=float, default=3, help="multiplies the rate of the poses")
    return parser.parse_args()


def measure(
    server: Server, folder: Path, databases: Databases, seconds: float, scale: float
) -> Measured:
    """One measurement; relayd may use all cores."""
    with started(server, LOAD, databases, folder, None) as (port, pid):
        time.sleep(3)  # until all workers serve, not only the first
        with generating(LOAD, port, pid, seconds=seconds, warmup=2, scale=scale) as generator:
            return finish(generator, seconds + 60)


def line(name: str, measured: Measured) -> str:
    """What is said of one measurement."""
    return (
        f"{name:26} {measured.per_cpu:9,.0f} / CPU s  {measured.per_second:9,.0f} / s"
        f"  {measured.cpu / measured.seconds:.2f} cores  p99 {measured.p99 * 1e3:.1f} ms"
        f"  lost {measured.lost}  generator {measured.generator:.2f} cores"
    )


def main() -> int:
    """The command line; returns the exit code."""
    options = arguments()
    machine.end_on_signals()
    machine.raise_limits()
    found: dict[str, list[Measured]] = {name: [] for name in SET_UPS}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relayd-spread-")))
        databases = Databases(stack, folder, machine.cores()[2])
        try:
            machine.prepare_python(ROOT / "bench" / "requirements.txt")
            for _ in range(options.rounds):
                for name, server in SET_UPS.items():
                    measured = measure(server, folder, databases, options.seconds, options.scale)
                    found[name].append(measured)
                    print(line(name, measured), flush=True)
        except Unavailable as missing:
            print(f"bench: {missing}", file=sys.stderr)
            return 2
    for base in ("one process", "one process, Redis"):
        for name in SET_UPS:
            ratios = [
                mine.per_cpu / theirs.per_cpu
                for mine, theirs in zip(found[name], found[base], strict=True)
            ]
            print(
                f"{name} / {base}: {statistics.median(ratios):.2f}"
                f" ({min(ratios):.2f}-{max(ratios):.2f})"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How a relayd with workers compares with one process: rooms, with Redis on, all on the same cores.

    python -m bench.spread [--rounds 5] [--seconds 4] [--scale 3] [--share 0.1]

Four set-ups in turn in each round: one process without Redis, one with Redis, two workers of which
each serves some of the groups (`[server] spread = "groups"`), and two of which each serves whom it
accepts. Neither relayd nor the generator has a core for itself: what counts is deliveries per CPU
second of relayd's processes.

With `--share` each process that serves gets that part of a core and no more (a CPU quota; root
only): then it is full long before the generator is, and deliveries per second say what a second
worker adds.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench import machine, procstat
from bench.generate import finish, generating
from bench.machine import Unavailable
from bench.measured import Measured
from bench.servers import SERVERS, Databases, Server, started

LOAD = "rooms"
_QUOTAS = Path("/sys/fs/cgroup/cpu")  # the controller of version 1
_PERIOD = 20_000  # microseconds
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
    parser.add_argument("--share", type=float, help="of a core, for each process that serves")
    return parser.parse_args()


@contextlib.contextmanager
def capped(pids: list[int], share: float | None) -> Iterator[None]:
    """Each of the processes gets so much of a core and no more, until the block ends.

    Raises:
        Unavailable: we may not say so here.
    """
    if share is None:
        yield
        return
    folders = [_QUOTAS / f"relayd-bench-{pid}" for pid in pids]
    try:
        for pid, folder in zip(pids, folders, strict=True):
            folder.mkdir()
            (folder / "cpu.cfs_period_us").write_text(str(_PERIOD))
            (folder / "cpu.cfs_quota_us").write_text(str(round(share * _PERIOD)))
            (folder / "cgroup.procs").write_text(str(pid))
        yield
    except OSError as error:
        raise Unavailable(f"--share needs root and {_QUOTAS}: {error}") from error
    finally:
        for pid, folder in zip(pids, folders, strict=True):
            with contextlib.suppress(OSError):
                (_QUOTAS / "cgroup.procs").write_text(str(pid))
            with contextlib.suppress(OSError):
                folder.rmdir()


def measure(
    server: Server, folder: Path, databases: Databases, options: argparse.Namespace
) -> Measured:
    """One measurement; relayd may use all cores, as far as `--share` lets it."""
    load = {"seconds": options.seconds, "warmup": 2, "scale": options.scale}
    with started(server, LOAD, databases, folder, None) as (port, pid):
        time.sleep(3)  # until all workers serve, not only the first
        parent, *workers = procstat.tree(pid)
        with (
            capped(workers or [parent], options.share),
            generating(LOAD, port, pid, **load) as generator,
        ):
            return finish(generator, options.seconds + 60)


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
            machine.prepare_generator()
            for _ in range(options.rounds):
                for name, server in SET_UPS.items():
                    measured = measure(server, folder, databases, options)
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

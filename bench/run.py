"""The benchmark: relayd and its peers in turn, one after the other in every round, in one run.

    python -m bench.run [--loads fanout,rooms] [--peers gorilla,picows] [--rounds 5] [--seconds 3]

Run it with the Python that relayd is installed for, from the root of the checkout; `make bench`
does. The server under load has one core for itself, the generator (`bench.loadgen`) and databases
have another. What is needed beyond relayd is built or installed into .bench/. Prints tables, writes
docs/performance.md between its marks, and charts beside it. Ends everything that it started, on
Ctrl-C too.
"""

import argparse
import contextlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import charts, figures, machine, report, tables, targets
from bench.figures import Results
from bench.generate import finish, generating
from bench.machine import ROOT, Unavailable
from bench.measured import Measured
from bench.servers import OWN, PAIRS, POSES, SERVERS, Databases, Server, started

_PEERS = ("gorilla", "picows", "nchan", "socketify", "ws", "websockets", "channels", "daphne")
_FAMILIES = {
    "channels": tuple(name for name in SERVERS if name.startswith("uvicorn-")),
    "daphne": tuple(name for name in SERVERS if name.startswith("daphne-")),
}


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="bench.run", description="relayd beside its peers")
    parser.add_argument("--loads", help=f"some of {','.join(tables.LOADS)}")
    parser.add_argument("--peers", help=f"some of {','.join(_PEERS)}; all that can be had")
    parser.add_argument("--rounds", type=int, help="paired rounds (5)")
    parser.add_argument("--seconds", type=float, help="measured time of each (3)")
    parser.add_argument("--connections", type=int, help="of the load idle (5000)")
    parser.add_argument("--quick", action="store_true", help="a look of about a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements there")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="the folder to write to")
    options = parser.parse_args(argv)
    quick = options.quick
    if options.loads is None:
        options.loads = "fanout,rate-300,rooms,quiet,idle" if quick else ",".join(tables.LOADS)
    options.named = options.peers is not None
    if options.peers is None:
        options.peers = "gorilla,picows,nchan" if quick else ",".join(_PEERS)
    options.loads = _names(parser, options.loads, tables.LOADS)
    known = [*_FAMILIES, *SERVERS]
    options.peers = _names(parser, options.peers, known) if options.peers else []
    options.rounds = options.rounds or (1 if quick else 5)
    options.seconds = options.seconds or (1.0 if quick else 3.0)
    options.connections = options.connections or (500 if quick else 5000)
    options.warmup = 0.5 if quick else 1.0
    return options


def _names(parser: argparse.ArgumentParser, given: str, known: Sequence[str] | object) -> list[str]:
    names = given.split(",")
    for name in names:
        if name not in known:  # type: ignore[operator]
            parser.error(f"there is no {name}; there are {', '.join(known)}")  # type: ignore[arg-type]
    return names


class Run:
    """One run.

    Args:
        options: of the command line.
        folder: for logs and temporary files.
        databases: for those that need them.
    """

    def __init__(self, options: argparse.Namespace, folder: Path, databases: Databases) -> None:
        self.results: Results = {}
        self.notes: list[str] = []
        self._options = options
        self._folder = folder
        self._databases = databases
        self._core, self._generator_core, _ = machine.cores()
        self._unavailable: dict[str, str] = {}
        self._layer: str | None = None
        self._start = time.monotonic()

    def everything(self) -> None:
        """All rounds of all loads."""
        servers = self._servers()
        for load in self._options.loads:
            able = [server for server in servers if load in server.loads]
            able = self._best_layer(load, able)
            for number in range(self._options.rounds):
                # for those without a target one round will do
                turn = [
                    s for s in able if number == 0 or targets.is_needed(self.results, load, s.name)
                ]
                for server in turn if number % 2 == 0 else turn[::-1]:
                    self._measure(server, load, number)
        self._say_what_is_missing()

    def _servers(self) -> list[Server]:
        """Those asked for, built and ready."""
        names = [name for name in OWN if set(SERVERS[name].loads) & set(self._options.loads)]
        for name in self._options.peers:
            names += [each for each in _FAMILIES.get(name, (name,)) if each not in names]
        ready = []
        for name in names:
            try:
                SERVERS[name].prepare()
            except Unavailable as missing:
                if self._options.named or name in OWN:
                    raise
                self._unavailable[name] = str(missing)
                continue
            ready.append(SERVERS[name])
        return ready

    def _best_layer(self, load: str, servers: list[Server]) -> list[Server]:
        """Leaves one Channels layer for each front.

        For poses, a short pass under the first of their loads says which is the best; for memory,
        the in-memory layer is the one that needs least.
        """
        others = [s for s in servers if not s.name.startswith(("uvicorn-", "daphne-"))]
        layers = [server for server in servers if server.name.startswith("uvicorn-")]
        if load in POSES and self._layer is None and len(layers) > 1:
            self._layer = self._try_layers(load, layers)
        best = self._layer if load in POSES else "memory"
        fronts = [server for server in servers if server not in others]
        return [*others, *([s for s in fronts if s.name.endswith(f"-{best}")] or fronts)]

    def _try_layers(self, load: str, layers: list[Server]) -> str | None:
        """The Channels layer that delivers most per CPU second; what the others do is noted."""
        first: Results = {load: {}}
        for server in layers:
            measured = self._try(server, load, min(self._options.seconds, 2.0), grace=0.5)
            if measured:
                first[load][server.name] = {0: measured}
        words = ", ".join(
            f"{name.partition('-')[2]} {rounds[0].per_cpu:,.0f}"
            for name, rounds in first[load].items()
        )
        self.notes.append(
            f"Channels layers under uvicorn on {load}, first pass, deliveries per CPU second: "
            f"{words}."
        )
        found = figures.best_channels(first, load)
        return found.partition("-")[2] if found else None

    def _measure(self, server: Server, load: str, number: int) -> None:
        measured = self._try(server, load, self._options.seconds)
        if measured:
            self.results.setdefault(load, {}).setdefault(server.name, {})[number] = measured
            figure = _figure(load, measured)
            passed = time.monotonic() - self._start
            print(f"{passed:5.0f} s  {load:13} {number + 1}  {server.name:14} {figure}", flush=True)

    def _try(
        self, server: Server, load: str, seconds: float, grace: float = 5.0
    ) -> Measured | None:
        """One measurement; None if it failed, which is noted."""
        try:
            with contextlib.ExitStack() as stack:
                running = [
                    stack.enter_context(
                        started(server, load, self._databases, self._folder, self._core)
                    )
                    for _ in range(server.processes)
                ]
                return self._generate(load, running, seconds, grace)
        except Unavailable as missing:
            print(f"bench: {server.name}, {load}: {missing}", file=sys.stderr, flush=True)
            self.notes.append(f"{server.title} failed once under {load}: {_first_line(missing)}")
            return None

    def _generate(
        self, load: str, running: list[tuple[int, int]], seconds: float, grace: float
    ) -> Measured:
        """Puts the load on a server, whose processes are pairs of a port and a process id."""
        warmup = self._options.warmup
        if load == "pairs-1000000":  # a peer may need a second for one answer
            seconds, warmup, grace = 2 * seconds, 2 * warmup, 1.0
        if load in ("rate-20", "neighbour"):  # so few messages that a p99 takes more time
            seconds *= 2
        options: dict[str, Any] = {"connections": self._options.connections}
        if len(running) > 1:
            options["senders_port"] = running[-1][0]
        with generating(
            "pairs" if load in PAIRS else load,
            running[0][0],
            *(pid for _, pid in running),
            seconds=seconds,
            warmup=warmup,
            grace=grace,
            **options,
        ) as process:
            return finish(process, seconds + 150)

    def _say_what_is_missing(self) -> None:
        for name, reason in self._unavailable.items():
            note = f"Not measured: {SERVERS[name].title}: {_first_line(reason)}"
            print(f"bench: {note}", file=sys.stderr)
            self.notes.append(note)


def _figure(load: str, measured: Measured) -> str:
    """What is shown of one measurement."""
    p50, p99 = (tables.duration(each) for each in (measured.p50, measured.p99))
    if load == "idle":
        return f"{measured.rss / figures.KB:6.1f} KB a connection"
    if load == "storm":
        last = tables.absolute("last", measured.last)
        connect = tables.duration(figures.METRICS["connect"](measured))
        return (
            f"{measured.opened:,} of {measured.connections:,} in, the last: {last}, "
            f"{connect} CPU each  p99 {p99:>8}  lost {measured.lost:,}"
        )
    return (
        f"{measured.per_cpu:11,.0f} / CPU s  {measured.per_second:9,.0f} / s  "
        f"{measured.share:4.0%}  p50 {p50:>8}  p99 {p99:>8}  lost {measured.lost:,}"
    )


def _first_line(error: object) -> str:
    return str(error).strip().splitlines()[-1]


def describe(options: argparse.Namespace, seconds: float) -> str:
    """How the figures came about."""
    return (
        f"Rounds: up to {options.rounds}, each {options.seconds:g} s after {options.warmup:g} s of "
        f"warm-up, in one run of {seconds / 60:.0f} min on {time.strftime('%Y-%m-%d')}; "
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores, Linux {platform.release()}, Python "
        f"{platform.python_version()}. Figures are medians; ratios are medians of the ratios of "
        "each round, with the smallest and the largest. A delivery is one message at one member; "
        "senders get their own, too. Lost is what had not come 5 s after the last message was "
        "sent. Generator is the largest share of its core that the load generator used. The CPU "
        "time of PostgreSQL and of Redis, which run on the generator's core, is not counted. On "
        "raw sockets every delivery is checked and timed, elsewhere those of some members. CPU a "
        "client is what the server used beyond what the poses alone had taken before the storm. A "
        "server is ahead of relayd where the median of the ratios says so; one that loses over 1 % "
        "of the messages does less work, so it is not called ahead, nor the best peer."
    )


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(": ")[2]
    return platform.machine()


def write(options: argparse.Namespace, run: Run, notes: list[str]) -> None:
    """Writes the page, the charts and, where asked for, the JSON."""
    folder = options.docs / "performance"
    drawn = [(f"performance/{name}", words) for name, words in charts.write(run.results, folder)]
    page = options.docs / "performance.md"
    report.put(page, "bench", report.section(run.results, notes, drawn))
    if options.json:
        options.json.write_text(to_json(run.results))


def to_json(results: Results) -> str:
    """All measurements: an object of loads, in it servers, in them one measurement a round."""
    loads = (
        f'"{load}": {{\n'
        + ",\n".join(
            f'  "{name}": [' + ", ".join(each.to_json() for each in rounds.values()) + "]"
            for name, rounds in servers.items()
        )
        + "\n}"
        for load, servers in results.items()
    )
    return "{" + ",\n".join(loads) + "}\n"


def carry_out(options: argparse.Namespace) -> Run:
    """Makes the run, and ends everything that it has started.

    Args:
        options: of the command line.

    Raises:
        SystemExit: with 2 if something that is needed cannot be had, with 130 on Ctrl-C.
    """
    machine.end_on_signals()
    machine.raise_limits()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relayd-bench-")))
        try:
            machine.prepare_generator()
            run = Run(options, folder, Databases(stack, folder, machine.cores()[2]))
            run.everything()
        except Unavailable as missing:
            print(f"bench: {missing}", file=sys.stderr)
            raise SystemExit(2) from missing
        except KeyboardInterrupt:
            print("bench: interrupted", file=sys.stderr)
            raise SystemExit(130) from None
    return run


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = arguments(argv)
    began = time.monotonic()
    run = carry_out(options)
    notes = [describe(options, time.monotonic() - began), *run.notes]
    print("\n" + report.text(run.results, notes))
    write(options, run, notes)
    return 0


if __name__ == "__main__":
    sys.exit(main())

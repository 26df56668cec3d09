"""This relayd beside that of another checkout, round by round: what has a change cost or brought?

    python -m bench.paired ROOT [--loads fanout,rooms] [--rounds 9] [--seconds 4]

Both run on the same core, one after the other in every round, in turns first and second: the
machine drifts more within minutes than most changes are worth. ROOT is a checkout in which
`make setup` was run. Sits on `run` and `figures`; writes no page.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import figures
from bench.figures import Results, Rounds
from bench.report import plain
from bench.run import carry_out
from bench.servers import SERVERS, Unavailable, of_checkout
from bench.tables import LOADS, Row, times

_SHOWN: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
    ("per_cpu", "deliveries per CPU s", lambda load: load not in ("idle", "storm")),
    ("p50", "p50", lambda load: load != "idle"),
    ("p99", "p99", lambda load: load != "idle"),
    ("rss", "memory", lambda load: load == "idle"),
    ("last", "the last client in", lambda load: load == "storm"),
    ("connect", "CPU a client", lambda load: load == "storm"),
)
"""Metrics, the heads of their columns, and whether a load has them."""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="bench.paired", description="relayd beside another one")
    parser.add_argument("root", type=Path, help="the other checkout, with its .venv")
    parser.add_argument("--loads", default="fanout,rooms,crowd,pairs-1000,idle")
    parser.add_argument("--rounds", type=int, default=9, help="paired rounds (9)")
    parser.add_argument("--seconds", type=float, default=4.0, help="measured time of each (4)")
    parser.add_argument("--connections", type=int, default=5000, help="of the load idle (5000)")
    options = parser.parse_args(argv)
    options.loads = options.loads.split(",")
    for load in options.loads:
        if load not in LOADS:
            parser.error(f"there is no load {load}; there are {', '.join(LOADS)}")
    options.peers, options.named, options.warmup = ["before"], True, 1.0
    return options


def rows(results: Results) -> list[Row]:
    """The table: what this one has as a multiple of what the other has, in the same round."""
    table = [["load", *(title for _, title, _ in _SHOWN), "rounds", "lost here", "there"]]
    for load, servers in results.items():
        mine, theirs = servers.get("relayd", {}), servers.get("before", {})
        cells = [
            times(figures.ratio(mine, theirs, metric)) if has(load) else "–"
            for metric, _, has in _SHOWN
        ]
        count = str(len(mine.keys() & theirs.keys()))
        table.append([load, *cells, count, _lost(mine), _lost(theirs)])
    return table


def _lost(rounds: Rounds) -> str:
    return f"{sum(each.lost for each in rounds.values()):,}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = arguments(argv)
    try:
        SERVERS["before"] = of_checkout(options.root.absolute())
    except Unavailable as missing:
        print(f"bench: {missing}", file=sys.stderr)
        return 2
    run = carry_out(options)
    print("\nThis relayd divided by that of", options.root)
    print(plain(rows(run.results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A long crowd, with clients that come and go: is the memory flat, and does nobody lose anything?

    python -m bench.churn [--minutes 10] [--visitors 100] [--docs docs]

Senders and 200 viewers stay; the visitors join, stay one to five seconds, and leave, over and over.
Ends with 1 if memory grew or somebody who stayed lost a message.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
from pathlib import Path

from bench import machine, report, tables
from bench.generate import finish, generating
from bench.machine import Unavailable
from bench.measured import Measured
from bench.servers import SERVERS, Databases, started

_MAY_GROW = 0.02  # share of the memory; more is not flat


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="bench.churn", description="a long crowd that changes")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--visitors", type=int, default=100, help="clients that come and go")
    parser.add_argument("--docs", type=Path, help="write the result into this folder's page, too")
    return parser.parse_args()


def run(minutes: float, visitors: int) -> Measured:
    """The measurement; what it sees is shown on stderr meanwhile."""
    every = max(1.0, minutes * 60 / 60)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relayd-churn-")))
        databases = Databases(stack, folder, machine.cores()[2])
        with (
            started(SERVERS["relayd"], "crowd", databases, folder, machine.cores()[0]) as server,
            generating(
                "crowd",
                *server,
                loud=True,
                seconds=minutes * 60,
                visitors=visitors,
                every=every,
            ) as generator,
        ):
            return finish(generator, minutes * 60 + 120)


def growth(series: list[list[float]]) -> float:
    """How much the RSS grew, as a share: its median in the last quarter over that in the second.

    The first quarter is left out: pools and caches fill then.
    """
    quarter = len(series) // 4
    if not quarter:
        return 0.0
    early = statistics.median(row[1] for row in series[quarter : 2 * quarter])
    late = statistics.median(row[1] for row in series[-quarter:])
    return late / early - 1


def summary(measured: Measured, visitors: int) -> tuple[str, bool]:
    """The result in words, and whether it is good."""
    grown = growth(measured.series)
    flat = grown <= _MAY_GROW
    whole = not (measured.lost or measured.extra or measured.disconnected)
    step = max(1, len(measured.series) // 12)
    rows = [["minute", "RSS, MB", "PSS, MB", "deliveries"]]
    rows += [
        [f"{passed / 60:.1f}", f"{rss / 1e6:.2f}", f"{pss / 1e6:.2f}", f"{deliveries:,.0f}"]
        for passed, rss, pss, deliveries in measured.series[::step]
    ]
    words = (
        f"Crowd for {measured.seconds / 60:.1f} minutes, {measured.connections} clients that stay "
        f"and {visitors} that come and go. Of {measured.expected:,} messages to those that stay "
        f"{measured.lost:,} were lost and {measured.extra:,} came too often; "
        f"{measured.disconnected} of these clients were closed. "
        f"p50 {tables.duration(measured.p50)}, p99 {tables.duration(measured.p99)}. "
        f"From the second quarter to the last the RSS grew by {grown:.1%}: "
        f"{'flat' if flat else 'NOT FLAT'}."
    )
    return f"{words}\n\n{report.markdown(rows)}", flat and whole


def main() -> int:
    """The command line; returns the exit code."""
    options = arguments()
    machine.end_on_signals()
    machine.raise_limits()
    try:
        machine.prepare_generator()
        measured = run(options.minutes, options.visitors)
    except Unavailable as missing:
        print(f"bench: {missing}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    words, good = summary(measured, options.visitors)
    print(words)
    if options.docs:
        report.put(options.docs / "performance.md", "churn", words)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

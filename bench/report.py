"""The tables: for the terminal and, the same, in Markdown for docs/performance.md."""

import math
import re
import textwrap
from pathlib import Path

from bench import figures
from bench.figures import Results, Spread, Verdict
from bench.servers import SERVERS

LOADS = {
    "fanout": "fanout: 10 senders × 10 Hz and 200 viewers in one group",
    "rooms": "rooms: 300 groups of 1 sender × 20 Hz and 1 viewer",
    "crowd": "crowd: 100 senders × 10 Hz and 200 viewers in one group",
    "quiet": "quiet: one message at a time in a group of 10",
    "pairs-1000": "pairs: 50 phones asking in a closed loop, 1,000 quizzes",
    "pairs-1000000": "pairs: the same with 1,000,000 quizzes",
    "idle": "idle: memory of the server per idle connection",
}
_METRICS = {
    "per_cpu": "deliveries per server CPU second",
    "per_second": "requests per second",
    "p50": "p50",
    "p99": "p99",
    "rss": "memory per connection",
    "lost": "messages lost",
}


def duration(seconds: float) -> str:
    """A time with a unit that suits it; what took for ever did not come."""
    if math.isinf(seconds):
        return "lost"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.{2 if seconds < 0.01 else 0}f} ms"
    return f"{seconds:.1f} s"


def times(found: Spread | None) -> str:
    """A ratio with its spread."""
    if found is None:
        return "–"
    digits = 0 if found.median >= 100 else 1 if found.median >= 10 else 2
    low, median, high = (f"{each:,.{digits}f}" for each in (found.low, found.median, found.high))
    return f"{median} × ({low}–{high})" if found.count > 1 else f"{median} ×"


Row = list[str]


def load_rows(results: Results, load: str) -> list[Row]:
    """The table of a load, its head first."""
    servers = results[load]
    mine = servers.get("relayd", {})
    if load == "idle":
        rows = [["server", "RSS", "PSS", "closed", "rounds", "relayd / it, RSS"]]
    else:
        what = "requests" if load.startswith("pairs") else "deliveries"
        per = "relayd / it, per second" if load == "pairs-1000000" else "relayd / it, per CPU s"
        if load == "quiet":
            per = "relayd / it, p50"
        head = ["server", f"{what} / CPU s", f"{what} / s", "p50", "p99", "lost", "generator"]
        rows = [[*head, "rounds", per]]
    for name in [name for name in SERVERS if servers.get(name)]:
        rounds = servers[name]

        def middle(metric: str, rounds: figures.Rounds = rounds) -> float:
            found = figures.spread(rounds, metric)
            return found.median if found else 0.0

        metric = {"pairs-1000000": "per_second", "quiet": "p50", "idle": "rss"}.get(load, "per_cpu")
        compared = "" if name == "relayd" else times(figures.ratio(mine, rounds, metric))
        count = str(len(rounds))
        closed = sum(each.disconnected for each in rounds.values())
        if load == "idle":
            pss = sum(each.pss for each in rounds.values()) / len(rounds)
            sizes = [f"{size / figures.KB:.1f} KB" for size in (middle("rss"), pss)]
            rows.append([SERVERS[name].title, *sizes, str(closed), count, compared])
            continue
        generator = max(each.generator for each in rounds.values())
        row = [SERVERS[name].title, f"{middle('per_cpu'):,.0f}", f"{middle('per_second'):,.0f}"]
        row += [duration(middle("p50")), duration(middle("p99")), _lost(rounds, closed)]
        rows.append([*row, f"{generator:.0%}", count, compared])
    return rows


def _lost(rounds: figures.Rounds, closed: int) -> str:
    lost = sum(each.lost for each in rounds.values())
    expected = sum(each.expected for each in rounds.values())
    words = [f"{lost:,} ({lost / expected:.1%})" if lost else "0"]
    for count, word in (
        (sum(each.extra for each in rounds.values()), "too many"),
        (sum(each.errors for each in rounds.values()), "errors"),
        (closed, "closed"),
    ):
        if count:
            words.append(f"{count:,} {word}")
    return ", ".join(words)


def verdict_rows(verdicts: list[Verdict]) -> list[Row]:
    """The table of targets, its head first."""
    rows = [["load", "target", "measured", "met?"]]
    for verdict in verdicts:
        target, found = verdict.target, verdict.found
        bound = target.least if target.least is not None else target.most
        assert bound is not None
        sign = "≥" if target.least is not None else "≤"
        if target.peer:
            peer = SERVERS[target.peer].title if target.peer in SERVERS else "Channels (best layer)"
            wanted = f"{_METRICS[target.metric]} {sign} {bound:.3g} × {peer}"
            measured = times(found)
        else:
            wanted = f"{_METRICS[target.metric]} {sign} {_absolute(target.metric, bound)}"
            measured = "–"
            if found:
                low, middle, high = (
                    _absolute(target.metric, each) for each in (found.low, found.median, found.high)
                )
                measured = f"{middle} ({low}–{high})"
        word = "not measured" if found is None else "met" if verdict.met else "MISSED"
        if found is not None and not verdict.clear:
            word += ", not in every round"
        rows.append([target.load, wanted, measured, word])
    return rows


def _absolute(metric: str, value: float) -> str:
    if metric == "rss":
        return f"{value / figures.KB:.1f} KB"
    return f"{value:,.0f}" if metric == "lost" else duration(value)


def plain(rows: list[Row]) -> str:
    """A table for the terminal."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column == 0 or rows[0][0] == "load" else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def markdown(rows: list[Row]) -> str:
    """A table for a page."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)


def text(results: Results, notes: list[str]) -> str:
    """Everything, for the terminal."""
    parts = [
        f"{LOADS[load]}\n{plain(load_rows(results, load))}" for load in LOADS if load in results
    ]
    parts.append("Targets\n" + plain(verdict_rows(figures.judge(results))))
    return "\n\n".join([*parts, *(textwrap.fill(note, 100) for note in notes)])


def section(results: Results, notes: list[str], charts: list[tuple[str, str]]) -> str:
    """Everything, for the page; charts are pairs of a path and a description."""
    parts = [f"![{words}]({path})" for path, words in charts]
    parts.append("### Targets\n\n" + markdown(verdict_rows(figures.judge(results))))
    for load, title in LOADS.items():
        if load in results:
            name, _, rest = title.partition(": ")
            parts.append(f"### {name}: {rest}\n\n{markdown(load_rows(results, load))}")
    return "\n\n".join([*parts, *(textwrap.fill(note, 120) for note in notes)])


def put(page: Path, name: str, content: str) -> None:
    """Replaces what stands between the marks `name` on a page, or adds it at the page's end."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    block = f"{begin}\n\n{content}\n\n{end}"
    old = page.read_text(encoding="utf-8") if page.exists() else "# How fast relayd is\n"
    new, count = re.subn(
        re.escape(begin) + ".*?" + re.escape(end), lambda found: block, old, flags=re.DOTALL
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(new if count else f"{old.rstrip()}\n\n{block}\n", encoding="utf-8")

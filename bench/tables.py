"""The tables: what each server did under a load, and whether the targets are met.

Sits on `bench.figures` and `bench.targets`; `bench.report` puts them on a page.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from bench import figures
from bench.figures import Results, Rounds, Spread
from bench.servers import RATES, SERVERS
from bench.targets import Target, Verdict

LOADS = {
    "fanout": "fanout: 10 senders × 10 Hz and 200 viewers in one group",
    "rooms": "rooms: 300 groups of 1 sender × 20 Hz and 1 viewer",
    "crowd": "crowd: 100 senders × 10 Hz and 200 viewers in one group",
    "quiet": "quiet: one message at a time in a group of 10",
    "rate-20": "rate-20: 2 senders × 10 Hz and 200 viewers in one group, raw sockets",
    "rate-100": "rate-100: 10 senders × 10 Hz and 200 viewers in one group, raw sockets",
    "rate-300": "rate-300: 30 senders × 10 Hz and 200 viewers in one group, raw sockets",
    "rate-1000": "rate-1000: 100 senders × 10 Hz and 200 viewers in one group, raw sockets",
    "rate-3000": "rate-3000: 100 senders × 30 Hz and 200 viewers in one group, raw sockets",
    "rate-12000": "rate-12000: 100 senders × 120 Hz and 200 viewers in one group, raw sockets",
    "neighbour": "neighbour: a pair, 1 sender × 10 Hz and 1 viewer, beside the group of rate-1000",
    "storm": "storm: 2,000 clients connect at once; 10 senders × 10 Hz and 50 viewers are in",
    "across": "across: 30 senders × 10 Hz and 200 viewers in one group, over several processes",
    "pairs-1000": "pairs: 50 phones asking in a closed loop, 1,000 quizzes",
    "pairs-1000000": "pairs: the same with 1,000,000 quizzes",
    "idle": "idle: memory of the server per idle connection",
}
_METRICS = {
    "per_cpu": "deliveries per server CPU second",
    "per_second": "requests per second",
    "cpu_each": "CPU a delivery",
    "share": "share of its core",
    "p50": "p50",
    "p99": "p99",
    "rss": "memory per connection",
    "lost": "messages lost",
    "unopened": "clients not let in",
    "last": "the last client in",
    "connect": "CPU a client",
}
_SHORT = {
    **_METRICS,
    "per_cpu": "CPU",
    "per_second": "requests / s",
    "rss": "RSS",
}

Row = list[str]
Column = tuple[str, Callable[[Rounds], str]]
"""The head of a column, and the cell of a server."""


def duration(seconds: float) -> str:
    """A time with a unit that suits it; what took for ever did not come."""
    if math.isinf(seconds):
        return "lost"
    if abs(seconds) < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if abs(seconds) < 1:
        return f"{seconds * 1e3:.{2 if abs(seconds) < 0.01 else 0}f} ms"
    return f"{seconds:.1f} s"


def times(found: Spread | None) -> str:
    """A ratio with its spread; beyond all measure where what relayd did took for ever."""
    if found is None:
        return "–"
    digits = 0 if found.median >= 100 else 1 if found.median >= 10 else 2
    low, median, high = (
        "∞" if math.isinf(each) else f"{each:,.{digits}f}"
        for each in (found.low, found.median, found.high)
    )
    return f"{median} × ({low}–{high})" if found.count > 1 else f"{median} ×"


def absolute(metric: str, value: float) -> str:
    """A figure with its unit."""
    if metric == "last" and math.isinf(value):
        return "not all in"
    if metric in ("rss", "pss"):
        return f"{value / figures.KB:.1f} KB"
    if metric == "share":
        return f"{value:.0%}"
    if metric == "cpu":
        return f"{value:.2f} s"
    if metric in ("per_cpu", "per_second", "lost", "unopened"):
        return f"{value:,.0f}"
    return duration(value)


@dataclass(frozen=True)
class _Layout:
    """How the table of a load looks.

    Attributes:
        columns: after the server's name.
        compared: metrics of which relayd's ratio to each other server is shown.
        ahead: metrics in which a peer may be ahead, which the last column says.
    """

    columns: tuple[Column, ...]
    compared: tuple[str, ...]
    ahead: tuple[str, ...]


def _middle(head: str, metric: str) -> Column:
    """The median of a metric."""

    def cell(rounds: Rounds) -> str:
        found = figures.spread(rounds, metric)
        return absolute(metric, found.median if found else 0.0)

    return head, cell


def _total(head: str, name: str) -> Column:
    return head, lambda rounds: str(sum(getattr(each, name) for each in rounds.values()))


def _lost(rounds: Rounds) -> str:
    lost = sum(each.lost for each in rounds.values())
    expected = sum(each.expected for each in rounds.values())
    words = [f"{lost:,} ({lost / expected:.1%})" if lost else "0"]
    for count, word in (
        (sum(each.extra for each in rounds.values()), "too many"),
        (sum(each.reordered for each in rounds.values()), "out of order"),
        (sum(each.errors for each in rounds.values()), "errors"),
        (sum(each.disconnected for each in rounds.values()), "closed"),
    ):
        if count:
            words.append(f"{count:,} {word}")
    return ", ".join(words)


def _opened(rounds: Rounds) -> str:
    return "; ".join(f"{each.opened:,} of {each.connections:,}" for each in rounds.values())


_P50, _P99 = _middle("p50", "p50"), _middle("p99", "p99")
_LOST: Column = ("lost", _lost)
_CPU, _SHARE = _middle("CPU", "cpu"), _middle("of its core", "share")
_GENERATOR: Column = (
    "generator",
    lambda rounds: f"{max(each.generator for each in rounds.values()):.0%}",
)
_ROUNDS: Column = ("rounds", lambda rounds: str(len(rounds)))
_PACE = (_middle("deliveries / CPU s", "per_cpu"), _middle("deliveries / s", "per_second"))
_ASKED = (_middle("requests / CPU s", "per_cpu"), _middle("requests / s", "per_second"))
_REST = (_P50, _P99, _LOST, _GENERATOR, _ROUNDS)
_LATENCY = ("p50", "p99", "per_cpu")
_POSES = _Layout((*_PACE, *_REST), ("per_cpu",), _LATENCY)
_SHARES = (_P50, _P99, _LOST, _CPU, _SHARE, _PACE[1], _GENERATOR, _ROUNDS)
_RATE = _Layout(_SHARES, _LATENCY, _LATENCY)
_LAYOUTS = {
    "fanout": _POSES,
    "rooms": _POSES,
    "crowd": _POSES,
    "quiet": _Layout((*_PACE, *_REST), ("p50",), _LATENCY),
    "pairs-1000": _Layout((*_ASKED, *_REST), ("per_cpu",), _LATENCY),
    "pairs-1000000": _Layout((*_ASKED, *_REST), ("per_second",), ("p50", "p99", "per_second")),
    "idle": _Layout(
        (
            _middle("RSS", "rss"),
            _middle("PSS", "pss"),
            _total("closed", "disconnected"),
            _ROUNDS,
        ),
        ("rss",),
        ("rss",),
    ),
    **dict.fromkeys(RATES, _RATE),
    "neighbour": _Layout(
        (
            _middle("pair's p50", "p50"),
            _middle("p99", "p99"),
            _middle("group's p50", "beside_p50"),
            _middle("p99", "beside_p99"),
            _LOST,
            _CPU,
            _SHARE,
            _GENERATOR,
            _ROUNDS,
        ),
        ("p50", "p99"),
        ("p50", "p99"),
    ),
    "storm": _Layout(
        (
            ("let in", _opened),
            _middle("the last after", "last"),
            _middle("CPU a client", "connect"),
            _middle("p50 of who was in", "p50"),
            _P99,
            _LOST,
            _GENERATOR,
            _ROUNDS,
        ),
        ("last", "connect"),
        ("last", "connect", "p99"),
    ),
    "across": _Layout(_SHARES, ("p50",), ()),
}


def load_rows(results: Results, load: str) -> list[Row]:
    """The table of a load, its head first; each peer's row says where it is ahead of relayd."""
    layout, servers = _LAYOUTS[load], results[load]
    mine = servers.get("relayd", {})
    rows = [["server", *(head for head, _ in layout.columns)]]
    rows[0] += [f"relayd / it, {_SHORT[metric]}" for metric in layout.compared]
    rows[0] += ["ahead of relayd"] if layout.ahead else []
    for name in [name for name in SERVERS if servers.get(name)]:
        rounds = servers[name]
        row = [SERVERS[name].title, *(cell(rounds) for _, cell in layout.columns)]
        for metric in layout.compared:
            row.append("" if name == "relayd" else times(figures.ratio(mine, rounds, metric)))
        if layout.ahead:
            words = [_SHORT[each] for each in figures.ahead(mine, rounds, layout.ahead)]
            row.append("" if name == "relayd" else ", ".join(words) or "–")
        rows.append(row)
    return rows


def verdict_rows(verdicts: list[Verdict]) -> list[Row]:
    """The table of targets, its head first."""
    rows = [["load", "target", "measured", "met?"]]
    for verdict in verdicts:
        found = verdict.found
        word = "not measured" if found is None else "met" if verdict.met else "MISSED"
        if found is not None and not verdict.clear:
            word += ", not in every round"
        rows.append([verdict.target.load, _wanted(verdict.target), _measured(verdict), word])
    return rows


def _wanted(target: Target) -> str:
    bound = target.least if target.least is not None else target.most
    assert bound is not None
    sign = "≥" if target.least is not None else "≤"
    words = f"{_METRICS[target.metric]} {sign} "
    if target.server != "relayd":
        words = f"{SERVERS[target.server].title}: {words}"
    if target.over:
        return f"{words}{absolute(target.metric, bound)} over {SERVERS[target.peer].title}"
    if not target.peer:
        return words + absolute(target.metric, bound)
    if target.peer == "channels":
        peer = "Channels (best layer)"
    elif target.peer == "best":
        peer = "the best peer"
    elif "|" in target.peer:
        peer = "the better of " + " and ".join(target.peer.split("|"))
    else:
        peer = SERVERS[target.peer].title
    return f"{words}{bound:.3g} × {peer}"


def _measured(verdict: Verdict) -> str:
    target, found = verdict.target, verdict.found
    if found is None:
        return "–"
    if target.peer and not target.over:
        several = target.peer in ("best", "channels") or "|" in target.peer
        return times(found) + (f" {verdict.peer}" if several else "")
    low, middle, high = (absolute(target.metric, x) for x in (found.low, found.median, found.high))
    return f"{middle} ({low}–{high})"

"""Which charts there are; bar charts as SVG, written by hand: a panel a load, a bar a server.

Readable on a light and on a dark page: there is no background, and the colour of the text follows
the reader's scheme.
"""

import math
from html import escape
from pathlib import Path

from bench import figures, lines, tables
from bench.figures import Results
from bench.lines import Axis, Line
from bench.servers import POSES, RATES, SERVERS

_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; }
.small { fill: #57606a; font-size: 12px; }
.relayd { fill: #2f81f7; }
.peer { fill: #8c959f; }
.whisker { stroke: #57606a; stroke-width: 1; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .small { fill: #9da7b3; }
  .peer { fill: #6e7681; }
  .whisker { stroke: #9da7b3; }
}
"""
_WIDTH, _LEFT, _RIGHT, _BAR, _STEP = 800, 290, 80, 16, 24

Bar = tuple[str, float, float, float, str]
"""The name of a server, its median, smallest and largest figure, and the label of the bar."""


def chart(title: str, panels: list[tuple[str, list[Bar]]]) -> str:
    """The SVG of some panels, each with a scale of its own, which starts at 0."""
    height = 16 + sum(34 + _STEP * len(bars) for _, bars in panels)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
    ]
    top = 8
    for heading, bars in panels:
        lines.append(f'<text class="title" x="8" y="{top + 16}">{escape(heading)}</text>')
        top += 28
        scale = (_WIDTH - _LEFT - _RIGHT) / max(max(bar[3] for bar in bars), 1e-9)
        for name, middle, low, high, label in bars:
            kind = "relayd" if name == "relayd" else "peer"
            centre = top + _BAR / 2
            ends = [_LEFT + value * scale for value in (low, middle, high)]
            lines += [
                f'<text x="{_LEFT - 8}" y="{centre + 4.5}" text-anchor="end">'
                f"{escape(SERVERS[name].title)}</text>",
                f'<rect class="{kind}" x="{_LEFT}" y="{top}" width="{ends[1] - _LEFT:.1f}" '
                f'height="{_BAR}" rx="2"/>',
                f'<line class="whisker" x1="{ends[0]:.1f}" x2="{ends[2]:.1f}" '
                f'y1="{centre}" y2="{centre}"/>',
                f'<text class="small" x="{ends[2] + 6:.1f}" y="{centre + 4.5}">'
                f"{escape(label)}</text>",
            ]
            top += _STEP
        top += 6
    return "\n".join([*lines, "</svg>", ""])


def _bars(results: Results, load: str, metric: str) -> list[Bar]:
    bars: list[Bar] = []
    best = figures.best_channels(results, load)
    for name in SERVERS:
        if name.startswith("uvicorn-") and name != best and load != "idle":
            continue
        found = figures.spread(results.get(load, {}).get(name, {}), metric)
        if found is None or math.isinf(found.high):  # of what was lost there is no bar
            continue
        label = tables.absolute(metric, found.median)
        bars.append((name, found.median, found.low, found.high, label))
    return bars


_CHARTS = [
    (
        "deliveries",
        "Deliveries per CPU second of the server",
        POSES,
        "per_cpu",
    ),
    ("latency", "Latency: 99 of 100 deliveries are faster", POSES, "p99"),
    ("quiet", "Latency of a single message, median", ("quiet",), "p50"),
    ("storm", "From the first of 2,000 clients to the last that got in", ("storm",), "last"),
    ("pairs", "Quiz requests per second", ("pairs-1000", "pairs-1000000"), "per_second"),
    ("memory", "Memory per idle connection", ("idle",), "rss"),
]


def _over_rate(results: Results, metric: str, *, dashed: bool = False) -> list[Line]:
    """A line of a metric's medians for each server that was measured at one of the rates."""
    drawn = []
    for name, server in SERVERS.items():
        points = [
            (float(load.partition("-")[2]), found.median)
            for load in RATES
            if (found := figures.spread(results.get(load, {}).get(name, {}), metric))
        ]
        if points:
            drawn.append(Line(name, "" if dashed else server.title, points, dashed))
    return drawn


def over_rate(results: Results) -> list[tuple[str, str, str]]:
    """The charts over the rate: name, title and SVG of each; none if no rate was measured."""
    p50, p99 = _over_rate(results, "p50"), _over_rate(results, "p99", dashed=True)
    if not p50:
        return []
    low, high, ticks = lines.decades([value for line in [*p50, *p99] for _, value in line.points])
    latency = Axis(low, high, ticks, tables.duration, logarithmic=True)
    share = Axis(0, 1, [n / 5 for n in range(6)], "{:.0%}".format)
    words = "Latency over the rate of messages: p50 and p99"
    core = "Share of its core that the server uses, over the rate of messages"
    return [
        ("rates", words, lines.chart(words, [*p99, *p50], latency, "solid: p50\ndashed: p99")),
        ("cores", core, lines.chart(core, _over_rate(results, "share"), share)),
    ]


def write(results: Results, folder: Path) -> list[tuple[str, str]]:
    """Writes the charts that there are figures for.

    Returns:
        Their file names and descriptions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, title, drawn in over_rate(results):
        (folder / f"{name}.svg").write_text(drawn, encoding="utf-8")
        written.append((f"{name}.svg", title))
    for name, title, loads, metric in _CHARTS:
        panels = [
            (f"{title}: {tables.LOADS[load]}" if load == loads[0] else tables.LOADS[load], bars)
            for load in loads
            if (bars := _bars(results, load, metric))
        ]
        if panels:
            (folder / f"{name}.svg").write_text(chart(title, panels), encoding="utf-8")
            written.append((f"{name}.svg", title))
    return written

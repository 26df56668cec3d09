"""Line charts as SVG, written by hand: a figure of every server over the rate of the messages.

A point that was lost has no figure and stands above the plot. Every server has a colour and a mark
of its own, so that nobody needs the colours; they are readable on a light and on a dark page. Sits
beside `bench.charts`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; }
.small { fill: #57606a; font-size: 12px; }
.grid { stroke: #8c959f; stroke-opacity: 0.3; }
.line { fill: none; stroke: currentColor; stroke-width: 1.5; }
.relayd .line { stroke-width: 3; }
.dashed { stroke-dasharray: 5 4; }
.mark { fill: currentColor; }
.relayd { color: #2f81f7; }
.gorilla { color: #bf8700; }
.picows { color: #2da44e; }
.nchan { color: #a371f7; }
.socketify { color: #e5534b; }
.ws { color: #1b9e9e; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .small { fill: #9da7b3; }
}
"""
_MARKS = {
    "relayd": "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
    "gorilla": "M-4,-4h8v8h-8z",
    "picows": "M0,-5l5,9h-10z",
    "nchan": "M0,-5.5l5.5,5.5l-5.5,5.5l-5.5,-5.5z",
    "socketify": "M-5,-4h10l-5,9z",
    "ws": "M-5,-1.5h3.5v-3.5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5z",
}
_WIDTH, _HEIGHT = 800, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 250, 70, 50
LOST = 48  # where the marks of what was lost stand


@dataclass(frozen=True)
class Line:
    """One figure of one server.

    Attributes:
        server: its name, which is its style.
        title: what stands in the legend; empty for a further line of the same server.
        points: pairs of a rate and the figure; for ever if it was lost.
        dashed: whether it is.
    """

    server: str
    title: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


@dataclass(frozen=True)
class Axis:
    """The scale of the figures.

    Attributes:
        low, high: its ends.
        ticks: where it has a line.
        label: what stands beside it.
        logarithmic: whether it is.
    """

    low: float
    high: float
    ticks: Sequence[float]
    label: Callable[[float], str]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """0 at the lower end, 1 at the upper; beyond them, the end."""
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def decades(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """The powers of ten around some positive values: the first, the last, all of them."""
    found = [value for value in values if 0 < value < math.inf] or [1.0]
    low = math.floor(math.log10(min(found)))
    high = max(math.ceil(math.log10(max(found))), low + 1)
    ticks = [10.0**exponent for exponent in range(low, high + 1)]
    return ticks[0], ticks[-1], ticks


def chart(title: str, lines: Sequence[Line], figures: Axis, note: str = "") -> str:
    """The SVG of some lines over the rate, which has a logarithmic scale."""
    rates = sorted({rate for line in lines for rate, _ in line.points})
    across = Axis(rates[0], max(rates[-1], rates[0] * 10), rates, "{:,.0f}".format, True)
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(rate: float) -> float:
        return _LEFT + width * across.place(rate)

    def y(value: float) -> float:
        return LOST if math.isinf(value) else _TOP + height * (1 - figures.place(value))

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<text class="title" x="8" y="20">{escape(title)}</text>',
    ]
    for tick in figures.ticks:
        parts.append(
            f'<path class="grid" d="M{_LEFT},{y(tick):.1f}h{width}"/>'
            f'<text class="small" x="{_LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">'
            f"{escape(figures.label(tick))}</text>"
        )
    for tick in across.ticks:
        parts.append(
            f'<path class="grid" d="M{x(tick):.1f},{_TOP}v{height}"/>'
            f'<text class="small" x="{x(tick):.1f}" y="{_TOP + height + 18}" text-anchor="middle">'
            f"{escape(across.label(tick))}</text>"
        )
    parts.append(
        f'<text class="small" x="{_LEFT + width / 2}" y="{_HEIGHT - 8}" text-anchor="middle">'
        "messages a second to one group of 200 viewers</text>"
    )
    if any(math.isinf(value) for line in lines for _, value in line.points):
        parts.append(
            f'<text class="small" x="{_LEFT - 8}" y="{LOST + 4}" text-anchor="end">lost</text>'
        )
    for line in sorted(lines, key=lambda line: line.server == "relayd"):  # relayd's on top
        parts.append(_drawn(line, x, y))
    top = _TOP + 4
    for line in lines:
        if line.title:
            parts.append(_legend(line, _LEFT + width + 16, top))
            top += 22
    for words in note.splitlines():
        parts.append(
            f'<text class="small" x="{_LEFT + width + 16}" y="{top + 12}">{escape(words)}</text>'
        )
        top += 18
    return "\n".join([*parts, "</svg>", ""])


def _drawn(line: Line, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    """The line and its marks."""
    kind = "line dashed" if line.dashed else "line"
    places = [(x(rate), y(value)) for rate, value in line.points]
    path = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
    marks = "".join(_mark(line.server, across, down) for across, down in places)
    return f'<g class="{line.server}"><polyline class="{kind}" points="{path}"/>{marks}</g>'


def _mark(server: str, across: float, down: float) -> str:
    shift = f"translate({across:.1f},{down:.1f})"
    return f'<path class="mark" transform="{shift}" d="{_MARKS[server]}"/>'


def _legend(line: Line, left: float, top: float) -> str:
    mark = _mark(line.server, left + 12, top)
    return (
        f'<g class="{line.server}"><path class="line" d="M{left},{top}h24"/>{mark}</g>'
        f'<text x="{left + 32}" y="{top + 4.5}">{escape(line.title)}</text>'
    )

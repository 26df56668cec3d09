"""A flame graph as SVG: the outermost functions at the top, their widths their shares of time."""

import re
from dataclasses import dataclass, field
from html import escape

_WIDTH, _ROW, _CHARACTER = 1200, 17, 6.6
_LOOP = "ReactorBase.mainLoop (twisted/internet/base.py)"
_COLOURS = {"relayd": "#2f81f7", "autobahn": "#a371f7", "twisted": "#57ab5a", "": "#d29922"}
_STYLE = """
text { font: 11px ui-monospace, monospace; fill: #ffffff; }
.title { font: 600 13px system-ui, sans-serif; fill: #24292f; }
@media (prefers-color-scheme: dark) { .title { fill: #e6edf3; } }
"""


@dataclass
class _Frame:
    """A function, called from where it stands in the tree; `count` samples were in it."""

    count: int = 0
    callees: dict[str, "_Frame"] = field(default_factory=dict)


def stacks(raw: str) -> list[tuple[list[str], int]]:
    """Reads py-spy's raw format, without line numbers, the reactor's thread only.

    Threads that wait for work are left out: with native frames py-spy takes them to be busy.
    """
    found = []
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        if "(twisted/" in stack and "_threadworker.py" not in stack:
            frames = re.sub(r":\d+\)(?=;|$)", ")", stack).split(";")
            if _LOOP in frames:  # how twistd got there is of no interest
                frames = frames[frames.index(_LOOP) :]
            found.append((frames, int(count)))
    return found


def graph(title: str, found: list[tuple[list[str], int]]) -> str:
    """The SVG."""
    root = _Frame()
    for stack, count in found:
        frame = root
        frame.count += count
        for name in stack:
            frame = frame.callees.setdefault(name, _Frame())
            frame.count += count
    lines: list[str] = []
    deepest = _draw(root, 0.0, 0, _WIDTH / max(root.count, 1), root.count, lines)
    height = 28 + deepest * _ROW + 8
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
            f'width="{_WIDTH}" height="{height}" role="img" aria-label="{escape(title)}">',
            f"<style>{_STYLE}</style>",
            f'<text class="title" x="4" y="18">{escape(title)}</text>',
            *lines,
            "</svg>",
            "",
        ]
    )


def _draw(
    frame: _Frame, left: float, depth: int, scale: float, total: int, lines: list[str]
) -> int:
    """Draws what the frame calls; returns how many rows that takes."""
    deepest = depth
    for name, callee in sorted(frame.callees.items()):
        width = callee.count * scale
        if width >= 1.5:
            top = 28 + depth * _ROW
            package = next((each for each in _COLOURS if each and f"({each}/" in name), "")
            words = escape(f"{name}, {callee.count / total:.1%}")
            lines.append(
                f'<g><title>{words}</title><rect x="{left:.1f}" y="{top}" '
                f'width="{width - 0.5:.1f}" height="{_ROW - 1}" fill="{_COLOURS[package]}"/>'
            )
            room = int((width - 6) / _CHARACTER)
            if room > 3:
                shown = name if len(name) <= room else name[: room - 1] + "…"
                lines.append(f'<text x="{left + 3:.1f}" y="{top + 12}">{escape(shown)}</text>')
            lines.append("</g>")
            deepest = max(deepest, _draw(callee, left, depth + 1, scale, total, lines))
        left += width
    return max(deepest, depth + bool(frame.callees))

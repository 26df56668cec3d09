"""The page: tables for the terminal and, the same, in Markdown for docs/performance.md."""

import re
import textwrap
from pathlib import Path

from bench import targets
from bench.figures import Results
from bench.tables import LOADS, Row, load_rows, verdict_rows


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
    parts.append("Targets\n" + plain(verdict_rows(targets.judge(results))))
    return "\n\n".join([*parts, *(textwrap.fill(note, 100) for note in notes)])


def section(results: Results, notes: list[str], charts: list[tuple[str, str]]) -> str:
    """Everything, for the page; charts are pairs of a path and a description."""
    parts = [f"![{words}]({path})" for path, words in charts]
    parts.append("### Targets\n\n" + markdown(verdict_rows(targets.judge(results))))
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

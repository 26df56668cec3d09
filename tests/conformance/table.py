"""The table of kits in docs/clients/README.md; `make clients-table` runs all scenarios for it."""

import sys
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.kits import KITS
from tests.conformance.scenarios import scenarios

PAGE = Path(__file__).resolve().parents[2] / "docs" / "clients" / "README.md"
BEGIN, END = "<!-- make clients-table writes this table -->\n", "<!-- end of the table -->\n"
PASSES, FAILS = "yes", "**no**"

Results = Mapping[tuple[str, str], bool]
"""Whether a kit, by name, passes a scenario, by title."""


class Recorder:
    """A plugin of pytest that notes what passes."""

    def __init__(self) -> None:
        self.results: dict[tuple[str, str], bool] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Function
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        scenario = getattr(item.obj, "scenario", None)
        if scenario is not None:
            kit: Any = item.callspec.params["kit"]
            key = (kit.name, scenario.title)
            self.results[key] = self.results.get(key, True) and report.passed
        return report


def table(of: type, results: Results | None = None) -> str:
    """The table.

    Args:
        of: the class of the scenarios.
        results: of a run; None for one in which everything passed.
    """
    columns = scenarios(of)
    lines = ["kit", *(each.title for each in columns)], ["---"] * (len(columns) + 1)
    rows = [list(line) for line in lines]
    notes = []
    for kit in KITS:
        row = [kit.name]
        for column in columns:
            if not column.concerns(kit):
                row.append("–")
            elif results is None or results.get((kit.name, column.title)):
                row.append(PASSES)
            else:
                row.append(FAILS)
        rows.append(row)
        notes += [f"- {kit.name}, {title}: {why}.\n" for title, why in kit.cannot.items()]
    text = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return text + ("\n" + "".join(notes) if notes else "")


def fill(page: str, content: str) -> str:
    """The page with another table."""
    head, _, rest = page.partition(BEGIN)
    return head + BEGIN + "\n" + content + "\n" + END + rest.partition(END)[2]


def main() -> int:
    """Runs all scenarios; returns the status of pytest."""
    from tests.conformance.test_kits import TestKits

    recorder = Recorder()
    here = str(Path(__file__).with_name("test_kits.py"))
    status = pytest.main([here, "-q", "-k", "TestKits", *sys.argv[1:]], plugins=[recorder])
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(fill(page, table(TestKits, recorder.results)), encoding="utf-8")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())

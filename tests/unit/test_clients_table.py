"""The table of docs/clients/README.md has every kit and every scenario, and each of them passes.

`tests/conformance/test_kits.py` runs the scenarios; one that fails, fails there.
"""

from tests.conformance.kits import KITS
from tests.conformance.table import FAILS, PAGE, fill, table
from tests.conformance.test_kits import TestKits as Scenarios


def test_the_table_of_kits_is_the_one_of_a_run_in_which_everything_passed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == fill(page, table(Scenarios)), "run `make clients-table`"


def test_a_scenario_that_fails_or_was_not_run_is_seen_in_the_table() -> None:
    assert table(Scenarios, {}).count(FAILS) == table(Scenarios).count("yes") > 12 * len(KITS) // 2

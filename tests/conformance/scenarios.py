"""What a scenario is: a column of the table of kits, and a test of `test_kits.py`."""

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.conformance.kits import EVERY_KIND, Kit

Test = Callable[..., None]


class Scenario(NamedTuple):
    """A column of the table.

    Attributes:
        title: its head.
        kinds: the kinds of clients that take part; a kit that has none of them has no cell.
    """

    title: str
    kinds: tuple[str, ...]

    def concerns(self, kit: Kit) -> bool:
        """Whether a kit has a client for it."""
        return self.title not in kit.cannot and bool(kit.having(self.kinds))


def scenario(title: str, *kinds: str) -> Callable[[Test], Test]:
    """Makes a test a scenario, for kits with a client of one of these kinds; of any by default."""

    def mark(test: Any) -> Test:
        test.scenario = Scenario(title, kinds or EVERY_KIND)
        marked: Test = test
        return marked

    return mark


def scenarios(of: type) -> list[Scenario]:
    """All scenarios of a class, in their order."""
    return [test.scenario for test in vars(of).values() if hasattr(test, "scenario")]

"""Every warning and error that relayd logs is in one list, and docs/log.md is made from it."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

from relayd.logs.advice import ADVICE
from relayd.stores.states import CASES, State, Store
from tests.log_page import PAGE, page

ROOT = Path(__file__).resolve().parents[2] / "relayd"


def logged() -> Iterator[tuple[str, str]]:
    """The module and the format of every warning and error in the code of the daemon."""
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
        if name.startswith("relayd.ctl"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            where = ast.unparse(node.func.value)
            if node.func.attr in ("warn", "error", "critical") and where.endswith("log"):
                words = node.args[0]
                if isinstance(words, ast.Constant):
                    yield name, str(words.value)
                else:
                    yield name, getattr(importlib.import_module(name), ast.unparse(words))


def test_every_warning_and_error_in_the_code_has_advice_and_every_advice_has_a_line() -> None:
    known = [advice.words for advice in ADVICE]
    assert len(set(known)) == len(known)
    assert {words for _, words in logged()} == set(known)


def test_the_page_of_the_log_is_made_from_the_lists() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make log-page`"


def test_every_state_of_every_store_has_a_remedy() -> None:
    assert all(case.remedy for case in CASES)
    assert {case.state for case in CASES} == set(State) - {State.OK}
    for store in Store:
        found = [case.state for case in CASES if case.store is store]
        assert len(set(found)) == len(found)

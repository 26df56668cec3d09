"""A short run of the fuzzer: the same inputs in every run, drawn by coverage from the seeds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
RUNS = 1500
"""Executions of each target, its seeds among them: about a second for the slowest."""

PLANTED = """
import sys
from tests.fuzz import run
from tests.fuzz.targets import TARGETS, Target

def check(data):
    assert data[:1] != b"n", "a planted fault"

TARGETS["planted"] = Target(check, lambda: [b"yes"])
sys.exit(run.main(sys.argv[1:]))
"""


def test_a_short_run_finds_a_planted_fault_and_nothing_else(tmp_path: Path) -> None:
    """The targets hold for all inputs of this run; `make fuzz` tries more of them."""
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python")
    words = ["--runs", str(RUNS), "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", PLANTED, *words], cwd=ROOT, capture_output=True, text=True
    )
    found = re.findall(r"^fuzz: (\w+) .*FOUND", done.stdout, re.MULTILINE)
    assert found == ["planted"], done.stdout + done.stderr[-2000:]
    assert done.returncode == 1
    counts = re.findall(r"^fuzz: \w+ +([\d,]+) executions, \d+ MB$", done.stdout, re.MULTILINE)
    assert len(counts) == len(TARGETS), done.stdout
    assert all(int(count.replace(",", "")) >= RUNS for count in counts)
    reproducers = list((tmp_path / "found").iterdir())
    assert {each.read_bytes()[:1] for each in reproducers} == {b"n"}
    [told] = re.findall(r"--replay (\S+)", done.stdout)
    assert Path(told) in reproducers

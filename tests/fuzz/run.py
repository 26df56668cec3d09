"""Fuzzes the targets, guided by the coverage of relayd's Python and compiled code (atheris).

    python -m tests.fuzz.run [--minutes 30 | --runs 1000] [--folder FOLDER] [TARGET ...]
    python -m tests.fuzz.run --replay FILE

Each target runs in a child of its own, one after another, for its share of the minutes or for so
many executions. Inputs that reached new code are kept in the corpus, where the next run begins.
An input that breaks an invariant, takes over `TIMEOUT` seconds or makes the process grow over
`MOST_MEMORY` is written to `found/` in the folder, and the run ends with status 1.
`make fuzz` has the compiled modules built with coverage and the address sanitizer.
"""

import argparse
import contextlib
import hashlib
import importlib
import io
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.logger import globalLogBeginner

TIMEOUT = 10
"""Seconds that one input may take."""
MOST_MEMORY = 1024
"""Megabytes that a child may have; the address sanitizer takes most of them."""
LONGEST = 2048
"""Bytes of the longest input: over the bound of a head in the targets."""
BUILD = Path("build/fuzz")


def main(words: Sequence[str] | None = None) -> int:
    """Runs the targets; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run")
    parser.add_argument("--minutes", type=float, default=30, help="for all targets together")
    parser.add_argument("--runs", type=int, help="executions of each target, in place of minutes")
    parser.add_argument("--folder", type=Path, default=BUILD, help="for corpus, logs and findings")
    parser.add_argument("--replay", type=Path, help="runs one input, without atheris")
    parser.add_argument("targets", nargs="*", help="by default all")
    options = parser.parse_args(words)
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)
    if options.replay is not None:
        return _replay(options.replay)
    return _run(options)


def _replay(file: Path) -> int:
    from tests.fuzz.targets import TARGETS

    name = file.name.partition("-")[0]
    TARGETS[name].check(file.read_bytes())
    print(f"fuzz: {name} found nothing in {file}")
    return 0


def _run(options: argparse.Namespace) -> int:
    import atheris

    quiet = contextlib.redirect_stderr(io.StringIO())  # else it names every module
    with quiet, atheris.instrument_imports(include=["relayd", "autobahn.websocket"]):
        importlib.import_module("relayd.connection.websocket")
        from tests.fuzz.targets import TARGETS
    names = options.targets or list(TARGETS)
    whole = sum(TARGETS[name].share for name in names)
    executions, findings, began = 0, 0, time.monotonic()
    for name in names:
        if options.runs is None:
            seconds = options.minutes * 60 * TARGETS[name].share / whole
            bound = [f"-max_total_time={round(seconds)}"]
        else:
            bound = [f"-runs={options.runs}", "-seed=1"]
        result = _Result(*_fork(atheris, TARGETS[name], name, options.folder, bound))
        print(f"fuzz: {name:10} {result}", flush=True)
        executions += result.executions
        findings += result.status != 0
    seconds = time.monotonic() - began
    print(f"fuzz: {executions:,} executions in {seconds:.0f} s, findings: {findings}")
    return 1 if findings else 0


def _fork(atheris: Any, target: Any, name: str, folder: Path, bound: list[str]) -> tuple[int, str]:
    """Fuzzes one target in a child; returns its exit status and what libFuzzer wrote."""
    seeds, log = folder / "seeds" / name, folder / "logs" / name
    corpus, found = folder / "corpus" / name, folder / "found"
    shutil.rmtree(seeds, ignore_errors=True)
    for place in (seeds, corpus, found, log.parent):
        place.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (seeds / f"{number:05}").write_bytes(seed)
    words = [
        "relayd", *bound, f"-timeout={TIMEOUT}", f"-rss_limit_mb={MOST_MEMORY}",
        f"-max_len={LONGEST}", f"-artifact_prefix={found}/{name}-", "-print_final_stats=1",
        str(corpus), str(seeds),
    ]  # fmt: skip
    child = os.fork()
    if not child:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        atheris.Setup(words, _Keeping(target.check, f"{found}/{name}-"))
        atheris.Fuzz()
        sys.exit()  # libFuzzer writes its figures when the interpreter ends
    _, status = os.waitpid(child, 0)
    return status, log.read_text(errors="replace")


class _Keeping:
    """A target that writes the input that it raises for: below a sanitizer, libFuzzer does not."""

    def __init__(self, check: Callable[[bytes], object], prefix: str) -> None:
        self._check = check
        self._prefix = prefix

    def __call__(self, data: bytes) -> None:
        try:
            self._check(data)
        except BaseException:
            file = Path(self._prefix + hashlib.sha1(data, usedforsecurity=False).hexdigest())
            file.write_bytes(data)
            print(f"\nTest unit written to {file}", flush=True)
            raise


class _Result:
    """What a child did.

    Args:
        status: as waitpid(2) returns it.
        log: what libFuzzer wrote.
    """

    def __init__(self, status: int, log: str) -> None:
        # without a last line of figures, the count is in the last line of progress
        progress = [int(count) for count in re.findall(r"^#(\d+)\t", log, re.MULTILINE)]
        self.executions = self._number(log, "number_of_executed_units") or max([0, *progress])
        self._memory = self._number(log, "peak_rss_mb")
        self._log = log
        self.status = status

    @staticmethod
    def _number(log: str, name: str) -> int:
        found = re.search(rf"stat::{name}:\s+(\d+)", log)
        return int(found[1]) if found else 0

    def __str__(self) -> str:
        text = f"{self.executions:>10,} executions, {self._memory} MB"
        if not self.status:
            return text
        raised = re.search(r"=== Uncaught Python exception: ===\n(.*?)\n==", self._log, re.DOTALL)
        where = re.search(r"Test unit written to (\S+)", self._log)
        why = raised[1] if raised else self._log[-3000:]
        file = where[1] if where else "no file"
        return f"{text}: FOUND\n{why}\nfuzz: python -m tests.fuzz.run --replay {file}"


if __name__ == "__main__":
    sys.exit(main())

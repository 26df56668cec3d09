"""Runs the load generator, as a process of its own, and reads what it measured."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from bench.machine import PYTHON, ROOT, Unavailable, cores
from bench.measured import Measured


@contextlib.contextmanager
def generating(
    load: str, port: int, *pids: int, loud: bool = False, **options: float
) -> Iterator["subprocess.Popen[bytes]"]:
    """A load generator at work; see `finish`. It ends with the block.

    Args:
        load: as `bench.loadgen` calls it.
        port: the server's.
        pids: the server's first process; or its two.
        loud: whether what the generator says meanwhile goes to our stderr.
        options: further options of `bench.loadgen`.
    """
    command = [str(PYTHON), "-m", "bench.loadgen", load, "--port", str(port)]
    command += ["--core", str(cores()[1])]
    for pid in pids:
        command += ["--pid", str(pid)]
    for name, value in options.items():
        command += ["--" + name.replace("_", "-"), str(value)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=sys.stderr if loud else subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def finish(process: "subprocess.Popen[bytes]", timeout: float) -> Measured:
    """What it measured, when it is done.

    Args:
        process: of `generating`.
        timeout: seconds to wait.

    Raises:
        Unavailable: it failed, or takes longer.
    """
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise Unavailable("the load generator does not come to its end") from error
    if process.returncode != 0:
        words = (errors or b"").decode(errors="replace").strip()
        raise Unavailable(words[-500:] or f"the load generator ended with {process.returncode}")
    return Measured.from_json(output)

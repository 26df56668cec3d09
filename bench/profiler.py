"""Where relayd's time goes under the loads of poses, and how many system calls a delivery takes.

    python -m bench.profiler [--loads fanout,rooms,crowd] [--seconds 8]

Records stacks with py-spy, Python and native frames; makes a flame graph for docs/performance/ of
them, and a table of the functions at their ends. Then counts system calls in the middle of the
load: with perf, which does not disturb relayd, and with strace, which slows it down so much that it
is only given a tenth of the load; where relayd sends in batches these are smaller then. (This
module is not called profile: scripts in the same folder could not import cProfile then.)
"""

import argparse
import collections
import contextlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import flame, machine, report
from bench.generate import finish, generating
from bench.machine import ROOT, VENV, Unavailable
from bench.servers import POSES, SERVERS, Databases, started
from bench.tables import LOADS

Stacks = list[tuple[list[str], int]]
"""As `flame.stacks` gives them: functions from the outermost on, and the samples."""

PerDelivery = dict[str, float]
"""System calls per delivery, by name; `total` is all together."""

_EVENTS = ["raw_syscalls:sys_enter"]
_EVENTS += [
    f"syscalls:sys_enter_{name}"
    for name in (
        *("sendto", "sendmsg", "write", "writev", "recvfrom", "recvmsg", "read", "epoll_wait"),
        *("epoll_pwait", "epoll_ctl", "futex", "getpid", "gettid", "accept4"),
    )
]


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(prog="bench.profiler", description="where the time goes")
    parser.add_argument("--loads", default=",".join(POSES), help="some of " + ",".join(POSES))
    parser.add_argument("--seconds", type=float, default=8, help="of each recording")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="the folder to write to")
    options = parser.parse_args()
    options.loads = options.loads.split(",")
    for load in options.loads:
        if load not in POSES:
            parser.error(f"there is no {load}")
    return options


class Profiler:
    """Profiles relayd.

    Args:
        folder: for logs and recordings.
        databases: passed on; poses need none.
        seconds: of each recording.
    """

    def __init__(self, folder: Path, databases: Databases, seconds: float) -> None:
        self._folder = folder
        self._databases = databases
        self._seconds = seconds

    @contextlib.contextmanager
    def _relayd(self, load: str) -> Iterator[tuple[int, int]]:
        with started(
            SERVERS["relayd"], load, self._databases, self._folder, machine.cores()[0]
        ) as server:
            yield server

    def record(self, load: str) -> Stacks:
        """What py-spy sees in the middle of the load."""
        output = self._folder / f"{load}.stacks"
        command: list[object] = [VENV / "bin" / "py-spy", "record", "--native", "--rate", 500]
        command += ["--format", "raw", "--duration", max(1, round(self._seconds))]
        with (
            self._relayd(load) as (port, pid),
            generating(load, port, pid, seconds=self._seconds + 3, warmup=1) as generator,
        ):
            with contextlib.suppress(subprocess.TimeoutExpired):
                generator.wait(2)  # everybody connects
            with machine.on_core(machine.cores()[1]):
                done = subprocess.run(
                    [*map(str, command), "--output", str(output), "--pid", str(pid)],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    check=False,
                )
            if done.returncode != 0 or not output.exists():
                raise Unavailable(f"py-spy: {done.stderr.strip()[-500:]}")
            finish(generator, 60)
        return flame.stacks(output.read_text())

    def count(self, load: str, tool: str) -> PerDelivery:
        """System calls per delivery, by name.

        Args:
            load: which.
            tool: "perf" (the whole load) or "strace" (a tenth of it).
        """
        program = shutil.which(tool)
        if program is None:
            raise Unavailable(f"no {tool} (Debian: {'linux-perf' if tool == 'perf' else tool})")
        output = self._folder / f"{load}.{tool}"
        with (
            self._relayd(load) as (port, pid),
            generating(
                load,
                port,
                pid,
                seconds=self._seconds + 3,
                warmup=1,
                scale=1 if tool == "perf" else 0.1,
            ) as generator,
        ):
            with contextlib.suppress(subprocess.TimeoutExpired):
                generator.wait(2)  # everybody connects
            command: list[object] = [program, "-c", "-f", "-U", "name,calls", "-o", output]
            if tool == "perf":
                command = [program, "stat", "-x", ",", "-o", output, "-e", ",".join(_EVENTS)]
            command += ["-p", pid]
            if tool == "perf":  # counts while `sleep` runs
                command += ["sleep", self._seconds]
            with machine.on_core(machine.cores()[1]):
                tracer = subprocess.Popen(
                    list(map(str, command)),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            if tool == "perf":
                tracer.wait(self._seconds + 30)
                passed = self._seconds
            else:
                passed = _trace(tracer, pid, self._seconds)
            measured = finish(generator, self._seconds + 60)
        found = calls(output.read_text()) if output.exists() else {}
        if not found:
            raise Unavailable(f"{tool} counted nothing")
        deliveries = measured.per_second * passed
        return {name: count / deliveries for name, count in found.items()}


def _trace(tracer: "subprocess.Popen[bytes]", pid: int, seconds: float) -> float:
    """Lets strace work for so long; returns for how long it really did."""
    status = Path(f"/proc/{pid}/status")
    while tracer.poll() is None and "TracerPid:\t0\n" in status.read_text():
        time.sleep(0.01)
    began = time.monotonic()
    with contextlib.suppress(subprocess.TimeoutExpired):
        tracer.wait(seconds)
    passed = time.monotonic() - began
    tracer.send_signal(signal.SIGINT)
    tracer.wait(30)
    return passed


def calls(text: str) -> dict[str, int]:
    """Counts by name: of `strace -c -U name,calls` and of `perf stat -x,`."""
    strace = re.findall(r"^\s*(\w+)\s+(\d+)\s*$", text, re.MULTILINE)
    perf = re.findall(r"^(\d+),,\w+:sys_enter_?(\w*),", text, re.MULTILINE)
    counts = {name: int(count) for name, count in strace}
    counts.update({name or "total": int(count) for count, name in perf})
    return counts


def hot(stacks: Stacks, most: int = 12) -> list[tuple[str, float]]:
    """The functions at the ends of the stacks, and their share of the time, 0 to 1."""
    ends: collections.Counter[str] = collections.Counter()
    for stack, count in stacks:
        ends[stack[-1]] += count
    total = sum(ends.values())
    return [(name, count / total) for name, count in ends.most_common(most)]


def tables(load: str, ends: list[tuple[str, float]], counts: dict[str, PerDelivery]) -> list[str]:
    """The Markdown of one load.

    Args:
        load: which.
        ends: of `hot`.
        counts: system calls per delivery, by the tool that counted them.
    """
    parts = [f"### {LOADS[load]}"]
    if ends:
        parts.append(f"![Flame graph of {load}](performance/flame-{load}.svg)")
        rows = [["function", "time in itself"]]
        rows += [[f"`{name}`", f"{share:.1%}"] for name, share in ends]
        parts.append(report.markdown(rows))
    if counts:
        columns = {"perf": "per delivery (perf)", "strace": "at a tenth of the load (strace)"}
        rows = [["system call", *(columns[tool] for tool in counts)]]
        first = next(iter(counts.values()))
        names = sorted(first, key=lambda name: -first[name])
        rows += [
            [
                "all" if name == "total" else name,
                *(f"{each[name]:.4f}" if name in each else "–" for each in counts.values()),
            ]
            for name in names
            if first[name] >= 0.0005
        ]
        parts.append(report.markdown(rows))
    return parts


def main() -> int:
    """The command line; returns the exit code."""
    options = arguments()
    machine.end_on_signals()
    machine.raise_limits()
    parts: list[str] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="relayd-profile-")))
        try:
            machine.prepare_generator()
            machine.prepare_python(ROOT / "bench" / "profile-requirements.txt")
            charts = options.docs / "performance"
            charts.mkdir(parents=True, exist_ok=True)
            databases = Databases(stack, folder, machine.cores()[2])
            profiler = Profiler(folder, databases, options.seconds)
            for load in options.loads:
                ends: list[tuple[str, float]] = []
                try:
                    stacks = profiler.record(load)
                    title = f"relayd under {LOADS[load]}"
                    (charts / f"flame-{load}.svg").write_text(flame.graph(title, stacks))
                    ends = hot(stacks)
                except Unavailable as missing:
                    print(f"bench: {missing}", file=sys.stderr)
                counts: dict[str, PerDelivery] = {}
                for tool in ("perf", "strace"):
                    try:
                        counts[tool] = profiler.count(load, tool)
                    except Unavailable as missing:
                        print(f"bench: {missing}", file=sys.stderr)
                new = tables(load, ends, counts)
                print("\n\n".join(new), end="\n\n", flush=True)
                parts += new
        except Unavailable as missing:
            print(f"bench: {missing}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            return 130
    report.put(options.docs / "performance.md", "profile", "\n\n".join(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())

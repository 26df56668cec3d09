"""What the kernel says about a tree of processes: CPU time used, memory held."""

import os
from collections.abc import Iterable
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:  # grows while we walk
        found += children.get(pid, [])
    return found


def cpu(pids: Iterable[int]) -> float:
    """CPU seconds that all threads of the processes have used, in the kernel and outside.

    From `schedstat`, which counts nanoseconds; `stat` has the same sum in ticks of 10 ms and is
    read where the kernel does not keep the other.
    """
    return sum(_cpu_of(pid) for pid in pids)


def _cpu_of(pid: int) -> float:
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e9
    except OSError:
        pass
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICK


def memory(pids: Iterable[int]) -> tuple[int, int]:
    """RSS and PSS of the processes together, in bytes."""
    rss = pss = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        sizes = {line.split(":")[0]: line.split()[1] for line in lines[1:]}
        rss += int(sizes["Rss"]) * 1024
        pss += int(sizes["Pss"]) * 1024
    return rss, pss

"""The check of systemd's units: the socket, and how often the service has started lately.

Listed in `checks`.
"""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping

from relayd.ctl import service
from relayd.ctl.common import counted
from relayd.ctl.doctor.facts import Facts
from relayd.ctl.doctor.findings import Finding, fault, ok, skipped, warn

_TIMEOUT = 5.0  # seconds
_LATELY = 600.0
"""Seconds after a start by systemd itself for which that is a fault."""
_PROPERTIES = (
    *("Id", "LoadState", "ActiveState", "SubState", "Result", "NRestarts"),
    *("ExecMainStartTimestampMonotonic", "StatusText"),
)

Unit = Mapping[str, str]


def look_at_units(facts: Facts) -> Iterator[Finding]:
    """Whether the socket listens, and the service keeps running."""
    found = service.find(os.environ)
    if found is None:
        yield skipped("relayd is no service of systemd here")
        return
    try:
        units = _show(f"{found.name}.socket", f"{found.name}.service")
    except (OSError, subprocess.SubprocessError):
        yield skipped("systemd does not answer here")
        return
    for unit in units:
        judge = judge_socket(unit) if unit["Id"].endswith(".socket") else judge_service(unit)
        yield from judge


def judge_socket(unit: Unit) -> Iterator[Finding]:
    """The findings about the socket unit.

    Args:
        unit: its properties, as `systemctl show` prints them.
    """
    name, state = unit["Id"], unit["ActiveState"]
    if unit["LoadState"] != "loaded":
        yield skipped(f"there is no {name}")
    elif state == "failed":
        yield fault(
            f"{name} has failed ({unit['Result']}): nobody listens when relayd starts again",
            f"systemctl restart {name}",
        )
    elif state != "active":
        yield fault(f"{name} is {state}: nobody listens", f"systemctl start {name}")
    else:
        yield ok(f"{name} is active")


def judge_service(unit: Unit, uptime: float | None = None) -> Iterator[Finding]:
    """The findings about the service.

    Args:
        unit: its properties, as `systemctl show` prints them.
        uptime: seconds since the machine has started; by default, now.
    """
    name, state = unit["Id"], unit["ActiveState"]
    if unit["LoadState"] != "loaded":
        yield skipped(f"there is no {name}")
        return
    said = f": {unit['StatusText']}" if unit["StatusText"] and state != "active" else ""
    if state in ("failed", "inactive"):
        yield fault(
            f"{name} is {state} ({unit['Result']}){said}",
            f"journalctl -u {name} says why; then systemctl start {name}",
        )
        return
    if state == "activating":
        yield fault(f"{name} does not serve, it starts{said}", f"journalctl -u {name} says why")
        return
    restarts = int(unit["NRestarts"] or 0)
    if not restarts:
        yield ok(f"{name} is {state}; systemd had no need to start it again")
        return
    now = time.clock_gettime(time.CLOCK_MONOTONIC) if uptime is None else uptime
    age = now - int(unit["ExecMainStartTimestampMonotonic"] or 0) / 1e6
    times = counted(restarts, "time", "times")
    text = f"{name} has ended by itself, and systemd has started it again, {times}"
    remedy = f"journalctl -u {name} says why; systemctl restart {name} resets the count"
    if age < _LATELY:
        yield fault(f"{text}, the last one {age / 60:.0f} min ago", remedy)
    else:
        yield warn(f"{text}, the last one {age / 3600:.1f} h ago", remedy)


def _show(*names: str) -> list[Unit]:
    """The properties of units. Raises OSError or subprocess.SubprocessError."""
    done = subprocess.run(
        ["systemctl", "show", "--no-pager", f"--property={','.join(_PROPERTIES)}", *names],
        capture_output=True, text=True, timeout=_TIMEOUT, check=True,
    )  # fmt: skip
    return parse(done.stdout)


def parse(text: str) -> list[Unit]:
    """The units in the output of `systemctl show`; a property that one lacks is empty."""
    units: list[Unit] = []
    for block in text.strip().split("\n\n"):
        given = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        units.append(dict.fromkeys(_PROPERTIES, "") | given)
    return units

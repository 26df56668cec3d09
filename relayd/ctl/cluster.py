"""What `relayctl status` shows of all machines: the processes that are registered in Redis.

Sits under `ctl.status`.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from relayd.cluster import Seen, read_processes
from relayd.config import Config
from relayd.ctl.common import counted, moment, table
from relayd.ctl.redis import run_with_redis
from relayd.redis.shards import Redis

_HEAD = ("ID", "HOST", "PID", "VERSION", "UP SINCE (UTC)", "CLIENTS", "GROUPS", "DELIVERIES/S",
         "DROPS", "STATE")  # fmt: skip
_NUMBERS = ("CLIENTS", "GROUPS", "DELIVERIES/S", "DROPS")


def read(config: Config) -> list[Seen]:
    """The processes that are registered in Redis.

    Raises:
        RedisUnavailable: Redis is away.
        RedisRefused: Redis does not let us.
    """
    prefix = config.redis.prefix

    async def ask(redis: Redis, reactor: Any) -> list[Seen]:
        return await read_processes(redis, prefix)

    return run_with_redis(config, f"{prefix}:processes", ask)


def as_json(processes: Sequence[Seen]) -> dict[str, Any]:
    """All that is known of them, and their sums."""
    listed = [
        {"state": process.state, "seen": process.seen, **_members(process)} for process in processes
    ]
    return {"processes": listed, "totals": _totals(processes)}


def as_text(processes: Sequence[Seen], prefix: str) -> str:
    """A table, and a sentence with their sums."""
    if not processes:
        return f"no process is registered under the prefix {prefix}"
    rows = table([_HEAD, *map(_row, processes)], _NUMBERS)
    return f"{rows}\n\n{_sentence(_totals(processes))}"


def _members(process: Seen) -> dict[str, Any]:
    return {"id": process.id} if process.report is None else msgspec.to_builtins(process.report)


def _row(process: Seen) -> tuple[str, ...]:
    report = process.report
    state = process.state
    if state == "gone":
        state += f" since {moment(process.seen)[11:]}"
    if report is None:
        return (process.id, *"--------", state)
    pid = f"{report.pid}" if report.worker is None else f"{report.pid} w{report.worker}"
    figures: Sequence[str] = "----"
    if process.state != "gone":
        figures = (
            f"{sum(report.connections.values())}",
            f"{report.groups}",
            f"{report.deliveries_per_second:.1f}",
            f"{sum(report.drops.values())}",
        )
    return (
        process.id, report.host, pid, report.version, moment(report.started), *figures, state,
    )  # fmt: skip


def _totals(processes: Sequence[Seen]) -> dict[str, Any]:
    """Sums over the processes that are there. Groups are not summed: processes share them."""
    connections, drops = Counter[str](), Counter[str]()
    rate = 0.0
    for process in processes:
        if process.state != "gone" and process.report is not None:
            connections.update(process.report.connections)
            drops.update(process.report.drops)
            rate += process.report.deliveries_per_second
    gone = sum(process.state == "gone" for process in processes)
    return {
        "processes": len(processes) - gone,
        "gone": gone,
        "connections": dict(connections),
        "deliveries_per_second": round(rate, 1),
        "drops": dict(drops),
    }


def _sentence(totals: dict[str, Any]) -> str:
    connections: dict[str, int] = totals["connections"]
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(connections.items()))
    parts = [
        counted(totals["processes"], "process", "processes"),
        counted(sum(connections.values()), "client", "clients") + (f" ({kinds})" if kinds else ""),
        f"{totals['deliveries_per_second']:.1f} deliveries/s",
        counted(sum(totals["drops"].values()), "drop", "drops"),
    ]
    return ", ".join(parts) + (f"; {totals['gone']} gone" if totals["gone"] else "")

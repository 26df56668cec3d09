"""The processes of all machines in `relayctl status`, as registered in Redis.

Sits under `ctl.status`.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from relayd.cluster import Report, Seen, forget_process, read_processes
from relayd.config import Config
from relayd.ctl.common import WrongInput, counted, moment, table
from relayd.ctl.redis import run_with_redis
from relayd.errors import ClientError
from relayd.redis.shards import Redis

_HEAD = ("ID", "HOST", "PID", "VERSION", "UP SINCE (UTC)", "CLIENTS", "GROUPS", "DELIVERIES/S",
         "DROPS", "STATE")  # fmt: skip
_NUMBERS = ("CLIENTS", "GROUPS", "DELIVERIES/S", "DROPS")


def read(config: Config) -> list[Seen]:
    """Reads the processes that are registered in Redis.

    Raises:
        RedisUnavailable: Redis cannot be reached.
        RedisRefused: Redis refuses a command, for example for lack of rights.
    """
    prefix = config.redis.prefix

    async def query(redis: Redis, reactor: Any) -> list[Seen]:
        return await read_processes(redis, prefix)

    return run_with_redis(config, f"{prefix}:processes", query)


def forget(config: Config, process: str) -> None:
    """Removes a process that is gone from the register.

    Raises:
        WrongInput: no such process is registered, or it lives.
        RedisUnavailable: Redis cannot be reached.
        RedisRefused: Redis refuses a command, for example for lack of rights.
    """
    if not config.redis.url:
        raise WrongInput("without [redis] url there is no register of processes")
    prefix = config.redis.prefix

    async def remove(redis: Redis, reactor: Any) -> bool:
        return await forget_process(redis, prefix, process)

    try:
        known = run_with_redis(config, f"{prefix}:processes", remove)
    except ClientError as error:
        raise WrongInput(error.message) from error
    if not known:
        raise WrongInput(f"no process {process} is registered under the prefix {prefix}")


def as_json(processes: Sequence[Seen]) -> dict[str, Any]:
    """All facts about the processes, and their sums."""
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


def sum_up(reports: Iterable[Report]) -> dict[str, Any]:
    """Sums over processes. Groups are not summed: processes share them."""
    connections, drops = Counter[str](), Counter[str]()
    rate = 0.0
    for report in reports:
        connections.update(report.connections)
        drops.update(report.drops)
        rate += report.deliveries_per_second
    return {
        "connections": dict(connections),
        "deliveries_per_second": round(rate, 1),
        "drops": dict(drops),
    }


def describe_clients(totals: dict[str, Any]) -> str:
    """The number of clients, in all and by kind: `3 clients (camera 2, chat 1)`."""
    connections: dict[str, int] = totals["connections"]
    clients = counted(sum(connections.values()), "client", "clients")
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(connections.items()))
    return f"{clients} ({kinds})" if kinds else clients


def _totals(processes: Sequence[Seen]) -> dict[str, Any]:
    """The number of live and of dead processes, and sums over the live ones."""
    there = [process.report for process in processes if process.state != "gone"]
    gone = len(processes) - len(there)
    sums = sum_up(report for report in there if report is not None)
    return {"processes": len(there), "gone": gone, **sums}


def _sentence(totals: dict[str, Any]) -> str:
    parts = [
        counted(totals["processes"], "process", "processes"),
        describe_clients(totals),
        f"{totals['deliveries_per_second']:.1f} deliveries/s",
        counted(sum(totals["drops"].values()), "drop", "drops"),
    ]
    return ", ".join(parts) + (f"; {totals['gone']} gone" if totals["gone"] else "")

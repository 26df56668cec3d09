"""`relayctl status`: the processes behind the control socket, and with Redis all processes.

Sits under `ctl.main`.
"""

import os
import socket
import time
from collections.abc import Iterable, Sequence
from typing import Any

import click
import msgspec

from relayd.cluster import Seen
from relayd.config import Config
from relayd.config.drift import Difference, Remedy
from relayd.control.messages import Differences, Process, Secrets, Status
from relayd.ctl import cluster, service
from relayd.ctl.common import counted, echo_json, expected, json_option, load, table
from relayd.ctl.control_client import ControlClient, Refused, Unreachable, reach
from relayd.errors import ConfigError, RelaydError

_HEAD = ("PROCESS", "PID", "VERSION", "UP", "CLIENTS", "GROUPS", "IN/S", "DELIVERIES/S", "DROPS",
         "WAITING", "DATABASE", "REDIS", "STATE")  # fmt: skip
_NUMBERS = ("PID", "UP", "CLIENTS", "GROUPS", "IN/S", "DELIVERIES/S", "DROPS", "WAITING")


@click.command(short_help="Show the processes and their load.")
@click.option(
    "--forget", metavar="ID", help="Remove a process that is gone from the list, by its id."
)
@json_option
@click.pass_context
@expected
def status(context: click.Context, forget: str | None, as_json: bool) -> None:
    """Shows the live and the dead processes, and their load.

    relayctl queries the running relayd over its control socket. With [redis] url, the processes of
    all machines are shown, too.

    Exit codes: 0 done, in any state of the processes; 1 relayd or Redis cannot be reached.
    """
    if forget is not None:
        cluster.forget(load(context, only=("redis",)).config, forget)
        if as_json:
            echo_json({"forgotten": forget})
        else:
            click.echo(f"process {forget} is forgotten")
        return
    local, away = _ask(context)
    try:
        config = load(context, only=("redis",)).config
    except ConfigError as error:
        if local is None:
            raise
        click.echo(f"Warning: only this relayd is shown: {error}", err=True)
        config = Config()
    found: dict[str, Any] = {}
    if config.redis.url:
        try:
            processes = cluster.read(config)
        except Exception:
            if local is not None and not as_json:
                click.echo(_as_text(local))
            raise
        found = cluster.as_json(processes)
        if local is not None:
            found["local"] = local
        if not as_json:
            click.echo(_with_others(processes, local, config))
        if away is not None and service.find(os.environ) is not None:
            click.echo(f"Warning: {away}", err=True)
    elif local is not None:
        found = {**msgspec.to_builtins(local), "totals": _totals(local)}
        if not as_json:
            click.echo(_as_text(local))
    elif away is not None:
        raise away
    if as_json:
        echo_json(found)


def _ask(context: click.Context) -> tuple[Status | None, RelaydError | None]:
    """The status of the running relayd, or the reason why there is none."""
    try:
        client = reach(context)
        found = client.get("/status", Status)
        return msgspec.structs.replace(found, differs=find_differences(client, found)), None
    except (Unreachable, Refused) as error:
        return None, error


def _with_others(processes: Sequence[Seen], local: Status | None, config: Config) -> str:
    """All processes, then details of those of this machine; without others, the details alone."""
    if local is None:
        return cluster.as_text(processes, config.redis.prefix)
    here = {(socket.gethostname(), process.pid) for process in local.processes}
    there = {(one.report.host, one.report.pid) for one in processes if one.report is not None}
    if processes and there <= here:
        return _as_text(local)
    return (
        f"{cluster.as_text(processes, config.redis.prefix)}\n\non this machine:\n{_as_text(local)}"
    )


def find_differences(client: ControlClient, status: Status) -> list[Difference]:
    """What stands in the files and does not run, the secrets that root reads among them."""
    found = service.find(os.environ)
    try:
        secrets = None if found is None else found.secrets()
    except ConfigError as error:
        return [*status.differs, Difference(str(error), str(error), Remedy.CORRECT)]
    if secrets is None:
        return status.differs
    return client.post("/differences", Secrets(credentials=secrets), Differences).found


def describe_differences(differences: Iterable[Difference]) -> str:
    """Names of settings, and what each needs, in one line."""
    return ", ".join(f"{one.setting} ({one.remedy.sentence})" for one in differences)


def _totals(local: Status) -> dict[str, Any]:
    return {"processes": len(local.processes), **cluster.sum_up(local.processes)}


def _as_text(local: Status) -> str:
    parts = []
    if local.processes:
        parts.append(table([_HEAD, *map(_row, local.processes)], _NUMBERS))
    parts.append("")
    parts.append(cluster.describe_clients(_totals(local)))
    denied = [process.denied for process in local.processes]  # all have the same list
    words = [
        counted(count, one, more)
        for kind, one, more in (
            ("address", "address or network", "addresses and networks"),
            ("user", "user", "users"),
        )
        if (count := max((each.get(kind, 0) for each in denied), default=0))
    ]
    if words:
        parts.append(f"banned: {' and '.join(words)}")
    places = sorted({place for process in local.processes for place in process.listen})
    if places:
        parts.append(f"listening on {', '.join(places)}")
    for process in local.processes:
        for part in (process.database, process.redis):
            if part.message:
                parts.append(f"{_name(process)}: {part.message}")
    parts.extend(f"worker {number} does not answer" for number in local.missing)
    if local.differs:
        parts.append(f"differs from the files: {describe_differences(local.differs)}")
    return "\n".join(parts)


def _name(process: Process) -> str:
    return "relayd" if process.worker is None else f"w{process.worker}"


def _row(process: Process) -> tuple[str, ...]:
    state = "stopping" if process.stopping else "draining" if process.draining else "ok"
    return (
        _name(process),
        f"{process.pid}",
        process.version,
        _age(time.time() - process.started),
        f"{sum(process.connections.values())}",
        f"{process.groups}",
        f"{process.messages_per_second:.1f}",
        f"{process.deliveries_per_second:.1f}",
        f"{sum(process.drops.values())}",
        f"{process.waiting}",
        process.database.state,
        process.redis.state,
        state,
    )


def _age(seconds: float) -> str:
    """A duration as text: `3d 04h`, `2h 05m`, `7m 03s`, `12s`."""
    whole = max(0, int(seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days}d {hours:02}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {whole % 60:02}s" if minutes else f"{whole}s"

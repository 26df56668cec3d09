"""`relayctl status` and `relayctl publish`: all processes of an installation, through Redis.

Sits under `ctl.main`. Without Redis there is one process, which `publish` asks over its HTTP API.
"""

import http.client
import json
import secrets
import socket
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

import click
import msgspec

from relayd import names, wire
from relayd.brokers.redis import RedisBrokers
from relayd.cluster import Seen, read_processes
from relayd.config import Config
from relayd.ctl.bench.target import listening_url
from relayd.ctl.redis import run_with_redis
from relayd.drops import Drops
from relayd.errors import ClientError, ConfigError, Refusal, RelaydError
from relayd.hub import Hub
from relayd.redis.shards import Redis

_TIMEOUT = 10.0
_HEAD = ("ID", "HOST", "PID", "VERSION", "UP SINCE (UTC)", "CLIENTS", "GROUPS", "DELIVERIES/S",
         "DROPS", "STATE")  # fmt: skip
_NUMBERS = ("CLIENTS", "GROUPS", "DELIVERIES/S", "DROPS")


class NotPublished(RelaydError):
    """relayd cannot be reached, or does not take it; the text is a sentence for the operator."""


def status(config: Config, *, as_json: bool) -> None:
    """Prints the processes that are registered in Redis.

    Raises:
        ConfigError: there is no Redis in the configuration.
        RedisUnavailable: Redis is away.
        RedisRefused: Redis does not let us.
    """
    prefix = config.redis.prefix
    if not config.redis.url:
        raise ConfigError(
            "status shows the processes that meet in Redis, and [redis] url is not set; what one "
            "process alone does, its /readyz and its page say"
        )

    async def read(redis: Redis, reactor: Any) -> list[Seen]:
        return await read_processes(redis, prefix)

    processes = run_with_redis(config, f"{prefix}:processes", read)
    totals = _totals(processes)
    if as_json:
        listed = [
            {"state": process.state, "seen": process.seen, **_members(process)}
            for process in processes
        ]
        click.echo(json.dumps({"processes": listed, "totals": totals}))
    elif not processes:
        click.echo(f"no process is registered under the prefix {prefix}")
    else:
        click.echo(_table([_HEAD, *map(_row, processes)]))
        click.echo(f"\n{_sentence(totals)}")


def _members(process: Seen) -> dict[str, Any]:
    return {"id": process.id} if process.report is None else msgspec.to_builtins(process.report)


def _row(process: Seen) -> tuple[str, ...]:
    report = process.report
    state = process.state
    if state == "gone":
        state += f" since {_clock(process.seen)[11:]}"
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
        process.id, report.host, pid, report.version, _clock(report.started), *figures, state,
    )  # fmt: skip


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """The rows in columns; the first row is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if name in _NUMBERS else cell.ljust(width)
            for name, cell, width in zip(rows[0], row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


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
        _counted(totals["processes"], "process", "processes"),
        _counted(sum(connections.values()), "client", "clients") + (f" ({kinds})" if kinds else ""),
        f"{totals['deliveries_per_second']:.1f} deliveries/s",
        _counted(sum(totals["drops"].values()), "drop", "drops"),
    ]
    return ", ".join(parts) + (f"; {totals['gone']} gone" if totals["gone"] else "")


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def publish(config: Config, target: str, text: str) -> None:
    """Publishes to a push topic or says something in a chat room, and prints who got it.

    Args:
        config: says where Redis is, or relayd and its key.
        target: push/TOPIC or chat/ROOM.
        text: one JSON object for push, anything for chat.

    Raises:
        ConfigError: the target or the text is wrong, or the configuration lacks something.
        RedisUnavailable: Redis is away; nothing was published.
        StoreUnavailable: it is not known whether what was said was kept.
        NotPublished: relayd cannot be reached over HTTP, or does not take it.
    """
    kind, _, name = target.partition("/")
    if kind not in ("push", "chat"):
        raise ConfigError(f"{target}: publish to push/TOPIC or chat/ROOM")
    try:
        payload = text.encode()
        name = names.parse_group(name) if kind == "push" else names.parse_room(name)
        if kind == "push":
            wire.check_object(payload)
    except UnicodeEncodeError:
        raise ConfigError("the text is not UTF-8") from None
    except (Refusal, ClientError) as error:
        raise ConfigError(f"{target}: {error.message}") from error
    if len(payload) > config.limits.max_message_size:
        raise ConfigError(
            f"the text has {len(payload)} bytes; [limits] max_message_size is "
            f"{config.limits.max_message_size}"
        )
    if not config.redis.url:
        click.echo(_publish_over_http(config, kind, name, text))
    elif kind == "push":
        click.echo(_push(config, name, payload))
    else:
        click.echo(_say(config, name, text))


def _push(config: Config, topic: str, payload: bytes) -> str:
    group = f"push/{topic}"

    async def push(redis: Redis, reactor: Any) -> int:
        channel = f"{config.redis.prefix}:{group}"
        return int(await redis.find(group).call("PUBLISH", channel, payload))

    count = run_with_redis(config, group, push)
    return f"{_counted(count, 'process', 'processes')} with clients of {group} got it"


def _say(config: Config, room: str, text: str) -> str:
    async def say(redis: Redis, reactor: Any) -> int:
        hub = Hub(reactor, config.limits.coalesce)
        brokers = RedisBrokers(
            redis, hub, config,
            clock=reactor, now=time.time, process=secrets.token_hex(6), drops=Drops(),
        )  # fmt: skip
        entry = await brokers.rooms.say(room, config.chat.message_prefix + text)
        return entry.id

    id = run_with_redis(config, f"chat/{room}", say)
    return f"said in {room} as message {id}"


def _publish_over_http(config: Config, kind: str, name: str, text: str) -> str:
    if not config.api.key:
        raise ConfigError(
            "publish needs [redis] url, through which it reaches all processes, or [api] key, with "
            "which it asks one over HTTP"
        )
    body = text.encode() if kind == "push" else wire.encode({"message": text})
    answer = _post(config, f"/api/{kind}/{quote(name)}", body)
    if kind == "push":
        return f"{_counted(answer['clients'], 'client', 'clients')} of push/{name} got it"
    return f"said in {name} as message {answer['id']}"


def _post(config: Config, path: str, body: bytes) -> Any:
    """Posts to the first address that relayd listens on."""
    description = config.server.listen[0]
    if description.startswith("ssl:"):
        # its certificate is for another name than the one that is used on this machine
        raise ConfigError(
            f"[server] listen begins with {description}, and publish speaks plain HTTP only: set "
            "[redis] url, or let the first one be a tcp: or unix: endpoint"
        )
    url = listening_url(description).replace("ws:", "http:", 1)
    connection: http.client.HTTPConnection
    if url.startswith("unix:"):
        connection = _UnixConnection(url.removeprefix("unix:"))
    else:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_TIMEOUT)
    headers = {"Authorization": f"Bearer {config.api.key}", "Content-Type": "application/json"}
    try:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise NotPublished(f"{url} cannot be reached: {error}") from error
    finally:
        connection.close()
    try:
        decoded = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.MsgspecError:
        raise NotPublished(f"{url} is no relayd: it answered {answer.status}") from None
    if answer.status != 200:
        raise NotPublished(f"{url} answered {answer.status}: {decoded.get('message')}")
    return decoded


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(self._path)

"""Checks of Redis: availability, version, eviction, limits, persistence, and the register.

Listed in `checks`. Sits on `redis_facts`.
"""

import time
from collections.abc import Iterable, Iterator

from relayd.cluster import Seen
from relayd.ctl.doctor.facts import Facts
from relayd.ctl.doctor.findings import Finding, fault, ok, skipped, warn
from relayd.ctl.doctor.redis_facts import ServerFacts
from relayd.stores import states
from relayd.stores.states import State, Store

OLDEST = (5, 0)
"""Redis has streams, and scripts that may write after a call of TIME, since this version."""
CONNECTIONS = 2
"""Connections of a process to each server: commands and subscriptions."""
_MOST_SKEW = 1.0


def look_at_servers(facts: Facts) -> Iterator[Finding]:
    """Whether each server answers, and is new enough."""
    if not facts.config.redis.url:
        yield skipped("there is no [redis] url: one process alone")
        return
    for server in facts.redis.servers:
        if server.away:
            state = states.find(Store.REDIS, None, server.away) or State.AWAY
            what = "" if state is State.AWAY else f"Redis {server.name} {state.words}: "
            yield fault(
                f"{what}{server.away}",
                f"{states.remedy(Store.REDIS, state)}; relayd refuses chat and pairs until then",
            )
            continue
        if server.refuses:
            state = states.find(Store.REDIS, None, server.refuses) or State.AWAY
            yield fault(
                f"Redis {server.name} {state.words}: {server.refuses}",
                states.remedy(Store.REDIS, state),
            )
        yield _judge(server)


def _judge(server: ServerFacts) -> Finding:
    version = ".".join(map(str, server.version))
    if server.version and server.version < OLDEST:
        return fault(
            f"Redis {server.name} is of version {version}, which has no streams",
            f"Redis {'.'.join(map(str, OLDEST))} or newer; Debian 12 has 7.0",
        )
    if server.info.get("role") == "slave":
        return fault(
            f"Redis {server.name} is a replica and refuses writes",
            "name the master in [redis] url, or sentinel:// that find it",
        )
    return ok(f"{server.name} answers, version {version}")


def look_at_memory(facts: Facts) -> Iterator[Finding]:
    """Whether Redis evicts keys when its memory is full."""
    for server in _asked(facts):
        policy = server.settings.get("maxmemory-policy", server.info.get("maxmemory_policy", ""))
        limit = server.number("maxmemory")
        if policy in ("", "noeviction"):
            yield ok(f"{server.name} evicts nothing")
            if limit and server.number("used_memory") > 0.9 * limit:
                yield warn(
                    f"Redis {server.name} uses more than 90 % of its maxmemory: it soon refuses "
                    "to write",
                    "more memory, or a shorter [redis] history_age or [chat] history_length",
                )
            continue
        found = fault if limit else warn
        yield found(
            f"Redis {server.name} has maxmemory-policy {policy}: it evicts chat histories and "
            "pairs when its memory is full",
            "maxmemory-policy noeviction in redis.conf, and CONFIG SET maxmemory-policy noeviction",
        )
    yield from _nobody(facts)


def look_at_clients(facts: Facts) -> Iterator[Finding]:
    """Whether Redis allows as many connections as the processes open."""
    for server in _asked(facts):
        processes = max(facts.processes, len(_there(facts)))
        limit = server.number("maxclients")
        others = server.number("connected_clients")
        wanted = processes * CONNECTIONS
        if limit and limit < wanted + 10:
            yield fault(
                f"Redis {server.name} allows {limit} clients (maxclients); {processes} relayd "
                f"processes open {wanted} connections",
                f"maxclients {max(1000, wanted * 4)} in redis.conf",
            )
        elif limit and others > 0.9 * limit:
            yield warn(
                f"Redis {server.name} has {others} of {limit} clients",
                "a higher maxclients in redis.conf",
            )
        else:
            yield ok(f"{server.name} allows {limit or 'any number of'} clients")
    yield from _nobody(facts)


def look_at_buffers(facts: Facts) -> Iterator[Finding]:
    """Whether Redis disconnects a process that reads a burst of messages a little late."""
    for server in _asked(facts):
        words = server.settings.get("client-output-buffer-limit", "").split()
        limits = {words[at]: words[at + 1 : at + 4] for at in range(0, len(words) - 3, 4)}
        hard, soft, _ = [int(word) for word in limits.get("pubsub", ["0", "0", "0"])]
        least = min([size for size in (hard, soft) if size], default=0)
        if least and least < 4 * 1024 * 1024:
            yield warn(
                f"Redis {server.name} disconnects a subscriber that is {least} bytes behind "
                "(client-output-buffer-limit pubsub); poses come in bursts",
                "client-output-buffer-limit pubsub 32mb 8mb 60 in redis.conf",
            )
        else:
            yield ok(f"{server.name} can buffer a burst for a subscriber")
    yield from _nobody(facts)


def look_at_persistence(facts: Facts) -> Iterator[Finding]:
    """Whether the chat history survives a restart of Redis."""
    for server in _asked(facts):
        known = "appendonly" in server.settings or "aof_enabled" in server.info
        kept = server.settings.get("appendonly") == "yes" or server.info.get("aof_enabled") == "1"
        if not known or kept or server.settings.get("save", "unknown"):
            yield ok(f"{server.name} keeps its data on disk")
        else:
            yield warn(
                f"Redis {server.name} keeps nothing on disk: a restart deletes all chat histories",
                "appendonly yes in redis.conf, and CONFIG SET appendonly yes",
            )
        if server.info.get("aof_last_write_status") == "err" or (
            server.info.get("rdb_last_bgsave_status") == "err"
        ):
            yield fault(
                f"Redis {server.name} could not write to its disk and may refuse writes",
                "read its log; free space on its disk",
            )
    yield from _nobody(facts)


def look_at_clocks(facts: Facts) -> Iterator[Finding]:
    """Whether the machines agree on the time: tokens expire by it, and logs are compared."""
    for server in _asked(facts):
        if abs(server.offset) - server.uncertain > _MOST_SKEW:
            yield warn(
                f"the clock of Redis {server.name} is {abs(server.offset):.1f} s "
                f"{'ahead of' if server.offset > 0 else 'behind'} this machine's",
                "NTP on both: timedatectl set-ntp true",
            )
        else:
            yield ok(f"this machine and {server.name} agree on the time")
    for process in _there(facts):
        report = process.report
        if report is None or not report.clock:
            continue
        skew = report.clock - process.seen
        if abs(skew) > _MOST_SKEW:
            yield warn(
                f"the clock of {report.host}, with process {report.pid}, is {abs(skew):.1f} s "
                f"{'ahead of' if skew > 0 else 'behind'} Redis'",
                f"NTP there: timedatectl set-ntp true on {report.host}",
            )
    yield from _nobody(facts)


def look_at_processes(facts: Facts) -> Iterator[Finding]:
    """Whether registered processes have died, and whether all have the same version."""
    if not facts.config.redis.url:
        yield skipped("there is no [redis] url: one process alone")
        return
    there = _there(facts)
    gone = [process for process in facts.redis.processes if process.state == "gone"]
    versions = sorted({process.report.version for process in there if process.report})
    if not there:
        yield warn(
            f"no relayd process is registered under the prefix {facts.config.redis.prefix}",
            "start relayd; its log says if it cannot reach Redis",
        )
    for process in gone:
        ago = time.time() - process.seen
        where = process.report.host if process.report else "unknown host"
        yield warn(
            f"process {process.id} on {where} is gone since {ago / 60:.0f} min without a drain",
            f"journalctl -u relayd there says why; then relayctl status --forget {process.id}",
        )
    if len(versions) > 1:
        yield warn(
            f"processes of different versions run: {', '.join(versions)}",
            "restart the older ones",
        )
    if there and not gone and len(versions) <= 1:
        yield ok(f"registered processes: {len(there)}")


def _asked(facts: Facts) -> list[ServerFacts]:
    return [server for server in facts.redis.servers if not server.away]


def _there(facts: Facts) -> list[Seen]:
    return [process for process in facts.redis.processes if process.state != "gone"]


def _nobody(facts: Facts) -> Iterable[Finding]:
    """The finding of a check without a server to look at."""
    if not facts.config.redis.url:
        return [skipped("there is no [redis] url")]
    return [] if _asked(facts) else [skipped("no Redis answers")]

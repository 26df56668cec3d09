"""Real sentinels under `RedisServer`: the master is found, and found again when it is another."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import pytest_twisted

from relayd.errors import RedisUnanswered, RedisUnavailable
from tests.redis_scene import (
    Inbox,
    Log,
    begin,
    connected,
    failures,
    serves,
    started,
    stat_of_command,
    turn,
    until,
)
from tests.redis_servers import Certificates, Redis, Sentinel

PROMISE = 5.0
"""Seconds within which relayd serves again after there is a new master."""


@pytest.fixture
def log() -> Iterator[Log]:
    """What relayd.redis logs during the test."""
    with Log() as lines:
        yield lines


@contextlib.contextmanager
def replicated(*lines: str, password: str = "") -> Iterator[tuple[Redis, Redis]]:
    """A master and its replica, in step."""
    lines = (*lines, f"masterauth {password}") if password else lines
    with contextlib.ExitStack() as stack:
        lines = (*lines, "repl-diskless-sync-delay 0")
        master = stack.enter_context(Redis(*lines, password=password))
        lines = (*lines, f"replicaof 127.0.0.1 {master.port}")
        replica = stack.enter_context(Redis(*lines, password=password))
        end = time.monotonic() + 20
        while replica.tell("ROLE")[3] != b"connected":
            assert time.monotonic() < end, replica.log
            time.sleep(0.02)
        yield master, replica


def url(*sentinels: Sentinel, service: str = "service", user: str = "") -> str:
    return f"sentinel://{user}{','.join(f'127.0.0.1:{one.port}' for one in sentinels)}/{service}"


@pytest.mark.parametrize("end", [Redis.kill, Redis.pause])
@pytest_twisted.ensureDeferred
async def test_a_failover_is_followed_within_seconds(
    end: Callable[[Redis], None], log: Log
) -> None:
    """Three sentinels, two of which must agree; the master is gone for good, or hangs."""
    with contextlib.ExitStack() as stack:
        master, replica = stack.enter_context(replicated(password="m3ster"))
        sentinels = [
            stack.enter_context(
                Sentinel(master.port, quorum=2, password="s3ntinel", master_password="m3ster")
            )
            for _ in range(3)
        ]
        for sentinel in sentinels:
            sentinel.wait_for_replica()
        await until(lambda: all(sentinel.others() == 2 for sentinel in sentinels))
        target = url(*sentinels, user=":m3ster@") + "?sentinel_password=s3ntinel"
        async with connected(target) as (server, watch):
            inbox = Inbox()
            await server.subscribe("kept", inbox)
            await serves(server)
            assert master.connections() == 2
            end(master)
            await watch.until(False)
            assert await failures([begin(server.call("PING"))]) <= {
                RedisUnavailable,
                RedisUnanswered,
            }
            await until(lambda: replica.tell("ROLE")[0] == b"master")
            appointed = time.monotonic()
            await watch.until(True)
            assert time.monotonic() - appointed < PROMISE
            assert replica.connections() == 2
            server.publish(b"kept", b"1")
            assert await inbox.take() == [b"1"]
            await serves(server)
            assert watch.changes == [True, False, True]
    assert [line.split()[:4] for line in log.lines] == [
        ["Redis", "service", "is", "connected"],
        ["Redis", "service", "is", "away:"],
        ["Redis", "service", "is", "back"],
    ]  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_a_new_master_is_followed_although_the_old_one_still_is_a_master(log: Log) -> None:
    with replicated() as (old, new), Sentinel(old.port) as sentinel:
        sentinel.wait_for_replica()
        async with connected(url(sentinel)) as (server, watch):
            assert old.connections() == 2
            assert sentinel.tell("SENTINEL", "FAILOVER", "service") == b"OK"
            await until(lambda: sentinel.master() == new.port)
            appointed = time.monotonic()
            await until(lambda: new.connections() == 2)
            assert old.tell("ROLE")[0] == b"master"
            await watch.until(True)
            assert time.monotonic() - appointed < PROMISE
            await serves(server)
            await until(lambda: old.connections() == 0)
            assert watch.changes == [True, False, True]


@pytest_twisted.ensureDeferred
async def test_a_demoted_master_is_left_at_its_first_readonly_error() -> None:
    """READONLY has the sentinels asked again, without waiting for the watch."""
    with Redis() as old, Redis() as new, Sentinel(old.port) as sentinel:
        async with connected(url(sentinel), sentinel_interval=1000.0) as (server, watch):
            inbox = Inbox()
            await server.subscribe("kept", inbox)
            sentinel.tell("SENTINEL", "REMOVE", "service")
            sentinel.tell("SENTINEL", "MONITOR", "service", "127.0.0.1", new.port, 1)
            old.tell("REPLICAOF", "127.0.0.1", new.port)
            await server.call("GET", "a")  # reading is no reason to leave
            with pytest.raises(RedisUnavailable, match="READONLY"):
                await server.call("SET", "a", 1)
            await until(lambda: new.connections() == 2)
            await watch.until(True)
            await serves(server)
            server.publish(b"kept", b"1")
            assert await inbox.take() == [b"1"]
            await until(lambda: old.connections() == 0)


@pytest_twisted.ensureDeferred
async def test_a_server_stops_while_it_queries_the_sentinels(log: Log) -> None:
    with Redis() as master, Sentinel(master.port) as first, Sentinel(master.port) as second:
        first.pause()
        second.pause()
        for _ in range(3):
            async with started(url(first, second)) as (_, watch):
                for _ in range(5):
                    await turn()
                assert watch.changes == []
        second.resume()
        # whoever went on asking would be heard of here
        assert b"relayd-sentinel" not in second.tell("CLIENT", "LIST")
        assert master.connections() == 0
    assert log.lines == []


@pytest_twisted.ensureDeferred
async def test_passwords_and_tls_work_on_both_hops(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path, "127.0.0.1", "redis.example")
    files = {"ca_file": str(certificates.ca_file)}
    with (
        Redis(password="m3ster", tls=certificates) as master,
        Sentinel(
            master.port, password="s3ntinel", master_password="m3ster", tls=certificates
        ) as sentinel,
    ):
        end = f":m3ster@127.0.0.1:{sentinel.port}/service/3?sentinel_password=s3ntinel"
        for more in ("", "&tls_name=redis.example"):
            async with connected(f"sentinels://{end}{more}", **files) as (server, _):
                await serves(server)
                master.tell("SELECT", 3)
                assert master.tell("EXISTS", "serves") == 1
        for wrong, reason in (
            (f"sentinel://{end}", ""),
            (f"sentinels://{end}&tls=sentinels", ""),
            (f"sentinels://{end}&tls=master", ""),
            (f"sentinels://{end}&tls_name=other.example", "not for other.example"),
            (f"sentinels://{end}".replace("m3ster", "wrong"), "WRONGPASS"),
            (f"sentinels://{end}".replace("s3ntinel", "wrong"), "WRONGPASS"),
        ):
            with Log() as log:
                async with started(wrong, **files) as (server, watch):
                    assert reason in await log.wait_for("Redis service")
                assert watch.changes == []


@pytest.mark.parametrize("hop", ["sentinels", "master"])
@pytest_twisted.ensureDeferred
async def test_tls_works_on_one_hop_alone(hop: str, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path, "127.0.0.1")
    to_sentinel, to_master = (certificates, None) if hop == "sentinels" else (None, certificates)
    with Redis(tls=to_master) as master, Sentinel(master.port, tls=to_sentinel) as sentinel:
        target = f"sentinels://127.0.0.1:{sentinel.port}/service?tls={hop}"
        async with connected(target, ca_file=str(certificates.ca_file)) as (server, _):
            await serves(server)


@pytest_twisted.ensureDeferred
async def test_sentinels_are_queried_until_one_answers(log: Log) -> None:
    """One is down, one hangs, one watches something else, one knows."""
    with Redis() as master, contextlib.ExitStack() as stack:
        dead, hung, other, good = (stack.enter_context(Sentinel(master.port)) for _ in range(4))
        dead.kill()
        other.tell("SENTINEL", "REMOVE", "service")
        hung.pause()
        async with connected(url(dead, hung, other, good), sentinel_interval=0.1) as (
            server,
            watch,
        ):
            await serves(server)
            good.pause()  # nobody knows now: what is connected stays so
            assert "no sentinel of service answers" in await log.wait_for("no sentinel")
            await serves(server)
            assert watch.changes == [True]
            good.resume()
            await log.wait_for("the sentinels of service answer again")
            hung.resume()
        async with started(url(good, service="nothing")) as (server, watch):
            assert "it knows no nothing" in await log.wait_for("Redis nothing is away")
            assert watch.changes == []


@pytest_twisted.ensureDeferred
async def test_a_sentinel_with_stale_state_does_no_harm() -> None:
    """The first one still names the old master, which is a replica by now; the second is right."""
    with replicated() as (new, old), Sentinel(old.port) as behind, Sentinel(new.port) as right:
        async with connected(url(behind, right), sentinel_interval=0.1) as (server, watch):
            assert new.connections() == 2
            await serves(server)
            # its watch hears of the old one again and again, asks it, and does not believe it
            asked = stat_of_command(old, "role")
            await until(lambda: stat_of_command(old, "role") >= asked + 3)
            assert watch.changes == [True]
            assert new.connections() == 2
            new.tell("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await watch.until(False)
            await watch.until(True)
            await serves(server)

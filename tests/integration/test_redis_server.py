"""A real Redis under `RedisServer`: every kind of URL, and everything that can go wrong with it."""

import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, DeferredList

from relayd.errors import RedisUnanswered, RedisUnavailable
from relayd.redis import urls
from relayd.redis.commands import Script
from relayd.redis.replies import RedisRefused
from relayd.redis.server import RedisServer
from relayd.redis.shards import Redis as Shards
from tests.redis_scene import (
    Inbox,
    Log,
    Watch,
    begin,
    connected,
    failures,
    fronted,
    serves,
    started,
    stat,
    stat_of_command,
    turn,
    until,
)
from tests.redis_servers import Certificates, Redis, Wire

QUICK = {"deadline": 0.5, "ping_interval": 0.1, "longest_delay": 0.2}
"""Settings for a server that is stopped in the middle of something."""


@pytest.fixture
def redis() -> Iterator[Redis]:
    """A Redis for one test, without a password."""
    with Redis() as server:
        yield server


@pytest.fixture
def log() -> Iterator[Log]:
    """What relayd.redis logs during the test."""
    with Log() as lines:
        yield lines


def url(redis: Redis) -> str:
    return f"redis://127.0.0.1:{redis.port}"


# -- every kind of URL

USER = "user alice on >p%40ss ~* &* +@all"


@pytest.mark.parametrize(
    ("lines", "password", "form"),
    [
        ([], "", "redis://127.0.0.1:{port}"),
        ([], "", "redis://localhost:{port}"),
        ([], "", "redis://127.0.0.1:{port}/3"),
        ([], "s3:cr/t@", "redis://:s3:cr%2Ft@@127.0.0.1:{port}"),
        ([], "s3cret", "redis://default:s3cret@127.0.0.1:{port}/3"),
        ([USER], "s3cret", "redis://alice:p%2540ss@127.0.0.1:{port}"),
        ([], "", "unix://{socket}"),
        ([USER], "s3cret", "unix://alice:p%2540ss@{socket}?db=3"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_redis_server_connects(lines: list[str], password: str, form: str) -> None:
    with Redis(*lines, password=password) as redis:
        target = form.format(port=redis.port, socket=redis.socket)
        async with connected(target) as (server, _):
            await serves(server)
            redis.tell("SELECT", 3 if target.endswith(("/3", "=3")) else 0)
            assert redis.tell("EXISTS", "serves") == 1
            clients = redis.tell("CLIENT", "LIST").decode()
            assert "name=relayd-commands" in clients
            assert "name=relayd-subscriber" in clients
            assert ("user=alice" in clients) == ("alice" in target)
        redis.tell("PING")
        assert server.reconnects == 0


@pytest_twisted.ensureDeferred
async def test_a_redis_server_connects_over_ipv6() -> None:
    with Redis(host="127.0.0.1 -::1") as redis:
        async with connected(f"redis://[::1]:{redis.port}") as (server, _):
            await serves(server)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest_twisted.ensureDeferred
async def test_a_redis_server_connects_over_tls(host: str, tmp_path: Path, log: Log) -> None:
    certificates = Certificates(tmp_path, "127.0.0.1", "localhost")
    with Redis(password="s3cret", tls=certificates) as redis:
        target = f"rediss://:s3cret@{host}:{redis.port}"
        async with connected(target, ca_file=str(certificates.ca_file)) as (server, watch):
            await serves(server)
            redis.kill()
            await watch.until(False)
            redis.start()
            await watch.until(True)
            await serves(server)
    assert [line.split(": ")[0].rsplit(":", 1)[0] for line in log.lines] == [
        f"Redis {host}", f"Redis {host}", f"Redis {host}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("trusted", "names", "reason"),
    [
        ("own", ["other.example"], "TLS: the certificate is not for 127.0.0.1"),
        ("other", ["127.0.0.1"], "its chain ends at an authority that is not trusted"),
        ("", ["127.0.0.1"], "its chain ends at an authority that is not trusted"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_certificate_that_is_not_right_is_refused(
    trusted: str, names: list[str], reason: str, tmp_path: Path, log: Log
) -> None:
    certificates = Certificates(tmp_path / "own", *names)
    Certificates(tmp_path / "other", "127.0.0.1")
    ca_file = str(tmp_path / trusted / "ca.pem") if trusted else ""
    with Redis("loglevel verbose", password="s3cret", tls=certificates) as redis:
        target = f"rediss://:s3cret@127.0.0.1:{redis.port}"
        async with started(target, ca_file=ca_file) as (server, watch):
            assert f"{reason}; " in await log.wait_for("is away")
            refused = "Error accepting a client connection"  # says Redis' end of the handshake
            await until(lambda: redis.log.count(refused) > 4)
            assert watch.changes == []
            assert "cmdstat_auth:calls=1," in redis.tell("INFO", "commandstats").decode()  # ours
            with pytest.raises(RedisUnavailable):
                await server.call("PING")


@pytest_twisted.ensureDeferred
async def test_a_wrong_password_is_retried_until_it_is_accepted(log: Log) -> None:
    with Redis(password="another") as redis:
        async with started(f"redis://:s3cret@127.0.0.1:{redis.port}", **QUICK) as (server, watch):
            assert "WRONGPASS" in await log.wait_for("refuses what relayd needs")
            refused = stat(redis, "total_connections_received") + 5
            await until(lambda: stat(redis, "total_connections_received") > refused)
            redis.tell("CONFIG", "SET", "requirepass", "s3cret")
            await watch.until(True)
            await serves(server)
    assert len(log.lines) == 2  # away and back, whatever the number of attempts
    assert not any("s3cret" in line for line in log.lines)


@pytest_twisted.ensureDeferred
async def test_a_server_that_does_not_speak_resp_counts_as_unavailable(
    redis: Redis, log: Log
) -> None:
    async with fronted(redis) as front:
        front.greeting = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        async with started(front.url, **QUICK) as (server, watch):
            assert "does not speak Redis' protocol" in await log.wait_for("is away")
            await until(lambda: front.accepted > 4)
            front.greeting = b""
            await watch.until(True)
            await serves(server)


# -- outages


@pytest_twisted.ensureDeferred
async def test_a_killed_redis_is_noticed_and_subscriptions_are_restored_after_its_restart(
    redis: Redis, log: Log
) -> None:
    async with connected(url(redis)) as (server, watch):
        inboxes = {f"channel {number}": Inbox() for number in range(50)}
        for channel, inbox in inboxes.items():
            await server.subscribe(channel, inbox)
        redis.pause()  # so that the commands are under way when it dies
        under_way = [begin(server.call("PING")) for _ in range(5)]
        await turn()
        redis.kill()
        await watch.until(False)
        assert await failures(under_way) == {RedisUnanswered}

        for _ in range(3):  # nothing of this is kept for later
            refused = begin(server.call("RPUSH", "list", "during the outage"))
            assert refused.called
            assert await failures([refused]) == {RedisUnavailable}
            assert not server.publish(b"channel 7", b"lost")
        assert await failures([server.subscribe("too late", Inbox())]) == {RedisUnavailable}

        redis.start()
        await watch.until(True)
        assert redis.tell("PUBSUB", "NUMSUB", *inboxes) == [
            part for channel in inboxes for part in (channel.encode(), 1)
        ]
        assert redis.tell("PUBSUB", "NUMSUB", "too late") == [b"too late", 0]
        for channel in inboxes:
            server.publish(channel.encode(), channel.encode())
        for channel, inbox in inboxes.items():
            assert await inbox.take() == [channel.encode()]
        assert redis.tell("EXISTS", "list") == 0
        assert watch.changes == [True, False, True]
        assert server.reconnects == 2
        await serves(server)
    assert watch.changes == [True, False, True, False]
    assert [line.split()[2:5] for line in log.lines] == [
        ["is", "connected"], ["is", "away:", "Connection"], ["is", "back", "after"],
    ]  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_more_subscriptions_than_may_be_pending_are_restored(redis: Redis) -> None:
    async with connected(url(redis), max_pending=200) as (server, watch):
        inbox = Inbox()
        for first in range(0, 2500, 100):
            await DeferredList(
                [server.subscribe(f"c{number}", inbox) for number in range(first, first + 100)],
                fireOnOneErrback=True,
            )
        redis.kill()
        await watch.until(False)
        server.unsubscribe("c7")
        redis.start()
        await watch.until(True)
        assert len(redis.tell("PUBSUB", "CHANNELS")) == 2499
        server.publish(b"c7", b"nobody")
        server.publish(b"c2499", b"somebody")
        assert await inbox.take() == [b"somebody"]


@pytest_twisted.ensureDeferred
async def test_a_redis_that_hangs_is_noticed_by_the_pings_alone(redis: Redis, log: Log) -> None:
    async with connected(url(redis), **QUICK) as (server, watch):
        await until(lambda: server.round_trip is not None)
        redis.pause()
        await watch.until(False)
        assert "no answer in 0.5 s; " in log.lines[-1]
        redis.resume()
        await watch.until(True)
        await serves(server)


@pytest_twisted.ensureDeferred
async def test_a_late_answer_is_not_taken_for_that_of_another_command(redis: Redis) -> None:
    async with connected(url(redis), **QUICK) as (server, watch):
        for number in range(40):
            await server.call("SET", f"key {number}", number)
        for _ in range(3):
            redis.pause()
            late = [begin(server.call("GET", f"key {number}")) for number in range(20)]
            assert await failures(late) == {RedisUnanswered}
            assert not server.available
            redis.resume()
            await watch.until(True)
            got = [begin(server.call("GET", f"key {number}")) for number in range(20, 40)]
            assert [await one for one in got] == [b"%d" % number for number in range(20, 40)]


@pytest_twisted.ensureDeferred
async def test_a_subscription_that_is_not_confirmed_in_time_is_not_registered(
    redis: Redis,
) -> None:
    async with connected(url(redis), deadline=0.3, ping_interval=60.0) as (server, watch):
        kept, lost = Inbox(), Inbox()
        await server.subscribe("kept", kept)
        redis.pause()
        assert await failures([server.subscribe("lost", lost)]) == {RedisUnanswered}
        assert watch.changes == [True, False]  # by the time it fails
        redis.resume()
        await watch.until(True)
        assert redis.tell("PUBSUB", "CHANNELS") == [b"kept"]
        server.publish(b"lost", b"1")
        server.publish(b"kept", b"2")
        assert await kept.take() == [b"2"]
        assert lost.messages == []


@pytest_twisted.ensureDeferred
async def test_a_redis_that_hangs_up_ten_times_during_auth_is_connected_at_the_eleventh() -> None:
    with Redis(password="s3cret") as redis:
        async with fronted(redis) as front:
            front.hang_ups = 10
            async with connected(front.url.replace("//", "//:s3cret@")) as (server, watch):
                assert front.hang_ups == 0
                assert front.accepted == 12
                assert watch.changes == [True]
                await serves(server)


@pytest_twisted.ensureDeferred
async def test_a_redis_that_loads_its_data_is_waited_for(redis: Redis, log: Log) -> None:
    async with connected(url(redis), **QUICK) as (server, watch):
        redis.tell("EVAL", "for n = 1, 20000 do redis.call('SET', 'key:' .. n, n) end", 0)
        assert redis.tell("SAVE") == b"OK"
        redis.kill()
        await watch.until(False)
        redis.lines += ["key-load-delay 1000", "loading-process-events-interval-bytes 1024"]
        redis.start()
        assert redis.tell("GET", "key:1").args[0].startswith("LOADING")
        attempts = stat(redis, "total_connections_received") + 5
        await until(lambda: stat(redis, "total_connections_received") > attempts)
        assert not server.available
        redis.tell("CONFIG", "SET", "key-load-delay", 0)
        await watch.until(True)
        assert await server.call("GET", "key:1") == b"1"
        assert watch.changes == [True, False, True]


@pytest_twisted.ensureDeferred
async def test_a_redis_that_has_too_many_clients_is_tried_again(log: Log) -> None:
    with Redis("maxclients 2") as redis:
        other = Wire(redis.port)
        assert other.tell("PING") == b"PONG"
        async with started(url(redis), **QUICK) as (server, watch):  # `tell` has the second place
            assert "max number of clients reached" in await log.wait_for("refuses connections")
            refused = stat(redis, "rejected_connections") + 5
            await until(lambda: stat(redis, "rejected_connections") > refused)
            other.close()  # enough for one connection of the pair
            await until(lambda: redis.connections() == 1)
            assert watch.changes == []
            redis.hang_up()
            await watch.until(True)
            await serves(server)


@pytest_twisted.ensureDeferred
async def test_a_replica_is_no_master_until_it_is_promoted(redis: Redis, log: Log) -> None:
    redis.tell("REPLICAOF", "127.0.0.1", 1)
    async with started(url(redis), **QUICK) as (server, watch):
        assert "it is a replica" in await log.wait_for("(read-only)")
        redis.tell("REPLICAOF", "NO", "ONE")
        await watch.until(True)
        await serves(server)

        redis.tell("REPLICAOF", "127.0.0.1", 1)
        with pytest.raises(RedisUnavailable, match="READONLY"):
            await server.call("SET", "a", 1)
        assert not server.available
        assert watch.changes == [True, False]
        redis.tell("REPLICAOF", "NO", "ONE")
        await watch.until(True)
        await serves(server)


@pytest_twisted.ensureDeferred
async def test_a_script_that_may_not_write_counts_as_an_outage(redis: Redis) -> None:
    async with connected(url(redis), **QUICK) as (server, watch):
        redis.tell("REPLICAOF", "127.0.0.1", 1)
        with pytest.raises(RedisUnavailable, match="READONLY"):
            await server.run(Script("return redis.call('SET', KEYS[1], 1)"), ["a"])
        assert not server.available
        redis.tell("REPLICAOF", "NO", "ONE")
        await watch.until(True)


@pytest_twisted.ensureDeferred
async def test_commands_work_while_the_subscriber_connection_is_down(redis: Redis) -> None:
    async with connected(url(redis)) as (server, watch):
        inbox = Inbox()
        await server.subscribe("a", inbox)
        redis.tell("CLIENT", "KILL", "TYPE", "pubsub")
        await watch.until(False)
        assert await server.call("PING") == b"PONG"  # commands go on
        assert await failures([server.subscribe("b", Inbox())]) == {RedisUnavailable}
        await watch.until(True)
        server.publish(b"a", b"1")
        assert await inbox.take() == [b"1"]
        assert watch.changes == [True, False, True]
        assert server.reconnects == 1


@pytest_twisted.ensureDeferred
async def test_both_connections_go_to_the_same_redis(redis: Redis) -> None:
    """A name or a proxy that leads to another server now: commands there, subscriptions here."""
    async with fronted(redis) as front, connected(front.url, **QUICK) as (server, watch):
        inbox = Inbox()
        await server.subscribe("a", inbox)
        with Redis() as other:
            front.port = other.port
            redis.tell("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await until(lambda: other.connections() == 2)
            await watch.until(True)
            server.publish(b"a", b"1")
            assert await inbox.take() == [b"1"]
            await until(lambda: redis.connections() == 0)


@pytest_twisted.ensureDeferred
async def test_watchers_are_notified_of_every_change_in_the_same_order(
    redis: Redis, log: Log
) -> None:
    """This holds even if the first watcher causes the next change, and if one of them fails."""
    async with started(url(redis)) as (server, _):
        heard: list[tuple[str, bool, bool]] = []

        def first(available: bool) -> None:
            heard.append(("first", available, server.available))
            if available:
                server.stop()

        def second(available: bool) -> None:
            heard.append(("second", available, server.available))
            raise RuntimeError("a watcher of the test")

        server.watch(first)
        server.watch(second)
        server.watch(lambda available: heard.append(("third", available, server.available)))
        await until(lambda: len(heard) == 6)
    assert heard == [
        ("first", True, True), ("second", True, False), ("third", True, False),
        ("first", False, False), ("second", False, False), ("third", False, False),
    ]  # fmt: skip
    assert len([line for line in log.lines if "a callback failed" in line]) == 2


@pytest_twisted.ensureDeferred
async def test_a_lasting_outage_is_logged_again_now_and_then(
    redis: Redis, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relayd.stores.health._REMIND", 0.5)
    async with connected(url(redis), **QUICK) as (_, watch):
        begin = time.monotonic()
        redis.kill()
        await watch.until(False)
        await log.wait_for("is away for ")
        assert time.monotonic() - begin > 0.4
        assert len(log.lines) == 3
        assert log.lines[-1].endswith("Connection refused")


# -- bounds, errors, scripts


@pytest_twisted.ensureDeferred
async def test_unanswered_commands_are_bounded_in_number(redis: Redis) -> None:
    async with connected(url(redis), max_pending=10, ping_interval=60.0) as (server, _):
        await server.call("PING")  # the first ping is answered, too
        redis.pause()
        kept = [begin(server.call("INCR", "n")) for _ in range(4)]
        # publications use half of the bound, so that commands have the rest
        assert [server.publish(b"a", b"") for _ in range(8)] == [True] + [False] * 7
        kept += [begin(server.call("INCR", "n")) for _ in range(5)]
        refused = begin(server.call("INCR", "n"))
        assert refused.called
        assert await failures([refused]) == {RedisUnavailable}
        assert server.available
        redis.resume()
        assert [await one for one in kept] == list(range(1, 10))
        assert await server.call("GET", "n") == b"9"


@pytest_twisted.ensureDeferred
async def test_unanswered_commands_are_bounded_in_bytes(redis: Redis) -> None:
    async with connected(url(redis), max_pending_bytes=100_000, ping_interval=60.0) as (server, _):
        await server.call("PING")
        redis.pause()
        assert [server.publish(b"a", bytes(30_000)) for _ in range(4)] == [True] + [False] * 3
        assert server.publish(b"a", b"small")
        # commands have the half that publications leave
        kept = [begin(server.call("SET", "a", bytes(30_000))) for _ in range(2)]
        assert not any(each.called for each in kept)
        assert await failures([begin(server.call("SET", "a", bytes(30_000)))]) == {RedisUnavailable}
        redis.resume()
        assert [await each for each in kept] == [b"OK"] * 2
        assert await server.call("PING") == b"PONG"
        assert server.publish(b"a", bytes(30_000))  # what is answered makes room


@pytest_twisted.ensureDeferred
async def test_an_error_is_for_its_own_command_only(redis: Redis) -> None:
    async with connected(url(redis)) as (server, watch):
        await server.call("SET", "text", "a")
        answers = [
            begin(server.call(*words))
            for words in (("PING",), ("INCR", "text"), ("NONSENSE",), ("GET", "text"))
        ]
        (_, pong), (_, first), (_, second), (_, text) = await DeferredList(
            answers, consumeErrors=True
        )
        assert (pong, text) == (b"PONG", b"a")
        assert [first.type, second.type] == [RedisRefused, RedisRefused]
        assert first.value.code == "ERR"
        with pytest.raises(RedisRefused) as caught:
            await server.call("LPUSH", "text", "b")
        assert caught.value.code == "WRONGTYPE"
        assert await server.call("MGET", "text", "nothing") == [b"a", None]
        assert watch.changes == [True]


@pytest_twisted.ensureDeferred
async def test_a_publish_that_redis_refuses_is_logged_once(log: Log) -> None:
    with Redis("user mute on >pw ~* &* +@all -publish") as redis:
        async with connected(f"redis://mute:pw@127.0.0.1:{redis.port}") as (server, watch):
            for _ in range(3):
                assert server.publish(b"a", b"lost")
            await server.call("PING")
            assert len([line for line in log.lines if "(no permission): NOPERM" in line]) == 1
            assert watch.changes == [True]


@pytest_twisted.ensureDeferred
async def test_a_script_runs_by_its_hash_and_is_sent_when_redis_has_forgotten_it(
    redis: Redis,
) -> None:
    script = Script("return {KEYS[1], ARGV[1], ARGV[2]}")
    async with connected(url(redis)) as (server, _):
        for _ in range(2):
            assert await server.run(script, ["ключ"], [b"\xff", 7]) == [
                "ключ".encode(), b"\xff", b"7",
            ]  # fmt: skip
        calls = stat_of_command(redis, "eval")
        redis.tell("SCRIPT", "FLUSH")
        assert await server.run(script, [""], ("", "a")) == [b"", b"", b"a"]
        assert (calls, stat_of_command(redis, "eval")) == (1, 2)
        with pytest.raises(RedisRefused, match="my own words"):
            await server.run(Script("return redis.error_reply('MINE my own words')"))


# -- subscriptions


@pytest_twisted.ensureDeferred
async def test_an_exception_in_a_receiver_affects_no_other_receiver(redis: Redis, log: Log) -> None:
    def fail(message: bytes) -> None:
        raise RuntimeError(message)

    async with connected(url(redis)) as (server, watch):
        inbox = Inbox()
        await server.subscribe("bad", fail)
        await server.subscribe("good", inbox)
        server.publish(b"bad", b"1")
        server.publish(b"good", b"2")
        server.publish(b"bad", b"3")
        server.publish(b"good", b"4")
        assert await inbox.take(2) == [b"2", b"4"]
        assert watch.changes == [True]
    assert len([line for line in log.lines if "a receiver failed" in line]) == 2


@pytest_twisted.ensureDeferred
async def test_a_channel_that_redis_does_not_allow_is_refused() -> None:
    with Redis("user alice on >pw ~* &ours:* +@all") as redis:
        target = f"redis://alice:pw@127.0.0.1:{redis.port}"
        async with connected(target, **QUICK) as (server, watch):
            with pytest.raises(RedisRefused) as caught:
                await server.subscribe("theirs", Inbox())
            assert caught.value.code == "NOPERM"
            inbox = Inbox()
            await server.subscribe("ours:a", inbox)
            redis.kill()
            await watch.until(False)
            redis.start()
            await watch.until(True)
            assert redis.tell("PUBSUB", "CHANNELS") == [b"ours:a"]

            # a subscription that cannot be restored: not available until it can
            redis.tell("ACL", "SETUSER", "alice", "resetchannels", "&other:*")
            redis.tell("CLIENT", "KILL", "TYPE", "pubsub")
            await watch.until(False)
            attempts = stat(redis, "total_connections_received") + 3
            await until(lambda: stat(redis, "total_connections_received") > attempts)
            assert not server.available
            redis.tell("ACL", "SETUSER", "alice", "&ours:*")
            await watch.until(True)
            server.publish(b"ours:a", b"1")
            assert await inbox.take() == [b"1"]


@pytest_twisted.ensureDeferred
async def test_a_redis_user_with_few_permissions_is_enough() -> None:
    """No ROLE, INFO, CLIENT: the greeting goes on without them."""
    rules = "-@all +ping +time +publish +subscribe +unsubscribe +get +set"
    with Redis(f"user alice on >pw ~* &* {rules}") as redis:
        async with connected(f"redis://alice:pw@127.0.0.1:{redis.port}") as (server, _):
            await serves(server)


async def confirm(server: RedisServer, channel: str, inbox: Inbox, confirmed: list[Inbox]) -> None:
    """Subscribes, and notes the inbox if that succeeds."""
    with contextlib.suppress(CancelledError, RedisUnavailable):
        await server.subscribe(channel, inbox)
        confirmed.append(inbox)


@pytest.mark.parametrize("seed", range(5))
@pytest_twisted.ensureDeferred
async def test_the_last_subscribe_or_unsubscribe_of_a_channel_wins(redis: Redis, seed: int) -> None:
    """Subscribing and unsubscribing at random, with connections lost in between."""
    chance = random.Random(seed)
    channels = [f"c{number}" for number in range(5)]
    async with connected(url(redis), **QUICK) as (server, watch):
        last = Inbox()
        await server.subscribe("last", last)
        wanted: dict[str, Inbox] = {}
        every: list[tuple[str, Inbox]] = []
        confirmed: list[Inbox] = []
        waiting: list[Deferred[None]] = []
        for step in range(400):
            channel = chance.choice(channels)
            if step in (150, 300):
                redis.tell("CLIENT", "KILL", "TYPE", "pubsub")
                await watch.until(False)
                await watch.until(True)
                await DeferredList(waiting)
                # what was not confirmed when the connection was lost is not registered
                wanted = {name: box for name, box in wanted.items() if box in confirmed}
            if chance.random() < 0.5:
                inbox = wanted[channel] = Inbox()
                every.append((channel, inbox))
                waiting.append(begin(confirm(server, channel, inbox, confirmed)))
            else:
                wanted.pop(channel, None)
                server.unsubscribe(channel)
            if chance.random() < 0.3:
                await turn()
        await DeferredList(waiting)
        await server.subscribe("last", last)
        assert set(redis.tell("PUBSUB", "CHANNELS")) == {b"last", *(c.encode() for c in wanted)}
        for _, inbox in every:
            inbox.messages.clear()
        for channel in (*channels, "last"):
            server.publish(channel.encode(), channel.encode())
        await last.take()
        for channel, inbox in every:
            expected = [channel.encode()] if wanted.get(channel) is inbox else []
            assert inbox.messages == expected


@pytest_twisted.ensureDeferred
async def test_a_cancelled_subscription_receives_nothing(redis: Redis) -> None:
    async with connected(url(redis)) as (server, _):
        first, second = Inbox(), Inbox()
        cancelled = server.subscribe("a", first)
        cancelled.cancel()
        assert await failures([cancelled]) == {CancelledError}
        overtaken = server.subscribe("b", first)
        await server.subscribe("b", second)
        assert await failures([overtaken]) == {CancelledError}
        assert redis.tell("PUBSUB", "CHANNELS") == [b"b"]
        server.publish(b"b", b"1")
        assert await second.take() == [b"1"]
        assert first.messages == []


# -- the end, and several servers


@pytest_twisted.ensureDeferred
async def test_a_payload_published_before_the_stop_arrives(redis: Redis) -> None:
    before = stat_of_command(redis, "publish")
    async with connected(url(redis)) as (server, watch):
        for _ in range(1000):
            assert server.publish(b"a", b"in time")
        under_way = begin(server.call("PING"))
        stopping = server.stop()
        assert watch.changes == [True, False]
        assert await failures([under_way]) == {RedisUnanswered}
        assert not server.publish(b"a", b"late")
        await stopping
        await until(lambda: redis.connections() == 0)
        assert stat_of_command(redis, "publish") - before == 1000


@pytest_twisted.ensureDeferred
async def test_a_server_stops_while_it_connects(redis: Redis) -> None:
    redis.pause()
    async with started(url(redis)) as (server, watch):
        for _ in range(3):
            await turn()
    redis.resume()
    async with started("redis://127.0.0.1:1") as (server, watch):
        for _ in range(3):
            await turn()
    await until(lambda: redis.connections() == 0)
    assert watch.changes == []
    assert not server.available


@pytest_twisted.ensureDeferred
async def test_a_key_belongs_to_one_of_several_servers() -> None:
    from twisted.internet import reactor

    with Redis() as first, Redis() as second, Redis() as third:
        servers = (first, second, third)
        shards = Shards(urls.parse_all([url(redis) for redis in servers]), reactor)
        watches = [Watch(server) for server in shards.servers]
        shards.start()
        for watch in watches:
            await watch.until(True)
        before = shards.available
        for number in range(300):
            await shards.find(f"key {number}").call("SET", f"key {number}", number)
        sizes = [redis.tell("DBSIZE") for redis in servers]
        assert sum(sizes) == 300
        assert min(sizes) > 50
        second.kill()
        await watches[1].until(False)
        assert (before, shards.available) == (True, False)
        assert [server.available for server in shards.servers] == [True, False, True]
        for number in range(300):
            server = shards.find(f"key {number}")
            if server.available:
                assert await server.call("GET", f"key {number}") == b"%d" % number
        await shards.stop()
        assert not any(server.available for server in shards.servers)

"""The servers of a run, and their faults: two of relayd, Redis with a replica, PostgreSQL.

Each relayd has a cable of its own to Redis, and one to PostgreSQL. Everything that is broken is
mended after some seconds; `Faults` says which of it loses what a store had acknowledged.
"""

import asyncio
import contextlib
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

from relayd.storage import schema
from tests.cable import Cable
from tests.daemon import Daemon
from tests.redis_servers import Redis
from tests.servers import PostgreSQL
from tests.suspension import suspend
from tests.torture.clients import Client
from tests.torture.records import Record

PROCESSES = 2
DIFFICULTIES = 5000
"""The requests that a phone can make: each has a difficulty of its own, with one action."""

_ROWS = f"""
INSERT INTO quizzes (difficulty) SELECT n FROM generate_series(1, {DIFFICULTIES}) n;
INSERT INTO actions (id, difficulty) SELECT n, n FROM generate_series(1, {DIFFICULTIES}) n;
"""


class World:
    """All servers of a run.

    Attributes:
        redis: the server that the cables lead to.
        daemons: the processes of relayd.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="relayd-torture-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        durable = ("appendonly yes", "appendfsync always", "repl-diskless-sync-delay 0")
        self.redis, self.replica = (self._stack.enter_context(Redis(*durable)) for _ in range(2))
        self.replication = self._stack.enter_context(Cable(self.redis.port))
        self.postgresql = self._stack.enter_context(PostgreSQL())
        schema.migrate(self.postgresql.url())
        self.postgresql.execute(_ROWS)
        self.to_redis = [
            self._stack.enter_context(Cable(self.redis.port)) for _ in range(PROCESSES)
        ]
        self.to_postgresql = [
            self._stack.enter_context(Cable(self.postgresql.port)) for _ in range(PROCESSES)
        ]
        self.daemons: list[Daemon] = []
        try:
            for number in range(PROCESSES):
                self._spawn(number)
            self.follow()
        except BaseException:
            self.close()
            raise

    def _spawn(self, number: int) -> None:
        folder = self.folder / f"relayd-{number}"
        folder.mkdir()
        database = self.to_postgresql[number].port
        env = {
            "REDIS_URL": f"redis://127.0.0.1:{self.to_redis[number].port}",
            "DATABASE_URL": f"postgresql://relayd@127.0.0.1:{database}/postgres",
        }
        self.daemons.append(Daemon(folder, env).start())
        self._stack.callback(self._end, self.daemons[-1])

    @staticmethod
    def _end(daemon: Daemon) -> None:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.process.send_signal(signal.SIGCONT)
            daemon.stop()

    def close(self) -> None:
        """Stops everything and removes the folder."""
        self._stack.close()

    def follow(self) -> None:
        """Makes the replica follow the server, and waits until it does."""
        self.replication.lead_to(self.redis.port)
        self.replication.be("through")
        self.replica.tell("REPLICAOF", "127.0.0.1", self.replication.port)
        until = time.monotonic() + 20
        while b"master_link_status:up" not in self.replica.tell("INFO", "replication"):
            if time.monotonic() > until:
                raise AssertionError(f"the replica does not follow:\n{self.replica.log}")
            time.sleep(0.02)


class Faults:
    """What happens to a world. Each fault is begun and mended by one call.

    Args:
        world: what they happen to.
        record: gets the faults that lose something.
        clients: those whose connections may be reset.
        chance: draws which, how long and when.
    """

    def __init__(
        self, world: World, record: Record, clients: Sequence[Client], chance: random.Random
    ) -> None:
        self._world = world
        self._record = record
        self._clients = clients
        self._chance = chance
        self._older = world.folder / "older"
        self.counts: dict[str, int] = {}

    async def run(self, seconds: float) -> None:
        """Has faults of three kinds come beside one another; all are mended when it returns."""
        redis = [
            self.redis_is_paused, self.redis_is_killed, self.redis_is_emptied,
            self.redis_goes_back, self.redis_is_replaced, self.redis_forgets_scripts,
            self.redis_drops_clients, self.redis_is_cut_off,
        ]  # fmt: skip
        processes = [
            self.process_is_killed, self.process_is_restarted, self.process_is_paused,
            self.clients_are_reset,
        ]  # fmt: skip
        await asyncio.gather(
            self._keep_on(redis, seconds),
            self._keep_on(processes, seconds),
            self._keep_on([self.postgresql_is_cut_off, self.postgresql_is_paused], seconds),
        )

    async def _keep_on(
        self, faults: Sequence[Callable[[], Awaitable[None]]], seconds: float
    ) -> None:
        end = time.monotonic() + seconds
        while True:
            await asyncio.sleep(self._chance.uniform(0.5, 4))
            if time.monotonic() > end:
                return
            fault = self._chance.choice(faults)
            name = fault.__name__.replace("_", " ")
            self.counts[name] = self.counts.get(name, 0) + 1
            self._record.add("world", "fault", name=name)
            await fault()
            self._record.add("world", "mended", name=name)

    async def _hold(self, most: float = 5) -> None:
        await asyncio.sleep(self._chance.uniform(0.2, most))

    def _lossy(self) -> None:
        self._record.add("world", "lossy")

    # -- Redis

    async def redis_is_paused(self) -> None:
        with self._paused():
            await self._hold()

    @contextlib.contextmanager
    def _paused(self) -> Iterator[None]:
        self._world.redis.pause()
        try:
            yield
        finally:
            self._world.redis.resume()

    async def redis_is_killed(self) -> None:
        """It comes back with all that it has acknowledged."""
        self._world.redis.kill()
        await self._hold(3)
        await asyncio.to_thread(self._world.redis.start)

    async def redis_is_emptied(self) -> None:
        self._world.redis.kill()
        self._lossy()
        _empty(self._world.redis)
        await self._hold(2)
        await asyncio.to_thread(self._world.redis.start)
        self._lossy()

    async def redis_goes_back(self) -> None:
        """A copy of its files is put back; the first time, it is only made."""
        redis = self._world.redis
        if not self._older.exists():
            with self._paused():
                shutil.copytree(redis.folder / "appendonlydir", self._older)
            return
        redis.kill()
        self._lossy()
        _empty(redis)
        shutil.copytree(self._older, redis.folder / "appendonlydir")
        shutil.rmtree(self._older)
        await self._hold(2)
        await asyncio.to_thread(redis.start)
        self._lossy()

    async def redis_is_replaced(self) -> None:
        """Its replica, which lacks what came last, takes its place."""
        world = self._world
        world.replication.be("cut")
        await asyncio.sleep(self._chance.uniform(0.1, 1.5))
        world.redis.kill()
        self._lossy()
        for cable in world.to_redis:
            cable.be("cut")
        world.redis, world.replica = world.replica, world.redis
        world.redis.tell("REPLICAOF", "NO", "ONE")
        await self._hold(2)
        for cable in world.to_redis:
            cable.lead_to(world.redis.port)
            cable.be("through")
        self._lossy()
        _empty(world.replica)
        shutil.rmtree(self._older, ignore_errors=True)
        await asyncio.to_thread(world.replica.start)
        await asyncio.to_thread(world.follow)

    async def redis_forgets_scripts(self) -> None:
        self._world.redis.tell("SCRIPT", "FLUSH")

    async def redis_drops_clients(self) -> None:
        kind = self._chance.choice(["normal", "pubsub"])
        self._world.redis.tell("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")

    async def redis_is_cut_off(self) -> None:
        await self._cut_off(self._world.to_redis)

    async def _cut_off(self, cables: Sequence[Cable]) -> None:
        cable = self._chance.choice(cables)
        cable.be(self._chance.choice(["cut", "swallow"]))
        await self._hold(4)
        cable.be("through")

    # -- relayd and its clients

    async def process_is_killed(self) -> None:
        daemon = self._chance.choice(self._world.daemons)
        daemon.kill()
        await self._hold(2)
        daemon.start(wait=False)

    async def process_is_restarted(self) -> None:
        daemon = self._chance.choice(self._world.daemons)
        await asyncio.to_thread(daemon.stop)
        daemon.start(wait=False)

    async def process_is_paused(self) -> None:
        daemon = self._chance.choice(self._world.daemons)
        suspend(daemon.pid)
        try:
            await self._hold(6)
        finally:
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGCONT)

    async def clients_are_reset(self) -> None:
        for client in self._chance.sample(list(self._clients), len(self._clients) // 3):
            client.reset()

    # -- PostgreSQL

    async def postgresql_is_cut_off(self) -> None:
        await self._cut_off(self._world.to_postgresql)

    async def postgresql_is_paused(self) -> None:
        await asyncio.to_thread(self._world.postgresql.pause)
        try:
            await self._hold(4)
        finally:
            self._world.postgresql.resume()


def _empty(redis: Redis) -> None:
    """Removes what a server that does not run has on the disk."""
    shutil.rmtree(redis.folder / "appendonlydir", ignore_errors=True)
    (redis.folder / "dump.rdb").unlink(missing_ok=True)

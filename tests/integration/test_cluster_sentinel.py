"""Two relayds behind Redis Sentinel: the master dies, its replica takes over, service returns."""

import time

from tests.integration.clients import read, say
from tests.integration.conftest import Connect, Spawn
from tests.integration.waiting import eventually
from tests.redis_servers import Redis, Sentinel

PROMISE = 5.0
"""Seconds within which all works again after there is a new master."""


def test_service_returns_by_itself_within_5_s_of_the_new_master(
    spawn: Spawn, connect: Connect
) -> None:
    with (
        Redis("repl-diskless-sync-delay 0") as master,
        Redis(f"replicaof 127.0.0.1 {master.port}") as replica,
    ):
        eventually(lambda: replica.tell("ROLE")[3] == b"connected")
        with Sentinel(master.port) as sentinel:
            sentinel.wait_for_replica()
            # a master that is only slow stays the master
            sentinel.tell("SENTINEL", "SET", "service", "down-after-milliseconds", 60_000)
            url = f"sentinel://127.0.0.1:{sentinel.port}/service"
            here, there = (spawn(REDIS_URL=url) for _ in range(2))
            a, b = connect(here, "/ws/chat/r"), connect(there, "/ws/chat/r")
            say(a, {"message": "before"})
            before = [read(client) for client in (a, b)]
            assert before[0] == before[1]
            eventually(lambda: _has(replica, before[0]["id"]))
            sentinel.tell("SENTINEL", "SET", "service", "down-after-milliseconds", 500)
            master.kill()
            eventually(lambda: replica.tell("ROLE")[0] == b"master")
            began = time.monotonic()
            for daemon in (here, there):
                daemon.wait_until_ready()
            assert time.monotonic() - began < PROMISE
            for client in (a, b):
                assert read(client)["error"] == "store_unavailable"
                assert read(client)["status"] == "restored"
            say(b, {"message": "after"})
            after = [read(client) for client in (a, b)]
            assert after[0] == after[1]
            assert after[0]["message"] == "after"
            assert after[0]["id"] > before[0]["id"]


def _has(redis: Redis, id: int) -> bool:
    """Whether a message has been replicated."""
    return bool(redis.tell("XRANGE", "relayd:{chat/r}:messages", f"{id}-0", f"{id}-0"))

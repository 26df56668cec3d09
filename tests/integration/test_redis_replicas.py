"""`[redis] wait_replicas`: nobody sees a message that no replica has confirmed."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cable import Cable
from tests.integration.clients import read, say
from tests.integration.conftest import Connect, Spawn
from tests.integration.waiting import eventually
from tests.redis_servers import Redis

_MESSAGES = "relayd:{chat/r}:messages"


@pytest.fixture(scope="module")
def master() -> Iterator[Redis]:
    with Redis("repl-diskless-sync-delay 0", "repl-ping-replica-period 1") as redis:
        yield redis


def _connected(replica: Redis) -> bool:
    return bool(replica.tell("ROLE")[3] == b"connected")


def test_a_message_is_shown_once_a_replica_has_it_and_a_failover_loses_none(
    spawn: Spawn, connect: Connect, master: Redis
) -> None:
    with Cable(master.port) as link, Cable(master.port) as way, Redis() as replica:
        replica.tell("REPLICAOF", "127.0.0.1", link.port)
        eventually(lambda: _connected(replica))
        url = f"redis://127.0.0.1:{way.port}"
        here, there = (spawn(REDIS_URL=url, RELAYD_REDIS_WAIT_REPLICAS="1") for _ in range(2))
        a, b = connect(here, "/ws/chat/r"), connect(there, "/ws/chat/r")
        shown: list[Any] = []
        for number in range(20):
            say((a, b)[number % 2], {"message": f"m{number}"})
            shown.append(read(a))
            assert read(b) == shown[-1]
        assert replica.tell("XLEN", _MESSAGES) == 20
        both: list[list[Any]] = [[], []]
        for number in range(50):
            for client in (a, b):
                say(client, {"message": f"at once {number}"})
        for seen, client in zip(both, (a, b), strict=True):
            seen += [read(client) for _ in range(100)]
        assert both[0] == both[1]
        first = shown[-1]["id"] + 1
        assert [message["id"] for message in both[0]] == list(range(first, first + 100))

        link.be("cut")
        say(a, {"message": "not confirmed", "tag": "t"})
        assert read(a)["error"] == "outcome_unknown"
        assert master.tell("XLEN", _MESSAGES) == 121
        late = connect(there, "/ws/chat/r?history=2")
        assert read(late)["message"] == both[0][-1]["message"]  # nor does the history show it
        link.be("through")
        for client in (a, b, late):
            assert read(client)["message"] == "not confirmed"
        say(a, {"message": "not confirmed", "tag": "t"})
        again = read(a)
        assert again["tag"] == "t"
        assert "error" not in again
        say(b, {"message": "confirmed"})
        for client in (a, b, late):
            assert read(client)["message"] == "confirmed"

        way.lead_to(replica.port)
        master.kill()
        replica.tell("REPLICAOF", "NO", "ONE")
        for daemon in (here, there):
            daemon.wait_until_ready()
        reader = connect(here, "/ws/chat/r?history=1000")
        texts = [read(reader)["message"] for _ in range(122)]
        assert texts[:120] == [message["message"] for message in (*shown, *both[0])]
        assert texts[120:] == ["not confirmed", "confirmed"]
        say(reader, {"message": "without a replica"})
        answers = [read(reader)]
        while "error" not in answers[-1]:
            answers.append(read(reader))
        assert answers[-1]["error"] == "outcome_unknown", answers
        assert {answer.get("status") for answer in answers[:-1]} <= {"restored"}, answers

"""`relayctl status` and `relayctl publish`, with spawned relayds and a real Redis."""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from relayd import __version__
from tests.daemon import Daemon
from tests.integration import relayctl as command
from tests.integration.clients import PATIENCE, read, settle
from tests.integration.conftest import KEY, Connect, Dial, Spawn
from tests.integration.relayctl import check_failed
from tests.redis_servers import Redis
from tests.suspension import suspend


class Operator(command.Operator):
    """Asks for the status of all processes."""

    def status(self) -> dict[str, Any]:
        """What `relayctl status --json` prints."""
        done = self("status", "--json")
        assert done.returncode == 0, done
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def status_when(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status that the condition holds for; processes report every three seconds."""
        deadline = time.monotonic() + PATIENCE
        while not condition(found := self.status()):
            assert time.monotonic() < deadline, found
        return found


@pytest.fixture
def redis() -> Iterator[Redis]:
    """A Redis for one test."""
    with Redis() as server:
        yield server


def url(redis: Redis) -> str:
    return f"unix://{redis.socket}"


@pytest.fixture
def relayctl(redis: Redis, tmp_path: Path) -> Operator:
    return Operator(tmp_path, redis_url=url(redis))


def wait_for_processes(redis: Redis, count: int) -> None:
    """Returns when so many have registered."""
    deadline = time.monotonic() + PATIENCE
    while redis.tell("ZCARD", "relayd:processes") != count:
        assert time.monotonic() < deadline, "they do not come"
        time.sleep(0.01)


def pids(daemon: Daemon) -> dict[int, int]:
    """The process of each worker, by the worker's number."""
    found = re.findall(r"worker (\d+) is process (\d+)\n", daemon.log)
    return {int(number): int(pid) for number, pid in found}


def test_status_shows_every_process_and_names_the_dead_ones(
    redis: Redis, relayctl: Operator, spawn: Spawn, connect: Connect
) -> None:
    assert relayctl("status").stdout == "no process is registered under the prefix relayd\n"
    daemon = spawn(server_workers=2, redis_url=url(redis))
    wait_for_processes(redis, 2)
    clients = [connect(daemon, f"/ws/{path}") for path in ("camera", "camera", "push/a")]
    settle(*clients)
    kinds = {"camera": 2, "push": 1}
    found = relayctl.status_when(
        lambda found: (
            found["totals"]["connections"] == kinds
            # its first report may be older than its first ping
            and all(each["redis_round_trip"] is not None for each in found["processes"])
        )
    )
    assert {each["worker"]: each["pid"] for each in found["processes"]} == pids(daemon)
    for each in found["processes"]:
        assert (each["state"], each["version"]) == ("ok", __version__)
        assert each["listen"] == [daemon.url]
        assert 0 <= time.time() - each["started"] < 60
        assert each["groups"] <= sum(each["connections"].values())
        assert 0 < each["redis_round_trip"] < 2
    assert found["totals"] == {
        "processes": 2, "gone": 0, "connections": kinds, "deliveries_per_second": 0.0,
        "drops": {"replaced": 0, "too_slow": 0, "redis_away": 0, "invalid": 0},
    }  # fmt: skip
    lines = relayctl("status").stdout.splitlines()
    assert lines[-1] == "2 processes, 3 clients (camera 2, push 1), 0.0 deliveries/s, 0 drops"
    shown = {tuple(line.split()[2:4]) for line in lines[1:3]}
    assert shown == {(str(pid), f"w{number}") for number, pid in pids(daemon).items()}

    for pid in pids(daemon).values():
        suspend(pid)  # else they would say goodbye
    daemon.kill()
    for pid in pids(daemon).values():
        os.kill(pid, signal.SIGKILL)
    for each in found["processes"]:  # their leases run out
        redis.tell("DEL", f"relayd:process:{each['id']}:status")
    gone = relayctl.status()
    assert [each["id"] for each in gone["processes"]] == [each["id"] for each in found["processes"]]
    assert {each["state"] for each in gone["processes"]} == {"gone"}
    assert (gone["totals"]["processes"], gone["totals"]["gone"]) == (0, 2)
    lines = relayctl("status").stdout.splitlines()
    assert all(re.search(r"gone since \d\d:\d\d:\d\d$", line) for line in lines[1:3])
    assert lines[-1] == "0 processes, 0 clients, 0.0 deliveries/s, 0 drops; 2 gone"


def test_leases_and_records_of_dead_processes_expire(redis: Redis, spawn: Spawn) -> None:
    spawn(redis_url=url(redis))
    wait_for_processes(redis, 1)
    ((id),) = redis.tell("ZRANGE", "relayd:processes", 0, -1)
    key = f"relayd:process:{id.decode()}"
    assert 6_000 < redis.tell("PTTL", f"{key}:status") <= 10_000
    assert 3_590_000 < redis.tell("PTTL", f"{key}:last") <= 3_600_000
    assert 3_590_000 < redis.tell("PTTL", "relayd:processes") <= 3_600_000


def test_a_process_that_died_an_hour_ago_is_forgotten(
    redis: Redis, relayctl: Operator, spawn: Spawn
) -> None:
    seconds, _ = redis.tell("TIME")
    redis.tell("ZADD", "relayd:processes", int(seconds) - 3500, "late", int(seconds) - 3610, "old")
    for id in ("late", "old"):
        redis.tell("SET", f"relayd:process:{id}:last", "the report of another version")
    assert [each["id"] for each in relayctl.status()["processes"]] == ["late"]
    assert relayctl("status").stdout.splitlines()[1].split()[0] == "late"
    spawn(redis_url=url(redis))
    deadline = time.monotonic() + PATIENCE
    while redis.tell("ZSCORE", "relayd:processes", "old") is not None:
        assert time.monotonic() < deadline
    assert len(relayctl.status()["processes"]) == 2


def test_a_stopped_process_leaves_no_key_in_redis(redis: Redis, spawn: Spawn) -> None:
    daemon = spawn(redis_url=url(redis), redis_prefix="a:b")
    deadline = time.monotonic() + PATIENCE
    while redis.tell("EXISTS", "a:b:processes") == 0:
        assert time.monotonic() < deadline
    daemon.stop()
    assert redis.tell("KEYS", "*process*") == []


def test_status_shows_a_draining_process_as_draining(
    redis: Redis, relayctl: Operator, spawn: Spawn, dial: Dial
) -> None:
    daemon = spawn(redis_url=url(redis), server_drain_timeout=30)
    wait_for_processes(redis, 1)
    silent = dial(daemon).open("/ws/camera")
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGTERM)
    silent.close_frame()
    found = relayctl.status_when(lambda found: found["processes"][0]["state"] != "ok")
    assert found["processes"][0]["state"] == "draining"
    silent.reset()
    daemon.stop()
    assert relayctl.status()["processes"] == []


def test_processes_register_again_after_redis_has_lost_its_data(
    redis: Redis, relayctl: Operator, spawn: Spawn
) -> None:
    daemon = spawn(redis_url=url(redis))
    wait_for_processes(redis, 1)
    redis.kill()
    check_failed(relayctl("status"), 1, "Redis", "cannot be used")
    redis.start()
    wait_for_processes(redis, 1)
    assert relayctl.status()["processes"][0]["pid"] == daemon.pid


def test_with_several_redis_their_order_does_not_matter(
    redis: Redis, spawn: Spawn, tmp_path: Path
) -> None:
    with Redis() as other:
        daemon = spawn(redis_url=f"{url(redis)} {url(other)}")
        for urls in (f"{url(redis)} {url(other)}", f"{url(other)} {url(redis)}"):
            operator = Operator(tmp_path, redis_url=urls)
            found = operator.status_when(lambda found: found["processes"])
            assert [each["pid"] for each in found["processes"]] == [daemon.pid]
        daemon.stop()


# -- what may be wrong


def test_status_fails_without_redis_and_relayd(tmp_path: Path) -> None:
    check_failed(Operator(tmp_path)("status"), 1, "var/control.sock: no such socket")


def test_a_redis_that_denies_access_is_reported_in_a_sentence(tmp_path: Path) -> None:
    with Redis(password="correct") as redis:
        for login, word in (("", "NOAUTH"), (":wrong@", "WRONGPASS")):
            operator = Operator(tmp_path, redis_url=f"redis://{login}127.0.0.1:{redis.port}")
            done = operator("status")
            check_failed(done, 1, f"Redis 127.0.0.1:{redis.port} cannot be used: {word}")
            assert "wrong@" not in done.stderr
        redis.tell("ACL", "SETUSER", "weak", "on", ">pw", "+@connection", "+subscribe", "+time")
        operator = Operator(tmp_path, redis_url=f"redis://weak:pw@127.0.0.1:{redis.port}")
        check_failed(operator("status"), 1, "NOPERM", "zrangebyscore")


def test_a_redis_that_does_not_answer_is_reported_after_the_deadline(
    redis: Redis, tmp_path: Path
) -> None:
    redis.hang_up()
    redis.pause()
    operator = Operator(tmp_path, redis_url=url(redis), redis_deadline=0.3)
    began = time.monotonic()
    check_failed(operator("status"), 1, "cannot be used: no answer in 0.3 s")
    assert time.monotonic() - began < 10
    redis.resume()


# -- publish


def test_a_push_reaches_the_clients_of_all_processes(
    redis: Redis, relayctl: Operator, spawn: Spawn, connect: Connect
) -> None:
    daemons = [spawn(redis_url=url(redis)) for _ in range(2)]
    clients = [connect(daemon, "/ws/push/build") for daemon in daemons]
    settle(*clients)
    done = relayctl("publish", "push/build", '{"percent": 40.0}')
    assert done.stdout == "2 processes with clients of push/build got it\n"
    assert [client.recv(timeout=PATIENCE) for client in clients] == ['{"percent": 40.0}'] * 2
    done = relayctl("publish", "push/nobody", "{}")
    assert (done.returncode, done.stdout) == (0, "0 processes with clients of push/nobody got it\n")


def test_a_chat_message_is_kept_and_delivered_by_all_processes(
    redis: Redis, spawn: Spawn, connect: Connect, tmp_path: Path
) -> None:
    settings = {"redis_url": url(redis), "chat_message_prefix": "> "}
    daemons = [spawn(**settings) for _ in range(2)]
    clients = [connect(daemon, "/ws/chat/küche") for daemon in daemons]
    settle(*clients)
    done = Operator(tmp_path, **settings)("publish", "chat/küche", "Gruß")
    (first, second) = map(read, clients)
    assert first == second
    assert first["message"] == "> Gruß"
    assert done.stdout == f"posted in küche as message {first['id']}\n"
    assert read(connect(daemons[0], "/ws/chat/küche")) == first


@pytest.mark.parametrize(
    ("target", "text", "word"),
    [
        ("push/a", "[1]", "one JSON object"),
        ("push/a", "no", "one JSON object"),
        ("push/a b", "{}", "The name must be"),
        ("push/", "{}", "The name must be"),
        ("push", "{}", "The name must be"),
        ("camera/a", "{}", "push/TOPIC or chat/ROOM"),
        ("chat/a/b", "x", "The room name must be"),
        ("chat/a", "x" * 101, "max_message_size"),
    ],
)
def test_wrong_input_is_published_nowhere(
    tmp_path: Path, target: str, text: str, word: str
) -> None:
    operator = Operator(tmp_path, redis_url="redis://127.0.0.1:1", limits_max_message_size=100)
    check_failed(operator("publish", target, text), 2, word)


def test_publish_reports_an_unavailable_redis(tmp_path: Path) -> None:
    operator = Operator(tmp_path, redis_url="redis://127.0.0.1:1")
    for arguments in (("push/a", "{}"), ("chat/a", "x")):
        check_failed(operator("publish", *arguments), 1, "Redis 127.0.0.1:1 cannot be used")


def test_publish_without_redis_goes_through_the_only_process(
    relayd: Daemon, connect: Connect, tmp_path: Path
) -> None:
    listen = f"tcp:{relayd.port}:interface=127.0.0.1"
    operator = Operator(tmp_path, server_listen=listen, api_key=KEY)
    push, chat = connect(relayd, "/ws/push/a"), connect(relayd, "/ws/chat/ü?history=0")
    settle(push, chat)
    assert operator("publish", "push/a", '{"a": 1}').stdout == "1 client of push/a got it\n"
    assert push.recv(timeout=PATIENCE) == '{"a": 1}'
    done = operator("publish", "chat/ü", '"Hallo"')
    said = read(chat)
    assert said["message"] == '"Hallo"'
    assert done.stdout == f"posted in ü as message {said['id']}\n"
    wrong = Operator(tmp_path, server_listen=listen, api_key="wrong")
    check_failed(wrong("publish", "push/a", "{}"), 1, "answered 401", "Authorization")


def test_publish_without_redis_works_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "relayd.sock"
    settings = {"server_listen": f"unix:{path}", "api_key": KEY}
    operator = Operator(tmp_path, **settings)
    check_failed(operator("publish", "push/a", "{}"), 1, f"unix:{path} cannot be reached")
    daemon = Daemon(tmp_path, {"RELAYD_API_KEY": KEY}, "--listen", f"unix:{path}").start()
    try:
        assert operator("publish", "push/a", "{}").stdout == "0 clients of push/a got it\n"
    finally:
        daemon.stop()


def test_publish_without_redis_names_what_is_missing(tmp_path: Path) -> None:
    check_failed(Operator(tmp_path)("publish", "push/a", "{}"), 1, "[redis] url", "[api] key")
    operator = Operator(tmp_path, api_key=KEY, server_listen="ssl:1:privateKey=a:certKey=b")
    assert operator("publish", "push/a", "{}").returncode == 2

"""relayctl beside the parent of two workers, which asks both over their sockets."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.integration.clients import PATIENCE, Refused, say, settle
from tests.integration.conftest import Connect, Spawn
from tests.integration.relayctl import Operator, ids
from tests.integration.waiting import eventually, stopped
from tests.integration.workers import clients_of, pids, wait_for_workers
from tests.ports import free_port
from tests.redis_servers import Redis
from tests.suspension import suspend

UUID = "123e4567-e89b-42d3-a456-426614174000"


@pytest.fixture
def redis() -> Iterator[Redis]:
    """A Redis for one test."""
    with Redis() as server:
        yield server


@pytest.fixture
def daemon(spawn: Spawn, redis: Redis) -> Daemon:
    """Two workers that serve and have Redis."""
    running = spawn(
        wait=False,
        server_workers=2,
        server_spread="connections",
        redis_url=f"unix://{redis.socket}",
    )
    wait_for_workers(running)
    return running


@pytest.fixture
def relayctl(daemon: Daemon, redis: Redis) -> Operator:
    return Operator(daemon.folder, redis_url=f"unix://{redis.socket}")


def test_status_shows_both_workers_and_other_processes(
    daemon: Daemon, relayctl: Operator, spawn: Spawn, redis: Redis
) -> None:
    local = relayctl.json("status")["local"]
    assert (local["pid"], local["workers"], local["missing"]) == (daemon.pid, 2, [])
    assert {each["worker"]: each["pid"] for each in local["processes"]} == pids(daemon)
    assert {each["redis"]["state"] for each in local["processes"]} == {"ok"}
    lines = relayctl("status").stdout.splitlines()
    assert lines[0].startswith("PROCESS ")
    assert [line.split()[0] for line in lines if line.startswith("w")] == ["w1", "w2"]
    assert not any(line.startswith("ID ") for line in lines)
    other = spawn(redis_url=f"unix://{redis.socket}")
    eventually(lambda: relayctl.json("status")["totals"]["processes"] == 3)
    shown = relayctl("status").stdout
    assert shown.startswith("ID ")
    assert "\non this machine:\nPROCESS " in shown
    other.stop()
    sockets = sorted((daemon.folder / "var").glob("*.sock"))
    assert [each.name for each in sockets] == [
        "control-w1.sock", "control-w2.sock", "control.sock",
    ]  # fmt: skip
    assert [each.stat().st_mode & 0o777 for each in sockets] == [0o600, 0o600, 0o660]
    daemon.stop()
    assert not list((daemon.folder / "var").glob("*.sock"))


def test_relayctl_lists_clients_rooms_and_pairs_of_both_workers(
    daemon: Daemon, relayctl: Operator, connect: Connect
) -> None:
    cameras = clients_of(daemon, connect, 1) + clients_of(daemon, connect, 2)
    settle(*cameras)
    found = relayctl.json("clients", "--kind", "camera", "--sort", "since")
    assert found["total"] == 4
    assert [each["id"][:3] for each in found["found"]] == ["w1-", "w1-", "w2-", "w2-"]
    assert [each["id"][:3] for each in relayctl.json("clients", "--limit", "3")["found"]] == [
        "w1-", "w1-", "w2-",
    ]  # fmt: skip
    assert relayctl.json("rooms")["found"] == [{"group": "camera/g", "members": 4}]
    one, two = pids(daemon).values()
    with stopped(two):
        headset = connect(daemon, f"/ws/difficulty/unity/{UUID}")
    with stopped(one):
        phone = connect(daemon, f"/ws/difficulty/android/{UUID}")
    settle(headset, phone)
    pair = {"uuid": UUID, "headset": True, "phone": True}
    assert relayctl.json("pairs")["found"] == [pair]


def test_tail_and_trace_go_through_the_parent(
    daemon: Daemon, relayctl: Operator, connect: Connect
) -> None:
    cameras = clients_of(daemon, connect, 1)[:1] + clients_of(daemon, connect, 2)[:1]
    settle(*cameras)
    (id,) = [each for each in ids(relayctl, "--sort", "messages") if each.startswith("w2-")][:1]
    wrong = relayctl("trace", "c1")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "has the form w2-c17" in wrong.stderr
    gone = relayctl("trace", "w2-c999999")
    assert (gone.returncode, gone.stderr) == (1, "Error: There is no open connection w2-c999999.\n")
    assert relayctl("trace", "w9-c1").returncode == 1
    with relayctl.streaming("tail", "camera/g") as tail, relayctl.streaming("trace", id) as trace:
        for number, camera in enumerate(cameras):
            say(camera, {"x": number})
            assert tail.next()["frame"]["x"] == number
        outs = [trace.next() for _ in range(3)]
        assert sorted(each["event"] for each in outs) == ["in", "out", "out"]
        assert tail.interrupt() == 130
        assert trace.interrupt() == 130


def test_kick_reaches_the_worker_that_is_named(
    daemon: Daemon, relayctl: Operator, connect: Connect
) -> None:
    clients = clients_of(daemon, connect, 1) + clients_of(daemon, connect, 2)
    settle(*clients)
    one, *_, two = ids(relayctl)
    done = relayctl("kick", one, two, "w1-c999999", "--yes", "--code", "4000")
    assert (done.returncode, done.stdout) == (1, "2 connections closed\n")
    assert done.stderr == "Error: there is no open connection w1-c999999\n"
    closed = [client for client in clients if client.protocol.close_code is not None]
    eventually(lambda: relayctl.json("clients")["total"] == 2)
    for client in clients:
        try:
            client.ping().wait(PATIENCE)
        except Exception:
            closed.append(client)
    assert len({id(client) for client in closed}) == 2
    assert daemon.log.count("relayctl kick by uid") == 1


def test_drain_and_log_level_hold_for_workers_that_start_later(
    daemon: Daemon, relayctl: Operator
) -> None:
    assert relayctl("drain").returncode == 0
    assert relayctl.json("log-level", "debug") == {"level": "debug", "missing": []}
    assert {Refused(daemon, "/ws/camera").error for _ in range(6)} == {"draining"}
    for pid in pids(daemon).values():
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: daemon.log.count("serves\n") == 4)

    def all_drain() -> bool:
        processes = relayctl.json("status")["local"]["processes"]
        return [each["draining"] for each in processes] == [True, True]

    eventually(all_drain)
    assert Refused(daemon, "/ws/camera").error == "draining"
    assert relayctl("undrain").returncode == 0
    assert daemon.get("/readyz")[0] == 200


def test_the_socket_paths_of_workers_must_not_be_too_long(spawn: Spawn, redis: Redis) -> None:
    path = f"/tmp/{'x' * 101}"
    daemon = spawn(
        wait=False, server_workers=2, redis_url=f"unix://{redis.socket}", control_socket=path
    )
    assert daemon.process is not None
    assert daemon.process.wait(timeout=30) == 1
    assert f"relayd: [control] socket: {path}-w1 has 109 bytes" in daemon.log
    assert "is process" not in daemon.log


def test_a_reload_reaches_all_workers(
    spawn: Spawn, redis: Redis, tmp_path: Path, connect: Connect
) -> None:
    path = tmp_path / "relayd.toml"
    path.write_text("")
    url = f"unix://{redis.socket}"
    spread = "connections"
    daemon = spawn(
        wait=False, RELAYD_CONFIG=path, server_workers=2, server_spread=spread, redis_url=url
    )
    wait_for_workers(daemon)
    relayctl = Operator(daemon.folder)
    assert relayctl("log-level", "error").returncode == 0
    path.write_text('[log]\nlevel = "debug"\n[limits]\nmax_connections = 1\n')
    assert [each["key"] for each in relayctl.json("reload")["applied"]] == [
        "max_connections", "level",
    ]  # fmt: skip
    assert relayctl.json("log-level")["level"] == "debug"
    os.kill(pids(daemon)[2], signal.SIGKILL)
    eventually(lambda: daemon.log.count("serves\n") == 3)
    for number in (1, 2):
        (other,) = [pid for each, pid in pids(daemon).items() if each != number]
        with stopped(other):
            settle(connect(daemon, "/ws/camera"))
            eventually(lambda: Refused(daemon, "/ws/camera").error == "too_many_connections")


def test_a_worker_that_hangs_is_named_within_a_bound(
    daemon: Daemon, relayctl: Operator, connect: Connect
) -> None:
    settle(*clients_of(daemon, connect, 1), *clients_of(daemon, connect, 2))
    mine = "Error: worker 2 does not answer; its clients are missing here\n"
    with stopped(pids(daemon)[2]):
        began = time.monotonic()
        done = relayctl("clients", "--json")
        assert time.monotonic() - began < PATIENCE
        assert (done.returncode, done.stderr) == (1, mine)
        assert json.loads(done.stdout)["missing"] == [2]
        assert [each["id"][:3] for each in json.loads(done.stdout)["found"]] == ["w1-", "w1-"]
        status = relayctl("status")
        assert status.returncode == 0
        assert status.stdout.endswith("\nworker 2 does not answer\n")
        drained = relayctl("drain")
        assert (drained.returncode, drained.stderr) == (1, "Error: worker 2 does not answer\n")
        trace = relayctl("trace", "w2-c1")
        assert (trace.returncode, trace.stderr) == (1, "Error: Worker 2 does not answer.\n")


def test_a_worker_replaces_the_control_socket_of_one_that_still_lives(
    spawn: Spawn, redis: Redis
) -> None:
    """A parent that was killed leaves workers that drain for a while."""
    settings = {"server_workers": 2, "redis_url": f"unix://{redis.socket}"}
    daemon = spawn(wait=False, **settings)
    wait_for_workers(daemon)
    old = tuple(pids(daemon).values())
    for pid in old:
        suspend(pid)
    daemon.kill()
    try:
        daemon.port = free_port()  # the old workers still have the other one
        daemon.start(wait=False)
        eventually(lambda: daemon.log.count("serves\n") == 4)
        relayctl = Operator(daemon.folder)
        local = relayctl.json("status")
        assert (local["missing"], len(local["processes"])) == ([], 2)
        for pid in old:
            os.kill(pid, signal.SIGCONT)
        eventually(lambda: daemon.log.count("the parent process has ended") == 2)
        eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in old))
        assert relayctl.json("status")["missing"] == []
    finally:
        for pid in old:
            if os.path.exists(f"/proc/{pid}"):
                os.kill(pid, signal.SIGKILL)

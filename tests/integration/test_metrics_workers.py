"""`/metrics` of a relayd with workers: whoever is asked, it is the sum, also when a worker died."""

import http.client
import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.daemon import Daemon
from tests.integration.clients import PATIENCE, read, say, settle
from tests.integration.conftest import Connect, Spawn
from tests.integration.scraping import scrape, value
from tests.integration.waiting import eventually, stopped
from tests.integration.workers import clients_of, pids, wait_for_workers

POSE = {"x": 1, "y": 2, "z": 3}
KINDS = ("camera", "difficulty", "chat", "push", "echo")


def ask_socket(path: Path, target: str) -> str:
    """What a control socket answers, as `curl --unix-socket` would show it."""
    connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(PATIENCE)
    connection.sock.connect(str(path))
    connection.request("GET", target)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200, text
    return text


def answered(ask: Callable[[], dict[str, Metric]], *, missing: int = 0) -> dict[str, Metric]:
    """Asks until exactly so many workers have not answered in time; the figures of the others."""
    deadline = time.monotonic() + PATIENCE
    while value(metrics := ask(), "relayd_workers_unanswered") != missing:
        assert time.monotonic() < deadline, "workers do not answer"
    return metrics


def scrape_control(daemon: Daemon) -> dict[str, Metric]:
    """All families that the control socket shows, by their names."""
    text = ask_socket(daemon.folder / "var" / "control.sock", "/metrics")
    return {metric.name: metric for metric in text_string_to_metric_families(text)}


def growing(metrics: dict[str, Metric]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All figures that must never go back."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for metric in metrics.values()
        if metric.type in ("counter", "histogram")
        for sample in metric.samples
    }


def lost(before: dict[Any, float], after: dict[Any, float]) -> list[str]:
    """What has gone back."""
    return [
        f"{key}: {old} -> {after.get(key)}"
        for key, old in before.items()
        if after.get(key, -1) < old
    ]


def test_any_worker_answers_with_the_exact_sum(spawn_workers: Spawn, connect: Connect) -> None:
    daemon = spawn_workers()
    first, second = (clients_of(daemon, connect, number) for number in (1, 2))
    clients = [*first, *second]
    for client, count in zip(clients, (10, 20, 30, 40), strict=True):
        for _ in range(count):
            say(client, POSE)
    for client in clients:
        for _ in range(100):
            assert read(client) == POSE
    settle(*clients)
    for _ in range(10):  # either worker may take the connection
        metrics = answered(lambda: scrape(daemon))
        assert value(metrics, "relayd_connections", kind="camera") == 4
        assert value(metrics, "relayd_connections_opened_total", kind="camera") == 4
        assert value(metrics, "relayd_messages_received_total", kind="camera") == 100
        assert value(metrics, "relayd_deliveries_total") == 400
        assert value(metrics, "relayd_groups", kind="camera") == 2  # one in each
        assert value(metrics, "relayd_redis_servers") == 1
        assert value(metrics, "relayd_redis_servers_up") == 1
        assert value(metrics, "relayd_workers") == value(metrics, "relayd_workers_serving") == 2
        assert value(metrics, "relayd_workers_unanswered") == 0
        assert value(metrics, "relayd_worker_restarts_total") == 0
        versions = [sample.value for sample in metrics["relayd_build_info"].samples]
        assert versions == [1]
    # the parent and both workers
    memory = sum(
        int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) * 1024
        for pid in (daemon.pid, *pids(daemon).values())
    )
    assert value(metrics, "process_resident_memory_bytes") == pytest.approx(memory, rel=0.1)


def test_the_control_socket_shows_the_metrics_regardless_of_allowed_networks(
    spawn_workers: Spawn, connect: Connect
) -> None:
    daemon = spawn_workers(metrics_allow="192.0.2.0/24")
    clients_of(daemon, connect, 1)
    assert daemon.get("/metrics")[0] == 403
    metrics = answered(lambda: scrape_control(daemon))
    assert value(metrics, "relayd_connections", kind="camera") == 2
    assert value(metrics, "relayd_workers_serving") == 2


def test_a_scrape_leaves_no_line_in_the_log(spawn_workers: Spawn) -> None:
    """Prometheus comes every few seconds, and the parent asks its workers each time."""
    daemon = spawn_workers()
    assert daemon.get("/metrics")[0] == 200
    assert "HTTP11ClientFactory" not in daemon.log


def test_the_control_socket_of_one_process_shows_its_figures(spawn: Spawn) -> None:
    daemon = spawn(metrics_enabled=False)
    assert daemon.get("/metrics")[0] == 404
    assert value(scrape_control(daemon), "relayd_workers") == 1


def test_when_a_worker_is_killed_no_counter_goes_back(
    spawn_workers: Spawn, connect: Connect
) -> None:
    daemon = spawn_workers()
    victim, other = clients_of(daemon, connect, 1)[0], clients_of(daemon, connect, 2)[0]
    for _ in range(25):
        for client in (victim, other):
            say(client, POSE)
    for client in (victim, other):
        for _ in range(50):
            read(client)
    settle(victim, other)
    before = growing(answered(lambda: scrape(daemon)))

    os.kill(pids(daemon)[1], signal.SIGKILL)
    eventually(lambda: "killed by SIGKILL" in daemon.log)
    meanwhile = scrape(daemon)
    assert lost(before, growing(meanwhile)) == []
    wait_for_workers(daemon, 3)
    after = answered(lambda: scrape(daemon))
    assert lost(growing(meanwhile), growing(after)) == []
    assert value(after, "relayd_worker_restarts_total") == 1
    # exact: everything was asked for before it died
    assert value(after, "relayd_messages_received_total", kind="camera") == 50
    assert value(after, "relayd_connections", kind="camera") == 2
    for client in clients_of(daemon, connect, 1):
        say(client, POSE)
        assert read(client) == POSE
        settle(client)
    last = answered(lambda: scrape(daemon))
    assert value(last, "relayd_messages_received_total", kind="camera") == 52


def test_a_worker_that_does_not_answer_is_left_out_and_named(
    spawn_workers: Spawn, connect: Connect
) -> None:
    """Its connections are missing, but what only grows stands still."""
    daemon = spawn_workers()
    for number in (1, 2):
        clients_of(daemon, connect, number)
    before = answered(lambda: scrape(daemon))
    assert value(before, "relayd_connections", kind="camera") == 4
    with stopped(pids(daemon)[1]):
        meanwhile = answered(lambda: scrape(daemon), missing=1)
    assert value(meanwhile, "relayd_workers_serving") == 2
    assert value(meanwhile, "relayd_connections", kind="camera") == 2
    assert lost(growing(before), growing(meanwhile)) == []
    after = answered(lambda: scrape(daemon))
    assert value(after, "relayd_connections", kind="camera") == 4
    assert lost(growing(meanwhile), growing(after)) == []


def test_metrics_without_a_control_socket_are_refused_with_the_reason(
    spawn_workers: Spawn,
) -> None:
    daemon = spawn_workers(control_socket="off")
    status, answer = daemon.get("/metrics")
    assert (status, answer["error"]) == (503, "internal_error")
    assert "[control] socket" in answer["message"]


def test_a_worker_waits_for_an_unresponsive_parent_until_a_deadline(spawn_workers: Spawn) -> None:
    daemon = spawn_workers()
    with stopped(daemon.pid):
        status, answer = daemon.get("/metrics")
    assert (status, answer["error"]) == (503, "timeout")
    assert daemon.get("/metrics")[0] == 200

"""Strangers who hold connections: files stay for relayd's own use, and clients go on.

Each test is an attack that was tried: with its files used up, a relayd could neither open its
database nor answer `/healthz` or `relayctl`.
"""

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.daemon import Daemon
from tests.integration.alerting import alerts
from tests.integration.clients import PATIENCE, Refused, read, say
from tests.integration.conftest import Connect
from tests.integration.raw import Raw, handshake
from tests.integration.relayctl import Operator
from tests.integration.scraping import scrape, value
from tests.integration.waiting import eventually

FILES = 300


@pytest.fixture(scope="module")
def few_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A relayd that may open 300 files."""
    node = Daemon(tmp_path_factory.mktemp("few"), {"RELAYD_ECHO_ENABLED": "true"})
    node.prefix = ("prlimit", f"--nofile={FILES}:{FILES}")
    node.start()
    yield node
    node.stop()


@contextlib.contextmanager
def strangers(node: Daemon, count: int, *first: bytes) -> Iterator[list[socket.socket]]:
    """Connections that send these bytes and then nothing."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            stranger = stack.enter_context(socket.create_connection(("127.0.0.1", node.port)))
            with contextlib.suppress(ConnectionError):
                stranger.sendall(b"".join(first))
            found.append(stranger)
        yield found


def files_of(node: Daemon) -> int:
    """The files that a relayd has open."""
    return len(os.listdir(f"/proc/{node.pid}/fd"))


def check_all_answers(node: Daemon, *, admits: bool = True) -> None:
    """Health, the database behind /readyz, and relayctl answer."""
    assert node.get("/healthz") == (200, {"status": "ok"})
    status, ready = node.get("/readyz")
    assert status == 200, ready
    assert Operator(node.folder).json("status")["processes"]
    if admits:
        with node.connect("/ws/echo") as client:
            say(client, {"there": 1})
            assert read(client) == {"there": 1}


@pytest.mark.parametrize(
    "first", [b"", b"GET / HT", b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"],
    ids=["silent", "half a head", "kept alive"],
)  # fmt: skip
def test_500_half_open_or_kept_alive_connections_at_300_files_keep_nobody_out(
    few_files: Daemon, connect: Connect, first: bytes
) -> None:
    member = connect(few_files, "/ws/chat/inside")
    with strangers(few_files, 500, first):
        check_all_answers(few_files)
        assert files_of(few_files) < FILES - 16
        say(member, {"message": "still here"})
        assert read(member)["message"] == "still here"
    assert "Too many open files" not in few_files.log
    assert "EMFILE" not in few_files.log


def test_idle_websockets_fill_only_their_places_at_300_files(
    few_files: Daemon, connect: Connect
) -> None:
    """The files that are reserved, and the share of half-open connections, stay free of them."""
    member = connect(few_files, "/ws/chat/inside")
    with contextlib.ExitStack() as stack:
        for _ in range(FILES):
            client = stack.enter_context(Raw(few_files.port))
            client.send(handshake("/ws/camera/idle"))
            answer = client.response()
            if answer.status != 101:
                assert (answer.status, answer.json["error"]) == (429, "too_many_connections")
        check_all_answers(few_files, admits=False)
        with strangers(few_files, 200, b"GET / HT"):
            check_all_answers(few_files, admits=False)
            say(member, {"message": "still here"})
            assert read(member)["message"] == "still here"
    await_place(few_files)
    check_all_answers(few_files)


def await_place(node: Daemon) -> None:
    """Returns when a WebSocket is admitted again."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(InvalidStatus), node.connect("/ws/echo"):
            return
        assert time.monotonic() < deadline


def test_60_handshakes_that_are_refused_with_a_close_take_no_place_of_a_client(
    tmp_path: Path, connect: Connect
) -> None:
    node = Daemon(
        tmp_path,
        {
            "RELAYD_AUTH_SECRET": "a-secret-for-tests-of-32-bytes-or-more",
            "RELAYD_AUTH_REQUIRED": "true",
            "RELAYD_LIMITS_MAX_CONNECTIONS": "50",
        },
    ).start()
    try:
        operator = Operator(tmp_path, auth_secret="a-secret-for-tests-of-32-bytes-or-more")
        made = operator("token", "create", "--user", "ada")
        token = made.stdout.strip()
        with strangers(node, 60, handshake("/ws/camera?refuse=close")) as refused:
            for stranger in refused:
                assert stranger.recv(12) in (b"HTTP/1.1 101", b"HTTP/1.1 401")
            clients = [connect(node, f"/ws/camera?token={token}") for _ in range(50)]
            assert Refused(node, f"/ws/camera?token={token}").error == "too_many_connections"
            # a second after its close, each is dropped, though it has not answered
            for stranger in refused:
                stranger.settimeout(5)
                with contextlib.suppress(ConnectionError):
                    while stranger.recv(4096):
                        pass
        assert len(clients) == 50
    finally:
        node.stop()


def test_a_relayd_with_64_files_says_so_and_leaves_no_client_without_a_count(
    tmp_path: Path,
) -> None:
    node = Daemon(tmp_path)
    node.prefix = ("prlimit", "--nofile=64:64")
    node.start()
    try:
        figures = node.get("/metrics")[1]
        refused = dropped = 0
        with contextlib.ExitStack() as stack:
            crowd = []
            os.kill(node.pid, signal.SIGSTOP)  # all of them come at once
            for _ in range(100):
                client = socket.create_connection(("127.0.0.1", node.port), PATIENCE)
                crowd.append(stack.enter_context(client))
                client.sendall(handshake("/ws/camera/crowd"))
            os.kill(node.pid, signal.SIGCONT)
            for client in crowd:
                answer = b""
                with contextlib.suppress(ConnectionError):
                    answer = client.recv(12)
                refused += answer == b"HTTP/1.1 429"
                dropped += not answer
            eventually(lambda: _is_healthy(node))  # refused clients keep their seats for a second
            assert dropped > 0
            metrics = scrape(node)
            told = value(metrics, "relayd_handshakes_refused_total", error="too_many_connections")
            by_reason = metrics["relayd_tcp_connections_dropped_total"].samples
            silent = {one.labels["reason"]: one.value for one in by_reason}
            # visits to /healthz may have been dropped, too
            assert told == refused
            assert silent["files"] + silent["yielded"] >= dropped, silent
            assert silent["files"] > 0
            assert "RelaydFilesUsedUp" in alerts(tmp_path, [figures, node.get("/metrics")[1]])
            found = json.loads(Operator(tmp_path, PATH="/nowhere")("doctor", "--json").stdout)
        [fault] = [one for one in found["findings"] if one["state"] == "fault"]
        assert fault["check"] == "files"
        assert f"none was left for {silent['files']:.0f} connections" in fault["finding"]
        assert "LimitNOFILE=" in fault["remedy"]
        assert "#warn] the limit of 64 open files allows only 1 WebSockets" in node.log
        assert "#warn] of 64 open files none is left for clients" in node.log
    finally:
        node.stop()


def _is_healthy(node: Daemon) -> bool:
    with contextlib.suppress(ConnectionError):
        return node.get("/healthz")[0] == 200
    return False

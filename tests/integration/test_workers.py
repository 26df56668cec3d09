"""`[server] workers` on a spawned `twistd relayd`: shared ports, restarts, signals, the end."""

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection

from tests.daemon import Daemon, tls_client
from tests.integration.clients import PATIENCE, read, read_close, say, settle
from tests.integration.conftest import Connect, Dial, Spawn
from tests.integration.raw import request
from tests.integration.waiting import eventually, stopped
from tests.integration.workers import accepted, clients_of, has_ended, pids, wait_for_workers
from tests.ports import free_port
from tests.processes import TWISTD
from tests.redis_servers import Certificates, Redis

MARK = "_RELAYD_WORKER"


def test_both_workers_serve_the_same_port(spawn_workers: Spawn, connect: Connect) -> None:
    daemon = spawn_workers()
    clients: list[ClientConnection] = []
    while not all(accepted(pid, daemon.port) for pid in pids(daemon).values()):
        clients.append(connect(daemon, "/ws/camera/g"))
        assert len(clients) < 300
    eventually(
        lambda: sum(accepted(pid, daemon.port) for pid in pids(daemon).values()) == len(clients)
    )


def test_frames_that_one_worker_receives_reach_the_clients_of_the_other(
    spawn_workers: Spawn, connect: Connect
) -> None:
    daemon = spawn_workers()
    (first, *_), (second, *_) = (clients_of(daemon, connect, number) for number in (1, 2))
    say(first, {"x": 1})
    assert read(first) == read(second) == {"x": 1, "y": None, "z": None}


def test_every_line_of_a_workers_log_is_marked(spawn_workers: Spawn) -> None:
    daemon = spawn_workers()
    daemon.stop()
    for number in (1, 2):
        (line,) = re.findall(f"^w{number} .* relayd .* listens on .*$", daemon.log, re.M)
        assert f"http://127.0.0.1:{daemon.port}" in line
    assert re.search(r"^[^w].*: 2 workers share http://127\.0\.0\.1:\d+$", daemon.log, re.M)
    stamp = re.compile(r"(w[12] )?\d{4}-\d\d-\d\dT.* \[")
    assert all(map(stamp.match, daemon.log.splitlines()))


def test_a_worker_that_is_killed_is_started_again(spawn_workers: Spawn, connect: Connect) -> None:
    daemon = spawn_workers()
    kept, lost = clients_of(daemon, connect, 2), clients_of(daemon, connect, 1)
    killed = pids(daemon)[1]
    os.kill(killed, signal.SIGKILL)
    wait_for_workers(daemon, 3)
    (line,) = re.findall(r"worker 1 ended after [\d.]+ s: (.*)", daemon.log)
    assert line == "killed by SIGKILL; starts again at once"
    assert pids(daemon)[1] != killed
    assert len(clients_of(daemon, connect, 1)) == 2
    settle(*kept)
    for client in lost:
        with pytest.raises(Exception, match="no close frame"):
            client.recv(timeout=PATIENCE)


def test_a_worker_that_gets_sigterm_drains_and_is_started_again(
    spawn_workers: Spawn, connect: Connect
) -> None:
    daemon = spawn_workers()
    clients = clients_of(daemon, connect, 1)
    os.kill(pids(daemon)[1], signal.SIGTERM)
    assert [read_close(client)[0] for client in clients] == [1001] * 2
    wait_for_workers(daemon, 3)
    assert "killed by SIGTERM; starts again at once" in daemon.log


# -- the end


def test_sigterm_drains_all_and_leaves_no_process(spawn_workers: Spawn, connect: Connect) -> None:
    daemon = spawn_workers()
    clients = clients_of(daemon, connect, 1) + clients_of(daemon, connect, 2)
    workers = pids(daemon).values()
    assert daemon.stop() == -signal.SIGTERM  # as one process alone
    assert [read_close(client)[0] for client in clients] == [1001] * 4
    assert all(map(has_ended, workers))
    assert "ended after" not in daemon.log
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", daemon.port))


def test_sigint_drains_all_workers_and_leaves_no_process(
    spawn_workers: Spawn, connect: Connect
) -> None:
    daemon = spawn_workers()
    (client, _), workers = clients_of(daemon, connect, 1), pids(daemon).values()
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGINT)
    assert read_close(client)[0] == 1001
    assert daemon.process.wait(PATIENCE) == -signal.SIGINT
    assert all(map(has_ended, workers))


def test_a_signal_sent_twice_and_to_every_process_does_no_harm(
    spawn_workers: Spawn, dial: Dial
) -> None:
    """A service manager sends it to every process, a terminal to the whole group."""
    daemon = spawn_workers(server_drain_timeout=0.5)
    silent = dial(daemon).open("/ws/camera")
    for _ in range(2):
        for pid in (daemon.pid, *pids(daemon).values()):
            with contextlib.suppress(ProcessLookupError):  # a worker without clients may have ended
                os.kill(pid, signal.SIGTERM)
        silent.close_frame() if _ == 0 else None
    assert daemon.stop() == -signal.SIGTERM
    assert daemon.log.count("connections to close") == 2


def test_a_single_process_tolerates_a_second_signal(spawn: Spawn, dial: Dial) -> None:
    daemon = spawn(server_drain_timeout=0.5)
    silent = dial(daemon).open("/ws/camera")
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGTERM)
    silent.close_frame()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        daemon.process.send_signal(number)
    assert daemon.stop() == -signal.SIGTERM


def test_workers_whose_parent_is_killed_drain_and_end(
    spawn_workers: Spawn, connect: Connect
) -> None:
    daemon = spawn_workers()
    clients = clients_of(daemon, connect, 1) + clients_of(daemon, connect, 2)
    daemon.kill()
    assert [read_close(client)[0] for client in clients] == [1001] * 4
    eventually(lambda: all(map(has_ended, pids(daemon).values())))
    assert daemon.log.count("the parent process has ended, so this one ends, too") == 2
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", daemon.port))


# -- workers that cannot start


@pytest.fixture
def sabotage(tmp_path: Path) -> Callable[[str, int], str]:
    """Makes a folder for PYTHONPATH in which workers exit as soon as they are started."""

    def make(numbers: str, status: int) -> str:
        folder = tmp_path / "sabotage"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(
            f"import os\nif os.environ.get({MARK!r}, '') in {numbers!r}.split():\n"
            f"    os._exit({status})\n"
        )
        return str(folder)

    return make


def test_a_worker_that_always_dies_is_restarted_with_growing_back_off(
    spawn_workers: Spawn, sabotage: Callable[[str, int], str]
) -> None:
    began = time.monotonic()
    daemon = spawn_workers(wait=False, PYTHONPATH=sabotage("2", 3))
    eventually(lambda: "starts again in 2 s" in daemon.log)
    assert time.monotonic() - began >= 1.5
    deaths = re.findall(r"worker 2 ended after [\d.]+ s: exit status 3; (.*)", daemon.log)
    assert deaths[:4] == [  # by now it may have died once more
        f"starts again {when}" for when in ("at once", "in 0.5 s", "in 1 s", "in 2 s")
    ]
    assert daemon.get("/healthz")[0] == 200
    assert daemon.stop() == -signal.SIGTERM


def test_if_all_workers_die_at_the_start_relayd_ends_with_their_status(
    spawn_workers: Spawn, sabotage: Callable[[str, int], str]
) -> None:
    daemon = spawn_workers(wait=False, PYTHONPATH=sabotage("1 2", 78))
    assert daemon.process is not None
    assert daemon.process.wait(PATIENCE) == 78
    assert "no worker can be started, so relayd ends; the last one: exit status 78" in daemon.log


def test_a_start_of_workers_without_redis_names_the_missing_setting(spawn: Spawn) -> None:
    daemon = spawn(wait=False, server_workers=2)
    assert daemon.process is not None
    assert daemon.process.wait(PATIENCE) == 78
    assert daemon.log == (
        "relayd: environment: RELAYD_SERVER_WORKERS = '2': needs [redis] url: "
        "without it they could not reach each other\n"
    )


def test_workers_report_a_port_in_use_as_a_single_process_does(
    spawn: Spawn, spawn_workers: Spawn
) -> None:
    taken = spawn().port
    address = f"tcp:{taken}:interface=127.0.0.1"
    daemons = [spawn_workers(wait=False), spawn(wait=False)]
    for daemon in daemons:
        daemon.stop()
        daemon.args = ("--listen", address)
        daemon.start(wait=False)
    ends = []
    for daemon in daemons:
        assert daemon.process is not None
        status = daemon.process.wait(PATIENCE)
        ends.append((status, re.findall(r"relayd: cannot listen on .*", daemon.log)[-1]))
    assert ends[0] == ends[1] == (1, f"relayd: cannot listen on {address}: [Errno 98] Address "
                                     "already in use")  # fmt: skip


def test_an_embedded_database_that_cannot_be_used_ends_the_start(
    spawn_workers: Spawn, tmp_path: Path
) -> None:
    (tmp_path / "no.db").mkdir()
    daemon = spawn_workers(wait=False, database_url=f"sqlite:///{tmp_path}/no.db")
    assert daemon.process is not None
    assert daemon.process.wait(PATIENCE) == 1
    assert re.search(r"relayd: SQLite .*no\.db: unable to open", daemon.log)
    assert pids(daemon) == {}


# -- every kind of endpoint


def test_every_kind_of_endpoint_is_shared(redis: Redis, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path / "certificates", "127.0.0.1")
    folder = certificates.ca_file.parent
    path, six, encrypted = tmp_path / "relayd.sock", free_port(), free_port()
    daemon = Daemon(
        tmp_path,
        {"RELAYD_SERVER_WORKERS": "2", "RELAYD_REDIS_URL": f"unix://{redis.socket}"},
        *("--listen", f"unix:{path}:mode=640"),
        *("--listen", f"tcp6:{six}:interface=\\:\\:1"),
        *("--listen", f"ssl:{encrypted}:interface=127.0.0.1"
                      f":privateKey={folder}/server.key:certKey={folder}/server.pem"),
    )  # fmt: skip
    trust = tls_client(certificates.ca_file)

    def local() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(path))
        return connection

    def with_tls() -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", encrypted))
        return trust.wrap_socket(plain, server_hostname="127.0.0.1")

    ways: list[Callable[[], socket.socket]] = [
        local,
        with_tls,
        lambda: socket.create_connection(("::1", six)),
        lambda: socket.create_connection(("127.0.0.1", daemon.port)),
    ]

    def check(number: int) -> None:
        (other,) = [pid for each, pid in pids(daemon).items() if each != number]
        with stopped(other):
            for way in ways:
                with way() as connection:
                    connection.settimeout(PATIENCE)
                    connection.sendall(request("/healthz", "Connection: close"))
                    answer = b"".join(iter(lambda: connection.recv(4096), b""))
                    assert answer.startswith(b"HTTP/1.1 200 ")

    daemon.start(wait=False)
    try:
        wait_for_workers(daemon)
        check(1)
        check(2)
        os.kill(pids(daemon)[2], signal.SIGKILL)
        wait_for_workers(daemon, 3)
        check(2)
        os.kill(pids(daemon)[1], signal.SIGTERM)
        wait_for_workers(daemon, 4)
        check(1)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        daemon.stop()
    assert not path.exists()
    listed = f"http://127.0.0.1:{daemon.port}, unix:{path}, http://[::1]:{six}, https://127.0.0.1:"
    assert daemon.log.count(f"listens on {listed}{encrypted}") == 4


# -- as a daemon


def have_older_parts(logs: list[Path], count: int) -> bool:
    """Whether each log file has so many, as twistd names them."""
    return all(len(list(log.parent.glob(f"{log.name}.*"))) == count for log in logs)


def test_as_a_daemon_each_worker_has_its_own_log_file(redis: Redis, tmp_path: Path) -> None:
    """SIGUSR1 begins new files, as with twistd."""
    port, folder = free_port(), tmp_path / "run"
    folder.mkdir()
    environ = {name: text for name, text in os.environ.items() if not name.startswith("RELAYD_")}
    environ |= {"RELAYD_SERVER_WORKERS": "2", "RELAYD_REDIS_URL": f"unix://{redis.socket}"}
    listen = f"tcp:{port}:interface=127.0.0.1"
    subprocess.run(
        [TWISTD, "--rundir=run", "--logfile=relayd.txt", "relayd", "--listen", listen],
        cwd=tmp_path, env=environ, check=True, timeout=PATIENCE,
    )  # fmt: skip
    pid = int((tmp_path / "twistd.pid").read_text())
    logs = [tmp_path / name for name in ("relayd.txt", "relayd-w1.txt", "relayd-w2.txt")]
    try:
        eventually(lambda: logs[0].read_text().count("serves\n") == 2)
        assert all(f"listens on http://127.0.0.1:{port}" in log.read_text() for log in logs[1:])
        for count in (1, 2):
            os.kill(pid, signal.SIGUSR1)
            eventually(partial(have_older_parts, logs, count))
    finally:
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: has_ended(pid))
    assert not (tmp_path / "twistd.pid").exists()
    assert "all workers have ended" in logs[0].read_text()
    assert all("Server Shut Down." in log.read_text() for log in logs)
    assert not any("Traceback" in log.read_text() for log in tmp_path.glob("relayd*"))

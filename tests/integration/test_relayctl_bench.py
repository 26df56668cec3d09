"""relayctl bench as an operator runs it: small loads on a spawned relayd, and servers that fail."""

import http.server
import json
import os
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from websockets.sync.client import ClientConnection
from websockets.sync.server import ServerConnection, serve

from tests.daemon import Daemon
from tests.integration.clients import read, read_rest
from tests.integration.conftest import Connect, Spawn
from tests.integration.waiting import eventually
from tests.ports import free_port
from tests.processes import RELAYCTL, Done, Process

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--cameras", "2", "--viewers", "5", "--seconds", "1", "--warmup", "0.2")
PATIENT = ("--p99", "60000")
"""A limit that no machine is too busy for."""


class Bench:
    """Starts `relayctl bench` in a folder, with a small load and nothing of ours around it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def start(
        self, *arguments: str, before: Callable[[], None] | None = None, **environ: str
    ) -> "subprocess.Popen[str]":
        """A process whose output can be read."""
        kept = ("PATH", "HOME", "LANG")
        process = Process(
            [RELAYCTL, "bench", *SMALL, *arguments],
            cwd=self.folder,
            env={
                **{name: os.environ[name] for name in kept if name in os.environ},
                **environ,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=before,
        )
        self.started.append(process)
        return process

    def __call__(self, *arguments: str, **options: Any) -> Done:
        """What a run to its end prints."""
        return finished(self.start(*arguments, **options))


def finished(process: "subprocess.Popen[str]") -> Done:
    """The rest of the output and the exit code."""
    out, err = process.communicate(timeout=90)
    assert "Traceback" not in err, err
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def complaints(done: Done) -> list[str]:
    """What it warned of, apart from a machine that is busy with something else."""
    return [
        line for line in done.stderr.splitlines() if "the load generator had no CPU" not in line
    ]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    running = Bench(tmp_path)
    yield running
    for process in running.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def start_and_watch(
    bench: Bench, watcher: ClientConnection, node: Daemon
) -> "subprocess.Popen[str]":
    """A long run that is past its greeting: the watcher, in its group, has seen a pose of it."""
    process = bench.start(node.ws_url, "--seconds", "60", "--group", "mine")
    while read(watcher)["x"] < 0:
        pass
    return process


def test_a_table_says_what_a_load_costs(relayd: Daemon, bench: Bench) -> None:
    done = bench(relayd.ws_url, *PATIENT)
    assert (done.returncode, complaints(done)) == (0, [])
    assert done.stdout.startswith(f"{relayd.ws_url}: 2 cameras at 10 poses a second and 5 viewers")
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if "  " in line)
    assert (rows["connected"], rows["lost"], rows["closed"]) == ("7", "0", "0")
    assert f"(twistd {relayd.pid})" in done.stdout
    assert "This load fits" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


def test_json_is_consistent_and_every_connection_is_closed(spawn: Spawn, bench: Bench) -> None:
    node = spawn()
    done = bench(node.ws_url, "--groups", "2", "--group", "mine", "--json", *PATIENT)
    assert (done.returncode, complaints(done)) == (0, [])
    found = json.loads(done.stdout)
    assert (found["connected"], found["lost"], found["extra"], found["closed"]) == (14, 0, 0, {})
    assert found["sent"] > 0
    assert found["deliveries"] == found["sent"] * 7
    assert 0 < found["p50_ms"] <= found["p99_ms"] <= found["worst_ms"]
    assert found["pids"] == [node.pid]
    assert found["deliveries_per_cpu_second"] > 0
    assert found["fits"] is True
    eventually(lambda: node.log.count("closed: sent 1000, got 1000") == 14)
    for group in ("mine-1", "mine-2"):
        assert node.log.count(f"/ws/camera/{group} opened") == 7


def test_other_clients_are_not_disturbed_and_are_noticed_in_a_shared_group(
    relayd: Daemon, bench: Bench, connect: Connect
) -> None:
    aside = connect(relayd, "/ws/camera")
    busy = connect(relayd, "/ws/camera/shared-1")
    process = bench.start(relayd.ws_url, "--group", "shared", "--seconds", "3", *PATIENT)
    while process.poll() is None:  # from before it measures until after it
        busy.send(b'{"x": 1, "y": 0, "z": 3}')
        time.sleep(0.02)
    done = finished(process)
    assert done.returncode == 0
    assert "somebody else sends in these groups" in done.stderr
    assert read_rest(aside) == [[]]


def test_the_default_is_the_configuration(relayd: Daemon, bench: Bench) -> None:
    (bench.folder / ".env").write_text(f"PORT={relayd.port}\n")
    done = bench("--json")
    assert json.loads(done.stdout)["url"] == relayd.ws_url
    (bench.folder / ".env").write_text("RELAYD_SERVER_LISTEN=tcp:0\n")
    assert bench().returncode == 2


def test_a_fit_ends_at_its_cap(relayd: Daemon, bench: Bench) -> None:
    fit = ("--fit", "--viewers", "2", "--cap", "5", "--seconds", "0.3", *PATIENT)
    done = bench(relayd.ws_url, *fit)
    assert done.returncode == 0
    assert done.stdout.startswith("At least 5 viewers fit with 2 cameras at 10 poses a second (p99")
    assert done.stdout.endswith("The search ended at its cap of 5 (--cap).\n")
    header, *steps = done.stderr.splitlines()
    assert "viewers" in header
    assert [step.split()[0] for step in steps if step] == ["2", "4", "5"]
    shown = json.loads(bench(relayd.ws_url, *fit, "--json").stdout)
    assert (shown["fits"], shown["does_not_fit"], shown["ended_by"]) == (5, None, "cap")
    assert [step["viewers"] for step in shown["steps"]] == [2, 4, 5]
    assert all(step["deliveries"] == step["sent"] * step["connected"] for step in shown["steps"])


def test_a_fit_ends_at_the_open_file_limit_of_this_process(relayd: Daemon, bench: Bench) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

    done = bench(relayd.ws_url, "--fit", "--seconds", "0.3", *PATIENT, before=limit)
    assert "At least 6 viewers fit" in done.stdout
    assert "ulimit -n" in done.stdout
    refused = bench(relayd.ws_url, "--viewers", "50", before=limit)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "52 connections need as many open files" in refused.stderr


def test_a_bench_of_a_full_server_reports_how_many_clients_were_connected(
    spawn: Spawn, bench: Bench
) -> None:
    node = spawn(limits_max_connections=6)
    done = bench(node.ws_url)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "serves 6 connections at most; 6 of 7 were connected" in done.stderr
    fit = bench(node.ws_url, "--fit", "--viewers", "3", "--seconds", "0.3", *PATIENT)
    assert fit.returncode == 0
    assert "At least 4 viewers fit" in fit.stdout
    assert "serves 6 connections at most" in fit.stdout


def test_a_bench_may_authenticate_with_a_token(spawn: Spawn, bench: Bench, tmp_path: Path) -> None:
    secret = "a secret for tests that is long enough"
    node = spawn(auth_secret=secret, auth_required=True)
    without = bench(node.ws_url)
    assert (without.returncode, without.stderr.count("\n")) == (1, 1)
    assert "401" in without.stderr
    assert "--token" in without.stderr
    refused = bench(node.ws_url, "--token", "abc")
    assert refused.returncode == 2
    assert "--token-file FILE" in refused.stderr
    assert "abc" not in refused.stderr
    wrong = bench(node.ws_url, RELAYCTL_TOKEN="abc")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert "This is no token" in wrong.stderr
    token = jwt.encode({"sub": "ann"}, secret, "HS256")
    file = tmp_path / "token"
    file.write_text(f"{token}\n")
    assert bench(node.ws_url, "--token-file", str(file)).returncode == 0
    shown = bench(node.ws_url, RELAYCTL_TOKEN=token)
    assert shown.returncode == 0
    assert token not in shown.stdout + shown.stderr
    chat = jwt.encode({"scope": "chat"}, secret, "HS256")
    assert "403" in bench(node.ws_url, RELAYCTL_TOKEN=chat).stderr


def test_connections_that_the_server_closes_are_named(spawn: Spawn, bench: Bench) -> None:
    node = spawn(limits_messages_per_second=1)
    done = bench(node.ws_url)
    assert done.returncode == 1
    assert "2 (4004, rate limit)" in done.stdout
    assert "This load does not fit: 2 connections closed (4004, rate limit)" in done.stdout
    fit = bench(node.ws_url, "--fit", "--viewers", "1", "--seconds", "0.5")
    assert fit.returncode == 1
    assert fit.stdout.startswith("Not one viewer fits with 2 cameras at 10 poses a second (2 conn")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_stops_during_a_bench_is_reported_in_a_sentence(
    spawn: Spawn, bench: Bench, connect: Connect, number: signal.Signals
) -> None:
    node = spawn()
    process = start_and_watch(bench, connect(node, "/ws/camera/mine-1"), node)
    assert node.process is not None
    node.process.send_signal(number)
    done = finished(process)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "ended all 7 connections" in done.stderr
    assert ("1001, restart" in done.stderr) == (number == signal.SIGTERM)


def test_a_search_whose_server_stops_reports_the_results_so_far(spawn: Spawn, bench: Bench) -> None:
    node = spawn()
    process = bench.start(node.ws_url, "--fit", "--viewers", "3", *PATIENT)
    assert process.stderr is not None
    assert "viewers" in process.stderr.readline()
    assert "fits" in process.stderr.readline()
    node.stop()
    done = finished(process)
    assert done.returncode == 1
    assert "viewers fit with 2 cameras" in done.stdout
    assert "Error: " in done.stderr


def test_ctrl_c_closes_every_connection(spawn: Spawn, bench: Bench, connect: Connect) -> None:
    node = spawn()
    process = start_and_watch(bench, connect(node, "/ws/camera/mine-1"), node)
    process.send_signal(signal.SIGINT)
    done = finished(process)
    assert done.returncode == 130
    assert done.stderr == "Interrupted; every connection is closed.\n"
    eventually(lambda: node.log.count("closed: sent 1000, got 1000") == 7)


def test_ctrl_c_in_a_search_prints_the_results_so_far(relayd: Daemon, bench: Bench) -> None:
    process = bench.start(relayd.ws_url, "--fit", "--viewers", "3", *PATIENT)
    assert process.stderr is not None
    assert "viewers" in process.stderr.readline()
    assert "fits" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    done = finished(process)
    assert done.returncode == 130
    assert done.stdout.startswith("Interrupted. At least ")


def test_a_bench_without_uvloop_runs_on_asyncio(relayd: Daemon, bench: Bench) -> None:
    (bench.folder / "uvloop.py").write_text("raise ImportError\n")
    done = bench(relayd.ws_url, "--json", *PATIENT, PYTHONPATH=f"{bench.folder}:{ROOT}")
    assert json.loads(done.stdout)["lost"] == 0


def test_a_bench_may_connect_over_a_unix_socket(tmp_path: Path, bench: Bench) -> None:
    node = Daemon(tmp_path, None, "--listen", f"unix:{tmp_path}/s").start()
    try:
        done = bench(f"unix:{tmp_path}/s", "--json", *PATIENT)
        found = json.loads(done.stdout)
        assert (done.returncode, found["lost"], found["pids"]) == (0, 0, [node.pid])
    finally:
        node.stop()
    assert "no server listens" in bench(f"unix:{tmp_path}/s").stderr


def test_tls_is_verified(tmp_path: Path, certificate: Path, bench: Bench) -> None:
    port = free_port()
    endpoint = f"ssl:{port}:interface=127.0.0.1:privateKey={certificate}:certKey={certificate}"
    node = Daemon(tmp_path, None, "--listen", endpoint).start()
    try:
        for good in (["--ca", str(certificate)], ["--insecure"]):
            assert bench(f"https://127.0.0.1:{port}", *good).returncode == 0
        for url, *options in (
            [f"wss://127.0.0.1:{port}"],
            [f"wss://localhost:{port}", "--ca", str(certificate)],
        ):
            bad = bench(url, *options)
            assert (bad.returncode, bad.stderr.count("\n")) == (1, 1)
            assert "is not valid" in bad.stderr
            assert "--ca FILE" in bad.stderr
        plain = bench(f"ws://127.0.0.1:{port}")
        assert (plain.returncode, plain.stderr.count("\n")) == (1, 1)
        assert "write wss://" in plain.stderr
    finally:
        node.stop()


class _Page(http.server.BaseHTTPRequestHandler):
    """Some web server."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        moved = self.path.startswith("/old")
        self.send_response(301 if moved else 404)
        if moved:
            self.send_header("Location", "https://new.example/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def web() -> Iterator[int]:
    """The port of a web server that is no relayd."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_server_other_than_relayd_is_reported_in_a_sentence(web: int, bench: Bench) -> None:
    for url, words in (
        (f"ws://127.0.0.1:{web}", "answers 404, but not as relayd"),
        (f"ws://127.0.0.1:{web}/old", "redirects to https://new.example/"),
        (f"wss://127.0.0.1:{web}", "for a server without TLS, write ws://"),
        (f"ws://127.0.0.1:{free_port()}", "no server listens"),
        ("ws://host.invalid", "cannot be found"),
    ):
        done = bench(url)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done
        assert words in done.stderr


def test_a_server_of_another_protocol_is_reported_in_a_sentence(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            connection.sendall(b"220 mail.example\r\n\r\n")
            connection.close()

        for _ in range(7):
            threading.Thread(target=greet, daemon=True).start()
        done = bench(f"ws://127.0.0.1:{listener.getsockname()[1]}")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_an_echo_server_is_not_taken_for_relayd(bench: Bench) -> None:
    def echo(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(message)

    with serve(echo, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = bench(f"ws://127.0.0.1:{server.socket.getsockname()[1]}")
        server.shutdown()
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "admitted 7 clients, but only 1 of them got a pose; is that a relayd?" in done.stderr


def test_another_path_of_relayd_is_reported_in_a_sentence(relayd: Daemon, bench: Bench) -> None:
    done = bench(f"{relayd.url}/chat/lobby/")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "404: There is no such path" in done.stderr

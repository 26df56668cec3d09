"""The benchmark itself, in a short run against a real relayd and real peers."""

import asyncio
import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, broadcast, serve

from bench import procstat
from bench.generate import finish, generating

ROOT = Path(__file__).resolve().parents[1]


def bench(*options: str) -> subprocess.CompletedProcess[str]:
    """Runs it to its end."""
    return subprocess.run(
        [sys.executable, "-m", "bench.run", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def command(pid: int) -> bytes:
    """The command line of a process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_quick_run_measures_every_available_peer_and_writes_page_and_charts(
    tmp_path: Path,
) -> None:
    """Without Go the hub is left out, and both the output and the page say so."""
    done = bench("--quick", "--docs", str(tmp_path), "--json", str(tmp_path / "all.json"))
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "all.json").read_text())
    assert set(results) == {"fanout", "rate-300", "rooms", "quiet", "idle"}
    go = shutil.which("go") is not None
    for load, servers in results.items():
        assert {"relayd", "picows"} <= set(servers), done.stderr
        assert ("gorilla" in servers) == go, done.stderr
        for name, [measured] in servers.items():
            assert measured["disconnected"] == 0, (load, name)
            assert measured["extra"] == 0, (load, name)
            assert measured["rss" if load == "idle" else "deliveries"] > 0, (load, name)
        assert servers["relayd"][0]["lost"] == 0, load
    page = (tmp_path / "performance.md").read_text()
    for text in (done.stdout, page):
        assert "relayd / it" in text
        assert "not measured" in text  # the targets of the other loads
        assert ("Not measured: gorilla" in text) != go
    assert "(performance/deliveries.svg)" in page
    assert (tmp_path / "performance" / "deliveries.svg").exists()


def test_raw_sockets_carry_every_rate_without_loss(tmp_path: Path) -> None:
    loads = "rate-20,rate-100,rate-1000,rate-3000,rate-12000,neighbour,across"
    done = bench(
        *("--quick", "--loads", loads, "--peers", ""),
        *("--docs", str(tmp_path), "--json", str(tmp_path / "all.json")),
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "all.json").read_text())
    assert list(results) == loads.split(",")
    assert set(results["across"]) == {"relayd", "relayd-two", "relayd-groups", "relayd-workers"}
    for load, servers in results.items():
        for name, [measured] in servers.items():
            wrong = [measured[key] for key in ("lost", "extra", "reordered", "errors")]
            assert wrong == [0, 0, 0, 0], (load, name)
            assert measured["samples"] > 0, (load, name)
    assert results["neighbour"]["relayd"][0]["beside_p99"] > 0
    page = (tmp_path / "performance.md").read_text()
    assert "(performance/rates.svg)" in page
    assert "(performance/cores.svg)" in page


def test_a_storm_ends_when_all_clients_have_an_answer(tmp_path: Path) -> None:
    done = bench(
        *("--quick", "--loads", "storm", "--peers", "picows"),
        *("--docs", str(tmp_path), "--json", str(tmp_path / "all.json")),
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "all.json").read_text())["storm"]
    [measured] = results["picows"]
    assert (measured["opened"], measured["lost"], measured["extra"]) == (2000, 0, 0)
    assert 0 < measured["last"] < measured["seconds"]
    assert results["relayd"][0]["opened"] > 0


@pytest.mark.parametrize(
    ("fault", "counted"),
    [
        ("none", {}),
        ("lost", {"lost": 2}),
        ("doubled", {"extra": 2}),
        ("late", {"reordered": 2}),
        ("foreign", {"errors": 2}),
        ("pinged", {}),
    ],
)
def test_the_generator_on_raw_sockets_notices_what_a_server_does_wrong(
    fault: str, counted: dict[str, int]
) -> None:
    """With one pose of each of two senders something happens, at one member."""
    with _faulty_hub(fault) as port, generating("rate-20", port, os.getpid(), seconds=1) as process:
        measured = finish(process, 60)
    assert measured.sent == 40
    found = {name: getattr(measured, name) for name in ("lost", "extra", "reordered", "errors")}
    assert {name: count for name, count in found.items() if count} == counted


@contextlib.contextmanager
def _faulty_hub(fault: str) -> Iterator[int]:
    """A hub in a thread; its port."""
    members: list[ServerConnection] = []

    async def handler(connection: ServerConnection) -> None:
        members.append(connection)
        number, held = 0, None
        async for pose in connection:
            number += 1
            broadcast(members[4:], pose)
            odd, others = members[3], members[:3]
            broadcast(others, pose)
            if number != 5:
                await odd.send(pose)
            if number == 8 and held is not None:
                await odd.send(held)
            if number == 5:
                if fault == "late":
                    held = pose
                    continue
                if fault == "pinged":
                    await odd.ping(b"are you there?")
                if fault == "foreign":
                    await odd.send('{"error":"bad_pose","message":"no"}')
                for _ in range({"lost": 0, "doubled": 2}.get(fault, 1)):
                    await odd.send(pose)

    async def serve_until(started: "queue.Queue[int]", stop: threading.Event) -> None:
        async with serve(handler, "127.0.0.1", 0, compression=None) as server:
            started.put(server.sockets[0].getsockname()[1])
            await asyncio.to_thread(stop.wait)

    started: queue.Queue[int] = queue.Queue()
    stop = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(serve_until(started, stop)))
    thread.start()
    try:
        yield started.get(timeout=30)
    finally:
        stop.set()
        thread.join()


def test_pairs_are_measured_on_a_database_of_their_own(tmp_path: Path) -> None:
    done = bench(
        *("--quick", "--loads", "pairs-1000", "--peers", ""),
        *("--docs", str(tmp_path), "--json", str(tmp_path / "all.json")),
    )
    assert done.returncode == 0, done.stderr
    [measured] = json.loads((tmp_path / "all.json").read_text())["pairs-1000"]["relayd"]
    assert measured["deliveries"] > 0
    assert (measured["lost"], measured["errors"], measured["disconnected"]) == (0, 0, 0)


def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "bench.run", "--loads", "fanout", "--peers", ""),
            *("--rounds", "1", "--seconds", "60", "--docs", str(tmp_path)),
        ],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not any(b"bench.loadgen" in command(pid) for pid in procstat.tree(process.pid)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    started = procstat.tree(process.pid)
    assert len(started) == 3  # relayd and the generator
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert not any(Path(f"/proc/{pid}").exists() for pid in started)
    assert list(tmp_path.iterdir()) == []

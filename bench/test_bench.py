"""The benchmark itself, in a short run against a real relayd and real peers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench import procstat

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


def test_a_quick_run_measures_every_peer_that_can_be_had_and_writes_page_and_charts(
    tmp_path: Path,
) -> None:
    """Without Go the hub is left out, and both the output and the page say so."""
    done = bench("--quick", "--docs", str(tmp_path), "--json", str(tmp_path / "all.json"))
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "all.json").read_text())
    assert set(results) == {"fanout", "rooms", "quiet", "idle"}
    go = shutil.which("go") is not None
    for load, servers in results.items():
        assert {"relayd", "picows", "websockets"} <= set(servers), done.stderr
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

"""The console of spawned relayds: workers on Redis, and one process alone that strangers attack."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from relayd.console.attempts import BURST
from relayd.console.passwords import hash_password
from relayd.storage.imports import MOST_BYTES
from tests.daemon import Daemon
from tests.integration.clients import Refused, read, read_close, say, settle
from tests.integration.conftest import Connect, Dial, Spawn, spawning
from tests.integration.console_client import HASH, PASSWORD, ConsoleClient
from tests.integration.raw import request
from tests.integration.relayctl import Operator
from tests.integration.waiting import eventually
from tests.integration.workers import clients_of, pids, wait_for_workers
from tests.redis_servers import Redis

NASTY = '<img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Two workers on Redis, which tests share."""
    folder = tmp_path_factory.mktemp("workers")
    with Redis() as redis, spawning(folder) as spawn:
        daemon = spawn(
            wait=False, server_workers=2, server_spread="connections",
            redis_url=f"unix://{redis.socket}", console_password_hash=HASH,
        )  # fmt: skip
        wait_for_workers(daemon)
        yield daemon


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One process, which tests share."""
    with spawning(tmp_path_factory.mktemp("alone")) as spawn:
        yield spawn(console_password_hash=HASH)


def logged_in(daemon: Daemon) -> ConsoleClient:
    """A browser whose operator has logged in."""
    client = ConsoleClient(daemon)
    assert client.login().status == 303
    return client


def polled(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; asks as often as a page does, or it would get 429."""

    def slowly() -> bool:
        time.sleep(0.3)
        return condition()

    eventually(slowly)


def test_a_console_shows_and_controls_the_clients_of_all_workers(
    workers: Daemon, connect: Connect
) -> None:
    console = logged_in(workers)
    cameras = clients_of(workers, connect, 1) + clients_of(workers, connect, 2)
    live = console.api("live")
    assert {each["worker"]: each["pid"] for each in live["status"]["processes"]} == pids(workers)
    assert {each["report"]["pid"] for each in live["cluster"]} == set(pids(workers).values())
    since = live["time"]
    say(cameras[0], {"x": 1, "y": 2, "z": 3})
    for camera in cameras:
        assert read(camera)["x"] == 1

    def samples() -> bool:
        found = console.api(f"live?since={since}")
        grown = [each["rates"]["deliveries"] for each in found["samples"]]
        assert found["counts"]["connections"] == {"camera": 4}
        return any(grown)

    polled(samples)
    clients = console.api("clients?text=CAMERA/G")
    assert clients["total"] == 4
    ids = [each["id"] for each in clients["found"]]
    assert [each[:3] for each in ids] == ["w1-", "w1-", "w2-", "w2-"]
    assert console.api(f"clients?text={ids[3]}")["total"] == 1
    assert console.api("clients?text=nobody") == {"found": [], "total": 0, "missing": []}
    assert console.api("rooms")["found"] == [{"group": "camera/g", "members": 4}]

    lines = console.follow(ids[3])
    assert next(lines)["event"] == "begin"
    say(cameras[3], NASTY)
    frame = next(each for each in lines if each["event"] == "in")
    assert json.loads(frame["text"]) == NASTY
    settle(cameras[0])
    assert console.api("kick", {"ids": [ids[3]], "reason": "bye"})["count"] == 1
    assert read_close(cameras[3])[0] == 1000
    assert [each["event"] for each in lines][-1] == "ended"

    posted = console.api("publish", {"target": "chat/lobby", "text": NASTY})
    assert posted["message"] == NASTY
    assert "console: publish by 127.0.0.1: 'chat/lobby'\n" in workers.log
    assert "console: kick by 127.0.0.1" in workers.log


def test_a_drain_from_the_console_is_undone(workers: Daemon, connect: Connect) -> None:
    console = logged_in(workers)
    try:
        assert "count" in console.api("drain", {"close": False})
        for _ in range(5):  # any worker
            assert Refused(workers, "/ws/camera/g").error == "draining"
    finally:
        console.api("undrain", {})
    settle(*(connect(workers, "/ws/camera/g") for _ in range(5)))


def test_a_logout_holds_in_every_worker(workers: Daemon) -> None:
    console, other = logged_in(workers), logged_in(workers)
    cookie = console.cookie
    assert console.ask("POST", "/console/logout").status == 303
    for _ in range(10):  # each has a connection of its own, to any worker
        console.cookie = cookie
        assert console.ask("GET", "/console/api/live").status == 401
    assert other.ask("GET", "/console/api/live").status == 200


def test_quizzes_are_edited_exported_and_imported_after_a_preview(alone: Daemon) -> None:
    console = logged_in(alone)
    id = console.api("quizzes", {"name": NASTY, "difficulty": 77, "lef_sel": "L"})["id"]
    [row] = console.api("quizzes?difficulty=77")["rows"]
    assert (row["id"], row["name"], row["rig_sel"]) == (id, NASTY, "")
    edit = {"before": row, "row": {**row, "name": "Fine"}}
    console.api(f"quizzes/{id}", edit, "PUT")
    late = console.ask("PUT", f"/console/api/quizzes/{id}", edit)
    assert (late.status, late.json["error"]) == (409, "conflict")
    assert console.ask("PUT", "/console/api/quizzes/0", edit).status == 404
    wrong = console.ask("POST", "/console/api/quizzes", {"difficulty": "many"})
    assert (wrong.status, wrong.json["message"][:12]) == (400, "difficulty: ")

    reply = console.ask("GET", "/console/api/quizzes/export")
    assert reply.headers["content-disposition"] == 'attachment; filename="quizzes.csv"'
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    table = reply.body
    assert f"{id},Fine,77,L,,".encode() in table
    changed = table.replace(b"Fine", b"Finer") + b",New,77,,,\n"
    plan = console.api("quizzes/preview", changed)
    assert {name: plan["counts"][name] for name in ("added", "changed", "removed")} == {
        "added": 1, "changed": 1, "removed": 0,
    }  # fmt: skip
    assert plan["changed"][0]["after"] == {"name": "Finer"}
    done = console.api(f"quizzes/import?plan={plan['fingerprint']}", changed)
    assert done == {"added": 1, "changed": 1, "removed": 0}
    again = console.ask("POST", f"/console/api/quizzes/import?plan={plan['fingerprint']}", changed)
    assert again.status == 409
    rows = console.api("quizzes?difficulty=77")["rows"]
    assert [each["name"] for each in rows] == ["Finer", "New"]
    ids = [each["id"] for each in rows]
    assert console.api("quizzes/delete", {"ids": ids}) == {"count": 2}
    assert console.api("quizzes?difficulty=77")["total"] == 0
    assert console.ask("GET", "/console/api/users").status == 404


def test_files_that_are_too_large_or_no_csv_are_refused_and_the_relay_goes_on(
    alone: Daemon, connect: Connect
) -> None:
    console, camera = logged_in(alone), connect(alone, "/ws/camera/g")
    preview = "/console/api/quizzes/preview"
    assert console.ask("POST", preview, b"x" * (MOST_BYTES + 1)).status == 413
    for bomb in (
        b"difficulty\n" + b"1\n" * ((MOST_BYTES - 20) // 2),
        b"difficulty\n" + b"\n" * (MOST_BYTES - 20),
        b"," * (MOST_BYTES - 20),
        b'difficulty\n"' + b'""' * ((MOST_BYTES - 20) // 2),
        b"difficulty,name\n1," + b"x" * (MOST_BYTES - 30),
        b"difficulty,difficulty\n1,1\n",
        b"\x00" * 1000,
        b"PK\x03\x04 a spreadsheet",
    ):
        reply = console.ask("POST", preview, bomb)
        assert reply.status in (200, 400, 413), reply
        if reply.status == 200:
            assert reply.json["fingerprint"] == "" or not any(reply.json["counts"].values())
            assert len(reply.body) < 100_000
    settle(camera)
    formula = console.api("quizzes/preview", b'difficulty,name\n1,"=HYPERLINK(1)"\n')
    assert formula["added"][0]["name"] == "=HYPERLINK(1)"


def test_the_body_of_a_stranger_is_refused_before_it_comes(alone: Daemon, dial: Dial) -> None:
    raw = dial(alone)
    raw.send(
        request(
            "/console/api/quizzes/import", f"Origin: http://127.0.0.1:{alone.port}",
            f"Host: 127.0.0.1:{alone.port}", "Content-Length: 2000000", "Expect: 100-continue",
            method="POST",
        ).replace(b"Host: 127.0.0.1\r\n", b"")
    )  # fmt: skip
    reply = raw.response()
    assert (reply.status, reply.json["error"]) == (401, "unauthorized")


def test_sessions_of_another_password_or_none_open_nothing(alone: Daemon) -> None:
    stranger = ConsoleClient(alone)
    for cookie in (
        "", "relayd_console=", "relayd_console=" + "a" * 8000,
        f"relayd_console={'0' * 32}.{int(time.time()) + 999}.{'A' * 43}",
        f"relayd_console={HASH}",
    ):  # fmt: skip
        stranger.cookie = cookie
        assert stranger.ask("GET", "/console/api/clients").status == 401
        page = stranger.ask("GET", "/console/")
        assert (page.status, page.headers["location"]) == (303, "/console/login")
        assert page.headers["cache-control"] == "no-store"
    foreign = logged_in(alone)
    for origin in ("http://evil.example", "null"):
        reply = foreign.ask("POST", "/console/api/drain", {}, Origin=origin)
        assert (reply.status, reply.json["error"]) == (403, "origin_not_allowed")
    assert alone.get("/readyz")[0] == 200


def test_a_reload_with_another_password_ends_the_session_and_its_stream(
    spawn: Spawn, connect: Connect, tmp_path: Path
) -> None:
    file = tmp_path / "hash"
    file.write_text(HASH)
    daemon = spawn(console_password_hash_file=file)
    console, camera = logged_in(daemon), connect(daemon, "/ws/camera/g")
    settle(camera)
    lines = console.follow(console.api("clients")["found"][0]["id"])
    assert next(lines)["event"] == "begin"
    file.write_text(hash_password("another password", log=10))
    done = Operator(daemon.folder, console_password_hash_file=file)("reload")
    assert "password_hash" in done.stdout
    assert "scrypt" not in done.stdout + daemon.log
    assert list(lines) == []
    assert console.ask("GET", "/console/api/live").status == 401
    assert console.login().status == 403
    assert console.login("another password").status == 303


def test_a_flood_of_logins_gets_429_and_the_relay_goes_on(spawn: Spawn, connect: Connect) -> None:
    slow = hash_password(PASSWORD, log=15)
    daemon = spawn(console_password_hash=slow)
    camera = connect(daemon, "/ws/camera/g")
    statuses: list[int] = []

    def guess() -> None:
        for _ in range(4):
            reply = ConsoleClient(daemon).login("a wrong password")
            statuses.append(reply.status)
            if reply.status == 429:
                assert int(reply.headers["retry-after"]) >= 1

    threads = [threading.Thread(target=guess) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        settle(camera)
    for thread in threads:
        thread.join()
    assert sorted(set(statuses)) == [403, 429]
    assert statuses.count(403) <= BURST
    assert ConsoleClient(daemon).login().status == 429  # also the right one, from this address


def test_guesses_and_forged_cookies_do_not_lock_the_operator_out(spawn: Spawn) -> None:
    daemon = spawn(console_password_hash=HASH, proxy_trusted="127.0.0.1")
    form, of_operator = urlencode({"password": PASSWORD}), "203.0.113.5"

    def login(client: ConsoleClient, body: str, address: str) -> int:
        fields = {"X-Forwarded-For": address}
        reply = client.ask("POST", "/console/login", body, **fields)
        client.cookie = client.cookie or reply.headers.get("set-cookie", "").partition(";")[0]
        return reply.status

    def guess(address: str) -> list[int]:
        return [login(ConsoleClient(daemon), "password=wrong", address) for _ in range(BURST + 1)]

    assert guess("198.51.100.1")[-1] == 429
    operator = ConsoleClient(daemon)
    assert login(operator, form, of_operator) == 303
    assert guess(of_operator)[-1] == 429
    forged = f"relayd_console={'0' * 32}.{int(time.time()) + 999}.{'A' * 43}; "
    operator.cookie = forged * 20 + operator.cookie
    fields = {"X-Forwarded-For": of_operator}
    assert operator.ask("GET", "/console/api/live", **fields).status == 200
    assert operator.ask("POST", "/console/api/undrain", {}, **fields).status == 200


def test_relayctl_makes_the_hash_of_a_password(tmp_path: Path, spawn: Spawn) -> None:
    relayctl = Operator(tmp_path)
    done = relayctl("console", "password", "--stdin", stdin="correct horse battery\n")
    assert (done.returncode, done.stderr) == (0, "")
    daemon = spawn(console_password_hash=done.stdout.strip())
    assert ConsoleClient(daemon).login("correct horse battery").status == 303
    short = relayctl("console", "password", "--stdin", stdin="short\n")
    assert (short.returncode, short.stdout) == (2, "")
    assert "12 characters" in short.stderr
    shown = Operator(tmp_path, console_password_hash=done.stdout.strip())("check-config")
    assert done.stdout.strip() not in shown.stdout
    assert "password_hash = " in shown.stdout


def test_a_session_holds_wherever_the_password_is_the_same(alone: Daemon, workers: Daemon) -> None:
    console = logged_in(alone)
    assert console.api("live")["cluster"] == []
    there = ConsoleClient(workers)
    there.cookie = console.cookie  # as on two machines of one cluster
    assert there.ask("GET", "/console/api/live").status == 200

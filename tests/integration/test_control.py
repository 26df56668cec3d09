"""relayctl beside a running relayd: the control socket, one test a command, and what goes wrong."""

import json
import os
import re
import subprocess
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.integration.clients import PATIENCE, Refused, read, read_close, say, settle
from tests.integration.conftest import KEY, Connect, Dial, Spawn
from tests.integration.relayctl import Operator, check_failed, ids
from tests.processes import Process

UUID = "123e4567-e89b-42d3-a456-426614174000"


@pytest.fixture
def relayctl(daemon: Daemon) -> Operator:
    """The operator of the daemon."""
    return Operator(daemon.folder)


def test_status_shows_the_state_of_the_process(
    daemon: Daemon, relayctl: Operator, connect: Connect
) -> None:
    client = connect(daemon, "/ws/camera")
    say(client, {"x": 1})
    assert read(client)["x"] == 1
    found = relayctl.json("status")
    (process,) = found["processes"]
    assert (found["pid"], found["missing"]) == (daemon.pid, [])
    assert (process["pid"], process["worker"]) == (daemon.pid, None)
    assert (process["messages"], process["delivered"]) == (1, 1)
    assert process["connections"] == {"camera": 1}
    assert process["listen"] == [daemon.url]
    assert (process["draining"], process["stopping"]) == (False, False)
    assert (process["database"]["state"], process["redis"]["state"]) == ("ok", "off")
    text = relayctl("status").stdout
    assert re.search(rf"^relayd +{daemon.pid} .* ok +off +ok$", text, re.MULTILINE)
    assert f"1 client (camera 1)\nlistening on {daemon.url}\n" in text


def test_clients_are_listed_selected_and_sorted(
    daemon: Daemon, relayctl: Operator, connect: Connect
) -> None:
    camera = connect(daemon, "/ws/camera/a")
    chat = connect(daemon, "/ws/chat/b?history=0")
    echo = connect(daemon, "/ws/echo")
    for number in range(3):
        say(camera, {"x": number})
    say(echo, "x" * 200)  # not the short way
    settle(camera, chat, echo)
    listing = relayctl.json("clients")
    assert (listing["total"], listing["missing"]) == (3, [])
    first, second, third = listing["found"]
    assert [each["kind"] for each in (first, second, third)] == ["camera", "chat", "echo"]
    assert (first["path"], first["messages"], first["waiting"]) == ("/ws/camera/a", 3, 0)
    assert (third["messages"], third["user"], third["closing"]) == (1, None, False)
    assert second["peer"].endswith(f":{chat.local_address[1]}")
    a, b, c = (each["id"] for each in (first, second, third))
    assert ids(relayctl, "--kind", "chat") == [b]
    assert ids(relayctl, "--path", "/ws/camera/a") == ids(relayctl, "--path", "/ws/cam*") == [a]
    assert ids(relayctl, "--peer", "127.0.0.1") == [a, b, c]
    assert ids(relayctl, "--peer", f"127.0.0.1:{chat.local_address[1]}") == [b]
    assert ids(relayctl, "--peer", "127.0.0.2") == ids(relayctl, "--slow") == []
    assert ids(relayctl, "--sort", "messages", "--limit", "2") == [a, c]
    lines = relayctl("clients", "--limit", "1").stdout.splitlines()
    assert lines[1].split()[:3] == [a, "camera", "/ws/camera/a"]
    assert lines[-1] == "3 clients, 1 shown"


def test_a_client_that_does_not_read_is_slow(
    daemon: Daemon, relayctl: Operator, dial: Dial, connect: Connect
) -> None:
    dial(daemon, receive_buffer=4096).open("/ws/push/big")
    settle(connect(daemon, "/ws/camera"))
    payload = json.dumps({"pad": "x" * 60_000}).encode()
    for number in range(200):
        status, _ = daemon.post("/api/push/big", payload, Authorization=f"Bearer {KEY}")
        assert status == 200
        if number % 8 == 0 and (slow := relayctl.json("clients", "--slow")["found"]):
            break
    (lazy,) = slow
    assert (lazy["kind"], lazy["waiting"] > 0) == ("push", True)
    assert relayctl.json("status")["processes"][0]["waiting"] == lazy["waiting"]


def test_rooms_and_pairs_are_listed(daemon: Daemon, relayctl: Operator, connect: Connect) -> None:
    assert relayctl("rooms").stdout == "no room has clients\n"
    assert relayctl("pairs").stdout == "neither headsets nor phones\n"
    clients = [connect(daemon, f"/ws/{path}") for path in ("camera", "camera", "chat/ü", "push/p")]
    headset = connect(daemon, f"/ws/difficulty/unity/{UUID}")
    settle(*clients, headset)
    assert relayctl.json("rooms")["found"] == [
        {"group": "camera/Camera_group", "members": 2},
        {"group": "chat/ü", "members": 1},
        {"group": "push/p", "members": 1},
    ]
    pair = {"uuid": UUID, "headset": True, "phone": False}
    assert relayctl.json("pairs")["found"] == [pair]
    settle(connect(daemon, f"/ws/difficulty/android/{UUID}"))
    assert relayctl.json("pairs")["found"] == [{**pair, "phone": True}]
    assert relayctl("pairs").stdout.splitlines()[1].split() == [UUID, "connected", "connected"]


def test_tail_shows_a_room_live_and_ends_with_ctrl_c(
    daemon: Daemon, relayctl: Operator, connect: Connect
) -> None:
    camera = connect(daemon, "/ws/camera")
    with relayctl.streaming("tail", "lobby") as chat:
        with relayctl.streaming("tail", "camera/Camera_group") as poses:
            assert relayctl("publish", "chat/lobby", "hello").returncode == 0
            assert chat.next()["frame"]["message"] == "hello"
            say(camera, {"x": 7})
            assert poses.next()["frame"] == {"x": 7, "y": None, "z": None}
            assert poses.interrupt() == 130
        assert relayctl("publish", "chat/lobby", "again").returncode == 0
        assert chat.next()["frame"]["message"] == "again"
        assert read(camera)["x"] == 7
        daemon.stop()
        assert chat.end() == 1


def test_tail_for_people_shows_the_time_of_day_in_utc(relayctl: Operator) -> None:
    with Process(
        relayctl.command("tail", "lobby"), cwd=relayctl.folder,
        env={**relayctl.environ, "TZ": "Asia/Tokyo", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert "chat/lobby, until Ctrl-C:" in process.stderr.readline()
            assert relayctl("publish", "chat/lobby", "hello").returncode == 0
            clock, _, frame = process.stdout.readline().partition(" ")
        finally:
            process.kill()
    said = datetime.fromisoformat(json.loads(frame)["time"])
    shown = datetime.strptime(f"{said:%Y-%m-%d} {clock} +0000", "%Y-%m-%d %H:%M:%S.%fZ %z")
    assert (shown - said + timedelta(minutes=30)) % timedelta(days=1) < timedelta(hours=1)


def test_a_disconnected_tail_is_no_longer_a_member(daemon: Daemon, relayctl: Operator) -> None:
    with relayctl.streaming("tail", "push/p") as stream:
        assert relayctl.json("publish", "push/p", "{}") == {"clients": 1}
        assert stream.next()["frame"] == {}
        assert stream.interrupt() == 130
    deadline = 50
    while relayctl.json("publish", "push/p", "{}") != {"clients": 0}:
        deadline -= 1
        assert deadline


def test_trace_shows_every_frame_of_one_connection(
    daemon: Daemon, relayctl: Operator, connect: Connect
) -> None:
    camera, viewer = connect(daemon, "/ws/camera"), connect(daemon, "/ws/camera")
    settle(camera, viewer)
    (id, other) = ids(relayctl)
    with relayctl.streaming("trace", id) as trace, relayctl.streaming("trace", other) as theirs:
        say(camera, {"x": 1})
        shown = [trace.next() for _ in range(2)]
        assert [each["event"] for each in shown] == ["in", "out"]
        assert [json.loads(each["text"])["x"] for each in shown] == [1, 1]
        assert (theirs.next()["event"], read(camera)["x"], read(viewer)["x"]) == ("out", 1, 1)
        for number in range(2, 4):  # after the first pose there is a shorter way for them
            say(camera, {"x": number})
            assert [json.loads(trace.next()["text"])["x"] for _ in range(2)] == [number] * 2
        camera.send("x" * 300)  # not the short way
        assert trace.next()["size"] == 300
        assert json.loads(trace.next()["text"])["error"] == "bad_json"
        settle(camera)
        assert [trace.next()["type"] for _ in range(2)] == ["ping", "pong"]
        assert [json.loads(theirs.next()["text"])["x"] for _ in range(2)] == [2, 3]
        assert theirs.interrupt() == 130
        camera.close(4321, "enough")
        closes = [trace.next() for _ in range(3)]
        assert (closes[0]["event"], closes[0]["code"], closes[0]["reason"]) == (
            "in",
            4321,
            "enough",
        )
        assert (closes[1]["event"], closes[2]["event"]) == ("out", "ended")
        assert trace.end() == 0
    say(viewer, {"x": 4})
    assert [read(viewer)["x"] for _ in range(3)] == [2, 3, 4]


def test_kick_closes_the_connections_that_are_named(
    daemon: Daemon, relayctl: Operator, connect: Connect
) -> None:
    client, other = connect(daemon, "/ws/camera"), connect(daemon, "/ws/camera")
    settle(client, other)
    (id, _) = ids(relayctl)
    done = relayctl("kick", id, "--code", "4242", "--reason", "go away")
    assert (done.returncode, done.stdout) == (0, "1 connection closed\n")
    assert read_close(client) == (4242, "go away")
    settle(other)
    assert re.search(rf"relayctl kick by uid {os.getuid()} .*: 1 with 4242: {id}\n", daemon.log)
    gone = relayctl("kick", "c999999")
    assert (gone.returncode, gone.stderr) == (1, "Error: there is no open connection c999999\n")


def test_kick_asks_before_it_closes_more_than_one(
    daemon: Daemon, relayctl: Operator, connect: Connect
) -> None:
    cameras = [connect(daemon, "/ws/camera") for _ in range(3)]
    chat = connect(daemon, "/ws/chat/a?history=0")
    settle(*cameras, chat)
    asked = relayctl("kick", "--kind", "camera", stdin="n\n")
    assert (asked.returncode, asked.stdout) == (1, "")
    assert "3  camera /ws/camera" in asked.stderr
    assert "Close 3 connections?" in asked.stderr
    settle(*cameras)
    assert relayctl("kick", "--kind", "camera", stdin="y\n").stdout == "3 connections closed\n"
    assert {read_close(camera) for camera in cameras} == {(1000, "")}
    settle(chat)
    assert relayctl.json("kick", "--peer", "127.0.0.1", "--yes")["count"] == 1
    assert read_close(chat)[0] == 1000


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "name the connections"),
        (("c1", "--kind", "chat"), "name the connections"),
        (("c1", "--code", "1005"), "1005 is no close code"),
        (("c1", "--code", "999"), "999 is no close code"),
        (("c1", "--reason", "x" * 124), "123 bytes"),
    ],
)
def test_a_wrong_kick_is_wrong_input(
    daemon: Daemon, relayctl: Operator, arguments: tuple[str, ...], word: str
) -> None:
    check_failed(relayctl("kick", *arguments), 2, word)


def test_drain_refuses_new_clients_and_keeps_connected_ones(
    daemon: Daemon, relayctl: Operator, connect: Connect
) -> None:
    client = connect(daemon, "/ws/camera")
    settle(client)
    done = relayctl("drain")
    assert (done.returncode, done.stdout) == (0, "draining; 1 client is connected\n")
    assert Refused(daemon, "/ws/camera").error == "draining"
    status, ready = daemon.get("/readyz")
    assert (status, ready["parts"]["draining"]["ok"]) == (503, False)
    assert relayctl.json("status")["processes"][0]["draining"]
    say(client, {"x": 1})
    assert read(client)["x"] == 1
    assert relayctl("undrain").stdout == "admits clients; 1 client is connected\n"
    assert daemon.get("/readyz")[0] == 200
    settle(connect(daemon, "/ws/camera"))


def test_drain_closes_clients_and_waits_for_them(
    daemon: Daemon, relayctl: Operator, connect: Connect
) -> None:
    stays = connect(daemon, "/ws/camera")
    settle(stays)
    process = Process(
        relayctl.command("drain", "--wait"),
        cwd=relayctl.folder, env=relayctl.environ, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not relayctl.json("status")["processes"][0]["draining"]:
        assert process.poll() is None
    assert process.poll() is None
    assert relayctl("drain", "--close").returncode == 0
    assert read_close(stays)[0] == 1001
    out, _ = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, "all clients have disconnected\n")


def test_publish_needs_neither_redis_nor_key(spawn: Spawn, connect: Connect) -> None:
    daemon = spawn()
    relayctl = Operator(daemon.folder)
    push, chat = connect(daemon, "/ws/push/a"), connect(daemon, "/ws/chat/ü?history=0")
    settle(push, chat)
    assert relayctl("publish", "push/a", '{"a": 1}').stdout == "1 client of push/a got it\n"
    assert push.recv(timeout=PATIENCE) == '{"a": 1}'
    said = relayctl.json("publish", "chat/ü", "Gruß")
    assert read(chat) == said
    assert said["message"] == "Gruß"


def test_the_log_level_may_be_changed_while_relayd_runs(
    daemon: Daemon, relayctl: Operator, connect: Connect
) -> None:
    assert relayctl.json("log-level")["level"] == "info"
    assert relayctl("log-level", "error").stdout == "error\n"
    settle(connect(daemon, "/ws/camera/silent"))
    assert relayctl("log-level", "info").stdout == "info\n"
    settle(connect(daemon, "/ws/camera/told"))
    assert "/ws/camera/silent" not in daemon.log
    assert "/ws/camera/told" in daemon.log
    assert relayctl("log-level", "loud").returncode == 2


# -- what may be wrong


def test_relayctl_says_without_a_socket_whether_relayd_runs(daemon: Daemon, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = Operator(elsewhere)("clients")
    check_failed(done, 1, "var/control.sock: no such socket", "a relayd runs as process")


def test_a_dead_socket_is_replaced_and_a_stop_leaves_none(spawn: Spawn) -> None:
    daemon = spawn()
    socket = daemon.folder / "var" / "control.sock"
    assert socket.stat().st_mode & 0o777 == 0o660
    daemon.kill()
    assert socket.exists()
    check_failed(Operator(daemon.folder)("clients"), 1, "no process answers")
    daemon.start()
    assert Operator(daemon.folder).json("clients")["total"] == 0
    daemon.stop()
    assert not socket.exists()


def test_a_socket_in_use_is_an_error_where_the_path_was_configured(
    spawn: Spawn, tmp_path: Path
) -> None:
    path = tmp_path / "chosen.sock"
    first = spawn(control_socket=path)
    second = spawn(control_socket=path, wait=False)
    assert second.process is not None
    assert second.process.wait(timeout=30) == 1
    assert f"{path} is the socket of a running relayd, process {first.pid}" in second.log
    assert Operator(tmp_path, control_socket=path).json("status")["pid"] == first.pid


@pytest.mark.parametrize("what", ["a live one", "a file", "no folder"])
def test_relayd_starts_without_a_control_socket_if_the_default_path_is_unusable(
    tmp_path: Path, what: str
) -> None:
    first = Daemon(tmp_path).start()
    second = Daemon(tmp_path / "second", {"RELAYD_DATABASE_URL": "sqlite:///relayd.db"})
    second.folder.mkdir()
    var = second.folder / "var"
    if what == "a live one":
        var.symlink_to(tmp_path / "var")
    elif what == "a file":
        var.mkdir()
        (var / "control.sock").write_text("mine")
    else:
        var.write_text("mine")
    second.start()
    try:
        assert "no control socket, so relayctl cannot connect: " in second.log
        assert second.get("/healthz")[0] == 200
        assert Operator(tmp_path).json("status")["pid"] == first.pid
    finally:
        second.stop()
        first.stop()
    if what != "a live one":
        assert "mine" in ((var / "control.sock") if var.is_dir() else var).read_text()


def test_a_socket_path_that_is_too_long_is_a_configuration_error(
    spawn: Spawn, tmp_path: Path
) -> None:
    daemon = spawn(control_socket=tmp_path / ("x" * 120), wait=False)
    assert daemon.process is not None
    assert daemon.process.wait(timeout=30) == 78
    assert "107 at most" in daemon.log


def test_no_control_socket_is_created_when_it_is_off(spawn: Spawn) -> None:
    daemon = spawn(control_socket="off")
    assert not (daemon.folder / "var" / "control.sock").exists()
    check_failed(Operator(daemon.folder, control_socket="off")("clients"), 1, '"off"')


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_an_operator_who_may_not_use_the_socket_is_told_who_may(
    spawn: Spawn, tmp_path: Path
) -> None:
    path = Path("/tmp") / f"relayd-test-{os.getpid()}.sock"  # nobody may look into tmp_path
    spawn(control_socket=path)
    operator = Operator(Path("/tmp"), control_socket=path)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    check_failed(
        operator("clients", before=nobody), 1, "permission denied", "root and the group relayd"
    )
    os.chown(path, 0, 65534)
    done = operator("drain", before=nobody)
    assert done.returncode == 0, done

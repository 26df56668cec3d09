"""`/metrics` of a spawned relayd: it shows what has happened; docs/metrics.md lists all of it."""

import contextlib
import re
import socket
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.integration.clients import Refused, read, read_close, say, settle
from tests.integration.conftest import Connect, Spawn
from tests.integration.raw import Raw, handshake, request
from tests.integration.relayctl import Operator
from tests.integration.scraping import scrape, value
from tests.ports import free_port

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
HEADSET = "/ws/difficulty/unity/0b5e8a4e-6f0d-4a8e-9c1c-0a4c7c1d2e3f"
POSE = {"x": 1, "y": 2, "z": 3}


@pytest.fixture
def daemon(spawn: Spawn) -> Daemon:
    return spawn(echo_enabled=True, api_key="a-key-for-tests")


def test_connections_and_messages_are_counted(daemon: Daemon, connect: Connect) -> None:
    cameras = [connect(daemon, "/ws/camera/g") for _ in range(3)]
    chatter = connect(daemon, "/ws/chat/r?history=0")
    headset = connect(daemon, HEADSET)
    for _ in range(10):
        say(cameras[0], POSE)
        for camera in cameras:
            assert read(camera) == POSE
    say(cameras[1], "no pose")
    assert read(cameras[1])["error"] == "bad_json"
    say(chatter, {"message": "hello"})
    assert read(chatter)["message"] == "hello"
    phone = connect(daemon, HEADSET.replace("unity", "android"))
    say(phone, {"difficulty": 1})
    assert read(phone) == {"status": "received"}
    settle(*cameras, chatter, headset, phone)

    metrics = scrape(daemon)
    for kind, count in {"camera": 3, "chat": 1, "difficulty": 2, "push": 0, "echo": 0}.items():
        assert value(metrics, "relayd_connections", kind=kind) == count
        assert value(metrics, "relayd_connections_opened_total", kind=kind) == count
    received = {"camera": 11, "chat": 1, "difficulty": 1}
    for kind, count in received.items():
        assert value(metrics, "relayd_messages_received_total", kind=kind) == count
    assert value(metrics, "relayd_messages_sent_total", kind="camera") == 1
    assert value(metrics, "relayd_messages_sent_total", kind="difficulty") == 2
    assert value(metrics, "relayd_deliveries_total") == 3 * 10 + 1
    assert value(metrics, "relayd_groups", kind="camera") == 1
    assert value(metrics, "relayd_groups", kind="chat") == 1
    for side in ("unity", "android"):
        assert value(metrics, "relayd_pair_sides", side=side) == 1
    assert value(metrics, "relayd_draw_latency_seconds_count") == 1
    assert value(metrics, "relayd_history_append_messages_count") == 1
    for interaction in ("draw", "history.append"):
        name = "relayd_database_interaction_seconds_count"
        assert value(metrics, name, interaction=interaction) == 1
    assert value(metrics, "relayd_database_up") == 1
    assert value(metrics, "process_open_fds") > 6


def test_ends_and_refusals_are_counted_by_code(daemon: Daemon, connect: Connect) -> None:
    leaving, odd = (connect(daemon, "/ws/camera/g") for _ in range(2))
    leaving.close()
    odd.close(4321)
    assert Refused(daemon, "/ws/camera/a%20b").error == "bad_name"
    assert Refused(daemon, HEADSET.replace("unity", "android")).error == "no_unity"
    metrics = scrape(daemon)
    assert value(metrics, "relayd_closes_received_total", code="1000") == 1
    assert value(metrics, "relayd_closes_received_total", code="other") == 1
    assert value(metrics, "relayd_handshakes_refused_total", error="bad_name") == 1
    assert value(metrics, "relayd_handshakes_refused_total", error="no_unity") == 1
    assert value(metrics, "relayd_connections", kind="camera") == 0
    assert value(metrics, "relayd_connections_opened_total", kind="camera") == 2


def test_bytes_that_wait_for_a_slow_client_are_shown(spawn: Spawn, connect: Connect) -> None:
    daemon = spawn(limits_send_buffer=50_000_000, api_key="a-key-for-tests")
    connect(daemon, "/ws/push/t", max_queue=1)  # reads a little, then nothing
    payload = b'{"data": "%s"}' % (b"x" * 60_000)
    for _ in range(300):
        answer = daemon.post("/api/push/t", payload, Authorization="Bearer a-key-for-tests")
        assert answer[0] == 200
        metrics = scrape(daemon)
        if value(metrics, "relayd_slow_clients"):
            break
    assert value(metrics, "relayd_slow_clients") == 1
    assert value(metrics, "relayd_outbox_bytes") >= 60_000


def test_tcp_connections_are_counted_by_state_and_refusals_by_the_limit_of_an_address(
    spawn: Spawn, connect: Connect
) -> None:
    daemon = spawn(
        proxy_trusted="127.0.0.1",
        limits_exempt="",
        limits_groups_per_address=1,
        limits_half_open_per_address=2,
        limits_requests_per_second=0.1,
    )
    stranger = {"additional_headers": {"X-Forwarded-For": "203.0.113.7"}}
    banned = connect(daemon, "/ws/camera/g", **stranger)
    assert Refused(daemon, "/ws/camera/h", **stranger).error == "quota_exceeded"
    assert Operator(daemon.folder)("ban", "203.0.113.0/24").returncode == 0
    assert read_close(banned)[0] == 4403
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(Raw(daemon.port))
        for status in (200, 200, 429):
            kept.send(request("/static/room.js", "X-Forwarded-For: 198.51.100.7"))
            assert kept.response().status == status
        for _ in range(3):
            stack.enter_context(
                socket.create_connection(("127.0.0.1", daemon.port), 5, ("127.0.0.2", 0))
            )
        refusing = stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port), 5))
        refusing.sendall(handshake("/ws/nothing?refuse=close"))
        assert refusing.recv(4096)[9:12] == b"101"
        connect(daemon, "/ws/camera/g")

        metrics = scrape(daemon)
        # the one that asks is the second with HTTP
        states = {"half_open": 2, "http": 2, "websocket": 1, "refused": 1}
        for state, count in states.items():
            assert value(metrics, "relayd_tcp_connections", state=state) == count, state
    assert value(metrics, "relayd_tcp_connections_dropped_total", reason="half_open") == 1
    for limit in ("names", "requests"):
        assert value(metrics, "relayd_address_refusals_total", limit=limit) == 1
    assert value(metrics, "relayd_denials", kind="address") == 1
    most = [
        value(metrics, "relayd_tcp_connections_max", state=state) for state in ("websocket", "all")
    ]
    assert 0 < most[0] < most[1]


# -- docs/metrics.md

_ROW = re.compile(r"\| `(\w+)` \| (\w+) \| ([^|]+) \| ([^|]*) \| ([^|]*) \| ([^|]+) \|")


def test_the_documentation_lists_every_metric_with_its_type_labels_and_help(
    spawn: Spawn, certificate: Path
) -> None:
    """With its type, its labels and, word for word, the text that Prometheus is told."""
    daemon = spawn(
        echo_enabled=True,
        api_key="a-key-for-tests",
        tls_listen=f"tcp:{free_port()}:interface=127.0.0.1",
        tls_certificate=certificate,
        tls_key=certificate,
    )
    metrics = scrape(daemon)
    shown = {
        name: (
            metric.type,
            ", ".join(sorted({label for one in metric.samples for label in one.labels} - {"le"})),
            metric.documentation,
        )
        for name, metric in metrics.items()
    }
    rows = _ROW.findall(DOCS.read_text(encoding="utf-8"))
    written = {
        name: (type, labels.strip(), text.strip()) for name, type, _, labels, _, text in rows
    }
    assert written == shown
    assert len(rows) == len(written)


def test_the_documentation_says_how_workers_are_summed() -> None:
    from relayd.metrics.collector import RULES

    words = {"max": "largest", "min": "smallest"}
    rows = _ROW.findall(DOCS.read_text(encoding="utf-8"))
    for name, *_, rule, _ in rows:
        assert rule.strip() == words.get(RULES.get(name, ""), "sum"), name


@pytest.mark.parametrize("unit", ["seconds", "bytes"])
def test_the_name_of_a_metric_has_its_unit(unit: str) -> None:
    for name, _, written, *_ in _ROW.findall(DOCS.read_text(encoding="utf-8")):
        assert (written.strip() == unit) == name.removesuffix("_total").endswith(f"_{unit}"), name

"""`/sse/...` of a real relayd: over sockets, workers, TLS, a drain, and through nginx."""

import http.client
import json
import re
from pathlib import Path

from tests.daemon import Daemon
from tests.integration.clients import PATIENCE, read, say
from tests.integration.conftest import KEY, Connect, Spawn
from tests.integration.event_clients import Events
from tests.integration.relayctl import Operator
from tests.integration.waiting import eventually
from tests.integration.workers import wait_for_workers
from tests.proxies import Nginx
from tests.redis_servers import Redis


def publish(node: Daemon, target: str, value: object) -> None:
    header = {"Authorization": f"Bearer {KEY}"}
    assert node.post(f"/api/{target}", json.dumps(value).encode(), **header)[0] == 200


def test_a_chat_resumes_behind_the_last_id_and_presence_counts_its_readers(
    relayd: Daemon, connect: Connect
) -> None:
    writer = connect(relayd, "/ws/chat/events?presence=1&history=0")
    assert read(writer)["count"] == 1
    reader = Events(relayd.port, "/sse/chat/events").hello()
    assert read(writer)["count"] == 2
    say(writer, {"message": "one"})
    first = read(writer)
    assert reader.next() == ("message", str(first["id"]), first)
    reader.close()
    assert read(writer)["count"] == 1
    for text in ("two", "three"):
        say(writer, {"message": text})
    missed = [read(writer), read(writer)]
    last = {"Last-Event-ID": str(first["id"])}
    # the header is newer than the address, which stays the same when a browser reconnects
    again = Events(relayd.port, "/sse/chat/events?since=1", **last).hello()
    assert [again.next()[2] for _ in missed] == missed
    refused = Events(relayd.port, "/sse/chat/events", **{"Last-Event-ID": "x"})
    assert (refused.answer.status, json.load(refused.answer)["error"]) == (400, "bad_since")
    again.close()


def test_the_operator_sees_traces_drains_and_ends_readers(spawn: Spawn) -> None:
    node = spawn(api_key=KEY)
    operator = Operator(node.folder)
    reader = Events(node.port, "/sse/push/job").hello()
    listed = operator("clients", "--json")
    assert "/sse/push/job" in listed.stdout
    assert 'relayd_connections{kind="push"} 1' in node.get("/metrics")[1]
    assert operator("drain").returncode == 0
    refused = Events(node.port, "/sse/push/job").answer
    assert (refused.status, json.load(refused)["error"]) == (503, "draining")
    assert int(refused.headers["Retry-After"]) > 0
    publish(node, "push/job", {"percent": 100})
    assert reader.next()[2] == {"percent": 100}
    node.stop()
    assert reader.next() == ("close", "", {"code": 1001, "reason": "restart"})
    assert reader.answer.read() == b""


def test_a_reader_that_sends_nothing_stays_and_one_that_has_gone_is_noticed(spawn: Spawn) -> None:
    node = spawn(api_key=KEY, keepalive_ping_interval=0.5, keepalive_pong_timeout=0.5)
    reader = Events(node.port, "/sse/push/job").hello()
    heartbeats = 0
    while heartbeats < 4:
        line = reader.answer.readline()
        assert line, "the stream has ended"
        heartbeats += line == b":\n"
    assert node.get("/metrics")[1].count('relayd_connections{kind="push"} 1') == 1
    reader.close()
    eventually(lambda: 'relayd_connections{kind="push"} 0' in node.get("/metrics")[1])


def test_readers_and_senders_of_a_group_meet_in_its_worker(spawn: Spawn, connect: Connect) -> None:
    with Redis() as redis:
        node = spawn(server_workers=2, REDIS_URL=f"unix://{redis.socket}")
        wait_for_workers(node)
        readers = [Events(node.port, f"/sse/camera/g{n}").hello() for n in range(6)]
        for n, reader in enumerate(readers):
            camera = connect(node, f"/ws/camera/g{n}")
            say(camera, {"x": n})
            assert reader.next()[2] == read(camera)
            camera.close()
            reader.close()
        opened = [line for line in node.log.splitlines() if " opened by " in line]
        assert {*re.findall(r"\bw[12]\b", "\n".join(opened))} == {"w1", "w2"}
        node.stop()


def test_other_methods_are_answered_and_a_kept_alive_connection_becomes_a_stream(
    relayd: Daemon,
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", relayd.port, timeout=PATIENCE)
    for method in ("POST", "HEAD", "GET"):
        connection.request(method, "/sse/push/job")
        answer = connection.getresponse()
        if method != "GET":
            assert (answer.status, answer.headers["Allow"]) == (405, "GET")
            answer.read()
    assert answer.readline() == b"event: hello\n"
    answer.close()
    connection.close()
    assert relayd.get("/sse/echo")[0] == 404


def test_nginx_as_in_the_example_passes_each_event_at_once(spawn: Spawn, tmp_path: Path) -> None:
    node = spawn(api_key=KEY)
    with Nginx(tmp_path / "proxy", [f"127.0.0.1:{node.port}"]) as nginx:
        reader = Events(nginx.port, "/sse/push/job", nginx.tls()).hello()
        for percent in range(3):
            publish(node, "push/job", {"percent": percent})
            assert reader.next()[2] == {"percent": percent}
        reader.close()


def test_doctor_notices_a_proxy_that_buffers_events(spawn: Spawn, tmp_path: Path) -> None:
    """As nginx does by default, where it is told not to heed what relayd's answer says."""
    node = spawn(api_key=KEY)
    heeds = "# Each event is passed on at once.\n        proxy_buffering off;"
    changes = {heeds: "proxy_ignore_headers X-Accel-Buffering;"}
    with Nginx(tmp_path / "proxy", [f"127.0.0.1:{node.port}"], changes) as nginx:
        doctor = Operator(node.folder)
        command = ("doctor", "--json", "--url", nginx.url)
        found = json.loads(doctor(*command, "--ca", str(nginx.certificates.ca_file)).stdout)
        (finding,) = [each for each in found["findings"] if each["check"] == "events"]
        assert finding["state"] == "fault"
        assert "buffers events" in str(finding)

"""Requests of clients of server-sent events: targets, fields of the head, `Last-Event-ID`.

Each request comes over HTTP/1.1 and over HTTP/2, which must have the same effect.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import jwt
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived

from relayd.config import Api, Auth, Config, Keepalive, Limits, Proxy, Server
from relayd.errors import ErrorCode
from relayd.names import split_events_target
from tests.fuzz.native import places
from tests.fuzz.street import Street
from tests.unit.fakes import logged_failures
from tests.unit.receive_paths import cut

SECRET = "a secret of at least thirty-two bytes"
ORIGIN = "https://app.example"
CONFIG = Config(
    api=Api(allowed_origins=(ORIGIN,)),
    auth=Auth(secret=SECRET),
    keepalive=Keepalive(handshake_timeout=10, close_timeout=5),
    limits=Limits(max_head_size=1000),
    proxy=Proxy(trusted=("192.0.2.7",)),
    server=Server(names=("relay.example",), allowed_origins=(ORIGIN,)),
)
STATUSES = {200, *(code.status for code in ErrorCode)}
_OTHERWISE = (
    rb"connection|host|te|transfer-encoding|upgrade|http2-settings|keep-alive|proxy-connection"
    rb"|content-length|expect"
)
_USUAL = re.compile(rb"(?!(?:%b):)[a-z][a-z0-9-]*: [!-~](?:[ -~]*[!-~])?" % _OTHERWISE)
"""A line of a head that means the same in both versions of HTTP."""


class Answer(NamedTuple):
    """An answer: its fields have lower-case names."""

    status: int
    fields: dict[str, str]
    body: bytes


def requests() -> Iterable[bytes]:
    """Requests of every path, good ones and bad ones."""
    tokens = [jwt.encode(claims, SECRET) for claims in ({}, {"scope": "push"}, {"exp": 0})]
    bearer = [f"authorization: Bearer {token}" for token in tokens]
    for target in (
        "/sse/camera", "/sse/camera/a?senders=1", "/sse/camera/a/?senders=2", "/sse/push/%20",
        "/sse/push/job?refuse=close&heartbeat=1", "/sse/chat?history=2", "/sse/chat/lobby?since=1",
        "/sse/chat/lobby?since=x", "/sse/chat/lobby?presence=1", "/sse/chat/gro%C3%9F", "/sse/echo",
        "/sse/push/a/b", "/sse/%ff", "/sse/chat/%ff?since=%ff", "http://relay.example/sse/push/a",
        "http://other.example/sse/push/a", "http://[/sse/push/a", f"/sse/push/a?token={tokens[0]}",
        "/sse/chat/lobby?since=9999999999999999999999", "/sse/chat/lobby?history=99999999999",
        "/sse/camera/\xff?\xff", "/sse//", "/sse/push", "/ssé/push/a", "*", "/",
    ):  # fmt: skip
        yield b"\0" + target.encode()
        yield b"\2\3\20" + target.encode() + b"\n" + bearer[0].encode()
    for lines in (
        "last-event-id: 2", "last-event-id: x", "last-event-id: 1\nlast-event-id: 2",
        "last-event-id: ", "last-event-id: -1", "last-event-id: \u0662", "last-event-id:\t1",
        "last-event-id: 99999999999999999999999999", f"origin: {ORIGIN}", "origin: http://x.example",
        "origin: null", "cookie: a=b\ncookie: c", "host: relay.example", "no colon", ": none",
        "x-forwarded-for: 203.0.113.9", "x-forwarded-for: \xff, 1", "accept: text/event-stream",
        *bearer, "authorization: Basic x", "upgrade: websocket\nconnection: upgrade", "a b: c",
    ):  # fmt: skip
        yield b"\0/sse/chat/lobby\n" + lines.encode("latin-1", "replace")
        yield b"\1\40/sse/push/job\n" + lines.encode()
    # found: InvalidHeaderName over HTTP/2
    yield b"\0/healthz\nlast/event: 1"


_street: Street | None = None


def check_request(data: bytes) -> None:
    """Nothing fails; the answer is a stream of events or a refusal, by both versions alike."""
    global _street
    if not data:
        return
    if _street is None:
        _street = Street(CONFIG)
        for text in ("one\ntwo", "gr\xfc\xdfe", "\u2028"):
            _street.history.append("lobby", text)
    street, _street = _street, None
    cuts, stream = places(data)
    target, *lines = stream.split(b"\n")
    with logged_failures() as failures:
        first = ask_http1(street, target, lines, cuts)
        second = ask_http2(street, target, lines, cuts)
    assert failures == [], failures
    usual = re.fullmatch(rb"[!-~]+", target) and all(map(_USUAL.fullmatch, lines))
    if usual and first and second and target.startswith(b"/"):
        assert first.status == second.status, (first, second)
        assert refused(first) == refused(second)
    _street = street


def ask_http1(street: Street, target: bytes, lines: list[bytes], cuts: list[int]) -> Answer | None:
    """The answer to a request over HTTP/1.1; None without one."""
    head = b"\r\n".join([b"GET %b HTTP/1.1" % target, b"Host: relay.example", *lines, b"", b""])
    caller = street.visit(cut(head, cuts))
    arrived = caller.transport.arrived
    street.leave(caller)
    if not arrived:
        return None
    answer = read_answer(arrived)
    if split_events_target(head)[0] in ("camera", "chat", "push") and b"\n" not in target:
        check(answer)
    return answer


def ask_http2(street: Street, target: bytes, lines: list[bytes], cuts: list[int]) -> Answer | None:
    """The answer to a request over HTTP/2; None if the stream or the connection has none."""
    h2 = H2Connection(
        H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    )
    h2.initiate_connection()
    head = [
        (b":method", b"GET"), (b":path", target), (b":scheme", b"https"),
        (b":authority", b"relay.example"),
        *((name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)),
    ]  # fmt: skip
    h2.send_headers(1, head, end_stream=True)
    caller = street.visit(cut(h2.data_to_send(), cuts), b"h2")
    found: list[Any] = h2.receive_data(caller.transport.arrived)
    street.leave(caller)
    heads = [event for event in found if isinstance(event, ResponseReceived)]
    if not heads:
        return None
    fields = {name.decode(): value.decode() for name, value in heads[0].headers}
    body = b"".join(event.data for event in found if isinstance(event, DataReceived))
    answer = Answer(int(fields.pop(":status")), fields, body)
    if split_events_target(b"GET %b " % target)[0] in ("camera", "chat", "push"):
        check(answer)
    return answer


def read_answer(arrived: bytes) -> Answer:
    """The first answer of HTTP/1.1, with all that came behind its head."""
    head, end, body = arrived.partition(b"\r\n\r\n")
    assert end, arrived
    line, *lines = head.decode().split("\r\n")
    version, status, _ = line.split(" ", 2)
    assert version in ("HTTP/1.1", "HTTP/1.0"), line
    fields = dict(each.split(": ", 1) for each in lines)
    assert int(status) in {*STATUSES, 301, 302, 303, 304, 308, 501, 505}, line
    return Answer(int(status), {name.lower(): value for name, value in fields.items()}, body)


def refused(answer: Answer) -> str:
    """The code of a refusal; empty if it is none."""
    if answer.fields.get("content-type") != "application/json; charset=utf-8":
        return ""
    return str(json.loads(answer.body).get("error", ""))


def check(answer: Answer) -> None:
    """What a client of events gets: a stream of events, or a status and the flat error."""
    if answer.status == 200:
        assert answer.fields["content-type"] == "text/event-stream; charset=utf-8"
        check_events(answer.body)
        return
    assert answer.status in STATUSES, answer
    assert 400 <= answer.status < 500, answer
    assert answer.fields["content-type"] == "application/json; charset=utf-8"
    assert int(answer.fields["content-length"]) == len(answer.body)
    error = json.loads(answer.body)
    assert set(error) == {"error", "message"}
    assert ErrorCode(error["error"])
    assert error["message"]


def check_events(body: bytes) -> None:
    """Whole events, the first of them `hello`, each with JSON objects in UTF-8."""
    *blocks, rest = re.split(r"(?<=\n)\n", body.decode())
    assert rest == "", body
    for number, block in enumerate(blocks):
        if block == ":\n":
            continue
        lines = [line.split(": ", 1) for line in block.removesuffix("\n").split("\n")]
        fields = {name: value for name, value in lines if name != "data"}
        assert set(fields) <= {"event", "id", "retry"}, block
        assert (fields.get("event") == "hello") is (number == 0), body
        payload = json.loads("\n".join(value for name, value in lines if name == "data"))
        assert isinstance(payload, dict)

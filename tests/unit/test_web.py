"""The HTTP side over in-memory transports, with a stand-in for the rest of relayd."""

import gc
import gzip
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from relayd.config import Api, Config, Echo, Limits, Metrics, Proxy
from relayd.errors import StoreUnavailable
from relayd.stores.health import Trouble
from relayd.stores.states import State
from relayd.web import request as web_request
from relayd.web.site import build_site
from tests.unit.web_fakes import BEARER, KEY, SAID, Client, FakeBackend, Reply, ask


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
def failures() -> Iterator[list[LogEvent]]:
    """What is logged as a failure or error meanwhile."""
    events: list[LogEvent] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event["log_level"].name in ("error", "critical"):
            events.append(event)

    globalLogPublisher.addObserver(observe)
    yield events
    globalLogPublisher.removeObserver(observe)


# Health


def test_healthz_answers_while_everything_else_is_broken(backend: FakeBackend) -> None:
    backend.draining = True
    backend.database = Trouble(State.AWAY, "The database is away.", "secret words")
    for path in ("/healthz", "/healthz/"):
        reply = ask(backend, "GET", path)
        assert (reply.status, reply.json) == (200, {"status": "ok"})
        assert reply.headers["content-type"] == "application/json; charset=utf-8"
        assert reply.headers["cache-control"] == "no-store"


def test_readyz_answers_200_when_every_part_is_in_order(backend: FakeBackend) -> None:
    reply = ask(backend, "GET", "/readyz")
    assert reply.status == 200
    assert reply.json == {
        "ready": True,
        "parts": {part: {"ok": True} for part in ("database", "disk", "redis", "draining")},
    }


def test_readyz_names_the_part_that_is_not_in_order(backend: FakeBackend) -> None:
    backend.database = Trouble(State.READ_ONLY, "The database refuses writes.", "secret words")
    reply = ask(backend, "GET", "/readyz")
    assert reply.status == 503
    assert int(reply.headers["retry-after"]) > 0
    assert reply.json["ready"] is False
    assert reply.json["parts"] == {
        "database": {"ok": False, "state": "read_only", "message": "The database refuses writes."},
        "disk": {"ok": True},
        "redis": {"ok": True},
        "draining": {"ok": True},
    }


def test_readyz_names_an_unavailable_redis(backend: FakeBackend) -> None:
    backend.redis = Trouble(State.AWAY, "Redis is away.", "10.0.0.1 is away")
    reply = ask(backend, "GET", "/readyz")
    assert reply.status == 503
    assert reply.json["parts"]["redis"] == {
        "ok": False,
        "state": "away",
        "message": "Redis is away.",
    }


def test_readyz_answers_503_while_draining_and_ends_the_connection(backend: FakeBackend) -> None:
    backend.draining = True
    reply = ask(backend, "GET", "/readyz")
    assert reply.status == 503
    assert reply.json["parts"]["draining"]["ok"] is False
    assert reply.headers["connection"] == "close"


# Metrics


def ask_metrics(
    host: str | None,
    headers: str = "",
    path: str = "/metrics",
    trusted: tuple[str, ...] = (),
    **settings: Any,
) -> Reply:
    """What a client with an address gets; None: it comes through a unix socket."""
    config = Config(metrics=Metrics(**settings), proxy=Proxy(trusted=trusted))
    client = Client(build_site(FakeBackend(config=config), Clock()))
    address: Any = UNIXAddress(None)
    if host is not None:
        address = (IPv6Address if ":" in host else IPv4Address)("TCP", host, 5)
    client.transport.peerAddr = address
    client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n{headers}\r\n".encode())
    [reply] = client.replies()
    return reply


@pytest.mark.parametrize("path", ["/metrics", "/metrics/"])
@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_metrics_are_served_to_the_same_machine(host: str, path: str) -> None:
    reply = ask_metrics(host, path=path)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert reply.headers["cache-control"] == "no-store"
    assert b"\nrelayd_workers 1.0\n" in reply.body


def test_metrics_are_in_openmetrics_on_request() -> None:
    reply = ask_metrics("127.0.0.1", "Accept: application/openmetrics-text;version=1.0.0\r\n")
    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert reply.body.endswith(b"# EOF\n")


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "fe80::1%eth0"])
def test_metrics_are_refused_to_other_machines(host: str) -> None:
    reply = ask_metrics(host)
    assert (reply.status, reply.json["error"]) == (403, "forbidden")
    assert "[metrics] allow" in reply.json["message"]


@pytest.mark.parametrize(
    ("host", "status"), [("10.1.2.3", 200), ("2001:db8:1::9", 200), ("127.0.0.1", 403)]
)
def test_other_networks_can_be_allowed(host: str, status: int) -> None:
    assert ask_metrics(host, allow=("10.1.0.0/16", "2001:db8::/32")).status == status


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-For: 127.0.0.1",
        "Forwarded: for=127.0.0.1",
        "x-real-ip: 127.0.0.1",
        "X-Forwarded-Proto: https",
        "Via: 1.1 proxy",
        "X-Forwarded-For: ",
    ],
)
def test_a_request_that_a_proxy_has_forwarded_does_not_count_as_local(header: str) -> None:
    reply = ask_metrics("127.0.0.1", f"{header}\r\n")
    assert (reply.status, reply.json["error"]) == (403, "forbidden")
    assert "proxy" in reply.json["message"]


@pytest.mark.parametrize("host", ["127.0.0.1", None])
@pytest.mark.parametrize(
    ("client", "status"),
    [
        ("10.1.2.3", 200),
        ("192.0.2.1, 10.1.2.3", 200),
        ("10.1.2.3, 192.0.2.1", 403),  # the left one can be made up
        ("192.0.2.1", 403),
        ("127.0.0.1", 403),
        ("127.0.0.2", 403),
        ("::ffff:127.0.0.2", 403),
        ("nonsense", 403),
        ("unix:", 403),
        ("", 403),
    ],
)
def test_the_address_given_by_a_trusted_proxy_counts(
    host: str | None, client: str, status: int
) -> None:
    reply = ask_metrics(
        host,
        f"X-Forwarded-For: {client}\r\n",
        trusted=("127.0.0.1", "unix:"),
        allow=("10.1.0.0/16", "127.0.0.0/8"),
    )
    assert reply.status == status


def test_a_proxy_on_this_machine_does_not_speak_for_unix_sockets_elsewhere() -> None:
    headers = "X-Forwarded-For: unix:\r\n"
    assert ask_metrics("127.0.0.1", headers, trusted=("127.0.0.1",)).status == 403


def test_a_proxy_that_is_not_trusted_cannot_lend_an_address() -> None:
    reply = ask_metrics("127.0.0.1", "X-Forwarded-For: 10.1.2.3\r\n", allow=("10.1.0.0/16",))
    assert reply.status == 403


def test_a_client_of_a_unix_socket_counts_as_a_proxy_and_gets_no_metrics() -> None:
    assert ask_metrics(None, allow=("0.0.0.0/0", "::/0")).status == 403


def test_disabled_metrics_are_answered_404() -> None:
    reply = ask_metrics("127.0.0.1", enabled=False)
    assert (reply.status, reply.json["error"]) == (404, "not_found")


# The API


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/push/x", "/api/chat/x/", "/api/else"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_a_key_in_the_configuration_the_api_is_off(path: str, method: str) -> None:
    reply = ask(FakeBackend(config=Config()), method, path, headers="Authorization: Bearer \r\n")
    assert (reply.status, reply.json["error"]) == (404, "api_off")
    assert "[api]" in reply.json["message"]


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "Authorization: Bearer wrong\r\n",
        "Authorization: Bearer \r\n",
        f"Authorization: Basic {KEY}\r\n",
        f"Authorization: {KEY}\r\n",
        "Authorization: Bearer schlüssel\r\n",
    ],
)
@pytest.mark.parametrize("path", ["/api/push/x", "/api/nothing"])
def test_a_missing_or_wrong_key_is_answered_401(
    backend: FakeBackend, shown: str, path: str
) -> None:
    reply = ask(backend, "POST", path, b'{"a":1}', shown)
    assert (reply.status, reply.json["error"]) == (401, "unauthorized")
    assert reply.headers["www-authenticate"].startswith("Bearer")
    assert backend.published == []


@pytest.mark.parametrize("path", ["/api/push/build.1", "/api/push/build.1/"])
def test_a_push_is_delivered_byte_for_byte(backend: FakeBackend, path: str) -> None:
    body = b'{ "progress" : 0.50,\n "name": "\xc3\xa9" }'
    reply = ask(backend, "POST", path, body, BEARER.replace("Bearer", "bearer"))
    assert (reply.status, reply.json) == (200, {"clients": 3})
    assert backend.published == [("push/build.1", body)]


def test_a_chunked_push_is_put_together(backend: FakeBackend) -> None:
    client = Client(build_site(backend, Clock()))
    head = f"POST /api/push/x HTTP/1.1\r\nHost: a\r\n{BEARER}Transfer-Encoding: chunked\r\n\r\n"
    client.send(head.encode() + b'4\r\n{"a"\r\n')
    client.send(b"3\r\n:1}\r\n0\r\n\r\n")
    assert [reply.status for reply in client.replies()] == [200]
    assert backend.published == [("push/x", b'{"a":1}')]


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b'"a"', b"{", b'{"a":"\xff"}', b"{} {}", b"[" * 9999]
)
def test_a_push_must_be_one_json_object(backend: FakeBackend, body: bytes) -> None:
    reply = ask(backend, "POST", "/api/push/x", body, BEARER)
    assert (reply.status, reply.json["error"]) == (400, "bad_json")
    assert backend.published == []


@pytest.mark.parametrize(
    "path",
    [
        "/api/push/a%20b",
        "/api/push/" + "x" * 101,
        "/api/push/%ff",
        "/api/chat/a.b",
        "/api/chat/%2F",
    ],
)
def test_a_bad_name_is_answered_400(backend: FakeBackend, path: str) -> None:
    reply = ask(backend, "POST", path, b'{"message":"a"}', BEARER)
    assert (reply.status, reply.json["error"]) == (400, "bad_name")


def test_a_chat_message_through_the_api_is_answered_with_the_frame_that_clients_get(
    backend: FakeBackend,
) -> None:
    reply = ask(backend, "POST", "/api/chat/Gr%C3%BC%C3%9Fe", '{"message":"hü"}'.encode(), BEARER)
    assert (reply.status, reply.body) == (200, SAID)
    assert backend.said == [("Grüße", "hü")]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"hi", "bad_json"),
        (b" ", "bad_json"),
        (b"{}", "bad_message"),
        (b'{"message":1}', "bad_message"),
    ],
)
def test_a_bad_chat_message_is_answered_400(backend: FakeBackend, body: bytes, code: str) -> None:
    reply = ask(backend, "POST", "/api/chat/x", body, BEARER)
    assert (reply.status, reply.json["error"]) == (400, code)
    assert backend.said == []


def test_an_unavailable_history_is_answered_503(backend: FakeBackend) -> None:
    backend.post_result = StoreUnavailable("The history is away.")
    reply = ask(backend, "POST", "/api/chat/x", b'{"message":"a"}', BEARER)
    assert reply.status == 503
    assert reply.json == {"error": "store_unavailable", "message": StoreUnavailable.sentence}
    assert int(reply.headers["retry-after"]) > 0


@pytest.mark.parametrize("path", ["/api/push/x", "/api/chat/x"])
def test_nothing_is_published_while_stopping(backend: FakeBackend, path: str) -> None:
    backend.stopping = True
    reply = ask(backend, "POST", path, b'{"message":"a"}', BEARER)
    assert (reply.status, reply.json["error"]) == (503, "draining")
    assert int(reply.headers["retry-after"]) > 0
    assert backend.published == []
    assert backend.said == []


# Bodies that are too large

LIMIT = 1000


def limited() -> FakeBackend:
    return FakeBackend(config=Config(api=Api(key=KEY), limits=Limits(max_message_size=LIMIT)))


def push_head(framing: str) -> bytes:
    return f"POST /api/push/x HTTP/1.1\r\nHost: a\r\n{BEARER}{framing}\r\n\r\n".encode()


def test_a_body_of_exactly_the_limit_is_accepted() -> None:
    body = b'{"a":"' + b"x" * (LIMIT - 8) + b'"}'
    assert ask(limited(), "POST", "/api/push/x", body, BEARER).status == 200
    assert ask(limited(), "POST", "/api/push/x", body + b" ", BEARER).status == 413


def test_a_content_length_over_the_limit_is_answered_before_the_body() -> None:
    backend = limited()
    client = Client(build_site(backend, Clock()))
    client.send(push_head("Content-Length: 1001"))
    [reply] = client.replies()
    assert (reply.status, reply.json["error"]) == (413, "too_large")
    assert reply.headers["connection"] == "close"
    assert not client.is_closed()  # or a reset could overtake the answer
    client.send(b"x" * 1001)
    assert client.is_closed()
    assert len(client.replies()) == 1
    assert backend.published == []


def test_a_client_that_waits_for_100_continue_gets_the_413_instead() -> None:
    client = Client(build_site(limited(), Clock()))
    client.send(push_head("Content-Length: 9999999\r\nExpect: 100-continue"))
    assert [reply.status for reply in client.replies()] == [413]
    assert client.is_closed()


def test_100_continue_is_sent_for_a_body_within_the_limit() -> None:
    client = Client(build_site(limited(), Clock()))
    client.send(push_head("Content-Length: 7\r\nExpect: 100-continue"))
    assert [reply.status for reply in client.replies()] == [100]
    client.send(b'{"a":1}')
    assert [reply.status for reply in client.replies()] == [100, 200]


@pytest.mark.parametrize("framing", ["Content-Length: 99999999999", "Transfer-Encoding: chunked"])
def test_a_body_without_end_costs_no_memory_and_is_cut_off(framing: str) -> None:
    client = Client(build_site(limited(), Clock()))
    client.send(push_head(framing))
    request = client.channel.requests[0]
    piece = b"x" * 65536
    data = piece if "Length" in framing else b"10000\r\n" + piece + b"\r\n"
    sent = 0
    while not client.is_closed():
        client.send(data)
        sent += len(data)
        assert sent <= web_request.MOST_DROPPED + 2 * len(data)
        assert len(request.body()) <= LIMIT
    assert [reply.status for reply in client.replies()] == [413]
    client.channel.connectionLost(Failure(ConnectionDone()))


def test_a_chunked_body_is_answered_when_it_grows_too_large() -> None:
    backend = limited()
    client = Client(build_site(backend, Clock()))
    client.send(push_head("Transfer-Encoding: chunked") + b"3e8\r\n" + b"x" * 1000 + b"\r\n")
    assert client.replies() == []
    client.send(b"1\r\nx\r\n")
    assert [reply.status for reply in client.replies()] == [413]
    client.send(b"0\r\n\r\n")
    assert client.is_closed()
    assert backend.published == []


# Methods, paths, headers


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", "GET, HEAD"),
        ("/healthz", "GET, HEAD"),
        ("/chat/x/", "GET, HEAD"),
        ("/api/push/x", "POST"),
    ],
)
@pytest.mark.parametrize("method", ["DELETE", "OPTIONS", "BREW"])
def test_another_method_is_answered_405(
    backend: FakeBackend, path: str, allowed: str, method: str
) -> None:
    reply = ask(backend, method, path, headers=BEARER)
    assert (reply.status, reply.json["error"]) == (405, "method_not_allowed")
    assert reply.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path", ["/", "/chat/", "/chat/x/", "/static/relayd.css", "/readyz", "/no"]
)
def test_head_has_the_headers_of_get_and_no_body(backend: FakeBackend, path: str) -> None:
    got, head = ask(backend, "GET", path), ask(backend, "HEAD", path)
    assert head.status == got.status
    assert head.body == b""
    for name in ("content-length", "content-type"):
        assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("", False), ("gzip", True), ("gzip, deflate, br", True), ("br;q=1.0, GZIP;q=0.8", True),
        ("gzip;q=0", False), ("gzip; q=0.000, br", False), ("gzip;q=0.001", True), ("*", False),
        ("xgzip", False), ("gzipped", False),
    ],
)  # fmt: skip
def test_a_static_file_comes_in_gzip_to_a_client_that_accepts_it(
    backend: FakeBackend, accepted: str, packed: bool
) -> None:
    path, field = "/static/relayd.css", f"Accept-Encoding: {accepted}\r\n"
    plain, reply = ask(backend, "GET", path), ask(backend, "GET", path, headers=field)
    assert reply.headers.get("content-encoding") == ("gzip" if packed else None)
    assert (gzip.decompress(reply.body) if packed else reply.body) == plain.body
    assert (reply.headers["etag"] != plain.headers["etag"]) is packed
    assert reply.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    known = f"If-None-Match: {reply.headers['etag']}\r\n"
    again = ask(backend, "GET", path, headers=field + known)
    assert (again.status, again.body) == (304, b"")
    assert "content-encoding" not in again.headers


def test_a_browser_that_asks_for_an_icon_gets_that_of_the_pages(backend: FakeBackend) -> None:
    icon, page = ask(backend, "GET", "/favicon.ico"), ask(backend, "GET", "/static/icon.svg")
    assert (icon.status, icon.headers["content-type"]) == (200, "image/svg+xml")
    assert icon.body == page.body


@pytest.mark.parametrize("path", ["/no", "//", "/static/", "/chat/a/b", "/healthzz", "*", "/ws/no"])
def test_an_unknown_path_is_answered_404(backend: FakeBackend, path: str) -> None:
    reply = ask(backend, "GET", path)
    assert (reply.status, reply.json["error"]) == (404, "not_found")


def test_the_absolute_form_of_a_target_is_understood(backend: FakeBackend) -> None:
    assert ask(backend, "GET", "http://relay.example/healthz").status == 200
    assert ask(backend, "GET", "http://relay.example").status == 200


SOCKETS = [
    "/ws/camera",
    "/ws/camera/a",
    "/ws/camera/a/",
    "/ws/difficulty/unity/123e4567-e89b-42d3-a456-426614174000",
    "/ws/chat/",
    "/ws/chat/x",
    "/ws/push/x",
]


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_plain_http_on_a_websocket_path_is_answered_426(
    backend: FakeBackend, path: str, method: str
) -> None:
    """RFC 9110 section 15.5.22: Upgrade is required, and 7.8 wants Connection with it."""
    reply = ask(backend, method, path, headers="Accept: text/html\r\n")
    assert (reply.status, reply.json["error"]) == (426, "upgrade_required")
    assert reply.headers["upgrade"] == "websocket"  # RFC 9110 section 15.5.22
    assert reply.headers["connection"] == "Upgrade"


@pytest.mark.parametrize(
    "head",
    [
        "GET /ws/camera HTTP/1.0\r\n\r\n",
        "GET /ws/camera HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n",
        "GET /ws/camera HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n",
        "GET /ws/camera HTTP/1.1\r\nHost: a\r\nX-Real-IP: 203.0.113.9\r\n\r\n",
        "GET /ws/camera HTTP/1.1\r\nHost: a\r\nForwarded: for=203.0.113.9\r\n\r\n",
        "GET /ws/camera HTTP/1.1\r\nHost: a\r\nVia: 2.0 proxy\r\n\r\n",
    ],
)
def test_a_426_through_a_proxy_has_no_upgrade_that_would_be_passed_on(
    backend: FakeBackend, head: str
) -> None:
    """nginx passes it on over HTTP/2, where a client takes it for a malformed answer."""
    client = Client(build_site(backend, Clock()))
    client.send(head.encode())
    [reply] = client.replies()
    assert (reply.status, reply.json["error"]) == (426, "upgrade_required")
    assert "upgrade" not in reply.headers
    assert "Upgrade" not in reply.headers.get("connection", "")


def test_a_426_ends_the_connection(backend: FakeBackend) -> None:
    reply = ask(backend, "GET", "/ws/camera", headers="Connection: close\r\n")
    assert reply.headers["connection"] == "close, Upgrade"


def test_echo_is_a_websocket_path_only_while_it_is_on(backend: FakeBackend) -> None:
    assert ask(backend, "GET", "/ws/echo").status == 404
    backend.config = Config(echo=Echo(enabled=True))
    assert ask(backend, "GET", "/ws/echo").status == 426


@pytest.mark.parametrize(
    "path", ["/", "/chat", "/chat/x/", "/static/room.js", "/healthz", "/no", "/ws/chat", "/api/x"]
)
def test_every_answer_carries_the_security_headers(backend: FakeBackend, path: str) -> None:
    headers = ask(backend, "GET", path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert "connect-src 'self' ws://relay.example:8080 wss://relay.example:8080;" in policy
    for rule in ("base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'"):
        assert rule in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["server"] == "relayd"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("host", ["a b", "a; script-src *", "[::1]:8080", ""])
def test_a_strange_host_does_not_get_into_the_policy(backend: FakeBackend, host: str) -> None:
    client = Client(build_site(backend, Clock()))
    client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    [reply] = client.replies()
    assert "connect-src 'self';" in reply.headers["content-security-policy"]


# Errors


def test_an_exception_is_answered_500_and_logged(
    backend: FakeBackend, failures: list[LogEvent]
) -> None:
    backend.post_result = RuntimeError("secret detail")
    reply = ask(backend, "POST", "/api/chat/x", b'{"message":"a"}', BEARER)
    assert (reply.status, reply.json["error"]) == (500, "internal_error")
    assert b"secret" not in reply.body
    assert [event["log_failure"].value for event in failures] == [backend.post_result]


def test_a_synchronous_exception_is_answered_500(
    backend: FakeBackend, failures: list[LogEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "connection_counts", lambda: 1 / 0)
    reply = ask(backend, "GET", "/", headers="Accept: text/html\r\n")
    assert reply.status == 500
    assert b"Traceback" not in reply.body
    assert b"<h1>500" in reply.body
    assert len(failures) == 1


def test_a_client_that_disconnects_while_it_waits_leaves_no_error(
    backend: FakeBackend, failures: list[LogEvent]
) -> None:
    waiting: Deferred[bytes] = Deferred()
    backend.post_result = waiting
    client = Client(build_site(backend, Clock()))
    client.send(push_head("Content-Length: 15").replace(b"push", b"chat") + b'{"message":"a"}')
    assert backend.said == [("x", "a")]
    client.channel.connectionLost(Failure(ConnectionDone()))
    waiting.callback(SAID)
    gc.collect()
    assert client.replies() == []
    assert failures == []


def test_pipelined_requests_are_answered_in_order(backend: FakeBackend) -> None:
    waiting: Deferred[bytes] = Deferred()
    backend.post_result = waiting
    client = Client(build_site(backend, Clock()))
    client.send(
        push_head("Content-Length: 15").replace(b"push", b"chat")
        + b'{"message":"a"}GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n'
    )
    assert client.replies() == []
    waiting.callback(SAID)
    first, second = client.replies()
    assert (first.body, second.json) == (SAID, {"status": "ok"})


def test_errors_are_pages_for_browsers_and_json_for_programs(backend: FakeBackend) -> None:
    html = "Accept: text/html,*/*;q=0.8\r\n"
    reply = ask(backend, "GET", "/<b>", headers=html)
    assert (reply.status, reply.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert b"<b>" not in reply.body
    for path in ("/api/x", "/ws/none", "/static/x"):
        kind = ask(backend, "GET", path, headers=html).headers["content-type"]
        assert kind == "application/json; charset=utf-8"


def test_an_error_page_keeps_the_headers_of_its_error(backend: FakeBackend) -> None:
    reply = ask(backend, "PUT", "/chat/", headers="Accept: text/html\r\n")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")

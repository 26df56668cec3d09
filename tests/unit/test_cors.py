"""Pages of other origins read the answers of the API and of health, if their origin is allowed."""

import msgspec
import pytest

from relayd.config import Api, Config, Server
from tests.unit.web_fakes import BEARER, KEY, FakeBackend, Reply, ask

PAGE = "https://app.example"
ASKS = f"Origin: {PAGE}\r\nAccess-Control-Request-Method: POST\r\n"


def backend(*allowed: str) -> FakeBackend:
    return FakeBackend(config=Config(api=Api(key=KEY, allowed_origins=allowed)))


def allows(reply: Reply) -> str | None:
    """The origin that may read the answer; what holds for every answer is checked here."""
    assert "access-control-allow-credentials" not in reply.headers
    return reply.headers.get("access-control-allow-origin")


@pytest.mark.parametrize("allowed", [(PAGE,), ("*",), ("https://*.example",)])
@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/api/push/x", BEARER, 200),
        ("POST", "/api/push/x", "", 401),
        ("POST", "/api/nothing", BEARER, 404),
        ("GET", "/api/push/x", BEARER, 405),
        ("GET", "/healthz", "", 200),
        ("GET", "/readyz", "", 200),
    ],
)
def test_an_allowed_page_reads_answers_and_errors(
    allowed: tuple[str, ...], method: str, path: str, headers: str, status: int
) -> None:
    reply = ask(backend(*allowed), method, path, b"{}", headers=f"Origin: {PAGE}\r\n{headers}")
    assert (reply.status, allows(reply), reply.headers["vary"]) == (status, PAGE, "Origin")
    assert "ETag" in reply.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "path", ["/api/push/x", "/api/nothing", "/sse/push/x", "/healthz", "/readyz/"]
)
def test_a_preflight_is_answered_without_a_key(path: str) -> None:
    reply = ask(backend(PAGE), "OPTIONS", path, headers=ASKS)
    assert (reply.status, reply.body, allows(reply)) == (204, b"", PAGE)
    assert reply.headers["access-control-allow-methods"] == "GET, HEAD, POST"
    allowed = reply.headers["access-control-allow-headers"]
    assert allowed == "Authorization, Content-Type, If-None-Match, Last-Event-ID"
    assert reply.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "x", "https://app.example.evil"]
)
def test_another_page_reads_nothing(origin: str) -> None:
    reply = ask(backend(PAGE), "OPTIONS", "/api/push/x", headers=ASKS.replace(PAGE, origin))
    assert (reply.status, reply.json["error"], allows(reply)) == (403, "origin_not_allowed", None)
    reply = ask(backend(PAGE), "GET", "/healthz", headers=f"Origin: {origin}\r\n")
    assert (reply.status, allows(reply), reply.headers["vary"]) == (200, None, "Origin")


def test_without_the_setting_no_page_of_another_origin_reads_anything() -> None:
    reply = ask(backend(), "OPTIONS", "/api/push/x", headers=ASKS)
    assert (reply.status, allows(reply)) == (401, None)
    assert "vary" not in ask(backend(), "GET", "/healthz", headers=ASKS).headers


def test_pages_and_metrics_are_for_no_other_origin() -> None:
    for path in ("/", "/chat/lobby/", "/metrics", "/apis"):
        assert allows(ask(backend("*"), "GET", path, headers=f"Origin: {PAGE}\r\n")) is None


def test_a_refused_host_is_told_to_an_allowed_page() -> None:
    fake = backend(PAGE)
    fake.config = msgspec.structs.replace(fake.config, server=Server(names=("other.example",)))
    reply = ask(fake, "GET", "/healthz", headers=f"Origin: {PAGE}\r\n")
    assert (reply.status, allows(reply)) == (421, PAGE)

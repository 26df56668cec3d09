"""From a request head to 101 or a refusal, with a relay whose admission may take its time."""

import json
from collections.abc import Iterator
from typing import Any

import jwt
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent
from twisted.python.failure import Failure
from websockets.frames import Opcode

from relayd.close_codes import CloseCode
from relayd.config import Auth, Config, Keepalive, Limits, Server
from relayd.connection.websocket import RelayFactory, RelayProtocol
from relayd.edge.refusal import encode_refusal
from relayd.errors import DatabaseUnavailable, ErrorCode, NoUnity, Refusal
from relayd.names import Place
from relayd.relays.paths import KINDS
from tests.frames import BINARY, frame
from tests.unit.fakes import OPEN, Client, World, make_world, mask_frame

PATH = "/ws/test/a%20b/?room=x"
SECRET = "a secret of at least thirty-two bytes"
CONFIG = Config(
    limits=Limits(max_head_size=1000, max_connections=3),
    server=Server(allowed_origins=("https://example.org",)),
    keepalive=Keepalive(handshake_timeout=10, close_timeout=5),
)
REFUSAL = Refusal(ErrorCode.NO_UNITY, "There is no Unity.")


class FakeRelay(RelayProtocol):
    """A relay that admits when the test says so."""

    entry = KINDS["camera"]
    factory: "FakeFactory"
    calls: tuple[str, ...] = ()

    def locate(self, segments: list[str]) -> Place:
        self.segments = segments
        return Place()

    async def admit(self, place: Place, params: dict[str, list[str]]) -> None:
        self.factory.relays.append(self)
        self.calls += ("admit",)
        self.messages: list[bytes] = []
        self.asked = (self.segments, params)
        await self.factory.decide()

    def opened(self) -> None:
        self.calls += ("opened",)

    def received(self, payload: bytes, is_binary: bool) -> None:
        self.messages.append(payload)

    def left(self) -> None:
        self.calls += ("left",)


class FakeFactory(RelayFactory):
    """Builds connections of the test's relay.

    Attributes:
        relays: the connections that were asked to admit somebody.
        pending: what the admissions wait for, if they wait.
        error: what they raise, if they raise.
    """

    protocol = FakeRelay

    def __init__(self, world: World) -> None:
        super().__init__(world.context)
        self.relays: list[FakeRelay] = []
        self.pending: list[Deferred[None]] | None = None
        self.error: Exception | None = None

    async def decide(self) -> None:
        if self.pending is not None:
            deferred: Deferred[None] = Deferred()
            self.pending.append(deferred)
            await deferred
        if self.error is not None:
            raise self.error


class Door:
    """A world with the test's relay in it."""

    def __init__(self, world: World, failures: list[LogEvent]) -> None:
        self.world = world
        self.factory = FakeFactory(world)
        self.failures = failures

    def connect(self, path: str = PATH, **options: Any) -> Client:
        return self.world.connect(self.factory, path, **options)

    def wait(self, path: str = PATH, **options: Any) -> Client:
        """A client whose admission is pending."""
        self.factory.pending = []
        client = self.connect(path, **options)
        assert client.status == 0
        assert len(self.factory.pending) == 1
        return client

    def admit(self, error: Exception | None = None) -> None:
        """Lets the one admission that is pending go on, or fail."""
        assert self.factory.pending is not None
        [pending] = self.factory.pending
        if error is None:
            pending.callback(None)
        else:
            pending.errback(Failure(error))

    @property
    def relay(self) -> Any:
        """The one connection that was asked to admit somebody."""
        [relay] = self.factory.relays
        return relay


@pytest.fixture
def config() -> Config:
    return CONFIG


@pytest.fixture
def door(config: Config) -> Iterator[Door]:
    with make_world(config) as (world, failures):
        yield Door(world, failures)


# What a relay is asked


@pytest.mark.parametrize(
    ("path", "segments", "params"),
    [
        ("/ws/test", [], {}),
        ("/ws/test/", [], {}),
        ("/ws/test/a", ["a"], {}),
        ("/ws/test/a/", ["a"], {}),
        ("/ws/test/a/b/", ["a", "b"], {}),
        ("/ws/test/a%2Fb%20c", ["a%2Fb%20c"], {}),
        ("/ws/test/a;b", ["a;b"], {}),
        ("/ws/test?x=1&y=2&x=3", [], {"x": ["1", "3"], "y": ["2"]}),
        ("/ws/test/a/?x=%C3%A9+b", ["a"], {"x": ["é b"]}),
    ],
)
def test_a_relay_gets_the_rest_of_the_path_and_the_query(
    door: Door, path: str, segments: list[str], params: dict[str, list[str]]
) -> None:
    client = door.connect(path)
    assert client.status == 101
    assert door.relay.asked == (segments, params)


def test_an_empty_segment_is_not_taken_for_a_slash_at_the_end(door: Door) -> None:
    door.connect("/ws/test//a")
    assert door.relay.asked[0] == ["", "a"]


# Refusals


def test_a_refusal_is_a_status_with_a_flat_json_body(door: Door) -> None:
    door.factory.error = REFUSAL
    client = door.connect()
    assert client.refusal == (400, "no_unity")
    assert client.response is not None
    assert json.loads(client.response.body or b"")["message"] == "There is no Unity."
    assert not client.transport.connected
    assert door.relay.calls == ("admit", "left")


def test_an_unavailable_store_refuses_with_503_its_code_and_retry_after(door: Door) -> None:
    door.factory.error = DatabaseUnavailable("The database is away.")
    assert door.connect().refusal == (503, "database_unavailable")


def test_an_exception_during_admission_is_logged_once_and_refuses_with_500(door: Door) -> None:
    door.factory.error = RuntimeError("admit went wrong")
    client = door.connect()
    assert client.refusal == (500, "internal_error")
    assert b"admit went wrong" not in ((client.response and client.response.body) or b"")
    [event] = door.failures
    door.failures.clear()
    assert str(event["log_failure"].value) == "admit went wrong"
    assert door.relay.calls == ("admit", "left")


def test_the_rules_of_every_path_come_before_those_of_the_relay(door: Door) -> None:
    client = door.connect(headers={"Origin": "https://evil.example"})
    assert client.refusal == (403, "origin_not_allowed")
    assert door.factory.relays == []


def test_a_relay_that_did_not_admit_is_not_left(door: Door) -> None:
    client = door.connect(headers={"Origin": "https://evil.example"})
    assert not client.transport.connected
    assert client.server.calls == ()


def test_one_connection_too_many_is_refused_with_429(door: Door) -> None:
    first, _, _ = (door.connect() for _ in range(3))
    assert door.connect().refusal == (429, "too_many_connections")
    first.begin_close()
    assert door.connect().status == 101


def test_a_refused_handshake_is_not_counted_as_a_connection(door: Door) -> None:
    door.factory.error = REFUSAL
    for _ in range(10):
        assert door.connect().status == 400
    assert len(door.world.context.connections) == 0


def test_a_refused_peer_that_does_not_read_is_aborted(door: Door) -> None:
    door.factory.error = REFUSAL
    client = door.connect(peer_reads=False)
    client.pass_time(4.5)
    assert client.transport.connected
    client.pass_time(0.5)
    assert client.transport.aborted
    assert door.relay.calls == ("admit", "left")


def test_a_peer_that_is_refused_with_a_close_has_a_second_to_answer_it(door: Door) -> None:
    door.factory.error = REFUSAL
    client = door.connect("/ws/test?refuse=close", answers=False)
    client.pass_time(0.5)
    assert client.transport.connected
    client.pass_time(0.5)
    assert client.transport.aborted


ERRORS: list[tuple[Exception, int, str]] = [
    (REFUSAL, 400, "no_unity"),
    (Refusal(ErrorCode.NOT_FOUND, "No."), 404, "not_found"),
    (NoUnity("It left."), 503, "no_unity"),
    (DatabaseUnavailable("Away."), 503, "database_unavailable"),
]


@pytest.mark.parametrize(("error", "status", "code"), ERRORS)
@pytest.mark.parametrize("later", [False, True])
def test_a_client_that_cannot_read_a_status_gets_it_as_a_close_code(
    door: Door, error: Exception, status: int, code: str, later: bool
) -> None:
    """`?refuse=close`: accepted and at once closed with 4000 + the status and the code."""
    if later:
        client = door.wait("/ws/test?refuse=close")
        door.admit(error)
    else:
        door.factory.error = error
        client = door.connect("/ws/test?refuse=close")
    assert client.status == 101
    assert client.closed() == (4000 + status, code)
    first, *rest = client.frames()
    assert [frame.opcode for frame in rest] == [Opcode.CLOSE]
    sentence = getattr(error, "sentence", str(error))
    assert json.loads(bytes(first.data)) == {"error": code, "message": sentence}
    assert door.relay.calls == ("admit", "left")


def test_the_rules_of_every_path_can_refuse_with_a_close_code(door: Door) -> None:
    client = door.connect("/ws/test?refuse=close", headers={"Origin": "https://evil.example"})
    assert client.closed() == (4403, "origin_not_allowed")


def test_an_exception_during_admission_can_be_read_as_a_close_code(door: Door) -> None:
    door.factory.error = RuntimeError("admit went wrong")
    assert door.connect("/ws/test?refuse=close").closed() == (4500, "internal_error")
    door.failures.clear()


def test_an_admission_timeout_can_be_read_as_a_close_code(door: Door) -> None:
    client = door.wait("/ws/test?refuse=close")
    client.pass_time(10)
    assert client.status == 101
    assert client.closed() == (4503, "store_unavailable")


def test_a_refused_peer_that_does_not_answer_the_close_is_aborted(door: Door) -> None:
    door.factory.error = REFUSAL
    client = door.connect("/ws/test?refuse=close", answers=False)
    client.transport.deliver(mask_frame(1, b"let me in"))
    client.pass_time(5)
    assert client.transport.aborted
    assert door.relay.messages == []
    assert door.relay.calls == ("admit", "left")


@pytest.mark.parametrize("refuse", ["", "status", "CLOSE", "closed"])
def test_only_refuse_close_asks_for_close_codes(door: Door, refuse: str) -> None:
    door.factory.error = REFUSAL
    assert door.connect(f"/ws/test?refuse={refuse}").refusal == (400, "no_unity")


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (("GET", "POST"), 405, "method_not_allowed"),
        (("HTTP/1.1", "HTTP/1.0"), 505, "bad_request"),
        (("Version: 13", "Version: 8"), 400, "bad_request"),
        (("Version: 13", "Version: x"), 400, "bad_request"),
        (("Sec-WebSocket-Version", "X-Version"), 400, "bad_request"),
        (("Sec-WebSocket-Key: ", "Sec-WebSocket-Key: !"), 400, "bad_request"),
        (("Sec-WebSocket-Key", "X-Key"), 400, "bad_request"),
        (("Connection: Upgrade", "Connection: close"), 400, "bad_request"),
        (("Host: relay.example", "Host: relay.example:x"), 400, "bad_request"),
        (("Upgrade: websocket", "X-Upgrade: websocket"), 426, "upgrade_required"),
        (("/ws/test/", "/ws/test/#"), 400, "bad_request"),
    ],
)
def test_a_head_that_is_no_handshake_is_refused_in_the_same_form(
    door: Door, change: tuple[str, str], status: int, code: str
) -> None:
    head = Client.head_for(PATH).decode()
    assert change[0] in head
    client = door.connect(head=head.replace(*change).encode())
    assert client.refusal == (status, code)
    assert door.factory.relays == []
    assert not client.transport.connected


def test_an_unknown_version_is_answered_with_the_supported_one(door: Door) -> None:
    """RFC 6455 section 4.4."""
    head = Client.head_for(PATH).replace(b"Version: 13", b"Version: 99")
    client = door.connect(head=head)
    assert client.status == 400
    assert client.response is not None
    assert client.response.headers["Sec-WebSocket-Version"] == "13"


@pytest.mark.parametrize(
    "header",
    [
        {"Sec-WebSocket-Protocol": "a, b"},
        {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"},
        {"Sec-WebSocket-Extensions": "x-unknown; a=b, permessage-deflate"},
    ],
)
def test_subprotocols_and_extensions_are_not_answered(door: Door, header: dict[str, str]) -> None:
    """websocket-sharp fails a handshake whose answer has what it did not ask for just so."""
    client = door.connect(headers=header)
    assert client.status == 101
    assert client.response is not None
    assert "Sec-WebSocket-Protocol" not in client.response.headers
    assert "Sec-WebSocket-Extensions" not in client.response.headers


@given(
    st.sampled_from([400, 401, 403, 404, 426, 429, 500, 503]),
    st.text(),
)
def test_an_encoded_refusal_has_the_right_content_length(status: int, message: str) -> None:
    data = encode_refusal(Refusal(ErrorCode.NOT_FOUND, message, status=status), [("X-More", "yes")])
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0].startswith(f"HTTP/1.1 {status} ")
    assert f"Content-Length: {len(body)}" in lines
    assert "X-More: yes" in lines
    assert ("Retry-After: 5" in lines) == (status in (429, 503))
    assert json.loads(body) == {"error": "not_found", "message": message}


@given(st.binary())
@example(b"")
@example(b"GET http://[ HTTP/1.1")
@example(b"GET /ws/test HTTP/1.1\r\nHost: a\r\nOrigin: http://[\r\nUpgrade: websocket")
@example(Client.head_for(PATH).rstrip() + b'\r\nSec-WebSocket-Extensions: a;b="c')
@example(Client.head_for(PATH).rstrip() + b"\r\nSec-WebSocket-Extensions: permessage-deflate; x")
@example(Client.head_for(PATH).rstrip() + b"\r\nOrigin: http://a:99999")
def test_arbitrary_bytes_as_a_head_raise_nothing_and_are_answered(head: bytes) -> None:
    with make_world(CONFIG) as (world, _):
        client = world.connect(FakeFactory(world), PATH, head=head + b"\r\n\r\n")
        assert client.status == 101 or client.refusal


# Admissions that take time


def test_an_admission_may_take_its_time(door: Door) -> None:
    client = door.wait()
    client.pass_time(9.5)
    assert door.relay.calls == ("admit",)
    assert client.transport.connected
    door.admit()
    assert client.status == 101
    assert door.relay.calls == ("admit", "opened")
    client.pass_time(60)
    assert client.closed() == OPEN


def test_an_admission_may_end_in_a_refusal(door: Door) -> None:
    client = door.wait()
    door.admit(REFUSAL)
    assert client.refusal == (400, "no_unity")
    assert door.relay.calls == ("admit", "left")


def test_an_admission_that_takes_too_long_is_refused_with_503(door: Door) -> None:
    client = door.wait()
    client.pass_time(10)
    assert client.refusal == (503, "store_unavailable")
    assert not client.transport.connected
    assert door.relay.calls == ("admit", "left")


def test_the_admission_of_a_peer_that_vanishes_is_cancelled(door: Door) -> None:
    client = door.wait()
    assert door.factory.pending is not None
    [pending] = door.factory.pending
    client.transport.reset()
    assert pending.called
    assert door.world.clock.getDelayedCalls() == []


@pytest.mark.parametrize("end", ["end", "reset"])
@pytest.mark.parametrize("late", [False, True])
def test_a_peer_that_vanishes_while_it_is_admitted_is_left_and_never_opened(
    door: Door, end: str, late: bool
) -> None:
    client = door.wait()
    getattr(client.transport, end)()
    if late:
        door.admit()
    client.pass_time(20)
    assert door.relay.calls == ("admit", "left")
    assert len(door.world.context.connections) == 0
    assert door.world.clock.getDelayedCalls() == []


def test_bytes_sent_before_the_answer_are_received_once_after_it(door: Door) -> None:
    client = door.wait(behind=mask_frame(1, b"one"))
    for payload in (b"two", b"three"):
        frame = mask_frame(1, payload)
        client.transport.deliver(frame[:3])
        client.transport.deliver(frame[3:])
    assert len(door.factory.relays) == 1
    assert door.relay.messages == []
    door.admit()
    client.pump()
    assert door.relay.messages == [b"one", b"two", b"three"]
    client.send("four")
    assert door.relay.messages == [b"one", b"two", b"three", b"four"]


def test_bytes_that_look_like_a_head_are_no_second_handshake(door: Door) -> None:
    """A message of a client whose mask is zero may hold anything."""
    client = door.wait()
    client.transport.deliver(frame(BINARY, client.head, mask=bytes(4)))
    assert len(door.factory.relays) == 1
    door.admit()
    client.pump()
    assert client.status == 101
    assert door.relay.messages == [client.head]


def test_bytes_sent_before_a_refusal_are_discarded(door: Door) -> None:
    client = door.wait(behind=mask_frame(1, b"one"))
    client.transport.deliver(mask_frame(1, b"two"))
    door.admit(REFUSAL)
    assert client.refusal == (400, "no_unity")
    assert door.relay.messages == []


def test_a_close_sent_before_the_answer_ends_the_connection_after_it(door: Door) -> None:
    client = door.wait(behind=mask_frame(1, b"one") + mask_frame(8, b"\x03\xe8"))
    door.admit()
    assert client.closed() == (1000, "")
    assert door.relay.messages == [b"one"]
    assert door.relay.calls == ("admit", "opened", "left")


def test_more_than_a_head_before_the_answer_pauses_reading(door: Door) -> None:
    client = door.wait()
    payloads = [bytes([number]) * 100 for number in range(97, 117)]
    for payload in payloads:
        client.transport.deliver(mask_frame(2, payload))
    read_before = client.transport.reading
    assert len(client.server.data) <= CONFIG.limits.max_head_size + 200
    door.admit()
    client.pump()
    assert (read_before, client.transport.reading) == (False, True)
    assert door.relay.messages == payloads


def test_a_peer_whose_reading_is_paused_may_vanish_or_be_refused(door: Door) -> None:
    client = door.wait()
    for _ in range(20):
        client.transport.deliver(mask_frame(2, b"." * 100))
    client.pass_time(10)
    assert client.refusal == (503, "store_unavailable")
    assert not client.transport.connected
    assert door.relay.calls == ("admit", "left")


def test_a_client_admitted_while_the_server_begins_to_drain_is_refused(door: Door) -> None:
    """Open connections get 1001 then; one that is not open yet must not stay behind."""
    client = door.wait()
    door.world.context.admission.drain()
    door.world.context.connections.close_all(CloseCode.RESTART)
    door.admit()
    client.pump()
    assert client.status == 503 or client.closed() == (1001, "restart")


# Tokens


@pytest.mark.parametrize("config", [msgspec.structs.replace(CONFIG, auth=Auth(secret=SECRET))])
@pytest.mark.parametrize(
    ("query", "header", "offered", "good"),
    [
        ("", None, "", True),
        ("?token={}", None, "", True),
        ("", "Bearer {}", "", True),
        ("", "bearer   {} ", "", True),
        ("?token=x", None, "", False),
        ("", "Bearer x", "", False),
        ("?token=x", "Bearer {}", "", False),
        ("", "Basic {}", "", True),
        ("", "Bearer", "", True),
        ("", None, "relayd, {}", True),
        ("", None, "{}, relayd", True),
        ("", None, "relayd", True),
        ("", None, "relayd, x", False),
        ("", None, "{}", True),
        ("", None, "other, {}", True),
        ("", "Bearer {}", "relayd, x", True),
    ],
)
def test_a_token_is_read_from_the_query_the_header_or_the_subprotocol(
    door: Door, query: str, header: str | None, offered: str, good: bool
) -> None:
    token = jwt.encode({"sub": "ada"}, SECRET, algorithm="HS256")
    headers = {} if header is None else {"Authorization": header.format(token)}
    if offered:
        headers["Sec-WebSocket-Protocol"] = offered.format(token)
    client = door.connect(f"/ws/test{query.format(token)}", headers=headers)
    if not good:
        assert client.refusal == (401, "unauthorized")
        return
    assert client.status == 101
    assert client.response is not None
    answered = client.response.headers.get("Sec-WebSocket-Protocol")
    assert answered == ("relayd" if "relayd" in offered else None)
    shown = "{}" in query or (header or "").lower().startswith("bearer ")
    shown = shown or ("relayd" in offered and "{}" in offered)
    assert client.server.identity.user == ("ada" if shown else None)

"""A connection of HTTP/2 from its first byte on, with the client of the library h2."""

import itertools
import json
import re
from collections.abc import Iterator
from typing import Any, cast

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes

from relayd.close_codes import CloseCode
from relayd.edge.http2 import ALLOWANCE, LINGER, STREAMS, TURN
from tests.unit.doors import House, make_house

KEY = "a-key-for-tests"


class Client:
    """A client, and what it has got."""

    def __init__(self, house: House) -> None:
        self._world = house.world
        self.caller = house.call()
        self.transport: Any = self.caller.transport
        self.transport.negotiatedProtocol = b"h2"
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._read = 0
        self.events: list[Event] = []
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Sends what the library has prepared, and reads the answers."""
        for _ in range(20):
            if data := self.h2.data_to_send():
                self.caller.send(data)
            self._world.clock.advance(0)
            if not self.read():
                return

    def read(self) -> bool:
        """Reads the answers; returns whether there were any."""
        arrived = self.transport.arrived
        new, self._read = arrived[self._read :], len(arrived)
        self.events += self.h2.receive_data(new)
        return bool(new)

    def ask(
        self, path: str, body: bytes | None = None, *fields: tuple[str, str], end: bool = True
    ) -> int:
        """Sends a request; returns its stream."""
        stream = self.h2.get_next_available_stream_id()
        head = [
            (":method", "GET" if body is None else "POST"), (":path", path),
            (":scheme", "https"), (":authority", "relay.example"), *fields,
        ]  # fmt: skip
        self.h2.send_headers(stream, head, end_stream=end and body is None)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=end)
        self.flush()
        return stream

    def status(self, stream: int) -> int | None:
        """The status of the answer on a stream."""
        for event in self.of(ResponseReceived, stream):
            return int(dict(event.headers)[":status"])
        return None

    def body(self, stream: int) -> bytes:
        """The body so far."""
        return b"".join(event.data for event in self.of(DataReceived, stream))

    def of(self, kind: type[Event], stream: int) -> list[Any]:
        """The events of a kind on a stream."""
        return [
            each
            for each in self.events
            if isinstance(each, kind) and getattr(each, "stream_id", None) == stream
        ]

    @property
    def ended(self) -> ErrorCodes | None:
        """With which code relayd has ended the connection."""
        for event in self.events:
            if isinstance(event, ConnectionTerminated):
                code = event.error_code
                return code if isinstance(code, ErrorCodes) else None
        return None


@pytest.fixture
def house() -> Iterator[House]:
    with make_house() as house:
        yield house


@pytest.fixture
def client(house: House) -> Client:
    return Client(house)


def test_requests_on_one_connection_are_answered_each_on_its_stream(client: Client) -> None:
    streams = [client.ask(path) for path in ("/healthz", "/nothing", "/", "/static/relayd.css")]
    assert [client.status(each) for each in streams] == [200, 404, 200, 200]
    assert all(client.of(StreamEnded, each) for each in streams)
    assert json.loads(client.body(streams[1]))["error"] == "not_found"


def test_a_request_with_a_name_of_a_field_that_is_none_is_reset_alone(client: Client) -> None:
    for path in ("/healthz", "/sse/push/job"):
        stream = client.ask(path, None, ("last/event", "1"))
        [reset] = client.of(StreamReset, stream)
        assert reset.error_code == ErrorCodes.PROTOCOL_ERROR
    assert client.status(client.ask("/healthz")) == 200


def test_the_preface_is_http_1_where_tls_has_not_chosen_http_2(house: House) -> None:
    caller = house.call(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert caller.statuses[0] >= 400


def test_an_answer_waits_for_the_window_of_the_client(client: Client) -> None:
    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100})
    client.flush()
    stream = client.ask("/static/relayd.css")
    assert len(client.body(stream)) == 100
    while not client.of(StreamEnded, stream):
        before = len(client.body(stream))
        client.h2.increment_flow_control_window(1000, stream)
        client.flush()
        assert len(client.body(stream)) > before


def test_a_client_that_does_not_read_is_not_read_either(house: House, client: Client) -> None:
    door = client.transport.protocol
    door._http2.pauseProducing()
    stream = client.ask("/healthz")
    assert client.status(stream) is None
    door._http2.resumeProducing()
    client.flush()
    assert client.status(stream) == 200


def test_a_body_over_the_limit_is_refused_before_it_has_come(house: House, client: Client) -> None:
    limit = house.world.current.config.limits.max_message_size
    fields = (("content-length", str(limit + 1)), ("authorization", f"Bearer {KEY}"))
    stream = client.ask("/api/push/news", b"x", *fields, end=False)
    assert client.status(stream) == 413
    assert not client.of(StreamReset, stream)
    other = client.ask("/healthz")
    assert client.status(other) == 200


def test_a_stream_whose_rest_is_not_wanted_is_reset(house: House, client: Client) -> None:
    limit = house.world.current.config.limits.max_message_size
    fields = (("content-length", str(limit + 1)), ("expect", "100-continue"))
    stream = client.ask("/api/push/news", b"x", *fields, end=False)
    assert client.status(stream) == 413
    assert client.of(StreamEnded, stream)
    house.world.clock.advance(LINGER)
    client.flush()
    [reset] = client.of(StreamReset, stream)
    assert reset.error_code == ErrorCodes.NO_ERROR


def test_a_request_that_does_not_end_is_reset(house: House, client: Client) -> None:
    stream = client.ask("/", b"x", end=False)
    # 5 s until the answer 408 to a body that is too slow, 2 s until its end
    for _ in range(6):
        client.ask("/healthz")
        house.world.clock.advance(1)
    assert not client.of(StreamReset, stream)
    house.world.clock.advance(1)
    client.flush()
    assert client.of(StreamReset, stream)
    assert client.ended is None


def test_a_connection_that_rests_ends_in_time_though_it_pings(house: House, client: Client) -> None:
    client.ask("/healthz")
    for _ in range(61):
        if client.ended is None:
            client.h2.ping(b"12345678")
            client.flush()
        house.world.clock.advance(1)
    client.flush()
    assert client.ended == ErrorCodes.NO_ERROR


def test_more_requests_at_a_time_than_announced_end_the_connection(client: Client) -> None:
    assert client.h2.remote_settings.max_concurrent_streams == STREAMS
    client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = 1000
    client.h2.remote_settings.acknowledge()
    for _ in range(STREAMS):
        client.ask("/api/push/news", b"", end=False)
    assert client.ended is None
    client.ask("/api/push/news", b"", end=False)
    assert client.ended is not None


def test_a_head_over_the_limit_ends_the_connection(house: House, client: Client) -> None:
    limit = house.world.current.config.limits.max_head_size
    client.ask("/healthz", None, ("x-long", "x" * limit))
    assert client.ended is not None


@pytest.mark.parametrize("kind", ["pings", "resets", "priorities"])
def test_a_flood_of_frames_that_ask_nothing_ends_the_connection(client: Client, kind: str) -> None:
    for _ in range(round(ALLOWANCE) + 200):
        if client.ended is not None:
            break
        if kind == "pings":
            client.h2.ping(b"12345678")
        elif kind == "resets":
            stream = client.ask("/api/push/news", b"", end=False)
            if client.ended is None:
                client.h2.reset_stream(stream)
        else:
            client.h2.prioritize(1001, weight=5)
        client.flush()
    assert client.ended == ErrorCodes.ENHANCE_YOUR_CALM


def test_requests_that_are_answered_are_no_flood(client: Client) -> None:
    for _ in range(round(ALLOWANCE)):
        client.ask("/healthz")
    assert client.ended is None


def test_a_connection_gets_two_milliseconds_of_a_turn_and_is_not_read_until_its_next(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has sent at once waits: here a look at the clock takes half a millisecond."""
    looks = itertools.count()
    http2 = client.transport.protocol._http2
    monkeypatch.setattr(http2, "_now", lambda: 1e9 + next(looks) * TURN / 4)
    streams = range(1, 2 * STREAMS, 2)
    for stream in streams:
        fields = [(":method", "GET"), (":path", "/healthz"), (":scheme", "https"),
                  (":authority", "relay.example"), ("x-long", f"{stream:0500}")]  # fmt: skip
        client.h2.send_headers(stream, fields, end_stream=True)
    client.transport.deliver(client.h2.data_to_send())
    assert not client.transport.reading
    client.read()
    assert 0 < sum(client.status(stream) == 200 for stream in streams) < STREAMS / 2
    client.flush()
    assert client.transport.reading
    assert [client.status(stream) for stream in streams] == [200] * STREAMS


def test_a_drain_ends_a_connection_that_rests_and_one_in_progress_after_its_answer(
    house: House,
) -> None:
    rests, asks = Client(house), Client(house)
    stream = asks.ask("/api/push/news", b"x", end=False)
    house.backend.draining = True
    settled = house.factory.settled()
    assert settled.called
    rests.flush()
    assert rests.ended == ErrorCodes.NO_ERROR
    asks.h2.send_data(stream, b"", end_stream=True)
    asks.flush()
    assert asks.status(stream) is not None
    assert asks.ended == ErrorCodes.NO_ERROR


def test_a_connection_that_ends_takes_its_timers_along(house: House, client: Client) -> None:
    client.ask("/api/push/news", b"x", end=False)
    client.caller.end()
    assert client.transport.protocol not in house.factory.seats.kept
    calls: list[Any] = [*house.world.clock.getDelayedCalls()]
    assert not [call for call in calls if "Http2" in repr(call.func)]


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([b"\xff" * 9], ErrorCodes.FRAME_SIZE_ERROR),
        ([b"\0\x40\1\0\0\0\0\0\1"], ErrorCodes.FRAME_SIZE_ERROR),
        ([b"\0\0\1\6\0\0\0\0\0x"], ErrorCodes.FRAME_SIZE_ERROR),
        # a head that does not end
        ([b"\0\x01\0\1\0\0\0\0\1" + bytes(256)]
         + [b"\0\x01\0\x09\0\0\0\0\1" + bytes(256)] * 4, ErrorCodes.ENHANCE_YOUR_CALM),
        ([b"\0\0\0\1\0\0\0\0\1"] + [b"\0\0\0\x09\0\0\0\0\1"] * 100,
         ErrorCodes.PROTOCOL_ERROR),
    ],
    ids=["16 MB", "16 KiB and one", "a short ping", "a long head", "many pieces of a head"],
)  # fmt: skip
def test_wrong_frames_end_the_connection(
    client: Client, frames: list[bytes], code: ErrorCodes
) -> None:
    for frame in frames:
        for place in range(len(frame)):
            client.caller.send(frame[place : place + 1])
    client.flush()
    assert client.ended == code


# Server-sent events


def test_events_come_on_a_stream_beside_requests_until_either_side_ends_it(
    house: House, client: Client
) -> None:
    ended, reset = client.ask("/sse/camera/stage"), client.ask("/sse/camera/stage/")
    refused, other = client.ask("/sse/camera/%20"), client.ask("/healthz")
    assert [client.status(each) for each in (ended, reset, refused, other)] == [200, 200, 400, 200]
    assert json.loads(client.body(refused))["error"] == "bad_name"
    connections = house.world.context.connections
    assert (len(connections), house.world.context.seats.taken) == (2, 3)
    house.hub.fan_out("camera/stage", b'{"x":1}')
    client.read()
    for stream in (ended, reset):
        assert client.body(stream).startswith(b"event: hello\n")
        assert client.body(stream).endswith(b'data: {"x":1}\n\n')
    client.h2.reset_stream(reset)
    client.flush()
    assert len(connections) == 1
    connections.close_all(CloseCode.RESTART)
    house.world.clock.advance(0)
    client.read()
    assert b"event: close\n" in client.body(ended)
    assert client.of(StreamEnded, ended)
    house.world.clock.advance(0)
    assert (len(connections), house.world.context.seats.taken) == (0, 1)


def test_events_wait_for_the_window_of_the_client_bounded_and_in_order(
    house: House, client: Client
) -> None:
    client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100})
    client.flush()
    stream = client.ask("/sse/camera/stage")
    (viewer,) = house.world.context.connections
    for number in range(20):
        house.hub.fan_out("camera/stage", b'{"n":%d,"text":"%b"}' % (number, b"x" * 10_000))
    client.read()
    assert len(client.body(stream)) == 100
    assert cast(Any, viewer).outbox.waiting > 100_000
    client.h2.increment_flow_control_window(1_000_000)
    client.h2.increment_flow_control_window(1_000_000, stream)
    client.flush()
    client.flush()
    numbers = re.findall(rb'data: {"n":(\d+),', client.body(stream))
    assert numbers == [b"%d" % number for number in range(20)]
    assert cast(Any, viewer).outbox.waiting == 0


def test_a_connection_of_events_that_is_lost_ends_all_its_streams(
    house: House, client: Client
) -> None:
    for _ in range(3):
        client.ask("/sse/camera/stage")
    client.transport.end()
    assert len(house.world.context.connections) == 0
    assert house.world.context.seats.taken == 0


def test_a_client_of_events_may_open_its_windows_for_each(house: House, client: Client) -> None:
    """Go's does for every 4 KiB, simple ones do for every frame."""
    stream = client.ask("/sse/camera/stage")
    for size, events in ((1, 300), (20_000, 60)):
        for _ in range(events):
            house.hub.fan_out("camera/stage", b'{"text":"%b"}' % (b"x" * size))
            client.read()
            for part in range(0, size, 4096):
                client.h2.increment_flow_control_window(min(4096, size - part))
                client.h2.increment_flow_control_window(min(4096, size - part), stream)
            client.flush()
            assert client.ended is None

"""Request heads that RFC 9110, 9112 and 6455 allow, and Autobahn alone would refuse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.config import Config, Server
from relayd.connection.heads import mend_head
from relayd.connection.opening import read_head
from relayd.connection.subprotocols import shown
from relayd.names import split_target
from tests.unit.fakes import make_world
from tests.unit.opening_ways import ALL, BEHIND, CLIENTS, WAYS, Factory, Side, head

REQUEST = b"GET /ws/camera HTTP/1.1"
HEADS = {
    "extensions on two lines": head(
        REQUEST,
        b"Sec-WebSocket-Extensions: permessage-deflate",
        b"Sec-WebSocket-Extensions: permessage-bzip2; x=1, y",
    ),
    "subprotocols on two lines": head(
        REQUEST, b"Sec-WebSocket-Protocol: a", b"sec-websocket-protocol: relayd"
    ),
    "empty elements among the subprotocols": head(REQUEST, b"Sec-WebSocket-Protocol: ,relayd,, a,"),
    "no subprotocol at all": head(REQUEST, b"Sec-WebSocket-Protocol: ,"),
    "a port that is left out": head(instead=(b"Host", b"relay.example:")),
    "http": head(b"GET http://relay.example/ws/camera HTTP/1.1"),
    "HTTP in upper case": head(b"GET HTTP://relay.example:80/ws/camera?x=1 HTTP/1.1"),
    "ws": head(b"GET ws://relay.example/ws/camera HTTP/1.1"),
    "wss": head(b"GET wss://relay.example:443/ws/camera/a HTTP/1.1"),
}
ORIGINS = (
    *("x", "", "http://", "http://[", "http://a:99999", "http://a:x", "file:///a", "about:blank"),
    *("https://example.org/", "content://", "app://", "http://[::1]:1", "http://a_b", "*", "é"),
    "a b",
)  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_the_rfcs_allow_is_answered_with_101(name: str) -> None:
    for behind in BEHIND[:2]:
        protocol = WAYS.check(HEADS[name] + behind)
        assert protocol.http_response_data.startswith("HTTP/1.1 101 "), name
    assert split_target(HEADS[name])[0] == "camera"


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize(("allowed", "status"), [(("*",), 101), (("https://example.org",), 403)])
def test_every_origin_is_one_of_all_and_an_odd_one_is_no_other(
    origin: str, allowed: tuple[str, ...], status: int
) -> None:
    """RFC 6454 leaves open what an origin without a host looks like; apps send such ones."""
    config = Config(server=Server(allowed_origins=allowed))
    with make_world(config) as (world, _failures):
        stream = head(REQUEST, b"Origin: " + origin.encode("latin-1"))
        factory = Factory(world)
        factory.events = []
        assert world.connect(factory, "/ws/camera", head=stream).status == status


def test_two_origins_are_refused_as_before() -> None:
    for more in (b"Origin: x", b"Origin: https://example.org"):
        stream = head(REQUEST, b"Origin: y", more)
        assert mend_head(stream) == (stream, None)


@given(
    st.lists(
        st.sampled_from([name + b": " + value for name in ALL for value in ALL[name]]), max_size=8
    )
)
def test_a_mended_head_needs_no_mending_and_a_usual_one_none(lines: list[bytes]) -> None:
    stream = head(REQUEST, *lines)
    mended, _ = mend_head(stream)
    assert mend_head(mended) == (mended, None)
    assert read_head(stream) is None or mended == stream


@pytest.mark.parametrize("client", CLIENTS)
def test_the_head_of_a_client_that_many_use_is_not_mended(client: str) -> None:
    stream = b"GET / HTTP/1.1\r\nHost: a\r\n" + CLIENTS[client] + b"\r\n"
    assert mend_head(stream) == (stream, None)


@pytest.mark.parametrize(
    ("offered", "told"),
    [
        ("a, b", "a, b"),
        ("graphql-ws", "graphql-ws"),
        ("eyJhbGciOi.eyJzdWIi.c2lnbmF0dXJlc2ln", "***"),
    ],
)
def test_the_log_says_why_a_client_will_leave_that_needs_another_subprotocol(
    offered: str, told: str
) -> None:
    side = Side(Factory)
    side.run([head(REQUEST, b"Sec-WebSocket-Protocol: " + offered.encode())], "")
    [line] = [line for line in side.lines if "subprotocol" in line]
    assert f"offers the subprotocols {told}; none is answered" in line
    assert offered == told or offered not in "".join(side.lines)


@pytest.mark.parametrize("offered", ["relayd", "a, relayd", "relayd, token"])
def test_the_log_says_nothing_of_a_client_that_offers_ours(offered: str) -> None:
    side = Side(Factory)
    side.run([head(REQUEST, b"Sec-WebSocket-Protocol: " + offered.encode())], "")
    assert not [line for line in side.lines if "subprotocols" in line]


def test_a_token_is_never_shown_as_a_subprotocol() -> None:
    assert shown(["a.b-c+d", "x" * 32, "x" * 33, "é"]) == f"a.b-c+d, {'x' * 32}, ***, ***"

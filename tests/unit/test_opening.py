"""Both ways through an opening handshake have the same effect, whatever the request head."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relayd.connection.opening import read_head
from tests.unit.opening_ways import (
    ALL,
    BEHIND,
    CLIENTS,
    COLONS,
    ENDS,
    KEY,
    LINES,
    ODD_LINES,
    REQUESTS,
    SINGLE,
    TARGETS,
    WAYS,
    Factory,
    Relay,
    Side,
    head,
)


@pytest.mark.parametrize("end", ["", "wait"])
def test_both_ways_have_the_same_effect_for_every_single_oddity(end: str) -> None:
    for each in SINGLE:
        WAYS.check(each, (), end)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("target", [b"/ws/camera", b"/ws/camera?refuse=close"])
def test_both_ways_have_the_same_effect_however_the_admission_ends(target: bytes, end: str) -> None:
    for behind in BEHIND:
        stream = head(b"GET " + target + b" HTTP/1.1") + behind
        assert read_head(stream) is not None
        WAYS.check(stream, (), end)


def test_both_ways_have_the_same_effect_wherever_the_head_is_cut() -> None:
    stream = head() + BEHIND[1]
    for place in range(len(stream)):
        WAYS.check(stream, (place,))


@pytest.mark.parametrize("client", CLIENTS)
def test_the_head_of_a_client_that_many_use_is_a_usual_one(client: str) -> None:
    lines = b"Host: relay.example:8080\r\nSec-WebSocket-Key: " + KEY + b"\r\n" + CLIENTS[client]
    stream = b"GET /ws/camera?token=a HTTP/1.1\r\n" + lines + b"\r\n"
    assert read_head(stream) is not None
    assert WAYS.check(stream).opened_usually


class Initialized(Relay):
    """A relay with attributes of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.own = True


class InitializedFactory(Factory):
    """Builds connections that have attributes of their own."""

    protocol = Initialized


def test_a_relay_may_have_an_init_of_its_own() -> None:
    side = Side(InitializedFactory)
    side.run([head()], "")
    assert side.protocol.opened_usually
    assert side.protocol.own
    assert side.protocol.is_open.called


def test_autobahn_reads_a_head_that_comes_in_pieces() -> None:
    assert not WAYS.check(head(), (20,)).opened_usually


lines = st.one_of(
    st.sampled_from(ODD_LINES),
    *(
        st.builds(
            lambda name, colon, value: name + colon + value,
            st.sampled_from((name, name.lower(), name.upper())),
            st.sampled_from((b": ", *COLONS)),
            st.sampled_from((values[0], *values)),
        )
        for name, values in ALL.items()
    ),
)
needed = st.tuples(
    *(
        st.builds(
            lambda name, colon, value: name + colon + value,
            st.sampled_from((name, name, name.lower(), name.upper())),
            st.sampled_from((b": ", b": ", b": ", *COLONS)),
            st.sampled_from((values[0],) * 9 + values),
        )
        for name, values in LINES.items()
    )
)


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(
    st.sampled_from((REQUESTS[0],) * 9 + REQUESTS),
    st.sampled_from((TARGETS[0],) * 9 + TARGETS),
    needed,
    st.lists(lines, max_size=4),
    st.randoms(use_true_random=False),
    st.sampled_from(BEHIND),
    st.lists(st.integers(0, 400), max_size=2),
    st.sampled_from(("", "", "", *ENDS)),
)
def test_both_ways_have_the_same_effect_for_drawn_heads(
    request: bytes,
    target: bytes,
    fixed: tuple[bytes, ...],
    more: list[bytes],
    order: Any,
    behind: bytes,
    places: list[int],
    end: str,
) -> None:
    drawn = [*fixed, *more]
    order.shuffle(drawn)
    WAYS.check(b"\r\n".join([request % target, *drawn, b"", b""]) + behind, places, end)

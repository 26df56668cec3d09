"""Limits per address: one that guesses, or takes many connections, keeps no other one out."""

import contextlib
import select
import socket
import time
from collections.abc import Iterator

import pytest

from tests.daemon import Daemon
from tests.integration.clients import PATIENCE, Refused
from tests.integration.conftest import Connect
from tests.integration.raw import Raw, handshake, request

GUESSES, HALF_OPEN, CONNECTIONS, REQUESTS = 5, 20, 30, 10


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A relayd with small limits, from which this machine is not exempt; 127.0.0.9 is a proxy."""
    running = Daemon(
        tmp_path_factory.mktemp("addresses"),
        {
            "RELAYD_PROXY_TRUSTED": "127.0.0.9",
            "RELAYD_API_KEY": "a-key-for-tests",
            "RELAYD_LIMITS_EXEMPT": "127.0.0.1/32",
            "RELAYD_LIMITS_FAILURES_PER_SECOND": f"{GUESSES / 100}",
            "RELAYD_LIMITS_HALF_OPEN_PER_ADDRESS": f"{HALF_OPEN}",
            "RELAYD_LIMITS_CONNECTIONS_PER_ADDRESS": f"{CONNECTIONS}",
            "RELAYD_LIMITS_REQUESTS_PER_SECOND": f"{REQUESTS / 10}",
        },
    )
    running.start()
    yield running
    running.stop()


@contextlib.contextmanager
def calls_from(node: Daemon, address: str, count: int = 1) -> Iterator[list[socket.socket]]:
    """Connections from an address of this machine."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                socket.create_connection(("127.0.0.1", node.port), PATIENCE, (address, 0))
            )
            for _ in range(count)
        ]


def answer(caller: socket.socket, *parts: bytes) -> bytes:
    """The first bytes that come back."""
    caller.sendall(b"".join(parts))
    return caller.recv(4096)


def test_an_address_that_guesses_uuids_is_slowed_and_no_other_one(
    node: Daemon, connect: Connect
) -> None:
    guess = handshake("/ws/difficulty/android/123e4567-e89b-42d3-a456-426614174000")
    with calls_from(node, "127.0.0.2", GUESSES + 3) as guessers:
        answers = [answer(guesser, guess) for guesser in guessers]
    assert [found[9:12] for found in answers[:GUESSES]] == [b"400"] * GUESSES
    assert answers[-1][9:12] == b"429"
    assert b"Retry-After: " in answers[-1]
    assert b'"too_many_requests"' in answers[-1]
    with calls_from(node, "127.0.0.3") as [other]:
        assert answer(other, handshake("/ws/camera"))[9:12] == b"101"
    assert Refused(node, "/ws/nothing").status == 404


def test_an_address_that_guesses_keys_is_slowed(node: Daemon) -> None:
    guess = request("/api/push/a", "Authorization: Bearer guess", method="POST")
    with calls_from(node, "127.0.0.4") as [guesser]:
        answers = [answer(guesser, guess)[9:12] for _ in range(GUESSES + 3)]
    assert (answers[0], answers[-1]) == (b"401", b"429")
    right = request("/api/push/a", "Authorization: Bearer a-key-for-tests", method="POST")
    with calls_from(node, "127.0.0.5") as [other]:
        assert answer(other, right)[9:12] == b"400"  # without a body


def test_behind_a_trusted_proxy_the_client_counts_and_not_the_proxy(node: Daemon) -> None:
    with calls_from(node, "127.0.0.9", CONNECTIONS + 5) as proxied:
        client = "X-Forwarded-For: 203.0.113.7"
        for caller in proxied[:CONNECTIONS]:
            assert answer(caller, handshake("/ws/camera", client))[9:12] == b"101"
        refused = answer(proxied[-1], handshake("/ws/camera", client))
        assert refused[9:12] == b"429"
        assert b'"too_many_from_address"' in refused
        other = handshake("/ws/camera", "X-Forwarded-For: 203.0.113.8")
        assert answer(proxied[-2], other)[9:12] == b"101"


def test_half_open_connections_of_one_address_are_few(node: Daemon) -> None:
    strangers, dropped = [], 0
    with contextlib.ExitStack() as stack:
        for _ in range(3 * HALF_OPEN):
            try:
                strangers += stack.enter_context(calls_from(node, "127.0.0.6"))
            except ConnectionResetError:
                dropped += 1
        deadline = time.monotonic() + PATIENCE
        while dropped + len(ended(strangers)) < 2 * HALF_OPEN:
            assert time.monotonic() < deadline
        with calls_from(node, "127.0.0.7") as [other]:
            assert answer(other, handshake("/ws/camera"))[9:12] == b"101"
        assert dropped + len(ended(strangers)) == 2 * HALF_OPEN


def ended(strangers: list[socket.socket]) -> list[socket.socket]:
    """Those whose connection the server has dropped."""
    return select.select(strangers, [], [], 0.05)[0]


def test_requests_of_one_address_have_a_rate_and_its_health_probes_have_none(node: Daemon) -> None:
    with calls_from(node, "127.0.0.8") as [stranger]:
        pages = [answer(stranger, request("/static/room.js", method="HEAD")) for _ in range(15)]
        assert [found[9:12] for found in pages[:REQUESTS]] == [b"200"] * REQUESTS
        assert pages[-1][9:12] == b"429"
        assert answer(stranger, request("/healthz"))[9:12] == b"200"
    with Raw(node.port) as exempt:
        for _ in range(2 * REQUESTS):
            exempt.send(request("/static/room.js"))
            assert exempt.response().status == 200

"""The keys of an issuer behind a URL: fetched over real HTTP and HTTPS, by a test's reactor."""

import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor

from relayd.access.jwks import LARGEST, RETRY, UNKNOWN, Jwks
from relayd.jose.keys import Key
from tests.integration.clients import PATIENCE, Refused, read, say
from tests.integration.conftest import Connect, Spawn
from tests.integration.issuer import Issuer, serving
from tests.ports import free_port
from tests.redis_servers import Certificates

AGE = 600.0
default: Any = reactor
"""The one whose timers Twisted's TLS uses for what it writes, whatever reactor connects."""


class Later:
    """A reactor whose clock a test may advance."""

    def __init__(self, own: EPollReactor) -> None:
        self._own: Any = own
        self.passed = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def seconds(self) -> float:
        """The time of the reactor, and what has passed for the test."""
        return float(self._own.seconds()) + self.passed


class World:
    """A reactor, and the keys that it fetches from an issuer."""

    def __init__(self, own: EPollReactor) -> None:
        self.own = own
        self.reactor = Later(own)
        self.issuer = Issuer()
        self.issuer.rotate("a")

    def jwks(self, *, ca_file: object = "", deadline: float = 5.0) -> Jwks:
        """What fetches them."""
        return Jwks(self.issuer.url, self.reactor, ca_file=str(ca_file), deadline=deadline, age=AGE)

    def get(self, *waiting: Any) -> list[set[str | None] | None]:
        """The names of the keys, for each coroutine; all wait at the same time."""
        results: dict[int, tuple[Key, ...] | None] = {}
        for number, each in enumerate(waiting):
            Deferred.fromCoroutine(each).addCallback(partial(results.__setitem__, number))
        end = time.monotonic() + PATIENCE
        while len(results) < len(waiting):
            assert time.monotonic() < end, "the keys did not come"
            self.own.iterate(0.01)
            default.runUntilCurrent()
        return [
            None if keys is None else {key.kid for key in keys}
            for _, keys in sorted(results.items())
        ]


@pytest.fixture
def world(own: EPollReactor) -> Iterator[World]:
    """A reactor and an issuer without a server yet."""
    world = World(own)
    yield world
    for _ in range(20):  # connections that are about to end
        own.iterate(0.005)
        default.runUntilCurrent()
    if own.threadpool is not None:  # names were resolved
        own.threadpool.stop()


def test_keys_are_cached_and_fetched_again_when_they_are_old(world: World) -> None:
    with serving(world.issuer):
        jwks = world.jwks()
        assert world.get(*[jwks.fresh() for _ in range(3)]) == [{"a"}] * 3
        assert world.get(jwks.fresh()) == [{"a"}]
        assert world.issuer.count == 1
        world.issuer.rotate("b")
        world.reactor.passed += AGE - 5
        assert world.get(jwks.fresh()) == [{"a"}]
        world.reactor.passed += 5
        assert world.get(*[jwks.fresh() for _ in range(3)]) == [{"b"}] * 3
        assert world.issuer.count == 2


def test_an_unknown_kid_has_the_keys_fetched_once_in_a_while(world: World) -> None:
    with serving(world.issuer):
        jwks = world.jwks()
        world.get(jwks.fresh())
        world.issuer.rotate("a", "b")
        assert world.get(*[jwks.renewed() for _ in range(5)]) == [{"a", "b"}] * 5
        for _ in range(5):
            world.get(jwks.renewed())
        assert world.issuer.count == 2
        world.reactor.passed += UNKNOWN
        world.get(jwks.renewed())
        assert world.issuer.count == 3


def test_the_last_good_keys_stay_while_the_issuer_is_away(world: World) -> None:
    port = free_port()
    with serving(world.issuer, port=port):
        jwks = world.jwks()
        world.get(jwks.fresh())
    world.reactor.passed += AGE
    assert world.get(jwks.fresh(), jwks.renewed()) == [{"a"}, {"a"}]
    world.issuer.rotate("b")
    with serving(world.issuer, port=port):
        assert world.get(jwks.fresh()) == [{"a"}]  # not tried again yet
        world.reactor.passed += RETRY
        assert world.get(jwks.fresh()) == [{"b"}]


BAD: dict[str, tuple[int, bytes | None]] = {
    "no JSON": (200, b"<html>"),
    "no set": (200, b"{}"),
    "an empty set": (200, b'{"keys": []}'),
    "a shared secret": (200, json.dumps({"keys": [{"kty": "oct", "k": "a" * 60}]}).encode()),
    "too large": (200, b" " * LARGEST + b"{}"),
    "an error": (500, None),
    "not there": (404, None),
    "a redirect": (302, None),
}


def test_a_bad_answer_leaves_the_last_good_keys(world: World) -> None:
    with serving(world.issuer):
        jwks, never = world.jwks(), world.jwks()
        world.get(jwks.fresh())
        for status, body in BAD.values():
            world.issuer.status, world.issuer.body = status, body
            world.reactor.passed += AGE
            before = world.issuer.count
            assert world.get(jwks.fresh(), never.fresh()) == [{"a"}, None]
            assert world.issuer.count == before + 2


def test_an_issuer_that_does_not_answer_costs_no_more_than_the_deadline(world: World) -> None:
    with serving(world.issuer):
        jwks = world.jwks(deadline=0.2)
        world.issuer.free.clear()
        assert world.get(*[jwks.fresh() for _ in range(3)]) == [None] * 3
        # nobody waits until it is tried again
        assert world.get(jwks.fresh()) == [None]
        assert world.issuer.count == 1
        world.issuer.free.set()
        world.reactor.passed += RETRY
        assert world.get(jwks.fresh()) == [{"a"}]


def test_a_client_that_leaves_does_not_end_the_fetch_of_the_others(world: World) -> None:
    with serving(world.issuer):
        jwks = world.jwks()
        gone = Deferred.fromCoroutine(jwks.fresh())
        gone.addErrback(lambda failure: None)
        gone.cancel()
        assert world.get(jwks.fresh()) == [{"a"}]
        assert world.issuer.count == 1


def test_a_certificate_has_to_be_of_the_authority_and_valid_for_the_host(
    world: World, tmp_path: Path
) -> None:
    good = Certificates(tmp_path / "good", "127.0.0.1")
    cases = {
        "good": (good, good.ca_file, True),
        "other host": (Certificates(tmp_path / "host", "127.0.0.2", "localhost"), None, False),
        "no name": (Certificates(tmp_path / "none"), None, False),
        "expired": (Certificates(tmp_path / "old", "127.0.0.1", days=-1), None, False),
        "other authority": (good, Certificates(tmp_path / "other", "127.0.0.1").ca_file, False),
        "no authority": (good, "", False),
        "no file": (good, tmp_path / "nothing.pem", False),
        "no PEM": (good, good.key, False),
    }
    for certificates, ca_file, trusted in cases.values():
        with serving(world.issuer, certificates):
            trust = certificates.ca_file if ca_file is None else ca_file
            found = world.get(world.jwks(ca_file=trust).fresh())
            assert found == [{"a"} if trusted else None], (certificates.ca_file, ca_file)
    assert world.issuer.count == 1  # nobody else was even asked


def test_a_certificate_for_a_name_is_verified_with_that_name(world: World, tmp_path: Path) -> None:
    for host, trusted in (("localhost", True), ("other.example", False), ("127.0.0.1", False)):
        certificates = Certificates(tmp_path / host, host)
        with serving(world.issuer, certificates):
            world.issuer.url = world.issuer.url.replace("127.0.0.1", "localhost")
            jwks = world.jwks(ca_file=certificates.ca_file)
            for _ in range(2):
                assert world.get(jwks.fresh()) == [{"a"} if trusted else None]
                world.reactor.passed += AGE
            assert world.issuer.count == (2 if trusted else 0)
            world.issuer.count = 0


def test_keys_come_over_plain_http_from_elsewhere_only_where_a_setting_allows_it(
    spawn: Spawn, connect: Connect
) -> None:
    issuer = Issuer()
    issuer.rotate("a")
    with serving(issuer):
        url = issuer.url.replace("127.0.0.1", "0.0.0.0")  # this machine, but no loopback address
        refused = spawn(wait=False, auth_jwks_url=url)
        assert refused.process is not None
        assert refused.process.wait(PATIENCE) == 78
        assert "use https, or set [auth] jwks_http" in refused.log
        daemon = spawn(auth_jwks_url=url, auth_jwks_http=True, auth_camera="token")
        client = connect(daemon, f"/ws/camera/g?token={issuer.token('a')}")
        say(client, {"x": 1})
        assert read(client)["x"] == 1
        assert Refused(daemon, "/ws/camera/g").status == 401


def test_relayd_accepts_the_tokens_of_an_issuer_and_follows_its_keys(
    spawn: Spawn, connect: Connect, tmp_path: Path
) -> None:
    issuer, certificates = Issuer(), Certificates(tmp_path / "tls", "127.0.0.1")
    issuer.rotate("a")
    port = free_port()
    with serving(issuer, certificates, port):
        settings = {
            "auth_jwks_url": issuer.url,
            "auth_jwks_ca_file": certificates.ca_file,
            "auth_jwks_deadline": 2,
            "auth_camera": "token",
        }
        daemon = spawn(**settings)
        late = spawn(**settings)
        first = issuer.token("a", sub="ada", rights=["camera/g:send"])
        client = connect(daemon, f"/ws/camera/g?token={first}")
        say(client, {"x": 1})
        assert read(client)["x"] == 1
        assert Refused(daemon, f"/ws/camera/other?token={first}").status == 403
        assert Refused(daemon, "/ws/camera/g").status == 401
        connect(daemon, "/ws/chat")
        issuer.rotate("b")
        connect(daemon, f"/ws/camera/g?token={issuer.token('b')}")
        assert Refused(daemon, f"/ws/camera/g?token={first}").status == 401
    connect(daemon, f"/ws/camera/g?token={issuer.token('b')}")
    refused = Refused(late, f"/ws/camera/g?token={issuer.token('b')}")
    assert (refused.status, refused.error) == (503, "keys_unavailable")
    assert "the keys cannot be fetched" in late.log
    for log in (daemon.log, late.log):
        assert first not in log

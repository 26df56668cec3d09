"""Faults of the installation or the settings are reported before any connection is made."""

import sys
from pathlib import Path

import pytest
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from relayd.errors import ConfigError, RedisUnavailable
from relayd.redis import urls
from relayd.redis.connection import Connection
from relayd.redis.dial import Dialer
from relayd.redis.replies import describe
from relayd.redis.server import RedisServer
from relayd.redis.settings import Settings
from relayd.redis.shards import Redis
from relayd.tls.verified import CertificateRefused
from tests.unit.fakes import failure, has_fired

TARGET = urls.parse("rediss://localhost")


def test_redis_needs_hiredis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hiredis", None)
    with pytest.raises(ConfigError, match="pip install hiredis"):
        RedisServer(TARGET, Clock())


def test_a_file_of_certificate_authorities_must_exist_and_be_valid(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    with pytest.raises(ConfigError, match=r"ca\.pem: No such file"):
        RedisServer(TARGET, Clock(), Settings(ca_file=str(path)))
    begin, end = "-----BEGIN CERTIFICATE-----\n", "\n-----END CERTIFICATE-----\n"
    for text in ("", "nonsense", begin + "bm9uc2Vuc2U=" + end):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"ca\.pem, is not PEM"):
            RedisServer(TARGET, Clock(), Settings(ca_file=str(path)))


def connecting(reactor: MemoryReactorClock, url: str) -> "Deferred[None]":
    target = urls.parse(url)
    assert isinstance(target, urls.Server)
    connection = Connection("redis", reactor, Settings())
    dialer = Dialer(reactor, Settings(deadline=2.0))
    return Deferred.fromCoroutine(dialer.connect(target.address, connection))


URLS = ["redis://127.0.0.1", "redis://[::1]", "rediss://127.0.0.1", "unix:///s"]


@pytest.mark.parametrize("url", URLS)
def test_a_connection_that_takes_too_long_is_given_up(url: str) -> None:
    reactor = MemoryReactorClock()
    done = connecting(reactor, url)
    reactor.advance(1.9)
    assert not has_fired(done)
    reactor.advance(0.1)
    assert str(failure(done, RedisUnavailable)) == "redis: no connection in 2.0 s"


@pytest.mark.parametrize("url", URLS)
def test_a_cancelled_connection_attempt_fails_with_cancelled(url: str) -> None:
    """RedisUnavailable would be wrong, for then another address might be tried."""
    reactor = MemoryReactorClock()
    done = connecting(reactor, url)
    done.cancel()
    failure(done, CancelledError)
    assert [call for call in reactor.getDelayedCalls() if call.active()] == []


def test_a_server_that_was_never_started_stops() -> None:
    shards = Redis(urls.parse_all(["redis://a", "sentinel://b/s"]), Clock())
    assert shards.stop().called
    assert not shards.available


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionDone(), "Connection was closed cleanly"),
        (ValueError(), "ValueError"),
        (
            SSL.Error([("SSL routines", "", "certificate verify failed")]),
            "TLS: certificate verify failed",
        ),
        (SSL.Error(), "TLS: Error"),
        (SSL.SysCallError(-1, "Unexpected EOF"), "TLS: Unexpected EOF"),
        (CertificateRefused("it has expired"), "TLS: it has expired"),
    ],
)
def test_an_error_of_the_network_is_given_in_a_few_words(error: Exception, text: str) -> None:
    assert describe(error) == text

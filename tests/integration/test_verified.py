"""Certificates of every kind before every kind of TLS connection that relayd makes."""

import os
import shutil
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from relayd.errors import DatabaseUnavailable
from relayd.redis import urls
from relayd.redis.server import RedisServer
from relayd.redis.settings import Settings
from relayd.storage import engines
from relayd.tls import contexts
from relayd.tls.verified import Policy
from tests.redis_scene import PATIENCE, Log, Watch, serves
from tests.redis_servers import Certificates, Redis
from tests.servers import PostgreSQL

HOST = "cache.example.org"
NAMELESS = "the certificate has no DNS name and no IP address in its subjectAltName"
OTHER = "the certificate is not for {host}"

CASES: dict[str, tuple[str, tuple[str, ...], dict[str, Any], str]] = {
    # the host that is dialed, the names of the certificate, more of it, why it is refused
    "its name": (HOST, (HOST,), {}, ""),
    "one of its names": (HOST, ("a.example", HOST, "127.0.0.1"), {}, ""),
    "a wildcard": (HOST, ("*.example.org",), {}, ""),
    "its address": ("127.0.0.1", ("127.0.0.1",), {}, ""),
    "no name": (HOST, (), {}, NAMELESS),
    "no name, for an address": ("127.0.0.1", (), {}, NAMELESS),
    "the common name alone": (HOST, (), {"common_name": HOST}, NAMELESS),
    "an e-mail address alone": (HOST, (f"root@{HOST}",), {"common_name": HOST}, NAMELESS),
    "another name": (HOST, ("other.example.org",), {}, OTHER),
    "a wildcard of another level": (HOST, ("*.a.example.org",), {}, OTHER),
    "another address": ("127.0.0.1", ("127.0.0.2",), {}, OTHER),
    "a name for an address": ("127.0.0.1", ("localhost",), {}, OTHER),
    "an expired one": (HOST, (HOST,), {"days": -1}, "the certificate is refused: it has expired"),
}
LAST = "another authority's"


@pytest.mark.parametrize("case", [*CASES, LAST])
@pytest_twisted.ensureDeferred
async def test_every_connection_takes_valid_certificates_alone_and_names_the_reason(
    case: str, tmp_path: Path
) -> None:
    host, names, more, reason = CASES.get(case) or (
        HOST, (HOST,), {},
        "certificate 1 above the server's is refused: its chain ends at an authority that is not",
    )  # fmt: skip
    reason = reason.format(host=host)
    certificates = Certificates(tmp_path / "own", *names, **more)
    ca_file = certificates.ca_file
    if case == LAST:
        ca_file = Certificates(tmp_path / "other", HOST).ca_file
    with Redis(tls=certificates) as redis:
        await redis_judges(redis.port, host, str(ca_file), reason)
        assert reason in await policy_judges(redis.port, host, str(ca_file))
        assert (reason == "") == python_accepts(redis.port, host, str(ca_file))


async def redis_judges(port: int, host: str, ca_file: str, reason: str) -> None:
    """A server of `[redis] url`, or a master or sentinel behind a sentinel URL."""
    from twisted.internet import reactor

    target = urls.Server(urls.TCP("127.0.0.1", port, True, host))
    with Log() as log:
        server = RedisServer(target, reactor, Settings(ca_file=ca_file))
        watch = Watch(server)
        server.start()
        try:
            if reason:
                line = await log.wait_for("is away")
                assert f"TLS: {reason}" in line
                assert watch.changes == []
            else:
                await watch.until(True)
                await serves(server)
        finally:
            await server.stop()


async def policy_judges(port: int, host: str, ca_file: str) -> str:
    """What fetches the keys of an issuer; why it refused the certificate, or ""."""
    from twisted.internet import reactor

    ended: Deferred[str] = Deferred()

    class Ping(Protocol):
        def connectionMade(self) -> None:
            assert self.transport is not None
            self.transport.write(b"PING\r\n")

        def dataReceived(self, data: bytes) -> None:
            assert self.transport is not None
            self.transport.loseConnection()

        def connectionLost(self, reason: Failure = connectionDone) -> None:
            clean = reason.check(type(connectionDone.value)) is not None
            ended.callback("" if clean else str(reason.value))

    creator = Policy(ca_file).creatorForNetloc(host.encode(), port)
    endpoint = wrapClientTLS(creator, TCP4ClientEndpoint(reactor, "127.0.0.1", port))
    await connectProtocol(endpoint, Ping())
    return await ended.addTimeout(PATIENCE, reactor)


def python_accepts(port: int, host: str, ca_file: str) -> bool:
    """`relayctl doctor` and `bench`, which are clients of Python's own TLS."""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), PATIENCE) as plain,
            contexts.verifying(ca_file).wrap_socket(plain, server_hostname=host) as encrypted,
        ):
            encrypted.sendall(b"PING\r\n")
            return encrypted.recv(7) == b"+PONG\r\n"
    except ssl.SSLCertVerificationError:
        return False


@pytest_twisted.ensureDeferred
async def test_a_redis_whose_certificate_is_not_verified_serves_whatever_it_shows(
    tmp_path: Path,
) -> None:
    from twisted.internet import reactor

    with Redis(tls=Certificates(tmp_path, days=-1)) as redis:
        target = urls.Server(urls.TCP("127.0.0.1", redis.port, True))
        server = RedisServer(target, reactor, Settings(verify=False))
        watch = Watch(server)
        server.start()
        try:
            await watch.until(True)
            await serves(server)
        finally:
            await server.stop()


def test_postgresql_is_verified_as_the_sslmode_of_its_url_says(
    postgresql: PostgreSQL, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path / "own", HOST)
    other = Certificates(tmp_path / "other", HOST)
    with PostgreSQL(postgresql) as server:
        server.stop()
        for name, path in (("cert", certificates.certificate), ("key", certificates.key)):
            copy = server.folder / f"server.{name}"
            shutil.copy(path, copy)
            copy.chmod(0o600)
            if os.geteuid() == 0:
                shutil.chown(copy, "postgres", "postgres")
            server.settings[f"ssl_{name}_file"] = str(copy)
        server.settings["ssl"] = "on"
        server.start()

        def judge(host: str, mode: str, root: Path) -> str:
            url = f"postgresql://relayd@{host}:{server.port}/postgres?hostaddr=127.0.0.1"
            engine = engines.engine(f"{url}&sslmode={mode}&sslrootcert={root}")
            try:
                with engine.connected() as connection:
                    cursor = connection.cursor()
                    cursor.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
                    assert cursor.fetchone() == (True,)
            except DatabaseUnavailable as error:
                return str(error)
            return ""

        assert judge(HOST, "verify-full", certificates.ca_file) == ""
        assert "does not match host name" in judge(
            "other.example", "verify-full", certificates.ca_file
        )
        assert judge("other.example", "verify-ca", certificates.ca_file) == ""
        assert "certificate verify failed" in judge(HOST, "verify-full", other.ca_file)
        assert "does not exist" in judge(HOST, "verify-full", tmp_path / "none")
        assert judge("other.example", "require", tmp_path / "none") == ""

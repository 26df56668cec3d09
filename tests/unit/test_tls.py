"""Certificates in files: what is read, when it is used, and what keeps the one before in use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.task import Clock

from relayd.tls.descriptions import Encrypted, Files, all_files, encrypt, parse
from relayd.tls.pair import BrokenPair, load
from relayd.tls.served import INTERVAL, Certificate, Certificates
from tests.certificates import Chain, write


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return Chain(tmp_path_factory.mktemp("chain"), "relay.example", "127.0.0.1")


@pytest.fixture
def own(tmp_path: Path) -> Chain:
    """A chain whose files the test changes."""
    return Chain(tmp_path, "relay.example")


def files(chain: Chain) -> Files:
    return Files(str(chain.certificate), str(chain.key))


# Descriptions


@pytest.mark.parametrize(
    ("description", "plain", "expected"),
    [
        ("ssl:1:privateKey=k:certKey=c", "tcp:1", Files("c", "k")),
        ("ssl:1:privateKey=k", "tcp:1", Files("k", "k")),
        ("ssl:1", "tcp:1", Files("server.pem", "server.pem")),
        ("ssl:1:k:c", "tcp:1", Files("c", "k")),
        ("ssl:port=1:certKey=c:privateKey=k:extraCertChain=x", "tcp:1", Files("c", "k", "x")),
        (
            r"ssl:1:interface=\:\::backlog=9:privateKey=a\:b:sslmethod=TLS_METHOD:dhParameters=d",
            r"tcp:1:interface=\:\::backlog=9",
            Files("a:b", "a:b"),
        ),
    ],
)
def test_an_ssl_endpoint_is_read_as_twisted_reads_it(
    description: str, plain: str, expected: Files
) -> None:
    assert parse(description) == Encrypted(plain, expected)


@pytest.mark.parametrize("description", ["ssl:", "ssl:1:nonsense=2", "tcp:1"])
def test_a_wrong_ssl_endpoint_is_refused(description: str) -> None:
    with pytest.raises(ValueError, match="ssl:"):
        parse(description)


@pytest.mark.parametrize(
    ("plain", "below"),
    [
        ("tcp:1", "tcp:1"),
        ("tcp:1:127.0.0.1:9", "tcp:1:interface=127.0.0.1:backlog=9"),
        ("tcp:1:backlog=9", "tcp:1:backlog=9"),
        ("tcp6:1", r"tcp:1:interface=\:\:"),
        (r"tcp6:1:9:\:\:1", r"tcp:1:interface=\:\:1:backlog=9"),
    ],
)
def test_tls_is_put_on_a_plain_endpoint(plain: str, below: str) -> None:
    names = Files("a:b=c.pem", r"back\slash")
    assert parse(encrypt(plain, names)) == Encrypted(below, names)


@pytest.mark.parametrize("plain", ["unix:/a", "ssl:1", "tcp", "haproxy:tcp:1"])
def test_tls_is_put_on_tcp_alone(plain: str) -> None:
    with pytest.raises(ValueError, match="not a TCP endpoint"):
        encrypt(plain, Files("c", "k"))


def test_endpoints_with_one_certificate_are_found_together() -> None:
    one, two = "ssl:1:privateKey=k:certKey=c", "haproxy:ssl:2:privateKey=k:certKey=c"
    assert all_files(["tcp:1", one, two, "unix:/a"]) == {Files("c", "k"): [one, two]}


# Files


def test_a_pair_has_the_whole_chain_and_the_names_of_the_first_certificate(chain: Chain) -> None:
    pair = load(files(chain))
    assert len(pair.chain) == 2
    assert pair.names == ["relay.example", "127.0.0.1"]
    assert pair.end == min(each.not_valid_after_utc for each in pair.chain)


def test_issuers_may_be_in_a_file_of_their_own(chain: Chain) -> None:
    separate = Files(str(chain.leaf_file), str(chain.key), str(chain.root_file))
    assert len(load(separate).chain) == 2


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("key.pem", None, "key.pem cannot be read: No such file"),
        ("fullchain.pem", None, "fullchain.pem cannot be read: No such file"),
        ("fullchain.pem", b"", "no whole certificate"),
        ("fullchain.pem", 300, "no whole certificate"),
        ("fullchain.pem", 900, "ends within a certificate"),
        ("key.pem", 100, "no private key"),
        ("key.pem", b"x" * 1100000, "no file of at most"),
        ("key.pem", "fifo", "no file of at most"),
        ("key.pem", "another", "do not belong together"),
        ("key.pem", "passphrase", "passphrase"),
    ],
)
def test_files_that_cannot_be_used_are_told_apart(
    own: Chain, name: str, content: object, reason: str
) -> None:
    path = own.key.with_name(name)
    if isinstance(content, int):
        path.write_bytes(path.read_bytes()[:content])  # half-written
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "another":
        before = own.key.read_bytes()
        own.renew()
        path.write_bytes(before)
    elif content == "passphrase":
        path.write_bytes(
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
    else:
        path.unlink()
        if content == "fifo":
            os.mkfifo(path)
    with pytest.raises(BrokenPair, match=reason):
        load(files(own))


# A watch


@pytest.fixture
def watched(own: Chain) -> Iterator[tuple[Clock, Certificate]]:
    clock = Clock()
    certificates = Certificates(clock)
    certificate = certificates.find(files(own))
    assert certificates.find(files(own)) is certificate
    certificates.start()
    yield clock, certificate
    certificates.stop()
    assert not clock.getDelayedCalls()


def test_changed_files_are_used_within_the_interval(
    own: Chain, watched: tuple[Clock, Certificate]
) -> None:
    clock, certificate = watched
    before = certificate.pair
    clock.advance(INTERVAL)
    assert certificate.pair is before
    write(own.key, own.renew())
    clock.advance(INTERVAL)
    assert certificate.pair.leaf == own.leaf
    assert not certificate.stale


def test_a_new_certificate_never_meets_the_old_key(
    own: Chain, watched: tuple[Clock, Certificate]
) -> None:
    clock, certificate = watched
    before = certificate.pair
    key = own.renew()
    clock.advance(INTERVAL)
    assert certificate.pair is before
    assert "do not belong together" in certificate.stale
    write(own.key, key)
    clock.advance(INTERVAL)
    assert certificate.pair.leaf == own.leaf
    assert not certificate.stale


def test_broken_files_are_stale_until_they_are_whole(
    own: Chain, watched: tuple[Clock, Certificate]
) -> None:
    clock, certificate = watched
    whole = own.certificate.read_bytes()
    before = certificate.pair
    own.certificate.write_bytes(whole[:900])
    clock.advance(INTERVAL)
    assert certificate.pair is before
    assert certificate.stale
    own.certificate.write_bytes(whole)
    clock.advance(INTERVAL)
    assert certificate.pair is before
    assert not certificate.stale


def test_ciphers_are_those_with_forward_secrecy_alone(chain: Chain) -> None:
    names = Certificate(files(chain)).serverConnectionForTLS(None).get_cipher_list()
    assert names
    assert all(name.startswith(("TLS_", "ECDHE-")) and "CBC" not in name for name in names)
    assert all("GCM" in name or "CHACHA20" in name for name in names)

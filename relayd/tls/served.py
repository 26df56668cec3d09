"""The certificates of one process: what a handshake uses, and the watch over their files.

The top of `relayd.tls`; `edge.ports` asks for a certificate, `node` starts and stops the watch. New
files are used by new connections. Files that are broken, half-written or do not belong together
change nothing: the pair before stays, one line is logged, and `stale` says so until they are whole.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IReactorTime
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from relayd.logs import Logger
from relayd.tls.descriptions import Files
from relayd.tls.pair import BrokenPair, Pair, load

INTERVAL = 10.0
"""Seconds between two looks at the files."""
PROTOCOLS = (b"h2", b"http/1.1")
"""What is chosen of a client's offer (ALPN, RFC 7301), the first first."""
CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
"""For TLS 1.2: forward secrecy and authenticated encryption (Mozilla's intermediate list)."""

_Seen = tuple[tuple[int, int, int, int] | None, ...]


@implementer(IOpenSSLServerConnectionCreator)
class Certificate:
    """A certificate and its files; new connections use the newest whole pair.

    Args:
        files: its files.

    Attributes:
        files: its files.
        pair: in use.
        stale: why the files are not in use any more; "" while they are.

    Raises:
        BrokenPair: the files cannot be used.
    """

    _log = Logger()

    def __init__(self, files: Files) -> None:
        self.files = files
        self.stale = ""
        self._seen = _look(files)
        self.pair = load(files)
        self._context = build_context(self.pair)

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:  # noqa: N802
        """What encrypts one connection (`IOpenSSLServerConnectionCreator`)."""
        return SSL.Connection(self._context, None)

    def check(self) -> str:
        """Uses the files if they have changed; keeps the pair in use if they are broken.

        Returns:
            A sentence for the operator; "" for nothing new.
        """
        seen = _look(self.files)  # before they are read: a change in between is seen next time
        if seen == self._seen and not self.stale:
            return ""
        try:
            pair = load(self.files)
            context = build_context(pair)
        except BrokenPair as error:
            why, known, self.stale = str(error), self.stale, str(error)
            if why == known:
                return ""
            self._log.error(
                "TLS: {why}; the certificate before stays in use, until {end:%Y-%m-%d}",
                why=why,
                end=self.pair.end,
            )
            return f"TLS: {why}; the certificate before stays in use"
        self._seen, self.stale = seen, ""
        if pair.chain == self.pair.chain:
            return ""  # the key belongs to it, so it is the same, too
        self.pair, self._context = pair, context
        self._log.info(
            "TLS: {file} has changed; new connections get it, until {end:%Y-%m-%d}",
            file=self.files.certificate,
            end=pair.end,
        )
        return f"TLS: {self.files.certificate} has changed; new connections get it"


class Certificates:
    """All certificates of a process.

    Args:
        clock: for the time of the watch.

    Attributes:
        clock: the same, for the transports.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.clock = clock
        self._found: dict[Files, Certificate] = {}
        self._loop = LoopingCall(self.check)
        self._loop.clock = clock

    def find(self, files: Files) -> Certificate:
        """The certificate of these files, which all its endpoints share.

        Raises:
            BrokenPair: the files cannot be used.
        """
        if files not in self._found:
            self._found[files] = Certificate(files)
        return self._found[files]

    def start(self) -> None:
        """Looks at the files every `INTERVAL` seconds from now on."""
        if self._found:
            self._loop.start(INTERVAL, now=False)

    def stop(self) -> None:
        """Looks no more."""
        if self._loop.running:
            self._loop.stop()

    def check(self) -> list[str]:
        """Looks at all files now; called at a reload, too. What was found, a sentence each."""
        found = [certificate.check() for certificate in self._found.values()]
        return [sentence for sentence in found if sentence]

    def __iter__(self) -> Iterator[Certificate]:
        return iter(self._found.values())


def build_context(pair: Pair) -> SSL.Context:
    """What the handshakes with a certificate use: TLS 1.2 and 1.3, the whole chain, ALPN.

    Raises:
        BrokenPair: OpenSSL refuses the certificate or the key.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(
        SSL.OP_NO_COMPRESSION
        | SSL.OP_NO_RENEGOTIATION  # a client would have us sign again and again
        | SSL.OP_NO_TICKET  # each process would have keys of its own
        | SSL.OP_CIPHER_SERVER_PREFERENCE
        | SSL.OP_SINGLE_ECDH_USE
    )
    # idle connections keep no buffers for records
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(CIPHERS.encode())
    try:
        context.use_certificate(pair.leaf)
        for issuer in pair.chain[1:]:
            context.add_extra_chain_cert(issuer)
        context.use_privatekey(pair.key)
        context.check_privatekey()
    except (SSL.Error, TypeError) as error:
        raise BrokenPair(f"OpenSSL refuses the certificate or its key: {error}") from error
    context.set_alpn_select_callback(_choose)
    return context


class _NoProtocol(SSL.Error):
    """A client offers protocols, but none of ours."""


def _choose(connection: SSL.Connection, offered: Sequence[bytes]) -> bytes:
    """The protocol of a connection, from what its client offers.

    Raises:
        _NoProtocol: it has none of ours; OpenSSL sends the alert (RFC 7301 section 3.2), and to
            Twisted it is an error of OpenSSL.
    """
    for protocol in PROTOCOLS:
        if protocol in offered:
            return protocol
    raise _NoProtocol([])


def _look(files: Files) -> _Seen:
    """What changes when a file does; None for a file that is not there."""
    seen: list[tuple[int, int, int, int] | None] = []
    for path in (files.certificate, files.key, files.chain):
        try:
            status = os.stat(path)
        except OSError:
            seen.append(None)
        else:
            seen.append((status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(seen)

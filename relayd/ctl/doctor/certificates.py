"""Checks of certificates: of the public URL as a client sees it, and of relayd's own endpoints.

Listed in `checks`.
"""

import datetime
import os
import socket
import ssl
import struct
from collections.abc import Iterator
from urllib.parse import urlsplit

from cryptography import x509
from OpenSSL import SSL, crypto

from relayd.ctl import service
from relayd.ctl.common import counted
from relayd.ctl.doctor.facts import Facts
from relayd.ctl.doctor.findings import Finding, fault, ok, skipped, warn
from relayd.tls import descriptions
from relayd.tls.pair import BrokenPair, Pair, load

_TIMEOUT = 10.0  # seconds
_URGENT = 7.0  # days: certbot renews 30 days before the end, so its renewal fails
_RENEW = "renew it: certbot renew, then reload what serves it (systemctl reload nginx)"


def look_at_public(facts: Facts) -> Iterator[Finding]:
    """Whether clients trust the certificate of the public URL, and for how long."""
    parts = urlsplit(facts.options.url)
    if parts.scheme not in ("https", "wss") or not parts.hostname:
        yield skipped("no --url with https:// was given")
        return
    host, port = parts.hostname, parts.port or 443
    try:
        trust = facts.trust()
        with socket.create_connection((host, port), _TIMEOUT) as plain:
            trust.wrap_socket(plain, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        yield _judge_refusal(host, error)
    except ssl.SSLError as error:
        yield fault(
            f"{host}:{port} does not speak a supported version of TLS: {error.reason}",
            "listen ... ssl; with ssl_protocols TLSv1.2 TLSv1.3",
        )
        return
    except OSError as error:
        yield fault(
            f"{host}:{port} cannot be reached: {error.strerror or error}",
            "does the name resolve to this server, and do firewall and proxy allow the port?",
        )
        return
    else:
        yield ok(f"the certificate of {host} is trusted")
    yield from _judge_end(f"the certificate of {host}", _presented(host, port), facts.options.days)


def look_at_files(facts: Facts) -> Iterator[Finding]:
    """Whether clients would trust what relayd's own endpoints with TLS send."""
    found = descriptions.all_files(facts.listen)
    if not found:
        yield skipped("no endpoint of relayd speaks TLS: no [tls] certificate, none of ssl:")
    for files, endpoints in found.items():
        try:
            pair = load(files)
        except BrokenPair as error:
            yield fault(
                str(error),
                "certificate is the full chain, the server's own first; key is its private key; "
                "relayd's user must be able to read both",
            )
            continue
        chain = pair.chain
        for endpoint in endpoints:
            sent = _sent(facts, endpoint)
            if sent and sent[0] != pair.leaf:
                yield warn(
                    f"{endpoint} sends another certificate than {files.certificate} has, until "
                    f"{sent[0].not_valid_after_utc:%Y-%m-%d}",
                    f"{service.command(os.environ)} reload; the log says why they were not used",
                )
            chain = sent or chain
        yield from _judge_end(files.certificate, chain[0], facts.options.days)
        yield from _judge_chain(facts, files.certificate, chain)
        yield _judge_names(facts, files.certificate, pair)


def _sent(facts: Facts, endpoint: str) -> list[x509.Certificate]:
    """The chain that an endpoint sends; empty if nobody answers there."""
    target = facts.targets.get(endpoint)
    if target is None:
        return []
    try:
        with socket.create_connection((target.host, target.port), _TIMEOUT) as plain:
            # OpenSSL blocks; the kernel ends that (socket(7))
            plain.settimeout(None)
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                plain.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(_TIMEOUT), 0))
            client = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), plain)
            client.set_connect_state()
            client.do_handshake()
            return client.get_peer_cert_chain(as_cryptography=True) or []
    except (OSError, SSL.Error):
        return []


def _judge_chain(facts: Facts, what: str, chain: list[x509.Certificate]) -> Iterator[Finding]:
    """Whether a client that knows the roots alone can follow a chain to one of them."""
    store = crypto.X509Store()
    paths = ssl.get_default_verify_paths()
    if facts.options.ca:
        store.load_locations(facts.options.ca)
    elif paths.cafile or paths.capath:
        store.load_locations(paths.cafile, paths.capath)
    leaf, *rest = map(crypto.X509.from_cryptography, chain)
    # whether it has ended is a finding of its own
    begin = max(each.not_valid_before_utc for each in chain)
    store.set_time(begin + datetime.timedelta(seconds=1))
    try:
        crypto.X509StoreContext(store, leaf, rest).verify_certificate()
    except crypto.X509StoreContextError as error:
        yield fault(
            f"clients do not trust the chain of {what}, which has "
            f"{counted(len(chain), 'certificate', 'certificates')}: {error}",
            "put the whole chain into the file: fullchain.pem, not cert.pem; for an authority of "
            "your own, --ca FILE",
        )
    else:
        yield ok(f"the chain of {what} leads to a root that is trusted")


def _judge_names(facts: Facts, what: str, pair: Pair) -> Finding:
    """Whether a certificate is for the host of the public URL."""
    host = urlsplit(facts.options.url).hostname
    names = ", ".join(pair.names) or "no name"
    if host is None:
        return ok(f"{what} is for {names}")
    wildcard = "*." + host.partition(".")[2]
    if host in pair.names or wildcard in pair.names:
        return ok(f"{what} is for {host}")
    return fault(
        f"{what} is not for {host}, but for {names}",
        "get a certificate for that name: certbot --expand -d NAME",
    )


def _judge_refusal(host: str, error: ssl.SSLCertVerificationError) -> Finding:
    reason = error.verify_message
    remedy = _RENEW
    if "unable to get" in reason or "self-signed" in reason or "self signed" in reason:
        remedy = (
            "serve the whole chain: fullchain.pem in ssl_certificate, not cert.pem; for an "
            "authority of your own, --ca FILE"
        )
    elif "mismatch" in reason or "not valid for" in reason:
        remedy = "get a certificate for that name: certbot --expand -d NAME"
    return fault(f"clients do not trust the certificate of {host}: {reason}", remedy)


def _presented(host: str, port: int) -> x509.Certificate | None:
    """The certificate that is served, trusted or not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), _TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname=host) as encrypted,
        ):
            served = encrypted.getpeercert(binary_form=True)
    except OSError:
        return None
    return x509.load_der_x509_certificate(served) if served else None


def _judge_end(what: str, certificate: x509.Certificate | None, days: float) -> Iterator[Finding]:
    if certificate is None:
        return
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    until = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
    if left.total_seconds() < 0:
        yield fault(f"{what} has expired on {until}", _RENEW)
    elif left < datetime.timedelta(days=min(days, _URGENT)):
        yield fault(f"{what} expires in {left.days} days, on {until}", _RENEW)
    elif left < datetime.timedelta(days=days):
        yield warn(f"{what} expires in {left.days} days, on {until}", _RENEW)
    else:
        yield ok(f"{what} is good until {until}")

"""Checks of certificates: of the public URL as a client sees it, and of relayd's own endpoints.

Listed in `checks`.
"""

import datetime
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from relayd.ctl.doctor.facts import Facts
from relayd.ctl.doctor.findings import Finding, fault, ok, skipped, warn

_TIMEOUT = 10.0  # seconds
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
    """Whether the files of `ssl:` endpoints can be read, belong together, and are valid."""
    found = False
    for description in facts.listen:
        if not description.startswith("ssl:"):
            continue
        found = True
        words = dict(re.findall(r":(\w+)=((?:[^:\\]|\\.)*)", description))
        key = words.get("privateKey", "server.pem").replace("\\:", ":")
        certificate = words.get("certKey", key).replace("\\:", ":")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
            parsed = x509.load_pem_x509_certificate(Path(certificate).read_bytes())
        except ssl.SSLError as error:
            yield fault(
                f"{description}: {certificate} and {key} do not belong together: {error.reason}",
                "name the certificate in certKey and its own key in privateKey",
            )
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            yield fault(
                f"{description}: {certificate} or {key} cannot be read: {why}",
                "relayd's user must be able to read both",
            )
        else:
            yield from _judge_end(certificate, parsed, facts.options.days)
    if not found:
        yield skipped("no endpoint of [server] listen is of the kind ssl:")


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
    elif left < datetime.timedelta(days=days):
        yield warn(f"{what} expires in {left.days} days, on {until}", _RENEW)
    else:
        yield ok(f"{what} is good until {until}")

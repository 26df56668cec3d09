"""TLS connections that relayd makes: a certificate that is not valid for the host ends them.

Under `redis` (servers and sentinels) and `access.jwks`. Twisted's own callback lets a connection
pass if service_identity raises an error other than VerificationError, such as for a certificate
without a usable subjectAltName: it fails open. The callbacks here end the connection on every
error, with a reason for the log. A context that was used takes no other callback: each
`Connections` has one of its own.
"""

import re
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from service_identity import CertificateError, VerificationError, pyopenssl
from twisted.internet import ssl
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python.failure import Failure
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

_PEM = re.compile(b"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

# X509_V_ERR_*, X509_STORE_CTX_get_error(3)
_CHAIN = {
    7: "a signature in its chain is wrong",
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed, and not among the authorities that are trusted",
    19: "its chain ends at an authority that is not trusted",
    20: "the authority that signed it is not trusted, or its chain is not complete",
    21: "the authority that signed it is not trusted, or its chain is not complete",
    23: "it has been revoked",
    24: "a certificate in its chain is not one of an authority",
    26: "it is not for servers",
}


class CertificateRefused(Exception):
    """A certificate is not valid for its host; the text says why."""


def authorities(ca_file: str = "") -> Any:
    """The authorities that a client trusts.

    Args:
        ca_file: a PEM file with their certificates; "" for those of the system.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not PEM, or holds no certificate.
    """
    if not ca_file:
        return ssl.platformTrust()
    found = _PEM.findall(Path(ca_file).read_bytes())
    if not found:
        raise ValueError(f"{ca_file} holds no certificate (PEM)")
    try:
        return ssl.trustRootFromCertificates([ssl.Certificate.loadPEM(pem) for pem in found])
    except Exception as error:
        raise ValueError(f"{ca_file} is not PEM") from error


@implementer(IOpenSSLClientConnectionCreator)
class Connections:
    """Makes the TLS connections to one host.

    Args:
        host: a name or an IP address (without brackets) that the certificate must be for.
        trust: from `authorities`.
        verify: False accepts every certificate.
    """

    def __init__(self, host: str, trust: Any, *, verify: bool = True) -> None:
        self._is_address = isIPAddress(host) or isIPv6Address(host)
        self._host = host if host.isascii() else host.encode("idna").decode()
        if verify:
            self._context = ssl.CertificateOptions(trustRoot=trust).getContext()
            self._context.set_verify(
                SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _look_at_chain
            )
            self._context.set_info_callback(self._look_at_name)
        else:
            self._context = ssl.CertificateOptions(verify=False).getContext()

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:  # noqa: N803
        """A connection that ends itself if the certificate is not valid for the host."""
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(tlsProtocol)
        if not self._is_address:  # RFC 6066 section 3 has no addresses in SNI
            connection.set_tlsext_host_name(self._host.encode("ascii"))
        return connection

    def _look_at_name(self, connection: SSL.Connection, where: int, _: int) -> None:
        if not where & SSL.SSL_CB_HANDSHAKE_DONE:
            return
        try:
            self._check_name(connection)
        except Exception as error:
            reason = str(error) if isinstance(error, CertificateRefused) else repr(error)
            connection.get_app_data().failVerification(Failure(CertificateRefused(reason)))

    def _check_name(self, connection: SSL.Connection) -> None:
        """Compares the names of the certificate (RFC 9525). Raises CertificateRefused."""
        try:
            if self._is_address:
                pyopenssl.verify_ip_address(connection, self._host)
            else:
                pyopenssl.verify_hostname(connection, self._host)
        except VerificationError as error:
            raise CertificateRefused(f"the certificate is not for {self._host}") from error
        except CertificateError as error:
            if "subjectAltName" in str(error):
                raise CertificateRefused(
                    "the certificate has no DNS name and no IP address in its subjectAltName; the "
                    "common name does not count (RFC 9525)"
                ) from error
            raise CertificateRefused(f"the certificate's names are invalid: {error}") from error


@implementer(IPolicyForHTTPS)
class Policy:
    """The policy of a `twisted.web.client.Agent`: every certificate is verified.

    Args:
        ca_file: as for `authorities`, whose exceptions this raises.
    """

    def __init__(self, ca_file: str = "") -> None:
        self._trust = authorities(ca_file)

    def creatorForNetloc(self, hostname: bytes, port: int) -> Connections:  # noqa: N802
        """What makes the TLS connections to a host."""
        return Connections(hostname.decode("ascii").strip("[]"), self._trust)


def _look_at_chain(
    connection: SSL.Connection, certificate: Any, number: int, depth: int, sound: int
) -> bool:
    """OpenSSL's judgement of each certificate of the chain, as it is, with its reason kept."""
    if not sound:
        place = "the certificate" if depth == 0 else f"certificate {depth} above the server's"
        reason = _CHAIN.get(number, f"OpenSSL's error {number} (X509_STORE_CTX_get_error(3))")
        connection.get_app_data().failVerification(
            Failure(CertificateRefused(f"{place} is refused: {reason}"))
        )
    return bool(sound)

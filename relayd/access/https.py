"""HTTPS to servers whose certificate has to be valid for their name, without an exception.

Under `jwks`. Twisted's own callback lets a connection pass if the certificate has no usable
subjectAltName (service_identity raises an error that the callback does not catch): it fails open.
The one here ends the connection on every error.
"""

from pathlib import Path
from typing import Any

from OpenSSL import SSL
from service_identity import pyopenssl
from twisted.internet import ssl
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python.failure import Failure
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer


@implementer(IPolicyForHTTPS)
class Verified:
    """The policy of a `twisted.web.client.Agent`: the chain and the host name are verified.

    Args:
        ca_file: a PEM file of the authorities that are trusted; "" for those of the system.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file holds no certificate.
    """

    def __init__(self, ca_file: str = "") -> None:
        trust = ssl.platformTrust()
        if ca_file:
            blocks = Path(ca_file).read_bytes().split(b"-----END CERTIFICATE-----")[:-1]
            if not blocks:
                raise ValueError(f"{ca_file} holds no certificate (PEM)")
            trust = ssl.trustRootFromCertificates(
                [ssl.Certificate.loadPEM(each + b"-----END CERTIFICATE-----") for each in blocks]
            )
        self._trust = trust

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:  # noqa: N802
        """What builds the TLS connections to a host."""
        return _Creator(hostname.decode("ascii").strip("[]"), self._trust)


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    """Builds the TLS connections to one host."""

    def __init__(self, host: str, trust: Any) -> None:
        self._host = host
        self._is_address = isIPAddress(host) or isIPv6Address(host)
        # a context of its own, since one that was used may not get another callback
        self._context = ssl.CertificateOptions(trustRoot=trust).getContext()
        self._context.set_info_callback(self._look)

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:  # noqa: N803
        """A connection that ends itself if the certificate is not valid for the host."""
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(tlsProtocol)
        if not self._is_address:  # RFC 6066 section 3 has no addresses in SNI
            connection.set_tlsext_host_name(self._host.encode("ascii"))
        return connection

    def _look(self, connection: SSL.Connection, where: int, _: int) -> None:
        if not where & SSL.SSL_CB_HANDSHAKE_DONE:
            return
        try:
            if self._is_address:
                pyopenssl.verify_ip_address(connection, self._host)
            else:
                pyopenssl.verify_hostname(connection, self._host)
        except Exception:
            connection.get_app_data().failVerification(Failure())

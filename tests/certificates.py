"""Certificates that a test makes: an authority, an intermediate one, and what they sign."""

import datetime
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Chain:
    """A root, an intermediate authority below it, and a certificate that this one signed.

    Args:
        folder: where the files go.
        *hosts: host names and IP addresses that the certificate is for.

    Attributes:
        root_file: all that a client trusts, in PEM.
        certificate: the full chain, without the root, in PEM.
        leaf_file: its first certificate alone.
        key: of the first certificate, in PEM.
    """

    def __init__(self, folder: Path, *hosts: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.root_file, self.leaf_file = folder / "root.pem", folder / "leaf.pem"
        self.certificate, self.key = folder / "fullchain.pem", folder / "key.pem"
        self._hosts = hosts
        root_key, self._key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        root_name, self._name = name("a root"), name("an intermediate")
        constraint = x509.BasicConstraints(ca=True, path_length=None)
        root = builder(root_name, root_name, root_key, 60).add_extension(constraint, critical=True)
        self.root_file.write_bytes(pem(root.sign(root_key, hashes.SHA256())))
        middle = builder(self._name, root_name, self._key, 60)
        middle = middle.add_extension(constraint, critical=True)
        self._middle = middle.sign(root_key, hashes.SHA256())
        write(self.key, self.renew())

    def renew(self, *, days: float = 60) -> bytes:
        """Replaces the chain by one with a new certificate.

        Args:
            days: from now, until the new one expires.

        Returns:
            The new key in PEM, which the caller writes.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([general_name(host) for host in self._hosts])
        leaf = builder(name("a server"), self._name, key, days)
        self.leaf = leaf.add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        write(self.leaf_file, pem(self.leaf))
        write(self.certificate, pem(self.leaf) + pem(self._middle))
        return pem_of_key(key)


def write(path: Path, content: bytes) -> None:
    """Replaces a file in one step, as certbot does."""
    beside = path.with_suffix(".new")
    beside.write_bytes(content)
    os.replace(beside, path)


def pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A key in PEM, without a passphrase."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def general_name(host: str) -> x509.GeneralName:
    """A subjectAltName: an IP address, an e-mail address, or a DNS name."""
    if "@" in host:
        return x509.RFC822Name(host)
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)

"""A certificate with its chain and its private key, read from files and checked.

Sits on `descriptions`, under `served`. Both files are read and compared before either is used, so
that a certificate never meets the key of another one.
"""

import datetime
import os
import stat
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from relayd.tls.descriptions import Files

LARGEST = 1024 * 1024
"""Bytes that a file may have; a chain has a few thousand."""


class BrokenPair(ValueError):
    """The files cannot be used; the text says which and why, in one sentence."""


class Pair:
    """A certificate with its chain and its key.

    Args:
        chain: the certificate of the server first, then those of its issuers.
        key: the private key of the first one.
    """

    def __init__(self, chain: list[x509.Certificate], key: Any) -> None:
        self.chain = chain
        self.key = key

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate of the server."""
        return self.chain[0]

    @property
    def end(self) -> datetime.datetime:
        """When the first certificate of the chain ends; clients refuse it from then on."""
        return min(each.not_valid_after_utc for each in self.chain)

    @property
    def names(self) -> list[str]:
        """The host names and addresses that the certificate is for."""
        try:
            names = self.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return []
        hosts = names.get_values_for_type(x509.DNSName)
        return [*hosts, *map(str, names.get_values_for_type(x509.IPAddress))]


def load(files: Files) -> Pair:
    """Reads and checks a certificate with its key.

    Raises:
        BrokenPair: a file is missing, unreadable, too large or no PEM, or the key is not the key of
            the first certificate.
    """
    chain = _certificates(files.certificate)
    if files.chain:
        chain += _certificates(files.chain)
    try:
        key: Any = serialization.load_pem_private_key(_read(files.key), None)
    except TypeError as error:
        raise BrokenPair(
            f"the key in {files.key} has a passphrase, which relayd cannot ask for"
        ) from error
    except BrokenPair:
        raise
    except Exception as error:  # ValueError, UnsupportedAlgorithm and more
        raise BrokenPair(f"{files.key} has no private key in PEM") from error
    if _public(key.public_key()) != _public(chain[0].public_key()):
        raise BrokenPair(
            f"{files.certificate} and {files.key} do not belong together: the key is not that of "
            "the first certificate"
        )
    return Pair(chain, key)


def _certificates(path: str) -> list[x509.Certificate]:
    content = _read(path)
    try:
        found = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise BrokenPair(f"{path} has no whole certificate in PEM") from error
    if len(found) != content.count(b"-----BEGIN CERTIFICATE-----"):
        raise BrokenPair(f"{path} ends within a certificate")
    return found


def _read(path: str) -> bytes:
    try:
        # a named pipe would block
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            content = file.read(LARGEST + 1) if regular else b""
    except OSError as error:
        raise BrokenPair(f"{Path(path)} cannot be read: {error.strerror}") from error
    if not regular or len(content) > LARGEST:
        raise BrokenPair(f"{path} is no file of at most {LARGEST} bytes")
    return content


def _public(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded

"""The keys that tokens are checked with, each bound to one algorithm. Pure.

Under `config`, which checks the configured keys, and `access`. A key is used with its own algorithm
alone: the header of a token chooses a key by its `kid`, never an algorithm, so a public key cannot
be taken for a shared secret, and `none` is no algorithm. relayd knows

    HS256   a shared secret (RFC 7518 section 3.2)
    RS256   RSA keys of 2048 bits or more (RFC 7518 section 3.3)
    ES256   elliptic curve keys on P-256 (RFC 7518 section 3.4)
    EdDSA   Ed25519 keys (RFC 8037)
"""

import re
from collections.abc import Iterable
from typing import Any

import jwt
import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

MOST = 100
"""Keys of a set; the rest is left out."""
SHORTEST_SECRET = 32
"""Bytes of a secret (RFC 7518 section 3.2)."""
_PEM = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)
_PRIVATE = (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)


class Key(msgspec.Struct, frozen=True):
    """A key with its algorithm.

    Attributes:
        algorithm: "HS256", "RS256", "ES256" or "EdDSA".
        verifying: what a signature is checked with.
        kid: its name in the header of tokens; None for a key without one.
        signing: what tokens are signed with; None for a public key.
    """

    algorithm: str
    verifying: Any
    kid: str | None = None
    signing: Any = None


def secret_key(secret: str | bytes, kid: str | None = None) -> Key:
    """A shared secret. Raises ValueError: it is too short."""
    data = secret.encode() if isinstance(secret, str) else secret
    if len(data) < SHORTEST_SECRET:
        raise ValueError(f"a secret has {SHORTEST_SECRET} bytes or more (RFC 7518 section 3.2)")
    return Key("HS256", data, kid, data)


def parse_keys(text: str) -> tuple[Key, ...]:
    """The keys in a text: PEM blocks (keys or certificates), a JWK, or a JWK set (RFC 7517).

    Private keys are accepted, too; tokens can be signed with them.

    Raises:
        ValueError: there is no key that relayd can use.
    """
    if text.lstrip().startswith("{"):
        return parse_jwks(text.encode(), secrets=True)
    blocks = [(found[1], found[0]) for found in _PEM.finditer(text.encode())]
    if not blocks:
        raise ValueError("there is neither PEM nor a JWK set (JSON)")
    return tuple(_parse_pem(kind.decode(), block) for kind, block in blocks[:MOST])


def parse_jwks(text: bytes, *, secrets: bool) -> tuple[Key, ...]:
    """The keys of a JWK set that relayd can use; the others are left out (RFC 7517 section 5).

    Args:
        text: JSON.
        secrets: whether shared secrets are accepted, too; not from a place that is public.

    Raises:
        ValueError: the text is no JWK set, or relayd can use none of its keys.
    """
    try:
        found = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"there is no JSON: {error}") from error
    entries = found.get("keys", [found]) if isinstance(found, dict) else None
    if not isinstance(entries, list):
        raise ValueError('there is no JWK set: {"keys": [...]}')
    keys, why = [], "the set is empty"
    for entry in entries[:MOST]:
        try:
            key = _parse_jwk(entry)
            if key.algorithm == "HS256" and not secrets:
                raise ValueError("shared secrets are not accepted here")
            keys.append(key)
        except ValueError as error:
            why = str(error)
    if not keys:
        raise ValueError(f"there is no key that can be used: {why}")
    return tuple(keys)


def _parse_pem(kind: str, block: bytes) -> Key:
    try:
        if kind == "CERTIFICATE":
            return _key(x509.load_pem_x509_certificate(block).public_key())
        if kind.endswith("PRIVATE KEY"):
            return _key(serialization.load_pem_private_key(block, None))
        return _key(serialization.load_pem_public_key(block))
    except TypeError as error:
        raise ValueError("a key with a password cannot be read") from error
    except UnsupportedAlgorithm as error:
        raise ValueError(f"a key cannot be read: {error}") from error


def _parse_jwk(entry: object) -> Key:
    """One JWK (RFC 7517 section 4). Raises ValueError."""
    if not isinstance(entry, dict):
        raise ValueError("a key is no JSON object")
    kid = entry.get("kid")
    if kid is not None and not isinstance(kid, str):
        raise ValueError("kid is no text")
    if entry.get("use", "sig") != "sig":
        raise ValueError("a key is not for signatures (use)")
    operations = entry.get("key_ops")
    if operations is not None and not {"verify", "sign"} & set(map(str, _list(operations))):
        raise ValueError("a key is not for signatures (key_ops)")
    try:
        # without alg, which is checked below: PyJWT would choose among those of other hashes
        material = jwt.PyJWK({k: v for k, v in entry.items() if k != "alg"}).key
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"a key cannot be read: {error}") from error
    key = secret_key(material, kid) if isinstance(material, bytes) else _key(material, kid)
    if entry.get("alg", key.algorithm) != key.algorithm:
        raise ValueError(f"a key is for {entry['alg']!r}, not for {key.algorithm}")
    return key


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _key(material: Any, kid: str | None = None) -> Key:
    """The key with the algorithm of its kind. Raises ValueError: relayd knows none for it."""
    signing = material if isinstance(material, _PRIVATE) else None
    public = material if signing is None else signing.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        if public.key_size < 2048:
            raise ValueError("an RSA key has 2048 bits or more (RFC 7518 section 3.3)")
        return Key("RS256", public, kid, signing)
    if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
        return Key("ES256", public, kid, signing)
    if isinstance(public, ed25519.Ed25519PublicKey):
        return Key("EdDSA", public, kid, signing)
    raise ValueError("a key is neither RSA, nor on P-256, nor Ed25519")


def choose(keys: Iterable[Key], kid: str | None, algorithm: object) -> list[Key] | None:
    """The keys that a token may be signed with.

    A token with a `kid` is checked with the keys of that name, or, if there are none, with those
    without a name; a token without `kid` with those without a name, or else with the only key.

    Args:
        keys: all known ones.
        kid: of the token's header; None without one.
        algorithm: the `alg` of that header, which a key must equal.

    Returns:
        Empty if these keys are for another algorithm; None if there is no such key.
    """
    every = list(keys)
    named = [key for key in every if key.kid == kid] if kid is not None else []
    found = named or [key for key in every if key.kid is None]
    if not found and kid is None and len(every) == 1:
        found = every
    if not found:
        return None
    return [key for key in found if key.algorithm == algorithm]

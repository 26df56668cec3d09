"""What Django signs and stores of a session, read without Django. Pure.

Follows `django.core.signing`, `django.contrib.sessions` and `AbstractBaseUser` of Django 5.2, whose
formats have been the same since 3.1. `django_sessions` stands on it.
"""

import base64
import hashlib
import hmac
import json
import pickletools
import zlib
from collections.abc import Sequence
from typing import Any

LARGEST = 64 * 1024
"""Bytes of a session, inflated; a larger one counts as invalid."""

STORED_SALT = "django.contrib.sessions.SessionStore"
"""The salt of sessions in the database."""
COOKIE_SALT = "django.contrib.sessions.backends.signed_cookies"
"""The salt of sessions in the cookie itself."""
_HASH_SALT = "django.contrib.auth.models.AbstractBaseUser.get_session_auth_hash"
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def read_signed(
    text: str, salt: str, keys: Sequence[str], now: float, max_age: float | None = None
) -> dict[str, Any]:
    """The session in a signed text (`django.core.signing.loads`).

    Args:
        text: `<base64>:<time in base 62>:<signature>`, with a dot in front if it is compressed.
        salt: STORED_SALT or COOKIE_SALT.
        keys: the site's SECRET_KEY and SECRET_KEY_FALLBACKS.
        now: Unix time.
        max_age: seconds for which the signature holds; None for ever.

    Raises:
        ValueError: the signature is of another key, or too old, or this is no session.
    """
    value, _, signature = text.rpartition(":")
    signatures = [_hmac(f"{salt}signer", value, key) for key in keys]
    found = signature.encode(errors="replace")
    texts = [base64.urlsafe_b64encode(each).rstrip(b"=") for each in signatures]
    if not value or not any(hmac.compare_digest(each, found) for each in texts):
        raise ValueError("the signature is not one of the site")
    data, _, stamp = value.rpartition(":")
    if max_age is not None and now - _base62(stamp) > max_age:
        raise ValueError("the signature is too old")
    packed = data.encode().removeprefix(b".")
    try:
        raw = base64.urlsafe_b64decode(packed + b"=" * (-len(packed) % 4))
        session = json.loads(_inflate(raw) if data.startswith(".") else raw)
    except (ValueError, zlib.error, RecursionError) as error:
        raise ValueError("the session is not JSON") from error
    if not isinstance(session, dict):
        raise ValueError("the session is no object")
    return session


def hash_of_user(password: str, key: str) -> str:
    """The session hash of a user (`AbstractBaseUser.get_session_auth_hash`).

    Args:
        password: as the site's database has it, encoded.
        key: the SECRET_KEY.
    """
    return _hmac(_HASH_SALT, password, key).hex()


def _hmac(salt: str, value: str, key: str) -> bytes:
    """`django.utils.crypto.salted_hmac` with SHA-256."""
    derived = hashlib.sha256((salt + key).encode(errors="surrogatepass")).digest()
    return hmac.digest(derived, value.encode(errors="surrogatepass"), "sha256")


def _base62(text: str) -> int:
    number = 0
    for digit in text[:20]:
        number = number * 62 + _BASE62.index(digit)
    return number


def _inflate(data: bytes) -> bytes:
    stream = zlib.decompressobj()
    inflated = stream.decompress(data, LARGEST)
    if not stream.eof:
        raise ValueError("the session is too large")
    return inflated


_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_SCALARS = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
    | {"SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES"}
)
_EMPTY: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_pickled(data: bytes) -> dict[str, Any]:
    """The session in Django's cache, which pickles what it keeps.

    To unpickle is to run what the pickle says, so this is not `pickle`: it reads the few operations
    (PEP 307, PEP 3154) of dicts, lists, tuples, texts, numbers and None, and refuses all others,
    above all those that import or call something. A session with another object, such as a date,
    is refused, too; sites that serialize sessions as JSON, the default, have none.

    Raises:
        ValueError: it is something else, or too large.
    """
    if len(data) > LARGEST:
        raise ValueError("the session is too large")
    try:
        session = _run(data)
    except (LookupError, TypeError, AttributeError, StopIteration) as error:
        raise ValueError("the cached session is no pickle of plain values") from error
    if not isinstance(session, dict):
        raise ValueError("the cached session is no dict")
    return session


def _run(data: bytes) -> Any:
    mark = object()
    stack: list[Any] = []
    memo: dict[Any, Any] = {}

    def take() -> list[Any]:
        """The values above the mark, which goes, too."""
        at = next(at for at in range(len(stack) - 1, -1, -1) if stack[at] is mark)
        values = stack[at + 1 :]
        del stack[at:]
        return values

    for opcode, argument, _ in pickletools.genops(data):
        name: str = opcode.name
        if name in _SCALARS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name == "MARK":
            stack.append(mark)
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("SETITEM", "SETITEMS"):
            values = take() if name == "SETITEMS" else [stack.pop(-2), stack.pop()]
            stack[-1].update(zip(values[::2], values[1::2], strict=True))
        elif name in ("APPEND", "APPENDS"):
            values = take() if name == "APPENDS" else [stack.pop()]
            stack[-1].extend(values)
        elif name == "TUPLE":
            stack.append(tuple(take()))
        elif name in _TUPLES:
            values = stack[-_TUPLES[name] :]
            del stack[-_TUPLES[name] :]
            stack.append(tuple(values))
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"the cached session has the operation {name}")
    raise ValueError("the cached session has no end")

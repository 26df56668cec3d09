"""Web origins (RFC 6454): their grammar, the entries of `[server] allowed_origins`. Pure.

On `authority`; `connection.admission` decides by it, `config.checks` refuses entries that no
browser could send.
"""

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

from relayd.hosts.authority import Asked, Authority, matches, parse_authority, parse_name

ANY, SELF, OPAQUE = "*", "self", "null"
"""Entries with a meaning: every origin, this server's own, and that of pages without one."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_ORIGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)")
_PORT = re.compile(r"(?P<host>\[[^\]]*\]?|[^:]*)(?::(?P<port>.*))?")
_EXAMPLES = "allowed are such as https://example.org, https://*.example.org:8443, self, null and *"


class Origin(NamedTuple):
    """A scheme, a host and a port; all three are compared (RFC 6454 section 5).

    Attributes:
        scheme: in lower case.
        host: in lower case; `*.` and a name in an entry that stands for all names below it.
        port: with the default of the scheme, if it has one; else None.
    """

    scheme: str
    host: str
    port: int | None


def parse_origin(text: str) -> Origin | None:
    """One serialized origin (RFC 6454 section 6.2) of a client; None if it is none, or `null`."""
    found = _ORIGIN.fullmatch(text)
    if found is None:
        return None
    scheme = found[1].lower()
    if scheme == "file" and not found[2]:  # pages in files, in Chromium
        return Origin(scheme, "", None)
    authority = parse_authority(found[2])
    return None if authority is None else _origin(scheme, authority)


def _origin(scheme: str, authority: Authority) -> Origin:
    port = _DEFAULT_PORTS.get(scheme) if authority.port is None else authority.port
    return Origin(scheme, authority.host, port)


def parse_entry(text: str) -> Origin | str:
    """An entry of `[server] allowed_origins`.

    Returns:
        ANY, SELF, OPAQUE, or an origin, whose host may begin with `*.`.

    Raises:
        ValueError: no browser sends such an origin; the text says why, and what is allowed.
    """
    if text in (ANY, SELF, OPAQUE):
        return text
    try:
        return _parse_entry(text)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no origin that a browser sends: {error}; {_EXAMPLES}"
        ) from None


def _parse_entry(text: str) -> Origin:
    found = _ORIGIN.fullmatch(text)
    if found is None:
        raise ValueError("an origin begins with a scheme, such as https://")
    scheme, rest = found[1].lower(), found[2]
    if scheme in ("ws", "wss"):
        page = "https" if scheme == "wss" else "http"
        raise ValueError(f"it is the origin of the page, {page}://{rest}, not of the WebSocket")
    if scheme == "file" and not rest:
        return Origin(scheme, "", None)
    if re.search(r"[/?#\\]", rest):
        raise ValueError("an origin has no path, not even a slash at its end")
    if "@" in rest:
        raise ValueError("an origin has no user and no password")
    if re.search(r"\s", rest) or not rest:
        raise ValueError(
            "the host is missing" if not rest else "each origin is an entry of its own"
        )
    parts = _PORT.fullmatch(rest)
    if parts is None:
        raise ValueError("the host is no name such as example.org")
    host, port = parts["host"], parts["port"]
    if port is not None and not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) <= 65535):
        raise ValueError("the port must be a number from 1 to 65535")
    number = None if port is None else int(port)
    if host.startswith("["):
        authority = parse_authority(host)
        if authority is None:
            raise ValueError("an IPv6 address is expected between the brackets")
        name = authority.host
    elif host == "*":
        raise ValueError("for pages of every origin, the whole entry is *")
    else:
        name = parse_name(host)
    return _origin(scheme, Authority(name, number))


@functools.lru_cache(maxsize=8)
def _entries(entries: Sequence[str]) -> tuple[Origin | str, ...]:
    return tuple(parse_entry(entry) for entry in entries)


def is_allowed(asked: Asked, allowed: Sequence[str]) -> bool:
    """Whether a page may connect.

    Args:
        asked: a handshake; without an origin, it is of no page.
        allowed: `[server] allowed_origins`.
    """
    if asked.origin is None or ANY in allowed:
        return True
    # RFC 6454 section 7.1 allows a list, of which browsers send one alone: all have to be allowed
    return all(_is_one_allowed(text, asked, _entries(allowed)) for text in asked.origin.split(" "))


def _is_one_allowed(text: str, asked: Asked, entries: Sequence[Origin | str]) -> bool:
    if text.lower() == OPAQUE:
        return OPAQUE in entries
    origin = parse_origin(text)
    if origin is None:
        return False
    return any(
        _is_own(origin, asked)
        if isinstance(entry, str)
        else origin[::2] == entry[::2] and matches(entry.host, origin.host)
        for entry in entries
        if entry != OPAQUE
    )


def _is_own(origin: Origin, asked: Asked) -> bool:
    """Whether a page comes from the host and port at which it connects.

    The scheme is not compared: behind a proxy that ends TLS it is unknown. A `Host` without a port
    means the default one of the page's scheme.
    """
    own = asked.own
    if own is None or origin.scheme not in _DEFAULT_PORTS or own.host != origin.host:
        return False
    port = _DEFAULT_PORTS[origin.scheme] if own.port is None else own.port
    return asked.any_port or origin.port == port


def fields_for_readers(origin: str | None, allowed: Sequence[str]) -> dict[str, str]:
    """The fields of an answer that let a page of another origin read it (Fetch, section 3.3).

    Args:
        origin: the `Origin` of the request; None without one.
        allowed: `[api] allowed_origins`; no page is allowed if it is empty.
    """
    if not allowed:
        return {}
    fields = {"Vary": "Origin"}
    if origin is not None and origin.isascii() and is_allowed(Asked(origin), allowed):
        fields["Access-Control-Allow-Origin"] = origin
        fields["Access-Control-Expose-Headers"] = "ETag, Retry-After, WWW-Authenticate"
    return fields

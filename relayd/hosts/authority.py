"""The host that a request is for, from `Host` or a trusted proxy, and the served names. Pure.

The ground of `relayd.hosts`, on `forwarded`; the handshakes and the pages read it.

DNS rebinding: a page of `evil.example` has this name point to the address of relayd, and is then of
the same origin as relayd for its browser. All its requests have `Host: evil.example`, so relayd
refuses names that are not its own. An IP address or `localhost` as the host is no such name: no
page of somebody else has it as its own, and health checks use it.
"""

import functools
import ipaddress
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from relayd.errors import ErrorCode, Refusal
from relayd.forwarded import Proxies

# RFC 9110 section 7.2, RFC 3986 section 3.2.2; without percent-encoding, which no client sends
_AUTHORITY = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[\w.~-]+))(?::(?P<port>\d{0,5}))?"
)
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)


class Authority(NamedTuple):
    """A host and a port.

    Attributes:
        host: in lower case; an IPv6 address without brackets, in its canonical form.
        port: 0 to 65535; None for the default one.
    """

    host: str
    port: int | None = None


class Asked(NamedTuple):
    """The hosts and the origin that a request names.

    Attributes:
        origin: the `Origin` header (RFC 6454 section 7); native clients send none.
        own: the host and port under which the client has reached this server, as far as known.
        any_port: whether the port of `own` is unknown: nginx with `proxy_set_header Host $host`
            leaves it out.
        hosts: every host in the request, as it came.
    """

    origin: str | None = None
    own: Authority | None = None
    any_port: bool = False
    hosts: tuple[str, ...] = ()


def read_asked(
    get: Callable[[str], str | None], absolute: str | None, proxies: Proxies, peer: str
) -> Asked:
    """Reads the hosts and the origin out of a request head.

    The host that a proxy forwards counts only if the proxy is trusted.

    Args:
        get: returns a header by its name in lower case, its lines joined with commas; or None.
        absolute: the host of a request target in the absolute form, which wins over the `Host`
            header (RFC 9112 section 3.2.2); None for any other target.
        proxies: the trusted ones.
        peer: the peer of the connection, an IP address or `unix:`.
    """
    hosts = [host for host in (get("host"), absolute) if host is not None]
    is_proxy = proxies.trusts(peer)
    if is_proxy and (forwarded := proxies.host(get)) is not None:
        hosts.append(forwarded)
    own = parse_authority(hosts[-1]) if hosts else None
    any_port = is_proxy and own is not None and own.port is None
    return Asked(get("origin"), own, any_port, tuple(hosts))


def parse_authority(text: str) -> Authority | None:
    """A `Host` header; None if it is none."""
    found = _AUTHORITY.fullmatch(text.strip())
    if found is None or not text.isascii():
        return None
    port = int(found["port"]) if found["port"] else None
    if port is not None and port > 65535:
        return None
    if found["name"] is not None:
        return Authority(found["name"].lower(), port)
    try:
        return Authority(str(ipaddress.IPv6Address(found["six"])), port)
    except ValueError:
        return None


def is_address(host: str) -> bool:
    """Whether the host of an `Authority` is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def parse_name(text: str) -> str:
    """An entry of `[server] names`, or the host of an origin: a name, or `*.` and a name.

    Returns:
        The entry in lower case.

    Raises:
        ValueError: no request can have such a host; the text says why.
    """
    if not text.isascii():
        try:
            ascii_form = f": {text.encode('idna').decode()}"
        except UnicodeError:
            ascii_form = ""
        raise ValueError(f"browsers send names in their ASCII form (RFC 5890){ascii_form}")
    name = text.lower()
    plain = name.removeprefix("*.")
    if "*" in plain:
        raise ValueError("a * stands only as the whole first label, as in *.example.org")
    if not _NAME.fullmatch(plain.removesuffix(".")):
        raise ValueError("the host is no name such as example.org")
    if plain.rstrip(".").rpartition(".")[2].isdigit() and (name != plain or not is_address(plain)):
        raise ValueError("the host ends in a number, but is no IP address")
    return name


def matches(entry: str, host: str) -> bool:
    """Whether a host is the one of an entry; `*.example.org` stands for all names below it."""
    return host.endswith(entry[1:]) if entry.startswith("*.") else host == entry


@functools.lru_cache(maxsize=8)
def _entries(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(parse_name(name).rstrip(".") for name in names)


def check_hosts(asked: Asked, names: Sequence[str]) -> None:
    """Checks that a request is for this server, against DNS rebinding (see above).

    Args:
        asked: what it names; a request without any host, as of HTTP/1.0, is of no browser.
        names: `[server] names`; empty if every name is served.

    Raises:
        Refusal: 421, which RFC 9110 section 15.5.20 has for a request that is directed at a server
            which does not answer for this host.
    """
    if not names:
        return
    for text in asked.hosts:
        authority = parse_authority(text)
        host = "" if authority is None else authority.host.rstrip(".")
        if host == "localhost" or is_address(host):
            continue
        if not any(matches(entry, host) for entry in _entries(names)):
            raise Refusal(ErrorCode.HOST_NOT_ALLOWED)

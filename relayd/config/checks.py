"""The rules of single settings beyond their types. Pure.

Beside `sections`, under `settings`. Each check raises ValueError, which says what is allowed.
"""

import ipaddress
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from relayd.forwarded import parse_trusted
from relayd.hosts.authority import parse_name
from relayd.hosts.origins import parse_entry
from relayd.names import normalize_room
from relayd.redis import urls
from relayd.tls.descriptions import Files, encrypt, parse
from relayd.urls import databases

PASSWORD_HASH = re.compile(
    r"scrypt:(?P<log>1[0-9]|20):(?P<block>[1-9]|1[0-9]):(?P<parallel>[1-9]):"
    r"(?P<salt>[\w-]{16,64}):(?P<hash>[\w-]{22,86})",
    re.ASCII,
)
"""What `relayctl console password` prints: the parameters of scrypt (RFC 7914), salt and hash."""
LONGEST_SOCKET = 107
"""Bytes that the path of a unix socket may have on Linux (unix(7))."""


def check_endpoints(descriptions: tuple[str, ...]) -> None:
    """Twisted server endpoints (https://docs.twisted.org/). Raises ValueError."""
    # imported here: it takes 0.05 s of CPU time, which every command of relayctl would spend
    from twisted.internet import endpoints

    if not descriptions:
        raise ValueError("must name at least one endpoint, such as tcp:8080:interface=127.0.0.1")
    for description in descriptions:
        try:
            plain = description
            if description.removeprefix("haproxy:").startswith("ssl:"):
                plain = parse(description.removeprefix("haproxy:")).plain
            # TCP and unix endpoints do not use the reactor before they listen
            endpoints.serverFromString(None, plain)
            port = re.match(r"(?:haproxy:)?(?:tcp6?|ssl):(?:port=)?(-?\d+)", description)
            if port is not None and not 0 <= int(port[1]) <= 65535:
                raise ValueError("the port must be a number from 0 to 65535")
        except Exception as error:
            raise ValueError(
                f"{description!r} is no Twisted server endpoint ({error}); allowed are such as "
                "tcp:8080:interface=127.0.0.1, unix:/run/relayd.sock, "
                "ssl:8443:privateKey=key.pem:certKey=fullchain.pem"
            ) from error


def check_tls_endpoints(plain: tuple[str, ...]) -> None:
    """Twisted server endpoints on TCP, for TLS. Raises ValueError."""
    files = Files("certificate", "key")
    check_endpoints(tuple(encrypt(each, files) for each in plain))


def check_names(names: tuple[str, ...]) -> None:
    """The host names of this server. Raises ValueError."""
    for name in names:
        try:
            parse_name(name)
        except ValueError as error:
            raise ValueError(
                f"{name!r} names no host: {error}; allowed are such as relay.example.org and "
                "*.example.org, without a port; IP addresses and localhost need no entry"
            ) from error


def check_room(name: str) -> None:
    """The name of a chat room. Raises ValueError."""
    if normalize_room(name) is None:
        raise ValueError(
            "allowed are 1 to 100 of the letters, marks and digits of any script, _, -"
        )


def check_origins(origins: tuple[str, ...]) -> None:
    """Web origins (RFC 6454 section 6.2), `self`, `null` or `*`. Raises ValueError."""
    for origin in origins:
        parse_entry(origin)


def check_trusted(networks: tuple[str, ...]) -> None:
    """Trusted proxies: networks, addresses, or `unix:`. Raises ValueError."""
    for network in networks:
        parse_trusted(network)


def check_database_url(url: str) -> None:
    """The URL of a database that `storage` supports. Raises ValueError."""
    databases.parse(url)


def check_redis_url(url: str) -> None:
    """One Redis, or several separated by spaces. Raises ValueError."""
    if url:
        urls.parse_all(url.split())


def check_cache_url(url: str) -> None:
    """One Redis. Raises ValueError."""
    if url:
        urls.parse(url)


def check_secret(secret: str) -> None:
    """Keys for HS256, one a line. Raises ValueError."""
    if any(len(line.encode()) < 32 for line in secret.splitlines()):
        raise ValueError(
            "must be empty or at least 32 bytes (RFC 7518 section 3.2), on each of its lines"
        )


def check_keys(text: str) -> None:
    """PEM blocks or a JWK set. Raises ValueError."""
    if text:
        # imported here: it takes 0.1 s of CPU time, which every command of relayctl would spend
        from relayd.jose.keys import parse_keys

        parse_keys(text)


def check_password_hash(text: str) -> None:
    """The hash of a password. Raises ValueError."""
    if text and not PASSWORD_HASH.fullmatch(text):
        raise ValueError("must be empty or a line that `relayctl console password` has printed")


def check_jwks_url(url: str) -> None:
    """The URL of a JWK set. Raises ValueError."""
    allowed = "must be empty or https://HOST/PATH, without a user or a password"
    if not url.isascii() or re.search(r"\s", url):
        raise ValueError("must be ASCII without blanks; encode other characters with %")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("https", "http") and parts.hostname and parts.port != 0
    except ValueError:  # its words quote the URL
        raise ValueError(f"{allowed}; the host or the port is wrong") from None
    if url and (not good or "@" in parts.netloc):
        raise ValueError(allowed)


def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine by its name or address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_networks(networks: tuple[str, ...]) -> None:
    """Networks of addresses (RFC 4632, RFC 4291 section 2.3). Raises ValueError."""
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise ValueError(
                f"{network!r} is no network ({error}); allowed are such as 10.1.0.0/16, 10.1.2.3 "
                "and 2001:db8::/32"
            ) from error


def check_socket(path: str) -> None:
    """The path of a unix socket, "off" or "". Raises ValueError."""
    size = len(path.encode())
    if size > LONGEST_SOCKET:
        raise ValueError(
            f"has {size} bytes, and the path of a unix socket {LONGEST_SOCKET} at most; use a "
            "shorter folder, such as /run/relayd"
        )


CHECKS: dict[tuple[str, str], Callable[[Any], None]] = {
    ("server", "listen"): check_endpoints,
    ("server", "names"): check_names,
    ("tls", "listen"): check_tls_endpoints,
    ("server", "allowed_origins"): check_origins,
    ("api", "allowed_origins"): check_origins,
    ("proxy", "trusted"): check_trusted,
    ("database", "url"): check_database_url,
    ("redis", "url"): check_redis_url,
    ("django", "url"): check_database_url,
    ("django", "cache_url"): check_cache_url,
    ("auth", "secret"): check_secret,
    ("console", "password_hash"): check_password_hash,
    ("auth", "keys"): check_keys,
    ("auth", "jwks_url"): check_jwks_url,
    ("chat", "default_room"): check_room,
    ("metrics", "allow"): check_networks,
    ("limits", "exempt"): check_networks,
    ("control", "socket"): check_socket,
}

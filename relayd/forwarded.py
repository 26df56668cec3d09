"""The client's address behind a proxy, from a header that trusted proxies set. Pure.

On the ground, read by the configuration, the handshakes and the pages. A client may write anything
into `X-Forwarded-For` and `Forwarded`; each proxy appends the address of its own peer. So hops are
read from the right for as long as the proxy that added them is trusted, and only from the
configured header: the other one may come unchanged from the client.
"""

import functools
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Sequence

UNIX = "unix:"
"""Stands for a peer that connects through a unix socket."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# RFC 7239 section 4: pairs of a token and a token or quoted string, with ; and , between them
_TOKEN = r"[\w!#$%&'*+.^`|~-]+"
_VALUE = r'"(?:[^"\\]|\\.)*"' + r"|[\w!#$%&'*+.^`|~:\[\]-]*"  # unquoted ports and IPv6 occur, too
_PAIR = re.compile(rf"\s*(?:({_TOKEN})=({_VALUE}))?\s*")
_PORT = re.compile(r"(?:\[(?P<six>[^\]]*)\]|(?P<four>[^:]*))(?P<port>:\d{1,5})?")


def parse_trusted(text: str) -> Network | None:
    """An entry of `[proxy] trusted`: a network or an address; None for unix sockets.

    Raises:
        ValueError: it is neither; the text says what is allowed.
    """
    if text == UNIX:
        return None
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(
            f"{text!r} is no network ({error}); allowed are such as 127.0.0.1, 10.0.0.0/8, "
            '2001:db8::/32, and "unix:" for all who connect through a unix socket'
        ) from error


class Proxies:
    """The trusted proxies.

    Args:
        trusted: networks, addresses, and `unix:`.
        header: `x-forwarded-for` or `forwarded`, the one that they set.

    Attributes:
        header: as given.
        ignored: whether `client` has ignored the header of an untrusted peer on this machine, most
            likely a proxy that was not configured.
    """

    def __init__(self, trusted: Iterable[str], header: str) -> None:
        parsed = [parse_trusted(text) for text in trusted]
        self._networks = [network for network in parsed if network is not None]
        self._unix = None in parsed
        self.header = header
        self.ignored = False

    def trusts(self, host: str) -> bool:
        """Whether a hop, an IP address or `unix:`, is a trusted proxy."""
        if host == UNIX:
            return self._unix
        if not self._networks:
            return False
        address = parse_address(host)
        return address is not None and any(address in network for network in self._networks)

    def overlap(self, network: Network) -> bool:
        """Whether a trusted proxy may have an address in a network."""
        return any(
            trusted.version == network.version and trusted.overlaps(network)
            for trusted in self._networks
        )

    def client(self, host: str, value: str | None) -> str:
        """The right-most hop that is not trusted: its address comes from a trusted proxy.

        Args:
            host: the peer of the connection, an IP address or `unix:`.
            value: the header of that name, all its lines joined with commas; None without one.

        Returns:
            An IP address or `unix:`; `host`, if nothing else is known for sure.
        """
        if value is None:
            return host
        if not self.trusts(host):
            self.ignored = self.ignored or is_local(host)
            return host
        hops = _hops(value) if self.header == "forwarded" else value.split(",")
        for hop in reversed(list(hops)):
            address = _parse_hop(hop.strip())
            if address is None:
                break
            host = address
            if not self.trusts(host):
                break
        return host

    def host(self, get: Callable[[str], str | None]) -> str | None:
        """The `Host` header that the client sent, as its proxy reports it; None if it does not.

        Call it for a trusted peer alone: `X-Forwarded-Host`, or `host` in `Forwarded` (RFC 7239
        section 5.3), as `header` says.

        Args:
            get: returns a header by its name in lower case, its lines joined with commas; or None.
        """
        if self.header != "forwarded":
            value = get("x-forwarded-host")
            # the last one is the one that the trusted peer has set or added
            return None if value is None else value.rpartition(",")[2].strip()
        found = None
        for element in reversed(list(_forwarded(get("forwarded") or ""))):
            found = element.get("host", found)
            hop = _parse_hop(element.get("for", ""))
            if hop is None or not self.trusts(hop):
                break
        return found


@functools.lru_cache(maxsize=1024)
def network_of(host: str) -> str:
    """Whose quota counts for a client: its IPv4 address, the /64 of its IPv6 address, or `unix:`.

    A customer of an IPv6 provider has a /64 or more (RFC 6177), so single addresses say nothing.

    Args:
        host: from `host_of` or `Proxies.client`.
    """
    address = parse_address(host)
    if not isinstance(address, ipaddress.IPv6Address):
        return host if address is None else str(address)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))


def host_of(address: object) -> str:
    """The IP address of a peer (twisted.internet.address), or `unix:`."""
    return getattr(address, "host", UNIX)


@functools.lru_cache(maxsize=8)
def proxies(trusted: Sequence[str], header: str) -> Proxies:
    """The proxies of a configuration, one object for each."""
    return Proxies(trusted, header)


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An IP address, without its zone; an IPv4 address that is written as IPv6 is an IPv4 one."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _parse_hop(text: str) -> str | None:
    """An address with or without a port, as proxies write it; None for anything else."""
    if text == UNIX:
        return text
    address = parse_address(text)  # an IPv6 address without brackets, too
    if address is None:
        found = _PORT.fullmatch(text)
        address = parse_address(found["six"] or found["four"] or "") if found else None
    return None if address is None else str(address)


def _hops(value: str) -> Iterator[str]:
    """The `for` of each element of a Forwarded header; empty for one without."""
    return (element.get("for", "") for element in _forwarded(value))


def _forwarded(value: str) -> Iterator[dict[str, str]]:
    """The elements of a Forwarded header, with names in lower case and values without quotes.

    Of a header that breaks the grammar, nothing: an open quote of the client's would swallow what
    a proxy has added behind it.
    """
    elements = []
    current: dict[str, str] = {}
    at = 0
    while True:
        pair = _PAIR.match(value, at)
        assert pair is not None
        name, content = pair[1], pair[2]
        if name is not None:
            quoted = content[:1] == '"'
            current[name.lower()] = re.sub(r"\\(.)", r"\1", content[1:-1]) if quoted else content
        at = pair.end()
        separator = value[at : at + 1]
        if separator not in ("", ",", ";"):
            return
        if separator != ";":
            elements.append(current)
            current = {}
        if not separator:
            break
        at += 1
    yield from elements


_LOCAL: tuple[Network, ...] = (
    ipaddress.IPv4Network("127.0.0.0/8"),
    ipaddress.IPv6Network("::1/128"),
)


def holds_local(network: Network) -> bool:
    """Whether a network has loopback addresses."""
    return any(local.version == network.version and local.overlaps(network) for local in _LOCAL)


def is_local(host: str) -> bool:
    """Whether a peer is on this machine: at a unix socket, or at a loopback address."""
    address = parse_address(host)
    return host == UNIX or (address is not None and address.is_loopback)

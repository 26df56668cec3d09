"""Networks that an operator bans: how they are written, and which of them an address is in. Pure.

The ground of `denials`. An address is looked up once for each length of prefix that is in use, so
the number of networks does not matter.
"""

import ipaddress
from collections import Counter
from collections.abc import Iterator

from relayd.forwarded import Network, parse_address

_OF_AN_ADDRESS = {4: 32, 6: 64}
"""The prefix that an address alone stands for; a customer of IPv6 has a /64 (RFC 6177)."""
_BITS = {4: 32, 6: 128}
_MAPPED = 96  # the prefix of IPv4 addresses within IPv6 (RFC 4291 section 2.5.5.2)


def parse_network(text: str) -> Network:
    """A network, or the one that an address stands for: itself, or the /64 of an IPv6 address.

    Args:
        text: such as 203.0.113.7, 203.0.113.0/24, 2001:db8:1:2::7 or 2001:db8::/32.

    Raises:
        ValueError: the text is neither; its sentence says what is allowed.
    """
    alone, slash, _ = text.partition("/")
    address = parse_address(alone)
    if address is not None and not slash:
        length = _OF_AN_ADDRESS[address.version]
        return ipaddress.ip_network((str(address), length), strict=False)
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{text!r} is no address and no network; allowed are such as 203.0.113.7, "
            "203.0.113.0/24, 2001:db8:1:2::7 and 2001:db8::/32"
        ) from None
    if ipaddress.ip_address(alone) != network.network_address:
        raise ValueError(
            f"{text!r} has bits set behind its prefix; write {network} for the whole network, or "
            f"{alone} without a prefix"
        )
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= _MAPPED:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED))
    return network


class Networks:
    """A set of networks, each by its text in the form of `str(parse_network(text))`."""

    def __init__(self) -> None:
        self._texts: dict[tuple[int, int, int], str] = {}
        self._lengths = {version: Counter[int]() for version in _BITS}

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: str) -> None:
        """Adds a network; no effect the second time."""
        key = _key(text)
        if key not in self._texts:
            self._lengths[key[0]][key[1]] += 1
            self._texts[key] = text

    def discard(self, text: str) -> None:
        """Removes a network; no effect if it is not there."""
        version, length, _ = key = _key(text)
        if self._texts.pop(key, None) is not None:
            lengths = self._lengths[version]
            lengths[length] -= 1
            if not lengths[length]:
                del lengths[length]

    def find(self, host: str) -> Iterator[str]:
        """The networks that an address is in.

        Args:
            host: an IP address; anything else, such as `unix:`, is in none.
        """
        address = parse_address(host) if self._texts else None
        if address is None:
            return
        version, number = address.version, int(address)
        bits = _BITS[version]
        for length in tuple(self._lengths[version]):
            text = self._texts.get((version, length, number >> (bits - length)))
            if text is not None:
                yield text


def _key(text: str) -> tuple[int, int, int]:
    """Version, length of the prefix, and the prefix as a number."""
    network = ipaddress.ip_network(text)
    shift = network.max_prefixlen - network.prefixlen
    return network.version, network.prefixlen, int(network.network_address) >> shift

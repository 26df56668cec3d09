"""The limits per address: what counts as one, the rates, and what is remembered how long."""

import pytest

from relayd.config import Config, Limits, Proxy
from relayd.config.current import Current
from relayd.edge.addresses import BURST, FAILURE_BURST, MOST_RESTING, Addresses, Source
from relayd.edge.seats import Seat, Seats
from relayd.errors import Refusal

HERE, THERE = "198.51.100.7", "203.0.113.9"


class Town:
    """Addresses, seats and a clock."""

    def __init__(self, trusted: tuple[str, ...] = (), **limits: object) -> None:
        self.time = 1000.0
        config = Config(limits=Limits(**limits), proxy=Proxy(trusted=trusted))  # type: ignore[arg-type]
        self.seats = Seats(Current(config), lambda: self.time)
        self.addresses: Addresses = self.seats.addresses

    def come(self, host: str = HERE) -> Seat:
        seat = self.seats.take(host)
        assert seat is not None
        return seat

    def find(self, host: str) -> Source:
        source = self.addresses.find(host)
        assert source is not None
        return source


def refusal(call: object, *args: object) -> tuple[str, int | None]:
    """Code and Retry-After with which a check refuses."""
    with pytest.raises(Refusal) as caught:
        call(*args)  # type: ignore[operator]
    return caught.value.code.value, caught.value.retry_after


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (HERE, HERE, True),
        (HERE, THERE, False),
        ("::ffff:198.51.100.7", HERE, True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_an_ipv6_address_counts_with_its_64_and_an_ipv4_address_alone(
    one: str, other: str, same: bool
) -> None:
    town = Town()
    assert (town.find(one) is town.find(other)) == same


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "unix:", "10.0.0.2", "odd"])
def test_this_machine_unix_sockets_and_trusted_proxies_have_no_limits(host: str) -> None:
    assert Town(trusted=("10.0.0.0/8", "unix:")).addresses.find(host) is None


def test_an_address_has_so_many_connections_whose_head_is_not_whole() -> None:
    town = Town(half_open_per_address=2)
    first, _ = town.come(), town.come()
    assert town.seats.take(HERE) is None
    assert town.seats.take("2001:db8::1") is not None
    first.understood()
    town.come()
    first.leave()
    assert town.seats.take(HERE) is None


def test_an_address_has_so_many_connections() -> None:
    town = Town(connections_per_address=2)
    some = [town.come() for _ in range(3)]
    assert refusal(some[2].check_handshake, HERE)[0] == "too_many_from_address"
    assert town.addresses.refused["connections"] == 1
    some[0].leave()
    some[2].check_handshake(HERE)


def test_a_connection_of_a_trusted_proxy_counts_for_the_client_behind_it() -> None:
    town = Town(trusted=("10.0.0.1",), connections_per_address=1)
    one, other = town.come("10.0.0.1"), town.come("10.0.0.1")
    one.check_handshake(HERE)
    other.check_handshake(THERE)
    third = town.come("10.0.0.1")
    assert refusal(third.check_handshake, HERE)[0] == "too_many_from_address"
    third.leave()
    one.leave()
    town.come("10.0.0.1").check_handshake(HERE)


def test_handshakes_beyond_the_rate_are_refused_until_there_is_room_again() -> None:
    town = Town(handshakes_per_second=2)
    seat = town.come()
    for _ in range(int(2 * BURST)):
        seat.check_handshake(HERE)
    assert refusal(seat.check_handshake, HERE) == ("too_many_requests", 1)
    assert town.addresses.refused["handshakes"] == 1
    town.time += 0.5
    seat.check_handshake(HERE)
    assert refusal(seat.check_handshake, HERE) == ("too_many_requests", 1)


def test_an_address_that_has_guessed_too_often_is_refused_and_told_for_how_long() -> None:
    town = Town(failures_per_second=1)
    seat = town.come()
    for _ in range(int(FAILURE_BURST) + 30):
        seat.failed()
    assert refusal(seat.check_handshake, HERE) == ("too_many_requests", 30)
    assert refusal(town.addresses.check_attempt, HERE) == ("too_many_requests", 30)
    assert town.addresses.refused["failures"] == 2
    seat.leave()
    town.time += 29
    assert refusal(town.come().check_handshake, HERE) == ("too_many_requests", 1)
    town.time += 1
    town.come().check_handshake(HERE)
    town.come(THERE).check_handshake(THERE)


def test_http_requests_have_a_rate_without_a_connection_of_their_address() -> None:
    town = Town(requests_per_second=1)
    for _ in range(int(BURST)):
        town.addresses.check_request(HERE)
    assert refusal(town.addresses.check_request, HERE) == ("too_many_requests", 1)
    town.addresses.check_request(THERE)


def test_a_limit_of_zero_is_none() -> None:
    town = Town(
        connections_per_address=0, half_open_per_address=0, handshakes_per_second=0,
        failures_per_second=0, requests_per_second=0,
    )  # fmt: skip
    for _ in range(3000):
        seat = town.come()
        seat.failed()
        seat.check_handshake(HERE)
        town.addresses.check_request(HERE)


def test_an_address_is_forgotten_when_its_connections_and_its_rates_are_over() -> None:
    town = Town()
    seat = town.come()
    seat.leave()
    assert len(town.addresses) == 0
    seat = town.come()
    seat.check_handshake(HERE)
    seat.leave()
    assert len(town.addresses) == 1
    town.time += 1
    other = town.come(THERE)
    other.check_handshake(THERE)
    other.leave()
    assert len(town.addresses) == 1


def test_a_whole_ipv6_network_of_attackers_fills_a_bounded_memory() -> None:
    town = Town()
    for number in range(MOST_RESTING + 500):
        host = f"2001:db8:{number >> 8:x}:{number & 255:x}::1"
        seat = town.come(host)
        seat.check_handshake(host)
        seat.failed()
        seat.leave()
    assert len(town.addresses) == MOST_RESTING


def test_a_reload_changes_which_networks_are_exempt() -> None:
    current = Current(Config())
    addresses = Addresses(current, lambda: 0.0)
    assert addresses.find("127.0.0.1") is None
    current.replace(Config(limits=Limits(exempt=())))
    assert addresses.find("127.0.0.1") is not None

"""How many rooms an address may create, and whose quota counts."""

import pytest
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from relayd import forwarded
from relayd.errors import QuotaExceeded, StoreUnavailable
from relayd.quotas.creation import Creators
from relayd.quotas.usage import RoomTally, Usage


class Store:
    """Rooms in memory, behind the judge of new ones."""

    def __init__(self, per_hour: int = 3, most: int = 100) -> None:
        self.clock = Clock()
        self.tally = RoomTally()
        self.creators = Creators(
            self.clock.seconds, self.tally, per_hour=lambda: per_hour, most=most
        )
        self.rooms: set[str] = set()

    def post(self, room: str, address: str | None = "1.2.3.4", error: object = None) -> bool:
        asked = self.creators.ask(room, address)
        outcome: object = error
        if error is None and room not in self.rooms:
            if asked.allowed:
                asked.done = True
                self.rooms.add(room)
                self.tally.usage = Usage(len(self.rooms), 0)
            else:
                outcome = Failure(QuotaExceeded("no"))
        assert self.creators.settled(outcome, room, asked) is outcome
        return outcome is None


def test_an_address_creates_as_many_rooms_in_an_hour_as_it_may_and_talks_on_in_all_others() -> None:
    store = Store()
    assert [store.post(f"r{n}") for n in range(5)] == [True, True, True, False, False]
    assert store.post("other", "5.6.7.8")
    assert all(store.post(room) for room in ("r0", "r1", "other"))
    store.clock.advance(1199)
    assert not store.post("later")
    store.clock.advance(2)
    assert [store.post("later"), store.post("later still")] == [True, False]
    assert store.tally.refused == {"rooms": 0, "rooms_of_address": 4}


def test_a_room_that_was_there_or_was_not_stored_costs_an_address_nothing() -> None:
    store = Store()
    store.rooms |= {f"old{n}" for n in range(20)}
    assert all(store.post(f"old{n}") for n in range(20))
    for _ in range(20):
        store.post("new", error=Failure(StoreUnavailable("away")))
    assert [store.post(f"r{n}") for n in range(4)] == [True, True, True, False]


def test_beyond_all_rooms_nobody_creates_one_and_a_deleted_one_has_to_be_created_anew() -> None:
    store = Store(most=2)
    assert [store.post(f"r{n}", None) for n in range(3)] == [True, True, False]
    assert store.post("r0", "5.6.7.8")
    store.rooms.discard("r0")
    store.creators.forget("r0")
    assert not store.post("r0", "5.6.7.8")
    assert store.tally.refused == {"rooms": 2, "rooms_of_address": 0}


def test_without_a_number_or_with_trust_an_address_creates_any_number_of_rooms() -> None:
    assert all(map(Store(per_hour=0).post, map(str, range(50))))
    store = Store(per_hour=1)
    assert all(store.post(f"r{n}", None) for n in range(50))


def test_what_is_remembered_of_rooms_and_addresses_is_bounded() -> None:
    store = Store(per_hour=1, most=10**6)
    for number in range(12_000):
        store.post(f"r{number}", f"{number}")
    assert len(store.creators._known) == len(store.creators._allowances) == 10_000


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix:", "unix:"),
    ],
)
def test_the_quota_of_a_client_is_that_of_its_ipv4_address_or_ipv6_network(
    host: str, network: str
) -> None:
    assert forwarded.network_of(host) == network

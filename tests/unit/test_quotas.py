"""How many rooms an address may create, how many names it may use, and whose quota counts."""

import pytest
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from relayd import forwarded
from relayd.config import Limits
from relayd.errors import ErrorCode, QuotaExceeded, Refusal, StoreUnavailable
from relayd.quotas.creation import Creators
from relayd.quotas.names import NamesInUse
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


def test_messages_on_their_way_to_one_new_room_reserve_it_once() -> None:
    store = Store(per_hour=2)
    asked = [store.creators.ask("new", "1.2.3.4") for _ in range(100)]
    assert all(each.allowed for each in asked)
    assert store.creators.ask("other", "1.2.3.4").allowed
    assert not store.creators.ask("third", "1.2.3.4").allowed
    # another process has created it meanwhile
    for each in asked:
        store.creators.settled(None, "new", each)
    assert store.creators.ask("third", "1.2.3.4").allowed


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


def test_the_memory_of_rooms_and_addresses_is_bounded() -> None:
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


EXEMPT = "127.0.0.1"


def names_in_use(most: int, per_address: int) -> NamesInUse:
    limits = Limits(max_groups=most, groups_per_address=per_address)
    return NamesInUse(lambda: limits, EXEMPT.__eq__)


def refused(names: NamesInUse, kind: str, name: str, address: str) -> bool:
    """Whether a connection may not use a name."""
    try:
        names.enter(kind, name, address)
    except Refusal as refusal:
        return (refusal.code, refusal.status) == (ErrorCode.QUOTA_EXCEEDED, 429)
    return False


def test_an_address_uses_as_many_names_of_a_kind_as_it_may_with_any_number_of_connections() -> None:
    names = names_in_use(100, 2)
    for name in ("a", "b", "a", "a", "b"):
        assert not refused(names, "camera", name, "1")
    assert refused(names, "camera", "c", "1")
    assert not refused(names, "push", "c", "1")
    assert not refused(names, "camera", "c", "2")
    assert refused(names, "camera", "c", "1")
    for _ in range(2):
        names.leave("camera", "b", "1")
    assert not refused(names, "camera", "c", "1")


def test_an_exempt_address_has_no_limit_of_its_own_and_counts_for_that_of_all() -> None:
    names = names_in_use(4, 2)
    for name in ("a", "b", "c"):
        names.enter("camera", name, EXEMPT)
    names.enter("camera", "d", "1")
    assert refused(names, "camera", "e", EXEMPT)
    assert refused(names, "camera", "e", "1")
    for name in ("a", "b", "c"):
        names.leave("camera", name, EXEMPT)
    names.leave("camera", "d", "1")
    assert len(names) == 0


def test_beyond_all_names_of_a_kind_only_those_in_use_may_be_used() -> None:
    names = names_in_use(3, 0)
    for name in ("a", "b", "c"):
        assert not refused(names, "camera", name, name)
    assert refused(names, "camera", "d", "d")
    assert not refused(names, "camera", "a", "d")
    names.leave("camera", "b", "b")
    assert not refused(names, "camera", "d", "e")


def test_names_that_nobody_uses_any_more_cost_nothing() -> None:
    names = names_in_use(0, 0)
    for number in range(1000):
        names.enter("difficulty", f"{number}", f"{number % 7}")
    for number in range(1000):
        names.leave("difficulty", f"{number}", f"{number % 7}")
    assert len(names) == len(names._of_address) == +names._names.total() == 0

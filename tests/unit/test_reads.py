"""Shared reads of histories: who gets which read, how many are under way, whose turn is next."""

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from relayd.brokers.reads import Reads
from relayd.errors import Overloaded, StoreUnavailable
from relayd.wire import ChatPage
from tests.unit.fakes import failure, has_fired, success

PAGE = ChatPage([])


class Store:
    """Reads that end when the test says so."""

    def __init__(self, most: int = 2) -> None:
        self.late = False
        self.reads = Reads(most, late=lambda: self.late)
        self.begun: list[tuple[str, object, Deferred[ChatPage]]] = []

    def ask(self, room: str, part: object = 0, *, joins: bool = False) -> "Deferred[ChatPage]":
        async def fetch() -> ChatPage:
            fetching: Deferred[ChatPage] = Deferred()
            self.begun.append((room, part, fetching))
            return await fetching

        return self.reads.read(room, part, fetch, joins=joins)

    def end(self, outcome: Any = PAGE) -> None:
        """Ends the oldest read under way."""
        fetching = self.begun.pop(0)[2]
        if isinstance(outcome, Exception):
            fetching.errback(outcome)
        else:
            fetching.callback(outcome)

    @property
    def under_way(self) -> list[tuple[str, object]]:
        return [(room, part) for room, part, _ in self.begun]


def test_a_read_serves_all_who_asked_before_it_began() -> None:
    store = Store()
    first = store.ask("a")
    later = [store.ask("a") for _ in range(3)]
    assert store.under_way == [("a", 0)]
    store.end()
    assert success(first) is PAGE
    assert store.under_way == [("a", 0)]
    page = ChatPage([], more=True)
    store.end(page)
    assert [success(each) for each in later] == [page] * 3
    assert store.under_way == []


def test_few_reads_are_under_way_and_rooms_take_turns() -> None:
    store = Store(most=2)
    for room, part in [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("c", 1), ("b", 2)]:
        store.ask(room, part)
    seen = []
    while store.begun:
        assert len(store.under_way) <= 2
        seen.append(store.under_way[0])
        store.end()
    assert seen == [("a", 1), ("b", 1), ("a", 2), ("c", 1), ("b", 2), ("a", 3)]


def test_a_failed_read_fails_all_its_readers_and_the_next_one_begins() -> None:
    store = Store(most=1)
    first, other = store.ask("a"), store.ask("b")
    waiting = [store.ask("b") for _ in range(2)]
    store.end(StoreUnavailable("gone"))
    failure(first, StoreUnavailable)
    store.end(StoreUnavailable("gone"))
    errors = [failure(each, StoreUnavailable) for each in (other, *waiting)]
    assert len(set(map(id, errors))) == 3


@pytest.mark.parametrize("begun", [True, False])
def test_a_reader_that_leaves_takes_nothing_from_the_others(begun: bool) -> None:
    store = Store(most=1)
    if not begun:
        store.ask("other")
    leaves, stays = store.ask("a"), store.ask("a")
    leaves.cancel()
    failure(leaves, CancelledError)
    while store.begun:
        store.end()
    assert has_fired(stays)


def test_a_read_that_nobody_waits_for_any_more_does_not_begin() -> None:
    store = Store(most=1)
    store.ask("a")
    gone = [store.ask("b", part) for part in range(2)]
    for each in gone:
        each.cancel()
        failure(each, CancelledError)
    store.end()
    assert store.under_way == []


def test_a_late_process_reads_nothing_more_for_clients_that_join() -> None:
    store = Store()
    begun = store.ask("a", joins=True)
    waiting = store.ask("a", joins=True)
    store.late = True
    shared = store.ask("a", joins=True)
    for room, part in (("a", 1), ("b", 0)):
        assert failure(store.ask(room, part, joins=True), Overloaded)
    inside = store.ask("b", 0)  # of a client that was admitted before
    assert store.under_way == [("a", 0), ("b", 0)]
    store.end()
    store.end()
    # a read that has begun may miss the newest messages, so nobody shares it
    assert failure(store.ask("c", joins=True), Overloaded)
    store.end()
    for each in (begun, waiting, shared, inside):
        assert success(each) is PAGE
    assert failure(store.ask("a", joins=True), Overloaded)
    store.late = False
    store.ask("a", joins=True)
    assert store.under_way == [("a", 0)]

"""The registry of open connections."""

import pytest
from twisted.internet.defer import Deferred

from relayd.access.identity import NOBODY
from relayd.close_codes import CloseCode
from relayd.connection.registry import REFUSED, Connections
from tests.unit.fakes import failure, has_fired, success


class FakeConnection:
    """A connection that remembers what was asked of it, and may leave when it is closed."""

    def __init__(self, connections: Connections, kind: str, *, leaves: bool = False) -> None:
        self.kind = kind
        self.identity = NOBODY
        self.address = "203.0.113.7"
        self.closes: list[tuple[int, str | None]] = []
        self.aborts = 0
        self._connections = connections
        self._leaves = leaves

    def close(self, code: int, reason: str | None = None, *error: object, **told: object) -> None:
        self.closes.append((code, reason))
        if self._leaves:
            self._connections.remove(self)

    def abort(self) -> None:
        self.aborts += 1
        self._connections.remove(self)


@pytest.fixture
def connections() -> Connections:
    return Connections()


def test_connections_are_counted_by_kind(connections: Connections) -> None:
    some = [FakeConnection(connections, kind) for kind in ("camera", "chat", "camera")]
    for connection in some:
        connections.add(connection)
    assert len(connections) == 3
    assert connections.counts() == {"camera": 2, "chat": 1}
    connections.remove(some[0])
    connections.remove(some[1])
    assert len(connections) == 1
    assert connections.counts() == {"camera": 1}


def test_removing_a_connection_that_was_never_added_changes_nothing(
    connections: Connections,
) -> None:
    there = FakeConnection(connections, "camera")
    connections.add(there)
    gone = connections.all_gone()
    connections.remove(FakeConnection(connections, "camera"))
    assert len(connections) == 1
    assert not has_fired(gone)


def test_close_all_reaches_connections_behind_one_that_leaves_at_once(
    connections: Connections,
) -> None:
    some = [FakeConnection(connections, "chat", leaves=leaves) for leaves in (True, False, True)]
    for connection in some:
        connections.add(connection)
    connections.close_all(CloseCode.RESTART)
    assert [connection.closes for connection in some] == [[(CloseCode.RESTART, None)]] * 3
    assert len(connections) == 1


def test_abort_all_drops_only_registered_connections(connections: Connections) -> None:
    gone, there = (FakeConnection(connections, "chat") for _ in range(2))
    connections.add(gone)
    connections.add(there)
    connections.remove(gone)
    connections.abort_all()
    assert (gone.aborts, there.aborts) == (0, 1)
    assert len(connections) == 0


def test_all_gone_fires_at_once_without_connections(connections: Connections) -> None:
    success(connections.all_gone())


def test_all_gone_fires_for_every_waiter_when_the_last_connection_leaves(
    connections: Connections,
) -> None:
    first, last = (FakeConnection(connections, "chat") for _ in range(2))
    connections.add(first)
    connections.add(last)
    waiting = [connections.all_gone() for _ in range(2)]
    connections.remove(first)
    assert [has_fired(deferred) for deferred in waiting] == [False, False]
    connections.remove(last)
    for deferred in waiting:
        success(deferred)


def test_a_member_that_gave_up_waiting_does_not_disturb_the_last_one_leaving(
    connections: Connections,
) -> None:
    connection = FakeConnection(connections, "chat")
    connections.add(connection)
    gave_up: Deferred[None] = connections.all_gone()
    gave_up.addErrback(lambda failure: None)
    gave_up.cancel()
    patient = connections.all_gone()
    connections.remove(connection)
    success(patient)


def test_all_arrived_fires_once_no_admission_is_in_progress() -> None:
    connections = Connections()
    assert has_fired(connections.all_arrived())
    admissions: list[Deferred[None]] = [Deferred(), Deferred()]
    for admission in admissions:
        connections.arrives(admission)
    arrived = connections.all_arrived()
    admissions[0].callback(None)
    assert not has_fired(arrived)
    admissions[1].errback(ValueError())
    assert has_fired(arrived)
    failure(admissions[1], ValueError)


def test_refused_connections_count_nowhere_but_are_waited_for(connections: Connections) -> None:
    refused = [FakeConnection(connections, "chat") for _ in range(REFUSED)]
    allowed = []
    for connection in refused:
        allowed.append(connections.may_refuse_with_close)
        connections.add_refused(connection)
    allowed.append(connections.may_refuse_with_close)
    assert allowed == [True] * REFUSED + [False]
    assert (len(connections), list(connections), connections.counts()) == (0, [], {})
    gone = connections.all_gone()
    connections.remove(refused.pop())
    assert connections.may_refuse_with_close
    assert not has_fired(gone)
    connections.abort_all()
    success(gone)

"""The seats of TCP connections: how many there are, who yields to whom, and who is dropped."""

import pytest

from relayd.config import Config, Database, Limits
from relayd.config.current import Current
from relayd.edge.seats import UNLIMITED, Seat, Seats, files_for_clients, share_of
from tests.unit.fakes import logged_lines

TIME = [0.0]


class FakeVisitor:
    """A connection that may have to yield, and ends at the next turn."""

    def __init__(self, seats: Seats, seat: Seat) -> None:
        self._seats, self._place = seats, seat
        self.dropped = False

    def drop(self) -> None:
        self.dropped = self._place.yielded = True
        self._seats.leaving += 1

    def end(self) -> None:
        self._place.leave()


def make_seats(most: int = 0, files: int | None = None) -> Seats:
    """Seats with a limit of connections, and one of files beside those that are reserved."""
    config = Config(
        limits=Limits(max_connections=most, reserved_files=16), database=Database(pool_size=1)
    )
    seats = Seats(Current(config), lambda: TIME[0])
    if files is not None:
        seats.measure(files + 16 + 3 + 10, 10)
    return seats


def take(seats: Seats) -> Seat:
    seat = seats.take("127.0.0.1")
    assert seat is not None
    return seat


def come(seats: Seats) -> FakeVisitor:
    """A connection that has sent nothing yet."""
    visitor = FakeVisitor(seats, take(seats))
    seats.fresh[visitor] = None
    return visitor


@pytest.mark.parametrize(
    ("most", "files", "websockets", "total"),
    [
        (0, None, UNLIMITED - 1024, UNLIMITED),
        (50, None, 50, 1074),
        (0, 800, 700, 800),
        (0, 65_000, 63_976, 65_000),
        (50, 800, 50, 150),
        (5000, 800, 700, 800),
        (0, 20, 10, 20),
        (0, 1, 1, 2),
    ],
)
def test_websockets_get_what_the_files_allow_except_a_share(
    most: int, files: int | None, websockets: int, total: int
) -> None:
    seats = make_seats(most, files)
    assert (seats.websockets, seats.total) == (websockets, total)


def test_the_database_and_redis_have_files_of_their_own() -> None:
    config = Config(limits=Limits(reserved_files=100), database=Database(pool_size=10))
    assert files_for_clients(config, 1000, 50) == 1000 - 50 - 100 - 30
    assert share_of(files_for_clients(config, 1000, 50)) == 102


def test_a_limit_that_the_files_do_not_allow_is_logged() -> None:
    with logged_lines("relayd.edge.seats") as lines:
        make_seats(5000, 800)
    assert len(lines) == 1
    assert "max_connections is 5000" in lines[0]
    assert "allows 700" in lines[0]


def test_a_reload_changes_the_number_of_seats() -> None:
    current = Current(Config(limits=Limits(max_connections=5)))
    seats = Seats(current, lambda: 0.0)
    current.replace(Config(limits=Limits(max_connections=7)))
    assert seats.websockets == 7


def test_the_oldest_half_open_connection_yields_then_a_body_then_the_oldest_kept_alive() -> None:
    seats = make_seats(0, 4)
    body, kept, first, second = (come(seats) for _ in range(4))
    del seats.fresh[body], seats.fresh[kept]
    seats.sending[body] = None
    seats.kept[kept] = None
    for expected in (first, second, body, kept):
        assert not expected.dropped
        assert seats.take("127.0.0.1") is not None
        assert expected.dropped
    assert seats.take("127.0.0.1") is None
    assert (seats.yielded, seats.dropped["files"]) == (4, 1)


def test_a_place_is_free_again_when_its_connection_has_ended() -> None:
    seats = make_seats(0, 2)
    first = take(seats)
    take(seats).understood()
    assert seats.half_open == 1
    assert seats.take("127.0.0.1") is None
    first.leave()
    first.leave()
    assert (seats.taken, seats.half_open) == (1, 0)
    take(seats)
    assert seats.take("127.0.0.1") is None


def test_a_connection_that_has_yielded_takes_no_place_while_it_ends() -> None:
    seats = make_seats(0, 2)
    first, second = come(seats), come(seats)
    newer = [take(seats) for _ in range(2)]
    assert (first.dropped, second.dropped) == (True, True)
    assert seats.take("127.0.0.1") is None
    first.end()
    assert seats.take("127.0.0.1") is None
    for seat in newer:
        seat.leave()
    assert (seats.taken, seats.leaving) == (1, 1)
    second.end()
    assert (seats.taken, seats.leaving) == (0, 0)


def test_full_seats_are_logged_once_a_minute() -> None:
    seats = make_seats(0, 2)
    for _ in range(2):
        take(seats)
    with logged_lines("relayd.edge.seats") as lines:
        for now in (0.0, 1.0, 59.0, 60.0, 61.0):
            TIME[0] = now
            seats.take("127.0.0.1")
    assert len(lines) == 2

"""Chat in PostgreSQL when the answer to a COMMIT is lost: all are told the truth."""

import contextlib
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from relayd.brokers.memory import MemoryRooms
from relayd.errors import OutcomeUnknown, StoreUnavailable
from relayd.hub import Hub
from relayd.native.batching import Batching
from relayd.quotas.creation import Creators
from relayd.relays.paths import KINDS
from relayd.storage import schema
from relayd.storage.history import History
from relayd.storage.pool import Database
from relayd.wire import ChatEntry
from tests.broker_scene import Listener
from tests.cable import Cable
from tests.integration.clients import read, read_rest, say
from tests.integration.conftest import Connect, Spawn
from tests.redis_scene import until
from tests.suspension import suspend

DEADLINE = 2.0


@pytest.fixture
def url(postgresql_url: str) -> str:
    schema.migrate(postgresql_url)
    return postgresql_url


@contextlib.contextmanager
def cabled(url: str) -> Iterator[tuple[Cable, str]]:
    """A cable to the server, and the URL through it."""
    (port,) = re.findall(r":(\d+)/", url)
    with Cable(int(port)) as cable:
        yield cable, url.replace(f":{port}/", f":{cable.port}/")


class Scene:
    """The rooms of a process, and a member of one."""

    def __init__(self, database: Database) -> None:
        from twisted.internet import reactor

        self.history = History(database)
        hub = Hub(Batching(reactor, 0))
        creators = Creators(reactor.seconds, self.history.tally, per_hour=lambda: 0)
        self.rooms = MemoryRooms(hub, self.history, KINDS.history, creators)
        self.member = Listener()
        hub.join("chat/r", self.member)

    async def shown(self, count: int) -> list[bytes]:
        return await self.member.inbox.take(count)  # type: ignore[return-value]

    def outcome(self, text: str, tag: str = "") -> "Deferred[ChatEntry | type[Exception]]":
        def refused(failure: Failure) -> type[Exception]:
            return failure.trap(StoreUnavailable, OutcomeUnknown)

        return self.rooms.post("r", text, tag=tag).addErrback(refused)


@contextlib.asynccontextmanager
async def scene(url: str) -> AsyncIterator[Scene]:
    from twisted.internet import reactor

    database = Database(url, reactor=reactor, deadline=DEADLINE, pool_size=2)
    try:
        yield Scene(database)
    finally:
        await database.close()


@pytest.mark.parametrize("room_is_new", [False, True])
@pytest_twisted.ensureDeferred
async def test_a_message_whose_commit_was_not_answered_is_found_and_shown_once(
    url: str, room_is_new: bool
) -> None:
    with cabled(url) as (cable, through):
        async with scene(through) as here:
            if not room_is_new:
                await here.rooms.post("r", "first")
                await here.shown(1)
            cable.at(b"COMMIT", lambda: cable.be("mute"))
            posted = here.outcome("kept")
            await until(lambda: bool(cable.swallowed))
            cable.be("cut")
            cable.be("through")
            entry = await posted
            assert isinstance(entry, ChatEntry)
            assert await here.shown(1) == [entry.body]
            after = await here.rooms.post("r", "on")
            assert after.id == entry.id + 1
            page = await here.rooms.since("r", 0, 10)
            assert list(page.entries)[-2:] == [entry, after]


@pytest_twisted.ensureDeferred
async def test_a_commit_that_never_arrived_is_refused_for_good(url: str) -> None:
    with cabled(url) as (cable, through):
        async with scene(through) as here:
            first = await here.rooms.post("r", "first")
            await here.shown(1)
            cable.at(b"COMMIT", lambda: cable.be("swallow"))
            posted = here.outcome("lost")
            await until(lambda: bool(cable.swallowed))
            cable.be("cut")
            cable.be("through")
            assert await posted is StoreUnavailable
            second = await here.rooms.post("r", "second")
            assert await here.shown(1) == [second.body]
            assert list((await here.rooms.since("r", 0, 10)).entries) == [first, second]


@pytest_twisted.ensureDeferred
async def test_members_are_shown_a_message_of_unknown_outcome_when_the_database_is_back(
    url: str,
) -> None:
    with cabled(url) as (cable, through):
        async with scene(through) as here:
            await here.rooms.post("r", "first")
            await here.shown(1)
            cable.at(b"COMMIT", lambda: cable.be("mute"))
            posted = here.outcome("kept", "x")
            await until(lambda: bool(cable.swallowed))
            cable.be("cut")
            assert await posted is OutcomeUnknown
            # nobody may go past it: neither a later message nor a reader
            assert await here.outcome("later") is StoreUnavailable
            with pytest.raises(StoreUnavailable):
                await here.rooms.since("r", 0, 10)
            cable.be("through")
            (body,) = await here.shown(1)
            assert b'"message":"kept"' in body
            entries = (await here.rooms.since("r", 0, 10)).entries
            assert [entry.body for entry in entries][1:] == [body]
            again = await here.rooms.post("r", "kept", tag="x")
            assert (again.body, again.repeated) == (body, True)
            assert len((await here.rooms.since("r", 0, 10)).entries) == 2


def test_a_process_that_stood_still_during_a_commit_acknowledges_it(
    url: str, spawn: Spawn, connect: Connect
) -> None:
    """Longer than its deadline: its timers fire before it has read the answer."""
    with cabled(url) as (cable, through):
        daemon = spawn(DATABASE_URL=through, database_deadline=1)
        clients = [connect(daemon, "/ws/chat/r") for _ in range(2)]
        say(clients[0], {"message": "first"})
        assert [read(client)["message"] for client in clients] == ["first", "first"]
        for number in range(3):
            stopped = cable.at(b"COMMIT", lambda: suspend(daemon.pid))
            say(clients[0], {"message": str(number)})
            assert stopped.wait(20)
            time.sleep(1.5)  # the deadline, by the clock of the process
            os.kill(daemon.pid, signal.SIGCONT)
            assert [read(client)["message"] for client in clients] == [str(number)] * 2
        assert read_rest(*clients) == [[], []]

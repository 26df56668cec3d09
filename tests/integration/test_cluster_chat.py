"""Chat rooms over several processes and one Redis, while processes die and Redis goes and comes."""

import asyncio
import itertools
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, WebSocketException

from tests.daemon import Daemon
from tests.integration.clients import (
    PATIENCE,
    Refused,
    read,
    read_many,
    read_rest,
    say,
    settle,
)
from tests.integration.conftest import Connect, Spawn
from tests.integration.waiting import eventually
from tests.redis_servers import Redis

PROCESSES, CLIENTS, ROOMS, MESSAGES = 3, 300, 20, 20_000


@pytest.fixture
def redis() -> Iterator[Redis]:
    """A Redis that keeps its data over a kill."""
    # what Redis has answered is in the page cache then; with everysec, a write may be postponed
    with Redis("appendonly yes", "appendfsync no") as server:
        yield server


class Person:
    """A client that says things, and comes back with `since` when its connection ends."""

    def __init__(self, number: int, daemons: list[Daemon]) -> None:
        self.number = number
        self.room = f"room{number % ROOMS}"
        self.seen: list[tuple[int, str]] = []
        self.acknowledged: set[tuple[int, str]] = set()
        self.refused = 0
        self.gaps = 0
        self.visits = 0
        self.joined = asyncio.Event()
        self._daemons = daemons
        self._expected: str | None = None
        self._answered = asyncio.Event()
        self._socket: ClientConnection | None = None

    async def live(self) -> None:
        """Listens until it is cancelled."""
        for attempt in itertools.count(self.number):
            daemon = self._daemons[attempt % len(self._daemons)]
            since = f"?since={self.seen[-1][0]}" if self.seen else "?history=0"
            url = f"{daemon.ws_url}/ws/chat/{self.room}{since}"
            try:
                async with connect(
                    url, ping_interval=None, max_queue=None, compression=None
                ) as socket:
                    self._socket = socket
                    self.visits += 1
                    self.joined.set()
                    async for frame in socket:
                        self._take(json.loads(frame))
            except (OSError, TimeoutError, WebSocketException, InvalidHandshake):
                pass
            self._socket = None
            # what was on its way is not acknowledged, whether it was kept or not
            self._answered.set()
            await asyncio.sleep(0.05)

    def _take(self, frame: dict[str, Any]) -> None:
        if "id" in frame:
            self.seen.append((frame["id"], frame["message"]))
            if frame["message"] == self._expected:
                self.acknowledged.add(self.seen[-1])
                self._answered.set()
        elif "gap" in frame:
            self.gaps += 1
        elif "error" in frame:
            self.refused += 1
            self._answered.set()

    async def say(self, text: str) -> bool:
        """Says something; returns whether it came back, in a while."""
        self._expected = text
        self._answered.clear()
        if self._socket is None:
            await asyncio.sleep(0.05)
            return False
        try:
            await self._socket.send(json.dumps({"message": text}))
            await asyncio.wait_for(self._answered.wait(), PATIENCE)
        except (OSError, TimeoutError, WebSocketException):
            return False
        return any(text == said for _, said in self.acknowledged)


async def talk(people: list[Person], said: Iterator[int], trouble: dict[int, Any]) -> None:
    """Everybody says one thing after the other, until the messages are used up."""

    async def one(person: Person) -> None:
        for number in said:
            if number in trouble:
                await asyncio.to_thread(trouble[number])
            if not await person.say(f"{number} of {person.number}"):
                await asyncio.sleep(0.2)

    await asyncio.gather(*map(one, people))


async def the_end(people: list[Person]) -> None:
    """Says something in each room until it comes back; returns when everyone has it."""
    for person in people[:ROOMS]:
        for attempt in range(400):
            if await person.say(f"the end {attempt}"):
                break
            await asyncio.sleep(0.05)
        else:
            pytest.fail(f"nothing can be said in {person.room}")
        last = max(person.acknowledged)
        neighbours = [other for other in people if other.room == person.room]
        for _ in range(int(PATIENCE / 0.05)):
            if all(other.seen and other.seen[-1] >= last for other in neighbours):
                break
            await asyncio.sleep(0.05)


@pytest.mark.noisy_log
def test_nothing_is_lost_doubled_or_out_of_order_while_processes_and_redis_fail(
    redis: Redis, spawn: Spawn
) -> None:
    """300 clients in 20 rooms of 3 processes; one of them is killed, and Redis is restarted."""
    daemons = [spawn(REDIS_URL=f"unix://{redis.socket}") for _ in range(PROCESSES)]
    people = [Person(number, daemons) for number in range(CLIENTS)]

    def restart_redis() -> None:
        redis.kill()
        redis.start()

    async def scene() -> None:
        lives = [asyncio.create_task(person.live()) for person in people]
        await asyncio.gather(*(person.joined.wait() for person in people))
        said = iter(range(MESSAGES))
        trouble = {MESSAGES // 3: daemons[0].kill, MESSAGES * 2 // 3: restart_redis}
        await talk(people, said, trouble)
        await the_end(people)
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)

    asyncio.run(scene())
    acknowledged = set[tuple[str, int, str]]()
    texts = dict[tuple[str, int], str]()
    for person in people:
        ids = [id for id, _ in person.seen]
        assert ids == sorted(set(ids)), "out of order or twice"
        assert len({text for _, text in person.seen}) == len(ids), "twice, under two ids"
        for id, text in person.seen:
            assert texts.setdefault((person.room, id), text) == text, "two orders"
        acknowledged |= {(person.room, id, text) for id, text in person.acknowledged}
    for person in people:
        seen = {(person.room, id, text) for id, text in person.seen}
        assert {each for each in acknowledged if each[0] == person.room} <= seen
    assert len(acknowledged) > MESSAGES / 2
    assert sum(person.visits for person in people) >= CLIENTS * 4 / 3, "nobody had to come back"
    assert sum(person.refused for person in people), "Redis was never missed"
    assert not any(person.gaps for person in people)


def refused(daemon: Daemon, path: str) -> tuple[int, str]:
    """Status and code of a refused handshake."""
    answer = Refused(daemon, path)
    return answer.status, answer.error


def wait_for(client: Any, member: str) -> list[Any]:
    """Reads until a frame with this member comes; returns all frames."""
    frames: list[Any] = []
    while not frames or member not in frames[-1]:
        frames.append(read(client))
    return frames


def test_during_an_outage_of_redis_nothing_is_delivered_and_clients_get_one_error(
    redis: Redis, spawn: Spawn, connect: Connect
) -> None:
    here, there = (spawn(REDIS_URL=f"unix://{redis.socket}") for _ in range(2))
    a, b = connect(here, "/ws/chat/r"), connect(there, "/ws/chat/r")
    say(a, {"message": "before"})
    assert [read(client)["message"] for client in (a, b)] == ["before"] * 2
    redis.kill()
    for client in (a, b):
        assert read(client)["error"] == "store_unavailable"
    for number in range(3):
        say(a, {"message": f"lost {number}"})
    assert [frame["error"] for frame in read_many(a, 3)] == ["store_unavailable"] * 3
    for daemon in (here, there):
        eventually(lambda daemon=daemon: daemon.get("/readyz")[0] == 503)  # type: ignore[misc]
        answer = daemon.get("/readyz")[1]
        assert answer["parts"]["redis"]["ok"] is False
        assert refused(daemon, "/ws/chat/r") == (503, "store_unavailable")
        assert refused(daemon, "/ws/chat/other") == (503, "store_unavailable")
    redis.start()
    for client in (a, b):
        assert read(client)["status"] == "restored"
    for daemon in (here, there):
        daemon.wait_until_ready()
    say(b, {"message": "after"})
    assert [read(client)["message"] for client in (a, b)] == ["after"] * 2
    assert read_rest(a, b) == [[], []]


def test_messages_posted_while_one_process_was_cut_off_reach_its_clients_afterwards(
    redis: Redis, spawn: Spawn, connect: Connect
) -> None:
    """In its order, once, before what is said afterwards."""
    here, there = (spawn(REDIS_URL=f"unix://{redis.socket}") for _ in range(2))
    a, b = connect(here, "/ws/chat/r"), connect(there, "/ws/chat/r")
    say(a, {"message": "0"})
    assert [read(client)["message"] for client in (a, b)] == ["0"] * 2
    # the subscribers' connections of both are cut; what is said between is not published to them
    redis.tell("CLIENT", "KILL", "TYPE", "pubsub")
    for number in range(1, 50):
        say(a, {"message": str(number)})
    settle(a)
    said = random.Random(1).randint(100, 200)
    # a message may come before the news in one process and behind them in the other
    before = [
        [frame["message"] for frame in wait_for(client, "status") if "id" in frame]
        for client in (a, b)
    ]
    say(b, {"message": str(said)})
    got = [
        [*early, *(frame["message"] for frame in wait_for_text(client, str(said)))]
        for early, client in zip(before, (a, b), strict=True)
    ]
    assert got[0] == got[1] == sorted(set(got[0]), key=int)
    # what was kept has come, too
    assert len(got[0]) == redis.tell("XLEN", "relayd:{chat/r}:messages") - len(["0"])


def wait_for_text(client: Any, text: str) -> list[Any]:
    """Reads until a message with this text; returns the messages."""
    frames: list[Any] = []
    while not frames or frames[-1]["message"] != text:
        frame = read(client)
        if "id" in frame:
            frames.append(frame)
    return frames


def test_a_client_that_resumes_after_redis_has_lost_its_data_gets_a_gap(
    spawn: Spawn, connect: Connect
) -> None:
    with Redis() as redis:
        daemon = spawn(REDIS_URL=f"unix://{redis.socket}")
        first = connect(daemon, "/ws/chat/r")
        for number in range(3):
            say(first, {"message": str(number)})
        ids = [frame["id"] for frame in read_many(first, 3)]
        first.close()
        # nobody remembers what was shown
        daemon.stop()
        redis.kill()
        redis.start()
        daemon.start()
        second = connect(daemon, f"/ws/chat/r?since={ids[1]}")
        assert read(second)["gap"] is True
        say(second, {"message": "new"})
        new = read(second)
        assert new["message"] == "new"
        assert new["id"] > ids[-1]
        third = connect(daemon, f"/ws/chat/r?since={ids[-1]}")
        assert read(third)["gap"] is True
        assert read(third) == new
        assert read_rest(second, third) == [[], []]


def test_a_client_that_stayed_while_redis_forgot_everything_goes_on_and_no_id_comes_twice(
    spawn: Spawn, connect: Connect
) -> None:
    with Redis() as redis:
        here, there = (spawn(REDIS_URL=f"unix://{redis.socket}") for _ in range(2))
        a, b = connect(here, "/ws/chat/r"), connect(there, "/ws/chat/r")
        for number in range(3):
            say(a, {"message": str(number)})
        ids = [frame["id"] for frame in read_many(a, 3)]
        assert [frame["id"] for frame in read_many(b, 3)] == ids
        redis.kill()
        redis.start()
        for client in (a, b):
            wait_for(client, "status")
        say(b, {"message": "new"})
        new = [read(client) for client in (a, b)]
        assert new[0] == new[1]
        assert new[0]["id"] > ids[-1]
        late = connect(there, f"/ws/chat/r?since={ids[0]}")
        assert read(late)["gap"] is True
        assert read(late) == new[0]


def test_history_is_capped_by_length_and_by_age(
    redis: Redis, spawn: Spawn, connect: Connect
) -> None:
    url = f"unix://{redis.socket}"
    daemon = spawn(REDIS_URL=url, chat_history_length=5)
    client = connect(daemon, "/ws/chat/r")
    for number in range(8):
        say(client, {"message": str(number)})
    read_many(client, 8)
    again = connect(daemon, "/ws/chat/r")
    assert [frame["message"] for frame in read_many(again, 5)] == ["3", "4", "5", "6", "7"]
    forgetful = spawn(REDIS_URL=url, chat_history_length=5, redis_history_age=2)
    last = connect(forgetful, "/ws/chat/r?history=0")
    say(last, {"message": "8"})
    assert read(last)["message"] == "8"
    eventually(lambda: not redis.tell("EXISTS", "relayd:{chat/r}:messages"))
    late = connect(daemon, "/ws/chat/r")
    assert read_rest(late) == [[]]


def test_a_process_that_publishes_by_api_reaches_the_clients_of_all(
    redis: Redis, spawn: Spawn, connect: Connect
) -> None:
    here, there = (spawn(REDIS_URL=f"unix://{redis.socket}", api_key="k" * 20) for _ in range(2))
    listeners = [connect(daemon, "/ws/push/t") for daemon in (here, there)]
    rooms = [connect(daemon, "/ws/chat/r") for daemon in (here, there)]
    key = {"Authorization": "Bearer " + "k" * 20}
    assert here.post("/api/push/t", b'{"done": 1}', **key)[0] == 200
    assert [read(client) for client in listeners] == [{"done": 1}] * 2
    assert there.post("/api/chat/r", b'{"message": "hi"}', **key)[0] == 200
    assert [read(client)["message"] for client in rooms] == ["hi"] * 2
    # the documented call of other programs
    redis.tell("PUBLISH", "relayd:push/t", '{"done": 2}')
    redis.tell("PUBLISH", "relayd:push/t", "nonsense")
    redis.tell("PUBLISH", "relayd:push/t", "[1, 2")
    redis.tell("PUBLISH", "relayd:push/t", '{"done": 3}')
    for client in listeners:
        assert read_many(client, 2) == [{"done": 2}, {"done": 3}]
    assert read_rest(*listeners, *rooms) == [[], [], [], []]


def test_presence_is_right_after_an_outage_of_any_server(
    redis: Redis, spawn: Spawn, connect: Connect
) -> None:
    with Redis() as other:
        here, there = (
            spawn(REDIS_URL=f"unix://{redis.socket} unix://{other.socket}") for _ in range(2)
        )
        members = [connect(there, f"/ws/chat/r{number}?history=0") for number in range(12)]
        watchers = [
            connect(here, f"/ws/chat/r{number}?history=0&presence=1") for number in range(12)
        ]
        assert [read(watcher)["count"] for watcher in watchers] == [2] * 12
        away = other if redis.tell("PUBSUB", "NUMSUB", "relayd:presence")[1] else redis
        channels = away.tell("PUBSUB", "CHANNELS", "relayd:presence:*")
        numbers = {int(channel.rpartition(b"r")[2]) for channel in channels}
        assert 0 < len(numbers) < 12
        away.kill()
        eventually(lambda: {each.get("/readyz")[0] for each in (here, there)} == {503})
        for member in members:
            member.close()
        # all leaves are reported together, to channels of both servers
        for number in sorted(range(12), key=numbers.__contains__):
            if number in numbers and away.process is None:
                away.start()
            while read(watchers[number]).get("count") != 1:  # after the frames about the outage
                pass


def test_presence_counts_members_of_all_processes_also_of_an_emptied_redis_until_they_are_killed(
    redis: Redis, spawn: Spawn, connect: Connect
) -> None:
    here, there, dies = (spawn(REDIS_URL=f"unix://{redis.socket}") for _ in range(3))
    plain = connect(there, "/ws/chat/r?history=0")
    for _ in range(2):
        connect(dies, "/ws/chat/r?history=0")
    watcher = connect(here, "/ws/chat/r?history=0&presence=1")
    assert read(watcher) == {"presence": "here", "count": 4, "anonymous": 4, "users": []}
    for _ in range(3):  # the leases, too: a process that was heard just now is spared
        redis.tell("FLUSHALL")
        eventually(lambda: len(redis.tell("KEYS", "relayd:process:*:present")) == 3)
    connect(there, "/ws/chat/r?history=0")
    while read(watcher).get("count") != 5:  # after a gap: messages may be missing
        pass
    dies.kill()
    assert read(watcher)["count"] == 3
    redis.kill()
    redis.start()
    for daemon in (here, there):
        daemon.wait_until_ready()
    plain.close()
    while read(watcher).get("count") != 2:  # after the frames about the outage
        pass

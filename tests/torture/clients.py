"""Clients that note all they send and get, come back after every end, and send again.

They do what docs/protocol.md advises: `?since=` with the last id, one tag for one message.
"""

import asyncio
import contextlib
import itertools
import json
import random
from collections.abc import Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.torture.checker import NOT_KNOWN
from tests.torture.records import Record

PATIENCE = 12.0
"""Seconds without an answer after which a client takes its connection for dead."""


class Client:
    """A client that connects, to one process or another, until it is told to leave.

    Args:
        who: its name in the record.
        ports: of the processes.
        record: what it writes to.
        chance: draws processes, pauses and decisions.

    Attributes:
        leaving: whether it ends with its connection.
        quiet: whether it begins nothing further.
    """

    def __init__(
        self, who: str, ports: Sequence[int], record: Record, chance: random.Random
    ) -> None:
        self.who = who
        self.record = record
        self.chance = chance
        self.leaving = self.quiet = False
        self._ports = ports
        self._connection: ClientConnection | None = None

    def path(self) -> str:
        """Where it connects to now."""
        raise NotImplementedError

    async def act(self, connection: ClientConnection) -> None:
        """Sends, as long as the connection lasts."""

    def got(self, frame: dict[str, Any]) -> None:
        """Reads a frame."""

    def since(self) -> int | None:
        """The id that it says when it connects; None for the first time."""
        return None

    async def run(self) -> None:
        """Connects again and again."""
        while not self.leaving:
            with contextlib.suppress(OSError, InvalidHandshake, ConnectionClosed, TimeoutError):
                await self._connect()
            if not self.leaving:
                await asyncio.sleep(self.chance.uniform(0.05, 0.3))

    async def _connect(self) -> None:
        url = f"ws://127.0.0.1:{self.chance.choice(self._ports)}{self.path()}"
        since = self.since()
        async with connect(
            url, compression=None, ping_interval=None, open_timeout=6, close_timeout=1, proxy=None
        ) as connection:
            self._connection = connection
            self.record.add(self.who, "joined", since=since, url=url)
            acting = asyncio.ensure_future(self.act(connection))
            try:
                async for text in connection:
                    frame = json.loads(text)
                    self.record.add(self.who, "frame", **frame)
                    self.got(frame)
                    if self.leaving:
                        break
            finally:
                self._connection = None
                acting.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
                    await acting
                self.record.add(self.who, "ended", code=connection.close_code)

    def reset(self) -> None:
        """Drops its connection as a network does. No effect without one."""
        if self._connection is not None:
            self._connection.transport.abort()


class ChatMember(Client):
    """A member of a room who writes, too.

    Attributes:
        last: the newest id that it has seen.
        pending: text by tag of what has no answer that ends it.
    """

    def __init__(
        self, room: str, number: int, ports: Sequence[int], record: Record, chance: random.Random
    ) -> None:
        super().__init__(f"chat {room}/{number}", ports, record, chance)
        self._room = room
        self._tags = (f"{room}/{number}/{count}" for count in itertools.count())
        self.last: int | None = None
        self.pending: dict[str, str] = {}
        self.texts: set[str] = set()
        self._due: dict[str, float] = {}
        self._waits_since: float | None = None

    def path(self) -> str:
        query = "history=0" if self.last is None else f"since={self.last}"
        return f"/ws/chat/{self._room}?{query}"

    def since(self) -> int | None:
        return self.last

    async def act(self, connection: ClientConnection) -> None:
        clock = asyncio.get_running_loop().time
        for tag in list(self.pending):  # the last connection took their answers with it
            self._due[tag] = clock()
        while True:
            now = clock()
            for tag in [tag for tag, due in self._due.items() if due <= now]:
                del self._due[tag]
                if tag in self.pending:  # else its copy came with a page meanwhile
                    await self._send(connection, tag)
            if not self.quiet and len(self.pending) < 5:
                tag = next(self._tags)
                self.pending[tag] = f"text of {tag}"
                await self._send(connection, tag)
            if self._waits_since is not None and now - self._waits_since > PATIENCE:
                connection.transport.abort()
            await asyncio.sleep(self.chance.uniform(0.05, 0.4))

    async def _send(self, connection: ClientConnection, tag: str) -> None:
        if self._waits_since is None:
            self._waits_since = asyncio.get_running_loop().time()
        self.record.add(self.who, "sent", tag=tag, text=self.pending[tag])
        await connection.send(json.dumps({"message": self.pending[tag], "tag": tag}))

    def got(self, frame: dict[str, Any]) -> None:
        self._waits_since = None
        if "id" in frame:
            self.last = frame["id"] if self.last is None else max(self.last, frame["id"])
            self.texts.add(frame["message"])
        tag = frame.get("tag")
        if tag not in self.pending:
            return
        if "error" not in frame:
            del self.pending[tag]
        elif frame["error"] == NOT_KNOWN or self.chance.random() < 0.5:
            self._due[tag] = asyncio.get_running_loop().time() + self.chance.uniform(0.2, 1)
        else:
            del self.pending[tag]


class Headset(Client):
    """The Unity side of a pair: reads."""

    def __init__(
        self, pair: int, uuid: str, ports: Sequence[int], record: Record, chance: random.Random
    ) -> None:
        super().__init__(f"headset {pair}", ports, record, chance)
        self._uuid = uuid

    def path(self) -> str:
        return f"/ws/difficulty/unity/{self._uuid}"


class Phone(Client):
    """The Android side of a pair: one request after another, each with a difficulty of its own.

    Attributes:
        receipts: how many requests were received.
    """

    def __init__(
        self,
        pair: int,
        uuid: str,
        ports: Sequence[int],
        record: Record,
        chance: random.Random,
        difficulties: int,
    ) -> None:
        super().__init__(f"phone {pair}", ports, record, chance)
        self._uuid, self._pair = uuid, pair
        self._most = difficulties
        self._count = 0
        self._tag: str | None = None
        self._answered = asyncio.Event()
        self.receipts = 0

    @property
    def waits(self) -> bool:
        """Whether a request has no answer that ends it."""
        return self._tag is not None

    def path(self) -> str:
        return f"/ws/difficulty/android/{self._uuid}"

    async def act(self, connection: ClientConnection) -> None:
        while True:
            if self._tag is None:
                if self.quiet or self._count == self._most:
                    await asyncio.sleep(0.1)
                    continue
                self._count += 1
                self._tag = f"pair {self._pair}/{self._count}"
            self._answered.clear()
            self.record.add(self.who, "sent", tag=self._tag, difficulty=self._count)
            await connection.send(json.dumps({"difficulty": self._count, "tag": self._tag}))
            try:
                await asyncio.wait_for(self._answered.wait(), PATIENCE)
            except TimeoutError:
                connection.transport.abort()
            await asyncio.sleep(self.chance.uniform(0.02, 0.2))

    def got(self, frame: dict[str, Any]) -> None:
        if frame.get("tag") != self._tag or frame.get("status") not in ("received", "error"):
            return
        if frame["status"] == "received":
            self.receipts += 1
        known = frame.get("error") != NOT_KNOWN
        if frame["status"] == "received" or (known and self.chance.random() < 0.5):
            self._tag = None
        elif self.quiet and not known:
            self._tag = None  # nobody will ever know: the process that could tell has died
        self._answered.set()

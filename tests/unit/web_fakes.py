"""Shared by the tests of the HTTP side: a stand-in for the rest of relayd, and a client."""

import json
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.http import HTTPChannel

from relayd.config import Api, Config
from relayd.errors import ErrorCode, Refusal
from relayd.metrics.exchange import Family
from relayd.metrics.totals import describe_workers
from relayd.stores.health import Trouble
from relayd.web.site import Site, build_site

KEY = "a key for tests"
BEARER = f"Authorization: Bearer {KEY}\r\n"
SAID = b'{"message":"hi","id":7,"time":"2026-01-02T03:04:05.678Z"}'


@dataclass
class FakeBackend:
    """Remembers what it was asked; fails as told."""

    config: Config = field(default_factory=lambda: Config(api=Api(key=KEY)))
    draining: bool = False
    stopping: bool = False
    database: Trouble | None = None
    disk_error: Exception | None = None
    redis: Trouble | None = None
    post_result: "Deferred[bytes] | Exception | None" = None
    published: list[tuple[str, bytes]] = field(default_factory=list)
    said: list[tuple[str, str]] = field(default_factory=list)
    banned: tuple[str, ...] = ()

    def connection_counts(self) -> dict[str, int]:
        return {"camera": 41, "chat": 12}

    def publish(self, group: str, payload: bytes) -> int:
        self.published.append((group, payload))
        return 3

    async def post(self, room: str, message: str, tag: str = "") -> bytes:
        self.said.append((room, message))
        if isinstance(self.post_result, Exception):
            raise self.post_result
        if self.post_result is not None:
            return await self.post_result
        return SAID

    def check_disk(self) -> None:
        if self.disk_error is not None:
            raise self.disk_error

    async def database_trouble(self) -> Trouble | None:
        return self.database

    async def figures(self) -> list[Family]:
        return describe_workers(1, 1, 0, 0)

    def check_address(self, client: str) -> None:
        if client in self.banned:
            raise Refusal(ErrorCode.BANNED)

    def check_request(self, client: str) -> None:
        pass

    def check_attempt(self, client: str) -> None:
        pass

    def attempt_failed(self, client: str) -> None:
        pass

    def redis_trouble(self) -> Trouble | None:
        return self.redis


@dataclass
class Reply:
    """One parsed answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def _channel() -> Any:
    """A channel, untyped: what it is given below are no attributes of the class."""
    return HTTPChannel()


class Client:
    """One connection to a site."""

    def __init__(self, site: Site) -> None:
        self.channel = _channel()
        self.channel.requestFactory = site.requestFactory
        self.channel.site = site
        self.channel.callLater = Clock().callLater
        self.transport = StringTransport()
        self.channel.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        self.channel.dataReceived(data)

    def is_closed(self) -> bool:
        """Whether the server has ended the connection."""
        return self.transport.disconnecting

    def replies(self, *, head: bool = False) -> list[Reply]:
        """Everything answered so far; each answer must say its own length."""
        data, found = self.transport.value(), []
        while data:
            raw, _, data = data.partition(b"\r\n\r\n")
            status, *lines = raw.decode("latin-1").split("\r\n")
            headers: dict[str, str] = {}
            for line in lines:
                name, _, value = line.partition(": ")
                headers[name.lower()] = (
                    f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
                )
            assert "Unknown" not in status
            code = int(status.split()[1])
            length = 0 if code in (100, 204, 304) else int(headers["content-length"])
            if head:
                length = 0
            assert len(data) >= length
            found.append(Reply(code, headers, data[:length]))
            data = data[length:]
        return found


def ask(
    backend: FakeBackend,
    method: str,
    path: str,
    body: bytes = b"",
    headers: str = "",
    host: str = "relay.example:8080",
) -> Reply:
    """Sends one request on a connection of its own and returns its answer."""
    client = Client(build_site(backend, Clock()))
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{length}{headers}\r\n"
    client.send(head.encode() + body)
    [reply] = client.replies(head=method == "HEAD")
    return reply

"""Helpers for WebSocket clients in tests: settle, read, be refused; and for a database."""

import json
import sqlite3
from typing import Any

import psycopg2
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.daemon import Daemon

PATIENCE = 20.0
"""Seconds after which something that should come does not come any more."""


def read(client: ClientConnection) -> Any:
    """The next frame's JSON; it must be a text frame."""
    frame = client.recv(timeout=PATIENCE)
    assert isinstance(frame, str)
    return json.loads(frame)


def read_many(client: ClientConnection, count: int) -> list[Any]:
    """The next frames' JSON."""
    return [read(client) for _ in range(count)]


def say(client: ClientConnection, value: Any) -> None:
    """Sends a JSON value in a text frame."""
    client.send(json.dumps(value))


def settle(*clients: ClientConnection) -> None:
    """Returns when the server has read what each has sent, and each has what was sent to it."""
    for client in clients:
        assert client.ping().wait(PATIENCE), "no pong"


def read_rest(*clients: ClientConnection) -> list[list[Any]]:
    """What each client has got that was not read yet, after all have settled."""
    settle(*clients)
    settle(*clients)  # what the last one sent has reached the first one
    return [_waiting(client) for client in clients]


def _waiting(client: ClientConnection) -> list[Any]:
    found = []
    while True:
        try:
            found.append(json.loads(client.recv(timeout=0)))
        except TimeoutError:
            return found


def read_close(client: ClientConnection) -> tuple[int, str]:
    """Code and reason with which the server closes; skips the frames before."""
    while True:
        try:
            client.recv(timeout=PATIENCE)
        except ConnectionClosed as closed:
            if closed.rcvd is None:
                pytest.fail("the connection ended without a close frame")
            return closed.rcvd.code, closed.rcvd.reason


class Refused:
    """A refused handshake, after the checks that hold for every one of them."""

    def __init__(self, daemon: Daemon, path: str, **options: Any) -> None:
        with pytest.raises(InvalidStatus) as caught:
            daemon.connect(path, **options)
        response = caught.value.response
        self.status = response.status_code
        self.headers = response.headers
        check_refusal(self.status, dict(self.headers.raw_items()), response.body)
        body = json.loads(response.body)
        self.error: str = body["error"]
        self.message: str = body["message"]


def check_refusal(status: int, headers: dict[str, str], body: bytes | bytearray) -> None:
    """The contract's form of a refusal: JSON, its length, flat, Retry-After with 429 and 503."""
    headers = {name.lower(): value for name, value in headers.items()}
    assert headers["content-type"] == "application/json; charset=utf-8"
    assert ("www-authenticate" in headers) == (status == 401)
    assert int(headers["content-length"]) == len(body)
    assert ("retry-after" in headers) == (status in (429, 503))
    value = json.loads(body)
    assert all(isinstance(member, str) for member in value.values()), value
    assert set(value) == {"error", "message"}
    assert value["message"].endswith(".")


def execute(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Runs SQL beside relayd, as psql or sqlite3 would; the rows of the last statement."""
    connection: Any
    if url.startswith("sqlite:"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=PATIENCE)
    else:
        connection = psycopg2.connect(url)
    try:
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        rows = cursor.fetchall() if cursor.description else []
        connection.commit()
        return rows
    finally:
        connection.close()

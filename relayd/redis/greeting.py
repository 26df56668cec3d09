"""The first commands on a connection: log in, select the database, check that it is a master.

Stands on `connection`. All commands are sent at once, and not by txredisapi, whose own login never
retries after a connection breaks in the middle of it.
"""

import re
from typing import Any

from twisted.internet.defer import DeferredList

from relayd.errors import RedisUnavailable
from relayd.redis.commands import Word, pack
from relayd.redis.connection import Connection
from relayd.redis.replies import RedisRefused
from relayd.redis.urls import Credentials


async def greet(connection: Connection, credentials: Credentials, db: int, name: str) -> None:
    """Makes a connection to a master ready for commands.

    `connection.process` becomes the run id of the Redis process, if INFO returns one, and
    `connection.replication` the id of its history of replication.

    Args:
        connection: just connected.
        credentials: user and password.
        db: the number of the database.
        name: the name of the connection in CLIENT LIST.

    Raises:
        RedisUnavailable: the server is no usable master, or refuses the credentials.
    """
    needed = _login(credentials)
    if db:
        needed.append(("SELECT", db))
    lineage = [("INFO", "server"), ("INFO", "replication")]
    replies = await _ask(connection, needed, [("ROLE",), *lineage, ("CLIENT", "SETNAME", name)])
    _check_role(connection.label, replies[0])
    found = re.search(rb"^run_id:(\w+)", replies[1], re.M) if type(replies[1]) is bytes else None
    if found:
        connection.process = found[1].decode()
    connection.learn_replication(replies[2])


async def greet_sentinel(connection: Connection, credentials: Credentials, name: str) -> None:
    """Makes a connection to a sentinel ready for queries.

    Raises:
        RedisUnavailable: the sentinel cannot be used, or refuses the credentials.
    """
    await _ask(connection, _login(credentials), [("CLIENT", "SETNAME", name)])


def log_in_anew(connection: Connection, credentials: Credentials) -> None:
    """Gives a connection that is in use another user; a refusal is noted as any other."""
    for words in _login(credentials):
        connection.send(pack(words)).addErrback(lambda _: None)


def _login(credentials: Credentials) -> list[tuple[Word, ...]]:
    words: list[tuple[Word, ...]] = [("PING",)]  # is refused while Redis is loading its data
    if credentials.user:
        words.insert(0, ("AUTH", credentials.user, credentials.password))
    elif credentials.password:
        words.insert(0, ("AUTH", credentials.password))
    return words


async def _ask(
    connection: Connection, needed: list[tuple[Word, ...]], wanted: list[tuple[Word, ...]]
) -> list[Any]:
    """Sends commands; returns the replies to `wanted`, with errors as values.

    Raises:
        RedisUnavailable: a command of `needed` failed, or the connection ended.
    """
    calls = [connection.send(pack(words)) for words in needed]
    calls += [connection.send(pack(words), noted=False) for words in wanted]
    outcomes = await DeferredList(calls, consumeErrors=True)
    replies = [outcome if success else outcome.value for success, outcome in outcomes]
    for reply in replies[: len(needed)]:
        if isinstance(reply, RedisRefused):
            # Redis repeats the arguments of a command that it does not know, the password, say
            text = str(reply).partition(", with args")[0]
            raise RedisUnavailable(f"{connection.label}: {text}")
    for reply in replies:
        # a cancelled DeferredList does not fail itself: each of its Deferreds does
        if isinstance(reply, Exception) and not isinstance(reply, RedisRefused):
            raise reply
    return replies[len(needed) :]


def _check_role(label: str, reply: Any) -> None:
    if isinstance(reply, RedisRefused):  # not allowed or not known: READONLY shows it later
        return
    role = reply[0] if isinstance(reply, list) and reply else None
    if role == b"slave":
        raise RedisUnavailable(f"{label}: it is a replica; a master is needed")
    if role == b"sentinel":
        raise RedisUnavailable(f"{label}: it is a sentinel; its URL begins with sentinel://")

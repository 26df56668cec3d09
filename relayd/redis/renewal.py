"""Puts a connection with another login in the place of the one with subscriptions.

Under `server`, on `link` and `subscriptions`. A connection that is subscribed takes no AUTH.
"""

import secrets
from typing import Any

from relayd.errors import RedisUnavailable
from relayd.redis.commands import pack_publish
from relayd.redis.connection import SubscriberConnection
from relayd.redis.link import Link
from relayd.redis.settings import Settings
from relayd.redis.subscriptions import Subscriptions


async def renew(
    after: SubscriberConnection,
    link: Link,
    commands: Link,
    subscriptions: Subscriptions,
    settings: Settings,
    clock: Any,
) -> None:
    """Changes the connection; no message is lost, comes twice, or comes out of order.

    Args:
        after: the new connection, logged in.
        link: of the connection with subscriptions.
        commands: of the connection for commands.
        subscriptions: what is subscribed.
        settings: the deadline, and the prefix of the channel for the mark.
        clock: provides IReactorTime.

    Raises:
        RedisUnavailable: that was not possible; the connection before stays, or is made anew.
        RedisRefused: the new login may not subscribe what the other one could.
    """
    before, publisher = link.connection, commands.connection
    mark = f"{settings.prefix}:login:{secrets.token_hex(8)}".encode()

    def overdue(_: object, seconds: float) -> None:
        raise RedisUnavailable(f"the mark did not come in {seconds:.1f} s")

    try:
        if before is None or publisher is None:
            raise RedisUnavailable("it is away")
        if after.process != before.process:
            raise RedisUnavailable("another Redis answers at its address now")
        await subscriptions.hand_over(
            after,
            mark,
            lambda: publisher.send(pack_publish(mark, b"")),
            lambda done: done.addTimeout(settings.deadline, clock, overdue),
        )
    except BaseException:
        after.abort("it could not take over")
        raise
    link.succeed(after)
    before.abort("it has a successor")

"""Runs a script on a connection: by its hash, with its text only where Redis does not have it.

Between `server` and `connection`.
"""

from collections.abc import Sequence
from typing import Any

from relayd.redis.commands import Script, Word, pack
from relayd.redis.connection import Connection
from relayd.redis.replies import RedisRefused


async def evaluate(
    connection: Connection, script: Script, keys: Sequence[Word], args: Sequence[Word]
) -> Any:
    """Runs it. Returns and raises as `Connection.call`."""
    words = (len(keys), *keys, *args)
    try:
        return await connection.call(pack(("EVALSHA", script.sha1, *words)))
    except RedisRefused as error:
        if error.code != "NOSCRIPT":
            raise
    return await connection.call(pack(("EVAL", script.text, *words)))

"""Settings of PostgreSQL that hold for one transaction: they reach it through a pooler, too.

Under `engines`. PgBouncer in transaction mode refuses or ignores the start-up parameter `options`,
and gives the next transaction to another server, so a SET without LOCAL would stay with a stranger.
So each transaction begins with its settings, in the message of its first statement: no round trip
more. PostgreSQL runs the statements of one message as one transaction
(https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT).
"""

from collections.abc import Mapping
from typing import Any

from psycopg2.extensions import TRANSACTION_STATUS_IDLE, cursor


def cursor_with(settings: Mapping[str, str | int]) -> type[cursor]:
    """A class of cursors, for psycopg2's `cursor_factory`.

    Args:
        settings: names and values; a value is a number or one identifier.
    """
    words = "; ".join(f"SET LOCAL {name} = {_literal(value)}" for name, value in settings.items())

    class Cursor(cursor):
        """Runs statements, each first one of a transaction with the settings."""

        def execute(self, query: Any, vars: Any = None) -> None:
            if self.connection.get_transaction_status() == TRANSACTION_STATUS_IDLE:
                query = f"{query}; {words}" if query[:5] == "BEGIN" else f"{words}; {query}"
            super().execute(query, vars)

    return Cursor


def _literal(value: str | int) -> str:
    return str(value) if isinstance(value, int) else f'"{value}"'

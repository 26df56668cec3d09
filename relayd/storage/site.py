"""Reads the sessions and users of a Django site, in the site's own database. Never writes.

Beside `draws` and `history`, on `pool`; the site's database is another one than relayd's.
"""

from dataclasses import dataclass
from typing import Any

from relayd.errors import DatabaseUnavailable
from relayd.storage.engines import Cursor
from relayd.storage.pool import Database
from relayd.stores.states import State


@dataclass(frozen=True)
class Tables:
    """The names of the site's tables and columns, which are checked when they are configured.

    Attributes:
        sessions: the table of sessions, `django_session`.
        users: the table of users, `auth_user` unless the site has a model of its own.
        user_key: its primary key.
        user_name: the column with the name that clients see.
    """

    sessions: str
    users: str
    user_key: str
    user_name: str


@dataclass(frozen=True)
class User:
    """A row of the users' table.

    Attributes:
        name: the name that clients see.
        password: encoded, as the site keeps it.
        active: whether the user may log in.
    """

    name: str
    password: str
    active: bool


class Site:
    """A site's database.

    Args:
        database: the site's, opened as foreign.
        tables: their names.
    """

    def __init__(self, database: Database, tables: Tables) -> None:
        self._database = database
        now, quotes = "CURRENT_TIMESTAMP", '""'
        if database.dialect == "sqlite":
            # Django writes times there as text, with microseconds
            now = "strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now')"
            quotes = "[]"  # an unknown name in double quotes would be a text there
        quoted = {name: value.join(quotes) for name, value in vars(tables).items()}
        self._session_sql = database.sql(
            f"SELECT session_data FROM {quoted['sessions']} "
            f"WHERE session_key = %s AND expire_date > {now}"
        )
        self._user_sql = database.sql(
            f"SELECT {quoted['user_name']}, password, is_active FROM {quoted['users']} "
            f"WHERE {quoted['user_key']} = %s"
        )
        database.needs(lambda cursor: self._one(cursor, self._session_sql, ""))

    async def session(self, key: str) -> str | None:
        """The data of a session that has not expired; None if there is none.

        Raises:
            DatabaseUnavailable: the site's database does not answer, or lacks the table.
        """
        row = await self._database.run("django session", self._one, self._session_sql, key)
        return None if row is None else str(row[0])

    async def user(self, key: str) -> User | None:
        """A user; None if there is none.

        Args:
            key: the primary key, as the session has it.

        Raises:
            DatabaseUnavailable: the site's database does not answer, or lacks the table.
        """
        row = await self._database.run("django user", self._one, self._user_sql, key)
        return None if row is None else User(str(row[0]), str(row[1]), bool(row[2]))

    async def close(self) -> None:
        """Ends the connections."""
        await self._database.close()

    def _one(self, cursor: Cursor, sql: str, key: str) -> Any:
        engine = self._database.engine
        try:
            cursor.execute(sql, (key,))
            return cursor.fetchone()
        except engine.errors as error:
            state = engine.state_of(error)
            if state not in (None, State.UNPREPARED, State.FORBIDDEN):
                raise
            reason = str(error).strip().partition("\n")[0]
            raise DatabaseUnavailable(
                f"{engine.label}: the tables of the site cannot be read: {reason}",
                State.FORBIDDEN if state is State.FORBIDDEN else State.AWAY,
            ) from error

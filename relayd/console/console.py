"""The console as one part: its parts put together, and the table of its paths.

The top of `relayd.console`; `assembly` builds it, and `web.site` mounts it.
"""

import time
from typing import Any

from relayd.access.denials import Denial, Denials
from relayd.config import Config
from relayd.config.current import Current
from relayd.console.content import Content
from relayd.console.door import API, LOGIN, Door
from relayd.console.feed import Feed
from relayd.console.login import Login
from relayd.console.pages import Pages
from relayd.console.sessions import PATH, Sessions
from relayd.control.remote import ConsoleOperations
from relayd.storage.pool import Database
from relayd.storage.rows import Contents
from relayd.web.answers import Answer, redirect
from relayd.web.request import Request
from relayd.web.routes import Route


class Console:
    """The paths below `/console/` (`web.routes.Mounted`).

    Args:
        current: holds the configuration.
        reactor: for time and threads.
        operations: of all workers.
        denials: has the sessions that operators have ended.
        database: has quizzes and actions.
    """

    def __init__(
        self,
        current: Current,
        reactor: Any,
        *,
        operations: ConsoleOperations,
        denials: Denials,
        database: Database,
    ) -> None:
        def config() -> Config:
            return current.config

        sessions = Sessions(
            lambda: config().console.password_hash,
            lambda: config().console.session_age,
            time.time,
            lambda denial: denials.find("token", denial) is not None,
        )
        self._door = Door(config, sessions)
        self._feed = Feed(operations, reactor, time.time)
        self._content = Content(Contents(database), config, reactor)
        pages = Pages()
        self._login = Login(
            config, reactor, door=self._door, sessions=sessions, operations=operations,
            page=pages.login,
        )  # fmt: skip
        denials.watch(self._denied)
        current.watch(self._feed.end_streams, "console")
        self.routes = self._build_routes(pages)
        self.quiet = (f"{API}live",)

    def covers(self, path: str) -> bool:
        """Whether a path begins with `/console`."""
        return path == PATH[:-1] or path.startswith(PATH)

    def admit(self, request: Request) -> Answer | None:
        """Looks at the head of a request; as `door.Door.admit`."""
        return self._door.admit(request)

    def max_body(self, path: str) -> int | None:
        """The largest size of a body: that of an import, below its paths."""
        return self._content.max_body(path)

    def _denied(self, denial: Denial) -> None:
        if denial.kind == "token":
            self._feed.end_streams(denial.value)

    def _build_routes(self, pages: Pages) -> list[Route]:
        guard, feed, content, login = self._door.guard, self._feed, self._content, self._login
        table = API + "{table}"
        return [
            Route.at(PATH[:-1], GET=guard(lambda session, request: redirect(PATH))),
            Route.at(LOGIN, GET=login.form, POST=login.enter),
            Route.at(PATH + "logout", POST=guard(login.leave)),
            *(Route.at(path, GET=guard(page)) for path, page in pages.table.items()),
            Route.at(API + "live", GET=guard(feed.live)),
            Route.at(API + "clients", GET=guard(feed.clients)),
            Route.at(API + "rooms", GET=guard(feed.rooms)),
            Route.at(API + "pairs", GET=guard(feed.pairs)),
            Route.at(API + "trace", GET=guard(feed.trace)),
            Route.at(API + "kick", POST=guard(feed.kick)),
            Route.at(API + "drain", POST=guard(feed.drain)),
            Route.at(API + "undrain", POST=guard(feed.undrain)),
            Route.at(API + "publish", POST=guard(feed.publish)),
            Route.at(table, GET=guard(content.find), POST=guard(content.add)),
            Route.at(table + "/export", GET=guard(content.export)),
            Route.at(table + "/delete", POST=guard(content.delete)),
            Route.at(table + "/preview", POST=guard(content.preview)),
            Route.at(table + "/import", POST=guard(content.carry_out)),
            Route.at(table + "/{id}", PUT=guard(content.change)),
        ]

"""Prepares the database when relayd starts: its schema, and samples in a new one.

Stands on `schema` and `samples`; `node` and `workers` start it. An embedded database is ready
before the first client. A database server is prepared in the background, with retries.
"""

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from relayd.config import Database
from relayd.config.current import Current
from relayd.errors import DatabaseUnavailable
from relayd.logs import Logger
from relayd.storage import engines, samples, schema
from relayd.stores.health import Health
from relayd.stores.states import State, Store, remedy

_RETRY = 2.0
"""Seconds between two attempts while the database is unavailable."""


class Preparation:
    """Prepares the database of a process, if `[database] migrate` says so.

    Args:
        reactor: provides IReactorTime and IReactorFromThreads.
        current: holds the section `[database]`, whose login may change while relayd waits.
        health: of the database, where this process uses it.

    Raises:
        ConfigError: the URL is wrong.
    """

    _log = Logger()

    def __init__(self, reactor: Any, current: Current, health: Health | None = None) -> None:
        self._reactor = reactor
        self._health = health
        self._current = current
        self._embedded = engines.engine(self._settings.url).dialect == "sqlite"
        self._preparing: Deferred[None] | None = None

    @property
    def _settings(self) -> Database:
        return self._current.config.database

    def prepare_embedded(self) -> None:
        """Prepares the database if it is an embedded one. Blocks.

        Raises:
            SystemExit: the database cannot be used; the text says why.
        """
        if not self._settings.migrate or not self._embedded:
            return
        try:
            self._prepare()
        except (DatabaseUnavailable, schema.SchemaError) as error:
            state = getattr(error, "state", None)
            advice = remedy(Store.SQLITE, State(state)) if state else ""
            raise SystemExit(f"relayd: {error}{advice and '; '}{advice}") from error

    def start(self) -> None:
        """Prepares an embedded database now, and a server in the background until that is done.

        Raises:
            SystemExit: the embedded database cannot be used; the text says why.
        """
        self.prepare_embedded()
        if self._settings.migrate and not self._embedded:
            self._preparing = Deferred.fromCoroutine(self._prepare_until_done())
        elif self._health is not None:
            self._health.ask_soon()

    def stop(self) -> None:
        """Makes no further attempt."""
        if self._preparing is not None:
            self._preparing.cancel()

    def _prepare(self) -> None:
        """Brings the schema up to date, with samples if the database is ours and empty. Blocks."""
        url = self._settings.url
        for name in schema.migrate(url):
            self._log.info("migrated the database: {name}", name=name)
        newer = [step.id for step in schema.status(url) if not step.known]
        if newer:
            self._log.warn(
                "the database was migrated by a newer relayd: {names}; `relayctl db rollback` of "
                "that one takes it back",
                names=", ".join(newer),
            )
        encoding = schema.encoding(engines.engine(url))
        if encoding != schema.UTF8:
            self._log.warn(
                "the database's encoding is {encoding}, which cannot hold every character: chat "
                "messages with others are refused",
                encoding=encoding,
            )
        ours = not url
        if ours and self._settings.samples and samples.add_samples(""):
            self._log.info("the database was empty; it has sample quizzes and actions now")

    async def _prepare_until_done(self) -> None:
        said = ""
        while True:
            try:
                await self._in_thread(self._prepare)
            except CancelledError:
                return
            except DatabaseUnavailable as error:
                self._note(State(error.state), str(error))
            except schema.SchemaError as error:
                if str(error) != said:  # each reason once, not at each attempt
                    said = str(error)
                    self._log.error(
                        "the schema could not be brought up to date, trying again: {why}", why=said
                    )
            except Exception:
                self._log.failure("bringing the schema up to date failed")
                return
            else:
                if self._health is not None:
                    self._health.ask_soon()
                return
            try:
                await deferLater(self._reactor, _RETRY)
            except CancelledError:
                return

    def _note(self, state: State, reason: str) -> None:
        if self._health is not None:
            self._health.refused(state, reason)

    def _in_thread(self, work: Callable[[], None]) -> "Deferred[None]":
        """Runs a function in a daemon thread, which cannot keep the process alive if it hangs."""
        done: Deferred[None] = Deferred()

        def run() -> None:
            try:
                work()
            except BaseException:
                self._reactor.callFromThread(done.errback, Failure())
            else:
                self._reactor.callFromThread(done.callback, None)

        threading.Thread(target=run, name="schema", daemon=True).start()
        return done

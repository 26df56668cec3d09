"""`/healthz`: the process is alive. `/readyz`: it can serve. For load balancers and supervisors."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from relayd.errors import Unavailable
from relayd.stores.health import Trouble
from relayd.web.answers import Answer, json_answer
from relayd.web.backend import Backend
from relayd.web.request import Request

MEMORY = 1.0
"""Seconds for which an answer of the database holds: probes of strangers cost it nothing more."""


class Health:
    """Both answers. A supervisor restarts relayd on `/healthz`, so it depends on nothing else."""

    def __init__(self, backend: Backend, clock: IReactorTime) -> None:
        self._backend = backend
        self._clock = clock
        self._asked_at = -MEMORY
        self._database: Trouble | None = None
        self._waiting: list[Deferred[None]] | None = None

    def alive(self, request: Request) -> Answer:
        """200 while the reactor runs."""
        return json_answer({"status": "ok"})

    async def ready(self, request: Request) -> Answer:
        """200 if every part is ready, else 503; the body lists the parts."""
        draining: dict[str, Any] = {"ok": not self._backend.draining}
        if self._backend.draining:
            draining["message"] = "relayd takes no new clients now."
        await self._ask_database()
        database = _part(self._database)
        disk: dict[str, Any] = {"ok": True}
        try:
            self._backend.check_disk()
        except Unavailable as error:
            disk = {"ok": False, "message": error.sentence}
        redis = _part(self._backend.redis_trouble())
        parts = {"database": database, "disk": disk, "redis": redis, "draining": draining}
        if all(part["ok"] for part in parts.values()):
            return json_answer({"ready": True, "parts": parts})
        return json_answer({"ready": False, "parts": parts}, 503, retry_after="5")

    async def _ask_database(self) -> None:
        """Asks the database, at most once in `MEMORY` seconds and once at a time."""
        if self._waiting is not None:
            self._waiting.append(Deferred())
            await self._waiting[-1]
            return
        if self._clock.seconds() - self._asked_at < MEMORY:
            return
        self._waiting = []
        try:
            self._database = await self._backend.database_trouble()
        finally:
            self._asked_at = self._clock.seconds()
            waiting, self._waiting = self._waiting, None
            for each in waiting:
                each.callback(None)


def _part(trouble: Trouble | None) -> dict[str, Any]:
    """A store in the answer; its own words, which may name hosts and users, are for the log."""
    if trouble is None:
        return {"ok": True}
    return {"ok": False, "state": trouble.state, "message": trouble.sentence}

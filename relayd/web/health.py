"""`/healthz`: the process is alive. `/readyz`: it can serve. For load balancers and supervisors."""

from typing import Any

from relayd.errors import Unavailable
from relayd.web.answers import Answer, json_answer
from relayd.web.backend import Backend
from relayd.web.request import Request


class Health:
    """Both answers. A supervisor restarts relayd on `/healthz`, so it depends on nothing else."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def alive(self, request: Request) -> Answer:
        """200 while the reactor runs."""
        return json_answer({"status": "ok"})

    async def ready(self, request: Request) -> Answer:
        """200 if every part is ready, else 503; the body lists the parts."""
        draining: dict[str, Any] = {"ok": not self._backend.draining}
        if self._backend.draining:
            draining["message"] = "relayd takes no new clients now."
        database: dict[str, Any] = {"ok": True}
        try:
            await self._backend.check_database()
        except Unavailable as error:
            database = {"ok": False, "message": error.sentence}
        disk: dict[str, Any] = {"ok": True}
        try:
            self._backend.check_disk()
        except Unavailable as error:
            disk = {"ok": False, "message": error.sentence}
        redis: dict[str, Any] = {"ok": True}
        try:
            self._backend.check_redis()
        except Unavailable as error:
            redis = {"ok": False, "message": error.sentence}
        parts = {"database": database, "disk": disk, "redis": redis, "draining": draining}
        if all(part["ok"] for part in parts.values()):
            return json_answer({"ready": True, "parts": parts})
        return json_answer({"ready": False, "parts": parts}, 503, retry_after="5")

"""Who asks for what clients of a path may read: a token, a session, or the key of the API.

Beside `api`, on `connection.admission`; `texts` stands on it.
"""

from relayd.access.identity import Identity
from relayd.connection.admission import Admission
from relayd.errors import Refusal
from relayd.web.api import is_key
from relayd.web.backend import Backend
from relayd.web.request import Request


class Visitors:
    """Identifies those who ask.

    Args:
        backend: the rest of relayd.
        admission: knows tokens and sessions.
    """

    def __init__(self, backend: Backend, admission: Admission) -> None:
        self._backend = backend
        self._admission = admission

    async def identify(self, request: Request, kind: str) -> Identity | None:
        """Finds out whether somebody may connect to a kind of path, and as whom.

        Args:
            request: shows a token as a handshake does, a session by its cookie, or the key.
            kind: the name of the kind.

        Returns:
            The client; None for a program with the key, which may read everything.

        Raises:
            Refusal: 401, 403, 429 or 503, as for a handshake.
        """
        header = request.header("Authorization") or ""
        scheme, _, shown = header.partition(" ")
        bearer = shown.strip() if scheme.lower() == "bearer" else None
        token = request.argument("token") or bearer or None  # as of a handshake
        self._backend.check_attempt(request.client_host)
        key = self._backend.config.api.key
        if key and bearer is not None and is_key(bearer, key):
            return None
        try:
            return await self._admission.identify(
                kind, token=token, cookies=request.header("Cookie")
            )
        except Refusal as refusal:
            if refusal.is_failed_attempt:
                self._backend.attempt_failed(request.client_host)
            raise

"""The publishing API below `/api`: what the body of a POST says goes to WebSocket clients.

Every request shows the key of the configuration as a bearer token (RFC 6750 section 2.1); without a
configured key there is no API. No CORS headers: a page of another origin cannot use it.
"""

import hmac

from relayd import names, wire
from relayd.errors import ErrorCode, Refusal
from relayd.web.answers import Answer, error_answer, json_answer
from relayd.web.backend import Backend
from relayd.web.request import Request


class Api:
    """Publishes to push topics and chat rooms."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def refused(self, request: Request) -> Answer | None:
        """The answer to a request that may not use the API; None if it may.

        Asked before the path is looked at, so that a stranger does not learn which paths exist.
        """
        key = self._backend.config.api.key
        if not key:
            return error_answer(
                404,
                ErrorCode.API_OFF,
                "The publishing API is off: set key in the section [api] of the configuration "
                "(or RELAYD_API_KEY) to turn it on.",
            )
        scheme, _, shown = (request.header("Authorization") or "").partition(" ")
        right = hmac.compare_digest(shown.strip().encode("utf-8", "replace"), key.encode())
        if scheme.lower() != "bearer" or not right:
            return error_answer(
                401,
                ErrorCode.UNAUTHORIZED,
                "Send the header 'Authorization: Bearer KEY' with the key of the configuration.",
                {"WWW-Authenticate": 'Bearer realm="relayd"'},
            )
        return None

    def push(self, request: Request, topic: str) -> Answer:
        """`POST /api/push/{topic}`: the body, one JSON object, goes out byte for byte."""
        self._refuse_while_stopping()
        name = names.parse_group(topic)
        payload = wire.check_object(request.body())
        return json_answer({"clients": self._backend.push(name, payload)})

    async def say(self, request: Request, room: str) -> Answer:
        """`POST /api/chat/{room}`: `{"message": text}`; answered with what the clients see."""
        self._refuse_while_stopping()
        name = names.parse_room(room)
        message = wire.decode_chat(wire.check_object(request.body()))
        assert message is not None  # an object is not blank
        said = await self._backend.say(name, message)
        return Answer(body=said, headers={"Cache-Control": "no-store"})

    def _refuse_while_stopping(self) -> None:
        if self._backend.stopping:
            raise Refusal(503, ErrorCode.DRAINING, "relayd is going down; send it again soon.")

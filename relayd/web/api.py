"""The publishing API below `/api`: the body of a POST is published to WebSocket clients.

Every request carries the key of the configuration as a bearer token (RFC 6750 section 2.1); without
a configured key there is no API. `texts` has the paths below `/api` that clients read, too. `cors`
says which pages of other origins may use both.
"""

import hmac

from relayd import wire
from relayd.errors import ErrorCode, Refusal
from relayd.names import Kind
from relayd.web.answers import Answer, error_answer, json_answer
from relayd.web.backend import Backend
from relayd.web.request import Request


class Api:
    """Publishes to the groups of the kinds of path that the table marks as published."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def refused(self, request: Request, client: str) -> Answer | None:
        """The refusal for a request that may not use the API; None if it may.

        The check comes before the look-up of the path, so that a stranger cannot find out which
        paths exist.
        """
        key = self._backend.config.api.key
        if not key:
            return error_answer(ErrorCode.API_OFF)
        self._backend.check_attempt(client)
        scheme, _, token = (request.header("Authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or not is_key(token.strip(), key):
            self._backend.attempt_failed(client)
            return error_answer(
                ErrorCode.UNAUTHORIZED,
                "Send the header 'Authorization: Bearer KEY' with the key of the configuration.",
            )
        return None

    async def publish(self, kind: Kind, request: Request, name: str) -> Answer:
        """`POST /api/<kind>/{name}`: publishes the body, one JSON object, byte for byte.

        For a kind with a history, the body is `{"message": text}`, with a `tag` if it may be sent
        again, and the answer is the posted message as the clients get it.

        Args:
            kind: a published one.
            request: the request.
            name: of the group within the kind, still percent-encoded.

        Raises:
            Refusal: 400 `bad_name`, 503 `draining`.
            ClientError: `bad_json`, `bad_message`.
            StoreUnavailable: the message is not kept.
            OutcomeUnknown: it may be.
        """
        if self._backend.stopping:
            raise Refusal(ErrorCode.DRAINING, "relayd is going down; send it again soon.")
        name = kind.parse(name)
        payload = wire.check_object(request.body())
        if not kind.keeps_history:
            return json_answer({"clients": self._backend.publish(kind.group(name), payload)})
        said = wire.decode_chat(payload)
        assert said is not None  # an object is not blank
        posted = await self._backend.post(name, said.message, said.tag or "")
        return Answer(body=posted, headers={"Cache-Control": "no-store"})


def is_key(shown: str, key: str) -> bool:
    """Whether a client shows the key of the API; takes equally long for each wrong one."""
    return hmac.compare_digest(shown.encode("utf-8", "replace"), key.encode())

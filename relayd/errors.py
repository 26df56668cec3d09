"""Everything relayd can answer that is not a success: codes, refusals, close codes, exceptions.

Bottom of the dependency order: imports nothing of relayd. The exception tree:

    RelaydError
    ├── ConfigError             the configuration is wrong; the daemon does not start
    ├── ClientError             bad input: its sender alone gets the code and the sentence
    ├── Refusal                 a handshake is answered with an HTTP status instead of 101
    └── Unavailable             something relayd leans on did not do its part
        ├── DatabaseUnavailable
        ├── RedisUnavailable
        ├── StoreUnavailable
        └── NoUnity             no headset waits under this UUID (any more)
"""

from enum import IntEnum, StrEnum


class ErrorCode(StrEnum):
    """The stable `error` codes of frames, refusals and API answers; listed in docs/protocol.md."""

    # frames
    BAD_JSON = "bad_json"
    BAD_POSE = "bad_pose"
    BAD_DIFFICULTY = "bad_difficulty"
    BAD_MESSAGE = "bad_message"
    NO_CONTENT = "no_content"
    NO_UNITY = "no_unity"
    READ_ONLY = "read_only"
    GAP = "gap"
    DATABASE_UNAVAILABLE = "database_unavailable"
    STORE_UNAVAILABLE = "store_unavailable"
    INTERNAL = "internal_error"
    # refusals and HTTP answers
    BAD_REQUEST = "bad_request"
    BAD_UUID = "bad_uuid"
    BAD_NAME = "bad_name"
    BAD_SINCE = "bad_since"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    NOT_FOUND = "not_found"
    API_OFF = "api_off"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    TOO_LARGE = "too_large"
    UPGRADE_REQUIRED = "upgrade_required"
    TOO_MANY = "too_many_connections"
    HEAD_TOO_LARGE = "head_too_large"
    TIMEOUT = "timeout"
    DRAINING = "draining"


class CloseCode(IntEnum):
    """The close codes relayd sends (RFC 6455 section 7.4; 4000-4999 are private to relayd).

    docs/protocol.md says after which of them a client should reconnect. With `?refuse=close` a
    refused handshake ends in 4000 + the HTTP status.
    """

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    INVALID_PAYLOAD = 1007
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    RESTART = 1012
    REPLACED = 4001
    IDLE = 4002
    TOO_SLOW = 4003
    RATE_LIMIT = 4004
    TOKEN_EXPIRED = 4005


class RelaydError(Exception):
    """Root of everything relayd raises on purpose."""


class ConfigError(RelaydError):
    """A setting is wrong; the text names where it stands, its key, its value, what is allowed."""


class ClientError(RelaydError):
    """Bad input: the sender gets `{"error": code, "message": sentence}` and stays connected."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Refusal(RelaydError):
    """A refused handshake or HTTP request: an HTTP status with a flat JSON body.

    Args:
        status: the HTTP status, 400 to 599.
        code: the stable code of the body.
        message: one sentence a person can act on.
        retry_after: seconds for the `Retry-After` header (429 and 503 carry one).
    """

    def __init__(
        self, status: int, code: ErrorCode, message: str, *, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        if retry_after is None and status in (429, 503):
            retry_after = 5
        self.retry_after = retry_after


class Unavailable(RelaydError):
    """Something outside relayd did not do its part.

    The client gets `code` and `sentence` and may try again; the text of the exception is for the
    log, since it may name hosts and ports.
    """

    code = ErrorCode.INTERNAL
    sentence = "Something that is needed is away; try again in a moment."


class DatabaseUnavailable(Unavailable):
    """The database did not answer in time, or refused."""

    code = ErrorCode.DATABASE_UNAVAILABLE
    sentence = "The database does not answer; try again in a moment."


class RedisUnavailable(Unavailable):
    """Redis did not answer in time, or cannot do anything at the moment.

    What was asked for may have been done all the same.
    """

    code = ErrorCode.STORE_UNAVAILABLE
    sentence = "The relay's shared store does not answer; try again in a moment."


class StoreUnavailable(Unavailable):
    """A room's history cannot be read or written; what was not kept was shown to nobody."""

    code = ErrorCode.STORE_UNAVAILABLE
    sentence = "The room's history is away and nothing can be kept; try again in a moment."


class NoUnity(Unavailable):
    """No headset is connected under the UUID."""

    code = ErrorCode.NO_UNITY
    sentence = "No Unity app is connected under this UUID; start it first."

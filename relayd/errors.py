"""Error codes, refusals and exceptions: all answers but a success; `close_codes` has the closes.

Bottom of the dependency order: imports nothing of relayd. The exception tree:

    RelaydError
    ├── ConfigError             the configuration is wrong; the daemon does not start
    ├── ClientError             bad input: its sender alone gets the code and the sentence
    ├── Refusal                 a handshake is answered with an HTTP status instead of 101
    ├── WrongSecret             a pair is bound to another secret
    └── Unavailable             a service that relayd needs failed or did not answer
        ├── DatabaseUnavailable
        │   └── CommitUnanswered  COMMIT was sent, and no answer came
        ├── RedisUnavailable
        │   └── RedisUnanswered   a command was sent, and no answer came
        ├── StoreUnavailable      a message is not kept, or a history cannot be read
        │   └── DiskFull          the disk of the database is too full to keep messages
        ├── OutcomeUnknown        what was requested may have been carried out
        ├── Overloaded            the process has too much to do for more work of this kind
        ├── NotStorable         the encoding of the database lacks a character
        ├── QuotaExceeded         a quota of this server is used up
        └── NoUnity               no headset is connected under this UUID
"""

from enum import Flag, StrEnum, auto
from typing import Any


class Where(Flag):
    """Where clients meet an error code."""

    FRAME = auto()
    """In a frame: `{"error": code, "message": sentence}`; the connection stays open."""
    HANDSHAKE = auto()
    """In the body of a refused handshake; the metrics count these."""
    HTTP = auto()
    """In the body of an answer to any other request."""


FRAME, HANDSHAKE, HTTP = Where


class ErrorCode(StrEnum):
    """The stable `error` codes, one line each.

    The line of a code is the only place to change: refusals and answers take their status from it,
    and their sentence unless they have a more precise one; `tally` takes its label from it; a test
    compares the table in docs/protocol.md with it.

    Attributes:
        status: the HTTP status; None for a code that occurs in frames only.
        where: where clients meet it.
        sentence: tells a person what to do; the default where no more precise one is given.
    """

    _value_: str
    status: int | None
    where: Where
    sentence: str

    BAD_DIFFICULTY = "bad_difficulty", None, FRAME, 'Send {"difficulty": n} with n an integer.'
    BAD_POSE = (
        *("bad_pose", None, FRAME),
        "The members x, y and z must be numbers that fit a double, or null.",
    )
    GAP = (
        *("gap", None, FRAME),
        "The history does not hold all that was said after the id you gave; messages may be "
        "missing before or between those that follow.",
    )
    KICKED = "kicked", None, FRAME, "The operator of this server has closed your connection."
    NO_CONTENT = "no_content", None, FRAME, "There is no quiz or no action of this difficulty."
    NO_PONG = "no_pong", None, FRAME, "Nothing came from you for too long; connect again."
    RATE_LIMITED = (
        *("rate_limited", None, FRAME),
        "Too many messages or bytes came in a second: slow down, or the connection is closed.",
    )
    READ_ONLY = "read_only", None, FRAME, "This path only sends; publish through the HTTP API."
    REPLACED = (
        *("replaced", None, FRAME),
        "A newer connection under this UUID has taken your place; do not connect by yourself.",
    )
    TOKEN_EXPIRED = "token_expired", None, FRAME, "Your token has expired; get a new one."
    TOKEN_REVOKED = "token_revoked", None, FRAME, "Your token was revoked; get a new one."
    TOO_SLOW = (
        *("too_slow", None, FRAME),
        "You read too slowly, and messages for you were dropped; connect again.",
    )
    BAD_JSON = "bad_json", 400, FRAME | HTTP, "The frame must be one JSON object in UTF-8."
    BAD_MESSAGE = (
        *("bad_message", 400, FRAME | HTTP),
        'Send {"message": "text"} with a string; a "tag" is a string of up to 64 characters.',
    )
    BAD_NAME = (
        *("bad_name", 400, HANDSHAKE | HTTP),
        "The name must be 1 to 100 of letters, digits, '_', '-', '.'.",
    )
    BAD_REQUEST = (
        *("bad_request", 400, HANDSHAKE | HTTP),
        "The request is no WebSocket handshake, or a query parameter is wrong.",
    )
    BAD_SECRET = "bad_secret", 400, HANDSHAKE, "?secret= must have 16 to 256 characters."
    BAD_SINCE = "bad_since", 400, HANDSHAKE, "?since= must be a whole number, 0 or more."
    BAD_UUID = (
        *("bad_uuid", 400, HANDSHAKE | HTTP),
        "The last part of the path must be a UUID, such as 123e4567-e89b-42d3-a456-426614174000.",
    )
    NO_UNITY = (
        *("no_unity", 400, FRAME | HANDSHAKE),
        "No Unity app is connected under this UUID; start it first.",
    )
    UNAUTHORIZED = (
        *("unauthorized", 401, HANDSHAKE | HTTP),
        "A token or key is needed here, and none was shown or it is not valid.",
    )
    FORBIDDEN = (
        *("forbidden", 403, FRAME | HANDSHAKE | HTTP),
        "The token, or the address, is not good for this path.",
    )
    BANNED = (
        *("banned", 403, HANDSHAKE | HTTP),
        "The operator of this server has banned your address.",
    )
    ORIGIN_NOT_ALLOWED = (
        *("origin_not_allowed", 403, HANDSHAKE | HTTP),
        "Pages of this origin may not connect.",
    )
    WRONG_SECRET = (
        *("wrong_secret", 403, HANDSHAKE),
        "This pair is bound to another secret: connect with the ?secret= of the other side.",
    )
    API_OFF = (
        *("api_off", 404, HTTP),
        "The publishing API is off: set key in the section [api] of the configuration (or "
        "RELAYD_API_KEY) to turn it on.",
    )
    NOT_FOUND = "not_found", 404, HANDSHAKE | HTTP, "There is no such path."
    METHOD_NOT_ALLOWED = (
        *("method_not_allowed", 405, HANDSHAKE | HTTP),
        "This path does not answer this method.",
    )
    TIMEOUT = (
        *("timeout", 408, HANDSHAKE | HTTP),
        "The request head did not come within [keepalive] handshake_timeout, 10 s by default.",
    )
    CONFLICT = (
        *("conflict", 409, HTTP),
        "What the request wants to change was changed meanwhile: read it again.",
    )
    TOO_LARGE = (
        *("too_large", 413, HTTP),
        "The body is larger than [limits] max_message_size, 64 KiB by default.",
    )
    HOST_NOT_ALLOWED = (
        *("host_not_allowed", 421, HANDSHAKE | HTTP),
        "This server does not answer for the host of the request.",
    )
    UPGRADE_REQUIRED = (
        *("upgrade_required", 426, HANDSHAKE | HTTP),
        "This path speaks WebSocket: connect with a WebSocket client.",
    )
    TOO_MANY = (
        *("too_many_connections", 429, HANDSHAKE),
        "The server is full: [limits] max_connections are open.",
    )
    QUOTA_EXCEEDED = (
        *("quota_exceeded", 429, FRAME | HANDSHAKE | HTTP),
        "A quota of this server is used up; use what is there already, or try again later.",
    )
    TOO_MANY_FROM_ADDRESS = (
        *("too_many_from_address", 429, HANDSHAKE),
        "Your address has [limits] connections_per_address connections; close some first.",
    )
    TOO_MANY_REQUESTS = (
        *("too_many_requests", 429, HANDSHAKE | HTTP),
        "Too many requests, or failed attempts, came from your address; wait for Retry-After.",
    )
    HEAD_TOO_LARGE = (
        *("head_too_large", 431, HANDSHAKE | HTTP),
        "The request head is larger than [limits] max_head_size, 16 KiB by default.",
    )
    INTERNAL = (
        *("internal_error", 500, FRAME | HANDSHAKE | HTTP),
        "Something went wrong in the server; its log says what.",
    )
    DATABASE_UNAVAILABLE = (
        *("database_unavailable", 503, FRAME | HANDSHAKE | HTTP),
        "The database does not answer; try again in a moment.",
    )
    MISCONFIGURED = (
        *("misconfigured", 503, HANDSHAKE | HTTP),
        "The configuration of this server is wrong, which its operator has to mend; try again "
        "later.",
    )
    OVERLOADED = (
        *("overloaded", 503, HANDSHAKE),
        "This server has too much to do; try again in a moment.",
    )
    DRAINING = (
        *("draining", 503, HANDSHAKE | HTTP),
        "This server takes no new connections now; try again in a moment.",
    )
    KEYS_UNAVAILABLE = (
        *("keys_unavailable", 503, HANDSHAKE | HTTP),
        "The keys that tokens are checked with cannot be fetched now; try again in a moment.",
    )
    OUTCOME_UNKNOWN = (
        *("outcome_unknown", 503, FRAME | HTTP),
        "The store's answer is lost: this may have been carried out; with a tag, send it again.",
    )
    STORE_UNAVAILABLE = (
        *("store_unavailable", 503, FRAME | HANDSHAKE | HTTP),
        "The relay's shared store does not answer; try again in a moment.",
    )

    def __new__(cls, value: str, *line: Any) -> "ErrorCode":
        """One code, with the attributes in their order."""
        code = str.__new__(cls, value)
        code._value_ = value
        code.status, code.where, code.sentence = line
        return code


class RelaydError(Exception):
    """The base class of all exceptions of relayd."""


class ConfigError(RelaydError):
    """A setting is wrong; the text names its place, its key, its value and the allowed ones."""


class ClientError(RelaydError):
    """Bad input: the sender gets `{"error": code, "message": sentence}` and stays connected."""

    def __init__(self, code: ErrorCode, message: str | None = None) -> None:
        self.code = code
        self.message = code.sentence if message is None else message
        super().__init__(self.message)


class Refusal(RelaydError):
    """A refused handshake or HTTP request: an HTTP status with a flat JSON body.

    Args:
        code: the stable code of the body.
        message: one sentence that tells a person what to do; by default the code's.
        status: the HTTP status, 400 to 599; by default the code's.
        retry_after: seconds for the `Retry-After` header (429 and 503 carry one).
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str | None = None,
        *,
        status: int | None = None,
        retry_after: int | None = None,
    ) -> None:
        self.code = code
        self.message = code.sentence if message is None else message
        super().__init__(self.message)
        self.status = status or code.status or 400
        if retry_after is None and self.status in (429, 503):
            retry_after = 5
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer beside those of every one: what a client may do next."""
        found = {}
        if self.retry_after is not None:
            found["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            found["WWW-Authenticate"] = 'Bearer realm="relayd"'  # RFC 9110 section 15.5.2
        return found

    @property
    def is_failed_attempt(self) -> bool:
        """Whether the client may have guessed: a token, a key, or the UUID of a headset."""
        guessed = self.status in (401, 403) and self.code is not ErrorCode.BANNED
        return guessed or self.code is ErrorCode.NO_UNITY


class WrongSecret(RelaydError):
    """A pair is bound to another secret than the one that a connection has."""


class Unavailable(RelaydError):
    """A service outside relayd failed or did not answer.

    The client gets `code` and `sentence`, outside of a WebSocket with `status`, and may try again;
    the text of the exception is for the log only, since it may name hosts and ports.
    """

    code = ErrorCode.INTERNAL
    sentence = "Something that is needed is away; try again in a moment."
    status = 503


class DatabaseUnavailable(Unavailable):
    """The database did not answer in time, or refused the request.

    Nothing was written, unless this is a CommitUnanswered.

    Args:
        text: the reason.
        state: the state of the database that its error shows (`stores.states.State`).
    """

    code = ErrorCode.DATABASE_UNAVAILABLE
    sentence = code.sentence

    def __init__(self, text: str = "", state: str = "away") -> None:
        super().__init__(text)
        self.state = state


class CommitUnanswered(DatabaseUnavailable):
    """COMMIT was sent to the database, which may have executed it, but no answer came.

    Attributes:
        result: what the interaction had returned before its COMMIT.
    """

    def __init__(self, reason: str, result: Any) -> None:
        super().__init__(reason)
        self.result = result


class RedisUnavailable(Unavailable):
    """Redis did not answer in time, or cannot be used now.

    Redis has not executed the command, unless this is a RedisUnanswered.
    """

    code = ErrorCode.STORE_UNAVAILABLE
    sentence = code.sentence


class RedisUnanswered(RedisUnavailable):
    """A command was sent to Redis, which may have executed it, but no answer came.

    Attributes:
        end: of the window of a timely script (`redis.store_clock`), in ms; else 0.
    """

    end = 0


class StoreUnavailable(Unavailable):
    """A room's history cannot be read, or a message is not kept, and never will be."""

    code = ErrorCode.STORE_UNAVAILABLE
    sentence = "The room's history is away and nothing can be kept; try again in a moment."


class DiskFull(StoreUnavailable):
    """The file system of the database has less free space than `[database] min_free`."""

    sentence = "The server's disk is nearly full, so no message can be kept; try again later."


class NotStorable(Unavailable):
    """The encoding of the database has no such character; only UTF-8 has all."""

    code = ErrorCode.BAD_MESSAGE
    status = 400
    sentence = "This server's database cannot keep a character of it: leave emoji and the like out."


class OutcomeUnknown(Unavailable):
    """The answer of a store is lost: what was requested may have been carried out, or not."""

    code = ErrorCode.OUTCOME_UNKNOWN
    sentence = code.sentence


class Overloaded(Unavailable):
    """The loop is late, so the history of a client that joins is not read."""

    code = ErrorCode.OVERLOADED
    sentence = code.sentence


class QuotaExceeded(Unavailable):
    """A message would create a room, and its address, or all together, may create no more."""

    code = ErrorCode.QUOTA_EXCEEDED
    status = 429
    sentence = "No further room may be created now; use one that is there, or try again later."


class NoUnity(Unavailable):
    """No headset is connected under the UUID."""

    code = ErrorCode.NO_UNITY
    sentence = code.sentence

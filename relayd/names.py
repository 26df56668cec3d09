"""The names that stand in paths: which ones are good, and their one canonical form. Pure.

Used by the relays (handshakes), the HTTP API and the pages. Each function takes the still
percent-encoded path segment and raises a `Refusal` with status 400.
"""

import re
from urllib.parse import unquote_to_bytes

from relayd.errors import ErrorCode, Refusal

KINDS = ("camera", "chat", "difficulty", "echo", "push")
"""What stands behind `/ws/`: one relay each."""

_GROUP = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_ROOM = re.compile(r"[\w-]{1,100}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def parse_group(segment: str) -> str:
    """A camera group or push topic: 1 to 100 ASCII letters, digits, `_`, `-`, `.`."""
    name = _decoded(segment)
    if not _GROUP.fullmatch(name):
        raise Refusal(
            400, ErrorCode.BAD_NAME, "The name must be 1 to 100 of letters, digits, '_', '-', '.'."
        )
    return name


def parse_room(segment: str) -> str:
    """A chat room: 1 to 100 Unicode letters, digits, `_`, `-`; taken as it is, not normalized."""
    name = _decoded(segment)
    if not _ROOM.fullmatch(name):
        raise Refusal(
            400,
            ErrorCode.BAD_NAME,
            "The room name must be 1 to 100 of letters, digits, '_' and '-'.",
        )
    return name


def parse_uuid(segment: str) -> str:
    """A UUID in the hyphenated form of RFC 9562 section 4, in lower case."""
    uuid = _decoded(segment).lower()
    if not _UUID.fullmatch(uuid):
        raise Refusal(
            400,
            ErrorCode.BAD_UUID,
            "The last part of the path must be a UUID, such as "
            "123e4567-e89b-42d3-a456-426614174000.",
        )
    return uuid


def _decoded(segment: str) -> str:
    """The segment with percent-encoding (RFC 3986 section 2.1) undone."""
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        return ""

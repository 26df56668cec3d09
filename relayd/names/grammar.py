"""The names in paths: what groups, rooms and UUIDs may be called, and their canonical form. Pure.

Under `kinds`, whose entries say which of these a path has. The canonical form is the key of a name
everywhere: in brokers and stores, in tokens' rights, between workers.
"""

import re
import unicodedata
from urllib.parse import unquote_to_bytes

from idna.core import valid_contextj

from relayd.errors import ErrorCode, Refusal

_GROUP = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_LONGEST = 100
_PLAIN_ROOM = re.compile(r"[A-Za-z0-9_-]{1,100}")
_JOINERS = "\u200c\u200d"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def parse_group(segment: str) -> str:
    """A camera group or push topic: 1 to 100 ASCII letters, digits, `_`, `-`, `.`.

    Args:
        segment: of a path, still percent-encoded.

    Raises:
        Refusal: 400 `bad_name`.
    """
    name = _decoded(segment)
    if not _GROUP.fullmatch(name):
        raise Refusal(ErrorCode.BAD_NAME)
    return name


def parse_room(segment: str) -> str:
    """A chat room, in its canonical form (`normalize_room`).

    Args:
        segment: of a path, still percent-encoded.

    Raises:
        Refusal: 400 `bad_name`.
    """
    room = normalize_room(_decoded(segment))
    if room is None:
        raise Refusal(
            ErrorCode.BAD_NAME,
            "The room name must be 1 to 100 of the letters, marks and digits of any script, '_' "
            "and '-'.",
        )
    return room


def normalize_room(name: str) -> str | None:
    """The canonical form of a room's name; None if no room has this name.

    A room has 1 to 100 letters, marks and digits of any script (the general categories L, M and N
    of Unicode), `_` and `-`, in the normalization form NFC (UAX 15), so that a word that macOS
    types in another form is the same room. Following UAX 31 section 2.3, the joiners U+200C and
    U+200D are letters where they change how a word is written, as in Persian and in Indic scripts
    (RFC 5892 appendix A.1 and A.2), and nowhere else, where nobody could see them.

    Args:
        name: decoded.
    """
    if _PLAIN_ROOM.fullmatch(name):
        return name
    if len(name) > 4 * _LONGEST:  # no character is decomposed into more than four
        return None
    name = unicodedata.normalize("NFC", name)
    named = 0 < len(name) <= _LONGEST and all(_is_of_word(name, at) for at in range(len(name)))
    return name if named else None


def _is_of_word(name: str, at: int) -> bool:
    """Whether a character of a name is of a word, or `_` or `-`."""
    character = name[at]
    if character in _JOINERS:
        try:
            return valid_contextj(name, at)
        except ValueError:  # Python knows no such character
            return False
    return character in "_-" or unicodedata.category(character)[0] in "LMN"


def parse_uuid(segment: str) -> str:
    """A UUID in the hyphenated form of RFC 9562 section 4, in lower case.

    Args:
        segment: of a path, still percent-encoded.

    Raises:
        Refusal: 400 `bad_uuid`.
    """
    uuid = _decoded(segment).lower()
    if not _UUID.fullmatch(uuid):
        raise Refusal(ErrorCode.BAD_UUID)
    return uuid


def _decoded(segment: str) -> str:
    """The segment with percent-encoding (RFC 3986 section 2.1) undone."""
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        return ""

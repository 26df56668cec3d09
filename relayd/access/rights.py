"""Rights by path and direction, as the claims of a token list them. Pure.

The ground of `relayd.access`; `names` has the kinds of path. The grammar of a right:

    right     = kind [ "/" name ] [ ":" direction ]
    kind      = "camera" / "chat" / ...              an entry of the table of paths
    name      = "*" / NAME / side "/" ( "*" / NAME )  as in the path; without one: "*"
    side      = "*" / "unity" / "android"             where the kind has such words in its paths
    direction = "send" / "view"                       where the kind has them; without one: both

Names are normalized as in paths: percent-encoding is undone, UUIDs are in lower case.
"""

from collections.abc import Iterable

import msgspec

from relayd.errors import Refusal
from relayd.names import DIRECTIONS, Kind, Kinds, Place, listed

ANY = "*"


class Right(msgspec.Struct, frozen=True):
    """One right.

    Attributes:
        kind: the name of the kind of path.
        side: the fixed word in the path; `ANY` for each.
        name: the name in the path, normalized; `ANY` for each.
        directions: what it allows, of `names.DIRECTIONS`.
    """

    kind: str
    side: str = ANY
    name: str = ANY
    directions: frozenset[str] = frozenset(DIRECTIONS)

    def covers(self, kind: str, place: Place) -> bool:
        """Whether it is about a path."""
        return (
            self.kind == kind and self.side in (ANY, place.side) and self.name in (ANY, place.name)
        )


Rights = tuple[Right, ...]


def parse_right(text: str, kinds: Kinds) -> Right:
    """Parses one right.

    Args:
        text: such as `camera/stage1:send`.
        kinds: the table of paths.

    Raises:
        ValueError: it follows no rule of the grammar; the text says which.
    """
    path, colon, direction = text.partition(":")
    name, *segments = path.split("/")
    if name not in kinds.names:
        raise ValueError(f"{text!r}: there is no kind {name!r}; there are {', '.join(kinds.names)}")
    kind = kinds[name]
    directions = frozenset(kind.directions or DIRECTIONS)
    if colon:
        if direction not in kind.directions:
            allowed = listed(kind.directions, "or") if kind.directions else "none"
            raise ValueError(f"{text!r}: the direction of {name} may be {allowed}")
        directions = frozenset((direction,))
    side, last = _split(text, kind, segments)
    try:
        parsed = ANY if last == ANY else kind.parse(last)
    except Refusal as refusal:
        raise ValueError(f"{text!r}: {refusal.message}") from refusal
    return Right(name, side, parsed, directions)


def _split(text: str, kind: Kind, segments: list[str]) -> tuple[str, str]:
    """Side and name behind the kind, `ANY` where the right has none."""
    depth = bool(kind.sides) + bool(kind.variable)
    if not depth and segments == [ANY]:
        segments = []
    side, name = [*segments, ANY, ANY][:2] if kind.sides else (ANY, [*segments, ANY][0])
    if len(segments) > depth or side not in (ANY, *kind.sides):
        raise ValueError(f"{text!r} is no right; allowed are such as {example(kind)}")
    return side, name


def example(kind: Kind) -> str:
    """The forms of the rights of a kind, for a sentence."""
    found = [kind.name]
    if kind.variable:
        middle = f"{kind.sides[0]}/" if kind.sides else ""
        found.append(f"{kind.name}/{middle}{kind.variable.upper()}")
        if kind.directions:
            found.append(f"{found[-1]}:{kind.directions[0]}")
    return listed(found, "and") if len(found) > 1 else found[0]


def read_rights(words: Iterable[str], kinds: Kinds) -> Rights:
    """The rights among words; a word that is none gives none, as a scope of another program."""
    found = []
    for word in words:
        try:
            found.append(parse_right(word, kinds))
        except ValueError:
            continue
    return tuple(found)


def directions(rights: Rights | None, kind: str, place: Place) -> frozenset[str]:
    """What rights allow on a path; empty if they are not good for it.

    Args:
        rights: of a client; None for all.
        kind: the name of the kind of path.
        place: the parts of the path, normalized.
    """
    if rights is None:
        return frozenset(DIRECTIONS)
    allowed: frozenset[str] = frozenset()
    for right in rights:
        if right.covers(kind, place):
            allowed |= right.directions
    return allowed


def allowed_names(rights: Rights | None, kind: str) -> frozenset[str] | None:
    """The names in the paths of a kind for which rights are good in any direction.

    Args:
        rights: of a client; None for all.
        kind: the name of a kind without fixed words in its paths.

    Returns:
        The names; None for all.
    """
    if rights is None:
        return None
    names = frozenset(right.name for right in rights if right.kind == kind)
    return None if ANY in names else names

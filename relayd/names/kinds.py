"""Kinds of paths: their paths, the groups in them, and what else depends on the kind. Pure.

At the ground, under every part that reads paths; `relays.paths` is the table. Rooms below `relays`
get the table, or one of its entries, as an argument. A path is

    /ws/<kind>[/<side>][/{name}]        with and without a slash at its end

and `<kind>/<name>` is the group of its connections, if it has one. A kind that is fanned out has
the same paths below `/sse/`, for clients that get events and send nothing.
"""

import enum
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from relayd.errors import ErrorCode, Refusal
from relayd.names.grammar import parse_group

_ANY_UUID = re.compile(r"[0-9a-f]{8}((?:-|%2d)[0-9a-f]{4}){3}(?:-|%2d)[0-9a-f]{12}", re.IGNORECASE)
# the request line of a WebSocket handshake (RFC 9112 section 3.2): origin or absolute form
_TARGET = re.compile(rb"[A-Z]+ (?:(?i:https?|wss?)://[^/? ]*)?(/ws/[^?\s]*)[? ]")
_EVENTS_TARGET = re.compile(rb"GET (?:(?i:https?)://[^/? ]*)?(/sse/[^?\s]*)[? ]")


def split_path(path: str) -> tuple[str, list[str]]:
    """The kind that a path `/ws/<kind>/...` names, and its further segments.

    Args:
        path: without the query, still percent-encoded.

    Returns:
        The kind, empty for any other path, and the segments without an empty last one.
    """
    if not path.startswith("/ws/"):
        return "", []
    _, _, kind, *segments = path.split("/")
    if segments and not segments[-1]:
        segments.pop()
    return kind, segments


def split_target(head: bytes) -> tuple[str, list[str]]:
    """`split_path` of the target of a request head; no kind if the head is invalid."""
    found = _TARGET.match(head)
    return ("", []) if found is None else split_path(found[1].decode(errors="replace"))


def websocket_path(path: str) -> str:
    """The path of the WebSockets whose frames are the events of `/sse/<kind>...`; any other as is.

    Args:
        path: without the query, still percent-encoded.
    """
    return f"/ws/{path.removeprefix('/sse/')}" if path.startswith("/sse/") else path


def split_events_target(head: bytes) -> tuple[str, list[str]]:
    """`split_path` of the target of a request for events; no kind if it is none."""
    found = _EVENTS_TARGET.match(head)
    if found is None:
        return "", []
    return split_path(websocket_path(found[1].decode(errors="replace")))


def split_group(group: str) -> tuple[str, str]:
    """The name of the kind and the name in it: `chat` and `lobby` of `chat/lobby`."""
    kind, _, name = group.partition("/")
    return kind, name


DIRECTIONS = ("send", "view")
"""What a client may do on a path: send frames to others, and get those of others."""


class Content(enum.Enum):
    """The content that the publishing API sends to the groups of a kind."""

    OBJECT = "one JSON object, passed on as it is"
    POSE = "a pose"
    TEXT = "a text, in a message of its own"


@dataclass(frozen=True)
class Django:
    """The names in Django Channels of the groups of a kind, and of the type of their messages.

    Attributes:
        group: the group's name, with `{}` for the name in it.
        type: of the messages.
    """

    group: str
    type: str

    @property
    def prefix(self) -> str:
        """The prefix of the names of all groups."""
        return self.group.partition("{}")[0]


class Place(NamedTuple):
    """The parts of a path: the fixed word before the name, and the name; empty without one."""

    side: str = ""
    name: str = ""


class _Template(NamedTuple):
    """A path of a kind: the fixed word, and the variable for the name; empty if there is none."""

    side: str
    variable: str

    @classmethod
    def parse(cls, path: str) -> "_Template":
        *fixed, last = ["", *split_path(path)[1]]
        if last.startswith("{"):
            return cls("".join(fixed), last[1:-1])
        return cls(last, "")

    def match(self, segments: Sequence[str]) -> bool:
        """Whether segments are of this form, with any name."""
        length = bool(self.side) + bool(self.variable)
        return len(segments) == length and (not self.side or segments[0] == self.side)


@dataclass(frozen=True)
class Kind:
    """One kind of path: a line of the table in `relays.paths`.

    Attributes:
        name: the word behind `/ws/`, in the log and in the metrics; also the groups' prefix.
        paths: its templates, such as `/ws/chat/{room}`.
        purpose: its description on the page `/`; `$default` is replaced by the default name.
        example: a frame that a client may send to try it, or a description of one.
        hint: the paths that the 404 sentence names; by default those with a name in them.
        parse: reads the name in a path, still percent-encoded. Raises Refusal: 400.
        default: returns the name for a path without one, given a configuration.
        optional: whether it is served only if `[<name>] enabled` is true.
        factory: the class in `relays/<name>.py` that builds its connections.
        directions: those of `DIRECTIONS` that rights may tell apart on its paths; none if its
            paths need both.
        needs: the factory's arguments beside the context: `groups`, `rooms`, `presence`, `pairs`,
            `draws`.
        fanned_out: whether its names are groups of the brokers, and it has paths below `/sse/`.
        keeps_history: whether its groups are the brokers' rooms; true for one kind.
        content: the content that is published to its groups.
        published: the description of its publishing API on the page `/`; empty if it has none.
        django: its groups' names in Django Channels, if they have one.
        private: whether its names are no more than its clients' business, and in no log: somebody
            who knows one may connect under it.
    """

    name: str
    paths: tuple[str, ...]
    purpose: str = ""
    example: str = "nothing"
    hint: tuple[str, ...] = ()
    parse: Callable[[str], str] = parse_group
    default: Callable[[Any], str] | None = None
    optional: bool = False
    factory: str = ""
    directions: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    fanned_out: bool = False
    keeps_history: bool = False
    content: Content = Content.OBJECT
    published: str = ""
    django: Django | None = None
    private: bool = False

    @cached_property
    def _templates(self) -> tuple[_Template, ...]:
        return tuple(map(_Template.parse, self.paths))

    @property
    def full_paths(self) -> tuple[str, ...]:
        """The paths with a name in them; all paths if none has a name."""
        return tuple(path for path in self.paths if "{" in path) or self.paths

    @property
    def sides(self) -> tuple[str, ...]:
        """The fixed words in its paths, in their order."""
        return tuple(template.side for template in self._templates if template.side)

    @property
    def variable(self) -> str:
        """The variable in its paths, such as `room`; empty without one."""
        return max(template.variable for template in self._templates)

    @property
    def any_group(self) -> str:
        """A placeholder for its groups in sentences: `chat/ROOM`."""
        return self.group(self.variable.upper())

    @property
    def not_found(self) -> str:
        """The sentence for an unknown path behind `/ws/<name>`."""
        if self.optional:
            return f"There is no such path, or [{self.name}] enabled is false."
        return f"The path is {listed(self.paths, 'or')}."

    def group(self, name: str) -> str:
        """The group of the connections with a name, as brokers, hub and tail call it."""
        return f"{self.name}/{name}"

    def is_on(self, config: Any) -> bool:
        """Whether it is served under a configuration."""
        return not self.optional or bool(getattr(config, self.name).enabled)

    def locate(self, segments: Sequence[str], config: Any) -> Place:
        """Parses the segments behind `/ws/<name>`; returns the name in its canonical form.

        Args:
            segments: still percent-encoded, without an empty last one.
            config: says whether an optional kind is on, and the default name.

        Raises:
            Refusal: 404; 400 for an invalid name.
        """
        template = self._find(segments)
        if template is None or not self.is_on(config):
            raise Refusal(ErrorCode.NOT_FOUND, self.not_found)
        if template.variable:
            return Place(template.side, self.parse(segments[-1]))
        return Place(template.side, "" if self.default is None else self.default(config))

    def answers(self, path: str, config: Any) -> bool:
        """Whether a path of this kind accepts WebSockets; the name in it is not checked."""
        kind, segments = split_path(path)
        if kind != self.name or not all(segments):
            return False
        return self._find(segments) is not None and self.is_on(config)

    def loggable(self, path: str) -> str:
        """A path of this kind for the log: without its name, if that is private.

        Args:
            path: without the query, still percent-encoded; may be invalid.
        """
        if not self.paths:
            return hide_uuids(path)
        if not self.private:
            return path
        _, segments = split_path(path)
        side = segments[0] if segments and segments[0] in self.sides else ""
        words = [side, f"{{{self.variable}}}" if len(segments) > bool(side) else ""]
        return "/".join(["/ws", self.name, *filter(None, words)])

    def _find(self, segments: Sequence[str]) -> _Template | None:
        return next((found for found in self._templates if found.match(segments)), None)


def hide_uuids(path: str) -> str:
    """A path for the log, with `{uuid}` in place of what looks like the UUID of a pair."""
    return _ANY_UUID.sub("{uuid}", path)


def listed(words: Sequence[str], last: str) -> str:
    """Joins words for a sentence: `a, b and c`."""
    *others, end = words
    return f"{', '.join(others)} {last} {end}" if others else end


class Kinds:
    """The table of all kinds, in the order in which pages and sentences name them."""

    def __init__(self, *kinds: Kind) -> None:
        self._kinds = {kind.name: kind for kind in kinds}

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._kinds.values())

    def __getitem__(self, name: str) -> Kind:
        return self._kinds[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, in alphabetical order."""
        return tuple(sorted(self._kinds))

    @property
    def fanned_out(self) -> tuple[Kind, ...]:
        """The kinds whose names are groups of the brokers."""
        return tuple(kind for kind in self if kind.fanned_out)

    @property
    def published(self) -> tuple[Kind, ...]:
        """The kinds with a publishing API; the one that keeps a history is last."""
        found = [kind for kind in self if kind.published]
        return tuple(sorted(found, key=lambda kind: kind.keeps_history))

    @property
    def history(self) -> Kind:
        """The kind whose groups are rooms with a history."""
        return next(kind for kind in self if kind.keeps_history)

    @property
    def not_found(self) -> str:
        """The sentence for an unknown WebSocket path. Leaves out optional kinds."""
        always = [kind for kind in self if not kind.optional]
        paths = [path for kind in always for path in kind.hint or kind.full_paths]
        return f"There is no such path; WebSocket paths are {listed(paths, 'and')}."

    @property
    def publishing(self) -> str:
        """The targets of the publishing API, for a sentence: `push/TOPIC or chat/ROOM`."""
        return listed([kind.any_group for kind in self.published], "or")

    def of_group(self, group: str) -> Kind | None:
        """The kind of a group such as `chat/lobby`; None if the brokers have no such groups."""
        kind = self._kinds.get(split_group(group)[0])
        return kind if kind is not None and kind.fanned_out else None

    def parse_group(self, group: str) -> str:
        """The canonical form of a group such as `chat/lobby`.

        Raises:
            Refusal: 400; the name is invalid.
        """
        kind = self.of_group(group)
        if kind is None:
            # the kind with a history first: a bare name was probably meant as a room
            found = sorted(self.fanned_out, key=lambda kind: not kind.keeps_history)
            places = listed([kind.any_group for kind in found], "or")
            raise Refusal(ErrorCode.BAD_NAME, f"{group!r} is no group: say {places}.")
        return kind.group(kind.parse(split_group(group)[1]))

    def group_of_handshake(self, head: bytes, config: Any) -> str | None:
        """The group or pair of a handshake or a request for events; None if it has none.

        Args:
            head: the request head.
            config: for default names.
        """
        name, segments = split_target(head)
        if not name:
            name, segments = split_events_target(head)
        kind = self._kinds.get(name)
        try:
            place = None if kind is None else kind.locate(segments, config)
        except Refusal:
            return None
        return kind.group(place.name) if kind and place and place.name else None

    def loggable(self, path: str) -> str:
        """Any path for the log, without names that are private (`Kind.loggable`)."""
        kind = self._kinds.get(split_path(path)[0])
        return hide_uuids(path) if kind is None else kind.loggable(path)

    def speaks(self, path: str, config: Any) -> bool:
        """Whether a path accepts WebSockets."""
        return any(kind.answers(path, config) for kind in self)

    def sends_events(self, path: str, config: Any) -> bool:
        """Whether a path is one for clients of events."""
        same = websocket_path(path)
        return same != path and any(kind.answers(same, config) for kind in self.fanned_out)

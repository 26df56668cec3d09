"""Bytes to message types and back: decode, check and encode every frame. Pure; no I/O.

Sits between `errors` (below) and `hub`/`relays` (above). The protocol in one grammar, payloads
being UTF-8 JSON in text frames (RFC 6455); full text in docs/protocol.md:

    camera      in   {"x": number|null, "y": number|null, "z": number|null}   missing = null
                out  the same three, to every member, the sender once; behind them, if the member
                     asked: "sender": string|null
    android     in   {"difficulty": integer, "tag"?: string}
         answers     {"status": "received", "tag"?: string}
                     {"status": "error", "error": code, "message": sentence, "tag"?: string}
         others      {"status": "notice", "error": code, "message": sentence}
                     {"status": "unity_disconnected"}  {"status": "unity_connected"}
    unity       in   anything, ignored
                out  {"quiz_id": [integer, ...], "action_id": integer}
    chat        in   {"message": string, "tag"?: string}
                out  {"message": string, "id": integer, "time": RFC 3339, "user"?: string, "tag"?:
                      string}
                     {"gap": true, "error": "gap", "message": sentence}
                     {"status": "restored", "message": sentence}
     if it asked     {"presence": "here", "count": integer, "anonymous": integer,
                      "users"?: [string]}
                     {"presence": "changed", "count": integer, "anonymous": integer,
                      "joined"?: [string], "left"?: [string]}
    push        in   anything, answered with read_only
                out  what was published, as it is
    any path    out  {"error": code, "message": sentence, "tag"?: string}
                     {"status": "heartbeat", "seconds": number}   if the client asked
"""

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, NamedTuple, TypeVar

import msgspec

from relayd.errors import ClientError, ErrorCode
from relayd.native.framing import payload_of

T = TypeVar("T")

UNDECODABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
"""Raised by a decoder of msgspec for bytes other than what it decodes; no other one is."""


class Pose(msgspec.Struct):
    """A camera position, in whatever unit the Unity scene uses; relayd does not convert it."""

    x: int | float | None = None
    y: int | float | None = None
    z: int | float | None = None


Tag = Annotated[str, msgspec.Meta(max_length=64)]
"""What a client calls its request, so that it may send it again; empty for none."""


class DifficultyRequest(msgspec.Struct):
    """The request of a phone."""

    difficulty: int
    tag: Tag | None = None


class ChatInput(msgspec.Struct):
    """The message of a chat client."""

    message: str
    tag: Tag | None = None


class Assignment(msgspec.Struct):
    """The frame for a headset: the ids of up to three quizzes and of one action."""

    quiz_id: list[int]
    action_id: int


class ChatEntry(msgspec.Struct, frozen=True):
    """One message of a room, as its members receive it and as its history stores it.

    Attributes:
        id: its position in the room's history; grows by one from message to message.
        body: the JSON.
        repeated: whether it was sent again with its tag, and is stored already: nobody but its
            sender gets it again.
    """

    id: int
    body: bytes
    repeated: bool = False


class ChatPage(NamedTuple):
    """A part of a room's history. Readers of the same part share it, so nobody changes it.

    Attributes:
        entries: the messages, oldest first.
        gap: whether messages before these are missing.
        more: whether the room had later messages when this was read.
        from_start: the room has not reached the id that was asked for, so these begin with the
            oldest one.
        lost: there is a gap only because a part was lost after the id that was asked for. Every
            page up to that part says so.
    """

    entries: Sequence[ChatEntry]
    gap: bool = False
    more: bool = False
    from_start: bool = False
    lost: bool = False


class ChatDraft(msgspec.Struct, frozen=True):
    """A message of a room before the history has given it an id.

    Attributes:
        head: the JSON before the digits of the id.
        tail: the JSON behind them.
        mark: identifies the tag of its sender; empty without a tag.
    """

    head: bytes
    tail: bytes
    mark: str = ""

    @classmethod
    def of(
        cls, message: str, time: int, user: str | None = None, tag: str | None = None
    ) -> "ChatDraft":
        """The draft of a message.

        Args:
            message: the text, with the configured prefix before it.
            time: when relayd received it, Unix time in ms; clients see RFC 3339, UTC.
            user: the name that a token gave the sender, if one did.
            tag: what the sender calls it. People whom tokens name do not share tags with others.
        """
        moment = datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds")
        tail = b',"time":"%bZ"' % moment.removesuffix("+00:00").encode()
        if user is not None:
            tail += b',"user":%b' % encode(user)
        mark = ""
        if tag:
            tail += b',"tag":%b' % encode(tag)
            mark = hashlib.blake2b(encode([user, tag]), digest_size=16).hexdigest()
        return cls(b'{"message":%b,"id":' % encode(message), tail + b"}", mark)

    def entry(self, id: int) -> ChatEntry:
        """The message at its position in the history."""
        return ChatEntry(id, b"%b%d%b" % (self.head, id, self.tail))


class _Position(msgspec.Struct):
    id: int


class _Error(msgspec.Struct, omit_defaults=True):
    error: str
    message: str
    tag: str = ""


class _StatusError(msgspec.Struct, kw_only=True, omit_defaults=True):
    status: str
    error: str
    message: str
    tag: str = ""


class _Tagged(msgspec.Struct):
    tag: Tag | None = None


_encoder = msgspec.json.Encoder()
encode = _encoder.encode
"""The JSON bytes of a message type of this module (or of plain dicts and lists)."""
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_pose_decoder = msgspec.json.Decoder(Pose)
_difficulty_decoder = msgspec.json.Decoder(DifficultyRequest)
_tag_decoder = msgspec.json.Decoder(_Tagged)
_position_decoder = msgspec.json.Decoder(_Position)
_chat_decoder = msgspec.json.Decoder(ChatInput)

_LONGEST_DOUBLE = 308
_MINUS_ZERO = re.compile(rb"(?<![eE])-0(?![.0-9eE])")
"""The integer -0, which is a number of its own in JavaScript and C#, but no Python int."""
decode_short_pose = _pose_decoder.decode
"""A faster `decode_pose` for at most 125 bytes of UTF-8; raises where that distinguishes cases."""
_RECEIVED = b'{"status":"received"}'
UNITY_CONNECTED = b'{"status":"unity_connected"}'
UNITY_DISCONNECTED = b'{"status":"unity_disconnected"}'
GAP = _encoder.encode(
    {
        "gap": True,
        "error": ErrorCode.GAP.value,
        "message": ErrorCode.GAP.sentence,
    }
)
CUT_OFF = _encoder.encode(
    _Error(
        error=ErrorCode.STORE_UNAVAILABLE.value,
        message="The room is cut off from its history; nothing can be said until that is back.",
    )
)
RESTORED = _encoder.encode(
    {"status": "restored", "message": "The room is whole again; what was missed has been sent."}
)


def is_blank(payload: bytes) -> bool:
    """Whether a frame is empty or only (Unicode) white space; such a frame is ignored."""
    if not payload or payload.isspace():
        return True
    try:
        return payload.decode().isspace()
    except UnicodeDecodeError:
        return False


def _decode(decoder: "msgspec.json.Decoder[T]", payload: bytes, code: ErrorCode) -> T | None:
    """Decodes one frame; None for a blank one.

    Raises:
        ClientError: `bad_json` when it is no JSON object in UTF-8, else `code`.
    """
    try:
        value = decoder.decode(payload)
        # msgspec does not look into the strings of members it skips
        if not payload.isascii():
            payload.decode()
        return value
    except UNDECODABLE as error:
        if is_blank(payload):
            return None
        try:
            payload.decode()
            _object_decoder.decode(payload)
        except UNDECODABLE:
            raise ClientError(ErrorCode.BAD_JSON) from error
        raise ClientError(code) from error


def decode_pose(payload: bytes) -> Pose | None:
    """Reads a camera frame; None for a blank one. Raises ClientError: `bad_json`, `bad_pose`."""
    if b"-0" in payload:
        payload = _MINUS_ZERO.sub(b"-0.0", payload)
    if len(payload) <= _LONGEST_DOUBLE and payload.isascii():
        try:
            return _pose_decoder.decode(payload)
        except (msgspec.MsgspecError, RecursionError):
            pass  # it is wrong, or blank
    pose = _decode(_pose_decoder, payload, ErrorCode.BAD_POSE)
    if pose is not None and len(payload) > _LONGEST_DOUBLE:
        # only here may an integer be too large for the doubles of every client
        try:
            [float(value) for value in (pose.x, pose.y, pose.z) if value is not None]
        except OverflowError as error:
            raise ClientError(ErrorCode.BAD_POSE) from error
    return pose


def decode_difficulty(payload: bytes) -> DifficultyRequest | None:
    """Reads a phone's request; None for a blank frame.

    Raises:
        ClientError: `bad_json`, `bad_difficulty`.
    """
    try:
        return _decode(_difficulty_decoder, payload, ErrorCode.BAD_DIFFICULTY)
    except ClientError as error:
        if error.code is ErrorCode.BAD_DIFFICULTY and _read_tag(payload) is None:
            sentence = "The tag must be a string of 1 to 64 characters."
            raise ClientError(ErrorCode.BAD_DIFFICULTY, sentence) from error
        raise


def read_tag(payload: bytes) -> str:
    """The tag of a frame that is wrong otherwise; empty without a tag that could be answered."""
    return _read_tag(payload) or ""


def _read_tag(payload: bytes) -> str | None:
    """The tag of a frame, empty without one; None if that is wrong, or the frame no JSON object."""
    try:
        payload.decode()
        return _tag_decoder.decode(payload).tag or ""
    except UNDECODABLE:
        return None


def decode_chat(payload: bytes) -> ChatInput | None:
    """Reads a chat frame; None for a blank one. Raises ClientError: `bad_json`, `bad_message`."""
    return _decode(_chat_decoder, payload, ErrorCode.BAD_MESSAGE)


def add_sender(payload: bytes, sender: str | None) -> bytes:
    """A JSON object with a last member `sender`, which counts if there is another (RFC 8259).

    Args:
        payload: the object.
        sender: of ASCII letters and digits; None if it is unknown.
    """
    members = payload.rstrip()[:-1].rstrip()
    comma = b"" if members.endswith(b"{") else b","
    value = b"null" if sender is None else b'"%b"' % sender.encode()
    return b'%b%b"sender":%b}' % (members, comma, value)


def check_object(payload: bytes) -> bytes:
    """Returns the payload if it is one JSON object in UTF-8.

    Raises:
        ClientError: `bad_json`.
    """
    try:
        payload.decode()
        _object_decoder.decode(payload)
    except UNDECODABLE as error:
        raise ClientError(
            ErrorCode.BAD_JSON, "The body must be one JSON object in UTF-8."
        ) from error
    return payload


def check_entry(id: int, body: bytes) -> ChatEntry:
    """Returns a chat message if its body is one JSON object in UTF-8 with that `id`.

    Raises:
        ClientError: `bad_json`, `bad_message`.
    """
    found = _decode(_position_decoder, body, ErrorCode.BAD_MESSAGE)
    if found is None or found.id != id:
        raise ClientError(ErrorCode.BAD_MESSAGE)
    return ChatEntry(id, body)


def encode_error(code: ErrorCode, message: str, tag: str = "") -> bytes:
    """The flat error object every path uses; with a tag, if it is about a request that has one."""
    return _encoder.encode(_Error(error=code.value, message=message, tag=tag))


def encode_received(tag: str) -> bytes:
    """The answer to a phone whose request was carried out."""
    return b'{"status":"received","tag":%b}' % encode(tag) if tag else _RECEIVED


def encode_not_received(code: ErrorCode, message: str, tag: str) -> bytes:
    """The answer to a phone whose request was not carried out, as far as that is known."""
    error = _StatusError(status="error", error=code.value, message=message, tag=tag)
    return _encoder.encode(error)


def encode_heartbeat(seconds: float) -> bytes:
    """What a client gets that asked for heartbeats: a silent one gets the next within `seconds`."""
    return b'{"status":"heartbeat","seconds":%b}' % encode(round(seconds, 3))


def encode_notice(code: ErrorCode, message: str) -> bytes:
    """An error object for a phone that answers no request, since requests are counted."""
    return _encoder.encode(_StatusError(status="notice", error=code.value, message=message))


def encode_present(count: int, anonymous: int, users: list[str] | None) -> bytes:
    """The members of a room, for one that asked.

    Args:
        count: people with names and connections without.
        anonymous: the connections without a name.
        users: the names; None if they are not listed.
    """
    names = {} if users is None else {"users": users}
    return encode({"presence": "here", "count": count, "anonymous": anonymous, **names})


def encode_presence_change(
    count: int, anonymous: int, joined: list[str] | None, left: list[str] | None
) -> bytes:
    """How the members of a room have changed, for those that asked.

    Args:
        count: as of `encode_present`.
        anonymous: as of `encode_present`.
        joined: the names of people who have come since the last such frame; None if not listed.
        left: those of people who have left; None if not listed.
    """
    names = {} if joined is None or left is None else {"joined": joined, "left": left}
    return encode({"presence": "changed", "count": count, "anonymous": anonymous, **names})


def read_position(frame: bytes) -> int:
    """The `id` in a text frame that carries a `ChatEntry`; 0 if it carries something else."""
    try:
        return _position_decoder.decode(payload_of(frame)).id
    except msgspec.MsgspecError:
        return 0

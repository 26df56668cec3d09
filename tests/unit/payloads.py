"""Shared by the tests of payloads: the decoders, what JSON is made of, another parser."""

import json
from collections.abc import Callable
from typing import Any

from relayd import wire

DECODERS: dict[str, Callable[[bytes], Any]] = {
    "bad_pose": wire.decode_pose,
    "bad_difficulty": wire.decode_difficulty,
    "bad_message": wire.decode_chat,
}

# what a JSON text may be made of, so that hypothesis comes near to valid and invalid ones
PIECES = [
    *'{}[]:,"\\ \t\r\n0123456789.-+eE',
    *('"x"', '"y"', '"z"', '"difficulty"', '"message"', "true", "false", "null", "NaN"),
    *("Infinity", "-Infinity", "\\ud800", "\\u0078", "\u2003", "\ufeff", "\x00", "\x1c", "ä"),
]


def is_object(payload: bytes) -> bool:
    """Whether it is one JSON object (RFC 8259), after another parser; NaN is no JSON."""
    try:
        text = payload.decode()
        json.loads(text, parse_constant=lambda name: 1 / 0)
        # lone surrogates cannot be passed on in UTF-8
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except (ValueError, ZeroDivisionError, RecursionError):
        return False
    return text.lstrip(" \t\r\n").startswith("{")

"""Frames on their way to a client, taken apart again. Pure; for `tail` and `trace`."""

from collections.abc import Iterator

NAMES = {0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}
"""Opcodes (RFC 6455 section 5.2)."""


def split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Opcode and payload of each of the whole, unmasked frames in `data`."""
    at = 0
    while at < len(data):
        opcode, length, start = data[at] & 0x0F, data[at + 1], at + 2
        if length == 126:
            length, start = int.from_bytes(data[at + 2 : at + 4]), at + 4
        elif length == 127:
            length, start = int.from_bytes(data[at + 2 : at + 10]), at + 10
        at = start + length
        yield opcode, data[start:at]

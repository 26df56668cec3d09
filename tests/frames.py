"""Frames as a client sends them, or should not: for tests that choose every bit of a head."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
"""Opcodes (RFC 6455 section 5.2)."""

MASK = b"\x81\xfe\x00\x7d"
"""A mask that looks like the head of a frame."""


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    header: int = 0,
) -> bytes:
    """One frame (RFC 6455 section 5.2).

    Args:
        opcode: 0 to 15.
        payload: as it is before it is masked.
        fin: whether it is the last of its message.
        rsv: the three reserved bits, as a number.
        mask: four bytes; None for an unmasked frame.
        header: 126 or 127 for a longer header than the length needs.
    """
    length = len(payload)
    bit = 0 if mask is None else 0x80
    short = max(header, length if length < 126 else 126 if length < 65536 else 127)
    head = bytes([fin << 7 | rsv << 4 | opcode, bit | short])
    if short > 125:
        head += length.to_bytes(2 if short == 126 else 8)
    if mask is None:
        return head + payload
    key = (mask * (length // 4 + 1))[:length]
    return head + mask + (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(length)

"""What the Python peers share: a pose is decoded, checked and encoded once."""

import msgspec


class Pose(msgspec.Struct):
    """A camera position; every coordinate a number or null."""

    x: int | float | None = None
    y: int | float | None = None
    z: int | float | None = None


BAD_POSE = b'{"error":"bad_pose","message":"The members x, y and z must be numbers or null."}'

_decoder = msgspec.json.Decoder(Pose)
_encoder = msgspec.json.Encoder()


def repack(payload: bytes | str | memoryview) -> bytes | None:
    """What goes to the members of the group; None where the payload is not a pose."""
    try:
        return _encoder.encode(_decoder.decode(payload))
    except msgspec.DecodeError:
        return None

"""What stands in messages and headers: JSON of clients, addresses of proxies, paths."""

import ipaddress
import json
import math
from collections.abc import Iterable
from typing import Any

from relayd import wire
from relayd.config import Config, Echo
from relayd.errors import ClientError, Refusal
from relayd.forwarded import UNIX, Proxies, parse_trusted
from relayd.hosts.authority import parse_authority
from relayd.names import split_path, split_target
from relayd.native.inlet import Passage
from relayd.relays.paths import KINDS
from tests.unit.payloads import DECODERS, PIECES, is_object

PROXY, CLIENT = "192.0.2.7", "203.0.113.9"
_PROXIES = tuple(Proxies((PROXY, "10.0.0.0/8"), name) for name in ("x-forwarded-for", "forwarded"))
_CONFIG = Config(echo=Echo(enabled=True))
_CODES = tuple(DECODERS)


# -- messages


def messages() -> Iterable[bytes]:
    """Good messages of every path, and what JSON is made of."""
    for number in range(len(_CODES) + 1):
        for text in (
            '{"x":1,"y":-2.5e3,"z":null}',
            '{"difficulty":3}',
            '{"message":"h\\u00e9 é 𝄞"}',
            '{"id":5,"message":"a"}',
            "",
            " \u2003",
            "[" * 200,
            '{"a":' * 100 + "1" + "}" * 100,
            '{"x":1e400}',
            '{"x":' + "9" * 320 + "}",
        ):
            yield bytes([number]) + text.encode()
        for piece in PIECES:
            yield bytes([number]) + b'{"x":' + piece.encode(errors="replace") + b"}"


def check_message(data: bytes) -> None:
    """A payload is a message, blank, or the client's mistake, as another parser has it."""
    if not data:
        return
    number, payload = data[0] % (len(_CODES) + 1), data[1:]
    if number == len(_CODES):
        _check_passage(payload)
        return
    code = _CODES[number]
    message, told = None, ""
    try:
        message = DECODERS[code](payload)
    except ClientError as error:
        told = error.code.value
    if told:
        assert told == (code if is_object(payload) else "bad_json"), told
        return
    if message is None:
        assert not payload.decode().strip()
        return
    assert is_object(payload)
    encoded = wire.encode(message)
    assert encoded.decode() is not None
    json.loads(encoded, parse_constant=lambda name: 1 / 0)


def _check_passage(payload: bytes) -> None:
    """The short way of a pose publishes what the long way does."""
    published: list[bytes] = []
    rejected: list[bytes] = []
    passage = Passage(
        wire.decode_short_pose,
        wire.encode,
        published.append,
        lambda payload, is_binary: rejected.append(payload),
    )
    payload = payload[:125]
    try:
        payload.decode()
    except UnicodeDecodeError:
        return  # the inlet does not pass it on
    passage(payload, False)
    assert len(published) + len(rejected) == 1
    if published:
        pose: Any = wire.decode_pose(payload)
        assert published == [wire.encode(pose)]
        for value in json.loads(published[0]).values():
            assert value is None or math.isfinite(value)


# -- addresses


def addresses() -> Iterable[bytes]:
    """Headers as proxies write them, and as nobody should."""
    for value in (
        "203.0.113.9",
        "x, 203.0.113.9",
        "203.0.113.9, 10.1.2.3",
        "[2001:db8::1]:80",
        "unix:",
        "for=203.0.113.9;proto=https, for=10.0.0.1",
        'for="[2001:db8::1]:4711";by=x',
        'for="_hidden", for="a\\"b"',
        'for="open, for=203.0.113.9',
        "::ffff:192.0.2.7%eth0",
        "1" * 40 + ":99999",
        "a:" + "9" * 5000,  # found: more digits than int() takes
    ):
        yield b"\0" + value.encode()
        yield b"\1" + value.encode()


def check_addresses(data: bytes) -> None:
    """The client is an address; nothing that it writes itself outweighs what the proxy adds."""
    if not data:
        return
    proxies, value = _PROXIES[data[0] % 2], data[1:].decode("latin-1")
    found = proxies.client(PROXY, value)
    if found != UNIX:
        ipaddress.ip_address(found)
    assert proxies.client(CLIENT, value) == CLIENT, "an untrusted peer is not believed"
    added = f"for={CLIENT}" if data[0] % 2 else CLIENT
    assert proxies.client(PROXY, f"{value},{added}") in (CLIENT, *((PROXY,) if data[0] % 2 else ()))
    host = parse_authority(value)
    assert host is None or host.port is None or 0 <= host.port < 65536
    try:
        parse_trusted(value)
    except ValueError:
        return


# -- paths


def paths() -> Iterable[bytes]:
    """Paths of every kind."""
    uuid = "0B6A1C3E-7E1D-4c0f-9a53-3f0c2f7a1b2c"
    for path in (
        "/ws/camera/a", "/ws/chat/l%C3%B6bby/", f"/ws/difficulty/unity/{uuid}", "/ws/echo",
        f"/ws/difficulty/android/{uuid}", "/ws/push/t?x", "/ws/chat/%ff", "/ws//", "/ws/camera/%2e",
    ):  # fmt: skip
        yield f"GET {path} HTTP/1.1\r\n\r\n".encode()
        yield f"GET http://a{path} HTTP/1.1\r\n\r\n".encode()


def check_path(data: bytes) -> None:
    """A target has one group in its canonical form, or is refused; worker and relay agree."""
    group = KINDS.group_of_handshake(data, _CONFIG)
    kind, segments = split_target(data)
    entry: Any = {kind.name: kind for kind in KINDS}.get(kind)
    place: Any = None
    status = 0
    try:
        place = None if entry is None else entry.locate(segments, _CONFIG)
    except Refusal as refusal:
        status = refusal.status
    assert status in (0, 400, 404)
    assert group == (entry.group(place.name) if place and place.name else None)
    text = data.decode(errors="replace")
    KINDS.speaks(text, _CONFIG)
    assert split_path(text)[0] == "" or text.startswith("/ws/")
    if group is not None:
        assert entry.parse(place.name) == place.name, "the canonical form is its own"
        if entry.fanned_out:
            assert KINDS.parse_group(group) == group

"""docs/asyncapi.yaml agrees with the tables of paths, codes and closes, and with `wire`."""

import json
from typing import Any

import pytest

from relayd import wire
from relayd.close_codes import CloseCode
from relayd.errors import ErrorCode, Where
from relayd.event_stream import encode_close, encode_event, encode_hello
from relayd.relays.paths import KINDS
from tests import asyncapi
from tests.asyncapi import FROM_CLIENT, FROM_RELAYD, document, matching, resolve

CHANNELS = sorted(document()["channels"])
STATUS_ALONE = {
    ErrorCode.METHOD_NOT_ALLOWED,
    ErrorCode.TIMEOUT,
    ErrorCode.UPGRADE_REQUIRED,
    ErrorCode.HEAD_TOO_LARGE,
}
"""Refusals of what is no valid handshake: these come as an HTTP status, never as a frame."""

REFUSALS = {"refusal", "refusalNotice"}


def enumerated(schema: Any) -> set[str]:
    """The values that a schema allows, through its references."""
    if "$ref" in schema:
        return enumerated(resolve(schema["$ref"]))
    return {schema["const"]} if "const" in schema else set(schema["enum"])


def carried(channel: str) -> set[str]:
    """The error codes in the frames from relayd on a channel, without those of refusals."""
    found = set()
    for name, message in asyncapi.messages(channel, FROM_RELAYD).items():
        payload = message["payload"]
        schema = resolve(payload["$ref"]) if "$ref" in payload else payload
        if "error" in schema.get("properties", {}) and name not in REFUSALS:
            found |= enumerated(schema["properties"]["error"])
    return found


def test_every_reference_leads_somewhere() -> None:
    for reference in asyncapi.references(document()):
        assert resolve(reference) is not None


def test_the_channels_are_the_paths_of_the_table_of_kinds() -> None:
    for server, root, kinds in (("websockets", "ws", KINDS), ("events", "sse", KINDS.fanned_out)):
        channels = asyncapi.channels(server).values()
        addresses = {each["address"]: set(each.get("parameters", ())) for each in channels}
        assert addresses == {
            path.replace("/ws/", f"/{root}/"): {kind.variable} if "{" in path else set()
            for kind in kinds
            for path in kind.paths
        }


def test_a_request_for_events_has_the_parameters_of_its_websocket_but_the_one_for_refusals() -> (
    None
):
    asked = {
        document()["channels"][name]["address"]: operation["bindings"]["http"]["query"]
        for operation in document()["operations"].values()
        if (name := operation["channel"]["$ref"].rpartition("/")[2]) in asyncapi.channels("events")
        and operation["action"] == FROM_CLIENT
    }
    for channel in asyncapi.channels("websockets").values():
        same = channel["address"].replace("/ws/", "/sse/")
        if same in asked:
            parameters = dict(channel["bindings"]["ws"]["query"]["properties"])
            del parameters["refuse"]
            assert asked.pop(same)["properties"] == parameters
    assert not asked


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_message_of_a_channel_goes_one_way(channel: str) -> None:
    inward, outward = (asyncapi.messages(channel, way) for way in (FROM_CLIENT, FROM_RELAYD))
    assert inward
    assert outward
    assert sorted([*inward, *outward]) == sorted(document()["channels"][channel]["messages"])


def test_every_part_of_the_document_is_used() -> None:
    used = set(asyncapi.references(document()))
    for kind, parts in document()["components"].items():
        assert {f"#/components/{kind}/{name}" for name in parts} <= used


def test_the_frames_carry_the_error_codes_that_clients_meet_in_a_frame() -> None:
    in_frames = {code.value for code in ErrorCode if Where.FRAME in code.where}
    assert set().union(*map(carried, CHANNELS)) == in_frames


def test_the_refusals_are_those_of_handshakes() -> None:
    refusals = document()["components"]["schemas"]["RefusalCode"]["enum"]
    handshake = [code for code in ErrorCode if Where.HANDSHAKE in code.where]
    assert refusals == [code.value for code in handshake if code not in STATUS_ALONE]


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_channel_has_a_refusal_and_the_errors_before_a_close(channel: str) -> None:
    before = {code.error.value for code in CloseCode if code.error} | {"kicked", "internal_error"}
    assert before <= carried(channel)
    assert len(REFUSALS & set(asyncapi.messages(channel, FROM_RELAYD))) == 1


def test_the_close_codes_are_those_of_the_table() -> None:
    rows = {
        str(int(code)): {
            "reason": code.reason or None,
            "reconnect": code.reconnect,
            "error": code.error and code.error.value,
            "meaning": code.meaning,
        }
        for code in CloseCode
    }
    expected = {
        code: {name: value for name, value in row.items() if value is not None}
        for code, row in rows.items()
    }
    assert document()["x-close-codes"] == expected


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("action", [FROM_CLIENT, FROM_RELAYD])
def test_the_examples_of_a_message_are_valid(channel: str, action: str) -> None:
    for name, message in asyncapi.messages(channel, action).items():
        for example in message.get("examples", ()):
            fields = example.get("headers", {})
            assert name in matching(channel, action, example["payload"], fields)


SENTENCE = "A sentence."


@pytest.mark.parametrize(
    ("channel", "message", "payload"),
    [
        ("camera", "pose", wire.encode(wire.Pose(1, -0.5, None))),
        ("camera", "namedPose", wire.add_sender(wire.encode(wire.Pose()), None)),
        ("camera", "namedPose", wire.add_sender(wire.encode(wire.Pose()), "0123456789ab")),
        ("camera", "poseError", wire.encode_error(ErrorCode.BAD_POSE, SENTENCE)),
        ("unity", "assignment", wire.encode(wire.Assignment([1, 2, 3], 4))),
        ("android", "received", wire.encode_received("")),
        ("android", "received", wire.encode_received("t" * 64)),
        ("android", "requestError", wire.encode_not_received(ErrorCode.NO_UNITY, SENTENCE, "")),
        ("android", "requestError", wire.encode_not_received(ErrorCode.NO_UNITY, SENTENCE, "t")),
        ("android", "notice", wire.encode_notice(ErrorCode.RATE_LIMITED, SENTENCE)),
        ("android", "unityConnected", wire.UNITY_CONNECTED),
        ("android", "unityDisconnected", wire.UNITY_DISCONNECTED),
        ("chat", "chatMessage", wire.ChatDraft.of("é", 0).entry(1).body),
        ("chat", "chatMessage", wire.ChatDraft.of("", 1, "ann", "t").entry(2**53).body),
        ("chat", "chatError", wire.encode_error(ErrorCode.OUTCOME_UNKNOWN, SENTENCE, "t")),
        ("chat", "gap", wire.GAP),
        ("chat", "cutOff", wire.CUT_OFF),
        ("chat", "restored", wire.RESTORED),
    ],
)
def test_frames_that_relayd_encodes_are_valid(channel: str, message: str, payload: bytes) -> None:
    assert message in matching(channel, FROM_RELAYD, json.loads(payload))


@pytest.mark.parametrize(
    ("channel", "message", "event"),
    [
        ("cameraEvents", "hello", encode_hello(0.0, 25.0, 1.0)),
        ("cameraEvents", "end", encode_close(4242, "", 119.9994)),
        ("cameraEvents", "pose", encode_event(wire.encode(wire.Pose(1, -0.5, None)))),
        ("chatEvents", "chatEvent", encode_event(wire.ChatDraft.of("\n", 0).entry(1).body)),
        ("chatEvents", "gap", encode_event(wire.GAP)),
        ("chatEvents", "cutOff", encode_event(wire.CUT_OFF)),
        ("chatEvents", "restored", encode_event(wire.RESTORED)),
        ("pushEvents", "publishedEvent", encode_event(b'{"id":\n7}')),
        ("pushEvents", "publishedEvent", encode_event(b'{"id": "x"}')),
        ("pushEvents", "heartbeat", encode_event(wire.encode_heartbeat(30))),
    ],
)
def test_events_that_relayd_encodes_are_valid(channel: str, message: str, event: bytes) -> None:
    lines = [line.split(b": ", 1) for line in event.splitlines() if line]
    fields: dict[str, object] = {
        name.decode(): int(value) if name == b"retry" else value.decode()
        for name, value in lines
        if name != b"data"
    }
    payload = json.loads(b"\n".join(value for name, value in lines if name == b"data"))
    assert message in matching(channel, FROM_RELAYD, payload, fields)
    assert matching(channel, FROM_RELAYD, payload, {**fields, "id": "0"}) == []


@pytest.mark.parametrize(
    ("channel", "payload"),
    [
        ("camera", {"x": 1, "y": 2}),
        ("camera", {"x": 1, "y": 2, "z": 3, "sender": "0123456789AB"}),
        ("camera", {"error": "bad_message", "message": SENTENCE}),
        ("unity", {"quiz_id": [1, 1], "action_id": 1}),
        ("unity", {"quiz_id": [], "action_id": 1}),
        ("android", {"status": "received", "tag": ""}),
        ("android", {"error": "no_unity", "message": SENTENCE}),
        ("chat", {"message": "m", "id": 1, "time": "yesterday"}),
        ("chat", {"message": "m", "id": "1", "time": "2026-11-21T07:55:26.292Z"}),
        ("push", [1]),
    ],
)
def test_frames_that_relayd_never_sends_are_not_valid(channel: str, payload: Any) -> None:
    assert matching(channel, FROM_RELAYD, payload) == []

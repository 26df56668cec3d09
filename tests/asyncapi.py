"""docs/asyncapi.yaml as tests read it: channels, the messages of each direction, and validation."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator

PATH = Path(__file__).resolve().parents[1] / "docs" / "asyncapi.yaml"

FROM_CLIENT, FROM_RELAYD = "receive", "send"
"""The actions of operations: the document describes relayd, not its clients."""

NO_FIELDS: Mapping[str, object] = {}
NONE = {"type": "object", "additionalProperties": False}
"""The schema of the fields of a message that names none."""


@functools.cache
def document() -> Any:
    """The whole document."""
    return yaml.safe_load(PATH.read_text(encoding="utf-8"))


def channels(server: str) -> dict[str, Any]:
    """The channels of a server: `websockets` or `events`."""
    here = [{"$ref": f"#/servers/{server}"}]
    return {name: each for name, each in document()["channels"].items() if each["servers"] == here}


def resolve(reference: str) -> Any:
    """What a reference of the document leads to, through further references."""
    root, *parts = reference.split("/")
    assert root == "#", reference
    found = document()
    for part in parts:
        found = found[part.replace("~1", "/").replace("~0", "~")]
    return resolve(found["$ref"]) if isinstance(found, dict) and "$ref" in found else found


def references(node: Any) -> Iterator[str]:
    """Every reference in a part of the document."""
    for value in node.values() if isinstance(node, dict) else node:
        if isinstance(value, dict | list):
            yield from references(value)
    if isinstance(node, dict) and "$ref" in node:
        yield node["$ref"]


def messages(channel: str, action: str) -> dict[str, Any]:
    """The messages of a channel in one direction, by their names in it.

    Args:
        channel: a key of `channels`.
        action: FROM_CLIENT or FROM_RELAYD.
    """
    prefix = f"#/channels/{channel}/messages/"
    return {
        each["$ref"].removeprefix(prefix): resolve(each["$ref"])
        for operation in document()["operations"].values()
        if operation["action"] == action and operation["channel"]["$ref"] == f"#/channels/{channel}"
        for each in operation["messages"]
    }


def fits(schema: Any, value: Any) -> bool:
    """Whether a value is valid by a schema of the document."""
    # beside the document, to whose parts its references lead
    whole = {"components": document()["components"], "allOf": [schema]}
    checker = Draft7Validator(whole, format_checker=Draft7Validator.FORMAT_CHECKER)
    return checker.is_valid(value)


def matching(
    channel: str, action: str, payload: Any, fields: Mapping[str, object] = NO_FIELDS
) -> list[str]:
    """The messages of a channel that a payload is one of; those for anything if it is no other.

    Args:
        channel: a key of `channels`.
        action: FROM_CLIENT or FROM_RELAYD.
        payload: JSON.
        fields: of an event, but for its `data`.
    """
    found = {
        name: message
        for name, message in messages(channel, action).items()
        if fits(message["payload"], payload) and fits(message.get("headers", NONE), dict(fields))
    }
    narrow = [name for name, message in found.items() if not is_open(message)]
    return narrow or list(found)


def is_open(message: Any) -> bool:
    """Whether a message says no more of its payload than its type."""
    return not set(message["payload"]) - {"type"}

"""What a client does that is written as tutorials have it: it knows nothing of relayd but a path.

For the tests of a kit's language, beside the kit itself (`test_android_kit`, `test_unity_kit`).
"""

import json
import subprocess
from collections.abc import Callable

from websockets.exceptions import InvalidStatus

from tests.daemon import Daemon
from tests.integration.clients import read, say
from tests.integration.waiting import eventually

UUID = "123e4567-e89b-42d3-a456-426614174000"


def play(relayd: Daemon, run: Callable[..., subprocess.Popen[str]], refused_path: str) -> str:
    """A headset, a camera and a chat do what they are for, and leave; another client is refused.

    Args:
        relayd: the relay.
        run: starts the client with a path, and a frame that it sends when it is connected. It
            prints what it gets, a line each, and ends after a line on its standard input.
        refused_path: of the client that is refused.

    Returns:
        The first line that the refused client prints.
    """
    headset = run(f"/ws/difficulty/unity/{UUID}")
    camera = run("/ws/camera/demo", '{"x": 0.5, "y": 1.25, "z": -3}')
    chat = run("/ws/chat", '{"message": "hello"}')
    refused = run(refused_path)
    try:
        for client, members in (
            (camera, {"x": 0.5, "y": 1.25, "z": -3}),
            (chat, {"message": "hello"}),
        ):
            assert members.items() <= json.loads(_line(client)).items()
        eventually(lambda: _phone_gets_its_receipt(relayd))
        assert set(json.loads(_line(headset))) == {"quiz_id", "action_id"}
        said = _line(refused)
        for client in (headset, camera, chat):
            client.communicate("leave\n", timeout=20)
            assert client.returncode == 0
    finally:
        for client in (headset, camera, chat, refused):
            client.kill()
    return said


def _line(client: subprocess.Popen[str]) -> str:
    assert client.stdout
    return client.stdout.readline()


def _phone_gets_its_receipt(relayd: Daemon) -> bool:
    """Whether the headset was there, and got what a phone asked for."""
    try:
        with relayd.connect(f"/ws/difficulty/android/{UUID}") as phone:
            say(phone, {"difficulty": 1})
            return bool(read(phone)["status"] == "received")
    except InvalidStatus:
        return False

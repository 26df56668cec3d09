"""Tokens in the handshake: who may come in, who one is, when it ends; on a spawned relayd."""

import base64
import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.daemon import Daemon
from tests.integration.clients import Refused, read, read_close, say
from tests.integration.conftest import Connect, Dial, Spawn
from tests.integration.relayctl import Operator, check_failed

SECRET = "a secret for tests that is long enough for HS256, HS384 and HS512 alike"


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    """A signed token."""
    return jwt.encode(claims, secret, algorithm)


def plain(header: dict[str, str], claims: object, signature: bytes = b"") -> str:
    """A token that nobody signed."""
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def test_a_browser_sends_its_token_beside_the_subprotocol_and_is_answered_relayd_alone(
    guarded: Daemon, connect: Connect
) -> None:
    good, bad = token(sub="ada"), token("another secret, long enough for HS256")
    for offers in (["relayd", good], [good, "relayd"]):
        client = connect(guarded, "/ws/camera/sub", subprotocols=offers)
        assert client.subprotocol == "relayd"
        say(client, {"x": 1})
        assert read(client)["x"] == 1
    for offers in (["relayd", bad], ["relayd"]):
        client = connect(guarded, "/ws/camera/sub?refuse=close", subprotocols=offers)
        assert client.subprotocol == "relayd"
        assert read_close(client) == (4401, "unauthorized")
    assert Refused(guarded, "/ws/camera/sub", subprotocols=["other", good]).status == 401


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A relayd that requires tokens."""
    node = Daemon(
        tmp_path_factory.mktemp("guarded"),
        {
            "RELAYD_AUTH_SECRET": SECRET,
            "RELAYD_AUTH_REQUIRED": "true",
            "RELAYD_ECHO_ENABLED": "true",
            "RELAYD_LOG_LEVEL": "debug",
        },
    )
    yield node.start()
    node.stop()
    assert "Traceback" not in node.log
    assert SECRET not in node.log


def test_a_client_without_a_token_is_refused(guarded: Daemon, connect: Connect) -> None:
    refused = Refused(guarded, "/ws/camera")
    assert (refused.status, refused.error) == (401, "unauthorized")
    client = connect(guarded, "/ws/camera?refuse=close")
    assert read_close(client) == (4401, "unauthorized")


def test_a_token_is_read_from_the_query_or_a_header(guarded: Daemon, connect: Connect) -> None:
    good = token(sub="ada")
    sender = connect(guarded, f"/ws/camera/t?token={good}")
    for scheme in ("Bearer", "bearer"):
        client = connect(
            guarded, "/ws/camera/t/", additional_headers={"Authorization": f"{scheme} {good}"}
        )
        say(sender, {"x": 1})
        assert read(client)["x"] == 1


def test_the_log_shows_no_token(guarded: Daemon, connect: Connect, dial: Dial) -> None:
    good, bad = token(sub="carol"), token("another secret, long enough for HS256", sub="carol")
    connect(guarded, f"/ws/camera?token={good}")
    Refused(guarded, f"/ws/camera?token={bad}")
    guarded.get(f"/healthz?token={good}")
    offered = f"Sec-WebSocket-Protocol: relayd, {good}"
    connect(guarded, "/ws/camera", subprotocols=["relayd", good])
    for line, more in (  # what Autobahn quotes in its refusals
        (f"GET /ws/camera?token={good} x HTTP/1.1", ""),
        (f"GET /ws/camera#{good} HTTP/1.1", ""),
        (f"GET /ws/camera?token={good}'#x HTTP/1.1", ""),
        ("GET /ws/camera HTTP/1.1", f"{offered}, {good}\r\n"),
        ("GET /ws/camera HTTP/1.1", f"{good}\r\n"),
    ):
        raw = dial(guarded)
        needed = "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        raw.send(f"{line}\r\n{needed}{key}{more}\r\n".encode())
        assert raw.response().status in (400, 401)
    upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    for line, host in (  # what no grammar of a request has
        (f"GET /ws/camera?token={good}", "a"),
        (f"GET {good} HTTP/1.1", "a"),
        (f"GET ws://[{good}]/ws/camera HTTP/1.1", "a"),
        (f"{good} /ws/camera HTTP/1.1", "a"),
        (f"GET /ws/camera HTTP/1.1 {good}", "a"),
        ("GET /ws/camera HTTP/1.1", good),
        ("GET /ws/camera HTTP/1.1", f"a?token={good}"),
        ("GET /ws/camera HTTP/1.1", f"{good}:x"),
        ("GET /ws/camera HTTP/1.1", f"a\r\nHost: {good}"),
    ):
        for more in (upgrade + key, ""):
            raw = dial(guarded)
            raw.send(f"{line}\r\nHost: {host}\r\n{more}\r\n".encode())
            assert raw.response().status >= 400, (line, host)
    for shown in (good, bad):
        assert shown not in guarded.log


NOW = int(time.time())
BAD_TOKENS = {
    "garbage": "abc",
    "not utf-8": "%FF%FE",
    "dots": "..",
    "other secret": token("another secret, long enough for HS256"),
    "none": plain({"alg": "none", "typ": "JWT"}, {"sub": "ada"}),
    "unsigned": plain({"alg": "HS256", "typ": "JWT"}, {"sub": "ada"}),
    "other algorithm": token(algorithm="HS384"),
    "expired": token(exp=NOW - 31),
    "expired long ago": token(exp=0),
    "expires never": token(exp=float("inf")),
    "expires at no number": token(exp=float("nan")),
    "not yet": token(nbf=NOW + 86400),  # the run takes a while
    "expires never sensibly": token(exp="tomorrow"),
    "expires as a list": token(exp=[NOW + 600]),
    "expires as null": token(exp=None),
    "scope as a number": token(scope=5),
    "payload is a list": jwt.api_jws.encode(b"[1]", SECRET, "HS256"),
    "payload is no json": jwt.api_jws.encode(b"{", SECRET, "HS256"),
}


@pytest.mark.parametrize("bad", BAD_TOKENS.values(), ids=list(BAD_TOKENS))
def test_bad_token_is_refused(guarded: Daemon, bad: str) -> None:
    refused = Refused(guarded, f"/ws/camera?token={bad}")
    assert (refused.status, refused.error) == (401, "unauthorized")


@pytest.mark.parametrize("exp", [10**20, 1e300, -1])
def test_odd_expiry_is_answered(guarded: Daemon, connect: Connect, exp: float) -> None:
    """A finite time that no clock reaches is as good as none; one before 1970 is over."""
    client = connect(guarded, f"/ws/camera?refuse=close&token={token(exp=exp)}")
    if exp < 0:
        assert read_close(client) == (4401, "unauthorized")
    else:
        say(client, {"x": 1})
        assert read(client)["x"] == 1


def test_scope_limits_the_paths(guarded: Daemon, connect: Connect) -> None:
    narrow = token(scope="camera echo")
    connect(guarded, f"/ws/camera?token={narrow}")
    connect(guarded, f"/ws/echo?token={narrow}")
    refused = Refused(guarded, f"/ws/chat?token={narrow}")
    assert (refused.status, refused.error) == (403, "forbidden")
    client = connect(guarded, f"/ws/push/a?refuse=close&token={narrow}")
    assert read_close(client) == (4403, "forbidden")
    assert Refused(guarded, f"/ws/camera?token={token(scope='')}").status == 403


def test_a_chat_message_names_the_user_of_its_token(guarded: Daemon, connect: Connect) -> None:
    """`user` where a token named one, live and in the history; what a client claims is nothing."""
    ada = connect(guarded, f"/ws/chat/who?token={token(sub='ada ü')}")
    bob = connect(guarded, f"/ws/chat/who?token={token()}")
    say(ada, {"message": "a", "user": "root"})
    assert read(bob)["user"] == read(ada)["user"] == "ada ü"
    say(bob, {"message": "b", "user": "root"})
    assert "user" not in read(ada)
    later = connect(guarded, f"/ws/chat/who?token={token()}")
    assert [read(later).get("user") for _ in range(2)] == ["ada ü", None]


def test_a_token_that_expires_closes_with_4005(guarded: Daemon, connect: Connect) -> None:
    for seconds in (1.5, 3, 6, 12):  # on a slow machine it may expire before it is used
        made = token(exp=time.time() + seconds - 30)  # the leeway
        try:
            client = connect(guarded, f"/ws/camera/e?token={made}")
        except InvalidStatus as refusal:
            if refusal.response.status_code != 401:
                raise
            continue
        with contextlib.suppress(ConnectionClosed):
            say(client, {"x": 1})
            assert read(client)["x"] == 1
            break
    else:
        pytest.fail("it was never let in")
    assert read_close(client)[0] == 4005


def test_a_token_is_optional_unless_it_is_required(spawn: Spawn, connect: Connect) -> None:
    node = spawn(auth_secret=SECRET)
    connect(node, "/ws/camera")
    assert Refused(node, "/ws/camera?token=abc").status == 401


def test_without_a_secret_tokens_are_ignored(relayd: Daemon, connect: Connect) -> None:
    client = connect(relayd, f"/ws/camera/ignored?token={token(exp=0)}")
    say(client, {"x": 1})
    assert read(client)["x"] == 1


def test_a_rotated_secret_ends_no_token_until_the_older_one_is_removed(
    spawn: Spawn, connect: Connect, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    file.chmod(0o640)
    daemon = spawn(auth_secret_file=str(file), auth_required="true")
    operator = Operator(daemon.folder, auth_secret_file=str(file))

    def create() -> str:
        return operator("token", "create").stdout.strip()

    old = create()
    done = operator("token", "rotate")
    assert (done.returncode, len(file.read_text().splitlines())) == (0, 2), done.stderr
    assert file.stat().st_mode & 0o777 == 0o640
    new = create()
    assert Refused(daemon, f"/ws/camera?token={new}").error == "unauthorized"
    assert operator("reload").returncode == 0
    for token in (old, new):
        connect(daemon, f"/ws/camera?token={token}")
    assert operator("token", "rotate", "--finish").returncode == 0
    assert operator("reload").returncode == 0
    connect(daemon, f"/ws/camera?token={new}")
    assert Refused(daemon, f"/ws/camera?token={old}").error == "unauthorized"
    check_failed(operator("token", "rotate", "--finish"), 2, "one secret only")


def test_a_secret_among_other_settings_is_not_rotated(tmp_path: Path) -> None:
    check_failed(Operator(tmp_path, auth_secret=SECRET)("token", "rotate"), 2, "a file of its own")
    check_failed(Operator(tmp_path)("token", "rotate"), 2, "nothing to rotate")

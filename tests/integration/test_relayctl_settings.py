"""`relayctl token` and `relayctl check-config`: what needs no running relayd."""

import json
import re
import time
from pathlib import Path

import jwt
import pytest

from tests.integration.conftest import Connect, Spawn
from tests.integration.relayctl import Done, Operator, check_failed

SECRET = "a secret that is long enough for HS256"


@pytest.fixture
def relayctl(tmp_path: Path) -> Operator:
    return Operator(tmp_path, auth_secret=SECRET)


def test_a_token_admits_its_bearer_to_the_paths_in_its_scope(
    relayctl: Operator, spawn: Spawn, connect: Connect
) -> None:
    made = relayctl("token", "create", "--user", "ann", "--scope", "chat").stdout.strip()
    daemon = spawn(auth_secret=SECRET, auth_required="true")
    connect(daemon, f"/ws/chat/a?token={made}")
    (client,) = Operator(daemon.folder).json("clients", "--user", "ann")["found"]
    assert (client["user"], client["path"]) == ("ann", "/ws/chat/a")
    assert Operator(daemon.folder).json("clients", "--user", "bob")["total"] == 0


def test_the_claims_of_a_token_are_shown(relayctl: Operator) -> None:
    made = relayctl.json(
        "token", "create", "--user", "ann", "--scope", "chat", "--scope", "push", "--expires", "12h"
    )
    claims = made["claims"]
    assert (claims["sub"], claims["scope"]) == ("ann", "chat push")
    assert claims["exp"] - claims["iat"] == 12 * 3600
    assert abs(claims["iat"] - time.time()) < 60
    shown = json.loads(relayctl("token", "check", "--json", stdin=made["token"]).stdout)
    assert shown == {
        "good": True,
        "why": "",
        "claims": claims,
        "revoked": None,
        "rights": ["chat", "push"],
    }
    lines = relayctl("token", "check", "-", stdin=made["token"]).stdout.splitlines()
    assert lines[-4] == "it is good for chat, push"
    assert re.fullmatch(r"it is valid for another 11 h 5\d m, and 30 s of leeway", lines[-3])
    assert lines[-1] == "the token is valid"
    assert "exp" not in relayctl.json("token", "create", "--expires", "never")["claims"]


def refused(relayctl: Operator, token: str) -> str:
    """Why a token is not good."""
    done: Done = relayctl("token", "check", "-", "--json", stdin=token)
    assert done.returncode == 1
    why: str = json.loads(done.stdout)["why"]
    return why


def test_a_token_that_is_not_good_is_explained(relayctl: Operator, tmp_path: Path) -> None:
    other = Operator(tmp_path, auth_secret="another secret, as long as it must be")
    made = other("token", "create").stdout.strip()
    assert refused(relayctl, made) == "the signature of the token is wrong"
    old = jwt.encode({"exp": int(time.time()) - 31}, SECRET)
    assert refused(relayctl, old) == "the token has expired (exp)"
    foreign = jwt.encode({"rights": ["openid", "camera/a b"]}, SECRET)
    assert refused(relayctl, foreign).startswith("it gives no right here")
    check_failed(relayctl("token", "check", stdin="nonsense"), 2, "this is no token")
    argument = relayctl("token", "check", made)
    check_failed(argument, 2, "a token is not an argument")
    assert made not in argument.stderr
    assert relayctl("token", "create", "--expires", "1y").returncode == 2
    assert relayctl("token", "create", "--scope", "nowhere").returncode == 2
    assert relayctl("token", "create", "--right", "camera/a:see").returncode == 2
    check_failed(Operator(tmp_path)("token", "create"), 2, "[auth] secret is not set")


def test_check_config_shows_each_setting_with_its_source_and_hides_secrets(tmp_path: Path) -> None:
    (tmp_path / "relayd.toml").write_text(
        '[chat]\nhistory = 7\ndefault_room = "lobby"\n[redis]\nurl = "redis://u:hunter2@h/0"\n'
    )
    (tmp_path / "relayd.toml").chmod(0o640)
    operator = Operator(tmp_path, auth_secret=SECRET)
    done = operator("--config", "relayd.toml", "check-config", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = {
        (each["section"], each["key"]): each["source"]
        for each in json.loads(done.stdout)["settings"]
    }
    assert found == {
        ("redis", "url"): "relayd.toml",
        ("chat", "history"): "relayd.toml",
        ("auth", "secret"): "environment RELAYD_AUTH_SECRET",
    }
    text = operator("--config", "relayd.toml", "check-config").stdout
    assert "[chat] history = 7" in text
    assert SECRET not in text + done.stdout
    assert "hunter2" not in text + done.stdout
    everything = operator("--config", "relayd.toml", "check-config", "--all").stdout
    assert "[chat] default_room = " in everything
    assert everything.count("\n") > 40


def test_check_config_names_what_is_wrong(tmp_path: Path) -> None:
    wrong = Operator(tmp_path, chat_history="many")
    check_failed(wrong("check-config"), 2, "RELAYD_CHAT_HISTORY", "'many'")
    assert Operator(tmp_path)("check-config").stderr == (
        "the configuration is good: all defaults\n"
    )

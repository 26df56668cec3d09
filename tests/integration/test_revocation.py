"""relayctl token revoke: closed at once and refused, on every process, also after a restart."""

import json
import re
import time
from pathlib import Path

import jwt
import pytest
from websockets.sync.client import ClientConnection

from relayd.access.denials import MOST
from tests.daemon import Daemon
from tests.integration.clients import Refused, read, read_close, say
from tests.integration.conftest import Connect, Spawn
from tests.integration.relayctl import Operator, check_failed
from tests.integration.waiting import eventually
from tests.integration.workers import clients_of
from tests.redis_servers import Redis

SECRET = "a secret for tests that is long enough for HS256"
CLOSED = (4005, "token revoked")


def token(**claims: object) -> str:
    """A signed token."""
    return jwt.encode(claims, SECRET)


def refused(daemon: Daemon, made: str) -> bool:
    """Whether a handshake with the token is refused with 401."""
    with daemon.connect(f"/ws/camera/r?refuse=close&token={made}") as client:
        say(client, {"x": 1})
        frame = next(iter(client), None)
        return frame is None and client.close_code == 4401


def echoes(client: ClientConnection) -> bool:
    """Whether a connection still works."""
    say(client, {"x": 1})
    return "x" in read(client)


def test_a_revoked_token_or_user_is_closed_and_refused_until_it_is_accepted_again(
    spawn: Spawn, connect: Connect
) -> None:
    daemon = spawn(auth_secret=SECRET)
    relayctl = Operator(daemon.folder, auth_secret=SECRET)
    one, two = token(sub="ada", jti="one"), token(sub="ada", jti="two")
    clients = [connect(daemon, f"/ws/camera/{n}?token={each}") for n, each in enumerate((one, two))]
    done = relayctl.json("token", "revoke", "--id", "one")
    assert done == {"count": 1, "everywhere": True, "kept": True, "missing": []}
    assert read_close(clients[0]) == CLOSED
    assert Refused(daemon, f"/ws/camera?token={one}").error == "unauthorized"
    assert echoes(clients[1])
    shown = relayctl("token", "revoke", "--user", "ada", "--for", "1h")
    assert shown.stdout.startswith("revoked until 2")
    assert shown.stdout.endswith("; 1 connection is closed\n")
    assert read_close(clients[1]) == CLOSED
    rows = relayctl("token", "revoked").stdout.split("\n")
    assert [row.split()[:2] for row in rows[1:3]] == [["token", "one"], ["user", "ada"]]
    checked = json.loads(relayctl("token", "check", "--json", stdin=two).stdout)
    assert (checked["good"], checked["why"]) == (False, "it has been revoked")
    daemon.stop()
    daemon.start()
    for each in (one, two):
        assert Refused(daemon, f"/ws/camera?token={each}").status == 401
    connect(daemon, f"/ws/camera?token={token(sub='bob')}")
    assert relayctl("token", "revoke", "--user", "ada", "--undo").returncode == 0
    connect(daemon, f"/ws/camera?token={two}")
    daemon.stop()
    daemon.start()
    connect(daemon, f"/ws/camera?token={two}")
    for each in (one, two, "ada"):
        assert f"token={each}" not in daemon.log


def test_a_token_itself_is_revoked_until_it_expires(spawn: Spawn, connect: Connect) -> None:
    daemon = spawn(auth_secret=SECRET)
    relayctl = Operator(daemon.folder, auth_secret=SECRET)
    made = relayctl.json("token", "create", "--user", "ada", "--expires", "1h")
    client = connect(daemon, f"/ws/camera?token={made['token']}")
    assert relayctl("token", "revoke", "-", stdin=made["token"]).returncode == 0
    assert read_close(client) == CLOSED
    (found,) = relayctl.json("token", "revoked")["found"]
    assert (found["value"], found["until"]) == (made["claims"]["jti"], made["claims"]["exp"] + 30)
    check_failed(relayctl("token", "revoke", "-", stdin=token(sub="a")), 2, "no id (jti)")
    check_failed(
        relayctl("token", "revoke", "-", stdin=token(jti="a", exp=1)), 2, "expired already"
    )
    check_failed(relayctl("token", "revoke"), 2, "a FILE, --id or --user")
    check_failed(relayctl("token", "revoke", "--user", "a" * 256), 2, "1 to 255")


def test_a_revocation_reaches_all_workers_and_all_processes_with_the_same_redis(
    spawn_workers: Spawn, spawn: Spawn, connect: Connect, redis: Redis
) -> None:
    settings = {"auth_secret": SECRET, "redis_url": f"unix://{redis.socket}"}
    workers, alone = spawn_workers(auth_secret=SECRET), spawn(**settings)
    made = token(sub="ada")
    header = {"Authorization": f"Bearer {made}"}
    clients = [
        *clients_of(workers, connect, 1, additional_headers=header),
        *clients_of(workers, connect, 2, additional_headers=header),
        connect(alone, "/ws/camera", additional_headers=header),
    ]
    relayctl = Operator(workers.folder, **settings)
    done = relayctl.json("token", "revoke", "--user", "ada")
    assert (done["count"], done["everywhere"], done["missing"]) == (len(clients) - 1, True, [])
    assert [read_close(client) for client in clients] == [CLOSED] * len(clients)
    late = spawn(**settings)  # it was not there
    for daemon in (workers, alone, late):
        assert Refused(daemon, f"/ws/camera?token={made}").status == 401
    assert relayctl("token", "revoke", "--user", "ada", "--undo").returncode == 0
    for daemon in (workers, alone, late):
        eventually(lambda daemon=daemon: not refused(daemon, made))  # type: ignore[misc]


def test_without_redis_a_revocation_holds_here_and_reaches_the_others_later(
    spawn: Spawn, connect: Connect, redis: Redis
) -> None:
    settings = {"auth_secret": SECRET, "redis_url": f"unix://{redis.socket}"}
    here, there = spawn(**settings), spawn(**settings)
    made = token(jti="one")
    clients = [connect(each, f"/ws/camera?token={made}") for each in (here, there)]
    redis.kill()
    relayctl = Operator(here.folder, **settings)
    done = relayctl("token", "revoke", "--id", "one")
    assert (done.returncode, done.stdout.count("1 connection is closed")) == (1, 1)
    assert "not on every process: Redis is away" in done.stderr
    assert read_close(clients[0]) == CLOSED
    assert Refused(here, f"/ws/camera?token={made}").status == 401
    assert echoes(clients[1])
    redis.start()
    assert read_close(clients[1]) == CLOSED
    assert Refused(there, f"/ws/camera?token={made}").status == 401
    # what other programs write there is checked
    redis.tell("ZADD", "relayd:denials", int(time.time()) + 60, "odd")
    redis.tell("PUBLISH", "relayd:denied", '{"kind":"all","value":"x","until":9e9,"made":0}')
    redis.tell("PUBLISH", "relayd:denied", b"\xff" * 5000)
    eventually(lambda: "invalid denials from Redis" in there.log)
    assert there.get("/healthz")[0] == 200


def test_a_full_list_reaches_the_other_processes_and_takes_no_more(
    spawn: Spawn, connect: Connect, tmp_path: Path, redis: Redis
) -> None:
    """One that comes back brings all of its 10,000 entries; the others write few times."""
    entries = [
        {"kind": "token", "value": str(n), "until": 9e9, "made": 1.0 + n} for n in range(MOST)
    ]
    file = tmp_path / "denials.json"
    settings = {"auth_secret": SECRET, "redis_url": f"unix://{redis.socket}"}
    there = spawn(**settings)
    file.write_text(json.dumps(entries))
    here = spawn(**settings, auth_denials_file=file)
    kept = there.folder / "var" / "denials.json"
    eventually(lambda: kept.exists() and len(json.loads(kept.read_text())) == MOST)
    assert Refused(there, f"/ws/camera?token={token(jti='9999')}").status == 401
    written = int(re.search(r"write_bytes: (\d+)", io(there.pid))[1])  # type: ignore[index]
    assert written < 100_000_000
    for daemon in (here, there):
        relayctl = Operator(daemon.folder, **settings)
        check_failed(relayctl("token", "revoke", "--id", "new"), 2, "The list is full")
        assert echoes(connect(daemon, f"/ws/camera?token={token(jti='new')}"))


def io(pid: int) -> str:
    """What the kernel has counted of the files of a process."""
    return Path(f"/proc/{pid}/io").read_text()


@pytest.mark.parametrize("text", ["[1]", "no json"])
def test_relayd_does_not_start_with_a_list_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "denials.json").write_text(text)
    daemon = Daemon(tmp_path, {"RELAYD_AUTH_DENIALS_FILE": "denials.json"})
    daemon.start(wait=False)
    assert daemon.process is not None
    assert daemon.process.wait(30) == 1
    assert "the denials cannot be read" in daemon.log
    assert "Traceback" not in daemon.log

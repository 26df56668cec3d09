"""A kind of path of its own: one module in `relays/` and one line in `paths.py`, nothing else.

Both are added to a copy of relayd, which is started as its users start it.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon import Daemon
from tests.integration.clients import read, read_rest, say, settle
from tests.integration.conftest import KEY, Connect, Dial, Spawn
from tests.integration.raw import handshake
from tests.integration.relayctl import Operator
from tests.integration.waiting import eventually
from tests.redis_servers import Redis

ROOT = Path(__file__).resolve().parents[2]

MODULE = '''\
"""`/ws/shout/{name}`: what is said goes to everyone under the name, in capitals."""

from relayd import wire
from relayd.names import Place
from relayd.relays.member import MemberFactory, MemberProtocol
from relayd.relays.paths import KINDS


class ShoutProtocol(MemberProtocol):
    entry = KINDS["shout"]

    async def admit(self, place: Place, params: dict[str, list[str]]) -> None:
        self.group = self.entry.group(place.name)
        await self.factory.groups.prepare(self.group)

    def received(self, payload: bytes, is_binary: bool) -> None:
        self.factory.groups.publish(self.group, wire.check_object(payload).upper())


class ShoutFactory(MemberFactory):
    protocol = ShoutProtocol
'''

LINE = """\
    Kind("shout", ("/ws/shout/{name}",), purpose="Everybody in capitals.", factory="ShoutFactory", \
needs=("groups",), fanned_out=True, published="Shouts.")
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of relayd, compiled modules and all, that has one kind of path more."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in ("relayd", "twisted", "schema", "etc", "clients"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "relayd" / "relays" / "shout.py").write_text(MODULE)
    table = tree / "relayd" / "relays" / "paths.py"
    head, end, tail = table.read_text().partition("    ),\n)\n")
    table.write_text(f"{head}    ),\n{LINE.rstrip()},\n)\n{tail}")
    assert end
    return tree


@pytest.fixture
def start(spawn: Spawn, tree: Path) -> Callable[..., tuple[Daemon, Operator]]:
    """Starts the copy; it, and `relayctl` of the same copy beside it."""

    def start(**settings: object) -> tuple[Daemon, Operator]:
        daemon = spawn(PYTHONPATH=tree, **settings)
        return daemon, Operator(daemon.folder, PYTHONPATH=tree, **settings)

    return start


def figure(daemon: Daemon, name: str) -> float:
    """A figure of the metrics, for the kind `shout`."""
    text = str(daemon.get("/metrics")[1])
    found = re.search(rf'(?m)^relayd_{name}{{kind="shout"}} (\S+)$', text)
    assert found, text
    return float(found[1])


def test_one_process_relays_shows_and_counts_a_path_of_its_own(
    start: Callable[..., tuple[Daemon, Operator]], connect: Connect, dial: Dial
) -> None:
    daemon, relayctl = start(api_key=KEY)
    here, there, other = (connect(daemon, f"/ws/shout/{name}") for name in ("a", "%61/", "b"))
    settle(here, there, other)

    with relayctl.streaming("tail", "shout/a") as stream:
        say(here, {"hello": 1})
        assert read(here) == read(there) == {"HELLO": 1}
        assert stream.next()["frame"] == {"HELLO": 1}
    assert relayctl.json("publish", "shout/a", '{"by": "operator"}') == {"clients": 2}
    published = daemon.post("/api/shout/a", b'{"by": "api"}', Authorization=f"Bearer {KEY}")
    assert published == (200, {"clients": 2})
    assert read_rest(here, there, other) == [[{"by": "operator"}, {"by": "api"}]] * 2 + [[]]

    assert figure(daemon, "connections") == 3
    assert figure(daemon, "groups") == 2
    assert figure(daemon, "messages_received_total") == 1
    assert [client["path"] for client in relayctl.json("clients", "--kind", "shout")["found"]] == [
        "/ws/shout/a", "/ws/shout/%61/", "/ws/shout/b",
    ]  # fmt: skip
    assert {"group": "shout/a", "members": 2} in relayctl.json("rooms")["found"]

    for path, sentence in (
        ("/ws/nowhere", "/ws/chat/{room}, /ws/push/{topic} and /ws/shout/{name}."),
        ("/ws/shout", "The path is /ws/shout/{name}."),
    ):
        raw = dial(daemon)
        raw.send(handshake(path))
        answer = raw.response()
        assert (answer.status, answer.json["error"]) == (404, "not_found")
        assert answer.json["message"].endswith(sentence)
    assert daemon.get("/ws/shout/a")[0] == 426
    page = daemon.get("/developers")[1]
    for words in ("/ws/shout/{name}", "Everybody in capitals.", "POST /api/shout/{name}"):
        assert words in page


def test_a_token_may_be_valid_for_a_path_of_its_own_alone(
    start: Callable[..., tuple[Daemon, Operator]], dial: Dial
) -> None:
    daemon, relayctl = start(auth_secret="0123456789" * 4)
    token = relayctl.json("token", "create", "--scope", "shout")["token"]
    statuses = []
    for path in ("/ws/shout/a", "/ws/camera"):
        raw = dial(daemon)
        raw.send(handshake(f"{path}?token={token}"))
        statuses.append(raw.response(bodyless=path.startswith("/ws/shout")).status)
    assert statuses == [101, 403]


def test_each_group_of_a_path_of_its_own_meets_in_one_of_two_workers(
    start: Callable[..., tuple[Daemon, Operator]], connect: Connect
) -> None:
    with Redis() as redis:
        daemon, relayctl = start(
            redis_url=f"unix://{redis.socket}", server_workers=2, server_spread="groups"
        )
        eventually(lambda: daemon.log.count("serves\n") == daemon.log.count(" is connected\n") == 2)
        names = [f"g{number}" for number in range(10)]
        groups = [[connect(daemon, f"/ws/shout/{name}") for _ in range(4)] for name in names]
        for first, *others in groups:
            say(first, {"hello": 1})
            assert [read(each) for each in (first, *others)] == [{"HELLO": 1}] * 4

        workers: dict[str, set[str]] = {}
        for client in relayctl.json("clients", "--kind", "shout")["found"]:
            workers.setdefault(client["path"], set()).add(client["id"].partition("-")[0])
        assert [len(found) for found in workers.values()] == [1] * len(names)
        assert set().union(*workers.values()) == {"w1", "w2"}

        with relayctl.streaming("tail", "shout/g0") as stream:
            assert relayctl.json("publish", "shout/g0", json.dumps({"by": "operator"}))
            assert stream.next()["frame"] == {"by": "operator"}
        assert figure(daemon, "connections") == 40
        assert figure(daemon, "messages_received_total") == len(names)
        # a tail counts in the worker it is in
        eventually(lambda: figure(daemon, "groups") == len(names))
        daemon.stop()

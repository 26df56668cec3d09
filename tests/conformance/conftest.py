"""Shared by the scenarios: one relayd for all kits, clients of kits, and their other sides."""

import contextlib
import itertools
import json
import uuid
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from websockets.sync.client import ClientConnection

from tests.cable import Cable
from tests.conformance.driver import Driver
from tests.conformance.kits import KITS, Kit
from tests.daemon import Daemon
from tests.integration.relayctl import Operator

SECRET = "a secret for tests that is long enough for HS256"
KEY = "a-key-for-tests"
RATE = 20
"""Frames a second that a client may send."""


def token(**claims: Any) -> str:
    """A signed token."""
    return jwt.encode(claims, SECRET)


@pytest.fixture(scope="session")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A relayd with tokens and the HTTP API, quick to notice silence; scenarios may restart it."""
    settings = {
        "RELAYD_AUTH_SECRET": SECRET,
        "RELAYD_API_KEY": KEY,
        "RELAYD_KEEPALIVE_PING_INTERVAL": "0.5",
        "RELAYD_LIMITS_MESSAGES_PER_SECOND": str(RATE),
        "RELAYD_LIMITS_SEND_BUFFER": "100000",
        "RELAYD_CHAT_HISTORY_BYTES": "50000000",
    }
    node = Daemon(tmp_path_factory.mktemp("conformance"), settings).start()
    yield node
    node.stop()
    assert "Traceback" not in node.log, node.log


class Scene:
    """What a scenario has: the relay, clients of the kit, and other programs.

    Attributes:
        relay: the daemon.
        kit: whose clients are started.
    """

    def __init__(self, relay: Daemon, kit: Kit, stack: contextlib.ExitStack) -> None:
        self.relay = relay
        self.kit = kit
        self._stack = stack
        self._drivers: list[Driver] = []
        self._others: dict[str, ClientConnection] = {}
        self._numbers = itertools.count()
        self._run = uuid.uuid4().hex[:8]

    def fresh_name(self, kind: str) -> str:
        """The name of a group, room, pair or topic that nobody has used."""
        if kind in ("phone", "headset"):
            return str(uuid.uuid4())
        return f"{kind}-{self._run}-{next(self._numbers)}"

    def start(self, kind: str, name: str = "", url: str = "", **options: object) -> Driver:
        """Starts a client of the kit, a phone beside its headset; it connects by itself."""
        if not name:
            name = self.fresh_name(kind)
            if kind == "phone":
                self.join("headset", name)
        driver = Driver(self.kit, kind, url or self.relay.ws_url, name, **options)
        self._drivers.append(driver)
        return driver

    def start_all(self, *kinds: str, **options: Any) -> dict[str, Driver]:
        """Starts a client of each of these kinds that the kit has; they are connected."""
        drivers = {kind: self.start(kind, **options) for kind in self.kit.having(kinds)}
        for driver in drivers.values():
            driver.state("connected")
        return drivers

    def join(self, kind: str, name: str) -> ClientConnection:
        """Connects a plain client under a name, instead of one that did so before."""
        sides = {"phone": "difficulty/android", "headset": "difficulty/unity"}
        client = self.relay.connect(
            f"/ws/{sides.get(kind, kind)}/{name}", max_queue=None, ping_interval=None
        )
        self._others[name] = self._stack.enter_context(client)
        return client

    def other(self, name: str) -> ClientConnection:
        """The plain client under a name."""
        return self._others[name]

    def cable(self) -> Cable:
        """A cable to the relay."""
        return self._stack.enter_context(Cable(self.relay.port))

    def publish(self, kind: str, name: str, body: object) -> None:
        """Publishes to a topic or room by HTTP."""
        headers = {"Authorization": f"Bearer {KEY}"}
        status, answer = self.relay.post(
            f"/api/{kind}/{name}", json.dumps(body).encode(), **headers
        )
        assert status == 200, answer

    def revoke(self, user: str) -> None:
        """Revokes the tokens of a user, as an operator does."""
        relayctl = Operator(self.relay.folder, auth_secret=SECRET)
        assert relayctl("token", "revoke", "--user", user).returncode == 0

    def end(self) -> None:
        """Ends all clients of the kit together; each ends well."""
        with contextlib.ExitStack() as waits:
            for driver in self._drivers:
                driver.end()
                waits.callback(driver.wait)


@pytest.fixture
def scene(relay: Daemon, kit: Kit) -> Iterator[Scene]:
    """A scene of its own for each test."""
    with contextlib.ExitStack() as stack:
        made = Scene(relay, kit, stack)
        yield made
        made.end()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs every scenario with every kit, one kit after the other."""
    if "kit" in metafunc.fixturenames:
        kits = [kit for kit in KITS if metafunc.function.scenario.concerns(kit)]
        metafunc.parametrize("kit", kits, ids=[kit.name for kit in kits], scope="class")

"""clients/python without a network: how long it waits after what, and what it sends again."""

import itertools
import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import relayd_client as kit
from twisted.internet.task import Clock


class FakeLink:
    """A connection that notes what is done with it."""

    is_busy = False

    def __init__(self, url: str, headers: Mapping[str, str], listener: kit.Listener) -> None:
        self.url = url
        self.headers = headers
        self.listener = listener
        self.sent: list[dict[str, Any]] = []
        self.paused = False
        self.end = ""

    def send(self, text: str) -> None:
        self.sent.append(json.loads(text))

    def close(self) -> None:
        self.end = "closed"

    def abort(self) -> None:
        self.end = "aborted"

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def ended(self) -> Any:
        raise NotImplementedError

    def read(self, **frame: object) -> None:
        """Relayd sends a frame."""
        self.listener.received(json.dumps(frame))


class FakeNetwork:
    """Links that a test has opened, and a clock that it advances."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.links: list[FakeLink] = []

    def dial(self, url: str, headers: dict[str, str], listener: kit.Listener) -> FakeLink:
        self.links.append(FakeLink(url, headers, listener))
        return self.links[-1]

    def later(self, seconds: float, action: Callable[[], Any]) -> kit.Timer:
        return self.clock.callLater(seconds, action)

    def settle(
        self, value: Any, done: Callable[[Any], None], failed: Callable[[BaseException], None]
    ) -> None:
        done(value)

    def promise(self) -> Any:
        raise NotImplementedError

    def open(self) -> FakeLink:
        """The last try succeeds."""
        self.links[-1].listener.opened()
        return self.links[-1]


class Scene:
    """A client on a fake network, and its events."""

    def __init__(self, kind: Callable[..., Any] = kit.Camera, **options: Any) -> None:
        self.network = FakeNetwork()
        self.events: list[kit.Event] = []
        self.client = kind(
            "https://relay.test/folder/",
            "a b",
            network=self.network,
            on_event=self.events.append,
            **options,
        )
        self.client.connect()


@pytest.fixture(autouse=True)
def longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest of all random waits."""
    monkeypatch.setattr(random, "uniform", lambda least, most: most)


def test_the_longest_waits_double_up_to_half_a_minute_and_begin_again_after_five_seconds() -> None:
    scene = Scene()
    waits = []
    for _ in range(7):
        scene.network.links[-1].listener.failed("no way")
        waits.append(scene.client.state.again_in)
        scene.network.clock.advance(scene.client.state.again_in)
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    scene.network.open().listener.closed(1001, "restart")
    assert scene.client.state.again_in == 30
    scene.network.clock.advance(30)
    link = scene.network.open()
    scene.network.clock.advance(5)
    link.listener.closed(1001, "restart")
    assert scene.client.state.again_in == 1


@pytest.mark.parametrize(
    ("code", "name", "wait"),
    [
        *((1001, "lost", 1), (1012, "lost", 1), (1006, "lost", 1), (1011, "lost", 1)),
        *((4002, "lost", 1), (4003, "lost", 8), (4004, "lost", 8), (4503, "lost", 6)),
        *((4001, "refused", None), (1000, "refused", None), (1009, "refused", None)),
        *((4005, "refused", None), (4403, "refused", None), (4408, "lost", 1)),
    ],
)
def test_a_close_has_its_own_wait_or_is_final(code: int, name: str, wait: float | None) -> None:
    scene = Scene()
    scene.network.open().listener.closed(code, "")
    assert (scene.client.state.name, scene.client.state.again_in) == (name, wait)
    assert scene.client.state.error.close_code == code


@pytest.mark.parametrize(
    ("status", "headers", "name", "wait"),
    [
        (429, {"retry-after": "7"}, "lost", 8),
        (503, {}, "lost", 6),
        (502, {}, "lost", 1),
        (404, {}, "refused", None),
        (401, {}, "refused", None),
    ],
)
def test_a_refusal_has_its_own_wait_or_is_final(
    status: int, headers: dict[str, str], name: str, wait: float | None
) -> None:
    scene = Scene()
    body = b'{"error": "some_code", "message": "A sentence."}'
    scene.network.links[0].listener.refused(status, headers, body)
    state = scene.client.state
    assert (state.name, state.again_in) == (name, wait)
    assert (state.error.status, state.error.code) == (status, "some_code")


def test_a_new_token_is_asked_for_once_and_goes_into_the_next_try() -> None:
    tokens = itertools.count()
    asked = []

    def token(renew: bool) -> str:
        asked.append(renew)
        return f"token-{next(tokens)}"

    scene = Scene(token=token)
    assert scene.network.links[0].headers == {"Authorization": "Bearer token-0"}
    scene.network.open().listener.closed(4005, "token expired")
    scene.network.clock.advance(1)
    assert scene.network.links[1].headers == {"Authorization": "Bearer token-1"}
    assert asked == [False, True]


def test_the_path_is_below_that_of_the_base_with_the_name_encoded() -> None:
    url = "wss://relay.test/folder/ws/camera/a%20b?senders=1&heartbeat=1"
    assert Scene(query={"senders": 1}).network.links[0].url == url


def test_a_connection_without_a_heartbeat_in_time_is_dropped() -> None:
    scene = Scene()
    link = scene.network.open()
    link.read(status="heartbeat", seconds=30)
    scene.network.clock.advance(44)
    link.read(x=1, y=2, z=3)
    scene.network.clock.advance(44)
    assert scene.client.state.name == "connected"
    scene.network.clock.advance(1)
    assert (scene.client.state.name, link.end) == ("lost", "aborted")


def test_a_connection_that_dies_before_its_first_heartbeat_is_dropped() -> None:
    scene = Scene()
    link = scene.network.open()
    scene.network.clock.advance(44)
    assert scene.client.state.name == "connected"
    scene.network.clock.advance(1)
    assert (scene.client.state.name, link.end) == ("lost", "aborted")


def test_a_server_without_heartbeats_may_be_silent() -> None:
    scene = Scene()
    scene.network.open().read(x=1, y=2, z=3)
    scene.network.clock.advance(1000)
    assert scene.client.state.name == "connected"


def test_a_client_that_is_closed_as_it_is_lost_stays_closed() -> None:
    scene = Scene()
    told = scene.events.append

    def close_at_once(event: kit.Event) -> None:
        told(event)
        if isinstance(event, kit.State) and event.name == "lost":
            scene.client.close()

    scene.client._on_event = close_at_once
    scene.network.open().listener.closed(1001, "restart")
    assert scene.client.state.name == "closed"
    scene.network.clock.advance(60)
    assert len(scene.network.links) == 1


def test_a_message_is_sent_again_until_its_copy_comes_and_then_the_next() -> None:
    scene = Scene(kit.Chat)
    first, second = scene.client.say("one"), scene.client.say("two")
    link = scene.network.open()
    assert link.sent == [{"message": "one", "tag": first}]
    scene.network.clock.advance(10)  # no copy
    assert link.end == "aborted"
    scene.network.clock.advance(1)
    link = scene.network.open()
    link.read(error="store_unavailable", message="Not kept.", tag=first)
    scene.network.clock.advance(3)
    assert link.sent == [{"message": "one", "tag": first}] * 2
    link.read(message="one", id=5, time="", tag=first)
    assert link.sent[2:] == [{"message": "two", "tag": second}]
    link.read(error="forbidden", message="You may not.", tag=second)
    assert [each.error.tag for each in scene.events if isinstance(each, kit.Problem)] == [second]
    assert not scene.client.outgoing
    link.listener.closed(1001, "restart")
    scene.network.clock.advance(2)
    assert scene.network.links[-1].url.endswith("?since=5&heartbeat=1")


def test_a_message_that_is_too_big_fails_alone() -> None:
    scene = Scene(kit.Chat)
    scene.client.say("long")
    short = scene.client.say("short")
    scene.network.open().listener.closed(1009, "")
    scene.network.clock.advance(1)
    assert scene.network.open().sent == [{"message": "short", "tag": short}]

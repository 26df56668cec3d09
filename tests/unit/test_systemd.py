"""Notifications to systemd, and their retries if systemd reads too late."""

import socket

import pytest
from twisted.internet.task import Clock

from relayd.systemd import Condition, Notifier, Systemd


class Late(Systemd):
    """Has room only if it is told so."""

    def __init__(self, watchdog: float = 0.0) -> None:
        super().__init__(notify_socket="@nobody", watchdog=watchdog)
        self.room = True
        self.attempts = 0
        self.notified: list[str] = []

    def notify(self, *lines: str) -> bool:
        self.attempts += 1
        if self.room:
            self.notified += [line for line in lines if not line.startswith("MONOTONIC_USEC=")]
        return self.room


class Scene:
    """A notifier and the clock it lives by."""

    def __init__(self, watchdog: float = 0.0) -> None:
        self.clock = Clock()
        self.systemd = Late(watchdog)
        self.status = "Serving: 0 connections"
        self.notifier = Notifier(self.clock, self.systemd)

    def serve(self) -> None:
        """The process serves."""
        self.notifier.serving(lambda: Condition(0, self.status))

    def reload(self) -> None:
        """The process reads its configuration again, in no time."""
        with self.notifier.reloading():
            pass

    def later(self, seconds: float) -> None:
        """Time passes, in small steps."""
        self.clock.pump([0.05] * round(seconds / 0.05))


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_the_notifier_reports_readiness_and_a_status(scene: Scene) -> None:
    scene.serve()
    scene.status = "Serving: 1 connections"
    scene.later(5.1)
    assert scene.systemd.notified == [
        "READY=1",
        "STATUS=Serving: 0 connections",
        "STATUS=Serving: 1 connections",
    ]


def test_an_unchanged_status_is_not_sent_again(scene: Scene) -> None:
    scene.serve()
    scene.later(60)
    assert scene.systemd.notified == ["READY=1", "STATUS=Serving: 0 connections"]


def test_notifications_that_found_no_room_arrive_in_order_and_once(scene: Scene) -> None:
    scene.systemd.room = False
    scene.serve()
    scene.notifier.stopping()
    scene.status = "Stopping: 0 connections"
    scene.later(3)
    assert scene.systemd.notified == []
    scene.systemd.room = True
    scene.later(0.15)
    assert scene.systemd.notified == ["READY=1", "STOPPING=1", "STATUS=Stopping: 0 connections"]
    scene.later(60)
    assert len(scene.systemd.notified) == 3


def test_a_heartbeat_is_not_delayed_by_a_refused_one() -> None:
    scene = Scene(watchdog=4)
    scene.serve()
    scene.systemd.notified.clear()
    scene.systemd.room = False
    scene.later(2)
    scene.systemd.room = True
    scene.later(0.2)
    assert scene.systemd.notified == ["WATCHDOG=1"]


def test_the_notifier_retries_ten_times_a_second_however_much_is_pending(scene: Scene) -> None:
    scene.systemd.room = False
    scene.serve()
    scene.notifier.stopping()
    before = scene.systemd.attempts
    scene.later(1)
    # each time what it is to know first, and the status
    assert 18 <= scene.systemd.attempts - before <= 22


@pytest.mark.parametrize("ready", [False, True])
def test_unsent_reload_notifications_do_not_accumulate(scene: Scene, ready: bool) -> None:
    scene.systemd.room = ready
    scene.serve()
    scene.systemd.room = False
    for _ in range(1000):
        scene.reload()
    scene.notifier.stopping()
    scene.systemd.room = True
    scene.later(1)
    told = [line for line in scene.systemd.notified if not line.startswith("STATUS")]
    assert told == ["READY=1", *(["RELOADING=1", "READY=1"] if ready else []), "STOPPING=1"]


def test_an_announced_reload_always_ends(scene: Scene) -> None:
    """Otherwise the unit stays "reloading"."""
    scene.serve()
    with scene.notifier.reloading():
        scene.systemd.room = False
    scene.reload()
    scene.systemd.room = True
    scene.later(1)
    assert scene.systemd.notified[2:] == ["RELOADING=1", "READY=1"]


def test_a_reload_that_fails_ends_for_systemd_too(scene: Scene) -> None:
    scene.serve()
    with pytest.raises(RuntimeError), scene.notifier.reloading():
        raise RuntimeError("a bug")
    assert scene.systemd.notified[2:] == ["RELOADING=1", "READY=1"]


def test_a_process_that_does_not_serve_yet_sends_no_status(scene: Scene) -> None:
    scene.systemd.room = False
    scene.notifier.stopping()
    scene.systemd.room = True
    scene.later(1)
    assert scene.systemd.notified == ["STOPPING=1"]


def test_passed_sockets_are_described_after_this_process_has_closed_its_own() -> None:
    """As the parent of workers does; a reload asks again."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        systemd = Systemd(sockets=(listening.fileno(),))
        described = systemd.endpoints()
    assert described == (f"tcp:{described[0].split(':')[1]}:interface=127.0.0.1",)
    assert systemd.endpoints() == described

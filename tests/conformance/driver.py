"""One client of a kit: a driver's process, its commands and its events."""

import json
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from tests.conformance.kits import Kit

PATIENCE = 30.0
Event = dict[str, Any]


class Driver:
    """A driver with one client, which connects at once.

    Args:
        kit: of the driver.
        kind: `camera`, `chat`, `phone`, `headset` or `push`.
        url: of relayd, such as `ws://127.0.0.1:8080`.
        name: of the group, room or topic, or the UUID.
        options: such as `token="…"` and `since=5`.

    Attributes:
        events: all so far.
    """

    def __init__(self, kit: Kit, kind: str, url: str, name: str, **options: object) -> None:
        given = [f"{key}={value}" for key, value in options.items()]
        self._process = subprocess.Popen(
            [*kit.command(), kind, url, name, "fast=1", *kit.options, *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.events: list[Event] = []
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Driver":
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(PATIENCE)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._reader.join(PATIENCE)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self.events.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def tell(self, **command: object) -> None:
        """Sends a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def send(self, **frame: object) -> None:
        """Has the client send something."""
        self.tell(send=frame)

    def until(self, event: str, after: int = 0, **members: object) -> Event:
        """Returns the first such event that came, or comes.

        Args:
            event: its kind.
            after: how many events are not looked at.
            **members: what it has, all of them.
        """

        def found() -> list[Event]:
            wanted = {"event": event, **members}
            return [each for each in self.events[after:] if wanted.items() <= each.items()]

        return self._wait(lambda: bool(found()), f"{event} {members}") and found()[0]

    def state(self, name: str, after: int = 0, **members: object) -> Event:
        """As `until`, for a state."""
        return self.until("state", after, name=name, **members)

    def all(self, event: str) -> list[Event]:
        """All such events so far."""
        return [each for each in self.events if each["event"] == event]

    def _wait(self, condition: Callable[[], bool], what: str) -> Any:
        with self._news:
            self._news.wait_for(lambda: condition() or self._ended, PATIENCE)
        assert condition(), f"no {what} in {self.events[-40:]}"
        return True

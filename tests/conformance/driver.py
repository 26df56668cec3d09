"""One client of a kit, in a process of its own that is told what to do, and says what it notices.

A driver is a small program in the language of the kit, in `drivers/`:

    DRIVER KIND URL NAME [option=value …]

- KIND is camera, chat, phone, headset or push; URL the base, such as ws://127.0.0.1:8080, perhaps
  with a folder at its end; NAME the group, room, UUID or topic;
- options: `token=…`, `since=…` (chat), `fast=1` (waits and back-off are a twentieth, an option of
  the kit's constructor that is for tests); an entry of `kits.py` may add some of its own.

It connects, reads one JSON command a line, writes one JSON event a line at once, logs to stderr,
and ends with status 0 at the end of its standard input.

Commands: `{"send": {…}}` (a pose; `{"message": "hi"}`; `{"difficulty": 1}`), with `"times": n` so
often, `{"token": "…"}` (what the token callback of the kit returns from now on), `{"close": true}`.

Events, which may have further members:

- `{"event": "state", "name": "connecting|connected|lost|waiting|refused|closed", "again_in":
  seconds or null, "error": code or "", "status": n, "close_code": n, "message": "…"}`;
- `{"event": "pose", "x": …, "y": …, "z": …}`;
- `{"event": "message", "message": "…", "id": "…", "tag": "…", "mine": bool}`, each message once;
  `{"event": "sent", "tag": "…"}`: the copy of one's own acknowledged it; `{"event": "gap"}`;
- `{"event": "assignment", "quiz_id": […], "action_id": n}`;
- `{"event": "received"}`, `{"event": "headset", "here": bool}`;
- `{"event": "push", "data": {…}}`;
- `{"event": "problem", "error": code, "message": "…"}`: about what was sent.
"""

import json
import subprocess
import tempfile
import threading
from typing import Any

import pytest

from tests.conformance.kits import Kit
from tests.integration.clients import PATIENCE

Event = dict[str, Any]


class Driver:
    """A driver that runs, with one client, which connects at once.

    Args:
        kit: of the driver.
        kind: of `EVERY_KIND`.
        url: of relayd.
        name: of the group, room or topic, or the UUID.
        **options: such as `token="…"` and `since=5`.

    Attributes:
        events: all that it has said.
    """

    def __init__(self, kit: Kit, kind: str, url: str, name: str, **options: object) -> None:
        self.kind = kind
        self.name = name
        self.url = url
        self.events: list[Event] = []
        self._read: dict[
            str, int
        ] = {}  # for each kind of event: how many of all `until` has passed
        self._news = threading.Condition()
        self._ended = False
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        given = [f"{key}={value}" for key, value in options.items()]
        self._process = subprocess.Popen(
            [*kit.command(), kind, url, name, "fast=1", *kit.options, *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=tempfile.gettempdir(),  # where a runtime may leave what is about its own crash
            text=True,
            encoding="utf-8",
        )
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self.events.append(json.loads(line))
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def tell(self, **command: object) -> None:
        """Gives it a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def until(self, event: str, **members: object) -> Event:
        """The next event of this kind with these members, which may be there already.

        Events of other kinds have an order of their own.
        """

        with self._news:
            self._news.wait_for(lambda: self._ended or self._find(event, members), PATIENCE)
            found = self._find(event, members)
            if found:
                self._read[event] = found
                return self.events[found - 1]
        pytest.fail(f"{self.kind}: no {event} with {members} came; it said\n{self.story()}")

    def _find(self, event: str, members: Event) -> int:
        """How many events have passed with the next one that is meant; 0 for none."""
        wanted = {"event": event, **members}.items()
        for place in range(self._read.get(event, 0), len(self.events)):
            found = self.events[place]
            if all(name in found and found[name] == value for name, value in wanted):
                return place + 1
        return 0

    def state(self, name: str, **members: object) -> Event:
        """The next state of this name."""
        return self.until("state", name=name, **members)

    def all(self, event: str) -> list[Event]:
        """All events of a kind so far."""
        with self._news:
            return [each for each in self.events if each["event"] == event]

    def story(self) -> str:
        """All that it has said, and its standard error."""
        self._errors.seek(0)
        events = "\n".join(
            f"{'  ' if place < self._read.get(event['event'], 0) else '* '}{json.dumps(event)}"
            for place, event in enumerate(self.events)
        )
        return f"{events}\n{self._errors.read()}"

    def end(self) -> None:
        """Ends its standard input, and with that the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait(self) -> None:
        """Returns when it has ended, with status 0 if it is well."""
        try:
            status = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            status = -1
        self._reader.join(PATIENCE)
        story = self.story()
        self._errors.close()
        assert self._process.stdout is not None
        self._process.stdout.close()
        assert status == 0, f"{self.kind} ended with {status}; it said\n{story}"

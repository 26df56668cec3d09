"""A client of server-sent events, as the WHATWG has browsers read them (HTML, section 9.2.6)."""

import http.client
import json
from typing import Any, NamedTuple

from tests.integration.clients import PATIENCE


class Event(NamedTuple):
    """One event: its fields but `data`, as they came, and the JSON of its data."""

    fields: dict[str, str]
    payload: Any


class Events:
    """A client of events.

    Args:
        port: of the server.
        path: what to request.
        secure: the TLS of a client; None for none.
        fields: of the request.
    """

    def __init__(self, port: int, path: str, secure: Any = None, **fields: str) -> None:
        if secure is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        else:
            self._connection = http.client.HTTPSConnection(
                "127.0.0.1", port, timeout=PATIENCE, context=secure
            )
        self._connection.request("GET", path, headers=fields)
        self.answer = self._connection.getresponse()

    def read(self) -> Event:
        """The next event."""
        fields: dict[str, str] = {}
        lines: list[str] = []
        while (line := self.answer.readline().decode()) != "\n" or not lines:
            assert line, "the stream has ended"
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "data":
                lines.append(value)
            elif name.strip(":"):  # no comment
                fields[name] = value
        return Event(fields, json.loads("\n".join(lines)))

    def next(self) -> tuple[str, str, Any]:
        """Name, id and JSON of the next event."""
        event = self.read()
        return event.fields.get("event", "message"), event.fields.get("id", ""), event.payload

    def hello(self) -> "Events":
        """Reads the first event."""
        assert self.next()[0] == "hello"
        return self

    def close(self) -> None:
        self.answer.close()
        self._connection.close()

"""The console of a spawned relayd, as the browser of an operator uses it."""

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from relayd.console.passwords import hash_password
from tests.daemon import Daemon
from tests.integration.raw import Response

PASSWORD = "a password for tests"
HASH = hash_password(PASSWORD, log=10)


class ConsoleClient:
    """One browser; each request has a connection of its own, so with workers any of them answers.

    Attributes:
        cookie: of the session; "" without one.
    """

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.cookie = ""

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        """The answer to a request; a body that is no text is sent as JSON."""
        connection, answer = self._begin(method, path, body, headers)
        with connection:
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Response(answer.status, found, answer.read())

    def api(self, path: str, body: Any = None, method: str = "") -> Any:
        """The JSON of a request that succeeds, below /console/api/."""
        method = method or ("GET" if body is None else "POST")
        reply = self.ask(method, f"/console/api/{path}", body)
        assert reply.status == 200, reply
        return reply.json

    def login(self, password: str = PASSWORD) -> Response:
        """Sends the form; keeps the cookie."""
        reply = self.ask("POST", "/console/login", urlencode({"password": password}))
        if "set-cookie" in reply.headers:
            self.cookie = reply.headers["set-cookie"].partition(";")[0]
        return reply

    def follow(self, id: str) -> Iterator[Any]:
        """The lines of a trace."""
        connection, answer = self._begin("GET", f"/console/api/trace?id={id}", None, {})
        with connection:
            assert answer.status == 200
            for line in answer:
                yield json.loads(line)

    def _begin(
        self, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> tuple["_Connection", http.client.HTTPResponse]:
        given = {"Origin": self.daemon.url, "Cookie": self.cookie, **headers}
        if body is not None and not isinstance(body, str | bytes):
            body = json.dumps(body)
        connection = _Connection("127.0.0.1", self.daemon.port, timeout=20)
        connection.request(
            method, path, body, {name: value for name, value in given.items() if value}
        )
        return connection, connection.getresponse()


class _Connection(http.client.HTTPConnection):
    def __enter__(self) -> "_Connection":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

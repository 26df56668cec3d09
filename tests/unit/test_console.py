"""The console behind its password: sessions, origins, attempts, and what a stranger gets of it."""

import json
import time
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import quote

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from relayd.access.denials import Denial, Denials
from relayd.config import Api, Config, Proxy
from relayd.config import Console as Settings
from relayd.config.checks import check_password_hash
from relayd.config.current import Current
from relayd.console.attempts import BURST, MOST_ADDRESSES, MOST_WAITING, PAUSE, Attempts
from relayd.console.console import Console
from relayd.console.feed import MOST_CONSOLES, MOST_SHOWN, MOST_STREAMS, Feed
from relayd.console.passwords import hash_password, verify
from relayd.console.sessions import COOKIE, Session, Sessions, set_cookie
from relayd.control.messages import Done, Listing, Pair, Room
from relayd.errors import Refusal
from relayd.web.answers import Sink, Stream
from relayd.web.site import build_site
from tests.unit.fakes import failure, has_fired, success
from tests.unit.web_fakes import Client, FakeBackend, Reply

NOW = 1_800_000_000.0
PASSWORD = "a password for tests"
ORIGIN = "http://relay.example:8080"
PATHS = (
    *("/console", "/console/", "/console/quizzes", "/console/nothing", "/console/login/x"),
    *("/console/api/live", "/console/api/quizzes/export", "/console/api/nothing"),
)


@cache
def line(password: str = PASSWORD) -> str:
    """A hash that costs little."""
    return hash_password(password, log=10)


class Threads(Clock):
    """A reactor whose threads work when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[Callable[[], None]] = []

    def getThreadPool(self) -> "Threads":  # noqa: N802
        return self

    def callInThreadWithCallback(  # noqa: N802
        self, done: Callable[[bool, Any], None], work: Callable[..., Any], *args: Any
    ) -> None:
        def job() -> None:
            try:
                result = work(*args)
            except Exception:
                done(False, Failure())
            else:
                done(True, result)

        self.jobs.append(job)

    def callFromThread(self, call: Callable[..., None], *args: Any) -> None:  # noqa: N802
        call(*args)

    def work(self) -> None:
        """Does what the threads have to do."""
        while self.jobs:
            self.jobs.pop(0)()


class Operations:
    """Stands for a process; notes the commands."""

    def __init__(self, denials: Denials) -> None:
        self.denials = denials
        self.commands: list[object] = []
        self.sinks: list[Sink] = []

    async def live(self, since: float) -> dict[str, float]:
        return {"since": since}

    async def rooms(self) -> Listing[Room]:
        found = [Room(group=f"chat/r{n}", members=n) for n in range(300)]
        return Listing(found=found, total=len(found))

    async def pairs(self) -> Listing[Pair]:
        return Listing(found=[], total=0)

    async def trace(self, id: str) -> Stream:
        def open_(sink: Sink) -> Callable[[], None]:
            self.sinks.append(sink)
            return lambda: self.sinks.remove(sink)

        return Stream(open_)

    async def kick(self, kick: object) -> Done:
        self.commands.append(kick)
        return Done(count=1)

    async def deny(self, denial: Denial) -> Done:
        self.denials.add(denial)
        return Done(count=0)


class Scene:
    """A console on a site, and one browser in front of it."""

    def __init__(self, *, on: bool = True, **more: Any) -> None:
        settings = Settings(password_hash=line() if on else "")
        self.current = Current(Config(api=Api(key="k"), console=settings, **more))
        self.denials = Denials(time.time)
        self.operations = Operations(self.denials)
        self.reactor = Threads()
        operations: Any = self.operations
        database: Any = None
        console = Console(
            self.current, self.reactor, operations=operations, denials=self.denials,
            database=database,
        )  # fmt: skip
        backend = FakeBackend(config=self.current.config)
        self.site = build_site(backend, self.reactor, [console])
        self.cookie = ""

    def ask(
        self, method: str, path: str, body: bytes = b"", *, origin: str = ORIGIN, headers: str = ""
    ) -> Reply:
        client = Client(self.site)
        lines = f"Origin: {origin}\r\n" if origin else ""
        lines += f"Cookie: other=1; {self.cookie}\r\n" if self.cookie else ""
        lines += f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: relay.example:8080\r\n{lines}{headers}\r\n"
        client.send(head.encode() + body)
        self.reactor.work()
        [reply] = client.replies(head=method == "HEAD")
        return reply

    def login(self, password: str = PASSWORD, **more: Any) -> Reply:
        reply = self.ask("POST", "/console/login", f"password={quote(password)}".encode(), **more)
        if "set-cookie" in reply.headers:
            self.cookie = reply.headers["set-cookie"].partition(";")[0]
        return reply


def test_a_password_is_verified_by_its_hash_alone() -> None:
    assert verify(line(), PASSWORD)
    assert not verify(line(), PASSWORD + " ")
    assert not verify(line(), "")
    assert verify(line("pässword 12 😀"), "pässword 12 😀")
    check_password_hash(line())
    assert hash_password(PASSWORD, log=10) != line()  # another salt


@pytest.mark.parametrize(
    "text", ["secret", "scrypt:15:8:1:short:short", "scrypt:99:8:1:" + "a" * 22 + ":" + "a" * 43]
)
def test_a_hash_of_another_form_is_refused_by_the_configuration(text: str) -> None:
    with pytest.raises(ValueError, match="relayctl console password"):
        check_password_hash(text)


def sessions(key: str = "a hash", age: float = 3600.0, now: float = NOW) -> Sessions:
    return Sessions(lambda: key, lambda: age, lambda: now, lambda denial: denial == "console-ended")


def test_a_session_is_read_back_until_its_age() -> None:
    session, token = sessions().issue()
    cookies = f"a=b; {COOKIE}={token}; c=d"
    assert sessions().read(cookies) == session
    assert session.end == NOW + 3600
    assert sessions(now=NOW + 3599).read(cookies) == session
    assert sessions(now=NOW + 3600).read(cookies) is None
    assert sessions(age=60).read(cookies) is None  # the configured age is shorter by now
    assert sessions(key="another hash").read(cookies) is None
    assert sessions(key="").read(cookies) is None


def test_a_forged_or_changed_session_is_none() -> None:
    session, token = sessions().issue()
    id, end, signature = token.split(".")
    _, other = sessions().issue()
    for forged in (
        "", token[:-1], token + "x", f"{id}.{session.end + 1}.{signature}",
        f"{other.split('.')[0]}.{end}.{signature}", f"{id}.{end}.", f"{id}.{end}.{'A' * 43}",
        f"{id.upper()}.{end}.{signature}", f"{id}.0{end}.{signature}", "a.b.c", '"',
    ):  # fmt: skip
        assert sessions().read(f"{COOKIE}={forged}") is None, forged
    assert sessions().read(f"{COOKIE}=x; {COOKIE}={token}") == session
    forged = f"{COOKIE}={id}.{session.end}.{'A' * 43};"
    assert sessions().read(forged * 100 + f"{COOKIE}={token}") == session
    assert sessions().read(None) is None


def test_the_cookie_is_for_the_console_alone_and_not_for_scripts() -> None:
    cookie = set_cookie("t", 60, secure=True)
    assert cookie == (
        "relayd_console=t; Path=/console/; Max-Age=60; HttpOnly; SameSite=Strict; Secure"
    )
    assert "Secure" not in set_cookie("t", 60, secure=False)


def attempts(reactor: Threads) -> Attempts:
    return Attempts(reactor, lambda line, password: password == "right")


def check(tried: Attempts, client: str, password: str = "wrong") -> "Deferred[bool]":
    return Deferred.fromCoroutine(tried.check(client, "hash", password))


def test_an_address_has_a_few_attempts_and_then_one_every_few_seconds() -> None:
    reactor = Threads()
    tried = attempts(reactor)
    for _ in range(BURST):
        waiting = check(tried, "192.0.2.1")
        reactor.work()
        assert success(waiting) is False
    refusal: Any = failure(check(tried, "192.0.2.1"), Refusal)
    assert (refusal.status, refusal.retry_after) == (429, PAUSE)
    assert not reactor.jobs, "a refused attempt costs no thread"
    other = check(tried, "192.0.2.2", "right")
    reactor.work()
    assert success(other) is True
    reactor.advance(PAUSE)
    waiting = check(tried, "192.0.2.1")
    reactor.work()
    assert success(waiting) is False
    assert failure(check(tried, "192.0.2.1"), Refusal)


def test_the_addresses_of_one_ipv6_network_are_one() -> None:
    reactor = Threads()
    tried = attempts(reactor)
    for number in range(BURST):
        check(tried, f"2001:db8::{number}")
        reactor.work()
    assert failure(check(tried, "2001:db8::ffff:1"), Refusal)
    assert not has_fired(check(tried, "2001:db8:0:1::1"))


def test_a_right_password_makes_its_address_free_again() -> None:
    reactor = Threads()
    tried = attempts(reactor)
    for _ in range(3 * BURST):
        waiting = check(tried, "unix:", "right")
        reactor.work()
        assert success(waiting)


def test_one_password_is_tried_at_a_time_and_few_wait() -> None:
    reactor = Threads()
    tried = attempts(reactor)
    waiting = [check(tried, f"192.0.2.{number}") for number in range(MOST_WAITING + 1)]
    assert len(reactor.jobs) == 1
    refusal: Any = failure(check(tried, "192.0.2.99"), Refusal)
    assert refusal.status == 429
    reactor.work()
    assert all(success(each) is False for each in waiting)
    assert not has_fired(check(tried, "192.0.2.99"))


def test_the_memory_of_addresses_is_bounded() -> None:
    reactor = Threads()
    tried = attempts(reactor)
    for number in range(MOST_ADDRESSES + 5):
        check(tried, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        reactor.work()
    assert len(tried._used) == MOST_ADDRESSES


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", [*PATHS, "/console/login"])
def test_there_is_nothing_without_a_password_in_the_configuration(method: str, path: str) -> None:
    scene = Scene(on=False)
    reply, nowhere = scene.ask(method, path), scene.ask("GET", "/nowhere")
    assert reply.status == 404
    assert method == "HEAD" or reply.body == nowhere.body
    assert set(reply.headers) == set(nowhere.headers)


@pytest.mark.parametrize("path", PATHS)
def test_a_stranger_gets_the_login_and_no_data(path: str) -> None:
    scene = Scene()
    reply = scene.ask("GET", path)
    if path.startswith("/console/api/"):
        assert (reply.status, reply.json["error"]) == (401, "unauthorized")
    else:
        assert (reply.status, reply.headers["location"]) == (303, "/console/login")
    assert reply.headers["cache-control"] == "no-store"
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert scene.ask(method, path, b"{}").status == 401
    form = scene.ask("GET", "/console/login")
    assert form.status == 200
    assert b'type="password"' in form.body
    assert form.headers["cache-control"] == "no-store"


def test_an_operator_logs_in_and_out() -> None:
    scene = Scene()
    wrong = scene.login("a wrong password")
    assert (wrong.status, scene.cookie) == (403, "")
    assert b"This is not the password." in wrong.body
    right = scene.login()
    assert (right.status, right.headers["location"]) == (303, "/console/")
    assert "Secure" not in right.headers["set-cookie"]
    live = scene.ask("GET", "/console/api/live?since=7", origin="")
    assert (live.status, live.json) == (200, {"since": 7.0})
    assert live.headers["cache-control"] == "no-store"
    assert scene.ask("GET", "/console/login").headers["location"] == "/console/"
    cookie = scene.cookie
    out = scene.ask("POST", "/console/logout")
    assert out.headers["set-cookie"].startswith("relayd_console=; Path=/console/; Max-Age=0;")
    scene.cookie = cookie
    assert scene.ask("GET", "/console/api/live").status == 401


def test_a_login_over_tls_has_a_secure_cookie_also_behind_a_proxy() -> None:
    scene = Scene(proxy=Proxy(trusted=("192.168.1.1",)))
    reply = scene.login(origin="https://relay.example:8080")
    assert reply.headers["set-cookie"].endswith("; Secure")


@pytest.mark.parametrize(
    "origin",
    ["", "null", "http://evil.example", "http://relay.example", "http://relay.example:8081",
     "http://relay.example:8080.evil.example", "http://relay.example:8080 http://evil.example"],
)  # fmt: skip
def test_a_page_of_another_origin_can_neither_log_in_nor_use_a_session(origin: str) -> None:
    scene = Scene()
    assert scene.login(origin=origin).status == 403
    assert not scene.cookie
    scene.login()
    reply = scene.ask("POST", "/console/api/kick", b'{"ids":["c1"]}', origin=origin)
    assert (reply.status, reply.json["error"]) == (403, "origin_not_allowed")
    assert scene.ask("POST", "/console/logout", origin=origin).status == 403
    assert not scene.operations.commands
    assert scene.ask("POST", "/console/api/kick", b'{"ids":["c1"]}').json["count"] == 1


def test_a_new_password_ends_all_sessions_and_streams() -> None:
    scene = Scene()
    scene.login()
    assert scene.ask("GET", "/console/api/live").status == 200
    settings = Settings(password_hash=line("another password"))
    scene.current.replace(Config(console=settings))
    assert scene.ask("GET", "/console/api/live").status == 401


def test_too_many_logins_are_refused_with_a_page_and_retry_after() -> None:
    scene = Scene()
    replies = [scene.login("wrong") for _ in range(BURST + 1)]
    assert [each.status for each in replies] == [403] * BURST + [429]
    assert replies[-1].headers["retry-after"] == str(round(PAUSE))
    assert b'role="alert"' in replies[-1].body


@pytest.mark.parametrize("body", [b"", b"password=", b"x=1", b"\xff\xfe", b"password=%ff&" * 30])
def test_a_strange_form_is_a_wrong_password(body: bytes) -> None:
    scene = Scene()
    reply = scene.ask("POST", "/console/login", body)
    assert reply.status in (400, 403)
    assert "set-cookie" not in reply.headers


def test_a_list_is_searched_and_cut_on_the_server() -> None:
    scene = Scene()
    scene.login()
    every = scene.ask("GET", "/console/api/rooms").json
    assert (every["total"], len(every["found"])) == (300, MOST_SHOWN)
    assert every["found"][0] == {"group": "chat/r299", "members": 299}
    assert scene.ask("GET", "/console/api/rooms?text=R29").json["total"] == 11
    assert scene.ask("GET", "/console/api/pairs").json["found"] == []


def test_a_wrong_command_is_refused_with_its_reason() -> None:
    scene = Scene()
    scene.login()
    deep = b'{"x":' + b"[" * 3000
    for body in (b"", b"[]", b'{"ids":1}', b'{"ids":["c1"],"code":"x"}', b"\xff", deep):
        reply = scene.ask("POST", "/console/api/kick", body)
        assert (reply.status, reply.json["error"]) == (400, "bad_json")
    assert scene.ask("GET", "/console/api/live?since=nan").status == 400
    assert scene.ask("GET", "/console/api/quizzes?text=a%00").status == 400
    assert scene.ask("GET", "/console/api/kick").status == 405
    assert scene.ask("GET", "/console/api/nothing").status == 404


def feed() -> tuple[Feed, Operations, Clock]:
    clock = Clock()
    operations: Any = Operations(Denials(lambda: 0.0))
    return Feed(operations, clock, lambda: NOW + clock.seconds()), operations, clock


class Asked:
    """A request for one thing."""

    client_host = "192.0.2.1"

    def argument(self, name: str) -> str:
        return {"id": "c1"}.get(name, "")


class Lines:
    """The stream of a console."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.close: Callable[[], None] | None = None

    def write(self, line: bytes) -> None:
        self.lines.append(line)

    def end(self) -> None:
        assert self.close is not None
        close, self.close = self.close, None
        close()


def follow(console: Feed, session: Session) -> Lines:
    asked: Any = Asked()
    stream = success(Deferred.fromCoroutine(console.trace(session, asked)))
    lines = Lines()
    lines.close = stream.open(lines)
    return lines


def test_a_stream_shows_that_it_is_alive_and_ends_with_its_session() -> None:
    console, operations, clock = feed()
    lines = follow(console, Session("a", int(NOW) + 40))
    clock.pump([15, 15])
    assert [json.loads(line) for line in lines.lines] == [{"event": "alive"}] * 2
    assert operations.sinks
    clock.advance(10)
    assert lines.close is None
    assert not operations.sinks
    assert not clock.getDelayedCalls()


def test_a_logout_ends_the_streams_of_its_session_alone() -> None:
    console, operations, clock = feed()
    one, two = (follow(console, Session(id, int(NOW) + 40)) for id in ("a", "b"))
    console.end_streams(Session("a", 0).denial)
    assert one.close is None
    assert two.close is not None
    console.end_streams()
    assert not operations.sinks
    assert not clock.getDelayedCalls()


def test_streams_and_open_consoles_are_bounded() -> None:
    console, _, clock = feed()
    session, asked = Session("a", int(NOW) + 40), Asked()
    request: Any = asked
    for _ in range(MOST_STREAMS):
        follow(console, session)
    refusal: Any = failure(Deferred.fromCoroutine(console.trace(session, request)), Refusal)
    assert refusal.status == 429
    for _ in range(MOST_CONSOLES):
        success(Deferred.fromCoroutine(console.live(session, request)))
    refusal = failure(Deferred.fromCoroutine(console.live(session, request)), Refusal)
    assert refusal.status == 429
    clock.advance(2)
    success(Deferred.fromCoroutine(console.live(session, request)))

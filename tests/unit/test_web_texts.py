"""`GET /api/quizzes/{ids}` and `/api/actions/{ids}`: who may read, the answers, the reads."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import jwt
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from relayd.config import Api, Auth, Config
from relayd.config.current import Current
from relayd.connection.admission import Admission
from relayd.errors import DatabaseUnavailable
from relayd.relays.paths import KINDS
from relayd.storage.lookup import KEPT, MOST_KEPT, Lookup
from relayd.storage.pool import Database
from relayd.storage.tables import ACTIONS, QUIZZES
from relayd.web.site import build_site
from relayd.web.texts import MOST, Texts
from relayd.web.visitors import Visitors
from tests.unit.fakes import NOW, success
from tests.unit.web_fakes import BEARER, KEY, Client, FakeBackend, Reply

SECRET = "a secret of at least thirty-two bytes"
GUARDED = Config(auth=Auth(secret=SECRET, difficulty="token"), api=Api(key=KEY))


class Rows:
    """A database whose interactions end when the test says so; odd ids exist."""

    deadline = 4.0

    def __init__(self) -> None:
        self.clock = Clock()
        self.seconds = self.clock.seconds
        self.statements: list[tuple[str, list[int]]] = []
        self.pending: list[Callable[[], None]] = []
        self.error: Exception | None = None
        self.held = False

    def sql(self, text: str) -> str:
        return text

    def execute(self, statement: str, ids: list[int]) -> None:
        self.statements.append((statement.split(" FROM ")[1].split()[0], ids))
        self._columns = statement.split(" FROM ")[0].count(",")

    def fetchall(self) -> list[tuple[Any, ...]]:
        ids = self.statements[-1][1]
        return [(id, *[f"text {id}"] * self._columns) for id in reversed(ids) if id % 2]

    def run(self, name: str, interaction: Any, *args: Any, timeout: float) -> "Deferred[Any]":
        result: Deferred[Any] = Deferred()

        def end() -> None:
            if self.error is not None:
                result.errback(self.error)
            else:
                result.callback(interaction(self, *args))

        self.pending.append(end)
        if not self.held:
            self.release()
        return result

    def release(self) -> None:
        """Ends the interactions in progress."""
        pending, self.pending = self.pending, []
        for end in pending:
            end()


def lookup(rows: Rows) -> Lookup:
    return Lookup(cast(Database, rows))


class Scene:
    """The site with the paths, on such a database."""

    def __init__(self, config: Config | None = None) -> None:
        self.rows = Rows()
        self.backend = FakeBackend(config=config or Config())
        self.failed: list[str] = []
        self.backend.attempt_failed = self.failed.append  # type: ignore[method-assign, assignment]
        admission = Admission(Current(self.backend.config), Clock(), lambda: NOW, KINDS)
        texts = Texts(Visitors(self.backend, admission), lookup(self.rows))
        self.site = build_site(self.backend, Clock(), [texts])

    def ask(self, path: str, headers: str = "", method: str = "GET") -> Reply:
        client = Client(self.site)
        client.send(f"{method} {path} HTTP/1.1\r\nHost: a\r\n{headers}\r\n".encode())
        [reply] = client.replies(head=method == "HEAD")
        return reply


def bearer(**claims: Any) -> str:
    return f"Authorization: Bearer {jwt.encode(claims, SECRET)}\r\n"


def ids(reply: Reply, table: str = "quizzes") -> list[int]:
    assert reply.status == 200
    return [row["id"] for row in reply.json[table]]


# Answers


def test_rows_come_in_the_order_of_the_path_each_once_with_all_columns() -> None:
    scene = Scene()
    assert ids(scene.ask("/api/quizzes/5,1,3,5")) == [5, 1, 3]
    assert ids(scene.ask("/api/quizzes/9%2C7/")) == [9, 7]
    reply = scene.ask("/api/actions/3")
    text = dict.fromkeys(ACTIONS.columns[1:], "text 3")
    assert reply.json == {"actions": [{"id": 3, **text}]}
    assert reply.headers["cache-control"] == "private, no-cache"
    assert scene.ask("/api/quizzes/1", method="HEAD").status == 200
    assert scene.ask("/api/quizzes/1", method="POST").status == 405


def test_a_client_that_has_the_answer_already_gets_304_without_a_body() -> None:
    scene = Scene()
    tag = scene.ask("/api/quizzes/1,3").headers["etag"]
    for known in (tag, f'"x", W/{tag}', "*"):
        reply = scene.ask("/api/quizzes/1,3", f"If-None-Match: {known}\r\n")
        assert (reply.status, reply.body, reply.headers["etag"]) == (304, b"", tag)
    for path in ("/api/quizzes/3,1", "/api/actions/1,3"):
        assert scene.ask(path, f"If-None-Match: {tag}\r\n").status == 200


@pytest.mark.parametrize("wanted", ["x", "1,", ",", "-1", "1;2", "1.5", "%C2%B2", "1,%202", "0x1"])
def test_anything_but_a_list_of_ids_is_answered_400(wanted: str) -> None:
    scene = Scene()
    reply = scene.ask(f"/api/quizzes/{wanted}")
    assert (reply.status, reply.json["error"]) == (400, "bad_request")
    assert scene.rows.statements == []


def test_more_ids_than_the_bound_are_answered_400() -> None:
    assert MOST == 50  # as docs/protocol.md says
    scene = Scene()
    wanted = [str(id) for id in range(1, 2 * MOST + 2, 2)]
    assert scene.ask(f"/api/quizzes/{','.join(wanted)}").status == 400
    assert len(ids(scene.ask(f"/api/quizzes/{','.join(wanted[:MOST])}"))) == MOST


@pytest.mark.parametrize("id", [0, 2, 2**31, 9999999999])
def test_an_id_that_does_not_exist_is_answered_404_and_named(id: int) -> None:
    reply = Scene().ask(f"/api/quizzes/1,{id}")
    assert (reply.status, reply.json["error"]) == (404, "not_found")
    assert reply.json["message"] == f"There is no id {id} in quizzes."


def test_a_database_that_is_away_is_answered_503() -> None:
    scene = Scene()
    scene.rows.error = DatabaseUnavailable("10.0.0.1 is away")
    reply = scene.ask("/api/quizzes/1")
    assert (reply.status, reply.json["error"]) == (503, "database_unavailable")
    assert int(reply.headers["retry-after"]) > 0
    assert b"10.0.0.1" not in reply.body
    scene.rows.error = None
    assert ids(scene.ask("/api/quizzes/1")) == [1]


# Who may read


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ("", "", 401),
        ("Authorization: Bearer wrong\r\n", "", 401),
        ("Authorization: Basic YTpi\r\n", "", 401),
        (bearer(sub="ada", exp=NOW - 3600), "", 401),
        (bearer(sub="ada", scope="chat"), "", 403),
        (bearer(sub="ada"), "", 200),
        (bearer(scope="difficulty/unity/*"), "", 200),
        ("", f"?token={jwt.encode({'sub': 'ada'}, SECRET)}", 200),
        (BEARER, "", 200),
    ],
)
def test_texts_are_for_whoever_may_connect_to_difficulty_and_for_the_key_of_the_api(
    headers: str, query: str, status: int
) -> None:
    scene = Scene(GUARDED)
    assert scene.ask(f"/api/quizzes/1{query}", headers).status == status
    assert len(scene.failed) == (status != 200)
    assert len(scene.rows.statements) == (status == 200)


def test_publishing_needs_the_key_all_the_same() -> None:
    for config, headers, status in (
        (Config(), "", 404),
        (GUARDED, bearer(sub="ada"), 401),
        (Config(api=Api(key=KEY)), "", 401),
    ):
        for path in ("/api/push/x", "/api/quizzes", "/api/quizzesx/1"):
            assert Scene(config).ask(path, headers, "POST").status == status


# What the database is asked


def test_rows_are_read_once_a_second_also_those_that_do_not_exist() -> None:
    rows = Rows()
    reads = lookup(rows)
    for wanted in ([1, 2], [2], [1, 3]):
        success(reads.find(QUIZZES, wanted))
    success(reads.find(ACTIONS, [1]))
    assert rows.statements == [("quizzes", [1, 2]), ("quizzes", [3]), ("actions", [1])]
    rows.clock.advance(KEPT)
    again: dict[int, Any] = success(reads.find(QUIZZES, [2, 1]))
    assert list(again) == [2, 1]
    assert rows.statements[3:] == [("quizzes", [2, 1])]


def test_requests_during_an_interaction_share_the_next_one() -> None:
    rows = Rows()
    rows.held = True
    reads = lookup(rows)
    waiting: Sequence[Deferred[Any]] = [
        reads.find(table, wanted)
        for table, wanted in ((QUIZZES, [1]), (QUIZZES, [3, 5]), (QUIZZES, [5, 7]), (ACTIONS, [9]))
    ]
    assert len(rows.pending) == 1
    rows.release()
    assert len(rows.pending) == 1
    rows.release()
    assert rows.statements == [("quizzes", [1]), ("quizzes", [3, 5, 7]), ("actions", [9])]
    assert [list(success(each)) for each in waiting] == [[1], [3, 5], [5, 7], [9]]


def test_the_rows_that_are_kept_have_a_bound() -> None:
    rows = Rows()
    reads = lookup(rows)
    for start in range(1, MOST_KEPT + 2, 50):
        success(reads.find(QUIZZES, list(range(start, start + 50))))
    assert len(reads._kept) == MOST_KEPT
    rows.statements.clear()
    success(reads.find(QUIZZES, [1, MOST_KEPT]))
    assert rows.statements == [("quizzes", [1])]

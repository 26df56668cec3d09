"""`/api/quizzes/{ids}` and `/api/actions/{ids}` of a spawned relayd, over each database."""

import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from relayd.storage import schema
from tests.daemon import Daemon
from tests.integration.clients import execute, read, say
from tests.integration.conftest import Connect, Spawn
from tests.integration.waiting import eventually
from tests.servers import PostgreSQL

PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"

QUIZ = {
    "id": 5,
    "name": "Größe",
    "difficulty": 1,
    "lef_sel": "links",
    "rig_sel": "右",
    "detail": None,
}
ACTION = {"id": 7, "difficulty": 1, "lef_sel": "a", "rig_sel": "b", "detail": ""}


def fill(url: str) -> None:
    execute(
        url,
        "INSERT INTO quizzes VALUES (5, 'Größe', 1, 'links', '右', NULL)",
        "INSERT INTO actions VALUES (7, 1, 'a', 'b', '')",
    )


def test_a_headset_reads_the_texts_of_what_it_was_assigned(
    database_url: str, spawn: Spawn, connect: Connect
) -> None:
    fill(database_url)
    node = spawn(DATABASE_URL=database_url)
    pair = "123e4567-e89b-42d3-a456-426614174000"
    headset = connect(node, f"/ws/difficulty/unity/{pair}")
    phone = connect(node, f"/ws/difficulty/android/{pair}")
    say(phone, {"difficulty": 1})
    assigned = read(headset)
    [quiz], action = assigned["quiz_id"], assigned["action_id"]
    assert node.get(f"/api/quizzes/{quiz}") == (200, {"quizzes": [QUIZ]})
    assert node.get(f"/api/actions/{action}") == (200, {"actions": [ACTION]})
    assert node.get("/api/actions/7,8")[0] == 404

    with urllib.request.urlopen(f"{node.url}/api/quizzes/5") as answer:
        tag = answer.headers["ETag"]
    assert read_again(node, tag) == 304
    execute(database_url, "UPDATE quizzes SET name = 'Size' WHERE id = 5")
    eventually(lambda: read_again(node, tag) == 200)
    assert node.get("/api/quizzes/5") == (200, {"quizzes": [{**QUIZ, "name": "Size"}]})


@pytest.mark.parametrize("path", ["/api/quizzes/5,12", "/api/actions/3"])
def test_the_samples_are_answered_as_the_protocol_shows_them(relayd: Daemon, path: str) -> None:
    with urllib.request.urlopen(relayd.url + path) as answer:
        example = f"\nGET {path}\n{answer.read().decode()}\n"
    assert example in PROTOCOL.read_text()


def read_again(node: Daemon, tag: str) -> int:
    """The status for a client that has an earlier answer."""
    asked = urllib.request.Request(f"{node.url}/api/quizzes/5", headers={"If-None-Match": tag})
    try:
        with urllib.request.urlopen(asked) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_texts_are_refused_while_postgresql_is_away_and_come_after_its_start(
    own_postgresql: PostgreSQL, spawn: Spawn
) -> None:
    url = own_postgresql.url()
    schema.migrate(url)
    fill(url)
    node = spawn(DATABASE_URL=url)
    assert node.get("/api/quizzes/5")[0] == 200
    own_postgresql.stop(signal.SIGQUIT)
    eventually(lambda: node.get("/api/quizzes/5")[0] == 503)
    assert node.get("/api/quizzes/5")[1]["error"] == "database_unavailable"
    own_postgresql.start()
    eventually(lambda: node.get("/api/quizzes/5") == (200, {"quizzes": [QUIZ]}))

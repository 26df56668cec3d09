"""`/ws/difficulty/{unity|android}/{uuid}` as headset and phone see it, on a spawned relayd."""

import json
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from websockets.sync.client import ClientConnection

from relayd.storage import schema
from tests.daemon import Daemon
from tests.integration.clients import (
    Refused,
    execute,
    read,
    read_close,
    read_many,
    read_rest,
    say,
    settle,
)
from tests.integration.conftest import Connect, Dial, Spawn
from tests.integration.waiting import eventually
from tests.servers import PostgreSQL

RECEIVED = {"status": "received"}
GONE = {"status": "unity_disconnected"}
BACK = {"status": "unity_connected"}

QUIZZES = {1: {1, 2, 5, 9, 12, 40}, 2: {3, 4, 6}, 3: {7, 8}, 4: {10}, -5: {100}}
ACTIONS = {1: {1, 7}, 2: {2}, 3: {3}, 6: {4}, -5: {5}}
"""Ids by difficulty, with gaps; difficulty 4 has no action, 6 no quiz."""


def fill(url: str) -> None:
    """Puts the rows above into a migrated database."""
    for table, rows in (("quizzes", QUIZZES), ("actions", ACTIONS)):
        values = ", ".join(f"({id}, {level})" for level, ids in rows.items() for id in ids)
        execute(url, f"INSERT INTO {table} (id, difficulty) VALUES {values}")


@pytest.fixture
def own_url(own_postgresql: PostgreSQL) -> str:
    """A migrated database with the rows above, on a server that the test may stop."""
    schema.migrate(own_postgresql.url())
    fill(own_postgresql.url())
    return own_postgresql.url()


@pytest.fixture
def node(database_url: str, spawn: Spawn) -> Daemon:
    """A relayd with the rows above, on each kind of database in turn."""
    fill(database_url)
    return spawn(DATABASE_URL=database_url)


def paths(name: str | uuid.UUID | None = None) -> tuple[str, str]:
    """The paths of both sides of a pair, a fresh one by default."""
    name = name or uuid.uuid4()
    return f"/ws/difficulty/unity/{name}", f"/ws/difficulty/android/{name}"


Pair = tuple[ClientConnection, ClientConnection]


@pytest.fixture
def pair(relayd: Daemon, connect: Connect) -> Pair:
    """A headset and its phone on the shared relayd, whose database has the samples."""
    unity, android = paths()
    headset = connect(relayd, unity)
    settle(headset)
    return headset, connect(relayd, android)


def check_assignment(frame: Any, difficulty: int) -> None:
    """Up to three distinct quizzes and an action, all of the difficulty."""
    assert set(frame) == {"quiz_id", "action_id"}
    ids = frame["quiz_id"]
    assert len(ids) == min(3, len(QUIZZES[difficulty]))
    assert len(set(ids)) == len(ids)
    assert set(ids) <= QUIZZES[difficulty]
    assert frame["action_id"] in ACTIONS[difficulty]


def check_error(frame: Any, code: str) -> None:
    """The error a phone gets."""
    assert set(frame) == {"status", "error", "message"}, frame
    assert (frame["status"], frame["error"]) == ("error", code)


# -- the pairing


def test_phone_before_headset_is_refused(relayd: Daemon) -> None:
    """Acceptance 3: HTTP 400 with the JSON body."""
    refused = Refused(relayd, paths()[1])
    assert (refused.status, refused.error) == (400, "no_unity")


def test_fifty_requests_reach_the_headset_and_are_received_in_order(
    node: Daemon, connect: Connect
) -> None:
    """Acceptance 3: 50 frames with three distinct ids of the difficulty, 50 receipts."""
    unity, android = paths()
    headset, phone = connect(node, unity), connect(node, android)
    for _ in range(50):
        say(phone, {"difficulty": 1})
    assert read_many(phone, 50) == [RECEIVED] * 50
    for frame in read_many(headset, 50):
        check_assignment(frame, 1)
    assert read_rest(headset, phone) == [[], []]


def test_a_receipt_comes_after_the_frame_went_to_the_headset(
    node: Daemon, connect: Connect
) -> None:
    """When the phone has its receipt, a ping at the headset finds the frame before its pong."""
    unity, android = paths()
    headset, phone = connect(node, unity), connect(node, android)
    for _ in range(20):
        say(phone, {"difficulty": 2})
        assert read(phone) == RECEIVED
        (frames,) = read_rest(headset)
        assert len(frames) == 1


@pytest.mark.parametrize("difficulty", [1, 2, 3, -5])
def test_a_request_draws_up_to_three_quizzes(
    node: Daemon, connect: Connect, difficulty: int
) -> None:
    unity, android = paths()
    headset, phone = connect(node, unity), connect(node, android)
    say(phone, {"difficulty": difficulty})
    assert read(phone) == RECEIVED
    check_assignment(read(headset), difficulty)


def test_requests_are_answered_one_by_one_in_their_order(node: Daemon, connect: Connect) -> None:
    """Good and bad requests sent without waiting: one answer each, in order."""
    unity, android = paths()
    headset, phone = connect(node, unity), connect(node, android)
    cases: list[tuple[str | bytes, str]] = [
        ('{"difficulty": 1}', "received"),
        ("[1]", "bad_json"),
        (b'{"difficulty": 2}', "received"),
        ('{"difficulty": "1"}', "bad_difficulty"),
        ('{"difficulty": 4}', "no_content"),
        ('{"difficulty": 6}', "no_content"),
        ('{"difficulty": 99}', "no_content"),
        ('{"difficulty": 3}', "received"),
        ("{", "bad_json"),
    ]
    for request, _ in cases * 10:
        phone.send(request)
        phone.send(" ")  # blank frames are no requests
    answers = [frame.get("error", frame["status"]) for frame in read_many(phone, len(cases) * 10)]
    assert answers == [kind for _, kind in cases] * 10
    received, more = read_rest(headset, phone)
    assert not more
    for frame, difficulty in zip(received, [1, 2, 3] * 10, strict=True):
        check_assignment(frame, difficulty)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ("[1]", "bad_json"),
        ("1", "bad_json"),
        ("null", "bad_json"),
        ("easy", "bad_json"),
        (b"\xff", "bad_json"),
        ('{"difficulty": "1"}', "bad_difficulty"),
        ('{"difficulty": true}', "bad_difficulty"),
        ('{"difficulty": 1.5}', "bad_difficulty"),
        ('{"difficulty": null}', "bad_difficulty"),
        ('{"difficulty": [1]}', "bad_difficulty"),
        ("{}", "bad_difficulty"),
        ('{"Difficulty": 1}', "bad_difficulty"),
        ('{"difficulty": 2147483648}', "no_content"),
        ('{"difficulty": -9223372036854775809}', "no_content"),
        ('{"difficulty": 123456789012345678901234567890}', "no_content"),
    ],
)
def test_bad_request_is_answered_to_the_phone_alone(
    pair: Pair, request_: str | bytes, code: str
) -> None:
    headset, phone = pair
    phone.send(request_)
    check_error(read(phone), code)
    say(phone, {"difficulty": 1})
    assert read(phone) == RECEIVED
    received, more = read_rest(headset, phone)
    assert (len(received), more) == (1, [])


def test_huge_numbers_have_no_content_on_both_databases(node: Daemon, connect: Connect) -> None:
    """An integer that no INTEGER column holds is a difficulty without content, not an outage."""
    unity, android = paths()
    connect(node, unity)
    phone = connect(node, android)
    for number in (2**31, -(2**31) - 1, 2**63, 2**100):
        say(phone, {"difficulty": number})
        check_error(read(phone), "no_content")


@pytest.mark.parametrize("frame", ["hello", "[1]", '{"difficulty": 1}', b"\x00\xff", ""])
def test_frames_of_the_headset_are_read_and_ignored(pair: Pair, frame: str | bytes) -> None:
    headset, phone = pair
    headset.send(frame)
    assert read_rest(headset, phone) == [[], []]


def test_both_cases_of_a_uuid_are_one_pair(relayd: Daemon, connect: Connect) -> None:
    name = uuid.UUID("abcdefab-cdef-4abc-8def-abcdefabcdef")
    unity, _ = paths(str(name).upper())
    headset = connect(relayd, unity)
    for spelling in (str(name), str(name).upper(), str(name).title()):
        phone = connect(relayd, paths(spelling)[1])
        say(phone, {"difficulty": 1})
        assert read(phone) == RECEIVED
        assert len(read_rest(headset)[0]) == 1
        phone.close()


@pytest.mark.parametrize(
    "name",
    [
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "c232ab00-9414-11ec-b3c8-9f6bdeced846",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
    ],
)
def test_any_uuid_in_hyphenated_form_is_good(relayd: Daemon, connect: Connect, name: str) -> None:
    """Nil, max, version 1, version 7; with the slash at the end too."""
    unity, android = paths(name)
    connect(relayd, f"{unity}/")
    phone = connect(relayd, f"{android}/")
    say(phone, {"difficulty": 1})
    assert read(phone) == RECEIVED


@pytest.mark.parametrize("side", ["unity", "android"])
@pytest.mark.parametrize(
    "name",
    [
        "x",
        "123e4567e89b42d3a456426614174000",
        "{123e4567-e89b-42d3-a456-426614174000}",
        "123e4567-e89b-42d3-a456-42661417400",
        "123e4567-e89b-42d3-a456-42661417400g",
        "123e4567-e89b-42d3-a456-4266141740000",
        "123e4567-e89b-42d3-a456-426614174000%0A",
        "%D9%A1%D9%A1%D9%A1e4567-e89b-42d3-a456-426614174000",
    ],
)
def test_bad_uuid_is_refused(relayd: Daemon, side: str, name: str) -> None:
    refused = Refused(relayd, f"/ws/difficulty/{side}/{name}")
    assert (refused.status, refused.error) == (400, "bad_uuid")


@pytest.mark.parametrize(
    "path",
    [
        "/ws/difficulty",
        "/ws/difficulty/unity",
        "/ws/difficulty/ios/123e4567-e89b-42d3-a456-426614174000",
        "/ws/difficulty/unity/123e4567-e89b-42d3-a456-426614174000/more",
    ],
)
def test_other_paths_are_not_found(relayd: Daemon, path: str) -> None:
    refused = Refused(relayd, path)
    assert (refused.status, refused.error) == (404, "not_found")


def test_pairs_are_isolated_from_each_other(relayd: Daemon, connect: Connect) -> None:
    (unity, android), (other_unity, other_android) = paths(), paths()
    headset, other_headset = connect(relayd, unity), connect(relayd, other_unity)
    phone, other_phone = connect(relayd, android), connect(relayd, other_android)
    say(phone, {"difficulty": 1})
    assert read(phone) == RECEIVED
    other_headset.close()
    assert read(other_phone) == GONE
    assert [len(frames) for frames in read_rest(headset, phone)] == [1, 0]


# -- leaving, coming back, being replaced


def leave(headset: ClientConnection) -> None:
    """The app is closed."""
    headset.close()


def vanish(headset: ClientConnection) -> None:
    """The app is killed: TCP ends without a closing handshake."""
    headset.socket.shutdown(2)


@pytest.mark.parametrize("end", [leave, vanish])
def test_a_phone_is_notified_when_its_headset_leaves_and_reconnects(
    relayd: Daemon, connect: Connect, end: Callable[[ClientConnection], None]
) -> None:
    unity, android = paths()
    headset, phone = connect(relayd, unity), connect(relayd, android)
    end(headset)
    assert read(phone) == GONE
    say(phone, {"difficulty": 1})
    phone.send("[")
    check_error(read(phone), "no_unity")
    check_error(read(phone), "bad_json")
    headset = connect(relayd, unity)
    assert read(phone) == BACK
    say(phone, {"difficulty": 1})
    assert read(phone) == RECEIVED
    assert [len(frames) for frames in read_rest(headset, phone)] == [1, 0]


def test_a_reset_headset_is_noticed(relayd: Daemon, connect: Connect, dial: Dial) -> None:
    unity, android = paths()
    headset = dial(relayd).open(unity)
    phone = connect(relayd, android)
    headset.reset()
    assert read(phone) == GONE
    say(phone, {"difficulty": 1})
    check_error(read(phone), "no_unity")


def test_a_phone_that_comes_after_the_headset_left_is_refused(
    relayd: Daemon, connect: Connect
) -> None:
    unity, android = paths()
    connect(relayd, unity).close()
    refused = Refused(relayd, android)
    assert (refused.status, refused.error) == (400, "no_unity")


def test_a_newer_headset_replaces_the_older_one(relayd: Daemon, connect: Connect) -> None:
    """Acceptance 3: the old one gets 4001, the new one the frames; the old one's end is nothing."""
    unity, android = paths()
    older, phone = connect(relayd, unity), connect(relayd, android)
    newer = connect(relayd, unity)
    assert read_close(older)[0] == 4001
    older.close()
    for _ in range(5):
        say(phone, {"difficulty": 1})
    assert read_many(phone, 5) == [RECEIVED] * 5
    assert [len(frames) for frames in read_rest(newer, phone)] == [5, 0]


def test_a_newer_headset_replaces_a_dead_one(relayd: Daemon, connect: Connect, dial: Dial) -> None:
    """A headset that lost its Wi-Fi answers no close; its socket's end is of no consequence."""
    unity, android = paths()
    dead = dial(relayd).open(unity)
    phone = connect(relayd, android)
    newer = connect(relayd, unity)
    say(phone, {"difficulty": 1})
    assert read(phone) == RECEIVED
    dead.reset()
    say(phone, {"difficulty": 1})
    assert read(phone) == RECEIVED
    assert [len(frames) for frames in read_rest(newer, phone)] == [2, 0]


def test_a_newer_phone_replaces_the_older_one(relayd: Daemon, connect: Connect) -> None:
    unity, android = paths()
    headset, older = connect(relayd, unity), connect(relayd, android)
    newer = connect(relayd, android)
    assert read_close(older)[0] == 4001
    older.close()
    say(newer, {"difficulty": 1})
    assert read(newer) == RECEIVED
    assert len(read_rest(headset)[0]) == 1
    headset.close()
    assert read(newer) == GONE


def test_a_chain_of_replacements_leaves_one_headset(relayd: Daemon, connect: Connect) -> None:
    """Ten headsets come one after the other; nine are closed with 4001, the phone sees nothing."""
    unity, android = paths()
    headsets = [connect(relayd, unity)]
    phone = connect(relayd, android)
    headsets += [connect(relayd, unity) for _ in range(9)]
    assert [read_close(headset)[0] for headset in headsets[:-1]] == [4001] * 9
    say(phone, {"difficulty": 1})
    assert read(phone) == RECEIVED
    assert [len(frames) for frames in read_rest(headsets[-1], phone)] == [1, 0]


# -- the database


def test_rows_changed_by_other_programs_count_at_once(
    node: Daemon, connect: Connect, database_url: str
) -> None:
    unity, android = paths()
    headset, phone = connect(node, unity), connect(node, android)

    def ask() -> Any:
        say(phone, {"difficulty": 50})
        answer = read(phone)
        return read(headset) if answer == RECEIVED else answer["error"]

    assert ask() == "no_content"
    execute(database_url, "INSERT INTO quizzes (id, difficulty) VALUES (501, 50)")
    assert ask() == "no_content"
    execute(database_url, "INSERT INTO actions (id, difficulty) VALUES (51, 50)")
    assert ask() == {"quiz_id": [501], "action_id": 51}
    execute(database_url, "INSERT INTO quizzes (id, difficulty) VALUES (502, 50), (503, 50)")
    assert sorted(ask()["quiz_id"]) == [501, 502, 503]
    execute(database_url, "UPDATE quizzes SET difficulty = 51 WHERE id = 502")
    assert sorted(ask()["quiz_id"]) == [501, 503]
    execute(database_url, "UPDATE quizzes SET id = 504 WHERE id = 503")
    assert sorted(ask()["quiz_id"]) == [501, 504]
    execute(database_url, "DELETE FROM quizzes WHERE id = 501")
    assert ask() == {"quiz_id": [504], "action_id": 51}
    execute(database_url, "DELETE FROM actions WHERE difficulty = 50")
    assert ask() == "no_content"


Outage = tuple[Callable[[], None], Callable[[], None]]


def _stopped(server: PostgreSQL) -> Outage:
    return server.stop, server.start


def _paused(server: PostgreSQL) -> Outage:
    return server.pause, server.resume


@pytest.mark.parametrize("kind", [_stopped, _paused], ids=["stopped", "paused"])
def test_requests_fail_during_a_database_outage_and_work_after_it(
    own_postgresql: PostgreSQL,
    own_url: str,
    spawn: Spawn,
    connect: Connect,
    kind: Callable[[PostgreSQL], Outage],
) -> None:
    """Acceptance 4, with four phones that do not wait for their answers.

    While the database is away, every request is answered `database_unavailable` within 5 s (and
    some slack for this machine); when it is back, requests work without a restart of relayd.
    """
    go_away, come_back = kind(own_postgresql)
    node = spawn(DATABASE_URL=own_url, limits_messages_per_second=0)
    pairs = []
    for _ in range(4):
        unity, android = paths()
        pairs.append((connect(node, unity), connect(node, android)))
    phones = [phone for _, phone in pairs]
    away = threading.Event()

    def ask_many(phone: ClientConnection) -> list[str]:
        """Asks without waiting until the database has gone, then 80 times more."""
        asked = 0
        while not away.is_set():
            for _ in range(20):
                say(phone, {"difficulty": 1})
            asked += 20
            settle(phone)
        for _ in range(80):
            say(phone, {"difficulty": 1})
        started = time.monotonic()
        answers = read_many(phone, asked + 80)
        assert time.monotonic() - started < 5 + 3
        return [answer.get("error", answer["status"]) for answer in answers]

    with ThreadPoolExecutor(len(phones)) as threads:
        work = [threads.submit(ask_many, phone) for phone in phones]
        for headset, _ in pairs:
            assert read(headset)["quiz_id"]
        go_away()
        away.set()
        for done in work:
            answers = done.result()
            assert set(answers) <= {"received", "database_unavailable"}
            assert answers[-80:] == ["database_unavailable"] * 80

    for phone in phones:
        say(phone, {"difficulty": 1})
    for phone in phones:
        check_error(read(phone), "database_unavailable")
    eventually(lambda: node.get("/readyz")[0] == 503)
    assert node.get("/healthz")[0] == 200

    come_back()
    node.wait_until_ready()
    for headset, phone in pairs:
        read_rest(headset)
        say(phone, {"difficulty": 1})
        assert read(phone) == RECEIVED
        check_assignment(read(headset), 1)
    assert read_rest(*phones) == [[]] * 4


def test_a_long_queue_of_requests_does_not_wait_longer(
    own_postgresql: PostgreSQL, own_url: str, spawn: Spawn, connect: Connect
) -> None:
    """Acceptance 4 (and slack for this machine) for the last of 250 requests sent at once."""
    node = spawn(DATABASE_URL=own_url)
    unity, android = paths()
    connect(node, unity)
    phone = connect(node, android)
    own_postgresql.pause()
    started = time.monotonic()
    for _ in range(250):
        say(phone, {"difficulty": 1})
    answers = read_many(phone, 250)
    assert time.monotonic() - started < 5 + 3
    assert {answer["error"] for answer in answers} == {"database_unavailable"}


def test_relayd_starts_before_its_database(
    own_postgresql: PostgreSQL, spawn: Spawn, connect: Connect
) -> None:
    """Until then relayd serves paths that need no database, and migrates once it is up."""
    own_postgresql.stop()
    url = own_postgresql.url()
    node = spawn(wait=False, DATABASE_URL=url, limits_messages_per_second=0)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            status, answer = node.get("/readyz")
            break
        except OSError:
            time.sleep(0.05)
    assert status == 503
    assert answer["parts"]["database"]["ok"] is False
    unity, android = paths()
    headset, phone = connect(node, unity), connect(node, android)
    say(phone, {"difficulty": 1})
    check_error(read(phone), "database_unavailable")
    own_postgresql.start()
    while time.monotonic() < deadline + 20:
        say(phone, {"difficulty": 1})
        if (answer := read(phone)).get("error") == "no_content":
            break
        check_error(answer, "database_unavailable")
    fill(url)
    say(phone, {"difficulty": 1})
    assert read(phone) == RECEIVED
    check_assignment(read(headset), 1)


def test_a_request_that_waits_for_the_database_dies_with_its_phone(
    own_postgresql: PostgreSQL, own_url: str, spawn: Spawn, connect: Connect
) -> None:
    """The phone goes while its request waits: nothing reaches the headset, nothing is logged."""
    node = spawn(DATABASE_URL=own_url)
    unity, android = paths()
    headset, phone = connect(node, unity), connect(node, android)
    own_postgresql.pause()
    for _ in range(3):
        say(phone, {"difficulty": 1})
    settle(phone)
    vanish(phone)
    settle(headset)
    own_postgresql.resume()
    node.wait_until_ready()
    newer = connect(node, android)
    say(newer, {"difficulty": 1})
    assert read(newer) == RECEIVED
    assert len(read_rest(headset)[0]) == 1


def test_existing_tables_are_migrated_before_relayd_is_ready(
    postgresql: PostgreSQL, spawn: Spawn, connect: Connect
) -> None:
    """A database that has the two tables with rows keeps them; ready means that draws work."""
    url = postgresql.url(postgresql.create())
    texts = "lef_sel VARCHAR(255), rig_sel VARCHAR(255), detail VARCHAR(255)"
    execute(
        url,
        "CREATE TABLE quizzes (id SERIAL PRIMARY KEY, name VARCHAR(255), "
        f"difficulty INTEGER, {texts})",
        f"CREATE TABLE actions (id SERIAL PRIMARY KEY, difficulty INTEGER, {texts})",
    )
    fill(url)
    node = spawn(DATABASE_URL=url)
    unity, android = paths()
    headset, phone = connect(node, unity), connect(node, android)
    for difficulty in (1, 2, 3):
        say(phone, {"difficulty": difficulty})
        assert read(phone) == RECEIVED
        check_assignment(read(headset), difficulty)
    assert execute(url, "SELECT count(*) FROM quizzes") == [(sum(map(len, QUIZZES.values())),)]


def test_a_phone_learns_of_an_outage_in_a_sentence_for_people(
    own_postgresql: PostgreSQL, own_url: str, spawn: Spawn, connect: Connect
) -> None:
    """The message says what to do; where the database is belongs into the log."""
    node = spawn(DATABASE_URL=own_url)
    unity, android = paths()
    connect(node, unity)
    phone = connect(node, android)
    own_postgresql.stop()
    say(phone, {"difficulty": 1})
    message = read(phone)["message"]
    assert message.endswith("."), message
    assert str(own_postgresql.port) not in message, message


def test_the_samples_of_a_new_embedded_database_can_be_drawn(pair: Pair) -> None:
    headset, phone = pair
    say(phone, {"difficulty": 1})
    assert read(phone) == RECEIVED
    assert len(set(json.loads(headset.recv(timeout=10))["quiz_id"])) == 3


def test_a_pair_with_a_secret_is_closed_to_others_and_not_in_the_log(
    relayd: Daemon, connect: Connect
) -> None:
    name, secret = str(uuid.uuid4()), "s3cret-of-this-test"
    headset = connect(relayd, f"/ws/difficulty/unity/{name}?secret={secret}")
    phone = connect(relayd, f"/ws/difficulty/android/{name}?secret={secret}")
    for side in ("unity", "android"):
        refused = Refused(relayd, f"/ws/difficulty/{side}/{name}?secret={secret}x")
        assert (refused.status, refused.error) == (403, "wrong_secret")
    say(phone, {"difficulty": 1})
    assert "quiz_id" in read(headset)
    assert read(phone) == {"status": "received"}
    assert relayd.get(f"/ws/difficulty/unity/{name}?secret={secret}")[0] == 426
    assert relayd.get(f"/nothing/{name}")[0] == 404
    log = relayd.log
    assert "/ws/difficulty/unity/{uuid} opened" in log
    assert "/nothing/{uuid}: 404" in log
    assert name[:8] not in log
    assert secret not in log

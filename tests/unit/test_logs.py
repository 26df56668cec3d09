"""The log: its events, levels and formats; and that no secret is in it."""

import datetime
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogEvent, LogLevel, formatEvent, formatEventAsClassicLogText
from twisted.python.failure import Failure
from twisted.python.reflect import namedAny

from relayd import logs
from relayd.logs import journal as journals
from relayd.logs.events import FIELDS, hide_secrets, level_of, message_of, read_event
from relayd.logs.journal import Journal, encode
from relayd.logs.lines import JsonLines, Lines, TextLines
from relayd.logs.setup import VARIABLE, Choice, choose, is_chosen, is_journal, observer
from relayd.urls.masking import SECRETS
from tests.journal import FakeJournal, parse


@pytest.fixture(autouse=True)
def level_as_before() -> Iterator[None]:
    """The level is as before when the test ends."""
    before = logs.get_level()
    yield
    logs.set_level(before)


class Said:
    """Logs to a list."""

    def __init__(self) -> None:
        self.events: list[LogEvent] = []
        self.log = logs.Logger("relayd.test", observer=self.events.append)  # type: ignore[arg-type]

    def one(self, level: str, words: str, /, **fields: object) -> LogEvent:
        """The event of a line."""
        getattr(self.log, level)(words, **fields)
        return self.events.pop()


def failure() -> Failure:
    try:
        raise ValueError("two\nlines with token=hunter2")
    except ValueError:
        return Failure()


# -- levels


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("debug", ["debug", "info", "warn", "error", "critical"]),
        ("info", ["info", "warn", "error", "critical"]),
        ("warning", ["warn", "error", "critical"]),
        ("error", ["error", "critical"]),
    ],
)
def test_events_below_the_log_level_are_left_out(level: str, heard: list[str]) -> None:
    logs.set_level(level)
    assert logs.get_level() == level
    said = Said()
    for name in ("debug", "info", "warn", "error", "critical"):
        getattr(said.log, name)("words")
    assert [event["log_level"].name for event in said.events] == heard


@pytest.mark.parametrize("kind", [TextLines, JsonLines])
def test_the_level_applies_to_events_of_libraries(kind: type[Lines]) -> None:
    logs.set_level("warning")
    out = io.StringIO()
    observer = kind(out)
    observer({"log_format": "quiet", "log_level": LogLevel.info, "log_time": 0})
    assert out.getvalue() == ""
    observer({"log_format": "loud", "log_level": LogLevel.warn, "log_time": 0})
    assert "loud" in out.getvalue()


def test_an_unknown_level_is_refused_with_a_list_of_levels() -> None:
    with pytest.raises(ValueError, match=r"^'loud' is no level; there are debug, info, warning, "):
        logs.set_level("loud")
    assert logs.get_level() == "info"


def test_each_level_of_twisted_has_a_name_in_relayd() -> None:
    names = [level_of({"log_level": level}) for level in LogLevel.iterconstants()]
    assert names == ["debug", "info", "warning", "error", "critical"]
    assert level_of({}) == "info"


# -- secrets


@pytest.mark.parametrize(
    "text",
    [
        "GET /ws/chat/a?token=hunter2 HTTP/1.1",
        "/ws/chat/a?history=0&token=hunter2&since=1",
        "TOKEN%3Dhunter2",
        "Authorization: Bearer hunter2",
        "{'authorization': 'bearer  hunter2'}",
        "cannot connect to postgresql://joe:hunter2@h/d",
        "redis://:hunter2@h:1/0 is away",
        "redis://joe:hun/hunter2@h",
        "amqp://joe:hun@hunter2@h",
    ],
)
def test_no_token_and_no_password_is_logged(text: str) -> None:
    assert "hunter2" not in hide_secrets(text)
    event = Said().one("info", "{words} {path}", words=text, path=text)
    for lines in (TextLines(io.StringIO()), JsonLines(io.StringIO())):
        assert "hunter2" not in lines.encode(event)
    assert "hunter2" not in str(read_event(event))


def test_a_jwt_is_hidden_anywhere_in_a_line() -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
    assert hide_secrets(f"what is {token}?") == "what is ***?"


@pytest.mark.parametrize(
    "text",
    [
        "c17 /ws/camera opened by tcp4:127.0.0.1:1",
        "relayd 0.1 listens on http://127.0.0.1:8080, http://[::1]:8080",
        "open http://127.0.0.1:8080/ in a browser",
        "token expired",
        "database: sqlite; Redis: off; echo: off; HTTP API: off; tokens: off",
        "someone@example.org",
    ],
)
def test_words_that_are_no_secret_are_not_changed(text: str) -> None:
    assert hide_secrets(text) == text


@given(
    st.lists(
        st.sampled_from(["token=", "TOKEN%3D", "to\u212aen=", "BEARER ", "bearer", "eyJ", "."])
        | st.sampled_from(
            ["secret=", "\u017fecret=", "password='", "'", "authorization: x ", "key="]
        )
        | st.sampled_from(["//", ":", "@", "a", "é", " ", "\udc80", "&"]),
        max_size=12,
    ).map("".join)
)
def test_secrets_are_looked_for_in_every_text_that_may_have_one(text: str) -> None:
    hidden = text
    for pattern, instead in SECRETS:
        hidden = pattern.sub(instead, hidden)
    assert hide_secrets(text) == hidden.encode("utf-8", "backslashreplace").decode()


# -- lines


def test_the_text_format_is_that_of_twistd() -> None:
    out = io.StringIO()
    TextLines(out)({
        "log_format": "{a}", "a": 1, "log_time": 0, "log_level": LogLevel.warn,
        "log_namespace": "relayd.node.Node",
    })  # fmt: skip
    line = out.getvalue()
    assert line.endswith(" [relayd.node.Node#warn] 1\n")
    assert datetime.datetime.fromisoformat(line.split()[0]).timestamp() == 0


anything = st.text() | st.integers() | st.floats() | st.none() | st.binary()
parts = st.sampled_from(
    [
        *("{conn}", "{path!r}", "{seconds:.1f}", "{seconds:{path}}", "{path.real}", "{path()}"),
        *("{path!x}", "{}", "{0}", "{{", "}}", "{", "}", "{ conn}", "{missing}", "{log_level}"),
        *("{é}", " words\n"),
    ]
)


@given(
    st.lists(parts, max_size=4).map("".join) | st.none() | st.binary(max_size=3),
    st.dictionaries(st.sampled_from(["conn", "path", "seconds", "é", "log_system"]), anything),
    st.none() | st.integers(0, 4_000_000_000_000).map(lambda time: time / 1000),
    st.sampled_from([*LogLevel.iterconstants(), None]),
)
def test_a_line_of_text_is_that_of_twistd_whatever_the_event(
    words: Any, fields: dict[str, Any], time: float | None, level: Any
) -> None:
    event = {**fields, "log_format": words, "log_time": time, "log_level": level}
    assert message_of(event) == formatEvent(event)
    expected = hide_secrets(formatEventAsClassicLogText(event) or "")
    assert TextLines(io.StringIO()).encode(event) == expected


def json_line(event: LogEvent, worker: int | None = None) -> dict[str, Any]:
    line = JsonLines(io.StringIO(), worker).encode(event)
    assert line.endswith("\n")
    assert line.count("\n") == 1
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


def test_json_has_one_object_a_line_with_the_fields() -> None:
    event = Said().one("warn", "{conn} {path} x", conn="c17", path="/a", seconds=1.5, other="no")
    event["log_time"] = 1_800_000_000.25
    assert json_line(event, 2) == {
        "time": "2027-01-15T08:00:00.250000Z",
        "level": "warning",
        "message": "c17 /a x",
        "logger": "relayd.test",
        "worker": 2,
        "conn": "c17",
        "path": "/a",
        "seconds": 1.5,
    }


def test_json_has_a_traceback_in_one_field_without_secrets() -> None:
    said = Said()
    said.log.failure("it failed", failure())
    found = json_line(said.events.pop())
    assert found["level"] == "critical"
    assert found["message"] == "it failed"
    assert found["error"] == "ValueError"
    assert found["traceback"].startswith("Traceback")
    assert "ValueError: two\nlines" in found["traceback"]
    assert "hunter2" not in str(found)


def test_events_of_the_legacy_log_of_twisted_keep_their_text() -> None:
    event = {
        "log_text": "(TCP Port 1 Closed)",
        "log_format": "{log_text}",
        "log_level": LogLevel.info,
    }
    assert json_line(event)["message"] == "(TCP Port 1 Closed)"
    assert json_line({"log_failure": failure(), "log_format": ""})["message"].startswith(
        "ValueError"
    )


@given(st.dictionaries(st.sampled_from([*FIELDS, "other"]), anything), st.text())
def test_any_event_is_one_line_of_json_and_one_entry(fields: dict[str, Any], words: str) -> None:
    event = Said().one("info", "{words}", words=words, **fields)
    assert json_line(event)["level"] == "info"
    out: list[bytes] = []
    journal = object.__new__(Journal)
    journal._worker = None
    out.append(encode(journal._fields(read_event(event))))
    assert parse(out[0])["PRIORITY"] == "6"


# -- the journal


def test_the_journal_gets_each_event_with_its_fields(journal: FakeJournal) -> None:
    observer = Journal(str(journal.path), worker=2)
    event = Said().one(
        "info", "{conn} {path} opened by {peer}",
        conn="c17", path="/ws/chat/ä", peer="tcp4:127.0.0.1:1", kind="chat", other=1,
    )  # fmt: skip
    observer(event)
    assert journal.receive() == {
        "MESSAGE": "c17 /ws/chat/ä opened by tcp4:127.0.0.1:1",
        "PRIORITY": "6",
        "SYSLOG_IDENTIFIER": "relayd",
        "LOGGER": "relayd.test",
        "WORKER": "2",
        "CONN": "c17",
        "PATH": "/ws/chat/ä",
        "PEER": "tcp4:127.0.0.1:1",
        "KIND": "chat",
    }


@pytest.mark.parametrize(
    ("level", "priority"),
    [("debug", "7"), ("info", "6"), ("warn", "4"), ("error", "3"), ("critical", "2")],
)
def test_each_level_has_a_syslog_priority(journal: FakeJournal, level: str, priority: str) -> None:
    logs.set_level("debug")
    Journal(str(journal.path))(Said().one(level, "words"))
    assert journal.receive()["PRIORITY"] == priority


def test_a_traceback_is_behind_the_message_for_journalctl(journal: FakeJournal) -> None:
    said = Said()
    said.log.failure("it failed", failure())
    Journal(str(journal.path))(said.events.pop())
    found = journal.receive()
    assert found["MESSAGE"].startswith("it failed\nTraceback")
    assert found["ERROR"] == "ValueError"
    assert "hunter2" not in str(found)


def test_an_event_too_large_for_a_datagram_goes_in_a_sealed_file(journal: FakeJournal) -> None:
    observer = Journal(str(journal.path))
    observer(Said().one("info", "{x}", x="a\n" * 1_000_000))
    assert journal.receive()["MESSAGE"] == "a\n" * 1_000_000
    observer(Said().one("info", "small"))
    assert journal.receive()["MESSAGE"] == "small"


def test_a_restarted_journal_is_found_again(tmp_path: Path) -> None:
    first = FakeJournal(tmp_path / "socket")
    observer = Journal(str(first.path))
    first.close()
    observer(Said().one("info", "nobody hears this"))
    second = FakeJournal(tmp_path / "socket")
    observer(Said().one("info", "words"))
    assert second.receive()["MESSAGE"] == "words"
    assert second.receive()["MESSAGE"].startswith("1 lines of this log are lost")
    second.close()


def test_a_stalled_journal_loses_lines_and_does_not_block_the_process(
    journal: FakeJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process waits once; lost lines are counted and reported later."""
    monkeypatch.setattr(journals, "TIMEOUT", 0.001)
    observer = Journal(str(journal.path))
    said = Said()
    sent = 0
    while not observer._lost:
        observer(said.one("info", "{n}", n=sent))
        sent += 1
    for _ in range(4):
        observer(said.one("info", "lost"))
    kept = [journal.receive()["MESSAGE"] for _ in range(sent - 1)]
    assert kept == [str(n) for n in range(sent - 1)]
    observer(said.one("info", "back"))
    assert journal.receive()["MESSAGE"] == "back"
    assert journal.receive()["MESSAGE"].startswith("5 lines of this log are lost")


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True),
        st.text(st.characters(exclude_categories=["Cs"])),
        min_size=1,
    )
)
def test_an_encoded_message_is_read_back(fields: dict[str, str]) -> None:
    assert parse(encode(fields)) == fields


# -- the choice


@pytest.mark.parametrize(
    ("twistd", "chosen"),
    [
        ({"nodaemon": True}, False),
        ({"debug": True}, False),
        ({"nodaemon": True, "logfile": None, "logger": None, "syslog": False}, False),
        ({"nodaemon": True, "logger": observer}, False),
        ({"nodaemon": False}, True),
        ({"nodaemon": True, "logfile": "x.log"}, True),
        ({"nodaemon": True, "logfile": "-"}, True),
        ({"nodaemon": True, "syslog": True}, True),
        ({"nodaemon": True, "logger": print}, True),
    ],
)
def test_an_operator_who_tells_twistd_where_to_log_gets_that(
    twistd: dict[str, Any], chosen: bool
) -> None:
    assert is_chosen(twistd) is chosen


def test_the_name_of_the_log_observer_can_be_resolved_by_twistd() -> None:
    twistd: dict[str, Any] = {"nodaemon": True, "logger": None}
    choose(twistd, "json", {})
    assert namedAny(twistd["logger"]) is observer
    assert isinstance(observer(), JsonLines)
    assert not is_chosen(twistd)
    twistd = {"nodaemon": True, "logger": "a.b"}
    choose(twistd, "json", {})
    assert twistd["logger"] == "a.b"


def test_the_journal_is_known_by_what_stderr_or_stdout_is_connected_to() -> None:
    def stat(descriptor: int) -> os.stat_result:
        if descriptor == 2:
            raise OSError
        return os.stat_result((0, 7, 8, 0, 0, 0, 0, 0, 0, 0))

    assert is_journal("8:7", stat)
    assert not is_journal("8:8", stat)
    assert not is_journal("", stat)


def test_auto_is_text_where_the_variable_was_only_inherited(journal: FakeJournal) -> None:
    environ = {"JOURNAL_STREAM": "1:1", VARIABLE: str(journal.path)}
    assert isinstance(Choice("auto", environ, None)(), TextLines)
    found = os.fstat(2)
    environ["JOURNAL_STREAM"] = f"{found.st_dev}:{found.st_ino}"
    assert isinstance(Choice("auto", environ, None)(), Journal)
    assert isinstance(Choice("json", environ, None)(), JsonLines)
    assert isinstance(Choice("text", environ, None)(), TextLines)


def test_without_a_journal_there_is_text_and_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {VARIABLE: str(tmp_path / "nobody")}
    assert isinstance(Choice("journal", environ, None)(), TextLines)
    assert "the journal cannot be used, so the log is text: " in capsys.readouterr().err

"""A reload: settings applied at once, settings that need a restart, and its course in a process."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.config import SECTIONS, Api, Auth, Chat, Config, Database, Echo, Limits, Loaded, Server
from relayd.config.current import Current
from relayd.config.reload import WHEN, Change, Outcome, Reloader, When, compare
from relayd.config.settings import Setting
from relayd.control.messages import Reloaded
from relayd.errors import ConfigError
from relayd.relays.echo import EchoFactory
from tests.unit.fakes import World, logged_failures, make_world

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = [(section, key) for section in WHEN for key in WHEN[section]]


def test_every_setting_is_in_the_reload_table() -> None:
    assert {section: sorted(table) for section, table in WHEN.items()} == {
        section: sorted(kind.__struct_fields__) for section, kind in SECTIONS.items()
    }


def other(section: str, key: str) -> Any:
    """A value that a setting does not have by default."""
    if (section, key) == ("database", "url"):
        return "postgresql://h/d"
    if (section, key) == ("redis", "url"):
        return "redis://h"
    default = getattr(SECTIONS[section](), key)
    hint = get_type_hints(SECTIONS[section])[key]
    match default:
        case bool():
            return not default
        case int() | float():
            return default + 1
        case tuple():
            return (*default, "more")
        case str():
            choices = [one for one in get_args(hint) if one != default]
            return choices[0] if choices else default + "-more"
    raise AssertionError(default)


def changed(config: Config, section: str, key: str) -> Config:
    part = msgspec.structs.replace(getattr(config, section), **{key: other(section, key)})
    return msgspec.structs.replace(config, **{section: part})


@pytest.mark.parametrize(("section", "key"), SETTINGS)
def test_a_change_is_applied_or_reported_as_needing_a_restart(section: str, key: str) -> None:
    new = changed(Config(), section, key)
    outcome = compare(Config(), new)
    (change,) = outcome.applied + outcome.restart
    assert (change.section, change.key) == (section, key)
    if WHEN[section][key] is When.RESTART:
        assert outcome.config == Config()
        assert outcome.restart == (change,)
    else:
        assert outcome.config == new
        assert outcome.applied == (change,)


@given(st.sets(st.sampled_from(SETTINGS)), st.sets(st.sampled_from(SETTINGS)))
def test_settings_that_need_a_restart_are_named_at_every_reload_and_applied_ones_once(
    before: set[tuple[str, str]], after: set[tuple[str, str]]
) -> None:
    running, new = Config(), Config()
    for section, key in before:
        running = changed(running, section, key)
    for section, key in after:
        new = changed(new, section, key)
    first = compare(running, new)
    named = {(one.section, one.key) for one in first.applied + first.restart}
    assert named == before ^ after
    second = compare(first.config, new)
    assert second.applied == ()
    assert second.restart == first.restart
    assert compare(first.config, running).config == running


def test_the_outcome_of_a_reload_is_reported_in_lines() -> None:
    new = Config(
        server=Server(workers=2, allowed_origins=("https://a", "null")),
        limits=Limits(max_connections=10),
    )
    assert compare(Config(), new, ["x: chmod 640 x"]).lines() == [
        "warning: x: chmod 640 x",
        'applied at once: [server] allowed_origins = ["https://a", "null"] (was ["self"])',
        "applied to new connections: [limits] max_connections = 10 (was 0)",
        "needs a restart: [server] workers = 2 (was 1)",
    ]
    assert compare(Config(), Config()).lines() == ["no setting has changed"]


def test_a_reload_outcome_is_encoded_for_programs() -> None:
    outcome = compare(Config(), Config(chat=Chat(history=1, history_length=2)), ["w"])
    told = msgspec.to_builtins(Reloaded.of(outcome))
    assert told.pop("lines") == outcome.lines()
    assert told == {
        "applied": [
            {"section": "chat", "key": "history", "old": "50", "new": "1",
             "when": "to new connections"},
        ],
        "restart": [
            {"section": "chat", "key": "history_length", "old": "10000", "new": "2",
             "when": "at the next start"},
        ],
        "warnings": ["w"],
    }  # fmt: skip


def test_the_outcome_of_a_reload_shows_no_secret() -> None:
    old = Config(
        api=Api(key="hunter2"),
        auth=Auth(secret="hunter2" * 5),
        database=Database(url="postgresql://joe:hunter2@h/d"),
    )
    new = Config(
        api=Api(key="hunter2-new"),
        auth=Auth(secret="hunter2" * 6),
        database=Database(url="postgresql://joe:hunter2-new@h/d?sslpassword=hunter2"),
    )
    for one, two in ((old, new), (Config(), new), (old, Config())):
        outcome = compare(one, two)
        assert "hunter2" not in "\n".join(outcome.lines())
        assert "hunter2" not in str(msgspec.to_builtins(Reloaded.of(outcome)))
    assert compare(old, new).lines() == [
        "applied at once: [api] key",
        "applied to new connections: [auth] secret",
        'needs a restart: [database] url = "postgresql://***@h/d?***" (was "postgresql://***@h/d")',
    ]


# -- what holds the configuration


def test_a_watcher_is_called_with_the_new_value_after_a_change_of_its_setting() -> None:
    current, seen = Current(Config()), []
    current.watch(lambda: seen.append(("chat", current.config.chat.history)), "chat", "echo")
    current.watch(lambda: seen.append(("any", current.config.chat.history)))
    current.replace(Config(limits=Limits(max_connections=1)))
    assert seen == [("any", 50)]
    current.replace(Config(chat=Chat(history=7)))
    assert seen[1:] == [("chat", 7), ("any", 7)]
    current.replace(Config(chat=Chat(history=7)))
    assert len(seen) == 3


def test_a_failing_watcher_is_logged_and_does_not_stop_remaining_watchers() -> None:
    current, seen = Current(Config()), []

    def fail() -> None:
        raise RuntimeError("a bug")

    current.watch(fail, "chat")
    current.watch(lambda: seen.append(current.config), "chat")
    new = Config(chat=Chat(history=7))
    with logged_failures() as failures:
        current.replace(new)
    assert seen == [new]
    assert [event["what"] for event in failures] == ["the change of chat"]


@pytest.fixture
def world() -> Iterator[World]:
    """The parts of one process."""
    with make_world(Config(echo=Echo(enabled=True, max_message_size=10))) as (world, _):
        yield world


def test_a_reload_bounds_the_messages_of_new_connections_and_leaves_open_ones_alone(
    world: World,
) -> None:
    factory = EchoFactory(world.context)
    old = world.connect(factory, "/ws/echo")
    world.current.replace(Config(echo=Echo(enabled=True, max_message_size=4)))
    new = world.connect(factory, "/ws/echo")
    for client in (old, new):
        client.send("12345")
    assert old.payloads() == [b"12345"]
    assert new.closed()[0] == 1009


# -- the reloader


class Process:
    """What a Reloader works for."""

    def __init__(self) -> None:
        self.configured = Config()
        self.wrong = ""
        self.calls: list[Any] = []
        self.current = Current(Config())
        self.current.watch(lambda: self.calls.append(self.current.config))
        self.handed: list[Mapping[str, str] | None] = []
        self.reloader = Reloader(self.read, self.current, self.announced)

    @contextmanager
    def announced(self) -> Iterator[None]:
        self.calls.append("before")
        try:
            yield
        finally:
            self.calls.append("after")

    def read(self, handed: Mapping[str, str] | None) -> Loaded:
        self.handed.append(handed)
        if self.wrong:
            raise ConfigError(self.wrong)
        found = Setting("file", "[chat] history", "chat", "history", 1)
        return Loaded(self.configured, (found,), ())


def test_a_right_configuration_holds_before_the_reload_is_announced_as_done() -> None:
    process = Process()
    process.configured = Config(chat=Chat(history=1, history_length=1))
    outcome = process.reloader.reload()
    taken = Config(chat=Chat(history=1))
    assert process.calls == ["before", taken, "after"]
    assert outcome.config == process.current.config == taken
    assert process.reloader.reload().applied == ()


def test_a_wrong_configuration_changes_nothing_and_the_error_gives_the_reason() -> None:
    process = Process()
    process.wrong = "file: [chat] history = -1: no"
    with pytest.raises(ConfigError, match=r"^file: \[chat\] history = -1: no$"):
        process.reloader.reload()
    process.reloader.try_to_reload()
    assert process.calls == ["before", "after"] * 2
    assert process.current.config == Config()
    process.wrong = ""
    assert process.reloader.reload() == Outcome(Config())


def test_a_change_is_formatted_as_one_line() -> None:
    change = Change("chat", "message_prefix", '""', '"\\n"', When.NOW)
    assert str(change) == '[chat] message_prefix = "\\n" (was "")'


def test_the_table_in_the_operators_guide_equals_the_reload_table() -> None:
    """docs/operate.md has each setting in the column of its kind."""
    text = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    rows = text.partition("| section | applied at once |")[2].partition("\n\n")[0].splitlines()[2:]
    shown: dict[tuple[str, str], When] = {}
    for row in rows:
        names, *columns = [cell.strip() for cell in row.strip("|").split("|")]
        for section in re.findall(r"`\[(\w+)\]`", names):
            for when, cell in zip((When.NOW, When.NEW, When.RESTART), columns, strict=True):
                keys = list(WHEN[section]) if cell == "all" else re.findall(r"`(\w+)`", cell)
                shown |= {(section, key): when for key in keys}
    assert shown == {(section, key): WHEN[section][key] for section, key in SETTINGS}


def test_secrets_that_were_handed_over_are_used_at_every_later_reload_unless_they_were_wrong() -> (
    None
):
    process = Process()
    process.reloader.reload()
    process.reloader.reload({"redis_url": "redis://a"})
    process.reloader.reload()
    process.wrong = "nothing of this can be used"
    with pytest.raises(ConfigError):
        process.reloader.reload({"redis_url": "redis://wrong"})
    process.wrong = ""
    process.reloader.read()
    known = {"redis_url": "redis://a"}
    assert process.handed == [None, known, known, {"redis_url": "redis://wrong"}, known]


@pytest.mark.parametrize(
    ("section", "before", "after", "when"),
    [
        ("database", "postgresql://a:b@h/d", "postgresql://a:c@h/d", When.NEW),
        ("database", "postgresql://a:b@h/d", "host=h dbname=d user=x password=c", When.NEW),
        ("database", "postgresql://a:b@h/d", "postgresql://a:b@i/d", When.RESTART),
        ("database", "postgresql://a:b@h/d", "postgresql://a:b@h/e", When.RESTART),
        ("database", "postgresql://a:b@h", "postgresql://x:b@h", When.RESTART),
        ("database", "", "postgresql://x:b@h/d", When.RESTART),
        ("redis", "redis://:b@h", "redis://a:c@h", When.NEW),
        ("redis", "redis://:b@h redis://:b@i", "redis://:c@h redis://:c@i", When.NEW),
        ("redis", "redis://:b@h redis://:b@i", "redis://:b@i redis://:b@h", When.RESTART),
        ("redis", "redis://:b@h", "redis://:b@h/1", When.RESTART),
        ("redis", "redis://:b@h", "rediss://:b@h", When.RESTART),
        ("redis", "", "redis://:b@h", When.RESTART),
        (
            "redis",
            "sentinel://a:b@h/s?sentinel_password=c",
            "sentinel://a:x@h/s?sentinel_password=y",
            When.NEW,
        ),
    ],
)
def test_another_login_at_the_same_store_needs_no_restart(
    section: str, before: str, after: str, when: When
) -> None:
    [old, new] = (
        msgspec.structs.replace(
            Config(), **{section: msgspec.structs.replace(getattr(Config(), section), url=url)}
        )
        for url in (before, after)
    )
    outcome = compare(old, new)
    [change] = outcome.applied + outcome.restart
    assert change.when is when
    assert outcome.config == (old if when is When.RESTART else new)

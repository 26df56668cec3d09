"""File, environment and options become one configuration; what is wrong is named."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.config import SECTIONS, Config, read
from relayd.config import settings as one_setting
from relayd.errors import ConfigError
from relayd.urls.masking import mask_urls

SAMPLE = Path(__file__).parents[2] / "etc" / "relayd.toml"
SECRET = "a secret of at least thirty-two bytes"

WriteFile = Callable[[str], str]


@pytest.fixture
def write_file(tmp_path: Path) -> WriteFile:
    """Writes a configuration file and returns its path."""

    def write(text: str) -> str:
        path = tmp_path / "relayd.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def wrong(
    path: str | None = None, environ: dict[str, str] | None = None, listen: tuple[str, ...] = ()
) -> str:
    """What is said of a wrong configuration, in one line."""
    with pytest.raises(ConfigError) as caught:
        read(path, environ or {}, listen=listen)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# etc/relayd.toml


def test_the_sample_file_holds_the_defaults() -> None:
    assert read(str(SAMPLE), {}).config == Config() == read(None, {}).config


def test_the_sample_file_has_every_setting_in_the_order_of_the_classes() -> None:
    shown = tomllib.loads(SAMPLE.read_text(encoding="utf-8"))
    assert {section: list(table) for section, table in shown.items()} == {
        section: list(kind.__struct_fields__) for section, kind in SECTIONS.items()
    }
    assert list(shown) == list(SECTIONS)


def test_each_setting_of_the_sample_file_has_one_line_of_comment_above_it() -> None:
    lines = SAMPLE.read_text(encoding="utf-8").splitlines()
    settings = [number for number, line in enumerate(lines) if re.match(r"\w+ = ", line)]
    assert len(settings) == sum(len(kind.__struct_fields__) for kind in SECTIONS.values())
    for number in settings:
        assert re.fullmatch(r"# .+[.)]?", lines[number - 1]), lines[number]
        assert not lines[number - 2].startswith("#"), lines[number]


# Where settings come from


def test_a_file_sets_what_it_names_and_nothing_else(write_file: WriteFile) -> None:
    path = write_file('[chat]\nhistory = 7\n[server]\nlisten = ["tcp:1", "tcp:2"]\n[echo]\n')
    config = read(path, {}).config
    default = Config()
    assert config.chat == msgspec.structs.replace(default.chat, history=7)
    assert config.server == msgspec.structs.replace(default.server, listen=("tcp:1", "tcp:2"))
    assert config.limits == default.limits


@pytest.mark.parametrize(
    ("name", "text", "section", "key", "value"),
    [
        ("RELAYD_ECHO_ENABLED", "true", "echo", "enabled", True),
        ("RELAYD_ECHO_ENABLED", "0", "echo", "enabled", False),
        ("RELAYD_CHAT_HISTORY", "7", "chat", "history", 7),
        ("RELAYD_CHAT_MESSAGE_PREFIX", "7", "chat", "message_prefix", "7"),
        ("RELAYD_CHAT_DEFAULT_ROOM", "großer-saal", "chat", "default_room", "großer-saal"),
        ("RELAYD_KEEPALIVE_PING_INTERVAL", "2.5", "keepalive", "ping_interval", 2.5),
        ("RELAYD_KEEPALIVE_PING_INTERVAL", "2", "keepalive", "ping_interval", 2.0),
        ("RELAYD_LIMITS_MAX_MESSAGE_SIZE", "100", "limits", "max_message_size", 100),
        ("RELAYD_AUTH_SECRET", SECRET, "auth", "secret", SECRET),
        ("RELAYD_METRICS_ALLOW", "10.0.0.0/8,::1", "metrics", "allow", ("10.0.0.0/8", "::1")),
        ("RELAYD_API_KEY", "", "api", "key", ""),
        ("RELAYD_SERVER_LISTEN", "tcp:1", "server", "listen", ("tcp:1",)),
        ("RELAYD_SERVER_LISTEN", "tcp:1, tcp:2,", "server", "listen", ("tcp:1", "tcp:2")),
        ("RELAYD_SERVER_LISTEN", '["tcp:1", "tcp:2"]', "server", "listen", ("tcp:1", "tcp:2")),
        ("RELAYD_SERVER_ALLOWED_ORIGINS", "", "server", "allowed_origins", ()),
        ("PORT", "0", "server", "listen", ("tcp:0:interface=0.0.0.0",)),
        ("PORT", "65535", "server", "listen", ("tcp:65535:interface=0.0.0.0",)),
        ("DATABASE_URL", "sqlite:///x.db", "database", "url", "sqlite:///x.db"),
        ("DATABASE_URL", "postgres://u@h/d", "database", "url", "postgres://u@h/d"),
    ],
)
def test_the_environment_sets_any_setting(
    name: str, text: str, section: str, key: str, value: object
) -> None:
    assert getattr(getattr(read(None, {name: text}).config, section), key) == value


def test_variables_of_other_programs_are_ignored() -> None:
    others = {"PATH": "/bin", "RELAYDX_ECHO_ENABLED": "1", "relayd_echo_enabled": "1", "HOME": ""}
    assert read(None, others).config == Config()


LINKS = {
    "RELAYD_SERVICE_HOST": "10.0.0.1",
    "RELAYD_SERVICE_PORT": "8080",
    "RELAYD_SERVICE_PORT_HTTP": "8080",
    "RELAYD_PORT": "tcp://10.0.0.1:8080",
    "RELAYD_PORT_8080_TCP": "tcp://10.0.0.1:8080",
    "RELAYD_PORT_8080_TCP_PROTO": "tcp",
    "RELAYD_PORT_8080_TCP_PORT": "8080",
    "RELAYD_PORT_8080_TCP_ADDR": "10.0.0.1",
    "RELAYD_REDIS_MASTER_SERVICE_HOST": "10.0.0.2",
    "RELAYD_REDIS_MASTER_SERVICE_PORT_TCP_REDIS": "6379",
    "RELAYD_REDIS_MASTER_PORT_6379_TCP_ADDR": "fd00::2",
    "RELAYD_POSTGRESQL_PORT": "tcp://[fd00::3]:5432",
    "RELAYD_POSTGRESQL_HL_PORT_53_UDP": "udp://10.0.0.3:53",
}
"""What Kubernetes puts into each pod of a release with the name relayd."""


def test_service_links_of_kubernetes_are_left_alone() -> None:
    loaded = read(None, {**LINKS, "RELAYD_CHAT_HISTORY": "7"})
    assert loaded.config.chat.history == 7
    assert loaded.left_alone == tuple(sorted(LINKS))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("RELAYD_PORT", "8080"),
        ("RELAYD_METRICS_PORT", "9000"),
        ("RELAYD_REDIS_HOST", "10.0.0.1"),
        ("RELAYD_SERVICE_HOST", "redis.example.org"),
        ("RELAYD_REDIS_SERVICE_PORT", "tcp"),
        ("RELAYD_REDIS_PORT", "redis://10.0.0.1:6379"),
    ],
)
def test_a_slip_that_only_resembles_a_service_link_is_named(name: str, text: str) -> None:
    assert name in wrong(environ={name: text})


def test_the_first_source_that_has_a_setting_wins(write_file: WriteFile) -> None:
    """Option, our environment, the platform's environment, file, default."""
    path = write_file('[server]\nlisten = ["tcp:4"]\n[chat]\nhistory = 4\n')
    sources: list[tuple[dict[str, str], tuple[str, ...], str]] = [
        ({"RELAYD_SERVER_LISTEN": "tcp:2", "PORT": "3"}, ("tcp:1",), "tcp:1"),
        ({"RELAYD_SERVER_LISTEN": "tcp:2", "PORT": "3"}, (), "tcp:2"),
        ({"PORT": "3", "RELAYD_SERVER_LISTEN": "tcp:2"}, (), "tcp:2"),
        ({"PORT": "3"}, (), "tcp:3:interface=0.0.0.0"),
        ({}, (), "tcp:4"),
    ]
    for environ, listen, winner in sources:
        config = read(path, environ, listen=listen).config
        assert config.server.listen == (winner,)
        assert config.chat.history == 4


@pytest.mark.parametrize("order", [1, -1])
def test_the_relayd_variable_for_the_database_wins_over_that_of_the_platform(order: int) -> None:
    environ = [("RELAYD_DATABASE_URL", "sqlite:///ours"), ("DATABASE_URL", "sqlite:///theirs")]
    assert read(None, dict(environ[::order])).config.database.url == "sqlite:///ours"


def test_a_dotenv_file_stands_behind_the_environment_and_is_named_where_it_is_wrong() -> None:
    dotenv = {"RELAYD_CHAT_HISTORY": "7", "RELAYD_ECHO_ENABLED": "true", "PORT": "1"}
    config = read(None, {"RELAYD_CHAT_HISTORY": "8"}, dotenv=dotenv).config
    assert (config.chat.history, config.echo.enabled) == (8, True)
    assert config.server.listen == ("tcp:1:interface=0.0.0.0",)
    with pytest.raises(ConfigError, match=r"^\.env: RELAYD_CHAT_HISTORY = 'x': "):
        read(None, {"PORT": "1"}, dotenv={"RELAYD_CHAT_HISTORY": "x"})
    with pytest.raises(ConfigError, match=r"^environment: PORT = 'x': "):
        read(None, {"PORT": "x"}, dotenv=dotenv)


def test_empty_platform_variables_set_nothing() -> None:
    environ = {"PORT": "", "DATABASE_URL": "", "REDIS_URL": "", "RELAYD_CONFIG": ""}
    assert read(None, environ).config == Config()


def test_the_environment_may_name_the_file_and_the_option_wins(
    write_file: WriteFile, tmp_path: Path
) -> None:
    named = {"RELAYD_CONFIG": write_file("[chat]\nhistory = 7\n")}
    other = tmp_path / "other.toml"
    other.write_text("[chat]\nhistory = 8\n", encoding="utf-8")
    assert read(None, named).config.chat.history == 7
    assert read(str(other), named).config.chat.history == 8


def test_a_configuration_cannot_be_changed() -> None:
    for struct in (Config(), *(getattr(Config(), section) for section in SECTIONS)):
        with pytest.raises(AttributeError):
            setattr(struct, struct.__struct_fields__[0], None)


# What is wrong

WRONG: list[tuple[str, str, Any, str]] = [
    # section, key, value, what must be said of what is allowed
    ("server", "listen", [], "at least one endpoint"),
    ("server", "listen", ["tcp:x"], "tcp:8080:interface=127.0.0.1"),
    ("server", "listen", ["nonsense"], "tcp:8080:interface=127.0.0.1"),
    ("server", "allowed_origins", ["https://example.org/"], "https://example.org"),
    ("server", "names", ["https://example.org"], "relay.example.org"),
    ("server", "drain_timeout", 0, "> 0"),
    ("server", "drain_timeout", 3601, "<= 3600"),
    ("server", "drain_timeout", -1, "> 0"),
    ("server", "drain_timeout", "soon", "float"),
    ("server", "restart_code", 1000, "1001"),
    ("server", "restart_code", 4000, "1012"),
    ("server", "spread", "rooms", "'connections'"),
    ("database", "url", "mysql://h/d", "postgresql://"),
    ("database", "url", "sqlite:///", "sqlite:///FILE"),
    ("database", "url", "sqlite://x.db", "sqlite:///FILE"),
    ("database", "url", "postgresql://h:port/d", "a number"),
    ("database", "pool_size", 0, ">= 1"),
    ("database", "pool_size", 101, "<= 100"),
    ("database", "migrate", "maybe", "true or false"),
    ("redis", "url", "http://localhost", "redis://"),
    ("redis", "url", "redis://a redis://a", "redis"),
    ("redis", "prefix", "a b", "regex"),
    ("server", "workers", 0, ">= 1"),
    ("server", "workers", 2, "[redis] url"),
    ("server", "workers", "auto", "[redis] url"),
    ("metrics", "allow", ["10.0.0.1/8"], "10.1.0.0/16"),
    ("metrics", "allow", ["localhost"], "10.1.0.0/16"),
    ("chat", "default_room", "", "letters"),
    ("chat", "default_room", "a b", "letters"),
    ("chat", "default_room", "x" * 101, "letters"),
    ("chat", "history", -1, ">= 0"),
    ("chat", "history", 1001, "<= 1000"),
    ("chat", "history_length", 0, ">= 1"),
    ("echo", "enabled", "on", "true or false"),
    ("echo", "max_message_size", 0, ">= 1"),
    ("auth", "secret", "x" * 31, "32 bytes"),
    ("limits", "max_connections", -1, ">= 0"),
    ("limits", "max_message_size", 1 << 31, "<= 1073741824"),
    ("limits", "send_buffer", "1 MB", "int"),
    ("limits", "messages_per_second", -0.5, ">= 0"),
    ("keepalive", "ping_interval", 0, "> 0"),
    ("keepalive", "close_timeout", 0.0, "> 0"),
]


def in_toml(value: Any) -> str:
    """A value as TOML; JSON is close enough for what is used here."""
    return msgspec.json.encode(value).decode()


@pytest.mark.parametrize(("section", "key", "value", "allowed"), WRONG)
def test_a_wrong_setting_in_a_file_is_named_with_place_key_value_and_what_is_allowed(
    write_file: WriteFile, section: str, key: str, value: Any, allowed: str
) -> None:
    path = write_file(f"[{section}]\n{key} = {in_toml(value)}\n")
    said = wrong(path)
    hidden = key == "secret" or (key == "url" and mask_urls(value) == "(hidden)")
    shown = "(hidden)" if hidden else repr(value)
    assert said.startswith(f"{path}: [{section}] {key} = {shown}: ")
    assert allowed in said


@pytest.mark.parametrize(("section", "key", "value", "allowed"), WRONG)
def test_a_wrong_setting_in_the_environment_is_named_in_the_same_way(
    section: str, key: str, value: Any, allowed: str
) -> None:
    name = f"RELAYD_{section}_{key}".upper()
    text = ",".join(value) if isinstance(value, list) else str(value)
    said = wrong(environ={name: text})
    assert said.startswith(f"environment: {name} = ")
    assert allowed in said
    if key not in ("secret", "url"):
        assert text in said


@pytest.mark.parametrize("value", ["1", "true", "[]", '"x"', "1.5"])
def test_a_value_of_another_type_is_named(write_file: WriteFile, value: str) -> None:
    """Types are strict in a file: TOML has them."""
    for section, kind in SECTIONS.items():
        for key in kind.__struct_fields__:
            default = getattr(kind(), key)
            parsed = tomllib.loads(f"x = {value}")["x"]
            same = type(parsed) is type(default) or (isinstance(default, tuple) and parsed == [])
            if same or (isinstance(default, float) and isinstance(parsed, int)):
                continue
            path = write_file(f"[{section}]\n{key} = {value}\n")
            assert wrong(path).startswith(f"{path}: [{section}] {key} = ")


def test_a_wrong_endpoint_on_the_command_line_is_named() -> None:
    said = wrong(listen=("tcp:1", "tcp:x"))
    assert said.startswith("command line: --listen = ")
    assert "'tcp:x'" in said


@pytest.mark.parametrize("port", ["65536", "-1", "http", "80 ", "8.0", "８０", "0x50"])
def test_a_wrong_port_is_named(port: str) -> None:
    said = wrong(environ={"PORT": port})
    assert said.startswith(f"environment: PORT = {port!r}: ")
    assert "0 to 65535" in said


def test_the_redis_variable_of_a_platform_is_used() -> None:
    config = read(None, {"REDIS_URL": "rediss://joe:pw@h:6379/2"}).config
    assert config.redis.url == "rediss://joe:pw@h:6379/2"


@pytest.mark.parametrize("url", ["rediss://h", "redis://a sentinels://h/s", "redis://h", ""])
def test_a_redis_that_is_not_verified_is_warned_about(url: str) -> None:
    environ = {"REDIS_URL": url, "RELAYD_REDIS_VERIFY": "false"}
    loaded = read(None, environ)
    assert not loaded.config.redis.verify
    warned = any(one.startswith("[redis] verify = false: ") for one in loaded.warnings)
    assert warned == ("rediss" in url or "sentinels" in url)
    assert read(None, {"REDIS_URL": url}).warnings == ()


def test_django_channels_needs_the_one_redis_that_django_uses() -> None:
    environ = {"RELAYD_REDIS_DJANGO_CHANNELS": "true"}
    assert "[redis] url" in wrong(environ=environ)
    assert "[redis] url" in wrong(environ={**environ, "REDIS_URL": "redis://a redis://b"})
    assert read(None, {**environ, "REDIS_URL": "redis://a"}).config.redis.django_channels


def test_an_unknown_section_and_an_unknown_setting_are_named_with_those_there_are(
    write_file: WriteFile,
) -> None:
    path = write_file("[camra]\nenabled = true\n")
    said = wrong(path)
    assert said.startswith(f"{path}: [camra]: ")
    assert all(section in said for section in SECTIONS)
    path = write_file("[chat]\nroom = true\n")
    said = wrong(path)
    assert said.startswith(f"{path}: [chat] room = True: ")
    assert all(key in said for key in SECTIONS["chat"].__struct_fields__)
    said = wrong(environ={"RELAYD_CAMRA_ENABLED": "1"})
    assert said.startswith("environment: RELAYD_CAMRA_ENABLED = ")
    assert all(section in said for section in SECTIONS)
    said = wrong(environ={"RELAYD_CHAT_ROOM": "1"})
    assert said.startswith("environment: RELAYD_CHAT_ROOM = '1': ")
    assert "default_room" in said


def test_a_setting_outside_a_section_is_named(write_file: WriteFile) -> None:
    path = write_file('chat = "lobby"\n')
    assert wrong(path).startswith(f"{path}: chat = 'lobby': stands outside a section; ")
    path = write_file("history = 7\n")
    assert wrong(path).startswith(f"{path}: history = 7: stands outside a section; ")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.toml")
    assert wrong(missing) == f"{missing}: cannot be read: No such file or directory"
    assert wrong(str(tmp_path)).startswith(f"{tmp_path}: cannot be read: ")


@pytest.mark.parametrize("data", [b"[chat", b"\xff\xfe", b"a = 1\na = 2", b"x = \x00"])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(data)
    assert wrong(str(path)).startswith(f"{path}: is not TOML: ")


def test_tokens_cannot_be_required_without_a_secret(write_file: WriteFile) -> None:
    path = write_file("[auth]\nrequired = true\n")
    said = wrong(path)
    assert said.startswith(f"{path}: [auth] required = true: ")
    assert "[auth] secret" in said
    said = wrong(environ={"RELAYD_AUTH_REQUIRED": "true"})
    assert said.startswith("environment: RELAYD_AUTH_REQUIRED = ")


@pytest.mark.parametrize("number", ["nan", "inf"])
@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("server", "drain_timeout"),
        ("database", "deadline"),
        ("keepalive", "ping_interval"),
        ("limits", "messages_per_second"),
    ],
)
def test_nan_and_infinity_are_named_as_wrong_numbers(
    write_file: WriteFile, section: str, key: str, number: str
) -> None:
    """TOML and Python know NaN and infinity as floats; no timer does."""
    path = write_file(f"[{section}]\n{key} = {number}\n")
    assert wrong(path).startswith(f"{path}: [{section}] {key} = {number}: ")


def test_every_character_of_a_default_room_is_checked() -> None:
    assert "DEFAULT_ROOM" in wrong(environ={"RELAYD_CHAT_DEFAULT_ROOM": "lobby\n"})


# The folder conf.d


@pytest.fixture
def drop_in(tmp_path: Path) -> Callable[[str, str], str]:
    """Writes a file of conf.d and returns its path."""

    def write(name: str, text: str) -> str:
        path = tmp_path / "conf.d" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


DropIn = Callable[[str, str], str]


def test_the_files_of_conf_d_are_read_in_the_order_of_their_names_and_the_later_wins(
    write_file: WriteFile, drop_in: DropIn
) -> None:
    path = write_file("[chat]\nhistory = 1\nhistory_length = 1\ndefault_room = 'main'\n")
    drop_in("20-b.toml", "[chat]\nhistory = 20\n")
    drop_in("10-a.toml", "[chat]\nhistory = 10\nhistory_length = 10\n[echo]\nenabled = true\n")
    config = read(path, {}).config
    assert (config.chat.history, config.chat.history_length) == (20, 10)
    assert (config.chat.default_room, config.echo.enabled) == ("main", True)
    assert read(path, {"RELAYD_CHAT_HISTORY": "30"}).config.chat.history == 30


def test_leftovers_of_editors_and_dpkg_in_conf_d_are_not_read(
    write_file: WriteFile, drop_in: DropIn
) -> None:
    for name in (".a.toml", "a.toml~", "a.toml.dpkg-new", "a.toml.bak", "a.conf"):
        drop_in(name, "this is no TOML")
    assert read(write_file(""), {}).config == Config()


def test_an_error_names_the_very_file_of_conf_d(write_file: WriteFile, drop_in: DropIn) -> None:
    path = write_file("[chat]\nhistory = 1\n")
    drop_in("10-good.toml", "[chat]\nhistory = 2\n")
    bad = drop_in("20-bad.toml", "[chat]\nhistory = -1\n")
    assert wrong(path).startswith(f"{bad}: [chat] history = -1: ")
    drop_in("20-bad.toml", "[chat]\nroom = 1\n")
    assert wrong(path).startswith(f"{bad}: [chat] room = 1: no such setting")
    drop_in("20-bad.toml", "[chat")
    assert wrong(path).startswith(f"{bad}: is not TOML: ")
    drop_in("20-bad.toml", "[auth]\nrequired = true\n")
    assert wrong(path).startswith(f"{bad}: [auth] required = true: needs [auth] secret")
    Path(bad).unlink()
    Path(bad).symlink_to("nowhere")
    assert wrong(path) == f"{bad}: cannot be read: No such file or directory"


def test_without_a_configuration_file_there_is_no_conf_d(
    tmp_path: Path, drop_in: DropIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_in("10-a.toml", "[chat]\nhistory = 10\n")
    monkeypatch.chdir(tmp_path)
    assert read(None, {}).config == Config()


# Where each setting came from


def test_every_setting_is_listed_with_its_value_and_its_source(
    write_file: WriteFile, drop_in: DropIn, tmp_path: Path
) -> None:
    path = write_file("[chat]\nhistory = 1\nhistory_length = 2\n[api]\nkey = 'hunter2'\n")
    conf_d = drop_in("10-a.toml", "[chat]\nhistory_length = 10\n")
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    environ = {
        "PORT": "1",
        "RELAYD_ECHO_ENABLED": "1",
        "RELAYD_AUTH_SECRET_FILE": str(secret),
        "RELAYD_DATABASE_URL": "postgresql://joe:hunter2@h/d?sslpassword=hunter2",
    }
    lines = read(path, environ, dotenv={"RELAYD_REDIS_PREFIX": "mine"}).lines()
    assert [(one.section, one.key) for one in lines] == [
        (section, key) for section, kind in SECTIONS.items() for key in kind.__struct_fields__
    ]
    by_name = {f"{one.section}.{one.key}": (one.value, one.source) for one in lines}
    assert by_name["chat.history"] == ("1", path)
    assert by_name["chat.history_length"] == ("10", conf_d)
    assert by_name["chat.default_room"] == ('"lobby"', "default")
    assert by_name["api.key"] == ("(hidden)", path)
    assert by_name["auth.secret"] == ("(hidden)", str(secret))
    assert by_name["server.listen"] == ('["tcp:1:interface=0.0.0.0"]', "environment PORT")
    assert by_name["echo.enabled"] == ("true", "environment RELAYD_ECHO_ENABLED")
    assert by_name["redis.prefix"] == ('"mine"', ".env RELAYD_REDIS_PREFIX")
    assert by_name["database.url"] == (
        '"postgresql://***@h/d?***"',
        "environment RELAYD_DATABASE_URL",
    )
    assert SECRET not in str(lines)
    assert "hunter2" not in str(lines)


@pytest.mark.parametrize(
    ("url", "listed"),
    [
        ("postgresql:///d?host=/run/pg", "postgresql:///d?host=/run/pg"),
        ("postgresql:///d?host=h&password=hunter2", "postgresql:///d?***"),
        ("postgresql:///d?p%61ssword=hunter2", "postgresql:///d?***"),
        ("redis://joe:hunter2@h redis://g/1", "redis://***@h redis://g/1"),
    ],
)
def test_every_part_of_a_url_except_a_possible_password_is_shown(url: str, listed: str) -> None:
    assert one_setting.in_toml("redis", "url", url) == f'"{listed}"'
    assert one_setting.redacted("redis", "url", url) == f"'{listed}'"


def test_validation_may_be_limited_to_some_sections(write_file: WriteFile) -> None:
    path = write_file("[server]\nworkers = 2\n[chat]\nhistory = -1\n[control]\nsocket = '/s'\n")
    config = read(path, {}, only=("control",)).config
    assert config.control.socket == "/s"
    assert config.server == Config().server


def test_the_last_of_several_folders_with_secrets_wins(tmp_path: Path) -> None:
    for folder, names in (
        ("handed", ("relayd_api_key", "relayd_redis_url")),
        ("new", ("api_key",)),
    ):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text(f"redis://{folder}")
    config = read(None, {}, credentials=[str(tmp_path / "handed"), str(tmp_path / "new")]).config
    assert (config.api.key, config.redis.url) == ("redis://new", "redis://handed")


# Secrets in files of their own

SECRET_SETTINGS = [
    ("database", "url", "postgresql://joe:hunter2@h/d"),
    ("redis", "url", "redis://joe:hunter2@h"),
    ("api", "key", "hunter2"),
    ("auth", "secret", "hunter2 " * 5 + "x"),
]


def value_of(config: Config, section: str, key: str) -> object:
    return getattr(getattr(config, section), key)


@pytest.mark.parametrize(("section", "key", "secret"), SECRET_SETTINGS)
@pytest.mark.parametrize("end", ["", "\n", " \r\n\n"])
def test_a_secret_may_stand_in_a_file(
    tmp_path: Path, write_file: WriteFile, section: str, key: str, secret: str, end: str
) -> None:
    file = tmp_path / "secret"
    file.write_text(secret + end)
    file.chmod(0o640)
    loaded = read(write_file(f"[{section}]\n{key}_file = '{file}'\n"), {})
    assert value_of(loaded.config, section, key) == secret
    assert loaded.warnings == ()
    named = {f"RELAYD_{section}_{key}_FILE".upper(): str(file)}
    assert value_of(read(None, named).config, section, key) == secret


def test_credentials_are_named_with_the_prefix_of_the_unit(tmp_path: Path) -> None:
    (tmp_path / "relayd_redis_url").write_text("redis://credential\n", encoding="utf-8")
    config = read(None, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).config
    assert config.redis.url == "redis://credential"


@pytest.mark.parametrize(("section", "key", "secret"), SECRET_SETTINGS)
def test_systemds_credentials_are_read_and_win_over_the_files(
    tmp_path: Path, write_file: WriteFile, section: str, key: str, secret: str
) -> None:
    (tmp_path / f"{section}_{key}").write_text(f"{secret}\n")
    (tmp_path / "something_else").write_text("not ours")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    loaded = read(write_file(f"[{section}]\n{key} = '{secret}-of-the-file'\n"), environ)
    assert value_of(loaded.config, section, key) == secret
    listed = {(one.section, one.key): one.source for one in loaded.lines()}
    assert listed[section, key] == str(tmp_path / f"{section}_{key}")
    environ[f"RELAYD_{section}_{key}".upper()] = secret + "-of-the-environment"
    assert value_of(read(None, environ).config, section, key) == secret + "-of-the-environment"


def test_a_secret_of_the_stronger_source_wins_whether_direct_or_in_a_file(
    tmp_path: Path, write_file: WriteFile
) -> None:
    file = tmp_path / "key"
    file.write_text("in-a-file")
    path = write_file(f"[api]\nkey_file = '{file}'\n")
    assert read(path, {"RELAYD_API_KEY": "by-itself"}).config.api.key == "by-itself"
    path = write_file("[api]\nkey = 'by-itself'\n")
    assert read(path, {"RELAYD_API_KEY_FILE": str(file)}).config.api.key == "in-a-file"


def test_a_secret_and_its_file_in_one_source_are_refused(
    tmp_path: Path, write_file: WriteFile
) -> None:
    path = write_file("[api]\nkey_file = '/nowhere'\nkey = 'hunter2'\n")
    said = wrong(path)
    assert said.startswith(f"{path}: [api] key_file = '/nowhere': [api] key is set there, too")


def test_a_secret_file_that_cannot_be_used_is_named(tmp_path: Path, write_file: WriteFile) -> None:
    file = tmp_path / "secret"
    path = write_file(f"[auth]\nsecret_file = '{file}'\n")
    start = f"{path}: [auth] secret_file = '{file}': "
    assert wrong(path) == start + "cannot be read: No such file or directory"
    file.write_text(" \n")
    assert wrong(path).startswith(start + "the file is empty; ")
    file.write_bytes(b"\xff\xfe")
    assert wrong(path) == start + "the file is not UTF-8 text"
    file.write_text("hunter2")
    assert wrong(path).startswith(f"{file}: [auth] secret = (hidden): must be empty or at least 32")
    file.unlink()
    file.mkdir()
    assert wrong(path) == start + "cannot be read: Is a directory"


def test_a_credential_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "api_key").write_text("")
    said = wrong(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert said.startswith(f"{tmp_path}/api_key: the file is empty; ")


def test_relative_paths_start_from_the_folder_that_is_given(
    tmp_path: Path, write_file: WriteFile
) -> None:
    write_file("[api]\nkey_file = 'key'\n")
    (tmp_path / "key").write_text("in-a-file")
    assert read("relayd.toml", {}, folder=str(tmp_path)).config.api.key == "in-a-file"
    assert wrong(str(tmp_path / "relayd.toml")).endswith(
        f"No such file or directory in {Path.cwd()}"
    )


def test_a_file_with_a_secret_that_everyone_may_read_is_warned_of(
    tmp_path: Path, write_file: WriteFile
) -> None:
    file = tmp_path / "key"
    file.write_text("hunter2")
    file.chmod(0o644)
    path = write_file(f"[api]\nkey_file = '{file}'\n[redis]\nurl = 'redis://h'\n")
    Path(path).chmod(0o644)
    (warning,) = read(path, {}).warnings
    assert warning.startswith(f"{file}: ")
    assert warning.endswith(f"chmod 640 {file}")
    path = write_file("[api]\nkey = 'hunter2'\n[redis]\nurl = 'redis://:hunter2@h'\n")
    (warning,) = read(path, {}).warnings
    assert warning.startswith(f"{path}: holds [api] key and [redis] url, ")
    assert "hunter2" not in warning
    Path(path).chmod(0o640)
    assert read(path, {}).warnings == ()


# Secrets


@pytest.mark.parametrize(
    "environ",
    [
        {"RELAYD_AUTH_SECRET": "hunter2"},
        {"RELAYD_DATABASE_URL": "mysql://joe:hunter2@h/d"},
        {"DATABASE_URL": "mysql://joe:hunter2@h/d"},
        {"REDIS_URL": "redis://:hunter2@h:port/0"},
        {"RELAYD_DATABASE_URL": "mysql://joe:hun/hunter2@h/d"},
        {"RELAYD_DATABASE_URL": "mysql://joe:hun:hunter2@h/d"},
        {"RELAYD_DATABASE_URL": "mysql://joe:hunter2:hun@h/d"},
        {"RELAYD_DATABASE_URL": "mysql://joe:hun@hunter2@h/d"},
        {"RELAYD_DATABASE_PASSWORD": "hunter2"},
        {"RELAYD_DATABASE_URI": "postgresql://joe:hunter2@h/d"},
        {"RELAYD_API_KEYS": "hunter2"},
        {"RELAYD_DB_DSN": "hunter2"},
        {"RELAYD_CHAT_STORE": "postgresql://joe:hunter2@h/d"},
        {"RELAYD_CHAT_HISTORY": "redis://:hunter2@h"},
        {"RELAYD_REDIS_PREFIX": "rediss://:hunter2@h"},
        {"RELAYD_AUTH_JWKS_URL": "https://joe:hunter2@h/keys"},
        {"RELAYD_AUTH_JWKS_URL": "https://joe:hunter2@[h/keys"},
        {"RELAYD_AUTH_JWKS_URL": "https://h\u2100unter2@h/keys"},
        {"RELAYD_SECRET": "hunter2"},
        {"RELAYD_JWT_SECRET": "hunter2"},
    ],
    ids=lambda environ: " ".join(f"{name}={value}" for name, value in environ.items()),
)
def test_an_error_in_the_environment_shows_no_secret(environ: dict[str, str]) -> None:
    said = wrong(environ=environ)
    assert next(iter(environ)) in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "text",
    [
        '[api]\nkey = ["hunter2"]',
        '[auth]\nsecret = "hunter2"',
        '[auth]\nsecret = {value = "hunter2"}',
        '[database]\nurl = "mysql://joe:hunter2@h/d"',
        '[database]\nurl = ["postgresql://joe:hunter2@h/d"]',
        '[redis]\nurl = "redis://:hunter2@h:port/0"',
        '[database]\npassword = "hunter2"',
        '[api]\nkeys = ["hunter2"]',
        'api = "hunter2"',
        '[api]\nkey = "hunter2',
    ],
)
def test_an_error_in_a_file_shows_no_secret(write_file: WriteFile, text: str) -> None:
    assert "hunter2" not in wrong(write_file(text))


# Anything at all

names_and_texts = st.dictionaries(
    st.sampled_from(
        [
            f"RELAYD_{section}_{key}".upper()
            for section, kind in SECTIONS.items()
            for key in kind.__struct_fields__
        ]
        + ["PORT", "DATABASE_URL", "REDIS_URL", "RELAYD_", "RELAYD_X", "RELAYD_CHAT_", "RELAYD_A_B"]
    ),
    st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
    | st.sampled_from(["[", '["tcp:1"]', "[1]", "tcp:1", "true", "1", "-1", "1e9", "nan", ","]),
    max_size=4,
)


@given(names_and_texts)
def test_an_arbitrary_environment_gives_a_configuration_or_a_config_error(
    environ: dict[str, str],
) -> None:
    try:
        config = read(None, environ).config
    except ConfigError as error:
        said = str(error)
    else:
        assert isinstance(config, Config)
        return
    assert any(said.startswith(f"environment: {name} = ") for name in environ)


toml_values = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("abc:/ é[", max_size=9),
    lambda inner: st.lists(inner, max_size=3),
)


@given(
    st.dictionaries(
        st.sampled_from([*SECTIONS, "other"]),
        st.dictionaries(
            st.sampled_from([key for kind in SECTIONS.values() for key in kind.__struct_fields__]),
            toml_values,
            max_size=2,
        ),
        max_size=2,
    )
)
def test_arbitrary_toml_gives_a_configuration_or_a_config_error(
    write_file: WriteFile, document: dict[str, dict[str, Any]]
) -> None:
    lines = []
    for section, table in document.items():
        lines.append(f"[{section}]")
        lines.extend(f"{key} = {in_toml(value)}" for key, value in table.items())
    path = write_file("\n".join(lines))
    try:
        config = read(path, {}).config
    except ConfigError as error:
        said = str(error)
    else:
        assert isinstance(config, Config)
        return
    assert said.startswith(f"{path}: ")

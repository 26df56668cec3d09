"""File, environment and options become one frozen `Config`; all its errors are raised here.

Sits just above `errors`. Precedence: option, environment, file, default. The environment is
`RELAYD_<SECTION>_<KEY>` for any setting, and what hosting platforms set: `PORT`, `DATABASE_URL`,
`REDIS_URL` (our own names win over theirs). `etc/relayd.toml` shows every setting; a test keeps it
equal to the classes below.
"""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import msgspec
from msgspec import Meta
from twisted.internet import endpoints

from relayd.errors import ConfigError

Seconds = Annotated[float, Meta(gt=0, le=3600)]
Count = Annotated[int, Meta(ge=0)]
Size = Annotated[int, Meta(ge=1, le=1 << 30)]
Name = Annotated[str, Meta(pattern=r"^[\w-]{1,100}$")]


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Where relayd listens and how it stops."""

    listen: tuple[str, ...] = ("tcp:8080:interface=127.0.0.1",)
    allowed_origins: tuple[str, ...] = ("*",)
    drain_timeout: Seconds = 5.0


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """Quizzes, actions and, on one process, the chat history."""

    url: str = ""
    migrate: bool = True
    samples: bool = True
    pool_size: Annotated[int, Meta(ge=1, le=100)] = 4
    connect_timeout: Seconds = 3.0
    statement_timeout: Seconds = 3.0
    deadline: Seconds = 4.0


class Redis(msgspec.Struct, frozen=True, kw_only=True):
    """What joins several processes."""

    url: str = ""


class Chat(msgspec.Struct, frozen=True, kw_only=True):
    """The chat rooms."""

    default_room: Name = "lobby"
    history: Annotated[int, Meta(ge=0, le=1000)] = 50
    history_length: Annotated[int, Meta(ge=1)] = 10_000
    message_prefix: str = ""


class Echo(msgspec.Struct, frozen=True, kw_only=True):
    """The echo path, for conformance suites and for checking a proxy."""

    enabled: bool = False
    max_message_size: Size = 16 * 1024 * 1024


class Api(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTP API that publishes; off without a key."""

    key: str = ""


class Auth(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens that clients show in the handshake; ignored without a secret."""

    secret: str = ""
    required: bool = False


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what one client may cost."""

    max_connections: Count = 0
    max_message_size: Size = 64 * 1024
    max_head_size: Size = 16 * 1024
    send_buffer: Size = 1024 * 1024
    max_waiting: Annotated[int, Meta(ge=1)] = 100
    messages_per_second: Annotated[float, Meta(ge=0)] = 0.0


class Keepalive(msgspec.Struct, frozen=True, kw_only=True):
    """How dead and slow peers are noticed."""

    ping_interval: Seconds = 25.0
    pong_timeout: Seconds = 20.0
    handshake_timeout: Seconds = 10.0
    close_timeout: Seconds = 10.0


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration: one member a section."""

    server: Server = Server()
    database: Database = Database()
    redis: Redis = Redis()
    chat: Chat = Chat()
    echo: Echo = Echo()
    api: Api = Api()
    auth: Auth = Auth()
    limits: Limits = Limits()
    keepalive: Keepalive = Keepalive()

    @classmethod
    def load(
        cls, path: str | None, environ: Mapping[str, str], *, listen: Sequence[str] = ()
    ) -> "Config":
        """Reads a configuration.

        Args:
            path: the TOML file, or None for none (`RELAYD_CONFIG` may still name one).
            environ: the environment, `.env` already merged in.
            listen: Twisted endpoint descriptions from the command line; they win.

        Raises:
            ConfigError: naming where the wrong setting stands, its key, its value, what is allowed.
        """
        path = path or environ.get("RELAYD_CONFIG") or None
        values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        if path is not None:
            for section, key, value in _read_file(path):
                values[section][key] = _convert(path, f"[{section}] {key}", section, key, value)
        for name, section, key, text in _read_environment(environ):
            values[section][key] = _convert(
                "environment", name, section, key, _from_text(section, key, text), strict=False
            )
        if listen:
            values["server"]["listen"] = _convert(
                "command line", "--listen", "server", "listen", list(listen)
            )
        sections: dict[str, Any] = {name: kind(**values[name]) for name, kind in SECTIONS.items()}
        config = cls(**sections)
        if config.auth.required and not config.auth.secret:
            raise ConfigError(
                "[auth] required = true: needs [auth] secret, the key that tokens are signed with"
            )
        return config


SECTIONS: dict[str, type[msgspec.Struct]] = get_type_hints(Config)
_PLATFORM = {"DATABASE_URL": ("database", "url"), "REDIS_URL": ("redis", "url")}
_SECRET = re.compile(r"(?<=:)[^:@/]*(?=@)")


def _read_file(path: str) -> list[tuple[str, str, Any]]:
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    found = []
    for section, table in document.items():
        if section not in SECTIONS:
            raise ConfigError(
                f"{path}: [{section}]: no such section; there are {_listed(SECTIONS)}"
            )
        if not isinstance(table, dict):
            raise ConfigError(
                f"{path}: {section} = {table!r}: stands outside a section; "
                f"{section} is a section: write [{section}] and its settings below"
            )
        for key, value in table.items():
            if key not in SECTIONS[section].__struct_fields__:
                raise ConfigError(
                    f"{path}: [{section}] {key} = {_shown(key, value)}: no such setting; "
                    f"[{section}] has {_listed(SECTIONS[section].__struct_fields__)}"
                )
            found.append((section, key, value))
    return found


def _read_environment(environ: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """The settings in the environment as (variable, section, key, text), the strongest last."""
    found = []
    if environ.get("PORT"):
        port = environ["PORT"]
        if not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
            raise ConfigError(f"environment: PORT = {port!r}: must be a number from 0 to 65535")
        found.append(("PORT", "server", "listen", f"tcp:{int(port)}:interface=0.0.0.0"))
    for name, (section, key) in _PLATFORM.items():
        if environ.get(name):
            found.append((name, section, key, environ[name]))
    for name, text in environ.items():
        if not name.startswith("RELAYD_") or name == "RELAYD_CONFIG":
            continue
        section, _, key = name.removeprefix("RELAYD_").lower().partition("_")
        if section not in SECTIONS:
            raise ConfigError(
                f"environment: {name} = {_shown(key, text)}: no such section; "
                f"RELAYD_<SECTION>_<KEY> with a section of {_listed(SECTIONS)}"
            )
        if key not in SECTIONS[section].__struct_fields__:
            raise ConfigError(
                f"environment: {name} = {_shown(key, text)}: no such setting; "
                f"[{section}] has {_listed(SECTIONS[section].__struct_fields__)}"
            )
        found.append((name, section, key, text))
    return found


def _from_text(section: str, key: str, text: str) -> Any:
    """Environment text as the type of the setting: lists are TOML arrays or comma-separated."""
    if isinstance(getattr(SECTIONS[section](), key), tuple):
        if text.lstrip().startswith("["):
            try:
                return tomllib.loads(f"value = {text}")["value"]
            except tomllib.TOMLDecodeError:
                return text
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _convert(
    place: str, name: str, section: str, key: str, value: Any, *, strict: bool = True
) -> Any:
    try:
        converted = msgspec.convert(value, _HINTS[section][key], strict=strict, str_keys=not strict)
    except msgspec.ValidationError as error:
        reason = str(error).split(" - at ")[0]
        raise ConfigError(
            f"{place}: {name} = {_shown(key, value)}: {reason[0].lower()}{reason[1:]}"
        ) from error
    check = _CHECKS.get((section, key))
    if check is not None:
        try:
            check(converted)
        except ValueError as error:
            raise ConfigError(f"{place}: {name} = {_shown(key, value)}: {error}") from error
    return converted


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))


def _shown(key: str, value: Any) -> str:
    """A value as an error message may show it: no key, no secret, no password."""
    if key in ("key", "secret") and value:
        return "(hidden)"
    return _SECRET.sub("***", repr(value)) if key == "url" else repr(value)


def _check_endpoints(descriptions: tuple[str, ...]) -> None:
    if not descriptions:
        raise ValueError("must name at least one endpoint, such as tcp:8080:interface=127.0.0.1")
    for description in descriptions:
        try:
            # TCP, TLS and unix endpoints keep the reactor for later and do not touch it here
            endpoints.serverFromString(None, description)
        except Exception as error:
            raise ValueError(
                f"{description!r} is no Twisted server endpoint ({error}); allowed are such as "
                "tcp:8080:interface=127.0.0.1, unix:/run/relayd.sock, "
                "ssl:8443:privateKey=key.pem:certKey=cert.pem"
            ) from error


def _check_database_url(url: str) -> None:
    if url and not re.match(r"(postgres|postgresql)://.|sqlite:///.", url):
        raise ValueError(
            "must be empty, postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or sqlite:///FILE"
        )


def _check_redis_url(url: str) -> None:
    if url:
        raise ValueError(
            "this version runs as one process and does not use Redis, so what several processes "
            "relay would not meet; allowed is only the empty string (unset it)"
        )


def _check_secret(secret: str) -> None:
    if secret and len(secret.encode()) < 32:
        raise ValueError("must be empty or at least 32 bytes (RFC 7518 section 3.2)")


_HINTS = {name: get_type_hints(kind, include_extras=True) for name, kind in SECTIONS.items()}
_CHECKS: dict[tuple[str, str], Callable[[Any], None]] = {
    ("server", "listen"): _check_endpoints,
    ("database", "url"): _check_database_url,
    ("redis", "url"): _check_redis_url,
    ("auth", "secret"): _check_secret,
}

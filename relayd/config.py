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
from typing import Annotated, Any, Literal, get_type_hints
from urllib.parse import urlsplit

import dotenv
import msgspec
from msgspec import Meta
from twisted.internet import endpoints

from relayd import redis_urls as urls
from relayd.errors import ConfigError

Seconds = Annotated[float, Meta(gt=0, le=3600)]
Count = Annotated[int, Meta(ge=0)]
Size = Annotated[int, Meta(ge=1, le=1 << 30)]
Name = Annotated[str, Meta(pattern=r"^[\w-]{1,100}\Z")]


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Where relayd listens and how it stops."""

    listen: tuple[str, ...] = ("tcp:8080:interface=127.0.0.1",)
    allowed_origins: tuple[str, ...] = ("*",)
    drain_timeout: Seconds = 5.0
    workers: Annotated[int, Meta(ge=1, le=256)] | Literal["auto"] = 1


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
    ca_file: str = ""
    prefix: Annotated[str, Meta(pattern=r"^[\w.:-]{1,50}\Z")] = "relayd"
    deadline: Seconds = 2.0
    history_age: Annotated[float, Meta(ge=0)] = 0.0
    django_channels: bool = False
    django_prefix: Annotated[str, Meta(pattern=r"^[\w.:-]{1,50}\Z")] = "asgi"


class Camera(msgspec.Struct, frozen=True, kw_only=True):
    """The pose relay."""

    slow_viewers: Literal["latest", "close"] = "latest"


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
    coalesce: Annotated[float, Meta(ge=0, le=1)] = 0.005
    max_waiting: Annotated[int, Meta(ge=1)] = 1000
    messages_per_second: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0


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
    camera: Camera = Camera()
    chat: Chat = Chat()
    echo: Echo = Echo()
    api: Api = Api()
    auth: Auth = Auth()
    limits: Limits = Limits()
    keepalive: Keepalive = Keepalive()

    @classmethod
    def load(
        cls,
        path: str | None,
        environ: Mapping[str, str],
        *,
        dotenv: Mapping[str, str] | None = None,
        listen: Sequence[str] = (),
    ) -> "Config":
        """Reads a configuration.

        Args:
            path: the TOML file, or None for none (`RELAYD_CONFIG` may still name one).
            environ: the environment.
            dotenv: what a `.env` file sets; `environ` wins.
            listen: Twisted endpoint descriptions from the command line; they win over all.

        Raises:
            ConfigError: naming where the wrong setting stands, its key, its value, what is allowed.
        """
        merged = {**(dotenv or {}), **environ}
        path = path or merged.get("RELAYD_CONFIG") or None
        found = [
            _Setting(path or "", f"[{section}] {key}", section, key, value)
            for section, key, value in (_read_file(path) if path is not None else ())
        ]
        for name, text in _by_strength(merged):
            found.append(_read_variable("environment" if name in environ else ".env", name, text))
        if listen:
            found.append(_Setting("command line", "--listen", "server", "listen", list(listen)))
        values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
        for setting in found:
            values[setting.section][setting.key] = setting.convert()
        sections: dict[str, Any] = {name: kind(**values[name]) for name, kind in SECTIONS.items()}
        config = cls(**sections)
        if config.auth.required and not config.auth.secret:
            setting = next(one for one in reversed(found) if one.key == "required")
            raise setting.error("needs [auth] secret, the key that tokens are signed with")
        if config.server.workers != 1 and not config.redis.url:
            setting = next(one for one in reversed(found) if one.key == "workers")
            raise setting.error("needs [redis] url: without it they could not reach each other")
        if config.redis.django_channels and len(config.redis.url.split()) != 1:
            setting = next(one for one in reversed(found) if one.key == "django_channels")
            raise setting.error("needs one Redis in [redis] url, the one that Django uses")
        return config


SECTIONS: dict[str, type[msgspec.Struct]] = get_type_hints(Config)
_PLATFORM = {"DATABASE_URL": ("database", "url"), "REDIS_URL": ("redis", "url")}
# from the first colon behind the slashes to the last at sign
_PASSWORD = re.compile(r"(?<=//)([^:]*):.*@")
_SENSITIVE = re.compile("api|auth|database|redis|key|secret|pass|token|ur[il]", re.IGNORECASE)
# what Kubernetes sets for a Service that is called relayd
_KUBERNETES = re.compile(r"RELAYD_(SERVICE_(HOST|PORT)|PORT)(_.*)?")


def read_dotenv() -> dict[str, str]:
    """What the file `.env` in the working directory sets, if there is one."""
    try:
        found = dotenv.dotenv_values(".env")
    except OSError as error:
        raise ConfigError(f".env: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f".env: is not UTF-8: {error}") from error
    return {name: value for name, value in found.items() if value is not None}


class _Setting(msgspec.Struct, frozen=True):
    """One setting as it was found: where, under which name, and what it sets to which value."""

    place: str
    name: str
    section: str
    key: str
    value: Any
    strict: bool = True

    def convert(self) -> Any:
        """The value in the type of its setting. Raises ConfigError."""
        hint = _HINTS[self.section][self.key]
        try:
            value = msgspec.convert(self.value, hint, strict=self.strict, str_keys=not self.strict)
        except msgspec.ValidationError as error:
            reason = str(error).split(" - at ")[0].replace("`bool`", "true or false")
            raise self.error(f"{reason[0].lower()}{reason[1:]}") from error
        check = _CHECKS.get((self.section, self.key))
        if check is not None:
            try:
                check(value)
            except ValueError as error:
                raise self.error(str(error)) from error
        return value

    def error(self, reason: str) -> ConfigError:
        """What is wrong with it."""
        return ConfigError(f"{self.place}: {self.name} = {_shown(self.key, self.value)}: {reason}")


def _read_file(path: str) -> list[tuple[str, str, Any]]:
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    found = []
    for section, table in document.items():
        if not isinstance(table, dict):
            raise ConfigError(
                f"{path}: {section} = {_guess(section, '', table)}: stands outside a section; "
                f"write [SECTION] above it, one of {_listed(SECTIONS)}"
            )
        if section not in SECTIONS:
            raise ConfigError(
                f"{path}: [{section}]: no such section; there are {_listed(SECTIONS)}"
            )
        for key, value in table.items():
            if key not in SECTIONS[section].__struct_fields__:
                raise ConfigError(
                    f"{path}: [{section}] {key} = {_guess(section, key, value)}: no such setting; "
                    f"[{section}] has {_listed(SECTIONS[section].__struct_fields__)}"
                )
            found.append((section, key, value))
    return found


def _by_strength(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """The variables that are settings, ours after those of the platforms: the later one wins."""
    theirs = [(name, environ[name]) for name in ("PORT", *_PLATFORM) if environ.get(name)]
    ours = [
        (name, text)
        for name, text in environ.items()
        if name.startswith("RELAYD_")
        and name != "RELAYD_CONFIG"
        and not _KUBERNETES.fullmatch(name)
    ]
    return theirs + ours


def _read_variable(place: str, name: str, text: str) -> _Setting:
    if name == "PORT":
        if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
            raise ConfigError(f"{place}: PORT = {text!r}: must be a number from 0 to 65535")
        return _Setting(place, name, "server", "listen", [f"tcp:{int(text)}:interface=0.0.0.0"])
    if name in _PLATFORM:
        section, key = _PLATFORM[name]
        return _Setting(place, name, section, key, text)
    section, _, key = name.removeprefix("RELAYD_").lower().partition("_")
    if section not in SECTIONS:
        raise ConfigError(
            f"{place}: {name} = {_guess(section, key, text)}: no such section; "
            f"RELAYD_<SECTION>_<KEY> with a section of {_listed(SECTIONS)}"
        )
    if key not in SECTIONS[section].__struct_fields__:
        raise ConfigError(
            f"{place}: {name} = {_guess(section, key, text)}: no such setting; "
            f"[{section}] has {_listed(SECTIONS[section].__struct_fields__)}"
        )
    value: Any = text
    if isinstance(getattr(SECTIONS[section](), key), tuple):
        value = _to_list(text)
    return _Setting(place, name, section, key, value, strict=False)


def _to_list(text: str) -> Any:
    """A list in a variable: a TOML array, or separated by commas."""
    if text.lstrip().startswith("["):
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text
    return [part.strip() for part in text.split(",") if part.strip()]


def _listed(names: Any) -> str:
    return ", ".join(sorted(names))


def _shown(key: str, value: Any) -> str:
    """A value as an error message may show it: no key, no secret, no password."""
    if key in ("key", "secret") and value:
        return "(hidden)"
    return _PASSWORD.sub(r"\1:***@", repr(value).partition("?")[0]) if key == "url" else repr(value)


def _guess(section: str, key: str, value: Any) -> str:
    """The value of a setting that does not exist, unless it may be a secret that was misspelt."""
    return "(hidden)" if _SENSITIVE.search(f"{section} {key}") else repr(value)


def _check_endpoints(descriptions: tuple[str, ...]) -> None:
    if not descriptions:
        raise ValueError("must name at least one endpoint, such as tcp:8080:interface=127.0.0.1")
    for description in descriptions:
        try:
            # TCP, TLS and unix endpoints keep the reactor for later and do not touch it here
            endpoints.serverFromString(None, description)
            port = re.match(r"(?:tcp6?|ssl):(?:port=)?(-?\d+)", description)
            if port is not None and not 0 <= int(port[1]) <= 65535:
                raise ValueError("the port must be a number from 0 to 65535")
        except Exception as error:
            raise ValueError(
                f"{description!r} is no Twisted server endpoint ({error}); allowed are such as "
                "tcp:8080:interface=127.0.0.1, unix:/run/relayd.sock, "
                "ssl:8443:privateKey=key.pem:certKey=cert.pem"
            ) from error


def _check_origins(origins: tuple[str, ...]) -> None:
    for origin in origins:
        if not re.fullmatch(r"\*|null|[a-z][a-z0-9+.-]*://[^/?#\s]+", origin):
            raise ValueError(
                f"{origin!r} is no origin; allowed are such as https://example.org or "
                "https://example.org:8443, without a path or a slash at the end, and *"
            )


def _check_database_url(url: str) -> None:
    allowed = "must be empty, postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or sqlite:///FILE"
    if url and not re.match(r"(postgres|postgresql)://.|sqlite:///.", url):
        raise ValueError(allowed)
    if url.startswith("postgres"):
        hosts = urlsplit(url).netloc.rpartition("@")[2]
        for host in hosts.split(","):
            port = re.fullmatch(r"(?:\[.*\]|[^:]*)(?::(.*))?", host)
            if port is None or (port[1] and not port[1].isdigit()):
                raise ValueError(f"{allowed}; the port must be a number")


def _check_redis_url(url: str) -> None:
    if url:
        urls.parse_all(url.split())


def _check_secret(secret: str) -> None:
    if secret and len(secret.encode()) < 32:
        raise ValueError("must be empty or at least 32 bytes (RFC 7518 section 3.2)")


_HINTS = {name: get_type_hints(kind, include_extras=True) for name, kind in SECTIONS.items()}
_CHECKS: dict[tuple[str, str], Callable[[Any], None]] = {
    ("server", "listen"): _check_endpoints,
    ("server", "allowed_origins"): _check_origins,
    ("database", "url"): _check_database_url,
    ("redis", "url"): _check_redis_url,
    ("auth", "secret"): _check_secret,
}

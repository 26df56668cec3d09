"""Every setting with its type, its bounds and its default: one class for each section. Pure.

The ground of `relayd.config`. `etc/relayd.toml` lists every setting; a test keeps it equal to the
classes below. `checks` has the rules that a type cannot express.
"""

from typing import Annotated, Literal, get_type_hints

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0, le=3600)]
Count = Annotated[int, Meta(ge=0)]
Size = Annotated[int, Meta(ge=1, le=1 << 30)]
Identifier = Annotated[str, Meta(pattern=r"^[A-Za-z_]\w{0,62}\Z")]


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoints, the workers, and the drain."""

    listen: tuple[str, ...] = ("tcp:8080:interface=127.0.0.1",)
    names: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ("self",)
    deflate: bool = False
    drain_timeout: Seconds = 5.0
    restart_code: Literal[1001, 1012] = 1001
    workers: Annotated[int, Meta(ge=1, le=256)] | Literal["auto"] = 1
    spread: Literal["groups", "connections"] = "groups"


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """TLS in relayd itself, without a proxy; off without a certificate."""

    certificate: str = ""
    key: str = ""
    listen: tuple[str, ...] = ("tcp:8443",)


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """The proxies that are believed about the address of a client."""

    trusted: tuple[str, ...] = ()
    header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """Quizzes, actions and, on one process, the chat history."""

    url: str = ""
    url_file: str = ""
    migrate: bool = True
    samples: bool = True
    pool_size: Annotated[int, Meta(ge=1, le=100)] = 4
    connect_timeout: Seconds = 3.0
    statement_timeout: Seconds = 3.0
    deadline: Seconds = 4.0
    min_free: Count = 256 * 1024 * 1024


class Redis(msgspec.Struct, frozen=True, kw_only=True):
    """Redis, which joins several processes."""

    url: str = ""
    url_file: str = ""
    ca_file: str = ""
    verify: bool = True
    prefix: Annotated[str, Meta(pattern=r"^[\w.:-]{1,50}\Z")] = "relayd"
    deadline: Seconds = 2.0
    history_age: Annotated[float, Meta(ge=0)] = 0.0
    wait_replicas: Annotated[int, Meta(ge=0, le=10)] = 0
    django_channels: bool = False
    django_prefix: Annotated[str, Meta(pattern=r"^[\w.:-]{1,50}\Z")] = "asgi"


class Camera(msgspec.Struct, frozen=True, kw_only=True):
    """The pose relay."""

    slow_viewers: Literal["latest", "close"] = "latest"


class Chat(msgspec.Struct, frozen=True, kw_only=True):
    """The chat rooms."""

    default_room: str = "lobby"
    history: Annotated[int, Meta(ge=0, le=1000)] = 50
    history_length: Annotated[int, Meta(ge=1)] = 10_000
    history_bytes: Annotated[int, Meta(ge=1024)] = 4 * 1024 * 1024
    total_bytes: Annotated[int, Meta(ge=1024)] = 256 * 1024 * 1024
    max_rooms: Annotated[int, Meta(ge=1)] = 10_000
    new_rooms_per_hour: Count = 100
    room_age: Annotated[float, Meta(ge=0)] = 30 * 86400.0
    tags_kept: Annotated[float, Meta(ge=1, le=86400)] = 300.0
    message_prefix: str = ""
    list_rooms: Literal["off", "token", "open"] = "token"


class Echo(msgspec.Struct, frozen=True, kw_only=True):
    """The echo path, for conformance suites and for checking a proxy."""

    enabled: bool = False
    max_message_size: Size = 16 * 1024 * 1024


class Api(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTP API that publishes; off without a key."""

    key: str = ""
    key_file: str = ""
    allowed_origins: tuple[str, ...] = ()


class Metrics(msgspec.Struct, frozen=True, kw_only=True):
    """Figures for Prometheus at `/metrics`."""

    enabled: bool = True
    allow: tuple[str, ...] = ("127.0.0.0/8", "::1/128")


class Console(msgspec.Struct, frozen=True, kw_only=True):
    """The operator's pages at `/console/`; off without a password."""

    password_hash: str = ""
    password_hash_file: str = ""
    session_age: Annotated[float, Meta(ge=60, le=604_800)] = 28_800.0


PathAuth = Literal["", "open", "token", "django"]
Texts = tuple[str, ...]


class Auth(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of clients in the handshake; ignored without keys."""

    secret: str = ""
    secret_file: str = ""
    keys: str = ""
    keys_file: str = ""
    jwks_url: str = ""
    jwks_ca_file: str = ""
    jwks_http: bool = False
    jwks_age: Annotated[float, Meta(ge=1, le=86_400)] = 600.0
    jwks_deadline: Seconds = 5.0
    audience: Texts = ()
    issuer: Texts = ()
    required: bool = False
    camera: PathAuth = ""
    difficulty: PathAuth = ""
    chat: PathAuth = ""
    push: PathAuth = ""
    echo: PathAuth = ""
    denials_file: str = ""

    @property
    def has_keys(self) -> bool:
        """Whether tokens can be checked; without keys they are ignored."""
        return bool(self.secret or self.keys or self.jwks_url)

    def needs_token(self, kind: str) -> bool:
        """Whether a client must send a token on the paths of a kind, given by name."""
        word = getattr(self, kind, "")
        return self.required if word not in ("open", "token") else word == "token"

    @property
    def paths_with_django(self) -> tuple[str, ...]:
        """The kinds of path on which clients need the session of a Django site, by name."""
        kinds = ("camera", "difficulty", "chat", "push", "echo")
        return tuple(kind for kind in kinds if getattr(self, kind) == "django")


class Django(msgspec.Struct, frozen=True, kw_only=True):
    """A Django site, whose sessions clients have on the paths with `[auth] <kind> = "django"`."""

    secret_key: str = ""
    secret_key_file: str = ""
    secret_key_fallbacks: tuple[str, ...] = ()
    url: str = ""
    url_file: str = ""
    sessions: Literal["database", "signed_cookies", "cache"] = "database"
    cache_url: str = ""
    cache_url_file: str = ""
    cache_prefix: str = ""
    cache_version: Annotated[int, Meta(ge=0)] = 1
    cookie_name: Annotated[str, Meta(pattern=r"^[\w.-]{1,100}\Z")] = "sessionid"
    cookie_age: Annotated[float, Meta(gt=0)] = 1_209_600.0
    session_table: Identifier = "django_session"
    user_table: Identifier = "auth_user"
    user_key: Identifier = "id"
    user_name: Identifier = "username"
    deadline: Seconds = 3.0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what one client may cost."""

    max_connections: Count = 0
    reserved_files: Annotated[int, Meta(ge=16, le=100_000)] = 64
    max_groups: Count = 20_000
    groups_per_address: Count = 5000
    connections_per_address: Count = 2000
    half_open_per_address: Count = 1000
    handshakes_per_second: Annotated[float, Meta(ge=0, le=1_000_000)] = 200.0
    failures_per_second: Annotated[float, Meta(ge=0, le=1_000_000)] = 10.0
    requests_per_second: Annotated[float, Meta(ge=0, le=1_000_000)] = 100.0
    exempt: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    max_message_size: Size = 64 * 1024
    max_head_size: Size = 16 * 1024
    send_buffer: Size = 1024 * 1024
    coalesce: Annotated[float, Meta(ge=0, le=1)] = 0.005
    max_waiting: Annotated[int, Meta(ge=1)] = 1000
    messages_per_second: Annotated[float, Meta(ge=0, le=1_000_000)] = 500.0
    bytes_per_second: Annotated[float, Meta(ge=0, le=1 << 30)] = 2.0 * 1024 * 1024
    group_messages_per_second: Annotated[float, Meta(ge=0, le=1_000_000)] = 20_000.0
    overload_lag: Annotated[float, Meta(ge=0, le=60)] = 0.5


class Keepalive(msgspec.Struct, frozen=True, kw_only=True):
    """Timeouts that detect dead and slow peers."""

    ping_interval: Seconds = 25.0
    pong_timeout: Seconds = 20.0
    handshake_timeout: Seconds = 10.0
    request_timeout: Seconds = 30.0
    body_rate: Annotated[float, Meta(ge=0, le=1e9)] = 1000.0
    close_timeout: Seconds = 10.0


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """The level and the form of the log, where relayd chooses the destination."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json", "journal"] = "auto"


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """The unix socket for the requests of `relayctl`."""

    socket: str = ""


class Sections(msgspec.Struct, frozen=True, kw_only=True):
    """One member for each section; the rest of relayd uses `relayd.config.Config`."""

    server: Server = Server()
    tls: Tls = Tls()
    proxy: Proxy = Proxy()
    database: Database = Database()
    redis: Redis = Redis()
    camera: Camera = Camera()
    chat: Chat = Chat()
    echo: Echo = Echo()
    api: Api = Api()
    metrics: Metrics = Metrics()
    console: Console = Console()
    auth: Auth = Auth()
    django: Django = Django()
    limits: Limits = Limits()
    keepalive: Keepalive = Keepalive()
    log: Log = Log()
    control: Control = Control()


SECTIONS: dict[str, type[msgspec.Struct]] = get_type_hints(Sections)

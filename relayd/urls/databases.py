"""Database URLs become frozen places; every mistake in one is a ValueError that quotes none of it.

On no other module; read by the configuration and by `storage.engines`. The forms:

    (empty)                            the embedded default, var/relayd.db
    sqlite:///relative/path.db         sqlite:////absolute/path.db
    postgresql://USER:PASSWORD@HOST:PORT/DATABASE?NAME=VALUE&...
    host=... dbname=... password=...   a keyword string

The last two are read by libpq itself (https://www.postgresql.org/docs/current/libpq-connect.html):
several hosts, IPv6 in brackets, a unix socket as `?host=/run/postgresql` or in percent-encoding,
`#`, `?` and `[` in a password. `postgres://` and SQLAlchemy's `postgresql+psycopg2://` mean the
same. Parameters that poolers and ORMs add for themselves (FOREIGN) are left out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import unquote

DEFAULT = "sqlite:///var/relayd.db"
ALLOWED = "must be empty, postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or sqlite:///FILE"

FOREIGN = frozenset(
    {
        # Prisma
        *("connection_limit", "pgbouncer", "pool_timeout", "socket_timeout"),
        *("statement_cache_size", "sslidentity", "sslaccept"),
        # Django and SQLAlchemy, asyncpg, JDBC, Go, Supabase and others
        *("conn_max_age", "pool_size", "max_overflow", "pool_recycle", "pool_pre_ping"),
        *("prepared_statement_cache_size", "preparethreshold", "prepare_threshold"),
        *("prepared_statements", "default_query_exec_mode", "pool_max_conns", "pool_min_conns"),
        *("supa", "workaround", "uselibpqcompat", "pool", "max", "min"),
    }
)
"""Parameters of other programs, in lower case."""

_SCHEME = re.compile(r"(postgres|postgresql)(?:\+[a-z0-9]+)?://", re.IGNORECASE)
_KEYWORDS = re.compile(r"\s*[a-z_]+\s*=")
_OTHERS = re.compile(
    r"(mysql|mariadb|mongodb|mssql|sqlserver|oracle|redis|rediss|jdbc|cockroachdb|http|https)\b",
    re.IGNORECASE,
)
_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SESSIONS = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
_NUMBERS = (
    *("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval"),
    *("keepalives_count", "tcp_user_timeout"),
)


@dataclass(frozen=True)
class File:
    """A SQLite database.

    Attributes:
        path: of its file; relative ones start in the working directory.
    """

    path: str


@dataclass(frozen=True)
class Server:
    """A PostgreSQL database.

    Attributes:
        keywords: of libpq, such as `host` and `password`.
        schema: where its tables are; empty for the first of the server's search_path.
    """

    keywords: Mapping[str, str] = field(repr=False)
    schema: str = ""

    @property
    def label(self) -> str:
        """The database in words that may be shown: never the password."""
        given = self.keywords
        where = given.get("host") or given.get("hostaddr") or "the default socket"
        port = f" port {given['port']}" if given.get("port") else ""
        return f"PostgreSQL {given.get('dbname', '(default)')} at {where}{port}"


Place = File | Server


def parse(url: str) -> Place:
    """The place of a database.

    Raises:
        ValueError: the URL cannot be used; the sentence says why and what is allowed.
    """
    url = url or DEFAULT
    if "\0" in url or not url.isprintable():
        _refuse("it holds characters that are not printable, or is not UTF-8")
    if url[:7].lower() == "sqlite:":
        return _file(url)
    if _SCHEME.match(url):
        return _server(*_without_foreign(url))
    if "://" not in url.partition("=")[0] and _KEYWORDS.match(url):
        return _server(url)
    other = _OTHERS.match(url)
    _refuse(f"{other[1].lower()} is another store" if other else "it begins with something else")


def differ_in_login_only(one: str, other: str) -> bool:
    """Whether two URLs name the same database of a server, with another user or password.

    Raises:
        ValueError: a URL cannot be used.
    """
    first, second = parse(one), parse(other)
    if not isinstance(first, Server) or not isinstance(second, Server):
        return False
    user, another = first.keywords.get("user"), second.keywords.get("user")
    if user != another and not first.keywords.get("dbname"):
        return False  # libpq connects to the database with the name of the user
    return first.schema == second.schema and _place(first.keywords) == _place(second.keywords)


def _place(keywords: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in keywords.items() if name not in ("user", "password")}


def _file(url: str) -> File:
    start, path = url[: len("sqlite:///")], unquote(url[len("sqlite:///") :])
    if start.lower() != "sqlite:///" or path in ("", ":memory:") or "?" in url or "\0" in path:
        _refuse(
            "a SQLite URL names a file, sqlite:///relative/path.db or sqlite:////absolute/path.db"
        )
    return File(path)


def _without_foreign(url: str) -> tuple[str, str]:
    """The URL in libpq's spelling without the parameters of others, and the schema."""
    rest = url.partition("://")[2]
    # as libpq: a password ends at the first @, if that stands before the first /
    end = re.match(r"[^@/]*@", rest)
    behind = rest[end.end() :] if end else rest
    if "@" in behind.partition("?")[0]:
        # libpq would take a part of the password for a host or a database, and show it
        _refuse("an @ in a password is written %40, a / is written %2F")
    place, mark, query = behind.partition("?")
    kept, schema = [], ""
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        name = unquote(name).lower()
        if name == "schema":
            schema = unquote(value)
        elif name not in FOREIGN:
            kept.append(part)
    login = end[0] if end else ""
    return f"postgresql://{login}{place}{mark if kept else ''}{'&'.join(kept)}", schema


def _server(text: str, schema: str = "") -> Server:
    # imported here: it takes 0.05 s of CPU time, which every start with SQLite would spend
    import psycopg2
    from psycopg2.extensions import parse_dsn

    try:
        keywords = dict(parse_dsn(text))
    except (psycopg2.Error, UnicodeError, ValueError):
        # libpq's own words quote the URL, password included
        _refuse(
            "PostgreSQL's libpq cannot read it: the port must be a number, a parameter one of "
            "libpq's, a value with a blank in quotes; in a password of a URL, %, @, : and / are "
            "written %25, %40, %3A and %2F"
        )
    _check(keywords)
    if schema and not re.fullmatch(r"\w+", schema):
        _refuse("schema= is the name of one schema")
    return Server(keywords, schema)


def _check(keywords: Mapping[str, str]) -> None:
    """What libpq finds only when it connects. Raises ValueError."""
    hosts = (keywords.get("host") or keywords.get("hostaddr") or "").split(",")
    ports = keywords.get("port", "").split(",")
    if not all(port == "" or (port.isdecimal() and 1 <= int(port) <= 65535) for port in ports):
        _refuse("a port must be a number from 1 to 65535")
    if len(ports) not in (1, len(hosts)):
        _refuse("there are as many ports as hosts, or one")
    if any("@" in host for host in hosts):
        _refuse("an @ in a password is written %40")
    for name, words in (("sslmode", _MODES), ("target_session_attrs", _SESSIONS)):
        if keywords.get(name, words[0]) not in words:
            _refuse(f"{name} is one of {', '.join(words)}")
    for name in _NUMBERS:
        if not re.fullmatch(r"\s*-?\d{1,9}\s*", keywords.get(name, "0")):
            _refuse(f"{name} is a number")


def _refuse(what: str) -> NoReturn:
    raise ValueError(f"{ALLOWED}: {what}") from None

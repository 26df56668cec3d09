"""Redis URLs become frozen targets; every mistake in one is a ValueError that shows no password.

Pure; read by the configuration and by `relayd.redis`. The forms:

    redis://[user:password@]host[:port][/db]        port 6379 and database 0 unless given
    rediss://[user:password@]host[:port][/db]       TLS; certificate and host name are verified
    unix://[user:password@]/path/of.sock[?db=N]
    sentinel://[user:password@]host[:port][,host[:port]...]/service[/db][?...]     port 26379
    sentinels://...                                 TLS to the sentinels and to the master

`user:password@` is for Redis itself, the master; `:password@` is for its default user. What the
sentinels ask for stands in the parameters of a sentinel URL:

    sentinel_user=, sentinel_password=    the sentinels' own
    tls=sentinels | tls=master            with sentinels://: only one of the two hops is encrypted
    tls_name=                             what the master's certificate is for, if not the address
                                          that the sentinels give

In users, passwords, paths and parameters, `%XX` stands for a byte; `%`, `/` and spaces are written
so, and in parameters `&`. Everything up to the last @ in front of the first / is user and password,
so `#`, `?`, `[` and `@` in a password may stand as they are. IPv6 addresses stand in brackets.
`redis://` and `rediss://` take `db=`, and parameters of other clients, which mean nothing here
(FOREIGN).
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NoReturn
from urllib.parse import unquote

FORMS = (
    "redis://[user:password@]host[:port][/db], rediss:// for TLS, "
    "unix://[user:password@]/path[?db=N] or "
    "sentinel://[user:password@]host[:port],host[:port]/service[/db], sentinels:// for TLS"
)

FOREIGN = frozenset(
    {
        # redis-py
        *("protocol", "timeout", "socket_timeout", "socket_connect_timeout", "socket_keepalive"),
        *("health_check_interval", "max_connections", "retry_on_timeout", "decode_responses"),
        *("encoding", "client_name"),
        # ioredis, go-redis and others
        *("family", "connect_timeout", "read_timeout", "write_timeout", "dial_timeout"),
        *("pool_size", "pool_timeout", "min_idle_conns", "max_retries", "connection_limit"),
    }
)
"""Parameters of other clients that mean nothing for relayd."""

_PARAMETERS = ("sentinel_user", "sentinel_password", "tls", "tls_name")


@dataclass(frozen=True)
class Credentials:
    """User and password: both empty without a login; without a user, Redis' default one."""

    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.user or self.password)


@dataclass(frozen=True)
class TCP:
    """A host and port.

    Attributes:
        host: a name or an IP address, without brackets.
        port: 1 to 65535.
        tls: whether the connection is encrypted, and the certificate verified.
        tls_name: the name that the certificate must have; the host, if empty.
    """

    host: str
    port: int
    tls: bool = False
    tls_name: str = ""

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Unix:
    """A socket in the file system."""

    path: str

    def __str__(self) -> str:
        return self.path


Address = TCP | Unix


@dataclass(frozen=True)
class Server:
    """One Redis at a fixed address."""

    address: Address
    credentials: Credentials = Credentials()
    db: int = 0

    @property
    def name(self) -> str:
        """The name that tells this shard from others; without the password."""
        return f"{self.address}/{self.db}" if self.db else f"{self.address}"


@dataclass(frozen=True)
class Sentinels:
    """The master of a service that sentinels watch.

    Attributes:
        sentinels: where they are.
        service: the name of the service at the sentinels.
        credentials: for the master.
        sentinel_credentials: for the sentinels.
        db: the database.
        tls: whether the connection to the master is encrypted.
        tls_name: the name that the master's certificate must have; its address, if empty.
    """

    sentinels: tuple[TCP, ...]
    service: str
    credentials: Credentials = Credentials()
    sentinel_credentials: Credentials = Credentials()
    db: int = 0
    tls: bool = False
    tls_name: str = ""

    @property
    def name(self) -> str:
        """The name that tells this shard from others; without the sentinels, which may change."""
        return f"{self.service}/{self.db}" if self.db else self.service


Target = Server | Sentinels


def parse_all(urls: Iterable[str]) -> tuple[Target, ...]:
    """The targets of one or more URLs, each of them a shard.

    Raises:
        ValueError: a URL is wrong, there is none, or two are for the same server.
    """
    targets: list[Target] = []
    for number, url in enumerate(urls, 1):
        try:
            targets.append(parse(url))
        except ValueError as error:
            raise ValueError(f"Redis URL {number}: {error}") from None
    if not targets:
        raise ValueError(f"there is no Redis URL; allowed is {FORMS}")
    names = [target.name for target in targets]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"two Redis URLs are for the same server: {', '.join(sorted(twice))}")
    return tuple(targets)


def parse(url: str) -> Target:
    """The target of one URL.

    Raises:
        ValueError: it is wrong; the sentence says how and what is allowed.
    """
    scheme, found, rest = url.partition("://")
    if not found:
        azure = re.search(r",\s*(password|ssl|abortconnect)=", url, re.IGNORECASE)
        _refuse(
            "a connection string of .NET is written rediss://:PASSWORD@HOST:PORT"
            if azure
            else "it has no ://"
        )
    if not rest.isprintable() or re.search(r"\s", rest):
        _refuse("a space is written %20")
    login = re.match(r"[^/]*@", rest)
    userinfo, rest = (login[0][:-1], rest[login.end() :]) if login else ("", rest)
    rest, _, query = rest.partition("?")
    if re.search(r"[#\\]", rest):
        _refuse("# and \\ are written %23 and %5C")
    hosts, slash, path = rest.partition("/")
    credentials = _credentials(userinfo)
    parameters = _parameters(query)
    if scheme in ("redis", "rediss"):
        address = _address(hosts, 6379, tls=scheme == "rediss")
        return Server(address, credentials, _db_of(path, parameters))
    if scheme == "unix":
        if hosts or not path:
            _refuse("a unix:// URL has a whole path and no host: three slashes")
        _only(parameters, ("db",))
        return Server(Unix(_decode(slash + path)), credentials, _db(parameters.get("db", "")))
    if scheme in ("sentinel", "sentinels"):
        if "@" in path:  # else a part of a password would pass for the service
            _refuse("a / in a password is written %2F, an @ in a service %40")
        return _sentinels(scheme == "sentinels", hosts, path, credentials, parameters)
    _refuse("it begins with something else")


def _sentinels(
    tls: bool, hosts: str, path: str, credentials: Credentials, parameters: dict[str, str]
) -> Sentinels:
    _only(parameters, _PARAMETERS)
    hops = parameters.get("tls", "both" if tls else "none")
    if hops not in (("both", "sentinels", "master") if tls else ("none",)):
        _refuse("tls= is sentinels or master and goes with sentinels://")
    tls_name = parameters.get("tls_name", "")
    if tls_name and hops not in ("both", "master"):
        _refuse("tls_name= goes with TLS to the master")
    service, _, db = path.partition("/")
    if not service:
        _refuse("the service is missing")
    user, password = parameters.get("sentinel_user", ""), parameters.get("sentinel_password", "")
    if user and not password:
        _refuse("sentinel_user= goes with sentinel_password=")
    encrypted = hops in ("both", "sentinels")
    return Sentinels(
        tuple(_address(host, 26379, tls=encrypted) for host in hosts.split(",")),
        _decode(service),
        credentials,
        Credentials(user, password),
        _db(db),
        hops in ("both", "master"),
        tls_name,
    )


def differ_in_login_only(one: str, other: str) -> bool:
    """Whether two lists of URLs name the same servers, with other users or passwords.

    Raises:
        ValueError: a URL cannot be used.
    """
    if not one.split() or not other.split():
        return False
    first, second = ([_place(each) for each in parse_all(text.split())] for text in (one, other))
    return first == second


def _place(target: Target) -> Target:
    if isinstance(target, Sentinels):
        return replace(target, credentials=Credentials(), sentinel_credentials=Credentials())
    return replace(target, credentials=Credentials())


def _credentials(userinfo: str) -> Credentials:
    user, colon, password = userinfo.partition(":")
    if user and not colon:
        _refuse("a user goes with a password, user:password@")
    return Credentials(_decode(user), _decode(password))


def _address(text: str, port: int, *, tls: bool) -> TCP:
    found = re.fullmatch(r"(?:\[([^\[\]]+)\]|([\w.-]+))(?::(\d{1,5}))?", text)
    if found is None:
        _refuse("a host, with a port from 1 to 65535 if it is another, is missing or wrong")
    if found[3]:
        port = int(found[3])
    if not 1 <= port <= 65535:
        _refuse("a port is a number from 1 to 65535")
    if found[1]:
        _check_ipv6(found[1])
    return TCP((found[1] or found[2]).lower(), port, tls)


def _check_ipv6(host: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        _refuse("in brackets stands an IPv6 address")


def _db(text: str) -> int:
    if not re.fullmatch(r"\d{0,9}", text, re.ASCII):
        _refuse("the database is a number, 0 or more")
    return int(text or 0)


def _db_of(path: str, parameters: dict[str, str]) -> int:
    """The database of a redis:// URL, in its path or its parameters."""
    verify = parameters.pop("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if verify != "required" or any(name.startswith("ssl") for name in parameters):
        _refuse("[redis] ca_file and verify say how the certificate is verified, not the URL")
    _only(parameters.keys() - FOREIGN, ("db",))
    if path and "db" in parameters and _db(path) != _db(parameters["db"]):
        _refuse("the database is named twice")
    return _db(path or parameters.get("db", ""))


def _parameters(query: str) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for part in query.split("&") if query else ():
        name, equals, value = part.partition("=")
        if not equals or name in parameters:
            _refuse("parameters are written name=value, joined by &, each once")
        parameters[name] = _decode(value)
    return parameters


def _only(parameters: Iterable[str], allowed: tuple[str, ...]) -> None:
    if not set(parameters) <= set(allowed):
        _refuse(f"parameters of this kind of URL are {', '.join(allowed)}")


def _decode(text: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        _refuse("% is followed by two hexadecimal digits; a % itself is written %25")
    decoded = unquote(text, errors="surrogateescape")
    # an exception of the decoder would show what it could not decode
    if re.search("[\udc80-\udcff]", decoded):
        _refuse("what stands after % is not UTF-8")
    return decoded


def _refuse(what: str) -> NoReturn:
    raise ValueError(f"{what}; allowed is {FORMS}") from None

"""The server that `relayctl bench` loads, from a URL or from a listening address.

The lowest of the `bench` modules, with the exceptions for failures of a server:

    BenchFailed          the server cannot be reached, refuses, or ends: exit code 1
    ├── Full             it admits no further connections
    └── Silent           it did not answer in time, perhaps because it is overloaded
"""

import re
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from relayd.errors import ConfigError, RelaydError
from relayd.tls import contexts
from relayd.urls.masking import mask_url

PATH = "/ws/camera"
_SCHEMES = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}
_UNESCAPED_COLON = re.compile(r"(?<!\\):")


class BenchFailed(RelaydError):
    """The load cannot be put on the server; the text is a sentence for the operator."""


class Full(BenchFailed):
    """The server admits no further connections.

    Attributes:
        connected: the number of our connections that it had admitted.
    """

    def __init__(self, message: str, connected: int) -> None:
        super().__init__(message)
        self.connected = connected


class Silent(BenchFailed):
    """The server did not answer in time, or ended a connection before it was open."""


@dataclass(frozen=True)
class Target:
    """A server.

    Attributes:
        url: ws:// or wss://, up to the path of the camera relay, without a slash at the end.
        host: name or address in it.
        port: port in it, or that of the scheme.
        unix: path of a unix socket to connect to instead, or "".
        token: sent as `Authorization: Bearer`, or "".
        trust: checks the certificate; None without TLS.
    """

    url: str
    host: str
    port: int
    unix: str = ""
    token: str = ""
    trust: ssl.SSLContext | None = None

    @property
    def shown(self) -> str:
        """Its name in messages."""
        return f"unix:{self.unix}" if self.unix else self.url


def parse_target(text: str, *, token: str = "", ca: str = "", insecure: bool = False) -> Target:
    """Reads a URL.

    Args:
        text: ws://, wss://, http:// or https://, with or without the path of the camera relay; or
            unix:PATH.
        token: for the handshake; or "".
        ca: file of certificates (PEM) to trust instead of the system's.
        insecure: whether to trust any certificate.

    Raises:
        ConfigError: the URL or the file is wrong.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if path.startswith("//"):
            path = path[2:]
        if not path:
            raise ConfigError(f"{text!r}: the path of the socket is missing")
        if ca or insecure:
            raise ConfigError("--ca and --insecure are for wss:// only")
        return Target("ws://localhost", "localhost", 0, path, token)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{mask_url(text)} is no URL") from error
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not host or re.search(r"[\s\x00-\x1f\x7f]", text):
        raise ConfigError(
            f"{mask_url(text)}: must be such as ws://127.0.0.1:8080 or wss://example.org"
        )
    if "@" in parts.netloc or parts.fragment:
        raise ConfigError(
            "the URL may have neither a user nor a fragment; a token goes to --token-file"
        )
    if parts.query:
        raise ConfigError("the URL may have no query; a token goes to --token-file")
    prefix, _, group = parts.path.rstrip("/").partition(PATH)
    if group:
        raise ConfigError(
            f"{parts.path}: write the URL without a group; --group names the groups of the load"
        )
    if scheme == "ws" and (ca or insecure):
        raise ConfigError("--ca and --insecure are for wss:// only")
    return Target(
        f"{scheme}://{parts.netloc}{prefix}",
        host,
        port or (443 if scheme == "wss" else 80),
        token=token,
        trust=_trust(ca, insecure) if scheme == "wss" else None,
    )


def _trust(ca: str, insecure: bool) -> ssl.SSLContext:
    if ca and insecure:
        raise ConfigError("--ca checks the certificate, --insecure does not: use one of them")
    try:
        context = contexts.verifying(ca)
    except ssl.SSLError as error:
        raise ConfigError(f"--ca {ca}: holds no certificates (PEM)") from error
    except OSError as error:
        raise ConfigError(f"--ca {ca}: cannot be read: {error.strerror}") from error
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def listening_url(description: str) -> str:
    """The URL of a Twisted endpoint description of `[server] listen`, from this machine.

    Raises:
        ConfigError: the description has no address for clients.
    """
    kind, *words = [part.replace("\\:", ":") for part in _UNESCAPED_COLON.split(description)]
    plain = [word for word in words if "=" not in word]
    named = dict(word.split("=", 1) for word in words if "=" in word)
    if kind == "unix":
        return f"unix:{named.get('address') or plain[0]}"
    port = named.get("port") or (plain[0] if plain else "0")
    if kind not in ("tcp", "tcp6", "ssl") or port == "0":
        raise ConfigError(
            f"[server] listen = {description!r} has no address to connect to: give the URL"
        )
    interface = named.get("interface", "")
    if interface in ("", "0.0.0.0", "::"):
        interface = "::1" if kind == "tcp6" or interface == "::" else "127.0.0.1"
    host = f"[{interface}]" if ":" in interface else interface
    return f"{'wss' if kind == 'ssl' else 'ws'}://{host}:{port}"

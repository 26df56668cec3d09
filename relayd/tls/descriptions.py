"""The description of an endpoint with TLS, as Twisted writes it: `ssl:PORT:certKey=...`. Pure.

The ground of `relayd.tls`. `[tls] listen` has plain endpoints, which become such descriptions, so
that the rest of relayd knows one form. We parse it ourselves, because Twisted's parser sends the
first certificate of `certKey` alone and asks for no protocol (ALPN).
"""

import os
import re
from collections.abc import Sequence

import msgspec

_UNESCAPED_COLON = re.compile(r"(?<!\\):")
_NAMES = ("port", "privateKey", "certKey", "sslmethod", "interface", "backlog")
"""The order in which Twisted takes words without a name."""
_KNOWN = frozenset((*_NAMES, "extraCertChain", "dhParameters"))
_IGNORED = ("sslmethod", "dhParameters")
"""TLS 1.2 and 1.3 are spoken whatever the method; none of our ciphers uses DH parameters."""


class Files(msgspec.Struct, frozen=True):
    """The files of a certificate, in PEM.

    Attributes:
        certificate: the certificate of the server first, then those of its issuers.
        key: the private key of the first certificate; may be the same file.
        chain: further certificates of issuers; "" for none.
    """

    certificate: str
    key: str
    chain: str = ""

    def below(self, folder: str) -> "Files":
        """The same files, with relative paths below a folder; "" for the working directory."""
        paths = (self.certificate, self.key, self.chain)
        return Files(*(path and os.path.join(folder, path) for path in paths))


class Encrypted(msgspec.Struct, frozen=True):
    """An endpoint with TLS.

    Attributes:
        plain: the endpoint below TLS, `tcp:PORT:...`, in Twisted's form.
        files: its certificate.
    """

    plain: str
    files: Files


def parse(description: str) -> Encrypted:
    """Parses `ssl:PORT:privateKey=FILE:certKey=FILE`.

    Raises:
        ValueError: a word is unknown, or the port is missing.
    """
    kind, *words = _UNESCAPED_COLON.split(description)
    if kind != "ssl":
        raise ValueError("the description of an endpoint with TLS begins with ssl:")
    found: dict[str, str] = {}
    for name, word in zip((*_NAMES, *[""] * len(words)), words, strict=False):
        key, mark, value = word.partition("=")
        if not mark:
            key, value = name, word
        if key in _IGNORED:
            continue
        if key not in _KNOWN:
            raise ValueError(f"ssl: knows {', '.join(sorted(_KNOWN))}, not {word!r}")
        found[key] = value
    if not found.get("port"):
        raise ValueError("ssl: needs a port")
    key = _unescaped(found.get("privateKey", "server.pem"))
    files = Files(
        _unescaped(found.get("certKey", "")) or key,
        key,
        _unescaped(found.get("extraCertChain", "")),
    )
    rest = [f"{name}={found[name]}" for name in ("interface", "backlog") if found.get(name)]
    return Encrypted(":".join(("tcp", found["port"], *rest)), files)


def encrypt(description: str, files: Files) -> str:
    """The description of a plain endpoint with TLS on it.

    Args:
        description: `tcp:PORT` or `tcp6:PORT`, with `interface` and `backlog` perhaps.
        files: the certificate.

    Raises:
        ValueError: the endpoint is of another kind.
    """
    kind, *words = _UNESCAPED_COLON.split(description)
    if kind not in ("tcp", "tcp6") or not words:
        raise ValueError(
            f"{description!r} is not a TCP endpoint; allowed are such as tcp:8443, "
            r"tcp:443:interface=192.0.2.1 and tcp6:443:interface=\:\:"
        )
    named = dict(zip(("port", "backlog", "interface"), ("", "", ""), strict=True))
    for name, word in zip(_order(kind), words, strict=False):
        key, mark, value = word.partition("=")
        named[key if mark else name] = value if mark else word
    if kind == "tcp6" and not named["interface"]:
        named["interface"] = r"\:\:"
    parts = [f"ssl:{named['port']}"]
    parts += [f"{key}={named[key]}" for key in ("interface", "backlog") if named[key]]
    parts += [f"privateKey={_escaped(files.key)}", f"certKey={_escaped(files.certificate)}"]
    return ":".join(parts)


def all_files(descriptions: Sequence[str]) -> dict[Files, list[str]]:
    """The certificates of the endpoints with TLS among these, each with its endpoints.

    An endpoint behind `haproxy:` is one of them, too; a description that is wrong is none.
    """
    found: dict[Files, list[str]] = {}
    for description in descriptions:
        inner = description.removeprefix("haproxy:")
        if inner.startswith("ssl:"):
            found.setdefault(parse(inner).files, []).append(description)
    return found


def _order(kind: str) -> tuple[str, ...]:
    return ("port", "interface", "backlog") if kind == "tcp" else ("port", "backlog", "interface")


def _escaped(text: str) -> str:
    return re.sub(r"([\\:=])", r"\\\1", text)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)

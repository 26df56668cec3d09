"""nginx's configuration by nginx's own rules: includes, the choice of a location, inheritance.

Under the checks of `doctor` in `nginx`, on crossplane, which parses. The saved output of `nginx -T`
contains all files of a configuration, one after the other.
"""

import fnmatch
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crossplane

from relayd.ctl.bench.target import listening_url
from relayd.errors import ConfigError, RelaydError

Block = list[dict[str, Any]]

HANDSHAKE = "/ws/camera/doctor"
"""The path of a handshake."""
_PART = re.compile(r"^# configuration file (.+):$", re.MULTILINE)


class Unreadable(RelaydError):
    """nginx's configuration cannot be read; the text says why."""


class Refused(Unreadable):
    """nginx itself refuses its configuration."""


@dataclass(frozen=True)
class Way:
    """The way of a handshake through nginx.

    Attributes:
        place: file and line of the location.
        blocks: the blocks around it from the outside in: http, server, location.
        servers: the parameters of each `server` of the upstream; of one, if there is no upstream.
        upstream: the directives of the upstream; empty without one.
    """

    place: str
    blocks: tuple[Block, ...]
    servers: tuple[tuple[str, ...], ...]
    upstream: Block

    def value(self, name: str, default: str = "") -> str:
        """The first word of a directive, of the innermost block that has it."""
        for block in reversed(self.blocks):
            for directive in _named(block, name):
                return str(directive["args"][0]) if directive["args"] else ""
        return default

    def headers(self) -> dict[str, str]:
        """The headers of `proxy_set_header`: a block that sets one inherits none."""
        for block in reversed(self.blocks):
            found = {
                str(one["args"][0]).lower(): str(one["args"][1])
                for one in _named(block, "proxy_set_header")
                if len(one["args"]) > 1
            }
            if found:
                return found
        return {}


class Nginx:
    """A parsed configuration.

    Args:
        main: the directives of the outermost file, with includes replaced by their contents.
        source: the file or the command, for people.

    Attributes:
        whole: whether it is the whole configuration of nginx, not a site alone.
    """

    def __init__(self, main: Block, source: str) -> None:
        self.main = main
        self.source = source
        inside = [one["block"] for one in _named(main, "http")]
        # the file of a site is a part of the block http
        self._https: list[Block] = inside or [main]
        self.whole = bool(inside)

    def main_value(self, name: str, default: str) -> str:
        """The value of a directive outside of all blocks, or in `events`."""
        for block in (self.main, *(one["block"] for one in _named(self.main, "events"))):
            for directive in _named(block, name):
                return str(directive["args"][0])
        return default

    def has(self, prefix: str) -> bool:
        """Whether the path of a location begins with a prefix."""
        return any(
            str(location["args"][-1]).startswith(prefix)
            for http in self._https
            for server in _named(http, "server")
            for location in _locations(server["block"])
        )

    def find_way(self, listen: Sequence[str], path: str = HANDSHAKE) -> Way | None:
        """Finds the location of a request in the first server that forwards requests to relayd.

        Args:
            listen: the endpoints on which relayd listens.
            path: of the request.
        """
        ours = addresses(listen)
        for http in self._https:
            upstreams = {str(one["args"][0]): one["block"] for one in _named(http, "upstream")}
            for server in _named(http, "server"):
                block = server["block"]
                if not any(self._passed(one, upstreams, ours) for one in _locations(block)):
                    continue
                location = _match(block, path)
                if location is None:
                    return None
                found = self._passed(location, upstreams, ours)
                if found is None:
                    return None
                servers, upstream = found
                place = f"{location['file']}:{location['line']}"
                return Way(place, (http, block, location["block"]), servers, upstream)
        return None

    def _passed(
        self, location: dict[str, Any], upstreams: dict[str, Block], ours: set[str]
    ) -> tuple[tuple[tuple[str, ...], ...], Block] | None:
        """The servers to which a location forwards requests, if one of them is relayd."""
        for directive in _named(location["block"], "proxy_pass"):
            target = re.sub(r"^https?://", "", str(directive["args"][0]))
            name = target.split("/")[0] if not target.startswith("unix:") else target
            upstream = upstreams.get(name, [])
            servers = tuple(tuple(map(str, one["args"])) for one in _named(upstream, "server"))
            servers = servers or ((name,),)
            if any(_normal(words[0]) in ours for words in servers):
                return servers, upstream
        return None


def addresses(listen: Sequence[str]) -> set[str]:
    """The addresses of relayd as nginx may name them: `:PORT` or `unix:PATH`."""
    found = set()
    for description in listen:
        try:
            url = listening_url(description.removeprefix("haproxy:"))
        except ConfigError:
            continue
        found.add(url if url.startswith("unix:") else f":{url.rpartition(':')[2]}")
    return found


def read(path: str) -> Nginx | None:
    """Reads a configuration.

    Args:
        path: a file, or the saved output of `nginx -T`; "" runs `nginx -T`, if it is installed.

    Returns:
        The configuration; None without a path and without nginx.

    Raises:
        Unreadable: it cannot be read or parsed.
    """
    if path:
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise Unreadable(f"{path}: cannot be read: {error.strerror}") from error
        return _read_dump(text, path) if _PART.search(text) else _read_file(path)
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        return None
    ran = subprocess.run(
        [program, "-T"], capture_output=True, text=True, errors="replace", check=False, timeout=30
    )
    if ran.returncode != 0:
        words = ran.stderr.strip().splitlines()
        refused = next((line for line in words if "emerg" in line), words[-1] if words else "")
        raise Refused(f"nginx -T: {refused}")
    return _read_dump(ran.stdout, "nginx -T")


def _read_file(path: str) -> Nginx:
    payload = _parse(path, combine=True)
    return Nginx(payload[0]["parsed"] if payload else [], path)


def _read_dump(text: str, source: str) -> Nginx:
    """Parses each file of the dump by itself; includes are looked up among these files."""
    parts = _PART.split(text)[1:]
    texts = dict(zip(parts[::2], parts[1::2], strict=True))
    parsed: dict[str, Block] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, content) in enumerate(texts.items()):
            file = Path(folder, f"{number}.conf")
            file.write_text(content, encoding="utf-8")
            parsed[name] = _parse(str(file), single=True)[0]["parsed"]
            _rename(parsed[name], name)
    main = next(iter(texts))
    return Nginx(_included(parsed[main], parsed, os.path.dirname(main), 0), source)


def _parse(path: str, **options: bool) -> list[dict[str, Any]]:
    payload = crossplane.parse(
        path, catch_errors=True, check_ctx=False, check_args=False, comments=False, **options
    )
    errors = [error["error"] for error in payload["errors"]]
    if errors:
        raise Unreadable(f"nginx's configuration cannot be parsed: {errors[0]}")
    found: list[dict[str, Any]] = payload["config"]
    if "combine" in options:
        for one in found:
            _rename(one["parsed"], path)
    return found


def _rename(block: Block, name: str) -> None:
    """Notes the file of each directive."""
    for directive in block:
        directive.setdefault("file", name)
        if directive["file"].startswith(tempfile.gettempdir() + "/tmp"):
            directive["file"] = name
        _rename(directive.get("block", []), name)


def _included(block: Block, parsed: dict[str, Block], folder: str, depth: int) -> Block:
    found: Block = []
    for directive in block:
        if directive["directive"] == "include" and depth < 20:
            pattern = os.path.join(folder, str(directive["args"][0]))
            for name in sorted(parsed):
                if fnmatch.fnmatchcase(name, pattern):
                    found += _included(parsed[name], parsed, folder, depth + 1)
            continue
        if "block" in directive:
            inside = _included(directive["block"], parsed, folder, depth)
            directive = {**directive, "block": inside}
        found.append(directive)
    return found


def _named(block: Block, name: str) -> Iterator[dict[str, Any]]:
    return (one for one in block if one["directive"] == name)


def _locations(block: Block) -> Iterator[dict[str, Any]]:
    for location in _named(block, "location"):
        yield location
        yield from _locations(location["block"])


def _match(block: Block, path: str) -> dict[str, Any] | None:
    """The location that nginx chooses for a path (ngx_http_core_module, `location`)."""
    best: dict[str, Any] | None = None
    longest, final = -1, False
    patterns = []
    for location in _named(block, "location"):
        *modifier, name = location["args"]
        kind = modifier[0] if modifier else ""
        if kind == "=":
            if name == path:
                return location
        elif kind in ("~", "~*"):
            patterns.append((name, re.IGNORECASE if kind == "~*" else 0, location))
        elif not name.startswith("@") and path.startswith(name) and len(name) > longest:
            best, longest, final = location, len(name), kind == "^~"
    if not final:
        for pattern, flags, location in patterns:
            try:
                if re.search(pattern, path, flags):
                    return location
            except re.error:  # PCRE has more syntax than Python
                continue
    return best


def _normal(address: str) -> str:
    if address.startswith("unix:"):
        return address.rstrip(":/")
    found = re.search(r":(\d+)$", address)
    return f":{found[1]}" if found else ":80"

"""Builds one frozen `Config` from file, environment and options; raises all errors in them.

Sits above `redis.urls`. Precedence: option, environment, `.env`, systemd's credentials, the last
file of conf.d, ..., the first, the file, default. The environment is `RELAYD_<SECTION>_<KEY>` for
any setting, and the variables of hosting platforms: `PORT`, `DATABASE_URL`, `REDIS_URL` (our own
names win over these). A secret may be in a file of its own (`secret_files`).
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from relayd.config.checks import is_loopback
from relayd.config.secret_files import (
    OURS,
    follow,
    is_open,
    read_credentials,
    read_handed,
    warn_of_open_file,
)
from relayd.config.sections import (
    SECTIONS,
    Api,
    Auth,
    Camera,
    Chat,
    Console,
    Control,
    Database,
    Django,
    Echo,
    Keepalive,
    Limits,
    Log,
    Metrics,
    Proxy,
    Redis,
    Sections,
    Server,
    Tls,
)
from relayd.config.settings import Setting, in_toml
from relayd.config.sources import (
    beside,
    by_strength,
    is_service_link,
    read_dotenv,
    read_file,
    read_variable,
)
from relayd.tls import descriptions

__all__ = [
    "SECTIONS",
    "Api",
    "Auth",
    "Camera",
    "Chat",
    "Config",
    "Console",
    "Control",
    "Database",
    "Django",
    "Echo",
    "Keepalive",
    "Limits",
    "Line",
    "Loaded",
    "Log",
    "Metrics",
    "Proxy",
    "Redis",
    "Server",
    "Tls",
    "read",
    "read_dotenv",
]


_KINDS_OF_PATH = ("camera", "difficulty", "chat", "push", "echo")


class Config(Sections, frozen=True, kw_only=True):
    """The whole configuration: one member for each section."""

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All endpoints, as Twisted describes them: `[server] listen`, then those with TLS."""
        if not self.tls.certificate:
            return self.server.listen
        files = descriptions.Files(self.tls.certificate, self.tls.key or self.tls.certificate)
        encrypted = (descriptions.encrypt(each, files) for each in self.tls.listen)
        return (*self.server.listen, *encrypted)


class Line(msgspec.Struct, frozen=True):
    """One setting as `relayctl check-config` lists it: secrets and passwords are hidden."""

    section: str
    key: str
    value: str
    source: str


class Loaded(msgspec.Struct, frozen=True):
    """A configuration and its sources.

    Attributes:
        config: the configuration.
        found: the settings of all sources; later ones override earlier ones.
        warnings: faults that do not prevent a start, a sentence each.
        left_alone: the names of Kubernetes' service links among the variables.
    """

    config: Config
    found: tuple[Setting, ...]
    warnings: tuple[str, ...]
    left_alone: tuple[str, ...] = ()

    def lines(self) -> list[Line]:
        """Every setting in the order of `etc/relayd.toml`, with its value and its source."""
        sources = {(one.section, one.key): one.source for one in self.found}
        return [
            Line(
                section,
                key,
                in_toml(section, key, getattr(getattr(self.config, section), key)),
                sources.get((section, key), "default"),
            )
            for section, kind in SECTIONS.items()
            for key in kind.__struct_fields__
        ]


def read(
    path: str | None,
    environ: Mapping[str, str],
    *,
    dotenv: Mapping[str, str] | None = None,
    listen: Sequence[str] = (),
    folder: str = "",
    credentials: Sequence[str] | None = None,
    handed: Mapping[str, str] | None = None,
    only: Sequence[str] = (),
) -> Loaded:
    """Reads a configuration from all its sources.

    Args:
        path: the TOML file, or None for none (`RELAYD_CONFIG` may still name one); the folder
            conf.d beside it is read, too.
        environ: the environment.
        dotenv: the variables of a `.env` file; `environ` wins.
        listen: Twisted endpoint descriptions from the command line; they win over all sources.
        folder: the base of relative paths; "" for the working directory.
        credentials: folders with secrets; later ones override earlier ones. None for the folder
            that systemd names in the environment.
        handed: secrets by name that root has handed over since the start, in the place of those
            that systemd copied from a folder; None for none.
        only: the sections to read; the others keep their defaults, and their errors are ignored.
            Empty for all sections.

    Raises:
        ConfigError: naming where the wrong setting stands, its key, its value, what is allowed.
    """
    merged = {**(dotenv or {}), **environ}
    path = path or merged.get("RELAYD_CONFIG") or None
    found: list[Setting] = []
    warnings: list[str] = []
    if path is not None:
        path = os.path.join(folder, path)
        for file in (path, *beside(path)):
            there = read_file(file)
            warn_of_open_file(file, there, warnings)
            found += there
    if credentials is None:
        credentials = (
            [environ["CREDENTIALS_DIRECTORY"]] if environ.get("CREDENTIALS_DIRECTORY") else []
        )
    prefixes: tuple[str, ...] = (OURS, "")
    if handed is not None:
        found += read_handed(handed)
        prefixes = ("",)
    for secrets in credentials:
        found += read_credentials(secrets, prefixes)
    for name, text in by_strength(merged):
        found.append(read_variable("environment" if name in environ else ".env", name, text))
    of_dotenv = [setting for setting in found if setting.place == ".env"]
    warn_of_open_file(os.path.join(folder, ".env"), of_dotenv, warnings)
    if listen:
        found.append(Setting("command line", "--listen", "server", "listen", list(listen)))
    if only:
        found = [setting for setting in found if setting.section in only]
    found = follow(found, folder, warnings)
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for setting in found:
        values[setting.section][setting.key] = setting.convert()
    sections: dict[str, Any] = {name: kind(**values[name]) for name, kind in SECTIONS.items()}
    config = Config(**sections)
    if not only:
        _check_together(config, found)
        warnings += _unverified_redis(config)
        warnings += _broken_certificates(config, folder)
    links = sorted(name for name, text in merged.items() if is_service_link(name, text))
    return Loaded(config, tuple(found), tuple(warnings), tuple(links))


def _check_together(config: Config, found: Sequence[Setting]) -> None:
    """Checks the rules between settings. Raises ConfigError."""

    def last(section: str, key: str) -> Setting:
        return next(one for one in reversed(found) if (one.section, one.key) == (section, key))

    auth = config.auth
    for key in ("required", *(name for name in auth.__struct_fields__ if name in _KINDS_OF_PATH)):
        if getattr(auth, key) in (True, "token") and not auth.has_keys:
            raise last("auth", key).error(
                "needs [auth] secret, keys or jwks_url, the keys that tokens are signed with"
            )
    place = urlsplit(auth.jwks_url)
    if place.scheme == "http" and not (auth.jwks_http or is_loopback(place.hostname or "")):
        raise last("auth", "jwks_url").error(
            "whoever is on the way could replace the keys: use https, or set [auth] jwks_http"
        )
    for kind in config.auth.paths_with_django:
        wanted = _missing_for_django(config)
        if wanted:
            raise last("auth", kind).error(wanted)
    if config.tls.key and not config.tls.certificate:
        raise last("tls", "key").error("needs [tls] certificate, the chain that this key is for")
    if config.server.workers != 1 and not config.redis.url:
        raise last("server", "workers").error(
            "needs [redis] url: without it they could not reach each other"
        )
    if config.redis.django_channels and len(config.redis.url.split()) != 1:
        raise last("redis", "django_channels").error(
            "needs one Redis in [redis] url, the one that Django uses"
        )


def _missing_for_django(config: Config) -> str:
    """What the sessions of a Django site lack; empty if nothing."""
    django = config.django
    if not django.secret_key or not django.url:
        return "needs [django] secret_key and url, the SECRET_KEY and the database of the site"
    if django.sessions == "cache" and not django.cache_url:
        return "needs [django] cache_url, the Redis in which the site has its sessions"
    for origin in {"*", "null"}.intersection(config.server.allowed_origins):
        return (
            f"cannot be together with {origin!r} in [server] allowed_origins: a browser sends the "
            "cookie of its user from a page of anybody; name the origins of the site"
        )
    return ""


def _unverified_redis(config: Config) -> list[str]:
    """A sentence if the certificates of an encrypted Redis are not verified."""
    if config.redis.verify or not re.search(r"(?:^|\s)(?:rediss|sentinels)://", config.redis.url):
        return []
    return [
        "[redis] verify = false: whoever is on the way to Redis can pretend to be it, and read and "
        "change everything: set [redis] ca_file to its authority, or to its own certificate"
    ]


def _broken_certificates(config: Config, folder: str) -> list[str]:
    """Certificates that cannot be used now, and open keys: a sentence each.

    With the former a start fails, but not a reload.
    """
    sentences = []
    for files in descriptions.all_files(config.endpoints):
        from relayd.tls.pair import BrokenPair, load  # a command without TLS does not load OpenSSL

        try:
            load(files.below(folder))
            if is_open(Path(files.below(folder).key)):
                sentences.append(
                    f"{files.key}: everyone on this machine may open it: chmod 640 {files.key}"
                )
        except BrokenPair as error:
            sentences.append(f"TLS: {error}")
    return sentences

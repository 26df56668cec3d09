"""File, environment and options become one frozen `Config`; all its errors are raised here.

Sits just above `errors`. Precedence: option, environment, file, default. The environment is
`RELAYD_<SECTION>_<KEY>` for any setting, and what hosting platforms set: `PORT`, `DATABASE_URL`,
`REDIS_URL` (our own names win over theirs).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from relayd.config.sections import (
    SECTIONS,
    Api,
    Auth,
    Camera,
    Chat,
    Database,
    Echo,
    Keepalive,
    Limits,
    Redis,
    Sections,
    Server,
)
from relayd.config.settings import Setting
from relayd.config.sources import by_strength, read_dotenv, read_file, read_variable

__all__ = [
    "SECTIONS",
    "Api",
    "Auth",
    "Camera",
    "Chat",
    "Config",
    "Database",
    "Echo",
    "Keepalive",
    "Limits",
    "Redis",
    "Server",
    "read_dotenv",
]


class Config(Sections, frozen=True, kw_only=True):
    """The whole configuration: one member a section."""

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
        found = read_file(path) if path is not None else []
        for name, text in by_strength(merged):
            found.append(read_variable("environment" if name in environ else ".env", name, text))
        if listen:
            found.append(Setting("command line", "--listen", "server", "listen", list(listen)))
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

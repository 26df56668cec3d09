"""The session of a Django site as a client's identity, without running Django.

Stands on `django_signing` and `storage.site`; `connection.admission` asks it on the paths with
`[auth] <kind> = "django"`. It does what `AuthMiddlewareStack` of Channels does: the session behind
the cookie, its user, and whether the user still has the password with which the session began.
"""

import hmac
import re
from collections.abc import Callable
from typing import Any

from relayd.access import django_signing
from relayd.access.identity import Identity
from relayd.config import Config, Django
from relayd.edge.seats import SITE_CONNECTIONS
from relayd.errors import DatabaseUnavailable, ErrorCode, RedisUnavailable, Refusal
from relayd.logs import Logger
from relayd.redis import urls
from relayd.redis.replies import RedisRefused
from relayd.redis.settings import Settings
from relayd.redis.shards import Redis
from relayd.storage.pool import Database
from relayd.storage.site import Site, Tables

_KEY = re.compile(r"[a-z0-9]{8,40}")
"""What Django accepts as the key of a stored session."""


class DjangoSessions:
    """Reads sessions of one site.

    Args:
        settings: the site's keys, its kind of sessions, its names.
        site: its database.
        cache: its cache, if the sessions are there.
        now: returns Unix time.
    """

    _log = Logger()

    def __init__(
        self, settings: Django, site: Site, cache: Redis | None, now: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._keys = (settings.secret_key, *settings.secret_key_fallbacks)
        self._site = site
        self._cache = cache
        self._now = now

    def start(self) -> None:
        """Begins to connect to the cache."""
        if self._cache is not None:
            self._cache.start()

    async def stop(self) -> None:
        """Ends all connections to the site's stores."""
        if self._cache is not None:
            await self._cache.stop()
        await self._site.close()

    async def read(self, cookies: str | None) -> Identity:
        """The user who is logged in.

        Args:
            cookies: the `Cookie` header (RFC 6265 section 4.2); None without one.

        Raises:
            Refusal: 401, nobody is logged in; 503, a store of the site does not answer.
        """
        cookie = _find(cookies or "", self._settings.cookie_name)
        if cookie is None:
            raise Refusal(ErrorCode.UNAUTHORIZED, "Log in to the site first: there is no session.")
        try:
            identity = await self._identify(cookie)
        except (DatabaseUnavailable, RedisUnavailable, RedisRefused) as error:
            if isinstance(error, RedisRefused):
                self._log.warn("the cache of the Django site refuses: {why}", why=str(error))
            raise Refusal(
                ErrorCode.STORE_UNAVAILABLE,
                "The sessions of the site cannot be read now; try again in a moment.",
            ) from error
        if identity is None:
            raise Refusal(ErrorCode.UNAUTHORIZED, "The session is over; log in to the site again.")
        return identity

    async def _identify(self, cookie: str) -> Identity | None:
        try:
            session = await self._load(cookie)
        except ValueError as error:
            self._log.debug("a session of the Django site is not valid: {why}", why=str(error))
            return None
        key, proof = session.get("_auth_user_id"), session.get("_auth_user_hash")
        if not isinstance(key, str) or not isinstance(proof, str):
            return None  # somebody who is not logged in
        user = await self._site.user(key)
        if user is None or not user.active:
            return None
        given = proof.encode(errors="replace")
        hashes = [django_signing.hash_of_user(user.password, key) for key in self._keys]
        if not any(hmac.compare_digest(each.encode(), given) for each in hashes):
            return None
        return Identity(user=user.name)

    async def _load(self, cookie: str) -> dict[str, Any]:
        """The session of a cookie; empty if there is none. Raises ValueError: it is invalid."""
        settings, now = self._settings, self._now()
        if settings.sessions == "signed_cookies":
            salt = django_signing.COOKIE_SALT
            return django_signing.read_signed(cookie, salt, self._keys, now, settings.cookie_age)
        if not _KEY.fullmatch(cookie):
            raise ValueError("the cookie is no key of a session")
        if self._cache is None:
            text = await self._site.session(cookie)
            salt = django_signing.STORED_SALT
            return {} if text is None else django_signing.read_signed(text, salt, self._keys, now)
        prefix = f"{settings.cache_prefix}:{settings.cache_version}:"
        key = f"{prefix}django.contrib.sessions.cache{cookie}"
        found = await self._cache.find(key).call("GET", key)
        return {} if found is None else django_signing.read_pickled(found)


def _find(cookies: str, name: str) -> str | None:
    """The last cookie of a name, as Django takes it; None if there is none."""
    found = None
    for pair in cookies.split(";"):
        key, _, value = pair.partition("=")
        if key.strip() == name:
            found = value.strip().strip('"')
    return found


def build_sessions(config: Config, reactor: Any, now: Callable[[], float]) -> DjangoSessions | None:
    """The sessions of the Django site; None if none is configured.

    Args:
        config: the configuration.
        reactor: for the connections to the site's stores.
        now: returns Unix time.
    """
    settings = config.django
    if not settings.secret_key or not settings.url:
        return None
    database = Database(
        settings.url,
        reactor=reactor,
        pool_size=SITE_CONNECTIONS,
        connect_timeout=settings.deadline,
        statement_timeout=settings.deadline,
        deadline=settings.deadline,
        foreign=True,
    )
    tables = Tables(
        settings.session_table, settings.user_table, settings.user_key, settings.user_name
    )
    cache = None
    if settings.sessions == "cache":
        bounds = Settings(deadline=settings.deadline)
        cache = Redis(urls.parse_all([settings.cache_url]), reactor, bounds)
    return DjangoSessions(settings, Site(database, tables), cache, now)

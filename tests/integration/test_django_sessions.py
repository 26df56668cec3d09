"""People who are logged in to a real Django site are so to relayd; all others get 401."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.daemon import Daemon
from tests.integration.clients import Refused, read, say
from tests.integration.conftest import Connect, Spawn
from tests.redis_servers import Redis
from tests.servers import PostgreSQL

KEY, NEW_KEY = "the secret key of the site-" * 2, "a newer key of the site-" * 2
ORIGIN = "https://site.example"


class Project:
    """A Django site in a process of its own (`tests.django_project`)."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.django_project"],
            env={**os.environ, "DJANGO_PROJECT": json.dumps({"SECRET_KEY": KEY, **settings})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"

    def ask(self, verb: str, word: str = "") -> Any:
        """One request; returns the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{verb} {word}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def stop(self) -> None:
        """Ends it."""
        self._process.communicate(timeout=30)


@dataclass
class Place:
    """A site and a relayd that reads its sessions.

    Attributes:
        kind: the database, or where the sessions are.
        project: the site.
        node: relayd.
        settings: of the site.
    """

    kind: str
    project: Project
    node: Daemon
    settings: dict[str, Any]


@pytest.fixture(params=["sqlite", "postgresql", "signed_cookies", "cache"], scope="module")
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """A site of each kind in turn."""
    kind: str = request.param
    folder = tmp_path_factory.mktemp(kind)
    database: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{folder}/site.db"}
    url = f"sqlite:///{folder}/site.db"
    settings: dict[str, Any] = {}
    relayd = {"sessions": "database"}
    servers: list[Any] = []
    if kind == "postgresql":
        servers.append(PostgreSQL().__enter__())
        database = {
            **{"ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "relayd"},
            **{"HOST": "127.0.0.1", "PORT": servers[0].port},
        }
        url = servers[0].url()
    elif kind == "signed_cookies":
        settings["SESSION_ENGINE"] = "django.contrib.sessions.backends.signed_cookies"
        relayd = {"sessions": "signed_cookies"}
    elif kind == "cache":
        servers.append(Redis().__enter__())
        location = f"unix://{servers[0].socket}?db=1"
        settings["SESSION_ENGINE"] = "django.contrib.sessions.backends.cache"
        settings["CACHES"] = {
            "default": {
                "BACKEND": "django.core.cache.backends.redis.RedisCache",
                **{"LOCATION": location, "KEY_PREFIX": "site", "VERSION": 3},
            }
        }
        relayd = {"sessions": "cache", "cache_url": location}
        relayd |= {"cache_prefix": "site", "cache_version": "3"}
    settings["DATABASES"] = {"default": database}
    project = Project(settings)
    (folder / "node").mkdir()
    node = Daemon(
        folder / "node",
        {
            "RELAYD_AUTH_CHAT": "django",
            "RELAYD_SERVER_ALLOWED_ORIGINS": ORIGIN,
            "RELAYD_DJANGO_SECRET_KEY": KEY,
            "RELAYD_DJANGO_URL": url,
            **{f"RELAYD_DJANGO_{name.upper()}": value for name, value in relayd.items()},
        },
    )
    node.start()
    yield Place(kind, project, node, settings)
    node.stop()
    project.stop()
    for server in servers:
        server.__exit__(None, None, None)


def headers(cookie: str) -> dict[str, str]:
    """The cookies of a browser."""
    return {"Cookie": f"csrftoken=x; sessionid={cookie}; theme=dark"}


def refused(node: Daemon, cookie: str | None) -> tuple[int, str]:
    """Status and code of a refusal."""
    more = {} if cookie is None else {"additional_headers": headers(cookie)}
    refusal = Refused(node, "/ws/chat/site?history=0", origin=ORIGIN, **more)
    return refusal.status, refusal.error


def test_a_user_who_is_logged_in_is_named_in_the_frames(place: Place, connect: Connect) -> None:
    cookie = place.project.ask("login", "ann")
    client = connect(
        place.node, "/ws/chat/site?history=0", origin=ORIGIN, additional_headers=headers(cookie)
    )
    say(client, {"message": "hello"})
    assert read(client)["user"] == "ann"
    # other paths need none
    connect(place.node, "/ws/camera", origin=ORIGIN)


def test_nobody_else_gets_in(place: Place) -> None:
    node, ask = place.node, place.project.ask
    anonymous = ask("anonymous")
    for cookie in (None, "", "x" * 32, "'; DROP TABLE auth_user; --", "a:b:c", anonymous):
        assert refused(node, cookie) == (401, "unauthorized"), cookie
    ann = ask("login", "ann")
    assert refused(node, ann[:-1] + ("a" if ann[-1] != "a" else "b"))[0] == 401
    evil = Refused(
        node, "/ws/chat/site", origin="https://evil.example", additional_headers=headers(ann)
    )
    assert (evil.status, evil.error) == (403, "origin_not_allowed")


def test_a_session_ends_with_the_logout_the_password_and_the_user(
    place: Place, connect: Connect
) -> None:
    node, ask = place.node, place.project.ask
    for name, verb in (("ann", "logout"), ("ben", "password"), ("eve", "deactivate")):
        cookie = ask("login", name)
        connect(
            node, "/ws/chat/site?history=0", origin=ORIGIN, additional_headers=headers(cookie)
        ).close()
        ask(verb, cookie if verb == "logout" else name)
        if (verb, place.kind) == ("logout", "signed_cookies"):
            continue  # the site itself keeps nothing by which it could end such a session
        assert refused(node, cookie) == (401, "unauthorized"), verb
    if place.kind in ("sqlite", "postgresql"):
        cookie = ask("login", "ann")
        assert ask("expire", cookie) == 1
        assert refused(node, cookie) == (401, "unauthorized")
    assert "pw-" not in node.log
    assert KEY not in node.log


def test_a_key_that_the_site_had_before_holds_as_a_fallback(
    place: Place, spawn: Spawn, connect: Connect
) -> None:
    if place.kind not in ("sqlite", "signed_cookies"):
        pytest.skip("the keys do not depend on the store")
    cookie = place.project.ask("login", "ann")
    url = f"sqlite:///{place.settings['DATABASES']['default']['NAME']}"
    settings = {
        "auth_chat": "django",
        "django_url": url,
        "django_secret_key": NEW_KEY,
        "django_sessions": "database" if place.kind == "sqlite" else "signed_cookies",
    }
    rotated = spawn(**settings, django_secret_key_fallbacks=KEY)
    connect(rotated, "/ws/chat/site?history=0", additional_headers=headers(cookie))
    rotated.stop()


def test_a_site_whose_tables_have_other_names_is_503(place: Place, spawn: Spawn) -> None:
    if place.kind != "sqlite":
        pytest.skip("one kind is enough")
    cookie = place.project.ask("login", "ann")
    url = f"sqlite:///{place.settings['DATABASES']['default']['NAME']}"
    wrong = spawn(
        auth_chat="django", django_secret_key=KEY, django_url=url, django_user_name="no_column"
    )
    refusal = Refused(wrong, "/ws/chat/site", additional_headers=headers(cookie))
    assert (refusal.status, refusal.error) == (503, "store_unavailable")
    assert "the tables of the site cannot be read: no such column: no_column" in wrong.log
    wrong.stop()


def test_a_site_whose_stores_are_away_is_503(place: Place, spawn: Spawn) -> None:
    if place.kind != "sqlite":
        pytest.skip("one kind is enough")
    away = spawn(
        auth_chat="django",
        django_secret_key=KEY,
        django_url=f"sqlite:///{quote(str(Path(place.node.folder) / 'no-such.db'))}",
    )
    refusal = Refused(away, "/ws/chat/site", additional_headers=headers("a" * 32))
    assert (refusal.status, refusal.error) == (503, "store_unavailable")
    assert refusal.headers["retry-after"]
    assert not (Path(place.node.folder) / "no-such.db").exists()

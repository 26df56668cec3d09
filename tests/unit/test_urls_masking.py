"""No output shows a piece of a secret, however its URL is written; what is harmless is shown."""

import urllib.parse
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import relayd
from relayd.config import read
from relayd.errors import ConfigError
from relayd.redis import urls as redis_urls
from relayd.storage import engines
from relayd.urls.masking import HIDDEN, mask_text, mask_url, mask_urls, may_hold_secret

PIECE = 6
"""A secret may not show in a piece of so many characters."""

SHAPES: dict[str, Callable[[str], str]] = {
    "as it should be": lambda secret: f"postgresql://joe:{secret}@db.example:5432/app",
    "of Redis": lambda secret: f"redis://:{secret}@cache.example:6379/0",
    "with a user": lambda secret: f"rediss://default:{secret}@cache.example:6380/0?db=0",
    "in place of the user": lambda secret: f"redis://{secret}@cache.example:6379",
    "without an @": lambda secret: f"redis://:{secret}",
    "before the host": lambda secret: f"redis://{secret}:cache.example:6379/0",
    "without a scheme": lambda secret: f"joe:{secret}@db.example:5432/app",
    "of another store": lambda secret: f"mysql://joe:{secret}@db.example/app",
    "a keyword string": lambda secret: f"host=db.example dbname=app user=joe password={secret}",
    "a keyword string in quotes": lambda secret: f"password='{secret}' host=db.example dbname=app",
    "of .NET": lambda secret: f"cache.example:6380,password={secret},ssl=True,abortConnect=False",
    "of ADO.NET": lambda secret: f"Server=db.example;Database=app;User Id=joe;Password={secret};",
    "of JDBC": lambda secret: f"jdbc:postgresql://db.example/app?user=joe&password={secret}",
    "a parameter": lambda secret: f"postgresql://db.example/app?user=joe&password={secret}",
    "a parameter of libpq": lambda secret: f"postgresql:///app?host=/run&sslpassword={secret}",
    "of a sentinel": lambda secret: f"sentinel://s.example/main?sentinel_password={secret}",
    "of the master": lambda secret: f"sentinels://:{secret}@s.example,t.example:1/main/0",
    "of a socket": lambda secret: f"unix://joe:{secret}@/run/redis.sock?db=1",
    "of SQLite": lambda secret: f"sqlite://joe:{secret}@/var/relayd.db",
    "several": lambda secret: f"redis://a.example redis://joe:{secret}@b.example",
    "with a broken port": lambda secret: f"postgresql://joe:{secret}@db.example:port/app",
    "with a broken parameter": lambda secret: f"postgresql://joe:{secret}@db.example/app?sslmode=x",
    "with an open bracket": lambda secret: f"redis://:{secret}@[::1/0",
    "an issuer": lambda secret: f"https://joe:{secret}@issuer.example/keys",
    "an issuer with a key": lambda secret: f"https://issuer.example/keys?api={secret}",
}

# an 8 digit number alone would be a part of a port or a database in the harmless rest
secrets = st.text(
    st.characters(exclude_characters="\x00", exclude_categories=["Cs"])
    | st.sampled_from("@/:?#%&=[]' \\"),
    min_size=8,
    max_size=24,
)


def pieces(secret: str, harmless: str) -> set[str]:
    """Every piece of a secret that must not be shown, as it is, decoded and encoded."""
    forms = {secret, urllib.parse.unquote(secret), urllib.parse.quote(secret, safe="")}
    forms |= {urllib.parse.quote(secret), urllib.parse.quote_plus(secret), repr(secret)[1:-1]}
    found = {form[at : at + PIECE] for form in forms for at in range(len(form) - PIECE + 1)}
    # such as "postgr", which a sentence about URLs holds whatever the secret was
    return {piece for piece in found if piece not in harmless}


def outputs(url: str) -> list[str]:
    """All that is said of a URL in any place."""
    said = [mask_url(url), mask_urls(url)]
    for parse in (redis_urls.parse, lambda text: redis_urls.parse_all(text.split())):
        try:
            found = parse(url)
        except ValueError as error:
            said.append(str(error))
        else:
            said += [
                repr(found),
                *(each.name for each in (found if isinstance(found, tuple) else [found])),
            ]
    try:
        engine = engines.engine(url)
    except ConfigError as error:
        said.append(str(error))
    else:
        said.append(engine.label)
    for name in ("DATABASE_URL", "REDIS_URL", "RELAYD_DJANGO_CACHE_URL", "RELAYD_AUTH_JWKS_URL"):
        try:
            loaded = read(None, {name: url})
        except ConfigError as error:
            said.append(str(error))
        else:
            said += [line.value for line in loaded.lines()] + list(loaded.warnings)
    for name in ("RELAYD_DATABASE_DSN", "RELAYD_CHAT_HISTORY"):
        with pytest.raises(ConfigError) as caught:
            read(None, {name: url})
        said.append(str(caught.value))
    return said


def assert_hidden(shape: str, secret: str) -> None:
    url = SHAPES[shape](secret)
    said = outputs(url)
    for piece in pieces(secret, SHAPES[shape]("") + SENTENCES):
        for each in said:
            assert piece not in each, f"{piece!r} of {url!r} is in {each!r}"


SENTENCES = "".join(
    (Path(relayd.__file__).parent / name).read_text()
    for name in (
        *("urls/databases.py", "redis/urls.py", "config/checks.py", "config/sources.py"),
        *("config/settings.py", "config/sections.py", "config/__init__.py"),
    )
) + "".join(outputs("nonsense") + outputs(""))
"""What may be said whatever the secret was."""


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "secret",
    [
        "hunter2-hunter2", "pa/ss@wo:rd?&#", "123/456789abc", "abcdefgh:ijklmnop", "xqz j vwkq xjz",
        "x&y=secretsecret", "%41%42%43%44%45%46%47", "[::1]:secretsecret", "?z=secretsecret",
        "'quoted secret' x=secretsecret", "12345/67890?z=secretsecret", "a,b,secretsecret",
        "//secret@secret//secret", "\\secretsecret\\", "héllo wörld ☃☃☃☃☃☃", "secretsecret\n",
    ],
)  # fmt: skip
def test_no_output_shows_a_piece_of_a_secret(shape: str, secret: str) -> None:
    assert_hidden(shape, secret)


@given(secrets, st.sampled_from(sorted(SHAPES)))
@example("abcdefgh:ijklmnop", "in place of the user")
def test_no_output_shows_a_piece_of_any_secret(secret: str, shape: str) -> None:
    assert_hidden(shape, secret)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", ""),
        ("sqlite:////var/lib/relayd/relayd.db", "sqlite:////var/lib/relayd/relayd.db"),
        ("postgresql://joe:x@h:1,[::1]:2/d", "postgresql://***@h:1,[::1]:2/d"),
        ("postgres+asyncpg://h/d?sslmode=require", "postgres+asyncpg://h/d?sslmode=require"),
        ("postgresql://%2Frun%2Fpostgresql/d", "postgresql://%2Frun%2Fpostgresql/d"),
        ("postgresql:///d?host=/run/postgresql", "postgresql:///d?host=/run/postgresql"),
        ("REDIS://h/0", "redis://h/0"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("sentinel://a:1,b/main/2?tls=master", "sentinel://a:1,b/main/2?tls=master"),
        (
            "https://issuer.example/.well-known/jwks.json",
            "https://issuer.example/.well-known/jwks.json",
        ),
        ("redis://h/secret", HIDDEN),
        ("redis://h/0@1", HIDDEN),
        ("ldap://h/0", HIDDEN),
    ],
)
def test_a_url_that_is_understood_is_shown_without_user_and_password(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("postgresql://joe@h/d", False),
        ("postgresql://joe:x@h/d", True),
        ("postgresql://h/d?password=x", True),
        ("redis://h", False),
        ("redis://g redis://:x@h", True),
        ("host=h password=x", True),
        ("", False),
    ],
)
def test_a_url_holds_a_secret_if_it_has_a_password_or_is_not_understood(
    url: str, may: bool
) -> None:
    assert may_hold_secret(url) == may


@pytest.mark.parametrize(
    "text",
    [
        "GET /ws/chat#access_token=hunter2 HTTP/1.1",
        "GET /ws/chat?history=0#token=hunter2",
        "Host: token=hunter2",
        "/ws/difficulty/headset/x?secret=hunter2&x=1",
        "authorization: basic hunter2",
        "connection to host=h password=hunter2 failed",
        "connection to host=h password='hunter2 \\' hunter2' failed",
        "https://hunter2@example.org/",
        "eyjhbgcioijiuzi1nij9.hunter2.hunter2 is no host",
    ],
)  # fmt: skip
def test_a_text_is_shown_without_the_tokens_and_passwords_that_it_quotes(text: str) -> None:
    assert "hunter2" not in mask_text(text)

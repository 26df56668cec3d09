"""Database URLs as platforms, poolers and ORMs write them, and those that cannot work."""

import pytest

from relayd.urls.databases import File, Server, parse

BASE = {"user": "u", "password": "p", "host": "h", "dbname": "d"}


@pytest.mark.parametrize(
    ("url", "keywords", "schema"),
    [
        ("postgresql+psycopg2://u:p@h/d", BASE, ""),
        ("postgres://u:p@h/d?pgbouncer=true&connection_limit=1&pool_timeout=9", BASE, ""),
        (
            "postgres://u:p@h/d?schema=public&sslmode=require",
            {**BASE, "sslmode": "require"},
            "public",
        ),
        ("postgres://u:p@h/d?ssl=true&sslaccept=strict", {**BASE, "sslmode": "require"}, ""),
        ("postgresql://u:a#b?c[d%25@h/d", {**BASE, "password": "a#b?c[d%"}, ""),
        ("postgresql://u:p@h,[::1]:2/d", {**BASE, "host": "h,::1", "port": ",2"}, ""),
        ("postgresql://u:p@%2Frun%2Fpostgresql/d", {**BASE, "host": "/run/postgresql"}, ""),
        ("postgresql://u:p@/d?host=/run/postgresql", {**BASE, "host": "/run/postgresql"}, ""),
        ("host=h dbname=d user=u password='p q'", {**BASE, "password": "p q"}, ""),
    ],
)
def test_a_url_as_people_have_it_is_understood(
    url: str, keywords: dict[str, str], schema: str
) -> None:
    assert parse(url) == Server(keywords, schema)


def test_without_a_url_the_database_is_a_file() -> None:
    assert parse("") == File("var/relayd.db")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://u:a@b@h/d", "%40"),
        ("postgresql://u:1/2@h/d", "%2F"),
        ("postgresql://u:p%zz@h/d", "%25"),
        ("postgresql://h:0/d", "1 to 65535"),
        ("postgresql://h:1,g:2,f/d?port=1,2", "as many ports as hosts"),
        ("postgresql://h/d?sslmode=on", "verify-full"),
        ("postgresql://h/d?connect_timeout=soon", "connect_timeout is a number"),
        ("postgresql://h/d?nobody=knows", "libpq cannot read it"),
        ("postgresql://h/d?schema=a,b", "one schema"),
        ("postgresql://h/d\n", "not printable"),
        ("postgresql://h\udcff/d", "not UTF-8"),
        ("mysql://h/d", "mysql is another store"),
        ("h:5432", "something else"),
    ],
)
def test_a_url_that_cannot_work_is_refused_with_a_sentence(url: str, says: str) -> None:
    with pytest.raises(ValueError, match="must be empty, postgresql://") as caught:
        parse(url)
    assert says in str(caught.value)

"""Database URLs: what they mean, and that no password is ever shown."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest

from relayd.errors import ConfigError
from relayd.storage import engines
from relayd.storage.engines import PostgreSQL, SQLite
from relayd.stores.states import State


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("", "var/relayd.db"),
        ("sqlite:///x/y.db", "x/y.db"),
        ("SQLite:///x%20y.db", "x y.db"),
        ("sqlite:////abs/z.db", "/abs/z.db"),
    ],
)
def test_a_sqlite_url_names_a_file(url: str, path: str) -> None:
    engine = engines.engine(url)
    assert isinstance(engine, SQLite)
    assert engine.path == Path(path).absolute()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "POSTGRES"])
def test_a_postgresql_url_is_read_by_libpq(scheme: str) -> None:
    engine = engines.engine(
        f"{scheme}://u:p%40ss@example.net:5433/db?sslmode=require&connect_timeout=9&options=-cjit%3Doff"
    )
    assert isinstance(engine, PostgreSQL)
    expected = {
        "user": "u", "password": "p@ss", "host": "example.net", "port": "5433", "dbname": "db",
        "sslmode": "require", "connect_timeout": "9", "application_name": "relayd",
    }  # fmt: skip
    assert expected.items() <= engine.keywords.items()
    assert engine.keywords["options"] == "-cjit=off"
    assert engine.label == "PostgreSQL db at example.net port 5433"


def test_a_unix_socket_is_a_host() -> None:
    for url in ("postgresql:///db?host=/run/x", "postgresql://%2Frun%2Fx/db"):
        assert engines.engine(url).keywords["host"] == "/run/x"


@pytest.mark.parametrize(
    "url",
    [
        "mysql://root:hunter2@h/db",
        "root:hunter2@h/db",
        "postgresql://u:hunter2@h:port/db?nonsense",
        "postgresql://u:hunter2%zz@h/db",
        "sqlite://hunter2",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///x.db?mode=hunter2",
    ],
)
def test_a_wrong_url_is_refused_without_showing_the_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        engines.engine(url)
    assert "hunter2" not in str(caught.value)


def test_the_reason_of_an_error_hides_the_password() -> None:
    engine = engines.engine("postgresql://u:hunter2@h/db")
    assert engine.reason(psycopg2.OperationalError("no hunter2\nmore")) == "no ***"
    assert "hunter2" not in engine.label


def test_sqlite_errors_are_distinguished_by_their_code(tmp_path: Path) -> None:
    engine = SQLite(str(tmp_path / "a.db"), engines.Bounds(statement=0.01))
    one, other = engine.connect(), engine.connect()
    one.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError) as locked:
        other.execute("BEGIN IMMEDIATE")
    assert engine.state_of(locked.value) is State.LOCKED
    with pytest.raises(sqlite3.OperationalError) as mistake:
        other.execute("SELECT * FROM nothing")
    assert engine.state_of(mistake.value) is None
    one.close()
    other.close()


def test_importing_the_storage_installs_no_reactor() -> None:
    program = (
        "import sys, relayd.storage.draws, relayd.storage.history, relayd.storage.schema\n"
        "sys.exit('twisted.internet.reactor' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_new_database_is_closed_to_other_users_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        connection = SQLite(str(tmp_path / "var" / "a.db"), engines.Bounds()).connect()
        connection.execute("CREATE TABLE t (x)")
        files = sorted((tmp_path / "var").iterdir())
        modes = {file.name: file.stat().st_mode & 0o777 for file in files}
        connection.close()
    finally:
        os.umask(before)
    assert modes == {"a.db": 0o640, "a.db-shm": 0o640, "a.db-wal": 0o640}
    assert (tmp_path / "var").stat().st_mode & 0o777 == 0o750


def test_a_stricter_umask_and_the_mode_of_an_existing_database_stay(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        SQLite(str(tmp_path / "var" / "a.db"), engines.Bounds()).connect().close()
    finally:
        os.umask(before)
    path = tmp_path / "var" / "a.db"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o664)
    SQLite(str(path), engines.Bounds()).connect().close()
    assert path.stat().st_mode & 0o777 == 0o664

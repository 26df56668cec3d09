"""Servers that the tests start themselves, and the databases in them.

Fixtures: `postgresql` (one server for the session), `own_postgresql` (a server of the test's own,
to stop and to pause), `postgresql_url` (a fresh migrated database), `database_url` (the same on
both kinds of database, one after the other), `blank_database_url` (likewise, without any table),
`database` (the pool on `database_url`).
"""

import glob
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg2
import pytest
import pytest_twisted

from relayd.storage import schema
from relayd.storage.pool import Database
from tests.ports import free_port
from tests.suspension import suspend

_SETTINGS = {
    "deadlock_timeout": "20ms",
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "logging_collector": "off",
    "max_connections": "50",
    "shared_buffers": "64MB",
}


def _find(program: str) -> str:
    """The newest PostgreSQL's program."""
    debian = sorted(
        glob.glob(f"/usr/lib/postgresql/*/bin/{program}"), key=lambda path: int(path.split("/")[4])
    )
    found = shutil.which(program) or (debian[-1] if debian else None)
    if found is None:
        raise RuntimeError(f"these tests need PostgreSQL: {program} is missing (apt: postgresql)")
    return found


def _as_owner(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root; then it runs as `postgres`, the user of its package."""
    if os.geteuid() != 0:
        return command
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command]


class PostgreSQL:
    """A PostgreSQL server in a temporary folder, on a free port of 127.0.0.1 and a Unix socket.

    A context manager: the server runs inside the block.

    Attributes:
        settings: of postgresql.conf, beside those that make tests fast.
    """

    def __init__(self, template: "PostgreSQL | None" = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="relayd-pg-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped: list[int] = []
        self._count = itertools.count(1)
        self.settings: dict[str, str] = {}
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        data = self.folder / "data"
        if template is None:
            self._run(
                _find("initdb"), "-D", str(data), "-U", "relayd", "-A", "trust", "-N", "-E", "utf8"
            )
        else:  # a copy of an initialised folder is faster than initdb
            self._run("cp", "-a", str(template.folder / "pristine"), str(data))
        if template is None:
            self._run("cp", "-a", str(data), str(self.folder / "pristine"))

    def __enter__(self) -> "PostgreSQL":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        """The process id of the server's first process."""
        assert self._process is not None
        return self._process.pid

    def url(self, database: str = "postgres", *, unix: bool = False) -> str:
        """The URL of one of its databases, over TCP or the Unix socket."""
        if unix:
            return f"postgresql:///{database}?host={self.folder}&port={self.port}&user=relayd"
        return f"postgresql://relayd@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        settings = {
            **_SETTINGS,
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            **self.settings,
        }
        options = [part for item in settings.items() for part in ("-c", "=".join(item))]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                _as_owner([_find("postgres"), "-D", str(self.folder / "data"), *options]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C at the tests is not for it
            )
        until = time.monotonic() + 30
        while True:
            try:
                return psycopg2.connect(self.url(), connect_timeout=5).close()
            except psycopg2.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > until:
                    log_text = (self.folder / "log").read_text()[-2000:]
                    raise RuntimeError(f"PostgreSQL does not start: {log_text}") from error
                time.sleep(0.05)

    def stop(self, mode: signal.Signals = signal.SIGQUIT) -> None:
        """Stops the server: SIGQUIT at once, SIGINT after rolling back, SIGTERM when idle."""
        if self._process is None:
            return
        self.resume()
        self._process.send_signal(mode)
        self._process.wait(30)
        self._process = None

    def pause(self) -> None:
        """Stops all its processes in the middle of whatever they do; its sockets stay open."""
        suspend(self.pid)  # first, so that it forks no more
        self._stopped = [self.pid, *self._children()]
        for pid in self._stopped[1:]:
            suspend(pid)

    def resume(self) -> None:
        """Lets the processes run on."""
        for pid in self._stopped[::-1]:
            os.kill(pid, signal.SIGCONT)
        self._stopped = []

    def create(self, template: str = "template0") -> str:
        """Makes a database and returns its name."""
        name = f"test_{next(self._count)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def execute(self, sql: str, database: str = "postgres") -> None:
        """Runs a statement, as psql would."""
        connection = psycopg2.connect(self.url(database))
        try:
            connection.autocommit = True
            connection.cursor().execute(sql)
        finally:
            connection.close()

    def _children(self) -> list[int]:
        children = []
        for path in glob.glob("/proc/[0-9]*/stat"):
            try:
                fields = Path(path).read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            if int(fields[1]) == self.pid:
                children.append(int(path.split("/")[2]))
        return children

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            _as_owner(list(command)), cwd=self.folder, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]} failed: {done.stderr}")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """One server for all tests; its database `relayd_template` is migrated and empty."""
    with PostgreSQL() as server:
        server.execute("CREATE DATABASE relayd_template")
        schema.migrate(server.url("relayd_template"))
        yield server


@pytest.fixture
def own_postgresql(postgresql: PostgreSQL) -> Iterator[PostgreSQL]:
    """A server for one test, with an empty database `postgres`."""
    with PostgreSQL(postgresql) as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql: PostgreSQL) -> str:
    """A fresh migrated database on PostgreSQL."""
    return postgresql.url(postgresql.create("relayd_template"))


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A fresh migrated SQLite file."""
    url = f"sqlite:///{tmp_path / 'relayd.db'}"
    schema.migrate(url)
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh migrated database, of each kind in turn."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def blank_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'blank.db'}"
    server: PostgreSQL = request.getfixturevalue("postgresql")
    return server.url(server.create())


@pytest_twisted.async_yield_fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A pool of one thread on a fresh migrated database, of each kind in turn."""
    from twisted.internet import reactor

    pool = Database(database_url, reactor=reactor, pool_size=1, deadline=30, statement_timeout=30)
    yield pool
    await pool.close()

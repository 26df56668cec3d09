"""`twistd relayd`: options, environment, `.env`, file; what a wrong setting looks like."""

import contextlib
import os
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from websockets.sync.client import unix_connect

from tests import processes
from tests.daemon import Daemon
from tests.integration.clients import Refused, read, say
from tests.integration.raw import Raw, request
from tests.ports import free_port
from tests.processes import TWISTD, Done, Process
from tests.servers import PostgreSQL

ROOT = Path(__file__).resolve().parents[2]
EX_CONFIG = 78
COMMAND = (TWISTD, "--nodaemon", "--pidfile=", "relayd")


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without settings of relayd, and with these."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RELAYD_") and name not in ("PORT", "DATABASE_URL", "REDIS_URL")
    }
    return {**kept, **environ}


def run(folder: Path, *args: str | Path, **environ: str) -> Done:
    """A `twistd relayd` that ends by itself."""
    return processes.run([*COMMAND, *args], cwd=folder, env=clean(environ))


@contextlib.contextmanager
def serving(folder: Path, port: int, *args: str, **environ: str) -> Iterator[Daemon]:
    """A `twistd relayd` with only these options, which is to listen on the port."""
    daemon = Daemon(folder)
    daemon.port = port
    with open(folder / "relayd.log", "ab") as log:
        daemon.process = Process(
            [*COMMAND, *args],
            cwd=folder,
            env=clean(environ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        daemon.wait_until_ready()
        yield daemon
    finally:
        daemon.process.terminate()
        daemon.process.wait(20)


def check_refused(done: Done, *words: str, status: int = EX_CONFIG) -> None:
    """The process ended with the status and one line that has all the words; no traceback."""
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    (line,) = [line for line in done.stderr.splitlines() if "relayd:" in line]
    for word in words:
        assert word in line, line


# -- help and check


def test_help_names_the_options(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    assert done.returncode == 0
    for word in (
        "--config", "--listen", "--check", "RELAYD_<SECTION>_<KEY>", "RELAYD_ECHO_ENABLED=true",
        "PORT", "DATABASE_URL", ".env", "etc/relayd.toml", "127.0.0.1:8080",
    ):  # fmt: skip
        assert word in done.stdout, word
    assert list(tmp_path.iterdir()) == []


def test_check_accepts_a_good_configuration(tmp_path: Path) -> None:
    """Nothing is opened, made or left behind."""
    done = run(tmp_path, "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "good" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_the_file_that_shows_every_setting_is_good(tmp_path: Path) -> None:
    assert run(tmp_path, "--config", ROOT / "etc" / "relayd.toml", "--check").returncode == 0


# -- wrong settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[chat]\nhistory = -1", ["[chat] history", "-1", ">= 0"]),
        ("[chat]\nhistory = 'many'", ["[chat] history", "many", "int"]),
        ("[chat]\nhistory = 1.5", ["[chat] history", "1.5", "int"]),
        ("[echo]\nenabled = 1", ["[echo] enabled", "1", "true or false"]),
        ("[echo]\nenabled = 'yes'", ["[echo] enabled", "yes", "true or false"]),
        ("[chat]\ncolour = 'red'", ["[chat] colour", "red", "default_room, history"]),
        ("[chats]\nhistory = 1", ["[chats]", "chat", "keepalive"]),
        ("history = 1", ["history = 1", "section"]),
        ("chat = 1", ["chat = 1", "section", "chat, console, control"]),
        ("[server]\nlisten = ['tpc:80']", ["[server] listen", "tpc:80", "tcp:"]),
        ("[server]\nlisten = ['tcp:http:']", ["[server] listen", "tcp:http:", "tcp:"]),
        ("[server]\nlisten = []", ["[server] listen", "tcp:"]),
        ("[server]\nlisten = 'tcp:80'", ["[server] listen", "tcp:80", "array"]),
        (
            "[server]\nallowed_origins = ['https://a.example/']",
            ["allowed_origins", "https://a.example/"],
        ),
        (
            "[database]\nurl = 'mysql://a:secret@b/c'",
            ["[database] url", "mysql is another store", "postgresql://"],
        ),
        (
            "[database]\nurl = 'postgresql://u:secret@h:x/d'",
            ["[database] url", "(hidden)", "a port must be a number"],
        ),
        ("[database]\npool_size = 0", ["[database] pool_size", "0", ">= 1"]),
        ("[database]\ndeadline = 0", ["[database] deadline", "0", "> 0"]),
        ("[redis]\nurl = 'redis://:secret@localhost:x'", ["[redis] url", "redis://"]),
        ("[server]\nworkers = 2", ["[server] workers", "2", "[redis] url"]),
        ("[chat]\ndefault_room = 'a b'", ["[chat] default_room", "a b"]),
        ("[auth]\nsecret = 'too short'", ["[auth] secret", "32 bytes"]),
        ("[auth]\nrequired = true", ["[auth] required", "secret"]),
        ("[limits]\nmax_message_size = 0", ["[limits] max_message_size", "0", ">= 1"]),
        ("[keepalive]\nping_interval = inf", ["[keepalive] ping_interval", "inf", "3600"]),
        ("[keepalive]\nping_interval = nan", ["[keepalive] ping_interval", "nan"]),
        ("[chat\n", ["line 1"]),
        ("[chat]\nhistory = 1\nhistory = 2\n", ["line 3"]),
        ("[chat]\nmessage_prefix = '\xff'", ["TOML"]),
    ],
)
def test_an_error_in_a_file_names_file_key_value_and_allowed_values(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_bytes(text.encode("latin-1"))
    done = run(tmp_path, "--config", path, "--check")
    check_refused(done, str(path), *words)
    assert "secret@" not in done.stderr
    assert "too short" not in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("RELAYD_ECHO_ENABLED", "perhaps", ["true or false"]),
        ("RELAYD_CHAT_HISTORY", "-1", [">= 0"]),
        ("RELAYD_CHAT_HISTORY", "", ["int"]),
        ("RELAYD_CHAT_COLOUR", "red", ["default_room"]),
        ("RELAYD_COLOUR", "red", ["chat"]),
        ("RELAYD_SERVER_LISTEN", "tpc:80", ["tcp:"]),
        ("RELAYD_KEEPALIVE_PING_INTERVAL", "nan", []),
        ("PORT", "http", ["65535"]),
        ("PORT", "65536", ["65535"]),
        ("PORT", "-1", ["65535"]),
        ("DATABASE_URL", "mysql://localhost/d", ["postgresql://", "sqlite:///"]),
        ("DATABASE_URL", "sqlite://relayd.db", ["sqlite:///"]),
        ("DATABASE_URL", "relayd.db", ["sqlite:///"]),
        ("REDIS_URL", "localhost:6379", ["redis://"]),
    ],
)
def test_an_error_in_the_environment_names_variable_value_and_allowed_values(
    tmp_path: Path, name: str, value: str, words: list[str]
) -> None:
    done = run(tmp_path, "--check", **{name: value})
    shown = "(hidden)" if name.endswith("_URL") else value  # nobody knows where its password is
    check_refused(done, name, shown, "environment", *words)


def test_wrong_option_is_named(tmp_path: Path) -> None:
    check_refused(run(tmp_path, "--listen", "tpc:80"), "--listen", "tpc:80", "tcp:")
    done = run(tmp_path, "--colour", "red")
    assert done.returncode != 0
    assert "colour" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_wrong_line_in_dotenv_is_traced_to_it(tmp_path: Path) -> None:
    """The message names `.env`, where the setting stands, and not just the environment."""
    (tmp_path / ".env").write_text("RELAYD_CHAT_HISTORY=many\n")
    check_refused(run(tmp_path, "--check"), "RELAYD_CHAT_HISTORY", "many", ".env")


@pytest.mark.parametrize("path", ["missing.toml", "."])
def test_unreadable_file_is_named(tmp_path: Path, path: str) -> None:
    check_refused(run(tmp_path, "--config", path), path)


def test_wrong_setting_does_not_start_the_daemon(tmp_path: Path) -> None:
    """Without --check, too."""
    done = run(tmp_path, "--listen", f"tcp:{free_port()}", RELAYD_CHAT_HISTORY="many")
    check_refused(done, "RELAYD_CHAT_HISTORY", "many")
    assert list(tmp_path.iterdir()) == []


# -- precedence


def prefix(folder: Path, *args: str, **environ: str) -> str:
    """What `[chat] message_prefix` comes out as."""
    port = free_port()
    listen = ("--listen", f"tcp:{port}:interface=127.0.0.1")
    with (
        serving(folder, port, *listen, *args, **environ) as daemon,
        daemon.connect("/ws/chat?history=0") as client,
    ):
        say(client, {"message": ""})
        return str(read(client)["message"])


def test_environment_wins_over_dotenv_over_file_over_default(tmp_path: Path) -> None:
    name = "RELAYD_CHAT_MESSAGE_PREFIX"
    assert prefix(tmp_path) == ""
    (tmp_path / "a.toml").write_text("[chat]\nmessage_prefix = 'file'")
    config = ("--config", "a.toml")
    assert prefix(tmp_path, *config) == "file"
    assert prefix(tmp_path, RELAYD_CONFIG="a.toml") == "file"
    (tmp_path / ".env").write_text(f"# settings\n{name}='dot env'\n")
    assert prefix(tmp_path, *config) == "dot env"
    assert prefix(tmp_path, *config, **{name: "environment"}) == "environment"


def test_the_option_wins_over_port_over_file(tmp_path: Path) -> None:
    option, variable, file = free_port(), free_port(), free_port()
    (tmp_path / "a.toml").write_text(f"[server]\nlisten = ['tcp:{file}:interface=127.0.0.1']")
    with serving(tmp_path, file, "--config", "a.toml"):
        pass
    with serving(tmp_path, variable, "--config", "a.toml", PORT=str(variable)):
        pass
    with serving(
        tmp_path, option, "--config", "a.toml", "--listen", f"tcp:{option}", PORT=str(variable)
    ):
        pass


# -- where it listens


def test_port_listens_on_every_address(tmp_path: Path) -> None:
    port = free_port()
    with serving(tmp_path, port, PORT=str(port)) as daemon:
        assert listening_addresses(port) == {"00000000"}
        assert f":{port}" in daemon.log


def listening_addresses(port: int) -> set[str]:
    """The IPv4 addresses on which somebody listens, as /proc writes them."""
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, state = line.split()[1], line.split()[3]
        address, _, number = local.partition(":")
        if int(number, 16) == port and state == "0A":
            found.add(address)
    return found


def test_relayd_logs_where_it_listens_and_which_page_to_open(tmp_path: Path) -> None:
    port = free_port()
    listen = ("--listen", f"tcp:{port}:interface=127.0.0.1")
    with serving(tmp_path, port, *listen) as daemon:
        assert f"listens on http://127.0.0.1:{port}" in daemon.log
        assert f"open http://127.0.0.1:{port}/" in daemon.log
        assert listening_addresses(port) == {"0100007F"}
        assert (tmp_path / "var" / "relayd.db").exists()


def test_relayd_listens_on_several_endpoints(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    node = Daemon(tmp_path, {}, "--listen", f"unix:{path}")
    node.start()
    try:
        with (
            unix_connect(str(path), "ws://localhost/ws/camera") as inside,
            node.connect("/ws/camera") as outside,
        ):
            say(inside, {"x": 1})
            assert read(outside)["x"] == 1
        assert f"unix:{path}" in node.log
    finally:
        node.stop()


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with taken_port() as port:
        done = run(tmp_path, "--listen", f"tcp:{port}:interface=127.0.0.1")
        assert done.returncode not in (0, None)
        output = done.stdout + done.stderr
        assert f"tcp:{port}" in output
        assert "in use" in output
        assert "Traceback" not in output


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield int(other.getsockname()[1])


# -- databases


def test_database_urls_of_postgresql_are_accepted(postgresql: PostgreSQL, tmp_path: Path) -> None:
    """`postgres://` as Heroku writes it is `postgresql://`."""
    url = postgresql.url(postgresql.create("relayd_template"))
    port = free_port()
    for spelling in (url, url.replace("postgresql://", "postgres://")):
        with serving(
            tmp_path, port, "--listen", f"tcp:{port}:interface=127.0.0.1", DATABASE_URL=spelling
        ) as daemon:
            assert daemon.get("/readyz")[0] == 200
            assert "database: postgresql" in daemon.log
    assert not (tmp_path / "var" / "relayd.db").exists()


@pytest.mark.parametrize("url", ["sqlite:///data/own.db", "sqlite:////{folder}/data/own.db"])
def test_database_urls_of_sqlite_are_accepted(tmp_path: Path, url: str) -> None:
    port = free_port()
    with serving(
        tmp_path,
        port,
        *("--listen", f"tcp:{port}:interface=127.0.0.1"),
        DATABASE_URL=url.format(folder=str(tmp_path).lstrip("/")),
    ):
        pass
    assert (tmp_path / "data" / "own.db").exists()


def test_the_relayd_variable_wins_over_that_of_the_platform(tmp_path: Path) -> None:
    done = run(tmp_path, "--check", DATABASE_URL="mysql://x", RELAYD_DATABASE_URL="sqlite:///a.db")
    check = run(tmp_path, "--check", DATABASE_URL="sqlite:///a.db", RELAYD_DATABASE_URL="mysql://x")
    assert check.returncode == EX_CONFIG
    assert done.returncode in (0, EX_CONFIG)  # a wrong value may be told though another one wins


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is not a database\n" * 100)
    done = run(
        tmp_path, "--listen", f"tcp:{free_port()}:interface=127.0.0.1",
        DATABASE_URL="sqlite:///text.db",
    )  # fmt: skip
    output = done.stdout + done.stderr
    assert done.returncode not in (0, None)
    assert "text.db" in output
    assert "not a database" in output
    assert "Traceback" not in output


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("a file")
    done = run(tmp_path, "--listen", f"tcp:{free_port()}:interface=127.0.0.1")
    output = done.stdout + done.stderr
    assert done.returncode not in (0, None)
    assert str(tmp_path / "var") in output
    assert "Traceback" not in output


def test_echo_can_be_enabled_in_the_environment(tmp_path: Path) -> None:
    """The issue's example: `RELAYD_ECHO_ENABLED=true` is `[echo] enabled = true`."""
    for value, enabled in (
        ("true", True),
        ("True", True),
        ("1", True),
        ("false", False),
        ("0", False),
    ):
        port = free_port()
        listen = ("--listen", f"tcp:{port}:interface=127.0.0.1")
        with serving(tmp_path, port, *listen, RELAYD_ECHO_ENABLED=value) as daemon:
            if enabled:
                with daemon.connect("/ws/echo") as client:
                    client.send(b"x")
                    assert client.recv(timeout=10) == b"x"
            else:
                assert Refused(daemon, "/ws/echo").status == 404


def test_starting_again_keeps_the_database(tmp_path: Path) -> None:
    """Samples come once; what was deleted stays deleted."""
    node = Daemon(tmp_path)
    node.start()
    node.stop()
    with contextlib.closing(sqlite3.connect(tmp_path / "var" / "relayd.db")) as database:
        (count,) = database.execute("SELECT count(*) FROM quizzes").fetchone()
        assert count > 3
        database.execute("DELETE FROM quizzes WHERE id = 1")
        database.commit()
    node.start()
    node.stop()
    with contextlib.closing(sqlite3.connect(tmp_path / "var" / "relayd.db")) as database:
        assert database.execute("SELECT count(*) FROM quizzes").fetchone() == (count - 1,)


def test_two_requests_at_the_start_find_a_ready_database(tmp_path: Path) -> None:
    """On the embedded default, whoever gets through to the port is served."""
    node = Daemon(tmp_path)
    node.start(wait=False)
    deadline = time.monotonic() + 20
    try:
        while True:
            try:
                with Raw(node.port) as client:
                    client.send(request("/readyz"))
                    assert client.response().status == 200
                    return
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.005)
    finally:
        node.stop()

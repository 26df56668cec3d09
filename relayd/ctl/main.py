"""`relayctl`: what an operator does with relayd's database and its processes, and `bench`.

Reads the same configuration as the daemon: file, environment, `.env`. Exit codes: 0 done, 1 the
database, Redis or the server cannot be reached or refuses (`db status`: something is pending;
`bench`: messages were lost), 2 wrong input.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import click

from relayd import __version__
from relayd.config import Config, read_dotenv
from relayd.ctl import cluster
from relayd.ctl.bench import command as load
from relayd.ctl.bench import options as bench_options
from relayd.errors import ConfigError, RelaydError
from relayd.storage import engines, schema, tables
from relayd.storage.tables import Table

FAILED, WRONG_INPUT = 1, 2
_HISTORY = "0003.history"  # taking it back loses the chat history


class _Failed(click.ClickException):
    """The database or the server is away or refuses: one sentence on stderr."""

    exit_code = FAILED


class _WrongInput(click.ClickException):
    """The operator has to change something: one sentence on stderr."""

    exit_code = WRONG_INPUT


def _expected(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turns the failures a command may have into a sentence and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, **keywords: Any) -> Any:
        try:
            return command(*args, **keywords)
        except (ConfigError, tables.CSVError) as error:
            raise _WrongInput(str(error)) from error
        except RelaydError as error:
            raise _Failed(str(error)) from error
        except _DATABASE_ERRORS as error:
            words = " ".join(str(error).split())
            raise _Failed(f"the database refuses: {words}") from error

    return run


_DATABASE_ERRORS = (engines.SQLite.errors, engines.PostgreSQL.errors)


def _config(context: click.Context) -> Config:
    return Config.load(context.obj, os.environ, dotenv=read_dotenv())


def _url(context: click.Context) -> str:
    return _config(context).database.url


@contextlib.contextmanager
def _written(name: str) -> Iterator[IO[str]]:
    """A file to write to, which takes its name only when the block went well; - is stdout."""
    path = Path(name).resolve()
    if name == "-" or (path.exists() and not path.is_file()):
        with click.open_file(name, "w", encoding="utf-8") as stream:
            yield stream
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("x", encoding="utf-8", newline="") as stream:
            yield stream
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config", metavar="FILE", type=click.Path(), help="The daemon's configuration file."
)
@click.version_option(__version__, prog_name="relayctl")
@click.pass_context
def main(context: click.Context, config: str | None) -> None:
    """Looks after relayd's database and processes, and measures what a relayd carries.

    The configuration is the daemon's: --config FILE, the environment (DATABASE_URL,
    RELAYD_DATABASE_URL), .env in the working directory.

    Exit codes: 0 done; 1 the database, Redis or the server cannot be reached or refuses;
    2 wrong input.
    """
    context.obj = config


@main.group()
def db() -> None:
    """The schema: numbered migrations."""


@db.command()
@click.pass_context
@_expected
def migrate(context: click.Context) -> None:
    """Applies every pending migration."""
    for id in (done := schema.migrate(_url(context))):
        click.echo(f"applied {id}")
    if not done:
        click.echo("nothing to do: the schema is up to date")


@db.command()
@click.option("--steps", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--yes", is_flag=True, help="Do not ask before the chat history is lost.")
@click.pass_context
@_expected
def rollback(context: click.Context, steps: int, yes: bool) -> None:
    """Takes the newest migrations back. Quizzes and actions always stay."""
    url = _url(context)
    going = schema.to_roll_back(url, steps)
    if not going:
        click.echo("nothing to do: no migration is applied")
        return
    click.echo(f"takes back {', '.join(going)}", err=True)
    if _HISTORY in going and not yes:
        click.confirm("The chat history will be lost. Go on?", abort=True, err=True)
    for id in schema.rollback(url, steps):
        click.echo(f"took back {id}")


@db.command()
@click.pass_context
@_expected
def status(context: click.Context) -> None:
    """Says of each migration when it was applied. Exit code 1 if one is pending."""
    steps = schema.status(_url(context))
    width = max(len(step.id) for step in steps)
    for step in steps:
        when = f"applied {step.applied:%Y-%m-%d %H:%M:%S} UTC" if step.applied else "pending"
        unknown = "" if step.known else " (by another version of relayd)"
        click.echo(f"{step.id:{width}}  {when}{unknown}")
    if any(step.applied is None for step in steps):
        context.exit(FAILED)


def _table_commands(name: str, table: Table) -> None:
    """Adds `relayctl NAME import FILE` and `relayctl NAME export FILE`."""

    @main.group(name, help=f"The table {table.name}, as CSV.")
    def group() -> None:
        pass

    @group.command("import")
    @click.argument("file")
    @click.pass_context
    @_expected
    def import_(context: click.Context, file: str) -> None:
        url = _url(context)
        try:
            with click.open_file(file, "rb") as stream:
                data = stream.read()
        except OSError as error:
            raise _WrongInput(f"{file}: {error.strerror}") from error
        try:
            done = tables.import_rows(url, table, data)
        except tables.CSVError as error:
            raise _WrongInput(f"{file}: {error}; nothing was imported") from error
        click.echo(f"{done.added} added, {done.changed} changed")

    import_.help = (
        f"Reads {table.name} from a CSV file (- is stdin), all rows or none.\n\n"
        f"UTF-8 with a header row; columns: {', '.join(table.columns)}, in any order. A row with "
        "an id changes the row that has it, or adds one with it; without, the database gives one."
    )

    @group.command("export", help=f"Writes all {table.name} to a CSV file (- is stdout).")
    @click.argument("file")
    @click.pass_context
    @_expected
    def export(context: click.Context, file: str) -> None:
        url = _url(context)
        try:
            with _written(file) as stream:
                count = tables.export_rows(url, table, stream)
        except OSError as error:
            raise _WrongInput(f"{file}: {error.strerror}") from error
        click.echo(f"{count} rows written", err=True)


@main.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print everything that is known as JSON.")
@click.pass_context
@_expected
def processes(context: click.Context, as_json: bool) -> None:
    """Shows the processes that meet in Redis, and which of them are gone.

    Exit codes: 0 done; 1 Redis cannot be reached or refuses; 2 there is no [redis] url.
    """
    cluster.status(_config(context), as_json=as_json)


@main.command(short_help="Publishes to clients of all processes.")
@click.argument("target")
@click.argument("text")
@click.pass_context
@_expected
def publish(context: click.Context, target: str, text: str) -> None:
    """Publishes a JSON object to push/TOPIC, or says TEXT in chat/ROOM.

    Through Redis it reaches the clients of all processes. Without [redis] url, the process on the
    first address of [server] listen is asked over HTTP, with [api] key.
    """
    cluster.publish(_config(context), target, text)


_table_commands("quiz", tables.QUIZZES)
_table_commands("action", tables.ACTIONS)


@main.command()
@bench_options.options
@click.pass_context
@_expected
def bench(context: click.Context, **chosen: Any) -> None:
    """Puts the camera load on one running relayd and says how many fit.

    Cameras send poses, and everyone in their group gets them, cameras too. URL is such as
    ws://127.0.0.1:8080, wss://example.org or unix:/run/relayd.sock; without it, the first
    address that the configuration listens on.

    Prints deliveries per second and per CPU second of the server (if it runs on this machine),
    latencies, and what was lost. The server does real work for it: do not do this to one whose
    users would mind.

    Exit codes: 0 done; 1 the server cannot be reached or refuses, or messages were lost;
    2 wrong input.
    """
    options = bench_options.Options(**chosen)
    context.exit(load.run(options, lambda: _config(context)))

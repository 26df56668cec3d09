"""Shared by the commands of relayctl: the configuration, failures as sentences, JSON, tables.

The lowest of the `ctl` modules that know click. Exit codes are the same everywhere: 0 done,
1 something cannot be reached or refuses, 2 wrong input.
"""

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
import msgspec

from relayd.config import Config, Loaded, read, read_dotenv
from relayd.ctl import service
from relayd.errors import ConfigError, RelaydError
from relayd.storage import engines, tables

FAILED, WRONG_INPUT = 1, 2

_Command = TypeVar("_Command", bound=Callable[..., Any])
_DATABASE_ERRORS = (engines.SQLite.errors, engines.PostgreSQL.errors)


class Failed(click.ClickException):
    """Something is away or refuses: one sentence on stderr."""

    exit_code = FAILED


class WrongInput(click.ClickException):
    """The operator has to change something: one sentence on stderr."""

    exit_code = WRONG_INPUT


def expected(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turns the failures a command may have into a sentence and an exit code."""

    @functools.wraps(command)
    def run(*args: Any, **keywords: Any) -> Any:
        try:
            return command(*args, **keywords)
        except (ConfigError, tables.CSVError) as error:
            raise WrongInput(str(error)) from error
        except RelaydError as error:
            raise Failed(str(error)) from error
        except _DATABASE_ERRORS as error:
            words = " ".join(str(error).split())
            raise Failed(f"the database refuses: {words}") from error

    return run


def load(context: click.Context, only: Sequence[str] = ()) -> Loaded:
    """The daemon's configuration, and where it stands; `only` some sections. Raises ConfigError."""
    looked_after = service.find(os.environ)
    if looked_after is None:
        return read(context.obj, os.environ, dotenv=read_dotenv(), only=only)
    folder = str(looked_after.folder)
    try:
        return read(
            context.obj, os.environ, only=only,
            # where nobody but the service and root may look, it is not known what stands there
            dotenv=read_dotenv(folder) if os.access(folder, os.X_OK) else {},
            credentials=looked_after.folders(),
        )  # fmt: skip
    except ConfigError as error:
        if looked_after.hidden:
            left_out = f"{looked_after.credentials} is for root, and left out: use sudo"
            raise ConfigError(f"{error} ({left_out})") from error
        raise


def read_config(context: click.Context) -> Config:
    """The daemon's configuration, for what needs its secrets. Raises ConfigError."""
    service.require_secrets(os.environ)
    return load(context).config


@contextlib.contextmanager
def database_url(context: click.Context) -> Iterator[str]:
    """The database; it is used as the service's user. Raises ConfigError."""
    url = read_config(context).database.url
    with service.as_its_user(os.environ):
        yield url


def json_option(command: _Command) -> _Command:
    """Adds `--json`, as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def echo_json(value: Any) -> None:
    """Prints a value, msgspec's types too, as one line of JSON."""
    click.echo(msgspec.json.encode(value).decode())


def table(rows: Sequence[Sequence[str]], numbers: Sequence[str] = ()) -> str:
    """The rows in columns; the first row is the head, and the columns `numbers` go to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if name in numbers else cell.ljust(width)
            for name, cell, width in zip(rows[0], row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def moment(seconds: float) -> str:
    """A Unix time, in UTC, to the second."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def counted(count: int, one: str, many: str) -> str:
    """`1 client`, `2 clients`."""
    return f"{count} {one if count == 1 else many}"


def end_without(
    context: click.Context, missing: Sequence[int], more: str = "", *, failed: bool = False
) -> None:
    """Names the workers that did not answer: the command has failed then, as far as they go.

    Args:
        context: of the command, which ends here if something failed.
        missing: the numbers of the workers.
        more: what that means for what was printed.
        failed: whether something else has.
    """
    for number in missing:
        click.echo(f"Error: worker {number} does not answer{more}", err=True)
    if missing or failed:
        context.exit(FAILED)


@contextlib.contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr for what takes long; nothing where stderr is no terminal.

    Returns:
        What is called with how much is done, and how much there is.
    """
    bars: list[Any] = []

    def update(done: int, total: int) -> None:
        if not total:
            return
        if not bars:
            bar = click.progressbar(
                length=total, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()
            )
            bars.append(stack.enter_context(bar))
        bars[0].update(max(0, done - bars[0].pos))

    with contextlib.ExitStack() as stack:
        yield update

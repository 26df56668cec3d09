"""Shared by the commands of relayctl: the configuration, failures as sentences, JSON, tables.

The lowest of the `ctl` modules that import click. Exit codes are the same everywhere: 0 done,
1 a server cannot be reached or refuses, 2 wrong input.
"""

import contextlib
import functools
import os
import stat
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
TOKEN_VARIABLE = "RELAYCTL_TOKEN"
TOKEN_HELP = f"use --token-file FILE, --token-file - for stdin, or the variable {TOKEN_VARIABLE}"

_Command = TypeVar("_Command", bound=Callable[..., Any])
_DATABASE_ERRORS = (engines.SQLite.errors, engines.PostgreSQL.errors)


class Failed(click.ClickException):
    """A server cannot be reached or refuses: one sentence on stderr."""

    exit_code = FAILED


class WrongInput(click.ClickException):
    """The input or the configuration is wrong: one sentence on stderr."""

    exit_code = WRONG_INPUT


def expected(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turns the expected failures of a command into a sentence and an exit code."""

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


def load(context: click.Context, only: Sequence[str] = (), *, next_start: bool = False) -> Loaded:
    """Reads the daemon's configuration.

    Args:
        context: has the path of the file.
        only: some sections of it; by default all.
        next_start: with the secrets of the service's next start, not those of the running one.

    Raises:
        ConfigError: it is wrong; the text says where.
    """
    looked_after = service.find(os.environ)
    if looked_after is None:
        return read(context.obj, os.environ, dotenv=_read_dotenv(""), only=only)
    folder = str(looked_after.folder)
    try:
        return read(
            context.obj, os.environ, only=only,
            # other users may not look into the folder of the service
            dotenv=_read_dotenv(folder, looked_after.user_id) if os.access(folder, os.X_OK) else {},
            credentials=looked_after.folders()[-1:] if next_start else looked_after.folders(),
        )  # fmt: skip
    except ConfigError as error:
        if looked_after.hidden:
            unread = f"{looked_after.credentials} was not read, only root may: use sudo"
            raise ConfigError(f"{error} ({unread})") from error
        raise


def _read_dotenv(folder: str, owner: int | None = None) -> dict[str, str]:
    """The variables of a `.env` file; for root none that somebody else could have written.

    Args:
        folder: where it is; "" for the working directory.
        owner: a user who may write it, besides root: the one of the service.
    """
    if os.geteuid() == 0:
        for path in (folder or ".", os.path.join(folder, ".env")):
            try:
                found = os.stat(path)
            except FileNotFoundError:
                return {}
            except OSError:
                break  # `read_dotenv` says why
            writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if writable or found.st_uid not in (0, owner):
                where = os.path.realpath(path)
                click.echo(
                    f"Warning: .env is not read, since others than root may write {where}: cd to "
                    "another folder, or chown root and chmod go-w",
                    err=True,
                )
                return {}
    return read_dotenv(folder)


def _read_token(context: click.Context, parameter: click.Parameter, file: str) -> str:
    """The token of a command: from a file, from stdin, or from the environment."""
    if not file:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    try:
        with click.open_file(file, encoding="utf-8") as opened:
            return str(opened.readline()).strip()
    except (OSError, UnicodeDecodeError):
        # the token itself may have been given
        raise click.UsageError(f"the file with the token cannot be read: {TOKEN_HELP}") from None


def _refuse_token(context: click.Context, parameter: click.Parameter, token: str | None) -> None:
    if token is not None:
        raise click.UsageError(
            f"every user of this machine could read a token on the command line: {TOKEN_HELP}"
        )


def token_option(command: _Command) -> _Command:
    """Adds `--token-file`, as the argument `token`; refuses the `--token` of earlier versions."""
    command = click.option(
        "--token", "refused", expose_value=False, hidden=True, callback=_refuse_token
    )(command)
    return click.option(
        "--token-file", "token", metavar="FILE", default="", callback=_read_token,
        help="A file with the token for a server that requires one; - reads it from stdin. "
        f"Default: the variable {TOKEN_VARIABLE}.",
    )(command)  # fmt: skip


def read_config(context: click.Context) -> Config:
    """Reads the daemon's configuration with its secrets. Raises ConfigError."""
    service.require_secrets(os.environ)
    return load(context).config


@contextlib.contextmanager
def database_url(context: click.Context) -> Iterator[str]:
    """The URL of the database, within a context that runs as the service's user.

    Raises:
        ConfigError: the configuration is wrong, or its secrets cannot be read.
    """
    url = read_config(context).database.url
    with service.as_its_user(os.environ):
        yield url


def json_option(command: _Command) -> _Command:
    """Adds `--json`, as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def echo_json(value: Any) -> None:
    """Prints a value, which may be of msgspec's types, as one line of JSON."""
    click.echo(msgspec.json.encode(value).decode())


def table(rows: Sequence[Sequence[str]], numbers: Sequence[str] = ()) -> str:
    """The rows in columns; the first row is the head, the columns `numbers` are right-aligned."""
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
    """Ends a failed command, and names the workers that did not answer.

    Args:
        context: of the command; it exits with `FAILED` if a worker is missing, or `failed`.
        missing: the numbers of the workers that did not answer.
        more: the effect on the output, for the end of the sentence.
        failed: whether the command has failed for another reason.
    """
    for number in missing:
        click.echo(f"Error: worker {number} does not answer{more}", err=True)
    if missing or failed:
        context.exit(FAILED)


@contextlib.contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Shows a progress bar on stderr, if this is a terminal.

    Yields:
        A function that is called with the progress so far and the total.
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

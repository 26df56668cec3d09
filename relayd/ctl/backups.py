"""`relayctl backup` and `relayctl restore`: all data of relayd in one file, and back.

Sits under `ctl.main`, on `backup`.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from typing import IO, Any

import click

from relayd import __version__
from relayd.backup import alone, file
from relayd.backup.database import Source, Target
from relayd.backup.over_redis import RedisRooms
from relayd.backup.records import (
    FORMAT,
    BackupError,
    Header,
    InUse,
    NotEmpty,
    Sums,
    floor,
    lifted,
    split,
)
from relayd.config import Config
from relayd.control.messages import Status
from relayd.ctl import service
from relayd.ctl.common import (
    Failed,
    WrongInput,
    counted,
    echo_json,
    expected,
    json_option,
    moment,
    progress,
    read_config,
)
from relayd.ctl.control_client import Refused, Unreachable, reach
from relayd.ctl.output import written
from relayd.ctl.redis import run_with_redis
from relayd.redis.replies import RedisRefused
from relayd.redis.shards import Redis
from relayd.relays.paths import KINDS
from relayd.storage import engines, schema
from relayd.stores.states import Store, remedy

_MODE = 0o600  # chat is private
_PATIENCE = 10.0  # seconds for further servers of Redis


@click.command(short_help="Write quizzes, actions and the chat to a file.")
@click.argument("name", metavar="FILE")
@json_option
@click.pass_context
@expected
def backup(context: click.Context, name: str, as_json: bool) -> None:
    """Writes quizzes, actions and what the chat rooms keep to FILE, while relayd runs.

    FILE holds all that was acknowledged when the command began, whatever the stores are, and
    `relayctl restore` puts it into any store. It is checked before it gets its name; a FILE of this
    name is replaced. Only its owner may read it.
    """
    config = read_config(context)
    try:
        with written(name, _MODE) as stream:
            if not stream.seekable():
                raise WrongInput(f"{name}: a backup needs a file, which can be read again")
            with service.as_its_user(os.environ):
                skipped, total = _write(config, stream)
            size = stream.tell()
            stream.seek(0)
            with progress("checking") as update:
                sums = file.check(stream, lambda done: update(done, total)).sums
    except OSError as error:
        raise Failed(f"{name}: {error.strerror}; nothing was written") from error
    except BackupError as error:
        raise Failed(f"{error}; nothing was written") from error
    except RedisRefused as error:
        raise Failed(f"{_refusal(error)}; nothing was written") from error
    if skipped:
        click.echo(f"Warning: {skipped} messages of other programs are left out", err=True)
    if as_json:
        echo_json({"file": name, "bytes": size, **_members(sums)})
    else:
        click.echo(f"{name}: {_words(sums)}; {size:,} bytes, checked")


def _write(config: Config, stream: IO[bytes]) -> tuple[int, int]:
    """Writes a backup; how many messages were left out, and about how many rows it has."""
    with alone.reading(config.database.url) as (engine, cursor), progress("writing") as update:
        source = Source(engine, cursor)
        total = source.count(chat=not config.redis.url)
        writer = file.Writer(stream, lambda done: update(done, total))
        facts: dict[str, Any] = {
            "format": FORMAT,
            "version": __version__,
            "database": engine.dialect,
        }
        if config.redis.url:
            _write_with_redis(config, facts, source, writer)
        else:
            now = int(time.time() * 1000)
            writer.add(Header(**facts, made=now, chat=engine.dialect, top=source.top()))
            for records in (source.tables(), source.rooms()):
                for record in records:
                    writer.add(record)
        writer.end()
        stream.flush()
        return writer.skipped, total


def _write_with_redis(
    config: Config, facts: dict[str, Any], source: Source, writer: file.Writer
) -> None:
    async def work(redis: Redis, reactor: Any) -> None:
        rooms = await _rooms(config, redis, reactor)
        survey = await rooms.survey()
        writer.add(Header(**facts, made=survey.now, chat="redis", top=survey.top))
        for record in source.tables():
            writer.add(record)
        async for record in rooms.records(survey):
            writer.add(record)

    run_with_redis(config, f"{config.redis.prefix}:processes", work)


async def _rooms(config: Config, redis: Redis, reactor: Any) -> RedisRooms:
    """The rooms in Redis, when all servers are available. Raises RedisUnavailable."""
    for server in redis.servers:
        waiting = server.when_available()
        try:
            await waiting.addTimeout(_PATIENCE, reactor)
        except Exception as error:
            raise Failed(f"Redis {server.name} is away") from error
    return RedisRooms(redis, config.redis.prefix, KINDS.history)


@click.command(short_help="Put the data of a backup into the stores.")
@click.argument("name", metavar="FILE")
@click.option("--replace", is_flag=True, help="Delete what the stores have first.")
@click.option(
    "--moved", is_flag=True,
    help="Nothing was said since FILE was written, with relayd stopped: clients are told no gap.",
)  # fmt: skip
@click.option("--check", "check_only", is_flag=True, help="Only check FILE, and say what it has.")
@json_option
@click.pass_context
@expected
def restore(
    context: click.Context, name: str, replace: bool, moved: bool, check_only: bool, as_json: bool
) -> None:
    """Puts the quizzes, actions and chat rooms of FILE into the stores of the configuration.

    All of it or nothing: a broken FILE, stores that are not empty (without --replace) and a relayd
    that runs change nothing. The ids of later messages are above all that were given before, and
    clients that return with ?since= are told that messages after the backup may be missing.
    """
    try:
        with open(name, "rb") as stream:
            total = os.fstat(stream.fileno()).st_size
            with progress("checking") as update:
                found = file.check(stream, lambda _: update(stream.tell(), total))
            if not check_only:
                _restore(context, stream, found, replace=replace, lost=not moved)
    except OSError as error:
        raise WrongInput(f"{name}: {error.strerror}") from error
    except BackupError as error:
        raise WrongInput(f"{name}: {error}; nothing was changed") from error
    except NotEmpty as error:
        raise Failed(f"{error}; nothing was changed: --replace deletes them first") from error
    except InUse as error:
        raise Failed(f"{error}; nothing was changed") from error
    except RedisRefused as error:
        raise Failed(f"{_refusal(error)}; nothing was changed") from error
    header, sums = found
    if as_json:
        echo_json({"file": name, "made": header.made / 1000, **_members(sums)})
        return
    done = "is whole" if check_only else "is restored"
    click.echo(
        f"{name} of {moment(header.made / 1000)} UTC, by relayd {header.version}, {done}: "
        f"{_words(sums)}"
    )


def _restore(
    context: click.Context, stream: IO[bytes], found: file.Checked, *, replace: bool, lost: bool
) -> None:
    config = read_config(context)
    _require_stopped(context)
    url, header, chat = config.database.url, found.header, not config.redis.url
    lowest = floor(header, int(time.time() * 1000))
    sums = found.sums
    with service.as_its_user(os.environ), progress("restoring") as update:
        schema.migrate(url)
        total = sums.quizzes + sums.actions + sums.messages
        with alone.writing(url) as (engine, cursor):
            target = Target(engine, cursor)
            _make_space(engine, target, chat=chat, replace=replace)
            stream.seek(0)
            tables, rooms = split(file.read(stream))
            target.put_tables(tables)
            rooms = lifted(rooms, lowest, lost=lost)
            done = sums.quizzes + sums.actions
            update(done, total)
            if chat:
                target.put_floor(lowest)
                for count in target.put_rooms(rooms):
                    done += count
                    update(done, total)
            else:
                _restore_to_redis(config, rooms, lowest, replace=replace)
            _compare(target.found(chat=chat), sums, chat=chat)


def _require_stopped(context: click.Context) -> None:
    """Raises InUse while a relayd answers at the control socket."""
    with contextlib.suppress(Unreachable, Refused):
        running = reach(context).get("/status", Status)
        pids = ", ".join(f"{one.pid}" for one in running.processes)
        unit = service.find(os.environ)
        how = f"systemctl stop {unit.name}.socket {unit.name}" if unit else "stop it"
        raise InUse(f"relayd is running (process {pids}): {how}, and every other relayd here")


def _make_space(engine: engines.Engine, target: Target, *, chat: bool, replace: bool) -> None:
    there = target.found(chat=chat)
    if there == Sums():
        return
    if not replace:
        raise NotEmpty(f"{engine.label} has data already: {_words(there)}")
    target.clear(chat=chat)


def _restore_to_redis(
    config: Config, records: Iterator[Any], lowest: int, *, replace: bool
) -> None:
    ages = [age for age in (config.redis.history_age, config.chat.room_age) if age]
    lifetime = int(min(ages, default=0.0) * 1000)

    async def work(redis: Redis, reactor: Any) -> None:
        rooms = await _rooms(config, redis, reactor)
        await rooms.require_idle()
        try:
            async for _ in rooms.stage(records):
                pass
            await rooms.commit(
                lowest, replace=replace, lifetime=lifetime,
                tags_kept=int(config.chat.tags_kept * 1000),
            )  # fmt: skip
        finally:
            await rooms.discard()

    run_with_redis(config, f"{config.redis.prefix}:processes", work)


def _compare(there: Sums, wanted: Sums, *, chat: bool) -> None:
    """Raises BackupError if a database does not hold what the backup has."""
    names = ("quizzes", "actions", "rooms") if chat else ("quizzes", "actions")
    for name in names:
        if getattr(there, name) != getattr(wanted, name):
            raise BackupError(f"the database has {getattr(there, name)} {name} of it only")


def _refusal(error: RedisRefused) -> str:
    """What Redis refuses, and the remedy."""
    advice = f"; {remedy(Store.REDIS, error.state)}" if error.state else ""
    return f"Redis refuses: {error}{advice}"


def _members(sums: Sums) -> dict[str, int]:
    return {
        "quizzes": sums.quizzes, "actions": sums.actions, "rooms": sums.rooms,
        "messages": sums.messages,
    }  # fmt: skip


def _words(sums: Sums) -> str:
    return ", ".join((
        counted(sums.quizzes, "quiz", "quizzes"),
        counted(sums.actions, "action", "actions"),
        f"{counted(sums.rooms, 'room', 'rooms')} with "
        f"{counted(sums.messages, 'message', 'messages')}",
    ))  # fmt: skip

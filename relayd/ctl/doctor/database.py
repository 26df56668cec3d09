"""Checks of the database: PostgreSQL or the SQLite file.

Listed in `checks`.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relayd.ctl import service
from relayd.ctl.doctor.facts import Facts
from relayd.ctl.doctor.findings import Finding, fault, ok, skipped, warn
from relayd.errors import ConfigError, DatabaseUnavailable
from relayd.storage import engines, schema
from relayd.storage.draws import draw_postgresql
from relayd.storage.keeping import Keeping
from relayd.storage.place import PLACES, log_of
from relayd.stores import states
from relayd.stores.states import State

OLDEST = 120000
"""PostgreSQL 12, in the form of server_version_num."""
_LEAST_SPACE = 200 * 1024 * 1024


def _engine(facts: Facts) -> engines.Engine:
    settings = facts.config.database
    bounds = engines.Bounds(connect=settings.connect_timeout, statement=settings.statement_timeout)
    return engines.engine(settings.url, bounds)


def look_at_database(facts: Facts) -> Iterator[Finding]:
    """Whether PostgreSQL answers, or the file can be written and has space on its disk."""
    try:
        engine = _engine(facts)
    except ConfigError as error:
        yield fault(str(error), "correct [database] url")
        return
    if isinstance(engine, engines.SQLite):
        yield from _look_at_file(engine.path)
        return
    rows = _query(engine, "SHOW server_version_num")
    if isinstance(rows, DatabaseUnavailable):
        state = State(rows.state)
        words = "does not answer" if state is State.AWAY else state.words
        yield fault(
            f"{engine.label} {words}: {rows}",
            f"{states.remedy(engine.store, state)}; relayd answers database_unavailable until then",
        )
    elif int(rows[0][0]) < OLDEST:
        yield fault(
            f"{engine.label} is of version {int(rows[0][0]) // 10000}", "PostgreSQL 12 or newer"
        )
    else:
        yield ok(f"{engine.label} answers, version {int(rows[0][0]) // 10000}")


def _has_lost_log(facts: Facts, path: Path) -> bool:
    """Whether the running relayd writes into a log without a name; then nobody should open it."""
    lost = f"{log_of(path)} (deleted)"
    for pid in facts.pids:
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                if os.readlink(descriptor) == lost:
                    return True
    return False


def look_at_use(facts: Facts) -> Iterator[Finding]:
    """Whether the database does what relayd needs of it; what is written is rolled back."""
    try:
        engine = _engine(facts)
    except ConfigError as error:
        yield skipped(str(error))
        return
    if isinstance(engine, engines.SQLite) and _has_lost_log(facts, engine.path):
        yield fault(
            f"{engine.label} {State.LOG_LOST.words}: {PLACES[State.LOG_LOST]}",
            states.remedy(engine.store, State.LOG_LOST),
        )
        return
    if isinstance(engine, engines.SQLite) and not engine.path.exists():
        if facts.pids:
            yield fault(
                f"{engine.label} {State.MISSING.words}: there is no such file, and relayd runs",
                states.remedy(engine.store, State.MISSING),
            )
        else:
            yield skipped("there is no database file yet")
        return
    try:
        _use(engine, keeps=not facts.config.redis.url)
    except engine.errors as error:
        state = engine.state_of(error) or State.DAMAGED
        if state in (State.UNPREPARED, State.AWAY):  # other checks have found it
            yield skipped(engine.reason(error))
        else:
            yield fault(
                f"{engine.label} {state.words}: {engine.reason(error)}",
                states.remedy(engine.store, state),
            )
    else:
        yield _judge_encoding(engine)


def _judge_encoding(engine: engines.Engine) -> Finding:
    with contextlib.suppress(DatabaseUnavailable):
        encoding = schema.encoding(engine)
        if encoding != schema.UTF8:
            return warn(
                f"the database's encoding is {encoding}: chat messages with a character that it "
                "lacks are refused",
                "createdb --encoding UTF8 --template template0, and pg_dump to move the tables",
            )
    return ok(f"{engine.label} does what relayd needs")


def _use(engine: engines.Engine, *, keeps: bool) -> None:
    """Draws, and keeps a message if rooms are kept there. Raises the module's errors."""
    connection = engine.open()
    try:
        with contextlib.suppress(_RollBack), engine.transaction(connection) as cursor:
            if isinstance(engine, engines.PostgreSQL):
                draw_postgresql(cursor, [1])
            if keeps:
                Keeping(engine).attempt(cursor)
            raise _RollBack
    finally:
        connection.close()


class _RollBack(Exception):
    """Ends a transaction whose changes are not wanted."""


def _judge_modes(path: Path) -> Iterator[Finding]:
    """Whether other users of this machine may read what clients have said."""
    beside = (path.with_name(path.name + end) for end in ("", "-wal", "-shm"))
    files = [each for each in beside if each.exists() and each.stat().st_mode & 0o007]
    if path.parent.stat().st_mode & 0o001 and files:  # nobody gets to them through a closed folder
        yield warn(
            f"every user of this machine may open {', '.join(map(str, files))}",
            f"chmod 750 {path.parent}; chmod 640 {' '.join(map(str, files))}",
        )


def _look_at_file(path: Path) -> Iterator[Finding]:
    folder = path.parent
    what = path if path.exists() else folder
    if not what.exists():
        yield warn(
            f"neither the database {path} nor its folder exists yet",
            "relayd creates both at its start; run doctor in its working directory",
        )
        return
    owner = what.stat().st_uid
    if not all(os.access(one, os.W_OK, effective_ids=True) for one in (what, folder)):
        yield fault(
            f"the user {os.geteuid()} cannot write to {what}; its owner is {owner}",
            f"chown it to relayd's user, with its folder: chown -R relayd: {folder}",
        )
    yield from _judge_modes(path)
    free = shutil.disk_usage(folder).free
    if free < _LEAST_SPACE:
        yield fault(
            f"{free // 1024 // 1024} MiB are free on the disk of {path}",
            "free space there, or move [database] url",
        )
    else:
        yield ok(f"{path}: {free // 1024 // 1024} MiB free around it")


def look_at_schema(facts: Facts) -> Iterator[Finding]:
    """Whether the schema is that of this version."""
    try:
        engine = _engine(facts)
        if isinstance(engine, engines.SQLite) and not engine.path.exists():
            yield skipped("there is no database file yet")
            return
        if isinstance(engine, engines.SQLite) and _has_lost_log(facts, engine.path):
            yield skipped(f"the file {State.LOG_LOST.words}")
            return
        steps = schema.status(facts.config.database.url)
    except (DatabaseUnavailable, ConfigError, schema.SchemaError) as error:
        yield skipped(f"the database does not answer: {error}")
        return
    pending = [step.id for step in steps if step.applied is None]
    unknown = [step.id for step in steps if not step.known]
    if pending:
        by_itself = " (relayd does it when it starts)" if facts.config.database.migrate else ""
        remedy = f"{service.command(os.environ)} db migrate{by_itself}"
        yield fault(f"the schema lacks {', '.join(pending)}", remedy)
    elif unknown:
        yield warn(
            f"the schema is of a newer relayd: {', '.join(unknown)}", "install that version here"
        )
    else:
        yield ok("the schema is up to date")


def look_at_connections(facts: Facts) -> Iterator[Finding]:
    """Whether PostgreSQL allows as many connections as the pools of all processes open."""
    asked = _postgresql(facts, "SHOW max_connections", "SHOW superuser_reserved_connections")
    if isinstance(asked, Finding):
        yield asked
        return
    most, reserved = (int(rows[0][0]) for rows in asked)
    there = [one for one in facts.redis.processes if one.state != "gone"]
    processes = max(facts.processes, len(there))
    wanted = facts.config.database.pool_size * processes
    if most - reserved < wanted:
        yield fault(
            f"PostgreSQL allows {most - reserved} connections (max_connections {most}, {reserved} "
            f"reserved); {processes} relayd processes with [database] pool_size "
            f"{facts.config.database.pool_size} open {wanted}",
            f"max_connections = {wanted + reserved + 20} in postgresql.conf and a restart of it, "
            "or a smaller pool_size",
        )
    elif most - reserved < wanted + 5:
        yield warn(
            f"PostgreSQL allows {most - reserved} connections and relayd opens {wanted}: hardly "
            "any are left for other programs",
            f"max_connections = {wanted + reserved + 20} in postgresql.conf",
        )
    else:
        yield ok(f"{wanted} of {most - reserved} connections at most")


def look_at_time_limits(facts: Facts) -> Iterator[Finding]:
    """Whether a statement times out, and before its client got an error."""
    asked = _postgresql(
        facts, "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'",
        "SELECT pg_is_in_recovery()",
    )  # fmt: skip
    if isinstance(asked, Finding):
        yield asked
        return
    limit, standby = int(asked[0][0][0]) / 1000, asked[1][0][0]
    wanted = facts.config.database.statement_timeout
    if standby:
        yield fault(
            "PostgreSQL is a standby: it refuses writes",
            "name the primary in [database] url, or several hosts with "
            "target_session_attrs=read-write",
        )
    if facts.config.database.deadline < wanted:
        yield warn(
            f"[database] deadline {facts.config.database.deadline:g} s is shorter than "
            f"statement_timeout {wanted:g} s: statements go on after their clients got an error",
            f"deadline = {wanted + 1:g}",
        )
    else:
        yield ok(f"statements may take {limit:g} s")


def _postgresql(facts: Facts, *statements: str) -> list[list[Any]] | Finding:
    """The rows of each statement, or a finding without them."""
    try:
        engine = _engine(facts)
    except ConfigError as error:
        return skipped(str(error))
    if not isinstance(engine, engines.PostgreSQL):
        return skipped("the database is a SQLite file")
    found = []
    for statement in statements:
        rows = _query(engine, statement)
        if isinstance(rows, DatabaseUnavailable):
            return skipped("PostgreSQL does not answer")
        found.append(rows)
    return found


def _query(engine: engines.Engine, statement: str) -> list[Any] | DatabaseUnavailable:
    try:
        connection = engine.connect()
        try:
            cursor = connection.cursor()
            cursor.execute(statement)
            rows: list[Any] = cursor.fetchall()
            return rows
        finally:
            connection.close()
    except engine.errors as error:
        return engine.unavailable(error) or DatabaseUnavailable(engine.reason(error))

"""The one table of the states of a store: its signs in the store's errors, and the remedy. Pure.

The ground of `stores`. Logs, `/readyz`, `relayctl status` and `doctor`, the metrics and systemd's
status read it. Signs are error codes of Redis (the word in capitals), SQLSTATEs of PostgreSQL
(https://www.postgresql.org/docs/current/errcodes-appendix.html) and result codes of SQLite
(https://sqlite.org/rescode.html), or their beginning; the longest one that fits decides. Errors
without a code, such as those of a login at PostgreSQL, are recognized by their words.
"""

import re
from enum import StrEnum
from typing import NamedTuple


class Store(StrEnum):
    """A kind of store."""

    REDIS = "Redis"
    POSTGRESQL = "PostgreSQL"
    SQLITE = "SQLite"


class State(StrEnum):
    """A state of a store; the value is its name in metrics and JSON.

    Attributes:
        words: the predicate of a sentence about the store.
    """

    _value_: str
    words: str

    OK = "ok", "works"
    AWAY = "away", "is away"
    LOADING = "loading", "is still loading its data"
    SLOW = "slow", "takes too long"
    LOCKED = "locked", "refuses writes (locked by another program)"
    CONNECTIONS = "connections", "refuses connections (too many)"
    FORBIDDEN = "forbidden", "refuses what relayd needs (no permission)"
    READ_ONLY = "read_only", "refuses writes (read-only)"
    MEMORY_FULL = "memory_full", "refuses writes (memory full)"
    DISK_FULL = "disk_full", "refuses writes (disk full, or not writable)"
    REPLICAS = "replicas", "refuses writes (too few replicas)"
    CLUSTER = "cluster", "refuses commands (a node of a cluster)"
    UNPREPARED = "unprepared", "lacks tables of this version"
    MISSING = "missing", "is missing"
    REPLACED = "replaced", "was replaced by another file"
    LOG_LOST = "log_lost", "has lost its -wal file"
    DAMAGED = "damaged", "is damaged"

    def __new__(cls, value: str, *line: str) -> "State":
        """One state, with its attribute."""
        state = str.__new__(cls, value)
        state._value_ = value
        (state.words,) = line
        return state


class Case(NamedTuple):
    """A state of one kind of store.

    Attributes:
        store: the kind.
        state: the state.
        codes: the codes of the errors that show it, or their beginning.
        words: a regular expression for errors without such a code; "" for none.
        remedy: what the operator can do.
    """

    store: Store
    state: State
    codes: tuple[str, ...]
    words: str
    remedy: str


_R, _P, _S = Store.REDIS, Store.POSTGRESQL, Store.SQLITE

CASES = (
    Case(_R, State.AWAY, (), "", "start it, or correct [redis] url"),
    Case(_R, State.LOADING, ("LOADING",), "", "wait until it has read its data"),
    Case(_R, State.SLOW, ("BUSY",), "", "end the script that it runs: SCRIPT KILL"),
    Case(
        _R, State.CONNECTIONS, (), "max number of clients", "a higher maxclients in redis.conf"
    ),
    Case(
        _R, State.FORBIDDEN, ("NOPERM", "NOAUTH", "WRONGPASS"),
        "ACL failure in script|The user executing the script can't|can't access at least one",
        "the password in [redis] url, and the rights of its user, as in docs/install.md",
    ),
    Case(
        _R, State.READ_ONLY, ("READONLY", "MASTERDOWN"), "it is a replica",
        "name the master in [redis] url, or sentinel:// that find it, or REPLICAOF NO ONE",
    ),
    Case(
        _R, State.MEMORY_FULL, ("OOM",), "",
        "a higher maxmemory, or a smaller [redis] history_age or [chat] total_bytes",
    ),
    Case(
        _R, State.DISK_FULL, ("MISCONF",), "",
        "free space on its disk, and let it write to its dir; its log says what failed",
    ),
    Case(
        _R, State.REPLICAS, ("NOREPLICAS",), "",
        "start its replicas, or a lower min-replicas-to-write in redis.conf",
    ),
    Case(
        _R, State.CLUSTER, ("CLUSTERDOWN", "MOVED", "ASK", "CROSSSLOT", "TRYAGAIN"), "",
        "name servers without cluster-enabled in [redis] url; relayd spreads over several itself",
    ),
    Case(
        _P, State.AWAY, ("08", "57P01", "57P02"), "",
        "start it, or correct [database] url; [database] deadline is how long relayd waits",
    ),
    Case(
        _P, State.LOADING, ("57P03",), "the database system is (?:starting up|in recovery)",
        "wait until it accepts connections",
    ),
    Case(
        _P, State.SLOW, ("57014",), "",
        "see what it does: SELECT * FROM pg_stat_activity; the bound is [database] "
        "statement_timeout",
    ),
    Case(
        _P, State.LOCKED, ("55P03", "40P01", "40001"), "",
        "end the program that holds the lock: SELECT * FROM pg_locks",
    ),
    Case(
        _P, State.CONNECTIONS, ("53300", "53400"), "too many (?:clients|connections)|slots are res",
        "a higher max_connections in postgresql.conf, or a smaller [database] pool_size",
    ),
    Case(
        _P, State.FORBIDDEN, ("42501", "28", "0LP01"),
        "permission denied|authentication failed|no pg_hba.conf entry|is not permitted to log in",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO its user, and "
        "CREATE ON SCHEMA public for migrations; or correct the password in [database] url",
    ),
    Case(
        _P, State.READ_ONLY, ("25006",), "read-only|is not in recovery mode",
        "name the primary in [database] url, or several hosts with "
        "target_session_attrs=read-write; or set default_transaction_read_only off",
    ),
    Case(_P, State.MEMORY_FULL, ("53200",), "", "more memory, or fewer connections"),
    Case(
        _P, State.DISK_FULL, ("53100", "58030"), "No space left on device",
        "free space on the disk of its data or of the tablespace",
    ),
    Case(
        _P, State.UNPREPARED, ("42P01", "42703", "42883"), "", "relayctl db migrate",
    ),
    Case(
        _P, State.MISSING, ("3D000", "3F000"), 'database ".*" does not exist',
        "create it: createdb --owner USER NAME, or correct [database] url",
    ),
    Case(
        _P, State.DAMAGED, ("XX001", "XX002", "58P01"), "", "restore it from a backup",
    ),
    Case(_S, State.AWAY, (), "", "see the log of the machine's disk"),
    Case(_S, State.SLOW, ("SQLITE_INTERRUPT",), "", "a faster disk; see the load of the machine"),
    Case(
        _S, State.LOCKED, ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL"), "",
        "end the program that holds it: fuser -v FILE",
    ),
    Case(
        _S, State.FORBIDDEN, ("SQLITE_PERM", "SQLITE_AUTH", "SQLITE_CANTOPEN"), "",
        "give relayd's user the file and its folder: chown -R relayd: FOLDER",
    ),
    Case(
        _S, State.READ_ONLY, ("SQLITE_READONLY",), "",
        "make file, folder and file system writable for relayd's user: mount -o remount,rw",
    ),
    Case(_S, State.MEMORY_FULL, ("SQLITE_NOMEM",), "", "more memory for relayd"),
    Case(
        _S, State.DISK_FULL, ("SQLITE_FULL", "SQLITE_IOERR"), "",
        "free space on its disk, or move [database] url; dmesg says whether the disk is broken",
    ),
    Case(_S, State.UNPREPARED, (), "no such (?:table|column)", "relayctl db migrate"),
    Case(
        _S, State.MISSING, ("SQLITE_READONLY_DBMOVED",), "",
        "put the file back from a backup, or restart relayd, which begins with an empty one; what "
        "was said before is lost in the second case",
    ),
    Case(
        _S, State.REPLACED, (), "",
        "nothing, if that was meant: relayd uses the new file from now on",
    ),
    Case(
        _S, State.LOG_LOST, (), "",
        "nothing if it works again: relayd has moved all of it into the main file. Until then end "
        "the other programs that read the file (fuser -v FILE), and let relayd run: it alone has "
        "what is in there",
    ),
    Case(
        _S, State.DAMAGED, ("SQLITE_CORRUPT", "SQLITE_NOTADB"), "",
        "stop relayd and put a backup in its place, or save what .recover of sqlite3 reads",
    ),
)  # fmt: skip
"""Every state of every kind of store."""

_REMEDIES = {(case.store, case.state): case.remedy for case in CASES}
_CODES = {
    store: {code: case.state for case in CASES if case.store is store for code in case.codes}
    for store in Store
}
_WORDS = {
    store: [(re.compile(case.words), case.state) for case in CASES
            if case.store is store and case.words]
    for store in Store
}  # fmt: skip
_REDIS_CODE = re.compile(rf"\b(?:{'|'.join(_CODES[Store.REDIS])})\b")


def find(store: Store, code: str | None, text: str) -> State | None:
    """The state that an error shows; None if the error is of no state of the store.

    Args:
        store: the kind of store.
        code: SQLSTATE, name of the result code, or code of Redis; None for an error without one, in
            whose text a code of Redis may stand anywhere.
        text: the error in the store's words.
    """
    known = _CODES[store]
    if store is Store.REDIS and code is None:
        found = _REDIS_CODE.search(text)
        code = found[0] if found else None
    if code is not None:
        for length in range(len(code), 0, -1):
            if code[:length] in known:
                return known[code[:length]]
    return next((state for pattern, state in _WORDS[store] if pattern.search(text)), None)


def remedy(store: Store, state: State) -> str:
    """What an operator can do about a state; "" if it needs nothing."""
    return _REMEDIES.get((store, state), "")

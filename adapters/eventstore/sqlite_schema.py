"""The tables of a store in an SQLite file: how they are made, what is missing of them, and whether a file may be opened."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Literal

from returnable.adapters.clock import system_clock
from returnable.adapters.eventstore.forks import AtWork
from returnable.adapters.eventstore.sqlite_file import FileConnection, cause_of, connect, transaction
from returnable.adapters.eventstore.sqlite_timeline import (
    begin_timeline,
    cookie_of,
    is_copy,
    new_cookie,
    refuse_foreign_journal,
    refuse_foreign_wal,
    refuse_half_restored,
    take_over_copy,
)
from returnable.adapters.eventstore.wal import is_busy
from returnable.domain.errors import StoreUnusable
from returnable.domain.fields import to_text
from returnable.domain.ports import Timeline

APPLICATION_ID = 0x52544E42  # "RTNB"
"""Marks a file as a store of this library."""

SCHEMA_VERSION = 2

_FACTS = """
CREATE TABLE facts (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    case_id TEXT NOT NULL, case_seq INTEGER NOT NULL,
    stream TEXT NOT NULL, version INTEGER NOT NULL,
    type TEXT NOT NULL, content BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX facts_by_case ON facts (case_id, case_seq);
CREATE UNIQUE INDEX beginnings ON facts (stream) WHERE version = 1;
CREATE TABLE names (
    kind TEXT NOT NULL, name TEXT NOT NULL, case_id TEXT NOT NULL, PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE commands (
    command_id TEXT PRIMARY KEY, digest TEXT NOT NULL, command TEXT NOT NULL, at TEXT NOT NULL,
    outcome TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, judged_on INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE refusals (
    case_id TEXT NOT NULL, case_seq INTEGER NOT NULL, times INTEGER NOT NULL, last_at INTEGER NOT NULL,
    PRIMARY KEY (case_id, case_seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE policies (sha256 TEXT PRIMARY KEY, document TEXT NOT NULL) STRICT;
"""

_BOOKKEEPING = """
CREATE TABLE bookmarks (
    name TEXT PRIMARY KEY, position INTEGER NOT NULL, holder TEXT, held_until INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE due (case_id TEXT PRIMARY KEY, at INTEGER, claimed_until INTEGER) STRICT, WITHOUT ROWID;
CREATE INDEX due_by_instant ON due (at, case_id);
CREATE TABLE timelines (
    number INTEGER PRIMARY KEY, cookie INTEGER NOT NULL, began_at TEXT NOT NULL,
    cause TEXT NOT NULL, file TEXT, sha256 TEXT, head INTEGER, replaced_head INTEGER
) STRICT;
"""

_MIGRATIONS = (_FACTS, _BOOKKEEPING)
"""The statements that make each version of the tables from the one before."""

assert len(_MIGRATIONS) == SCHEMA_VERSION

_NAMED = re.compile(r"CREATE (?:UNIQUE )?(?:TABLE|INDEX) (\w+)")


def damaged_schema(ask: Callable[[str], list[Any]]) -> Iterator[str]:
    """Tables and indexes that are missing or changed, and triggers, which can change what is written.

    An index that an administrator added is not damage.
    """
    ((version,),) = ask("PRAGMA main.user_version")
    found = {name: (kind, sql) for kind, name, sql in ask("SELECT type, name, sql FROM main.sqlite_master")}
    for nth, statements in enumerate(_MIGRATIONS, start=1):
        for statement in filter(None, map(str.strip, statements.split(";"))):
            name = _NAMED.match(statement)[1]  # type: ignore[index]
            _, sql = found.get(name, ("", None))
            if nth > version and sql is not None:
                yield f"{name} is there, but the file says that it is of version {version}, which has none"
            elif nth <= version and sql != statement:
                yield f"{name} {'is missing' if sql is None else 'is not as it was made'}"
    if version == SCHEMA_VERSION and "timelines" in found and not ask("SELECT 1 FROM main.timelines LIMIT 1"):
        yield "it does not say on which timeline its file is, so that the WAL of another file would not be noticed"
    for name, (kind, _) in found.items():
        if kind == "trigger":
            yield f"a trigger, {name}, may change what is written"


_TEMPORARY = re.compile("CREATE( UNIQUE)? (TABLE|INDEX) ")

EFFECTIVE_IDS = os.access in os.supports_effective_ids


def mark(connection: FileConnection, path: str, patience_seconds: float) -> None:
    """Mark an empty file as a store, or take over a fresh copy of a store."""
    # On its own and before the switch to WAL, so that the mark is in the first page of the file and nothing else is.
    # Another process, or a process after a crash, then finds either an empty file or one of ours.
    if kind_of(connection, path) == "empty":
        with transaction(connection):
            if kind_of(connection, path) == "empty":
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA schema_version = {new_cookie()}")
    elif is_copy(connection):
        take_over_copy(connection, path, to_text(system_clock()), patience_seconds)


def create_tables(connection: FileConnection) -> None:
    """Create the tables, or bring them up to date."""
    # Several processes may create the same store at once: the first has the lock, the others find it made.
    if _version_of(connection) < SCHEMA_VERSION:
        with transaction(connection):
            missing = _MIGRATIONS[_version_of(connection) :]
            if missing:
                cookie = cookie_of(connection)  # read before the tables are made: each of them counts it up
                for statement in ";".join(missing).split(";"):
                    connection.execute(statement)
                begin_timeline(connection, Timeline(cookie, to_text(system_clock()), "created"))
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def stand_in_for_missing(connection: sqlite3.Connection) -> bool:
    """Make the tables that an older file does not have as empty temporary ones; whether there were any."""
    connection.execute("PRAGMA temp_store = MEMORY")
    missing = _MIGRATIONS[_version_of(connection) :]
    for statements in missing:
        connection.executescript(_TEMPORARY.sub(r"CREATE\1 \2 temp.", statements))
    return bool(missing)


def is_write_protected(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file that cannot be written, or whose folder cannot be."""
    place = os.path.abspath(path)
    return os.path.isfile(place) and not all(
        os.access(each, os.W_OK, effective_ids=EFFECTIVE_IDS) for each in (place, os.path.dirname(place))
    )


def look_before_opening(path: str) -> None:
    """Raise :class:`StoreUnusable` for a path that must not be opened for writing. Nothing there is changed."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise StoreUnusable(f"{path}: its folder does not exist")
    refuse_half_restored(path)
    if os.path.isdir(path):
        raise StoreUnusable(f"{path}: it is a folder, not a file")
    if not os.path.exists(path):
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=EFFECTIVE_IDS):
            raise StoreUnusable(f"{path}: it does not exist and its folder is read-only")
        return
    if not os.path.isfile(path):
        raise StoreUnusable(f"{path}: it is no regular file")  # reading a pipe would wait for ever
    check_access(path)
    refuse_foreign_wal(path)
    refuse_foreign_journal(path)
    # "immutable" reads without locks and without creating or replaying a WAL. Reading the first bytes with open() would
    # be worse: closing any descriptor of a file drops all POSIX locks this process has on it.
    try:
        certain = _look(path, "mode=ro&immutable=1") == "ours" or not os.path.exists(f"{path}-wal")
    except sqlite3.Error:
        # Without locks a file that grows at this moment looks damaged.
        certain = False
    if certain:
        return
    # The tables of another application may be in its WAL only. This look takes locks and still changes nothing.
    try:
        try:
            _look(path, "mode=ro")
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
            # A crash left a journal, for instance while the store was being created. Nobody can read the file, whichever
            # application it belongs to, before the journal is played back.
            _look(path, "mode=rw")
    except sqlite3.Error as error:
        raise StoreUnusable(f"{path}: {cause_of(error, 'it cannot be read')} ({error})") from error


def check_access(path: str) -> None:
    # SQLite would open a read-only file and give the files beside it the same permissions. They stay when the file is
    # made writable again, and then every write fails.
    for mode, cause in ((os.R_OK, "access is denied"), (os.W_OK, "it is read-only")):
        if os.path.exists(path) and not os.access(path, mode, effective_ids=EFFECTIVE_IDS):
            raise StoreUnusable(f"{path}: {cause}")


def _look(path: str, options: str) -> Literal["ours", "empty"]:
    with closing(connect(path, options, 5.0)) as connection:
        return kind_of(connection, path)


def kind_of(connection: sqlite3.Connection, path: str) -> Literal["ours", "empty"]:
    # Tables are counted first: if another process creates the store between the two queries, its mark is seen.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    if application_id == APPLICATION_ID:
        version = _version_of(connection)
        if version > SCHEMA_VERSION:
            raise StoreUnusable(
                f"{path}: it was written by a newer version of returnable (schema {version}, this one knows"
                f" {SCHEMA_VERSION})"
            )
        return "ours"
    if tables or application_id:
        raise StoreUnusable(f"{path}: it is an SQLite file of another application")
    return "empty"


def version_of_file(path: str) -> int:
    """The version of the tables in a file; 0 where there is no store yet. Raises :class:`StoreUnusable`."""
    if not os.path.exists(path):
        return 0
    with AtWork(path):
        look_before_opening(path)
        with closing(connect(path, "mode=ro", 5.0)) as connection:
            return _version_of(connection)


def _version_of(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def check_writable(connection: sqlite3.Connection) -> None:
    # SQLite opens a read-only file, and even begins a transaction, without an error. It refuses only a statement that changes
    # something. A busy file is fine and not waited for.
    timeout = connection.execute("PRAGMA busy_timeout").fetchone()[0]
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if not is_busy(error):
            raise
    connection.execute(f"PRAGMA busy_timeout = {timeout}")

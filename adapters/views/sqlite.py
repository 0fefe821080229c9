"""Stored views in an SQLite file of their own, beside the store from whose events they are made.

Projecting never takes the write lock of the store. The file can be deleted at any time: it is made again from the events.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from functools import partial

from pydantic_core import to_json

from returnable.adapters.eventstore.forks import AtWork, before_forks, in_children
from returnable.adapters.eventstore.sqlite_file import (
    OUTCOME_UNKNOWN,
    FileConnection,
    SQLiteFile,
    close_at_end,
    closed_on_error,
    connect,
    create_for_owner,
    transaction,
)
from returnable.adapters.eventstore.wal import is_busy, make_durable_what_is_found, switch_to_wal
from returnable.domain.errors import StoreBusy, StoreUnusable
from returnable.domain.ports import Damage
from returnable.projections.ports import Changes, Mark, Row
from returnable.projections.stored import SCHEMA_VERSION, VIEWS, Column, sortable

APPLICATION_ID = 0x52544E56  # "RTNV"
"""Marks a file as stored views of this library."""

_COMMON: tuple[Column, ...] = (("case_id", "text"), ("nth", "integer"))

_SYSTEM_TABLES = """
CREATE TABLE marks (view TEXT PRIMARY KEY, position INTEGER NOT NULL, cursor TEXT, place TEXT) STRICT, WITHOUT ROWID;
CREATE TABLE parked (
    view TEXT NOT NULL, case_id TEXT NOT NULL, position INTEGER NOT NULL, case_seq INTEGER NOT NULL,
    stream TEXT NOT NULL, version INTEGER NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (view, case_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE origin (identity TEXT NOT NULL) STRICT;
"""

_PARKED = "SELECT view, position, case_id, case_seq, stream, version, reason FROM parked"

_CLAUSE_COUNTS = """
SELECT clause, currency, verdict, count(*), {1} FROM clauses WHERE {0} GROUP BY clause, currency, verdict
UNION ALL
SELECT clause, currency, 'alone', count(*), {1} FROM clauses WHERE alone = 1 AND {0} GROUP BY clause, currency
"""

_LIMB = 9
_LIMBS = 3
"""An amount of at most 20 digits is added up in groups of nine digits: SQLite's own sum fails above 64 bits."""

_SUMS = ", ".join(
    f"sum(CAST(substr(substr(amount, 1, max(length(amount) - {_LIMB * nth}, 0)), -{_LIMB}) AS INTEGER))"
    for nth in range(_LIMBS)
)

CHECKPOINT_PAGES = 8000
"""Pages of WAL between two checkpoints. Measured: with SQLite's 1000, building takes 15 % longer, and twice as long on a slow
disk. The price is up to 32 MB beside the file."""

_CACHE_KIB = 32_000
"""The most memory SQLite keeps pages in, whatever the size of the file."""


class SQLiteViews:
    """Keeps stored views in a file, or in memory; safe to share between threads, and between processes by the file.

    A batch is one transaction: after a power failure all of it is there, or nothing.
    """

    def __init__(self, path: str | os.PathLike[str] | None, *, busy_timeout_seconds: float = 10.0) -> None:
        """``None``: in memory. Raises ``StoreUnusable`` when the file is of another application or of another version."""
        self._file = None if path is None else SQLiteFile(path)
        self.path = None if self._file is None else self._file.path
        self._busy_timeout_seconds = busy_timeout_seconds
        self._closed = False
        self._connection: FileConnection | None = None
        self._start_afresh()
        in_children(self._start_afresh)
        if self._file is not None:
            before_forks(self._close_before_fork)
        with AtWork(self), self._explained():
            if self.path is not None:
                create_for_owner(self.path)
            self._writer()

    def _start_afresh(self) -> None:
        self._lock = threading.RLock()
        if self._connection is None:
            return
        if self._file is None:
            self._connection.pid = os.getpid()  # a fork copies what is in memory
        else:
            self._finalizer.detach()
            self._connection = None

    def _close_before_fork(self) -> None:
        if self._connection is not None:
            self._finalizer()
            self._connection = None

    def _writer(self) -> FileConnection:
        """The connection that writes; opened when there is none."""
        connection = self._connection
        if connection is None:
            mode = "rwc" if self._file is None or self._file.is_new else "rw"
            with closed_on_error(self._connect(mode)) as connection:
                self._prepare(connection)
                if self._file is not None:
                    self._file.remember(connection)
            self._connection = connection
            close = partial(_close, connection)
            self._finalizer = weakref.finalize(self, close_at_end, close, self._lock, self._busy_timeout_seconds)
        return connection

    @property
    def _name(self) -> str:
        return self.path or "the views in memory"

    # ---- what projectors need --------------------------------------------------------------------------------------------

    def belongs_to(self, store_identity: str | None) -> None:
        """Raise ``StoreUnusable`` when the views were made from another store. The first event identifies the store."""
        with self.reading() as reading:
            reading.belongs_to(store_identity)
            if store_identity is None or reading.origin() is not None:
                return
        with self._writing() as connection:
            # Another projector may have been first.
            if SQLiteReading(connection, self._name).origin() is None:
                connection.execute("INSERT INTO origin VALUES (?)", (store_identity,))

    def marks(self) -> Mapping[str, Mark]:
        """The position of each view."""
        with self.reading() as reading:
            return reading.marks()

    def parked(self, view: str | None = None) -> Sequence[tuple[str, Damage]]:
        """The view, and the damage, of every case that could not be projected to its end."""
        with self.reading() as reading:
            return reading.parked(view)

    def begin(self, views: Sequence[str], mark: Mark, store_identity: str | None = None) -> None:
        """Empty these views, to be built up to ``mark``. If these are all views, they belong to this store from now on."""
        with self._writing() as connection:
            for view in views:
                connection.execute(f"DELETE FROM {VIEWS[view].name}")
                connection.execute("DELETE FROM parked WHERE view = ?", (view,))
                connection.execute(
                    "INSERT OR REPLACE INTO marks VALUES (?, ?, '', ?)", (view, mark.position, mark.place)
                )
            if set(views) == set(VIEWS):
                connection.execute("DELETE FROM origin")
                if store_identity is not None:
                    connection.execute("INSERT INTO origin VALUES (?)", (store_identity,))

    def save(
        self, before: Mapping[str, Mark], after: Mark, changes: Changes, store_identity: str | None = None
    ) -> bool:
        """Write the changes and move the views from ``before`` to ``after``, all or nothing.

        Returns ``False`` where one of them is not at ``before``.
        """
        with self._writing() as connection:
            if store_identity is not None:
                SQLiteReading(connection, self._name).belongs_to(store_identity)
            marks = _marks(connection)
            if any(marks.get(view) != mark for view, mark in before.items()):
                return False
            for view, mark in before.items():
                self._save_rows(connection, view, changes, fresh=not mark.built)
                self._save_mark(connection, view, after)
        return True

    @staticmethod
    def _save_rows(connection: sqlite3.Connection, view: str, changes: Changes, *, fresh: bool) -> None:
        # A view that is being built meets every case for the first time: there is nothing to delete.
        if not fresh:
            case_ids = [(case_id,) for case_id in changes.case_ids]
            connection.executemany(f"DELETE FROM {view} WHERE case_id = ?", case_ids)
            connection.executemany(f"DELETE FROM parked WHERE view = '{view}' AND case_id = ?", case_ids)
        connection.executemany(_INSERT[view], changes.rows.get(view, ()))
        connection.executemany(
            "INSERT INTO parked VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (view, each.case_id, each.position, each.case_seq, each.stream, each.version, each.reason)
                for each in changes.parked.get(view, ())
            ],
        )

    @staticmethod
    def _save_mark(connection: sqlite3.Connection, view: str, mark: Mark) -> None:
        connection.execute(
            "UPDATE marks SET position = ?, cursor = ?, place = ? WHERE view = ?",
            (mark.position, mark.cursor, mark.place, view),
        )

    # ---- reading ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[SQLiteReading]:
        """Rows and marks as of one moment, whatever projectors write meanwhile."""
        with AtWork(self):
            self._check_open()
            if self._file is None:
                with self._lock:
                    yield SQLiteReading(self._writer(), self._name)
                return
            with self._explained(), closing(self._connect("rw")) as connection:
                connection.execute("PRAGMA query_only = ON")
                connection.execute("BEGIN")
                self._file.remember(connection)
                yield SQLiteReading(connection, self._name)

    def close(self) -> None:
        """Release the file; harmless when repeated."""
        self._closed = True
        with suppress(StoreUnusable), AtWork(self), self._lock:  # a child process may not touch what it inherited
            if self._connection is not None:
                self._finalizer()

    # ---- the file --------------------------------------------------------------------------------------------------------

    def _connect(self, mode: str) -> FileConnection:
        if self._file is not None:
            self._file.check_before_opening()
        with closed_on_error(connect(self.path, f"mode={mode}", self._busy_timeout_seconds)) as connection:
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        return connection

    def _prepare(self, connection: FileConnection) -> None:
        self._look(connection)
        switch_to_wal(connection, self._busy_timeout_seconds)
        # Not for the last batch, which could be made again: a sync that fails must raise before anything is copied from the
        # WAL into the file. With NORMAL it is swallowed, and a power failure may leave wrong views.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        if self.path is not None and not make_durable_what_is_found(connection, self._busy_timeout_seconds):
            raise StoreBusy(f"{self._name}: another projector copied the WAL for {self._busy_timeout_seconds:g} s")
        if _is_empty(connection):
            with transaction(connection):
                # Another projector may have been first.
                if _is_empty(connection):
                    for statement in (*_SYSTEM_TABLES.split(";"), *map(_table, VIEWS)):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._look(connection)

    def _look(self, connection: sqlite3.Connection) -> None:
        if _is_empty(connection):
            return
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise StoreUnusable(f"{self._name}: it is an SQLite file, but not one of stored views")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise StoreUnusable(
                f"{self._name}: stored views of another version of returnable (schema {version}, this one makes "
                f"{SCHEMA_VERSION}); make them anew with `returnable project --rebuild all`"
            )

    @contextmanager
    def _writing(self) -> Iterator[FileConnection]:
        with AtWork(self) as work, self._lock, self._explained():
            self._check_open()
            connection = self._writer()
            if self._file is not None:
                self._file.check_before_opening()
            with transaction(connection):
                yield connection
                if self._file is not None:
                    work.check_same_process()
            if self._file is not None:
                self._file.check(connection.opened, OUTCOME_UNKNOWN)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnusable(f"{self._name}: the stored views are closed")
        if self._file is not None:
            self._file.check_not_moved()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if is_busy(error):
                raise StoreBusy(
                    f"{self._name}: another projector held the views for {self._busy_timeout_seconds:g} s"
                ) from error
            cure = ""
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                cure = "; delete the file and make them anew with `returnable project`"
            raise StoreUnusable(f"{self._name}: the stored views cannot be used ({error}){cure}") from error


class SQLiteReading:
    """Stored views at one moment."""

    def __init__(self, connection: FileConnection, name: str) -> None:
        self._connection = connection
        self._name = name

    @property
    def connection(self) -> FileConnection:
        """The connection that reads. Raises ``StoreUnusable`` in a child process whose parent began to read."""
        if not self._connection.is_own:
            raise StoreUnusable(
                f"{self._name}: this process was forked while its parent was reading; begin to read again"
            )
        return self._connection

    def origin(self) -> str | None:
        """The identity of the store that the views were made from; ``None`` while it had no events."""
        row = self.connection.execute("SELECT identity FROM origin").fetchone()
        return None if row is None else row[0]

    def belongs_to(self, store_identity: str | None) -> None:
        """Raise ``StoreUnusable`` when the views were made from another store."""
        origin = self.origin()
        # If the first event was damaged since, only its place identifies the store.
        if origin is not None and not (store_identity and _alike(origin, store_identity)):
            raise StoreUnusable(
                f"{self._name}: these stored views were made of another store, or of this one before it was restored; "
                "name another file with --views, or build them anew with --rebuild all"
            )

    def marks(self) -> Mapping[str, Mark]:
        """The position of each view."""
        return _marks(self.connection)

    def parked(self, view: str | None = None) -> Sequence[tuple[str, Damage]]:
        """The damage for which each case is parked, in order of view and case."""
        wanted, values = ("", ()) if view is None else (" WHERE view = ?", (view,))
        rows = self.connection.execute(f"{_PARKED}{wanted} ORDER BY view, case_id", values).fetchall()
        return [(name, Damage(*place)) for name, *place in rows]

    def rows(
        self, view: str, columns: Sequence[str], where: Mapping[str, str] | None = None, limit: int | None = None
    ) -> Iterator[Row]:
        """These columns of the rows of a view in order of case id, where other columns have these values."""
        known = {name for name, _ in (*_COMMON, *VIEWS[view].columns)}
        wanted = where or {}
        unknown = {*columns, *wanted} - known
        if unknown:
            raise ValueError(f"the view {view!r} has no column {', '.join(sorted(unknown))}")
        tests = " AND ".join(f'"{name}" = ?' for name in wanted)
        query = (
            f"SELECT {_quoted(columns)} FROM {view}{f' WHERE {tests}' if tests else ''} ORDER BY case_id, nth LIMIT ?"
        )
        yield from self.connection.execute(query, (*wanted.values(), -1 if limit is None else limit))

    def clause_counts(self, since: datetime | None, until: datetime | None) -> Iterator[tuple[str, str, str, int, int]]:
        """Clause, currency and verdict (or ``alone``), the number of decisions and the amount at stake in them."""
        tests, values = ["1"], []
        if since is not None:
            tests.append("occurred_at >= ?")
            values.append(sortable(since))
        if until is not None:
            tests.append("occurred_at < ?")
            values.append(sortable(until))
        counted = self.connection.execute(_CLAUSE_COUNTS.format(" AND ".join(tests), _SUMS), (*values, *values))
        for clause, currency, verdict, decisions, *limbs in counted:
            amount = sum(limb * 10 ** (_LIMB * nth) for nth, limb in enumerate(limbs))
            yield clause, currency, verdict, decisions, amount

    def digest(self, view: str) -> str:
        """The SHA-256 of all rows of a view in order, and of its parked cases."""
        digest = hashlib.sha256()
        for row in self.connection.execute(f"SELECT * FROM {VIEWS[view].name} ORDER BY case_id, nth"):
            digest.update(to_json(row) + b"\n")
        for row in self.connection.execute(f"{_PARKED} WHERE view = ? ORDER BY case_id", (view,)):
            digest.update(b"parked " + to_json(row) + b"\n")
        return digest.hexdigest()


def _close(connection: FileConnection) -> None:
    with AtWork(connection), suppress(sqlite3.Error):
        connection.close()


def _alike(one: str, other: str) -> bool:
    (place, content, timeline), (other_place, other_content, other_timeline) = one.split(":"), other.split(":")
    same_content = content == other_content or not content or not other_content
    return (place, timeline) == (other_place, other_timeline) and same_content


def _marks(connection: sqlite3.Connection) -> dict[str, Mark]:
    rows = connection.execute("SELECT view, position, cursor, place FROM marks").fetchall()
    return {view: Mark(position, cursor, place) for view, position, cursor, place in rows}


def _is_empty(connection: sqlite3.Connection) -> bool:
    tables: int = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return not tables


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


_TYPES = {"text": "TEXT", "integer": "INTEGER", "amount": "ANY"}


def _table(view: str) -> str:
    columns = ", ".join(f'"{name}" {_TYPES[kind]}' for name, kind in (*_COMMON, *VIEWS[view].columns))
    return f"CREATE TABLE {view} ({columns}, PRIMARY KEY (case_id, nth)) STRICT, WITHOUT ROWID"


def _insert(view: str) -> str:
    names = [name for name, _ in (*_COMMON, *VIEWS[view].columns)]
    return f"INSERT INTO {view} ({_quoted(names)}) VALUES ({', '.join('?' * len(names))})"


_INSERT = {view: _insert(view) for view in VIEWS}


def views_url_of(store_url: str) -> str:
    """Where the stored views of a store are kept: ``sqlite:///shop.db`` → ``sqlite:///shop-views.db``."""
    if store_url == "memory:":
        return store_url
    head, slash, name = store_url.rpartition("/")
    stem, dot, ending = name.rpartition(".")
    return f"{head}{slash}{stem}-views.{ending}" if dot and stem else f"{store_url}-views"


def open_views(url: str, *, create: bool = True, anew: bool = False) -> SQLiteViews | None:
    """The stored views at a URL; ``None`` when there are none and none are to be created.

    ``anew``: stored views of another version are thrown away first. Raises ``StoreUnusable``.
    """
    if url == "memory:":
        return SQLiteViews(None) if create else None
    from returnable.adapters.eventstore.open import path_of

    path = path_of(url)
    if not os.path.exists(path) and not create:
        return None
    if anew:
        _empty_other_version(path)
    return SQLiteViews(path)


def _empty_other_version(path: str) -> None:
    """Drop every table of stored views of another version; leave any other file as it is."""
    if not os.path.exists(path):
        return
    try:
        with AtWork(path), closing(connect(path, "mode=rw", 10)) as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            ours = connection.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID
            if not ours or version == SCHEMA_VERSION:
                return
            with transaction(connection):
                for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                    connection.execute(f'DROP TABLE "{table}"')
                connection.execute("PRAGMA user_version = 0")
    except sqlite3.Error as error:
        raise StoreUnusable(f"{path}: the stored views cannot be emptied ({error})") from error

"""The connections of a store to its SQLite file: one that writes, and some that read.

Connections belong to no thread, so threads may come and go. Readers never wait for the writer, nor the writer for them,
because the file is in WAL mode.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Literal

from returnable.adapters.eventstore.forks import AtWork, before_forks, in_children
from returnable.adapters.eventstore.sqlite_file import (
    OUTCOME_UNKNOWN,
    FileConnection,
    SQLiteFile,
    cause_of,
    close_at_end,
    closed_on_error,
    connect,
    create_for_owner,
)
from returnable.adapters.eventstore.sqlite_schema import (
    EFFECTIVE_IDS,
    check_access,
    check_writable,
    create_tables,
    is_write_protected,
    kind_of,
    look_before_opening,
    mark,
    stand_in_for_missing,
)
from returnable.adapters.eventstore.sqlite_timeline import (
    refuse_foreign_journal,
    refuse_foreign_wal,
    refuse_half_restored,
)
from returnable.adapters.eventstore.wal import is_busy, make_durable_what_is_found, switch_to_wal
from returnable.domain.errors import ReturnableError, StoreBusy, StoreUnusable

Synchronous = Literal["FULL", "EXTRA", "NORMAL"]

CHECKPOINT_PAGES = 2000
"""Pages of WAL between two checkpoints. Measured: SQLite's 1000 costs 3 % of the appends, 8000 gains nothing and makes
the first appends into a fresh, growing WAL a third slower."""

IDLE_READERS = 16
"""How many reading connections are kept while nobody reads; more are opened when more threads read at once."""

_SYNCHRONOUS = {"NORMAL": 1, "FULL": 2, "EXTRA": 3}

WRONG_CALLS = (sqlite3.IntegrityError, sqlite3.ProgrammingError, sqlite3.DataError, sqlite3.NotSupportedError)


class Connections:
    """The connections of one store to its file; raises :class:`StoreUnusable` when the file cannot be used.

    ``busy_timeout_seconds`` is how long a write waits for other writers of this or another process.
    """

    def __init__(self, path: str | os.PathLike[str], synchronous: Synchronous, busy_timeout_seconds: float) -> None:
        if synchronous not in _SYNCHRONOUS:
            raise ValueError(f"synchronous must be FULL, EXTRA or NORMAL, not {synchronous!r}")
        self._synchronous: Synchronous = synchronous
        self._begin(path, busy_timeout_seconds)
        with AtWork(self):
            look_before_opening(self.path)
            with self.explained():
                self._held.writer = self._first_connection()

    def _begin(self, path: str | os.PathLike[str], busy_timeout_seconds: float) -> None:
        self._file = SQLiteFile(path)
        self.path = self._file.path
        self._busy_timeout_seconds = busy_timeout_seconds
        self._held = _Held()
        self._start_afresh()
        before_forks(self._close_before_fork)
        in_children(self._start_afresh)

    def _start_afresh(self) -> None:
        # This lock knows its holder. A signal may interrupt a thread at a point where the thread cannot know whether it has
        # taken the lock.
        self._write_lock = threading.RLock()
        self.release_writer = self._write_lock.release
        """Let other threads write. No signal can interrupt it. Raises ``RuntimeError`` where the lock was not taken."""
        self._hold_nothing()

    def _close_before_fork(self) -> None:
        held = self._held
        self._hold_nothing()
        held.close()

    def _hold_nothing(self) -> None:
        if finalizer := getattr(self, "_finalizer", None):
            finalizer.detach()
        self._held = _Held(closed=self._held.closed, most_readers=self._held.most_readers)
        self.in_use = False
        """Whether a thread is in the middle of a transaction."""
        self._doubtful = True
        """Whether the WAL may hold commits that others can see and that are not on the disk yet."""
        # A store that nobody closed leaks nothing, and Python 3.13 does not warn of unclosed connections.
        self._finalizer = weakref.finalize(
            self, close_at_end, self._held.close, self._write_lock, self._busy_timeout_seconds
        )

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of SQLite into ours, except those of a wrong call."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, WRONG_CALLS):
                raise
            raise self.explain(error) from error

    def explain(self, error: sqlite3.Error) -> ReturnableError:
        """Our error for an error of SQLite."""
        if is_busy(error):
            return StoreBusy(f"{self.path}: another writer held the store for {self._busy_timeout_seconds:g} s")
        try:
            self._file.check_before_opening(OUTCOME_UNKNOWN)
        except StoreUnusable as moved:  # the cause of any error of SQLite
            return moved
        return StoreUnusable(f"{self.path}: {cause_of(error, 'SQLite refuses')} ({error})")

    def take_writer(self) -> sqlite3.Cursor:
        """A cursor of the writing connection, for this thread alone until it calls :attr:`release_writer`.

        The caller releases the writer also after an exception. Raises :class:`StoreBusy` when other threads did not release
        it in time, or when a signal handler calls this in the middle of a write of its own thread.
        """
        # No context manager: this is the path of every command, and a generator costs as much as an INSERT.
        if not self._write_lock.acquire(timeout=self._busy_timeout_seconds) or self.in_use:
            raise StoreBusy(f"{self.path}: other threads held the store for {self._busy_timeout_seconds:g} s")
        self._check_open()
        writer = self._held.writer
        if writer is None:
            with self.explained():
                writer = self._held.writer = self._connect()
            self._held.close_failed_writer()
        else:
            self._file.check_before_opening()
        if self._doubtful:
            with self.explained():
                self._settle(writer)
        if writer.in_transaction:  # a thread was interrupted before it could roll back
            with self.explained():
                writer.execute("ROLLBACK")
        return writer.cursor()

    def recover_writer(self, error: BaseException) -> BaseException:
        """Roll a failed write back and prepare the writer for the next; returns the error to raise."""
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, WRONG_CALLS):
            cause, error = error, self.explain(error)
            error.__cause__ = cause
        sound = not isinstance(error, StoreUnusable)
        writer = self._held.writer
        if writer is not None:
            try:
                if writer.in_transaction:
                    writer.execute("ROLLBACK")
            except sqlite3.Error:
                sound = False
            if not sound:
                # After a full disk or a failed write the state of the connection is unknown. A new connection reads the
                # file. Until there is one, this one stays open if it can: while any connection is open, none takes the
                # frames that a failed write left in the WAL for a commit.
                self._held.writer = None
                if writer.in_transaction:
                    self._doubtful = True
                    with suppress(sqlite3.Error):
                        writer.close()
                else:
                    self._held.failed_writer = writer
        return error

    @contextmanager
    def reading(self) -> Iterator[FileConnection]:
        """A connection for reading, for this thread alone. The caller must leave no transaction open."""
        work = AtWork(self)
        try:
            held = self._held
            self._check_open()
            try:
                reader = held.readers.pop()
            except IndexError:
                with self.explained():
                    reader = self._connect()
                    reader.execute("PRAGMA query_only = ON")
            sound = False
            try:
                self._file.check(reader.opened)
                yield reader
                sound = True
            except sqlite3.DatabaseError as error:  # as in explained(), whose generator would cost a tenth of a query
                if isinstance(error, WRONG_CALLS):
                    raise
                raise self.explain(error) from error
            finally:
                held.give_back(reader, sound)
        finally:
            work.end()

    def close(self) -> None:
        """Close the connections that are not in use now, and the others when they are given back."""
        try:
            work = AtWork(self)
        except StoreUnusable:  # in a child process that could open nothing
            self._held.closed = True
            return
        with work, self._write_lock:
            self._held.close()
        self._finalizer.detach()

    def check_in_place(self) -> None:
        """Raise :class:`StoreUnusable` when the last write went to files that were removed, renamed or replaced."""
        writer = self._held.writer
        if writer is not None:
            self._file.check(writer.opened, OUTCOME_UNKNOWN)

    def _check_open(self) -> None:
        if self._held.closed:
            raise StoreUnusable(f"{self.path}: the store is closed")
        self._file.check_not_moved()

    def _first_connection(self) -> FileConnection:
        create_for_owner(self.path)
        self._file.check_before_opening()
        with closed_on_error(connect(self.path, "mode=rwc", self._busy_timeout_seconds)) as connection:
            self._file.check_opened(connection)
            mark(connection, self.path, self._busy_timeout_seconds)
            switch_to_wal(connection, self._busy_timeout_seconds)
            self._make_durable(connection)
            self._settle(connection)
            create_tables(connection)
            check_writable(connection)
            self._file.remember(connection)
        return connection

    def _connect(self) -> FileConnection:
        self._file.check_before_opening()
        check_access(self.path)
        # "rw" creates no file: where the file was removed, an empty one must not take its place.
        with closed_on_error(connect(self.path, "mode=rw", self._busy_timeout_seconds)) as connection:
            self._file.check_opened(connection)
            self._make_durable(connection)
            self._settle(connection)
            self._file.remember(connection)
        return connection

    def _make_durable(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        journal_mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
        if journal_mode != "wal":
            raise StoreUnusable(
                f"{self.path}: WAL mode cannot be had here, only {journal_mode!r}; is it on a network file system?"
            )
        synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
        if synchronous != _SYNCHRONOUS[self._synchronous]:
            raise StoreUnusable(f"{self.path}: SQLite does not take synchronous={self._synchronous}")

    def _settle(self, connection: sqlite3.Connection) -> None:
        # Under the write lock: a sync that fails here may lose frames that another thread has written and not yet synced.
        with self._write_lock:
            if self._doubtful:
                if not make_durable_what_is_found(connection, self._busy_timeout_seconds):
                    raise StoreBusy(f"{self.path}: another process copied its WAL for {self._busy_timeout_seconds:g} s")
                self._doubtful = False


class ReadingConnections(Connections):
    """Connections that only read, to a file that others may write: the file is neither brought up to date nor changed.

    Tables of later versions appear as empty ones. Raises :class:`StoreUnusable` for an empty file, and for every write.
    """

    _refusal = "it was opened for reading alone"

    def __init__(self, path: str | os.PathLike[str], busy_timeout_seconds: float) -> None:
        self._begin(path, busy_timeout_seconds)
        with AtWork(self):
            self._options = self._how_to_open()
            with self.explained():
                self._held.give_back(self._connect(), sound=True)

    def _how_to_open(self) -> str:
        look_before_opening(self.path)
        # Not "ro": the last connection must be able to remove the WAL.
        return "mode=rw"

    def _connect(self) -> FileConnection:
        self._file.check_before_opening()
        with closed_on_error(connect(self.path, self._options, self._busy_timeout_seconds)) as connection:
            self._file.check_opened(connection)
            if kind_of(connection, self.path) == "empty":
                raise StoreUnusable(f"{self.path}: it is empty; there is no store here")
            if stand_in_for_missing(connection):
                # Another process that brings the file up to date makes the real tables, which these would hide. So no
                # connection is kept.
                self._held.most_readers = 0
            connection.execute("PRAGMA query_only = ON")
            self._file.remember(connection, beside=self._options != _IMMUTABLE)
        return connection

    def copy_into(self, target: str) -> None:
        """Copy every page, as of one moment, into an empty file, which is not in WAL mode afterwards."""
        with self.reading() as source:
            try:
                with closing(connect(target, "mode=rw", self._busy_timeout_seconds)) as copy:
                    copy.execute("PRAGMA synchronous = OFF")  # the caller syncs the whole file
                    source.backup(copy)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                    raise
                raise StoreUnusable(f"{target}: {cause_of(error)} ({error})") from error
            with closing(connect(target, "mode=rw", self._busy_timeout_seconds)) as copy:
                copy.execute("PRAGMA journal_mode = DELETE").fetchall()

    def take_writer(self) -> sqlite3.Cursor:
        """Raises :class:`StoreUnusable`: these connections only read."""
        self._check_open()
        raise StoreUnusable(f"{self.path}: {self._refusal}")


_IMMUTABLE = "mode=ro&immutable=1"


class ProtectedConnections(ReadingConnections):
    """Connections to a store on write-protected media: nothing beside the file is created or changed either.

    Raises :class:`StoreUnusable` when events may be in a WAL that cannot be read there, and for every write.
    """

    _refusal = "it is read-only"

    def _how_to_open(self) -> str:
        if not os.access(self.path, os.R_OK, effective_ids=EFFECTIVE_IDS):
            raise StoreUnusable(f"{self.path}: access is denied")
        refuse_half_restored(self.path)
        refuse_foreign_wal(self.path)
        refuse_foreign_journal(self.path)
        target = self._file.target
        wal = f"{target}-wal"
        if not os.path.exists(wal) or os.path.getsize(wal) == 0:
            return _IMMUTABLE
        if not os.path.exists(f"{target}-shm"):
            raise StoreUnusable(
                f"{self.path}: it is read-only, and events may be in {os.path.basename(wal)} beside it; copy both to a "
                "folder that can be written"
            )
        return "mode=ro"


def reading_connections(path: str | os.PathLike[str], busy_timeout_seconds: float = 5.0) -> ReadingConnections:
    """Connections that only read, whether or not the file is write-protected."""
    kind = ProtectedConnections if is_write_protected(path) else ReadingConnections
    return kind(path, busy_timeout_seconds)


class _Held:
    """The open connections. They are apart from :class:`Connections`, so that they can be closed after that is gone."""

    def __init__(self, *, closed: bool = False, most_readers: int = IDLE_READERS) -> None:
        self.writer: FileConnection | None = None
        self.failed_writer: FileConnection | None = None
        self.readers: list[FileConnection] = []
        self.most_readers = most_readers
        self.closed = closed
        self._lock = threading.Lock()

    def give_back(self, reader: FileConnection, sound: bool) -> None:
        with self._lock:
            if sound and not self.closed and len(self.readers) < self.most_readers:
                self.readers.append(reader)
                return
        with suppress(sqlite3.Error):
            reader.close()

    def close_failed_writer(self) -> None:
        with self._lock:
            connection, self.failed_writer = self.failed_writer, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def close(self) -> None:
        with self._lock:
            self.closed = True
            connections = [each for each in (*self.readers, self.writer, self.failed_writer) if each is not None]
            self.readers, self.writer, self.failed_writer = [], None, None
        if connections:
            with AtWork(self):
                for connection in connections:
                    with suppress(sqlite3.Error):
                        connection.close()

"""Connections to one SQLite file: is it ours, is it durable, who writes, who reads.

One connection writes and a few that are not in use are kept for reading. They belong to no thread, so threads may come
and go; readers never wait for the writer, nor the writer for them, because the file is in WAL mode.
"""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal

from returnable.adapters.clock import system_clock
from returnable.adapters.eventstore.forks import AtWork, before_forks, in_children
from returnable.adapters.eventstore.sqlite_file import (
    OUTCOME_UNKNOWN,
    FileConnection,
    SQLiteFile,
    connect,
    create_for_owner,
)
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
from returnable.adapters.eventstore.wal import is_busy, make_durable_what_is_found, switch_to_wal
from returnable.domain.errors import ReturnableError, StoreBusy, StoreUnusable
from returnable.domain.fields import to_text

Synchronous = Literal["FULL", "EXTRA", "NORMAL"]

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
"""What makes each version of the tables from the one before it."""

assert len(_MIGRATIONS) == SCHEMA_VERSION

_NAMED = re.compile(r"CREATE (?:UNIQUE )?(?:TABLE|INDEX) (\w+)")


def damaged_schema(ask: Callable[[str], list[Any]]) -> Iterator[str]:
    """What is missing of the tables and indexes of a store, and what was put among them that changes what is written.

    An index that an administrator adds does no harm.
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

CHECKPOINT_PAGES = 2000
"""Pages of WAL between two checkpoints. Measured: SQLite's 1000 costs 3 % of the appends, 8000 gains nothing and makes
the first appends into a fresh, growing WAL a third slower."""

IDLE_READERS = 16
"""How many reading connections are kept while nobody reads; more are opened when more threads read at once."""

_EFFECTIVE_IDS = os.access in os.supports_effective_ids

_SYNCHRONOUS = {"NORMAL": 1, "FULL": 2, "EXTRA": 3}

_CAUSES = {
    sqlite3.SQLITE_NOTADB: "it is not an SQLite file",
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_READONLY: "it or its folder is read-only",
    sqlite3.SQLITE_PERM: "access is denied",
    sqlite3.SQLITE_AUTH: "access is denied",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_IOERR: "reading or writing failed",
    sqlite3.SQLITE_CANTOPEN: "it, or a file beside it, cannot be opened",
}

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
            _look_before_opening(self.path)
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
        # It knows who has it: a signal may interrupt where nobody can tell any more whether the lock was taken.
        self._write_lock = threading.RLock()
        self.release_writer = self._write_lock.release
        """Let other threads write. The lock's own method, which no signal interrupts; ``RuntimeError``: it was not taken."""
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
        """Whether somebody is in the middle of a transaction."""
        self._doubtful = True
        """Whether what stands in the WAL may be seen and still not be on the disk."""
        # Whoever forgets to close a store leaks nothing, and Python 3.13 has no unclosed connection to warn of.
        self._finalizer = weakref.finalize(
            self, _close_at_end, self._held, self._write_lock, self._busy_timeout_seconds
        )

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of SQLite into ours; those of a wrong call pass."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if isinstance(error, WRONG_CALLS):
                raise
            raise self.explain(error) from error

    def explain(self, error: sqlite3.Error) -> ReturnableError:
        """Our error for one of SQLite's."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return StoreBusy(f"{self.path}: another writer held the store for {self._busy_timeout_seconds:g} s")
        try:
            self._file.check_before_opening(OUTCOME_UNKNOWN)
        except StoreUnusable as moved:  # that explains whatever SQLite says
            return moved
        return StoreUnusable(f"{self.path}: {_CAUSES.get(code, 'SQLite refuses')} ({error})")

    def busy(self) -> StoreBusy:
        """Our error when other threads wrote for too long."""
        return StoreBusy(f"{self.path}: other threads held the store for {self._busy_timeout_seconds:g} s")

    def take_writer(self) -> sqlite3.Cursor:
        """A cursor of the writing connection, for this thread alone until :attr:`release_writer`, to be called also after
        this raised.

        Raises :class:`StoreBusy` when other threads did not let go of it in time, or for what interrupts a thread that
        writes.
        """
        # No context manager: this is the path of every command, and a generator costs as much as an INSERT.
        if not self._write_lock.acquire(timeout=self._busy_timeout_seconds) or self.in_use:
            raise self.busy()
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
        if writer.in_transaction:  # whoever began it was interrupted before it could be undone
            with self.explained():
                writer.execute("ROLLBACK")
        return writer.cursor()

    def recover_writer(self, error: BaseException) -> BaseException:
        """Undo what a failed write began and make the writer fit for the next; the error to raise."""
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
                # After a full disk or a failed write nobody knows what the connection believes. A new one asks the
                # file. Until there is one, this one stays open if it can: as long as any connection is, none takes what
                # a failed write left in the WAL for a commit.
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
        """A connection for reading, for this thread alone; it must leave no transaction open."""
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
                with self.explained():
                    yield reader
                sound = True
            finally:
                held.give_back(reader, sound)
        finally:
            work.end()

    def close(self) -> None:
        """Close every connection that is not in use, and the others as soon as they are given back."""
        try:
            work = AtWork(self)
        except StoreUnusable:  # in a child process that could open nothing
            self._held.closed = True
            return
        with work, self._write_lock:
            self._held.close()
        self._finalizer.detach()

    def check_in_place(self) -> None:
        """Raise :class:`StoreUnusable` when what was just written went to files that were removed, renamed or replaced."""
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
        connection = connect(self.path, "mode=rwc", self._busy_timeout_seconds)
        try:
            self._file.check_opened(connection)
            self._mark(connection)
            switch_to_wal(connection, self._busy_timeout_seconds)
            self._make_durable(connection)
            self._settle(connection)
            self._create_tables(connection)
            _check_writable(connection)
            self._file.remember(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> FileConnection:
        self._file.check_before_opening()
        _check_access(self.path)
        # "rw" creates nothing: when the file was removed under us, an empty one must not take its place.
        connection = connect(self.path, "mode=rw", self._busy_timeout_seconds)
        try:
            self._file.check_opened(connection)
            self._make_durable(connection)
            self._settle(connection)
            self._file.remember(connection)
        except BaseException:
            connection.close()
            raise
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
        # While nobody writes: a sync that fails here might take with it what another thread has written and not yet synced.
        with self._write_lock:
            if self._doubtful:
                if not make_durable_what_is_found(connection, self._busy_timeout_seconds):
                    raise StoreBusy(f"{self.path}: another process copied its WAL for {self._busy_timeout_seconds:g} s")
                self._doubtful = False

    def _mark(self, connection: sqlite3.Connection) -> None:
        # On its own and before the switch to WAL, so that the mark stands in the first page of the file and nothing else
        # does: whoever looks from outside, or after a crash at any moment, finds either an empty file or one of ours.
        if _kind(self.path, connection) == "empty":
            with _transaction(connection):
                if _kind(self.path, connection) == "empty":
                    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    connection.execute(f"PRAGMA schema_version = {new_cookie()}")
        elif is_copy(connection):
            take_over_copy(connection, self.path, to_text(system_clock()), self._busy_timeout_seconds)

    def _create_tables(self, connection: sqlite3.Connection) -> None:
        # Several processes may create the same store at once: the first has the lock, the others find it made.
        if _schema_version(connection) < SCHEMA_VERSION:
            with _transaction(connection):
                missing = _MIGRATIONS[_schema_version(connection) :]
                if missing:
                    cookie = cookie_of(connection)  # as it stands in the file: every table that is made counts it up
                    for statement in ";".join(missing).split(";"):
                        connection.execute(statement)
                    begin_timeline(connection, cookie, to_text(system_clock()), "created")
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def is_write_protected(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file that cannot be written, or whose folder cannot be."""
    place = os.path.abspath(path)
    return os.path.isfile(place) and not all(
        os.access(each, os.W_OK, effective_ids=_EFFECTIVE_IDS) for each in (place, os.path.dirname(place))
    )


class ReadingConnections(Connections):
    """Connections for reading alone, to a file that others may write: it is neither brought up to date nor changed.

    The tables of later versions are there and empty. Raises :class:`StoreUnusable` for an empty file, and for every write.
    """

    _refusal = "it was opened for reading alone"

    def __init__(self, path: str | os.PathLike[str], busy_timeout_seconds: float) -> None:
        self._begin(path, busy_timeout_seconds)
        with AtWork(self):
            self._options = self._how_to_open()
            with self.explained():
                self._held.give_back(self._connect(), sound=True)

    def _how_to_open(self) -> str:
        _look_before_opening(self.path)
        # Not "ro": who closes the file last must be able to put the WAL beside it away.
        return "mode=rw"

    def _connect(self) -> FileConnection:
        self._file.check_before_opening()
        connection = connect(self.path, self._options, self._busy_timeout_seconds)
        try:
            self._file.check_opened(connection)
            if _kind(self.path, connection) == "empty":
                raise StoreUnusable(f"{self.path}: it is empty; there is no store here")
            connection.execute("PRAGMA temp_store = MEMORY")
            missing = _MIGRATIONS[_schema_version(connection) :]
            if missing:
                # Whoever brings the file up to date makes the real ones, which these would hide: no connection is kept.
                self._held.most_readers = 0
            for statements in missing:
                connection.executescript(_TEMPORARY.sub(r"CREATE\1 \2 temp.", statements))
            connection.execute("PRAGMA query_only = ON")
            self._file.remember(connection, beside=self._options != _IMMUTABLE)
        except BaseException:
            connection.close()
            raise
        return connection

    def copy_into(self, target: str) -> None:
        """Copy every page, as the file stands at one moment, into an empty file that is not in WAL mode afterwards."""
        with self.reading() as source:
            copy = connect(target, "mode=rw", self._busy_timeout_seconds)
            try:
                copy.execute("PRAGMA synchronous = OFF")  # whoever wants it durable syncs it as a whole
                source.backup(copy)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                    raise
                raise StoreUnusable(f"{target}: {_CAUSES[sqlite3.SQLITE_FULL]} ({error})") from error
            finally:
                copy.close()
            copy = connect(target, "mode=rw", self._busy_timeout_seconds)
            try:
                copy.execute("PRAGMA journal_mode = DELETE").fetchall()
            finally:
                copy.close()

    def take_writer(self) -> sqlite3.Cursor:
        """Raises :class:`StoreUnusable`: nothing is written here."""
        self._check_open()
        raise StoreUnusable(f"{self.path}: {self._refusal}")


_IMMUTABLE = "mode=ro&immutable=1"


class ProtectedConnections(ReadingConnections):
    """Connections to a store on write-protected media: nothing is created or changed beside it either.

    Raises :class:`StoreUnusable` when facts may still stand in a WAL that cannot be read there, and for every write.
    """

    _refusal = "it is read-only"

    def _how_to_open(self) -> str:
        if not os.access(self.path, os.R_OK, effective_ids=_EFFECTIVE_IDS):
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
                f"{self.path}: it is read-only, and facts may stand in {os.path.basename(wal)} beside it; copy both to a "
                "folder that can be written"
            )
        return "mode=ro"


def reading_connections(path: str | os.PathLike[str], busy_timeout_seconds: float = 5.0) -> ReadingConnections:
    """Connections for reading alone, whether or not the file is write-protected."""
    kind = ProtectedConnections if is_write_protected(path) else ReadingConnections
    return kind(path, busy_timeout_seconds)


class _Held:
    """What is open. Apart from :class:`Connections`, so that it can be closed after that is gone."""

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


def _close_at_end(held: _Held, write_lock: threading.RLock, patience_seconds: float) -> None:
    """Close what a store had open that nobody refers to any more, or that is still open when the process ends.

    Then a daemon thread may be in the middle of a transaction. It is waited for, because SQLite crashes when its
    connection is closed meanwhile. Should it take too long, the connection stays open and the system closes the file.
    """
    if write_lock.acquire(timeout=patience_seconds):
        try:
            held.close()
        finally:
            write_lock.release()


def _look_before_opening(path: str) -> None:
    """Raise :class:`StoreUnusable` for what must not be opened for writing, without touching it."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise StoreUnusable(f"{path}: its folder does not exist")
    refuse_half_restored(path)
    if os.path.isdir(path):
        raise StoreUnusable(f"{path}: it is a folder, not a file")
    if not os.path.exists(path):
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=_EFFECTIVE_IDS):
            raise StoreUnusable(f"{path}: it does not exist and its folder is read-only")
        return
    if not os.path.isfile(path):
        raise StoreUnusable(f"{path}: it is no regular file")  # to look into a pipe would wait for ever
    _check_access(path)
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
    # What another application wrote may still stand in its WAL only. This look takes locks and still changes nothing.
    try:
        try:
            _look(path, "mode=ro")
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
            # A crash left a journal, for instance at the birth of a store. Nobody can read the file, whosever it is,
            # before what stands in the journal is undone.
            _look(path, "mode=rw")
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        cause = _CAUSES.get(code, "it cannot be read")
        raise StoreUnusable(f"{path}: {cause} ({error})") from error


def _check_access(path: str) -> None:
    # SQLite would open a read-only file and give the files beside it the same permissions. They stay when the file is
    # made writable again, and then no writing works any more.
    for mode, cause in ((os.R_OK, "access is denied"), (os.W_OK, "it is read-only")):
        if os.path.exists(path) and not os.access(path, mode, effective_ids=_EFFECTIVE_IDS):
            raise StoreUnusable(f"{path}: {cause}")


def _look(path: str, options: str) -> Literal["ours", "empty"]:
    connection = connect(path, options, 5.0)
    try:
        return _kind(path, connection)
    finally:
        connection.close()


def _kind(path: str, connection: sqlite3.Connection) -> Literal["ours", "empty"]:
    # Tables are counted first: where another process creates the store between two looks, its mark is seen.
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    if application_id == APPLICATION_ID:
        version = _schema_version(connection)
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
        _look_before_opening(path)
        connection = connect(path, "mode=ro", 5.0)
        try:
            return _schema_version(connection)
        finally:
            connection.close()


def _schema_version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _check_writable(connection: sqlite3.Connection) -> None:
    # SQLite opens a read-only file, and even begins to write it, without a word; only a statement that changes something
    # is refused. Somebody else writing is fine and not waited for.
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

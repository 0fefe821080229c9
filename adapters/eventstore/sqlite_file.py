"""Connections to an SQLite file, and a check that the path still leads to that file.

SQLite does not notice when its file, or the WAL or shared memory beside it, is removed, renamed or replaced. It goes on
writing to files that nobody will find. Therefore the files are compared by device and inode.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from ctypes import py_object, pythonapi
from os import getpid
from time import time_ns
from typing import Any, NoReturn
from urllib.parse import quote

from returnable.adapters.eventstore.forks import in_children
from returnable.domain.errors import StoreUnusable

Inode = tuple[int, int]
"""Device and number of a file."""

NOTHING_WAS_DONE = "nothing was recorded or read"
OUTCOME_UNKNOWN = "it is not known whether what was just recorded can be found again"

_GONE = (FileNotFoundError, NotADirectoryError)

_SETTLED_NS = 2_000_000_000


class Opened:
    """Paths, and the device and inode that each led to when it was opened."""

    __slots__ = ("files", "folder")

    def __init__(self, *files: tuple[str, Inode]) -> None:
        self.files = files
        self.folder: tuple[int, int, int, int] | None = None
        """Times and inode of the folder when all files were last found in place; ``None`` where they prove nothing."""


class FileConnection(sqlite3.Connection):
    """A connection that belongs to the process that made it. A child process never closes it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.pid = getpid()
        self.opened = Opened()
        """The file and those beside it, as this connection opened them."""
        connections = _process.connections
        key = id(self)
        connections[key] = weakref.ref(self, lambda gone: connections.pop(key, None))

    @property
    def is_own(self) -> bool:
        """Whether this process made it."""
        return self.pid == getpid()

    def close(self) -> None:
        """Close it, unless it is a parent's."""
        if self.is_own:
            # First: the last one to be closed removes the WAL, and another thread that opens the file would miss it.
            _process.connections.pop(id(self), None)
            super().close()
        else:
            self.keep_open()

    def give_up(self) -> None:
        """Never close the connection, as if it belonged to a parent process."""
        self.pid = 0
        self.keep_open()

    def keep_open(self) -> None:
        """Keep the connection open even when nobody refers to it any more."""
        # SQLite forbids a child even to close a connection of its parent: that could remove the WAL under the parent.
        pythonapi.Py_IncRef(py_object(self))


class _Process:
    """The connections that this process has open, and the files that it inherited."""

    def __init__(self) -> None:
        self.connections: dict[int, weakref.ref[FileConnection]] = {}
        self.inherited: frozenset[Inode] = frozenset()
        """The files that were open when this process was forked."""
        in_children(self._start_afresh)

    def _start_afresh(self) -> None:
        # SQLite remembers the locks of each file as long as any descriptor of it is open. A child holds none of these locks.
        # Descriptors are listed, because a host may have connections of its own.
        self.inherited = frozenset(_open_files())
        for connection in self.open():
            connection.keep_open()
        self.connections = {}

    def open(self) -> list[FileConnection]:
        """The connections that are open."""
        return [each for each in (one() for one in self.connections.copy().values()) if each is not None]


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


def cause_of(error: sqlite3.Error, otherwise: str = "") -> str:
    """The cause of an error of SQLite in words."""
    return _CAUSES.get(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF, otherwise)


@contextmanager
def transaction(connection: FileConnection) -> Iterator[None]:
    """A write transaction: committed at the end, rolled back after an exception."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A transaction that a child process inherited belongs to the parent.
        if connection.in_transaction and connection.is_own:
            connection.execute("ROLLBACK")
        raise


@contextmanager
def closed_on_error(connection: FileConnection) -> Iterator[FileConnection]:
    """Close a connection when its preparation fails."""
    try:
        yield connection
    except BaseException:
        connection.close()
        raise


def close_at_end(close: Callable[[], None], write_lock: threading.RLock, patience_seconds: float) -> None:
    """Close the connections of an object that nobody refers to any more, or when the process ends.

    At the end of the process a daemon thread may be in the middle of a transaction. It is waited for, because SQLite crashes
    when its connection is closed meanwhile. If that takes too long, the connection stays open and the system closes the file.
    """
    if write_lock.acquire(timeout=patience_seconds):
        try:
            close()
        finally:
            write_lock.release()


NO_LOCKS: set[int] = set()
"""Descriptors through which no lock is held."""


def _open_files() -> list[Inode]:
    """The regular files that this process has open."""
    try:
        descriptors = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        descriptors = list(range(os.sysconf("SC_OPEN_MAX")))
    files: list[Inode] = []
    for descriptor in set(descriptors) - NO_LOCKS:
        with suppress(OSError):
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode):
                files.append((found.st_dev, found.st_ino))
    return files


_process = _Process()


def connect(path: str | None, options: str, busy_timeout_seconds: float) -> FileConnection:
    """A connection in autocommit mode; ``options`` are those of SQLite's URI, such as ``mode=rw``. ``None``: in memory.

    Raises :class:`StoreUnusable` for a file that was open when this process was forked, and for one that this process has
    open under another name or with another WAL.
    """
    if path is not None:
        _check_not_inherited(path)
        _check_open_alike(path)
    return sqlite3.connect(
        ":memory:" if path is None else f"file:{quote(os.fsencode(path))}?{options}",
        uri=True,
        timeout=busy_timeout_seconds,
        isolation_level=None,
        check_same_thread=False,
        factory=FileConnection,
    )


def _check_not_inherited(path: str) -> None:
    with suppress(OSError):
        if _inode(path) in _process.inherited:
            raise StoreUnusable(
                f"{path}: this process was forked while its parent was using the file, and cannot use it: open the store "
                "after the fork, or close it before"
            )


def _check_open_alike(path: str) -> None:
    # All connections of a process to one file share one note of SQLite about its WAL, whichever WAL each of them finds.
    with suppress(OSError):
        inode, real = _inode(path), os.path.realpath(path)
        for files in {connection.opened.files for connection in _process.open()}:
            if not files or files[0][1] != inode:
                continue
            for name, known in files[1:]:
                leads_elsewhere = name not in (real, f"{real}-wal", f"{real}-shm")
                if leads_elsewhere and files[0][0] != path:
                    raise StoreUnusable(f"{path}: this process has the file open under another name, {files[0][0]}")
                if leads_elsewhere or not _leads_to(name, known):  # a link may have taken the place of the file
                    raise StoreUnusable(
                        f"{path}: {name} was removed, renamed or replaced while this process had the file open: close every "
                        "desk on it, and open it again then"
                    )


def _leads_to(path: str, inode: Inode) -> bool:
    try:
        return _inode(path) == inode
    except _GONE:
        return False


def create_for_owner(path: str) -> None:
    """Create an empty file that only its owner may read and write, unless there is one. SQLite reports failures later."""
    path = os.path.realpath(path)  # a link may lead to a file that does not exist
    with suppress(OSError):
        try:
            # Without a descriptor: closing one would drop all POSIX locks that this process has on the file.
            os.mknod(path, stat.S_IFREG | 0o600)
        except (AttributeError, PermissionError):  # some systems reserve mknod for root
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


class SQLiteFile:
    """The file that a path led to when it was first opened."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # Absolute: connections are opened later, too, when the working directory may be another.
        self.path = os.path.abspath(path)
        self.moved = ""
        """The file that was removed, renamed or replaced, once that was noticed."""
        self._opened: Opened | None = None
        self._folder = os.path.dirname(self.path)
        self._is_link = os.path.islink(self.path)

    @property
    def is_new(self) -> bool:
        """Whether the file was never opened."""
        return self._opened is None

    @property
    def target(self) -> str:
        """The file that the path leads to: SQLite puts the WAL beside that."""
        return os.path.realpath(self.path)

    def check_before_opening(self, what_came_of_it: str = NOTHING_WAS_DONE) -> None:
        """Raise :class:`StoreUnusable` unless the path leads to the file that it led to at the first call."""
        if self._opened is None:
            self._note()
        else:
            self.check(self._opened, what_came_of_it)

    def _note(self) -> None:
        if self._opened is None:
            with suppress(OSError):
                self._opened = Opened((self.path, _inode(self.path)))

    def check_opened(self, connection: FileConnection) -> None:
        """Raise :class:`StoreUnusable` when the path was given to another file while a connection was opened.

        A process that opens the store waits for the lock of a restore, which gives the path to another file meanwhile.
        """
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        try:
            self.check_before_opening()
        except StoreUnusable:
            # SQLite takes the WAL beside the other file for its own, and would remove it on close.
            connection.give_up()
            raise

    def remember(self, connection: FileConnection, *, beside: bool = True) -> None:
        """Note the files that a connection has open, after it has read or written something.

        ``beside``: also the WAL and the shared memory. Raises :class:`StoreUnusable` when the path leads to another file than
        at first.
        """
        self._note()
        if self._opened is None:
            self._refuse(self.path, NOTHING_WAS_DONE)
        self.check_before_opening()
        files = list(self._opened.files)
        target = self.target
        if self._is_link:
            files.append((target, self._opened.files[0][1]))
        for name in (f"{target}-wal", f"{target}-shm") if beside else ():
            with suppress(OSError):
                files.append((name, _inode(name)))
        connection.opened = Opened(*files)

    def check(self, opened: Opened, what_came_of_it: str = NOTHING_WAS_DONE) -> None:
        """Raise :class:`StoreUnusable` when one of these files was removed, renamed or replaced; from then on always."""
        self.check_not_moved()
        # A folder changes when a name in it is removed, renamed or given to another file. If the folder has not changed, none
        # of this has happened since the files were last compared.
        try:
            found = os.stat(self._folder)
        except OSError:
            folder = None
        else:
            folder = found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev
            if folder == opened.folder:
                return
        for path, (device, number) in opened.files:
            try:
                # A link in the place of the file leads to it, but other processes would keep the WAL beside its target.
                found = os.stat(path) if self._is_link else os.lstat(path)
            except _GONE:
                self._refuse(path, what_came_of_it)
            except OSError as error:
                raise StoreUnusable(f"{path}: it cannot be looked at ({error}); {what_came_of_it}") from error
            if found.st_ino != number or found.st_dev != device:
                self._refuse(path, what_came_of_it)
        # Two changes within one tick of the file system's clock look like one, so only an older change counts. Tools that
        # restore a folder, such as rsync, set an earlier time of modification, but none can set the time of change (on
        # Windows that is the time of creation). Where the path is a link, the file is in another folder.
        settled = folder is not None and not self._is_link and time_ns() - max(folder[:2]) > _SETTLED_NS
        opened.folder = folder if settled else None

    def check_not_moved(self) -> None:
        """Raise :class:`StoreUnusable` when a removed, renamed or replaced file was noticed before."""
        if self.moved:
            self._refuse(self.moved, NOTHING_WAS_DONE)

    def _refuse(self, path: str, what_came_of_it: str) -> NoReturn:
        self.moved = path
        raise StoreUnusable(
            f"{path}: the file was removed, renamed or replaced while it was in use; {what_came_of_it}. See that the right "
            "files are at this path, and open them again"
        )


def _inode(path: str) -> Inode:
    found = os.stat(path)
    return found.st_dev, found.st_ino

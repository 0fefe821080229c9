"""SQLite's write-ahead log: the switch to it, and a checkpoint of the frames that a crash left in it."""

from __future__ import annotations

import sqlite3
import time

_RETRY_SECONDS = 0.01


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection holds the lock."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def switch_to_wal(connection: sqlite3.Connection, patience_seconds: float) -> None:
    """Put a file into WAL mode. Raises SQLite's errors."""
    # SQLite does not wait here for others that are switching, too: two that wait for each other would never end. Attempts
    # are counted instead of timed, because clocks may stand still in tests.
    for attempts_left in attempts(patience_seconds):
        try:
            # All rows are fetched: SQLite returns the row first and commits then, so that only the next fetch can fail.
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            return
        except sqlite3.OperationalError as error:
            if not (is_busy(error) and attempts_left):
                raise
        time.sleep(_RETRY_SECONDS)


def make_durable_what_is_found(connection: sqlite3.Connection, patience_seconds: float) -> bool:
    """Checkpoint the WAL into the database file. Returns ``False`` if other connections held the checkpoint lock until the
    patience ran out.

    A process that died between a write and its sync, or whose sync failed, left frames that the next process takes for
    commits. If a command in them were acknowledged, a power failure could still remove it, with everything appended after it.
    A sync alone is not enough: a system that failed to write may have forgotten the data. Frames that readers hold back do
    no harm: they were committed after the readers came, and so not by a process that had died before.
    """
    for attempts_left in attempts(patience_seconds):
        busy: int = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[0]
        if not busy:
            return True
        if attempts_left:
            time.sleep(_RETRY_SECONDS)
    return False


def attempts(patience_seconds: float) -> range:
    """Counts the attempts that fit into so many seconds down to 0; no clock is read, because it may stand still in tests."""
    return range(int(patience_seconds / _RETRY_SECONDS), -1, -1)

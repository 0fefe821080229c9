"""What SQLite leaves to whoever uses its write-ahead log: to get there, and to be sure of what a crash left in it."""

from __future__ import annotations

import sqlite3
import time

_RETRY_SECONDS = 0.01


def is_busy(error: sqlite3.Error) -> bool:
    """Whether somebody else holds the lock that was wanted."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def switch_to_wal(connection: sqlite3.Connection, patience_seconds: float) -> None:
    """Have a file written by way of a WAL from here on; raises SQLite's errors."""
    # SQLite does not wait here for others that are switching, too: waiting for each other would never end. Attempts are
    # counted instead of timed, because clocks may stand still in tests.
    for attempts_left in attempts(patience_seconds):
        try:
            # To its end: it answers first and commits then, and whoever does not ask on never hears that it failed.
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            return
        except sqlite3.OperationalError as error:
            if not (is_busy(error) and attempts_left):
                raise
        time.sleep(_RETRY_SECONDS)


def make_durable_what_is_found(connection: sqlite3.Connection, patience_seconds: float) -> bool:
    """Write again, into the file, what stands in the WAL; ``False`` when somebody else is copying it all the time.

    A process that died between a write and its sync, or whose sync failed, left frames there that whoever opens the file
    first takes for commits. Told as done, they could still be taken by a power failure, with all that was appended behind
    them. A sync alone would not do: a system that has failed to write may have forgotten what. That readers hold some frames
    back does no harm: those were committed after the readers came, so not by somebody who was dead by then.
    """
    for attempts_left in attempts(patience_seconds):
        busy: int = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[0]
        if not busy:
            return True
        if attempts_left:
            time.sleep(_RETRY_SECONDS)
    return False


def attempts(patience_seconds: float) -> range:
    """How often to try again for so long, counted down to 0: clocks may stand still in tests."""
    return range(int(patience_seconds / _RETRY_SECONDS), -1, -1)

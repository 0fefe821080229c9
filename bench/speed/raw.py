"""The raw limits: what the databases do without this library, with the same durability and on the same disk."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import psycopg


class RawLog:
    """A table of position and payload; every insert is one durable commit (WAL, ``synchronous=FULL``)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("CREATE TABLE log (position INTEGER PRIMARY KEY, payload BLOB NOT NULL)")

    def insert(self, payload: bytes) -> None:
        """One row, one commit."""
        self._connection.execute("INSERT INTO log (payload) VALUES (?)", (payload,))

    def insert_each(self, payloads: list[bytes]) -> None:
        """One commit after the other."""
        for payload in payloads:
            self.insert(payload)

    def insert_all(self, payloads: list[bytes]) -> None:
        """All rows in one commit: where only their size matters."""
        self._connection.execute("BEGIN")
        self._connection.executemany("INSERT INTO log (payload) VALUES (?)", [(payload,) for payload in payloads])
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Release the file."""
        self._connection.close()


class RawServerLog:
    """The same on a PostgreSQL server: ``INSERT`` and ``COMMIT``, one round trip, the server's own settings."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.execute("CREATE TABLE log (position bigserial PRIMARY KEY, payload bytea NOT NULL)")

    def insert(self, payload: bytes) -> None:
        """One row, one commit."""
        self._connection.execute("INSERT INTO log (payload) VALUES (%b)", (payload,), prepare=True)

    def insert_each(self, payloads: list[bytes]) -> None:
        """One commit after the other."""
        for payload in payloads:
            self.insert(payload)

    def close(self) -> None:
        """Release the connection."""
        self._connection.close()


def stream_copy(store: Path, path: Path) -> sqlite3.Connection:
    """The facts of a store in a plain table of streams: what a hand-written reader would select from."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("ATTACH ? AS store", (str(store),))
    connection.execute(
        "CREATE TABLE log (position INTEGER PRIMARY KEY, stream TEXT NOT NULL, version INTEGER NOT NULL,"
        " content BLOB NOT NULL)"
    )
    connection.execute("INSERT INTO log SELECT position, stream, version, content FROM store.facts ORDER BY position")
    connection.execute("CREATE UNIQUE INDEX streams ON log (stream, version)")
    connection.execute("DETACH store")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return connection


def file_bytes(path: Path) -> int:
    """The size of a database file once its WAL is in it."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return path.stat().st_size

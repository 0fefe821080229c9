"""Stores that give positions before they have the lock: controls, which show what a follower then misses.

A position that was given first may then become visible last, and whoever went on from a higher one never sees it.
"""

from __future__ import annotations

import sqlite3
import time

import psycopg

from returnable.adapters.eventstore.postgres_place import place_of
from returnable.domain.events import encode
from returnable.domain.ports import Batch

ROOM = 16
"""So many positions are given at once; no append of a control has more facts."""

BREATH_SECONDS = 0.001
"""What passes between position and lock in a file, so that even a short run shows something."""


def take_the_lock_away(url: str) -> None:
    """The store at a PostgreSQL URL appends without its lock from now on, by the same function in all other respects."""
    place = place_of(url)
    with psycopg.connect(place.conninfo, autocommit=True) as connection:
        found = connection.execute(
            "SELECT pg_get_functiondef(p.oid) FROM pg_proc p WHERE pronamespace = %s::regnamespace AND proname = 'append'",
            (place.schema,),
        ).fetchone()
        assert found is not None, "the store appends by a function of that name"
        lines = found[0].splitlines()
        # Without the lock, setting the sequence would give positions twice: every append takes a whole block of them.
        order = ("pg_advisory_xact_lock", "PERFORM setval", "first := v_head + 1")
        kept = [line for line in lines if not any(each in line for each in order)]
        assert len(kept) == len(lines) - 3, "the function takes one lock, sets one sequence and goes on from one head"
        connection.execute(f"ALTER SEQUENCE {place.schema}.positions INCREMENT BY {ROOM}".encode())
        connection.execute("\n".join(kept).encode())


class UnorderedFile:
    """Appends to an SQLite store with positions that were given in a transaction of their own, as a sequence gives them."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("CREATE TABLE IF NOT EXISTS numbers (next INTEGER NOT NULL)")
        self._connection.execute("INSERT INTO numbers SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM numbers)")

    def append(self, batch: Batch) -> None:
        """As a store does, but for the order."""
        execute = self._connection.execute
        ((first,),) = execute(f"UPDATE numbers SET next = next + {ROOM} RETURNING next - {ROOM}").fetchall()
        time.sleep(BREATH_SECONDS)
        execute("BEGIN IMMEDIATE")
        for nth, entry in enumerate(batch.entries):
            row = (first + nth, batch.case_id, batch.after + nth + 1, entry.stream, entry.version, *encode(entry.event))
            execute("INSERT INTO facts VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        execute("COMMIT")

    def close(self) -> None:
        self._connection.close()

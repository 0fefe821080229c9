"""A store in an SQLite file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from returnable.adapters.eventstore.appends import Append, check_kept, check_next, conflict, receipt_values, span
from returnable.adapters.eventstore.forks import AtWork
from returnable.adapters.eventstore.sql import SqlRecords, SqlStore
from returnable.adapters.eventstore.sqlite_connections import WRONG_CALLS, Connections, Synchronous, reading_connections
from returnable.adapters.eventstore.sqlite_schema import damaged_schema
from returnable.adapters.eventstore.sqlite_timeline import damaged_pages, damaged_rows
from returnable.domain.errors import ReturnableError, Stale, StoreBusy, StoreUnusable
from returnable.domain.ports import Batch, Timeline

T = TypeVar("T")

_INSERT_FACT = "INSERT INTO facts (case_id, case_seq, stream, version, type, content) VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_NAME = "INSERT INTO names (kind, name, case_id) VALUES (?, ?, ?)"
_INSERT_RECEIPT = (
    "INSERT INTO commands (command_id, digest, command, at, outcome, first, last) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_FACT_AT = "SELECT stream, version, position, content FROM facts WHERE case_id = ? AND case_seq = ?"
_VERSION_OF_STREAM = (
    "SELECT version FROM facts WHERE case_id = ? AND case_seq <= ? AND stream = ? ORDER BY case_seq DESC LIMIT 1"
)
_POLICY_KEPT = "SELECT 1 FROM policies WHERE sha256 = ?"
_LAST_OF_CASE = "SELECT coalesce(max(case_seq), 0) FROM facts WHERE case_id = ?"


class SQLiteStore(SqlStore):
    """A store in an SQLite file, which is created when it does not exist; any number of processes share it.

    An append that returned survives a power failure, except with ``synchronous="NORMAL"``. The id of a case is stored in its
    rows and in one index. Streams have no index of their own: a full one costs 4 % of the appends and 13 bytes an event.
    Instead the first events of streams are unique in the whole store (index ``beginnings``), and each further version must
    follow the last one of its stream in its case. The write lock and the unique place in the case make this check as good as
    a constraint. A unique index would not even notice a gap.
    """

    _tables: _Tables

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "FULL",
        busy_timeout_seconds: float = 5.0,
        only_reading: bool = False,
    ) -> None:
        """Raises :class:`StoreUnusable`, with the path and the cause, when the file cannot be used or trusted.

        ``only_reading``: the file may be write-protected; it is not created, and its tables are not brought up to date.
        """
        self._connections: Connections
        if only_reading:
            self._connections = reading_connections(path, busy_timeout_seconds)
        else:
            self._connections = Connections(path, synchronous, busy_timeout_seconds)
        tables = _Tables(self._connections)
        super().__init__(tables, busy_timeout_seconds)
        self.records = _Records(tables)

    def _prepare(self, append: Append) -> Append:
        for batch in append.batches:
            for entry in batch.entries:
                _ = entry.encoded  # computed once, and not under the write lock
        return append

    def _append_all(self, requests: Sequence[Append]) -> list[Sequence[int] | Exception]:
        results: list[Sequence[int] | Exception]
        try:
            results = self._tables.change(lambda statements: [_insert(statements.cursor, each) for each in requests])
        except (StoreBusy, StoreUnusable):
            raise
        except (*WRONG_CALLS, ReturnableError, ValueError, TypeError, OverflowError):
            # One of them is refused, and all were undone. Now each runs behind a savepoint, which costs as much as a row.
            # Any other exception, such as a time limit raised in this thread, may have come after the commit.
            results = self._tables.change(
                lambda statements: [_positions_or_error(statements.cursor, each) for each in requests]
            )
        self._wake_followers()
        return results

    def close(self) -> None:
        super().close()
        self._connections.close()


class _Tables:
    prefix = skip_locked = ""
    # The index is named because SQLite would rather sort the whole log.
    by_case = " INDEXED BY facts_by_case"

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.name = connections.path

    def ask(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        with self._connections.reading() as connection:
            return connection.execute(query, values).fetchall()

    def change(self, work: Callable[[_Statements], T]) -> T:
        cursor: sqlite3.Cursor | None = None
        at_work = AtWork(self._connections)
        try:
            cursor = self._connections.take_writer()
            self._connections.in_use = True
            cursor.execute("BEGIN IMMEDIATE")
            result = work(_Statements(cursor))
            at_work.check_same_process()
            cursor.execute("COMMIT")
            self._connections.check_in_place()
        except BaseException as error:
            if cursor is None:  # nothing was begun
                raise
            failure = self._connections.recover_writer(error)
            try:
                raise failure from failure.__cause__
            finally:
                del failure  # it and this frame would keep each other alive, and with them what was to be written
        finally:
            # Nothing is called before the lock is let go: where a call ends, a signal may interrupt.
            if cursor is not None:
                self._connections.in_use = False
            try:  # noqa: SIM105 (as said)
                self._connections.release_writer()
            except RuntimeError:
                pass
            at_work.end()
        return result


class _Records(SqlRecords):
    def timelines(self) -> list[Timeline]:
        query = "SELECT cookie, began_at, cause, file, sha256, head, replaced_head FROM timelines ORDER BY number"
        return [Timeline(*row) for row in self._tables.ask(query)]

    def damage(self) -> Iterator[str]:
        yield from damaged_pages(self._tables.ask)
        yield from damaged_schema(self._tables.ask)
        yield from damaged_rows(self._tables.ask)
        # One statement, because others may append meanwhile. The counter that gives positions is rolled back with its
        # transaction: there is no gap that a conflict could leave.
        query = (
            "SELECT count(*), coalesce(max(position), 0),"
            " (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'facts') FROM facts"
        )
        ((count, head, given),) = self._tables.ask(query)
        if head != given:
            yield f"the last event is at position {head}, but {given} positions were given away"
        if count != head:
            query = (
                "SELECT position, before FROM (SELECT position, lag(position, 1, 0) OVER (ORDER BY position) AS before"
                " FROM facts) WHERE position <> before + 1 LIMIT 20"
            )
            for position, before in self._tables.ask(query):
                yield f"there is no event at the positions from {before + 1} to {position - 1}"


class _Statements:
    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self.cursor = cursor

    def execute(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        return self.cursor.execute(query, tuple(values)).fetchall()

    def executemany(self, query: str, rows: Sequence[Sequence[object]]) -> None:
        self.cursor.executemany(query, rows)


def _positions_or_error(cursor: sqlite3.Cursor, append: Append) -> Sequence[int] | Exception:
    """The result of one append of several. Raises an error that concerns all of them: nothing can be written."""
    cursor.execute("SAVEPOINT insert_one")
    result: Sequence[int] | Exception
    try:
        result = _insert(cursor, append)
    except Exception as error:
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, WRONG_CALLS):
            raise
        # Undone first, so that the conflict is explained by rows of other appends only.
        cursor.execute("ROLLBACK TO insert_one")
        result = error
        if isinstance(error, sqlite3.IntegrityError | Stale):
            result = _conflict(cursor, append, str(error))
    cursor.execute("RELEASE insert_one")
    return result


def _insert(cursor: sqlite3.Cursor, append: Append) -> list[int]:
    batches, reserved_ids, receipt, pinned = append
    execute = cursor.execute
    positions: list[int] = []
    if pinned is not None:
        check_kept(pinned, execute(_POLICY_KEPT, (pinned,)).fetchone() is not None)
    for batch in batches:
        case_id = batch.case_id
        known = _known_of_case(cursor, batch)
        for case_seq, entry in enumerate(batch.entries, batch.after + 1):
            stream, version = entry.stream, entry.version
            last = known.get(stream)
            if last is None:
                last = 0 if version == 1 else _version_of(cursor, batch, stream)
            check_next(stream, last, version)
            known[stream] = version
            execute(_INSERT_FACT, (case_id, case_seq, stream, version, *entry.encoded))
            positions.append(cursor.lastrowid or 0)
    for name in reserved_ids:
        execute(_INSERT_NAME, (name.kind, name.name, name.case_id))
    if receipt is not None:
        execute(_INSERT_RECEIPT, (*receipt_values(receipt), *span(positions)))
    return positions


def _known_of_case(cursor: sqlite3.Cursor, batch: Batch) -> dict[str, int]:
    """The stream and version of the last known event. Raises :class:`Stale` when the case has fewer events, or another one.

    If the case has more events, its unique index refuses the next one. Only a batch without events is compared here.
    """
    case_id, after, tip = batch.case_id, batch.after, batch.tip
    if (not batch.entries or after < 0) and _count_of_case(cursor, case_id) != max(after, 0):
        raise Stale(case_id)
    if after <= 0:
        return {}
    last = cursor.execute(_FACT_AT, (case_id, after)).fetchone()
    if last is None:
        raise Stale(case_id)
    stream, version, position, content = last
    if tip is not None and tip != (position, content):
        raise Stale(case_id)
    return {stream: version}


def _count_of_case(cursor: sqlite3.Cursor, case_id: str) -> int:
    count: int = cursor.execute(_LAST_OF_CASE, (case_id,)).fetchone()[0]
    return count


def _version_of(cursor: sqlite3.Cursor, batch: Batch, stream: str) -> int:
    row = cursor.execute(_VERSION_OF_STREAM, (batch.case_id, batch.after, stream)).fetchone()
    return min(batch.after, 0) if row is None else row[0]


def _conflict(cursor: sqlite3.Cursor, append: Append, cause: str) -> Exception:
    def exists(query: str, *values: str) -> bool:
        return cursor.execute(query, values).fetchone() is not None

    batches, reserved_ids, receipt, _ = append
    seen = receipt is not None and exists("SELECT 1 FROM commands WHERE command_id = ?", receipt.command_id)
    taken = next(
        (n for n in reserved_ids if exists("SELECT 1 FROM names WHERE kind = ? AND name = ?", n.kind, n.name)), None
    )
    stale: str | None = None
    counts: dict[str, int] = {}
    for batch in batches:
        case_id, after = batch.case_id, batch.after
        known = counts.get(case_id)
        if known is None:
            known = _count_of_case(cursor, case_id)
            if known == after and batch.tip is not None:
                _, _, position, content = cursor.execute(_FACT_AT, (case_id, after)).fetchone()
                known = after if batch.tip == (position, content) else -1
        if stale is None and known != after:
            stale = case_id
        counts[case_id] = after + len(batch.entries)
    return conflict(append, cause, seen=seen, taken=taken, stale=stale)

"""A recorder on an SQLite file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC
from typing import Any, TypeVar
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from returnable.adapters.eventstore.bookkeeping import (
    RECEIPT_COLUMNS,
    SqlBookmarks,
    SqlDueTable,
    SqlRecords,
    SqlRefusalCounts,
    receipt_of,
)
from returnable.adapters.eventstore.connections import (
    WRONG_CALLS,
    Connections,
    Synchronous,
    damaged_schema,
    reading_connections,
)
from returnable.adapters.eventstore.forks import AtWork
from returnable.adapters.eventstore.group_commit import GroupCommit, Interrupted, TurnTimedOut
from returnable.adapters.eventstore.recorder import (
    CaseRecorder,
    Insert,
    Placement,
    Row,
    check_kept,
    check_next,
    conflict,
    refuse_unknown,
    stream_of,
)
from returnable.adapters.eventstore.sqlite_timeline import damaged_pages, damaged_rows
from returnable.domain.errors import ReturnableError, Stale, StoreBusy, StoreUnusable
from returnable.domain.fields import to_text
from returnable.domain.ids import RegisteredKind
from returnable.domain.ports import CommandReceipt, ReservedId, Timeline, Tip

T = TypeVar("T")

_COLUMNS = "position, case_id, case_seq, stream, version, type, content"

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


class SQLiteCaseRecorder(CaseRecorder):
    """Records in an SQLite file, which is created when it does not exist; one store for any number of processes.

    What is returned from an insert survives a power failure, except with ``synchronous="NORMAL"``. An id of a case
    stands in its rows and in one index. Streams have no index of their own: a full one costs 4 % of the appends and 13
    bytes a fact. Instead their first facts are unique in the whole store (index ``beginnings``), and every further
    version must follow the last one of its stream in its case, which the write lock and the unique place in the case
    make as good as a constraint, and which a unique index would not even notice if it left a gap.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: Synchronous = "FULL",
        busy_timeout_seconds: float = 5.0,
        only_reading: bool = False,
    ) -> None:
        """Raises :class:`StoreUnusable`, with the path and the cause, when the file cannot be used or trusted.

        ``only_reading``: a write-protected file will do, and none is created or brought up to date.
        """
        super().__init__()
        self._connections: Connections
        if only_reading:
            self._connections = reading_connections(path, busy_timeout_seconds)
        else:
            self._connections = Connections(path, synchronous, busy_timeout_seconds)
        self._tables = _Tables(self._connections)
        self._together: GroupCommit[Insert, Sequence[int]] = GroupCommit(self._insert_all, busy_timeout_seconds)
        self.checkpoints = SqlBookmarks(self._tables)
        self.due = SqlDueTable(self._tables)
        self.records = _Records(self._tables)
        self.refusals = SqlRefusalCounts(self._tables)

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],
        *,
        cases: Sequence[Placement] | None = None,
        reserved_ids: Sequence[ReservedId] = (),
        receipt: CommandReceipt | None = None,
        pinned: str | None = None,
        **kwargs: Any,
    ) -> Sequence[int]:
        refuse_unknown(kwargs)
        try:
            return self._together.do(Insert(stored_events, cases, reserved_ids, receipt, pinned))
        except TurnTimedOut as waited:
            raise StoreBusy(f"{self._connections.path}: {waited}") from None
        except Interrupted as interrupted:
            raise StoreUnusable(
                f"{self._connections.path}: a write for several threads broke off; ask what is stored"
            ) from interrupted.__cause__

    def _insert_all(self, inserts: Sequence[Insert]) -> list[Sequence[int] | Exception]:
        """One transaction, and one wait for the disk, for all that came together."""
        results: list[Sequence[int] | Exception]
        try:
            results = self._tables.change(lambda statements: [_insert(statements.cursor, *each) for each in inserts])
        except (StoreBusy, StoreUnusable):
            raise
        except (*WRONG_CALLS, ReturnableError, ValueError, TypeError, OverflowError):
            # One of them cannot be, and all were undone: now each behind a savepoint, which costs as much as a row.
            # Anything else, such as a time limit raised in this thread, may have come after the commit.
            results = self._tables.change(
                lambda statements: [_positions_or_error(statements.cursor, each) for each in inserts]
            )
        self._wake_followers()
        return results

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        stream = stream_of(originator_id)
        query = (
            "SELECT stream, version, type, content FROM facts WHERE stream = ? AND case_id ="
            " coalesce((SELECT case_id FROM facts WHERE stream = ? AND version = 1), ?) AND version > ? AND version <= ?"
            f" ORDER BY version {'DESC' if desc else 'ASC'} LIMIT ?"
        )
        bounds = (-1 if gt is None else gt, _NO_LIMIT if lte is None else lte, -1 if limit is None else limit)
        with self._connections.reading() as connection:
            return [
                StoredEvent(*row) for row in connection.execute(query, (stream, stream, stream, *bounds)).fetchall()
            ]

    def rows(self, after: int, limit: int | None, upto: int | None = None, topics: Sequence[str] = ()) -> list[Row]:
        wanted = f" AND type IN ({', '.join('?' * len(topics))})" if topics else ""
        query = f"SELECT {_COLUMNS} FROM facts WHERE position > ? AND position <= ?{wanted} ORDER BY position LIMIT ?"
        bounds = (after, _NO_LIMIT if upto is None else upto)
        with self._connections.reading() as connection:
            return connection.execute(query, (*bounds, *topics, -1 if limit is None else limit)).fetchall()

    def case_rows(self, case_id: str, upto: int | None = None) -> list[Row]:
        query = f"SELECT {_COLUMNS} FROM facts WHERE case_id = ? AND position <= ? ORDER BY case_seq"
        with self._connections.reading() as connection:
            return connection.execute(query, (case_id, _NO_LIMIT if upto is None else upto)).fetchall()

    def last_row(self, upto: int) -> Row | None:
        query = f"SELECT {_COLUMNS} FROM facts WHERE position <= ? ORDER BY position DESC LIMIT 1"
        with self._connections.reading() as connection:
            row: Row | None = connection.execute(query, (upto,)).fetchone()
            return row

    def case_ids(self, after: str, limit: int) -> list[str]:
        query = "SELECT DISTINCT case_id FROM facts WHERE case_id > ? ORDER BY case_id LIMIT ?"
        with self._connections.reading() as connection:
            return [case_id for (case_id,) in connection.execute(query, (after, limit)).fetchall()]

    def rows_of_cases(self, after: str, last: str, upto: int | None = None) -> list[Row]:
        # The index is named because SQLite would rather sort the whole log.
        query = (
            f"SELECT {_COLUMNS} FROM facts INDEXED BY facts_by_case WHERE case_id > ? AND case_id <= ? AND position <= ?"
            " ORDER BY case_id, case_seq"
        )
        with self._connections.reading() as connection:
            return connection.execute(query, (after, last, _NO_LIMIT if upto is None else upto)).fetchall()

    def changed_cases(self, after: int, upto: int) -> list[str]:
        query = "SELECT DISTINCT case_id FROM facts WHERE position > ? AND position <= ? ORDER BY case_id"
        with self._connections.reading() as connection:
            return [case_id for (case_id,) in connection.execute(query, (after, upto)).fetchall()]

    def max_notification_id(self) -> int | None:
        with self._connections.reading() as connection:
            head: int | None = connection.execute("SELECT max(position) FROM facts").fetchone()[0]
            return head

    def case_of(self, kind: RegisteredKind, name: str) -> str | None:
        query = "SELECT case_id FROM names WHERE kind = ? AND name = ?"
        with self._connections.reading() as connection:
            row = connection.execute(query, (kind, name)).fetchone()
        return None if row is None else row[0]

    def receipt(self, command_id: str) -> CommandReceipt | None:
        with self._connections.reading() as connection:
            query = f"SELECT {RECEIPT_COLUMNS} FROM commands WHERE command_id = ?"
            row = connection.execute(query, (command_id,)).fetchone()
        return None if row is None else receipt_of(row)

    def keep_policy(self, sha256: str, document: str) -> None:
        query = "INSERT OR IGNORE INTO policies (sha256, document) VALUES (?, ?)"
        self._tables.change(lambda statements: statements.execute(query, (sha256, document)))

    def policy(self, sha256: str) -> str | None:
        with self._connections.reading() as connection:
            row = connection.execute("SELECT document FROM policies WHERE sha256 = ?", (sha256,)).fetchone()
        return None if row is None else row[0]

    def close(self) -> None:
        super().close()
        self._connections.close()


class _Tables:
    prefix = skip_locked = ""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def ask(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        with self._connections.reading() as connection:
            return connection.execute(query, tuple(values)).fetchall()

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
            yield f"the last fact stands at position {head}, but {given} positions were given away"
        if count != head:
            query = (
                "SELECT position, before FROM (SELECT position, lag(position, 1, 0) OVER (ORDER BY position) AS before"
                " FROM facts) WHERE position <> before + 1 LIMIT 20"
            )
            for position, before in self._tables.ask(query):
                yield f"no fact stands at the positions from {before + 1} to {position - 1}"


class _Statements:
    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self.cursor = cursor

    def execute(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        return self.cursor.execute(query, tuple(values)).fetchall()

    def executemany(self, query: str, rows: Sequence[Sequence[object]]) -> None:
        self.cursor.executemany(query, rows)


_NO_LIMIT = 2**63 - 1


def _positions_or_error(cursor: sqlite3.Cursor, insert: Insert) -> Sequence[int] | Exception:
    """What becomes of one insert among others. Raises what concerns them all: nothing can be written."""
    cursor.execute("SAVEPOINT insert_one")
    result: Sequence[int] | Exception
    try:
        result = _insert(cursor, *insert)
    except Exception as error:
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, WRONG_CALLS):
            raise
        # Undone first, so that what explains the conflict is what others stored.
        cursor.execute("ROLLBACK TO insert_one")
        result = error
        if isinstance(error, sqlite3.IntegrityError | Stale):
            result = _conflict(cursor, insert, str(error))
    cursor.execute("RELEASE insert_one")
    return result


def _insert(
    cursor: sqlite3.Cursor,
    events: Sequence[StoredEvent],
    cases: Sequence[Placement] | None,
    reserved_ids: Sequence[ReservedId],
    receipt: CommandReceipt | None,
    pinned: str | None,
) -> list[int]:
    execute = cursor.execute
    positions: list[int] = []
    if pinned is not None:
        check_kept(pinned, execute(_POLICY_KEPT, (pinned,)).fetchone() is not None)
    if cases is None:
        for event in events:
            stream, version = stream_of(event.originator_id), event.originator_version
            execute(_INSERT_FACT, (stream, version, stream, version, event.topic, event.state))
            positions.append(cursor.lastrowid or 0)
    else:
        nth = 0
        for case_id, after, size, tip in cases:
            known = _known_of_case(cursor, case_id, after, size, tip)
            for case_seq in range(after + 1, after + size + 1):
                event = events[nth]
                nth += 1
                stream, version = stream_of(event.originator_id), event.originator_version
                stands_at = known.get(stream)
                if stands_at is None:
                    stands_at = 0 if version == 1 else _version_of(cursor, case_id, after, stream)
                check_next(stream, stands_at, version)
                known[stream] = version
                execute(_INSERT_FACT, (case_id, case_seq, stream, version, event.topic, event.state))
                positions.append(cursor.lastrowid or 0)
    for name in reserved_ids:
        execute(_INSERT_NAME, (name.kind, name.name, name.case_id))
    if receipt is not None:
        execute(_INSERT_RECEIPT, _receipt_values(receipt, positions))
    return positions


def _known_of_case(cursor: sqlite3.Cursor, case_id: str, after: int, size: int, tip: Tip | None) -> dict[str, int]:
    """The stream and version of the last known fact. Raises :class:`Stale` when the case has fewer facts, or another one.

    That it has no more, its unique index finds out, unless nothing is inserted.
    """
    if not size and _count_of_case(cursor, case_id) != after:
        raise Stale(case_id)
    if not after:
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


def _version_of(cursor: sqlite3.Cursor, case_id: str, after: int, stream: str) -> int:
    row = cursor.execute(_VERSION_OF_STREAM, (case_id, after, stream)).fetchone()
    return 0 if row is None else row[0]


def _receipt_values(receipt: CommandReceipt, positions: Sequence[int]) -> tuple[str, str, str, str, str, int, int]:
    first, last = (positions[0], positions[-1]) if positions else (0, 0)
    at = to_text(receipt.at if receipt.at.tzinfo is UTC else receipt.at.astimezone(UTC))
    return receipt.command_id, receipt.digest, receipt.command, at, receipt.outcome, first, last


def _conflict(cursor: sqlite3.Cursor, insert: Insert, cause: str) -> Exception:
    _, cases, reserved_ids, receipt, _ = insert

    def exists(query: str, *values: str) -> bool:
        return cursor.execute(query, values).fetchone() is not None

    seen = receipt is not None and exists("SELECT 1 FROM commands WHERE command_id = ?", receipt.command_id)
    taken = next(
        (n for n in reserved_ids if exists("SELECT 1 FROM names WHERE kind = ? AND name = ?", n.kind, n.name)), None
    )
    stale: str | None = None
    counts: dict[str, int] = {}
    for case_id, after, size, tip in cases or ():
        known = counts.get(case_id)
        if known is None:
            known = _count_of_case(cursor, case_id)
            if known == after and tip is not None:
                _, _, position, content = cursor.execute(_FACT_AT, (case_id, after)).fetchone()
                known = after if tip == (position, content) else -1
        if stale is None and known != after:
            stale = case_id
        counts[case_id] = after + size
    return conflict(
        seen=seen, taken=taken, stale=stale, receipt=receipt, cases=cases, reserved_ids=reserved_ids, cause=cause
    )

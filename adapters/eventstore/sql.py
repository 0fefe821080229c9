"""What a store does in the same way on SQLite and on PostgreSQL: its queries, and the tables beside the events.

Both databases understand the SQL here. A ``?`` marks a value. Instants are stored as microseconds since 1970 in UTC, which
sort and compare alike everywhere.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TypeVar

from returnable.adapters.eventstore.appends import Append, Row, check_receipt, receipt_values
from returnable.adapters.eventstore.group_commit import GroupCommit, Interrupted, TurnTimedOut
from returnable.adapters.eventstore.store import CaseStore
from returnable.domain.calendar import A_MOMENT, plain
from returnable.domain.errors import CommandSeen, HistoryBroken, ReturnableError, Stale, StoreBusy, StoreUnusable
from returnable.domain.ids import IndexedKind
from returnable.domain.ports import Batch, CommandReceipt, Counted, DueCase, DueStatus, ReservedId, Timeline, Tip

T = TypeVar("T")

COLUMNS = "position, case_id, case_seq, stream, version, type, content"
RECEIPT_COLUMNS = "command_id, digest, command, at, outcome, first, last, judged_on"

DUE = "due"
"""The name of the checkpoint that says how far the due table is up to date."""

_NO_LIMIT = 2**63 - 1

_EPOCH = plain(datetime(1970, 1, 1, tzinfo=UTC))


class Statements(Protocol):
    """Runs statements in one write transaction."""

    def execute(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """Run a statement that returns rows; those rows."""
        ...

    def executemany(self, query: str, rows: Sequence[Sequence[object]]) -> None:
        """Run a statement once for each row of values."""
        ...


class Tables(Protocol):
    """The tables of one store, and what differs between databases when they are queried."""

    name: str
    """The store in error messages."""
    prefix: str
    """Precedes the name of a table."""
    by_case: str
    """Follows the name of the table of events where its index of cases must be used."""
    skip_locked: str
    """Ends a query that locks the rows it finds, except those that others have locked."""

    def ask(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """Run a query outside any transaction and return its rows."""
        ...

    def change(self, work: Callable[[Statements], T]) -> T:
        """Run ``work`` in one write transaction and return its result."""
        ...


class SqlStore(CaseStore):
    """A store in a database. Its subclasses add the append and the connections."""

    def __init__(self, tables: Tables, busy_timeout_seconds: float) -> None:
        super().__init__()
        self._tables = tables
        self._group_commit: GroupCommit[Any, Sequence[int]] = GroupCommit(self._append_all, busy_timeout_seconds)
        self._facts = f"{tables.prefix}facts"
        self.checkpoints = SqlCheckpoints(tables)
        self.due = SqlDueTable(tables)
        self.refusals = SqlRefusalCounts(tables)

    def append(
        self,
        batches: Sequence[Batch],
        *,
        reserved_ids: Sequence[ReservedId] = (),
        receipt: CommandReceipt | None = None,
        pinned: str | None = None,
    ) -> Sequence[int]:
        check_receipt(receipt)
        try:
            return self._group_commit.do(self._prepare(Append(batches, reserved_ids, receipt, pinned)))
        except TurnTimedOut as waited:
            raise StoreBusy(f"{self._tables.name}: {waited}") from None
        except Interrupted as interrupted:
            raise StoreUnusable(
                f"{self._tables.name}: a write for several threads broke off; ask what is stored"
            ) from interrupted.__cause__

    @abstractmethod
    def _prepare(self, append: Append) -> Any:
        """Do, in the thread that appends, what needs no lock. The result is the append's request in a batch."""

    @abstractmethod
    def _append_all(self, requests: Sequence[Any]) -> list[Sequence[int] | Exception]:
        """Carry out a batch in one transaction; the positions for each request, or its error."""

    def rows(self, after: int, limit: int | None, upto: int | None = None, topics: Sequence[str] = ()) -> list[Row]:
        wanted = f" AND type IN ({', '.join('?' * len(topics))})" if topics else ""
        query = f"SELECT {COLUMNS} FROM {self._facts} WHERE position > ? AND position <= ?{wanted} ORDER BY position LIMIT ?"
        bounds = (after, _NO_LIMIT if upto is None else upto)
        return self._tables.ask(query, (*bounds, *topics, _NO_LIMIT if limit is None else limit))

    def case_rows(self, case_id: str, upto: int | None = None) -> list[Row]:
        query = f"SELECT {COLUMNS} FROM {self._facts} WHERE case_id = ? AND position <= ? ORDER BY case_seq"
        return self._tables.ask(query, (case_id, _NO_LIMIT if upto is None else upto))

    def last_row(self, upto: int) -> Row | None:
        query = f"SELECT {COLUMNS} FROM {self._facts} WHERE position <= ? ORDER BY position DESC LIMIT 1"
        return next(iter(self._tables.ask(query, (upto,))), None)

    def rows_of_cases(self, after: str, last: str, upto: int | None = None) -> list[Row]:
        query = (
            f"SELECT {COLUMNS} FROM {self._facts}{self._tables.by_case} WHERE case_id > ? AND case_id <= ?"
            " AND position <= ? ORDER BY case_id, case_seq"
        )
        return self._tables.ask(query, (after, last, _NO_LIMIT if upto is None else upto))

    def case_ids(self, after: str = "", limit: int = 500) -> Sequence[str]:
        query = f"SELECT DISTINCT case_id FROM {self._facts} WHERE case_id > ? ORDER BY case_id LIMIT ?"
        return [case_id for (case_id,) in self._tables.ask(query, (after, limit))]

    def changed_cases(self, after: int, upto: int) -> Sequence[str]:
        query = f"SELECT DISTINCT case_id FROM {self._facts} WHERE position > ? AND position <= ? ORDER BY case_id"
        return [case_id for (case_id,) in self._tables.ask(query, (after, upto))]

    def max_notification_id(self) -> int | None:
        return _only(self._tables.ask(f"SELECT max(position) FROM {self._facts}"))

    def case_of_stream(self, stream: str) -> str | None:
        return _only(self._tables.ask(f"SELECT case_id FROM {self._facts} WHERE stream = ? AND version = 1", (stream,)))

    def case_of(self, kind: IndexedKind, name: str) -> str | None:
        query = f"SELECT case_id FROM {self._tables.prefix}names WHERE kind = ? AND name = ?"
        return _only(self._tables.ask(query, (kind, name)))

    def cases_tracking(self, key: str) -> Sequence[str]:
        names = f"{self._tables.prefix}names"
        query = f"SELECT case_id FROM {names} WHERE kind = 'tracking' AND name >= ? AND name < ? ORDER BY name"
        return [case_id for (case_id,) in self._tables.ask(query, (f"{key}/", f"{key}0"))]

    def receipt(self, command_id: str) -> CommandReceipt | None:
        query = f"SELECT {RECEIPT_COLUMNS} FROM {self._tables.prefix}commands WHERE command_id = ?"
        return next((_receipt_of(row) for row in self._tables.ask(query, (command_id,))), None)

    def keep_policy(self, sha256: str, document: str) -> None:
        query = (
            f"INSERT INTO {self._tables.prefix}policies (sha256, document) VALUES (?, ?) ON CONFLICT DO NOTHING"
            " RETURNING sha256"
        )
        self._tables.change(lambda statements: statements.execute(query, (sha256, document)))

    def policy(self, sha256: str) -> str | None:
        query = f"SELECT document FROM {self._tables.prefix}policies WHERE sha256 = ?"
        return _only(self._tables.ask(query, (sha256,)))


class SqlCheckpoints:
    """The table ``bookmarks``."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._bookmarks = f"{tables.prefix}bookmarks"

    def checkpoint(self, name: str) -> int:
        return _only(self._tables.ask(f"SELECT position FROM {self._bookmarks} WHERE name = ?", (name,))) or 0

    def begun(self) -> Mapping[str, int]:
        return dict(sorted(self._tables.ask(f"SELECT name, position FROM {self._bookmarks}")))

    def acquire(self, name: str, holder: str, *, now: datetime, until: datetime) -> int | None:
        query = (
            f"INSERT INTO {self._bookmarks} AS b (name, position, holder, held_until) VALUES (?, 0, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until"
            " WHERE b.holder IS NULL OR b.holder = excluded.holder OR b.held_until <= ? RETURNING position"
        )
        return self._change(query, name, holder, _number(until), _number(now))

    def advance(self, name: str, holder: str, position: int, *, after: int, until: datetime) -> bool:
        query = (
            f"UPDATE {self._bookmarks} SET position = ?, held_until = ? WHERE name = ? AND holder = ?"
            " AND position IN (?, ?) RETURNING position"
        )
        # It may be at the new position already: then the answer to the first attempt was lost.
        return self._change(query, position, _number(until), name, holder, after, position) is not None

    def release(self, name: str, holder: str) -> None:
        query = f"UPDATE {self._bookmarks} SET holder = NULL, held_until = NULL WHERE name = ? AND holder = ?"
        self._change(f"{query} RETURNING position", name, holder)

    def _change(self, query: str, *values: object) -> int | None:
        return self._tables.change(lambda statements: _only(statements.execute(query, values)))


class SqlDueTable:
    """The table ``due``. A case without an instant is parked; a case that has nothing to record has no row."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._checkpoints = SqlCheckpoints(tables)
        self._due, self._bookmarks = f"{tables.prefix}due", f"{tables.prefix}bookmarks"

    def position(self) -> int:
        return self._checkpoints.checkpoint(DUE)

    def status(self) -> DueStatus:
        position = self.position()
        query = f"SELECT count(at), min(at), count(*) - count(at) FROM {self._due}"
        ((waiting, first, parked),) = self._tables.ask(query)
        return DueStatus(position, waiting, None if first is None else _instant(first), parked)

    def update(
        self, after: int, upto: int, looked_at: Iterable[str], due: Sequence[DueCase], parked: Iterable[str]
    ) -> bool:
        rows = sorted([(one.case_id, _number(one.at)) for one in due] + [(case_id, None) for case_id in parked])
        gone = [(case_id,) for case_id in sorted(set(looked_at) - {case_id for case_id, _ in rows})]

        def work(statements: Statements) -> bool:
            # From here on the row of the checkpoint is locked, so that two processes never update the table at once.
            statements.execute(
                f"INSERT INTO {self._bookmarks} (name, position) VALUES (?, 0) ON CONFLICT DO NOTHING RETURNING name",
                (DUE,),
            )
            moved = f"UPDATE {self._bookmarks} SET position = ? WHERE name = ? AND position = ? RETURNING position"
            if not statements.execute(moved, (upto, DUE, after)):
                return False
            if rows:
                statements.executemany(
                    f"INSERT INTO {self._due} (case_id, at) VALUES (?, ?) ON CONFLICT (case_id) DO UPDATE"
                    " SET at = excluded.at, claimed_until = NULL",
                    rows,
                )
            if gone:
                statements.executemany(f"DELETE FROM {self._due} WHERE case_id = ?", gone)
            return True

        return self._tables.change(work)

    def due_by(self, now: datetime) -> Sequence[str]:
        query = f"SELECT case_id FROM {self._due} WHERE at <= ? ORDER BY at, case_id"
        return [case_id for (case_id,) in self._tables.ask(query, (_number(now),))]

    def claim(self, now: datetime, *, until: datetime, limit: int) -> Sequence[DueCase]:
        free = f"FROM {self._due} WHERE at <= ? AND (claimed_until IS NULL OR claimed_until <= ?)"
        if not self._tables.ask(f"SELECT 1 {free} LIMIT 1", (_number(now), _number(now))):
            return []  # the usual answer: it needs no write lock
        query = (
            f"UPDATE {self._due} SET claimed_until = ? WHERE case_id IN (SELECT case_id {free} ORDER BY at, case_id LIMIT ?"
            f"{self._tables.skip_locked}) RETURNING at, case_id"
        )
        values = (_number(until), _number(now), _number(now), limit)
        rows = self._tables.change(lambda statements: statements.execute(query, values))
        return [DueCase(case_id, _instant(at)) for at, case_id in sorted(rows)]

    def give_back(self, cases: Sequence[DueCase], *, until: datetime) -> None:
        query = f"UPDATE {self._due} SET claimed_until = NULL WHERE case_id = ? AND claimed_until = ?"
        rows = sorted((case.case_id, _number(until)) for case in cases)
        if rows:
            self._tables.change(lambda statements: statements.executemany(query, rows))

    def parked(self) -> Sequence[str]:
        rows = self._tables.ask(f"SELECT case_id FROM {self._due} WHERE at IS NULL ORDER BY case_id")
        return [case_id for (case_id,) in rows]

    def park(self, case_id: str) -> None:
        query = f"UPDATE {self._due} SET at = NULL, claimed_until = NULL WHERE case_id = ? RETURNING case_id"
        self._tables.change(lambda statements: statements.execute(query, (case_id,)))


class SqlRecords:
    """The tables of a store as a whole. A subclass knows the timelines and the damage of its database."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def count(self, what: Literal["facts", "names", "receipts", "counted"]) -> int:
        prefix = self._tables.prefix
        queries = {
            "receipts": f"SELECT coalesce(sum(last - first + 1), 0) FROM {prefix}commands WHERE last > 0 AND judged_on = 0",
            "counted": f"SELECT count(*) FROM {prefix}commands WHERE judged_on > 0",
        }
        return int(_only(self._tables.ask(queries.get(what, f"SELECT count(*) FROM {prefix}{what}"))) or 0)

    def reserved_ids(self, after: tuple[str, str] = ("", ""), limit: int = 500) -> list[ReservedId]:
        query = (
            f"SELECT kind, name, case_id FROM {self._tables.prefix}names WHERE (kind, name) > (?, ?)"
            " ORDER BY kind, name LIMIT ?"
        )
        return [ReservedId(*row) for row in self._tables.ask(query, (*after, limit))]

    def receipts(self, after: str = "", limit: int = 500) -> list[CommandReceipt]:
        commands = f"{self._tables.prefix}commands"
        query = f"SELECT {RECEIPT_COLUMNS} FROM {commands} WHERE command_id > ? ORDER BY command_id LIMIT ?"
        return [_receipt_of(row) for row in self._tables.ask(query, (after, limit))]

    def policies(self) -> list[str]:
        rows = self._tables.ask(f"SELECT sha256 FROM {self._tables.prefix}policies ORDER BY sha256")
        return [sha256 for (sha256,) in rows]

    def timelines(self) -> list[Timeline]:
        return []

    def damage(self) -> Iterator[str]:
        return iter(())


class SqlRefusalCounts:
    """The table ``refusals``."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._refusals, self._commands = f"{tables.prefix}refusals", f"{tables.prefix}commands"
        self._facts = f"{tables.prefix}facts"

    def count(
        self,
        case_id: str,
        case_seq: int,
        *,
        known: int,
        at: datetime,
        receipt: CommandReceipt | None,
        tip: Tip | None = None,
    ) -> None:
        seen = f"SELECT 1 FROM {self._commands} WHERE command_id = ?"
        last_known = f"SELECT position, content FROM {self._facts} WHERE case_id = ? AND case_seq = ?"
        more = f"SELECT 1 FROM {self._facts} WHERE case_id = ? AND case_seq > ?"
        keep = (
            f"INSERT INTO {self._commands} (command_id, digest, command, at, outcome, first, last, judged_on)"
            f" SELECT ?, ?, ?, ?, ?, position, position, ? FROM {self._facts} WHERE case_id = ? AND case_seq = ?"
            " ON CONFLICT DO NOTHING RETURNING first"
        )
        raised = (
            f"INSERT INTO {self._refusals} AS r (case_id, case_seq, times, last_at) VALUES (?, ?, 1, ?)"
            " ON CONFLICT (case_id, case_seq) DO UPDATE SET times = r.times + 1, last_at ="
            " CASE WHEN excluded.last_at > r.last_at THEN excluded.last_at ELSE r.last_at END RETURNING times"
        )

        def work(statements: Statements) -> ReturnableError | None:
            # An error is returned before anything is written: the transaction is committed either way.
            last = statements.execute(last_known, (case_id, known))
            if receipt is not None and statements.execute(seen, (receipt.command_id,)):
                return CommandSeen(receipt.command_id)
            if not last or statements.execute(more, (case_id, known)) or (tip is not None and tip != last[0]):
                return Stale(case_id)
            if receipt is not None:
                values = (*receipt_values(receipt), receipt.judged_on, case_id, case_seq)
                if not statements.execute(keep, values):
                    return CommandSeen(receipt.command_id)  # another transaction was faster
            statements.execute(raised, (case_id, case_seq, _number(at)))
            return None

        refused = self._tables.change(work)
        if refused is not None:
            raise refused

    def of(self, case_id: str) -> Mapping[int, Counted]:
        query = f"SELECT case_seq, times, last_at FROM {self._refusals} WHERE case_id = ?"
        rows = self._tables.ask(query, (case_id,))
        return {case_seq: Counted(times, _instant(last_at)) for case_seq, times, last_at in rows}


def _receipt_of(row: Sequence[Any]) -> CommandReceipt:
    """The receipt in a row; raises :class:`HistoryBroken` where its instant is damaged."""
    command_id, digest, command, at, *others = row
    try:
        instant = plain(datetime.fromisoformat(at))
    except (TypeError, ValueError) as error:
        raise HistoryBroken(f"the receipt of command {command_id!r} says {at!r}, which is no instant") from error
    return CommandReceipt(command_id, digest, command, instant, *others)


def _only(rows: Sequence[Any]) -> Any | None:
    """The one value in the first row; ``None`` where there is no row."""
    return rows[0][0] if rows else None


def _number(instant: datetime) -> int:
    return (instant - _EPOCH) // A_MOMENT


def _instant(number: int) -> datetime:
    try:
        return _EPOCH + number * A_MOMENT
    except (OverflowError, TypeError) as error:
        raise HistoryBroken(f"an instant is stored as {number!r}, which is none") from error

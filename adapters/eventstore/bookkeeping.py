"""What a store keeps besides facts: bookmarks of those who follow them, the due table, counts of refusals, names, receipts.

Instants stand in the tables as microseconds since 1970 in UTC, which sort and compare alike everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TypeVar

from returnable.adapters.eventstore.forks import ForkSafeLock
from returnable.domain.calendar import A_MOMENT, plain
from returnable.domain.errors import CommandSeen, HistoryBroken, ReturnableError, Stale
from returnable.domain.fields import to_text
from returnable.domain.ports import CommandReceipt, Counted, DueCase, DueStatus, ReservedId, Timeline, Tip

T = TypeVar("T")

FED = "due"
"""The bookmark of the due table."""

_EPOCH = plain(datetime(1970, 1, 1, tzinfo=UTC))


class Statements(Protocol):
    """Statements of one write transaction. A ``?`` stands for a value."""

    def execute(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """The rows a statement gives."""
        ...

    def executemany(self, query: str, rows: Sequence[Sequence[object]]) -> None:
        """Carry a statement out for each row of values."""
        ...


class Tables(Protocol):
    """The tables of a store, by SQL that SQLite and PostgreSQL understand alike."""

    prefix: str
    """What comes before the name of a table."""
    skip_locked: str
    """What a query ends with to lock what it finds and pass over what others have locked."""

    def ask(self, query: str, values: Sequence[object] = ()) -> list[Any]:
        """What is committed."""
        ...

    def change(self, work: Callable[[Statements], T]) -> T:
        """Carry work out in one write transaction."""
        ...


class SqlBookmarks:
    """Bookmarks in the table ``checkpoints``; what each method promises stands in ``Checkpoints``."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._bookmarks = f"{tables.prefix}bookmarks"

    def checkpoint(self, name: str) -> int:
        """The position up to which all is done; 0 where nobody has begun."""
        rows = self._tables.ask(f"SELECT position FROM {self._bookmarks} WHERE name = ?", (name,))
        return _first(rows) or 0

    def begun(self) -> Mapping[str, int]:
        """The name and the position of every bookmark that was ever held, in order of the names."""
        return dict(sorted(self._tables.ask(f"SELECT name, position FROM {self._bookmarks}")))

    def acquire(self, name: str, holder: str, *, now: datetime, until: datetime) -> int | None:
        """Take a bookmark that is free, or whose holder's time is over, or hold one's own; the position it is at."""
        query = (
            f"INSERT INTO {self._bookmarks} AS b (name, position, holder, held_until) VALUES (?, 0, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until"
            " WHERE b.holder IS NULL OR b.holder = excluded.holder OR b.held_until <= ? RETURNING position"
        )
        return self._change(query, name, holder, _number(until), _number(now))

    def advance(self, name: str, holder: str, position: int, *, after: int, until: datetime) -> bool:
        """Move a bookmark on and hold it until then; ``False``: another holds it, or it stands elsewhere."""
        query = (
            f"UPDATE {self._bookmarks} SET position = ?, held_until = ? WHERE name = ? AND holder = ?"
            " AND position IN (?, ?) RETURNING position"
        )
        # It may stand at the new position already: then the answer to the first attempt was lost.
        return self._change(query, position, _number(until), name, holder, after, position) is not None

    def release(self, name: str, holder: str) -> None:
        """Free a bookmark, if it is still this holder's."""
        query = f"UPDATE {self._bookmarks} SET holder = NULL, held_until = NULL WHERE name = ? AND holder = ?"
        self._change(f"{query} RETURNING position", name, holder)

    def _change(self, query: str, *values: object) -> int | None:
        return self._tables.change(lambda statements: _first(statements.execute(query, values)))


class SqlDueTable:
    """The due table in the table ``due``; what each method promises stands in ``DueTable``.

    A case without an instant is parked; one that has nothing to record has no row.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._marks = SqlBookmarks(tables)
        self._due, self._bookmarks = f"{tables.prefix}due", f"{tables.prefix}bookmarks"

    def position(self) -> int:
        """The position up to which it is fed; 0: it never was."""
        return self._marks.checkpoint(FED)

    def status(self) -> DueStatus:
        """How it stands."""
        position = self.position()
        query = f"SELECT count(at), min(at), count(*) - count(at) FROM {self._due}"
        ((waiting, first, parked),) = self._tables.ask(query)
        return DueStatus(position, waiting, None if first is None else _instant(first), parked)

    def update(
        self, after: int, upto: int, looked_at: Iterable[str], due: Sequence[DueCase], parked: Iterable[str]
    ) -> bool:
        """Take in what the facts of a window changed, unless the table does not stand where it begins."""
        rows = sorted([(one.case_id, _number(one.at)) for one in due] + [(case_id, None) for case_id in parked])
        gone = [(case_id,) for case_id in sorted(set(looked_at) - {case_id for case_id, _ in rows})]

        def work(statements: Statements) -> bool:
            # The row of the bookmark is locked from here on: nobody else feeds at the same time.
            statements.execute(
                f"INSERT INTO {self._bookmarks} (name, position) VALUES (?, 0) ON CONFLICT DO NOTHING RETURNING name",
                (FED,),
            )
            moved = f"UPDATE {self._bookmarks} SET position = ? WHERE name = ? AND position = ? RETURNING position"
            if not statements.execute(moved, (upto, FED, after)):
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
        """The ids of all cases with a deadline to record by then, the longest due first."""
        query = f"SELECT case_id FROM {self._due} WHERE at <= ? ORDER BY at, case_id"
        return [case_id for (case_id,) in self._tables.ask(query, (_number(now),))]

    def claim(self, now: datetime, *, until: datetime, limit: int) -> Sequence[DueCase]:
        """At most ``limit`` of the cases that are due, the longest due first, for nobody else before ``until``."""
        free = f"FROM {self._due} WHERE at <= ? AND (claimed_until IS NULL OR claimed_until <= ?)"
        if not self._tables.ask(f"SELECT 1 {free} LIMIT 1", (_number(now), _number(now))):
            return []  # most of the time: nobody has to wait for a write lock
        query = (
            f"UPDATE {self._due} SET claimed_until = ? WHERE case_id IN (SELECT case_id {free} ORDER BY at, case_id LIMIT ?"
            f"{self._tables.skip_locked}) RETURNING at, case_id"
        )
        values = (_number(until), _number(now), _number(now), limit)
        rows = self._tables.change(lambda statements: statements.execute(query, values))
        return [DueCase(case_id, _instant(at)) for at, case_id in sorted(rows)]

    def give_back(self, cases: Sequence[DueCase], *, until: datetime) -> None:
        """Give cases back that were claimed until then."""
        query = f"UPDATE {self._due} SET claimed_until = NULL WHERE case_id = ? AND claimed_until = ?"
        rows = sorted((case.case_id, _number(until)) for case in cases)
        if rows:
            self._tables.change(lambda statements: statements.executemany(query, rows))

    def parked(self) -> Sequence[str]:
        """The ids of the cases that could not be read, in order."""
        rows = self._tables.ask(f"SELECT case_id FROM {self._due} WHERE at IS NULL ORDER BY case_id")
        return [case_id for (case_id,) in rows]

    def park(self, case_id: str) -> None:
        """Set a case apart that turned out to be unreadable."""
        query = f"UPDATE {self._due} SET at = NULL, claimed_until = NULL WHERE case_id = ? RETURNING case_id"
        self._tables.change(lambda statements: statements.execute(query, (case_id,)))


class SqlRecords:
    """What a check of the whole store asks for; what each method promises stands in ``Records``."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def count(self, what: Literal["facts", "names", "receipts", "counted"]) -> int:
        """How many of these are stored."""
        prefix = self._tables.prefix
        queries = {
            "receipts": f"SELECT coalesce(sum(last - first + 1), 0) FROM {prefix}commands WHERE last > 0 AND judged_on = 0",
            "counted": f"SELECT count(*) FROM {prefix}commands WHERE judged_on > 0",
        }
        return int(_first(self._tables.ask(queries.get(what, f"SELECT count(*) FROM {prefix}{what}"))) or 0)

    def reserved_ids(self, after: tuple[str, str] = ("", ""), limit: int = 500) -> list[ReservedId]:
        """At most ``limit`` names after ``after``, in order of kind and name."""
        query = (
            f"SELECT kind, name, case_id FROM {self._tables.prefix}names WHERE (kind, name) > (?, ?)"
            " ORDER BY kind, name LIMIT ?"
        )
        return [ReservedId(*row) for row in self._tables.ask(query, (*after, limit))]

    def receipts(self, after: str = "", limit: int = 500) -> list[CommandReceipt]:
        """At most ``limit`` receipts after ``after``, in order of command id."""
        commands = f"{self._tables.prefix}commands"
        query = f"SELECT {RECEIPT_COLUMNS} FROM {commands} WHERE command_id > ? ORDER BY command_id LIMIT ?"
        return [receipt_of(row) for row in self._tables.ask(query, (after, limit))]

    def policies(self) -> list[str]:
        """The hashes under which documents are kept, in order."""
        rows = self._tables.ask(f"SELECT sha256 FROM {self._tables.prefix}policies ORDER BY sha256")
        return [sha256 for (sha256,) in rows]

    def timelines(self) -> list[Timeline]:
        """The timelines of the store's file; none, unless a subclass knows of some."""
        return []

    def damage(self) -> Iterator[str]:
        """What is wrong with tables and positions, a sentence each; nothing, unless a subclass knows how to tell."""
        return iter(())


RECEIPT_COLUMNS = "command_id, digest, command, at, outcome, first, last, judged_on"


def receipt_of(row: Sequence[Any]) -> CommandReceipt:
    """The receipt in a row of these columns; raises :class:`HistoryBroken` where its instant is none."""
    command_id, digest, command, at, *others = row
    try:
        instant = plain(datetime.fromisoformat(at))
    except (TypeError, ValueError) as error:
        raise HistoryBroken(f"the receipt of command {command_id!r} says {at!r}, which is no instant") from error
    return CommandReceipt(command_id, digest, command, instant, *others)


class SqlRefusalCounts:
    """The table ``refusals``; what each method promises stands in ``RefusalCounts``."""

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
        """Count one more refusal and keep its receipt, in one transaction."""
        seen = f"SELECT 1 FROM {self._commands} WHERE command_id = ?"
        stands_at = f"SELECT position, content FROM {self._facts} WHERE case_id = ? AND case_seq = ?"
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
            # What is returned here is returned before anything is written: the transaction is committed either way.
            last = statements.execute(stands_at, (case_id, known))
            if receipt is not None and statements.execute(seen, (receipt.command_id,)):
                return CommandSeen(receipt.command_id)
            if not last or statements.execute(more, (case_id, known)) or (tip is not None and tip != last[0]):
                return Stale(case_id)
            if receipt is not None:
                values = (receipt.command_id, receipt.digest, receipt.command, to_text(receipt.at), receipt.outcome)
                if not statements.execute(keep, (*values, receipt.judged_on, case_id, case_seq)):
                    return CommandSeen(receipt.command_id)  # another transaction was faster
            statements.execute(raised, (case_id, case_seq, _number(at)))
            return None

        refused = self._tables.change(work)
        if refused is not None:
            raise refused

    def of(self, case_id: str) -> Mapping[int, Counted]:
        """The place of an event in the case → what was counted in it."""
        query = f"SELECT case_seq, times, last_at FROM {self._refusals} WHERE case_id = ?"
        rows = self._tables.ask(query, (case_id,))
        return {case_seq: Counted(times, _instant(last_at)) for case_seq, times, last_at in rows}


@dataclass(slots=True)
class _Bookmark:
    position: int = 0
    holder: str | None = None
    held_until: datetime | None = None


class MemoryBookmarks:
    """Bookmarks of a store in memory; what each method promises stands in ``Checkpoints``."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._kept: dict[str, _Bookmark] = {}

    def checkpoint(self, name: str) -> int:
        """The position up to which all is done; 0 where nobody has begun."""
        found = self._kept.get(name)
        return 0 if found is None else found.position

    def begun(self) -> Mapping[str, int]:
        """The name and the position of every bookmark that was ever held, in order of the names."""
        with self._lock:
            return {name: mark.position for name, mark in sorted(self._kept.items())}

    def acquire(self, name: str, holder: str, *, now: datetime, until: datetime) -> int | None:
        """Take a bookmark that is free, or whose holder's time is over, or hold one's own; the position it is at."""
        with self._lock:
            mark = self._kept.setdefault(name, _Bookmark())
            if mark.holder not in (None, holder) and mark.held_until is not None and mark.held_until > now:
                return None
            mark.holder, mark.held_until = holder, until
            return mark.position

    def advance(self, name: str, holder: str, position: int, *, after: int, until: datetime) -> bool:
        """Move a bookmark on and hold it until then; ``False``: another holds it, or it stands elsewhere."""
        with self._lock:
            mark = self._kept.get(name)
            if mark is None or mark.holder != holder or mark.position not in (after, position):
                return False
            mark.position, mark.held_until = position, until
            return True

    def release(self, name: str, holder: str) -> None:
        """Free a bookmark, if it is still this holder's."""
        with self._lock:
            mark = self._kept.get(name)
            if mark is not None and mark.holder == holder:
                mark.holder = mark.held_until = None


class MemoryDueTable:
    """The due table of a store in memory; what each method promises stands in ``DueTable``."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._position = 0
        self._due: dict[str, datetime] = {}
        self._claimed: dict[str, datetime] = {}
        self._parked: set[str] = set()

    def position(self) -> int:
        """The position up to which it is fed; 0: it never was."""
        return self._position

    def status(self) -> DueStatus:
        """How it stands."""
        with self._lock:
            return DueStatus(self._position, len(self._due), min(self._due.values(), default=None), len(self._parked))

    def update(
        self, after: int, upto: int, looked_at: Iterable[str], due: Sequence[DueCase], parked: Iterable[str]
    ) -> bool:
        """Take in what the facts of a window changed, unless the table does not stand where it begins."""
        with self._lock:
            if self._position != after:
                return False
            self._position = upto
            parked = tuple(parked)
            for case_id in (*looked_at, *parked, *(one.case_id for one in due)):
                self._forget(case_id)
            self._due.update((one.case_id, one.at) for one in due)
            self._parked.update(parked)
            return True

    def due_by(self, now: datetime) -> Sequence[str]:
        """The ids of all cases with a deadline to record by then, the longest due first."""
        with self._lock:
            return [case_id for _, case_id in sorted((at, case_id) for case_id, at in self._due.items() if at <= now)]

    def claim(self, now: datetime, *, until: datetime, limit: int) -> Sequence[DueCase]:
        """At most ``limit`` of the cases that are due, the longest due first, for nobody else before ``until``."""
        with self._lock:
            free = (
                (at, case_id)
                for case_id, at in self._due.items()
                if at <= now and (case_id not in self._claimed or self._claimed[case_id] <= now)
            )
            claimed = sorted(free)[:limit]
            self._claimed.update((case_id, until) for _, case_id in claimed)
            return [DueCase(case_id, at) for at, case_id in claimed]

    def give_back(self, cases: Sequence[DueCase], *, until: datetime) -> None:
        """Give cases back that were claimed until then."""
        with self._lock:
            for case in cases:
                if self._claimed.get(case.case_id) == until:
                    del self._claimed[case.case_id]

    def parked(self) -> Sequence[str]:
        """The ids of the cases that could not be read, in order."""
        with self._lock:
            return sorted(self._parked)

    def park(self, case_id: str) -> None:
        """Set a case apart that turned out to be unreadable."""
        with self._lock:
            if case_id in self._due:
                self._forget(case_id)
                self._parked.add(case_id)

    def _forget(self, case_id: str) -> None:
        self._due.pop(case_id, None)
        self._claimed.pop(case_id, None)
        self._parked.discard(case_id)


def _first(rows: Sequence[Any]) -> int | None:
    return next((value for (value,) in rows), None)


def _number(instant: datetime) -> int:
    return (instant - _EPOCH) // A_MOMENT


def _instant(number: int) -> datetime:
    try:
        return _EPOCH + number * A_MOMENT
    except (OverflowError, TypeError) as error:
        raise HistoryBroken(f"an instant is stored as {number!r}, which is none") from error

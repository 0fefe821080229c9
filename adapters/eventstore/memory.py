"""A store that keeps everything in memory: for tests and trials."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import Literal

from returnable.adapters.eventstore.appends import Append, Row, check_kept, check_next, check_receipt, conflict, span
from returnable.adapters.eventstore.forks import ForkSafeLock
from returnable.adapters.eventstore.store import CaseStore
from returnable.domain.errors import CommandSeen, Stale, StoreUnusable
from returnable.domain.ids import IndexedKind
from returnable.domain.ports import Batch, CommandReceipt, Counted, DueCase, DueStatus, ReservedId, Timeline, Tip


class MemoryStore(CaseStore):
    """Keeps the stored bytes of every event until the process ends."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = ForkSafeLock()
        self._rows: list[Row] = []
        """The row at each position, from position 1 on."""
        self._cases: defaultdict[str, list[Row]] = defaultdict(list)
        self._beginnings: dict[str, str] = {}
        """The case in which each stream has its version 1."""
        self._reserved_ids: dict[tuple[IndexedKind, str], str] = {}
        self._receipts: dict[str, CommandReceipt] = {}
        self._policies: dict[str, str] = {}
        self.checkpoints = MemoryCheckpoints()
        self.due = MemoryDueTable()
        self.records = self
        self.refusals = _MemoryRefusalCounts(self)
        self._closed = False

    def append(
        self,
        batches: Sequence[Batch],
        *,
        reserved_ids: Sequence[ReservedId] = (),
        receipt: CommandReceipt | None = None,
        pinned: str | None = None,
    ) -> Sequence[int]:
        check_receipt(receipt)
        with self._opened():
            check_kept(pinned, pinned in self._policies)
            append = Append(batches, reserved_ids, receipt, pinned)
            self._check_conflicts(append)
            rows: list[Row] = [(position, *row) for position, row in enumerate(append.rows(), len(self._rows) + 1)]
            self._rows += rows
            for row in rows:
                self._cases[row[1]].append(row)
                if row[4] == 1:
                    self._beginnings[row[3]] = row[1]
            positions = [row[0] for row in rows]
            for each in reserved_ids:
                self._reserved_ids[each.kind, each.name] = each.case_id
            if receipt is not None:
                first, last = span(positions)
                at = receipt.at.astimezone(UTC)
                self._receipts[receipt.command_id] = replace(receipt, at=at, first=first, last=last)
        self._wake_followers()
        return positions

    def _check_conflicts(self, append: Append) -> None:
        batches, reserved_ids, receipt, _ = append
        seen = receipt is not None and receipt.command_id in self._receipts
        taken = next((each for each in reserved_ids if (each.kind, each.name) in self._reserved_ids), None)
        stale = self._stale_case(batches)
        if seen or taken is not None or stale is not None:
            raise conflict(append, "recorded already", seen=seen, taken=taken, stale=stale)
        named = [(each.kind, each.name) for each in reserved_ids]
        if self._begins_again(batches) or len(set(named)) < len(named):
            raise conflict(append, "recorded already")

    def _stale_case(self, batches: Sequence[Batch]) -> str | None:
        counts: dict[str, int] = {}
        for batch in batches:
            of_case = self._cases.get(batch.case_id)
            known = counts.get(batch.case_id, of_case[-1][2] if of_case else min(batch.after, 0))
            if known != batch.after:
                return batch.case_id
            first = batch.case_id not in counts
            if first and batch.tip is not None and of_case and batch.tip != (of_case[-1][0], of_case[-1][6]):
                return batch.case_id
            counts[batch.case_id] = batch.after + len(batch.entries)
        return None

    def _begins_again(self, batches: Sequence[Batch]) -> bool:
        """Whether a stream of one case begins in another. Raises ``ValueError`` where a stream gets a gap."""
        begun: set[str] = set()
        versions: dict[str, dict[str, int]] = {}
        for batch in batches:
            known = versions.get(batch.case_id)
            if known is None:
                known = versions[batch.case_id] = {row[3]: row[4] for row in self._cases.get(batch.case_id, ())}
            for entry in batch.entries:
                check_next(entry.stream, known.get(entry.stream, min(batch.after, 0)), entry.version)
                known[entry.stream] = entry.version
                if entry.version == 1:
                    if entry.stream in self._beginnings or entry.stream in begun:
                        return True
                    begun.add(entry.stream)
        return False

    def rows(self, after: int, limit: int | None, upto: int | None = None, topics: Sequence[str] = ()) -> list[Row]:
        with self._opened():
            begin, end = max(after, 0), len(self._rows) if upto is None else max(upto, 0)
            if not topics:
                return self._rows[begin : end if limit is None else min(end, begin + limit)]
            return list(islice((row for row in self._rows[begin:end] if row[5] in topics), limit))

    def case_rows(self, case_id: str, upto: int | None = None) -> list[Row]:
        with self._opened():
            return [row for row in self._cases.get(case_id, ()) if upto is None or row[0] <= upto]

    def last_row(self, upto: int) -> Row | None:
        return next(iter(self.rows(min(upto, len(self._rows)) - 1, 1, upto)), None)

    def case_ids(self, after: str = "", limit: int = 500) -> Sequence[str]:
        with self._opened():
            return [case_id for case_id in sorted(self._cases) if case_id > after][:limit]

    def rows_of_cases(self, after: str, last: str, upto: int | None = None) -> list[Row]:
        with self._opened():
            these = [case_id for case_id in sorted(self._cases) if after < case_id <= last]
            return [row for case_id in these for row in self.case_rows(case_id, upto)]

    def changed_cases(self, after: int, upto: int) -> Sequence[str]:
        return sorted({row[1] for row in self.rows(after, None, upto)})

    def max_notification_id(self) -> int | None:
        self._opened()
        return len(self._rows) or None

    def case_of_stream(self, stream: str) -> str | None:
        self._opened()
        return self._beginnings.get(stream)

    def case_of(self, kind: IndexedKind, name: str) -> str | None:
        self._opened()
        return self._reserved_ids.get((kind, name))

    def cases_tracking(self, key: str) -> Sequence[str]:
        with self._opened():
            found = sorted(
                name for kind, name in self._reserved_ids if kind == "tracking" and name.startswith(f"{key}/")
            )
            return [self._reserved_ids["tracking", name] for name in found]

    def receipt(self, command_id: str) -> CommandReceipt | None:
        self._opened()
        return self._receipts.get(command_id)

    def keep_policy(self, sha256: str, document: str) -> None:
        self._opened()
        self._policies.setdefault(sha256, document)

    def policy(self, sha256: str) -> str | None:
        self._opened()
        return self._policies.get(sha256)

    # ---- records --------------------------------------------------------------------------------------------------------

    def count(self, what: Literal["facts", "names", "receipts", "counted"]) -> int:
        with self._opened():
            receipts = self._receipts.values()
            if what == "receipts":
                return sum(one.last - one.first + 1 for one in receipts if one.last and not one.judged_on)
            if what == "counted":
                return sum(one.judged_on > 0 for one in receipts)
            return len(self._reserved_ids if what == "names" else self._rows)

    def reserved_ids(self, after: tuple[str, str] = ("", ""), limit: int = 500) -> list[ReservedId]:
        with self._opened():
            found = sorted(key for key in self._reserved_ids if key > after)[:limit]
            return [ReservedId(kind, name, self._reserved_ids[kind, name]) for kind, name in found]

    def receipts(self, after: str = "", limit: int = 500) -> list[CommandReceipt]:
        with self._opened():
            return [self._receipts[key] for key in sorted(key for key in self._receipts if key > after)[:limit]]

    def policies(self) -> list[str]:
        self._opened()
        return sorted(self._policies)

    def timelines(self) -> list[Timeline]:
        return []

    def damage(self) -> Iterator[str]:
        return iter(())

    def close(self) -> None:
        self._closed = True
        super().close()

    def _opened(self) -> ForkSafeLock:
        """The lock that keeps others from writing. Raises :class:`StoreUnusable` once the store is closed."""
        if self._closed:
            raise StoreUnusable("memory: the store is closed")
        return self._lock


class _MemoryRefusalCounts:
    """The refusals that a store in memory counts beside its events and receipts."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._counted: defaultdict[str, dict[int, Counted]] = defaultdict(dict)

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
        with self._store._opened():
            receipts = self._store._receipts
            if receipt is not None and receipt.command_id in receipts:
                raise CommandSeen(receipt.command_id)
            of_case = self._store.case_rows(case_id)
            if len(of_case) != known or (tip is not None and tip != (of_case[-1][0], of_case[-1][6])):
                raise Stale(case_id)
            if receipt is not None:
                position = of_case[case_seq - 1][0]
                receipts[receipt.command_id] = replace(receipt, first=position, last=position)
            before = self._counted[case_id].get(case_seq, Counted(0, at))
            self._counted[case_id][case_seq] = Counted(before.times + 1, max(before.last_at, at))

    def of(self, case_id: str) -> Mapping[int, Counted]:
        with self._store._opened():
            return dict(self._counted.get(case_id, {}))


@dataclass(slots=True)
class _Checkpoint:
    position: int = 0
    holder: str | None = None
    held_until: datetime | None = None


class MemoryCheckpoints:
    """The checkpoints of a store in memory."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._kept: dict[str, _Checkpoint] = {}

    def checkpoint(self, name: str) -> int:
        found = self._kept.get(name)
        return 0 if found is None else found.position

    def begun(self) -> Mapping[str, int]:
        with self._lock:
            return {name: mark.position for name, mark in sorted(self._kept.items())}

    def acquire(self, name: str, holder: str, *, now: datetime, until: datetime) -> int | None:
        with self._lock:
            mark = self._kept.setdefault(name, _Checkpoint())
            if mark.holder not in (None, holder) and mark.held_until is not None and mark.held_until > now:
                return None
            mark.holder, mark.held_until = holder, until
            return mark.position

    def advance(self, name: str, holder: str, position: int, *, after: int, until: datetime) -> bool:
        with self._lock:
            mark = self._kept.get(name)
            if mark is None or mark.holder != holder or mark.position not in (after, position):
                return False
            mark.position, mark.held_until = position, until
            return True

    def release(self, name: str, holder: str) -> None:
        with self._lock:
            mark = self._kept.get(name)
            if mark is not None and mark.holder == holder:
                mark.holder = mark.held_until = None


class MemoryDueTable:
    """The due table of a store in memory."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._position = 0
        self._due: dict[str, datetime] = {}
        self._claimed: dict[str, datetime] = {}
        self._parked: set[str] = set()

    def position(self) -> int:
        return self._position

    def status(self) -> DueStatus:
        with self._lock:
            return DueStatus(self._position, len(self._due), min(self._due.values(), default=None), len(self._parked))

    def update(
        self, after: int, upto: int, looked_at: Iterable[str], due: Sequence[DueCase], parked: Iterable[str]
    ) -> bool:
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
        with self._lock:
            return [case_id for _, case_id in sorted((at, case_id) for case_id, at in self._due.items() if at <= now)]

    def claim(self, now: datetime, *, until: datetime, limit: int) -> Sequence[DueCase]:
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
        with self._lock:
            for case in cases:
                if self._claimed.get(case.case_id) == until:
                    del self._claimed[case.case_id]

    def parked(self) -> Sequence[str]:
        with self._lock:
            return sorted(self._parked)

    def park(self, case_id: str) -> None:
        with self._lock:
            if case_id in self._due:
                self._forget(case_id)
                self._parked.add(case_id)

    def _forget(self, case_id: str) -> None:
        self._due.pop(case_id, None)
        self._claimed.pop(case_id, None)
        self._parked.discard(case_id)

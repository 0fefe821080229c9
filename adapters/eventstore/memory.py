"""A recorder that keeps everything in memory: for tests and trials."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from eventsourcing.persistence import StoredEvent
from eventsourcing.popo import POPOApplicationRecorder

from returnable.adapters.eventstore.bookkeeping import MemoryBookmarks, MemoryDueTable
from returnable.adapters.eventstore.forks import ForkSafeLock
from returnable.adapters.eventstore.recorder import (
    CaseRecorder,
    Placement,
    Row,
    check_kept,
    check_next,
    conflict,
    refuse_unknown,
    stream_of,
)
from returnable.domain.errors import CommandSeen, Stale, StoreUnusable
from returnable.domain.ids import RegisteredKind
from returnable.domain.ports import CommandReceipt, Counted, ReservedId, Timeline, Tip


class MemoryCaseRecorder(CaseRecorder, POPOApplicationRecorder):
    """Keeps the stored bytes of every event; gone with the process.

    The library's recorder keeps the log and the streams, this class what binds them to cases.
    """

    def __init__(self) -> None:
        super().__init__()
        self._database_lock = ForkSafeLock()  # type: ignore[assignment]
        self._places: list[tuple[str, int]] = []
        self._cases: defaultdict[str, dict[int, int]] = defaultdict(dict)
        self._reserved_ids: dict[tuple[RegisteredKind, str], str] = {}
        self._receipts: dict[str, CommandReceipt] = {}
        self._policies: dict[str, str] = {}
        self.checkpoints = MemoryBookmarks()
        self.due = MemoryDueTable()
        self.records = self
        self.refusals = _MemoryRefusalCounts(self)
        self._closed = False

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
        with self._database_lock:
            self._check_open()
            places = self._places_of(stored_events, cases)
            check_kept(pinned, pinned in self._policies)
            self._check_conflicts(stored_events, places, cases, reserved_ids, receipt)
            positions = self._update_table(stored_events) or ()
            for position, (case_id, case_seq) in zip(positions, places, strict=True):
                self._places.append((case_id, case_seq))
                self._cases[case_id][case_seq] = position
            for name in reserved_ids:
                self._reserved_ids[name.kind, name.name] = name.case_id
            if receipt is not None:
                first, last = (positions[0], positions[-1]) if positions else (0, 0)
                at = receipt.at.astimezone(UTC)
                self._receipts[receipt.command_id] = replace(receipt, at=at, first=first, last=last)
        self._wake_followers()
        return positions

    def _places_of(self, events: Sequence[StoredEvent], cases: Sequence[Placement] | None) -> list[tuple[str, int]]:
        if cases is None:
            return [(stream_of(event.originator_id), event.originator_version) for event in events]
        return [(case.case_id, case.after + nth) for case in cases for nth in range(1, case.size + 1)]

    def _check_conflicts(
        self,
        events: Sequence[StoredEvent],
        places: Sequence[tuple[str, int]],
        cases: Sequence[Placement] | None,
        reserved_ids: Sequence[ReservedId],
        receipt: CommandReceipt | None,
    ) -> None:
        seen = receipt is not None and receipt.command_id in self._receipts
        taken = next((name for name in reserved_ids if (name.kind, name.name) in self._reserved_ids), None)
        stale = self._stale_case(cases or ())
        streams = [(stream_of(event.originator_id), event.originator_version) for event in events]
        named = [(name.kind, name.name) for name in reserved_ids]
        impossible = (
            any(case_seq in self._cases.get(case_id, ()) for case_id, case_seq in places)
            or any(version in self._stored_events_index.get(stream, ()) for stream, version in streams)
            or any(len(set(keys)) < len(keys) for keys in (places, streams, named))
        )
        if seen or taken is not None or stale is not None or (impossible and cases is None):
            raise conflict(
                seen=seen,
                taken=taken,
                stale=stale,
                receipt=receipt,
                cases=cases,
                reserved_ids=reserved_ids,
                cause="recorded already",
            )
        if cases is not None:
            self._check_streams(events, cases)
        if impossible:
            raise conflict(
                seen=False,
                taken=None,
                stale=None,
                receipt=None,
                cases=cases,
                reserved_ids=reserved_ids,
                cause="recorded already",
            )

    def _stale_case(self, cases: Sequence[Placement]) -> str | None:
        counts: dict[str, int] = {}
        for case in cases:
            known = counts.get(case.case_id, max(self._cases.get(case.case_id, ()), default=0))
            if known != case.after:
                return case.case_id
            if case.tip is not None and self.tip_at(case.case_id, case.after) != case.tip:
                return case.case_id
            counts[case.case_id] = case.after + case.size
        return None

    def tip_at(self, case_id: str, case_seq: int) -> Tip:
        """The fact at that place in a case."""
        position = self._cases[case_id][case_seq]
        return Tip(position, self._stored_events[position - 1].state)

    def _check_streams(self, events: Sequence[StoredEvent], cases: Sequence[Placement]) -> None:
        begin = 0
        stands_at: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for case in cases:
            known = stands_at[case.case_id]
            if not known:
                known.update((stream, version) for _, _, _, stream, version, _, _ in self.case_rows(case.case_id))
            for event in events[begin : begin + case.size]:
                stream, version = stream_of(event.originator_id), event.originator_version
                check_next(stream, known.get(stream, 0), version)
                known[stream] = version
            begin += case.size

    def rows(self, after: int, limit: int | None, upto: int | None = None, topics: Sequence[str] = ()) -> list[Row]:
        with self._database_lock:
            self._check_open()
            found: list[Row] = []
            last = len(self._places) if upto is None else min(upto, len(self._places))
            for position in range(max(after, 0) + 1, last + 1):
                if limit is not None and len(found) >= limit:
                    break
                if not topics or self._stored_events[position - 1].topic in topics:
                    found.append(self._row(position))
            return found

    def case_rows(self, case_id: str, upto: int | None = None) -> list[Row]:
        with self._database_lock:
            self._check_open()
            last = len(self._places) if upto is None else upto
            places = sorted(self._cases.get(case_id, {}).items())
            return [self._row(position) for _, position in places if position <= last]

    def last_row(self, upto: int) -> Row | None:
        with self._database_lock:
            self._check_open()
            last = min(upto, len(self._places))
            return self._row(last) if last > 0 else None

    def case_ids(self, after: str, limit: int) -> list[str]:
        with self._database_lock:
            self._check_open()
            return [case_id for case_id in sorted(self._cases) if case_id > after][:limit]

    def rows_of_cases(self, after: str, last: str, upto: int | None = None) -> list[Row]:
        with self._database_lock:
            self._check_open()
            these = [case_id for case_id in sorted(self._cases) if after < case_id <= last]
            return [row for case_id in these for row in self.case_rows(case_id, upto)]

    def changed_cases(self, after: int, upto: int) -> list[str]:
        with self._database_lock:
            self._check_open()
            return sorted({case_id for case_id, _ in self._places[max(after, 0) : max(upto, 0)]})

    def _row(self, position: int) -> Row:
        event, (case_id, case_seq) = self._stored_events[position - 1], self._places[position - 1]
        stream = stream_of(event.originator_id)
        return position, case_id, case_seq, stream, event.originator_version, event.topic, event.state

    def max_notification_id(self) -> int | None:
        self._check_open()
        return super().max_notification_id()

    def case_of(self, kind: RegisteredKind, name: str) -> str | None:
        self._check_open()
        return self._reserved_ids.get((kind, name))

    def receipt(self, command_id: str) -> CommandReceipt | None:
        self._check_open()
        return self._receipts.get(command_id)

    def keep_policy(self, sha256: str, document: str) -> None:
        self._check_open()
        self._policies.setdefault(sha256, document)

    def policy(self, sha256: str) -> str | None:
        self._check_open()
        return self._policies.get(sha256)

    def count(self, what: Literal["facts", "names", "receipts", "counted"]) -> int:
        with self._database_lock:
            self._check_open()
            receipts = self._receipts.values()
            if what == "receipts":
                return sum(one.last - one.first + 1 for one in receipts if one.last and not one.judged_on)
            if what == "counted":
                return sum(one.judged_on > 0 for one in receipts)
            return len(self._reserved_ids if what == "names" else self._places)

    def reserved_ids(self, after: tuple[str, str] = ("", ""), limit: int = 500) -> list[ReservedId]:
        with self._database_lock:
            self._check_open()
            found = sorted(key for key in self._reserved_ids if key > after)[:limit]
            return [ReservedId(kind, name, self._reserved_ids[kind, name]) for kind, name in found]

    def receipts(self, after: str = "", limit: int = 500) -> list[CommandReceipt]:
        with self._database_lock:
            self._check_open()
            return [self._receipts[key] for key in sorted(key for key in self._receipts if key > after)[:limit]]

    def policies(self) -> list[str]:
        self._check_open()
        return sorted(self._policies)

    def timelines(self) -> list[Timeline]:
        return []

    def damage(self) -> Iterator[str]:
        return iter(())

    def close(self) -> None:
        self._closed = True
        super().close()

    @contextmanager
    def unchanged(self) -> Iterator[tuple[Mapping[str, Mapping[int, int]], dict[str, CommandReceipt]]]:
        """The positions of every case by their place there, and the receipts, while nobody else writes."""
        with self._database_lock:
            self._check_open()
            yield self._cases, self._receipts

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnusable("memory: the store is closed")


class _MemoryRefusalCounts:
    """Counts beside the facts and the receipts of a recorder; what each method promises stands in ``RefusalCounts``."""

    def __init__(self, recorder: MemoryCaseRecorder) -> None:
        self._recorder = recorder
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
        with self._recorder.unchanged() as (cases, receipts):
            if receipt is not None and receipt.command_id in receipts:
                raise CommandSeen(receipt.command_id)
            positions = cases.get(case_id, {})
            if len(positions) != known or (tip is not None and tip != self._recorder.tip_at(case_id, known)):
                raise Stale(case_id)
            if receipt is not None:
                place = positions[case_seq]
                receipts[receipt.command_id] = replace(receipt, first=place, last=place)
            before = self._counted[case_id].get(case_seq, Counted(0, at))
            self._counted[case_id][case_seq] = Counted(before.times + 1, max(before.last_at, at))

    def of(self, case_id: str) -> Mapping[int, Counted]:
        with self._recorder.unchanged():
            return dict(self._counted.get(case_id, {}))

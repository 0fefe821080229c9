"""Facts in and out of a recorder: the :class:`EventStore` of the domain."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

from eventsourcing.persistence import StoredEvent

from returnable.adapters.eventstore.recorder import CaseNotification, CaseRecorder, Placement, Row
from returnable.adapters.eventstore.subscription import PollingSubscription
from returnable.domain.errors import HistoryBroken
from returnable.domain.events import decode
from returnable.domain.ids import RegisteredKind
from returnable.domain.ports import (
    Batch,
    Checkpoints,
    CommandReceipt,
    Damage,
    DueTable,
    Recorded,
    Records,
    RefusalCounts,
    ReservedId,
    Tip,
)


class CaseStore:
    """Keeps facts as stored events of a recorder; what each method promises stands in ``EventStore``.

    Every method raises :class:`StoreUnusable` after :meth:`close`, and reading raises :class:`HistoryBroken` for a fact
    that cannot be read.
    """

    def __init__(self, recorder: CaseRecorder) -> None:
        self._recorder = recorder

    @property
    def checkpoints(self) -> Checkpoints:
        """How far those who follow the facts have come."""
        return self._recorder.checkpoints

    @property
    def due(self) -> DueTable:
        """The cases that have a deadline to record."""
        return self._recorder.due

    @property
    def records(self) -> Records:
        """What the store keeps beside its facts, as a whole."""
        return self._recorder.records

    @property
    def refusals(self) -> RefusalCounts:
        """The refusals that are only counted."""
        return self._recorder.refusals

    def load(self, case_id: str, upto: int | None = None) -> Sequence[Recorded]:
        """Every fact of a case with a position of at most ``upto``, in order; empty when there is no such case."""
        return _facts_of_case(self._recorder.case_rows(case_id, upto))

    def load_until_damage(self, case_id: str, upto: int | None = None) -> tuple[Sequence[Recorded], Damage | None]:
        """The facts of a case with positions of at most ``upto``; where one cannot be read, those before it."""
        return _readable(self._recorder.case_rows(case_id, upto))

    def load_page(
        self, after: str = "", limit: int = 500, upto: int | None = None
    ) -> Iterator[tuple[str, Sequence[Recorded], Damage | None]]:
        """At most ``limit`` cases whose ids come after ``after``, in order, each as :meth:`load_until_damage` gives it."""
        case_ids = self._recorder.case_ids(after, limit)
        if not case_ids:
            return
        rows: dict[str, list[Row]] = {case_id: [] for case_id in case_ids}
        for row in self._recorder.rows_of_cases(after, case_ids[-1], upto):
            # A case that began in between comes too late.
            if row[1] in rows:
                rows[row[1]].append(row)
        for case_id in case_ids:
            yield case_id, *_readable(rows.pop(case_id))

    def case_ids(self, after: str = "", limit: int = 500) -> Sequence[str]:
        """At most ``limit`` ids of cases that come after ``after``, in order."""
        return self._recorder.case_ids(after, limit)

    def changed_cases(self, after: int, upto: int) -> Sequence[str]:
        """The ids of the cases with facts at positions above ``after`` and at most ``upto``, in order."""
        return self._recorder.changed_cases(after, upto)

    def case_of(self, kind: RegisteredKind, name: str) -> str | None:
        """The case in which a return, claim or refund of that id is known."""
        return self._recorder.case_of(kind, name)

    def append(
        self,
        batches: Sequence[Batch],
        *,
        reserved_ids: Sequence[ReservedId] = (),
        receipt: CommandReceipt | None = None,
        pinned: str | None = None,
    ) -> Sequence[int]:
        """Append in one transaction; the positions of the facts.

        Besides the errors of the protocol raises ``ValueError`` when the versions of an entry do not continue its
        stream without a gap, or when the moment of the receipt has no offset.
        """
        if receipt is not None and receipt.at.utcoffset() is None:
            raise ValueError(f"the moment of command {receipt.command_id!r} has no offset")
        events: list[StoredEvent] = []
        cases: list[Placement] = []
        for batch in batches:
            for entry in batch.entries:
                topic, state = entry.encoded
                events.append(StoredEvent(entry.stream, entry.version, topic, state))
            cases.append(Placement(batch.case_id, batch.after, len(batch.entries), batch.tip))
        return self._recorder.insert_events(
            events, cases=cases, reserved_ids=reserved_ids, receipt=receipt, pinned=pinned
        )

    def receipt(self, command_id: str) -> CommandReceipt | None:
        """What is kept of the command with that id; its moment is in UTC."""
        return self._recorder.receipt(command_id)

    def read(self, after: int = 0, limit: int = 500, upto: int | None = None) -> Sequence[Recorded]:
        """At most ``limit`` facts with positions above ``after`` (and at most ``upto``), in order of position."""
        return [_recorded(row) for row in self._recorder.rows(after, limit, upto)]

    def cases(self) -> Iterator[tuple[str, Sequence[Recorded]]]:
        """Every case with its facts, in order of case id, as of the moment the iteration began."""
        for case_id, rows in self._recorder.each_case():
            yield case_id, _facts_of_case(rows)

    def store_id(self) -> str | None:
        """Hashes of where the first fact stands and, where that can be read, of what it says; ``None`` in an empty store."""
        first = self._recorder.rows(0, 1)
        if not first:
            return None
        try:
            _recorded(first[0])
        except HistoryBroken:
            return f"{_hash_of_place(first[0])}:"
        return f"{_hash_of_place(first[0])}:{hashlib.sha256(first[0][6]).hexdigest()}"

    def fingerprint_at(self, position: int) -> str | None:
        """The digest of the last fact with a position of at most that; ``None`` where there is none."""
        row = self._recorder.last_row(position)
        return None if row is None else Tip(row[0], row[6]).digest

    def head(self) -> int:
        """The position of the last fact; 0 for an empty store."""
        return self._recorder.max_notification_id() or 0

    def follow(self, after: int = 0) -> Following:
        """Facts with positions above ``after`` as they come, blocking; also those that other processes write."""
        return Following(self._recorder.subscribe(after))

    def keep_policy(self, sha256: str, document: str) -> None:
        """Keep the canonical document of a policy; harmless when repeated."""
        self._recorder.keep_policy(sha256, document)

    def policy(self, sha256: str) -> str | None:
        """The canonical document of the policy with that hash."""
        return self._recorder.policy(sha256)

    def close(self) -> None:
        """Release files and connections and end every :class:`Following`; harmless when repeated."""
        self._recorder.close()


class Following(Iterator[Recorded]):
    """Facts as they come. Ends when its context is left, the store is closed, or :meth:`stop` is called.

    A fact that cannot be read raises :class:`HistoryBroken` once; the next one can then be asked for.
    """

    def __init__(self, subscription: PollingSubscription) -> None:
        self._subscription = subscription

    def __enter__(self) -> Self:
        self._subscription.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._subscription.__exit__(kind, error, traceback)

    def __next__(self) -> Recorded:
        notification = next(self._subscription)
        assert isinstance(notification, CaseNotification)
        return _recorded(
            (
                notification.id,
                notification.case_id,
                notification.case_seq,
                str(notification.originator_id),
                notification.originator_version,
                notification.topic,
                notification.state,
            )
        )

    def stop(self) -> None:
        """End the iteration, also of a thread that is blocked in it."""
        self._subscription.stop()


def _facts_of_case(rows: Iterable[Row]) -> list[Recorded]:
    events, damage = _readable(rows)
    if damage is not None:
        raise HistoryBroken(_where(damage) + damage.reason)
    return events


def _readable(rows: Iterable[Row]) -> tuple[list[Recorded], Damage | None]:
    """The facts of a case; where one cannot be read, or one is missing before it, those before that."""
    events: list[Recorded] = []
    versions: dict[str, int] = {}
    for row in rows:
        position, case_id, case_seq, stream, version, topic, content = row
        reason = None
        if case_seq != len(events) + 1:
            reason = f"fact {len(events) + 1} of the case is missing before it"
        elif version != versions.get(stream, 0) + 1:
            reason = f"{stream}#{versions.get(stream, 0) + 1} is missing before it"
        else:
            try:
                event = decode(topic, content)
            except HistoryBroken as error:
                reason = str(error)
            else:
                versions[stream] = version
                events.append(Recorded(position, case_id, case_seq, stream, version, event, content))
        if reason is not None:
            return events, Damage(position, case_id, case_seq, stream, version, reason)
    return events, None


def _where(damage: Damage) -> str:
    return f"{damage.event_id}, at position {damage.position}, of case {damage.case_id!r}: "


def _hash_of_place(row: Row) -> str:
    """Of everything but the content, which damage may change without making it another store."""
    return hashlib.sha256(repr(row[:6]).encode()).hexdigest()


def _recorded(row: Row) -> Recorded:
    position, case_id, case_seq, stream, version, topic, content = row
    try:
        event = decode(topic, content)
    except HistoryBroken as error:
        damage = Damage(position, case_id, case_seq, stream, version, str(error))
        raise HistoryBroken(_where(damage) + damage.reason) from error
    return Recorded(position, case_id, case_seq, stream, version, event, content)

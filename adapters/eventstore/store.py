"""The :class:`EventStore` of the domain, as far as it is the same for every database: rows become events, and events rows."""

from __future__ import annotations

import hashlib
import threading
import weakref
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from returnable.adapters.eventstore.appends import Row
from returnable.adapters.eventstore.follow import Following
from returnable.adapters.eventstore.forks import in_children
from returnable.adapters.eventstore.library import LibraryRecorder
from returnable.domain.errors import HistoryBroken
from returnable.domain.events import decode
from returnable.domain.ids import IndexedKind
from returnable.domain.ports import Checkpoints, CommandReceipt, Damage, DueTable, Recorded, Records, RefusalCounts, Tip

CASES_IN_PAGE = 500
"""How many cases are read at once where all of them are visited."""


class CaseStore(LibraryRecorder):
    """Keeps the events of cases; safe to share between threads. The protocol ``EventStore`` says what each method promises.

    Every method raises :class:`StoreUnusable` after :meth:`close`, and reading raises :class:`HistoryBroken` for an event
    that cannot be read. :meth:`append` also raises ``ValueError`` when the versions of an entry do not continue its stream
    without a gap, or when the instant of the receipt has no offset.
    """

    checkpoints: Checkpoints
    due: DueTable
    records: Records
    refusals: RefusalCounts

    def __init__(self) -> None:
        self._followers: tuple[weakref.ref[Following[Any]], ...] = ()
        self._start_afresh()
        in_children(self._start_afresh)

    def _start_afresh(self) -> None:
        self._followers_lock = threading.Lock()

    # ---- what a database answers --------------------------------------------------------------------------------------

    @abstractmethod
    def last_row(self, upto: int) -> Row | None:
        """The row with the highest position of at most ``upto``."""

    @abstractmethod
    def rows_of_cases(self, after: str, last: str, upto: int | None = None) -> list[Row]:
        """The rows of the cases whose ids come after ``after``, up to ``last``, case by case, with positions of at most
        ``upto``."""

    @abstractmethod
    def case_ids(self, after: str = "", limit: int = 500) -> Sequence[str]: ...

    @abstractmethod
    def changed_cases(self, after: int, upto: int) -> Sequence[str]: ...

    @abstractmethod
    def case_of(self, kind: IndexedKind, name: str) -> str | None: ...

    @abstractmethod
    def cases_tracking(self, key: str) -> Sequence[str]: ...

    @abstractmethod
    def receipt(self, command_id: str) -> CommandReceipt | None: ...

    @abstractmethod
    def keep_policy(self, sha256: str, document: str) -> None: ...

    @abstractmethod
    def policy(self, sha256: str) -> str | None: ...

    # ---- rows as events -------------------------------------------------------------------------------------------------

    def load(self, case_id: str, upto: int | None = None) -> Sequence[Recorded]:
        return _events_of_case(self.case_rows(case_id, upto))

    def load_until_damage(self, case_id: str, upto: int | None = None) -> tuple[Sequence[Recorded], Damage | None]:
        return _until_damage(self.case_rows(case_id, upto))

    def load_page(
        self, after: str = "", limit: int = 500, upto: int | None = None
    ) -> Iterator[tuple[str, Sequence[Recorded], Damage | None]]:
        case_ids = self.case_ids(after, limit)
        if not case_ids:
            return
        rows: dict[str, list[Row]] = {case_id: [] for case_id in case_ids}
        for row in self.rows_of_cases(after, case_ids[-1], upto):
            # A case that began in between comes too late.
            if row[1] in rows:
                rows[row[1]].append(row)
        for case_id in case_ids:
            yield case_id, *_until_damage(rows.pop(case_id))

    def read(self, after: int = 0, limit: int = 500, upto: int | None = None) -> Sequence[Recorded]:
        return [_recorded(row) for row in self.rows(after, limit, upto)]

    def cases(self) -> Iterator[tuple[str, Sequence[Recorded]]]:
        # Events up to a position never change, so pages of them make one picture without a transaction. That would hold a
        # connection, and keep the store from cleaning up or closing, for as long as the visitor takes.
        head, after = self.head(), ""
        while case_ids := self.case_ids(after, CASES_IN_PAGE):
            rows = self.rows_of_cases(after, case_ids[-1], head)
            for case_id, of_case in groupby(rows, key=itemgetter(1)):
                yield case_id, _events_of_case(of_case)
            after = case_ids[-1]

    def fingerprint_at(self, position: int) -> str | None:
        row = self.last_row(position)
        return None if row is None else Tip(row[0], row[6]).digest

    def store_id(self) -> str | None:
        first = next(iter(self.rows(0, 1)), None)
        if first is None:
            return None
        # The place alone identifies the store where damage has changed the content.
        place = hashlib.sha256(repr(first[:6]).encode()).hexdigest()
        try:
            _recorded(first)
        except HistoryBroken:
            return f"{place}:"
        return f"{place}:{hashlib.sha256(first[6]).hexdigest()}"

    def head(self) -> int:
        return self.max_notification_id() or 0

    # ---- following ------------------------------------------------------------------------------------------------------

    def follow(self, after: int = 0) -> Following[Recorded]:
        following = Following(self.rows, _recorded, after)
        self.followed(following)
        return following

    def followed(self, following: Following[Any]) -> None:
        with self._followers_lock:
            living = [follower for follower in self._followers if follower() is not None]
            self._followers = (*living, weakref.ref(following))

    def _wake_followers(self) -> None:
        for follower in self._followers:
            if following := follower():
                following.wake()

    def close(self) -> None:
        """Harmless when repeated. It also ends every iteration of :meth:`follow`."""
        for follower in self._followers:
            if following := follower():
                following.stop()


def _events_of_case(rows: Iterable[Row]) -> list[Recorded]:
    events, damage = _until_damage(rows)
    if damage is not None:
        raise HistoryBroken(_where(damage) + damage.reason)
    return events


def _until_damage(rows: Iterable[Row]) -> tuple[list[Recorded], Damage | None]:
    """The events of a case up to the first that cannot be read or that has a gap before it."""
    events: list[Recorded] = []
    versions: dict[str, int] = {}
    for row in rows:
        position, case_id, case_seq, stream, version, topic, content = row
        reason = None
        if case_seq != len(events) + 1:
            reason = f"event {len(events) + 1} of the case is missing before it"
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


def _recorded(row: Row) -> Recorded:
    position, case_id, case_seq, stream, version, topic, content = row
    try:
        event = decode(topic, content)
    except HistoryBroken as error:
        damage = Damage(position, case_id, case_seq, stream, version, str(error))
        raise HistoryBroken(_where(damage) + damage.reason) from error
    return Recorded(position, case_id, case_seq, stream, version, event, content)


def _where(damage: Damage) -> str:
    return f"{damage.event_id}, at position {damage.position}, of case {damage.case_id!r}: "

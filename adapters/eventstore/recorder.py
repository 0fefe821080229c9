"""What a recorder of cases does beyond the contract of the ``eventsourcing`` library.

The library knows streams (``originator_id``, ``originator_version``) and one log of all of them. A case binds several
streams under one counter, and an append also claims names and leaves a receipt, all in one transaction.
"""

from __future__ import annotations

import threading
import weakref
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from eventsourcing.persistence import ApplicationRecorder, IntegrityError, Notification, StoredEvent

from returnable.adapters.eventstore.forks import in_children
from returnable.adapters.eventstore.subscription import PollingSubscription
from returnable.domain.errors import CommandSeen, NameTaken, PolicyMissing, Stale
from returnable.domain.ids import RegisteredKind
from returnable.domain.ports import Checkpoints, CommandReceipt, DueTable, Records, RefusalCounts, ReservedId, Tip

Row: TypeAlias = tuple[int, str, int, str, int, str, bytes]
"""A stored fact: position, case, place in the case, stream, version, stored name, stored JSON."""

CASES_IN_PAGE = 500
"""How many cases are read at once where all of them are visited."""


@dataclass(frozen=True)
class CaseNotification(Notification):
    """The library's notification, and the place of the event in its case."""

    case_id: str
    case_seq: int


class Placement(NamedTuple):
    """The next ``size`` of the events of an insert belong to this case, which held ``after`` facts.

    ``tip`` is the last of these facts, where it is to be compared.
    """

    case_id: str
    after: int
    size: int
    tip: Tip | None = None


class Insert(NamedTuple):
    """What one append is to insert."""

    events: Sequence[StoredEvent]
    cases: Sequence[Placement] | None
    reserved_ids: Sequence[ReservedId]
    receipt: CommandReceipt | None
    pinned: str | None = None
    """The hash of the policy that must be kept already."""


class CaseRecorder(ApplicationRecorder):
    """Records events of cases, names, receipts and policies; safe to share between threads.

    Every method raises :class:`StoreUnusable` once the recorder is closed.
    """

    checkpoints: Checkpoints
    due: DueTable
    records: Records
    refusals: RefusalCounts

    def __init__(self) -> None:
        super().__init__()
        self._followers: tuple[weakref.ref[PollingSubscription], ...] = ()
        self._start_afresh()
        in_children(self._start_afresh)

    def _start_afresh(self) -> None:
        self._followers_lock = threading.Lock()

    @abstractmethod
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
        """Insert events, names and the receipt in one transaction; the positions of the events, in order.

        ``cases`` says to which cases the events belong, in their order. Without it (the library's contract) every
        stream is a case of its own, counted by its versions, and a conflict is the library's ``IntegrityError``.
        Otherwise raises :class:`PolicyMissing` where no policy of the hash ``pinned`` is kept, else :class:`CommandSeen`,
        else :class:`NameTaken`, else :class:`Stale`; :class:`StoreBusy` when another writer held the store too long;
        ``ValueError`` when versions do not continue their streams without gaps. Then nothing was inserted.
        """

    @abstractmethod
    def rows(self, after: int, limit: int | None, upto: int | None = None, topics: Sequence[str] = ()) -> list[Row]:
        """At most ``limit`` rows with positions above ``after`` and at most ``upto``, in order of position."""

    @abstractmethod
    def case_rows(self, case_id: str, upto: int | None = None) -> list[Row]:
        """The rows of a case in order, with positions of at most ``upto``."""

    @abstractmethod
    def last_row(self, upto: int) -> Row | None:
        """The row with the highest position of at most ``upto``."""

    @abstractmethod
    def case_ids(self, after: str, limit: int) -> list[str]:
        """At most ``limit`` ids of cases that come after ``after``, in order."""

    @abstractmethod
    def rows_of_cases(self, after: str, last: str, upto: int | None = None) -> list[Row]:
        """The rows of the cases from behind ``after`` up to ``last``, with positions of at most ``upto``, case by case."""

    @abstractmethod
    def changed_cases(self, after: int, upto: int) -> list[str]:
        """The ids of the cases with rows at positions above ``after`` and at most ``upto``, in order."""

    def each_case(self) -> Iterator[tuple[str, list[Row]]]:
        """Every case with its rows, in order of case id, as of the moment the iteration began."""
        # Facts up to a position never change, so pages of them make one picture without a transaction. That would hold a
        # connection, and keep the store from cleaning up or closing, for as long as the visitor takes.
        head, after = self.max_notification_id() or 0, ""
        while case_ids := self.case_ids(after, CASES_IN_PAGE):
            rows = self.rows_of_cases(after, case_ids[-1], head)
            for case_id, of_case in groupby(rows, key=itemgetter(1)):
                yield case_id, list(of_case)
            after = case_ids[-1]

    @abstractmethod
    def case_of(self, kind: RegisteredKind, name: str) -> str | None:
        """The case a name leads to."""

    @abstractmethod
    def receipt(self, command_id: str) -> CommandReceipt | None:
        """The receipt of a command."""

    @abstractmethod
    def keep_policy(self, sha256: str, document: str) -> None:
        """Keep a document under its hash, unless it is kept already."""

    @abstractmethod
    def policy(self, sha256: str) -> str | None:
        """The document with that hash."""

    def close(self) -> None:
        """End every subscription and release what is held; harmless when repeated."""
        for follower in self._followers:
            subscription = follower()
            if subscription is not None:
                subscription.stop()

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """The library's view of :meth:`rows`."""
        after = 0 if start is None else start - 1 if inclusive_of_start else start
        return [notification_of(row) for row in self.rows(after, limit, stop, topics)]

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> PollingSubscription:
        """Notifications with positions above ``gt`` as they come, also those of other processes."""
        subscription = PollingSubscription(self, gt, topics)
        with self._followers_lock:
            living = [follower for follower in self._followers if follower() is not None]
            self._followers = (*living, weakref.ref(subscription))
        return subscription

    def _wake_followers(self) -> None:
        for follower in self._followers:
            subscription = follower()
            if subscription is not None:
                subscription.wake()


def notification_of(row: Row) -> CaseNotification:
    """The library's notification of a row."""
    position, case_id, case_seq, stream, version, topic, content = row
    return CaseNotification(
        id=position,
        originator_id=stream,
        originator_version=version,
        topic=topic,
        state=content,
        case_id=case_id,
        case_seq=case_seq,
    )


def stream_of(originator_id: UUID | str) -> str:
    """The stream an originator id names; raises ``TypeError`` for anything but text."""
    if isinstance(originator_id, str):
        return originator_id
    raise TypeError(f"a stream is named by text such as 'return/R-1', not by {originator_id!r}")


def refuse_unknown(kwargs: Mapping[str, Any]) -> None:
    """Raise ``TypeError`` for arguments this recorder would otherwise silently ignore."""
    if kwargs:
        raise TypeError(f"insert_events() does not know {', '.join(sorted(kwargs))}")


def check_next(stream: str, stands_at: int, version: int) -> None:
    """Raise ``ValueError`` unless ``version`` is the next of a stream whose last is ``stands_at`` (0: none)."""
    if version != stands_at + 1:
        raise ValueError(f"{stream} stands at version {stands_at}: its next fact cannot be version {version}")


def check_kept(pinned: str | None, is_kept: bool) -> None:
    """Raise :class:`PolicyMissing` where facts are pinned to a policy that the store does not keep."""
    if pinned is not None and not is_kept:
        raise PolicyMissing(f"the policy {pinned} is not kept")


def conflict(
    *,
    seen: bool,
    taken: ReservedId | None,
    stale: str | None,
    receipt: CommandReceipt | None,
    cases: Sequence[Placement] | None,
    reserved_ids: Sequence[ReservedId],
    cause: str,
) -> Exception:
    """The one error that says why an insert was refused, in order of precedence.

    A command on record explains everything else: its first run claimed the names and moved the case.
    """
    if seen and receipt is not None:
        return CommandSeen(receipt.command_id)
    if taken is not None:
        return NameTaken(taken.kind, taken.name)
    if cases is None:
        return IntegrityError(cause)
    if stale is not None:
        return Stale(stale)
    claimed: set[tuple[str, str]] = set()
    for name in reserved_ids:
        if (name.kind, name.name) in claimed:
            return NameTaken(name.kind, name.name)
        claimed.add((name.kind, name.name))
    return ValueError(f"these facts contradict each other or begin a stream of another case: {cause}")

"""What commands need from outside: a store of events.

The unit of consistency is the *case*: an order with its returns and its claims. A case is loaded as a whole, judged as a
whole, and appended to under one counter, so that two requests for the same unit can never both be granted. Inside the case
every order, return and claim has its own stream (``order/ID``, ``return/ID``, ``claim/ID``) with its own versions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Literal, NamedTuple, Protocol

from returnable.domain.cached import cached_property
from returnable.domain.events import Event, encode
from returnable.domain.ids import IndexedKind


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded event and its place: ``position`` in the whole log (1, 2, 3, … with gaps allowed), ``case_seq`` in its
    case and ``version`` in its stream (both 1, 2, 3, … without gaps)."""

    position: int
    case_id: str
    case_seq: int
    stream: str
    version: int
    event: Event
    content: bytes = field(default=b"", repr=False, compare=False)
    """The bytes that the store keeps of the event; empty for an event that is not stored."""

    @property
    def event_id(self) -> str:
        """The id of the event for people: its stream and its version there.

        >>> from datetime import UTC, datetime
        >>> from returnable.domain.events import ParcelLost
        >>> at = datetime(2026, 3, 2, tzinfo=UTC)
        >>> Recorded(7, "A-1", 7, "return/R-1", 3, ParcelLost(occurred_at=at, recorded_at=at)).event_id
        'return/R-1#3'
        """
        return f"{self.stream}#{self.version}"


class Tip(NamedTuple):
    """The last event of a case or of the log as the store holds it: its position and its stored bytes.

    A tip identifies one history among others. A store that was restored to an older copy, and then went on, gives the same
    places to other events.
    """

    position: int
    content: bytes

    @property
    def digest(self) -> str:
        """The tip as a short text.

        >>> Tip(7, b"{}").digest
        '7-44136fa355b3678a1146ad16f7e8649e'
        """
        return f"{self.position}-{sha256(self.content).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Damage:
    """An event that cannot be read, or that cannot have happened in its place, and why. Nothing of its case counts from
    there on."""

    position: int
    case_id: str
    case_seq: int
    stream: str
    version: int
    reason: str

    @property
    def event_id(self) -> str:
        """The id of the event, as in :attr:`Recorded.event_id`."""
        return f"{self.stream}#{self.version}"


@dataclass(frozen=True)
class Entry:
    """An event to be appended to a stream, as its ``version``-th."""

    stream: str
    version: int
    event: Event

    @cached_property
    def encoded(self) -> tuple[str, bytes]:
        """The stored name of the event and its stored bytes."""
        return encode(self.event)


@dataclass(frozen=True, slots=True)
class Batch:
    """Events to be appended to one case, which held ``after`` events when they were decided (0: a new case).

    ``tip`` is the last known event; without it only the number of events is compared with the store. An append may hold
    several batches of a case, each continuing the one before.
    """

    case_id: str
    after: int
    entries: tuple[Entry, ...]
    tip: Tip | None = None


@dataclass(frozen=True, slots=True)
class ReservedId:
    """An id that must be unique in the whole store, and the case it leads to; or an entry of the index of ``tracking``."""

    kind: IndexedKind
    name: str
    case_id: str


@dataclass(frozen=True, slots=True)
class CommandReceipt:
    """The record of a command that had an id: enough to answer it again.

    ``digest`` identifies its body. ``first`` and ``last`` are the positions of the events it appended (both 0: none), or
    of the event in which it was counted. ``judged_on`` is how many events its case had when it was counted (0: it was not).
    """

    command_id: str
    digest: str
    command: str
    at: datetime
    outcome: Literal["accepted", "declined"]
    first: int = 0
    last: int = 0
    judged_on: int = 0


@dataclass(frozen=True, slots=True)
class Timeline:
    """A period in the life of a store's file. It ends when a copy takes the place of the file.

    ``cause`` is how it began: the store was created, a desk opened a fresh copy of it for the first time, or a back-up was
    restored. Of a back-up ``file`` is the name, ``sha256`` the hash of its bytes and ``head`` the position of its last
    event; ``replaced_head`` is the head of the store that it replaced, where that could be read.
    """

    cookie: int
    began_at: str
    cause: str
    file: str | None = None
    sha256: str | None = None
    head: int | None = None
    replaced_head: int | None = None


class Checkpoints(Protocol):
    """How far each process that follows the events has come, kept in the store under a name.

    A checkpoint has a lease: one holder at a time, until an instant that the holder names. So another process can continue
    after a crash. ``now`` is always the caller's; no clock is read here.
    """

    def checkpoint(self, name: str) -> int:
        """The position up to which the work is done; 0 where nobody has begun."""
        ...

    def begun(self) -> Mapping[str, int]:
        """The name and the position of every checkpoint that was ever acquired, in order of the names."""
        ...

    def acquire(self, name: str, holder: str, *, now: datetime, until: datetime) -> int | None:
        """Lease a checkpoint that is free or whose lease has expired at ``now``, or renew the holder's own lease.

        Returns its position, or ``None`` while another holder has the lease.
        """
        ...

    def advance(self, name: str, holder: str, position: int, *, after: int, until: datetime) -> bool:
        """Move a checkpoint on from the position ``after``, durably, and renew its lease.

        Returns ``False`` and changes nothing where another holder has the lease by now, or where the checkpoint is at another
        position because the store was restored to an older copy.
        """
        ...

    def release(self, name: str, holder: str) -> None:
        """End the lease of a checkpoint, unless another holder has it."""
        ...


@dataclass(frozen=True, slots=True)
class DueCase:
    """A case with a deadline to record, and the first instant at which there is one."""

    case_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class DueStatus:
    """A due table in figures: its position, how many cases wait, the first of their instants, how many are parked."""

    position: int
    waiting: int
    first_at: datetime | None
    parked: int


class DueTable(Protocol):
    """The cases that have a deadline to record, and when; made from the events, and made again from them at any time.

    It says where to look. Only the events say what happened. ``now`` is always the caller's; no clock is read here.
    """

    def position(self) -> int:
        """The position of the last event that the table takes into account; 0 before the first update."""
        ...

    def status(self) -> DueStatus:
        """The table in figures."""
        ...

    def update(
        self, after: int, upto: int, looked_at: Iterable[str], due: Sequence[DueCase], parked: Iterable[str]
    ) -> bool:
        """Record, in one transaction, the effect of the events with positions above ``after`` and up to ``upto``.

        Of the cases ``looked_at``, those in ``due`` are due then, those ``parked`` could not be read, and the others have
        nothing to record. Returns ``False`` and changes nothing where the table is not at ``after``, because another process
        updated it.
        """
        ...

    def due_by(self, now: datetime) -> Sequence[str]:
        """The ids of all cases with a deadline to record by then, the longest due first."""
        ...

    def claim(self, now: datetime, *, until: datetime, limit: int) -> Sequence[DueCase]:
        """Lease at most ``limit`` of the cases that are due, the longest due first, until ``until``.

        Cases that others have claimed are passed over, not waited for.
        """
        ...

    def give_back(self, cases: Sequence[DueCase], *, until: datetime) -> None:
        """End the claims on these cases that last until ``until``: others may claim the cases at once."""
        ...

    def parked(self) -> Sequence[str]:
        """The ids of the cases that could not be read, in order."""
        ...

    def park(self, case_id: str) -> None:
        """Park a case that turned out to be unreadable."""
        ...


class Records(Protocol):
    """The contents of a store beside its events, as a whole: for a check that everything fits together."""

    def count(self, what: Literal["facts", "names", "receipts", "counted"]) -> int:
        """How many of these are stored.

        ``facts``: events. ``names``: reserved ids. ``receipts``: the events that the commands of all receipts recorded.
        ``counted``: the receipts of refusals that recorded nothing, because they were only counted.
        """
        ...

    def reserved_ids(self, after: tuple[str, str] = ("", ""), limit: int = 500) -> Sequence[ReservedId]:
        """At most ``limit`` reserved ids whose kind and name come after ``after``, in order."""
        ...

    def receipts(self, after: str = "", limit: int = 500) -> Sequence[CommandReceipt]:
        """At most ``limit`` receipts whose command ids come after ``after``, in order."""
        ...

    def policies(self) -> Sequence[str]:
        """The hashes under which policies are kept, in order."""
        ...

    def timelines(self) -> Sequence[Timeline]:
        """The timelines of the store's file, oldest first; empty where the store has no file of its own."""
        ...

    def damage(self) -> Iterator[str]:
        """Each fault of tables and positions that the store itself finds, as a sentence. It may read all of them."""
        ...


@dataclass(frozen=True, slots=True)
class Counted:
    """How many refusals were counted after a ``RefusalsCounted``, and when the last of them was handled (UTC)."""

    times: int
    last_at: datetime


class RefusalCounts(Protocol):
    """The refusals that are only counted: one number for each ``RefusalsCounted``, kept beside it."""

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
        """Count one more refusal in the event at ``case_seq`` of a case, and keep its receipt, in one transaction.

        ``known``: how many events the case had when the refusal was decided, and ``tip`` the last of them. The receipt is
        stored with the position of the event as ``first`` and ``last``. Raises :class:`CommandSeen` when a receipt of that
        command id exists, :class:`Stale` when the case has other events, and :class:`StoreBusy`. Then nothing was counted.
        """
        ...

    def of(self, case_id: str) -> Mapping[int, Counted]:
        """For each place in the case whose event counts refusals, how many it has counted; without those that count none."""
        ...


class EventStore(Protocol):
    """Keeps events for ever, in order. Every append is all or nothing, and durable once it has returned."""

    @property
    def checkpoints(self) -> Checkpoints:
        """How far each process that follows the events has come."""
        ...

    @property
    def due(self) -> DueTable:
        """The cases that have a deadline to record."""
        ...

    @property
    def records(self) -> Records:
        """The contents of the store beside its events, as a whole."""
        ...

    @property
    def refusals(self) -> RefusalCounts:
        """The refusals that are only counted."""
        ...

    def load(self, case_id: str, upto: int | None = None) -> Sequence[Recorded]:
        """Every event of a case with a position of at most ``upto``, in the order of ``case_seq``; empty when there is no
        such case. Raises ``HistoryBroken`` where one cannot be read."""
        ...

    def load_until_damage(self, case_id: str, upto: int | None = None) -> tuple[Sequence[Recorded], Damage | None]:
        """The events of a case with positions of at most ``upto``, up to the first that cannot be read."""
        ...

    def load_page(
        self, after: str = "", limit: int = 500, upto: int | None = None
    ) -> Iterator[tuple[str, Sequence[Recorded], Damage | None]]:
        """At most ``limit`` cases whose ids come after ``after``, in order, each as :meth:`load_until_damage` returns it.

        All are read at once and decoded one by one.
        """
        ...

    def case_ids(self, after: str = "", limit: int = 500) -> Sequence[str]:
        """At most ``limit`` ids of cases that come after ``after``, in order."""
        ...

    def changed_cases(self, after: int, upto: int) -> Sequence[str]:
        """The ids of the cases with events at positions above ``after`` and at most ``upto``, in order."""
        ...

    def case_of(self, kind: IndexedKind, name: str) -> str | None:
        """The case in which a return, claim, refund or arrival of that id is known."""
        ...

    def cases_tracking(self, key: str) -> Sequence[str]:
        """The cases that know a tracking number, by its :func:`~returnable.domain.arrivals.tracking_key`, in order."""
        ...

    def append(
        self,
        batches: Sequence[Batch],
        *,
        reserved_ids: Sequence[ReservedId] = (),
        receipt: CommandReceipt | None = None,
        pinned: str | None = None,
    ) -> Sequence[int]:
        """Append all batches, reserved ids and the receipt in one transaction; the positions of the events, in order.

        The receipt is stored with ``first`` and ``last`` filled in. Raises :class:`PolicyMissing` when no policy of the hash
        ``pinned`` is kept, :class:`CommandSeen` when a receipt of that command id exists, :class:`NameTaken` when an id is
        reserved already, :class:`Stale` when a case has other events than ``after`` and ``tip`` say, and :class:`StoreBusy`
        when the store could not be written in time. Then nothing was appended.
        """
        ...

    def receipt(self, command_id: str) -> CommandReceipt | None:
        """The receipt of the command with that id; its instant is in UTC."""
        ...

    def read(self, after: int = 0, limit: int = 500, upto: int | None = None) -> Sequence[Recorded]:
        """At most ``limit`` events with positions above ``after`` (and at most ``upto``), in order of position."""
        ...

    def cases(self) -> Iterator[tuple[str, Sequence[Recorded]]]:
        """Every case with its events, in order of case id, as of the moment the iteration began.

        One page of cases is in memory at a time.
        """
        ...

    def fingerprint_at(self, position: int) -> str | None:
        """The :attr:`Tip.digest` of the last event at or before ``position``; ``None`` in an empty store.

        Lets a view notice that the store was restored from an older copy.
        """
        ...

    def store_id(self) -> str | None:
        """The identity of the store: hashes of the place and of the content of its first event; ``None`` in an empty store.

        The second hash is missing where that event cannot be read.
        """
        ...

    def head(self) -> int:
        """The position of the last event; 0 for an empty store."""
        ...

    def follow(self, after: int = 0) -> AbstractContextManager[Iterator[Recorded]]:
        """Events with positions above ``after`` as they come, blocking; also those that other processes write.

        An event that cannot be read raises ``HistoryBroken`` once; the caller can then ask for the next one.
        """
        ...

    def keep_policy(self, sha256: str, document: str) -> None:
        """Keep the canonical document of a policy, so that its quotes can be read for ever; harmless when repeated."""
        ...

    def policy(self, sha256: str) -> str | None:
        """The canonical document of the policy with that hash."""
        ...

    def close(self) -> None:
        """Release files and connections; the store cannot be used afterwards."""
        ...

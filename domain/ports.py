"""What the desk needs from outside: a place that keeps facts, and a clock.

The unit of consistency is the *case*: an order with its returns and its claims. A case is loaded whole, judged whole,
and appended to under one counter, so that two requests for the same unit can never both be granted. Inside the case
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
from returnable.domain.ids import RegisteredKind


@dataclass(frozen=True, slots=True)
class Recorded:
    """A fact where it stands: ``position`` in the whole log (1, 2, 3, … with gaps allowed), ``case_seq`` in its case
    (1, 2, 3, … without gaps), ``version`` in its stream (1, 2, 3, … without gaps)."""

    position: int
    case_id: str
    case_seq: int
    stream: str
    version: int
    event: Event
    content: bytes = field(default=b"", repr=False, compare=False)
    """The bytes that the store keeps of the fact; empty for a fact that is not stored."""

    @property
    def event_id(self) -> str:
        """The id by which people name it: its stream and its version there.

        >>> from datetime import UTC, datetime
        >>> from returnable.domain.events import ParcelLost
        >>> at = datetime(2026, 3, 2, tzinfo=UTC)
        >>> Recorded(7, "A-1", 7, "return/R-1", 3, ParcelLost(occurred_at=at, recorded_at=at)).event_id
        'return/R-1#3'
        """
        return f"{self.stream}#{self.version}"


class Tip(NamedTuple):
    """The last fact of a case or of the log as the store holds it: its position and its stored bytes.

    It tells one history from another. A store that was put back to an older copy of itself, and then went on, gives the same
    places to other facts.
    """

    position: int
    content: bytes

    @property
    def digest(self) -> str:
        """It in a short text.

        >>> Tip(7, b"{}").digest
        '7-44136fa355b3678a1146ad16f7e8649e'
        """
        return f"{self.position}-{sha256(self.content).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True)
class Damage:
    """A fact that cannot be read, or cannot have happened where it stands, and why. Nothing of its case counts from
    there on."""

    position: int
    case_id: str
    case_seq: int
    stream: str
    version: int
    reason: str

    @property
    def event_id(self) -> str:
        """The id of the fact, as :attr:`Recorded.event_id` has it."""
        return f"{self.stream}#{self.version}"


@dataclass(frozen=True)
class Entry:
    """A fact to be appended to a stream, as its ``version``-th."""

    stream: str
    version: int
    event: Event

    @cached_property
    def encoded(self) -> tuple[str, bytes]:
        """The stored name of the fact and its stored bytes."""
        return encode(self.event)


@dataclass(frozen=True, slots=True)
class Batch:
    """Facts to be appended to one case, of which ``after`` facts were known when they were decided (0: a new case).

    ``tip`` is the last known fact; without it only the number of facts is compared with the store. An append may hold several
    batches of a case, each going on from the one before.
    """

    case_id: str
    after: int
    entries: tuple[Entry, ...]
    tip: Tip | None = None


@dataclass(frozen=True, slots=True)
class ReservedId:
    """An id that must be unique in the whole store, and the case it leads to."""

    kind: RegisteredKind
    name: str
    case_id: str


@dataclass(frozen=True, slots=True)
class CommandReceipt:
    """What is kept of a command with an id: enough to answer it again.

    ``digest`` identifies its body. ``first`` and ``last`` are the positions of the facts it appended (both 0: none), or
    of the event in which it was counted. ``judged_on`` is how many facts its case had when it was counted (0: it was not).
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
    """A stretch in the life of a store's file, which ends where a copy takes the place of the file.

    ``cause`` is how it began: the store was created, a desk opened a fresh copy of it for the first time, or a back-up was
    restored. Of a back-up ``file`` is the name, ``sha256`` the hash of its bytes and ``head`` the position of its last
    fact; ``replaced_head`` is the head of the store that it replaced, where that could be read.
    """

    cookie: int
    began_at: str
    cause: str
    file: str | None = None
    sha256: str | None = None
    head: int | None = None
    replaced_head: int | None = None


class Checkpoints(Protocol):
    """How far those who follow the facts have come, kept with the facts, each under a name.

    Who moves a bookmark holds it: one holder at a time, until an instant it names, so that another can go on after a
    crash. ``now`` is always the caller's; no clock is read here.
    """

    def checkpoint(self, name: str) -> int:
        """The position up to which all is done; 0 where nobody has begun."""
        ...

    def begun(self) -> Mapping[str, int]:
        """The name and the position of every bookmark that was ever held, in order of the names."""
        ...

    def acquire(self, name: str, holder: str, *, now: datetime, until: datetime) -> int | None:
        """Take a bookmark that is free, or whose holder's time is over at ``now``, or go on holding one's own.

        The position it is at; ``None`` while another holds it.
        """
        ...

    def advance(self, name: str, holder: str, position: int, *, after: int, until: datetime) -> bool:
        """Move a bookmark on from the position ``after``, durably, and hold it until then.

        ``False``: another holds it by now, or it stands elsewhere because the store was put back to an older copy of itself.
        It stays where it is.
        """
        ...

    def release(self, name: str, holder: str) -> None:
        """Free a bookmark, if it is still this holder's."""
        ...


@dataclass(frozen=True, slots=True)
class DueCase:
    """A case with a deadline to record, and the first instant at which there is one."""

    case_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class DueStatus:
    """How a due table stands: fed up to a position, cases that wait, the first of their instants, cases that are parked."""

    position: int
    waiting: int
    first_at: datetime | None
    parked: int


class DueTable(Protocol):
    """The cases that have a deadline to record, and when; fed with the facts, and made again from them at any time.

    It says where to look, never what happened: that is in the facts. ``now`` is always the caller's; no clock is read here.
    """

    def position(self) -> int:
        """The position up to which it is fed; 0: it never was."""
        ...

    def status(self) -> DueStatus:
        """How it stands."""
        ...

    def update(
        self, after: int, upto: int, looked_at: Iterable[str], due: Sequence[DueCase], parked: Iterable[str]
    ) -> bool:
        """Take in what facts with positions above ``after`` and up to ``upto`` changed, in one transaction.

        Of the cases ``looked_at``, those in ``due`` are due then, those ``parked`` could not be read, and the others have
        nothing to record. ``False``: the table does not stand at ``after``, because somebody else fed it; it stays as it is.
        """
        ...

    def due_by(self, now: datetime) -> Sequence[str]:
        """The ids of all cases with a deadline to record by then, the longest due first."""
        ...

    def claim(self, now: datetime, *, until: datetime, limit: int) -> Sequence[DueCase]:
        """At most ``limit`` of the cases that are due, the longest due first; nobody else is given them before ``until``.

        Cases that others have claimed are passed over, not waited for.
        """
        ...

    def give_back(self, cases: Sequence[DueCase], *, until: datetime) -> None:
        """Give cases back that were claimed until then: others may claim them at once."""
        ...

    def parked(self) -> Sequence[str]:
        """The ids of the cases that could not be read, in order."""
        ...

    def park(self, case_id: str) -> None:
        """Set a case apart that turned out to be unreadable."""
        ...


class Records(Protocol):
    """What a store keeps beside its facts, as a whole: for a check that everything fits together."""

    def count(self, what: Literal["facts", "names", "receipts", "counted"]) -> int:
        """How many of these are stored.

        ``receipts``: the facts that were recorded by the commands of all receipts together. ``counted``: the receipts of
        refusals that recorded nothing, because they were only counted.
        """
        ...

    def reserved_ids(self, after: tuple[str, str] = ("", ""), limit: int = 500) -> Sequence[ReservedId]:
        """At most ``limit`` names whose kind and name come after ``after``, in order."""
        ...

    def receipts(self, after: str = "", limit: int = 500) -> Sequence[CommandReceipt]:
        """At most ``limit`` receipts whose command ids come after ``after``, in order."""
        ...

    def policies(self) -> Sequence[str]:
        """The hashes under which policies are kept, in order."""
        ...

    def timelines(self) -> Sequence[Timeline]:
        """The timelines of the store's file, the last one last; empty where the store is in no file of its own."""
        ...

    def damage(self) -> Iterator[str]:
        """What the store itself finds wrong with its tables and positions, a sentence each. It may read all of them."""
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

        ``known``: how many facts the case had when the refusal was decided, and ``tip`` the last of them. The receipt is
        stored with the position of the event as ``first`` and ``last``. Raises :class:`CommandSeen` when a receipt of that
        command id exists, :class:`Stale` when the case has other facts, and :class:`StoreBusy`. Then nothing was counted.
        """
        ...

    def of(self, case_id: str) -> Mapping[int, Counted]:
        """The place of an event in the case → what was counted in it; an event that counts nothing yet is missing."""
        ...


class EventStore(Protocol):
    """Keeps facts for ever, in order; every append is all or nothing and, once it returned, durable."""

    @property
    def checkpoints(self) -> Checkpoints:
        """How far those who follow the facts have come."""
        ...

    @property
    def due(self) -> DueTable:
        """The cases that have a deadline to record."""
        ...

    @property
    def records(self) -> Records:
        """What the store keeps beside its facts, as a whole."""
        ...

    @property
    def refusals(self) -> RefusalCounts:
        """The refusals that are only counted."""
        ...

    def load(self, case_id: str, upto: int | None = None) -> Sequence[Recorded]:
        """Every fact of a case with a position of at most ``upto``, in the order of ``case_seq``; empty when there is no
        such case. Raises ``HistoryBroken`` where one cannot be read."""
        ...

    def load_until_damage(self, case_id: str, upto: int | None = None) -> tuple[Sequence[Recorded], Damage | None]:
        """The facts of a case with positions of at most ``upto``; where one cannot be read, those before it."""
        ...

    def load_page(
        self, after: str = "", limit: int = 500, upto: int | None = None
    ) -> Iterator[tuple[str, Sequence[Recorded], Damage | None]]:
        """At most ``limit`` cases whose ids come after ``after``, in order, each as :meth:`load_until_damage` gives it.

        They are read at once and decoded one by one.
        """
        ...

    def case_ids(self, after: str = "", limit: int = 500) -> Sequence[str]:
        """At most ``limit`` ids of cases that come after ``after``, in order."""
        ...

    def changed_cases(self, after: int, upto: int) -> Sequence[str]:
        """The ids of the cases with facts at positions above ``after`` and at most ``upto``, in order."""
        ...

    def case_of(self, kind: RegisteredKind, name: str) -> str | None:
        """The case in which a return, claim or refund of that id is known."""
        ...

    def append(
        self,
        batches: Sequence[Batch],
        *,
        reserved_ids: Sequence[ReservedId] = (),
        receipt: CommandReceipt | None = None,
        pinned: str | None = None,
    ) -> Sequence[int]:
        """Append all batches, names and the receipt in one transaction; the positions of the facts, in order.

        The receipt is stored with ``first`` and ``last`` filled in. Raises :class:`PolicyMissing` when no policy of the hash
        ``pinned`` is kept, :class:`CommandSeen` when a receipt of that command id exists, :class:`NameTaken` when a name
        exists, :class:`Stale` when a case has other facts than ``after`` and ``tip`` say, and :class:`StoreBusy` when the
        store could not be written in time. Then nothing was appended.
        """
        ...

    def receipt(self, command_id: str) -> CommandReceipt | None:
        """What is kept of the command with that id."""
        ...

    def read(self, after: int = 0, limit: int = 500, upto: int | None = None) -> Sequence[Recorded]:
        """At most ``limit`` facts with positions above ``after`` (and at most ``upto``), in order of position."""
        ...

    def cases(self) -> Iterator[tuple[str, Sequence[Recorded]]]:
        """Every case with its facts, in order of case id; one case in memory at a time."""
        ...

    def fingerprint_at(self, position: int) -> str | None:
        """The :attr:`Tip.digest` of the last fact with a position of at most that; ``None`` where there is none."""
        ...

    def store_id(self) -> str | None:
        """Hashes of where the first fact stands and of what it says, by which this store is told from others.

        ``None`` while it is empty. A fact that cannot be read says nothing.
        """
        ...

    def head(self) -> int:
        """The position of the last fact; 0 for an empty store."""
        ...

    def follow(self, after: int = 0) -> AbstractContextManager[Iterator[Recorded]]:
        """Facts with positions above ``after`` as they come, blocking; also those that other processes write."""
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

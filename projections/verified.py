"""Verifying a store: whether everything that is stored fits together, and every decision comes out the same again.

A store can be damaged so that every fact can still be read: when a file system loses pages, or when the WAL of one file is
replayed into another. What gives it away is that facts, receipts, names and positions contradict each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from returnable.domain.case import fold, reserved_ids_in
from returnable.domain.errors import PolicyInvalid, ReturnableError
from returnable.domain.events import RefusalsCounted
from returnable.domain.fields import Model
from returnable.domain.policy import PolicyOf, policy_of_document
from returnable.domain.ports import CommandReceipt, EventStore, Recorded, Timeline
from returnable.domain.recorded_commands import RecordedCommand, recorded_commands
from returnable.domain.timetable import next_due
from returnable.projections.damage import CORRUPTION_ERRORS, describe
from returnable.projections.redecided import redecide

PAGE = 500
"""How many cases, names or receipts are read at once."""


class Problem(Model):
    """Something stored that contradicts what else is stored, or cannot be read."""

    where: str
    """The event (``return/R-1#2``), command, name, policy or part of the store."""
    what: str


class TimelineView(Model):
    """How a stretch in the life of the store's file began: it was created, copied by hand, or restored from a back-up."""

    began_at: str
    cause: str
    file: str | None
    sha256: str | None
    head: int | None
    replaced_head: int | None


class Verified(Model):
    """What verifying a store came to. All is well where there are no problems; warnings do not count."""

    head: int
    facts: int
    cases: int
    commands: int
    rulings: int
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    timelines: tuple[TimelineView, ...]


class Verification:
    """Verifies a store, one page of cases in memory at a time; ``policy`` finds a pinned policy by its hash.

    Others may write to the store meanwhile: what is recorded after the beginning is left to the next time.
    """

    def __init__(self, store: EventStore, policy_of: PolicyOf) -> None:
        self._store = store
        self._policy_of = policy_of
        self.head = self.events = self.cases = self.commands = self.rulings = 0
        self._reserved_ids = self._with_receipt = self._counted = 0
        self._due_count = 0
        self._due_first: datetime | None = None
        self._counting: dict[str, int] = {}
        """The cases that count refusals, and how many facts they had."""
        self._kept: set[str] = set()
        self._receipt: CommandReceipt | None = None
        """The receipt that was looked up last: the facts of a command stand together."""

    def run(self, advance: Callable[[int], None] = lambda count: None) -> Iterator[Problem]:
        """Every problem, as it is found. ``advance`` is told how many facts were looked at."""
        for check in (self._medium, self._policies, lambda: self._cases(advance), self._beside):
            try:
                yield from check()
            except (ReturnableError, *CORRUPTION_ERRORS) as error:
                yield Problem(where="the store", what=f"it cannot be read to its end: {_why(error)}")

    def result(self, problems: Sequence[Problem], warnings: Sequence[str] = ()) -> Verified:
        """What it came to, once :meth:`run` has come to its end."""
        return Verified(
            head=self.head,
            facts=self.events,
            cases=self.cases,
            commands=self.commands,
            rulings=self.rulings,
            problems=tuple(problems),
            warnings=tuple(warnings),
            timelines=self.timelines(),
        )

    def timelines(self) -> tuple[TimelineView, ...]:
        """The timelines of the store's file; none where they cannot be read."""
        try:
            return tuple(map(timeline_view, self._store.records.timelines()))
        except (ReturnableError, *CORRUPTION_ERRORS):
            return ()

    def _medium(self) -> Iterator[Problem]:
        for sentence in self._store.records.damage():
            yield Problem(where="the store", what=sentence)

    def _policies(self) -> Iterator[Problem]:
        for sha256 in self._store.records.policies():
            self._kept.add(sha256)
            try:
                policy_of_document(self._store.policy(sha256) or "", sha256)
            except (PolicyInvalid, *CORRUPTION_ERRORS) as error:
                yield Problem(where=f"policy {sha256}", what=describe(error))

    # ---- cases ----------------------------------------------------------------------------------------------------------

    def _cases(self, advance: Callable[[int], None]) -> Iterator[Problem]:
        self.head = self._store.head()
        after = ""
        while True:
            last = None
            for last, events, damage in self._store.load_page(after, PAGE, self.head):
                self.cases += 1
                self.events += len(events)
                if damage is not None:
                    yield Problem(where=damage.event_id, what=damage.reason)
                yield from self._case(last, events)
                advance(len(events))
            if last is None:
                return
            after = last

    def _case(self, case_id: str, events: Sequence[Recorded]) -> Iterator[Problem]:
        again = redecide(case_id, events, self._policy_of)
        self.commands += again.commands
        self.rulings += again.rulings
        for difference in again.differences:
            for line in difference.differences:
                yield Problem(where=difference.event, what=line)
        for name in reserved_ids_in(events):
            self._reserved_ids += 1
            owner = self._store.case_of(name.kind, name.name)
            if owner != case_id:
                known = "is not kept" if owner is None else f"leads to case {owner!r}"
                yield Problem(
                    where=f"{name.kind} {name.name}", what=f"its id was given in case {case_id!r}, but {known}"
                )
        for entry in events:
            sha256 = entry.event.pins.sha256 if entry.event.pins is not None else None
            if sha256 is not None and sha256 not in self._kept and self._store.policy(sha256) is None:
                yield Problem(where=entry.event_id, what=f"the policy {sha256} is pinned but was not kept")
            yield from self._receipt_of(entry)
        if any(isinstance(entry.event, RefusalsCounted) for entry in events):
            yield from self._counted_in(case_id, events)
        try:
            for past in recorded_commands(events):
                yield from self._told(past)
            at = next_due(fold(case_id, events)) if events else None
        except CORRUPTION_ERRORS:
            return  # deciding it again has found that
        self._count_due(at)

    def _counted_in(self, case_id: str, events: Sequence[Recorded]) -> Iterator[Problem]:
        self._counting[case_id] = len(events)
        for case_seq, counted in self._store.refusals.of(case_id).items():
            self._counted += counted.times
            if not (0 < case_seq <= len(events) and isinstance(events[case_seq - 1].event, RefusalsCounted)):
                yield Problem(
                    where=f"case {case_id}", what=f"refusals are counted for fact {case_seq}, which counts none"
                )

    def _receipt_of(self, entry: Recorded) -> Iterator[Problem]:
        command_id = entry.event.command_id
        if command_id is None:
            return
        self._with_receipt += 1
        if self._receipt is None or self._receipt.command_id != command_id:
            self._receipt = self._store.receipt(command_id)
        receipt = self._receipt
        if receipt is None:
            yield Problem(where=entry.event_id, what=f"command {command_id!r} recorded it, but has no receipt")
        elif not receipt.first <= entry.position <= receipt.last:
            yield Problem(
                where=entry.event_id,
                what=f"command {command_id!r} recorded it at position {entry.position}, but its receipt speaks of the "
                f"positions from {receipt.first} to {receipt.last}",
            )

    def _told(self, past: RecordedCommand) -> Iterator[Problem]:
        first = past.entries[0]
        command_id = first.event.command_id
        receipt = None if command_id is None else self._store.receipt(command_id)
        if receipt is None:
            return
        recorded = (past.fields["command"], past.outcome, past.at)
        kept = (receipt.command, receipt.outcome, receipt.at)
        for what, one, other in zip(("command", "outcome", "instant"), recorded, kept, strict=True):
            if one != other:
                yield Problem(
                    where=first.event_id, what=f"its {what} is {one}, but the receipt of {command_id!r} says {other}"
                )

    def _count_due(self, at: datetime | None) -> None:
        if at is not None:
            self._due_count += 1
            self._due_first = at if self._due_first is None else min(at, self._due_first)

    # ---- what is kept beside the facts --------------------------------------------------------------------------------

    def _beside(self) -> Iterator[Problem]:
        records = self._store.records
        # Only where the numbers differ is it worth while to look at each one.
        if records.count("names") != self._reserved_ids:
            yield from self._names_alone()
        counted = records.count("counted")
        if counted or records.count("receipts") != self._with_receipt:
            yield from self._receipts_alone()
        if counted > self._counted:
            yield Problem(
                where="the counts of refusals",
                what=f"{counted} refusals have a receipt, but only {self._counted} are counted",
            )
        head = self._store.head()
        for name, position in self._store.checkpoints.begun().items():
            if position > head:
                yield Problem(
                    where=f"bookmark {name}",
                    what=f"it stands at position {position}, but the last fact stands at {head}",
                )
        yield from self._due_table(head)

    def _names_alone(self) -> Iterator[Problem]:
        after = ("", "")
        while page := self._store.records.reserved_ids(after, PAGE):
            for name in page:
                events, _ = self._store.load_until_damage(name.case_id)
                given = sum(one == name for one in reserved_ids_in(events))
                if given != 1:
                    yield Problem(
                        where=f"{name.kind} {name.name}",
                        what=f"its id is kept for case {name.case_id!r}, where {_times(given)} gives it",
                    )
            after = page[-1].kind, page[-1].name

    def _receipts_alone(self) -> Iterator[Problem]:
        after = ""
        while page := self._store.records.receipts(after, PAGE):
            for receipt in page:
                yield from self._facts_of(receipt)
            after = page[-1].command_id

    def _facts_of(self, receipt: CommandReceipt) -> Iterator[Problem]:
        where = f"command {receipt.command_id}"
        first, last = receipt.first, receipt.last
        if (first, last) == (0, 0) and not receipt.judged_on:
            return
        if not 0 < first <= last:
            yield Problem(where=where, what=f"its receipt speaks of the positions from {first} to {last}")
            return
        for position in range(first, last + 1):
            try:
                found = self._store.read(position - 1, 1, position)
            except CORRUPTION_ERRORS:
                continue  # told already, as a fact that cannot be read
            what = f"position {position}, where no fact stands" if not found else self._why_not_of(receipt, found[0])
            if what:
                # One is enough: a damaged receipt may speak of more positions than anybody can look at.
                yield Problem(where=where, what=f"its receipt speaks of {what}")
                return

    def _why_not_of(self, receipt: CommandReceipt, entry: Recorded) -> str:
        """Which fact a receipt speaks of, and why it cannot be; empty where it can."""
        if not receipt.judged_on:
            return "" if entry.event.command_id == receipt.command_id else f"{entry.event_id}, which it did not record"
        if receipt.first != receipt.last or getattr(entry.event, "command", None) != receipt.command:
            return f"{entry.event_id}, in which it is not counted"
        if receipt.outcome != "declined":
            return f"{entry.event_id}, which counts refusals, but says {receipt.outcome}"
        count = self._counting.get(entry.case_id, 0)
        if receipt.judged_on > count:  # it may have got more since it was looked at
            count = len(self._store.load_until_damage(entry.case_id)[0])
        if entry.case_seq <= receipt.judged_on <= count:
            return ""
        return (
            f"{entry.event_id}, fact {entry.case_seq} of its case, and of {receipt.judged_on} facts on which it was judged, "
            f"but the case has {count}"
        )

    def _due_table(self, head: int) -> Iterator[Problem]:
        status = self._store.due.status()
        # It can be compared where it is fed with all facts that were looked at, and no case is parked in it.
        if status.position == head == self.head and not status.parked:
            found, kept = (self._due_count, self._due_first), (status.waiting, status.first_at)
            if found != kept and self._store.head() == head:
                yield Problem(
                    where="due table",
                    what=f"{kept[0]} cases wait there, the first until {kept[1]}, but by the facts {found[0]} cases do, the "
                    f"first until {found[1]}",
                )


def timeline_view(timeline: Timeline) -> TimelineView:
    """A timeline for people: without the number by which the store knows it."""
    return TimelineView(
        began_at=timeline.began_at,
        cause=timeline.cause,
        file=timeline.file,
        sha256=timeline.sha256,
        head=timeline.head,
        replaced_head=timeline.replaced_head,
    )


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, ReturnableError) else describe(error)


def _times(count: int) -> str:
    return "no fact" if count == 0 else f"more than one fact ({count})"

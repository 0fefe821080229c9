"""Verifies a store: everything stored must fit together, and every decision must come out the same again.

A store can be damaged although every event can still be read: when a file system loses pages, or when the WAL of one file
is replayed into another. Then events, receipts, ids and positions contradict each other.
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
from returnable.projections.subjects import every_loaded_case

PAGE = 500
"""How many ids or receipts are read at once."""


_Found = tuple[str, str]
"""A problem that was found: where, and what."""


class Problem(Model):
    """A stored row that cannot be read, or contradicts other rows."""

    where: str
    """The event (``return/R-1#2``), command, id, policy or part of the store."""
    what: str


class TimelineView(Model):
    """The beginning of a timeline of the store's file: it was created, copied by hand, or restored from a back-up."""

    began_at: str
    cause: str
    file: str | None
    sha256: str | None
    head: int | None
    replaced_head: int | None


class Verified(Model):
    """The result of verifying a store. The store is sound if there are no problems; warnings do not count."""

    head: int
    facts: int
    cases: int
    commands: int
    rulings: int
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]
    timelines: tuple[TimelineView, ...]


class Verification:
    """Verifies a store, one page of cases in memory at a time; ``policy_of`` finds a pinned policy by its hash.

    Other processes may write meanwhile: events that they record are left to the next verification.
    """

    def __init__(self, store: EventStore, policy_of: PolicyOf) -> None:
        self._store = store
        self._policy_of = policy_of
        self.head = self.events = self.cases = self.commands = self.rulings = 0
        self._reserved_ids = self._with_receipt = self._counted = 0
        self._due_count = 0
        self._due_first: datetime | None = None
        self._counting: dict[str, int] = {}
        """The cases that count refusals, and how many events each had."""
        self._kept: set[str] = set()
        self._receipt: CommandReceipt | None = None
        """The receipt that was looked up last: the events of a command are neighbours."""

    def run(self, advance: Callable[[int], None] = lambda count: None) -> Iterator[Problem]:
        """Every problem, as it is found. ``advance`` is called with the number of events that were read."""
        for check in (self._medium, self._policies, lambda: self._cases(advance), self._other_tables):
            try:
                for where, what in check():
                    yield Problem(where=where, what=what)
            except (ReturnableError, *CORRUPTION_ERRORS) as error:
                why = str(error) if isinstance(error, ReturnableError) else describe(error)
                yield Problem(where="the store", what=f"it cannot be read to its end: {why}")

    def result(self, problems: Sequence[Problem], warnings: Sequence[str] = ()) -> Verified:
        """The result, after the last problem of :meth:`run`."""
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
        """The timelines of the store's file; none if they cannot be read."""
        try:
            return tuple(map(timeline_view, self._store.records.timelines()))
        except (ReturnableError, *CORRUPTION_ERRORS):
            return ()

    def _medium(self) -> Iterator[_Found]:
        for sentence in self._store.records.damage():
            yield "the store", sentence

    def _policies(self) -> Iterator[_Found]:
        for sha256 in self._store.records.policies():
            self._kept.add(sha256)
            try:
                policy_of_document(self._store.policy(sha256) or "", sha256)
            except (PolicyInvalid, *CORRUPTION_ERRORS) as error:
                yield f"policy {sha256}", describe(error)

    # ---- cases ----------------------------------------------------------------------------------------------------------

    def _cases(self, advance: Callable[[int], None]) -> Iterator[_Found]:
        self.head = self._store.head()
        for case_id, events, damage in every_loaded_case(self._store, self.head):
            self.cases += 1
            self.events += len(events)
            if damage is not None:
                yield damage.event_id, damage.reason
            yield from self._case(case_id, events)
            advance(len(events))

    def _case(self, case_id: str, events: Sequence[Recorded]) -> Iterator[_Found]:
        again = redecide(case_id, events, self._policy_of)
        self.commands += again.commands
        self.rulings += again.rulings
        for difference in again.differences:
            for line in difference.differences:
                yield difference.event, line
        for name in reserved_ids_in(events):
            self._reserved_ids += 1
            owner = self._store.case_of(name.kind, name.name)
            if owner != case_id:
                known = "is not kept" if owner is None else f"leads to case {owner!r}"
                yield f"{name.kind} {name.name}", f"its id was given in case {case_id!r}, but {known}"
        for entry in events:
            sha256 = entry.event.pins.sha256 if entry.event.pins is not None else None
            if sha256 is not None and sha256 not in self._kept and self._store.policy(sha256) is None:
                yield entry.event_id, f"the policy {sha256} is pinned but was not kept"
            yield from self._receipt_of(entry)
        if any(isinstance(entry.event, RefusalsCounted) for entry in events):
            yield from self._counted_in(case_id, events)
        try:
            for command in recorded_commands(events):
                yield from self._compare(command)
            at = next_due(fold(case_id, events)) if events else None
        except CORRUPTION_ERRORS:
            return  # deciding the case again has found that
        self._count_due(at)

    def _counted_in(self, case_id: str, events: Sequence[Recorded]) -> Iterator[_Found]:
        self._counting[case_id] = len(events)
        for case_seq, counted in self._store.refusals.of(case_id).items():
            self._counted += counted.times
            if not (0 < case_seq <= len(events) and isinstance(events[case_seq - 1].event, RefusalsCounted)):
                yield f"case {case_id}", f"refusals are counted for event {case_seq}, which counts none"

    def _receipt_of(self, entry: Recorded) -> Iterator[_Found]:
        command_id = entry.event.command_id
        if command_id is None:
            return
        self._with_receipt += 1
        if self._receipt is None or self._receipt.command_id != command_id:
            self._receipt = self._store.receipt(command_id)
        receipt = self._receipt
        if receipt is None:
            yield entry.event_id, f"command {command_id!r} recorded it, but has no receipt"
        elif not receipt.first <= entry.position <= receipt.last:
            yield (
                entry.event_id,
                f"command {command_id!r} recorded it at position {entry.position}, but its receipt names the "
                f"positions from {receipt.first} to {receipt.last}",
            )

    def _compare(self, command: RecordedCommand) -> Iterator[_Found]:
        first = command.entries[0]
        command_id = first.event.command_id
        receipt = None if command_id is None else self._store.receipt(command_id)
        if receipt is None:
            return
        name, outcome = command.fields["command"], command.outcome
        if receipt.command == "assign_arrival":  # it records the report in another case, which may be declined there
            outcome = receipt.outcome if name == "assign_arrival" else outcome
            name = receipt.command if name in ("receive_return", "record_parcel_returned") else name
        recorded, kept = (name, outcome, command.at), (receipt.command, receipt.outcome, receipt.at)
        for what, one, other in zip(("command", "outcome", "instant"), recorded, kept, strict=True):
            if one != other:
                yield first.event_id, f"its {what} is {one}, but the receipt of {command_id!r} says {other}"

    def _count_due(self, at: datetime | None) -> None:
        if at is not None:
            self._due_count += 1
            self._due_first = at if self._due_first is None else min(at, self._due_first)

    # ---- the other tables ---------------------------------------------------------------------------------------------

    def _other_tables(self) -> Iterator[_Found]:
        records = self._store.records
        # Each row is read only if the numbers differ.
        if records.count("names") != self._reserved_ids:
            yield from self._names_alone()
        counted = records.count("counted")
        if counted or records.count("receipts") != self._with_receipt:
            yield from self._receipts_alone()
        if counted > self._counted:
            yield "the counts of refusals", f"{counted} refusals have a receipt, but only {self._counted} are counted"
        head = self._store.head()
        for name, position in self._store.checkpoints.begun().items():
            if position > head:
                yield f"bookmark {name}", f"its position is {position}, but the last event has position {head}"
        yield from self._due_table(head)

    def _names_alone(self) -> Iterator[_Found]:
        after = ("", "")
        while page := self._store.records.reserved_ids(after, PAGE):
            for name in page:
                events, _ = self._store.load_until_damage(name.case_id)
                given = sum(one == name for one in reserved_ids_in(events))
                if given != 1:
                    what = f"its id is kept for case {name.case_id!r}, in which {_times(given)} gives it"
                    yield f"{name.kind} {name.name}", what
            after = page[-1].kind, page[-1].name

    def _receipts_alone(self) -> Iterator[_Found]:
        after = ""
        while page := self._store.records.receipts(after, PAGE):
            for receipt in page:
                yield from self._events_of(receipt)
            after = page[-1].command_id

    def _events_of(self, receipt: CommandReceipt) -> Iterator[_Found]:
        where = f"command {receipt.command_id}"
        first, last = receipt.first, receipt.last
        if (first, last) == (0, 0) and not receipt.judged_on:
            return
        if not 0 < first <= last:
            yield where, f"its receipt names the positions from {first} to {last}"
            return
        for position in range(first, last + 1):
            try:
                found = self._store.read(position - 1, 1, position)
            except CORRUPTION_ERRORS:
                continue  # reported already, as an event that cannot be read
            what = f"position {position}, which holds no event" if not found else self._why_not_of(receipt, found[0])
            if what:
                # One problem is enough: a damaged receipt may name more positions than anybody can read.
                yield where, f"its receipt names {what}"
                return

    def _why_not_of(self, receipt: CommandReceipt, entry: Recorded) -> str:
        """The event that a receipt names, and why it cannot be the right one; empty if it can."""
        if not receipt.judged_on:
            return "" if entry.event.command_id == receipt.command_id else f"{entry.event_id}, which it did not record"
        counts = isinstance(entry.event, RefusalsCounted) and entry.event.command == receipt.command
        if receipt.first != receipt.last or not counts:
            return f"{entry.event_id}, in which it is not counted"
        if receipt.outcome != "declined":
            return f"{entry.event_id}, which counts refusals, but says {receipt.outcome}"
        count = self._counting.get(entry.case_id, 0)
        if receipt.judged_on > count:  # the case may have grown since it was read
            count = len(self._store.load_until_damage(entry.case_id)[0])
        if entry.case_seq <= receipt.judged_on <= count:
            return ""
        return (
            f"{entry.event_id}, event {entry.case_seq} of its case, judged on {receipt.judged_on} events, but the case has "
            f"{count}"
        )

    def _due_table(self, head: int) -> Iterator[_Found]:
        status = self._store.due.status()
        # The table can be compared if it covers exactly the events that were read, and no case is parked in it.
        if status.position == head == self.head and not status.parked:
            found, kept = (self._due_count, self._due_first), (status.waiting, status.first_at)
            if found != kept and self._store.head() == head:
                yield (
                    "due table",
                    f"it holds {kept[0]} cases, the first due at {kept[1]}; by the events there are {found[0]} cases, "
                    f"the first due at {found[1]}",
                )


def timeline_view(timeline: Timeline) -> TimelineView:
    """The public form of a timeline: without the number that the store gives it."""
    return TimelineView.model_validate({name: getattr(timeline, name) for name in TimelineView.model_fields})


def _times(count: int) -> str:
    return "no event" if count == 0 else f"more than one event ({count})"

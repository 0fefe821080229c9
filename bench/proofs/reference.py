"""What commands come to in a run that nothing interrupts, and what differs from it in a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from typing import Any

from pydantic_core import to_json

from bench.proofs.journeys import as_file
from returnable.adapters.scenario import play, read_scenario
from returnable.adapters.views.sqlite import SQLiteViews
from returnable.adapters.wiring import Services, assemble
from returnable.domain.case import reserved_ids_in
from returnable.domain.events import encode
from returnable.domain.policy import PolicyOf
from returnable.domain.ports import CommandReceipt, EventStore, Recorded
from returnable.projections.follow import Projector
from returnable.projections.stored import VIEWS

Difference = tuple[str, str]
"""The kind of a trouble (``lost``, ``half`` or ``changed``), and what it is."""


class Reference:
    """The lines of a scenario and what they come to in an uninterrupted run in memory."""

    def __init__(self, lines: list[dict[str, Any]], case_id: str | None = None, **more: Any) -> None:
        """``case_id``: all lines are about that case, and the store may hold others. ``more`` stands in each outcome."""
        self.lines = lines
        self.case_id = case_id
        self.outcomes: dict[int, bytes] = {}
        self.receipts: list[CommandReceipt] = []
        self.line_of: list[int] = []
        """The line of each receipt."""
        self.repeats_without_ids = False
        """Whether commands are given again without their ids, which is wrong."""
        self._more = more
        self._given = read_scenario(as_file(lines), "scenario")
        self._anonymous = read_scenario(as_file(without_ids(lines)), "scenario")
        with_memory = assemble("memory:")
        for number in range(1, len(lines) + 1):
            self.outcomes[number] = self.give(with_memory, number)
            receipt = with_memory.store.receipt(lines[number - 1]["command_id"])
            if receipt is not None:
                self.receipts.append(receipt)
                self.line_of.append(number)
        self.events = self.facts_in(with_memory.store)

    def give(self, services: Services, number: int, again: bool = False) -> bytes:
        """Give the command of one line; the outcome as a process prints it."""
        lines = self._anonymous if again and self.repeats_without_ids else self._given
        (played,) = play(services, [lines[number - 1]])
        return to_json(self._more | played.as_dict())

    def facts_in(self, store: EventStore) -> list[tuple[object, ...]]:
        """The facts of a store that belong to it, in order, without their positions."""
        if self.case_id is not None:
            return [without_position(recorded) for recorded in store.load(self.case_id)]
        return [without_position(recorded) for recorded in log_of(store)]

    def compare(
        self,
        store: EventStore,
        *,
        answered: AbstractSet[int],
        given: AbstractSet[int],
        stored: list[int],
        positions: Mapping[int, tuple[int, int]] | None = None,
    ) -> Iterator[Difference]:
        """How a store differs from what it must hold after the commands of those lines were given and answered.

        Adds to ``stored`` the lines whose commands are on record. ``positions``: where their facts were acknowledged.
        """
        counted = 0
        for line, expected in zip(self.line_of, self.receipts, strict=True):
            receipt = store.receipt(expected.command_id)
            if receipt is None:
                if line in answered:
                    yield "lost", f"{expected.command_id} {expected.command} was acknowledged and is not stored"
                continue
            stored.append(line)
            if line not in given:
                yield "half", f"{expected.command_id} is stored, and nobody gave it"
            own = [] if not receipt.last else store.read(receipt.first - 1, 1000, receipt.last)
            counted += len(own)
            due = self.events[expected.first - 1 : expected.last] if expected.last else []
            together = all(entry.event.command_id == receipt.command_id for entry in own)
            written = [without_position(entry) for entry in own]
            if _without_positions(receipt) != _without_positions(expected) or written != due or not together:
                yield "half", f"{expected.command_id} {expected.command} is not what was given"
            elif line in answered and positions and positions.get(line) not in (None, (receipt.first, receipt.last)):
                yield "lost", f"{expected.command_id} stands elsewhere than where it was acknowledged"
        count = len(self.facts_in(store))
        if counted != count:
            yield "half", f"{count - counted} facts belong to no command"

    def repeat(self, services: Services, numbers: Iterable[int]) -> Iterator[Difference]:
        """Give the commands of those lines again; which of them come to something else."""
        for number in numbers:
            if (outcome := self.give(services, number, again=True)) != self.outcomes[number]:
                yield "changed", f"given again, line {number} came to {outcome.decode()[:300]}"


def without_ids(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in line.items() if name != "command_id"} for line in lines]


def log_of(store: EventStore, page: int = 1000) -> Iterator[Recorded]:
    """Every fact of a store, in order."""
    after = 0
    while events := store.read(after, page):
        yield from events
        after = events[-1].position


def without_position(entry: Recorded) -> tuple[object, ...]:
    """A stored fact, whatever its position."""
    return (entry.case_id, entry.case_seq, entry.stream, entry.version, *encode(entry.event))


def _without_positions(receipt: CommandReceipt) -> tuple[object, ...]:
    count = receipt.last - receipt.first
    return receipt.command_id, receipt.digest, receipt.command, receipt.at, receipt.outcome, count


def unregistered_ids(store: EventStore) -> Iterator[Difference]:
    """Returns, claims and refunds that are on record and do not lead to their case."""
    for case_id, recorded in store.cases():
        for entry in recorded:
            for reserved in reserved_ids_in([entry]):
                if store.case_of(reserved.kind, reserved.name) != case_id:
                    yield "half", f"{reserved.kind} {reserved.name!r} is on record, and its id is free"


def views_unlike_a_rebuild(store: EventStore, policy: PolicyOf, kept: SQLiteViews) -> Iterator[str]:
    """Stored views that differ from what a projector makes that begins now, or have parked a case."""
    with closing(SQLiteViews(None)) as anew:
        Projector(store, anew, policy).run()
        with kept.reading() as one, anew.reading() as other:
            for view in VIEWS:
                if one.digest(view) != other.digest(view):
                    yield f"the stored view {view} differs from a rebuild"
                yield from (f"{view} is parked: {damage.reason}" for _, damage in one.parked(view))

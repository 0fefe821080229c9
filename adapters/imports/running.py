"""Carries out the planned commands of an import, each at most once, however often the import runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from returnable.adapters.imports.planning import Plan, Planner
from returnable.adapters.imports.reading import OrderRows
from returnable.adapters.imports.values import Refused
from returnable.adapters.wiring import Services, assemble
from returnable.domain.case import reserved_ids_in
from returnable.domain.commands import Command
from returnable.domain.errors import HistoryBroken, Impossible
from returnable.domain.policy import PolicyBook
from returnable.domain.ports import Batch, Entry, EventStore, Recorded

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of a command of the import."""

    outcome: Literal["accepted", "declined", "already"]
    facts: int = 0
    exceptions: int = 0


class CommandSink(Protocol):
    """Carries out commands."""

    def recorded(self, order_id: str) -> Sequence[Recorded]:
        """The events of an order; none where it is not known."""
        ...

    def carry_out(self, command: Command) -> CommandResult:
        """Carry out a command, unless it is on record; raises ``Impossible``."""
        ...


class Live:
    """Carries out commands on a store."""

    def __init__(self, services: Services, clock: Clock) -> None:
        self._services = services
        self._clock = clock

    def recorded(self, order_id: str) -> Sequence[Recorded]:
        """The events of an order; none where it is not known."""
        return self._services.store.load(order_id)

    def carry_out(self, command: Command) -> CommandResult:
        """Carry out a command, unless it is on record; raises ``Impossible``."""
        if _is_on_record(self._services.store, command):
            return CommandResult("already")
        outcome = self._services.handler.handle(command, self._clock())
        if outcome.replayed:  # another import was faster
            return CommandResult("already")
        exceptions = sum(event.type == "ExceptionRaised" for _, _, event in outcome.recorded_events)
        return CommandResult(outcome.outcome, len(outcome.recorded_events), exceptions)


class DryRun:
    """Carries out commands on a scratch store, to which it copies the cases of ``store``; it writes nothing to ``store``."""

    def __init__(self, store: EventStore | None, policy: PolicyBook, clock: Clock) -> None:
        self._store = store
        self._scratch = assemble("memory:", policy)
        self._live = Live(self._scratch, clock)
        self._copied: set[str] = set()

    def recorded(self, order_id: str) -> Sequence[Recorded]:
        """The events of an order, also those that this run would record."""
        if self._store is not None:
            self._copy_case(self._store, order_id)
        return self._live.recorded(order_id)

    def carry_out(self, command: Command) -> CommandResult:
        """The result that the command would have; raises ``Impossible``."""
        if self._store is not None:
            if _is_on_record(self._store, command):
                return CommandResult("already")
            fields: Any = command
            self._copy_case(self._store, fields.order_id)
            creates = command.creates
            if creates is not None and creates != "label":
                other = self._store.case_of(creates, getattr(command, f"{creates}_id"))
                if other is not None:
                    self._copy_case(self._store, other)
        return self._live.carry_out(command)

    def _copy_case(self, store: EventStore, case_id: str) -> None:
        if case_id in self._copied:
            return
        self._copied.add(case_id)
        events = store.load(case_id)
        if not events:
            return
        for sha256 in {pins.sha256 for entry in events if (pins := entry.event.pins) is not None}:
            document = store.policy(sha256)
            if document is None:
                raise HistoryBroken(f"the store does not hold the policy {sha256}, which a case pins")
            self._scratch.store.keep_policy(sha256, document)
        entries = tuple(Entry(entry.stream, entry.version, entry.event) for entry in events)
        self._scratch.store.append([Batch(case_id, 0, entries)], reserved_ids=list(reserved_ids_in(events)))


def _is_on_record(store: EventStore, command: Command) -> bool:
    receipt = store.receipt(command.command_id or "")
    if receipt is not None and receipt.digest != command.digest:
        raise Impossible(
            "command.conflict",
            f"it was imported at {receipt.at.isoformat()} with other values; the record stays as it is",
            field="",
        )
    return receipt is not None


@dataclass(slots=True)
class Summary:
    """The result of an import."""

    rows: int = 0
    orders: int = 0
    left_out: int = 0
    """Orders that the mapping leaves out."""
    imported: int = 0
    """Orders with new events and no refusal."""
    already: int = 0
    """Orders that were completely on record."""
    refused: int = 0
    """Orders, or rows without an order, with a refusal."""
    commands: Counter[str] = field(default_factory=Counter)
    """Command → how many were carried out now."""
    commands_on_record: int = 0
    declined: int = 0
    """Commands that the policy declined; they are on record."""
    facts: int = 0
    exceptions: int = 0
    """Exceptions raised because data of the host contradicts itself."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Code and field → the number of refusals."""

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON values."""
        return {name: _plain(getattr(self, name)) for name in self.__slots__}


def _plain(value: Any) -> Any:
    return dict(sorted(value.items())) if isinstance(value, Counter) else value


@dataclass(frozen=True, slots=True)
class Refusal:
    """A line of the report of refused rows."""

    row: int
    order_id: str
    command: str
    field: str
    code: str
    reason: str


def run_import(
    orders: Iterable[OrderRows],
    planner: Planner,
    sink: CommandSink,
    refuse: Callable[[Refusal], None],
    advance: Callable[[int], None] = lambda count: None,
) -> Summary:
    """Import order after order. A refusal is reported, and the remaining commands of that order are skipped.

    An order with unreadable rows records nothing: all its commands are planned before the first is carried out.
    """
    summary = Summary()
    for order in orders:
        summary.rows += order.count
        summary.orders += order.refused is None
        try:
            if order.refused is not None:
                raise order.refused
            plan = planner.plan(order.order_id, order.rows, sink.recorded)
            if plan is None:
                summary.left_out += 1
            elif _carry_out(plan, sink, summary):
                summary.imported += 1
            else:
                summary.already += 1
        except Refused as refused:
            summary.refused += 1
            summary.reasons[f"{refused.code} {refused.field}".strip()] += 1
            command = refused.command or ("confirm_order" if planner.confirms else "")
            refuse(Refusal(refused.row, order.order_id, command, refused.field, refused.code, refused.reason))
        advance(order.count)
    return summary


def _carry_out(plan: Plan, sink: CommandSink, summary: Summary) -> bool:
    """Carry out the commands of an order; whether one of them was new."""
    anything = False
    for planned in plan.commands:
        try:
            result = sink.carry_out(planned.command)
        except Impossible as error:
            command = planned.command.command
            raise Refused(planned.row, error.field or "", error.reason, error.code, command) from None
        if result.outcome == "already":
            summary.commands_on_record += 1
            continue
        anything = True
        summary.commands[planned.command.command] += 1
        summary.declined += result.outcome == "declined"
        summary.facts += result.facts
        summary.exceptions += result.exceptions
    return anything

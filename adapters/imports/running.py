"""Plans become facts: command by command through the desk, each at most once however often it is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from returnable.adapters.imports.planning import Plan, Planned, Planner
from returnable.adapters.imports.reading import OrderRows
from returnable.adapters.imports.values import Refused
from returnable.adapters.wiring import Services, assemble
from returnable.domain.case import reserved_ids_in
from returnable.domain.commands import Command
from returnable.domain.errors import HistoryBroken, Impossible
from returnable.domain.policy import PolicyBook
from returnable.domain.ports import Batch, CommandReceipt, Entry, EventStore

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command of the import came to."""

    outcome: Literal["accepted", "declined", "already"]
    facts: int = 0
    exceptions: int = 0


class CommandSink(Protocol):
    """Carries out commands."""

    def carry_out(self, command: Command) -> CommandResult:
        """Carry out a command, unless it is on record; raises ``Impossible``."""
        ...


class Live:
    """Tells the desk of a store."""

    def __init__(self, services: Services, clock: Clock) -> None:
        self._services = services
        self._clock = clock

    def carry_out(self, command: Command) -> CommandResult:
        """Carry out a command, unless it is on record; raises ``Impossible``."""
        receipt = self._services.store.receipt(command.command_id or "")
        if receipt is not None:
            return _on_record(command, receipt)
        outcome = self._services.handler.handle(command, self._clock())
        if outcome.replayed:  # another import was faster
            return CommandResult("already")
        exceptions = sum(event.type == "ExceptionRaised" for _, _, event in outcome.recorded_events)
        return CommandResult(outcome.outcome, len(outcome.recorded_events), exceptions)


class DryRun:
    """Tells a desk whose store is gone afterwards, and which knows what ``store`` holds: nothing is written there."""

    def __init__(self, store: EventStore | None, policy: PolicyBook, clock: Clock) -> None:
        self._store = store
        self._scratch = assemble("memory:", policy)
        self._live = Live(self._scratch, clock)
        self._borrowed: set[str] = set()

    def carry_out(self, command: Command) -> CommandResult:
        """Say what carrying out the command would come to; raises ``Impossible``."""
        if self._store is not None:
            receipt = self._store.receipt(command.command_id or "")
            if receipt is not None:
                return _on_record(command, receipt)
            fields: Any = command
            self._borrow(self._store, fields.order_id)
            return_id = getattr(command, "return_id", None)
            other = self._store.case_of("return", return_id) if return_id is not None else None
            if other is not None:
                self._borrow(self._store, other)
        return self._live.carry_out(command)

    def _borrow(self, store: EventStore, case_id: str) -> None:
        if case_id in self._borrowed:
            return
        self._borrowed.add(case_id)
        events = store.load(case_id)
        if not events:
            return
        for sha256 in {pins.sha256 for entry in events if (pins := entry.event.pins) is not None}:
            document = store.policy(sha256)
            if document is None:
                raise HistoryBroken(f"the policy {sha256} is pinned but was not kept")
            self._scratch.store.keep_policy(sha256, document)
        entries = tuple(Entry(entry.stream, entry.version, entry.event) for entry in events)
        self._scratch.store.append([Batch(case_id, 0, entries)], reserved_ids=list(reserved_ids_in(events)))


def _on_record(command: Command, receipt: CommandReceipt) -> CommandResult:
    if receipt.digest != command.digest:
        raise Impossible(
            "command.conflict",
            f"it was imported at {receipt.at.isoformat()} with other values; what is on record stays",
            field="",
        )
    return CommandResult("already")


@dataclass(slots=True)
class Summary:
    """What an import came to."""

    rows: int = 0
    orders: int = 0
    left_out: int = 0
    """Orders that the mapping leaves out."""
    imported: int = 0
    """Orders of which something was recorded, and nothing refused."""
    already: int = 0
    """Orders of which everything was on record."""
    refused: int = 0
    """Orders, or rows of none, of which something was refused."""
    commands: Counter[str] = field(default_factory=Counter)
    """Command → how many were carried out now."""
    commands_on_record: int = 0
    declined: int = 0
    """Commands that the policy declined, on record."""
    facts: int = 0
    exceptions: int = 0
    """Exceptions raised: facts of the host that contradict each other."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Code and field → how many were refused for it."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: _plain(getattr(self, name)) for name in self.__slots__}


def _plain(value: Any) -> Any:
    return dict(sorted(value.items())) if isinstance(value, Counter) else value


@dataclass(frozen=True, slots=True)
class Refusal:
    """A line of the report."""

    row: int
    order_id: str
    command: str
    field: str
    code: str
    reason: str


def run_import(
    orders: Iterable[OrderRows],
    planner: Planner,
    teller: CommandSink,
    refuse: Callable[[Refusal], None],
    advance: Callable[[int], None] = lambda count: None,
) -> Summary:
    """Import order after order. What is refused of one is reported, and the rest of that order is not told.

    An order whose rows cannot be read records nothing at all: its commands are planned before the first is told.
    """
    summary = Summary()
    for order in orders:
        summary.rows += order.count
        summary.orders += order.refused is None
        try:
            if order.refused is not None:
                raise order.refused
            plan = planner.plan(order.order_id, order.rows)
            if plan is None:
                summary.left_out += 1
            elif _tell(plan, teller, summary):
                summary.imported += 1
            else:
                summary.already += 1
        except Refused as refused:
            summary.refused += 1
            summary.reasons[f"{refused.code} {refused.field}".strip()] += 1
            command = refused.command or "confirm_order"
            refuse(Refusal(refused.row, order.order_id, command, refused.field, refused.code, refused.reason))
        advance(order.count)
    return summary


def _tell(plan: Plan, teller: CommandSink, summary: Summary) -> bool:
    anything = False
    for planned in plan.commands:
        told = _tell_one(planned, teller)
        if told.outcome == "already":
            summary.commands_on_record += 1
            continue
        anything = True
        summary.commands[planned.command.command] += 1
        summary.declined += told.outcome == "declined"
        summary.facts += told.facts
        summary.exceptions += told.exceptions
    return anything


def _tell_one(planned: Planned, teller: CommandSink) -> CommandResult:
    try:
        return teller.carry_out(planned.command)
    except Impossible as error:
        command: str = planned.command.command
        raise Refused(planned.row, error.field or "", error.reason, error.code, command) from None

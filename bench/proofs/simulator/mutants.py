"""Mutants that others have made, each switched on by its name: the simulator must notice every one of them.

They replace something from outside while a block runs. The library knows nothing of them. Three are mistakes of a store or
of a worker that the library does not have inside one process; there the simulator's own stand-in is replaced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from unittest.mock import patch

from bench.proofs.mutants import Mutants
from bench.proofs.simulator import actors
from bench.proofs.simulator.machine import WRITE_ATTEMPTS, Append, Disk, YieldPoint
from bench.proofs.simulator.shop import Views
from returnable.adapters.eventstore.appends import Row
from returnable.adapters.eventstore.memory import MemoryStore
from returnable.adapters.views.sqlite import SQLiteViews
from returnable.domain import handler, timetable
from returnable.domain.case import Case, evolve
from returnable.domain.commands import Command, RunDeadlines
from returnable.domain.effects.payments import RefundNotice, RefundReceipt
from returnable.domain.errors import CommandSeen, Impossible, Stale, StoreBusy
from returnable.domain.events import Event, LabelIssued
from returnable.domain.handler import CommandHandler
from returnable.domain.order import parcels
from returnable.domain.ports import Batch, CommandReceipt, Entry
from returnable.domain.returns.state import Return
from returnable.projections.ports import Changes, Mark
from returnable.testing.behaviour import START
from returnable.testing.fakes.payments import FakeGateway

MUTANTS = Mutants()


# ---- in the store -----------------------------------------------------------------------------------------------------


@MUTANTS.replaces(MemoryStore, "_check_conflicts")
def command_id_check_dropped(check: Any, self: Any, append: Any) -> None:
    """That a command is on record already is not noticed when it is appended."""
    check(self, append._replace(receipt=None))


@MUTANTS.replaces(MemoryStore, "append")
def conflict_check_dropped(append: Any, self: MemoryStore, batches: Sequence[Batch], **others: Any) -> Any:
    """The last writer wins: what was decided on an old state of the case is appended to the new one."""
    try:
        return append(self, batches, **others)
    except Stale:
        moved: list[Batch] = []
        versions: dict[str, int] = {}
        counts: dict[str, int] = {}
        for batch in batches:
            stored = self.load(batch.case_id)
            for entry in stored:
                versions[entry.stream] = max(entry.version, versions.get(entry.stream, 0))
            after = counts.setdefault(batch.case_id, len(stored))
            entries: list[Entry] = []
            for late in batch.entries:
                versions[late.stream] = versions.get(late.stream, 0) + 1
                entries.append(replace(late, version=versions[late.stream]))
            moved.append(Batch(batch.case_id, after, tuple(entries)))
            counts[batch.case_id] += len(entries)
        return append(self, moved, **others)


@MUTANTS.replaces(Disk, "append")
def receipt_outside_the_transaction(_: Any, self: Disk, append: Append, yield_point: YieldPoint) -> Sequence[int]:
    """The facts are durable before the receipt is: two transactions, and a crash may come between them."""
    if append.receipt is not None and self.store.receipt(append.receipt.command_id) is not None:
        raise CommandSeen(append.receipt.command_id)
    positions = self.commit(replace(append, receipt=None))
    yield_point("writes the receipt")
    if append.receipt is not None:
        first, last = (positions[0], positions[-1]) if positions else (0, 0)
        self.commit(Append((), (), append.receipt))
        recorder: Any = self.store
        recorder._receipts[append.receipt.command_id] = replace(append.receipt, first=first, last=last)
    return positions


@MUTANTS.replaces(Disk, "flush")
def synchronous_normal(flush: Any, self: Disk) -> None:
    """What is acknowledged is made durable later, with some of what comes after it."""
    if len(self.written) >= 4:
        self.durable += self.written
        self.written.clear()


@MUTANTS.register
def writer_lock_skipped(patches: ExitStack) -> None:
    """Positions are given out before it is clear who commits first: they become visible out of order.

    As in a database, who writes to the same case, or under the same command id, still waits for the other's commit.
    """

    def unlocked(self: Disk, append: Append, yield_point: YieldPoint) -> Sequence[int]:
        recorder: Any = self.store
        for _ in range(WRITE_ATTEMPTS):
            if not any(_same_rows(append, other) for other in recorder.under_way.values()):
                break
            yield_point("waits for the row")
        else:
            raise StoreBusy("another writer holds the row")
        positions = self.commit(append)
        me = object()
        recorder.under_way[me] = append
        recorder.hidden.update(positions)
        try:
            yield_point("commits")
        finally:
            del recorder.under_way[me]
            recorder.hidden.difference_update(positions)
        return positions

    patches.enter_context(patch.object(Disk, "append", unlocked))
    patches.enter_context(patch.object(Disk, "recorder", _OutOfOrder))


def _same_rows(one: Append, other: Append) -> bool:
    cases = {batch.case_id for batch in one.batches} & {batch.case_id for batch in other.batches}
    ids = [append.receipt.command_id for append in (one, other) if append.receipt is not None]
    return bool(cases) or len(ids) != len(set(ids))


class _OutOfOrder(MemoryStore):
    """Keeps rows that nobody sees yet."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: set[int] = set()
        self.under_way: dict[object, Append] = {}

    def rows(self, after: int, limit: int | None, upto: int | None = None, topics: Sequence[str] = ()) -> list[Row]:
        seen = [row for row in super().rows(after, None, upto, topics) if row[0] not in self.hidden]
        return seen[:limit]

    def case_rows(self, case_id: str, upto: int | None = None) -> list[Row]:
        return [row for row in super().case_rows(case_id, upto) if row[0] not in self.hidden]

    def receipt(self, command_id: str) -> CommandReceipt | None:
        found = super().receipt(command_id)
        return None if found is not None and found.first in self.hidden else found

    def max_notification_id(self) -> int | None:
        last = super().max_notification_id() or 0
        return max((position for position in range(1, last + 1) if position not in self.hidden), default=None)


# ---- at the desk ------------------------------------------------------------------------------------------------------


@MUTANTS.replaces(CommandHandler, "_answer_again")
def conflict_surfaced_to_author(again: Any, self: CommandHandler, command: Command) -> Any:
    """Whose first try was recorded is told at the second that it is impossible, instead of what came of it."""
    came = again(self, command)
    raise Impossible("command.conflict", f"{came.command} is on record already", field="command_id")


@MUTANTS.replaces(CommandHandler, "handle")
def refused_on_an_old_picture(handle: Any, self: CommandHandler, command: Command, at: datetime) -> Any:
    """What looks impossible is refused without a fresh look at the store."""
    answered = command.command_id is not None and self.store.receipt(command.command_id) is not None
    if not answered and not isinstance(command, RunDeadlines):
        with suppress(handler._NothingToSave):
            self._decide(command, at, False)
    return handle(self, command, at)


@MUTANTS.register
def deadline_from_wall_clock(patches: ExitStack) -> None:
    """The fold of a label's deadline reads the clock of the machine."""
    apply = Return.apply

    def now_and_then(ret: Return, event: Event, *more: Any) -> None:
        apply(ret, event, *more)
        if isinstance(event, LabelIssued):
            void_at = START + timedelta(days=2, minutes=next(minutes))
            ret.labels[event.label_id] = replace(ret.labels[event.label_id], void_at=void_at)

    minutes = count()  # a clock that goes on from look to look, and is the same in every run
    patches.enter_context(patch.object(Return, "apply", now_and_then))


@MUTANTS.replaces(timetable, "promises_of")
def deadline_recorded_again(promises_of: Any, case: Case, stream: str | None = None, unrecorded: bool = False) -> Any:
    """That a missed contact or an overdue refund is on record already is forgotten."""
    forgotten = evolve(case, ())
    for claim_id, claim in case.claims.items():
        forgotten.claims[claim_id] = claim.clone()
        forgotten.claims[claim_id].contact_missed = None
    for refund_id, refund in case.refunds.items():
        forgotten.refunds[refund_id] = refund.clone()
        forgotten.refunds[refund_id].overdue_by = None
    return promises_of(forgotten, stream, unrecorded)


# ---- in the domain ------------------------------------------------------------------------------------------------------


@MUTANTS.replaces(parcels, "_cancelled_units")
def cancelled_unit_shipped_in_silence(_: Any, *arguments: Any) -> Sequence[Any]:
    """A parcel with a unit that the shop cancelled is recorded, and nobody is told."""
    return ()


# ---- with followers ---------------------------------------------------------------------------------------------------


@MUTANTS.replaces(Views, "save")
def position_saved_before_rows(
    save: Any, self: Views, before: Mapping[str, Mark], after: Mark, changes: Changes, store_identity: str | None = None
) -> bool:
    """A projector's position is durable before its rows are."""
    marks = self.marks()
    if any(marks.get(view) != mark for view, mark in before.items()):
        return False
    with self._writing() as connection:
        for view in before:
            SQLiteViews._save_mark(connection, view, after)
    self.die()
    with self._writing() as connection:
        for view, mark in before.items():
            self._save_rows(connection, view, changes, fresh=not mark.built)
    return True


@MUTANTS.register
def refund_rekeyed_on_retry(patches: ExitStack) -> None:
    """A second try to pay a refund, after an unknown outcome, has another key."""
    settled, webhooks = actors.PaymentWorker._settled, FakeGateway.webhooks

    def rekeyed(self: Any, key: str, payment: str, amount: int, currency: str) -> RefundReceipt | None:
        tries: Counter[str] = self.__dict__.setdefault("tries", Counter())
        own = f"{key}~{tries[key]}" if tries[key] else key
        tries[key] += 1
        came = settled(self, own, payment, amount, currency)
        return came and replace(came, key=key)

    def of_any_try(self: FakeGateway) -> list[RefundNotice]:
        return [replace(notice, key=notice.key.partition("~")[0]) for notice in webhooks(self)]

    patches.enter_context(patch.object(actors.PaymentWorker, "_settled", rekeyed))
    patches.enter_context(patch.object(FakeGateway, "webhooks", of_any_try))


@MUTANTS.replaces(actors.PaymentWorker, "when_unknown")
def unknown_told_as_failed(when_unknown: Any, self: Any, key: str) -> RefundReceipt:
    """A call without an answer counts as one that failed: the customer is paid again under another refund."""
    all_of_it: Any = None
    return RefundReceipt(key, "", all_of_it, all_of_it, "failed", reason="time-out")

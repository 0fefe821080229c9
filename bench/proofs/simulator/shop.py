"""The shop of one seed: a disk, some processes, a gateway, stored views, and what was told and answered."""

from __future__ import annotations

import sqlite3
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, cached_property
from random import Random
from typing import Any

from bench.proofs.simulator.machine import Disk, Killed, NoAnswer, Process, Troubles
from bench.proofs.simulator.scheduler import Scheduler
from returnable.adapters.eventstore.store import CaseStore
from returnable.adapters.views.sqlite import SQLiteViews
from returnable.adapters.wiring import policy_book
from returnable.domain.case import Case, fold
from returnable.domain.commands import Command, ConfirmOrder
from returnable.domain.deciding import DecisionContext
from returnable.domain.decisions import decide
from returnable.domain.errors import Impossible, StoreBusy
from returnable.domain.ids import StreamId
from returnable.domain.outcome import Outcome
from returnable.domain.policy import PolicyBook
from returnable.testing.behaviour import START
from returnable.testing.fakes.payments import FakeGateway

NOT_TOLD = (Killed, NoAnswer, StoreBusy)
"""What a caller sees who does not learn what became of it."""

KEYS_LIVE = timedelta(hours=24)


class Violation(Exception):
    """What must never be, was."""


@cache
def book() -> PolicyBook:
    return policy_book(None)


@dataclass(slots=True)
class CommandAnswers:
    """A command, and everything that was ever answered to it."""

    command: Command
    answer: Outcome | None = None
    doubts: bool = False
    """Whether somebody told it and was not told what came."""


class Views(SQLiteViews):
    """Stored views that outlive their projectors; one of them may die between rows and position."""

    def __init__(self) -> None:
        super().__init__(None)
        self._in_memory: Any = self._connection
        self.saved_by: Process | None = None
        self._on_disk = sqlite3.connect(":memory:", check_same_thread=False)
        self.flush()

    def flush(self) -> None:
        """What they tell by now is on the disk: a view's transactions do not wait for it."""
        self._in_memory.backup(self._on_disk)

    def lose_power(self) -> None:
        self._on_disk.backup(self._in_memory)

    def close(self) -> None:
        super().close()
        self._on_disk.close()

    def die(self) -> None:
        """Whoever saves dies here, if the dice say so."""
        process = self.saved_by
        if process is not None and process.dice.random() < process.troubles.torn:
            process.kill()
            raise Killed

    def _save_mark(self, *args: Any) -> None:  # type: ignore[override]
        self.die()
        super()._save_mark(*args)


class Shop:
    """Everything of one seed but the actors."""

    def __init__(
        self, seed: int | str, troubles: Troubles | None = None, servers: int | None = None, begun: Disk | None = None
    ) -> None:
        """``begun``: what is on the disk already."""
        self.seed = seed
        dice = self.dice("shop")
        self.troubles = Troubles.of(dice) if troubles is None else troubles
        self.scheduler = Scheduler(self.dice("turns"), dice.choice((0.05, 0.3, 0.3, 1.0)))
        self.disk = Disk(begun)
        self._begun = begun
        self.processes: list[Process] = []
        self.servers = [self.process(f"server-{n}") for n in range(1, 1 + (servers or dice.choice((1, 2, 2, 3))))]
        self.gateway = FakeGateway(self.now, seed=dice.getrandbits(32), trouble=self.troubles.outside)
        if dice.random() < 0.5:
            self.gateway.forgets_keys(KEYS_LIVE)
        self.told: dict[str, CommandAnswers] = {}
        self.order_ids: list[str] = []
        self.arrival_ids: list[str] = []
        self.moment = 0
        self.closing = False
        self.seen: Counter[str] = Counter()
        self._numbers: Counter[str] = Counter()

    @cached_property
    def views(self) -> Views:
        """The stored views, which all projectors of the shop share."""
        return Views()

    def beginning(self) -> CaseStore:
        """A store of its own with what was there before anybody acted."""
        return Disk(self._begun).store

    def dice(self, of: str) -> Random:
        """Dice of one's own: what others do with theirs changes nothing."""
        return Random(f"{self.seed}/{of}")

    def process(self, name: str) -> Process:
        process = Process(name, self.scheduler, self.disk, book(), self.dice(name), self.troubles)
        self.processes.append(process)
        return process

    def now(self) -> datetime:
        return START + timedelta(microseconds=self.scheduler.now)

    def set_troubles(self, troubles: Troubles) -> None:
        """From now on these go wrong on this machine; what is outside goes on as before."""
        self.troubles = troubles
        for process in self.processes:
            process.troubles = troubles

    def new(self, kind: str) -> str:
        self._numbers[kind] += 1
        return f"{kind}-{self._numbers[kind]}"

    def stored_case(self, case_id: str) -> Case:
        """A case as the disk has it; no turn, no trouble, no cache."""
        return fold(case_id, self.disk.store.load(case_id))

    # ---- outside ----------------------------------------------------------------------------------------------------------

    def capture(self, order: ConfirmOrder) -> None:
        """The customer pays for an order, before it is told; some payments are authorised, and captured later."""
        if order.order_id not in self.order_ids:
            self.order_ids.append(order.order_id)
            for payment in order.payments:
                name = payment_at_the_gateway(order.order_id, payment.payment_id)
                pay = self.gateway.captures if payment.captured is None else self.gateway.authorises
                pay(name, str(payment.amount), order.currency)

    # ---- telling ----------------------------------------------------------------------------------------------------------

    def tell(self, process: Process, command: Command) -> Outcome | Impossible | None:
        """Tell a command once; ``None``: what became of it is unknown. Checks that every answer may be given."""
        assert command.command_id is not None
        told = self.told.setdefault(command.command_id, CommandAnswers(command))
        head, since = self.disk.store.head(), self.scheduler.now
        at = process.clock()
        self.scheduler.note(f"tells {command.command_id} {command.command} to {process.name}")
        came: Outcome | Impossible | None
        try:
            came = process.desk.handle(command, at)
        except NOT_TOLD:
            told.doubts = True
            came = None
        except Impossible as error:
            came = error
            self._refused(told, error, head, at)
        else:
            self._answered(told, came)
        self._count(command, came, since)
        return came

    def _count(self, command: Command, came: Outcome | Impossible | None, since: int) -> None:
        what = "unknown" if came is None else came.code if isinstance(came, Impossible) else came.outcome
        self.scheduler.note(f"is answered {command.command_id}: {what}, after {self.scheduler.now - since}")
        self.seen["commands"] += 1
        self.seen["answers unknown" if came is None else f"answers {what}"] += 1
        if isinstance(came, Outcome) and came.replayed:
            self.seen["answered from the record"] += 1

    def _answered(self, told: CommandAnswers, came: Outcome) -> None:
        before = told.answer
        if before is None:
            told.answer = came
        elif answer_of(before) != answer_of(came):
            raise Violation(
                f"the same command id, two answers: {told.command.command_id} {answer_of(before)} then {answer_of(came)}"
            )

    def _refused(self, told: CommandAnswers, error: Impossible, head: int, at: datetime) -> None:
        command = told.command
        self.scheduler.note(f"is told no to {command.command_id}: {error}")
        if told.answer is not None:
            raise Violation(f"{command.command_id} was answered, and is now refused: {error.code}: {error}")
        if self.disk.store.receipt(command.command_id or "") is not None:
            raise Violation(f"a conflict is shown to its own author: {command.command_id}: {error.code}: {error}")
        if not self._was_impossible(command, error, head, at):
            raise Violation(f"refused, on no state there was meanwhile: {command.command_id}: {error.code}: {error}")

    def _was_impossible(self, command: Command, error: Impossible, head: int, at: datetime) -> bool:
        """Whether it was impossible at some time between being told and being answered."""
        case_id = self._case_of(command)
        if case_id is None or error.code.endswith((".unknown", ".exists")) or error.code == "command.invalid":
            return True
        events = self.disk.store.load(case_id)
        known = sum(entry.position <= head for entry in events)
        for count in range(len(events), known - 1, -1):
            case = fold(case_id, events[:count])
            policy = book().by_sha256(case.pins.sha256) if case.pins is not None else None
            if policy is None:
                return True
            try:
                decide(case, command, DecisionContext(at, policy))
            except Impossible as again:
                if again.code == error.code:
                    return True
            except LookupError:
                return True  # what it is about was not there yet
        return False

    def _case_of(self, command: Command) -> str | None:
        kind, name = command.target or StreamId("order", getattr(command, "order_id", ""))
        if kind == "order":
            return name if self.disk.store.load(name) else None
        return self.disk.store.case_of(kind, name)


def answer_of(outcome: Outcome) -> tuple[object, ...]:
    """What must be the same whenever it is asked again."""
    return outcome.command, outcome.at, outcome.outcome, tuple(outcome.recorded_events), outcome.findings


def payment_at_the_gateway(order_id: str, payment_id: str) -> str:
    """What the gateway calls a payment: shops call it ``p-1`` in every order."""
    return f"{order_id}/{payment_id}"


def as_paid(fields: dict[str, Any], now: datetime) -> dict[str, Any]:
    """The same command; an order is placed before the gateway takes money for it, whatever the clock of its host says.

    Of a payment that is not captured in full nothing is captured yet; webhooks tell what is captured later.
    """
    if fields["command"] == "confirm_order" and isinstance(fields.get("payments"), list):
        payments = [each | {"captured": "0"} if "captured" in each else each for each in fields["payments"]]
        return {"placed_at": now - timedelta(days=1)} | fields | {"payments": payments}
    return fields

"""Who acts in the shop: hosts, a worker that pays, one that hears notices, timers, projectors, readers; what strikes them.

Each of them can be cut off at any turn and goes on from what is stored. What each does in one round is a method of its
own, so that the shop can be brought to rest by the same code when nothing strikes any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any, TypeVar

from bench.proofs.simulator.machine import Process, lose_power
from bench.proofs.simulator.scheduler import MILLISECOND, MINUTE, SECOND, Scheduler
from bench.proofs.simulator.shop import NOT_TOLD, Shop, Views, Violation, as_paid, payment_at_the_gateway
from returnable.domain.case import Case, fold
from returnable.domain.commands import Command, ConfirmOrder, RecordArrival, parse_command
from returnable.domain.effects.payments import (
    GatewayRefused,
    GatewayTimeout,
    PaymentNotice,
    RefundNotice,
    RefundReceipt,
    refund_key,
)
from returnable.domain.errors import Impossible
from returnable.domain.events import RefundRequested
from returnable.domain.money import to_major
from returnable.domain.outcome import Outcome
from returnable.domain.ports import Recorded
from returnable.projections.follow import Projector
from returnable.testing.behaviour import Behaviour, SeededDice

T = TypeVar("T")

WILD, SPOILT = 0.04, 0.03


class Role:
    """Somebody who does something at every moment of the shop, until it closes."""

    def __init__(self, name: str, shop: Shop) -> None:
        self.name = name
        self.shop = shop
        self.scheduler: Scheduler = shop.scheduler
        self.dice: Random = shop.dice(name)
        self.diligence = self.dice.choice((0.2, 0.8, 0.9))

    def play(self) -> None:
        """Take part in every moment, or sleep through some."""
        moment = 0
        while True:
            while self.shop.moment == moment and not self.shop.closing:
                self.scheduler.rest()
            if self.shop.closing:
                return
            moment = self.shop.moment
            if self.dice.random() < self.diligence:
                self.round()

    def round(self) -> None:
        raise NotImplementedError


class Host(Role):
    """A service that tells commands; where it does not learn what came, it tells the same again, often elsewhere."""

    def __init__(self, name: str, shop: Shop) -> None:
        super().__init__(name, shop)
        self.diligence = 0.9

    def round(self) -> None:
        for _ in range(self.dice.choice((1, 1, 2))):
            command = self._again() if self.dice.random() < 0.12 else self._something()
            if command is not None:
                self._insist(command)

    def _something(self) -> Command | None:
        """What somebody might do next, as far as this host knows how a case stands."""
        shop, process = self.shop, self.dice.choice(self.shop.servers)
        try:
            cases = [process.desk.case(self.dice.choice(shop.order_ids))] if shop.order_ids else []
            cases += [process.desk.case_with("arrival", name) for name in shop.arrival_ids[-2:] if cases]
        except (*NOT_TOLD, Impossible):
            return None
        fields = self._chosen(cases, process)
        fields["command_id"] = shop.new(f"{self.name}:c")
        try:
            command = parse_command(fields)
        except Impossible:
            return None
        if isinstance(command, ConfirmOrder):
            shop.capture(command)
        elif isinstance(command, RecordArrival):
            shop.arrival_ids.append(command.arrival_id)
        return command

    def _chosen(self, cases: list[Case], process: Process) -> dict[str, Any]:
        behaviour = Behaviour(cases, process.clock(), new=self.shop.new)
        while True:
            fields = behaviour.choose(SeededDice(self.dice), unrelated=WILD, mutated=SPOILT)
            made_up = fields["command"] in ("record_refund_result", "record_refund", "record_capture")  # the gateway's
            if not made_up and (fields["command"] != "confirm_order" or not cases or self._is_new(fields)):
                return as_paid(fields, self.shop.now())

    def _is_new(self, fields: dict[str, Any]) -> bool:
        order_id = fields.get("order_id")
        return isinstance(order_id, str) and order_id.startswith("A-") and order_id not in self.shop.order_ids

    def _again(self) -> Command | None:
        """What was told before, by anybody: a double click, a queue that delivers twice."""
        told = [each for each in self.shop.told.values() if each.answer is not None or each.doubts]
        return self.dice.choice(told[-6:]).command if told else None

    def _insist(self, command: Command) -> None:
        process = self.dice.choice(self.shop.servers)
        for _ in range(8):
            if self.shop.tell(process, command) is not None:
                return
            self.scheduler.sleep(self.dice.choice((1, 20 * MILLISECOND, SECOND, 2 * MINUTE)))
            if self.dice.random() < 0.7:
                process = self.dice.choice(self.shop.servers)


class Alone(Role):
    """A process of its own, which begins anew whenever it was killed."""

    def __init__(self, name: str, shop: Shop) -> None:
        super().__init__(name, shop)
        self.process = shop.process(name)

    def round(self) -> None:
        try:
            self.work()
        except NOT_TOLD:
            self.scheduler.note("is cut off")

    def work(self) -> None:
        raise NotImplementedError

    def tell_for_sure(self, command: Command) -> bool:
        """Tell what has happened outside, and say whether the desk knows it now.

        Nobody may refuse it, unless the clock of this process has not come so far.
        """
        came = self.shop.tell(self.process, command)
        if isinstance(came, Impossible) and "in the future" not in came.message:
            raise Violation(f"what happened outside is refused: {command.command_id}: {came.code}: {came}")
        return isinstance(came, Outcome)


class PaymentWorker(Alone):
    """Pays what is requested and pending. It remembers nothing: the events, and the gateway's books, say all.

    An unknown outcome is settled by ``find`` before anything is tried again, and then under the same key.
    """

    def work(self) -> None:
        for case_id, refund_id in self.open_refunds():
            self._pay(case_id, refund_id)

    def open_refunds(self) -> list[tuple[str, str]]:
        """The refunds of which something is pending, with their cases."""
        events = self.process.line.read(0, 10_000)
        case_ids = dict.fromkeys(entry.case_id for entry in events if isinstance(entry.event, RefundRequested))
        return [
            (case_id, refund.refund_id)
            for case_id in case_ids
            for refund in fold(case_id, self.process.line.load(case_id)).refunds.values()
            if refund.elsewhere is None and refund.pending
        ]

    def _pay(self, case_id: str, refund_id: str) -> None:
        case = fold(case_id, self.process.line.load(case_id))
        refund = case.refunds[refund_id]
        for tender in refund.requested.tenders:
            if not refund.tenders[tender.payment_id].pending:
                continue
            payment = payment_at_the_gateway(case_id, tender.payment_id)
            if tender.payout_id is not None:
                payout = payment_at_the_gateway(case_id, tender.payout_id)
                self.shop.gateway.pays_out(payout, instead_of=payment)
                payment = payout
            key = refund_key(refund_id, tender.payment_id)
            receipt = self._settled(key, payment, tender.amount, refund.currency)
            for command in receipt.commands() if receipt is not None else ():
                self.tell_for_sure(command)

    def _settled(self, key: str, payment: str, amount: int, currency: str) -> RefundReceipt | None:
        gateway = self.shop.gateway
        try:
            found = self._ask(f"find {key}", lambda: gateway.find(key))
            if found is not None:
                return found
            return self._ask(
                f"refund {key}",
                lambda: gateway.refund(key=key, payment_id=payment, amount=amount, currency=currency),
            )
        except GatewayTimeout:
            return self.when_unknown(key)
        except GatewayRefused as refused:
            return refused.receipt

    def when_unknown(self, key: str) -> RefundReceipt | None:
        """Nothing is told, and nothing tried: the next round asks what became of it."""
        return None

    def _ask(self, what: str, call: Callable[[], T]) -> T:
        self.process.line.yield_point(what)
        try:
            return call()
        finally:
            self.process.line.yield_point(f"{what}: back")


class NoticeReader(Alone):
    """Tells the desk what the gateway's webhooks say, in whatever order and as often as they come.

    The gateway sends a webhook again until somebody has told it.
    """

    def __init__(self, name: str, shop: Shop) -> None:
        super().__init__(name, shop)
        self._untold: list[RefundNotice | PaymentNotice] = []

    def work(self) -> None:
        self._untold += self.shop.gateway.webhooks()
        self.dice.shuffle(self._untold)
        for notice in self._untold.copy():
            often = self.dice.choice((1, 1, 2)) if self.shop.troubles.outside else 1
            if all(self.tell_for_sure(command) for command in (*_commands_of(notice),) * often):
                self._untold.remove(notice)


def _commands_of(notice: RefundNotice | PaymentNotice) -> Iterable[Command]:
    if isinstance(notice, RefundNotice):
        return (notice.command(),)
    order_id, _, payment_id = notice.payment_id.partition("/")
    return replace(notice, payment_id=payment_id).commands(order_id=order_id)


class Outsider(Role):
    """Moves money without the desk: captures what was authorised, pays back in the gateway's own pages, disputes."""

    def __init__(self, name: str, shop: Shop) -> None:
        super().__init__(name, shop)
        self.diligence = self.dice.choice((0.0, 0.0, 0.1, 0.4))
        self._references: list[str] = []

    def round(self) -> None:
        shop, gateway = self.shop, self.shop.gateway
        known = [case.order for case in map(shop.stored_case, shop.order_ids) if case.seq]
        payments = [(order, payment) for order in known for payment in order.confirmed.payments if payment.amount]
        if not payments:
            return
        order, payment = self.dice.choice(payments)
        name = payment_at_the_gateway(order.order_id, payment.payment_id)
        if payment.captured is not None and self.dice.random() < 0.6:
            what, amount = "capture", self.dice.choice((payment.amount, payment.amount // 2 or 1))
        else:
            what = self.dice.choice(("elsewhere", "goodwill", "dispute", "comes back"))
            amount = self.dice.choice((payment.amount, payment.amount // 3 or 1, 1))
        major = to_major(amount, order.currency)
        with suppress(ValueError):  # the gateway refuses it
            if what == "capture":
                gateway.captures(name, major, order.currency)
            elif what == "dispute":
                self._references.append(gateway.opens_dispute(name, major))
            elif what != "comes back":
                self._references.append(gateway.pays_back(name, major, kind=what))
            elif self._references:
                gateway.comes_back(self.dice.choice(self._references))
            shop.seen[f"money that moved elsewhere: {what}"] += 1


class Timer(Alone):
    """Has recorded what fell due; several of them run at the same moments."""

    _due: Command | None = None

    def work(self) -> None:
        command = self._due or parse_command({"command": "run_deadlines", "command_id": self.shop.new(self.name)})
        # Where nobody knows whether it was done, the same run is asked for again.
        self._due = command
        if isinstance(self.shop.tell(self.process, command), Outcome):
            self._due = None


class Following(Alone):
    """Keeps the stored views up to date, in small batches, beside others who do the same."""

    def work(self) -> None:
        views: Any = _Hands(self.shop.views, self.process)
        line: Any = self.process.line
        batch = self.dice.randint(1, 8)
        Projector(line, views, self.process.desk.policy, cases_in_batch=1, positions_in_batch=batch).run()


class _Hands:
    """The stored views as a process has them in its hands: where it dies while it saves, its transaction is undone."""

    def __init__(self, views: Views, process: Process) -> None:
        self._views = views
        self._process = process

    def __getattr__(self, name: str) -> Any:
        return getattr(self._views, name)

    def save(self, *args: Any) -> bool:
        """Save rows and positions, or die of it."""
        self._views.saved_by = self._process
        try:
            return self._views.save(*args)
        finally:
            self._views.saved_by = None


class Reader(Alone):
    """Reads the log as it grows, from where it was."""

    def __init__(self, name: str, shop: Shop) -> None:
        super().__init__(name, shop)
        self.read: list[Recorded] = []

    def work(self) -> None:
        while True:
            after = self.read[-1].position if self.read else 0
            events = self.process.line.read(after, self.dice.randint(1, 5))
            if not events:
                return
            self.read += events


class Conductor(Role):
    """Opens one moment after the other, at which everybody acts at once, and strikes in between."""

    def __init__(self, name: str, shop: Shop, moments: int) -> None:
        super().__init__(name, shop)
        self._moments = moments

    def play(self) -> None:
        for _ in range(self._moments):
            self.scheduler.sleep(self._until_the_next())
            self.shop.moment += 1
            self.scheduler.note(f"moment {self.shop.moment}")
            self.scheduler.wake(lambda: self.dice.randint(0, 20) * MILLISECOND)
            self._strike()
        self.shop.closing = True
        self.scheduler.wake(lambda: 0)

    def _until_the_next(self) -> int:
        """Microseconds; mostly nothing, sometimes to where something ends."""
        cases = [self.shop.stored_case(name) for name in self.shop.order_ids] if self.dice.random() < 0.3 else []
        begun = [case for case in cases if case.seq]
        at = self.shop.now()
        later = Behaviour(begun, at).later(SeededDice(self.dice), near_edges=0.5 if begun else 0.05)
        return max(self.dice.randint(20, 150) * MILLISECOND, (later - at) // timedelta(microseconds=1))

    def _strike(self) -> None:
        troubles = self.shop.troubles
        if self.dice.random() < troubles.strikes:
            self.scheduler.sleep(self.dice.randint(0, 60) * MILLISECOND)
            self.dice.choice(self.shop.processes).kill()
        if self.dice.random() < troubles.skew / 5:
            self.dice.choice(self.shop.processes).set_clock()
        if self.dice.random() < troubles.power_losses:
            self.scheduler.sleep(self.dice.randint(0, 60) * MILLISECOND)
            self.scheduler.note("the power is lost")
            lose_power(self.shop.disk, self.shop.processes)
            self.shop.views.lose_power()
        elif troubles.power_losses and self.dice.random() < 0.3:
            self.shop.views.flush()

"""Refund: its state, how events change it, and what refunds are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Literal, NamedTuple

from returnable.domain.aggregate import shallow_copy
from returnable.domain.claims import Claim
from returnable.domain.deadlines import Happened, passed
from returnable.domain.deciding import DecisionContext, Weighing
from returnable.domain.events import (
    Event,
    RefundAnswer,
    RefundFailed,
    RefundOverdue,
    RefundRecorded,
    RefundRequested,
    RefundSettled,
)
from returnable.domain.ids import StreamId
from returnable.domain.lifecycles import NOTHING, REFUND
from returnable.domain.order.state import Held, Order
from returnable.domain.returns.state import Return


class Answer(NamedTuple):
    """An answer of the payment provider. The same answer told twice is one answer, whatever time it names."""

    payment_id: str
    result: Literal["succeeded", "failed"]
    reference: str | None
    amount: int
    currency: str
    at: datetime
    """When the provider settled it."""


@dataclass(frozen=True, slots=True)
class TenderState:
    """How much of a tender was paid back and how much failed, in minor units. The rest is pending."""

    payment_id: str
    asked: int
    payout_id: str | None = None
    settled: int = 0
    failed: int = 0
    paid_by: frozenset[str] = frozenset()
    """Other ids under which the provider paid it."""

    @property
    def pending(self) -> int:
        """What has no answer yet."""
        return max(0, self.asked - self.settled - self.failed)

    @property
    def status(self) -> Literal["requested", "settled", "failed"]:
        """``requested`` while something of it is pending."""
        return "requested" if self.pending else "failed" if self.failed else "settled"

    def settle(self, amount: int) -> TenderState:
        """That much was paid back: of what is pending first, then of what failed before."""
        settled = self.settled + amount
        return replace(self, settled=settled, failed=max(0, min(self.failed, self.asked - settled)))

    def fail(self, amount: int) -> TenderState:
        """That much of what is pending was not paid back."""
        return replace(self, failed=self.failed + amount)

    def reverse(self, amount: int) -> TenderState:
        """That much of what was paid back came back to the shop."""
        settled = self.settled - amount
        return replace(self, settled=settled, failed=max(0, min(self.asked - settled, self.failed + amount)))


@dataclass
class Refund:
    """A refund as its events make it. They are in the stream of what it pays for.

    One that the desk did not ask for is in the stream of its order, and has :attr:`elsewhere` in the place of ``request``.
    """

    refund_id: str
    stream: str
    status: str = NOTHING
    request: RefundRequested | None = None
    """What the desk asked for; ``None`` where it did not ask."""
    requested_by: int = 0
    """The version of the event that requested or recorded it."""
    elsewhere: RefundRecorded | None = None
    """What was paid without the desk's asking."""
    tenders: dict[str, TenderState] = field(default_factory=dict)
    """Payment id → what became of its tender."""
    references: dict[str, tuple[datetime, str]] = field(default_factory=dict)
    """Payment id → when the provider answered last about its tender with a reference, and that reference."""
    answers: tuple[Answer, ...] = ()
    settled_at: datetime | None = None
    """When the last of what went back was settled."""
    overdue_by: int | None = None
    """The version of the event that says it is overdue."""
    ended: Happened | None = None
    """When it was settled first, or failed without having been settled."""
    completed: bool = False
    """Whether all of it was settled once, even if money came back later."""

    @property
    def requested(self) -> RefundRequested:
        """What the desk asked for; only of a refund that it asked for."""
        assert self.request is not None
        return self.request

    @property
    def subject(self) -> StreamId:
        """What it pays for."""
        return StreamId.parse(self.stream)

    @property
    def currency(self) -> str:
        """ISO 4217."""
        return (self.elsewhere or self.requested).currency

    @property
    def total(self) -> int:
        """What was asked for, in minor units."""
        return sum(tender.asked for tender in self.tenders.values())

    @property
    def settled(self) -> int:
        """What has gone back, in minor units."""
        return sum(tender.settled for tender in self.tenders.values())

    @property
    def pending(self) -> int:
        """What has no answer yet, in minor units."""
        return sum(tender.pending for tender in self.tenders.values())

    @property
    def paid_short(self) -> bool:
        """Whether a part of a tender was paid and the rest of it is pending."""
        return self.status == "requested" and any(t.settled and t.pending for t in self.tenders.values())

    @property
    def complete(self) -> bool:
        """Whether every tender is settled."""
        return all(tender.status == "settled" for tender in self.tenders.values())

    @property
    def may_lapse(self) -> bool:
        """Whether the passing of its deadline is still to be recorded."""
        return self.status == "requested" and self.overdue_by is None

    def overdue(self, moment: datetime) -> bool:
        """Whether it should have been settled by then."""
        return self.status == "requested" and passed("returns.refund_timing", self.requested.overdue_at, moment)

    def named(self, payment_id: str) -> list[TenderState]:
        """The tenders that an answer with that id is about: of that payment, or paid by that payout."""
        return [
            t for t in self.tenders.values() if payment_id in (t.payment_id, t.payout_id) or payment_id in t.paid_by
        ]

    def concerned(self, payment_id: str) -> list[TenderState]:
        """The tenders that an answer with that id is about. One that no tender knows pays for those that are open."""
        named = self.named(payment_id)
        return named or [t for t in self.tenders.values() if t.settled < t.asked] or list(self.tenders.values())[:1]

    def taken_back(self, payment_id: str, result: str, reference: str | None, at: datetime) -> Answer | None:
        """The known answer that takes an answer back: the opposite about the same reference, settled later.

        Answers are learnt in any order. What the provider settled last about a reference holds.
        """
        if reference is None:
            return None
        same = [known for known in self.answers if (known.payment_id, known.reference) == (payment_id, reference)]
        return next((known for known in same if known.result != result and known.at > at), None)

    def clone(self) -> Refund:
        """A copy that can be changed without touching this one."""
        new = shallow_copy(self)
        new.tenders, new.references = dict(self.tenders), dict(self.references)
        return new

    def apply(self, event: Event, version: int) -> None:
        """Apply the event that has that version in the stream; raises ``HistoryBroken`` where the lifecycle forbids it."""
        before, self.status = self.status, REFUND.after(self.status, event.type)
        if isinstance(event, RefundAnswer):
            self._answer(event)
            states = {tender.status for tender in self.tenders.values()}
            self.status = REFUND.after(before, event.type, "requested" not in states and "failed" in states)
        elif isinstance(event, RefundRequested):
            self.request, self.requested_by = event, version
            self.tenders = {t.payment_id: TenderState(t.payment_id, t.amount, t.payout_id) for t in event.tenders}
        elif isinstance(event, RefundRecorded):
            self._record(event, version)
        elif isinstance(event, RefundOverdue):
            self.overdue_by = self.overdue_by or version
        if self.status == "refunded" and not self.completed:
            self.ended, self.completed = Happened(event.occurred_at, version), True
        elif self.status == "failed" and before == "requested" and not self.completed:
            self.ended = Happened(event.occurred_at, version)

    def _record(self, event: RefundRecorded, version: int) -> None:
        self.elsewhere, self.requested_by, self.settled_at = event, version, event.occurred_at
        for tender in event.tenders:
            name, amount = tender.payment_id, tender.amount
            before = self.tenders.get(name)  # the payment itself, and what stands for it
            paid = amount if before is None else before.settled + amount
            self.tenders[name] = TenderState(name, paid, tender.payout_id, settled=paid)
            self.answers += (Answer(name, "succeeded", tender.reference, amount, event.currency, event.occurred_at),)
            if tender.reference is not None:
                self.references[name] = event.occurred_at, tender.reference

    def _answer(self, event: RefundAnswer) -> None:
        settles = isinstance(event, RefundSettled)
        result: Literal["succeeded", "failed"] = "succeeded" if settles else "failed"
        later = self.taken_back(event.payment_id, result, event.reference, event.occurred_at)
        self.answers += (
            Answer(event.payment_id, result, event.reference, event.amount, event.currency, event.occurred_at),
        )
        if later is not None:
            return
        left = event.amount if event.currency == self.currency else 0
        known = bool(self.named(event.payment_id))
        concerned = self.concerned(event.payment_id) if settles else self.named(event.payment_id)
        for tender in concerned:
            room = tender.asked - tender.settled if settles else tender.settled
            taken = min(left, max(0, tender.pending if isinstance(event, RefundFailed) else room))
            left -= taken
            if settles:
                paid_by = tender.paid_by if known else tender.paid_by | {event.payment_id}
                self.tenders[tender.payment_id] = replace(tender.settle(taken), paid_by=paid_by)
            elif isinstance(event, RefundFailed):
                self.tenders[tender.payment_id] = tender.fail(taken)
            else:
                self.tenders[tender.payment_id] = tender.reverse(taken)
            if event.reference is not None:
                told = event.occurred_at, event.reference
                self.references[tender.payment_id] = max(told, self.references.get(tender.payment_id, told))
        if settles:  # more than was asked for
            name = concerned[0].payment_id if concerned else event.payment_id
            self.tenders[name] = self.tenders.get(name, TenderState(name, 0)).settle(left)
            self.settled_at = max(event.occurred_at, self.settled_at or event.occurred_at)


def due_by(attempts: Sequence[Refund]) -> int:
    """What all attempts of one subject should pay together, by the latest request."""
    return attempts[-1].requested.due if attempts else 0


def credits_lost(refunds: Mapping[str, Refund], attempts: Sequence[Refund], others: Iterable[Sequence[Refund]]) -> int:
    """How much of what was credited by the latest request is not there any more, because a refund made elsewhere came back.

    ``others``: the attempts of the other subjects, whose credits come first.
    """
    used = Counter[str]()
    for other in others:
        used.update({credit.refund_id: credit.amount for credit in other[-1].requested.credits})
    credits = attempts[-1].requested.credits if attempts else ()
    paid = {each.refund_id: refunds[each.refund_id].settled - used[each.refund_id] for each in credits}
    return sum(
        max(0, credit.amount - max(0, paid[credit.refund_id]))
        for credit in credits
        if refunds[credit.refund_id].elsewhere is not None
    )


def on_its_way(attempts: Iterable[Refund]) -> int:
    """What went back or is pending, in all attempts."""
    return sum(refund.settled + refund.pending for refund in attempts)


def going_back(refunds: Iterable[Refund]) -> Counter[str]:
    """Payment → what went back to it or is pending, in all of these refunds."""
    going = Counter[str]()
    for refund in refunds:
        for tender in refund.tenders.values():
            going[tender.payment_id] += tender.settled + tender.pending
    return going


def attempts_by_stream(refunds: Iterable[Refund]) -> dict[str, list[Refund]]:
    """Stream → the refunds that the desk asked for in it, oldest first."""
    found: dict[str, list[Refund]] = {}
    for refund in refunds:
        if refund.elsewhere is None:
            found.setdefault(refund.stream, []).append(refund)
    return found


def unpaid(attempts: Sequence[Refund]) -> Counter[str]:
    """Payment id → what should have gone back to it, but failed and was not asked for again."""
    failed = Counter[str]()
    for refund in attempts:
        for name, tender in refund.tenders.items():
            failed[name] = max(0, failed[name] - tender.asked) + tender.failed
    open_, found = due_by(attempts) - on_its_way(attempts), Counter[str]()
    for name, amount in failed.items():
        found[name] = max(0, min(open_ - found.total(), amount))
    return +found


@dataclass(frozen=True)
class RefundSubject:
    """What a refund is asked for: a return, a claim or a cancellation, with the rest of its case around it."""

    subject: Order | Return | Claim
    order: Order
    refunds: Sequence[Refund]
    """All refunds of the case, oldest first."""
    held: Mapping[str, Held]
    """Line → the units that are in a return or claim."""
    returns: Mapping[str, Return]
    """The returns of the case."""

    @property
    def stream(self) -> str:
        """The stream to which the events of its refunds belong."""
        return self.subject.stream

    @property
    def attempts(self) -> Sequence[Refund]:
        """The refunds that the desk asked for it, oldest first."""
        return self._attempts_by_stream.get(self.stream, ())

    def others(self) -> Iterator[Sequence[Refund]]:
        """The attempts of each other subject of the case."""
        return (attempts for stream, attempts in self._attempts_by_stream.items() if stream != self.stream)

    @cached_property
    def _attempts_by_stream(self) -> dict[str, list[Refund]]:
        return attempts_by_stream(self.refunds)

    def weighing(self, now: DecisionContext) -> Weighing:
        """An empty ruling, with the overrides in force for the order and for what is paid back."""
        return now.weighing(RefundRequested, self.order, self.subject)

"""Refund: its state, how events change it, and what refunds are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from returnable.domain.aggregate import shallow_copy
from returnable.domain.claims import Claim
from returnable.domain.deadlines import Happened, passed
from returnable.domain.deciding import DecisionContext, Weighing
from returnable.domain.events import Event, RefundFailed, RefundOverdue, RefundRequested, RefundSettled, Tender
from returnable.domain.ids import StreamId
from returnable.domain.lifecycles import NOTHING, REFUND
from returnable.domain.order.state import Held, Order
from returnable.domain.returns.state import Return


@dataclass
class Refund:
    """A refund as its events make it. They are in the stream of what it pays for.

    ``tenders``: payment id → ``requested``, ``settled`` or ``failed``.
    """

    refund_id: str
    stream: str
    status: str = NOTHING
    requested: RefundRequested = field(init=False)
    requested_by: int = 0
    """The version of the event that requested it."""
    tenders: dict[str, str] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    overdue_by: int | None = None
    """The version of the event that says it is overdue."""
    ended: Happened | None = None
    """When it was settled, or failed."""

    @property
    def subject(self) -> StreamId:
        """What it pays for."""
        return StreamId.parse(self.stream)

    @property
    def total(self) -> int:
        """What goes back, in minor units."""
        return sum(tender.amount for tender in self.requested.tenders)

    @property
    def settled(self) -> int:
        """What has gone back, in minor units."""
        return sum(t.amount for t in self.requested.tenders if self.tenders[t.payment_id] == "settled")

    def unsettled_tenders(self) -> tuple[Tender, ...]:
        """The tenders that have not gone back."""
        return tuple(t for t in self.requested.tenders if self.tenders[t.payment_id] != "settled")

    @property
    def may_lapse(self) -> bool:
        """Whether the passing of its deadline is still to be recorded."""
        return self.status == "requested" and self.overdue_by is None

    def overdue(self, moment: datetime) -> bool:
        """Whether it should have been settled by then."""
        return self.status == "requested" and passed("returns.refund_timing", self.requested.overdue_at, moment)

    def clone(self) -> Refund:
        """A copy that can be changed without touching this one."""
        new = shallow_copy(self)
        new.tenders, new.references = dict(self.tenders), dict(self.references)
        return new

    def apply(self, event: Event, version: int) -> None:
        """Apply the event that has that version in the stream; raises ``HistoryBroken`` where the lifecycle forbids it."""
        if isinstance(event, RefundRequested):
            self.status = REFUND.after(self.status, event.type)
            self.requested, self.requested_by = event, version
            self.tenders = {tender.payment_id: "requested" for tender in event.tenders}
        elif isinstance(event, RefundSettled | RefundFailed):
            self.tenders[event.payment_id] = "settled" if isinstance(event, RefundSettled) else "failed"
            if event.reference is not None:
                self.references[event.payment_id] = event.reference
            answers = set(self.tenders.values())
            self.status = REFUND.after(self.status, event.type, "requested" not in answers and "failed" in answers)
        else:
            self.status = REFUND.after(self.status, event.type)
            if isinstance(event, RefundOverdue):
                self.overdue_by = self.overdue_by or version
        if self.status != "requested":
            self.ended = Happened(event.occurred_at, version)


@dataclass(frozen=True, slots=True)
class RefundSubject:
    """What a refund is asked for: a return, a claim or a cancelled order, with the rest of its case around it."""

    subject: Order | Return | Claim
    order: Order
    refunds: Sequence[Refund]
    """All refunds of the case, oldest first."""
    held: Mapping[str, Held]
    """Line → the units that are in a return or claim."""

    @property
    def stream(self) -> str:
        """The stream to which the events of its refunds belong."""
        return self.subject.stream

    @property
    def attempts(self) -> list[Refund]:
        """Its own refunds, oldest first."""
        return [refund for refund in self.refunds if refund.stream == self.stream]

    @property
    def settled(self) -> int:
        """What went back for it in all attempts, in minor units."""
        return sum(refund.settled for refund in self.attempts)

    def weighing(self, now: DecisionContext) -> Weighing:
        """An empty ruling, with the overrides in force for the order and for what is paid back."""
        return now.weighing(RefundRequested, self.order, self.subject)

"""Where the day-counted windows of a policy become instants, and where a decision made again finds them.

The first time, an instant follows from the clause, the zone and the calendar. It is recorded, and from then on the record
says what it is: a time zone database or a holiday table of a later day moves no deadline that was given.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING

from returnable.domain.calendar import ONE_DAY, first_instant, last_day, window_end
from returnable.domain.events import Delivered, Fact, LabelIssued, LabelReceived, RefundRequested

if TYPE_CHECKING:
    from returnable.domain.policy import Policy


@dataclass(frozen=True, slots=True)
class RefundTiming:
    """The first and last local day on which a refund is expected, and the instant from which it is overdue."""

    expected_from: date
    expected_to: date
    overdue_at: datetime


class Deadlines:
    """Resolves the windows of a policy."""

    __slots__ = ("_policy",)

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def of_delivery(self, delivered_at: datetime) -> tuple[datetime, datetime]:
        """The exclusive ends of ``returns.window`` and of ``wrong_item.window`` for units delivered then."""
        policy = self._policy
        window, wrong_item = policy.clauses.returns_window, policy.clauses.wrong_item_window
        return (
            window_end(delivered_at, window.days, window.counting, policy.zone, policy.days),
            window_end(delivered_at, wrong_item.business_days, "business", policy.zone, policy.days),
        )

    def of_label(self, issued_at: datetime, received_at: datetime | None) -> datetime:
        """When a label voids by itself (``returns.ship_by``): the exclusive end of its last business day."""
        policy = self._policy
        clause = policy.clauses.returns_ship_by
        by_receipt = clause.anchor == "label_received" and received_at is not None
        anchor = received_at if by_receipt and received_at is not None else issued_at
        return window_end(anchor, clause.business_days, "business", policy.zone, policy.days)

    def of_refund(self, issued_at: datetime) -> RefundTiming:
        """When a refund issued then is expected (``returns.refund_timing``)."""
        policy = self._policy
        counts = policy.clauses.returns_refund_timing.business_days
        first, last = (last_day(issued_at, count, "business", policy.zone, policy.days) for count in counts)
        return RefundTiming(first, last, first_instant(last + ONE_DAY, policy.zone))


class AsRecorded(Deadlines):
    """The deadlines as a recorded fact has them; what it does not have is resolved."""

    __slots__ = ("_fact",)

    def __init__(self, policy: Policy, fact: Fact) -> None:
        super().__init__(policy)
        self._fact = fact

    def of_delivery(self, delivered_at: datetime) -> tuple[datetime, datetime]:
        fact = self._fact
        if isinstance(fact, Delivered):
            return fact.return_before, fact.report_before
        return super().of_delivery(delivered_at)

    def of_label(self, issued_at: datetime, received_at: datetime | None) -> datetime:
        fact = self._fact
        if isinstance(fact, LabelIssued | LabelReceived):
            return fact.void_at
        return super().of_label(issued_at, received_at)

    def of_refund(self, issued_at: datetime) -> RefundTiming:
        fact = self._fact
        if isinstance(fact, RefundRequested):
            return RefundTiming(fact.expected_from, fact.expected_to, fact.overdue_at)
        return super().of_refund(issued_at)

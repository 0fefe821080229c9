"""The refund view: what was asked for, or what would be paid now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from returnable.domain.calendar import zone
from returnable.domain.deciding import Moment
from returnable.domain.events import Deduction, RefundItem
from returnable.domain.money import to_major
from returnable.domain.outcome import in_zone
from returnable.domain.policy import Policy
from returnable.domain.reasons import deduction_because
from returnable.domain.refunds import Refund, RefundSubject, allocate, settled_so_far
from returnable.projections.views import (
    DeductionView,
    RefundItemView,
    RefundView,
    SubjectView,
    TenderView,
)


def refund_view(refund: Refund, policy: Policy, moment: datetime) -> RefundView:
    """How the refund stands at ``moment``."""
    asked = refund.requested
    where = zone(policy.zone)
    tenders = tuple(
        TenderView.model_validate(
            {
                "payment_id": tender.payment_id,
                "amount": to_major(tender.amount, asked.currency),
                "status": refund.tenders[tender.payment_id],
                "reference": refund.references.get(tender.payment_id),
            }
        )
        for tender in asked.tenders
    )
    return _view(
        refund.refund_id,
        refund.status,
        refund.subject,
        asked.currency,
        asked.items,
        asked.shipping,
        asked.deductions,
        asked.settled_before,
        refund.total,
        tenders,
        in_zone(asked.occurred_at, where),
        (asked.expected_from.isoformat(), asked.expected_to.isoformat()),
        refund.overdue(moment),
    )


def due_view(subject: RefundSubject, policy: Policy, now: Moment) -> RefundView:
    """What would be paid if the refund were requested at ``now``; nothing where the policy owes nothing yet."""
    currency = subject.order.currency
    weighing = subject.weighing(now)
    kind, _, name = subject.stream.partition("/")
    owed = subject.owed(weighing)
    allocation = policy.clauses.returns_original_tender.allocation
    split = allocate(subject.order, owed.total, subject.refunds, subject.stream, allocation) if owed.items else ()
    tenders = tuple(
        TenderView(payment_id=tender.payment_id, amount=to_major(tender.amount, currency), status="due", reference=None)
        for tender in split
    )
    before = settled_so_far(subject.refunds, subject.stream)
    return _view(
        None,
        "due",
        (kind, name),
        currency,
        owed.items,
        owed.shipping,
        owed.deductions,
        before,
        sum(tender.amount for tender in split),
        tenders,
        None,
        None,
        False,
    )


def _view(
    refund_id: str | None,
    status: str,
    subject: tuple[str, str],
    currency: str,
    items: Sequence[RefundItem],
    shipping: int,
    deductions: Sequence[Deduction],
    settled_before: int,
    total: int,
    tenders: tuple[TenderView, ...],
    issued_at: str | None,
    expected_between: tuple[str, str] | None,
    overdue: bool,
) -> RefundView:
    merchandise, tax = sum(item.merchandise for item in items), sum(item.tax for item in items)
    return RefundView.model_validate(
        {
            "refund_id": refund_id,
            "status": status,
            "for": SubjectView.model_validate({"kind": subject[0], "id": subject[1]}),
            "currency": currency,
            "merchandise": to_major(merchandise, currency),
            "tax": to_major(tax, currency),
            "shipping": to_major(shipping, currency),
            "deductions": tuple(
                DeductionView(
                    clause=deduction.clause,
                    amount=to_major(deduction.amount, currency),
                    because=deduction_because(deduction.clause, deduction.facts),
                )
                for deduction in deductions
            ),
            "settled_before": to_major(settled_before, currency),
            "total": to_major(total, currency),
            "items": tuple(
                RefundItemView(
                    line_id=item.line_id,
                    quantity=item.quantity,
                    merchandise=to_major(item.merchandise, currency),
                    tax=to_major(item.tax, currency),
                    deducted=to_major(item.deducted, currency),
                )
                for item in items
            ),
            "tenders": tenders,
            "issued_at": issued_at,
            "expected_between": expected_between,
            "overdue": overdue,
        }
    )

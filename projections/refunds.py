"""The refund view: what was asked for, or what would be paid now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from returnable.domain.calendar import zone
from returnable.domain.deadlines import passed
from returnable.domain.deciding import DecisionContext
from returnable.domain.events import Deduction, RefundItem
from returnable.domain.ids import StreamId
from returnable.domain.money import to_major
from returnable.domain.outcome import in_zone
from returnable.domain.policy import Policy
from returnable.domain.reasons import deduction_because
from returnable.domain.refunds.owed import owed
from returnable.domain.refunds.state import Refund, RefundSubject
from returnable.domain.refunds.tenders import allocate
from returnable.projections.views import RefundView


def refund_view(refund: Refund, policy: Policy, moment: datetime) -> RefundView:
    """How the refund stands at ``moment``."""
    return RefundView.model_validate(refund_at(refund_values(refund, policy), moment))


def refund_values(refund: Refund, policy: Policy) -> dict[str, Any]:
    """What the facts say, whatever the clock: nothing is overdue."""
    asked = refund.requested
    tz = zone(policy.zone)
    return _values(
        refund.refund_id,
        refund.status,
        refund.subject,
        asked.currency,
        asked.items,
        asked.shipping,
        asked.deductions,
        asked.settled_before,
        refund.total,
        [
            {
                "payment_id": tender.payment_id,
                "amount": to_major(tender.amount, asked.currency),
                "status": refund.tenders[tender.payment_id],
                "reference": refund.references.get(tender.payment_id),
            }
            for tender in asked.tenders
        ],
        in_zone(asked.occurred_at, tz),
        [asked.expected_from.isoformat(), asked.expected_to.isoformat()],
        in_zone(asked.overdue_at, tz),
    )


def refund_at(values: Mapping[str, Any], moment: datetime) -> dict[str, Any]:
    """What :func:`refund_values` says, at ``moment``: without an answer it is overdue from its deadline on."""
    waits = values["status"] == "requested"
    at = datetime.fromisoformat(values["overdue_at"])
    return {**values, "overdue": waits and passed("returns.refund_timing", at, moment)}


def due_view(subject: RefundSubject, policy: Policy, now: DecisionContext) -> RefundView:
    """What would be paid if the refund were requested at ``now``; nothing where the policy owes nothing yet."""
    currency = subject.order.currency
    due = owed(subject, subject.weighing(now))
    allocation = policy.clauses.returns_original_tender.allocation
    split = allocate(subject, due.total, allocation) if due.items else ()
    tenders = [
        {
            "payment_id": tender.payment_id,
            "amount": to_major(tender.amount, currency),
            "status": "due",
            "reference": None,
        }
        for tender in split
    ]
    return RefundView.model_validate(
        _values(
            None,
            "due",
            StreamId.parse(subject.stream),
            currency,
            due.items,
            due.shipping,
            due.deductions,
            subject.settled,
            sum(tender.amount for tender in split),
            tenders,
            None,
            None,
            None,
        )
    )


def _values(
    refund_id: str | None,
    status: str,
    subject: tuple[str, str],
    currency: str,
    items: Sequence[RefundItem],
    shipping: int,
    deductions: Sequence[Deduction],
    settled_before: int,
    total: int,
    tenders: list[dict[str, Any]],
    issued_at: str | None,
    expected_between: list[str] | None,
    overdue_at: str | None,
) -> dict[str, Any]:
    return {
        "refund_id": refund_id,
        "status": status,
        "for": {"kind": subject[0], "id": subject[1]},
        "currency": currency,
        "merchandise": to_major(sum(item.merchandise for item in items), currency),
        "tax": to_major(sum(item.tax for item in items), currency),
        "shipping": to_major(shipping, currency),
        "deductions": [
            {
                "clause": deduction.clause,
                "amount": to_major(deduction.amount, currency),
                "because": deduction_because(deduction.clause, deduction.grounds),
            }
            for deduction in deductions
        ],
        "settled_before": to_major(settled_before, currency),
        "total": to_major(total, currency),
        "items": [
            {
                "line_id": item.line_id,
                "quantity": item.quantity,
                "merchandise": to_major(item.merchandise, currency),
                "tax": to_major(item.tax, currency),
                "deducted": to_major(item.deducted, currency),
            }
            for item in items
        ],
        "tenders": tenders,
        "issued_at": issued_at,
        "expected_between": expected_between,
        "overdue_at": overdue_at,
        "overdue": False,
    }

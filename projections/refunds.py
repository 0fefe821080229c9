"""The refund view: a refund that was requested, or what would be paid now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from returnable.domain.calendar import zone
from returnable.domain.deadlines import passed
from returnable.domain.deciding import DecisionContext
from returnable.domain.events import RefundRequested, Tender
from returnable.domain.ids import StreamId
from returnable.domain.money import to_major
from returnable.domain.outcome import in_zone
from returnable.domain.policy import Policy
from returnable.domain.reasons import deduction_because
from returnable.domain.refunds.owed import Owed, owed
from returnable.domain.refunds.state import Refund, RefundSubject
from returnable.domain.refunds.tenders import allocate
from returnable.projections.views import RefundView


def refund_view(refund: Refund, policy: Policy, moment: datetime) -> RefundView:
    """The state of the refund at ``moment``."""
    return RefundView.model_validate(refund_at(refund_values(refund, policy), moment))


def refund_values(refund: Refund, policy: Policy) -> dict[str, Any]:
    """The state of the refund by its events alone: without a clock nothing is overdue."""
    asked, tz = refund.requested, zone(policy.zone)
    return {
        "refund_id": refund.refund_id,
        "status": refund.status,
        "for": refund.subject._asdict(),
        **amounts(asked, asked.currency, asked.settled_before, refund.total),
        "tenders": [
            _tender(tender, asked.currency, refund.tenders[tender.payment_id], refund.references.get(tender.payment_id))
            for tender in asked.tenders
        ],
        "issued_at": in_zone(asked.occurred_at, tz),
        "expected_between": [asked.expected_from.isoformat(), asked.expected_to.isoformat()],
        "overdue_at": in_zone(asked.overdue_at, tz),
        "overdue": False,
    }


def refund_at(values: Mapping[str, Any], moment: datetime) -> dict[str, Any]:
    """The values of :func:`refund_values` at ``moment``: an unanswered refund is overdue from its deadline on."""
    waits = values["status"] == "requested"
    at = datetime.fromisoformat(values["overdue_at"])
    return {**values, "overdue": waits and passed("returns.refund_timing", at, moment)}


def due_view(subject: RefundSubject, policy: Policy, now: DecisionContext) -> RefundView:
    """What would be paid if the refund were requested at ``now``; nothing as long as the policy owes nothing."""
    currency = subject.order.currency
    due = owed(subject, subject.weighing(now))
    allocation = policy.clauses.returns_original_tender.allocation
    split = allocate(subject, due.total, allocation) if due.items else ()
    total = sum(tender.amount for tender in split)
    return RefundView.model_validate(
        {
            "refund_id": None,
            "status": "due",
            "for": StreamId.parse(subject.stream)._asdict(),
            **amounts(due, currency, subject.settled, total),
            "tenders": [_tender(tender, currency, "due") for tender in split],
            "issued_at": None,
            "expected_between": None,
            "overdue": False,
        }
    )


def amounts(of: RefundRequested | Owed, currency: str, settled_before: int, total: int) -> dict[str, Any]:
    """The sum of a refund, part by part; amounts as decimals."""

    def money(minor: int) -> str:
        return to_major(minor, currency)

    return {
        "currency": currency,
        "merchandise": money(sum(item.merchandise for item in of.items)),
        "tax": money(sum(item.tax for item in of.items)),
        "shipping": money(of.shipping),
        "deductions": [
            {
                "clause": deduction.clause,
                "amount": money(deduction.amount),
                "because": deduction_because(deduction.clause, deduction.grounds),
            }
            for deduction in of.deductions
        ],
        "settled_before": money(settled_before),
        "total": money(total),
        "items": [
            {
                "line_id": item.line_id,
                "quantity": item.quantity,
                "merchandise": money(item.merchandise),
                "tax": money(item.tax),
                "deducted": money(item.deducted),
            }
            for item in of.items
        ],
    }


def _tender(tender: Tender, currency: str, status: str, reference: str | None = None) -> dict[str, Any]:
    amount = to_major(tender.amount, currency)
    return {"payment_id": tender.payment_id, "amount": amount, "status": status, "reference": reference}

"""The refund view: a refund that was requested, or what would be paid now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from returnable.domain.calendar import zone
from returnable.domain.deadlines import passed
from returnable.domain.deciding import DecisionContext
from returnable.domain.events import RefundRequested
from returnable.domain.ids import StreamId
from returnable.domain.money import to_major
from returnable.domain.outcome import in_zone
from returnable.domain.policy import Policy
from returnable.domain.reasons import deduction_because
from returnable.domain.refunds.owed import Owed, owed
from returnable.domain.refunds.request import check_unsettled
from returnable.domain.refunds.state import Refund, RefundSubject
from returnable.domain.refunds.tenders import Payable, payable
from returnable.projections.views import RefundView


def refund_view(refund: Refund, policy: Policy, moment: datetime) -> RefundView:
    """The state of the refund at ``moment``."""
    return RefundView.model_validate(refund_at(refund_values(refund, policy), moment))


def refund_values(refund: Refund, policy: Policy) -> dict[str, Any]:
    """The state of the refund by its events alone: without a clock nothing is overdue."""
    tz = zone(policy.zone)
    references = {payment_id: reference for payment_id, (_, reference) in refund.references.items()}
    tenders = [
        _tender(refund.currency, tender.payment_id, tender.asked, tender.status)
        | {
            "reference": references.get(tender.payment_id),
            "settled": to_major(tender.settled, refund.currency),
            "payout_id": tender.payout_id,
        }
        for tender in refund.tenders.values()
    ]
    values = {"refund_id": refund.refund_id, "status": refund.status, "for": refund.subject._asdict()}
    if refund.elsewhere is not None:
        paid = refund.elsewhere
        return {
            **values,
            "kind": paid.kind,
            **amounts(Owed(()), paid.currency, Payable(0, (), 0, ()), refund.total),
            "tenders": tenders,
            "issued_at": in_zone(paid.occurred_at, tz),
            "expected_between": None,
            "overdue_at": None,
            "overdue": False,
        }
    asked = refund.requested
    return {
        **values,
        "kind": None,
        **amounts(asked, asked.currency, asked, refund.total),
        "tenders": tenders,
        "issued_at": in_zone(asked.occurred_at, tz),
        "expected_between": [asked.expected_from.isoformat(), asked.expected_to.isoformat()],
        "overdue_at": in_zone(asked.overdue_at, tz),
        "overdue": False,
    }


def refund_at(values: Mapping[str, Any], moment: datetime) -> dict[str, Any]:
    """The values of :func:`refund_values` at ``moment``: an unanswered refund is overdue from its deadline on."""
    waits = values["status"] == "requested"
    if not waits:
        return {**values, "overdue": False}
    at = datetime.fromisoformat(values["overdue_at"])
    return {**values, "overdue": passed("returns.refund_timing", at, moment)}


def due_view(subject: RefundSubject, policy: Policy, now: DecisionContext) -> RefundView:
    """What would be paid if the refund were requested at ``now``; nothing as long as the policy owes nothing.

    Raises what the request would raise for units that were settled by another return or claim.
    """
    currency = subject.order.currency
    due = owed(subject, subject.weighing(now))
    check_unsettled(subject, due)
    found = payable(subject, due, policy.clauses.returns_original_tender.allocation)
    return RefundView.model_validate(
        {
            "refund_id": None,
            "status": "due",
            "for": StreamId.parse(subject.stream)._asdict(),
            **amounts(due, currency, found, found.total),
            "tenders": [
                _tender(currency, tender.payment_id, tender.amount, "due") | {"payout_id": tender.payout_id}
                for tender in found.tenders
            ],
            "issued_at": None,
            "expected_between": None,
            "overdue": False,
        }
    )


def amounts(of: RefundRequested | Owed, currency: str, less: RefundRequested | Payable, total: int) -> dict[str, Any]:
    """The sum of a refund, part by part; amounts as decimals. ``less`` says what was paid already, and what is voided."""

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
        "settled_before": money(less.settled_before),
        "credits": [{"refund_id": credit.refund_id, "amount": money(credit.amount)} for credit in less.credits],
        "voided": money(less.voided),
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


def _tender(currency: str, payment_id: str, amount: int, status: str) -> dict[str, Any]:
    return {"payment_id": payment_id, "amount": to_major(amount, currency), "status": status, "reference": None}

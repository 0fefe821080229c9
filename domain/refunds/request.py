"""The request for a refund, and the results that the payment provider reports.

Clauses: those of what is owed, ``returns.original_tender``, ``returns.refund_timing``.
"""

from __future__ import annotations

from typing import Any

from returnable.domain.aggregate import not_allowed
from returnable.domain.claims import Claim
from returnable.domain.commands import RecordRefundResult, RequestRefund
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.errors import Impossible
from returnable.domain.events import RefundDeclined, Refunded, RefundFailed, RefundRequested, RefundSettled
from returnable.domain.fields import to_text
from returnable.domain.lifecycles import RETURN
from returnable.domain.money import to_major
from returnable.domain.ports import ReservedId
from returnable.domain.refunds.owed import owed
from returnable.domain.refunds.state import Refund, RefundSubject
from returnable.domain.refunds.tenders import allocate
from returnable.domain.returns.state import Return
from returnable.domain.ruling import Grounds
from returnable.domain.wording import listed


def check_may_request(about: RefundSubject, command: str) -> None:
    """Raise ``transition.not_allowed`` unless a refund can be asked for now."""
    subject, earlier = about.subject, about.attempts
    if earlier and earlier[-1].status in ("requested", "refunded"):
        last = earlier[-1]
        allowed = ("record_refund_result",) if last.status == "requested" else ()
        raise not_allowed(command, f"refund {last.refund_id} of {subject.name}", last.status, allowed)
    if not isinstance(subject, Return):
        subject.check_allows("RefundRequested", command)
    elif not RETURN.leads_to(subject.status, "RefundRequested"):
        raise subject.not_allowed(command)
    if isinstance(subject, Claim) and subject.remedy == "replacement":
        raise subject.not_allowed(command, "settled by replacement")


def request_refund(about: RefundSubject, command: RequestRefund, now: DecisionContext) -> DecisionResult:
    """Issue the refund to the original tenders, or decline it."""
    stream, order = about.stream, about.order
    check_may_request(about, command.command)
    weighing = about.weighing(now)
    due = owed(about, weighing)
    if not weighing.allowed:
        return now.decide(stream, weighing, RefundDeclined)
    about.subject.check_allows("RefundRequested", command.command)

    allocation = now.policy.clauses.returns_original_tender.allocation
    tenders = allocate(about, due.total, allocation)
    total = sum(tender.amount for tender in tenders)
    shown: list[Grounds] = [
        {"payment_id": tender.payment_id, "amount": to_major(tender.amount, order.currency)} for tender in tenders
    ]
    weighing.weigh("returns.original_tender", True, {"total": to_major(total, order.currency), "tenders": shown})

    timing = now.deadlines.of_refund(now.at)
    weighing.weigh(
        "returns.refund_timing",
        True,
        {
            "issued_at": to_text(now.at),
            "expected_from": timing.expected_from.isoformat(),
            "expected_to": timing.expected_to.isoformat(),
            "deadline": to_text(timing.overdue_at),
        },
    )
    decided = now.decide(
        stream,
        weighing,
        RefundRequested,
        reserved_ids=[ReservedId("refund", command.refund_id, order.order_id)],
        refund_id=command.refund_id,
        currency=order.currency,
        items=due.items,
        shipping=due.shipping,
        deductions=due.deductions,
        settled_before=about.settled,
        tenders=tenders,
        expected_from=timing.expected_from,
        expected_to=timing.expected_to,
        overdue_at=timing.overdue_at,
    )
    if not tenders:  # an order that cost nothing and was paid by nothing
        decided.events.append((stream, Refunded(**now.envelope(), refund_id=command.refund_id)))
    return decided


def record_result(refund: Refund, command: RecordRefundResult, now: DecisionContext) -> DecisionResult:
    """Record the payment provider's answer for one tender. When all are settled, the refund is complete."""
    tender = refund.tenders.get(command.payment_id)
    if tender is None:
        reason = f"refund {refund.refund_id} pays nothing to {command.payment_id!r}"
        raise Impossible("command.invalid", reason, field="payment_id")
    if tender != "requested":
        waiting = [payment_id for payment_id, status in refund.tenders.items() if status == "requested"]
        allowed: tuple[str, ...] = ()
        why = ""
        if waiting:
            allowed, why = ("record_refund_result",), f"no result yet for {listed(waiting)}"
        elif refund.status == "failed":
            allowed, why = ("request_refund",), "ask again under a new refund_id"
        subject = f"payment {command.payment_id} of refund {refund.refund_id}"
        raise not_allowed(command.command, subject, tender, allowed, why)
    answer: dict[str, Any] = {
        "refund_id": refund.refund_id,
        "payment_id": command.payment_id,
        "reference": command.reference,
    }
    if command.result == "failed":
        return now.record(refund.stream, RefundFailed, **answer, reason=command.reason)
    decided = now.record(refund.stream, RefundSettled, **answer)
    if all(status == "settled" for payment, status in refund.tenders.items() if payment != command.payment_id):
        decided.events.append((refund.stream, Refunded(**now.envelope(), refund_id=refund.refund_id)))
    return decided

"""The request for a refund.

Clauses: those of what is owed, ``returns.original_tender``, ``returns.refund_timing``.
"""

from __future__ import annotations

from returnable.domain.aggregate import not_allowed
from returnable.domain.claims import Claim
from returnable.domain.commands import RequestRefund
from returnable.domain.deciding import DecisionContext, DecisionResult, Weighing
from returnable.domain.errors import Impossible
from returnable.domain.events import RefundDeclined, Refunded, RefundRequested
from returnable.domain.fields import to_text
from returnable.domain.money import to_major
from returnable.domain.order.state import Held, Order
from returnable.domain.policy import Policy
from returnable.domain.ports import ReservedId
from returnable.domain.refunds.owed import Owed, owed, units_cancelled
from returnable.domain.refunds.state import RefundSubject
from returnable.domain.refunds.tenders import Payable, overpaid, payable
from returnable.domain.returns.state import Return
from returnable.domain.ruling import GrantedOverride, Grounds


def may_request(about: RefundSubject, due: Owed, policy: Policy) -> Payable | None:
    """What a request would pay now; ``None`` where earlier attempts leave nothing to ask for.

    A first request is always possible, and closes its subject even where nothing is left to pay. So is one after all attempts
    failed. Raises ``transition.not_allowed`` where its lifecycle allows none, ``quantity.exceeded`` where its units are
    settled elsewhere already, and ``money.mismatch`` where less is left of what was captured.
    """
    about.subject.check_allows("RefundRequested", "request_refund")
    check_unsettled(about, due)
    found = payable(about, due, policy.clauses.returns_original_tender.allocation)
    settled = any(refund.status != "failed" for refund in about.attempts)
    return None if settled and not found.total else found


def check_unsettled(about: RefundSubject, due: Owed) -> None:
    """Raise ``quantity.exceeded`` where units of a return were refunded by another return, settled by a claim, or cancelled.

    Another return that only has them as well does not count: of the two, the first to be refunded gets the money.
    """
    if not isinstance(about.subject, Return):
        return
    returns = {ret.name: ret for ret in about.returns.values()}
    for item in due.items:
        settled = Held()
        settled.cancelled = about.held[item.line_id].cancelled
        for name, count in about.held[item.line_id].by.items():
            settled.by[name] = returns[name].refunded.get(item.line_id, 0) if name in returns else count
        about.order.check_quantity(item.line_id, item.quantity, settled, "return_id", but=about.subject.name)


def check_may_request(about: RefundSubject, command: str) -> None:
    """Raise ``transition.not_allowed`` unless a refund of this subject can be asked for at all."""
    subject = about.subject
    if isinstance(subject, Return):  # the policy judges it in any state
        return
    if isinstance(subject, Order) and not units_cancelled(about):
        raise subject.not_allowed(command, "nothing of it was cancelled here")
    subject.check_allows("RefundRequested", command)
    if isinstance(subject, Claim) and subject.remedy == "replacement":
        raise subject.not_allowed(command, "settled by replacement")


def _nothing_left(about: RefundSubject, command: str) -> Impossible:
    waiting = [refund for refund in about.attempts if refund.status == "requested"]
    paid = [refund for refund in about.attempts if refund.status == "refunded"]
    last = (waiting or paid or about.attempts)[-1]
    subject = f"refund {last.refund_id} of {about.subject.name}"
    return not_allowed(command, subject, last.status, ("record_refund_result",))  # an answer is never refused


def request_refund(about: RefundSubject, command: RequestRefund, now: DecisionContext) -> DecisionResult:
    """Issue the refund to the original tenders, or decline it."""
    stream, order = about.stream, about.order
    check_may_request(about, command.command)
    if isinstance(about.subject, Return) and about.subject.called_off:
        raise about.subject.not_allowed(command.command)
    weighing = about.weighing(now)
    due = owed(about, weighing)
    if not weighing.allowed:
        if about.attempts:
            raise _nothing_left(about, command.command)
        return now.decide(stream, weighing, RefundDeclined)
    found = may_request(about, due, now.policy)
    if found is None:
        raise _nothing_left(about, command.command)
    weigh_tenders(order, found, weighing)
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
        settled_before=found.settled_before,
        credits=found.credits,
        voided=found.voided,
        tenders=found.tenders,
        expected_from=timing.expected_from,
        expected_to=timing.expected_to,
        overdue_at=timing.overdue_at,
    )
    asked = decided.events[0][1]
    assert isinstance(asked, RefundRequested)
    if not found.tenders:  # nothing is paid, so no provider will answer
        decided.events.append((stream, Refunded(**now.envelope(), refund_id=command.refund_id)))
    # Less may be owed than before: units that were paid unseen were rejected.
    return decided.disputed(now, overpaid(about, about.attempts, asked.due))


def weigh_tenders(order: Order, found: Payable, weighing: Weighing) -> None:
    """Weigh ``returns.original_tender``: the money goes to the original payments, unless a person named another payout."""
    shown: list[Grounds] = []
    override: GrantedOverride | None = None
    for tender in found.tenders:
        grounds: Grounds = {"payment_id": tender.payment_id, "amount": to_major(tender.amount, order.currency)}
        if tender.payout_id is not None:
            grounds["payout_id"] = tender.payout_id
            override = order.payouts[tender.payment_id].override
        shown.append(grounds)
    total: Grounds = {"total": to_major(found.total, order.currency), "tenders": shown}
    weighing.weigh("returns.original_tender", override is None, total, override=override)

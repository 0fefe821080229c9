"""Refunds that the desk did not ask for: goodwill, disputes, and what was paid elsewhere or in the past."""

from __future__ import annotations

from collections.abc import Sequence

from returnable.domain.commands import RecordRefund, minor_units
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.errors import Impossible
from returnable.domain.events import PaidElsewhere, RefundRecorded, Units
from returnable.domain.order.state import Order
from returnable.domain.ports import ReservedId
from returnable.domain.refunds.state import Refund, attempts_by_stream
from returnable.domain.refunds.tenders import over_captured, told_before, units_paid


def record_refund(
    order: Order, refunds: Sequence[Refund], command: RecordRefund, now: DecisionContext
) -> DecisionResult:
    """Record money that went back without the desk's asking. What is owed later is less by it.

    The same refund told twice appends nothing. Raises ``refund.exists`` where its id is that of another refund.
    """
    stands_for = {payout.payout_id: payment_id for payment_id, payout in order.payouts.items()}
    order.check_lines((line.line_id for line in command.lines or ()), "lines[{}].line_id")
    event = RefundRecorded(
        **now.envelope(command.refunded_at),
        refund_id=command.refund_id,
        kind=command.kind,
        currency=order.currency,
        tenders=tuple(
            PaidElsewhere(
                payment_id=stands_for.get(tender.payment_id, tender.payment_id),
                amount=minor_units(f"tenders[{index}].amount", tender.amount, order.currency),
                reference=tender.reference,
                payout_id=tender.payment_id if tender.payment_id in stands_for else None,
            )
            for index, tender in enumerate(command.tenders)
        ),
        lines=tuple(Units(line_id=line.line_id, quantity=line.quantity) for line in command.lines or ()),
        reason=command.reason,
    )
    known = next((refund for refund in refunds if refund.refund_id == command.refund_id), None)
    if known is not None:
        if known.elsewhere is None or _told(known.elsewhere) != _told(event):
            reason = f"refund {command.refund_id!r} exists already"
            raise Impossible("refund.exists", reason, field="refund_id")
        return DecisionResult()
    refund = Refund(command.refund_id, order.stream)
    refund.apply(event, order.version + 1)
    reasons = [
        f"refund {command.refund_id} paid to payment {tender.payment_id}, which {order.name} does not have"
        for tender in event.tenders
        if tender.payment_id not in order.captured
    ]
    reasons += [
        f"refund {command.refund_id} paid for {units.quantity} of line {units.line_id}, but {bought} were bought"
        for units in event.lines
        if units.quantity > (bought := order.lines[units.line_id].quantity)
    ]
    desk = units_paid(attempts_by_stream(refunds).values())
    reasons += [
        f"refund {command.refund_id} paid for {units.quantity} of line {units.line_id}, but {here} of {bought} are paid "
        "back by the desk"
        for units in event.lines
        if (here := desk[units.line_id])
        and units.quantity <= (bought := order.lines[units.line_id].quantity) < units.quantity + here
    ]
    reasons += [reason for answer in refund.answers for reason in told_before(refunds, refund, answer)]
    reasons += over_captured(order, [*refunds, refund], refund.tenders)
    reserved_ids = [ReservedId("refund", command.refund_id, order.order_id)]
    return now.fact(order.stream, event, reasons, reserved_ids)


def _told(event: RefundRecorded) -> object:
    """What makes two reports the same refund."""
    return event.kind, event.tenders, event.lines

"""How a refund splits over the payments of its order. Clause: ``returns.original_tender``."""

from __future__ import annotations

from collections.abc import Sequence

from returnable.domain.errors import Impossible
from returnable.domain.events import Tender
from returnable.domain.money import split, to_major
from returnable.domain.order.state import Order
from returnable.domain.refunds.state import Refund, RefundSubject


def left_for(order: Order, refunds: Sequence[Refund], stream: str) -> dict[str, int]:
    """What a refund of ``stream`` may take of each payment: captured, less what went back or is kept for another refund."""
    left = {payment.payment_id: payment.amount for payment in order.confirmed.payments}
    latest = {refund.stream: refund for refund in refunds}
    for refund in refunds:
        for tender in refund.requested.tenders:
            # A failed tender is kept for a later refund of the same subject, which takes it over.
            kept = latest[refund.stream] is refund and refund.stream != stream
            if refund.tenders[tender.payment_id] == "settled" or kept:
                left[tender.payment_id] -= tender.amount
    return left


def allocate(about: RefundSubject, owed: int, allocation: str) -> tuple[Tender, ...]:
    """Split what is owed and not settled yet over the order's payments (``returns.original_tender``).

    A further attempt asks for the same amounts of the tenders that did not go back, unless what is owed has changed since.
    """
    order, attempts = about.order, about.attempts
    total = max(0, owed - about.settled)
    if attempts and sum(tender.amount for tender in attempts[-1].unsettled_tenders()) == total:
        return attempts[-1].unsettled_tenders()
    left = left_for(order, about.refunds, about.stream)
    payments = [payment.payment_id for payment in order.confirmed.payments]
    if total > sum(left.values()):
        due, remains = to_major(total, order.currency), to_major(sum(left.values()), order.currency)
        reason = f"{due} {order.currency} would go back, but of what was captured only {remains} is left"
        raise Impossible("money.mismatch", reason)
    if total == 0:
        return tuple(Tender(payment_id=payment_id, amount=0) for payment_id in payments[:1])
    if allocation == "in_order":
        shares: list[int] = []
        for payment_id in payments:
            shares.append(min(total - sum(shares), left[payment_id]))
    else:
        shares = split(total, [left[payment_id] for payment_id in payments])
    return tuple(Tender(payment_id=p, amount=share) for p, share in zip(payments, shares, strict=True) if share)

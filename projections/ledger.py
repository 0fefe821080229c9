"""The refund ledger: what was captured by each payment of an order, what of it went back, and what remains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from returnable.domain.case import Case
from returnable.domain.money import to_major


class Balance(NamedTuple):
    """One payment of an order, in minor units of its currency.

    ``captured`` = ``refunded`` + ``remaining``. ``requested`` was asked back and has no answer yet; it is a part of
    ``remaining``.
    """

    order_id: str
    payment_id: str
    method: str
    currency: str
    captured: int
    refunded: int
    requested: int
    remaining: int


def balances(case: Case) -> Iterator[Balance]:
    """The payments of an order, in their order."""
    order = case.order
    settled = {payment.payment_id: 0 for payment in order.confirmed.payments}
    asked = dict(settled)
    for refund in case.refunds.values():
        for tender in refund.requested.tenders:
            status = refund.tenders[tender.payment_id]
            if status == "settled":
                settled[tender.payment_id] += tender.amount
            elif status == "requested":
                asked[tender.payment_id] += tender.amount
    for payment in order.confirmed.payments:
        back = settled[payment.payment_id]
        yield Balance(
            order.order_id,
            payment.payment_id,
            payment.method,
            order.currency,
            payment.amount,
            back,
            asked[payment.payment_id],
            payment.amount - back,
        )


def balance_values(balance: Balance) -> dict[str, Any]:
    """The public form: amounts as decimals."""
    in_decimals = ("captured", "refunded", "requested", "remaining")
    return {
        name: to_major(value, balance.currency) if name in in_decimals else value
        for name, value in balance._asdict().items()
    }

"""The refund ledger: for each payment of an order the amounts captured, refunded, pending and remaining.

This is the only place that adds up the money of an order. The ledger, reports, replays and stored views show its result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from returnable.domain.case import Case
from returnable.domain.money import to_major
from returnable.projections.views import LedgerEntry, MoneyView


class Balance(NamedTuple):
    """One payment of an order, or all of them (its id and method are then empty), in minor units of its currency.

    ``pending`` was requested as a refund, and is neither settled nor failed. ``remaining`` = captured - refunded - pending.
    """

    order_id: str
    payment_id: str
    method: str
    currency: str
    captured: int
    refunded: int
    pending: int
    remaining: int


def balances(case: Case) -> Iterator[Balance]:
    """The payments of an order, in their order; then what was captured of, or paid to, payments that are none of its own."""
    if case.arrival is not None:
        return
    order = case.order
    methods = {payment.payment_id: payment.method for payment in order.confirmed.payments}
    refunded, pending = Counter[str](), Counter[str]()
    for refund in case.refunds.values():
        for name, tender in refund.tenders.items():
            refunded[name] += tender.settled
            pending[name] += tender.pending
    for name in dict.fromkeys((*methods, *order.captured, *refunded)):
        captured = order.captured.get(name, 0)
        left = captured - refunded[name] - pending[name]
        method = methods.get(name, "")
        yield Balance(order.order_id, name, method, order.currency, captured, refunded[name], pending[name], left)


def total(case: Case) -> Balance:
    """All payments of an order together."""
    sums = [sum(amounts) for amounts in zip((0, 0, 0, 0), *(balance[4:] for balance in balances(case)), strict=True)]
    return Balance(case.order.order_id, "", "", case.order.currency, *sums)


def balance_values(balance: Balance) -> dict[str, Any]:
    """The public form: amounts as decimals."""
    return {
        name: to_major(value, balance.currency) if isinstance(value, int) else value
        for name, value in balance._asdict().items()
    }


def entry(balance: Balance) -> LedgerEntry:
    """One payment, for people and programs."""
    return LedgerEntry.model_validate(balance_values(balance))


def money(case: Case) -> MoneyView:
    """All payments together, for people and programs."""
    values = balance_values(total(case))
    return MoneyView.model_validate({name: values[name] for name in MoneyView.model_fields})

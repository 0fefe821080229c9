"""The confirmation of an order: its lines, its payments, and the policy that judges it from then on."""

from __future__ import annotations

from returnable.domain.calendar import elapsed_end
from returnable.domain.commands import ConfirmOrder
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.errors import Impossible
from returnable.domain.events import BoughtLine, Buyer, Confirmed, Payment
from returnable.domain.ids import StreamId
from returnable.domain.money import to_major, to_minor


def confirm(command: ConfirmOrder, now: DecisionContext) -> DecisionResult:
    """The order is confirmed under the policy of ``now``; its payments must add up."""
    currency = command.currency
    lines = tuple(
        BoughtLine(
            line_id=line.line_id,
            sku=line.sku,
            unit_price=to_minor(line.unit_price, currency),
            quantity=line.quantity,
            tax=to_minor(line.tax, currency),
            final_sale=line.final_sale,
            description=line.description,
        )
        for line in command.lines
    )
    payments = tuple(
        Payment(
            payment_id=p.payment_id,
            method=p.method,
            amount=to_minor(p.amount, currency),
            captured=None if p.captured is None else to_minor(p.captured, currency),
        )
        for p in command.payments
    )
    shipping, shipping_tax = to_minor(command.shipping.charged, currency), to_minor(command.shipping.tax, currency)
    due = sum(line.unit_price * line.quantity + line.tax for line in lines) + shipping + shipping_tax
    paid = sum(payment.amount for payment in payments)
    if due != paid:
        raise Impossible(
            "money.mismatch",
            f"{to_major(paid, currency)} {currency} were paid, but merchandise, tax and shipping add up to "
            f"{to_major(due, currency)} {currency}",
            field="payments",
        )
    customer, confirmed_at = command.customer, command.confirmed_at or now.at
    return now.record(
        str(StreamId("order", command.order_id)),
        Confirmed,
        confirmed_at,
        order_id=command.order_id,
        customer=Buyer(
            customer_id=customer.customer_id, account_id=customer.account_id, name=customer.name, email=customer.email
        ),
        currency=currency,
        lines=lines,
        shipping_charged=shipping,
        shipping_tax=shipping_tax,
        payments=payments,
        placed_at=command.placed_at,
        cancel_by=elapsed_end(confirmed_at, now.policy.clauses.cancellation_window.hours),
        pins=now.pins,
    )

"""The payments of an order: what is captured later, and what stands for one that cannot be paid back."""

from __future__ import annotations

from collections.abc import Collection

from returnable.domain.aggregate import not_allowed
from returnable.domain.commands import NamePayout, RecordCapture, minor_units
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.errors import Impossible
from returnable.domain.events import PaymentCaptured, PayoutNamed
from returnable.domain.money import to_major
from returnable.domain.order.state import Order


def record_capture(order: Order, command: RecordCapture, now: DecisionContext) -> DecisionResult:
    """Record that authorised money was taken. A capture that takes nothing more appends nothing.

    The same payment, amount and time told again is the same capture, unless the report has a ``command_id`` of its own.
    """
    name, currency = command.payment_id, order.currency
    authorised = {payment.payment_id: payment.amount for payment in order.confirmed.payments}
    rest = max(0, authorised.get(name, 0) - order.captured.get(name, 0))
    amount = rest if command.amount is None else minor_units("amount", command.amount, currency)
    if not amount:
        return DecisionResult()
    event = PaymentCaptured(**now.envelope(command.captured_at), payment_id=name, amount=amount, currency=currency)
    if command.command_id is None and (name, amount, event.occurred_at) in order.captures:
        return DecisionResult()
    reasons: list[str] = []
    if name not in authorised:
        reasons.append(
            f"{to_major(amount, currency)} {currency} were captured of payment {name}, which {order.name} does not have"
        )
    elif amount > rest:
        reasons.append(
            f"{to_major(amount, currency)} {currency} of payment {name} were captured, but only {to_major(rest, currency)} "
            "were authorised and not captured"
        )
    return now.fact(order.stream, event, reasons)


def name_payout(order: Order, failed: Collection[str], command: NamePayout, now: DecisionContext) -> DecisionResult:
    """Name another way to pay back a payment; later refunds take it, and cite this.

    ``failed``: the payments of which a tender could not be paid back.
    """
    name = command.payment_id
    if name not in order.captured:
        raise Impossible("command.invalid", f"{name!r} is no payment of {order.name}", field="payment_id")
    if command.payout_id in order.captured:
        reason = f"{command.payout_id!r} is a payment of {order.name}: name what stands for it by an id of its own"
        raise Impossible("command.invalid", reason, field="payout_id")
    if name not in failed:
        reason = "no refund to it failed"
        raise not_allowed(command.command, f"payment {name} of {order.name}", "captured", (), reason)
    fields = command.model_dump(include={"payment_id", "payout_id", "method", "reason", "approved_by"})
    return now.record(order.stream, PayoutNamed, **fields)

"""Pays refunds: reads the requested refunds from the desk and asks the payment gateway, each refund once."""

from __future__ import annotations

import returnable
from returnable.domain.effects import (
    GatewayRefused,
    GatewayTimeout,
    PaymentGateway,
    PaymentNotice,
    RefundNotice,
    refund_key,
)
from returnable.domain.money import to_minor


class Till:
    """Carries out refunds. It keeps no state of its own, so it may be stopped and started at any time."""

    def __init__(self, desk: returnable.Desk, gateway: PaymentGateway) -> None:
        self.desk = desk
        self.gateway = gateway

    def work(self) -> None:
        """Ask the gateway for every refund without an answer, each with the same key every time."""
        for refund in self.desk.refunds(status="requested"):
            for tender in refund.tenders:
                if tender.status == "requested":
                    key = refund_key(refund.refund_id or "", tender.payment_id)
                    paid_to = tender.payout_id or tender.payment_id
                    self._pay(key, paid_to, to_minor(tender.amount, refund.currency), refund.currency)

    def _pay(self, key: str, paid_to: str, amount: int, currency: str) -> None:
        try:
            receipt = self.gateway.find(key) or self.gateway.refund(
                key=key, payment_id=paid_to, amount=amount, currency=currency
            )
        except GatewayRefused as refused:
            receipt = refused.receipt
        except GatewayTimeout:
            return  # the result is unknown; the next round asks before it tries again
        for command in receipt.commands():
            self.desk.handle(command)

    def hear(self, notice: RefundNotice | PaymentNotice) -> None:
        """Record a webhook of the gateway: how a refund ended, or money that moved without a refund of the desk."""
        if isinstance(notice, RefundNotice):
            self.desk.handle(notice.command())
            return
        order_id = next(entry.order_id for entry in self.desk.ledger() if entry.payment_id == notice.payment_id)
        for command in notice.commands(order_id=order_id):
            self.desk.handle(command)

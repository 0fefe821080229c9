"""Pays refunds: reads the requested refunds from the desk and asks the payment gateway, each refund once."""

from __future__ import annotations

import returnable
from returnable.domain.effects.payments import GatewayRefused, GatewayTimeout, PaymentGateway, RefundReceipt, refund_key
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
                    self._pay(key, tender.payment_id, to_minor(tender.amount, refund.currency), refund.currency)

    def _pay(self, key: str, payment_id: str, amount: int, currency: str) -> None:
        try:
            receipt = self.gateway.find(key) or self._ask(key, payment_id, amount, currency)
        except GatewayRefused as refused:
            receipt = refused.receipt
        except GatewayTimeout:
            return  # the result is unknown; the next round asks before it tries again
        if receipt.result != "pending":
            self.desk.handle(receipt.command())

    def _ask(self, key: str, payment_id: str, amount: int, currency: str) -> RefundReceipt:
        if amount == 0:  # the fee equals the refund: there is nothing to pay
            return RefundReceipt(key, payment_id, 0, currency, "succeeded")
        return self.gateway.refund(key=key, payment_id=payment_id, amount=amount, currency=currency)

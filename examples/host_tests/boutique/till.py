"""How the shop pays back: it follows the facts of the desk and asks the payment gateway, each refund once."""

from __future__ import annotations

import returnable
from returnable.domain.effects.payments import GatewayRefused, GatewayTimeout, PaymentGateway, RefundReceipt, refund_key
from returnable.domain.money import to_minor


class Till:
    """Carries out refunds. Everything it knows is on record, so it may be stopped and started at any time."""

    def __init__(self, desk: returnable.Desk, gateway: PaymentGateway) -> None:
        self.desk = desk
        self.gateway = gateway

    def work(self) -> None:
        """Ask the gateway for every refund that has no answer yet, under the same key as ever."""
        for refund in self.desk.refunds(status="requested"):
            for tender in refund.tenders:
                if tender.status == "requested":
                    amount = to_minor(tender.amount, refund.currency)
                    self._pay(
                        refund_key(refund.refund_id or "", tender.payment_id),
                        tender.payment_id,
                        amount,
                        refund.currency,
                    )

    def _pay(self, key: str, payment_id: str, amount: int, currency: str) -> None:
        try:
            receipt = self.gateway.find(key) or self._ask(key, payment_id, amount, currency)
        except GatewayRefused as refused:
            receipt = refused.receipt
        except GatewayTimeout:
            return  # nobody knows; the next round asks before it tries again
        if receipt.result != "pending":
            self.desk.handle(receipt.command())

    def _ask(self, key: str, payment_id: str, amount: int, currency: str) -> RefundReceipt:
        if amount == 0:  # a fee took all of it: there is nothing to pay
            return RefundReceipt(key, payment_id, 0, currency, "succeeded")
        return self.gateway.refund(key=key, payment_id=payment_id, amount=amount, currency=currency)

"""Payments: money goes back to the customer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from returnable.domain.commands import Command
from returnable.domain.effects.answers import OutcomeUnknown, command_id_of, command_of, one_line
from returnable.domain.errors import ReturnableError


class GatewayTimeout(OutcomeUnknown):
    """The payment gateway did not answer; money may have moved."""


class GatewayRefused(ReturnableError):
    """The gateway refused a refund for good; no money moved. ``receipt`` is the answer to record."""

    def __init__(self, receipt: RefundReceipt) -> None:
        super().__init__(f"refund {receipt.key!r}: refused: {receipt.reason}")
        self.receipt = receipt
        self.reason = receipt.reason


def refund_key(refund_id: str, payment_id: str) -> str:
    """The idempotency key of one tender of a refund. A further attempt has a ``refund_id`` of its own, hence another key.

    >>> refund_key("F-1", "p-1"), refund_key("F/1", "p-1")
    ('F-1/p-1', 'F%2F1/p-1')
    """
    return "/".join(part.replace("%", "%25").replace("/", "%2F") for part in (refund_id, payment_id))


def tender_of(key: str) -> tuple[str, str]:
    """The refund id and the payment id of which :func:`refund_key` made a key; ``ValueError`` for any other key.

    >>> tender_of("F%2F1/p-1")
    ('F/1', 'p-1')
    """
    refund_id, slash, payment_id = key.partition("/")
    found = (refund_id.replace("%2F", "/").replace("%25", "%"), payment_id.replace("%2F", "/").replace("%25", "%"))
    if not slash or refund_key(*found) != key:
        raise ValueError(f"{key!r} is not a key of a refund, such as 'F-1/p-1'")
    return found


@dataclass(frozen=True, slots=True)
class RefundReceipt:
    """What the gateway knows of a refund. ``pending``: accepted, and the money is on its way or will come back."""

    key: str
    payment_id: str
    amount: int
    """In minor units."""
    currency: str
    result: Literal["succeeded", "failed", "pending"]
    reference: str | None = None
    """The gateway's own id of the refund; the same in every answer and notice of a key."""
    reason: str | None = None
    """Why it failed; the same in every answer and notice of a key."""

    def command(self) -> Command:
        """The ``record_refund_result`` for the desk. Raises ``ValueError`` while the refund is pending."""
        if self.result == "pending":
            raise ValueError(f"refund {self.key!r} is pending: there is no result yet")
        return _result(self.key, self.result, self.reference, self.reason)


@dataclass(frozen=True, slots=True)
class RefundNotice:
    """A webhook of the gateway: how a refund ended. It may come late, twice, out of order or never.

    The same notice has the same ``event_id``.
    """

    event_id: str
    key: str
    result: Literal["succeeded", "failed"]
    occurred_at: datetime
    """When the gateway settled it (UTC), however late the notice comes."""
    reference: str | None = None
    reason: str | None = None

    def command(self) -> Command:
        """The ``record_refund_result`` for the desk: the same as that of the call's own answer.

        >>> from datetime import UTC, datetime
        >>> notice = RefundNotice("evt-1", "F-1/p-1", "succeeded", datetime(2026, 3, 16, tzinfo=UTC), "re-1")
        >>> notice.command() == RefundReceipt("F-1/p-1", "p-1", 53000, "USD", "succeeded", "re-1").command()
        True
        """
        return _result(self.key, self.result, self.reference, self.reason)


def _result(key: str, result: str, reference: str | None, reason: str | None) -> Command:
    refund_id, payment_id = tender_of(key)
    return command_of(
        "record_refund_result",
        ("payments", "gateway"),
        command_id_of("refund", key, result),
        refund_id=refund_id,
        payment_id=payment_id,
        result=result,
        reference=reference,
        reason=one_line(reason),
    )


class PaymentGateway(Protocol):
    """Pays captured money back (``returns.original_tender``)."""

    def refund(self, *, key: str, payment_id: str, amount: int, currency: str) -> RefundReceipt:
        """Pay ``amount`` minor units, more than zero, back to a payment; a tender of nothing needs no call.

        The same key with the same body returns the first result again and moves no money. Raises :class:`KeyReused` for
        the same key with another body, :class:`GatewayRefused` for a definite no, and :class:`GatewayTimeout` when the
        outcome is unknown.
        """
        ...

    def find(self, key: str) -> RefundReceipt | None:
        """The refund under a key, however old; ``None`` where there is none. A refused refund is ``failed``.

        After ``None`` a call under way may still arrive: try again under the same key only. Gateways forget their
        idempotency keys, some after a day, but not their refunds: ask here first. Raises :class:`GatewayTimeout`.
        """
        ...

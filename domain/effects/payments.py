"""Payments: money goes back to the customer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from returnable.domain.commands import Command
from returnable.domain.effects.answers import OutcomeUnknown, command_of, id_of, one_line
from returnable.domain.errors import ReturnableError
from returnable.domain.fields import RefundKind
from returnable.domain.money import to_major


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
    """What this answer is about, in minor units. It may be less than was asked for, or more."""
    currency: str
    """ISO 4217, in capital or small letters."""
    result: Literal["succeeded", "failed", "pending"]
    reference: str | None = None
    """The gateway's own id of the refund; the same in every answer and notice about it."""
    reason: str | None = None
    """Why it failed; the same in every answer and notice about it."""
    settled_at: datetime | None = None
    """When the gateway settled it (UTC), which the desk refuses in the future of its clock; without it, when it is recorded.

    The same in every answer and notice about this result.
    """
    others: tuple[RefundReceipt, ...] = ()
    """Other refunds under the same key: the gateway paid in parts, or twice."""

    def command(self) -> Command:
        """The ``record_refund_result`` for the desk. Raises ``ValueError`` while the refund is pending."""
        if self.result == "pending":
            raise ValueError(f"refund {self.key!r} is pending: there is no result yet")
        return _result(self.key, self, self.result, self.settled_at)

    def commands(self) -> tuple[Command, ...]:
        """The commands of this refund and of the others under its key, failures first; none for those that are pending."""
        answered = [each for each in (self, *self.others) if each.result != "pending"]
        return tuple(each.command() for each in sorted(answered, key=lambda each: each.result))


@dataclass(frozen=True, slots=True)
class RefundNotice:
    """A webhook of the gateway: how a refund ended. It may come late, twice, out of order or never.

    The same notice has the same ``event_id``. A refund that ended may end otherwise later: a bank sends money back days after
    it was paid, and a refund that failed may be paid after all.
    """

    event_id: str
    key: str
    result: Literal["succeeded", "failed"]
    occurred_at: datetime
    """When the gateway settled it (UTC), however late the notice comes."""
    reference: str | None = None
    reason: str | None = None
    amount: int | None = None
    """What this answer is about, in minor units; without it, all that is open of the tender."""
    currency: str | None = None
    """ISO 4217, in capital or small letters; given with ``amount``."""

    def command(self) -> Command:
        """The ``record_refund_result`` for the desk: the same as that of the call's own answer.

        >>> from datetime import UTC, datetime
        >>> at = datetime(2026, 3, 16, tzinfo=UTC)
        >>> notice = RefundNotice("evt-1", "F-1/p-1", "succeeded", at, "re-1", amount=53000, currency="USD")
        >>> receipt = RefundReceipt("F-1/p-1", "p-1", 53000, "USD", "succeeded", "re-1", settled_at=at)
        >>> notice.command() == receipt.command()
        True
        """
        return _result(self.key, self, self.result, self.occurred_at)


@dataclass(frozen=True, slots=True)
class PaymentNotice:
    """A webhook of the gateway about money that moved without a refund of the desk.

    A capture, a refund that a person made in the gateway's own pages, or a dispute. A dispute has a notice when the bank
    takes the money, and another when it is won or lost; the notice of a lost one differs in its ``event_id`` only.
    """

    event_id: str
    payment_id: str
    kind: Literal["capture"] | RefundKind
    amount: int
    """In minor units of the payment's currency."""
    currency: str
    """ISO 4217, in capital or small letters: that of the payment."""
    reference: str
    """The gateway's own id of the capture, of the refund or of the dispute; the same in every notice about it."""
    occurred_at: datetime
    """When the money was captured, or went back (UTC): not when a dispute was won or lost."""
    reason: str | None = None
    returned_at: datetime | None = None
    """When the money came back to the shop (UTC): the dispute was won, or the bank sent the refund back."""

    @property
    def refund_id(self) -> str:
        """The id under which the desk knows a refund or a dispute; it follows from ``reference``.

        >>> PaymentNotice("evt-1", "p-1", "dispute", 53000, "USD", "dp-1", datetime(2026, 3, 16)).refund_id
        'gateway/dp-1'
        """
        return id_of("gateway", self.reference)

    def commands(self, *, order_id: str) -> tuple[Command, ...]:
        """The commands for the desk: ``record_capture``, or ``record_refund``, and its result if the money came back.

        Give all of them to the desk. They are the same however often and in whatever order the notices come.
        """
        amount = _money(self.amount, self.currency)["amount"]
        if self.kind == "capture":
            fields = {"payment_id": self.payment_id, "amount": amount, "captured_at": self.occurred_at}
            return (_command("record_capture", self.reference, order_id=order_id, **fields),)
        paid = _command(
            "record_refund",
            self.reference,
            refund_id=self.refund_id,
            order_id=order_id,
            kind=self.kind,
            tenders=[{"payment_id": self.payment_id, "amount": amount, "reference": self.reference}],
            refunded_at=self.occurred_at,
            reason=one_line(self.reason),
        )
        if self.returned_at is None:
            return (paid,)
        return paid, _result(refund_key(self.refund_id, self.payment_id), self, "failed", self.returned_at)


def _command(name: str, about: str, **fields: object) -> Command:
    """A command of the gateway. Its id follows from its body: the same answer makes the same command, another one another."""
    command = command_of(name, ("payments", "gateway"), None, **fields)
    return command.model_copy(update={"command_id": id_of(name, about, command.digest)})


def _result(
    key: str, answer: RefundReceipt | RefundNotice | PaymentNotice, result: str, settled_at: datetime | None
) -> Command:
    refund_id, payment_id = tender_of(key)
    return _command(
        "record_refund_result",
        key,
        refund_id=refund_id,
        payment_id=payment_id,
        result=result,
        **_money(answer.amount, answer.currency),
        settled_at=settled_at,
        reference=answer.reference,
        reason=one_line(answer.reason),
    )


def _money(amount: int | None, currency: str | None) -> dict[str, str]:
    if amount is None and currency is None:
        return {}
    if amount is None or currency is None:
        raise ValueError("an amount and its currency are given together")
    currency = currency.upper()
    return {"amount": to_major(amount, currency), "currency": currency}


class PaymentGateway(Protocol):
    """Pays captured money back (``returns.original_tender``)."""

    def refund(self, *, key: str, payment_id: str, amount: int, currency: str) -> RefundReceipt:
        """Pay ``amount`` minor units, more than zero, back to a payment or to what stands for it.

        The same key with the same body returns what became of it and moves no money. Raises :class:`KeyReused` for
        the same key with another body, :class:`GatewayRefused` for a definite no, and :class:`GatewayTimeout` when the
        outcome is unknown.
        """
        ...

    def find(self, key: str) -> RefundReceipt | None:
        """The refund under a key as it is now, however old; ``None`` where there is none.

        A refused refund is ``failed``, and so is one whose money the bank sent back. If there are several refunds under the
        key, :attr:`RefundReceipt.others` has the rest.

        After ``None`` a call under way may still arrive: try again under the same key only. Gateways forget their
        idempotency keys, some after a day, but not their refunds: ask here first. Raises :class:`GatewayTimeout`.
        """
        ...

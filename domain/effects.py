"""What the desk's facts ask of the world outside, and what comes back: payments, parcels and mails.

Deciding never calls outside. A fact records the intent (``RefundRequested``, ``ReturnAuthorized``); a worker of the host
follows the facts, calls one of these ports under a key that the fact alone determines, and tells the desk the answer as a
command. Every answer here makes that command itself (``receipt.command()``), under a ``command_id`` of its own, so that
the same answer told twice, by the call and by a notice, or before and after a crash, is recorded once.

A call has three ends: an answer, a definite no, and no answer (:class:`OutcomeUnknown`). After the last it may have been
carried out or not, or will be yet: ask ``find`` before anything is tried again, and then under the same key.

Amounts are in minor units and above zero, instants are aware and in UTC. A host implements the ports for its provider;
``returnable.testing.fakes`` implements them for tests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from returnable.domain.commands import Command, parse_command
from returnable.domain.errors import ReturnableError
from returnable.domain.fields import Evidence

# ---- what goes wrong ------------------------------------------------------------------------------------------------


class OutcomeUnknown(ReturnableError):
    """No answer came: whether it was done is unknown. Ask ``find`` with ``key`` before anything is tried again."""

    def __init__(self, key: str, call: str) -> None:
        super().__init__(f"{call} {key!r}: no answer came; whether it was done is unknown until `find` tells")
        self.key = key


class GatewayTimeout(OutcomeUnknown):
    """The payment gateway did not answer; money may have moved."""


class CarrierTimeout(OutcomeUnknown):
    """The carrier did not answer; a label may have been bought."""


class MailTimeout(OutcomeUnknown):
    """The mail server did not answer; the mail may have gone out."""


class GatewayRefused(ReturnableError):
    """The gateway refused a refund for good; no money moved. ``receipt`` is the answer as it goes on record."""

    def __init__(self, receipt: RefundReceipt) -> None:
        super().__init__(f"refund {receipt.key!r}: refused: {receipt.reason}")
        self.receipt = receipt
        self.reason = receipt.reason


class CarrierRefused(ReturnableError):
    """The carrier refused, for good, and why; no label was bought or voided."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what}: refused: {reason}")
        self.reason = reason


class MailRefused(ReturnableError):
    """The mail was refused for good, and why; it reached nobody."""

    def __init__(self, key: str, to: str, reason: str) -> None:
        super().__init__(f"mail {key!r} to {to}: refused: {reason}")
        self.key = key
        self.reason = reason


class KeyReused(ReturnableError):
    """An idempotency key was used before for something else; nothing was done."""

    def __init__(self, key: str, before: str, now: str) -> None:
        super().__init__(f"key {key!r} was used before for {before}, now for {now}")
        self.key = key


# ---- payments -------------------------------------------------------------------------------------------------------


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
    """What the gateway knows of a refund; ``pending``: it took the order, and the money is on its way or will come back."""

    key: str
    payment_id: str
    amount: int
    """In minor units."""
    currency: str
    result: Literal["succeeded", "failed", "pending"]
    reference: str | None = None
    """The gateway's own id of it; the same in every answer and notice of a key."""
    reason: str | None = None
    """Why it failed; the same in every answer and notice of a key."""

    def command(self) -> Command:
        """The ``record_refund_result`` that tells the desk. Raises ``ValueError`` while the refund is pending."""
        if self.result == "pending":
            raise ValueError(f"refund {self.key!r} is pending: there is no result yet")
        return _result(self.key, self.result, self.reference, self.reason)


@dataclass(frozen=True, slots=True)
class RefundNotice:
    """A webhook of the gateway: how a refund ended. May come late, twice, out of order or never; ``event_id`` tells two
    of the same from two that are alike."""

    event_id: str
    key: str
    result: Literal["succeeded", "failed"]
    occurred_at: datetime
    """When the gateway settled it (UTC), however late the notice comes."""
    reference: str | None = None
    reason: str | None = None

    def command(self) -> Command:
        """The ``record_refund_result`` that tells the desk: the same as that of the call's own answer.

        >>> from datetime import UTC, datetime
        >>> notice = RefundNotice("evt-1", "F-1/p-1", "succeeded", datetime(2026, 3, 16, tzinfo=UTC), "re-1")
        >>> notice.command() == RefundReceipt("F-1/p-1", "p-1", 53000, "USD", "succeeded", "re-1").command()
        True
        """
        return _result(self.key, self.result, self.reference, self.reason)


def _result(key: str, result: str, reference: str | None, reason: str | None) -> Command:
    refund_id, payment_id = tender_of(key)
    return _told(
        "record_refund_result",
        ("payments", "gateway"),
        _command_id("refund", key, result),
        refund_id=refund_id,
        payment_id=payment_id,
        result=result,
        reference=reference,
        reason=_line(reason),
    )


class PaymentGateway(Protocol):
    """Pays captured money back (``returns.original_tender``)."""

    def refund(self, *, key: str, payment_id: str, amount: int, currency: str) -> RefundReceipt:
        """Pay ``amount`` minor units, more than zero, back to a payment; a tender of nothing needs no call.

        The same key with the same body gives the first result again and moves no money. Raises :class:`KeyReused` for
        the same key with another body, :class:`GatewayRefused` for a definite no, and :class:`GatewayTimeout` when the
        outcome is unknown.
        """
        ...

    def find(self, key: str) -> RefundReceipt | None:
        """What the gateway knows of a key, however old; a refused refund as ``failed``. ``None``: it knows of none.

        ``None`` does not say that a call under way will never arrive: try again under the same key only. Gateways forget
        their idempotency keys, some after a day, but not their refunds: ask here first. Raises :class:`GatewayTimeout`.
        """
        ...


# ---- parcels --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LabelBought:
    """A prepaid return label that the carrier sold."""

    key: str
    return_id: str
    label_id: str
    carrier: str
    tracking_number: str
    bought_at: datetime
    """UTC."""

    def command(self) -> Command:
        """The ``issue_label`` that tells the desk; the clock of ``returns.ship_by`` runs from ``bought_at`` until the
        customer's receipt is recorded."""
        return _told(
            "issue_label",
            ("carrier", self.carrier),
            _command_id("label", self.key),
            return_id=self.return_id,
            label_id=self.label_id,
            carrier=self.carrier,
            tracking_number=self.tracking_number,
            issued_at=self.bought_at,
        )


ScanKind = Literal["accepted", "in_transit", "delivered", "exception", "lost"]
"""``accepted``: the carrier took the parcel; ``delivered``: it reached whom it was sent to; ``exception``: a delay or
damage; ``lost``: the carrier gave it up."""


@dataclass(frozen=True, slots=True)
class Scan:
    """A carrier's scan of a parcel. Windows are judged by ``occurred_at``, however late it is reported."""

    scan_id: str
    carrier: str
    tracking_number: str
    kind: ScanKind
    occurred_at: datetime
    """When the parcel was scanned (UTC)."""
    reported_at: datetime
    """When the carrier told (UTC)."""

    def delivery(self, *, order_id: str, parcel_id: str) -> Command:
        """The ``record_delivery`` of an outbound parcel; ``ValueError`` when this is no scan of a delivery."""
        fields = {"order_id": order_id, "parcel_id": parcel_id, "delivered_at": self.occurred_at}
        return self._told("record_delivery", "delivered", fields)

    def hand_over(self, *, return_id: str, label_id: str | None = None) -> Command:
        """The ``record_return_shipment`` of a parcel on its way back, dated by the scan (``returns.ship_by``).

        Without ``label_id`` it travels on a label of the customer's own. ``ValueError`` when the carrier took nothing.
        """
        fields = {
            "return_id": return_id,
            "label_id": label_id,
            "tracking_number": self.tracking_number,
            "shipped_at": self.occurred_at,
            "proof": "carrier_scan",
        }
        return self._told("record_return_shipment", "accepted", fields)

    def loss(self, *, return_id: str) -> Command:
        """The ``report_return_lost`` (``returns.transit_risk``); ``ValueError`` when the parcel is not lost."""
        return self._told("report_return_lost", "lost", {"return_id": return_id, "reported_at": self.occurred_at})

    def _told(self, command: str, kind: ScanKind, fields: Mapping[str, object]) -> Command:
        if self.kind != kind:
            raise ValueError(f"scan {self.scan_id!r} says {self.kind}, not {kind}: it makes no {command}")
        command_id = _command_id("scan", self.carrier, self.scan_id)
        return _told(command, ("carrier", self.carrier), command_id, **fields)


class Carrier(Protocol):
    """Sells prepaid return labels; its scans come in by themselves."""

    def buy_label(self, *, key: str, return_id: str) -> LabelBought:
        """Buy a label for a return. The same key for the same return gives the same label and costs nothing more.

        Raises :class:`KeyReused`, :class:`CarrierRefused` for a definite no, and :class:`CarrierTimeout`.
        """
        ...

    def find(self, key: str) -> LabelBought | None:
        """The label that was bought under a key; raises :class:`CarrierTimeout`."""
        ...

    def void_label(self, label_id: str) -> None:
        """Hand a label back; once more does no harm.

        Raises :class:`CarrierRefused` when it is unknown or a parcel was scanned on it, and :class:`CarrierTimeout`.
        """
        ...


# ---- mails ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MailSent:
    """A mail that the mail server took; what remains is to tell the desk with ``notify_customer``."""

    key: str
    to: str
    subject: str
    sent_at: datetime
    """UTC."""


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that came in; all but ``mail_id`` and ``received_at`` are personal data."""

    mail_id: str
    """The ``Message-ID``, or the mailbox's own id of it."""
    sender: str
    received_at: datetime
    """When it *arrived* in the mailbox (UTC), not when somebody read it: windows are judged by this."""
    subject: str
    body: str = ""
    attachments: tuple[str, ...] = ()
    """The names of its files."""

    def cancellation(self, *, order_id: str, order_reference: str | None = None, order_copy: bool = False) -> Command:
        """The ``request_cancellation`` this mail is (``cancellation.window``, ``cancellation.by_email``).

        What it shows of the order (its number, or a copy attached) is for the reader to say.
        """
        fields = {"order_id": order_id, "order_reference": order_reference, "order_copy": order_copy}
        return self._told("request_cancellation", channel="email", requested_at=self.received_at, **fields)

    def wrong_item(
        self, *, claim_id: str, order_id: str, line_id: str, quantity: int = 1, evidence: Sequence[Evidence] = ()
    ) -> Command:
        """The ``report_wrong_item`` this mail is (``wrong_item.window``); ``evidence`` is what its attachments show."""
        fields = {"claim_id": claim_id, "order_id": order_id, "line_id": line_id, "quantity": quantity}
        shown = {"attachments": tuple(evidence), "reported_at": self.received_at}
        return self._told("report_wrong_item", channel="email", **fields, **shown)

    def _told(self, command: str, **fields: object) -> Command:
        return _told(command, None, _command_id("mail", self.mail_id), **fields)


class Mailbox(Protocol):
    """Sends mails to customers; theirs come in by themselves."""

    def send(self, *, key: str, to: str, subject: str, body: str) -> MailSent:
        """Send a mail. The same key with the same body sends nothing more and gives the first answer again.

        Raises :class:`KeyReused`, :class:`MailRefused` for a definite no, and :class:`MailTimeout`.
        """
        ...

    def find(self, key: str) -> MailSent | None:
        """The mail that was sent under a key; raises :class:`MailTimeout`."""
        ...


# ---- telling the desk -----------------------------------------------------------------------------------------------

_LONGEST_ID = 128
_LONGEST_TEXT = 2000


def _told(command: str, actor: tuple[str, str] | None, command_id: str, **fields: object) -> Command:
    given = {name: value for name, value in fields.items() if value is not None}
    if actor is not None:
        given["actor"] = {"role": actor[0], "id": actor[1]}
    return parse_command({"command": command, "command_id": command_id} | given)


def _command_id(*parts: str) -> str:
    """What the outside calls it, or its hash where that is no id of the desk's."""
    told = "/".join(parts)
    return told if len(told) <= _LONGEST_ID and told.isprintable() else hashlib.sha256(told.encode()).hexdigest()


def _line(text: str | None) -> str | None:
    """Words from outside as a line that can go on record; ``None`` when none are left."""
    words = "".join(letter if letter.isprintable() else " " for letter in text or "").split()
    return " ".join(words)[:_LONGEST_TEXT] or None

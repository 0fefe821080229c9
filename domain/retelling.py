"""From recorded facts back to the commands they came of: what was asked, when, and what it came to.

A history can so be decided again, played into another store, or tried under another policy. Three things a command said
are not in its facts and are filled in without changing what comes of it: carrier and tracking number of a label that was
declined, and the id of a refund that was declined, because it was never taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from returnable.domain.commands import COMMANDS, Command, parse_command
from returnable.domain.errors import HistoryBroken, short
from returnable.domain.events import (
    AccountLinked,
    CancellationRequested,
    ClaimContacted,
    ClaimDenied,
    ClaimOpened,
    ClaimResolved,
    Confirmed,
    ContactMissed,
    CustomerNotified,
    Delivered,
    EvidenceAdded,
    Fact,
    Inspected,
    LabelDeclined,
    LabelIssued,
    LabelReceived,
    LabelVoided,
    OverrideGranted,
    ParcelLost,
    ParcelRejected,
    Received,
    RefundDeclined,
    RefundFailed,
    RefundOverdue,
    RefundRequested,
    RefundSettled,
    RefusalsCounted,
    ResolutionDeclined,
    ReturnRequested,
    ReturnShipped,
    ReturnWithdrawn,
    SentBack,
    Shipped,
)
from returnable.domain.ids import StreamId
from returnable.domain.money import to_major
from returnable.domain.ports import Recorded
from returnable.domain.ruling import Finding

Fields = dict[str, Any]

NOT_IN_EVENTS: dict[str, tuple[str, ...]] = {
    "issue_label": ("carrier", "tracking_number"),
    "request_refund": ("refund_id",),
}
"""Command → the fields that are not in the events of its refusal."""

NOT_RECORDED = "not recorded"
"""What stands in a command told again where its facts do not tell."""


@dataclass(frozen=True, slots=True)
class Told:
    """A command as its facts tell it, the instant at which the desk handled it, and these facts where they stand."""

    at: datetime
    fields: Fields
    """The command as a scenario line has it, without ``at``."""
    entries: tuple[Recorded, ...]

    @property
    def command(self) -> Command:
        """The command. Raises ``command.invalid`` when it would not be accepted any more."""
        return parse_command(self.fields)

    @property
    def decided(self) -> Recorded:
        """The entry of :attr:`decision`."""
        return next((entry for entry in self.entries if entry.fact.ruling), self.entries[0])

    @property
    def decision(self) -> Fact:
        """The fact that carries the ruling, or else the first."""
        return self.decided.fact

    @property
    def ruling(self) -> tuple[Finding, ...] | None:
        """How the policy judged, clause by clause; ``None`` where nothing was weighed."""
        return ruling_of(entry.fact for entry in self.entries)

    @property
    def outcome(self) -> Literal["accepted", "declined"]:
        """What the command came to."""
        return outcome_of(entry.fact for entry in self.entries)


def outcome_of(facts: Iterable[Fact]) -> Literal["accepted", "declined"]:
    """What a command came to that recorded these facts. A claim that care denies by hand is a command accepted."""
    return "declined" if any(fact.declines and fact.ruling is not None for fact in facts) else "accepted"


def ruling_of(facts: Iterable[Fact]) -> tuple[Finding, ...] | None:
    """The ruling among the facts of one command; ``None`` where nothing was weighed."""
    found: tuple[Finding, ...] | None = None
    for fact in facts:
        found = fact.ruling or found
    return found


def retell(recorded: Iterable[Recorded]) -> Iterator[Told]:
    """The commands of a history, in order: of one case, or of a whole log in order of position.

    Facts that one command recorded stand together and become one command again. Raises :class:`HistoryBroken` for a fact
    that begins no command.
    """
    group: list[Recorded] = []
    for entry in recorded:
        if group and not _continues(group, entry):
            yield _told(group)
            group = []
        group.append(entry)
    if group:
        yield _told(group)


def is_deadline(fact: Fact) -> bool:
    """Whether the fact records that a deadline passed: only ``run_deadlines`` does that."""
    return isinstance(fact, ContactMissed | RefundOverdue) or (
        isinstance(fact, LabelVoided) and fact.cause == "deadline"
    )


def _continues(group: list[Recorded], entry: Recorded) -> bool:
    first, fact = group[0].fact, entry.fact
    if (first.recorded_at, first.command_id, first.actor) != (fact.recorded_at, fact.command_id, fact.actor):
        return False
    if is_deadline(first):
        return is_deadline(fact)
    if len(group) > 1 or entry.stream != group[0].stream or type(first) not in fact.follows:
        return False
    if isinstance(first, ClaimOpened):  # denied on the spot, or a moment later by hand
        return not first.ruling and isinstance(fact, ClaimDenied) and fact.ruling is not None
    if isinstance(first, RefundRequested):  # nothing was paid, so nothing had to be settled
        return not first.tenders
    return True


def _told(group: list[Recorded]) -> Told:
    first = group[0]
    fact = first.fact
    if is_deadline(fact):
        fields: Fields = {"command": "run_deadlines"}
    else:
        tell = _TELLERS.get(type(fact))
        if tell is None:
            raise HistoryBroken(f"{first.event}: {fact.type} stands alone; no command records it so")
        fields = {"command": fact.of_command} | tell(first, fact)
    if fact.command_id is not None:
        fields["command_id"] = fact.command_id
    if fact.actor is not None:
        fields["actor"] = {"role": fact.actor.role, "id": fact.actor.id}
    return Told(fact.recorded_at, fields, tuple(group))


def _own_time(fact: Fact, name: str) -> Fields:
    return {} if fact.occurred_at == fact.recorded_at else {name: fact.occurred_at}


def _present(**fields: Any) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}


def _name(entry: Recorded) -> str:
    return StreamId.parse(entry.stream).id


def _subject(entry: Recorded) -> Fields:
    return {"subject": StreamId.parse(entry.stream)._asdict()}


def _confirm(entry: Recorded, fact: Confirmed) -> Fields:
    currency = fact.currency
    customer = fact.customer
    fields: Fields = {
        "order_id": fact.order_id,
        "customer": {"customer_id": customer.customer_id, "account_id": customer.account_id}
        | _present(name=customer.name, email=customer.email),
        "currency": currency,
        "lines": [
            {
                "line_id": line.line_id,
                "sku": line.sku,
                "unit_price": to_major(line.unit_price, currency),
                "quantity": line.quantity,
                "tax": to_major(line.tax, currency),
                "final_sale": line.final_sale,
            }
            | _present(description=line.description)
            for line in fact.lines
        ],
        "payments": [
            {"payment_id": one.payment_id, "method": one.method, "amount": to_major(one.amount, currency)}
            for one in fact.payments
        ],
    }
    if fact.shipping_charged or fact.shipping_tax:
        shipping = {"charged": to_major(fact.shipping_charged, currency), "tax": to_major(fact.shipping_tax, currency)}
        fields["shipping"] = shipping
    return fields | _own_time(fact, "confirmed_at")


def _cancellation(entry: Recorded, fact: CancellationRequested) -> Fields:
    return (
        {"order_id": entry.case_id, "channel": fact.channel}
        | _present(order_reference=fact.order_reference, order_copy=fact.order_copy or None)
        | _own_time(fact, "requested_at")
    )


def _units(lines: Iterable[Any]) -> list[Fields]:
    return [{"line_id": line.line_id, "quantity": line.quantity} for line in lines]


def _shipment(entry: Recorded, fact: Shipped) -> Fields:
    return {
        "order_id": entry.case_id,
        "parcel_id": fact.parcel_id,
        "carrier": fact.carrier,
        "tracking_number": fact.tracking_number,
        "lines": _units(fact.lines),
    } | _own_time(fact, "shipped_at")


def _delivery(entry: Recorded, fact: Delivered) -> Fields:
    given = {"order_id": entry.case_id, "parcel_id": fact.parcel_id}
    return given | _own_time(fact, "delivered_at")


def _return(entry: Recorded, fact: ReturnRequested) -> Fields:
    lines = [{"line_id": line.line_id, "quantity": line.quantity} | _present(reason=line.reason) for line in fact.lines]
    given = {"return_id": fact.return_id, "order_id": fact.order_id, "lines": lines, "channel": fact.channel}
    return given | {"resolution": fact.resolution} | _own_time(fact, "requested_at")


def _label(entry: Recorded, fact: LabelIssued) -> Fields:
    given: Fields = {
        "return_id": _name(entry),
        "label_id": fact.label_id,
        "carrier": fact.carrier,
        "tracking_number": fact.tracking_number,
    }
    if fact.received_at is not None:  # without a time of its own a label counts as issued no later than it came
        return given | {"issued_at": fact.occurred_at, "received_at": fact.received_at}
    return given | _own_time(fact, "issued_at")


def _of_label(entry: Recorded, fact: LabelDeclined | LabelReceived | LabelVoided) -> Fields:
    return {"return_id": _name(entry), "label_id": fact.label_id}


def _label_declined(entry: Recorded, fact: LabelDeclined) -> Fields:
    return _of_label(entry, fact) | {"carrier": NOT_RECORDED, "tracking_number": NOT_RECORDED}


def _return_shipment(entry: Recorded, fact: ReturnShipped) -> Fields:
    return (
        {"return_id": _name(entry)}
        | _present(label_id=fact.label_id, tracking_number=fact.tracking_number, proof=fact.proof)
        | _own_time(fact, "shipped_at")
    )


def _arrival(entry: Recorded, fact: Fact) -> Fields:
    return {"return_id": _name(entry)} | _own_time(fact, "received_at")


def _inspection(entry: Recorded, fact: Inspected) -> Fields:
    findings = [
        {
            "line_id": finding.line_id,
            "quantity": finding.quantity,
            "same_condition": finding.same_condition,
            "original_packaging": finding.original_packaging,
            "tags_attached": finding.tags_attached,
        }
        | _present(notes=finding.notes)
        for finding in fact.findings
    ]
    given = {"return_id": _name(entry), "findings": findings}
    return given | _own_time(fact, "inspected_at")


def _sent_back(entry: Recorded, fact: SentBack) -> Fields:
    given = {"return_id": _name(entry), "lines": _units(fact.lines)}
    return given | _present(tracking_number=fact.tracking_number) | _own_time(fact, "sent_at")


def _refund(entry: Recorded, refund_id: str) -> Fields:
    kind, name = StreamId.parse(entry.stream)
    return {"refund_id": refund_id, f"{kind}_id": name}


def _refund_declined(entry: Recorded, fact: RefundDeclined) -> Fields:
    return _refund(entry, _stand_in(entry))


def _stand_in(entry: Recorded) -> str:
    """The id of a refund that was declined: always the same for one event."""
    return f"declined-{hashlib.sha256(entry.event.encode()).hexdigest()[:16]}"


def _counted(entry: Recorded, fact: RefusalsCounted) -> Fields:
    model = COMMANDS.get(fact.command)
    if model is None:
        raise HistoryBroken(f"{entry.event}: {short(fact.command)} is not a command")
    fields: Fields = {"command": fact.command} | fact.request
    if fact.command == "request_refund":
        fields["refund_id"] = _stand_in(entry)
    elif fact.command == "issue_label":
        fields |= {"carrier": NOT_RECORDED, "tracking_number": NOT_RECORDED}
    return fields | (_own_time(fact, model.own_times[0]) if model.own_times else {})


def _result(entry: Recorded, fact: RefundSettled | RefundFailed) -> Fields:
    return {
        "refund_id": fact.refund_id,
        "payment_id": fact.payment_id,
        "result": "succeeded" if isinstance(fact, RefundSettled) else "failed",
    } | _present(reference=fact.reference, reason=getattr(fact, "reason", None))


def _claim(entry: Recorded, fact: ClaimOpened) -> Fields:
    return {
        "claim_id": fact.claim_id,
        "order_id": fact.order_id,
        "line_id": fact.line_id,
        "quantity": fact.quantity,
        "channel": fact.channel,
        "attachments": list(fact.evidence),
    } | _own_time(fact, "reported_at")


def _of_claim(entry: Recorded, **fields: Any) -> Fields:
    return {"claim_id": _name(entry), **fields}


_TELLERS: dict[type[Fact], Callable[[Recorded, Any], Fields]] = {
    Confirmed: _confirm,
    CancellationRequested: _cancellation,
    Shipped: _shipment,
    Delivered: _delivery,
    AccountLinked: lambda entry, fact: {"order_id": entry.case_id, "account_id": fact.account_id},
    ReturnRequested: _return,
    LabelIssued: _label,
    LabelDeclined: _label_declined,
    LabelReceived: lambda entry, fact: _of_label(entry, fact) | _own_time(fact, "received_at"),
    LabelVoided: lambda entry, fact: _of_label(entry, fact) | {"reason": fact.reason},
    ReturnShipped: _return_shipment,
    Received: _arrival,
    ParcelRejected: _arrival,
    Inspected: _inspection,
    SentBack: _sent_back,
    ParcelLost: lambda entry, fact: {"return_id": _name(entry)} | _own_time(fact, "reported_at"),
    ReturnWithdrawn: lambda entry, fact: {"return_id": _name(entry)},
    RefundRequested: lambda entry, fact: _refund(entry, fact.refund_id),
    RefundDeclined: _refund_declined,
    RefusalsCounted: _counted,
    RefundSettled: _result,
    RefundFailed: _result,
    ClaimOpened: _claim,
    EvidenceAdded: lambda entry, fact: _of_claim(entry, attachments=list(fact.evidence)),
    ClaimContacted: lambda entry, fact: _of_claim(entry) | _own_time(fact, "contacted_at"),
    ClaimResolved: lambda entry, fact: _of_claim(entry, remedy=fact.remedy),
    ResolutionDeclined: lambda entry, fact: _of_claim(entry, remedy=fact.remedy),
    ClaimDenied: lambda entry, fact: _of_claim(entry, reason=fact.reason),
    CustomerNotified: lambda entry, fact: {**_subject(entry), "notice": fact.notice},
    OverrideGranted: lambda entry, fact: {
        **_subject(entry),
        "clause": fact.clause,
        "reason": fact.reason,
        "approved_by": fact.approved_by,
    },
}
"""The first fact of a command → the command."""

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
    Event,
    EvidenceAdded,
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
from returnable.domain.ruling import ClauseResult

Fields = dict[str, Any]

NOT_IN_EVENTS: dict[str, tuple[str, ...]] = {
    "issue_label": ("carrier", "tracking_number"),
    "request_refund": ("refund_id",),
}
"""Command → the fields that are not in the events of its refusal."""

NOT_RECORDED = "not recorded"
"""What stands in a command told again where its facts do not tell."""


@dataclass(frozen=True, slots=True)
class RecordedCommand:
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
        return next((entry for entry in self.entries if entry.event.ruling), self.entries[0])

    @property
    def decision(self) -> Event:
        """The fact that carries the ruling, or else the first."""
        return self.decided.event

    @property
    def ruling(self) -> tuple[ClauseResult, ...] | None:
        """How the policy judged, clause by clause; ``None`` where nothing was weighed."""
        return ruling_of(entry.event for entry in self.entries)

    @property
    def outcome(self) -> Literal["accepted", "declined"]:
        """What the command came to."""
        return outcome_of(entry.event for entry in self.entries)


def outcome_of(events: Iterable[Event]) -> Literal["accepted", "declined"]:
    """What a command came to that recorded these facts. A claim that care denies by hand is a command accepted."""
    return "declined" if any(event.declines and event.ruling is not None for event in events) else "accepted"


def ruling_of(events: Iterable[Event]) -> tuple[ClauseResult, ...] | None:
    """The ruling among the facts of one command; ``None`` where nothing was weighed."""
    found: tuple[ClauseResult, ...] | None = None
    for event in events:
        found = event.ruling or found
    return found


def recorded_commands(recorded: Iterable[Recorded]) -> Iterator[RecordedCommand]:
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


def is_deadline(event: Event) -> bool:
    """Whether the fact records that a deadline passed: only ``run_deadlines`` does that."""
    return isinstance(event, ContactMissed | RefundOverdue) or (
        isinstance(event, LabelVoided) and event.cause == "deadline"
    )


def _continues(group: list[Recorded], entry: Recorded) -> bool:
    first, event = group[0].event, entry.event
    if (first.recorded_at, first.command_id, first.actor) != (event.recorded_at, event.command_id, event.actor):
        return False
    if is_deadline(first):
        return is_deadline(event)
    if len(group) > 1 or entry.stream != group[0].stream or type(first) not in event.follows:
        return False
    if isinstance(first, ClaimOpened):  # denied on the spot, or a moment later by hand
        return not first.ruling and isinstance(event, ClaimDenied) and event.ruling is not None
    if isinstance(first, RefundRequested):  # nothing was paid, so nothing had to be settled
        return not first.tenders
    return True


def _told(group: list[Recorded]) -> RecordedCommand:
    first = group[0]
    event = first.event
    if is_deadline(event):
        fields: Fields = {"command": "run_deadlines"}
    else:
        tell = _REBUILD.get(type(event))
        if tell is None:
            raise HistoryBroken(f"{first.event_id}: {event.type} stands alone; no command records it so")
        fields = {"command": event.of_command} | tell(first, event)
    if event.command_id is not None:
        fields["command_id"] = event.command_id
    if event.actor is not None:
        fields["actor"] = {"role": event.actor.role, "id": event.actor.id}
    return RecordedCommand(event.recorded_at, fields, tuple(group))


def _own_time(event: Event, name: str) -> Fields:
    return {} if event.occurred_at == event.recorded_at else {name: event.occurred_at}


def _present(**fields: Any) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}


def _name(entry: Recorded) -> str:
    return StreamId.parse(entry.stream).id


def _subject(entry: Recorded) -> Fields:
    return {"subject": StreamId.parse(entry.stream)._asdict()}


def _confirm(entry: Recorded, event: Confirmed) -> Fields:
    currency = event.currency
    customer = event.customer
    fields: Fields = {
        "order_id": event.order_id,
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
            for line in event.lines
        ],
        "payments": [
            {"payment_id": one.payment_id, "method": one.method, "amount": to_major(one.amount, currency)}
            for one in event.payments
        ],
    }
    if event.shipping_charged or event.shipping_tax:
        shipping = {
            "charged": to_major(event.shipping_charged, currency),
            "tax": to_major(event.shipping_tax, currency),
        }
        fields["shipping"] = shipping
    return fields | _own_time(event, "confirmed_at")


def _cancellation(entry: Recorded, event: CancellationRequested) -> Fields:
    return (
        {"order_id": entry.case_id, "channel": event.channel}
        | _present(order_reference=event.order_reference, order_copy=event.order_copy or None)
        | _own_time(event, "requested_at")
    )


def _units(lines: Iterable[Any]) -> list[Fields]:
    return [{"line_id": line.line_id, "quantity": line.quantity} for line in lines]


def _shipment(entry: Recorded, event: Shipped) -> Fields:
    return {
        "order_id": entry.case_id,
        "parcel_id": event.parcel_id,
        "carrier": event.carrier,
        "tracking_number": event.tracking_number,
        "lines": _units(event.lines),
    } | _own_time(event, "shipped_at")


def _delivery(entry: Recorded, event: Delivered) -> Fields:
    given = {"order_id": entry.case_id, "parcel_id": event.parcel_id}
    return given | _own_time(event, "delivered_at")


def _return(entry: Recorded, event: ReturnRequested) -> Fields:
    lines = [
        {"line_id": line.line_id, "quantity": line.quantity} | _present(reason=line.reason) for line in event.lines
    ]
    given = {"return_id": event.return_id, "order_id": event.order_id, "lines": lines, "channel": event.channel}
    return given | {"resolution": event.resolution} | _own_time(event, "requested_at")


def _label(entry: Recorded, event: LabelIssued) -> Fields:
    given: Fields = {
        "return_id": _name(entry),
        "label_id": event.label_id,
        "carrier": event.carrier,
        "tracking_number": event.tracking_number,
    }
    if event.received_at is not None:  # without a time of its own a label counts as issued no later than it came
        return given | {"issued_at": event.occurred_at, "received_at": event.received_at}
    return given | _own_time(event, "issued_at")


def _of_label(entry: Recorded, event: LabelDeclined | LabelReceived | LabelVoided) -> Fields:
    return {"return_id": _name(entry), "label_id": event.label_id}


def _label_declined(entry: Recorded, event: LabelDeclined) -> Fields:
    return _of_label(entry, event) | {"carrier": NOT_RECORDED, "tracking_number": NOT_RECORDED}


def _return_shipment(entry: Recorded, event: ReturnShipped) -> Fields:
    return (
        {"return_id": _name(entry)}
        | _present(label_id=event.label_id, tracking_number=event.tracking_number, proof=event.proof)
        | _own_time(event, "shipped_at")
    )


def _arrival(entry: Recorded, event: Event) -> Fields:
    return {"return_id": _name(entry)} | _own_time(event, "received_at")


def _inspection(entry: Recorded, event: Inspected) -> Fields:
    findings = [
        {
            "line_id": finding.line_id,
            "quantity": finding.quantity,
            "same_condition": finding.same_condition,
            "original_packaging": finding.original_packaging,
            "tags_attached": finding.tags_attached,
        }
        | _present(notes=finding.notes)
        for finding in event.findings
    ]
    given = {"return_id": _name(entry), "findings": findings}
    return given | _own_time(event, "inspected_at")


def _sent_back(entry: Recorded, event: SentBack) -> Fields:
    given = {"return_id": _name(entry), "lines": _units(event.lines)}
    return given | _present(tracking_number=event.tracking_number) | _own_time(event, "sent_at")


def _refund(entry: Recorded, refund_id: str) -> Fields:
    kind, name = StreamId.parse(entry.stream)
    return {"refund_id": refund_id, f"{kind}_id": name}


def _refund_declined(entry: Recorded, event: RefundDeclined) -> Fields:
    return _refund(entry, _stand_in(entry))


def _stand_in(entry: Recorded) -> str:
    """The id of a refund that was declined: always the same for one event."""
    return f"declined-{hashlib.sha256(entry.event_id.encode()).hexdigest()[:16]}"


def _counted(entry: Recorded, event: RefusalsCounted) -> Fields:
    model = COMMANDS.get(event.command)
    if model is None:
        raise HistoryBroken(f"{entry.event_id}: {short(event.command)} is not a command")
    fields: Fields = {"command": event.command} | event.request
    if event.command == "request_refund":
        fields["refund_id"] = _stand_in(entry)
    elif event.command == "issue_label":
        fields |= {"carrier": NOT_RECORDED, "tracking_number": NOT_RECORDED}
    return fields | (_own_time(event, model.own_times[0]) if model.own_times else {})


def _result(entry: Recorded, event: RefundSettled | RefundFailed) -> Fields:
    return {
        "refund_id": event.refund_id,
        "payment_id": event.payment_id,
        "result": "succeeded" if isinstance(event, RefundSettled) else "failed",
    } | _present(reference=event.reference, reason=getattr(event, "reason", None))


def _claim(entry: Recorded, event: ClaimOpened) -> Fields:
    return {
        "claim_id": event.claim_id,
        "order_id": event.order_id,
        "line_id": event.line_id,
        "quantity": event.quantity,
        "channel": event.channel,
        "attachments": list(event.evidence),
    } | _own_time(event, "reported_at")


def _of_claim(entry: Recorded, **fields: Any) -> Fields:
    return {"claim_id": _name(entry), **fields}


_REBUILD: dict[type[Event], Callable[[Recorded, Any], Fields]] = {
    Confirmed: _confirm,
    CancellationRequested: _cancellation,
    Shipped: _shipment,
    Delivered: _delivery,
    AccountLinked: lambda entry, event: {"order_id": entry.case_id, "account_id": event.account_id},
    ReturnRequested: _return,
    LabelIssued: _label,
    LabelDeclined: _label_declined,
    LabelReceived: lambda entry, event: _of_label(entry, event) | _own_time(event, "received_at"),
    LabelVoided: lambda entry, event: _of_label(entry, event) | {"reason": event.reason},
    ReturnShipped: _return_shipment,
    Received: _arrival,
    ParcelRejected: _arrival,
    Inspected: _inspection,
    SentBack: _sent_back,
    ParcelLost: lambda entry, event: {"return_id": _name(entry)} | _own_time(event, "reported_at"),
    ReturnWithdrawn: lambda entry, event: {"return_id": _name(entry)},
    RefundRequested: lambda entry, event: _refund(entry, event.refund_id),
    RefundDeclined: _refund_declined,
    RefusalsCounted: _counted,
    RefundSettled: _result,
    RefundFailed: _result,
    ClaimOpened: _claim,
    EvidenceAdded: lambda entry, event: _of_claim(entry, attachments=list(event.evidence)),
    ClaimContacted: lambda entry, event: _of_claim(entry) | _own_time(event, "contacted_at"),
    ClaimResolved: lambda entry, event: _of_claim(entry, remedy=event.remedy),
    ResolutionDeclined: lambda entry, event: _of_claim(entry, remedy=event.remedy),
    ClaimDenied: lambda entry, event: _of_claim(entry, reason=event.reason),
    CustomerNotified: lambda entry, event: {**_subject(entry), "notice": event.notice},
    OverrideGranted: lambda entry, event: {
        **_subject(entry),
        "clause": event.clause,
        "reason": event.reason,
        "approved_by": event.approved_by,
    },
}
"""The first fact of a command → the command."""

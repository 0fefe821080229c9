"""From recorded events back to their commands: what was asked, when, and the outcome.

So a history can be decided again, played into another store, or tried under another policy. Three values of a command are
not in its events, and are filled in without an effect: carrier and tracking number of a label that was declined, and the id
of a refund that was declined, because it was never taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from returnable.domain.commands import COMMANDS, Command, parse_command
from returnable.domain.errors import HistoryBroken, short
from returnable.domain.events import (
    ArrivalAssigned,
    CancellationRequested,
    ClaimDenied,
    ClaimOpened,
    Confirmed,
    ContactMissed,
    Delivered,
    DeliveryTakenBack,
    Event,
    ExceptionRaised,
    LabelDeclined,
    LabelIssued,
    LabelVoided,
    OverrideGranted,
    PaidElsewhere,
    ParcelRejected,
    Part,
    PaymentCaptured,
    Received,
    RefundAnswer,
    RefundDeclined,
    RefundOverdue,
    RefundRecorded,
    RefundRequested,
    RefundSettled,
    RefusalsCounted,
    ReturnedToSender,
    Shipped,
    UnitsCancelled,
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
"""The value of a field that the events do not hold."""


@dataclass(frozen=True, slots=True)
class RecordedCommand:
    """A command as its events show it, the instant at which the desk handled it, and these events as recorded."""

    at: datetime
    fields: Fields
    """The command as a scenario line has it, without ``at``."""
    entries: tuple[Recorded, ...]

    @property
    def command(self) -> Command:
        """The command. Raises ``command.invalid`` when it is not valid any more."""
        return parse_command(self.fields)

    @property
    def decided(self) -> Recorded:
        """The entry of :attr:`decision`."""
        return next((entry for entry in self.entries if entry.event.ruling), self.entries[0])

    @property
    def decision(self) -> Event:
        """The event with the ruling, or else the first."""
        return self.decided.event

    @property
    def ruling(self) -> tuple[ClauseResult, ...] | None:
        """The result of every clause; ``None`` where nothing was weighed."""
        return ruling_of(entry.event for entry in self.entries)

    @property
    def outcome(self) -> Literal["accepted", "declined"]:
        """Whether the policy said yes."""
        return outcome_of(entry.event for entry in self.entries)


def outcome_of(events: Iterable[Event]) -> Literal["accepted", "declined"]:
    """The outcome of the command that recorded these events. When care denies a claim by hand, the command is accepted."""
    return "declined" if any(event.declines and event.ruling is not None for event in events) else "accepted"


def ruling_of(events: Iterable[Event]) -> tuple[ClauseResult, ...] | None:
    """The ruling among the events of one command; ``None`` where nothing was weighed."""
    found: tuple[ClauseResult, ...] | None = None
    for event in events:
        found = event.ruling or found
    return found


def recorded_commands(recorded: Iterable[Recorded]) -> Iterator[RecordedCommand]:
    """The commands of a history, in order: of one case, or of a whole log in order of position.

    The events that one command recorded follow each other, and become one command again. Raises :class:`HistoryBroken` for
    an event that begins no command.
    """
    group: list[Recorded] = []
    for entry in recorded:
        if group and not _continues(group, entry):
            yield _rebuilt(group)
            group = []
        group.append(entry)
    if group:
        yield _rebuilt(group)


def is_deadline(event: Event) -> bool:
    """Whether the event records that a deadline passed: only ``run_deadlines`` does that."""
    return isinstance(event, ContactMissed | RefundOverdue) or (
        isinstance(event, LabelVoided) and event.cause == "deadline"
    )


def _continues(group: list[Recorded], entry: Recorded) -> bool:
    first, event = group[0].event, entry.event
    if (first.recorded_at, first.command_id, first.actor) != (event.recorded_at, event.command_id, event.actor):
        return False
    if is_deadline(first):
        return is_deadline(event)
    if isinstance(first, ArrivalAssigned) and entry.stream == first.assigned_to:
        came = len(group) == 1 and isinstance(event, Received | ParcelRejected | ReturnedToSender)
        return came or (len(group) == 2 and isinstance(event, ExceptionRaised))
    if entry.stream != group[0].stream or type(first) not in event.follows:
        return False
    if any(type(each.event) is type(event) for each in group):
        return False
    if isinstance(first, ClaimOpened):  # denied on the spot, or a moment later by hand
        return not first.ruling and isinstance(event, ClaimDenied) and event.ruling is not None
    if isinstance(first, DeliveryTakenBack) and isinstance(event, Delivered):  # moved, or told anew a moment later
        return first.moved_to is not None
    if isinstance(first, RefundRequested):  # nothing was paid, so nothing had to be settled
        return not first.tenders
    return True


def _rebuilt(group: list[Recorded]) -> RecordedCommand:
    first = group[0]
    event = first.event
    if is_deadline(event):
        fields: Fields = {"command": "run_deadlines"}
    elif isinstance(event, RefusalsCounted):
        fields = _counted(first, event)
    elif event.of_command is None:
        raise HistoryBroken(f"{first.event_id}: {event.type} stands alone; no command records it so")
    else:
        fields = {"command": event.of_command} | _fields(first, event.of_command)
    if event.command_id is not None:
        fields["command_id"] = event.command_id
    if event.actor is not None:
        fields["actor"] = {"role": event.actor.role, "id": event.actor.id}
    return RecordedCommand(event.recorded_at, fields, tuple(group))


def _fields(entry: Recorded, command: str) -> Fields:
    """The fields of a command: those of its first event under the same names, and the ids in the name of the stream."""
    event, stream, model = entry.event, StreamId.parse(entry.stream), COMMANDS[command]
    known: Fields = {"subject": stream._asdict(), f"{stream.kind}_id": stream.id} | dict(event)
    if model.about == "order":
        known["order_id"] = entry.case_id
    if "evidence" in known:
        known["attachments"] = known["evidence"]
    if isinstance(event, LabelDeclined):
        known |= dict.fromkeys(NOT_IN_EVENTS[command], NOT_RECORDED)
    elif isinstance(event, RefundDeclined):
        known["refund_id"] = _stand_in(entry)
    elif isinstance(event, RefundAnswer):
        known["result"] = "succeeded" if isinstance(event, RefundSettled) else "failed"
        known["amount"] = to_major(event.amount, event.currency)
    elif isinstance(event, PaymentCaptured):
        known["amount"] = to_major(event.amount, event.currency)
    elif isinstance(event, RefundRecorded):
        known["tenders"] = [_told(tender, event.currency) for tender in event.tenders]
        known["lines"] = event.lines or None
    elif isinstance(event, OverrideGranted):
        known["lines"], known["once"] = event.lines or None, None if event.once else False
    elif isinstance(event, Shipped):
        known["lines"] = event.lines or None  # none were left, so none were named
    elif isinstance(event, UnitsCancelled):
        known["elsewhere"] = event.elsewhere or None
    elif isinstance(event, Confirmed):
        known |= _order(event)
    elif isinstance(event, ArrivalAssigned):
        kind, name = StreamId.parse(event.assigned_to)
        known[f"{kind}_id"] = name
    elif isinstance(event, CancellationRequested):
        known["order_copy"] = event.order_copy or None
    # Without a time of its own a label counts as issued no later than it was received.
    dated = event.occurred_at != event.recorded_at or (isinstance(event, LabelIssued) and event.received_at is not None)
    for name in model.own_times[:1]:
        known[name] = event.occurred_at if dated else None
    if isinstance(event, DeliveryTakenBack):
        known["delivered_at"] = event.moved_to
    names = [name for name in model.model_fields if name not in ("command", "command_id", "actor")]
    return {name: _as_asked(known[name]) for name in names if known.get(name) is not None}


def _as_asked(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_as_asked(each) for each in value]
    if isinstance(value, Part):
        return {name: each for name, each in value if each is not None and name not in _DECIDED}
    return value


_DECIDED = ("parcels", "accepted")
"""Fields of lines and findings that the decision adds to what was asked."""


def _order(event: Confirmed) -> Fields:
    """The parts of an order, with amounts in major units."""

    def asked(part: Part) -> Fields:
        return _in_major(part, event.currency)

    charged, tax = (to_major(amount, event.currency) for amount in (event.shipping_charged, event.shipping_tax))
    return {
        "customer": asked(event.customer) | {"account_id": event.customer.account_id},
        "lines": [asked(line) for line in event.lines],
        "shipping": {"charged": charged, "tax": tax} if event.shipping_charged or event.shipping_tax else None,
        "payments": [asked(payment) for payment in event.payments],
    }


def _in_major(part: Part, currency: str) -> Fields:
    values = {name: value for name, value in part if value is not None}
    return values | {name: to_major(values[name], currency) for name in _AMOUNTS if name in values}


def _told(tender: PaidElsewhere, currency: str) -> Fields:
    """A tender as it was told: by the id of the payout, where that stands for the payment."""
    told = tender if tender.payout_id is None else tender.model_copy(update={"payment_id": tender.payout_id})
    return {name: value for name, value in _in_major(told, currency).items() if name != "payout_id"}


_AMOUNTS = ("unit_price", "tax", "amount", "captured")


def _own_time(event: Event, name: str) -> Fields:
    return {} if event.occurred_at == event.recorded_at else {name: event.occurred_at}


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

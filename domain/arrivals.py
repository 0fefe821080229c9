"""Arrival: a parcel that nobody announced. It is parked until a person finds out what it is for, or sends it away.

It is a case of its own, because it may belong to no order. When it is assigned, the same command records the arrival of the
return or of the wrong item, or the way back of an outbound parcel, as if that had been announced.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

from returnable.domain.aggregate import Aggregate
from returnable.domain.commands import (
    AssignArrival,
    Command,
    DismissArrival,
    ReceiveReturn,
    RecordArrival,
    RecordParcelReturned,
)
from returnable.domain.deadlines import Happened
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.errors import Impossible
from returnable.domain.events import (
    ArrivalAssigned,
    ArrivalDismissed,
    ArrivalRecorded,
    Event,
    LabelIssued,
    ReturnShipped,
    Shipped,
)
from returnable.domain.ids import StreamId
from returnable.domain.lifecycles import ARRIVAL
from returnable.domain.ports import ReservedId


@dataclass
class UnannouncedArrival(Aggregate):
    """A parcel that nobody announced, as its events make it."""

    kind = "arrival"
    lifecycle = ARRIVAL

    arrival_id: str
    recorded: ArrivalRecorded = field(init=False)
    assigned: ArrivalAssigned | None = None
    """What a person found it to be."""
    dismissed: ArrivalDismissed | None = None

    def _move(self, event: Event, happened: Happened) -> None:
        self.status = ARRIVAL.after(self.status, event.type)
        if isinstance(event, ArrivalRecorded):
            self.recorded = event
        elif isinstance(event, ArrivalAssigned):
            self.assigned = event
        elif isinstance(event, ArrivalDismissed):
            self.dismissed = event

    def report(self, command: AssignArrival) -> Command:
        """The report of the arrival that a command assigns, to what it is assigned to."""
        came_at, command_id, actor = self.recorded.occurred_at, command.command_id, command.actor
        if command.order_id is not None and command.parcel_id is not None:
            return RecordParcelReturned(
                order_id=command.order_id,
                parcel_id=command.parcel_id,
                returned_at=came_at,
                command_id=command_id,
                actor=actor,
            )
        return ReceiveReturn(
            return_id=command.return_id,
            claim_id=command.claim_id,
            box_id=command.box_id,
            received_at=came_at,
            command_id=command_id,
            actor=actor,
        )


def record_arrival(known: UnannouncedArrival | None, command: RecordArrival, now: DecisionContext) -> DecisionResult:
    """Park a parcel that nobody announced. Told twice it records nothing; raises ``arrival.exists`` for another parcel."""
    stream = str(StreamId("arrival", command.arrival_id))
    event = ArrivalRecorded(
        **now.envelope(command.arrived_at),
        arrival_id=command.arrival_id,
        carrier=command.carrier,
        tracking_number=command.tracking_number,
        order_reference=command.order_reference,
        notes=command.notes,
        pins=now.pins,
    )
    if known is not None:
        same_time = command.arrived_at in (None, known.recorded.occurred_at)
        if not same_time or _told(known.recorded) != _told(event):
            raise Impossible("arrival.exists", f"{known.name} exists already, with other values", field="arrival_id")
        return DecisionResult()
    return now.fact(stream, event, reserved_ids=[ReservedId("arrival", command.arrival_id, stream)])


def _told(event: ArrivalRecorded) -> object:
    """What makes two reports the same parcel, besides its time."""
    return event.carrier, event.tracking_number, event.order_reference, event.notes


def assign(arrival: UnannouncedArrival, command: AssignArrival, now: DecisionContext) -> DecisionResult:
    """Say what the parcel is for. The report that follows from it is decided on the case of its order."""
    assigned_to = str(command.assigned_to)
    if arrival.assigned is not None and _place(arrival.assigned) == (assigned_to, command.parcel_id, command.box_id):
        return DecisionResult()
    if arrival.assigned is not None:
        where, parcel_id = arrival.assigned.assigned_to.replace("/", " ", 1), arrival.assigned.parcel_id
        part = "" if parcel_id is None else f"parcel {parcel_id} of "
        raise arrival.not_allowed(command.command, f"to {part}{where}")
    arrival.check_allows("ArrivalAssigned", command.command)
    return now.record(
        arrival.stream,
        ArrivalAssigned,
        assigned_to=assigned_to,
        parcel_id=command.parcel_id,
        box_id=command.box_id,
    )


def _place(event: ArrivalAssigned) -> tuple[str, str | None, str | None]:
    return event.assigned_to, event.parcel_id, event.box_id


def dismiss(arrival: UnannouncedArrival, command: DismissArrival, now: DecisionContext) -> DecisionResult:
    """The parcel is not for the shop, such as one that is sent back unopened."""
    arrival.check_allows("ArrivalDismissed", command.command)
    return now.record(arrival.stream, ArrivalDismissed, reason=command.reason)


# ---- finding what it is for -------------------------------------------------------------------------------------------


def tracking_key(tracking_number: str) -> str:
    """What an index knows a tracking number by. Spaces, hyphens and the case of letters do not count.

    >>> tracking_key("1z 999-aa1") == tracking_key("1Z999AA1")
    True
    """
    plain = "".join(character for character in tracking_number if character.isalnum()).upper()
    return sha256((plain or tracking_number).encode()).hexdigest()[:32]


def tracking_of(event: Event) -> str | None:
    """The key of the tracking number of a parcel that may come to the shop, if the event tells one."""
    if type(event) not in _TRACKED:
        return None
    number: str | None = getattr(event, "tracking_number", None)
    return None if number is None else tracking_key(number)


_TRACKED = frozenset({Shipped, LabelIssued, ReturnShipped})


def tracked(case_id: str, key: str) -> ReservedId:
    """The entry of an index that leads from a tracking number to a case. Several cases may know one number."""
    return ReservedId("tracking", f"{key}/{case_id}", case_id)

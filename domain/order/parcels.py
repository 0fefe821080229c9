"""Parcels on their way out: shipments and deliveries as the carrier reports them.

A delivery resolves the ends of ``returns.window`` and ``wrong_item.window``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from returnable.domain.commands import (
    CorrectDelivery,
    RecordDelivery,
    RecordParcelReturned,
    RecordShipment,
    ReportParcelLost,
)
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.errors import Impossible
from returnable.domain.events import Delivered, DeliveryTakenBack, OutboundLost, ReturnedToSender, Shipped, Units
from returnable.domain.fields import to_text
from returnable.domain.order.state import Order, Parcel
from returnable.domain.wording import listed, plural, units


def record_shipment(order: Order, command: RecordShipment, now: DecisionContext) -> DecisionResult:
    """Record what the carrier did. If that conflicts with what is known, record an exception as well.

    What was bought and not cancelled can be shipped, and what claims granted as replacement.
    """
    shipped_at, parcel_id = command.shipped_at or now.at, command.parcel_id
    known = order.parcels.get(parcel_id)
    event = Shipped(
        **now.envelope(shipped_at),
        parcel_id=parcel_id,
        carrier=command.carrier,
        tracking_number=command.tracking_number,
        lines=_shipped_units(order, command, known),
    )
    if known is not None and any(_same_shipment(event, earlier) for earlier in known.shipments):
        return DecisionResult()
    reasons: list[str] = []
    if shipped_at < order.placed_at:
        reasons.append(
            f"parcel {parcel_id} was shipped at {to_text(shipped_at)}, before the order was placed at "
            f"{to_text(order.placed_at)}"
        )
    if known is not None and known.shipments:
        reasons.append(
            f"parcel {parcel_id} is already known to be shipped at {to_text(known.shipped_at)} by "
            f"{known.carrier} {known.tracking_number}; now told: {to_text(shipped_at)} by {command.carrier} "
            f"{command.tracking_number}"
        )
    elif known is not None and known.delivered_at is not None and known.delivered_at < shipped_at:
        reasons.append(_delivered_first(parcel_id, known.delivered_at, shipped_at))
    reasons += _too_many(order, event, known)
    reasons += [
        f"parcel {parcel_id}, shipped at {to_text(shipped_at)}, has {units(count)} of line {line_id} more than was left "
        f"to ship: the shop cancelled {order.cancelled(line_id)}"
        for line_id, count in _cancelled_units(order, event, known)
    ]
    if order.cancelled_at is not None and not order.every_unit_cancelled:
        reasons.append(
            f"the shipment of parcel {parcel_id} at {to_text(shipped_at)} was learnt after the cancellation "
            f"was granted at {to_text(order.cancelled_at)}"
        )
    return now.fact(order.stream, event, reasons)


def _shipped_units(order: Order, command: RecordShipment, known: Parcel | None) -> tuple[Units, ...]:
    order.check_lines((line.line_id for line in command.lines or ()), "lines[{}].line_id")
    if command.lines is not None:
        return tuple(Units(line_id=line.line_id, quantity=line.quantity) for line in command.lines)
    if known is not None and known.shipments:
        shipped: Mapping[str, int] = known.units
    else:  # a cancelled unit may have been shipped all the same: then an exception says so
        left = {line_id: order.units(line_id) - order.shipped(line_id) for line_id in order.lines}
        rest = {line_id: count - order.cancelled(line_id) for line_id, count in left.items()}
        shipped = rest if any(count > 0 for count in rest.values()) else left
    return tuple(Units(line_id=line_id, quantity=count) for line_id, count in shipped.items() if count > 0)


def _too_many(order: Order, event: Shipped, known: Parcel | None) -> Iterator[str]:
    """The lines of a new parcel with more units in it than were left to ship."""
    if known is not None and known.shipments:
        return
    if not event.lines:
        yield f"every unit of {order.name} is in another parcel already; now parcel {event.parcel_id} was shipped"
    for line in event.lines:
        left = order.units(line.line_id) - order.shipped(line.line_id)
        if line.quantity > left:
            shipped = f"{units(line.quantity)} of line {line.line_id} were shipped in parcel {event.parcel_id}"
            yield f"{shipped}, but {max(0, left)} {plural(left, 'was', 'were')} left to ship"


def _delivered_first(parcel_id: str, delivered_at: datetime, shipped_at: datetime) -> str:
    return (
        f"parcel {parcel_id} was delivered at {to_text(delivered_at)}, before it was shipped at {to_text(shipped_at)}"
    )


def _cancelled_units(order: Order, event: Shipped, known: Parcel | None) -> Iterator[tuple[str, int]]:
    """The lines of a new parcel with the units in it that the shop had cancelled."""
    for line in event.lines if known is None else ():
        more = min(line.quantity - order.to_ship(line.line_id), order.cancelled(line.line_id))
        if more > 0:
            yield line.line_id, more


def _same_shipment(one: Shipped, other: Shipped) -> bool:
    def values(event: Shipped) -> object:
        units = {units.line_id: units.quantity for units in event.lines}
        return event.occurred_at, event.carrier, event.tracking_number, units

    return values(one) == values(other)


def record_delivery(order: Order, command: RecordDelivery, now: DecisionContext) -> DecisionResult:
    """The parcel reached the customer. The windows of its units are resolved here."""
    delivered_at = command.delivered_at or now.at
    parcel = order.parcels.get(command.parcel_id)
    reasons: list[str] = []
    if parcel is None:
        if not any(order.to_ship(line_id) for line_id in order.lines):
            reasons.append(
                f"every unit of {order.name} is in another parcel already; now parcel {command.parcel_id} was delivered"
            )
    else:
        if delivered_at in parcel.deliveries:
            return DecisionResult()
        if parcel.shipments and delivered_at < parcel.shipped_at:
            reasons.append(_delivered_first(parcel.parcel_id, delivered_at, parcel.shipped_at))
        if parcel.gone is not None:
            reasons.append(
                f"parcel {parcel.parcel_id} did not reach the customer, as was reported at {to_text(parcel.gone)}; now "
                f"told: delivered at {to_text(delivered_at)}"
            )
        if parcel.delivered_at is not None:
            reasons.append(
                f"parcel {parcel.parcel_id} is already known to be delivered at {to_text(parcel.delivered_at)}; now "
                f"told: {to_text(delivered_at)}"
            )
    if delivered_at < order.placed_at:
        reasons.append(
            f"parcel {command.parcel_id} was delivered at {to_text(delivered_at)}, before the order was placed at "
            f"{to_text(order.placed_at)}"
        )
    return now.fact(order.stream, _delivered(command.parcel_id, delivered_at, now), reasons)


def _delivered(parcel_id: str, delivered_at: datetime, now: DecisionContext) -> Delivered:
    clauses, deadlines = now.policy.clauses, now.deadlines
    return Delivered(
        **now.envelope(delivered_at),
        parcel_id=parcel_id,
        return_before=deadlines.end(clauses.returns_window, delivered_at, "return_before"),
        report_before=deadlines.end(clauses.wrong_item_window, delivered_at, "report_before"),
        pins=now.pins,
    )


def correct_delivery(
    order: Order, command: CorrectDelivery, now: DecisionContext, decisions: Sequence[str]
) -> DecisionResult:
    """Take a delivery back, or move it. ``decisions``: the ids of the decisions that rest on it; they keep their rulings."""
    parcel = _known_parcel(order, command.parcel_id)
    moved_to = command.delivered_at
    if parcel.delivered is None:
        if moved_to is None:
            return DecisionResult()
        reason = f"{order.name}: parcel {parcel.parcel_id} is not delivered, so there is nothing to correct"
        raise Impossible("command.invalid", reason, field="parcel_id")
    if parcel.delivered.at == moved_to:
        return DecisionResult()
    event = DeliveryTakenBack(
        **now.envelope(parcel.delivered.at),
        parcel_id=parcel.parcel_id,
        moved_to=moved_to,
        reason=command.reason,
        decisions=tuple(decisions),
    )
    reasons: list[str] = []
    if decisions:
        reasons.append(
            f"{plural(len(decisions), 'the decision', 'the decisions')} {listed(decisions)} "
            f"{plural(len(decisions), 'rests', 'rest')} on the delivery of parcel {parcel.parcel_id} at "
            f"{to_text(parcel.delivered.at)}, which was wrong"
        )
    if parcel.delivered.at == parcel.moved_to:
        reasons.append(
            f"the delivery of parcel {parcel.parcel_id} was moved to {to_text(parcel.delivered.at)} before; now it is "
            + ("taken back" if moved_to is None else f"moved to {to_text(moved_to)}")
        )
    if moved_to is not None and parcel.shipments and moved_to < parcel.shipped_at:
        reasons.append(_delivered_first(parcel.parcel_id, moved_to, parcel.shipped_at))
    decided = now.fact(order.stream, event)
    if moved_to is not None:
        decided.events.append((order.stream, _delivered(parcel.parcel_id, moved_to, now)))
    return decided.disputed(now, reasons)


def report_lost(order: Order, command: ReportParcelLost, now: DecisionContext) -> DecisionResult:
    """A parcel was lost on its way out."""
    return _did_not_arrive(order, OutboundLost, command.parcel_id, command.reported_at, "was lost on its way", now)


def record_returned(order: Order, command: RecordParcelReturned, now: DecisionContext) -> DecisionResult:
    """The carrier brought a parcel back."""
    return _did_not_arrive(
        order, ReturnedToSender, command.parcel_id, command.returned_at, "came back to the sender", now
    )


def _did_not_arrive(
    order: Order,
    kind: type[OutboundLost | ReturnedToSender],
    parcel_id: str,
    at: datetime | None,
    what: str,
    now: DecisionContext,
) -> DecisionResult:
    parcel = _known_parcel(order, parcel_id)
    event = kind(**now.envelope(at), parcel_id=parcel_id)
    if (event.occurred_at, kind is OutboundLost) in parcel.told_gone:
        return DecisionResult()
    if parcel.delivered_at is not None:
        reason = f"parcel {parcel_id} {what}, but it was delivered at {to_text(parcel.delivered_at)}"
    elif order.status == "cancelled":
        reason = f"parcel {parcel_id} {what}, and the order is cancelled"
    else:
        reason = f"parcel {parcel_id} {what}: its units have to be shipped again, or cancelled"
    return now.fact(order.stream, event, [reason])


def _known_parcel(order: Order, parcel_id: str) -> Parcel:
    parcel = order.parcels.get(parcel_id)
    if parcel is None:
        raise Impossible("parcel.unknown", f"{order.name} has no parcel {parcel_id!r}", field="parcel_id")
    return parcel

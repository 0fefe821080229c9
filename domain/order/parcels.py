"""Parcels on their way out: shipments and deliveries as the carrier reports them.

A delivery resolves the ends of ``returns.window`` and ``wrong_item.window``.
"""

from __future__ import annotations

from collections.abc import Iterator

from returnable.domain.commands import RecordDelivery, RecordShipment
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.errors import Impossible
from returnable.domain.events import Delivered, Shipped, Units
from returnable.domain.fields import to_text
from returnable.domain.order.state import Order, Parcel
from returnable.domain.wording import plural, units


def record_shipment(order: Order, command: RecordShipment, now: DecisionContext) -> DecisionResult:
    """Record what the carrier did. If that conflicts with what is known, record an exception as well."""
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
    if shipped_at < order.confirmed.occurred_at:
        reasons.append(
            f"parcel {parcel_id} was shipped at {to_text(shipped_at)}, before the order was confirmed at "
            f"{to_text(order.confirmed.occurred_at)}"
        )
    if known is not None:
        reasons.append(
            f"parcel {parcel_id} is already known to be shipped at {to_text(known.shipped_at)} by "
            f"{known.carrier} {known.tracking_number}; now told: {to_text(shipped_at)} by {command.carrier} "
            f"{command.tracking_number}"
        )
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
    # A cancelled unit may have been shipped all the same: then an exception says so.
    left = {line.line_id: line.quantity - order.in_parcels(line.line_id) for line in order.lines.values()}
    if command.lines is None:
        rest = {line_id: order.to_ship(line_id) for line_id in left}
        shipped = known.units if known else rest if any(rest.values()) else left
        if not any(shipped.values()):
            reason = f"every unit of {order.name} is in another parcel already"
            raise Impossible("quantity.exceeded", reason, field="parcel_id")
        return tuple(Units(line_id=line_id, quantity=count) for line_id, count in shipped.items() if count > 0)
    for index, line in enumerate(command.lines):
        left_of_line = left[line.line_id]
        if known is None and line.quantity > left_of_line:
            reason = (
                f"{line.quantity} units of line {line.line_id} were shipped, but {left_of_line} "
                f"{plural(left_of_line, 'is', 'are')} left to ship"
            )
            raise Impossible("quantity.exceeded", reason, field=f"lines[{index}].quantity")
    return tuple(Units(line_id=line.line_id, quantity=line.quantity) for line in command.lines)


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
    """The parcel reached the customer. The windows of its units are resolved here, for good."""
    delivered_at = command.delivered_at or now.at
    parcel = order.parcels.get(command.parcel_id)
    if parcel is None:
        raise Impossible("parcel.unknown", f"{order.name} has no parcel {command.parcel_id!r}", field="parcel_id")
    if delivered_at in parcel.deliveries:
        return DecisionResult()
    reasons: list[str] = []
    if delivered_at < parcel.shipped_at:
        reasons.append(
            f"parcel {parcel.parcel_id} was delivered at {to_text(delivered_at)}, before it was shipped at "
            f"{to_text(parcel.shipped_at)}"
        )
    if parcel.delivered_at is not None:
        reasons.append(
            f"parcel {parcel.parcel_id} is already known to be delivered at {to_text(parcel.delivered_at)}; now told: "
            f"{to_text(delivered_at)}"
        )
    clauses, deadlines = now.policy.clauses, now.deadlines
    event = Delivered(
        **now.envelope(delivered_at),
        parcel_id=command.parcel_id,
        return_before=deadlines.end(clauses.returns_window, delivered_at, "return_before"),
        report_before=deadlines.end(clauses.wrong_item_window, delivered_at, "report_before"),
        pins=now.pins,
    )
    return now.fact(order.stream, event, reasons)

"""The shop cancels: the whole order, or units of it. No clause judges it: the shop decides for itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from returnable.domain.commands import CancelOrder
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.errors import Impossible
from returnable.domain.events import Units, UnitsCancelled
from returnable.domain.fields import to_text
from returnable.domain.order.state import Held, Order
from returnable.domain.wording import listed, plural, units


def cancel_order(order: Order, command: CancelOrder, now: DecisionContext, held: Mapping[str, Held]) -> DecisionResult:
    """Cancel units that are in no parcel, return or claim, and not cancelled; ``held`` counts those in the last three.

    A cancellation elsewhere happened: it is recorded in any state, with an exception where it conflicts with what is known.
    """
    order.check_lines((line.line_id for line in command.lines or ()), "lines[{}].line_id")
    free = {line_id: _free(order, line_id, held) for line_id in order.lines}
    event = UnitsCancelled(
        **now.envelope(command.cancelled_at),
        lines=_units(order, command, free),
        reason=command.reason,
        elsewhere=command.elsewhere,
    )
    if not command.elsewhere:
        order.check_not_cancelled(command.command)
        if not event.lines:
            why = "each of its units is in a parcel, in a return or claim, or cancelled"
            raise order.not_allowed(command.command, why)
        for index, line in enumerate(event.lines):
            if line.quantity > free[line.line_id]:
                reason = f"asked to cancel {line.quantity} of line {line.line_id}, but {_known(order, line, held)}"
                raise Impossible("quantity.exceeded", reason, field=f"lines[{index}].quantity")
    elif _on_record(order, event, rest=command.lines is None and not any(free.values())):
        return DecisionResult()
    return now.fact(order.stream, event, list(_conflicts(order, event, free, held)))


def _units(order: Order, command: CancelOrder, free: Mapping[str, int]) -> tuple[Units, ...]:
    """The units named, or all that are free; if none is, a cancellation elsewhere is of the whole order."""
    if command.lines is not None:
        return tuple(Units(line_id=line.line_id, quantity=line.quantity) for line in command.lines)
    if command.elsewhere and not any(free.values()):
        free = {line.line_id: line.quantity for line in order.lines.values()}
    return tuple(Units(line_id=line_id, quantity=count) for line_id, count in free.items() if count)


def _free(order: Order, line_id: str, held: Mapping[str, Held]) -> int:
    # The customer's cancellation does not count: the shop may have cancelled elsewhere, too.
    elsewhere = held[line_id].get(None, 0) - held[line_id].cancelled
    return max(0, order.to_ship(line_id) - elsewhere - order.held_in_gone(held[line_id]))


def _known(order: Order, line: Units, held: Mapping[str, Held]) -> str:
    """What was bought of a line, and where it is."""
    line_id, cancelled = line.line_id, order.cancelled(line.line_id)
    bought, in_returns = order.units(line_id), held[line_id].total - held[line_id].cancelled
    shipped = order.in_parcels(line_id)
    places = (
        (shipped, plural(shipped, "in a parcel", "in parcels")),
        (cancelled, "cancelled"),
        (in_returns, "in a return or claim"),
    )
    known = [f"{count} {plural(count, 'is', 'are')} {place}" for count, place in places if count]
    of_which = f", of which {listed(known)}" if known else ""
    return f"{bought} {plural(bought, 'was', 'were')} bought{of_which}"


def _on_record(order: Order, event: UnitsCancelled, rest: bool) -> bool:
    """Whether the same cancellation elsewhere is recorded; ``rest``: all that was left was cancelled, and nothing is now."""

    def counts(of: UnitsCancelled) -> object:
        return {units.line_id: units.quantity for units in of.lines}

    return any(
        earlier.elsewhere and earlier.occurred_at == event.occurred_at and (rest or counts(earlier) == counts(event))
        for earlier in order.shop_cancellations
    )


def _conflicts(order: Order, event: UnitsCancelled, free: Mapping[str, int], held: Mapping[str, Held]) -> Iterator[str]:
    when = f"{'elsewhere ' if event.elsewhere else ''}at {to_text(event.occurred_at)}"
    if order.cancelled_at is not None:
        yield f"the shop cancelled {when}, but the order was cancelled at {to_text(order.cancelled_at)} already"
    for line in event.lines:
        if line.quantity > free[line.line_id]:
            was = plural(line.quantity, "was", "were")
            told = f"{units(line.quantity)} of line {line.line_id} {was} cancelled {when}"
            yield f"{told}, but {_known(order, line, held)}"

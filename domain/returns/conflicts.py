"""What a carrier, a warehouse or a customer tells of a return may contradict what is known. A person then looks at it.

The pairs are listed in ``docs/conflicts.md``. A time that cannot be proves nothing; :mod:`.state` says which times those are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from returnable.domain.events import (
    Event,
    FindingsDisputed,
    Inspected,
    LabelReceived,
    ParcelLost,
    ParcelRejected,
    Received,
    ReturnShipped,
    SentBack,
)
from returnable.domain.fields import to_text
from returnable.domain.order.state import Held, Order
from returnable.domain.returns.state import Return
from returnable.domain.wording import listed, plural, units


def conflicts(ret: Return, order: Order, event: Event, held: Mapping[str, Held] | None = None) -> list[str]:
    """What the event contradicts; ``held``: the units that are in any return or claim. Empty where all fits."""
    after = ret.clone()
    after.apply(event, ret.version + 1)
    found = [*_known_otherwise(ret, event), *_impossible_times(ret, order, event), *_states(ret, event)]
    found += [*_lateness(ret, after, event), *_units_twice(ret, after, order, held or {})]
    return found


def _known_otherwise(ret: Return, event: Event) -> Iterator[str]:
    """The same was told with other values."""
    told = f"now told: {to_text(event.occurred_at)}"
    if isinstance(event, LabelReceived):
        label = ret.labels[event.label_id]
        if label.received is not None and label.received.at != event.occurred_at:
            yield f"label {label.label_id} is already known to be received at {to_text(label.received.at)}; {told}"
    elif isinstance(event, ReturnShipped):
        key = ret.meant(event)
        for known in ret.boxes[key].hand_overs[:1] if key in ret.boxes else ():
            yield f"{_box(key)} is already known to be handed over at {to_text(known.at)}; {told}"
    elif isinstance(event, Received | ParcelRejected):
        key = ret.meant(event)
        box = ret.boxes.get(key)
        if box is not None and box.taken_in and box.received is not None:
            yield f"{_box(key)} is already known to have arrived at {to_text(box.received.at)}; {told}"


def _impossible_times(ret: Return, order: Order, event: Event) -> Iterator[str]:
    """It happened before something that comes first."""
    if isinstance(event, FindingsDisputed):
        return
    at, what = event.occurred_at, _WHAT.get(type(event), "")
    before: list[tuple[str, datetime | None]] = []
    if isinstance(event, LabelReceived):
        what = what.format(event.label_id)
        before = [("it was issued", ret.labels[event.label_id].issued.at)]
    elif isinstance(event, ReturnShipped | Received | ParcelRejected):
        before = [("the wrong item was reported" if ret.of_claim else "the return was asked for", ret.asked_at)]
        before += [(f"parcel {parcel_id} was delivered", at) for parcel_id, at in _deliveries(ret, order)]
    if isinstance(event, ReturnShipped):
        if event.label_id is not None:
            before.append((f"label {event.label_id} was issued", ret.labels[event.label_id].issued.at))
        box = ret.boxes.get(ret.meant(event))
        if box is not None and box.received is not None and box.received.at < at:
            yield f"the parcel arrived at {to_text(box.received.at)}, before it was handed over at {to_text(at)}"
        if ret.lost_at is not None and ret.lost_at < at:
            yield f"the parcel was reported lost at {to_text(ret.lost_at)}, before it was handed over at {to_text(at)}"
    elif isinstance(event, Received | ParcelRejected):
        box = ret.boxes.get(ret.meant(event))
        before.append(("it was handed over", box.shipped.at if box is not None and box.shipped is not None else None))
        if ret.received is None and ret.inspected_at is not None and ret.inspected_at < at:
            yield f"units were inspected at {to_text(ret.inspected_at)}, before the parcel arrived at {to_text(at)}"
    elif isinstance(event, Inspected | SentBack):
        before = [("the parcel arrived", ret.received and ret.received.at)]
    elif isinstance(event, ParcelLost):
        before = [("it was handed over", ret.shipped and ret.shipped.at)]
    for first, then in before:
        if then is not None and at < then:
            yield f"{what} at {to_text(at)}, before {first} at {to_text(then)}"


_WHAT: dict[type[Event], str] = {
    LabelReceived: "label {} was received",
    ReturnShipped: "the parcel was handed over",
    Received: "the parcel arrived",
    ParcelRejected: "the parcel arrived",
    ParcelLost: "the parcel was reported lost",
    Inspected: "units were inspected",
    SentBack: "units were sent back",
}


def _states(ret: Return, event: Event) -> Iterator[str]:
    """It cannot follow from the state of the return."""
    arrives = isinstance(event, Received | ParcelRejected)
    if isinstance(event, LabelReceived):
        return
    if ret.status == "declined" and not (isinstance(event, SentBack) and ret.received is not None):
        yield f"the return was declined, but {_said(event)}"
    if ret.status == "withdrawn" and ret.withdrawn is not None:
        yield f"the return was withdrawn at {to_text(ret.withdrawn.at)}, but {_said(event)}"
    if ret.status in ("refunded", "refund_failed") and arrives and ret.received is None:
        yield f"the return was paid before it arrived: {_said(event)}"
    went_back = any(count > ret.rejected.get(line_id, 0) for line_id, count in ret.sent_back.items())
    if (went_back and _comes_again(ret, event)) or (
        ret.status == "sent_back" and isinstance(event, Received | ParcelRejected | Inspected)
    ):
        yield f"its units were sent back to the customer, but {_said(event)}"
    if isinstance(event, ParcelLost) and ret.received is not None and all(box.arrivals for box in ret.boxes.values()):
        yield f"the parcel arrived at {to_text(ret.received.at)}, but it was reported lost at {to_text(event.occurred_at)}"
    if isinstance(event, Inspected | SentBack) and ret.received is None:
        yield f"{_said(event)}, but no arrival is recorded"
    if isinstance(event, Inspected) and ret.received is not None and ret.wholly_refused and ret.status != "declined":
        yield f"the parcel was refused at the dock, but {_said(event)}"
    if isinstance(event, FindingsDisputed):
        for line_id in dict.fromkeys(finding.line_id for finding in event.findings):
            found = sum(finding.quantity for finding in event.findings if finding.line_id == line_id)
            left = ret.uninspected(line_id)
            if found > left:
                yield f"findings on {units(found)} of line {line_id}, but {left} {plural(left, 'is', 'are')} left to inspect"
    elif isinstance(event, SentBack):
        for line in event.lines:
            left = ret.to_send_back(line.line_id)
            if line.quantity > left:
                sent = f"{units(line.quantity)} of line {line.line_id} {plural(line.quantity, 'was', 'were')} sent back"
                yield f"{sent}, but {left} rejected {plural(left, 'unit is', 'units are')} here"


def _comes_again(ret: Return, event: Event) -> bool:
    """Whether a box arrives that was refused before, or one for which no unit is left. Another box was never sent back."""
    if not isinstance(event, Received | ParcelRejected):
        return False
    box = ret.boxes.get(ret.meant(event))
    return (box is not None and box.refused) or not ret.anything_uninspected()


def _said(event: Event) -> str:
    if isinstance(event, FindingsDisputed):
        return f"units were inspected at {to_text(event.occurred_at)}"
    return f"{_WHAT[type(event)]} at {to_text(event.occurred_at)}"


def _lateness(ret: Return, after: Return, event: Event) -> Iterator[str]:
    """What the dock decided was decided on less: the parcel was in time after all, or it was late."""
    if not isinstance(event, LabelReceived | ReturnShipped):
        return
    for box_id, box in after.boxes.items():
        late = after.box_is_late(box_id)
        if box.refused and not late and ret.is_late():
            yield f"{_box(box_id)} was refused at the dock, but it was in time; it may be received again"
        elif box.taken_in and late and not ret.is_late():
            yield f"{_box(box_id)} was taken in, but it was late"


def _units_twice(ret: Return, after: Return, order: Order, held: Mapping[str, Held]) -> Iterator[str]:
    """A return that had given units up has them again, and others have them, too."""
    for line_id in sorted(after.line_ids) if held else ():
        before, now = (sum(each.held(line_id).values()) for each in (ret, after))
        taken = held[line_id].total - before if not ret.cancelled else 0
        if now > before and taken + now > order.units(line_id):
            others = listed([name for name, count in held[line_id].by.items() if count and name != ret.name])
            twice = f"{units(taken)} of line {line_id} {plural(taken, 'is', 'are')} in another return or claim as well"
            yield f"{twice}: {others}" if others else twice


def _deliveries(ret: Return, order: Order) -> Iterator[tuple[str, datetime]]:
    for parcel_id in sorted(
        {each.parcel_id for line in ret.lines for each in line.parcels if each.parcel_id is not None}
    ):
        delivered_at = order.parcels[parcel_id].delivered_at
        if delivered_at is not None:
            yield parcel_id, delivered_at


def _box(box_id: str | None) -> str:
    return "the parcel" if box_id is None else f"box {box_id}"

"""The view of a parcel that nobody announced, and what it may be for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from returnable.domain.arrivals import UnannouncedArrival, tracking_key
from returnable.domain.calendar import zone
from returnable.domain.case import Case
from returnable.domain.ids import StreamId
from returnable.domain.outcome import in_zone
from returnable.domain.policy import Policy
from returnable.domain.returns.state import Return
from returnable.projections.views import ArrivalView

Candidate = dict[str, Any]


def arrival_view(arrival: UnannouncedArrival, policy: Policy, cases: Iterable[Case]) -> ArrivalView:
    """The state of the parcel. ``cases``: those that may be meant, by its tracking number or its order reference."""
    told, assigned, dismissed = arrival.recorded, arrival.assigned, arrival.dismissed
    found = [] if assigned is not None else [each for case in cases for each in _candidates(arrival, case)]
    return ArrivalView.model_validate(
        {
            "arrival_id": arrival.arrival_id,
            "status": arrival.status,
            "arrived_at": in_zone(told.occurred_at, zone(policy.zone)),
            "carrier": told.carrier,
            "tracking_number": told.tracking_number,
            "order_reference": told.order_reference,
            "notes": told.notes,
            "assigned_to": None if assigned is None else StreamId.parse(assigned.assigned_to)._asdict(),
            "parcel_id": None if assigned is None else assigned.parcel_id,
            "box_id": None if assigned is None else assigned.box_id,
            "dismissed_because": None if dismissed is None or assigned is not None else dismissed.reason,
            "candidates": sorted(found, key=lambda each: (-len(each["found_by"]), each["kind"] == "order")),
        }
    )


def _candidates(arrival: UnannouncedArrival, case: Case) -> Iterator[Candidate]:
    """What of a case the parcel may be: what its tracking number names, or what its order waits for."""
    told = arrival.recorded
    key = None if told.tracking_number is None else tracking_key(told.tracking_number)
    by_order = told.order_reference == case.case_id
    for ret in case.ways_back:
        by_number = key is not None and key in _numbers(ret)
        expected = by_order and not ret.called_off and (ret.received is None or len(ret.boxes) > 1)
        if ret.of_claim:
            expected = expected and bool(ret.labels or ret.boxes)
        if by_number or expected:
            yield _candidate(*StreamId.parse(ret.stream), case, None, by_number, by_order)
    for parcel in case.order.parcels.values():
        if parcel.shipments and key is not None and key == tracking_key(parcel.tracking_number):
            yield _candidate("order", case.case_id, case, parcel.parcel_id, True, by_order)


def _numbers(ret: Return) -> set[str]:
    """The keys of the tracking numbers that a return, or the wrong item of a claim, travels on."""
    numbers = [label.tracking_number for label in ret.labels.values()]
    numbers += [told.tracking_number for box in ret.boxes.values() for told in box.hand_overs if told.tracking_number]
    return {tracking_key(number) for number in numbers}


def _candidate(kind: str, name: str, case: Case, parcel_id: str | None, by_number: bool, by_order: bool) -> Candidate:
    ways = (("tracking_number", by_number), ("order_reference", by_order))
    return {
        "kind": kind,
        "id": name,
        "order_id": case.case_id,
        "parcel_id": parcel_id,
        "found_by": tuple(way for way, holds in ways if holds),
    }

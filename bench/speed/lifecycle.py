"""One return from the order to the settled refund: ten commands, the unit in which everything here is counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import returnable
from returnable.domain.events import decode, encode
from returnable.domain.policy import bundled_policies
from returnable.domain.ports import Batch, Entry, EventStore, ReservedId

Step: TypeAlias = tuple[datetime, dict[str, Any]]
"""A command and the instant at which it is given."""

PLACEHOLDER = "XXXXXXXX"
"""Stands for the number of the lifecycle in what is copied; as long as every number."""


def numbered(nth: int) -> str:
    """The number that makes the ids of the ``nth`` lifecycle its own."""
    return f"{nth:08}"


def lifecycle(number: str) -> list[Step]:
    """Confirm, ship, deliver, request return, label, ship back, receive, inspect, request refund, refund result."""
    order, ret, refund = f"A-{number}", f"R-{number}", f"F-{number}"
    line = {"line_id": "1", "sku": "SKU-1", "unit_price": "750.00", "quantity": 1, "tax": "66.56"}
    found = {"same_condition": True, "original_packaging": True, "tags_attached": True}
    label = {"carrier": "fedex", "tracking_number": "RT-1"}
    payment = {"payment_id": "p-1", "method": "card", "amount": "816.56"}
    customer = {"customer_id": "c-1", "account_id": "acc-1"}
    wanted, findings = {"line_id": "1", "quantity": 1, "reason": "too small"}, {"line_id": "1", "quantity": 1} | found
    parcel = {"order_id": order, "parcel_id": "P-1"}
    carried = {"carrier": "fedex", "tracking_number": "T-1"}
    confirmed = {"customer": customer, "currency": "USD", "lines": [line], "payments": [payment]}
    result = {"payment_id": "p-1", "result": "succeeded", "reference": "re-1"}
    steps: list[tuple[str, str, dict[str, Any]]] = [
        ("03-02T10:00:00-05:00", "confirm_order", {"order_id": order, **confirmed}),
        ("03-03T09:00:00-05:00", "record_shipment", parcel | carried),
        ("03-05T14:00:00-05:00", "record_delivery", parcel),
        ("03-09T12:00:00-04:00", "request_return", {"order_id": order, "lines": [wanted], "channel": "portal"}),
        ("03-09T12:30:00-04:00", "issue_label", {"label_id": "L-1", **label}),
        ("03-10T16:00:00-04:00", "record_return_shipment", {"label_id": "L-1", "tracking_number": "RT-1"}),
        ("03-13T11:00:00-04:00", "receive_return", {}),
        ("03-16T10:00:00-04:00", "inspect_return", {"findings": [findings]}),
        ("03-16T10:05:00-04:00", "request_refund", {"refund_id": refund}),
        ("03-18T10:00:00-04:00", "record_refund_result", {"refund_id": refund, **result}),
    ]
    about_the_return = slice(3, 9)
    for _, _, fields in steps[about_the_return]:
        fields["return_id"] = ret
    return [
        (datetime.fromisoformat(f"2026-{at}"), {"command": name} | fields | {"command_id": f"{number}-{nth}"})
        for nth, (at, name, fields) in enumerate(steps, start=1)
    ]


def go_through(desk: returnable.Desk, number: str) -> Iterator[returnable.Outcome]:
    """Carry out one lifecycle, command by command."""
    for at, fields in lifecycle(number):
        outcome = desk.handle(fields, at=at)
        assert outcome.accepted, outcome
        yield outcome


def payload(outcome: returnable.Outcome) -> bytes:
    """The bytes of the facts that the command stored."""
    return b"".join(encode(event)[1] for _, _, event in outcome.recorded_events)


@dataclass(frozen=True, slots=True)
class Copies:
    """What one append is to hold: the same commands of many lifecycles, side by side."""

    batches: Sequence[tuple[str, int, Sequence[tuple[str, int, str, bytes]]]]
    """Each command: its case, how many facts the case held, and its facts (stream, version, stored name, content)."""
    names: Sequence[ReservedId]
    numbers: Sequence[str]


def copies(events: int, together: int = 500, unfinished_every: int = 0) -> Iterator[Copies]:
    """Copies of one lifecycle until they hold so many events.

    ``together`` lifecycles run side by side, so that the events of a case lie apart, as they do in service. Of
    ``unfinished_every`` lifecycles one is left unfinished: with a label that will be void, or a parcel to inspect.
    """
    with returnable.open("memory:") as desk:
        steps = [outcome.recorded_events for outcome in go_through(desk, PLACEHOLDER)]
    stored = [[(stream, version, *encode(event)) for stream, version, event in recorded] for recorded in steps]
    number_of_copies = -(-events // sum(map(len, stored)))
    for first in range(0, number_of_copies, together):
        nths = range(first, min(first + together, number_of_copies))
        batches: list[tuple[str, int, Sequence[tuple[str, int, str, bytes]]]] = []
        after = 0
        for step, recorded in enumerate(stored):
            for nth in nths:
                if unfinished_every and nth % unfinished_every == 0 and step >= _STOPS[nth // unfinished_every % 2]:
                    continue
                number = numbered(nth)
                entries = [
                    (
                        stream.replace(PLACEHOLDER, number),
                        version,
                        kind,
                        content.replace(PLACEHOLDER.encode(), number.encode()),
                    )
                    for stream, version, kind, content in recorded
                ]
                batches.append((f"A-{number}", after, entries))
            after += len(recorded)
        numbers = [numbered(nth) for nth in nths]
        names = [
            name
            for number in numbers
            for name in (
                ReservedId("return", f"R-{number}", f"A-{number}"),
                ReservedId("refund", f"F-{number}", f"A-{number}"),
            )
        ]
        yield Copies(batches, names, numbers)


_STOPS = (5, 7)
"""How many commands there are to an unfinished lifecycle: the label is issued, or the parcel is received."""


def fill(store: EventStore, events: int, together: int = 500) -> int:
    """Append copies of one lifecycle until the store holds so many events; how many copies that were.

    Receipts are left out: no reader looks at them.
    """
    policy = bundled_policies().versions[-1]
    store.keep_policy(policy.sha256, policy.document)
    filled = 0
    for round_of in copies(events, together):
        batches = [
            Batch(
                case_id,
                after,
                tuple(Entry(stream, version, decode(kind, content)) for stream, version, kind, content in entries),
            )
            for case_id, after, entries in round_of.batches
        ]
        store.append(batches, reserved_ids=round_of.names)
        filled += len(round_of.numbers)
    return filled

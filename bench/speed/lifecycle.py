"""One return from the order to the settled refund: ten commands, the unit in which everything here is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import returnable
from bench.speed.measure import Row
from returnable.adapters.eventstore.library import StoredEntry
from returnable.domain.events import encode
from returnable.domain.policy import bundled_policies
from returnable.domain.ports import Batch, EventStore, ReservedId

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


Block: TypeAlias = tuple[list[float], list[float]]
"""The seconds of what is measured, and those of raw commits of as many bytes."""


def in_blocks(blocks: int, lifecycles: int, measure: Callable[[list[str]], Block]) -> list[Block]:
    """What each block took, with so many new lifecycles in each. A block before them is not counted: it warms up."""
    numbers = map(numbered, count())
    return [measure([*islice(numbers, lifecycles)]) for _ in range(blocks + 1)][1:]


def row_of(name: str, goal: str, blocks: Sequence[Block], lifecycles: int) -> Row:
    """The ratio of the raw seconds to the measured ones, block by block."""
    raw = median(10 * lifecycles / sum(of_raw) for _, of_raw in blocks)
    counted = f"{10 * lifecycles * len(blocks):,} commands in {len(blocks)} blocks"
    return Row(
        name, [sum(of_raw) / sum(ours) for ours, of_raw in blocks], goal, f"{raw:,.0f} commits/s, one client", counted
    )


# ---- stores of any size -----------------------------------------------------------------------------------------------


@cache
def _facts() -> Sequence[Sequence[tuple[str, int, str, bytes]]]:
    """What each of the ten commands stores: stream, version, stored name, content."""
    with returnable.open("memory:") as desk:
        steps = [outcome.recorded_events for outcome in go_through(desk, PLACEHOLDER)]
    return [[(stream, version, *encode(event)) for stream, version, event in recorded] for recorded in steps]


def lives(events: int) -> int:
    """How many lifecycles a store of so many events is made of."""
    return -(-events // sum(map(len, _facts())))


_STOPS = (5, 7)
"""How many commands there are to an unfinished lifecycle: the label is issued, or the parcel is received."""


def _copies(nths: Iterable[int], unfinished_every: int) -> Iterator[Any]:
    """The same commands of many lifecycles, side by side."""
    after = 0
    for step, recorded in enumerate(_facts()):
        for nth in nths:
            if unfinished_every and nth % unfinished_every == 0 and step >= _STOPS[nth // unfinished_every % 2]:
                continue
            number = numbered(nth)
            entries = [
                StoredEntry(
                    stream.replace(PLACEHOLDER, number),
                    version,
                    (kind, content.replace(PLACEHOLDER.encode(), number.encode())),
                )
                for stream, version, kind, content in recorded
            ]
            yield Batch(f"A-{number}", after, tuple(entries))  # type: ignore[arg-type]
        after += len(recorded)


Appended: TypeAlias = Callable[[Sequence[Batch], Sequence[int]], object]
"""Is told which batches were appended, and the positions of all their events."""


def fill(
    store: EventStore, events: int, together: int = 500, unfinished_every: int = 0, appended: Appended | None = None
) -> int:
    """Append copies of one lifecycle until the store holds so many events; how many copies that are.

    ``together`` lifecycles run side by side, so that the events of a case lie apart, as they do in service. Of
    ``unfinished_every`` lifecycles one is left unfinished: with a label that will be void, or a parcel to inspect. What an
    earlier run left unfinished is gone on with. Receipts are left out: no reader looks at them.
    """
    policy = bundled_policies().versions[-1]
    store.keep_policy(policy.sha256, policy.document)
    all_of_them = range(lives(events))
    for first in all_of_them[::together]:
        nths = all_of_them[first : first + together]
        if store.load(f"A-{numbered(nths[-1])}"):
            continue
        batches = [*_copies(nths, unfinished_every)]
        names = [
            ReservedId(kind, f"{letter}-{numbered(nth)}", f"A-{numbered(nth)}")
            for nth in nths
            for kind, letter in (("return", "R"), ("refund", "F"))
        ]
        positions = store.append(batches, reserved_ids=names)
        if appended is not None:
            appended(batches, positions)
    return len(all_of_them)


def filled(path: Path, events: int) -> int:
    """Make a store in a file, and fill it; how many events it holds."""
    with returnable.open(f"sqlite:///{path}") as desk:
        fill(desk.services.store, events)
        return desk.services.store.head()

"""A fixed history, projected; run as a program it prints the hash of every stored view, whatever interpreter runs it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from returnable.adapters.scenario import play
from returnable.adapters.views.sqlite import SQLiteViews
from returnable.adapters.wiring import Services, assemble, projector
from returnable.domain.ports import Batch, Entry
from returnable.projections.stored import VIEWS

GOOD = {"same_condition": True, "original_packaging": True, "tags_attached": True}


def _order(order_id: str, price: str, **more: Any) -> dict[str, Any]:
    line = {
        "line_id": "1",
        "sku": "SÄCKCHEN-1",
        "unit_price": price,
        "quantity": 2,
        "tax": "0.07",
        "description": "“Lin”",
    }
    paid = f"{float(price) * 2 + 0.07:.2f}"
    return {
        "command": "confirm_order",
        "order_id": order_id,
        "customer": {"customer_id": "c-1", "account_id": "acc-1", "name": "Zoë Ångström", "email": "zoe@example.com"},
        "currency": "USD",
        "lines": [line],
        "payments": [
            {"payment_id": "p-1", "method": "gift_card", "amount": "10.00"},
            {"payment_id": "p-2", "method": "card", "amount": f"{float(paid) - 10:.2f}"},
        ],
    } | more


def _delivered(order_id: str) -> list[tuple[str, dict[str, Any]]]:
    on = {"order_id": order_id, "parcel_id": "P-1"}
    return [
        ("2026-03-03T09:00:00-05:00", {"command": "record_shipment", **on, "carrier": "fedex", "tracking_number": "T"}),
        ("2026-03-05T14:00:00.000001-05:00", {"command": "record_delivery", **on}),
    ]


def _return(order_id: str, number: int, quantity: int = 1, **more: Any) -> tuple[str, dict[str, Any]]:
    wanted = [{"line_id": "1", "quantity": quantity, "reason": "zu groß"}]
    asked = {"return_id": f"R-{number}", "order_id": order_id, "lines": wanted, "channel": "portal"}
    return "2026-03-09T12:00:00-04:00", {"command": "request_return", **asked, **more}


def _label(number: int) -> tuple[str, dict[str, Any]]:
    label = {"label_id": "L-1", "carrier": "fedex", "tracking_number": "RT"}
    return "2026-03-09T12:30:00-04:00", {"command": "issue_label", "return_id": f"R-{number}", **label}


LINES: list[tuple[str, dict[str, Any]]] = sorted(
    [
        ("2026-03-02T10:00:00-05:00", _order("A-1", "120.00")),
        ("2026-03-02T10:00:00-05:00", _order("A-2", "750.00")),
        ("2026-03-02T10:00:00-05:00", _order("A-3", "99.99", actor={"role": "system", "id": "checkout"})),
        ("2026-03-02T10:00:00-05:00", _order("Ä-4", "480.00", currency="EUR", command_id="checkout-4")),
        *(step for order_id in ("A-1", "A-2", "Ä-4") for step in _delivered(order_id)),
        # A cancellation in time, its refund never answered.
        (
            "2026-03-02T11:00:00-05:00",
            {"command": "request_cancellation", "order_id": "A-3", "channel": "email", "order_reference": "A-3"},
        ),
        ("2026-03-02T11:30:00-05:00", {"command": "request_refund", "order_id": "A-3", "refund_id": "F-3"}),
        # A return with a label fee: one payment fails, a second attempt pays it.
        _return("A-1", 1, quantity=2),
        _label(1),
        (
            "2026-03-10T16:00:00-04:00",
            {"command": "record_return_shipment", "return_id": "R-1", "label_id": "L-1", "proof": "carrier_scan"},
        ),
        ("2026-03-13T11:00:00-04:00", {"command": "receive_return", "return_id": "R-1"}),
        (
            "2026-03-16T10:00:00-04:00",
            {
                "command": "inspect_return",
                "return_id": "R-1",
                "findings": [
                    {"line_id": "1", "quantity": 1} | GOOD,
                    {"line_id": "1", "quantity": 1} | GOOD | {"tags_attached": False, "notes": "Étiquette arrachée"},
                ],
            },
        ),
        ("2026-03-16T11:00:00-04:00", {"command": "request_refund", "return_id": "R-1", "refund_id": "F-1"}),
        *(
            (
                "2026-03-18T10:00:00-04:00",
                {"command": "record_refund_result", "refund_id": "F-1", "payment_id": payment, "result": result},
            )
            for payment, result in (("p-1", "succeeded"), ("p-2", "failed"))
        ),
        ("2026-03-19T11:00:00-04:00", {"command": "request_refund", "return_id": "R-1", "refund_id": "F-1b"}),
        # A declined return, then an override, then a label that voids itself.
        ("2026-05-01T12:00:00-04:00", _return("A-2", 2)[1]),
        (
            "2026-05-01T13:00:00-04:00",
            {
                "command": "override",
                "subject": {"kind": "order", "id": "A-2"},
                "clause": "returns.window",
                "reason": "Eine gute Kundin.",
                "approved_by": "Ann",
            },
        ),
        ("2026-05-01T14:00:00-04:00", _return("A-2", 22)[1]),
        ("2026-05-01T15:00:00-04:00", _label(22)[1]),
        ("2026-05-09T15:00:00-04:00", {"command": "run_deadlines"}),
        # A claim nobody answers in time, settled by refund; an account that is linked; a notice.
        (
            "2026-03-06T09:00:00-05:00",
            {
                "command": "report_wrong_item",
                "claim_id": "C-4",
                "order_id": "Ä-4",
                "line_id": "1",
                "channel": "email",
                "attachments": ["item_picture", "order_confirmation"],
            },
        ),
        ("2026-03-20T09:00:00-04:00", {"command": "resolve_claim", "claim_id": "C-4", "remedy": "both"}),
        ("2026-03-20T10:00:00-04:00", {"command": "request_refund", "claim_id": "C-4", "refund_id": "F-4"}),
        ("2026-03-21T10:00:00-04:00", {"command": "link_account", "order_id": "Ä-4", "account_id": "acc-2"}),
        (
            "2026-03-21T11:00:00-04:00",
            {"command": "notify_customer", "subject": {"kind": "order", "id": "A-3"}, "notice": "Storniert."},
        ),
    ],
    key=lambda line: line[0],
)
"""The history; instants of the same offset sort as text, and the change of the clocks lies between them."""


def tell(services: Services) -> Iterator[dict[str, Any]]:
    """The outcomes of the history, and after it one fact that cannot have happened."""
    lines = [(nth, json.dumps({"at": at, **fields}).encode()) for nth, (at, fields) in enumerate(LINES, start=1)]
    for played in play(services, lines):
        outcome = played.as_dict()
        assert outcome["error"] is None, (played.line, outcome["error"])
        yield outcome
    events = services.store.load("A-3")
    versions = [entry.version for entry in events if entry.stream == "order/A-3"]
    services.store.append([Batch("A-3", len(events), (Entry("order/A-3", max(versions) + 1, events[0].event),))])


def digests_of(services: Services) -> dict[str, str]:
    """View → hash, of what a store holds."""
    with closing(SQLiteViews(None)) as views:
        projector(services, views).run()
        with views.reading() as reading:
            return {name: reading.digest(name) for name in VIEWS}


def digests() -> dict[str, str]:
    """View → hash, after the history."""
    services = assemble("memory:")
    for _ in tell(services):
        pass
    return digests_of(services)


if __name__ == "__main__":
    print(json.dumps(digests(), indent=4))

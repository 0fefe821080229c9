"""A scenario of many customers side by side, whose every line can be told again at any later time.

What is refused here stays refused whatever happens afterwards: an impossible command leaves no receipt, so a retry of
it is judged anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, TypeAlias

Line: TypeAlias = tuple[datetime, dict[str, Any]]

MORNING = datetime.fromisoformat("2026-03-02T10:00:00-05:00")


def scenario(journeys: int) -> list[dict[str, Any]]:
    """The lines of so many journeys of all kinds, in order of time, each command with an id."""
    lines = [line for nth in range(journeys) for line in _of(nth)]
    lines += [(MORNING + timedelta(days=days), {"command": "run_deadlines"}) for days in (1, 4, 9, 10, 16, 25, 40)]
    lines.sort(key=_at)
    return [
        {"at": at.isoformat(), **fields, "command_id": f"k-{nth}", "actor": {"role": "system", "id": "kill"}}
        for nth, (at, fields) in enumerate(lines, start=1)
    ]


def journey(nth: int) -> list[dict[str, Any]]:
    """The lines of the ``nth`` customer alone, in order of time, each with an id and an actor of its own."""
    n = f"{nth:03}"
    return [
        {
            "at": at.isoformat(),
            **fields,
            "command_id": f"k-{n}-{number}",
            "actor": {"role": "system", "id": f"{fields['command']}-{n}-{number}"},
        }
        for number, (at, fields) in enumerate(sorted(_of(nth), key=_at), start=1)
    ]


def _of(nth: int) -> list[Line]:
    begin = MORNING + timedelta(minutes=nth)
    return [(begin + after, fields) for after, fields in KINDS[nth % len(KINDS)](f"{nth:03}")]


def _at(line: Line) -> datetime:
    return line[0]


def in_time(lines: Iterable[dict[str, Any]]) -> list[Line]:
    """When each line is given, and the fields of its command, in order of time."""
    return sorted(((datetime.fromisoformat(line.pop("at")), line) for line in map(dict, lines)), key=_at)


def as_file(lines: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


TimedCommand: TypeAlias = tuple[timedelta, dict[str, Any]]


def _after(hours: float, command: str, **fields: Any) -> TimedCommand:
    return timedelta(hours=hours), {"command": command, **fields}


def _confirmed(n: str, final_sale: bool = False) -> TimedCommand:
    lines = [
        {
            "line_id": "1",
            "sku": "SKU-1",
            "unit_price": "300.00",
            "quantity": 2,
            "tax": "53.25",
            "final_sale": final_sale,
        },
        {"line_id": "2", "sku": "SKU-2", "unit_price": "99.99", "quantity": 1},
    ]
    payments = [
        {"payment_id": "p-1", "method": "card", "amount": "700.00"},
        {"payment_id": "p-2", "method": "gift_card", "amount": "53.24"},
    ]
    customer = {"customer_id": f"c-{n}", "account_id": f"acc-{n}"}
    return _after(
        0, "confirm_order", order_id=f"A-{n}", customer=customer, currency="USD", lines=lines, payments=payments
    )


def _delivered(n: str, final_sale: bool = False) -> Iterator[TimedCommand]:
    yield _confirmed(n, final_sale)
    parcel = {"order_id": f"A-{n}", "parcel_id": f"P-{n}"}
    yield _after(23, "record_shipment", **parcel, carrier="fedex", tracking_number=f"T-{n}")
    yield _after(76, "record_delivery", **parcel)


def _requested(n: str, hours: float = 170, **changes: Any) -> TimedCommand:
    fields = {
        "return_id": f"R-{n}",
        "order_id": f"A-{n}",
        "lines": [{"line_id": "1", "quantity": 2}, {"line_id": "2", "quantity": 1}],
        "channel": "portal",
    }
    return _after(hours, "request_return", **(fields | changes))


def _label(n: str, hours: float = 170.5) -> TimedCommand:
    label = {"label_id": f"L-{n}", "carrier": "fedex", "tracking_number": f"RT-{n}"}
    return _after(hours, "issue_label", return_id=f"R-{n}", **label)


def _inspected(n: str, good: bool = True) -> Iterator[TimedCommand]:
    yield from _delivered(n)
    yield _requested(n)
    yield _label(n)
    yield _after(198, "record_return_shipment", return_id=f"R-{n}", label_id=f"L-{n}", proof="carrier_scan")
    yield _after(265, "receive_return", return_id=f"R-{n}")
    found = {"same_condition": good, "original_packaging": True, "tags_attached": True}
    findings = [{"line_id": "1", "quantity": 2, **found}, {"line_id": "2", "quantity": 1, **found}]
    yield _after(336, "inspect_return", return_id=f"R-{n}", findings=findings)


def _result(n: str, hours: float, refund: str, payment: str, result: str = "succeeded") -> TimedCommand:
    answer = {"refund_id": refund, "payment_id": payment, "result": result, "reference": f"re-{n}-{payment}"}
    return _after(hours, "record_refund_result", **answer)


def _refunded(n: str) -> Iterator[TimedCommand]:
    yield from _inspected(n)
    yield _after(340, "request_refund", refund_id=f"F-{n}", return_id=f"R-{n}")
    yield _after(341, "notify_customer", subject={"kind": "refund", "id": f"F-{n}"}, notice="refund issued")
    yield _result(n, 360, f"F-{n}", "p-1")
    yield _result(n, 361, f"F-{n}", "p-2")


def _refund_fails_once(n: str) -> Iterator[TimedCommand]:
    yield from _inspected(n)
    yield _after(340, "request_refund", refund_id=f"F-{n}", return_id=f"R-{n}")
    yield _result(n, 360, f"F-{n}", "p-1")
    yield _result(n, 361, f"F-{n}", "p-2", "failed")
    yield _after(370, "request_refund", refund_id=f"F-{n}-again", return_id=f"R-{n}")
    yield _result(n, 380, f"F-{n}-again", "p-2")


def _rejected(n: str) -> Iterator[TimedCommand]:
    yield from _inspected(n, good=False)
    yield _after(340, "request_refund", refund_id=f"F-{n}", return_id=f"R-{n}")  # declined
    lines = [{"line_id": "1", "quantity": 2}, {"line_id": "2", "quantity": 1}]
    yield _after(345, "record_send_back", return_id=f"R-{n}", lines=lines)


def _cancelled(n: str) -> Iterator[TimedCommand]:
    yield _confirmed(n)
    yield _after(0.5, "request_cancellation", order_id=f"A-{n}", channel="email", order_reference=f"A-{n}")
    yield _after(0.6, "notify_customer", subject={"kind": "order", "id": f"A-{n}"}, notice="cancelled")
    yield _after(1, "request_refund", refund_id=f"F-{n}", order_id=f"A-{n}")
    yield _result(n, 30, f"F-{n}", "p-1")
    yield _result(n, 31, f"F-{n}", "p-2")


def _cancelled_too_late(n: str) -> Iterator[TimedCommand]:
    yield _confirmed(n)
    yield _after(5, "request_cancellation", order_id=f"A-{n}", channel="email", order_reference=f"A-{n}")  # declined
    authority = {"clause": "cancellation.window", "reason": "courtesy", "approved_by": "boss"}
    yield _after(6, "override", subject={"kind": "order", "id": f"A-{n}"}, **authority)
    yield _after(7, "request_cancellation", order_id=f"A-{n}", channel="email", order_reference=f"A-{n}")
    yield _after(8, "request_refund", refund_id=f"F-{n}", order_id=f"A-{n}")  # nobody pays: overdue later


def _final_sale(n: str) -> Iterator[TimedCommand]:
    yield from _delivered(n, final_sale=True)
    yield _requested(n)  # declined
    authority = {"clause": "returns.final_sale", "reason": "misdescribed", "approved_by": "boss"}
    yield _after(171, "override", subject={"kind": "order", "id": f"A-{n}"}, **authority)
    yield _requested(n, 172, return_id=f"R-{n}-again")
    yield _after(173, "withdraw_return", return_id=f"R-{n}-again")
    yield _label(n, 174)  # the first return stays declined: error


def _too_late(n: str) -> Iterator[TimedCommand]:
    yield from _delivered(n)
    yield _requested(n)
    yield _label(n)  # voids itself by the deadlines
    yield _after(400, "record_return_shipment", return_id=f"R-{n}", tracking_number=f"own-{n}")
    yield _after(450, "receive_return", return_id=f"R-{n}")  # refused at the dock


def _wrong_item(n: str) -> Iterator[TimedCommand]:
    yield from _delivered(n)
    yield _after(
        100,
        "report_wrong_item",
        claim_id=f"W-{n}",
        order_id=f"A-{n}",
        line_id="2",
        channel="email",
        attachments=["order_confirmation"],
    )
    yield _after(101, "resolve_claim", claim_id=f"W-{n}", remedy="refund")  # declined: no picture
    yield _after(110, "add_claim_evidence", claim_id=f"W-{n}", attachments=["item_picture"])
    yield _after(120, "record_claim_contact", claim_id=f"W-{n}")
    yield _after(121, "resolve_claim", claim_id=f"W-{n}", remedy="refund")
    yield _after(122, "request_refund", refund_id=f"F-{n}", claim_id=f"W-{n}")
    yield _result(n, 140, f"F-{n}", "p-1")
    yield _result(n, 141, f"F-{n}", "p-2")


def _claim_denied(n: str) -> Iterator[TimedCommand]:
    yield from _delivered(n)
    yield _after(100, "report_wrong_item", claim_id=f"W-{n}", order_id=f"A-{n}", line_id="1", channel="email")
    yield _after(200, "deny_claim", claim_id=f"W-{n}", reason="the picture shows the right item")
    late = {"claim_id": f"W-{n}-late", "order_id": f"A-{n}", "line_id": "2", "channel": "email"}
    yield _after(600, "report_wrong_item", **late)  # declined


def _told_twice(n: str) -> Iterator[TimedCommand]:
    yield from _delivered(n)
    parcel = {"order_id": f"A-{n}", "parcel_id": f"P-{n}"}
    yield _after(80, "record_delivery", **parcel, delivered_at=_instant(n, 76))  # appends nothing
    yield _after(81, "record_delivery", **parcel, delivered_at=_instant(n, 77))  # contradicts: an exception
    yield _after(82, "link_account", order_id=f"A-{n}", account_id=f"acc-{n}-new")
    yield _requested(n)
    yield _label(n)
    yield _after(171, "void_label", return_id=f"R-{n}", label_id=f"L-{n}", reason="wrong address")
    label = {"label_id": f"L-{n}-2", "carrier": "ups", "tracking_number": f"RT-{n}-2"}
    yield _after(172, "issue_label", return_id=f"R-{n}", **label)
    yield _after(180, "record_label_received", return_id=f"R-{n}", label_id=f"L-{n}-2")
    yield _after(198, "record_return_shipment", return_id=f"R-{n}", label_id=f"L-{n}-2")
    yield _after(400, "report_return_lost", return_id=f"R-{n}")


def _impossible(n: str) -> Iterator[TimedCommand]:
    yield from _delivered(n)
    yield _confirmed(n)  # sorted behind the first: order.exists
    yield _after(78, "record_delivery", order_id=f"A-{n}", parcel_id="nope")
    yield _after(79, "request_return", return_id=f"R-{n}", order_id="nobody's", lines=[], channel="portal")
    yield _requested(n, 80, lines=[{"line_id": "1", "quantity": 3}])
    yield _after(81, "request_refund", refund_id=f"F-{n}", return_id=f"R-{n}")
    yield _after(82, "record_shipment", order_id=f"A-{n}")


def _instant(n: str, hours: float) -> str:
    return (MORNING + timedelta(minutes=int(n), hours=hours)).isoformat()


KINDS: tuple[Callable[[str], Iterator[TimedCommand]], ...] = (
    _refunded,
    _cancelled,
    _wrong_item,
    _cancelled_too_late,
    _final_sale,
    _too_late,
    _impossible,
    _rejected,
    _told_twice,
    _refund_fails_once,
    _claim_denied,
)
"""What happens to customers, in turns."""

"""A case with every kind of text in it, and the same case as if it had been given other texts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from returnable.domain.events import EVENTS
from returnable.domain.ports import Recorded
from returnable.testing import Scenario

TOKEN = re.compile(r"zq[a-z]+?qz")
"""What a text that somebody gave looks like in the story below."""


def token(name: str) -> str:
    """A text that somebody gave."""
    return f"zq{name}qz"


@cache
def history() -> tuple[str, tuple[Recorded, ...]]:
    """A case with every kind of text in it: id of the order, and its facts."""
    story = Scenario()
    acting: dict[str, Any] = {"actor": {"role": "care", "id": token("actor")}, "command_id": token("command")}
    line = {"line_id": token("line"), "quantity": 2}
    order, ret, label, refund = token("order"), token("return"), token("label"), token("refund")
    on_return: dict[str, Any] = {"return_id": ret}
    told: list[tuple[str, str, dict[str, Any]]] = [
        (
            "2026-03-02T10:00:00-05:00",
            "confirm_order",
            {
                "order_id": order,
                "customer": {
                    "customer_id": token("customer"),
                    "account_id": None,
                    "name": token("name"),
                    "email": token("email"),
                },
                "currency": "USD",
                "lines": [
                    {
                        **line,
                        "sku": token("sku"),
                        "unit_price": "100.00",
                        "tax": "9.00",
                        "description": token("description"),
                    }
                ],
                "payments": [
                    {"payment_id": token("payment"), "method": token("method"), "amount": "109.00"},
                    {"payment_id": token("gift"), "method": token("card"), "amount": "100.00"},
                ],
                **acting,
            },
        ),
        (
            "2026-03-02T11:00:00-05:00",
            "request_cancellation",
            {"order_id": order, "channel": token("channel"), "order_reference": token("reference")},
        ),
        ("2026-03-02T12:00:00-05:00", "link_account", {"order_id": order, "account_id": token("account")}),
        (
            "2026-03-03T09:00:00-05:00",
            "record_shipment",
            {
                "order_id": order,
                "parcel_id": token("parcel"),
                "carrier": token("carrier"),
                "tracking_number": token("tracking"),
            },
        ),
        ("2026-03-05T14:00:00-05:00", "record_delivery", {"order_id": order, "parcel_id": token("parcel")}),
        (
            "2026-03-05T15:00:00-05:00",
            "record_delivery",
            {"order_id": order, "parcel_id": token("parcel"), "delivered_at": "2026-03-05T13:00:00-05:00"},
        ),
        (
            "2026-03-06T09:00:00-05:00",
            "override",
            {
                "subject": {"kind": "order", "id": order},
                "clause": "returns.portal",
                "reason": token("reason"),
                "approved_by": token("approver"),
            },
        ),
        (
            "2026-03-06T10:00:00-05:00",
            "notify_customer",
            {"subject": {"kind": "order", "id": order}, "notice": token("notice")},
        ),
        (
            "2026-03-09T12:00:00-04:00",
            "request_return",
            {
                **on_return,
                "order_id": order,
                "lines": [line | {"quantity": 1, "reason": token("why")}],
                "channel": token("portal"),
            },
        ),
        (
            "2026-03-09T12:30:00-04:00",
            "issue_label",
            {**on_return, "label_id": label, "carrier": token("post"), "tracking_number": token("number")},
        ),
        (
            "2026-03-09T13:00:00-04:00",
            "void_label",
            {**on_return, "label_id": label, "reason": token("voided")},
        ),
        (
            "2026-03-09T13:30:00-04:00",
            "issue_label",
            {
                **on_return,
                "label_id": token("second"),
                "carrier": token("post"),
                "tracking_number": token("number"),
            },
        ),
        (
            "2026-03-10T09:00:00-04:00",
            "record_return_shipment",
            {**on_return, "label_id": token("second"), "tracking_number": token("back")},
        ),
        ("2026-03-12T09:00:00-04:00", "receive_return", {**on_return}),
        (
            "2026-03-13T09:00:00-04:00",
            "inspect_return",
            {
                **on_return,
                "findings": [
                    {
                        "line_id": token("line"),
                        "quantity": 1,
                        "same_condition": True,
                        "original_packaging": True,
                        "tags_attached": True,
                        "notes": token("notes"),
                    }
                ],
            },
        ),
        ("2026-03-13T10:00:00-04:00", "request_refund", {**on_return, "refund_id": refund}),
        (
            "2026-03-13T11:00:00-04:00",
            "record_refund_result",
            {
                "refund_id": refund,
                "payment_id": token("payment"),
                "result": "succeeded",
                "reference": token("settled"),
            },
        ),
        (
            "2026-03-13T12:00:00-04:00",
            "record_refund_result",
            {"refund_id": refund, "payment_id": token("gift"), "result": "failed", "reason": token("failure")},
        ),
        (
            "2026-03-13T13:00:00-04:00",
            "report_wrong_item",
            {"claim_id": token("claim"), "order_id": order, "line_id": token("line"), "channel": "email"},
        ),
        ("2026-03-13T14:00:00-04:00", "deny_claim", {"claim_id": token("claim"), "reason": token("denied")}),
    ]
    for at, command, fields in told:
        outcome = story.tell(command, at, **fields)
        assert outcome["outcome"] in ("accepted", "declined"), outcome
    return order, tuple(story.services.store.load(order))


def replaced(value: Any, texts: Mapping[str, str]) -> Any:
    """The value with every text that somebody gave replaced."""
    if isinstance(value, str):
        return TOKEN.sub(lambda found: texts.get(found[0], found[0]), value)
    if isinstance(value, dict):
        return {key: replaced(entry, texts) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(replaced(entry, texts) for entry in value)
    return value


def retold(texts: Mapping[str, str]) -> list[Recorded]:
    """The facts of the case, as if it had been given these texts."""
    return [
        Recorded(
            entry.position,
            replaced(entry.case_id, texts),
            entry.case_seq,
            replaced(entry.stream, texts),
            entry.version,
            EVENTS[entry.event.stored_as].model_validate(replaced(entry.event.model_dump(), texts)),
        )
        for entry in history()[1]
    ]

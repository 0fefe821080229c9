"""What is said first when a command is wrong in several ways: shape, key, id, money, state, quantity, policy."""

from __future__ import annotations

import pytest
from kit import Story, an_order, ask_return, code, failed, finding


def test_a_malformed_command_is_invalid_before_its_order_is_unknown() -> None:
    story = Story()

    outcome = ask_return(story, "2026-03-09T12:00:00-04:00", {"1": 0}, order_id="nope")

    assert code(outcome) == "command.invalid"
    assert outcome["error"]["field"] == "lines[0].quantity"


def test_a_future_fact_is_invalid_before_its_order_is_unknown() -> None:
    story = Story()

    outcome = story.tell("record_delivery", order_id="nope", parcel_id="P-1", delivered_at="2026-03-02T10:00:01-05:00")

    assert code(outcome) == "command.invalid"
    assert outcome["error"]["field"] == "delivered_at"


def test_an_order_exists_before_its_money_does_not_add_up() -> None:
    story = Story()
    story.confirmed()
    order = an_order()
    order["payments"][0]["amount"] = "1.00"

    outcome = story.tell("confirm_order", **order)

    assert code(outcome) == "order.exists"


def test_a_line_is_unknown_before_the_order_is_cancelled() -> None:
    story = Story()
    story.confirmed()
    story.tell("request_cancellation", order_id="A-1", channel="email", order_copy=True)

    unknown = ask_return(story, story.at, {"nope": 1})
    cancelled = ask_return(story, story.at, 99)

    assert code(unknown) == "line.unknown"
    assert code(cancelled) == "transition.not_allowed"


def test_a_label_is_unknown_before_the_return_is_closed() -> None:
    story = Story()
    story.labelled()
    story.tell("withdraw_return", return_id="R-1")

    outcome = story.tell("record_return_shipment", return_id="R-1", label_id="L-9")

    assert code(outcome) == "label.unknown"


def test_a_line_is_unknown_before_an_inspection_is_too_early() -> None:
    story = Story()
    story.labelled()

    unknown = story.tell("inspect_return", return_id="R-1", findings=[finding("nope")])
    early = story.tell("inspect_return", return_id="R-1", findings=[finding(quantity=99)])

    assert code(unknown) == "line.unknown"
    assert code(early) == "transition.not_allowed"


def test_the_quantity_is_exceeded_before_the_policy_declines() -> None:
    story = Story()
    story.delivered(final_sale=True)

    outcome = ask_return(story, "2026-04-20T12:00:00-04:00", 2, channel="phone")

    assert code(outcome) == "quantity.exceeded"


def test_an_existing_return_is_named_before_an_unknown_line() -> None:
    story = Story()
    story.authorized()

    outcome = ask_return(story, "2026-03-09T13:00:00-04:00", {"nope": 1})

    assert code(outcome) == "return.exists"


@pytest.mark.parametrize("subject", [{"return_id": "R-9"}, {"order_id": "A-9"}, {"claim_id": "W-9"}])
def test_a_refund_of_something_unknown_is_unknown(subject: dict) -> None:
    story = Story()
    story.inspected()

    outcome = story.tell("request_refund", refund_id="F-1", **subject)

    assert code(outcome) == f"{next(iter(subject)).removesuffix('_id')}.unknown"


def test_a_claim_settled_twice_is_not_allowed_before_its_quantity_is_exceeded() -> None:
    story = Story()
    story.delivered()
    both = ["order_confirmation", "item_picture"]
    story.tell("report_wrong_item", claim_id="W-1", order_id="A-1", line_id="1", channel="email", attachments=both)
    story.tell("resolve_claim", claim_id="W-1", remedy="refund")

    outcome = story.tell("resolve_claim", claim_id="W-1", remedy="refund")

    assert code(outcome) == "transition.not_allowed"


def test_the_quantity_is_exceeded_before_the_evidence_is_missing() -> None:
    story = Story()
    story.delivered()
    story.tell(
        "report_wrong_item", "2026-03-09T12:00:00-04:00", claim_id="W-1", order_id="A-1", line_id="1", channel="email"
    )
    ask_return(story, "2026-03-09T12:00:00-04:00")

    outcome = story.tell("resolve_claim", claim_id="W-1", remedy="refund")

    assert code(outcome) == "quantity.exceeded"
    assert failed(outcome) == []


def test_an_override_of_an_unknown_clause_is_invalid_before_its_subject_is_unknown() -> None:
    story = Story()
    subject = {"kind": "order", "id": "A-9"}

    outcome = story.tell("override", subject=subject, clause="returns.mood", reason="x", approved_by="kim")

    assert code(outcome) == "command.invalid"

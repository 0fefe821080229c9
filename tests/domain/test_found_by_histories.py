"""What the random histories and the reading behind them found, each told as short as it goes."""

from __future__ import annotations

from typing import Any

import pytest
from kit import Story, clause, finding, types


def override(story: Story, kind: str, name: str, clause: str, at: str | None = None) -> None:
    """Set a clause aside."""
    subject = {"kind": kind, "id": name}
    outcome = story.tell("override", at, subject=subject, clause=clause, reason="A good customer.", approved_by="Ann")
    assert outcome["outcome"] == "accepted", outcome


def two_units(story: Story, **changes: Any) -> None:
    """An order of two units at 100.00 in one line, delivered on Thursday, 5 March 2026."""
    story.delivered(price="100.00", quantity=2, **changes)


def one_line(quantity: int = 1) -> list[dict[str, Any]]:
    """Units of the one line."""
    return [{"line_id": "1", "quantity": quantity}]


def test_a_customer_without_an_account_can_be_read_back() -> None:
    story = Story()

    story.confirmed(account_id=None)

    assert story.ask("order", order_id="A-1")["status"] == "confirmed"
    assert story.ask("worklist") == {"items": []}


def test_a_request_for_units_that_were_not_delivered_can_be_read_back() -> None:
    story = Story()
    story.confirmed()

    outcome = story.tell("request_return", return_id="R-1", order_id="A-1", lines=one_line(), channel="portal")

    assert outcome["outcome"] == "declined"
    assert story.ask("return", return_id="R-1")["status"] == "declined"


def test_a_return_that_was_paid_before_inspection_cannot_be_withdrawn_and_paid_again() -> None:
    story = Story()
    two_units(story)
    override(story, "order", "A-1", "returns.refund_after_inspection", "2026-03-06T10:00:00-05:00")
    for number in (1, 2, 3):
        name = f"R-{number}"
        story.tell("request_return", return_id=name, order_id="A-1", lines=one_line(), channel="portal")
        story.tell("request_refund", refund_id=f"F-{number}", return_id=name)
        story.tell("record_refund_result", refund_id=f"F-{number}", payment_id="p-1", result="succeeded")
        story.tell("withdraw_return", return_id=name)

    case = story.parts.desk.case("A-1")

    assert sum(refund.total for refund in case.refunds.values()) <= 20000


def test_units_that_were_paid_and_sent_back_are_not_free_to_be_paid_again() -> None:
    story = Story()
    two_units(story)
    lines = one_line()
    story.tell(
        "request_return", "2026-03-06T10:00:00-05:00", return_id="R-1", order_id="A-1", lines=lines, channel="portal"
    )
    story.tell("receive_return", return_id="R-1")
    story.tell("inspect_return", return_id="R-1", findings=[finding(same_condition=False)])
    override(story, "return", "R-1", "returns.condition")
    assert story.tell("request_refund", refund_id="F-1", return_id="R-1")["outcome"] == "accepted"
    story.tell("record_send_back", return_id="R-1", lines=lines)

    story.tell("request_return", return_id="R-2", order_id="A-1", lines=one_line(2), channel="portal")

    assert story.ask_in_vain("return", return_id="R-2")["code"] == "return.unknown"


def test_a_claim_is_not_settled_by_refund_when_the_cancelled_order_was_paid_back() -> None:
    story = Story()
    two_units(story)
    shown = ["order_confirmation", "item_picture"]
    story.tell(
        "report_wrong_item",
        "2026-03-06T10:00:00-05:00",
        claim_id="C-1",
        order_id="A-1",
        line_id="1",
        channel="email",
        attachments=shown,
    )
    override(story, "order", "A-1", "cancellation.window")
    override(story, "order", "A-1", "cancellation.not_shipped")
    story.tell("request_cancellation", order_id="A-1", channel="email", order_reference="A-1")
    assert story.tell("request_refund", refund_id="F-1", order_id="A-1")["outcome"] == "accepted"

    outcome = story.tell("resolve_claim", claim_id="C-1", remedy="refund")

    assert outcome["outcome"] == "error"
    assert story.ask("refund", order_id="A-1")["total"] == "200.00"


def test_what_is_due_for_a_declined_return_is_nothing_whatever_was_set_aside() -> None:
    story = Story()
    story.delivered(final_sale=True)
    story.tell(
        "request_return",
        "2026-03-06T10:00:00-05:00",
        return_id="R-1",
        order_id="A-1",
        lines=one_line(),
        channel="portal",
    )
    override(story, "return", "R-1", "returns.refund_after_inspection")

    due = story.ask("refund", return_id="R-1")

    assert (due["status"], due["total"], due["items"]) == ("due", "0.00", [])


def test_a_refund_that_is_tried_again_pays_what_is_owed_by_then() -> None:
    story = Story()
    story.inspected(price="100.00")
    assert (
        story.tell("request_refund", "2026-03-17T10:00:00-04:00", refund_id="F-1", return_id="R-1")["outcome"]
        == "accepted"
    )
    story.tell("record_refund_result", refund_id="F-1", payment_id="p-1", result="failed")
    override(story, "return", "R-1", "returns.label_fee")

    story.tell("request_refund", refund_id="F-2", return_id="R-1")

    refund = story.ask("refund", refund_id="F-2")
    assert refund["settled_before"] == "0.00"
    assert refund["total"] == "100.00"
    assert [tender["amount"] for tender in refund["tenders"]] == ["100.00"]


@pytest.mark.parametrize("recorded", [True, False])
def test_a_label_was_used_when_the_parcel_came_in_time_whether_or_not_its_voiding_was_recorded(recorded: bool) -> None:
    story = Story()
    story.labelled(price="100.00")
    if recorded:
        assert types(story.tell("run_deadlines", "2026-03-12T00:00:00-04:00")) == ["LabelVoided"]

    outcome = story.tell(
        "receive_return", "2026-03-12T09:00:00-04:00", return_id="R-1", received_at="2026-03-11T17:00:00-04:00"
    )

    assert types(outcome) == ["Received"]
    story.tell("inspect_return", return_id="R-1", findings=[finding()])
    assert story.ask("return", return_id="R-1")["labels"][0]["status"] == "used"
    assert story.ask("refund", return_id="R-1")["total"] == "80.00"


def test_deadlines_of_several_orders_are_told_again_in_the_order_in_which_they_were_told_first() -> None:
    story = Story()
    attached = {"line_id": "1", "channel": "email"}
    for name in ("A-1", "A-2"):
        story.confirmed(name)
    for name in ("A-1", "A-2"):
        story.tell("record_shipment", order_id=name, parcel_id="P", carrier="ups", tracking_number="T")
        story.tell("record_delivery", order_id=name, parcel_id="P")
    for hour, name, claim in ((11, "A-1", "C-1"), (12, "A-2", "C-2"), (13, "A-1", "C-3")):
        story.tell("report_wrong_item", f"2026-03-02T{hour}:00:00-05:00", claim_id=claim, order_id=name, **attached)

    first = story.tell("run_deadlines", "2026-03-04T10:00:00-05:00", command_id="c-1")
    again = story.tell("run_deadlines", "2026-03-04T10:00:00-05:00", command_id="c-1")

    assert [event["stream"] for event in first["events"]] == ["claim/C-1", "claim/C-2", "claim/C-3"]
    assert again["events"] == first["events"]


def test_what_eligibility_says_of_a_cancellation_is_what_the_command_says_with_a_return_on_its_way() -> None:
    story = Story()
    story.authorized()
    override(story, "order", "A-1", "cancellation.window")
    override(story, "order", "A-1", "cancellation.not_shipped")

    promised = story.ask("eligibility", order_id="A-1")["cancellation"]
    outcome = story.tell("request_cancellation", order_id="A-1", channel="email", order_reference="A-1")

    assert outcome["error"]["code"] == "transition.not_allowed"
    assert (promised["allowed"], promised["error"]["code"]) == (False, "transition.not_allowed")


def test_a_refund_that_is_tried_again_never_comes_to_less_than_nothing() -> None:
    story = Story()
    half = [{"payment_id": name, "method": "card", "amount": "50.00"} for name in ("p-1", "p-2")]
    story.labelled(price="100.00", payments=half)
    override(story, "return", "R-1", "returns.refund_after_inspection")
    override(story, "order", "A-1", "returns.label_fee")
    story.tell("request_refund", refund_id="F-1", return_id="R-1")
    story.tell("record_refund_result", refund_id="F-1", payment_id="p-1", result="succeeded")
    story.tell("record_refund_result", refund_id="F-1", payment_id="p-2", result="failed")

    story.tell("request_refund", refund_id="F-2", return_id="R-1")

    assert story.ask("refund", refund_id="F-2")["total"] == "50.00"
    assert story.ask("refund", refund_id="F-2")["settled_before"] == "50.00"


def test_when_less_is_owed_than_was_settled_already_the_rest_is_nothing() -> None:
    story = Story()
    halves = [("p-1", "15.00"), ("p-2", "5.00")]
    payments = [{"payment_id": name, "method": "card", "amount": amount} for name, amount in halves]
    story.labelled(price="20.00", payments=payments)
    override(story, "return", "R-1", "returns.refund_after_inspection")
    story.tell("request_refund", refund_id="F-1", return_id="R-1")
    story.tell("record_refund_result", refund_id="F-1", payment_id="p-1", result="succeeded")
    story.tell("record_refund_result", refund_id="F-1", payment_id="p-2", result="failed")
    story.tell("record_return_shipment", return_id="R-1", label_id="L-1")  # now the label is used: 20.00 less is owed

    story.tell("request_refund", refund_id="F-2", return_id="R-1")

    assert story.ask("refund", refund_id="F-2")["total"] == "0.00"


def test_the_reason_names_the_parcel_that_was_not_there_yet() -> None:
    story = Story()
    story.confirmed(quantity=2)
    for parcel, day in (("P-1", "2026-03-03"), ("P-2", "2026-03-09")):
        on_parcel = {"order_id": "A-1", "parcel_id": parcel}
        shipped = {"carrier": "ups", "tracking_number": "T", "lines": one_line()}
        story.tell("record_shipment", f"{day}T11:00:00Z", **on_parcel, **shipped)
        story.tell("record_delivery", f"{day}T15:00:00Z", **on_parcel)

    outcome = story.tell(
        "request_return",
        return_id="R-1",
        order_id="A-1",
        lines=one_line(2),
        channel="portal",
        requested_at="2026-03-05T15:00:00Z",
    )

    assert "delivered only at Mon 2026-03-09 11:00 EDT" in clause(outcome, "returns.window")["because"]

"""``cancellation.*``: the window to the second, the carrier's possession, the mail, the notice and the full refund."""

from __future__ import annotations

import pytest
from kit import Story, clause, code, failed, policy_where, types, verdicts, without

CONFIRMED = "2026-03-02T10:00:00-05:00"


def ask_to_cancel(story: Story, at: str, **fields: object) -> dict:
    return story.tell(
        "request_cancellation", at, **{"order_id": "A-1", "channel": "email", "order_copy": True} | fields
    )


@pytest.mark.parametrize(
    ("confirmed_at", "cancel_by"),
    [
        pytest.param(CONFIRMED, "2026-03-02T12:00:00-05:00", id="winter"),
        pytest.param("2026-03-08T01:30:00-05:00", "2026-03-08T04:30:00-04:00", id="over the missing hour of March"),
        pytest.param("2026-11-01T00:30:00-04:00", "2026-11-01T01:30:00-05:00", id="over the repeated hour of November"),
        pytest.param("2026-12-31T23:00:00-05:00", "2027-01-01T01:00:00-05:00", id="over the year's end"),
        pytest.param("2024-02-28T23:30:00-05:00", "2024-02-29T01:30:00-05:00", id="into the leap day"),
    ],
)
def test_the_window_is_two_elapsed_hours_and_includes_its_last_instant(confirmed_at: str, cancel_by: str) -> None:
    from datetime import datetime, timedelta

    story = Story()
    story.confirmed(at=confirmed_at)
    last = datetime.fromisoformat(cancel_by)

    early = story.ask("eligibility", (last - timedelta(seconds=1)).isoformat(), order_id="A-1")["cancellation"]
    exact = story.ask("eligibility", cancel_by, order_id="A-1")["cancellation"]
    late = ask_to_cancel(story, (last + timedelta(seconds=1)).isoformat())

    assert story.ask("order", order_id="A-1")["cancel_by"] == cancel_by
    assert [early["allowed"], exact["allowed"]] == [True, True]
    assert clause(exact, "cancellation.window")["facts"]["margin_seconds"] == 0
    assert late["outcome"] == "declined"
    assert failed(late) == ["cancellation.window"]
    assert clause(late, "cancellation.window")["facts"]["margin_seconds"] == -1
    assert clause(late, "cancellation.window")["facts"]["deadline"] == cancel_by


def test_a_microsecond_after_the_last_instant_is_too_late() -> None:
    story = Story()
    story.confirmed()

    outcome = ask_to_cancel(story, "2026-03-02T12:00:00.000001-05:00")

    assert failed(outcome) == ["cancellation.window"]


def test_what_counts_is_when_the_mail_arrived_not_when_it_was_read() -> None:
    story = Story()
    story.confirmed()

    outcome = ask_to_cancel(story, "2026-03-05T09:00:00-05:00", requested_at="2026-03-02T17:00:00+00:00")

    assert types(outcome) == ["CancellationRequested", "Cancelled"]
    assert outcome["events"][0]["occurred_at"] == "2026-03-02T12:00:00-05:00"
    assert outcome["events"][0]["recorded_at"] == "2026-03-05T09:00:00-05:00"
    assert story.ask("order", order_id="A-1")["status"] == "cancelled"


def test_the_window_counts_from_when_the_confirmation_reached_the_customer() -> None:
    story = Story()
    story.confirmed(at="2026-03-02T10:30:00-05:00", confirmed_at=CONFIRMED)

    outcome = ask_to_cancel(story, "2026-03-02T12:00:01-05:00")

    assert failed(outcome) == ["cancellation.window"]


def test_a_resent_confirmation_does_not_extend_the_window() -> None:
    story = Story()
    order = story.confirmed()
    again = story.lines[0] | {}
    del again["at"], again["command"]

    resent = story.tell("confirm_order", "2026-03-02T11:00:00-05:00", **again)

    assert order["outcome"] == "accepted"
    assert code(resent) == "order.exists"
    assert story.ask("order", order_id="A-1")["cancel_by"] == "2026-03-02T12:00:00-05:00"


def test_a_parcel_with_the_carrier_bars_a_request_that_arrived_in_time_and_a_return_is_suggested() -> None:
    story = Story()
    story.confirmed()
    story.tell(
        "record_shipment",
        "2026-03-02T11:00:00-05:00",
        order_id="A-1",
        parcel_id="P-1",
        carrier="fedex",
        tracking_number="T-1",
    )

    outcome = ask_to_cancel(story, "2026-03-02T11:30:00-05:00", requested_at="2026-03-02T10:30:00-05:00")

    assert types(outcome) == ["CancellationRequested", "CancellationDeclined"]
    assert failed(outcome) == ["cancellation.not_shipped"]
    assert "return" in clause(outcome, "cancellation.not_shipped")["because"]
    assert story.ask("order", order_id="A-1")["status"] == "shipped"


def test_one_parcel_of_several_bars_the_whole_order() -> None:
    story = Story()
    story.confirmed(quantity=2)
    story.tell(
        "record_shipment",
        "2026-03-02T11:00:00-05:00",
        order_id="A-1",
        parcel_id="P-1",
        carrier="fedex",
        tracking_number="T-1",
        lines=[{"line_id": "1", "quantity": 1}],
    )

    outcome = ask_to_cancel(story, "2026-03-02T11:00:00-05:00")

    assert failed(outcome) == ["cancellation.not_shipped"]


def test_a_delivered_order_is_judged_by_the_policy_not_by_the_lifecycle() -> None:
    story = Story()
    story.delivered()

    outcome = ask_to_cancel(story, "2026-03-05T15:00:00-05:00", channel="phone", order_copy=False)

    assert failed(outcome) == ["cancellation.by_email", "cancellation.not_shipped", "cancellation.window"]
    assert verdicts(outcome)["cancellation.notice"] == "pass"


@pytest.mark.parametrize(
    "fields",
    [{"order_reference": "A-1", "order_copy": False}, {"order_copy": True}, {"order_reference": "A-1"}],
    ids=["reference", "copy", "both"],
)
def test_a_reference_or_a_copy_makes_the_mail_complete(fields: dict) -> None:
    story = Story()
    story.confirmed()

    outcome = ask_to_cancel(story, "2026-03-02T11:00:00-05:00", **fields)

    assert types(outcome) == ["CancellationRequested", "Cancelled"]


@pytest.mark.parametrize("channel", ["phone", "portal", "Email"])
def test_another_channel_is_declined(channel: str) -> None:
    story = Story()
    story.confirmed()

    outcome = ask_to_cancel(story, "2026-03-02T11:00:00-05:00", channel=channel)

    assert failed(outcome) == ["cancellation.by_email"]
    assert channel in clause(outcome, "cancellation.by_email")["because"]


def test_completing_an_incomplete_mail_keeps_the_time_of_the_first_one() -> None:
    story = Story()
    story.confirmed()
    first = ask_to_cancel(story, "2026-03-02T11:59:00-05:00", order_copy=False)
    ask_to_cancel(story, "2026-03-02T13:00:00-05:00", order_copy=False)

    complete = ask_to_cancel(story, "2026-03-03T09:00:00-05:00")

    assert failed(first) == ["cancellation.by_email"]
    assert types(complete) == ["CancellationRequested", "Cancelled"]
    facts = clause(complete, "cancellation.window")["facts"]
    assert facts["first_incomplete_at"] == "2026-03-02T11:59:00-05:00"
    assert facts["margin_seconds"] == 60


def test_an_incomplete_mail_that_came_too_late_stays_too_late() -> None:
    story = Story()
    story.confirmed()

    first = ask_to_cancel(story, "2026-03-02T12:00:01-05:00", order_copy=False)
    complete = ask_to_cancel(story, "2026-03-02T12:10:00-05:00")

    assert failed(first) == ["cancellation.by_email", "cancellation.window"]
    assert failed(complete) == ["cancellation.window"]


def test_a_request_in_the_wrong_channel_is_no_incomplete_mail_and_keeps_no_time() -> None:
    story = Story()
    story.confirmed()
    ask_to_cancel(story, "2026-03-02T11:00:00-05:00", channel="phone", order_copy=False)

    outcome = ask_to_cancel(story, "2026-03-02T12:00:01-05:00")

    assert failed(outcome) == ["cancellation.window"]


def test_completing_does_not_help_once_a_parcel_was_shipped_in_between() -> None:
    story = Story()
    story.confirmed()
    ask_to_cancel(story, "2026-03-02T10:30:00-05:00", order_copy=False)
    story.tell(
        "record_shipment",
        "2026-03-02T11:00:00-05:00",
        order_id="A-1",
        parcel_id="P-1",
        carrier="fedex",
        tracking_number="T-1",
    )

    outcome = ask_to_cancel(story, "2026-03-02T11:10:00-05:00")

    assert failed(outcome) == ["cancellation.not_shipped"]


def test_every_decision_owes_a_notice_until_it_is_sent() -> None:
    story = Story()
    story.confirmed()
    none = story.ask("worklist")["items"]

    ask_to_cancel(story, "2026-03-02T13:00:00-05:00")
    owed = story.ask("worklist", kinds=["notify_customer"])["items"]
    sent = story.tell("notify_customer", subject={"kind": "order", "id": "A-1"}, notice="too late, sorry")
    after = story.ask("worklist", kinds=["notify_customer"])["items"]

    assert none == []
    assert [(item["kind"], item["subject"]) for item in owed] == [("notify_customer", {"kind": "order", "id": "A-1"})]
    assert types(sent) == ["CustomerNotified"]
    assert after == []


def test_a_cancelled_order_cannot_be_cancelled_again_returned_or_claimed() -> None:
    story = Story()
    story.confirmed()
    ask_to_cancel(story, "2026-03-02T11:00:00-05:00")

    again = ask_to_cancel(story, "2026-03-02T11:01:00-05:00")
    returned = story.tell(
        "request_return", return_id="R-1", order_id="A-1", lines=[{"line_id": "1", "quantity": 1}], channel="portal"
    )
    claimed = story.tell("report_wrong_item", claim_id="W-1", order_id="A-1", line_id="1", channel="email")

    assert [code(again), code(returned), code(claimed)] == ["transition.not_allowed"] * 3
    assert again["error"]["state"] == "cancelled"


def test_a_final_sale_mark_does_not_bar_a_cancellation() -> None:
    story = Story()
    story.confirmed(final_sale=True)

    outcome = ask_to_cancel(story, "2026-03-02T12:00:00-05:00")

    assert types(outcome) == ["CancellationRequested", "Cancelled"]


def test_a_cancelled_order_is_refunded_in_full_with_shipping_and_its_tax_to_every_payment() -> None:
    story = Story()
    story.confirmed(
        lines=[{"line_id": "1", "sku": "S", "unit_price": "100.01", "quantity": 3, "tax": "26.64"}],
        shipping={"charged": "20.00", "tax": "1.78"},
        payments=[
            {"payment_id": "gift", "method": "gift_card", "amount": "100.00"},
            {"payment_id": "card", "method": "card", "amount": "248.45"},
        ],
    )
    ask_to_cancel(story, "2026-03-02T11:00:00-05:00")

    due = story.ask("refund", order_id="A-1")
    outcome = story.tell("request_refund", refund_id="F-1", order_id="A-1")
    refund = story.ask("refund", refund_id="F-1")

    assert (due["status"], due["total"]) == ("due", "348.45")
    assert types(outcome) == ["RefundRequested"]
    assert outcome["events"][0]["stream"] == "order/A-1"
    assert (refund["merchandise"], refund["tax"], refund["total"]) == ("300.03", "26.64", "348.45")
    assert [(t["payment_id"], t["amount"]) for t in refund["tenders"]] == [("gift", "100.00"), ("card", "248.45")]
    assert refund["for"] == {"kind": "order", "id": "A-1"}
    assert refund["deductions"] == []


def test_the_refund_of_an_order_that_is_not_cancelled_is_impossible() -> None:
    story = Story()
    story.confirmed()

    outcome = story.tell("request_refund", refund_id="F-1", order_id="A-1")

    assert code(outcome) == "transition.not_allowed"


def test_another_policy_gives_three_hours() -> None:
    story = Story(policy=policy_where(("hours = 2\n", "hours = 3\n")))
    story.confirmed()

    last = story.ask("eligibility", "2026-03-02T13:00:00-05:00", order_id="A-1")["cancellation"]
    late = ask_to_cancel(story, "2026-03-02T13:00:01-05:00")

    assert last["allowed"]
    assert failed(late) == ["cancellation.window"]


def test_another_policy_judges_possession_when_the_request_arrived() -> None:
    story = Story(policy=policy_where(('judged = "when_decided"', 'judged = "when_requested"')))
    story.confirmed()
    story.tell(
        "record_shipment",
        "2026-03-02T11:00:00-05:00",
        order_id="A-1",
        parcel_id="P-1",
        carrier="fedex",
        tracking_number="T-1",
    )

    outcome = ask_to_cancel(story, "2026-03-02T11:30:00-05:00", requested_at="2026-03-02T10:59:59-05:00")

    assert types(outcome) == ["CancellationRequested", "Cancelled"]


def test_another_policy_judges_possession_when_the_first_incomplete_request_arrived() -> None:
    story = Story(policy=policy_where(('judged = "when_decided"', 'judged = "when_requested"')))
    story.confirmed()
    ask_to_cancel(story, "2026-03-02T10:30:00-05:00", order_copy=False)
    story.tell(
        "record_shipment",
        "2026-03-02T11:00:00-05:00",
        order_id="A-1",
        parcel_id="P-1",
        carrier="fedex",
        tracking_number="T-1",
    )

    outcome = ask_to_cancel(story, "2026-03-02T11:30:00-05:00")

    assert types(outcome) == ["CancellationRequested", "Cancelled"]


def test_another_policy_keeps_shipping_on_a_cancellation() -> None:
    story = Story(policy=policy_where(("refunds_shipping = true", "refunds_shipping = false")))
    story.confirmed(shipping="20.00")
    ask_to_cancel(story, "2026-03-02T11:00:00-05:00")

    refund = story.ask("refund", order_id="A-1")

    assert (refund["shipping"], refund["total"]) == ("0.00", "750.00")


def test_a_merchant_without_the_clause_sets_no_limit_of_time() -> None:
    story = Story(policy=without("cancellation.window"))
    story.confirmed()

    outcome = ask_to_cancel(story, "2026-03-09T11:00:00-04:00")

    assert types(outcome) == ["CancellationRequested", "Cancelled"]
    assert verdicts(outcome)["cancellation.window"] == "not_applicable"

"""``cancellation.*``: the window to the tick, the carrier's possession, the mail, the notice and the full refund."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from reading import clause, code, types

from returnable.testing import (
    a_policy,
    an_order,
    confirm_order,
    declined,
    given,
    notify_customer,
    record_shipment,
    report_wrong_item,
    request_cancellation,
    request_refund,
    request_return,
)

A_SECOND = timedelta(seconds=1)

INCOMPLETE_MAIL = request_cancellation(order_copy=False)
"""A mail with neither the order's number nor a copy of it."""


# ---- the window ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("confirmed_at", "cancel_by"),
    [
        pytest.param("2026-03-02 10:00", "2026-03-02T12:00:00-05:00", id="winter"),
        pytest.param("2026-03-08 01:30", "2026-03-08T04:30:00-04:00", id="over the missing hour of March"),
        pytest.param("2026-11-01 00:30", "2026-11-01T01:30:00-05:00", id="over the repeated hour of November"),
        pytest.param("2026-12-31 23:00", "2027-01-01T01:00:00-05:00", id="over the year's end"),
        pytest.param("2024-02-28 23:30", "2024-02-29T01:30:00-05:00", id="into the leap day"),
    ],
)
def test_the_window_is_two_elapsed_hours_and_includes_its_last_instant(confirmed_at: str, cancel_by: str) -> None:
    story = given(an_order(confirmed=confirmed_at))
    last = story.clock.instant(cancel_by)

    early = story.ask("eligibility/A-1", last - A_SECOND)["cancellation"]
    exact = story.ask("eligibility/A-1", last)["cancellation"]
    story.at(last + A_SECOND).when(request_cancellation())

    story.then_declined("cancellation.window").then_clause("cancellation.window", margin_seconds=-1)
    assert [early["allowed"], exact["allowed"]] == [True, True]
    assert clause(exact, "cancellation.window")["facts"]["margin_seconds"] == 0
    assert clause(story.ruling, "cancellation.window")["facts"]["deadline"] == cancel_by
    assert story.ask("order/A-1")["cancel_by"] == cancel_by


def test_a_microsecond_after_the_last_instant_is_too_late() -> None:
    story = given(an_order(confirmed="2026-03-02 10:00"))

    story.at("2026-03-02 12:00").after(microseconds=1).when(request_cancellation())

    story.then_declined("cancellation.window")


def test_what_counts_is_when_the_mail_arrived_not_when_it_was_read() -> None:
    story = given(an_order(confirmed="2026-03-02 10:00"))

    outcome = story.tell(request_cancellation(requested_at="2026-03-02T17:00:00+00:00"), "2026-03-05 09:00")

    assert types(outcome) == ["CancellationRequested", "Cancelled"]
    assert outcome["events"][0]["occurred_at"] == "2026-03-02T12:00:00-05:00"
    assert outcome["events"][0]["recorded_at"] == "2026-03-05T09:00:00-05:00"
    story.then_view("order/A-1", status="cancelled")


def test_the_window_counts_from_when_the_confirmation_reached_the_customer() -> None:
    story = given(an_order(confirmed="2026-03-02 10:30", confirmed_at="2026-03-02 10:00"))

    story.at("2026-03-02 12:00:01").when(request_cancellation())

    story.then_declined("cancellation.window")


def test_a_resent_confirmation_does_not_extend_the_window() -> None:
    story = given(an_order(confirmed="2026-03-02 10:00"))

    story.at("2026-03-02 11:00").when(confirm_order())

    story.then_error("order.exists").then_view("order/A-1", cancel_by="2026-03-02 12:00")


# ---- with the carrier ----------------------------------------------------------------------------------------------------


def test_a_parcel_with_the_carrier_bars_a_request_that_arrived_in_time_and_a_return_is_suggested() -> None:
    story = given(an_order(confirmed="2026-03-02 10:00", shipped="2026-03-02 11:00"))

    story.at("2026-03-02 11:30").when(request_cancellation(requested_at="2026-03-02 10:30"))

    story.then("CancellationRequested", "CancellationDeclined").then_declined("cancellation.not_shipped")
    story.then_clause("cancellation.not_shipped", because="return").then_view("order/A-1", status="shipped")


def test_one_parcel_of_several_bars_the_whole_order() -> None:
    story = given(an_order(quantity=2), record_shipment(units=1, at="2026-03-02 11:00"))

    story.when(request_cancellation())

    story.then_declined("cancellation.not_shipped")


def test_a_delivered_order_is_judged_by_the_policy_not_by_the_lifecycle() -> None:
    story = given(an_order(delivered="2026-03-05 14:00"))

    story.at("2026-03-05 15:00").when(request_cancellation(channel="phone", order_copy=False))

    story.then_declined("cancellation.by_email", "cancellation.not_shipped", "cancellation.window")
    story.then_clause("cancellation.notice", "pass")


# ---- the mail ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shown",
    [
        {"order_reference": "A-1", "order_copy": False},
        {"order_copy": True},
        {"order_reference": "A-1", "order_copy": True},
    ],
    ids=["reference", "copy", "both"],
)
def test_a_reference_or_a_copy_makes_the_mail_complete(shown: dict[str, Any]) -> None:
    story = given(an_order(confirmed="2026-03-02 10:00"))

    story.at("2026-03-02 11:00").when(request_cancellation(**shown))

    story.then("CancellationRequested", "Cancelled")


@pytest.mark.parametrize("channel", ["phone", "portal", "Email"])
def test_another_channel_is_declined(channel: str) -> None:
    story = given(an_order(confirmed="2026-03-02 10:00"))

    story.at("2026-03-02 11:00").when(request_cancellation(channel=channel))

    story.then_declined("cancellation.by_email").then_clause("cancellation.by_email", because=channel)


def test_completing_an_incomplete_mail_keeps_the_time_of_the_first_one() -> None:
    story = given(an_order(confirmed="2026-03-02 10:00"))
    story.at("2026-03-02 11:59").when(INCOMPLETE_MAIL).then_declined("cancellation.by_email")
    story.given(declined(INCOMPLETE_MAIL.at("2026-03-02 13:00")))

    story.at("2026-03-03 09:00").when(request_cancellation())

    story.then("CancellationRequested", "Cancelled")
    story.then_clause("cancellation.window", first_incomplete_at="2026-03-02 11:59", margin_seconds=60)


def test_an_incomplete_mail_that_came_too_late_stays_too_late() -> None:
    story = given(an_order(confirmed="2026-03-02 10:00"))
    story.at("2026-03-02 12:00:01").when(INCOMPLETE_MAIL).then_declined("cancellation.by_email", "cancellation.window")

    story.at("2026-03-02 12:10").when(request_cancellation())

    story.then_declined("cancellation.window")


def test_a_request_in_the_wrong_channel_is_no_incomplete_mail_and_keeps_no_time() -> None:
    by_phone = request_cancellation(channel="phone", order_copy=False, at="2026-03-02 11:00")
    story = given(an_order(confirmed="2026-03-02 10:00"), declined(by_phone))

    story.at("2026-03-02 12:00:01").when(request_cancellation())

    story.then_declined("cancellation.window")


def test_completing_does_not_help_once_a_parcel_was_shipped_in_between() -> None:
    story = given(
        an_order(confirmed="2026-03-02 10:00"),
        declined(INCOMPLETE_MAIL.at("2026-03-02 10:30")),
        record_shipment(at="2026-03-02 11:00"),
    )

    story.at("2026-03-02 11:10").when(request_cancellation())

    story.then_declined("cancellation.not_shipped")


# ---- what a decision brings ----------------------------------------------------------------------------------------------


def test_every_decision_owes_a_notice_until_it_is_sent() -> None:
    story = given(an_order(confirmed="2026-03-02 10:00")).then_view("worklist", items=[])

    story.at("2026-03-02 13:00").when(request_cancellation()).then_declined("cancellation.window")
    story.then_view("worklist", items=[{"kind": "notify_customer", "subject": {"kind": "order", "id": "A-1"}}])

    story.when(notify_customer("order/A-1", notice="too late, sorry")).then("CustomerNotified")
    story.then_view("worklist", items=[])


def test_a_cancelled_order_cannot_be_cancelled_again_returned_or_claimed() -> None:
    story = given(an_order(confirmed="2026-03-02 10:00"), request_cancellation(at="2026-03-02 11:00"))

    again = story.tell(request_cancellation(), "2026-03-02 11:01")

    assert code(again) == "transition.not_allowed"
    assert again["error"]["state"] == "cancelled"
    story.when(request_return()).then_error("transition.not_allowed")
    story.when(report_wrong_item(attachments=[])).then("ClaimOpened", "ClaimDenied")


def test_a_final_sale_mark_does_not_bar_a_cancellation() -> None:
    story = given(an_order(confirmed="2026-03-02 10:00", final_sale=True))

    story.at("2026-03-02 12:00").when(request_cancellation())

    story.then("CancellationRequested", "Cancelled")


def test_a_cancelled_order_is_refunded_in_full_with_shipping_and_its_tax_to_every_payment() -> None:
    order = an_order(
        lines=[{"line_id": "1", "sku": "S", "unit_price": "100.01", "quantity": 3, "tax": "26.64"}],
        shipping={"charged": "20.00", "tax": "1.78"},
        payments=[
            {"payment_id": "gift", "method": "gift_card", "amount": "100.00"},
            {"payment_id": "card", "method": "card", "amount": "248.45"},
        ],
    )
    story = given(order, request_cancellation(at="2026-03-02 11:00"))

    due = story.ask("refund", order_id="A-1")
    outcome = story.tell(request_refund("F-1", order_id="A-1"))
    refund = story.ask("refund/F-1")

    assert (due["status"], due["total"]) == ("due", "348.45")
    assert types(outcome) == ["RefundRequested"]
    assert outcome["events"][0]["stream"] == "order/A-1"
    assert (refund["merchandise"], refund["tax"], refund["total"]) == ("300.03", "26.64", "348.45")
    assert [(t["payment_id"], t["amount"]) for t in refund["tenders"]] == [("gift", "100.00"), ("card", "248.45")]
    assert refund["for"] == {"kind": "order", "id": "A-1"}
    assert refund["deductions"] == []


def test_the_refund_of_an_order_that_is_not_cancelled_is_impossible() -> None:
    given(an_order()).when(request_refund(order_id="A-1")).then_error("transition.not_allowed")


# ---- other merchants -----------------------------------------------------------------------------------------------------


def test_another_policy_gives_three_hours() -> None:
    three_hours = a_policy({"cancellation.window": {"hours": 3}})
    story = given(an_order(confirmed="2026-03-02 10:00"), policy=three_hours)

    story.at("2026-03-02 13:00").then_view("eligibility/A-1", cancellation={"allowed": True})

    story.at("2026-03-02 13:00:01").when(request_cancellation()).then_declined("cancellation.window")


WHEN_REQUESTED = a_policy({"cancellation.not_shipped": {"judged": "when_requested"}})
"""A merchant who judges whether a parcel was with the carrier when the request arrived."""


def test_another_policy_judges_possession_when_the_request_arrived() -> None:
    story = given(an_order(confirmed="2026-03-02 10:00", shipped="2026-03-02 11:00"), policy=WHEN_REQUESTED)

    story.at("2026-03-02 11:30").when(request_cancellation(requested_at="2026-03-02 10:59:59"))

    story.then("CancellationRequested", "Cancelled")


def test_another_policy_judges_possession_when_the_first_incomplete_request_arrived() -> None:
    story = given(
        an_order(confirmed="2026-03-02 10:00"),
        declined(INCOMPLETE_MAIL.at("2026-03-02 10:30")),
        record_shipment(at="2026-03-02 11:00"),
        policy=WHEN_REQUESTED,
    )

    story.at("2026-03-02 11:30").when(request_cancellation())

    story.then("CancellationRequested", "Cancelled")


def test_another_policy_keeps_shipping_on_a_cancellation() -> None:
    keeps_shipping = a_policy({"cancellation.full_refund": {"refunds_shipping": False}})
    story = given(an_order(shipping="20.00"), request_cancellation(at="2026-03-02 11:00"), policy=keeps_shipping)

    refund = story.ask("refund", order_id="A-1")

    assert (refund["shipping"], refund["total"]) == ("0.00", "750.00")


def test_a_merchant_without_the_clause_sets_no_limit_of_time() -> None:
    no_limit = a_policy({"cancellation.window": {"applies": False}})
    story = given(an_order(confirmed="2026-03-02 10:00"), policy=no_limit)

    story.at("2026-03-09 11:00").when(request_cancellation())

    story.then("CancellationRequested", "Cancelled").then_clause("cancellation.window", "not_applicable")

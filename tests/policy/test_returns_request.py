"""``returns.window``, ``.final_sale``, ``.account``, ``.portal``, ``.no_exchanges``: what a return request is judged by."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from reading import clause, failed, types, verdicts

from returnable.testing import (
    Steps,
    a_policy,
    a_return,
    an_order,
    declined,
    given,
    inspect_return,
    link_account,
    receive_return,
    record_delivery,
    record_refund_result,
    record_send_back,
    record_shipment,
    report_return_lost,
    request_refund,
    request_return,
    withdraw_return,
)

A_SECOND = timedelta(seconds=1)

DELIVERED = an_order(delivered="2026-03-05 14:00")
"""An order of one unit, delivered on Thursday, 5 March: its window runs through Thursday, 19 March."""

IN_TWO_PARCELS = (
    an_order(quantity=2),
    record_shipment("P-1", units=1, at="2026-03-03 09:00"),
    record_shipment("P-2", units=1, at="2026-03-04 09:00"),
    record_delivery("P-1", at="2026-03-05 14:00"),
    record_delivery("P-2", at="2026-03-12 14:00"),
)
"""Two units of one line: P-1 delivered on 5 March, P-2 on 12 March."""


# ---- the window ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delivered_at", "return_before"),
    [
        pytest.param("2026-03-05 14:00", "2026-03-20T00:00:00-04:00", id="over the change to summer time"),
        pytest.param("2026-10-20 12:00", "2026-11-04T00:00:00-05:00", id="over the change to winter time"),
        pytest.param("2026-02-21 12:00", "2026-03-08T00:00:00-05:00", id="ends as the short day begins"),
        pytest.param("2026-02-22 12:00", "2026-03-09T00:00:00-04:00", id="last day is the short day"),
        pytest.param("2026-03-06 00:00:00", "2026-03-21T00:00:00-04:00", id="delivered in the first second"),
        pytest.param("2026-03-05 23:59:59", "2026-03-20T00:00:00-04:00", id="delivered in the last second"),
        pytest.param("2026-03-06T04:59:59+00:00", "2026-03-20T00:00:00-04:00", id="already the next day in UTC"),
        pytest.param("2026-12-20 12:00", "2027-01-04T00:00:00-05:00", id="over the year's end"),
        pytest.param("2024-02-15 12:00", "2024-03-01T00:00:00-05:00", id="last day is the leap day"),
    ],
)
def test_the_window_runs_through_the_end_of_day_fourteen(delivered_at: str, return_before: str) -> None:
    story = given(an_order(delivered=delivered_at))
    midnight = story.clock.instant(return_before)

    (line,) = story.ask("eligibility/A-1", midnight - A_SECOND)["lines"]
    story.at(midnight).when(request_return())

    assert line["return"]["allowed"]
    assert line["return"]["return_before"] == return_before
    assert clause(line["return"], "returns.window")["facts"]["margin_seconds"] == 1
    story.then_declined("returns.window").then_clause("returns.window", margin_seconds=0)
    assert clause(story.ruling, "returns.window")["facts"]["deadline"] == return_before


def test_a_request_counts_when_it_was_made_although_it_is_learnt_late() -> None:
    story = given(DELIVERED)

    outcome = story.tell(request_return(requested_at="2026-03-19 23:59:59"), "2026-03-23 09:00")

    assert types(outcome) == ["ReturnRequested", "ReturnAuthorized"]
    assert verdicts(outcome) == {
        "returns.window": "pass",
        "returns.final_sale": "pass",
        "returns.account": "pass",
        "returns.portal": "pass",
        "returns.no_exchanges": "pass",
    }


@pytest.mark.parametrize("order", [an_order(), an_order(shipped="2026-03-03 09:00")], ids=["not shipped", "shipped"])
def test_without_a_delivery_on_record_the_window_has_not_started(order: Steps) -> None:
    story = given(order)

    story.at("2026-03-04 09:00").when(request_return())

    story.then("ReturnRequested", "ReturnDeclined").then_declined("returns.window")
    story.then_clause("returns.window", because="delivery on record")


def test_a_request_dated_before_the_delivery_came_before_the_window() -> None:
    story = given(DELIVERED)

    story.at("2026-03-06 09:00").when(request_return(requested_at="2026-03-05 13:59:59"))

    story.then_declined("returns.window")


def test_a_delivery_learnt_late_starts_the_window_on_the_day_it_happened() -> None:
    learnt_late = record_delivery(delivered_at="2026-03-05 14:00", at="2026-03-20 09:00")
    story = given(an_order(shipped="2026-03-03 09:00"), learnt_late)

    story.at("2026-03-20 10:00").when(request_return())

    story.then_declined("returns.window")


def test_units_bought_but_not_delivered_fail_the_window_and_are_no_exceeded_quantity() -> None:
    two_of_three = record_shipment(units=2, at="2026-03-03 09:00")
    story = given(an_order(quantity=3), two_of_three, record_delivery(at="2026-03-05 14:00"))

    story.at("2026-03-09 12:00").when(request_return(4)).then_error("quantity.exceeded")
    story.when(request_return(3, return_id="R-2")).then_declined("returns.window")
    story.when(request_return(2, return_id="R-3")).then_accepted()


def test_each_parcel_has_its_own_window_and_a_request_takes_the_latest_deadline_first() -> None:
    story = given(IN_TWO_PARCELS)

    story.at("2026-03-21 12:00").then_view("order/A-1", lines=[{"return_before": "2026-03-27"}])

    story.when(request_return(2)).then_declined("returns.window")
    story.when(request_return(1, return_id="R-2")).then_accepted()
    story.when(request_return(1, return_id="R-3")).then_declined("returns.window")


def test_the_facts_hold_the_tightest_deadline_of_a_request_over_several_parcels() -> None:
    story = given(IN_TWO_PARCELS)

    story.at("2026-03-19 23:59:59").when(request_return(2))

    story.then_accepted().then_clause("returns.window", deadline="2026-03-20", margin_seconds=1)


# ---- the other clauses ---------------------------------------------------------------------------------------------------


def test_one_failing_line_declines_the_whole_request_and_is_named() -> None:
    bag = {"line_id": "bag", "sku": "B", "unit_price": "900.00", "quantity": 1, "final_sale": True}
    belt = {"line_id": "belt", "sku": "C", "unit_price": "100.00", "quantity": 1}
    story = given(an_order(lines=[bag, belt], delivered="2026-03-05 14:00"))

    story.at("2026-03-09 12:00").when(request_return({"belt": 1, "bag": 1}))

    story.then("ReturnRequested", "ReturnDeclined").then_declined("returns.final_sale")
    story.then_clause("returns.final_sale", because="bag")
    assert "belt" not in clause(story.ruling, "returns.final_sale")["because"]
    story.when(request_return({"belt": 1}, return_id="R-2")).then_accepted()
    story.then_view("order/A-1", returns=["R-1", "R-2"])


def test_a_ruling_lists_every_clause_passed_or_failed() -> None:
    story = given(an_order(final_sale=True, account_id=None, delivered="2026-03-05 14:00"))

    outcome = story.tell(request_return(channel="email", resolution="exchange"), "2026-03-20")

    assert verdicts(outcome) == {
        "returns.window": "fail",
        "returns.final_sale": "fail",
        "returns.account": "fail",
        "returns.portal": "fail",
        "returns.no_exchanges": "fail",
    }
    assert outcome["ruling"]["allowed"] is False
    assert all(finding["quote"] and finding["because"] for finding in outcome["ruling"]["clauses"])


@pytest.mark.parametrize(
    ("linked_at", "failing"),
    [("2026-03-09 11:59:59", []), ("2026-03-09 12:00:00", []), ("2026-03-09 12:00:01", ["returns.account"])],
    ids=["a second before", "at the same instant", "a second after"],
)
def test_the_customer_must_have_an_account_when_the_return_is_requested(linked_at: str, failing: list[str]) -> None:
    story = given(an_order(account_id=None, delivered="2026-03-05 14:00"))
    story.at(linked_at).when(link_account()).then("AccountLinked")

    outcome = story.tell(request_return(requested_at="2026-03-09 12:00"), "2026-03-09 13:00")

    assert failed(outcome) == failing


def test_creating_an_account_never_extends_the_window() -> None:
    story = given(an_order(account_id=None, delivered="2026-03-05 14:00"))
    story.at("2026-03-19 23:00").when(request_return()).then_declined("returns.account")

    story.at("2026-03-20 00:00").given(link_account()).when(request_return(return_id="R-2"))

    story.then_declined("returns.window")


# ---- the units -----------------------------------------------------------------------------------------------------------


def test_a_declined_return_keeps_its_id_and_holds_no_units() -> None:
    story = given(DELIVERED, declined(request_return(channel="phone", at="2026-03-09 12:00")))

    story.when(request_return(return_id="R-1")).then_error("return.exists")
    story.when(request_return(return_id="R-2")).then_accepted()

    story.then_view("return/R-1", status="declined")


def test_units_in_an_open_return_are_taken_and_free_again_after_withdrawal() -> None:
    story = given(an_order(quantity=3, delivered="2026-03-05 14:00"), request_return(2, at="2026-03-09 12:00"))

    story.at("2026-03-09 13:00").when(request_return(2, return_id="R-2")).then_error("quantity.exceeded")
    story.when(request_return(1, return_id="R-3")).then_accepted()

    story.when(withdraw_return("R-1")).then("ReturnWithdrawn")
    story.when(request_return(2, return_id="R-4")).then_accepted()


def test_units_sent_back_are_free_again_where_the_window_allows() -> None:
    without_tags = a_return(
        rejected=1, requested="2026-03-09", shipped="2026-03-10", received="2026-03-13", inspected="2026-03-16"
    )
    story = given(DELIVERED, without_tags)
    story.at("2026-03-17 10:00").when(request_return(return_id="R-2")).then_error("quantity.exceeded")

    story.given(record_send_back())

    story.at("2026-03-19 23:59:59").when(request_return(return_id="R-3")).then_accepted()
    story.given(withdraw_return("R-3"))
    story.at("2026-03-20 00:00:00").when(request_return(return_id="R-4")).then_declined("returns.window")


def test_lost_and_refunded_units_are_not_free() -> None:
    story = given(
        an_order(quantity=2, delivered="2026-03-05 14:00"),
        a_return(units=1, requested="2026-03-09 12:00", labelled="2026-03-09 12:30", shipped="2026-03-10 16:00"),
    )

    story.given(report_return_lost(at="2026-03-12 16:00"))
    story.at("2026-03-12 17:00").when(request_return(2, return_id="R-2")).then_error("quantity.exceeded")

    story.given(receive_return(), inspect_return(), request_refund(), record_refund_result())
    story.at("2026-03-12 18:00").when(request_return(2, return_id="R-3")).then_error("quantity.exceeded")
    story.when(request_return(1, return_id="R-4")).then_accepted()


# ---- other merchants -----------------------------------------------------------------------------------------------------


def test_another_policy_counts_the_window_in_business_days() -> None:
    story = given(DELIVERED, policy=a_policy({"returns.window": {"counting": "business"}}))

    story.at("2026-03-25 23:59:59").then_view("eligibility/A-1", lines=[{"return": {"allowed": True}}])

    story.at("2026-03-26 00:00:00").when(request_return()).then_declined("returns.window")


def test_another_policy_asks_for_no_account() -> None:
    no_account = a_policy({"returns.account": {"required": False}})
    story = given(an_order(account_id=None, delivered="2026-03-05 14:00"), policy=no_account)

    story.at("2026-03-09 12:00").when(request_return())

    story.then_accepted().then_clause("returns.account", "not_applicable")


@pytest.mark.parametrize(
    ("clause_id", "order", "asked"),
    [
        ("returns.final_sale", {"final_sale": True}, {}),
        ("returns.account", {"account_id": None}, {}),
        ("returns.portal", {}, {"channel": "phone"}),
        ("returns.no_exchanges", {}, {"resolution": "exchange"}),
        ("returns.window", {}, {"requested_at": "2026-03-05 13:00"}),
    ],
)
def test_a_merchant_without_a_clause_declines_nothing_by_it(
    clause_id: str, order: dict[str, Any], asked: dict[str, Any]
) -> None:
    without = a_policy({clause_id: {"applies": False}})
    story = given(an_order(delivered="2026-03-05 14:00", **order), policy=without)

    story.at("2026-03-09 12:00").when(request_return(**asked))

    story.then("ReturnRequested", "ReturnAuthorized").then_clause(clause_id, "not_applicable")

"""``returns.ship_by``: the life of a prepaid label, from its issue or its receipt to the moment it is void."""

from __future__ import annotations

from typing import Any

import pytest
from reading import clause

from returnable.testing import (
    Scenario,
    Step,
    a_policy,
    a_return,
    an_order,
    declined,
    event,
    given,
    issue_label,
    override,
    receive_return,
    record_label_received,
    record_return_shipment,
    request_return,
    run_deadlines,
    step,
    void_label,
)

DELIVERED = an_order(delivered="2026-03-05 14:00")

LABELLED = (DELIVERED, a_return(requested="2026-03-09 12:00", labelled="2026-03-09 12:30"))
"""The return R-1, with label L-1 since Monday, 9 March: void on Thursday, 00:00."""


def label(story: Scenario, label_id: str = "L-1") -> dict[str, Any]:
    """What is said of a label of return R-1 now."""
    (found,) = [one for one in story.ask("return/R-1")["labels"] if one["label_id"] == label_id]
    return dict(found)


# ---- the clock of a label ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("issued_at", "void_at"),
    [
        pytest.param("2026-03-09 00:00:00", "2026-03-12T00:00:00-04:00", id="Monday, first second"),
        pytest.param("2026-03-09 23:59:59", "2026-03-12T00:00:00-04:00", id="Monday, last second"),
        pytest.param("2026-03-05 12:00", "2026-03-10T00:00:00-04:00", id="Thursday before summer time"),
        pytest.param("2026-03-06 12:00", "2026-03-11T00:00:00-04:00", id="Friday before summer time"),
        pytest.param("2026-03-07 12:00", "2026-03-11T00:00:00-04:00", id="Saturday"),
        pytest.param("2026-03-08 03:00", "2026-03-11T00:00:00-04:00", id="the short Sunday"),
        pytest.param("2026-10-30 12:00", "2026-11-04T00:00:00-05:00", id="Friday before winter time"),
        pytest.param("2026-11-24 12:00", "2026-11-28T00:00:00-05:00", id="Tuesday before Thanksgiving"),
        pytest.param("2026-11-25 12:00", "2026-12-01T00:00:00-05:00", id="Wednesday before Thanksgiving"),
        pytest.param("2026-11-26 12:00", "2026-12-01T00:00:00-05:00", id="Thanksgiving itself"),
        pytest.param("2021-12-29 12:00", "2022-01-04T00:00:00-05:00", id="New Year 2022, observed in 2021"),
        pytest.param("2026-12-30 12:00", "2027-01-05T00:00:00-05:00", id="over the year's end"),
        pytest.param("2024-02-27 12:00", "2024-03-01T00:00:00-05:00", id="last day is the leap day"),
        pytest.param("2026-07-01 12:00", "2026-07-07T00:00:00-04:00", id="4 July observed on Friday the 3rd"),
    ],
)
def test_a_label_voids_at_the_end_of_the_second_business_day(issued_at: str, void_at: str) -> None:
    story = given(an_order(delivered=issued_at), request_return())

    story.when(issue_label()).then("LabelIssued")

    assert clause(story.ruling, "returns.ship_by")["facts"]["deadline"] == void_at
    assert label(story)["void_at"] == void_at
    assert story.clock.next_edge("return/R-1").at == story.clock.instant(void_at)
    for moment in story.clock.around_edges("return/R-1"):
        story.then_view("return/R-1", labels=[{"status": "void" if moment.flipped else "issued"}])


def test_the_clock_runs_from_the_customers_receipt_when_it_is_known_at_issue() -> None:
    story = given(DELIVERED, request_return(at="2026-03-09 12:00"))

    story.at("2026-03-11 12:00").when(issue_label(issued_at="2026-03-09 12:00", received_at="2026-03-11 09:00"))

    assert label(story) == {
        "label_id": "L-1",
        "status": "issued",
        "tracking_number": "RT-L-1",
        "received_at": "2026-03-11T09:00:00-04:00",
        "void_at": "2026-03-14T00:00:00-04:00",
    }


def test_a_receipt_learnt_after_issue_moves_the_clock() -> None:
    story = given(LABELLED)

    story.at("2026-03-10 09:00").when(record_label_received())

    story.then("LabelReceived")
    story.then_view("return/R-1", labels=[{"received_at": "2026-03-10 09:00", "void_at": "2026-03-13"}])
    story.at("2026-03-12 23:59:59").then_view("return/R-1", labels=[{"status": "issued"}])
    story.at("2026-03-13 00:00:00").then_view("return/R-1", labels=[{"status": "void"}])


def test_a_receipt_learnt_after_the_voiding_was_recorded_revives_the_label() -> None:
    story = given(LABELLED)
    story.at("2026-03-12 08:00").when(run_deadlines()).then("LabelVoided")

    story.at("2026-03-12 09:00").when(record_label_received(received_at="2026-03-11 10:00"))

    story.then("LabelReceived").then_view("return/R-1", labels=[{"status": "issued", "void_at": "2026-03-14"}])
    story.at("2026-03-14").when(run_deadlines()).then(event("LabelVoided", occurred_at="2026-03-14"))


def test_a_receipt_is_recorded_once_and_another_one_is_a_conflict() -> None:
    story = given(LABELLED, record_label_received(at="2026-03-10 09:00"))

    story.at("2026-03-10 10:00").when(record_label_received(received_at="2026-03-10 09:00")).then_accepted().then()
    story.when(record_label_received()).then("LabelReceived", "ExceptionRaised")

    story.then_view("return/R-1", labels=[{"received_at": "2026-03-10 09:00", "void_at": "2026-03-13"}])


# ---- another label -------------------------------------------------------------------------------------------------------


def test_a_second_label_is_impossible_while_one_is_live() -> None:
    story = given(LABELLED)

    story.at("2026-03-11 23:59:59").when(issue_label("L-2")).then_error("transition.not_allowed")

    story.at("2026-03-12 00:00:00").when(issue_label("L-2")).then("LabelDeclined")


def test_after_a_voiding_by_hand_a_new_label_may_be_issued_even_after_its_deadline() -> None:
    story = given(LABELLED)
    story.at("2026-03-11 23:59:59").when(void_label("L-1", reason="wrong address")).then("LabelVoided")

    story.at("2026-03-16 12:00").when(issue_label("L-2"))

    by_hand, new = {"label_id": "L-1", "status": "void"}, {"label_id": "L-2", "void_at": "2026-03-19"}
    story.then("LabelIssued").then_view("return/R-1", labels=[by_hand, new])


@pytest.mark.parametrize("timer", [[], [run_deadlines(at="2026-03-12 00:00")]], ids=["no timer ran", "a timer ran"])
def test_after_a_self_void_a_new_label_is_declined_without_taking_its_id(timer: list[Step]) -> None:
    story = given(LABELLED, timer)

    story.at("2026-03-12 09:00").when(issue_label("L-2")).then("LabelDeclined").then_declined("returns.ship_by")
    story.when(void_label("L-1", reason="too late for that")).then_error("transition.not_allowed")

    story.given(override("returns.ship_by", "return/R-1")).when(issue_label("L-2"))
    story.then("LabelIssued").then_clause("returns.ship_by", "overridden")
    story.then_view("return/R-1", status="labelled")
    story.then_view("return/R-1", labels=[{"label_id": "L-1"}, {"label_id": "L-2", "void_at": "2026-03-17"}])


@pytest.mark.parametrize("timer", [[], [run_deadlines(at="2026-03-12 00:00")]], ids=["no timer ran", "a timer ran"])
def test_that_a_label_was_voided_by_hand_in_time_may_be_told_after_its_deadline(timer: list[Step]) -> None:
    story = given(LABELLED, timer).at("2026-03-12 09:00")

    assert story.tell(issue_label("L-1"))["error"]["allowed"] == ["record_label_received", "void_label"]
    story.when(void_label("L-1", reason="too late for that", voided_at="2026-03-12 00:00")).then_error(
        "transition.not_allowed"
    )
    story.when(void_label("L-1", reason="wrong address", voided_at="2026-03-11 23:59:59")).then("LabelVoided")

    story.when(issue_label("L-2")).then("LabelIssued")
    story.then_view("return/R-1", labels=[{"label_id": "L-1", "status": "void"}, {"label_id": "L-2"}])


def test_a_void_label_still_bars_a_new_one_after_a_later_one_was_voided_by_hand() -> None:
    story = given(LABELLED, override("returns.ship_by", "return/R-1", at="2026-03-12 09:00"), issue_label("L-2"))

    story.at("2026-03-16 23:59:59").when(issue_label("L-3")).then_error("transition.not_allowed")

    # The first override is used up by label L-2: each further label takes another one.
    story.at("2026-03-17 00:00:00").when(issue_label("L-3")).then_declined("returns.ship_by")
    story.given(override("returns.ship_by", "return/R-1")).when(issue_label("L-3")).then("LabelIssued")


def test_a_label_id_is_local_to_its_return_and_used_once() -> None:
    story = given(
        an_order(quantity=2, delivered="2026-03-05 14:00"),
        a_return("R-1", requested="2026-03-09 12:00", labelled="2026-03-09 12:30"),
        request_return(return_id="R-2", at="2026-03-10 09:00"),
        void_label("L-1", reason="torn"),
    )

    story.when(issue_label("L-1", return_id="R-2")).then("LabelIssued")

    story.when(issue_label("L-1", return_id="R-1")).then_error("transition.not_allowed")


# ---- the hand-over -------------------------------------------------------------------------------------------------------


def test_a_used_label_neither_voids_nor_can_be_voided() -> None:
    story = given(LABELLED, record_return_shipment(at="2026-03-11 23:59:59"))

    story.at("2026-03-12 00:00:00").when(run_deadlines()).then()
    story.when(void_label("L-1", reason="why not")).then_error("transition.not_allowed")

    story.then_view("return/R-1", labels=[{"status": "used"}])


def test_a_label_scanned_at_its_deadline_was_already_void() -> None:
    story = given(LABELLED)

    story.at("2026-03-12 00:00:00").when(record_return_shipment())

    story.then("ReturnShipped").then_view("return/R-1", late=True, labels=[{"status": "void"}])


def test_a_label_for_a_declined_return_is_impossible() -> None:
    story = given(DELIVERED, declined(request_return(channel="phone", at="2026-03-09 12:00")))

    story.when(issue_label())

    story.then_error("transition.not_allowed")


# ---- other merchants -----------------------------------------------------------------------------------------------------


def test_another_policy_runs_the_clock_from_the_issue() -> None:
    story = given(LABELLED, policy=a_policy({"returns.ship_by": {"anchor": "label_issued"}}))

    story.at("2026-03-11 09:00").when(record_label_received())

    story.then_view("return/R-1", labels=[{"received_at": "2026-03-11 09:00", "void_at": "2026-03-12"}])


def test_a_merchant_without_the_clause_replaces_void_labels_and_refuses_nothing() -> None:
    story = given(LABELLED, policy=a_policy({"returns.ship_by": {"applies": False}}))

    story.at("2026-03-12 09:00").when(issue_label("L-2")).then("LabelIssued")
    story.given(record_return_shipment("L-2", at="2026-03-30 09:00"))

    story.at("2026-03-31 09:00").when(receive_return()).then("Received")


def test_what_was_reduced_before_a_label_voided_gets_a_label_whether_the_deadline_is_recorded_or_not() -> None:
    for recorded in (False, True):
        story = given(
            an_order(price="600.00", quantity=2, delivered="2026-03-05 14:00"),
            a_return(units=2, requested="2026-03-06 10:00", labelled="2026-03-06 11:00"),
            step("reduce_return", return_id="R-1", lines=[{"line_id": "1", "quantity": 1}], at="2026-03-06 12:00"),
        ).at("2026-03-12 09:00")
        if recorded:
            story.when(run_deadlines()).then("LabelVoided")

        story.given(request_return(1, return_id="R-2"))
        story.when(issue_label("L-2", return_id="R-2")).then("LabelIssued")

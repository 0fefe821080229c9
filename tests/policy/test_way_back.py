"""The way back (``returns.ship_by``, ``.condition``, ``.transit_risk``): hand-over, dock, loss, inspection, sending."""

from __future__ import annotations

import pytest
from reading import code
from usual import a_whole_labelled_return as labelled

from returnable.testing import (
    Moment,
    Scenario,
    Step,
    an_order,
    correct_inspection,
    declined,
    edges,
    finding,
    given,
    inspect_return,
    issue_label,
    receive_return,
    record_label_received,
    record_return_shipment,
    record_send_back,
    reduce_return,
    report_return_lost,
    request_refund,
    request_return,
    run_deadlines,
    void_label,
    withdraw_return,
)

DELIVERED = "2026-03-05 14:00"


# ---- in time or late --------------------------------------------------------------------------------------------------


@edges(labelled(), subject="return/R-1")
@pytest.mark.parametrize("label_id", ["L-1", None], ids=["prepaid label", "the customer's own label"])
def test_a_parcel_handed_over_from_the_deadline_on_is_refused_at_the_dock(
    scenario: Scenario, moment: Moment, label_id: str | None
) -> None:
    late = moment.flipped

    scenario.when(record_return_shipment(label_id)).then("ReturnShipped")
    scenario.at("2026-03-16 09:00").when(receive_return())

    if late:
        scenario.then("ParcelRejected").then_declined("returns.ship_by").then_view("return/R-1", status="rejected")
    else:
        scenario.then("Received").then_accepted().then_failed().then_view("return/R-1", status="received")
    scenario.then_clause("returns.ship_by", "fail" if late else "pass", deadline="2026-03-12")
    scenario.then_view("return/R-1", late=late)


@edges(labelled(), subject="return/R-1")
def test_without_a_recorded_hand_over_the_arrival_is_the_only_proof(scenario: Scenario, moment: Moment) -> None:
    scenario.when(receive_return())

    scenario.then("ParcelRejected" if moment.flipped else "Received")
    scenario.then_clause("returns.ship_by", "fail" if moment.flipped else "pass", deadline="2026-03-12")
    status = "void" if moment.flipped else "used"
    scenario.then_view("return/R-1", labels=[{"status": status}], shipped_at=None)


def test_without_a_prepaid_label_nothing_is_late() -> None:
    story = given(
        an_order(delivered=DELIVERED),
        request_return(at="2026-03-09 12:00"),
        record_return_shipment(None, proof="counter_receipt", at="2026-05-01 09:00"),
    )

    story.at("2026-05-10 09:00").when(receive_return())

    story.then("Received").then_view("return/R-1", late=False)
    story.then_clause("returns.ship_by", "not_applicable").then_clause("returns.own_label", "pass")
    story.then_clause("returns.tracking", because="counter receipt")


@pytest.mark.parametrize(
    "timer", [[], [run_deadlines(at="2026-03-12 08:00")]], ids=["no timer ran", "LabelVoided is on record"]
)
def test_a_scan_learnt_late_but_dated_before_the_deadline_counts_as_in_time(timer: list[Step]) -> None:
    scan = record_return_shipment(shipped_at="2026-03-11 23:59:59", at="2026-03-13 09:00")
    story = given(labelled(), timer, scan)

    story.at("2026-03-13 10:00").when(receive_return())

    story.then("Received").then_view("return/R-1", late=False, labels=[{"status": "used"}])


def test_lateness_is_judged_against_the_latest_deadline_among_the_labels() -> None:
    story = given(
        labelled(),
        void_label("L-1", reason="torn", at="2026-03-10 09:00"),
        issue_label("L-2", at="2026-03-11 09:00"),
        record_return_shipment("L-1", at="2026-03-13 23:59:59"),
    )

    story.at("2026-03-16 09:00").when(receive_return())

    story.then("Received").then_clause("returns.ship_by", deadline="2026-03-14")
    story.then_view("return/R-1", labels=[{"status": "void"}, {"status": "void"}])


def test_a_scan_dated_before_the_label_was_voided_by_hand_used_it() -> None:
    story = given(labelled(), void_label(reason="torn", at="2026-03-10 09:00"))

    story.at("2026-03-10 10:00").when(record_return_shipment(shipped_at="2026-03-10 08:59:59"))

    story.then_view("return/R-1", labels=[{"status": "used"}])


def test_a_receipt_of_the_label_learnt_on_the_way_moves_the_deadline_of_the_parcel() -> None:
    story = given(labelled(), record_return_shipment(at="2026-03-12 09:00")).then_view("return/R-1", late=True)

    story.given(record_label_received(received_at="2026-03-10 10:00", at="2026-03-12 10:00"))
    story.at("2026-03-16 09:00").when(receive_return())

    story.then("Received").then_view("return/R-1", labels=[{"status": "used"}])


# ---- refused, or lost -------------------------------------------------------------------------------------------------


def test_a_refused_parcel_cannot_be_inspected_and_is_sent_back_without_refund_or_fee() -> None:
    handed_over_late = record_return_shipment(at="2026-03-12 00:00:00")
    story = given(labelled(price="100.00"), handed_over_late, declined(receive_return(at="2026-03-16 09:00")))

    story.when(inspect_return()).then("Inspected", "ExceptionRaised").then_view("return/R-1", status="rejected")
    story.when(request_refund()).then_declined("returns.refund_after_inspection")
    due = story.ask("refund", return_id="R-1")
    work = story.ask("worklist", kinds=["send_back"])["items"]
    assert (due["total"], due["deductions"]) == ("0.00", [])
    assert [item["subject"] for item in work] == [{"kind": "return", "id": "R-1"}]

    story.when(record_send_back()).then("SentBack").then_view("return/R-1", status="sent_back")
    assert story.ask("worklist", kinds=["send_back"])["items"] == []


def test_a_lost_parcel_closes_without_refund_and_resumes_when_it_turns_up() -> None:
    story = given(labelled(), record_return_shipment(at="2026-03-10 16:00"))

    story.at("2026-03-20 09:00").when(report_return_lost()).then("ParcelLost")
    story.when(request_refund("F-1")).then_declined("returns.refund_after_inspection")
    story.then_view("return/R-1", status="lost")

    story.at("2026-04-01 09:00").when(receive_return()).then("Received")
    story.when(inspect_return()).then("Inspected")
    story.when(request_refund("F-1")).then("RefundRequested")


def test_a_late_parcel_that_was_lost_and_turns_up_is_refused() -> None:
    story = given(labelled(), record_return_shipment(at="2026-03-12 00:00:00"), report_return_lost())

    story.at("2026-04-01 09:00").when(receive_return())

    story.then("ParcelRejected")


# ---- inspected, and sent back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["same_condition", "original_packaging", "tags_attached"])
def test_a_unit_that_lacks_one_of_the_three_is_rejected(missing: str) -> None:
    story = given(labelled(), receive_return(at="2026-03-11 09:00"))

    story.when(inspect_return(findings=[finding(**{missing: False})]))

    story.then_accepted().then("Inspected").then_clause("returns.condition", because=missing.replace("_", " "))
    assert story.ask("return/R-1")["lines"] == [{"line_id": "1", "quantity": 1, "accepted": 0, "rejected": 1}]
    story.when(request_refund()).then("RefundDeclined").then_declined("returns.condition")


def test_units_of_one_line_may_differ_and_only_the_accepted_ones_are_paid() -> None:
    story = given(labelled(units=3), receive_return(at="2026-03-11 09:00"))

    story.when(inspect_return(2, rejected=1)).then_accepted()
    story.when(record_send_back(1)).then("SentBack")
    story.when(record_send_back(1)).then("SentBack", "ExceptionRaised")
    story.when(record_send_back(4)).then_error("quantity.exceeded")

    returned = story.ask("return/R-1")
    assert returned["lines"] == [{"line_id": "1", "quantity": 3, "accepted": 2, "rejected": 1}]
    assert returned["status"] == "inspected"
    assert story.ask("refund", return_id="R-1")["total"] == "1500.00"


def test_units_can_be_inspected_one_after_the_other_but_never_twice() -> None:
    story = given(labelled(units=2), receive_return(at="2026-03-11 09:00"))

    three = inspect_return(findings=[finding(quantity=2), finding()])
    story.when(three).then_accepted().then("FindingsDisputed", "ExceptionRaised")
    story.when(inspect_return(1)).then("Inspected")
    story.when(inspect_return(1)).then("Inspected")
    story.when(inspect_return(1)).then("FindingsDisputed", "ExceptionRaised")
    story.then_view("return/R-1", lines=[{"accepted": 2, "rejected": 0}])


def test_sending_back_a_rejected_unit_does_not_close_a_return_with_units_still_to_inspect() -> None:
    one_rejected = inspect_return(0, rejected=1)
    story = given(labelled(units=2), receive_return(at="2026-03-11 09:00"), one_rejected, record_send_back(1))

    story.when(inspect_return(1))

    story.then("Inspected")


def test_the_worklist_asks_for_an_inspection_until_every_unit_has_its_findings() -> None:
    story = given(labelled(units=2), receive_return(at="2026-03-11 09:00"))

    story.when(inspect_return(1)).then_accepted()

    assert [item["subject"]["id"] for item in story.ask("worklist", kinds=["inspect"])["items"]] == ["R-1"]


def test_a_return_with_nothing_accepted_goes_from_inspected_to_sent_back() -> None:
    back_in_time = (record_return_shipment(at="2026-03-10 16:00"), receive_return(at="2026-03-13 11:00"))
    worn = inspect_return(findings=[finding(same_condition=False)], at="2026-03-16 10:00")
    story = given(labelled(), back_in_time, worn).then_view("return/R-1", status="inspected")

    story.at("2026-03-17 09:00").when(record_send_back()).then_accepted()

    story.when(request_refund()).then_declined("returns.condition")
    story.then_view("return/R-1", status="sent_back")


# ---- what cannot happen -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    [issue_label(), withdraw_return(), reduce_return(), correct_inspection()],
    ids=lambda step: step.command,
)
def test_nothing_is_decided_on_a_declined_return(step: Step) -> None:
    story = given(
        an_order(final_sale=True, delivered=DELIVERED),
        declined(request_return(at="2026-03-09 12:00")),
    )

    outcome = story.tell(step)

    assert code(outcome) == "transition.not_allowed"
    assert outcome["error"]["state"] == "declined"
    assert step.command in outcome["error"]["message"]


@pytest.mark.parametrize(
    "step",
    [receive_return(), record_return_shipment(None), report_return_lost(), inspect_return(), record_send_back()],
    ids=lambda step: step.command,
)
def test_what_happens_to_a_declined_return_is_recorded_for_a_person(step: Step) -> None:
    story = given(
        an_order(final_sale=True, delivered=DELIVERED),
        declined(request_return(at="2026-03-09 12:00")),
    )

    story.when(step).then_accepted()

    assert [item["kind"] for item in story.ask("worklist", kinds=["exception"])["items"]] == ["exception"]
    story.then_view("return/R-1", status="declined")
    story.when(request_refund()).then_error("transition.not_allowed")


def test_the_parcel_of_a_declined_return_is_sent_back() -> None:
    story = given(
        an_order(final_sale=True, delivered=DELIVERED),
        declined(request_return(at="2026-03-09 12:00")),
        receive_return(at="2026-03-12 09:00"),
    )

    assert [item["subject"]["id"] for item in story.ask("worklist", kinds=["send_back"])["items"]] == ["R-1"]
    story.when(record_send_back()).then("SentBack")
    assert story.ask("worklist", kinds=["send_back"])["items"] == []


def test_a_parcel_on_its_way_is_not_withdrawn() -> None:
    story = given(labelled(), record_return_shipment(at="2026-03-10 16:00"))

    story.when(withdraw_return())

    story.then_error("transition.not_allowed")

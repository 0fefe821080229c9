"""What is told of a return: in any order, twice, in several boxes, impossible, or corrected."""

from __future__ import annotations

import re

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from usual import a_labelled_return
from usual import a_whole_labelled_return as labelled

from returnable.testing import (
    Scenario,
    Step,
    Steps,
    a_policy,
    a_return,
    an_order,
    close_exception,
    correct_inspection,
    declined,
    finding,
    given,
    inspect_return,
    issue_label,
    override,
    receive_return,
    record_label_received,
    record_refund_result,
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


def work(story: Scenario, *but: str) -> list[str]:
    """What waits for somebody, without the tasks that are not asked about."""
    return [item["kind"] for item in story.ask("worklist")["items"] if item["kind"] not in but]


def reasons(story: Scenario, stream: str = "return/R-1") -> list[str]:
    """What the last exception of a stream says."""
    raised = [entry for entry in story.ask(f"audit/{stream}")["entries"] if entry["type"] == "ExceptionRaised"]
    return list(raised[-1]["details"]["reasons"])


# ---- several boxes ------------------------------------------------------------------------------------------------------


def two_boxes() -> Scenario:
    """Two units, a label for each of two boxes, both handed over in time; box 1 arrived."""
    asked = an_order(quantity=2, price="300.00", delivered=DELIVERED)
    asked = asked + Steps((request_return(2, at="2026-03-09 12:00"),))
    return given(
        asked,
        issue_label("L-1", box_id="1", at="2026-03-09 12:30"),
        issue_label("L-2", box_id="2"),
        record_return_shipment("L-1", at="2026-03-10 09:00"),
        record_return_shipment("L-2", at="2026-03-11 09:00"),
        receive_return(box_id="1", at="2026-03-13 09:00"),
    )


def test_a_box_that_comes_after_a_late_one_was_sent_back_is_no_conflict() -> None:
    story = given(
        an_order(quantity=2, delivered=DELIVERED),
        request_return(2, at="2026-03-09 12:00"),
        issue_label("L-1", box_id="1", at="2026-03-09 12:30"),
        issue_label("L-2", box_id="2"),
        record_return_shipment("L-2", at="2026-03-10 09:00"),
        declined(receive_return(box_id="1", at="2026-03-13 09:00")),
        record_send_back(1),
    ).at("2026-03-16 09:00")

    story.when(receive_return(box_id="2")).then("Received")
    story.when(inspect_return(1)).then("Inspected")

    assert work(story) == ["request_refund"]
    story.when(declined(receive_return(box_id="1", received_at="2026-03-13 10:00"))).then(
        "ParcelRejected", "ExceptionRaised"
    )


def test_the_second_box_is_received_inspected_and_paid_after_the_first_was_refunded() -> None:
    story = two_boxes().given(inspect_return(1), request_refund("F-1"), record_refund_result(refund_id="F-1"))
    story.then_view("return/R-1", status="refunded").then_view("refund/F-1", total="260.00")  # two labels, 20.00 each
    assert work(story) == []

    story.at("2026-03-16 09:00").when(receive_return(box_id="2")).then("Received")
    assert work(story) == ["inspect"]
    story.when(inspect_return(1)).then("Inspected").then_view("return/R-1", status="inspected")
    assert work(story) == ["request_refund"]
    story.when(request_refund("F-2")).then("RefundRequested").then_view("refund/F-2", total="300.00")
    story.when(record_refund_result(refund_id="F-2")).then_view("return/R-1", status="refunded")
    assert work(story) == []


def test_a_box_that_was_handed_over_late_is_refused_and_the_other_is_not() -> None:
    story = given(
        an_order(quantity=2, delivered=DELIVERED),
        request_return(2, at="2026-03-09 12:00"),
        issue_label("L-1", box_id="1", at="2026-03-09 12:30"),
        issue_label("L-2", box_id="2"),
        record_return_shipment("L-1", at="2026-03-10 09:00"),
        record_return_shipment("L-2", at="2026-03-12 09:00"),
    )

    story.at("2026-03-16 09:00").when(receive_return(box_id="2")).then_declined("returns.ship_by")
    story.then_view("return/R-1", status="rejected", late=True)
    story.when(receive_return(box_id="1")).then("Received").then_view("return/R-1", status="received")
    story.when(inspect_return(1)).then("Inspected")
    assert set(work(story)) == {"send_back", "request_refund", "inspect"}

    story.when(record_send_back(1)).then("SentBack")
    assert work(story) == ["request_refund"]
    story.when(request_refund()).then_view("refund/F-1", items=[{"quantity": 1}])


def test_a_label_without_a_box_is_refused_while_any_is_live_and_one_for_a_box_while_that_box_has_one() -> None:
    story = given(
        an_order(quantity=2, delivered=DELIVERED),
        request_return(2, at="2026-03-09 12:00"),
        issue_label("L-1", box_id="1", at="2026-03-09 12:30"),
    )

    story.when(issue_label("L-2")).then_error("transition.not_allowed")
    story.when(issue_label("L-2", box_id="1")).then_error("transition.not_allowed")
    story.when(issue_label("L-2", box_id="2")).then("LabelIssued")
    story.given(record_return_shipment("L-1"))
    story.when(issue_label("L-3")).then_error("transition.not_allowed")


@pytest.mark.parametrize("named", [{"box_id": "1"}, {}], ids=["named at the dock", "not named"])
def test_a_box_that_was_not_named_at_the_hand_over_is_the_one_that_arrives(named: dict[str, str]) -> None:
    story = given(labelled(), record_return_shipment(None, at="2026-03-10 09:00"))

    story.at("2026-03-16 09:00").when(receive_return(**named))

    story.then("Received").then_view("return/R-1", late=False, shipped_at="2026-03-10 09:00")


# ---- inspections --------------------------------------------------------------------------------------------------------


def inspected(accepted: int = 1, rejected: int = 0) -> Scenario:
    """A return whose units were all inspected on 13 March."""
    return given(
        labelled(accepted + rejected),
        record_return_shipment(at="2026-03-10 16:00"),
        receive_return(at="2026-03-13 09:00"),
        inspect_return(accepted, rejected=rejected),
    )


def test_findings_on_more_units_than_are_left_change_nothing_and_wait_for_a_person() -> None:
    story = inspected()

    story.when(inspect_return(findings=[finding(same_condition=False)])).then("FindingsDisputed", "ExceptionRaised")

    assert reasons(story) == ["findings on 1 unit of line 1, but 0 are left to inspect"]
    story.then_view("return/R-1", status="inspected", lines=[{"accepted": 1, "rejected": 0}])
    assert set(work(story)) == {"request_refund", "exception"}


def test_a_correction_replaces_all_findings_before_the_refund() -> None:
    story = inspected(accepted=1, rejected=1)

    story.when(correct_inspection(2)).then("InspectionCorrected")

    story.then_view("return/R-1", status="inspected", lines=[{"accepted": 2, "rejected": 0}])
    assert work(story) == ["request_refund"]
    assert story.ask("refund", return_id="R-1")["total"] == "1500.00"
    story.when(correct_inspection(3)).then_error("quantity.exceeded")
    story.when(correct_inspection(1)).then_view("return/R-1", lines=[{"accepted": 1, "rejected": 0}])
    assert set(work(story)) == {"request_refund", "inspect"}


def test_units_that_are_paid_or_about_to_be_stay_accepted() -> None:
    story = inspected(accepted=1, rejected=1).given(request_refund())

    story.when(correct_inspection(0, rejected=2)).then_error("transition.not_allowed")
    story.when(correct_inspection(2)).then("InspectionCorrected")
    story.given(record_refund_result(result="failed"))
    story.when(correct_inspection(0, rejected=2)).then("InspectionCorrected")


def test_units_that_went_back_stay_rejected() -> None:
    story = inspected(accepted=1, rejected=1).given(record_send_back(1))

    story.when(correct_inspection(2)).then_error("transition.not_allowed")


def test_nothing_is_corrected_that_was_not_inspected() -> None:
    given(labelled(), receive_return()).when(correct_inspection()).then_error("transition.not_allowed")


def test_an_inspection_learnt_before_the_arrival_pays_nothing_until_the_parcel_was_taken_in() -> None:
    story = given(labelled(), record_return_shipment(at="2026-03-10 16:00")).at("2026-03-13 12:00")

    story.when(inspect_return()).then("Inspected", "ExceptionRaised").then_view("return/R-1", status="inspected")
    assert reasons(story) == ["units were inspected at 2026-03-13T16:00:00Z, but no arrival is recorded"]
    story.when(request_refund()).then_declined("returns.refund_after_inspection")
    story.when(receive_return(received_at="2026-03-13 09:00")).then("Received")

    story.then_view("return/R-1", status="inspected", received_at="2026-03-13 09:00")
    story.when(request_refund()).then("RefundRequested")


# ---- exceptions are closed ----------------------------------------------------------------------------------------------


def test_a_person_closes_one_exception_or_all_of_a_subject() -> None:
    story = inspected().given(inspect_return(1), inspect_return(1))
    first = next(
        f"return/R-1#{entry['version']}"
        for entry in story.ask("audit/return/R-1")["entries"]
        if entry["type"] == "ExceptionRaised"
    )

    story.when(close_exception(exception_id="return/R-1#99")).then_error("command.invalid")
    story.when(close_exception(exception_id=first)).then("ExceptionClosed")
    assert set(work(story)) == {"request_refund", "exception"}
    story.when(close_exception(exception_id=first)).then_error("command.invalid")
    story.when(close_exception()).then("ExceptionClosed")
    assert work(story) == ["request_refund"]
    story.when(close_exception()).then_error("transition.not_allowed")


# ---- learnt late --------------------------------------------------------------------------------------------------------


def refused() -> Scenario:
    """A parcel without a recorded hand-over that arrived on the 16th and was refused at the dock."""
    return given(labelled(), declined(receive_return(at="2026-03-16 10:00"))).at("2026-03-17 10:00")


@pytest.mark.parametrize(
    "proof",
    [
        record_return_shipment(shipped_at="2026-03-11 23:59:59", proof="carrier_scan"),
        record_label_received(received_at="2026-03-13 09:00"),
    ],
    ids=lambda step: step.command,
)
def test_what_shows_after_the_dock_that_it_was_in_time_is_work_and_the_dock_decides_anew(proof: Step) -> None:
    story = refused().when(proof).then_accepted()

    assert reasons(story) == ["the parcel was refused at the dock, but it was in time; it may be received again"]
    story.then_view("return/R-1", late=False, status="rejected")
    assert set(work(story, "void_label")) == {"send_back", "exception"}
    story.when(receive_return(received_at="2026-03-16 10:00")).then("Received")
    story.then_view("return/R-1", late=False, status="received")
    assert set(work(story)) == {"inspect", "exception"}
    story.when(inspect_return()).when(request_refund()).then("RefundRequested")


def test_a_scan_that_is_late_too_changes_nothing_at_the_dock() -> None:
    story = refused().when(record_return_shipment(shipped_at="2026-03-12 00:00:00")).then("ReturnShipped")

    story.when(receive_return()).then_declined("returns.ship_by").then_view("return/R-1", status="rejected", late=True)


def test_a_carriers_scan_counts_more_than_a_time_without_a_proof() -> None:
    story = given(labelled(), record_return_shipment(shipped_at="2026-03-12 09:00", at="2026-03-13 09:00"))

    scan = record_return_shipment(shipped_at="2026-03-11 18:00", proof="carrier_scan")
    story.when(scan).then("ReturnShipped", "ExceptionRaised")
    story.when(scan).then_accepted().then()

    story.then_view("return/R-1", shipped_at="2026-03-11 18:00", late=False, labels=[{"status": "used"}])
    story.when(receive_return()).then("Received")


def test_a_withdrawn_return_that_arrives_goes_on() -> None:
    story = given(labelled(), withdraw_return(at="2026-03-10 09:00"))

    scan = record_return_shipment(shipped_at="2026-03-09 18:00", proof="carrier_scan")
    story.at("2026-03-11 09:00").when(scan).then("ReturnShipped", "ExceptionRaised")
    story.then_view("return/R-1", status="in_transit")
    story.when(request_return(return_id="R-2")).then_error("quantity.exceeded")
    story.when(receive_return()).then("Received").then_view("return/R-1", status="received")
    story.when(inspect_return()).when(request_refund()).then("RefundRequested")


def test_a_withdrawn_return_that_arrives_names_the_return_that_has_its_units_by_now() -> None:
    story = given(labelled(), withdraw_return(at="2026-03-10 09:00"), request_return(return_id="R-2"))

    story.when(receive_return()).then("Received", "ExceptionRaised")

    assert reasons(story) == [
        "the return was withdrawn at 2026-03-10T13:00:00Z, but the parcel arrived at 2026-03-10T13:00:00Z",
        "1 unit of line 1 is in another return or claim as well: return R-2",
    ]
    story.given(inspect_return(), close_exception())
    assert work(story) == ["request_refund"]
    story.when(request_refund()).then("RefundRequested")


def test_of_two_returns_that_have_one_unit_the_first_to_be_refunded_gets_the_money() -> None:
    again = [request_return(return_id="R-2"), record_return_shipment(None, return_id="R-2", at="2026-03-11 09:00")]
    story = given(labelled(), withdraw_return(at="2026-03-10 09:00"), *again, receive_return(), receive_return("R-2"))

    story.given(inspect_return(return_id="R-2"), inspect_return())
    assert sorted(work(story)) == ["exception", "request_refund", "request_refund"]
    story.when(request_refund("F-2", return_id="R-2")).then("RefundRequested")

    why = "return_id: asked for 1 of line 1, but 1 was bought, and it is in return R-2"
    story.when(request_refund("F-1")).then_error("quantity.exceeded", message=why)
    assert story.ask_in_vain("refund", return_id="R-1")["message"] == why
    assert work(story) == ["exception"]
    assert "1 unit of line 1 is in another return or claim as well: return R-2" in reasons(story)
    # Once a person has looked at it, nothing is left to do for it.
    story.given(close_exception()).then_view("return/R-1", status="inspected")
    assert work(story) == []


@pytest.mark.parametrize(("found", "next_task"), [(0, "request_refund"), (1, "send_back")])
def test_a_parcel_that_was_sent_back_as_late_and_was_in_time_comes_again(found: int, next_task: str) -> None:
    refused = declined(receive_return(at="2026-03-16 10:00"))
    story = given(labelled(), refused, record_send_back()).then_view("return/R-1", status="sent_back")
    story.given(record_return_shipment(shipped_at="2026-03-11 18:00", proof="carrier_scan", at="2026-03-17 10:00"))

    story.when(receive_return(at="2026-03-19 10:00")).then("Received", "ExceptionRaised")

    said = "its units were sent back to the customer, but the parcel arrived at 2026-03-19T14:00:00Z"
    assert reasons(story) == [said]
    story.given(close_exception()).then_view("return/R-1", status="received")
    assert work(story) == ["inspect"]
    story.when(request_return(return_id="R-2")).then_error("quantity.exceeded")
    story.given(inspect_return(1 - found, rejected=found or None))
    assert work(story) == [next_task]


def test_a_refused_box_that_was_sent_back_and_comes_again_is_an_exception() -> None:
    story = two_boxes().given(inspect_return(1))
    late = receive_return(box_id="3", at="2026-03-16 10:00")
    story.when(late).then_declined("returns.ship_by")
    story.given(record_send_back(), request_return(return_id="R-2", at="2026-03-18 10:00"))

    proof = record_return_shipment(None, box_id="3", shipped_at="2026-03-11 18:00", proof="carrier_scan")
    story.when(proof).then("ReturnShipped", "ExceptionRaised")
    story.when(receive_return(box_id="3", at="2026-03-19 11:00")).then("Received", "ExceptionRaised")

    assert reasons(story) == [
        "its units were sent back to the customer, but the parcel arrived at 2026-03-19T15:00:00Z",
        "1 unit of line 1 is in another return or claim as well: return R-2",
    ]


def test_a_lost_parcel_that_was_paid_turns_up() -> None:
    story = given(
        labelled(),
        record_return_shipment(at="2026-03-10 16:00"),
        report_return_lost(at="2026-03-20 09:00"),
        override("returns.transit_risk", "return/R-1"),
        request_refund(),
        record_refund_result(),
    ).then_view("return/R-1", status="refunded")

    story.at("2026-04-01 09:00").when(receive_return()).then("Received", "ExceptionRaised")
    story.then_view("return/R-1", status="refunded", received_at="2026-04-01 09:00")
    assert set(work(story)) == {"inspect", "exception"}
    story.when(inspect_return()).then("Inspected").then_view("return/R-1", status="refunded")
    assert work(story) == ["exception"]
    story.when(request_refund("F-2")).then_error("transition.not_allowed")


def test_a_loss_learnt_before_the_hand_over_ends_lost_as_well() -> None:
    story = given(labelled(), report_return_lost(at="2026-03-20 09:00")).then_view("return/R-1", status="lost")

    story.when(record_return_shipment(shipped_at="2026-03-10 16:00")).then("ReturnShipped")

    story.then_view("return/R-1", status="lost", shipped_at="2026-03-10 16:00")


FACTS = {
    "receipt": record_label_received(received_at="2026-03-10 10:00"),
    "hand-over": record_return_shipment(shipped_at="2026-03-12 16:00"),
    "scan": record_return_shipment(shipped_at="2026-03-12 18:00", proof="carrier_scan"),
    "impossible scan": record_return_shipment(shipped_at="2026-03-08 18:00", proof="carrier_scan"),
    "own label": record_return_shipment(None, shipped_at="2026-03-13 18:00"),
    "loss": report_return_lost(reported_at="2026-03-19 09:00"),
    "good": inspect_return(1, inspected_at="2026-03-20 09:00"),
    "worn": inspect_return(0, rejected=1, inspected_at="2026-03-21 09:00"),
    "deadlines": run_deadlines(),
}
"""Facts of a return of two units."""


@for_all(st.sets(st.sampled_from(sorted(FACTS))), st.sampled_from(["before", "after", "never"]), st.data())
def test_facts_learnt_in_any_order_between_the_same_decisions_end_in_the_same_state(
    names: set[str], dock: str, data: st.DataObject
) -> None:
    ended = []
    for _ in range(2):
        story = given(labelled(2)).at("2026-03-22 09:00")
        if dock == "before":
            story.tell(receive_return(received_at="2026-03-18 09:00"))
        for name in data.draw(st.permutations(sorted(names))):
            story.after(hours=1)
            assert story.tell(FACTS[name])["outcome"] == "accepted"
        story.at("2026-03-24 09:00")
        if dock == "after":
            story.tell(receive_return(received_at="2026-03-18 09:00"))
        ended.append([story.ask("return/R-1"), work(story, "exception"), story.ask("eligibility/A-1")])

    assert ended[0] == ended[1]


# ---- what cannot be -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "field"),
    [
        (record_return_shipment(shipped_at="2026-03-01 10:00"), "shipped_at"),
        (record_label_received(received_at="2026-03-01 10:00"), "received_at"),
        (receive_return(received_at="2026-03-01 10:00"), "received_at"),
        (inspect_return(inspected_at="2026-03-01 10:00"), "inspected_at"),
        (report_return_lost(reported_at="2026-03-01 10:00"), "reported_at"),
        (record_send_back(sent_at="2026-03-01 10:00"), "sent_at"),
        (withdraw_return(withdrawn_at="2026-03-01 10:00"), "withdrawn_at"),
        (reduce_return(reduced_at="2026-03-01 10:00"), "reduced_at"),
        (request_return(return_id="R-2", requested_at="2026-03-01 10:00"), "requested_at"),
    ],
    ids=lambda given: getattr(given, "command", given),
)
def test_nothing_of_a_return_happens_before_the_order(step: Step, field: str) -> None:
    outcome = given(labelled(2)).tell(step)

    assert (outcome["error"]["code"], outcome["error"]["field"]) == ("command.invalid", field)


@pytest.mark.parametrize(
    ("known", "step", "reason"),
    [
        ((), record_label_received(received_at="2026-03-09 12:00"), "label L-1 was received .*, before it was issued"),
        ((), record_return_shipment(shipped_at="2026-03-09 11:00"), "handed over .*, before the return was asked for"),
        ((), record_return_shipment(shipped_at="2026-03-09 12:10"), "handed over .*, before label L-1 was issued"),
        ((), record_return_shipment(shipped_at="2026-03-04 12:10"), "handed over .*, before parcel P-1 was delivered"),
        ((), receive_return(received_at="2026-03-09 11:00"), "the parcel arrived .*, before the return was asked for"),
        (
            (record_return_shipment(at="2026-03-10 16:00"),),
            receive_return(received_at="2026-03-10 12:00"),
            "the parcel arrived .*, before it was handed over",
        ),
        (
            (receive_return(received_at="2026-03-10 12:00", at="2026-03-10 13:00"),),
            record_return_shipment(shipped_at="2026-03-10 12:30"),
            "the parcel arrived .*, before it was handed over",
        ),
        (
            (receive_return(at="2026-03-10 12:00"),),
            inspect_return(inspected_at="2026-03-10 11:00"),
            "units were inspected .*, before the parcel arrived",
        ),
        (
            (record_return_shipment(at="2026-03-10 16:00"),),
            report_return_lost(reported_at="2026-03-10 12:00"),
            "the parcel was reported lost .*, before it was handed over",
        ),
        (
            (receive_return(at="2026-03-10 12:00"),),
            report_return_lost(at="2026-03-11 12:00"),
            "the parcel arrived .*, but it was reported lost",
        ),
    ],
)
def test_two_facts_that_contradict_each_other_are_recorded_for_a_person(
    known: tuple[Step, ...], step: Step, reason: str
) -> None:
    story = given(labelled(), *known)
    if not known:
        story.at("2026-03-09 15:00")

    story.when(step).then_accepted()

    assert any(re.search(reason, each) for each in reasons(story)), reasons(story)
    assert "exception" in work(story)


@pytest.mark.parametrize("proof", ["carrier_scan", None])
@pytest.mark.parametrize("shipped_at", ["2026-03-09 11:59:59", "2026-03-09 12:29:59", "2026-03-04 10:00"])
def test_an_impossible_hand_over_saves_no_late_parcel(shipped_at: str, proof: str | None) -> None:
    proven = {} if proof is None else {"proof": proof}
    story = given(labelled()).at("2026-03-16 09:00")
    story.when(record_return_shipment(shipped_at=shipped_at, **proven)).then("ReturnShipped", "ExceptionRaised")

    story.when(receive_return()).then_declined("returns.ship_by").then_view("return/R-1", late=True)


def test_an_impossible_arrival_saves_no_late_parcel() -> None:
    story = given(labelled()).at("2026-03-16 09:00").when(receive_return(received_at="2026-03-09 11:00"))

    story.then("ParcelRejected", "ExceptionRaised").then_declined("returns.ship_by")
    story.then_view("return/R-1", late=True)


@pytest.mark.parametrize("impossible_first", [True, False])
def test_an_impossible_arrival_makes_no_parcel_late(impossible_first: bool) -> None:
    impossible, real = "2026-03-09 11:00", "2026-03-11 09:00"
    told = [receive_return(received_at=each) for each in sorted([impossible, real], reverse=not impossible_first)]
    story = given(labelled(price="100.00")).at("2026-03-16 09:00").when(*told)

    story.when(inspect_return()).then("Inspected")

    story.then_view("return/R-1", status="inspected", late=False, labels=[{"status": "used"}])
    story.when(request_refund()).then_view("refund/F-1", total="80.00")


def test_another_arrival_of_what_was_taken_in_is_judged_by_the_earlier_one() -> None:
    story = given(labelled(), receive_return(at="2026-03-11 09:00")).at("2026-03-16 09:00")

    story.when(receive_return(received_at="2026-03-12 09:00")).then("Received", "ExceptionRaised")

    story.then_clause("returns.ship_by", "pass", sent_at="2026-03-11 09:00")
    story.then_view("return/R-1", late=False, received_at="2026-03-11 09:00")
    assert (story.desk.redecide(), story.desk.verify().problems) == ((), ())


def test_an_arrival_before_the_hand_over_saves_no_late_parcel() -> None:
    story = given(labelled(), record_return_shipment(at="2026-03-12 09:00"))

    story.when(receive_return(received_at="2026-03-11 09:00")).then("ParcelRejected", "ExceptionRaised")


def test_an_impossible_receipt_moves_no_deadline() -> None:
    story = given(labelled()).at("2026-03-10 09:00").when(record_label_received(received_at="2026-03-07 09:00"))

    story.then("LabelReceived", "ExceptionRaised")
    story.then_view("return/R-1", labels=[{"received_at": None, "void_at": "2026-03-12"}])


# ---- a label that voided itself -----------------------------------------------------------------------------------------


def test_asking_again_does_not_replace_a_label_that_voided_by_itself() -> None:
    story = given(labelled(), withdraw_return(at="2026-03-12 09:00"), request_return(return_id="R-2"))

    story.when(issue_label("L-2", return_id="R-2")).then_declined("returns.ship_by")
    story.then_clause("returns.ship_by", deadline="2026-03-12", because="Label L-1 of return R-1 for the same units")
    story.given(override("returns.ship_by", "return/R-2")).when(issue_label("L-2", return_id="R-2")).then("LabelIssued")


def test_a_return_withdrawn_before_its_label_voided_does_not_bar_another_label() -> None:
    story = given(
        labelled(), withdraw_return(at="2026-03-11 09:00"), request_return(return_id="R-2", at="2026-03-13 09:00")
    )

    story.when(issue_label("L-2", return_id="R-2")).then("LabelIssued")


@pytest.mark.parametrize(("units", "barred"), [(1, False), (2, True)])
def test_the_clause_looks_at_the_units_not_at_the_line(units: int, barred: bool) -> None:
    ordered = an_order(quantity=2, delivered=DELIVERED)
    one = a_return(units=1, requested="2026-03-09 12:00", labelled="2026-03-09 12:30")
    story = given(ordered + one, withdraw_return(at="2026-03-12 09:00"), request_return(units, return_id="R-2"))

    story.when(issue_label("L-2", return_id="R-2")).then("LabelDeclined" if barred else "LabelIssued")


def test_units_taken_out_of_a_return_after_its_label_voided_get_no_other_label() -> None:
    story = given(labelled(2), reduce_return(1, at="2026-03-12 09:00"), request_return(return_id="R-2"))

    story.when(issue_label("L-2", return_id="R-2")).then_declined("returns.ship_by")


def test_of_two_returns_the_one_that_was_asked_for_first_has_the_units_that_had_no_such_label() -> None:
    story = given(a_labelled_return(2, quantity=3), reduce_return(1, at="2026-03-12 09:00"))
    story.given(request_return(return_id="R-2"), request_return(return_id="R-3"))

    story.when(issue_label("L-3", return_id="R-3")).then_declined("returns.ship_by")
    story.when(issue_label("L-2", return_id="R-2")).then("LabelIssued")
    story.given(void_label("L-2", return_id="R-2"), withdraw_return("R-2"))
    story.when(issue_label("L-3", return_id="R-3")).then("LabelIssued")


# ---- fewer units, or none -----------------------------------------------------------------------------------------------


def test_a_return_is_reduced_and_keeps_its_time() -> None:
    story = given(labelled(2)).at("2026-03-25 10:00")

    story.when(reduce_return(2)).then_error("quantity.exceeded")
    story.when(reduce_return(1)).then("ReturnReduced")

    story.then_view("return/R-1", status="labelled", requested_at="2026-03-09 12:00", lines=[{"quantity": 1}])
    story.when(reduce_return(1)).then_error("quantity.exceeded")
    story.when(request_return(return_id="R-2")).then_declined("returns.window")


def test_units_that_were_inspected_cannot_be_kept() -> None:
    story = given(labelled(2), receive_return(at="2026-03-11 09:00"), inspect_return(1))

    story.when(reduce_return(1)).then("ReturnReduced").then_view("return/R-1", lines=[{"quantity": 1, "accepted": 1}])
    assert work(story) == ["request_refund"]
    story.when(reduce_return(1)).then_error("quantity.exceeded")


def test_an_authorized_return_that_is_never_sent_is_on_the_worklist_from_the_day_the_policy_names() -> None:
    policy = a_policy({"returns.ship_by": {"unsent_after_days": 30}})
    story = given(an_order(delivered=DELIVERED), request_return(at="2026-03-09 12:00"), policy=policy)

    story.at("2026-04-08 23:59:59")
    assert work(story) == []
    story.at("2026-04-09 00:00:00")
    (item,) = story.ask("worklist")["items"]
    assert (item["kind"], item["subject"]["id"], item["due_at"]) == (
        "unsent_return",
        "R-1",
        "2026-04-09T00:00:00-04:00",
    )

    story.when(withdraw_return()).then("ReturnWithdrawn")
    assert work(story) == []
    story.when(request_return(return_id="R-2")).then_declined("returns.window")


def test_the_bundled_policy_names_no_such_day() -> None:
    story = given(an_order(delivered=DELIVERED), request_return(at="2026-03-09 12:00")).at("2027-03-09 12:00")

    assert work(story) == []


def test_what_comes_for_a_declined_return_is_only_sent_back() -> None:
    asked = declined(request_return(channel="phone", at="2026-03-09 12:00"))
    story = given(an_order(delivered=DELIVERED), asked, receive_return(at="2026-03-12 09:00"))
    assert work(story, "exception") == ["send_back"]

    story.when(record_send_back()).then("SentBack")

    assert work(story, "exception") == []
    story.when(record_send_back()).then("SentBack", "ExceptionRaised")
    assert reasons(story) == ["1 unit of line 1 was sent back, but 0 rejected units are here"]


@pytest.mark.parametrize("end", ["declined", "withdrawn", "sent_back"])
def test_an_override_of_the_order_asks_for_no_refund_of_a_return_that_is_over(end: str) -> None:
    ends = {
        "declined": declined(request_return(return_id="R-1", channel="phone", at="2026-03-09 12:00")),
        "withdrawn": [request_return(at="2026-03-09 12:00"), withdraw_return()],
        "sent_back": [
            a_return(requested="2026-03-09 12:00", labelled="2026-03-09 12:30"),
            declined(receive_return(at="2026-03-16 10:00")),
            record_send_back(),
        ],
    }
    story = given(an_order(delivered=DELIVERED), ends[end]).then_view("return/R-1", status=end)

    story.given(override("returns.refund_after_inspection", "order/A-1"))

    assert work(story) == []
    story.when(request_refund()).then_error("transition.not_allowed", state=end)

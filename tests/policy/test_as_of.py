"""``as_of``: what was true in the world at an instant; ``known_at``: what had been recorded by then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from reading import types
from usual import a_delivered_order, a_labelled_return, an_authorized_return, an_inspected_return

from returnable import Desk, Impossible
from returnable.testing import (
    Scenario,
    an_order,
    given,
    record_claim_contact,
    record_delivery,
    record_label_received,
    record_refund_result,
    record_return_shipment,
    record_shipment,
    report_wrong_item,
    request_refund,
    request_return,
    run_deadlines,
)


def returned(story: Scenario, **when: str) -> dict:
    return dict(story.ask("return/R-1", **when))


def scanned_late() -> Scenario:
    """A hand-over on 11 March that was learnt on 13 March, after the voiding of 12 March had been recorded."""
    return given(
        a_labelled_return(),
        run_deadlines(at="2026-03-12 08:00"),
        record_return_shipment(shipped_at="2026-03-11 18:00", at="2026-03-13 09:00"),
    )


@pytest.mark.parametrize(
    ("when", "status", "label"),
    [
        ({}, "in_transit", "used"),
        ({"as_of": "2026-03-11 17:59:59"}, "labelled", "issued"),
        ({"as_of": "2026-03-11 18:00"}, "in_transit", "used"),
        ({"as_of": "2026-03-12 12:00"}, "in_transit", "used"),
        ({"known_at": "2026-03-13 08:59:59"}, "labelled", "void"),
        ({"known_at": "2026-03-13 09:00"}, "in_transit", "used"),
        (
            {"as_of": "2026-03-11 23:00", "known_at": "2026-03-12 09:00"},
            "labelled",
            "issued",
        ),
        (
            {"as_of": "2026-03-12 00:00", "known_at": "2026-03-12 00:00"},
            "labelled",
            "void",
        ),
    ],
)
def test_a_scan_learnt_late_was_true_before_it_was_known(when: dict, status: str, label: str) -> None:
    story = scanned_late()

    answer = returned(story, **when)

    assert (answer["status"], answer["labels"][0]["status"], answer["late"]) == (status, label, False)


@pytest.mark.parametrize(
    ("as_of", "status"),
    [
        ("2026-03-02 10:00", "confirmed"),
        ("2026-03-03 08:59:59", "confirmed"),
        ("2026-03-03 09:00", "shipped"),
        ("2026-03-05 14:00", "delivered"),
    ],
)
def test_an_order_is_seen_as_it_was(as_of: str, status: str) -> None:
    story = given(a_delivered_order())

    order = story.ask("order/A-1", "2026-06-01", as_of=as_of)

    assert order["status"] == status


@pytest.mark.parametrize("when", ["as_of", "known_at"])
def test_before_its_first_fact_a_subject_is_unknown(when: str) -> None:
    story = given(an_authorized_return())

    order = story.ask_in_vain("order/A-1", **{when: "2026-03-02 09:59:59"})
    ret = story.ask_in_vain("return/R-1", **{when: "2026-03-09 11:59:59"})

    assert (order["code"], ret["code"]) == ("order.unknown", "return.unknown")


def test_a_delivery_learnt_late_is_not_known_before() -> None:
    story = given(
        an_order(),
        record_shipment(at="2026-03-03 09:00"),
        record_delivery(delivered_at="2026-03-05 14:00", at="2026-03-09 09:00"),
    )

    world = story.ask("order/A-1", as_of="2026-03-06 09:00")
    known = story.ask("order/A-1", known_at="2026-03-06 09:00")

    assert (world["status"], world["lines"][0]["delivered"]) == ("delivered", 1)
    assert (known["status"], known["lines"][0]["delivered"], known["lines"][0]["return_before"]) == ("shipped", 0, None)


def test_eligibility_is_judged_as_of_the_instant_asked_about() -> None:
    story = given(a_delivered_order()).at("2026-06-01")

    then = story.ask("eligibility/A-1", as_of="2026-03-19 23:59:59")["lines"][0]["return"]
    later = story.ask("eligibility/A-1", as_of="2026-03-20 00:00")["lines"][0]["return"]
    cancel = story.ask("eligibility/A-1", as_of="2026-03-02 12:00")["cancellation"]

    assert (then["allowed"], later["allowed"], cancel["allowed"]) == (True, False, True)


def test_the_worklist_and_overdue_marks_are_seen_as_they_were() -> None:
    story = given(
        a_delivered_order(),
        report_wrong_item("W-1", attachments=[], at="2026-03-09 12:00"),
        record_claim_contact("W-1", at="2026-03-12 12:00"),
    )

    now = story.ask("worklist", kinds=["contact_customer"])["items"]
    (then,) = story.ask("worklist", kinds=["contact_customer"], as_of="2026-03-11 12:00")["items"]
    claim = story.ask("claim/W-1", as_of="2026-03-11 12:00")

    assert now == []
    assert then["overdue"] is True
    assert (claim["overdue"], claim["contacted_at"]) == (True, None)


def test_a_refund_is_seen_before_it_was_requested_as_due_and_then_as_requested() -> None:
    story = given(
        an_inspected_return(), request_refund(at="2026-03-16 10:05"), record_refund_result(at="2026-03-18 09:00")
    )

    due = story.ask("refund", return_id="R-1", as_of="2026-03-16 10:00")
    requested = story.ask("refund/F-1", as_of="2026-03-17 10:00")
    unknown = story.ask_in_vain("refund/F-1", as_of="2026-03-16 10:04:59")

    assert (due["status"], due["total"]) == ("due", "750.00")
    assert requested["status"] == "requested"
    assert unknown["code"] == "refund.unknown"


def test_a_label_received_later_ran_from_its_issue_before() -> None:
    story = given(a_labelled_return(), record_label_received(at="2026-03-10 09:00"))

    (before,) = returned(story, as_of="2026-03-10 08:59:59")["labels"]
    (after,) = returned(story)["labels"]

    assert (before["received_at"], before["void_at"]) == (None, "2026-03-12T00:00:00-04:00")
    assert after["void_at"] == "2026-03-13T00:00:00-04:00"


def test_the_audit_is_cut_at_both_times() -> None:
    story = scanned_late()

    def entries(**when: str) -> list[str]:
        return [entry["type"] for entry in story.ask("audit/return/R-1", **when)["entries"]]

    assert entries()[2:] == ["LabelIssued", "LabelVoided", "ReturnShipped"]
    assert entries(known_at="2026-03-12 08:00")[2:] == ["LabelIssued", "LabelVoided"]
    assert entries(as_of="2026-03-11 23:00")[2:] == ["LabelIssued", "ReturnShipped"]


def test_a_return_that_was_asked_for_but_not_decided_was_requested() -> None:
    story = given(a_delivered_order(), request_return(requested_at="2026-03-09 12:00", at="2026-03-11 12:00"))

    answer = returned(story, as_of="2026-03-10 12:00")

    assert answer["status"] == "requested"


def test_a_decision_occurs_when_it_is_made_and_its_request_when_it_came() -> None:
    story = given(a_delivered_order())

    outcome = story.tell(request_return(requested_at="2026-03-09 12:00", at="2026-03-10 09:00"))

    assert types(outcome) == ["ReturnRequested", "ReturnAuthorized"]
    assert [event["occurred_at"] for event in outcome["events"]] == [
        "2026-03-09T12:00:00-04:00",
        "2026-03-10T09:00:00-04:00",
    ]
    assert {event["recorded_at"] for event in outcome["events"]} == {"2026-03-10T09:00:00-04:00"}


@pytest.mark.parametrize("times", [{"as_of": "2026-03-09T15:59:59Z"}, {"known_at": "2026-03-09T15:59:59Z"}])
@pytest.mark.parametrize("kind", ["return", "claim"])
def test_a_note_that_a_slow_clock_dated_before_its_subject_does_not_bring_it_into_being(
    kind: str, times: dict[str, str]
) -> None:
    now = datetime(2026, 3, 9, 16, 0, tzinfo=UTC)
    story = given(a_delivered_order())
    desk = Desk(story.services, clock=lambda: now)
    if kind == "return":
        desk.request_return(return_id="X", order_id="A-1", lines=[{"line_id": "1", "quantity": 1}], channel="portal")
    else:
        desk.report_wrong_item(claim_id="X", order_id="A-1", line_id="1", channel="email")
    now -= timedelta(seconds=2)
    desk.notify_customer(subject={"kind": kind, "id": "X"}, notice="We look into it.")

    with pytest.raises(Impossible) as caught:
        desk.ask({"query": kind, f"{kind}_id": "X", **times})

    assert caught.value.code == f"{kind}.unknown"

"""``as_of``: what was true in the world at an instant; ``known_at``: what had been recorded by then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from kit import Story, ask_return, types

from returnable import Desk, Impossible


def returned(story: Story, **when: str) -> dict:
    return dict(story.ask("return", return_id="R-1", **when))


def scanned_late() -> Story:
    """A hand-over on 11 March that was learnt on 13 March, after the voiding of 12 March had been recorded."""
    story = Story()
    story.labelled()
    story.tell("run_deadlines", "2026-03-12T08:00:00-04:00")
    story.tell(
        "record_return_shipment",
        "2026-03-13T09:00:00-04:00",
        return_id="R-1",
        label_id="L-1",
        shipped_at="2026-03-11T18:00:00-04:00",
    )
    return story


@pytest.mark.parametrize(
    ("when", "status", "label"),
    [
        ({}, "in_transit", "used"),
        ({"as_of": "2026-03-11T17:59:59-04:00"}, "labelled", "issued"),
        ({"as_of": "2026-03-11T18:00:00-04:00"}, "in_transit", "used"),
        ({"as_of": "2026-03-12T12:00:00-04:00"}, "in_transit", "used"),
        ({"known_at": "2026-03-13T08:59:59-04:00"}, "labelled", "void"),
        ({"known_at": "2026-03-13T09:00:00-04:00"}, "in_transit", "used"),
        (
            {"as_of": "2026-03-11T23:00:00-04:00", "known_at": "2026-03-12T09:00:00-04:00"},
            "labelled",
            "issued",
        ),
        (
            {"as_of": "2026-03-12T00:00:00-04:00", "known_at": "2026-03-12T00:00:00-04:00"},
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
        ("2026-03-02T10:00:00-05:00", "confirmed"),
        ("2026-03-03T08:59:59-05:00", "confirmed"),
        ("2026-03-03T09:00:00-05:00", "shipped"),
        ("2026-03-05T14:00:00-05:00", "delivered"),
    ],
)
def test_an_order_is_seen_as_it_was(as_of: str, status: str) -> None:
    story = Story()
    story.delivered()

    order = story.ask("order", "2026-06-01T00:00:00-04:00", order_id="A-1", as_of=as_of)

    assert order["status"] == status


@pytest.mark.parametrize("when", ["as_of", "known_at"])
def test_before_its_first_fact_a_subject_is_unknown(when: str) -> None:
    story = Story()
    story.authorized()

    order = story.ask_in_vain("order", order_id="A-1", **{when: "2026-03-02T09:59:59-05:00"})
    ret = story.ask_in_vain("return", return_id="R-1", **{when: "2026-03-09T11:59:59-04:00"})

    assert (order["code"], ret["code"]) == ("order.unknown", "return.unknown")


def test_a_delivery_learnt_late_is_not_known_before() -> None:
    story = Story()
    story.confirmed()
    story.tell(
        "record_shipment",
        "2026-03-03T09:00:00-05:00",
        order_id="A-1",
        parcel_id="P-1",
        carrier="fedex",
        tracking_number="T-1",
    )
    story.tell(
        "record_delivery",
        "2026-03-09T09:00:00-04:00",
        order_id="A-1",
        parcel_id="P-1",
        delivered_at="2026-03-05T14:00:00-05:00",
    )

    world = story.ask("order", order_id="A-1", as_of="2026-03-06T09:00:00-05:00")
    known = story.ask("order", order_id="A-1", known_at="2026-03-06T09:00:00-05:00")

    assert (world["status"], world["lines"][0]["delivered"]) == ("delivered", 1)
    assert (known["status"], known["lines"][0]["delivered"], known["lines"][0]["return_before"]) == ("shipped", 0, None)


def test_eligibility_is_judged_as_of_the_instant_asked_about() -> None:
    story = Story()
    story.delivered()
    at = "2026-06-01T00:00:00-04:00"

    then = story.ask("eligibility", at, order_id="A-1", as_of="2026-03-19T23:59:59-04:00")["lines"][0]["return"]
    later = story.ask("eligibility", at, order_id="A-1", as_of="2026-03-20T00:00:00-04:00")["lines"][0]["return"]
    cancel = story.ask("eligibility", at, order_id="A-1", as_of="2026-03-02T12:00:00-05:00")["cancellation"]

    assert (then["allowed"], later["allowed"], cancel["allowed"]) == (True, False, True)


def test_the_worklist_and_overdue_marks_are_seen_as_they_were() -> None:
    story = Story()
    story.delivered()
    story.tell(
        "report_wrong_item",
        "2026-03-09T12:00:00-04:00",
        claim_id="W-1",
        order_id="A-1",
        line_id="1",
        channel="email",
    )
    story.tell("record_claim_contact", "2026-03-12T12:00:00-04:00", claim_id="W-1")

    now = story.ask("worklist", kinds=["contact_customer"])["items"]
    (then,) = story.ask("worklist", kinds=["contact_customer"], as_of="2026-03-11T12:00:00-04:00")["items"]
    claim = story.ask("claim", claim_id="W-1", as_of="2026-03-11T12:00:00-04:00")

    assert now == []
    assert then["overdue"] is True
    assert (claim["overdue"], claim["contacted_at"]) == (True, None)


def test_a_refund_is_seen_before_it_was_requested_as_due_and_then_as_requested() -> None:
    story = Story()
    story.inspected()
    story.tell("request_refund", "2026-03-16T10:05:00-04:00", refund_id="F-1", return_id="R-1")
    story.tell(
        "record_refund_result", "2026-03-18T09:00:00-04:00", refund_id="F-1", payment_id="p-1", result="succeeded"
    )

    due = story.ask("refund", return_id="R-1", as_of="2026-03-16T10:00:00-04:00")
    requested = story.ask("refund", refund_id="F-1", as_of="2026-03-17T10:00:00-04:00")
    unknown = story.ask_in_vain("refund", refund_id="F-1", as_of="2026-03-16T10:04:59-04:00")

    assert (due["status"], due["total"]) == ("due", "750.00")
    assert requested["status"] == "requested"
    assert unknown["code"] == "refund.unknown"


def test_a_label_received_later_ran_from_its_issue_before() -> None:
    story = Story()
    story.labelled()
    story.tell("record_label_received", "2026-03-10T09:00:00-04:00", return_id="R-1", label_id="L-1")

    (before,) = returned(story, as_of="2026-03-10T08:59:59-04:00")["labels"]
    (after,) = returned(story)["labels"]

    assert (before["received_at"], before["void_at"]) == (None, "2026-03-12T00:00:00-04:00")
    assert after["void_at"] == "2026-03-13T00:00:00-04:00"


def test_the_audit_is_cut_at_both_times() -> None:
    story = scanned_late()

    def entries(**when: str) -> list[str]:
        return [entry["type"] for entry in story.ask("audit", stream="return/R-1", **when)["entries"]]

    assert entries()[2:] == ["LabelIssued", "LabelVoided", "ReturnShipped"]
    assert entries(known_at="2026-03-12T08:00:00-04:00")[2:] == ["LabelIssued", "LabelVoided"]
    assert entries(as_of="2026-03-11T23:00:00-04:00")[2:] == ["LabelIssued", "ReturnShipped"]


def test_a_return_that_was_asked_for_but_not_decided_was_requested() -> None:
    story = Story()
    story.delivered()
    ask_return(story, "2026-03-11T12:00:00-04:00", requested_at="2026-03-09T12:00:00-04:00")

    answer = returned(story, as_of="2026-03-10T12:00:00-04:00")

    assert answer["status"] == "requested"


def test_a_decision_occurs_when_it_is_made_and_its_request_when_it_came() -> None:
    story = Story()
    story.delivered()

    outcome = ask_return(story, "2026-03-10T09:00:00-04:00", requested_at="2026-03-09T12:00:00-04:00")

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
    story = Story()
    story.delivered()
    desk = Desk(story.parts, clock=lambda: now)
    if kind == "return":
        desk.request_return(return_id="X", order_id="A-1", lines=[{"line_id": "1", "quantity": 1}], channel="portal")
    else:
        desk.report_wrong_item(claim_id="X", order_id="A-1", line_id="1", channel="email")
    now -= timedelta(seconds=2)
    desk.notify_customer(subject={"kind": kind, "id": "X"}, notice="We look into it.")

    with pytest.raises(Impossible) as caught:
        desk.ask({"query": kind, f"{kind}_id": "X", **times})

    assert caught.value.code == f"{kind}.unknown"

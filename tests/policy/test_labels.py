"""``returns.ship_by``: the life of a prepaid label, from its issue or its receipt to the moment it is void."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from kit import Story, ask_return, clause, code, failed, issue, policy_where, ship, types, without


def before(instant: str, seconds: int = 1) -> str:
    return (datetime.fromisoformat(instant) - timedelta(seconds=seconds)).isoformat()


def label(story: Story, at: str | None = None, label_id: str = "L-1", **fields: str) -> dict:
    labels = story.ask("return", at, return_id="R-1", **fields)["labels"]
    (found,) = [one for one in labels if one["label_id"] == label_id]
    return found


def authorized_on(day: str, order_at: str) -> Story:
    """A return authorized just after midnight of ``day`` (New York), delivered the day the order was confirmed."""
    story = Story()
    story.confirmed(at=order_at)
    ship(story, "P-1", order_at)
    story.tell("record_delivery", order_at, order_id="A-1", parcel_id="P-1")
    assert ask_return(story, day)["outcome"] == "accepted"
    return story


@pytest.mark.parametrize(
    ("issued_at", "void_at"),
    [
        pytest.param("2026-03-09T00:00:00-04:00", "2026-03-12T00:00:00-04:00", id="Monday, first second"),
        pytest.param("2026-03-09T23:59:59-04:00", "2026-03-12T00:00:00-04:00", id="Monday, last second"),
        pytest.param("2026-03-05T12:00:00-05:00", "2026-03-10T00:00:00-04:00", id="Thursday before summer time"),
        pytest.param("2026-03-06T12:00:00-05:00", "2026-03-11T00:00:00-04:00", id="Friday before summer time"),
        pytest.param("2026-03-07T12:00:00-05:00", "2026-03-11T00:00:00-04:00", id="Saturday"),
        pytest.param("2026-03-08T03:00:00-04:00", "2026-03-11T00:00:00-04:00", id="the short Sunday"),
        pytest.param("2026-10-30T12:00:00-04:00", "2026-11-04T00:00:00-05:00", id="Friday before winter time"),
        pytest.param("2026-11-24T12:00:00-05:00", "2026-11-28T00:00:00-05:00", id="Tuesday before Thanksgiving"),
        pytest.param("2026-11-25T12:00:00-05:00", "2026-12-01T00:00:00-05:00", id="Wednesday before Thanksgiving"),
        pytest.param("2026-11-26T12:00:00-05:00", "2026-12-01T00:00:00-05:00", id="Thanksgiving itself"),
        pytest.param("2021-12-29T12:00:00-05:00", "2022-01-04T00:00:00-05:00", id="New Year 2022, observed in 2021"),
        pytest.param("2026-12-30T12:00:00-05:00", "2027-01-05T00:00:00-05:00", id="over the year's end"),
        pytest.param("2024-02-27T12:00:00-05:00", "2024-03-01T00:00:00-05:00", id="last day is the leap day"),
        pytest.param("2026-07-01T12:00:00-04:00", "2026-07-07T00:00:00-04:00", id="4 July observed on Friday the 3rd"),
    ],
)
def test_a_label_voids_at_the_end_of_the_second_business_day(issued_at: str, void_at: str) -> None:
    story = authorized_on(issued_at, before(issued_at, 86400))

    outcome = issue(story, "L-1", issued_at)

    assert types(outcome) == ["LabelIssued"]
    assert label(story)["void_at"] == void_at
    assert label(story, before(void_at))["status"] == "issued"
    assert label(story, void_at)["status"] == "void"
    assert clause(outcome, "returns.ship_by")["facts"]["deadline"] == void_at


def test_the_clock_runs_from_the_customers_receipt_when_it_is_known_at_issue() -> None:
    story = Story()
    story.authorized()

    issue(
        story,
        "L-1",
        "2026-03-11T12:00:00-04:00",
        issued_at="2026-03-09T12:00:00-04:00",
        received_at="2026-03-11T09:00:00-04:00",
    )

    assert label(story) == {
        "label_id": "L-1",
        "status": "issued",
        "tracking_number": "RT-L-1",
        "received_at": "2026-03-11T09:00:00-04:00",
        "void_at": "2026-03-14T00:00:00-04:00",
    }


def test_a_receipt_learnt_after_issue_moves_the_clock() -> None:
    story = Story()
    story.labelled()

    outcome = story.tell("record_label_received", "2026-03-10T09:00:00-04:00", return_id="R-1", label_id="L-1")

    assert types(outcome) == ["LabelReceived"]
    assert label(story)["void_at"] == "2026-03-13T00:00:00-04:00"
    assert label(story)["received_at"] == "2026-03-10T09:00:00-04:00"
    assert label(story, "2026-03-12T23:59:59-04:00")["status"] == "issued"
    assert label(story, "2026-03-13T00:00:00-04:00")["status"] == "void"


def test_a_receipt_learnt_after_the_voiding_was_recorded_revives_the_label() -> None:
    story = Story()
    story.labelled()
    voided = story.tell("run_deadlines", "2026-03-12T08:00:00-04:00")

    received = story.tell(
        "record_label_received",
        "2026-03-12T09:00:00-04:00",
        return_id="R-1",
        label_id="L-1",
        received_at="2026-03-11T10:00:00-04:00",
    )
    live = label(story)
    again = story.tell("run_deadlines", "2026-03-14T00:00:00-04:00")

    assert types(voided) == ["LabelVoided"]
    assert types(received) == ["LabelReceived"]
    assert (live["status"], live["void_at"]) == ("issued", "2026-03-14T00:00:00-04:00")
    assert types(again) == ["LabelVoided"]
    assert again["events"][0]["occurred_at"] == "2026-03-14T00:00:00-04:00"


def test_a_receipt_is_recorded_once() -> None:
    story = Story()
    story.labelled()
    story.tell("record_label_received", "2026-03-10T09:00:00-04:00", return_id="R-1", label_id="L-1")

    again = story.tell("record_label_received", "2026-03-10T10:00:00-04:00", return_id="R-1", label_id="L-1")

    assert code(again) == "transition.not_allowed"


def test_a_second_label_is_impossible_while_one_is_live() -> None:
    story = Story()
    story.labelled()

    live = issue(story, "L-2", "2026-03-11T23:59:59-04:00")
    void = issue(story, "L-2", "2026-03-12T00:00:00-04:00")

    assert code(live) == "transition.not_allowed"
    assert types(void) == ["LabelDeclined"]


def test_after_a_voiding_by_hand_a_new_label_may_be_issued_even_after_its_deadline() -> None:
    story = Story()
    story.labelled()
    by_hand = story.tell(
        "void_label", "2026-03-11T23:59:59-04:00", return_id="R-1", label_id="L-1", reason="wrong address"
    )

    outcome = issue(story, "L-2", "2026-03-16T12:00:00-04:00")

    assert types(by_hand) == ["LabelVoided"]
    assert types(outcome) == ["LabelIssued"]
    assert label(story)["status"] == "void"
    assert label(story, label_id="L-2")["void_at"] == "2026-03-19T00:00:00-04:00"


@pytest.mark.parametrize("recorded", [False, True], ids=["no timer ran", "a timer ran"])
def test_after_a_self_void_a_new_label_is_declined_without_taking_its_id(recorded: bool) -> None:
    story = Story()
    story.labelled()
    if recorded:
        story.tell("run_deadlines", "2026-03-12T00:00:00-04:00")

    declined = issue(story, "L-2", "2026-03-12T09:00:00-04:00")
    void = story.tell("void_label", return_id="R-1", label_id="L-1", reason="too late for that")
    story.tell(
        "override", subject={"kind": "return", "id": "R-1"}, clause="returns.ship_by", reason="ill", approved_by="kim"
    )
    granted = issue(story, "L-2")

    assert types(declined) == ["LabelDeclined"]
    assert failed(declined) == ["returns.ship_by"]
    assert code(void) == "transition.not_allowed"
    assert types(granted) == ["LabelIssued"]
    assert clause(granted, "returns.ship_by")["verdict"] == "overridden"
    assert label(story, label_id="L-2")["void_at"] == "2026-03-17T00:00:00-04:00"
    assert story.ask("return", return_id="R-1")["status"] == "labelled"


def test_a_void_label_still_bars_a_new_one_after_a_later_one_was_voided_by_hand() -> None:
    story = Story()
    story.labelled()
    story.tell(
        "override",
        "2026-03-12T09:00:00-04:00",
        subject={"kind": "return", "id": "R-1"},
        clause="returns.ship_by",
        reason="ill",
        approved_by="kim",
    )
    issue(story, "L-2")

    second = issue(story, "L-3", "2026-03-16T23:59:59-04:00")
    third = issue(story, "L-3", "2026-03-17T00:00:00-04:00")

    assert code(second) == "transition.not_allowed"
    assert types(third) == ["LabelIssued"]


def test_a_label_id_is_local_to_its_return_and_used_once() -> None:
    story = Story()
    story.labelled(quantity=2)
    ask_return(story, "2026-03-10T09:00:00-04:00", return_id="R-2")
    story.tell("void_label", return_id="R-1", label_id="L-1", reason="torn")

    other = issue(story, "L-1", return_id="R-2")
    same = issue(story, "L-1")

    assert types(other) == ["LabelIssued"]
    assert code(same) == "transition.not_allowed"


def test_a_used_label_neither_voids_nor_can_be_voided() -> None:
    story = Story()
    story.labelled()
    story.tell("record_return_shipment", "2026-03-11T23:59:59-04:00", return_id="R-1", label_id="L-1")

    deadlines = story.tell("run_deadlines", "2026-03-12T00:00:00-04:00")
    void = story.tell("void_label", return_id="R-1", label_id="L-1", reason="why not")

    assert label(story)["status"] == "used"
    assert deadlines["events"] == []
    assert code(void) == "transition.not_allowed"


def test_a_label_scanned_at_its_deadline_was_already_void() -> None:
    story = Story()
    story.labelled()

    outcome = story.tell("record_return_shipment", "2026-03-12T00:00:00-04:00", return_id="R-1", label_id="L-1")

    assert types(outcome) == ["ReturnShipped"]
    assert label(story)["status"] == "void"
    assert story.ask("return", return_id="R-1")["late"] is True


def test_a_label_for_a_declined_return_is_impossible() -> None:
    story = Story()
    story.delivered()
    ask_return(story, "2026-03-09T12:00:00-04:00", channel="phone")

    outcome = issue(story, "L-1")

    assert code(outcome) == "transition.not_allowed"


def test_another_policy_runs_the_clock_from_the_issue() -> None:
    story = Story(policy=policy_where(('anchor = "label_received"', 'anchor = "label_issued"')))
    story.labelled()

    story.tell("record_label_received", "2026-03-11T09:00:00-04:00", return_id="R-1", label_id="L-1")

    assert label(story)["void_at"] == "2026-03-12T00:00:00-04:00"
    assert label(story)["received_at"] == "2026-03-11T09:00:00-04:00"


def test_a_merchant_without_the_clause_replaces_void_labels_and_refuses_nothing() -> None:
    story = Story(policy=without("returns.ship_by"))
    story.labelled()

    new = issue(story, "L-2", "2026-03-12T09:00:00-04:00")
    story.tell("record_return_shipment", "2026-03-30T09:00:00-04:00", return_id="R-1", label_id="L-2")
    received = story.tell("receive_return", "2026-03-31T09:00:00-04:00", return_id="R-1")

    assert types(new) == ["LabelIssued"]
    assert types(received) == ["Received"]

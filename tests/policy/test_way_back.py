"""The way back (``returns.ship_by``, ``.condition``, ``.transit_risk``): hand-over, dock, loss, inspection, sending."""

from __future__ import annotations

import pytest
from kit import Story, clause, code, failed, finding, issue, types, verdicts

VOID_AT = "2026-03-12T00:00:00-04:00"


def returned(story: Story, at: str | None = None) -> dict:
    return dict(story.ask("return", at, return_id="R-1"))


@pytest.mark.parametrize("label", [{"label_id": "L-1"}, {}], ids=["prepaid label", "the customer's own label"])
@pytest.mark.parametrize(
    ("shipped_at", "late"),
    [("2026-03-11T23:59:59-04:00", False), (VOID_AT, True), ("2026-03-12T00:00:01-04:00", True)],
    ids=["the second before", "the deadline", "the second after"],
)
def test_a_parcel_handed_over_from_the_deadline_on_is_refused_at_the_dock(
    label: dict, shipped_at: str, late: bool
) -> None:
    story = Story()
    story.labelled()

    handed = story.tell("record_return_shipment", shipped_at, return_id="R-1", **label)
    docked = story.tell("receive_return", "2026-03-16T09:00:00-04:00", return_id="R-1")

    assert types(handed) == ["ReturnShipped"]
    assert types(docked) == (["ParcelRejected"] if late else ["Received"])
    assert docked["outcome"] == ("declined" if late else "accepted")
    assert failed(docked) == (["returns.ship_by"] if late else [])
    assert clause(docked, "returns.ship_by")["facts"]["deadline"] == VOID_AT
    assert returned(story)["late"] is late
    assert returned(story)["status"] == ("rejected" if late else "received")


@pytest.mark.parametrize(
    ("received_at", "late"), [("2026-03-11T23:59:59-04:00", False), (VOID_AT, True)], ids=["in time", "too late"]
)
def test_without_a_recorded_hand_over_the_arrival_is_the_only_proof(received_at: str, late: bool) -> None:
    story = Story()
    story.labelled()

    outcome = story.tell("receive_return", received_at, return_id="R-1")

    assert types(outcome) == (["ParcelRejected"] if late else ["Received"])
    assert returned(story)["labels"][0]["status"] == ("void" if late else "used")
    assert returned(story)["shipped_at"] is None


def test_without_a_prepaid_label_nothing_is_late() -> None:
    story = Story()
    story.authorized()

    story.tell("record_return_shipment", "2026-05-01T09:00:00-04:00", return_id="R-1", proof="counter_receipt")
    outcome = story.tell("receive_return", "2026-05-10T09:00:00-04:00", return_id="R-1")

    assert types(outcome) == ["Received"]
    assert verdicts(outcome)["returns.ship_by"] == "not_applicable"
    assert verdicts(outcome)["returns.own_label"] == "pass"
    assert "counter receipt" in clause(outcome, "returns.tracking")["because"]
    assert returned(story)["late"] is False


@pytest.mark.parametrize("recorded", [False, True], ids=["no timer ran", "LabelVoided is on record"])
def test_a_scan_learnt_late_but_dated_before_the_deadline_counts_as_in_time(recorded: bool) -> None:
    story = Story()
    story.labelled()
    if recorded:
        story.tell("run_deadlines", "2026-03-12T08:00:00-04:00")

    story.tell(
        "record_return_shipment",
        "2026-03-13T09:00:00-04:00",
        return_id="R-1",
        label_id="L-1",
        shipped_at="2026-03-11T23:59:59-04:00",
    )
    outcome = story.tell("receive_return", "2026-03-13T10:00:00-04:00", return_id="R-1")

    assert types(outcome) == ["Received"]
    assert returned(story)["late"] is False
    assert returned(story)["labels"][0]["status"] == "used"


def test_lateness_is_judged_against_the_latest_deadline_among_the_labels() -> None:
    story = Story()
    story.labelled()
    story.tell("void_label", "2026-03-10T09:00:00-04:00", return_id="R-1", label_id="L-1", reason="torn")
    issue(story, "L-2", "2026-03-11T09:00:00-04:00")

    story.tell("record_return_shipment", "2026-03-13T23:59:59-04:00", return_id="R-1", label_id="L-1")
    outcome = story.tell("receive_return", "2026-03-16T09:00:00-04:00", return_id="R-1")

    assert types(outcome) == ["Received"]
    assert clause(outcome, "returns.ship_by")["facts"]["deadline"] == "2026-03-14T00:00:00-04:00"
    assert [one["status"] for one in returned(story)["labels"]] == ["void", "void"]


def test_a_scan_dated_before_the_label_was_voided_by_hand_used_it() -> None:
    story = Story()
    story.labelled()
    story.tell("void_label", "2026-03-10T09:00:00-04:00", return_id="R-1", label_id="L-1", reason="torn")

    story.tell(
        "record_return_shipment",
        "2026-03-10T10:00:00-04:00",
        return_id="R-1",
        label_id="L-1",
        shipped_at="2026-03-10T08:59:59-04:00",
    )

    assert returned(story)["labels"][0]["status"] == "used"


def test_a_receipt_of_the_label_learnt_on_the_way_moves_the_deadline_of_the_parcel() -> None:
    story = Story()
    story.labelled()
    story.tell("record_return_shipment", "2026-03-12T09:00:00-04:00", return_id="R-1", label_id="L-1")
    late = returned(story)["late"]

    story.tell(
        "record_label_received",
        "2026-03-12T10:00:00-04:00",
        return_id="R-1",
        label_id="L-1",
        received_at="2026-03-10T10:00:00-04:00",
    )
    outcome = story.tell("receive_return", "2026-03-16T09:00:00-04:00", return_id="R-1")

    assert late is True
    assert types(outcome) == ["Received"]
    assert returned(story)["labels"][0]["status"] == "used"


def test_a_refused_parcel_cannot_be_inspected_and_is_sent_back_without_refund_or_fee() -> None:
    story = Story()
    story.labelled(price="100.00")
    story.tell("record_return_shipment", VOID_AT, return_id="R-1", label_id="L-1")
    story.tell("receive_return", "2026-03-16T09:00:00-04:00", return_id="R-1")

    inspected = story.tell("inspect_return", return_id="R-1", findings=[finding()])
    refund = story.tell("request_refund", refund_id="F-1", return_id="R-1")
    due = story.ask("refund", return_id="R-1")
    work = story.ask("worklist", kinds=["send_back"])["items"]
    sent = story.tell("record_send_back", return_id="R-1", lines=[{"line_id": "1", "quantity": 1}])

    assert code(inspected) == "transition.not_allowed"
    assert failed(refund) == ["returns.refund_after_inspection"]
    assert (due["total"], due["deductions"]) == ("0.00", [])
    assert [item["subject"] for item in work] == [{"kind": "return", "id": "R-1"}]
    assert types(sent) == ["SentBack"]
    assert returned(story)["status"] == "sent_back"
    assert story.ask("worklist", kinds=["send_back"])["items"] == []


def test_a_lost_parcel_closes_without_refund_and_resumes_when_it_turns_up() -> None:
    story = Story()
    story.labelled()
    story.tell("record_return_shipment", "2026-03-10T16:00:00-04:00", return_id="R-1", label_id="L-1")
    lost = story.tell("report_return_lost", "2026-03-20T09:00:00-04:00", return_id="R-1")
    refund = story.tell("request_refund", refund_id="F-1", return_id="R-1")
    status = returned(story)["status"]

    found = story.tell("receive_return", "2026-04-01T09:00:00-04:00", return_id="R-1")
    inspected = story.tell("inspect_return", return_id="R-1", findings=[finding()])
    paid = story.tell("request_refund", refund_id="F-1", return_id="R-1")

    assert types(lost) == ["ParcelLost"]
    assert failed(refund) == ["returns.refund_after_inspection"]
    assert status == "lost"
    assert types(found) == ["Received"]
    assert types(inspected) == ["Inspected"]
    assert types(paid) == ["RefundRequested"]


def test_a_late_parcel_that_was_lost_and_turns_up_is_refused() -> None:
    story = Story()
    story.labelled()
    story.tell("record_return_shipment", VOID_AT, return_id="R-1", label_id="L-1")
    story.tell("report_return_lost", return_id="R-1")

    outcome = story.tell("receive_return", "2026-04-01T09:00:00-04:00", return_id="R-1")

    assert types(outcome) == ["ParcelRejected"]


@pytest.mark.parametrize("missing", ["same_condition", "original_packaging", "tags_attached"])
def test_a_unit_that_lacks_one_of_the_three_is_rejected(missing: str) -> None:
    story = Story()
    story.labelled()
    story.tell("receive_return", "2026-03-11T09:00:00-04:00", return_id="R-1")

    outcome = story.tell("inspect_return", return_id="R-1", findings=[finding(**{missing: False})])
    refund = story.tell("request_refund", refund_id="F-1", return_id="R-1")

    assert outcome["outcome"] == "accepted"
    assert types(outcome) == ["Inspected"]
    assert returned(story)["lines"] == [{"line_id": "1", "quantity": 1, "accepted": 0, "rejected": 1}]
    assert missing.replace("_", " ") in clause(outcome, "returns.condition")["because"]
    assert types(refund) == ["RefundDeclined"]
    assert failed(refund) == ["returns.condition"]


def test_units_of_one_line_may_differ_and_only_the_accepted_ones_are_paid() -> None:
    story = Story()
    story.labelled(quantity=3, return_quantity=3)
    story.tell("receive_return", "2026-03-11T09:00:00-04:00", return_id="R-1")

    story.tell("inspect_return", return_id="R-1", findings=[finding(quantity=2), finding(tags_attached=False)])
    back = story.tell("record_send_back", return_id="R-1", lines=[{"line_id": "1", "quantity": 1}])
    too_many = story.tell("record_send_back", return_id="R-1", lines=[{"line_id": "1", "quantity": 1}])

    assert returned(story)["lines"] == [{"line_id": "1", "quantity": 3, "accepted": 2, "rejected": 1}]
    assert types(back) == ["SentBack"]
    assert code(too_many) == "quantity.exceeded"
    assert returned(story)["status"] == "inspected"
    assert story.ask("refund", return_id="R-1")["total"] == "1500.00"


def test_units_can_be_inspected_one_after_the_other_but_never_twice() -> None:
    story = Story()
    story.labelled(quantity=2, return_quantity=2)
    story.tell("receive_return", "2026-03-11T09:00:00-04:00", return_id="R-1")

    too_many = story.tell("inspect_return", return_id="R-1", findings=[finding(quantity=2), finding()])
    first = story.tell("inspect_return", return_id="R-1", findings=[finding()])
    second = story.tell("inspect_return", return_id="R-1", findings=[finding()])
    third = story.tell("inspect_return", return_id="R-1", findings=[finding()])

    assert code(too_many) == "quantity.exceeded"
    assert [types(first), types(second)] == [["Inspected"], ["Inspected"]]
    assert code(third) == "transition.not_allowed"


def test_sending_back_a_rejected_unit_does_not_close_a_return_with_units_still_to_inspect() -> None:
    story = Story()
    story.labelled(quantity=2, return_quantity=2)
    story.tell("receive_return", "2026-03-11T09:00:00-04:00", return_id="R-1")
    story.tell("inspect_return", return_id="R-1", findings=[finding(tags_attached=False)])

    story.tell("record_send_back", return_id="R-1", lines=[{"line_id": "1", "quantity": 1}])
    outcome = story.tell("inspect_return", return_id="R-1", findings=[finding()])

    assert types(outcome) == ["Inspected"]


def test_the_worklist_asks_for_an_inspection_until_every_unit_has_its_findings() -> None:
    story = Story()
    story.labelled(quantity=2, return_quantity=2)
    story.tell("receive_return", "2026-03-11T09:00:00-04:00", return_id="R-1")

    story.tell("inspect_return", return_id="R-1", findings=[finding()])
    work = story.ask("worklist", kinds=["inspect"])["items"]

    assert [item["subject"]["id"] for item in work] == ["R-1"]


def test_a_return_with_nothing_accepted_goes_from_inspected_to_sent_back() -> None:
    story = Story()
    story.inspected(good=False)
    before = returned(story)["status"]

    story.tell(
        "record_send_back", "2026-03-17T09:00:00-04:00", return_id="R-1", lines=[{"line_id": "1", "quantity": 1}]
    )
    refund = story.tell("request_refund", refund_id="F-1", return_id="R-1")

    assert before == "inspected"
    assert returned(story)["status"] == "sent_back"
    assert failed(refund) == ["returns.condition"]


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        ("receive_return", {}),
        ("record_return_shipment", {}),
        ("withdraw_return", {}),
        ("report_return_lost", {}),
        ("inspect_return", {"findings": [finding()]}),
        ("record_send_back", {"lines": [{"line_id": "1", "quantity": 1}]}),
    ],
)
def test_nothing_can_happen_to_a_declined_return(command: str, fields: dict) -> None:
    story = Story()
    story.delivered(final_sale=True)
    story.tell(
        "request_return",
        "2026-03-09T12:00:00-04:00",
        return_id="R-1",
        order_id="A-1",
        lines=[{"line_id": "1", "quantity": 1}],
        channel="portal",
    )

    outcome = story.tell(command, return_id="R-1", **fields)

    assert code(outcome) == "transition.not_allowed"
    assert outcome["error"]["state"] == "declined"
    assert command in outcome["error"]["message"]


@pytest.mark.parametrize("second", ["record_return_shipment", "withdraw_return"])
def test_a_parcel_on_its_way_is_neither_handed_over_again_nor_withdrawn(second: str) -> None:
    story = Story()
    story.labelled()
    story.tell("record_return_shipment", "2026-03-10T16:00:00-04:00", return_id="R-1", label_id="L-1")

    outcome = story.tell(second, return_id="R-1")

    assert code(outcome) == "transition.not_allowed"

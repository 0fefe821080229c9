"""``run_deadlines``: the only command that records deadlines, each once, dated when they came."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from kit import Story, brought_back, types

from returnable.adapters.wiring import assemble


def report(story: Story, at: str = "2026-03-09T12:00:00-04:00") -> None:
    story.tell(
        "report_wrong_item",
        at,
        claim_id="W-1",
        order_id="A-1",
        line_id="1",
        channel="email",
        attachments=["order_confirmation", "item_picture"],
    )


def stamps(outcome: dict) -> list[tuple[str, str, str]]:
    return [(event["stream"], event["type"], event["occurred_at"]) for event in outcome["events"]]


def test_a_label_voids_once_at_its_deadline_and_not_before() -> None:
    story = Story()
    story.labelled()

    runs = [
        story.tell("run_deadlines", at)
        for at in ("2026-03-11T23:59:59-04:00", "2026-03-12T00:00:00-04:00", "2026-03-20T00:00:00-04:00")
    ]

    assert [types(run) for run in runs] == [[], ["LabelVoided"], []]
    assert stamps(runs[1]) == [("return/R-1", "LabelVoided", "2026-03-12T00:00:00-04:00")]


def test_a_missed_contact_is_recorded_after_its_last_instant_dated_at_it() -> None:
    story = Story()
    story.delivered()
    report(story)

    runs = [
        story.tell("run_deadlines", at)
        for at in ("2026-03-10T12:00:00-04:00", "2026-03-10T12:00:01-04:00", "2026-03-11T00:00:00-04:00")
    ]

    assert [types(run) for run in runs] == [[], ["ContactMissed"], []]
    assert stamps(runs[1]) == [("claim/W-1", "ContactMissed", "2026-03-10T12:00:00-04:00")]


def test_an_overdue_refund_is_recorded_once_in_the_stream_of_what_it_pays_for() -> None:
    story = Story()
    story.inspected()
    story.tell("request_refund", "2026-03-16T10:05:00-04:00", refund_id="F-1", return_id="R-1")

    runs = [
        story.tell("run_deadlines", at)
        for at in ("2026-04-06T23:59:59-04:00", "2026-04-07T00:00:00-04:00", "2026-04-08T00:00:00-04:00")
    ]

    assert [types(run) for run in runs] == [[], ["RefundOverdue"], []]
    assert stamps(runs[1]) == [("return/R-1", "RefundOverdue", "2026-04-07T00:00:00-04:00")]


def test_what_was_done_in_time_leaves_nothing_to_record() -> None:
    story = Story()
    story.delivered(quantity=2)
    report(story)
    story.tell("record_claim_contact", claim_id="W-1")
    brought_back(story, {"1": 1})
    story.tell("request_refund", refund_id="F-1", return_id="R-1")
    story.tell("record_refund_result", refund_id="F-1", payment_id="p-1", result="succeeded")

    outcome = story.tell("run_deadlines", "2026-12-01T00:00:00-05:00")

    assert outcome["outcome"] == "accepted"
    assert outcome["events"] == []


def test_a_contact_learnt_late_but_made_in_time_clears_the_missed_one() -> None:
    story = Story()
    story.delivered()
    report(story)
    story.tell("run_deadlines", "2026-03-11T09:00:00-04:00")
    missed = story.ask("claim", claim_id="W-1")["overdue"]

    story.tell("record_claim_contact", claim_id="W-1", contacted_at="2026-03-10T11:00:00-04:00")

    assert missed is True
    assert story.ask("claim", claim_id="W-1")["overdue"] is False


@pytest.mark.parametrize("then", ["contacted late", "resolved without contact"])
def test_a_missed_contact_is_recorded_although_the_claim_moved_on_since(then: str) -> None:
    story = Story()
    story.delivered()
    report(story)
    if then == "contacted late":
        story.tell("record_claim_contact", "2026-03-12T09:00:00-04:00", claim_id="W-1")
    else:
        story.tell("resolve_claim", "2026-03-12T09:00:00-04:00", claim_id="W-1", remedy="refund")

    outcome = story.tell("run_deadlines", "2026-03-13T09:00:00-04:00")

    assert types(outcome) == ["ContactMissed"]


def test_deadlines_of_all_cases_are_recorded_in_the_order_in_which_they_came() -> None:
    story = Story()
    story.labelled()
    story.confirmed("B-1", at="2026-03-10T10:00:00-04:00")
    for command, fields in (
        ("record_shipment", {"parcel_id": "P-1", "carrier": "ups", "tracking_number": "T"}),
        ("record_delivery", {"parcel_id": "P-1"}),
        ("report_wrong_item", {"claim_id": "W-1", "line_id": "1", "channel": "email"}),
    ):
        assert story.tell(command, order_id="B-1", **fields)["outcome"] == "accepted"

    outcome = story.tell("run_deadlines", "2026-03-20T00:00:00-04:00")

    assert stamps(outcome) == [
        ("claim/W-1", "ContactMissed", "2026-03-11T10:00:00-04:00"),
        ("return/R-1", "LabelVoided", "2026-03-12T00:00:00-04:00"),
    ]
    assert {event["recorded_at"] for event in outcome["events"]} == {"2026-03-20T00:00:00-04:00"}


def test_questions_and_other_commands_record_no_deadline() -> None:
    story = Story()
    story.labelled()

    story.ask("return", "2026-03-12T09:00:00-04:00", return_id="R-1")
    story.tell("receive_return", "2026-03-12T09:00:00-04:00", return_id="R-1")
    entries = story.ask("audit", stream="return/R-1")["entries"]

    assert "LabelVoided" not in [entry["type"] for entry in entries]


def test_the_label_of_a_withdrawn_or_refused_return_voids_too() -> None:
    story = Story()
    story.labelled()
    story.tell("withdraw_return", return_id="R-1")

    outcome = story.tell("run_deadlines", "2026-03-12T00:00:00-04:00")

    assert types(outcome) == ["LabelVoided"]
    assert story.ask("return", return_id="R-1")["status"] == "withdrawn"


def test_a_case_that_cannot_be_read_is_told_in_the_log_and_holds_up_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "shop.db"
    story = Story(assemble(f"sqlite:///{path}"))
    story.labelled()
    story.confirmed("A-0")
    connection = sqlite3.connect(path)
    connection.execute("UPDATE facts SET type = 'order.Teleported/1' WHERE case_id = 'A-0'")
    connection.commit()
    connection.close()

    outcome = story.tell("run_deadlines", "2026-04-01T00:00:00-04:00")

    assert types(outcome) == ["LabelVoided"]
    assert "case 'A-0' was left out" in caplog.text
    assert "order.Teleported/1" in caplog.text
    story.parts.store.close()

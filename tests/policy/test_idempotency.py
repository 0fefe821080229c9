"""Command ids: the same command again gives the stored outcome, another one under the same id is a conflict."""

from __future__ import annotations

import pytest
from kit import Story, ask_return, code, types


def test_the_same_command_again_gives_the_stored_outcome_and_appends_nothing() -> None:
    story = Story()
    story.delivered()
    first = ask_return(story, "2026-03-09T12:00:00-04:00", command_id="k-1")

    again = ask_return(story, "2026-05-09T12:00:00-04:00", command_id="k-1")
    entries = story.ask("audit", stream="return/R-1")["entries"]

    assert types(again) == ["ReturnRequested", "ReturnAuthorized"]
    assert again["events"] == first["events"]
    assert again["ruling"] == first["ruling"]
    assert again["outcome"] == first["outcome"]
    assert len(entries) == 2
    assert {entry["command_id"] for entry in entries} == {"k-1"}


def test_a_declined_command_is_answered_again_with_its_ruling() -> None:
    story = Story()
    story.delivered(final_sale=True)
    first = ask_return(story, "2026-03-09T12:00:00-04:00", command_id="k-1")

    again = ask_return(story, "2026-03-09T12:00:00-04:00", command_id="k-1")

    assert (again["outcome"], again["ruling"], again["events"]) == ("declined", first["ruling"], first["events"])


@pytest.mark.parametrize(
    "change",
    [{"channel": "email"}, {"actor": {"role": "care", "id": "kim"}}, {"requested_at": "2026-03-09T11:00:00-04:00"}],
    ids=["another field", "another actor", "another time of its own"],
)
def test_another_body_under_the_same_id_is_a_conflict(change: dict) -> None:
    story = Story()
    story.delivered()
    ask_return(story, "2026-03-09T12:00:00-04:00", command_id="k-1")

    outcome = ask_return(story, "2026-03-09T12:00:00-04:00", command_id="k-1", **change)

    assert code(outcome) == "command.conflict"


def test_another_command_under_the_same_id_is_a_conflict_before_anything_is_unknown() -> None:
    story = Story()
    story.confirmed(command_id="k-1")

    outcome = story.tell("withdraw_return", return_id="R-9", command_id="k-1")

    assert code(outcome) == "command.conflict"


def test_the_shape_is_checked_before_the_key() -> None:
    story = Story()
    story.confirmed(command_id="k-1")

    outcome = story.tell("withdraw_return", command_id="k-1")

    assert code(outcome) == "command.invalid"


def test_an_error_stores_no_key() -> None:
    story = Story()
    story.confirmed()
    early = story.tell("record_delivery", order_id="A-1", parcel_id="P-1", command_id="k-1")
    story.tell("record_shipment", order_id="A-1", parcel_id="P-1", carrier="ups", tracking_number="T")

    later = story.tell("record_delivery", order_id="A-1", parcel_id="P-1", command_id="k-1")

    assert code(early) == "parcel.unknown"
    assert types(later) == ["Delivered"]


def test_a_creating_command_without_a_key_is_never_told_again() -> None:
    story = Story()
    story.delivered()
    ask_return(story, "2026-03-09T12:00:00-04:00")

    again = ask_return(story, "2026-03-09T12:00:00-04:00")

    assert code(again) == "return.exists"


def test_a_fact_told_again_under_a_key_of_its_own_is_answered_again_without_events() -> None:
    story = Story()
    story.delivered()
    at = "2026-03-05T14:00:00-05:00"
    fields = {"order_id": "A-1", "parcel_id": "P-1", "delivered_at": at, "command_id": "k-1"}
    first = story.tell("record_delivery", "2026-03-06T09:00:00-05:00", **fields)

    again = story.tell("record_delivery", "2026-03-07T09:00:00-05:00", **fields)

    assert (first["events"], again["events"]) == ([], [])
    assert again["outcome"] == "accepted"


def test_run_deadlines_under_a_key_gives_its_events_again() -> None:
    story = Story()
    story.labelled()
    first = story.tell("run_deadlines", "2026-03-12T08:00:00-04:00", command_id="night-12")

    again = story.tell("run_deadlines", "2026-03-12T09:00:00-04:00", command_id="night-12")
    other = story.tell("run_deadlines", "2026-03-12T09:00:00-04:00", command_id="night-13")

    assert types(first) == ["LabelVoided"]
    assert again["events"] == first["events"]
    assert other["events"] == []


def test_defaults_spelt_out_are_the_same_body() -> None:
    story = Story()
    story.delivered()
    ask_return(story, "2026-03-09T12:00:00-04:00", command_id="k-1")

    again = ask_return(story, "2026-03-09T12:00:00-04:00", command_id="k-1", resolution="refund")

    assert types(again) == ["ReturnRequested", "ReturnAuthorized"]

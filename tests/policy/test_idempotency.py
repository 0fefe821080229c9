"""Command ids: the same command again gives the stored outcome, another one under the same id is a conflict."""

from __future__ import annotations

from typing import Any

import pytest
from reading import types

from returnable.testing import (
    a_return,
    an_order,
    correct_delivery,
    given,
    record_delivery,
    record_shipment,
    request_return,
    run_deadlines,
    step,
    withdraw_return,
)

DELIVERED = an_order(delivered="2026-03-05 14:00")


def test_the_same_command_again_gives_the_stored_outcome_and_appends_nothing() -> None:
    story = given(DELIVERED)
    first = story.tell(request_return(command_id="k-1"), "2026-03-09 12:00")

    again = story.tell(request_return(command_id="k-1"), "2026-05-09 12:00")

    entries = story.ask("audit/return/R-1")["entries"]
    assert types(again) == ["ReturnRequested", "ReturnAuthorized"]
    assert again["events"] == first["events"]
    assert again["ruling"] == first["ruling"]
    assert again["outcome"] == first["outcome"]
    assert len(entries) == 2
    assert {entry["command_id"] for entry in entries} == {"k-1"}


def test_a_declined_command_is_answered_again_with_its_ruling() -> None:
    story = given(an_order(final_sale=True, delivered="2026-03-05 14:00"))
    first = story.tell(request_return(command_id="k-1"), "2026-03-09 12:00")

    again = story.tell(request_return(command_id="k-1"))

    assert (again["outcome"], again["ruling"], again["events"]) == ("declined", first["ruling"], first["events"])


@pytest.mark.parametrize(
    "change",
    [{"channel": "email"}, {"actor": {"role": "care", "id": "kim"}}, {"requested_at": "2026-03-09 11:00"}],
    ids=["another field", "another actor", "another time of its own"],
)
def test_another_body_under_the_same_id_is_a_conflict(change: dict[str, Any]) -> None:
    story = given(DELIVERED, request_return(command_id="k-1", at="2026-03-09 12:00"))

    story.when(request_return(command_id="k-1", **change))

    story.then_error("command.conflict")


def test_another_command_under_the_same_id_is_a_conflict_before_anything_is_unknown() -> None:
    story = given(an_order(command_id="k-1"))

    story.when(withdraw_return("R-9", command_id="k-1"))

    story.then_error("command.conflict")


def test_the_shape_is_checked_before_the_key() -> None:
    story = given(an_order(command_id="k-1"))

    story.when(step("withdraw_return", command_id="k-1"))

    story.then_error("command.invalid", field="return_id")


def test_an_error_stores_no_key() -> None:
    story = given(an_order())
    story.when(correct_delivery(command_id="k-1")).then_error("parcel.unknown")

    story.given(record_shipment(), record_delivery()).when(correct_delivery(command_id="k-1"))

    story.then("DeliveryTakenBack")


def test_a_creating_command_without_a_key_is_never_told_again() -> None:
    story = given(DELIVERED, request_return(at="2026-03-09 12:00"))

    story.when(request_return())

    story.then_error("return.exists")


def test_a_fact_told_again_under_a_key_of_its_own_is_answered_again_without_events() -> None:
    known = record_delivery(delivered_at="2026-03-05 14:00", command_id="k-1")
    story = given(DELIVERED)
    first = story.tell(known, "2026-03-06 09:00")

    again = story.tell(known, "2026-03-07 09:00")

    assert (first["events"], again["events"]) == ([], [])
    assert again["outcome"] == "accepted"


def test_run_deadlines_under_a_key_gives_its_events_again() -> None:
    story = given(DELIVERED, a_return(requested="2026-03-09 12:00", labelled="2026-03-09 12:30"))
    first = story.tell(run_deadlines(command_id="night-12"), "2026-03-12 08:00")

    again = story.tell(run_deadlines(command_id="night-12"), "2026-03-12 09:00")
    other = story.tell(run_deadlines(command_id="night-13"))

    assert types(first) == ["LabelVoided"]
    assert again["events"] == first["events"]
    assert other["events"] == []


def test_defaults_spelt_out_are_the_same_body() -> None:
    story = given(DELIVERED, request_return(command_id="k-1", at="2026-03-09 12:00"))

    again = story.tell(request_return(command_id="k-1", resolution="refund"))

    assert types(again) == ["ReturnRequested", "ReturnAuthorized"]

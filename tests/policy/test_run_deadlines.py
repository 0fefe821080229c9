"""``run_deadlines``: the only command that records deadlines, each once, dated when they came."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from usual import a_delivered_order, a_labelled_return, an_inspected_return

from returnable.adapters.wiring import assemble
from returnable.testing import (
    Scenario,
    a_claim,
    a_return,
    an_order,
    event,
    given,
    receive_return,
    record_claim_contact,
    record_label_received,
    request_refund,
    resolve_claim,
    run_deadlines,
    withdraw_return,
)


def test_a_label_voids_once_at_its_deadline_and_not_before() -> None:
    story = given(a_labelled_return())

    story.at("2026-03-11 23:59:59").when(run_deadlines()).then()
    story.just_before("2026-03-12").when(run_deadlines()).then()
    story.at("2026-03-12").when(run_deadlines()).then(event("LabelVoided", label_id="L-1", occurred_at="2026-03-12"))
    story.at("2026-03-20").when(run_deadlines()).then()

    story.then_view("audit/return/R-1", entries=[{}, {}, {}, {"type": "LabelVoided", "occurred_at": "2026-03-12"}])


def test_a_receipt_learnt_late_that_moves_no_deadline_records_none_again() -> None:
    story = given(a_labelled_return(), run_deadlines(at="2026-03-12"))

    story.at("2026-03-13").when(record_label_received(received_at="2026-03-09 18:00")).then("LabelReceived")

    story.then_view("return/R-1", labels=[{"status": "void", "void_at": "2026-03-12"}])
    story.at("2026-03-20").when(run_deadlines()).then()


def test_a_receipt_learnt_late_that_moves_the_deadline_records_the_new_one_as_well() -> None:
    story = given(a_labelled_return(), run_deadlines(at="2026-03-12"))

    story.at("2026-03-13").when(record_label_received(received_at="2026-03-11 18:00")).then("LabelReceived")

    story.at("2026-03-20").when(run_deadlines()).then(event("LabelVoided", occurred_at="2026-03-14"))


def test_a_missed_contact_is_recorded_after_its_last_instant_dated_at_it() -> None:
    story = given(a_delivered_order(), a_claim(reported="2026-03-09 12:00"))

    story.at("2026-03-10 12:00").when(run_deadlines()).then()
    story.after(microseconds=1).when(run_deadlines()).then(event("ContactMissed", occurred_at="2026-03-10 12:00"))
    story.at("2026-03-11").when(run_deadlines()).then()

    story.then_view("audit/claim/C-1", entries=[{}, {"type": "ContactMissed", "occurred_at": "2026-03-10 12:00"}])


def test_an_overdue_refund_is_recorded_once_in_the_stream_of_what_it_pays_for() -> None:
    story = given(an_inspected_return(), request_refund(at="2026-03-16 10:05"))

    story.at("2026-04-06 23:59:59").when(run_deadlines()).then()
    story.at("2026-04-07").when(run_deadlines()).then(event("RefundOverdue", occurred_at="2026-04-07"))
    story.at("2026-04-08").when(run_deadlines()).then()

    (overdue,) = [each for each in story.ask("audit/return/R-1")["entries"] if each["type"] == "RefundOverdue"]
    assert overdue["occurred_at"] == "2026-04-07T00:00:00-04:00"


def test_what_was_done_in_time_leaves_nothing_to_record() -> None:
    story = given(
        a_delivered_order(quantity=2), a_claim(reported="2026-03-09 12:00", contacted=True), a_return(refunded=True)
    )

    story.at("2026-12-01").when(run_deadlines()).then().then_accepted()


def test_a_contact_learnt_late_but_made_in_time_clears_the_missed_one() -> None:
    story = given(a_delivered_order(), a_claim(reported="2026-03-09 12:00"), run_deadlines(at="2026-03-11 09:00"))
    story.then_view("claim/C-1", overdue=True)

    story.when(record_claim_contact(contacted_at="2026-03-10 11:00"))

    story.then("ClaimContacted").then_view("claim/C-1", overdue=False)


@pytest.mark.parametrize(
    "then",
    [
        pytest.param(record_claim_contact(), id="contacted late"),
        pytest.param(resolve_claim(), id="resolved without contact"),
    ],
)
def test_a_missed_contact_is_recorded_although_the_claim_moved_on_since(then: object) -> None:
    story = given(a_delivered_order(), a_claim(reported="2026-03-09 12:00")).at("2026-03-12 09:00").given(then)

    story.at("2026-03-13 09:00").when(run_deadlines()).then("ContactMissed")


def test_deadlines_of_all_cases_are_recorded_in_the_order_in_which_they_came() -> None:
    story = given(
        a_labelled_return(),
        an_order("B-1", confirmed="2026-03-10 10:00", delivered=True),
        a_claim(order_id="B-1", attachments=[]),
    )

    story.at("2026-03-20").when(run_deadlines())

    story.then(
        event("ContactMissed", occurred_at="2026-03-11 10:00", recorded_at="2026-03-20"),
        event("LabelVoided", occurred_at="2026-03-12", recorded_at="2026-03-20"),
    )
    assert story.ask("audit/claim/C-1")["entries"][-1]["type"] == "ContactMissed"
    assert story.ask("audit/return/R-1")["entries"][-1]["type"] == "LabelVoided"


def test_questions_and_other_commands_record_no_deadline() -> None:
    story = given(a_labelled_return()).at("2026-03-12 09:00")

    story.ask("return/R-1")
    story.when(receive_return())

    assert "LabelVoided" not in [entry["type"] for entry in story.ask("audit/return/R-1")["entries"]]


def test_the_label_of_a_withdrawn_or_refused_return_voids_too() -> None:
    story = given(a_labelled_return(), withdraw_return())

    story.at("2026-03-12").when(run_deadlines())

    story.then("LabelVoided").then_view("return/R-1", status="withdrawn")


def test_a_case_that_cannot_be_read_is_told_in_the_log_and_holds_up_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "shop.db"
    story = Scenario(assemble(f"sqlite:///{path}")).given(a_labelled_return(), an_order("A-0"))
    connection = sqlite3.connect(path)
    connection.execute("UPDATE facts SET type = 'order.Teleported/1' WHERE case_id = 'A-0'")
    connection.commit()
    connection.close()

    story.at("2026-04-01").when(run_deadlines())

    story.then("LabelVoided")
    assert "case 'A-0' was left out" in caplog.text
    assert "order.Teleported/1" in caplog.text
    story.desk.close()

"""Every fact has its own time: its event occurs then, whenever it is recorded."""

from __future__ import annotations

import pytest
from usual import a_delivered_order, a_labelled_return

from returnable.domain.commands import COMMANDS
from returnable.domain.recorded_commands import recorded_commands
from returnable.testing import (
    Step,
    Steps,
    add_claim_evidence,
    an_order,
    cancel_order,
    given,
    link_account,
    notify_customer,
    report_wrong_item,
    request_return,
    void_label,
    withdraw_return,
)

FACTS = [name for name, model in COMMANDS.items() if model.fact]


@pytest.mark.parametrize("name", FACTS)
def test_a_fact_has_a_time_of_its_own_that_may_be_left_out(name: str) -> None:
    model = COMMANDS[name]

    assert model.own_times
    assert not any(model.model_fields[own].is_required() for own in model.own_times)


def test_a_command_that_records_is_a_fact() -> None:
    assert {name for name in COMMANDS if name.startswith(("record_", "receive_"))} <= set(FACTS)
    assert COMMANDS["cancel_order"].fact in COMMANDS["cancel_order"].model_fields


@pytest.mark.parametrize(
    ("history", "step", "own"),
    [
        (an_order(confirmed="2026-03-02 10:00"), link_account(), "linked_at"),
        (an_order(confirmed="2026-03-02 10:00"), notify_customer(), "notified_at"),
        (an_order(confirmed="2026-03-02 10:00"), cancel_order(), "cancelled_at"),
        (a_labelled_return(), void_label(reason="The wrong carrier."), "voided_at"),
        (a_labelled_return(), withdraw_return(), "withdrawn_at"),
        (
            Steps((*a_delivered_order(), report_wrong_item(at="2026-03-06 09:00"))),
            add_claim_evidence(attachments=["item_picture"]),
            "added_at",
        ),
    ],
)
def test_the_event_occurs_at_the_own_time_and_the_command_comes_back(history: Steps, step: Step, own: str) -> None:
    story = given(history).at("2026-03-11 17:00")
    dated = Step(dict(step.fields) | {own: "2026-03-11 12:00"})

    outcome = story.tell(dated)

    (event,) = outcome["events"]
    assert event["occurred_at"] == "2026-03-11T12:00:00-04:00"
    assert event["recorded_at"] == "2026-03-11T17:00:00-04:00"
    *_, told = recorded_commands(story.desk.services.store.load("A-1"))
    assert told.fields[own].isoformat() == "2026-03-11T16:00:00+00:00"
    story.at("2026-03-11 17:00").when(Step(dict(step.fields) | {own: "2026-03-11 17:00:01"}))
    story.then_error("command.invalid")


def test_an_account_counts_from_its_own_time_and_not_from_when_it_was_learnt() -> None:
    asked = request_return(requested_at="2026-03-09 12:00", at="2026-03-11 12:00")
    known_late = given(
        a_delivered_order(account_id=None), link_account(linked_at="2026-03-09 11:00", at="2026-03-11 09:00")
    )
    opened_late = given(a_delivered_order(account_id=None), link_account(at="2026-03-11 09:00"))

    known_late.when(asked).then_accepted()
    opened_late.when(asked).then_declined("returns.account")

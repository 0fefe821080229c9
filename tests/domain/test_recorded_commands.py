"""A history is told again as the commands it came of, and comes to the same facts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from usual import a_delivered_order, a_labelled_return, an_authorized_return

from returnable.adapters.wiring import assemble
from returnable.domain.errors import HistoryBroken
from returnable.domain.events import encode
from returnable.domain.ports import EventStore, Recorded
from returnable.domain.recorded_commands import recorded_commands
from returnable.testing import (
    Scenario,
    an_order,
    correct_delivery,
    declined,
    deny_claim,
    issue_label,
    record_delivery,
    record_shipment,
    report_wrong_item,
    request_cancellation,
    request_refund,
    run_deadlines,
)
from returnable.testing.behaviour import World

HISTORIES = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=60)


def log(store: EventStore) -> Iterator[Recorded]:
    """Every fact in order of position."""
    after = 0
    while page := store.read(after):
        yield from page
        after = page[-1].position


def facts_of(store: EventStore) -> list[tuple[object, ...]]:
    """Every fact where it stands, as it is stored."""
    return [(e.position, e.case_id, e.case_seq, e.stream, e.version, *encode(e.event)) for e in log(store)]


@given(HISTORIES)
def test_any_history_told_again_in_another_store_leaves_the_same_facts(seeds: list[int]) -> None:
    world = World()
    for seed in seeds:
        world.step(seed)
    other = assemble("memory:")

    for told in recorded_commands(log(world.services.store)):
        outcome = other.handler.handle(told.command, told.at)
        assert (outcome.outcome, outcome.findings) == (told.outcome, told.ruling)

    assert facts_of(other.store) == facts_of(world.services.store)


@given(HISTORIES)
def test_the_facts_of_a_command_stand_together_and_none_is_left_out(seeds: list[int]) -> None:
    world = World()
    for seed in seeds:
        world.step(seed)
    recorded = list(log(world.services.store))

    told = list(recorded_commands(recorded))

    assert [entry for each in told for entry in each.entries] == recorded
    accepted_or_declined = sum(world.seen[outcome] for outcome in ("accepted", "declined")) if world.seen else 0
    assert len(told) <= max(accepted_or_declined, len(recorded))


def test_a_claim_denied_on_the_spot_is_one_command_and_one_denied_by_hand_is_another() -> None:
    story = Scenario().given(
        a_delivered_order(),
        declined(report_wrong_item(channel="phone", attachments=[])),
        report_wrong_item("C-2", attachments=[]),
        deny_claim("C-2", reason="The item is the right one."),
    )

    told = list(recorded_commands(log(story.services.store)))[3:]

    assert [each.fields["command"] for each in told] == ["report_wrong_item", "report_wrong_item", "deny_claim"]
    assert [each.outcome for each in told] == ["declined", "accepted", "accepted"]


def test_a_delivery_moved_is_one_command_and_one_taken_back_and_recorded_again_is_two() -> None:
    story = Scenario().given(a_delivered_order(), correct_delivery(at="2026-03-20"))
    story.given(record_delivery(at="2026-03-20"), correct_delivery(delivered_at="2026-03-19T10:00", at="2026-03-21"))

    told = list(recorded_commands(log(story.services.store)))[3:]

    assert [each.fields["command"] for each in told] == ["correct_delivery", "record_delivery", "correct_delivery"]
    assert [len(each.entries) for each in told] == [1, 1, 2]


def test_deadlines_of_many_cases_recorded_by_one_run_are_one_command() -> None:
    story = Scenario().given(
        a_labelled_return(),
        an_order("A-2"),
        record_shipment(order_id="A-2"),
        record_delivery(order_id="A-2"),
        report_wrong_item(order_id="A-2", attachments=[]),
        run_deadlines(command_id="night-1", at="2026-04-01"),
    )

    last = list(recorded_commands(log(story.services.store)))[-1]

    assert last.fields == {"command": "run_deadlines", "command_id": "night-1"}
    assert {entry.event.type for entry in last.entries} == {"LabelVoided", "ContactMissed"}


def test_what_a_declined_label_and_a_declined_refund_did_not_record_is_filled_in_harmlessly() -> None:
    story = Scenario().given(
        a_labelled_return(), declined(request_refund()), declined(issue_label("L-2", at="2026-04-01"))
    )

    refund, label = [each.fields for each in recorded_commands(log(story.services.store))][-2:]

    assert (label["carrier"], label["tracking_number"]) == ("not recorded", "not recorded")
    assert refund["refund_id"].startswith("declined-")


def test_a_fact_that_begins_no_command_is_a_broken_history() -> None:
    story = Scenario().given(an_authorized_return())
    alone = [entry for entry in log(story.services.store) if entry.event.type == "ReturnAuthorized"]

    with pytest.raises(HistoryBroken, match="return/R-1#2: ReturnAuthorized stands alone"):
        list(recorded_commands(alone))


def test_an_order_of_no_price_is_refunded_by_one_command() -> None:
    story = Scenario().given(
        an_order(price="0.00", payments=[]), request_cancellation(order_reference="A-1"), request_refund(order_id="A-1")
    )

    last = list(recorded_commands(log(story.services.store)))[-1]

    assert [entry.event.type for entry in last.entries] == ["RefundRequested", "Refunded"]

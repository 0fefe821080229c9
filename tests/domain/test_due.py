"""When a case has a deadline to record, and that the due table leads to every one of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from usual import a_labelled_return

from returnable.adapters.wiring import assemble
from returnable.domain import due
from returnable.domain.calendar import A_MOMENT
from returnable.domain.case import fold
from returnable.domain.commands import RunDeadlines
from returnable.domain.deciding import DecisionContext
from returnable.domain.due import DueCases
from returnable.domain.errors import Stale, StoreBusy
from returnable.domain.events import Who
from returnable.domain.timetable import due_events, next_due
from returnable.testing import Scenario, an_order, issue_label, record_return_shipment, void_label
from returnable.testing.behaviour import World

LATER = datetime(2026, 4, 1, 15, 0, tzinfo=UTC)
STEPS = st.lists(st.integers(0, 2**32 - 1), min_size=20, max_size=60, unique=True)


def everything_due(world: World, at: datetime) -> list[str]:
    """The cases with something to record, found by looking at every one."""
    desk = world.services.handler
    return sorted(
        case.case_id
        for case in (fold(case_id, events) for case_id, events in desk.store.cases())
        if due_events(case, DecisionContext(at, desk.policy_of(case)))
    )


@given(STEPS)
@settings(max_examples=settings().max_examples // 2)
def test_the_next_instant_is_the_first_at_which_there_is_something_to_record(steps: Sequence[int]) -> None:
    world = World()
    for step in steps:
        world.step(step)
        for case in world.cases:
            policy = world.services.handler.policy_of(case)
            at = next_due(case)
            if at is None:
                later = world.at + timedelta(days=3650)
                assert due_events(case, DecisionContext(later, policy)) == []
            else:
                assert due_events(case, DecisionContext(at - A_MOMENT, policy)) == []
                assert due_events(case, DecisionContext(at, policy)) != []


@given(STEPS, st.integers(0, 2**32 - 1))
@settings(max_examples=settings().max_examples // 2)
def test_the_table_leads_to_every_case_with_something_to_record_and_to_no_other(
    steps: Sequence[int], seed: int
) -> None:
    world, dice = World(), Random(seed)
    # Narrow windows, so that a case is told in several of them.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(due, "POSITIONS_AT_ONCE", 3)
        patch.setattr(due, "CASES_AT_ONCE", 2)
        kept_up = world.services.handler.due
        for step in steps:
            world.step(step)
            if dice.random() < 0.3:
                kept_up.catch_up()
        kept_up.catch_up()
        for at in [world.at, *world.instants()]:
            for moment in (at - A_MOMENT, at, at + A_MOMENT):
                assert sorted(kept_up.table.due_by(moment)) == everything_due(world, moment)


@given(STEPS)
@settings(max_examples=settings().max_examples // 3)
def test_recording_case_by_case_comes_to_the_same_as_recording_all_at_once(steps: Sequence[int]) -> None:
    one, other = World(), World()
    for step in steps:
        one.step(step)
        other.step(step)
    at = one.at + timedelta(days=60)

    one.services.handler.due.catch_up()
    for case_id in one.services.handler.due.table.due_by(at):
        assert one.services.handler.record_due(case_id, at) is not None
        assert one.services.handler.record_due(case_id, at) is None, "each once"
    other.services.handler.handle(RunDeadlines(command="run_deadlines"), at)

    for case_id in one.order_ids:
        events = [(e.stream, e.version, e.event) for e in one.services.store.load(case_id)]
        assert events == [(e.stream, e.version, e.event) for e in other.services.store.load(case_id)]


def test_one_due_case_is_recorded_with_who_did_it() -> None:
    story = Scenario().given(a_labelled_return())

    outcome = story.services.handler.record_due("A-1", LATER, Who(role="system", id="worker-1"))

    assert outcome is not None
    ((stream, _, event),) = outcome.recorded_events
    assert (stream, event.type, event.actor) == ("return/R-1", "LabelVoided", Who(role="system", id="worker-1"))
    assert event.recorded_at == LATER
    assert event.occurred_at < LATER


def test_a_case_that_moves_on_while_its_deadline_is_recorded_is_looked_at_again() -> None:
    # given: another process records the hand-over between the look and the append
    story = Scenario().given(a_labelled_return())
    desk = story.services.handler
    story.at(LATER)
    append = desk.store.append
    moved: list[str] = []

    def append_late(batches: object, **others: object) -> Sequence[int]:
        if not moved:
            moved.append("once")
            desk.store.append = append  # type: ignore[method-assign]
            story.tell(record_return_shipment(shipped_at="2026-03-10 09:00"))
        return append(batches, **others)  # type: ignore[arg-type]

    desk.store.append = append_late  # type: ignore[method-assign, assignment]

    # when, then: the label was used in time, and nothing is due any more
    assert desk.record_due("A-1", LATER) is None
    assert moved == ["once"]
    story.then_view("return/R-1", labels=[{"status": "used"}])


def test_a_store_on_which_others_are_always_faster_is_busy() -> None:
    story = Scenario().given(a_labelled_return())
    desk = story.services.handler

    def never(batches: object, **others: object) -> Sequence[int]:
        raise Stale("A-1")

    desk.store.append = never  # type: ignore[method-assign, assignment]

    with pytest.raises(StoreBusy, match="case 'A-1' were faster 200 times"):
        desk.record_due("A-1", LATER)


def test_a_case_that_becomes_unreadable_is_parked_and_told(caplog: pytest.LogCaptureFixture) -> None:
    story = Scenario().given(a_labelled_return())
    kept_up = story.services.handler.due
    kept_up.catch_up()
    rows: Any = story.services.store._cases["A-1"]  # type: ignore[attr-defined]
    rows[0] = (*rows[0][:5], "order.Teleported/1", rows[0][6])

    with caplog.at_level(logging.ERROR, "returnable"):
        assert story.services.handler.record_due("A-1", LATER) is None

    assert (kept_up.table.parked(), kept_up.table.status().waiting) == (["A-1"], 0)
    assert "order.Teleported/1" in caplog.text


def test_a_parked_case_is_looked_at_again_when_asked() -> None:
    story = Scenario().given(a_labelled_return())
    kept_up = story.services.handler.due
    kept_up.catch_up()
    kept_up.table.park("A-1")

    kept_up.catch_up()
    assert kept_up.table.parked() == ["A-1"], "nothing new is known of it"
    kept_up.retry_parked()

    assert (kept_up.table.parked(), kept_up.table.status().waiting) == ([], 1)


def test_a_table_that_others_feed_at_the_same_time_is_fed_once() -> None:
    # given: another process feeds the table between the look and the feeding
    story = Scenario().given(a_labelled_return())
    one, other = DueCases(story.services.store), DueCases(story.services.store)
    feed = other.table.update
    refused: list[bool] = []

    def feed_late(*window: Any) -> bool:
        other.catch_up()
        refused.append(feed(*window))
        return refused[-1]

    one.table = SimpleNamespace(position=other.table.position, update=feed_late)  # type: ignore[assignment]

    # when
    position = one.catch_up()

    # then
    assert refused == [False]
    assert position == story.services.store.head() == other.table.position()


def test_an_empty_store_has_nothing_due() -> None:
    services = assemble("memory:")

    assert services.handler.due.catch_up() == 0
    assert services.handler.due.table.status().waiting == 0


def test_labels_that_were_used_or_voided_are_not_due() -> None:
    story = Scenario().given(a_labelled_return(), void_label(), issue_label("L-2"), an_order("A-2"))
    story.tell(record_return_shipment(label_id="L-2"))

    story.services.handler.due.catch_up()

    assert story.services.handler.due.table.status().waiting == 0

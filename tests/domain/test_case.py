"""A case is what its facts say, in their order; what they cannot say is a broken history and never ignored."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from returnable.domain.case import Case, evolve, fold, fold_as_of
from returnable.domain.deadlines import Happened
from returnable.domain.errors import HistoryBroken
from returnable.domain.events import Event
from returnable.domain.order.state import Order
from returnable.domain.ports import Recorded
from returnable.testing import Scenario, an_order, notify_customer, record_delivery
from returnable.testing.behaviour import World

SEEDS = st.integers(0, 2**32 - 1)


def history(seed: int, steps: int = 45) -> list[Recorded]:
    """The facts of the longest case of a random world."""
    world, dice = World(), Random(seed)
    for _ in range(steps):
        world.step(dice.getrandbits(32))
    return max((list(events) for _, events in world.services.store.cases()), key=len)


def told(events: list[Recorded]) -> Case:
    """Their case."""
    return fold(events[0].case_id, events)


def looks(case: Case) -> str:
    """Everything that is in a case, as text that does not change with it."""
    order = case.order if case.seq else "nothing"
    return repr((case.seq, order, case.returns, case.claims, case.refunds))


@given(SEEDS, st.data())
def test_a_case_grows_by_its_facts_however_they_are_dealt_out(seed: int, data: st.DataObject) -> None:
    events = history(seed)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(events)), max_size=5)))

    grown = Case(events[0].case_id)
    for begin, end in zip([0, *cuts], [*cuts, len(events)], strict=True):
        before = looks(grown)
        after = evolve(grown, events[begin:end])
        assert looks(grown) == before
        grown = after

    whole = told(events)
    assert (grown.order, grown.returns, grown.claims, grown.refunds) == (
        whole.order,
        whole.returns,
        whole.claims,
        whole.refunds,
    )
    assert grown.seq == len(events)


def test_a_note_knows_when_it_happened_and_which_version_it_has() -> None:
    story = Scenario().given(an_order(), notify_customer(at="2026-03-02 11:00"))
    noted: list[Happened] = []

    class Noting(Order):
        def _note(self, event: Event, happened: Happened) -> None:
            noted.append(happened)

    order = Noting(order_id="A-1")
    for entry in story.services.store.load("A-1"):
        order.apply(entry.event, entry.version)

    assert noted == [Happened(datetime(2026, 3, 2, 16, tzinfo=UTC), 2)]


@given(SEEDS, st.data())
def test_a_history_with_a_fact_missing_doubled_or_out_of_place_is_read_or_broken_and_nothing_else(
    seed: int, data: st.DataObject
) -> None:
    events = history(seed)
    place = data.draw(st.integers(0, len(events) - 1))
    other = data.draw(st.integers(0, len(events) - 1))
    damage = data.draw(st.sampled_from(["drop", "double", "swap", "cut", "elsewhere"]))
    if damage == "drop":
        events = events[:place] + events[place + 1 :]
    elif damage == "double":
        events = events[: place + 1] + events[place:]
    elif damage == "swap":
        events[place], events[other] = events[other], events[place]
    elif damage == "cut":
        events = events[place:]
    else:
        events[place] = replace(events[place], stream=events[other].stream)

    if events:
        try:
            told(events)
        except HistoryBroken as error:
            assert str(error)


@given(SEEDS, st.data())
def test_looking_back_takes_the_facts_that_fit_and_never_fails(seed: int, data: st.DataObject) -> None:
    events = history(seed)
    instants = sorted({at for entry in events for at in (entry.event.occurred_at, entry.event.recorded_at)})
    as_of = data.draw(st.none() | st.sampled_from(instants))
    known_at = data.draw(st.none() | st.sampled_from(instants))

    case = fold_as_of(events[0].case_id, events, as_of, known_at)

    assert case.seq <= len(events)
    if as_of is None and known_at is None:
        assert (case.order, case.returns, case.claims) == (
            told(events).order,
            told(events).returns,
            told(events).claims,
        )


@given(SEEDS)
def test_what_had_been_recorded_by_an_instant_is_a_beginning_of_the_history(seed: int) -> None:
    events = history(seed)
    for known_at in sorted({entry.event.recorded_at for entry in events})[:6]:
        by_then = [entry for entry in events if entry.event.recorded_at <= known_at]

        case = fold_as_of(events[0].case_id, events, None, known_at)

        assert by_then == events[: len(by_then)]
        assert (case.order, case.returns) == (told(by_then).order, told(by_then).returns)


def test_a_stream_of_another_case_is_a_broken_history() -> None:
    case = told(history(1))

    for stream in ("order/elsewhere", "return/R-404", "claim/C-404", "refund/F-1", "nonsense", ""):
        with pytest.raises(HistoryBroken, match="stream"):
            case.stream_of(stream)


def test_a_case_as_of_an_instant_names_events_by_their_recorded_versions() -> None:
    story = Scenario().given(
        an_order(confirmed="2026-03-02 10:00", shipped="2026-03-03"),
        notify_customer(at="2026-03-05 12:00"),
        record_delivery(at="2026-03-06", delivered_at="2026-03-04 12:00"),
    )
    recorded = story.services.store.load("A-1")

    case = fold_as_of("A-1", recorded, story.clock.instant("2026-03-05"), None)

    delivered = case.order.parcels["P-1"].delivered
    assert delivered is not None
    assert recorded[delivered.version - 1].event.type == "Delivered", "the notice before it had not occurred yet"

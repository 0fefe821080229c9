"""Replay: what every fact did to states, deadlines and money, step by step."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from reading import was_contradicted
from usual import a_delivered_order, a_labelled_return, an_authorized_return, an_inspected_return

from returnable.adapters.wiring import Services
from returnable.domain.case import Case, fold, steps
from returnable.domain.commands import parse_command
from returnable.domain.errors import Impossible
from returnable.domain.fields import parse_instant
from returnable.domain.policy import INCLUSIVE
from returnable.projections.audit_models import HistoryStep, HistoryView
from returnable.projections.replay import deadlines, history
from returnable.projections.subjects import find_subject
from returnable.testing import (
    Scenario,
    an_order,
    correct_delivery,
    declined,
    issue_label,
    override,
    record_claim_contact,
    record_delivery,
    record_label_received,
    record_refund_result,
    record_return_shipment,
    record_shipment,
    report_wrong_item,
    request_cancellation,
    request_refund,
    request_return,
    run_deadlines,
    withdraw_return,
)
from returnable.testing.behaviour import World

HISTORIES = st.lists(st.integers(0, 2**32 - 1), min_size=50, max_size=80, unique=True)
LATER = datetime(2027, 1, 1, tzinfo=UTC)


def told(services: Services, subject: str, until: datetime | int | None = None, **when: datetime) -> HistoryView:
    """The history as the command line asks for it."""
    found = find_subject(services.store, services.handler.policy, subject, when.get("as_of"), when.get("known_at"))
    return history(found, when.get("as_of") or LATER, until)


def changes(step: HistoryStep) -> list[tuple[str, str, str]]:
    """What a step did to which deadline."""
    return [(change.change, change.name, change.of) for change in step.deadlines]


def test_an_order_replays_its_whole_case_and_every_step_names_its_stream() -> None:
    story = Scenario().given(an_inspected_return(), request_refund(command_id="pay-1"))

    view = told(story.services, "A-1")

    assert [(step.number, step.event, step.before, step.after) for step in view.steps[:5]] == [
        (1, "order/A-1#1", None, "confirmed"),
        (2, "order/A-1#2", "confirmed", "shipped"),
        (3, "order/A-1#3", "shipped", "delivered"),
        (4, "return/R-1#1", None, "requested"),
        (5, "return/R-1#2", "requested", "authorized"),
    ]
    assert view.steps[-1].command_id == "pay-1"
    assert view.steps[2].details["parcel_id"] == "P-1"
    assert [(one.stream, one.status) for one in view.reached.streams] == [
        ("order/A-1", "delivered"),
        ("return/R-1", "inspected"),
        ("refund/F-1", "requested"),
    ]


def test_deadlines_appear_run_out_and_are_settled_where_a_fact_does_it() -> None:
    story = Scenario().given(an_inspected_return())

    view = told(story.services, "A-1")
    by_type = {step.type: changes(step) for step in view.steps}

    assert by_type["Confirmed"] == [("set", "cancel_by", "")]
    assert by_type["Shipped"] == [("passed", "cancel_by", "")]
    assert by_type["Delivered"] == [
        ("set", "return_before", "line 1 in parcel P-1"),
        ("set", "report_before", "line 1 in parcel P-1"),
    ]
    assert by_type["ReturnRequested"] == []
    assert by_type["ReturnAuthorized"] == [
        ("settled", "return_before", "line 1 in parcel P-1"),
        ("settled", "report_before", "line 1 in parcel P-1"),
    ]
    assert by_type["LabelIssued"] == [("set", "void_at", "label L-1")]
    assert by_type["ReturnShipped"] == [("settled", "void_at", "label L-1")]
    assert [(one.name, one.state) for one in view.reached.deadlines] == [
        ("cancel_by", "passed"),
        ("return_before", "settled"),
        ("report_before", "settled"),
        ("void_at", "settled"),
    ]


def test_a_return_that_is_withdrawn_opens_the_window_again() -> None:
    story = Scenario().given(an_authorized_return(), withdraw_return())

    last = told(story.services, "A-1").steps[-1]

    assert changes(last) == [
        ("reopened", "return_before", "line 1 in parcel P-1"),
        ("reopened", "report_before", "line 1 in parcel P-1"),
    ]


def test_a_deadline_that_is_set_anew_for_units_that_are_coming_back_is_settled_at_once() -> None:
    story = Scenario().given(an_authorized_return(), correct_delivery(delivered_at="2026-03-06 14:00"))
    story.given(withdraw_return())

    told_steps = told(story.services, "A-1").steps
    (delivered_again,) = [step for step in told_steps if step.type == "Delivered"][1:]

    both = [(name, "line 1 in parcel P-1") for name in ("return_before", "report_before")]
    assert changes(delivered_again) == [(how, *each) for each in both for how in ("set", "settled")]
    assert changes(told_steps[-1]) == [("reopened", *each) for each in both]


def test_a_cancellation_settles_every_deadline_of_the_order() -> None:
    story = Scenario().given(an_order(), request_cancellation(order_reference="A-1"))

    assert changes(told(story.services, "A-1").steps[-1]) == [("settled", "cancel_by", "")]


def test_a_label_that_was_received_later_moves_its_deadline_from_old_to_new() -> None:
    story = Scenario().given(
        a_labelled_return(),
        run_deadlines(at="2026-03-12 09:00"),
        record_label_received(received_at="2026-03-11 09:00"),
        record_return_shipment(),
    )

    view = told(story.services, "return/R-1")
    voided, received, shipped = view.steps[3:]

    assert changes(voided) == [("passed", "void_at", "label L-1")]
    (moved,) = received.deadlines
    assert (moved.change, moved.before, moved.after, moved.clause, moved.inclusive) == (
        "moved",
        "2026-03-12T00:00:00-04:00",
        "2026-03-14T00:00:00-04:00",
        "returns.ship_by",
        False,
    )
    assert changes(shipped) == [("settled", "void_at", "label L-1")]


def test_a_return_tells_its_own_stream_and_what_ran_out_in_between() -> None:
    story = Scenario().given(
        a_labelled_return(quantity=2, units=1),
        declined(request_return(return_id="R-2", channel="phone", at="2026-03-20 09:00")),
        record_return_shipment(at="2026-03-21 09:00"),
    )

    view = told(story.services, "return/R-1")

    assert [(step.number, step.event) for step in view.steps] == [
        (number, f"return/R-1#{number}") for number in (1, 2, 3, 4)
    ]
    assert [changes(step) for step in view.steps[2:]] == [
        [("set", "void_at", "label L-1")],
        [("passed", "void_at", "label L-1")],
    ]
    assert {one.subject for one in view.reached.deadlines} == {"return/R-1"}


def test_a_refund_tells_the_facts_of_it_and_its_return_has_its_deadline() -> None:
    story = Scenario().given(
        an_inspected_return(), request_refund(), run_deadlines(at="2026-06-01 09:00"), record_refund_result()
    )

    view, of_return = told(story.services, "F-1"), told(story.services, "R-1")

    assert [step.type for step in view.steps] == ["RefundRequested", "RefundOverdue", "RefundSettled", "Refunded"]
    assert [changes(step) for step in view.steps] == [
        [("set", "overdue_at", "")],
        [("passed", "overdue_at", "")],
        [],
        [("settled", "overdue_at", "")],
    ]
    assert [(one.stream, one.status) for one in view.reached.streams] == [("refund/F-1", "refunded")]
    assert [one.subject for one in of_return.reached.deadlines] == ["return/R-1", "refund/F-1"]


def test_the_last_instant_of_an_inclusive_deadline_has_not_passed() -> None:
    story = Scenario().given(
        an_order(),
        declined(request_cancellation(order_copy=False, at="2026-03-02 12:00")),
        declined(request_cancellation(order_copy=False, at="2026-03-02 12:00:00.000001")),
    )

    assert [changes(step) for step in told(story.services, "A-1").steps[1:]] == [
        [],
        [],
        [("passed", "cancel_by", "")],
        [],
    ]


def test_a_contact_settles_the_promise_of_it() -> None:
    story = Scenario().given(
        a_delivered_order(),
        report_wrong_item(attachments=[], at="2026-03-06 09:00"),
        record_claim_contact(at="2026-03-06 10:00"),
    )

    view = told(story.services, "C-1")

    assert [changes(step) for step in view.steps] == [[("set", "contact_by", "")], [("settled", "contact_by", "")]]
    assert [(one.name, one.state) for one in view.reached.deadlines] == [("contact_by", "settled")]


def test_money_is_told_where_a_step_changes_it() -> None:
    story = Scenario().given(an_inspected_return(price="100.00"), request_refund(), record_refund_result())

    view = told(story.services, "A-1")
    money = [
        (step.type, step.money.captured, step.money.pending, step.money.refunded, step.money.remaining)
        for step in view.steps
        if step.money
    ]

    assert money == [
        ("Confirmed", "100.00", "0.00", "0.00", "100.00"),
        ("RefundRequested", "100.00", "80.00", "0.00", "20.00"),
        ("RefundSettled", "100.00", "0.00", "80.00", "20.00"),
    ]
    assert view.reached.money.remaining == "20.00"


def test_a_ruling_names_the_clauses_that_failed_or_were_set_aside() -> None:
    story = Scenario().given(
        a_delivered_order(),
        declined(request_return(channel="phone", at="2026-03-25 09:00")),
        override("returns.window", reason="She was ill."),
        request_return(return_id="R-2", at="2026-03-25 10:00"),
    )

    rulings = [(step.failed, step.overridden) for step in told(story.services, "A-1").steps if "Return" in step.type]

    assert rulings == [((), ()), (("returns.window", "returns.portal"), ()), ((), ()), ((), ("returns.window",))]


def test_until_stops_at_a_step_or_at_what_was_recorded_by_then() -> None:
    story = Scenario().given(a_labelled_return())
    noon = story.clock.instant("2026-03-09 12:00")

    by_number, by_instant = told(story.services, "A-1", 5), told(story.services, "A-1", noon)
    of_return = told(story.services, "R-1", 2)

    assert [step.event for step in by_number.steps] == [step.event for step in by_instant.steps]
    assert by_number.steps[-1].event == "return/R-1#2"
    assert (by_number.left_out, by_instant.left_out, of_return.left_out) == (1, 1, 1)
    assert by_instant.reached.at == "2026-03-09T12:00:00-04:00"
    assert [one.state for one in by_instant.reached.deadlines] == ["passed", "settled", "settled"]
    assert [(one.stream, one.status) for one in of_return.reached.streams] == [("return/R-1", "authorized")]


@pytest.mark.parametrize(
    ("subject", "until", "said"),
    [
        ("A-1", datetime(2026, 1, 1, tzinfo=UTC), "until: nothing of order/A-1 was recorded by then"),
        ("R-1", 0, "until: the first event of return/R-1 is 1"),
    ],
)
def test_an_until_that_leaves_nothing_is_an_error(subject: str, until: datetime | int, said: str) -> None:
    story = Scenario().given(an_authorized_return())

    with pytest.raises(Impossible, match=said) as error:
        told(story.services, subject, until)

    assert error.value.field == "until"


def test_a_late_scan_is_left_out_by_known_at_and_takes_its_consequences_with_it() -> None:
    story = Scenario().given(
        an_order(),
        record_shipment(shipped_at="2026-03-03 09:00", at="2026-03-04 09:00"),
        record_delivery(at="2026-03-05 09:00"),
    )
    then = story.clock.instant("2026-03-03 12:00")

    known, world = told(story.services, "A-1", known_at=then), told(story.services, "A-1", as_of=then)

    assert [step.type for step in known.steps] == ["Confirmed"]
    assert [step.type for step in world.steps] == ["Confirmed", "Shipped"]
    assert world.steps[1].occurred_at != world.steps[1].recorded_at


def test_a_fact_whose_cause_does_not_count_yet_does_not_count_either() -> None:
    story = Scenario().given(an_authorized_return(), issue_label(at="2026-03-11 11:00"))
    received = story.tell(record_label_received(received_at="2026-03-10 10:00", at="2026-03-14 10:00"))

    view = told(story.services, "R-1", as_of=story.clock.instant("2026-03-11"))

    assert received["outcome"] == "accepted"
    assert [step.type for step in view.steps] == ["ReturnRequested", "ReturnAuthorized"]
    assert view.reached.streams[0].status == "authorized"


def test_what_a_case_holds_is_worked_out_anew_after_each_step() -> None:
    story = Scenario().given(an_authorized_return())
    events, case = story.services.store.load("A-1"), Case("A-1")

    held = [sum(case.held["1"].values()) for _ in steps(case, events)]

    assert held == [0, 0, 0, 0, 1]


@given(HISTORIES)
@settings(max_examples=6)
def test_whatever_happens_the_steps_add_up(seeds: list[int]) -> None:
    world = World()
    for seed in seeds:
        world.step(seed)

    for case in world.cases:
        events = world.services.store.load(case.case_id)
        view = told(world.services, case.order.stream)
        assert [step.event for step in view.steps] == [f"{entry.stream}#{entry.version}" for entry in events]
        states: dict[str, str] = {}
        status: dict[tuple[str, str, str], tuple[str | None, bool]] = {}
        for step in view.steps:
            stream = step.event.partition("#")[0]
            assert step.before == states.get(stream)
            states[stream] = step.after
            for change in step.deadlines:
                event(change.change)
                key = (change.subject, change.name, change.of)
                assert (key in status) == (change.change != "set"), (step.event, change)
                at, is_open = status.get(key, (None, True))
                assert change.before == at
                if change.change == "passed":
                    assert is_open
                    late = datetime.fromisoformat(step.recorded_at) - datetime.fromisoformat(str(at))
                    assert late > timedelta(0) if change.clause in INCLUSIVE else late >= timedelta(0)
                if change.change in ("settled", "reopened"):
                    assert is_open == (change.change == "settled")
                    is_open = not is_open
                if change.change == "dropped":
                    del status[key]
                    continue
                status[key] = (change.after, is_open)
            if step.money is not None:
                money = step.money
                services = Decimal(money.pending) + Decimal(money.refunded) + Decimal(money.remaining)
                assert Decimal(money.captured) == services
                assert Decimal(money.remaining) >= 0 or was_contradicted(events)
        assert {key: datetime.fromisoformat(str(at)) for key, (at, _) in status.items()} == {
            key: deadline.at for key, deadline in deadlines(case).items()
        }
        assert {(one.stream, one.status) for one in view.reached.streams if "refund/" not in one.stream} == {
            *states.items()
        }


@given(HISTORIES, st.data())
@settings(max_examples=6)
def test_a_history_until_a_step_is_the_beginning_of_the_whole(seeds: list[int], data: st.DataObject) -> None:
    world = World()
    for seed in seeds:
        world.step(seed)

    for case in world.cases:
        names = [case.order.stream, *(ret.stream for ret in case.returns.values())]
        for name in names:
            whole = told(world.services, name)
            stop = data.draw(st.integers(1, len(whole.steps)))
            part = told(world.services, name, stop)
            assert part.steps == whole.steps[:stop]
            assert part.left_out == len(whole.steps) - stop
            events = world.services.store.load(case.case_id)
            last = next(e for e in events if f"{e.stream}#{e.version}" == part.steps[-1].event)
            then = fold(case.case_id, [e for e in events if e.case_seq <= last.case_seq])
            assert then.status_of(name) == part.reached.streams[0].status


def test_a_declined_label_and_a_second_one_are_steps_too() -> None:
    story = Scenario().given(a_labelled_return())
    refused = story.tell(issue_label("L-2", at="2026-03-13 09:00"))

    last = told(story.services, "R-1").steps[-1]

    assert refused["outcome"] == "declined"
    assert (last.type, last.failed) == ("LabelDeclined", ("returns.ship_by",))


def test_until_an_instant_leaves_out_what_another_clock_recorded_later() -> None:
    a_second_before = "2026-03-16T09:59:59-04:00"
    story = Scenario().given(an_inspected_return())
    slow = parse_command({"command": "request_refund", "refund_id": "F-1", "return_id": "R-1"})
    story.services.handler.handle(slow, parse_instant(a_second_before))
    subject = find_subject(story.services.store, story.services.handler.policy, "return/R-1")

    told = history(subject, parse_instant(story.now), until=parse_instant(a_second_before))

    known = story.ask("return/R-1", known_at=a_second_before)
    assert "Inspected" not in [step.type for step in told.steps]
    assert [state.status for state in told.reached.streams if state.stream == "return/R-1"] == [known["status"]]

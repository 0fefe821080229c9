"""Edges: the instants at which an answer flips by the passing of time, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from usual import a_delivered_order, a_labelled_return, an_inspected_return

from returnable.adapters.wiring import Services
from returnable.domain.calendar import A_MOMENT
from returnable.domain.case import Case
from returnable.domain.commands import parse_question
from returnable.domain.timetable import deadlines_of
from returnable.projections import edges as module
from returnable.projections.edges import Edge, answers, edges, edges_of, edges_view
from returnable.projections.subjects import find_subject
from returnable.projections.worklist import Waiting
from returnable.testing import (
    Scenario,
    a_policy,
    a_return,
    an_order,
    declined,
    issue_label,
    link_account,
    override,
    record_claim_contact,
    record_delivery,
    record_label_received,
    record_refund_result,
    record_shipment,
    report_wrong_item,
    request_cancellation,
    request_refund,
    request_return,
    void_label,
)
from returnable.testing.behaviour import World

HISTORIES = st.lists(st.integers(0, 2**32 - 1), min_size=40, max_size=70, unique=True)


def of(story: Scenario, subject: str = "order/A-1") -> tuple[Edge, ...]:
    """The edges of the usual case, or of a part of it."""
    return edges_of(find_subject(story.services.store, story.services.handler.policy, subject))


def when(text: str) -> datetime:
    """An instant in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)


def short(found: tuple[Edge, ...]) -> list[tuple[datetime, str, str]]:
    """When, about what, and what happens."""
    return [(edge.at, edge.subject, edge.what) for edge in found]


def test_an_order_that_waits_has_the_edge_of_its_cancellation_just_after_the_last_instant() -> None:
    story = Scenario().given(an_order())

    (edge,) = of(story)

    assert (edge.deadline, edge.inclusive) == (when("2026-03-02T12:00:00-05:00"), True)
    assert edge.at == edge.deadline + A_MOMENT
    assert (edge.subject, edge.clause, edge.what) == (
        "order/A-1",
        "cancellation.window",
        "the cancellation window closes",
    )
    assert (edge.before, edge.after) == ("pass", "fail")
    assert [(change.question.name, change.before, change.after) for change in edge.also] == [("allowed", "yes", "no")]


def test_the_windows_of_a_delivery_open_with_it_and_close_at_their_exclusive_ends() -> None:
    story = Scenario().given(a_delivered_order())

    found = short(of(story))
    opening = next(edge for edge in of(story) if edge.what.endswith("opens"))

    assert [(change.question.name, change.before, change.after) for change in opening.also] == [
        ("allowed", "no", "yes"),
        ("units in time", "0", "1"),
    ]
    assert found[2:] == [
        (when("2026-03-05T14:00:00-05:00"), "order/A-1", "the return window of line 1 opens"),
        (when("2026-03-05T14:00:00-05:00"), "order/A-1", "the time to report a wrong item in line 1 begins"),
        (when("2026-03-17T00:00:00-04:00"), "order/A-1", "the time to report a wrong item in line 1 ends"),
        (when("2026-03-20T00:00:00-04:00"), "order/A-1", "the return window of line 1 closes"),
    ]
    assert found[1][2] == "parcel P-1 is with the carrier: the order cannot be cancelled any more"


def delivered_in_two_parcels() -> Scenario:
    """Two units of a line, delivered a day apart."""
    return Scenario().given(
        an_order(quantity=2),
        record_shipment("P-1", 1, at="2026-03-03 09:00"),
        record_delivery("P-1", at="2026-03-05 14:00"),
        record_shipment("P-2", 1, at="2026-03-03 09:00"),
        record_delivery("P-2", at="2026-03-06 14:00"),
    )


def test_each_parcel_of_a_line_has_its_own_end_where_one_unit_can_still_be_returned() -> None:
    story = delivered_in_two_parcels()

    closing = [edge for edge in of(story) if edge.clause == "returns.window" and edge.what.endswith("closes")]

    assert [(edge.at, edge.what, edge.before, edge.after) for edge in closing] == [
        (when("2026-03-20T00:00:00-04:00"), "the return window of line 1 in parcel P-1 closes", "2", "1"),
        (when("2026-03-21T00:00:00-04:00"), "the return window of line 1 closes", "pass", "fail"),
    ]
    assert ("units in time", "1", "0") in [(c.question.name, c.before, c.after) for c in closing[1].also]


def test_a_label_voids_and_a_parcel_handed_over_from_then_on_is_late() -> None:
    story = Scenario().given(a_labelled_return())

    (edge,) = of(story, "return/R-1")

    assert (edge.at, edge.deadline, edge.inclusive) == (
        when("2026-03-12T00:00:00-04:00"),
        when("2026-03-12T00:00:00-04:00"),
        False,
    )
    assert (edge.what, edge.before, edge.after) == ("label L-1 voids by itself", "issued", "void")
    assert [(change.question.name, change.after) for change in edge.also] == [
        ("a parcel handed over then", "late"),
        ("worklist void_label", "not there"),
    ]


def test_a_label_voided_by_hand_still_ends_the_time_to_hand_the_parcel_over() -> None:
    story = Scenario().given(a_labelled_return(), void_label())

    (edge,) = of(story, "return/R-1")

    assert (edge.at, edge.what) == (when("2026-03-12T00:00:00-04:00"), "the time to hand the parcel over ends")


def test_the_receipt_of_a_label_is_an_edge_and_moves_the_other_one() -> None:
    story = Scenario().given(a_labelled_return(), record_label_received(at="2026-03-10 09:00"))

    assert short(of(story, "return/R-1")) == [
        (when("2026-03-10T09:00:00-04:00"), "return/R-1", "label L-1 is with the customer"),
        (when("2026-03-13T00:00:00-04:00"), "return/R-1", "label L-1 voids by itself"),
    ]


def test_a_label_that_was_used_has_no_edge_any_more() -> None:
    story = Scenario().given(an_inspected_return())

    assert of(story, "return/R-1") == ()


def test_the_promise_of_contact_becomes_overdue_just_after_its_last_instant() -> None:
    story = Scenario().given(a_delivered_order(), report_wrong_item(attachments=[], at="2026-03-06 09:00"))

    (edge,) = of(story, "claim/C-1")

    assert (edge.deadline, edge.at - edge.deadline) == (when("2026-03-07T09:00:00-05:00"), A_MOMENT)
    assert (edge.clause, edge.what) == ("wrong_item.contact", "the promised contact is overdue")
    assert [(change.question.name, change.before, change.after) for change in edge.also] == [
        ("missed", "no", "yes"),
        ("worklist contact_customer", "waits", "overdue"),
    ]


def test_a_contact_made_too_late_was_missed_all_the_same() -> None:
    story = Scenario().given(
        a_delivered_order(),
        report_wrong_item(attachments=[], at="2026-03-06 09:00"),
        record_claim_contact(at="2026-03-08 10:00"),
    )

    (edge,) = of(story, "claim/C-1")

    assert (edge.what, edge.before, edge.after) == ("the promised contact is missed", "no", "yes")


def test_a_refund_becomes_overdue_until_it_is_settled_and_its_return_has_that_edge() -> None:
    story = Scenario().given(an_inspected_return(), request_refund())

    (edge,) = of(story, "return/R-1")
    same = of(story, "refund/F-1")
    story.given(record_refund_result())

    assert same == (edge,)
    assert (edge.subject, edge.what) == ("refund/F-1", "the refund is overdue")
    assert edge.at == when("2026-04-07T00:00:00-04:00")
    assert [(change.question.name, change.before, change.after) for change in edge.also] == [
        ("worklist refund_overdue", "not there", "overdue")
    ]
    assert of(story, "refund/F-1") == ()


def test_an_override_changes_the_verdict_and_not_what_is_allowed() -> None:
    story = Scenario().given(a_delivered_order(), override("returns.window", reason="She was ill."))

    last = of(story)[-1]

    assert (last.what, last.before, last.after) == (
        "the return window of line 1 closes (set aside by an override)",
        "pass",
        "overridden",
    )
    assert [change.question.name for change in last.also] == ["units in time"]


def test_an_account_that_was_linked_later_is_an_edge_of_every_line() -> None:
    story = Scenario().given(
        a_delivered_order(account_id=None), link_account(account_id="acc-7", at="2026-03-06 10:00")
    )

    (edge,) = [edge for edge in of(story) if edge.clause == "returns.account"]

    assert (edge.at, edge.what) == (
        when("2026-03-06T10:00:00-05:00"),
        "the customer has the account that the return of line 1 needs",
    )


def test_a_first_mail_that_was_in_time_leaves_the_cancellation_open() -> None:
    story = Scenario().given(an_order(), declined(request_cancellation(order_copy=False, at="2026-03-02 11:00")))

    assert of(story) == ()


def test_a_window_of_no_days_closes_and_opens_in_the_order_of_time() -> None:
    story = Scenario(policy=a_policy({"returns.window": {"days": 0}})).given(
        a_delivered_order(), request_return(at="2026-03-05 15:00"), issue_label(at="2026-03-05 16:00")
    )

    found = of(story)

    assert [edge.at for edge in found] == sorted(edge.at for edge in found)
    assert "the return window of line 1 closes" in [
        edge.what for edge in found if edge.at == when("2026-03-06T00:00:00-05:00")
    ]


def test_what_is_shown_looks_from_the_clock_and_may_leave_out_what_is_past() -> None:
    story = Scenario().given(a_labelled_return())
    subject = find_subject(story.services.store, story.services.handler.policy, "A-1")
    clock = when("2026-03-10T00:00:00-04:00")

    every, to_come = edges_view(subject, clock), edges_view(subject, clock, to_come=True)

    assert [edge.to_come for edge in every.edges] == [False] * 4 + [True] * 3
    assert [(edge.deadline, edge.distance) for edge in to_come.edges] == [
        ("2026-03-12T00:00:00-04:00", "in 2 days"),
        ("2026-03-17T00:00:00-04:00", "in 7 days"),
        ("2026-03-20T00:00:00-04:00", "in 10 days"),
    ]
    assert every.edges[0].at == "2026-03-02T12:00:00.000001-05:00"
    assert every.edges[0].distance == "7 days 11 h ago"


def test_as_of_leaves_out_what_had_not_happened() -> None:
    story = Scenario().given(a_delivered_order())
    early = find_subject(
        story.services.store, story.services.handler.policy, "A-1", as_of=when("2026-03-02T11:00:00-05:00")
    )

    assert [edge.what for edge in edges(early.case, early.policy)] == ["the cancellation window closes"]


def test_units_that_are_on_their_way_back_have_no_window_of_their_own() -> None:
    story = Scenario().given(a_delivered_order(quantity=2), a_return(requested="2026-03-06 09:00", inspected=True))

    (closing,) = [edge for edge in of(story) if edge.what == "the return window of line 1 closes"]

    assert ("units in time", "1", "0") in [(c.question.name, c.before, c.after) for c in closing.also]


def test_each_label_keeps_the_edge_of_its_own_task() -> None:
    story = Scenario().given(a_labelled_return(), override("returns.ship_by", "return/R-1", at="2026-03-12 09:00"))
    story.given(issue_label("L-2"))

    found = [edge for edge in of(story, "return/R-1") if edge.what.endswith("voids by itself")]

    assert [
        (edge.what, [c.question.name for c in edge.also if c.question.name.startswith("worklist")]) for edge in found
    ] == [
        ("label L-1 voids by itself", ["worklist void_label"]),
        ("label L-2 voids by itself", ["worklist void_label"]),
    ]


def test_tasks_of_one_kind_on_two_parts_of_a_subject_have_an_edge_each_in_the_words_of_the_deadline() -> None:
    story = delivered_in_two_parcels()
    subject = find_subject(story.services.store, story.services.handler.policy, "A-1")
    windows = [each for each in deadlines_of(subject.case) if each.clause == "returns.window"]
    tasks = [
        Waiting("exception", "order", "A-1", "UTC", each.at, None, None, each.at, deadline=each) for each in windows
    ]

    with patch.object(module, "waiting_in", lambda case, policy: tasks):
        found = [edge for edge in edges_of(subject) if edge.after == "overdue"]

    assert short(tuple(found)) == [
        (when("2026-03-20T00:00:00-04:00"), "order/A-1", "Return window of parcel P-1 closes"),
        (when("2026-03-21T00:00:00-04:00"), "order/A-1", "Return window of parcel P-2 closes"),
    ]


# ---- whatever happens -----------------------------------------------------------------------------------------------


def shown(services: Services, case: Case, at: datetime) -> Any:
    """What the questions answer about a case at a clock, without what runs on with every instant: an answer of its own."""

    def ask(**fields: Any) -> Any:
        return services.questions.answer(parse_question(fields), at).model_dump(by_alias=True)

    def ruling(part: Any) -> Any:
        verdicts = [(clause["clause"], clause["verdict"]) for clause in part["clauses"]]
        return part["allowed"], verdicts, part["error"] and part["error"]["code"]

    eligible = ask(query="eligibility", order_id=case.case_id)
    ours = {("order", case.case_id)}
    ours |= {(kind, name) for kind in ("return", "claim", "refund") for name in getattr(case, f"{kind}s")}
    work = [item for item in ask(query="worklist")["items"] if (item["subject"]["kind"], item["subject"]["id"]) in ours]
    return (
        ruling(eligible["cancellation"]),
        [(ruling(line["return"]), ruling(line["wrong_item"])) for line in eligible["lines"]],
        ask(query="order", order_id=case.case_id),
        [ask(query="return", return_id=name) for name in case.returns],
        [ask(query="claim", claim_id=name) for name in case.claims],
        [ask(query="refund", refund_id=name) for name in case.refunds],
        work,
    )


def instants_in(value: object) -> Iterator[datetime]:
    """Every instant in the facts, however deep."""
    if isinstance(value, datetime):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from instants_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from instants_in(inner)


@given(HISTORIES, st.integers(0, 2**32 - 1))
@settings(max_examples=4)
def test_answers_differ_across_every_edge_and_are_constant_between_them(seeds: list[int], seed: int) -> None:
    world, dice = World(), Random(seed)
    for step in seeds:
        world.step(step)

    for case in world.cases:
        policy = world.services.handler.policy_of(case)
        found = edges(case, policy)
        turning = sorted({edge.at for edge in found})
        for edge in found:
            event(edge.clause)
            before, after = answers(case, policy, edge.at - A_MOMENT), answers(case, policy, edge.at)
            assert before != after
            assert edge.deadline == (edge.at - A_MOMENT if edge.inclusive else edge.at)
            assert all(before[c.question] == c.before and after[c.question] == c.after for c in edge.also)
        known = {
            at for entry in world.services.store.load(case.case_id) for at in instants_in(entry.event.model_dump())
        }
        probes = {at + by * A_MOMENT for at in known for by in (-1, 0, 1)}
        first, last = min(known), max(known)
        probes |= {first + (last - first) * dice.random() for _ in range(20)}
        probes |= {first - timedelta(days=400), last + timedelta(days=4000)}
        probes |= {at - A_MOMENT for at in turning} | {*turning}
        constant: dict[int, Any] = {}
        for at in sorted(probes):
            between = sum(edge <= at for edge in turning)
            now = answers(case, policy, at)
            assert constant.setdefault(between, now) == now, at


@given(HISTORIES)
@settings(max_examples=2)
def test_no_question_answers_otherwise_between_two_edges(seeds: list[int]) -> None:
    world = World()
    for step in seeds:
        world.step(step)

    for case in world.cases:
        turning = sorted({edge.at for edge in edges(case, world.services.handler.policy_of(case))})
        known = {
            at for entry in world.services.store.load(case.case_id) for at in instants_in(entry.event.model_dump())
        }
        probes = {at + by * A_MOMENT for at in known for by in (-1, 0, 1)} | {*turning}
        constant: dict[int, Any] = {}
        for at in sorted(probes):
            between = sum(edge <= at for edge in turning)
            now = shown(world.services, case, at)
            assert constant.setdefault(between, now) == now, at


@pytest.mark.parametrize("subject", ["order/A-1", "return/R-1", "claim/C-1"])
def test_the_edges_of_a_part_are_those_of_the_whole_that_concern_it(subject: str) -> None:
    story = Scenario().given(
        a_labelled_return(quantity=2, units=1), report_wrong_item(attachments=[], at="2026-03-09 13:00")
    )

    part, whole = of(story, subject), of(story)

    assert set(part) == {edge for edge in whole if subject in ("order/A-1", edge.subject)}
    assert part

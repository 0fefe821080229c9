"""What a candidate policy would have decided, told from history, with nothing appended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from usual import a_delivered_order, a_labelled_return, an_authorized_return, an_inspected_return

from returnable.adapters.wiring import policy_book
from returnable.domain.policy import PolicyBook, bundled_policies
from returnable.projections.subjects import find_subject
from returnable.projections.what_if import DryRun, Flip, WhatIf, candidates_of, keep_clauses
from returnable.testing import (
    Scenario,
    a_policy,
    an_order,
    declined,
    finding,
    inspect_return,
    notify_customer,
    override,
    receive_return,
    record_refund_result,
    record_return_shipment,
    report_wrong_item,
    request_cancellation,
    request_refund,
    request_return,
    resolve_claim,
)
from returnable.testing.behaviour import World

THREE_DAYS = policy_book(a_policy({"returns.window": {"days": 3}}))
HALF_AN_HOUR = policy_book(a_policy({"cancellation.window": {"hours": 0}}))
FEE_OF_50 = policy_book(a_policy({"returns.label_fee": {"fee": "50.00"}}))
NO_CONDITION, NO_SHIP_BY = (
    policy_book(a_policy({clause: {"applies": False}})) for clause in ("returns.condition", "returns.ship_by")
)


def tried(story: Scenario, book: PolicyBook, *kept: str) -> tuple[WhatIf, list[Flip]]:
    """The whole store told again under a candidate."""
    trial = DryRun(candidates_of(book), story.services.handler.policy, kept)
    flips = [flip for _, of_case in trial.run(story.services.store) for flip in of_case]
    return trial.result(), flips


def of_command(result: WhatIf, command: str) -> Mapping[str, Any]:
    """The counts of one kind of command."""
    (found,) = [row for row in result.commands if row.command == command]
    return found.model_dump()


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=60))
def test_under_the_policy_it_was_decided_by_no_decision_of_any_history_flips(seeds: list[int]) -> None:
    world = World()
    for seed in seeds:
        world.step(seed)
    head = world.services.store.head()
    trial = DryRun(candidates_of(bundled_policies()), world.services.handler.policy)

    flips = [flip for _, of_case in trial.run(world.services.store) for flip in of_case]
    result = trial.result()

    assert (flips, result.flipped, result.clauses, result.unreadable) == ([], 0, (), ())
    assert all(row.recorded_amount == row.candidate_amount for row in result.refunds)
    assert world.services.store.head() == head


@given(
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=60),
    st.sampled_from([THREE_DAYS, HALF_AN_HOUR, FEE_OF_50, NO_CONDITION, NO_SHIP_BY]),
)
def test_any_history_can_be_told_under_any_candidate_and_is_counted_once(seeds: list[int], book: PolicyBook) -> None:
    world = World()
    for seed in seeds:
        world.step(seed)
    head = world.services.store.head()
    trial = DryRun(candidates_of(book), world.services.handler.policy)

    flips = [flip for _, of_case in trial.run(world.services.store) for flip in of_case]
    result = trial.result()

    changed = sum(
        row.accepted_to_declined + row.declined_to_accepted + row.no_longer_possible for row in result.commands
    )
    assert sum(row.same for row in result.commands) + changed == result.decisions
    assert changed == result.flipped == sum(flip.recorded != flip.candidate for flip in flips)
    assert result.unreadable == ()
    assert world.services.store.head() == head


def test_a_shorter_window_refuses_a_return_and_all_decisions_that_came_of_it() -> None:
    story = Scenario().given(an_inspected_return(), request_refund())

    result, flips = tried(story, THREE_DAYS)

    (clause,) = result.clauses
    assert (clause.clause, clause.refuses, clause.allows) == ("returns.window", 1, 0)
    assert clause.refuses_amounts[0].amount == "750.00"
    assert [(flip.command, flip.candidate, flip.consequence) for flip in flips] == [
        ("request_return", "declined", False),
        ("issue_label", "not_possible", True),
        ("request_refund", "not_possible", True),
    ]
    (refunds,) = result.refunds
    assert (refunds.recorded_amount, refunds.candidate_amount, refunds.difference) == ("750.00", "0.00", "-750.00")


def test_a_longer_window_grants_what_was_refused_and_says_why() -> None:
    story = Scenario().given(a_delivered_order(), declined(request_return(at="2026-03-24 12:00")))

    result, flips = tried(story, bundled_policies("allu-usa-earlier"), "returns.portal")

    (flip,) = flips
    assert (flip.event, flip.recorded, flip.candidate, flip.amount) == (
        "return/R-1#2",
        "declined",
        "accepted",
        "750.00",
    )
    (change,) = flip.clauses
    assert (change.clause, change.recorded, change.candidate) == ("returns.window", "fail", "pass")
    assert "could be returned before Thu 2026-03-26 00:00 EDT" in change.because
    assert (result.kept, result.candidates[0].version) == (("returns.portal",), "earlier")


def test_the_earlier_wording_counts_business_days_and_wants_an_email() -> None:
    story = Scenario().given(an_authorized_return())

    result, _ = tried(story, bundled_policies("allu-usa-earlier"))

    assert [(row.clause, row.refuses) for row in result.clauses] == [("returns.portal", 1)]
    assert of_command(result, "request_return")["accepted_to_declined"] == 1


def test_another_fee_changes_the_amount_and_flips_nothing() -> None:
    story = Scenario().given(an_inspected_return(price="400.00"), request_refund())

    result, flips = tried(story, FEE_OF_50)

    (flip,) = flips
    assert (result.flipped, flip.recorded, flip.candidate) == (0, "accepted", "accepted")
    assert (flip.amount, flip.candidate_amount) == ("380.00", "350.00")
    assert (result.refunds[0].amount_changed, result.refunds[0].difference) == (1, "-30.00")


def test_a_cancellation_in_time_on_record_may_be_too_late_for_the_candidate() -> None:
    story = Scenario().given(
        an_order(),
        request_cancellation(order_reference="A-1", at="2026-03-02 11:00"),
        request_refund(order_id="A-1"),
        record_refund_result(),
    )

    result, _ = tried(story, HALF_AN_HOUR)

    assert [(row.clause, row.refuses, row.refuses_amounts[0].amount) for row in result.clauses] == [
        ("cancellation.window", 1, "750.00")
    ]
    assert of_command(result, "request_refund")["no_longer_possible"] == 1
    assert result.refunds[0].difference == "-750.00"


def test_units_rejected_on_record_may_be_accepted_by_the_candidate() -> None:
    findings = [finding(), finding(tags_attached=False)]
    story = Scenario().given(
        a_labelled_return(quantity=2, units=2),
        record_return_shipment(),
        receive_return(),
        inspect_return(findings=findings),
        request_refund(),
    )

    result, flips = tried(
        story, policy_book(a_policy({"returns.condition": {"requires": ["same_condition", "original_packaging"]}}))
    )

    assert [(row.clause, row.allows, row.allows_amounts[0].amount) for row in result.clauses] == [
        ("returns.condition", 1, "750.00")
    ]
    assert [(flip.amount, flip.candidate_amount) for flip in flips if flip.command == "request_refund"] == [
        ("750.00", "1500.00")
    ]


def test_a_claim_reported_too_late_for_the_candidate_takes_its_settlement_with_it() -> None:
    story = Scenario().given(
        a_delivered_order(),
        report_wrong_item(at="2026-03-12 12:00", attachments=[]),
        override("wrong_item.evidence", "claim/C-1", reason="x"),
        resolve_claim(),
        request_refund(claim_id="C-1"),
    )

    result, flips = tried(story, policy_book(a_policy({"wrong_item.window": {"business_days": 2}})))

    assert [(flip.command, flip.candidate) for flip in flips] == [
        ("report_wrong_item", "declined"),
        ("resolve_claim", "not_possible"),
        ("request_refund", "not_possible"),
    ]
    assert (result.refunds[0].candidate, flips[1].amount) == (0, "750.00")


def test_a_single_version_judges_orders_older_than_itself_and_several_judge_by_date() -> None:
    old = a_policy(effective="2026-03-03")
    new = a_policy(effective="2026-03-02", version="other")
    story = Scenario().given(an_order())
    at = story.services.store.load("A-1")[0].event.occurred_at

    one, of_several = candidates_of(PolicyBook([old])), candidates_of(PolicyBook([old, new]))

    assert (one(at), of_several(at)) == (old, new)


def test_kept_clauses_are_as_pinned_and_the_others_are_the_candidates() -> None:
    pinned, candidate = bundled_policies().versions[0], bundled_policies("allu-usa-earlier").versions[0]

    mixed = keep_clauses(candidate, pinned, ["returns.portal"])

    assert mixed.clauses.returns_portal == pinned.clauses.returns_portal
    assert mixed.clauses.returns_window == candidate.clauses.returns_window
    assert keep_clauses(candidate, pinned, []) is candidate


def test_what_cannot_be_told_again_is_named_and_the_rest_is_counted() -> None:
    story = Scenario().given(an_authorized_return())
    trial = DryRun(candidates_of(THREE_DAYS), story.services.handler.policy)
    events = story.services.store.load("A-1")

    trial.add("A-1", [entry for entry in events if entry.event.type != "ReturnRequested"])

    assert trial.result().unreadable == ("A-1: return/R-1#2: ReturnAuthorized stands alone; no command records it so",)


@pytest.mark.parametrize("subject", ["order", "return"])
def test_an_override_on_record_holds_under_the_candidate_too(subject: str) -> None:
    story = Scenario().given(a_delivered_order(), override("returns.window"), request_return(at="2026-03-12 12:00"))
    if subject == "return":
        story.given(notify_customer("return/R-1", notice="It is granted."))

    result, flips = tried(story, THREE_DAYS)

    assert (result.flipped, flips) == (0, [])


def test_of_a_return_only_its_own_decisions_are_counted() -> None:
    story = Scenario().given(
        an_inspected_return(quantity=2, units=1), declined(request_return(return_id="R-2", channel="phone"))
    )
    policy = story.services.handler.policy
    counted = {}

    for subject in ("return/R-1", "return/R-2", "order/A-1"):
        trial = DryRun(candidates_of(THREE_DAYS), policy)
        list(trial.run(story.services.store, find_subject(story.services.store, policy, subject)))
        counted[subject] = (trial.result().decisions, trial.result().flipped)

    assert counted == {"return/R-1": (4, 2), "return/R-2": (1, 0), "order/A-1": (5, 2)}

"""Every verdict has a reason in plain English, whatever happened."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from returnable.domain.calendar import zone
from returnable.domain.commands import parse_question
from returnable.domain.deciding import Weighing
from returnable.domain.events import RefundRequested
from returnable.domain.outcome import Outcome
from returnable.domain.policy import CLAUSE_IDS
from returnable.domain.reasons import _REASONS, because, deduction_because, is_instant, localised
from returnable.domain.ruling import ClauseResult, margin_seconds
from returnable.domain.wording import duration_in_words
from returnable.testing import a_policy
from returnable.testing.behaviour import World

NEW_YORK, KOLKATA = zone("America/New_York"), zone("Asia/Kolkata")


def test_every_clause_that_is_ever_weighed_has_a_reason() -> None:
    # Risk in transit is a rule for people: no decision weighs it.
    assert {*_REASONS, "returns.transit_risk"} == set(CLAUSE_IDS)


@settings(max_examples=settings().max_examples // 4)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=30, max_size=70))
def test_every_finding_of_every_ruling_has_a_reason(seeds: list[int]) -> None:
    world = World()
    for seed in seeds:
        _, _, came = world.step(seed)
        if not isinstance(came, Outcome):
            continue
        for finding in came.findings or ():
            text = because(finding, NEW_YORK)
            assert text == text.strip()
            assert text.endswith(".")
            assert "None" not in text
            assert "{" not in text
            assert len(text) < 1000
            assert because(finding, KOLKATA)
        for _, _, event in came.recorded_events:
            if isinstance(event, RefundRequested):
                for deduction in event.deductions:
                    assert deduction_because(deduction.clause, deduction.grounds).endswith(".")


def test_a_ruling_reads_the_same_after_it_was_stored() -> None:
    world, dice = World(), Random(7)
    told: list[str] = []
    for _ in range(60):
        _, _, came = world.step(dice.getrandbits(32))
        if isinstance(came, Outcome) and came.recorded_events:
            told += [
                because(finding, NEW_YORK)
                for _, _, f in came.recorded_events
                for finding in getattr(f, "ruling", None) or ()
            ]

    stored = [entry.event for entry in world.log()]

    assert told == [because(finding, NEW_YORK) for event in stored for finding in getattr(event, "ruling", None) or ()]
    assert len(told) > 20


def test_an_override_is_cited_and_not_hidden() -> None:
    events = {
        "channel": "phone",
        "channels": ["portal"],
        "override": {
            "approved_by": "Ann",
            "reason": "The portal was down",
            "granted_at": "2026-03-09T16:00:00Z",
            "fact": "order/A-1#4",
        },
    }

    text = because(ClauseResult(clause="returns.portal", verdict="overridden", facts=events), NEW_YORK)

    assert text == (
        "Set aside by Ann at Mon 2026-03-09 12:00 EDT: The portal was down. "
        "Otherwise: It came by phone; it must come by portal."
    )


# ---- what nobody asked for yet -----------------------------------------------------------------------------------------

OF_A_REQUEST = (
    r"arrived|\bcame by|asked for\.|Requested at|Reported at|is owed|All the evidence is there|A refund is asked"
)
"""How a reason speaks of a request that was made."""


@settings(max_examples=settings().max_examples // 4)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=10, max_size=40))
def test_an_eligibility_answer_never_speaks_of_a_request_as_made(seeds: list[int]) -> None:
    world = World()
    for seed in seeds:
        world.step(seed)
    for order_id in world.order_ids:
        question = parse_question({"query": "eligibility", "order_id": order_id})
        view = world.services.questions.answer(question, world.at).model_dump(by_alias=True)
        rulings = [view["cancellation"], *(line[name] for line in view["lines"] for name in ("return", "wrong_item"))]

        for clause in (clause for ruling in rulings for clause in ruling["clauses"]):
            assert not re.search(OF_A_REQUEST, clause["because"]), clause["because"]
            assert clause["because"].endswith(".")


@settings(max_examples=settings().max_examples // 4)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=30, max_size=60))
def test_every_clause_can_speak_in_the_conditional(seeds: list[int]) -> None:
    world = World()
    for seed in seeds:
        _, _, came = world.step(seed)
        for finding in (came.findings or ()) if isinstance(came, Outcome) else ():
            text = because(finding, NEW_YORK, asked=False)
            assert text.endswith(".")
            assert "None" not in text
            if finding.clause.startswith(("wrong_item.contact", "wrong_item.evidence", "cancellation.notice")):
                assert "would" in text or text == "The policy has no such rule."


def test_what_rests_on_the_request_is_in_the_conditional() -> None:
    evidence = {"requires": ["order_confirmation", "item_picture"], "given": [], "missing": []}
    finding = ClauseResult(clause="wrong_item.evidence", verdict="pass", facts=evidence)

    assert because(finding, NEW_YORK) == "All the evidence is there."
    assert (
        because(finding, NEW_YORK, asked=False) == "The claim would have to show: order confirmation and item picture."
    )


@pytest.mark.parametrize(
    ("marked", "text"),
    [
        ([], "Lines a-1 and B-2 were not marked as final sale when the order was confirmed."),
        (["B-2"], "Line B-2 was bought as final sale."),
        (["a-1", "B-2"], "Lines a-1 and B-2 were bought as final sale."),
    ],
)
def test_one_line_was_and_two_lines_were(marked: list[str], text: str) -> None:
    grounds = {"lines": ["a-1", "B-2"], "final_sale": marked}

    assert because(ClauseResult(clause="returns.final_sale", verdict="pass", facts=grounds), NEW_YORK) == text


# ---- words for all of them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (1, "1 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3600, "1 h"),
        (3661, "1 h 1 min 1 s"),
        (86400, "1 day"),
        (172800, "2 days"),
        (-90061, "1 day 1 h 1 min 1 s"),
        (0.25, "0.25 s"),
        (90.5, "1 min 30 s"),
        (0.000001, "0.000001 s"),
    ],
)
def test_a_length_of_time_for_people(seconds: float, text: str) -> None:
    assert duration_in_words(seconds) == text


@given(st.integers(0, 10**15))
def test_a_length_of_time_reads_like_a_clock(microseconds: int) -> None:
    text = duration_in_words(microseconds / 10**6)

    assert re.fullmatch(r"(\d+ days? ?)?(\d\d? h ?)?(\d\d? min ?)?(\d\d?(\.\d+)? s)?", text), text
    assert "60 s" not in text


@given(st.integers(-(10**14), 10**14))
def test_a_margin_is_whole_seconds_where_it_can_be(microseconds: int) -> None:
    now = datetime(2026, 3, 2, tzinfo=UTC)

    margin = margin_seconds(now + timedelta(microseconds=microseconds), now)

    assert round(margin * 10**6) == microseconds
    assert isinstance(margin, int) == (microseconds % 10**6 == 0)


def test_instants_are_shown_in_the_zone_of_the_policy_at_any_depth() -> None:
    events = {
        "deadline": "2026-03-20T04:00:00Z",
        "approved_by": "2026-03-20T04:00:00Z",
        "proven_by": "arrival",
        "lines": [{"return_before": "2026-07-20T04:00:00Z", "line_id": "1"}],
        "override": {"granted_at": "2026-01-01T00:00:00.5Z"},
        "sent_at": None,
        "paid": 3,
    }

    assert localised(events, NEW_YORK) == {
        "deadline": "2026-03-20T00:00:00-04:00",
        "approved_by": "2026-03-20T04:00:00Z",
        "proven_by": "arrival",
        "lines": [{"return_before": "2026-07-20T00:00:00-04:00", "line_id": "1"}],
        "override": {"granted_at": "2025-12-31T19:00:00.500000-05:00"},
        "sent_at": None,
        "paid": 3,
    }


@pytest.mark.parametrize(
    ("key", "instant"),
    [("requested_at", True), ("contact_by", True), ("void_at", True), ("return_before", True), ("deadline", True),
     ("approved_by", False), ("proven_by", False), ("expected_from", False), ("margin_seconds", False)],
)  # fmt: skip
def test_which_facts_are_instants(key: str, instant: bool) -> None:
    assert is_instant(key) == instant


def test_the_second_is_shown_only_where_it_matters() -> None:
    def said(requested_at: str) -> str:
        events = {
            "confirmed_at": "2026-03-02T15:00:00Z",
            "requested_at": requested_at,
            "deadline": "2026-03-02T17:00:00Z",
            "margin_seconds": 1,
        }
        return because(ClauseResult(clause="cancellation.window", verdict="pass", facts=events), NEW_YORK)

    assert "arrived at Mon 2026-03-02 11:00 EST;" in said("2026-03-02T16:00:00Z")
    assert "arrived at Mon 2026-03-02 11:00:07 EST;" in said("2026-03-02T16:00:07Z")


def test_weighing_says_not_applicable_where_the_merchant_has_no_such_clause() -> None:
    policy = a_policy({"returns.portal": {"applies": False}})
    weighing = Weighing(policy)

    assert weighing.weigh("returns.portal", False, {}) == "not_applicable"
    assert weighing.allowed

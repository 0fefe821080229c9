"""Edges as tests: one tick before, at, and after every instant at which an answer flips; and days on which calendars turn."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from returnable.domain.policy import bundled_policies
from returnable.facade import Desk
from returnable.testing import (
    FrozenClock,
    Moment,
    a_policy,
    a_return,
    an_order,
    declined,
    edges,
    given,
    issue_label,
    record_delivery,
    record_return_shipment,
    request_cancellation,
    request_return,
    turning_days,
)
from returnable.testing.instants import ONE_TICK
from returnable.testing.steps import flat

DAYS = turning_days(2026, 2028)
LABELLED = (an_order(delivered="2026-03-05 14:00"), a_return(labelled="2026-03-09 12:30"))


# ---- the decorator, as a host uses it --------------------------------------------------------------------------------


@edges(*LABELLED, subject="return/R-1")
def test_a_label_is_issued_before_its_edge_and_void_from_it_on(desk: Desk, moment: Moment) -> None:
    (label,) = desk.return_(return_id="R-1").labels

    assert moment.edge.clause == "returns.ship_by"
    assert label.status == moment.answer


@edges(*LABELLED, subject="return/R-1")
def test_a_parcel_handed_over_around_the_edge_is_late_from_it_on(desk: Desk, moment: Moment) -> None:
    desk.record_return_shipment(return_id="R-1", label_id="L-1")

    received = desk.receive_return(return_id="R-1")

    assert received.accepted == (not moment.flipped)


@edges(*LABELLED)
def test_the_clock_stands_at_the_moment_and_the_desk_knows_what_was_told_by_then(
    desk: Desk, clock: FrozenClock, moment: Moment
) -> None:
    told = [entry.event.recorded_at for entry in desk.services.store.read()]

    assert datetime.now(UTC) == clock.now == moment.at
    assert moment.at - moment.edge.at == {"before": -ONE_TICK, "at": timedelta(), "after": ONE_TICK}[moment.side]
    assert max(told) <= moment.at
    assert str(moment).startswith(moment.side)


@edges(lambda day: an_order(delivered=day), on={"Thanksgiving": date(2026, 11, 26), "leap day": date(2028, 2, 29)})
def test_what_the_desk_offers_is_what_it_does(desk: Desk, moment: Moment) -> None:
    (line,) = desk.eligibility(order_id="A-1").lines

    outcome = desk.handle(request_return().fields)

    assert outcome.accepted == line.return_.allowed


def outcomes_around(pytester: pytest.Pytester, code: str) -> pytest.RunResult:
    pytester.makepyfile(
        "from datetime import date\nfrom returnable.testing import an_order, edges, turning_days\n" + code
    )
    return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:cov", "-v")


def test_every_moment_is_a_test_with_a_name_that_says_which(pytester: pytest.Pytester) -> None:
    result = outcomes_around(
        pytester,
        "@edges(lambda day: an_order(confirmed=day), on=[date(2026, 3, 7), date(2026, 3, 8)])\n"
        "def test_it(desk): assert desk.eligibility(order_id='A-1').cancellation.allowed\n",
    )

    result.assert_outcomes(passed=2, failed=4)
    result.stdout.fnmatch_lines(
        [
            "*test_it?2026-03-07: before the cancellation window closes? PASSED*",
            "*test_it?2026-03-07: at the cancellation window closes? FAILED*",
            "*test_it?2026-03-08: after the cancellation window closes? FAILED*",
        ]
    )


def test_edges_of_the_same_name_are_told_apart(pytester: pytest.Pytester) -> None:
    result = outcomes_around(
        pytester,
        "@edges(an_order('A-1'), an_order('A-2', confirmed='2026-03-02 11:00'))\ndef test_it(desk): pass\n",
    )

    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["*before the cancellation window closes (2)? PASSED*"])


def test_a_history_that_never_changes_is_refused(pytester: pytest.Pytester) -> None:
    result = outcomes_around(pytester, "@edges()\ndef test_it(desk): pass\n")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["@edges of test_it: nothing about this history changes by the passing of time"])


def test_a_history_that_does_not_happen_is_refused_with_what_did(pytester: pytest.Pytester) -> None:
    code = "from returnable.testing import a_return\n@edges(an_order(), a_return())\ndef test_it(desk): pass\n"

    result = outcomes_around(pytester, code)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["@edges of test_it: given: request_return was to be accepted", "*returns.window*"])


def test_without_parentheses_nothing_is_lost_in_silence(pytester: pytest.Pytester) -> None:
    result = outcomes_around(pytester, "@edges\ndef test_it(desk): pass\n")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*TypeError: @edges takes a history: @edges(an_order(…))*"])


def test_a_method_of_a_unittest_cannot_be_run_around_edges_and_says_so(pytester: pytest.Pytester) -> None:
    result = outcomes_around(
        pytester,
        "import unittest\nclass Test(unittest.TestCase):\n    @edges(an_order())\n    def test_it(self): pass\n",
    )

    assert result.ret != 0
    result.stderr.fnmatch_lines(["*is a method of a unittest.TestCase, which cannot run around edges*"])


def test_two_histories_are_both_walked_around(pytester: pytest.Pytester) -> None:
    result = outcomes_around(
        pytester, "@edges(an_order())\n@edges(an_order('B-1', confirmed='2026-04-01'))\ndef test_it(desk): pass\n"
    )

    result.assert_outcomes(passed=6)


def test_edges_of_another_policy_than_the_desks_are_refused(pytester: pytest.Pytester) -> None:
    code = """
import pytest
from returnable.testing import a_policy

MONTH = a_policy({"returns.window": {"days": 30}})

@pytest.fixture
def returnable_policy():
    return MONTH

@edges(an_order(delivered="2026-03-05"), subject="order/A-1")
def test_forgotten(desk): pass

@edges(an_order(delivered="2026-03-05"), policy=MONTH)
def test_said(desk, moment):
    if moment.edge.clause == "returns.window" and moment.side == "at" and "closes" in str(moment):
        assert str(moment.at.date()) == "2026-04-05"
"""

    result = outcomes_around(pytester, code)

    outcomes = result.parseoutcomes()
    assert outcomes["errors"] == outcomes["passed"] == 18
    result.stdout.fnmatch_lines(
        ["@edges: the desk has another policy than the edges were found under: @edges(…, policy=…)*"]
    )


def test_moment_is_for_tests_around_edges(pytester: pytest.Pytester) -> None:
    result = outcomes_around(pytester, "def test_it(moment): pass\n")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the fixture moment is for tests with @edges(…)*"])


# ---- days on which calendars turn ------------------------------------------------------------------------------------


def test_the_turning_days_of_a_year_are_named() -> None:
    days = turning_days(2024, 2024)

    assert {name: str(day) for name, day in days.items() if "the day" not in name} == {
        "2024-01-01 holiday": "2024-01-01",
        "2024-01-15 holiday": "2024-01-15",
        "2024-02-19 holiday": "2024-02-19",
        "2024-02-29 leap day": "2024-02-29",
        "2024-03-10 the clocks go forward": "2024-03-10",
        "2024-05-27 holiday": "2024-05-27",
        "2024-06-19 holiday": "2024-06-19",
        "2024-07-04 holiday": "2024-07-04",
        "2024-09-02 holiday": "2024-09-02",
        "2024-10-14 holiday": "2024-10-14",
        "2024-11-03 the clocks go back": "2024-11-03",
        "2024-11-11 holiday": "2024-11-11",
        "2024-11-28 holiday": "2024-11-28",
        "2024-12-25 holiday": "2024-12-25",
        "2024-12-31 the end of the year": "2024-12-31",
    }
    assert "2024-11-29 the day after holiday" in days
    assert sorted(set(days.values())) == list(days.values())


def test_the_turning_days_are_those_of_the_policys_zone_and_calendar() -> None:
    tokyo = turning_days(2026, 2026, a_policy(zone="Asia/Tokyo", closed_also=["2026-05-04"]))
    zurich = turning_days(2026, 2026, a_policy(zone="Europe/Zurich"))

    assert not [name for name in tokyo if "the clocks" in name]
    assert "2026-05-04 holiday" in tokyo
    assert "2026-03-29 the clocks go forward" in zurich


@pytest.mark.parametrize("day", DAYS.values(), ids=list(DAYS))
def test_on_every_turning_day_the_windows_end_where_a_lawyer_would_say(day: date) -> None:
    policy = bundled_policies().versions[-1]
    story = given(an_order(delivered=f"{day} 13:00"), request_return(), issue_label())
    clock = story.clock

    seen = {edge.what: clock.to_next_edge(edge.subject).at for edge in clock.edges() if edge.at > clock.now}

    midnight = {edge.at.astimezone(clock.local.tzinfo).time().isoformat() for edge in clock.edges("return/R-1")}
    last_of_label = policy.days.add_business_days(day, 2)
    assert midnight == {"00:00:00"}
    assert seen["label L-1 voids by itself"] == clock.instant(last_of_label + timedelta(days=1))
    assert clock.edges()[-1].at == clock.instant(day + timedelta(days=15))


@pytest.mark.parametrize("day", DAYS.values(), ids=list(DAYS))
def test_on_every_turning_day_a_cancellation_has_two_hours_and_not_a_tick_more(day: date) -> None:
    for hour in ("00:00", "00:59:59", "23:30"):
        story = given(an_order(confirmed=f"{day} {hour}"))
        story.after(hours=2).when(request_cancellation())
        late = given(an_order(confirmed=f"{day} {hour}")).after(hours=2, microseconds=1)

        story.then("CancellationRequested", "Cancelled")
        late.when(request_cancellation()).then_declined("cancellation.window")


def test_a_history_with_a_refusal_has_edges_too() -> None:
    clock = given(*flat([an_order(delivered="2026-03-05"), declined(request_return(channel="phone"))])).clock

    assert clock.next_edge().what == "the time to report a wrong item in line 1 ends"


def test_what_is_told_late_moves_no_edge() -> None:
    late = given(*LABELLED).at("2026-03-13").when(record_return_shipment(shipped_at="2026-03-11 23:59:59.999999"))
    early = (
        given(an_order(shipped="2026-03-03")).at("2026-03-07").when(record_delivery(delivered_at="2026-03-05 14:00"))
    )

    late.then_view("return/R-1", late=False)
    assert early.clock.edges()[-1].at == early.clock.instant("2026-03-20")

"""Overrides in random histories: who may cite them, what uses them up, and which of them cannot change anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from returnable.domain.case import Case, evolve, fold
from returnable.domain.deciding import DecisionContext
from returnable.domain.decisions import decide
from returnable.domain.errors import Impossible
from returnable.domain.events import (
    BY_TYPE,
    Event,
    Inspected,
    InspectionCorrected,
    OverrideGranted,
    RefundRequested,
    RefundReversed,
    ReturnReduced,
)
from returnable.domain.overrides import FAILS_BY, effective
from returnable.domain.policy import CLAUSE_IDS, bundled_policies
from returnable.domain.ports import Recorded
from returnable.domain.recorded_commands import RecordedCommand, recorded_commands
from returnable.domain.ruling import ClauseResult
from returnable.testing.behaviour import World

HISTORIES = st.lists(st.integers(0, 2**32 - 1), min_size=50, max_size=80, unique=True)
POLICY = bundled_policies().versions[-1]


def histories_of(seeds: Sequence[int]) -> Iterator[tuple[str, list[Recorded]]]:
    """The events of each case in a random history."""
    world = World()
    for seed in seeds:
        world.step(seed)
    for case_id in world.order_ids:
        yield case_id, [entry for entry in world.log() if entry.case_id == case_id]


def commands_that_decide() -> dict[str, tuple[str, ...]]:
    """Command → the clauses that it can fail by, from the table of decisions."""
    table = {
        decision.of_command or str(decision.follows[0].of_command): clauses for decision, clauses in FAILS_BY.items()
    }
    return table | {"correct_inspection": FAILS_BY[Inspected]}  # it makes the same decision again


def overrides_in(ruling: Sequence[ClauseResult]) -> list[tuple[str, str]]:
    """Clause and id of the override, for every override that a ruling cites."""
    found: list[tuple[str, str]] = []
    for result in ruling:
        cited: Any = result.grounds.get("override")
        if (
            cited is not None and result.clause != "returns.original_tender"
        ):  # a payout is used as often as it is needed
            found.append((result.clause, cited["fact"]))
    return found


@given(HISTORIES)
def test_a_decision_fails_only_by_the_clauses_of_its_table(seeds: list[int]) -> None:
    table = commands_that_decide()

    for _, events in histories_of(seeds):
        for command in recorded_commands(events):
            for result in command.ruling or ():
                paid_otherwise = result.clause == "returns.original_tender"  # to a payout that a person named
                if result.verdict in ("fail", "overridden") and not paid_otherwise:
                    event(f"{command.fields['command']} {result.verdict} {result.clause}")
                    assert result.clause in table[command.fields["command"]]


@given(HISTORIES)
def test_an_override_in_a_ruling_is_in_force_and_used_by_nothing_else(seeds: list[int]) -> None:
    for _, events in histories_of(seeds):
        granted: dict[str, OverrideGranted] = {}
        used: dict[str, tuple[str, str]] = {}
        for entry in events:
            if isinstance(entry.event, OverrideGranted):
                granted[entry.event_id] = entry.event
            for clause, cited in overrides_in(entry.event.ruling or ()):
                override = granted[cited]
                assert override.clause == clause
                assert cited.partition("#")[0] in (entry.stream, f"order/{entry.case_id}")
                assert override.expires_at is None or entry.event.recorded_at < override.expires_at
                by = (entry.stream, entry.event.type)
                if cited in used and override.once:
                    event("an override is cited again")
                    assert used[cited] == by or entry.event.declines
                    assert used[cited][1] in ("Inspected", "RefundRequested")
                if not entry.event.declines:
                    used.setdefault(cited, by)


def after(case: Case, events: Sequence[tuple[str, Event]]) -> Case:
    """The case after more events, numbered within their streams."""
    for stream, each in events:
        case = evolve(case, (Recorded(0, case.case_id, case.seq + 1, stream, case.version_of(stream) + 1, each),))
    return case


def useless(case: Case, granted_at: Event) -> list[tuple[str, Event]]:
    """An override of every clause that is said to change nothing: for the order, each return and claim, and each line."""
    given: dict[str, Any] = {"occurred_at": granted_at.recorded_at, "recorded_at": granted_at.recorded_at}
    given |= {"reason": "useless", "approved_by": "x", "once": False}
    return [
        (subject.stream, OverrideGranted(**given, clause=clause, lines=lines))
        for subject in (case.order, *case.returns.values(), *case.claims.values())
        for lines in ((), *((line_id,) for line_id in subject.line_ids))
        for clause in CLAUSE_IDS
        if clause not in effective(case, subject, POLICY, lines) and not judged_again(clause, lines)
    ]


OF_GOODS = ("returns.ship_by", "returns.condition", "returns.refund_after_inspection", "returns.transit_risk")
"""Clauses about goods. They are judged once more when goods come back after all, to a return that is closed or has come."""


def judged_again(clause: str, lines: tuple[str, ...]) -> bool:
    """Whether what is learnt later can make a decision possible again that weighs the clause, for some of the lines."""
    return clause in OF_GOODS or (bool(lines) and clause in FAILS_BY[RefundRequested])


@given(HISTORIES, st.integers(1, 60))
def test_an_override_that_is_refused_would_change_no_later_decision(seeds: list[int], steps: int) -> None:
    for case_id, events in histories_of(seeds):
        commands = list(recorded_commands(events))
        kept = [entry for command in commands[:steps] for entry in command.entries]
        again = (RefundReversed, ReturnReduced, InspectionCorrected)
        if any(isinstance(entry.event, again) for entry in events[len(kept) :]):
            continue  # money that comes back, fewer lines and other findings make a decision possible again
        case = fold(case_id, kept)
        useless_ones = useless(case, kept[-1].event)
        case = after(case, useless_ones)

        for command in commands[steps:]:
            case = without_citing_them(case, command)
        event(f"{len(useless_ones) // 10 * 10} or more useless overrides")


def without_citing_them(case: Case, command: RecordedCommand) -> Case:
    """Decide a command again beside the useless overrides: as it was recorded, but for the versions of its streams."""
    first = command.entries[0].event
    if command.fields["command"] == "override":
        return after(case, [(entry.stream, entry.event) for entry in command.entries])
    try:
        decided = decide(case, command.command, DecisionContext(command.at, POLICY, first.actor, first.command_id))
    except Impossible:  # instead of being declined, where all units of the return are with the customer
        assert (command.fields["command"], command.outcome) == ("request_refund", "declined")
        return after(case, [(entry.stream, entry.event) for entry in command.entries])
    assert decided.outcome == command.outcome
    verdicts = [(result.clause, result.verdict) for result in decided.ruling or ()]
    assert verdicts == [(result.clause, result.verdict) for result in command.ruling or ()]
    reasons = [result.grounds.get("override", {}) for result in decided.ruling or ()]
    assert not any(isinstance(each, dict) and each.get("reason") == "useless" for each in reasons)
    return after(case, decided.events)


def test_every_clause_of_the_table_is_one_of_the_policy_and_every_decision_an_event() -> None:
    assert {clause for clauses in FAILS_BY.values() for clause in clauses} < set(CLAUSE_IDS)
    assert all(BY_TYPE[decision.__name__] is decision and not decision.declines for decision in FAILS_BY)

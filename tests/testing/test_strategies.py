"""Drawn orders, policies, commands and histories: they are what they say, and shrink to what a person would write."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import returnable
from returnable.adapters.wiring import assemble
from returnable.domain.commands import parse_command
from returnable.domain.errors import Impossible
from returnable.domain.policy import CLAUSE_IDS, Policy, PolicyBook, bundled_policies
from returnable.testing.behaviour import START, Behaviour, SeededDice, SimplestDice
from returnable.testing.instants import instant
from returnable.testing.steps import Step, an_order
from returnable.testing.strategies import commands, histories, orders, policies

FEW = settings(max_examples=30)
FIND = settings(
    max_examples=2000, database=None, derandomize=True, deadline=None, phases=[Phase.generate, Phase.shrink]
)
BUNDLED = bundled_policies().versions[-1]
History = tuple[Step, ...]


def simplest(strategy: st.SearchStrategy[Any], condition: Callable[[Any], bool] = lambda drawn: True) -> Any:
    return find(strategy, condition, settings=FIND)


def desk_with(*steps: Step) -> returnable.Desk:
    """A desk on which steps have happened."""
    desk = returnable.open("memory:", clock=lambda: instant("2026-03-06 12:00", "America/New_York"))
    for step in steps:
        desk.handle(step.resolved("America/New_York"), at=instant(step.when or "2026-03-02", "America/New_York"))
    return desk


# ---- orders -----------------------------------------------------------------------------------------------------------


@FEW
@given(orders(currency=st.sampled_from(("USD", "JPY", "KWD"))))
def test_a_drawn_order_is_paid_to_the_cent(order: Step) -> None:
    desk = assemble("memory:").handler

    came = desk.handle(parse_command(order.fields), START)

    assert came.accepted


def test_an_order_shrinks_to_one_unit_of_one_line() -> None:
    order = simplest(orders())

    assert order == Step(
        {
            "command": "confirm_order",
            "order_id": "A-1",
            "customer": {"customer_id": "c-1", "account_id": "acc-1"},
            "currency": "USD",
            "lines": [{"line_id": "1", "sku": "SKU-1", "unit_price": "750.00", "quantity": 1}],
            "payments": [{"payment_id": "p-1", "method": "card", "amount": "750.00"}],
        }
    )


@FEW
@given(orders(order_id="B-7", prices=["12.50"], max_lines=1, account=False, final_sale=True, at="2026-03-05"))
def test_what_is_fixed_of_an_order_is_so(order: Step) -> None:
    (line,) = order.fields["lines"]

    assert (order.fields["order_id"], order.when) == ("B-7", "2026-03-05")
    assert (line["unit_price"], line["final_sale"]) == ("12.50", True)
    assert order.fields["customer"]["account_id"] is None


def test_an_order_without_lines_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="at least one line"):
        orders(max_lines=0)


# ---- policies ---------------------------------------------------------------------------------------------------------


def test_a_policy_shrinks_to_the_bundled_one() -> None:
    policy = simplest(policies())

    assert policy is BUNDLED


@pytest.mark.parametrize(
    "other",
    [
        lambda policy: policy.clauses.returns_window.days != 14,
        lambda policy: policy.clauses.returns_portal.channels == ("email",),
        lambda policy: policy.clauses.returns_label_fee.threshold % 1 != 0,
        lambda policy: not policy.clauses.returns_final_sale.applies,
        lambda policy: policy.zone == "America/Havana",
        lambda policy: bool(policy.calendar.closed_also),
    ],
)
def test_every_parameter_of_a_policy_is_varied_and_shrinks_alone(other: Callable[[Policy], bool]) -> None:
    policy = simplest(policies(), other)

    changed = set(_parts(policy)) ^ set(_parts(BUNDLED))
    assert len({place for place, _ in changed}) == 2, "one parameter, and the version"


def _parts(policy: Policy) -> list[tuple[str, str]]:
    content = policy.model_dump(mode="json", by_alias=True)
    clauses = content.pop("clauses")
    of_clauses = [(f"{name}.{key}", str(value)) for name, clause in clauses.items() for key, value in clause.items()]
    return of_clauses + [(name, str(value)) for name, value in content.items()]


@FEW
@given(policies())
def test_a_drawn_policy_is_one_that_a_desk_takes(policy: Policy) -> None:
    book = PolicyBook([policy])

    assert Policy.model_validate(policy.model_dump(by_alias=True)) == policy
    assert book.by_sha256(policy.sha256) == policy
    assert policy.label_fee_minor[0] >= 0


# ---- the next command ---------------------------------------------------------------------------------------------------


@FEW
@given(st.data())
def test_a_legal_command_is_never_an_error(data: st.DataObject) -> None:
    desk = desk_with(*an_order(delivered="2026-03-05"))

    for _ in range(3):
        step = data.draw(commands(desk))
        came = desk.handle(step.fields, at=desk.clock())

        assert came.outcome in ("accepted", "declined")
        assert step.when == desk.clock()


def test_of_illegal_commands_some_are_impossible() -> None:
    desk = desk_with(*an_order(delivered="2026-03-05"))

    def fails(step: Step) -> bool:
        try:  # on a desk of its own: the one that commands are drawn for must not move on
            desk_with(*an_order(delivered="2026-03-05")).handle(step.fields)
        except Impossible as error:
            return error.code == "return.unknown"
        return False

    step = simplest(commands(desk, legal=False), fails)

    assert fails(step)
    assert step.when == desk.clock()


def test_a_command_can_be_asked_for_by_its_name_and_of_a_case_alone() -> None:
    case = desk_with(*an_order(delivered="2026-03-05")).services.handler.case("A-1")

    step = simplest(commands(case, only=["request_return"], at=datetime(2026, 3, 6, 17, tzinfo=UTC)))

    lines = [{"line_id": "1", "quantity": 1}]
    fields = {"command": "request_return", "return_id": "R-1", "order_id": "A-1", "lines": lines, "channel": "portal"}
    assert step.fields == fields
    assert repr(step.when) == "'2026-03-06T12:00:00-05:00'"


def test_a_command_that_is_not_possible_cannot_be_drawn() -> None:
    desk = desk_with(*an_order())

    with pytest.raises(LookupError, match="inspect_return"):
        simplest(commands(desk, only=["inspect_return"]))


def test_a_case_and_parts_have_no_clock() -> None:
    desk = desk_with(*an_order())

    with pytest.raises(TypeError, match="say at="):
        simplest(commands(desk.services))
    with pytest.raises(TypeError, match="say at="):
        simplest(commands(desk.services.handler.case("A-1")))


# ---- histories ------------------------------------------------------------------------------------------------------------


def replayed(history: History, policy: PolicyBook | None = None) -> list[str]:
    """What a fresh desk makes of every step."""
    desk, came = assemble("memory:", policy).handler, []
    for step in history:
        assert isinstance(step.when, datetime)
        try:
            came.append(desk.handle(parse_command(step.fields), step.when).outcome)
        except Impossible:
            came.append("error")
    return came


@FEW
@given(histories(min_size=2, max_size=12))
def test_a_legal_history_is_accepted_or_declined_step_by_step(history: History) -> None:
    outcomes = [step.outcome for step in history]

    assert replayed(history) == outcomes
    assert set(outcomes) <= {"accepted", "declined"}
    assert 2 <= len(history) <= 12


@FEW
@given(histories(legal=False, max_size=12))
def test_an_illegal_history_says_which_of_its_steps_are_errors(history: History) -> None:
    outcomes = [step.outcome for step in history]

    assert replayed(history) == outcomes


@FEW
@given(st.data())
def test_histories_of_any_policy_can_be_told_under_it(data: st.DataObject) -> None:
    book = PolicyBook([data.draw(policies())])

    history = data.draw(histories(policy=book, max_size=10, max_orders=2))

    assert replayed(history, book) == [step.outcome for step in history]


@FEW
@given(histories())
def test_the_steps_of_a_history_are_in_order_of_time_and_say_their_offset(history: History) -> None:
    times = [step.when for step in history if isinstance(step.when, datetime)]

    assert all(earlier <= later for earlier, later in pairwise(times))
    assert all(at.utcoffset() is not None and repr(at) == repr(at.isoformat()) for at in times)


def test_a_history_can_be_drawn_again_exactly() -> None:
    drawn: list[list[History]] = []

    for _ in range(2):
        drawn.append([])

        @settings(max_examples=10, database=None, derandomize=True, phases=[Phase.generate])
        @given(histories())
        def draw(history: History) -> None:
            drawn[-1].append(history)

        draw()

    assert drawn[0] == drawn[1]


def test_a_declined_return_shrinks_to_few_steps() -> None:
    """Hypothesis also draws constants of the imported modules, so the very last step of a search is not always the same."""
    history = simplest(histories(), lambda steps: any(_declined(step, "request_return") for step in steps))

    commands_told = [step.command for step in history]
    assert commands_told[0] == "confirm_order"
    assert commands_told[-1] == "request_return"
    assert len(history) <= 6, commands_told
    assert repr(history[0].when) == "'2026-03-02T10:00:00-05:00'"


def test_a_settled_claim_shrinks_to_few_steps() -> None:
    history = simplest(histories(), lambda steps: any(step.command == "resolve_claim" for step in steps))

    told = [step.command for step in history]
    assert told[:2] == ["confirm_order", "record_shipment"]
    assert (told[-1], told.count("report_wrong_item")) == ("resolve_claim", 1)
    assert len(told) <= 6, told


def _declined(step: Step, command: str) -> bool:
    return step.command == command and step.outcome == "declined"


def test_what_cannot_be_a_length_is_refused() -> None:
    with pytest.raises(ValueError, match="min_size"):
        histories(min_size=3, max_size=2)


def test_the_first_step_is_an_order() -> None:
    first = simplest(histories(max_size=1))

    assert [step.command for step in first] == ["confirm_order"]


# ---- dice ---------------------------------------------------------------------------------------------------------------


def test_seeded_dice_fall_the_same_way_for_the_same_seed() -> None:
    rolls = [
        [dice.integer(1, 6), dice.choice("abc"), dice.weighted([(1, "x"), (2, "y")]), dice.chance(0.5)]
        for dice in (SeededDice(3), SeededDice(3))
    ]

    assert rolls[0] == rolls[1]


def test_the_simplest_that_happens_is_an_order_and_then_its_shipment() -> None:
    services = assemble("memory:")
    dice = SimplestDice()

    commands_told = []
    for _ in range(2):
        cases = [services.handler.case(case_id) for case_id in services.store.case_ids()]
        fields = Behaviour(cases, START).choose(dice)
        services.handler.handle(parse_command(fields), START)
        commands_told.append(fields["command"])

    assert commands_told == ["confirm_order", "record_shipment"]


def test_an_override_for_an_order_may_set_any_clause_aside() -> None:
    handler = assemble("memory:").handler
    handler.handle(parse_command(Behaviour([], START).choose(SimplestDice())), START)
    behaviour = Behaviour([handler.case("A-1")], START)
    (possible,) = [each for each in behaviour.likely() if each.command == "override"]

    drawn = {possible.fields(SeededDice(seed))["clause"] for seed in range(1000)}

    assert drawn == {*CLAUSE_IDS, "returns.kindness"}

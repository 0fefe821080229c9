"""The money of an order is the same, by the same words, whoever is asked: ledger, report, replay, statistics, what-if."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

from hypothesis import event, given, settings
from hypothesis import strategies as st
from reading import was_contradicted
from viewing import lived

import returnable
from returnable.adapters.wiring import policy_book
from returnable.domain.case import fold
from returnable.domain.money import to_major
from returnable.domain.policy import CLAUSE_IDS
from returnable.projections.ledger import balances
from returnable.projections.replay import history
from returnable.projections.report.build import make_report
from returnable.projections.statistics import weighed
from returnable.projections.subjects import find_subject
from returnable.projections.views import MoneyView
from returnable.projections.what_if import DryRun, candidates_of
from returnable.testing import a_policy
from returnable.testing.behaviour import World

SEEDS = st.integers(0, 2**32 - 1)
COUNTED = ("captured", "refunded", "pending", "remaining")


def amounts(money: MoneyView) -> tuple[str, ...]:
    """The four sums."""
    return tuple(getattr(money, name) for name in COUNTED)


@settings(max_examples=8)
@given(SEEDS)
def test_ledger_report_and_replay_agree_on_the_money_of_every_history(seed: int) -> None:
    world = lived(World(), Random(seed), 60)
    store, policy = world.services.store, world.services.handler.policy

    for case in world.cases:
        order = case.order.stream
        rows = list(world.services.questions.ledger(case.case_id))
        report = make_report(store, policy, order, world.at).money
        replayed = history(find_subject(store, policy, order), world.at)

        in_all = [sum((Decimal(row[name]) for row in rows), Decimal()) for name in COUNTED]
        assert [Decimal(amount) for amount in amounts(report.total)] == in_all
        assert amounts(replayed.reached.money) == amounts(report.total)
        assert [amounts(row) for row in report.payments] == [tuple(row[name] for name in COUNTED) for row in rows]
        captured, refunded, pending, remaining = in_all
        assert remaining == captured - refunded - pending
        contradicted = was_contradicted(store.load(case.case_id))
        assert contradicted or min(in_all) >= 0
        unanswered = sum(refund.pending for refund in case.refunds.values())
        assert pending == Decimal(to_major(unanswered, case.order.currency))
        told = [step for step in replayed.steps if step.money is not None]
        for step in told:
            events = store.load(case.case_id)[: step.number]
            then = [balance[4:] for balance in balances(fold(case.case_id, events))]
            sums = [to_major(sum(column), case.order.currency) for column in zip(*then, strict=True)]
            assert step.money is not None
            assert list(amounts(step.money)) == (sums or ["0.00"] * 4)


@settings(max_examples=12)
@given(SEEDS, st.sampled_from(CLAUSE_IDS))
def test_statistics_and_what_if_agree_on_what_is_at_stake_in_every_decision_that_flips(seed: int, clause: str) -> None:
    world = lived(World(), Random(seed), 60)
    store, policy = world.services.store, world.services.handler.policy
    trial = DryRun(candidates_of(policy_book(a_policy({clause: {"applies": False}}))), policy)

    for case_id, flips in trial.run(store):
        events = store.load(case_id)
        case = fold(case_id, events)
        counted = {(f"{one.stream}#{one.version}", one.clause): one for one in weighed(case, events)}
        for flip in flips:
            for change in flip.clauses:
                one = counted.get((flip.event, change.clause))
                if one is not None and one.verdict == "fail" and not flip.consequence:
                    event(f"{flip.command}: {change.clause}")
                    assert flip.amount == to_major(one.amount, flip.currency), (flip.event, change.clause)


def test_one_refund_that_is_pending_and_one_unit_that_was_rejected_are_told_the_same_everywhere() -> None:
    # given: of three units one is rejected, and a refund of the others is asked for and not answered
    clock = [datetime(2026, 3, 2, 15, 0, tzinfo=UTC)]
    desk = returnable.open("memory:", clock=lambda: clock[0])
    desk.confirm_order(
        order_id="A-1",
        currency="USD",
        customer={"customer_id": "c-1", "account_id": "acc-1"},
        lines=[
            {"line_id": "1", "sku": "BAG", "unit_price": "480.00", "quantity": 1},
            {"line_id": "2", "sku": "HAT", "unit_price": "600.00", "quantity": 2},
        ],
        payments=[{"payment_id": "p-1", "method": "card", "amount": "1680.00"}],
    )
    desk.record_shipment(order_id="A-1", parcel_id="P-1", carrier="ups", tracking_number="T")
    clock[0] += timedelta(days=2)
    desk.record_delivery(order_id="A-1", parcel_id="P-1")
    units = [{"line_id": "1", "quantity": 1}, {"line_id": "2", "quantity": 2}]
    desk.request_return(return_id="R-1", order_id="A-1", channel="portal", lines=units)
    desk.record_return_shipment(return_id="R-1")
    desk.receive_return(return_id="R-1")
    whole = {"same_condition": True, "original_packaging": True, "tags_attached": True}
    findings = [
        {"line_id": "1", "quantity": 1, **whole},
        {"line_id": "2", "quantity": 1, **whole},
        {"line_id": "2", "quantity": 1, **whole, "same_condition": False},
    ]
    desk.inspect_return(return_id="R-1", findings=findings)
    desk.request_refund(refund_id="F-1", return_id="R-1")

    # when
    (row,) = desk.ledger()
    report = desk.report("order/A-1").money
    replayed = desk.replay("order/A-1").reached.money
    failed = [each.failed.amount for each in desk.statistics() if each.clause == "returns.condition"]

    # then
    told = {amounts(row), amounts(report.total), *map(amounts, report.payments), amounts(replayed)}
    assert told == {("1680.00", "0.00", "1080.00", "600.00")}
    assert failed == ["600.00"]

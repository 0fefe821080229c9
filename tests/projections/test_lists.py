"""Lists: stored views and facts give the same answers at any moment, and these are what the single questions answer."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import was_contradicted
from usual import a_delivered_order, an_authorized_return, an_inspected_return
from viewing import append_raw, lived, poison, projector

from returnable.adapters.views.sqlite import SQLiteViews
from returnable.domain.case import Case
from returnable.domain.commands import parse_question
from returnable.domain.errors import Impossible
from returnable.domain.money import to_minor
from returnable.domain.ports import Damage
from returnable.domain.refunds.tenders import left_for
from returnable.projections.ledger import balances
from returnable.projections.lists import LISTS, StoredLists
from returnable.projections.questions import Questions
from returnable.projections.statistics import weighed
from returnable.projections.stored import sortable
from returnable.testing import (
    Scenario,
    a_policy,
    an_order,
    declined,
    record_refund_result,
    report_wrong_item,
    request_cancellation,
    request_refund,
    request_return,
)
from returnable.testing.behaviour import START, World

SEEDS = st.integers(0, 2**32 - 1)
A_MOMENT = timedelta(microseconds=1)
SINGLE = {"orders": "order", "returns": "return", "refunds": "refund", "claims": "claim"}


def moments(world: World, dice: Random, count: int = 4) -> list[datetime]:
    """Some instants, most of them at a deadline or just beside it."""
    near = [at + dice.choice((-1, 0, 1)) * A_MOMENT for at in world.instants()]
    return [dice.choice([START, world.at, *near]) for _ in range(count)]


def asked(questions: Questions, at: datetime, **fields: Any) -> dict[str, Any]:
    """The answer of a question as JSON values."""
    return questions.answer(parse_question(fields), at).model_dump(mode="json", by_alias=True)


@settings(max_examples=8)
@given(SEEDS)
def test_stored_lists_at_any_moment_are_the_lists_from_the_facts(seed: int) -> None:
    dice = Random(seed)
    world = lived(World(), dice, 45)
    questions = world.services.questions
    with closing(SQLiteViews(None)) as views:
        projector(world.services, views).run()
        with views.reading() as reading:
            stored = StoredLists(reading)

            for at in moments(world, dice):
                for name, listed in LISTS.items():
                    status = dice.choice((None, *listed.statuses))
                    limit = dice.choice((None, 0, 1, 2))
                    expected = list(questions.listed(name, at, status=status, limit=limit))
                    assert list(stored.listed(name, at, status, limit)) == expected
                kinds = dice.choice((None, ("void_label", "contact_customer", "refund_overdue"), ("request_refund",)))
                waiting = asked(questions, at, query="worklist", **({"kinds": kinds} if kinds else {}))
                assert stored.worklist(at, kinds).model_dump(mode="json", by_alias=True) == waiting
                since, until = sorted(moments(world, dice, 2))
                assert list(stored.statistics(since, until)) == list(questions.statistics(since, until))
            assert list(stored.ledger()) == list(questions.ledger())
            for order_id in world.order_ids:
                assert list(stored.ledger(order_id)) == list(questions.ledger(order_id))
            assert list(stored.statistics()) == list(questions.statistics())


@settings(max_examples=8)
@given(SEEDS)
def test_a_list_as_of_any_instant_says_of_each_what_the_question_about_it_says(seed: int) -> None:
    dice = Random(seed)
    world = lived(World(), dice, 45)
    questions = world.services.questions
    learnt = [entry.event.recorded_at for entry in world.log()] or [START]

    for at in moments(world, dice):
        as_of, known_at = dice.choice((None, at)), dice.choice((None, dice.choice(learnt)))
        back = {name: instant for name, instant in (("as_of", as_of), ("known_at", known_at)) if instant}
        for name, query in SINGLE.items():
            for values in questions.listed(name, world.at, as_of, known_at):
                key = f"{query}_id"
                assert values == asked(questions, world.at, query=query, **{key: values[key]}, **back)
        counted = Counter(values["order_id"] for values in questions.listed("orders", world.at, as_of, known_at))
        assert set(counted.values()) <= {1}
        for order_id in world.order_ids:
            try:
                asked(questions, world.at, query="order", order_id=order_id, **back)
            except Impossible:
                assert order_id not in counted
            else:
                assert order_id in counted


@settings(max_examples=8)
@given(SEEDS)
def test_what_the_clock_adds_to_a_stored_document_is_what_the_domain_says(seed: int) -> None:
    dice = Random(seed)
    world = lived(World(), dice, 45)

    for at in moments(world, dice):
        listed = {
            name: {values[f"{query}_id"]: values for values in world.services.questions.listed(name, at)}
            for name, query in SINGLE.items()
        }
        for case in world.cases:
            for ret in case.returns.values():
                labels = listed["returns"][ret.return_id]["labels"]
                assert [label["status"] for label in labels] == [one.status_at(at) for one in ret.labels.values()]
                known = [one.received is not None and one.received.at <= at for one in ret.labels.values()]
                assert [label["received_at"] is not None for label in labels] == known
            for claim in case.claims.values():
                assert listed["claims"][claim.claim_id]["overdue"] == claim.overdue(at)
            for refund in case.refunds.values():
                assert listed["refunds"][refund.refund_id]["overdue"] == refund.overdue(at)


# ---- the ledger --------------------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(SEEDS)
def test_the_ledger_always_adds_up(seed: int) -> None:
    world = lived(World(), Random(seed), 60)

    for case in world.cases:
        left = left_for(case.refund_subject(case.order.stream))
        for balance in balances(case):
            assert balance.captured == balance.refunded + balance.pending + balance.remaining
            contradicted = was_contradicted(world.services.store.load(case.case_id))
            assert contradicted or min(balance.refunded, balance.pending, balance.remaining) >= 0
            # What a refund of something new could still take: a failed tender is kept for a further attempt.
            assert left[balance.payment_id] <= balance.remaining
        rows = list(world.services.questions.ledger(case.order.order_id))
        captured = sum(case.order.captured.values())
        assert sum(to_minor(row["captured"], row["currency"]) for row in rows) == captured
        settled = sum(refund.settled for refund in case.refunds.values())
        assert sum(to_minor(row["refunded"], row["currency"]) for row in rows) == settled


def test_the_ledger_follows_a_refund_of_two_payments_of_which_one_fails_first() -> None:
    payments = [
        {"payment_id": "p-1", "method": "card", "amount": "500.00"},
        {"payment_id": "p-2", "method": "gift_card", "amount": "250.00"},
    ]
    story = Scenario().given(an_inspected_return(payments=payments))

    def amounts() -> list[tuple[str, str, str, str]]:
        rows = story.services.questions.ledger("A-1")
        return [(row["captured"], row["refunded"], row["pending"], row["remaining"]) for row in rows]

    bought = amounts()
    story.given(request_refund(at="2026-03-16 11:00"))
    asked_back = amounts()
    story.given(record_refund_result(result="failed", reason="closed"), record_refund_result("p-2"))
    half = amounts()
    story.given(request_refund("F-2", at="2026-03-20 11:00"), record_refund_result(refund_id="F-2"))

    assert bought == [("500.00", "0.00", "0.00", "500.00"), ("250.00", "0.00", "0.00", "250.00")]
    assert asked_back == [("500.00", "0.00", "500.00", "0.00"), ("250.00", "0.00", "250.00", "0.00")]
    assert half == [("500.00", "0.00", "0.00", "500.00"), ("250.00", "250.00", "0.00", "0.00")]
    assert amounts() == [("500.00", "500.00", "0.00", "0.00"), ("250.00", "250.00", "0.00", "0.00")]


# ---- clause statistics -------------------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(SEEDS)
def test_the_statistics_count_every_clause_of_every_recorded_ruling_once(seed: int) -> None:
    world = lived(World(), Random(seed), 60)
    recorded: Counter[tuple[str, str]] = Counter()
    for entry in world.log():
        for finding in getattr(entry.event, "ruling", None) or ():
            recorded[finding.clause, finding.verdict] += 1

    counted: Counter[tuple[str, str]] = Counter()
    names = {"failed": "fail", "passed": "pass", "overridden": "overridden", "not_applicable": "not_applicable"}
    for row in world.services.questions.statistics():
        for name, verdict in names.items():
            counted[row["clause"], verdict] += row[name]["decisions"]
        assert row["alone"]["decisions"] <= row["failed"]["decisions"]

    assert +counted == recorded


def statistics(story: Scenario) -> dict[str, dict[str, Any]]:
    """Clause → its row."""
    return {row["clause"]: row for row in story.services.questions.statistics()}


def test_a_declined_return_counts_the_price_of_its_units_and_whether_one_clause_alone_declined_it() -> None:
    story = Scenario().given(
        a_delivered_order(price="600.00", quantity=3, final_sale=True),
        declined(request_return(2, at="2026-03-09 12:00")),
        declined(request_return(2, return_id="R-2", at="2026-04-09 12:00")),
    )

    found = statistics(story)

    assert found["returns.final_sale"]["failed"] == {"decisions": 2, "amount": "2400.00"}
    assert found["returns.final_sale"]["alone"] == {"decisions": 1, "amount": "1200.00"}
    assert found["returns.window"]["failed"] == {"decisions": 1, "amount": "1200.00"}
    assert found["returns.window"]["alone"] == {"decisions": 0, "amount": "0.00"}
    assert found["returns.portal"]["passed"] == {"decisions": 2, "amount": "2400.00"}


def test_each_decision_has_its_own_amount_at_stake() -> None:
    story = Scenario().given(an_inspected_return(price="100.00", quantity=2, tax="10.00", shipping="5.00"))
    refund = story.tell(request_refund())
    story.given(
        an_order("A-2", confirmed="2026-03-20 10:00", price="70.00", tax="7.00"),
        request_cancellation("A-2", order_reference="A-2"),
        a_delivered_order("A-3", price="30.00", quantity=4),
        report_wrong_item(order_id="A-3", quantity=3, attachments=[]),
    )

    found = statistics(story)

    assert refund["outcome"] == "accepted"
    assert found["cancellation.window"]["passed"]["amount"] == "77.00", "what was paid"
    assert found["wrong_item.window"]["passed"]["amount"] == "90.00", "price and tax of the units"
    assert found["returns.window"]["passed"]["amount"] == "105.00", "price and tax of the units"
    assert found["returns.label_fee"]["passed"]["amount"] == "20.00", "the fee"
    assert found["returns.original_tender"]["passed"]["amount"] == "85.00", "what goes back"


def test_decisions_before_or_after_the_period_do_not_count() -> None:
    story = Scenario().given(an_authorized_return())
    at = datetime(2026, 3, 9, 16, 0, tzinfo=UTC)
    questions = story.services.questions

    def count(since: datetime | None, until: datetime | None) -> int:
        return sum(row["passed"]["decisions"] for row in questions.statistics(since, until))

    assert count(at, None) == count(None, at + A_MOMENT) == 5
    assert count(at + A_MOMENT, None) == count(None, at) == 0


def test_a_clause_of_another_merchant_has_its_place_behind_the_known_ones() -> None:
    story = Scenario(policy=a_policy({"returns.portal": {"applies": False}})).given(an_authorized_return())
    case: Case = story.services.handler.case("A-1")
    events = story.services.store.load_until_damage("A-1")[0]

    (portal,) = [one for one in weighed(case, events) if one.clause == "returns.portal"]

    assert (portal.verdict, portal.allowed, portal.alone) == ("not_applicable", True, False)


# ---- damaged facts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["unreadable", "impossible"])
def test_a_damaged_fact_of_one_case_hides_no_other_from_the_lists(kind: str) -> None:
    story = Scenario().given(a_delivered_order(), a_delivered_order("A-2"))
    poison(story.services, "A-1", kind)
    append_raw(story.services.store, "A-1", "order/A-1", "order.AccountLinked/1", b"{}")
    damaged: list[Damage] = []
    questions = Questions(story.services.store, story.services.handler.policy, damaged.append)
    now = datetime(2026, 3, 12, tzinfo=UTC)

    for back in ({}, {"as_of": now}, {"known_at": now}):
        damaged.clear()
        orders = [(values["order_id"], values["status"]) for values in questions.listed("orders", now, **back)]
        assert orders == [("A-1", "delivered"), ("A-2", "delivered")]
        assert [(damage.case_id, damage.version) for damage in damaged] == [("A-1", 4)]
    damaged.clear()
    assert asked(questions, now, query="worklist")["items"] == []
    assert len(damaged) == 1


def test_the_worklist_goes_on_where_another_case_is_damaged() -> None:
    story = Scenario().given(an_order())
    poison(story.services, "A-1")
    story.given(an_order("A-2"))
    story.given(declined(request_cancellation("A-2", order_reference="A-2", at="2026-03-02 13:00")))

    items = story.ask("worklist")["items"]

    assert [(item["kind"], item["subject"]["id"]) for item in items] == [("notify_customer", "A-2")]


def test_a_list_refuses_a_status_that_none_of_its_subjects_can_have() -> None:
    story = Scenario()

    for ask in (
        lambda: story.services.questions.listed("returns", START, status="delivered"),
        lambda: LISTS["claims"].check_status("lost"),
    ):
        with pytest.raises(Impossible, match="is none of") as refused:
            ask()
        assert refused.value.field == "status"


def test_stored_instants_sort_as_they_happened() -> None:
    instants = [datetime(2026, 3, 2, 15, 0, second, micro, tzinfo=UTC) for second in (0, 1) for micro in (0, 1, 500000)]

    texts = [sortable(instant) for instant in instants]

    assert texts == sorted(texts)

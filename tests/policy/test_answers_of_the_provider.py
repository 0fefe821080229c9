"""What a payment provider says of a refund, whenever and however often: less, more, another currency, late, taken back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given as each
from hypothesis import settings
from hypothesis import strategies as st
from reading import last_reasons, ledger, work

from returnable.domain.timetable import deadlines_of
from returnable.testing import (
    Scenario,
    a_return,
    an_order,
    given,
    record_refund_result,
    request_refund,
    run_deadlines,
)

TWO = [
    {"payment_id": "p-1", "method": "card", "amount": "500.00"},
    {"payment_id": "p-2", "method": "gift_card", "amount": "100.00"},
]
ASKED_AT = "2026-03-10 12:00"


def asked(**order: Any) -> Scenario:
    """The refund F-1 of 600.00 for the return R-1, asked for at noon on Tuesday, 10 March, and not answered."""
    return given(
        an_order(**{"price": "600.00", "delivered": "2026-03-05 14:00"} | order),
        a_return(requested="2026-03-06 10:00", received="2026-03-10 10:00", inspected="2026-03-10 11:00"),
        request_refund(at=ASKED_AT),
    )


def deadlines(story: Scenario) -> list[tuple[str, str]]:
    """What the deadlines of the return are about, and what became of them."""
    timetable = deadlines_of(story.services.handler.case("A-1"), "return/R-1")
    return [(each.clause, each.settled.how if each.settled else "open") for each in timetable]


# ---- how much, in which currency, and when ----------------------------------------------------------------------------


def test_less_than_asked_settles_that_much_and_the_rest_stays_pending_and_on_the_worklist() -> None:
    story = asked()

    story.when(record_refund_result(amount="400.00", at="2026-03-10 13:00")).then("RefundSettled")

    assert ledger(story) == [("p-1", "600.00", "400.00", "200.00", "0.00")]
    story.then_view("refund/F-1", status="requested")
    story.then_view("return/R-1", status="inspected")
    assert work(story) == [("refund_short", "F-1")]
    assert work(story, as_of="2026-03-31T03:59:59Z") == [("refund_short", "F-1")]
    assert work(story, as_of="2026-04-01T04:00:00Z") == [("refund_overdue", "F-1")]
    story.when(request_refund("F-2")).then_error("transition.not_allowed")

    story.when(record_refund_result(amount="200.00", reference="re-2")).then("RefundSettled", "Refunded")
    assert ledger(story) == [("p-1", "600.00", "600.00", "0.00", "0.00")]
    story.then_view("return/R-1", status="refunded")
    assert work(story) == []


def test_the_rest_of_a_short_payment_may_fail_and_only_that_is_asked_for_again() -> None:
    story = asked()
    story.given(record_refund_result(amount="400.00"))

    story.when(record_refund_result(result="failed")).then("RefundFailed")

    story.then_view("refund/F-1", status="failed")
    assert ledger(story) == [("p-1", "600.00", "400.00", "0.00", "200.00")]
    story.when(request_refund("F-2")).then_accepted()
    story.then_view("refund/F-2", total="200.00", settled_before="400.00")


def test_more_than_asked_is_recorded_with_an_exception_that_names_the_amount() -> None:
    story = asked(price="300.00", quantity=2)

    story.when(record_refund_result(amount="620.00")).then("RefundSettled", "Refunded", "ExceptionRaised")

    assert ledger(story) == [("p-1", "600.00", "620.00", "0.00", "-20.00")]
    assert last_reasons(story) == [
        "620.00 USD of refund F-1 were paid for payment p-1, but only 280.00 of it was open",
        "620.00 USD went back or are on their way for return R-1 (refund F-1), but 280.00 are owed: 340.00 too much",
        "of payment p-1 600.00 USD were captured, but 620.00 went back or are on their way",
    ]
    assert work(story) == [("exception", "R-1")]


def test_another_currency_is_recorded_with_an_exception_and_settles_nothing() -> None:
    story = asked()

    story.when(record_refund_result(amount="600.00", currency="EUR")).then("RefundSettled", "ExceptionRaised")

    assert ledger(story) == [("p-1", "600.00", "0.00", "600.00", "0.00")]
    assert last_reasons(story) == [
        "refund F-1 is in USD, but the answer for payment p-1 is about 600.00 EUR: the tender is as before"
    ]
    story.when(record_refund_result(reference="re-9")).then("RefundSettled", "Refunded")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"amount": "1.001"}, "amount"),
        ({"amount": "1.5", "currency": "JPY"}, "amount"),
        ({"currency": "USD"}, "currency"),
        ({"amount": "1.00", "currency": "usd"}, "currency"),
        ({"amount": "-1.00"}, "amount"),
    ],
)
def test_an_amount_that_is_none_is_refused(fields: dict[str, str], field: str) -> None:
    story = asked()

    story.when(record_refund_result(**fields)).then_error("command.invalid")

    assert story.error is not None
    assert story.error.field == field


def test_a_refund_settled_in_time_but_learnt_late_is_not_overdue() -> None:
    story = asked()
    story.given(run_deadlines(at="2026-04-20 09:00"))
    assert work(story) == [("refund_overdue", "F-1")]

    story.when(record_refund_result(settled_at="2026-03-12T09:00:00Z")).then("RefundSettled", "Refunded")

    assert work(story) == []
    assert story.ask("refund/F-1", as_of="2026-03-12T09:00:00Z")["status"] == "refunded"
    assert story.ask("refund/F-1", as_of="2026-04-10T00:00:00Z")["overdue"] is False
    assert ("returns.refund_timing", "met") in deadlines(story)


# ---- an answer after an answer -----------------------------------------------------------------------------------------


def test_a_failure_after_a_success_undoes_the_settlement_and_the_refund_is_asked_for_again() -> None:
    story = asked()
    story.given(record_refund_result(at="2026-03-10 13:00"))
    story.then_view("return/R-1", status="refunded")

    story.when(record_refund_result(result="failed", reference="re-p-1", at="2026-03-20 13:00")).then("RefundReversed")

    assert ledger(story) == [("p-1", "600.00", "0.00", "0.00", "600.00")]
    story.then_view("refund/F-1", status="failed")
    story.then_view("return/R-1", status="refund_failed")
    assert work(story) == [("request_refund", "R-1")]
    assert story.ask("refund/F-1", as_of="2026-03-15T00:00:00Z")["status"] == "refunded"
    story.when(request_refund("F-2")).then_accepted()
    assert ledger(story) == [("p-1", "600.00", "0.00", "600.00", "0.00")]
    story.given(record_refund_result(refund_id="F-2"))
    story.then_view("return/R-1", status="refunded")
    assert work(story) == []


def test_a_part_of_what_was_paid_may_come_back() -> None:
    story = asked(payments=TWO)
    story.given(record_refund_result("p-1"), record_refund_result("p-2"))

    story.when(record_refund_result("p-1", "failed", amount="150.00", reference="re-p-1")).then("RefundReversed")

    assert ledger(story) == [("p-1", "500.00", "350.00", "0.00", "150.00"), ("p-2", "100.00", "100.00", "0.00", "0.00")]
    story.when(request_refund("F-2")).then_accepted()
    story.then_view("refund/F-2", total="150.00", settled_before="450.00")


def test_a_success_after_a_failure_settles_it_and_nothing_more_may_be_asked_for() -> None:
    story = asked()
    story.given(record_refund_result(result="failed"))
    assert work(story) == [("request_refund", "R-1")]

    story.when(record_refund_result(reference="re-1")).then("RefundSettled", "Refunded")

    story.then_view("return/R-1", status="refunded")
    assert work(story) == []
    story.when(request_refund("F-2")).then_error("transition.not_allowed")


def test_a_success_after_another_refund_was_asked_for_is_an_exception_that_names_the_overpayment() -> None:
    story = asked()
    story.given(record_refund_result(result="failed"), request_refund("F-2"))

    story.when(record_refund_result(reference="re-1")).then("RefundSettled", "Refunded", "ExceptionRaised")

    assert last_reasons(story) == [
        "1200.00 USD went back or are on their way for return R-1 (refunds F-1 and F-2), but 600.00 are owed: "
        "600.00 too much",
        "of payment p-1 600.00 USD were captured, but 1200.00 went back or are on their way",
    ]
    assert ledger(story) == [("p-1", "600.00", "600.00", "600.00", "-600.00")]
    assert work(story) == [("exception", "R-1")]

    story.given(record_refund_result(result="failed", refund_id="F-2"))
    assert ledger(story) == [("p-1", "600.00", "600.00", "0.00", "0.00")]
    story.then_view("return/R-1", status="refunded")
    assert work(story) == [("exception", "R-1")]
    story.when(request_refund("F-3")).then_error("transition.not_allowed")
    assert story.error is not None
    assert "refund F-1 of return R-1 is refunded; allowed now: record_refund_result" in str(story.error)


@pytest.mark.parametrize("result", ["succeeded", "failed"])
def test_the_same_answer_told_twice_is_accepted_and_appends_nothing(result: str) -> None:
    story = asked()
    story.given(record_refund_result(result=result, reference="re-1"))
    before = story.services.store.head()

    for again in (
        {},
        {"command_id": "c-1"},
        {"command_id": "c-1"},
        {"amount": "600.00"},
        {"settled_at": "2026-03-10 12:00"},
    ):
        story.when(record_refund_result(result=result, reference="re-1", **again)).then_accepted()

    assert story.services.store.head() == before


def test_an_answer_with_another_reference_to_a_settled_tender_is_another_answer() -> None:
    story = asked()
    story.given(record_refund_result(reference="re-1"))

    story.when(record_refund_result(reference="re-2")).then("RefundSettled", "ExceptionRaised")

    assert ledger(story) == [("p-1", "600.00", "600.00", "0.00", "0.00")]
    assert last_reasons(story) == [
        "payment p-1 of refund F-1 was paid already, and now again without an amount (reference re-2)"
    ]


@pytest.mark.parametrize(
    ("last", "held", "books"),
    [
        ("failed", "failed at 2026-03-14T04:00:00Z", ("p-1", "600.00", "0.00", "0.00", "600.00")),
        ("succeeded", "succeeded at 2026-03-14T04:00:00Z", ("p-1", "600.00", "600.00", "0.00", "0.00")),
    ],
)
def test_what_was_settled_last_holds_whichever_answer_is_learnt_first(
    last: str, held: str, books: tuple[str, ...]
) -> None:
    first = {"failed": "succeeded", "succeeded": "failed"}[last]
    answers = [
        record_refund_result(result=result, settled_at=at, reference="re-1", amount="600.00", at="2026-03-16")
        for result, at in ((first, "2026-03-11"), (last, "2026-03-14"))
    ]
    in_order, reversed_ = asked(), asked()
    in_order.given(*answers)

    reversed_.given(answers[1]).when(answers[0])

    assert ledger(in_order) == ledger(reversed_) == [books]
    assert last_reasons(in_order) == []
    assert last_reasons(reversed_) == [
        f"600.00 USD of refund F-1 {first} for payment p-1 at 2026-03-11T04:00:00Z, but {held}: the later answer holds"
    ]
    statuses = {story.ask("refund/F-1")["status"] for story in (in_order, reversed_)}
    assert statuses == {"failed" if last == "failed" else "refunded"}
    assert [work(reversed_), work(in_order)] == (
        [[("exception", "R-1"), ("request_refund", "R-1")], [("request_refund", "R-1")]]
        if last == "failed"
        else [[("exception", "R-1")], []]
    )


def test_an_answer_that_was_taken_back_before_it_was_learnt_leaves_the_rest_of_its_tender_pending() -> None:
    story = asked()
    story.given(record_refund_result(reference="re-1", amount="100.00", settled_at="2026-03-14", at="2026-03-16"))

    told = record_refund_result(result="failed", reference="re-1", amount="100.00", settled_at="2026-03-12")
    story.when(told).then("RefundFailed", "ExceptionRaised")

    assert ledger(story) == [("p-1", "600.00", "100.00", "500.00", "0.00")]


def test_a_refusal_from_before_the_payment_sends_nothing_back() -> None:
    story = asked()
    story.given(record_refund_result(reference="re-1", amount="600.00", settled_at="2026-03-14", at="2026-03-16"))

    told = record_refund_result(result="failed", amount="600.00", settled_at="2026-03-12")
    story.when(told).then("RefundFailed", "ExceptionRaised")

    assert ledger(story) == [("p-1", "600.00", "600.00", "0.00", "0.00")]
    assert last_reasons(story) == ["600.00 USD of refund F-1 failed for payment p-1, but only 0.00 of it was open"]


def test_an_answer_without_a_reference_takes_nothing_back_and_the_contradiction_is_an_exception() -> None:
    story = asked()
    story.given(record_refund_result(result="failed", amount="600.00", settled_at="2026-03-14", at="2026-03-16"))

    story.when(record_refund_result(amount="600.00", settled_at="2026-03-11")).then(
        "RefundSettled", "Refunded", "ExceptionRaised"
    )
    assert last_reasons(story) == [
        "600.00 USD of refund F-1 succeeded for payment p-1 at 2026-03-11T04:00:00Z, but it failed at "
        "2026-03-14T04:00:00Z: it counts as paid"
    ]

    assert ledger(story) == [("p-1", "600.00", "600.00", "0.00", "0.00")]


# ---- several tenders ---------------------------------------------------------------------------------------------------


def test_what_failed_is_asked_for_at_once_while_another_tender_is_silent() -> None:
    story = asked(payments=TWO)
    story.given(record_refund_result("p-1", "failed", at="2026-03-11 12:00"))

    assert work(story) == [("request_refund", "R-1")]
    story.when(request_refund("F-2")).then_accepted()

    story.then_view("refund/F-2", total="500.00", settled_before="100.00")
    assert ledger(story) == [("p-1", "500.00", "0.00", "500.00", "0.00"), ("p-2", "100.00", "0.00", "100.00", "0.00")]
    story.given(record_refund_result("p-1", refund_id="F-2"), record_refund_result("p-2", "failed"))
    story.then_view("return/R-1", status="refund_failed")
    story.when(request_refund("F-3")).then_accepted()
    story.then_view("refund/F-3", total="100.00", settled_before="500.00")


def test_an_answer_for_an_unknown_payment_counts_for_what_is_open_and_raises_an_exception() -> None:
    story = asked(payments=TWO)
    story.given(record_refund_result("p-2"))

    story.when(record_refund_result("wire-1", reference="SEPA-1")).then("RefundSettled", "Refunded", "ExceptionRaised")

    assert last_reasons(story) == ["refund F-1 pays nothing to payment wire-1; 500.00 USD were counted for payment p-1"]
    assert ledger(story) == [("p-1", "500.00", "500.00", "0.00", "0.00"), ("p-2", "100.00", "100.00", "0.00", "0.00")]

    story.when(record_refund_result("wire-1", "failed", reference="SEPA-1")).then("RefundReversed")
    assert ledger(story)[0] == ("p-1", "500.00", "0.00", "0.00", "500.00")


def test_an_answer_from_before_the_request_is_recorded_with_an_exception() -> None:
    story = asked()

    story.when(record_refund_result(settled_at="2026-03-10 11:59")).then("RefundSettled", "Refunded", "ExceptionRaised")

    assert last_reasons(story) == [
        "refund F-1 was answered at 2026-03-10T15:59:00Z, before it was asked for at 2026-03-10T16:00:00Z"
    ]


def test_a_refund_of_nothing_settles_itself() -> None:
    story = given(
        an_order(price="0.00", delivered="2026-03-05 14:00"),
        a_return(requested="2026-03-06 10:00", received="2026-03-10 10:00", inspected="2026-03-10 11:00"),
    )

    story.when(request_refund(at=ASKED_AT)).then("RefundRequested", "Refunded")

    story.then_view("refund/F-1", status="refunded", total="0.00", tenders=[])
    story.then_view("return/R-1", status="refunded")
    assert work(story, as_of="2026-05-01T00:00:00Z") == []


def test_a_tender_that_failed_in_every_attempt_is_asked_for_once_beside_one_that_came_back() -> None:
    story = asked(payments=TWO)
    story.given(record_refund_result(payment_id="p-1", reference="re-1"))
    for attempt in ("F-1", "F-2", "F-3"):
        if attempt != "F-1":
            story.given(request_refund(attempt))
            story.then_view(f"refund/{attempt}", total="100.00")
        story.given(record_refund_result(refund_id=attempt, payment_id="p-2", result="failed"))

    story.given(record_refund_result(payment_id="p-1", result="failed", reference="re-1"))

    story.when(request_refund("F-4")).then_accepted()
    tenders = [(each["payment_id"], each["amount"]) for each in story.ask("refund/F-4")["tenders"]]
    assert tenders == [("p-1", "500.00"), ("p-2", "100.00")]


# ---- any answers -------------------------------------------------------------------------------------------------------

ANSWERS = st.tuples(
    st.sampled_from(["p-1", "p-2", "wire-1"]),
    st.sampled_from(["succeeded", "failed"]),
    st.sampled_from([None, "50.00", "100.00", "500.00"]),
    st.sampled_from([None, "re-1", "re-2"]),
)


@settings(max_examples=60, deadline=None)
@each(st.lists(ANSWERS | st.just("ask again"), min_size=1, max_size=8))
def test_after_any_answers_the_money_adds_up_and_nothing_owed_is_forgotten(answers: list[Any]) -> None:
    story = asked(payments=TWO)

    for nth, answer in enumerate(answers, start=2):
        if answer == "ask again":
            story.tell(request_refund(f"F-{nth}"))
            continue
        payment_id, result, amount, reference = answer
        asked_last = [*story.services.handler.case("A-1").refunds][-1]
        given_fields = {"amount": amount, "reference": reference, "reason": None}
        told = {name: value for name, value in given_fields.items() if value is not None}
        outcome = story.tell("record_refund_result", refund_id=asked_last, payment_id=payment_id, result=result, **told)
        assert outcome["outcome"] == "accepted"

    case = story.services.handler.case("A-1", fresh=True)
    rows = ledger(story)
    for _, captured, refunded, pending, remaining in rows:
        assert Decimal(captured) == Decimal(refunded) + Decimal(pending) + Decimal(remaining)
        assert Decimal(remaining) >= 0 or case.returns["R-1"].exceptions
    going = sum(Decimal(refunded) + Decimal(pending) for _, _, refunded, pending, _ in rows)
    assert (("request_refund", "R-1") in work(story)) == (going < 600)
    outcome = story.tell(request_refund("F-99"))
    assert outcome["outcome"] == ("accepted" if going < 600 else "error")

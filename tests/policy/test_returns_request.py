"""``returns.window``, ``.final_sale``, ``.account``, ``.portal``, ``.no_exchanges``: what a return request is judged by."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from kit import Story, ask_return, clause, code, failed, finding, policy_where, ship, types, verdicts, without

DELIVERED = "2026-03-05T14:00:00-05:00"


def shifted(instant: str, **delta: float) -> str:
    return (datetime.fromisoformat(instant) + timedelta(**delta)).isoformat()


@pytest.mark.parametrize(
    ("delivered_at", "return_before"),
    [
        pytest.param(DELIVERED, "2026-03-20T00:00:00-04:00", id="over the change to summer time"),
        pytest.param("2026-10-20T12:00:00-04:00", "2026-11-04T00:00:00-05:00", id="over the change to winter time"),
        pytest.param("2026-02-21T12:00:00-05:00", "2026-03-08T00:00:00-05:00", id="ends as the short day begins"),
        pytest.param("2026-02-22T12:00:00-05:00", "2026-03-09T00:00:00-04:00", id="last day is the short day"),
        pytest.param("2026-03-06T00:00:00-05:00", "2026-03-21T00:00:00-04:00", id="delivered in the first second"),
        pytest.param("2026-03-05T23:59:59-05:00", "2026-03-20T00:00:00-04:00", id="delivered in the last second"),
        pytest.param("2026-03-06T04:59:59+00:00", "2026-03-20T00:00:00-04:00", id="already the next day in UTC"),
        pytest.param("2026-12-20T12:00:00-05:00", "2027-01-04T00:00:00-05:00", id="over the year's end"),
        pytest.param("2024-02-15T12:00:00-05:00", "2024-03-01T00:00:00-05:00", id="last day is the leap day"),
    ],
)
def test_the_window_runs_through_the_end_of_day_fourteen(delivered_at: str, return_before: str) -> None:
    story = Story()
    shipped_at = shifted(delivered_at, days=-1)
    story.confirmed(at=shifted(delivered_at, days=-2))
    ship(story, "P-1", shipped_at)
    story.tell("record_delivery", delivered_at, order_id="A-1", parcel_id="P-1")

    (line,) = story.ask("eligibility", shifted(return_before, seconds=-1), order_id="A-1")["lines"]
    late = ask_return(story, return_before)

    assert line["return"]["allowed"]
    assert line["return"]["return_before"] == return_before
    assert clause(line["return"], "returns.window")["facts"]["margin_seconds"] == 1
    assert failed(late) == ["returns.window"]
    assert clause(late, "returns.window")["facts"]["deadline"] == return_before
    assert clause(late, "returns.window")["facts"]["margin_seconds"] == 0


def test_a_request_counts_when_it_was_made_although_it_is_learnt_late() -> None:
    story = Story()
    story.delivered()

    outcome = ask_return(story, "2026-03-23T09:00:00-04:00", requested_at="2026-03-19T23:59:59-04:00")

    assert types(outcome) == ["ReturnRequested", "ReturnAuthorized"]
    assert verdicts(outcome) == {
        "returns.window": "pass",
        "returns.final_sale": "pass",
        "returns.account": "pass",
        "returns.portal": "pass",
        "returns.no_exchanges": "pass",
    }


@pytest.mark.parametrize("shipped", [False, True], ids=["not shipped", "shipped"])
def test_without_a_delivery_on_record_the_window_has_not_started(shipped: bool) -> None:
    story = Story()
    story.confirmed()
    if shipped:
        ship(story, "P-1", "2026-03-03T09:00:00-05:00")

    outcome = ask_return(story, "2026-03-04T09:00:00-05:00")

    assert types(outcome) == ["ReturnRequested", "ReturnDeclined"]
    assert failed(outcome) == ["returns.window"]
    assert "delivery on record" in clause(outcome, "returns.window")["because"]


def test_a_request_dated_before_the_delivery_came_before_the_window() -> None:
    story = Story()
    story.delivered()

    outcome = ask_return(story, "2026-03-06T09:00:00-05:00", requested_at="2026-03-05T13:59:59-05:00")

    assert failed(outcome) == ["returns.window"]


def test_a_delivery_learnt_late_starts_the_window_on_the_day_it_happened() -> None:
    story = Story()
    story.confirmed()
    ship(story, "P-1", "2026-03-03T09:00:00-05:00")
    story.tell("record_delivery", "2026-03-20T09:00:00-04:00", order_id="A-1", parcel_id="P-1", delivered_at=DELIVERED)

    outcome = ask_return(story, "2026-03-20T10:00:00-04:00")

    assert failed(outcome) == ["returns.window"]


def test_units_bought_but_not_delivered_fail_the_window_and_are_no_exceeded_quantity() -> None:
    story = Story()
    story.confirmed(quantity=3)
    ship(story, "P-1", "2026-03-03T09:00:00-05:00", {"1": 2})
    story.tell("record_delivery", DELIVERED, order_id="A-1", parcel_id="P-1")

    four = ask_return(story, "2026-03-09T12:00:00-04:00", 4)
    three = ask_return(story, "2026-03-09T12:00:00-04:00", 3, return_id="R-2")
    two = ask_return(story, "2026-03-09T12:00:00-04:00", 2, return_id="R-3")

    assert failed(three) == ["returns.window"]
    assert code(four) == "quantity.exceeded"
    assert two["outcome"] == "accepted"


def in_two_parcels() -> Story:
    """Two units of one line: P-1 delivered on 5 March, P-2 on 12 March."""
    story = Story()
    story.confirmed(quantity=2)
    ship(story, "P-1", "2026-03-03T09:00:00-05:00", {"1": 1})
    ship(story, "P-2", "2026-03-04T09:00:00-05:00", {"1": 1})
    story.tell("record_delivery", DELIVERED, order_id="A-1", parcel_id="P-1")
    story.tell("record_delivery", "2026-03-12T14:00:00-04:00", order_id="A-1", parcel_id="P-2")
    return story


def test_each_parcel_has_its_own_window_and_a_request_takes_the_latest_deadline_first() -> None:
    story = in_two_parcels()
    at = "2026-03-21T12:00:00-04:00"

    (line,) = story.ask("order", at, order_id="A-1")["lines"]
    both = ask_return(story, at, 2)
    one = ask_return(story, at, 1, return_id="R-2")
    other = ask_return(story, at, 1, return_id="R-3")

    assert line["return_before"] == "2026-03-27T00:00:00-04:00"
    assert failed(both) == ["returns.window"]
    assert one["outcome"] == "accepted"
    assert failed(other) == ["returns.window"]


def test_the_facts_hold_the_tightest_deadline_of_a_request_over_several_parcels() -> None:
    story = in_two_parcels()

    outcome = ask_return(story, "2026-03-19T23:59:59-04:00", 2)

    assert outcome["outcome"] == "accepted"
    facts = clause(outcome, "returns.window")["facts"]
    assert (facts["deadline"], facts["margin_seconds"]) == ("2026-03-20T00:00:00-04:00", 1)


def test_one_failing_line_declines_the_whole_request_and_is_named() -> None:
    story = Story()
    lines = [
        {"line_id": "bag", "sku": "B", "unit_price": "900.00", "quantity": 1, "final_sale": True},
        {"line_id": "belt", "sku": "C", "unit_price": "100.00", "quantity": 1},
    ]
    story.delivered(lines=lines)

    both = ask_return(story, "2026-03-09T12:00:00-04:00", {"belt": 1, "bag": 1})
    belt = ask_return(story, "2026-03-09T12:00:00-04:00", {"belt": 1}, return_id="R-2")

    assert types(both) == ["ReturnRequested", "ReturnDeclined"]
    assert failed(both) == ["returns.final_sale"]
    because = clause(both, "returns.final_sale")["because"]
    assert "bag" in because
    assert "belt" not in because
    assert belt["outcome"] == "accepted"
    assert story.ask("order", order_id="A-1")["returns"] == ["R-1", "R-2"]


def test_a_ruling_lists_every_clause_passed_or_failed() -> None:
    story = Story()
    story.delivered(final_sale=True, account_id=None)

    outcome = ask_return(story, "2026-03-20T00:00:00-04:00", channel="email", resolution="exchange")

    assert verdicts(outcome) == {
        "returns.window": "fail",
        "returns.final_sale": "fail",
        "returns.account": "fail",
        "returns.portal": "fail",
        "returns.no_exchanges": "fail",
    }
    assert outcome["ruling"]["allowed"] is False
    assert all(finding["quote"] and finding["because"] for finding in outcome["ruling"]["clauses"])


@pytest.mark.parametrize(
    ("linked_at", "expected"),
    [("2026-03-09T11:59:59-04:00", []), ("2026-03-09T12:00:00-04:00", []), ("2026-03-09T12:00:01-04:00", None)],
    ids=["a second before", "at the same instant", "a second after"],
)
def test_the_customer_must_have_an_account_when_the_return_is_requested(linked_at: str, expected: list | None) -> None:
    story = Story()
    story.delivered(account_id=None)
    linked = story.tell("link_account", linked_at, order_id="A-1", account_id="acc-9")

    outcome = ask_return(story, "2026-03-09T13:00:00-04:00", requested_at="2026-03-09T12:00:00-04:00")

    assert types(linked) == ["AccountLinked"]
    assert failed(outcome) == (["returns.account"] if expected is None else expected)


def test_creating_an_account_never_extends_the_window() -> None:
    story = Story()
    story.delivered(account_id=None)
    first = ask_return(story, "2026-03-19T23:00:00-04:00")
    story.tell("link_account", "2026-03-20T00:00:00-04:00", order_id="A-1", account_id="acc-9")

    again = ask_return(story, "2026-03-20T00:00:00-04:00", return_id="R-2")

    assert failed(first) == ["returns.account"]
    assert failed(again) == ["returns.window"]


def test_a_declined_return_keeps_its_id_and_holds_no_units() -> None:
    story = Story()
    story.delivered()
    ask_return(story, "2026-03-09T12:00:00-04:00", channel="phone")

    same = ask_return(story, "2026-03-09T12:00:00-04:00")
    new = ask_return(story, "2026-03-09T12:00:00-04:00", return_id="R-2")

    assert code(same) == "return.exists"
    assert new["outcome"] == "accepted"
    assert story.ask("return", return_id="R-1")["status"] == "declined"


def test_units_in_an_open_return_are_taken_and_free_again_after_withdrawal() -> None:
    story = Story()
    story.authorized(quantity=3, return_quantity=2)
    too_many = ask_return(story, "2026-03-09T13:00:00-04:00", 2, return_id="R-2")
    rest = ask_return(story, "2026-03-09T13:00:00-04:00", 1, return_id="R-3")

    withdrawn = story.tell("withdraw_return", return_id="R-1")
    again = ask_return(story, "2026-03-09T13:00:00-04:00", 2, return_id="R-4")

    assert code(too_many) == "quantity.exceeded"
    assert rest["outcome"] == "accepted"
    assert types(withdrawn) == ["ReturnWithdrawn"]
    assert again["outcome"] == "accepted"


def test_units_sent_back_are_free_again_where_the_window_allows() -> None:
    story = Story()
    story.inspected(good=False)
    taken = ask_return(story, "2026-03-17T10:00:00-04:00", return_id="R-2")
    story.tell("record_send_back", return_id="R-1", lines=[{"line_id": "1", "quantity": 1}])

    in_time = ask_return(story, "2026-03-19T23:59:59-04:00", return_id="R-3")
    story.tell("withdraw_return", return_id="R-3")
    late = ask_return(story, "2026-03-20T00:00:00-04:00", return_id="R-4")

    assert code(taken) == "quantity.exceeded"
    assert in_time["outcome"] == "accepted"
    assert failed(late) == ["returns.window"]


def test_lost_and_refunded_units_are_not_free() -> None:
    story = Story()
    story.labelled(quantity=2)
    story.tell("record_return_shipment", "2026-03-10T16:00:00-04:00", return_id="R-1", label_id="L-1")
    story.tell("report_return_lost", "2026-03-12T16:00:00-04:00", return_id="R-1")
    lost = ask_return(story, "2026-03-12T17:00:00-04:00", 2, return_id="R-2")
    story.tell("receive_return", return_id="R-1")
    story.tell("inspect_return", return_id="R-1", findings=[finding()])
    story.tell("request_refund", refund_id="F-1", return_id="R-1")
    story.tell("record_refund_result", refund_id="F-1", payment_id="p-1", result="succeeded")

    refunded = ask_return(story, "2026-03-12T18:00:00-04:00", 2, return_id="R-3")
    other = ask_return(story, "2026-03-12T18:00:00-04:00", 1, return_id="R-4")

    assert code(lost) == "quantity.exceeded"
    assert code(refunded) == "quantity.exceeded"
    assert other["outcome"] == "accepted"


def test_another_policy_counts_the_window_in_business_days() -> None:
    story = Story(policy=policy_where(('counting = "calendar"', 'counting = "business"')))
    story.delivered()

    last = story.ask("eligibility", "2026-03-25T23:59:59-04:00", order_id="A-1")["lines"][0]["return"]
    late = ask_return(story, "2026-03-26T00:00:00-04:00")

    assert last["allowed"]
    assert failed(late) == ["returns.window"]


def test_another_policy_asks_for_no_account() -> None:
    story = Story(policy=policy_where(("required = true", "required = false")))
    story.delivered(account_id=None)

    outcome = ask_return(story, "2026-03-09T12:00:00-04:00")

    assert outcome["outcome"] == "accepted"
    assert verdicts(outcome)["returns.account"] == "not_applicable"


@pytest.mark.parametrize(
    ("clause_id", "fields", "order"),
    [
        ("returns.final_sale", {}, {"final_sale": True}),
        ("returns.account", {}, {"account_id": None}),
        ("returns.portal", {"channel": "phone"}, {}),
        ("returns.no_exchanges", {"resolution": "exchange"}, {}),
        ("returns.window", {"requested_at": "2026-03-05T13:00:00-05:00"}, {}),
    ],
)
def test_a_merchant_without_a_clause_declines_nothing_by_it(clause_id: str, fields: dict, order: dict) -> None:
    story = Story(policy=without(clause_id))
    story.delivered(**order)

    outcome = ask_return(story, "2026-03-09T12:00:00-04:00", **fields)

    assert types(outcome) == ["ReturnRequested", "ReturnAuthorized"]
    assert verdicts(outcome)[clause_id] == "not_applicable"

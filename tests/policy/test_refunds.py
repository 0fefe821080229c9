"""What goes back, to the cent and to which payment: fee, tax, tenders, results and the time it may take."""

from __future__ import annotations

import pytest
from kit import Story, brought_back, clause, code, failed, finding, issue, policy_where, ship, types, verdicts, without


def delivered(policy: object = None, **order: object) -> Story:
    story = Story(policy=policy)  # type: ignore[arg-type]
    story.delivered(**order)
    story.at = "2026-03-09T12:00:00-04:00"
    return story


def line(line_id: str, price: str, quantity: int = 1, tax: str = "0.00") -> dict:
    return {"line_id": line_id, "sku": line_id, "unit_price": price, "quantity": quantity, "tax": tax}


def tenders(refund: dict) -> list[tuple[str, str, str]]:
    return [(tender["payment_id"], tender["amount"], tender["status"]) for tender in refund["tenders"]]


def asked(story: Story, refund_id: str = "F-1", **subject: str) -> dict:
    outcome = story.tell("request_refund", refund_id=refund_id, **(subject or {"return_id": "R-1"}))
    assert outcome["outcome"] == "accepted", outcome
    return dict(story.ask("refund", refund_id=refund_id))


# ---- the label fee ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "quantity", "fee", "total"),
    [
        pytest.param("500.00", 1, None, "500.00", id="exactly the threshold"),
        pytest.param("499.99", 1, "20.00", "479.99", id="a cent below"),
        pytest.param("300.00", 2, "20.00", "580.00", id="two of 300 are below, one label"),
        pytest.param("20.00", 1, "20.00", "0.00", id="the fee takes all"),
        pytest.param("19.99", 1, "19.99", "0.00", id="never below zero"),
        pytest.param("0.00", 1, None, "0.00", id="nothing to take it from"),
    ],
)
def test_the_fee_falls_on_units_below_the_threshold(price: str, quantity: int, fee: str | None, total: str) -> None:
    story = delivered(price=price, quantity=quantity)
    brought_back(story, {"1": quantity})

    due = story.ask("refund", return_id="R-1")
    refund = asked(story)

    assert [(d["clause"], d["amount"]) for d in refund["deductions"]] == ([("returns.label_fee", fee)] if fee else [])
    assert refund["total"] == total
    assert (due["status"], due["total"], due["deductions"]) == ("due", total, refund["deductions"])


def test_the_fee_is_capped_at_the_price_and_never_eats_the_tax() -> None:
    story = delivered(price="15.00", tax="1.33")
    brought_back(story, {"1": 1})

    refund = asked(story)

    assert (refund["merchandise"], refund["tax"], refund["total"]) == ("15.00", "1.33", "1.33")
    assert refund["deductions"][0]["amount"] == "15.00"
    assert refund["items"] == [
        {"line_id": "1", "quantity": 1, "merchandise": "15.00", "tax": "1.33", "deducted": "15.00"}
    ]


def test_the_fee_comes_out_of_the_units_below_the_threshold_only() -> None:
    story = delivered(lines=[line("bag", "900.00"), line("pin", "12.00")])
    brought_back(story, {"bag": 1, "pin": 1})

    refund = asked(story)

    assert refund["deductions"][0]["amount"] == "12.00"
    assert [(item["line_id"], item["deducted"]) for item in refund["items"]] == [("bag", "0.00"), ("pin", "12.00")]
    assert refund["total"] == "900.00"
    assert "pin" in refund["deductions"][0]["because"]
    assert "bag" not in refund["deductions"][0]["because"]


def test_a_rejected_unit_below_the_threshold_brings_no_fee() -> None:
    story = delivered(lines=[line("bag", "900.00"), line("pin", "12.00")])
    brought_back(story, {"bag": 1, "pin": 1}, pin=1)

    refund = asked(story)

    assert (refund["deductions"], refund["total"]) == ([], "900.00")


def test_a_unit_at_the_threshold_pays_no_fee_although_outbound_shipping_was_charged() -> None:
    story = delivered(price="500.00", shipping={"charged": "25.00", "tax": "2.22"})
    brought_back(story, {"1": 1})

    refund = asked(story)

    assert (refund["deductions"], refund["shipping"], refund["total"]) == ([], "0.00", "500.00")


def test_the_customers_own_label_costs_nothing() -> None:
    story = delivered(price="100.00")
    brought_back(story, {"1": 1}, own_label=True)

    refund = asked(story)

    assert (refund["deductions"], refund["total"]) == ([], "100.00")


def test_a_prepaid_label_that_was_not_used_costs_nothing() -> None:
    story = Story()
    story.labelled(price="100.00")
    story.tell("record_return_shipment", "2026-03-10T09:00:00-04:00", return_id="R-1")
    story.tell("receive_return", return_id="R-1")
    story.tell("inspect_return", return_id="R-1", findings=[finding()])

    refund = asked(story)

    assert refund["deductions"] == []


def test_a_label_voided_by_hand_costs_nothing_and_its_replacement_once() -> None:
    story = Story()
    story.labelled(price="100.00")
    story.tell("void_label", return_id="R-1", label_id="L-1", reason="torn")
    issue(story, "L-2")
    story.tell("record_return_shipment", "2026-03-10T09:00:00-04:00", return_id="R-1", label_id="L-2")
    story.tell("receive_return", return_id="R-1")
    story.tell("inspect_return", return_id="R-1", findings=[finding()])

    refund = asked(story)

    assert [d["amount"] for d in refund["deductions"]] == ["20.00"]


def test_a_label_received_without_a_scan_was_used() -> None:
    story = Story()
    story.labelled(price="100.00")
    story.tell("receive_return", "2026-03-11T09:00:00-04:00", return_id="R-1")
    story.tell("inspect_return", return_id="R-1", findings=[finding()])

    refund = asked(story)

    assert [d["amount"] for d in refund["deductions"]] == ["20.00"]


def test_each_return_pays_for_its_own_label() -> None:
    story = delivered(price="100.00", quantity=2)
    brought_back(story, {"1": 1}, "R-1")
    brought_back(story, {"1": 1}, "R-2")

    totals = [asked(story)["total"], asked(story, "F-2", return_id="R-2")["total"]]

    assert totals == ["80.00", "80.00"]


# ---- tax, to the cent -------------------------------------------------------------------------------------------------


def test_the_tax_of_a_line_spreads_over_its_units_by_largest_remainder() -> None:
    story = delivered(price="600.00", quantity=3, tax="1.00")
    taxes = []
    for number in "123":
        brought_back(story, {"1": 1}, f"R-{number}")
        taxes.append(asked(story, f"F-{number}", return_id=f"R-{number}")["tax"])

    assert taxes == ["0.34", "0.33", "0.33"]


def test_two_of_three_units_take_the_tax_of_two() -> None:
    story = delivered(price="600.00", quantity=3, tax="0.05")
    brought_back(story, {"1": 2}, "R-1")
    brought_back(story, {"1": 1}, "R-2")

    taxes = [asked(story)["tax"], asked(story, "F-2", return_id="R-2")["tax"]]

    assert taxes == ["0.04", "0.01"]


# ---- tenders ----------------------------------------------------------------------------------------------------------

THIRDS = [
    {"payment_id": "a", "method": "card", "amount": "500.00"},
    {"payment_id": "b", "method": "card", "amount": "500.00"},
    {"payment_id": "c", "method": "gift_card", "amount": "500.00"},
]


def test_ties_in_the_largest_remainder_go_to_the_earlier_payment() -> None:
    story = delivered(lines=[line("x", "700.00"), line("y", "800.00")], payments=THIRDS)
    brought_back(story, {"x": 1})

    refund = asked(story)

    assert tenders(refund) == [("a", "233.34", "requested"), ("b", "233.33", "requested"), ("c", "233.33", "requested")]


def test_a_second_refund_is_split_over_what_remains_and_all_adds_up() -> None:
    story = delivered(lines=[line("x", "700.00"), line("y", "800.00")], payments=THIRDS)
    brought_back(story, {"x": 1}, "R-1")
    brought_back(story, {"y": 1}, "R-2")
    asked(story)

    second = asked(story, "F-2", return_id="R-2")

    assert [tender[1] for tender in tenders(second)] == ["266.66", "266.67", "266.67"]


def test_a_split_is_in_proportion_to_the_payments() -> None:
    payments = [
        {"payment_id": "gift", "method": "gift_card", "amount": "299.99"},
        {"payment_id": "card", "method": "card", "amount": "200.00"},
    ]
    story = delivered(price="499.99", payments=payments)
    brought_back(story, {"1": 1})

    refund = asked(story)

    # 479.99 × 299.99 / 499.99 = 287.990…, 479.99 × 200 / 499.99 = 191.999…
    assert [tender[:2] for tender in tenders(refund)] == [("gift", "287.99"), ("card", "192.00")]


def test_another_policy_pays_back_in_the_order_of_the_payments() -> None:
    book = policy_where(('allocation = "pro_rata"', 'allocation = "in_order"'))
    story = delivered(book, lines=[line("x", "700.00"), line("y", "800.00")], payments=THIRDS)
    brought_back(story, {"x": 1}, "R-1")
    brought_back(story, {"y": 1}, "R-2")

    first, second = asked(story), asked(story, "F-2", return_id="R-2")

    assert [tender[:2] for tender in tenders(first)] == [("a", "500.00"), ("b", "200.00")]
    assert [tender[:2] for tender in tenders(second)] == [("b", "300.00"), ("c", "500.00")]


# ---- results ----------------------------------------------------------------------------------------------------------


def two_tenders() -> Story:
    payments = [
        {"payment_id": "a", "method": "card", "amount": "500.00"},
        {"payment_id": "b", "method": "card", "amount": "250.00"},
    ]
    story = delivered(payments=payments)
    brought_back(story, {"1": 1})
    asked(story)
    return story


def answer(story: Story, payment_id: str, result: str, refund_id: str = "F-1") -> dict:
    return story.tell("record_refund_result", refund_id=refund_id, payment_id=payment_id, result=result, reference="re")


def test_a_refund_is_done_when_every_tender_is_settled() -> None:
    story = two_tenders()

    first = answer(story, "b", "succeeded")
    between = story.ask("refund", refund_id="F-1")
    second = answer(story, "a", "succeeded")

    assert types(first) == ["RefundSettled"]
    assert (between["status"], tenders(between)) == (
        "requested",
        [("a", "500.00", "requested"), ("b", "250.00", "settled")],
    )
    assert types(second) == ["RefundSettled", "Refunded"]
    assert story.ask("return", return_id="R-1")["status"] == "refunded"
    assert story.ask("refund", return_id="R-1")["tenders"][0]["reference"] == "re"


def test_a_failed_refund_may_be_requested_again_for_what_is_not_settled() -> None:
    story = two_tenders()
    answer(story, "a", "succeeded")
    failure = answer(story, "b", "failed")
    broken = story.ask("refund", refund_id="F-1")
    work = story.ask("worklist", kinds=["request_refund"])["items"]

    same = story.tell("request_refund", refund_id="F-1", return_id="R-1")
    again = asked(story, "F-2")
    done = answer(story, "b", "succeeded", "F-2")

    assert types(failure) == ["RefundFailed"]
    assert broken["status"] == "failed"
    assert [item["subject"]["id"] for item in work] == ["R-1"]
    assert code(same) == "refund.exists"
    assert (again["total"], tenders(again)) == ("250.00", [("b", "250.00", "requested")])
    assert types(done) == ["RefundSettled", "Refunded"]
    assert story.ask("return", return_id="R-1")["refund_id"] == "F-2"
    assert story.ask("return", return_id="R-1")["status"] == "refunded"


def test_an_open_or_settled_refund_may_not_be_requested_again() -> None:
    story = two_tenders()
    opened = story.tell("request_refund", refund_id="F-2", return_id="R-1")
    answer(story, "a", "failed")
    half = story.tell("request_refund", refund_id="F-2", return_id="R-1")
    answer(story, "b", "failed")
    asked(story, "F-2")
    answer(story, "a", "succeeded", "F-2")
    answer(story, "b", "succeeded", "F-2")

    settled = story.tell("request_refund", refund_id="F-3", return_id="R-1")

    assert [code(opened), code(half), code(settled)] == ["transition.not_allowed"] * 3


def test_a_tender_is_answered_once() -> None:
    story = two_tenders()
    answer(story, "a", "failed")

    again = answer(story, "a", "succeeded")

    assert code(again) == "transition.not_allowed"


def test_a_second_attempt_counts_as_settled_only_what_was_settled() -> None:
    story = delivered(price="300.00")
    brought_back(story, {"1": 1})
    asked(story)
    answer(story, "p-1", "failed")
    story.tell(
        "override", subject={"kind": "return", "id": "R-1"}, clause="returns.label_fee", reason="x", approved_by="kim"
    )

    again = asked(story, "F-2")

    assert again["total"] == "300.00"


# ---- when -------------------------------------------------------------------------------------------------------------


def test_nothing_is_refunded_before_inspection_and_a_declined_refund_takes_no_id() -> None:
    story = Story()
    story.labelled()
    due = story.ask("refund", return_id="R-1")

    before = story.tell("request_refund", refund_id="F-1", return_id="R-1")
    story.tell("receive_return", "2026-03-10T09:00:00-04:00", return_id="R-1")
    docked = story.tell("request_refund", refund_id="F-1", return_id="R-1")
    story.tell("inspect_return", return_id="R-1", findings=[finding()])
    after = story.tell("request_refund", refund_id="F-1", return_id="R-1")

    assert (due["status"], due["total"]) == ("due", "0.00")
    assert types(before) == types(docked) == ["RefundDeclined"]
    assert failed(before) == failed(docked) == ["returns.refund_after_inspection"]
    assert types(after) == ["RefundRequested"]


@pytest.mark.parametrize(
    ("issued_at", "expected", "overdue_from"),
    [
        ("2026-03-16T10:05:00-04:00", ["2026-03-30", "2026-04-06"], "2026-04-07T00:00:00-04:00"),
        ("2026-03-14T10:05:00-04:00", ["2026-03-27", "2026-04-03"], "2026-04-04T00:00:00-04:00"),
        ("2026-11-12T12:00:00-05:00", ["2026-11-27", "2026-12-04"], "2026-12-05T00:00:00-05:00"),
        ("2021-12-17T12:00:00-05:00", ["2022-01-04", "2022-01-11"], "2022-01-12T00:00:00-05:00"),
    ],
    ids=["Monday", "Saturday", "over Thanksgiving", "over Christmas and New Year as observed"],
)
def test_a_refund_is_expected_between_day_10_and_15_and_then_overdue(
    issued_at: str, expected: list[str], overdue_from: str
) -> None:
    from datetime import datetime, timedelta

    start = datetime.fromisoformat(issued_at) - timedelta(days=2)
    story = Story()
    story.confirmed(at=start.isoformat())
    ship(story, "P-1", start.isoformat())
    story.tell("record_delivery", order_id="A-1", parcel_id="P-1")
    brought_back(story, {"1": 1})

    outcome = story.tell("request_refund", issued_at, refund_id="F-1", return_id="R-1")
    last = datetime.fromisoformat(overdue_from) - timedelta(seconds=1)

    assert outcome["outcome"] == "accepted"
    assert story.ask("refund", refund_id="F-1")["issued_at"] == issued_at
    assert story.ask("refund", refund_id="F-1")["expected_between"] == expected
    assert story.ask("refund", last.isoformat(), refund_id="F-1")["overdue"] is False
    assert story.ask("refund", overdue_from, refund_id="F-1")["overdue"] is True
    (item,) = story.ask("worklist", kinds=["refund_overdue"])["items"]
    assert item == {
        "kind": "refund_overdue",
        "subject": {"kind": "refund", "id": "F-1"},
        "due_at": overdue_from,
        "overdue": True,
    }


def test_a_settled_refund_is_never_overdue() -> None:
    story = delivered()
    brought_back(story, {"1": 1})
    asked(story)
    answer(story, "p-1", "succeeded")

    refund = story.ask("refund", "2026-12-01T09:00:00-05:00", refund_id="F-1")

    assert refund["overdue"] is False


def test_the_ruling_of_a_refund_weighs_every_clause_that_applies() -> None:
    story = delivered(price="300.00", shipping="20.00")
    brought_back(story, {"1": 1})

    outcome = story.tell("request_refund", refund_id="F-1", return_id="R-1")

    assert verdicts(outcome) == {
        "returns.refund_after_inspection": "pass",
        "returns.condition": "pass",
        "returns.label_fee": "pass",
        "returns.shipping_non_refundable": "pass",
        "returns.original_tender": "pass",
        "returns.refund_timing": "pass",
    }
    assert clause(outcome, "returns.refund_timing")["facts"]["deadline"] == "2026-03-31T00:00:00-04:00"


def test_a_merchant_without_the_fee_takes_none() -> None:
    story = delivered(without("returns.label_fee"), price="100.00")
    brought_back(story, {"1": 1})

    refund = asked(story)

    assert (refund["deductions"], refund["total"]) == ([], "100.00")


def test_another_policy_charges_another_fee_below_another_threshold() -> None:
    book = policy_where(("threshold = 500.00", "threshold = 100.00"), ("fee = 20.00", "fee = 7.50"))
    story = delivered(book, lines=[line("x", "100.00"), line("y", "99.99")])
    brought_back(story, {"x": 1, "y": 1})

    refund = asked(story)

    assert refund["deductions"][0]["amount"] == "7.50"
    assert [item["deducted"] for item in refund["items"]] == ["0.00", "7.50"]

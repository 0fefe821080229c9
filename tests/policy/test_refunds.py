"""What goes back, to the cent and to which payment: fee, tax, tenders, results and the time it may take."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from reading import clause, verdicts

from returnable.testing import (
    Steps,
    a_policy,
    a_return,
    an_order,
    given,
    inspect_return,
    issue_label,
    override,
    receive_return,
    record_refund_result,
    record_return_shipment,
    request_refund,
    void_label,
)

DELIVERED = "2026-03-05 14:00"
LABELLED = a_return(requested="2026-03-09 12:00", labelled="2026-03-09 12:30")
"""The return R-1, with label L-1 since Monday, 9 March."""


def inspected(units: dict[str, int] | int = 1, return_id: str = "R-1", **fields: Any) -> Steps:
    """A return that is asked for, handed over, received and inspected within a day."""
    label_id = f"L-{return_id}"
    return a_return(return_id, units, requested="2026-03-09 12:00", inspected=True, label_id=label_id, **fields)


def line(line_id: str, price: str, quantity: int = 1, tax: str = "0.00") -> dict[str, Any]:
    return {"line_id": line_id, "sku": line_id, "unit_price": price, "quantity": quantity, "tax": tax}


def payment(payment_id: str, amount: str, method: str = "card") -> dict[str, str]:
    return {"payment_id": payment_id, "method": method, "amount": amount}


def tender(payment_id: str, amount: str, status: str = "requested") -> dict[str, str]:
    """What a refund pays to one payment."""
    return {"payment_id": payment_id, "amount": amount, "status": status}


def label_fee(amount: str | None) -> list[dict[str, str]]:
    """The deductions of a refund from which only the label fee is taken, if any."""
    return [{"clause": "returns.label_fee", "amount": amount}] if amount else []


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
    story = given(an_order(price=price, quantity=quantity, delivered=DELIVERED), inspected(quantity))
    due = story.ask("refund", return_id="R-1")

    story.when(request_refund()).then_accepted()

    story.then_view("refund/F-1", deductions=label_fee(fee), total=total)
    assert (due["status"], due["total"], due["deductions"]) == ("due", total, story.ask("refund/F-1")["deductions"])


def test_the_fee_is_capped_at_the_price_and_never_eats_the_tax() -> None:
    story = given(an_order(price="15.00", tax="1.33", delivered=DELIVERED), inspected())

    story.when(request_refund()).then_accepted()

    story.then_view("refund/F-1", merchandise="15.00", tax="1.33", deductions=label_fee("15.00"), total="1.33")
    assert story.ask("refund/F-1")["items"] == [
        {"line_id": "1", "quantity": 1, "merchandise": "15.00", "tax": "1.33", "deducted": "15.00"}
    ]


def test_the_fee_comes_out_of_the_units_below_the_threshold_only() -> None:
    bag_and_pin = an_order(lines=[line("bag", "900.00"), line("pin", "12.00")], delivered=DELIVERED)
    story = given(bag_and_pin, inspected({"bag": 1, "pin": 1}))

    story.when(request_refund()).then_accepted()

    items = [{"line_id": "bag", "deducted": "0.00"}, {"line_id": "pin", "deducted": "12.00"}]
    story.then_view("refund/F-1", items=items, deductions=label_fee("12.00"), total="900.00")
    because = story.ask("refund/F-1")["deductions"][0]["because"]
    assert "pin" in because
    assert "bag" not in because


def test_a_rejected_unit_below_the_threshold_brings_no_fee() -> None:
    bag_and_pin = an_order(lines=[line("bag", "900.00"), line("pin", "12.00")], delivered=DELIVERED)
    story = given(bag_and_pin, inspected({"bag": 1, "pin": 1}, rejected={"pin": 1}))

    story.when(request_refund()).then_accepted()

    story.then_view("refund/F-1", deductions=[], total="900.00")


def test_a_unit_at_the_threshold_pays_no_fee_although_outbound_shipping_was_charged() -> None:
    shipping = {"charged": "25.00", "tax": "2.22"}
    story = given(an_order(price="500.00", shipping=shipping, delivered=DELIVERED), inspected())

    story.when(request_refund()).then_accepted()

    story.then_view("refund/F-1", deductions=[], shipping="0.00", total="500.00")


def test_the_customers_own_label_costs_nothing() -> None:
    story = given(an_order(price="100.00", delivered=DELIVERED), inspected(own_label=True))

    story.when(request_refund()).then_accepted()

    story.then_view("refund/F-1", deductions=[], total="100.00")


def test_a_prepaid_label_that_was_not_used_costs_nothing() -> None:
    story = given(
        an_order(price="100.00", delivered=DELIVERED),
        LABELLED,
        record_return_shipment(None, at="2026-03-10 09:00"),
        receive_return(),
        inspect_return(),
    )

    story.when(request_refund()).then_accepted()

    story.then_view("refund/F-1", deductions=[])


def test_a_label_voided_by_hand_costs_nothing_and_its_replacement_once() -> None:
    story = given(
        an_order(price="100.00", delivered=DELIVERED),
        LABELLED,
        void_label("L-1", reason="torn"),
        issue_label("L-2"),
        record_return_shipment("L-2", at="2026-03-10 09:00"),
        receive_return(),
        inspect_return(),
    )

    story.when(request_refund()).then_accepted()

    story.then_view("refund/F-1", deductions=label_fee("20.00"))


def test_a_label_received_without_a_scan_was_used() -> None:
    story = given(
        an_order(price="100.00", delivered=DELIVERED), LABELLED, receive_return(at="2026-03-11 09:00"), inspect_return()
    )

    story.when(request_refund()).then_accepted()

    story.then_view("refund/F-1", deductions=label_fee("20.00"))


def test_each_return_pays_for_its_own_label() -> None:
    two = an_order(price="100.00", quantity=2, delivered=DELIVERED)
    story = given(two, inspected(return_id="R-1"), inspected(return_id="R-2"))

    story.when(request_refund("F-1", return_id="R-1")).then_accepted()
    story.when(request_refund("F-2", return_id="R-2")).then_accepted()

    story.then_view("refund/F-1", total="80.00").then_view("refund/F-2", total="80.00")


# ---- tax, to the cent -------------------------------------------------------------------------------------------------


def test_the_tax_of_a_line_spreads_over_its_units_by_largest_remainder() -> None:
    story = given(an_order(price="600.00", quantity=3, tax="1.00", delivered=DELIVERED))

    for number in "123":
        story.given(inspected(return_id=f"R-{number}"))
        story.when(request_refund(f"F-{number}", return_id=f"R-{number}")).then_accepted()

    for number, tax in (("1", "0.34"), ("2", "0.33"), ("3", "0.33")):
        story.then_view(f"refund/F-{number}", tax=tax)


def test_two_of_three_units_take_the_tax_of_two() -> None:
    three = an_order(price="600.00", quantity=3, tax="0.05", delivered=DELIVERED)
    story = given(three, inspected(2, "R-1"), inspected(1, "R-2"))

    story.when(request_refund("F-1", return_id="R-1")).then_accepted()
    story.when(request_refund("F-2", return_id="R-2")).then_accepted()

    story.then_view("refund/F-1", tax="0.04").then_view("refund/F-2", tax="0.01")


# ---- tenders ----------------------------------------------------------------------------------------------------------

PAID_IN_THIRDS = an_order(
    lines=[line("x", "700.00"), line("y", "800.00")],
    payments=[payment("a", "500.00"), payment("b", "500.00"), payment("c", "500.00", "gift_card")],
    delivered=DELIVERED,
)
"""An order of two lines, paid by three payments of the same amount."""


def test_ties_in_the_largest_remainder_go_to_the_earlier_payment() -> None:
    story = given(PAID_IN_THIRDS, inspected({"x": 1}))

    story.when(request_refund()).then_accepted()

    story.then_view("refund/F-1", tenders=[tender("a", "233.34"), tender("b", "233.33"), tender("c", "233.33")])


def test_a_second_refund_is_split_over_what_remains_and_all_adds_up() -> None:
    story = given(PAID_IN_THIRDS, inspected({"x": 1}, "R-1"), inspected({"y": 1}, "R-2"), request_refund())

    story.when(request_refund("F-2", return_id="R-2")).then_accepted()

    story.then_view("refund/F-2", tenders=[tender("a", "266.66"), tender("b", "266.67"), tender("c", "266.67")])


def test_a_split_is_in_proportion_to_the_payments() -> None:
    payments = [payment("gift", "299.99", "gift_card"), payment("card", "200.00")]
    story = given(an_order(price="499.99", payments=payments, delivered=DELIVERED), inspected())

    story.when(request_refund()).then_accepted()

    # 479.99 × 299.99 / 499.99 = 287.990…, 479.99 × 200 / 499.99 = 191.999…
    story.then_view("refund/F-1", tenders=[tender("gift", "287.99"), tender("card", "192.00")])


def test_another_policy_pays_back_in_the_order_of_the_payments() -> None:
    in_order = a_policy({"returns.original_tender": {"allocation": "in_order"}})
    story = given(PAID_IN_THIRDS, inspected({"x": 1}, "R-1"), inspected({"y": 1}, "R-2"), policy=in_order)

    story.when(request_refund("F-1", return_id="R-1")).then_accepted()
    story.when(request_refund("F-2", return_id="R-2")).then_accepted()

    story.then_view("refund/F-1", tenders=[tender("a", "500.00"), tender("b", "200.00")])
    story.then_view("refund/F-2", tenders=[tender("b", "300.00"), tender("c", "500.00")])


# ---- results ----------------------------------------------------------------------------------------------------------

TO_TWO_TENDERS = (
    an_order(payments=[payment("a", "500.00"), payment("b", "250.00")], delivered=DELIVERED),
    inspected(),
    request_refund("F-1"),
)
"""The refund F-1, to two payments."""


def test_a_refund_is_done_when_every_tender_is_settled() -> None:
    story = given(TO_TWO_TENDERS)

    story.when(record_refund_result("b")).then("RefundSettled")
    between = [tender("a", "500.00", "requested"), tender("b", "250.00", "settled")]
    story.then_view("refund/F-1", status="requested", tenders=between)

    story.when(record_refund_result("a", reference="re")).then("RefundSettled", "Refunded")
    story.then_view("return/R-1", status="refunded")
    assert story.ask("refund", return_id="R-1")["tenders"][0]["reference"] == "re"


def test_a_failed_refund_may_be_requested_again_for_what_is_not_settled() -> None:
    story = given(TO_TWO_TENDERS, record_refund_result("a"))

    story.when(record_refund_result("b", "failed")).then("RefundFailed").then_view("refund/F-1", status="failed")
    assert [item["subject"]["id"] for item in story.ask("worklist", kinds=["request_refund"])["items"]] == ["R-1"]
    story.when(request_refund("F-1")).then_error("refund.exists")

    story.when(request_refund("F-2")).then_accepted()
    story.then_view("refund/F-2", total="250.00", tenders=[tender("b", "250.00", "requested")])

    story.when(record_refund_result("b", refund_id="F-2")).then("RefundSettled", "Refunded")
    story.then_view("return/R-1", refund_id="F-2", status="refunded")


def test_an_open_or_settled_refund_may_not_be_requested_again() -> None:
    story = given(TO_TWO_TENDERS)
    story.when(request_refund("F-2")).then_error("transition.not_allowed")

    story.given(record_refund_result("a", "failed"), record_refund_result("b", "failed"), request_refund("F-2"))
    story.given(record_refund_result("a", refund_id="F-2"), record_refund_result("b", refund_id="F-2"))
    story.when(request_refund("F-3")).then_error("transition.not_allowed")


def test_a_second_attempt_counts_as_settled_only_what_was_settled() -> None:
    story = given(
        an_order(price="300.00", delivered=DELIVERED),
        inspected(),
        request_refund("F-1"),
        record_refund_result("p-1", "failed"),
        override("returns.label_fee", "return/R-1"),
    )

    story.when(request_refund("F-2")).then_accepted()

    story.then_view("refund/F-2", total="300.00")


# ---- when -------------------------------------------------------------------------------------------------------------


def test_nothing_is_refunded_before_inspection_and_a_declined_refund_takes_no_id() -> None:
    story = given(an_order(delivered=DELIVERED), LABELLED)
    due = story.ask("refund", return_id="R-1")
    assert (due["status"], due["total"]) == ("due", "0.00")

    story.when(request_refund("F-1")).then("RefundDeclined").then_declined("returns.refund_after_inspection")

    story.given(receive_return(at="2026-03-10 09:00"))
    story.when(request_refund("F-1")).then("RefundDeclined").then_declined("returns.refund_after_inspection")

    story.given(inspect_return())
    story.when(request_refund("F-1")).then("RefundRequested")


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
    two_days_before = datetime.fromisoformat(issued_at) - timedelta(days=2)
    story = given(an_order(delivered=two_days_before), a_return(inspected=True))

    story.at(issued_at).when(request_refund()).then_accepted()

    refund = story.ask("refund/F-1")
    assert (refund["issued_at"], refund["expected_between"]) == (issued_at, expected)
    assert story.clock.next_edge("refund/F-1").at == story.clock.instant(overdue_from)
    for moment in story.clock.around_edges("refund/F-1"):
        story.then_view("refund/F-1", overdue=moment.flipped)
    (item,) = story.at(overdue_from).ask("worklist", kinds=["refund_overdue"])["items"]
    assert item == {
        "kind": "refund_overdue",
        "subject": {"kind": "refund", "id": "F-1"},
        "due_at": overdue_from,
        "overdue": True,
    }


def test_a_settled_refund_is_never_overdue() -> None:
    story = given(an_order(delivered=DELIVERED), inspected(refunded=True))

    story.at("2026-12-01 09:00")

    story.then_view("refund/F-1", overdue=False)


def test_the_ruling_of_a_refund_weighs_every_clause_that_applies() -> None:
    story = given(an_order(price="300.00", shipping="20.00", delivered=DELIVERED), inspected())

    outcome = story.tell(request_refund())

    assert verdicts(outcome) == {
        "returns.refund_after_inspection": "pass",
        "returns.condition": "pass",
        "returns.label_fee": "pass",
        "returns.shipping_non_refundable": "pass",
        "returns.original_tender": "pass",
        "returns.refund_timing": "pass",
    }
    assert clause(outcome, "returns.refund_timing")["facts"]["deadline"] == "2026-03-31T00:00:00-04:00"


# ---- other merchants --------------------------------------------------------------------------------------------------


def test_a_merchant_without_the_fee_takes_none() -> None:
    no_fee = a_policy({"returns.label_fee": {"applies": False}})
    story = given(an_order(price="100.00", delivered=DELIVERED), inspected(), policy=no_fee)

    story.when(request_refund()).then_accepted()

    story.then_view("refund/F-1", deductions=[], total="100.00")


def test_another_policy_charges_another_fee_below_another_threshold() -> None:
    another_fee = a_policy({"returns.label_fee": {"threshold": "100.00", "fee": "7.50"}})
    two_lines = an_order(lines=[line("x", "100.00"), line("y", "99.99")], delivered=DELIVERED)
    story = given(two_lines, inspected({"x": 1, "y": 1}), policy=another_fee)

    story.when(request_refund()).then_accepted()

    story.then_view("refund/F-1", items=[{"deducted": "0.00"}, {"deducted": "7.50"}], deductions=label_fee("7.50"))

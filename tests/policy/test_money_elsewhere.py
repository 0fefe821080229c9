"""Money that moves without the desk: goodwill, disputes, refunds of the past, captures; other payouts; what is owed once."""

from __future__ import annotations

from typing import Any

import pytest
from reading import clause, last_reasons, ledger, work

from returnable.testing import (
    Step,
    Steps,
    a_claim,
    a_policy,
    a_return,
    an_order,
    cancel_order,
    confirm_order,
    declined,
    given,
    inspect_return,
    issue_label,
    name_payout,
    override,
    receive_return,
    record_capture,
    record_delivery,
    record_refund,
    record_refund_result,
    record_return_shipment,
    record_shipment,
    report_return_lost,
    request_cancellation,
    request_refund,
    request_return,
)

DELIVERED = "2026-03-05 14:00"


def line(line_id: str, price: str, quantity: int = 1, tax: str = "0.00") -> dict[str, Any]:
    return {"line_id": line_id, "sku": line_id, "unit_price": price, "quantity": quantity, "tax": tax}


TWO_LINES = [line("1", "600.00"), line("2", "500.00")]


def back(return_id: str, units: dict[str, int] | int = 1, **fields: Any) -> Steps:
    """A return that came back and was inspected."""
    at = {"requested": "2026-03-06 10:00", "received": "2026-03-10 10:00", "inspected": "2026-03-10 11:00"}
    return a_return(return_id, units, **at, **fields)


# ---- refunds that the desk did not ask for -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["goodwill", "dispute", "elsewhere", "past"])
def test_what_was_paid_elsewhere_is_in_the_books_and_is_owed_no_more(kind: str) -> None:
    story = given(an_order(price="600.00", delivered=DELIVERED))

    story.when(record_refund("100.00", kind=kind, reason="late", refunded_at="2026-03-05 13:30")).then("RefundRecorded")

    assert ledger(story) == [("p-1", "600.00", "100.00", "0.00", "500.00")]
    assert work(story) == []
    view = story.ask("refund/G-1")
    assert (view["kind"], view["status"], view["total"], view["expected_between"]) == (kind, "refunded", "100.00", None)
    story.given(back("R-1"))
    due = story.ask("refund", return_id="R-1")
    assert (due["merchandise"], due["credits"], due["total"]) == (
        "600.00",
        [{"refund_id": "G-1", "amount": "100.00"}],
        "500.00",
    )
    story.when(request_refund()).then_accepted()
    story.then_view(
        "refund/F-1", total="500.00", tenders=[{"payment_id": "p-1", "amount": "500.00", "status": "requested"}]
    )
    story.given(record_refund_result())
    assert ledger(story) == [("p-1", "600.00", "600.00", "0.00", "0.00")]


def test_a_return_that_was_paid_elsewhere_is_closed_by_a_refund_of_nothing() -> None:
    story = given(an_order(price="600.00", delivered=DELIVERED), back("R-1"), record_refund("600.00", kind="elsewhere"))
    assert work(story) == [("request_refund", "R-1")]

    story.when(request_refund()).then("RefundRequested", "Refunded")

    story.then_view("refund/F-1", total="0.00", tenders=[])
    story.then_view("return/R-1", status="refunded")
    assert ledger(story) == [("p-1", "600.00", "600.00", "0.00", "0.00")]
    assert work(story) == []


def test_a_cancelled_order_that_was_paid_elsewhere_is_not_paid_again() -> None:
    story = given(
        confirm_order(price="600.00", at="2026-03-02 10:00"),
        request_cancellation(at="2026-03-02 11:00"),
        record_refund("600.00", kind="elsewhere"),
    )

    story.when(request_refund(order_id="A-1", return_id=None)).then("RefundRequested", "Refunded")

    assert ledger(story) == [("p-1", "600.00", "600.00", "0.00", "0.00")]


def test_units_that_are_named_bind_the_refund_to_them_and_the_rest_counts_for_all() -> None:
    story = given(an_order(lines=TWO_LINES, delivered=DELIVERED))
    story.given(record_refund("550.00", lines=[{"line_id": "2", "quantity": 1}]), back("R-1"))

    story.when(request_refund()).then_accepted()

    story.then_view("refund/F-1", total="550.00")  # 50.00 were paid beyond the price of line 2
    story.given(record_refund_result(), back("R-2", {"2": 1}), request_refund("F-2", return_id="R-2"))
    story.then_view("refund/F-2", total="0.00", status="refunded")
    assert ledger(story) == [("p-1", "1100.00", "1100.00", "0.00", "0.00")]


def test_money_for_named_units_counts_before_money_for_no_unit_in_particular() -> None:
    story = given(an_order(price="600.00", quantity=2, delivered=DELIVERED))
    story.given(record_refund("600.00", kind="dispute"))
    story.given(record_refund("200.00", refund_id="G-2", kind="dispute", lines=[{"line_id": "1", "quantity": 2}]))

    story.given(back("R-1"), request_refund(), back("R-2"), request_refund("F-2", return_id="R-2"))

    assert [each["amount"] for each in story.ask("refund/F-1")["credits"]] == ["100.00", "500.00"]
    assert story.ask("refund/F-2")["total"] == "400.00"
    story.given(record_refund_result(refund_id="F-2"))
    assert ledger(story) == [("p-1", "1200.00", "1200.00", "0.00", "0.00")]


def test_a_refund_without_units_is_used_up_by_the_first_that_are_owed() -> None:
    story = given(an_order(lines=TWO_LINES, delivered=DELIVERED), record_refund("700.00", kind="dispute"), back("R-1"))
    story.given(request_refund(), back("R-2", {"2": 1}))

    story.when(request_refund("F-2", return_id="R-2")).then_accepted()

    assert story.ask("refund/F-1")["total"] == "0.00"
    assert story.ask("refund/F-2")["credits"] == [{"refund_id": "G-1", "amount": "100.00"}]
    assert story.ask("refund/F-2")["total"] == "400.00"


def test_a_dispute_that_was_won_is_owed_again() -> None:
    story = given(an_order(price="600.00", delivered=DELIVERED), record_refund("600.00", kind="dispute"), back("R-1"))
    story.given(request_refund())
    assert work(story) == []

    story.when(record_refund_result(result="failed", refund_id="G-1", reason="won")).then("RefundReversed")

    story.then_view("refund/G-1", status="failed")
    assert ledger(story) == [("p-1", "600.00", "0.00", "0.00", "600.00")]
    assert work(story) == [("request_refund", "R-1")]
    story.then_view("return/R-1", status="refund_failed")
    due = story.ask("refund", return_id="R-1")
    assert (due["status"], due["refund_id"], due["total"]) == ("due", None, "600.00")
    story.when(request_refund("F-2")).then_accepted()
    story.then_view("refund/F-2", total="600.00")
    story.when(record_refund_result(refund_id="F-2")).then("RefundSettled", "Refunded")
    story.then_view("return/R-1", status="refunded")
    assert story.ask("refund", return_id="R-1")["refund_id"] == "F-2"


def test_a_dispute_that_was_lost_after_all_is_owed_no_more() -> None:
    story = given(an_order(price="600.00", delivered=DELIVERED), record_refund("600.00", kind="dispute"), back("R-1"))
    story.given(request_refund(), record_refund_result(result="failed", refund_id="G-1", reason="won"))

    story.when(record_refund_result(refund_id="G-1", amount="600.00", reference="again")).then(
        "RefundSettled", "Refunded"
    )

    story.then_view("return/R-1", status="refunded")
    assert work(story) == []
    assert story.ask("refund", return_id="R-1")["refund_id"] == "F-1"


def test_what_was_paid_too_much_for_one_return_is_owed_less_for_the_next() -> None:
    story = given(an_order(lines=TWO_LINES, delivered=DELIVERED), back("R-1"), request_refund())
    story.given(record_refund_result(amount="700.00"), back("R-2", {"2": 1}))

    story.when(request_refund("F-2", return_id="R-2")).then_accepted()

    assert story.ask("refund/F-2")["credits"] == [{"refund_id": "F-1", "amount": "100.00"}]
    assert story.ask("refund/F-2")["total"] == "400.00"
    assert ledger(story) == [("p-1", "1100.00", "700.00", "400.00", "0.00")]


def test_a_refund_beyond_what_was_captured_is_recorded_with_an_exception() -> None:
    story = given(an_order(price="600.00", delivered=DELIVERED), back("R-1"), request_refund(), record_refund_result())

    story.when(record_refund("600.00", kind="dispute")).then("RefundRecorded", "ExceptionRaised")

    assert last_reasons(story) == ["of payment p-1 600.00 USD were captured, but 1200.00 went back or are on their way"]
    assert ledger(story) == [("p-1", "600.00", "1200.00", "0.00", "-600.00")]
    assert work(story) == [("exception", "A-1")]


def test_a_refund_to_a_payment_that_the_order_does_not_have_is_in_the_books_of_its_own() -> None:
    story = given(an_order(price="600.00", delivered=DELIVERED))

    story.when(record_refund("50.00", payment_id="store-credit")).then("RefundRecorded", "ExceptionRaised")

    assert last_reasons(story) == [
        "refund G-1 paid to payment store-credit, which order A-1 does not have",
        "of payment store-credit 0.00 USD were captured, but 50.00 went back or are on their way",
    ]
    assert ledger(story) == [
        ("p-1", "600.00", "0.00", "0.00", "600.00"),
        ("store-credit", "0.00", "50.00", "0.00", "-50.00"),
    ]


def test_money_reported_under_two_refund_ids_is_an_exception() -> None:
    paid = [{"payment_id": "p-1", "amount": "600.00", "reference": "re-1"}]
    story = given(an_order(price="600.00", quantity=4, delivered=DELIVERED), back("R-1"), request_refund())

    story.given(record_refund_result(reference="re-1"))
    story.when(record_refund(kind="elsewhere", tenders=paid)).then("RefundRecorded", "ExceptionRaised")
    assert last_reasons(story) == [
        "refund G-1 paid 600.00 USD to payment p-1 under the reference re-1, and so did refund F-1"
    ]
    story.when(record_refund(refund_id="G-2", tenders=[paid[0] | {"amount": "1.00"}])).then("RefundRecorded")
    story.when(record_refund(refund_id="G-3", tenders=[paid[0] | {"reference": "re-3"}])).then("RefundRecorded")


def test_a_result_under_the_reference_of_a_refund_made_elsewhere_is_an_exception() -> None:
    paid = [{"payment_id": "p-1", "amount": "600.00", "reference": "re-1"}]
    story = given(an_order(price="600.00", quantity=2, delivered=DELIVERED), back("R-1"), request_refund())

    story.given(record_refund(kind="elsewhere", tenders=paid))
    story.when(record_refund_result(reference="re-1")).then("RefundSettled", "Refunded", "ExceptionRaised")
    assert last_reasons(story) == [
        "refund F-1 paid 600.00 USD to payment p-1 under the reference re-1, and so did refund G-1"
    ]


def test_the_same_refund_told_twice_is_accepted_and_appends_nothing() -> None:
    story = given(an_order(price="600.00", delivered=DELIVERED), record_refund("1.00", reason="late"))

    story.when(record_refund("1.00", reason="late")).then()
    story.when(record_refund("1.00", at="2026-03-06 10:00", command_id="c-9")).then()

    assert ledger(story) == [("p-1", "600.00", "1.00", "0.00", "599.00")]


def test_a_return_that_a_person_decided_to_pay_earlier_is_on_the_worklist() -> None:
    story = given(
        an_order(price="600.00", delivered=DELIVERED),
        a_return(requested="2026-03-06 10:00", shipped="2026-03-07 10:00"),
    )
    story.given(report_return_lost(at="2026-03-12 09:00"))
    assert work(story) == []

    story.given(override("returns.transit_risk", "return/R-1"))

    assert work(story) == [("request_refund", "R-1")]
    story.when(request_refund()).then_accepted()
    story.then_view("refund/F-1", total="600.00")


def test_a_declined_return_is_not_on_the_worklist_whatever_a_person_decided_about_its_money() -> None:
    story = given(
        an_order(price="600.00", delivered=DELIVERED), declined(request_return(resolution="exchange", at="2026-03-06"))
    )
    story.given(override("returns.refund_after_inspection", "order/A-1"))

    assert [item for item in work(story) if item[0] == "request_refund"] == []
    story.when(request_refund()).then_error("transition.not_allowed")


def test_what_nobody_can_record_is_refused() -> None:
    story = given(an_order(price="600.00", delivered=DELIVERED), record_refund("1.00"))

    story.when(record_refund("1.01")).then_error("refund.exists")
    story.when(record_refund("1.00", kind="dispute")).then_error("refund.exists")
    story.when(record_refund("1.00", refund_id="G-2", order_id="A-9")).then_error("order.unknown")
    story.when(record_refund("1.001", refund_id="G-2")).then_error("command.invalid")
    story.when(record_refund("1.00", refund_id="G-2", lines=[{"line_id": "9", "quantity": 1}])).then_error(
        "line.unknown"
    )
    story.when(record_refund("1.00", refund_id="G-2", kind="gift")).then_error("command.invalid")


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(("kind", "owed"), [("past", "600.00"), ("elsewhere", "600.00"), ("goodwill", "0.00")])
def test_what_settled_a_cancellation_elsewhere_is_no_credit_for_the_other_unit(
    kind: str, owed: str, named: bool
) -> None:
    units = {"lines": [{"line_id": "1", "quantity": 1}]} if named else {}
    story = given(
        an_order(price="600.00", quantity=2),
        cancel_order({"1": 1}, elsewhere=True),
        record_refund("600.00", kind=kind, **units),
        record_shipment(),
        record_delivery(at=DELIVERED),
        back("R-1"),
        request_refund(),
    )

    assert story.ask("refund/F-1")["total"] == owed


def test_a_cancellation_elsewhere_is_settled_by_its_value_and_no_more() -> None:
    story = given(
        an_order(price="600.00", quantity=2),
        cancel_order({"1": 1}, elsewhere=True),
        record_refund("360.00", kind="past"),
        record_refund("600.00", kind="dispute", refund_id="D-1"),
        record_shipment(),
        record_delivery(at=DELIVERED),
        back("R-1"),
        request_refund(),
    )

    refund = story.ask("refund/F-1")
    assert (refund["credits"], refund["total"]) == ([{"refund_id": "D-1", "amount": "360.00"}], "240.00")


def test_a_unit_that_the_desk_pays_and_somebody_else_pays_too_is_an_exception_and_a_credit() -> None:
    lines = [line("1", "600.00"), line("2", "1000.00")]
    story = given(an_order(lines=lines, delivered=DELIVERED), back("R-1", {"1": 1}), request_refund())

    story.when(record_refund("600.00", kind="elsewhere", lines=[{"line_id": "1", "quantity": 1}]))

    assert last_reasons(story) == ["refund G-1 paid for 1 of line 1, but 1 of 1 are paid back by the desk"]
    story.given(record_refund_result("p-1"))
    story.given(
        request_return({"2": 1}, return_id="R-2"),
        receive_return(return_id="R-2"),
        inspect_return({"2": 1}, return_id="R-2"),
        request_refund("F-2", return_id="R-2"),
    )
    refund = story.ask("refund/F-2")
    assert (refund["credits"], refund["total"]) == ([{"refund_id": "G-1", "amount": "600.00"}], "400.00")
    assert ledger(story) == [("p-1", "1600.00", "1200.00", "400.00", "0.00")]


# ---- what was authorised and captured ------------------------------------------------------------------------------------


def authorised(captured: str, **changes: Any) -> list[dict[str, str]]:
    return [{"payment_id": "p-1", "method": "card", "amount": "600.00", "captured": captured} | changes]


CANCELLED = Steps(
    (confirm_order(price="600.00", payments=authorised("0.00"), at="2026-03-02 10:00"), request_cancellation())
)


def test_what_was_never_captured_is_voided_and_not_refunded() -> None:
    story = given(CANCELLED)
    due = story.ask("refund", order_id="A-1")
    assert (due["merchandise"], due["voided"], due["total"], due["tenders"]) == ("600.00", "600.00", "0.00", [])

    story.when(request_refund(order_id="A-1", return_id=None)).then("RefundRequested", "Refunded")

    assert ledger(story) == [("p-1", "0.00", "0.00", "0.00", "0.00")]
    assert "request_refund" not in dict(work(story))


def test_a_capture_after_the_cancellation_is_owed() -> None:
    story = given(CANCELLED, request_refund(order_id="A-1", return_id=None))

    story.when(record_capture(amount="250.00", at="2026-03-02 12:00", captured_at="2026-03-02 10:30")).then(
        "PaymentCaptured"
    )

    assert ledger(story) == [("p-1", "250.00", "0.00", "0.00", "250.00")]
    assert ("request_refund", "A-1") in work(story)
    story.when(request_refund("F-2", order_id="A-1", return_id=None)).then_accepted()
    story.then_view("refund/F-2", total="250.00", voided="350.00")


def test_a_return_takes_what_was_captured_first() -> None:
    payments = authorised("600.00", amount="1100.00")
    story = given(an_order(lines=TWO_LINES, payments=payments, delivered=DELIVERED), back("R-1"))

    assert story.ask("refund", return_id="R-1")["total"] == "600.00"
    story.given(request_refund(), back("R-2", {"2": 1}))
    due = story.ask("refund", return_id="R-2")
    assert (due["voided"], due["total"]) == ("500.00", "0.00")


def test_captures_add_up_and_one_beyond_what_was_authorised_is_an_exception() -> None:
    story = given(confirm_order(price="600.00", payments=authorised("100.00"), at="2026-03-02 10:00"))

    story.when(record_capture(amount="200.00")).then("PaymentCaptured")
    story.when(record_capture()).then("PaymentCaptured")
    assert ledger(story)[0][1] == "600.00"
    story.when(record_capture()).then()
    story.when(record_capture(amount="0.01")).then("PaymentCaptured", "ExceptionRaised")
    assert last_reasons(story) == [
        "0.01 USD of payment p-1 were captured, but only 0.00 were authorised and not captured"
    ]
    story.when(record_capture("p-9", amount="5.00")).then("PaymentCaptured", "ExceptionRaised")
    assert last_reasons(story) == ["5.00 USD were captured of payment p-9, which order A-1 does not have"]
    assert [row[:2] for row in ledger(story)] == [("p-1", "600.01"), ("p-9", "5.00")]


def test_a_capture_told_twice_is_one_capture() -> None:
    story = given(confirm_order(price="600.00", payments=authorised("0.00"), at="2026-03-02 10:00"))
    captured = {"amount": "200.00", "captured_at": "2026-03-02 11:00"}
    story.when(record_capture(**captured, at="2026-03-02 12:00")).then("PaymentCaptured")
    story.when(record_capture(**captured, at="2026-03-02 13:00")).then()
    story.when(record_capture(**captured | {"captured_at": "2026-03-02 11:30"})).then("PaymentCaptured")
    story.when(record_capture(**captured, command_id="capture-3")).then("PaymentCaptured")
    assert ledger(story)[0][1] == "600.00"


@pytest.mark.parametrize("captured", ["600.01", "-1.00", "1.001"])
def test_an_order_says_what_it_captured(captured: str) -> None:
    story = given()

    story.when(confirm_order(price="600.00", payments=authorised(captured))).then_error("command.invalid")

    assert story.error is not None
    assert story.error.field == "payments[0].captured"


# ---- what the shop cancels ----------------------------------------------------------------------------------------------

PARTS = [line("1", "600.00", 2, "48.01"), line("2", "500.00")]
SHIPPING = {"charged": "15.00", "tax": "1.20"}
ORDERED = confirm_order(lines=PARTS, shipping=SHIPPING, at="2026-03-02 10:00")


def order_refund(refund_id: str) -> Step:
    return request_refund(refund_id, order_id="A-1", return_id=None)


def test_what_was_paid_for_cancelled_units_goes_back_and_shipping_when_nothing_ships() -> None:
    story = given(ORDERED, cancel_order({"1": 1}))
    assert ("request_refund", "A-1") in work(story)

    story.when(order_refund("F-1")).then_accepted()
    first = story.ask("refund/F-1")
    assert (first["merchandise"], first["tax"], first["shipping"], first["total"]) == (
        "600.00",
        "24.01",
        "0.00",
        "624.01",
    )
    assert ("request_refund", "A-1") not in work(story)

    story.given(cancel_order())
    assert ("request_refund", "A-1") in work(story)
    story.when(order_refund("F-2")).then_accepted()
    second = story.ask("refund/F-2")
    assert (second["merchandise"], second["tax"], second["shipping"]) == ("1700.00", "48.01", "16.20")
    assert (second["settled_before"], second["total"]) == ("624.01", "1140.20")


def test_units_that_ship_stay_paid_and_come_back_as_a_return() -> None:
    story = given(ORDERED, cancel_order({"1": 1}), order_refund("F-0"))
    story.given(record_shipment(at="2026-03-03 09:00"), record_delivery(at="2026-03-05 14:00"), back("R-1"))

    story.when(request_refund()).then_accepted()

    story.then_view("refund/F-1", total="624.00")
    story.when(order_refund("F-9")).then_error("transition.not_allowed")
    story.when(request_return(1, return_id="R-2")).then_error("quantity.exceeded")


def test_an_order_cancelled_elsewhere_is_owed_nothing() -> None:
    story = given(ORDERED, cancel_order(elsewhere=True, at="2026-03-02 11:00"))

    assert work(story) == []
    story.when(order_refund("F-1")).then_error("transition.not_allowed")


def test_a_refund_of_a_cancelled_order_of_the_past_is_in_the_books_and_nothing_is_on_the_worklist() -> None:
    story = given(ORDERED, cancel_order(elsewhere=True, at="2026-03-02 11:00"))

    story.given(record_refund("1764.21", kind="past", refunded_at="2026-03-02 10:30"))

    assert ledger(story) == [("p-1", "1764.21", "1764.21", "0.00", "0.00")]
    assert work(story) == []


def test_money_for_units_that_were_rejected_later_is_an_exception_once_the_rest_is_asked_for() -> None:
    cards = [("p-1", "1000.00"), ("p-2", "200.00")]
    paid = [{"payment_id": name, "method": "card", "amount": amount} for name, amount in cards]
    story = given(an_order(price="600.00", quantity=2, payments=paid, delivered=DELIVERED))
    story.given(override("returns.refund_after_inspection", once=False, expires_at="2026-03-10T00:00:00-04:00"))
    story.at("2026-03-09 09:00").given(request_return(2), request_refund(), record_refund_result())
    story.given(record_refund_result("p-2", result="failed"), receive_return())
    story.at("2026-03-11 09:00").given(inspect_return(1, rejected=1))

    story.when(request_refund("F-2")).then("RefundRequested", "Refunded", "ExceptionRaised")

    (reason,) = last_reasons(story)
    assert "1000.00 USD went back or are on their way for return R-1 (refund F-1)" in reason
    assert "600.00 are owed: 400.00 too much" in reason
    assert story.desk.redecide() == ()


# ---- another way to pay ----------------------------------------------------------------------------------------------------

FAILED = Steps((*back("R-1"), request_refund(), record_refund_result(result="failed", reason="The card is closed.")))


def test_a_person_names_another_payout_and_the_ruling_cites_it() -> None:
    story = given(an_order(price="600.00", delivered=DELIVERED), FAILED)

    story.when(name_payout(approved_by="Ann", reason="The card is closed.")).then("PayoutNamed")
    story.when(request_refund("F-2")).then_accepted()

    ruling = clause({"ruling": story.ruling}, "returns.original_tender")
    assert ruling["verdict"] == "overridden"
    assert ruling["because"].startswith("Set aside by Ann at ")
    assert ruling["facts"]["tenders"] == [{"payment_id": "p-1", "amount": "600.00", "payout_id": "bank-transfer"}]
    assert ruling["because"].endswith(
        "Otherwise: 600.00 would go back the way it was paid: 600.00 to p-1 (for which bank-transfer stands now)."
    )
    assert story.ask("refund/F-2")["tenders"][0]["payout_id"] == "bank-transfer"

    story.when(record_refund_result("bank-transfer", refund_id="F-2", reference="SEPA-1")).then(
        "RefundSettled", "Refunded"
    )
    assert ledger(story) == [("p-1", "600.00", "600.00", "0.00", "0.00")]
    story.then_view("return/R-1", status="refunded")


@pytest.mark.parametrize("twice", [False, True])
def test_money_that_went_to_a_payout_without_the_desks_asking_counts_for_its_payment(twice: bool) -> None:
    story = given(an_order(price="600.00", delivered=DELIVERED), FAILED, name_payout())
    paid = [{"payment_id": "bank-transfer", "amount": "500.00", "reference": "SEPA-1"}]
    paid += [{"payment_id": "p-1", "amount": "100.00"}] if twice else []

    story.when(record_refund(kind="elsewhere", tenders=paid)).then("RefundRecorded")

    left = "0.00" if twice else "100.00"
    assert ledger(story) == [("p-1", "600.00", "600.00" if twice else "500.00", "0.00", left)]
    assert story.desk.redecide() == ()
    story.when(record_refund(kind="elsewhere", tenders=paid)).then()


def test_a_payout_stands_for_a_payment_of_the_order_to_which_a_refund_failed() -> None:
    story = given(an_order(price="600.00", delivered=DELIVERED))
    story.when(name_payout()).then_error("transition.not_allowed")

    story.given(FAILED)
    story.when(name_payout("p-9")).then_error("command.invalid")
    story.when(name_payout(payout_id="p-1")).then_error("command.invalid")
    story.when(name_payout()).then_accepted()


# ---- owed once ----------------------------------------------------------------------------------------------------------


def on_one_label(return_id: str, line_id: str) -> Steps:
    """A return of one line on the prepaid label with the tracking number T-1."""
    label = {"carrier": "ups", "tracking_number": "T-1"}
    return Steps(
        (
            request_return({line_id: 1}, return_id=return_id, at="2026-03-06 10:00"),
            issue_label(f"L-{return_id}", return_id=return_id, **label),
            record_return_shipment(return_id=return_id, label_id=f"L-{return_id}"),
            receive_return(return_id),
            inspect_return({line_id: 1}, return_id=return_id),
        )
    )


def test_two_returns_on_one_label_pay_one_fee() -> None:
    lines = [line("1", "100.00"), line("2", "80.00")]
    story = given(an_order(lines=lines, delivered=DELIVERED), on_one_label("R-1", "1"), on_one_label("R-2", "2"))

    story.given(request_refund())
    story.when(request_refund("F-2", return_id="R-2")).then_accepted()

    assert story.ask("refund/F-1")["total"] == "80.00"
    assert story.ask("refund/F-2")["total"] == "80.00"
    assert (
        clause({"ruling": story.ruling}, "returns.label_fee")["because"]
        == "Label L-R-2 was used, and charged with another refund."
    )


REFUNDABLE = a_policy({"returns.shipping_non_refundable": {"applies": False}})


def test_two_returns_that_cover_the_order_get_shipping_back_once() -> None:
    story = given(
        an_order(lines=TWO_LINES, delivered=DELIVERED, shipping={"charged": "15.00", "tax": "1.20"}),
        back("R-1"),
        back("R-2", {"2": 1}),
        policy=REFUNDABLE,
    )

    story.given(request_refund(), request_refund("F-2", return_id="R-2"))

    assert [story.ask(f"refund/{name}")["shipping"] for name in ("F-1", "F-2")] == ["0.00", "16.20"]


def test_two_claims_that_cover_the_order_get_shipping_back_once() -> None:
    story = given(
        an_order(lines=TWO_LINES, delivered=DELIVERED, shipping={"charged": "15.00"}),
        a_claim(line_id="1", reported="2026-03-06 10:00", resolved=True),
        a_claim("C-2", line_id="2", reported="2026-03-06 11:00", resolved=True),
    )

    story.given(request_refund(claim_id="C-1", return_id=None), request_refund("F-2", claim_id="C-2", return_id=None))

    assert [story.ask(f"refund/{name}")["shipping"] for name in ("F-1", "F-2")] == ["0.00", "15.00"]


def test_a_claim_after_a_return_gets_no_shipping_back() -> None:
    story = given(
        an_order(lines=TWO_LINES, delivered=DELIVERED, shipping={"charged": "15.00"}),
        back("R-1"),
        request_refund(),
        a_claim(line_id="2", reported="2026-03-10 12:00", resolved=True),
    )

    story.given(request_refund("F-2", claim_id="C-1", return_id=None))

    assert story.ask("refund/F-2")["shipping"] == "0.00"


def test_a_tax_that_does_not_divide_adds_up_over_refunds_of_the_same_line() -> None:
    story = given(an_order(lines=[line("1", "10.00", 3, "1.00")], delivered=DELIVERED), back("R-1"), request_refund())
    story.given(record_refund_result(result="failed"), back("R-2"), request_refund("F-2", return_id="R-2"))
    story.given(back("R-3"), request_refund("F-3", return_id="R-3"), request_refund("F-4"))

    assert [story.ask(f"refund/{name}")["tax"] for name in ("F-2", "F-3", "F-4")] == ["0.33", "0.33", "0.34"]

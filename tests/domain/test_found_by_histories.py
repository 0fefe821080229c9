"""What the random histories and the reading behind them found, each told as short as it goes."""

from __future__ import annotations

import pytest
from reading import clause, ledger, types, work
from usual import a_delivered_order, a_labelled_return, an_authorized_return, an_inspected_return

from returnable.projections.redecided import redecide_store
from returnable.testing import (
    Scenario,
    an_order,
    cancel_order,
    correct_delivery,
    declined,
    finding,
    given,
    inspect_return,
    override,
    receive_return,
    record_delivery,
    record_refund,
    record_refund_result,
    record_return_shipment,
    record_send_back,
    record_shipment,
    report_parcel_lost,
    report_wrong_item,
    request_cancellation,
    request_refund,
    request_return,
    resolve_claim,
    run_deadlines,
    withdraw_return,
)

TWO_UNITS = a_delivered_order(price="100.00", quantity=2)
"""An order of two units at 100.00 in one line, delivered on Thursday, 5 March 2026."""


def test_a_customer_without_an_account_can_be_read_back() -> None:
    story = Scenario()

    story.given(an_order(account_id=None))

    assert story.ask("order/A-1")["status"] == "confirmed"
    assert story.ask("worklist") == {"items": []}


def test_a_request_for_units_that_were_not_delivered_can_be_read_back() -> None:
    story = given(an_order())

    outcome = story.tell(request_return())

    assert outcome["outcome"] == "declined"
    assert story.ask("return/R-1")["status"] == "declined"


def test_a_return_that_was_paid_before_inspection_cannot_be_withdrawn_and_paid_again() -> None:
    story = given(TWO_UNITS, override("returns.refund_after_inspection", at="2026-03-06 10:00"))
    for number in (1, 2, 3):
        name = f"R-{number}"
        story.tell(request_return(return_id=name))
        story.tell(request_refund(f"F-{number}", return_id=name))
        story.tell(record_refund_result(refund_id=f"F-{number}"))
        story.tell(withdraw_return(name))

    case = story.services.handler.case("A-1")

    assert sum(refund.total for refund in case.refunds.values()) <= 20000


def test_units_that_were_paid_and_sent_back_are_not_free_to_be_paid_again() -> None:
    story = given(
        TWO_UNITS,
        request_return(at="2026-03-06 10:00"),
        receive_return(),
        inspect_return(findings=[finding(same_condition=False)]),
        override("returns.condition", "return/R-1"),
    )
    assert story.tell(request_refund())["outcome"] == "accepted"
    story.tell(record_send_back())  # impossible

    story.when(request_return(2, return_id="R-2"))

    assert story.ask_in_vain("return/R-2")["code"] == "return.unknown"


def test_a_claim_is_not_settled_by_refund_when_the_cancelled_order_was_paid_back() -> None:
    story = given(
        TWO_UNITS,
        report_wrong_item(at="2026-03-06 10:00"),
        override("cancellation.window"),
        override("cancellation.not_shipped"),
        request_cancellation(order_reference="A-1"),
    )
    assert story.tell(request_refund(order_id="A-1"))["outcome"] == "accepted"

    outcome = story.tell(resolve_claim())

    assert outcome["outcome"] == "error"
    assert story.ask("refund", order_id="A-1")["total"] == "200.00"


def test_what_is_due_for_a_declined_return_is_nothing_whatever_was_set_aside() -> None:
    story = given(
        a_delivered_order(final_sale=True),
        declined(request_return(at="2026-03-06 10:00")),
        override("returns.refund_after_inspection"),
    )

    due = story.ask("refund", return_id="R-1")

    assert (due["status"], due["total"], due["items"]) == ("due", "0.00", [])


def test_a_refund_that_is_tried_again_pays_what_is_owed_by_then() -> None:
    story = given(an_inspected_return(price="100.00"))
    assert story.tell(request_refund(at="2026-03-17 10:00"))["outcome"] == "accepted"
    story.given(record_refund_result(result="failed"), override("returns.label_fee", "return/R-1"))

    story.when(request_refund("F-2"))

    refund = story.ask("refund/F-2")
    assert refund["settled_before"] == "0.00"
    assert refund["total"] == "100.00"
    assert [tender["amount"] for tender in refund["tenders"]] == ["100.00"]


@pytest.mark.parametrize("recorded", [True, False])
def test_a_label_was_used_when_the_parcel_came_in_time_whether_or_not_its_voiding_was_recorded(recorded: bool) -> None:
    story = given(a_labelled_return(price="100.00"))
    if recorded:
        assert types(story.tell(run_deadlines(at="2026-03-12"))) == ["LabelVoided"]

    outcome = story.tell(receive_return(received_at="2026-03-11 17:00", at="2026-03-12 09:00"))

    assert types(outcome) == ["Received"]
    story.given(inspect_return())
    assert story.ask("return/R-1")["labels"][0]["status"] == "used"
    assert story.ask("refund", return_id="R-1")["total"] == "80.00"


def test_deadlines_of_several_orders_are_told_again_in_the_order_in_which_they_were_told_first() -> None:
    story = given(
        an_order("A-1"),
        an_order("A-2"),
        [(record_shipment(order_id=name), record_delivery(order_id=name)) for name in ("A-1", "A-2")],
        report_wrong_item("C-1", order_id="A-1", attachments=[], at="2026-03-02 11:00"),
        report_wrong_item("C-2", order_id="A-2", attachments=[], at="2026-03-02 12:00"),
        report_wrong_item("C-3", order_id="A-1", attachments=[], at="2026-03-02 13:00"),
    )

    first = story.tell(run_deadlines(command_id="c-1", at="2026-03-04 10:00"))
    again = story.tell(run_deadlines(command_id="c-1", at="2026-03-04 10:00"))

    assert [event["stream"] for event in first["events"]] == ["claim/C-1", "claim/C-2", "claim/C-3"]
    assert again["events"] == first["events"]


def test_what_eligibility_says_of_a_cancellation_is_what_the_command_says_with_a_return_on_its_way() -> None:
    story = given(an_authorized_return(), override("cancellation.window"), override("cancellation.not_shipped"))

    promised = story.ask("eligibility/A-1")["cancellation"]
    outcome = story.tell(request_cancellation(order_reference="A-1"))

    assert outcome["error"]["code"] == "transition.not_allowed"
    assert (promised["allowed"], promised["error"]["code"]) == (False, "transition.not_allowed")


def test_a_refund_that_is_tried_again_never_comes_to_less_than_nothing() -> None:
    half = [{"payment_id": name, "method": "card", "amount": "50.00"} for name in ("p-1", "p-2")]
    story = given(
        a_labelled_return(price="100.00", payments=half),
        override("returns.refund_after_inspection", "return/R-1"),
        override("returns.label_fee"),
        request_refund(),
        record_refund_result(),
        record_refund_result("p-2", result="failed"),
    )

    story.when(request_refund("F-2"))

    assert story.ask("refund/F-2")["total"] == "50.00"
    assert story.ask("refund/F-2")["settled_before"] == "50.00"


def test_when_less_is_owed_than_was_settled_already_the_rest_is_nothing() -> None:
    halves = [("p-1", "15.00"), ("p-2", "5.00")]
    payments = [{"payment_id": name, "method": "card", "amount": amount} for name, amount in halves]
    story = given(
        a_labelled_return(price="20.00", payments=payments),
        override("returns.refund_after_inspection", "return/R-1"),
        request_refund(),
        record_refund_result(),
        record_refund_result("p-2", result="failed"),
    )
    story.tell(record_return_shipment())  # now the label is used: 20.00 less is owed

    story.when(request_refund("F-2"))

    assert story.ask("refund/F-2")["total"] == "0.00"


def test_the_reason_names_the_parcel_that_was_not_there_yet() -> None:
    story = given(an_order(quantity=2))
    for parcel, day in (("P-1", "2026-03-03"), ("P-2", "2026-03-09")):
        story.given(record_shipment(parcel, 1, at=f"{day}T11:00:00Z"), record_delivery(parcel, at=f"{day}T15:00:00Z"))

    outcome = story.tell(request_return(2, requested_at="2026-03-05 10:00"))

    assert "delivered only at Mon 2026-03-09 11:00 EDT" in clause(outcome, "returns.window")["because"]


# ---- money that moves without the desk ------------------------------------------------------------------------------


def test_a_refund_is_asked_for_although_more_went_back_than_was_captured() -> None:
    story = given(
        an_order(
            price="100.00", payments=[{"payment_id": "p-1", "method": "card", "amount": "100.00", "captured": "0"}]
        ),
        cancel_order(),
        record_refund("30.00", payment_id="p-9", lines=[{"line_id": "1", "quantity": 1}]),
    )

    story.when(request_refund("F-1", order_id="A-1")).then_accepted()

    # 30.00 were paid elsewhere, and 70.00 were never captured: nothing is left to pay.
    story.then_view("refund/F-1", status="refunded", total="0.00")
    assert ledger(story) == [("p-1", "0.00", "0.00", "0.00", "0.00"), ("p-9", "0.00", "30.00", "0.00", "-30.00")]


def test_what_is_paid_for_a_refund_of_nothing_is_in_the_ledger() -> None:
    story = given(
        an_order(price="100.00"), cancel_order(), record_refund("100.00"), request_refund("F-1", order_id="A-1")
    )

    story.when(record_refund_result("p-1", amount="11.14")).then_accepted()

    assert ledger(story) == [("p-1", "100.00", "111.14", "0.00", "-11.14")]
    events = [entry.event for entry in story.services.store.load("A-1")]
    assert getattr(events[-1], "reasons", ()) == (
        "refund F-1 pays nothing to payment p-1",
        "11.14 USD went back or are on their way for order A-1 (refund F-1), but 0.00 are owed: 11.14 too much",
        "of payment p-1 100.00 USD were captured, but 111.14 went back or are on their way",
    )


def test_an_answer_that_is_dated_before_its_refund_can_be_looked_back_at() -> None:
    story = given(an_order(price="100.00"), record_refund("40.00", at="2026-03-10 10:00"))
    story.given(record_refund_result("p-1", "failed", refund_id="G-1", settled_at="2026-03-09 10:00"))

    assert story.ask("order/A-1", as_of="2026-03-09 12:00")["status"] == "confirmed"
    assert ledger(story) == [("p-1", "100.00", "40.00", "0.00", "60.00")]  # a refusal from before takes nothing back


def test_what_was_paid_for_without_inspection_can_be_inspected_when_it_arrives() -> None:
    story = given(
        a_delivered_order(),
        override("returns.refund_after_inspection", at="2026-03-06 10:00"),
        request_return(),
        request_refund(),
        receive_return(),
    )

    assert work(story) == [("inspect", "R-1")]
    assert story.tell(inspect_return())["outcome"] == "accepted"
    assert work(story) == []


def test_a_refund_that_only_an_override_owes_is_work_until_the_override_ends() -> None:
    story = given(an_inspected_return(shipping="15.00"), request_refund())
    granted = override("returns.shipping_non_refundable", "return/R-1", expires_at="2026-03-18T10:00:00-04:00")
    story.given(granted, record_refund_result(at="2026-03-17 10:00"))
    assert work(story) == [("request_refund", "R-1")]

    story.at("2026-03-18 10:00")

    assert work(story) == []
    assert story.tell(request_refund("F-2"))["error"]["code"] == "transition.not_allowed"


def test_an_order_stays_delivered_if_every_unit_is_delivered_without_the_delivery_that_is_taken_back() -> None:
    story = given(an_order(), record_shipment(), record_delivery("P-9"), record_delivery())

    story.when(correct_delivery("P-9")).then_accepted()

    assert story.ask("order/A-1")["status"] == "delivered"


def test_a_shipment_of_which_no_unit_was_left_can_be_decided_again() -> None:
    story = given(an_order(), record_shipment(), record_shipment("P-2"))

    (again,) = redecide_store(story.services.store, story.services.handler.policy)

    assert again.differences == ()


def test_what_two_refunds_paid_for_one_unit_beyond_its_price_counts_for_the_others() -> None:
    lines = [
        {"line_id": "1", "sku": "BAG", "unit_price": "600.00", "quantity": 1},
        {"line_id": "2", "sku": "HAT", "unit_price": "500.00", "quantity": 1},
    ]
    for_the_hat = [{"line_id": "2", "quantity": 1}]
    story = given(
        an_order(lines=lines),
        record_refund("100.00", lines=for_the_hat),
        record_refund("400.00", lines=for_the_hat, refund_id="G-2"),
        record_refund("500.00", lines=for_the_hat, refund_id="G-3"),
        record_shipment(),
        record_delivery(),
        request_return(units={"1": 1}),
        receive_return(),
        inspect_return(units={"1": 1}),
    )
    assert ("request_refund", "R-1") in work(story)

    story.when(request_refund()).then_accepted()

    # The hat cost 500.00, so 500.00 of the 1000.00 are left to count for the bag.
    story.then_view("refund/F-1", total="100.00")
    assert ledger(story) == [("p-1", "1100.00", "1000.00", "100.00", "0.00")]


def test_a_claim_settles_no_unit_that_turned_up_beyond_what_was_bought() -> None:
    story = given(
        an_order(),
        record_shipment(),
        report_parcel_lost(),
        record_shipment("P-2"),
        record_delivery("P-2"),
        record_delivery(),
        request_return(),
        report_wrong_item(),
    )

    outcome = story.tell(resolve_claim(remedy="both"))

    assert outcome["error"]["code"] == "quantity.exceeded"


def test_a_claim_is_settled_by_a_replacement_after_a_delivery_of_which_no_shipment_is_known() -> None:
    story = given(an_order(), record_delivery("P-9"), report_wrong_item(), resolve_claim(remedy="replacement"))
    assert work(story) == [("reship", "C-1")]

    story.given(record_shipment("P-2", 1))

    assert work(story) == []
    assert story.ask("order/A-1")["lines"][0]["delivered"] == 1


def test_a_unit_that_is_on_its_way_shows_no_return_window_of_another() -> None:
    story = given(an_order(quantity=2), record_shipment("P-1", 1), record_delivery(), request_return())

    assert story.ask("order/A-1")["lines"][0]["return_before"] is None
    assert story.ask("eligibility/A-1")["lines"][0]["return"]["return_before"] is None


def test_a_unit_that_was_paid_back_is_not_cancelled_because_its_parcel_was_lost_after_all() -> None:
    story = given(an_inspected_return(), request_refund(), record_refund_result())
    story.given(correct_delivery(delivered_at=None), report_parcel_lost())

    why = "each of its units is in a parcel, in a return or claim, or cancelled"
    story.when(cancel_order()).then_error("transition.not_allowed", message=why)

    assert "reship" not in {kind for kind, _ in work(story)}

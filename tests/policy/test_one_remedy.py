"""One unit gets one remedy: a refund or a replacement, by a return or by a claim; and a replacement is a unit of its own."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given as examples
from hypothesis import strategies as st
from usual import a_delivered_order

from returnable.domain.case import Case, fold
from returnable.testing import (
    Scenario,
    Step,
    Steps,
    a_claim,
    a_return,
    an_order,
    cancel_order,
    deny_claim,
    given,
    inspect_return,
    issue_label,
    override,
    receive_return,
    record_delivery,
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
    withdraw_return,
)


def a_claimed_order(**order: Any) -> Steps:
    """A complete claim on the usual order, opened on Monday, 9 March 2026, at noon."""
    return a_delivered_order(**{"price": "300.00"} | order) + a_claim(reported="2026-03-09 12:00")


def a_replaced_order(remedy: str = "replacement", **order: Any) -> Steps:
    """The replacement was shipped in parcel P-2 and delivered on Wednesday, 18 March 2026."""
    return (
        a_claimed_order(**order)
        + resolve_claim(remedy=remedy, at="2026-03-09 13:00")
        + record_shipment("P-2", 1, at="2026-03-16 10:00")
        + record_delivery("P-2", at="2026-03-18 10:00")
    )


def the_case(story: Scenario) -> Case:
    """The case of the order, as the store has it."""
    return fold("A-1", list(story.desk.services.store.load("A-1")))


def refused(story: Scenario, step: Step) -> str:
    """The message of ``quantity.exceeded``."""
    error = story.tell(step)["error"]
    assert error["code"] == "quantity.exceeded", error
    return str(error["message"])


# ---- a claim is opened, and settled once ----------------------------------------------------------------------------


def test_a_claim_is_opened_while_a_return_has_the_unit_and_settled_once_it_is_withdrawn() -> None:
    story = given(a_delivered_order(), request_return(at="2026-03-09 10:00")).at("2026-03-09 12:00")

    story.when(report_wrong_item()).then("ClaimOpened")
    assert refused(story, resolve_claim(remedy="replacement")) == (
        "remedy: asked to settle 1 unit of line 1, but 0 of the 1 that claim C-1 reported are left; it is in return R-1"
    )
    story.when(withdraw_return()).then_accepted()
    story.when(resolve_claim(remedy="replacement")).then("ClaimResolved")


def test_a_claim_on_a_returned_unit_keeps_the_time_of_its_notice_and_cannot_be_settled() -> None:
    story = given(a_delivered_order(), a_return(refunded=True)).at("2026-03-13 12:00")

    story.when(report_wrong_item()).then("ClaimOpened")
    story.then_view("claim/C-1", status="open", reported_at="2026-03-13T12:00:00-04:00")
    for remedy in ("refund", "replacement", "both"):
        story.when(resolve_claim(remedy=remedy)).then_error("quantity.exceeded")
    story.when(deny_claim()).then("ClaimDenied")


def test_of_two_open_claims_the_first_to_be_settled_gets_the_unit() -> None:
    story = given(a_claimed_order(quantity=2)).when(report_wrong_item("C-2", quantity=2)).then("ClaimOpened")

    story.when(resolve_claim("C-1", "replacement")).then("ClaimResolved")
    assert refused(story, resolve_claim("C-2", "refund")) == (
        "remedy: asked to settle 2 units of line 1, but 1 of the 2 that claim C-2 reported is left; 1 of them is in claim "
        "C-1"
    )
    story.when(resolve_claim("C-2", "refund", quantity=1)).then("ClaimResolved")
    story.when(request_refund(claim_id="C-2")).then("RefundRequested")
    story.then_view("refund/F-1", total="300.00")


def test_no_more_units_are_settled_than_were_reported() -> None:
    story = given(a_claimed_order(quantity=2))

    assert refused(story, resolve_claim(quantity=2)) == (
        "quantity: asked to settle 2 units of line 1, but 1 of the 1 that claim C-1 reported is left"
    )


def test_a_claim_on_a_cancelled_order_is_opened_and_cannot_be_settled() -> None:
    story = (
        given(shipped_before_the_cancellation()).at("2026-03-06 10:00").when(report_wrong_item()).then("ClaimOpened")
    )

    for remedy in ("refund", "replacement", "both"):
        story.when(resolve_claim(remedy=remedy)).then_error("transition.not_allowed")


def test_a_unit_that_was_sent_back_and_replaced_is_not_refunded_by_its_return_as_well() -> None:
    story = given(
        a_delivered_order(),
        report_wrong_item(at="2026-03-09 09:00"),
        request_return(at="2026-03-09 10:00"),
        receive_return(at="2026-03-10 10:00"),
        inspect_return(0, rejected=1),
        record_send_back(at="2026-03-11 10:00"),
        resolve_claim(remedy="replacement", at="2026-03-11 11:00"),
    )

    story.when(override("returns.condition", "return/R-1")).then_error("override.no_effect")
    story.when(request_refund()).then_declined("returns.condition")


def test_a_return_is_not_refunded_for_a_unit_that_a_claim_settled_meanwhile() -> None:
    story = given(
        a_claimed_order(quantity=2), resolve_claim(remedy="replacement"), request_return(1, at="2026-03-10 09:00")
    )

    story.when(request_return(1, return_id="R-2")).then_declined("returns.window")
    assert refused(story, request_return(2, return_id="R-3")) == (
        "lines[0].quantity: asked for 2 of line 1, but 2 were bought and 1 more granted as a replacement, and 2 of them "
        "are in return R-1 and claim C-1"
    )


# ---- a replacement ---------------------------------------------------------------------------------------------------


def test_a_replacement_is_shipped_delivered_and_returned_within_its_own_window_at_the_price_of_the_original() -> None:
    story = given(a_replaced_order(price="300.00", tax="26.63")).just_before("2026-04-02 00:00")

    story.when(request_return()).then("ReturnRequested", "ReturnAuthorized")
    story.given(receive_return(), inspect_return())
    story.when(request_refund()).then("RefundRequested").then_view("refund/F-1", merchandise="300.00", tax="26.63")


def test_the_window_of_a_replacement_ends() -> None:
    given(a_replaced_order()).at("2026-04-02 00:00").when(request_return()).then_declined("returns.window")


def test_no_more_replacements_are_shipped_than_were_granted() -> None:
    story = given(a_replaced_order())

    story.when(record_shipment("P-3", 1)).then("Shipped", "ExceptionRaised")
    assert story.ask("order/A-1")["lines"][0]["delivered"] == 2


def test_the_parcel_of_a_replacement_is_known_by_its_delivery_first() -> None:
    story = given(a_claimed_order(), resolve_claim(remedy="replacement", at="2026-03-09 13:00")).at("2026-03-18 10:00")

    story.when(record_delivery("P-2")).then("Delivered")
    assert [parcel.units for parcel in the_case(story).order.parcels.values()] == [{"1": 1}, {"1": 1}]
    story.when(record_shipment("P-2", 1, shipped_at="2026-03-16 10:00")).then("Shipped")
    story.when(request_return()).then("ReturnRequested", "ReturnAuthorized")


def test_the_shipment_of_a_replacement_is_learnt_before_its_settlement() -> None:
    story = (
        given(a_claimed_order())
        .at("2026-03-16 10:00")
        .when(record_shipment("P-2", 1))
        .then("Shipped", "ExceptionRaised")
    )

    story.given(resolve_claim(remedy="replacement"), record_delivery("P-2", at="2026-03-18 10:00"))
    story.at("2026-03-22 10:00").when(request_return()).then("ReturnRequested", "ReturnAuthorized")
    assert [taken.parcel_id for taken in the_case(story).returns["R-1"].lines[0].parcels] == ["P-2"]


def test_a_replacement_that_was_lost_is_shipped_again() -> None:
    story = given(
        a_claimed_order(), resolve_claim(remedy="replacement"), record_shipment("P-2", 1, at="2026-03-16 10:00")
    )

    story.given(report_parcel_lost("P-2", at="2026-03-18 10:00")).when(record_shipment("P-3", 1)).then("Shipped")


def test_a_shipment_without_lines_holds_the_replacement() -> None:
    story = given(a_claimed_order(), resolve_claim(remedy="replacement")).when(record_shipment("P-2")).then("Shipped")

    assert the_case(story).order.parcels["P-2"].units == {"1": 1}


def test_a_replacement_that_is_wrong_as_well_is_claimed_and_replaced_again() -> None:
    story = given(a_replaced_order()).at("2026-03-20 10:00").when(report_wrong_item("C-2")).then("ClaimOpened")

    story.when(resolve_claim("C-2", "replacement")).then("ClaimResolved")
    story.when(record_shipment("P-3", 1)).then("Shipped")
    story.when(record_delivery("P-3")).then("Delivered")
    story.when(request_return()).then("ReturnRequested", "ReturnAuthorized")
    assert [taken.parcel_id for taken in the_case(story).returns["R-1"].lines[0].parcels] == ["P-3"]


def test_a_replacement_that_is_wrong_as_well_is_paid_back_once() -> None:
    story = given(a_replaced_order()).at("2026-03-20 10:00").when(report_wrong_item("C-2")).then("ClaimOpened")

    story.when(resolve_claim("C-2", "refund")).then("ClaimResolved")
    story.when(request_refund(claim_id="C-2")).then("RefundRequested").then_view("refund/F-1", total="300.00")
    story.when(request_return()).then_error("quantity.exceeded")


def test_no_money_is_left_in_a_replacement_that_was_given_beside_a_refund() -> None:
    story = given(a_replaced_order("both", quantity=2)).at("2026-03-19 10:00")
    story.when(request_refund(claim_id="C-1")).then("RefundRequested").then_view("refund/F-1", total="300.00")

    assert refused(story, request_return(2)) == (
        "lines[0].quantity: asked for 2 of line 1, but 2 were bought and 1 more granted as a replacement, and 2 of them "
        "are in claim C-1"
    )
    # The unit that is left came in the first parcel, so its window counts, and not that of the replacement.
    story.when(request_return(1)).then("ReturnRequested", "ReturnAuthorized")
    assert [taken.parcel_id for taken in the_case(story).returns["R-1"].lines[0].parcels] == ["P-1"]
    story.just_before("2026-04-02 00:00").when(request_return(1, return_id="R-2")).then_error("quantity.exceeded")


def test_the_shop_cancels_a_replacement_that_it_cannot_ship_and_pays_for_it() -> None:
    story = given(a_claimed_order(), resolve_claim(remedy="replacement")).when(cancel_order(1)).then("UnitsCancelled")

    story.when(request_refund(order_id="A-1")).then("RefundRequested").then_view("refund/F-1", merchandise="300.00")
    story.when(record_shipment("P-2", 1)).then("Shipped", "ExceptionRaised")


# ---- goods of a cancelled order come back ----------------------------------------------------------------------------


def shipped_before_the_cancellation(**order: Any) -> Steps:
    """The parcel had left when the customer cancelled; the shop learnt of it later. The order was paid back."""
    return (
        an_order(confirmed="2026-03-02 10:00", price="300.00", **order)
        + request_cancellation(at="2026-03-02 11:00")
        + record_shipment(at="2026-03-02 11:30", shipped_at="2026-03-02 10:55")
        + request_refund("F-0", order_id="A-1", at="2026-03-02 12:00")
        + record_refund_result(refund_id="F-0")
        + record_delivery(at="2026-03-05 12:00")
    )


@pytest.mark.parametrize("order", [{}, {"final_sale": True}, {"account_id": None}])
def test_goods_of_a_cancelled_order_come_back_and_nothing_is_owed_for_them(order: dict[str, Any]) -> None:
    story = given(shipped_before_the_cancellation(**order)).at("2026-05-06 10:00")

    story.when(request_return()).then("ReturnRequested", "ReturnAuthorized")
    assert {clause.verdict for clause in the_case(story).last.event.ruling} == {"not_applicable"}
    story.when(receive_return()).then("Received")
    story.when(inspect_return()).then("Inspected")
    story.when(request_refund()).then("RefundRequested", "Refunded")
    story.then_view("refund/F-1", total="0.00", status="refunded")
    story.then_view("return/R-1", status="refunded")
    story.then_view("refund/F-0", total="300.00")


def test_goods_of_a_cancelled_order_come_back_once() -> None:
    story = given(shipped_before_the_cancellation(), request_return(at="2026-03-06 10:00"))

    story.when(request_return(return_id="R-2")).then_error("transition.not_allowed")


def test_goods_of_a_cancelled_order_do_not_come_back_before_they_are_shipped() -> None:
    story = given(an_order(confirmed="2026-03-02 10:00"), request_cancellation(at="2026-03-02 11:00"))

    story.when(request_return()).then_error("transition.not_allowed")


def test_no_label_is_too_late_for_goods_of_a_cancelled_order() -> None:
    story = given(shipped_before_the_cancellation(), request_return(at="2026-03-06 10:00"), issue_label())

    story.at("2026-03-20 10:00").when(issue_label("L-2")).then("LabelIssued")
    story.at("2026-04-20 10:00").when(record_return_shipment("L-2")).then("ReturnShipped")
    story.when(receive_return()).then("Received")


def test_a_unit_that_the_shop_cancelled_and_shipped_all_the_same_comes_back() -> None:
    story = given(
        an_order(quantity=2, price="300.00", confirmed="2026-03-02 10:00"),
        cancel_order(1, at="2026-03-02 10:30"),
        record_shipment("P-1", 2, at="2026-03-03 09:00"),
        record_delivery(at="2026-03-05 14:00"),
    ).at("2026-03-06 10:00")

    story.when(request_return(2)).then_error("quantity.exceeded")
    story.when(request_return(1)).then("ReturnRequested", "ReturnAuthorized")
    story.when(request_return(1, return_id="R-2")).then("ReturnRequested", "ReturnAuthorized")
    story.when(request_return(1, return_id="R-3")).then_error("quantity.exceeded")
    story.given(receive_return(), inspect_return(), receive_return("R-2"), inspect_return(return_id="R-2"))
    story.when(request_refund("F-1")).then("RefundRequested").then_view("refund/F-1", total="300.00")
    story.when(request_refund("F-2", return_id="R-2")).then("RefundRequested", "Refunded")
    story.then_view("refund/F-2", total="0.00")


def test_a_unit_that_was_in_a_return_before_it_was_cancelled_elsewhere_does_not_come_back_twice() -> None:
    story = given(an_order(quantity=2, delivered="2026-03-05 14:00"), request_return(1, at="2026-03-06 10:00"))
    story.when(cancel_order(2, elsewhere=True)).then("UnitsCancelled", "ExceptionRaised")

    story.when(request_return(1, return_id="R-2")).then("ReturnRequested", "ReturnAuthorized")
    story.when(request_return(1, return_id="R-3")).then_error("transition.not_allowed")

    (line,) = story.ask("eligibility/A-1")["lines"]
    assert line["return"]["allowed"] is False


def test_eligibility_says_that_goods_of_a_cancelled_order_may_come_back() -> None:
    story = given(shipped_before_the_cancellation())

    (line,) = story.ask("eligibility/A-1")["lines"]
    assert (line["return"]["allowed"], line["return"]["error"]) == (True, None)
    assert line["return"]["clauses"][0]["because"] == "The units were cancelled: they may come back, without a refund."


# ---- over random histories ------------------------------------------------------------------------------------------


WHAT = ("report", "resolve", "deny", "return", "withdraw", "ship", "deliver", "cancel", "inspect", "refund")
ASKED = st.tuples(
    st.sampled_from(WHAT), st.integers(1, 3), st.integers(1, 3), st.sampled_from(("refund", "replacement", "both"))
)


def steps_of(case: Case, new: str, what: str, of: int, count: int, remedy: str) -> list[Step]:
    """What is asked for: of the last returns or claims, or of a new one."""
    returns, claims, parcels = list(case.returns), list(case.claims), list(case.order.parcels)
    match what:
        case "report":
            return [report_wrong_item(f"C-{new}", quantity=count)]
        case "resolve":
            return [resolve_claim(claim_id, remedy) for claim_id in claims[-of:]]
        case "deny":
            return [deny_claim(claim_id) for claim_id in claims[-1:]]
        case "return":
            return [request_return(count, return_id=f"R-{new}")]
        case "withdraw":
            return [withdraw_return(return_id) for return_id in returns[-1:]]
        case "ship":
            return [record_shipment(f"P-{new}", count)]
        case "deliver":
            return [record_delivery(parcel_id) for parcel_id in parcels[-1:]]
        case "cancel":
            return [cancel_order(count)]
        case "inspect":
            found = [(receive_return(name), inspect_return(count, return_id=name)) for name in returns[-of:]]
            return [step for steps in found for step in steps]
        case _:
            found_claims = [request_refund(f"F-{new}-{name}", claim_id=name) for name in claims]
            return found_claims + [request_refund(f"F-{new}-{name}", return_id=name) for name in returns]


@examples(st.integers(1, 3), st.lists(ASKED, min_size=5, max_size=40))
def test_whatever_is_asked_for_one_unit_gets_one_remedy(bought: int, asked: list[tuple[str, int, int, str]]) -> None:
    story = given(an_order(quantity=bought, delivered="2026-03-05 14:00")).at("2026-03-06 10:00")
    for number, each in enumerate(asked):
        for step in steps_of(the_case(story), str(number), *each):
            story.tell(step)

    case = the_case(story)
    paid: Counter[str] = Counter()
    for refund in case.refunds.values():
        paid[refund.stream] = max(paid[refund.stream], sum(item.quantity for item in refund.requested.items))
    replaced = sum(claim.settled_units for claim in case.claims.values() if claim.remedy in ("replacement", "both"))
    remedies = [sum(ret.held("1").values()) for ret in case.returns.values()]
    remedies += [claim.settled_units for claim in case.claims.values()]
    # Each unit there is, bought or granted, got at most one remedy; and money goes back at most once for each bought.
    assert sum(remedies) + case.order.cancelled("1") <= bought + replaced
    assert paid.total() + case.order.cancelled_here.get("1", 0) <= bought

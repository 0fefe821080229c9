"""Overrides: who, why and which clause are on record, and the ruling cites them instead of hiding them."""

from __future__ import annotations

import pytest
from usual import a_delivered_order, a_labelled_return, an_authorized_return

from returnable.testing import (
    Scenario,
    Step,
    a_claim,
    a_return,
    an_order,
    event,
    finding,
    given,
    impossible,
    inspect_return,
    issue_label,
    override,
    receive_return,
    record_refund_result,
    record_return_shipment,
    record_send_back,
    report_return_lost,
    report_wrong_item,
    request_cancellation,
    request_refund,
    request_return,
    resolve_claim,
    step,
)


def set_aside(clause: str, subject: str = "order/A-1") -> Step:
    """Kim sets a clause aside, out of goodwill."""
    return override(clause, subject, reason="goodwill", approved_by="kim")


def test_an_override_is_on_record_in_the_stream_of_its_subject() -> None:
    story = given(a_delivered_order()).when(set_aside("returns.window"))

    story.then(event("OverrideGranted", clause="returns.window", reason="goodwill", approved_by="kim"))
    assert story.ask("audit/order/A-1")["entries"][-1]["type"] == "OverrideGranted"


def test_an_override_of_a_clause_nobody_knows_is_malformed() -> None:
    given(a_delivered_order()).when(set_aside("returns.mood")).then_error("command.invalid", "clause")


@pytest.mark.parametrize(
    ("clause", "request_", "order"),
    [
        ("returns.window", request_return(at="2026-04-20 12:00"), {}),
        ("returns.final_sale", request_return(), {"final_sale": True}),
        ("returns.account", request_return(), {"account_id": None}),
        ("returns.portal", request_return(channel="phone"), {}),
        ("returns.no_exchanges", request_return(resolution="exchange"), {}),
    ],
)
def test_a_return_clause_set_aside_for_the_order_lets_the_request_pass(
    clause: str, request_: Step, order: dict[str, object]
) -> None:
    story = given(a_delivered_order(**order)).at("2026-03-09 12:00").when(request_).then_declined(clause)
    story.given(set_aside(clause))

    story.when(step(**(request_.fields | {"return_id": "R-2"})))

    story.then("ReturnRequested", "ReturnAuthorized")
    story.then_clause(clause, "overridden", because="kim", override={"approved_by": "kim", "reason": "goodwill"})
    story.then_clause(clause, because="goodwill")


@pytest.mark.parametrize(
    ("clause", "request_", "shipped"),
    [
        ("cancellation.window", request_cancellation(at="2026-03-02 12:00:01"), None),
        ("cancellation.not_shipped", request_cancellation(), "2026-03-02 10:30"),
        ("cancellation.by_email", request_cancellation(channel="phone"), None),
    ],
)
def test_a_cancellation_clause_set_aside_lets_the_request_pass(
    clause: str, request_: Step, shipped: str | None
) -> None:
    story = given(an_order(confirmed="2026-03-02 10:00", shipped=shipped)).at("2026-03-02 11:00")
    story.when(request_).then_declined(clause).given(set_aside(clause))

    story.when(request_)

    story.then("CancellationRequested", "Cancelled").then_clause(clause, "overridden")
    story.then_view("order/A-1", status="cancelled")


@pytest.mark.parametrize(
    ("clause", "at", "channel"),
    [("wrong_item.window", "2026-03-17", "email"), ("wrong_item.by_email", "2026-03-09 12:00", "phone")],
)
def test_a_claim_clause_set_aside_for_the_order_lets_the_report_pass(clause: str, at: str, channel: str) -> None:
    story = given(a_delivered_order()).at(at).when(report_wrong_item("C-1", channel=channel)).then_declined(clause)
    story.given(set_aside(clause))

    story.when(report_wrong_item("C-2", channel=channel)).then("ClaimOpened").then_clause(clause, "overridden")


def test_evidence_set_aside_for_the_claim_settles_it() -> None:
    story = given(a_delivered_order(), a_claim("C-1", attachments=[]), a_claim("C-2", attachments=[]))
    story.given(set_aside("wrong_item.evidence", "claim/C-1"))

    story.when(resolve_claim("C-1", "replacement")).then("ClaimResolved")
    story.then_clause("wrong_item.evidence", "overridden")

    story.when(resolve_claim("C-2", "replacement")).then_declined("wrong_item.evidence")


def test_an_override_for_one_return_does_not_touch_another() -> None:
    story = given(
        a_labelled_return(quantity=2),
        request_return(return_id="R-2", at="2026-03-09 13:00"),
        issue_label(return_id="R-2"),
        set_aside("returns.ship_by", "return/R-1"),
    ).at("2026-03-12")

    story.when(receive_return("R-1")).then("Received").then_clause("returns.ship_by", "overridden")
    story.when(receive_return("R-2")).then("ParcelRejected")

    story.then_view("return/R-1", late=True)


def test_condition_set_aside_accepts_the_units() -> None:
    story = given(a_labelled_return(), receive_return(), set_aside("returns.condition", "return/R-1"))

    story.when(inspect_return(findings=[finding(tags_attached=False)]))

    story.then_clause("returns.condition", "overridden").then_view("return/R-1", lines=[{"accepted": 1}])
    story.then_view("refund", {"return_id": "R-1"}, total="750.00")


def rejected() -> Scenario:
    """A return of which nothing was accepted: its unit was not as it had been."""
    worn = inspect_return(findings=[finding(same_condition=False)], at="2026-03-16 10:00")
    came = (record_return_shipment(at="2026-03-10 16:00"), receive_return(at="2026-03-13 11:00"))
    return given(a_labelled_return(), *came, worn)


def test_condition_set_aside_after_the_inspection_pays_for_the_rejected_units() -> None:
    story = rejected().given(set_aside("returns.condition", "return/R-1"))

    story.when(request_refund()).then("RefundRequested")

    story.then_clause("returns.condition", "overridden").then_view("refund/F-1", total="750.00")


def test_inspection_set_aside_pays_for_a_parcel_that_was_lost() -> None:
    lost = (record_return_shipment(at="2026-03-10 16:00"), report_return_lost())
    story = given(a_labelled_return(), *lost, set_aside("returns.refund_after_inspection", "return/R-1"))

    story.when(request_refund()).then("RefundRequested").then_view("refund/F-1", total="750.00")


@pytest.mark.parametrize(
    ("clause", "total"),
    [("returns.label_fee", "100.00"), ("returns.shipping_non_refundable", "100.00")],
    ids=["fee", "shipping"],
)
def test_money_kept_by_a_clause_goes_back_when_it_is_set_aside(clause: str, total: str) -> None:
    story = given(a_delivered_order(price="100.00", shipping="20.00"), a_return(inspected=True))
    story.then_view("refund", {"return_id": "R-1"}, total="80.00").given(set_aside(clause, "return/R-1"))

    story.when(request_refund())

    story.then_clause(clause, "overridden").then_view("refund/F-1", total=total)


def test_a_clause_that_holds_anyway_passes_and_is_not_called_overridden() -> None:
    story = given(a_delivered_order(), set_aside("returns.window")).at("2026-03-09 12:00")

    story.when(request_return()).then_clause("returns.window", "pass")


def test_an_override_sets_aside_one_clause_and_no_other() -> None:
    story = given(a_delivered_order(final_sale=True), set_aside("returns.final_sale")).at("2026-03-20")

    story.when(request_return(channel="phone")).then_declined("returns.portal", "returns.window")

    story.then_clause("returns.final_sale", "overridden")


@pytest.mark.parametrize(
    ("subject", "code"),
    [
        ("order/A-9", "order.unknown"),
        ("return/R-9", "return.unknown"),
        ("claim/W-9", "claim.unknown"),
        ("refund/F-9", "command.invalid"),
    ],
)
def test_an_override_is_for_a_known_order_return_or_claim(subject: str, code: str) -> None:
    given(a_delivered_order()).when(set_aside("returns.window", subject)).then_error(code)


def test_a_unit_paid_back_although_it_was_rejected_is_neither_sent_back_nor_free() -> None:
    story = rejected().given(
        set_aside("returns.condition", "return/R-1"),
        request_refund(),
        record_refund_result(),
        impossible(record_send_back()),
    )

    story.when(request_return(return_id="R-2")).then_error("quantity.exceeded")


def cancelled_after_delivery(quantity: int = 1, settled: bool = False) -> Scenario:
    """A delivered order with a claim on one unit, open or settled by refund, then cancelled by way of two overrides."""
    return given(
        a_delivered_order(quantity=quantity),
        a_claim(resolved=settled),
        set_aside("cancellation.window"),
        set_aside("cancellation.not_shipped"),
        request_cancellation(),
    ).then_view("order/A-1", status="cancelled")


def test_a_claim_is_not_settled_by_refund_once_the_cancelled_order_was_refunded_in_full() -> None:
    story = cancelled_after_delivery().given(request_refund(order_id="A-1"))

    story.when(resolve_claim()).then_error("transition.not_allowed")


def test_an_order_with_a_return_under_way_is_not_cancelled_even_by_overrides() -> None:
    story = given(an_authorized_return(), set_aside("cancellation.window"), set_aside("cancellation.not_shipped")).when(
        request_cancellation()
    )

    story.then_error("transition.not_allowed", message="R-1")


def test_a_lost_parcel_is_paid_for_when_the_risk_is_set_aside() -> None:
    lost = (record_return_shipment(at="2026-03-10 16:00"), report_return_lost(at="2026-03-20 09:00"))
    story = given(a_labelled_return(), *lost)

    story.when(request_refund()).then_declined("returns.refund_after_inspection")
    story.given(set_aside("returns.transit_risk", "return/R-1")).when(request_refund())

    story.then_accepted().then_clause("returns.transit_risk", "overridden")


def test_the_refund_of_a_cancelled_order_leaves_out_what_a_claim_has_settled() -> None:
    story = cancelled_after_delivery(quantity=2, settled=True)

    story.then_view("refund", {"order_id": "A-1"}, total="750.00")

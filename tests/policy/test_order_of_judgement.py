"""What is said first when a command is wrong in several ways: shape, key, id, money, state, quantity, policy."""

from __future__ import annotations

from typing import Any

import pytest

from returnable.testing import (
    a_claim,
    a_return,
    an_order,
    confirm_order,
    correct_inspection,
    finding,
    given,
    override,
    record_delivery,
    record_return_shipment,
    report_wrong_item,
    request_cancellation,
    request_refund,
    request_return,
    resolve_claim,
    withdraw_return,
)

DELIVERED = an_order(delivered="2026-03-05 14:00")
LABELLED = (DELIVERED, a_return(requested="2026-03-09 12:00", labelled="2026-03-09 12:30"))
INSPECTED = (
    DELIVERED,
    a_return(requested="2026-03-09 12:00", shipped="2026-03-10 16:00", received="2026-03-13", inspected="2026-03-16"),
)


def test_a_malformed_command_is_invalid_before_its_order_is_unknown() -> None:
    story = given()

    story.when(request_return({"1": 0}, order_id="nope"))

    story.then_error("command.invalid", field="lines[0].quantity")


def test_a_future_fact_is_invalid_before_its_order_is_unknown() -> None:
    story = given().at("2026-03-02 10:00:00")

    story.when(record_delivery(order_id="nope", delivered_at="2026-03-02 10:00:01"))

    story.then_error("command.invalid", field="delivered_at")


def test_an_order_exists_before_its_money_does_not_add_up() -> None:
    story = given(an_order(price="750.00"))

    story.when(confirm_order(payments=[{"payment_id": "p-1", "method": "card", "amount": "1.00"}]))

    story.then_error("order.exists")


def test_a_line_is_unknown_before_the_order_is_cancelled() -> None:
    story = given(an_order(), request_cancellation())

    story.when(request_return({"nope": 1})).then_error("line.unknown")

    story.when(request_return(99)).then_error("transition.not_allowed")


def test_a_label_is_unknown_before_the_return_is_closed() -> None:
    story = given(LABELLED, withdraw_return())

    story.when(record_return_shipment("L-9"))

    story.then_error("label.unknown")


def test_a_line_is_unknown_before_a_correction_is_too_early() -> None:
    story = given(LABELLED)

    story.when(correct_inspection(findings=[finding("nope")])).then_error("line.unknown")

    story.when(correct_inspection(findings=[finding(quantity=99)])).then_error("transition.not_allowed")


def test_the_quantity_is_exceeded_before_the_policy_declines() -> None:
    story = given(an_order(final_sale=True, delivered="2026-03-05 14:00"))

    story.at("2026-04-20 12:00").when(request_return(2, channel="phone"))

    story.then_error("quantity.exceeded")


def test_an_existing_return_is_named_before_an_unknown_line() -> None:
    story = given(DELIVERED, request_return(at="2026-03-09 12:00"))

    story.at("2026-03-09 13:00").when(request_return({"nope": 1}))

    story.then_error("return.exists")


@pytest.mark.parametrize(
    ("subject", "code"),
    [
        ({"return_id": "R-9"}, "return.unknown"),
        ({"order_id": "A-9"}, "order.unknown"),
        ({"claim_id": "W-9"}, "claim.unknown"),
    ],
)
def test_a_refund_of_something_unknown_is_unknown(subject: dict[str, Any], code: str) -> None:
    given(INSPECTED).when(request_refund(**subject)).then_error(code)


def test_a_claim_settled_twice_is_not_allowed_before_its_quantity_is_exceeded() -> None:
    story = given(DELIVERED, a_claim(resolved=True, remedy="refund"))

    story.when(resolve_claim(remedy="refund"))

    story.then_error("transition.not_allowed")


def test_the_quantity_is_exceeded_before_the_evidence_is_missing() -> None:
    story = given(DELIVERED, report_wrong_item(attachments=[], at="2026-03-09 12:00"), request_return())

    story.when(resolve_claim(remedy="refund"))

    story.then_error("quantity.exceeded")
    assert story.ruling is None


def test_an_override_of_an_unknown_clause_is_invalid_before_its_subject_is_unknown() -> None:
    given().when(override("returns.mood", "order/A-9")).then_error("command.invalid", field="clause")

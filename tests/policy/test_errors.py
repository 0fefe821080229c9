"""Every error code, and that the message names the field, the id or the state."""

from __future__ import annotations

from typing import Any

import pytest
from reading import code

from returnable.testing import (
    Step,
    a_return,
    an_order,
    cancel_order,
    confirm_order,
    correct_delivery,
    correct_inspection,
    deny_claim,
    given,
    inspect_return,
    link_account,
    notify_customer,
    receive_return,
    record_label_received,
    record_refund_result,
    record_return_shipment,
    record_send_back,
    record_shipment,
    report_return_lost,
    report_wrong_item,
    request_cancellation,
    request_refund,
    resolve_claim,
    run_deadlines,
    step,
    void_label,
    withdraw_return,
)

AN_ORDER = dict(confirm_order().fields)

LABELLED = (
    an_order(delivered="2026-03-05 14:00"),
    a_return(requested="2026-03-09 12:00", labelled="2026-03-09 12:30"),
)
"""The return R-1, with the label L-1."""


def confirm(**changes: Any) -> dict[str, Any]:
    """What comes of the usual order with fields changed, each passed on as it is, at 10:00 in New York."""
    return given().at("2026-03-02 10:00").tell(**(AN_ORDER | changes))


def a_line(**changes: Any) -> dict[str, Any]:
    """The field of the order's one line, with fields of it changed."""
    return {"lines": [{"line_id": "1", "sku": "S", "unit_price": "750.00", "quantity": 1} | changes]}


def named(value: object) -> str | None:
    """A step by its command, in the name of a test."""
    return value.command if isinstance(value, Step) else None


# ---- what is malformed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        (a_line(unit_price="-1.00"), "lines[0].unit_price"),
        (a_line(unit_price="750.001"), "lines[0].unit_price"),
        (a_line(unit_price=750.0), "lines[0].unit_price"),
        (a_line(unit_price=750), "lines[0].unit_price"),
        (a_line(unit_price="7.5e2"), "lines[0].unit_price"),
        (a_line(unit_price="NaN"), "lines[0].unit_price"),
        (a_line(tax="0.005"), "lines[0].tax"),
        (a_line(quantity=0), "lines[0].quantity"),
        (a_line(quantity=-1), "lines[0].quantity"),
        (a_line(quantity=1.5), "lines[0].quantity"),
        (a_line(quantity=True), "lines[0].quantity"),
        (a_line(quantity="1"), "lines[0].quantity"),
        (a_line(final_sale="yes"), "lines[0].final_sale"),
        (a_line(colour="red"), "lines[0].colour"),
        ({"lines": a_line()["lines"] * 2}, "lines[1].line_id"),
        ({"lines": []}, "lines"),
        ({"payments": AN_ORDER["payments"] * 2}, "payments[1].payment_id"),
        ({"shipping": {"charged": "-0.01"}}, "shipping.charged"),
        ({"shipping": {"charged": "0", "tax": "0.001"}}, "shipping.tax"),
        ({"currency": "XYZ"}, "currency"),
        (a_line(unit_price="750.50") | {"currency": "JPY"}, "lines[0].unit_price"),
        ({"order_id": ""}, "order_id"),
        ({"order_id": "x" * 129}, "order_id"),
        ({"order_id": "a\nb"}, "order_id"),
        ({"order_id": 7}, "order_id"),
        ({"confirmed_at": "2026-03-02T10:00:00"}, "confirmed_at"),
        ({"confirmed_at": "2026-03-02T10:00:01-05:00"}, "confirmed_at"),
        ({"confirmed_at": "2026-02-30T10:00:00-05:00"}, "confirmed_at"),
        ({"confirmed_at": 1772463600}, "confirmed_at"),
        ({"customer": {"customer_id": "c-1"}}, "customer.account_id"),
        ({"actor": {"role": "robot", "id": "x"}}, "actor.role"),
        ({"note": "hello"}, "note"),
    ],
)
def test_a_malformed_order_is_one_clear_error_that_names_the_field(changes: dict[str, Any], field: str) -> None:
    outcome = confirm(**changes)

    assert code(outcome) == "command.invalid"
    assert outcome["error"]["field"] == field
    assert outcome["error"]["message"].startswith(field)


def test_an_order_of_the_longest_ids_and_most_digits_is_fine() -> None:
    outcome = confirm(order_id="x" * 128, payments=[{"payment_id": "p", "method": "card", "amount": "750"}])

    assert outcome["outcome"] == "accepted"


@pytest.mark.parametrize("amount", ["749.99", "750.01", "0.00"])
def test_payments_that_do_not_add_up_are_a_mismatch(amount: str) -> None:
    outcome = confirm(payments=[{"payment_id": "p", "method": "card", "amount": amount}])

    assert code(outcome) == "money.mismatch"
    assert amount in outcome["error"]["message"]
    assert "750.00" in outcome["error"]["message"]


LATER = "2026-03-10T13:00:01+00:00"
"""A second after nine o'clock in New York, said as London says it."""


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (receive_return(received_at=LATER), "received_at"),
        (record_return_shipment(None, shipped_at=LATER), "shipped_at"),
        (report_return_lost(reported_at=LATER), "reported_at"),
    ],
    ids=named,
)
def test_a_fact_of_the_return_dated_in_the_future_is_malformed(event: Step, field: str) -> None:
    story = given(LABELLED)

    story.at("2026-03-10 09:00:00").when(event)

    story.then_error("command.invalid", field=field)


# ---- what is impossible --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (request_cancellation("A-9"), "order.unknown"),
        (link_account("A-9"), "order.unknown"),
        (correct_delivery("P-9"), "parcel.unknown"),
        (withdraw_return("R-9"), "return.unknown"),
        (receive_return("R-9"), "return.unknown"),
        (void_label("L-9"), "label.unknown"),
        (record_label_received("L-9"), "label.unknown"),
        (record_return_shipment("L-9"), "label.unknown"),
        (deny_claim("C-9"), "claim.unknown"),
        (resolve_claim("C-9"), "claim.unknown"),
        (record_refund_result(refund_id="F-9", result="failed"), "refund.unknown"),
        (report_wrong_item(line_id="9"), "line.unknown"),
        (inspect_return({"9": 1}), "line.unknown"),
        (record_send_back({"9": 1}), "line.unknown"),
        (notify_customer("order/A-9"), "order.unknown"),
        (notify_customer("refund/F-9"), "refund.unknown"),
        (resolve_claim("C-9", remedy="apology"), "command.invalid"),
        (step("request_refund", refund_id="F-1"), "command.invalid"),
        (request_refund(return_id="R-1", order_id="A-1"), "command.invalid"),
        (run_deadlines(order_id="A-1"), "command.invalid"),
        (step("dance"), "command.invalid"),
    ],
    ids=named,
)
def test_an_impossible_command_is_one_specific_error(command: Step, expected: str) -> None:
    story = given(LABELLED)

    outcome = story.tell(command)

    assert code(outcome) == expected
    assert outcome["error"]["message"]


@pytest.mark.parametrize(
    ("query", "fields", "expected"),
    [
        ("order", {"order_id": "A-9"}, "order.unknown"),
        ("return", {"return_id": "R-9"}, "return.unknown"),
        ("claim", {"claim_id": "W-9"}, "claim.unknown"),
        ("refund", {"refund_id": "F-9"}, "refund.unknown"),
        ("eligibility", {"order_id": "A-9"}, "order.unknown"),
        ("audit", {"stream": "order/A-9"}, "order.unknown"),
        ("audit", {"stream": "refund/F-1"}, "command.invalid"),
        ("worklist", {"kinds": ["dance"]}, "command.invalid"),
        ("order", {"order_id": "A-1", "as_of": "2026-03-02T10:00:00"}, "command.invalid"),
        ("weather", {}, "command.invalid"),
    ],
)
def test_an_impossible_question_is_one_specific_error(query: str, fields: dict[str, Any], expected: str) -> None:
    story = given(LABELLED)

    line = {"at": story.now, "query": query} | fields  # told as it is: ask() takes wall times
    (answer,) = story.play([line | {"expect": {"error": expected}}])

    assert answer["error"]["code"] == expected


def test_a_transition_error_names_the_state_the_command_and_what_is_allowed_now() -> None:
    story = given(LABELLED)

    outcome = story.tell(correct_inspection())

    assert code(outcome) == "transition.not_allowed"
    assert outcome["error"]["state"] == "labelled"
    assert "correct_inspection" in outcome["error"]["message"]
    assert "receive_return" in outcome["error"]["allowed"]


def test_only_what_some_arguments_make_possible_is_allowed() -> None:
    came = receive_return(at="2026-03-10 09:00")
    facts = ["record_return_shipment", "receive_return", "report_return_lost", "inspect_return", "record_send_back"]
    bought = an_order(quantity=2, delivered="2026-03-05 14:00")
    one, two = (given(bought, a_return(units=count, requested="2026-03-09 12:00"), came) for count in (1, 2))

    # There is no label and no finding yet, and one unit is not reduced.
    for story, reducible in ((one, []), (two, ["reduce_return"])):
        allowed = story.tell(withdraw_return())["error"]["allowed"]
        assert sorted(allowed) == sorted([*facts, *reducible, "issue_label", "request_refund"])
    # The desk owes nothing for the order.
    owes_nothing = given(an_order(delivered="2026-03-05 14:00")).tell(cancel_order())["error"]["allowed"]
    assert "correct_delivery" in owes_nothing
    assert "request_refund" not in owes_nothing


def test_the_clock_of_the_lines_never_runs_backwards() -> None:
    lines = [
        {"at": "2026-03-02T10:00:00-05:00", "query": "worklist"},
        {"at": "2026-03-02T14:59:59+00:00", "query": "worklist", "expect": {"error": "command.invalid"}},
        {"at": "2026-03-02T15:00:00+00:00", "query": "worklist"},
    ]

    errors = [played["error"] for played in given().play(lines)]

    assert [error and (error["code"], error["field"]) for error in errors] == [None, ("command.invalid", "at"), None]


# ---- ids are local -------------------------------------------------------------------------------------------------------


def test_ids_of_lines_parcels_and_payments_are_local_to_their_order() -> None:
    story = given(an_order("A-1", shipped="2026-03-03 09:00"), an_order("A-2", confirmed="2026-03-03 09:00"))

    story.when(record_shipment("P-1", order_id="A-2"))

    story.then_accepted()


def test_a_line_that_is_not_in_the_return_cannot_be_sent_back() -> None:
    lines = [{"line_id": name, "sku": name, "unit_price": "600.00", "quantity": 1} for name in "12"]
    without_tags = a_return(
        rejected=1, requested="2026-03-09", shipped="2026-03-10", received="2026-03-13", inspected="2026-03-16"
    )
    story = given(an_order(lines=lines, delivered="2026-03-05 14:00"), without_tags)

    story.when(record_send_back({"2": 1}))

    story.then_error("line.unknown")

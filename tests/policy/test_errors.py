"""Every error code, and that the message names the field, the id or the state."""

from __future__ import annotations

from typing import Any

import pytest
from reading import code

from returnable.testing import (
    Scenario,
    Step,
    a_return,
    add_claim_evidence,
    an_order,
    cancel_order,
    close_exception,
    confirm_order,
    correct_delivery,
    correct_inspection,
    declined,
    deny_claim,
    given,
    inspect_return,
    link_account,
    notify_customer,
    override,
    receive_return,
    record_delivery,
    record_label_received,
    record_parcel_returned,
    record_refund_result,
    record_return_shipment,
    record_send_back,
    record_shipment,
    report_return_lost,
    report_wrong_item,
    request_cancellation,
    request_refund,
    request_return,
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

    # There is no label and no finding yet, so no refund either; and one unit is not reduced.
    for story, reducible in ((one, []), (two, ["reduce_return"])):
        assert sorted(allowed(story, withdraw_return())) == sorted([*facts, *reducible, "issue_label"])
    # The desk owes nothing for the order.
    owes_nothing = allowed(given(an_order(delivered="2026-03-05 14:00")), cancel_order())
    lost = ["report_parcel_lost", "record_parcel_returned"]
    assert owes_nothing == ["record_shipment", "record_delivery", "correct_delivery", *lost, "record_refund"]


def allowed(story: Scenario, refused: Step) -> list[str]:
    """What else is allowed, by the error of a command that is not."""
    found: list[str] = story.tell(refused)["error"]["allowed"]
    return found


def test_a_cancellation_is_allowed_only_as_long_as_no_parcel_bars_it() -> None:
    no_exception = close_exception("order/A-1")
    story = given(an_order())

    assert "request_cancellation" in allowed(story.at("2026-03-02 10:10"), no_exception)
    story.given(record_shipment(at="2026-03-02 11:00"))
    assert "request_cancellation" not in allowed(story.at("2026-03-02 11:10"), no_exception)
    # A parcel that came back bars nothing. What was asked for in time may be told at any time.
    story.given(record_parcel_returned("P-1", at="2026-03-02 12:00"), close_exception("order/A-1"))
    assert "request_cancellation" in allowed(story.at("2026-04-02 11:10"), no_exception)


def test_a_delivery_is_corrected_only_where_there_is_one() -> None:
    story = given(an_order(shipped="2026-03-03 09:00"))

    assert "correct_delivery" not in allowed(story, close_exception("order/A-1"))
    story.given(record_delivery(at="2026-03-05 14:00"))
    assert "correct_delivery" in allowed(story, close_exception("order/A-1"))


def test_a_refund_is_allowed_when_something_is_accepted_until_it_is_asked_for() -> None:
    inspected = a_return(requested="2026-03-09 12:00", inspected="2026-03-12 12:00")
    story = given(an_order(delivered="2026-03-05 14:00"), inspected)

    assert "request_refund" in allowed(story, withdraw_return())
    story.given(request_refund())
    assert "request_refund" not in allowed(story, withdraw_return())
    assert allowed(story, request_refund("F-2")) == ["record_refund_result"]
    story.given(record_refund_result(result="failed"))
    assert "request_refund" in allowed(story, withdraw_return())


def test_a_further_label_is_allowed_only_where_none_voided_by_itself_or_an_override_permits_it() -> None:
    story = given(LABELLED)
    no_finding = correct_inspection()

    assert "issue_label" in allowed(story.at("2026-03-11 23:59:59"), no_finding)  # for another box
    assert "issue_label" not in allowed(story.at("2026-03-12 00:00"), no_finding)
    story.given(override("returns.ship_by", "return/R-1"))
    assert "issue_label" in allowed(story, no_finding)


def test_an_arrival_is_allowed_only_where_the_dock_may_take_the_parcel_in() -> None:
    late = record_return_shipment(at="2026-03-13 09:00")
    story, refused = (given(LABELLED, late, *more) for more in ([], [declined(receive_return(at="2026-03-16 09:00"))]))

    assert "receive_return" not in allowed(story, correct_inspection())
    # Another box of the return may have arrived in time, as is told later.
    assert "receive_return" in allowed(refused, correct_inspection())
    story.given(override("returns.ship_by", "return/R-1"))
    assert "receive_return" in allowed(story, correct_inspection())


def test_an_inspection_is_corrected_only_where_what_was_sent_back_can_still_be_rejected() -> None:
    one_of_two = a_return(units=2, rejected=1, requested="2026-03-09 12:00", inspected="2026-03-12 12:00")
    story = given(an_order(quantity=2, delivered="2026-03-05 14:00"), one_of_two, record_send_back())

    assert "correct_inspection" in allowed(story, withdraw_return())
    # From now on an inspection accepts whatever it finds, but the unit that was sent back must stay rejected.
    story.given(override("returns.condition", "order/A-1"))
    assert "correct_inspection" not in allowed(story, withdraw_return())


def test_a_claim_is_settled_only_with_its_evidence_and_a_unit_that_nobody_else_has() -> None:
    claimed = (an_order(delivered="2026-03-05 14:00"), report_wrong_item(attachments=[], at="2026-03-06 12:00"))
    story = given(claimed)
    no_exception = close_exception("claim/C-1")

    assert "resolve_claim" not in allowed(story, no_exception)
    story.given(add_claim_evidence(attachments=["item_picture", "order_confirmation"]))
    assert "resolve_claim" in allowed(story, no_exception)
    story.given(request_return(at="2026-03-06 13:00"))
    assert "resolve_claim" not in allowed(story, no_exception)


def test_a_claim_that_is_denied_allows_no_label_for_the_wrong_item() -> None:
    story = given(an_order(delivered="2026-03-05 14:00"), report_wrong_item(at="2026-03-06 12:00"), deny_claim())

    assert allowed(story, deny_claim()) == ["record_return_shipment", "receive_return"]


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

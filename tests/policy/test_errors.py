"""Every error code, and that the message names the field, the id or the state."""

from __future__ import annotations

import pytest
from kit import Story, an_order, code, finding, ship


def confirm(**changes: object) -> dict:
    return Story().tell("confirm_order", **(an_order() | changes))


def a_line(**changes: object) -> dict:
    return {"lines": [{"line_id": "1", "sku": "S", "unit_price": "750.00", "quantity": 1} | changes]}


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
        ({"payments": an_order()["payments"] * 2}, "payments[1].payment_id"),
        ({"shipping": {"charged": "-0.01"}}, "shipping.charged"),
        ({"shipping": {"charged": "0", "tax": "0.001"}}, "shipping.tax"),
        ({"currency": "XYZ"}, "currency"),
        ({"currency": "JPY"}, "lines[0].unit_price"),
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
def test_a_malformed_order_is_one_clear_error_that_names_the_field(changes: dict, field: str) -> None:
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


@pytest.mark.parametrize(
    ("command", "fields", "expected"),
    [
        ("request_cancellation", {"order_id": "A-9", "channel": "email"}, "order.unknown"),
        ("link_account", {"order_id": "A-9", "account_id": "x"}, "order.unknown"),
        ("record_delivery", {"order_id": "A-1", "parcel_id": "P-9"}, "parcel.unknown"),
        ("withdraw_return", {"return_id": "R-9"}, "return.unknown"),
        ("receive_return", {"return_id": "R-9"}, "return.unknown"),
        ("void_label", {"return_id": "R-1", "label_id": "L-9", "reason": "x"}, "label.unknown"),
        ("record_label_received", {"return_id": "R-1", "label_id": "L-9"}, "label.unknown"),
        ("record_return_shipment", {"return_id": "R-1", "label_id": "L-9"}, "label.unknown"),
        ("deny_claim", {"claim_id": "W-9", "reason": "x"}, "claim.unknown"),
        ("resolve_claim", {"claim_id": "W-9", "remedy": "refund"}, "claim.unknown"),
        ("record_refund_result", {"refund_id": "F-9", "payment_id": "p", "result": "failed"}, "refund.unknown"),
        ("report_wrong_item", {"claim_id": "W", "order_id": "A-1", "line_id": "9", "channel": "email"}, "line.unknown"),
        ("inspect_return", {"return_id": "R-1", "findings": [finding("9")]}, "line.unknown"),
        ("record_send_back", {"return_id": "R-1", "lines": [{"line_id": "9", "quantity": 1}]}, "line.unknown"),
        ("notify_customer", {"subject": {"kind": "order", "id": "A-9"}, "notice": "x"}, "order.unknown"),
        ("notify_customer", {"subject": {"kind": "refund", "id": "F-9"}, "notice": "x"}, "refund.unknown"),
        ("resolve_claim", {"claim_id": "W-9", "remedy": "apology"}, "command.invalid"),
        ("request_refund", {"refund_id": "F-1"}, "command.invalid"),
        ("request_refund", {"refund_id": "F-1", "return_id": "R-1", "order_id": "A-1"}, "command.invalid"),
        ("run_deadlines", {"order_id": "A-1"}, "command.invalid"),
        ("dance", {}, "command.invalid"),
    ],
)
def test_an_impossible_command_is_one_specific_error(command: str, fields: dict, expected: str) -> None:
    story = Story()
    story.labelled()

    outcome = story.tell(command, **fields)

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
def test_an_impossible_question_is_one_specific_error(query: str, fields: dict, expected: str) -> None:
    story = Story()
    story.labelled()

    error = story.ask_in_vain(query, **fields)

    assert error["code"] == expected


def test_a_transition_error_names_the_state_the_command_and_what_is_allowed_now() -> None:
    story = Story()
    story.labelled()

    outcome = story.tell("inspect_return", return_id="R-1", findings=[finding()])

    assert code(outcome) == "transition.not_allowed"
    assert outcome["error"]["state"] == "labelled"
    assert "inspect_return" in outcome["error"]["message"]
    assert "receive_return" in outcome["error"]["allowed"]


def test_the_clock_of_the_lines_never_runs_backwards() -> None:
    from returnable.adapters.scenario import play

    story = Story()
    lines = [
        b'{"at": "2026-03-02T10:00:00-05:00", "query": "worklist"}',
        b'{"at": "2026-03-02T14:59:59+00:00", "query": "worklist"}',
        b'{"at": "2026-03-02T15:00:00+00:00", "query": "worklist"}',
    ]

    errors = [played.as_dict()["error"] for played in play(story.parts, enumerate(lines, 1))]

    assert [error and (error["code"], error["field"]) for error in errors] == [None, ("command.invalid", "at"), None]


@pytest.mark.parametrize("command", ["receive_return", "record_return_shipment", "report_return_lost"])
def test_a_fact_of_the_return_dated_in_the_future_is_malformed(command: str) -> None:
    story = Story()
    story.labelled()
    name = {"receive_return": "received_at", "record_return_shipment": "shipped_at"}.get(command, "reported_at")

    outcome = story.tell(command, "2026-03-10T09:00:00-04:00", return_id="R-1", **{name: "2026-03-10T13:00:01+00:00"})

    assert code(outcome) == "command.invalid"
    assert outcome["error"]["field"] == name


def test_ids_of_lines_parcels_and_payments_are_local_to_their_order() -> None:
    story = Story()
    story.confirmed("A-1")
    story.confirmed("A-2")
    ship(story, "P-1", story.at)

    outcome = ship(story, "P-1", story.at, order_id="A-2")

    assert outcome["outcome"] == "accepted"


def test_a_line_that_is_not_in_the_return_cannot_be_sent_back() -> None:
    story = Story()
    lines = [{"line_id": name, "sku": name, "unit_price": "600.00", "quantity": 1} for name in "12"]
    story.inspected(lines=lines, good=False)

    outcome = story.tell("record_send_back", return_id="R-1", lines=[{"line_id": "2", "quantity": 1}])

    assert code(outcome) == "line.unknown"

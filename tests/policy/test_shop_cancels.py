"""The shop cancels: what it may still cancel, what a cancellation elsewhere contradicts, and what is left of the order."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from reading import last_reasons, types

from returnable import Impossible
from returnable.domain.case import fold
from returnable.domain.events import UnitsCancelled
from returnable.domain.order.state import Order
from returnable.domain.recorded_commands import recorded_commands
from returnable.domain.timetable import deadlines_of
from returnable.testing import (
    Scenario,
    cancel_order,
    confirm_order,
    given,
    notify_customer,
    override,
    record_delivery,
    record_shipment,
    report_wrong_item,
    request_cancellation,
    request_return,
    resolve_claim,
)

CONFIRMED, SHIPPED, DELIVERED = "2026-03-02 10:00", "2026-03-03 09:00", "2026-03-05 14:00"
CANCELLED_AT = "2026-03-02T15:30:00+00:00"
TWO_LINES = [
    {"line_id": "1", "sku": "COAT", "unit_price": "100.00", "quantity": 3},
    {"line_id": "2", "sku": "HAT", "unit_price": "20.00", "quantity": 1},
]
AN_ORDER = confirm_order(lines=TWO_LINES, at=CONFIRMED)
"""Three units of line 1, one of line 2."""


def the_order(story: Scenario) -> Order:
    """The state of the order."""
    return fold("A-1", list(story.desk.services.store.load("A-1"))).order


def cancelled_units(story: Scenario, **when: str) -> list[int]:
    """How many units of each line the view shows as cancelled."""
    return [line["cancelled"] for line in story.ask("order/A-1", **when)["lines"]]


def status(story: Scenario, **when: str) -> str:
    return str(story.ask("order/A-1", **when)["status"])


def work(story: Scenario, *kinds: str) -> list[str]:
    return [item["kind"] for item in story.ask("worklist", kinds=list(kinds))["items"]]


# ---- the decision -------------------------------------------------------------------------------------------------------


def test_the_whole_order_is_cancelled_before_anything_was_shipped() -> None:
    story = given(AN_ORDER)

    outcome = story.tell(cancel_order(), "2026-03-02 10:30")

    assert types(outcome) == ["UnitsCancelled"]
    assert outcome["ruling"] is None
    (*_, entry) = story.ask("audit/order/A-1")["entries"]
    assert entry["details"] == {
        "lines": [{"line_id": "1", "quantity": 3}, {"line_id": "2", "quantity": 1}],
        "reason": "Out of stock.",
        "elsewhere": False,
    }
    assert (status(story), cancelled_units(story)) == ("cancelled", [3, 1])
    order = the_order(story)
    assert order.cancelled_at == datetime.fromisoformat(CANCELLED_AT)
    assert (dict(order.cancelled_here), dict(order.cancelled_elsewhere)) == ({"1": 3, "2": 1}, {})


def test_some_units_are_cancelled_and_the_rest_is_shipped_and_delivered() -> None:
    story = given(AN_ORDER, cancel_order(2, at="2026-03-02 10:30"))
    assert (status(story), cancelled_units(story)) == ("confirmed", [2, 0])

    story.at(SHIPPED).when(record_shipment()).then("Shipped")

    assert dict(the_order(story).parcels["P-1"].units) == {"1": 1, "2": 1}
    story.at(DELIVERED).when(record_delivery()).then("Delivered").then_view("order/A-1", status="delivered")


def test_an_order_is_delivered_once_what_was_not_delivered_is_cancelled() -> None:
    story = given(
        AN_ORDER,
        record_shipment("P-1", {"1": 3}, at=SHIPPED),
        record_delivery("P-1", at=DELIVERED),
    )
    assert status(story) == "shipped"

    story.at("2026-03-06 09:00").when(cancel_order())

    story.then("UnitsCancelled").then_view("order/A-1", status="delivered")
    assert cancelled_units(story) == [0, 1]


def test_an_order_with_a_parcel_on_its_way_stays_shipped_when_the_rest_is_cancelled() -> None:
    story = given(AN_ORDER, record_shipment("P-1", {"1": 3}, at=SHIPPED)).at(SHIPPED)

    story.when(cancel_order()).then("UnitsCancelled").then_view("order/A-1", status="shipped")

    story.at(DELIVERED).when(record_delivery()).then_view("order/A-1", status="delivered")


def test_the_last_cancellation_of_units_cancels_the_order() -> None:
    story = given(AN_ORDER, cancel_order({"1": 3}, at="2026-03-02 10:30")).at("2026-03-02 11:00")

    story.when(cancel_order({"2": 1})).then("UnitsCancelled").then_view("order/A-1", status="cancelled")

    assert the_order(story).cancelled_at == datetime.fromisoformat("2026-03-02T16:00:00+00:00")


@pytest.mark.parametrize(
    ("units", "field", "why"),
    [
        ({"1": 4}, "lines[0].quantity", "asked to cancel 4 of line 1, but 3 were bought"),
        (
            {"2": 1, "1": 2},
            "lines[1].quantity",
            "asked to cancel 2 of line 1, but 3 were bought, of which 1 is in a parcel and 1 is cancelled",
        ),
    ],
)
def test_more_units_than_are_left_are_refused(units: dict[str, int], field: str, why: str) -> None:
    begun = () if units["1"] == 4 else (record_shipment("P-1", {"1": 1}), cancel_order({"1": 1}))
    story = given(AN_ORDER, *(step.at(SHIPPED) for step in begun)).at(SHIPPED)

    error = story.tell(cancel_order(units))["error"]

    assert (error["code"], error["field"], error["message"]) == ("quantity.exceeded", field, f"{field}: {why}")


def test_units_in_a_return_are_not_cancelled() -> None:
    pardon = [override("returns.window"), request_return(1)]
    story = given(AN_ORDER, *(step.at("2026-03-02 10:30") for step in pardon)).at(SHIPPED)

    error = story.tell(cancel_order(3))["error"]

    why = "asked to cancel 3 of line 1, but 3 were bought, of which 1 is in a return or claim"
    assert error["message"] == f"lines[0].quantity: {why}"
    story.when(cancel_order()).then("UnitsCancelled")
    assert cancelled_units(story) == [2, 1]


def test_an_unknown_line_is_refused() -> None:
    error = given(AN_ORDER).tell(cancel_order({"9": 1}), SHIPPED)["error"]

    assert (error["code"], error["field"]) == ("line.unknown", "lines[0].line_id")


@pytest.mark.parametrize(
    ("history", "state", "why"),
    [
        ([record_shipment(at=SHIPPED)], "shipped", "each of its units is in a parcel"),
        ([request_cancellation(at="2026-03-02 11:00")], "cancelled", "order A-1 is cancelled;"),
        ([cancel_order(at="2026-03-02 11:00")], "cancelled", "order A-1 is cancelled;"),
    ],
)
def test_nothing_left_to_cancel_is_refused(history: list[Any], state: str, why: str) -> None:
    story = given(AN_ORDER, *history).at(SHIPPED)

    error = story.tell(cancel_order())["error"]

    assert (error["code"], error["state"]) == ("transition.not_allowed", state)
    assert why in error["message"]
    assert "cancel_order" not in error["allowed"]


# ---- the customer -------------------------------------------------------------------------------------------------------


def test_the_customer_is_owed_a_notice() -> None:
    story = given(AN_ORDER, cancel_order(1, at="2026-03-02 10:30")).at("2026-03-02 10:30")
    assert work(story, "notify_customer") == ["notify_customer"]

    story.when(notify_customer(notified_at="2026-03-02 10:30", at="2026-03-02 12:00"))

    assert work(story, "notify_customer") == []


def test_no_notice_and_no_exception_is_owed_for_a_cancellation_elsewhere() -> None:
    story = given(AN_ORDER, cancel_order(elsewhere=True, at="2026-03-02 10:30"))

    assert work(story, "notify_customer", "exception") == []
    order = the_order(story)
    assert (order.status, dict(order.cancelled_here), dict(order.cancelled_elsewhere)) == (
        "cancelled",
        {},
        {"1": 3, "2": 1},
    )


def test_the_customer_can_still_cancel_what_the_shop_left() -> None:
    story = given(AN_ORDER, cancel_order(2, at="2026-03-02 10:30")).at("2026-03-02 11:00")
    assert story.ask("eligibility/A-1")["cancellation"]["allowed"] is True

    story.when(request_cancellation()).then("CancellationRequested", "Cancelled").then_accepted()

    assert (status(story), cancelled_units(story)) == ("cancelled", [2, 0])


def test_cancelled_units_are_not_returned_or_claimed() -> None:
    story = given(
        AN_ORDER,
        cancel_order(2, at="2026-03-02 10:30"),
        record_shipment(at=SHIPPED),
        record_delivery(at=DELIVERED),
    ).at("2026-03-06 09:00")
    why = "asked for 2 of line 1, but 3 were bought, and 2 of them are cancelled"

    assert story.tell(request_return(2))["error"]["message"] == f"lines[0].quantity: {why}"
    story.when(report_wrong_item(quantity=2)).then_accepted()
    assert story.tell(resolve_claim())["error"]["message"] == (
        "remedy: asked to settle 2 units of line 1, but 1 of the 2 that claim C-1 reported is left; 2 of them are cancelled"
    )
    story.when(request_return(1)).then("ReturnRequested", "ReturnAuthorized")
    assert story.tell(request_return(1, return_id="R-2"))["error"]["message"] == (
        "lines[0].quantity: asked for 1 of line 1, but 3 were bought, and 2 of them are cancelled and 1 of them is in "
        "return R-1"
    )


def test_eligibility_says_which_line_is_cancelled() -> None:
    story = given(AN_ORDER, cancel_order({"2": 1}, at="2026-03-02 10:30"))

    lines = story.ask("eligibility/A-1", "2026-03-02 11:00")["lines"]

    assert lines[0]["return"]["error"] is None
    assert (
        lines[1]["return"]["error"]["message"]
        == "quantity: asked for 1 of line 2, but 1 was bought, and it is cancelled"
    )


# ---- facts that contradict ----------------------------------------------------------------------------------------------


def test_a_carrier_that_reports_a_cancelled_unit_is_believed_and_an_exception_follows() -> None:
    story = given(AN_ORDER, cancel_order(2, at="2026-03-02 10:30")).at(SHIPPED)

    story.when(record_shipment("P-1", {"1": 2}))

    story.then("Shipped", "ExceptionRaised").then_view("order/A-1", status="shipped")
    assert last_reasons(story) == [
        "parcel P-1, shipped at 2026-03-03T14:00:00Z, has 1 unit of line 1 more than was left to ship: the shop "
        "cancelled 2"
    ]


def test_a_shipment_of_an_order_that_the_shop_cancelled_is_of_all_of_it() -> None:
    story = given(AN_ORDER, cancel_order(at="2026-03-02 10:30")).at(SHIPPED)

    story.when(record_shipment()).then("Shipped", "ExceptionRaised").then_view("order/A-1", status="cancelled")

    assert dict(the_order(story).parcels["P-1"].units) == {"1": 3, "2": 1}
    assert [reason.partition(" has ")[2] for reason in last_reasons(story)] == [
        "3 units of line 1 more than was left to ship: the shop cancelled 3",
        "1 unit of line 2 more than was left to ship: the shop cancelled 1",
    ]


def test_more_than_was_bought_is_shipped_with_an_exception() -> None:
    story = given(AN_ORDER, cancel_order(2, at="2026-03-02 10:30")).at(SHIPPED)

    story.when(record_shipment("P-1", {"1": 4})).then("Shipped", "ExceptionRaised")

    assert last_reasons(story)[0] == "4 units of line 1 were shipped in parcel P-1, but 3 were left to ship"


def test_a_cancellation_elsewhere_of_units_that_were_shipped_is_recorded_with_an_exception() -> None:
    story = given(AN_ORDER, record_shipment(at=SHIPPED), record_delivery(at=DELIVERED)).at("2026-03-06 09:00")

    story.when(cancel_order(1, elsewhere=True, cancelled_at="2026-03-02 10:30"))

    story.then("UnitsCancelled", "ExceptionRaised").then_view("order/A-1", status="delivered")
    assert last_reasons(story) == [
        "1 unit of line 1 was cancelled elsewhere at 2026-03-02T15:30:00Z, but 3 were bought, of which 3 are in parcels"
    ]
    assert cancelled_units(story) == [1, 0]
    why = "asked for 3 of line 1, but 3 were bought, and 1 of them is cancelled"
    assert story.tell(request_return(3))["error"]["message"] == f"lines[0].quantity: {why}"


def test_a_cancellation_elsewhere_without_lines_is_of_what_is_not_shipped_or_else_of_everything() -> None:
    story = given(AN_ORDER, record_shipment("P-1", {"1": 3}, at=SHIPPED)).at("2026-03-06 09:00")

    story.when(cancel_order(elsewhere=True, cancelled_at="2026-03-04 09:00")).then("UnitsCancelled")
    assert cancelled_units(story) == [0, 1]

    story.when(cancel_order(elsewhere=True, cancelled_at="2026-03-05 09:00")).then("UnitsCancelled", "ExceptionRaised")
    assert (status(story), cancelled_units(story)) == ("cancelled", [3, 1])
    assert [reason.partition(", but ")[2] for reason in last_reasons(story)] == [
        "3 were bought, of which 3 are in parcels",
        "1 was bought, of which 1 is cancelled",
    ]


def test_more_units_cancelled_elsewhere_than_were_bought_count_once() -> None:
    story = given(AN_ORDER, cancel_order(2, at="2026-03-02 10:30")).at("2026-03-02 11:00")

    story.when(cancel_order(5, elsewhere=True)).then("UnitsCancelled", "ExceptionRaised")

    order = the_order(story)
    assert (dict(order.cancelled_here), dict(order.cancelled_elsewhere)) == ({"1": 2}, {"1": 1})


def test_a_cancellation_elsewhere_after_the_customers_is_an_exception() -> None:
    story = given(AN_ORDER, request_cancellation(at="2026-03-02 11:00")).at("2026-03-03 09:00")

    story.when(cancel_order(elsewhere=True)).then("UnitsCancelled", "ExceptionRaised")

    assert last_reasons(story) == [
        "the shop cancelled elsewhere at 2026-03-03T14:00:00Z, but the order was cancelled at "
        "2026-03-02T16:00:00Z already"
    ]
    assert the_order(story).cancelled_at == datetime.fromisoformat("2026-03-02T16:00:00+00:00")


def test_a_cancellation_dated_before_the_order_is_impossible() -> None:
    story = given(AN_ORDER).at("2026-03-02 11:00")

    story.when(cancel_order(1, cancelled_at="2026-03-02 09:00")).then_error("command.invalid")


@pytest.mark.parametrize("units", [None, {"1": 1}])
def test_the_same_cancellation_elsewhere_told_twice_is_recorded_once(units: dict[str, int] | None) -> None:
    told = cancel_order(units, elsewhere=True, cancelled_at="2026-03-02 10:30")
    story = given(AN_ORDER, told.at("2026-03-03 09:00")).at("2026-03-04 09:00")
    before = cancelled_units(story)

    story.when(told).then().then_accepted()

    assert cancelled_units(story) == before


def test_the_rest_cancelled_elsewhere_at_the_same_time_is_not_the_same_cancellation() -> None:
    at = "2026-03-02 10:30"
    story = given(AN_ORDER, cancel_order(1, elsewhere=True, cancelled_at=at, at="2026-03-03 09:00")).at(
        "2026-03-03 09:00"
    )

    story.when(cancel_order(elsewhere=True, cancelled_at=at)).then("UnitsCancelled")

    assert cancelled_units(story) == [3, 1]


# ---- time, and telling again --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "state", "cancelled"),
    [
        ({}, "cancelled", [3, 1]),
        ({"as_of": "2026-03-02T10:29:59-05:00"}, "confirmed", [0, 0]),
        ({"as_of": "2026-03-02T10:30:00-05:00"}, "confirmed", [2, 0]),
        ({"known_at": "2026-03-03T08:59:59-05:00"}, "confirmed", [0, 0]),
        ({"known_at": "2026-03-03T09:00:00-05:00"}, "confirmed", [2, 0]),
        ({"known_at": "2026-03-04T09:00:00-05:00"}, "cancelled", [3, 1]),
    ],
)
def test_a_cancellation_counts_from_its_own_time_and_is_known_from_its_record(
    when: dict[str, str], state: str, cancelled: list[int]
) -> None:
    story = given(
        AN_ORDER,
        cancel_order(2, cancelled_at="2026-03-02 10:30", at="2026-03-03 09:00"),
        cancel_order(at="2026-03-04 09:00"),
    )

    assert (status(story, **when), cancelled_units(story, **when)) == (state, cancelled)


def test_a_cancellation_in_the_future_is_refused() -> None:
    error = given(AN_ORDER).tell(cancel_order(cancelled_at="2026-03-02 11:00:01"), "2026-03-02 11:00")["error"]

    assert (error["code"], error["field"]) == ("command.invalid", "cancelled_at")


def test_recorded_cancellations_become_their_commands_again() -> None:
    story = given(
        AN_ORDER,
        cancel_order(2, cancelled_at="2026-03-02 10:30", at="2026-03-03 09:00"),
        cancel_order({"1": 2}, elsewhere=True, at="2026-03-04 09:00"),
    )

    *_, here, elsewhere = recorded_commands(story.desk.services.store.load("A-1"))

    assert {name: here.fields.get(name) for name in ("command", "lines", "reason", "elsewhere")} == {
        "command": "cancel_order",
        "lines": [{"line_id": "1", "quantity": 2}],
        "reason": "Out of stock.",
        "elsewhere": None,
    }
    assert here.fields["cancelled_at"].isoformat() == CANCELLED_AT
    assert (elsewhere.fields["elsewhere"], "cancelled_at" in elsewhere.fields) == (True, False)
    assert isinstance(here.decision, UnitsCancelled)
    assert list(story.desk.redecide()) == []


def test_an_impossible_cancellation_records_nothing() -> None:
    story = given(AN_ORDER, record_shipment(at=SHIPPED)).at(SHIPPED)

    with pytest.raises(Impossible):
        story.desk.cancel_order(order_id="A-1", reason="Fraud.")

    assert the_order(story).version == 2


# ---- the open windows ---------------------------------------------------------------------------------------------------


def test_no_window_waits_for_a_line_of_which_every_unit_is_cancelled() -> None:
    story = given(
        AN_ORDER,
        record_shipment(at=SHIPPED),
        record_delivery(at=DELIVERED),
        cancel_order({"2": 1}, elsewhere=True, at="2026-03-06 09:00"),
    )

    case = fold("A-1", list(story.desk.services.store.load("A-1")))

    waits = {(each.clause, each.part): each.open for each in deadlines_of(case) if each.part}
    assert waits == {
        ("returns.window", "line 1 in parcel P-1"): True,
        ("wrong_item.window", "line 1 in parcel P-1"): True,
        ("returns.window", "line 2 in parcel P-1"): False,
        ("wrong_item.window", "line 2 in parcel P-1"): False,
    }

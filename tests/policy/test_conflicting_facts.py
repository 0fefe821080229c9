"""What the carrier tells is never dropped and never rewrites history: a conflict is appended and raised."""

from __future__ import annotations

from typing import Any

import pytest
from reading import last_reasons
from usual import a_delivered_order

from returnable.testing import (
    Scenario,
    Step,
    an_order,
    confirm_order,
    given,
    link_account,
    record_capture,
    record_delivery,
    record_refund,
    record_shipment,
    request_cancellation,
)

SHIPPED, DELIVERED = "2026-03-03 09:00", "2026-03-05 14:00"
CANCELLED = (an_order(), request_cancellation(at="2026-03-02 11:00"))


def exceptions(story: Scenario) -> list[dict[str, Any]]:
    """What the exceptions that wait for somebody are about."""
    return [item["subject"] for item in story.ask("worklist", kinds=["exception"])["items"]]


def test_a_shipment_dated_before_the_confirmation_is_recorded_and_raised() -> None:
    story = given(an_order()).at(SHIPPED)

    story.when(record_shipment(shipped_at="2026-03-02 09:59:59"))

    story.then("Shipped", "ExceptionRaised").then_accepted().then_view("order/A-1", status="shipped")
    assert exceptions(story) == [{"kind": "order", "id": "A-1"}]


def test_a_shipment_at_the_instant_of_the_confirmation_is_no_conflict() -> None:
    story = given(an_order()).at(SHIPPED)

    story.when(record_shipment(shipped_at="2026-03-02 10:00")).then("Shipped")


@pytest.mark.parametrize(("delivered_at", "conflict"), [("2026-03-03 08:59:59", True), (SHIPPED, False)])
def test_a_delivery_dated_before_its_shipment_is_recorded_and_raised(delivered_at: str, conflict: bool) -> None:
    story = given(an_order(shipped=SHIPPED, confirmed="2026-03-02 10:00")).at(DELIVERED)

    story.when(record_delivery(delivered_at=delivered_at))

    story.then(*(["Delivered", "ExceptionRaised"] if conflict else ["Delivered"]))
    story.then_view("order/A-1", status="delivered")


@pytest.mark.parametrize(
    "again",
    [record_shipment(shipped_at=SHIPPED), record_delivery(delivered_at=DELIVERED)],
    ids=lambda step: step.command,
)
def test_the_same_fact_told_again_is_accepted_and_appends_nothing(again: Step) -> None:
    story = given(a_delivered_order()).at("2026-03-06 09:00")

    story.when(again).then().then_accepted()

    assert exceptions(story) == []


def test_a_second_different_time_for_a_parcel_is_raised_and_the_first_stands() -> None:
    story = given(a_delivered_order()).at("2026-03-06 09:00")
    other = record_delivery(delivered_at="2026-03-04 14:00")

    story.when(record_shipment(shipped_at="2026-03-03 10:00")).then("Shipped", "ExceptionRaised")
    story.when(other).then("Delivered", "ExceptionRaised")
    story.when(other).then()

    story.then_view(
        "order/A-1",
        parcels=[{"shipped_at": SHIPPED, "delivered_at": DELIVERED}],
        lines=[{"return_before": "2026-03-20"}],
    )


def test_one_exception_holds_all_the_reasons_of_a_fact() -> None:
    story = given(a_delivered_order()).at("2026-03-06 09:00")

    story.when(record_delivery(delivered_at="2026-03-02 14:00")).then("Delivered", "ExceptionRaised")

    assert len(last_reasons(story)) == 2


def test_a_shipment_learnt_after_the_cancellation_is_raised_and_the_order_stays_cancelled() -> None:
    story = given(CANCELLED).at("2026-03-02 12:00")

    story.when(record_shipment(shipped_at="2026-03-02 10:30")).then("Shipped", "ExceptionRaised")
    story.at(DELIVERED).when(record_delivery()).then("Delivered")

    story.then_view("order/A-1", status="cancelled").then_view("refund", {"order_id": "A-1"}, total="750.00")
    assert exceptions(story) == [{"kind": "order", "id": "A-1"}]


def test_a_shipment_before_the_confirmation_learnt_after_the_cancellation_has_two_reasons() -> None:
    story = given(CANCELLED).at("2026-03-02 12:00")

    story.when(record_shipment(shipped_at="2026-03-02 09:00"))

    assert len(last_reasons(story)) == 2


def test_a_delivery_of_a_parcel_too_many_is_recorded_with_an_exception() -> None:
    story = given(a_delivered_order()).when(record_delivery("P-9")).then("Delivered", "ExceptionRaised")

    assert last_reasons(story) == ["every unit of order A-1 is in another parcel already; now parcel P-9 was delivered"]


def test_an_order_is_shipped_with_its_first_unit_and_delivered_with_its_last() -> None:
    story = given(an_order(quantity=2))

    for step, status, delivered in (
        (record_shipment("P-1", 1, at=SHIPPED), "shipped", 0),
        (record_delivery("P-1", at=DELIVERED), "shipped", 1),
        (record_shipment("P-2"), "shipped", 1),
        (record_delivery("P-2"), "delivered", 2),
    ):
        story.when(step).then_view("order/A-1", status=status, lines=[{"delivered": delivered}])


def test_more_units_than_are_left_are_recorded_as_shipped_with_an_exception() -> None:
    story = given(an_order(quantity=2), record_shipment("P-1", 1, at=SHIPPED))

    story.when(record_shipment("P-2", 2)).then("Shipped", "ExceptionRaised")

    assert last_reasons(story) == ["2 units of line 1 were shipped in parcel P-2, but 1 was left to ship"]


@pytest.mark.parametrize(
    ("step", "field"),
    [
        (request_cancellation(requested_at="2020-03-02 10:00"), "requested_at"),
        (link_account(linked_at="2026-03-01 09:59"), "linked_at"),
        (record_refund("1.00", refunded_at="2026-03-01 09:59"), "refunded_at"),
        (record_capture(captured_at="2026-03-01 09:59"), "captured_at"),
    ],
)
def test_nothing_about_an_order_happens_before_it_was_placed(step: Step, field: str) -> None:
    story = given(confirm_order(at="2026-03-02 10:00", placed_at="2026-03-01 10:00"))

    story.when(step).then_error("command.invalid")

    assert story.error is not None
    assert story.error.field == field
    assert "is before the order was placed (2026-03-01T15:00:00+00:00)" in story.error.message


def test_an_order_is_placed_no_later_than_it_is_confirmed() -> None:
    story = given().when(
        confirm_order(at="2026-03-02 10:00", placed_at="2026-03-02 09:00", confirmed_at="2026-03-02 08:59")
    )

    story.then_error("command.invalid")

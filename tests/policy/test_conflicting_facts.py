"""What the carrier tells is never dropped and never rewrites history: a conflict is appended and raised."""

from __future__ import annotations

import pytest
from kit import Story, code, ship, types

SHIPPED = "2026-03-03T09:00:00-05:00"
DELIVERED = "2026-03-05T14:00:00-05:00"


def parcel(story: Story) -> dict:
    (found,) = story.ask("order", order_id="A-1")["parcels"]
    return {"shipped_at": found["shipped_at"], "delivered_at": found["delivered_at"]}


def exceptions(story: Story) -> list[dict]:
    return [item["subject"] for item in story.ask("worklist", kinds=["exception"])["items"]]


def test_a_shipment_dated_before_the_confirmation_is_recorded_and_raised() -> None:
    story = Story()
    story.confirmed()

    outcome = ship(story, "P-1", SHIPPED, shipped_at="2026-03-02T09:59:59-05:00")

    assert outcome["outcome"] == "accepted"
    assert types(outcome) == ["Shipped", "ExceptionRaised"]
    assert story.ask("order", order_id="A-1")["status"] == "shipped"
    assert exceptions(story) == [{"kind": "order", "id": "A-1"}]


def test_a_shipment_at_the_instant_of_the_confirmation_is_no_conflict() -> None:
    story = Story()
    story.confirmed()

    outcome = ship(story, "P-1", SHIPPED, shipped_at="2026-03-02T10:00:00-05:00")

    assert types(outcome) == ["Shipped"]


@pytest.mark.parametrize(("delivered_at", "conflict"), [("2026-03-03T08:59:59-05:00", True), (SHIPPED, False)])
def test_a_delivery_dated_before_its_shipment_is_recorded_and_raised(delivered_at: str, conflict: bool) -> None:
    story = Story()
    story.confirmed()
    ship(story, "P-1", SHIPPED)

    outcome = story.tell("record_delivery", DELIVERED, order_id="A-1", parcel_id="P-1", delivered_at=delivered_at)

    assert types(outcome) == (["Delivered", "ExceptionRaised"] if conflict else ["Delivered"])
    assert story.ask("order", order_id="A-1")["status"] == "delivered"


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        ("record_shipment", {"carrier": "fedex", "tracking_number": "T-1", "shipped_at": SHIPPED}),
        ("record_delivery", {"delivered_at": DELIVERED}),
    ],
)
def test_the_same_fact_told_again_is_accepted_and_appends_nothing(command: str, fields: dict) -> None:
    story = Story()
    story.delivered()

    outcome = story.tell(command, "2026-03-06T09:00:00-05:00", order_id="A-1", parcel_id="P-1", **fields)

    assert outcome["outcome"] == "accepted"
    assert outcome["events"] == []
    assert exceptions(story) == []


def test_a_second_different_time_for_a_parcel_is_raised_and_the_first_stands() -> None:
    story = Story()
    story.delivered()

    shipped = ship(
        story, "P-1", "2026-03-06T09:00:00-05:00", tracking_number="T-1", shipped_at="2026-03-03T10:00:00-05:00"
    )
    delivered = story.tell("record_delivery", order_id="A-1", parcel_id="P-1", delivered_at="2026-03-04T14:00:00-05:00")
    again = story.tell("record_delivery", order_id="A-1", parcel_id="P-1", delivered_at="2026-03-04T14:00:00-05:00")

    assert types(shipped) == ["Shipped", "ExceptionRaised"]
    assert types(delivered) == ["Delivered", "ExceptionRaised"]
    assert again["events"] == []
    assert parcel(story) == {"shipped_at": SHIPPED, "delivered_at": DELIVERED}
    assert story.ask("order", order_id="A-1")["lines"][0]["return_before"] == "2026-03-20T00:00:00-04:00"


def test_one_exception_holds_all_the_reasons_of_a_fact() -> None:
    story = Story()
    story.delivered()

    outcome = story.tell(
        "record_delivery",
        "2026-03-06T09:00:00-05:00",
        order_id="A-1",
        parcel_id="P-1",
        delivered_at="2026-03-02T14:00:00-05:00",
    )
    (*_, raised) = story.ask("audit", stream="order/A-1")["entries"]

    assert types(outcome) == ["Delivered", "ExceptionRaised"]
    assert len(raised["details"]["reasons"]) == 2


def cancelled() -> Story:
    story = Story()
    story.confirmed()
    story.tell("request_cancellation", "2026-03-02T11:00:00-05:00", order_id="A-1", channel="email", order_copy=True)
    return story


def test_a_shipment_learnt_after_the_cancellation_is_raised_and_the_order_stays_cancelled() -> None:
    story = cancelled()

    outcome = ship(story, "P-1", "2026-03-02T12:00:00-05:00", shipped_at="2026-03-02T10:30:00-05:00")
    delivery = story.tell("record_delivery", DELIVERED, order_id="A-1", parcel_id="P-1")

    assert types(outcome) == ["Shipped", "ExceptionRaised"]
    assert types(delivery) == ["Delivered"]
    assert story.ask("order", order_id="A-1")["status"] == "cancelled"
    assert exceptions(story) == [{"kind": "order", "id": "A-1"}]
    assert story.ask("refund", order_id="A-1")["total"] == "750.00"


def test_a_shipment_before_the_confirmation_learnt_after_the_cancellation_has_two_reasons() -> None:
    story = cancelled()

    ship(story, "P-1", "2026-03-02T12:00:00-05:00", shipped_at="2026-03-02T09:00:00-05:00")
    (*_, raised) = story.ask("audit", stream="order/A-1")["entries"]

    assert raised["type"] == "ExceptionRaised"
    assert len(raised["details"]["reasons"]) == 2


def test_a_delivery_of_an_unknown_parcel_is_impossible() -> None:
    story = Story()
    story.delivered()

    outcome = story.tell("record_delivery", order_id="A-1", parcel_id="P-9")

    assert code(outcome) == "parcel.unknown"


def test_an_order_is_shipped_with_its_first_unit_and_delivered_with_its_last() -> None:
    story = Story()
    story.confirmed(quantity=2)
    seen = []
    for act in (
        lambda: ship(story, "P-1", SHIPPED, {"1": 1}),
        lambda: story.tell("record_delivery", DELIVERED, order_id="A-1", parcel_id="P-1"),
        lambda: ship(story, "P-2", DELIVERED),
        lambda: story.tell("record_delivery", order_id="A-1", parcel_id="P-2"),
    ):
        act()
        order = story.ask("order", order_id="A-1")
        seen.append((order["status"], order["lines"][0]["delivered"]))

    assert seen == [("shipped", 0), ("shipped", 1), ("shipped", 1), ("delivered", 2)]


def test_more_units_than_are_left_cannot_be_shipped() -> None:
    story = Story()
    story.confirmed(quantity=2)
    ship(story, "P-1", SHIPPED, {"1": 1})

    outcome = ship(story, "P-2", SHIPPED, {"1": 2})

    assert code(outcome) == "quantity.exceeded"

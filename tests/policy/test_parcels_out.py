"""Parcels on their way out: learnt in any order, corrected, lost, returned; and which units a request takes."""

from __future__ import annotations

from typing import Any

import pytest
from reading import last_reasons

from returnable.testing import (
    Scenario,
    a_return,
    an_order,
    cancel_order,
    confirm_order,
    correct_delivery,
    given,
    record_delivery,
    record_parcel_returned,
    record_shipment,
    report_parcel_lost,
    request_cancellation,
    request_return,
)

SHIPPED, DELIVERED = "2026-03-03 09:00", "2026-03-05 14:00"
ORDERED = confirm_order(at="2026-03-02 10:00", price="600.00")
TWO = confirm_order(at="2026-03-02 10:00", price="600.00", quantity=2)


def parcels(story: Scenario, **fields: Any) -> list[tuple[str, str, str | None, str | None]]:
    """Parcel, status, shipped and delivered."""
    found = story.ask("order/A-1", **fields)["parcels"]
    return [(each["parcel_id"], each["status"], each["shipped_at"], each["delivered_at"]) for each in found]


# ---- learnt in any order -------------------------------------------------------------------------------------------------


def test_a_parcel_that_nobody_shipped_begins_with_its_delivery_and_the_shipment_completes_it() -> None:
    story = given(ORDERED)

    story.when(record_delivery(at="2026-03-05 15:00", delivered_at=DELIVERED)).then("Delivered")
    assert parcels(story) == [("P-1", "delivered", None, "2026-03-05T14:00:00-05:00")]
    story.then_view("order/A-1", status="delivered")
    story.when(record_shipment(at="2026-03-05 16:00", shipped_at=SHIPPED)).then("Shipped")

    assert parcels(story) == [("P-1", "delivered", "2026-03-03T09:00:00-05:00", "2026-03-05T14:00:00-05:00")]
    assert story.ask("order/A-1")["lines"][0]["return_before"] == "2026-03-20T00:00:00-04:00"
    story.when(request_return(at="2026-03-06 10:00")).then_accepted()


def test_a_parcel_without_a_shipment_holds_what_no_other_parcel_does() -> None:
    story = given(TWO, record_delivery("P-1", at=DELIVERED))
    assert story.ask("order/A-1")["lines"][0]["delivered"] == 2

    story.given(record_shipment("P-2", 1, at="2026-03-06 09:00"))
    assert story.ask("order/A-1")["lines"][0]["delivered"] == 1
    story.then_view("order/A-1", status="shipped")

    story.when(record_shipment("P-1", 1, shipped_at=SHIPPED)).then("Shipped")
    assert story.ask("order/A-1")["lines"][0]["delivered"] == 1


def test_a_shipment_after_the_delivery_of_the_same_parcel_is_an_exception() -> None:
    story = given(ORDERED, record_delivery(at=DELIVERED))

    story.when(record_shipment(at="2026-03-06 09:00")).then("Shipped", "ExceptionRaised")

    assert last_reasons(story) == [
        "parcel P-1 was delivered at 2026-03-05T19:00:00Z, before it was shipped at 2026-03-06T14:00:00Z"
    ]


def test_an_order_that_was_delivered_cannot_be_cancelled() -> None:
    story = given(ORDERED, record_delivery(at="2026-03-02 11:00"))

    story.when(request_cancellation(at="2026-03-02 11:30")).then_declined("cancellation.not_shipped")


# ---- corrections -----------------------------------------------------------------------------------------------------------


def test_a_delivery_is_moved_and_its_windows_follow() -> None:
    story = given(an_order(delivered=DELIVERED, price="600.00"))

    story.when(correct_delivery(delivered_at="2026-03-18 09:00", at="2026-03-19 09:00")).then(
        "DeliveryTakenBack", "Delivered"
    )

    assert parcels(story)[0][3] == "2026-03-18T09:00:00-04:00"
    assert story.ask("order/A-1")["lines"][0]["return_before"] == "2026-04-02T00:00:00-04:00"
    story.then_view("order/A-1", status="delivered")
    story.when(request_return(at="2026-03-25 09:00")).then_accepted()


def test_what_was_true_and_what_was_known_are_told_apart() -> None:
    story = given(
        an_order(delivered=DELIVERED), correct_delivery(delivered_at="2026-03-18 09:00", at="2026-03-19 09:00")
    )

    assert parcels(story, as_of="2026-03-10T00:00:00Z")[0][1] == "in_transit"
    assert parcels(story, as_of="2026-03-10T00:00:00Z", known_at="2026-03-10T00:00:00Z")[0][1] == "delivered"
    assert parcels(story, known_at="2026-03-19T12:00:00Z")[0][3] == "2026-03-05T14:00:00-05:00"


def test_a_delivery_is_taken_back() -> None:
    story = given(an_order(delivered=DELIVERED))

    story.when(correct_delivery(at="2026-03-19 09:00")).then("DeliveryTakenBack")

    story.then_view("order/A-1", status="shipped")
    assert story.ask("order/A-1")["lines"][0]["return_before"] is None
    story.when(request_return()).then_declined("returns.window")
    story.when(correct_delivery()).then()
    story.when(record_delivery(delivered_at=DELIVERED)).then()
    story.when(record_delivery(at="2026-03-20 09:00")).then("Delivered")


def test_decisions_made_in_between_keep_their_rulings_and_are_listed() -> None:
    story = given(an_order(delivered=DELIVERED), a_return(requested="2026-03-06 10:00"))

    story.when(correct_delivery(delivered_at="2026-03-18 09:00", at="2026-03-19 09:00")).then(
        "DeliveryTakenBack", "Delivered", "ExceptionRaised"
    )

    assert last_reasons(story) == [
        "the decision return/R-1#2 rests on the delivery of parcel P-1 at 2026-03-05T19:00:00Z, which was wrong"
    ]
    story.then_view("return/R-1", status="authorized")


@pytest.mark.parametrize("told", [{}, {"delivered_at": DELIVERED}])
def test_a_correction_that_changes_nothing_appends_nothing(told: dict[str, str]) -> None:
    story = given(an_order(delivered=DELIVERED))
    if not told:
        story.given(correct_delivery())

    story.when(correct_delivery(**told)).then()


def test_only_a_parcel_that_was_delivered_is_corrected() -> None:
    story = given(an_order(shipped=SHIPPED))

    story.when(correct_delivery("P-9")).then_error("parcel.unknown")
    story.when(correct_delivery(delivered_at=SHIPPED)).then_error("command.invalid")


# ---- lost, and returned to sender ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "event", "status", "what"),
    [
        (report_parcel_lost(at="2026-03-10 09:00"), "OutboundLost", "lost", "was lost on its way"),
        (
            record_parcel_returned(at="2026-03-10 09:00"),
            "ReturnedToSender",
            "returned_to_sender",
            "came back to the sender",
        ),
    ],
)
def test_a_parcel_that_does_not_arrive_is_work_and_its_units_can_be_shipped_again_or_cancelled(
    step: Any, event: str, status: str, what: str
) -> None:
    story = given(TWO, record_shipment(at=SHIPPED))

    story.when(step).then(event, "ExceptionRaised")

    assert last_reasons(story) == [f"parcel P-1 {what}: its units have to be shipped again, or cancelled"]
    assert [row[1] for row in parcels(story)] == [status]
    story.when(step).then()
    story.when(cancel_order(1)).then("UnitsCancelled")
    story.when(record_shipment("P-2")).then("Shipped")
    story.given(record_delivery("P-2"))
    story.then_view("order/A-1", status="delivered")


def test_nobody_is_told_to_ship_again_what_is_cancelled() -> None:
    story = given(TWO, request_cancellation(), record_shipment(shipped_at="2026-03-02 10:30", at="2026-03-02 13:00"))

    story.when(record_parcel_returned()).then("ReturnedToSender", "ExceptionRaised")

    assert last_reasons(story) == ["parcel P-1 came back to the sender, and the order is cancelled"]


def test_a_parcel_that_turns_up_after_all_is_delivered_with_an_exception() -> None:
    story = given(ORDERED, record_shipment(at=SHIPPED), report_parcel_lost(at="2026-03-10 09:00"))

    story.when(record_delivery(at="2026-03-11 09:00")).then("Delivered", "ExceptionRaised")

    assert [row[1] for row in parcels(story)] == ["delivered"]
    story.then_view("order/A-1", status="delivered")


def test_a_delivered_parcel_is_not_lost() -> None:
    story = given(an_order(delivered=DELIVERED))

    story.when(report_parcel_lost(at="2026-03-10 09:00")).then("OutboundLost", "ExceptionRaised")

    assert last_reasons(story) == ["parcel P-1 was lost on its way, but it was delivered at 2026-03-05T19:00:00Z"]
    assert [row[1] for row in parcels(story)] == ["delivered"]


def test_a_second_correction_of_a_delivery_is_an_exception() -> None:
    moved = correct_delivery(delivered_at="2026-03-06 09:00", reason="A day later.", at="2026-03-08 09:00")
    story = given(an_order(delivered=DELIVERED), moved)

    story.when(correct_delivery(delivered_at="2026-03-07 09:00", reason="No, two.")).then(
        "DeliveryTakenBack", "Delivered", "ExceptionRaised"
    )

    assert last_reasons(story) == [
        "the delivery of parcel P-1 was moved to 2026-03-06T14:00:00Z before; now it is moved to 2026-03-07T14:00:00Z"
    ]


# ---- which units a request takes ---------------------------------------------------------------------------------------

TWO_PARCELS = (
    TWO,
    record_shipment("P-1", 1, at=SHIPPED),
    record_delivery("P-1", at="2026-03-05 09:00"),
    record_shipment("P-2", at="2026-03-12 09:00"),
    record_delivery("P-2", at="2026-03-15 09:00"),
)


def test_units_whose_window_closes_first_are_taken_first() -> None:
    story = given(*TWO_PARCELS, request_return(at="2026-03-18 09:00"))

    story.when(request_return(return_id="R-2", at="2026-03-25 09:00")).then_accepted()


def test_units_whose_window_has_closed_are_taken_last() -> None:
    story = given(*TWO_PARCELS)

    story.when(request_return(at="2026-03-25 09:00")).then_accepted()


def test_a_request_may_name_the_parcel() -> None:
    story = given(*TWO_PARCELS)
    named = [{"line_id": "1", "quantity": 1, "parcel_id": "P-2"}]

    story.when(request_return(lines=named, at="2026-03-18 09:00")).then_accepted()

    assert story.ask("order/A-1")["lines"][0]["return_before"] == "2026-03-20T00:00:00-04:00"
    eligible = story.ask("eligibility", order_id="A-1", as_of="2026-03-20T13:00:00Z")["lines"][0]["return"]
    assert (eligible["allowed"], eligible["return_before"]) == (False, "2026-03-20T00:00:00-04:00")
    story.when(request_return(return_id="R-2", lines=named)).then_error("quantity.exceeded")
    story.when(request_return(return_id="R-2", lines=[{**named[0], "parcel_id": "P-9"}])).then_error("parcel.unknown")
    story.when(request_return(return_id="R-2", at="2026-03-20 09:00")).then_declined("returns.window")


@pytest.mark.parametrize("gone", [report_parcel_lost, record_parcel_returned])
@pytest.mark.parametrize("gone_first", [True, False])
def test_a_parcel_that_is_gone_is_gone_again_once_its_delivery_is_taken_back(gone: Any, gone_first: bool) -> None:
    told = [gone(), record_delivery(delivered_at=DELIVERED)]
    story = given(ORDERED, record_shipment(at=SHIPPED)).at("2026-03-06 09:00")
    story.given(*(told if gone_first else told[::-1])).then_view("order/A-1", status="delivered")

    story.given(correct_delivery(at="2026-03-07 09:00"))

    status = "lost" if gone is report_parcel_lost else "returned_to_sender"
    assert parcels(story) == [("P-1", status, "2026-03-03T09:00:00-05:00", None)]
    story.when(record_shipment("P-2")).then("Shipped")


@pytest.mark.parametrize("gone", [report_parcel_lost, record_parcel_returned])
def test_a_parcel_that_is_gone_does_not_bar_the_cancellation(gone: Any) -> None:
    story = given(ORDERED, record_shipment(at="2026-03-02 10:30")).at("2026-03-02 11:00")
    story.when(request_cancellation()).then_declined("cancellation.not_shipped")

    story.given(gone()).when(request_cancellation(at="2026-03-02 11:30")).then("CancellationRequested", "Cancelled")

    # It turns up all the same: it may come back, and nothing more is owed.
    story.when(record_delivery(at="2026-03-05 14:00")).then("Delivered", "ExceptionRaised")
    story.when(request_return()).then("ReturnRequested", "ReturnAuthorized")
    story.then_view("refund", {"return_id": "R-1"}, total="0.00")
    story.then_view("refund", {"order_id": "A-1"}, total="600.00")


@pytest.mark.parametrize("gone", [report_parcel_lost, record_parcel_returned])
def test_a_delivered_parcel_of_unknown_contents_holds_what_a_lost_one_did_not_bring(gone: Any) -> None:
    story = given(ORDERED, record_shipment(at=SHIPPED), record_delivery("P-2", at=DELIVERED))
    story.then_view("order/A-1", status="shipped")

    story.when(gone(at="2026-03-09 10:00")).then_accepted()

    story.then_view("order/A-1", status="delivered", lines=[{"delivered": 1}])

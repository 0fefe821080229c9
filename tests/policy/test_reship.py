"""Units that somebody owes the customer are on the worklist until they are shipped, where no fulfilment knows of them."""

from __future__ import annotations

from typing import Any

import pytest
from reading import work
from usual import a_delivered_order

from returnable.testing import (
    Scenario,
    a_return,
    an_order,
    cancel_order,
    correct_delivery,
    given,
    override,
    record_delivery,
    record_parcel_returned,
    record_shipment,
    report_parcel_lost,
    report_wrong_item,
    request_cancellation,
    request_return,
    resolve_claim,
    withdraw_return,
)

SHIPPED = "2026-03-03 09:00"
LOST = report_parcel_lost(at="2026-03-10 09:00")


def reship(story: Scenario, **fields: Any) -> list[str]:
    """The subjects for which units are to be shipped."""
    return [name for kind, name in work(story, **fields) if kind == "reship"]


def replaced(remedy: str = "replacement", quantity: int = 1, **more: Any) -> Scenario:
    """An order of so many units that was delivered, and a claim for one of them that was settled so."""
    return given(
        a_delivered_order(price="100.00", quantity=quantity),
        report_wrong_item(at="2026-03-06 10:00"),
        resolve_claim(remedy=remedy, at="2026-03-06 11:00"),
    )


@pytest.mark.parametrize(("remedy", "waits"), [("refund", []), ("replacement", ["C-1"]), ("both", ["C-1"])])
def test_a_replacement_is_to_be_shipped_until_it_is_in_a_parcel(remedy: str, waits: list[str]) -> None:
    story = replaced(remedy)
    assert reship(story) == waits

    story.given(record_shipment("P-2", 1, at="2026-03-07 10:00"))

    assert reship(story) == []
    assert reship(story, as_of="2026-03-06 12:00") == waits
    assert reship(story, as_of="2026-03-06 10:30") == []


@pytest.mark.parametrize("gone", [LOST, record_parcel_returned(at="2026-03-10 09:00")])
def test_what_was_lost_or_came_back_is_to_be_shipped_again_or_cancelled(gone: Any) -> None:
    story = given(an_order(quantity=2), record_shipment(at=SHIPPED), gone)
    assert reship(story) == ["A-1"]

    story.given(record_shipment("P-2", 1))
    assert reship(story) == ["A-1"]
    story.given(cancel_order())

    assert reship(story) == []


def test_a_parcel_that_turns_up_is_not_shipped_again() -> None:
    story = given(an_order(), record_shipment(at=SHIPPED), LOST)

    story.given(record_delivery(at="2026-03-11 09:00"))
    assert reship(story) == []

    story.given(correct_delivery(reason="It was another parcel."))
    assert reship(story) == ["A-1"]


@pytest.mark.parametrize("cancels", [cancel_order(), request_cancellation(order_reference="A-1")])
def test_nothing_is_shipped_again_for_an_order_that_is_cancelled(cancels: Any) -> None:
    story = given(
        an_order(), record_shipment(at="2026-03-02 10:30"), report_parcel_lost(at="2026-03-02 11:00"), cancels
    )

    story.then_view("order/A-1", status="cancelled")
    assert reship(story) == []


def test_what_was_never_shipped_is_no_task_and_is_not_taken_for_what_was_lost() -> None:
    story = given(an_order(quantity=3), record_shipment("P-1", 1, at=SHIPPED))
    assert reship(story) == []

    story.given(LOST, record_shipment("P-2", 2))
    assert reship(story) == ["A-1"]  # as many as were never shipped went on their way, so one is still missing

    story.given(record_shipment("P-3", 1))
    assert reship(story) == []


def test_a_lost_replacement_is_shipped_again_for_its_claim() -> None:
    story = replaced()
    story.given(record_shipment("P-2", 1, at="2026-03-07 10:00"), report_parcel_lost("P-2"))

    assert reship(story) == ["C-1"]
    story.given(record_shipment("P-3", 1))

    assert reship(story) == []


def test_what_was_bought_is_shipped_first_then_the_replacements_as_they_were_granted() -> None:
    story = replaced(quantity=2)
    story.given(report_wrong_item("C-2"), resolve_claim(claim_id="C-2", remedy="both"))
    assert reship(story) == ["C-1", "C-2"]

    story.given(record_shipment("P-2", 1))
    assert reship(story) == ["C-2"]

    story.given(record_shipment("P-3", 1))
    assert reship(story) == []


def test_a_unit_that_was_cancelled_in_the_place_of_a_replacement_is_not_shipped() -> None:
    story = replaced()

    story.when(cancel_order()).then("UnitsCancelled")

    assert reship(story) == []


def test_a_lost_unit_that_was_paid_back_is_not_shipped_again_with_the_others() -> None:
    paid = a_return(requested="2026-03-09 12:00", refunded="2026-03-11 10:00")
    story = given(a_delivered_order(quantity=2), paid, correct_delivery(), report_parcel_lost())
    assert reship(story) == ["A-1"]

    story.given(record_shipment("P-2", 1))
    assert reship(story) == []

    story.given(report_parcel_lost("P-2"))
    assert reship(story) == ["A-1"]


def test_a_lost_unit_that_was_replaced_is_shipped_once() -> None:
    story = replaced()
    story.given(correct_delivery(), report_parcel_lost())
    assert reship(story) == ["C-1"]

    story.given(record_shipment("P-2", 1))

    assert reship(story) == []


def test_a_lost_unit_that_is_in_a_return_is_not_shipped_until_the_return_is_withdrawn() -> None:
    story = given(an_order(), record_shipment(at=SHIPPED), override("returns.window"))
    story.given(request_return(), report_parcel_lost())
    assert reship(story) == []

    story.given(withdraw_return())

    assert reship(story) == ["A-1"]

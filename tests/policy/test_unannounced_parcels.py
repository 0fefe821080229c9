"""A parcel that nobody announced is parked. It is found by its tracking number or its slip, and assigned by a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from usual import a_delivered_order, a_labelled_return, an_authorized_return

import returnable
from returnable.adapters.wiring import assemble
from returnable.domain.arrivals import tracking_key
from returnable.domain.errors import Impossible
from returnable.testing import (
    Scenario,
    a_claim,
    an_order,
    assign_arrival,
    confirm_order,
    dismiss_arrival,
    event,
    given,
    inspect_return,
    issue_label,
    receive_return,
    record_arrival,
    record_delivery,
    record_return_shipment,
    record_shipment,
    request_refund,
    request_return,
    withdraw_return,
)


def found(story: Scenario, arrival_id: str = "D-1") -> list[tuple[str, list[str]]]:
    """What the parcel may be, and how it was found."""
    return [
        (f"{each['kind']}/{each['id']}" + (f" {each['parcel_id']}" if each["parcel_id"] else ""), each["found_by"])
        for each in story.ask(f"arrival/{arrival_id}")["candidates"]
    ]


def waiting(story: Scenario) -> list[str]:
    """The parcels that wait for a person."""
    items = story.ask("worklist")["items"]
    return [item["subject"]["id"] for item in items if item["kind"] == "assign_arrival"]


def two_returns(**label: str) -> Scenario:
    """Two returns of one unit each; the second has the label ``L-2``, and the first one, too, where ``label`` says so."""
    story = given(an_authorized_return(quantity=2), request_return(return_id="R-2"))
    first = [issue_label(**label)] if label else []
    return story.given(*first, issue_label("L-2", return_id="R-2", **(label or {"tracking_number": "T-2"})))


def test_a_parcel_that_nobody_announced_waits_until_it_is_assigned() -> None:
    story = given(a_labelled_return()).at("2026-03-11 09:00").when(record_arrival()).then("ArrivalRecorded")
    story.then_view("arrival/D-1", status="parked", arrived_at="2026-03-11T09:00:00-04:00", candidates=[])
    assert waiting(story) == ["D-1"]

    story.at("2026-03-12 15:00").when(assign_arrival()).then("ArrivalAssigned", "Received")

    story.then_view("arrival/D-1", status="assigned", assigned_to={"kind": "return", "id": "R-1"})
    story.then_view("return/R-1", status="received", received_at="2026-03-11T09:00:00-04:00", late=False)
    assert waiting(story) == []
    story.when(inspect_return(), request_refund("F-1")).then_accepted()


def test_it_is_found_by_the_tracking_number_of_a_label_however_it_is_written() -> None:
    story = given(an_authorized_return(), issue_label(tracking_number="79401234AB"))

    story.when(record_arrival(carrier="fedex", tracking_number="7940 1234-ab"))

    assert found(story) == [("return/R-1", ["tracking_number"])]


def test_a_number_without_letters_or_digits_is_a_number() -> None:
    assert tracking_key("---") != tracking_key("***")


def test_it_is_found_by_the_number_of_a_hand_over_without_a_label() -> None:
    story = given(an_authorized_return(), record_return_shipment(None, tracking_number="OWN-1"))

    story.when(record_arrival(tracking_number="own1"))

    assert found(story) == [("return/R-1", ["tracking_number"])]


def test_it_is_found_by_the_order_that_its_slip_names() -> None:
    story = given(a_labelled_return()).when(record_arrival(order_reference="A-1"))
    assert found(story) == [("return/R-1", ["order_reference"])]

    story.when(record_arrival("D-2", order_reference="A-77")).then("ArrivalRecorded")
    assert found(story, "D-2") == []


def test_a_slip_that_names_another_parcel_finds_nothing() -> None:
    story = given(a_labelled_return(), record_arrival()).when(record_arrival("D-2", order_reference="arrival/D-1"))

    assert found(story, "D-2") == []


def test_what_both_name_comes_first() -> None:
    story = two_returns().when(record_arrival(order_reference="A-1", tracking_number="T-2"))

    assert found(story) == [
        ("return/R-2", ["tracking_number", "order_reference"]),
        ("return/R-1", ["order_reference"]),
    ]


def test_two_returns_on_one_label_are_both_found() -> None:
    story = two_returns(tracking_number="T-9").when(record_arrival(tracking_number="T-9"))

    assert found(story) == [("return/R-1", ["tracking_number"]), ("return/R-2", ["tracking_number"])]


def test_a_return_that_is_not_awaited_is_found_by_its_number_only() -> None:
    story = given(a_labelled_return(), withdraw_return())
    story.when(record_arrival(order_reference="A-1"), record_arrival("D-2", tracking_number="RT-L-1"))

    assert found(story) == []
    assert found(story, "D-2") == [("return/R-1", ["tracking_number"])]
    story.when(assign_arrival("D-2")).then("ArrivalAssigned", "Received", "ExceptionRaised")


def test_returns_and_parcels_of_several_orders_on_one_number_are_all_found() -> None:
    story = given(an_authorized_return(), issue_label(tracking_number="T-9"))
    story.given(confirm_order("A-2"), record_shipment(order_id="A-2", tracking_number="T-9"))

    story.when(record_arrival(tracking_number="T-9"))

    assert found(story) == [("return/R-1", ["tracking_number"]), ("order/A-2 P-1", ["tracking_number"])]


def test_an_outbound_parcel_that_came_back_is_found_and_assigned() -> None:
    story = given(an_order(shipped="2026-03-03 10:00")).at("2026-03-09 09:00")
    story.when(record_arrival(tracking_number="t p1"))
    assert found(story) == [("order/A-1 P-1", ["tracking_number"])]

    story.at("2026-03-10 09:00").when(assign_arrival(order_id="A-1", parcel_id="P-1"))

    story.then(
        "ArrivalAssigned", event("ReturnedToSender", occurred_at="2026-03-09 09:00", of="order/A-1"), "ExceptionRaised"
    )
    story.then_view("order/A-1", parcels=[{"parcel_id": "P-1", "status": "returned_to_sender"}])
    story.then_view("arrival/D-1", assigned_to={"kind": "order", "id": "A-1"}, parcel_id="P-1")


def test_the_wrong_item_of_a_claim_comes_unannounced() -> None:
    claimed = a_delivered_order() + a_claim(reported="2026-03-09 12:00")
    story = given(claimed).when(record_arrival(order_reference="A-1"))
    assert found(story) == []
    story.given(issue_label(claim_id="C-1", tracking_number="T-2"))

    story.when(record_arrival("D-2", tracking_number="T-2", order_reference="A-1"))

    assert found(story, "D-2") == [("claim/C-1", ["tracking_number", "order_reference"])]
    story.when(assign_arrival("D-2", claim_id="C-1")).then("ArrivalAssigned", event("Received", of="claim/C-1"))


def test_a_box_of_a_return_comes_unannounced() -> None:
    story = given(a_labelled_return(2, quantity=2), receive_return(box_id="1"), record_arrival(order_reference="A-1"))

    story.when(assign_arrival(box_id="2")).then("ArrivalAssigned", event("Received", box_id="2"))

    story.then_view("arrival/D-1", box_id="2")


def test_a_parcel_that_was_sent_too_late_is_refused_where_it_is_assigned() -> None:
    late = a_labelled_return() + record_return_shipment(at="2026-03-20 09:00")
    story = given(late).at("2026-03-21 09:00").given(record_arrival())

    story.when(assign_arrival(command_id="dock-1")).then_declined("returns.ship_by")
    story.then("ArrivalAssigned", "ParcelRejected")

    story.then_view("arrival/D-1", status="assigned")
    assert waiting(story) == []
    story.when(assign_arrival(command_id="dock-1")).then_replayed("ArrivalAssigned", "ParcelRejected")
    story.then_declined("returns.ship_by")
    assert story.desk.verify().problems == ()
    assert story.desk.redecide() == ()


def test_what_is_told_twice_records_nothing() -> None:
    told = record_arrival(tracking_number="T-9", arrived_at="2026-03-09 13:00")
    story = given(a_labelled_return()).at("2026-03-10 09:00").given(told)

    story.when(told, record_arrival(tracking_number="T-9")).then()
    again = record_arrival(tracking_number="T-9", command_id="dock-2")
    story.when(again, again).then()
    story.when(assign_arrival()).then("ArrivalAssigned", "Received")
    story.when(assign_arrival()).then()


def test_an_arrival_that_the_return_knows_already_is_only_assigned() -> None:
    story = given(a_labelled_return(), record_arrival(), receive_return())

    story.when(assign_arrival()).then("ArrivalAssigned")


@pytest.mark.parametrize(
    "other", [{"tracking_number": "T-8"}, {"arrived_at": "2026-03-09 13:01"}, {"notes": "A red box."}]
)
def test_the_id_of_another_parcel_is_taken(other: dict[str, str]) -> None:
    told = {"tracking_number": "T-9", "arrived_at": "2026-03-09 13:00"}
    story = given(a_labelled_return()).at("2026-03-10 09:00").given(record_arrival(**told))

    story.when(record_arrival(**told | other)).then_error("arrival.exists", "arrival_id")


def test_an_assigned_parcel_stays_where_it_is() -> None:
    story = given(a_labelled_return(), record_arrival(), assign_arrival())

    elsewhere = assign_arrival(order_id="A-1", parcel_id="P-1")
    story.when(elsewhere).then_error(
        "transition.not_allowed", message="arrival D-1 is assigned (to return R-1)", allowed=[]
    )
    story.when(dismiss_arrival()).then_error("transition.not_allowed", state="assigned", allowed=[])


def test_a_parcel_that_is_not_for_the_shop_is_dismissed_and_may_be_assigned_later() -> None:
    story = given(a_labelled_return(), record_arrival()).when(dismiss_arrival()).then("ArrivalDismissed")
    assert waiting(story) == []
    story.then_view("arrival/D-1", status="dismissed", dismissed_because="It is for the neighbour.")
    story.when(dismiss_arrival()).then_error("transition.not_allowed", allowed=["assign_arrival"])

    story.when(assign_arrival()).then("ArrivalAssigned", "Received")
    story.then_view("arrival/D-1", status="assigned", dismissed_because=None)


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"return_id": "R-9"}, "return.unknown", "return_id"),
        ({"claim_id": "C-9"}, "claim.unknown", "claim_id"),
        ({"order_id": "A-9", "parcel_id": "P-1"}, "order.unknown", "order_id"),
        ({"order_id": "A-1", "parcel_id": "P-9"}, "parcel.unknown", "parcel_id"),
        ({"order_id": "A-1"}, "command.invalid", "parcel_id"),
        ({"return_id": "R-1", "parcel_id": "P-1"}, "command.invalid", "order_id"),
        ({"return_id": "R-1", "claim_id": "C-1"}, "command.invalid", "return_id"),
        ({}, "command.invalid", "return_id"),
        ({"order_id": "A-1", "parcel_id": "P-1", "box_id": "1"}, "command.invalid", "box_id"),
        ({"arrival_id": "D-9", "return_id": "R-1"}, "arrival.unknown", "arrival_id"),
    ],
)
def test_what_is_assigned_and_what_it_is_assigned_to_must_be_there(
    fields: dict[str, str], code: str, field: str
) -> None:
    story = given(a_labelled_return(), record_arrival())

    outcome = story.tell("assign_arrival", **{"arrival_id": "D-1"} | fields)

    assert (outcome["error"]["code"], outcome["error"]["field"]) == (code, field)
    assert waiting(story) == ["D-1"]


def test_nothing_arrives_before_the_order_was_placed() -> None:
    story = given(a_labelled_return(), record_arrival(arrived_at="2026-02-01 09:00"))

    story.when(assign_arrival()).then_error(
        "command.invalid",
        "arrival_id",
        message="it came too early: 2026-02-01T14:00:00+00:00 is before the order was placed",
    )

    assert waiting(story) == ["D-1"]


def test_an_order_and_a_parcel_never_share_a_case() -> None:
    story = given(a_labelled_return(), record_arrival())

    story.when(record_delivery(order_id="arrival/D-1")).then_error("order.unknown", "order_id")
    story.when(confirm_order("arrival/D-1")).then_error("order.exists", "order_id")
    story.when(confirm_order("arrival/D-2")).then("Confirmed")
    story.when(record_arrival("D-2")).then_error("arrival.exists", "arrival_id")
    assert story.ask_in_vain("order/arrival/D-1")["code"] == "order.unknown"


def test_it_is_found_as_it_was_then() -> None:
    story = given(a_labelled_return()).at("2026-03-11 09:00").given(record_arrival(tracking_number="RT-L-1"))
    story.at("2026-03-12 09:00").given(assign_arrival())

    before = story.ask("arrival/D-1", as_of="2026-03-11 12:00")
    assert (before["status"], [each["id"] for each in before["candidates"]]) == ("parked", ["R-1"])
    assert story.ask("arrival/D-1")["candidates"] == []
    too_early = story.ask_in_vain("arrival/D-1", as_of="2026-03-10 12:00")
    assert (too_early["code"], too_early["field"]) == ("arrival.unknown", "arrival_id")


def test_everything_is_decided_again_verified_and_told_again() -> None:
    story = given(a_labelled_return(), record_arrival(tracking_number="T-9", notes="A red box."), assign_arrival())
    story.given(record_arrival("D-2"), dismiss_arrival("D-2"))

    assert story.desk.redecide() == ()
    assert story.desk.redecide("arrival/D-1") == ()
    assert story.desk.verify().problems == ()
    entries = story.desk.audit(stream="arrival/D-1").entries
    assert [(entry.type, entry.before, entry.after) for entry in entries] == [
        ("ArrivalRecorded", None, "parked"),
        ("ArrivalAssigned", "parked", "assigned"),
    ]
    assert {each.order_id for each in story.desk.orders()} == {"A-1"}
    assert {each.order_id for each in story.desk.ledger()} == {"A-1"}


@pytest.mark.parametrize("question", ["why", "report", "replay", "edges"])
def test_what_explains_decisions_says_that_there_is_none(question: str) -> None:
    story = given(a_labelled_return(), record_arrival())

    with pytest.raises(Impossible, match="arrival D-1 is a parcel that nobody announced") as raised:
        getattr(story.desk, question)("arrival/D-1")
    assert raised.value.field == "subject"


@pytest.mark.parametrize("where", ["memory:", "sqlite"])
def test_the_index_of_numbers_names_each_case_once(where: str, tmp_path: Path) -> None:
    services = assemble(where if where == "memory:" else f"sqlite:///{tmp_path}/shop.db")
    story = Scenario(services).given(an_authorized_return(), issue_label(tracking_number="T-9"))
    story.given(record_return_shipment(None, tracking_number="T 9"), confirm_order("A-2"))
    story.given(record_shipment(order_id="A-2", tracking_number="t9"))

    assert services.store.cases_tracking(tracking_key("T-9")) == ["A-1", "A-2"]
    assert services.store.cases_tracking(tracking_key("T-99")) == []
    assert story.desk.verify().problems == ()
    services.store.close()


def test_the_desk_answers_with_models() -> None:
    desk = returnable.open("memory:")
    desk.record_arrival(arrival_id="D-1", carrier="ups", tracking_number="T-9", notes="A red box.")

    view: Any = desk.arrival(arrival_id="D-1")

    assert (view.status, view.carrier, view.notes, view.candidates) == ("parked", "ups", "A red box.", ())

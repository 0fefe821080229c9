"""What becomes of the units that came back, as the warehouse tells it."""

from __future__ import annotations

from usual import a_delivered_order

from returnable.testing import (
    Scenario,
    a_claim,
    given,
    inspect_return,
    receive_return,
    record_disposition,
    record_send_back,
    request_return,
    resolve_claim,
)


def disposed(story: Scenario) -> dict[str, int]:
    """The dispositions of the first line of the return."""
    return {each["disposition"]: each["quantity"] for each in story.ask("return/R-1")["disposed"]}


def a_returned_order() -> Scenario:
    """Three units came back."""
    story = given(a_delivered_order(quantity=3), request_return(3, at="2026-03-09 12:00"))
    return story.given(receive_return(at="2026-03-12 12:00"))


def test_the_warehouse_tells_what_becomes_of_each_unit() -> None:
    story = a_returned_order().given(inspect_return(3))

    lines = [{"line_id": "1", "quantity": 1, "disposition": what} for what in ("restock", "vendor")]
    story.when(record_disposition(lines=lines)).then("DispositionRecorded")
    story.when(record_disposition(1, "scrap")).then("DispositionRecorded")
    assert disposed(story) == {"restock": 1, "scrap": 1, "vendor": 1}
    assert story.ask("audit/return/R-1")["entries"][-1]["type"] == "DispositionRecorded"


def test_more_units_than_were_received_are_an_exception() -> None:
    story = a_returned_order().when(record_disposition(2)).then("DispositionRecorded")

    story.when(record_disposition(2, "scrap")).then("DispositionRecorded", "ExceptionRaised")
    (entry,) = [item for item in story.ask("worklist")["items"] if item["kind"] == "exception"]
    assert entry["subject"] == {"kind": "return", "id": "R-1"}
    assert disposed(story) == {"restock": 2, "scrap": 2}


def test_units_that_did_not_come_or_were_sent_back_are_an_exception() -> None:
    story = given(a_delivered_order(), request_return(at="2026-03-09 12:00"))

    story.when(record_disposition()).then("DispositionRecorded", "ExceptionRaised")
    story.given(receive_return(at="2026-03-12 12:00"), inspect_return(0, rejected=1), record_send_back())
    story.when(record_disposition(1, "scrap")).then("DispositionRecorded", "ExceptionRaised")


def test_a_line_that_is_not_in_the_return_is_an_error() -> None:
    a_returned_order().when(record_disposition({"2": 1})).then_error("line.unknown")


def test_a_wrong_item_that_came_back_is_put_into_stock() -> None:
    story = given(a_delivered_order(), a_claim(reported="2026-03-09 12:00"), resolve_claim(remedy="replacement"))

    story.given(receive_return(claim_id="C-1"))
    story.when(record_disposition(claim_id="C-1")).then("DispositionRecorded")
    story.when(record_disposition(claim_id="C-1")).then("DispositionRecorded", "ExceptionRaised")

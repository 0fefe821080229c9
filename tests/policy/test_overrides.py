"""Overrides: who, why and which clause are on record, and the ruling cites them instead of hiding them."""

from __future__ import annotations

import pytest
from kit import Story, ask_return, brought_back, clause, code, failed, finding, ship, types, verdicts


def set_aside(story: Story, clause_id: str, kind: str = "order", name: str = "A-1") -> dict:
    return story.tell(
        "override", subject={"kind": kind, "id": name}, clause=clause_id, reason="goodwill", approved_by="kim"
    )


def test_an_override_is_on_record_in_the_stream_of_its_subject() -> None:
    story = Story()
    story.delivered()

    outcome = set_aside(story, "returns.window")

    assert types(outcome) == ["OverrideGranted"]
    assert outcome["events"][0]["stream"] == "order/A-1"


def test_an_override_of_a_clause_nobody_knows_is_malformed() -> None:
    story = Story()
    story.delivered()

    outcome = set_aside(story, "returns.mood")

    assert code(outcome) == "command.invalid"
    assert outcome["error"]["field"] == "clause"


@pytest.mark.parametrize(
    ("clause_id", "fields", "order"),
    [
        ("returns.window", {"at": "2026-04-20T12:00:00-04:00"}, {}),
        ("returns.final_sale", {}, {"final_sale": True}),
        ("returns.account", {}, {"account_id": None}),
        ("returns.portal", {"channel": "phone"}, {}),
        ("returns.no_exchanges", {"resolution": "exchange"}, {}),
    ],
)
def test_a_return_clause_set_aside_for_the_order_lets_the_request_pass(
    clause_id: str, fields: dict, order: dict
) -> None:
    story = Story()
    story.delivered(**order)
    at = {"at": "2026-03-09T12:00:00-04:00"} | fields
    declined = ask_return(story, **at)
    set_aside(story, clause_id)

    outcome = ask_return(story, **at, return_id="R-2")

    assert failed(declined) == [clause_id]
    assert types(outcome) == ["ReturnRequested", "ReturnAuthorized"]
    found = clause(outcome, clause_id)
    assert found["verdict"] == "overridden"
    assert found["facts"]["override"]["approved_by"] == "kim"
    assert found["facts"]["override"]["reason"] == "goodwill"
    assert "kim" in found["because"]
    assert "goodwill" in found["because"]


@pytest.mark.parametrize(
    ("clause_id", "fields", "shipped"),
    [
        ("cancellation.window", {"at": "2026-03-02T12:00:01-05:00"}, False),
        ("cancellation.not_shipped", {}, True),
        ("cancellation.by_email", {"channel": "phone"}, False),
    ],
)
def test_a_cancellation_clause_set_aside_lets_the_request_pass(clause_id: str, fields: dict, shipped: bool) -> None:
    story = Story()
    story.confirmed()
    if shipped:
        ship(story, "P-1", "2026-03-02T10:30:00-05:00")
    given = {"at": "2026-03-02T11:00:00-05:00", "order_id": "A-1", "channel": "email", "order_copy": True} | fields
    declined = story.tell("request_cancellation", **given)
    set_aside(story, clause_id)

    outcome = story.tell("request_cancellation", **given)

    assert failed(declined) == [clause_id]
    assert types(outcome) == ["CancellationRequested", "Cancelled"]
    assert verdicts(outcome)[clause_id] == "overridden"
    assert story.ask("order", order_id="A-1")["status"] == "cancelled"


@pytest.mark.parametrize(
    ("clause_id", "fields"),
    [("wrong_item.window", {"at": "2026-03-17T00:00:00-04:00"}), ("wrong_item.by_email", {"channel": "phone"})],
)
def test_a_claim_clause_set_aside_for_the_order_lets_the_report_pass(clause_id: str, fields: dict) -> None:
    story = Story()
    story.delivered()
    given = {"at": "2026-03-09T12:00:00-04:00", "order_id": "A-1", "line_id": "1", "channel": "email"} | fields
    declined = story.tell("report_wrong_item", **given, claim_id="W-1")
    set_aside(story, clause_id)

    outcome = story.tell("report_wrong_item", **given, claim_id="W-2")

    assert failed(declined) == [clause_id]
    assert types(outcome) == ["ClaimOpened"]
    assert verdicts(outcome)[clause_id] == "overridden"


def test_evidence_set_aside_for_the_claim_settles_it() -> None:
    story = Story()
    story.delivered()
    for claim_id in ("W-1", "W-2"):
        story.tell("report_wrong_item", claim_id=claim_id, order_id="A-1", line_id="1", channel="email")
    set_aside(story, "wrong_item.evidence", "claim", "W-1")

    first = story.tell("resolve_claim", claim_id="W-1", remedy="replacement")
    second = story.tell("resolve_claim", claim_id="W-2", remedy="replacement")

    assert types(first) == ["ClaimResolved"]
    assert verdicts(first)["wrong_item.evidence"] == "overridden"
    assert failed(second) == ["wrong_item.evidence"]


def test_an_override_for_one_return_does_not_touch_another() -> None:
    story = Story()
    story.labelled(quantity=2)
    ask_return(story, "2026-03-09T13:00:00-04:00", return_id="R-2")
    story.tell("issue_label", return_id="R-2", label_id="L-1", carrier="fedex", tracking_number="RT-2")
    set_aside(story, "returns.ship_by", "return", "R-1")

    first = story.tell("receive_return", "2026-03-12T00:00:00-04:00", return_id="R-1")
    second = story.tell("receive_return", "2026-03-12T00:00:00-04:00", return_id="R-2")

    assert types(first) == ["Received"]
    assert verdicts(first)["returns.ship_by"] == "overridden"
    assert types(second) == ["ParcelRejected"]
    assert story.ask("return", return_id="R-1")["late"] is True


def test_condition_set_aside_accepts_the_units() -> None:
    story = Story()
    story.labelled()
    story.tell("receive_return", return_id="R-1")
    set_aside(story, "returns.condition", "return", "R-1")

    outcome = story.tell("inspect_return", return_id="R-1", findings=[finding(tags_attached=False)])

    assert verdicts(outcome)["returns.condition"] == "overridden"
    assert story.ask("return", return_id="R-1")["lines"][0]["accepted"] == 1
    assert story.ask("refund", return_id="R-1")["total"] == "750.00"


def test_condition_set_aside_after_the_inspection_pays_for_the_rejected_units() -> None:
    story = Story()
    story.inspected(good=False)
    set_aside(story, "returns.condition", "return", "R-1")

    outcome = story.tell("request_refund", refund_id="F-1", return_id="R-1")

    assert types(outcome) == ["RefundRequested"]
    assert verdicts(outcome)["returns.condition"] == "overridden"
    assert story.ask("refund", refund_id="F-1")["total"] == "750.00"


def test_inspection_set_aside_pays_for_a_parcel_that_was_lost() -> None:
    story = Story()
    story.labelled()
    story.tell("record_return_shipment", "2026-03-10T16:00:00-04:00", return_id="R-1", label_id="L-1")
    story.tell("report_return_lost", return_id="R-1")
    set_aside(story, "returns.refund_after_inspection", "return", "R-1")

    outcome = story.tell("request_refund", refund_id="F-1", return_id="R-1")

    assert types(outcome) == ["RefundRequested"]
    assert story.ask("refund", refund_id="F-1")["total"] == "750.00"


@pytest.mark.parametrize(
    ("clause_id", "total"),
    [("returns.label_fee", "100.00"), ("returns.shipping_non_refundable", "100.00")],
    ids=["fee", "shipping"],
)
def test_money_kept_by_a_clause_goes_back_when_it_is_set_aside(clause_id: str, total: str) -> None:
    story = Story()
    story.delivered(price="100.00", shipping="20.00")
    brought_back(story, {"1": 1})
    before = story.ask("refund", return_id="R-1")["total"]
    set_aside(story, clause_id, "return", "R-1")

    outcome = story.tell("request_refund", refund_id="F-1", return_id="R-1")

    assert before == "80.00"
    assert verdicts(outcome)[clause_id] == "overridden"
    assert story.ask("refund", refund_id="F-1")["total"] == total


def test_a_clause_that_holds_anyway_passes_and_is_not_called_overridden() -> None:
    story = Story()
    story.delivered()
    set_aside(story, "returns.window")

    outcome = ask_return(story, "2026-03-09T12:00:00-04:00")

    assert verdicts(outcome)["returns.window"] == "pass"


def test_an_override_sets_aside_one_clause_and_no_other() -> None:
    story = Story()
    story.delivered(final_sale=True)
    set_aside(story, "returns.final_sale")

    outcome = ask_return(story, "2026-03-20T00:00:00-04:00", channel="phone")

    assert failed(outcome) == ["returns.portal", "returns.window"]
    assert verdicts(outcome)["returns.final_sale"] == "overridden"


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ({"kind": "order", "id": "A-9"}, "order.unknown"),
        ({"kind": "return", "id": "R-9"}, "return.unknown"),
        ({"kind": "claim", "id": "W-9"}, "claim.unknown"),
        ({"kind": "refund", "id": "F-9"}, "command.invalid"),
    ],
)
def test_an_override_is_for_a_known_order_return_or_claim(subject: dict, expected: str) -> None:
    story = Story()
    story.delivered()

    outcome = story.tell("override", subject=subject, clause="returns.window", reason="x", approved_by="kim")

    assert code(outcome) == expected


def test_a_unit_paid_back_although_it_was_rejected_is_not_free_after_it_was_sent_back() -> None:
    story = Story()
    story.inspected(good=False)
    set_aside(story, "returns.condition", "return", "R-1")
    story.tell("request_refund", refund_id="F-1", return_id="R-1")
    story.tell("record_refund_result", refund_id="F-1", payment_id="p-1", result="succeeded")
    story.tell("record_send_back", return_id="R-1", lines=[{"line_id": "1", "quantity": 1}])

    outcome = ask_return(story, story.at, return_id="R-2")

    assert code(outcome) == "quantity.exceeded"


def cancelled_after_delivery(quantity: int = 1, settled: bool = False) -> Story:
    """A delivered order with a claim on one unit, open or settled by refund, then cancelled by way of two overrides."""
    story = Story()
    story.delivered(quantity=quantity)
    both = ["order_confirmation", "item_picture"]
    story.tell("report_wrong_item", claim_id="W-1", order_id="A-1", line_id="1", channel="email", attachments=both)
    if settled:
        story.tell("resolve_claim", claim_id="W-1", remedy="refund")
    set_aside(story, "cancellation.window")
    set_aside(story, "cancellation.not_shipped")
    outcome = story.tell("request_cancellation", order_id="A-1", channel="email", order_copy=True)
    assert types(outcome) == ["CancellationRequested", "Cancelled"]
    return story


def test_a_claim_is_not_settled_by_refund_once_the_cancelled_order_was_refunded_in_full() -> None:
    story = cancelled_after_delivery()
    story.tell("request_refund", refund_id="F-1", order_id="A-1")

    outcome = story.tell("resolve_claim", claim_id="W-1", remedy="refund")

    assert code(outcome) == "transition.not_allowed"


def test_an_order_with_a_return_under_way_is_not_cancelled_even_by_overrides() -> None:
    story = Story()
    story.authorized()
    set_aside(story, "cancellation.window")
    set_aside(story, "cancellation.not_shipped")

    outcome = story.tell("request_cancellation", order_id="A-1", channel="email", order_copy=True)

    assert code(outcome) == "transition.not_allowed"
    assert "R-1" in outcome["error"]["message"]


def test_a_lost_parcel_is_paid_for_when_the_risk_is_set_aside() -> None:
    story = Story()
    story.labelled()
    story.tell("record_return_shipment", "2026-03-10T16:00:00-04:00", return_id="R-1", label_id="L-1")
    story.tell("report_return_lost", "2026-03-20T09:00:00-04:00", return_id="R-1")

    refused = story.tell("request_refund", refund_id="F-1", return_id="R-1")
    set_aside(story, "returns.transit_risk", "return", "R-1")
    paid = story.tell("request_refund", refund_id="F-1", return_id="R-1")

    assert failed(refused) == ["returns.refund_after_inspection"]
    assert (paid["outcome"], clause(paid, "returns.transit_risk")["verdict"]) == ("accepted", "overridden")


def test_the_refund_of_a_cancelled_order_leaves_out_what_a_claim_has_settled() -> None:
    story = cancelled_after_delivery(quantity=2, settled=True)

    due = story.ask("refund", order_id="A-1")

    assert due["total"] == "750.00"

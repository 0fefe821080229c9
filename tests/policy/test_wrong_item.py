"""``wrong_item.*``: the notice, the evidence, the promised contact, the remedy, and that no unit is paid twice."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from kit import Story, ask_return, brought_back, clause, code, failed, policy_where, ship, types, verdicts, without

BOTH = ["order_confirmation", "item_picture"]


def report(story: Story, at: str | None = None, **fields: object) -> dict:
    given = {"claim_id": "W-1", "order_id": "A-1", "line_id": "1", "channel": "email", "attachments": BOTH}
    return story.tell("report_wrong_item", at, **(given | fields))


def claimed(**order: object) -> Story:
    """A complete claim on the usual order, opened on Monday, 9 March 2026, at noon."""
    story = Story()
    story.delivered(**order)
    assert report(story, "2026-03-09T12:00:00-04:00")["outcome"] == "accepted"
    return story


def resolve(story: Story, remedy: str = "refund", claim_id: str = "W-1", at: str | None = None) -> dict:
    return story.tell("resolve_claim", at, claim_id=claim_id, remedy=remedy)


@pytest.mark.parametrize(
    ("delivered_at", "report_before"),
    [
        pytest.param("2026-03-05T14:00:00-05:00", "2026-03-17T00:00:00-04:00", id="Thursday"),
        pytest.param("2026-03-07T14:00:00-05:00", "2026-03-18T00:00:00-04:00", id="Saturday"),
        pytest.param("2026-10-23T12:00:00-04:00", "2026-11-04T00:00:00-05:00", id="over the change to winter time"),
        pytest.param("2026-11-20T12:00:00-05:00", "2026-12-03T00:00:00-05:00", id="over Thanksgiving"),
        pytest.param("2021-12-22T12:00:00-05:00", "2022-01-05T00:00:00-05:00", id="Christmas and New Year as observed"),
    ],
)
def test_the_first_notice_must_come_by_the_end_of_the_seventh_business_day(
    delivered_at: str, report_before: str
) -> None:
    story = Story()
    story.confirmed(at=delivered_at)
    ship(story, "P-1", delivered_at)
    story.tell("record_delivery", delivered_at, order_id="A-1", parcel_id="P-1")
    last = (datetime.fromisoformat(report_before) - timedelta(seconds=1)).isoformat()

    (line,) = story.ask("eligibility", last, order_id="A-1")["lines"]
    in_time = report(story, last)
    late = report(story, report_before, claim_id="W-2")

    assert line["wrong_item"]["allowed"]
    assert line["wrong_item"]["report_before"] == report_before
    assert types(in_time) == ["ClaimOpened"]
    assert types(late) == ["ClaimOpened", "ClaimDenied"]
    assert failed(late) == ["wrong_item.window"]
    assert clause(late, "wrong_item.window")["facts"]["deadline"] == report_before
    assert story.ask("claim", claim_id="W-2")["status"] == "denied"


def test_final_sale_items_are_covered_too() -> None:
    story = claimed(final_sale=True, account_id="acc-1")

    assert story.ask("claim", claim_id="W-1")["status"] == "open"


def test_another_channel_is_declined_and_the_denied_claim_keeps_its_id() -> None:
    story = Story()
    story.delivered()

    outcome = report(story, channel="portal")
    again = report(story)

    assert types(outcome) == ["ClaimOpened", "ClaimDenied"]
    assert failed(outcome) == ["wrong_item.by_email"]
    assert code(again) == "claim.exists"


def test_missing_evidence_is_no_reason_to_deny_and_keeps_the_first_notices_time() -> None:
    story = Story()
    story.delivered()
    opened = report(story, "2026-03-16T23:59:59-04:00", attachments=[])

    early = resolve(story, "refund", at="2026-03-17T09:00:00-04:00")
    half = story.tell("add_claim_evidence", claim_id="W-1", attachments=["item_picture"])
    still = resolve(story)
    story.tell("add_claim_evidence", "2026-04-20T09:00:00-04:00", claim_id="W-1", attachments=["order_confirmation"])
    done = resolve(story)

    assert opened["outcome"] == "accepted"
    assert types(early) == types(still) == ["ResolutionDeclined"]
    assert failed(early) == ["wrong_item.evidence"]
    assert types(half) == ["EvidenceAdded"]
    assert types(done) == ["ClaimResolved"]
    assert story.ask("claim", claim_id="W-1")["reported_at"] == "2026-03-16T23:59:59-04:00"


@pytest.mark.parametrize(
    ("reported_at", "contact_by"),
    [
        ("2026-03-09T12:00:00-04:00", "2026-03-10T12:00:00-04:00"),
        ("2026-03-07T12:00:00-05:00", "2026-03-08T13:00:00-04:00"),
        ("2026-10-31T12:00:00-04:00", "2026-11-01T11:00:00-05:00"),
    ],
    ids=["plain", "over the short day", "over the long day"],
)
def test_the_contact_is_due_24_elapsed_hours_after_the_first_notice_inclusive(
    reported_at: str, contact_by: str
) -> None:
    start = (datetime.fromisoformat(reported_at) - timedelta(days=1)).isoformat()
    story = Story()
    story.confirmed(at=start)
    ship(story, "P-1", start)
    story.tell("record_delivery", order_id="A-1", parcel_id="P-1")
    report(story, reported_at, attachments=[])
    story.tell("add_claim_evidence", claim_id="W-1", attachments=BOTH)
    after = (datetime.fromisoformat(contact_by) + timedelta(seconds=1)).isoformat()

    at = story.ask("claim", contact_by, claim_id="W-1")
    (item,) = story.ask("worklist", contact_by, kinds=["contact_customer"])["items"]
    late = story.ask("claim", after, claim_id="W-1")
    (overdue,) = story.ask("worklist", after, kinds=["contact_customer"])["items"]

    assert (at["contact_by"], at["overdue"], late["overdue"]) == (contact_by, False, True)
    assert (item["due_at"], item["overdue"], overdue["overdue"]) == (contact_by, False, True)
    assert item["subject"] == {"kind": "claim", "id": "W-1"}


def test_a_contact_ends_the_promise() -> None:
    story = claimed()

    outcome = story.tell("record_claim_contact", "2026-03-10T12:00:00-04:00", claim_id="W-1")
    claim = story.ask("claim", "2026-03-11T12:00:00-04:00", claim_id="W-1")

    assert types(outcome) == ["ClaimContacted"]
    assert (claim["contacted_at"], claim["overdue"]) == ("2026-03-10T12:00:00-04:00", False)
    assert story.ask("worklist", kinds=["contact_customer"])["items"] == []


@pytest.mark.parametrize("remedy", ["refund", "both"])
def test_a_refund_pays_price_and_tax_of_the_unit_without_fee_and_for_a_whole_order_the_shipping(remedy: str) -> None:
    story = claimed(price="100.00", tax="8.88", shipping={"charged": "20.00", "tax": "1.78"})

    resolved = resolve(story, remedy)
    due = story.ask("refund", claim_id="W-1")
    work = story.ask("worklist", kinds=["request_refund"])["items"]
    outcome = story.tell("request_refund", refund_id="F-1", claim_id="W-1")

    assert types(resolved) == ["ClaimResolved"]
    assert (due["status"], due["total"], due["deductions"]) == ("due", "130.66", [])
    assert [item["subject"] for item in work] == [{"kind": "claim", "id": "W-1"}]
    assert types(outcome) == ["RefundRequested"]
    assert outcome["events"][0]["stream"] == "claim/W-1"
    refund = story.ask("refund", refund_id="F-1")
    assert (refund["merchandise"], refund["tax"], refund["total"]) == ("100.00", "8.88", "130.66")


def test_a_claim_for_a_part_of_the_order_leaves_the_shipping_with_the_merchant() -> None:
    story = claimed(price="100.00", quantity=2, shipping="20.00")
    resolve(story)

    due = story.ask("refund", claim_id="W-1")

    assert (due["shipping"], due["total"]) == ("0.00", "100.00")


def test_a_replacement_pays_nothing_and_leaves_the_unit_free() -> None:
    story = claimed()
    resolve(story, "replacement")

    refund = story.tell("request_refund", refund_id="F-1", claim_id="W-1")
    back = ask_return(story, "2026-03-10T12:00:00-04:00")

    assert code(refund) == "transition.not_allowed"
    assert story.ask("claim", claim_id="W-1")["remedy"] == "replacement"
    assert back["outcome"] == "accepted"


def test_the_refund_of_an_open_claim_is_impossible() -> None:
    story = claimed()

    outcome = story.tell("request_refund", refund_id="F-1", claim_id="W-1")

    assert code(outcome) == "transition.not_allowed"


def test_an_open_claim_reserves_nothing_but_cannot_be_settled_by_refund_once_the_unit_is_in_a_return() -> None:
    story = claimed()
    back = ask_return(story, "2026-03-10T12:00:00-04:00")

    refund = resolve(story, "refund")
    both = resolve(story, "both")
    replacement = resolve(story, "replacement")

    assert back["outcome"] == "accepted"
    assert [code(refund), code(both)] == ["quantity.exceeded"] * 2
    assert types(replacement) == ["ClaimResolved"]


def test_a_refunded_return_bars_the_claims_refund_too() -> None:
    story = claimed()
    brought_back(story, {"1": 1})
    story.tell("request_refund", refund_id="F-1", return_id="R-1")
    story.tell("record_refund_result", refund_id="F-1", payment_id="p-1", result="succeeded")

    outcome = resolve(story)

    assert code(outcome) == "quantity.exceeded"


def test_a_unit_settled_by_a_claim_cannot_be_returned() -> None:
    story = claimed(quantity=2)
    resolve(story)

    both = ask_return(story, "2026-03-10T12:00:00-04:00", 2)
    other = ask_return(story, "2026-03-10T12:00:00-04:00", 1, return_id="R-2")

    assert code(both) == "quantity.exceeded"
    assert other["outcome"] == "accepted"


def test_a_withdrawn_return_lets_the_claim_be_settled_by_refund() -> None:
    story = claimed()
    ask_return(story, "2026-03-10T12:00:00-04:00")
    story.tell("withdraw_return", return_id="R-1")

    outcome = resolve(story)

    assert types(outcome) == ["ClaimResolved"]


def test_two_claims_on_one_unit_are_not_both_settled_by_refund() -> None:
    story = claimed()
    second = report(story, claim_id="W-2")
    resolve(story, "refund", "W-1")

    outcome = resolve(story, "refund", "W-2")

    assert second["outcome"] == "accepted"
    assert code(outcome) == "quantity.exceeded"


def test_a_denied_or_settled_claim_moves_no_more() -> None:
    story = claimed(quantity=2)
    report(story, claim_id="W-2")
    denied = story.tell("deny_claim", claim_id="W-1", reason="it is the right item")
    resolve(story, "refund", "W-2")

    outcomes = [
        resolve(story),
        story.tell("add_claim_evidence", claim_id="W-1", attachments=["item_picture"]),
        story.tell("record_claim_contact", claim_id="W-1"),
        story.tell("deny_claim", claim_id="W-2", reason="late thought"),
        resolve(story, "replacement", "W-2"),
    ]

    assert types(denied) == ["ClaimDenied"]
    assert [code(outcome) for outcome in outcomes] == ["transition.not_allowed"] * 5


def test_more_units_than_were_bought_cannot_be_claimed() -> None:
    story = Story()
    story.delivered()

    outcome = report(story, quantity=2)

    assert code(outcome) == "quantity.exceeded"


def test_the_report_weighs_every_clause() -> None:
    story = Story()
    story.delivered()

    outcome = report(story, "2026-03-09T12:00:00-04:00", attachments=["item_picture"])

    assert verdicts(outcome) == {
        "wrong_item.window": "pass",
        "wrong_item.by_email": "pass",
        "wrong_item.evidence": "not_applicable",
        "wrong_item.contact": "pass",
    }
    assert "order confirmation" in clause(outcome, "wrong_item.evidence")["because"]


def test_another_policy_keeps_the_shipping_and_calls_within_48_hours() -> None:
    book = policy_where(
        ("refunds_shipping_for_whole_order = true", "refunds_shipping_for_whole_order = false"),
        ("hours = 24", "hours = 48"),
    )
    story = Story(policy=book)
    story.delivered(shipping="20.00")
    report(story, "2026-03-09T12:00:00-04:00")
    resolve(story)

    assert story.ask("refund", claim_id="W-1")["total"] == "750.00"
    assert story.ask("claim", claim_id="W-1")["contact_by"] == "2026-03-11T12:00:00-04:00"


def test_a_merchant_without_the_evidence_clause_settles_at_once() -> None:
    story = Story(policy=without("wrong_item.evidence"))
    story.delivered()
    report(story, "2026-03-09T12:00:00-04:00", attachments=[])

    outcome = resolve(story)

    assert types(outcome) == ["ClaimResolved"]

"""``wrong_item.*``: the notice, the evidence, the promised contact, the remedy, and that no unit is paid twice."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from reading import last_reasons
from usual import a_delivered_order

from returnable.testing import (
    Scenario,
    Steps,
    a_claim,
    a_policy,
    a_return,
    add_claim_evidence,
    an_order,
    deny_claim,
    given,
    record_claim_contact,
    report_wrong_item,
    request_refund,
    request_return,
    resolve_claim,
    run_deadlines,
    withdraw_return,
)


def a_claimed_order(**order: Any) -> Steps:
    """A complete claim on the usual order, opened on Monday, 9 March 2026, at noon."""
    return a_delivered_order(**order) + a_claim(reported="2026-03-09 12:00")


def contacts(story: Scenario) -> list[tuple[str, bool]]:
    """The claims whose customers wait for a call, and whether it is overdue."""
    items = story.ask("worklist", kinds=["contact_customer"])["items"]
    assert all(item["subject"]["kind"] == "claim" for item in items)
    return [(item["subject"]["id"], item["overdue"]) for item in items]


@pytest.mark.parametrize(
    ("delivered_at", "report_before"),
    [
        pytest.param("2026-03-05 14:00", "2026-03-17T00:00:00-04:00", id="Thursday"),
        pytest.param("2026-03-07 14:00", "2026-03-18T00:00:00-04:00", id="Saturday"),
        pytest.param("2026-10-23 12:00", "2026-11-04T00:00:00-05:00", id="over the change to winter time"),
        pytest.param("2026-11-20 12:00", "2026-12-03T00:00:00-05:00", id="over Thanksgiving"),
        pytest.param("2021-12-22 12:00", "2022-01-05T00:00:00-05:00", id="Christmas and New Year as observed"),
    ],
)
def test_the_first_notice_must_come_by_the_end_of_the_seventh_business_day(
    delivered_at: str, report_before: str
) -> None:
    story = given(an_order(delivered=delivered_at)).just_before(report_before)

    (line,) = story.ask("eligibility/A-1")["lines"]
    story.when(report_wrong_item("C-1")).then("ClaimOpened")
    story.at(report_before).when(report_wrong_item("C-2")).then("ClaimOpened", "ClaimDenied")

    story.then_declined("wrong_item.window").then_clause("wrong_item.window", deadline=report_before)
    story.then_view("claim/C-2", status="denied")
    assert line["wrong_item"]["allowed"]
    assert line["wrong_item"]["report_before"] == report_before


def test_final_sale_items_are_covered_too() -> None:
    given(a_claimed_order(final_sale=True, account_id="acc-1")).then_view("claim/C-1", status="open")


def test_another_channel_is_declined_and_the_denied_claim_keeps_its_id() -> None:
    story = given(a_delivered_order())

    story.when(report_wrong_item(channel="portal")).then("ClaimOpened", "ClaimDenied")
    story.then_declined("wrong_item.by_email")

    story.when(report_wrong_item()).then_error("claim.exists")


def test_missing_evidence_is_no_reason_to_deny_and_keeps_the_first_notices_time() -> None:
    story = given(a_delivered_order()).at("2026-03-16 23:59:59").when(report_wrong_item(attachments=[]))
    story.then("ClaimOpened").then_accepted()

    for_want_of_it = story.at("2026-03-17 09:00").when(resolve_claim())
    for_want_of_it.then("ResolutionDeclined").then_declined("wrong_item.evidence")
    story.when(add_claim_evidence(attachments=["item_picture"])).then("EvidenceAdded")
    story.when(resolve_claim()).then("ResolutionDeclined")
    story.at("2026-04-20 09:00").when(add_claim_evidence(attachments=["order_confirmation"]))
    story.when(resolve_claim()).then("ClaimResolved")

    story.then_view("claim/C-1", reported_at="2026-03-16 23:59:59")


@pytest.mark.parametrize("shown", ["order_confirmation", "item_picture"])
def test_half_of_the_evidence_settles_nothing(shown: str) -> None:
    story = given(a_delivered_order(), a_claim(reported="2026-03-09 12:00", attachments=[shown]))

    story.when(resolve_claim()).then("ResolutionDeclined").then_declined("wrong_item.evidence")


@pytest.mark.parametrize(
    ("reported_at", "contact_by"),
    [
        ("2026-03-09 12:00", "2026-03-10T12:00:00-04:00"),
        ("2026-03-07 12:00", "2026-03-08T13:00:00-04:00"),
        ("2026-10-31 12:00", "2026-11-01T11:00:00-05:00"),
    ],
    ids=["plain", "over the short day", "over the long day"],
)
def test_the_contact_is_due_24_elapsed_hours_after_the_first_notice_inclusive(
    reported_at: str, contact_by: str
) -> None:
    the_day_before = datetime.fromisoformat(reported_at) - timedelta(days=1)
    story = given(
        an_order(delivered=the_day_before), a_claim(reported=reported_at, attachments=[]), add_claim_evidence()
    ).at(contact_by)

    assert story.ask("claim/C-1")["contact_by"] == contact_by
    assert contacts(story) == [("C-1", False)]
    story.then_view("claim/C-1", overdue=False)
    story.then_view("worklist", {"kinds": ["contact_customer"]}, items=[{"due_at": contact_by}])

    story.after(microseconds=1).then_view("claim/C-1", overdue=True)
    assert contacts(story) == [("C-1", True)]


def test_a_contact_ends_the_promise() -> None:
    story = given(a_claimed_order()).at("2026-03-10 12:00")

    story.when(record_claim_contact()).then("ClaimContacted")

    story.at("2026-03-11 12:00").then_view("claim/C-1", contacted_at="2026-03-10 12:00", overdue=False)
    assert contacts(story) == []


def test_a_contact_before_the_report_keeps_no_promise() -> None:
    told = record_claim_contact(contacted_at="2026-03-09 11:59:59")
    story = given(a_claimed_order()).at("2026-03-10 12:00:01").when(told).then("ClaimContacted", "ExceptionRaised")

    assert last_reasons(story) == [
        "the customer was contacted at 2026-03-09T15:59:59Z, before the wrong item was reported at 2026-03-09T16:00:00Z"
    ]
    story.then_view("claim/C-1", contacted_at=None, overdue=True)
    assert contacts(story) == [("C-1", True)]
    story.when(run_deadlines()).then("ContactMissed")
    assert (story.desk.redecide(), story.desk.verify().problems) == ((), ())

    story.when(told).then()
    story.when(record_claim_contact(contacted_at="2026-03-09 12:00")).then("ClaimContacted")
    story.then_view("claim/C-1", contacted_at="2026-03-09 12:00", overdue=False)


@pytest.mark.parametrize("remedy", ["refund", "both"])
def test_a_refund_pays_price_and_tax_of_the_unit_without_fee_and_for_a_whole_order_the_shipping(remedy: str) -> None:
    story = given(a_claimed_order(price="100.00", tax="8.88", shipping={"charged": "20.00", "tax": "1.78"}))

    story.when(resolve_claim(remedy=remedy)).then("ClaimResolved")
    story.then_view("refund", {"claim_id": "C-1"}, status="due", total="130.66", deductions=[])
    claim = {"subject": {"kind": "claim", "id": "C-1"}}
    story.then_view("worklist", {"kinds": ["request_refund"]}, items=[claim])
    story.when(request_refund(claim_id="C-1")).then("RefundRequested")

    story.then_view("refund/F-1", merchandise="100.00", tax="8.88", total="130.66")
    assert story.ask("audit/claim/C-1")["entries"][-1]["type"] == "RefundRequested"


def test_a_claim_for_a_part_of_the_order_leaves_the_shipping_with_the_merchant() -> None:
    story = given(a_claimed_order(price="100.00", quantity=2, shipping="20.00"), resolve_claim())

    story.then_view("refund", {"claim_id": "C-1"}, shipping="0.00", total="100.00")


def test_a_replacement_pays_nothing_and_cannot_be_returned_before_it_came() -> None:
    story = given(a_claimed_order(), resolve_claim(remedy="replacement"))

    story.when(request_refund(claim_id="C-1")).then_error("transition.not_allowed")
    story.then_view("claim/C-1", remedy="replacement")
    story.at("2026-03-10 12:00").when(request_return()).then_declined("returns.window")


def test_the_refund_of_an_open_claim_is_impossible() -> None:
    given(a_claimed_order()).when(request_refund(claim_id="C-1")).then_error("transition.not_allowed")


def test_an_open_claim_reserves_nothing_but_cannot_be_settled_once_the_unit_is_in_a_return() -> None:
    story = given(a_claimed_order()).at("2026-03-10 12:00").when(request_return()).then_accepted()

    story.when(resolve_claim(remedy="refund")).then_error("quantity.exceeded")
    story.when(resolve_claim(remedy="both")).then_error("quantity.exceeded")
    story.when(resolve_claim(remedy="replacement")).then_error("quantity.exceeded")


def test_a_refunded_return_bars_the_claims_refund_too() -> None:
    story = given(a_claimed_order(), a_return(refunded=True))

    story.when(resolve_claim()).then_error("quantity.exceeded")


def test_a_unit_settled_by_a_claim_cannot_be_returned() -> None:
    story = given(a_claimed_order(quantity=2), resolve_claim()).at("2026-03-10 12:00")

    story.when(request_return(2)).then_error("quantity.exceeded")
    story.when(request_return(1, return_id="R-2")).then_accepted()


def test_a_withdrawn_return_lets_the_claim_be_settled_by_refund() -> None:
    story = given(a_claimed_order(), request_return(at="2026-03-10 12:00"), withdraw_return())

    story.when(resolve_claim()).then("ClaimResolved")


def test_two_claims_on_one_unit_are_not_both_settled_by_refund() -> None:
    story = given(a_claimed_order(), report_wrong_item("C-2"), resolve_claim("C-1"))

    story.when(resolve_claim("C-2")).then_error("quantity.exceeded")


def test_a_denied_or_settled_claim_moves_no_more() -> None:
    story = given(a_claimed_order(quantity=2), report_wrong_item("C-2")).when(deny_claim("C-1")).then("ClaimDenied")
    story.given(resolve_claim("C-2"))

    for too_late in (
        resolve_claim("C-1"),
        add_claim_evidence("C-1", attachments=["item_picture"]),
        record_claim_contact("C-1"),
        deny_claim("C-2"),
        resolve_claim("C-2", "replacement"),
    ):
        story.when(too_late).then_error("transition.not_allowed")


def test_a_claim_for_more_units_than_were_bought_keeps_its_time_and_is_settled_for_those_that_were() -> None:
    story = given(a_delivered_order()).when(report_wrong_item(quantity=2)).then("ClaimOpened")

    story.when(resolve_claim()).then_error("quantity.exceeded")
    story.when(resolve_claim(quantity=1)).then("ClaimResolved")


def test_the_report_weighs_every_clause() -> None:
    story = given(a_delivered_order()).at("2026-03-09 12:00").when(report_wrong_item(attachments=["item_picture"]))

    story.then_verdicts(
        {
            "wrong_item.window": "pass",
            "wrong_item.by_email": "pass",
            "wrong_item.evidence": "not_applicable",
            "wrong_item.contact": "pass",
        }
    )
    story.then_clause("wrong_item.evidence", because="order confirmation")


def test_another_policy_keeps_the_shipping_and_calls_within_48_hours() -> None:
    policy = a_policy(
        {"wrong_item.remedy": {"refunds_shipping_for_whole_order": False}, "wrong_item.contact": {"hours": 48}}
    )

    story = given(a_claimed_order(shipping="20.00"), resolve_claim(), policy=policy)

    story.then_view("refund", {"claim_id": "C-1"}, total="750.00")
    story.then_view("claim/C-1", contact_by="2026-03-11 12:00")


def test_a_merchant_without_the_evidence_clause_settles_at_once() -> None:
    policy = a_policy({"wrong_item.evidence": {"applies": False}})
    story = given(a_delivered_order(), a_claim(reported="2026-03-09 12:00", attachments=[]), policy=policy)

    story.when(resolve_claim()).then("ClaimResolved")


def test_evidence_told_twice_is_recorded_once_and_told_later_again() -> None:
    story = given(a_delivered_order(), report_wrong_item(attachments=["item_picture"], at="2026-03-09 12:00"))
    shown = add_claim_evidence(attachments=["order_confirmation"])

    story.at("2026-03-09 13:00").when(shown).then("EvidenceAdded")
    story.when(shown).then()
    story.at("2026-03-09 14:00").when(shown).then("EvidenceAdded")

"""The wrong item of a claim comes back on the merchant's label: no fee, no clause in its way, the label has its deadline."""

from __future__ import annotations

import pytest
from usual import a_delivered_order

from returnable.testing import (
    Scenario,
    Step,
    Steps,
    a_claim,
    deny_claim,
    given,
    issue_label,
    receive_return,
    record_label_received,
    record_return_shipment,
    request_refund,
    resolve_claim,
    run_deadlines,
    void_label,
)


def a_settled_claim(remedy: str = "refund") -> Steps:
    """A final-sale order of 60.00, claimed on Monday, 9 March 2026, and settled."""
    claimed = a_delivered_order(price="60.00", final_sale=True) + a_claim(reported="2026-03-09 12:00")
    return claimed + resolve_claim(remedy=remedy, at="2026-03-09 13:00")


def a_labelled_claim(remedy: str = "refund") -> Steps:
    """The merchant's label was issued at 14:00; without a receipt it is void from Wednesday, 11 March, on."""
    return a_settled_claim(remedy) + issue_label(claim_id="C-1", at="2026-03-09 14:00")


def label(story: Scenario) -> dict[str, str]:
    """The last label of the claim, as the view shows it."""
    shown: dict[str, str] = story.ask("claim/C-1")["labels"][-1]
    return shown


@pytest.mark.parametrize("remedy", ["refund", "replacement", "both"])
def test_the_wrong_item_comes_back_on_the_merchants_label(remedy: str) -> None:
    story = given(a_labelled_claim(remedy)).at("2026-03-10 09:00")

    assert (label(story)["status"], label(story)["void_at"]) == ("issued", "2026-03-12T00:00:00-04:00")
    story.when(record_label_received(claim_id="C-1")).then("LabelReceived")
    assert label(story)["void_at"] == "2026-03-13T00:00:00-04:00"
    story.at("2026-03-12 09:00").when(record_return_shipment(claim_id="C-1")).then("ReturnShipped")
    story.at("2026-03-13 09:00").when(receive_return(claim_id="C-1")).then("Received")
    story.then_view(
        "claim/C-1", status="resolved", shipped_at="2026-03-12T09:00:00-04:00", received_at="2026-03-13T09:00:00-04:00"
    )
    assert label(story)["status"] == "used"


def test_the_customer_pays_no_fee_for_the_merchants_label() -> None:
    story = given(a_labelled_claim(), record_return_shipment(claim_id="C-1"), receive_return(claim_id="C-1"))

    story.when(request_refund(claim_id="C-1")).then("RefundRequested").then_view("refund/F-1", total="60.00")


def test_the_merchants_label_voids_at_its_own_deadline_and_another_may_be_issued() -> None:
    story = given(a_labelled_claim()).at("2026-03-12 00:00")

    assert label(story)["status"] == "void"
    story.given(run_deadlines())
    assert story.ask("audit/claim/C-1")["entries"][-1]["type"] == "LabelVoided"
    story.when(issue_label("L-2", claim_id="C-1")).then("LabelIssued")
    assert label(story)["status"] == "issued"


def test_a_wrong_item_that_was_handed_over_late_is_taken_in_all_the_same() -> None:
    story = given(a_labelled_claim()).at("2026-03-20 09:00").when(record_return_shipment(claim_id="C-1"))

    story.then("ReturnShipped")
    (clause, *_) = story.tell(receive_return(claim_id="C-1"))["ruling"]["clauses"]
    assert (clause["clause"], clause["verdict"]) == ("returns.ship_by", "not_applicable")
    assert clause["because"] == "The wrong item comes back at the merchant's cost; no clause bars it."


def test_a_wrong_item_comes_without_a_label_and_before_the_claim_is_settled() -> None:
    story = given(a_delivered_order(), a_claim(reported="2026-03-09 12:00"), issue_label(claim_id="C-1"))

    story.when(receive_return(claim_id="C-1")).then("Received")
    story.when(deny_claim()).then("ClaimDenied")
    story.then_view("claim/C-1", status="denied")


def test_the_label_of_a_claim_is_voided_by_hand() -> None:
    story = given(a_labelled_claim()).when(void_label(claim_id="C-1")).then("LabelVoided")

    story.when(void_label(claim_id="C-1")).then_error("transition.not_allowed")
    story.when(issue_label("L-2", claim_id="C-1")).then("LabelIssued")
    story.when(issue_label("L-3", claim_id="C-1")).then_error("transition.not_allowed")


def test_no_label_is_issued_for_a_denied_claim_but_what_comes_is_recorded() -> None:
    story = given(a_delivered_order(), a_claim(reported="2026-03-09 12:00"), deny_claim())

    error = story.tell(issue_label(claim_id="C-1"))["error"]
    assert (error["code"], error["state"]) == ("transition.not_allowed", "denied")
    assert error["allowed"] == ["record_return_shipment", "receive_return"]
    story.when(record_return_shipment(None, claim_id="C-1")).then_accepted()
    story.when(receive_return(claim_id="C-1")).then_accepted()


@pytest.mark.parametrize("step", [issue_label(), record_label_received(), void_label(), receive_return()])
def test_exactly_one_of_return_and_claim_is_named(step: Step) -> None:
    story = given(a_labelled_claim())

    fields = {name: value for name, value in step.arguments.items() if name != "return_id"}
    for named in ({}, {"return_id": "R-1", "claim_id": "C-1"}):
        error = story.tell(step.command, **fields, **named)["error"]
        assert (error["code"], error["field"]) == ("command.invalid", "return_id")


def test_an_unknown_claim_has_no_label() -> None:
    given(a_labelled_claim()).when(issue_label(claim_id="C-9")).then_error("claim.unknown")

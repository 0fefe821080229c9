"""The views: every key the contract names, instants in the policy's zone, and reasons a person can read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from reading import clause, failed, types
from usual import a_delivered_order, a_labelled_return, an_authorized_return

from returnable.testing import (
    Scenario,
    a_policy,
    a_return,
    an_order,
    given,
    inspect_return,
    issue_label,
    override,
    receive_return,
    record_delivery,
    record_refund_result,
    record_return_shipment,
    record_send_back,
    record_shipment,
    report_wrong_item,
    request_cancellation,
    request_refund,
    request_return,
    resolve_claim,
    run_deadlines,
    withdraw_return,
)

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


def instants(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from instants(one)
    elif isinstance(value, list):
        for one in value:
            yield from instants(one)
    elif isinstance(value, str) and INSTANT.fullmatch(value):
        yield value


def a_full_life() -> tuple[Scenario, list[dict]]:
    """An order of two units: one returned and refunded, one claimed; and every outcome on the way."""
    story = given(
        a_delivered_order(price="300.00", quantity=2, tax="1.01", shipping={"charged": "20.00", "tax": "1.78"})
    )
    care = {"role": "care", "id": "kim"}
    evidence = override("wrong_item.evidence", "claim/W-1", reason="seen on a call", approved_by="kim", actor=care)
    happens = [
        request_cancellation(at="2026-03-06 04:00"),
        request_return(at="2026-03-09 12:00"),
        issue_label(carrier="ups", tracking_number="RT", at="2026-03-09 12:30"),
        record_return_shipment(proof="carrier_scan", at="2026-03-10 16:00"),
        receive_return(at="2026-03-13 11:00"),
        inspect_return(at="2026-03-16 10:00"),
        report_wrong_item("W-1", attachments=[]),
        resolve_claim("W-1", actor=care, at="2026-03-16 10:01"),
        evidence.at("2026-03-16 10:02"),
        resolve_claim("W-1", actor=care, at="2026-03-16 10:03"),
        request_refund(at="2026-03-16 10:05"),
        request_refund("F-2", claim_id="W-1"),
        record_refund_result(at="2026-03-18 09:00"),
    ]
    outcomes = [story.tell(step) for step in happens]
    assert "error" not in {outcome["outcome"] for outcome in outcomes}, outcomes
    return story, outcomes


QUESTIONS: list[tuple[str, dict]] = [
    ("order", {"order_id": "A-1"}),
    ("return", {"return_id": "R-1"}),
    ("refund", {"refund_id": "F-1"}),
    ("claim", {"claim_id": "W-1"}),
    ("eligibility", {"order_id": "A-1"}),
    ("worklist", {}),
    ("audit", {"stream": "order/A-1"}),
    ("audit", {"stream": "return/R-1"}),
    ("audit", {"stream": "claim/W-1"}),
]


def test_every_instant_in_outcomes_and_views_carries_the_offset_of_the_policys_zone() -> None:
    story, outcomes = a_full_life()
    answers = [story.ask(query, **fields) for query, fields in QUESTIONS]

    seen = list(instants(outcomes)) + list(instants(answers))

    summer = "2026-03-08T03:00:00-04:00"
    assert len(seen) > 100
    assert [one for one in seen if not one.endswith("-04:00" if one >= summer else "-05:00")] == []


def test_the_reasons_are_sentences_without_the_tongue_of_machines() -> None:
    story, outcomes = a_full_life()
    rulings = [outcome["ruling"]["clauses"] for outcome in outcomes if outcome["ruling"]]
    (line,) = story.ask("eligibility/A-1")["lines"]

    reasons = [finding["because"] for ruling in [*rulings, line["return"]["clauses"]] for finding in ruling]
    reasons = [reason for reason in reasons if "order_copy" not in reason]  # see the expected failures below

    assert len(reasons) > 30
    for reason in reasons:
        assert re.fullmatch(r"[A-Z0-9].*\.", reason), reason
        assert not re.search(r"[{}\[\]_]|None|True|False|\b1 (units|days)\b|\d+\.\d{3}", reason), reason


def test_a_complete_mail_is_described_in_words() -> None:
    story = given(an_order())

    outcome = story.tell(request_cancellation())

    assert "_" not in clause(outcome, "cancellation.by_email")["because"]


def test_a_final_sale_line_that_is_not_asked_for_is_not_denied() -> None:
    lines = [
        {"line_id": name, "sku": name, "unit_price": "600.00", "quantity": 1, "final_sale": name == "bag"}
        for name in ("bag", "belt")
    ]
    story = given(a_delivered_order(lines=lines))

    outcome = story.tell(request_return({"belt": 1}))

    assert "No line was marked as final sale" not in clause(outcome, "returns.final_sale")["because"]


def test_a_claim_that_is_not_settled_is_not_called_settled() -> None:
    story = given(a_delivered_order(), report_wrong_item("W-1", attachments=[]))

    outcome = story.tell(resolve_claim("W-1"))

    assert "is settled" not in clause(outcome, "wrong_item.remedy")["because"]


def test_a_clause_the_merchant_does_not_have_demands_nothing() -> None:
    story = Scenario(policy=a_policy({"returns.portal": {"applies": False}})).given(a_delivered_order())

    outcome = story.tell(request_return(channel="phone"))

    assert "must" not in clause(outcome, "returns.portal")["because"]


def test_a_delivered_order_is_not_told_to_wait_for_its_delivery() -> None:
    story = given(a_delivered_order())

    outcome = story.tell(request_cancellation())

    assert "once it is delivered" not in clause(outcome, "cancellation.not_shipped")["because"]


def test_reasons_state_the_right_numbers() -> None:
    _, outcomes = a_full_life()
    by_command = {outcome["command"]: outcome for outcome in outcomes}

    window = clause(outcomes[0], "cancellation.window")
    fee = clause(next(o for o in outcomes if o["command"] == "request_refund"), "returns.label_fee")
    docked = clause(by_command["receive_return"], "returns.ship_by")

    assert "2026-03-02 12:00 EST" in window["because"]
    assert "3 days 16 h late" in window["because"]
    assert "20.00" in fee["because"]
    assert "1 day 8 h left" in docked["because"]
    assert docked["facts"]["margin_seconds"] == 32 * 3600
    assert docked["facts"]["deadline"] == "2026-03-12T00:00:00-04:00"


def test_the_order_view_says_what_was_bought_and_where_it_is() -> None:
    story, _ = a_full_life()

    order = story.ask("order/A-1")

    assert order["lines"] == [
        {
            "line_id": "1",
            "sku": "SKU-1",
            "unit_price": "300.00",
            "quantity": 2,
            "cancelled": 0,
            "final_sale": False,
            "delivered": 2,
            "returning": 0,
            "returned": 1,
            "return_before": "2026-03-20T00:00:00-04:00",
        }
    ]
    assert (order["status"], order["returns"], order["claims"]) == ("delivered", ["R-1"], ["W-1"])
    assert order["policy"] == {"id": "allu-usa", "version": "2026-01"}
    assert order["cancel_by"] == "2026-03-02T12:00:00-05:00"
    (parcel,) = order["parcels"]
    assert (parcel["parcel_id"], parcel["delivered_at"]) == ("P-1", "2026-03-05T14:00:00-05:00")


@pytest.mark.parametrize(
    ("step", "returning", "returned"),
    [("requested", 2, 0), ("inspected", 2, 0), ("sent back", 1, 0), ("refunded", 0, 1), ("withdrawn", 0, 0)],
)
def test_units_are_returning_until_they_are_refunded_or_sent_back(step: str, returning: int, returned: int) -> None:
    story = given(a_delivered_order(quantity=3)).at("2026-03-09 12:00")
    if step in ("requested", "withdrawn"):
        story.given(request_return(2))
    else:
        story.given(a_return(units=2, inspected=True, rejected={"1": 1}))
    if step == "withdrawn":
        story.given(withdraw_return())
    if step in ("sent back", "refunded"):
        story.given(record_send_back())
    if step == "refunded":
        story.given(request_refund(), record_refund_result())

    (line,) = story.ask("order/A-1")["lines"]

    assert (line["returning"], line["returned"]) == (returning, returned)


def test_the_return_view_follows_its_life() -> None:
    story, _ = a_full_life()

    answer = story.ask("return/R-1")

    assert {key: answer[key] for key in answer if key != "requested_at"} == {
        "return_id": "R-1",
        "order_id": "A-1",
        "status": "refunded",
        "lines": [{"line_id": "1", "quantity": 1, "accepted": 1, "rejected": 0}],
        "labels": [
            {
                "label_id": "L-1",
                "status": "used",
                "tracking_number": "RT",
                "received_at": None,
                "void_at": "2026-03-12T00:00:00-04:00",
            }
        ],
        "shipped_at": "2026-03-10T16:00:00-04:00",
        "late": False,
        "received_at": "2026-03-13T11:00:00-04:00",
        "inspected_at": "2026-03-16T10:00:00-04:00",
        "refund_id": "F-1",
        "disposed": [],
    }


def test_the_refund_view_adds_up() -> None:
    story, _ = a_full_life()

    first, second = story.ask("refund/F-1"), story.ask("refund", claim_id="W-1")

    assert (first["merchandise"], first["tax"], first["shipping"], first["total"]) == (
        "300.00",
        "0.51",
        "0.00",
        "280.51",
    )
    assert (second["refund_id"], second["tax"], second["total"]) == ("F-2", "0.50", "300.50")
    assert first["for"] == {"kind": "return", "id": "R-1"}
    assert first["expected_between"] == ["2026-03-30", "2026-04-06"]
    assert [(one["status"], one["amount"]) for one in first["tenders"]] == [("settled", "280.51")]


def test_the_audit_tells_each_fact_with_the_state_before_and_after() -> None:
    story, _ = a_full_life()

    entries = story.ask("audit/claim/W-1")["entries"]

    assert [(one["version"], one["type"], one["before"], one["after"]) for one in entries] == [
        (1, "ClaimOpened", None, "open"),
        (2, "ResolutionDeclined", "open", "open"),
        (3, "OverrideGranted", "open", "open"),
        (4, "ClaimResolved", "open", "resolved"),
        (5, "RefundRequested", "resolved", "resolved"),
    ]
    assert entries[3]["actor"] == {"role": "care", "id": "kim"}
    assert entries[0]["actor"] is None
    assert [one["clause"] for one in entries[1]["clauses"]] == ["wrong_item.evidence", "wrong_item.remedy"]


def test_eligibility_gives_the_rulings_of_the_commands_and_records_nothing() -> None:
    story = given(a_delivered_order(final_sale=True)).at("2026-03-20")

    answer = story.ask("eligibility/A-1")
    entries = story.ask("audit/order/A-1")["entries"]
    outcome = story.tell(request_return())

    (line,) = answer["lines"]
    assert answer["cancellation"]["allowed"] is False
    assert line["return"]["allowed"] is False
    expected, decided = line["return"]["clauses"], outcome["ruling"]["clauses"]
    assert [one | {"because": ""} for one in expected] == [one | {"because": ""} for one in decided]
    window = [
        next(one["because"] for one in clauses if one["clause"] == "returns.window") for clauses in (expected, decided)
    ]
    assert [one.partition(" at ")[0] for one in window] == ["For a request", "Requested"]
    assert failed(outcome) == ["returns.final_sale", "returns.window"]
    assert line["wrong_item"]["allowed"] is False
    assert line["wrong_item"]["report_before"] == "2026-03-17T00:00:00-04:00"
    assert [one["type"] for one in entries] == ["Confirmed", "Shipped", "Delivered"]


def test_before_the_delivery_neither_window_has_an_end() -> None:
    story = given(an_order())

    (line,) = story.ask("eligibility/A-1")["lines"]

    assert (line["return"]["allowed"], line["return"]["return_before"]) == (False, None)
    assert (line["wrong_item"]["allowed"], line["wrong_item"]["report_before"]) == (False, None)


def test_eligibility_says_no_untrue_reason_for_units_that_are_taken() -> None:
    story = given(an_authorized_return())

    (line,) = story.ask("eligibility/A-1")["lines"]

    assert line["return"]["allowed"] is False
    assert "delivery on record" not in clause(line["return"], "returns.window")["because"]


def test_the_worklist_names_what_waits_and_nothing_else() -> None:
    story = given(a_labelled_return(quantity=2, units=2))
    kinds: list[list[str]] = []

    def look() -> None:
        kinds.append([item["kind"] for item in story.ask("worklist")["items"]])

    look()
    story.given(record_return_shipment(at="2026-03-10 16:00"))
    look()
    story.given(receive_return())
    look()
    story.given(inspect_return(1, rejected=1))
    look()
    story.given(request_refund())
    look()
    story.given(record_send_back())
    look()

    assert kinds == [["void_label"], [], ["inspect"], ["request_refund", "send_back"], ["send_back"], []]


def test_the_worklist_can_be_asked_for_some_kinds() -> None:
    story = given(a_labelled_return())

    some = story.ask("worklist", kinds=["inspect", "void_label"])["items"]
    none = story.ask("worklist", kinds=["inspect"])["items"]

    assert [(item["kind"], item["due_at"], item["overdue"]) for item in some] == [
        ("void_label", "2026-03-12T00:00:00-04:00", False)
    ]
    assert none == []


@pytest.mark.parametrize("left_out", ["no account", "return before delivery", "claim before delivery"])
def test_every_history_can_be_read_again(left_out: str) -> None:
    story = given(an_order(account_id=None if left_out == "no account" else "acc-1"))
    if left_out == "return before delivery":
        assert types(story.tell(request_return())) == ["ReturnRequested", "ReturnDeclined"]
    if left_out == "claim before delivery":
        told = story.tell(report_wrong_item("W-1", attachments=[]))
        assert types(told) == ["ClaimOpened", "ClaimDenied"]
    story.given(record_shipment())

    order = story.ask("order/A-1")
    work = story.ask("worklist")
    deadlines = story.tell(run_deadlines())

    assert order["status"] == "shipped"
    assert work == {"items": []}
    assert deadlines["outcome"] == "accepted"


def test_another_policys_zone_counts_the_days_and_shows_the_instants() -> None:
    story = Scenario(policy=a_policy(zone="Asia/Tokyo")).given(a_delivered_order(delivered="2026-03-05T14:00:00-05:00"))

    order = story.ask("order/A-1")

    assert order["parcels"][0]["delivered_at"] == "2026-03-06T04:00:00+09:00"
    assert order["lines"][0]["return_before"] == "2026-03-21T00:00:00+09:00"


@pytest.mark.parametrize(
    ("confirmed_at", "version", "days"),
    [("2026-03-02T23:59:59-05:00", "2026-01", 14), ("2026-03-03T00:00:00-05:00", "2026-02", 30)],
    ids=["the second before", "the first second of the day"],
)
def test_the_version_in_force_at_the_confirmation_is_pinned_to_the_order_and_its_returns(
    confirmed_at: str, version: str, days: int
) -> None:
    later = a_policy({"returns.window": {"days": 30}}, version="2026-02", effective="2026-03-03")
    story = Scenario(policy=[a_policy(), later]).given(
        an_order(confirmed=confirmed_at), record_shipment(at="2026-03-05 14:00"), record_delivery()
    )

    outcome = story.tell(request_return(at="2026-04-04 23:59:59"))

    assert story.ask("order/A-1")["policy"]["version"] == version
    assert outcome["ruling"]["policy"]["version"] == version
    assert failed(outcome) == ([] if days == 30 else ["returns.window"])

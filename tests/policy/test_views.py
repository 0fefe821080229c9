"""The views: every key the contract names, instants in the policy's zone, and reasons a person can read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from kit import Story, ask_return, brought_back, clause, failed, policy_where, ship, types, without

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


def a_full_life() -> tuple[Story, list[dict]]:
    """An order of two units: one returned and refunded, one claimed; and every outcome on the way."""
    story = Story()
    outcomes: list[dict] = []

    def tell(command: str, at: str, **fields: Any) -> None:
        outcome = story.tell(command, at, **fields)
        assert outcome["outcome"] != "error", outcome
        outcomes.append(outcome)

    story.delivered(price="300.00", quantity=2, tax="1.01", shipping={"charged": "20.00", "tax": "1.78"})
    unit = [{"line_id": "1", "quantity": 1}]
    care = {"role": "care", "id": "kim"}
    tell("request_cancellation", "2026-03-06T09:00:00Z", order_id="A-1", channel="email", order_copy=True)
    tell("request_return", "2026-03-09T16:00:00Z", return_id="R-1", order_id="A-1", lines=unit, channel="portal")
    tell("issue_label", "2026-03-09T16:30:00Z", return_id="R-1", label_id="L-1", carrier="ups", tracking_number="RT")
    tell("record_return_shipment", "2026-03-10T20:00:00Z", return_id="R-1", label_id="L-1", proof="carrier_scan")
    tell("receive_return", "2026-03-13T15:00:00Z", return_id="R-1")
    good = {"same_condition": True, "original_packaging": True, "tags_attached": True}
    tell("inspect_return", "2026-03-16T14:00:00Z", return_id="R-1", findings=[unit[0] | good])
    tell("report_wrong_item", "2026-03-16T14:00:00Z", claim_id="W-1", order_id="A-1", line_id="1", channel="email")
    tell("resolve_claim", "2026-03-16T14:01:00Z", claim_id="W-1", remedy="refund", actor=care)
    tell("override", "2026-03-16T14:02:00Z", subject={"kind": "claim", "id": "W-1"}, clause="wrong_item.evidence",
         reason="seen on a call", approved_by="kim", actor=care)  # fmt: skip
    tell("resolve_claim", "2026-03-16T14:03:00Z", claim_id="W-1", remedy="refund", actor=care)
    tell("request_refund", "2026-03-16T14:05:00Z", refund_id="F-1", return_id="R-1")
    tell("request_refund", "2026-03-16T14:05:00Z", refund_id="F-2", claim_id="W-1")
    tell("record_refund_result", "2026-03-18T13:00:00Z", refund_id="F-1", payment_id="p-1", result="succeeded")
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
    (line,) = story.ask("eligibility", order_id="A-1")["lines"]

    reasons = [finding["because"] for ruling in [*rulings, line["return"]["clauses"]] for finding in ruling]
    reasons = [reason for reason in reasons if "order_copy" not in reason]  # see the expected failures below

    assert len(reasons) > 30
    for reason in reasons:
        assert re.fullmatch(r"[A-Z0-9].*\.", reason), reason
        assert not re.search(r"[{}\[\]_]|None|True|False|\b1 (units|days)\b|\d+\.\d{3}", reason), reason


def test_a_complete_mail_is_described_in_words() -> None:
    story = Story()
    story.confirmed()

    outcome = story.tell("request_cancellation", order_id="A-1", channel="email", order_copy=True)

    assert "_" not in clause(outcome, "cancellation.by_email")["because"]


def test_a_final_sale_line_that_is_not_asked_for_is_not_denied() -> None:
    story = Story()
    lines = [
        {"line_id": name, "sku": name, "unit_price": "600.00", "quantity": 1, "final_sale": name == "bag"}
        for name in ("bag", "belt")
    ]
    story.delivered(lines=lines)

    outcome = ask_return(story, story.at, {"belt": 1})

    assert "No line was marked as final sale" not in clause(outcome, "returns.final_sale")["because"]


def test_a_claim_that_is_not_settled_is_not_called_settled() -> None:
    story = Story()
    story.delivered()
    story.tell("report_wrong_item", claim_id="W-1", order_id="A-1", line_id="1", channel="email")

    outcome = story.tell("resolve_claim", claim_id="W-1", remedy="refund")

    assert "is settled" not in clause(outcome, "wrong_item.remedy")["because"]


def test_a_clause_the_merchant_does_not_have_demands_nothing() -> None:
    story = Story(policy=without("returns.portal"))
    story.delivered()

    outcome = ask_return(story, story.at, channel="phone")

    assert "must" not in clause(outcome, "returns.portal")["because"]


def test_a_delivered_order_is_not_told_to_wait_for_its_delivery() -> None:
    story = Story()
    story.delivered()

    outcome = story.tell("request_cancellation", order_id="A-1", channel="email", order_copy=True)

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

    order = story.ask("order", order_id="A-1")

    assert order["lines"] == [
        {
            "line_id": "1",
            "sku": "SKU-1",
            "unit_price": "300.00",
            "quantity": 2,
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
    story = Story()
    story.delivered(quantity=3)
    story.at = "2026-03-09T12:00:00-04:00"
    if step in ("requested", "withdrawn"):
        ask_return(story, story.at, 2)
    else:
        brought_back(story, {"1": 2}, **{"1": 1})
    if step == "withdrawn":
        story.tell("withdraw_return", return_id="R-1")
    if step in ("sent back", "refunded"):
        story.tell("record_send_back", return_id="R-1", lines=[{"line_id": "1", "quantity": 1}])
    if step == "refunded":
        story.tell("request_refund", refund_id="F-1", return_id="R-1")
        story.tell("record_refund_result", refund_id="F-1", payment_id="p-1", result="succeeded")

    (line,) = story.ask("order", order_id="A-1")["lines"]

    assert (line["returning"], line["returned"]) == (returning, returned)


def test_the_return_view_follows_its_life() -> None:
    story, _ = a_full_life()

    answer = story.ask("return", return_id="R-1")

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
    }


def test_the_refund_view_adds_up() -> None:
    story, _ = a_full_life()

    first, second = story.ask("refund", refund_id="F-1"), story.ask("refund", claim_id="W-1")

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

    entries = story.ask("audit", stream="claim/W-1")["entries"]

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
    story = Story()
    story.delivered(final_sale=True, account_id="acc-1")
    at = "2026-03-20T00:00:00-04:00"

    answer = story.ask("eligibility", at, order_id="A-1")
    entries = story.ask("audit", stream="order/A-1")["entries"]
    outcome = ask_return(story, at)

    (line,) = answer["lines"]
    assert answer["cancellation"]["allowed"] is False
    assert line["return"]["allowed"] is False
    assert line["return"]["clauses"] == outcome["ruling"]["clauses"]
    assert failed(outcome) == ["returns.final_sale", "returns.window"]
    assert line["wrong_item"]["allowed"] is False
    assert line["wrong_item"]["report_before"] == "2026-03-17T00:00:00-04:00"
    assert [one["type"] for one in entries] == ["Confirmed", "Shipped", "Delivered"]


def test_before_the_delivery_neither_window_has_an_end() -> None:
    story = Story()
    story.confirmed()

    (line,) = story.ask("eligibility", order_id="A-1")["lines"]

    assert (line["return"]["allowed"], line["return"]["return_before"]) == (False, None)
    assert (line["wrong_item"]["allowed"], line["wrong_item"]["report_before"]) == (False, None)


def test_eligibility_says_no_untrue_reason_for_units_that_are_taken() -> None:
    story = Story()
    story.authorized()

    (line,) = story.ask("eligibility", order_id="A-1")["lines"]

    assert line["return"]["allowed"] is False
    assert "delivery on record" not in clause(line["return"], "returns.window")["because"]


def test_the_worklist_names_what_waits_and_nothing_else() -> None:
    story = Story()
    story.labelled(quantity=2, return_quantity=2)
    kinds: list[list[str]] = []

    def look() -> None:
        kinds.append([item["kind"] for item in story.ask("worklist")["items"]])

    look()
    story.tell("record_return_shipment", "2026-03-10T16:00:00-04:00", return_id="R-1", label_id="L-1")
    look()
    story.tell("receive_return", return_id="R-1")
    look()
    good = {"line_id": "1", "quantity": 1, "same_condition": True, "original_packaging": True, "tags_attached": True}
    story.tell("inspect_return", return_id="R-1", findings=[good, good | {"tags_attached": False}])
    look()
    story.tell("request_refund", refund_id="F-1", return_id="R-1")
    look()
    story.tell("record_send_back", return_id="R-1", lines=[{"line_id": "1", "quantity": 1}])
    look()

    assert kinds == [["void_label"], [], ["inspect"], ["request_refund", "send_back"], ["send_back"], []]


def test_the_worklist_can_be_asked_for_some_kinds() -> None:
    story = Story()
    story.labelled()

    some = story.ask("worklist", kinds=["inspect", "void_label"])["items"]
    none = story.ask("worklist", kinds=["inspect"])["items"]

    assert [(item["kind"], item["due_at"], item["overdue"]) for item in some] == [
        ("void_label", "2026-03-12T00:00:00-04:00", False)
    ]
    assert none == []


@pytest.mark.parametrize("left_out", ["no account", "return before delivery", "claim before delivery"])
def test_every_history_can_be_read_again(left_out: str) -> None:
    story = Story()
    story.confirmed(account_id=None if left_out == "no account" else "acc-1")
    if left_out == "return before delivery":
        assert types(ask_return(story, story.at)) == ["ReturnRequested", "ReturnDeclined"]
    if left_out == "claim before delivery":
        told = story.tell("report_wrong_item", claim_id="W-1", order_id="A-1", line_id="1", channel="email")
        assert types(told) == ["ClaimOpened", "ClaimDenied"]
    ship(story, "P-1", story.at)

    order = story.ask("order", order_id="A-1")
    work = story.ask("worklist")
    deadlines = story.tell("run_deadlines")

    assert order["status"] == "shipped"
    assert work == {"items": []}
    assert deadlines["outcome"] == "accepted"


def test_another_policys_zone_counts_the_days_and_shows_the_instants() -> None:
    story = Story(policy=policy_where(('zone = "America/New_York"', 'zone = "Asia/Tokyo"')))
    story.delivered()

    order = story.ask("order", order_id="A-1")

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
    from returnable.domain.policy import PolicyBook

    later = policy_where(
        ('version = "2026-01"', 'version = "2026-02"'),
        ("effective = 2000-01-01", "effective = 2026-03-03"),
        ("days = 14\n", "days = 30\n"),
    )
    story = Story(policy=PolicyBook([*policy_where().versions, *later.versions]))
    story.confirmed(at=confirmed_at)
    ship(story, "P-1", "2026-03-05T14:00:00-05:00")
    story.tell("record_delivery", order_id="A-1", parcel_id="P-1")

    outcome = ask_return(story, "2026-04-04T23:59:59-04:00")

    assert story.ask("order", order_id="A-1")["policy"]["version"] == version
    assert outcome["ruling"]["policy"]["version"] == version
    assert failed(outcome) == ([] if days == 30 else ["returns.window"])

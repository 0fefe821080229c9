"""Overrides: who, why and which clause are on record, and the ruling cites them instead of hiding them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from usual import a_delivered_order, a_labelled_return, an_authorized_return, an_inspected_return

from returnable.adapters.report.html import report_html
from returnable.adapters.report.text import report_text
from returnable.domain.events import (
    Cancelled,
    ClaimOpened,
    ClaimResolved,
    Event,
    Inspected,
    LabelIssued,
    Received,
    RefundRequested,
    ReturnAuthorized,
)
from returnable.domain.overrides import FAILS_BY
from returnable.domain.policy import PolicyBook, bundled_policies
from returnable.projections.edges import edges_view
from returnable.projections.redecided import redecide
from returnable.projections.report.build import make_report
from returnable.projections.report.model import Report
from returnable.projections.subjects import find_subject
from returnable.testing import (
    Scenario,
    Step,
    a_claim,
    a_return,
    an_order,
    declined,
    event,
    finding,
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
    report_return_lost,
    report_wrong_item,
    request_cancellation,
    request_refund,
    request_return,
    resolve_claim,
    step,
    withdraw_return,
)


def set_aside(clause: str, subject: str = "order/A-1") -> Step:
    """Kim sets a clause aside, out of goodwill."""
    return override(clause, subject, reason="goodwill", approved_by="kim")


def test_an_override_is_on_record_in_the_stream_of_its_subject() -> None:
    story = given(a_delivered_order()).when(set_aside("returns.window"))

    story.then(event("OverrideGranted", clause="returns.window", reason="goodwill", approved_by="kim"))
    assert story.ask("audit/order/A-1")["entries"][-1]["type"] == "OverrideGranted"


def test_an_override_of_a_clause_nobody_knows_is_malformed() -> None:
    given(a_delivered_order()).when(set_aside("returns.mood")).then_error("command.invalid", "clause")


@pytest.mark.parametrize(
    ("clause", "request_", "order"),
    [
        ("returns.window", request_return(at="2026-04-20 12:00"), {}),
        ("returns.final_sale", request_return(), {"final_sale": True}),
        ("returns.account", request_return(), {"account_id": None}),
        ("returns.portal", request_return(channel="phone"), {}),
        ("returns.no_exchanges", request_return(resolution="exchange"), {}),
    ],
)
def test_a_return_clause_set_aside_for_the_order_lets_the_request_pass(
    clause: str, request_: Step, order: dict[str, object]
) -> None:
    story = given(a_delivered_order(**order)).at("2026-03-09 12:00").when(request_).then_declined(clause)
    story.given(set_aside(clause))

    story.when(step(**(request_.fields | {"return_id": "R-2"})))

    story.then("ReturnRequested", "ReturnAuthorized")
    story.then_clause(clause, "overridden", because="kim", override={"approved_by": "kim", "reason": "goodwill"})
    story.then_clause(clause, because="goodwill")


@pytest.mark.parametrize(
    ("clause", "request_", "shipped"),
    [
        ("cancellation.window", request_cancellation(at="2026-03-02 12:00:01"), None),
        ("cancellation.not_shipped", request_cancellation(), "2026-03-02 10:30"),
        ("cancellation.by_email", request_cancellation(channel="phone"), None),
    ],
)
def test_a_cancellation_clause_set_aside_lets_the_request_pass(
    clause: str, request_: Step, shipped: str | None
) -> None:
    story = given(an_order(confirmed="2026-03-02 10:00", shipped=shipped)).at("2026-03-02 11:00")
    story.when(request_).then_declined(clause).given(set_aside(clause))

    story.when(request_)

    story.then("CancellationRequested", "Cancelled").then_clause(clause, "overridden")
    story.then_view("order/A-1", status="cancelled")


@pytest.mark.parametrize(
    ("clause", "at", "channel"),
    [("wrong_item.window", "2026-03-17", "email"), ("wrong_item.by_email", "2026-03-09 12:00", "phone")],
)
def test_a_claim_clause_set_aside_for_the_order_lets_the_report_pass(clause: str, at: str, channel: str) -> None:
    story = given(a_delivered_order()).at(at).when(report_wrong_item("C-1", channel=channel)).then_declined(clause)
    story.given(set_aside(clause))

    story.when(report_wrong_item("C-2", channel=channel)).then("ClaimOpened").then_clause(clause, "overridden")


def test_evidence_set_aside_for_the_claim_settles_it() -> None:
    story = given(a_delivered_order(), a_claim("C-1", attachments=[]), a_claim("C-2", attachments=[]))
    story.given(set_aside("wrong_item.evidence", "claim/C-1"))

    story.when(resolve_claim("C-1", "replacement")).then("ClaimResolved")
    story.then_clause("wrong_item.evidence", "overridden")

    story.when(resolve_claim("C-2", "replacement")).then_declined("wrong_item.evidence")


def test_an_override_for_one_return_does_not_touch_another() -> None:
    story = given(
        a_labelled_return(quantity=2),
        request_return(return_id="R-2", at="2026-03-09 13:00"),
        issue_label(return_id="R-2"),
        set_aside("returns.ship_by", "return/R-1"),
    ).at("2026-03-12")

    story.when(receive_return("R-1")).then("Received").then_clause("returns.ship_by", "overridden")
    story.when(receive_return("R-2")).then("ParcelRejected")

    story.then_view("return/R-1", late=True)


def test_condition_set_aside_accepts_the_units() -> None:
    story = given(a_labelled_return(), receive_return(), set_aside("returns.condition", "return/R-1"))

    story.when(inspect_return(findings=[finding(tags_attached=False)]))

    story.then_clause("returns.condition", "overridden").then_view("return/R-1", lines=[{"accepted": 1}])
    story.then_view("refund", {"return_id": "R-1"}, total="750.00")


def rejected() -> Scenario:
    """A return of which nothing was accepted: its unit was not as it had been."""
    worn = inspect_return(findings=[finding(same_condition=False)], at="2026-03-16 10:00")
    came = (record_return_shipment(at="2026-03-10 16:00"), receive_return(at="2026-03-13 11:00"))
    return given(a_labelled_return(), *came, worn)


def test_condition_set_aside_after_the_inspection_pays_for_the_rejected_units() -> None:
    story = rejected().given(set_aside("returns.condition", "return/R-1"))

    story.when(request_refund()).then("RefundRequested")

    story.then_clause("returns.condition", "overridden").then_view("refund/F-1", total="750.00")


def test_inspection_set_aside_pays_for_a_parcel_that_was_lost() -> None:
    lost = (record_return_shipment(at="2026-03-10 16:00"), report_return_lost())
    story = given(a_labelled_return(), *lost, set_aside("returns.refund_after_inspection", "return/R-1"))

    story.when(request_refund()).then("RefundRequested").then_view("refund/F-1", total="750.00")


@pytest.mark.parametrize(
    ("clause", "total"),
    [("returns.label_fee", "100.00"), ("returns.shipping_non_refundable", "100.00")],
    ids=["fee", "shipping"],
)
def test_money_kept_by_a_clause_goes_back_when_it_is_set_aside(clause: str, total: str) -> None:
    story = given(a_delivered_order(price="100.00", shipping="20.00"), a_return(inspected=True))
    story.then_view("refund", {"return_id": "R-1"}, total="80.00").given(set_aside(clause, "return/R-1"))

    story.when(request_refund())

    story.then_clause(clause, "overridden").then_view("refund/F-1", total=total)


def test_a_clause_that_holds_anyway_passes_and_is_not_called_overridden() -> None:
    story = given(a_delivered_order(), set_aside("returns.window")).at("2026-03-09 12:00")

    story.when(request_return()).then_clause("returns.window", "pass")


def test_an_override_sets_aside_one_clause_and_no_other() -> None:
    story = given(a_delivered_order(final_sale=True), set_aside("returns.final_sale")).at("2026-03-20")

    story.when(request_return(channel="phone")).then_declined("returns.portal", "returns.window")

    story.then_clause("returns.final_sale", "overridden")


@pytest.mark.parametrize(
    ("subject", "code"),
    [
        ("order/A-9", "order.unknown"),
        ("return/R-9", "return.unknown"),
        ("claim/W-9", "claim.unknown"),
        ("refund/F-9", "command.invalid"),
    ],
)
def test_an_override_is_for_a_known_order_return_or_claim(subject: str, code: str) -> None:
    given(a_delivered_order()).when(set_aside("returns.window", subject)).then_error(code)


def test_a_unit_paid_back_although_it_was_rejected_is_neither_sent_back_nor_free() -> None:
    story = rejected().given(
        set_aside("returns.condition", "return/R-1"),
        request_refund(),
        record_refund_result(),
    )

    story.when(record_send_back()).then("SentBack", "ExceptionRaised")
    story.when(request_return(return_id="R-2")).then_error("quantity.exceeded")


def cancelled_after_delivery(quantity: int = 1, settled: bool = False) -> Scenario:
    """A delivered order with a claim on one unit, open or settled by refund, then cancelled by way of two overrides."""
    return given(
        a_delivered_order(quantity=quantity),
        a_claim(resolved=settled),
        set_aside("cancellation.window"),
        set_aside("cancellation.not_shipped"),
        request_cancellation(),
    ).then_view("order/A-1", status="cancelled")


def test_a_claim_is_not_settled_by_refund_once_the_cancelled_order_was_refunded_in_full() -> None:
    story = cancelled_after_delivery().given(request_refund(order_id="A-1"))

    story.when(resolve_claim()).then_error("transition.not_allowed")


def test_an_order_with_a_return_under_way_is_not_cancelled_even_by_overrides() -> None:
    story = given(an_authorized_return(), set_aside("cancellation.window"), set_aside("cancellation.not_shipped")).when(
        request_cancellation()
    )

    story.then_error("transition.not_allowed", message="R-1")


def test_a_lost_parcel_is_paid_for_when_the_risk_is_set_aside() -> None:
    lost = (record_return_shipment(at="2026-03-10 16:00"), report_return_lost(at="2026-03-20 09:00"))
    story = given(a_labelled_return(), *lost)

    story.when(request_refund()).then_declined("returns.refund_after_inspection")
    story.given(set_aside("returns.transit_risk", "return/R-1")).when(request_refund())

    story.then_accepted().then_clause("returns.transit_risk", "overridden")


def test_the_refund_of_a_cancelled_order_leaves_out_what_a_claim_has_settled() -> None:
    story = cancelled_after_delivery(quantity=2, settled=True)

    story.then_view("refund", {"order_id": "A-1"}, total="750.00")


# ---- used up ---------------------------------------------------------------------------------------------------------

LATE = "2026-03-25 12:00"
"""After the end of the return window."""
TWO_LINES = [
    {"line_id": "1", "sku": "BAG", "unit_price": "600.00", "quantity": 1},
    {"line_id": "2", "sku": "RING", "unit_price": "50.00", "quantity": 1},
]


def two_lines(**changes: Any) -> Scenario:
    """A delivered order of two lines, on a day after its return window."""
    return given(a_delivered_order(lines=TWO_LINES, **changes)).at(LATE)


def back(return_id: str, *line_ids: str, **fields: Any) -> Step:
    """A return of one unit of each of these lines is asked for."""
    return request_return(dict.fromkeys(line_ids or ("1",), 1), return_id=return_id, **fields)


def test_the_first_accepted_decision_that_cites_an_override_uses_it_up() -> None:
    story = two_lines().given(set_aside("returns.window"))

    story.when(back("R-1", "1")).then_accepted().then_clause("returns.window", "overridden")
    story.when(back("R-2", "2")).then_declined("returns.window")

    story.given(set_aside("returns.window")).when(back("R-3", "2")).then_accepted()


def test_an_override_that_says_so_holds_for_every_decision() -> None:
    story = two_lines().given(override("returns.window", once=False))

    for return_id, line_id in (("R-1", "1"), ("R-2", "2")):
        story.when(back(return_id, line_id)).then_accepted()
        story.then_clause("returns.window", "overridden", because="for every decision", override={"once": False})


def test_a_declined_decision_uses_nothing_up() -> None:
    story = two_lines().given(set_aside("returns.window"))

    story.when(back("R-1", channel="phone")).then_declined("returns.portal").then_clause("returns.window", "overridden")

    story.when(back("R-2")).then_accepted().then_clause("returns.window", "overridden")


def test_a_decision_that_passes_anyway_uses_nothing_up() -> None:
    story = given(a_delivered_order(lines=TWO_LINES), set_aside("returns.window")).at("2026-03-09 12:00")

    story.when(back("R-1", "1")).then_clause("returns.window", "pass")
    story.at(LATE).when(back("R-2", "2")).then_accepted().then_clause("returns.window", "overridden")


def test_an_override_stays_used_up_when_the_return_it_allowed_is_withdrawn() -> None:
    story = two_lines().given(set_aside("returns.window"), back("R-1"), withdraw_return())

    story.when(back("R-2")).then_declined("returns.window")


def test_two_overrides_serve_two_decisions_the_later_one_first() -> None:
    first, second = set_aside("returns.window"), override("returns.window", approved_by="lee", reason="again")
    story = two_lines().given(first, second)

    story.when(back("R-1", "1")).then_clause("returns.window", "overridden", override={"approved_by": "lee"})
    story.when(back("R-2", "2")).then_clause("returns.window", "overridden", override={"approved_by": "kim"})


def test_a_refund_that_failed_is_asked_for_again_by_the_override_it_used() -> None:
    story = given(
        a_delivered_order(price="100.00"),
        a_return(inspected=True),
        set_aside("returns.label_fee"),
        request_refund("F-1"),
        record_refund_result(result="failed"),
    )

    story.when(request_refund("F-2")).then_accepted().then_clause("returns.label_fee", "overridden")
    story.then_view("refund/F-2", total="100.00")


def test_the_refund_of_another_return_does_not_use_that_override() -> None:
    story = given(
        a_delivered_order(price="100.00", quantity=2),
        a_return("R-1", inspected=True, label_id="L-1"),
        a_return("R-2", inspected=True, label_id="L-2"),
        set_aside("returns.label_fee"),
        request_refund("F-1", return_id="R-1"),
    )

    story.when(request_refund("F-2", return_id="R-2")).then_accepted().then_clause("returns.label_fee", "pass")

    story.then_view("refund/F-1", total="100.00").then_view("refund/F-2", total="80.00")


def test_an_inspection_in_parts_goes_on_under_the_override_it_used() -> None:
    story = given(
        a_labelled_return(units=2, quantity=2), receive_return(), set_aside("returns.condition", "return/R-1")
    )

    for accepted in (1, 2):
        story.when(inspect_return(findings=[finding(tags_attached=False)])).then_clause(
            "returns.condition", "overridden"
        )
        story.then_view("return/R-1", lines=[{"accepted": accepted}])


def test_an_override_for_a_label_does_not_accept_the_parcel_that_is_late_on_it() -> None:
    story = given(a_labelled_return(), set_aside("returns.ship_by", "return/R-1")).at("2026-03-12 09:00")
    story.given(issue_label("L-2"))

    story.at("2026-03-19 09:00").when(issue_label("L-3")).then_declined("returns.ship_by")
    story.at("2026-03-20 09:00").when(receive_return()).then("ParcelRejected").then_clause("returns.ship_by", "fail")


def test_a_question_about_an_earlier_time_knows_the_override_before_its_use() -> None:
    story = two_lines().given(
        override("returns.window", at="2026-03-25 13:00"), back("R-1", "1", at="2026-03-25 14:00")
    )

    verdicts = {
        as_of: next(
            clause["verdict"]
            for clause in story.ask("eligibility/A-1", as_of=as_of)["lines"][1]["return"]["clauses"]
            if clause["clause"] == "returns.window"
        )
        for as_of in ("2026-03-25 12:30", "2026-03-25 13:30", "2026-03-25 14:00")
    }

    assert list(verdicts.values()) == ["fail", "overridden", "fail"]


def test_the_case_of_an_order_that_was_opened_for_ever() -> None:
    story = given(
        an_order(lines=TWO_LINES, confirmed="2026-03-02 10:00"),
        record_shipment("P-1", {"1": 1}, at="2026-03-02 10:30"),
        record_delivery("P-1", at="2026-03-05 10:30"),
        override("returns.window", at="2026-03-20 13:30"),
        override("returns.refund_after_inspection"),
        back("R-1", "2", at="2026-03-20 14:00"),
        request_refund("F-1", return_id="R-1"),
    ).at("2026-08-20 14:00")

    story.when(back("R-2", "1")).then_declined("returns.window")
    story.when(request_refund("F-2", return_id="R-2")).then_error("transition.not_allowed", state="declined")


# ---- expiry ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "verdict"), [("2026-03-25 12:59:59.999999", "overridden"), ("2026-03-25 13:00", "fail")]
)
def test_an_override_ends_at_its_instant(at: str, verdict: str) -> None:
    story = two_lines().given(override("returns.window", expires_at="2026-03-25 13:00", once=False))

    story.at(at).when(back("R-1")).then_clause("returns.window", verdict)


def test_the_desks_own_clock_decides_whether_an_override_has_ended() -> None:
    story = two_lines().given(override("returns.window", expires_at="2026-03-25 13:00")).at("2026-03-25 14:00")

    story.when(back("R-1", requested_at="2026-03-25 12:30")).then_declined("returns.window")


@pytest.mark.parametrize("expires_at", [LATE, "2026-03-25 11:00"])
def test_an_override_that_has_ended_already_is_refused(expires_at: str) -> None:
    two_lines().when(override("returns.window", expires_at=expires_at)).then_error("command.invalid", "expires_at")


def test_the_end_of_an_override_is_an_edge_of_the_order() -> None:
    story = two_lines().given(override("returns.window", expires_at="2026-03-25 13:00"))

    services = story.services
    edges = edges_view(find_subject(services.store, services.handler.policy, "order/A-1"), story.clock.now).edges

    ends = [edge for edge in edges if edge.at == "2026-03-25T13:00:00-04:00"]
    assert [(edge.what, edge.before, edge.after) for edge in ends] == [
        ("return of line 1: an override of returns.window ends", "overridden", "fail"),
        ("return of line 2: an override of returns.window ends", "overridden", "fail"),
    ]


# ---- lines -----------------------------------------------------------------------------------------------------------


def test_an_override_for_a_line_is_only_for_that_line() -> None:
    story = two_lines().given(override("returns.window", lines=["2"], once=False))

    story.when(back("R-1", "1")).then_declined("returns.window")
    story.when(back("R-2", "1", "2")).then_declined("returns.window")
    story.when(back("R-3", "2")).then_accepted()
    story.then_clause("returns.window", "overridden", because="for line 2", override={"lines": ["2"]})


def test_an_override_for_two_lines_is_for_both_together() -> None:
    story = two_lines().given(override("returns.window", lines=["1", "2"]))

    story.when(back("R-1", "1", "2")).then_accepted().then_clause("returns.window", because="for lines 1 and 2")


def test_two_overrides_for_a_line_each_are_not_added_up() -> None:
    story = two_lines().given(override("returns.window", lines=["1"]), override("returns.window", lines=["2"]))

    story.when(back("R-1", "1", "2")).then_declined("returns.window")
    story.when(back("R-2", "1")).then_accepted()
    story.when(back("R-3", "2")).then_accepted()


def test_a_line_that_holds_by_itself_needs_no_override() -> None:
    lines = [TWO_LINES[0] | {"final_sale": True}, TWO_LINES[1]]
    story = given(a_delivered_order(lines=lines), override("returns.final_sale", lines=["1"])).at("2026-03-09 12:00")

    story.when(back("R-1", "1", "2")).then_accepted().then_clause("returns.final_sale", "overridden")


def test_a_clause_about_the_request_as_a_whole_needs_all_its_lines() -> None:
    story = two_lines().at("2026-03-09 12:00").given(override("returns.portal", lines=["1"]))

    story.when(back("R-1", "1", "2", channel="phone")).then_declined("returns.portal")
    story.when(back("R-2", "1", channel="phone")).then_accepted()


def test_a_parcel_bars_the_cancellation_by_the_lines_in_it() -> None:
    story = given(
        an_order(lines=TWO_LINES, confirmed="2026-03-02 10:00"),
        record_shipment("P-1", {"1": 1}, at="2026-03-02 10:30"),
    )
    story.given(override("cancellation.not_shipped", lines=["2"])).when(request_cancellation())
    story.then_declined("cancellation.not_shipped")

    story.given(override("cancellation.not_shipped", lines=["1"])).when(request_cancellation()).then_accepted()


def test_a_claim_is_for_its_line() -> None:
    story = two_lines().given(override("wrong_item.window", lines=["2"]))

    story.when(report_wrong_item("C-1", line_id="1")).then_declined("wrong_item.window")
    story.when(report_wrong_item("C-2", line_id="2")).then_accepted()


def test_the_fee_of_a_return_is_set_aside_only_for_all_its_lines() -> None:
    story = given(a_delivered_order(lines=TWO_LINES), a_return(units={"1": 1, "2": 1}, inspected=True))

    story.when(override("returns.label_fee", "return/R-1", lines=["2"])).then_error(
        "override.no_effect", "lines", message="in line 2 alone"
    )
    story.given(override("returns.label_fee", lines=["2"])).when(request_refund())
    story.then_clause("returns.label_fee", "pass").then_view("refund/F-1", total="630.00")


def test_an_inspection_accepts_the_units_of_the_lines_that_the_override_names() -> None:
    story = given(
        a_delivered_order(lines=TWO_LINES),
        a_return(units={"1": 1, "2": 1}, received=True),
        override("returns.condition", "return/R-1", lines=["2"]),
    )

    worn = [finding("1", tags_attached=False), finding("2", tags_attached=False)]
    story.when(inspect_return(findings=worn)).then_accepted()

    story.then_clause("returns.condition", "fail", because="for line 2", override={"lines": ["2"]})
    story.then_view("return/R-1", lines=[{"accepted": 0, "rejected": 1}, {"accepted": 1, "rejected": 0}])
    (entry,) = _report(story).overrides
    assert (entry.used_up_by, entry.used_by) == ("return/R-1#7", ("return/R-1#7",))


@pytest.mark.parametrize(
    ("subject", "lines", "field"),
    [("order/A-1", ["9"], "lines[0]"), ("return/R-1", ["1", "2"], "lines[1]"), ("claim/C-1", ["1"], "lines[0]")],
)
def test_the_lines_of_an_override_are_lines_of_its_subject(subject: str, lines: list[str], field: str) -> None:
    story = two_lines().at("2026-03-09 12:00").given(back("R-1", "1"), report_wrong_item(line_id="2", attachments=[]))

    story.when(override("returns.condition", subject, lines=lines)).then_error("line.unknown", field)


# ---- no effect -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "clause",
    [
        "cancellation.notice",
        "cancellation.full_refund",
        "returns.tracking",
        "returns.own_label",
        "returns.original_tender",
        "returns.refund_timing",
        "wrong_item.contact",
        "wrong_item.remedy",
    ],
)
@pytest.mark.parametrize("subject", ["order/A-1", "return/R-1", "claim/C-1"])
def test_a_clause_that_no_decision_fails_by_is_not_set_aside(clause: str, subject: str) -> None:
    story = given(an_inspected_return(quantity=2), report_wrong_item(attachments=[]))

    story.when(set_aside(clause, subject)).then_error("override.no_effect", "clause", message="no decision can fail by")


def a_claimed_order(**changes: Any) -> Scenario:
    """A delivered order with an open claim that lacks its evidence."""
    return given(a_delivered_order(**changes), report_wrong_item(attachments=[], at="2026-03-09 12:00"))


@pytest.mark.parametrize(
    ("story", "subject", "clause", "state"),
    [
        (lambda: given(an_authorized_return()), "return/R-1", "returns.portal", "authorized"),
        (lambda: given(an_authorized_return()), "return/R-1", "cancellation.window", "authorized"),
        (lambda: given(a_labelled_return(), receive_return()), "return/R-1", "returns.ship_by", "received"),
        (lambda: given(an_inspected_return()), "return/R-1", "returns.condition", "inspected"),
        (lambda: given(an_inspected_return()), "return/R-1", "returns.refund_after_inspection", "inspected"),
        (lambda: given(an_inspected_return()), "return/R-1", "returns.transit_risk", "inspected"),
        (lambda: given(an_inspected_return()), "return/R-1", "returns.label_fee", "inspected"),
        (lambda: given(an_inspected_return()), "return/R-1", "returns.shipping_non_refundable", "inspected"),
        (lambda: given(an_authorized_return(), withdraw_return()), "return/R-1", "returns.ship_by", "withdrawn"),
        (lambda: two_lines().given(declined(back("R-1"))), "return/R-1", "returns.ship_by", "declined"),
        (a_claimed_order, "claim/C-1", "returns.window", "open"),
        (a_claimed_order, "claim/C-1", "wrong_item.window", "open"),
        (lambda: given(a_delivered_order(), a_claim(resolved=True)), "claim/C-1", "wrong_item.evidence", "resolved"),
        (lambda: given(a_delivered_order()), "order/A-1", "returns.final_sale", "delivered"),
        (lambda: given(a_delivered_order()), "order/A-1", "returns.account", "delivered"),
        (
            lambda: given(an_order(confirmed="2026-03-02 10:00"), request_cancellation()),
            "order/A-1",
            "returns.window",
            "cancelled",
        ),
        (
            lambda: given(an_order(confirmed="2026-03-02 10:00"), request_cancellation()),
            "order/A-1",
            "cancellation.window",
            "cancelled",
        ),
        (
            lambda: given(an_inspected_return(price="100.00"), request_refund(), record_refund_result()),
            "return/R-1",
            "returns.label_fee",
            "refunded",
        ),
        (
            lambda: given(an_inspected_return(), request_refund(), record_refund_result()),
            "order/A-1",
            "returns.window",
            "delivered",
        ),
    ],
)
def test_an_override_that_can_change_no_decision_any_more_is_refused(
    story: Callable[[], Scenario], subject: str, clause: str, state: str
) -> None:
    told = story()
    before = told.ask(f"audit/{subject}")

    told.when(set_aside(clause, subject)).then_error("override.no_effect", "clause", state=state, message=f"is {state}")

    assert told.ask(f"audit/{subject}") == before


def test_a_refusal_says_which_decisions_weigh_the_clause_and_what_can_be_set_aside() -> None:
    story = given(a_labelled_return(), receive_return()).when(set_aside("returns.ship_by", "return/R-1"))

    story.then_error(
        "override.no_effect",
        message=(
            "only issue_label and receive_return weigh returns.ship_by, and no such decision on return R-1 can fail by it "
            "(return R-1 is received); clauses that can be set aside for it: "
            "returns.condition, returns.refund_after_inspection"
        ),
    )


def test_a_clause_that_the_policy_does_not_have_is_not_set_aside() -> None:
    policy = bundled_policies().versions[-1]
    window = policy.clauses.returns_window.model_copy(update={"applies": False})
    clauses = policy.clauses.model_copy(update={"returns_window": window})
    story = given(a_delivered_order(), policy=PolicyBook([policy.model_copy(update={"clauses": clauses})]))

    story.when(set_aside("returns.window")).then_error("override.no_effect", message="the policy has no rule")


def test_the_case_of_a_card_that_was_closed() -> None:
    story = given(an_inspected_return(), request_refund(), record_refund_result(result="failed", reason="card closed"))

    story.when(set_aside("returns.original_tender", "return/R-1")).then_error("override.no_effect", "clause")


LOST = (record_return_shipment(at="2026-03-10 16:00"), report_return_lost(at="2026-03-20 09:00"))
WORN = inspect_return(findings=[finding(tags_attached=False)])

FAILS: list[tuple[type[Event], str, Callable[[], Scenario], Step]] = [
    (
        Cancelled,
        "cancellation.window",
        lambda: given(an_order(confirmed="2026-03-02 10:00")).at(LATE),
        request_cancellation(),
    ),
    (
        Cancelled,
        "cancellation.not_shipped",
        lambda: given(an_order(confirmed="2026-03-02 10:00", shipped="2026-03-02 10:30")),
        request_cancellation(),
    ),
    (
        Cancelled,
        "cancellation.by_email",
        lambda: given(an_order(confirmed="2026-03-02 10:00")),
        request_cancellation(channel="phone"),
    ),
    (ReturnAuthorized, "returns.final_sale", lambda: given(a_delivered_order(final_sale=True)), request_return()),
    (ReturnAuthorized, "returns.window", two_lines, request_return()),
    (ReturnAuthorized, "returns.account", lambda: given(a_delivered_order(account_id=None)), request_return()),
    (ReturnAuthorized, "returns.portal", lambda: given(a_delivered_order()), request_return(channel="phone")),
    (
        ReturnAuthorized,
        "returns.no_exchanges",
        lambda: given(a_delivered_order()),
        request_return(resolution="exchange"),
    ),
    (LabelIssued, "returns.ship_by", lambda: given(a_labelled_return()).at(LATE), issue_label("L-2")),
    (Received, "returns.ship_by", lambda: given(a_labelled_return()).at(LATE), receive_return()),
    (Inspected, "returns.condition", lambda: given(a_labelled_return(), receive_return()), WORN),
    (
        RefundRequested,
        "returns.condition",
        lambda: given(a_labelled_return(), receive_return(), WORN),
        request_refund(),
    ),
    (RefundRequested, "returns.label_fee", lambda: given(an_inspected_return(price="100.00")), request_refund()),
    (
        RefundRequested,
        "returns.shipping_non_refundable",
        lambda: given(an_inspected_return(shipping="20.00")),
        request_refund(),
    ),
    (RefundRequested, "returns.refund_after_inspection", lambda: given(an_authorized_return()), request_refund()),
    (RefundRequested, "returns.transit_risk", lambda: given(a_labelled_return(), *LOST), request_refund()),
    (ClaimOpened, "wrong_item.window", two_lines, report_wrong_item()),
    (ClaimOpened, "wrong_item.by_email", lambda: given(a_delivered_order()), report_wrong_item(channel="phone")),
    (ClaimResolved, "wrong_item.evidence", a_claimed_order, resolve_claim()),
]
"""For every clause of every decision: a story in which it fails, unless an override sets it aside."""


@pytest.mark.parametrize(("decision", "clause", "story", "request_"), FAILS)
def test_an_override_matters_to_every_decision_that_the_table_names(
    decision: type[Event], clause: str, story: Callable[[], Scenario], request_: Step
) -> None:
    told = story().given(set_aside(clause)).when(request_)

    told.then_accepted().then_clause(clause, "overridden")
    assert decision.__name__ in [entry.event.type for entry in told.services.store.read(0, 1_000)]
    assert _report(told).overrides[0].used_up_by is not None


def test_the_table_names_no_other_decisions_and_clauses() -> None:
    assert {(decision, clause) for decision, clause, _, _ in FAILS} == {
        (decision, clause) for decision, clauses in FAILS_BY.items() for clause in clauses
    }


# ---- who else knows --------------------------------------------------------------------------------------------------


def _report(story: Scenario) -> Report:
    services = story.services
    return make_report(services.store, services.handler.policy, "order/A-1", story.clock.now)


def test_the_report_and_the_explanation_show_lines_end_and_use() -> None:
    story = two_lines().given(
        override("returns.window", lines=["2"], expires_at="2026-04-01", reason="strike", approved_by="kim"),
        override("returns.portal", once=False),
        back("R-1", "2"),
    )

    window, portal = _report(story).overrides
    assert (window.lines, window.expires_at, window.once) == (("2",), "2026-04-01T00:00:00-04:00", True)
    assert (window.used_by, window.used_up_by) == (("return/R-1#2",), "return/R-1#2")
    assert (portal.lines, portal.expires_at, portal.once) == ((), None, False)
    assert (portal.used_by, portal.used_up_by) == ((), None)
    text = report_text(_report(story))
    assert "lines 2; until Wed 2026-04-01 00:00:00 EDT (-04:00); used up by return/R-1#2" in text
    assert "all lines; no expiry; for every decision" in text
    html = report_html(_report(story))
    assert "used up by " in html
    assert "for every decision" in html


def test_an_override_with_lines_and_an_end_is_decided_again_as_it_was() -> None:
    story = two_lines().given(override("returns.window", lines=["2"], expires_at="2026-04-01"), back("R-1", "2"))
    story.given(override("returns.portal", once=False))

    again = redecide("A-1", story.services.store.load("A-1"), story.services.handler.policy)

    assert again.differences == ()


def test_a_return_that_was_sent_back_uses_up_no_override_of_the_order() -> None:
    story = rejected().given(record_send_back(), set_aside("returns.condition"))

    story.when(request_refund()).then_error("transition.not_allowed", state="sent_back")


def test_an_override_of_the_order_does_not_pay_for_a_withdrawn_return() -> None:
    story = given(an_authorized_return(), set_aside("returns.refund_after_inspection"), withdraw_return())

    story.when(request_refund()).then_error("transition.not_allowed", state="withdrawn")
    story.then_view("refund", {"return_id": "R-1"}, status="due", total="0.00")

"""Why: the ruling with its quotes and reasons, and the events that every value of it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import tzdata
from hypothesis import event, given, settings
from hypothesis import strategies as st
from usual import a_delivered_order, a_labelled_return, an_authorized_return, an_inspected_return

from returnable.adapters.wiring import Services
from returnable.domain.errors import Impossible
from returnable.domain.policy import CLAUSE_IDS
from returnable.domain.ports import Recorded
from returnable.domain.reasons import is_instant
from returnable.projections.audit_models import ClauseWhy, EventSource, WhyView
from returnable.projections.provenance import ABSENCE, POLICY, SOURCES
from returnable.projections.subjects import find_subject
from returnable.projections.why import why
from returnable.testing import (
    Scenario,
    a_policy,
    a_return,
    add_claim_evidence,
    an_order,
    declined,
    deny_claim,
    inspect_return,
    issue_label,
    link_account,
    override,
    receive_return,
    record_delivery,
    record_label_received,
    record_refund_result,
    record_return_shipment,
    record_shipment,
    report_wrong_item,
    request_cancellation,
    request_refund,
    request_return,
    resolve_claim,
    run_deadlines,
    void_label,
)
from returnable.testing.behaviour import World

HISTORIES = st.lists(st.integers(0, 2**32 - 1), min_size=50, max_size=80, unique=True)


def explain(services: Services, subject: str, event: int | None = None, **when: datetime) -> WhyView:
    """Why, as the command line asks."""
    policy = services.handler.policy
    found = find_subject(services.store, policy, subject, when.get("as_of"), when.get("known_at"))
    return why(found, policy, event)


def told(story: Scenario, subject: str, event: int | None = None) -> WhyView:
    """Why, in a story."""
    return explain(story.services, subject, event)


def clause(view: WhyView, clause_id: str) -> ClauseWhy:
    """The one clause of that id."""
    (found,) = [one for one in view.clauses if one.clause == clause_id]
    return found


def sources(view: WhyView, clause_id: str, key: str) -> tuple[str, ...]:
    """What a value comes from."""
    (found,) = [event.sources for event in clause(view, clause_id).facts if event.key == key]
    return found


# ---- the whole ruling -----------------------------------------------------------------------------------------------


def test_a_refusal_is_told_with_what_decided_it_and_every_clause_in_the_order_of_the_policy() -> None:
    story = Scenario().given(
        an_order(),
        declined(
            request_cancellation(
                channel="phone",
                command_id="m-1",
                actor={"role": "care", "id": "ann"},
                order_copy=False,
                at="2026-03-02 14:05",
            )
        ),
    )

    view = told(story, "A-1")

    assert (view.event, view.type, view.outcome) == ("order/A-1#3", "CancellationDeclined", "declined")
    assert (view.command, view.command_id, view.recorded) == (
        "request_cancellation",
        "m-1",
        ("order/A-1#2", "order/A-1#3"),
    )
    assert view.actor is not None
    assert (view.actor.role, view.actor.id) == ("care", "ann")
    assert (view.pins.policy, view.pins.zone, view.pins.calendar, view.pins.tzdata) == (
        "allu-usa",
        "America/New_York",
        "us-federal/2026.1",
        tzdata.IANA_VERSION,
    )
    assert [one.clause for one in view.clauses] == [
        "cancellation.window",
        "cancellation.not_shipped",
        "cancellation.by_email",
        "cancellation.notice",
    ]
    window = clause(view, "cancellation.window")
    assert window.quote.startswith("If you would like to cancel an order")
    assert window.reading.startswith("† The request is in time")
    assert "too late" in window.because
    assert window.deadline is not None
    assert (window.deadline.at, window.deadline.inclusive, window.deadline.margin) == (
        "2026-03-02T12:00:00-05:00",
        True,
        "2 h 5 min late",
    )


def test_the_quote_comes_from_the_policy_that_is_pinned_to_the_decision() -> None:
    own = a_policy({"cancellation.not_shipped": {"quote": "Once shipped, it cannot be cancelled."}})
    story = Scenario(policy=own).given(an_order(), request_cancellation(order_reference="A-1"))

    view = told(story, "A-1")

    assert clause(view, "cancellation.not_shipped").quote == "Once shipped, it cannot be cancelled."
    assert view.pins.sha256 == own.sha256


def test_an_event_of_the_same_command_leads_to_its_decision_and_the_others_are_named() -> None:
    story = Scenario().given(an_inspected_return())

    asked, last = told(story, "return/R-1", 1), told(story, "return/R-1")

    assert (asked.event, asked.type) == ("return/R-1#2", "ReturnAuthorized")
    assert (last.event, last.type) == ("return/R-1#6", "Inspected")
    assert [one.event for one in last.others] == ["return/R-1#2", "return/R-1#3", "return/R-1#5"]


def test_an_order_names_the_decisions_of_its_whole_case() -> None:
    story = Scenario().given(an_authorized_return())

    view = told(story, "order/A-1", 3)

    assert view.clauses == ()
    assert [(one.event, one.outcome) for one in view.others] == [("return/R-1#2", "accepted"), ("order/A-1#1", None)]


@pytest.mark.parametrize(
    ("subject", "event", "said"),
    [
        (
            "order/A-1",
            None,
            "on order/A-1 itself (in its case: return/R-1#2, return/R-1#3); can be explained: 1 Confirmed",
        ),
        ("order/A-1", 2, "order/A-1#2 Shipped holds no ruling and sets no deadline; can be explained: 1 Confirmed"),
        ("return/R-1", 9, "return/R-1 has no event 9 that counts; can be explained: 2 ReturnAuthorized, 3 LabelIssued"),
    ],
)
def test_what_cannot_be_explained_is_an_error_that_names_what_can(subject: str, event: int | None, said: str) -> None:
    story = Scenario().given(a_labelled_return())

    with pytest.raises(Impossible) as error:
        told(story, subject, event)

    assert said in str(error.value)
    assert (error.value.code, error.value.field) == ("command.invalid", "event")


def test_as_of_and_known_at_choose_the_decision_and_not_what_it_rested_on() -> None:
    story = Scenario().given(
        a_delivered_order(),
        declined(request_return(requested_at="2026-03-05 18:00", channel="phone", at="2026-03-06 10:00")),
        request_return(return_id="R-2", at="2026-03-07 10:00"),
    )
    then = story.clock.instant("2026-03-06 10:00")

    view = explain(story.services, "return/R-1", as_of=then, known_at=then)
    with pytest.raises(Impossible) as error:
        explain(story.services, "return/R-1", as_of=then - timedelta(hours=1))
    with pytest.raises(Impossible, match="return/R-1 has no event 1 that counts"):
        explain(story.services, "return/R-1", 1, as_of=then - timedelta(hours=1))

    assert view.type == "ReturnDeclined"
    assert sources(view, "returns.window", "lines[0].delivered_at") == ("order/A-1#3",)
    assert "nothing was decided by the policy on return/R-1" in str(error.value)


# ---- where the values come from -------------------------------------------------------------------------------------


def test_a_window_over_two_parcels_names_the_delivery_of_the_parcel_that_decides() -> None:
    story = Scenario().given(
        an_order(quantity=2),
        record_shipment("P-1", 1, at="2026-03-03 09:00"),
        record_shipment("P-2", 1, at="2026-03-03 09:00"),
        record_delivery(at="2026-03-05 14:00"),
        record_delivery("P-2", at="2026-03-09 14:00"),
        declined(request_return(2, at="2026-03-21 09:00")),
    )

    view = told(story, "R-1")

    assert sources(view, "returns.window", "lines[0].delivered_at") == ("order/A-1#4",)
    assert sources(view, "returns.window", "deadline") == ("order/A-1#4",)
    assert sources(view, "returns.window", "lines[0].in_time") == ("order/A-1#4", "order/A-1#5", "return/R-1#1")
    assert [(one.event, one.type) for one in view.events if one.type == "Delivered"] == [
        ("order/A-1#4", "Delivered"),
        ("order/A-1#5", "Delivered"),
    ]


def test_of_two_tellings_of_a_delivery_the_first_is_named_because_it_stands() -> None:
    story = Scenario().given(
        a_delivered_order(),
        record_delivery(delivered_at="2026-03-05 15:00", at="2026-03-06 14:00"),
        request_return(at="2026-03-09 12:00"),
    )

    assert sources(told(story, "R-1"), "returns.window", "lines[0].delivered_at") == ("order/A-1#3",)


def test_what_nothing_on_record_says_is_absence() -> None:
    story = Scenario().given(an_order(account_id=None), declined(request_return(at="2026-03-03 12:00")))

    view = told(story, "R-1")

    assert sources(view, "returns.window", "lines[0].undelivered") == (ABSENCE,)
    assert sources(view, "returns.window", "deadline") == (ABSENCE,)
    assert sources(view, "returns.account", "account_id") == (ABSENCE,)


def test_an_account_is_named_by_the_event_that_gave_it() -> None:
    story = Scenario().given(
        a_delivered_order(account_id=None),
        link_account(account_id="acc-7", at="2026-03-06 10:00"),
        request_return(at="2026-03-06 11:00"),
    )

    view = told(story, "R-1")

    assert sources(view, "returns.account", "account_id") == ("order/A-1#4",)
    assert sources(view, "returns.account", "account_since_at") == ("order/A-1#4",)


def test_the_account_that_was_there_first_is_named_whenever_it_was_learnt() -> None:
    story = Scenario().given(
        a_delivered_order(account_id=None),
        link_account(account_id="acc-7", at="2026-03-06 10:00"),
        link_account(account_id="acc-8", linked_at="2026-03-06 09:00", at="2026-03-06 10:30"),
        request_return(at="2026-03-06 11:00"),
    )

    view = told(story, "R-1")

    assert sources(view, "returns.account", "account_id") == ("order/A-1#5",)
    assert sources(view, "returns.account", "account_since_at") == ("order/A-1#5",)


def test_the_first_incomplete_mail_is_named_where_it_counts() -> None:
    story = Scenario().given(
        an_order(),
        declined(request_cancellation(order_copy=False, at="2026-03-02 11:00")),
        request_cancellation(order_reference="A-1", at="2026-03-02 13:00"),
    )

    view = told(story, "A-1")

    assert view.type == "Cancelled"
    assert sources(view, "cancellation.window", "first_incomplete_at") == ("order/A-1#2",)
    assert sources(view, "cancellation.window", "margin_seconds") == ("order/A-1#1", "order/A-1#2")
    assert sources(view, "cancellation.window", "requested_at") == ("order/A-1#4",)


@pytest.mark.parametrize(
    ("judged", "expected"),
    [("when_decided", ("order/A-1#4", POLICY)), ("when_requested", ("order/A-1#3", POLICY))],
)
def test_when_a_shipment_bars_is_the_policys_choice_and_the_event_follows_it(
    judged: str, expected: tuple[str, ...]
) -> None:
    bundled_says = judged == "when_decided"
    policy = None if bundled_says else a_policy({"cancellation.not_shipped": {"judged": judged}})
    story = Scenario(policy=policy).given(
        an_order(),
        record_shipment(at="2026-03-02 10:30"),
        declined(request_cancellation(order_reference="A-1", requested_at="2026-03-02 11:00", at="2026-03-02 11:30")),
    )

    view = told(story, "A-1")

    assert sources(view, "cancellation.not_shipped", "judged_at") == expected
    assert sources(view, "cancellation.not_shipped", "parcels[0].shipped_at") == ("order/A-1#2",)
    assert sources(view, "cancellation.not_shipped", "delivered") == (ABSENCE,)


def test_the_deadline_of_a_parcel_is_named_by_the_receipt_of_its_label() -> None:
    story = Scenario().given(
        a_labelled_return(),
        record_label_received(at="2026-03-10 09:00"),
        record_return_shipment(at="2026-03-17 09:00"),
        declined(receive_return(at="2026-03-19 09:00")),
    )

    view = told(story, "R-1")

    assert view.type == "ParcelRejected"
    assert sources(view, "returns.ship_by", "deadline") == ("return/R-1#4",)
    assert sources(view, "returns.ship_by", "sent_at") == ("return/R-1#5",)
    assert sources(view, "returns.ship_by", "margin_seconds") == ("return/R-1#4", "return/R-1#5")


def test_without_a_hand_over_the_arrival_is_named_and_without_a_label_no_clock() -> None:
    story = Scenario().given(an_authorized_return(), receive_return(at="2026-03-19 09:00"))

    view = told(story, "R-1")

    assert sources(view, "returns.ship_by", "sent_at") == ("return/R-1#3",)
    assert sources(view, "returns.ship_by", "deadline") == (ABSENCE,)


def test_a_label_after_one_that_voided_by_itself_names_that_label_and_the_override() -> None:
    story = Scenario().given(a_labelled_return(), run_deadlines(at="2026-03-13 09:00"))
    refused = story.tell(issue_label("L-2"))
    story.given(override("returns.ship_by", "return/R-1"), issue_label("L-2"))

    declined, view = told(story, "R-1", 5), told(story, "R-1")

    assert refused["outcome"] == "declined"
    assert sources(declined, "returns.ship_by", "voided_label_id") == ("return/R-1#3", "return/R-1#4")
    assert sources(declined, "returns.ship_by", "label_id") == ("return/R-1#5",)
    ship_by = clause(view, "returns.ship_by")
    assert ship_by.verdict == "overridden"
    assert ship_by.override is not None
    assert (ship_by.override.approved_by, ship_by.override.reason, ship_by.override.event) == (
        "Ann",
        "A good customer.",
        "return/R-1#6",
    )
    assert sources(view, "returns.ship_by", "override.granted_at") == ("return/R-1#6",)
    assert "return/R-1#6" in [one.event for one in view.events]


def test_of_several_labels_the_one_that_ends_last_is_named_whichever_was_issued_last() -> None:
    story = Scenario().given(
        a_labelled_return(),
        override("returns.ship_by", "return/R-1", at="2026-03-13 09:00"),
        issue_label("L-2"),
        record_label_received(at="2026-03-17 09:00"),
        receive_return(at="2026-03-19 09:00"),
    )

    view = told(story, "R-1")

    assert view.type == "Received"
    assert sources(view, "returns.ship_by", "deadline") == ("return/R-1#6",)


def test_a_clause_the_merchant_does_not_have_comes_from_the_policy() -> None:
    story = Scenario(policy=a_policy({"returns.final_sale": {"applies": False}})).given(an_authorized_return())

    final_sale = clause(told(story, "R-1"), "returns.final_sale")

    assert final_sale.verdict == "not_applicable"
    assert [(event.key, event.value, event.sources) for event in final_sale.facts] == [("applies", False, (POLICY,))]


def test_a_claim_names_its_report_and_all_its_evidence() -> None:
    story = Scenario().given(
        a_delivered_order(),
        report_wrong_item(attachments=["item_picture"], at="2026-03-06 10:00"),
        add_claim_evidence(attachments=["order_confirmation"]),
        resolve_claim(),
        request_refund(claim_id="C-1"),
    )

    opened, resolved, paid = told(story, "C-1", 1), told(story, "C-1", 3), told(story, "F-1")

    assert (opened.type, opened.deadlines[0].name) == ("ClaimOpened", "contact_by")
    assert sources(opened, "wrong_item.evidence", "given") == ("claim/C-1#1",)
    assert sources(resolved, "wrong_item.evidence", "given") == ("claim/C-1#1", "claim/C-1#2")
    assert sources(resolved, "wrong_item.remedy", "remedy") == ("claim/C-1#3",)
    assert sources(paid, "wrong_item.remedy", "remedy") == ("claim/C-1#3",)
    assert "claim/C-1#1" in sources(paid, "wrong_item.remedy", "amount")


def test_a_claim_that_is_denied_on_the_spot_is_explained_from_either_event() -> None:
    story = Scenario().given(a_delivered_order(), declined(report_wrong_item(channel="phone", attachments=[])))

    first, second = told(story, "C-1", 1), told(story, "C-1", 2)

    assert first == second
    assert (first.type, first.outcome) == ("ClaimDenied", "declined")
    assert sources(first, "wrong_item.by_email", "channel") == ("claim/C-1#1",)


# ---- money ----------------------------------------------------------------------------------------------------------


def test_a_refund_is_told_with_its_items_deductions_and_tenders() -> None:
    story = Scenario().given(an_inspected_return(price="100.00", tax="8.00"), request_refund())

    view = told(story, "refund/F-1")

    assert (view.event, view.type, view.subject) == ("return/R-1#7", "RefundRequested", "refund/F-1")
    refund = view.refund
    assert refund is not None
    assert [(item.line_id, item.merchandise, item.tax, item.deducted) for item in refund.items] == [
        ("1", "100.00", "8.00", "20.00")
    ]
    assert [(one.clause, one.amount) for one in refund.deductions] == [("returns.label_fee", "20.00")]
    assert [(one.payment_id, one.method, one.amount) for one in refund.tenders] == [("p-1", "card", "88.00")]
    assert refund.total == "88.00"
    assert sources(view, "returns.label_fee", "labels_used") == ("return/R-1#3", "return/R-1#4")
    assert sources(view, "returns.label_fee", "fee") == (POLICY,)


def test_a_second_attempt_of_a_refund_names_the_first_and_its_answers() -> None:
    story = Scenario().given(
        an_inspected_return(price="600.00"),
        request_refund(),
        record_refund_result(result="failed", reason="Closed."),
        request_refund("F-2"),
    )

    first, second = told(story, "F-1"), told(story, "F-2")

    assert (first.event, second.event) == ("return/R-1#7", "return/R-1#9")
    assert {"return/R-1#7", "return/R-1#8"} <= set(sources(second, "returns.original_tender", "total"))


def test_a_label_used_without_a_recorded_hand_over_is_shown_by_the_arrival() -> None:
    story = Scenario().given(
        a_labelled_return(price="100.00"), receive_return(at="2026-03-10 11:00"), inspect_return(), request_refund()
    )

    assert sources(told(story, "F-1"), "returns.label_fee", "labels_used") == ("return/R-1#3", "return/R-1#4")


def test_a_cancelled_order_names_what_returns_hold_and_shipping_that_was_paid_back() -> None:
    story = Scenario().given(
        a_delivered_order(quantity=2, price="600.00", shipping="15.00"),
        override("cancellation.window"),
        override("cancellation.not_shipped"),
        override("returns.shipping_non_refundable"),
        a_return(requested="2026-03-06 09:00", inspected=True),
        request_refund(),
        record_refund_result(),
        request_cancellation(order_reference="A-1"),
        request_refund("F-2", order_id="A-1"),
    )

    view = told(story, "F-2")

    asked = next(one.event for one in told(story, "F-1").events if one.type == "ReturnRequested")
    paid = told(story, "F-1").event
    assert asked in sources(view, "cancellation.full_refund", "amount")
    assert paid in sources(view, "cancellation.full_refund", "shipping")
    assert view.refund is not None
    assert (view.refund.total, view.refund.shipping) == ("600.00", "0.00")


# ---- deadlines ------------------------------------------------------------------------------------------------------


def test_a_delivery_is_explained_by_the_windows_it_opens() -> None:
    story = Scenario().given(a_delivered_order())

    view = told(story, "A-1", 3)

    assert (view.type, view.clauses) == ("Delivered", ())
    assert [(one.name, one.at, one.clause, one.anchor) for one in view.deadlines] == [
        ("return_before", "2026-03-20T00:00:00-04:00", "returns.window", "order/A-1#3"),
        ("report_before", "2026-03-17T00:00:00-04:00", "wrong_item.window", "order/A-1#3"),
    ]
    assert view.deadlines[0].because == (
        "14 calendar days after the delivery of parcel P-1 at Thu 2026-03-05 14:00 EST: the last day is Thu 2026-03-19, "
        "over at Fri 2026-03-20 00:00 EDT."
    )


def test_a_confirmation_is_explained_by_the_last_instant_to_cancel() -> None:
    story = Scenario().given(an_order())

    (deadline,) = told(story, "A-1", 1).deadlines

    assert (deadline.name, deadline.inclusive) == ("cancel_by", True)
    assert deadline.because == (
        "2 hours after the confirmation at Mon 2026-03-02 10:00 EST: Mon 2026-03-02 12:00 EST, that instant included."
    )


def test_a_label_is_counted_from_its_receipt_and_its_voiding_names_what_set_the_deadline() -> None:
    story = Scenario().given(
        a_labelled_return(), record_label_received(at="2026-03-10 09:00"), run_deadlines(at="2026-03-20 09:00")
    )

    issued, received, voided = (told(story, "R-1", number).deadlines[0] for number in (3, 4, 5))

    assert (issued.anchor, issued.anchored_at) == ("return/R-1#3", "2026-03-09T12:30:00-04:00")
    assert (received.anchor, received.anchored_at) == ("return/R-1#4", "2026-03-10T09:00:00-04:00")
    assert voided == received
    assert "the customer's receipt of label L-1" in voided.because


def test_a_label_of_a_policy_that_counts_from_the_issue_says_so() -> None:
    story = Scenario(policy=a_policy({"returns.ship_by": {"anchor": "label_issued"}})).given(
        a_labelled_return(), record_label_received(at="2026-03-10 09:00")
    )

    (deadline,) = told(story, "R-1", 4).deadlines

    assert (deadline.anchor, deadline.at) == ("return/R-1#3", "2026-03-12T00:00:00-04:00")
    assert "the issue of label L-1" in deadline.because


def test_a_missed_contact_and_an_overdue_refund_name_the_report_and_the_issue() -> None:
    story = Scenario().given(
        an_inspected_return(quantity=2, units=1),
        request_refund(),
        report_wrong_item(reported_at="2026-03-06 09:00", attachments=[]),
        run_deadlines(at="2026-06-01 09:00"),
    )

    missed, overdue = told(story, "C-1", 2), told(story, "F-1", 8)

    assert (missed.type, missed.deadlines[0].clause, missed.deadlines[0].anchor) == (
        "ContactMissed",
        "wrong_item.contact",
        "claim/C-1#1",
    )
    assert (overdue.type, overdue.deadlines[0].clause, overdue.deadlines[0].anchor) == (
        "RefundOverdue",
        "returns.refund_timing",
        "return/R-1#7",
    )
    assert overdue.pins.policy == "allu-usa"


# ---- whatever happens -----------------------------------------------------------------------------------------------


def values_of(entry: Recorded) -> Iterator[object]:
    """Every value in a fact, and the name of its stream."""
    yield from _inside(entry.event.model_dump())
    yield entry.stream.partition("/")[2]


def _inside(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _inside(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _inside(inner)
    else:
        yield value


def claimed(event: EventSource) -> list[Any]:
    """The instants and ids a value claims; each must stand in a source."""
    name = event.key.rpartition(".")[2]
    if event.value is None:
        return []
    if is_instant(name):
        return [datetime.fromisoformat(str(event.value)).astimezone(UTC)]
    if name.endswith("_id"):
        return [event.value]
    if name in ("labels_used", "final_sale") or event.key == "lines":
        assert isinstance(event.value, list)
        return event.value
    return []


def check(view: WhyView, history: Sequence[Recorded]) -> None:
    """Every value has a source at or before the decision that holds what it claims."""
    places = {entry.event_id: entry for entry in history}
    decided = places[view.recorded[-1]].case_seq
    named = {one.event for one in view.events}
    for one in view.clauses:
        facts = {fact.key: fact for fact in one.facts}
        for fact in one.facts:
            where = (view.event, one.clause, fact)
            assert fact.sources, where
            events = [places[source] for source in fact.sources if source not in (POLICY, ABSENCE)]
            assert {entry.event_id for entry in events} <= named, where
            assert all(entry.case_seq <= decided for entry in events), where
            held = {value for entry in events for value in values_of(entry)}
            assert all(value in held for value in claimed(fact)), where
            if fact.key.endswith("margin_seconds"):
                place = fact.key.removesuffix("margin_seconds")
                deadline = facts.get(f"{place}return_before") or facts[f"{place}deadline"]
                at = datetime.fromisoformat(str(deadline.value)).astimezone(UTC)
                assert isinstance(fact.value, int | float)
                assert {at, at - timedelta(seconds=fact.value)} <= held, where
        if one.override is not None:
            assert places[one.override.event].event.type in ("OverrideGranted", "PayoutNamed")
    for deadline in view.deadlines:
        anchor = {*values_of(places[deadline.anchor])}
        assert datetime.fromisoformat(deadline.anchored_at).astimezone(UTC) in anchor
        assert datetime.fromisoformat(deadline.at).astimezone(UTC) in {*values_of(places[view.event])} | anchor


@given(HISTORIES)
@settings(max_examples=4)
def test_every_value_of_every_ruling_has_a_source_that_was_on_record_and_says_it(seeds: list[int]) -> None:
    world = World()
    for seed in seeds:
        world.step(seed)

    policy = world.services.handler.policy
    for case in world.cases:
        history = world.services.store.load(case.case_id)
        for entry in history:
            subject = find_subject(world.services.store, policy, entry.stream)
            try:
                view = why(subject, policy, entry.version)
            except Impossible:
                assert not getattr(entry.event, "ruling", None)
                continue
            event(view.type)
            assert getattr(entry.event, "ruling", ()) in ((), None) or view.event == entry.event_id
            check(view, history)


def test_the_table_has_every_clause_there_is() -> None:
    assert set(SOURCES) == set(CLAUSE_IDS)


def test_the_status_a_refund_was_decided_on_is_said_by_the_fact_that_brought_it_there() -> None:
    story = Scenario().given(
        an_inspected_return(), request_refund(), record_refund_result(result="failed"), request_refund("F-2")
    )

    view = told(story, "refund/F-2")

    (clause,) = [clause for clause in view.clauses if clause.clause == "returns.refund_after_inspection"]
    (status,) = [event for event in clause.facts if event.key == "status"]
    assert (status.value, status.sources) == ("inspected", ("return/R-1#6",))


def test_a_claim_denied_by_hand_is_explained_by_the_reason_that_was_given() -> None:
    story = Scenario().given(
        a_delivered_order(),
        report_wrong_item(attachments=[]),
        declined(resolve_claim()),
        deny_claim(reason="The picture shows the right item."),
    )

    view = told(story, "claim/C-1")

    assert (view.event, view.type, view.reason) == ("claim/C-1#3", "ClaimDenied", "The picture shows the right item.")
    assert (view.clauses, view.pins.policy) == ((), "allu-usa")
    assert [other.type for other in view.others] == ["ClaimOpened", "ResolutionDeclined"]


def test_a_label_voided_by_hand_and_an_override_are_explained_by_their_reasons() -> None:
    story = Scenario().given(
        a_labelled_return(),
        void_label(reason="It was printed twice."),
        override("returns.ship_by", "return/R-1", reason="A strike."),
    )

    by_hand = [told(story, "return/R-1", event).reason for event in (4, 5)]

    assert by_hand == ["It was printed twice.", "A strike."]
    assert told(story, "return/R-1").type == "LabelIssued"


def test_a_second_arrival_is_judged_by_the_first_and_says_so() -> None:
    story = Scenario().given(
        a_labelled_return(), receive_return(at="2026-03-10 09:00"), receive_return(at="2026-03-20 09:00")
    )

    found = told(story, "return/R-1", 6)

    (sent_at,) = [fact for one in found.clauses for fact in one.facts if fact.key == "sent_at"]
    assert (sent_at.value, sent_at.sources) == ("2026-03-10T09:00:00-04:00", ("return/R-1#4",))

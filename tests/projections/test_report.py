"""What an audit report says."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import was_contradicted
from usual import a_delivered_order, a_labelled_return, an_authorized_return, an_inspected_return

from returnable.domain.calendar import zone
from returnable.domain.errors import Impossible
from returnable.domain.events import EVENTS
from returnable.domain.fields import parse_instant
from returnable.domain.lifecycles import MACHINES
from returnable.projections.report.build import make_report
from returnable.projections.report.model import DeadlineEntry, Report
from returnable.projections.report.wording import spoken
from returnable.testing import (
    Scenario,
    an_order,
    declined,
    deny_claim,
    issue_label,
    override,
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
    step,
    void_label,
    withdraw_return,
)
from returnable.testing.behaviour import World

LATER = "2026-05-01T12:00:00-04:00"


def report(
    story: Scenario, subject: str, at: str = LATER, as_of: str | None = None, known_at: str | None = None
) -> Report:
    """The report of a subject of the story."""
    services = story.services
    then, by_then = (parse_instant(text) if text else None for text in (as_of, known_at))
    return make_report(services.store, services.handler.policy, subject, parse_instant(at), then, by_then)


def status(made: Report) -> dict[str, str]:
    """Deadline → how it stands."""
    return {deadline.title: deadline.state for deadline in made.deadlines}


def only(made: Report, title: str) -> DeadlineEntry:
    """The one deadline of that title."""
    (found,) = [deadline for deadline in made.deadlines if deadline.title == title]
    return found


def events(made: Report) -> list[str]:
    """The facts of the timeline, in order."""
    return [event.event for event in made.events]


def test_every_fact_has_a_title_of_its_own() -> None:
    assert len({event.title for event in EVENTS.values()}) == len(EVENTS)


def test_an_order_is_reported_with_its_whole_case() -> None:
    story = Scenario().given(an_inspected_return())

    made = report(story, "A-1")

    assert (made.subject, made.state, made.pays_for) == ("order/A-1", "delivered", None)
    recorded = [f"{entry.stream}#{entry.version}" for entry in story.services.store.load("A-1")]
    assert events(made) == recorded
    assert [(path.lifecycle, path.name, path.of) for path in made.lifecycles] == [
        ("order", "A-1", None),
        ("return", "R-1", None),
        ("label", "L-1", "return R-1"),
    ]
    assert made.store.facts == len(recorded)
    assert made.store.last_fact == recorded[-1]
    assert made.store.position == story.services.store.head()


def test_a_return_is_reported_with_what_it_rests_on_from_the_order() -> None:
    lines = [
        {"line_id": "1", "sku": "BAG", "unit_price": "100.00", "quantity": 1},
        {"line_id": "2", "sku": "RING", "unit_price": "50.00", "quantity": 1},
    ]
    story = Scenario().given(
        an_order(lines=lines),
        record_shipment("P-1", {"1": 1}, at="2026-03-03 09:00"),
        record_shipment("P-2", {"2": 1}),
        record_delivery("P-1", at="2026-03-05 09:00"),
        record_delivery("P-2"),
        # A second telling of the delivery conflicts, and a person raises it.
        record_delivery("P-1", delivered_at="2026-03-04 09:00"),
        record_delivery("P-2", delivered_at="2026-03-04 09:00"),
        override("returns.portal"),
        override("cancellation.window"),
        request_return(at="2026-03-09 12:00"),
    )

    made = report(story, "return/R-1")

    types = [(event.type, event.background) for event in made.events]
    assert types == [
        ("Confirmed", True),
        ("Shipped", True),
        ("Delivered", True),
        ("Delivered", True),
        ("ExceptionRaised", True),
        ("OverrideGranted", True),
        ("ReturnRequested", False),
        ("ReturnAuthorized", False),
    ]
    assert [event.details.get("parcel_id") for event in made.events[1:4]] == ["P-1", "P-1", "P-1"]
    assert [line.line_id for line in made.goods] == ["1"]
    assert [override.clause for override in made.overrides] == ["returns.portal"]
    assert status(made).keys() == {"Return window of parcel P-1 closes"}
    assert [path.lifecycle for path in made.lifecycles] == ["return"]


def test_a_refund_is_reported_as_what_it_pays_for_with_the_refund_in_focus() -> None:
    story = Scenario().given(
        an_inspected_return(),
        request_refund(at="2026-03-16 11:00"),
        record_refund_result(result="failed"),
        request_refund("F-2", at="2026-03-17 11:00"),
    )

    made = report(story, "refund/F-2", at="2026-03-18T12:00:00-04:00")

    assert (made.subject, made.state, made.pays_for) == ("refund/F-2", "requested", "return/R-1")
    assert [event.type for event in made.events if event.focus] == ["RefundRequested"]
    assert [(sheet.refund_id, sheet.status, sheet.focus) for sheet in made.money.sheets] == [
        ("F-1", "failed", False),
        ("F-2", "requested", True),
    ]
    assert [ruling.focus for ruling in made.rulings].count(True) == 1
    assert status(made)["Refund F-1 is overdue unless settled"] == "lifted"
    assert status(made)["Refund F-2 is overdue unless settled"] == "pending"
    assert made.money.payments[0].pending == "750.00"
    assert made.money.payments[0].remaining == "0.00"


def test_a_late_scan_is_told_as_learnt_later_and_its_label_counts_as_used() -> None:
    story = Scenario().given(
        a_labelled_return(),
        run_deadlines(at="2026-03-12 06:00"),
        record_return_shipment(shipped_at="2026-03-10 09:00", at="2026-03-13 09:00"),
    )

    made = report(story, "R-1")

    shipped = made.events[-1]
    assert (shipped.type, shipped.learnt_later) == ("ReturnShipped", "3 days")
    assert [(move.lifecycle, move.before, move.after) for move in shipped.moves] == [
        ("return", "labelled", "in_transit"),
        ("label", "void", "used"),
    ]
    void = only(made, "Label L-1 voids by itself")
    assert (void.state, void.note) == ("met", "handed over 1 day 15 h before (return/R-1#5)")
    places = [entry.event if entry.kind == "fact" else entry.title for entry in made.timeline]
    assert places.index("Label L-1 voids by itself") == places.index("return/R-1#4") - 1


def test_a_label_void_by_the_clock_is_shown_as_such_although_no_fact_says_so() -> None:
    story = Scenario().given(a_labelled_return())

    before = report(story, "R-1", at="2026-03-11T23:59:59-04:00")
    after = report(story, "R-1", at="2026-03-12T00:00:00-04:00")

    assert [(p.state, p.by_the_clock) for p in before.lifecycles if p.lifecycle == "label"] == [("issued", None)]
    assert [(p.state, p.by_the_clock) for p in after.lifecycles if p.lifecycle == "label"] == [("issued", "void")]
    title = "Label L-1 voids by itself"
    assert (only(before, title).state, only(before, title).ahead) == ("pending", True)
    assert (only(after, title).state, only(after, title).ahead) == ("missed", False)
    assert before.open.deadlines[0].title == title
    assert title not in [deadline.title for deadline in after.open.deadlines]


def test_a_label_whose_clock_runs_from_its_receipt_shows_the_deadline_it_had_before_as_lifted() -> None:
    story = Scenario().given(
        a_labelled_return(), record_label_received(received_at="2026-03-10 10:00", at="2026-03-11 10:00")
    )

    made = report(story, "R-1", at="2026-03-11T12:00:00-04:00")

    found = [(d.at, d.state, d.event) for d in made.deadlines if d.clause == "returns.ship_by"]
    assert found == [
        ("2026-03-12T00:00:00-04:00", "lifted", "return/R-1#3"),
        ("2026-03-13T00:00:00-04:00", "pending", "return/R-1#4"),
    ]


@pytest.mark.parametrize(
    ("command", "state", "note"),
    [
        (
            {"command": "void_label", "label_id": "L-1", "reason": "The wrong carrier."},
            "lifted",
            "voided by hand before (return/R-1#4)",
        ),
        ({"command": "withdraw_return"}, "lifted", "the return was withdrawn before (return/R-1#4)"),
        (
            {"command": "record_return_shipment"},
            "missed",
            "handed over 10 h after (return/R-1#4)",
        ),
    ],
)
def test_a_label_that_was_not_used_in_time(command: dict[str, str], state: str, note: str) -> None:
    at = "2026-03-12 10:00" if state == "missed" else "2026-03-11 10:00"
    story = Scenario().given(a_labelled_return(), step(at=at, return_id="R-1", **command))

    void = only(report(story, "R-1"), "Label L-1 voids by itself")

    assert (void.state, void.note) == (state, note)


@pytest.mark.parametrize(
    ("asked_at", "at", "state"),
    [
        (None, "2026-03-02T12:00:00-05:00", "pending"),
        (None, "2026-03-02T12:00:01-05:00", "passed"),
        ("2026-03-02T12:00:00-05:00", "2026-03-02T12:00:00-05:00", "met"),
        ("2026-03-02T12:00:00-05:00", "2026-03-02T13:00:00-05:00", "met"),
        ("2026-03-02T12:00:01-05:00", "2026-03-02T13:00:00-05:00", "missed"),
    ],
)
def test_the_last_instant_to_cancel_is_in_time(asked_at: str | None, at: str, state: str) -> None:
    story = Scenario().given(an_order())
    if asked_at is not None:
        story.when(request_cancellation(order_reference="A-1", at=asked_at))

    closes = only(report(story, "order/A-1", at=at), "Cancellation closes")

    assert (closes.state, closes.inclusive) == (state, True)


def test_a_return_window_is_pending_while_it_is_open_and_says_whether_the_request_was_declined() -> None:
    story = Scenario().given(a_delivered_order(), declined(request_return(channel="phone", at="2026-03-09 12:00")))

    while_open = only(report(story, "A-1", at="2026-03-19T23:59:59-04:00"), "Return window of parcel P-1 closes")
    when_over = only(report(story, "A-1", at="2026-03-20T00:00:00-04:00"), "Return window of parcel P-1 closes")

    note = "asked for 10 days 12 h before (return/R-1#1, declined)"
    assert (while_open.state, while_open.note) == ("pending", note)
    assert (when_over.state, when_over.note) == ("met", note)


def test_a_request_at_the_very_end_of_a_return_window_is_too_late() -> None:
    story = Scenario().given(a_delivered_order(), declined(request_return(at="2026-03-20")))

    closes = only(report(story, "R-1"), "Return window of parcel P-1 closes")

    assert (closes.state, closes.note) == ("missed", "asked for 0 s after (return/R-1#1, declined)")


CLAIMED = a_delivered_order() + report_wrong_item(at="2026-03-06 10:00")
"""A claim on the usual order, reported on a Friday with all that must be shown."""


@pytest.mark.parametrize(
    ("command", "at", "state", "note"),
    [
        ("record_claim_contact", "2026-03-07T10:00:00-05:00", "met", "contacted 0 s before (claim/C-1#2)"),
        ("record_claim_contact", "2026-03-07T11:00:00-05:00", "missed", "contacted 1 h after (claim/C-1#2)"),
        ("resolve_claim", "2026-03-06T12:00:00-05:00", "met", "settled 22 h before (claim/C-1#2)"),
        ("deny_claim", "2026-03-06T12:00:00-05:00", "lifted", "the claim was denied before (claim/C-1#2)"),
        ("run_deadlines", "2026-03-06T12:00:00-05:00", "pending", None),
        ("run_deadlines", "2026-03-07T10:00:01-05:00", "missed", "not contacted by then"),
    ],
)
def test_the_promised_contact(command: str, at: str, state: str, note: str | None) -> None:
    more = {"resolve_claim": {"remedy": "refund"}, "deny_claim": {"reason": "It is the right item."}}.get(command, {})
    on_claim = {} if command == "run_deadlines" else {"claim_id": "C-1"}
    story = Scenario().given(CLAIMED, step(command, at, **on_claim, **more))

    made = report(story, "claim/C-1", at=at)

    contact = only(made, "Customer of claim C-1 to be contacted")
    assert (contact.state, contact.note) == (state, note)
    assert "Wrong-item window of parcel P-1 closes" in status(made)
    assert "Return window of parcel P-1 closes" not in status(made)


def test_what_is_due_and_not_asked_for_is_shown_as_a_sum() -> None:
    story = Scenario().given(CLAIMED, resolve_claim(at="2026-03-06 12:00"))

    made = report(story, "C-1")

    (sheet,) = made.money.sheets
    assert (sheet.refund_id, sheet.status, sheet.total) == (None, "due", "750.00")
    assert [(row.what, row.amount) for row in sheet.rows] == [("Line 1: 1 × 750.00", "750.00")]
    assert [item.kind for item in made.open.work] == ["request_refund"]


def test_where_nothing_is_due_yet_the_report_says_why() -> None:
    story = Scenario().given(a_labelled_return())

    made = report(story, "R-1")

    (nothing,) = made.money.nothing_due
    assert nothing.reasons == ("Nothing was inspected: the return is labelled.",)
    assert made.money.sheets == ()


def test_a_cancelled_order_owes_all_of_it_back() -> None:
    story = Scenario().given(
        an_order(price="100.00", tax="8.00", shipping={"charged": "15.00", "tax": "1.00"}),
        request_cancellation(order_reference="A-1"),
    )

    due = report(story, "A-1").money.sheets
    story.given(request_refund(order_id="A-1"), record_refund_result(reference="ch-1"))
    paid = report(story, "A-1")

    (sheet,) = due
    assert [(row.what, row.amount) for row in sheet.rows] == [
        ("Line 1: 1 × 100.00", "100.00"),
        ("Line 1: tax", "8.00"),
        ("Outbound shipping, with its tax", "16.00"),
    ]
    assert sheet.total == "124.00"
    assert status(paid)["Refund F-1 is overdue unless settled"] == "met"
    assert [(tender.status, tender.reference) for tender in paid.money.sheets[0].tenders] == [("settled", "ch-1")]
    assert paid.money.total.refunded == "124.00"


def test_a_refund_settled_too_late_missed_its_deadline() -> None:
    story = Scenario().given(an_inspected_return(), request_refund(at="2026-03-16 11:00"))
    overdue = report(story, "F-1", at="2026-04-20T11:00:00-04:00")
    story.given(record_refund_result(at="2026-04-07 01:00"))
    settled = report(story, "F-1")

    title = "Refund F-1 is overdue unless settled"
    assert (only(overdue, title).state, only(overdue, title).note) == ("missed", "not settled by then")
    assert overdue.money.sheets[0].overdue
    note = "settled 1 h after (return/R-1#9)"
    assert (only(settled, title).state, only(settled, title).note) == ("missed", note)


def test_what_went_back_in_an_earlier_attempt_is_taken_off() -> None:
    story = Scenario().given(
        an_inspected_return(
            payments=[{"payment_id": name, "method": "card", "amount": "375.00"} for name in ("p-1", "p-2")]
        ),
        request_refund(at="2026-03-16 11:00"),
        record_refund_result(),
        record_refund_result("p-2", result="failed"),
    )

    failed, due = report(story, "R-1").money.sheets

    assert (failed.status, due.status) == ("failed", "due")
    assert [(row.what, row.amount) for row in due.rows][-1] == ("Paid or pending by earlier attempts", "-375.00")
    assert due.total == "375.00"


def test_an_override_names_the_rulings_that_took_account_of_it() -> None:
    story = Scenario().given(
        a_delivered_order(account_id=None),
        override("returns.account", reason="A regular customer.", approved_by="supervisor-7"),
        override("returns.portal", reason="In case.", approved_by="supervisor-7"),
        request_return(at="2026-03-09 12:00"),
    )

    used, unused = report(story, "R-1").overrides

    assert (used.clause, used.approved_by, used.used_by) == ("returns.account", "supervisor-7", ("return/R-1#2",))
    assert (unused.clause, unused.used_by) == ("returns.portal", ())


def test_a_ruling_tells_each_clause_with_quote_reason_and_pins() -> None:
    story = Scenario().given(a_delivered_order(final_sale=True), declined(request_return(at="2026-03-09 12:00")))

    made = report(story, "R-1")

    (ruling,) = made.rulings
    assert (ruling.event, ruling.outcome, ruling.policy) == ("return/R-1#2", "declined", made.policy)
    (failed,) = [clause for clause in ruling.clauses if clause.verdict == "fail"]
    assert (failed.clause, failed.because) == ("returns.final_sale", "Line 1 was bought as final sale.")
    assert "final sale" in failed.quote


def test_as_of_and_known_at_look_back() -> None:
    wednesday = "2026-03-11T12:00:00-04:00"
    story = Scenario().given(
        a_labelled_return(),
        run_deadlines(at="2026-03-12 06:00"),
        record_return_shipment(shipped_at="2026-03-10 09:00", at="2026-03-13 09:00"),
    )

    as_of = report(story, "R-1", as_of=wednesday)
    known = report(story, "R-1", as_of=wednesday, known_at=wednesday)

    assert (as_of.state, known.state) == ("in_transit", "labelled")
    assert (as_of.moment, as_of.as_of, as_of.known_at) == (wednesday, wednesday, None)
    assert (known.as_of, known.known_at) == (wednesday, wednesday)
    assert known.generated_at == LATER
    assert status(as_of)["Label L-1 voids by itself"] == "met"
    assert status(known)["Label L-1 voids by itself"] == "pending"


def test_a_fact_whose_cause_does_not_count_yet_does_not_count_either() -> None:
    story = Scenario().given(
        an_authorized_return(),
        issue_label(at="2026-03-11 11:00"),
        record_label_received(received_at="2026-03-11 10:00", at="2026-03-13 12:00"),
    )

    made = report(story, "R-1", as_of="2026-03-11T10:30:00-04:00")

    assert made.state == "authorized"
    assert "LabelReceived" not in [event.type for event in made.events]
    assert made.store.last_fact == "return/R-1#2"


def test_what_does_not_exist_has_no_report() -> None:
    story = Scenario().given(an_order())

    with pytest.raises(Impossible) as unknown:
        report(story, "return/R-1")
    with pytest.raises(Impossible) as not_yet:
        report(story, "A-1", as_of="2026-03-02T09:59:59-05:00")

    assert (unknown.value.code, not_yet.value.code) == ("return.unknown", "order.unknown")


def test_an_instant_is_told_with_its_offset_even_where_the_zone_has_no_letters() -> None:
    noon = "2026-03-02T12:00:00.250000+00:00"

    assert spoken(noon, zone("UTC")) == "Mon 2026-03-02 12:00:00.250000 UTC (+00:00)"
    assert spoken(noon, zone("America/Sao_Paulo"), whole_seconds=True) == "Mon 2026-03-02 09:00:00 -03:00"


@settings(max_examples=8)
@given(st.lists(st.integers(0, 2**32), min_size=30, max_size=90))
def test_any_history_is_reported_and_adds_up(seeds: list[int]) -> None:
    world = World()
    for seed in seeds:
        world.step(seed)
    store, policy = world.services.store, world.services.handler.policy

    for case_id in world.order_ids:
        case = world.services.handler.case(case_id)
        made = make_report(store, policy, f"order/{case_id}", world.at)

        # Every fact of the case is there, once, and ends where the case stands.
        assert sorted(events(made)) == sorted(f"{e.stream}#{e.version}" for e in store.load(case_id))
        ends = {(path.lifecycle, path.name, path.of): path.state for path in made.lifecycles}
        assert ends["order", case_id, None] == case.order.status
        assert all(ends["return", name, None] == ret.status for name, ret in case.returns.items())
        assert all(ends["refund", name, None] == refund.status for name, refund in case.refunds.items())
        for ret in case.returns.values():
            for label in ret.labels.values():
                assert ends["label", label.label_id, ret.name] == label.status
        # Every step is a move of its machine.
        for path in made.lifecycles:
            known = {
                (state.id, str(move.event), move.target.id if move.target is not None else state.id)
                for state in MACHINES[path.lifecycle].states
                for move in state.transitions
            }
            for before, taken in zip((None, *path.steps), path.steps, strict=False):
                assert taken.before == (before.after if before is not None else None)
                assert (taken.before or "nothing", taken.type, taken.after) in known
        # Money adds up, to the cent.
        for sheet in made.money.sheets:
            assert sum(Decimal(row.amount) for row in sheet.rows) == Decimal(sheet.total)
            assert sum(Decimal(tender.amount) for tender in sheet.tenders) == Decimal(sheet.total)
        rows = made.money.payments
        assert sum(Decimal(row.remaining) for row in rows) == Decimal(made.money.total.remaining)
        contradicted = was_contradicted(store.load(case_id))
        assert contradicted or all(Decimal(row.remaining) >= 0 for row in rows)
        # What is ahead stands after what is not.
        ahead = [entry.ahead for entry in made.timeline if entry.kind == "deadline"]
        assert ahead == sorted(ahead)
        for kind, names in (("return", case.returns), ("claim", case.claims), ("refund", case.refunds)):
            for name in names:
                part = make_report(store, policy, f"{kind}/{name}", world.at)
                assert set(events(part)) <= set(events(made))
                assert make_report(store, policy, f"{kind}/{name}", world.at) == part


def test_two_labels_each_have_their_own_path_and_deadline() -> None:
    story = Scenario().given(
        a_labelled_return(),
        void_label(at="2026-03-10 10:00"),
        issue_label("L-2", at="2026-03-10 11:00"),
        record_return_shipment("L-2", at="2026-03-10 16:00"),
    )

    made = report(story, "R-1", at=datetime(2026, 3, 20, tzinfo=UTC).isoformat())

    labels = {path.name: path.state for path in made.lifecycles if path.lifecycle == "label"}
    assert labels == {"L-1": "void_by_hand", "L-2": "used"}
    assert status(made)["Label L-1 voids by itself"] == "lifted"
    assert status(made)["Label L-2 voids by itself"] == "met"


def test_what_ended_after_its_deadline_was_missed_and_not_lifted() -> None:
    story = Scenario().given(a_labelled_return(), withdraw_return(at="2026-03-16 10:00"))
    claimed = Scenario().given(CLAIMED, deny_claim(at="2026-03-13 10:00"))
    refunded = Scenario().given(
        an_inspected_return(), request_refund(), record_refund_result(result="failed", at="2026-06-02 10:00")
    )

    states = [
        only(report(story, "R-1"), "Label L-1 voids by itself").state,
        only(report(claimed, "claim/C-1"), "Customer of claim C-1 to be contacted").state,
        only(report(refunded, "refund/F-1"), "Refund F-1 is overdue unless settled").state,
    ]

    assert states == ["missed", "missed", "missed"]


def test_a_refund_that_failed_before_its_deadline_has_no_deadline_any_more() -> None:
    story = Scenario().given(
        an_inspected_return(), request_refund(), record_refund_result(result="failed", at="2026-03-20 10:00")
    )

    overdue = only(report(story, "refund/F-1"), "Refund F-1 is overdue unless settled")

    assert (overdue.state, overdue.note) == ("lifted", "the refund failed before (return/R-1#8)")

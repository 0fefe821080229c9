"""What happened in the world is the same in whatever order it is learnt; what was known when is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from random import Random
from typing import Any

from hypothesis import given as for_all
from hypothesis import reject
from hypothesis import strategies as st
from usual import a_labelled_return, an_authorized_return, an_inspected_return

from bench.proofs.learning import Window, differences
from returnable.domain.commands import parse_command
from returnable.domain.errors import Impossible
from returnable.testing import (
    Scenario,
    an_order,
    given,
    inspect_return,
    issue_label,
    receive_return,
    record_label_received,
    record_return_shipment,
    request_refund,
    request_return,
    run_deadlines,
)
from returnable.testing.instants import instant

START = instant("2026-03-02 10:00", "America/New_York")
LEARNT = START + timedelta(days=60)
"""From here on everything is learnt, an hour apart."""

HOURS = st.integers(1, 24 * 12)


@dataclass(frozen=True)
class Event:
    """Something that happened, and what has to be known before it can be told."""

    command: str
    fields: dict[str, Any]
    needs: int | None = None


def at(hours: float) -> str:
    """That many hours after the confirmation."""
    return (START + timedelta(hours=hours)).astimezone(UTC).isoformat()


@st.composite
def journeys(draw: st.DrawFn) -> list[Event]:
    """Shipments and deliveries of three units, one to a parcel."""
    events: list[Event] = []
    for number in (1, 2, 3):
        parcel = {"order_id": "A-1", "parcel_id": f"P-{number}"}
        shipped = draw(HOURS)
        line = {"line_id": "1" if number < 3 else "2", "quantity": 1}
        ship = {"carrier": "fedex", "tracking_number": f"T-{number}", "lines": [line]}
        events.append(Event("record_shipment", parcel | ship | {"shipped_at": at(shipped)}))
        delivered = at(shipped + draw(HOURS))
        events.append(Event("record_delivery", parcel | {"delivered_at": delivered}, needs=len(events) - 1))
    return events


def learn(story: Scenario, events: Sequence[Event], seed: int) -> None:
    """Tell facts in an order that the seed says, each once what it needs is told."""
    dice, told = Random(seed), set[int]()
    clock = LEARNT
    while len(told) < len(events):
        ready = [n for n, event in enumerate(events) if n not in told and (event.needs is None or event.needs in told)]
        chosen = dice.choice(ready)
        outcome = story.tell(events[chosen].command, clock.isoformat(), **events[chosen].fields)
        assert outcome["outcome"] == "accepted", outcome
        told.add(chosen)
        clock += timedelta(hours=1)


def an_order_of_three() -> Scenario:
    """Two units of line 1, one of line 2, confirmed on Monday."""
    line = {"sku": "BAG", "unit_price": "300.00", "tax": "10.01"}
    lines = [line | {"line_id": "1", "quantity": 2}, line | {"line_id": "2", "quantity": 1}]
    return given(an_order(confirmed=START, lines=lines))


@for_all(journeys(), st.integers(0, 2**32), st.integers(0, 2**32), st.integers(0, 24 * 60))
def test_parcels_learnt_of_in_any_order_give_the_same_answers(
    events: list[Event], one_order: int, another: int, hours: int
) -> None:
    answers = []
    for seed in (one_order, another):
        story = an_order_of_three()
        learn(story, events, seed)
        story.at(LEARNT + timedelta(days=1))
        then = (START + timedelta(hours=hours)).isoformat()
        ask = [
            story.ask("order/A-1"),
            story.ask("order/A-1", as_of=then),
            story.ask("eligibility/A-1"),
            story.ask("eligibility/A-1", as_of=then),
            story.ask("worklist"),
        ]
        story.when(request_return({"1": 2, "2": 1}, requested_at=then))
        answers.append([*ask, story.outcome, story.ruling])

    assert answers[0] == answers[1]


@for_all(
    st.integers(0, 5 * 24),
    st.integers(0, 9 * 24),
    st.booleans(),
    st.permutations(["received", "shipped", "deadlines"]),
    st.permutations(["received", "shipped", "deadlines"]),
)
def test_a_label_and_a_hand_over_learnt_in_any_order_give_the_same_answers(
    received: int, shipped: int, own_label: bool, one_order: list[str], another: list[str]
) -> None:
    issued = instant("2026-03-09 12:30", "America/New_York")
    handed_over = issued + timedelta(hours=shipped)
    tell = {
        "received": record_label_received(received_at=issued + timedelta(hours=received)),
        "shipped": record_return_shipment(None if own_label else "L-1", shipped_at=handed_over),
        "deadlines": run_deadlines(),
    }
    answers = []
    for order_of_learning in (one_order, another):
        story = given(an_authorized_return(price="300.00"), issue_label(at=issued)).at(issued + timedelta(days=20))
        for name in order_of_learning:
            story.after(hours=1).given(tell[name])
        story.at(issued + timedelta(days=30))
        told = [story.ask("return/R-1"), story.ask("worklist")]
        story.when(receive_return())
        arrival = [story.outcome, story.ruling]
        if story.outcome == "accepted":
            story.given(inspect_return())
            told.append(story.ask("refund", return_id="R-1"))
        answers.append([*told, *arrival])

    assert answers[0] == answers[1]


def test_a_late_scan_changes_todays_answer_and_not_yesterdays_known_one() -> None:
    story = given(a_labelled_return()).at("2026-03-16 12:00")
    yesterday = story.now
    before = story.ask("return/R-1")

    story.at("2026-03-17 12:00").when(record_return_shipment(shipped_at="2026-03-10 16:00"))

    now = story.then("ReturnShipped").ask("return/R-1")
    known = story.ask("return/R-1", as_of=yesterday, known_at=yesterday)
    in_the_world = story.ask("return/R-1", as_of=yesterday)
    assert (before["status"], before["labels"][0]["status"]) == ("labelled", "void")
    assert known == before
    assert (now["status"], now["labels"][0]["status"]) == ("in_transit", "used")
    assert (in_the_world["status"], in_the_world["labels"][0]["status"]) == ("in_transit", "used")


# ---- facts of orders, boxes and refunds ----------------------------------------------------------------------------------

Told = list[dict[str, Any]]

HALVES = [{"payment_id": name, "method": "card", "amount": "300.00", "captured": "0.00"} for name in ("p-1", "p-2")]


def told(command: str, own_time: str, **fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    """A fact with the time at which it happened; each of the fields is drawn."""
    when = st.integers(0, 24 * 20).map(at)
    return st.fixed_dictionaries({"command": st.just(command), own_time: when, **fields})


PARCEL = {"order_id": st.just("A-1"), "parcel_id": st.sampled_from(["P-1", "P-2", "P-3"])}
UNITS = st.sampled_from([[{"line_id": "1", "quantity": 1}], [{"line_id": "1", "quantity": 2}]])
OF_AN_ORDER = st.one_of(
    told(
        "record_shipment", "shipped_at", **PARCEL, carrier=st.just("ups"), tracking_number=st.just("T-1"), lines=UNITS
    ),
    told("record_delivery", "delivered_at", **PARCEL),
    told("correct_delivery", "delivered_at", **PARCEL, reason=st.just("It was another parcel.")),
    st.fixed_dictionaries({"command": st.just("correct_delivery"), **PARCEL, "reason": st.just("It is not there.")}),
    told("report_parcel_lost", "reported_at", **PARCEL),
    told("record_parcel_returned", "returned_at", **PARCEL),
    told(
        "record_capture",
        "captured_at",
        order_id=st.just("A-1"),
        payment_id=st.sampled_from(["p-1", "p-2"]),
        amount=st.sampled_from(["100.00", "200.00", "300.00"]),
    ),
    told("link_account", "linked_at", order_id=st.just("A-1"), account_id=st.sampled_from(["acc-1", "acc-2"])),
    told(
        "cancel_order",
        "cancelled_at",
        order_id=st.just("A-1"),
        lines=UNITS,
        reason=st.just("Out of stock."),
        elsewhere=st.just(True),
    ),
)

BACK = {"return_id": st.just("R-1")}
BOX = BACK | {"box_id": st.sampled_from(["1", "2"])}
SOME = st.sampled_from([[{"line_id": "1", "quantity": 1}], [{"line_id": "1", "quantity": 2}]])
GOOD = {"same_condition": True, "original_packaging": True, "tags_attached": True}
FOUND = st.sampled_from(
    [[{"line_id": "1", "quantity": 1, **GOOD}], [{"line_id": "1", "quantity": 1, **GOOD, "same_condition": False}]]
)
OF_A_RETURN = st.one_of(
    told("record_label_received", "received_at", **BACK, label_id=st.just("L-1")),
    told("record_return_shipment", "shipped_at", **BOX),
    told("record_return_shipment", "shipped_at", **BACK, label_id=st.just("L-1")),
    told("receive_return", "received_at", **BOX),
    told("inspect_return", "inspected_at", **BACK, findings=FOUND),
    told("report_return_lost", "reported_at", **BACK),
    told("record_send_back", "sent_at", **BACK, lines=SOME),
    told(
        "record_disposition",
        "disposed_at",
        **BACK,
        lines=SOME.map(lambda lines: [line | {"disposition": "restock"} for line in lines]),
    ),
)

ANSWER = {
    "refund_id": st.just("F-1"),
    "payment_id": st.sampled_from(["p-1", "p-2", "p-9"]),
    "result": st.sampled_from(["succeeded", "failed"]),
    "amount": st.sampled_from(["100.00", "200.00", "300.00"]),
}
OF_MONEY = st.one_of(
    told("record_refund_result", "settled_at", **ANSWER),
    told("record_refund_result", "settled_at", **ANSWER, reference=st.sampled_from(["re-1", "re-2"])),
    told(
        "record_refund",
        "refunded_at",
        refund_id=st.sampled_from(["G-1", "G-2"]),
        order_id=st.just("A-1"),
        kind=st.sampled_from(["dispute", "goodwill"]),
        tenders=st.just([{"payment_id": "p-1", "amount": "50.00"}]),
    ),
)


def learnt_otherwise(story: Scenario, facts: Told, seed: int) -> list[str]:
    """What comes out otherwise in another order of learning, and no exception says so."""
    handler, store = story.services.handler, story.services.store
    events = store.load("A-1")
    policy = handler.policy_of(handler.case("A-1"))
    window = Window(events, [parse_command(fields) for fields in facts], LEARNT.astimezone(UTC))
    try:
        return list(differences(window, policy, Random(seed)))
    except Impossible as error:  # it is about something of which nothing is told at all
        assert error.code.endswith(".unknown") or facts_of(facts, "correct_delivery", "record_refund"), error
        reject()


def facts_of(facts: Told, *commands: str) -> bool:
    """Whether one of these commands is among the facts."""
    return any(fields["command"] in commands for fields in facts)


@for_all(st.lists(OF_AN_ORDER, min_size=2, max_size=5, unique_by=repr), st.integers(0, 2**32))
def test_facts_of_an_order_are_the_same_in_any_order_or_an_exception_says_so(facts: Told, seed: int) -> None:
    story = given(an_order(confirmed=START, price="200.00", quantity=3, payments=HALVES))

    assert learnt_otherwise(story, facts, seed) == []


@for_all(st.lists(OF_A_RETURN, min_size=2, max_size=5, unique_by=repr), st.integers(0, 2**32))
def test_facts_of_boxes_are_the_same_in_any_order_or_an_exception_says_so(facts: Told, seed: int) -> None:
    story = given(a_labelled_return(2, price="300.00", quantity=2))

    assert learnt_otherwise(story, facts, seed) == []


@for_all(st.lists(OF_MONEY, min_size=2, max_size=4, unique_by=repr), st.integers(0, 2**32))
def test_answers_are_the_same_in_any_order_or_an_exception_says_so(facts: Told, seed: int) -> None:
    halves = [half | {"captured": "300.00"} for half in HALVES]
    story = given(an_inspected_return(2, price="300.00", quantity=2, payments=halves), request_refund())

    assert learnt_otherwise(story, facts, seed) == []

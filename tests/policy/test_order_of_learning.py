"""What happened in the world is the same in whatever order it is learnt; what was known when is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from kit import MONDAY_MORNING, Story, an_order, ask_return, finding, issue

START = datetime.fromisoformat(MONDAY_MORNING)
LEARNT = START + timedelta(days=60)
"""From here on everything is learnt, an hour apart."""

HOURS = st.integers(1, 24 * 12)


@dataclass(frozen=True)
class Fact:
    """Something that happened, and what has to be known before it can be told."""

    command: str
    fields: dict[str, Any]
    needs: int | None = None


def at(hours: float) -> str:
    """That many hours after the confirmation."""
    return (START + timedelta(hours=hours)).astimezone(UTC).isoformat()


@st.composite
def journeys(draw: st.DrawFn) -> list[Fact]:
    """Shipments and deliveries of three units, one to a parcel."""
    facts: list[Fact] = []
    for number in (1, 2, 3):
        parcel = {"order_id": "A-1", "parcel_id": f"P-{number}"}
        shipped = draw(HOURS)
        line = {"line_id": "1" if number < 3 else "2", "quantity": 1}
        ship = {"carrier": "fedex", "tracking_number": f"T-{number}", "lines": [line]}
        facts.append(Fact("record_shipment", parcel | ship | {"shipped_at": at(shipped)}))
        delivered = at(shipped + draw(HOURS))
        facts.append(Fact("record_delivery", parcel | {"delivered_at": delivered}, needs=len(facts) - 1))
    return facts


def learn(story: Story, facts: Sequence[Fact], seed: int) -> None:
    """Tell facts in an order that the seed says, each once what it needs is told."""
    dice, told = Random(seed), set[int]()
    clock = LEARNT
    while len(told) < len(facts):
        ready = [n for n, fact in enumerate(facts) if n not in told and (fact.needs is None or fact.needs in told)]
        chosen = dice.choice(ready)
        outcome = story.tell(facts[chosen].command, clock.isoformat(), **facts[chosen].fields)
        assert outcome["outcome"] == "accepted", outcome
        told.add(chosen)
        clock += timedelta(hours=1)


def an_order_of_three() -> Story:
    """Two units of line 1, one of line 2, confirmed on Monday."""
    story = Story()
    line = {"sku": "BAG", "unit_price": "300.00", "tax": "10.01"}
    lines = [line | {"line_id": "1", "quantity": 2}, line | {"line_id": "2", "quantity": 1}]
    story.tell("confirm_order", MONDAY_MORNING, **an_order(lines=lines))
    return story


@given(journeys(), st.integers(0, 2**32), st.integers(0, 2**32), st.integers(0, 24 * 60))
def test_parcels_learnt_of_in_any_order_give_the_same_answers(
    facts: list[Fact], one_order: int, another: int, hours: int
) -> None:
    answers = []
    for seed in (one_order, another):
        story = an_order_of_three()
        learn(story, facts, seed)
        after = (LEARNT + timedelta(days=1)).isoformat()
        then = (START + timedelta(hours=hours)).isoformat()
        ask = [
            story.ask("order", after, order_id="A-1"),
            story.ask("order", after, order_id="A-1", as_of=then),
            story.ask("eligibility", after, order_id="A-1"),
            story.ask("eligibility", after, order_id="A-1", as_of=then),
            story.ask("worklist", after),
        ]
        request = ask_return(story, after, {"1": 2, "2": 1}, requested_at=then)
        answers.append([*ask, request["outcome"], request["ruling"]])

    assert answers[0] == answers[1]


@given(
    st.integers(0, 5 * 24),
    st.integers(0, 9 * 24),
    st.booleans(),
    st.permutations(["received", "shipped", "deadlines"]),
    st.permutations(["received", "shipped", "deadlines"]),
)
def test_a_label_and_a_hand_over_learnt_in_any_order_give_the_same_answers(
    received: int, shipped: int, own_label: bool, one_order: list[str], another: list[str]
) -> None:
    issued = datetime.fromisoformat("2026-03-09T12:30:00-04:00")
    tell = {
        "received": ("record_label_received", {"label_id": "L-1", "received_at": issued + timedelta(hours=received)}),
        "shipped": (
            "record_return_shipment",
            ({} if own_label else {"label_id": "L-1"}) | {"shipped_at": issued + timedelta(hours=shipped)},
        ),
    }
    answers = []
    for order_of_learning in (one_order, another):
        story = Story()
        story.authorized(price="300.00")
        issue(story, "L-1", issued.isoformat())
        clock = issued + timedelta(days=20)
        for name in order_of_learning:
            clock += timedelta(hours=1)
            if name == "deadlines":
                story.tell("run_deadlines", clock.isoformat())
                continue
            command, fields = tell[name]
            given_at = {
                key: value.isoformat() if isinstance(value, datetime) else value for key, value in fields.items()
            }
            assert story.tell(command, clock.isoformat(), return_id="R-1", **given_at)["outcome"] == "accepted"
        later = (issued + timedelta(days=30)).isoformat()
        told = [story.ask("return", later, return_id="R-1"), story.ask("worklist", later)]
        arrival = story.tell("receive_return", later, return_id="R-1")
        if arrival["outcome"] == "accepted":
            story.tell("inspect_return", return_id="R-1", findings=[finding()])
            told.append(story.ask("refund", return_id="R-1"))
        answers.append([*told, arrival["outcome"], arrival["ruling"]])

    assert answers[0] == answers[1]


def test_a_late_scan_changes_todays_answer_and_not_yesterdays_known_one() -> None:
    story = Story()
    story.labelled()
    yesterday, today = "2026-03-16T12:00:00-04:00", "2026-03-17T12:00:00-04:00"
    before = story.ask("return", yesterday, return_id="R-1")

    story.tell("record_return_shipment", today, return_id="R-1", label_id="L-1", shipped_at="2026-03-10T16:00:00-04:00")

    now = story.ask("return", today, return_id="R-1")
    known = story.ask("return", today, return_id="R-1", as_of=yesterday, known_at=yesterday)
    in_the_world = story.ask("return", today, return_id="R-1", as_of=yesterday)
    assert (before["status"], before["labels"][0]["status"]) == ("labelled", "void")
    assert known == before
    assert (now["status"], now["labels"][0]["status"]) == ("in_transit", "used")
    assert (in_the_world["status"], in_the_world["labels"][0]["status"]) == ("in_transit", "used")

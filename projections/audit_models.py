"""The public form of what auditors are told: why something was decided, how it came about, and when an answer flips.

Instants are RFC 3339 with the offset of the policy's zone; money is a decimal string of the order's currency. An *event
id* is the stream of a fact and its version in it, such as ``return/R-1#2``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from returnable.domain.fields import Model
from returnable.domain.ruling import Verdict
from returnable.projections.views import ActorView, DeductionView, MoneyView, RefundItemView


class EventRef(Model):
    """A fact on record."""

    event: str
    """Its event id."""
    type: str
    occurred_at: str
    recorded_at: str


# ---- why ------------------------------------------------------------------------------------------------------------


class PinsView(Model):
    """What a decision was judged by, as it is pinned in the decision itself."""

    policy: str
    version: str
    sha256: str
    calendar: str
    zone: str
    tzdata: str | None = None
    engine: str


class FactSource(Model):
    """A value a verdict rests on, and where it comes from.

    ``sources`` holds event ids; ``policy`` where the policy sets the value; ``absence`` where the value says that
    something is *not* on record (``value`` is then null, or what follows from it).
    """

    key: str
    """The place in the facts of the finding, such as ``lines[0].return_before``."""
    value: JsonValue
    sources: tuple[str, ...]


class Margin(Model):
    """A deadline, and by how much it was kept or missed."""

    at: str
    inclusive: bool
    """Whether the instant itself was still in time."""
    margin_seconds: float | int | None
    """Seconds left; negative: that much too late. Null where nothing is measured against it."""
    margin: str | None
    """The same in words, such as ``2 h 5 min late``."""


class OverrideWhy(Model):
    """Who set a clause aside, why and when, and the event id of the fact that says so."""

    approved_by: str
    reason: str
    granted_at: str
    event: str


class ClauseWhy(Model):
    """One clause of a ruling, with all it rests on."""

    clause: str
    verdict: Verdict
    quote: str
    """The merchant's own words."""
    reading: str
    """How the words are read."""
    because: str
    """The reason in plain English."""
    facts: tuple[FactSource, ...]
    deadline: Margin | None
    override: OverrideWhy | None


class ResolvedDeadline(Model):
    """A deadline that a fact set, or whose passing it records: from which clause, and from which event it runs."""

    name: str
    """The field, such as ``return_before``."""
    at: str
    inclusive: bool
    clause: str
    quote: str
    reading: str
    anchor: str
    """The event id of the fact it is counted from."""
    anchored_at: str
    because: str
    """How it came about, in plain English."""


class PaidBack(Model):
    """What goes back to one payment of the order."""

    payment_id: str
    method: str | None
    amount: str


class RefundWhy(Model):
    """What a refund comes to: merchandise + tax + shipping - deductions - what an earlier attempt settled."""

    refund_id: str
    currency: str
    items: tuple[RefundItemView, ...]
    shipping: str
    deductions: tuple[DeductionView, ...]
    settled_before: str
    total: str
    tenders: tuple[PaidBack, ...]
    expected_between: tuple[str, str]
    overdue_at: str


class Explainable(Model):
    """Another fact that ``why --event`` can explain."""

    event: str
    type: str
    at: str
    outcome: Literal["accepted", "declined"] | None
    """What its command came to; null for a fact that holds no ruling."""


class WhyView(Model):
    """Why a decision came out as it did, by the policy or by hand, or where the deadline of a fact comes from."""

    subject: str
    event: str
    type: str
    occurred_at: str
    recorded_at: str
    actor: ActorView | None
    command: str
    command_id: str | None
    outcome: Literal["accepted", "declined"]
    recorded: tuple[str, ...]
    """The event ids of everything the command recorded."""
    pins: PinsView
    clauses: tuple[ClauseWhy, ...]
    """In the order of the policy; empty where the fact holds no ruling."""
    deadlines: tuple[ResolvedDeadline, ...]
    reason: str | None
    """Of what a person decided by hand: the reason given. The policy weighed nothing then."""
    refund: RefundWhy | None
    events: tuple[EventRef, ...]
    """Every event that is named as a source, in the order in which they were recorded."""
    others: tuple[Explainable, ...]
    """The other decisions of the stream, and for an order those of its whole case."""


# ---- replay ---------------------------------------------------------------------------------------------------------


class DeadlineChange(Model):
    """What a step did to a deadline. ``passed``: it ran out since the step before, and nothing had settled it."""

    subject: str
    name: str
    of: str
    """What it is the deadline of, such as ``line 1 in parcel P-1``; empty where there is only one."""
    clause: str
    inclusive: bool
    change: Literal["set", "moved", "settled", "reopened", "passed"]
    before: str | None
    after: str | None


class HistoryStep(Model):
    """One fact of a history and what it changed."""

    number: int
    """Its place in the case (of an order), or in the stream."""
    event: str
    type: str
    recorded_at: str
    occurred_at: str
    actor: ActorView | None
    command_id: str | None
    before: str | None
    """The state of the stream's lifecycle; null: nothing yet."""
    after: str
    details: dict[str, JsonValue]
    deadlines: tuple[DeadlineChange, ...]
    money: MoneyView | None
    """Where the step changed it."""
    failed: tuple[str, ...]
    """The clauses that failed, where the step holds a ruling."""
    overridden: tuple[str, ...]


class OpenDeadline(Model):
    """A deadline at the end of a history."""

    subject: str
    name: str
    of: str
    clause: str
    inclusive: bool
    at: str
    state: Literal["open", "settled", "passed"]


class StreamState(Model):
    """The state a stream reached."""

    stream: str
    status: str


class Reached(Model):
    """How things stand after the last step; deadlines by the clock ``at``."""

    at: str
    streams: tuple[StreamState, ...]
    deadlines: tuple[OpenDeadline, ...]
    money: MoneyView


class HistoryView(Model):
    """A history, step by step."""

    subject: str
    case_id: str
    steps: tuple[HistoryStep, ...]
    left_out: int
    """How many later facts of it ``until`` leaves out."""
    reached: Reached


# ---- edges ----------------------------------------------------------------------------------------------------------


class AnswerChange(Model):
    """One answer that flips."""

    answer: str
    before: str
    after: str


class EdgeView(Model):
    """An instant at which an answer flips by the passing of time alone."""

    at: str
    """The first instant of the new answer."""
    deadline: str
    """As the views show it: where ``inclusive``, the last instant of the old answer, else the same as ``at``."""
    inclusive: bool
    subject: str
    clause: str
    what: str
    before: str
    after: str
    also: tuple[AnswerChange, ...]
    """The further answers that flip with it."""
    to_come: bool
    distance: str
    """How far ``deadline`` is from the clock, such as ``in 3 days 2 h`` or ``12 days ago``."""


class EdgesView(Model):
    """Every edge of a subject in order of time, seen from the clock ``at``."""

    subject: str
    at: str
    edges: tuple[EdgeView, ...]

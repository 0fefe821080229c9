"""The public models of the answers for auditors: why a decision was made, a history step by step, and edges.

Instants are RFC 3339 with the offset of the policy's zone; money is a decimal string of the order's currency. An *event
id* is the stream of an event and its version in that stream, such as ``return/R-1#2``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from returnable.domain.events import Pins
from returnable.domain.fields import Model
from returnable.domain.ruling import Verdict
from returnable.projections.views import ActorView, CreditView, DeductionView, MoneyView, RefundItemView


class EventRef(Model):
    """An event that an answer names."""

    event: str
    """Its event id."""
    type: str
    occurred_at: str
    recorded_at: str


# ---- why ------------------------------------------------------------------------------------------------------------


class EventSource(Model):
    """A value that a verdict rests on, and its sources.

    ``sources`` holds event ids; ``policy`` if the policy sets the value; ``absence`` if the value says that something is
    *not* recorded (``value`` is then null, or follows from that).
    """

    key: str
    """The place of the value in the grounds of the clause, such as ``lines[0].return_before``."""
    value: JsonValue
    sources: tuple[str, ...]


class Margin(Model):
    """A deadline, and the margin by which it was kept or missed."""

    at: str
    inclusive: bool
    """Whether the instant itself is in time."""
    margin_seconds: float | int | None
    """Seconds left; negative: seconds too late. Null if nothing is measured against the deadline."""
    margin: str | None
    """The same in words, such as ``2 h 5 min late``."""


class OverrideWhy(Model):
    """Who set a clause aside, why and when, for what, and the id of the event that records it."""

    approved_by: str
    reason: str
    granted_at: str
    event: str
    lines: tuple[str, ...]
    """The lines it is for; empty: all lines."""
    expires_at: str | None
    """The exclusive end of its life."""
    once: bool
    """Whether the first accepted decision that cites it uses it up."""


class ClauseWhy(Model):
    """One clause of a ruling, with everything it rests on."""

    clause: str
    verdict: Verdict
    quote: str
    """The merchant's own words."""
    reading: str
    """How we read these words."""
    because: str
    """The reason in plain English."""
    facts: tuple[EventSource, ...]
    deadline: Margin | None
    override: OverrideWhy | None


class ResolvedDeadline(Model):
    """A deadline that an event set, or whose passing it records: the clause behind it, and the event it runs from."""

    name: str
    """The field, such as ``return_before``."""
    at: str
    inclusive: bool
    clause: str
    quote: str
    reading: str
    anchor: str
    """The id of the event from which the deadline is counted."""
    anchored_at: str
    because: str
    """How the deadline was counted, in plain English."""


class PaidBack(Model):
    """The part of a refund that goes back to one payment of the order."""

    payment_id: str
    method: str | None
    amount: str
    payout_id: str | None = None


class RefundWhy(Model):
    """The sum of a refund: merchandise + tax + shipping - deductions - ``settled_before`` - credits - ``voided``."""

    refund_id: str
    currency: str
    items: tuple[RefundItemView, ...]
    shipping: str
    deductions: tuple[DeductionView, ...]
    settled_before: str
    credits: tuple[CreditView, ...] = ()
    voided: str = "0.00"
    total: str
    tenders: tuple[PaidBack, ...]
    expected_between: tuple[str, str]
    overdue_at: str


class Explainable(Model):
    """Another event that ``why --event`` can explain."""

    event: str
    type: str
    at: str
    outcome: Literal["accepted", "declined"] | None
    """The outcome of its command; null for an event without a ruling."""


class WhyView(Model):
    """The reasons for a decision, by the policy or by hand; or the origin of the deadlines that an event set."""

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
    """The ids of all events that the command recorded."""
    pins: Pins
    clauses: tuple[ClauseWhy, ...]
    """In the order of the policy; empty if the event holds no ruling."""
    deadlines: tuple[ResolvedDeadline, ...]
    reason: str | None
    """The reason that a person gave who decided by hand; the policy weighed nothing then."""
    refund: RefundWhy | None
    events: tuple[EventRef, ...]
    """Every event that is named as a source, in the order of recording."""
    others: tuple[Explainable, ...]
    """The other decisions of the stream; for an order those of its whole case."""


# ---- replay ---------------------------------------------------------------------------------------------------------


class DeadlineName(Model):
    """A deadline of a history."""

    subject: str
    name: str
    of: str
    """The part of the subject, such as ``line 1 in parcel P-1``; empty if the subject has one such deadline."""
    clause: str
    inclusive: bool


class DeadlineChange(DeadlineName):
    """The effect of a step on a deadline. ``passed``: the deadline passed unsettled since the step before.

    ``dropped``: it no longer exists, for instance because a delivery was taken back.
    """

    change: Literal["set", "moved", "settled", "reopened", "passed", "dropped"]
    before: str | None
    after: str | None


class HistoryStep(Model):
    """One event of a history and its effects."""

    number: int
    """The place of the event in the case (for an order), or in the stream."""
    event: str
    type: str
    recorded_at: str
    occurred_at: str
    actor: ActorView | None
    command_id: str | None
    before: str | None
    """The state of the stream's lifecycle; null before its first event."""
    after: str
    details: dict[str, JsonValue]
    deadlines: tuple[DeadlineChange, ...]
    money: MoneyView | None
    """Null if the step did not change it."""
    failed: tuple[str, ...]
    """The clauses of the step's ruling that failed."""
    overridden: tuple[str, ...]


class OpenDeadline(DeadlineName):
    """A deadline at the end of a history."""

    at: str
    state: Literal["open", "settled", "passed"]


class StreamState(Model):
    """The state a stream reached."""

    stream: str
    status: str


class Reached(Model):
    """The state after the last step; deadlines are judged at the instant ``at``."""

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
    """The number of later events that ``until`` leaves out."""
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
    """The instant that views show: if ``inclusive``, the last instant of the old answer; otherwise the same as ``at``."""
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
    """Every edge of a subject in order of time, seen from the instant ``at``."""

    subject: str
    at: str
    edges: tuple[EdgeView, ...]

"""The model of an audit report: everything known of an order, a return, a claim or a refund.

:mod:`returnable.projections.report.build` builds it from the events, :mod:`returnable.adapters.report` renders it.
Instants are RFC 3339 with the offset of the policy's zone; money is a decimal string of the order's currency.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from returnable.domain.events import Pins
from returnable.domain.fields import Model
from returnable.domain.outcome import ClauseView
from returnable.projections.lookalikes import LookAlike
from returnable.projections.views import ActorView, LedgerEntry, MoneyView, RefundView, SubjectView, WorkItem

Lifecycle = Literal["order", "return", "label", "refund", "claim"]
DecisionOutcome = Literal["accepted", "declined"]
DeadlineState = Literal["met", "missed", "passed", "pending", "lifted"]
"""``met``: done in time. ``missed``: not done, or done too late. ``passed``: an opportunity that nobody used. ``pending``:
still to come. ``lifted``: it no longer runs."""


class PolicyStamp(Model):
    """The pins of a decision, with ``id`` for the id of the policy."""

    id: str
    version: str
    sha256: str
    calendar: str
    zone: str
    tzdata: str | None = None
    engine: str

    @property
    def zone_and_data(self) -> str:
        """The zone, and the release of the time zone database if it was recorded."""
        return self.zone if self.tzdata is None else f"{self.zone} (tzdata {self.tzdata})"

    @classmethod
    def of(cls, pins: Pins) -> PolicyStamp:
        """The stamp of these pins."""
        return cls(id=pins.policy, **pins.model_dump(exclude={"policy"}))


class StorePosition(Model):
    """The position of the last event in the store, and of the last event of the case that counts."""

    position: int
    last_fact: str
    last_fact_position: int
    facts: int
    """The number of events of the case that count."""
    damaged: str | None
    """The first event that cannot be read, or cannot have happened there, and why. It and all later events do not count."""


class GoodsLine(Model):
    """A line of the order that the subject is about: what was bought, and the state of its units."""

    line_id: str
    sku: str
    description: str | None
    unit_price: str
    quantity: int
    tax: str
    final_sale: bool
    fates: tuple[tuple[str, int], ...]
    """State in words → units, such as ``delivered``; only states with units."""


class LifecycleName(Model):
    """The lifecycle of one order, return, label, refund or claim."""

    lifecycle: Lifecycle
    name: str
    of: str | None = None
    """The return of a label; the id of a label is unique only there."""


class Move(LifecycleName):
    """The effect of an event on a lifecycle; ``before`` is ``None`` for its first event."""

    before: str | None
    after: str


class EventEntry(Model):
    """An event on the timeline."""

    kind: Literal["fact"] = "fact"
    event: str
    """Stream and version, such as ``return/R-1#3``."""
    type: str
    title: str
    occurred_at: str
    recorded_at: str
    learnt_later: str | None
    """The time from its occurrence to its recording, if it was recorded later."""
    actor: ActorView | None
    command_id: str | None
    outcome: DecisionOutcome | None
    """The outcome, if the event is a decision."""
    before: str | None
    after: str
    moves: tuple[Move, ...]
    """Every lifecycle that the event belongs to; a note moves none."""
    details: dict[str, JsonValue]
    background: bool
    """Whether it is an event of the order on which the subject rests."""
    focus: bool
    """Whether it belongs to the refund in question."""


class DeadlineEntry(Model):
    """A deadline that an event set, and its state at the moment of the report."""

    kind: Literal["deadline"] = "deadline"
    at: str
    inclusive: bool
    """Whether the instant itself is in time."""
    title: str
    clause: str
    state: DeadlineState
    note: str | None
    event: str
    """The event that set it."""
    ahead: bool
    """Whether the instant is still to come."""


class LifecycleStep(Model):
    """An event on the path through a lifecycle, numbered from 1."""

    number: int
    event: str
    type: str
    title: str
    before: str | None
    after: str
    occurred_at: str


class LifecyclePath(LifecycleName):
    """The path through one lifecycle."""

    state: str
    """The state by the recorded events."""
    by_the_clock: str | None
    """The state that the passing of time has brought since, which no event records yet."""
    steps: tuple[LifecycleStep, ...]


class OverrideEntry(Model):
    """A clause that was set aside, and the rulings that took account of it."""

    event: str
    clause: str
    quote: str
    reason: str
    approved_by: str
    granted_at: str
    actor: ActorView | None
    lines: tuple[str, ...]
    """The lines it is for; empty: all lines."""
    expires_at: str | None
    """The exclusive end of its life."""
    once: bool
    """Whether the first accepted decision that cites it uses it up."""
    used_by: tuple[str, ...]
    """The decisions whose rulings cite it, accepted or declined."""
    used_up_by: str | None
    """The accepted decision that used it up; only a decision that continues that one may cite it again."""


class RulingEntry(Model):
    """A decision with every clause it weighed."""

    event: str
    type: str
    title: str
    outcome: DecisionOutcome
    decided_at: str
    actor: ActorView | None
    policy: PolicyStamp
    clauses: tuple[ClauseView, ...]
    background: bool
    focus: bool


class SumRow(Model):
    """A row of a sum, with a signed amount."""

    what: str
    amount: str
    because: str | None = None


class RefundSheet(RefundView):
    """A refund as a sum that can be added up: both the ``rows`` and the tenders add up to ``total``."""

    rows: tuple[SumRow, ...]
    methods: tuple[str, ...]
    """The method of payment of each tender."""
    focus: bool


class NothingDue(Model):
    """The reasons why nothing is owed yet for a return, an order or a claim."""

    for_: SubjectView = Field(alias="for")
    reasons: tuple[str, ...]


class Money(Model):
    """Refunds that were requested or are due, and the balance of every payment of the order."""

    currency: str
    sheets: tuple[RefundSheet, ...]
    nothing_due: tuple[NothingDue, ...]
    payments: tuple[LedgerEntry, ...]
    total: MoneyView
    """All payments together."""


class Open(Model):
    """The tasks that wait for somebody, and the deadlines to come, the earliest first."""

    work: tuple[WorkItem, ...]
    deadlines: tuple[DeadlineEntry, ...]


class Report(Model):
    """The audit report of one subject at one moment."""

    subject: str
    kind: Literal["order", "return", "claim", "refund"]
    id: str
    order_id: str
    pays_for: str | None
    """The stream that a refund pays for."""
    state: str
    customer_id: str
    customer_name: str | None
    customer_email: str | None
    generated_at: str
    moment: str
    """The instant at which everything is judged: ``as_of``, or else the instant at which the report was made."""
    as_of: str | None
    known_at: str | None
    policy: PolicyStamp
    store: StorePosition
    goods: tuple[GoodsLine, ...]
    timeline: tuple[EventEntry | DeadlineEntry, ...]
    """Events in the order of recording, each deadline before the first event recorded after it; deadlines to come last."""
    lifecycles: tuple[LifecyclePath, ...]
    overrides: tuple[OverrideEntry, ...]
    rulings: tuple[RulingEntry, ...]
    money: Money
    open: Open
    look_alikes: tuple[LookAlike, ...] = ()
    """Ids in this report that look the same but differ."""

    @property
    def events(self) -> tuple[EventEntry, ...]:
        """The events of the timeline."""
        return tuple(entry for entry in self.timeline if isinstance(entry, EventEntry))

    @property
    def deadlines(self) -> tuple[DeadlineEntry, ...]:
        """The deadlines of the timeline."""
        return tuple(entry for entry in self.timeline if isinstance(entry, DeadlineEntry))

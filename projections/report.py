"""What an audit report holds: all that is known of an order, a return, a claim or a refund, and the words for it.

The content only: :mod:`returnable.projections.reporting` makes it from the facts, and how a page or a letter looks is
decided elsewhere. Instants are RFC 3339 with the offset of the policy's zone, money is a decimal string of the order's
currency.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from pydantic import JsonValue

from returnable.domain.fields import Model
from returnable.domain.outcome import ClauseView
from returnable.domain.reasons import is_instant
from returnable.domain.wording import duration_in_words
from returnable.projections.lookalikes import LookAlike
from returnable.projections.views import ActorView, LedgerEntry, MoneyView, SubjectView, TenderView, WorkItem

# ---- the content ----------------------------------------------------------------------------------------------------


class PolicyStamp(Model):
    """What the decisions were judged by, as pinned."""

    id: str
    version: str
    sha256: str
    calendar: str
    zone: str
    tzdata: str | None = None
    engine: str

    @property
    def zone_and_data(self) -> str:
        """The zone, and the release of the time zone database where it was recorded."""
        return self.zone if self.tzdata is None else f"{self.zone} (tzdata {self.tzdata})"


class StorePosition(Model):
    """How far the store had come: the position of its last fact, and the last fact of the case that counts."""

    position: int
    last_fact: str
    last_fact_position: int
    facts: int
    """How many facts of the case count."""
    damaged: str | None
    """The fact that cannot be read, or cannot have happened where it stands, and why: nothing from there on counts."""


class GoodsLine(Model):
    """A line of the order as far as the subject is about it: what was bought, and what became of how many units."""

    line_id: str
    sku: str
    description: str | None
    unit_price: str
    quantity: int
    tax: str
    final_sale: bool
    fates: tuple[tuple[str, int], ...]
    """In words → units: ``delivered`` and so on; only what there is."""


class Move(Model):
    """What a fact did to a lifecycle: ``before`` is ``None`` where it began."""

    lifecycle: Literal["order", "return", "label", "refund", "claim"]
    name: str
    of: str | None = None
    """The return of a label, whose id is unique only there."""
    before: str | None
    after: str


class FactEntry(Model):
    """A fact on the timeline."""

    kind: Literal["fact"] = "fact"
    event: str
    """Stream and version, such as ``return/R-1#3``."""
    type: str
    title: str
    occurred_at: str
    recorded_at: str
    learnt_later: str | None
    """How long after it happened this was learnt, where that was later."""
    actor: ActorView | None
    command_id: str | None
    outcome: Literal["accepted", "declined"] | None
    """How the policy judged, where the fact is a decision."""
    before: str | None
    after: str
    moves: tuple[Move, ...]
    """Every lifecycle the fact is an event of; notes move none."""
    details: dict[str, JsonValue]
    background: bool
    """It stands in the stream of the order, and the subject rests on it."""
    focus: bool
    """It belongs to the refund that was asked about."""


class DeadlineEntry(Model):
    """A deadline that comes from a fact, and how it stands at the moment of the report.

    ``met``: done in time. ``missed``: not done, or done too late. ``passed``: an opportunity nobody used. ``pending``: still
    to come. ``lifted``: it no longer runs.
    """

    kind: Literal["deadline"] = "deadline"
    at: str
    inclusive: bool
    """Whether the instant itself is still in time."""
    title: str
    clause: str
    state: Literal["met", "missed", "passed", "pending", "lifted"]
    note: str | None
    event: str
    """The fact that gave it."""
    ahead: bool
    """Whether the instant is still to come."""


class LifecycleStep(Model):
    """A fact on the way through a lifecycle, numbered from 1."""

    number: int
    event: str
    type: str
    title: str
    before: str | None
    after: str
    occurred_at: str


class LifecyclePath(Model):
    """The way through one lifecycle."""

    lifecycle: Literal["order", "return", "label", "refund", "claim"]
    name: str
    of: str | None
    """The return of a label, whose id is unique only there."""
    state: str
    """Where the facts leave it."""
    by_the_clock: str | None
    """Where the passing of time has brought it since, with no fact that says so."""
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
    used_by: tuple[str, ...]


class RulingEntry(Model):
    """A decision with every clause it weighed."""

    event: str
    type: str
    title: str
    outcome: Literal["accepted", "declined"]
    decided_at: str
    actor: ActorView | None
    policy: PolicyStamp
    clauses: tuple[ClauseView, ...]
    background: bool
    focus: bool


class SumRow(Model):
    """A step of a sum: what, and how much (signed)."""

    what: str
    amount: str
    because: str | None = None


class RefundSheet(Model):
    """A refund as a sum that can be added up: the ``rows`` come to ``total``, and so do the tenders."""

    refund_id: str | None
    """``None``: it is due and was not asked for yet."""
    status: Literal["due", "requested", "refunded", "failed"]
    for_: SubjectView
    currency: str
    rows: tuple[SumRow, ...]
    total: str
    tenders: tuple[TenderView, ...]
    methods: tuple[str, ...]
    """How each of the tenders' payments was made."""
    issued_at: str | None
    expected_between: tuple[str, str] | None
    overdue: bool
    focus: bool


class NothingDue(Model):
    """Why nothing is owed yet for a return, an order or a claim."""

    for_: SubjectView
    reasons: tuple[str, ...]


class Money(Model):
    """Refunds, what is due, and what became of every payment of the order."""

    currency: str
    sheets: tuple[RefundSheet, ...]
    nothing_due: tuple[NothingDue, ...]
    payments: tuple[LedgerEntry, ...]
    total: MoneyView
    """All payments together."""


class Open(Model):
    """What is not finished: what waits for somebody, and the deadlines to come, the earliest first."""

    work: tuple[WorkItem, ...]
    deadlines: tuple[DeadlineEntry, ...]


class Report(Model):
    """The audit report of one subject at one moment."""

    subject: str
    kind: Literal["order", "return", "claim", "refund"]
    id: str
    order_id: str
    pays_for: str | None
    """The stream a refund pays for."""
    state: str
    customer_id: str
    customer_name: str | None
    customer_email: str | None
    generated_at: str
    moment: str
    """The instant at which everything is judged: ``as_of``, or when the report was made."""
    as_of: str | None
    known_at: str | None
    policy: PolicyStamp
    store: StorePosition
    goods: tuple[GoodsLine, ...]
    timeline: tuple[FactEntry | DeadlineEntry, ...]
    """Facts in the order in which they were recorded, each deadline before the first fact recorded after it; what is
    still ahead stands at the end."""
    lifecycles: tuple[LifecyclePath, ...]
    overrides: tuple[OverrideEntry, ...]
    rulings: tuple[RulingEntry, ...]
    money: Money
    open: Open
    look_alikes: tuple[LookAlike, ...] = ()
    """Ids in this report that look the same though they differ."""

    @property
    def events(self) -> tuple[FactEntry, ...]:
        """The facts of the timeline."""
        return tuple(entry for entry in self.timeline if isinstance(entry, FactEntry))

    @property
    def deadlines(self) -> tuple[DeadlineEntry, ...]:
        """The deadlines of the timeline."""
        return tuple(entry for entry in self.timeline if isinstance(entry, DeadlineEntry))


# ---- words ----------------------------------------------------------------------------------------------------------


def spoken(instant: str, tz: ZoneInfo, whole_seconds: bool = False) -> str:
    """An instant for people: weekday, date, time, abbreviation of the zone and offset; ``whole_seconds`` leaves out what is
    below a second.

    >>> from returnable.domain.calendar import zone
    >>> spoken("2026-03-02T10:00:00-05:00", zone("America/New_York"))
    'Mon 2026-03-02 10:00:00 EST (-05:00)'
    """
    local = datetime.fromisoformat(instant).astimezone(tz)
    clock = f"{local:%H:%M:%S.%f}" if local.microsecond and not whole_seconds else f"{local:%H:%M:%S}"
    name, offset = f"{local:%Z}", f"{local:%z}"
    offset = f"{offset[:3]}:{offset[3:5]}"
    named = f"{name} ({offset})" if name.isalpha() else offset
    return f"{local:%a %Y-%m-%d} {clock} {named}"


def words(name: str) -> str:
    """A state, a key or a kind of work in words.

    >>> words("in_transit"), words("margin_seconds")
    ('in transit', 'margin')
    """
    return name.removesuffix("_seconds").replace("_", " ")


def spelt(values: Mapping[str, JsonValue], tz: ZoneInfo) -> list[tuple[str, str]]:
    """What a fact or a finding says, as names and values for people; lists of structures take a row for each element.

    >>> from returnable.domain.calendar import zone
    >>> spelt({"channel": "portal", "lines": [{"line_id": "1", "in_time": True}]}, zone("UTC"))
    [('channel', 'portal'), ('line', 'line 1, in time yes')]
    """
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            rows.extend((words(key).removesuffix("s"), _in_words(key, entry, tz)) for entry in value)
        else:
            rows.append((words(key), _in_words(key, value, tz)))
    return rows


def at_a_glance(report: Report) -> list[tuple[str, str, str]]:
    """What matters first: what, how much, and whether that is ``good``, ``bad``, to be watched (``warn``) or neither."""
    declined = sum(ruling.outcome == "declined" for ruling in report.rulings)
    missed = sum(deadline.state == "missed" for deadline in report.deadlines)
    later = sum(event.learnt_later is not None for event in report.events)
    money, work = report.money, len(report.open.work)
    return [
        ("facts shown", str(len(report.events)), ""),
        ("decisions accepted", str(len(report.rulings) - declined), ""),
        ("decisions declined", str(declined), "bad" if declined else ""),
        ("clauses set aside", str(len(report.overrides)), "warn" if report.overrides else ""),
        ("deadlines missed", str(missed), "bad" if missed else ""),
        ("facts learnt later", str(later), "warn" if later else ""),
        ("refunded of the order", f"{money.total.refunded} {money.currency}", ""),
        ("waiting for somebody", str(work), "warn" if work else ""),
    ]


def _in_words(key: str, value: JsonValue, tz: ZoneInfo) -> str:
    if isinstance(value, dict):
        return _structure(value, tz)
    if isinstance(value, list):
        return "; ".join(_in_words(key, entry, tz) for entry in value) or "none"
    if key == "margin_seconds" and isinstance(value, int | float):
        return f"{duration_in_words(value)} {'left' if value > 0 else 'late'}" if value else "none left"
    if isinstance(value, str) and is_instant(key):
        return spoken(value, tz)
    if value is None:
        return "none"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _structure(values: Mapping[str, JsonValue], tz: ZoneInfo) -> str:
    """A line, a parcel's share of it, a payment, or anything else, in a row of words.

    >>> from returnable.domain.calendar import zone
    >>> parcels: list[JsonValue] = [{"parcel_id": "P-1", "quantity": 2}]
    >>> _structure({"line_id": "1", "quantity": 2, "parcels": parcels, "accepted": True}, zone("UTC"))
    '2 of line 1 (2 in parcel P-1), accepted yes'
    """
    rest = dict(values)
    said: list[str] = []
    count = rest.get("quantity")
    if "line_id" in rest:
        said.append(f"line {rest.pop('line_id')}" if count is None else f"{count} of line {rest.pop('line_id')}")
    elif "parcel_id" in rest and count is not None:
        said.append(f"{count} in parcel {rest.pop('parcel_id')}")
    elif rest.keys() == {"quantity"}:
        said.append(f"{count} not delivered")
    elif "payment_id" in rest and "amount" in rest:
        method = f" ({rest.pop('method')})" if "method" in rest else ""
        said.append(f"{rest.pop('amount')} by {rest.pop('payment_id')}{method}")
    if said:
        rest.pop("quantity", None)
    parcels = rest.pop("parcels", None)
    if said and parcels:
        said[0] += f" ({_in_words('parcels', parcels, tz)})"
    return ", ".join([*said, *(f"{words(name)} {_in_words(name, value, tz)}" for name, value in rest.items())])

"""What a deadline is, and how the windows of a policy become instants.

The instant of a new deadline follows from the clause, the zone and the calendar. It is recorded, and then the record counts:
a later time zone database or holiday table moves no deadline that was given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal, NamedTuple

from returnable.domain.calendar import A_MOMENT, ONE_DAY, first_instant, last_day, window_end
from returnable.domain.events import Event, RefundRequested, ReturnAuthorized
from returnable.domain.fields import WorkKind
from returnable.domain.policy import INCLUSIVE, DayCounted, Policy


class Happened(NamedTuple):
    """When something happened in the world, and the version of its event in the stream."""

    at: datetime
    version: int


class Anchor(NamedTuple):
    """What a deadline is counted from: an event, its instant, and its name: ``the delivery of parcel P-1``."""

    event: str
    at: datetime
    what: str


class Settlement(NamedTuple):
    """How a deadline ended, and by which event.

    ``met``: done in time. ``missed``: done, but too late. ``lifted``: the deadline no longer applied.
    """

    at: datetime
    event: str
    how: Literal["met", "missed", "lifted"]
    what: str
    """What happened, in words: ``handed over``."""
    refused: bool = False
    """Whether the request in that event was declined."""


class Deadline(NamedTuple):
    """A deadline that an event set; :func:`returnable.domain.timetable.deadlines_of` returns those of a case."""

    clause: str
    name: str
    """The field in which events and views show it: ``void_at``."""
    subject: str
    """The order, return, claim or refund that it is about: ``return/R-1``."""
    part: str
    """Which part of the subject: ``label L-1``, ``line 1 in parcel P-1``; empty where the subject has one deadline."""
    at: datetime
    anchors: tuple[Anchor, ...]
    """What it may be counted from, which the policy decides. The last anchor set it."""
    title: str
    """What happens at the deadline, in words."""
    awaited: str
    """What it waits for, in words: ``handed over``."""
    open: bool
    """Whether something still depends on it."""
    settled: Settlement | None = None
    lapse: Callable[..., Event] | None = None
    """The event to record once it has passed; ``None`` where there is none, or where it is recorded."""
    lapsed_by: str | None = None
    """The recorded event that says it passed."""
    task: WorkKind | None = None
    """The task that it puts on the worklist while it is open."""
    task_waits: Literal["before", "after", "throughout"] = "throughout"
    """Whether the task waits before the deadline passes, after that, or both. Where it waits after that, it is overdue."""
    optional: bool = False
    """Whether it ends an opportunity, so that nobody fails by letting it pass."""

    @property
    def set_by(self) -> str:
        """The event that set it."""
        return self.anchors[-1].event

    @property
    def stream(self) -> str:
        """The stream of that event, in which the passing is recorded, too."""
        return self.set_by.rpartition("#")[0]

    @property
    def inclusive(self) -> bool:
        """Whether the instant itself is still in time."""
        return self.clause in INCLUSIVE

    @property
    def passes_at(self) -> datetime:
        """The first instant at which it has passed."""
        return self.at + A_MOMENT if self.inclusive else self.at

    def passed(self, now: datetime) -> bool:
        """Whether it is too late."""
        return passed(self.clause, self.at, now)


def passed(clause: str, at: datetime, now: datetime) -> bool:
    """Whether it is too late for what the clause allows until ``at``."""
    return now > at if clause in INCLUSIVE else now >= at


@dataclass(frozen=True, slots=True)
class RefundTiming:
    """The first and last local day on which a refund is expected, and the instant from which it is overdue."""

    expected_from: date
    expected_to: date
    overdue_at: datetime


class Deadlines:
    """Resolves the windows of a policy; or, when a decision is made again, reads them from the event that recorded it."""

    __slots__ = ("_policy", "_recorded")

    def __init__(self, policy: Policy, recorded: Event | None = None) -> None:
        self._policy = policy
        self._recorded = recorded

    def end(self, clause: DayCounted, anchor: datetime, name: str) -> datetime:
        """The exclusive end of the days that the clause counts from the anchor; events record it in the field ``name``."""
        recorded: datetime | None = getattr(self._recorded, name, None)
        return recorded or window_end(anchor, *clause.span, self._policy.zone, self._policy.days)

    def of_reminder(self, authorized_at: datetime) -> datetime | None:
        """From when on an unsent return is on the worklist; ``None`` where the policy names no time."""
        recorded, policy = self._recorded, self._policy
        if isinstance(recorded, ReturnAuthorized):
            return recorded.remind_at
        days = policy.clauses.returns_ship_by.unsent_after_days
        return None if days is None else window_end(authorized_at, days, "calendar", policy.zone, policy.days)

    def of_refund(self, issued_at: datetime) -> RefundTiming:
        """When a refund issued then is expected (``returns.refund_timing``)."""
        recorded, policy = self._recorded, self._policy
        if isinstance(recorded, RefundRequested):
            return RefundTiming(recorded.expected_from, recorded.expected_to, recorded.overdue_at)
        counts = policy.clauses.returns_refund_timing.business_days
        first, last = (last_day(issued_at, count, "business", policy.zone, policy.days) for count in counts)
        return RefundTiming(first, last, first_instant(last + ONE_DAY, policy.zone))

"""What every decision takes and returns: the context, the clauses as they are weighed, and the result."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypedDict

from returnable.domain.aggregate import Aggregate
from returnable.domain.calendar import ZONE_DATA
from returnable.domain.deadlines import Deadlines
from returnable.domain.events import Event, ExceptionRaised, Pins, Who
from returnable.domain.policy import Policy
from returnable.domain.ports import Recorded, ReservedId
from returnable.domain.ruling import ClauseResult, GrantedOverride, Grounds, Verdict


class Weighing:
    """Weighs clause after clause under one policy. A clause with an override does not fail.

    ``overrides`` are those that the decision may cite, the first before the others; ``lines`` those it is about.
    """

    def __init__(self, policy: Policy, overrides: Sequence[GrantedOverride] = (), lines: Collection[str] = ()) -> None:
        self.policy = policy
        self._overrides = overrides
        self._lines = lines
        self.findings: list[ClauseResult] = []

    @property
    def allowed(self) -> bool:
        """Whether nothing failed so far."""
        return all(finding.verdict != "fail" for finding in self.findings)

    def weigh(
        self,
        clause: str,
        holds: bool | None,
        grounds: Grounds,
        failing: Collection[str] | None = None,
        override: GrantedOverride | None = None,
    ) -> Verdict:
        """Judge a clause and add the verdict to the ruling; ``holds`` is ``None`` where the clause does not apply.

        ``failing`` are the lines that fail, where the clause weighs line by line. ``override``: a person's decision for this
        case alone, which sets the clause aside.
        """
        verdict: Verdict
        if not self.policy.clause(clause).applies:
            verdict = "not_applicable"
            grounds["applies"] = False
        elif holds is None:
            verdict = "not_applicable"
        elif holds:
            verdict = "pass"
        else:
            override = override or self.override(clause, failing)
            verdict = "overridden" if override else "fail"
            if override:
                grounds["override"] = override.grounds()
        self.findings.append(ClauseResult.model_construct(clause=clause, verdict=verdict, grounds=grounds))
        return verdict

    def overridden(self, clause: str) -> bool:
        """Whether an override sets the clause aside for all lines of the decision."""
        return self.override(clause) is not None

    def override(
        self, clause: str, failing: Collection[str] | None = None, *, some: bool = False
    ) -> GrantedOverride | None:
        """The override of a clause that is for all ``failing`` lines (default: those of the decision), or for ``some``."""
        if not self._overrides:
            return None
        lines = failing or self._lines
        enough = any if some else all
        return next(
            (
                each
                for each in self._overrides
                if each.clause == clause and enough(each.covers((line_id,)) for line_id in lines)
            ),
            None,
        )

    @property
    def ruling(self) -> tuple[ClauseResult, ...]:
        """The findings as a decision keeps them."""
        return tuple(self.findings)


class Envelope(TypedDict):
    """The fields that every event of one command shares."""

    occurred_at: datetime
    recorded_at: datetime
    actor: Who | None
    command_id: str | None


@dataclass(frozen=True, slots=True)
class DecisionContext:
    """The instant of a decision, who asked, and the policy it is judged by. Nothing in the domain reads a clock."""

    at: datetime
    policy: Policy
    actor: Who | None = None
    command_id: str | None = None
    recorded: Event | None = None
    """The event that recorded a decision which is made again. The deadlines in it hold, however they were computed."""
    tzdata: str | None = ZONE_DATA
    """The release of the time zone database that resolves the deadlines; the recorded one for a decision made again."""

    @property
    def pins(self) -> Pins:
        """What the decision is judged by."""
        pins = self.policy.pins
        return pins if pins.tzdata == self.tzdata else pins.model_copy(update={"tzdata": self.tzdata})

    @property
    def deadlines(self) -> Deadlines:
        """Where the windows of the policy end."""
        return Deadlines(self.policy, self.recorded)

    def envelope(self, occurred_at: datetime | None = None) -> Envelope:
        """The shared fields of an event that occurred then (default: now)."""
        return {
            "occurred_at": occurred_at if occurred_at is not None else self.at,
            "recorded_at": self.at,
            "actor": self.actor,
            "command_id": self.command_id,
        }

    def decide(
        self,
        stream: str,
        weighing: Weighing,
        verdict: type[Event],
        *,
        before: Iterable[Event] = (),
        occurred_at: datetime | None = None,
        reserved_ids: Iterable[ReservedId] = (),
        **fields: Any,
    ) -> DecisionResult:
        """The result of a command that was weighed: the events ``before``, then the verdict with its ruling.

        ``fields`` are those of the verdict besides its envelope, its pins and its ruling.
        """
        judged: dict[str, Any] = {**self.envelope(occurred_at), "pins": self.pins, "ruling": weighing.ruling}
        events = [(stream, event) for event in (*before, verdict(**judged, **fields))]
        return DecisionResult(
            "declined" if verdict.declines else "accepted", events, weighing.ruling, list(reserved_ids)
        )

    def record(
        self, stream: str, event: type[Event], occurred_at: datetime | None = None, **fields: Any
    ) -> DecisionResult:
        """The result of a command that no clause judges: one event."""
        return DecisionResult(events=[(stream, event(**self.envelope(occurred_at), **fields))])

    def fact(
        self, stream: str, event: Event, reasons: Sequence[str] = (), reserved_ids: Iterable[ReservedId] = ()
    ) -> DecisionResult:
        """The result of a report of what happened: the event, and an exception where it contradicts what is known.

        ``reasons`` say what it contradicts.
        """
        return DecisionResult(events=[(stream, event)], reserved_ids=list(reserved_ids)).disputed(self, reasons)

    def weighing(
        self,
        decision: type[Event],
        order: Aggregate,
        about: Aggregate | None = None,
        lines: Collection[str] | None = None,
    ) -> Weighing:
        """An empty ruling under this policy, with the overrides that hold for it.

        ``decision``: the event if it is accepted. It is ``about`` a return or claim of the order, or the order itself, and
        about these ``lines``, by default all of them. An override for the return or claim comes before one for the order, and
        a later one before an earlier one.
        """
        about = about or order
        granted = about.overrides if about is order else (*order.overrides, *about.overrides)
        if not granted:
            return Weighing(self.policy)
        name, continues = decision.__name__, decision.continues
        holding = [each for each in reversed(granted) if each.holds(self.at, about.stream, name, continues)]
        return Weighing(self.policy, holding, about.line_ids if lines is None else lines)


@dataclass(slots=True)
class DecisionResult:
    """The result of a command: its events with their streams, the ruling, and the ids it takes."""

    outcome: Literal["accepted", "declined"] = "accepted"
    events: list[tuple[str, Event]] = field(default_factory=list)
    ruling: tuple[ClauseResult, ...] | None = None
    reserved_ids: list[ReservedId] = field(default_factory=list)
    begun_under: Policy | None = None
    """The policy of a new case; the store may not keep it yet."""
    free: list[ReservedId] = field(default_factory=list)
    """Ids that the command does not take, although it is impossible where they exist already."""
    counted: Recorded | None = None
    """The event in which a refusal is counted, where the refusal itself records no events."""

    def disputed(self, now: DecisionContext, reasons: Sequence[str]) -> DecisionResult:
        """The same, with an exception where its first event contradicts what is known."""
        if reasons:
            self.events.append((self.events[0][0], ExceptionRaised(**now.envelope(), reasons=tuple(reasons))))
        return self

"""The outcome of a command, and the public form of outcomes, events and rulings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, JsonValue

from returnable.domain.cached import cached_property
from returnable.domain.calendar import zone
from returnable.domain.errors import ErrorCode, HistoryBroken, Impossible, short
from returnable.domain.events import Event
from returnable.domain.fields import Model
from returnable.domain.policy import Policy
from returnable.domain.reasons import because, localised
from returnable.domain.ruling import ClauseResult, Verdict


class EventView(Model):
    """A recorded event: its stream and version, and when it happened and was recorded (in the policy's zone)."""

    stream: str
    version: int
    type: str
    occurred_at: str
    recorded_at: str


class PolicyRef(Model):
    """The policy that judged."""

    id: str
    version: str
    sha256: str


class ClauseView(Model):
    """One clause of a ruling."""

    clause: str
    verdict: Verdict
    quote: str
    """The merchant's own words."""
    because: str
    """The reason in plain English."""
    facts: dict[str, JsonValue]
    """What the verdict rests on, with the deadline and the margin where there is one."""


class RulingView(Model):
    """A decision with every clause it weighed."""

    allowed: bool
    policy: PolicyRef
    clauses: tuple[ClauseView, ...]


class ErrorView(Model):
    """Why a command could not be carried out."""

    code: ErrorCode
    message: str
    field: str | None = None
    state: str | None = None
    allowed: tuple[str, ...] | None = None


class OutcomeView(Model):
    """The outcome of a command, as ``play`` prints it."""

    line: int | None = Field(default=None, description="the line of the scenario")
    at: str
    command: str | None
    outcome: Literal["accepted", "declined", "error"]
    events: tuple[EventView, ...] = ()
    ruling: RulingView | None = None
    error: ErrorView | None = None


def in_zone(instant: datetime, tz: ZoneInfo) -> str:
    """RFC 3339 in that zone, with its offset."""
    return instant.astimezone(tz).isoformat()


def clause_views(findings: Iterable[ClauseResult], policy: Policy, *, asked: bool = True) -> tuple[ClauseView, ...]:
    """Clause results with the words of the policy and the reasons, their instants in its zone.

    ``asked=False``: nobody made the request yet, so the reasons are in the conditional. Raises
    :class:`~returnable.domain.errors.HistoryBroken` for a stored result that is damaged.
    """
    tz = zone(policy.zone)
    return tuple(_clause_view(finding, policy, tz, asked) for finding in findings)


def _clause_view(finding: ClauseResult, policy: Policy, tz: ZoneInfo, asked: bool) -> ClauseView:
    try:
        return ClauseView(
            clause=finding.clause,
            verdict=finding.verdict,
            quote=policy.clause(finding.clause).quote,
            because=because(finding, tz, asked=asked),
            facts=localised(finding.grounds, tz),
        )
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        cause = f"{type(error).__name__}: {short(str(error))}"
        raise HistoryBroken(f"the result of clause {short(finding.clause)} is damaged ({cause})") from error


def ruling_view(findings: Sequence[ClauseResult], policy: Policy, allowed: bool) -> RulingView:
    """The public form of a ruling."""
    reference = PolicyRef(id=policy.id, version=policy.version, sha256=policy.sha256)
    return RulingView(allowed=allowed, policy=reference, clauses=clause_views(findings, policy))


@dataclass(frozen=True)
class Outcome:
    """The outcome of a command. Accepted and declined commands are recorded; impossible ones raise instead.

    ``recorded_events`` are the events with their stream and version. ``replayed``: the command id was known, and this is the
    stored outcome.
    """

    command: str
    at: datetime
    outcome: Literal["accepted", "declined"]
    recorded_events: tuple[tuple[str, int, Event], ...]
    findings: tuple[ClauseResult, ...] | None
    policy: Policy
    replayed: bool = False

    @property
    def accepted(self) -> bool:
        """Whether the policy said yes."""
        return self.outcome == "accepted"

    @property
    def failed(self) -> tuple[str, ...]:
        """The ids of the clauses whose verdict is ``fail``."""
        return tuple(finding.clause for finding in self.findings or () if finding.verdict == "fail")

    @cached_property
    def events(self) -> tuple[EventView, ...]:
        """The recorded events."""
        tz = zone(self.policy.zone)
        return tuple(
            EventView(
                stream=stream,
                version=version,
                type=event.type,
                occurred_at=in_zone(event.occurred_at, tz),
                recorded_at=in_zone(event.recorded_at, tz),
            )
            for stream, version, event in self.recorded_events
        )

    @cached_property
    def ruling(self) -> RulingView | None:
        """Every clause that was weighed, with its quote, its reason and its grounds; ``None`` where none was."""
        if self.findings is None:
            return None
        return ruling_view(self.findings, self.policy, self.accepted)

    def view(self, line: int | None = None) -> OutcomeView:
        """The public form."""
        return OutcomeView(
            line=line,
            at=in_zone(self.at, zone(self.policy.zone)),
            command=self.command,
            outcome=self.outcome,
            events=self.events,
            ruling=self.ruling,
        )

    def as_dict(self) -> dict[str, Any]:
        """The public form as plain JSON values."""
        return self.view().model_dump(mode="json", exclude={"line"})


def error_view(error: Impossible) -> ErrorView:
    """The public form of an impossible command or question."""
    return ErrorView(
        code=error.code, message=error.message, field=error.field, state=error.state, allowed=error.allowed
    )

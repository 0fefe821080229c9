"""What every decision is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypedDict

from returnable.domain.deadlines import AsRecorded, Deadlines
from returnable.domain.errors import Impossible
from returnable.domain.events import BY_TYPE, Event, Who
from returnable.domain.fields import to_text
from returnable.domain.lifecycles import NOTHING, Table
from returnable.domain.policy import Policy
from returnable.domain.ports import Recorded, ReservedId
from returnable.domain.ruling import ClauseResult, Grounds, OverrideInForce, Verdict


class Weighing:
    """Weighs clause after clause under one policy; what an override sets aside does not fail."""

    def __init__(self, policy: Policy, asides: Iterable[OverrideInForce] = ()) -> None:
        self.policy = policy
        self._asides = {aside.clause: aside for aside in asides}
        self.findings: list[ClauseResult] = []

    @property
    def allowed(self) -> bool:
        """Whether nothing failed so far."""
        return all(finding.verdict != "fail" for finding in self.findings)

    def weigh(self, clause: str, holds: bool | None, grounds: Grounds) -> Verdict:
        """Judge a clause: ``holds`` is ``None`` where it has nothing to say. The verdict also goes on the list."""
        verdict: Verdict
        if not self.policy.clause(clause).applies:
            verdict = "not_applicable"
            grounds["applies"] = False
        elif holds is None:
            verdict = "not_applicable"
        elif holds:
            verdict = "pass"
        else:
            aside = self._asides.get(clause)
            verdict = "overridden" if aside else "fail"
            if aside:
                grounds["override"] = {
                    "approved_by": aside.approved_by,
                    "reason": aside.reason,
                    "granted_at": to_text(aside.granted_at),
                    "fact": aside.event,
                }
        self.findings.append(ClauseResult.model_construct(clause=clause, verdict=verdict, grounds=grounds))
        return verdict

    def set_aside(self, clause: str) -> bool:
        """Whether an override sets the clause aside."""
        return clause in self._asides

    @property
    def ruling(self) -> tuple[ClauseResult, ...]:
        """The findings as a decision keeps them."""
        return tuple(self.findings)


class Envelope(TypedDict):
    """The fields that every fact of one command shares."""

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
    """When a decision is made again: the fact it is recorded as. The deadlines it gave stand, however they came about."""

    @property
    def deadlines(self) -> Deadlines:
        """Where the windows of the policy end."""
        return Deadlines(self.policy) if self.recorded is None else AsRecorded(self.policy, self.recorded)

    def envelope(self, occurred_at: datetime | None = None) -> Envelope:
        """The shared fields of a fact that occurred then (default: now)."""
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
        """What a command comes to that was weighed: the fact of its verdict with the ruling, after the facts ``before`` it.

        ``fields`` are those of the fact besides its envelope, its pins and its ruling.
        """
        judged: dict[str, Any] = {**self.envelope(occurred_at), "pins": self.policy.pins, "ruling": weighing.ruling}
        events = [(stream, event) for event in (*before, verdict(**judged, **fields))]
        return DecisionResult(
            "declined" if verdict.declines else "accepted", events, weighing.ruling, list(reserved_ids)
        )

    def weighing(self, asides: Iterable[OverrideInForce] = ()) -> Weighing:
        """A fresh list of clauses under this policy."""
        return Weighing(self.policy, asides)


@dataclass(slots=True)
class DecisionResult:
    """What a command comes to: its facts with their streams, the ruling, and the ids it takes."""

    outcome: Literal["accepted", "declined"] = "accepted"
    events: list[tuple[str, Event]] = field(default_factory=list)
    ruling: tuple[ClauseResult, ...] | None = None
    reserved_ids: list[ReservedId] = field(default_factory=list)
    begun_under: Policy | None = None
    """The policy of a case that begins: the store may not keep it yet."""
    free: list[ReservedId] = field(default_factory=list)
    """Ids that the command would have taken; it is impossible where they exist, but it does not take them."""
    counted: Recorded | None = None
    """Of a refusal that records no facts: the event in which it is counted."""


def allowed_commands(table: Table, state: str) -> tuple[str, ...]:
    """The commands that the lifecycle allows in that state."""
    commands = (BY_TYPE[event].of_command for event in table.events(state))
    return tuple(dict.fromkeys(name for name in commands if name is not None))


def not_allowed(command: str, subject: str, state: str, allowed: Table | tuple[str, ...], why: str = "") -> Impossible:
    """``transition.not_allowed``: names the command, the subject, its state, and what is ``allowed`` now.

    Of a lifecycle that is what it allows in that state besides the command.
    """
    if isinstance(allowed, Table):
        allowed = tuple(name for name in allowed_commands(allowed, state) if name != command)
    now = f"allowed now: {', '.join(allowed)}" if allowed else "no further command is allowed"
    because = f" ({why})" if why else ""
    shown = "not there yet" if state == NOTHING else state
    message = f"{command}: {subject} is {shown}{because}; {now}"
    return Impossible("transition.not_allowed", message, state=state, allowed=allowed)

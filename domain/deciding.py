"""What every decision is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypedDict

from returnable.domain.deadlines import AsRecorded, Deadlines
from returnable.domain.errors import Impossible
from returnable.domain.events import BY_TYPE, Fact, Who
from returnable.domain.lifecycles import NOTHING, Table
from returnable.domain.policy import Policy
from returnable.domain.ports import Name, Recorded
from returnable.domain.ruling import Aside, Finding, Weighing


class Envelope(TypedDict):
    """The fields that every fact of one command shares."""

    occurred_at: datetime
    recorded_at: datetime
    actor: Who | None
    command_id: str | None


@dataclass(frozen=True, slots=True)
class Moment:
    """The instant of a decision, who asked, and the policy it is judged by. Nothing in the domain reads a clock."""

    at: datetime
    policy: Policy
    actor: Who | None = None
    command_id: str | None = None
    recorded: Fact | None = None
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

    def weighing(self, asides: Iterable[Aside] = ()) -> Weighing:
        """A fresh list of clauses under this policy."""
        return Weighing(self.policy, asides)


@dataclass(slots=True)
class Decided:
    """What a command comes to: its facts with their streams, the ruling, and the ids it takes."""

    outcome: Literal["accepted", "declined"] = "accepted"
    facts: list[tuple[str, Fact]] = field(default_factory=list)
    ruling: tuple[Finding, ...] | None = None
    names: list[Name] = field(default_factory=list)
    begun_under: Policy | None = None
    """The policy of a case that begins: the store may not keep it yet."""
    free: list[Name] = field(default_factory=list)
    """Ids that the command would have taken; it is impossible where they exist, but it does not take them."""
    counted: Recorded | None = None
    """Of a refusal that records no facts: the event in which it is counted."""


def allowed_commands(table: Table, state: str) -> tuple[str, ...]:
    """The commands that the lifecycle allows in that state."""
    commands = (BY_TYPE[event].of_command for event in table.events(state))
    return tuple(dict.fromkeys(name for name in commands if name is not None))


def not_allowed(
    table: Table,
    subject: str,
    state: str,
    command: str,
    why: str = "",
    less: tuple[str, ...] = (),
) -> Impossible:
    """``transition.not_allowed``: names the subject, its state, the command, and what is allowed now."""
    allowed = tuple(name for name in allowed_commands(table, state) if name != command and name not in less)
    now = ", ".join(allowed) if allowed else "nothing that moves it"
    because = f" ({why})" if why else ""
    shown = "not there yet" if state == NOTHING else state
    return Impossible(
        "transition.not_allowed",
        f"{command}: {subject} is {shown}{because}; allowed now: {now}",
        state=state,
        allowed=allowed,
    )

"""The audit view: every fact of a stream, with the state of its lifecycle before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import JsonValue
from pydantic_core import from_json, to_json

from returnable.domain.calendar import zone
from returnable.domain.case import Case, evolve
from returnable.domain.errors import HistoryBroken
from returnable.domain.events import Fact
from returnable.domain.lifecycles import NOTHING
from returnable.domain.outcome import clause_views, in_zone
from returnable.domain.policy import Policy
from returnable.domain.ports import Recorded
from returnable.domain.reasons import localised
from returnable.projections.views import ActorView, AuditEntry, AuditView

_ENVELOPE = {"occurred_at", "recorded_at", "actor", "command_id", "ruling", "pins"}


def audit_view(
    stream: str, case_id: str, recorded: Iterable[Recorded], policy: Policy, counts: Callable[[Recorded], bool]
) -> AuditView:
    """The facts of ``stream`` that count, in the order in which they were recorded; ``recorded``: all of its case."""
    case = Case(case_id)
    entries: list[AuditEntry] = []
    where = zone(policy.zone)
    for entry in recorded:
        before = state_of(case, stream)
        case = evolve(case, (entry,))
        if entry.stream != stream or not counts(entry):
            continue
        fact: Any = entry.fact
        entries.append(
            AuditEntry(
                version=entry.version,
                type=fact.type,
                occurred_at=in_zone(fact.occurred_at, where),
                recorded_at=in_zone(fact.recorded_at, where),
                actor=ActorView(role=fact.actor.role, id=fact.actor.id) if fact.actor else None,
                command_id=fact.command_id,
                clauses=clause_views(getattr(fact, "ruling", None) or (), policy),
                before=before,
                after=state_of(case, stream) or NOTHING,
                details=localised(details(fact), where),
            )
        )
    return AuditView(stream=stream, entries=tuple(entries))


def details(fact: Fact) -> dict[str, JsonValue]:
    """What the fact says besides its envelope, its pins and its ruling; money in minor units."""
    content: dict[str, JsonValue] = from_json(to_json(fact.model_dump(exclude=_ENVELOPE, exclude_none=True)))
    return content


def state_of(case: Case, stream: str) -> str | None:
    """The state of the lifecycle of a stream; ``None`` before its first fact."""
    try:
        status = case.stream_of(stream).status
    except HistoryBroken:
        return None
    return None if status == NOTHING else status

"""The audit view: every event of a stream, with the state of its lifecycle before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import JsonValue
from pydantic_core import from_json, to_json

from returnable.domain.calendar import zone
from returnable.domain.case import Case, counts, steps
from returnable.domain.events import Event, RefusalsCounted
from returnable.domain.fields import to_text
from returnable.domain.marks import Mark
from returnable.domain.money import to_major
from returnable.domain.outcome import clause_views, in_zone
from returnable.domain.policy import Policy
from returnable.domain.ports import Counted, EventStore, Recorded
from returnable.domain.reasons import localised
from returnable.domain.ruling import ClauseResult
from returnable.projections.damage import explained_damage
from returnable.projections.marked import marks
from returnable.projections.views import ActorView, AuditEntry, AuditView

_ENVELOPE = {"occurred_at", "recorded_at", "actor", "command_id", "ruling", "pins"}


def refusals_counted(
    store: EventStore, recorded: Sequence[Recorded], as_of: datetime | None, known_at: datetime | None
) -> Mapping[int, Counted]:
    """Place of an event in its case → the refusals that were counted in it; ``recorded``: the events of one case.

    The store keeps only the number and the last refusal. As of an instant before the last refusal the event is left out.
    """
    if not any(isinstance(entry.event, RefusalsCounted) for entry in recorded):
        return {}
    upto = min((instant for instant in (as_of, known_at) if instant is not None), default=None)
    found = store.refusals.of(recorded[0].case_id)
    return {place: one for place, one in found.items() if upto is None or one.last_at <= upto}


def audit_view(
    stream: str,
    recorded: Sequence[Recorded],
    policy: Policy,
    as_of: datetime | None,
    known_at: datetime | None,
    counted: Mapping[int, Counted],
) -> AuditView:
    """The events of ``stream`` that count, in the order in which they were recorded; ``recorded``: the whole case.

    ``counted``: the counted refusals of the case, from :func:`refusals_counted`.
    """
    case, tz = Case(recorded[0].case_id), zone(policy.zone)
    entries: list[AuditEntry] = []
    for step in steps(case, recorded):
        entry, event = step.entry, step.entry.event
        if entry.stream != stream or not counts(entry, as_of, known_at):
            continue
        with explained_damage(entry.event_id):
            entries.append(
                AuditEntry(
                    version=entry.version,
                    **envelope(event, tz),
                    clauses=clause_views(event.ruling or (), policy),
                    before=step.before,
                    after=step.after,
                    details=localised(details(event, case.currency, counted.get(entry.case_seq)), tz),
                )
            )
    return AuditView(stream=stream, entries=tuple(entries))


def envelope(event: Event, tz: ZoneInfo) -> dict[str, Any]:
    """Type, times, actor and command id of an event, under the names that all answers use for them."""
    return {
        "type": event.type,
        "occurred_at": in_zone(event.occurred_at, tz),
        "recorded_at": in_zone(event.recorded_at, tz),
        "actor": ActorView.of(event),
        "command_id": event.command_id,
    }


def turning_point(result: ClauseResult) -> tuple[datetime | None, float | None]:
    """The deadline that decided, or that a promise sets, and the seconds left until then.

    If lines have deadlines of their own, the ruling has the earliest.
    """
    grounds: dict[str, Any] = result.grounds
    deadline = grounds.get("deadline", grounds.get("contact_by"))
    return None if deadline is None else datetime.fromisoformat(deadline), grounds.get("margin_seconds")


def details(event: Event, currency: str, counted: Counted | None = None) -> dict[str, JsonValue]:
    """The fields of an event without its envelope, its pins and its ruling; money as decimals of ``currency``.

    ``counted`` adds how many more refusals were counted in the event, and when the last one was handled.
    """
    content: dict[str, JsonValue] = from_json(to_json(event.model_dump(exclude=_ENVELOPE, exclude_none=True)))
    if counted is not None:
        content |= {"more_times": counted.times, "last_at": to_text(counted.last_at)}
    return {key: _in_decimals(key, value, currency) for key, value in content.items()}


def _in_decimals(key: str, value: JsonValue, currency: str) -> JsonValue:
    if isinstance(value, dict):
        return {name: _in_decimals(name, entry, currency) for name, entry in value.items()}
    if isinstance(value, list):
        return [_in_decimals(key, entry, currency) for entry in value]
    return to_major(value, currency) if isinstance(value, int) and marks().get(key) is Mark.MONEY else value

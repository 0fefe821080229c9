"""The audit view: every fact of a stream, with the state of its lifecycle before and after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from pydantic import JsonValue
from pydantic_core import from_json, to_json

from returnable.domain.calendar import zone
from returnable.domain.case import Case, evolve
from returnable.domain.events import Event, RefusalsCounted
from returnable.domain.fields import to_text
from returnable.domain.lifecycles import NOTHING
from returnable.domain.marks import Mark
from returnable.domain.money import to_major
from returnable.domain.outcome import clause_views, in_zone
from returnable.domain.policy import Policy
from returnable.domain.ports import Counted, EventStore, Recorded
from returnable.domain.reasons import localised
from returnable.projections.damage import explained_damage
from returnable.projections.marked import marks
from returnable.projections.views import ActorView, AuditEntry, AuditView

_ENVELOPE = {"occurred_at", "recorded_at", "actor", "command_id", "ruling", "pins"}


def refusals_counted(
    store: EventStore, recorded: Sequence[Recorded], as_of: datetime | None, known_at: datetime | None
) -> Mapping[int, Counted]:
    """The place of an event in its case → the refusals that were counted in it; ``recorded``: the facts of one case.

    A number says nothing of the time before its last refusal, so nothing is told as of an earlier instant.
    """
    if not any(isinstance(entry.event, RefusalsCounted) for entry in recorded):
        return {}
    upto = min((instant for instant in (as_of, known_at) if instant is not None), default=None)
    found = store.refusals.of(recorded[0].case_id)
    return {place: one for place, one in found.items() if upto is None or one.last_at <= upto}


def audit_view(
    stream: str,
    case_id: str,
    recorded: Iterable[Recorded],
    policy: Policy,
    counts: Callable[[Recorded], bool],
    counted: Mapping[int, Counted],
) -> AuditView:
    """The facts of ``stream`` that count, in the order in which they were recorded; ``recorded``: all of its case.

    ``counted`` are the refusals of the case that are only counted, as :func:`refusals_counted` gives them.
    """
    case = Case(case_id)
    entries: list[AuditEntry] = []
    tz = zone(policy.zone)
    for entry in recorded:
        before = case.status_of(stream)
        case = evolve(case, (entry,))
        if entry.stream != stream or not counts(entry):
            continue
        with explained_damage(entry.event_id):
            event = entry.event
            entries.append(
                AuditEntry(
                    version=entry.version,
                    type=event.type,
                    occurred_at=in_zone(event.occurred_at, tz),
                    recorded_at=in_zone(event.recorded_at, tz),
                    actor=ActorView(role=event.actor.role, id=event.actor.id) if event.actor else None,
                    command_id=event.command_id,
                    clauses=clause_views(event.ruling or (), policy),
                    before=before,
                    after=case.status_of(stream) or NOTHING,
                    details=localised(details(event, case.order.currency, counted.get(entry.case_seq)), tz),
                )
            )
    return AuditView(stream=stream, entries=tuple(entries))


def details(event: Event, currency: str, counted: Counted | None = None) -> dict[str, JsonValue]:
    """What the fact says besides its envelope, its pins and its ruling; money as decimals of ``currency``.

    With ``counted`` also how many more refusals were counted in it, and when the last one was handled.
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

"""Deciding again: every recorded decision, from its pins, must come out as it is on record.

A command is told again from its facts and decided again on the case as it stood then, at the instant at which it was
handled, under the policy it is pinned to. The deadlines it gave are pinned, too, so that a time zone database or a
holiday table of a later day changes nothing. What comes is compared with what is on record, field by field.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from returnable.domain.calendar import ZONE_DATA
from returnable.domain.case import Case, evolve
from returnable.domain.deciding import DecisionContext
from returnable.domain.decisions import decide
from returnable.domain.events import ENGINE, Confirmed, Event, encode
from returnable.domain.fields import Model
from returnable.domain.policy import PolicyOf
from returnable.domain.ports import EventStore, Recorded
from returnable.domain.recorded_commands import RecordedCommand, is_deadline, recorded_commands
from returnable.projections.damage import CORRUPTION_ERRORS, describe
from returnable.projections.subjects import every_case


class Difference(Model):
    """A decision that does not come out as it is on record, or history that cannot be decided again."""

    event: str
    """The first fact concerned, such as ``return/R-1#2``."""
    type: str
    at: str | None
    """When the desk handled the command (UTC)."""
    differences: tuple[str, ...]
    """What differs: the place, what is on record, and what came."""


@dataclass(frozen=True, slots=True)
class Redecided:
    """What deciding a case again came to."""

    case_id: str
    commands: int
    rulings: int
    """How many of the commands were judged by the policy."""
    facts: int
    differences: tuple[Difference, ...]


def redecide_store(store: EventStore, policy_of: PolicyOf) -> Iterator[Redecided]:
    """Decide every case again, in order of case id, one at a time; ``policy`` finds a pinned policy by its hash."""
    for case_id in every_case(store):
        yield redecide_stored(store, policy_of, case_id)


def redecide_stored(store: EventStore, policy_of: PolicyOf, case_id: str, stream: str | None = None) -> Redecided:
    """Decide a case again, or only what concerns one of its streams; what cannot be read is a difference, too."""
    events, damage = store.load_until_damage(case_id)
    again = redecide(case_id, events, policy_of, stream)
    if damage is None:
        return again
    unreadable = Difference(event=damage.event_id, type="unreadable", at=None, differences=(damage.reason,))
    return Redecided(case_id, again.commands, again.rulings, again.facts, (*again.differences, unreadable))


def redecide(case_id: str, events: Sequence[Recorded], policy_of: PolicyOf, stream: str | None = None) -> Redecided:
    """Decide all commands of a case again, or with ``stream`` only those that recorded facts there."""
    case = Case(case_id)
    commands = rulings = count = 0
    found: list[Difference] = []
    try:
        for past in recorded_commands(events):
            if stream is None or any(entry.stream == stream for entry in past.entries):
                commands += 1
                rulings += past.ruling is not None
                count += len(past.entries)
                differences = tuple(_decided_otherwise(case, past, policy_of))
                if differences:
                    found.append(_difference(past.entries[0], differences))
            case = evolve(case, past.entries)
    except CORRUPTION_ERRORS as error:
        broken = next(entry for entry in events if entry.case_seq > case.seq)
        found.append(_difference(broken, (f"cannot have happened: {describe(error)}",)))
    return Redecided(case_id, commands, rulings, count, tuple(found))


def _difference(entry: Recorded, differences: tuple[str, ...]) -> Difference:
    return Difference(
        event=entry.event_id,
        type=entry.event.type,
        at=entry.event.recorded_at.isoformat(),
        differences=differences,
    )


def _decided_otherwise(case: Case, past: RecordedCommand, policy_of: PolicyOf) -> Iterator[str]:
    first = past.entries[0].event
    try:
        pinned = first if isinstance(first, Confirmed) else case.order.confirmed
        now = DecisionContext(
            past.at, policy_of(pinned.pins.sha256), first.actor, first.command_id, first, _zone_data(past)
        )
        came = decide(case, past.command, now).events
    except CORRUPTION_ERRORS as error:
        yield f"{past.fields['command']} cannot be decided again: {describe(error)}"
        return
    recorded = [(entry.stream, entry.event) for entry in past.entries]
    if is_deadline(first):  # one run records the deadlines of many cases, in the order in which they fell due
        recorded, came = sorted(recorded, key=_place), sorted(came, key=_place)
    for index in range(max(len(recorded), len(came))):
        if index >= len(came):
            yield f"{recorded[index][1].type} is on record, but does not come"
        elif index >= len(recorded):
            yield f"{came[index][1].type} comes, but is not on record"
        else:
            yield from _facts_differ(recorded[index], came[index])


def _zone_data(past: RecordedCommand) -> str | None:
    """The release of the time zone database that a command was judged by."""
    pins = next((entry.event.pins for entry in past.entries if entry.event.pins is not None), None)
    return ZONE_DATA if pins is None else pins.tzdata


def _place(entry: tuple[str, Event]) -> tuple[str, str, bytes]:
    return entry[0], entry[1].stored_as, encode(entry[1])[1]


def _facts_differ(recorded: tuple[str, Event], came: tuple[str, Event]) -> Iterator[str]:
    (stream, event), (other_stream, other) = recorded, came
    if (stream, event) == (other_stream, other):
        return
    if (stream, event.type) != (other_stream, other.type):
        yield f"{stream} {event.type} is on record, {other_stream} {other.type} comes"
        return
    engine = event.pins.engine if event.pins is not None else ENGINE
    if engine != ENGINE:
        yield f"decided by engine {engine}; this is engine {ENGINE}"
    zone_data = event.pins.tzdata if event.pins is not None else None
    if zone_data not in (None, ZONE_DATA):
        yield f"decided with the zone data of tzdata {zone_data}; this is tzdata {ZONE_DATA}"
    yield from _values_differ("", from_json(encode(event)[1]), from_json(encode(other)[1]))


def _values_differ(place: str, recorded: Any, came: Any) -> Iterator[str]:
    if isinstance(recorded, dict) and isinstance(came, dict):
        for key in [*recorded, *(key for key in came if key not in recorded)]:
            yield from _values_differ(f"{place}.{key}" if place else key, recorded.get(key), came.get(key))
    elif isinstance(recorded, list) and isinstance(came, list) and len(recorded) == len(came):
        for index, (one, other) in enumerate(zip(recorded, came, strict=True)):
            clause = f"[{one['clause']}]" if isinstance(one, dict) and "clause" in one else f"[{index}]"
            yield from _values_differ(f"{place}{clause}", one, other)
    elif recorded != came:
        yield f"{place}: on record {_shown(recorded)}, comes {_shown(came)}"


def _shown(value: Any) -> str:
    text = "nothing" if value is None else value if isinstance(value, str) else repr(value)
    return text if len(text) <= 120 else f"{text[:120]}…"

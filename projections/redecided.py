"""Decides again: every recorded decision must come out the same from its pins.

A command is rebuilt from its events. It is decided again on the case as it was then, at the instant at which it was
handled, under its pinned policy. The deadlines that it set are pinned, too, so that a later time zone database or holiday
table changes nothing. The new events are compared with the recorded ones, field by field.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic_core import from_json

from returnable.domain.calendar import ZONE_DATA
from returnable.domain.case import Case, evolve
from returnable.domain.deciding import DecisionContext
from returnable.domain.decisions import decide
from returnable.domain.events import ENGINE, ArrivalRecorded, Confirmed, Event, encode
from returnable.domain.fields import Model
from returnable.domain.policy import PolicyOf
from returnable.domain.ports import EventStore, Recorded
from returnable.domain.recorded_commands import RecordedCommand, is_deadline, recorded_commands
from returnable.projections.damage import CORRUPTION_ERRORS, describe
from returnable.projections.subjects import every_case


class Difference(Model):
    """A decision that comes out otherwise than recorded, or events that cannot be decided again."""

    event: str
    """The first event concerned, such as ``return/R-1#2``."""
    type: str
    at: str | None
    """When the desk handled the command (UTC)."""
    differences: tuple[str, ...]
    """Each difference: its place, the recorded value, and the new one."""


@dataclass(frozen=True, slots=True)
class Redecided:
    """The result of deciding a case again."""

    case_id: str
    commands: int
    rulings: int
    """How many of the commands the policy judged."""
    facts: int
    differences: tuple[Difference, ...]


def redecide_store(store: EventStore, policy_of: PolicyOf) -> Iterator[Redecided]:
    """Decide every case again, in order of case id, one at a time; ``policy_of`` finds a pinned policy by its hash."""
    for case_id in every_case(store):
        yield redecide_stored(store, policy_of, case_id)


def redecide_stored(store: EventStore, policy_of: PolicyOf, case_id: str, stream: str | None = None) -> Redecided:
    """Decide a case again, or only one of its streams; an event that cannot be read is a difference, too."""
    events, damage = store.load_until_damage(case_id)
    again = redecide(case_id, events, policy_of, stream)
    if damage is None:
        return again
    unreadable = Difference(event=damage.event_id, type="unreadable", at=None, differences=(damage.reason,))
    return replace(again, differences=(*again.differences, unreadable))


def redecide(case_id: str, events: Sequence[Recorded], policy_of: PolicyOf, stream: str | None = None) -> Redecided:
    """Decide all commands of a case again, or only those that recorded events in ``stream``."""
    case = Case(case_id)
    commands = rulings = count = 0
    found: list[Difference] = []
    try:
        for command in recorded_commands(events):
            if stream is None or any(entry.stream == stream for entry in command.entries):
                commands += 1
                rulings += command.ruling is not None
                count += len(command.entries)
                differences = tuple(_decided_otherwise(case, command, policy_of))
                if differences:
                    found.append(_difference(command.entries[0], differences))
            case = evolve(case, command.entries)
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


def _decided_otherwise(case: Case, command: RecordedCommand, policy_of: PolicyOf) -> Iterator[str]:
    first = command.entries[0].event
    judged = next((entry.event for entry in command.entries if entry.event.pins is not None), first)
    try:
        pins = first.pins if isinstance(first, Confirmed | ArrivalRecorded) else case.pins
        assert pins is not None
        now = DecisionContext(
            command.at, policy_of(pins.sha256), first.actor, first.command_id, judged, _zone_data(command)
        )
        new = decide(case, command.command, now).events
    except CORRUPTION_ERRORS as error:
        yield f"{command.fields['command']} cannot be decided again: {describe(error)}"
        return
    recorded = [(entry.stream, entry.event) for entry in command.entries]
    if is_deadline(first):  # one run records the deadlines of many cases, in the order in which they were due
        recorded, new = sorted(recorded, key=_place), sorted(new, key=_place)
    for index in range(max(len(recorded), len(new))):
        if index >= len(new):
            yield f"{recorded[index][1].type} is recorded, but is not decided now"
        elif index >= len(recorded):
            yield f"{new[index][1].type} is decided now, but is not recorded"
        else:
            yield from _events_differ(recorded[index], new[index])


def _zone_data(command: RecordedCommand) -> str | None:
    """The release of the time zone database that a command was judged by."""
    pins = next((entry.event.pins for entry in command.entries if entry.event.pins is not None), None)
    return ZONE_DATA if pins is None else pins.tzdata


def _place(entry: tuple[str, Event]) -> tuple[str, str, bytes]:
    return entry[0], entry[1].stored_as, encode(entry[1])[1]


def _events_differ(recorded: tuple[str, Event], new: tuple[str, Event]) -> Iterator[str]:
    (stream, event), (other_stream, other) = recorded, new
    if (stream, event) == (other_stream, other):
        return
    if (stream, event.type) != (other_stream, other.type):
        yield f"{stream} {event.type} is recorded, {other_stream} {other.type} is decided now"
        return
    engine = event.pins.engine if event.pins is not None else ENGINE
    if engine != ENGINE:
        yield f"decided by engine {engine}; this is engine {ENGINE}"
    zone_data = event.pins.tzdata if event.pins is not None else None
    if zone_data not in (None, ZONE_DATA):
        yield f"decided with the zone data of tzdata {zone_data}; this is tzdata {ZONE_DATA}"
    yield from _values_differ("", from_json(encode(event)[1]), from_json(encode(other)[1]))


def _values_differ(place: str, recorded: Any, new: Any) -> Iterator[str]:
    if isinstance(recorded, dict) and isinstance(new, dict):
        for key in [*recorded, *(key for key in new if key not in recorded)]:
            yield from _values_differ(f"{place}.{key}" if place else key, recorded.get(key), new.get(key))
    elif isinstance(recorded, list) and isinstance(new, list) and len(recorded) == len(new):
        for index, (one, other) in enumerate(zip(recorded, new, strict=True)):
            clause = f"[{one['clause']}]" if isinstance(one, dict) and "clause" in one else f"[{index}]"
            yield from _values_differ(f"{place}{clause}", one, other)
    elif recorded != new:
        yield f"{place}: recorded {_shown(recorded)}, now {_shown(new)}"


def _shown(value: Any) -> str:
    text = "nothing" if value is None else value if isinstance(value, str) else repr(value)
    return text if len(text) <= 120 else f"{text[:120]}…"

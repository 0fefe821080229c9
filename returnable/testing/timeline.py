"""What a failed expectation shows: the history, the clock and the deadlines on one time line, and the difference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from returnable.domain.errors import ReturnableError
from returnable.domain.events import Event
from returnable.domain.wording import instant_in_words
from returnable.testing.clock import all_edges

if TYPE_CHECKING:
    from returnable.domain.ports import Recorded
    from returnable.facade import Desk
    from returnable.projections.edges import Edge

EVENTS = 20
"""How many of the last events are shown."""
EDGES_PAST, EDGES_TO_COME = 3, 4
"""How many of the edges before and after the clock are shown."""

_NAMES = ("parcel_id", "label_id", "refund_id", "payment_id", "remedy", "clause", "cause", "own_label")


@dataclass(frozen=True, slots=True, order=True)
class _Mark:
    at: datetime
    rank: int
    """The order at the same instant: events as in the log, then edges, then the clock."""
    sign: str
    text: str


def timeline(desk: Desk, now: datetime, tz: ZoneInfo, now_says: str = "") -> str:
    """The events of a desk, the edges at which answers change, and the clock, in order of time.

    ``*`` is an event, ``>`` the clock, and ``|`` a deadline or another edge. An event that was recorded later shows when.
    """
    entries = desk.services.store.read(0, 1_000_000)
    shown = entries[-EVENTS:]
    marks = [_event(entry, tz) for entry in shown]
    last = shown[-1].position if shown else 0
    marks += _edges(desk, now, {entry.event.occurred_at for entry in entries}, last + 1)
    marks.append(_Mark(now, last + 2, ">", f"the clock{': ' + now_says if now_says else ''}"))
    lines = [f"  {mark.sign} {instant_in_words(mark.at, tz)}  {mark.text}" for mark in sorted(marks)]
    if len(entries) > len(shown):
        lines.insert(0, f"    … {len(entries) - len(shown)} earlier events")
    return "\n".join(lines)


def _event(entry: Recorded, tz: ZoneInfo) -> _Mark:
    event = entry.event
    told = [str(getattr(event, name)) for name in _NAMES if isinstance(getattr(event, name, None), str)]
    late = f"  (learnt {instant_in_words(event.recorded_at, tz)})" if event.recorded_at != event.occurred_at else ""
    return _Mark(
        event.occurred_at,
        entry.position,
        "*",
        f"{entry.event_id} {event.type}{' ' if told else ''}{' '.join(told)}{late}",
    )


def _edges(desk: Desk, now: datetime, of_events: set[datetime], rank: int) -> Iterator[_Mark]:
    from returnable.projections.edges import distance

    found = [edge for edge in _all_edges(desk) if edge.at not in of_events]
    past = [edge for edge in found if edge.at <= now][-EDGES_PAST:]
    to_come = [edge for edge in found if edge.at > now][:EDGES_TO_COME]
    for edge in [*past, *to_come]:
        clause = f" ({edge.clause})" if edge.clause else ""
        last = ", the last instant in time" if edge.inclusive else ""
        yield _Mark(edge.deadline, rank, "|", f"{edge.what}{clause}{last}, {distance(edge.deadline, now)}")


def _all_edges(desk: Desk) -> Sequence[Edge]:
    try:
        return all_edges(desk)
    except ReturnableError:
        return ()  # the events are shown all the same


def ruling_lines(ruling: Mapping[str, Any] | None) -> Iterator[str]:
    """A ruling clause by clause, the deciding ones first."""
    clauses = ruling["clauses"] if ruling else ()
    order = {"fail": 0, "overridden": 1, "pass": 2, "not_applicable": 3}
    for clause in sorted(clauses, key=lambda each: order[each["verdict"]]):
        yield f"{clause['verdict']:<14} {clause['clause']}: {clause['because']}"


def event_lines(events: Iterable[Event], tz: ZoneInfo) -> Iterator[str]:
    """Events with all their fields, one a line, times on the wall of a zone."""
    for event in events:
        said_of = {name: value for name, value in event if name not in ("occurred_at", "recorded_at", "ruling", "pins")}
        times = {
            name: instant_in_words(value, tz) if isinstance(value, datetime) else repr(value)
            for name, value in said_of.items()
            if value not in (None, (), "", timedelta())
        }
        fields = ", ".join(f"{name}={value}" for name, value in times.items())
        yield f"{event.type} at {instant_in_words(event.occurred_at, tz)}: {fields}" if fields else event.type


def indented(lines: Iterable[str], by: str = "    ") -> str:
    """Lines, indented."""
    return "\n".join(f"{by}{line}" for line in lines)

"""Edges as tests: one tick before, at, and one tick after every instant at which an answer flips.

    @edges(an_order(delivered="2026-03-05"), a_return(labelled="2026-03-09 12:00"), subject="return/R-1")
    def test_the_shop_says_what_the_desk_says(desk, moment):
        ...

The desk has been told the history up to the moment, and the clock stands there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from returnable.domain.calendar import ONE_DAY, zone
from returnable.domain.policy import Policy, bundled_policies
from returnable.testing.clock import Moment, moments
from returnable.testing.instants import instant
from returnable.testing.steps import Step, flat

if TYPE_CHECKING:
    import pytest

    from returnable.facade import Desk

F = TypeVar("F", bound=Callable[..., Any])

Told = tuple[tuple[datetime, Mapping[str, Any]], ...]
"""The lines of a history, each at its instant."""
OnADay = Callable[[date], Step | Iterable[Step]]
"""A part of a history that begins on a day: ``lambda day: an_order(delivered=day)``."""


def edges(
    *history: Step | Iterable[Step] | OnADay, subject: str | None = None, on: Mapping[str, date] | Sequence[date] = ()
) -> Callable[[F], F]:
    """Run a test around every edge of a history: at each, a tick before it, and a tick after it.

    ``subject`` (``return/R-1``, …) leaves out the edges of everything else. With ``on``, days such as those of
    :func:`turning_days`, the history is told once for each of them; a part of it that is a function is called with the day.
    The test may ask for the fixtures ``desk``, ``clock`` and ``moment``.
    """
    import pytest

    days = on if isinstance(on, Mapping) else {str(day): day for day in on}
    mark: Any = pytest.mark.returnable_edges(*history, subject=subject, on=dict(days))
    return mark  # type: ignore[no-any-return]


def moments_of(marker: pytest.Mark, policy: str | None) -> list[tuple[str, Moment, Told]]:
    """The moments of a marked test, each with its name and the history that leads to it."""
    import pytest

    found: list[tuple[str, Moment, Told]] = []
    on: Mapping[str, date] = marker.kwargs.get("on") or {}
    for name, day in on.items() or [("", None)]:
        parts = [part(day) if callable(part) else part for part in marker.args]
        told, of_history = _edges_of(tuple(flat(parts)), marker.kwargs.get("subject"), policy)
        for moment in of_history:
            of_day = f"{name}: " if name else ""
            edge = moment.edge
            found.append((f"{of_day}{moment.side} {edge.what}", moment, told))
    if not found:
        raise pytest.UsageError("@edges: nothing about this history changes by the passing of time")
    return _named_apart(found)


def _named_apart(found: list[tuple[str, Moment, Told]]) -> list[tuple[str, Moment, Told]]:
    seen: dict[str, int] = {}
    apart = []
    for name, moment, told in found:
        seen[name] = seen.get(name, 0) + 1
        apart.append((name if seen[name] == 1 else f"{name} ({seen[name]})", moment, told))
    return apart


def _edges_of(history: Sequence[Step], subject: str | None, policy: str | None) -> tuple[Told, list[Moment]]:
    from returnable.testing.scenario import Scenario

    story = Scenario(policy=policy).given(*history)
    told = tuple((instant(line["at"], "UTC"), _without_at(line)) for line in story.lines)
    found = story.clock.edges(subject)
    story.desk.close()
    return told, list(moments(found))


def _without_at(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != "at"}


def tell_until(desk: Desk, moment: Moment, told: Told) -> None:
    """Tell a desk what was told up to a moment."""
    for at, fields in told:
        if at <= moment.at:
            desk.handle(fields, at=at)


# ---- days on which calendars turn ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TurningDay:
    """A day on which counting days is easily got wrong, and why."""

    day: date
    why: str


@cache
def turning_days(first_year: int = 2024, last_year: int = 2028, policy: Policy | None = None) -> Mapping[str, date]:
    """Days on which calendars turn, by name, in the zone and the calendar of a policy (default: the bundled one).

    The changes of the clocks, every holiday as observed, leap days, the ends of years, of February and of a long weekend,
    each with the day before it and after it.

    >>> days = turning_days(2026, 2026)
    >>> days["2026-03-08 the clocks go forward"], days["2026-11-26 holiday"]
    (datetime.date(2026, 3, 8), datetime.date(2026, 11, 26))
    """
    policy = policy or bundled_policies().versions[-1]
    found: dict[str, date] = {}
    for turning in _turning(first_year, last_year, policy):
        for days, of in ((-1, "the day before "), (0, ""), (1, "the day after ")):
            day = turning.day + timedelta(days=days)
            found.setdefault(f"{day} {of}{turning.why}" if days else f"{day} {turning.why}", day)
    by_day: dict[date, str] = {}
    for name, day in sorted(found.items(), key=lambda each: (each[1], "the day" in each[0])):
        by_day.setdefault(day, name)
    return {name: day for day, name in by_day.items()}


def _turning(first_year: int, last_year: int, policy: Policy) -> Iterable[TurningDay]:
    where = zone(policy.zone)
    day = date(first_year, 1, 1)
    while day.year <= last_year:
        midnight, next_midnight = (
            datetime(each.year, each.month, each.day, tzinfo=where) for each in (day, day + ONE_DAY)
        )
        change = (next_midnight.utcoffset() or timedelta()) - (midnight.utcoffset() or timedelta())
        if change:
            yield TurningDay(day, f"the clocks go {'forward' if change > timedelta() else 'back'}")
        if day in policy.days.holidays:
            yield TurningDay(day, "holiday")
        if (day.month, day.day) == (2, 29):
            yield TurningDay(day, "leap day")
        if (day.month, day.day) == (12, 31):
            yield TurningDay(day, "the end of the year")
        day += ONE_DAY

"""Edges as tests: one tick before, at, and one tick after every instant at which an answer changes.

    @edges(an_order(delivered="2026-03-05"), a_return(labelled="2026-03-09 12:00"), subject="return/R-1")
    def test_the_shop_says_what_the_desk_says(desk, moment):
        ...

The desk has the history up to that moment, and the clock stands there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from returnable.adapters.wiring import AnyPolicy
from returnable.domain.calendar import ONE_DAY, zone
from returnable.domain.errors import Impossible, ReturnableError
from returnable.domain.policy import Policy, bundled_policies
from returnable.testing.clock import Moment, moments
from returnable.testing.instants import instant
from returnable.testing.steps import Step, flat

if TYPE_CHECKING:
    import pytest

    from returnable.facade import Desk

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Around:
    """A test around an edge: its name, its moment, the history before it, and the policies of that history."""

    name: str
    moment: Moment
    told: tuple[tuple[datetime, Mapping[str, Any], str], ...]
    """The lines of the history, each with its instant and its outcome."""
    policies: tuple[str, ...]
    """The hashes of the versions."""


class HistoryWrong(Exception):
    """A history that cannot be carried out, or that has no edges."""


OnADay = Callable[[date], Step | Iterable[Step]]
"""A part of a history that begins on a day: ``lambda day: an_order(delivered=day)``."""


def edges(
    *history: Step | Iterable[Step] | OnADay,
    subject: str | None = None,
    on: Mapping[str, date] | Sequence[date] = (),
    policy: AnyPolicy = None,
) -> Callable[[F], F]:
    """Run a test around every edge of a history: at each, a tick before it, and a tick after it.

    ``subject`` (``return/R-1``, …) leaves out the edges of everything else. ``on``: days, such as those of
    :func:`turning_days`; the history happens once for each, and a part of it that is a function is called with the day.
    ``policy`` must be that of the fixture ``desk``; by default it is that of the setting ``returnable_policy``. The test may
    use the fixtures ``desk``, ``clock`` and ``moment``.
    """
    import pytest

    days = on if isinstance(on, Mapping) else {str(day): day for day in on}
    if not days and any(callable(part) for part in history):
        raise TypeError("@edges takes a history: @edges(an_order(…)); a part that is a function of the day needs on=")
    mark: Any = pytest.mark.returnable_edges(*history, subject=subject, on=dict(days), policy=policy)
    return mark  # type: ignore[no-any-return]


def arounds_of(marker: pytest.Mark, setting: str | None) -> list[Around]:
    """The moments of a marked test. Raises :class:`HistoryWrong`."""
    found: list[Around] = []
    on: Mapping[str, date] = marker.kwargs["on"]
    policy = marker.kwargs["policy"] if marker.kwargs["policy"] is not None else setting
    for name, day in on.items() or [("", None)]:
        parts = [part(day) if callable(part) else part for part in marker.args]
        of_day = f"{name}: " if name else ""
        try:
            found += _arounds(tuple(flat(parts)), marker.kwargs["subject"], policy, of_day)
        except (AssertionError, ReturnableError) as error:
            raise HistoryWrong(f"{of_day}{error}") from None
    if not found:
        raise HistoryWrong("nothing about this history changes by the passing of time")
    seen: Counter[str] = Counter()
    apart = []
    for around in found:
        seen[around.name] += 1
        again = seen[around.name] > 1
        apart.append(replace(around, name=f"{around.name} ({seen[around.name]})") if again else around)
    return apart


def _arounds(history: Sequence[Step], subject: str | None, policy: AnyPolicy, of_day: str) -> Iterator[Around]:
    from returnable.testing.scenario import Scenario

    story = Scenario(policy=policy).given(*history)
    outcomes = [step.outcome for step in history]
    told = tuple(
        (instant(line["at"], "UTC"), {name: value for name, value in line.items() if name != "at"}, outcome)
        for line, outcome in zip(story.lines, outcomes, strict=True)
    )
    versions = tuple(version.sha256 for version in story.services.handler.policies.versions)
    found = story.clock.edges(subject)
    story.desk.close()
    for moment in moments(found):
        yield Around(f"{of_day}{moment}", moment, told, versions)


def tell_until(desk: Desk, around: Around) -> str | None:
    """Carry out the history on a desk up to a moment; returns a problem, if there is one."""
    versions = tuple(version.sha256 for version in desk.services.handler.policies.versions)
    if versions != around.policies:
        return "the desk has another policy than the edges were found under: @edges(…, policy=…) takes it, too"
    for at, fields, expected in around.told:
        if at <= around.moment.at:
            came: str = "error"
            with suppress(Impossible):
                came = desk.handle(fields, at=at).outcome
            if came != expected:
                return f"{fields['command']} was to be {expected}, and is {came}"
    return None


# ---- days on which calendars turn ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TurningDay:
    """A day on which it is easy to count days wrongly, and why."""

    day: date
    why: str


@cache
def turning_days(first_year: int = 2024, last_year: int = 2028, policy: Policy | None = None) -> Mapping[str, date]:
    """Days on which it is easy to count wrongly, by name, in the zone and calendar of a policy (default: the bundled one).

    The changes of the clocks, every holiday as observed, leap days and the ends of years, each with the day before it and the
    day after it.

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
    tz = zone(policy.zone)
    day = date(first_year, 1, 1)
    while day.year <= last_year:
        midnight, next_midnight = (
            datetime(each.year, each.month, each.day, tzinfo=tz) for each in (day, day + ONE_DAY)
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

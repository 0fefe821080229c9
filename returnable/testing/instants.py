"""Times as a test writes them: with an offset, or as the wall clock in the policy's zone shows them.

``"2026-03-05"`` is the first instant of that day, ``"2026-03-05 14:00"`` two in the afternoon there. A wall time that does
not exist, or happens twice, because the clocks change is refused: the test must write an offset.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from returnable.domain.calendar import first_instant, zone
from returnable.domain.fields import parse_instant

When = datetime | date | str
"""An instant: RFC 3339 text or an aware ``datetime``; or a wall time of the policy's zone, as text or naive ``datetime``;
or a day, which is its first instant there."""

_WALL = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?\Z", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d\Z", re.ASCII)
ONE_TICK = timedelta(microseconds=1)
"""The smallest step of time."""


def instant(when: When, zone_name: str) -> datetime:
    """The instant of a time, in UTC. Raises ``ValueError`` for one that is invalid, does not exist, or happens twice.

    >>> instant("2026-03-05 14:00", "America/New_York").isoformat()
    '2026-03-05T19:00:00+00:00'
    >>> instant("2026-03-08 02:30", "America/New_York")
    Traceback (most recent call last):
    ValueError: 2026-03-08 02:30 does not exist in America/New_York: the clocks go forward from 02:00 to 03:00
    >>> instant("2026-11-01 01:30", "America/New_York")
    Traceback (most recent call last):
    ValueError: 2026-11-01 01:30 happens twice in America/New_York; say 2026-11-01T01:30:00-04:00 or 2026-11-01T01:30:00-05:00
    """
    if isinstance(when, str):
        if _DAY.match(when):
            return first_instant(date.fromisoformat(when), zone_name)
        if not _WALL.match(when):
            try:
                return parse_instant(when)
            except ValueError as error:
                raise ValueError(f'{when!r} {error}, nor a time such as "2026-03-05 14:00" or "2026-03-05"') from None
        when = datetime.fromisoformat(when)
    if not isinstance(when, datetime):
        return first_instant(when, zone_name)
    return parse_instant(when if when.tzinfo is not None else _on_the_wall(when, zone_name))


def resolved(value: object, zone_name: str) -> object:
    """A time in any form as RFC 3339 text on the wall of a zone; any other value unchanged.

    >>> resolved("2026-03-05", "America/New_York"), resolved("Kim", "America/New_York")
    ('2026-03-05T00:00:00-05:00', 'Kim')
    """
    if not isinstance(value, str | date):
        return value
    try:
        found = instant(value, zone_name)
    except ValueError:
        if isinstance(value, date) or _WALL.match(value) or _DAY.match(value):
            raise
        return value
    return found.astimezone(zone(zone_name)).isoformat()


def _on_the_wall(wall: datetime, zone_name: str) -> datetime:
    tz = zone(zone_name)
    first, second = (wall.replace(tzinfo=tz, fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return first
    shown = wall.isoformat(" ", "minutes" if wall.second == wall.microsecond == 0 else "auto")
    if (first.utcoffset() or timedelta()) > (second.utcoffset() or timedelta()):
        raise ValueError(f"{shown} happens twice in {zone_name}; say {first.isoformat()} or {second.isoformat()}")
    # The gap is as wide as the offsets before it and after it differ.
    gap_ends = _gap_ends(second.astimezone(UTC), first.astimezone(UTC), zone_name)
    before = (gap_ends - ONE_TICK).astimezone(tz) + ONE_TICK
    after = gap_ends.astimezone(tz)
    raise ValueError(
        f"{shown} does not exist in {zone_name}: the clocks go forward from {before:%H:%M} to {after:%H:%M}"
    )


def _gap_ends(low: datetime, high: datetime, zone_name: str) -> datetime:
    """The first instant of the new offset, between two instants on either side of a change."""
    tz = zone(zone_name)
    old = low.astimezone(tz).utcoffset()
    while high - low > ONE_TICK:
        middle = low + (high - low) / 2
        if middle.astimezone(tz).utcoffset() == old:
            low = middle
        else:
            high = middle
    return high


def wall_time(wall: datetime, zone_name: str) -> datetime:
    """The instant at which the wall of a zone shows a naive time. Of two such instants it is the first; a time that the
    clocks skip counts as if they had not gone forward.

    >>> wall_time(datetime(2026, 3, 8, 2, 30), "America/New_York").isoformat()
    '2026-03-08T07:30:00+00:00'
    """
    return wall.replace(tzinfo=zone(zone_name), fold=0).astimezone(UTC)

"""Business days, windows and deadlines.

All instants are aware ``datetime`` values in UTC. A *deadline* of a day-counted window is exclusive: the first instant
of the local day after the last one. A deadline of an elapsed window is inclusive. Nothing here reads a clock, and the
holidays are a frozen, versioned table, so that the same question has the same answer in ten years.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from functools import cache, lru_cache
from importlib import resources
from typing import Literal
from zoneinfo import ZoneInfo

import tzdata
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_json

from returnable.domain.errors import CalendarExhausted, CalendarInvalid, short

ONE_DAY = timedelta(days=1)
A_MOMENT = timedelta(microseconds=1)
"""The smallest step between two instants."""

_PLAIN: tuple[type[datetime]] = (next(kind for kind in datetime.__mro__ if kind.__module__ == "datetime"),)
"""The real ``datetime`` class. It is in a tuple, because freezegun replaces it in every module but not in containers."""

Counting = Literal["calendar", "business"]


def plain(instant: datetime) -> datetime:
    """The same aware instant as a ``datetime`` of the standard library, not of a class made of it.

    Frozen clocks and some date libraries have subclasses, which serialisers refuse; none of them gets into an event.
    """
    (kind,) = _PLAIN
    if type(instant) is kind:
        return instant
    parts = instant.timetuple()[:6]
    return kind(*parts, instant.microsecond, tzinfo=instant.tzinfo, fold=instant.fold)


ZONE_DATA = tzdata.IANA_VERSION
"""The release of the time zone database that is installed, such as ``2026f``."""


class _Zone(ZoneInfo):
    """A time zone that is copied and pickled by its name, which a zone out of a file is not by itself."""

    def __reduce__(self) -> tuple[object, ...]:
        return zone, (self.key,)


@cache
def zone(name: str) -> ZoneInfo:
    """The IANA time zone of that name, out of the package ``tzdata``; raises :class:`CalendarInvalid` for an unknown one.

    ``ZoneInfo(name)`` asks the folders of the host first, so that their age would judge. Nothing here reads them.
    """
    if name not in _zone_names():
        raise CalendarInvalid(f"{short(name)} is not an IANA time zone")
    with resources.files(tzdata).joinpath("zoneinfo", *name.split("/")).open("rb") as source:
        return _Zone.from_file(source, key=name)


@cache
def _zone_names() -> frozenset[str]:
    return frozenset(resources.files(tzdata).joinpath("zones").read_text(encoding="utf-8").split())


class _Frozen(BaseModel):
    """The committed form of a calendar."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    source: str
    first: date
    last: date
    holidays: frozenset[date]


class Calendar:
    """Which days are business days, between two dates, under a name and a version.

    >>> federal = bundled_calendar("us-federal", "2026.1")
    >>> federal.is_business_day(date(2021, 12, 31))  # New Year's Day 2022 as observed
    False
    >>> federal.add_business_days(date(2026, 11, 25), 2)  # over Thanksgiving and a weekend
    datetime.date(2026, 11, 30)
    """

    def __init__(
        self,
        *,
        name: str,
        version: str,
        first: date,
        last: date,
        holidays: Iterable[date],
        weekend: Iterable[int] = (5, 6),
    ) -> None:
        self.name = name
        self.version = version
        self.first = first
        self.last = last
        self.weekend = frozenset(weekend)
        self._closed = frozenset(day.toordinal() for day in holidays)
        if len(self.weekend & frozenset(range(7))) == 7:
            raise CalendarInvalid(f"calendar {name} has no business day")

    @property
    def holidays(self) -> frozenset[date]:
        """The days that are closed although they are not in the weekend by that alone."""
        return frozenset(date.fromordinal(day) for day in self._closed)

    @property
    def sha256(self) -> str:
        """The hash of everything that decides what a business day is."""
        content = {
            "first": self.first,
            "last": self.last,
            "weekend": sorted(self.weekend),
            "holidays": sorted(self.holidays),
        }
        return hashlib.sha256(to_json(content)).hexdigest()

    def closed_also(self, name: str, version: str, days: Iterable[date]) -> Calendar:
        """This calendar with more days off, under another name."""
        return Calendar(
            name=name,
            version=version,
            first=self.first,
            last=self.last,
            holidays=self.holidays | frozenset(days),
            weekend=self.weekend,
        )

    def is_business_day(self, day: date) -> bool:
        """Whether business is done on that local date."""
        self._known(day)
        return day.weekday() not in self.weekend and day.toordinal() not in self._closed

    def add_business_days(self, day: date, count: int) -> date:
        """The ``count``-th business day after ``day``; ``day`` itself is day 0, business day or not."""
        self._known(day)
        while count > 0:
            day += ONE_DAY
            if self.is_business_day(day):
                count -= 1
        return day

    def _known(self, day: date) -> None:
        if not self.first <= day <= self.last:
            raise CalendarExhausted(
                f"{day} is outside the calendar {self.name} {self.version} ({self.first} to {self.last})"
            )


@cache
def bundled_calendar(name: str, version: str) -> Calendar:
    """A calendar that ships with the library; raises :class:`CalendarInvalid` when there is none of that name."""
    file = resources.files("returnable.domain") / "calendars" / f"{name}-{version}.json"
    try:
        text = file.read_bytes()
    except (OSError, ValueError):
        raise CalendarInvalid(f"there is no bundled calendar {short(name)} version {short(version)}") from None
    try:
        table = _Frozen.model_validate_json(text)
    except ValidationError as error:
        raise CalendarInvalid(f"calendar {name} {version}: {error}") from None
    return Calendar(name=table.name, version=table.version, first=table.first, last=table.last, holidays=table.holidays)


def local_date(instant: datetime, zone_name: str) -> date:
    """The calendar date on the wall of that zone at that instant."""
    return plain(instant.astimezone(zone(zone_name))).date()


@lru_cache(maxsize=4096)
def first_instant(day: date, zone_name: str) -> datetime:
    """The first instant of a local day, in UTC; where midnight is skipped by daylight saving, the day begins later.

    >>> first_instant(date(2026, 3, 20), "America/New_York").isoformat()
    '2026-03-20T04:00:00+00:00'
    """
    (kind,) = _PLAIN
    return kind(day.year, day.month, day.day, tzinfo=zone(zone_name)).astimezone(UTC)


def last_day(trigger: datetime, days: int, counting: Counting, zone_name: str, calendar: Calendar) -> date:
    """The last local day of a window of ``days`` days; the local date of ``trigger`` is day 0."""
    return _last_day(local_date(trigger, zone_name), days, counting, calendar)


@lru_cache(maxsize=4096)
def _last_day(start: date, days: int, counting: Counting, calendar: Calendar) -> date:
    if counting == "business":
        return calendar.add_business_days(start, days)
    return start + timedelta(days=days)


def window_end(trigger: datetime, days: int, counting: Counting, zone_name: str, calendar: Calendar) -> datetime:
    """The exclusive end of a day-counted window: the first instant after its last local day, in UTC.

    A label received on a Saturday: business day 1 is Monday, business day 2 is Tuesday, it voids at Wednesday 00:00.

    >>> saturday = datetime(2026, 3, 7, 15, 0, tzinfo=UTC)
    >>> federal = bundled_calendar("us-federal", "2026.1")
    >>> window_end(saturday, 2, "business", "America/New_York", federal).isoformat()
    '2026-03-11T04:00:00+00:00'
    """
    return first_instant(last_day(trigger, days, counting, zone_name, calendar) + ONE_DAY, zone_name)


def elapsed_end(trigger: datetime, hours: float) -> datetime:
    """The inclusive last instant of an elapsed window; hours are hours, whatever the clocks on the wall do."""
    return trigger + timedelta(hours=hours)

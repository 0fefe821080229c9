"""The formats of times: read the same on every machine, and refused where they would leave something out.

``datetime.strptime`` takes the names of months and of zones from the machine, overlooks ``%p`` beside ``%H`` and a weekday
that is not that of the date, and drops the zone that it has read. So a format is translated here.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from returnable.domain.fields import rfc_3339

UNIVERSAL = frozenset({"UTC", "UT", "GMT", "Z"})
"""Names that mean no offset, everywhere and all year."""

AMERICAN = {
    "EST": "America/New_York",
    "EDT": "America/New_York",
    "CST": "America/Chicago",
    "CDT": "America/Chicago",
    "MST": "America/Denver",
    "MDT": "America/Denver",
    "PST": "America/Los_Angeles",
    "PDT": "America/Los_Angeles",
}
"""The other names of RFC 5322, with the zones whose clocks they name."""

OF_OTHERS_TOO = frozenset({"CST", "CDT"})
"""Names of RFC 5322 that China and Cuba use, too: an offset beside them decides."""

_ZONE_IN_A_FORMAT = re.compile(
    r"[+-]\d\d:?\d\d|(?<![a-z])(?:UTC?|GMT|Z|[ECMP][SD]T|[BI]ST|(?:W|C|E)ES?T|MES?Z|MSK|[JK]ST|HKT|SGT|A[CEW][SD]T|NZ[SD]T)"
    r"(?![a-z])",
    re.IGNORECASE,
)
"""Words of a format whose zone would be left out, because a word is only compared."""

_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
           "december")  # fmt: skip
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_DIRECTIVES = {
    "Y": "[0-9]{4}",
    "y": "[0-9]{2}",
    "m": "1[0-2]|0?[1-9]",
    "b": "|".join(name[:3] for name in _MONTHS),
    "B": "|".join(_MONTHS),
    "d": "3[01]|[12][0-9]|0?[1-9]",
    "j": "[0-3]?[0-9]?[0-9]",
    "G": "[0-9]{4}",
    "V": "5[0-3]|[1-4][0-9]|0?[1-9]",
    "u": "[1-7]",
    "a": "|".join(name[:3] for name in _WEEKDAYS),
    "A": "|".join(_WEEKDAYS),
    "H": "2[0-3]|1[0-9]|0?[0-9]",
    "I": "1[0-2]|0?[1-9]",
    "p": r"[ap]\.?m\.?",
    "M": "[0-5]?[0-9]",
    "S": "[0-5]?[0-9]",
    "f": "[0-9]{1,6}",
    "z": r"Z|[+-](?:2[0-3]|[01][0-9])(?::?[0-5][0-9](?::?[0-5][0-9])?)?",
    "Z": "[A-Za-z][A-Za-z0-9/_+-]*",
}
"""Directive → what it matches, in any case."""

_PARTS = (
    ("year", "YyG"),
    ("month", "mbBjV"),
    ("day", "dju"),
    ("hour", "HI"),
    ("minute", "M"),
    ("second", "S"),
    ("weekday", "aA"),
)
"""What a format may say once, and the directives for it."""


class ReadTime(NamedTuple):
    """A time as a cell has it: local, with its offset and the name of its zone where the cell gives them."""

    local: datetime
    offset: timedelta | None = None
    zone_name: str | None = None
    weekday: int | None = None

    def by_offset(self) -> datetime:
        """The instant, by the offset."""
        return (self.local - (self.offset or timedelta(0))).replace(tzinfo=UTC)


class TimeFormat:
    """A format of times: ``iso``, ``unix``, ``unix_ms`` or directives. Raises ``ValueError`` for one that loses something."""

    def __init__(self, form: str) -> None:
        self._form = form
        if form not in ("iso", "unix", "unix_ms"):
            self._pattern = re.compile(_pattern(form), re.IGNORECASE)

    def read(self, text: str) -> ReadTime | None:
        """The time in a cell; ``None`` for a cell in another format."""
        try:
            time = self._read(text)
            if time is not None:
                time.by_offset()
            return time
        except (ValueError, OverflowError):  # such as 30 February, and the last hours of the year 9999
            return None

    def _read(self, text: str) -> ReadTime | None:
        if self._form == "iso":
            time = rfc_3339(text) or datetime.fromisoformat(text)
            return ReadTime(time.replace(tzinfo=None), time.utcoffset())
        if self._form in ("unix", "unix_ms"):
            return _since_1970(text, 1_000_000 if self._form == "unix" else 1_000)
        found = self._pattern.fullmatch(text)
        return None if found is None else _read_time(found.groupdict())


def _since_1970(text: str, microseconds: int) -> ReadTime | None:
    if not re.fullmatch(r"\d{1,16}(\.\d{1,9})?", text, re.ASCII):
        return None
    return ReadTime(datetime(1970, 1, 1) + timedelta(microseconds=int(Decimal(text) * microseconds)), timedelta(0))  # noqa: DTZ001


def _read_time(parts: dict[str, str | None]) -> ReadTime:
    day = _day(parts)
    hour = int(parts.get("H") or parts.get("I") or 0)
    if half := parts.get("p"):
        hour = hour % 12 + (12 if half[0] in "Pp" else 0)
    microsecond = int((parts.get("f") or "0").ljust(6, "0"))
    minute, second = int(parts.get("M") or 0), int(parts.get("S") or 0)
    local = datetime(day.year, day.month, day.day, hour, minute, second, microsecond)  # noqa: DTZ001
    weekday = parts.get("a") or parts.get("A")
    known = None if weekday is None else [name[:3] for name in _WEEKDAYS].index(weekday[:3].lower())
    return ReadTime(local, _offset(parts.get("z")), parts.get("Z"), known)


def _day(parts: dict[str, str | None]) -> date:
    if (of_weeks := parts.get("G")) is not None:
        return date.fromisocalendar(int(of_weeks), int(parts["V"] or 0), int(parts["u"] or 0))
    year = int(parts.get("Y") or parts.get("y") or 0)
    if parts.get("y"):
        year += 2000 if year < 69 else 1900
    if (nth := parts.get("j")) is not None:
        day = date(year, 1, 1) + timedelta(days=int(nth) - 1)
        if day.year != year:
            raise ValueError(nth)
        return day
    name = parts.get("b") or parts.get("B")
    month = int(parts.get("m") or 0) if name is None else [one[:3] for one in _MONTHS].index(name[:3].lower()) + 1
    return date(year, month, int(parts["d"] or 0))


def _offset(text: str | None) -> timedelta | None:
    if text is None or text in "Zz":
        return None if text is None else timedelta(0)
    digits = text[1:].replace(":", "").ljust(6, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:4]), seconds=int(digits[4:]))
    return -offset if text[0] == "-" else offset


def _pattern(form: str) -> str:
    pattern, seen, literals = "", "", [""]
    parts = iter(re.findall(r"%.?|\s+|[^%\s]", form, re.DOTALL))
    for part in parts:
        if part.isspace():
            pattern += r"\s+"
            literals[-1] += " "
        elif part == "%%" or part[0] != "%":
            pattern += re.escape(part[-1])
            literals[-1] += part[-1]
        elif part[1:] not in _DIRECTIVES:
            raise ValueError(f"{form!r}: {part!r} is not a directive that is read the same everywhere")
        else:
            pattern += f"(?P<{part[1]}>{_DIRECTIVES[part[1]]})"
            seen += part[1]
            literals.append("")
    _check_nothing_is_lost(form, seen)
    if "p" not in seen and (half := re.search(r"(?<![A-Za-z])[AP]M(?![A-Za-z])", " ".join(literals))):
        raise ValueError(f"{form!r}: {half[0]!r} is half of a day: write %I and %p")
    if "z" not in seen and "Z" not in seen:
        for words in literals:
            if found := _ZONE_IN_A_FORMAT.search(words):
                raise ValueError(f"{form!r}: {found[0]!r} is a time zone: write %Z for a name and %z for an offset")
    return pattern


def _check_nothing_is_lost(form: str, seen: str) -> None:
    """Refuse a format that would lose, guess or contradict something with its directives."""
    given = {part: [one for one in seen if one in directives] for part, directives in _PARTS}
    for part, directives in given.items():
        if len(directives) > 1:
            raise ValueError(f"{form!r} says the {part} twice")
        if not directives and part in ("year", "month", "day"):
            raise ValueError(f"{form!r} says no {part}")
    if any(seen.count(one) > 1 for one in "fpzZ"):
        raise ValueError(f"{form!r} has a directive twice")
    if len({"G", "V", "u"} & set(seen)) not in (0, 3):
        raise ValueError(f"{form!r} mixes a day of a week with a day of a month: %G, %V and %u go together")
    if "I" in seen and "p" not in seen:
        raise ValueError(f"{form!r} has %I without %p: 9 is in the morning or in the evening")
    if "p" in seen and "I" not in seen:
        raise ValueError(f"{form!r} has %p without %I: write %I, the hour from 1 to 12, in the place of %H")
    for one, larger in (("M", "HI"), ("S", "M"), ("f", "S")):
        if one in seen and not set(larger) & set(seen):
            raise ValueError(f"{form!r} has %{one} without the larger part of the time")


def day_and_month_swapped(form: str) -> str:
    """The format in which day and month have changed places."""
    return re.sub(r"%[%dm]", lambda found: {"%d": "%m", "%m": "%d"}.get(found[0], found[0]), form)


@lru_cache(maxsize=256)
def names_of(tz: ZoneInfo, year: int) -> frozenset[str]:
    """How the clocks of a zone are called in a year, such as ``PST`` and ``PDT``."""
    return frozenset((datetime(year, month, 1, tzinfo=tz).tzname() or "").upper() for month in range(1, 13))


def at_named(local: datetime, name: str, tz: ZoneInfo) -> list[datetime]:
    """The instants at which the clocks of a zone show a time under that name: two, one, or none."""
    both = (local.replace(tzinfo=tz, fold=fold) for fold in (0, 1))
    return sorted({at.astimezone(UTC) for at in both if (at.tzname() or "").upper() == name})

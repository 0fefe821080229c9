"""Instants, durations, margins and counts as people read them. Every module that writes a sentence takes them from here."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from zoneinfo import ZoneInfo


def instant_in_words(at: datetime, tz: ZoneInfo, *, offset: bool = False) -> str:
    """An instant on the wall of a zone. Seconds, and fractions of them, appear only where they are not zero.

    With ``offset`` the seconds always appear, and the offset from UTC as well.

    >>> from returnable.domain.calendar import zone
    >>> noon = datetime.fromisoformat("2026-03-20T12:00:00-04:00")
    >>> instant_in_words(noon, zone("America/New_York"))
    'Fri 2026-03-20 12:00 EDT'
    >>> instant_in_words(noon, zone("America/New_York"), offset=True)
    'Fri 2026-03-20 12:00:00 EDT (-04:00)'
    """
    local = at.astimezone(tz)
    exact = "%H:%M:%S.%f" if local.microsecond else "%H:%M:%S" if local.second or offset else "%H:%M"
    name, plain = f"{local:%Z}", f"{local:%z}"
    if offset:
        shown = f"{plain[:3]}:{plain[3:5]}"
        name = f"{name} ({shown})" if name.isalpha() else shown
    return f"{local:%a %Y-%m-%d} {local.strftime(exact)} {name}"


def duration_in_words(seconds: float) -> str:
    """A length of time, without its sign. Fractions of a second appear only below a minute.

    >>> duration_in_words(90061.5), duration_in_words(1), duration_in_words(-0.25)
    ('1 day 1 h 1 min 1 s', '1 s', '0.25 s')
    """
    seconds = abs(seconds)
    if seconds < 60:
        return f"{seconds:.6f}".rstrip("0").rstrip(".") + " s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, plural(days, "day", "days")), (hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def margin_in_words(seconds: float, *, inclusive: bool = False) -> str:
    """By how much a deadline was kept (a positive margin) or missed. An ``inclusive`` deadline is itself still in time.

    >>> margin_in_words(7500), margin_in_words(-7500)
    ('2 h 5 min left', '2 h 5 min late')
    >>> margin_in_words(0), margin_in_words(0, inclusive=True)
    ('exactly at the deadline, which is already too late', 'exactly at the deadline, which is still in time')
    """
    if seconds == 0:
        return f"exactly at the deadline, which is {'still in time' if inclusive else 'already too late'}"
    return f"{duration_in_words(seconds)} {'left' if seconds > 0 else 'late'}"


def plural(count: int, one: str, many: str) -> str:
    """The word that agrees with a number.

    >>> plural(1, "line", "lines"), plural(0, "is", "are")
    ('line', 'are')
    """
    return one if count == 1 else many


def counted(count: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "case"), counted(2, "case")
    ('1 case', '2 cases')
    """
    return f"{count} {plural(count, noun, f'{noun}s')}"


def units(count: int) -> str:
    """A number of units.

    >>> units(1), units(2)
    ('1 unit', '2 units')
    """
    return counted(count, "unit")


def listed(names: Iterable[object], last_joined_by: str = "and") -> str:
    """Names in a sentence.

    >>> listed(["1"]), listed(["1", "2", "3"]), listed(["email", "phone"], "or")
    ('1', '1, 2 and 3', 'email or phone')
    """
    *most, last = [str(name) for name in names] or [""]
    return f"{', '.join(most)} {last_joined_by} {last}" if most else last

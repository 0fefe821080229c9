"""Instants, durations and margins in words, for people."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from returnable.domain.reasons import duration

duration_in_words = duration


def instant_in_words(at: datetime, tz: ZoneInfo, *, offset: bool = False) -> str:
    """An instant in that zone, with seconds if there are any; with ``offset`` always with seconds, and the UTC offset.

    >>> noon = datetime.fromisoformat("2026-03-20T12:00:00-04:00")
    >>> instant_in_words(noon, ZoneInfo("America/New_York"))
    'Fri 2026-03-20 12:00 EDT'
    >>> instant_in_words(noon, ZoneInfo("America/New_York"), offset=True)
    'Fri 2026-03-20 12:00:00 EDT (-04:00)'
    """
    local = at.astimezone(tz)
    clock = "%H:%M:%S.%f" if local.microsecond else "%H:%M:%S" if local.second or offset else "%H:%M"
    name, plain = f"{local:%Z}", f"{local:%z}"
    if offset:
        shown = f"{plain[:3]}:{plain[3:5]}"
        name = f"{name} ({shown})" if name.isalpha() else shown
    return f"{local:%a %Y-%m-%d} {local.strftime(clock)} {name}"


def margin_in_words(seconds: float, *, inclusive: bool = False) -> str:
    """By how much a deadline was kept or missed; ``inclusive``: the instant of the deadline itself is in time.

    >>> margin_in_words(7500), margin_in_words(-7500)
    ('2 h 5 min left', '2 h 5 min late')
    >>> margin_in_words(0), margin_in_words(0, inclusive=True)
    ('exactly at the deadline: one instant too late', 'exactly at the deadline: still in time')
    """
    if seconds == 0:
        return f"exactly at the deadline: {'still in time' if inclusive else 'one instant too late'}"
    return f"{duration_in_words(seconds)} {'left' if seconds > 0 else 'late'}"

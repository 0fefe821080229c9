"""The words of an audit report: instants, values and the figures at its head."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from pydantic import JsonValue

from returnable.domain.reasons import is_instant
from returnable.domain.wording import instant_in_words, margin_in_words
from returnable.projections.report.model import Report


def spoken(instant: str, tz: ZoneInfo, whole_seconds: bool = False) -> str:
    """An instant with weekday, date, time, abbreviation of the zone and offset; ``whole_seconds`` leaves out fractions.

    >>> from returnable.domain.calendar import zone
    >>> spoken("2026-03-02T10:00:00-05:00", zone("America/New_York"))
    'Mon 2026-03-02 10:00:00 EST (-05:00)'
    """
    at = datetime.fromisoformat(instant)
    return instant_in_words(at.replace(microsecond=0) if whole_seconds else at, tz, offset=True)


def words(name: str) -> str:
    """A state, a key or a kind of work in words.

    >>> words("in_transit"), words("margin_seconds")
    ('in transit', 'margin')
    """
    return name.removesuffix("_seconds").replace("_", " ")


def spelt(values: Mapping[str, JsonValue], tz: ZoneInfo) -> list[tuple[str, str]]:
    """The fields of an event, or the grounds of a verdict, as names and values; a list of structures has a row for each.

    >>> from returnable.domain.calendar import zone
    >>> spelt({"channel": "portal", "lines": [{"line_id": "1", "in_time": True}]}, zone("UTC"))
    [('channel', 'portal'), ('line', 'line 1, in time yes')]
    """
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            rows.extend((words(key).removesuffix("s"), _in_words(key, entry, tz)) for entry in value)
        else:
            rows.append((words(key), _in_words(key, value, tz)))
    return rows


def at_a_glance(report: Report) -> list[tuple[str, str, str]]:
    """The figures that matter first: name, figure, and its tone: ``good``, ``bad``, ``warn`` or none."""
    declined = sum(ruling.outcome == "declined" for ruling in report.rulings)
    missed = sum(deadline.state == "missed" for deadline in report.deadlines)
    later = sum(event.learnt_later is not None for event in report.events)
    money, work = report.money, len(report.open.work)
    return [
        ("events shown", str(len(report.events)), ""),
        ("decisions accepted", str(len(report.rulings) - declined), ""),
        ("decisions declined", str(declined), "bad" if declined else ""),
        ("clauses set aside", str(len(report.overrides)), "warn" if report.overrides else ""),
        ("deadlines missed", str(missed), "bad" if missed else ""),
        ("events recorded later", str(later), "warn" if later else ""),
        ("refunded of the order", f"{money.total.refunded} {money.currency}", ""),
        ("tasks waiting", str(work), "warn" if work else ""),
    ]


def _in_words(key: str, value: JsonValue, tz: ZoneInfo) -> str:
    if isinstance(value, dict):
        return _structure(value, tz)
    if isinstance(value, list):
        return "; ".join(_in_words(key, entry, tz) for entry in value) or "none"
    if key == "margin_seconds" and isinstance(value, int | float):
        return margin_in_words(value) if value else "exactly at the deadline"
    if isinstance(value, str) and is_instant(key):
        return spoken(value, tz)
    if value is None:
        return "none"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _structure(values: Mapping[str, JsonValue], tz: ZoneInfo) -> str:
    """A line, a parcel's share of it, a payment, or anything else, in a row of words.

    >>> from returnable.domain.calendar import zone
    >>> parcels: list[JsonValue] = [{"parcel_id": "P-1", "quantity": 2}]
    >>> _structure({"line_id": "1", "quantity": 2, "parcels": parcels, "accepted": True}, zone("UTC"))
    '2 of line 1 (2 in parcel P-1), accepted yes'
    """
    rest = dict(values)
    named: list[str] = []
    count = rest.get("quantity")
    if "line_id" in rest:
        named.append(f"line {rest.pop('line_id')}" if count is None else f"{count} of line {rest.pop('line_id')}")
    elif "parcel_id" in rest and count is not None:
        named.append(f"{count} in parcel {rest.pop('parcel_id')}")
    elif rest.keys() == {"quantity"}:
        named.append(f"{count} not delivered")
    elif "payment_id" in rest and "amount" in rest:
        method = f" ({rest.pop('method')})" if "method" in rest else ""
        named.append(f"{rest.pop('amount')} by {rest.pop('payment_id')}{method}")
    if named:
        rest.pop("quantity", None)
    parcels = rest.pop("parcels", None)
    if named and parcels:
        named[0] += f" ({_in_words('parcels', parcels, tz)})"
    return ", ".join([*named, *(f"{words(name)} {_in_words(name, value, tz)}" for name, value in rest.items())])

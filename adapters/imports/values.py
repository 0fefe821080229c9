"""Reads values from cells: texts, exact numbers, instants, yes and no."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple
from zoneinfo import ZoneInfo

from returnable.adapters.imports.mapping import COLUMN_IN_TEMPLATE, FormatSection, Value, When
from returnable.adapters.imports.times import (
    AMERICAN,
    OF_OTHERS_TOO,
    UNIVERSAL,
    ReadTime,
    TimeFormat,
    at_named,
    names_of,
)
from returnable.domain.calendar import zone
from returnable.domain.errors import CalendarInvalid
from returnable.domain.money import CURRENCY_SIGNS, LONGEST_AMOUNT, MINOR_UNIT_DIGITS, to_major, to_minor

TOO_MUCH = 10**12
"""From this number on, a number is not an amount."""

_CODE = re.compile("(?<![A-Za-z])[A-Z]{3}(?![A-Za-z])")


class SourceRow(NamedTuple):
    """A row of the table: its number as a spreadsheet shows it (the header is row 1), and its cells."""

    number: int
    cells: dict[str, str]


@dataclass(eq=False)
class Refused(Exception):
    """A row that cannot be imported: the field, the command and the reason."""

    row: int
    field: str
    reason: str
    code: str = "row.invalid"
    command: str = ""


class Values:
    """Reads values from rows in the notation of a mapping."""

    def __init__(self, form: FormatSection) -> None:
        self._form = form
        self._empty = {text.strip() for text in form.empty} | {""}
        self._zone: ZoneInfo | None = zone(form.zone) if form.zone is not None else None
        self._times = [TimeFormat(one) for one in form.times]
        separator = re.escape(form.thousands)
        whole = rf"\d{{1,3}}(?:{separator}\d{{3}})+|\d+" if form.thousands else r"\d+"
        self._number = re.compile(rf"([+-]?)(?:({whole})(?:{re.escape(form.decimal)}(\d*))?)\Z", re.ASCII)
        self._words = {word.casefold(): True for word in form.true} | {word.casefold(): False for word in form.false}

    # ---- texts -------------------------------------------------------------------------------------------------------

    def cell(self, row: SourceRow, column: str) -> str | None:
        """The text of a cell without surrounding spaces; ``None`` for an empty cell."""
        text = row.cells.get(column, "").strip()
        return None if text in self._empty else text

    def text(self, value: Value | None, rows: Sequence[SourceRow], field: str) -> str | None:
        """A value as text. Raises :class:`Refused`, also if the rows of an order contradict each other."""
        if value is None:
            return None
        text = self._source(value, rows, field)
        if text is not None and value.match is not None:
            found = re.search(value.match, text)
            if found is None:
                raise Refused(rows[0].number, field, f"{_from(value)}: {text!r} does not match {value.match!r}")
            text = (found.group(1) if found.re.groups else found.group()) or None
        if text is not None and value.values is not None:
            known = value.values.get(text, value.default)
            if known is None:
                raise Refused(rows[0].number, field, f"{_from(value)}: {text!r} is not among the values of the mapping")
            return known
        return value.default if text is None else text

    def _source(self, value: Value, rows: Sequence[SourceRow], field: str) -> str | None:
        if value.column is not None:
            return self.of_column(rows, value.column, field)
        if value.columns is not None:
            found = (self.of_column(rows, column, field) for column in value.columns)
            return next((text for text in found if text is not None), None)
        if value.template is not None:
            texts = {name: self.of_column(rows, name, field) for name in COLUMN_IN_TEMPLATE.findall(value.template)}
            if any(text is None for text in texts.values()):
                return None
            return COLUMN_IN_TEMPLATE.sub(lambda found: texts[found.group(1)] or "", value.template)
        if isinstance(value.value, bool):
            return (self._form.true if value.value else self._form.false)[0]
        return None if value.value is None else str(value.value)

    def of_column(self, rows: Sequence[SourceRow], column: str, field: str) -> str | None:
        """The text of the rows of an order in a column. All rows that are not empty must have the same text."""
        first: str | None = None
        for row in rows:
            text = self.cell(row, column)
            if first is None:
                first = text
            elif text is not None and text != first:
                raise Refused(
                    row.number, field, f"column {column!r}: {text!r}, but another row of this order has {first!r}"
                )
        return first

    def holds(self, when: When | None, rows: Sequence[SourceRow], field: str) -> bool:
        """Whether the rows meet a condition."""
        if when is None:
            return True
        text = self.of_column(rows, when.column, field)
        if when.empty is not None:
            return (text is None) == when.empty
        if when.is_in is not None:
            return (text or "") in when.is_in
        return (text or "") not in (when.not_in or ())

    # ---- numbers -----------------------------------------------------------------------------------------------------

    def number(
        self, value: Value | None, rows: Sequence[SourceRow], field: str, currency: str | None = None
    ) -> Fraction | None:
        """A value as an exact number; ``None`` if it is empty. Raises :class:`Refused`.

        ``currency``: the number is money of that currency, and may carry its sign.
        """
        if value is None:
            return None
        if value.sum is not None:
            parts = [self.number(part, rows, field, currency) for part in value.sum]
            total = (
                None if all(part is None for part in parts) else sum((part or Fraction() for part in parts), Fraction())
            )
            if total is None and value.default is not None:
                total = self._parsed(value.default, value, rows, field, currency)
        else:
            text = self.text(value, rows, field)
            total = None if text is None else self._parsed(text, value, rows, field, currency)
        if total is None:
            return None
        for part in value.minus:
            total -= self.number(part, rows, field, currency) or 0
        if value.times is not None:
            total *= self._needed(value.times, rows, field)
        if value.divided_by is not None:
            divisor = self._needed(value.divided_by, rows, field)
            if not divisor:
                raise Refused(rows[0].number, field, f"{_from(value.divided_by)}: cannot divide by 0")
            total /= divisor
        return total

    def _needed(self, value: Value, rows: Sequence[SourceRow], field: str) -> Fraction:
        number = self.number(value, rows, field)
        if number is None:
            raise Refused(rows[0].number, field, f"{_from(value)} is empty")
        return number

    def _parsed(self, text: str, value: Value, rows: Sequence[SourceRow], field: str, currency: str | None) -> Fraction:
        signs = [one for one in text if one in CURRENCY_SIGNS]
        if signs and currency is None:
            raise Refused(rows[0].number, field, f"{_from(value)}: {signs[0]!r} is of money, this is no amount")
        if currency in MINOR_UNIT_DIGITS:
            for found in [*signs, *(code for code in _CODE.findall(text) if code in MINOR_UNIT_DIGITS)]:
                if currency not in CURRENCY_SIGNS.get(found, (found,)):
                    raise Refused(rows[0].number, field, f"{_from(value)}: {found!r} is not of {currency}")
        plain = text
        for symbol in [*self._form.symbols, *signs]:
            plain = plain.replace(symbol, "")
        if currency is not None and currency in MINOR_UNIT_DIGITS:  # its own code may stand before or behind it
            plain = re.sub(rf"^\s*{currency}(?![A-Za-z])|(?<![A-Za-z]){currency}\s*$", "", plain)
        plain = plain.strip().replace("\u00a0", " ").replace("\u202f", " ").replace("\u2212", "-")
        plain = re.sub(r"^([+-])\s+", r"\1", plain)
        number = self._number.match(plain) if len(plain) <= LONGEST_AMOUNT else None
        if number is None:
            raise Refused(
                rows[0].number, field, f"{_from(value)}: {text!r} is not a number in the format of the mapping"
            )
        sign, whole, fraction = number.groups()
        digits = whole.replace(self._form.thousands, "") if self._form.thousands else whole
        return Fraction(Decimal(f"{sign}{digits}.{fraction or '0'}"))

    def amount(self, value: Value | None, rows: Sequence[SourceRow], currency: str, field: str) -> str | None:
        """A value as an exact amount of a currency; ``None`` if it is empty. Raises :class:`Refused`."""
        number = self.number(value, rows, field, currency)
        return None if number is None else amount_text(number, currency, rows[0].number, field, value)

    def limit(self, value: Value | None, rows: Sequence[SourceRow], currency: str, field: str) -> int:
        """A value as minor units of a currency; 0 if it is empty. Raises :class:`Refused`.

        It is rounded down, because it only limits something: two cents are nothing in a currency without cents.
        """
        unit = 10 ** MINOR_UNIT_DIGITS.get(currency, 0)
        minor = int((self.number(value, rows, field, currency) or 0) * unit // 1)
        return to_minor(amount_text(Fraction(minor, unit), currency, rows[0].number, field, value), currency)

    def count(self, value: Value | None, rows: Sequence[SourceRow], field: str) -> int | None:
        """A value as a whole number that is not negative (``2`` and ``2.0000``). Raises :class:`Refused`."""
        number = self.number(value, rows, field)
        if value is None or number is None:
            return None
        if number < 0:
            raise Refused(rows[0].number, field, f"{_from(value)}: {_shown(number)} is negative")
        if number.denominator != 1:
            raise Refused(rows[0].number, field, f"{_from(value)}: {_shown(number)} is not a whole number")
        return int(number)

    # ---- instants, yes and no ----------------------------------------------------------------------------------------

    def instant(self, value: Value | None, rows: Sequence[SourceRow], field: str) -> datetime | None:
        """A value as an instant in UTC; ``None`` if it is empty. Raises :class:`Refused`."""
        text = self.text(value, rows, field)
        if value is None or text is None:
            return None
        for form in self._times:
            time = form.read(text)
            if time is not None:
                return self._at(time, text, rows[0].number, field)
        shown = ", ".join(self._form.times)
        raise Refused(rows[0].number, field, f"{_from(value)}: {text!r} is not a time in the format {shown}")

    def _at(self, time: ReadTime, text: str, row: int, field: str) -> datetime:
        if (time.offset is None or time.zone_name is not None) and not 1900 <= time.local.year <= 2200:
            raise Refused(row, field, f"{text!r} is outside the years this library knows")
        if time.weekday not in (None, time.local.weekday()):
            raise Refused(row, field, f"{text!r} names another day of the week than its date")
        named = self._at_named(time, text, row, field)
        if time.offset is None and time.zone_name is None:
            return self._in_zone(time.local, self._zone, text, row, field)
        at = named if time.offset is None else time.by_offset()
        if at is None:
            raise Refused(
                row, field, f"{text!r}: {time.zone_name!r} names several time zones, or none; write an offset"
            )
        if named not in (None, at):
            raise Refused(row, field, f"{text!r}: the offset is not that of {time.zone_name!r}")
        return at

    def _at_named(self, time: ReadTime, text: str, row: int, field: str) -> datetime | None:
        """The instant of a time with the name of a zone; ``None`` for a name that does not say for certain which."""
        local, name = time.local, time.zone_name
        if name is None:
            return None
        if "/" in name:
            try:
                tz = zone(name)
            except CalendarInvalid:
                return None
            if time.offset is not None and time.by_offset().astimezone(tz).replace(tzinfo=None) == local:
                return time.by_offset()
            return self._in_zone(local, tz, text, row, field)
        known = name.upper()
        if known in UNIVERSAL:
            return local.replace(tzinfo=UTC)
        american = None if known in OF_OTHERS_TOO and time.offset is not None else AMERICAN.get(known)
        for one in (self._zone, None if american is None else zone(american)):
            if one is None or known not in names_of(one, local.year):
                continue
            found = at_named(local, known, one)
            if not found:
                raise Refused(row, field, f"{text!r}: the clocks of {one.key} do not show {known} then")
            if time.offset is not None and time.by_offset() in found:
                return time.by_offset()
            exists = found[0].astimezone(one).replace(tzinfo=None) == local
            if len(found) == 1 and (exists or self._form.nonexistent == "shift"):
                return found[0]
            return self._in_zone(local, one, text, row, field)
        return None

    def _in_zone(self, local: datetime, tz: ZoneInfo | None, text: str, row: int, field: str) -> datetime:
        form = self._form
        if tz is None:
            raise Refused(row, field, f"{text!r} has no offset, and the mapping names no format.zone")
        first = local.replace(tzinfo=tz, fold=0)
        second = local.replace(tzinfo=tz, fold=1)
        if first.utcoffset() == second.utcoffset():
            return first.astimezone(UTC)
        exists = first.astimezone(UTC).astimezone(tz).replace(tzinfo=None) == local
        if exists:
            if form.ambiguous == "refuse":
                raise Refused(row, field, f"{text!r} occurs twice in {tz.key}: clocks are set back")
            return (first if form.ambiguous == "earlier" else second).astimezone(UTC)
        if form.nonexistent == "refuse":
            raise Refused(row, field, f"{text!r} does not exist in {tz.key}: clocks are set forward")
        return first.astimezone(UTC)

    def flag(self, value: Value | None, rows: Sequence[SourceRow], field: str) -> bool | None:
        """A value as yes or no; ``None`` if it is empty. Raises :class:`Refused`."""
        text = self.text(value, rows, field)
        if value is None or text is None:
            return None
        known = self._words.get(text.casefold())
        if known is None:
            raise Refused(rows[0].number, field, f"{_from(value)}: {text!r} is neither true nor false in the mapping")
        return known


def amount_text(number: Fraction, currency: str, row: int, field: str, value: Value | None = None) -> str:
    """An exact number, read from ``value``, as an amount.

    Raises :class:`Refused` if it is negative, a trillion or more, or not a multiple of the smallest unit.

    >>> amount_text(Fraction("45.5000"), "USD", 2, "tax")
    '45.50'
    """
    if number < 0:
        raise Refused(row, field, f"{_from(value)}: {_shown(number)} is negative")
    if number >= TOO_MUCH:
        raise Refused(row, field, f"{_from(value)}: {_shown(number)} is a trillion or more")
    digits = MINOR_UNIT_DIGITS.get(currency)
    if digits is None:
        raise Refused(row, "currency", f"{currency!r} is not an ISO 4217 currency code")
    minor = number * 10**digits
    if minor.denominator != 1:
        raise Refused(row, field, f"{_from(value)}: {_shown(number)} is not a whole amount of {currency}")
    return to_major(int(minor), currency)


def _shown(number: Fraction) -> str:
    """An exact number for a message, in digits: all of them, or six after the point where they never end.

    >>> _shown(Fraction("12.3450")), _shown(Fraction(10**12)), _shown(Fraction(-10, 3))
    ('12.345', '1000000000000', '-3.333333…')
    """
    for digits in range(LONGEST_AMOUNT):
        if (number * 10**digits).denominator == 1:
            return f"{Decimal(int(number * 10**digits)).scaleb(-digits):f}"
    return f"{float(number):.6f}…"


def _from(value: Value | None) -> str:
    columns = list(dict.fromkeys(value.columns_used())) if value else []
    if not columns:
        return "the value"
    return f"column{'s' if len(columns) > 1 else ''} {' and '.join(repr(column) for column in columns)}"

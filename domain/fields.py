"""The types of the fields that cross the boundary: ids, texts, money, quantities, instants.

They are strict: a number is not a string, a float is never money, an instant carries its offset, and no string smuggles
control characters or megabytes into a ledger that is kept for years.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictBool,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from returnable.domain.calendar import plain
from returnable.domain.characters import NOT_IN_ID, NOT_IN_LINE, NOT_IN_TEXT, why_refused
from returnable.domain.marks import Mark
from returnable.domain.money import AMOUNT_PATTERN, LONGEST_AMOUNT, MINOR_UNIT_DIGITS, MoneyInvalid, plain_amount

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
LATEST = datetime(2099, 1, 1, tzinfo=UTC)
"""Instants outside these bounds are refused: the calendars end soon after."""

_RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ]((?:[01]\d|2[0-3]):[0-5]\d):([0-5]\d|60)(?:\.(\d+))?(?:[Zz]|([+-](?:[01]\d|2[0-3]):[0-5]\d))\Z",
    re.ASCII,
)


def rfc_3339(text: str) -> datetime | None:
    """The aware ``datetime`` of RFC 3339 text; ``None`` where the text is not in that form.

    Digits beyond the microsecond are cut. A leap second, the second 60 at the end of a month in UTC, is read as the last
    microsecond before it. Raises :class:`ValueError` for a day or a leap second that does not exist.

    >>> rfc_3339("2026-03-02t10:00:00.123456789z").isoformat(), rfc_3339("2016-12-31T23:59:60Z").isoformat()
    ('2026-03-02T10:00:00.123456+00:00', '2016-12-31T23:59:59.999999+00:00')
    """
    found = _RFC_3339.match(text)
    if found is None:
        return None
    day, minute, second, fraction, offset = found.groups()
    leap = second == "60"
    second, fraction = ("59", "9" * 6) if leap else (second, (fraction or "")[:6])
    instant = datetime.fromisoformat(f"{day}T{minute}:{second}.{fraction:0<6}{offset or '+00:00'}")
    if leap and (instant.astimezone(UTC) + timedelta(microseconds=1)).strftime("%d %H:%M") != "01 00:00":
        raise ValueError("a leap second ends a month in UTC")
    return instant


def parse_instant(value: object) -> datetime:
    """An aware instant in UTC from RFC 3339 text with an offset, or from an aware ``datetime``.

    >>> parse_instant("2026-03-02T10:00:00-05:00").isoformat()
    '2026-03-02T15:00:00+00:00'
    """
    if isinstance(value, str):
        try:
            value = rfc_3339(value)
        except ValueError as error:
            raise PydanticCustomError("instant", "is not a real instant: {why}", {"why": str(error)}) from None
        except OverflowError:
            raise _outside() from None
        if value is None:
            raise PydanticCustomError(
                "instant", "is not an RFC 3339 instant with an offset, such as 2026-03-02T10:00:00-05:00"
            )
    if not isinstance(value, datetime):
        raise PydanticCustomError("instant", "must be an RFC 3339 string with an offset")
    if value.utcoffset() is None:
        raise PydanticCustomError("instant", "is naive: an instant needs an offset")
    try:
        instant = value.astimezone(UTC)
    except OverflowError:
        raise _outside() from None
    if not EARLIEST <= instant < LATEST:
        raise PydanticCustomError("instant", "must lie between 1990 and 2098")
    return plain(instant)


def _outside() -> PydanticCustomError:
    return PydanticCustomError("instant", "is outside the years this library knows")


def to_text(instant: datetime) -> str:
    """The stored form of an instant: RFC 3339 in UTC.

    >>> to_text(parse_instant("2026-03-02T10:00:00-05:00"))
    '2026-03-02T15:00:00Z'
    """
    return instant.isoformat().replace("+00:00", "Z")


def _allowed(refused: re.Pattern[str]) -> BeforeValidator:
    """Refuses a text by a rule of characters; it comes before other checks, which know nothing of half a character."""

    def check(value: object) -> object:
        if isinstance(value, str) and (why := why_refused(value, refused)):
            raise PydanticCustomError("characters", "{why}", {"why": why})
        return value

    return BeforeValidator(check)


def _amount(value: object) -> object:
    if isinstance(value, Decimal) and value.is_finite() and (not value or abs(value.adjusted()) < LONGEST_AMOUNT):
        value = format(value, "f") if value else "0"
    if isinstance(value, Decimal):
        raise PydanticCustomError("money", "must be a finite decimal amount of at most 40 characters")
    if isinstance(value, float | int):
        raise PydanticCustomError("money", 'must be a decimal string such as "750.00", never a number')
    if isinstance(value, str):
        try:
            return plain_amount(value)
        except MoneyInvalid as error:
            raise PydanticCustomError("money", "{why}", {"why": str(error)}) from None
    return value


def _currency(value: str) -> str:
    if value not in MINOR_UNIT_DIGITS:
        raise PydanticCustomError("currency", "is not an ISO 4217 currency code")
    return value


Instant = Annotated[
    datetime,
    PlainValidator(parse_instant),
    PlainSerializer(to_text, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "description": "RFC 3339 with offset"}),
]
"""When something happened: RFC 3339 with an offset; kept in UTC."""

LONGEST_ID = 128
LONGEST_TEXT = 2000
"""The most characters of an id, and of a text that people wrote."""

_Short = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=LONGEST_ID)]
_Long = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=LONGEST_TEXT)]
_Id = Annotated[_Short, _allowed(NOT_IN_ID)]

Id = Annotated[_Id, Mark.HARMLESS]
"""The caller's own id: 1 to 128 characters, none of them invisible. It says nothing of a person."""

PersonalId = Annotated[_Id, Mark.PERSONAL]
"""An id of that kind by which a person, a parcel or a payment can be known."""

AskedId = Annotated[_Short, _allowed(NOT_IN_LINE), Mark.HARMLESS]
"""An id in a question: 1 to 128 characters. A store may hold ids that no command may give any more."""

Reference = Annotated[_Short, _allowed(NOT_IN_LINE), Mark.FREE_TEXT]
"""An id as a person wrote it: 1 to 128 characters on one line."""

Text = Annotated[_Long, _allowed(NOT_IN_TEXT), Mark.FREE_TEXT]
"""Text that people wrote: 1 to 2,000 characters, also on several lines."""

PersonalText = Annotated[_Long, _allowed(NOT_IN_LINE), Mark.PERSONAL]
"""A name or an address of a person: 1 to 2,000 characters on one line."""

Amount = Annotated[
    str,
    BeforeValidator(_amount),
    StringConstraints(strict=True),
    WithJsonSchema({"type": "string", "pattern": AMOUNT_PATTERN, "maxLength": LONGEST_AMOUNT}),
    Mark.MONEY,
]
"""Money in major units as a decimal string, not negative."""

Currency = Annotated[str, StringConstraints(strict=True, max_length=3), AfterValidator(_currency), Mark.HARMLESS]
"""An ISO 4217 code."""

Quantity = Annotated[int, Field(strict=True, ge=1, le=1_000_000), Mark.HARMLESS]
"""How many units: at least 1."""

Channel = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=40), _allowed(NOT_IN_ID), Mark.HARMLESS
]
"""How a request came in: ``email``, ``portal``, ``phone``, … A policy names the ones it accepts."""

Flag = StrictBool

Role = Literal["customer", "care", "warehouse", "carrier", "payments", "system", "auditor"]
Evidence = Literal["order_confirmation", "item_picture"]
Remedy = Literal["refund", "replacement", "both"]
Disposition = Literal["restock", "refurbish", "scrap", "vendor"]
"""What becomes of a unit that came back."""
RefundKind = Literal["goodwill", "dispute", "elsewhere", "past"]
"""Why money went back that the desk did not ask for."""
WorkKind = Literal[
    "notify_customer",
    "contact_customer",
    "void_label",
    "inspect",
    "request_refund",
    "refund_short",
    "refund_overdue",
    "send_back",
    "reship",
    "unsent_return",
    "assign_arrival",
    "exception",
]
"""The tasks on the worklist."""


class Model(BaseModel):
    """The base of everything that crosses the boundary: closed, immutable."""

    # Built when first used: a process that carries out one command needs few of these models.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Input(Model):
    """The base of what a caller gives. A mapping with many unknown keys is refused for the first of them.

    An error for each of them would be kept, and a request of a few megabytes holds hundreds of thousands.
    """

    @model_validator(mode="before")
    @classmethod
    def _one_unknown_key_is_enough(cls, value: Any) -> Any:
        fields = cls.__pydantic_fields__
        if isinstance(value, (dict, Mapping)) and len(value) > len(fields):
            names = [field.alias or name for name, field in fields.items()]
            known = {name: value[name] for name in names if name in value}
            unknown = next((key for key in value if key not in known), None)
            return known if unknown is None else known | {unknown: value[unknown]}
        return value


T = TypeVar("T")

MANY = 1000
"""The most elements that a list from outside may have."""

Many = Annotated[tuple[T, ...], Field(max_length=MANY, fail_fast=True)]
"""A list from outside. It is given up at the first element that is wrong: each error of a list of millions would be kept."""


class Actor(Input):
    """Who acted."""

    role: Role
    id: PersonalId

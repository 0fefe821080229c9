"""The types of the fields that cross the boundary: ids, texts, money, quantities, instants.

They are strict: a number is not a string, a float is never money, an instant carries its offset, and no string smuggles
control characters or megabytes into a ledger that is kept for years.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
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
from returnable.domain.marks import Mark
from returnable.domain.money import DECIMAL_AMOUNT, MINOR_UNIT_DIGITS

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
LATEST = datetime(2099, 1, 1, tzinfo=UTC)
"""Instants outside these bounds are refused: the calendars end soon after."""

_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)\Z",
    re.ASCII,
)


def parse_instant(value: object) -> datetime:
    """An aware instant in UTC from RFC 3339 text with an offset, or from an aware ``datetime``.

    >>> parse_instant("2026-03-02T10:00:00-05:00").isoformat()
    '2026-03-02T15:00:00+00:00'
    """
    if isinstance(value, str):
        if not _RFC_3339.match(value):
            raise PydanticCustomError(
                "instant", "is not an RFC 3339 instant with an offset, such as 2026-03-02T10:00:00-05:00"
            )
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise PydanticCustomError("instant", "is not a real instant: {why}", {"why": str(error)}) from None
    if not isinstance(value, datetime):
        raise PydanticCustomError("instant", "must be an RFC 3339 string with an offset")
    if value.utcoffset() is None:
        raise PydanticCustomError("instant", "is naive: an instant needs an offset")
    try:
        instant = value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("instant", "is outside the years this library knows") from None
    if not EARLIEST <= instant < LATEST:
        raise PydanticCustomError("instant", "must lie between 1990 and 2098")
    return plain(instant)


def to_text(instant: datetime) -> str:
    """The stored form of an instant: RFC 3339 in UTC.

    >>> to_text(parse_instant("2026-03-02T10:00:00-05:00"))
    '2026-03-02T15:00:00Z'
    """
    return instant.isoformat().replace("+00:00", "Z")


def _printable(value: str) -> str:
    if not value.isprintable():
        raise PydanticCustomError("printable", "must not contain control characters or line breaks")
    if value and not value.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return value


def _amount_text(value: object) -> object:
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < 20:
        return format(value, "f")
    if isinstance(value, float | int):
        raise PydanticCustomError("money", 'must be a decimal string such as "750.00", never a number')
    return value


def _amount(value: str) -> str:
    if not DECIMAL_AMOUNT.match(value):
        raise PydanticCustomError("money", 'must be a non-negative decimal string such as "750.00"')
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

_Id = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=128), AfterValidator(_printable)]

Id = Annotated[_Id, Mark.HARMLESS]
"""The caller's own id: 1 to 128 printable characters. It says nothing of a person."""

PersonalId = Annotated[_Id, Mark.PERSONAL]
"""An id by which a person, a parcel or a payment can be known: 1 to 128 printable characters."""

Reference = Annotated[_Id, Mark.FREE_TEXT]
"""What a person gave as an id: 1 to 128 printable characters."""

_Text = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=2000), AfterValidator(_printable)]

Text = Annotated[_Text, Mark.FREE_TEXT]
"""A line of text for people: 1 to 2,000 printable characters."""

PersonalText = Annotated[_Text, Mark.PERSONAL]
"""A text of that kind that names a person."""

Amount = Annotated[
    str,
    BeforeValidator(_amount_text),
    StringConstraints(strict=True, max_length=24),
    AfterValidator(_amount),
    WithJsonSchema({"type": "string", "pattern": r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,4})?$"}),
    Mark.MONEY,
]
"""Money in major units as a decimal string, not negative."""

Currency = Annotated[str, StringConstraints(strict=True, max_length=3), AfterValidator(_currency), Mark.HARMLESS]
"""An ISO 4217 code."""

Quantity = Annotated[int, Field(strict=True, ge=1, le=1_000_000), Mark.HARMLESS]
"""How many units: at least 1."""

Channel = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=40), AfterValidator(_printable), Mark.HARMLESS
]
"""How a request came in: ``email``, ``portal``, ``phone``, … A policy names the ones it accepts."""

Flag = StrictBool

Role = Literal["customer", "care", "warehouse", "carrier", "payments", "system", "auditor"]
Evidence = Literal["order_confirmation", "item_picture"]
Remedy = Literal["refund", "replacement", "both"]
WorkKind = Literal[
    "notify_customer",
    "contact_customer",
    "void_label",
    "inspect",
    "request_refund",
    "refund_overdue",
    "send_back",
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

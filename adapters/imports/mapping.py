"""The mapping of a host's table: which columns become which fields of which commands. It is TOML, and strict.

A field is the name of a column, or a table with more keys::

    email = "Customer Email"
    currency = { value = "USD" }
    confirmed_at = { columns = ["Paid at", "Created at"] }
    order_id = { column = "Name", match = "^#(.+)$" }
    unit_price = { sum = ["Row Total"], minus = ["Row Discount"], divided_by = "Qty" }
    method = { column = "Gateway", values = { visa = "card", "paypal-ec" = "paypal" }, default = "other" }

A mapping with ``[order]`` confirms new orders; one with ``order_id`` tells what happened to orders that are known.
"""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic import field_validator as check

from returnable.adapters.imports.times import TimeFormat, day_and_month_swapped
from returnable.domain.calendar import zone
from returnable.domain.errors import CalendarInvalid, ReturnableError, place_of


class MappingInvalid(ReturnableError):
    """A mapping that cannot be used. The message names the file and the place in it. Nothing was imported."""


class Closed(BaseModel):
    """The base of a mapping's parts: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


ColumnName = Annotated[str, StringConstraints(min_length=1)]


class Value(Closed):
    """The source of a value: exactly one of ``column``, ``columns``, ``value``, ``template``, ``sum`` and ``due``."""

    column: ColumnName | None = None
    columns: Annotated[tuple[ColumnName, ...], Field(min_length=1, strict=False, fail_fast=True)] | None = None
    """The first of these that is not empty."""
    value: str | int | bool | None = None
    """A constant, the same for every order."""
    template: str | None = None
    """Text with columns in braces; empty if one of them is empty."""
    sum: Annotated[tuple[Number, ...], Field(min_length=1, strict=False, fail_fast=True)] | None = None
    """Numbers to add up. An empty number counts as 0. If all numbers are empty, the sum is empty, too."""
    due: Literal[True] | None = None
    """Only for the amount of a payment: the price of the order less the other payments."""

    minus: Annotated[tuple[Number, ...], Field(strict=False, fail_fast=True)] = ()
    times: Number | None = None
    divided_by: Number | None = None

    match: str | None = None
    """A regular expression. The value becomes its first group, or the whole match if the expression has no group."""
    values: dict[str, str] | None = None
    """The text to use for each text of the table. Texts that are not listed are refused, unless there is a default."""
    default: str | None = None
    """Replaces an empty value, and a text that ``values`` does not list."""

    @check("match")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is not a regular expression: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            what = " and ".join(given) + " are given" if given else "none is given"
            raise ValueError(f"needs exactly one of {', '.join(_SOURCES)}; {what}")
        if self.sum is not None and (self.match is not None or self.values is not None):
            raise ValueError("match and values apply to a text, not to a sum; put them into the parts of the sum")
        if self.due and self.model_fields_set != {"due"}:
            raise ValueError("due excludes all other keys")
        return self

    @property
    def counts(self) -> bool:
        """Whether the value is a calculation."""
        return self.sum is not None or bool(self.minus) or self.times is not None or self.divided_by is not None

    def columns_used(self) -> Iterator[str]:
        """Every column that the value reads."""
        if self.column is not None:
            yield self.column
        yield from self.columns or ()
        yield from COLUMN_IN_TEMPLATE.findall(self.template or "")
        for part in (*(self.sum or ()), *self.minus, self.times, self.divided_by):
            if part is not None:
                yield from part.columns_used()


_SOURCES = ("column", "columns", "value", "template", "sum", "due")

COLUMN_IN_TEMPLATE = re.compile(r"\{([^{}]+)\}")
"""A column in a template."""


def _as_table(given: Any) -> Any:
    return {"column": given} if isinstance(given, str) else given


def _not_due(given: Value) -> Value:
    if given.due:
        raise ValueError("due is only for the amount of a payment")
    return given


def _not_calculated(given: Value) -> Value:
    if given.counts:
        raise ValueError("sum, minus, times and divided_by are for amounts and quantities")
    return _not_due(given)


Given = Annotated[Value, BeforeValidator(_as_table), AfterValidator(_not_calculated)]
"""A value that is a text, a time, or yes or no. A string alone is the name of a column."""

Number = Annotated[Value, BeforeValidator(_as_table), AfterValidator(_not_due)]
"""A value that is an amount or a quantity, and may be calculated."""

Paid = Annotated[Value, BeforeValidator(_as_table)]
"""The amount of a payment: a number, or ``due``."""


class When(Closed):
    """A condition on a column: its value is in a list, not in a list, empty, or not empty."""

    column: ColumnName
    is_in: Annotated[tuple[str, ...], Field(strict=False, fail_fast=True)] | None = Field(default=None, alias="in")
    not_in: Annotated[tuple[str, ...], Field(strict=False, fail_fast=True)] | None = None
    empty: bool | None = None

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        if sum(one is not None for one in (self.is_in, self.not_in, self.empty)) != 1:
            raise ValueError("needs exactly one of in, not_in and empty")
        return self


class CustomerSection(Closed):
    """The customer. Without ``account_id`` the customer has no account."""

    customer_id: Given
    account_id: Given | None = None
    name: Given | None = None
    email: Given | None = None


class LineSection(Closed):
    """A line of the order. A line whose quantity is empty or 0 is left out. Lines without an id are numbered."""

    when: When | None = None
    line_id: Given | None = None
    sku: Given
    unit_price: Number
    quantity: Number = Value(value=1)
    tax: Number | None = None
    final_sale: Given | None = None
    description: Given | None = None
    goods: bool = True
    """Whether discount, subtotal and tax of the order are about it; they are not about a tip or a fee."""


class ShippingSection(Closed):
    """Outbound shipping."""

    charged: Number
    tax: Number | None = None


class PaymentSection(Closed):
    """A payment. A payment whose amount is empty or 0 is left out. Payments without an id are numbered."""

    when: When | None = None
    payment_id: Given | None = None
    method: Given
    amount: Paid


class OrderSection(Closed):
    """The fields of the command ``confirm_order``."""

    order_id: Given
    confirmed_at: Given
    currency: Given
    customer: CustomerSection
    lines: Annotated[tuple[LineSection, ...], Field(min_length=1, strict=False, fail_fast=True)]
    shipping: ShippingSection | None = None
    payments: Annotated[tuple[PaymentSection, ...], Field(strict=False, fail_fast=True)] = ()
    subtotal: Number | None = None
    """What the goods cost after the discount: what is left of the discount is taken off shipping."""
    discount: Number | None = None
    """A discount on the whole order. It is spread over the units by their prices, to the cent. If the units of a line then
    differ in price, the line becomes two, the second with ``/2`` after its id."""
    tax: Number | None = None
    """The tax of the whole order. It is spread over the units by the prices paid, to the cent."""
    rounding: Number | None = None
    """By how much the payments may differ from the parts; the difference is put down to the tax of the order."""

    @check("payments")
    @classmethod
    def _one_due(cls, payments: tuple[PaymentSection, ...]) -> tuple[PaymentSection, ...]:
        if sum(payment.amount.due is not None for payment in payments) > 1:
            raise ValueError("only one payment can be due")
        return payments

    @model_validator(mode="after")
    def _one_tax(self) -> Self:
        if self.tax is not None and any(line.tax is not None for line in self.lines):
            raise ValueError("give tax for the order or for its lines, not for both")
        if self.rounding is not None and self.tax is None:
            raise ValueError("rounding goes with the tax of the order")
        if self.subtotal is not None and (self.discount is None or self.shipping is None):
            raise ValueError("subtotal goes with a discount and with shipping")
        return self


class AccountSection(Closed):
    """The fields of ``link_account``, for shops whose customers get an account after the order.

    The event occurs at the time of the import.
    """

    when: When | None = None
    account_id: Given


class ParcelSection(Closed):
    """The fields of ``record_shipment`` and ``record_delivery``. A parcel without an id is named by its tracking number."""

    when: When | None = None
    parcel_id: Given | None = None
    carrier: Given
    tracking_number: Given
    shipped_at: Given
    delivered_at: Given | None = None
    holds: Literal["all", "row"] = "all"
    """``all``: all units not in a parcel yet. ``row``: the order line of the row, in a table of lines."""


class CancellationSection(Closed):
    """The fields of the command ``request_cancellation``: what a customer asks for, and the policy decides."""

    when: When | None = None
    requested_at: Given
    channel: Given
    order_reference: Given | None = None
    order_copy: Given | None = None


class UnitsSection(Closed):
    """Units of a line. If their quantity is empty or 0, there are none."""

    when: When | None = None
    line_id: Given | None = None
    """Default: the line of its row, or the only line."""
    quantity: Number


class PastCancellationSection(Closed):
    """The fields of the command ``cancel_order`` for a cancellation of the past, which nobody decides any more."""

    when: When | None = None
    cancelled_at: Given
    reason: Given | None = None
    lines: Annotated[tuple[UnitsSection, ...], Field(strict=False, fail_fast=True)] = ()
    """Without it, the whole order."""


class ReturnLineSection(UnitsSection):
    """Units of a line to return."""

    reason: Given | None = None


class ReturnSection(Closed):
    """The fields of the command ``request_return``."""

    when: When | None = None
    return_id: Given
    requested_at: Given
    channel: Given
    resolution: Given | None = None
    lines: Annotated[tuple[ReturnLineSection, ...], Field(min_length=1, strict=False, fail_fast=True)]


class RefundLineSection(UnitsSection):
    """Units of a line that were paid back, and what was paid back in this row: the amounts of the rows are added up."""

    quantity: Number = Value(value=0)
    amount: Number | None = None


class RefundSection(Closed):
    """The fields of the command ``record_refund``. A refund whose amount is empty or 0 is left out.

    The amount is that of one refund (``amount``, or the sum of ``lines.amount``), or all that went back for the order
    (``total``). Of a total, only what is not on record yet becomes a refund.
    """

    when: When | None = None
    refund_id: Given | None = None
    """Default: the name of the mapping, the order and the number of the section."""
    amount: Number | None = None
    total: Number | None = None
    refunded_at: Given
    payment_id: Given | None = None
    """Default: the refund is spread over the payments by their amounts."""
    reference: Given | None = None
    kind: Given | None = None
    """Default: ``past``."""
    reason: Given | None = None
    lines: Annotated[tuple[RefundLineSection, ...], Field(strict=False, fail_fast=True)] = ()

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        of_lines = any(line.amount is not None for line in self.lines)
        if sum((self.amount is not None, self.total is not None, of_lines)) != 1:
            raise ValueError("needs exactly one of amount, total and lines.amount")
        if self.total is not None and self.refund_id is not None:
            raise ValueError("total excludes refund_id: each increase of the total is a refund of its own")
        return self


class FileSection(Closed):
    """The format of the table's file."""

    encoding: str = "utf-8"
    delimiter: str = ","
    optional: Annotated[tuple[ColumnName, ...], Field(strict=False, fail_fast=True)] = ()
    """Columns that the table may lack; they are then empty."""

    @check("encoding")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            codecs.lookup(name)
            TextIOWrapper(BytesIO(), encoding=name).read()  # some codecs, such as rot13, do not encode text
        except (LookupError, ValueError):
            raise ValueError(f"{name!r} is not a text encoding") from None
        return name

    @check("delimiter")
    @classmethod
    def _separates(cls, given: str) -> str:
        if given != "\t" and (len(given) != 1 or not given.isprintable() or given.isalnum() or given == '"'):
            raise ValueError(
                f"{given!r} is not a delimiter: give a tab or one character that is not a letter, digit or quote"
            )
        return given


Word = Annotated[str, StringConstraints(min_length=1)]


class FormatSection(Closed):
    """The notation of values: times, numbers, yes and no, empty."""

    times: Annotated[tuple[str, ...], Field(min_length=1, strict=False, fail_fast=True)] = ("iso",)
    """``iso``, ``unix`` (seconds), ``unix_ms``, or directives such as ``%d/%m/%Y %H:%M``; the first that fits counts."""
    zone: str | None = None
    """The time zone of times without an offset. Without a zone, such a time is refused."""
    ambiguous: Literal["earlier", "later", "refuse"] = "earlier"
    """The meaning of a time that occurs twice because clocks are set back."""
    nonexistent: Literal["shift", "refuse"] = "shift"
    """A time that does not exist because clocks are set forward is read with the offset before it, or refused."""
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ",", ".", " ", "'", "_"] = ""
    symbols: Annotated[tuple[str, ...], Field(strict=False, fail_fast=True)] = ()
    """Texts to remove from numbers, such as ``USD``. Signs of the order's currency are always removed."""
    true: Annotated[tuple[Word, ...], Field(min_length=1, strict=False, fail_fast=True)] = ("true", "yes", "1")
    false: Annotated[tuple[Word, ...], Field(min_length=1, strict=False, fail_fast=True)] = ("false", "no", "0")
    empty: Annotated[tuple[str, ...], Field(strict=False, fail_fast=True)] = ("",)
    """Texts that mean an empty cell. A cell of spaces is always empty."""

    @check("zone")
    @classmethod
    def _known_zone(cls, name: str | None) -> str | None:
        try:
            if name is not None:
                zone(name)
        except CalendarInvalid as error:
            raise ValueError(str(error)) from None
        return name

    @check("times")
    @classmethod
    def _lossless(cls, forms: tuple[str, ...]) -> tuple[str, ...]:
        for form in forms:
            TimeFormat(form)
            other = day_and_month_swapped(form)
            if other != form and other in forms:
                raise ValueError(f"{form!r} and {other!r} read 03/02 in two ways: keep one")
        return forms

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.decimal == self.thousands:
            raise ValueError("decimal and thousands are the same")
        both = {word.casefold() for word in self.true} & {word.casefold() for word in self.false}
        if both:
            raise ValueError(f"{min(both)!r} is both true and false")
        return self


StepName = Literal["confirmed", "account", "shipped", "delivered", "cancelled", "returned", "refunded"]
STEPS: tuple[StepName, ...] = get_args(StepName)

_STEP = re.compile(rf"({'|'.join(STEPS)})\??\Z")


class StatusSection(Closed):
    """The steps that each status of the host implies. A status that is not listed is refused.

    ``skip`` leaves the order out. The step ``shipped`` says that the shipment happened: if its time is empty, the order is
    refused. ``shipped?`` says that the shipment may have happened: it happened if its time is not empty.
    """

    column: ColumnName
    means: dict[str, Literal["skip"] | list[str]]

    @check("means")
    @classmethod
    def _known_steps(cls, means: dict[str, Any]) -> dict[str, Any]:
        for status, steps in means.items():
            if steps == "skip":
                continue
            for step in steps:
                if not _STEP.match(step):
                    raise ValueError(
                        f"{status}: {step!r} is not a step; there are {', '.join(STEPS)}, each also with a ?"
                    )
            named = [step.removesuffix("?") for step in steps]
            for step in named:
                if named.count(step) > 1:
                    raise ValueError(f"{status}: {step!r} appears more than once")
            if "delivered" in named and "shipped" not in named:
                raise ValueError(f"{status}: delivered needs shipped or shipped?")
        return means


_SECTION_OF = {
    "confirmed": "[order]",
    "account": "[account]",
    "shipped": "[[parcels]]",
    "delivered": "delivered_at in [[parcels]]",
    "cancelled": "[cancellation] or [[cancellations]]",
    "returned": "[[returns]]",
    "refunded": "[[refunds]]",
}


class Mapping(Closed):
    """A whole mapping.

    ``name`` is part of the ids of the commands. A repeated import records nothing twice if its ``name`` is the same.
    """

    name: Annotated[str, StringConstraints(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9._-]+$")]
    rows: Literal["orders", "lines"]
    """Whether a row is an order or an order line. The rows of an order must follow each other."""
    file: FileSection = FileSection()
    format: FormatSection = FormatSection()
    only: Annotated[tuple[When, ...], Field(strict=False, fail_fast=True)] = ()
    """Orders that do not meet all of these are left out."""
    status: StatusSection | None = None
    order: OrderSection | None = None
    order_id: Given | None = None
    """Instead of ``order``: the order of a row is known, and the rows tell what happened to it."""
    account: AccountSection | None = None
    parcels: Annotated[tuple[ParcelSection, ...], Field(strict=False, fail_fast=True)] = ()
    cancellation: CancellationSection | None = None
    cancellations: Annotated[tuple[PastCancellationSection, ...], Field(strict=False, fail_fast=True)] = ()
    returns: Annotated[tuple[ReturnSection, ...], Field(strict=False, fail_fast=True)] = ()
    refunds: Annotated[tuple[RefundSection, ...], Field(strict=False, fail_fast=True)] = ()

    @check("refunds")
    @classmethod
    def _total_alone(cls, refunds: tuple[RefundSection, ...]) -> tuple[RefundSection, ...]:
        if len(refunds) > 1 and any(refund.total is not None for refund in refunds):
            raise ValueError("a total excludes other refunds: they are among it")
        return refunds

    @model_validator(mode="after")
    def _orders_named(self) -> Self:
        if (self.order is None) == (self.order_id is None):
            raise ValueError("needs exactly one of order and order_id: are the orders new or known?")
        for index, refund in enumerate(self.refunds):
            if self.order is None and refund.total is None and refund.refund_id is None:
                raise ValueError(f"refunds.{index}: needs refund_id: several rows may be of one order")
        for status, steps in (self.status.means if self.status is not None else {}).items():
            if self.order is not None and "confirmed" not in steps and steps != "skip":
                raise ValueError(f"status.means: {status}: an order that is not skipped needs confirmed")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.rows == "orders" and any(parcel.holds == "row" for parcel in self.parcels):
            raise ValueError('parcels: holds = "row" is for rows = "lines"')
        present = {
            "confirmed": self.order is not None,
            "account": self.account is not None,
            "shipped": bool(self.parcels),
            "delivered": any(parcel.delivered_at is not None for parcel in self.parcels),
            "cancelled": self.cancellation is not None or bool(self.cancellations),
            "returned": bool(self.returns),
            "refunded": bool(self.refunds),
        }
        for status, steps in (self.status.means if self.status is not None else {}).items():
            for step in steps if isinstance(steps, list) else ():
                if not present.get(step, True):
                    raise ValueError(
                        f"status.means: {status}: {step} must have happened, but there is no {_SECTION_OF[step]}"
                    )
        return self

    def values_used(self) -> Iterator[tuple[str, Value]]:
        """Every value and its place in the mapping."""
        yield from _values_of("", self)

    def columns_used(self) -> Iterator[tuple[str, str]]:
        """Every column that the mapping reads, and the place in the mapping."""
        if self.status is not None:
            yield "status.column", self.status.column
        for place, condition in _conditions_of("", self):
            yield place, condition.column
        for place, value in self.values_used():
            for column in value.columns_used():
                yield place, column


Value.model_rebuild()


def _parts_of(place: str, section: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(section, tuple):
        for index, part in enumerate(section):
            yield f"{place}[{index}]", part
    elif isinstance(section, BaseModel):
        for name in type(section).model_fields:
            yield f"{place}.{name}".lstrip("."), getattr(section, name)


def _values_of(place: str, section: Any) -> Iterator[tuple[str, Value]]:
    if isinstance(section, Value):
        yield place, section
        return
    for inner, part in _parts_of(place, section):
        yield from _values_of(inner, part)


def _conditions_of(place: str, section: Any) -> Iterator[tuple[str, When]]:
    if isinstance(section, When):
        yield place, section
        return
    for inner, part in _parts_of(place, section):
        if not isinstance(part, Value):
            yield from _conditions_of(inner, part)


def read_mapping(path: str) -> Mapping:
    """The mapping in a TOML file; raises :class:`MappingInvalid`."""
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise MappingInvalid(f"{path}: not UTF-8") from None
    except OSError as error:
        raise MappingInvalid(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
        raise MappingInvalid(f"{path}: not TOML: {error}") from None
    try:
        return Mapping.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = place_of(part for part in first["loc"] if part not in _BRANCHES)
        raise MappingInvalid(f"{path}: {place}: {_reason(first)}" if place else f"{path}: {_reason(first)}") from None


_BRANCHES = ("literal['skip']", "list[str]")
"""What pydantic adds to the place of an error in ``means``: the type that it tried, which is not a key of the mapping."""


def _reason(error: Any) -> str:
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "extra_forbidden":
        return "is not a known key"
    if error["type"] in ("too_short", "string_too_short"):
        return "must not be empty"
    message = str(error["msg"]).removeprefix("Value error, ")
    return message[0].lower() + message[1:]

"""Makes the commands of an order from its rows."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any

from returnable.adapters.imports.mapping import (
    AccountSection,
    CancellationSection,
    LineSection,
    Mapping,
    ParcelSection,
    ReturnSection,
    Value,
)
from returnable.adapters.imports.values import Refused, SourceRow, Values, amount_text
from returnable.domain.characters import joined_lines
from returnable.domain.commands import Command, parse_command
from returnable.domain.errors import Impossible
from returnable.domain.fields import LONGEST_ID
from returnable.domain.money import split, to_major, to_minor

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Planned:
    """A command and the row that it comes from."""

    row: int
    command: Command


@dataclass(frozen=True, slots=True)
class Plan:
    """All commands of an order, in the order in which they are carried out."""

    order_id: str
    commands: tuple[Planned, ...]


@dataclass(slots=True)
class _Step:
    at: datetime
    rank: int
    row: int
    key: str
    fields: Fields


@dataclass(slots=True)
class _Line:
    """A line before its units have prices."""

    row: int
    fields: Fields
    cost: int
    """What all its units cost, in minor units."""
    goods: bool = True


@dataclass(slots=True)
class _Bought:
    """The lines of an order, and the rows that they come from."""

    lines: list[Fields] = field(default_factory=list)
    goods: list[Fields] = field(default_factory=list)
    """The lines that share the tax of the order."""
    of_row: dict[int, list[Fields]] = field(default_factory=dict)
    """Row → its lines."""
    halves: dict[str, tuple[Fields, Fields]] = field(default_factory=dict)
    """Id of a line whose units differ in price → what became of it."""
    gone_back: Counter[str] = field(default_factory=Counter)
    """Line → how many of its units are returned so far."""

    @classmethod
    def of(cls, lines: Sequence[_Line], currency: str) -> _Bought:
        """Lines with the prices of their units, to the cent; a line whose units differ in price becomes two."""
        bought, taken = cls(), {line.fields["line_id"] for line in lines}
        for line in lines:
            parts = _in_units(line, taken, currency)
            taken |= {part["line_id"] for part in parts}
            bought.lines += parts
            bought.goods += parts if line.goods else []
            bought.of_row.setdefault(line.row, []).extend(parts)
            if len(parts) == 2:
                bought.halves[parts[0]["line_id"]] = (parts[0], parts[1])
        return bought

    def only_line(self, row: SourceRow, place: str) -> str:
        """The only line of a row; raises :class:`Refused` if the row has none or several."""
        rests = {rest["line_id"] for _, rest in self.halves.values()}
        ids = [line["line_id"] for line in self.of_row.get(row.number, []) if line["line_id"] not in rests]
        if len(ids) != 1:
            raise Refused(row.number, f"{place}.line_id", f"which line goes back? The row has {len(ids)}")
        return str(ids[0])

    def go_back(self, line_id: str, quantity: int) -> list[tuple[str, int]]:
        """Return units of a line; for a split line, first those of its first part. The lines, and the units of each."""
        parts = self.halves.get(line_id)
        first = quantity if parts is None else min(quantity, max(0, parts[0]["quantity"] - self.gone_back[line_id]))
        taken = [(line_id, first)]
        if parts is not None:
            taken.append((parts[1]["line_id"], quantity - first))
        for part, units in taken:
            self.gone_back[part] += units
        return [(part, units) for part, units in taken if units]


class Planner:
    """Plans the commands of orders by a mapping."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._values = Values(mapping.format)

    def order_id(self, row: SourceRow) -> str | None:
        """The id of the order of a row; ``None`` if it is empty. Raises :class:`Refused`."""
        return self._values.text(self._mapping.order.order_id, [row], "order_id")

    def plan(self, order_id: str, rows: Sequence[SourceRow]) -> Plan | None:
        """The commands of an order; ``None`` if the mapping leaves it out. Raises :class:`Refused`.

        The order and its account come first, then the other commands in order of time.
        """
        mapping, values = self._mapping, self._values
        for index, condition in enumerate(mapping.only):
            if not values.holds(condition, rows, f"only[{index}]"):
                return None
        allowed = self._allowed(rows)
        if allowed is None:
            return None
        fields, bought = self._confirmation(order_id, rows)
        first = [_Step(fields["confirmed_at"], 0, rows[0].number, "confirm_order", fields)]
        if mapping.account is not None and "account" in allowed:
            first += self._account(order_id, rows, mapping.account, allowed["account"], fields["confirmed_at"])
        later: list[_Step] = []
        if mapping.cancellation is not None and "cancelled" in allowed:
            later += self._cancellation(order_id, rows, mapping.cancellation, allowed["cancelled"])
        later += self._parcels(order_id, rows, bought.of_row, allowed)
        if mapping.returns and "returned" in allowed:
            later += self._returns(order_id, rows, bought, allowed["returned"])
        later.sort(key=lambda step: (step.at, step.rank))
        return Plan(order_id, tuple(self._command(order_id, step) for step in (*first, *later)))

    def _command(self, order_id: str, step: _Step) -> Planned:
        parts = [self._mapping.name, order_id, *step.key.split("\0")]
        command_id = "import/" + "/".join(_escaped(part) for part in parts)
        if len(command_id) > LONGEST_ID:
            digest = hashlib.sha256(command_id.encode()).hexdigest()[:40]
            command_id = f"{command_id[: LONGEST_ID - 41]}~{digest}"
        try:
            return Planned(step.row, parse_command(step.fields | {"command_id": command_id}))
        except Impossible as error:
            raise Refused(step.row, error.field or "", error.reason, error.code, step.fields["command"]) from None

    def _allowed(self, rows: Sequence[SourceRow]) -> dict[str, bool] | None:
        """Step → whether it must have happened; ``None`` leaves the order out."""
        status = self._mapping.status
        if status is None:
            return dict.fromkeys(("confirmed", "account", "shipped", "delivered", "cancelled", "returned"), False)
        text = self._values.of_column(rows, status.column, "status") or ""
        steps = status.means.get(text)
        if steps is None:
            raise Refused(rows[0].number, "status", f"column {status.column!r}: {text!r} is not in status.means")
        if isinstance(steps, str):
            return None
        return {step.removesuffix("?"): not step.endswith("?") for step in steps}

    # ---- confirm_order -----------------------------------------------------------------------------------------------

    def _confirmation(self, order_id: str, rows: Sequence[SourceRow]) -> tuple[Fields, _Bought]:
        """The fields of the command, and the lines."""
        order, values = self._mapping.order, self._values
        row = rows[0].number
        currency = self._needed(values.text, order.currency, rows, "currency")
        customer = order.customer
        lines = self._lines(rows, currency)
        if not lines:
            reason = "the order has none: every line lacks a quantity or does not meet its condition"
            raise Refused(row, "lines", reason, command="confirm_order")
        discount = values.amount(order.discount, rows, currency, "discount")
        subtotal = values.amount(order.subtotal, rows, currency, "subtotal")
        off_shipping = _take_off(lines, discount or "0", subtotal, currency, row)
        bought = _Bought.of(lines, currency)
        tax = to_minor(values.amount(order.tax, rows, currency, "tax") or "0", currency)
        if tax:
            _spread_tax(bought.goods, tax, currency, row)
        fields: Fields = {
            "command": "confirm_order",
            "order_id": order_id,
            "confirmed_at": self._needed(values.instant, order.confirmed_at, rows, "confirmed_at"),
            "currency": currency,
            "customer": {
                "customer_id": self._needed(values.text, customer.customer_id, rows, "customer.customer_id"),
                "account_id": values.text(customer.account_id, rows, "customer.account_id"),
            },
            "lines": bought.lines,
        }
        name, email = (
            values.text(customer.name, rows, "customer.name"),
            values.text(customer.email, rows, "customer.email"),
        )
        fields["customer"] |= _known(name=name and joined_lines(name), email=email)
        if order.shipping is not None:
            charged = values.amount(order.shipping.charged, rows, currency, "shipping.charged")
            shipping_tax = values.amount(order.shipping.tax, rows, currency, "shipping.tax")
            left = to_minor(charged or "0", currency) - off_shipping
            if left < 0:
                excess = f"{to_major(-left, currency)} of the discount are left when goods and shipping are paid"
                raise Refused(row, "discount", excess, "money.mismatch", "confirm_order")
            fields["shipping"] = {"charged": to_major(left, currency), "tax": shipping_tax or "0"}
        fields["payments"] = self._payments(rows, currency, fields)
        rounding = to_minor(values.amount(order.rounding, rows, currency, "rounding") or "0", currency)
        rounded = sum(to_minor(one["amount"], currency) for one in fields["payments"]) - _price(fields, currency)
        if 0 < abs(rounded) <= rounding and tax + rounded >= 0:
            _spread_tax(bought.goods, tax + rounded, currency, row)
        return fields, bought

    def _needed(self, read: Callable[..., Any], value: Value, rows: Sequence[SourceRow], field: str) -> Any:
        found = read(value, rows, field)
        if found is None:
            columns = " and ".join(repr(name) for name in dict.fromkeys(value.columns_used()))
            raise Refused(rows[0].number, field, f"column {columns} is empty" if columns else "is empty")
        return found

    def _lines(self, rows: Sequence[SourceRow], currency: str) -> list[_Line]:
        lines: list[_Line] = []
        for row in rows:
            for section in self._mapping.order.lines:
                line = self._line(row, section, currency, len(lines))
                lines += [] if line is None else [line]
        return lines

    def _line(self, row: SourceRow, section: LineSection, currency: str, index: int) -> _Line | None:
        values, rows = self._values, [row]
        place = f"lines[{index}]"
        if not values.holds(section.when, rows, place):
            return None
        quantity = values.count(section.quantity, rows, f"{place}.quantity")
        if not quantity:
            return None
        price = values.number(section.unit_price, rows, f"{place}.unit_price", currency)
        if price is None:
            raise Refused(row.number, f"{place}.unit_price", "is empty")
        line: Fields = {
            "line_id": values.text(section.line_id, rows, f"{place}.line_id") or str(index + 1),
            "sku": self._needed(values.text, section.sku, rows, f"{place}.sku"),
            "unit_price": "",  # until the discount is known
            "quantity": quantity,
            "tax": values.amount(section.tax, rows, currency, f"{place}.tax") or "0",
            "final_sale": values.flag(section.final_sale, rows, f"{place}.final_sale") or False,
        }
        # A price that is calculated need not be whole cents, if what all units cost is: 10.00 divided by 3.
        counted = 1 if section.unit_price.counts else quantity
        cost = amount_text(price * quantity / counted, currency, row.number, f"{place}.unit_price")
        line |= _known(description=values.text(section.description, rows, f"{place}.description"))
        return _Line(row.number, line, to_minor(cost, currency) * counted, section.goods)

    def _payments(self, rows: Sequence[SourceRow], currency: str, order: Fields) -> list[Fields]:
        values = self._values
        payments: list[Fields] = []
        rest: Fields | None = None
        for section in self._mapping.order.payments:
            place = f"payments[{len(payments)}]"
            if not values.holds(section.when, rows, place):
                continue
            amount: str | None = "0"
            if not section.amount.due:
                amount = values.amount(section.amount, rows, currency, f"{place}.amount")
                if amount is None or not to_minor(amount, currency):
                    continue
            payment: Fields = {
                "payment_id": values.text(section.payment_id, rows, f"{place}.payment_id") or str(len(payments) + 1),
                "method": self._needed(values.text, section.method, rows, f"{place}.method"),
                "amount": amount,
            }
            payments.append(payment)
            rest = payment if section.amount.due else rest
        if rest is not None:
            due = _price(order, currency) - sum(to_minor(one["amount"], currency) for one in payments)
            if due < 0:
                reason = f"the other payments are {to_major(-due, currency)} more than the order's price"
                raise Refused(rows[0].number, "payments", reason, "money.mismatch", "confirm_order")
            rest["amount"] = to_major(due, currency)
            if not due:
                payments.remove(rest)
        return payments

    # ---- later commands ----------------------------------------------------------------------------------------------

    def _account(
        self, order_id: str, rows: Sequence[SourceRow], section: AccountSection, must: bool, at: datetime
    ) -> list[_Step]:
        if not self._values.holds(section.when, rows, "account_id"):
            _absent(must, rows, "account_id", "link_account", met=False)
            return []
        account_id = self._values.text(section.account_id, rows, "account_id")
        if account_id is None:
            _absent(must, rows, "account_id", "link_account")
            return []
        fields: Fields = {"command": "link_account", "order_id": order_id, "account_id": account_id}
        return [_Step(at, 1, rows[0].number, "link_account", fields)]

    def _cancellation(
        self, order_id: str, rows: Sequence[SourceRow], section: CancellationSection, must: bool
    ) -> list[_Step]:
        values = self._values
        at = self._requested_at(section, rows, must, "request_cancellation")
        if at is None:
            return []
        fields: Fields = {
            "command": "request_cancellation",
            "order_id": order_id,
            "requested_at": at,
            "channel": self._needed(values.text, section.channel, rows, "channel"),
        }
        fields |= _known(order_reference=values.text(section.order_reference, rows, "order_reference"))
        fields |= _known(order_copy=values.flag(section.order_copy, rows, "order_copy"))
        return [_Step(at, 0, rows[0].number, "request_cancellation", fields)]

    def _requested_at(
        self, section: CancellationSection | ReturnSection, rows: Sequence[SourceRow], must: bool, command: str
    ) -> datetime | None:
        met = self._values.holds(section.when, rows, "requested_at")
        at = self._values.instant(section.requested_at, rows, "requested_at") if met else None
        if at is None:
            _absent(must, rows, "requested_at", command, met=met)
        return at

    def _parcels(
        self, order_id: str, rows: Sequence[SourceRow], of_row: dict[int, list[Fields]], allowed: dict[str, bool]
    ) -> list[_Step]:
        if "shipped" not in allowed or not self._mapping.parcels:
            return []
        shipments: dict[str, _Step] = {}
        deliveries: dict[str, _Step] = {}
        for section in self._mapping.parcels:
            for group in [[row] for row in rows] if section.holds == "row" else [list(rows)]:
                self._parcel(order_id, group, section, of_row, allowed, shipments, deliveries)
        if not shipments and allowed["shipped"]:
            raise Refused(
                rows[0].number, "shipped_at", "is empty, but the status says shipped", command="record_shipment"
            )
        if not deliveries and allowed.get("delivered"):
            reason = "is empty, but the status says delivered"
            raise Refused(rows[0].number, "delivered_at", reason, command="record_delivery")
        return [*shipments.values(), *deliveries.values()]

    def _parcel(
        self,
        order_id: str,
        rows: Sequence[SourceRow],
        section: ParcelSection,
        of_row: dict[int, list[Fields]],
        allowed: dict[str, bool],
        shipments: dict[str, _Step],
        deliveries: dict[str, _Step],
    ) -> None:
        values, row = self._values, rows[0].number
        if not values.holds(section.when, rows, "parcel_id"):
            return
        shipped_at = values.instant(section.shipped_at, rows, "shipped_at")
        if shipped_at is None:
            return
        tracking = self._needed(values.text, section.tracking_number, rows, "tracking_number")
        parcel_id = values.text(section.parcel_id, rows, "parcel_id") or tracking
        units = [
            {"line_id": line["line_id"], "quantity": line["quantity"]}
            for one in rows
            for line in of_row.get(one.number, ())
        ]
        if section.holds == "row" and not units:
            return
        fields: Fields = {
            "command": "record_shipment",
            "order_id": order_id,
            "parcel_id": parcel_id,
            "carrier": self._needed(values.text, section.carrier, rows, "carrier"),
            "tracking_number": tracking,
            "shipped_at": shipped_at,
        }
        known = shipments.get(parcel_id)
        if known is None:
            if section.holds == "row":
                fields["lines"] = units
            shipments[parcel_id] = _Step(shipped_at, 1, row, f"record_shipment\0{parcel_id}", fields)
        else:
            _same(known, fields, row, ("carrier", "tracking_number", "shipped_at"))
            if section.holds == "row":
                known.fields["lines"] += units
        delivered_at = values.instant(section.delivered_at, rows, "delivered_at") if "delivered" in allowed else None
        if delivered_at is not None:
            delivery: Fields = {"command": "record_delivery", "order_id": order_id, "parcel_id": parcel_id}
            delivery |= {"delivered_at": delivered_at}
            if parcel_id in deliveries:
                _same(deliveries[parcel_id], delivery, row, ("delivered_at",))
            # A shipment precedes its delivery, even if the times of the host contradict that.
            at = max(delivered_at, shipped_at)
            deliveries.setdefault(parcel_id, _Step(at, 2, row, f"record_delivery\0{parcel_id}", delivery))

    def _returns(self, order_id: str, rows: Sequence[SourceRow], bought: _Bought, must: bool) -> list[_Step]:
        """All returns; with ``must`` there must be at least one."""
        sections = self._mapping.returns
        alone = must and len(sections) == 1
        steps = [step for section in sections for step in self._return(order_id, rows, section, bought, alone)]
        if not steps:
            _absent(must, rows, "requested_at", "request_return")
        return steps

    def _return(
        self, order_id: str, rows: Sequence[SourceRow], section: ReturnSection, bought: _Bought, must: bool
    ) -> list[_Step]:
        values = self._values
        at = self._requested_at(section, rows, must, "request_return")
        if at is None:
            return []
        lines: list[Fields] = []
        for row in rows:
            for wanted in section.lines:
                place = f"lines[{len(lines)}]"
                if not values.holds(wanted.when, [row], place):
                    continue
                quantity = values.count(wanted.quantity, [row], f"{place}.quantity")
                if not quantity:
                    continue
                line_id = values.text(wanted.line_id, [row], f"{place}.line_id") or bought.only_line(row, place)
                why = _known(reason=values.text(wanted.reason, [row], f"{place}.reason"))
                lines += [
                    {"line_id": part, "quantity": units} | why for part, units in bought.go_back(line_id, quantity)
                ]
        if not lines:
            _absent(must, rows, "lines", "request_return")
            return []
        return_id = self._needed(values.text, section.return_id, rows, "return_id")
        fields: Fields = {
            "command": "request_return",
            "return_id": return_id,
            "order_id": order_id,
            "requested_at": at,
            "channel": self._needed(values.text, section.channel, rows, "channel"),
            "lines": lines,
        }
        fields |= _known(resolution=values.text(section.resolution, rows, "resolution"))
        return [_Step(at, 3, rows[0].number, f"request_return\0{return_id}", fields)]


def _known(**fields: Any) -> Fields:
    return {name: value for name, value in fields.items() if value is not None}


def _escaped(part: str) -> str:
    return part.replace("%", "%25").replace("/", "%2F")


def _absent(must: bool, rows: Sequence[SourceRow], field: str, command: str, *, met: bool = True) -> None:
    """Refuse rows without a step that must have happened; ``met``: whether the condition of the step is."""
    if must:
        reason = (
            "is empty, but the status says that it happened"
            if met
            else "its condition is not met, but the status says that it happened"
        )
        raise Refused(rows[0].number, field, reason, command=command)


def _same(known: _Step, given: Fields, row: int, names: Sequence[str]) -> None:
    for name in names:
        if known.fields[name] != given[name]:
            reason = f"parcel {given['parcel_id']!r} has {given[name]} here and {known.fields[name]} in row {known.row}"
            raise Refused(row, name, reason, command=given["command"])


def _price(order: Fields, currency: str) -> int:
    shipping = order.get("shipping", {"charged": "0", "tax": "0"})
    goods: int = sum(
        to_minor(line["unit_price"], currency) * line["quantity"] + to_minor(line["tax"], currency)
        for line in order["lines"]
    )
    return goods + to_minor(shipping["charged"], currency) + to_minor(shipping["tax"], currency)


def _take_off(lines: Sequence[_Line], discount: str, subtotal: str | None, currency: str, row: int) -> int:
    """Spread a discount over the goods by what they cost, to the cent. What the subtotal leaves of it comes back."""
    goods = [line for line in lines if line.goods]
    costs = [line.cost for line in goods]
    whole = to_minor(discount, currency)
    off = whole if subtotal is None else sum(costs) - to_minor(subtotal, currency)
    if not 0 <= off <= whole:
        reason = f"the goods cost {to_major(sum(costs), currency)}, which less {discount} is not {subtotal}"
        raise Refused(row, "subtotal", reason, "money.mismatch", "confirm_order")
    if off > sum(costs):
        shown = to_major(off, currency)
        raise Refused(row, "discount", f"{shown} is more than the goods cost", "money.mismatch", "confirm_order")
    for line, share in zip(goods, split(off, costs), strict=True):
        line.cost -= share
    return whole - off


def _in_units(line: _Line, taken: Collection[str], currency: str) -> list[Fields]:
    """A line with the price of its units; two lines where some of them cost a cent more."""
    first = line.fields
    each, dearer = divmod(line.cost, first["quantity"])
    first["unit_price"] = to_major(each, currency)
    if not dearer:
        return [first]
    cheaper = first["quantity"] - dearer
    taxes = split(to_minor(first["tax"], currency), [cheaper, dearer])
    line_id = next(one for n in count(2) if (one := f"{first['line_id']}/{n}") not in taken)
    rest = first | {"line_id": line_id, "quantity": dearer, "unit_price": to_major(each + 1, currency)}
    first["quantity"], first["tax"] = cheaper, to_major(taxes[0], currency)
    rest["tax"] = to_major(taxes[1], currency)
    return [first, rest]


def _spread_tax(lines: list[Fields], tax: int, currency: str, row: int) -> None:
    """Spread a tax over the units by the prices paid, to the cent; the rest goes to the largest remainders."""
    prices = _prices(lines, currency)
    if not any(prices):
        shown = to_major(tax, currency)
        raise Refused(row, "tax", f"{shown} is a tax on goods that cost nothing", "money.mismatch", "confirm_order")
    for line, share in zip(lines, split(tax, prices), strict=True):
        line["tax"] = to_major(share, currency)


def _prices(lines: Sequence[Fields], currency: str) -> list[int]:
    return [to_minor(line["unit_price"], currency) * line["quantity"] for line in lines]

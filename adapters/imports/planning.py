"""Makes the commands of an order from its rows."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from itertools import count, pairwise
from typing import Any

from returnable.adapters.imports.mapping import (
    STEPS,
    AccountSection,
    CancellationSection,
    LineSection,
    Mapping,
    OrderSection,
    ParcelSection,
    PastCancellationSection,
    PaymentSection,
    RefundSection,
    ReturnLineSection,
    ReturnSection,
    UnitsSection,
    Value,
    When,
)
from returnable.adapters.imports.values import Refused, SourceRow, Values, amount_text
from returnable.domain.case import unknown
from returnable.domain.characters import joined_lines
from returnable.domain.commands import Command, parse_command
from returnable.domain.errors import Impossible
from returnable.domain.events import RefundRecorded, RefundRequested, RefundReversed, RefundSettled
from returnable.domain.fields import LONGEST_ID
from returnable.domain.money import LONGEST_AMOUNT, split, to_major, to_minor
from returnable.domain.ports import Recorded
from returnable.domain.recorded_commands import recorded_commands

Fields = dict[str, Any]
NO_REASON = "not stated"
"""The reason of a cancellation of the past, if the table has none."""

Known = Callable[[str], Sequence[Recorded]]
"""The events of an order in the store; none where it is not known."""


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
    gone_back: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Command and line → how many of its units the commands of that name have so far."""

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

    @classmethod
    def known(cls, lines: list[Fields], rows: Sequence[SourceRow], currency: str) -> _Bought:
        """The lines of an order in the store. Any of them may be that of a row."""
        bought = cls(lines, of_row={row.number: lines for row in rows})
        for first, second in pairwise(lines):
            cheaper, dearer = _prices([first | {"quantity": 1}, second | {"quantity": 1}], currency)
            same = first["sku"] == second["sku"] and dearer - cheaper == 1
            if same and re.fullmatch(re.escape(first["line_id"]) + r"/[0-9]+", second["line_id"]):
                bought.halves[first["line_id"]] = (first, second)
        return bought

    def only_line(self, row: SourceRow, place: str) -> str:
        """The only line of a row; raises :class:`Refused` if the row has none or several."""
        rests = {rest["line_id"] for _, rest in self.halves.values()}
        ids = [line["line_id"] for line in self.of_row.get(row.number, []) if line["line_id"] not in rests]
        if len(ids) != 1:
            raise Refused(row.number, f"{place}.line_id", f"which line is meant? The row has {len(ids)}")
        return str(ids[0])

    def units(self, command: str, line_id: str, quantity: int) -> list[tuple[str, int]]:
        """Units of a line for a command; of a split line, first those of its first part. The lines, and the units of each."""
        parts = self.halves.get(line_id)
        gone = self.gone_back[command, line_id]
        first = quantity if parts is None else min(quantity, max(0, parts[0]["quantity"] - gone))
        taken = [(line_id, first)]
        if parts is not None:
            taken.append((parts[1]["line_id"], quantity - first))
        for part, units in taken:
            self.gone_back[command, part] += units
        return [(part, units) for part, units in taken if units]


class Planner:
    """Plans the commands of orders by a mapping."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._values = Values(mapping.format)

    @property
    def confirms(self) -> bool:
        """Whether the orders are new."""
        return self._mapping.order is not None

    def order_id(self, row: SourceRow) -> str | None:
        """The id of the order of a row; ``None`` if it is empty, but must not be. Raises :class:`Refused`."""
        order = self._mapping.order
        if order is not None:
            return self._values.text(order.order_id, [row], "order_id")
        named = self._values.text(self._mapping.order_id, [row], "order_id")
        return "" if named is None and not self._concerned([row]) else named

    def plan(self, order_id: str, rows: Sequence[SourceRow], known: Known = lambda order_id: ()) -> Plan | None:
        """The commands of an order; ``None`` if the mapping leaves it out. Raises :class:`Refused`.

        The order and its account come first, then the other commands in order of time. ``known`` is asked for orders that
        the mapping does not confirm, and for what went back of a total.
        """
        mapping = self._mapping
        rows = self._concerned(rows)
        if not rows:
            return None
        allowed = self._allowed(rows)
        if allowed is None:
            return None
        first: list[_Step] = []
        if mapping.order is not None:
            fields, bought = self._confirmation(mapping.order, order_id, rows)
            first.append(_Step(fields["confirmed_at"], 0, rows[0].number, "confirm_order", fields))
        else:
            fields, bought = _known_order(order_id, rows, known(order_id))
        if mapping.account is not None and "account" in allowed:
            with _about("link_account"):
                first += self._account(order_id, rows, mapping.account, allowed["account"], fields["confirmed_at"])
        later: list[_Step] = []
        if "cancelled" in allowed:
            later += self._cancelled(order_id, rows, bought, allowed["cancelled"])
        with _about("record_shipment"):
            later += self._parcels(order_id, rows, bought.of_row, allowed)
        if mapping.returns and "returned" in allowed:
            with _about("request_return"):
                later += self._returns(order_id, rows, bought, allowed["returned"])
        if mapping.refunds and "refunded" in allowed:
            with _about("record_refund"):
                total = any(refund.total is not None for refund in mapping.refunds)
                money = _Money.of(fields, known(order_id) if total else ())
                later += self._refunds(order_id, rows, money, bought, allowed["refunded"])
        later.sort(key=lambda step: (step.at, step.rank))
        return Plan(order_id, tuple(self._command(order_id, step) for step in (*first, *later)))

    def _concerned(self, rows: Sequence[SourceRow]) -> Sequence[SourceRow]:
        """The rows that ``only`` does not leave out: all or none of a new order, any of those about a known order."""
        whole = [rows] if self.confirms else [[row] for row in rows]
        conditions = list(enumerate(self._mapping.only))
        held = (part for part in whole if all(self._values.holds(one, part, f"only[{n}]") for n, one in conditions))
        return [row for part in held for row in part]

    def _id(self, *parts: str, room: int = LONGEST_ID) -> str:
        """The id of what the import makes of an order: the same in every run."""
        whole = "import/" + "/".join(_escaped(part) for part in (self._mapping.name, *parts))
        if len(whole) > room:
            whole = f"{whole[: room - 41]}~{hashlib.sha256(whole.encode()).hexdigest()[:40]}"
        return whole

    def _command(self, order_id: str, step: _Step) -> Planned:
        command_id = self._id(order_id, *step.key.split("\0"))
        try:
            return Planned(step.row, parse_command(step.fields | {"command_id": command_id}))
        except Impossible as error:
            raise Refused(step.row, error.field or "", error.reason, error.code, step.fields["command"]) from None

    def _allowed(self, rows: Sequence[SourceRow]) -> dict[str, bool] | None:
        """Step → whether it must have happened; ``None`` leaves the order out."""
        status = self._mapping.status
        if status is None:
            return dict.fromkeys(STEPS, False)
        text = self._values.of_column(rows, status.column, "status") or ""
        steps = status.means.get(text)
        if steps is None:
            raise Refused(rows[0].number, "status", f"column {status.column!r}: {text!r} is not in status.means")
        if isinstance(steps, str):
            return None
        return {step.removesuffix("?"): not step.endswith("?") for step in steps}

    # ---- confirm_order -----------------------------------------------------------------------------------------------

    def _confirmation(self, order: OrderSection, order_id: str, rows: Sequence[SourceRow]) -> tuple[Fields, _Bought]:
        """The fields of the command, and the lines."""
        values = self._values
        row = rows[0].number
        currency = self._needed(values.text, order.currency, rows, "currency")
        customer = order.customer
        lines = self._lines(order.lines, rows, currency)
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
        fields["payments"] = self._payments(order.payments, rows, currency, fields)
        rounding = values.limit(order.rounding, rows, currency, "rounding")
        rounded = sum(to_minor(one["amount"], currency) for one in fields["payments"]) - _price(fields, currency)
        if 0 < abs(rounded) <= rounding and tax + rounded >= 0:
            _spread_tax(bought.goods, tax + rounded, currency, row)
        return fields, bought

    def _needed(self, read: Callable[..., Any], value: Value, rows: Sequence[SourceRow], field: str) -> Any:
        found = read(value, rows, field)
        if found is None:
            columns = [repr(name) for name in dict.fromkeys(value.columns_used())]
            if len(columns) > 1:
                raise Refused(rows[0].number, field, f"columns {' and '.join(columns)} are empty")
            raise Refused(rows[0].number, field, f"column {columns[0]} is empty" if columns else "is empty")
        return found

    def _lines(self, sections: Sequence[LineSection], rows: Sequence[SourceRow], currency: str) -> list[_Line]:
        lines: list[_Line] = []
        for row in rows:
            for section in sections:
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
        cost = amount_text(price * quantity / counted, currency, row.number, f"{place}.unit_price", section.unit_price)
        line |= _known(description=values.text(section.description, rows, f"{place}.description"))
        return _Line(row.number, line, to_minor(cost, currency) * counted, section.goods)

    def _payments(
        self, sections: Sequence[PaymentSection], rows: Sequence[SourceRow], currency: str, order: Fields
    ) -> list[Fields]:
        values = self._values
        payments: list[Fields] = []
        rest: Fields | None = None
        for section in sections:
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

    def _cancelled(self, order_id: str, rows: Sequence[SourceRow], bought: _Bought, must: bool) -> list[_Step]:
        """The request to cancel, and the cancellations of the past; with ``must`` there must be at least one."""
        request, past = self._mapping.cancellation, self._mapping.cancellations
        alone = must and (request is not None) + len(past) == 1
        steps: list[_Step] = []
        if request is not None:
            with _about("request_cancellation"):
                steps += self._cancellation(order_id, rows, request, alone)
        with _about("cancel_order"):
            for number, section in enumerate(past, start=1):
                steps += self._past_cancellation(order_id, rows, section, number, bought, alone)
        if not steps:
            _absent(must, rows, "cancelled_at", "cancel_order")
        return steps

    def _cancellation(
        self, order_id: str, rows: Sequence[SourceRow], section: CancellationSection, must: bool
    ) -> list[_Step]:
        values = self._values
        at = self._happened_at(section.when, section.requested_at, rows, "requested_at", must, "request_cancellation")
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

    def _past_cancellation(
        self,
        order_id: str,
        rows: Sequence[SourceRow],
        section: PastCancellationSection,
        number: int,
        bought: _Bought,
        must: bool,
    ) -> list[_Step]:
        at = self._happened_at(section.when, section.cancelled_at, rows, "cancelled_at", must, "cancel_order")
        if at is None:
            return []
        fields: Fields = {
            "command": "cancel_order",
            "order_id": order_id,
            "cancelled_at": at,
            "reason": self._values.text(section.reason, rows, "reason") or NO_REASON,
            "elsewhere": True,
        }
        if section.lines:
            fields["lines"] = self._units(section.lines, rows, bought, "cancel_order")
            if not fields["lines"]:
                _absent(must, rows, "lines", "cancel_order")
                return []
        return [_Step(at, 0, rows[0].number, f"cancel_order\0{number}", fields)]

    def _happened_at(
        self, when: When | None, time: Value, rows: Sequence[SourceRow], field: str, must: bool, command: str
    ) -> datetime | None:
        """When a step happened; ``None`` if it did not, which ``must`` refuses."""
        met = self._values.holds(when, rows, field)
        at = self._values.instant(time, rows, field) if met else None
        if at is None:
            _absent(must, rows, field, command, met=met)
        return at

    def _units(
        self, sections: Sequence[UnitsSection], rows: Sequence[SourceRow], bought: _Bought, command: str
    ) -> list[Fields]:
        """The units that rows name, line by line."""
        values = self._values
        lines: list[Fields] = []
        for row in rows:
            for wanted in sections:
                place = f"lines[{len(lines)}]"
                if not values.holds(wanted.when, [row], place):
                    continue
                quantity = values.count(wanted.quantity, [row], f"{place}.quantity")
                if not quantity:
                    continue
                line_id = values.text(wanted.line_id, [row], f"{place}.line_id") or bought.only_line(row, place)
                why = {}
                if isinstance(wanted, ReturnLineSection):
                    why = _known(reason=values.text(wanted.reason, [row], f"{place}.reason"))
                parts = bought.units(command, line_id, quantity)
                lines += [{"line_id": part, "quantity": units} | why for part, units in parts]
        return lines

    def _groups(
        self, name: Value | None, rows: Sequence[SourceRow]
    ) -> Sequence[tuple[str | None, Sequence[SourceRow]]]:
        """Rows by the return or refund that they name. If they name one or none, all rows belong together, without a name."""
        groups: dict[str | None, list[SourceRow]] = {}
        for row in rows:
            named = None
            with suppress(Refused):  # what needs the id reads it again
                named = self._values.text(name, [row], "")
            groups.setdefault(named, []).append(row)
        return list(groups.items()) if len(groups.keys() - {None}) > 1 else [(None, rows)]

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
        steps: list[_Step] = []
        for section in sections:
            groups = self._groups(section.return_id, rows)
            alone = must and len(sections) == len(groups) == 1
            for named, group in groups:
                if named is not None and self._values.holds(section.when, group, "requested_at"):
                    self._needed(self._values.instant, section.requested_at, group, "requested_at")
                steps += self._return(order_id, group, section, bought, alone)
        if not steps:
            _absent(must, rows, "requested_at", "request_return")
        return steps

    def _return(
        self, order_id: str, rows: Sequence[SourceRow], section: ReturnSection, bought: _Bought, must: bool
    ) -> list[_Step]:
        values = self._values
        at = self._happened_at(section.when, section.requested_at, rows, "requested_at", must, "request_return")
        if at is None:
            return []
        lines = self._units(section.lines, rows, bought, "request_return")
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

    # ---- refunds -----------------------------------------------------------------------------------------------------

    def _refunds(
        self, order_id: str, rows: Sequence[SourceRow], money: _Money, bought: _Bought, must: bool
    ) -> list[_Step]:
        """All refunds; with ``must`` there must be at least one."""
        steps: list[_Step] = []
        met = happened = False
        for number, section in enumerate(self._mapping.refunds, start=1):
            for _, group in self._groups(section.refund_id, rows):
                if not self._values.holds(section.when, group, "amount"):
                    continue
                met = True
                amount = self._paid_back(section, group, money.currency)
                happened |= amount > 0
                if section.total is None:
                    refund_id = self._values.text(section.refund_id, group, "refund_id")
                    key = refund_id or str(number)
                    refund_id = refund_id or self._id(order_id, "refund", key)
                else:
                    prefix = self._id(order_id, "refunded", room=LONGEST_ID - LONGEST_AMOUNT)
                    key = to_major(amount, money.currency)
                    refund_id = f"{prefix}/{key}"
                    amount = money.new_of_total(amount, f"{prefix}/", group[0].number)
                if amount:
                    fields = self._refund(order_id, group, section, refund_id, amount, money, bought)
                    steps.append(_Step(fields["refunded_at"], 4, group[0].number, f"record_refund\0{key}", fields))
        if not happened:
            _absent(must, rows, "amount", "record_refund", met=met)
        return steps

    def _paid_back(self, section: RefundSection, rows: Sequence[SourceRow], currency: str) -> int:
        """The amount of a refund in minor units; 0 if it is empty."""
        values = self._values
        name = "amount" if section.total is None else "total"
        number = values.number(section.amount or section.total, rows, name, currency) or Fraction()
        for row in rows:
            for line in section.lines:
                if line.amount is not None and values.holds(line.when, [row], "lines.amount"):
                    number += values.number(line.amount, [row], "lines.amount", currency) or 0
        value = section.amount or section.total or next((line.amount for line in section.lines if line.amount), None)
        return to_minor(amount_text(number, currency, rows[0].number, name, value), currency)

    def _refund(
        self,
        order_id: str,
        rows: Sequence[SourceRow],
        section: RefundSection,
        refund_id: str,
        amount: int,
        money: _Money,
        bought: _Bought,
    ) -> Fields:
        values = self._values
        payment_id = values.text(section.payment_id, rows, "payment_id")
        reference = _known(reference=values.text(section.reference, rows, "reference"))
        shares = money.spread(amount, rows[0].number) if payment_id is None else {payment_id: amount}
        money.back[refund_id] = Counter(shares)
        fields: Fields = {
            "command": "record_refund",
            "refund_id": refund_id,
            "order_id": order_id,
            "kind": values.text(section.kind, rows, "kind") or "past",
            "refunded_at": self._needed(values.instant, section.refunded_at, rows, "refunded_at"),
            "tenders": [
                {"payment_id": name, "amount": to_major(share, money.currency)} | reference
                for name, share in shares.items()
            ],
        }
        fields |= _known(reason=values.text(section.reason, rows, "reason"))
        units = self._units(section.lines, rows, bought, "record_refund")
        return fields | ({"lines": units} if units else {})


@dataclass(slots=True)
class _Money:
    """What was paid for an order and what went back, in minor units."""

    currency: str
    paid: dict[str, int]
    """Payment → what was captured."""
    back: dict[str, Counter[str]] = field(default_factory=dict)
    """Refund → payment → what went back."""

    @classmethod
    def of(cls, order: Fields, recorded: Sequence[Recorded]) -> _Money:
        """The money of an order; ``recorded``: its events in the store."""
        currency = order["currency"]
        paid = {one["payment_id"]: to_minor(one.get("captured", one["amount"]), currency) for one in order["payments"]}
        money = cls(currency, paid)
        for entry in recorded:
            event = entry.event
            if isinstance(event, RefundRequested | RefundRecorded):
                money.back[event.refund_id] = Counter()
            if isinstance(event, RefundRecorded):
                money.back[event.refund_id].update({one.payment_id: one.amount for one in event.tenders})
            elif isinstance(event, RefundSettled | RefundReversed) and event.currency == currency:
                sign = 1 if isinstance(event, RefundSettled) else -1
                money.back[event.refund_id][event.payment_id] += sign * event.amount
        return money

    def new_of_total(self, total: int, prefix: str, row: int) -> int:
        """What is new of all that went back, which this import has recorded under ``prefix`` so far.

        Raises :class:`Refused` if the total is less than that, or if it may contain what others recorded.
        """
        own = sum(back.total() for refund_id, back in self.back.items() if refund_id.startswith(prefix))
        everything = sum(back.total() for back in self.back.values())
        if total in (own, everything):
            return 0
        shown = to_major(total, self.currency)
        other = next((refund_id for refund_id in self.back if not refund_id.startswith(prefix)), None)
        if other is not None:
            on_record = to_major(everything, self.currency)
            reason = f"{shown} went back, on record are {on_record} with refund {other!r}, which is not of this import"
            raise Refused(row, "total", reason, "command.conflict")
        if total < own:
            reason = f"{shown} went back, but {to_major(own, self.currency)} are on record"
            raise Refused(row, "total", reason, "command.conflict")
        return total - own

    def spread(self, amount: int, row: int) -> dict[str, int]:
        """A refund by payment: over what is left of them, and what is more than that over all of them."""
        if not self.paid:
            raise Refused(row, "payment_id", "the order has no payments: name what was paid back")
        gone: Counter[str] = Counter()
        for back in self.back.values():
            gone.update(back)
        left = {name: max(0, paid - gone[name]) for name, paid in self.paid.items()}
        covered = min(amount, sum(left.values()))
        weights = list(self.paid.values()) if any(self.paid.values()) else [1] * len(self.paid)
        shares = zip(split(covered, list(left.values())), split(amount - covered, weights), strict=True)
        return {name: share for name, (one, more) in zip(left, shares, strict=True) if (share := one + more)}


def _known_order(order_id: str, rows: Sequence[SourceRow], recorded: Sequence[Recorded]) -> tuple[Fields, _Bought]:
    """An order in the store as the fields of its command, and its lines."""
    if not recorded:
        error = unknown("order", order_id)
        raise Refused(rows[0].number, "order_id", error.reason, error.code)
    fields: Fields = next(recorded_commands(recorded)).fields | {"confirmed_at": recorded[0].event.occurred_at}
    return fields, _Bought.known(fields["lines"], rows, fields["currency"])


@contextmanager
def _about(command: str) -> Iterator[None]:
    """Names the command in refusals that do not."""
    try:
        yield
    except Refused as refused:
        refused.command = refused.command or command
        raise


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

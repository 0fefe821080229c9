"""The rows of one order become the commands that tell what happened to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from returnable.adapters.imports.mapping import (
    CancellationSection,
    LineSection,
    Mapping,
    ParcelSection,
    ReturnSection,
    Value,
)
from returnable.adapters.imports.values import Refused, SourceRow, Values, amount_text
from returnable.domain.commands import Command, parse_command
from returnable.domain.errors import Impossible
from returnable.domain.money import split, to_major, to_minor

Fields = dict[str, Any]

ID_LENGTH = 128
"""The longest id a command may have."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A command, and the row it came from."""

    row: int
    command: Command


@dataclass(frozen=True, slots=True)
class Plan:
    """All commands of an order, in the order in which they are told."""

    order_id: str
    commands: tuple[Planned, ...]


@dataclass(slots=True)
class _Step:
    at: datetime
    rank: int
    row: int
    key: str
    fields: Fields


class Planner:
    """Plans the commands of orders as a mapping says."""

    def __init__(self, mapping: Mapping) -> None:
        self._mapping = mapping
        self._values = Values(mapping.format)

    def order_id(self, row: SourceRow) -> str | None:
        """Which order a row is of; ``None`` where it does not say. Raises :class:`Refused`."""
        return self._values.text(self._mapping.order.order_id, [row], "order_id")

    def plan(self, order_id: str, rows: Sequence[SourceRow]) -> Plan | None:
        """The commands of an order; ``None`` where the mapping leaves it out. Raises :class:`Refused`.

        First the order and its account, then what happened in order of time.
        """
        mapping, values = self._mapping, self._values
        for index, condition in enumerate(mapping.only):
            if not values.holds(condition, rows, f"only[{index}]"):
                return None
        allowed = self._allowed(rows)
        if allowed is None:
            return None
        fields, of_row = self._confirmation(order_id, rows)
        first = [_Step(fields["confirmed_at"], 0, rows[0].number, "confirm_order", fields)]
        account = mapping.account
        if account is not None and "account" in allowed and values.holds(account.when, rows, "account_id"):
            account_id = values.text(account.account_id, rows, "account_id")
            if account_id is None and allowed["account"]:
                raise Refused(rows[0].number, "account_id", "is empty", command="link_account")
            if account_id is not None:
                linked = {"command": "link_account", "order_id": order_id, "account_id": account_id}
                first.append(_Step(fields["confirmed_at"], 1, rows[0].number, "link_account", linked))
        later: list[_Step] = []
        if mapping.cancellation is not None and "cancelled" in allowed:
            later += self._cancellation(order_id, rows, mapping.cancellation, allowed["cancelled"])
        later += self._parcels(order_id, rows, of_row, allowed)
        if "returned" in allowed:
            for section in mapping.returns:
                later += self._return(order_id, rows, section, of_row, allowed["returned"])
        later.sort(key=lambda step: (step.at, step.rank))
        return Plan(order_id, tuple(self._command(order_id, step) for step in (*first, *later)))

    def _command(self, order_id: str, step: _Step) -> Planned:
        parts = [self._mapping.name, order_id, *step.key.split("\0")]
        command_id = "import/" + "/".join(_escaped(part) for part in parts)
        if len(command_id) > ID_LENGTH:
            import hashlib

            digest = hashlib.sha256(command_id.encode()).hexdigest()[:40]
            command_id = f"{command_id[: ID_LENGTH - 41]}~{digest}"
        try:
            return Planned(step.row, parse_command(step.fields | {"command_id": command_id}))
        except Impossible as error:
            field = error.field or ""
            reason = error.message.removeprefix(f"{field}: ")
            raise Refused(step.row, field, reason, error.code, step.fields["command"]) from None

    def _allowed(self, rows: Sequence[SourceRow]) -> dict[str, bool] | None:
        """Step → whether it must have happened; ``None``: the order is left out."""
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

    def _confirmation(self, order_id: str, rows: Sequence[SourceRow]) -> tuple[Fields, dict[int, list[Fields]]]:
        """The command, and which of its lines came from which row."""
        order, values = self._mapping.order, self._values
        row = rows[0].number
        currency = self._needed(values.text, order.currency, rows, "currency")
        customer = order.customer
        lines, of_row = self._lines(rows, currency)
        discount = values.amount(order.discount, rows, currency, "discount")
        if discount is not None and to_minor(discount, currency):
            _take_off(lines, of_row, to_minor(discount, currency), currency, row)
        fields: Fields = {
            "command": "confirm_order",
            "order_id": order_id,
            "confirmed_at": self._needed(values.instant, order.confirmed_at, rows, "confirmed_at"),
            "currency": currency,
            "customer": {
                "customer_id": self._needed(values.text, customer.customer_id, rows, "customer.customer_id"),
                "account_id": values.text(customer.account_id, rows, "customer.account_id"),
            },
            "lines": lines,
        }
        for name in ("name", "email"):
            text = values.text(getattr(customer, name), rows, f"customer.{name}")
            if text is not None:
                fields["customer"][name] = text
        if order.shipping is not None:
            charged = values.amount(order.shipping.charged, rows, currency, "shipping.charged")
            tax = values.amount(order.shipping.tax, rows, currency, "shipping.tax")
            fields["shipping"] = {"charged": charged or "0", "tax": tax or "0"}
        fields["payments"] = self._payments(rows, currency, fields)
        return fields, of_row

    def _needed(self, read: Callable[..., Any], value: Value, rows: Sequence[SourceRow], field: str) -> Any:
        found = read(value, rows, field)
        if found is None:
            columns = " and ".join(repr(name) for name in dict.fromkeys(value.columns_used()))
            raise Refused(rows[0].number, field, f"column {columns} is empty" if columns else "is empty")
        return found

    def _lines(self, rows: Sequence[SourceRow], currency: str) -> tuple[list[Fields], dict[int, list[Fields]]]:
        lines: list[Fields] = []
        of_row: dict[int, list[Fields]] = {}
        for row in rows:
            for section in self._mapping.order.lines:
                line = self._line(row, section, currency, len(lines))
                if line is not None:
                    lines.append(line)
                    of_row.setdefault(row.number, []).append(line)
        return lines, of_row

    def _line(self, row: SourceRow, section: LineSection, currency: str, index: int) -> Fields | None:
        values, rows = self._values, [row]
        place = f"lines[{index}]"
        if not values.holds(section.when, rows, place):
            return None
        quantity = values.count(section.quantity, rows, f"{place}.quantity")
        if not quantity:
            return None
        price = values.number(section.unit_price, rows, f"{place}.unit_price")
        if price is None:
            raise Refused(row.number, f"{place}.unit_price", "is empty")
        line: Fields = {
            "line_id": values.text(section.line_id, rows, f"{place}.line_id") or str(index + 1),
            "sku": self._needed(values.text, section.sku, rows, f"{place}.sku"),
            "unit_price": amount_text(price, currency, row.number, f"{place}.unit_price"),
            "quantity": quantity,
            "tax": values.amount(section.tax, rows, currency, f"{place}.tax") or "0",
            "final_sale": values.flag(section.final_sale, rows, f"{place}.final_sale") or False,
        }
        description = values.text(section.description, rows, f"{place}.description")
        return line if description is None else line | {"description": description}

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

    # ---- what came after ---------------------------------------------------------------------------------------------

    def _cancellation(
        self, order_id: str, rows: Sequence[SourceRow], section: CancellationSection, must: bool
    ) -> list[_Step]:
        values = self._values
        if not values.holds(section.when, rows, "requested_at"):
            return []
        at = values.instant(section.requested_at, rows, "requested_at")
        if at is None:
            return _missing(must, rows, "requested_at", "request_cancellation")
        fields: Fields = {
            "command": "request_cancellation",
            "order_id": order_id,
            "requested_at": at,
            "channel": self._needed(values.text, section.channel, rows, "channel"),
        }
        reference = values.text(section.order_reference, rows, "order_reference")
        copy = values.flag(section.order_copy, rows, "order_copy")
        fields |= {} if reference is None else {"order_reference": reference}
        fields |= {} if copy is None else {"order_copy": copy}
        return [_Step(at, 0, rows[0].number, "request_cancellation", fields)]

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
            told: Fields = {"command": "record_delivery", "order_id": order_id, "parcel_id": parcel_id}
            told |= {"delivered_at": delivered_at}
            if parcel_id in deliveries:
                _same(deliveries[parcel_id], told, row, ("delivered_at",))
            # A parcel is handed over before it arrives, also where the times of the host say otherwise.
            at = max(delivered_at, shipped_at)
            deliveries.setdefault(parcel_id, _Step(at, 2, row, f"record_delivery\0{parcel_id}", told))

    def _return(
        self,
        order_id: str,
        rows: Sequence[SourceRow],
        section: ReturnSection,
        of_row: dict[int, list[Fields]],
        must: bool,
    ) -> list[_Step]:
        values = self._values
        if not values.holds(section.when, rows, "return_id"):
            return []
        at = values.instant(section.requested_at, rows, "requested_at")
        if at is None:
            return _missing(must, rows, "requested_at", "request_return")
        lines: list[Fields] = []
        for row in rows:
            for wanted in section.lines:
                place = f"lines[{len(lines)}]"
                quantity = values.count(wanted.quantity, [row], f"{place}.quantity")
                if not values.holds(wanted.when, [row], place) or not quantity:
                    continue
                line_id = values.text(wanted.line_id, [row], f"{place}.line_id")
                line: Fields = {"line_id": line_id or _only_line(row, of_row, place), "quantity": quantity}
                reason = values.text(wanted.reason, [row], f"{place}.reason")
                lines.append(line if reason is None else line | {"reason": reason})
        if not lines:
            return _missing(must, rows, "lines", "request_return")
        return_id = self._needed(values.text, section.return_id, rows, "return_id")
        fields: Fields = {
            "command": "request_return",
            "return_id": return_id,
            "order_id": order_id,
            "requested_at": at,
            "channel": self._needed(values.text, section.channel, rows, "channel"),
            "lines": lines,
        }
        resolution = values.text(section.resolution, rows, "resolution")
        fields |= {} if resolution is None else {"resolution": resolution}
        return [_Step(at, 3, rows[0].number, f"request_return\0{return_id}", fields)]


def _escaped(part: str) -> str:
    return part.replace("%", "%25").replace("/", "%2F")


def _missing(must: bool, rows: Sequence[SourceRow], field: str, command: str) -> list[_Step]:
    if must:
        raise Refused(rows[0].number, field, "is empty, but the status says that it happened", command=command)
    return []


def _same(known: _Step, told: Fields, row: int, names: Sequence[str]) -> None:
    for name in names:
        if known.fields[name] != told[name]:
            reason = f"parcel {told['parcel_id']!r} has {told[name]} here and {known.fields[name]} in row {known.row}"
            raise Refused(row, name, reason, command=told["command"])


def _only_line(row: SourceRow, of_row: dict[int, list[Fields]], place: str) -> str:
    lines = of_row.get(row.number, [])
    if len(lines) != 1:
        raise Refused(row.number, f"{place}.line_id", f"which line goes back? The row has {len(lines)}")
    return str(lines[0]["line_id"])


def _price(order: Fields, currency: str) -> int:
    shipping = order.get("shipping", {"charged": "0", "tax": "0"})
    goods: int = sum(
        to_minor(line["unit_price"], currency) * line["quantity"] + to_minor(line["tax"], currency)
        for line in order["lines"]
    )
    return goods + to_minor(shipping["charged"], currency) + to_minor(shipping["tax"], currency)


def _take_off(lines: list[Fields], of_row: dict[int, list[Fields]], discount: int, currency: str, row: int) -> None:
    """Spread a discount over the units by their prices, to the cent; where units of a line then differ, it becomes two."""
    prices = [to_minor(line["unit_price"], currency) * line["quantity"] for line in lines]
    if discount > sum(prices):
        shown = to_major(discount, currency)
        raise Refused(row, "discount", f"{shown} is more than the goods cost", "money.mismatch", "confirm_order")
    for line, price, off in zip(list(lines), prices, split(discount, prices), strict=True):
        each, dearer = divmod(price - off, line["quantity"])
        cheaper = line["quantity"] - dearer
        line["unit_price"] = to_major(each, currency)
        if not dearer:
            continue
        taxes = split(to_minor(line["tax"], currency), [cheaper, dearer])
        rest = line | {
            "line_id": f"{line['line_id']}/2",
            "quantity": dearer,
            "unit_price": to_major(each + 1, currency),
        }
        line["quantity"], line["tax"] = cheaper, to_major(taxes[0], currency)
        rest["tax"] = to_major(taxes[1], currency)
        lines.insert(lines.index(line) + 1, rest)
        next(of for of in of_row.values() if any(one is line for one in of)).append(rest)

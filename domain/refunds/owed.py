"""What is owed, line by line, and why.

Clauses: ``cancellation.full_refund``, ``returns.refund_after_inspection``, ``returns.transit_risk``,
``returns.condition``, ``returns.label_fee``, ``returns.shipping_non_refundable``, ``wrong_item.remedy``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from returnable.domain.claims import Claim
from returnable.domain.deciding import Weighing
from returnable.domain.events import BoughtLine, Deduction, RefundItem
from returnable.domain.fields import to_text
from returnable.domain.ids import SubjectKind
from returnable.domain.money import split, to_major
from returnable.domain.refunds.state import Refund, RefundSubject
from returnable.domain.returns.state import Label, Return
from returnable.domain.ruling import Grounds


@dataclass(frozen=True, slots=True)
class Owed:
    """What is owed for a return, a cancelled order or a claim, before it is split over the tenders."""

    items: tuple[RefundItem, ...]
    shipping: int = 0
    deductions: tuple[Deduction, ...] = ()

    @property
    def total(self) -> int:
        """In minor units."""
        goods = sum(item.merchandise + item.tax for item in self.items)
        return goods + self.shipping - sum(deduction.amount for deduction in self.deductions)


def owed(about: RefundSubject, weighing: Weighing) -> Owed:
    """What is owed for a return, a claim or a cancelled order. Weighs the clauses on the way."""
    subject = about.subject
    if isinstance(subject, Return):
        return _owed_for_return(about, subject, weighing)
    if isinstance(subject, Claim):
        return _owed_for_claim(about, subject, weighing)
    return _owed_for_order(about, weighing)


def tax_of_units(line: BoughtLine, start: int, count: int) -> int:
    """The tax of ``count`` units of a line from the ``start``-th on: a line's tax spreads by largest remainder.

    >>> line = BoughtLine(line_id="1", sku="S", unit_price=1000, quantity=3, tax=100)
    >>> [tax_of_units(line, unit, 1) for unit in range(3)]
    [34, 33, 33]
    """
    share, more = divmod(line.tax, line.quantity)
    return share * count + max(0, min(start + count, more) - min(start, more))


def _items(about: RefundSubject, units: Mapping[str, int]) -> list[RefundItem]:
    return [
        RefundItem(
            line_id=line.line_id,
            quantity=units[line.line_id],
            merchandise=line.unit_price * units[line.line_id],
            tax=_tax(about, line, units[line.line_id]),
        )
        for line in about.order.lines.values()
        if units.get(line.line_id, 0) > 0
    ]


def _tax(about: RefundSubject, line: BoughtLine, count: int) -> int:
    # The cents of a line's tax belong to its units in the order in which the units are first refunded. So all refunds of a
    # line add up to its tax exactly, in however many steps and attempts they are made.
    most: Counter[str] = Counter()
    ours = 0
    for refund in about.refunds:
        if refund.elsewhere is not None:
            continue
        for item in refund.requested.items:
            more = item.quantity - most[refund.stream]
            if item.line_id == line.line_id and more > 0:
                if refund.stream == about.stream:
                    ours += tax_of_units(line, sum(most.values()), min(more, max(0, count - most[refund.stream])))
                most[refund.stream] += more
    return ours + tax_of_units(line, sum(most.values()), max(0, count - most[about.stream]))


def _covers_order(about: RefundSubject, units: Mapping[str, int], *kinds: SubjectKind) -> bool:
    """Whether these units are all that was bought, together with those of the other refunds for subjects of these kinds."""
    paid = Counter(units) + Counter(about.order.cancelled_elsewhere)
    for attempts in about.others():
        if attempts[-1].subject.kind in kinds:
            for item in attempts[-1].requested.items:
                paid[item.line_id] += item.quantity
    return all(paid[line.line_id] >= line.quantity for line in about.order.lines.values())


def _shipping_left(about: RefundSubject) -> int:
    """Outbound shipping with its tax, unless another refund pays it back."""
    if any(attempts[-1].requested.shipping for attempts in about.others()):
        return 0
    return about.order.confirmed.shipping_charged + about.order.confirmed.shipping_tax


def _owed_for_return(about: RefundSubject, ret: Return, weighing: Weighing) -> Owed:
    """The accepted units at price and tax, less the label fee."""
    order = about.order
    units = _units_of_return(ret, weighing)
    items = _items(about, units)
    fee = _label_fee(about, ret, items, weighing)
    deductions: tuple[Deduction, ...] = ()
    if fee is not None:
        deductions = (fee,)
        items = _deduct(items, fee)
    shipping = 0
    if items:
        shipping = _shipping_left(about)
        whole = _covers_order(about, units, "order", "return", "claim")
        applies = weighing.policy.clauses.returns_shipping_non_refundable.applies
        keeps = applies and not weighing.overridden("returns.shipping_non_refundable")
        refunds_it = not keeps and (applies or whole)
        holds = None if not shipping else not refunds_it
        weighing.weigh(
            "returns.shipping_non_refundable",
            holds,
            {"shipping": to_major(shipping, order.currency), "kept": bool(holds)},
        )
        shipping = shipping if refunds_it else 0
    return Owed(tuple(items), shipping, deductions)


def _units_of_return(ret: Return, weighing: Weighing) -> dict[str, int]:
    lines = {line.line_id for line in ret.lines}
    inspected = {line_id: ret.accepted.get(line_id, 0) + ret.rejected.get(line_id, 0) for line_id in lines}
    accepted = {line_id: ret.accepted.get(line_id, 0) for line_id in lines}
    anything = any(inspected.values()) and ret.taken_in
    grounds: Grounds = {"status": ret.status, "inspected": sum(inspected.values())}
    if not ret.taken_in:
        grounds["taken_in"] = False
    if ret.inspected_at is not None:
        grounds["inspected_at"] = to_text(ret.inspected_at)
    if ret.lost_at is not None and ret.status == "lost":
        grounds["lost_at"] = to_text(ret.lost_at)
    at_merchants_risk = ret.status == "lost" and weighing.overridden("returns.transit_risk")
    if at_merchants_risk and ret.lost_at is not None:
        weighing.weigh("returns.transit_risk", False, {"lost_at": to_text(ret.lost_at)})
    verdict = weighing.weigh("returns.refund_after_inspection", None if at_merchants_risk else anything, grounds)
    if not anything:
        # Only an override, or a merchant without this clause, pays for units that nobody has seen.
        if verdict == "fail" or ret.called_off:
            return {}
        return {line_id: ret.quantity(line_id) - ret.sent_back.get(line_id, 0) for line_id in lines}
    some = any(accepted.values())
    counts: Grounds = {"accepted": sum(accepted.values()), "rejected": sum(ret.rejected.values())}
    verdict = weighing.weigh("returns.condition", some, counts)
    if some or verdict == "fail":
        return accepted
    return {line_id: count - ret.sent_back.get(line_id, 0) for line_id, count in inspected.items()}


def _labels_to_charge(about: RefundSubject, ret: Return) -> tuple[list[Label], list[Label]]:
    """The labels that were used, and among them those that are charged already, here or by another refund.

    Two returns may travel on one label; it has the same carrier and the same tracking number in both.
    """
    charged = {label.tracking for attempts in about.others() for label in _charged(about, attempts[-1])}
    used, before = ret.labels_used(), list[Label]()
    for label in used:
        if label.tracking in charged:
            before.append(label)
        charged.add(label.tracking)
    return used, before


def _charged(about: RefundSubject, refund: Refund) -> Iterator[Label]:
    for deduction in refund.requested.deductions:
        names = deduction.grounds.get("labels_used")
        if isinstance(names, list) and refund.subject.kind == "return":
            labels = about.returns[refund.subject.id].labels
            yield from (labels[str(name)] for name in names)


def _label_fee(about: RefundSubject, ret: Return, items: Sequence[RefundItem], weighing: Weighing) -> Deduction | None:
    if not items:
        return None
    order = about.order
    clause = weighing.policy.clauses.returns_label_fee
    used, charged = _labels_to_charge(about, ret)
    grounds: Grounds = {"labels_used": [label.label_id for label in used]}
    if charged:
        grounds["labels_charged"] = [label.label_id for label in charged]
        used = [label for label in used if label not in charged]
    if order.currency != weighing.policy.currency:
        # A fee stated in another currency was never agreed on for this order.
        grounds["currency"], grounds["stated_in"] = order.currency, weighing.policy.currency
        weighing.weigh("returns.label_fee", None, grounds)
        return None
    threshold, fee = weighing.policy.label_fee_minor
    grounds["threshold"], grounds["fee"] = to_major(threshold, order.currency), to_major(fee, order.currency)
    prices = {item.line_id: order.lines[item.line_id].unit_price for item in items}
    charged_shipping = clause.free_only_with_free_shipping and order.confirmed.shipping_charged > 0
    liable = [item for item in items if prices[item.line_id] < threshold or charged_shipping]
    amount = min(fee * len(used), sum(item.merchandise for item in liable))
    lines: list[Grounds] = [
        {
            "line_id": item.line_id,
            "unit_price": to_major(prices[item.line_id], order.currency),
            "below": prices[item.line_id] < threshold,
        }
        for item in items
    ]
    grounds["lines"], grounds["amount"] = lines, to_major(amount, order.currency)
    if amount == 0:
        weighing.weigh("returns.label_fee", None, grounds)
        return None
    if weighing.weigh("returns.label_fee", not weighing.overridden("returns.label_fee"), grounds) != "pass":
        return None
    on_fee: dict[str, JsonValue] = {
        "labels_used": [label.label_id for label in used],
        "fee": to_major(fee, order.currency),
        "threshold": to_major(threshold, order.currency),
        "lines": [item.line_id for item in liable],
    }
    return Deduction(clause="returns.label_fee", amount=amount, facts=on_fee)


def _deduct(items: Sequence[RefundItem], fee: Deduction) -> list[RefundItem]:
    lines = fee.grounds["lines"]
    liable = [item for item in items if isinstance(lines, list) and item.line_id in lines]
    shares = dict(zip((i.line_id for i in liable), split(fee.amount, [i.merchandise for i in liable]), strict=True))
    return [item.model_copy(update={"deducted": shares.get(item.line_id, 0)}) for item in items]


def units_cancelled(about: RefundSubject) -> Mapping[str, int]:
    """Line → the units to pay for: what the shop cancelled here, and what is left of an order that is cancelled."""
    order = about.order
    units = Counter(order.cancelled_here)
    if order.cancelled_at is not None:
        for line in order.lines.values():
            units[line.line_id] += max(0, line.quantity - sum(about.held[line.line_id].values()))
    return +units


def _owed_for_order(about: RefundSubject, weighing: Weighing) -> Owed:
    """What was paid for the cancelled units; with shipping if nothing of the order ships (``cancellation.full_refund``)."""
    order = about.order
    nothing_ships = order.cancelled_at is not None
    with_shipping = nothing_ships and weighing.policy.clauses.cancellation_full_refund.refunds_shipping
    shipping = _shipping_left(about) if with_shipping else 0
    owed = Owed(tuple(_items(about, units_cancelled(about))), shipping)
    grounds: Grounds = {"shipping": to_major(shipping, order.currency), "amount": to_major(owed.total, order.currency)}
    if order.cancelled_at is not None:
        grounds["cancelled_at"] = to_text(order.cancelled_at)
    weighing.weigh("cancellation.full_refund", True, grounds)
    return owed


def _owed_for_claim(about: RefundSubject, claim: Claim, weighing: Weighing) -> Owed:
    """The claimed units at price and tax, with no fee; outbound shipping too when the claim is for the whole order."""
    order = about.order
    # A unit that was returned was not wrong.
    whole = _covers_order(about, {claim.line_id: claim.quantity}, "order", "claim")
    with_shipping = whole and weighing.policy.clauses.wrong_item_remedy.refunds_shipping_for_whole_order
    shipping = _shipping_left(about) if with_shipping else 0
    owed = Owed(tuple(_items(about, {claim.line_id: claim.quantity})), shipping)
    weighing.weigh(
        "wrong_item.remedy",
        True,
        {
            "remedy": claim.remedy,
            "line_id": claim.line_id,
            "quantity": claim.quantity,
            "whole_order": whole,
            "shipping": to_major(shipping, order.currency),
            "amount": to_major(owed.total, order.currency),
        },
    )
    return owed

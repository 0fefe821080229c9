"""What is owed, line by line, and why; how it splits over the tenders; and the life of a refund.

Clauses: ``cancellation.full_refund``, ``returns.refund_after_inspection``, ``returns.condition``, ``returns.label_fee``,
``returns.shipping_non_refundable``, ``returns.original_tender``, ``returns.refund_timing``, ``wrong_item.remedy``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import JsonValue

from returnable.domain.claims import Claim
from returnable.domain.commands import RecordRefundResult, RequestRefund
from returnable.domain.copying import shallow_copy
from returnable.domain.deadlines import Happened, passed
from returnable.domain.deciding import DecisionContext, DecisionResult, Weighing, not_allowed
from returnable.domain.errors import Impossible
from returnable.domain.events import (
    BoughtLine,
    Deduction,
    Event,
    RefundDeclined,
    Refunded,
    RefundFailed,
    RefundItem,
    RefundOverdue,
    RefundRequested,
    RefundSettled,
    Tender,
)
from returnable.domain.fields import to_text
from returnable.domain.ids import StreamId
from returnable.domain.lifecycles import CLAIM, NOTHING, ORDER, REFUND, RETURN
from returnable.domain.money import split, to_major
from returnable.domain.order import Order
from returnable.domain.ports import ReservedId
from returnable.domain.returns import Return
from returnable.domain.ruling import Grounds

# ---- states ---------------------------------------------------------------------------------------------------------


@dataclass
class Refund:
    """A refund as its facts tell it. ``tenders``: payment id → ``requested``, ``settled`` or ``failed``."""

    refund_id: str
    stream: str
    status: str = NOTHING
    requested: RefundRequested = field(init=False)
    requested_by: int = 0
    """The version of the fact that requested it."""
    tenders: dict[str, str] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    overdue_by: int | None = None
    """The version of the fact that says it is overdue."""
    ended: Happened | None = None
    """When it was settled, or failed."""

    @property
    def subject(self) -> StreamId:
        """What it pays for."""
        return StreamId.parse(self.stream)

    @property
    def total(self) -> int:
        """What goes back, in minor units."""
        return sum(tender.amount for tender in self.requested.tenders)

    @property
    def settled(self) -> int:
        """What has gone back, in minor units."""
        return sum(t.amount for t in self.requested.tenders if self.tenders[t.payment_id] == "settled")

    def unsettled_tenders(self) -> tuple[Tender, ...]:
        """The tenders that have not gone back."""
        return tuple(t for t in self.requested.tenders if self.tenders[t.payment_id] != "settled")

    @property
    def may_lapse(self) -> bool:
        """Whether its deadline is still to be recorded, once it has come."""
        return self.status == "requested" and self.overdue_by is None

    def overdue(self, moment: datetime) -> bool:
        """Whether it should have been settled by then."""
        return self.status == "requested" and passed("returns.refund_timing", self.requested.overdue_at, moment)

    def clone(self) -> Refund:
        """A copy that can be changed without touching this one."""
        new = shallow_copy(self)
        new.tenders, new.references = dict(self.tenders), dict(self.references)
        return new


# ---- facts change states --------------------------------------------------------------------------------------------


def apply(refund: Refund, event: Event, version: int) -> None:
    """Change ``refund`` (a private copy) by one fact, which has that version in its stream.

    Raises ``HistoryBroken`` where its lifecycle forbids it.
    """
    kind = event.type
    if isinstance(event, RefundRequested):
        refund.status = REFUND.after(refund.status, kind)
        refund.requested, refund.requested_by = event, version
        refund.tenders = {tender.payment_id: "requested" for tender in event.tenders}
    elif isinstance(event, RefundSettled | RefundFailed):
        refund.tenders[event.payment_id] = "settled" if isinstance(event, RefundSettled) else "failed"
        if event.reference is not None:
            refund.references[event.payment_id] = event.reference
        answers = set(refund.tenders.values())
        refund.status = REFUND.after(refund.status, kind, "requested" not in answers and "failed" in answers)
    else:
        refund.status = REFUND.after(refund.status, kind)
        if isinstance(event, RefundOverdue):
            refund.overdue_by = refund.overdue_by or version
    if refund.status != "requested":
        refund.ended = Happened(event.occurred_at, version)


# ---- what is owed ---------------------------------------------------------------------------------------------------


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


def of_subject(refunds: Iterable[Refund], stream: str) -> list[Refund]:
    """The refunds of one return, order or claim, oldest first."""
    return [refund for refund in refunds if refund.stream == stream]


def settled_so_far(refunds: Iterable[Refund], stream: str) -> int:
    """What went back for one return, order or claim in all attempts, in minor units."""
    return sum(refund.settled for refund in of_subject(refunds, stream))


def tax_of_units(line: BoughtLine, start: int, count: int) -> int:
    """The tax of ``count`` units of a line from the ``start``-th on: a line's tax spreads by largest remainder.

    >>> line = BoughtLine(line_id="1", sku="S", unit_price=1000, quantity=3, tax=100)
    >>> [tax_of_units(line, unit, 1) for unit in range(3)]
    [34, 33, 33]
    """
    share, more = divmod(line.tax, line.quantity)
    return share * count + max(0, min(start + count, more) - min(start, more))


def _items(order: Order, units: Mapping[str, int], refunds: Sequence[Refund], stream: str) -> list[RefundItem]:
    # The cents of a line's tax belong to its units in the order in which these are first refunded, so that all the
    # refunds of a line add up to its tax exactly, in however many steps and attempts they are made.
    earlier: dict[str, int] = {}
    seen: set[str] = {stream}
    for refund in refunds:
        if refund.stream == stream:
            break
        if refund.stream not in seen:
            seen.add(refund.stream)
            for item in refund.requested.items:
                earlier[item.line_id] = earlier.get(item.line_id, 0) + item.quantity
    return [
        RefundItem(
            line_id=line.line_id,
            quantity=units[line.line_id],
            merchandise=line.unit_price * units[line.line_id],
            tax=tax_of_units(line, earlier.get(line.line_id, 0), units[line.line_id]),
        )
        for line in order.lines.values()
        if units.get(line.line_id, 0) > 0
    ]


def _shipping_left(order: Order, refunds: Sequence[Refund], stream: str) -> int:
    """Outbound shipping with its tax, unless another refund has paid it back."""
    if any(refund.requested.shipping for refund in refunds if refund.stream != stream):
        return 0
    return order.confirmed.shipping_charged + order.confirmed.shipping_tax


def left_for(order: Order, refunds: Sequence[Refund], stream: str) -> dict[str, int]:
    """What a refund of ``stream`` may take of each payment: captured, less what went back or is kept for another refund."""
    left = {payment.payment_id: payment.amount for payment in order.confirmed.payments}
    latest = {refund.stream: refund for refund in refunds}
    for refund in refunds:
        for tender in refund.requested.tenders:
            # A failed tender is kept for a later refund of the same subject, which takes it over.
            kept = latest[refund.stream] is refund and refund.stream != stream
            if refund.tenders[tender.payment_id] == "settled" or kept:
                left[tender.payment_id] -= tender.amount
    return left


def allocate(order: Order, owed: int, refunds: Sequence[Refund], stream: str, allocation: str) -> tuple[Tender, ...]:
    """Split what is owed and not settled yet over the order's payments (``returns.original_tender``).

    A further attempt asks the same of the tenders that did not go back, unless what is owed has changed since.
    """
    attempts = of_subject(refunds, stream)
    total = max(0, owed - settled_so_far(refunds, stream))
    if attempts and sum(tender.amount for tender in attempts[-1].unsettled_tenders()) == total:
        return attempts[-1].unsettled_tenders()
    left = left_for(order, refunds, stream)
    payments = [payment.payment_id for payment in order.confirmed.payments]
    if total > sum(left.values()):
        there_is = to_major(sum(left.values()), order.currency)
        raise Impossible(
            "money.mismatch",
            f"{to_major(total, order.currency)} {order.currency} would go back, but of what was captured only {there_is} "
            "is left",
        )
    if total == 0:
        return tuple(Tender(payment_id=payment_id, amount=0) for payment_id in payments[:1])
    if allocation == "in_order":
        shares: list[int] = []
        for payment_id in payments:
            shares.append(min(total - sum(shares), left[payment_id]))
    else:
        shares = split(total, [left[payment_id] for payment_id in payments])
    return tuple(Tender(payment_id=p, amount=share) for p, share in zip(payments, shares, strict=True) if share)


def owed_for_return(ret: Return, order: Order, refunds: Sequence[Refund], weighing: Weighing) -> Owed:
    """The accepted units at price and tax, less the label fee; weighs the clauses on the way."""
    units = _units_of_return(ret, weighing)
    items = _items(order, units, refunds, ret.stream)
    fee = _label_fee(ret, order, items, weighing)
    deductions: tuple[Deduction, ...] = ()
    if fee is not None:
        deductions = (fee,)
        items = _deduct(items, fee)
    shipping = 0
    if items:
        shipping = _shipping_left(order, refunds, ret.stream)
        whole = all(units.get(line.line_id, 0) == line.quantity for line in order.lines.values())
        applies = weighing.policy.clauses.returns_shipping_non_refundable.applies
        keeps = applies and not weighing.set_aside("returns.shipping_non_refundable")
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
    # A parcel refused at the dock was not inspected.
    inspected = {line_id: ret.accepted.get(line_id, 0) + ret.rejected.get(line_id, 0) for line_id in lines}
    accepted = {line_id: ret.accepted.get(line_id, 0) for line_id in lines}
    anything = any(inspected.values())
    grounds: Grounds = {"status": ret.status, "inspected": sum(inspected.values())}
    if ret.inspected_at is not None:
        grounds["inspected_at"] = to_text(ret.inspected_at)
    if ret.lost_at is not None and ret.status == "lost":
        grounds["lost_at"] = to_text(ret.lost_at)
    at_merchants_risk = ret.status == "lost" and weighing.set_aside("returns.transit_risk")
    if at_merchants_risk and ret.lost_at is not None:
        weighing.weigh("returns.transit_risk", False, {"lost_at": to_text(ret.lost_at)})
    verdict = weighing.weigh("returns.refund_after_inspection", None if at_merchants_risk else anything, grounds)
    if not anything:
        # Only an override, or a merchant without this clause, pays for units that nobody has seen.
        if verdict == "fail" or not RETURN.allows(ret.status, "RefundRequested"):
            return {}
        return {line_id: ret.quantity(line_id) - ret.sent_back.get(line_id, 0) for line_id in lines}
    some = any(accepted.values())
    counts: Grounds = {"accepted": sum(accepted.values()), "rejected": sum(ret.rejected.values())}
    verdict = weighing.weigh("returns.condition", some, counts)
    if some or verdict == "fail":
        return accepted
    return {line_id: count - ret.sent_back.get(line_id, 0) for line_id, count in inspected.items()}


def _label_fee(ret: Return, order: Order, items: Sequence[RefundItem], weighing: Weighing) -> Deduction | None:
    if not items:
        return None
    clause = weighing.policy.clauses.returns_label_fee
    used = ret.labels_used()
    grounds: Grounds = {"labels_used": [label.label_id for label in used]}
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
    if weighing.weigh("returns.label_fee", not weighing.set_aside("returns.label_fee"), grounds) != "pass":
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


def owed_for_order(
    order: Order, refunds: Sequence[Refund], weighing: Weighing, held: Mapping[str, Mapping[str | None, int]]
) -> Owed:
    """Everything that was paid for a cancelled order (``cancellation.full_refund``)."""
    units = {line.line_id: line.quantity - sum(held[line.line_id].values()) for line in order.lines.values()}
    with_shipping = weighing.policy.clauses.cancellation_full_refund.refunds_shipping
    shipping = _shipping_left(order, refunds, order.stream) if with_shipping else 0
    owed = Owed(tuple(_items(order, units, refunds, order.stream)), shipping)
    grounds: Grounds = {
        "shipping": to_major(shipping, order.currency),
        "amount": to_major(owed.total, order.currency),
    }
    if order.cancelled_at is not None:
        grounds["cancelled_at"] = to_text(order.cancelled_at)
    weighing.weigh("cancellation.full_refund", True, grounds)
    return owed


def owed_for_claim(claim: Claim, order: Order, refunds: Sequence[Refund], weighing: Weighing) -> Owed:
    """The claimed units at price and tax, with no fee; outbound shipping too when the claim is for the whole order."""
    whole = list(order.lines) == [claim.line_id] and order.lines[claim.line_id].quantity == claim.quantity
    with_shipping = whole and weighing.policy.clauses.wrong_item_remedy.refunds_shipping_for_whole_order
    shipping = _shipping_left(order, refunds, claim.stream) if with_shipping else 0
    owed = Owed(tuple(_items(order, {claim.line_id: claim.quantity}, refunds, claim.stream)), shipping)
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


# ---- decisions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RefundSubject:
    """What a refund is asked for, with what is known around it."""

    order: Order
    refunds: Sequence[Refund]
    held: Mapping[str, Mapping[str | None, int]]
    ret: Return | None = None
    claim: Claim | None = None

    @property
    def stream(self) -> str:
        """The stream the refund's facts go to."""
        return (self.ret or self.claim or self.order).stream

    def owed(self, weighing: Weighing) -> Owed:
        """What is owed; weighs the clauses on the way."""
        if self.ret is not None:
            return owed_for_return(self.ret, self.order, self.refunds, weighing)
        if self.claim is not None:
            return owed_for_claim(self.claim, self.order, self.refunds, weighing)
        return owed_for_order(self.order, self.refunds, weighing, self.held)

    def weighing(self, now: DecisionContext) -> Weighing:
        """A list of clauses with the overrides in force."""
        own = (self.ret or self.claim or self.order).asides
        return now.weighing(own if self.stream == self.order.stream else (*self.order.asides, *own))

    def may_request(self, command: str) -> None:
        """Raise ``transition.not_allowed`` unless a refund can be asked for now."""
        subject = self.stream.replace("/", " ", 1)
        mine = of_subject(self.refunds, self.stream)
        if mine and mine[-1].status in ("requested", "refunded"):
            last = mine[-1]
            allowed = ("record_refund_result",) if last.status == "requested" else ()
            raise not_allowed(command, f"refund {last.refund_id} of {subject}", last.status, allowed)
        if self.ret is not None:
            return
        if self.claim is not None:
            if not CLAIM.allows(self.claim.status, "RefundRequested"):
                raise not_allowed(command, subject, self.claim.status, CLAIM)
            if self.claim.remedy == "replacement":
                raise not_allowed(command, subject, self.claim.status, CLAIM, "settled by replacement")
        elif not ORDER.allows(self.order.status, "RefundRequested"):
            raise not_allowed(command, subject, self.order.status, ORDER)


def request_refund(subject: RefundSubject, command: RequestRefund, now: DecisionContext) -> DecisionResult:
    """Issue the refund to the original tenders, or decline on the record."""
    subject.may_request(command.command)
    order = subject.order
    weighing = subject.weighing(now)
    owed = subject.owed(weighing)
    if not weighing.allowed:
        return now.decide(subject.stream, weighing, RefundDeclined)
    if subject.ret is not None and not RETURN.allows(subject.ret.status, "RefundRequested"):
        raise not_allowed(command.command, f"return {subject.ret.return_id}", subject.ret.status, RETURN)

    allocation = now.policy.clauses.returns_original_tender.allocation
    tenders = allocate(order, owed.total, subject.refunds, subject.stream, allocation)
    total = sum(tender.amount for tender in tenders)
    shown: list[Grounds] = [
        {"payment_id": tender.payment_id, "amount": to_major(tender.amount, order.currency)} for tender in tenders
    ]
    weighing.weigh("returns.original_tender", True, {"total": to_major(total, order.currency), "tenders": shown})

    timing = now.deadlines.of_refund(now.at)
    weighing.weigh(
        "returns.refund_timing",
        True,
        {
            "issued_at": to_text(now.at),
            "expected_from": timing.expected_from.isoformat(),
            "expected_to": timing.expected_to.isoformat(),
            "deadline": to_text(timing.overdue_at),
        },
    )
    decided = now.decide(
        subject.stream,
        weighing,
        RefundRequested,
        reserved_ids=[ReservedId("refund", command.refund_id, order.order_id)],
        refund_id=command.refund_id,
        currency=order.currency,
        items=owed.items,
        shipping=owed.shipping,
        deductions=owed.deductions,
        settled_before=settled_so_far(subject.refunds, subject.stream),
        tenders=tenders,
        expected_from=timing.expected_from,
        expected_to=timing.expected_to,
        overdue_at=timing.overdue_at,
    )
    if not tenders:  # an order that cost nothing and was paid by nothing
        decided.events.append((subject.stream, Refunded(**now.envelope(), refund_id=command.refund_id)))
    return decided


def record_result(refund: Refund, command: RecordRefundResult, now: DecisionContext) -> DecisionResult:
    """The payment provider's answer for one tender; when all are settled, the refund is done."""
    tender = refund.tenders.get(command.payment_id)
    if tender is None:
        raise Impossible(
            "command.invalid",
            f"refund {refund.refund_id} pays nothing to {command.payment_id!r}",
            field="payment_id",
        )
    if tender != "requested":
        waiting = [payment_id for payment_id, status in refund.tenders.items() if status == "requested"]
        allowed: tuple[str, ...] = ()
        why = ""
        if waiting:
            allowed, why = ("record_refund_result",), f"{', '.join(waiting)} wait for a result"
        elif refund.status == "failed":
            allowed, why = ("request_refund",), "ask again under a new refund_id"
        place = f"payment {command.payment_id} of refund {refund.refund_id}"
        raise not_allowed(command.command, place, tender, allowed, why)
    events: list[tuple[str, Event]] = []
    if command.result == "succeeded":
        settled = RefundSettled(
            **now.envelope(),
            refund_id=refund.refund_id,
            payment_id=command.payment_id,
            reference=command.reference,
        )
        events.append((refund.stream, settled))
        if all(status == "settled" for payment, status in refund.tenders.items() if payment != command.payment_id):
            events.append((refund.stream, Refunded(**now.envelope(), refund_id=refund.refund_id)))
    else:
        failed = RefundFailed(
            **now.envelope(),
            refund_id=refund.refund_id,
            payment_id=command.payment_id,
            reference=command.reference,
            reason=command.reason,
        )
        events.append((refund.stream, failed))
    return DecisionResult(events=events)

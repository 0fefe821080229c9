"""Order: what is known of it, how facts change that, and how commands are decided.

Clauses: ``cancellation.*``; the anchors of ``returns.window`` and ``wrong_item.window`` are resolved here, at delivery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from returnable.domain.calendar import elapsed_end
from returnable.domain.commands import (
    ConfirmOrder,
    LinkAccount,
    RecordDelivery,
    RecordShipment,
    RequestCancellation,
)
from returnable.domain.copying import shallow_copy
from returnable.domain.deadlines import Happened, passed
from returnable.domain.deciding import DecisionContext, DecisionResult, Weighing, not_allowed
from returnable.domain.errors import HistoryBroken, Impossible, short
from returnable.domain.events import (
    AccountLinked,
    Allotment,
    BoughtLine,
    Buyer,
    CancellationDeclined,
    CancellationRequested,
    Cancelled,
    Confirmed,
    CustomerNotified,
    Delivered,
    Event,
    ExceptionRaised,
    OverrideGranted,
    Payment,
    RefusalsCounted,
    Shipped,
    Units,
)
from returnable.domain.fields import to_text
from returnable.domain.ids import StreamId
from returnable.domain.lifecycles import NOTHING, ORDER
from returnable.domain.money import MINOR_UNIT_DIGITS, to_major, to_minor
from returnable.domain.ruling import Grounds, OverrideInForce, margin_seconds

# ---- states ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Parcel:
    """A parcel on its way out. Of several tellings the first stands; the others are on record as conflicts."""

    parcel_id: str
    carrier: str
    tracking_number: str
    units: Mapping[str, int]
    shipped_at: datetime
    delivered_at: datetime | None = None
    delivered_by: int = 0
    """The version of the fact that says so."""
    return_before: datetime | None = None
    report_before: datetime | None = None
    shipments_told: tuple[Shipped, ...] = ()
    deliveries_told: tuple[datetime, ...] = ()


@dataclass
class Order:
    """An order as its facts tell it."""

    order_id: str
    status: str = NOTHING
    confirmed: Confirmed = field(init=False)
    lines: dict[str, BoughtLine] = field(default_factory=dict)
    account_id: str | None = None
    account_since: datetime | None = None
    parcels: dict[str, Parcel] = field(default_factory=dict)
    incomplete_since: datetime | None = None
    cancellation_asked: Happened | None = None
    """The earliest request to cancel, whatever came of it."""
    cancelled_at: datetime | None = None
    notices_owed: int = 0
    exceptions: tuple[str, ...] = ()
    asides: tuple[OverrideInForce, ...] = ()
    version: int = 0

    @property
    def stream(self) -> str:
        """The stream of the order's facts."""
        return str(StreamId("order", self.order_id))

    @property
    def currency(self) -> str:
        """ISO 4217."""
        return self.confirmed.currency

    def clone(self) -> Order:
        """A copy that can be changed without touching this one."""
        new = shallow_copy(self)
        new.parcels = dict(self.parcels)
        return new

    def parcels_by_shipment(self) -> list[Parcel]:
        """The parcels in the order in which they were handed over; which was learnt of first makes no difference."""
        return sorted(self.parcels.values(), key=lambda parcel: (parcel.shipped_at, parcel.parcel_id))

    def in_parcels(self, line_id: str) -> int:
        """How many units of a line are in parcels."""
        return sum(parcel.units.get(line_id, 0) for parcel in self.parcels.values())

    def delivered(self, line_id: str) -> int:
        """How many units of a line were delivered."""
        return sum(parcel.units.get(line_id, 0) for parcel in self.parcels.values() if parcel.delivered_at)

    def every_unit_delivered(self) -> bool:
        """Whether nothing is left to deliver."""
        return all(self.delivered(line.line_id) >= line.quantity for line in self.lines.values())

    def return_before(self, line_id: str) -> datetime | None:
        """The latest end of the return window among the line's delivered units (exclusive)."""
        return max((p.return_before for p in self._delivered(line_id) if p.return_before), default=None)

    def report_before(self, line_id: str) -> datetime | None:
        """The latest end of the wrong-item window among the line's delivered units (exclusive)."""
        return max((p.report_before for p in self._delivered(line_id) if p.report_before), default=None)

    def _delivered(self, line_id: str) -> list[Parcel]:
        return [p for p in self.parcels.values() if p.delivered_at and p.units.get(line_id)]

    def allot(self, line_id: str, quantity: int, held: Mapping[str | None, int]) -> tuple[Allotment, ...]:
        """Take units of a line that nobody holds, those with the latest deadline first; undelivered ones come last.

        Which parcel was learnt of first makes no difference.
        """
        taken: list[Allotment] = []
        for parcel in sorted(self._delivered(line_id), key=_latest_deadline, reverse=True):
            free = min(quantity, parcel.units[line_id] - held.get(parcel.parcel_id, 0))
            if free > 0:
                taken.append(Allotment(parcel_id=parcel.parcel_id, quantity=free))
                quantity -= free
        if quantity:
            taken.append(Allotment(parcel_id=None, quantity=quantity))
        return tuple(taken)


@dataclass(frozen=True, slots=True)
class WindowAsked:
    """How a window over units stands when something is asked for, and the parcel that says so.

    ``parcel``: the first that fails, or where none does the one whose window closes first; ``None``: nothing is delivered.
    """

    in_time: bool
    undelivered: int
    parcel: str | None = None
    delivered_at: datetime | None = None
    before: datetime | None = None


def ask_window(
    order: Order, units: Iterable[Allotment], asked_at: datetime, end_of: Callable[[Parcel], datetime | None]
) -> WindowAsked:
    """Whether all units were delivered and their windows, which end (exclusively) at ``end_of``, were open at that time."""
    undelivered = 0
    windows: list[tuple[str, datetime, datetime, bool]] = []
    for taken in units:
        if taken.parcel_id is None:
            undelivered += taken.quantity
            continue
        parcel = order.parcels[taken.parcel_id]
        before = end_of(parcel)
        if parcel.delivered_at is None or before is None:
            raise HistoryBroken(f"{order.stream}: parcel {short(parcel.parcel_id)} was allotted but not delivered")
        is_open = parcel.delivered_at <= asked_at < before
        windows.append((parcel.parcel_id, parcel.delivered_at, before, is_open))
    if not windows:
        return WindowAsked(not undelivered, undelivered)
    failing = next((window for window in windows if not window[3]), None)
    parcel_id, delivered_at, before, _ = failing or min(windows, key=lambda window: window[2])
    return WindowAsked(not undelivered and failing is None, undelivered, parcel_id, delivered_at, before)


def _latest_deadline(parcel: Parcel) -> tuple[datetime, datetime, str]:
    return parcel.return_before or parcel.shipped_at, parcel.delivered_at or parcel.shipped_at, parcel.parcel_id


# ---- facts change states --------------------------------------------------------------------------------------------


def apply(order: Order, event: Event) -> None:
    """Change ``order`` (a private copy) by one fact; raises ``HistoryBroken`` where its lifecycle forbids it."""
    kind = event.type
    if not event.moves:
        _apply_note(order, event)
    elif isinstance(event, Delivered):
        _apply_delivered(order, event)
    else:
        order.status = ORDER.after(order.status, kind)
        if isinstance(event, Confirmed):
            if event.currency not in MINOR_UNIT_DIGITS:
                raise HistoryBroken(f"{order.stream}: {short(event.currency)} is no currency")
            order.confirmed = event
            order.lines = {line.line_id: line for line in event.lines}
            order.account_id = event.customer.account_id
            order.account_since = event.occurred_at if order.account_id is not None else None
        elif isinstance(event, Shipped):
            known = order.parcels.get(event.parcel_id)
            if known is None:
                order.parcels[event.parcel_id] = Parcel(
                    event.parcel_id,
                    event.carrier,
                    event.tracking_number,
                    {units.line_id: units.quantity for units in event.lines},
                    event.occurred_at,
                    shipments_told=(event,),
                )
            else:
                order.parcels[event.parcel_id] = replace(known, shipments_told=(*known.shipments_told, event))
        elif isinstance(event, Cancelled):
            order.cancelled_at = event.occurred_at
            order.notices_owed += 1
        elif isinstance(event, CancellationDeclined):
            order.notices_owed += 1
        elif isinstance(event, CancellationRequested):
            asked = Happened(event.occurred_at, order.version + 1)
            order.cancellation_asked = min(asked, order.cancellation_asked or asked)
            _note_incomplete(order, event)


def _apply_delivered(order: Order, event: Delivered) -> None:
    parcel = order.parcels.get(event.parcel_id)
    if parcel is None:
        raise HistoryBroken(f"{order.stream}: parcel {short(event.parcel_id)} was delivered but never shipped")
    told = (*parcel.deliveries_told, event.occurred_at)
    if parcel.delivered_at is None:
        parcel = replace(
            parcel,
            delivered_at=event.occurred_at,
            delivered_by=order.version + 1,
            return_before=event.return_before,
            report_before=event.report_before,
            deliveries_told=told,
        )
    else:
        parcel = replace(parcel, deliveries_told=told)
    order.parcels[event.parcel_id] = parcel
    order.status = ORDER.after(order.status, event.type, order.every_unit_delivered())


def _apply_note(order: Order, event: Event) -> None:
    if isinstance(event, AccountLinked):
        if order.account_since is None:
            order.account_since = event.occurred_at
        order.account_id = event.account_id
    elif isinstance(event, CustomerNotified):
        order.notices_owed = 0
    elif isinstance(event, ExceptionRaised):
        order.exceptions += event.reasons
    elif isinstance(event, OverrideGranted):
        order.asides += (aside(event, order.stream, order.version + 1),)
    elif isinstance(event, RefusalsCounted) and event.command == "request_cancellation":
        order.notices_owed += 1


def _note_incomplete(order: Order, event: CancellationRequested) -> None:
    if event.incomplete and (order.incomplete_since is None or event.occurred_at < order.incomplete_since):
        order.incomplete_since = event.occurred_at


def aside(event: OverrideGranted, stream: str, version: int) -> OverrideInForce:
    """The override that a fact grants."""
    return OverrideInForce(event.clause, event.approved_by, event.reason, event.occurred_at, f"{stream}#{version}")


# ---- decisions ------------------------------------------------------------------------------------------------------


def confirm(command: ConfirmOrder, now: DecisionContext) -> DecisionResult:
    """The order is confirmed under the policy of ``now``; its payments must add up."""
    currency = command.currency
    confirmed_at = command.confirmed_at or now.at
    lines = tuple(
        BoughtLine(
            line_id=line.line_id,
            sku=line.sku,
            unit_price=to_minor(line.unit_price, currency),
            quantity=line.quantity,
            tax=to_minor(line.tax, currency),
            final_sale=line.final_sale,
            description=line.description,
        )
        for line in command.lines
    )
    payments = tuple(
        Payment(payment_id=p.payment_id, method=p.method, amount=to_minor(p.amount, currency)) for p in command.payments
    )
    shipping, shipping_tax = to_minor(command.shipping.charged, currency), to_minor(command.shipping.tax, currency)
    due = sum(line.unit_price * line.quantity + line.tax for line in lines) + shipping + shipping_tax
    paid = sum(payment.amount for payment in payments)
    if due != paid:
        raise Impossible(
            "money.mismatch",
            f"{to_major(paid, currency)} {currency} were paid, but merchandise, tax and shipping come to "
            f"{to_major(due, currency)} {currency}",
            field="payments",
        )
    customer = command.customer
    event = Confirmed(
        **now.envelope(confirmed_at),
        order_id=command.order_id,
        customer=Buyer(
            customer_id=customer.customer_id, account_id=customer.account_id, name=customer.name, email=customer.email
        ),
        currency=currency,
        lines=lines,
        shipping_charged=shipping,
        shipping_tax=shipping_tax,
        payments=payments,
        cancel_by=elapsed_end(confirmed_at, now.policy.clauses.cancellation_window.hours),
        pins=now.policy.pins,
    )
    return DecisionResult(events=[(str(StreamId("order", command.order_id)), event)])


def weigh_cancellation(
    order: Order,
    now: DecisionContext,
    requested_at: datetime,
    channel: str,
    order_reference: str | None,
    order_copy: bool,
    *,
    deciding: bool = False,
) -> Weighing:
    """Every clause that a request to cancel is judged by; ``deciding``: for good, and not to see what would be decided."""
    clauses = now.policy.clauses
    weighing = now.weighing(order.asides)
    judged_at = min(requested_at, order.incomplete_since or requested_at)
    cancel_by = order.confirmed.cancel_by
    grounds: Grounds = {
        "confirmed_at": to_text(order.confirmed.occurred_at),
        "requested_at": to_text(requested_at),
        "deadline": to_text(cancel_by),
        "margin_seconds": margin_seconds(cancel_by, judged_at),
    }
    if judged_at != requested_at:
        grounds["first_incomplete_at"] = to_text(judged_at)
    weighing.weigh("cancellation.window", not passed("cancellation.window", cancel_by, judged_at), grounds)

    when_decided = clauses.cancellation_not_shipped.judged == "when_decided"
    bar_from = now.at if when_decided else judged_at
    # A parcel on record has left, even where the clock of this decision is behind that of the one that told of it.
    any_counts = deciding and when_decided
    shipped = [p for p in order.parcels_by_shipment() if any_counts or p.shipped_at <= bar_from]
    parcels: list[Grounds] = [{"parcel_id": p.parcel_id, "shipped_at": to_text(p.shipped_at)} for p in shipped]
    weighing.weigh(
        "cancellation.not_shipped",
        not shipped,
        {"judged_at": to_text(bar_from), "parcels": parcels, "delivered": order.status == "delivered"},
    )

    by_email = clauses.cancellation_by_email
    given: list[str] = []
    if order_reference is not None:
        given.append("order_reference")
    if order_copy:
        given.append("order_copy")
    right_channel = channel in by_email.channels
    complete = not by_email.requires or any(name in given for name in by_email.requires)
    weighing.weigh(
        "cancellation.by_email",
        right_channel and complete,
        {
            "channel": channel,
            "channels": list(by_email.channels),
            "requires_one_of": list(by_email.requires),
            "given": given,
            "incomplete": right_channel and not complete,
        },
    )
    weighing.weigh("cancellation.notice", True, {"owed": True})
    return weighing


def request_cancellation(
    order: Order, command: RequestCancellation, now: DecisionContext, open_returns: Sequence[str]
) -> DecisionResult:
    """Cancel, or decline on the record; a notice is owed either way. ``open_returns``: ids of its unsettled returns."""
    if not ORDER.allows(order.status, "CancellationRequested"):
        raise not_allowed(command.command, f"order {order.order_id}", order.status, ORDER)
    requested_at = command.requested_at or now.at
    weighing = weigh_cancellation(
        order,
        now,
        requested_at,
        command.channel,
        command.order_reference,
        command.order_copy,
        deciding=True,
    )
    if weighing.allowed:
        nothing_on_its_way_back(order, open_returns, command.command)
    by_email = next(f for f in weighing.findings if f.clause == "cancellation.by_email")
    request = CancellationRequested(
        **now.envelope(requested_at),
        channel=command.channel,
        order_reference=command.order_reference,
        order_copy=command.order_copy,
        incomplete=bool(by_email.grounds["incomplete"]),
    )
    verdict = Cancelled if weighing.allowed else CancellationDeclined
    return now.decide(order.stream, weighing, verdict, before=[request])


def record_shipment(order: Order, command: RecordShipment, now: DecisionContext) -> DecisionResult:
    """What the carrier did is recorded; where it conflicts with what is known, an exception is raised beside it."""
    shipped_at = command.shipped_at or now.at
    known = order.parcels.get(command.parcel_id)
    units = _shipped_units(order, command, known)
    event = Shipped(
        **now.envelope(shipped_at),
        parcel_id=command.parcel_id,
        carrier=command.carrier,
        tracking_number=command.tracking_number,
        lines=units,
    )
    if known is not None and any(_same_shipment(event, told) for told in known.shipments_told):
        return DecisionResult()
    reasons: list[str] = []
    if shipped_at < order.confirmed.occurred_at:
        reasons.append(
            f"parcel {command.parcel_id} was shipped at {to_text(shipped_at)}, before the order was confirmed at "
            f"{to_text(order.confirmed.occurred_at)}"
        )
    if known is not None:
        reasons.append(
            f"parcel {command.parcel_id} is already known to be shipped at {to_text(known.shipped_at)} by "
            f"{known.carrier} {known.tracking_number}; now told: {to_text(shipped_at)} by {command.carrier} "
            f"{command.tracking_number}"
        )
    if order.cancelled_at is not None:
        reasons.append(
            f"the shipment of parcel {command.parcel_id} at {to_text(shipped_at)} was learnt after the cancellation "
            f"was granted at {to_text(order.cancelled_at)}"
        )
    return _with_exception(order, event, reasons, now)


def _shipped_units(order: Order, command: RecordShipment, known: Parcel | None) -> tuple[Units, ...]:
    for index, line in enumerate(command.lines or ()):
        _known_line(order, line.line_id, f"lines[{index}].line_id")
    if command.lines is None:
        if known is not None:
            return tuple(Units(line_id=line_id, quantity=n) for line_id, n in known.units.items())
        left = {line.line_id: line.quantity - order.in_parcels(line.line_id) for line in order.lines.values()}
        units = tuple(Units(line_id=line_id, quantity=n) for line_id, n in left.items() if n)
        if not units:
            raise Impossible(
                "quantity.exceeded",
                f"every unit of order {order.order_id} is in another parcel already",
                field="parcel_id",
            )
        return units
    if known is None:
        for index, line in enumerate(command.lines):
            left_of_line = order.lines[line.line_id].quantity - order.in_parcels(line.line_id)
            if line.quantity > left_of_line:
                raise Impossible(
                    "quantity.exceeded",
                    f"{line.quantity} units of line {line.line_id} were shipped, but {left_of_line} are left to ship",
                    field=f"lines[{index}].quantity",
                )
    return tuple(Units(line_id=line.line_id, quantity=line.quantity) for line in command.lines)


def _same_shipment(one: Shipped, other: Shipped) -> bool:
    def values(event: Shipped) -> object:
        units = {units.line_id: units.quantity for units in event.lines}
        return event.occurred_at, event.carrier, event.tracking_number, units

    return values(one) == values(other)


def record_delivery(order: Order, command: RecordDelivery, now: DecisionContext) -> DecisionResult:
    """The parcel reached the customer: the windows of its units are resolved here, once and for all."""
    delivered_at = command.delivered_at or now.at
    parcel = order.parcels.get(command.parcel_id)
    if parcel is None:
        raise Impossible(
            "parcel.unknown",
            f"order {order.order_id} has no parcel {command.parcel_id!r}",
            field="parcel_id",
        )
    if delivered_at in parcel.deliveries_told:
        return DecisionResult()
    reasons: list[str] = []
    if delivered_at < parcel.shipped_at:
        reasons.append(
            f"parcel {parcel.parcel_id} was delivered at {to_text(delivered_at)}, before it was shipped at "
            f"{to_text(parcel.shipped_at)}"
        )
    if parcel.delivered_at is not None:
        reasons.append(
            f"parcel {parcel.parcel_id} is already known to be delivered at {to_text(parcel.delivered_at)}; now told: "
            f"{to_text(delivered_at)}"
        )
    return_before, report_before = now.deadlines.of_delivery(delivered_at)
    event = Delivered(
        **now.envelope(delivered_at),
        parcel_id=command.parcel_id,
        return_before=return_before,
        report_before=report_before,
        pins=now.policy.pins,
    )
    return _with_exception(order, event, reasons, now)


def _with_exception(order: Order, event: Event, reasons: list[str], now: DecisionContext) -> DecisionResult:
    events: list[tuple[str, Event]] = [(order.stream, event)]
    if reasons:
        events.append((order.stream, ExceptionRaised(**now.envelope(), reasons=tuple(reasons))))
    return DecisionResult(events=events)


def link_account(order: Order, command: LinkAccount, now: DecisionContext) -> DecisionResult:
    """The customer has an account from now on; no window moves."""
    return DecisionResult(events=[(order.stream, AccountLinked(**now.envelope(), account_id=command.account_id))])


def _known_line(order: Order, line_id: str, field: str) -> BoughtLine:
    line = order.lines.get(line_id)
    if line is None:
        raise Impossible("line.unknown", f"order {order.order_id} has no line {line_id!r}", field=field)
    return line


def known_lines(order: Order, line_ids: Iterable[str], where: str) -> None:
    """Raise ``line.unknown`` for the first id that is no line of the order."""
    for index, line_id in enumerate(line_ids):
        _known_line(order, line_id, where.format(index))


def nothing_on_its_way_back(order: Order, open_returns: Sequence[str], command: str) -> None:
    """Raise ``transition.not_allowed`` when a return of the order is not settled: cancelling pays for the whole order.

    Only overrides lead here, because nothing comes back of what was not delivered.
    """
    if open_returns:
        why = f"return {', '.join(open_returns[:10])} of it is not settled"
        raise not_allowed(command, f"order {order.order_id}", order.status, ORDER, why)


def must_not_be_cancelled(order: Order, command: str) -> None:
    """Raise ``transition.not_allowed`` for a cancelled order: what was paid for it goes back as a whole."""
    if order.status == "cancelled":
        raise not_allowed(command, f"order {order.order_id}", order.status, ORDER)

"""Order: its state, how events change it, and what commands of several stories check."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, cast

from returnable.domain.aggregate import Aggregate
from returnable.domain.deadlines import Happened
from returnable.domain.errors import HistoryBroken, Impossible, short
from returnable.domain.events import (
    AccountLinked,
    Allotment,
    BoughtLine,
    CancellationDeclined,
    CancellationRequested,
    Cancelled,
    Confirmed,
    CustomerNotified,
    Delivered,
    DeliveryTakenBack,
    Event,
    OutboundLost,
    PaymentCaptured,
    PayoutNamed,
    RefusalsCounted,
    ReturnedToSender,
    Shipped,
    UnitsCancelled,
)
from returnable.domain.fields import to_text
from returnable.domain.lifecycles import ORDER
from returnable.domain.money import MINOR_UNIT_DIGITS
from returnable.domain.ruling import GrantedOverride, Grounds, margin_seconds
from returnable.domain.wording import listed, plural


class Held(dict[str | None, int]):
    """Parcel → the units of a line in it that are not free: in a return, settled by a claim, or cancelled.

    The key ``None`` stands for units that are in no parcel, and for all that are cancelled.
    """

    def __init__(self, units: Mapping[str | None, int] | None = None) -> None:
        super().__init__(units or {})
        self.by: dict[str, int] = {}
        """Who holds them: ``return R-1``, ``claim C-1``."""
        self.cancelled = 0
        """Those that are cancelled."""

    @property
    def total(self) -> int:
        """How many units are not free."""
        return sum(self.values())

    def add(self, units: Mapping[str | None, int], by: str) -> None:
        """Count the units that a return or claim holds."""
        for parcel_id, count in units.items():
            self[parcel_id] = self.get(parcel_id, 0) + count
            self.by[by] = self.by.get(by, 0) + count

    def cancel(self, count: int) -> None:
        """Count units that are cancelled."""
        self.cancelled += count
        if count:
            self[None] = self.get(None, 0) + count


@dataclass(frozen=True, slots=True)
class Parcel:
    """A parcel on its way out. The first report of its shipment and of its delivery counts; later ones are only kept.

    One that was delivered before its shipment is known has no carrier, and holds what no other parcel does.
    """

    parcel_id: str
    carrier: str
    tracking_number: str
    units: Mapping[str, int]
    shipped_at: datetime
    delivered: Happened | None = None
    return_before: datetime | None = None
    report_before: datetime | None = None
    shipments: tuple[Shipped, ...] = ()
    """Every report of its shipment."""
    deliveries: tuple[datetime, ...] = ()
    """Every reported time of its delivery."""
    moved_to: datetime | None = None
    """When it was delivered as the last correction says."""
    told_gone: tuple[tuple[datetime, bool], ...] = ()
    """Every report that it was lost (true) or came back to the sender (false), and when.

    A delivery contradicts that until it is taken back.
    """

    @property
    def status(self) -> Literal["in_transit", "delivered", "lost", "returned_to_sender"]:
        """Where it is."""
        if self.delivered is not None:
            return "delivered"
        if self.gone is not None:
            return "lost" if max(self.told_gone)[1] else "returned_to_sender"
        return "in_transit"

    @property
    def gone(self) -> datetime | None:
        """When it was first lost or back at the sender, unless it was delivered. Its units can be shipped again."""
        return min(self.told_gone)[0] if self.told_gone and self.delivered is None else None

    def has_left(self, at: datetime | None) -> bool:
        """Whether it had left the shop by then, and was neither lost nor back; ``None``: by all that is recorded."""
        left = at is None or self.shipped_at <= at
        return left and not (self.gone is not None and (at is None or self.gone <= at))

    @property
    def delivered_at(self) -> datetime | None:
        """When it reached the customer."""
        return self.delivered.at if self.delivered else None


EndOf = Callable[[Parcel], datetime | None]
"""The end of the window of a parcel's units (exclusive), by one clause."""


def return_before(parcel: Parcel) -> datetime | None:
    """The end of the window to return its units."""
    return parcel.return_before


def report_before(parcel: Parcel) -> datetime | None:
    """The end of the window to report a wrong item in it."""
    return parcel.report_before


@dataclass(frozen=True, slots=True)
class Replacement:
    """Units of a line that a claim grants in the place of others; ``paid_back``: those others were refunded as well."""

    line_id: str
    quantity: int
    granted_at: datetime
    paid_back: bool


@dataclass(frozen=True, slots=True)
class Payout:
    """What stands for a payment that cannot be paid back, and who said so."""

    payout_id: str
    method: str
    override: GrantedOverride


@dataclass(frozen=True, slots=True)
class WindowAsked:
    """Whether units were inside their window when something was asked for, and the parcel that decides it.

    ``parcel`` is the first parcel whose window was not open, or else the one whose window closes first; ``None`` where
    nothing is delivered.
    """

    in_time: bool
    undelivered: int
    parcel: str | None = None
    delivered_at: datetime | None = None
    before: datetime | None = None

    def grounds(self, end: Literal["deadline", "return_before"], asked_at: datetime) -> Grounds:
        """What it rests on; ``end`` is the name of the end of the window."""
        found: dict[str, Any] = {}
        if self.undelivered:
            found["undelivered"] = self.undelivered
        if self.delivered_at is not None and self.before is not None:
            found |= {"parcel_id": self.parcel, "delivered_at": to_text(self.delivered_at), end: to_text(self.before)}
            found["margin_seconds"] = margin_seconds(self.before, asked_at)
        return cast(Grounds, found)


@dataclass
class Order(Aggregate):
    """An order as its events make it."""

    kind = "order"
    lifecycle = ORDER

    order_id: str
    confirmed: Confirmed = field(init=False)
    lines: dict[str, BoughtLine] = field(default_factory=dict)
    account_linked: tuple[datetime, str] | None = None
    """The account that was linked last, and when."""
    account_since: datetime | None = None
    parcels: dict[str, Parcel] = field(default_factory=dict)
    incomplete_since: datetime | None = None
    captured: dict[str, int] = field(default_factory=dict)
    """Payment → what was taken of it, in minor units."""
    captures: frozenset[tuple[str, int, datetime]] = frozenset()
    """Payment, amount and time of each capture that was reported."""
    payouts: dict[str, Payout] = field(default_factory=dict)
    """Payment that cannot be paid back → what stands for it."""
    cancellation_asked: Happened | None = None
    """The earliest request to cancel, accepted or declined."""
    cancelled_at: datetime | None = None
    """When the customer's request was granted, or the shop cancelled the last unit."""
    shop_cancellations: tuple[UnitsCancelled, ...] = ()
    """What the shop cancelled, here and elsewhere."""
    cancelled_here: Mapping[str, int] = field(default_factory=dict)
    """Line → the units that the shop cancelled through the desk, which owes their price."""
    cancelled_elsewhere: Mapping[str, int] = field(default_factory=dict)
    """Line → the units that the shop cancelled and settled elsewhere. Nothing is owed for them."""
    replacements: Mapping[str, Replacement] = field(default_factory=dict)
    """Claim → what it grants as replacement."""
    notices_owed: int = 0

    @property
    def currency(self) -> str:
        """ISO 4217."""
        return self.confirmed.currency

    @property
    def placed_at(self) -> datetime:
        """When the customer placed it. Nothing about it happens earlier."""
        return self.confirmed.placed_at or self.confirmed.occurred_at

    @property
    def account_id(self) -> str | None:
        """The customer's account with the shop."""
        return self.account_linked[1] if self.account_linked is not None else None

    def clone(self) -> Order:
        new = super().clone()
        new.parcels, new.captured, new.payouts = dict(self.parcels), dict(self.captured), dict(self.payouts)
        return new

    # ---- parcels and units ------------------------------------------------------------------------------------------

    def units(self, line_id: str, by: datetime | None = None) -> int:
        """How many units of a line there are: those bought, and those granted as replacements (``by`` an instant)."""
        granted = (each for each in self.replacements.values() if each.line_id == line_id)
        return self.lines[line_id].quantity + sum(
            each.quantity for each in granted if by is None or each.granted_at <= by
        )

    def given_away(self, claim_id: str) -> dict[str | None, int]:
        """The replacement of a unit that was paid back as well, by the parcel it is in: no money is left in it."""
        granted = self.replacements.get(claim_id)
        if granted is None or not granted.paid_back:
            return {}
        line_id, found, packed = granted.line_id, dict[str | None, int](), 0
        begin, end = next((begin, end) for name, begin, end in self._places(line_id) if name == claim_id)
        for parcel in self.parcels_by_shipment():
            count = parcel.units.get(line_id, 0) if parcel.gone is None else 0
            taken = min(end, packed + count) - max(begin, packed)
            packed += count
            if taken > 0:
                found[parcel.parcel_id] = taken
        left = end - max(begin, packed)
        return found | {None: left} if left > 0 else found

    def _places(self, line_id: str) -> Iterator[tuple[str | None, int, int]]:
        """Whose the units of a line are that are shipped: the buyer's (``None``), then those of each claim.

        What was bought is shipped first, then the replacements in the order in which they were granted. Each has the places
        from the first to before the second number. The shop cancels from the front.
        """
        end, cancelled = 0, self.cancelled(line_id)
        granted = [(name, each.quantity) for name, each in self.replacements.items() if each.line_id == line_id]
        for name, quantity in [(None, self.lines[line_id].quantity), *granted]:
            begin, end = end, end + max(0, quantity - cancelled)
            cancelled = max(0, cancelled - quantity)
            yield name, begin, end

    def to_reship(self, line_id: str, settled: Held) -> Iterator[str | None]:
        """Who waits for units of a line of which no ordinary fulfilment knows.

        The claims whose replacement is in no parcel yet, and the buyer (``None``) of units that are in none since a parcel
        was lost or came back. As long as the line is not shipped completely, nobody can tell one unit from another, so the
        buyer waits for those. ``settled``: the units that have got another remedy, or wait for one. Most were shipped; those
        that are in no parcel any more are not to be shipped again.
        """
        if self.status == "cancelled":
            return
        gone = [parcel for parcel in self.parcels.values() if parcel.gone is not None]
        went = any(parcel.units.get(line_id) or not parcel.shipments for parcel in gone)
        served = max(self.in_parcels(line_id) + self.held_in_gone(settled), settled.total)
        for name, begin, end in self._places(line_id):
            if end > max(begin, served) and (went or name is not None):
                yield name

    def held_in_gone(self, held: Held) -> int:
        """How many of the units that are held came in parcels that are lost or back by now: nobody ships them again."""
        return sum(held.get(parcel.parcel_id, 0) for parcel in self.parcels.values() if parcel.gone is not None)

    def parcels_by_shipment(self) -> list[Parcel]:
        """The parcels in the order of their hand-over, whichever was reported first."""
        return sorted(self.parcels.values(), key=lambda parcel: (parcel.shipped_at, parcel.parcel_id))

    def in_parcels(self, line_id: str) -> int:
        """How many units of a line are in parcels."""
        return sum(parcel.units.get(line_id, 0) for parcel in self.parcels.values() if parcel.gone is None)

    def shipped(self, line_id: str) -> int:
        """How many units of a line are in parcels whose shipment is known."""
        parcels = (parcel for parcel in self.parcels.values() if parcel.shipments and parcel.gone is None)
        return sum(parcel.units.get(line_id, 0) for parcel in parcels)

    def cancelled(self, line_id: str) -> int:
        """How many units of a line the shop cancelled; the customer's request cancels the order, not units."""
        return self.cancelled_here.get(line_id, 0) + self.cancelled_elsewhere.get(line_id, 0)

    def to_ship(self, line_id: str) -> int:
        """How many units of a line, replacements among them, are neither in parcels nor cancelled by the shop."""
        return max(0, self.units(line_id) - self.in_parcels(line_id) - self.cancelled(line_id))

    def all_cancelled(self, line_id: str) -> bool:
        """Whether the shop cancelled every unit of a line."""
        cancelled = self.cancelled(line_id)
        return cancelled > 0 and cancelled == self.units(line_id)

    @property
    def every_unit_cancelled(self) -> bool:
        """Whether the shop cancelled every unit of the order."""
        return all(self.all_cancelled(line_id) for line_id in self.lines)

    @property
    def every_unit_delivered(self) -> bool:
        """Whether every unit that was bought and not cancelled was delivered; replacements do not count."""
        bought = {line_id: line.quantity - self.cancelled(line_id) for line_id, line in self.lines.items()}
        return all(self.delivered(line_id) >= count for line_id, count in bought.items())

    def delivered(self, line_id: str) -> int:
        """How many units of a line were delivered."""
        return sum(parcel.units[line_id] for parcel in self._delivered(line_id))

    def window_end(self, line_id: str, held: Held, end_of: EndOf) -> datetime | None:
        """The latest end of a window (exclusive) among the delivered units of a line that nobody holds.

        If all are held, it is the latest among the delivered units.
        """
        parcels = self._delivered(line_id)
        free = [parcel for parcel in parcels if parcel.units[line_id] > held.get(parcel.parcel_id, 0)]
        return max((end for parcel in free or parcels if (end := end_of(parcel)) is not None), default=None)

    def return_end(self, line_id: str, held: Held) -> datetime | None:
        """The end (exclusive) of the window to return a unit of a line; ``None`` where no delivered one is free, but others.

        If all are held, it is the latest among the delivered units.
        """
        parcels = self._delivered(line_id)
        on_its_way = all(parcel.units[line_id] <= held.get(parcel.parcel_id, 0) for parcel in parcels)
        if on_its_way and self.units(line_id) > held.total:
            return None
        return self.window_end(line_id, held, return_before)

    def _delivered(self, line_id: str) -> list[Parcel]:
        return [p for p in self.parcels.values() if p.delivered and p.units.get(line_id)]

    def allot(
        self,
        line_id: str,
        quantity: int,
        held: Mapping[str | None, int],
        asked_at: datetime,
        end_of: EndOf,
        parcel_id: str | None = None,
    ) -> tuple[Allotment, ...]:
        """Take units of a line that are not held, of that parcel or of any.

        Those whose window closes first come first, then those whose window is not open at ``asked_at`` (the latest deadline
        first), then undelivered ones.
        """

        def urgency(parcel: Parcel) -> tuple[bool, float, str]:
            end = end_of(parcel)
            if end is None or parcel.delivered_at is None:
                raise HistoryBroken(f"{self.stream}: parcel {short(parcel.parcel_id)} was delivered without a window")
            is_open = parcel.delivered_at <= asked_at < end
            return not is_open, end.timestamp() if is_open else -end.timestamp(), parcel.parcel_id

        taken: list[Allotment] = []
        parcels = [parcel for parcel in self._delivered(line_id) if parcel_id in (None, parcel.parcel_id)]
        for parcel in sorted(parcels, key=urgency):
            free = min(quantity, parcel.units[line_id] - held.get(parcel.parcel_id, 0))
            if free > 0:
                taken.append(Allotment(parcel_id=parcel.parcel_id, quantity=free))
                quantity -= free
        if quantity:
            taken.append(Allotment(parcel_id=None, quantity=quantity))
        return tuple(taken)

    def ask_window(self, units: Iterable[Allotment], asked_at: datetime, end_of: EndOf) -> WindowAsked:
        """Whether all units were delivered by then, and their windows, which end (exclusively) at ``end_of``, open."""
        undelivered = 0
        windows: list[tuple[str, datetime, datetime, bool]] = []
        for taken in units:
            if taken.parcel_id is None:
                undelivered += taken.quantity
                continue
            parcel = self.parcels[taken.parcel_id]
            delivered_at, before = parcel.delivered_at, end_of(parcel)
            if delivered_at is None or before is None:
                raise HistoryBroken(f"{self.stream}: parcel {short(parcel.parcel_id)} was allotted but not delivered")
            windows.append((parcel.parcel_id, delivered_at, before, delivered_at <= asked_at < before))
        if not windows:
            return WindowAsked(not undelivered, undelivered)
        failing = next((window for window in windows if not window[3]), None)
        parcel_id, delivered_at, before, _ = failing or min(windows, key=lambda window: window[2])
        return WindowAsked(not undelivered and failing is None, undelivered, parcel_id, delivered_at, before)

    # ---- checks -----------------------------------------------------------------------------------------------------

    @property
    def line_ids(self) -> Collection[str]:
        return self.lines.keys()

    def check_quantity(self, line_id: str, quantity: int, held: Held, field: str, but: str = "") -> None:
        """Raise ``quantity.exceeded`` where more units of a line are asked for than are free; the error names who holds them.

        ``but``: the return or claim that asks; its own units do not count.
        """
        units = self.units(line_id)
        if quantity <= units - held.cancelled - sum(count for name, count in held.by.items() if name != but):
            return
        bought = self.lines[line_id].quantity
        reason = f"asked for {quantity} of line {line_id}, but {bought} {plural(bought, 'was', 'were')} bought"
        if units > bought:
            reason += f" and {units - bought} more granted as {plural(units - bought, 'a replacement', 'replacements')}"
        gone = self.where(line_id, held, but)
        raise Impossible("quantity.exceeded", f"{reason}{gone and ', and '}{gone}", field=field)

    def where(self, line_id: str, held: Held, but: str = "") -> str:
        """In words, who holds units of a line: ``1 of them is cancelled and 2 of them are in return R-1``."""
        units, by = self.units(line_id), {name: count for name, count in held.by.items() if count and name != but}
        gone: list[str] = []
        for count, place in ((held.cancelled, "cancelled"), (sum(by.values()), f"in {listed(by)}")):
            if count:
                of_them = f"{count} of them {plural(count, 'is', 'are')}" if units > 1 else "it is"
                gone.append(f"{of_them} {place}")
        return listed(gone)

    def check_in_parcel(self, line_id: str, quantity: int, held: Held, parcel_id: str, field: str) -> None:
        """Raise ``parcel.unknown``, or ``quantity.exceeded`` where fewer units of the line in that parcel are free."""
        parcel = self.parcels.get(parcel_id)
        if parcel is None:
            raise Impossible("parcel.unknown", f"{self.name} has no parcel {parcel_id!r}", field=f"{field}.parcel_id")
        there = parcel.units.get(line_id, 0)
        free = there - held.get(parcel_id, 0)
        if quantity > free:
            reason = (
                f"asked for {quantity} of line {line_id} in parcel {parcel_id}, but {there} {plural(there, 'was', 'were')} "
                f"in it, and {max(0, free)} of them {plural(free, 'is', 'are')} in no other return or claim"
            )
            raise Impossible("quantity.exceeded", reason, field=f"{field}.quantity")

    def check_not_cancelled(self, command: str) -> None:
        """Raise ``transition.not_allowed`` for a cancelled order: its cancellation pays everything back."""
        if self.status == "cancelled":
            raise self.not_allowed(command)

    def check_no_open_returns(self, open_returns: Sequence[str], command: str) -> None:
        """Raise ``transition.not_allowed`` where a return of the order is not settled: cancelling pays for the whole order.

        Only overrides lead here, because nothing comes back of what was not delivered.
        """
        if open_returns:
            raise self.not_allowed(command, f"return {', '.join(open_returns[:10])} of it is not settled")

    @property
    def cancelled_by_customer(self) -> bool:
        """Whether the customer's request cancelled all that nothing else holds."""
        return self.status == "cancelled" and not self.every_unit_cancelled

    @property
    def may_owe(self) -> bool:
        """Whether the desk may owe money for cancelled units of it."""
        return self.cancelled_by_customer or any(self.cancelled_here.values())

    # ---- events -----------------------------------------------------------------------------------------------------

    def _move(self, event: Event, happened: Happened) -> None:
        if isinstance(event, Shipped):
            self._ship(event)
            return
        if isinstance(event, Delivered):
            self._deliver(event, happened)
            return
        if isinstance(event, DeliveryTakenBack):
            self._take_back(event)
            return
        if isinstance(event, OutboundLost | ReturnedToSender):
            self._miss(event)
            return
        if isinstance(event, UnitsCancelled):
            self._cancel(event)
            return
        self.status = ORDER.after(self.status, event.type)
        if isinstance(event, Confirmed):
            if event.currency not in MINOR_UNIT_DIGITS:
                raise HistoryBroken(f"{self.stream}: {short(event.currency)} is not a currency")
            self.confirmed = event
            self.lines = {line.line_id: line for line in event.lines}
            self.captured = {p.payment_id: p.amount if p.captured is None else p.captured for p in event.payments}
            if event.customer.account_id is not None:
                self.account_linked = self.placed_at, event.customer.account_id
                self.account_since = event.occurred_at
        elif isinstance(event, Cancelled):
            self.cancelled_at = event.occurred_at
            self.notices_owed += 1
        elif isinstance(event, CancellationDeclined):
            self.notices_owed += 1
        elif isinstance(event, CancellationRequested):
            self.cancellation_asked = min(happened, self.cancellation_asked or happened)
            if event.incomplete:
                self.incomplete_since = min(event.occurred_at, self.incomplete_since or event.occurred_at)

    def grant_replacement(self, claim_id: str, replacement: Replacement) -> None:
        """A claim was settled by replacement: so many more units of its line can be shipped."""
        self.replacements = {**self.replacements, claim_id: replacement}

    def _parcel(self, event: Shipped | Delivered) -> Parcel:
        """The parcel of a report; one of which nothing was known begins with it."""
        return self.parcels.get(event.parcel_id) or Parcel(event.parcel_id, "", "", {}, event.occurred_at)

    def _ship(self, event: Shipped) -> None:
        parcel = self._parcel(event)
        if not parcel.shipments:
            parcel = replace(
                parcel,
                carrier=event.carrier,
                tracking_number=event.tracking_number,
                units={units.line_id: units.quantity for units in event.lines},
                shipped_at=event.occurred_at,
            )
        self.parcels[event.parcel_id] = replace(parcel, shipments=(*parcel.shipments, event))
        self._assume_contents()
        self.status = ORDER.after(self.status, event.type, self.every_unit_delivered)

    def _deliver(self, event: Delivered, happened: Happened) -> None:
        parcel = self._parcel(event)
        if parcel.delivered is None:
            parcel = replace(
                parcel,
                delivered=happened,
                return_before=event.return_before,
                report_before=event.report_before,
            )
        self.parcels[event.parcel_id] = replace(parcel, deliveries=(*parcel.deliveries, event.occurred_at))
        self._assume_contents()
        self.status = ORDER.after(self.status, event.type, self.every_unit_delivered)

    def _cancel(self, event: UnitsCancelled) -> None:
        counts = dict(self.cancelled_elsewhere if event.elsewhere else self.cancelled_here)
        for units in event.lines:
            line = self.lines.get(units.line_id)
            if line is None:
                raise HistoryBroken(f"{self.stream}: line {short(units.line_id)} was cancelled but never bought")
            # What exceeds the units bought is in the exception that follows.
            left = self.units(line.line_id) - self.cancelled(line.line_id)
            counts[line.line_id] = counts.get(line.line_id, 0) + min(units.quantity, left)
        if event.elsewhere:
            self.cancelled_elsewhere = counts
        else:
            self.cancelled_here = counts
            self.notices_owed += 1
        self.shop_cancellations += (event,)
        self._assume_contents()
        guards = ("every_unit_cancelled", "every_unit_delivered")
        self.status = ORDER.after(self.status, event.type, [guard for guard in guards if getattr(self, guard)])
        if self.status == "cancelled":
            self.cancelled_at = self.cancelled_at or event.occurred_at

    def _take_back(self, event: DeliveryTakenBack) -> None:
        parcel = self.parcels.get(event.parcel_id)
        if parcel is None or parcel.delivered is None:
            raise HistoryBroken(f"{self.stream}: parcel {short(event.parcel_id)} was not delivered")
        taken_back = replace(parcel, delivered=None, return_before=None, report_before=None, moved_to=event.moved_to)
        self.parcels[event.parcel_id] = taken_back
        self._assume_contents()
        self.status = ORDER.after(self.status, event.type, self.every_unit_delivered)

    def _miss(self, event: OutboundLost | ReturnedToSender) -> None:
        parcel = self.parcels.get(event.parcel_id)
        if parcel is None:
            raise HistoryBroken(f"{self.stream}: parcel {short(event.parcel_id)} was never shipped")
        told = event.occurred_at, isinstance(event, OutboundLost)
        self.parcels[event.parcel_id] = replace(parcel, told_gone=(*parcel.told_gone, told))
        self._assume_contents()
        self.status = ORDER.after(self.status, event.type, self.every_unit_delivered)

    def _assume_contents(self) -> None:
        """What was delivered before its shipment is known holds what no other parcel does; what came first holds it.

        A replacement that was granted later is not in it.
        """
        unknown = [parcel for parcel in self.parcels_by_shipment() if not parcel.shipments]
        self.parcels |= {parcel.parcel_id: replace(parcel, units={}) for parcel in unknown}
        for parcel in unknown:
            if parcel.delivered is not None:
                rest = {line_id: self._rest(line_id, parcel.delivered.at) for line_id in self.lines}
                units = {line_id: count for line_id, count in rest.items() if count > 0}
                self.parcels[parcel.parcel_id] = replace(parcel, units=units)

    def _rest(self, line_id: str, by: datetime) -> int:
        """How many units of a line were left to be in a parcel that was delivered by then."""
        here = [parcel for parcel in self.parcels.values() if parcel.gone is None and parcel.shipped_at <= by]
        left = self.units(line_id, by) - sum(parcel.units.get(line_id, 0) for parcel in here)
        return min(left, self.units(line_id) - self.in_parcels(line_id)) - self.cancelled(line_id)

    def _note(self, event: Event, happened: Happened) -> None:
        if isinstance(event, AccountLinked):
            self.account_since = min(event.occurred_at, self.account_since or event.occurred_at)
            linked = event.occurred_at, event.account_id
            self.account_linked = max(linked, self.account_linked or linked)
        elif isinstance(event, PaymentCaptured):
            self.captured[event.payment_id] = self.captured.get(event.payment_id, 0) + event.amount
            self.captures |= {(event.payment_id, event.amount, event.occurred_at)}
        elif isinstance(event, PayoutNamed):
            source = f"{self.stream}#{happened.version}"
            override = GrantedOverride(
                "returns.original_tender", event.approved_by, event.reason, event.occurred_at, source
            )
            self.payouts[event.payment_id] = Payout(event.payout_id, event.method, override)
        elif isinstance(event, CustomerNotified):
            self.notices_owed = 0
        elif isinstance(event, RefusalsCounted) and event.command == "request_cancellation":
            self.notices_owed += 1

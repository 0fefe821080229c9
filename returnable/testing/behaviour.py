"""What people and carriers might do next in a case: the knowledge behind every random history of the kit.

:class:`Behaviour` knows which commands are sensible in which state, how likely they are, and which are strange. The dice
decide: :class:`SeededDice` are fast and repeatable, :class:`SimplestDice` always choose the simplest, and Hypothesis draws
those of :mod:`returnable.testing.strategies`. Choices are ordered from the simplest to the strangest.

:class:`World` is a desk, a clock and the list of all commands so far; one thing after the other happens in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from random import Random
from typing import Any, Protocol, TypeVar

from returnable.adapters.wiring import Services, assemble
from returnable.domain.arrivals import UnannouncedArrival
from returnable.domain.case import Case
from returnable.domain.commands import AssignArrival, Command, parse_command
from returnable.domain.deciding import DecisionContext
from returnable.domain.decisions import decide
from returnable.domain.errors import CalendarExhausted, Impossible
from returnable.domain.events import ArrivalRecorded, Confirmed
from returnable.domain.ids import StreamId, SubjectKind
from returnable.domain.money import to_major
from returnable.domain.order.state import report_before
from returnable.domain.outcome import Outcome
from returnable.domain.overrides import effective
from returnable.domain.policy import CLAUSE_IDS, Policy, bundled_policies
from returnable.domain.ports import Recorded
from returnable.domain.timetable import deadlines_of
from returnable.testing.instants import ONE_TICK

T = TypeVar("T")

Fields = dict[str, Any]

START = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
"""When a world begins: a Monday morning in New York."""

PRICES = (75000, 49999, 50000, 30000, 1999, 1, 0)
"""Unit prices in minor units, on both sides of the usual threshold of the label fee."""

WILD, SPOILT = 0.08, 0.07
"""How often a world gives a command that does not fit its cases, or spoils a field of a command."""

MIGHTY = frozenset(
    {"cancellation.window", "cancellation.not_shipped", "returns.window", "returns.ship_by", "returns.condition"}
    | {"returns.label_fee", "returns.refund_after_inspection", "returns.shipping_non_refundable", "wrong_item.window"}
    | {"wrong_item.evidence"}
)
"""The clauses whose overrides change most."""

_bundled = cache(lambda: bundled_policies().versions[-1])


# ---- dice -------------------------------------------------------------------------------------------------------------


class Dice(Protocol):
    """A source of choices. When a search simplifies, ``chance`` becomes false, ``choice`` and ``weighted`` the first option,
    ``integer`` the lowest."""

    def chance(self, probability: float) -> bool:
        """True with that probability, from 0 to 1."""
        ...

    def choice(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely; there is at least one."""
        ...

    def integer(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        ...

    def weighted(self, options: Sequence[tuple[float, T]]) -> T:
        """One of the options by weight; at least one weight is above zero."""
        ...


class SeededDice:
    """Dice that make the same choices for the same seed."""

    def __init__(self, seed: int | Random) -> None:
        self._random = seed if isinstance(seed, Random) else Random(seed)

    def chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def choice(self, options: Sequence[T]) -> T:
        return self._random.choice(options)

    def integer(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def weighted(self, options: Sequence[tuple[float, T]]) -> T:
        return self._random.choices(options, [weight for weight, _ in options])[0][1]


class SimplestDice:
    """Dice that always choose the simplest option."""

    def chance(self, probability: float) -> bool:
        return False

    def choice(self, options: Sequence[T]) -> T:
        return options[0]

    def integer(self, low: int, high: int) -> int:
        return low

    def weighted(self, options: Sequence[tuple[float, T]]) -> T:
        return next(option for weight, option in options if weight > 0)


# ---- what might happen --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Possibility:
    """A command that somebody might give next."""

    weight: float
    """How likely it is, compared with the others."""
    command: str
    fields: Callable[[Dice], Fields]
    """The command, with its fields chosen by the dice."""
    case: Case | None = None
    """The case it is about; ``None``: none of the existing ones."""
    arrival: UnannouncedArrival | None = None
    """The parcel that it assigns to the case."""


class Behaviour:
    """What might happen next to some cases at an instant.

    ``new`` returns the next free id of a kind (``A`` orders, ``P`` parcels, ``R`` returns, ``L`` labels, ``C`` claims,
    ``F`` refunds, ``D`` arrivals); by default the ids follow those of the cases. ``prices`` are unit prices in minor units.
    There are at most ``max_orders`` orders, except by unrelated commands.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        at: datetime,
        *,
        new: Callable[[str], str] | None = None,
        since: datetime = START,
        prices: Sequence[int] = PRICES,
        currency: str = "USD",
        max_orders: int = 2,
    ) -> None:
        self.cases = [case for case in cases if case.arrival is None]
        self.arrivals = [case.arrival for case in cases if case.arrival is not None]
        self.at = at
        self.new = new or next_ids(cases)
        self.since = since
        self.prices = prices
        self.currency = currency
        self.max_orders = max_orders

    # ---- time ---------------------------------------------------------------------------------------------------------

    @cached_property
    def instants(self) -> list[datetime]:
        """Every deadline, every hand-over of a parcel and every end of an override, in order of time."""
        return instants_of(self.cases)

    def later(self, random: Dice, near_edges: float = 0.08) -> datetime:
        """When the next thing happens: often now; with the probability ``near_edges`` one tick before, at or after one of the
        next deadlines."""
        calm = 1 - near_edges
        how = random.weighted(
            [
                (0.55 * calm, "now"),
                (near_edges, "edge"),
                (0.32 * calm, "minutes"),
                (0.11 * calm, "hours"),
                (0.02, "days"),
            ]
        )
        if how == "now":
            return self.at
        if how == "edge":
            ahead = [at for at in self.instants if at >= self.at][:4]
            if ahead:
                return max(self.at, random.choice(ahead) + random.choice((0, -1, 1)) * ONE_TICK)
        if how == "minutes":
            return whole_minute(self.at) + timedelta(minutes=random.integer(1, 150))
        if how == "hours":
            return whole_minute(self.at) + timedelta(hours=random.integer(1, 30))
        return whole_minute(self.at) + timedelta(days=random.integer(1, 5), minutes=random.integer(0, 120))

    def own_time(self, random: Dice, name: str, earlier: float = 0.3) -> Fields:
        """The own time of a command: mostly none, sometimes earlier than the clock, and rarely later, which is impossible."""
        if not random.chance(earlier):
            return {}
        past = [at for at in self.instants if self.since <= at <= self.at]
        how = random.weighted([(65, "earlier"), (33 if past else 0, "edge"), (2, "future")])
        if how == "earlier":
            minutes = random.choice((0, 1, 59, 121, 60 * 25, 60 * 24 * 3, 60 * 24 * 9))
            return {name: self.at - timedelta(minutes=minutes)}
        if how == "edge":
            return {name: random.choice(past) + random.choice((0, -1, 1)) * ONE_TICK}
        return {name: self.at + ONE_TICK}

    # ---- possibilities --------------------------------------------------------------------------------------------------

    def likely(self) -> Iterator[Possibility]:
        """The commands that make sense, or are at least understandable, in the present state of the cases."""
        if not self.cases:
            yield self._made(1, "confirm_order", self.order)
            return
        for case in self.cases:
            yield from self._of_order(case)
            for return_id in case.returns:
                yield from self._of_return(case, return_id)
            for claim_id in case.claims:
                yield from self._of_claim(case, claim_id)
            yield from self._of_refunds(case)
            if len(self.arrivals) < 3:
                yield self._made(0.4, "record_arrival", self._unannounced, case)
        for arrival in self.arrivals:
            for case in self.cases:
                yield from self._of_arrival(arrival, case)
            if arrival.status == "parked":
                fields = {"arrival_id": arrival.arrival_id, "reason": "It is for the neighbour."}
                yield self._fixed(0.2, "dismiss_arrival", **fields)
        yield self._fixed(1.5, "run_deadlines")
        if len(self.cases) < self.max_orders:
            yield self._made(0.1, "confirm_order", self.order)

    def legal(self, policy_of: Callable[[Case], Policy]) -> Iterator[Possibility]:
        """The likely commands that, in their simplest form, would be accepted or declined."""
        for possibility in self.likely():
            if is_possible(possibility, possibility.fields(SimplestDice()), self.at, policy_of):
                yield possibility

    def filled_in(self, possibility: Possibility, random: Dice, policy_of: Callable[[Case], Policy]) -> Fields:
        """A legal command with fields chosen by the dice, or in its simplest form where those would be an error."""
        fields = possibility.fields(random)
        if is_possible(possibility, fields, self.at, policy_of):
            return fields
        return possibility.fields(SimplestDice())

    def choose(
        self, random: Dice, *, details: Dice | None = None, unrelated: float = WILD, mutated: float = SPOILT
    ) -> Fields:
        """Any command: a likely one, or with these probabilities an unrelated one, or one with a wrong field.

        ``details`` choose its fields; by default the same dice do.
        """
        if self.cases and random.chance(unrelated):
            return random.choice(self.unrelated(random)).fields(details or random)
        fields = random.weighted([(each.weight, each) for each in self.likely()]).fields(details or random)
        return self.mutated(random, fields) if self.cases and random.chance(mutated) else fields

    # ---- order --------------------------------------------------------------------------------------------------------

    def order(self, random: Dice) -> Fields:
        """An order of up to three lines, paid by up to three payments."""
        currency = self.currency if not random.chance(0.1) else "EUR" if self.currency != "EUR" else "USD"
        return order_fields(random, self.new("A"), currency=currency, price=self.price) | self.own_time(
            random, "confirmed_at", 0.1
        )

    def price(self, random: Dice) -> int:
        """A unit price in minor units."""
        return random.choice(self.prices)

    def _of_order(self, case: Case) -> Iterator[Possibility]:
        order, order_id = case.order, case.order.order_id
        on_order = {"order_id": order_id}
        to_ship = any(order.to_ship(line_id) for line_id in order.lines)
        if any(order.in_parcels(line_id) < order.units(line_id) for line_id in order.lines):
            yield self._made(10 if to_ship else 0.3, "record_shipment", self._shipment, case)
        for parcel in order.parcels.values():
            on_parcel = {**on_order, "parcel_id": parcel.parcel_id}
            often = 0.05 if parcel.delivered_at else 14
            yield self._timed(often, "record_delivery", "delivered_at", 0.1, case, **on_parcel)
            if parcel.delivered_at:
                yield self._made(0.1, "correct_delivery", self._correction, case, on_parcel)
            else:
                yield self._timed(0.6, "report_parcel_lost", "reported_at", 0.3, case, **on_parcel)
                yield self._timed(0.4, "record_parcel_returned", "returned_at", 0.3, case, **on_parcel)
        pardoned = any(override.clause == "cancellation.not_shipped" for override in order.overrides)
        often = 2.5 if order.status == "confirmed" or pardoned else 0.4
        yield self._made(often, "request_cancellation", self._cancellation, case, order_id)
        yield self._made(0.6 if to_ship else 0.05, "cancel_order", self._shop_cancels, case)
        if order.status == "cancelled":
            often = 4 if _refundable(case, order.stream) else 0.2
            yield self._made(often, "request_refund", self._refund, case, on_order)
        if any(order.delivered(line_id) for line_id in order.lines):
            free = [line_id for line_id in order.lines if free_units(case, line_id)]
            in_time = any(self.at < (order.return_end(each, case.held[each]) or self.at) for each in free)
            early = any(self.at < (order.window_end(each, case.held[each], report_before) or self.at) for each in free)
            if sum(ret.status != "declined" for ret in case.returns.values()) < 6:
                yield self._made(6 if in_time else 0.2, "request_return", self._return, case)
            if sum(claim.status != "denied" for claim in case.claims.values()) < 4:
                yield self._made(2 if early else 0.2, "report_wrong_item", self._claim, case)
        often = 1.5 if order.account_id is None else 0.03
        yield self._timed(often, "link_account", "linked_at", 0.3, case, **on_order, account_id="acc-2")
        if order.exceptions:
            subject = {"kind": "order", "id": order_id}
            yield self._fixed(1, "close_exception", case, subject=subject, reason="The carrier was asked.")
        if order.notices_owed:
            subject = {"kind": "order", "id": order_id}
            yield self._timed(
                1, "notify_customer", "notified_at", 0.1, case, subject=subject, notice="We have decided."
            )
        for parcel in order.parcels.values():
            yield self._made(0.05, "record_shipment", self._shipment_again, case, parcel.parcel_id)
        for payment in order.confirmed.payments:
            often = 1.5 if order.captured[payment.payment_id] < payment.amount else 0.02
            yield self._made(often, "record_capture", self._capture, case, payment.payment_id)
        if sum(refund.elsewhere is not None for refund in case.refunds.values()) < 3:
            yield self._made(0.12, "record_refund", self._refund_elsewhere, case)
        yield self._made(0.4, "override", self._override, case, "order", order_id)

    def _of_return(self, case: Case, return_id: str) -> Iterator[Possibility]:
        ret, on_return = case.returns[return_id], {"return_id": return_id}
        status = ret.status
        open_ = status in ("authorized", "labelled", "in_transit", "received", "inspected", "rejected", "lost")
        if status in ("authorized", "labelled"):
            yield self._made(9 if status == "authorized" else 0.5, "issue_label", self._label, case, return_id)
            often = 4 if status == "labelled" else 2
            yield self._made(often, "record_return_shipment", self._hand_over, case, return_id)
        elif ret.labels or ret.boxes:
            yield self._made(0.2, "record_return_shipment", self._hand_over, case, return_id)
        if status not in ("requested", "declined"):
            near = 1 if status in ("authorized", "labelled") else 0.2
            near = 4 if status in ("in_transit", "lost") else near
            yield self._made(near, "receive_return", self._arrival, case, return_id)
        if status in ("received", "inspected", "refunded") and ret.anything_uninspected():
            yield self._made(8 if status != "refunded" else 1, "inspect_return", self._inspection, case, return_id)
        elif status not in ("requested", "declined"):
            yield self._made(0.1, "inspect_return", self._inspection, case, return_id)
        if ret.anything_inspected():
            yield self._made(0.5, "correct_inspection", self._other_findings, case, return_id)
        if open_ and sum(line.quantity for line in ret.lines) > 1:
            yield self._made(0.6, "reduce_return", self._reduction, case, return_id)
        if ret.exceptions:
            subject = {"kind": "return", "id": return_id}
            yield self._fixed(1, "close_exception", case, subject=subject, reason="The warehouse was asked.")
        if open_:
            overrides = (*case.order.overrides, *ret.overrides)
            pardoned = any(each.clause == "returns.refund_after_inspection" for each in overrides)
            ripe = (status == "inspected" or pardoned) and _refundable(case, ret.stream)
            yield self._made(6 if ripe else 0.4, "request_refund", self._refund, case, on_return)
        if ret.received is not None:
            yield self._made(0.5, "record_disposition", self._disposition, case, return_id)
        if ret.anything_to_send_back():
            yield self._made(3, "record_send_back", self._send_back, case, return_id)
        for label in ret.labels.values():
            on_label = {**on_return, "label_id": label.label_id}
            once_more = 0.0 if status == "labelled" else 0.1
            receipt = 3 if label.received is None else once_more
            if receipt:
                yield self._timed(receipt, "record_label_received", "received_at", 0.3, case, **on_label)
            if status == "labelled":
                yield self._timed(1, "void_label", "voided_at", 0.1, case, **on_label, reason="The wrong carrier.")
        if status in ("authorized", "labelled"):
            yield self._timed(0.6, "withdraw_return", "withdrawn_at", 0.1, case, **on_return)
        if status == "in_transit":
            yield self._timed(2, "report_return_lost", "reported_at", 0.3, case, **on_return)
        yield self._made(0.4 if open_ else 0.02, "override", self._override, case, "return", return_id)

    def _of_claim(self, case: Case, claim_id: str) -> Iterator[Possibility]:
        claim, on_claim = case.claims[claim_id], {"claim_id": claim_id}
        if claim.status == "open":
            shown = {"item_picture", "order_confirmation"} <= claim.evidence
            yield self._made(9 if shown else 1, "resolve_claim", self._resolution, case, claim_id)
            yield self._timed(2, "record_claim_contact", "contacted_at", 0.3, case, **on_claim)
            yield self._made(3, "add_claim_evidence", self._evidence, case, claim_id)
            yield self._fixed(0.4, "deny_claim", case, **on_claim, reason="It is the right item.")
            yield self._made(0.3, "override", self._override, case, "claim", claim_id)
        if claim.status == "resolved":
            owed = claim.remedy != "replacement" and _refundable(case, claim.stream)
            yield self._made(4 if owed else 0.2, "request_refund", self._refund, case, on_claim)
        labels = claim.way_back.labels
        if claim.status != "denied":
            yield self._made(0.3 if labels else 1, "issue_label", self._claim_label, case, claim_id)
        for label_id, label in labels.items():
            if label.received is None:
                on_label = {**on_claim, "label_id": label_id}
                yield self._timed(1, "record_label_received", "received_at", 0.3, case, **on_label)
                yield self._timed(0.3, "void_label", "voided_at", 0.1, case, **on_label, reason="The wrong carrier.")
            if claim.way_back.received is None:
                yield self._timed(1, "record_return_shipment", "shipped_at", 0.3, case, **on_claim, label_id=label_id)
                yield self._timed(1, "receive_return", "received_at", 0.3, case, **on_claim)

    def _of_refunds(self, case: Case) -> Iterator[Possibility]:
        for refund in case.refunds.values():
            for payment_id, tender in refund.tenders.items():
                often = 3 if tender.pending else 0.2
                yield self._made(often, "record_refund_result", self._result, case, refund.refund_id, payment_id)
                if tender.failed and payment_id in case.order.captured:
                    often = 0.1 if payment_id in case.order.payouts else 0.8
                    yield self._made(often, "name_payout", self._payout, case, payment_id)

    def _of_arrival(self, arrival: UnannouncedArrival, case: Case) -> Iterator[Possibility]:
        if arrival.assigned is not None:
            return
        targets: list[Fields] = [{"return_id": name} for name, ret in case.returns.items() if ret.status != "requested"]
        targets += [{"claim_id": name} for name in case.claims]
        targets += [{"order_id": case.case_id, "parcel_id": name} for name in case.order.parcels]
        for fields in targets:
            made = self._fixed(1.5, "assign_arrival", case, arrival_id=arrival.arrival_id, **fields)
            yield replace(made, arrival=arrival)

    # ---- commands ---------------------------------------------------------------------------------------------------------

    def _fixed(self, weight: float, command: str, case: Case | None = None, /, **fields: Any) -> Possibility:
        return Possibility(weight, command, lambda random: {"command": command, **fields}, case)

    def _timed(
        self, weight: float, command: str, own: str, earlier: float, case: Case, /, **fields: Any
    ) -> Possibility:
        def fill_in(random: Dice) -> Fields:
            return {"command": command, **fields, **self.own_time(random, own, earlier)}

        return Possibility(weight, command, fill_in, case)

    def _made(
        self, weight: float, command: str, make: Callable[..., Fields], case: Case | None = None, *about: Any
    ) -> Possibility:
        whose = () if case is None else (case,)
        return Possibility(weight, command, lambda random: {"command": command} | make(random, *whose, *about), case)

    def _shipment(self, random: Dice, case: Case) -> Fields:
        order = case.order
        fields: Fields = {
            "order_id": order.order_id,
            "parcel_id": self.new("P"),
            "carrier": random.choice(("fedex", "ups")),
            "tracking_number": "T-1",
            **self.own_time(random, "shipped_at", 0.1),
        }
        if random.chance(0.3):
            left = {line_id: order.units(line_id) - order.in_parcels(line_id) for line_id in order.lines}
            some = [
                {"line_id": line_id, "quantity": random.integer(1, count)}
                for line_id, count in left.items()
                if count > 0 and not random.chance(0.4)
            ]
            if some:
                fields["lines"] = some
        return fields

    def _shipment_again(self, random: Dice, case: Case, parcel_id: str) -> Fields:
        return self._shipment(random, case) | {"parcel_id": parcel_id}

    def _correction(self, random: Dice, case: Case, on_parcel: Mapping[str, str]) -> Fields:
        moved = self.own_time(random, "delivered_at", 0.7)
        return {**on_parcel, "reason": "The driver scanned another parcel.", **moved}

    def _cancellation(self, random: Dice, case: Case | None, order_id: str) -> Fields:
        reference = {"order_reference": order_id}
        shown: Fields = random.choice((reference, reference, {"order_copy": True}, {}))
        return {
            "order_id": order_id,
            "channel": "phone" if random.chance(0.15) else "email",
            **shown,
            **self.own_time(random, "requested_at"),
        }

    def _shop_cancels(self, random: Dice, case: Case) -> Fields:
        order = case.order
        fields: Fields = {"order_id": order.order_id, "reason": "Out of stock."}
        left = [(line_id, order.to_ship(line_id)) for line_id in order.lines if order.to_ship(line_id)]
        if left and random.chance(0.6):
            line_id, count = random.choice(left)
            fields["lines"] = [{"line_id": line_id, "quantity": random.integer(1, count)}]
        if random.chance(0.2):
            fields["elsewhere"] = True
        return fields | self.own_time(random, "cancelled_at", 0.2)

    def _return(self, random: Dice, case: Case) -> Fields:
        lines: list[Fields] = []
        for line in case.order.lines.values():
            free = free_units(case, line.line_id)
            if free > 0 and (not line.final_sale or random.chance(0.2)) and not random.chance(0.3):
                lines.append({"line_id": line.line_id, "quantity": random.integer(1, min(free, 2))})
                if random.chance(0.5):
                    lines[-1]["reason"] = "It is too small."
        fields: Fields = {
            "return_id": self.new("R"),
            "order_id": case.order.order_id,
            "lines": lines or [{"line_id": "1", "quantity": 1}],
            "channel": "phone" if random.chance(0.1) else "portal",
        }
        if random.chance(0.07):
            fields["resolution"] = "exchange"
        return fields | self.own_time(random, "requested_at")

    def _claim(self, random: Dice, case: Case) -> Fields:
        line = random.choice(list(case.order.lines.values()))
        return {
            "claim_id": self.new("C"),
            "order_id": case.order.order_id,
            "line_id": line.line_id,
            "quantity": random.integer(1, max(1, min(2, free_units(case, line.line_id)))),
            "channel": "portal" if random.chance(0.1) else "email",
            "attachments": random.choice((["order_confirmation", "item_picture"], ["item_picture"], [])),
            **self.own_time(random, "reported_at", 0.4),
        }

    def _evidence(self, random: Dice, case: Case | None, claim_id: str) -> Fields:
        some = random.choice((["item_picture", "order_confirmation"], ["order_confirmation"], ["item_picture"]))
        return {"claim_id": claim_id, "attachments": some, **self.own_time(random, "added_at", 0.1)}

    def _resolution(self, random: Dice, case: Case | None, claim_id: str) -> Fields:
        fields: Fields = {
            "claim_id": claim_id,
            "remedy": random.choice(("refund", "replacement", "replacement", "both")),
        }
        return fields | ({"quantity": 1} if random.chance(0.2) else {})

    def _label(self, random: Dice, case: Case | None, return_id: str) -> Fields:
        return {
            "return_id": return_id,
            "label_id": self.new("L"),
            "carrier": "fedex",
            "tracking_number": "RT-1",
            **({} if case is None else self._box(random, case, return_id)),
            **self.own_time(random, "issued_at", 0.2),
            **self.own_time(random, "received_at", 0.2),
        }

    def _disposition(self, random: Dice, case: Case, return_id: str) -> Fields:
        ret = case.returns[return_id]
        line = random.choice(ret.lines)
        some = {"line_id": line.line_id, "quantity": random.integer(1, line.quantity)}
        what = random.choice(("restock", "refurbish", "scrap", "vendor"))
        return {"return_id": return_id, "lines": [some | {"disposition": what}], **self.own_time(random, "disposed_at")}

    def _unannounced(self, random: Dice, case: Case) -> Fields:
        """A parcel whose slip names the order, or whose tracking number somebody may know, or neither."""
        numbers = [label.tracking_number for ret in case.ways_back for label in ret.labels.values()]
        numbers += [parcel.tracking_number for parcel in case.order.parcels.values()]
        fields: Fields = {"arrival_id": self.new("D")}
        if numbers and random.chance(0.6):
            fields |= {"carrier": "fedex", "tracking_number": random.choice(numbers)}
        if random.chance(0.5):
            fields["order_reference"] = case.case_id
        return fields | self.own_time(random, "arrived_at")

    def _claim_label(self, random: Dice, case: Case, claim_id: str) -> Fields:
        fields = {name: value for name, value in self._label(random, None, "").items() if name != "return_id"}
        return {"claim_id": claim_id} | fields

    def _arrival(self, random: Dice, case: Case, return_id: str) -> Fields:
        return {"return_id": return_id, **self._box(random, case, return_id), **self.own_time(random, "received_at")}

    def _box(self, random: Dice, case: Case, return_id: str) -> Fields:
        ret = case.returns[return_id]
        boxes = [box_id for box_id in (*ret.boxes, *(label.box_id for label in ret.labels.values())) if box_id]
        return {"box_id": random.choice((*boxes, "1", "2"))} if random.chance(0.5 if boxes else 0.1) else {}

    def _other_findings(self, random: Dice, case: Case, return_id: str) -> Fields:
        findings = [
            self._finding(random, line.line_id, random.integer(1, line.quantity))
            for line in case.returns[return_id].lines
        ]
        return {"return_id": return_id, "findings": findings, "reason": "The boxes were mixed up."}

    def _reduction(self, random: Dice, case: Case, return_id: str) -> Fields:
        line = random.choice(case.returns[return_id].lines)
        kept = [{"line_id": line.line_id, "quantity": random.integer(1, max(1, line.quantity - 1))}]
        return {"return_id": return_id, "lines": kept, **self.own_time(random, "reduced_at", 0.1)}

    def _hand_over(self, random: Dice, case: Case, return_id: str) -> Fields:
        labels = list(case.returns[return_id].labels)
        used = {"label_id": random.choice(labels)} if labels and not random.chance(0.2) else {}
        proof = {"proof": random.choice(("carrier_scan", "counter_receipt"))} if random.chance(0.5) else {}
        box = self._box(random, case, return_id)
        return {"return_id": return_id, **used, **proof, **box, **self.own_time(random, "shipped_at", 0.4)}

    def _inspection(self, random: Dice, case: Case, return_id: str) -> Fields:
        ret = case.returns[return_id]
        findings: list[Fields] = []
        for line in ret.lines:
            left = max(0, ret.uninspected(line.line_id))
            while left and not random.chance(0.2):
                count = left - random.integer(0, left - 1)
                left -= count
                findings.append(self._finding(random, line.line_id, count))
        findings = findings or [self._finding(SimplestDice(), ret.lines[0].line_id, 1)]
        return {"return_id": return_id, "findings": findings, **self.own_time(random, "inspected_at", 0.2)}

    def _finding(self, random: Dice, line_id: str, quantity: int) -> Fields:
        worn = random.chance(0.35)
        return {
            "line_id": line_id,
            "quantity": quantity,
            "same_condition": not worn,
            "original_packaging": not (worn and random.chance(0.5)),
            "tags_attached": True,
        }

    def _send_back(self, random: Dice, case: Case, return_id: str) -> Fields:
        ret = case.returns[return_id]
        left = {line.line_id: ret.to_send_back(line.line_id) for line in ret.lines}
        lines = [
            {"line_id": line_id, "quantity": count - random.integer(0, count - 1)}
            for line_id, count in left.items()
            if count > 0
        ]
        return {"return_id": return_id, "lines": lines, **self.own_time(random, "sent_at", 0.2)}

    def _refund(self, random: Dice, case: Case | None, subject: Mapping[str, str]) -> Fields:
        return {"refund_id": self.new("F"), **subject}

    def _result(self, random: Dice, case: Case | None, refund_id: str, payment_id: str) -> Fields:
        """An answer for a tender: mostly that it was paid, sometimes less, more, in another currency, or the opposite of an
        earlier answer, sometimes told by the id of its payout or by an id that the refund does not know."""
        tender = None if case is None else case.refunds[refund_id].tenders.get(payment_id)
        fields: Fields = {"refund_id": refund_id, "payment_id": payment_id}
        if tender is not None and tender.payout_id is not None and random.chance(0.8):
            fields["payment_id"] = tender.payout_id
        elif random.chance(0.04):
            fields["payment_id"] = random.choice(("p-1", "p-2", "p-9"))
        if random.chance(0.25):
            fields |= {"result": "failed", "reason": "The card is closed."}
            if random.chance(0.3):
                fields["reference"] = "re-1"
        else:
            fields |= {"result": "succeeded", "reference": "re-2" if random.chance(0.2) else "re-1"}
        if case is not None and random.chance(0.3):
            # Half, all but the least unit, all, or more than all of what was asked for.
            asked = 1000 if tender is None else tender.asked
            amount = random.choice((asked // 2, max(0, asked - 1), asked, asked + 1, 2 * asked))
            fields["amount"] = to_major(amount, case.order.currency)
            if random.chance(0.12):
                fields["currency"] = "EUR" if case.order.currency != "EUR" else "USD"
                fields["amount"] = to_major(amount, fields["currency"])
        return fields | self.own_time(random, "settled_at", 0.2)

    def _capture(self, random: Dice, case: Case, payment_id: str) -> Fields:
        order = case.order
        amounts = {payment.payment_id: payment.amount for payment in order.confirmed.payments}
        rest = max(0, amounts[payment_id] - order.captured[payment_id])
        fields: Fields = {"order_id": order.order_id, "payment_id": payment_id}
        if random.chance(0.4):
            amount = random.choice((rest // 2, max(0, rest - 1), rest, rest + 1))
            fields["amount"] = to_major(amount, order.currency)
        if random.chance(0.03):
            fields["payment_id"] = "p-9"
        return fields | self.own_time(random, "captured_at", 0.2)

    def _refund_elsewhere(self, random: Dice, case: Case) -> Fields:
        """Money that went back without the desk's asking: to one or two payments, for some units or for none."""
        order = case.order
        payments = [payment for payment in order.confirmed.payments if payment.amount][: 1 + random.chance(0.2)]
        tenders: list[Fields] = [
            {
                "payment_id": payment.payment_id,
                "amount": to_major(
                    random.choice((payment.amount // 10, payment.amount // 2, payment.amount, 1)), order.currency
                ),
                "reference": f"er-{len(case.refunds)}",
            }
            for payment in payments
        ]
        if not tenders or random.chance(0.03):
            tenders = [{"payment_id": "p-9", "amount": to_major(100, order.currency)}]
        fields: Fields = {
            "refund_id": self.new("F"),
            "order_id": order.order_id,
            "kind": random.choice(("goodwill", "goodwill", "elsewhere", "dispute", "past")),
            "tenders": tenders,
        }
        if random.chance(0.4):
            some = [line for line in order.lines.values() if not random.chance(0.4)] or list(order.lines.values())[:1]
            fields["lines"] = [{"line_id": line.line_id, "quantity": random.integer(1, line.quantity)} for line in some]
        if random.chance(0.5):
            fields["reason"] = "A scratch on the clasp."
        return fields | self.own_time(random, "refunded_at", 0.3)

    def _payout(self, random: Dice, case: Case | None, payment_id: str) -> Fields:
        order_id = "A-1" if case is None else case.order.order_id
        how: Fields = {"payout_id": f"gift-{payment_id}", "method": "gift_card", "reason": "The card is closed."}
        return {"order_id": order_id, "payment_id": payment_id, **how, "approved_by": "Ann"}

    def _override(self, random: Dice, case: Case | None, kind: SubjectKind, name: str) -> Fields:
        stream = str(StreamId(kind, name))
        about = None if case is None or not case.version_of(stream) else case.stream_of(stream)
        # Whether a clause matters depends a little on the policy, which nobody knows here: the bundled one will do.
        useful = () if case is None or about is None else effective(case, about, _bundled())
        if random.chance(0.15) or not useful:
            clause = "returns.kindness" if random.chance(0.1) else random.choice(CLAUSE_IDS)
        else:
            clause = random.choice([clause for clause in useful if clause in MIGHTY] or useful)
        fields: Fields = {"subject": {"kind": kind, "id": name}, "clause": clause}
        fields |= {"reason": "A good customer.", "approved_by": "Ann"}
        if random.chance(0.2):
            fields["lines"] = [random.choice(sorted(about.line_ids)) if about is not None else "1"]
        if random.chance(0.2):
            fields["expires_at"] = self.at + random.choice((ONE_TICK, timedelta(hours=1), timedelta(days=3)))
        if random.chance(0.2):
            fields["once"] = False
        return fields

    # ---- and what nobody expects ----------------------------------------------------------------------------------------

    def mutated(self, random: Dice, fields: Mapping[str, Any]) -> Fields:
        """The same command with one field wrong: another id, one unit too many, or a value that is not valid."""
        key = random.choice([key for key in fields if key != "command"] or ["order_id"])
        value = fields.get(key)
        worse: Any
        if isinstance(value, str) and key.endswith("_id"):
            worse = random.choice((f"{value}x", "R-1", "A-1", "P-1", "C-1", "F-1", "L-1"))
        elif isinstance(value, list) and value and isinstance(value[0], dict) and "quantity" in value[0]:
            worse = [{**value[0], "quantity": value[0]["quantity"] + random.choice((1, 7, 0))}, *value[1:]]
        else:
            worse = random.choice((None, 7, "", "something else", [], "2026-03-05T10:00:00"))
        return {**fields, key: worse}

    def unrelated(self, random: Dice) -> list[Possibility]:
        """Every command, and one that does not exist, on things that exist or not, whatever the state of the cases."""

        def one_of(names: Iterable[str], unknown: str) -> str:
            known = list(names)
            return random.choice(known) if known and not random.chance(0.15) else unknown

        order_id = one_of((case.order.order_id for case in self.cases), "A-9")
        return_id = one_of((name for case in self.cases for name in case.returns), "R-9")
        claim_id = one_of((name for case in self.cases for name in case.claims), "C-9")
        refund_id = one_of((name for case in self.cases for name in case.refunds), "F-9")
        kind, name = random.choice(
            (("order", order_id), ("return", return_id), ("claim", claim_id), ("refund", refund_id))
        )
        line: Fields = {"line_id": random.choice(("1", "2", "9")), "quantity": random.choice((1, 2))}
        finding = {**line, "same_condition": True, "original_packaging": True, "tags_attached": True}
        on_order, on_return, on_claim = {"order_id": order_id}, {"return_id": return_id}, {"claim_id": claim_id}
        payment_id = random.choice(("p-1", "p-2", "p-9"))
        tender = {"payment_id": payment_id, "amount": "1.00"}
        payout = {"payment_id": payment_id, "payout_id": "gift-9", "method": "gift_card", "reason": "Why not."}
        fixed, made = self._fixed, self._made
        parcel = {**on_order, "parcel_id": "P-1"}
        return [
            fixed(1, "record_delivery", **parcel),
            fixed(1, "record_shipment", **parcel, lines=[line], carrier="dhl", tracking_number="T-9"),
            made(1, "request_cancellation", self._cancellation, None, None, order_id),
            fixed(1, "cancel_order", **on_order, lines=[line], reason="Why not.", elsewhere=random.chance(0.3)),
            fixed(1, "request_return", **on_order, **on_return, lines=[line], channel="portal"),
            made(1, "issue_label", self._label, None, None, return_id),
            fixed(1, "record_label_received", **on_return, label_id="L-1"),
            fixed(1, "void_label", **on_return, label_id="L-1", reason="Why not."),
            fixed(1, "record_return_shipment", **on_return),
            fixed(1, "receive_return", **on_return),
            fixed(1, "inspect_return", **on_return, findings=[finding]),
            fixed(1, "correct_inspection", **on_return, findings=[finding], reason="Why not."),
            made(1, "request_refund", self._refund, None, None, on_return),
            made(1, "request_refund", self._refund, None, None, on_order),
            made(1, "request_refund", self._refund, None, None, on_claim),
            fixed(1, "request_refund", **on_claim, refund_id=refund_id),
            made(1, "record_refund_result", self._result, None, None, refund_id, payment_id),
            fixed(
                1, "record_refund", **on_order, refund_id=refund_id, kind="elsewhere", tenders=[tender], lines=[line]
            ),
            fixed(1, "record_capture", **on_order, payment_id=payment_id),
            fixed(1, "name_payout", **on_order, **payout, approved_by="Ann"),
            fixed(1, "correct_delivery", **on_order, parcel_id="P-9", reason="It was another parcel."),
            fixed(1, "record_send_back", **on_return, lines=[line]),
            fixed(0.5, "record_disposition", **on_return, lines=[line | {"disposition": "scrap"}]),
            fixed(1, "report_return_lost", **on_return),
            fixed(1, "reduce_return", **on_return, lines=[line]),
            fixed(1, "withdraw_return", **on_return),
            fixed(1, "report_wrong_item", **on_claim, **on_order, line_id="1", channel="email"),
            fixed(1, "add_claim_evidence", **on_claim, attachments=["item_picture"]),
            fixed(1, "record_claim_contact", **on_claim),
            fixed(1, "resolve_claim", **on_claim, remedy="both"),
            fixed(1, "deny_claim", **on_claim, reason="No."),
            fixed(0.5, "assign_arrival", arrival_id="D-1", **on_return),
            fixed(0.5, "dismiss_arrival", arrival_id="D-1", reason="Why not."),
            fixed(1, "close_exception", subject={"kind": kind, "id": name}, reason="Why not."),
            fixed(1, "notify_customer", subject={"kind": kind, "id": name}, notice="Hello."),
            made(1, "confirm_order", self._order_again, None, order_id),
            fixed(1, "tell_a_joke"),
        ]

    def _order_again(self, random: Dice, order_id: str) -> Fields:
        return self.order(random) | {"order_id": order_id}


def order_fields(
    random: Dice,
    order_id: str,
    *,
    currency: str = "USD",
    max_lines: int = 3,
    price: Callable[[Dice], int] = lambda random: random.choice(PRICES),
) -> Fields:
    """The fields of ``confirm_order``: lines, shipping and payments that add up. ``price`` is in minor units."""

    def major(minor: int) -> str:
        return to_major(minor, currency)

    lines: list[Fields] = []
    due = 0
    counts = [count for count in (1, 1, 1, 2, 3) if count <= max_lines] + list(range(4, max_lines + 1))
    for number in range(1, random.choice(counts) + 1):
        unit_price, quantity, tax = price(random), random.choice((1, 2, 3, 5)), random.choice((0, 1, 5, 100, 3333))
        due += unit_price * quantity + tax
        lines.append(
            {
                "line_id": str(number),
                "sku": f"SKU-{number}",
                "unit_price": major(unit_price),
                "quantity": quantity,
                "tax": major(tax),
                "final_sale": random.chance(0.06),
            }
        )
    shipping, shipping_tax = random.choice(((0, 0), (1500, 0), (1500, 133)))
    due += shipping + shipping_tax
    cuts = sorted(random.integer(0, due) for _ in range(random.choice((0, 0, 1, 2))))
    amounts = [end - begin for begin, end in zip([0, *cuts], [*cuts, due], strict=True)]
    if not due and random.chance(0.5):
        amounts = []
    payments: list[Fields] = [
        {"payment_id": f"p-{number}", "method": "card", "amount": major(amount)}
        for number, amount in enumerate(amounts, start=1)
    ]
    if amounts and random.chance(0.12):  # authorised, and captured in part or not at all
        number = random.integer(0, len(amounts) - 1)
        payments[number]["captured"] = major(random.choice((0, amounts[number] // 2)))
    return {
        "command": "confirm_order",
        "order_id": order_id,
        "customer": {"customer_id": "c-1", "account_id": None if random.chance(0.2) else "acc-1"},
        "currency": currency,
        "lines": lines,
        "shipping": {"charged": major(shipping), "tax": major(shipping_tax)},
        "payments": payments,
    }


def is_possible(
    possibility: Possibility, fields: Mapping[str, Any], at: datetime, policy_of: Callable[[Case], Policy]
) -> bool:
    """Whether a command would be accepted or declined at an instant; nothing is recorded."""
    try:
        command = parse_command(fields)
        command.check_own_times(at)
        if possibility.arrival is not None and isinstance(command, AssignArrival):
            command = possibility.arrival.report(command)
        if possibility.case is not None:
            decide(possibility.case, command, DecisionContext(at, policy_of(possibility.case)))
    except (Impossible, CalendarExhausted):
        return False
    return True


def instants_of(cases: Iterable[Case]) -> list[datetime]:
    """Every deadline of some cases, every hand-over of a parcel and every end of an override, in order of time."""
    found: set[datetime] = set()
    for case in cases:
        found |= {parcel.shipped_at for parcel in case.order.parcels.values()}
        found |= {deadline.at for deadline in deadlines_of(case)}
        for each in (case.order, *case.returns.values(), *case.claims.values()):
            found |= {override.expires_at for override in each.overrides if override.expires_at is not None}
    return sorted(found)


def next_ids(cases: Iterable[Case]) -> Callable[[str], str]:
    """A function that returns the next id of a kind, such as ``R-3`` after ``R-2``; the same one each time."""
    taken: dict[str, set[str]] = {kind: set() for kind in "APRLCFD"}
    for case in cases:
        if case.arrival is not None:
            taken["D"].add(case.arrival.arrival_id)
        taken["A"].add(case.order.order_id)
        taken["P"].update(case.order.parcels)
        taken["R"].update(case.returns)
        taken["L"].update(label_id for ret in case.ways_back for label_id in ret.labels)
        taken["C"].update(case.claims)
        taken["F"].update(case.refunds)

    def next_id(kind: str) -> str:
        number = 1
        while f"{kind}-{number}" in taken[kind]:
            number += 1
        return f"{kind}-{number}"

    return next_id


def free_units(case: Case, line_id: str) -> int:
    """How many delivered units of a line are in no return and no claim, and not cancelled."""
    order, held = case.order, case.held[line_id]
    in_parcels = sum(count for parcel_id, count in held.items() if parcel_id is not None)
    left = order.units(line_id) - held.total
    return max(0, min(order.delivered(line_id) - in_parcels, left))


def whole_minute(at: datetime) -> datetime:
    """The instant, or the next whole minute."""
    return at if at == (whole := at.replace(second=0, microsecond=0)) else whole + timedelta(minutes=1)


def _refundable(case: Case, stream: str) -> bool:
    asked = [refund for refund in case.refunds.values() if refund.stream == stream]
    return not asked or asked[-1].status == "failed"


# ---- a world ------------------------------------------------------------------------------------------------------------


class World:
    """A desk, a clock and the list of all commands so far; ``step`` lets one thing happen.

    Every step is one number, which seeds the dice that choose the next command. So a history is a list of numbers, and a
    failing one shrinks to the few that matter. Most commands make sense, some do not. ``services`` is by default a fresh desk
    in memory.

    >>> world = World()
    >>> fields, command, came = world.step(seed=7)
    >>> fields["command"], world.order_ids
    ('confirm_order', ['A-1'])
    """

    def __init__(self, services: Services | None = None) -> None:
        self.services = services or assemble("memory:")
        self.at = START
        """The clock, in UTC."""
        self.told: list[tuple[datetime, Fields]] = []
        """Every command with its instant, the impossible ones too."""
        self.seen: Counter[str] = Counter()
        """Counts of events (``Shipped``) and of outcomes (``declined issue_label``, ``error line.unknown``)."""
        self.order_ids: list[str] = []
        self.arrival_ids: list[str] = []
        self._numbers: Counter[str] = Counter()

    @property
    def cases(self) -> list[Case]:
        """The orders of the desk, each with what belongs to it."""
        return [self.services.handler.case(order_id) for order_id in self.order_ids]

    @property
    def arrivals(self) -> list[Case]:
        """The parcels that nobody announced."""
        return [self.services.handler.case_with("arrival", name) for name in self.arrival_ids]

    def log(self) -> Sequence[Recorded]:
        """Every recorded event."""
        return self.services.store.read(0, 1_000_000)

    def instants(self) -> list[datetime]:
        """Every deadline, every hand-over of a parcel and every end of an override, in order of time."""
        return instants_of(self.cases)

    def step(self, seed: int) -> tuple[Fields, Command | None, Outcome | Impossible]:
        """Move the clock and handle a command: its fields, the command (``None``: not one at all) and its outcome."""
        random = SeededDice(seed)
        cases = [*self.cases, *self.arrivals]
        self.at = Behaviour(cases, self.at, new=self._new).later(random)
        fields = Behaviour(cases, self.at, new=self._new).choose(random)
        if random.chance(0.7):
            fields["command_id"] = f"c-{len(self.told)}"
        if random.chance(0.3):
            fields["actor"] = {"role": random.choice(("customer", "care", "warehouse", "system")), "id": "someone"}
        self.told.append((self.at, fields))
        command: Command | None = None
        try:
            command = parse_command(fields)
            came: Outcome | Impossible = self.services.handler.handle(command, self.at)
        except Impossible as error:
            came = error
        self._count(fields, came)
        return fields, command, came

    def _count(self, fields: Fields, came: Outcome | Impossible) -> None:
        if isinstance(came, Impossible):
            self.seen[f"error {came.code}"] += 1
            return
        self.seen[f"{came.outcome} {fields['command']}"] += 1
        for _, _, event in came.recorded_events:
            self.seen[event.type] += 1
            if isinstance(event, Confirmed):
                self.order_ids.append(event.order_id)
            elif isinstance(event, ArrivalRecorded):
                self.arrival_ids.append(event.arrival_id)

    def _new(self, kind: str) -> str:
        self._numbers[kind] += 1
        return f"{kind}-{self._numbers[kind]}"

"""The events. Each has a stable stored name with a version, and stays readable for ever.

Every event holds when it happened in the world (``occurred_at``), when this system recorded it (``recorded_at``), who
reported it, and under which command id. A *decision* also holds its pins (which policy, calendar, zone and engine judged it)
and its ruling. An event that starts a clock holds the resolved deadline, so that no later change of policy, holiday table or
time zone database moves it. Money is in minor units, instants are UTC.

A released class never changes: a new shape is a new version with an upcaster (:data:`UPCASTERS`).
"""

# Fields narrow the properties of Event that have their names.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

import builtins
from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import ValidationError, from_json, to_json

from returnable.domain.errors import HistoryBroken, place_of, short
from returnable.domain.fields import Disposition, Evidence, RefundKind, Remedy, Role
from returnable.domain.marks import Count, Derived, FreeText, Harmless, Minor, Personal
from returnable.domain.ruling import ClauseResult, Grounds

ENGINE = "1"
"""The version of the reading of the policy this code decides by; pinned in every decision."""


class Part(BaseModel):
    """The base of every stored structure: closed, immutable, and strict (nothing is coerced on the way in or out)."""

    # Built when first used: a process that carries out one command needs few of these models.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True, serialize_by_alias=True)


class Who(Part):
    """Who reported the event."""

    role: Role
    id: Personal


class Pins(Part):
    """What a decision was judged by."""

    policy: Harmless
    version: Harmless
    sha256: Harmless
    calendar: Harmless
    zone: Harmless
    tzdata: Harmless | None = None
    """The release of the time zone database; absent in an event of a version that did not record it."""
    engine: Harmless = ENGINE


class Event(Part):
    """What every event holds."""

    stored_as: ClassVar[str]
    """The stable stored name with its version, such as ``order.Shipped/1``."""
    title: ClassVar[str]
    """What it is called in a report."""
    of_command: ClassVar[str | None] = None
    """The command whose first event it is; ``None`` where it follows another event, or a deadline records it."""
    follows: ClassVar[tuple[builtins.type[Event], ...]] = ()
    """The first events of a command after which the same command may record it."""
    moves: ClassVar[bool] = True
    """Whether it moves an order, return, claim or arrival. One that does not is possible in any state of them."""
    declines: ClassVar[bool] = False
    """Whether it says no. :attr:`ruling` is ``None`` where a person says no, and not the policy."""
    continues: ClassVar[bool] = False
    """Whether it goes on with an earlier decision of its type on the same stream, so that the same overrides hold."""

    occurred_at: AwareDatetime
    recorded_at: AwareDatetime
    actor: Who | None = None
    command_id: Personal | None = None

    @property
    def type(self) -> str:
        """The name in outcomes and audits: the class name."""
        return type(self).__name__

    if TYPE_CHECKING:
        # ``None`` for most events, which have no fields of these names.
        @property
        def pins(self) -> Pins | None: ...
        @property
        def ruling(self) -> tuple[ClauseResult, ...] | None: ...
        @property
        def parcel_id(self) -> str | None: ...
        @property
        def refund_id(self) -> str | None: ...
    else:  # not properties: pydantic would take them for the defaults of the fields

        def __getattr__(self, name: str) -> Any:
            return None if name in ("pins", "ruling", "parcel_id", "refund_id") else super().__getattr__(name)


class Decision(Event):
    """An event that says how the policy judged."""

    pins: Pins
    ruling: tuple[ClauseResult, ...]


# ---- order ----------------------------------------------------------------------------------------------------------


class Buyer(Part):
    """The customer of an order; ``name`` and ``email`` are personal data."""

    customer_id: Personal
    account_id: Personal | None = None
    name: Personal | None = None
    email: Personal | None = None


class BoughtLine(Part):
    """A line of an order: unit price paid, net of discount; ``tax`` is the line's total."""

    line_id: Harmless
    sku: Harmless
    unit_price: Minor
    quantity: Count
    tax: Minor = 0
    final_sale: bool = False
    description: FreeText | None = None


class Payment(Part):
    """A payment of an order. ``captured``: what was taken of the amount when the order was confirmed; absent: all of it."""

    payment_id: Personal
    method: Harmless
    amount: Minor
    captured: Minor | None = None


class Units(Part):
    """So many units of a line."""

    line_id: Harmless
    quantity: Count


class Confirmed(Event):
    """The confirmation reached the customer; the policy in force is pinned to the order."""

    stored_as = "order.Confirmed/1"
    title = "Order confirmed"
    of_command = "confirm_order"
    order_id: Harmless
    customer: Buyer
    currency: Harmless
    lines: tuple[BoughtLine, ...]
    shipping_charged: Minor = 0
    shipping_tax: Minor = 0
    payments: tuple[Payment, ...]
    placed_at: AwareDatetime | None = None
    cancel_by: AwareDatetime
    pins: Pins


class Shipped(Event):
    """A parcel was handed to the carrier."""

    stored_as = "order.Shipped/1"
    title = "Parcel handed to the carrier"
    of_command = "record_shipment"
    parcel_id: Personal
    carrier: Harmless
    tracking_number: Personal
    lines: tuple[Units, ...]


class DeliveryTakenBack(Event):
    """A delivery that was recorded was wrong; it occurs when that delivery did. A corrected one follows, if there is one."""

    stored_as = "order.DeliveryTakenBack/1"
    title = "Delivery taken back"
    of_command = "correct_delivery"
    parcel_id: Personal
    moved_to: AwareDatetime | None = None
    """When the parcel was really delivered."""
    reason: FreeText
    decisions: tuple[Harmless, ...] = ()
    """The ids of the decisions that rest on the delivery that was wrong."""


class Delivered(Event):
    """A parcel reached the customer; the ends of the return and the wrong-item window are resolved."""

    stored_as = "order.Delivered/1"
    title = "Parcel delivered"
    of_command = "record_delivery"
    follows = (DeliveryTakenBack,)
    parcel_id: Personal
    return_before: AwareDatetime
    report_before: AwareDatetime
    pins: Pins


class OutboundLost(Event):
    """A parcel was lost on its way to the customer."""

    stored_as = "order.OutboundLost/1"
    title = "Parcel lost on its way to the customer"
    of_command = "report_parcel_lost"
    parcel_id: Personal


class ReturnedToSender(Event):
    """The carrier brought a parcel back."""

    stored_as = "order.ReturnedToSender/1"
    title = "Parcel returned to sender"
    of_command = "record_parcel_returned"
    parcel_id: Personal


class PaymentCaptured(Event):
    """The payment provider took money that was authorised."""

    stored_as = "order.PaymentCaptured/1"
    title = "Payment captured"
    moves = False
    of_command = "record_capture"
    payment_id: Personal
    amount: Minor
    currency: Harmless


class UnitsCancelled(Event):
    """The shop cancelled units. ``elsewhere``: outside the desk, which owes nothing for them."""

    stored_as = "order.UnitsCancelled/1"
    title = "Cancelled by the shop"
    of_command = "cancel_order"
    lines: tuple[Units, ...]
    reason: FreeText
    elsewhere: bool = False


class PayoutNamed(Event):
    """A person with authority named another way to pay back a payment that cannot be paid back."""

    stored_as = "order.PayoutNamed/1"
    title = "Another payout named"
    moves = False
    of_command = "name_payout"
    payment_id: Personal
    payout_id: Personal
    method: Harmless
    reason: FreeText
    approved_by: Personal


class AccountLinked(Event):
    """The customer has an account."""

    stored_as = "order.AccountLinked/1"
    title = "Account linked"
    moves = False
    of_command = "link_account"
    account_id: Personal


class CancellationRequested(Event):
    """A request to cancel arrived. ``incomplete``: in the right way, but without what shows which order is meant."""

    stored_as = "order.CancellationRequested/1"
    title = "Cancellation asked for"
    of_command = "request_cancellation"
    channel: Harmless
    order_reference: FreeText | None = None
    order_copy: bool = False
    incomplete: bool = False


class Cancelled(Decision):
    """The order is cancelled; the customer is owed a notice and a refund in full."""

    stored_as = "order.Cancelled/1"
    title = "Order cancelled"
    follows = (CancellationRequested,)


class CancellationDeclined(Decision):
    """The request to cancel was declined; the customer is owed a notice."""

    stored_as = "order.CancellationDeclined/1"
    title = "Cancellation declined"
    follows = (CancellationRequested,)
    declines = True


# ---- return ---------------------------------------------------------------------------------------------------------


class Allotment(Part):
    """Which delivered parcel the units of a return line came in; ``None``: not delivered."""

    parcel_id: Personal | None = None
    quantity: Count


class ReturnLine(Part):
    """A line of a return request."""

    line_id: Harmless
    quantity: Count
    reason: FreeText | None = None
    parcel_id: Personal | None = None
    """The parcel that the request named."""
    parcels: tuple[Allotment, ...]


class ReturnRequested(Event):
    """The customer asked to send units back."""

    stored_as = "return.ReturnRequested/1"
    title = "Return asked for"
    of_command = "request_return"
    return_id: Harmless
    order_id: Harmless
    lines: tuple[ReturnLine, ...]
    channel: Harmless
    resolution: Literal["refund", "exchange"] = "refund"
    cancelled: bool = False
    """Whether the units were cancelled before: they come back, and nothing is owed for them."""


class ReturnAuthorized(Decision):
    """The return authorization. ``remind_at``: from when on somebody looks after it, if nothing was sent by then."""

    stored_as = "return.ReturnAuthorized/1"
    title = "Return authorized"
    follows = (ReturnRequested,)
    remind_at: AwareDatetime | None = None


class ReturnDeclined(Decision):
    """The request was declined as a whole."""

    stored_as = "return.ReturnDeclined/1"
    title = "Return declined"
    follows = (ReturnRequested,)
    declines = True


class LabelIssued(Decision):
    """A prepaid label was issued; ``void_at`` is the exclusive end of its life."""

    stored_as = "label.LabelIssued/1"
    title = "Prepaid label issued"
    of_command = "issue_label"
    label_id: Personal
    carrier: Harmless
    tracking_number: Personal
    received_at: AwareDatetime | None = None
    void_at: AwareDatetime
    box_id: Personal | None = None
    """The box it is for, where the return travels in several."""


class LabelDeclined(Decision):
    """No new label after one voided by itself."""

    stored_as = "label.LabelDeclined/1"
    title = "Another label declined"
    of_command = "issue_label"
    declines = True
    label_id: Personal
    box_id: Personal | None = None


class LabelReceived(Event):
    """The customer received the label; its clock runs from here."""

    stored_as = "label.LabelReceived/1"
    title = "Label reached the customer"
    of_command = "record_label_received"
    label_id: Personal
    void_at: AwareDatetime
    pins: Pins


class LabelVoided(Event):
    """The label is void: by hand with a reason, or by itself at its deadline."""

    stored_as = "label.LabelVoided/1"
    title = "Label voided"
    of_command = "void_label"
    label_id: Personal
    cause: Literal["deadline", "by_hand"]
    reason: FreeText | None = None


class ReturnShipped(Event):
    """The customer handed the parcel over."""

    stored_as = "return.ReturnShipped/1"
    title = "Parcel handed over by the customer"
    of_command = "record_return_shipment"
    label_id: Personal | None = None
    tracking_number: Personal | None = None
    proof: Literal["carrier_scan", "counter_receipt"] | None = None
    box_id: Personal | None = None


class Received(Decision):
    """The parcel arrived and was taken in."""

    stored_as = "return.Received/1"
    title = "Parcel received"
    of_command = "receive_return"
    box_id: Personal | None = None


class ParcelRejected(Decision):
    """The parcel was handed over late and refused at the dock."""

    stored_as = "return.ParcelRejected/1"
    title = "Parcel refused at the dock"
    of_command = "receive_return"
    declines = True
    box_id: Personal | None = None


class FoundUnits(Part):
    """The findings on some units of a line."""

    line_id: Harmless
    quantity: Count
    same_condition: bool
    original_packaging: bool
    tags_attached: bool
    notes: FreeText | None = None


class InspectedUnits(FoundUnits):
    """The findings on some units of a line, and whether the units were accepted."""

    accepted: bool


class Inspected(Decision):
    """Units were inspected; each was accepted or rejected."""

    stored_as = "return.Inspected/1"
    title = "Units inspected"
    of_command = "inspect_return"
    continues = True
    findings: tuple[InspectedUnits, ...]


class FindingsDisputed(Event):
    """Findings on more units than are left to inspect: they change nothing, and a person has to look at them."""

    stored_as = "return.FindingsDisputed/1"
    title = "Findings on more units than are left"
    moves = False
    of_command = "inspect_return"
    findings: tuple[FoundUnits, ...]


class InspectionCorrected(Decision):
    """A person replaced all findings of a return."""

    stored_as = "return.InspectionCorrected/1"
    title = "Inspection corrected"
    of_command = "correct_inspection"
    findings: tuple[InspectedUnits, ...]
    reason: FreeText


class SentBack(Event):
    """Rejected units went back to the customer."""

    stored_as = "return.SentBack/1"
    title = "Units sent back to the customer"
    of_command = "record_send_back"
    lines: tuple[Units, ...]
    tracking_number: Personal | None = None


class DisposedUnits(Part):
    """Units of a line, and what becomes of them."""

    line_id: Harmless
    quantity: Count
    disposition: Disposition


class DispositionRecorded(Event):
    """What becomes of units that came back, as the warehouse tells it: for the stock system."""

    stored_as = "return.DispositionRecorded/1"
    title = "Units put where they belong"
    moves = False
    of_command = "record_disposition"
    lines: tuple[DisposedUnits, ...]


class ParcelLost(Event):
    """The parcel was reported lost on its way back."""

    stored_as = "return.ParcelLost/1"
    title = "Parcel reported lost"
    of_command = "report_return_lost"


class ReturnReduced(Event):
    """The customer keeps some of the units; the rest of the return keeps its time."""

    stored_as = "return.ReturnReduced/1"
    title = "Return reduced"
    of_command = "reduce_return"
    lines: tuple[Units, ...]


class ReturnWithdrawn(Event):
    """The customer keeps the goods."""

    stored_as = "return.ReturnWithdrawn/1"
    title = "Return withdrawn"
    of_command = "withdraw_return"


# ---- refund (recorded in the stream of what it pays for) ----------------------------------------------------------


class RefundItem(Part):
    """What is refunded for some units of a line."""

    line_id: Harmless
    quantity: Count
    merchandise: Minor
    tax: Minor
    deducted: Minor = 0


class Deduction(Part):
    """What a clause deducts from a refund, and the grounds."""

    clause: Harmless
    amount: Minor
    grounds: Annotated[dict[str, JsonValue], Grounds] = Field(alias="facts")
    """The values it rests on; stored under ``facts``."""


class Tender(Part):
    """What goes back to one of the order's payments, by another payout where one was named."""

    payment_id: Personal
    amount: Minor
    payout_id: Personal | None = None


class Credit(Part):
    """What is owed less, because that refund paid it already."""

    refund_id: Harmless
    amount: Minor


class RefundRequested(Decision):
    """The refund was issued: so much, to these payments."""

    stored_as = "refund.RefundRequested/1"
    title = "Refund issued"
    of_command = "request_refund"
    continues = True
    refund_id: Harmless
    currency: Harmless
    items: tuple[RefundItem, ...]
    shipping: Minor = 0
    deductions: tuple[Deduction, ...] = ()
    settled_before: Minor = 0
    """What went back, or is on its way, by earlier attempts."""
    credits: tuple[Credit, ...] = ()
    voided: Minor = 0
    """What was authorised and never captured: it is voided, not refunded."""
    tenders: tuple[Tender, ...]
    expected_from: date
    expected_to: date
    overdue_at: AwareDatetime

    @property
    def due(self) -> int:
        """What all attempts should pay together, in minor units."""
        goods = sum(item.merchandise + item.tax for item in self.items) + self.shipping
        less = sum(deduction.amount for deduction in self.deductions) + sum(credit.amount for credit in self.credits)
        return goods - less - self.voided


class RefundDeclined(Decision):
    """Nothing is refunded."""

    stored_as = "refund.RefundDeclined/1"
    title = "Refund declined"
    moves = False
    of_command = "request_refund"
    declines = True


class RefundSettled(Event):
    """The payment provider paid a tender back, or a part of it."""

    stored_as = "refund.RefundSettled/1"
    title = "Tender paid back"
    of_command = "record_refund_result"
    refund_id: Harmless
    payment_id: Personal
    amount: Minor
    currency: Harmless
    """In another currency than the order's it settles nothing, and takes nothing back."""
    reference: Personal | None = None


class RefundFailed(Event):
    """The payment provider could not pay back a tender, or the rest of it."""

    stored_as = "refund.RefundFailed/1"
    title = "Tender could not be paid back"
    of_command = "record_refund_result"
    refund_id: Harmless
    payment_id: Personal
    amount: Minor
    currency: Harmless
    reference: Personal | None = None
    reason: FreeText | None = None


class RefundReversed(Event):
    """Money that had gone back to a payment came back to the shop."""

    stored_as = "refund.RefundReversed/1"
    title = "Tender came back"
    of_command = "record_refund_result"
    refund_id: Harmless
    payment_id: Personal
    amount: Minor
    currency: Harmless
    reference: Personal | None = None
    reason: FreeText | None = None


RefundAnswer = RefundSettled | RefundFailed | RefundReversed
"""An event that holds an answer of the payment provider."""


class PaidElsewhere(Part):
    """What went back to a payment without the desk's asking; ``payout_id``: by way of what stands for it."""

    payment_id: Personal
    amount: Minor
    reference: Personal | None = None
    payout_id: Personal | None = None


class RefundRecorded(Event):
    """Money went back that the desk did not ask for: a fact, without a ruling."""

    stored_as = "refund.RefundRecorded/1"
    title = "Refund made elsewhere"
    of_command = "record_refund"
    refund_id: Harmless
    kind: RefundKind
    currency: Harmless
    tenders: tuple[PaidElsewhere, ...]
    lines: tuple[Units, ...] = ()
    reason: FreeText | None = None


class Refunded(Event):
    """Every tender of the refund is settled."""

    stored_as = "refund.Refunded/1"
    title = "Refund complete"
    follows = (RefundRequested, RefundSettled)
    refund_id: Harmless


class RefundOverdue(Event):
    """The refund was not settled by the end of its last expected business day."""

    stored_as = "refund.RefundOverdue/1"
    title = "Refund overdue"
    moves = False
    refund_id: Harmless


# ---- claim (wrong item received) ------------------------------------------------------------------------------------


class ClaimOpened(Event):
    """The customer reported that the wrong item came; ``contact_by`` is the inclusive end of the promise to call."""

    stored_as = "claim.ClaimOpened/1"
    title = "Wrong item reported"
    of_command = "report_wrong_item"
    claim_id: Harmless
    order_id: Harmless
    line_id: Harmless
    quantity: Count
    parcels: tuple[Allotment, ...]
    channel: Harmless
    evidence: tuple[Evidence, ...] = ()
    contact_by: AwareDatetime
    pins: Pins
    ruling: tuple[ClauseResult, ...]


class ClaimDenied(Event):
    """The claim was denied, by the policy (with the ruling) or by care (with the reason)."""

    stored_as = "claim.ClaimDenied/1"
    title = "Claim denied"
    of_command = "deny_claim"
    follows = (ClaimOpened,)
    declines = True
    reason: FreeText | None = None
    pins: Pins | None = None
    ruling: tuple[ClauseResult, ...] | None = None


class EvidenceAdded(Event):
    """More evidence came; the first notice keeps its time."""

    stored_as = "claim.EvidenceAdded/1"
    title = "Evidence added"
    of_command = "add_claim_evidence"
    evidence: tuple[Evidence, ...]


class ClaimContacted(Event):
    """Customer care contacted the customer."""

    stored_as = "claim.ClaimContacted/1"
    title = "Customer contacted"
    of_command = "record_claim_contact"


class ContactMissed(Event):
    """The promised time passed without contact."""

    stored_as = "claim.ContactMissed/1"
    title = "Promised contact missed"


class ClaimResolved(Decision):
    """The claim was upheld and settled."""

    stored_as = "claim.ClaimResolved/1"
    title = "Claim settled"
    of_command = "resolve_claim"
    remedy: Remedy
    quantity: Count | None = None
    """How many units were to be settled; absent: all that were reported."""
    parcels: tuple[Allotment, ...]
    """Where the settled units came from."""


class ResolutionDeclined(Decision):
    """The claim cannot be settled yet."""

    stored_as = "claim.ResolutionDeclined/1"
    title = "Settlement declined"
    of_command = "resolve_claim"
    declines = True
    remedy: Remedy
    quantity: Count | None = None


# ---- arrival (a parcel that nobody announced) -------------------------------------------------------------------------


class ArrivalRecorded(Event):
    """A parcel is at the dock, and nobody knows yet what it is for. The policy in force gives the zone of its times."""

    stored_as = "arrival.ArrivalRecorded/1"
    title = "Unannounced parcel arrived"
    of_command = "record_arrival"
    arrival_id: Harmless
    carrier: Harmless | None = None
    tracking_number: Personal | None = None
    order_reference: FreeText | None = None
    notes: FreeText | None = None
    pins: Pins


class ArrivalAssigned(Event):
    """A person found out what the parcel is for. The events of a parcel that came are recorded there, too."""

    stored_as = "arrival.ArrivalAssigned/1"
    title = "Unannounced parcel assigned"
    of_command = "assign_arrival"
    assigned_to: Harmless
    """The return or claim that it belongs to, or the order whose outbound parcel came back: ``return/R-1``."""
    parcel_id: Personal | None = None
    box_id: Personal | None = None


class ArrivalDismissed(Event):
    """The parcel is for no return, claim or order of the shop."""

    stored_as = "arrival.ArrivalDismissed/1"
    title = "Unannounced parcel dismissed"
    of_command = "dismiss_arrival"
    reason: FreeText


# ---- notes: in the stream of their subject, outside its lifecycle ----------------------------------------------------


class CustomerNotified(Event):
    """A notice was sent to the customer."""

    stored_as = "note.CustomerNotified/1"
    title = "Customer notified"
    moves = False
    of_command = "notify_customer"
    notice: FreeText


class OverrideGranted(Event):
    """A person with authority set a clause aside for this order, return or claim."""

    stored_as = "note.OverrideGranted/1"
    title = "Clause set aside"
    moves = False
    of_command = "override"
    clause: Harmless
    reason: FreeText
    approved_by: Personal
    lines: tuple[Harmless, ...] = ()
    expires_at: AwareDatetime | None = None
    once: bool = True


class ExceptionRaised(Event):
    """An event contradicts earlier ones; a person has to look at it."""

    stored_as = "note.ExceptionRaised/1"
    title = "Conflict with what was known"
    moves = False
    follows = (
        Shipped,
        Delivered,
        DeliveryTakenBack,
        OutboundLost,
        ReturnedToSender,
        PaymentCaptured,
        UnitsCancelled,
        LabelReceived,
        ReturnShipped,
        Received,
        ParcelRejected,
        ParcelLost,
        Inspected,
        FindingsDisputed,
        SentBack,
        ClaimContacted,
        DispositionRecorded,
        RefundRequested,
        RefundRecorded,
        RefundSettled,
        RefundFailed,
        RefundReversed,
    )
    reasons: tuple[Derived, ...]


class ExceptionClosed(Event):
    """A person closed what contradicted earlier events: the exception of that event, or all that were open."""

    stored_as = "note.ExceptionClosed/1"
    title = "Conflict closed"
    moves = False
    of_command = "close_exception"
    reason: FreeText
    exception_id: Harmless | None = None


class RefusalsCounted(Decision):
    """The same request was refused again. From here on its refusals are only counted, outside the events.

    ``repeats`` is the id of the first event of the first refusal, ``request`` what was asked this time, without its times.
    """

    stored_as = "note.RefusalsCounted/1"
    title = "The same request refused again"
    moves = False
    declines = True
    command: Harmless
    repeats: Harmless
    request: dict[str, JsonValue]


# ---- the registry -----------------------------------------------------------------------------------------------------


def _event_classes() -> list[type[Event]]:
    abstract = (Event, Decision)
    return [
        entry
        for entry in globals().values()
        if isinstance(entry, type) and issubclass(entry, Event) and entry not in abstract
    ]


EVENTS: dict[str, type[Event]] = {event.stored_as: event for event in _event_classes()}
"""Stored name → class, for every version this code writes or reads."""

BY_TYPE: dict[str, type[Event]] = {event.__name__: event for event in EVENTS.values()}
"""Name in outcomes, audits and lifecycles → class."""

UPCASTERS: dict[str, Callable[[dict[str, Any]], tuple[str, dict[str, Any]]]] = {}
"""Stored name of a retired version → function that turns its content into the next version's."""


def encode(event: Event) -> tuple[str, bytes]:
    """The stored name and the stored JSON of an event, without absent optional fields."""
    return event.stored_as, type(event).__pydantic_serializer__.to_json(event, exclude_none=True)


def decode(stored_as: str, content: bytes) -> Event:
    """The event of a stored row; raises :class:`HistoryBroken` for an unknown type or damaged content."""
    known = EVENTS.get(stored_as)
    try:
        if known is not None:
            event: Event = known.__pydantic_validator__.validate_json(content)
            return event
        if stored_as in UPCASTERS:
            return _upcast(stored_as, content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = place_of(first["loc"]) or "its content"
        raise HistoryBroken(f"a stored {stored_as} cannot be read: {place}: {first['msg']}") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # from the upcaster of damaged content
        raise HistoryBroken(f"a stored {stored_as} cannot be read: {error}") from None
    raise HistoryBroken(f"events of type {short(stored_as)} are unknown to this version of returnable")


def _upcast(stored_as: str, content: bytes) -> Event:
    values = from_json(content)
    while stored_as in UPCASTERS:
        stored_as, values = UPCASTERS[stored_as](values)
    return decode(stored_as, to_json(values))

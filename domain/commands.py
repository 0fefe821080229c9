"""The commands and questions of the scenario format: one set of models for files, the Python API and the schema.

A command says what somebody wants or what happened. ``at``, the system's clock, is not part of it. The time at which
something happened (``shipped_at``, ``requested_at``, …) defaults to the clock and must not be later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import AfterValidator, Field, ValidationError, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from returnable.domain.errors import Impossible, short
from returnable.domain.fields import (
    Actor,
    Amount,
    AskedId,
    Channel,
    Currency,
    Disposition,
    Evidence,
    Flag,
    Id,
    Input,
    Instant,
    Many,
    PersonalId,
    PersonalText,
    Quantity,
    Reference,
    RefundKind,
    Remedy,
    Text,
    WorkKind,
)
from returnable.domain.ids import CaseKind, Kind, RegisteredKind, StreamId, SubjectKind
from returnable.domain.money import MoneyInvalid, to_minor
from returnable.domain.policy import CLAUSE_IDS

M = TypeVar("M", bound=Input)

OwnTime = Instant | None
"""When something happened, where that was before the command was given."""

End = Annotated[Instant, "exclusive"] | None
"""The exclusive end of something. It lies ahead of the clock, so it is not an :data:`OwnTime`."""


def _known_clause(clause: str) -> str:
    if clause not in CLAUSE_IDS:
        raise PydanticCustomError(
            "clause", "{id} is not a clause; there are {all}", {"id": repr(clause), "all": ", ".join(CLAUSE_IDS)}
        )
    return clause


_STREAM = "^(order|return|claim|arrival)/.+$"


def _stream(stream: str) -> str:
    named = StreamId.meant_by(stream)
    if named is None or named.kind == "refund":
        raise PydanticCustomError(
            "stream",
            "must be order/ID, return/ID, claim/ID or arrival/ID (the events of a refund are in the stream of what it "
            "pays for)",
        )
    return stream


def _unique(name: str) -> AfterValidator:
    """Refuses a list in which two elements have the same id."""

    def check(parts: tuple[Input, ...]) -> tuple[Input, ...]:
        ids = [getattr(part, name) for part in parts]
        if len(set(ids)) != len(ids):
            twice = next(one for index, one in enumerate(ids) if one in ids[:index])
            field = f"[{len(ids) - 1 - ids[::-1].index(twice)}].{name}"
            raise PydanticCustomError("duplicate", "{id} appears more than once", {"field": field, "id": repr(twice)})
        return parts

    return AfterValidator(check)


class _About(Input):
    about: ClassVar[Kind | None] = None
    """The kind of its target. The field ``order_id``, ``return_id``, … says which one."""

    @property
    def target(self) -> StreamId | None:
        """The order, return, claim or refund that it is about; ``None`` where there is none yet."""
        return None if self.about is None else StreamId(self.about, getattr(self, f"{self.about}_id"))


class Command(_About):
    """The base of all commands."""

    command: Any
    """The command's name; each model narrows it to its own."""
    command_id: PersonalId | None = None
    """Idempotency key: the same id with the same body returns the stored outcome and appends nothing."""
    actor: Actor | None = None
    """Who acts; recorded with every event."""

    creates: ClassVar[RegisteredKind | Literal["label"] | None] = None
    """What it gives a new id to, in the field ``return_id``, ``claim_id``, …. An order is confirmed, not created."""
    own_times: ClassVar[tuple[str, ...]] = ()
    """The fields that date what happened."""
    may_precede_order: ClassVar[bool] = False
    """Whether what happened may be dated before the order was placed; it then raises an exception."""

    fact: ClassVar[bool | str] = False
    """Whether it says what happened, or the flag with which it does. Other commands ask for a decision, or make one."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        cls.own_times = tuple(name for name, field in cls.model_fields.items() if field.annotation == OwnTime)

    def check_own_times(self, at: datetime) -> None:
        """Raise ``command.invalid`` when something is dated later than ``at``."""
        for name in self.own_times:
            own: datetime | None = getattr(self, name)
            if own is not None and own > at:
                reason = (
                    f"{own.isoformat()} is later than the clock ({at.isoformat()}): an event cannot be in the future"
                )
                raise Impossible("command.invalid", reason, field=name)

    def check_after(self, placed_at: datetime) -> None:
        """Raise ``command.invalid`` when something is dated earlier than the order was placed."""
        for name in self.own_times:
            own: datetime | None = getattr(self, name)
            if own is not None and own < placed_at and not self.may_precede_order:
                reason = f"{own.isoformat()} is before the order was placed ({placed_at.isoformat()})"
                raise Impossible("command.invalid", reason, field=name)

    @property
    def digest(self) -> str:
        """Identifies the body: everything but ``command_id`` (``at`` and ``expect`` are not part of a command)."""
        body = self.__pydantic_serializer__.to_json(self, exclude={"command_id"})
        return hashlib.sha256(body).hexdigest()[:32]


# ---- order ------------------------------------------------------------------------------------------------------------


class Customer(Input):
    """The buyer. ``name`` and ``email`` are personal data."""

    customer_id: PersonalId
    account_id: PersonalId | None
    """The customer's account with the shop; ``null``: none yet."""
    name: PersonalText | None = None
    email: PersonalText | None = None


class OrderLine(Input):
    """A line as bought."""

    line_id: Id
    sku: Id
    unit_price: Amount
    """The unit price paid: net of discount, before tax and shipping."""
    quantity: Quantity
    tax: Amount = "0"
    """The tax of the whole line."""
    final_sale: Flag = False
    description: Text | None = None


class ShippingCharge(Input):
    """Outbound shipping."""

    charged: Amount
    tax: Amount = "0"


class OrderPayment(Input):
    """A payment of the order. ``captured``: what was taken of the ``amount`` so far; without it, all of it."""

    payment_id: PersonalId
    method: Id
    amount: Amount
    captured: Amount | None = None


class ConfirmOrder(Command):
    """The order confirmation reached the customer. The payments add up to merchandise, tax and shipping."""

    fact = True
    command: Literal["confirm_order"] = "confirm_order"
    order_id: Id
    customer: Customer
    currency: Currency
    lines: Annotated[Many[OrderLine], _unique("line_id")] = Field(min_length=1)
    shipping: ShippingCharge = ShippingCharge(charged="0")
    payments: Annotated[Many[OrderPayment], _unique("payment_id")]
    confirmed_at: OwnTime = None
    placed_at: OwnTime = None
    """When the customer placed the order, where that was before the confirmation. Nothing about it happens earlier."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.placed_at is not None and self.confirmed_at is not None and self.confirmed_at < self.placed_at:
            raise PydanticCustomError("order", "is after confirmed_at", {"field": "placed_at"})
        for index, line in enumerate(self.lines):
            _fits(f"lines[{index}].unit_price", line.unit_price, self.currency)
            _fits(f"lines[{index}].tax", line.tax, self.currency)
        _fits("shipping.charged", self.shipping.charged, self.currency)
        _fits("shipping.tax", self.shipping.tax, self.currency)
        for index, payment in enumerate(self.payments):
            _fits(f"payments[{index}].amount", payment.amount, self.currency)
            if payment.captured is not None:
                _fits(f"payments[{index}].captured", payment.captured, self.currency)
                if Decimal(payment.captured) > Decimal(payment.amount):
                    field = f"payments[{index}].captured"
                    raise PydanticCustomError("order", "is more than the amount of the payment", {"field": field})
        return self


class RequestCancellation(Command):
    """The customer asks to cancel the order; ``requested_at`` is when the request arrived."""

    about = "order"
    command: Literal["request_cancellation"] = "request_cancellation"
    order_id: Id
    channel: Channel
    order_reference: Reference | None = None
    order_copy: Flag = False
    requested_at: OwnTime = None


class LineQuantity(Input):
    """So many units of a line."""

    line_id: Id
    quantity: Quantity


class RecordShipment(Command):
    """The carrier took a parcel; without ``lines``, all units that are not shipped or cancelled."""

    about = "order"
    may_precede_order = True
    fact = True
    command: Literal["record_shipment"] = "record_shipment"
    order_id: Id
    parcel_id: PersonalId
    carrier: Id
    tracking_number: PersonalId
    lines: Annotated[Many[LineQuantity], Field(min_length=1), _unique("line_id")] | None = None
    shipped_at: OwnTime = None


class RecordDelivery(Command):
    """The carrier delivered a parcel to the customer. One that nobody shipped begins here; its shipment completes it."""

    about = "order"
    may_precede_order = True
    fact = True
    command: Literal["record_delivery"] = "record_delivery"
    order_id: Id
    parcel_id: PersonalId
    delivered_at: OwnTime = None


class RecordCapture(Command):
    """The payment provider took money that was authorised; without ``amount``, all that was not taken yet."""

    about = "order"
    fact = True
    command: Literal["record_capture"] = "record_capture"
    order_id: Id
    payment_id: PersonalId
    amount: Amount | None = None
    captured_at: OwnTime = None


class CancelOrder(Command):
    """The shop cancels the order, or only the units in ``lines``: out of stock, fraud, a wrong address.

    ``elsewhere``: it was cancelled and settled outside the desk, for instance before the desk was introduced. Then it is
    recorded in any state, and the desk owes nothing for it.
    """

    about = "order"
    fact = "elsewhere"
    command: Literal["cancel_order"] = "cancel_order"
    order_id: Id
    reason: Text
    lines: Annotated[Many[LineQuantity], Field(min_length=1), _unique("line_id")] | None = None
    elsewhere: Flag = False
    cancelled_at: OwnTime = None


class NamePayout(Command):
    """A person with authority names another way to pay back a payment that cannot be paid back, such as a closed card."""

    about = "order"
    command: Literal["name_payout"] = "name_payout"
    order_id: Id
    payment_id: PersonalId
    """The payment that cannot be paid back."""
    payout_id: PersonalId
    """What stands for it in later refunds: results name this id."""
    method: Id
    reason: Text
    approved_by: PersonalId


class CorrectDelivery(Command):
    """A delivery that was reported was wrong: it is moved to ``delivered_at``, or taken back where that is ``null``.

    The windows of its units follow. Decisions made in between keep their rulings, and are listed for a person.
    """

    about = "order"
    fact = True
    command: Literal["correct_delivery"] = "correct_delivery"
    order_id: Id
    parcel_id: PersonalId
    delivered_at: OwnTime = None
    reason: Text


class ReportParcelLost(Command):
    """A parcel was lost on its way to the customer. Its units have to be shipped again, or cancelled."""

    about = "order"
    fact = True
    command: Literal["report_parcel_lost"] = "report_parcel_lost"
    order_id: Id
    parcel_id: PersonalId
    reported_at: OwnTime = None


class RecordParcelReturned(Command):
    """The carrier brought a parcel back to the sender. Its units have to be shipped again, or cancelled."""

    about = "order"
    fact = True
    command: Literal["record_parcel_returned"] = "record_parcel_returned"
    order_id: Id
    parcel_id: PersonalId
    returned_at: OwnTime = None


class LinkAccount(Command):
    """The customer has an account now."""

    about = "order"
    fact = True
    command: Literal["link_account"] = "link_account"
    order_id: Id
    account_id: PersonalId
    linked_at: OwnTime = None


# ---- return -----------------------------------------------------------------------------------------------------------


class ReturnedLine(Input):
    """Units of a line to be returned."""

    line_id: Id
    quantity: Quantity
    reason: Text | None = None
    parcel_id: PersonalId | None = None
    """The parcel they came in; without it, the units whose window closes first are taken."""


class RequestReturn(Command):
    """The customer asks to return units; decided as a whole."""

    about = "order"
    creates = "return"
    command: Literal["request_return"] = "request_return"
    return_id: Id
    order_id: Id
    lines: Annotated[Many[ReturnedLine], _unique("line_id")] = Field(min_length=1)
    channel: Channel
    resolution: Literal["refund", "exchange"] = "refund"
    requested_at: OwnTime = None


class _OnTheWayBack(Command):
    """What happens to a return, or to the wrong item of a claim, on its way back: exactly one of the two is named."""

    return_id: Id | None = None
    claim_id: Id | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        _exactly_one(self, ("return_id", "claim_id"))
        return self

    @property
    def target(self) -> StreamId:
        """What comes back."""
        return _the_one_given(self, ("return", "claim"))


class IssueLabel(_OnTheWayBack):
    """A prepaid label was issued; ``received_at`` is when the customer received it, where that is known already."""

    creates = "label"
    command: Literal["issue_label"] = "issue_label"
    label_id: PersonalId
    carrier: Id
    tracking_number: PersonalId
    issued_at: OwnTime = None
    received_at: OwnTime = None
    box_id: PersonalId | None = None
    """The box it is for, where the return travels in several."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.issued_at is not None and self.received_at is not None and self.received_at < self.issued_at:
            raise PydanticCustomError("order", "is before issued_at", {"field": "received_at"})
        return self


class RecordLabelReceived(_OnTheWayBack):
    """The customer received the label: its clock runs from there."""

    fact = True
    command: Literal["record_label_received"] = "record_label_received"
    label_id: PersonalId
    received_at: OwnTime = None


class VoidLabel(_OnTheWayBack):
    """A live label is voided by hand."""

    command: Literal["void_label"] = "void_label"
    label_id: PersonalId
    reason: Text
    voided_at: OwnTime = None


class RecordReturnShipment(_OnTheWayBack):
    """The customer handed the parcel over; without ``label_id`` on a label of the customer's own."""

    fact = True
    command: Literal["record_return_shipment"] = "record_return_shipment"
    tracking_number: PersonalId | None = None
    label_id: PersonalId | None = None
    shipped_at: OwnTime = None
    proof: Literal["carrier_scan", "counter_receipt"] | None = None
    box_id: PersonalId | None = None
    """The box that was handed over; without it, that of the label, or the only one."""


class ReceiveReturn(_OnTheWayBack):
    """The parcel is at the dock: taken in, or refused when it was handed over late.

    A parcel that was refused may be received again: the proofs that came since decide anew.
    """

    fact = True
    command: Literal["receive_return"] = "receive_return"
    received_at: OwnTime = None
    box_id: PersonalId | None = None
    """The box that arrived; without it, one that is on its way, or the only one."""


class InspectionFinding(Input):
    """The findings on some units of a line; a line may appear more than once when its units differ."""

    line_id: Id
    quantity: Quantity
    same_condition: Flag
    original_packaging: Flag
    tags_attached: Flag
    notes: Text | None = None


class InspectReturn(Command):
    """Units were inspected; rejected units are a finding, not an error."""

    about = "return"
    fact = True
    command: Literal["inspect_return"] = "inspect_return"
    return_id: Id
    findings: Many[InspectionFinding] = Field(min_length=1)
    inspected_at: OwnTime = None


class CorrectInspection(Command):
    """A person replaces all findings of a return, before its refund is paid."""

    about = "return"
    command: Literal["correct_inspection"] = "correct_inspection"
    return_id: Id
    findings: Many[InspectionFinding] = Field(min_length=1)
    """All findings of the return as they should have been."""
    reason: Text


class RequestRefund(Command):
    """Pay back what is owed for a return, a cancelled order or a claim settled by refund: exactly one of the three."""

    creates = "refund"
    command: Literal["request_refund"] = "request_refund"
    refund_id: Id
    return_id: Id | None = None
    order_id: Id | None = None
    claim_id: Id | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _exactly_one(self, ("return_id", "order_id", "claim_id"))
        return self

    @property
    def target(self) -> StreamId:
        """What is paid back for."""
        return _the_one_given(self, ("return", "order", "claim"))


class RecordRefundResult(Command):
    """The payment provider answered for one tender of a refund: paid, or not paid, or paid and sent back by the bank.

    ``amount`` is what this answer is about; without it, all that is open of the tender. ``settled_at`` is when the provider
    settled it.
    """

    about = "refund"
    fact = True
    command: Literal["record_refund_result"] = "record_refund_result"
    refund_id: Id
    payment_id: PersonalId
    result: Literal["succeeded", "failed"]
    amount: Amount | None = None
    currency: Currency | None = None
    """The currency of the amount; without it, that of the order."""
    settled_at: OwnTime = None
    reference: PersonalId | None = None
    reason: Text | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.currency is not None:
            if self.amount is None:
                raise PydanticCustomError("order", "is given without an amount", {"field": "currency"})
            _fits("amount", self.amount, self.currency)
        return self


class PaidTender(Input):
    """What went back to a payment."""

    payment_id: PersonalId
    amount: Amount
    reference: PersonalId | None = None


class RecordRefund(Command):
    """Money went back that the desk did not ask for. What is owed later is less by it.

    ``kind``: ``goodwill``, a gift; ``dispute``, taken by the customer's bank; ``elsewhere``, paid in the provider's own pages
    or another system; ``past``, paid before the desk was introduced. ``lines`` are the units it was paid for, where that is
    known. A dispute that was won is told as a result ``failed`` of this refund.
    """

    about = "order"
    creates = "refund"
    fact = True
    command: Literal["record_refund"] = "record_refund"
    refund_id: Id
    order_id: Id
    kind: RefundKind
    tenders: Annotated[Many[PaidTender], Field(min_length=1), _unique("payment_id")]
    lines: Annotated[Many[LineQuantity], Field(min_length=1), _unique("line_id")] | None = None
    reason: Text | None = None
    refunded_at: OwnTime = None


class RecordSendBack(Command):
    """Rejected units went back to the customer."""

    about = "return"
    fact = True
    command: Literal["record_send_back"] = "record_send_back"
    return_id: Id
    lines: Annotated[Many[LineQuantity], _unique("line_id")] = Field(min_length=1)
    tracking_number: PersonalId | None = None
    sent_at: OwnTime = None


class DisposedLine(Input):
    """Units of a line, and what becomes of them; a line may appear more than once."""

    line_id: Id
    quantity: Quantity
    disposition: Disposition


class RecordDisposition(_OnTheWayBack):
    """The warehouse tells what becomes of units that came back: stock, repair, the bin, or the way to the vendor."""

    fact = True
    command: Literal["record_disposition"] = "record_disposition"
    lines: Many[DisposedLine] = Field(min_length=1)
    disposed_at: OwnTime = None


class ReportReturnLost(Command):
    """The parcel was reported lost on its way back."""

    about = "return"
    fact = True
    command: Literal["report_return_lost"] = "report_return_lost"
    return_id: Id
    reported_at: OwnTime = None


class ReduceReturn(Command):
    """The customer keeps some of the units after all; the rest of the return keeps its time."""

    about = "return"
    command: Literal["reduce_return"] = "reduce_return"
    return_id: Id
    lines: Annotated[Many[LineQuantity], _unique("line_id")] = Field(min_length=1)
    """The units that the customer keeps."""
    reduced_at: OwnTime = None


class WithdrawReturn(Command):
    """The customer keeps the goods after all, or the shop closes a return that was never sent."""

    about = "return"
    command: Literal["withdraw_return"] = "withdraw_return"
    return_id: Id
    withdrawn_at: OwnTime = None


# ---- claim ------------------------------------------------------------------------------------------------------------


class ReportWrongItem(Command):
    """The customer reports that the wrong item came; ``reported_at`` is when the first notice arrived."""

    about = "order"
    creates = "claim"
    command: Literal["report_wrong_item"] = "report_wrong_item"
    claim_id: Id
    order_id: Id
    line_id: Id
    quantity: Quantity = 1
    channel: Channel
    attachments: Many[Evidence] = ()
    reported_at: OwnTime = None


class AddClaimEvidence(Command):
    """Evidence was supplied later."""

    about = "claim"
    fact = True
    command: Literal["add_claim_evidence"] = "add_claim_evidence"
    claim_id: Id
    attachments: Many[Evidence] = Field(min_length=1)
    added_at: OwnTime = None


class RecordClaimContact(Command):
    """Customer care contacted the customer."""

    about = "claim"
    fact = True
    command: Literal["record_claim_contact"] = "record_claim_contact"
    claim_id: Id
    contacted_at: OwnTime = None


class ResolveClaim(Command):
    """Settle an upheld claim; without ``quantity``, for all units that were reported."""

    about = "claim"
    command: Literal["resolve_claim"] = "resolve_claim"
    claim_id: Id
    remedy: Remedy
    quantity: Quantity | None = None


class DenyClaim(Command):
    """Deny a claim by hand."""

    about = "claim"
    command: Literal["deny_claim"] = "deny_claim"
    claim_id: Id
    reason: Text


# ---- arrival ------------------------------------------------------------------------------------------------------------


class RecordArrival(Command):
    """A parcel is at the dock that nobody announced. It is parked until somebody assigns it.

    ``order_reference`` is what a slip in the parcel says; it may name no order.
    """

    about = "arrival"
    fact = True
    command: Literal["record_arrival"] = "record_arrival"
    arrival_id: Id
    carrier: Id | None = None
    tracking_number: PersonalId | None = None
    order_reference: Reference | None = None
    notes: Text | None = None
    """What it looks like, and what is in it."""
    arrived_at: OwnTime = None


class AssignArrival(Command):
    """A person found out what a parked parcel is for: exactly one of a return, a claim and an order.

    Of an order it is the outbound parcel ``parcel_id``, which came back to the sender. What it is assigned to records the
    arrival, at the time at which the parcel came.
    """

    about = "arrival"
    command: Literal["assign_arrival"] = "assign_arrival"
    arrival_id: Id
    return_id: Id | None = None
    claim_id: Id | None = None
    order_id: Id | None = None
    parcel_id: PersonalId | None = None
    """The outbound parcel of the order."""
    box_id: PersonalId | None = None
    """The box of the return."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _exactly_one(self, ("return_id", "claim_id", "order_id"))
        if (self.order_id is None) != (self.parcel_id is None):
            field, why = ("order_id", "parcel_id") if self.order_id is None else ("parcel_id", "order_id")
            raise PydanticCustomError("order", "is needed beside {why}", {"field": field, "why": why})
        if self.order_id is not None and self.box_id is not None:
            raise PydanticCustomError("order", "is for a return or a claim", {"field": "box_id"})
        return self

    @property
    def assigned_to(self) -> StreamId:
        """What it belongs to."""
        return _the_one_given(self, ("return", "claim", "order"))


class DismissArrival(Command):
    """A parked parcel is for no return, claim or order of the shop, or was sent away."""

    about = "arrival"
    command: Literal["dismiss_arrival"] = "dismiss_arrival"
    arrival_id: Id
    reason: Text


# ---- notes and the clock ------------------------------------------------------------------------------------------------


class Subject(Input):
    """What a note is about."""

    kind: CaseKind
    id: Id


class OverrideSubject(Input):
    """What an override is granted for."""

    kind: SubjectKind
    id: Id


class NotifyCustomer(Command):
    """A notice was sent to the customer."""

    fact = True
    command: Literal["notify_customer"] = "notify_customer"
    subject: Subject
    notice: Text
    notified_at: OwnTime = None

    @property
    def target(self) -> StreamId:
        """The subject."""
        return StreamId(self.subject.kind, self.subject.id)


class CloseException(Command):
    """A person closes what contradicts earlier events, with a reason; it leaves the worklist."""

    command: Literal["close_exception"] = "close_exception"
    subject: Subject
    reason: Text
    exception_id: Id | None = None
    """The id of one event ``ExceptionRaised``, such as ``return/R-1#7``; without it, all that are open."""

    @property
    def target(self) -> StreamId:
        """The subject."""
        return StreamId(self.subject.kind, self.subject.id)


class Override(Command):
    """A person with authority sets a named clause aside for one order, return or claim; once, unless it says otherwise."""

    command: Literal["override"] = "override"
    subject: OverrideSubject
    clause: Annotated[Id, AfterValidator(_known_clause), WithJsonSchema({"type": "string", "enum": list(CLAUSE_IDS)})]
    """The id of a clause of the policy."""
    reason: Text
    approved_by: PersonalId
    lines: Annotated[Many[Id], Field(min_length=1)] | None = None
    """The lines it is for; without them, all of the subject."""
    expires_at: End = None
    """The exclusive end of its life; without it, it does not expire."""
    once: Flag = True
    """Whether the first accepted decision that cites it uses it up."""

    @property
    def target(self) -> StreamId:
        """The subject."""
        return StreamId(self.subject.kind, self.subject.id)


class RunDeadlines(Command):
    """Record what fell due at or before the clock, each once."""

    command: Literal["run_deadlines"] = "run_deadlines"


AnyCommand = Annotated[
    ConfirmOrder
    | RequestCancellation
    | RecordShipment
    | RecordDelivery
    | RecordCapture
    | CancelOrder
    | NamePayout
    | CorrectDelivery
    | ReportParcelLost
    | RecordParcelReturned
    | LinkAccount
    | RequestReturn
    | IssueLabel
    | RecordLabelReceived
    | VoidLabel
    | RecordReturnShipment
    | ReceiveReturn
    | InspectReturn
    | CorrectInspection
    | RequestRefund
    | RecordRefundResult
    | RecordRefund
    | RecordSendBack
    | RecordDisposition
    | ReportReturnLost
    | ReduceReturn
    | WithdrawReturn
    | ReportWrongItem
    | AddClaimEvidence
    | RecordClaimContact
    | ResolveClaim
    | DenyClaim
    | RecordArrival
    | AssignArrival
    | DismissArrival
    | NotifyCustomer
    | CloseException
    | Override
    | RunDeadlines,
    Field(discriminator="command"),
]


# ---- questions ----------------------------------------------------------------------------------------------------------


class Question(_About):
    """The base of all questions. They record nothing."""

    query: Any
    """The question's name; each model narrows it to its own."""
    as_of: Instant | None = None
    """What was true in the world at that instant."""
    known_at: Instant | None = None
    """Only what had been recorded by that instant."""


class AskOrder(Question):
    """The state of an order."""

    about = "order"
    query: Literal["order"] = "order"
    order_id: AskedId


class AskReturn(Question):
    """The state of a return."""

    about = "return"
    query: Literal["return"] = "return"
    return_id: AskedId


class AskRefund(Question):
    """The state of a refund, or what is due for a return, a cancelled order or a claim before it is requested.

    What is due is shown again where money is owed although the last refund was paid.
    """

    query: Literal["refund"] = "refund"
    refund_id: AskedId | None = None
    return_id: AskedId | None = None
    order_id: AskedId | None = None
    claim_id: AskedId | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _exactly_one(self, ("refund_id", "return_id", "order_id", "claim_id"))
        return self

    @property
    def target(self) -> StreamId:
        """The refund, or what it would be for."""
        return _the_one_given(self, ("refund", "return", "order", "claim"))


class AskClaim(Question):
    """The state of a wrong-item claim."""

    about = "claim"
    query: Literal["claim"] = "claim"
    claim_id: AskedId


class AskArrival(Question):
    """The state of a parcel that nobody announced, and what it may be for."""

    about = "arrival"
    query: Literal["arrival"] = "arrival"
    arrival_id: AskedId


class AskEligibility(Question):
    """What could be cancelled, returned or claimed now, with the rulings the commands would give."""

    about = "order"
    query: Literal["eligibility"] = "eligibility"
    order_id: AskedId


class AskWorklist(Question):
    """What somebody has to do."""

    query: Literal["worklist"] = "worklist"
    kinds: Many[WorkKind] | None = None


class AskAudit(Question):
    """What was recorded in a stream (``order/ID``, ``return/ID``, ``claim/ID`` or ``arrival/ID``), event by event."""

    query: Literal["audit"] = "audit"
    stream: Annotated[
        str,
        Field(strict=True, max_length=140),
        AfterValidator(_stream),
        WithJsonSchema({"type": "string", "pattern": _STREAM}),
    ]

    @property
    def target(self) -> StreamId:
        """The stream."""
        return StreamId.parse(self.stream)


AnyQuestion = Annotated[
    AskOrder | AskReturn | AskRefund | AskClaim | AskArrival | AskEligibility | AskWorklist | AskAudit,
    Field(discriminator="query"),
]


def _models(union: Any, tag: str) -> dict[str, type[Any]]:
    members = get_args(get_args(union)[0])
    return {get_args(member.model_fields[tag].annotation)[0]: member for member in members}


COMMANDS: dict[str, type[Command]] = _models(AnyCommand, "command")
"""Command name → model."""

QUESTIONS: dict[str, type[Question]] = _models(AnyQuestion, "query")
"""Question name → model."""


def parse_command(fields: Mapping[str, Any]) -> Command:
    """The command of a mapping with a ``command`` key; raises ``command.invalid`` naming the field."""
    return _parse(COMMANDS, "command", fields)


def parse_question(fields: Mapping[str, Any]) -> Question:
    """The question of a mapping with a ``query`` key; raises ``command.invalid`` naming the field."""
    return _parse(QUESTIONS, "query", fields)


def _parse(models: Mapping[str, type[M]], tag: str, fields: Mapping[str, Any]) -> M:
    name = fields.get(tag)
    model = models.get(name) if isinstance(name, str) else None
    if model is None:
        shown = short(name) if isinstance(name, str) else type(name).__name__ if tag in fields else "nothing"
        raise Impossible("command.invalid", f"{shown} is not one of {', '.join(models)}", field=tag)
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise invalid(error) from None


_IN_WORDS = {
    "string_unicode": "must not contain lone surrogates",
    "string_too_short": "must have at least {min_length} character",
    "string_too_long": "must have at most {max_length:,} characters",
    "too_short": "must have at least {min_length} element",
    "too_long": "must have at most {max_length:,} elements",
    "greater_than_equal": "must be at least {ge:,}",
    "less_than_equal": "must be at most {le:,}",
    "missing": "is missing",
    "extra_forbidden": "is not a known field",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "literal_error": "must be {expected}",
}
"""Kind of an error → what is wrong, in our words."""


def invalid(error: ValidationError) -> Impossible:
    """The one clear error of a failed validation: the first field that is wrong, and why."""
    first = error.errors(include_url=False, include_input=False)[0]
    context = first.get("ctx") or {}
    within = str(context.get("field", ""))
    field = _path(first["loc"]) + within if first["loc"] or not within else within
    words = _IN_WORDS.get(first["type"])
    message = words.format(**context) if words else first["msg"][0].lower() + first["msg"][1:]
    return Impossible("command.invalid", message, field=field)


def _path(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part[:60]}" if text else part[:60]
    return text if text.strip() and text.isprintable() else ascii(text)


def minor_units(field: str, amount: str, currency: str) -> int:
    """An amount of a command in minor units; raises ``command.invalid`` where it is none of that currency."""
    try:
        return to_minor(amount, currency)
    except MoneyInvalid as error:
        raise Impossible("command.invalid", str(error), field=field) from None


def _fits(where: str, amount: str, currency: str) -> None:
    try:
        to_minor(amount, currency)
    except MoneyInvalid as error:
        raise PydanticCustomError("money", "{why}", {"field": where, "why": str(error)}) from None


def _exactly_one(model: Input, names: tuple[str, ...]) -> None:
    given = [name for name in names if getattr(model, name) is not None]
    if len(given) != 1:
        what = " and ".join(given) + " are given" if given else "none is given"
        raise PydanticCustomError(
            "one_of",
            "exactly one of {names} is needed; {what}",
            {"names": ", ".join(names), "what": what, "field": names[0]},
        )


def _the_one_given(model: Input, kinds: tuple[Kind, ...]) -> StreamId:
    for kind in kinds:
        name = getattr(model, f"{kind}_id")
        if name is not None:
            return StreamId(kind, name)
    raise AssertionError("none is given")

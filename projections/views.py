"""The public models of the answers: one for each view, the same in files, in Python and in the JSON Schema.

Instants are RFC 3339 with the offset of the policy's zone; money is a decimal string of the order's currency. Keys that end
in ``_by`` are inclusive instants. Keys that end in ``_before``, and ``void_at``, are exclusive instants.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from returnable.domain.events import Event
from returnable.domain.fields import Model, RefundKind, Role, WorkKind
from returnable.domain.outcome import ClauseView, ErrorView


class PolicyVersion(Model):
    """The policy pinned to an order."""

    id: str
    version: str


class OrderLineView(Model):
    """A line: how many units were bought and delivered, are in open returns, and were returned and refunded.

    ``cancelled``: how many of them the shop cancelled; a request of the customer cancels the order, not units.
    """

    line_id: str
    sku: str
    unit_price: str
    quantity: int
    cancelled: int
    final_sale: bool
    delivered: int
    returning: int
    returned: int
    return_before: str | None


class ParcelView(Model):
    """An outbound parcel. Its carrier and its hand-over are ``null`` as long as only its delivery is known."""

    parcel_id: str
    status: Literal["in_transit", "delivered", "lost", "returned_to_sender"]
    carrier: str | None
    tracking_number: str | None
    shipped_at: str | None
    delivered_at: str | None


class OrderView(Model):
    """The state of an order."""

    order_id: str
    status: Literal["confirmed", "cancelled", "shipped", "delivered"]
    policy: PolicyVersion
    currency: str
    confirmed_at: str
    cancel_by: str
    lines: tuple[OrderLineView, ...]
    parcels: tuple[ParcelView, ...]
    returns: tuple[str, ...]
    claims: tuple[str, ...]


class ReturnLineView(Model):
    """Units of a line in a return."""

    line_id: str
    quantity: int
    accepted: int
    rejected: int


class DisposedView(Model):
    """What becomes of units that came back."""

    line_id: str
    disposition: Literal["restock", "refurbish", "scrap", "vendor"]
    quantity: int


class LabelView(Model):
    """A prepaid label."""

    label_id: str
    status: Literal["issued", "used", "void"]
    tracking_number: str
    received_at: str | None
    void_at: str


class ReturnView(Model):
    """The state of a return. ``requested`` appears only as of an instant between the request and its decision."""

    return_id: str
    order_id: str
    status: Literal[
        "requested",
        "declined",
        "authorized",
        "labelled",
        "in_transit",
        "received",
        "inspected",
        "refunded",
        "refund_failed",
        "rejected",
        "sent_back",
        "lost",
        "withdrawn",
    ]
    requested_at: str
    lines: tuple[ReturnLineView, ...]
    labels: tuple[LabelView, ...]
    shipped_at: str | None
    late: bool
    received_at: str | None
    inspected_at: str | None
    refund_id: str | None
    disposed: tuple[DisposedView, ...]


class SubjectView(Model):
    """An order, a return, a claim, a refund or an arrival."""

    kind: Literal["order", "return", "claim", "refund", "arrival"]
    id: str


class DeductionView(Model):
    """An amount that a clause deducts from a refund."""

    clause: str
    amount: str
    because: str


class RefundItemView(Model):
    """The refund for units of a line."""

    line_id: str
    quantity: int
    merchandise: str
    tax: str
    deducted: str


class TenderView(Model):
    """The part of a refund that goes back to one payment."""

    payment_id: str
    amount: str
    status: Literal["due", "requested", "settled", "failed"]
    reference: str | None
    settled: str = "0.00"
    """What of it went back."""
    payout_id: str | None = None
    """What stands for the payment, where a person named it."""


class CreditView(Model):
    """What is owed less, because another refund paid it already."""

    refund_id: str
    amount: str


class RefundView(Model):
    """The state of a refund; ``due``: nobody requested it yet, and this would be paid now.

    ``total`` = merchandise + tax + shipping - deductions - ``settled_before`` (paid or pending by earlier attempts) - credits
    - ``voided`` (authorised and never captured), and never less than zero. A refund with a ``kind`` was paid without the
    desk's asking: only its total and its tenders are known.
    """

    refund_id: str | None
    status: Literal["due", "requested", "refunded", "failed"]
    for_: SubjectView = Field(alias="for")
    kind: RefundKind | None = None
    currency: str
    merchandise: str
    tax: str
    shipping: str
    deductions: tuple[DeductionView, ...]
    settled_before: str
    credits: tuple[CreditView, ...] = ()
    voided: str = "0.00"
    total: str
    items: tuple[RefundItemView, ...]
    tenders: tuple[TenderView, ...]
    issued_at: str | None
    expected_between: tuple[str, str] | None
    overdue_at: str | None = None
    """From this instant on the refund is overdue, unless it was settled before."""
    overdue: bool


class EvidenceView(Model):
    """The evidence that a claim has."""

    order_confirmation: bool
    item_picture: bool


class ClaimView(Model):
    """The state of a wrong-item claim.

    ``settled``: how many units got the remedy. ``labels``, ``shipped_at`` and ``received_at`` are about the wrong item on its
    way back.
    """

    claim_id: str
    order_id: str
    line_id: str
    quantity: int
    status: Literal["open", "resolved", "denied"]
    reported_at: str
    contact_by: str
    contacted_at: str | None
    overdue: bool
    evidence: EvidenceView
    remedy: Literal["refund", "replacement", "both"] | None
    settled: int
    refund_id: str | None
    labels: tuple[LabelView, ...]
    shipped_at: str | None
    received_at: str | None


class CandidateView(Model):
    """What a parcel may be for, and how it was found. Of an order it is the outbound parcel ``parcel_id``."""

    kind: Literal["return", "claim", "order"]
    id: str
    order_id: str
    parcel_id: str | None
    found_by: tuple[Literal["tracking_number", "order_reference"], ...]


class ArrivalView(Model):
    """The state of a parcel that nobody announced.

    ``candidates``: what it may be for, as long as it is not assigned, the best first. A tracking number finds the returns,
    claims and outbound parcels that know it; an order reference finds the returns and claims of the order that wait for a
    parcel.
    """

    arrival_id: str
    status: Literal["parked", "assigned", "dismissed"]
    arrived_at: str
    carrier: str | None
    tracking_number: str | None
    order_reference: str | None
    notes: str | None
    assigned_to: SubjectView | None
    parcel_id: str | None
    box_id: str | None
    dismissed_because: str | None
    candidates: tuple[CandidateView, ...]


class EligibilityRuling(Model):
    """The ruling that the command would get now; ``error``: the command would be impossible."""

    allowed: bool
    clauses: tuple[ClauseView, ...]
    error: ErrorView | None = None


class ReturnEligibility(EligibilityRuling):
    """Whether one unit of the line can be returned now, requested in the way the policy wants."""

    return_before: str | None


class WrongItemEligibility(EligibilityRuling):
    """Whether a wrong item can be reported now for one unit of the line, in the way the policy wants."""

    report_before: str | None


class LineEligibility(Model):
    """What can be requested for a line."""

    line_id: str
    return_: ReturnEligibility = Field(alias="return")
    wrong_item: WrongItemEligibility


class EligibilityView(Model):
    """What could be requested for an order now."""

    order_id: str
    cancellation: EligibilityRuling
    lines: tuple[LineEligibility, ...]


class WorkItem(Model):
    """A task that waits for somebody; ``due_at`` is null if nothing sets a time."""

    kind: WorkKind
    subject: SubjectView
    due_at: str | None
    overdue: bool


class WorklistView(Model):
    """The tasks that wait, the most urgent first."""

    items: tuple[WorkItem, ...]


class MoneyView(Model):
    """The money of an order: ``remaining`` = captured - refunded - pending.

    ``pending`` was requested as a refund, and is neither settled nor failed.
    """

    currency: str
    captured: str
    refunded: str
    pending: str
    remaining: str


class LedgerEntry(MoneyView):
    """The money of one payment of an order."""

    order_id: str
    payment_id: str
    method: str


class VerdictCount(Model):
    """The number of decisions, and the amount at stake in them."""

    decisions: int
    amount: str


class ClauseStatistics(Model):
    """How often a clause decided, in one currency.

    ``failed`` and ``overridden`` count the decisions in which the clause made the difference; ``alone`` counts those that
    were declined because of this clause only. An amount is the money that would move differently if the verdict were the
    other one: for a return, a label and a claim the price and tax of the units; for an inspection those of the rejected
    units; for a cancellation the payments; for a refund its tenders; for a clause on the fee or the shipping that amount.
    """

    clause: str
    currency: str
    failed: VerdictCount
    alone: VerdictCount
    overridden: VerdictCount
    passed: VerdictCount
    not_applicable: VerdictCount


class ActorView(Model):
    """Who acted."""

    role: Role
    id: str

    @classmethod
    def of(cls, event: Event) -> ActorView | None:
        """The actor of an event; ``None`` if the caller named none."""
        return cls(role=event.actor.role, id=event.actor.id) if event.actor else None


class AuditEntry(Model):
    """A recorded event, with the state of the lifecycle before and after it."""

    version: int
    type: str
    occurred_at: str
    recorded_at: str
    actor: ActorView | None
    command_id: str | None
    clauses: tuple[ClauseView, ...]
    before: str | None
    after: str
    details: dict[str, JsonValue]


class AuditView(Model):
    """The events of a stream, one by one."""

    stream: str
    entries: tuple[AuditEntry, ...]


AnyView = OrderView | ReturnView | RefundView | ClaimView | ArrivalView | EligibilityView | WorklistView | AuditView

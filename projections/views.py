"""The public form of the answers: one model per view, the same in files, in Python and in the JSON Schema.

Instants are RFC 3339 with the offset of the policy's zone; money is a decimal string of the order's currency. Keys ending
in ``_by`` are inclusive instants; keys ending in ``_before`` and ``void_at`` are exclusive ones.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from returnable.domain.commands import WorkKind
from returnable.domain.fields import Model, Role
from returnable.domain.outcome import ClauseView, ErrorView


class PolicyVersion(Model):
    """The policy pinned to an order."""

    id: str
    version: str


class OrderLineView(Model):
    """A line: how many units were bought, delivered, are on their way back, and came back for good."""

    line_id: str
    sku: str
    unit_price: str
    quantity: int
    final_sale: bool
    delivered: int
    returning: int
    returned: int
    return_before: str | None


class ParcelView(Model):
    """An outbound parcel."""

    parcel_id: str
    carrier: str
    tracking_number: str
    shipped_at: str
    delivered_at: str | None


class OrderView(Model):
    """How an order stands."""

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


class LabelView(Model):
    """A prepaid label."""

    label_id: str
    status: Literal["issued", "used", "void"]
    tracking_number: str
    received_at: str | None
    void_at: str


class ReturnView(Model):
    """How a return stands. ``requested`` is seen only as of an instant between the request and its decision."""

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


class SubjectView(Model):
    """What something is about."""

    kind: Literal["order", "return", "claim", "refund"]
    id: str


class DeductionView(Model):
    """What a clause takes off a refund."""

    clause: str
    amount: str
    because: str


class RefundItemView(Model):
    """What is refunded for units of a line."""

    line_id: str
    quantity: int
    merchandise: str
    tax: str
    deducted: str


class TenderView(Model):
    """What goes back to one payment."""

    payment_id: str
    amount: str
    status: Literal["due", "requested", "settled", "failed"]
    reference: str | None


class RefundView(Model):
    """How a refund stands; ``due``: what would be paid if it were requested now.

    ``total`` = merchandise + tax + shipping - deductions - ``settled_before`` (what an earlier, failed attempt paid), but
    never less than nothing.
    """

    refund_id: str | None
    status: Literal["due", "requested", "refunded", "failed"]
    for_: SubjectView = Field(alias="for")
    currency: str
    merchandise: str
    tax: str
    shipping: str
    deductions: tuple[DeductionView, ...]
    settled_before: str
    total: str
    items: tuple[RefundItemView, ...]
    tenders: tuple[TenderView, ...]
    issued_at: str | None
    expected_between: tuple[str, str] | None
    overdue_at: str | None = None
    """From this instant on it is overdue, unless it is settled before."""
    overdue: bool


class EvidenceView(Model):
    """What a claim has shown."""

    order_confirmation: bool
    item_picture: bool


class ClaimView(Model):
    """How a wrong-item claim stands."""

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
    refund_id: str | None


class EligibilityRuling(Model):
    """What the command would be told now; ``error``: it would be impossible."""

    allowed: bool
    clauses: tuple[ClauseView, ...]
    error: ErrorView | None = None


class ReturnEligibility(EligibilityRuling):
    """Whether one unit of the line can be returned now, asked for in the right way."""

    return_before: str | None


class WrongItemEligibility(EligibilityRuling):
    """Whether a wrong item can be reported now for one unit of the line, in the right way."""

    report_before: str | None


class LineEligibility(Model):
    """What can be asked for, for a line."""

    line_id: str
    return_: ReturnEligibility = Field(alias="return")
    wrong_item: WrongItemEligibility


class EligibilityView(Model):
    """What could be asked for now."""

    order_id: str
    cancellation: EligibilityRuling
    lines: tuple[LineEligibility, ...]


class WorkItem(Model):
    """Something that waits for somebody; ``due_at`` is null where nothing sets a time."""

    kind: WorkKind
    subject: SubjectView
    due_at: str | None
    overdue: bool


class WorklistView(Model):
    """What waits, the most urgent first."""

    items: tuple[WorkItem, ...]


class MoneyView(Model):
    """The money of an order: ``remaining`` = captured - refunded - pending.

    ``pending`` was asked back, and is neither settled nor failed.
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
    """How many decisions, and what was at stake in them."""

    decisions: int
    amount: str


class ClauseStatistics(Model):
    """How often a clause decided, in one currency.

    ``failed`` and ``overridden`` are the decisions in which it made the difference; ``alone`` is how many were declined
    because of this clause only. An amount is the money that would move differently if the verdict were the other one: price
    and tax of the units for a return, a label and a claim, and of those rejected for an inspection; what was paid for a
    cancellation; what goes back for a refund; the fee or the shipping for the clauses on these.
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


class AuditEntry(Model):
    """A recorded fact, with the state of the lifecycle before and after it."""

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
    """What was recorded in a stream, fact by fact."""

    stream: str
    entries: tuple[AuditEntry, ...]


AnyView = OrderView | ReturnView | RefundView | ClaimView | EligibilityView | WorklistView | AuditView

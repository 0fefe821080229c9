"""Claim: the wrong item came. From the first notice to the settlement. Clauses: ``wrong_item.*``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from returnable.domain.aggregate import Aggregate, not_allowed
from returnable.domain.calendar import elapsed_end
from returnable.domain.commands import (
    AddClaimEvidence,
    DenyClaim,
    RecordClaimContact,
    ReportWrongItem,
    ResolveClaim,
)
from returnable.domain.deadlines import Happened, passed
from returnable.domain.deciding import DecisionContext, DecisionResult, Weighing
from returnable.domain.errors import Impossible
from returnable.domain.events import (
    Allotment,
    ClaimContacted,
    ClaimDenied,
    ClaimOpened,
    ClaimResolved,
    ContactMissed,
    Event,
    EvidenceAdded,
    RefundRequested,
    ResolutionDeclined,
)
from returnable.domain.fields import to_text
from returnable.domain.ids import StreamId
from returnable.domain.lifecycles import CLAIM
from returnable.domain.order.state import Held, Order, report_before
from returnable.domain.ports import ReservedId
from returnable.domain.ruling import Grounds


@dataclass
class Claim(Aggregate):
    """A wrong-item claim as its events make it."""

    kind = "claim"
    lifecycle = CLAIM

    claim_id: str
    opened: ClaimOpened = field(init=False)
    evidence: frozenset[str] = frozenset()
    contacted: Happened | None = None
    contact_missed: Happened | None = None
    remedy: str | None = None
    resolved: Happened | None = None
    denied: Happened | None = None
    refund_id: str | None = None

    @property
    def line_id(self) -> str:
        """The line of the order whose units were wrong."""
        return self.opened.line_id

    @property
    def line_ids(self) -> Collection[str]:
        return (self.line_id,)

    @property
    def quantity(self) -> int:
        """How many units were wrong."""
        return self.opened.quantity

    @property
    def asked_at(self) -> datetime:
        """When the customer reported it."""
        return self.opened.occurred_at

    def parcels_of(self, line_id: str) -> set[str | None]:
        """The parcels in which its units of a line came."""
        return {taken.parcel_id for taken in self.opened.parcels} if line_id == self.line_id else set()

    def held(self, line_id: str) -> Held:
        """The units of a line that are settled by refund, by the parcel they came in; an open claim holds nothing."""
        if self.remedy not in ("refund", "both") or line_id != self.line_id:
            return {}
        return {allotment.parcel_id: allotment.quantity for allotment in self.opened.parcels}

    def overdue(self, moment: datetime) -> bool:
        """Whether the customer should have been contacted by then; the last instant itself is in time."""
        return self.status == "open" and self.contacted is None and self._too_late(moment)

    def contact_was_missed(self, moment: datetime) -> bool:
        """Whether the promised contact was missed by then, even if it was made or settled afterwards."""
        return self._too_late(moment) and self.status != "denied" and not self.contact_was_made

    @property
    def contact_was_made(self) -> bool:
        """Whether the customer was contacted in time, or the claim settled."""
        contacted, resolved = self.contacted, self.resolved
        in_time = contacted is not None and not self._too_late(contacted.at)
        return in_time or (resolved is not None and not self._too_late(resolved.at))

    def _too_late(self, moment: datetime) -> bool:
        return passed("wrong_item.contact", self.opened.contact_by, moment)

    @property
    def may_lapse(self) -> bool:
        """Whether a missed contact is still to be recorded, once its deadline has come."""
        return self.contact_missed is None and self.status != "denied" and not self.contact_was_made

    # ---- events -----------------------------------------------------------------------------------------------------

    def not_allowed(self, command: str, why: str = "") -> Impossible:
        allowed = () if self.remedy == "replacement" else CLAIM
        return not_allowed(command, self.name, self.status, allowed, why)

    def _move(self, event: Event, happened: Happened) -> None:
        self.status = CLAIM.after(self.status, event.type)
        if isinstance(event, ClaimOpened):
            self.opened = event
            self.evidence = frozenset(event.evidence)
        elif isinstance(event, EvidenceAdded):
            self.evidence |= frozenset(event.evidence)
        elif isinstance(event, ClaimContacted):
            self.contacted = min(happened, self.contacted or happened)
        elif isinstance(event, ContactMissed):
            self.contact_missed = happened
        elif isinstance(event, ClaimResolved):
            self.remedy, self.resolved = event.remedy, happened
        elif isinstance(event, ClaimDenied):
            self.denied = happened
        elif isinstance(event, RefundRequested):
            self.refund_id = event.refund_id


# ---- decisions ------------------------------------------------------------------------------------------------------


def weigh_report(
    order: Order,
    line_id: str,
    parcels: tuple[Allotment, ...],
    now: DecisionContext,
    reported_at: datetime,
    channel: str,
    evidence: frozenset[str],
) -> Weighing:
    """Weigh every clause on a wrong-item report; the evidence may still follow."""
    clauses = now.policy.clauses
    weighing = now.weighing(ClaimOpened, order, lines=(line_id,))
    window = order.ask_window(parcels, reported_at, report_before)
    grounds: Grounds = {"line_id": line_id, "reported_at": to_text(reported_at)}
    grounds |= window.grounds("deadline", reported_at)
    weighing.weigh("wrong_item.window", window.in_time, grounds)
    channels = clauses.wrong_item_by_email.channels
    weighing.weigh("wrong_item.by_email", channel in channels, {"channel": channel, "channels": list(channels)})
    complete, shown = _evidence(now, evidence)
    weighing.weigh("wrong_item.evidence", True if complete else None, shown)
    contact_by = elapsed_end(reported_at, clauses.wrong_item_contact.hours)
    weighing.weigh("wrong_item.contact", True, {"contact_by": to_text(contact_by)})
    return weighing


def _evidence(now: DecisionContext, evidence: frozenset[str]) -> tuple[bool, Grounds]:
    requires = now.policy.clauses.wrong_item_evidence.requires
    missing: list[str] = [name for name in requires if name not in evidence]
    given: list[str] = [*sorted(evidence)]
    return not missing, {"requires": list(requires), "given": given, "missing": missing}


def report_wrong_item(
    order: Order, command: ReportWrongItem, now: DecisionContext, held: Mapping[str, Held]
) -> DecisionResult:
    """Open a claim. A report that is late, or came by another channel, is denied at once."""
    order.check_lines([command.line_id], "line_id")
    order.check_not_cancelled(command.command)
    taken = held[command.line_id]
    order.check_quantity(command.line_id, command.quantity, sum(taken.values()), "quantity")
    reported_at = command.reported_at or now.at
    parcels = order.allot(command.line_id, command.quantity, taken, reported_at, report_before)
    evidence = frozenset(command.attachments)
    weighing = weigh_report(order, command.line_id, parcels, now, reported_at, command.channel, evidence)
    stream = str(StreamId("claim", command.claim_id))
    opened = ClaimOpened(
        **now.envelope(reported_at),
        claim_id=command.claim_id,
        order_id=order.order_id,
        line_id=command.line_id,
        quantity=command.quantity,
        parcels=parcels,
        channel=command.channel,
        evidence=tuple(sorted(evidence)),
        contact_by=elapsed_end(reported_at, now.policy.clauses.wrong_item_contact.hours),
        pins=now.pins,
        ruling=weighing.ruling if weighing.allowed else (),
    )
    reserved_ids = [ReservedId("claim", command.claim_id, order.order_id)]
    if not weighing.allowed:
        return now.decide(stream, weighing, ClaimDenied, before=[opened], reserved_ids=reserved_ids)
    return DecisionResult(events=[(stream, opened)], ruling=weighing.ruling, reserved_ids=reserved_ids)


def add_evidence(claim: Claim, command: AddClaimEvidence, now: DecisionContext) -> DecisionResult:
    """Evidence came later; the first notice keeps its time."""
    claim.check_allows("EvidenceAdded", command.command)
    return now.record(claim.stream, EvidenceAdded, command.added_at, evidence=tuple(dict.fromkeys(command.attachments)))


def record_contact(claim: Claim, command: RecordClaimContact, now: DecisionContext) -> DecisionResult:
    """Customer care contacted the customer."""
    claim.check_allows("ClaimContacted", command.command)
    return now.record(claim.stream, ClaimContacted, command.contacted_at)


def resolve(
    claim: Claim,
    order: Order,
    command: ResolveClaim,
    now: DecisionContext,
    held: Mapping[str, Held],
) -> DecisionResult:
    """Settle the claim: only with its evidence, and by refund only for units that are not paid back otherwise."""
    claim.check_allows("ClaimResolved", command.command)
    if command.remedy != "replacement":
        order.check_not_cancelled(command.command)
        taken = sum(held[claim.line_id].values())
        order.check_quantity(claim.line_id, claim.quantity, taken, "remedy")
    weighing = now.weighing(ClaimResolved, order, claim)
    complete, evidence = _evidence(now, claim.evidence)
    weighing.weigh("wrong_item.evidence", complete, evidence)
    weighing.weigh("wrong_item.remedy", True, {"remedy": command.remedy})
    verdict = ClaimResolved if weighing.allowed else ResolutionDeclined
    return now.decide(claim.stream, weighing, verdict, remedy=command.remedy)


def deny(claim: Claim, command: DenyClaim, now: DecisionContext) -> DecisionResult:
    """Customer care denies the claim, with a reason."""
    claim.check_allows("ClaimDenied", command.command)
    return now.record(claim.stream, ClaimDenied, reason=command.reason)

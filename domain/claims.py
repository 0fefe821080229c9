"""Claim: the wrong item came. From the first notice to the settlement. Clauses: ``wrong_item.*``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from returnable.domain.aggregate import Aggregate
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
    DispositionRecorded,
    Event,
    EvidenceAdded,
    LabelIssued,
    LabelReceived,
    LabelVoided,
    Received,
    RefundRequested,
    ResolutionDeclined,
    ReturnShipped,
)
from returnable.domain.fields import to_text
from returnable.domain.ids import StreamId
from returnable.domain.lifecycles import CLAIM
from returnable.domain.order.state import Held, Order, report_before
from returnable.domain.ports import ReservedId
from returnable.domain.returns.state import Return
from returnable.domain.ruling import Grounds
from returnable.domain.wording import plural, units


@dataclass
class Claim(Aggregate):
    """A wrong-item claim as its events make it."""

    kind = "claim"
    lifecycle = CLAIM

    claim_id: str
    opened: ClaimOpened = field(init=False)
    evidence: frozenset[str] = frozenset()
    evidence_told: frozenset[tuple[datetime, frozenset[str]]] = frozenset()
    """What came later, and when."""
    contacts: tuple[Happened, ...] = ()
    """Every report that the customer was contacted."""
    contact_missed: Happened | None = None
    remedy: str | None = None
    settled: tuple[Allotment, ...] = ()
    """The units that got the remedy, by the parcel they came in."""
    resolved: Happened | None = None
    denied: Happened | None = None
    refund_id: str | None = None
    way_back: Return = field(init=False)
    """The wrong item on its way back."""

    @property
    def line_id(self) -> str:
        """The line of the order whose units were wrong."""
        return self.opened.line_id

    @property
    def line_ids(self) -> Collection[str]:
        return (self.line_id,)

    @property
    def quantity(self) -> int:
        """How many units were reported as wrong."""
        return self.opened.quantity

    @property
    def settled_units(self) -> int:
        """How many units the settlement is for; 0 before."""
        return sum(taken.quantity for taken in self.settled)

    @property
    def asked_at(self) -> datetime:
        """When the customer reported it."""
        return self.opened.occurred_at

    @property
    def contacted(self) -> Happened | None:
        """When the customer was first contacted. A contact before the report cannot be, and proves nothing."""
        return min((told for told in self.contacts if told.at >= self.asked_at), default=None)

    def parcels_of(self, line_id: str) -> set[str | None]:
        """The parcels in which its units of a line came."""
        return {taken.parcel_id for taken in self.opened.parcels} if line_id == self.line_id else set()

    def held(self, line_id: str) -> Mapping[str | None, int]:
        """The units of a line that were settled, by the parcel they came in; an open claim holds nothing."""
        if line_id != self.line_id:
            return {}
        return {taken.parcel_id: taken.quantity for taken in self.settled}

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

    def _move(self, event: Event, happened: Happened) -> None:
        self.status = CLAIM.after(self.status, event.type)
        if isinstance(event, LabelIssued | LabelReceived | LabelVoided | ReturnShipped | Received):
            self.way_back = self.way_back.clone()
            self.way_back.apply(event, happened.version)
        elif isinstance(event, ClaimOpened):
            self.opened = event
            self.way_back = Return.of_wrong_item(self, event)
            self.evidence = frozenset(event.evidence)
        elif isinstance(event, EvidenceAdded):
            self.evidence |= frozenset(event.evidence)
            self.evidence_told |= {(event.occurred_at, frozenset(event.evidence))}
        elif isinstance(event, ClaimContacted):
            self.contacts += (happened,)
        elif isinstance(event, ContactMissed):
            self.contact_missed = happened
        elif isinstance(event, ClaimResolved):
            self.remedy, self.resolved, self.settled = event.remedy, happened, event.parcels
        elif isinstance(event, ClaimDenied):
            self.denied = happened
        elif isinstance(event, RefundRequested):
            self.refund_id = event.refund_id

    def _note(self, event: Event, happened: Happened) -> None:
        if isinstance(event, DispositionRecorded):
            self.way_back = self.way_back.clone()
            self.way_back.apply(event, happened.version)


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


def reported_units(
    order: Order, line_id: str, quantity: int, held: Held, reported_at: datetime
) -> tuple[Allotment, ...]:
    """The units that a report is about: those not held, before those in a return or claim.

    More than there are do not make it late: the policy judges those that there are.
    """
    there_are = max(order.in_parcels(line_id), order.units(line_id) - held.cancelled, 1)
    quantity = min(quantity, there_are)
    found: Counter[str | None] = Counter()
    for taken in order.allot(line_id, quantity, held, reported_at, report_before):
        if taken.parcel_id is not None:
            found[taken.parcel_id] = taken.quantity
    for taken in order.allot(line_id, quantity - found.total(), found, reported_at, report_before):
        found[taken.parcel_id] += taken.quantity
    return _allotments(found)


def _allotments(units: Counter[str | None]) -> tuple[Allotment, ...]:
    return tuple(Allotment(parcel_id=parcel_id, quantity=count) for parcel_id, count in units.items() if count)


def report_wrong_item(
    order: Order, command: ReportWrongItem, now: DecisionContext, held: Mapping[str, Held]
) -> DecisionResult:
    """Open a claim, whatever became of the units: the first notice keeps its time.

    A report that is late, or came by another channel, is denied at once.
    """
    order.check_lines([command.line_id], "line_id")
    reported_at = command.reported_at or now.at
    parcels = reported_units(order, command.line_id, command.quantity, held[command.line_id], reported_at)
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
    if (command.added_at or now.at, frozenset(command.attachments)) in claim.evidence_told:
        return DecisionResult()
    return now.record(claim.stream, EvidenceAdded, command.added_at, evidence=tuple(dict.fromkeys(command.attachments)))


def record_contact(claim: Claim, command: RecordClaimContact, now: DecisionContext) -> DecisionResult:
    """Customer care contacted the customer. A contact before the report is a conflict, and keeps no promise."""
    claim.check_allows("ClaimContacted", command.command)
    event = ClaimContacted(**now.envelope(command.contacted_at))
    at, reasons = event.occurred_at, list[str]()
    if any(told.at == at for told in claim.contacts):
        return DecisionResult()
    if at < claim.asked_at:
        reasons.append(
            f"the customer was contacted at {to_text(at)}, before the wrong item was reported at {to_text(claim.asked_at)}"
        )
    return now.fact(claim.stream, event, reasons)


def resolve(
    claim: Claim,
    order: Order,
    command: ResolveClaim,
    now: DecisionContext,
    held: Mapping[str, Held],
) -> DecisionResult:
    """Settle the claim: only with its evidence, and only for units that no return and no other claim has.

    Of two open claims for one unit the first to be settled gets it.
    """
    claim.check_allows("ClaimResolved", command.command)
    order.check_not_cancelled(command.command)
    quantity = command.quantity or claim.quantity
    settled = _settled(claim, order, quantity, held[claim.line_id])
    left = sum(taken.quantity for taken in settled)
    if quantity > left:
        of_reported = f"{left} of the {claim.quantity} that {claim.name} reported {plural(left, 'is', 'are')} left"
        reason = f"asked to settle {units(quantity)} of line {claim.line_id}, but {of_reported}"
        gone = order.where(claim.line_id, held[claim.line_id])
        raise Impossible(
            "quantity.exceeded",
            f"{reason}{gone and '; '}{gone}",
            field="quantity" if command.quantity else "remedy",
        )
    weighing = now.weighing(ClaimResolved, order, claim)
    complete, evidence = _evidence(now, claim.evidence)
    weighing.weigh("wrong_item.evidence", complete, evidence)
    weighing.weigh("wrong_item.remedy", True, {"remedy": command.remedy})
    asked: dict[str, Any] = {"remedy": command.remedy, "quantity": command.quantity}
    if not weighing.allowed:
        return now.decide(claim.stream, weighing, ResolutionDeclined, **asked)
    return now.decide(claim.stream, weighing, ClaimResolved, **asked, parcels=settled)


def _settled(claim: Claim, order: Order, quantity: int, held: Held) -> tuple[Allotment, ...]:
    """The units that a settlement takes, at most ``quantity``: as reported, where they are free, or others like them.

    The customer had them when they reported. So a replacement that came later is not among them.
    """
    # What was lost, shipped again and turned up is more than was bought: no more is settled than there are.
    there_are = order.units(claim.line_id) - (held.total - held.cancelled)
    line_id, quantity = claim.line_id, max(0, min(quantity, claim.quantity, there_are))
    reported = {taken.parcel_id: taken.quantity for taken in claim.opened.parcels}
    found: Counter[str | None] = Counter()
    for most in (reported, dict.fromkeys(order.parcels, quantity)):
        for parcel_id, count in most.items():
            parcel = order.parcels.get(parcel_id or "")
            if parcel is None or parcel.delivered is None:
                continue
            if parcel_id in reported or parcel.delivered.at <= claim.asked_at:
                free = parcel.units.get(line_id, 0) - held.get(parcel_id, 0) - found[parcel_id]
                found[parcel_id] += max(0, min(free, count, quantity - found.total()))
    # An override has judged what was on its way when it was reported.
    left = min(reported.get(None, 0), order.units(line_id) - held.total - found.total(), quantity - found.total())
    for taken in order.allot(line_id, max(0, left), Counter(held) + found, claim.asked_at, report_before):
        found[taken.parcel_id] += taken.quantity
    return _allotments(found)


def deny(claim: Claim, command: DenyClaim, now: DecisionContext) -> DecisionResult:
    """Customer care denies the claim, with a reason."""
    claim.check_allows("ClaimDenied", command.command)
    return now.record(claim.stream, ClaimDenied, reason=command.reason)

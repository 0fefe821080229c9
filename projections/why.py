"""Why: a decision with every clause it weighed, each value with the events it came from; or where a deadline comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from returnable.domain.calendar import A_MOMENT, zone
from returnable.domain.errors import Impossible
from returnable.domain.events import (
    ClaimDenied,
    ClaimOpened,
    Confirmed,
    ContactMissed,
    Delivered,
    Fact,
    LabelIssued,
    LabelReceived,
    LabelVoided,
    OverrideGranted,
    Pins,
    RefundOverdue,
    RefundRequested,
)
from returnable.domain.money import to_major
from returnable.domain.outcome import in_zone
from returnable.domain.policy import CLAUSE_IDS, Policy, PolicyOf
from returnable.domain.ports import Recorded
from returnable.domain.reasons import because, deduction_because, duration, localised
from returnable.domain.retelling import Told, retell
from returnable.domain.ruling import Finding
from returnable.projections.explained import (
    ClauseWhy,
    EventRef,
    Explainable,
    FactSource,
    Margin,
    OverrideWhy,
    PaidBack,
    PinsView,
    RefundWhy,
    ResolvedDeadline,
    WhyView,
)
from returnable.projections.provenance import Record, sourced
from returnable.projections.sound import telling
from returnable.projections.subjects import Subject
from returnable.projections.views import ActorView, DeductionView, RefundItemView

INCLUSIVE = frozenset({"cancellation.window", "wrong_item.contact"})
"""The clauses whose deadline is itself still in time; all other deadlines are exclusive ends."""


def why(subject: Subject, policy: PolicyOf, event: int | None = None) -> WhyView:
    """Why the last decision on the subject came out as it did, or what its ``event``-th fact says and sets.

    A decision rests on all that was on record when it was made, whatever ``as_of`` and ``known_at`` chose for the subject.
    ``policy`` finds a pinned policy by its hash. Raises ``command.invalid`` naming
    the events that can be explained when there is no such event, or nothing to say about it.
    """
    history = subject.history
    with telling(str(subject)):
        explained = [_Explained(told, entry) for told in retell(history) for entry in told.entries]
    counted = {entry.case_seq for entry in subject.facts}
    in_case = [one for one in explained if one.entry.case_seq in counted and one.counts(counted)]
    own = [one for one in in_case if _concerns(subject, one.entry)]
    chosen = _choose(subject, own, event, in_case)
    scope = in_case if subject.kind == "order" else own
    others = [one for one in scope if one.holds_ruling and one.target is not chosen.target]
    others += [one for one in own if not one.told.ruling and one.explains and one.entry is not chosen.entry]
    with telling(chosen.target.event):
        return _view(subject, chosen, others, history, policy)


@dataclass(frozen=True, slots=True)
class _Explained:
    """A fact, and the command it came of."""

    told: Told
    entry: Recorded

    @property
    def target(self) -> Recorded:
        """What is explained: the decision of the command where there is one, else the fact itself."""
        if self.told.ruling is None:
            return self.entry
        return self.told.decided

    @property
    def holds_ruling(self) -> bool:
        return self.told.ruling is not None and self.target is self.entry

    @property
    def sets_deadline(self) -> bool:
        fact = self.entry.fact
        by_itself = isinstance(fact, LabelVoided) and fact.cause == "deadline"
        return by_itself or isinstance(fact, Confirmed | Delivered | LabelReceived | ContactMissed | RefundOverdue)

    @property
    def by_hand(self) -> str | None:
        """The reason a person gave who decided without the policy: denied a claim, voided a label, set a clause aside."""
        fact = self.entry.fact
        if isinstance(fact, ClaimDenied | LabelVoided | OverrideGranted) and not self.told.ruling:
            return fact.reason
        return None

    @property
    def explains(self) -> bool:
        """Whether there is anything to say about the fact."""
        return self.holds_ruling or self.sets_deadline or self.by_hand is not None

    def counts(self, counted: set[int]) -> bool:
        """Whether the decision of its command counts, too: between a request and its decision there is none yet."""
        return self.target.case_seq in counted


def _concerns(subject: Subject, entry: Recorded) -> bool:
    if entry.stream != subject.stream:
        return False
    return subject.kind != "refund" or entry.fact.refund_id == subject.name


def _choose(
    subject: Subject, own: Sequence[_Explained], event: int | None, in_case: Sequence[_Explained]
) -> _Explained:
    if event is not None and type(event) is not int:  # not even a bool, which is one
        raise Impossible("command.invalid", "must be a whole number", field="event")
    if event is None:
        decisions = [one for one in own if one.holds_ruling or isinstance(one.entry.fact, ClaimDenied)]
        if not decisions:
            elsewhere = ", ".join(one.entry.event for one in in_case if one.holds_ruling)
            besides = f" (in its case: {elsewhere})" if elsewhere else ""
            raise _nothing(f"nothing was decided by the policy on {subject} itself{besides}", own)
        return decisions[-1]
    found = next((one for one in own if one.entry.version == event), None)
    if found is None:
        raise _nothing(f"{subject} has no event {event} that counts", own)
    if found.told.ruling is None and not found.explains:
        raise _nothing(f"{found.entry.event} {found.entry.fact.type} holds no ruling and sets no deadline", own)
    return found


def _nothing(said: str, own: Sequence[_Explained]) -> Impossible:
    able = ", ".join(f"{one.entry.version} {one.entry.fact.type}" for one in own if one.explains)
    return Impossible("command.invalid", f"{said}; can be explained: {able or 'nothing'}", field="event")


def _view(
    subject: Subject,
    chosen: _Explained,
    others: Sequence[_Explained],
    history: Sequence[Recorded],
    policy: PolicyOf,
) -> WhyView:
    told, target = chosen.told, chosen.target
    fact = target.fact
    first = told.entries[0].case_seq
    before = [entry for entry in history if entry.case_seq < first]
    upto = [entry for entry in history if entry.case_seq <= target.case_seq]
    resolved = [*_resolved(target, upto, policy)]
    pins = _pins(target, resolved, subject.case.order.confirmed.pins)
    judged_by = policy(pins.sha256)
    where = zone(judged_by.zone)
    record = Record(before, told, judged_by)
    clauses: list[ClauseWhy] = []
    events = {deadline.anchor.case_seq: deadline.anchor for deadline in resolved if deadline.anchor is not target}
    for finding in sorted(told.ruling or (), key=lambda one: CLAUSE_IDS.index(one.clause)):
        clause, named = _clause(finding, record, judged_by, where)
        clauses.append(clause)
        events |= {entry.case_seq: entry for entry in named}
    return WhyView(
        subject=str(subject),
        event=target.event,
        type=fact.type,
        occurred_at=in_zone(fact.occurred_at, where),
        recorded_at=in_zone(fact.recorded_at, where),
        actor=ActorView(role=fact.actor.role, id=fact.actor.id) if fact.actor else None,
        command=told.fields["command"],
        command_id=fact.command_id,
        outcome=told.outcome,
        recorded=tuple(entry.event for entry in told.entries),
        pins=PinsView.model_validate(pins.model_dump()),
        clauses=tuple(clauses),
        deadlines=tuple(_deadline(deadline, judged_by, where) for deadline in resolved),
        reason=chosen.by_hand,
        refund=_refund(fact, history, where) if isinstance(fact, RefundRequested) else None,
        events=tuple(_event(events[seq], where) for seq in sorted(events)),
        others=tuple(_other(one, where) for one in others),
    )


def _pins(target: Recorded, resolved: Sequence[_Resolved], of_order: Pins) -> Pins:
    """What judged the fact; one that records a passing was judged by what set the deadline, and what a person decided by
    hand stands beside the policy of the order."""
    pins: Pins | None = target.fact.pins
    if pins is None and resolved:
        anchor: Any = resolved[0].anchor.fact
        pins = anchor.pins
    return pins or of_order


def _event(entry: Recorded, where: ZoneInfo) -> EventRef:
    fact = entry.fact
    return EventRef(
        event=entry.event,
        type=fact.type,
        occurred_at=in_zone(fact.occurred_at, where),
        recorded_at=in_zone(fact.recorded_at, where),
    )


def _other(one: _Explained, where: ZoneInfo) -> Explainable:
    return Explainable(
        event=one.entry.event,
        type=one.entry.fact.type,
        at=in_zone(one.entry.fact.occurred_at, where),
        outcome=one.told.outcome if one.holds_ruling else None,
    )


# ---- clauses --------------------------------------------------------------------------------------------------------


def _clause(finding: Finding, record: Record, policy: Policy, where: ZoneInfo) -> tuple[ClauseWhy, list[Recorded]]:
    facts: list[FactSource] = []
    named: list[Recorded] = []
    for value, events in sourced(finding, record):
        name = value.key.rpartition(".")[2]
        facts.append(
            FactSource(key=value.key, value=localised({name: value.value}, where)[name], sources=value.sources)
        )
        named += events
    clause = policy.clause(finding.clause)
    why_so = ClauseWhy(
        clause=finding.clause,
        verdict=finding.verdict,
        quote=clause.quote,
        reading=clause.reading,
        because=because(finding, where),
        facts=tuple(facts),
        deadline=_margin(finding, where),
        override=_override(finding, where),
    )
    return why_so, named


def _margin(finding: Finding, where: ZoneInfo) -> Margin | None:
    facts: dict[str, Any] = {**finding.facts}
    at = facts.get("deadline", facts.get("contact_by"))
    if at is None:
        return None
    inclusive = finding.clause in INCLUSIVE
    seconds = facts.get("margin_seconds")
    return Margin(
        at=in_zone(datetime.fromisoformat(at), where),
        inclusive=inclusive,
        margin_seconds=seconds,
        margin=None if seconds is None else margin_in_words(seconds, inclusive),
    )


def margin_in_words(seconds: float, inclusive: bool) -> str:
    """By how much a deadline was kept or missed.

    >>> margin_in_words(7500, True), margin_in_words(-7500, False)
    ('2 h 5 min left', '2 h 5 min late')
    >>> margin_in_words(0, True), margin_in_words(0, False)
    ('at the very last instant', 'late by nothing: that very instant was too late')
    """
    if seconds == 0:
        return "at the very last instant" if inclusive else "late by nothing: that very instant was too late"
    return f"{duration(seconds)} {'left' if seconds > 0 else 'late'}"


def _override(finding: Finding, where: ZoneInfo) -> OverrideWhy | None:
    override: Any = finding.facts.get("override")
    if override is None:
        return None
    return OverrideWhy(
        approved_by=override["approved_by"],
        reason=override["reason"],
        granted_at=in_zone(datetime.fromisoformat(override["granted_at"]), where),
        event=override["fact"],
    )


# ---- deadlines ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Resolved:
    """A deadline that a fact set or records as passed; ``anchor`` is counted from ``anchored_at``."""

    name: str
    at: datetime
    clause: str
    anchor: Recorded
    anchored_at: datetime
    from_what: str


def _resolved(entry: Recorded, upto: Sequence[Recorded], policy: PolicyOf) -> Iterator[_Resolved]:
    fact = entry.fact
    at = fact.occurred_at
    if isinstance(fact, Confirmed):
        yield _Resolved("cancel_by", fact.cancel_by, "cancellation.window", entry, at, "the confirmation")
    elif isinstance(fact, Delivered):
        parcel = f"the delivery of parcel {fact.parcel_id}"
        yield _Resolved("return_before", fact.return_before, "returns.window", entry, at, parcel)
        yield _Resolved("report_before", fact.report_before, "wrong_item.window", entry, at, parcel)
    elif isinstance(fact, LabelIssued | LabelReceived):
        yield _void_at(entry, fact, upto, policy(fact.pins.sha256))
    elif isinstance(fact, LabelVoided):
        if fact.cause == "deadline":
            source = _label_facts(upto, entry.stream, fact.label_id)[-1]
            yield from _resolved(source, upto, policy)
    elif isinstance(fact, ClaimOpened):
        yield _Resolved("contact_by", fact.contact_by, "wrong_item.contact", entry, at, "the first notice")
    elif isinstance(fact, ContactMissed):
        opened = next(e for e in upto if e.stream == entry.stream and isinstance(e.fact, ClaimOpened))
        yield from _resolved(opened, upto, policy)
    elif isinstance(fact, RefundRequested):
        yield _Resolved("overdue_at", fact.overdue_at, "returns.refund_timing", entry, at, "the issue of the refund")
    elif isinstance(fact, RefundOverdue):
        asked = next(e for e in upto if isinstance(e.fact, RefundRequested) and e.fact.refund_id == fact.refund_id)
        yield from _resolved(asked, upto, policy)


def _label_facts(upto: Sequence[Recorded], stream: str, label_id: str) -> list[Recorded]:
    """What set the deadline of a label: its issue, then its receipt where that was told on its own."""
    return [entry for entry in upto if entry.stream == stream and _sets_label(entry.fact, label_id)]


def _sets_label(fact: Fact, label_id: str) -> bool:
    return isinstance(fact, LabelIssued | LabelReceived) and fact.label_id == label_id


def _void_at(entry: Recorded, fact: LabelIssued | LabelReceived, upto: Sequence[Recorded], policy: Policy) -> _Resolved:
    label = f"label {fact.label_id}"
    receipt = fact.received_at if isinstance(fact, LabelIssued) else fact.occurred_at
    if receipt is not None and policy.clauses.returns_ship_by.anchor == "label_received":
        return _Resolved(
            "void_at", fact.void_at, "returns.ship_by", entry, receipt, f"the customer's receipt of {label}"
        )
    issue = _label_facts(upto, entry.stream, fact.label_id)[0]
    return _Resolved("void_at", fact.void_at, "returns.ship_by", issue, issue.fact.occurred_at, f"the issue of {label}")


def _deadline(resolved: _Resolved, policy: Policy, where: ZoneInfo) -> ResolvedDeadline:
    clause = policy.clause(resolved.clause)
    return ResolvedDeadline(
        name=resolved.name,
        at=in_zone(resolved.at, where),
        inclusive=resolved.clause in INCLUSIVE,
        clause=resolved.clause,
        quote=clause.quote,
        reading=clause.reading,
        anchor=resolved.anchor.event,
        anchored_at=in_zone(resolved.anchored_at, where),
        because=_how_it_came(resolved, policy, where),
    )


def _how_it_came(resolved: _Resolved, policy: Policy, where: ZoneInfo) -> str:
    clauses = policy.clauses
    anchored = f"{resolved.from_what} at {said(resolved.anchored_at, where)}"
    if resolved.clause in INCLUSIVE:
        hours = clauses.cancellation_window.hours if resolved.name == "cancel_by" else clauses.wrong_item_contact.hours
        unit = "hour" if hours == 1 else "hours"
        return f"{hours} {unit} after {anchored}: {said(resolved.at, where)}, that instant included."
    days, counting = {
        "return_before": (clauses.returns_window.days, clauses.returns_window.counting),
        "report_before": (clauses.wrong_item_window.business_days, "business"),
        "void_at": (clauses.returns_ship_by.business_days, "business"),
        "overdue_at": (clauses.returns_refund_timing.business_days[1], "business"),
    }[resolved.name]
    last = (resolved.at - A_MOMENT).astimezone(where)
    by = f" by {policy.days.name}/{policy.days.version}" if counting == "business" else ""
    unit = "day" if days == 1 else "days"
    return (
        f"{days} {counting} {unit}{by} after {anchored}: the last day is {last:%a %Y-%m-%d}, over at "
        f"{said(resolved.at, where)}."
    )


def said(instant: datetime, where: ZoneInfo) -> str:
    """An instant for people, in that zone.

    >>> said(datetime.fromisoformat("2026-03-20T04:00:00+00:00"), zone("America/New_York"))
    'Fri 2026-03-20 00:00 EDT'
    """
    local = instant.astimezone(where)
    clock = f"{local:%H:%M:%S.%f}" if local.microsecond else f"{local:%H:%M:%S}" if local.second else f"{local:%H:%M}"
    return f"{local:%a %Y-%m-%d} {clock} {local:%Z}"


# ---- money ----------------------------------------------------------------------------------------------------------


def _refund(fact: RefundRequested, history: Sequence[Recorded], where: ZoneInfo) -> RefundWhy:
    def money(amount: int) -> str:
        return to_major(amount, fact.currency)

    confirmed: Any = history[0].fact
    methods = {payment.payment_id: payment.method for payment in confirmed.payments}
    return RefundWhy(
        refund_id=fact.refund_id,
        currency=fact.currency,
        items=tuple(
            RefundItemView(
                line_id=item.line_id,
                quantity=item.quantity,
                merchandise=money(item.merchandise),
                tax=money(item.tax),
                deducted=money(item.deducted),
            )
            for item in fact.items
        ),
        shipping=money(fact.shipping),
        deductions=tuple(
            DeductionView(
                clause=deduction.clause,
                amount=money(deduction.amount),
                because=deduction_because(deduction.clause, deduction.facts),
            )
            for deduction in fact.deductions
        ),
        settled_before=money(fact.settled_before),
        total=money(sum(tender.amount for tender in fact.tenders)),
        tenders=tuple(
            PaidBack(payment_id=tender.payment_id, method=methods.get(tender.payment_id), amount=money(tender.amount))
            for tender in fact.tenders
        ),
        expected_between=(fact.expected_from.isoformat(), fact.expected_to.isoformat()),
        overdue_at=in_zone(fact.overdue_at, where),
    )

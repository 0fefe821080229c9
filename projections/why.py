"""Why: a decision with every clause it weighed, each value with the events it came from; or where a deadline comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from returnable.domain.calendar import A_MOMENT, zone
from returnable.domain.case import Case, steps
from returnable.domain.deadlines import Anchor, Deadline
from returnable.domain.errors import Impossible
from returnable.domain.events import ClaimDenied, LabelVoided, OverrideGranted, Pins, RefundRequested
from returnable.domain.money import to_major
from returnable.domain.outcome import in_zone
from returnable.domain.policy import CLAUSE_IDS, INCLUSIVE, Clause, DayCounted, Elapsed, Policy, PolicyOf
from returnable.domain.ports import Recorded
from returnable.domain.reasons import because, deduction_because, duration, localised
from returnable.domain.retelling import Told, retell
from returnable.domain.ruling import Finding
from returnable.domain.timetable import deadlines_of
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


def why(subject: Subject, policy: PolicyOf, event: int | None = None) -> WhyView:
    """Why the last decision on the subject came out as it did, or what its ``event``-th fact says and sets.

    A decision rests on all that was on record when it was made, whatever ``as_of`` and ``known_at`` chose for the subject.
    ``policy`` finds a pinned policy by its hash. Raises ``command.invalid`` naming
    the events that can be explained when there is no such event, or nothing to say about it.
    """
    history = subject.history
    with telling(str(subject)):
        deadlines = _by_event(subject.case_id, history)
        explained = [
            _Explained(told, entry, deadlines[entry.event]) for told in retell(history) for entry in told.entries
        ]
    counted = {entry.case_seq for entry in subject.facts}
    in_case = [one for one in explained if one.entry.case_seq in counted and one.counts(counted)]
    own = [one for one in in_case if one.entry.stream == subject.stream and subject.concerns(one.entry)]
    chosen = _choose(subject, own, event, in_case)
    scope = in_case if subject.kind == "order" else own
    others = [one for one in scope if one.holds_ruling and one.target is not chosen.target]
    others += [one for one in own if not one.told.ruling and one.explains and one.entry is not chosen.entry]
    with telling(chosen.target.event):
        return _view(subject, chosen, others, deadlines[chosen.target.event], policy)


@dataclass(frozen=True, slots=True)
class _Explained:
    """A fact, and the command it came of."""

    told: Told
    entry: Recorded
    deadlines: Sequence[Deadline]
    """Those that the fact set, or that it says have passed."""

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
    def by_hand(self) -> str | None:
        """The reason a person gave who decided without the policy: denied a claim, voided a label, set a clause aside."""
        fact = self.entry.fact
        if isinstance(fact, ClaimDenied | LabelVoided | OverrideGranted) and not self.told.ruling:
            return fact.reason
        return None

    @property
    def explains(self) -> bool:
        """Whether there is anything to say about the fact."""
        if self.told.ruling is not None:
            return self.holds_ruling
        return bool(self.deadlines) or self.by_hand is not None

    def counts(self, counted: set[int]) -> bool:
        """Whether the decision of its command counts, too: between a request and its decision there is none yet."""
        return self.target.case_seq in counted


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
    deadlines: Sequence[Deadline],
    policy: PolicyOf,
) -> WhyView:
    told, target, history = chosen.told, chosen.target, subject.history
    fact = target.fact
    first = told.entries[0].case_seq
    before = [entry for entry in history if entry.case_seq < first]
    places = {entry.event: entry for entry in history}
    pins = _pins(target, [places[deadline.set_by] for deadline in deadlines], subject.case.order.confirmed.pins)
    judged_by = policy(pins.sha256)
    where = zone(judged_by.zone)
    record = Record(before, told, judged_by)
    clauses: list[ClauseWhy] = []
    anchors = [places[_anchor(deadline, judged_by).event] for deadline in deadlines]
    events = {entry.case_seq: entry for entry in anchors if entry is not target}
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
        deadlines=tuple(_deadline(deadline, judged_by, where) for deadline in deadlines),
        reason=chosen.by_hand,
        refund=_refund(fact, history, where) if isinstance(fact, RefundRequested) else None,
        events=tuple(_event(events[seq], where) for seq in sorted(events)),
        others=tuple(_other(one, where) for one in others),
    )


def _pins(target: Recorded, setters: Sequence[Recorded], of_order: Pins) -> Pins:
    """What judged the fact; one that records a passing was judged by what set the deadline, and what a person decided by
    hand stands beside the policy of the order."""
    pins: Pins | None = target.fact.pins
    if pins is None and setters:
        setter: Any = setters[0].fact
        pins = setter.pins
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


def _by_event(case_id: str, history: Iterable[Recorded]) -> Mapping[str, Sequence[Deadline]]:
    """Event → the deadlines that it set, or that it says have passed, as they stood then."""
    case, found = Case(case_id), {}
    for step in steps(case, history):
        event = step.entry.event
        # The lines of a parcel share its windows.
        found[event] = [
            *{each.name: each for each in deadlines_of(case) if event in (each.set_by, each.lapsed_by)}.values()
        ]
    return found


def _anchor(deadline: Deadline, policy: Policy) -> Anchor:
    from_issue = deadline.name == "void_at" and policy.clauses.returns_ship_by.anchor == "label_issued"
    return deadline.anchors[0 if from_issue else -1]


def _deadline(deadline: Deadline, policy: Policy, where: ZoneInfo) -> ResolvedDeadline:
    clause, anchor = policy.clause(deadline.clause), _anchor(deadline, policy)
    return ResolvedDeadline(
        name=deadline.name,
        at=in_zone(deadline.at, where),
        inclusive=deadline.inclusive,
        clause=deadline.clause,
        quote=clause.quote,
        reading=clause.reading,
        anchor=anchor.event,
        anchored_at=in_zone(anchor.at, where),
        because=_how_it_came(deadline.at, clause, anchor, policy, where),
    )


def _how_it_came(at: datetime, clause: Clause, anchor: Anchor, policy: Policy, where: ZoneInfo) -> str:
    anchored = f"{anchor.what} at {said(anchor.at, where)}"
    if isinstance(clause, Elapsed):
        unit = "hour" if clause.hours == 1 else "hours"
        return f"{clause.hours} {unit} after {anchored}: {said(at, where)}, that instant included."
    if not isinstance(clause, DayCounted):
        raise AssertionError("a clause with a deadline counts hours or days")
    days, counting = clause.span
    last = (at - A_MOMENT).astimezone(where)
    by = f" by {policy.days.name}/{policy.days.version}" if counting == "business" else ""
    unit = "day" if days == 1 else "days"
    return (
        f"{days} {counting} {unit}{by} after {anchored}: the last day is {last:%a %Y-%m-%d}, over at {said(at, where)}."
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

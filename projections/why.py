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
from returnable.domain.reasons import because, deduction_because, localised
from returnable.domain.recorded_commands import RecordedCommand, recorded_commands
from returnable.domain.ruling import ClauseResult
from returnable.domain.timetable import deadlines_of
from returnable.domain.wording import duration_in_words
from returnable.projections.audit_models import (
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
from returnable.projections.damage import explained_damage
from returnable.projections.provenance import Record, sourced
from returnable.projections.subjects import Subject
from returnable.projections.views import ActorView, DeductionView, RefundItemView


def why(subject: Subject, policy: PolicyOf, event: int | None = None) -> WhyView:
    """Why the last decision on the subject came out as it did, or what its ``event``-th fact says and sets.

    A decision rests on all that was on record when it was made, whatever ``as_of`` and ``known_at`` chose for the subject.
    ``policy`` finds a pinned policy by its hash. Raises ``command.invalid`` naming
    the events that can be explained when there is no such event, or nothing to say about it.
    """
    history = subject.history
    with explained_damage(str(subject)):
        deadlines = _by_event(subject.case_id, history)
        explained = [
            _Explained(past, entry, deadlines[entry.event_id])
            for past in recorded_commands(history)
            for entry in past.entries
        ]
    counted = {entry.case_seq for entry in subject.events}
    in_case = [one for one in explained if one.entry.case_seq in counted and one.counts(counted)]
    own = [one for one in in_case if one.entry.stream == subject.stream and subject.concerns(one.entry)]
    chosen = _choose(subject, own, event, in_case)
    scope = in_case if subject.kind == "order" else own
    others = [one for one in scope if one.holds_ruling and one.target is not chosen.target]
    others += [one for one in own if not one.past.ruling and one.explains and one.entry is not chosen.entry]
    with explained_damage(chosen.target.event_id):
        return _view(subject, chosen, others, deadlines[chosen.target.event_id], policy)


@dataclass(frozen=True, slots=True)
class _Explained:
    """A fact, and the command it came of."""

    past: RecordedCommand
    entry: Recorded
    deadlines: Sequence[Deadline]
    """Those that the fact set, or that it says have passed."""

    @property
    def target(self) -> Recorded:
        """What is explained: the decision of the command where there is one, else the fact itself."""
        if self.past.ruling is None:
            return self.entry
        return self.past.decided

    @property
    def holds_ruling(self) -> bool:
        return self.past.ruling is not None and self.target is self.entry

    @property
    def by_hand(self) -> str | None:
        """The reason a person gave who decided without the policy: denied a claim, voided a label, set a clause aside."""
        event = self.entry.event
        if isinstance(event, ClaimDenied | LabelVoided | OverrideGranted) and not self.past.ruling:
            return event.reason
        return None

    @property
    def explains(self) -> bool:
        """Whether there is anything to say about the fact."""
        if self.past.ruling is not None:
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
        decisions = [one for one in own if one.holds_ruling or isinstance(one.entry.event, ClaimDenied)]
        if not decisions:
            elsewhere = ", ".join(one.entry.event_id for one in in_case if one.holds_ruling)
            besides = f" (in its case: {elsewhere})" if elsewhere else ""
            raise _nothing(f"nothing was decided by the policy on {subject} itself{besides}", own)
        return decisions[-1]
    found = next((one for one in own if one.entry.version == event), None)
    if found is None:
        raise _nothing(f"{subject} has no event {event} that counts", own)
    if found.past.ruling is None and not found.explains:
        raise _nothing(f"{found.entry.event_id} {found.entry.event.type} holds no ruling and sets no deadline", own)
    return found


def _nothing(describe: str, own: Sequence[_Explained]) -> Impossible:
    able = ", ".join(f"{one.entry.version} {one.entry.event.type}" for one in own if one.explains)
    return Impossible("command.invalid", f"{describe}; can be explained: {able or 'nothing'}", field="event")


def _view(
    subject: Subject,
    chosen: _Explained,
    others: Sequence[_Explained],
    deadlines: Sequence[Deadline],
    policy: PolicyOf,
) -> WhyView:
    past, target, history = chosen.past, chosen.target, subject.history
    event = target.event
    first = past.entries[0].case_seq
    before = [entry for entry in history if entry.case_seq < first]
    places = {entry.event_id: entry for entry in history}
    pins = _pins(target, [places[deadline.set_by] for deadline in deadlines], subject.case.order.confirmed.pins)
    judged_by = policy(pins.sha256)
    tz = zone(judged_by.zone)
    record = Record(before, past, judged_by)
    clauses: list[ClauseWhy] = []
    anchors = [places[_anchor(deadline, judged_by).event] for deadline in deadlines]
    events = {entry.case_seq: entry for entry in anchors if entry is not target}
    for finding in sorted(past.ruling or (), key=lambda one: CLAUSE_IDS.index(one.clause)):
        clause, named = _clause(finding, record, judged_by, tz)
        clauses.append(clause)
        events |= {entry.case_seq: entry for entry in named}
    return WhyView(
        subject=str(subject),
        event=target.event_id,
        type=event.type,
        occurred_at=in_zone(event.occurred_at, tz),
        recorded_at=in_zone(event.recorded_at, tz),
        actor=ActorView(role=event.actor.role, id=event.actor.id) if event.actor else None,
        command=past.fields["command"],
        command_id=event.command_id,
        outcome=past.outcome,
        recorded=tuple(entry.event_id for entry in past.entries),
        pins=PinsView.model_validate(pins.model_dump()),
        clauses=tuple(clauses),
        deadlines=tuple(_deadline(deadline, judged_by, tz) for deadline in deadlines),
        reason=chosen.by_hand,
        refund=_refund(event, history, tz) if isinstance(event, RefundRequested) else None,
        events=tuple(_event(events[seq], tz) for seq in sorted(events)),
        others=tuple(_other(one, tz) for one in others),
    )


def _pins(target: Recorded, setters: Sequence[Recorded], of_order: Pins) -> Pins:
    """What judged the fact; one that records a passing was judged by what set the deadline, and what a person decided by
    hand stands beside the policy of the order."""
    pins: Pins | None = target.event.pins
    if pins is None and setters:
        setter: Any = setters[0].event
        pins = setter.pins
    return pins or of_order


def _event(entry: Recorded, tz: ZoneInfo) -> EventRef:
    event = entry.event
    return EventRef(
        event=entry.event_id,
        type=event.type,
        occurred_at=in_zone(event.occurred_at, tz),
        recorded_at=in_zone(event.recorded_at, tz),
    )


def _other(one: _Explained, tz: ZoneInfo) -> Explainable:
    return Explainable(
        event=one.entry.event_id,
        type=one.entry.event.type,
        at=in_zone(one.entry.event.occurred_at, tz),
        outcome=one.past.outcome if one.holds_ruling else None,
    )


# ---- clauses --------------------------------------------------------------------------------------------------------


def _clause(finding: ClauseResult, record: Record, policy: Policy, tz: ZoneInfo) -> tuple[ClauseWhy, list[Recorded]]:
    sources: list[FactSource] = []
    named: list[Recorded] = []
    for value, events in sourced(finding, record):
        name = value.key.rpartition(".")[2]
        sources.append(FactSource(key=value.key, value=localised({name: value.value}, tz)[name], sources=value.sources))
        named += events
    clause = policy.clause(finding.clause)
    why_so = ClauseWhy(
        clause=finding.clause,
        verdict=finding.verdict,
        quote=clause.quote,
        reading=clause.reading,
        because=because(finding, tz),
        facts=tuple(sources),
        deadline=_margin(finding, tz),
        override=_override(finding, tz),
    )
    return why_so, named


def _margin(finding: ClauseResult, tz: ZoneInfo) -> Margin | None:
    grounds: dict[str, Any] = {**finding.grounds}
    at = grounds.get("deadline", grounds.get("contact_by"))
    if at is None:
        return None
    inclusive = finding.clause in INCLUSIVE
    seconds = grounds.get("margin_seconds")
    return Margin(
        at=in_zone(datetime.fromisoformat(at), tz),
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
    return f"{duration_in_words(seconds)} {'left' if seconds > 0 else 'late'}"


def _override(finding: ClauseResult, tz: ZoneInfo) -> OverrideWhy | None:
    override: Any = finding.grounds.get("override")
    if override is None:
        return None
    return OverrideWhy(
        approved_by=override["approved_by"],
        reason=override["reason"],
        granted_at=in_zone(datetime.fromisoformat(override["granted_at"]), tz),
        event=override["fact"],
    )


# ---- deadlines ------------------------------------------------------------------------------------------------------


def _by_event(case_id: str, history: Iterable[Recorded]) -> Mapping[str, Sequence[Deadline]]:
    """Event → the deadlines that it set, or that it says have passed, as they stood then."""
    case, found = Case(case_id), {}
    for step in steps(case, history):
        event = step.entry.event_id
        # The lines of a parcel share its windows.
        found[event] = [
            *{each.name: each for each in deadlines_of(case) if event in (each.set_by, each.lapsed_by)}.values()
        ]
    return found


def _anchor(deadline: Deadline, policy: Policy) -> Anchor:
    from_issue = deadline.name == "void_at" and policy.clauses.returns_ship_by.anchor == "label_issued"
    return deadline.anchors[0 if from_issue else -1]


def _deadline(deadline: Deadline, policy: Policy, tz: ZoneInfo) -> ResolvedDeadline:
    clause, anchor = policy.clause(deadline.clause), _anchor(deadline, policy)
    return ResolvedDeadline(
        name=deadline.name,
        at=in_zone(deadline.at, tz),
        inclusive=deadline.inclusive,
        clause=deadline.clause,
        quote=clause.quote,
        reading=clause.reading,
        anchor=anchor.event,
        anchored_at=in_zone(anchor.at, tz),
        because=_how_it_came(deadline.at, clause, anchor, policy, tz),
    )


def _how_it_came(at: datetime, clause: Clause, anchor: Anchor, policy: Policy, tz: ZoneInfo) -> str:
    anchored = f"{anchor.what} at {describe(anchor.at, tz)}"
    if isinstance(clause, Elapsed):
        unit = "hour" if clause.hours == 1 else "hours"
        return f"{clause.hours} {unit} after {anchored}: {describe(at, tz)}, that instant included."
    if not isinstance(clause, DayCounted):
        raise AssertionError("a clause with a deadline counts hours or days")
    days, counting = clause.span
    last = (at - A_MOMENT).astimezone(tz)
    by = f" by {policy.days.name}/{policy.days.version}" if counting == "business" else ""
    unit = "day" if days == 1 else "days"
    return f"{days} {counting} {unit}{by} after {anchored}: the last day is {last:%a %Y-%m-%d}, over at {describe(at, tz)}."


def describe(instant: datetime, tz: ZoneInfo) -> str:
    """An instant for people, in that zone.

    >>> said(datetime.fromisoformat("2026-03-20T04:00:00+00:00"), zone("America/New_York"))
    'Fri 2026-03-20 00:00 EDT'
    """
    local = instant.astimezone(tz)
    clock = f"{local:%H:%M:%S.%f}" if local.microsecond else f"{local:%H:%M:%S}" if local.second else f"{local:%H:%M}"
    return f"{local:%a %Y-%m-%d} {clock} {local:%Z}"


# ---- money ----------------------------------------------------------------------------------------------------------


def _refund(event: RefundRequested, history: Sequence[Recorded], tz: ZoneInfo) -> RefundWhy:
    def money(amount: int) -> str:
        return to_major(amount, event.currency)

    confirmed: Any = history[0].event
    methods = {payment.payment_id: payment.method for payment in confirmed.payments}
    return RefundWhy(
        refund_id=event.refund_id,
        currency=event.currency,
        items=tuple(
            RefundItemView(
                line_id=item.line_id,
                quantity=item.quantity,
                merchandise=money(item.merchandise),
                tax=money(item.tax),
                deducted=money(item.deducted),
            )
            for item in event.items
        ),
        shipping=money(event.shipping),
        deductions=tuple(
            DeductionView(
                clause=deduction.clause,
                amount=money(deduction.amount),
                because=deduction_because(deduction.clause, deduction.grounds),
            )
            for deduction in event.deductions
        ),
        settled_before=money(event.settled_before),
        total=money(sum(tender.amount for tender in event.tenders)),
        tenders=tuple(
            PaidBack(payment_id=tender.payment_id, method=methods.get(tender.payment_id), amount=money(tender.amount))
            for tender in event.tenders
        ),
        expected_between=(event.expected_from.isoformat(), event.expected_to.isoformat()),
        overdue_at=in_zone(event.overdue_at, tz),
    )

"""Why: a decision with every clause it weighed, each value with the events behind it; or the origin of a deadline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from returnable.domain.calendar import A_MOMENT, zone
from returnable.domain.case import fold
from returnable.domain.deadlines import Anchor, Deadline
from returnable.domain.errors import Impossible
from returnable.domain.events import ClaimDenied, LabelVoided, OverrideGranted, RefundRequested
from returnable.domain.money import to_major
from returnable.domain.outcome import in_zone
from returnable.domain.policy import CLAUSE_IDS, INCLUSIVE, Clause, DayCounted, Elapsed, Policy, PolicyOf
from returnable.domain.ports import Recorded
from returnable.domain.reasons import because
from returnable.domain.recorded_commands import RecordedCommand, is_deadline, recorded_commands
from returnable.domain.ruling import ClauseResult
from returnable.domain.timetable import deadlines_of
from returnable.domain.wording import counted, instant_in_words, margin_in_words, plural
from returnable.projections.audit import envelope, turning_point
from returnable.projections.audit_models import (
    ClauseWhy,
    EventRef,
    EventSource,
    Explainable,
    Margin,
    OverrideWhy,
    RefundWhy,
    ResolvedDeadline,
    WhyView,
)
from returnable.projections.damage import explained_damage
from returnable.projections.provenance import Record, sourced
from returnable.projections.refunds import amounts
from returnable.projections.subjects import Subject


def why(subject: Subject, policy_of: PolicyOf, event: int | None = None) -> WhyView:
    """The reasons for the last decision on the subject, or the ruling and the deadlines of its ``event``-th event.

    A decision rests on everything that was recorded when it was made, whatever ``as_of`` and ``known_at`` chose for the
    subject. ``policy_of`` finds a pinned policy by its hash. Raises ``command.invalid``, which names the events that can
    be explained, if there is no such event or nothing explains it.
    """
    with explained_damage(str(subject)):
        case = fold(subject.case_id, subject.history)
        anchors = {anchor.event for deadline in deadlines_of(case) for anchor in deadline.anchors}
        explained = [
            _Explained(command, entry, entry.event_id in anchors or is_deadline(entry.event))
            for command in recorded_commands(subject.history)
            for entry in command.entries
        ]
    counted = {entry.case_seq for entry in subject.events}
    # Between a request and its decision there is no decision yet.
    in_case = [one for one in explained if {one.entry.case_seq, one.target.case_seq} <= counted]
    own = [one for one in in_case if one.entry.stream == subject.stream and subject.concerns(one.entry)]
    chosen = _choose(subject, own, event, in_case)
    scope = in_case if subject.kind == "order" else own
    others = [one for one in scope if one.holds_ruling and one.target is not chosen.target]
    others += [one for one in own if not one.command.ruling and one.explains and one.entry is not chosen.entry]
    with explained_damage(chosen.target.event_id):
        return _view(subject, chosen, others, policy_of)


@dataclass(frozen=True, slots=True)
class _Explained:
    """An event, and the command that recorded it."""

    command: RecordedCommand
    entry: Recorded
    has_deadlines: bool
    """Whether the event set a deadline, or records that one passed."""

    @property
    def target(self) -> Recorded:
        """The event to explain: the decision of the command if it made one, otherwise the event itself."""
        return self.entry if self.command.ruling is None else self.command.decided

    @property
    def holds_ruling(self) -> bool:
        return self.command.ruling is not None and self.target is self.entry

    @property
    def by_hand(self) -> str | None:
        """The reason of a person who decided without the policy: denied a claim, voided a label, set a clause aside."""
        event = self.entry.event
        if isinstance(event, ClaimDenied | LabelVoided | OverrideGranted) and not self.command.ruling:
            return event.reason
        return None

    @property
    def explains(self) -> bool:
        """Whether there is anything to say about the event."""
        if self.command.ruling is not None:
            return self.holds_ruling
        return self.has_deadlines or self.by_hand is not None


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
    if found.command.ruling is None and not found.explains:
        raise _nothing(f"{found.entry.event_id} {found.entry.event.type} holds no ruling and sets no deadline", own)
    return found


def _nothing(problem: str, own: Sequence[_Explained]) -> Impossible:
    able = ", ".join(f"{one.entry.version} {one.entry.event.type}" for one in own if one.explains)
    return Impossible("command.invalid", f"{problem}; can be explained: {able or 'nothing'}", field="event")


def _view(subject: Subject, chosen: _Explained, others: Sequence[_Explained], policy_of: PolicyOf) -> WhyView:
    command, target, history = chosen.command, chosen.target, subject.history
    event = target.event
    places = {entry.event_id: entry for entry in history}
    deadlines = _deadlines_of(target, history)
    # The event that records a passing pins no policy: what set the deadline does. A person who decided by hand pins none.
    setters = [places[deadline.set_by].event for deadline in deadlines]
    pins = event.pins or (setters[0].pins if setters else None) or subject.case.order.confirmed.pins
    policy = policy_of(pins.sha256)
    tz = zone(policy.zone)
    record = Record(history[: command.entries[0].case_seq - 1], command, policy)
    clauses: list[ClauseWhy] = []
    anchors = [places[_anchor(deadline, policy).event] for deadline in deadlines]
    events = {entry.case_seq: entry for entry in anchors if entry is not target}
    for result in sorted(command.ruling or (), key=lambda one: CLAUSE_IDS.index(one.clause)):
        clause, named = _clause(result, record, policy, tz)
        clauses.append(clause)
        events |= {entry.case_seq: entry for entry in named}
    return WhyView(
        subject=str(subject),
        event=target.event_id,
        **envelope(event, tz),
        command=command.fields["command"],
        outcome=command.outcome,
        recorded=tuple(entry.event_id for entry in command.entries),
        pins=pins,
        clauses=tuple(clauses),
        deadlines=tuple(_deadline(deadline, policy, tz) for deadline in deadlines),
        reason=chosen.by_hand,
        refund=_refund(event, history, tz) if isinstance(event, RefundRequested) else None,
        events=tuple(_event(events[seq], tz) for seq in sorted(events)),
        others=tuple(_other(one, tz) for one in others),
    )


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
        outcome=one.command.outcome if one.holds_ruling else None,
    )


# ---- clauses --------------------------------------------------------------------------------------------------------


def _clause(result: ClauseResult, record: Record, policy: Policy, tz: ZoneInfo) -> tuple[ClauseWhy, list[Recorded]]:
    sources: list[EventSource] = []
    named: list[Recorded] = []
    for source, events in sourced(result, record, tz):
        sources.append(source)
        named += events
    clause = policy.clause(result.clause)
    why_so = ClauseWhy(
        clause=result.clause,
        verdict=result.verdict,
        quote=clause.quote,
        reading=clause.reading,
        because=because(result, tz),
        facts=tuple(sources),
        deadline=_margin(result, tz),
        override=_override(result, tz),
    )
    return why_so, named


def _margin(result: ClauseResult, tz: ZoneInfo) -> Margin | None:
    at, seconds = turning_point(result)
    if at is None:
        return None
    inclusive = result.clause in INCLUSIVE
    return Margin(
        at=in_zone(at, tz),
        inclusive=inclusive,
        margin_seconds=seconds,
        margin=None if seconds is None else margin_in_words(seconds, inclusive=inclusive),
    )


def _override(result: ClauseResult, tz: ZoneInfo) -> OverrideWhy | None:
    override: Any = result.grounds.get("override")
    if override is None:
        return None
    expires_at = override.get("expires_at")
    return OverrideWhy(
        approved_by=override["approved_by"],
        reason=override["reason"],
        granted_at=in_zone(datetime.fromisoformat(override["granted_at"]), tz),
        event=override["fact"],
        lines=override.get("lines", ()),
        expires_at=in_zone(datetime.fromisoformat(expires_at), tz) if expires_at is not None else None,
        once=override.get("once", True),
    )


# ---- deadlines ------------------------------------------------------------------------------------------------------


def _deadlines_of(entry: Recorded, history: Sequence[Recorded]) -> Sequence[Deadline]:
    """The deadlines that an event set, or whose passing it records, as they stood then."""
    case, event = fold(entry.case_id, history[: entry.case_seq]), entry.event_id
    # The lines of a parcel share its windows.
    return [*{each.name: each for each in deadlines_of(case) if event in (each.set_by, each.lapsed_by)}.values()]


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
        because=_how_counted(deadline.at, clause, anchor, policy, tz),
    )


def _how_counted(at: datetime, clause: Clause, anchor: Anchor, policy: Policy, tz: ZoneInfo) -> str:
    anchored = f"{anchor.what} at {instant_in_words(anchor.at, tz)}"
    if isinstance(clause, Elapsed):
        return f"{counted(clause.hours, 'hour')} after {anchored}: {instant_in_words(at, tz)}, that instant included."
    if not isinstance(clause, DayCounted):
        raise AssertionError("a clause with a deadline counts hours or days")
    days, counting = clause.span
    last = (at - A_MOMENT).astimezone(tz)
    by = f" by {policy.days.name}/{policy.days.version}" if counting == "business" else ""
    last_day = f"the last day is {last:%a %Y-%m-%d}, over at {instant_in_words(at, tz)}"
    return f"{days} {counting} {plural(days, 'day', 'days')}{by} after {anchored}: {last_day}."


# ---- money ----------------------------------------------------------------------------------------------------------


def _refund(event: RefundRequested, history: Sequence[Recorded], tz: ZoneInfo) -> RefundWhy:
    confirmed: Any = history[0].event
    methods = {payment.payment_id: payment.method for payment in confirmed.payments}
    total = sum(tender.amount for tender in event.tenders)
    values = amounts(event, event.currency, event, total) | {
        "refund_id": event.refund_id,
        "tenders": [
            {
                "payment_id": tender.payment_id,
                "method": methods.get(tender.payment_id),
                "amount": to_major(tender.amount, event.currency),
                "payout_id": tender.payout_id,
            }
            for tender in event.tenders
        ],
        "expected_between": (event.expected_from.isoformat(), event.expected_to.isoformat()),
        "overdue_at": in_zone(event.overdue_at, tz),
    }
    return RefundWhy.model_validate({name: values[name] for name in RefundWhy.model_fields})

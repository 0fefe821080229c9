"""Builds the audit report of one subject from its events.

The report of an order covers its whole case. The report of a return or a claim covers its own events and those of the
order on which they rest; the report of a refund is that of what it pays for, with the refund in focus. The same store,
subject and moment give the same report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from pydantic import JsonValue

from returnable.domain.calendar import zone
from returnable.domain.case import Case, countable
from returnable.domain.claims import Claim
from returnable.domain.deadlines import Deadline, passed
from returnable.domain.deciding import DecisionContext
from returnable.domain.errors import Impossible
from returnable.domain.events import (
    AccountLinked,
    Cancelled,
    Confirmed,
    Event,
    ExceptionRaised,
    OverrideGranted,
    UnitsCancelled,
)
from returnable.domain.ids import StreamId
from returnable.domain.lifecycles import CLAIM, NOTHING, ORDER, RETURN
from returnable.domain.money import sum_to_minor, to_major
from returnable.domain.outcome import clause_views, in_zone
from returnable.domain.policy import Policy, PolicyOf
from returnable.domain.ports import Counted, Damage, EventStore, Recorded
from returnable.domain.reasons import because, localised
from returnable.domain.recorded_commands import outcome_of
from returnable.domain.refunds.owed import owed
from returnable.domain.refunds.request import check_may_request, may_request
from returnable.domain.refunds.state import Refund
from returnable.domain.returns.state import Return
from returnable.domain.timetable import deadlines_of
from returnable.domain.wording import duration_in_words
from returnable.projections import ledger
from returnable.projections.audit import details, envelope, refusals_counted
from returnable.projections.damage import explained_damage
from returnable.projections.lookalikes import ids_in, looking_alike
from returnable.projections.orders import returned_units
from returnable.projections.refunds import due_view, refund_view
from returnable.projections.report.model import (
    DeadlineEntry,
    DeadlineState,
    EventEntry,
    GoodsLine,
    Lifecycle,
    LifecyclePath,
    LifecycleStep,
    Money,
    Move,
    NothingDue,
    Open,
    OverrideEntry,
    PolicyStamp,
    RefundSheet,
    Report,
    RulingEntry,
    StorePosition,
    SumRow,
)
from returnable.projections.report.wording import spoken
from returnable.projections.subjects import Subject, find_subject
from returnable.projections.views import ActorView, RefundView, WorkItem
from returnable.projections.worklist import waiting_in, worklist_view

_Owned = TypeVar("_Owned", Return, Claim, Refund)

# ---- the events that count --------------------------------------------------------------------------------------------

_LIFECYCLES = {"order": ORDER, "return": RETURN, "claim": CLAIM}


@dataclass(frozen=True, slots=True)
class _TimelineEvent:
    """An event that counts, with its effects."""

    entry: Recorded
    before: str | None
    after: str
    moves: tuple[Move, ...]

    @property
    def event(self) -> Event:
        return self.entry.event

    @staticmethod
    def of(entry: Recorded, before: Case, after: Case) -> _TimelineEvent:
        stream = entry.stream
        moves = tuple(_moves(before, after, entry))
        return _TimelineEvent(entry, before.status_of(stream), after.status_of(stream) or NOTHING, moves)


def _moves(before: Case, after: Case, entry: Recorded) -> Iterator[Move]:
    kind, name = StreamId.parse(entry.stream)
    assert kind != "arrival"  # no report is about one
    event = entry.event
    was = before.status_of(entry.stream)
    if _LIFECYCLES[kind].allows(was or NOTHING, event.type):
        yield _move(kind, name, was, after.status_of(entry.stream))
    back = after.way_back(entry.stream)
    if back is not None:
        was_back = before.way_back(entry.stream)
        labels = {} if was_back is None else was_back.labels
        for label_id, label in back.labels.items():
            old = labels.get(label_id)
            if old != label:
                yield _move("label", label_id, old.status if old else None, label.status, back.name)
    refund_id = event.refund_id
    if refund_id is not None:
        old_refund = before.refunds.get(refund_id)
        yield _move("refund", refund_id, old_refund.status if old_refund else None, after.refunds[refund_id].status)


def _move(lifecycle: Lifecycle, name: str, before: str | None, after: str | None, of: str | None = None) -> Move:
    return Move(lifecycle=lifecycle, name=name, of=of, before=before, after=after or NOTHING)


# ---- the report -------------------------------------------------------------------------------------------------------


def make_report(
    store: EventStore,
    policy_of: PolicyOf,
    subject: str,
    at: datetime,
    as_of: datetime | None = None,
    known_at: datetime | None = None,
    damaged: Callable[[Damage], None] | None = None,
) -> Report:
    """The report of a subject (named as for :func:`find_subject`), made at ``at``.

    ``policy_of`` finds a pinned policy by its hash. Raises ``order.unknown`` and so on if there is no such subject there
    and then. With ``damaged``, a case with an unreadable event is reported up to that event, and ``damaged`` is called.
    """
    head = store.head()
    found = find_subject(store, policy_of, subject, as_of, known_at, damaged)
    counted = refusals_counted(store, found.events, as_of, known_at)
    return report_of(found, at, head, as_of, known_at, counted)


def report_of(
    subject: Subject,
    at: datetime,
    head: int,
    as_of: datetime | None = None,
    known_at: datetime | None = None,
    counted: Mapping[int, Counted] | None = None,
) -> Report:
    """The report of a subject; ``head``: the position of the store's last event; ``counted``: the counted refusals."""
    with explained_damage(str(subject)):
        scene = _Scene.of(subject, as_of or at.astimezone(UTC), counted or {})
        case, tz = subject.case, scene.tz
        last, damage = scene.events[-1], subject.damage
        assert subject.kind != "arrival"  # no report is about one
        confirmed = case.order.confirmed
        deadlines = sorted(_deadlines(scene), key=lambda each: datetime.fromisoformat(each.at))
        return Report(
            subject=str(subject),
            kind=subject.kind,
            id=subject.name,
            order_id=case.order.order_id,
            pays_for=subject.stream if subject.kind == "refund" else None,
            state=case.refunds[subject.name].status
            if subject.kind == "refund"
            else case.status_of(subject.stream) or NOTHING,
            customer_id=confirmed.customer.customer_id,
            customer_name=confirmed.customer.name,
            customer_email=confirmed.customer.email,
            generated_at=in_zone(at, tz),
            moment=in_zone(scene.moment, tz),
            as_of=in_zone(as_of, tz) if as_of is not None else None,
            known_at=in_zone(known_at, tz) if known_at is not None else None,
            policy=PolicyStamp.of(confirmed.pins),
            store=StorePosition(
                position=max(head, subject.events[-1].position),
                last_fact=last.entry.event_id,
                last_fact_position=last.entry.position,
                facts=len(scene.events),
                damaged=f"{damage.event_id}: {damage.reason}" if damage is not None else None,
            ),
            goods=tuple(_goods(scene)),
            timeline=_timeline(scene, deadlines),
            lifecycles=tuple(_paths(scene)),
            overrides=tuple(_overrides(scene)),
            rulings=tuple(_rulings(scene)),
            money=_money(scene),
            open=Open(work=tuple(_work(scene)), deadlines=tuple(each for each in deadlines if each.state == "pending")),
            look_alikes=looking_alike(_ids(scene)),
        )


def _ids(scene: _Scene) -> Iterator[str]:
    yield from ids_in({"order_id": scene.case.order.order_id, "id": scene.subject.name})
    for one in scene.shown:
        yield StreamId.parse(one.entry.stream).id
        yield from ids_in(one.event.model_dump(mode="json", exclude={"ruling", "pins"}))


@dataclass(frozen=True, slots=True)
class _Scene:
    """The subject with its events, and the part of the case that the report is about."""

    subject: Subject
    moment: datetime
    tz: ZoneInfo
    events: Sequence[_TimelineEvent]
    """The events of the case that count."""
    stream: str | None
    """The one stream that the report is about; ``None``: the whole case."""
    background: frozenset[str]
    """The ids of the order's events on which the stream rests."""
    counted: Mapping[int, Counted]
    """Place of an event in the case → the refusals that were counted in it."""

    @classmethod
    def of(cls, subject: Subject, moment: datetime, counted: Mapping[int, Counted]) -> _Scene:
        events = [_TimelineEvent.of(*each) for each in countable(subject.case_id, subject.events)]
        stream = None if subject.stream.startswith("order/") else subject.stream
        background = frozenset(_rested_on(subject, events) if stream is not None else ())
        return cls(subject, moment, zone(subject.policy.zone), events, stream, background, counted)

    @property
    def case(self) -> Case:
        return self.subject.case

    @property
    def policy(self) -> Policy:
        return self.subject.policy

    @property
    def shown(self) -> Iterator[_TimelineEvent]:
        """The events that the report shows."""
        return (one for one in self.events if self.about(one.entry.stream) or one.entry.event_id in self.background)

    def about(self, stream: str) -> bool:
        """Whether the report is about that stream."""
        return self.stream is None or stream == self.stream

    def place(self, one: _TimelineEvent) -> dict[str, Any]:
        """Whether the event is in the background, and whether it belongs to the refund in question."""
        focus = self.subject.kind == "refund" and self.subject.concerns(one.entry)
        return {"background": one.entry.event_id in self.background, "focus": focus}

    def own(self, subjects: Mapping[str, _Owned]) -> list[_Owned]:
        """Those returns, claims or refunds of the case that the report is about."""
        return [one for one in subjects.values() if self.about(one.stream)]

    @property
    def line_ids(self) -> list[str]:
        """The lines that the report is about, in the order's order."""
        if self.stream is None:
            return list(self.case.order.lines)
        wanted = {line.line_id for ret in self.own(self.case.returns) for line in ret.lines}
        wanted |= {claim.line_id for claim in self.own(self.case.claims)}
        return [line_id for line_id in self.case.order.lines if line_id in wanted]


def _rested_on(subject: Subject, events: Sequence[_TimelineEvent]) -> Iterator[str]:
    """The ids of the order's events on which a return or a claim rests."""
    case = subject.case
    kind, name = StreamId.parse(subject.stream)
    lines = {line.line_id for line in case.returns[name].lines} if kind == "return" else {case.claims[name].line_id}
    parcels = {p.parcel_id for p in case.order.parcels.values() if lines & p.units.keys()}
    rests = False
    for one in events:
        event = one.event
        if one.entry.stream != case.order.stream:
            continue
        if event.parcel_id is not None:
            rests = event.parcel_id in parcels
        elif isinstance(event, UnitsCancelled):
            rests = any(units.line_id in lines for units in event.lines)
        elif isinstance(event, ExceptionRaised):
            pass  # it stands right after the event that it is about
        elif isinstance(event, OverrideGranted):
            rests = not event.clause.startswith("cancellation.")
        else:
            rests = isinstance(event, Confirmed | AccountLinked | Cancelled)
        if rests:
            yield one.entry.event_id


def _goods(scene: _Scene) -> Iterator[GoodsLine]:
    order = scene.case.order
    for line_id in scene.line_ids:
        line = order.lines[line_id]
        yield GoodsLine(
            line_id=line.line_id,
            sku=line.sku,
            description=line.description,
            unit_price=to_major(line.unit_price, order.currency),
            quantity=line.quantity,
            tax=to_major(line.tax, order.currency),
            final_sale=line.final_sale,
            fates=tuple((state, count) for state, count in _fates(scene, line_id) if count),
        )


def _fates(scene: _Scene, line_id: str) -> Iterator[tuple[str, int]]:
    case = scene.case
    if scene.stream is None:
        returning, returned = returned_units(case, line_id)
        yield "cancelled by the shop", case.order.cancelled(line_id)
        yield "in parcels", case.order.in_parcels(line_id)
        yield "delivered", case.order.delivered(line_id)
        yield "in open returns", returning
        yield "returned and refunded", returned
    for ret in scene.own(case.returns) if scene.stream is not None else ():
        yield "in this return", ret.quantity(line_id)
        yield "accepted", ret.accepted.get(line_id, 0)
        yield "rejected", ret.rejected.get(line_id, 0)
        yield "sent back", ret.sent_back.get(line_id, 0)
    for claim in scene.own(case.claims):
        if claim.line_id == line_id:
            yield f"in claim {claim.claim_id}" if scene.stream is None else "in this claim", claim.quantity


# ---- timeline ---------------------------------------------------------------------------------------------------------


def _timeline(scene: _Scene, deadlines: Sequence[DeadlineEntry]) -> tuple[EventEntry | DeadlineEntry, ...]:
    entries: list[EventEntry | DeadlineEntry] = []
    waiting = [each for each in deadlines if not each.ahead]
    for one in scene.shown:
        while waiting and passed(waiting[0].clause, datetime.fromisoformat(waiting[0].at), one.event.recorded_at):
            entries.append(waiting.pop(0))
        entries.append(_event_entry(scene, one))
    return (*entries, *waiting, *(each for each in deadlines if each.ahead))


def _event_entry(scene: _Scene, one: _TimelineEvent) -> EventEntry:
    event, tz = one.event, scene.tz
    later = (event.recorded_at - event.occurred_at).total_seconds()
    counted = scene.counted.get(one.entry.case_seq)
    title = event.title
    if counted is not None:
        title += f", and {counted.times:,} more times, last on {spoken(in_zone(counted.last_at, tz), tz)}"
    return EventEntry(
        event=one.entry.event_id,
        title=title,
        **envelope(event, tz),
        learnt_later=duration_in_words(later) if later > 0 else None,
        outcome=outcome_of([event]) if event.ruling else None,
        before=one.before,
        after=one.after,
        moves=one.moves,
        details=localised(_own_details(one, scene.case.order.currency, counted), tz),
        **scene.place(one),
    )


def _own_details(one: _TimelineEvent, currency: str, counted: Counted | None) -> dict[str, JsonValue]:
    """The fields of the event without the id of its own stream, which the report shows anyway."""
    kind, name = StreamId.parse(one.entry.stream)
    content = details(one.event, currency, counted)
    return {key: value for key, value in content.items() if (key, value) != (f"{kind}_id", name)}


# ---- deadlines --------------------------------------------------------------------------------------------------------


def _deadlines(scene: _Scene) -> Iterator[DeadlineEntry]:
    """The deadlines that the events of the report set, in no order."""
    shown: dict[tuple[str, datetime], Deadline] = {}
    for deadline in deadlines_of(scene.case, scene.stream):
        # The lines of a parcel share its windows: the first settlement counts.
        known = shown.setdefault((deadline.title, deadline.at), deadline)
        if deadline.settled and (known.settled is None or deadline.settled < known.settled):
            shown[deadline.title, deadline.at] = deadline
    for deadline in shown.values():
        state, note = _outcome(scene, deadline)
        yield DeadlineEntry(
            at=in_zone(deadline.at, scene.tz),
            inclusive=deadline.inclusive,
            title=deadline.title,
            clause=deadline.clause,
            state=state,
            note=note,
            event=deadline.set_by,
            ahead=not deadline.passed(scene.moment),
        )


def _outcome(scene: _Scene, deadline: Deadline) -> tuple[DeadlineState, str | None]:
    """The state of a deadline at the moment of the report, and a note on it."""
    settled, over = deadline.settled, deadline.passed(scene.moment)
    if settled is None or (settled.how == "missed" and not over):
        if not over:
            return "pending", None
        return "passed" if deadline.optional else "missed", f"not {deadline.awaited} by then"
    event = f"({settled.event}{', declined' if settled.refused else ''})"
    if settled.how == "lifted":
        return "lifted", f"{settled.what} {event}"
    apart = duration_in_words((settled.at - deadline.at).total_seconds())
    if settled.how == "missed":
        return "missed", f"{settled.what} {apart} after {event}"
    # While an opportunity lasts it can be used again.
    lasts = deadline.optional and not over and scene.case.order.status != "cancelled"
    return "pending" if lasts else "met", f"{settled.what} {apart} before {event}"


# ---- lifecycles -------------------------------------------------------------------------------------------------------


def _paths(scene: _Scene) -> Iterator[LifecyclePath]:
    """One path for each lifecycle that the report is about, in the order in which they began."""
    steps: dict[tuple[Lifecycle, str, str | None], list[tuple[_TimelineEvent, Move]]] = {}
    for one in scene.events:
        if scene.about(one.entry.stream):
            for move in one.moves:
                steps.setdefault((move.lifecycle, move.name, move.of), []).append((one, move))
    for (lifecycle, name, of), taken in steps.items():
        state = taken[-1][1].after
        yield LifecyclePath(
            lifecycle=lifecycle,
            name=name,
            of=of,
            state=state,
            by_the_clock=_by_the_clock(scene, name, of, state) if lifecycle == "label" else None,
            steps=tuple(
                LifecycleStep(
                    number=number,
                    event=one.entry.event_id,
                    type=one.event.type,
                    title=one.event.title,
                    before=move.before,
                    after=move.after,
                    occurred_at=in_zone(one.event.occurred_at, scene.tz),
                )
                for number, (one, move) in enumerate(taken, start=1)
            ),
        )


def _by_the_clock(scene: _Scene, label_id: str, of: str | None, state: str) -> str | None:
    """The state that time has brought a label to which its events leave as issued."""
    back = next((ret for ret in scene.case.ways_back if ret.name == of), None)
    if state != "issued" or back is None:
        return None
    status = back.labels[label_id].status_at(scene.moment)
    return status if status != state else None


# ---- rulings ----------------------------------------------------------------------------------------------------------


def _rulings(scene: _Scene) -> Iterator[RulingEntry]:
    for one in scene.shown:
        event = one.event
        if event.ruling and event.pins is not None:
            yield RulingEntry(
                event=one.entry.event_id,
                type=event.type,
                title=event.title,
                outcome=outcome_of([event]),
                decided_at=in_zone(event.recorded_at, scene.tz),
                actor=ActorView.of(event),
                policy=PolicyStamp.of(event.pins),
                clauses=clause_views(event.ruling, scene.policy),
                **scene.place(one),
            )


def _overrides(scene: _Scene) -> Iterator[OverrideEntry]:
    for one in scene.shown:
        event = one.event
        if isinstance(event, OverrideGranted):
            granted = next(
                each for each in scene.case.stream_of(one.entry.stream).overrides if each.event == one.entry.event_id
            )
            yield OverrideEntry(
                event=one.entry.event_id,
                clause=event.clause,
                quote=scene.policy.clause(event.clause).quote,
                reason=event.reason,
                approved_by=event.approved_by,
                granted_at=in_zone(event.occurred_at, scene.tz),
                actor=ActorView.of(event),
                lines=event.lines,
                expires_at=in_zone(event.expires_at, scene.tz) if event.expires_at is not None else None,
                once=event.once,
                used_by=tuple(each.entry.event_id for each in scene.shown if _uses(each.event, one.entry.event_id)),
                used_up_by=granted.used_by.event if granted.used_by is not None else None,
            )


def _uses(event: Event, override: str) -> bool:
    used = [result.grounds.get("override") for result in event.ruling or ()]
    return any(isinstance(each, dict) and each.get("fact") == override for each in used)


# ---- money ------------------------------------------------------------------------------------------------------------


def _money(scene: _Scene) -> Money:
    case, policy = scene.case, scene.policy
    sheets = [_sheet(scene, refund_view(refund, policy, scene.moment)) for refund in scene.own(case.refunds)]
    nothing: list[NothingDue] = []
    now = DecisionContext(scene.moment, policy)
    order = case.order
    streams = [order.stream] if scene.stream is None else []
    streams += [ret.stream for ret in scene.own(case.returns)] + [claim.stream for claim in scene.own(case.claims)]
    for stream in streams:
        due = _due(scene, stream, now)
        if isinstance(due, RefundView):
            sheets.append(_sheet(scene, due))
        elif due is not None:
            nothing.append(due)
    return Money(
        currency=order.currency,
        sheets=tuple(sheets),
        nothing_due=tuple(nothing),
        payments=tuple(ledger.entry(balance) for balance in ledger.balances(case)),
        total=ledger.money(case),
    )


def _due(scene: _Scene, stream: str, now: DecisionContext) -> RefundView | NothingDue | None:
    """The refund that a stream is owed and nobody requested, or why none is; ``None`` if none can be requested."""
    case = scene.case
    about = case.refund_subject(stream)
    subject = about.subject
    if isinstance(subject, Return) and not RETURN.allows(subject.status, "RefundRequested"):
        return None
    try:
        check_may_request(about, "refund")
        weighing = about.weighing(now)
        due = owed(about, weighing)
        if due.items and weighing.allowed and may_request(about, due, scene.policy) is not None:
            return due_view(about, scene.policy, now)
        reasons = [because(result, scene.tz) for result in weighing.findings if result.verdict == "fail"]
    except Impossible as error:
        if error.code == "transition.not_allowed":
            return None
        reasons = [error.message]
    if about.attempts or not reasons:
        return None
    return NothingDue.model_validate({"for": StreamId.parse(stream)._asdict(), "reasons": tuple(reasons)})


def _sheet(scene: _Scene, view: RefundView) -> RefundSheet:
    methods = {payment.payment_id: payment.method for payment in scene.case.order.confirmed.payments}
    return RefundSheet.model_validate(
        view.model_dump(by_alias=True)
        | {
            "rows": tuple(_sum(scene, view)),
            "methods": tuple(methods.get(tender.payment_id, "") for tender in view.tenders),
            "focus": scene.subject.kind == "refund" and view.refund_id == scene.subject.name,
        }
    )


def _sum(scene: _Scene, view: RefundView) -> Iterator[SumRow]:
    currency, total = view.currency, 0

    def row(what: str, amount: int, because: str | None = None) -> SumRow:
        nonlocal total
        total += amount
        return SumRow(what=what, amount=to_major(amount, currency), because=because)

    def minor(amount: str) -> int:
        return sum_to_minor(amount, currency)

    for item in view.items:
        price = to_major(scene.case.order.lines[item.line_id].unit_price, currency)
        yield row(f"Line {item.line_id}: {item.quantity} × {price}", minor(item.merchandise))
        if minor(item.tax):
            yield row(f"Line {item.line_id}: tax", minor(item.tax))
    if minor(view.shipping):
        yield row("Outbound shipping, with its tax", minor(view.shipping))
    for deduction in view.deductions:
        yield row(f"Deduction: {deduction.clause}", -minor(deduction.amount), deduction.because)
    if minor(view.settled_before):
        yield row("Paid or pending by earlier attempts", -minor(view.settled_before))
    for credit in view.credits:
        yield row(f"Paid already by refund {credit.refund_id}", -minor(credit.amount))
    if minor(view.voided):
        yield row("Authorised and never captured: voided", -minor(view.voided))
    rest = minor(view.total) - total
    if view.kind is not None:
        yield row(f"Paid without the desk's asking ({view.kind})", rest)
    elif rest:
        why = "An earlier attempt paid more than is owed now: nothing is asked back." if total < 0 else None
        yield row("Adjustment to what is paid", rest, why)


def _work(scene: _Scene) -> Iterator[WorkItem]:
    for item in worklist_view(waiting_in(scene.case, scene.policy), None, scene.moment).items:
        if scene.about(scene.case.stream_with(StreamId(item.subject.kind, item.subject.id))):
            yield item

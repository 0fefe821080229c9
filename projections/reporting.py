"""Makes the audit report of one subject from its facts.

An order is reported with its whole case; a return or a claim with its own facts and with what these rest on from the
order; a refund as what it pays for, with the refund in focus. The same store, subject and moment give the same report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
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
    Delivered,
    Event,
    ExceptionRaised,
    OverrideGranted,
    Pins,
    Shipped,
)
from returnable.domain.ids import StreamId
from returnable.domain.lifecycles import CLAIM, LABEL, NOTHING, ORDER, REFUND, RETURN
from returnable.domain.money import sum_to_minor, to_major
from returnable.domain.outcome import clause_views, in_zone
from returnable.domain.policy import Policy, PolicyOf
from returnable.domain.ports import Counted, Damage, EventStore, Recorded
from returnable.domain.reasons import because, localised
from returnable.domain.recorded_commands import outcome_of
from returnable.domain.refunds.owed import owed
from returnable.domain.refunds.request import check_may_request
from returnable.domain.refunds.state import Refund
from returnable.domain.returns.state import Return
from returnable.domain.timetable import deadlines_of
from returnable.domain.wording import duration_in_words
from returnable.projections import ledger
from returnable.projections.audit import details, refusals_counted
from returnable.projections.damage import explained_damage
from returnable.projections.lookalikes import ids_in, looking_alike
from returnable.projections.orders import returned_units
from returnable.projections.refunds import due_view, refund_view
from returnable.projections.report import (
    DeadlineEntry,
    FactEntry,
    GoodsLine,
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
    spoken,
)
from returnable.projections.subjects import Subject, find_subject
from returnable.projections.views import ActorView, RefundView, WorkItem
from returnable.projections.worklist import waiting_in, worklist_view

# ---- the facts that count, one after the other ------------------------------------------------------------------------

_TABLES = {"order": ORDER, "return": RETURN, "label": LABEL, "refund": REFUND, "claim": CLAIM}


@dataclass(frozen=True, slots=True)
class _TimelineEvent:
    """A fact that counts, with what it moved."""

    entry: Recorded
    before: str | None
    after: str
    moves: tuple[Move, ...]

    @property
    def event(self) -> Event:
        return self.entry.event

    @property
    def event_id(self) -> str:
        return self.entry.event_id


def _timeline_events(case_id: str, recorded: Iterable[Recorded]) -> list[_TimelineEvent]:
    """Every fact that counts; one whose cause does not count does not count either."""
    return [
        _TimelineEvent(
            entry,
            before.status_of(entry.stream),
            after.status_of(entry.stream) or NOTHING,
            tuple(_moves(before, after, entry)),
        )
        for entry, before, after in countable(case_id, recorded)
    ]


def _moves(before: Case, after: Case, entry: Recorded) -> Iterator[Move]:
    kind, name = StreamId.parse(entry.stream)
    event = entry.event
    was = before.status_of(entry.stream)
    if _TABLES[kind].allows(was or NOTHING, event.type):
        yield _move(kind, name, was, after.status_of(entry.stream))
    if kind == "return":
        labels = before.returns[name].labels if name in before.returns else {}
        for label_id, label in after.returns[name].labels.items():
            old = labels.get(label_id)
            if old != label:
                yield _move("label", label_id, old.status if old else None, label.status, name)
    refund_id = event.refund_id
    if refund_id is not None:
        old_refund = before.refunds.get(refund_id)
        yield _move("refund", refund_id, old_refund.status if old_refund else None, after.refunds[refund_id].status)


def _move(lifecycle: str, name: str, before: str | None, after: str | None, of: str | None = None) -> Move:
    return Move.model_validate(
        {"lifecycle": lifecycle, "name": name, "of": of, "before": before, "after": after or NOTHING}
    )


# ---- the report -------------------------------------------------------------------------------------------------------


def make_report(
    store: EventStore,
    policy: PolicyOf,
    subject: str,
    at: datetime,
    as_of: datetime | None = None,
    known_at: datetime | None = None,
    damaged: Callable[[Damage], None] | None = None,
) -> Report:
    """The report of a subject (as :func:`find_subject` understands it), made with the clock at ``at``.

    ``policy`` finds a pinned policy by its hash. Raises ``order.unknown`` and so on when there is no such subject there and
    then. With ``damaged``, which is told, a case with a fact that cannot be read is reported up to there.
    """
    head = store.head()
    found = find_subject(store, policy, subject, as_of, known_at, damaged)
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
    """The report of a subject that was found; ``head``: the position of the store's last fact.

    ``counted`` are the refusals of the case that are only counted.
    """
    with explained_damage(str(subject)):
        scene = _Scene.of(subject, as_of or at.astimezone(UTC), counted or {})
        case, tz = subject.case, scene.tz
        past = scene.past
        last = past[-1]
        damage = subject.damage
        confirmed = case.order.confirmed

        def shown(instant: datetime | None) -> str | None:
            return in_zone(instant, tz) if instant is not None else None

        deadlines = sorted(_deadlines(scene), key=lambda each: datetime.fromisoformat(each.at))
        return Report.model_validate(
            {
                "subject": str(subject),
                "kind": subject.kind,
                "id": subject.name,
                "order_id": case.order.order_id,
                "pays_for": subject.stream if subject.kind == "refund" else None,
                "state": _state(subject),
                "customer_id": confirmed.customer.customer_id,
                "customer_name": confirmed.customer.name,
                "customer_email": confirmed.customer.email,
                "generated_at": in_zone(at, tz),
                "moment": in_zone(scene.moment, tz),
                "as_of": shown(as_of),
                "known_at": shown(known_at),
                "policy": _stamp(confirmed.pins),
                "store": StorePosition(
                    position=max(head, subject.events[-1].position),
                    last_fact=last.event_id,
                    last_fact_position=last.entry.position,
                    facts=len(past),
                    damaged=f"{damage.event_id}: {damage.reason}" if damage is not None else None,
                ),
                "goods": tuple(_goods(scene)),
                "timeline": _timeline(scene, deadlines),
                "lifecycles": tuple(_paths(scene)),
                "overrides": tuple(_overrides(scene)),
                "rulings": tuple(_rulings(scene)),
                "money": _money(scene),
                "open": Open(
                    work=tuple(_work(scene)), deadlines=tuple(each for each in deadlines if each.state == "pending")
                ),
                "look_alikes": looking_alike(_ids(scene)),
            }
        )


def _ids(scene: _Scene) -> Iterator[str]:
    yield from ids_in({"order_id": scene.case.order.order_id, "id": scene.subject.name})
    for past in scene.past:
        if scene.shows(past):
            yield StreamId.parse(past.entry.stream).id
            yield from ids_in(past.event.model_dump(mode="json", exclude={"ruling", "pins"}))


@dataclass(frozen=True, slots=True)
class _Scene:
    """The subject with its facts, and which of them it is about."""

    subject: Subject
    moment: datetime
    tz: ZoneInfo
    past: Sequence[_TimelineEvent]
    stream: str | None
    """The one stream the report is about; ``None``: the whole case."""
    background: frozenset[str]
    """The facts of the order that the stream rests on, by event."""
    counted: Mapping[int, Counted]
    """The place of an event in the case → the refusals that were counted in it."""

    @classmethod
    def of(cls, subject: Subject, moment: datetime, counted: Mapping[int, Counted]) -> _Scene:
        past = _timeline_events(subject.case_id, subject.events)
        stream = None if subject.stream.startswith("order/") else subject.stream
        background = frozenset(_rested_on(subject, past) if stream is not None else ())
        return cls(subject, moment, zone(subject.policy.zone), past, stream, background, counted)

    @property
    def case(self) -> Case:
        return self.subject.case

    @property
    def policy(self) -> Policy:
        return self.subject.policy

    def shows(self, past: _TimelineEvent) -> bool:
        """Whether the fact is part of the report."""
        return self.stream is None or past.entry.stream == self.stream or past.event_id in self.background

    def about(self, stream: str) -> bool:
        """Whether the report is about that stream."""
        return self.stream is None or stream == self.stream

    def in_focus(self, past: _TimelineEvent) -> bool:
        """Whether the fact belongs to the refund that was asked about."""
        return self.subject.kind == "refund" and self.subject.concerns(past.entry)

    @property
    def returns(self) -> list[Return]:
        return [ret for ret in self.case.returns.values() if self.about(ret.stream)]

    @property
    def claims(self) -> list[Claim]:
        return [claim for claim in self.case.claims.values() if self.about(claim.stream)]

    @property
    def refunds(self) -> list[Refund]:
        return [refund for refund in self.case.refunds.values() if self.about(refund.stream)]

    @property
    def line_ids(self) -> list[str]:
        """The lines of the order that the report is about, in the order's order."""
        if self.stream is None:
            return list(self.case.order.lines)
        wanted = {line.line_id for ret in self.returns for line in ret.lines}
        wanted |= {claim.line_id for claim in self.claims}
        return [line_id for line_id in self.case.order.lines if line_id in wanted]


def _rested_on(subject: Subject, past: Sequence[_TimelineEvent]) -> Iterator[str]:
    """The facts of the order on which a return or a claim rests."""
    case = subject.case
    kind, name = StreamId.parse(subject.stream)
    lines = {line.line_id for line in case.returns[name].lines} if kind == "return" else {case.claims[name].line_id}
    parcels = {p.parcel_id for p in case.order.parcels.values() if lines & p.units.keys()}
    conflict = False
    for each in past:
        event = each.event
        if each.entry.stream != case.order.stream:
            continue
        if isinstance(event, Shipped | Delivered):
            conflict = event.parcel_id in parcels
            if not conflict:
                continue
        elif isinstance(event, ExceptionRaised):
            # It stands right after the telling it is about.
            if not conflict:
                continue
        elif isinstance(event, OverrideGranted):
            if event.clause.startswith("cancellation."):
                continue
        elif not isinstance(event, Confirmed | AccountLinked | Cancelled):
            continue
        yield each.event_id


def _state(subject: Subject) -> str:
    case, name = subject.case, subject.name
    if subject.kind == "refund":
        return case.refunds[name].status
    return case.status_of(subject.stream) or NOTHING


def _stamp(pins: Pins) -> PolicyStamp:
    return PolicyStamp(
        id=pins.policy,
        version=pins.version,
        sha256=pins.sha256,
        calendar=pins.calendar,
        zone=pins.zone,
        tzdata=pins.tzdata,
        engine=pins.engine,
    )


def _actor(event: Event) -> ActorView | None:
    return ActorView(role=event.actor.role, id=event.actor.id) if event.actor else None


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
            fates=tuple((what, count) for what, count in _fates(scene, line_id) if count),
        )


def _fates(scene: _Scene, line_id: str) -> Iterator[tuple[str, int]]:
    case = scene.case
    if scene.stream is None:
        returning, returned = returned_units(case, line_id)
        yield "in parcels", case.order.in_parcels(line_id)
        yield "delivered", case.order.delivered(line_id)
        yield "in returns not settled", returning
        yield "returned and refunded", returned
    for ret in scene.returns if scene.stream is not None else ():
        yield "in this return", ret.quantity(line_id)
        yield "accepted", ret.accepted.get(line_id, 0)
        yield "rejected", ret.rejected.get(line_id, 0)
        yield "sent back", ret.sent_back.get(line_id, 0)
    for claim in scene.claims:
        if claim.line_id == line_id:
            yield f"in claim {claim.claim_id}" if scene.stream is None else "in this claim", claim.quantity


# ---- timeline ---------------------------------------------------------------------------------------------------------


def _timeline(scene: _Scene, deadlines: Sequence[DeadlineEntry]) -> tuple[FactEntry | DeadlineEntry, ...]:
    entries: list[FactEntry | DeadlineEntry] = []
    waiting = [each for each in deadlines if not each.ahead]
    for past in scene.past:
        if not scene.shows(past):
            continue
        while waiting and passed(waiting[0].clause, datetime.fromisoformat(waiting[0].at), past.event.recorded_at):
            entries.append(waiting.pop(0))
        entries.append(_fact_entry(scene, past))
    entries.extend(waiting)
    entries.extend(each for each in deadlines if each.ahead)
    return tuple(entries)


def _fact_entry(scene: _Scene, past: _TimelineEvent) -> FactEntry:
    event, tz = past.event, scene.tz
    later = (event.recorded_at - event.occurred_at).total_seconds()
    counted = scene.counted.get(past.entry.case_seq)
    title = event.title
    if counted is not None:
        title += f", and {counted.times:,} more times, last on {spoken(in_zone(counted.last_at, tz), tz)}"
    return FactEntry(
        event=past.event_id,
        type=event.type,
        title=title,
        occurred_at=in_zone(event.occurred_at, tz),
        recorded_at=in_zone(event.recorded_at, tz),
        learnt_later=duration_in_words(later) if later > 0 else None,
        actor=_actor(event),
        command_id=event.command_id,
        outcome=outcome_of([event]) if event.ruling else None,
        before=past.before,
        after=past.after,
        moves=past.moves,
        details=localised(_own_details(past, scene.case.order.currency, counted), tz),
        background=past.event_id in scene.background,
        focus=scene.in_focus(past),
    )


def _own_details(past: _TimelineEvent, currency: str, counted: Counted | None) -> dict[str, JsonValue]:
    """What the fact says besides the id of its own stream, which stands beside it anyway."""
    kind, name = StreamId.parse(past.entry.stream)
    content = details(past.event, currency, counted)
    return {key: value for key, value in content.items() if (key, value) != (f"{kind}_id", name)}


# ---- deadlines --------------------------------------------------------------------------------------------------------


def _deadlines(scene: _Scene) -> Iterator[DeadlineEntry]:
    """The deadlines that the facts of the report gave, in no order."""
    shown: dict[tuple[str, datetime], Deadline] = {}
    for deadline in deadlines_of(scene.case, scene.stream):
        # The lines of a parcel share its windows: what came of the first one counts.
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


def _outcome(
    scene: _Scene, deadline: Deadline
) -> tuple[Literal["met", "missed", "passed", "pending", "lifted"], str | None]:
    """What came of a deadline by the moment of the report, and a note on it."""
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
    steps: dict[tuple[str, str, str | None], list[tuple[_TimelineEvent, Move]]] = {}
    for past in scene.past:
        for move in past.moves:
            if scene.about(past.entry.stream):
                steps.setdefault((move.lifecycle, move.name, move.of), []).append((past, move))
    for (lifecycle, name, of), taken in steps.items():
        state = taken[-1][1].after
        yield LifecyclePath.model_validate(
            {
                "lifecycle": lifecycle,
                "name": name,
                "of": of,
                "state": state,
                "by_the_clock": _by_the_clock(scene, name, of, state) if lifecycle == "label" else None,
                "steps": tuple(
                    LifecycleStep(
                        number=number,
                        event=past.event_id,
                        type=past.event.type,
                        title=past.event.title,
                        before=move.before,
                        after=move.after,
                        occurred_at=in_zone(past.event.occurred_at, scene.tz),
                    )
                    for number, (past, move) in enumerate(taken, start=1)
                ),
            }
        )


def _by_the_clock(scene: _Scene, label_id: str, return_id: str | None, state: str) -> str | None:
    """Where the clock has brought a label that the facts leave as issued."""
    if state != "issued" or return_id is None:
        return None
    status = scene.case.returns[return_id].labels[label_id].status_at(scene.moment)
    return status if status != state else None


# ---- rulings ----------------------------------------------------------------------------------------------------------


def _rulings(scene: _Scene) -> Iterator[RulingEntry]:
    for past in scene.past:
        event = past.event
        ruling, pins = event.ruling, event.pins
        if not ruling or pins is None or not scene.shows(past):
            continue
        yield RulingEntry(
            event=past.event_id,
            type=event.type,
            title=event.title,
            outcome=outcome_of([event]),
            decided_at=in_zone(event.recorded_at, scene.tz),
            actor=_actor(event),
            policy=_stamp(pins),
            clauses=clause_views(ruling, scene.policy),
            background=past.event_id in scene.background,
            focus=scene.in_focus(past),
        )


def _overrides(scene: _Scene) -> Iterator[OverrideEntry]:
    for past in scene.past:
        event = past.event
        if isinstance(event, OverrideGranted) and scene.shows(past):
            yield OverrideEntry(
                event=past.event_id,
                clause=event.clause,
                quote=scene.policy.clause(event.clause).quote,
                reason=event.reason,
                approved_by=event.approved_by,
                granted_at=in_zone(event.occurred_at, scene.tz),
                actor=_actor(event),
                used_by=tuple(
                    each.event_id for each in scene.past if scene.shows(each) and _uses(each.event, past.event_id)
                ),
            )


def _uses(event: Event, override: str) -> bool:
    for finding in event.ruling or ():
        aside = finding.grounds.get("override")
        if isinstance(aside, dict) and aside.get("fact") == override:
            return True
    return False


# ---- money ------------------------------------------------------------------------------------------------------------


def _money(scene: _Scene) -> Money:
    case, policy = scene.case, scene.policy
    sheets = [_sheet(scene, refund_view(refund, policy, scene.moment)) for refund in scene.refunds]
    nothing: list[NothingDue] = []
    now = DecisionContext(scene.moment, policy)
    order = case.order
    streams = [order.stream] if scene.stream is None and order.status == "cancelled" else []
    streams += [ret.stream for ret in scene.returns] + [claim.stream for claim in scene.claims]
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
    """What is due for a stream and not asked for, or why nothing is; ``None`` tz no refund can be asked for."""
    case = scene.case
    about = case.refund_subject(stream)
    subject = about.subject
    if isinstance(subject, Return) and not RETURN.allows(subject.status, "RefundRequested"):
        return None
    try:
        check_may_request(about, "refund")
        weighing = about.weighing(now)
        if owed(about, weighing).items and weighing.allowed:
            return due_view(about, scene.policy, now)
        reasons = [because(finding, scene.tz) for finding in weighing.findings if finding.verdict == "fail"]
    except Impossible as error:
        if error.code == "transition.not_allowed":
            return None
        reasons = [error.message]
    if about.attempts or not reasons:
        return None
    kind, name = StreamId.parse(stream)
    return NothingDue.model_validate({"for_": {"kind": kind, "id": name}, "reasons": tuple(reasons)})


def _sheet(scene: _Scene, view: RefundView) -> RefundSheet:
    order = scene.case.order
    methods = {payment.payment_id: payment.method for payment in order.confirmed.payments}
    return RefundSheet.model_validate(
        {
            "refund_id": view.refund_id,
            "status": view.status,
            "for_": view.for_,
            "currency": view.currency,
            "rows": tuple(_sum(scene, view)),
            "total": view.total,
            "tenders": view.tenders,
            "methods": tuple(methods[tender.payment_id] for tender in view.tenders),
            "issued_at": view.issued_at,
            "expected_between": view.expected_between,
            "overdue": view.overdue,
            "focus": scene.subject.kind == "refund" and view.refund_id == scene.subject.name,
        }
    )


def _sum(scene: _Scene, view: RefundView) -> Iterator[SumRow]:
    currency = view.currency
    total = 0
    for item in view.items:
        price = to_major(scene.case.order.lines[item.line_id].unit_price, currency)
        yield SumRow(what=f"Line {item.line_id}: {item.quantity} × {price}", amount=item.merchandise)
        total += sum_to_minor(item.merchandise, currency)
        if sum_to_minor(item.tax, currency):
            yield SumRow(what=f"Line {item.line_id}: tax", amount=item.tax)
            total += sum_to_minor(item.tax, currency)
    shipping = sum_to_minor(view.shipping, currency)
    if shipping:
        yield SumRow(what="Outbound shipping, with its tax", amount=view.shipping)
        total += shipping
    for deduction in view.deductions:
        amount = sum_to_minor(deduction.amount, currency)
        yield SumRow(
            what=f"Deduction: {deduction.clause}", amount=to_major(-amount, currency), because=deduction.because
        )
        total -= amount
    before = sum_to_minor(view.settled_before, currency)
    if before:
        yield SumRow(what="Went back in an earlier attempt", amount=to_major(-before, currency))
        total -= before
    rest = sum_to_minor(view.total, currency) - total
    if rest:
        why = "More went back before than is owed now: nothing is asked back." if total < 0 else None
        yield SumRow(what="To come to what is paid", amount=to_major(rest, currency), because=why)


def _work(scene: _Scene) -> Iterator[WorkItem]:
    for item in worklist_view(waiting_in(scene.case, scene.policy), None, scene.moment).items:
        kind, name = item.subject.kind, item.subject.id
        stream = scene.case.stream_with(StreamId(kind, name))
        if scene.about(stream):
            yield item

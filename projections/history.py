"""Replay: a history step by step, with what every fact did to states, deadlines and money."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from returnable.domain.calendar import zone
from returnable.domain.case import Case, Step, evolve, steps
from returnable.domain.claims import Claim
from returnable.domain.errors import HistoryBroken, Impossible
from returnable.domain.ids import StreamId
from returnable.domain.money import to_major
from returnable.domain.outcome import in_zone
from returnable.domain.ports import Recorded
from returnable.domain.reasons import localised
from returnable.domain.refunds import remaining
from returnable.domain.returns import Return
from returnable.projections.audit import details
from returnable.projections.explained import (
    DeadlineChange,
    HistoryStep,
    HistoryView,
    MoneyState,
    Reached,
    StandingDeadline,
    StreamState,
)
from returnable.projections.subjects import Subject
from returnable.projections.views import ActorView

INCLUSIVE = frozenset({"cancel_by", "contact_by"})
"""The deadlines that are themselves still in time; all others are exclusive ends."""

Change = Literal["set", "moved", "settled", "reopened", "passed"]
Key = tuple[str, str, str]
"""Subject, name and part of a deadline: ``("order/A-1", "return_before", "line 1 in parcel P-1")``."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A deadline of a case as its facts tell it; ``open``: something still depends on it."""

    at: datetime
    clause: str
    open: bool

    def passed(self, name: str, clock: datetime) -> bool:
        """Whether it ran out by then."""
        return clock > self.at if name in INCLUSIVE else clock >= self.at


def deadlines(case: Case) -> dict[Key, Deadline]:
    """Every deadline there is or was in a case, in a steady order.

    A window of a line is open while a unit of it in that parcel is in no return and no claim; a label until it was used or
    voided by hand; the promise of contact until it was kept or the claim settled; a refund until it has its answers.
    """
    order = case.order
    stream, alive = order.stream, order.status != "cancelled"
    found: dict[Key, Deadline] = {
        (stream, "cancel_by", ""): Deadline(order.confirmed.cancel_by, "cancellation.window", alive)
    }
    for parcel in order.parcels.values():
        if parcel.return_before is None or parcel.report_before is None:
            continue
        for line_id, count in parcel.units.items():
            free = alive and _spoken_for(case, line_id, parcel.parcel_id) < count
            of = f"line {line_id} in parcel {parcel.parcel_id}"
            found[stream, "return_before", of] = Deadline(parcel.return_before, "returns.window", free)
            found[stream, "report_before", of] = Deadline(parcel.report_before, "wrong_item.window", free)
    for ret in case.returns.values():
        for label in ret.labels.values():
            waits = label.status in ("issued", "void")  # one that voided by itself may turn out to have been used
            found[ret.stream, "void_at", f"label {label.label_id}"] = Deadline(label.void_at, "returns.ship_by", waits)
    for claim in case.claims.values():
        waits = claim.status == "open" and claim.contacted_at is None
        found[claim.stream, "contact_by", ""] = Deadline(claim.opened.contact_by, "wrong_item.contact", waits)
    for refund in case.refunds.values():
        waits = refund.status == "requested"
        key = (str(StreamId("refund", refund.refund_id)), "overdue_at", "")
        found[key] = Deadline(refund.requested.overdue_at, "returns.refund_timing", waits)
    return found


def _spoken_for(case: Case, line_id: str, parcel_id: str) -> int:
    """The units in returns and in claims settled by refund; a request holds nothing until it is decided."""
    holders: list[Return | Claim] = [ret for ret in case.returns.values() if ret.status != "requested"]
    holders += case.claims.values()
    return sum(holder.held(line_id).get(parcel_id, 0) for holder in holders)


@dataclass(frozen=True, slots=True)
class Money:
    """The money of an order in minor units: what was captured is refunded, promised or remains."""

    captured: int = 0
    promised: int = 0
    refunded: int = 0

    @property
    def remaining(self) -> int:
        """What was captured and neither went back nor is promised."""
        return self.captured - self.promised - self.refunded


def money_of(case: Case) -> Money:
    """The money of a case. A tender that failed stays promised until a later refund of the same thing takes it over."""
    captured = sum(payment.amount for payment in case.order.confirmed.payments)
    refunds = list(case.refunds.values())
    refunded = sum(refund.settled for refund in refunds)
    left = sum(remaining(case.order, refunds, "").values())
    return Money(captured, captured - refunded - left, refunded)


def history(subject: Subject, clock: datetime, until: datetime | int | None = None) -> HistoryView:
    """The history of a subject, step by step; of an order that of its whole case.

    ``until`` stops at what was recorded by that instant, or at the step of that number; the clock then stops there, too.
    ``clock`` says which deadlines have passed at the end. Raises ``command.invalid`` when ``until`` leaves nothing.
    """
    where = zone(subject.policy.zone)
    counting = _possible(subject.case_id, subject.facts)
    ours = [entry for entry in counting if _concerns(subject, entry)]
    kept = _until(subject, counting, ours, until)
    case = Case(subject.case_id)
    told: list[HistoryStep] = []
    before: Mapping[Key, Deadline] = {}
    money, passed, waiting = Money(), set[Key](), list[DeadlineChange]()
    for step in steps(case, kept):
        after, money_before = deadlines(case), money
        money = money_of(case)
        waiting += _ran_out(before, passed, step.entry.fact.recorded_at, where)
        changes = [*_changes(before, after, where)]
        passed -= {(change.subject, change.name, change.of) for change in changes}
        before = after
        if _concerns(subject, step.entry):
            own = [change for change in (*waiting, *changes) if _ours(subject, case, change.subject)]
            moved = None if money == money_before else _money(money, case)
            told.append(_step(subject, step, tuple(own), moved, case, where))
            waiting = []
    at = until if isinstance(until, datetime) else clock if until is None else kept[-1].fact.recorded_at
    return HistoryView(
        subject=str(subject),
        case_id=subject.case_id,
        steps=tuple(told),
        left_out=len(ours) - len(told),
        reached=_reached(subject, case, before, at, where),
    )


# ---- which facts ----------------------------------------------------------------------------------------------------


def _possible(case_id: str, facts: Iterable[Recorded]) -> list[Recorded]:
    """The facts that can have happened where they stand: without its cause a fact does not count either."""
    case, possible = Case(case_id), []
    for entry in facts:
        try:
            case = evolve(case, (entry,))
        except HistoryBroken:
            continue
        possible.append(entry)
    return possible


def _concerns(subject: Subject, entry: Recorded) -> bool:
    if subject.kind == "order":
        return True
    if subject.kind == "refund":
        return entry.fact.refund_id == subject.name
    return entry.stream == subject.stream


def _ours(subject: Subject, case: Case, of: str) -> bool:
    """Whether a deadline of ``of`` is one of the subject's own: a return's refund is."""
    if subject.kind == "order" or of == str(subject):
        return True
    kind, name = StreamId.parse(of)
    return kind == "refund" and case.refunds[name].stream == str(subject)


def _number(subject: Subject, entry: Recorded) -> int:
    return entry.case_seq if subject.kind == "order" else entry.version


def _until(
    subject: Subject, counting: list[Recorded], ours: list[Recorded], until: datetime | int | None
) -> list[Recorded]:
    if until is None:
        return counting
    if isinstance(until, datetime):
        kept = [entry for entry in ours if entry.fact.recorded_at <= until]
        what = f"nothing of {subject} was recorded by then"
    else:
        kept = [entry for entry in ours if _number(subject, entry) <= until]
        what = f"the first event of {subject} is {_number(subject, ours[0])}"
    if not kept:
        raise Impossible("command.invalid", what, field="until")
    if isinstance(until, datetime):
        # Clocks of several writers differ: what was recorded later may stand before what was recorded by then.
        return _possible(subject.case_id, (entry for entry in counting if entry.fact.recorded_at <= until))
    return [entry for entry in counting if entry.case_seq <= kept[-1].case_seq]


# ---- one step -------------------------------------------------------------------------------------------------------


def _step(
    subject: Subject,
    step: Step,
    changes: tuple[DeadlineChange, ...],
    money: MoneyState | None,
    case: Case,
    where: ZoneInfo,
) -> HistoryStep:
    fact = step.entry.fact
    ruling = fact.ruling or ()
    return HistoryStep(
        number=_number(subject, step.entry),
        event=step.entry.event,
        type=fact.type,
        recorded_at=in_zone(fact.recorded_at, where),
        occurred_at=in_zone(fact.occurred_at, where),
        actor=ActorView(role=fact.actor.role, id=fact.actor.id) if fact.actor else None,
        command_id=fact.command_id,
        before=step.before,
        after=step.after,
        details=localised(details(fact, case.order.currency), where),
        deadlines=changes,
        money=money,
        failed=tuple(finding.clause for finding in ruling if finding.verdict == "fail"),
        overridden=tuple(finding.clause for finding in ruling if finding.verdict == "overridden"),
    )


def _ran_out(
    before: Mapping[Key, Deadline], passed: set[Key], clock: datetime, where: ZoneInfo
) -> Iterator[DeadlineChange]:
    for key, deadline in before.items():
        if deadline.open and key not in passed and deadline.passed(key[1], clock):
            passed.add(key)
            at = in_zone(deadline.at, where)
            yield _change(key, deadline, "passed", at, at)


def _changes(
    before: Mapping[Key, Deadline], after: Mapping[Key, Deadline], where: ZoneInfo
) -> Iterator[DeadlineChange]:
    for key, deadline in after.items():
        old, at = before.get(key), in_zone(deadline.at, where)
        if old is None:
            yield _change(key, deadline, "set", None, at)
            continue
        if old.at != deadline.at:
            yield _change(key, deadline, "moved", in_zone(old.at, where), at)
        if old.open != deadline.open:
            yield _change(key, deadline, "reopened" if deadline.open else "settled", at, at)


def _change(key: Key, deadline: Deadline, change: Change, before: str | None, after: str | None) -> DeadlineChange:
    subject, name, of = key
    return DeadlineChange(
        subject=subject,
        name=name,
        of=of,
        clause=deadline.clause,
        inclusive=name in INCLUSIVE,
        change=change,
        before=before,
        after=after,
    )


def _money(money: Money, case: Case) -> MoneyState:
    currency = case.order.currency
    return MoneyState(
        currency=currency,
        captured=to_major(money.captured, currency),
        promised=to_major(money.promised, currency),
        refunded=to_major(money.refunded, currency),
        remaining=to_major(money.remaining, currency),
    )


# ---- the end --------------------------------------------------------------------------------------------------------


def _reached(subject: Subject, case: Case, standing: Mapping[Key, Deadline], at: datetime, where: ZoneInfo) -> Reached:
    return Reached(
        at=in_zone(at, where),
        streams=tuple(StreamState(stream=name, status=status) for name, status in _statuses(subject, case)),
        deadlines=tuple(
            StandingDeadline(
                subject=key[0],
                name=key[1],
                of=key[2],
                clause=deadline.clause,
                inclusive=key[1] in INCLUSIVE,
                at=in_zone(deadline.at, where),
                state="settled" if not deadline.open else "passed" if deadline.passed(key[1], at) else "open",
            )
            for key, deadline in standing.items()
            if _ours(subject, case, key[0])
        ),
        money=_money(money_of(case), case),
    )


def _statuses(subject: Subject, case: Case) -> Iterator[tuple[str, str]]:
    if subject.kind == "order":
        yield case.order.stream, case.order.status
        yield from ((ret.stream, ret.status) for ret in case.returns.values())
        yield from ((claim.stream, claim.status) for claim in case.claims.values())
    elif subject.kind != "refund":
        yield subject.stream, case.stream_of(subject.stream).status
    for refund in case.refunds.values():
        name = str(StreamId("refund", refund.refund_id))
        if _ours(subject, case, name):
            yield name, refund.status

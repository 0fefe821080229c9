"""Replay: a history step by step, with the effect of every event on states, deadlines and money."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from returnable.domain.calendar import zone
from returnable.domain.case import Case, Step, countable, steps
from returnable.domain.deadlines import Deadline
from returnable.domain.errors import Impossible
from returnable.domain.ids import StreamId
from returnable.domain.outcome import in_zone
from returnable.domain.ports import Recorded
from returnable.domain.reasons import localised
from returnable.domain.timetable import deadlines_of
from returnable.projections import ledger
from returnable.projections.audit import details, envelope
from returnable.projections.audit_models import (
    DeadlineChange,
    HistoryStep,
    HistoryView,
    OpenDeadline,
    Reached,
    StreamState,
)
from returnable.projections.subjects import Subject
from returnable.projections.views import MoneyView

Change = Literal["set", "moved", "settled", "reopened", "passed", "dropped"]
Key = tuple[str, str, str]
"""Subject, name and part of a deadline: ``("order/A-1", "return_before", "line 1 in parcel P-1")``."""


def deadlines(case: Case) -> dict[Key, Deadline]:
    """Every deadline of a case, past or open, in a steady order; a deadline that was moved has its last instant."""
    return {(deadline.subject, deadline.name, deadline.part): deadline for deadline in deadlines_of(case)}


def history(subject: Subject, clock: datetime, until: datetime | int | None = None) -> HistoryView:
    """The history of a subject, step by step; for an order that of its whole case.

    ``until`` stops at the last event recorded by that instant, or at the step of that number, and so does the clock.
    Without it ``clock`` decides which deadlines have passed at the end. Raises ``command.invalid`` if no event is left.
    """
    tz = zone(subject.policy.zone)
    counting = [entry for entry, _, _ in countable(subject.case_id, subject.events)]
    ours = [entry for entry in counting if subject.concerns(entry)]
    kept = _until(subject, counting, ours, until)
    case = Case(subject.case_id)
    taken: list[HistoryStep] = []
    before: Mapping[Key, Deadline] = {}
    money: MoneyView | None = None
    passed, waiting = set[Key](), list[DeadlineChange]()
    for step in steps(case, kept):
        after, money_before = deadlines(case), money
        money = ledger.money(case)
        waiting += _ran_out(before, passed, step.entry.event.recorded_at, tz)
        changes = [*_changes(before, after, tz)]
        passed -= {(change.subject, change.name, change.of) for change in changes}
        before = after
        if subject.concerns(step.entry):
            own = [change for change in (*waiting, *changes) if subject.owns(change.subject)]
            moved = None if money == money_before else money
            taken.append(_step(subject, step, tuple(own), moved, case, tz))
            waiting = []
    at = until if isinstance(until, datetime) else clock if until is None else kept[-1].event.recorded_at
    return HistoryView(
        subject=str(subject),
        case_id=subject.case_id,
        steps=tuple(taken),
        left_out=len(ours) - len(taken),
        reached=_reached(subject, case, before, at, tz),
    )


# ---- which events ---------------------------------------------------------------------------------------------------


def _number(subject: Subject, entry: Recorded) -> int:
    return entry.case_seq if subject.kind == "order" else entry.version


def _until(
    subject: Subject, counting: list[Recorded], ours: list[Recorded], until: datetime | int | None
) -> list[Recorded]:
    if until is None:
        return counting
    if isinstance(until, datetime):
        kept = [entry for entry in ours if entry.event.recorded_at <= until]
        what = f"nothing of {subject} was recorded by then"
    else:
        kept = [entry for entry in ours if _number(subject, entry) <= until]
        what = f"the first event of {subject} is {_number(subject, ours[0])}"
    if not kept:
        raise Impossible("command.invalid", what, field="until")
    if isinstance(until, datetime):
        # Clocks of several writers differ: an event recorded later may stand before one recorded by then.
        return [entry for entry, _, _ in countable(subject.case_id, counting, known_at=until)]
    return [entry for entry in counting if entry.case_seq <= kept[-1].case_seq]


# ---- one step -------------------------------------------------------------------------------------------------------


def _step(
    subject: Subject,
    step: Step,
    changes: tuple[DeadlineChange, ...],
    money: MoneyView | None,
    case: Case,
    tz: ZoneInfo,
) -> HistoryStep:
    event = step.entry.event
    ruling = event.ruling or ()
    return HistoryStep(
        number=_number(subject, step.entry),
        event=step.entry.event_id,
        **envelope(event, tz),
        before=step.before,
        after=step.after,
        details=localised(details(event, case.order.currency), tz),
        deadlines=changes,
        money=money,
        failed=tuple(result.clause for result in ruling if result.verdict == "fail"),
        overridden=tuple(result.clause for result in ruling if result.verdict == "overridden"),
    )


def _ran_out(
    before: Mapping[Key, Deadline], passed: set[Key], clock: datetime, tz: ZoneInfo
) -> Iterator[DeadlineChange]:
    for key, deadline in before.items():
        if deadline.open and key not in passed and deadline.passed(clock):
            passed.add(key)
            at = in_zone(deadline.at, tz)
            yield _change(deadline, "passed", at, at)


def _changes(before: Mapping[Key, Deadline], after: Mapping[Key, Deadline], tz: ZoneInfo) -> Iterator[DeadlineChange]:
    for key, deadline in after.items():
        old, at = before.get(key), in_zone(deadline.at, tz)
        if old is None:
            yield _change(deadline, "set", None, at)
        elif old.at != deadline.at:
            yield _change(deadline, "moved", in_zone(old.at, tz), at)
        if deadline.open != (old is None or old.open):
            yield _change(deadline, "reopened" if deadline.open else "settled", at, at)
    for key, gone in before.items():
        if key not in after:
            yield _change(gone, "dropped", in_zone(gone.at, tz), None)


def _change(deadline: Deadline, change: Change, before: str | None, after: str | None) -> DeadlineChange:
    return DeadlineChange(**_named(deadline), change=change, before=before, after=after)


def _named(deadline: Deadline) -> dict[str, Any]:
    return {
        "subject": deadline.subject,
        "name": deadline.name,
        "of": deadline.part,
        "clause": deadline.clause,
        "inclusive": deadline.inclusive,
    }


# ---- the end --------------------------------------------------------------------------------------------------------


def _reached(subject: Subject, case: Case, status: Mapping[Key, Deadline], at: datetime, tz: ZoneInfo) -> Reached:
    return Reached(
        at=in_zone(at, tz),
        streams=tuple(StreamState(stream=name, status=status) for name, status in _statuses(subject, case)),
        deadlines=tuple(
            OpenDeadline(
                **_named(deadline),
                at=in_zone(deadline.at, tz),
                state="settled" if not deadline.open else "passed" if deadline.passed(at) else "open",
            )
            for deadline in status.values()
            if subject.owns(deadline.subject)
        ),
        money=ledger.money(case),
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
        if subject.owns(name):
            yield name, refund.status

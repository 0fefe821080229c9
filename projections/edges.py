"""Edges: the instants at which an answer flips by the passing of time alone, if nothing more is recorded.

:func:`answers` returns every answer about a case at an instant, as values that can be compared. An edge is an instant
whose answers differ from those a microsecond before. Only an instant that an event holds can be an edge, or the
microsecond after it (the last instant of an inclusive deadline is still in time). All of these are tried.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from returnable.domain.calendar import A_MOMENT, zone
from returnable.domain.case import Case
from returnable.domain.deadlines import Happened
from returnable.domain.deciding import DecisionContext
from returnable.domain.ids import StreamId
from returnable.domain.order.state import Parcel
from returnable.domain.outcome import in_zone
from returnable.domain.policy import INCLUSIVE, Policy
from returnable.domain.returns.state import Label, Return
from returnable.domain.timetable import deadlines_of
from returnable.domain.wording import duration_in_words
from returnable.projections.audit_models import AnswerChange, EdgesView, EdgeView
from returnable.projections.orders import eligibility_view
from returnable.projections.subjects import Subject
from returnable.projections.views import EligibilityRuling
from returnable.projections.worklist import Waiting, waiting_in

_FORTNIGHT = timedelta(days=14)

CANCELLATION, STANDING = "cancellation", "standing"


@dataclass(frozen=True, slots=True, order=True)
class Question:
    """A question about a case that has one answer at any instant."""

    subject: str
    """Its subject, such as ``order/A-1``."""
    topic: str
    """Answers of one topic belong together: ``cancellation``, ``return of line 1``, ``label L-1``, …"""
    name: str
    """``verdict``, ``allowed``, ``status``, …"""
    clause: str
    """The clause that decides; empty if several do."""
    what: str = ""
    """The change in words, where :data:`_WHAT` has none."""


Answers = Mapping[Question, str]


@dataclass(frozen=True, slots=True)
class Change:
    """An answer before and after an edge."""

    question: Question
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Edge:
    """An instant at which an answer flips: ``at`` is the first instant of the new answer.

    ``also`` holds the further answers of the same topic that flip with it.
    """

    at: datetime
    subject: str
    clause: str
    what: str
    before: str
    after: str
    also: tuple[Change, ...] = ()

    @property
    def inclusive(self) -> bool:
        """Whether the clause includes the instant of its deadline."""
        return self.clause in INCLUSIVE

    @property
    def deadline(self) -> datetime:
        """The instant that views show: if ``inclusive``, the last one of the old answer; otherwise ``at``."""
        return self.at - A_MOMENT if self.inclusive else self.at


# ---- the answers at an instant --------------------------------------------------------------------------------------


def answers(case: Case, policy: Policy, at: datetime) -> Answers:
    """Every answer about a case at an instant, without the margins, which change all the time.

    These are eligibility (each clause, and their result), states, labels, whether a parcel handed over then is late, what
    is overdue, and what waits for somebody. ``policy`` is the one pinned to the order.
    """
    return dict(_answers(case, policy, at, [*waiting_in(case, policy)]))


def _answers(case: Case, policy: Policy, at: datetime, work: Sequence[Waiting]) -> Iterator[tuple[Question, str]]:
    eligible = eligibility_view(case, policy, DecisionContext(at, policy))
    order = case.order.stream
    yield from _of_ruling(order, CANCELLATION, eligible.cancellation)
    for line in eligible.lines:
        back, wrong = f"return of line {line.line_id}", f"wrong item in line {line.line_id}"
        yield from _of_ruling(order, back, line.return_)
        yield from _of_ruling(order, wrong, line.wrong_item)
        in_time = _units_in_time(case, line.line_id, at)
        yield Question(order, back, "units in time", "returns.window"), str(in_time[0])
        yield Question(order, wrong, "units in time", "wrong_item.window"), str(in_time[1])
    yield Question(order, STANDING, "status", ""), case.order.status
    for ret in case.returns.values():
        yield Question(ret.stream, STANDING, "status", ""), ret.status
        yield from _of_labels(ret, at)
    for claim in case.claims.values():
        yield Question(claim.stream, STANDING, "status", ""), claim.status
        contact = "wrong_item.contact"
        yield Question(claim.stream, contact, "overdue", contact), _yes(claim.overdue(at))
        yield Question(claim.stream, contact, "missed", contact), _yes(claim.contact_was_missed(at))
    for refund in case.refunds.values():
        subject, timing = str(StreamId("refund", refund.refund_id)), "returns.refund_timing"
        yield Question(subject, STANDING, "status", ""), refund.status
        yield Question(subject, timing, "overdue", timing), _yes(refund.overdue(at))
    tasks = dict.fromkeys(map(_of_work, work), "not there")
    tasks |= {_of_work(item): "overdue" if item.overdue(at) else "waits" for item in work if item.shown(at)}
    yield from tasks.items()


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _of_ruling(subject: str, topic: str, ruling: EligibilityRuling) -> Iterator[tuple[Question, str]]:
    for clause in ruling.clauses:
        yield Question(subject, topic, "verdict", clause.clause), clause.verdict
    yield Question(subject, topic, "allowed", ""), _yes(ruling.allowed)
    yield Question(subject, topic, "impossible", ""), ruling.error.code if ruling.error else "no"


def _units_in_time(case: Case, line_id: str, at: datetime) -> tuple[int, int]:
    """The units of a line in no return and no claim that could be returned then, or reported as wrong items."""
    back = wrong = 0
    for parcel in case.order.parcels.values():
        free = parcel.units.get(line_id, 0) - case.held[line_id].get(parcel.parcel_id, 0)
        if free > 0 and parcel.delivered_at is not None and parcel.delivered_at <= at:
            back += free if parcel.return_before is not None and at < parcel.return_before else 0
            wrong += free if parcel.report_before is not None and at < parcel.report_before else 0
    return back, wrong


def _of_labels(ret: Return, at: datetime) -> Iterator[tuple[Question, str]]:
    for label in ret.labels.values():
        topic = _topic(label)
        yield Question(ret.stream, topic, "status", "returns.ship_by"), label.status_at(at)
        received = label.received is not None and label.received.at <= at
        yield Question(ret.stream, topic, "with the customer", "returns.ship_by"), _yes(received)
    if ret.status in ("authorized", "labelled") and ret.labels:
        last = max(ret.labels.values(), key=lambda label: label.void_at)
        in_time = "in time" if at < last.void_at else "late"
        yield Question(ret.stream, _topic(last), "a parcel handed over then", "returns.ship_by"), in_time


def _topic(label: Label) -> str:
    return f"label {label.label_id}"


def _of_work(item: Waiting) -> Question:
    subject, name, deadline = f"{item.subject}/{item.name}", f"worklist {item.kind}", item.deadline
    if deadline is None:
        return Question(subject, STANDING, name, "")
    return Question(subject, deadline.part or deadline.clause, name, deadline.clause, deadline.title)


# ---- the edges ------------------------------------------------------------------------------------------------------


def instants(case: Case) -> list[datetime]:
    """Every instant that the events of a case hold, deadlines included, in order."""
    order = case.order
    found: list[datetime | None] = [order.confirmed.occurred_at]
    found += [order.account_since, order.incomplete_since, order.cancelled_at]
    for subject in (order, *case.returns.values(), *case.claims.values()):
        found += [override.expires_at for override in subject.overrides]
    happened: list[Happened | None] = []
    for parcel in order.parcels.values():
        found += [parcel.shipped_at, parcel.delivered_at]
    for ret in case.returns.values():
        found += [ret.asked_at, ret.inspected_at, ret.lost_at]
        for box in ret.boxes.values():
            found += [*(told.at for told in box.hand_overs), *(told.at for told in box.arrivals)]
        happened += [label.voided for label in ret.labels.values()]
    for claim in case.claims.values():
        happened += [claim.contacted, claim.resolved]
    for deadline in deadlines_of(case):
        found += [deadline.at, *(anchor.at for anchor in deadline.anchors)]
    found += [each.at for each in happened if each is not None]
    return sorted({instant for instant in found if instant is not None})


def edges_of(subject: Subject) -> tuple[Edge, ...]:
    """The edges of a subject in order of time: a return and a claim have those of their refunds, an order has all."""
    return tuple(edge for edge in edges(subject.case, subject.policy) if subject.owns(edge.subject))


def edges(case: Case, policy: Policy) -> tuple[Edge, ...]:
    """Every edge of a case in order of time. ``policy`` is the one pinned to the order."""
    work = [*waiting_in(case, policy)]

    @cache
    def at(instant: datetime) -> Answers:
        return dict(_answers(case, policy, instant, work))

    found: list[Edge] = []
    for instant in sorted({later for known in instants(case) for later in (known, known + A_MOMENT)}):
        before, after = at(instant - A_MOMENT), at(instant)
        changes = [Change(question, before[question], after[question]) for question in after]
        found += _grouped(case, instant, [change for change in changes if change.before != change.after])
    return tuple(sorted(found, key=lambda edge: (edge.at, edge.subject, edge.clause, edge.what)))


def _grouped(case: Case, at: datetime, changes: Sequence[Change]) -> Iterator[Edge]:
    """One edge for each verdict that flips; one for each other topic, with its further answers."""
    topics: defaultdict[tuple[str, str], list[Change]] = defaultdict(list)
    for change in changes:
        topics[change.question.subject, change.question.topic].append(change)
    for on_topic in topics.values():
        verdicts = [change for change in on_topic if change.question.name == "verdict"]
        rest = [change for change in on_topic if change not in verdicts]
        for main in verdicts or rest[:1]:
            also = tuple(change for change in rest if change is not main)
            question = main.question
            what = _what(case, at, main)
            yield Edge(at, question.subject, question.clause, what, main.before, main.after, also)


def _what(case: Case, at: datetime, change: Change) -> str:
    question = change.question
    if change.before == "overridden" and at in {override.expires_at for override in case.order.overrides}:
        return f"{question.topic}: an override of {question.clause} ends"
    known = _WHAT.get((question.clause, question.name), question.what)
    what = known if isinstance(known, str) else known(case, at, change)
    what = what or f"{question.topic}: {question.name} becomes {change.after}"
    return f"{what} (set aside by an override)" if change.after == "overridden" else what


def _cancellation_window(case: Case, at: datetime, change: Change) -> str:
    return f"the cancellation window {'opens' if change.after == 'pass' else 'closes'}"


def _with_the_carrier(case: Case, at: datetime, change: Change) -> str:
    names = [parcel.parcel_id for parcel in case.order.parcels.values() if parcel.shipped_at == at]
    parcels = f"parcel {names[0]} is" if len(names) == 1 else f"parcels {', '.join(names)} are"
    return f"{parcels} with the carrier{': the order cannot be cancelled any more' if change.after == 'fail' else ''}"


def _return_window(case: Case, at: datetime, change: Change) -> str:
    what, opens = _window(case, at, change, "return of line ", lambda parcel: parcel.return_before)
    return f"the return window of line {what} {'opens' if opens else 'closes'}"


def _report_window(case: Case, at: datetime, change: Change) -> str:
    what, begins = _window(case, at, change, "wrong item in line ", lambda parcel: parcel.report_before)
    return f"the time to report a wrong item in line {what} {'begins' if begins else 'ends'}"


def _window(
    case: Case, at: datetime, change: Change, topic: str, end_of: Callable[[Parcel], datetime | None]
) -> tuple[str, bool]:
    """The line, with its parcels if only units in some of them are concerned; and whether the window opens."""
    line_id = change.question.topic.removeprefix(topic)
    if change.question.name == "verdict":
        return line_id, change.after == "pass"
    parcels = [p for p in case.order.parcels.values() if at in (p.delivered_at, end_of(p)) and line_id in p.units]
    there = ", ".join(parcel.parcel_id for parcel in parcels)
    return f"{line_id} in parcel {there}", int(change.after) > int(change.before)


_WHAT: dict[tuple[str, str], str | Callable[[Case, datetime, Change], str]] = {
    ("cancellation.window", "verdict"): _cancellation_window,
    ("cancellation.not_shipped", "verdict"): _with_the_carrier,
    ("returns.window", "verdict"): _return_window,
    ("returns.window", "units in time"): _return_window,
    ("returns.account", "verdict"): lambda _, __, it: (
        f"the customer has the account that the {it.question.topic} needs"
    ),
    ("wrong_item.window", "verdict"): _report_window,
    ("wrong_item.window", "units in time"): _report_window,
    ("returns.ship_by", "status"): lambda _, __, it: f"{it.question.topic} voids by itself",
    ("returns.ship_by", "with the customer"): lambda _, __, it: f"{it.question.topic} is with the customer",
    ("returns.ship_by", "a parcel handed over then"): "the time to hand the parcel over ends",
    ("wrong_item.contact", "overdue"): "the promised contact is overdue",
    ("wrong_item.contact", "missed"): "the promised contact is missed",
    ("returns.refund_timing", "overdue"): "the refund is overdue",
}
"""Clause and name of a question → the change in words."""


# ---- the public form ------------------------------------------------------------------------------------------------


def edges_view(subject: Subject, clock: datetime, to_come: bool = False) -> EdgesView:
    """The edges of a subject, seen from the clock; with ``to_come`` only those after it."""
    tz = zone(subject.policy.zone)
    found = edges_of(subject)
    return EdgesView(
        subject=str(subject),
        at=in_zone(clock, tz),
        edges=tuple(_view(edge, clock, tz) for edge in found if not to_come or edge.at > clock),
    )


def _view(edge: Edge, clock: datetime, tz: ZoneInfo) -> EdgeView:
    return EdgeView(
        at=in_zone(edge.at, tz),
        deadline=in_zone(edge.deadline, tz),
        inclusive=edge.inclusive,
        subject=edge.subject,
        clause=edge.clause,
        what=edge.what,
        before=edge.before,
        after=edge.after,
        also=tuple(
            AnswerChange(answer=change.question.name, before=change.before, after=change.after) for change in edge.also
        ),
        to_come=edge.at > clock,
        distance=distance(edge.deadline, clock),
    )


def distance(at: datetime, clock: datetime) -> str:
    """How far an instant is from the clock, in its two largest units; from 14 days on in days.

    >>> from datetime import UTC
    >>> noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    >>> distance(noon + timedelta(days=3, hours=2, minutes=5), noon), distance(noon - timedelta(days=12), noon)
    ('in 3 days 2 h', '12 days ago')
    >>> distance(noon, noon), distance(noon - timedelta(days=400, hours=3), noon)
    ('now', '400 days ago')
    """
    seconds = (at - clock).total_seconds()
    if seconds == 0:
        return "now"
    words = duration_in_words(seconds).split()
    far = " ".join(words[:2] if abs(seconds) >= _FORTNIGHT.total_seconds() else words[:4])
    return f"in {far}" if seconds > 0 else f"{far} ago"

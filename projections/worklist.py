"""The worklist: the tasks that wait for somebody, from events and the clock alone.

It does not depend on whether passed deadlines were recorded: a label voids, a contact is missed and a refund is overdue by
the passing of time. Events give the instants between which a task waits; the clock decides whether that is now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from returnable.domain.calendar import zone
from returnable.domain.case import Case
from returnable.domain.deadlines import Deadline
from returnable.domain.deciding import DecisionContext
from returnable.domain.errors import Impossible
from returnable.domain.fields import WorkKind
from returnable.domain.ids import StreamId
from returnable.domain.outcome import in_zone
from returnable.domain.policy import Policy
from returnable.domain.refunds.owed import owed
from returnable.domain.refunds.request import check_may_request, may_request
from returnable.domain.refunds.state import RefundSubject
from returnable.domain.returns.state import Return
from returnable.domain.timetable import promises_of
from returnable.projections.views import SubjectView, WorkItem, WorklistView

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A task that waits for somebody, without a clock.

    It is on the list from ``shown_from`` (``None``: always) until just before ``shown_until`` (``None``: for ever), and
    overdue from ``overdue_from`` on.
    """

    kind: str
    subject: str
    name: str
    zone: str
    """The zone of the policy, in which ``due_at`` is shown."""
    due_at: datetime | None = None
    shown_from: datetime | None = None
    shown_until: datetime | None = None
    overdue_from: datetime | None = None
    deadline: Deadline | None = field(default=None, kw_only=True)
    """The deadline that makes the task. Stored views do not keep it."""

    def shown(self, moment: datetime) -> bool:
        """Whether the task waits at that instant."""
        begun = self.shown_from is None or moment >= self.shown_from
        return begun and (self.shown_until is None or moment < self.shown_until)

    def overdue(self, moment: datetime) -> bool:
        """Whether the task should have been done by then."""
        return self.overdue_from is not None and moment >= self.overdue_from

    @property
    def urgency(self) -> tuple[bool, datetime, str, str, str]:
        """The order of the list: tasks with a time first, the earliest first."""
        return self.due_at is None, self.due_at or _LONG_AGO, self.kind, self.subject, self.name


def worklist_view(waiting: Iterable[Waiting], kinds: Collection[str] | None, moment: datetime) -> WorklistView:
    """The tasks of these kinds (``None``: all) that wait at ``moment``, in the order of their urgency."""
    found = [item for item in waiting if (kinds is None or item.kind in kinds) and item.shown(moment)]
    found.sort(key=lambda item: item.urgency)
    return WorklistView(items=tuple(_item(item, moment) for item in found))


def _item(item: Waiting, moment: datetime) -> WorkItem:
    return WorkItem.model_validate(
        {
            "kind": item.kind,
            "subject": SubjectView.model_validate({"kind": item.subject, "id": item.name}),
            "due_at": in_zone(item.due_at, zone(item.zone)) if item.due_at is not None else None,
            "overdue": item.overdue(moment),
        }
    )


def waiting_in(case: Case, policy: Policy) -> Iterator[Waiting]:
    """The tasks of a case that wait, waited, or will wait if nothing else happens."""
    order, zone_name = case.order, policy.zone
    if case.arrival is not None:
        if case.arrival.status == "parked":
            yield Waiting("assign_arrival", "arrival", case.arrival.arrival_id, zone_name)
        return
    if order.notices_owed:
        yield Waiting("notify_customer", "order", order.order_id, zone_name)
    for subject in (order, *case.returns.values(), *case.claims.values()):
        if subject.exceptions:
            yield Waiting("exception", *StreamId.parse(subject.stream), zone_name)
    for stream in case.to_reship():
        yield Waiting("reship", *StreamId.parse(stream), zone_name)
    if order.may_owe:
        yield from _refunds_due(case, order.stream, policy)
    for ret in case.returns.values():
        yield from _of_return(case, ret, policy)
    for claim in case.claims.values():
        if claim.status == "resolved" and claim.remedy != "replacement":
            yield from _refunds_due(case, claim.stream, policy)
    for refund in case.refunds.values():
        if refund.paid_short:
            until = refund.requested.overdue_at  # from then on it is overdue
            yield Waiting("refund_short", "refund", refund.refund_id, zone_name, until, shown_until=until)
    for deadline in promises_of(case):
        if deadline.open and deadline.task is not None:
            yield _of_deadline(deadline, deadline.task, zone_name)


def _of_deadline(deadline: Deadline, task: WorkKind, zone_name: str) -> Waiting:
    subject, name = StreamId.parse(deadline.subject)
    late, waits = deadline.passes_at, deadline.task_waits
    begins, ends = late if waits == "after" else None, late if waits == "before" else None
    overdue = None if waits == "before" else late
    return Waiting(task, subject, name, zone_name, deadline.at, begins, ends, overdue, deadline=deadline)


def _of_return(case: Case, ret: Return, policy: Policy) -> Iterator[Waiting]:
    zone_name = policy.zone
    asked = any(refund.stream == ret.stream for refund in case.refunds.values())
    # Units that did not come with the first box may never come; a box that arrived after the last inspection waits for one.
    arrived = [each.at for box in ret.boxes.values() if box.taken_in for each in box.arrivals]
    waiting = ret.status in ("received", "inspected") and not asked
    arrived_since = ret.inspected_at is None or any(at > ret.inspected_at for at in arrived)
    if (waiting or arrived_since) and ret.taken_in and not ret.wholly_refused and ret.anything_uninspected():
        yield Waiting("inspect", "return", ret.return_id, zone_name)
    if ret.status not in ("withdrawn", "sent_back") and ret.anything_to_send_back():
        yield Waiting("send_back", "return", ret.return_id, zone_name)
    settled = ret.status == "inspected" and ret.anything_accepted()
    pardoned = bool(ret.overrides or case.order.overrides)  # a person may have decided to pay earlier
    if settled or asked or pardoned:
        yield from _refunds_due(case, ret.stream, policy)


def _refunds_due(case: Case, stream: str, policy: Policy) -> Iterator[Waiting]:
    """The task to ask for a refund. The amount owed depends on the instant of the request only by overrides that end."""
    subject = case.refund_subject(stream)
    overrides = {*case.order.overrides, *subject.subject.overrides}
    ends = sorted({override.expires_at for override in overrides if override.expires_at is not None})
    for begin, end in zip([None, *ends], [*ends, None], strict=True):
        if refund_due(subject, begin or case.order.confirmed.recorded_at, policy):
            yield Waiting("request_refund", *StreamId.parse(stream), policy.zone, shown_from=begin, shown_until=end)


def refund_due(subject: RefundSubject, at: datetime, policy: Policy) -> bool:
    """Whether there is a refund to ask for at an instant."""
    try:
        check_may_request(subject, "request_refund")
        weighing = subject.weighing(DecisionContext(at, policy))
        due = owed(subject, weighing)
        return weighing.allowed and may_request(subject, due, policy) is not None
    except Impossible:
        return False

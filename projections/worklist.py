"""The worklist: what waits for somebody, from the facts and the clock alone.

It is the same whether or not anybody recorded the deadlines: a label voids, a contact is missed and a refund is overdue by
the passing of time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime

from returnable.domain.calendar import zone
from returnable.domain.case import Case
from returnable.domain.claims import Claim
from returnable.domain.deciding import Moment
from returnable.domain.errors import Impossible
from returnable.domain.outcome import in_zone
from returnable.domain.policy import Policy
from returnable.domain.returns import Return
from returnable.projections.views import SubjectView, WorkItem, WorklistView

_Raw = tuple[str, str, str, datetime | None, bool]


def worklist_view(
    cases: Iterable[tuple[Case, Policy]], kinds: Collection[str] | None, moment: datetime
) -> WorklistView:
    """The items of those kinds (``None``: all) of all cases: those with a time first, the earliest first."""
    found: list[tuple[_Raw, Policy]] = []
    for case, policy in cases:
        for item in work_of_case(case, policy, moment):
            if kinds is None or item[0] in kinds:
                found.append((item, policy))
    found.sort(key=_urgency)
    return WorklistView(
        items=tuple(
            WorkItem.model_validate(
                {
                    "kind": kind,
                    "subject": SubjectView.model_validate({"kind": subject, "id": name}),
                    "due_at": in_zone(due_at, zone(policy.zone)) if due_at is not None else None,
                    "overdue": overdue,
                }
            )
            for (kind, subject, name, due_at, overdue), policy in found
        )
    )


def _urgency(entry: tuple[_Raw, Policy]) -> tuple[bool, float, str, str, str]:
    (kind, subject, name, due_at, _), _policy = entry
    return due_at is None, due_at.timestamp() if due_at else 0.0, kind, subject, name


def work_of_case(case: Case, policy: Policy, moment: datetime) -> Iterator[_Raw]:
    """What waits in one case: kind, subject kind and id, when it is due, whether it is overdue."""
    order = case.order
    if order.notices_owed:
        yield "notify_customer", "order", order.order_id, None, False
    if order.exceptions:
        yield "exception", "order", order.order_id, None, False
    if order.status == "cancelled" and _refund_due(case, order.stream, policy, moment):
        yield "request_refund", "order", order.order_id, None, False
    for ret in case.returns.values():
        yield from _work_of_return(case, ret, policy, moment)
    for claim in case.claims.values():
        yield from _work_of_claim(case, claim, policy, moment)
    for refund in case.refunds.values():
        if refund.overdue(moment):
            yield "refund_overdue", "refund", refund.refund_id, refund.requested.overdue_at, True


def _work_of_return(case: Case, ret: Return, policy: Policy, moment: datetime) -> Iterator[_Raw]:
    for label in ret.labels.values():
        if label.status_at(moment) == "issued":
            yield "void_label", "return", ret.return_id, label.void_at, False
    waiting = ret.status == "inspected" and not ret.refunded and ret.anything_uninspected()
    if ret.status == "received" or waiting:
        yield "inspect", "return", ret.return_id, None, False
    if ret.status in ("rejected", "inspected", "refunded") and ret.anything_to_send_back():
        yield "send_back", "return", ret.return_id, None, False
    if ret.status == "inspected" and ret.anything_accepted() and _refund_due(case, ret.stream, policy, moment):
        yield "request_refund", "return", ret.return_id, None, False


def _work_of_claim(case: Case, claim: Claim, policy: Policy, moment: datetime) -> Iterator[_Raw]:
    if claim.status == "open" and claim.contacted_at is None:
        yield "contact_customer", "claim", claim.claim_id, claim.opened.contact_by, claim.overdue(moment)
    if claim.status == "resolved" and claim.remedy != "replacement" and _refund_due(case, claim.stream, policy, moment):
        yield "request_refund", "claim", claim.claim_id, None, False


def _refund_due(case: Case, stream: str, policy: Policy, moment: datetime) -> bool:
    subject = case.refund_subject(stream)
    try:
        subject.may_request("request_refund")
    except Impossible:
        return False
    weighing = subject.weighing(Moment(moment, policy))
    subject.owed(weighing)
    return weighing.allowed

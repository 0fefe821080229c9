"""Which function decides which command: pure, on one case, under one policy, at one instant.

The command handler decides live with it. Explanations, checks and "what if" decide again with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from returnable.domain import arrivals, claims, overrides, refusals
from returnable.domain.allowed import possible_commands
from returnable.domain.arrivals import UnannouncedArrival, tracked, tracking_of
from returnable.domain.case import Case
from returnable.domain.claims import Claim
from returnable.domain.commands import (
    CloseException,
    Command,
    CorrectDelivery,
    CorrectInspection,
    IssueLabel,
    NamePayout,
    NotifyCustomer,
    RecordRefundResult,
)
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.errors import Impossible
from returnable.domain.events import (
    AccountLinked,
    CancellationRequested,
    CustomerNotified,
    Event,
    ExceptionClosed,
    RefusalsCounted,
)
from returnable.domain.order import cancellation, confirm, parcels, payments, shop_cancels
from returnable.domain.ports import Recorded
from returnable.domain.refunds import request as refunds
from returnable.domain.refunds.elsewhere import record_refund
from returnable.domain.refunds.results import record_result
from returnable.domain.returns import labels, request, way_back
from returnable.domain.returns.disposition import record_disposition
from returnable.domain.returns.state import Return
from returnable.domain.timetable import due_events


def decide(case: Case, command: Command, now: DecisionContext) -> DecisionResult:
    """The result of a command on a case; raises :class:`Impossible` where the lifecycle or the data do not allow it.

    ``run_deadlines`` is decided for this one case.
    """
    try:
        decided = _decide(case, command, now)
    except Impossible as error:
        say_allowed(error, command.command, case, now)
        raise
    keys = {key for _, event in decided.events if (key := tracking_of(event)) is not None} - case.tracking
    decided.reserved_ids += [tracked(case.case_id, key) for key in sorted(keys)]
    return decided if decided.outcome == "accepted" else _counted(case, decided, now)


def _decide(case: Case, command: Command, now: DecisionContext) -> DecisionResult:
    if case.seq and case.arrival is None:
        command.check_after(case.order.placed_at)
    return _DECISIONS[command.command](case, command, now)


def say_allowed(error: Impossible, command: str, case: Case, now: DecisionContext) -> Impossible:
    """The same error of a command; where it is about something that exists, it says what else is allowed now."""
    about = error.about
    if about is not None:
        error.allow(lambda: tuple(name for name in allowed(case, about, now) if name != command))
    return error


def allowed(case: Case, stream: str, now: DecisionContext) -> tuple[str, ...]:
    """The commands on what has that stream that would be accepted now with some arguments."""
    return possible_commands(case, case.aggregate_of(stream), now, _decide)


def _counted(case: Case, decided: DecisionResult, now: DecisionContext) -> DecisionResult:
    """The same refusal; but where enough identical ones are recorded, it is counted and not recorded.

    The first refusal that is not recorded as usual is recorded as :class:`RefusalsCounted`. Later ones record nothing.
    """
    if (
        type(decided.events[-1][1]) not in refusals.REFUSALS
        or case.refusal is None
        or _changes_more(case, decided.events)
    ):
        return decided
    refused = refusals.Refusal(
        tuple(Recorded(0, case.case_id, 0, stream, 0, event) for stream, event in decided.events)
    )
    first, found = None, 0
    for refusal in case.refusal.with_those_before():
        if refusal.identity != refused.identity:
            continue
        last = refusal.entries[-1]
        if isinstance(last.event, RefusalsCounted):
            return replace(decided, events=[], reserved_ids=[], free=decided.reserved_ids, counted=last)
        first, found = refusal, found + 1
    if first is None or found < refusals.RECORDED_SINGLY:
        return decided
    stream, decision = decided.events[-1]
    event = RefusalsCounted(
        **now.envelope(decided.events[0][1].occurred_at),
        pins=now.pins,
        ruling=decision.ruling or (),
        command=refused.command,
        repeats=first.entries[0].event_id,
        request=refused.request(),
    )
    # What the request would have created has no stream, so its order's is taken.
    into = stream if case.version_of(stream) else case.order.stream
    return replace(decided, events=[(into, event)], reserved_ids=[], free=decided.reserved_ids)


def _changes_more(case: Case, events: Sequence[tuple[str, Event]]) -> bool:
    """Whether the refused request matters later: the first incomplete cancellation keeps its time."""
    request, since = events[0][1], case.order.incomplete_since
    if not isinstance(request, CancellationRequested) or not request.incomplete:
        return False
    return since is None or request.occurred_at < since


Decision = Callable[[Case, Any, DecisionContext], DecisionResult]


def _ret(case: Case, command: Any) -> Return:
    """The return, or the wrong item of a claim on its way back."""
    claim_id = getattr(command, "claim_id", None)
    return case.returns[command.return_id] if claim_id is None else case.claims[claim_id].way_back


def _claim(case: Case, command: Any) -> Claim:
    return case.claims[command.claim_id]


def _arrival(case: Case) -> UnannouncedArrival:
    if case.arrival is None:
        raise AssertionError(f"case {case.case_id!r} is no arrival")
    return case.arrival


def _issue_label(case: Case, command: IssueLabel, now: DecisionContext) -> DecisionResult:
    if command.claim_id is not None:
        case.claims[command.claim_id].check_allows("LabelIssued", command.command)
    return labels.issue_label(_ret(case, command), case.order, command, now, list(case.returns.values()), case.held)


def _correct_inspection(case: Case, command: CorrectInspection, now: DecisionContext) -> DecisionResult:
    ret = _ret(case, command)
    attempts = case.refund_subject(ret.stream).attempts
    paid = ret.refunded if any(refund.settled or refund.status != "failed" for refund in attempts) else {}
    return way_back.correct_inspection(ret, case.order, command, now, paid)


def _close_exception(case: Case, command: CloseException, now: DecisionContext) -> DecisionResult:
    subject = case.stream_of(case.stream_with(command.target))
    opened = [each.event for each in subject.exceptions]
    if not opened:
        raise subject.not_allowed(command.command, "no exception of it is open")
    if command.exception_id is not None and command.exception_id not in opened:
        reason = f"{subject.name} has no open exception {command.exception_id!r}; there are {', '.join(opened)}"
        raise Impossible("command.invalid", reason, field="exception_id")
    return now.record(subject.stream, ExceptionClosed, reason=command.reason, exception_id=command.exception_id)


def _result(case: Case, command: RecordRefundResult, now: DecisionContext) -> DecisionResult:
    refund = case.refunds[command.refund_id]
    return record_result(case.refund_subject(refund.stream), refund, command, now)


def _name_payout(case: Case, command: NamePayout, now: DecisionContext) -> DecisionResult:
    tenders = [tender for refund in case.refunds.values() for tender in refund.tenders.values()]
    return payments.name_payout(case.order, {t.payment_id for t in tenders if t.failed}, command, now)


def _correct_delivery(case: Case, command: CorrectDelivery, now: DecisionContext) -> DecisionResult:
    return parcels.correct_delivery(case.order, command, now, case.decisions_on(command.parcel_id))


def _notify(case: Case, command: NotifyCustomer, now: DecisionContext) -> DecisionResult:
    stream = case.stream_with(command.target)
    return now.record(stream, CustomerNotified, command.notified_at, notice=command.notice)


_DECISIONS: dict[str, Decision] = {
    "confirm_order": lambda case, command, now: confirm.confirm(command, now),
    "run_deadlines": lambda case, command, now: DecisionResult(events=due_events(case, now)),
    "request_cancellation": lambda case, command, now: cancellation.request_cancellation(
        case.order, command, now, case.open_returns()
    ),
    "cancel_order": lambda case, command, now: shop_cancels.cancel_order(case.order, command, now, case.held),
    "record_shipment": lambda case, command, now: parcels.record_shipment(case.order, command, now),
    "record_delivery": lambda case, command, now: parcels.record_delivery(case.order, command, now),
    "correct_delivery": _correct_delivery,
    "report_parcel_lost": lambda case, command, now: parcels.report_lost(case.order, command, now),
    "record_parcel_returned": lambda case, command, now: parcels.record_returned(case.order, command, now),
    "link_account": lambda case, command, now: now.record(
        case.order.stream, AccountLinked, command.linked_at, account_id=command.account_id
    ),
    "request_return": lambda case, command, now: request.request_return(
        case.order, command, now, case.held, case.coming_back
    ),
    "issue_label": _issue_label,
    "record_label_received": lambda case, command, now: labels.record_label_received(
        _ret(case, command), case.order, command, now
    ),
    "void_label": lambda case, command, now: labels.void_label(_ret(case, command), command, now),
    "record_return_shipment": lambda case, command, now: way_back.record_return_shipment(
        _ret(case, command), case.order, command, now, case.held
    ),
    "receive_return": lambda case, command, now: way_back.receive_return(
        _ret(case, command), case.order, command, now, case.held
    ),
    "inspect_return": lambda case, command, now: way_back.inspect_return(
        _ret(case, command), case.order, command, now, case.held
    ),
    "correct_inspection": _correct_inspection,
    "record_send_back": lambda case, command, now: way_back.record_send_back(
        _ret(case, command), case.order, command, now
    ),
    "record_disposition": lambda case, command, now: record_disposition(_ret(case, command), command, now),
    "report_return_lost": lambda case, command, now: way_back.report_lost(
        _ret(case, command), case.order, command, now, case.held
    ),
    "reduce_return": lambda case, command, now: way_back.reduce_return(_ret(case, command), command, now),
    "withdraw_return": lambda case, command, now: way_back.withdraw(_ret(case, command), command, now),
    "request_refund": lambda case, command, now: refunds.request_refund(
        case.refund_subject(str(command.target)), command, now
    ),
    "record_refund_result": _result,
    "record_refund": lambda case, command, now: record_refund(case.order, list(case.refunds.values()), command, now),
    "record_capture": lambda case, command, now: payments.record_capture(case.order, command, now),
    "name_payout": _name_payout,
    "report_wrong_item": lambda case, command, now: claims.report_wrong_item(case.order, command, now, case.held),
    "add_claim_evidence": lambda case, command, now: claims.add_evidence(_claim(case, command), command, now),
    "record_claim_contact": lambda case, command, now: claims.record_contact(_claim(case, command), command, now),
    "resolve_claim": lambda case, command, now: claims.resolve(
        _claim(case, command), case.order, command, now, case.held
    ),
    "deny_claim": lambda case, command, now: claims.deny(_claim(case, command), command, now),
    "record_arrival": lambda case, command, now: arrivals.record_arrival(case.arrival, command, now),
    "assign_arrival": lambda case, command, now: arrivals.assign(_arrival(case), command, now),
    "dismiss_arrival": lambda case, command, now: arrivals.dismiss(_arrival(case), command, now),
    "notify_customer": _notify,
    "close_exception": _close_exception,
    "override": overrides.grant,
}

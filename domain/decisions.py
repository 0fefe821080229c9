"""Which decision a command leads to: pure, on one case, under one policy, at one instant.

The desk decides live with it, and whoever explains, checks or asks "what if" decides again with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from returnable.domain import claims, refusals
from returnable.domain.case import Case
from returnable.domain.claims import Claim
from returnable.domain.commands import (
    AddClaimEvidence,
    Command,
    ConfirmOrder,
    DenyClaim,
    InspectReturn,
    IssueLabel,
    LinkAccount,
    NotifyCustomer,
    Override,
    ReceiveReturn,
    RecordClaimContact,
    RecordDelivery,
    RecordLabelReceived,
    RecordRefundResult,
    RecordReturnShipment,
    RecordSendBack,
    RecordShipment,
    ReportReturnLost,
    ReportWrongItem,
    RequestCancellation,
    RequestRefund,
    RequestReturn,
    ResolveClaim,
    RunDeadlines,
    VoidLabel,
    WithdrawReturn,
)
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.events import (
    AccountLinked,
    CancellationRequested,
    CustomerNotified,
    Event,
    OverrideGranted,
    RefusalsCounted,
)
from returnable.domain.order import cancellation, confirm, parcels
from returnable.domain.ports import Recorded
from returnable.domain.refunds import request as refunds
from returnable.domain.returns import labels, request, way_back
from returnable.domain.returns.state import Return
from returnable.domain.timetable import due_events


def decide(case: Case, command: Command, now: DecisionContext) -> DecisionResult:
    """What the command comes to on that case; raises :class:`Impossible` where its lifecycle or its data do not allow it.

    ``run_deadlines`` comes to what fell due in this one case.
    """
    decided = _DECISIONS[type(command)](case, command, now)
    return decided if decided.outcome == "accepted" else _counted(case, decided, now)


def _counted(case: Case, decided: DecisionResult, now: DecisionContext) -> DecisionResult:
    """The same refusal, but counted instead of recorded where enough identical ones are on record.

    The first one that is not recorded as usual is recorded as :class:`RefusalsCounted`; the ones after it record nothing.
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
        pins=now.policy.pins,
        ruling=decision.ruling or (),
        command=refused.command,
        repeats=first.entries[0].event_id,
        request=refused.request(),
    )
    # What the request would have created has no stream.
    where = stream if case.version_of(stream) else case.order.stream
    return replace(decided, events=[(where, event)], reserved_ids=[], free=decided.reserved_ids)


def _changes_more(case: Case, events: Sequence[tuple[str, Event]]) -> bool:
    """Whether the refused request counts later on: the first incomplete cancellation keeps its time."""
    request, since = events[0][1], case.order.incomplete_since
    if not isinstance(request, CancellationRequested) or not request.incomplete:
        return False
    return since is None or request.occurred_at < since


Decision = Callable[[Case, Any, DecisionContext], DecisionResult]


def _ret(case: Case, command: Any) -> Return:
    return case.returns[command.return_id]


def _claim(case: Case, command: Any) -> Claim:
    return case.claims[command.claim_id]


def _inspect(case: Case, command: InspectReturn, now: DecisionContext) -> DecisionResult:
    ret = _ret(case, command)
    return way_back.inspect_return(ret, case.order, command, now, bool(case.refund_subject(ret.stream).attempts))


def _notify(case: Case, command: NotifyCustomer, now: DecisionContext) -> DecisionResult:
    return now.record(case.stream_with(command.target), CustomerNotified, notice=command.notice)


def _override(case: Case, command: Override, now: DecisionContext) -> DecisionResult:
    fields = command.model_dump(include={"clause", "reason", "approved_by"})
    return now.record(str(command.target), OverrideGranted, **fields)


_DECISIONS: dict[type[Command], Decision] = {
    ConfirmOrder: lambda case, command, now: confirm.confirm(command, now),
    RunDeadlines: lambda case, command, now: DecisionResult(events=due_events(case, now)),
    RequestCancellation: lambda case, command, now: cancellation.request_cancellation(
        case.order, command, now, case.open_returns()
    ),
    RecordShipment: lambda case, command, now: parcels.record_shipment(case.order, command, now),
    RecordDelivery: lambda case, command, now: parcels.record_delivery(case.order, command, now),
    LinkAccount: lambda case, command, now: now.record(case.order.stream, AccountLinked, account_id=command.account_id),
    RequestReturn: lambda case, command, now: request.request_return(case.order, command, now, case.held),
    IssueLabel: lambda case, command, now: labels.issue_label(_ret(case, command), case.order, command, now),
    RecordLabelReceived: lambda case, command, now: labels.record_label_received(_ret(case, command), command, now),
    VoidLabel: lambda case, command, now: labels.void_label(_ret(case, command), command, now),
    RecordReturnShipment: lambda case, command, now: way_back.record_return_shipment(_ret(case, command), command, now),
    ReceiveReturn: lambda case, command, now: way_back.receive_return(_ret(case, command), case.order, command, now),
    InspectReturn: _inspect,
    RecordSendBack: lambda case, command, now: way_back.record_send_back(_ret(case, command), command, now),
    ReportReturnLost: lambda case, command, now: way_back.report_lost(_ret(case, command), command, now),
    WithdrawReturn: lambda case, command, now: way_back.withdraw(_ret(case, command), command, now),
    RequestRefund: lambda case, command, now: refunds.request_refund(
        case.refund_subject(str(command.target)), command, now
    ),
    RecordRefundResult: lambda case, command, now: refunds.record_result(case.refunds[command.refund_id], command, now),
    ReportWrongItem: lambda case, command, now: claims.report_wrong_item(case.order, command, now, case.held),
    AddClaimEvidence: lambda case, command, now: claims.add_evidence(_claim(case, command), command, now),
    RecordClaimContact: lambda case, command, now: claims.record_contact(_claim(case, command), command, now),
    ResolveClaim: lambda case, command, now: claims.resolve(_claim(case, command), case.order, command, now, case.held),
    DenyClaim: lambda case, command, now: claims.deny(_claim(case, command), command, now),
    NotifyCustomer: _notify,
    Override: _override,
}

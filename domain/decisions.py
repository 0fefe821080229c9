"""Which decision a command leads to: pure, on one case, under one policy, at one instant.

The desk decides live with it, and whoever explains, checks or asks "what if" decides again with it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from returnable.domain import claims, order, refunds, returns
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
from returnable.domain.deciding import Decided, Moment
from returnable.domain.events import CustomerNotified, Fact, OverrideGranted
from returnable.domain.refusals import counted
from returnable.domain.timetable import promises_of


def decide(case: Case, command: Command, now: Moment) -> Decided:
    """What the command comes to on that case; raises :class:`Impossible` where its lifecycle or its data do not allow it.

    ``run_deadlines`` comes to what fell due in this one case.
    """
    decided = _DECISIONS[type(command)](case, command, now)
    return decided if decided.outcome == "accepted" else counted(case, decided, now)


def due_facts(case: Case, now: Moment) -> list[tuple[str, Fact]]:
    """The deadlines of a case that came and are not on record: each *occurs* at its instant."""
    return [
        (deadline.stream, deadline.lapse(**now.envelope(deadline.at)))
        for deadline in promises_of(case, unrecorded=True)
        if deadline.lapse is not None and deadline.passed(now.at)
    ]


def next_due(case: Case) -> datetime | None:
    """The first instant at which :func:`due_facts` finds something, if nothing else happens; ``None``: never."""
    return min(
        (deadline.passes_at for deadline in promises_of(case, unrecorded=True) if deadline.lapse is not None),
        default=None,
    )


Decision = Callable[[Case, Any, Moment], Decided]


def _ret(case: Case, command: Any) -> returns.Return:
    return case.returns[command.return_id]


def _claim(case: Case, command: Any) -> Claim:
    return case.claims[command.claim_id]


def _inspect(case: Case, command: InspectReturn, now: Moment) -> Decided:
    ret = _ret(case, command)
    refund_asked = bool(refunds.of_subject(case.refunds.values(), ret.stream))
    return returns.inspect_return(ret, case.order, command, now, refund_asked)


def _request_refund(case: Case, command: RequestRefund, now: Moment) -> Decided:
    return refunds.request_refund(case.refund_subject(str(command.target)), command, now)


def _notify(case: Case, command: NotifyCustomer, now: Moment) -> Decided:
    stream = case.stream_with(command.target)
    return Decided(facts=[(stream, CustomerNotified(**now.envelope(), notice=command.notice))])


def _override(case: Case, command: Override, now: Moment) -> Decided:
    granted = OverrideGranted(
        **now.envelope(), clause=command.clause, reason=command.reason, approved_by=command.approved_by
    )
    return Decided(facts=[(str(command.target), granted)])


_DECISIONS: dict[type[Command], Decision] = {
    ConfirmOrder: lambda case, command, now: order.confirm(command, now),
    RunDeadlines: lambda case, command, now: Decided(facts=due_facts(case, now)),
    RequestCancellation: lambda case, command, now: order.request_cancellation(
        case.order, command, now, case.open_returns()
    ),
    RecordShipment: lambda case, command, now: order.record_shipment(case.order, command, now),
    RecordDelivery: lambda case, command, now: order.record_delivery(case.order, command, now),
    LinkAccount: lambda case, command, now: order.link_account(case.order, command, now),
    RequestReturn: lambda case, command, now: returns.request_return(case.order, command, now, case.held),
    IssueLabel: lambda case, command, now: returns.issue_label(_ret(case, command), case.order, command, now),
    RecordLabelReceived: lambda case, command, now: returns.record_label_received(_ret(case, command), command, now),
    VoidLabel: lambda case, command, now: returns.void_label(_ret(case, command), command, now),
    RecordReturnShipment: lambda case, command, now: returns.record_return_shipment(_ret(case, command), command, now),
    ReceiveReturn: lambda case, command, now: returns.receive_return(_ret(case, command), case.order, command, now),
    InspectReturn: _inspect,
    RecordSendBack: lambda case, command, now: returns.record_send_back(_ret(case, command), command, now),
    ReportReturnLost: lambda case, command, now: returns.report_lost(_ret(case, command), command, now),
    WithdrawReturn: lambda case, command, now: returns.withdraw(_ret(case, command), command, now),
    RequestRefund: _request_refund,
    RecordRefundResult: lambda case, command, now: refunds.record_result(case.refunds[command.refund_id], command, now),
    ReportWrongItem: lambda case, command, now: claims.report_wrong_item(case.order, command, now, case.held),
    AddClaimEvidence: lambda case, command, now: claims.add_evidence(_claim(case, command), command, now),
    RecordClaimContact: lambda case, command, now: claims.record_contact(_claim(case, command), command, now),
    ResolveClaim: lambda case, command, now: claims.resolve(_claim(case, command), case.order, command, now, case.held),
    DenyClaim: lambda case, command, now: claims.deny(_claim(case, command), command, now),
    NotifyCustomer: _notify,
    Override: _override,
}

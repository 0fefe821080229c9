"""The way back: handed over, received at the dock, inspected; sent back, lost or withdrawn.

Clauses: ``returns.ship_by``, ``returns.tracking``, ``returns.own_label``, ``returns.condition``.
"""

from __future__ import annotations

from returnable.domain.commands import (
    InspectReturn,
    ReceiveReturn,
    RecordReturnShipment,
    RecordSendBack,
    ReportReturnLost,
    WithdrawReturn,
)
from returnable.domain.deadlines import passed
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.errors import Impossible
from returnable.domain.events import (
    Inspected,
    InspectedUnits,
    ParcelLost,
    ParcelRejected,
    Received,
    ReturnShipped,
    ReturnWithdrawn,
    SentBack,
    Units,
)
from returnable.domain.fields import to_text
from returnable.domain.order.state import Order
from returnable.domain.returns.state import Return
from returnable.domain.ruling import Grounds, margin_seconds
from returnable.domain.wording import plural, units


def record_return_shipment(ret: Return, command: RecordReturnShipment, now: DecisionContext) -> DecisionResult:
    """The customer handed the parcel over. A late hand-over is recorded as well, and judged at the dock."""
    if command.label_id is not None:
        ret.known_label(command.label_id)
    ret.check_allows("ReturnShipped", command.command)
    return now.record(
        ret.stream,
        ReturnShipped,
        command.shipped_at,
        label_id=command.label_id,
        tracking_number=command.tracking_number,
        proof=command.proof,
    )


def receive_return(ret: Return, order: Order, command: ReceiveReturn, now: DecisionContext) -> DecisionResult:
    """Accept the parcel, or refuse it at the dock when it was handed over after the deadline."""
    ret.check_allows("Received", command.command)
    received_at = command.received_at or now.at
    weighing = now.weighing(Received, order, ret)
    sent_at, void_at = ret.shipped.at if ret.shipped else received_at, ret.void_at
    grounds: Grounds = {"sent_at": to_text(sent_at), "proven_by": _proof(ret)}
    if void_at is not None:
        grounds["deadline"] = to_text(void_at)
        grounds["margin_seconds"] = margin_seconds(void_at, sent_at)
    in_time = None if void_at is None else not passed("returns.ship_by", void_at, sent_at)
    weighing.weigh("returns.ship_by", in_time, grounds)
    if ret.shipped is not None:
        weighing.weigh("returns.tracking", True, {"sent_at": to_text(sent_at), "proven_by": _proof(ret)})
        own = ret.shipped_with is None
        weighing.weigh("returns.own_label", True if own else None, {"own_label": own})
    verdict = Received if weighing.allowed else ParcelRejected
    return now.decide(ret.stream, weighing, verdict, occurred_at=received_at)


def _proof(ret: Return) -> str:
    if ret.shipped is None:
        return "arrival"
    return ret.proof or "recorded hand-over"


def inspect_return(
    ret: Return, order: Order, command: InspectReturn, now: DecisionContext, refund_open: bool
) -> DecisionResult:
    """Accept or reject unit by unit; risk passes here."""
    ret.check_lines((finding.line_id for finding in command.findings), "findings[{}].line_id")
    ret.check_allows("Inspected", command.command)
    everything = not ret.anything_uninspected()
    if everything or refund_open:
        why = "every unit was inspected" if everything else "its refund is under way"
        raise ret.not_allowed(command.command, why)
    count: dict[str, int] = {}
    for index, finding in enumerate(command.findings):
        count[finding.line_id] = count.get(finding.line_id, 0) + finding.quantity
        left = ret.uninspected(finding.line_id)
        if count[finding.line_id] > left:
            reason = (
                f"findings on {units(count[finding.line_id])} of line {finding.line_id}, but {left} left to inspect"
            )
            raise Impossible("quantity.exceeded", reason, field=f"findings[{index}].quantity")
    weighing = now.weighing(Inspected, order, ret)
    requires = now.policy.clauses.returns_condition.requires
    applies = now.policy.clauses.returns_condition.applies
    missing = [[name for name in requires if not getattr(finding, name)] for finding in command.findings]
    lacking = {finding.line_id for finding, lacks in zip(command.findings, missing, strict=True) if lacks}
    override = None
    if lacking and applies:
        # The clause judges unit by unit, so an override for some of the lines that fail accepts the units of those.
        override = weighing.override("returns.condition", lacking)
        override = override or weighing.override("returns.condition", lacking, some=True)
    judged: list[Grounds] = [
        {"line_id": finding.line_id, "quantity": finding.quantity, "missing": list(lacks)}
        for finding, lacks in zip(command.findings, missing, strict=True)
    ]
    grounds: Grounds = {"requires": list(requires), "units": judged}
    if override is not None:
        grounds["override"] = override.grounds()
    # Rejecting a unit does not decline the command: the verdict says whether the clause rejects any.
    weighing.weigh("returns.condition", not lacking, grounds, failing=lacking)
    return now.decide(
        ret.stream,
        weighing,
        Inspected,
        occurred_at=command.inspected_at,
        findings=tuple(
            InspectedUnits(
                line_id=finding.line_id,
                quantity=finding.quantity,
                same_condition=finding.same_condition,
                original_packaging=finding.original_packaging,
                tags_attached=finding.tags_attached,
                accepted=not lacks or not applies or (override is not None and override.covers((finding.line_id,))),
                notes=finding.notes,
            )
            for finding, lacks in zip(command.findings, missing, strict=True)
        ),
    )


def record_send_back(ret: Return, command: RecordSendBack, now: DecisionContext) -> DecisionResult:
    """Rejected units went back to the customer."""
    ret.check_lines((line.line_id for line in command.lines), "lines[{}].line_id")
    ret.check_allows("SentBack", command.command)
    for index, line in enumerate(command.lines):
        left = ret.to_send_back(line.line_id)
        if line.quantity > left:
            sent = f"{units(line.quantity)} of line {line.line_id} {plural(line.quantity, 'was', 'were')} sent back"
            here = f"{left} rejected {plural(left, 'unit is', 'units are')} here"
            raise Impossible("quantity.exceeded", f"{sent}, but {here}", field=f"lines[{index}].quantity")
    sent_back = tuple(Units(line_id=line.line_id, quantity=line.quantity) for line in command.lines)
    return now.record(ret.stream, SentBack, command.sent_at, lines=sent_back, tracking_number=command.tracking_number)


def report_lost(ret: Return, command: ReportReturnLost, now: DecisionContext) -> DecisionResult:
    """The parcel is lost on its way back: closed without refund, unless it turns up (``returns.transit_risk``)."""
    ret.check_allows("ParcelLost", command.command)
    return now.record(ret.stream, ParcelLost, command.reported_at)


def withdraw(ret: Return, command: WithdrawReturn, now: DecisionContext) -> DecisionResult:
    """The customer keeps the goods. Possible until the parcel is handed over."""
    ret.check_allows("ReturnWithdrawn", command.command)
    if ret.refunded:
        raise ret.not_allowed(command.command, "its refund is under way")
    return now.record(ret.stream, ReturnWithdrawn, command.withdrawn_at)

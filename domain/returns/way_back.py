"""The way back: handed over, received at the dock, inspected; sent back, lost or withdrawn.

Clauses: ``returns.ship_by``, ``returns.tracking``, ``returns.own_label``, ``returns.condition``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from returnable.domain.commands import (
    CorrectInspection,
    InspectionFinding,
    InspectReturn,
    ReceiveReturn,
    RecordReturnShipment,
    RecordSendBack,
    ReduceReturn,
    ReportReturnLost,
    WithdrawReturn,
)
from returnable.domain.deadlines import passed
from returnable.domain.deciding import DecisionContext, DecisionResult, Weighing
from returnable.domain.errors import Impossible
from returnable.domain.events import (
    FindingsDisputed,
    FoundUnits,
    Inspected,
    InspectedUnits,
    InspectionCorrected,
    ParcelLost,
    ParcelRejected,
    Received,
    ReturnReduced,
    ReturnShipped,
    ReturnWithdrawn,
    SentBack,
    Units,
)
from returnable.domain.fields import to_text
from returnable.domain.order.state import Held, Order
from returnable.domain.returns.conflicts import conflicts
from returnable.domain.returns.state import Box, Return
from returnable.domain.ruling import Grounds, margin_seconds
from returnable.domain.wording import plural, units


def record_return_shipment(
    ret: Return, order: Order, command: RecordReturnShipment, now: DecisionContext, held: Mapping[str, Held]
) -> DecisionResult:
    """The customer handed the parcel over. A late hand-over is recorded as well, and judged at the dock."""
    if command.label_id is not None:
        ret.known_label(command.label_id)
    ret.check_allows("ReturnShipped", command.command)
    event = ReturnShipped(
        **now.envelope(command.shipped_at),
        label_id=command.label_id,
        tracking_number=command.tracking_number,
        proof=command.proof,
        box_id=command.box_id,
    )
    box = ret.boxes.get(ret.meant(event))
    same = (event.occurred_at, event.label_id, event.tracking_number, event.proof)
    if box is not None and any((told.at, *told[2:5]) == same for told in box.hand_overs):
        return DecisionResult()
    return now.fact(ret.stream, event, conflicts(ret, order, event, held))


def receive_return(
    ret: Return, order: Order, command: ReceiveReturn, now: DecisionContext, held: Mapping[str, Held]
) -> DecisionResult:
    """Accept the parcel, or refuse it at the dock when it was handed over after the deadline.

    The arrival of a parcel that was refused is decided anew.
    """
    ret.check_allows("Received", command.command)
    received_at = command.received_at or now.at
    box_id = ret.meant(Received.model_construct(box_id=command.box_id))
    box = ret.boxes.get(box_id, Box())
    if box.taken_in and any(arrival.at == received_at for arrival in box.arrivals):
        return DecisionResult()
    shipped = box.shipped
    weighing = now.weighing(Received, order, ret)
    # An arrival before the request cannot be: then it proves no more than that the parcel is here now.
    arrived_at = received_at if received_at >= ret.asked_at else now.at
    sent_at = arrived_at if box.sent is None else box.sent.at if shipped else min(arrived_at, box.sent.at)
    void_at = ret.void_at(command.box_id or box_id)
    proof = "arrival" if shipped is None else shipped.proof or "recorded hand-over"
    grounds: Grounds = {"sent_at": to_text(sent_at), "proven_by": proof}
    if void_at is not None:
        grounds["deadline"] = to_text(void_at)
        grounds["margin_seconds"] = margin_seconds(void_at, sent_at)
    if ret.cancelled:
        grounds["cancelled"] = True
    elif ret.of_claim:
        grounds["wrong_item"] = True
    in_time = None if void_at is None or ret.comes_free else not passed("returns.ship_by", void_at, sent_at)
    weighing.weigh("returns.ship_by", in_time, grounds)
    if shipped is not None:
        weighing.weigh("returns.tracking", True, {"sent_at": to_text(sent_at), "proven_by": proof})
        own = shipped.label_id is None
        weighing.weigh("returns.own_label", True if own else None, {"own_label": own})
    verdict = Received if weighing.allowed else ParcelRejected
    decided = now.decide(ret.stream, weighing, verdict, occurred_at=received_at, box_id=command.box_id)
    return decided.disputed(now, conflicts(ret, order, decided.events[0][1], held))


def inspect_return(
    ret: Return, order: Order, command: InspectReturn, now: DecisionContext, held: Mapping[str, Held]
) -> DecisionResult:
    """Accept or reject unit by unit; risk passes here. Findings on more units than are left change nothing."""
    ret.check_lines((finding.line_id for finding in command.findings), "findings[{}].line_id")
    ret.check_allows("Inspected", command.command)
    if _first_beyond(command.findings, ret.uninspected) is not None:
        found = tuple(FoundUnits(**dict(finding)) for finding in command.findings)
        disputed = FindingsDisputed(**now.envelope(command.inspected_at), findings=found)
        return now.fact(ret.stream, disputed, conflicts(ret, order, disputed))
    weighing, findings = _judged(ret, order, command.findings, now)
    decided = now.decide(ret.stream, weighing, Inspected, occurred_at=command.inspected_at, findings=findings)
    return decided.disputed(now, conflicts(ret, order, decided.events[0][1], held))


def correct_inspection(
    ret: Return, order: Order, command: CorrectInspection, now: DecisionContext, paid: Mapping[str, int]
) -> DecisionResult:
    """Replace all findings. Units that are ``paid`` or about to be, by line, stay accepted; units sent back, rejected."""
    ret.check_lines((finding.line_id for finding in command.findings), "findings[{}].line_id")
    ret.check_allows("InspectionCorrected", command.command)
    if not ret.anything_inspected():
        raise ret.not_allowed(command.command, "nothing was inspected")
    index = _first_beyond(command.findings, ret.quantity)
    if index is not None:
        line_id = command.findings[index].line_id
        reason = f"findings on more units of line {line_id} than the {ret.quantity(line_id)} in the return"
        raise Impossible("quantity.exceeded", reason, field=f"findings[{index}].quantity")
    weighing, findings = _judged(ret, order, command.findings, now)
    for line_id in sorted(ret.line_ids):
        accepted = sum(each.quantity for each in findings if each.line_id == line_id and each.accepted)
        rejected = sum(each.quantity for each in findings if each.line_id == line_id and not each.accepted)
        if accepted < paid.get(line_id, 0):
            why = f"{units(paid[line_id])} of line {line_id} {plural(paid[line_id], 'is', 'are')} paid back or about to be"
            raise ret.not_allowed(command.command, why)
        sent = ret.sent_back.get(line_id, 0)
        if not ret.refused and rejected < sent:
            why = f"{units(sent)} of line {line_id} {plural(sent, 'was', 'were')} sent back"
            raise ret.not_allowed(command.command, why)
    return now.decide(ret.stream, weighing, InspectionCorrected, findings=findings, reason=command.reason)


def _first_beyond(findings: Iterable[InspectionFinding], most: Callable[[str], int]) -> int | None:
    """The place of the first finding with which the units of its line are more than there can be."""
    count: Counter[str] = Counter()
    for index, finding in enumerate(findings):
        count[finding.line_id] += finding.quantity
        if count[finding.line_id] > most(finding.line_id):
            return index
    return None


def _judged(
    ret: Return, order: Order, given: Sequence[InspectionFinding], now: DecisionContext
) -> tuple[Weighing, tuple[InspectedUnits, ...]]:
    """The ruling on findings, and which units it accepts."""
    weighing = now.weighing(Inspected, order, ret)  # a correction goes on under the override of its inspection
    clause = now.policy.clauses.returns_condition
    missing = [[name for name in clause.requires if not getattr(finding, name)] for finding in given]
    lacking = {finding.line_id for finding, lacks in zip(given, missing, strict=True) if lacks}
    override = None
    if lacking and clause.applies:
        # The clause judges unit by unit, so an override for some of the lines that fail accepts the units of those.
        override = weighing.override("returns.condition", lacking)
        override = override or weighing.override("returns.condition", lacking, some=True)
    judged: list[Grounds] = [
        {"line_id": finding.line_id, "quantity": finding.quantity, "missing": list(lacks)}
        for finding, lacks in zip(given, missing, strict=True)
    ]
    grounds: Grounds = {"requires": list(clause.requires), "units": judged}
    if override is not None:
        grounds["override"] = override.grounds()
    # Rejecting a unit does not decline the command: the verdict says whether the clause rejects any.
    weighing.weigh("returns.condition", not lacking, grounds, failing=lacking)
    return weighing, tuple(
        InspectedUnits(
            **dict(finding),
            accepted=not lacks or not clause.applies or (override is not None and override.covers((finding.line_id,))),
        )
        for finding, lacks in zip(given, missing, strict=True)
    )


def record_send_back(ret: Return, order: Order, command: RecordSendBack, now: DecisionContext) -> DecisionResult:
    """Units went back to the customer. Those beyond the rejected ones are a conflict, and stay in the return."""
    ret.check_lines((line.line_id for line in command.lines), "lines[{}].line_id")
    ret.check_allows("SentBack", command.command)
    for index, line in enumerate(command.lines):
        has = ret.quantity(line.line_id)
        if line.quantity > has:
            sent = f"{units(line.quantity)} of line {line.line_id} {plural(line.quantity, 'was', 'were')} sent back"
            reason = f"{sent}, but the return has {has}"
            raise Impossible("quantity.exceeded", reason, field=f"lines[{index}].quantity")
    event = SentBack(
        **now.envelope(command.sent_at),
        lines=tuple(Units(line_id=line.line_id, quantity=line.quantity) for line in command.lines),
        tracking_number=command.tracking_number,
    )
    return now.fact(ret.stream, event, conflicts(ret, order, event))


def report_lost(
    ret: Return, order: Order, command: ReportReturnLost, now: DecisionContext, held: Mapping[str, Held]
) -> DecisionResult:
    """The parcel is lost on its way back: closed without refund, unless it turns up (``returns.transit_risk``)."""
    ret.check_allows("ParcelLost", command.command)
    event = ParcelLost(**now.envelope(command.reported_at))
    if ret.lost_at == event.occurred_at:
        return DecisionResult()
    return now.fact(ret.stream, event, conflicts(ret, order, event, held))


def reduce_return(ret: Return, command: ReduceReturn, now: DecisionContext) -> DecisionResult:
    """The customer keeps some of the units. Those that were inspected or paid back stay in the return."""
    ret.check_lines((line.line_id for line in command.lines), "lines[{}].line_id")
    ret.check_allows("ReturnReduced", command.command)
    for index, line in enumerate(command.lines):
        left = ret.reducible(line.line_id)
        if line.quantity > left:
            kept = f"{units(line.quantity)} of line {line.line_id} {plural(line.quantity, 'is', 'are')} kept"
            reason = f"{kept}, but {left} {plural(left, 'is', 'are')} neither inspected nor paid back"
            raise Impossible("quantity.exceeded", reason, field=f"lines[{index}].quantity")
    if sum(line.quantity for line in command.lines) == sum(line.quantity for line in ret.lines):
        raise Impossible("quantity.exceeded", "that is every unit of the return; withdraw it instead", field="lines")
    kept_units = tuple(Units(line_id=line.line_id, quantity=line.quantity) for line in command.lines)
    return now.record(ret.stream, ReturnReduced, command.reduced_at, lines=kept_units)


def withdraw(ret: Return, command: WithdrawReturn, now: DecisionContext) -> DecisionResult:
    """The customer keeps the goods, or the shop closes what was never sent. Possible until the parcel is handed over."""
    ret.check_allows("ReturnWithdrawn", command.command)
    if ret.refunded:
        raise ret.not_allowed(command.command, "its refund is under way")
    return now.record(ret.stream, ReturnWithdrawn, command.withdrawn_at)

"""Return: from the request to the last unit settled. The life of its labels is told here too.

Clauses: ``returns.window``, ``returns.final_sale``, ``returns.account``, ``returns.portal``, ``returns.no_exchanges``,
``returns.ship_by``, ``returns.tracking``, ``returns.own_label``, ``returns.condition``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from returnable.domain.commands import (
    InspectReturn,
    IssueLabel,
    ReceiveReturn,
    RecordLabelReceived,
    RecordReturnShipment,
    RecordSendBack,
    ReportReturnLost,
    RequestReturn,
    VoidLabel,
    WithdrawReturn,
)
from returnable.domain.copying import shallow_copy
from returnable.domain.deadlines import Happened, passed
from returnable.domain.deciding import DecisionContext, DecisionResult, Weighing, not_allowed
from returnable.domain.errors import HistoryBroken, Impossible, short
from returnable.domain.events import (
    Allotment,
    Event,
    Inspected,
    InspectedUnits,
    LabelDeclined,
    LabelIssued,
    LabelReceived,
    LabelVoided,
    OverrideGranted,
    ParcelLost,
    ParcelRejected,
    Received,
    RefundRequested,
    ReturnAuthorized,
    ReturnDeclined,
    ReturnLine,
    ReturnRequested,
    ReturnShipped,
    ReturnWithdrawn,
    SentBack,
    Units,
)
from returnable.domain.fields import to_text
from returnable.domain.ids import StreamId
from returnable.domain.lifecycles import LABEL, NOTHING, RETURN
from returnable.domain.order import Order, aside, ask_window, known_lines, must_not_be_cancelled
from returnable.domain.ports import ReservedId
from returnable.domain.ruling import Grounds, OverrideInForce, margin_seconds

# ---- states ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Label:
    """A prepaid return label."""

    label_id: str
    carrier: str
    tracking_number: str
    issued: Happened
    first_void_at: datetime
    """The deadline it was issued with; its receipt may move it."""
    void_at: datetime
    received: Happened | None = None
    status: str = NOTHING
    """What the facts say; ask :meth:`status_at` for the truth, because a label voids without a fact."""
    scanned_at: datetime | None = None
    voided: Happened | None = None
    """When it was voided by hand."""
    lapsed: Happened | None = None
    """The deadline that is on record as passed."""

    def status_at(self, moment: datetime) -> str:
        """``issued``, ``used`` or ``void`` at that instant; from ``void_at`` on an unused label is void."""
        if self.status == "issued" and passed("returns.ship_by", self.void_at, moment):
            return "void"
        return "void" if self.status == "void_by_hand" else self.status

    @property
    def may_lapse(self) -> bool:
        """Whether its deadline is still to be recorded, once it has come. A receipt learnt late may leave it where it was."""
        return self.status == "issued" and (self.lapsed is None or self.lapsed.at != self.void_at)

    def voided_by_itself(self, moment: datetime) -> bool:
        """Whether the deadline passed before it was used."""
        return self.status_at(moment) == "void" and self.status != "void_by_hand"

    def in_time(self, used_at: datetime) -> bool:
        """Whether the label could still be used at that instant."""
        by_hand = self.voided is not None and used_at >= self.voided.at
        return not by_hand and not passed("returns.ship_by", self.void_at, used_at)


@dataclass
class Return:
    """A return as its facts tell it."""

    return_id: str
    order_id: str = ""
    status: str = NOTHING
    lines: tuple[ReturnLine, ...] = ()
    asked_at: datetime = field(init=False)
    labels: dict[str, Label] = field(default_factory=dict)
    shipped: Happened | None = None
    shipped_with: str | None = None
    proof: str | None = None
    received: Happened | None = None
    withdrawn: Happened | None = None
    refused: bool = False
    inspected_at: datetime | None = None
    lost_at: datetime | None = None
    accepted: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    sent_back: dict[str, int] = field(default_factory=dict)
    refund_id: str | None = None
    refunded: dict[str, int] = field(default_factory=dict)
    """Line → units that a refund was asked for, paid or not: they never go back to the customer."""
    asides: tuple[OverrideInForce, ...] = ()
    version: int = 0

    @property
    def stream(self) -> str:
        """The stream of the return's facts."""
        return str(StreamId("return", self.return_id))

    @property
    def sent(self) -> Happened | None:
        """When the parcel was handed over; without a hand-over its arrival is the only proof."""
        return self.shipped or self.received

    def clone(self) -> Return:
        """A copy that can be changed without touching this one."""
        new = shallow_copy(self)
        new.labels = dict(self.labels)
        new.accepted, new.rejected, new.sent_back = dict(self.accepted), dict(self.rejected), dict(self.sent_back)
        return new

    def quantity(self, line_id: str) -> int:
        """How many units of a line this return is about."""
        return sum(line.quantity for line in self.lines if line.line_id == line_id)

    def parcels_of(self, line_id: str) -> set[str | None]:
        """The parcels in which its units of a line came."""
        return {taken.parcel_id for line in self.lines if line.line_id == line_id for taken in line.parcels}

    def held(self, line_id: str) -> Mapping[str | None, int]:
        """The units of a line that cannot be returned or claimed elsewhere, by the parcel they came in.

        Declined and withdrawn returns hold nothing, and units sent back are free again; lost ones may turn up.
        """
        if self.status in ("declined", "withdrawn"):
            return {}
        freed = self.sent_back.get(line_id, 0)
        held: dict[str | None, int] = {}
        for line in self.lines:
            if line.line_id == line_id:
                for allotment in line.parcels:
                    gone = min(freed, allotment.quantity)
                    freed -= gone
                    held[allotment.parcel_id] = held.get(allotment.parcel_id, 0) + allotment.quantity - gone
        return held

    @property
    def void_at(self) -> datetime | None:
        """The deadline to hand the parcel over: the latest of its labels; ``None`` when no label was ever issued."""
        return max((label.void_at for label in self.labels.values()), default=None)

    def is_late(self) -> bool:
        """Whether the parcel was handed over after the deadline."""
        sent, void_at = self.sent, self.void_at
        return sent is not None and void_at is not None and passed("returns.ship_by", void_at, sent.at)

    def labels_used(self) -> list[Label]:
        """The prepaid labels that were used."""
        return [label for label in self.labels.values() if label.status == "used"]

    def uninspected(self, line_id: str) -> int:
        """How many units of a line have no finding yet."""
        return self.quantity(line_id) - self.accepted.get(line_id, 0) - self.rejected.get(line_id, 0)

    def to_send_back(self, line_id: str) -> int:
        """How many rejected units of a line are still here."""
        rejected = self.quantity(line_id) if self.refused else self.rejected.get(line_id, 0)
        # An override may pay for rejected units; those stay here.
        paid = max(0, self.refunded.get(line_id, 0) - self.accepted.get(line_id, 0))
        return rejected - paid - self.sent_back.get(line_id, 0)

    def anything_to_send_back(self) -> bool:
        """Whether rejected units are still here."""
        return any(self.to_send_back(line.line_id) > 0 for line in self.lines)

    def anything_uninspected(self) -> bool:
        """Whether some unit has no finding yet."""
        return any(self.uninspected(line.line_id) for line in self.lines)

    def anything_accepted(self) -> bool:
        """Whether any unit was accepted."""
        return any(self.accepted.values())


# ---- facts change states --------------------------------------------------------------------------------------------


def apply(ret: Return, event: Event) -> None:
    """Change ``ret`` (a private copy) by one fact; raises ``HistoryBroken`` where a lifecycle forbids it."""
    kind = event.type
    if not event.moves:
        if ret.status == NOTHING:
            raise HistoryBroken(f"{ret.stream}: {kind} stands before its first fact")
        if isinstance(event, OverrideGranted):
            ret.asides += (aside(event, ret.stream, ret.version + 1),)
        return
    if isinstance(event, SentBack):
        for units in event.lines:
            ret.sent_back[units.line_id] = ret.sent_back.get(units.line_id, 0) + units.quantity
        waiting = not ret.refused and ret.anything_uninspected()
        done = not (ret.anything_to_send_back() or ret.anything_accepted() or waiting)
        ret.status = RETURN.after(ret.status, kind, done)
        return
    ret.status = RETURN.after(ret.status, kind)
    if isinstance(event, ReturnRequested):
        ret.order_id, ret.lines, ret.asked_at = event.order_id, event.lines, event.occurred_at
    elif isinstance(event, LabelIssued):
        ret.labels[event.label_id] = Label(
            event.label_id,
            event.carrier,
            event.tracking_number,
            Happened(event.occurred_at, ret.version + 1),
            event.void_at,
            event.void_at,
            None if event.received_at is None else Happened(event.received_at, ret.version + 1),
            LABEL.after(NOTHING, kind),
        )
    elif isinstance(event, LabelReceived):
        label = _label(ret, event.label_id)
        label = replace(label, received=Happened(event.occurred_at, ret.version + 1), void_at=event.void_at)
        in_time = label.scanned_at is not None and label.in_time(label.scanned_at)
        ret.labels[label.label_id] = replace(label, status=LABEL.after(label.status, kind, in_time))
    elif isinstance(event, LabelVoided):
        label = _label(ret, event.label_id)
        happened, by_hand = Happened(event.occurred_at, ret.version + 1), event.cause == "by_hand"
        ret.labels[label.label_id] = replace(
            label,
            status=LABEL.after(label.status, kind, by_hand),
            voided=happened if by_hand else label.voided,
            lapsed=label.lapsed if by_hand else happened,
        )
    elif isinstance(event, ReturnShipped):
        ret.shipped = Happened(event.occurred_at, ret.version + 1)
        ret.shipped_with, ret.proof = event.label_id, event.proof
        if event.label_id is not None:
            label = replace(_label(ret, event.label_id), scanned_at=event.occurred_at)
            status = LABEL.after(label.status, kind, label.in_time(event.occurred_at))
            ret.labels[label.label_id] = replace(label, status=status)
    elif isinstance(event, Received | ParcelRejected):
        ret.received = Happened(event.occurred_at, ret.version + 1)
        ret.refused = isinstance(event, ParcelRejected)
        if isinstance(event, Received) and ret.shipped is None:
            _use_label(ret, event)
    elif isinstance(event, Inspected):
        ret.inspected_at = event.occurred_at
        for finding in event.findings:
            count = ret.accepted if finding.accepted else ret.rejected
            count[finding.line_id] = count.get(finding.line_id, 0) + finding.quantity
    elif isinstance(event, ParcelLost):
        ret.lost_at = event.occurred_at
    elif isinstance(event, ReturnWithdrawn):
        ret.withdrawn = Happened(event.occurred_at, ret.version + 1)
    elif isinstance(event, RefundRequested):
        ret.refund_id = event.refund_id
        ret.refunded = {item.line_id: item.quantity for item in event.items}


def _label(ret: Return, label_id: str) -> Label:
    label = ret.labels.get(label_id)
    if label is None:
        raise HistoryBroken(f"{ret.stream}: label {short(label_id)} was never issued")
    return label


def _use_label(ret: Return, event: Received) -> None:
    # A parcel that arrives without a recorded hand-over came on the last label that could still be used then.
    for label in reversed(list(ret.labels.values())):
        if LABEL.allows(label.status, event.type) and label.in_time(event.occurred_at):
            ret.labels[label.label_id] = replace(label, status=LABEL.after(label.status, event.type, True))
            return


# ---- decisions: the request -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """Units of a line that somebody wants to return, and the parcels they came in."""

    line_id: str
    quantity: int
    parcels: tuple[Allotment, ...]
    reason: str | None = None


def weigh_request(
    order: Order,
    wanted: Sequence[Wanted],
    now: DecisionContext,
    requested_at: datetime,
    channel: str,
    resolution: str,
) -> Weighing:
    """Every clause that a return request is judged by, as a whole: one failing line fails its clause."""
    clauses = now.policy.clauses
    weighing = now.weighing(order.asides)

    lines = [_window_of(order, want, requested_at) for want in wanted]
    ends = [str(line["return_before"]) for line in lines if "return_before" in line]
    grounds: Grounds = {"requested_at": to_text(requested_at)}
    if ends:
        tightest = min(ends)
        grounds["deadline"] = tightest
        grounds["margin_seconds"] = margin_seconds(datetime.fromisoformat(tightest), requested_at)
    grounds["lines"] = list(lines)
    weighing.weigh("returns.window", all(line.get("in_time") for line in lines), grounds)

    marked: list[str] = [want.line_id for want in wanted if order.lines[want.line_id].final_sale]
    checked: list[str] = [want.line_id for want in wanted]
    weighing.weigh("returns.final_sale", not marked, {"lines": checked, "final_sale": marked})

    since = order.account_since
    account: Grounds = {"requested_at": to_text(requested_at)}
    if since is not None:
        account["account_id"] = order.account_id
        account["account_since_at"] = to_text(since)
    # An account that came with the order was there before any request, however the clocks of the systems differ.
    with_order = order.confirmed.customer.account_id is not None
    had_account = with_order or (since is not None and since <= requested_at)
    weighing.weigh("returns.account", had_account if clauses.returns_account.required else None, account)

    channels = clauses.returns_portal.channels
    weighing.weigh("returns.portal", channel in channels, {"channel": channel, "channels": list(channels)})
    weighing.weigh("returns.no_exchanges", resolution != "exchange", {"resolution": resolution})
    return weighing


def _window_of(order: Order, want: Wanted, requested_at: datetime) -> Grounds:
    grounds: Grounds = {"line_id": want.line_id, "quantity": want.quantity}
    window = ask_window(order, want.parcels, requested_at, lambda parcel: parcel.return_before)
    if window.undelivered:
        grounds["undelivered"] = window.undelivered
    if window.delivered_at is not None and window.before is not None:
        grounds["parcel_id"] = window.parcel
        grounds["delivered_at"] = to_text(window.delivered_at)
        grounds["return_before"] = to_text(window.before)
        grounds["margin_seconds"] = margin_seconds(window.before, requested_at)
    grounds["in_time"] = window.in_time
    return grounds


def request_return(
    order: Order,
    command: RequestReturn,
    now: DecisionContext,
    held: Mapping[str, Mapping[str | None, int]],
) -> DecisionResult:
    """Authorize or decline on the record; ``held`` says which units of each line are taken elsewhere."""
    known_lines(order, (line.line_id for line in command.lines), "lines[{}].line_id")
    must_not_be_cancelled(order, command.command)
    wanted: list[Wanted] = []
    for index, line in enumerate(command.lines):
        taken = held[line.line_id]
        check_quantity(order, line.line_id, line.quantity, sum(taken.values()), f"lines[{index}].quantity")
        parcels = order.allot(line.line_id, line.quantity, taken)
        wanted.append(Wanted(line.line_id, line.quantity, parcels, line.reason))
    requested_at = command.requested_at or now.at
    weighing = weigh_request(order, wanted, now, requested_at, command.channel, command.resolution)
    stream = str(StreamId("return", command.return_id))
    request = ReturnRequested(
        **now.envelope(requested_at),
        return_id=command.return_id,
        order_id=order.order_id,
        lines=tuple(
            ReturnLine(line_id=want.line_id, quantity=want.quantity, reason=want.reason, parcels=want.parcels)
            for want in wanted
        ),
        channel=command.channel,
        resolution=command.resolution,
    )
    verdict = ReturnAuthorized if weighing.allowed else ReturnDeclined
    reserved_ids = [ReservedId("return", command.return_id, order.order_id)]
    return now.decide(stream, weighing, verdict, before=[request], reserved_ids=reserved_ids)


def check_quantity(order: Order, line_id: str, quantity: int, taken: int, field: str) -> None:
    """Raise ``quantity.exceeded`` when more units are asked for than are free."""
    bought = order.lines[line_id].quantity
    if quantity > bought - taken:
        held = f" and {taken} of them are in another return or claim" if taken else ""
        raise Impossible(
            "quantity.exceeded",
            f"asked for {quantity} of line {line_id}, but {bought} were bought{held}",
            field=field,
        )


# ---- decisions: labels ----------------------------------------------------------------------------------------------


def issue_label(ret: Return, order: Order, command: IssueLabel, now: DecisionContext) -> DecisionResult:
    """Issue a prepaid label; after one that voided by itself only an override allows another."""
    _check(ret, "LabelIssued", command.command)
    if command.label_id in ret.labels:
        raise _label_not_allowed(ret, command.label_id, command.command, now)
    for label in ret.labels.values():
        if label.status_at(now.at) == "issued":
            raise _label_not_allowed(ret, label.label_id, command.command, now)
    issued_at = command.issued_at or min(now.at, command.received_at or now.at)
    void_at = now.deadlines.of_label(issued_at, command.received_at)
    weighing = now.weighing((*order.asides, *ret.asides))
    spent = [label for label in ret.labels.values() if label.voided_by_itself(now.at)]
    grounds: Grounds = {"label_id": command.label_id}
    if spent:
        last = max(spent, key=lambda label: label.void_at)
        grounds |= {
            "voided_label_id": last.label_id,
            "deadline": to_text(last.void_at),
            "margin_seconds": margin_seconds(last.void_at, now.at),
        }
    else:
        grounds |= {"deadline": to_text(void_at), "margin_seconds": margin_seconds(void_at, now.at)}
    weighing.weigh("returns.ship_by", not spent, grounds)
    if not weighing.allowed:
        return now.decide(ret.stream, weighing, LabelDeclined, label_id=command.label_id)
    return now.decide(
        ret.stream,
        weighing,
        LabelIssued,
        occurred_at=issued_at,
        label_id=command.label_id,
        carrier=command.carrier,
        tracking_number=command.tracking_number,
        received_at=command.received_at,
        void_at=void_at,
    )


def record_label_received(ret: Return, command: RecordLabelReceived, now: DecisionContext) -> DecisionResult:
    """The customer received the label: its clock runs from there, also when that is learnt late."""
    label = _known_label(ret, command.label_id)
    _check(ret, "LabelReceived", command.command)
    if label.received is not None or not LABEL.allows(label.status, "LabelReceived"):
        raise _label_not_allowed(ret, label.label_id, command.command, now)
    received_at = command.received_at or now.at
    event = LabelReceived(
        **now.envelope(received_at),
        label_id=label.label_id,
        void_at=now.deadlines.of_label(label.issued.at, received_at),
        pins=now.policy.pins,
    )
    return DecisionResult(events=[(ret.stream, event)])


def void_label(ret: Return, command: VoidLabel, now: DecisionContext) -> DecisionResult:
    """Void a live label by hand."""
    label = _known_label(ret, command.label_id)
    if label.status_at(now.at) != "issued" or not RETURN.allows(ret.status, "LabelVoided"):
        raise _label_not_allowed(ret, label.label_id, command.command, now)
    event = LabelVoided(**now.envelope(), label_id=label.label_id, cause="by_hand", reason=command.reason)
    return DecisionResult(events=[(ret.stream, event)])


def _known_label(ret: Return, label_id: str) -> Label:
    label = ret.labels.get(label_id)
    if label is None:
        raise Impossible("label.unknown", f"return {ret.return_id} has no label {label_id!r}", field="label_id")
    return label


def _label_not_allowed(ret: Return, label_id: str, command: str, now: DecisionContext) -> Impossible:
    label = ret.labels[label_id]
    status = label.status_at(now.at)
    received = (
        ("record_label_received",)
        if label.received is None
        and LABEL.allows(label.status, "LabelReceived")
        and RETURN.allows(ret.status, "LabelReceived")
        else ()
    )
    void = ("void_label",) if status == "issued" and RETURN.allows(ret.status, "LabelVoided") else ()
    allowed = tuple(name for name in (*received, *void) if name != command)
    return not_allowed(command, f"label {label_id}", status, allowed, f"return {ret.return_id} is {ret.status}")


# ---- decisions: the way back ----------------------------------------------------------------------------------------


def _check(ret: Return, event: str, command: str) -> None:
    if not RETURN.allows(ret.status, event):
        raise not_allowed(command, f"return {ret.return_id}", ret.status, RETURN)


def record_return_shipment(ret: Return, command: RecordReturnShipment, now: DecisionContext) -> DecisionResult:
    """The parcel was handed over; a late hand-over is a fact too, judged at the dock."""
    if command.label_id is not None:
        _known_label(ret, command.label_id)
    _check(ret, "ReturnShipped", command.command)
    event = ReturnShipped(
        **now.envelope(command.shipped_at),
        label_id=command.label_id,
        tracking_number=command.tracking_number,
        proof=command.proof,
    )
    return DecisionResult(events=[(ret.stream, event)])


def receive_return(ret: Return, order: Order, command: ReceiveReturn, now: DecisionContext) -> DecisionResult:
    """Take the parcel in, or refuse it at the dock when it was handed over after the deadline."""
    _check(ret, "Received", command.command)
    received_at = command.received_at or now.at
    weighing = now.weighing((*order.asides, *ret.asides))
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
    for index, finding in enumerate(command.findings):
        _in_return(ret, finding.line_id, f"findings[{index}].line_id")
    _check(ret, "Inspected", command.command)
    everything = not ret.anything_uninspected()
    if everything or refund_open:
        why = "every unit was inspected" if everything else "its refund is under way"
        raise not_allowed(command.command, f"return {ret.return_id}", ret.status, RETURN, why)
    count: dict[str, int] = {}
    for index, finding in enumerate(command.findings):
        count[finding.line_id] = count.get(finding.line_id, 0) + finding.quantity
        left = ret.uninspected(finding.line_id)
        if count[finding.line_id] > left:
            raise Impossible(
                "quantity.exceeded",
                f"findings on {count[finding.line_id]} units of line {finding.line_id}, but {left} are left to inspect",
                field=f"findings[{index}].quantity",
            )
    weighing = now.weighing((*order.asides, *ret.asides))
    requires = now.policy.clauses.returns_condition.requires
    applies = now.policy.clauses.returns_condition.applies
    missing = [[name for name in requires if not getattr(finding, name)] for finding in command.findings]
    set_aside = weighing.set_aside("returns.condition") or not applies
    units: list[Grounds] = [
        {"line_id": finding.line_id, "quantity": finding.quantity, "missing": list(lacks)}
        for finding, lacks in zip(command.findings, missing, strict=True)
    ]
    # Rejecting a unit is a finding, not a refusal of the command: the verdict says which units the clause rejects.
    weighing.weigh("returns.condition", not any(missing), {"requires": list(requires), "units": units})
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
                accepted=set_aside or not lacks,
                notes=finding.notes,
            )
            for finding, lacks in zip(command.findings, missing, strict=True)
        ),
    )


def _in_return(ret: Return, line_id: str, field: str) -> None:
    if not ret.quantity(line_id):
        raise Impossible("line.unknown", f"return {ret.return_id} has no line {line_id!r}", field=field)


def record_send_back(ret: Return, command: RecordSendBack, now: DecisionContext) -> DecisionResult:
    """Rejected units went back to the customer."""
    for index, line in enumerate(command.lines):
        _in_return(ret, line.line_id, f"lines[{index}].line_id")
    _check(ret, "SentBack", command.command)
    for index, line in enumerate(command.lines):
        left = ret.to_send_back(line.line_id)
        if line.quantity > left:
            raise Impossible(
                "quantity.exceeded",
                f"{line.quantity} units of line {line.line_id} were sent back, but {left} rejected units are here",
                field=f"lines[{index}].quantity",
            )
    event = SentBack(
        **now.envelope(command.sent_at),
        lines=tuple(Units(line_id=line.line_id, quantity=line.quantity) for line in command.lines),
        tracking_number=command.tracking_number,
    )
    return DecisionResult(events=[(ret.stream, event)])


def report_lost(ret: Return, command: ReportReturnLost, now: DecisionContext) -> DecisionResult:
    """The parcel is lost on its way back: closed without refund, unless it turns up (``returns.transit_risk``)."""
    _check(ret, "ParcelLost", command.command)
    return DecisionResult(events=[(ret.stream, ParcelLost(**now.envelope(command.reported_at)))])


def withdraw(ret: Return, command: WithdrawReturn, now: DecisionContext) -> DecisionResult:
    """The customer keeps the goods: possible until the parcel is handed over."""
    _check(ret, "ReturnWithdrawn", command.command)
    if ret.refunded:
        raise not_allowed(command.command, f"return {ret.return_id}", ret.status, RETURN, "its refund is under way")
    return DecisionResult(events=[(ret.stream, ReturnWithdrawn(**now.envelope()))])

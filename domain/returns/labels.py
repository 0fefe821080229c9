"""Prepaid return labels: issued, received by the customer, voided. Clause: ``returns.ship_by``."""

from __future__ import annotations

from datetime import datetime

from returnable.domain.aggregate import not_allowed
from returnable.domain.commands import IssueLabel, RecordLabelReceived, VoidLabel
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.errors import Impossible
from returnable.domain.events import LabelDeclined, LabelIssued, LabelReceived, LabelVoided
from returnable.domain.fields import to_text
from returnable.domain.lifecycles import LABEL, RETURN
from returnable.domain.order.state import Order
from returnable.domain.returns.state import Label, Return
from returnable.domain.ruling import Grounds, margin_seconds


def issue_label(ret: Return, order: Order, command: IssueLabel, now: DecisionContext) -> DecisionResult:
    """Issue a prepaid label. After one has voided at its deadline, only an override allows another."""
    ret.check_allows("LabelIssued", command.command)
    live = (label for label in ret.labels.values() if label.status_at(now.at) == "issued")
    in_the_way = ret.labels.get(command.label_id) or next(live, None)
    if in_the_way is not None:
        raise _label_not_allowed(ret, in_the_way, command.command, now)
    issued_at = command.issued_at or min(now.at, command.received_at or now.at)
    void_at = _void_at(issued_at, command.received_at, now)
    weighing = now.weighing(LabelIssued, order, ret)
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
    """The customer received the label. Its clock runs from then, even when the receipt is recorded late."""
    label = ret.known_label(command.label_id)
    ret.check_allows("LabelReceived", command.command)
    if label.received is not None or not LABEL.allows(label.status, "LabelReceived"):
        raise _label_not_allowed(ret, label, command.command, now)
    received_at = command.received_at or now.at
    void_at = _void_at(label.issued.at, received_at, now)
    return now.record(ret.stream, LabelReceived, received_at, label_id=label.label_id, void_at=void_at, pins=now.pins)


def void_label(ret: Return, command: VoidLabel, now: DecisionContext) -> DecisionResult:
    """Void a live label by hand."""
    label = ret.known_label(command.label_id)
    voided_at = command.voided_at or now.at
    if label.status_at(voided_at) != "issued" or not RETURN.allows(ret.status, "LabelVoided"):
        raise _label_not_allowed(ret, label, command.command, now)
    return now.record(
        ret.stream, LabelVoided, voided_at, label_id=label.label_id, cause="by_hand", reason=command.reason
    )


def _void_at(issued_at: datetime, received_at: datetime | None, now: DecisionContext) -> datetime:
    """When a label voids by itself: counted from its receipt, where the policy says so and the receipt is known."""
    clause = now.policy.clauses.returns_ship_by
    anchor = received_at if clause.anchor == "label_received" else None
    return now.deadlines.end(clause, anchor or issued_at, "void_at")


def _label_not_allowed(ret: Return, label: Label, command: str, now: DecisionContext) -> Impossible:
    status = label.status_at(now.at)
    allowed = {
        "record_label_received": label.received is None
        and LABEL.allows(label.status, "LabelReceived")
        and RETURN.allows(ret.status, "LabelReceived"),
        "void_label": status == "issued" and RETURN.allows(ret.status, "LabelVoided"),
    }
    others = tuple(name for name, is_allowed in allowed.items() if is_allowed and name != command)
    return not_allowed(command, f"label {label.label_id}", status, others, f"{ret.name} is {ret.status}")

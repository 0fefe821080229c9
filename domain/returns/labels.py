"""Prepaid return labels: issued, received by the customer, voided. Clause: ``returns.ship_by``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from returnable.domain.aggregate import not_allowed
from returnable.domain.commands import IssueLabel, RecordLabelReceived, VoidLabel
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.errors import Impossible
from returnable.domain.events import LabelDeclined, LabelIssued, LabelReceived, LabelVoided
from returnable.domain.fields import to_text
from returnable.domain.lifecycles import RETURN
from returnable.domain.order.state import Held, Order
from returnable.domain.returns.conflicts import conflicts
from returnable.domain.returns.state import Label, Return
from returnable.domain.ruling import Grounds, margin_seconds


def issue_label(
    ret: Return,
    order: Order,
    command: IssueLabel,
    now: DecisionContext,
    returns: Sequence[Return],
    held: Mapping[str, Held],
) -> DecisionResult:
    """Issue a prepaid label. After one has voided at its deadline, only an override allows another for the same units.

    ``returns`` are those of the order, as they were asked for; ``held`` says which units are in any return or claim.
    """
    ret.check_allows("LabelIssued", command.command)
    if command.box_id is None and ret.status not in ("authorized", "labelled"):
        raise ret.not_allowed(command.command, "it was handed over; a label for another box needs a box_id")
    live = (label for label in ret.labels.values() if label.status_at(now.at) == "issued")
    same_box = (label for label in live if command.box_id in (None, label.box_id))
    in_the_way = ret.labels.get(command.label_id) or next(same_box, None)
    if in_the_way is not None:
        raise _label_not_allowed(ret, in_the_way, command.command, now)
    issued_at = command.issued_at or min(now.at, command.received_at or now.at)
    void_at = _void_at(issued_at, command.received_at, now)
    weighing = now.weighing(LabelIssued, order, ret)
    # No clause bars the way back of goods that nothing is owed for.
    spent = None if ret.comes_free else ret.spent_label(now.at, command.box_id)
    grounds: Grounds = {"label_id": command.label_id}
    if spent is None and not ret.comes_free:
        earlier = _given_up(ret, order, now.at, returns, held)
        if earlier is not None:
            grounds["voided_return_id"] = earlier.return_id
            spent = earlier.spent_label(now.at)
    if spent is not None:
        grounds |= {
            "voided_label_id": spent.label_id,
            "deadline": to_text(spent.void_at),
            "margin_seconds": margin_seconds(spent.void_at, now.at),
        }
    else:
        grounds |= {"deadline": to_text(void_at), "margin_seconds": margin_seconds(void_at, now.at)}
    weighing.weigh("returns.ship_by", spent is None, grounds)
    if not weighing.allowed:
        return now.decide(ret.stream, weighing, LabelDeclined, label_id=command.label_id, box_id=command.box_id)
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
        box_id=command.box_id,
    )


def _given_up(
    ret: Return, order: Order, at: datetime, returns: Sequence[Return], held: Mapping[str, Held]
) -> Return | None:
    """The return from which some of these units come whose label voided by itself before it gave them up.

    Units of one line in one parcel are alike: as long as there are enough that no such return had, it took those. So did
    the returns that were asked for before it; those after it took what was left.
    """
    place = [each.return_id for each in returns].index(ret.return_id)
    before, after = returns[:place], [each for each in returns[place + 1 :] if not each.cancelled]
    for line in ret.lines:
        given_up = {other.return_id: other.given_up(line.line_id, at) for other in before}
        own = ret.held(line.line_id)
        for parcel_id, count in own.items():
            if parcel_id is None:
                continue
            elsewhere = held[line.line_id].get(parcel_id, 0) - count
            elsewhere -= sum(other.held(line.line_id).get(parcel_id, 0) for other in after)
            free = order.parcels[parcel_id].units.get(line.line_id, 0) - elsewhere
            barred = sum(units[parcel_id] for units in given_up.values())
            if barred > 0 and count > free - barred:
                return next(other for other in reversed(before) if given_up[other.return_id][parcel_id] > 0)
    return None


def record_label_received(
    ret: Return, order: Order, command: RecordLabelReceived, now: DecisionContext
) -> DecisionResult:
    """The customer received the label. Its clock runs from then, even when the receipt is recorded late."""
    label = ret.known_label(command.label_id)
    ret.check_allows("LabelReceived", command.command)
    received_at = command.received_at or now.at
    if label.received is not None and label.received.at == received_at:
        return DecisionResult()
    # A receipt before the issue cannot be: the clock runs on from the issue.
    void_at = _void_at(label.issued.at, received_at if received_at >= label.issued.at else None, now)
    event = LabelReceived(**now.envelope(received_at), label_id=label.label_id, void_at=void_at, pins=now.pins)
    return now.fact(ret.stream, event, conflicts(ret, order, event))


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
    possible = {
        "record_label_received": RETURN.allows(ret.status, "LabelReceived"),
        "void_label": label.unused and RETURN.allows(ret.status, "LabelVoided"),
    }
    others = tuple(name for name, is_possible in possible.items() if is_possible and name != command)
    status = label.status_at(now.at)
    return not_allowed(command, f"label {label.label_id}", status, others, f"{ret.name} is {ret.status}")

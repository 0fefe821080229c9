"""Which commands are possible now on an order, a return, a claim or an arrival.

A command is possible if the lifecycle allows it, and if it would be accepted with the arguments that suit it best: a request
that came as early as can be, another box, one unit. Only errors ask for this list.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import count
from typing import Any

from returnable.domain.aggregate import allowed_commands
from returnable.domain.arrivals import UnannouncedArrival
from returnable.domain.case import Case
from returnable.domain.claims import Claim
from returnable.domain.commands import COMMANDS, Command, InspectionFinding
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.errors import CalendarExhausted, Impossible
from returnable.domain.order.state import Order
from returnable.domain.returns.state import Return

Decide = Callable[[Case, Command, DecisionContext], DecisionResult]
Subject = Order | Return | Claim | UnannouncedArrival


def possible_commands(case: Case, subject: Subject, now: DecisionContext, decide: Decide) -> tuple[str, ...]:
    """The commands that the lifecycle of the subject allows, and that ``decide`` would accept with some arguments.

    Not among them are the commands that no lifecycle bars, such as ``override`` and ``notify_customer``, and those that begin
    something new: ``request_return`` and ``report_wrong_item``.
    """

    def possible(name: str) -> bool:
        if name in _STATES:
            return _STATES[name](subject.way_back if isinstance(subject, Claim) else subject)
        if name not in _ARGUMENTS:
            return True
        about = {f"{subject.kind}_id": getattr(subject, f"{subject.kind}_id")}
        # Not validated: an id that is on record counts, whatever a new one must look like.
        tried = (COMMANDS[name].model_construct(**about, **more) for more in _ARGUMENTS[name](case, subject, now))
        return any(map(accepted, tried))

    def accepted(command: Command) -> bool:
        try:
            return decide(case, command, now).outcome == "accepted"
        except (Impossible, CalendarExhausted):
            return False

    return tuple(name for name in allowed_commands(subject.lifecycle, subject.status) if possible(name))


# ---- by the state alone -----------------------------------------------------------------------------------------------


def _reducible(ret: Return) -> bool:
    several = sum(line.quantity for line in ret.lines) > 1
    return several and any(ret.reducible(line.line_id) > 0 for line in ret.lines)


_STATES: dict[str, Callable[[Any], bool]] = {
    "correct_delivery": lambda order: any(parcel.delivered for parcel in order.parcels.values()),
    "report_parcel_lost": lambda order: bool(order.parcels),
    "record_parcel_returned": lambda order: bool(order.parcels),
    "record_label_received": lambda ret: bool(ret.labels),
    "void_label": lambda ret: any(label.unused for label in ret.labels.values()),
    "reduce_return": _reducible,
    "withdraw_return": lambda ret: not ret.refunded,
}
"""Command → whether the state of the order, the return or the wrong item on its way back makes it possible."""


# ---- by what is decided -----------------------------------------------------------------------------------------------


def _cancellations(case: Case, order: Order, now: DecisionContext) -> Iterator[dict[str, Any]]:
    """Asked for at once, or as soon as a parcel was lost or came back, by which time it no longer bars a cancellation."""
    back = [parcel.gone for parcel in order.parcels.values() if parcel.gone is not None]
    channel = now.policy.clauses.cancellation_by_email.channels[0]
    for requested_at in (order.placed_at, *back):
        asked = min(requested_at, now.at)
        yield {"channel": channel, "order_reference": "-", "order_copy": True, "requested_at": asked}


def _labels(case: Case, subject: Return | Claim, now: DecisionContext) -> Iterator[dict[str, Any]]:
    """For another box: no label is in its way."""
    ret = subject.way_back if isinstance(subject, Claim) else subject
    boxes = [str(label.box_id) for label in ret.labels.values()]
    yield {"label_id": _unused(ret.labels), "box_id": _unused(boxes), "carrier": "-", "tracking_number": "-"}


def _arrivals(case: Case, subject: Return | Claim, now: DecisionContext) -> Iterator[dict[str, Any]]:
    """Of each box and of another one, now or as soon as the return was asked for."""
    ret = subject.way_back if isinstance(subject, Claim) else subject
    named = [str(box_id) for box_id in ret.boxes if box_id is not None]
    for box_id in (None, *named, _unused(named)):
        yield {"box_id": box_id}
        yield {"box_id": box_id, "received_at": min(ret.asked_at, now.at)}


def _findings(case: Case, ret: Return, now: DecisionContext) -> Iterator[dict[str, Any]]:
    """As few units as can be: those that are paid back are accepted, those that were sent back are rejected."""
    units = [(line_id, left, True) for line_id, left in ret.refunded.items() if left]
    units += [(line_id, gone, False) for line_id, gone in ret.sent_back.items() if gone]
    findings = [
        InspectionFinding.model_construct(
            line_id=line_id, quantity=found, same_condition=good, original_packaging=good, tags_attached=good
        )
        for line_id, found, good in units or [(ret.lines[0].line_id, 1, True)]
    ]
    yield {"findings": findings, "reason": "-"}


def _unused(ids: Collection[str]) -> str:
    """An id that is none of those."""
    return next(str(number) for number in count(1) if str(number) not in ids)


_ARGUMENTS: dict[str, Callable[[Case, Any, DecisionContext], Iterable[dict[str, Any]]]] = {
    "request_cancellation": _cancellations,
    "request_refund": lambda case, subject, now: [{"refund_id": _unused(case.refunds)}],
    "issue_label": _labels,
    "receive_return": _arrivals,
    "correct_inspection": _findings,
    "resolve_claim": lambda case, subject, now: [{"remedy": "refund", "quantity": 1}],
}
"""Command → the arguments that suit it best, besides the id of its subject. Those that are neither here nor in ``_STATES``
are always accepted where the lifecycle allows them."""

"""The cancellation of an order. Clauses: ``cancellation.*`` except ``cancellation.full_refund``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from returnable.domain.commands import RequestCancellation
from returnable.domain.deadlines import passed
from returnable.domain.deciding import DecisionContext, DecisionResult, Weighing
from returnable.domain.events import CancellationDeclined, CancellationRequested, Cancelled
from returnable.domain.fields import to_text
from returnable.domain.order.state import Order
from returnable.domain.ruling import Grounds, margin_seconds


def weigh_cancellation(
    order: Order,
    now: DecisionContext,
    requested_at: datetime,
    channel: str,
    order_reference: str | None,
    order_copy: bool,
    *,
    deciding: bool = False,
) -> Weighing:
    """Weigh every clause on a request to cancel; ``deciding``: to record the verdict, not to preview it."""
    clauses = now.policy.clauses
    weighing = now.weighing(Cancelled, order)
    judged_at = min(requested_at, order.incomplete_since or requested_at)
    cancel_by = order.confirmed.cancel_by
    grounds: Grounds = {
        "confirmed_at": to_text(order.confirmed.occurred_at),
        "requested_at": to_text(requested_at),
        "deadline": to_text(cancel_by),
        "margin_seconds": margin_seconds(cancel_by, judged_at),
    }
    if judged_at != requested_at:
        grounds["first_incomplete_at"] = to_text(judged_at)
    weighing.weigh("cancellation.window", not passed("cancellation.window", cancel_by, judged_at), grounds)

    when_decided = clauses.cancellation_not_shipped.judged == "when_decided"
    bar_from = now.at if when_decided else judged_at
    # A parcel on record has left, even where the clock of this decision is behind the clock that recorded the parcel.
    until = None if deciding and when_decided else bar_from
    shipped = [parcel for parcel in order.parcels_by_shipment() if parcel.has_left(until)]
    parcels: list[Grounds] = [{"parcel_id": p.parcel_id, "shipped_at": to_text(p.shipped_at)} for p in shipped]
    weighing.weigh(
        "cancellation.not_shipped",
        not shipped,
        {"judged_at": to_text(bar_from), "parcels": parcels, "delivered": order.status == "delivered"},
        failing={line_id for parcel in shipped for line_id in parcel.units},
    )

    by_email = clauses.cancellation_by_email
    pieces = {"order_reference": order_reference is not None, "order_copy": order_copy}
    given = [name for name, there in pieces.items() if there]
    right_channel = channel in by_email.channels
    complete = not by_email.requires or any(name in given for name in by_email.requires)
    weighing.weigh(
        "cancellation.by_email",
        right_channel and complete,
        {
            "channel": channel,
            "channels": list(by_email.channels),
            "requires_one_of": list(by_email.requires),
            "given": given,
            "incomplete": right_channel and not complete,
        },
    )
    weighing.weigh("cancellation.notice", True, {"owed": True})
    return weighing


def request_cancellation(
    order: Order, command: RequestCancellation, now: DecisionContext, open_returns: Sequence[str]
) -> DecisionResult:
    """Cancel or decline; a notice is owed either way. ``open_returns``: the ids of its unsettled returns."""
    order.check_allows("CancellationRequested", command.command)
    requested_at = command.requested_at or now.at
    weighing = weigh_cancellation(
        order,
        now,
        requested_at,
        command.channel,
        command.order_reference,
        command.order_copy,
        deciding=True,
    )
    if weighing.allowed:
        order.check_no_open_returns(open_returns, command.command)
    by_email = next(f for f in weighing.findings if f.clause == "cancellation.by_email")
    request = CancellationRequested(
        **now.envelope(requested_at),
        channel=command.channel,
        order_reference=command.order_reference,
        order_copy=command.order_copy,
        incomplete=bool(by_email.grounds["incomplete"]),
    )
    verdict = Cancelled if weighing.allowed else CancellationDeclined
    return now.decide(order.stream, weighing, verdict, before=[request])

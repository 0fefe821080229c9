"""The request to return units.

Clauses: ``returns.window``, ``returns.final_sale``, ``returns.account``, ``returns.portal``, ``returns.no_exchanges``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from returnable.domain.commands import RequestReturn
from returnable.domain.deciding import DecisionContext, DecisionResult, Weighing
from returnable.domain.events import Allotment, ReturnAuthorized, ReturnDeclined, ReturnLine, ReturnRequested
from returnable.domain.fields import to_text
from returnable.domain.ids import StreamId
from returnable.domain.order.state import Held, Order, return_before
from returnable.domain.ports import ReservedId
from returnable.domain.ruling import Grounds, margin_seconds

_CLAUSES = ("returns.window", "returns.final_sale", "returns.account", "returns.portal", "returns.no_exchanges")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Units of a line that the customer wants to return, and the parcels they came in."""

    line_id: str
    quantity: int
    parcels: tuple[Allotment, ...]
    reason: str | None = None
    parcel_id: str | None = None


def weigh_request(
    order: Order,
    wanted: Sequence[Wanted],
    now: DecisionContext,
    requested_at: datetime,
    channel: str,
    resolution: str,
    *,
    cancelled: bool = False,
) -> Weighing:
    """Weigh every clause on a return request as a whole: one failing line fails its clause.

    ``cancelled``: the units were cancelled. No clause bars the way back of goods that nothing is owed for.
    """
    clauses = now.policy.clauses
    weighing = now.weighing(ReturnAuthorized, order, lines=[want.line_id for want in wanted])
    if cancelled:
        for clause in _CLAUSES:
            weighing.weigh(clause, None, {"cancelled": True})
        return weighing

    lines = [_window_of(order, want, requested_at) for want in wanted]
    ends = [str(line["return_before"]) for line in lines if "return_before" in line]
    grounds: Grounds = {"requested_at": to_text(requested_at)}
    if ends:
        tightest = min(ends)
        grounds["deadline"] = tightest
        grounds["margin_seconds"] = margin_seconds(datetime.fromisoformat(tightest), requested_at)
    grounds["lines"] = list(lines)
    late = [want.line_id for want, line in zip(wanted, lines, strict=True) if not line.get("in_time")]
    weighing.weigh("returns.window", not late, grounds, failing=late)

    marked: list[str] = [want.line_id for want in wanted if order.lines[want.line_id].final_sale]
    checked: list[str] = [want.line_id for want in wanted]
    weighing.weigh("returns.final_sale", not marked, {"lines": checked, "final_sale": marked}, failing=marked)

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
    window = order.ask_window(want.parcels, requested_at, return_before)
    grounds |= window.grounds("return_before", requested_at)
    grounds["in_time"] = window.in_time
    return grounds


def are_cancelled(
    order: Order, asked: Iterable[tuple[str, int]], held: Mapping[str, Held], coming_back: Mapping[str, Held]
) -> bool:
    """Whether all these units (line, quantity) were cancelled and shipped all the same, and are in no return.

    Units that nothing holds come first: they can be returned for a refund.
    """

    def cancelled(line_id: str, quantity: int) -> bool:
        units, taken = order.units(line_id), held[line_id]
        # The others are in parcels first: those that were not cancelled, and those that were in a return before they were.
        others = max(units, taken.total) - taken.cancelled
        shipped_all_the_same = min(taken.cancelled, order.in_parcels(line_id) - others)
        return units - taken.total < quantity <= shipped_all_the_same - coming_back[line_id].total

    return all(cancelled(line_id, quantity) for line_id, quantity in asked)


def request_return(
    order: Order,
    command: RequestReturn,
    now: DecisionContext,
    held: Mapping[str, Held],
    coming_back: Mapping[str, Held],
) -> DecisionResult:
    """Authorize or decline the return; ``held`` says which units of each line are taken elsewhere.

    Cancelled units that were shipped all the same are authorized for their way back: nothing is owed for them.
    """
    order.check_lines((line.line_id for line in command.lines), "lines[{}].line_id")
    asked = [(line.line_id, line.quantity) for line in command.lines]
    cancelled = are_cancelled(order, asked, held, coming_back)
    if not cancelled:
        order.check_not_cancelled(command.command)
    requested_at = command.requested_at or now.at
    wanted: list[Wanted] = []
    for index, line in enumerate(command.lines):
        taken = held[line.line_id]
        if cancelled:
            taken = Held(Counter(taken) + Counter(coming_back[line.line_id]))
        else:
            order.check_quantity(line.line_id, line.quantity, taken, f"lines[{index}].quantity")
        if line.parcel_id is not None:
            order.check_in_parcel(line.line_id, line.quantity, taken, line.parcel_id, f"lines[{index}]")
        parcels = order.allot(line.line_id, line.quantity, taken, requested_at, return_before, line.parcel_id)
        wanted.append(Wanted(line.line_id, line.quantity, parcels, line.reason, line.parcel_id))
    weighing = weigh_request(order, wanted, now, requested_at, command.channel, command.resolution, cancelled=cancelled)
    stream = str(StreamId("return", command.return_id))
    request = ReturnRequested(
        **now.envelope(requested_at),
        return_id=command.return_id,
        order_id=order.order_id,
        lines=tuple(
            ReturnLine(
                line_id=want.line_id,
                quantity=want.quantity,
                reason=want.reason,
                parcel_id=want.parcel_id,
                parcels=want.parcels,
            )
            for want in wanted
        ),
        channel=command.channel,
        resolution=command.resolution,
        cancelled=cancelled,
    )
    reserved_ids = [ReservedId("return", command.return_id, order.order_id)]
    if not weighing.allowed:
        return now.decide(stream, weighing, ReturnDeclined, before=[request], reserved_ids=reserved_ids)
    remind_at = now.deadlines.of_reminder(now.at)
    return now.decide(
        stream, weighing, ReturnAuthorized, before=[request], reserved_ids=reserved_ids, remind_at=remind_at
    )

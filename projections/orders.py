"""The order view and the eligibility view."""

from __future__ import annotations

from typing import Any

from returnable.domain.calendar import zone
from returnable.domain.case import Case
from returnable.domain.claims import reported_units, weigh_report
from returnable.domain.deciding import DecisionContext, Weighing
from returnable.domain.decisions import say_allowed
from returnable.domain.errors import Impossible
from returnable.domain.money import to_major
from returnable.domain.order.cancellation import weigh_cancellation
from returnable.domain.order.state import Held, report_before, return_before
from returnable.domain.outcome import clause_views, error_view, in_zone
from returnable.domain.policy import Policy
from returnable.domain.returns.request import Wanted, are_cancelled, weigh_request
from returnable.projections.views import (
    EligibilityRuling,
    EligibilityView,
    LineEligibility,
    OrderView,
    ReturnEligibility,
    WrongItemEligibility,
)


def order_view(case: Case, policy: Policy) -> OrderView:
    """The state of the order."""
    return OrderView.model_validate(order_values(case, policy))


def order_values(case: Case, policy: Policy) -> dict[str, Any]:
    """The state of the order by its events; no clock changes it."""
    order, tz = case.order, zone(policy.zone)
    lines = []
    for line in order.lines.values():
        returning, returned = returned_units(case, line.line_id)
        before = order.return_end(line.line_id, case.held[line.line_id])
        lines.append(
            {
                "line_id": line.line_id,
                "sku": line.sku,
                "unit_price": to_major(line.unit_price, order.currency),
                "quantity": line.quantity,
                "cancelled": order.cancelled(line.line_id),
                "final_sale": line.final_sale,
                "delivered": order.delivered(line.line_id),
                "returning": returning,
                "returned": returned,
                "return_before": in_zone(before, tz) if before else None,
            }
        )
    return {
        "order_id": order.order_id,
        "status": order.status,
        "policy": {"id": policy.id, "version": policy.version},
        "currency": order.currency,
        "confirmed_at": in_zone(order.confirmed.occurred_at, tz),
        "cancel_by": in_zone(order.confirmed.cancel_by, tz),
        "lines": lines,
        "parcels": [
            {
                "parcel_id": parcel.parcel_id,
                "status": parcel.status,
                "carrier": parcel.carrier if parcel.shipments else None,
                "tracking_number": parcel.tracking_number if parcel.shipments else None,
                "shipped_at": in_zone(parcel.shipped_at, tz) if parcel.shipments else None,
                "delivered_at": in_zone(parcel.delivered_at, tz) if parcel.delivered_at else None,
            }
            for parcel in order.parcels_by_shipment()
        ],
        "returns": list(case.returns),
        "claims": list(case.claims),
    }


def returned_units(case: Case, line_id: str) -> tuple[int, int]:
    """The units of a line in open returns, and those that were returned and refunded."""
    returning = returned = 0
    for ret in case.returns.values():
        held = sum(ret.held(line_id).values())
        if ret.status == "refunded":
            kept = min(held, ret.accepted.get(line_id, 0) or held)
            returned += kept
            returning += held - kept
        else:
            returning += held
    return returning, returned


def eligibility_view(case: Case, policy: Policy, now: DecisionContext) -> EligibilityView:
    """The rulings that the commands would get at ``now``, requested in the way the policy wants; nothing is recorded."""
    order, tz = case.order, zone(policy.zone)
    clauses = policy.clauses
    by_email = clauses.cancellation_by_email
    cancellation = weigh_cancellation(order, now, now.at, by_email.channels[0], order.order_id, True)
    error = _no_cancellation(case, cancellation, now)
    lines = []
    for line in order.lines.values():
        taken = case.held[line.line_id]
        cancelled = are_cancelled(order, [(line.line_id, 1)], case.held, case.coming_back)
        impossible = None if cancelled else _impossible(case, line.line_id, now)
        # If no unit is free, the clauses are weighed for one that is taken: its deadline is still of interest.
        free = Held() if impossible else taken
        wanted = [Wanted(line.line_id, 1, order.allot(line.line_id, 1, free, now.at, return_before))]
        channel = clauses.returns_portal.channels[0]
        returning = weigh_request(order, wanted, now, now.at, channel, "refund", cancelled=cancelled)
        parcels = reported_units(order, line.line_id, 1, taken, now.at)
        evidence = frozenset(clauses.wrong_item_evidence.requires)
        channel = clauses.wrong_item_by_email.channels[0]
        claiming = weigh_report(order, line.line_id, parcels, now, now.at, channel, evidence)
        return_end = order.return_end(line.line_id, taken)
        report_end = order.window_end(line.line_id, taken, report_before)
        of_return = ReturnEligibility(
            **_ruling(returning, policy, impossible),
            return_before=in_zone(return_end, tz) if return_end else None,
        )
        of_claim = WrongItemEligibility(
            **_ruling(claiming, policy, None), report_before=in_zone(report_end, tz) if report_end else None
        )
        lines.append(
            LineEligibility.model_validate({"line_id": line.line_id, "return": of_return, "wrong_item": of_claim})
        )
    of_order = EligibilityRuling(**_ruling(cancellation, policy, error))
    return EligibilityView(order_id=order.order_id, cancellation=of_order, lines=tuple(lines))


def _no_cancellation(case: Case, weighing: Weighing, now: DecisionContext) -> Impossible | None:
    try:
        case.order.check_allows("CancellationRequested", "request_cancellation")
        if weighing.allowed:
            case.order.check_no_open_returns(case.open_returns(), "request_cancellation")
    except Impossible as error:
        return say_allowed(error, "request_cancellation", case, now)
    return None


def _impossible(case: Case, line_id: str, now: DecisionContext) -> Impossible | None:
    order = case.order
    try:
        order.check_not_cancelled("request_return")
        order.check_quantity(line_id, 1, case.held[line_id], "quantity")
    except Impossible as error:
        return say_allowed(error, "request_return", case, now)
    return None


def _ruling(weighing: Weighing, policy: Policy, error: Impossible | None) -> dict[str, Any]:
    return {
        "allowed": weighing.allowed and error is None,
        "clauses": clause_views(weighing.findings, policy, asked=False),
        "error": error_view(error) if error else None,
    }

"""The claim view."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from returnable.domain.calendar import zone
from returnable.domain.claims import Claim
from returnable.domain.deadlines import passed
from returnable.domain.outcome import in_zone
from returnable.domain.policy import Policy
from returnable.projections.returns import labels_at, way_back_values
from returnable.projections.views import ClaimView


def claim_view(claim: Claim, policy: Policy, moment: datetime) -> ClaimView:
    """The state of the claim at ``moment``."""
    return ClaimView.model_validate(claim_at(claim_values(claim, policy), moment))


def claim_values(claim: Claim, policy: Policy) -> dict[str, Any]:
    """The state of the claim by its events alone: without a clock nothing is overdue."""
    tz = zone(policy.zone)
    return {
        "claim_id": claim.claim_id,
        "order_id": claim.opened.order_id,
        "line_id": claim.line_id,
        "quantity": claim.quantity,
        "status": claim.status,
        "reported_at": in_zone(claim.opened.occurred_at, tz),
        "contact_by": in_zone(claim.opened.contact_by, tz),
        "contacted_at": in_zone(claim.contacted.at, tz) if claim.contacted else None,
        "overdue": False,
        "evidence": {
            "order_confirmation": "order_confirmation" in claim.evidence,
            "item_picture": "item_picture" in claim.evidence,
        },
        "remedy": claim.remedy,
        "settled": claim.settled_units,
        "refund_id": claim.refund_id,
        **way_back_values(claim.way_back, tz),
    }


def claim_at(values: Mapping[str, Any], moment: datetime) -> dict[str, Any]:
    """The values of :func:`claim_values` at ``moment``: the promise of contact is broken after its last instant,
    and a label is void from its deadline on."""
    waits = values["status"] == "open" and values["contacted_at"] is None
    at = datetime.fromisoformat(values["contact_by"])
    overdue = waits and passed("wrong_item.contact", at, moment)
    return {**values, "overdue": overdue, "labels": labels_at(values, moment)}

"""The claim view."""

from __future__ import annotations

from datetime import datetime

from returnable.domain.calendar import zone
from returnable.domain.claims import Claim
from returnable.domain.outcome import in_zone
from returnable.domain.policy import Policy
from returnable.projections.views import ClaimView, EvidenceView


def claim_view(claim: Claim, policy: Policy, moment: datetime) -> ClaimView:
    """How the claim stands at ``moment``."""
    where = zone(policy.zone)
    return ClaimView.model_validate(
        {
            "claim_id": claim.claim_id,
            "order_id": claim.opened.order_id,
            "line_id": claim.line_id,
            "quantity": claim.quantity,
            "status": claim.status,
            "reported_at": in_zone(claim.opened.occurred_at, where),
            "contact_by": in_zone(claim.opened.contact_by, where),
            "contacted_at": in_zone(claim.contacted_at, where) if claim.contacted_at else None,
            "overdue": claim.overdue(moment),
            "evidence": EvidenceView(
                order_confirmation="order_confirmation" in claim.evidence,
                item_picture="item_picture" in claim.evidence,
            ),
            "remedy": claim.remedy,
            "refund_id": claim.refund_id,
        }
    )

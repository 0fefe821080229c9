"""The return view."""

from __future__ import annotations

from datetime import datetime

from returnable.domain.calendar import zone
from returnable.domain.outcome import in_zone
from returnable.domain.policy import Policy
from returnable.domain.returns import Return
from returnable.projections.views import LabelView, ReturnLineView, ReturnView


def return_view(ret: Return, policy: Policy, moment: datetime) -> ReturnView:
    """How the return stands at ``moment``: a label is void from its deadline on, recorded or not."""
    where = zone(policy.zone)

    def shown(instant: datetime | None) -> str | None:
        return in_zone(instant, where) if instant is not None else None

    lines = tuple(
        ReturnLineView(
            line_id=line.line_id,
            quantity=line.quantity,
            accepted=ret.accepted.get(line.line_id, 0),
            rejected=ret.rejected.get(line.line_id, 0),
        )
        for line in ret.lines
    )
    labels = tuple(
        LabelView.model_validate(
            {
                "label_id": label.label_id,
                "status": label.status_at(moment),
                "tracking_number": label.tracking_number,
                "received_at": shown(label.received_at)
                if label.received_at is not None and label.received_at <= moment
                else None,
                "void_at": in_zone(label.void_at, where),
            }
        )
        for label in ret.labels.values()
    )
    return ReturnView.model_validate(
        {
            "return_id": ret.return_id,
            "order_id": ret.order_id,
            "status": ret.status,
            "requested_at": shown(ret.requested_at),
            "lines": lines,
            "labels": labels,
            "shipped_at": shown(ret.shipped_at),
            "late": ret.is_late(),
            "received_at": shown(ret.received_at),
            "inspected_at": shown(ret.inspected_at),
            "refund_id": ret.refund_id,
        }
    )

"""The return view."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from returnable.domain.calendar import zone
from returnable.domain.deadlines import passed
from returnable.domain.outcome import in_zone
from returnable.domain.policy import Policy
from returnable.domain.returns.state import Label, Return
from returnable.projections.views import ReturnView


def return_view(ret: Return, policy: Policy, moment: datetime) -> ReturnView:
    """The state of the return at ``moment``. A label is void from its deadline on, even if no event records that."""
    return ReturnView.model_validate(return_at(return_values(ret, policy), moment))


def return_values(ret: Return, policy: Policy) -> dict[str, Any]:
    """The part of the view that depends on the events alone, not on the instant of the question.

    An unused label is ``issued`` even after its deadline, and a label has its ``received_at`` even if that is still to come.
    :func:`return_at` corrects both.
    """
    tz = zone(policy.zone)
    return {
        "return_id": ret.return_id,
        "order_id": ret.order_id,
        "status": ret.status,
        "requested_at": in_zone(ret.asked_at, tz),
        "lines": [
            {
                "line_id": line.line_id,
                "quantity": line.quantity,
                "accepted": ret.accepted.get(line.line_id, 0),
                "rejected": ret.rejected.get(line.line_id, 0),
            }
            for line in ret.lines
        ],
        "late": ret.is_late(),
        "inspected_at": in_zone(ret.inspected_at, tz) if ret.inspected_at is not None else None,
        "refund_id": ret.refund_id,
        "disposed": [
            {"line_id": line_id, "disposition": disposition, "quantity": count}
            for (line_id, disposition), count in sorted(ret.disposed.items())
        ],
        **way_back_values(ret, tz),
    }


def way_back_values(ret: Return, tz: ZoneInfo) -> dict[str, Any]:
    """The labels of what comes back, when it was handed over, and when it arrived."""

    def shown(instant: datetime | None) -> str | None:
        return in_zone(instant, tz) if instant is not None else None

    def label_values(label: Label) -> dict[str, Any]:
        return {
            "label_id": label.label_id,
            "status": "issued" if label.unused else "void" if label.status == "void_by_hand" else label.status,
            "tracking_number": label.tracking_number,
            "received_at": shown(label.received and label.received.at),
            "void_at": in_zone(label.void_at, tz),
        }

    return {
        "labels": [label_values(label) for label in ret.labels.values()],
        "shipped_at": shown(ret.shipped and ret.shipped.at),
        "received_at": shown(ret.received and ret.received.at),
    }


def return_at(values: Mapping[str, Any], moment: datetime) -> dict[str, Any]:
    """The values of :func:`return_values` at ``moment``."""
    return {**values, "labels": labels_at(values, moment)}


def labels_at(values: Mapping[str, Any], moment: datetime) -> list[dict[str, Any]]:
    """The labels of :func:`way_back_values` at ``moment``."""
    return [_label_at(label, moment) for label in values["labels"]]


def _label_at(label: Mapping[str, Any], moment: datetime) -> dict[str, Any]:
    received_at = label["received_at"]
    void = label["status"] == "issued" and passed("returns.ship_by", datetime.fromisoformat(label["void_at"]), moment)
    known = received_at is not None and datetime.fromisoformat(received_at) <= moment
    return {
        **label,
        "status": "void" if void else label["status"],
        "received_at": received_at if known else None,
    }

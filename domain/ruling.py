"""The values of a ruling: the result of each clause, and the grounds it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from returnable.domain.marks import Count, Decimals, FreeText, Harmless, Personal

Verdict = Literal["pass", "fail", "not_applicable", "overridden"]


class Grounds(TypedDict, total=False):
    """Every value that a verdict may rest on. Instants and dates are stored text, amounts decimals, margins seconds."""

    accepted: Count
    account_id: Personal | None
    account_since_at: Harmless
    amount: Decimals
    applies: bool
    approved_by: Personal
    below: bool
    cancelled_at: Harmless
    channel: Harmless
    channels: list[Harmless]
    confirmed_at: Harmless
    contact_by: Harmless
    currency: Harmless
    deadline: Harmless
    delivered: bool
    delivered_at: Harmless
    expected_from: Harmless
    expected_to: Harmless
    fact: Harmless
    fee: Decimals
    final_sale: list[Harmless]
    first_incomplete_at: Harmless
    given: list[Harmless]
    granted_at: Harmless
    in_time: bool
    incomplete: bool
    inspected: Count
    inspected_at: Harmless
    issued_at: Harmless
    judged_at: Harmless
    kept: bool
    label_id: Personal
    labels_charged: list[Personal]
    labels_used: list[Personal]
    line_id: Harmless
    lines: list[Grounds] | list[Harmless]
    lost_at: Harmless
    margin_seconds: float
    missing: list[Harmless]
    override: Grounds
    owed: bool
    own_label: bool
    parcel_id: Personal | None
    parcels: list[Grounds]
    payment_id: Personal
    payout_id: Personal
    proven_by: Harmless
    quantity: Count
    reason: FreeText
    rejected: Count
    remedy: Harmless | None
    reported_at: Harmless
    requested_at: Harmless
    requires: list[Harmless]
    requires_one_of: list[Harmless]
    resolution: Harmless
    return_before: Harmless
    sent_at: Harmless
    shipped_at: Harmless
    shipping: Decimals
    stated_in: Harmless
    status: Harmless
    tenders: list[Grounds]
    threshold: Decimals
    total: Decimals
    undelivered: Count
    unit_price: Decimals
    units: list[Grounds]
    voided_label_id: Personal
    whole_order: bool


class ClauseResult(BaseModel):
    """How one clause was judged, and on what grounds. The quote and the reason in plain English follow from both."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, defer_build=True, validate_by_name=True, serialize_by_alias=True
    )

    clause: Harmless
    verdict: Verdict
    grounds: Annotated[dict[str, JsonValue], Grounds] = Field(alias="facts")
    """The values the verdict rests on; stored under ``facts``."""


@dataclass(frozen=True, slots=True)
class OverrideInForce:
    """An override in force: who set the clause aside, why, and the event that says so."""

    clause: str
    approved_by: str
    reason: str
    granted_at: datetime
    event: str
    """Stream and version of the ``OverrideGranted``, such as ``order/A-1#4``."""


def margin_seconds(deadline: datetime, instant: datetime) -> float | int:
    """Seconds left until the deadline; negative: that much too late. Whole numbers stay whole."""
    seconds = (deadline - instant).total_seconds()
    return int(seconds) if seconds.is_integer() else seconds

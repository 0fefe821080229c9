"""The values of a ruling: the result of each clause, and the grounds it rests on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, NamedTuple, TypedDict

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from returnable.domain.fields import to_text
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
    expires_at: Harmless
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
    once: bool
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
    taken_in: bool
    threshold: Decimals
    total: Decimals
    undelivered: Count
    unit_price: Decimals
    units: list[Grounds]
    voided_label_id: Personal
    voided_return_id: Harmless
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


class Use(NamedTuple):
    """The accepted decision that used an override up."""

    stream: str
    decision: str
    """The type of its event."""
    version: int

    @property
    def event(self) -> str:
        """Stream and version of its event."""
        return f"{self.stream}#{self.version}"


@dataclass(frozen=True, slots=True)
class GrantedOverride:
    """An override: who set the clause aside, why, for what, and the event that says so."""

    clause: str
    approved_by: str
    reason: str
    granted_at: datetime
    event: str
    """Stream and version of the ``OverrideGranted``, such as ``order/A-1#4``."""
    lines: tuple[str, ...] = ()
    """The lines it is for; empty: all of its subject."""
    expires_at: datetime | None = None
    """The exclusive end of its life."""
    once: bool = True
    """Whether the first accepted decision that cites it uses it up."""
    used_by: Use | None = None

    def covers(self, line_ids: Iterable[str]) -> bool:
        """Whether it is for all of these lines."""
        return not self.lines or all(line_id in self.lines for line_id in line_ids)

    def holds(self, at: datetime, stream: str, decision: str, continues: bool) -> bool:
        """Whether a decision of that type, on that stream, may cite it at an instant.

        Once it is used up, only a decision that ``continues`` the one that used it may: of the same type, on the same stream.
        """
        if self.expires_at is not None and at >= self.expires_at:
            return False
        used = self.used_by
        return used is None or (continues and (used.stream, used.decision) == (stream, decision))

    def grounds(self) -> Grounds:
        """What a ruling says of it. Its lines, its end and its further uses are there only where it has them."""
        found: Grounds = {
            "approved_by": self.approved_by,
            "reason": self.reason,
            "granted_at": to_text(self.granted_at),
            "fact": self.event,
        }
        if self.lines:
            found["lines"] = list(self.lines)
        if self.expires_at is not None:
            found["expires_at"] = to_text(self.expires_at)
        if not self.once:
            found["once"] = False
        return found


def margin_seconds(deadline: datetime, instant: datetime) -> float | int:
    """Seconds left until the deadline; negative: that much too late. Whole numbers stay whole."""
    seconds = (deadline - instant).total_seconds()
    return int(seconds) if seconds.is_integer() else seconds

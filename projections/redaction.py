"""Redaction: facts without the people in them, so that evidence can be given away.

Every field of every fact is listed here, as data: what identifies somebody is replaced by a pseudonym, what somebody wrote
is blanked, and the rest stays. The same value has the same pseudonym everywhere under one key, so that one customer with
three orders stays one customer with three orders; without the key nobody can tell which. Nothing that a decision rests
on changes, so that a redacted history is decided as the original was.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from dataclasses import replace

from pydantic import JsonValue
from pydantic_core import from_json, to_json

from returnable.domain.events import ExceptionRaised, Fact, Shipped, decode, encode
from returnable.domain.ports import Recorded

PERSONAL = frozenset(
    {"account_id", "actor.id", "approved_by", "customer_id", "email", "name"}  # people
    | {"label_id", "labels_used", "parcel_id", "tracking_number", "voided_label_id"}  # what a carrier knows them by
    | {"payment_id", "reference"}  # what a payment provider knows them by
    | {"command_id"}  # a caller's own key, which may be made of any of these
)
"""Fields replaced by a pseudonym."""

FREE_TEXT = frozenset({"description", "notes", "notice", "order_reference", "reason"})
"""Fields in which somebody wrote what they liked: blanked. An order reference that is the order's id stays."""

DERIVED = frozenset({"reasons"})
"""Texts that the desk made of other fields; what is personal in them is replaced like the fields they came from."""

HARMLESS = frozenset(
    # ids of the business, which stay so that evidence can be matched
    {"case_id", "claim_id", "line_id", "order_id", "refund_id", "return_id", "sku", "stream"}
    # time
    | {"account_since_at", "cancel_by", "cancelled_at", "confirmed_at", "contact_by", "deadline", "delivered_at"}
    | {"expected_from", "expected_to", "first_incomplete_at", "granted_at", "inspected_at", "issued_at", "judged_at"}
    | {"lost_at", "margin_seconds", "occurred_at", "overdue_at", "received_at", "recorded_at", "report_before"}
    | {"reported_at", "requested_at", "return_before", "sent_at", "shipped_at", "void_at"}
    # money and quantities
    | {"accepted", "amount", "below", "currency", "deducted", "fee", "inspected", "merchandise", "quantity", "rejected"}
    | {"settled_before", "shipping", "shipping_charged", "shipping_tax", "stated_in", "tax", "threshold", "total"}
    | {"undelivered", "unit_price"}
    # what was decided, by what, and how it came in
    | {"applies", "calendar", "carrier", "cause", "channel", "channels", "clause", "delivered", "engine", "evidence"}
    | {"fact", "final_sale", "given", "in_time", "incomplete", "kept", "method", "missing", "order_copy"}
    | {"original_packaging", "owed", "own_label", "policy", "proof", "proven_by", "remedy", "required", "requires"}
    | {"requires_one_of", "resolution", "role", "same_condition", "sha256", "status", "tags_attached", "verdict"}
    | {"version", "whole_order", "zone"}
    | {"attachments", "command", "repeats"}
    # structures, looked into
    | {"actor", "customer", "deductions", "facts", "findings", "items", "lines", "override", "parcels", "payments"}
    | {"pins", "request", "ruling", "tenders", "units"}
)
"""Fields that say nothing of a person."""

BLANK = "[redacted]"
"""What stands for a text that was blanked."""


class Redaction:
    """Replaces what is personal in facts. ``key`` decides the pseudonyms: the same key gives the same ones."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def pseudonym(self, value: str) -> str:
        """What stands for a personal value: always the same under one key, and not to be turned back without it."""
        return f"anon-{hmac.new(self._key, value.encode(), hashlib.sha256).hexdigest()[:20]}"

    def of(self, entry: Recorded, case: Callable[[], Iterable[Recorded]]) -> Recorded:
        """The entry with a redacted fact; ``case`` gives the facts of its case as they are, where they are needed."""
        fact = entry.fact
        redacted: Fact
        if isinstance(fact, ExceptionRaised):
            shipped = [other.fact for other in case() if isinstance(other.fact, Shipped)]
            reasons = tuple(self._reason(reason, shipped) for reason in fact.reasons)
            redacted = self._of_fields(fact.model_copy(update={"reasons": reasons}), entry.case_id)
        else:
            redacted = self._of_fields(fact, entry.case_id)
        return replace(entry, fact=redacted)

    def _of_fields(self, fact: Fact, order_id: str) -> Fact:
        stored_as, content = encode(fact)
        return decode(stored_as, to_json(self._walk("", from_json(content), order_id)))

    def _walk(self, key: str, value: JsonValue, order_id: str) -> JsonValue:
        if isinstance(value, dict):
            of_actor = {"id": "actor.id"} if key == "actor" else {}
            return {name: self._walk(of_actor.get(name, name), one, order_id) for name, one in value.items()}
        if isinstance(value, list):
            return [self._walk(key, one, order_id) for one in value]
        if not isinstance(value, str) or key in HARMLESS or key in DERIVED:
            return value
        if key in PERSONAL:
            return self.pseudonym(value)
        # What is not listed is not let through.
        return value if key == "order_reference" and value == order_id else BLANK

    def _reason(self, reason: str, shipped: Iterable[Shipped]) -> str:
        pairs = {f" by {fact.carrier} {fact.tracking_number}": fact for fact in shipped}
        for said in sorted(pairs, key=len, reverse=True):
            fact = pairs[said]
            reason = reason.replace(said, f" by {fact.carrier} {self.pseudonym(fact.tracking_number)}")
        for parcel_id in sorted({fact.parcel_id for fact in pairs.values()}, key=len, reverse=True):
            reason = reason.replace(f"parcel {parcel_id} ", f"parcel {self.pseudonym(parcel_id)} ")
        return reason

"""The reason of every verdict in plain English, from the clause and the facts alone.

A decision stores clause, verdict and facts; what it says to people is derived here, so that it reads the same on the day
of the decision and ten years later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import JsonValue

from returnable.domain.ruling import ClauseResult
from returnable.domain.wording import instant_in_words, margin_in_words, units

Grounds = Mapping[str, Any]
Say = Callable[[str], str]

_INSTANT_ENDINGS = ("_at", "_by", "_before")
_INSTANT_KEYS = frozenset({"deadline"})
_NOT_INSTANTS = frozenset({"approved_by", "proven_by", "settled_before"})


def is_instant(key: str) -> bool:
    """Whether the fact of that name is an instant."""
    return key in _INSTANT_KEYS or (key.endswith(_INSTANT_ENDINGS) and key not in _NOT_INSTANTS)


def localised(grounds: Mapping[str, JsonValue], tz: ZoneInfo) -> dict[str, JsonValue]:
    """The facts with every instant in that zone."""
    return {key: _localised(key, value, tz) for key, value in grounds.items()}


def _localised(key: str, value: JsonValue, tz: ZoneInfo) -> JsonValue:
    if isinstance(value, dict):
        return localised(value, tz)
    if isinstance(value, list):
        return [_localised(key, entry, tz) for entry in value]
    if isinstance(value, str) and is_instant(key):
        return datetime.fromisoformat(value).astimezone(tz).isoformat()
    return value


def because(finding: ClauseResult, tz: ZoneInfo) -> str:
    """Why the clause was judged so."""

    def say(instant: str) -> str:
        return instant_in_words(datetime.fromisoformat(instant), tz)

    grounds: dict[str, Any] = {**finding.grounds}
    if grounds.get("applies") is False:
        return "The policy has no such rule."
    text = _REASONS[finding.clause](finding.verdict, grounds, say)
    override = grounds.get("override")
    if finding.verdict == "overridden" and isinstance(override, dict):
        return (
            f"Set aside by {override['approved_by']} at {say(override['granted_at'])}: {override['reason']}. "
            f"Otherwise: {text}"
        )
    return text


def _names(values: object) -> str:
    return ", ".join(str(value) for value in values) if isinstance(values, list) else str(values)


def _cancellation_window(verdict: str, grounds: Grounds, say: Say) -> str:
    arrived = f"The request arrived at {say(grounds['requested_at'])}"
    if "first_incomplete_at" in grounds:
        arrived += f" and completes the one of {say(grounds['first_incomplete_at'])}, which counts"
    in_time = grounds["margin_seconds"] >= 0
    measure = margin_in_words(grounds["margin_seconds"], inclusive=True)
    return f"{arrived}; {'in time' if in_time else 'too late'}: the last instant was {say(grounds['deadline'])} ({measure})."


def _cancellation_not_shipped(verdict: str, grounds: Grounds, say: Say) -> str:
    parcels = grounds["parcels"]
    if not parcels:
        return "No parcel was in the carrier's possession."
    first = parcels[0]
    return (
        f"Parcel {first['parcel_id']} was handed to the carrier at {say(first['shipped_at'])}; the order can be returned "
        f"instead{'' if grounds['delivered'] else ', once it is delivered'}."
    )


def _cancellation_by_email(verdict: str, grounds: Grounds, say: Say) -> str:
    if grounds["channel"] not in grounds["channels"]:
        return f"The request came by {grounds['channel']}; it must come by {_names(grounds['channels'])}."
    if grounds["incomplete"]:
        return (
            "The mail has neither the order confirmation number nor a copy of the order; it is incomplete, and "
            "completing it keeps its time."
        )
    given = " and ".join(_GIVEN[name] for name in grounds["given"])
    return f"The request came by {grounds['channel']}{f' with {given}' if given else ''}."


_GIVEN = {"order_reference": "the order confirmation number", "order_copy": "a copy of the order"}


def _always(text: str) -> Callable[[str, Grounds, Say], str]:
    return lambda verdict, grounds, say: text


def _full_refund(verdict: str, grounds: Grounds, say: Say) -> str:
    shipping = f", outbound shipping of {grounds['shipping']} included" if grounds["shipping"].strip("0.") else ""
    return f"The order is cancelled: {grounds['amount']} goes back{shipping}."


def _final_sale(verdict: str, grounds: Grounds, say: Say) -> str:
    if grounds["final_sale"]:
        return f"Line {_names(grounds['final_sale'])} was bought as final sale."
    return f"Line {_names(grounds['lines'])} was not marked as final sale when the order was confirmed."


def _returns_window(verdict: str, grounds: Grounds, say: Say) -> str:
    asked = f"Requested at {say(grounds['requested_at'])}"
    sentences = []
    for line in grounds["lines"]:
        if line.get("undelivered"):
            sentences.append(f"{units(line['undelivered'])} of line {line['line_id']} without a delivery on record")
        elif line["in_time"]:
            sentences.append(
                f"line {line['line_id']} could be returned before {say(line['return_before'])} "
                f"({margin_in_words(line['margin_seconds'])})"
            )
        elif line["margin_seconds"] <= 0:
            sentences.append(
                f"line {line['line_id']} had to be returned before {say(line['return_before'])} "
                f"({margin_in_words(line['margin_seconds'])})"
            )
        else:
            sentences.append(f"line {line['line_id']} was delivered only at {say(line['delivered_at'])}")
    return f"{asked}; {'; '.join(sentences)}."


def _account(verdict: str, grounds: Grounds, say: Say) -> str:
    if verdict == "not_applicable":
        return "The policy asks for no account."
    if "account_since_at" not in grounds:
        return "The customer has no account."
    if verdict == "pass":
        return f"The customer has the account {grounds['account_id']}."
    return (
        f"The account {grounds['account_id']} was linked at {say(grounds['account_since_at'])}, after the request of "
        f"{say(grounds['requested_at'])}."
    )


def _channel(verdict: str, grounds: Grounds, say: Say) -> str:
    if grounds["channel"] in grounds["channels"]:
        return f"It came by {grounds['channel']}."
    return f"It came by {grounds['channel']}; it must come by {_names(grounds['channels'])}."


def _no_exchanges(verdict: str, grounds: Grounds, say: Say) -> str:
    return "An exchange was asked for." if grounds["resolution"] == "exchange" else "A refund is asked for."


def _ship_by(verdict: str, grounds: Grounds, say: Say) -> str:
    if "deadline" not in grounds:
        return "No prepaid label was issued, so no clock runs."
    if "voided_label_id" in grounds:
        return (
            f"Label {grounds['voided_label_id']} voided by itself at {say(grounds['deadline'])} and can be replaced only by "
            "an override."
        )
    if "label_id" in grounds:
        return f"The parcel must be handed over before {say(grounds['deadline'])}; then label {grounds['label_id']} is void."
    how = "arrived without a recorded hand-over" if grounds["proven_by"] == "arrival" else "was handed over"
    margin = grounds["margin_seconds"]
    return (
        f"The parcel {how} at {say(grounds['sent_at'])}, {'in time' if margin > 0 else 'too late'}: it had to be sent "
        f"before {say(grounds['deadline'])} ({margin_in_words(margin)})."
    )


def _tracking(verdict: str, grounds: Grounds, say: Say) -> str:
    proof = {"carrier_scan": "the carrier's scan", "counter_receipt": "a counter receipt"}
    return f"The hand-over of {say(grounds['sent_at'])} is proven by {proof.get(grounds['proven_by'], 'what was recorded')}."


def _own_label(verdict: str, grounds: Grounds, say: Say) -> str:
    if grounds["own_label"]:
        return "The parcel came on the customer's own label: no fee, and its cost is not refunded."
    return "A prepaid label was used."


_LACKING = {
    "same_condition": "not in the same condition",
    "original_packaging": "not in the original packaging",
    "tags_attached": "not all tags attached",
}


def _condition(verdict: str, grounds: Grounds, say: Say) -> str:
    if "units" not in grounds:
        return f"At inspection {units(grounds['accepted'])} accepted, {grounds['rejected']} rejected."
    rejected = [unit for unit in grounds["units"] if unit["missing"]]
    if not rejected:
        return "Every unit inspected is in the same condition, in its original packaging, with all tags attached."
    return (
        "; ".join(
            f"{units(unit['quantity'])} of line {unit['line_id']}: {_names([_LACKING[name] for name in unit['missing']])}"
            for unit in rejected
        )
        + "."
    )


def _label_fee(verdict: str, grounds: Grounds, say: Say) -> str:
    if "stated_in" in grounds:
        return f"The fee is stated in {grounds['stated_in']}, the order was paid in {grounds['currency']}."
    used = grounds["labels_used"]
    if not used:
        return "No prepaid label was used."
    if grounds["amount"].strip("0.") == "":
        return f"No accepted unit was below {grounds['threshold']}."
    return (
        f"Label {_names(used)} was used for units below {grounds['threshold']}: {grounds['fee']} for each label, "
        f"{grounds['amount']} in all."
    )


def _shipping(verdict: str, grounds: Grounds, say: Say) -> str:
    if verdict == "not_applicable":
        return "There is no outbound shipping to keep or to pay back."
    return f"Outbound shipping of {grounds['shipping']} stays with the merchant."


def _after_inspection(verdict: str, grounds: Grounds, say: Say) -> str:
    if verdict == "not_applicable":
        return "The parcel was lost at the merchant's risk, so there is nothing to inspect."
    if grounds["inspected"]:
        return f"Received and inspected: {units(grounds['inspected'])}."
    if "lost_at" in grounds:
        return f"The parcel was reported lost at {say(grounds['lost_at'])}, before anything was received and inspected."
    return f"Nothing was inspected: the return is {str(grounds['status']).replace('_', ' ')}."


def _tender(verdict: str, grounds: Grounds, say: Say) -> str:
    shares = _names([f"{tender['amount']} to {tender['payment_id']}" for tender in grounds["tenders"]])
    return f"{grounds['total']} goes back the way it was paid: {shares or 'nothing was paid'}."


def _timing(verdict: str, grounds: Grounds, say: Say) -> str:
    return (
        f"Issued at {say(grounds['issued_at'])}: expected from {grounds['expected_from']} to {grounds['expected_to']}, "
        f"overdue from {say(grounds['deadline'])} on."
    )


def _wrong_item_window(verdict: str, grounds: Grounds, say: Say) -> str:
    reported = f"Reported at {say(grounds['reported_at'])}"
    if grounds.get("undelivered"):
        return f"{reported}; {units(grounds['undelivered'])} of line {grounds['line_id']} without a delivery on record."
    margin = grounds["margin_seconds"]
    if margin > 0 and verdict != "pass":
        return f"{reported}; delivered only at {say(grounds['delivered_at'])}."
    return (
        f"{reported}; {'in time' if margin > 0 else 'too late'}: it had to be reported before "
        f"{say(grounds['deadline'])} ({margin_in_words(margin)})."
    )


def _evidence(verdict: str, grounds: Grounds, say: Say) -> str:
    if not grounds["missing"]:
        return "All the evidence is there."
    missing = _names(grounds["missing"]).replace("_", " ")
    return f"Still missing: {missing}. It can be supplied later; the claim is not settled without it."


def _contact(verdict: str, grounds: Grounds, say: Say) -> str:
    return f"Customer care is to contact the customer by {say(grounds['contact_by'])}."


def _remedy(verdict: str, grounds: Grounds, say: Say) -> str:
    if "amount" not in grounds:
        return f"The remedy is {'refund and replacement' if grounds['remedy'] == 'both' else grounds['remedy']}."
    shipping = f", outbound shipping of {grounds['shipping']} included" if grounds["shipping"].strip("0.") else ""
    return f"The claim was upheld: {grounds['amount']} goes back{shipping}; no fee is due."


_REASONS: dict[str, Callable[[str, Grounds, Say], str]] = {
    "cancellation.window": _cancellation_window,
    "cancellation.not_shipped": _cancellation_not_shipped,
    "cancellation.by_email": _cancellation_by_email,
    "cancellation.notice": _always("The customer is owed a notice of this decision."),
    "cancellation.full_refund": _full_refund,
    "returns.final_sale": _final_sale,
    "returns.window": _returns_window,
    "returns.account": _account,
    "returns.portal": _channel,
    "returns.no_exchanges": _no_exchanges,
    "returns.ship_by": _ship_by,
    "returns.tracking": _tracking,
    "returns.own_label": _own_label,
    "returns.condition": _condition,
    "returns.label_fee": _label_fee,
    "returns.shipping_non_refundable": _shipping,
    "returns.refund_after_inspection": _after_inspection,
    "returns.original_tender": _tender,
    "returns.refund_timing": _timing,
    "returns.transit_risk": lambda verdict, grounds, say: (
        f"The parcel was reported lost at {say(grounds['lost_at'])}, before it was inspected: the customer's risk."
    ),
    "wrong_item.window": _wrong_item_window,
    "wrong_item.by_email": _channel,
    "wrong_item.evidence": _evidence,
    "wrong_item.contact": _contact,
    "wrong_item.remedy": _remedy,
}
"""Clause id → what to say. Every clause a ruling can hold is here."""


def deduction_because(clause: str, grounds: Grounds) -> str:
    """Why a deduction was made."""
    lines = _names(grounds["lines"])
    return (
        f"Label {_names(grounds['labels_used'])} was used for line {lines}, below {grounds['threshold']}: "
        f"{grounds['fee']} for each label, never more than the units' price."
    )

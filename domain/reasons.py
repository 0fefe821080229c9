"""The reason for every verdict in plain English, from the clause and its grounds alone.

A decision stores clause, verdict and grounds. The sentence is derived here, so it reads the same on the day of the decision
and ten years later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import JsonValue

from returnable.domain.ruling import ClauseResult
from returnable.domain.wording import instant_in_words, listed, margin_in_words, plural, units

Grounds = Mapping[str, Any]

_INSTANT_ENDINGS = ("_at", "_by", "_before")
_INSTANT_KEYS = frozenset({"deadline"})
_NOT_INSTANTS = frozenset({"approved_by", "proven_by", "settled_before"})


def is_instant(key: str) -> bool:
    """Whether the value of that name in some grounds is an instant."""
    return key in _INSTANT_KEYS or (key.endswith(_INSTANT_ENDINGS) and key not in _NOT_INSTANTS)


def localised(grounds: Mapping[str, JsonValue], tz: ZoneInfo) -> dict[str, JsonValue]:
    """The grounds with every instant in that zone."""
    return {key: _localised(key, value, tz) for key, value in grounds.items()}


def _localised(key: str, value: JsonValue, tz: ZoneInfo) -> JsonValue:
    if isinstance(value, dict):
        return localised(value, tz)
    if isinstance(value, list):
        return [_localised(key, entry, tz) for entry in value]
    if isinstance(value, str) and is_instant(key):
        return datetime.fromisoformat(value).astimezone(tz).isoformat()
    return value


class _Speech(NamedTuple):
    """What a sentence depends on besides the grounds: the verdict, the zone of its instants, and whether anybody asked."""

    verdict: str
    tz: ZoneInfo
    asked: bool

    def at(self, instant: str) -> str:
        """An instant in words. That of a mere question is its clock, whose fractions of a second tell nobody anything."""
        at = datetime.fromisoformat(instant)
        return instant_in_words(at if self.asked else at.replace(microsecond=0), self.tz)

    def will(self, fact: str, conditional: str) -> str:
        """The form of a verb: a fact, or the conditional where nobody asked yet."""
        return fact if self.asked else conditional


Reason = Callable[[Grounds, _Speech], str]


def because(finding: ClauseResult, tz: ZoneInfo, *, asked: bool = True) -> str:
    """Why the clause was judged so.

    With ``asked=False`` nobody made the request yet. What rests on the request is then in the conditional; what rests on
    recorded events reads the same.
    """
    grounds: dict[str, Any] = {**finding.grounds}
    if grounds.get("applies") is False:
        return "The policy has no such rule."
    if grounds.get("cancelled") is True:
        return "The units were cancelled: they may come back, without a refund."
    if grounds.get("wrong_item") is True:
        return "The wrong item comes back at the merchant's cost; no clause bars it."
    speech = _Speech(finding.verdict, tz, asked)
    text = _REASONS[finding.clause](grounds, speech)
    override = grounds.get("override")
    return f"{_override(override, speech)} Otherwise: {text}" if isinstance(override, dict) else text


def _override(override: Grounds, speech: _Speech) -> str:
    granted = f"Set aside by {override['approved_by']} at {speech.at(override['granted_at'])}"
    if "lines" in override:
        granted += f" for {_lines(override['lines'])}"
    if "expires_at" in override:
        granted += f" until {speech.at(override['expires_at'])}"
    if "once" in override:
        granted += " for every decision"
    return f"{granted}: {override['reason']}."


def _lines(ids: Sequence[object], line: str = "line") -> str:
    return f"{plural(len(ids), line, f'{line}s')} {listed(ids)}"


def _labels(ids: Sequence[object]) -> str:
    return f"{plural(len(ids), 'Label', 'Labels')} {listed(ids)} {plural(len(ids), 'was', 'were')} used"


def _shipping_included(grounds: Grounds) -> str:
    return f", outbound shipping of {grounds['shipping']} included" if grounds["shipping"].strip("0.") else ""


# ---- cancellations --------------------------------------------------------------------------------------------------


def _cancellation_window(grounds: Grounds, speech: _Speech) -> str:
    margin = grounds["margin_seconds"]
    first = grounds.get("first_incomplete_at")
    in_time = "in time" if margin >= 0 else "too late"
    last = f"the last instant {speech.will('was', 'is')} {speech.at(grounds['deadline'])}"
    end = f"{in_time}: {last} ({margin_in_words(margin, inclusive=True)})."
    if speech.asked:
        arrived = f"The request arrived at {speech.at(grounds['requested_at'])}"
        return f"{arrived}{f' and completes the one of {speech.at(first)}, which counts' if first else ''}; {end}"
    request = f"A request at {speech.at(grounds['requested_at'])}"
    return f"{request}{f', which would complete the one of {speech.at(first)},' if first else ''} would be {end}"


def _cancellation_not_shipped(grounds: Grounds, speech: _Speech) -> str:
    if not grounds["parcels"]:
        return "No parcel was in the carrier's possession."
    first = grounds["parcels"][0]
    return (
        f"Parcel {first['parcel_id']} was handed to the carrier at {speech.at(first['shipped_at'])}; the order can be "
        f"returned instead{'' if grounds['delivered'] else ', once it is delivered'}."
    )


_PIECES = {"order_reference": "the order confirmation number", "order_copy": "a copy of the order"}


def _cancellation_by_email(grounds: Grounds, speech: _Speech) -> str:
    channels = listed(grounds["channels"], "or")
    if not speech.asked:
        pieces = listed((_PIECES[name] for name in grounds["requires_one_of"]), "or")
        return f"The request would have to come by {channels}{f' with {pieces}' if pieces else ''}."
    if grounds["channel"] not in grounds["channels"]:
        return f"The request came by {grounds['channel']}; it must come by {channels}."
    if grounds["incomplete"]:
        return (
            "The mail has neither the order confirmation number nor a copy of the order; it is incomplete, and "
            "completing it keeps its time."
        )
    given = listed(_PIECES[name] for name in grounds["given"])
    return f"The request came by {grounds['channel']}{f' with {given}' if given else ''}."


def _notice(grounds: Grounds, speech: _Speech) -> str:
    return f"The customer {speech.will('is', 'would be')} owed a notice of this decision."


def _full_refund(grounds: Grounds, speech: _Speech) -> str:
    goes_back = speech.will("goes back", "would go back")
    cancelled = "The order is cancelled" if "cancelled_at" in grounds else "The shop cancelled units of the order"
    return f"{cancelled}: {grounds['amount']} {goes_back}{_shipping_included(grounds)}."


# ---- returns --------------------------------------------------------------------------------------------------------


def _final_sale(grounds: Grounds, speech: _Speech) -> str:
    marked, lines = grounds["final_sale"], grounds["lines"]
    if marked:
        return f"{_lines(marked, 'Line')} {plural(len(marked), 'was', 'were')} bought as final sale."
    was_not = plural(len(lines), "was not", "were not")
    return f"{_lines(lines, 'Line')} {was_not} marked as final sale when the order was confirmed."


def _returns_window(grounds: Grounds, speech: _Speech) -> str:
    sentences = []
    for line in grounds["lines"]:
        name, margin = f"line {line['line_id']}", line.get("margin_seconds", 0)
        if line.get("undelivered"):
            sentences.append(f"{units(line['undelivered'])} of {name} without a delivery on record")
        elif not line["in_time"] and margin > 0:
            sentences.append(f"{name} was delivered only at {speech.at(line['delivered_at'])}")
        else:
            could = speech.will("could be", "can be") if line["in_time"] else "had to be"
            sentences.append(
                f"{name} {could} returned before {speech.at(line['return_before'])} ({margin_in_words(margin)})"
            )
    asked_at = speech.at(grounds["requested_at"])
    return f"{speech.will(f'Requested at {asked_at};', f'For a request at {asked_at}:')} {'; '.join(sentences)}."


def _account(grounds: Grounds, speech: _Speech) -> str:
    if speech.verdict == "not_applicable":
        return "The policy asks for no account."
    if "account_since_at" not in grounds:
        return "The customer has no account."
    if speech.verdict == "pass":
        return f"The customer has the account {grounds['account_id']}."
    since, asked_at = speech.at(grounds["account_since_at"]), speech.at(grounds["requested_at"])
    request = speech.will("the request of", "a request at")
    return f"The account {grounds['account_id']} was linked at {since}, after {request} {asked_at}."


def _channel(grounds: Grounds, speech: _Speech) -> str:
    channels = listed(grounds["channels"], "or")
    if not speech.asked:
        return f"It would have to come by {channels}."
    wrong = "" if grounds["channel"] in grounds["channels"] else f"; it must come by {channels}"
    return f"It came by {grounds['channel']}{wrong}."


def _no_exchanges(grounds: Grounds, speech: _Speech) -> str:
    if not speech.asked:
        return "It would have to ask for a refund and not for an exchange."
    return "An exchange was asked for." if grounds["resolution"] == "exchange" else "A refund is asked for."


def _ship_by(grounds: Grounds, speech: _Speech) -> str:
    if "deadline" not in grounds:
        return "No prepaid label was issued, so no clock runs."
    deadline = speech.at(grounds["deadline"])
    if "voided_label_id" in grounds:
        of = f" of return {grounds['voided_return_id']} for the same units" if "voided_return_id" in grounds else ""
        voided = f"Label {grounds['voided_label_id']}{of} voided at its deadline"
        return f"{voided}, {deadline}; only an override can replace it."
    if "label_id" in grounds:
        must, is_void = speech.will("must", "would have to"), speech.will("is", "would be")
        return f"The parcel {must} be handed over before {deadline}; then label {grounds['label_id']} {is_void} void."
    how = "arrived without a recorded hand-over" if grounds["proven_by"] == "arrival" else "was handed over"
    margin = grounds["margin_seconds"]
    return (
        f"The parcel {how} at {speech.at(grounds['sent_at'])}, {'in time' if margin > 0 else 'too late'}: it had to be sent "
        f"before {deadline} ({margin_in_words(margin)})."
    )


_PROOFS = {"carrier_scan": "the carrier's scan", "counter_receipt": "a counter receipt"}


def _tracking(grounds: Grounds, speech: _Speech) -> str:
    proof = _PROOFS.get(grounds["proven_by"], "what was recorded")
    return f"The hand-over of {speech.at(grounds['sent_at'])} is proven by {proof}."


def _own_label(grounds: Grounds, speech: _Speech) -> str:
    if grounds["own_label"]:
        return "The parcel came on the customer's own label: no fee, and its cost is not refunded."
    return "A prepaid label was used."


_LACKING = {
    "same_condition": "not in the same condition",
    "original_packaging": "not in the original packaging",
    "tags_attached": "not all tags attached",
}


def _condition(grounds: Grounds, speech: _Speech) -> str:
    if "units" not in grounds:
        return f"At inspection {units(grounds['accepted'])} accepted, {grounds['rejected']} rejected."
    rejected = [
        f"{units(unit['quantity'])} of line {unit['line_id']}: {', '.join(_LACKING[name] for name in unit['missing'])}"
        for unit in grounds["units"]
        if unit["missing"]
    ]
    if not rejected:
        return "Every unit inspected is in the same condition, in its original packaging, with all tags attached."
    return f"{'; '.join(rejected)}."


# ---- refunds --------------------------------------------------------------------------------------------------------


def _label_fee(grounds: Grounds, speech: _Speech) -> str:
    if "stated_in" in grounds:
        return f"The fee is stated in {grounds['stated_in']}, the order was paid in {grounds['currency']}."
    if not grounds["labels_used"]:
        return "No prepaid label was used."
    charged = grounds.get("labels_charged", [])
    if len(charged) == len(grounds["labels_used"]):
        return f"{_labels(charged)}, and charged with another refund."
    if grounds["amount"].strip("0.") == "":
        return f"No accepted unit was below {grounds['threshold']}."
    fee = f"{grounds['fee']} for each label, {grounds['amount']} in all"
    return f"{_labels(grounds['labels_used'])} for units below {grounds['threshold']}: {fee}."


def _shipping(grounds: Grounds, speech: _Speech) -> str:
    if speech.verdict == "not_applicable":
        return "There is no outbound shipping to keep or to pay back."
    return f"Outbound shipping of {grounds['shipping']} {speech.will('stays', 'would stay')} with the merchant."


def _after_inspection(grounds: Grounds, speech: _Speech) -> str:
    if speech.verdict == "not_applicable":
        return "The parcel was lost at the merchant's risk, so there is nothing to inspect."
    if grounds["inspected"] and not grounds.get("taken_in", True):
        return f"Inspected: {units(grounds['inspected'])}, but no parcel was taken in at the dock."
    if grounds["inspected"]:
        return f"Received and inspected: {units(grounds['inspected'])}."
    if "lost_at" in grounds:
        lost_at = speech.at(grounds["lost_at"])
        return f"The parcel was reported lost at {lost_at}, before anything was received and inspected."
    return f"Nothing was inspected: the return is {str(grounds['status']).replace('_', ' ')}."


def _tender(grounds: Grounds, speech: _Speech) -> str:
    tenders = grounds["tenders"]
    shares = ", ".join(
        f"{tender['amount']} to {tender['payment_id']}"
        + (f" (for which {tender['payout_id']} stands now)" if "payout_id" in tender else "")
        for tender in tenders
    )
    otherwise = any("payout_id" in tender for tender in tenders)
    goes_back = "would go back" if otherwise else speech.will("goes back", "would go back")
    return f"{grounds['total']} {goes_back} the way it was paid: {shares or 'nothing was paid'}."


def _timing(grounds: Grounds, speech: _Speech) -> str:
    return (
        f"{speech.will('Issued', 'If issued')} at {speech.at(grounds['issued_at'])}: expected from "
        f"{grounds['expected_from']} to {grounds['expected_to']}, overdue from {speech.at(grounds['deadline'])} on."
    )


def _transit_risk(grounds: Grounds, speech: _Speech) -> str:
    lost_at = speech.at(grounds["lost_at"])
    return f"The parcel was reported lost at {lost_at}, before it was inspected: the customer's risk."


# ---- claims ---------------------------------------------------------------------------------------------------------


def _wrong_item_window(grounds: Grounds, speech: _Speech) -> str:
    at = speech.at(grounds["reported_at"])
    reported = speech.will(f"Reported at {at};", f"For a report at {at}:")
    if grounds.get("undelivered"):
        return f"{reported} {units(grounds['undelivered'])} of line {grounds['line_id']} without a delivery on record."
    margin = grounds["margin_seconds"]
    if margin > 0 and speech.verdict != "pass":
        return f"{reported} delivered only at {speech.at(grounds['delivered_at'])}."
    must = "has to be" if margin > 0 and not speech.asked else "had to be"
    return (
        f"{reported} {'in time' if margin > 0 else 'too late'}: it {must} reported before "
        f"{speech.at(grounds['deadline'])} ({margin_in_words(margin)})."
    )


def _evidence(grounds: Grounds, speech: _Speech) -> str:
    if not speech.asked:
        needed = listed(grounds["requires"]).replace("_", " ")
        return f"The claim would have to show: {needed}." if needed else "The claim would need no evidence."
    if not grounds["missing"]:
        return "All the evidence is there."
    missing = listed(grounds["missing"]).replace("_", " ")
    return f"Still missing: {missing}. It can be supplied later; the claim is not settled without it."


def _contact(grounds: Grounds, speech: _Speech) -> str:
    return f"Customer care {speech.will('is', 'would have')} to contact the customer by {speech.at(grounds['contact_by'])}."


def _remedy(grounds: Grounds, speech: _Speech) -> str:
    if "amount" not in grounds:
        remedy = "refund and replacement" if grounds["remedy"] == "both" else grounds["remedy"]
        return f"The remedy {speech.will('is', 'would be')} {remedy}."
    goes_back, is_due = speech.will("goes back", "would go back"), speech.will("is", "would be")
    return f"The claim was upheld: {grounds['amount']} {goes_back}{_shipping_included(grounds)}; no fee {is_due} due."


_REASONS: dict[str, Reason] = {
    "cancellation.window": _cancellation_window,
    "cancellation.not_shipped": _cancellation_not_shipped,
    "cancellation.by_email": _cancellation_by_email,
    "cancellation.notice": _notice,
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
    "returns.transit_risk": _transit_risk,
    "wrong_item.window": _wrong_item_window,
    "wrong_item.by_email": _channel,
    "wrong_item.evidence": _evidence,
    "wrong_item.contact": _contact,
    "wrong_item.remedy": _remedy,
}
"""Clause id → its reason. Every clause a ruling can hold is here."""


def deduction_because(clause: str, grounds: Grounds) -> str:
    """Why a deduction was made."""
    used = f"{_labels(grounds['labels_used'])} for {_lines(grounds['lines'])}, below {grounds['threshold']}"
    return f"{used}: {grounds['fee']} for each label, never more than the units' price."

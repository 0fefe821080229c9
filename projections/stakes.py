"""At stake: the money that would move differently if the verdict of a clause were the other one, in minor units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from returnable.domain.case import Case
from returnable.domain.events import Event, Inspected, InspectionCorrected, RefundRequested, RefusalsCounted
from returnable.domain.ids import StreamId
from returnable.domain.money import to_minor
from returnable.domain.refunds.owed import tax_of_units
from returnable.domain.ruling import ClauseResult

_OWN_AMOUNT = {"returns.label_fee": "amount", "returns.shipping_non_refundable": "shipping"}
"""Clauses that decide on a part of a refund → the name of that amount in their grounds."""


Judged = Inspected | InspectionCorrected
"""Decisions on single units."""


def at_stake_of(result: ClauseResult, currency: str, decision: int) -> int:
    """The amount at stake in one clause of a decision; ``decision`` is at stake in the decision as a whole."""
    own = _OWN_AMOUNT.get(result.clause)
    return decision if own is None else to_minor(str(result.grounds.get(own, "0")), currency)


def at_stake(case: Case, stream: str, event: Event, otherwise: Judged | None = None) -> int:
    """The amount at stake in the decision that ``event`` records.

    For a return, a label and a claim it is the price and tax of the units. For an inspection it is that of the rejected
    units; if ``otherwise`` is the same inspection under another policy, of those that only one of them rejects. For a
    refund it is the sum of the tenders, for a cancellation the sum of the payments.
    """
    if isinstance(event, RefundRequested):
        return sum(tender.amount for tender in event.tenders)
    if isinstance(event, Judged):
        one, other = _either_way(event) if otherwise is None else (_accepted(event), _accepted(otherwise))
        return abs(_goods(case, one) - _goods(case, other))
    kind, name = StreamId.parse(stream)
    if isinstance(event, RefusalsCounted) and event.command in ("request_return", "report_wrong_item"):
        return _goods(case, _requested(event.request))
    if kind == "return":
        return _goods(case, _units((line.line_id, line.quantity) for line in case.returns[name].lines))
    if kind == "claim":
        claim = case.claims[name]
        return _goods(case, {claim.line_id: claim.quantity})
    return sum(payment.amount for payment in case.order.confirmed.payments)


def _goods(case: Case, units: Mapping[str, int]) -> int:
    """Price and tax of units of the order."""
    lines = [(case.order.lines[line_id], count) for line_id, count in units.items()]
    return sum(line.unit_price * count + tax_of_units(line, 0, count) for line, count in lines)


def _units(counts: Iterable[tuple[str, int]]) -> Mapping[str, int]:
    units: Counter[str] = Counter()
    for line_id, count in counts:
        units[line_id] += count
    return units


def _requested(request: Mapping[str, Any]) -> Mapping[str, int]:
    """The units of a request to return them, or of a report of a wrong item."""
    return _units((each["line_id"], each["quantity"]) for each in request.get("lines", (request,)))


def _accepted(inspected: Judged) -> Mapping[str, int]:
    return _units((each.line_id, each.quantity) for each in inspected.findings if each.accepted)


def _either_way(inspected: Judged) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """The accepted units if the clause rejects those that lack something, and if it does not."""
    rulings: list[Any] = [each.grounds["units"] for each in inspected.ruling if each.clause == "returns.condition"]
    found = [(each["line_id"], each["quantity"], each["missing"]) for units in rulings for each in units]
    return _units((line_id, count) for line_id, count, missing in found if not missing), _units(
        (line_id, count) for line_id, count, _ in found
    )

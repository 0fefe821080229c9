"""Overrides: which decision can fail by which clause, and whether one that is granted could still change a decision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from returnable.domain.case import Case
from returnable.domain.claims import Claim
from returnable.domain.commands import Override
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.errors import Impossible
from returnable.domain.events import (
    Cancelled,
    ClaimOpened,
    ClaimResolved,
    Event,
    Inspected,
    LabelIssued,
    OverrideGranted,
    Received,
    RefundRequested,
    ReturnAuthorized,
)
from returnable.domain.lifecycles import CLAIM, ORDER, RETURN
from returnable.domain.order.state import Order
from returnable.domain.policy import CLAUSE_IDS, Policy
from returnable.domain.returns.state import Return
from returnable.domain.wording import listed, plural

FAILS_BY: Final[dict[type[Event], tuple[str, ...]]] = {
    Cancelled: ("cancellation.window", "cancellation.not_shipped", "cancellation.by_email"),
    ReturnAuthorized: (
        "returns.final_sale",
        "returns.window",
        "returns.account",
        "returns.portal",
        "returns.no_exchanges",
    ),
    LabelIssued: ("returns.ship_by",),
    Received: ("returns.ship_by",),
    Inspected: ("returns.condition",),
    RefundRequested: (
        "returns.condition",
        "returns.label_fee",
        "returns.shipping_non_refundable",
        "returns.refund_after_inspection",
        "returns.transit_risk",
    ),
    ClaimOpened: ("wrong_item.window", "wrong_item.by_email"),
    ClaimResolved: ("wrong_item.evidence",),
}
"""Decision, by its event if it is accepted → the clauses that it can fail by. All other clauses always hold."""

Covers = Callable[[Iterable[str]], bool]
"""Whether an override is for all of these lines."""


def grant(case: Case, command: Override, now: DecisionContext) -> DecisionResult:
    """Set a clause aside; refused where no decision that is still possible could fail by it."""
    if command.expires_at is not None and command.expires_at <= now.at:
        reason = f"{command.expires_at.isoformat()} is not later than the clock ({now.at.isoformat()})"
        raise Impossible("command.invalid", reason, field="expires_at")
    subject = case.stream_of(str(command.target))
    lines = tuple(dict.fromkeys(command.lines or ()))
    subject.check_lines(lines, "lines[{}]")
    _check_effect(case, subject, command.clause, lines, now.policy)
    return now.record(
        subject.stream,
        OverrideGranted,
        clause=command.clause,
        reason=command.reason,
        approved_by=command.approved_by,
        lines=lines,
        expires_at=command.expires_at,
        once=command.once,
    )


def _check_effect(
    case: Case, subject: Order | Return | Claim, clause: str, lines: tuple[str, ...], policy: Policy
) -> None:
    if clause in effective(case, subject, policy, lines):
        return
    left = effective(case, subject, policy)
    field = "clause"
    by = [_command_of(decision) for decision, clauses in FAILS_BY.items() if clause in clauses]
    if not policy.clause(clause).applies:
        why = f"the policy has no rule {clause}, so no decision can fail by it"
    elif not by:
        why = f"no decision can fail by {clause}, so there is nothing to set aside"
        if clause == "returns.original_tender":
            why += "; name_payout names another way to pay a payment back"
    elif clause in left:
        field = "lines"
        named = f"{plural(len(lines), 'line', 'lines')} {listed(lines)}"
        why = f"no decision on {subject.name} can fail by {clause} in {named} alone; it weighs the lines together"
    else:
        weigh = plural(len(by), "weighs", "weigh")
        why = f"only {listed(by)} {weigh} {clause}, and no such decision on {subject.name} can fail by it"
    also = f"; clauses that can be set aside for it: {', '.join(left)}" if left else ""
    raise Impossible(
        "override.no_effect", f"{why} ({subject.name} is {subject.status}){also}", field=field, state=subject.status
    )


def _command_of(decision: type[Event]) -> str:
    return decision.of_command or next(first.of_command for first in decision.follows if first.of_command)


def effective(
    case: Case, subject: Order | Return | Claim, policy: Policy, lines: Iterable[str] = ()
) -> tuple[str, ...]:
    """The clauses that a decision on the subject could still fail by, and that an override for these lines could set aside.

    Without ``lines`` the override is for all lines of the subject.
    """
    named = frozenset(lines)

    def covers(line_ids: Iterable[str]) -> bool:
        return not named or named.issuperset(line_ids)

    found = {
        clause
        for decision in _decisions_left(case, subject, policy, covers)
        for clause in decision
        if policy.clause(clause).applies
    }
    return tuple(clause for clause in CLAUSE_IDS if clause in found)


def _decisions_left(
    case: Case, subject: Order | Return | Claim, policy: Policy, covers: Covers
) -> Iterator[Iterable[str]]:
    """For each decision that is still possible, the clauses that it could fail by."""
    if isinstance(subject, Return):
        yield from _on_return(case, subject, policy, covers)
    elif isinstance(subject, Claim):
        yield _on_claim(subject, policy, covers)
    else:
        yield from _on_order(case, policy, covers)


def _on_order(case: Case, policy: Policy, covers: Covers) -> Iterator[Iterable[str]]:
    order = case.order
    if ORDER.leads_to(order.status, "Cancelled"):
        # Parcels bar a cancellation by the lines in them; it is late, or badly asked for, as a whole.
        whole = covers(order.line_ids)
        yield FAILS_BY[Cancelled] if whole else ("cancellation.not_shipped",)
    free = [line_id for line_id in order.line_ids if covers((line_id,)) and _may_come_back(case, line_id)]
    if free and order.status != "cancelled":
        never = {
            "returns.final_sale": not any(order.lines[line_id].final_sale for line_id in free),
            "returns.account": order.confirmed.customer.account_id is not None
            or not policy.clauses.returns_account.required,
        }
        yield [clause for clause in FAILS_BY[ReturnAuthorized] if not never.get(clause)]
        yield FAILS_BY[ClaimOpened]
        yield FAILS_BY[ClaimResolved]
        yield (*FAILS_BY[LabelIssued], *FAILS_BY[Inspected])
        yield _on_refund(order, free, policy)
    for ret in case.returns.values():
        yield from _on_return(case, ret, policy, covers)
    for claim in case.claims.values():
        yield _on_claim(claim, policy, covers)


def _may_come_back(case: Case, line_id: str) -> bool:
    """Whether a unit of the line is free for a return or claim, or may become so; not if it is cancelled, or paid back."""
    paid = case.order.cancelled(line_id) + sum(ret.refunded.get(line_id, 0) for ret in case.returns.values())
    paid += sum(sum(claim.held(line_id).values()) for claim in case.claims.values())
    return paid < case.order.units(line_id)


def _on_return(case: Case, ret: Return, policy: Policy, covers: Covers) -> Iterator[Iterable[str]]:
    attempts = case.refund_subject(ret.stream).attempts
    if not any(any(ret.held(line_id).values()) for line_id in ret.line_ids):
        return  # the customer has all of its units: it was declined, withdrawn or sent back
    whole = covers(ret.line_ids)
    awaited = not ret.taken_in or any(not box.taken_in for box in ret.boxes.values())
    if whole and awaited and (ret.labels or RETURN.leads_to(ret.status, "LabelIssued")):
        yield FAILS_BY[Received]
    # What was inspected can be corrected, until it is paid back or went back to the customer.
    unpaid = {line_id for line_id in ret.line_ids if ret.accepted.get(line_id, 0) > ret.refunded.get(line_id, 0)}
    unpaid |= {line_id for line_id in ret.line_ids if ret.uninspected(line_id) > 0 or ret.to_send_back(line_id) > 0}
    if any(covers((line_id,)) for line_id in unpaid):
        yield FAILS_BY[Inspected]
    settled = attempts and attempts[-1].status == "refunded"
    if whole and not settled and RETURN.leads_to(ret.status, "RefundRequested"):
        seen, on_its_way = ret.inspected_at is not None, ret.received is None and ret.inspected_at is None
        never = {
            "returns.condition": ret.anything_accepted(),
            "returns.refund_after_inspection": seen and ret.taken_in,
            "returns.transit_risk": not (ret.status == "lost" or on_its_way),
        }
        yield [clause for clause in _on_refund(case.order, ret.line_ids, policy) if not never.get(clause)]


def _on_refund(order: Order, line_ids: Iterable[str], policy: Policy) -> Iterator[str]:
    """The clauses that can keep money from the refund of a return of these lines."""
    fee = policy.clauses.returns_label_fee
    charged = order.confirmed.shipping_charged > 0
    below = any(order.lines[line_id].unit_price < policy.label_fee_minor[0] for line_id in line_ids)
    liable = below or (fee.free_only_with_free_shipping and charged)
    never = {
        "returns.label_fee": not (liable and fee.fee and order.currency == policy.currency),
        "returns.shipping_non_refundable": not (charged or order.confirmed.shipping_tax),
    }
    return (clause for clause in FAILS_BY[RefundRequested] if not never.get(clause))


def _on_claim(claim: Claim, policy: Policy, covers: Covers) -> Iterable[str]:
    missing = set(policy.clauses.wrong_item_evidence.requires) - claim.evidence
    possible = missing and covers(claim.line_ids) and CLAIM.leads_to(claim.status, "ClaimResolved")
    return FAILS_BY[ClaimResolved] if possible else ()

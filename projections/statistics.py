"""Clause statistics: how often each clause decided, passed or had nothing to say, and how much was at stake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from returnable.domain.case import Case
from returnable.domain.events import (
    CancellationDeclined,
    Cancelled,
    Fact,
    Inspected,
    RefundRequested,
    RefusalsCounted,
    Units,
)
from returnable.domain.ids import StreamId
from returnable.domain.money import to_major
from returnable.domain.policy import CLAUSE_IDS
from returnable.domain.ports import Recorded
from returnable.domain.retelling import outcome_of


class Weighed(NamedTuple):
    """One clause of one recorded decision."""

    stream: str
    version: int
    """With the stream: the fact that keeps the ruling."""
    clause: str
    verdict: str
    allowed: bool
    """Whether the command was done; a declined one has at least one clause that failed."""
    alone: bool
    """Whether the command was declined because of this clause only."""
    policy: str
    """The version of the policy that judged."""
    currency: str
    amount: int
    """What was at stake, in minor units."""
    occurred_at: datetime


def weighed(case: Case, facts: Iterable[Recorded]) -> Iterator[Weighed]:
    """The clauses of every decision among ``facts``, which are all of ``case`` or the first of them."""
    currency = case.order.currency
    for entry in facts:
        fact = entry.fact
        ruling, pins = fact.ruling, fact.pins
        if not ruling or pins is None:
            continue
        allowed = outcome_of((fact,)) == "accepted"
        at_stake = _at_stake(case, entry.stream, fact)
        failed = 0 if allowed else sum(finding.verdict == "fail" for finding in ruling)
        stream, place, version, occurred_at = entry.stream, entry.version, pins.version, fact.occurred_at
        for finding in ruling:
            clause, verdict = finding.clause, finding.verdict
            amount = at_stake
            if clause == "returns.label_fee" and isinstance(fact, RefundRequested):
                amount = sum(taken.amount for taken in fact.deductions if taken.clause == clause)
            alone = failed == 1 and verdict == "fail"
            yield Weighed(stream, place, clause, verdict, allowed, alone, version, currency, amount, occurred_at)


def _at_stake(case: Case, stream: str, fact: Fact) -> int:
    """What the customer would not have if it were declined: the price of the units, what was paid, what goes back."""
    if isinstance(fact, RefundRequested):
        return sum(tender.amount for tender in fact.tenders)
    kind, name = StreamId.parse(stream)
    if isinstance(fact, RefusalsCounted) and fact.command in ("request_return", "report_wrong_item"):
        return price_of(case, fact.request)
    if isinstance(fact, Cancelled | CancellationDeclined) or kind == "order":
        return sum(payment.amount for payment in case.order.confirmed.payments)
    units: Sequence[Any]
    if isinstance(fact, Inspected):
        units = fact.findings
    elif kind == "return":
        units = case.returns[name].lines
    else:
        claim = case.claims[name]
        units = (Units(line_id=claim.line_id, quantity=claim.quantity),)
    lines = case.order.lines
    return sum(lines[one.line_id].unit_price * one.quantity for one in units)


def price_of(case: Case, request: Mapping[str, Any]) -> int:
    """The price of the units that a request to return them, or a report of a wrong item, is about, in minor units."""
    lines = case.order.lines
    return sum(lines[one["line_id"]].unit_price * one["quantity"] for one in request.get("lines", (request,)))


@dataclass
class Tally:
    """Counts by clause, currency and verdict; only numbers are kept, however many decisions are added."""

    counts: dict[tuple[str, str, str], tuple[int, int]] = field(default_factory=dict)
    """Clause, currency and verdict (or ``alone``) → decisions and minor units."""

    def add(self, clause: str, currency: str, verdict: str, decisions: int, amount: int) -> None:
        """Count some decisions."""
        key = clause, currency, verdict
        before = self.counts.get(key, (0, 0))
        self.counts[key] = before[0] + decisions, before[1] + amount

    def add_weighed(self, one: Weighed) -> None:
        """Count a clause of a decision."""
        self.add(one.clause, one.currency, one.verdict, 1, one.amount)
        if one.alone:
            self.add(one.clause, one.currency, "alone", 1, one.amount)

    def values(self) -> Iterator[dict[str, Any]]:
        """The public form, in the order of the policy's clauses."""
        groups = sorted({(clause, currency) for clause, currency, _ in self.counts}, key=_place)
        for clause, currency in groups:
            yield {
                "clause": clause,
                "currency": currency,
                **{name: self._count(clause, currency, verdict) for name, verdict in _NAMES.items()},
            }

    def _count(self, clause: str, currency: str, verdict: str) -> dict[str, Any]:
        decisions, amount = self.counts.get((clause, currency, verdict), (0, 0))
        return {"decisions": decisions, "amount": to_major(amount, currency)}


_NAMES: Mapping[str, str] = {
    "failed": "fail",
    "alone": "alone",
    "overridden": "overridden",
    "passed": "pass",
    "not_applicable": "not_applicable",
}


def _place(group: tuple[str, str]) -> tuple[int, str, str]:
    clause, currency = group
    known = CLAUSE_IDS.index(clause) if clause in CLAUSE_IDS else len(CLAUSE_IDS)
    return known, clause, currency

"""Clause statistics: how often each clause failed, passed or did not apply, and how much was at stake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from returnable.domain.case import Case
from returnable.domain.money import to_major
from returnable.domain.policy import CLAUSE_IDS
from returnable.domain.ports import Recorded
from returnable.domain.recorded_commands import outcome_of
from returnable.projections.stakes import at_stake, at_stake_of


class Weighed(NamedTuple):
    """One clause of one recorded decision."""

    stream: str
    version: int
    """The place in the stream of the event that holds the ruling."""
    clause: str
    verdict: str
    allowed: bool
    """Whether the command was accepted; a declined one has at least one clause that failed."""
    alone: bool
    """Whether the command was declined because of this clause only."""
    policy: str
    """The version of the policy."""
    currency: str
    amount: int
    """The amount at stake, in minor units."""
    occurred_at: datetime


def weighed(case: Case, events: Iterable[Recorded]) -> Iterator[Weighed]:
    """The clauses of every decision among ``events``: all events of ``case``, or those that count as of some instant."""
    currency = case.currency
    for entry in events:
        event = entry.event
        ruling, pins = event.ruling, event.pins
        if not ruling or pins is None:
            continue
        allowed = outcome_of((event,)) == "accepted"
        decision = at_stake(case, entry.stream, event)
        failed = 0 if allowed else sum(result.verdict == "fail" for result in ruling)
        stream, place, version, occurred_at = entry.stream, entry.version, pins.version, event.occurred_at
        for result in ruling:
            clause, verdict = result.clause, result.verdict
            amount = at_stake_of(result, currency, decision)
            alone = failed == 1 and verdict == "fail"
            yield Weighed(stream, place, clause, verdict, allowed, alone, version, currency, amount, occurred_at)


@dataclass
class Tally:
    """Counts by clause, currency and verdict. Only numbers are kept, however many decisions are added."""

    counts: dict[tuple[str, str, str], tuple[int, int]] = field(default_factory=dict)
    """Clause, currency and verdict (or ``alone``) → decisions and minor units."""

    def add(self, clause: str, currency: str, verdict: str, decisions: int, amount: int) -> None:
        """Add a number of decisions, and their amount at stake in minor units."""
        key = clause, currency, verdict
        before = self.counts.get(key, (0, 0))
        self.counts[key] = before[0] + decisions, before[1] + amount

    def add_weighed(self, one: Weighed) -> None:
        """Add one decision for its clause."""
        self.add(one.clause, one.currency, one.verdict, 1, one.amount)
        if one.alone:
            self.add(one.clause, one.currency, "alone", 1, one.amount)

    def values(self) -> Iterator[dict[str, Any]]:
        """JSON values for each clause and currency, in the order of the policy's clauses. Amounts are decimal strings."""
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

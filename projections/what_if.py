"""What if another policy had been in force: history is told again under a candidate, and nothing is appended.

Every command on record is decided again, case by case, in a world in which the candidate judged from the start: windows
end where the candidate says, and what it refuses does not happen, so that later commands on it are *no longer possible*.
What the candidate would grant and the recorded policy refused has no further history; its amount is what was at stake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from returnable.domain.calendar import zone
from returnable.domain.case import Case, evolve, unknown
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.decisions import decide
from returnable.domain.errors import CalendarExhausted, Impossible
from returnable.domain.events import Event, Inspected, RefundRequested
from returnable.domain.fields import Model
from returnable.domain.money import to_major
from returnable.domain.outcome import in_zone
from returnable.domain.policy import CLAUSE_IDS, Clauses, Policy, PolicyBook, PolicyOf
from returnable.domain.ports import EventStore, Recorded
from returnable.domain.reasons import because
from returnable.domain.recorded_commands import RecordedCommand, recorded_commands
from returnable.domain.ruling import ClauseResult
from returnable.projections.damage import CORRUPTION_ERRORS, describe
from returnable.projections.stakes import at_stake
from returnable.projections.subjects import Subject, every_case
from returnable.projections.views import PolicyVersion

CandidateOutcome = Literal["accepted", "declined", "not_possible"]


class Amount(Model):
    """A sum of money in one currency, as a decimal string."""

    currency: str
    amount: str


class ClauseFlips(Model):
    """How the candidate judges a clause otherwise than the policy on record, where both found things in the same state.

    ``refuses``: passed on record, fails under the candidate; ``allows``: the other way round. The amounts are what was at
    stake in these decisions: the money that would have moved differently.
    """

    clause: str
    refuses: int
    refuses_amounts: tuple[Amount, ...]
    allows: int
    allows_amounts: tuple[Amount, ...]


class CommandFlips(Model):
    """What commands of one kind came to on record, and under the candidate."""

    command: str
    same: int
    accepted_to_declined: int
    accepted_to_declined_amounts: tuple[Amount, ...]
    declined_to_accepted: int
    declined_to_accepted_amounts: tuple[Amount, ...]
    no_longer_possible: int
    """What the command was about does not come to be under the candidate, or is in another state."""
    consequences: int
    """How many of the changed ones follow from an earlier flip of the same order, return or claim."""


class Refunds(Model):
    """Refunds requested in one currency. ``difference`` is candidate less recorded, with its sign."""

    currency: str
    recorded: int
    recorded_amount: str
    candidate: int
    candidate_amount: str
    difference: str
    amount_changed: int
    """Refunds requested on record and under the candidate, of another amount."""


class VerdictChange(Model):
    """A clause judged otherwise, and why the candidate judges it so."""

    clause: str
    recorded: str | None
    candidate: str | None
    because: str


class Flip(Model):
    """One decision that the candidate decides otherwise."""

    event: str
    order_id: str
    command: str
    at: str
    recorded: Literal["accepted", "declined"]
    candidate: CandidateOutcome
    consequence: bool
    """Whether it follows from an earlier flip: under the candidate the subject was in another state already."""
    clauses: tuple[VerdictChange, ...]
    currency: str
    amount: str
    """What was at stake; for a refund, the one on record."""
    candidate_amount: str | None
    """Of a refund: what the candidate would have paid."""


class WhatIf(Model):
    """History under a candidate policy, beside what is on record."""

    candidates: tuple[PolicyVersion, ...]
    kept: tuple[str, ...]
    """Clauses that were left as they were pinned."""
    cases: int
    decisions: int
    """How many commands on record were judged by a policy."""
    flipped: int
    """Decisions with another outcome, or no longer possible."""
    clauses: tuple[ClauseFlips, ...]
    commands: tuple[CommandFlips, ...]
    refunds: tuple[Refunds, ...]
    unreadable: tuple[str, ...]
    """Cases that could not be told again, or only in part, and why."""


def candidates_of(book: PolicyBook) -> Callable[[datetime], Policy]:
    """Which version of the candidate judges an order confirmed then: a single one judges all orders, whenever it takes
    effect; of several, the one in force."""
    if len(book.versions) == 1:
        return lambda confirmed_at: book.versions[0]
    return book.in_force


def keep_clauses(candidate: Policy, pinned: Policy, kept: Sequence[str]) -> Policy:
    """The candidate with some clauses as the pinned policy has them."""
    if not kept:
        return candidate
    changes = {clause: pinned.clause(clause) for clause in kept}
    clauses = {clause: changes.get(clause) or candidate.clause(clause) for clause in CLAUSE_IDS}
    return candidate.model_copy(update={"clauses": Clauses.model_validate(clauses)})


@dataclass(frozen=True, slots=True)
class _Compared:
    """A command on record beside what the candidate makes of it."""

    past: RecordedCommand
    candidate: CandidateOutcome
    events: tuple[Event, ...]
    ruling: tuple[ClauseResult, ...]
    at_stake: int
    consequence: bool

    @property
    def changes(self) -> list[tuple[str, str | None, str | None]]:
        """Clauses with the verdict on record and the candidate's, where one of them fails and the other does not."""
        recorded = {finding.clause: finding.verdict for finding in self.past.ruling or ()}
        came = {finding.clause: finding.verdict for finding in self.ruling}
        if self.candidate == "not_possible":
            return []
        return [
            (clause, recorded.get(clause), came.get(clause))
            for clause in CLAUSE_IDS
            if (recorded.get(clause) == "fail") != (came.get(clause) == "fail")
        ]

    @property
    def flipped(self) -> bool:
        """Whether the outcome is another one."""
        return self.candidate != self.past.outcome


@dataclass
class DryRun:
    """Tells cases again under a candidate and adds up what would have been otherwise.

    ``candidate`` says which policy judges an order confirmed at an instant, ``pinned`` finds a pinned policy by its hash,
    ``kept`` are clauses to leave as they were pinned.
    """

    candidate: Callable[[datetime], Policy]
    pinned: PolicyOf
    kept: tuple[str, ...] = ()
    _versions: dict[str, PolicyVersion] = field(default_factory=dict)
    _policies: dict[tuple[str, str], Policy] = field(default_factory=dict)
    _clauses: dict[tuple[str, str], dict[str, list[int]]] = field(default_factory=dict)
    _commands: dict[str, _CommandCount] = field(default_factory=dict)
    _refunds: dict[str, _RefundCount] = field(default_factory=dict)
    _cases: int = 0
    _decisions: int = 0
    _flipped: int = 0
    _unreadable: list[str] = field(default_factory=list)

    def add(self, case_id: str, events: Sequence[Recorded], stream: str | None = None) -> tuple[Flip, ...]:
        """Tell a case again; what the candidate decides otherwise in it, or only in one of its streams."""
        flips: list[Flip] = []
        self._cases += 1
        case, real = Case(case_id), Case(case_id)
        policy: Policy | None = None
        try:
            for past in recorded_commands(events):
                if policy is None:
                    policy = self._policy_for(past)
                before, real = real, evolve(real, past.entries)
                compared, case = _compare(case, before, real, past, policy)
                if stream is None or any(entry.stream == stream for entry in past.entries):
                    flip = self._count(compared, real.order.currency, policy)
                    if flip is not None:
                        flips.append(flip)
        except CORRUPTION_ERRORS as error:
            self._unreadable.append(f"{case_id}: {describe(error)}")
        return tuple(flips)

    def run(self, store: EventStore, subject: Subject | None = None) -> Iterator[tuple[str, tuple[Flip, ...]]]:
        """Tell the cases of a store again, one at a time: each id, and what is decided otherwise in it.

        With a ``subject`` its case only; of a return or a claim only its own decisions are counted.
        """
        stream = None if subject is None or subject.kind == "order" else subject.stream
        for case_id in every_case(store) if subject is None else (subject.case_id,):
            events, damage = store.load_until_damage(case_id)
            if damage is not None:
                self._unreadable.append(f"{damage.event_id}: {damage.reason}")
            yield case_id, self.add(case_id, events, stream)

    def _policy_for(self, past: RecordedCommand) -> Policy:
        confirmed: Any = past.entries[0].event
        candidate = self.candidate(confirmed.occurred_at)
        self._versions[candidate.sha256] = PolicyVersion(id=candidate.id, version=candidate.version)
        key = (candidate.sha256, confirmed.pins.sha256)
        if key not in self._policies:
            self._policies[key] = keep_clauses(candidate, self.pinned(confirmed.pins.sha256), self.kept)
        return self._policies[key]

    def _count(self, compared: _Compared, currency: str, policy: Policy) -> Flip | None:
        past = compared.past
        command = past.fields["command"]
        recorded, came = _refund_of(entry.event for entry in past.entries), _refund_of(compared.events)
        if recorded is not None or came is not None:
            counted = self._refunds.setdefault(currency, _RefundCount())
            counted.add(recorded, came)
        if past.ruling is None:
            return None
        self._decisions += 1
        of_command = self._commands.setdefault(command, _CommandCount())
        of_command.add(compared, currency)
        self._flipped += compared.flipped
        for clause, verdict, _ in () if compared.consequence else compared.changes:
            way = "allows" if verdict == "fail" else "refuses"
            amounts = self._clauses.setdefault((clause, way), {}).setdefault(currency, [0, 0])
            amounts[0] += 1
            amounts[1] += compared.at_stake
        if not compared.flipped and not compared.changes and recorded == came:
            return None
        return _flip(compared, currency, policy, came)

    def result(self) -> WhatIf:
        """What was added up so far."""
        return WhatIf(
            candidates=tuple(self._versions.values()),
            kept=self.kept,
            cases=self._cases,
            decisions=self._decisions,
            flipped=self._flipped,
            clauses=tuple(
                self._of_clause(clause)
                for clause in CLAUSE_IDS
                if (clause, "allows") in self._clauses or (clause, "refuses") in self._clauses
            ),
            commands=tuple(count.view(command) for command, count in sorted(self._commands.items())),
            refunds=tuple(count.view(currency) for currency, count in sorted(self._refunds.items())),
            unreadable=tuple(self._unreadable),
        )

    def _of_clause(self, clause: str) -> ClauseFlips:
        refuses = self._clauses.get((clause, "refuses"), {})
        allows = self._clauses.get((clause, "allows"), {})
        return ClauseFlips(
            clause=clause,
            refuses=sum(count for count, _ in refuses.values()),
            refuses_amounts=_amounts({currency: amount for currency, (_, amount) in refuses.items()}),
            allows=sum(count for count, _ in allows.values()),
            allows_amounts=_amounts({currency: amount for currency, (_, amount) in allows.items()}),
        )


@dataclass
class _CommandCount:
    same: int = 0
    refused: int = 0
    allowed: int = 0
    impossible: int = 0
    consequences: int = 0
    refused_amounts: dict[str, int] = field(default_factory=dict)
    allowed_amounts: dict[str, int] = field(default_factory=dict)

    def add(self, compared: _Compared, currency: str) -> None:
        self.consequences += compared.flipped and compared.consequence
        if not compared.flipped:
            self.same += 1
        elif compared.candidate == "not_possible":
            self.impossible += 1
        elif compared.candidate == "declined":
            self.refused += 1
            self.refused_amounts[currency] = self.refused_amounts.get(currency, 0) + compared.at_stake
        else:
            self.allowed += 1
            self.allowed_amounts[currency] = self.allowed_amounts.get(currency, 0) + compared.at_stake

    def view(self, command: str) -> CommandFlips:
        return CommandFlips(
            command=command,
            same=self.same,
            accepted_to_declined=self.refused,
            accepted_to_declined_amounts=_amounts(self.refused_amounts),
            declined_to_accepted=self.allowed,
            declined_to_accepted_amounts=_amounts(self.allowed_amounts),
            no_longer_possible=self.impossible,
            consequences=self.consequences,
        )


@dataclass
class _RefundCount:
    recorded: int = 0
    recorded_amount: int = 0
    candidate: int = 0
    candidate_amount: int = 0
    changed: int = 0

    def add(self, recorded: int | None, came: int | None) -> None:
        if recorded is not None:
            self.recorded += 1
            self.recorded_amount += recorded
        if came is not None:
            self.candidate += 1
            self.candidate_amount += came
        self.changed += recorded is not None and came is not None and recorded != came

    def view(self, currency: str) -> Refunds:
        difference = self.candidate_amount - self.recorded_amount
        return Refunds(
            currency=currency,
            recorded=self.recorded,
            recorded_amount=to_major(self.recorded_amount, currency),
            candidate=self.candidate,
            candidate_amount=to_major(self.candidate_amount, currency),
            difference=f"{'-' if difference < 0 else ''}{to_major(abs(difference), currency)}",
            amount_changed=self.changed,
        )


def _amounts(sums: Mapping[str, int]) -> tuple[Amount, ...]:
    return tuple(
        Amount(currency=currency, amount=to_major(amount, currency)) for currency, amount in sorted(sums.items())
    )


def _compare(case: Case, before: Case, real: Case, past: RecordedCommand, policy: Policy) -> tuple[_Compared, Case]:
    """``case`` is how things stand under the candidate, and is given back as the command leaves it.

    ``before`` and ``real`` are how they stood before the command and after it.
    """
    first = past.entries[0]
    consequence = case.status_of(first.stream) != before.status_of(first.stream)
    events: tuple[Event, ...] = ()
    ruling: tuple[ClauseResult, ...] = ()
    outcome: CandidateOutcome = "not_possible"
    try:
        command = past.command
        target = command.target
        if target is not None and target.kind != "order" and not case.knows(target.kind, target.id):
            raise unknown(target.kind, target.id)
        now = DecisionContext(past.at, policy, first.event.actor, first.event.command_id)
        decided = decide(case, command, now)
    except (Impossible, CalendarExhausted):
        pass
    else:
        events = tuple(event for _, event in decided.events)
        outcome, ruling = decided.outcome, decided.ruling or ()
        case = evolve(case, _placed(case, decided))
    inspected = next((event for event in events if isinstance(event, Inspected)), None)
    decision = past.decided
    amount = at_stake(real, decision.stream, decision.event, inspected) if decision.event.ruling else 0
    return _Compared(past, outcome, events, ruling, amount, consequence), case


def _placed(case: Case, decided: DecisionResult) -> list[Recorded]:
    versions: dict[str, int] = {}
    placed: list[Recorded] = []
    for stream, event in decided.events:
        if stream not in versions:
            versions[stream] = case.stream_of(stream).version if case.status_of(stream) is not None else 0
        versions[stream] += 1
        placed.append(Recorded(0, case.case_id, case.seq + len(placed) + 1, stream, versions[stream], event))
    return placed


def _refund_of(events: Iterable[Event]) -> int | None:
    for event in events:
        if isinstance(event, RefundRequested):
            return sum(tender.amount for tender in event.tenders)
    return None


def _flip(compared: _Compared, currency: str, policy: Policy, refund: int | None) -> Flip:
    past = compared.past
    entry = past.decided
    tz = zone(policy.zone)
    findings = {finding.clause: finding for finding in compared.ruling}
    on_record = {finding.clause: finding for finding in past.ruling or ()}
    return Flip(
        event=entry.event_id,
        order_id=entry.case_id,
        command=past.fields["command"],
        at=in_zone(past.at, tz),
        recorded=past.outcome,
        candidate=compared.candidate,
        consequence=compared.consequence,
        clauses=tuple(
            VerdictChange(
                clause=clause,
                recorded=recorded,
                candidate=came,
                because=because(findings.get(clause) or on_record[clause], tz),
            )
            for clause, recorded, came in compared.changes
        ),
        currency=currency,
        amount=to_major(compared.at_stake, currency),
        candidate_amount=None if refund is None else to_major(refund, currency),
    )

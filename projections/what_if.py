"""What if another policy had been in force: recorded commands are decided under a candidate, and nothing is appended.

Every recorded command is decided again, case by case, as if the candidate had judged from the start. Windows end when the
candidate says. A command that it refuses has no effect, so that later commands that build on it are *no longer possible*.
A command that the recorded policy refused and the candidate grants has no further history; its amount was at stake.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from returnable.domain.calendar import zone
from returnable.domain.case import Case, evolve, unknown
from returnable.domain.deciding import DecisionContext, DecisionResult
from returnable.domain.decisions import decide
from returnable.domain.errors import CalendarExhausted, Impossible
from returnable.domain.events import ArrivalRecorded, Event, RefundRequested
from returnable.domain.fields import Model
from returnable.domain.money import to_major
from returnable.domain.outcome import in_zone
from returnable.domain.policy import CLAUSE_IDS, Clauses, Policy, PolicyBook, PolicyOf
from returnable.domain.ports import EventStore, Recorded
from returnable.domain.reasons import because
from returnable.domain.recorded_commands import RecordedCommand, recorded_commands
from returnable.domain.ruling import ClauseResult
from returnable.projections.damage import CORRUPTION_ERRORS, describe
from returnable.projections.stakes import Judged, at_stake
from returnable.projections.subjects import Subject, every_case
from returnable.projections.views import PolicyVersion

CandidateOutcome = Literal["accepted", "declined", "not_possible"]


class Amount(Model):
    """A sum of money in one currency, as a decimal string."""

    currency: str
    amount: str


class ClauseFlips(Model):
    """How often the candidate judges a clause otherwise than the recorded policy, when both judged the same state.

    ``refuses``: passed as recorded, fails under the candidate; ``allows``: the other way round. The amounts were at stake
    in these decisions: the money that would have moved differently.
    """

    clause: str
    refuses: int
    refuses_amounts: tuple[Amount, ...]
    allows: int
    allows_amounts: tuple[Amount, ...]


class CommandFlips(Model):
    """The outcomes of commands of one kind, as recorded and under the candidate."""

    command: str
    same: int
    accepted_to_declined: int
    accepted_to_declined_amounts: tuple[Amount, ...]
    declined_to_accepted: int
    declined_to_accepted_amounts: tuple[Amount, ...]
    no_longer_possible: int
    """Under the candidate the subject of the command does not exist, or is in another state."""
    consequences: int
    """How many of the changed decisions follow from an earlier flip of the same order, return or claim."""


class Refunds(Model):
    """Refunds requested in one currency. ``difference`` is candidate less recorded, with its sign."""

    currency: str
    recorded: int
    recorded_amount: str
    candidate: int
    candidate_amount: str
    difference: str
    amount_changed: int
    """Refunds requested in both, with different amounts."""


class VerdictChange(Model):
    """A clause judged otherwise, and the reason of the candidate."""

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
    """Whether it follows from an earlier flip: the subject was already in another state under the candidate."""
    clauses: tuple[VerdictChange, ...]
    currency: str
    amount: str
    """The amount at stake; for a refund, the recorded amount."""
    candidate_amount: str | None
    """For a refund: the amount that the candidate would have paid."""


class WhatIf(Model):
    """Recorded decisions compared with those of a candidate policy."""

    candidates: tuple[PolicyVersion, ...]
    kept: tuple[str, ...]
    """Clauses that stayed as they were pinned."""
    cases: int
    decisions: int
    """How many recorded commands a policy judged."""
    flipped: int
    """Decisions with another outcome, or no longer possible."""
    clauses: tuple[ClauseFlips, ...]
    commands: tuple[CommandFlips, ...]
    refunds: tuple[Refunds, ...]
    unreadable: tuple[str, ...]
    """Cases that could not be decided again, or only in part, and why."""


def candidates_of(book: PolicyBook) -> Callable[[datetime], Policy]:
    """The version of the candidate that judges an order confirmed at an instant: of several, the one in force then.

    A single version judges all orders, whenever it takes effect.
    """
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
    """A recorded command and the decision of the candidate."""

    command: RecordedCommand
    candidate: CandidateOutcome
    events: tuple[Event, ...]
    ruling: tuple[ClauseResult, ...]
    at_stake: int
    consequence: bool

    @property
    def changes(self) -> list[tuple[str, str | None, str | None]]:
        """Clauses that fail in one ruling and not in the other, each with the recorded verdict and the candidate's."""
        if self.candidate == "not_possible":
            return []
        recorded, new = (
            {result.clause: result.verdict for result in ruling} for ruling in (self.command.ruling or (), self.ruling)
        )
        return [
            (clause, recorded.get(clause), new.get(clause))
            for clause in CLAUSE_IDS
            if (recorded.get(clause) == "fail") != (new.get(clause) == "fail")
        ]

    @property
    def flipped(self) -> bool:
        """Whether the candidate comes to another outcome."""
        return self.candidate != self.command.outcome


@dataclass
class _Counts:
    """Numbers of decisions and the amounts at stake in them: of a clause or a command, by what became of them."""

    decisions: Counter[tuple[str, str]] = field(default_factory=Counter)
    sums: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def add(self, of: str, result: str, currency: str, amount: int) -> None:
        """Count a decision."""
        self.decisions[of, result] += 1
        self.sums[of, result, currency] += amount

    def amounts(self, of: str, result: str) -> tuple[Amount, ...]:
        """The amounts by currency."""
        found = sorted((key[2], amount) for key, amount in self.sums.items() if key[:2] == (of, result))
        return tuple(Amount(currency=currency, amount=to_major(amount, currency)) for currency, amount in found)


@dataclass
class DryRun:
    """Decides cases again under a candidate and adds up the differences.

    ``candidate`` gives the policy that judges an order confirmed at an instant, ``pinned`` finds a pinned policy by its
    hash, and the clauses ``kept`` stay as they were pinned.
    """

    candidate: Callable[[datetime], Policy]
    pinned: PolicyOf
    kept: tuple[str, ...] = ()
    _versions: dict[str, PolicyVersion] = field(default_factory=dict)
    _policies: dict[tuple[str, str], Policy] = field(default_factory=dict)
    _clauses: _Counts = field(default_factory=_Counts)
    _commands: _Counts = field(default_factory=_Counts)
    _refunds: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _cases: int = 0
    _decisions: int = 0
    _flipped: int = 0
    _unreadable: list[str] = field(default_factory=list)

    def add(self, case_id: str, events: Sequence[Recorded], stream: str | None = None) -> tuple[Flip, ...]:
        """Decide a case again; returns the decisions that differ in it, or only those in one of its streams."""
        flips: list[Flip] = []
        if events and isinstance(events[0].event, ArrivalRecorded):
            return ()  # no policy judges what nobody announced
        self._cases += 1
        case, real = Case(case_id), Case(case_id)
        policy: Policy | None = None
        try:
            for command in recorded_commands(events):
                if policy is None:
                    policy = self._policy_for(command)
                before, real = real, evolve(real, command.entries)
                compared, case = _compare(case, before, real, command, policy)
                if stream is None or any(entry.stream == stream for entry in command.entries):
                    flip = self._count(compared, real.currency, policy)
                    if flip is not None:
                        flips.append(flip)
        except CORRUPTION_ERRORS as error:
            self._unreadable.append(f"{case_id}: {describe(error)}")
        return tuple(flips)

    def run(self, store: EventStore, subject: Subject | None = None) -> Iterator[tuple[str, tuple[Flip, ...]]]:
        """Decide the cases of a store again, one at a time: each id with the decisions that differ.

        With a ``subject`` only its case is decided; of a return or a claim only its own decisions are counted.
        """
        stream = None if subject is None or subject.kind == "order" else subject.stream
        for case_id in every_case(store) if subject is None else (subject.case_id,):
            events, damage = store.load_until_damage(case_id)
            if damage is not None:
                self._unreadable.append(f"{damage.event_id}: {damage.reason}")
            yield case_id, self.add(case_id, events, stream)

    def _policy_for(self, command: RecordedCommand) -> Policy:
        confirmed: Any = command.entries[0].event
        candidate = self.candidate(confirmed.occurred_at)
        self._versions[candidate.sha256] = PolicyVersion(id=candidate.id, version=candidate.version)
        key = (candidate.sha256, confirmed.pins.sha256)
        if key not in self._policies:
            self._policies[key] = keep_clauses(candidate, self.pinned(confirmed.pins.sha256), self.kept)
        return self._policies[key]

    def _count(self, compared: _Compared, currency: str, policy: Policy) -> Flip | None:
        command = compared.command
        recorded, new = _refund_of(entry.event for entry in command.entries), _refund_of(compared.events)
        for name, amount in (("recorded", recorded), ("candidate", new)):
            if amount is not None:
                self._refunds[currency].update({name: 1, f"{name}_amount": amount})
        if recorded is not None and new is not None:
            self._refunds[currency]["changed"] += recorded != new
        if command.ruling is None:
            return None
        self._decisions += 1
        self._flipped += compared.flipped
        name, stake = command.fields["command"], compared.at_stake
        self._commands.add(name, compared.candidate if compared.flipped else "same", currency, stake)
        if compared.flipped and compared.consequence:
            self._commands.add(name, "consequence", currency, stake)
        for clause, verdict, _ in () if compared.consequence else compared.changes:
            self._clauses.add(clause, "allows" if verdict == "fail" else "refuses", currency, stake)
        if not compared.flipped and not compared.changes and recorded == new:
            return None
        return _flip(compared, currency, policy, new)

    def result(self) -> WhatIf:
        """The sums so far."""
        changed = {clause for clause, _ in self._clauses.decisions}
        return WhatIf(
            candidates=tuple(self._versions.values()),
            kept=self.kept,
            cases=self._cases,
            decisions=self._decisions,
            flipped=self._flipped,
            clauses=tuple(self._of_clause(clause) for clause in CLAUSE_IDS if clause in changed),
            commands=tuple(map(self._of_command, sorted({command for command, _ in self._commands.decisions}))),
            refunds=tuple(_refunds(currency, counts) for currency, counts in sorted(self._refunds.items())),
            unreadable=tuple(self._unreadable),
        )

    def _of_clause(self, clause: str) -> ClauseFlips:
        counts = self._clauses
        return ClauseFlips(
            clause=clause,
            refuses=counts.decisions[clause, "refuses"],
            refuses_amounts=counts.amounts(clause, "refuses"),
            allows=counts.decisions[clause, "allows"],
            allows_amounts=counts.amounts(clause, "allows"),
        )

    def _of_command(self, command: str) -> CommandFlips:
        counts = self._commands
        return CommandFlips(
            command=command,
            same=counts.decisions[command, "same"],
            accepted_to_declined=counts.decisions[command, "declined"],
            accepted_to_declined_amounts=counts.amounts(command, "declined"),
            declined_to_accepted=counts.decisions[command, "accepted"],
            declined_to_accepted_amounts=counts.amounts(command, "accepted"),
            no_longer_possible=counts.decisions[command, "not_possible"],
            consequences=counts.decisions[command, "consequence"],
        )


def _refunds(currency: str, counts: Counter[str]) -> Refunds:
    difference = counts["candidate_amount"] - counts["recorded_amount"]
    return Refunds(
        currency=currency,
        recorded=counts["recorded"],
        recorded_amount=to_major(counts["recorded_amount"], currency),
        candidate=counts["candidate"],
        candidate_amount=to_major(counts["candidate_amount"], currency),
        difference=f"{'-' if difference < 0 else ''}{to_major(abs(difference), currency)}",
        amount_changed=counts["changed"],
    )


def _compare(case: Case, before: Case, real: Case, command: RecordedCommand, policy: Policy) -> tuple[_Compared, Case]:
    """Decide a command in ``case``, the state under the candidate; returns that state as the command leaves it, too.

    ``before`` and ``real`` are the recorded states before and after the command.
    """
    first = command.entries[0]
    consequence = case.status_of(first.stream) != before.status_of(first.stream)
    events: tuple[Event, ...] = ()
    ruling: tuple[ClauseResult, ...] = ()
    outcome: CandidateOutcome = "not_possible"
    try:
        again = command.command
        target = again.target
        if target is not None and target.kind != "order" and not case.knows(target.kind, target.id):
            raise unknown(target.kind, target.id)
        decided = decide(case, again, DecisionContext(command.at, policy, first.event.actor, first.event.command_id))
    except (Impossible, CalendarExhausted):
        pass
    else:
        events = tuple(event for _, event in decided.events)
        outcome, ruling = decided.outcome, decided.ruling or ()
        case = evolve(case, _placed(case, decided))
    inspected = next((event for event in events if isinstance(event, Judged)), None)
    decision = command.decided
    amount = at_stake(real, decision.stream, decision.event, inspected) if decision.event.ruling else 0
    return _Compared(command, outcome, events, ruling, amount, consequence), case


def _placed(case: Case, decided: DecisionResult) -> Iterator[Recorded]:
    versions: dict[str, int] = {}
    for case_seq, (stream, event) in enumerate(decided.events, start=case.seq + 1):
        versions[stream] = versions.get(stream, case.version_of(stream)) + 1
        yield Recorded(0, case.case_id, case_seq, stream, versions[stream], event)


def _refund_of(events: Iterable[Event]) -> int | None:
    for event in events:
        if isinstance(event, RefundRequested):
            return sum(tender.amount for tender in event.tenders)
    return None


def _flip(compared: _Compared, currency: str, policy: Policy, refund: int | None) -> Flip:
    command = compared.command
    entry = command.decided
    tz = zone(policy.zone)
    new = {result.clause: result for result in compared.ruling}
    recorded = {result.clause: result for result in command.ruling or ()}
    return Flip(
        event=entry.event_id,
        order_id=entry.case_id,
        command=command.fields["command"],
        at=in_zone(command.at, tz),
        recorded=command.outcome,
        candidate=compared.candidate,
        consequence=compared.consequence,
        clauses=tuple(
            VerdictChange(
                clause=clause,
                recorded=before,
                candidate=after,
                because=because(new.get(clause) or recorded[clause], tz),
            )
            for clause, before, after in compared.changes
        ),
        currency=currency,
        amount=to_major(compared.at_stake, currency),
        candidate_amount=None if refund is None else to_major(refund, currency),
    )

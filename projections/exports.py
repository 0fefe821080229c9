"""The rows of an export: facts, or the clauses that were weighed, in columns whose order never changes.

A new column is only ever added at the end. Instants are UTC, money is a decimal string of its currency.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

from returnable.domain.errors import HistoryBroken, short
from returnable.domain.events import Confirmed, Event, RefundFailed, RefundRequested, RefundSettled
from returnable.domain.money import to_major
from returnable.domain.outcome import ClauseView, clause_views
from returnable.domain.policy import PolicyOf
from returnable.domain.ports import EventStore, Recorded
from returnable.domain.recorded_commands import RecordedCommand, recorded_commands
from returnable.domain.ruling import ClauseResult
from returnable.projections.audit import details
from returnable.projections.redaction import Redaction
from returnable.projections.subjects import Subject, every_case

Kind = Literal["int", "text", "texts", "time", "money", "seconds", "json"]
"""What a column holds: ``texts`` is a list of ids, ``seconds`` may have a fraction, ``json`` is a structure."""

Row: TypeAlias = dict[str, Any]
"""Column → value, in the order of the columns; ``None`` where there is none."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an export."""

    name: str
    kind: Kind
    meaning: str


_PLACE = (
    Column("position", "int", "place in the whole log; increases, with gaps allowed"),
    Column("case_id", "text", "the order that the case is named for"),
    Column("case_seq", "int", "place in the case, from 1 on without gaps"),
    Column("stream", "text", "order/ID, return/ID or claim/ID"),
    Column("version", "int", "place in the stream, from 1 on without gaps"),
    Column("type", "text", "the type of the fact"),
    Column("occurred_at", "time", "when it happened in the world"),
    Column("recorded_at", "time", "when it was recorded"),
    Column("actor_role", "text", "in which role somebody told it"),
    Column("actor_id", "text", "who told it"),
    Column("command_id", "text", "the caller's key of the command it came of"),
    Column("policy", "text", "the policy it pins, where it pins one"),
    Column("policy_version", "text", "the version of that policy"),
    Column("policy_sha256", "text", "the hash of that policy"),
    Column("tzdata", "text", "the release of the time zone database it pins"),
    Column("outcome", "text", "accepted or declined: what the command it came of came to"),
)

FACT_COLUMNS: tuple[Column, ...] = (
    *_PLACE,
    Column("failed", "texts", "clauses of its ruling that failed"),
    Column("overridden", "texts", "clauses of its ruling that failed and were set aside by an override"),
    Column("currency", "text", "the currency of amount"),
    Column("amount", "money", "captured (Confirmed), to be refunded (RefundRequested), the tender (RefundSettled, …)"),
    Column("content", "json", "the other fields of the fact; money as decimals"),
)
"""One row for each fact. In JSON Lines a last key ``ruling`` holds every clause with its quote and its reason."""

CLAUSE_COLUMNS: tuple[Column, ...] = (
    *_PLACE,
    Column("nth", "int", "place of the clause in its ruling, from 1 on"),
    Column("clause", "text", "the id of the clause"),
    Column("verdict", "text", "pass, fail, not_applicable or overridden"),
    Column(
        "deadline", "time", "the instant it turned on, where there is one: the earliest, where lines have their own"
    ),
    Column("margin_seconds", "seconds", "seconds that were left until then; negative: so much too late"),
    Column("because", "text", "the reason in plain English"),
    Column("currency", "text", "the currency of amount"),
    Column("amount", "money", "what the refund of this ruling comes to (RefundRequested)"),
    Column("facts", "json", "what the verdict rests on"),
)
"""One row for each clause that was weighed. In JSON Lines a last key ``quote`` holds the merchant's words."""


# ---- what is exported ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """Which facts are taken: of these subjects (none: of all), recorded at ``since`` or later and before ``until``."""

    subjects: tuple[Subject, ...] = ()
    since: datetime | None = None
    until: datetime | None = None

    @property
    def case_ids(self) -> list[str]:
        """The cases of the subjects, each once."""
        return list(dict.fromkeys(subject.case_id for subject in self.subjects))

    def in_period(self, entry: Recorded) -> bool:
        """Whether the fact was recorded in the period."""
        at = entry.event.recorded_at
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    def takes(self, entry: Recorded) -> bool:
        """Whether a table has that fact. Of an order it has the whole case, of a return or claim its stream."""
        return self.in_period(entry) and (not self.subjects or any(one.concerns(entry) for one in self.subjects))


class History:
    """The facts of a store up to one position, redacted where asked for; never more than a page in memory."""

    def __init__(self, store: EventStore, redaction: Redaction | None = None) -> None:
        self.store = store
        self.head = store.head()
        """The last position that counts: what is recorded later is not part of the export."""
        self._redaction = redaction

    def log(self, choice: Choice, advance: Callable[[int], None] = lambda count: None) -> Iterator[Recorded]:
        """Every fact of the cases that may be chosen, in order of position; ``advance`` is told how far it came."""
        if choice.subjects:
            yield from heapq.merge(*(self.case(case_id) for case_id in choice.case_ids), key=_position)
            return
        after = 0
        while page := self.store.read(after, 500, self.head):
            for entry in page:
                yield self._shown(entry)
            advance(page[-1].position - after)
            after = page[-1].position

    def case(self, case_id: str, upto: int | None = None) -> Sequence[Recorded]:
        """The facts of a case in order. Raises :class:`HistoryBroken` where one cannot be read."""
        stored = self.store.load(case_id, self.head if upto is None else upto)
        return [self._shown(entry, stored) for entry in stored]

    def _shown(self, entry: Recorded, case: Sequence[Recorded] | None = None) -> Recorded:
        if self._redaction is None:
            return entry
        return self._redaction.of(entry, lambda: case or self.store.load(entry.case_id, self.head))


def _position(entry: Recorded) -> int:
    return entry.position


# ---- rows ------------------------------------------------------------------------------------------------------------


class Rows:
    """Makes rows of commands told again; ``policy_of`` finds a pinned policy by its hash."""

    def __init__(self, history: History, policy_of: PolicyOf) -> None:
        self._history = history
        self._policy_of = policy_of
        self._refunds: OrderedDict[str, RefundRequested] = OrderedDict()

    def events(self, choice: Choice, advance: Callable[[int], None] = lambda count: None) -> Iterator[Row]:
        """One row for each fact that is taken, in order of position; with ``ruling`` as a last key."""
        for outcome, entry in self._taken(choice, advance):
            event: Any = entry.event
            findings = event.ruling or ()
            currency, amount = self._money(entry)
            yield _place(entry, outcome) | {
                "failed": [finding.clause for finding in findings if finding.verdict == "fail"],
                "overridden": [finding.clause for finding in findings if finding.verdict == "overridden"],
                "currency": currency,
                "amount": amount,
                "content": details(event, getattr(event, "currency", "")),
                "ruling": self._ruling(event, findings) if findings else None,
            }

    def clauses(self, choice: Choice, advance: Callable[[int], None] = lambda count: None) -> Iterator[Row]:
        """One row for each clause that was weighed, in order of position; with ``quote`` as a last key."""
        for outcome, entry in self._taken(choice, advance):
            findings = entry.event.ruling or ()
            if not findings:
                continue
            place = _place(entry, outcome)
            currency, amount = self._money(entry)
            shown = self._clauses(entry.event, findings)
            for nth, (finding, clause) in enumerate(zip(findings, shown, strict=True), start=1):
                deadline, margin = turning_point(finding)
                yield place | {
                    "nth": nth,
                    "clause": finding.clause,
                    "verdict": finding.verdict,
                    "deadline": deadline,
                    "margin_seconds": margin,
                    "because": clause.because,
                    "currency": currency,
                    "amount": amount,
                    "facts": finding.grounds,
                    "quote": clause.quote,
                }

    def _taken(self, choice: Choice, advance: Callable[[int], None]) -> Iterator[tuple[str, Recorded]]:
        for past in recorded_commands(self._history.log(choice, advance)):
            outcome = past.outcome
            for entry in past.entries:
                if choice.takes(entry):
                    yield outcome, entry

    def _ruling(self, event: Event, findings: Sequence[ClauseResult]) -> list[Row]:
        shown = zip(findings, self._clauses(event, findings), strict=True)
        return [clause.model_dump() | {"facts": finding.grounds} for finding, clause in shown]

    def _clauses(self, event: Event, findings: Sequence[ClauseResult]) -> tuple[ClauseView, ...]:
        pins = event.pins
        if pins is None:
            raise HistoryBroken(f"a {event.type} has a ruling and says no policy")
        return clause_views(findings, self._policy_of(pins.sha256))

    def _money(self, entry: Recorded) -> tuple[str | None, str | None]:
        event = entry.event
        if isinstance(event, Confirmed):
            return event.currency, to_major(sum(one.amount for one in event.payments), event.currency)
        if isinstance(event, RefundRequested):
            self._keep(event)
            return event.currency, to_major(sum(one.amount for one in event.tenders), event.currency)
        if isinstance(event, RefundSettled | RefundFailed):
            asked = self._asked(entry, event.refund_id)
            amount = sum(one.amount for one in asked.tenders if one.payment_id == event.payment_id)
            return asked.currency, to_major(amount, asked.currency)
        return None, None

    def _asked(self, entry: Recorded, refund_id: str) -> RefundRequested:
        known = self._refunds.get(refund_id)
        if known is None:
            for other in self._history.case(entry.case_id, entry.position):
                if isinstance(other.event, RefundRequested) and other.event.refund_id == refund_id:
                    known = other.event
            if known is None:
                raise HistoryBroken(f"{entry.event_id}: refund {short(refund_id)} was never requested")
            self._keep(known)
        return known

    def _keep(self, event: RefundRequested) -> None:
        self._refunds[event.refund_id] = event
        while len(self._refunds) > _REMEMBERED:
            self._refunds.popitem(last=False)


_REMEMBERED = 1000
"""How many refunds are remembered until they are settled; what lies further back is looked up."""


def turning_point(finding: ClauseResult) -> tuple[datetime | None, float | None]:
    """The deadline that a verdict turned on, or that a promise sets, and the seconds that were left until then.

    Where lines have deadlines of their own the ruling says the earliest.
    """
    events: dict[str, Any] = finding.grounds
    deadline = events.get("deadline", events.get("contact_by"))
    return None if deadline is None else datetime.fromisoformat(deadline), events.get("margin_seconds")


def _place(entry: Recorded, outcome: str) -> Row:
    event, pins = entry.event, entry.event.pins
    row: Row = {
        "position": entry.position,
        "case_id": entry.case_id,
        "case_seq": entry.case_seq,
        "stream": entry.stream,
        "version": entry.version,
        "type": event.type,
        "occurred_at": event.occurred_at,
        "recorded_at": event.recorded_at,
        "actor_role": event.actor.role if event.actor else None,
        "actor_id": event.actor.id if event.actor else None,
        "command_id": event.command_id,
        "policy": pins.policy if pins else None,
        "policy_version": pins.version if pins else None,
        "policy_sha256": pins.sha256 if pins else None,
        "tzdata": pins.tzdata if pins else None,
        "outcome": outcome,
    }
    return row


# ---- scenarios -------------------------------------------------------------------------------------------------------


def expectation(past: RecordedCommand) -> dict[str, Any]:
    """What a line of a scenario expects, when the command has come to these facts before."""
    return {
        "outcome": past.outcome,
        "events": [entry.event.type for entry in past.entries],
        "failed": list(dict.fromkeys(finding.clause for finding in past.ruling or () if finding.verdict == "fail")),
    }


class WholeCases:
    """Which cases have a fact that is chosen: a scenario tells them from their beginning to their end."""

    def __init__(self, history: History, choice: Choice) -> None:
        self._history = history
        self._choice = choice
        self._chosen = frozenset(choice.case_ids)
        self._known: OrderedDict[str, bool] = OrderedDict()

    def take(self, case_id: str) -> bool:
        """Whether the case is told."""
        choice = self._choice
        if self._chosen and case_id not in self._chosen:
            return False
        if choice.since is None and choice.until is None:
            return True
        found = self._known.get(case_id)
        if found is None:
            found = any(choice.in_period(entry) for entry in self._history.case(case_id))
            self._known[case_id] = found
            while len(self._known) > 10 * _REMEMBERED:
                self._known.popitem(last=False)
        return found

    def log(self, advance: Callable[[int], None] = lambda count: None) -> Iterator[Recorded]:
        """The facts of these cases in order of position."""
        return (entry for entry in self._history.log(self._choice, advance) if self.take(entry.case_id))

    def case_ids(self) -> Iterable[str]:
        """These cases, in order of id."""
        all_ids = sorted(self._choice.case_ids) if self._choice.subjects else every_case(self._history.store)
        return (case_id for case_id in all_ids if self.take(case_id))

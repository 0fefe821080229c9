"""The rows of an export: events, or the clauses that were weighed, in columns whose order never changes.

New columns are added only at the end. Instants are UTC, money is a decimal string of its currency.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from returnable.domain.errors import HistoryBroken
from returnable.domain.events import (
    Confirmed,
    Event,
    PaymentCaptured,
    RefundAnswer,
    RefundRecorded,
    RefundRequested,
)
from returnable.domain.money import to_major
from returnable.domain.outcome import ClauseView, clause_views
from returnable.domain.policy import PolicyOf
from returnable.domain.ports import EventStore, Recorded
from returnable.domain.recorded_commands import RecordedCommand, recorded_commands
from returnable.domain.ruling import ClauseResult
from returnable.projections.audit import details, turning_point
from returnable.projections.redaction import Redaction
from returnable.projections.subjects import Subject, every_case

Kind = Literal["int", "text", "texts", "time", "money", "seconds", "json"]
"""The type of a column: ``texts`` is a list of ids, ``seconds`` may have a fraction, ``json`` is a structure."""

Row: TypeAlias = dict[str, Any]
"""Column → value, in the order of the columns; ``None`` if there is none."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of an export."""

    name: str
    kind: Kind
    meaning: str


_PLACE = (
    Column("position", "int", "place in the whole log; increases, with gaps allowed"),
    Column("case_id", "text", "the order that the case is named for, or arrival/ID"),
    Column("case_seq", "int", "place in the case, from 1 on without gaps"),
    Column("stream", "text", "order/ID, return/ID, claim/ID or arrival/ID"),
    Column("version", "int", "place in the stream, from 1 on without gaps"),
    Column("type", "text", "the type of the event"),
    Column("occurred_at", "time", "when it happened in the world"),
    Column("recorded_at", "time", "when it was recorded"),
    Column("actor_role", "text", "the role of the actor who reported it"),
    Column("actor_id", "text", "the actor who reported it"),
    Column("command_id", "text", "the idempotency key of the command that recorded it"),
    Column("policy", "text", "the policy that it pins, if it pins one"),
    Column("policy_version", "text", "the version of that policy"),
    Column("policy_sha256", "text", "the hash of that policy"),
    Column("tzdata", "text", "the release of the time zone database that it pins"),
    Column("outcome", "text", "accepted or declined: the outcome of the command that recorded it"),
)

FACT_COLUMNS: tuple[Column, ...] = (
    *_PLACE,
    Column("failed", "texts", "clauses of its ruling that failed"),
    Column("overridden", "texts", "clauses of its ruling that failed and were set aside by an override"),
    Column("currency", "text", "the currency of amount"),
    Column(
        "amount", "money", "paid (Confirmed), to be refunded (RefundRequested), what the event says (RefundSettled, …)"
    ),
    Column("content", "json", "the other fields of the event; money as decimals"),
)
"""One row for each event. In JSON Lines a last key ``ruling`` holds every clause with its quote and its reason."""

CLAUSE_COLUMNS: tuple[Column, ...] = (
    *_PLACE,
    Column("nth", "int", "place of the clause in its ruling, from 1 on"),
    Column("clause", "text", "the id of the clause"),
    Column("verdict", "text", "pass, fail, not_applicable or overridden"),
    Column("deadline", "time", "the deadline that decided, if there is one; of several lines the earliest"),
    Column("margin_seconds", "seconds", "seconds left until the deadline; negative: seconds too late"),
    Column("because", "text", "the reason in plain English"),
    Column("currency", "text", "the currency of amount"),
    Column("amount", "money", "the total of the refund of this ruling (RefundRequested)"),
    Column("facts", "json", "the values that the verdict rests on"),
)
"""One row for each clause that was weighed. In JSON Lines a last key ``quote`` holds the merchant's words."""


# ---- the choice ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """The events to export: of these subjects (none: of all), recorded at ``since`` or later and before ``until``."""

    subjects: tuple[Subject, ...] = ()
    since: datetime | None = None
    until: datetime | None = None

    @property
    def case_ids(self) -> list[str]:
        """The cases of the subjects, each once."""
        return list(dict.fromkeys(subject.case_id for subject in self.subjects))

    def in_period(self, entry: Recorded) -> bool:
        """Whether the event was recorded in the period."""
        at = entry.event.recorded_at
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)

    def takes(self, entry: Recorded) -> bool:
        """Whether a table has that event. Of an order it has the whole case, of a return or claim its stream."""
        return self.in_period(entry) and (not self.subjects or any(one.concerns(entry) for one in self.subjects))


class History:
    """The events of a store up to one position, redacted if asked for; never more than a page in memory."""

    def __init__(self, store: EventStore, redaction: Redaction | None = None) -> None:
        self.store = store
        self.head = store.head()
        """The last position that counts; later events are not part of the export."""
        self._redaction = redaction

    def log(self, choice: Choice, advance: Callable[[int], None] = lambda count: None) -> Iterator[Recorded]:
        """Every event of the chosen cases, in order of position; ``advance`` is called with the positions covered."""
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
        """The events of a case in order. Raises :class:`HistoryBroken` if one cannot be read."""
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
    """Makes the rows of events and clauses; ``policy_of`` finds a pinned policy by its hash."""

    def __init__(self, history: History, policy_of: PolicyOf) -> None:
        self._history = history
        self._policy_of = policy_of

    def events(self, choice: Choice, advance: Callable[[int], None] = lambda count: None) -> Iterator[Row]:
        """One row for each chosen event, in order of position; with ``ruling`` as a last key."""
        for outcome, entry in self._taken(choice, advance):
            event, weighed = entry.event, self._weighed(entry.event)
            currency, amount = self._money(entry)
            yield _place(entry, outcome) | {
                "failed": [result.clause for result, _ in weighed if result.verdict == "fail"],
                "overridden": [result.clause for result, _ in weighed if result.verdict == "overridden"],
                "currency": currency,
                "amount": amount,
                "content": details(event, getattr(event, "currency", "")),
                "ruling": [view.model_dump() | {"facts": result.grounds} for result, view in weighed] or None,
            }

    def clauses(self, choice: Choice, advance: Callable[[int], None] = lambda count: None) -> Iterator[Row]:
        """One row for each clause that was weighed, in order of position; with ``quote`` as a last key."""
        for outcome, entry in self._taken(choice, advance):
            if entry.event.ruling:
                place = _place(entry, outcome)
                currency, amount = self._money(entry)
                for nth, (result, view) in enumerate(self._weighed(entry.event), start=1):
                    deadline, margin = turning_point(result)
                    yield place | {
                        "nth": nth,
                        "clause": result.clause,
                        "verdict": result.verdict,
                        "deadline": deadline,
                        "margin_seconds": margin,
                        "because": view.because,
                        "currency": currency,
                        "amount": amount,
                        "facts": result.grounds,
                        "quote": view.quote,
                    }

    def _taken(self, choice: Choice, advance: Callable[[int], None]) -> Iterator[tuple[str, Recorded]]:
        for command in recorded_commands(self._history.log(choice, advance)):
            outcome = command.outcome
            for entry in command.entries:
                if choice.takes(entry):
                    yield outcome, entry

    def _weighed(self, event: Event) -> Sequence[tuple[ClauseResult, ClauseView]]:
        if not event.ruling:
            return ()
        if event.pins is None:
            raise HistoryBroken(f"a {event.type} has a ruling but pins no policy")
        return [*zip(event.ruling, clause_views(event.ruling, self._policy_of(event.pins.sha256)), strict=True)]

    def _money(self, entry: Recorded) -> tuple[str | None, str | None]:
        event = entry.event
        if isinstance(event, Confirmed):
            return event.currency, to_major(sum(one.amount for one in event.payments), event.currency)
        if isinstance(event, RefundRequested | RefundRecorded):
            return event.currency, to_major(sum(one.amount for one in event.tenders), event.currency)
        if isinstance(event, RefundAnswer | PaymentCaptured):
            return event.currency, to_major(event.amount, event.currency)
        return None, None


def _place(entry: Recorded, outcome: str) -> Row:
    event, pins, actor = entry.event, entry.event.pins, entry.event.actor
    return {
        "position": entry.position,
        "case_id": entry.case_id,
        "case_seq": entry.case_seq,
        "stream": entry.stream,
        "version": entry.version,
        "type": event.type,
        "occurred_at": event.occurred_at,
        "recorded_at": event.recorded_at,
        "actor_role": actor.role if actor else None,
        "actor_id": actor.id if actor else None,
        "command_id": event.command_id,
        "policy": pins.policy if pins else None,
        "policy_version": pins.version if pins else None,
        "policy_sha256": pins.sha256 if pins else None,
        "tzdata": pins.tzdata if pins else None,
        "outcome": outcome,
    }


# ---- scenarios -------------------------------------------------------------------------------------------------------


def expectation(command: RecordedCommand) -> dict[str, Any]:
    """The ``expect`` of a scenario line for a command that was recorded."""
    return {
        "outcome": command.outcome,
        "events": [entry.event.type for entry in command.entries],
        "failed": list(dict.fromkeys(result.clause for result in command.ruling or () if result.verdict == "fail")),
    }


class WholeCases:
    """The cases that have a chosen event; a scenario has each of them from its beginning to its end."""

    def __init__(self, history: History, choice: Choice) -> None:
        self._history = history
        self._choice = choice
        self._chosen = frozenset(choice.case_ids)
        self._in_period = lru_cache(10_000)(lambda case_id: any(map(choice.in_period, history.case(case_id))))

    def take(self, case_id: str) -> bool:
        """Whether the case belongs to them."""
        if self._chosen and case_id not in self._chosen:
            return False
        return (self._choice.since is None and self._choice.until is None) or self._in_period(case_id)

    def log(self, advance: Callable[[int], None] = lambda count: None) -> Iterator[Recorded]:
        """The events of these cases in order of position."""
        return (entry for entry in self._history.log(self._choice, advance) if self.take(entry.case_id))

    def case_ids(self) -> Iterable[str]:
        """These cases, in order of id."""
        all_ids = sorted(self._choice.case_ids) if self._choice.subjects else every_case(self._history.store)
        return (case_id for case_id in all_ids if self.take(case_id))

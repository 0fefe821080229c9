"""Identical refusals: the first of them are recorded one by one, all others are counted in one event.

A customer, or a program that retries, may ask for the same thing thousands of times. Each look at a case reads all its
facts, so facts that say nothing new would make every later look at the case slower.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from returnable.domain.commands import COMMANDS
from returnable.domain.deciding import Decided, Moment
from returnable.domain.events import FACTS, CancellationRequested, Fact, ParcelRejected, RefusalsCounted
from returnable.domain.ports import Recorded
from returnable.domain.retelling import NOT_IN_EVENTS, Told, retell
from returnable.domain.ruling import Finding

if TYPE_CHECKING:
    from returnable.domain.case import Case

RECORDED_SINGLY = 20
"""How many identical refusals of a case are recorded one by one."""

REFUSALS: dict[type[Fact], type[Fact] | None] = {
    fact: next(iter(fact.follows), None) for fact in FACTS.values() if fact.declines and fact is not ParcelRejected
}
"""The facts that refuse a request and change nothing else → the fact of the same command that stands before them.

A ``ParcelRejected`` is not one of them: it moves the return.
"""


@dataclass(frozen=True, eq=False, repr=False)
class Refusal:
    """A refusal as it is recorded in a case, and the one recorded before it."""

    entries: tuple[Recorded, ...]
    before: Refusal | None = None

    @classmethod
    def of(cls, entry: Recorded, last: Recorded | None, before: Refusal | None) -> Refusal | None:
        """The refusal that ends with ``entry``, where ``last`` is the fact before it; ``before`` where it is none."""
        request = REFUSALS[type(entry.fact)]
        if request is None:
            return cls((entry,), before)
        # A claim that care denies by hand comes of no request that was refused.
        if last is None or type(last.fact) is not request or last.stream != entry.stream or not _ruling(entry):
            return before
        return cls((last, entry), before)

    @cached_property
    def identity(self) -> object:
        """What identical refusals have in common.

        That is the request without its command id, its times and the id it would have created; who asked; the clauses
        that failed; and the policy that judged.
        """
        told = next(retell(self.entries))
        command = told.fields["command"]
        request = _request(told)
        request.pop(f"{COMMANDS[command].creates}_id", None)  # a caller takes a new one for each attempt
        failed = tuple(finding.clause for finding in _ruling(self.entries[-1]) if finding.verdict == "fail")
        decision = self.entries[-1].fact
        return command, request, decision.actor, failed, decision.pins

    def with_those_before(self) -> Iterator[Refusal]:
        """This refusal and all before it, the latest first."""
        refusal: Refusal | None = self
        while refusal is not None:
            yield refusal
            refusal = refusal.before


def counted(case: Case, decided: Decided, now: Moment) -> Decided:
    """The same refusal, but counted instead of recorded where enough identical ones are on record.

    The first one that is not recorded as usual is recorded as :class:`RefusalsCounted`; the ones after it record nothing.
    """
    if type(decided.facts[-1][1]) not in REFUSALS or case.refusal is None or _changes_more(case, decided.facts):
        return decided
    refused = Refusal(tuple(Recorded(0, case.case_id, 0, stream, 0, fact) for stream, fact in decided.facts))
    first, found = None, 0
    for refusal in case.refusal.with_those_before():
        if refusal.identity != refused.identity:
            continue
        last = refusal.entries[-1]
        if isinstance(last.fact, RefusalsCounted):
            return replace(decided, facts=[], names=[], free=decided.names, counted=last)
        first, found = refusal, found + 1
    if first is None or found < RECORDED_SINGLY:
        return decided
    told = next(retell(refused.entries))
    stream, _ = decided.facts[-1]
    event = RefusalsCounted(
        **now.envelope(told.entries[0].fact.occurred_at),
        pins=now.policy.pins,
        ruling=_ruling(refused.entries[-1]),
        command=told.fields["command"],
        repeats=first.entries[0].event,
        request=_request(told),
    )
    # What the request would have created has no stream.
    where = stream if case.version_of(stream) else case.order.stream
    return replace(decided, facts=[(where, event)], names=[], free=decided.names)


def _changes_more(case: Case, facts: Sequence[tuple[str, Fact]]) -> bool:
    """Whether the refused request counts later on: the first incomplete cancellation keeps its time."""
    request, since = facts[0][1], case.order.incomplete_since
    if not isinstance(request, CancellationRequested) or not request.incomplete:
        return False
    return since is None or request.occurred_at < since


def _request(told: Told) -> dict[str, Any]:
    """What was asked, as far as events keep it, without its times, its command id and who asked."""
    command = told.fields["command"]
    left_out = {"command", "command_id", "actor", *COMMANDS[command].own_times, *NOT_IN_EVENTS.get(command, ())}
    return {name: value for name, value in told.fields.items() if name not in left_out}


def _ruling(entry: Recorded) -> tuple[Finding, ...]:
    return entry.fact.ruling or ()

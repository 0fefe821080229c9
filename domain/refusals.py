"""Identical refusals: the first ones are recorded one by one, all others are counted in one event.

A customer, or a program that retries, may ask for the same thing thousands of times. A case is loaded with all its events, so
events that say nothing new would make every later load slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from returnable.domain.cached import cached_property
from returnable.domain.commands import COMMANDS
from returnable.domain.events import EVENTS, Event, ParcelRejected
from returnable.domain.ports import Recorded
from returnable.domain.recorded_commands import NOT_IN_EVENTS, RecordedCommand, recorded_commands
from returnable.domain.ruling import ClauseResult

RECORDED_SINGLY = 20
"""How many identical refusals of a case are recorded one by one."""

REFUSALS: dict[type[Event], type[Event] | None] = {
    event: next(iter(event.follows), None)
    for event in EVENTS.values()
    if event.declines and event is not ParcelRejected
}
"""The events that refuse a request and change nothing else → the event of the same command before them.

A ``ParcelRejected`` is not one of them, because it moves the return.
"""


@dataclass(frozen=True, eq=False, repr=False)
class Refusal:
    """A refusal as it is recorded in a case, and the one recorded before it."""

    entries: tuple[Recorded, ...]
    before: Refusal | None = None

    @classmethod
    def of(cls, entry: Recorded, last: Recorded | None, before: Refusal | None) -> Refusal | None:
        """The refusal that ends with ``entry``, after the event ``last``; ``before`` where it does not end one."""
        request = REFUSALS[type(entry.event)]
        if request is None:
            return cls((entry,), before)
        # A claim that care denies by hand is not the refusal of a request.
        if last is None or type(last.event) is not request or last.stream != entry.stream or not _ruling(entry):
            return before
        return cls((last, entry), before)

    @cached_property
    def identity(self) -> object:
        """What identical refusals have in common.

        The request without its command id, its times and the id it would have created; who asked; the clauses that failed;
        and the policy that judged.
        """
        request = self.request()
        request.pop(f"{COMMANDS[self.command].creates}_id", None)  # a caller takes a new one for each attempt
        failed = tuple(finding.clause for finding in _ruling(self.entries[-1]) if finding.verdict == "fail")
        decision = self.entries[-1].event
        return self.command, request, decision.actor, failed, decision.pins

    @property
    def command(self) -> str:
        """The command that was refused."""
        command: str = self._told.fields["command"]
        return command

    @cached_property
    def _told(self) -> RecordedCommand:
        return next(recorded_commands(self.entries))

    def request(self) -> dict[str, Any]:
        """What was asked, as far as events keep it, without times, command id and actor."""
        own_times, lost = COMMANDS[self.command].own_times, NOT_IN_EVENTS.get(self.command, ())
        left_out = {"command", "command_id", "actor", *own_times, *lost}
        return {name: value for name, value in self._told.fields.items() if name not in left_out}

    def with_those_before(self) -> Iterator[Refusal]:
        """This refusal and all before it, the latest first."""
        refusal: Refusal | None = self
        while refusal is not None:
            yield refusal
            refusal = refusal.before


def _ruling(entry: Recorded) -> tuple[ClauseResult, ...]:
    return entry.event.ruling or ()

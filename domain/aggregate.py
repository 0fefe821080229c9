"""What an order, a return, a claim and an arrival have in common: a stream of events, a lifecycle, and overrides."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, NamedTuple, Self, TypeVar

from returnable.domain.deadlines import Happened
from returnable.domain.errors import HistoryBroken, Impossible
from returnable.domain.events import (
    BY_TYPE,
    Event,
    ExceptionClosed,
    ExceptionRaised,
    OverrideGranted,
    RefundAnswer,
    RefundSettled,
)
from returnable.domain.ids import Kind, StreamId
from returnable.domain.lifecycles import NOTHING, Table
from returnable.domain.ruling import GrantedOverride, Use

S = TypeVar("S")


def shallow_copy(state: S) -> S:
    """The same fields in a new object. The protocol of ``copy`` would take ten times as long, for every command."""
    new: S = object.__new__(type(state))
    new.__dict__.update(state.__dict__)
    return new


class OpenException(NamedTuple):
    """What contradicts earlier events, by the event that says so; a person has not closed it yet."""

    event: str
    reasons: tuple[str, ...]


@dataclass(kw_only=True)
class Aggregate:
    """The base of ``Order``, ``Return``, ``Claim`` and ``UnannouncedArrival``: the state that the events of one stream
    lead to.

    A case never changes once it is built, so an event is applied to a private copy (:meth:`clone`).
    """

    kind: ClassVar[Kind]
    lifecycle: ClassVar[Table]

    stream: str = field(init=False)
    status: str = NOTHING
    overrides: tuple[GrantedOverride, ...] = ()
    """Every override that was granted for it, used up or not, oldest first."""
    exceptions: tuple[OpenException, ...] = ()
    """What contradicts earlier events, for a person to look at, until a person closes it."""
    version: int = 0
    """The version of the last event in the stream."""

    def __post_init__(self) -> None:
        self.stream = str(StreamId(self.kind, getattr(self, f"{self.kind}_id")))

    @property
    def name(self) -> str:
        """The kind and the id as messages name them, such as ``order A-1``."""
        return self.stream.replace("/", " ", 1)

    def clone(self) -> Self:
        """A copy that can be changed without touching this one."""
        return shallow_copy(self)

    def apply(self, event: Event, version: int, money_is_owed: bool = False) -> None:
        """Apply the event that has that version in the stream; raises ``HistoryBroken`` where the lifecycle forbids it.

        ``money_is_owed``: whether less is paid back than should be, after an answer of the payment provider.
        """
        happened = Happened(event.occurred_at, version)
        if isinstance(event, RefundAnswer):
            self.move_by_answer(event, money_is_owed)
        elif event.moves:
            self._move(event, happened)
        elif self.status == NOTHING:
            raise HistoryBroken(f"{self.stream}: {event.type} is recorded before the first event")
        elif isinstance(event, OverrideGranted):
            source = f"{self.stream}#{version}"
            granted = GrantedOverride(
                event.clause,
                event.approved_by,
                event.reason,
                event.occurred_at,
                source,
                event.lines,
                event.expires_at,
                event.once,
            )
            self.overrides += (granted,)
        elif isinstance(event, ExceptionRaised):
            self.exceptions += (OpenException(f"{self.stream}#{version}", event.reasons),)
        elif isinstance(event, ExceptionClosed):
            closed = event.exception_id
            self.exceptions = tuple(each for each in self.exceptions if closed not in (None, each.event))
        else:
            self._note(event, happened)
        self.version = version

    def move_by_answer(self, answer: RefundAnswer, money_is_owed: bool) -> None:
        """Apply an answer of the payment provider: about a refund for it, or about one that counted for it."""
        holds = money_is_owed != isinstance(answer, RefundSettled)
        self.status = self.lifecycle.after(self.status, answer.type, holds)

    def use_overrides(self, cited: Collection[object], use: Use) -> None:
        """An accepted decision cited the overrides of these events: it uses them up, unless they say otherwise."""
        self.overrides = tuple(
            replace(each, used_by=use) if each.once and each.used_by is None and each.event in cited else each
            for each in self.overrides
        )

    def _move(self, event: Event, happened: Happened) -> None:
        """Apply an event of the lifecycle."""
        raise NotImplementedError

    def _note(self, event: Event, happened: Happened) -> None:
        """Apply an event outside the lifecycle."""

    def check_allows(self, event: str, command: str) -> None:
        """Raise ``transition.not_allowed`` unless the lifecycle allows the event now."""
        if not self.lifecycle.allows(self.status, event):
            raise self.not_allowed(command)

    @property
    def line_ids(self) -> Collection[str]:
        """The lines of this order, return or claim."""
        raise NotImplementedError

    def check_lines(self, line_ids: Iterable[str], field: str) -> None:
        """Raise ``line.unknown`` for the first id that is not in :attr:`line_ids`; ``field`` has ``{}`` for its place."""
        for index, line_id in enumerate(line_ids):
            if line_id not in self.line_ids:
                raise Impossible("line.unknown", f"{self.name} has no line {line_id!r}", field=field.format(index))

    def not_allowed(self, command: str, why: str = "") -> Impossible:
        """``transition.not_allowed`` for a command on this order, return or claim."""
        return not_allowed(command, self.name, self.status, why=why, about=self.stream)


def allowed_commands(table: Table, state: str) -> tuple[str, ...]:
    """The commands that the lifecycle allows in that state."""
    commands = (BY_TYPE[event].of_command for event in table.events(state))
    # An answer of the payment provider is about a refund, whatever the state of the subject.
    return tuple(dict.fromkeys(name for name in commands if name not in (None, "record_refund_result")))


def not_allowed(
    command: str,
    subject: str,
    state: str,
    allowed: tuple[str, ...] | None = None,
    why: str = "",
    about: str | None = None,
) -> Impossible:
    """``transition.not_allowed``: names the command, its subject, the subject's state, and what is ``allowed`` now.

    ``about``: the stream of an order, return or claim, for which that is still to be said.
    """
    because = f" ({why})" if why else ""
    shown = "not there yet" if state == NOTHING else state
    reason = f"{command}: {subject} is {shown}{because}"
    return Impossible("transition.not_allowed", reason, state=state, allowed=allowed, about=about)

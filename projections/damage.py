"""Damaged cases: the events before one that cannot be read, or cannot have happened, still count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from returnable.domain.case import Case
from returnable.domain.errors import CalendarExhausted, CalendarInvalid, HistoryBroken, Impossible, PolicyInvalid
from returnable.domain.policy import Policy, PolicyOf
from returnable.domain.ports import Damage, Recorded

T = TypeVar("T")

CORRUPTION_ERRORS = (
    HistoryBroken,
    Impossible,
    PolicyInvalid,
    CalendarInvalid,
    CalendarExhausted,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
)
"""Exceptions that damaged or contradictory events can raise anywhere in a projection.

``StoreUnusable`` is missing on purpose: a store that cannot be reached says nothing about its events.
"""


def up_to_damage(
    events: Sequence[Recorded], damage: Damage | None, build: Callable[[Sequence[Recorded]], T]
) -> tuple[T, Damage | None]:
    """The result of ``build`` for the events of a case; if it fails, for the events before the first that makes it fail.

    ``damage`` is the known damage after these events; it is returned if none of them makes ``build`` fail. ``build`` must
    accept an empty sequence.
    """
    try:
        return build(events), damage
    except CORRUPTION_ERRORS:
        pass
    built = build(())
    for count, entry in enumerate(events, start=1):
        try:
            built = build(events[:count])
        except CORRUPTION_ERRORS as error:
            place = (entry.position, entry.case_id, entry.case_seq, entry.stream, entry.version)
            return built, Damage(*place, describe(error))
    return built, damage


@contextmanager
def explained_damage(what: str) -> Iterator[None]:
    """Turn errors of damaged events into a ``HistoryBroken`` that names ``what``; errors that explain themselves pass."""
    try:
        yield
    except CORRUPTION_ERRORS as error:
        if isinstance(error, Impossible | PolicyInvalid) or (isinstance(error, HistoryBroken) and what in str(error)):
            raise
        raise HistoryBroken(f"{what} cannot be explained: {describe(error)}") from error


def describe(error: Exception) -> str:
    """The message of an error of ours; of any other error its type and message."""
    text = str(error)
    known = isinstance(error, HistoryBroken | Impossible | PolicyInvalid | CalendarInvalid | CalendarExhausted)
    return text if known and text else f"{type(error).__name__}: {text}"


def pinned(case: Case, policy_of: PolicyOf) -> Policy | None:
    """The policy pinned to a case; ``None`` before its first event."""
    return None if case.pins is None else policy_of(case.pins.sha256)

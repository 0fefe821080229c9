"""One case as far as it can be trusted: what comes before a fact that cannot be read, or cannot have happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from returnable.domain.case import Case
from returnable.domain.errors import CalendarExhausted, CalendarInvalid, HistoryBroken, Impossible, PolicyInvalid
from returnable.domain.lifecycles import NOTHING
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
"""What facts that contradict each other may raise, wherever they are looked at. Not that the store is unusable."""


def up_to_damage(
    events: Sequence[Recorded], damage: Damage | None, build: Callable[[Sequence[Recorded]], T]
) -> tuple[T, Damage | None]:
    """What ``build`` makes of the facts of a case; where it cannot, of all that comes before the first fact to blame.

    ``damage`` is what is known to be wrong behind these facts, and what is answered if nothing is wrong with them.
    ``build`` must make something of no facts at all.
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
    """Name what cannot be told where its facts say what cannot be; raises ``HistoryBroken``. What is ours passes as it is."""
    try:
        yield
    except CORRUPTION_ERRORS as error:
        if isinstance(error, Impossible | PolicyInvalid) or (isinstance(error, HistoryBroken) and what in str(error)):
            raise
        raise HistoryBroken(f"{what} cannot be told: {describe(error)}") from error


def describe(error: Exception) -> str:
    """What is wrong, in our words or else in those of the error and its kind."""
    text = str(error)
    known = isinstance(error, HistoryBroken | Impossible | PolicyInvalid | CalendarInvalid | CalendarExhausted)
    return text if known and text else f"{type(error).__name__}: {text}"


def pinned(case: Case, policy_of: PolicyOf) -> Policy | None:
    """The policy pinned to the order of a case; ``None`` where nothing was confirmed."""
    return None if case.order.status == NOTHING else policy_of(case.order.confirmed.pins.sha256)

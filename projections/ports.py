"""What stored views need from outside: a place that keeps their rows, and how far each of them is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from returnable.domain.ports import Damage

Row: TypeAlias = tuple[Any, ...]
"""A stored row: case id, its place among the rows of the case, and the columns of the view."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a view is: its rows tell of every fact up to ``position`` in every case, or in the cases up to ``cursor``.

    ``cursor`` is ``None`` once the view is built. Until then it is the last case that was built, ``""`` before the first.
    """

    position: int
    cursor: str | None = None
    place: str | None = None
    """Which fact stood there, as the store says (:meth:`EventStore.place`): another one there is another history."""

    @property
    def built(self) -> bool:
        """Whether every case is in the view."""
        return self.cursor is None


@dataclass(slots=True)
class Changes:
    """What a batch makes of some cases: all their rows in some views, which take the place of those before.

    ``parked`` says where a case stops in a view.
    """

    case_ids: Sequence[str] = ()
    rows: dict[str, list[Row]] = field(default_factory=dict)
    parked: dict[str, list[Damage]] = field(default_factory=dict)


class ViewStore(Protocol):
    """Keeps the rows of views, and with them, in the same transaction, how far each view is."""

    def belongs_to(self, store_identity: str | None) -> None:
        """Raise ``StoreUnusable`` when the views were made of another store; from the first fact on that is known."""
        ...

    def marks(self) -> Mapping[str, Mark]:
        """How far each view is; a view that was never begun is missing."""
        ...

    def begin(self, views: Sequence[str], mark: Mark, store_identity: str | None = None) -> None:
        """Empty these views, and mark them as to be built up to that; when it is all, they are of that store now."""
        ...

    def save(
        self, before: Mapping[str, Mark], after: Mark, changes: Changes, store_identity: str | None = None
    ) -> bool:
        """Take the changes over and move the views of ``before`` to ``after``, all or nothing.

        Raises ``StoreUnusable`` when the views have become those of another store.
        ``False``, and nothing was saved, when one of them does not stand where ``before`` says: somebody else moved it.
        """
        ...

    def parked(self, view: str | None = None) -> Sequence[tuple[str, Damage]]:
        """The view and the place of every case that could not be told to its end."""
        ...

    def reading(self) -> AbstractContextManager[Reading]:
        """Rows and marks as they stand together at one moment."""
        ...

    def close(self) -> None:
        """Release files and connections."""
        ...


class Reading(Protocol):
    """Stored views at one moment."""

    def belongs_to(self, store_identity: str | None) -> None:
        """Raise ``StoreUnusable`` when the views were made of another store."""
        ...

    def marks(self) -> Mapping[str, Mark]:
        """How far each view is."""
        ...

    def parked(self, view: str | None = None) -> Sequence[tuple[str, Damage]]:
        """The places where cases are parked."""
        ...

    def rows(
        self, view: str, columns: Sequence[str], where: Mapping[str, str] | None = None, limit: int | None = None
    ) -> Iterator[Row]:
        """These columns of the rows of a view in order of case id, where other columns have these values."""
        ...

    def clause_counts(self, since: datetime | None, until: datetime | None) -> Iterator[tuple[str, str, str, int, int]]:
        """Clause, currency and verdict (or ``alone``), the number of decisions and the amount at stake in them.

        Of the decisions that occurred from ``since`` on and before ``until``.
        """
        ...

    def digest(self, view: str) -> str:
        """The SHA-256 of all rows of a view in order, and of its parked places."""
        ...

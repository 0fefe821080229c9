"""The ports of stored views: what keeps their rows and the position of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from returnable.domain.ports import Damage

Row: TypeAlias = tuple[Any, ...]
"""A stored row: case id, number within the case, and the columns of the view."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The position of a view: its rows cover every event up to ``position``, in every case or in those up to ``cursor``.

    ``cursor`` is ``None`` once the view is built. Until then it is the last case that was built, ``""`` before the first.
    """

    position: int
    cursor: str | None = None
    place: str | None = None
    """The fingerprint of the event there (:meth:`EventStore.fingerprint_at`): another event there is another history."""

    @property
    def built(self) -> bool:
        """Whether every case is in the view."""
        return self.cursor is None


@dataclass(slots=True)
class Changes:
    """The result of a batch: all rows of some cases in some views, which replace their earlier rows.

    ``parked`` holds the place at which a view stopped reading a case.
    """

    case_ids: Sequence[str] = ()
    rows: dict[str, list[Row]] = field(default_factory=dict)
    parked: dict[str, list[Damage]] = field(default_factory=dict)


class Views(Protocol):
    """Stored views and the position of each."""

    def belongs_to(self, store_identity: str | None) -> None:
        """Raise ``StoreUnusable`` if the views were made of another store; known from the first event on."""
        ...

    def marks(self) -> Mapping[str, Mark]:
        """The position of each view; a view that was never begun is missing."""
        ...

    def parked(self, view: str | None = None) -> Sequence[tuple[str, Damage]]:
        """The view and the place of every case that could not be read to its end."""
        ...


class ViewStore(Views, Protocol):
    """Keeps the rows of views, and in the same transaction the position of each view."""

    def begin(self, views: Sequence[str], mark: Mark, store_identity: str | None = None) -> None:
        """Empty these views, and mark them as to be built up to ``mark``.

        If these are all views, they belong to ``store_identity`` from now on.
        """
        ...

    def save(
        self, before: Mapping[str, Mark], after: Mark, changes: Changes, store_identity: str | None = None
    ) -> bool:
        """Save the changes and move the views of ``before`` to ``after``, all or nothing.

        Returns ``False``, and saves nothing, if one of them is not where ``before`` says: another projector moved it.
        Raises ``StoreUnusable`` if the views now belong to another store.
        """
        ...

    def reading(self) -> AbstractContextManager[Reading]:
        """Rows and marks as of one moment."""
        ...

    def close(self) -> None:
        """Release files and connections."""
        ...


class Reading(Views, Protocol):
    """Stored views as of one moment."""

    def rows(
        self, view: str, columns: Sequence[str], where: Mapping[str, str] | None = None, limit: int | None = None
    ) -> Iterator[Row]:
        """These columns of the rows of a view in order of case id, if other columns have the values of ``where``."""
        ...

    def clause_counts(self, since: datetime | None, until: datetime | None) -> Iterator[tuple[str, str, str, int, int]]:
        """Clause, currency, verdict (or ``alone``), number of decisions and the amount at stake in them.

        Only decisions that occurred from ``since`` on and before ``until`` count.
        """
        ...

    def digest(self, view: str) -> str:
        """The SHA-256 of all rows of a view in order, and of its parked places."""
        ...

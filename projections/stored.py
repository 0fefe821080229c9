"""Stored views: the rows of a case in each view, as a function of the events of the case and of nothing else.

The function reads no clock and no earlier rows, so that the same events always give the same bytes. Instants are stored
instead of values that depend on the clock, and are compared with the clock when the rows are read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic_core import to_json

from returnable.domain.cached import cached_property
from returnable.domain.case import Case, fold, steps
from returnable.domain.errors import HistoryBroken
from returnable.domain.policy import Policy, PolicyOf
from returnable.domain.ports import Damage, Recorded
from returnable.projections.damage import pinned, up_to_damage
from returnable.projections.ledger import balances
from returnable.projections.lists import LISTS
from returnable.projections.ports import Changes, Row
from returnable.projections.statistics import weighed
from returnable.projections.worklist import waiting_in

SCHEMA_VERSION = 5
"""Raised whenever the columns, the meaning or the wording of a row change: rows of another version are built again."""

Column = tuple[str, Literal["text", "integer", "amount"]]
"""An ``amount`` is in minor units: a number, or decimal text if it does not fit into 64 bits."""

MOST_DIGITS = 20
"""More than any order has: a thousand payments of less than 10^16 minor units. An event with more digits is damaged."""


@dataclass(slots=True)
class History:
    """The events of a case, their fold, and the state of each event's stream before and after it."""

    case: Case
    policy: Policy | None
    events: Sequence[Recorded]
    moves: Sequence[tuple[str | None, str]] | None
    """``None`` if no view needs them."""


@dataclass(frozen=True)
class View:
    """A stored view: its name, the columns of a row after case id and number, and the rows of a case."""

    name: str
    columns: tuple[Column, ...]
    of_case: Callable[[History, Policy], Iterable[Row]]
    """The rows of a case whose order is confirmed."""
    needs_moves: bool = False

    def rows(self, history: History) -> list[Row]:
        """The rows of a case; none before its order is confirmed."""
        if history.policy is None:
            return []
        case_id = history.case.case_id
        rows = [(case_id, nth, *row) for nth, row in enumerate(self.of_case(history, history.policy), start=1)]
        return [self._storable(row) for row in rows] if self.amounts else rows

    def _storable(self, row: Row) -> Row:
        large = [at for at in self.amounts if not -(2**63) <= row[at] < 2**63]
        if not large:
            return row
        cells = list(row)
        for at in large:
            if abs(cells[at]) >= 10**MOST_DIGITS:
                raise HistoryBroken(f"{self.columns[at - 2][0]}: an amount has at most {MOST_DIGITS} digits")
            cells[at] = str(cells[at])
        return tuple(cells)

    @cached_property
    def amounts(self) -> tuple[int, ...]:
        """The places of the amounts in a row."""
        return tuple(nth for nth, (_, kind) in enumerate(self.columns, start=2) if kind == "amount")


def sortable(instant: datetime) -> str:
    """An instant as text that sorts like the instant: UTC, always with microseconds.

    >>> from datetime import timedelta, timezone
    >>> sortable(datetime(2026, 3, 2, 10, 0, tzinfo=timezone(timedelta(hours=-5))))
    '2026-03-02T15:00:00.000000+00:00'
    """
    text = instant.isoformat(timespec="microseconds")
    return text if text.endswith("+00:00") else instant.astimezone(UTC).isoformat(timespec="microseconds")


def _or_none(instant: datetime | None) -> str | None:
    return None if instant is None else sortable(instant)


def _document(values: Mapping[str, Any]) -> str:
    return to_json(values).decode()


def _listed(name: str) -> View:
    """The view of a list: id, status, and the values without a clock."""
    listed = LISTS[name]

    def rows(history: History, policy: Policy) -> Iterator[Row]:
        for values in listed.of_case(history.case, policy):
            yield values[listed.key], values["status"], _document(values)

    return View(name, _columns("id status document"), rows)


def _worklist(history: History, policy: Policy) -> Iterator[Row]:
    for item in waiting_in(history.case, policy):
        instants = (item.due_at, item.shown_from, item.shown_until, item.overdue_from)
        yield item.kind, item.subject, item.name, item.zone, *map(_or_none, instants)


def _audit(history: History, policy: Policy) -> Iterator[Row]:
    for entry, (before, after) in zip(history.events, history.moves or (), strict=True):
        event = entry.event
        actor = event.actor
        role, name = (None, None) if actor is None else (actor.role, actor.id)
        ruling = event.ruling
        verdicts = _document({finding.clause: finding.verdict for finding in ruling}) if ruling else None
        yield (
            entry.stream,
            entry.version,
            entry.position,
            type(event).__name__,
            sortable(event.occurred_at),
            sortable(event.recorded_at),
            role,
            name,
            event.command_id,
            before,
            after,
            verdicts,
        )


def _ledger(history: History, policy: Policy) -> Iterator[Row]:
    return balances(history.case)


def _clauses(history: History, policy: Policy) -> Iterator[Row]:
    last, text = None, ""
    for one in weighed(history.case, history.events):
        if one.occurred_at is not last:
            last, text = one.occurred_at, sortable(one.occurred_at)
        yield *one[:-1], text


def _columns(names: str, integers: str = "", amounts: str = "") -> tuple[Column, ...]:
    """Columns in the order of ``names``: text, but for those that are also in ``integers`` or ``amounts``."""
    whole, money = integers.split(), amounts.split()
    return tuple(
        (name, "integer" if name in whole else "amount" if name in money else "text") for name in names.split()
    )


VIEWS: Mapping[str, View] = {
    view.name: view
    for view in (
        *map(_listed, LISTS),
        View(
            "worklist",
            _columns("kind subject name zone due_at shown_from shown_until overdue_from"),
            _worklist,
        ),
        View(
            "audit",
            _columns(
                "stream version position type occurred_at recorded_at role actor command_id before after verdicts",
                "version position",
            ),
            _audit,
            needs_moves=True,
        ),
        View(
            "ledger",
            _columns(
                "order_id payment_id method currency captured refunded pending remaining",
                amounts="captured refunded pending remaining",
            ),
            _ledger,
        ),
        View(
            "clauses",
            _columns(
                "stream version clause verdict allowed alone policy currency amount occurred_at",
                "version allowed alone",
                "amount",
            ),
            _clauses,
        ),
    )
}
"""The stored views, by name."""


def add_case(
    changes: Changes,
    views: Sequence[View],
    case_id: str,
    events: Sequence[Recorded],
    damage: Damage | None,
    policy_of: PolicyOf,
) -> None:
    """Add the rows of a case to ``changes``; of a damaged case the rows of the events before the damage.

    ``damage``: the known damage after ``events``. A view that cannot use an event is parked there and the others go on, so
    that the rows of a view never depend on the other views that are made with it.
    """
    moves = any(view.needs_moves for view in views)

    def build(these: Sequence[Recorded]) -> History:
        return _history(case_id, these, policy_of, moves)

    history, wrong = up_to_damage(events, damage, build)
    for view in views:
        rows, parked = up_to_damage(
            history.events,
            wrong,
            lambda these, view=view: view.rows(history if these is history.events else build(these)),  # type: ignore[misc]
        )
        changes.rows[view.name] += rows
        if parked is not None:
            changes.parked[view.name].append(parked)


def _history(case_id: str, events: Sequence[Recorded], policy_of: PolicyOf, moves: bool) -> History:
    if not moves:
        case = fold(case_id, events)
        return History(case, pinned(case, policy_of), events, None)
    case = Case(case_id)
    walked = [(step.before, step.after) for step in steps(case, events)]
    return History(case, pinned(case, policy_of), events, walked)


def empty_changes(views: Iterable[View], case_ids: Sequence[str]) -> Changes:
    """Changes without rows yet, of these cases in these views."""
    names = [view.name for view in views]
    return Changes(case_ids, {name: [] for name in names}, {name: [] for name in names})

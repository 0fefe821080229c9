"""Stored views: the rows that each keeps of a case, as a function of the facts of the case and of nothing else.

No clock is read and nothing is counted on from earlier rows. Whoever makes the rows again, from the same facts, makes the
same bytes. What depends on the clock is stored as instants and applied when somebody reads.
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
from returnable.projections.claims import claim_values
from returnable.projections.damage import pinned, up_to_damage
from returnable.projections.ledger import balances
from returnable.projections.orders import order_values
from returnable.projections.ports import Changes, Row
from returnable.projections.refunds import refund_values
from returnable.projections.returns import return_values
from returnable.projections.statistics import weighed
from returnable.projections.worklist import waiting_in

SCHEMA_VERSION = 2
"""Counts up whenever the columns or the meaning of a row change: rows of another version are built anew."""

Column = tuple[str, Literal["text", "integer", "amount"]]
"""An ``amount`` is minor units: a number, or decimal text where it does not fit into 64 bits."""

MOST_DIGITS = 20
"""No order comes to as much: a thousand payments of less than 10^16 minor units. A stored fact that says more was damaged."""


@dataclass(slots=True)
class History:
    """The facts of a case, what they come to, and the state of each one's stream before and after it."""

    case: Case
    policy: Policy | None
    events: Sequence[Recorded]
    moves: Sequence[tuple[str | None, str]] | None
    """``None`` where no view asks for them."""


@dataclass(frozen=True)
class View:
    """A stored view: its name, the columns of a row behind case id and place, and the rows of a case."""

    name: str
    columns: tuple[Column, ...]
    of_case: Callable[[History, Policy], Iterable[Row]]
    """The columns of each row, for a case whose order is confirmed."""
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
        """Where in a row amounts stand."""
        return tuple(nth for nth, (_, kind) in enumerate(self.columns, start=2) if kind == "amount")


def sortable(instant: datetime) -> str:
    """An instant as text that sorts as instants do: UTC, always with microseconds.

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


def _orders(history: History, policy: Policy) -> Iterator[Row]:
    case = history.case
    yield case.order.order_id, case.order.status, _document(order_values(case, policy))


def _returns(history: History, policy: Policy) -> Iterator[Row]:
    for ret in history.case.returns.values():
        yield ret.return_id, ret.status, _document(return_values(ret, policy))


def _refunds(history: History, policy: Policy) -> Iterator[Row]:
    for refund in history.case.refunds.values():
        yield refund.refund_id, refund.status, _document(refund_values(refund, policy))


def _claims(history: History, policy: Policy) -> Iterator[Row]:
    for claim in history.case.claims.values():
        yield claim.claim_id, claim.status, _document(claim_values(claim, policy))


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
        View("orders", _columns("id status document"), _orders),
        View("returns", _columns("id status document"), _returns),
        View("refunds", _columns("id status document"), _refunds),
        View("claims", _columns("id status document"), _claims),
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
    """Add the rows of a case to ``changes``; where the case cannot be told to its end, those of what comes before.

    ``damage``: what is known to be wrong behind ``events``. A view that cannot tell a fact is parked there, the others go
    on: so the rows of a view never depend on which other views are made with it.
    """
    moves = any(view.needs_moves for view in views)

    def told(these: Sequence[Recorded]) -> History:
        return _history(case_id, these, policy_of, moves)

    history, wrong = up_to_damage(events, damage, told)
    for view in views:
        rows, parked = up_to_damage(
            history.events,
            wrong,
            lambda these, view=view: view.rows(history if these is history.events else told(these)),  # type: ignore[misc]
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
    """Changes to be filled, of these cases in these views."""
    names = [view.name for view in views]
    return Changes(case_ids, {name: [] for name in names}, {name: [] for name in names})
